-- Counts an organization's notifications from p_since (inclusive) to p_until (exclusive), per day in UTC, scenario type
-- delivery status and, for failed ones, the code.
--   out  {"lines": [{"day", "scenario_type", "delivery_status", "failure_code", "notifications"}]}, only what is not
--        zero; failure_code is null but for failed ones
-- Raises SR001 if an argument is missing.
create or replace function public.scenario_get_organization_report(
  p_organization_id uuid, p_since timestamptz, p_until timestamptz, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_organization_id', p_organization_id);
  perform scenario_private.require_given('p_since', p_since);
  perform scenario_private.require_given('p_until', p_until);
  return (
    select json_build_object('lines', coalesce(
      json_agg(
        json_build_object(
          'day', tally.day,
          'scenario_type', tally.scenario_type,
          'delivery_status', tally.delivery_status,
          'failure_code', tally.failure_code,
          'notifications', tally.notifications
        )
        order by tally.day, tally.scenario_type, tally.delivery_status, tally.failure_code
      ),
      '[]'
    ))
    from (
      select
        notification.triggered_at::date as day,
        notification.scenario_type,
        notification.delivery_status,
        case when notification.is_failed then notification.failure_code end as failure_code,
        count(*) as notifications
      from unnest(scenario_private.scenario_types()) as scenario (type)
      cross join lateral (
        select
          counted.triggered_at, counted.scenario_type, counted.delivery_status, counted.is_failed,
          counted.failure_code
        from public.scenario_notifications as counted
        where counted.organization_id = p_organization_id
          and counted.scenario_type = scenario.type
          and counted.triggered_at >= p_since
          and counted.triggered_at < p_until
      ) as notification
      group by 1, 2, 3, 4
    ) as tally
  );
end
$$;
revoke all on function public.scenario_get_organization_report(uuid, timestamptz, timestamptz, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_get_organization_report(uuid, timestamptz, timestamptz, integer)
  to service_role;
