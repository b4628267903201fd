-- scenario_notifications: what was decided for whom, and what became of it. One row is one notification.
--
-- The table is a history: what a row says of the past (whose, which, when) never changes; only its delivery moves
-- on, from pending to sent or failed, and both are final. Two unique constraints make double notification impossible,
-- whoever writes:
--   * one_claim_per_window: a claim's cooldown_window_start is the triggered_at of that user's previous claim of
--     the same scenario type ('epoch' for the first), so every claim has one successor at the most;
--   * one_notification_per_milestone: a milestone that has not failed, or failed and is held for good, exists once per
--     user, for ever.
-- A row without cooldown_window_start was recorded unconditionally, by a plain insert.
--
-- What a row holds, and until when, is said by scenario_private.hold (09_holding.sql). Where a pending row is on its
-- way stands in scenario_private.handover (06_handover.sql).
--
-- The list of scenario types in the CHECK is the one that functions read, by scenario_private.scenario_types.

-- Whether texts can be a notification's subjects: one to fifty, each of 1 to 100 characters, without personal data.
create or replace function scenario_private.are_storable_subjects(p_subjects text[])
returns boolean
language sql
immutable
strict
set search_path = ''
as $$
  select
    array_ndims(p_subjects) = 1
    and cardinality(p_subjects) <= 50
    and array_position(p_subjects, null) is null
    and not exists (
      select
      from unnest(p_subjects) as element (subject)
      where char_length(element.subject) not between 1 and 100
        or scenario_private.holds_personal_data(jsonb_build_object('subject', element.subject))
    )
$$;
revoke all on function scenario_private.are_storable_subjects(text[]) from public, anon, authenticated;
grant execute on function scenario_private.are_storable_subjects(text[]) to service_role;

-- What an id is called among a notification's subjects and facts: the id itself, or its md5 in UUID form where it is
-- longer than 64 characters or looks like personal data.
create or replace function scenario_private.subject_of(p_id text)
returns text
language sql
immutable
strict
set search_path = ''
as $$
  select case
    -- An ordinary UUID is never personal data.
    when p_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then p_id
    when char_length(p_id) between 1 and 64
      and not scenario_private.holds_personal_data(jsonb_build_object('subject', p_id))
      then p_id
    else md5(p_id)::uuid::text
  end
$$;
revoke all on function scenario_private.subject_of(text) from public, anon, authenticated;
grant execute on function scenario_private.subject_of(text) to service_role;

