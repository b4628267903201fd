-- Contingency: the inactivity aggregation alone, for a role that may not read the tables.
--
-- The engine runs as service_role and needs no such thing: evaluation is security invoker throughout. Where a project
-- restricts its service role (no select on activities or peer_mentors), this one function still answers who has gone
-- quiet. It is security definer for that reason alone, and its scope is as small as the question: one organization,
-- which must be named; active mentors only; a user_id and a time, nothing else; a bounded page. It writes nothing and
-- claims nothing: hand the answer to scenario_claim_notifications.
--
-- search_path is empty and every name qualified, so that no caller's objects get in between; no text is executed.

-- The active mentors of an organization without activity for p_inactive_after, by user_id; p_limit after p_after.
--   out  {"mentors": [{"user_id", "last_activity_at"}]}; fewer than p_limit is the end, else go on after the last
--        user_id
-- The meaning is the inactivity rule's: a user's activities count whichever organization they belong to, future ones do
-- not, the boundary is inclusive, days off that stop the clock are left out, and a mentor who was never active has not
-- gone quiet.
-- Raises SR001 without an organization, for a period that is not positive or longer than 36,525 days, or a limit
-- outside 1 to 10,000.
create or replace function public.scenario_find_inactive_mentors(
  p_organization_id uuid,
  p_inactive_after interval,
  p_limit integer default 1000,
  p_after uuid default null,
  p_needs_schema integer default null
)
returns json
language plpgsql
stable
security definer
set search_path = ''
set jit = off
set timezone = 'UTC'
as $$
declare
  stopped tstzmultirange;
  quiet_since timestamptz;
begin
  perform scenario_private.require_schema(p_needs_schema);
  if p_organization_id is null then
    raise exception using errcode = 'SR001', message = 'expected an organization';
  end if;
  if p_inactive_after is null
    or p_inactive_after <= interval '0'
    or p_inactive_after > interval '36525 days'
  then
    raise exception using errcode = 'SR001', message = 'expected a period of more than 0 and at most 36525 days';
  end if;
  perform scenario_private.require_between('p_limit', p_limit, 1, 10000);
  select clock.stopped into stopped
  from scenario_private.stopped_clock as clock
  where clock.organization_id = p_organization_id or clock.organization_id is null
  order by clock.organization_id nulls last
  limit 1;
  quiet_since := case
    when stopped is null then now() - p_inactive_after
    else scenario_private.clock_back(now(), p_inactive_after, stopped)
  end;

  return (
    select json_build_object('mentors', coalesce(
      json_agg(
        json_build_object('user_id', quiet.user_id, 'last_activity_at', quiet.activity_date)
        order by quiet.user_id
      ),
      '[]'
    ))
    from (
      select mentor.user_id, last.activity_date
      from scenario_source.mentors as mentor
      cross join lateral (
        select activity.activity_date
        from scenario_source.activities as activity
        where activity.user_id = mentor.user_id
          and activity.activity_date <= now()
        order by activity.activity_date desc
        limit 1
      ) as last
      where mentor.organization_id = p_organization_id
        and mentor.is_active
        -- One index range, with p_after and without.
        and mentor.user_id >= coalesce(p_after, '00000000-0000-0000-0000-000000000000')
        and mentor.user_id is distinct from p_after
        and last.activity_date <= quiet_since
      order by mentor.user_id
      limit p_limit
    ) as quiet
  );
end
$$;
comment on function public.scenario_find_inactive_mentors(uuid, interval, integer, uuid, integer) is
  'One organization''s active mentors without activity for a period: for a service role that may not read the tables.';
revoke all on function public.scenario_find_inactive_mentors(uuid, interval, integer, uuid, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_find_inactive_mentors(uuid, interval, integer, uuid, integer) to service_role;
