-- What holds: a notification that has not failed refuses a later claim of the same, for a cooldown or, a milestone, for
-- ever. It is said here once: claim, evaluation, dry run, rules, explanations and look-ups read this view.

create or replace view scenario_private.holding
with (security_invoker = true)
as
select notification.*
from public.scenario_notifications as notification
where notification.delivery_status <> 'failed';
comment on view scenario_private.holding is
  'The notifications that refuse a later claim: pending and sent ones.';
revoke all on table scenario_private.holding from public, anon, authenticated;
grant select on table scenario_private.holding to service_role;

-- The notification that holds against a claim as of now, outside the calling statement's snapshot: volatile, so it sees
-- what was committed since the statement began, and tells the loser of a race who won.
create or replace function scenario_private.current_holder(
  p_user_id uuid, p_scenario_type text, p_cooldown interval, p_milestone_value integer
)
returns scenario_private.holding
language sql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
  select holding
  from scenario_private.holding as holding
  where holding.user_id = p_user_id
    and holding.scenario_type = p_scenario_type
    and (
      holding.milestone_value = p_milestone_value
      or (p_milestone_value is null and holding.triggered_at > now() - p_cooldown)
    )
  order by holding.triggered_at desc
  limit 1
$$;
revoke all on function scenario_private.current_holder(uuid, text, interval, integer) from public, anon, authenticated;
grant execute on function scenario_private.current_holder(uuid, text, interval, integer) to service_role;
