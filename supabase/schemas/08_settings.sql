-- scenario_evaluation_config: who is due when, set by an operator with plain updates; and what each scenario's last
-- pass over the mentors did.
--
-- One row per scenario type holds the defaults (organization_id is null). A row with an organization_id overrides
-- for that organization what it gives, and leaves the rest (null) to the default. A pass over one organization is
-- recorded in that organization's row, a pass over all of them in the default row.

create table if not exists public.scenario_evaluation_config (
  id uuid primary key default gen_random_uuid(),
  scenario_type text not null,
  organization_id uuid,
  is_enabled boolean,
  cooldown interval,
  inactive_after interval,
  returned_within interval,
  expires_within interval,
  milestones integer[],
  due_within interval,
  max_reminders integer,
  retry_failed_after interval,
  deliver_within interval,
  max_attempts integer,
  priority smallint,
  pass_evaluated bigint not null default 0,
  pass_due bigint not null default 0,
  pass_claimed bigint not null default 0,
  pass_skipped bigint not null default 0,
  pass_history bigint not null default 0,
  pass_duration interval not null default '0',
  pass_finished_at timestamptz,
  pass_number bigint not null default 0,
  pass_page_size integer,
  pass_served_at timestamptz,
  pass_page_owed_since timestamptz,

  constraint scenario_evaluation_config_one_row_per_scope
    unique nulls not distinct (scenario_type, organization_id),
  constraint scenario_evaluation_config_scenario_type_is_known
    check (scenario_type in ('inactivity', 'milestone', 'certification_expiry', 'welcome_back')),
  constraint scenario_evaluation_config_default_is_complete
    check (
      organization_id is not null
      or is_enabled is not null
      and (cooldown is not null or scenario_type = 'milestone')
      and (inactive_after is not null or scenario_type not in ('inactivity', 'welcome_back'))
      and (returned_within is not null or scenario_type <> 'welcome_back')
      and (expires_within is not null or scenario_type <> 'certification_expiry')
      and (milestones is not null or scenario_type <> 'milestone')
      and (due_within is not null or scenario_type not in ('inactivity', 'milestone', 'welcome_back'))
      and (max_reminders is not null or scenario_type <> 'inactivity')
      and retry_failed_after is not null
      and deliver_within is not null
      and max_attempts is not null
      and priority is not null
    ),
  -- A built-in scenario has the settings that its rule reads. A rule of the app's own may read any but milestones.
  constraint scenario_evaluation_config_settings_belong_to_their_scenario
    check (
      (cooldown is null or scenario_type <> 'milestone')
      and (inactive_after is null or scenario_type not in ('milestone', 'certification_expiry'))
      and (returned_within is null or scenario_type not in ('inactivity', 'milestone', 'certification_expiry'))
      and (expires_within is null or scenario_type not in ('inactivity', 'milestone', 'welcome_back'))
      and (milestones is null or scenario_type = 'milestone')
      and (due_within is null or scenario_type <> 'certification_expiry')
      and (max_reminders is null or scenario_type not in ('milestone', 'certification_expiry', 'welcome_back'))
    ),
  constraint scenario_evaluation_config_intervals_are_positive
    check (
      least(cooldown, inactive_after, returned_within, expires_within, due_within, retry_failed_after, deliver_within)
        > interval '0'
    ),
  constraint scenario_evaluation_config_intervals_are_at_most_36525_days
    check (
      greatest(
        cooldown, inactive_after, returned_within, expires_within, due_within, retry_failed_after, deliver_within
      )
        <= interval '36525 days'
    ),
  -- A month is not a length of time; days are 24 hours here, in UTC.
  constraint scenario_evaluation_config_intervals_have_no_months
    check (
      coalesce(extract(year from cooldown) + extract(month from cooldown), 0) = 0
      and coalesce(extract(year from inactive_after) + extract(month from inactive_after), 0) = 0
      and coalesce(extract(year from returned_within) + extract(month from returned_within), 0) = 0
      and coalesce(extract(year from expires_within) + extract(month from expires_within), 0) = 0
      and coalesce(extract(year from due_within) + extract(month from due_within), 0) = 0
      and coalesce(extract(year from retry_failed_after) + extract(month from retry_failed_after), 0) = 0
      and coalesce(extract(year from deliver_within) + extract(month from deliver_within), 0) = 0
    ),
  constraint scenario_evaluation_config_counts_are_in_bounds
    check (
      max_reminders between 1 and 1000
      and max_attempts between 1 and 1000
      and priority between 0 and 9
      and pass_page_size between 1 and 100000
    ),
  -- Else a gap inside the window could be one to welcome back from, and the rule would have to look at every activity.
  constraint scenario_evaluation_config_window_fits_inside_gap
    check (returned_within <= inactive_after),
  constraint scenario_evaluation_config_milestones_are_positive
    check (
      case when array_ndims(milestones) > 1 then false
      else cardinality(milestones) > 0 and array_position(milestones, null) is null and 0 < all (milestones)
      end
    )
);

