-- An organization's figures, day by day.
--
-- They are counted from three indexes, and hardly a row is read: how many there are on a day, from the organization's
-- index alone; which of them failed, and why, from the failed ones; which of them are pending, from the hand-over. The
-- rest was sent. One statement is one snapshot, so the parts agree whoever settles meanwhile, and no sum is kept that
-- could drift.
--
-- Whether at least 5 persons stand behind a number, the first few of its rows mostly tell. Who is behind a number that
-- is not shown, is known whole: its days are put together.

-- The days of a zone that a period touches: each with its part of the period. The days before p_first and after p_last
-- are left out.
create or replace function scenario_private.days_between(
  p_since timestamptz, p_until timestamptz, p_first timestamptz, p_last timestamptz, p_time_zone text
)
returns table (day date, starts_at timestamptz, ends_at timestamptz)
language sql
stable
set search_path = ''
set timezone = 'UTC'
rows 30
as $$
  select begun.day, greatest(begun.starts_at, p_since), least(begun.ends_at, p_until)
  from (
    select
      whole.day,
      scenario_private.local_instant(whole.day, p_time_zone, false) as starts_at,
      scenario_private.local_instant(whole.day + 1, p_time_zone, false) as ends_at
    from (
      select (p_first at time zone p_time_zone)::date + place.number as day
      from generate_series(
        0, (p_last at time zone p_time_zone)::date - (p_first at time zone p_time_zone)::date
      ) as place (number)
    ) as whole
  ) as begun
$$;
revoke all on function scenario_private.days_between(timestamptz, timestamptz, timestamptz, timestamptz, text)
  from public, anon, authenticated;
grant execute on function scenario_private.days_between(timestamptz, timestamptz, timestamptz, timestamptz, text)
  to service_role;

