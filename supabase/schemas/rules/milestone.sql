-- milestone: the number of activities reached a threshold above every milestone the user has. Only the highest is
-- due: a first run over old data sends one notification, not one per threshold, and a threshold that is added below
-- what a user has already reached and been told stays silent. A failed milestone that is not held for good is not one
-- the user has.
create or replace view scenario_private.milestone_rule
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
  reached.milestone_value,
  reached.milestone_value > coalesce(recorded.milestone_value, 0) as is_due,
  case
    when reached.milestone_value is null then 'no_milestone_yet'
    when reached.milestone_value > coalesce(recorded.milestone_value, 0) then 'milestone_crossed'
    else 'no_new_milestone'
  end as finding,
  jsonb_build_object('activity_count', counted.activity_count, 'reached_at', crossed.activity_date) as facts,
  '{}'::text[] as subjects,
  crossed.activity_date as crossed_at,
  setting.history_before,
  null::timestamptz as series_began_at,
  null::integer as series_limit,
  reached.milestone_value is not null as stands
from scenario_private.mentor_setting as setting
left join lateral (
  select count(*) as activity_count
  from (
    select
    from scenario_source.activities as activity
    where activity.user_id = setting.user_id
      and activity.activity_date <= now()
    limit (select max(threshold.value) from unnest(setting.milestones) as threshold (value))
  ) as activity
) as counted on true
left join lateral (
  select max(threshold.value) as milestone_value
  from unnest(setting.milestones) as threshold (value)
  where threshold.value <= counted.activity_count
) as reached on true
left join lateral (
  select hold.milestone_value
  from scenario_private.hold as hold
  where reached.milestone_value is not null
    and hold.user_id = setting.user_id
    and hold.scenario_type = 'milestone'
    and (not hold.is_failed or hold.held_until = 'infinity')
    and hold.holds_until = 'infinity'
  order by hold.milestone_value desc
  limit 1
) as recorded on true
-- By which activity: asked only where the milestone is due.
left join lateral (
  select activity.activity_date
  from scenario_source.activities as activity
  where reached.milestone_value > coalesce(recorded.milestone_value, 0)
    and activity.user_id = setting.user_id
    and activity.activity_date <= now()
  order by activity.activity_date
  offset reached.milestone_value - 1
  limit 1
) as crossed on true
where setting.scenario_type = 'milestone';
comment on view scenario_private.milestone_rule is
  'Due: the activity count reached a threshold higher than every milestone the user has; the highest such one.';
revoke all on table scenario_private.milestone_rule from public, anon, authenticated;
grant select on table scenario_private.milestone_rule to service_role;

-- Hoped for: she goes on: a further activity.
create or replace view scenario_private.milestone_hope
with (security_invoker = true)
as
select further.notification_id, further.hoped_at
from scenario_private.further_activity as further
where further.scenario_type = 'milestone';
comment on view scenario_private.milestone_hope is
  'Hoped for: she goes on: a further activity.';
revoke all on table scenario_private.milestone_hope from public, anon, authenticated;
grant select on table scenario_private.milestone_hope to service_role;