comment on table public.scenario_evaluation_config is
  'Settings of each scenario: the defaults, and what an organization overrides; with the figures of the last pass.';
comment on column public.scenario_evaluation_config.organization_id is
  'The organization whose overrides these are; null for the defaults.';
comment on column public.scenario_evaluation_config.cooldown is
  'The shortest time between two notifications of this type to one user, whichever the organization.';
comment on column public.scenario_evaluation_config.inactive_after is
  'inactivity: without activity for this long a mentor is due; welcome_back: after a gap this long a mentor came back.';
comment on column public.scenario_evaluation_config.returned_within is
  'welcome_back: how long after the return a mentor is still welcomed.';
comment on column public.scenario_evaluation_config.expires_within is
  'certification_expiry: how long before a certificate lapses its holder is due.';
comment on column public.scenario_evaluation_config.milestones is
  'milestone: the activity counts that call for a notification, in any order.';
comment on column public.scenario_evaluation_config.due_within is
  'What came true longer ago is history and not told. Null: the scenario looks ahead, nothing of it is history.';
comment on column public.scenario_evaluation_config.max_reminders is
  'inactivity: how many notifications one absence calls for at most. Null in a rule of the app''s own: no limit.';
comment on column public.scenario_evaluation_config.retry_failed_after is
  'How long a failure to deliver refuses a later claim; doubled by each failure in a row, up to the cooldown.';
comment on column public.scenario_evaluation_config.deliver_within is
  'How long after its trigger a notification is still handed out.';
comment on column public.scenario_evaluation_config.max_attempts is
  'How many tries a notification has before it fails for good.';
comment on column public.scenario_evaluation_config.priority is
  'What a user is told first where several things wait: 1 before 9; 0 is urgent.';
comment on column public.scenario_evaluation_config.pass_history is
  'Of the pass: how many were left out since it came true longer ago than due_within.';
comment on column public.scenario_evaluation_config.pass_finished_at is
  'When the last complete pass ended; the pass_ figures are its own. Those of one under way: scenario_private.pass.';
comment on column public.scenario_evaluation_config.pass_number is
  'How many passes have ended.';
comment on column public.scenario_evaluation_config.pass_page_size is
  'How many mentors a page may have, as the last runs found; null: not known yet.';
comment on column public.scenario_evaluation_config.pass_served_at is
  'When the last page was evaluated, or a run began with this scenario: who has waited longest comes first next time.';
comment on column public.scenario_evaluation_config.pass_page_owed_since is
  'When a run last began with this scenario; null once a page has come of it.';

alter table public.scenario_evaluation_config enable row level security;

drop policy if exists scenario_evaluation_config_service_role_policy on public.scenario_evaluation_config;
create policy scenario_evaluation_config_service_role_policy
  on public.scenario_evaluation_config
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table public.scenario_evaluation_config from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.scenario_evaluation_config to service_role;

insert into public.scenario_evaluation_config
  (
    scenario_type, is_enabled, cooldown, inactive_after, returned_within, expires_within, milestones, due_within,
    max_reminders, retry_failed_after, deliver_within, max_attempts, priority
  )
