-- welcome_back: the first activity inside the last returned_within comes at least inactive_after after the one before
-- it; once per return. A first activity ever is no return. An inactivity notice just before changes nothing: scenarios
-- are independent of each other. Days off that stop the clock are left out of the gap.
create or replace view scenario_private.welcome_back_rule
with (security_invoker = true)
as
select
  setting.scenario_type,
  setting.user_id,
  setting.organization_id,
  setting.is_active,
  setting.is_enabled,
  setting.is_evaluated,
  setting.cooldown,
  null::integer as milestone_value,
  returned.activity_date >= gap.ends_at as is_due,
  case
    when returned.activity_date is null then 'not_active_lately'
    when before.activity_date is null then 'newly_active'
    when returned.activity_date >= gap.ends_at then 'returned'
    else 'never_away'
  end as finding,
  jsonb_build_object('returned_at', returned.activity_date, 'last_activity_before', before.activity_date) as facts,
  '{}'::text[] as subjects,
  returned.activity_date as crossed_at,
  setting.history_before,
  gap.ends_at as series_began_at,
  1 as series_limit,
  -- The return is the latest, and she is still here: asked of what was claimed, also after returned_within.
  exists (
    select
    from scenario_source.activities as activity
    where activity.user_id = setting.user_id
      and activity.activity_date > setting.inactive_since
      and activity.activity_date <= now()
  ) as stands
from scenario_private.mentor_setting as setting
left join lateral (
  select activity.activity_date
  from scenario_source.activities as activity
  where activity.user_id = setting.user_id
    and activity.activity_date >= setting.returned_since
    and activity.activity_date <= now()
  order by activity.activity_date
  limit 1
) as returned on true
left join lateral (
  select activity.activity_date
  from scenario_source.activities as activity
  where returned.activity_date is not null
    and activity.user_id = setting.user_id
    and activity.activity_date < setting.returned_since
  order by activity.activity_date desc
  limit 1
) as before on true
cross join lateral (
  select case
    when setting.stopped is null then before.activity_date + setting.inactive_after
    else scenario_private.clock_forward(before.activity_date, setting.inactive_after, setting.stopped)
  end as ends_at
) as gap
where setting.scenario_type = 'welcome_back';
comment on view scenario_private.welcome_back_rule is
  'Due: the first activity within returned_within follows a gap of at least inactive_after.';
revoke all on table scenario_private.welcome_back_rule from public, anon, authenticated;
grant select on table scenario_private.welcome_back_rule to service_role;

-- Hoped for: she stays: another activity.
create or replace view scenario_private.welcome_back_hope
with (security_invoker = true)
as
select further.notification_id, further.hoped_at
from scenario_private.further_activity as further
where further.scenario_type = 'welcome_back';
comment on view scenario_private.welcome_back_hope is
  'Hoped for: she stays: another activity.';
revoke all on table scenario_private.welcome_back_hope from public, anon, authenticated;
grant select on table scenario_private.welcome_back_hope to service_role;
