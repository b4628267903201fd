-- What waits, one by one.

-- Lists pending notifications in the order in which they come due, after the place (p_after_at, p_after_id): the
-- next_attempt_at and the id of the last one of the page before.
--   out  {"pending": […]}, each {"id", "user_id", "organization_id", "scenario_type", "triggered_at", "deliver_until",
--        "failure_code": of the last try, "next_attempt_at", "attempt_count", "leased_until": null unless somebody has it
--        in hand, "unsettled_leases"}
-- Of one organization, each scenario type is a range of handover_due_idx; of all, the pending ones are read once.
-- Raises SR001 for a limit outside 1 to 1,000, or half a place.
create or replace function public.scenario_list_pending(
  p_organization_id uuid default null,
  p_scenario_type text default null,
  p_after_at timestamptz default null,
  p_after_id uuid default null,
  p_limit integer default 100,
  p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
declare
  after_at constant timestamptz := coalesce(p_after_at, '-infinity');
  after_id constant uuid := coalesce(p_after_id, '00000000-0000-0000-0000-000000000000');
  ids uuid[];
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 1000);
  if p_after_at is not null then
    perform scenario_private.require_given('p_after_id', p_after_id);
  end if;
  if p_after_id is not null then
    perform scenario_private.require_given('p_after_at', p_after_at);
  end if;
  if p_organization_id is null then
    ids := array(
      select handover.notification_id
      from scenario_private.handover as handover
      where (handover.next_attempt_at, handover.notification_id) > (after_at, after_id)
        and (p_scenario_type is null or handover.scenario_type = p_scenario_type)
      order by handover.next_attempt_at, handover.notification_id
      limit p_limit
    );
  else
    ids := array(
      select handover.notification_id
      from unnest(
        case when p_scenario_type is null then scenario_private.scenario_types() else array[p_scenario_type] end
      ) as scenario (type)
      cross join lateral (
        select row.notification_id, row.next_attempt_at
        from scenario_private.handover as row
        where row.organization_id = p_organization_id
          and row.scenario_type = scenario.type
          and (row.next_attempt_at, row.notification_id) > (after_at, after_id)
        order by row.next_attempt_at, row.notification_id
        limit p_limit
      ) as handover
      order by handover.next_attempt_at, handover.notification_id
      limit p_limit
    );
  end if;
  return (
    select json_build_object('pending', coalesce(
      json_agg(
        json_build_object(
          'id', notification.id,
          'user_id', notification.user_id,
          'organization_id', notification.organization_id,
          'scenario_type', notification.scenario_type,
          'triggered_at', notification.triggered_at,
          'deliver_until', notification.deliver_until,
          'failure_code', notification.failure_code,
          'next_attempt_at', handover.next_attempt_at,
          'attempt_count', handover.attempt_count,
          'leased_until', case when handover.leased_until > now() then handover.leased_until end,
          'unsettled_leases', handover.unsettled_leases
        )
        order by handover.next_attempt_at, handover.notification_id
      ),
      '[]'
    ))
    from unnest(ids) as page (id)
    cross join lateral (
      select * from scenario_private.handover as row where row.notification_id = page.id offset 0
    ) as handover
    cross join lateral (
      select * from public.scenario_notifications as row where row.id = page.id offset 0
    ) as notification
  );
end
$$;
revoke all on function public.scenario_list_pending(uuid, text, timestamptz, uuid, integer, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_list_pending(uuid, text, timestamptz, uuid, integer, integer)
  to service_role;