values
  ('inactivity', true, '30 days', '30 days', null, null, null, '30 days', 3, '1 day', '7 days', 8, 5),
  (
    'milestone', true, null, null, null, null, '{10, 25, 50, 100, 250, 500, 1000}', '30 days',
    null, '1 day', '7 days', 8, 5
  ),
  ('certification_expiry', true, '14 days', null, null, '30 days', null, null, null, '1 day', '7 days', 8, 3),
  ('welcome_back', true, '30 days', '30 days', '7 days', null, null, '30 days', null, '1 day', '7 days', 8, 5)
on conflict do nothing;

-- Raises SR005 unless the scenario type has its default row.
create or replace function scenario_private.require_default_settings(p_scenario_type text)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if not exists (
    select
    from public.scenario_evaluation_config as config
    where config.scenario_type = p_scenario_type and config.organization_id is null
  ) then
    raise exception using
      errcode = 'SR005',
      message = format(
        'the default settings of %s are missing: insert its row without an organization_id'
          ' into scenario_evaluation_config, or run the migrations again',
        p_scenario_type
      );
  end if;
end
$$;
revoke all on function scenario_private.require_default_settings(text) from public, anon, authenticated;
grant execute on function scenario_private.require_default_settings(text) to service_role;

-- The default settings that a simulation would have instead (12_simulation.sql): those of one scenario type are the row
-- in scenario_repo.simulated_settings. Nothing is written for it: a changed row would keep its lock, and every
-- evaluation waiting, until the simulation ends. None where nothing is simulated.
create or replace function scenario_private.simulated_settings()
returns setof public.scenario_evaluation_config
language sql
stable
set search_path = ''
rows 10
as $$
  with simulated as materialized (
    select jsonb_populate_record(
      null::public.scenario_evaluation_config,
      nullif(current_setting('scenario_repo.simulated_settings', true), '')::jsonb
    ) as config
    where current_setting('scenario_repo.simulated_settings', true) <> ''
  )
  select (simulated.config).*
  from simulated
  union all
  select other.*
  from simulated
  join public.scenario_evaluation_config as other
    on other.scenario_type <> (simulated.config).scenario_type
    and other.organization_id is null
$$;
revoke all on function scenario_private.simulated_settings() from public, anon, authenticated;
grant execute on function scenario_private.simulated_settings() to service_role;

-- The default settings of which who is due follows, as they hold in this transaction: those of the table, or simulated.
-- What is no column of it changes nothing of who is due.
create or replace view scenario_private.standard_setting
with (security_invoker = true)
as
select
  config.scenario_type, config.is_enabled, config.cooldown, config.inactive_after, config.returned_within,
  config.expires_within, config.milestones, config.due_within, config.max_reminders
from public.scenario_evaluation_config as config
where config.organization_id is null
  and coalesce(current_setting('scenario_repo.simulated_settings', true), '') = ''
union all
select
  simulated.scenario_type, simulated.is_enabled, simulated.cooldown, simulated.inactive_after,
  simulated.returned_within, simulated.expires_within, simulated.milestones, simulated.due_within,
  simulated.max_reminders
from scenario_private.simulated_settings() as simulated
where current_setting('scenario_repo.simulated_settings', true) <> '';
comment on view scenario_private.standard_setting is
  'The default settings of which who is due follows, as they hold in this transaction: real, or simulated.';
revoke all on table scenario_private.standard_setting from public, anon, authenticated;
grant select on table scenario_private.standard_setting to service_role;

