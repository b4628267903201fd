-- The scenario type $name of this app: who is due, and why.
--
-- Written by `scenario-repo new-scenario $name`. Fill in the rule where it says so, apply it (`supabase db push`), and
-- look at it: `scenario-repo check-rules $name`. Until then nobody is due. Can run twice.
--
-- What each column means: the comments on scenario_private.rule_contract. The built-in rules are good examples:
-- supabase/schemas/rules in scenario_repo's sources.

do $$$$
begin
  if to_regprocedure('scenario_private.add_scenario_type(text)') is null then
    raise exception 'scenario_repo is not in this database: its migration has to be applied before this one'
      using hint = 'Copy it (`scenario-repo migrations supabase/migrations`), and date this file after it.';
  end if;
end
$$$$;

-- The list of scenario types in the CHECKs grows by this one.
select scenario_private.add_scenario_type('$name');

create or replace view scenario_private.${name}_rule
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
  -- Fill in: the condition under which a mentor is due, such as `first.activity_date >= now() - interval '7 days'`.
  false as is_due,
  -- Fill in: a code for each reason.
  case
    when first.activity_date is null then 'never_active'
    else 'rule_not_written'
  end as finding,
  -- Fill in: what the verdict rests on. It becomes the notification's metadata: no names, no contact details.
  jsonb_build_object('first_activity_at', first.activity_date) as facts,
  -- Fill in where a user may be told about several things of this type, such as appointments: their ids, as
  -- `array[scenario_private.subject_of(appointment.id::text)]`. A user who has been told about one is told about
  -- another all the same. Empty: it is about the scenario as a whole.
  '{}'::text[] as subjects,
  -- Fill in: when it came true. What came true before history_before (the setting due_within) is history and not told,
  -- so that a first run floods nobody. Null where the rule looks ahead: then due_within is null below, too.
  first.activity_date as crossed_at,
  setting.history_before,
  -- Fill in where reminders of the same end: since when notifications are reminders of it, such as the last activity,
  -- and how many there may be (setting.max_reminders; 1: once). Null: as many as the cooldown allows.
  null::timestamptz as series_began_at,
  null::integer as series_limit,
  -- Fill in: whether it still holds when it is handed out, perhaps days later. Mostly the same condition as is_due.
  false as stands
from scenario_private.mentor_setting as setting
-- Fill in: what to look up for one mentor, by an index. Read mentors, activities, certificates and device tokens
-- through scenario_source, and the app's other tables directly (service_role needs `grant select` on those).
left join lateral (
  select activity.activity_date
  from scenario_source.activities as activity
  where activity.user_id = setting.user_id
    and activity.activity_date <= now()
  order by activity.activity_date
  limit 1
) as first on true
where setting.scenario_type = '$name';
comment on view scenario_private.${name}_rule is
  'Due: nobody yet; say here who is.';
revoke all on table scenario_private.${name}_rule from public, anon, authenticated;
grant select on table scenario_private.${name}_rule to service_role;

-- What it hopes for, which `scenario-repo outcomes` counts; without this view it says nothing of it. Fill in: when that
-- first came true after a notification was settled, sent or failed. The columns: scenario_private.hope_contract.
create or replace view scenario_private.${name}_hope
with (security_invoker = true)
as
select
  notification.id as notification_id,
  (
    select activity.activity_date
    from scenario_source.activities as activity
    where activity.user_id = notification.user_id
      and activity.activity_date > notification.settled_at
      and activity.activity_date <= now()
    order by activity.activity_date
    limit 1
  ) as hoped_at
from public.scenario_notifications as notification
where notification.scenario_type = '$name';
comment on view scenario_private.${name}_hope is
  'Hoped for: an activity after it; say here what.';
revoke all on table scenario_private.${name}_hope from public, anon, authenticated;
grant select on table scenario_private.${name}_hope to service_role;

-- The defaults. An organization's own row may override them.
insert into public.scenario_evaluation_config
  (
    scenario_type, is_enabled, cooldown, due_within, max_reminders, retry_failed_after, deliver_within, max_attempts,
    priority
  )
values (
  '$name',
  true,
  '30 days',  -- cooldown: the shortest time between two notifications to one user
  '30 days',  -- due_within: what came true longer ago is history; null: the rule looks ahead
  null,       -- max_reminders: for a rule with a series_limit
  '1 day',    -- retry_failed_after: how long a failure to deliver holds
  '7 days',   -- deliver_within: how long a notification is handed out
  8,          -- max_attempts: how many tries it has
  5           -- priority: 1 is told before 9; 0 is urgent
)
on conflict do nothing;
