-- inactivity: no activity for inactive_after, and at most max_reminders of it until the next activity. A mentor who was
-- never active has not gone quiet: there is nothing to measure from (peer_mentors has no date of joining), and somebody
-- who joined today must not be told so. Days off that stop the clock are left out of the length.
create or replace view scenario_private.inactivity_rule
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
  last.activity_date <= setting.inactive_since as is_due,
  case
    when last.activity_date is null then 'never_active'
    when last.activity_date <= setting.inactive_since then 'inactive'
    else 'recently_active'
  end as finding,
  jsonb_build_object('last_activity_at', last.activity_date) as facts,
  '{}'::text[] as subjects,
  case
    when setting.stopped is null then last.activity_date + setting.inactive_after
    else scenario_private.clock_forward(last.activity_date, setting.inactive_after, setting.stopped)
  end as crossed_at,
  setting.history_before,
  last.activity_date as series_began_at,
  setting.max_reminders as series_limit,
  last.activity_date <= setting.inactive_since as stands
from scenario_private.mentor_setting as setting
left join lateral (
  select activity.activity_date
  from scenario_source.activities as activity
  where activity.user_id = setting.user_id
    and activity.activity_date <= now()
  order by activity.activity_date desc
  limit 1
) as last on true
where setting.scenario_type = 'inactivity';
comment on view scenario_private.inactivity_rule is
  'Due: no activity for inactive_after, and at least one before that.';
revoke all on table scenario_private.inactivity_rule from public, anon, authenticated;
grant select on table scenario_private.inactivity_rule to service_role;

-- Hoped for: she is active again.
create or replace view scenario_private.inactivity_hope
with (security_invoker = true)
as
select further.notification_id, further.hoped_at
from scenario_private.further_activity as further
where further.scenario_type = 'inactivity';
comment on view scenario_private.inactivity_hope is
  'Hoped for: she is active again.';
revoke all on table scenario_private.inactivity_hope from public, anon, authenticated;
grant select on table scenario_private.inactivity_hope to service_role;