-- Every mentor with the settings that hold for her: what the rules start from.
--
-- The instants that follow from the default settings, and the clocks, are reckoned once a query, also where it asks of
-- each mentor by herself: so they are materialized. Where an organization overrides a setting, its instants are reckoned
-- for its mentors.
create or replace view scenario_private.mentor_setting
with (security_invoker = true)
as
select
  standard.scenario_type,
  mentor.user_id,
  mentor.organization_id,
  mentor.is_active,
  coalesce(override.is_enabled, standard.is_enabled) as is_enabled,
  mentor.is_active and coalesce(override.is_enabled, standard.is_enabled) as is_evaluated,
  coalesce(override.cooldown, standard.cooldown) as cooldown,
  case
    when override.inactive_after is null and own_clock.stopped is null then standard.inactive_since
    when coalesce(own_clock.stopped, standard.stopped) is null then now() - override.inactive_after
    else scenario_private.clock_back(
      now(), coalesce(override.inactive_after, standard.inactive_after), coalesce(own_clock.stopped, standard.stopped)
    )
  end as inactive_since,
  coalesce(override.inactive_after, standard.inactive_after) as inactive_after,
  -- Never a longer window than the gap: a gap inside the window would go unseen.
  case
    when override.returned_within is null and override.inactive_after is null then standard.returned_since
    else now() - least(
      coalesce(override.returned_within, standard.returned_within),
      coalesce(override.inactive_after, standard.inactive_after)
    )
  end as returned_since,
  coalesce(now() + override.expires_within, standard.expires_until) as expires_until,
  coalesce(override.milestones, standard.milestones) as milestones,
  coalesce(override.max_reminders, standard.max_reminders) as max_reminders,
  coalesce(now() - override.due_within, standard.history_before) as history_before,
  coalesce(own_clock.stopped, standard.stopped) as stopped
from scenario_source.mentors as mentor
cross join (
  with reckoned as materialized (
    select
      config.*,
      clock.stopped,
      -- Most clocks never stand still: the function is spared them.
      case
        when clock.stopped is null then now() - config.inactive_after
        else scenario_private.clock_back(now(), config.inactive_after, clock.stopped)
      end as inactive_since,
      now() - least(config.returned_within, config.inactive_after) as returned_since,
      now() + config.expires_within as expires_until,
      now() - config.due_within as history_before
    from scenario_private.standard_setting as config
    left join scenario_private.stopped_clock as clock on clock.organization_id is null
  )
  select * from reckoned
) as standard
left join public.scenario_evaluation_config as override
  on override.scenario_type = standard.scenario_type
  and override.organization_id = mentor.organization_id
  -- Simulated for one organization, what it overrides is in the simulated settings already.
  and override.organization_id is distinct from (
    select nullif(current_setting('scenario_repo.simulated_organization', true), '')::uuid
  )
left join (
  with reckoned as materialized (select * from scenario_private.stopped_clock)
  select * from reckoned
) as own_clock
  on own_clock.organization_id = mentor.organization_id;
comment on view scenario_private.mentor_setting is
  'Every mentor of every organization with the settings that hold there: the organization''s, or the default.';
revoke all on table scenario_private.mentor_setting from public, anon, authenticated;
grant select on table scenario_private.mentor_setting to service_role;

-- How a notification is delivered: the settings that hold for each scenario type, for all organizations (null), and for
-- those that override something.
create or replace view scenario_private.delivery_setting
with (security_invoker = true)
as
select
  scope.scenario_type,
  scope.organization_id,
  coalesce(scope.cooldown, standard.cooldown) as cooldown,
  coalesce(scope.retry_failed_after, standard.retry_failed_after) as retry_failed_after,
  coalesce(scope.deliver_within, standard.deliver_within) as deliver_within,
  coalesce(scope.max_attempts, standard.max_attempts) as max_attempts,
  coalesce(scope.priority, standard.priority) as priority,
  standard.due_within is null as looks_ahead
from public.scenario_evaluation_config as scope
join public.scenario_evaluation_config as standard
  on standard.scenario_type = scope.scenario_type
  and standard.organization_id is null;
comment on view scenario_private.delivery_setting is
  'How notifications are delivered: the settings of each scenario type, for all, and for organizations of their own.';
revoke all on table scenario_private.delivery_setting from public, anon, authenticated;
grant select on table scenario_private.delivery_setting to service_role;

-- The one of them that holds for a notification.
create or replace function scenario_private.delivery_setting_of(p_scenario_type text, p_organization_id uuid)
returns scenario_private.delivery_setting
language sql
stable
set search_path = ''
as $$
  select setting
  from scenario_private.delivery_setting as setting
  where setting.scenario_type = p_scenario_type
    and (setting.organization_id = p_organization_id or setting.organization_id is null)
  order by setting.organization_id nulls last
  limit 1
$$;
revoke all on function scenario_private.delivery_setting_of(text, uuid) from public, anon, authenticated;
grant execute on function scenario_private.delivery_setting_of(text, uuid) to service_role;
