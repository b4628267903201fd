-- Keeping: history stays small without forgetting what a decision rests on. And the report over it.

-- Purges, for the next p_limit users after p_after, what was settled longer than p_older_than_seconds ago.
--   out  {"purged", "next_after"}; next_after is null at the end
-- Kept whatever their age: pending rows, milestones (once ever), and of every user and scenario type the newest row of
-- each status and the newest claim. So no decision changes, for whatever cooldown: the rolling check sees the newest
-- row that has not failed, the chain of claims its head, and get_last_sent_at the newest sent one.
-- Raises SR001 for a period shorter than the longest cooldown configured, or a limit outside 1 to 100,000.
create or replace function public.scenario_purge_notifications(
  p_older_than_seconds double precision,
  p_after uuid default null,
  p_limit integer default 10000
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
declare
  older_than interval;
  longest_cooldown interval;
  last_user_id uuid;
  user_count integer;
  purged_count integer;
begin
  if p_limit is null or p_limit not between 1 and 100000 then
    raise exception using errcode = 'SR001', message = 'expected a limit from 1 to 100000';
  end if;
  if p_older_than_seconds is null or p_older_than_seconds not between 0 and 36525 * 86400.0 then
    raise exception using errcode = 'SR001', message = 'expected a period of at most 36525 days';
  end if;
  older_than := make_interval(secs => p_older_than_seconds);
  select max(config.cooldown) into longest_cooldown from public.scenario_evaluation_config as config;
  if older_than < longest_cooldown then
    raise exception using
      errcode = 'SR001',
      message = format('expected a period of at least the longest cooldown configured, %s', longest_cooldown);
  end if;

  -- A loose scan: one index descent per user, however long the histories are.
  with recursive page (user_id, position) as (
    (
      select notification.user_id, 1
      from public.scenario_notifications as notification
      where notification.user_id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
        or (p_after is null and notification.user_id = '00000000-0000-0000-0000-000000000000')
      order by notification.user_id
      limit 1
    )
    union all
    select following.user_id, page.position + 1
    from page
    cross join lateral (
      select notification.user_id
      from public.scenario_notifications as notification
      where notification.user_id > page.user_id
      order by notification.user_id
      limit 1
    ) as following
    where page.position < p_limit
  ),
  old as (
    select notification.id
    from page
    join public.scenario_notifications as notification on notification.user_id = page.user_id
    where notification.triggered_at < now() - older_than
      and notification.delivery_status <> 'pending'
      and notification.scenario_type <> 'milestone'
      and exists (
        select
        from public.scenario_notifications as newer
        where newer.user_id = notification.user_id
          and newer.scenario_type = notification.scenario_type
          and newer.delivery_status = notification.delivery_status
          and (newer.triggered_at, newer.id) > (notification.triggered_at, notification.id)
      )
      and (
        notification.cooldown_window_start is null
        or exists (
          select
          from public.scenario_notifications as newer
          where newer.user_id = notification.user_id
            and newer.scenario_type = notification.scenario_type
            and newer.cooldown_window_start > notification.cooldown_window_start
        )
      )
    order by notification.id
    for update of notification skip locked
  ),
  purged as (
    delete from public.scenario_notifications as notification
    using old
    where notification.id = old.id
    returning notification.id
  )
  select
    (select count(*) from purged),
    (select count(*) from page),
    (select page.user_id from page order by page.position desc limit 1)
  into purged_count, user_count, last_user_id;

  return json_build_object(
    'purged', purged_count,
    'next_after', case when user_count = p_limit then last_user_id end
  );
end
$$;
revoke all on function public.scenario_purge_notifications(double precision, uuid, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_purge_notifications(double precision, uuid, integer) to service_role;

-- Counts an organization's notifications from p_since (inclusive) to p_until (exclusive), per day in UTC, scenario type
-- and delivery status.
--   out  [{"day", "scenario_type", "delivery_status", "notifications"}], only what is not zero
create or replace function public.scenario_get_organization_report(
  p_organization_id uuid, p_since timestamptz, p_until timestamptz
)
returns json
language sql
stable
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
  select coalesce(
    json_agg(
      json_build_object(
        'day', tally.day,
        'scenario_type', tally.scenario_type,
        'delivery_status', tally.delivery_status,
        'notifications', tally.notifications
      )
      order by tally.day, tally.scenario_type, tally.delivery_status
    ),
    '[]'
  )
  from (
    select
      notification.triggered_at::date as day,
      notification.scenario_type,
      notification.delivery_status,
      count(*) as notifications
    from unnest(array['inactivity', 'milestone', 'certification_expiry', 'welcome_back']) as scenario (type)
    cross join lateral (
      select counted.triggered_at, counted.scenario_type, counted.delivery_status
      from public.scenario_notifications as counted
      where counted.organization_id = p_organization_id
        and counted.scenario_type = scenario.type
        and counted.triggered_at >= p_since
        and counted.triggered_at < p_until
    ) as notification
    group by 1, 2, 3
  ) as tally
$$;
revoke all on function public.scenario_get_organization_report(uuid, timestamptz, timestamptz)
  from public, anon, authenticated;
grant execute on function public.scenario_get_organization_report(uuid, timestamptz, timestamptz) to service_role;