create table if not exists public.scenario_notifications (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  organization_id uuid not null,
  scenario_type text not null,
  triggered_at timestamptz not null default now(),
  delivery_status text not null default 'pending',
  milestone_value integer,
  metadata jsonb,
  cooldown_window_start timestamptz,
  failure_code text,
  origin text not null default 'insert',
  cooldown interval,
  subjects text[] not null default '{}',
  deliver_until timestamptz not null,
  settled_at timestamptz,
  held_until timestamptz,
  unsettled_at timestamptz,
  -- What sending does not change, so that sending touches no index (a HOT update).
  is_failed boolean not null generated always as (delivery_status = 'failed') stored,
  failed_code text generated always as (case when delivery_status = 'failed' then failure_code end) stored,
  outlasts_at timestamptz generated always as (
    case
      when delivery_status = 'failed' then coalesce(held_until, unsettled_at)
      when not isfinite(triggered_at) or not isfinite(deliver_until) then null
      when delivery_status = 'pending' and deliver_until - triggered_at > interval '7 days' then deliver_until
      when delivery_status = 'sent' and settled_at - triggered_at > interval '8 days' then settled_at
    end
  ) stored,

  constraint scenario_notifications_scenario_type_is_known
    check (scenario_type in ('inactivity', 'milestone', 'certification_expiry', 'welcome_back')),
  constraint scenario_notifications_delivery_status_is_known
    check (delivery_status in ('pending', 'sent', 'failed')),
  constraint scenario_notifications_milestone_value_only_for_milestones
    check ((scenario_type = 'milestone') = (milestone_value is not null)),
  constraint scenario_notifications_milestone_value_is_positive
    check (milestone_value > 0),
  constraint scenario_notifications_metadata_is_an_object
    check (jsonb_typeof(metadata) = 'object'),
  constraint scenario_notifications_metadata_is_at_most_8_kib
    check (octet_length(metadata::text) <= 8192),
  -- The years 1 to 9999: what a client's datetime can hold; no infinity either.
  constraint scenario_notifications_triggered_at_fits_a_datetime
    check (triggered_at >= '0001-01-01 00:00:00+00' and triggered_at < '10000-01-01 00:00:00+00'),
  constraint scenario_notifications_window_starts_before_trigger
    check (cooldown_window_start < triggered_at),
  constraint scenario_notifications_milestones_have_no_window
    check (scenario_type <> 'milestone' or cooldown_window_start is null),
  constraint scenario_notifications_triggered_at_is_at_most_a_day_ahead
    check (triggered_at <= now() + interval '1 day'),
  constraint scenario_notifications_failure_code_is_a_code
    check (failure_code is null or (failure_code ~ '^[a-z][a-z0-9_]{0,62}$' and delivery_status <> 'sent')),
  constraint scenario_notifications_origin_is_known
    check (origin in ('evaluation', 'claim', 'insert')),
  constraint scenario_notifications_cooldown_is_positive
    check (cooldown > interval '0'),
  constraint scenario_notifications_milestones_have_no_cooldown
    check (scenario_type <> 'milestone' or cooldown is null),
  constraint scenario_notifications_subjects_are_storable
    check (
      subjects = '{}'
      -- A few ordinary ids and words are spared the function, by the same expression as ordinary metadata.
      or (
        subjects::text !~ '[^ -$&-?A-\[\]-~]|\+..[^:]|[-.0-9 /()]{8}[^-+0-9A-Za-z]'
        and octet_length(subjects::text) <= 100
        and array_ndims(subjects) = 1
        and array_position(subjects, null) is null
        and array_position(subjects, '') is null
      )
      or scenario_private.are_storable_subjects(subjects)
    ),
  constraint scenario_notifications_deliver_until_fits_a_datetime
    check (deliver_until >= '0001-01-01 00:00:00+00' and deliver_until < '10000-01-01 00:00:00+00'),
  constraint scenario_notifications_settled_at_unless_pending
    check ((delivery_status = 'pending') = (settled_at is null)),
  constraint scenario_notifications_only_failed_ones_are_held_until
    check (delivery_status = 'failed' or (held_until is null and unsettled_at is null)),
  -- The expression spares an ordinary small object the function: see scenario_private.holds_personal_data.
  constraint scenario_notifications_metadata_holds_no_personal_data
    check (
      metadata::text !~ '[^ -$&-?A-\[\]-~]|\+..[^:]|[-.0-9 /()]{8}[^-+0-9A-Za-z]'
      or not scenario_private.holds_personal_data(metadata)
    ),
  constraint scenario_notifications_one_claim_per_window
    unique (user_id, scenario_type, cooldown_window_start)
)
-- Rows that were claimed together are settled together: each needs a free place in its page, to be settled in place.
-- Reports read an index alone, which needs the visibility map: vacuum after 5 % of new rows instead of 20 %.
with (fillfactor = 50, autovacuum_vacuum_insert_scale_factor = 0.05);

comment on table public.scenario_notifications is
  'One row is one notification of a scenario to a user: pending, then sent or failed. Holds no personal data.';
comment on column public.scenario_notifications.triggered_at is
  'When the scenario was triggered; the cooldown is measured from here.';
comment on column public.scenario_notifications.milestone_value is
  'The activity count that was reached, for scenario_type milestone only.';
comment on column public.scenario_notifications.cooldown_window_start is
  'The triggered_at of the claim before this one, epoch for the first; null for rows recorded by a plain insert.';
comment on column public.scenario_notifications.failure_code is
  'Why it failed, or why the last attempt did: a short code, never the provider''s text, which may hold personal data.';
