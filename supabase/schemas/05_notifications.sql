-- scenario_notifications: what was decided for whom, and what became of it. One row is one notification.
--
-- The table is a history: what a row says of the past (whose, which, when) never changes; only its delivery moves
-- on, from pending to sent or failed, and failed is final. Two unique constraints make double notification
-- impossible, whoever writes:
--   * one_claim_per_window: a claim's cooldown_window_start is the triggered_at of that user's previous claim of
--     the same scenario type ('epoch' for the first), so every claim has one successor at the most;
--   * one_notification_per_milestone: a milestone that has not failed exists once per user, for ever.
-- A row without cooldown_window_start was recorded unconditionally, by a plain insert.
--
-- The list of scenario types in the CHECK is the one that functions read, by scenario_private.scenario_types.

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
  attempt_count integer not null default 0,
  next_attempt_at timestamptz not null default now(),
  failure_code text,

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
  constraint scenario_notifications_attempt_count_is_not_negative
    check (attempt_count >= 0),
  constraint scenario_notifications_failure_code_is_a_code
    check (failure_code is null or (failure_code ~ '^[a-z][a-z0-9_]{0,62}$' and delivery_status <> 'sent')),
  -- The expression spares an ordinary small object the function: see scenario_private.holds_personal_data.
  constraint scenario_notifications_metadata_holds_no_personal_data
    check (
      metadata::text !~ '[^ -$&-?A-\[\]-~]|\+..[^:]|[-.0-9 /()]{8}[^-+0-9A-Za-z]'
      or not scenario_private.holds_personal_data(metadata)
    ),
  constraint scenario_notifications_one_claim_per_window
    unique (user_id, scenario_type, cooldown_window_start)
)
-- Index-only look-ups need the visibility map: vacuum after 5 % of new rows instead of 20 %.
with (autovacuum_vacuum_insert_scale_factor = 0.05);

comment on table public.scenario_notifications is
  'One row is one notification of a scenario to a user: pending, then sent or failed. Holds no personal data.';
comment on column public.scenario_notifications.triggered_at is
  'When the scenario was triggered; the cooldown is measured from here.';
comment on column public.scenario_notifications.milestone_value is
  'The activity count that was reached, for scenario_type milestone only.';
comment on column public.scenario_notifications.cooldown_window_start is
  'The triggered_at of the claim before this one, epoch for the first; null for rows recorded by a plain insert.';
comment on column public.scenario_notifications.attempt_count is
  'How often the row was leased for delivery; also the lease''s token: it changes with every lease.';
comment on column public.scenario_notifications.next_attempt_at is
  'When a pending row may be leased; a lease pushes it ahead.';
comment on column public.scenario_notifications.failure_code is
  'Why the last attempt failed: a short code, never text of the provider''s, which may hold personal data.';

create index if not exists scenario_notifications_user_id_scenario_type_triggered_at_idx
  on public.scenario_notifications (user_id, scenario_type, triggered_at desc);
comment on index public.scenario_notifications_user_id_scenario_type_triggered_at_idx is
  'Serves: the rolling cooldown check of a claim (the newest row that has not failed), and a user''s history.';

create index if not exists scenario_notifications_organization_id_scenario_type_idx
  on public.scenario_notifications (organization_id, scenario_type, triggered_at desc);
comment on index public.scenario_notifications_organization_id_scenario_type_idx is
  'Serves: the report of an organization over a period.';

create index if not exists scenario_notifications_sent_idx
  on public.scenario_notifications (user_id, scenario_type, triggered_at desc)
  where delivery_status = 'sent';
comment on index public.scenario_notifications_sent_idx is
  'Serves: get_last_sent_at and has_been_sent_since_threshold, index-only.';

create unique index if not exists scenario_notifications_one_notification_per_milestone
  on public.scenario_notifications (user_id, milestone_value)
  where scenario_type = 'milestone' and delivery_status <> 'failed';
comment on index public.scenario_notifications_one_notification_per_milestone is
  'Keeps a milestone once per user; serves: get_milestone_record and the claim of a milestone.';

create index if not exists scenario_notifications_pending_idx
  on public.scenario_notifications (next_attempt_at)
  where delivery_status = 'pending';
comment on index public.scenario_notifications_pending_idx is
  'Serves: the lease (the pending rows that are due, oldest first).';

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