-- Counts an organization's notifications from p_since (inclusive) to p_until (exclusive), per day of p_time_zone,
-- scenario type, delivery status and, for failed ones, the code.
--   out  {"time_zone", "lines": [{"day", "scenario_type", "delivery_status", "failure_code", "notifications"}]}, only
--        what is not zero; failure_code is null but for failed ones
-- A day on which fewer than 5 persons stand behind a number has no line of it. All such days of a type, status and code
-- make one line whose day is null; its notifications are null where they too are of fewer than 5 persons. Nothing is
-- told that a hidden number could be reckoned from: there is no sum over days, types or codes. Whoever asks for periods
-- that overlap can still reckon: give figures of fixed periods away, not this function.
-- Raises SR001 if an argument is missing, or if PostgreSQL knows no such time zone.
create or replace function public.scenario_get_organization_report(
  p_organization_id uuid,
  p_since timestamptz,
  p_until timestamptz,
  p_time_zone text default 'UTC',
  p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set timezone = 'UTC'
-- Each part is found by an index; compiling it takes longer than running it.
set jit = off
set enable_seqscan = off
as $$
declare
  first_at timestamptz;
  last_at timestamptz;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_organization_id', p_organization_id);
  perform scenario_private.require_given('p_since', p_since);
  perform scenario_private.require_given('p_until', p_until);
  perform scenario_private.require_time_zone('p_time_zone', p_time_zone);
  -- A period may have a hundred years of which a month has something.
  select min(found.first_at), max(found.last_at) into first_at, last_at
  from unnest(scenario_private.scenario_types()) as scenario (type)
  cross join lateral (
    select min(counted.triggered_at) as first_at, max(counted.triggered_at) as last_at
    from public.scenario_notifications as counted
    where counted.organization_id = p_organization_id
      and counted.scenario_type = scenario.type
      and counted.triggered_at >= p_since
      and counted.triggered_at < p_until
  ) as found;
  return (
    with part as materialized (
      select between_them.*
      from scenario_private.days_between(p_since, p_until, first_at, last_at, p_time_zone) as between_them
      where first_at is not null
    ),
    per_day as materialized (
      select part.day, part.starts_at, part.ends_at, scenario.type as scenario_type, counted.notifications
      from part
      cross join unnest(scenario_private.scenario_types()) as scenario (type)
      cross join lateral (
        select count(*) as notifications
        from public.scenario_notifications as notification
        where notification.organization_id = p_organization_id
          and notification.scenario_type = scenario.type
          and notification.triggered_at >= part.starts_at
          and notification.triggered_at < part.ends_at
        offset 0
      ) as counted
      where counted.notifications > 0
    ),
    other as materialized (
      select
        part.day, failed.scenario_type, 'failed' as delivery_status, failed.failure_code, failed.notifications,
        failed.ids, null::uuid[] as user_ids
      from part
      cross join lateral (
        select
          notification.scenario_type, notification.failed_code as failure_code, count(*) as notifications,
          array_agg(notification.id) as ids
        from public.scenario_notifications as notification
        where notification.organization_id = p_organization_id
          and notification.is_failed
          and notification.triggered_at >= part.starts_at
          and notification.triggered_at < part.ends_at
        group by notification.scenario_type, notification.failed_code
        offset 0
      ) as failed
      union all
      select
        (handover.triggered_at at time zone p_time_zone)::date,
        handover.scenario_type,
        'pending',
        null,
        count(*),
        null,
        array_agg(handover.user_id)
      from scenario_private.handover as handover
      where handover.organization_id = p_organization_id
        and handover.triggered_at >= p_since
        and handover.triggered_at < p_until
      group by 1, 2
    ),
    tally as materialized (
      -- Five of the persons behind each number, or all where there are fewer.
      select
        other.day, other.scenario_type, other.delivery_status, other.failure_code, other.notifications,
        case
          when cardinality(first_few.persons) >= 5 or other.notifications <= 8 then first_few.persons
          else (
            select array_agg(distinct behind.user_id)
            from (
              select notification.user_id
              from public.scenario_notifications as notification
              where notification.id = any (other.ids)
              union all
              select unnest(other.user_ids)
            ) as behind (user_id)
          )
        end as persons
      from other
      cross join lateral (
        select array_agg(distinct behind.user_id) as persons
        from (
          select notification.user_id
          from public.scenario_notifications as notification
          where notification.id = any (other.ids[:8])
          union all
          select unnest(other.user_ids[:8])
        ) as behind (user_id)
      ) as first_few
      union all
      select
        sent.day, sent.scenario_type, 'sent', null, sent.notifications,
        case
          when cardinality(first_few.persons) >= 5 or sent.notifications <= 8 then first_few.persons
          else (
            select array_agg(distinct notification.user_id)
            from public.scenario_notifications as notification
            where notification.organization_id = p_organization_id
              and notification.scenario_type = sent.scenario_type
              and notification.triggered_at >= sent.starts_at
              and notification.triggered_at < sent.ends_at
              and notification.delivery_status = 'sent'
          )
        end
      from (
        select
          per_day.day, per_day.starts_at, per_day.ends_at, per_day.scenario_type,
          (per_day.notifications - coalesce(sum(other.notifications), 0))::bigint as notifications
        from per_day
        left join other on other.day = per_day.day and other.scenario_type = per_day.scenario_type
        group by per_day.day, per_day.starts_at, per_day.ends_at, per_day.scenario_type, per_day.notifications
        having per_day.notifications > coalesce(sum(other.notifications), 0)
      ) as sent
      cross join lateral (
        select array_agg(distinct few.user_id) as persons
        from (
          select notification.user_id
          from public.scenario_notifications as notification
          where notification.organization_id = p_organization_id
            and notification.scenario_type = sent.scenario_type
            and notification.triggered_at >= sent.starts_at
            and notification.triggered_at < sent.ends_at
            and notification.delivery_status = 'sent'
          limit 8
        ) as few
      ) as first_few
    ),
    line as (
      select tally.day, tally.scenario_type, tally.delivery_status, tally.failure_code, tally.notifications
      from tally
      where scenario_private.shown(cardinality(tally.persons)) is not null
      union all
      select
        null, hidden.scenario_type, hidden.delivery_status, hidden.failure_code,
        case when scenario_private.shown(count(distinct person.user_id)) is not null
          then sum(hidden.notifications) filter (where person.place = 1) end
      from tally as hidden
      cross join unnest(hidden.persons) with ordinality as person (user_id, place)
      where scenario_private.shown(cardinality(hidden.persons)) is null
      group by hidden.scenario_type, hidden.delivery_status, hidden.failure_code
    )
    select json_build_object(
      'time_zone', p_time_zone,
      'lines', coalesce(
        json_agg(
          json_build_object(
            'day', line.day,
            'scenario_type', line.scenario_type,
            'delivery_status', line.delivery_status,
            'failure_code', line.failure_code,
            'notifications', line.notifications
          )
          order by line.day, line.scenario_type, line.delivery_status, line.failure_code
        ),
        '[]'
      )
    )
    from line
  );
end
$$;
revoke all on function public.scenario_get_organization_report(uuid, timestamptz, timestamptz, text, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_get_organization_report(uuid, timestamptz, timestamptz, text, integer)
  to service_role;