comment on column public.scenario_notifications.origin is
  'Who made the row: an evaluation, a claim of the app''s, or a plain insert.';
comment on column public.scenario_notifications.cooldown is
  'The cooldown it was claimed with; null for milestones and plain inserts.';
comment on column public.scenario_notifications.subjects is
  'The ids of everything it names, a certificate''s for example; empty: it is about its scenario as a whole.';
comment on column public.scenario_notifications.deliver_until is
  'After this it is no longer handed out.';
comment on column public.scenario_notifications.settled_at is
  'When it became sent or failed; null while pending. Never later than the lease it was sent under.';
comment on column public.scenario_notifications.held_until is
  'For a failed one: until when it refuses a later claim (infinity: for good); null: it does not.';
comment on column public.scenario_notifications.unsettled_at is
  'For one that was refused after a lease which nobody settled: when that lease ended. She may have been told by then.';
comment on column public.scenario_notifications.failed_code is
  'The failure_code of one that failed: unlike that, it does not change with every try, and so may be in an index.';
comment on column public.scenario_notifications.outlasts_at is
  'Where it holds though it failed, or more than a week after its trigger: the time by which it is found.';

create index if not exists scenario_notifications_user_id_scenario_type_triggered_at_idx
  on public.scenario_notifications (user_id, scenario_type, triggered_at desc);
comment on index public.scenario_notifications_user_id_scenario_type_triggered_at_idx is
  'Serves: a claim''s look at the user''s newest notification, and a user''s history.';

create index if not exists scenario_notifications_organization_id_scenario_type_idx
  on public.scenario_notifications (organization_id, scenario_type, triggered_at desc);
comment on index public.scenario_notifications_organization_id_scenario_type_idx is
  'Serves: the report of an organization over a period, from the index alone, and what came of what it was told.';

create index if not exists scenario_notifications_not_failed_idx
  on public.scenario_notifications (user_id, scenario_type, triggered_at desc)
  where not is_failed;
comment on index public.scenario_notifications_not_failed_idx is
  'Serves: what holds against a claim, the count of a series, and when one was last sent, past any number of failures.';

create index if not exists scenario_notifications_outlasting_idx
  on public.scenario_notifications (user_id, scenario_type, outlasts_at desc)
  where outlasts_at is not null;
comment on index public.scenario_notifications_outlasting_idx is
  'Serves: the failures that hold against a claim, and what holds long after its trigger. Little is in it.';

create index if not exists scenario_notifications_failed_idx
  on public.scenario_notifications (triggered_at desc, id desc)
  where is_failed;
comment on index public.scenario_notifications_failed_idx is
  'Serves: the failures of all organizations, newest first, and those of the last days by code.';

create index if not exists scenario_notifications_failed_by_organization_idx
  on public.scenario_notifications (organization_id, triggered_at desc, id desc)
  include (scenario_type, failed_code)
  where is_failed;
comment on index public.scenario_notifications_failed_by_organization_idx is
  'Serves: the failures of an organization, newest first, and its report, which reads nothing else of them.';

create unique index if not exists scenario_notifications_one_notification_per_milestone
  on public.scenario_notifications (user_id, milestone_value)
  where scenario_type = 'milestone' and (not is_failed or held_until = 'infinity');
comment on index public.scenario_notifications_one_notification_per_milestone is
  'Keeps a milestone once per user; serves: get_milestone_record and the claim of a milestone.';

alter table public.scenario_notifications enable row level security;

drop policy if exists scenario_notifications_select_own_policy on public.scenario_notifications;
create policy scenario_notifications_select_own_policy
  on public.scenario_notifications
  for select
  to authenticated
  using (user_id = (select auth.uid()));

-- service_role bypasses row level security on Supabase; the policy says the same where a platform does not.
drop policy if exists scenario_notifications_service_role_policy on public.scenario_notifications;
create policy scenario_notifications_service_role_policy
  on public.scenario_notifications
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table public.scenario_notifications from public, anon, authenticated, service_role;
grant select on table public.scenario_notifications to authenticated;
grant select, insert, update, delete on table public.scenario_notifications to service_role;
