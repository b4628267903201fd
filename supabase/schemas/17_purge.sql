-- Keeping: history stays small without forgetting what a decision rests on.

-- Purges, for the next p_limit users after p_after, what has been over for longer than p_older_than_seconds: the latest
-- of triggered_at, settled_at, held_until and unsettled_at.
--   out  {"purged", "next_after"}; next_after is null at the end
-- Kept whatever their age, so that no decision changes: pending rows; milestones that are recorded or held for good; of
-- every user and scenario type the newest claim (the chain's head), the rows sent and delivered last, and the newest
-- notifications that count as reminders, as many as a series may have (one at least), with the newest of these for each
-- subject and the newest without subjects. A scenario type whose longest cooldown is longer than the period is left alone.
-- Raises SR001 for a period that is negative or longer than 36,525 days, or a limit outside 1 to 100,000.
create or replace function public.scenario_purge_notifications(
  p_older_than_seconds double precision,
  p_after uuid default null,
  p_limit integer default 10000,
  p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set timezone = 'UTC'
as $$
declare
  over_before timestamptz;
  last_user_id uuid;
  user_count integer;
  purged_count integer;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 100000);
  perform scenario_private.require_between('p_older_than_seconds', p_older_than_seconds, 0, 36525 * 86400.0);
  over_before := now() - make_interval(secs => p_older_than_seconds);

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
  kind as (
    select config.scenario_type, greatest(max(config.max_reminders), 1) as series
    from public.scenario_evaluation_config as config
    group by config.scenario_type
    having coalesce(max(config.cooldown), '0') <= make_interval(secs => p_older_than_seconds)
  ),
  -- What is kept of each user and type, looked up once, however many rows there are.
  history as materialized (
    select
      page.user_id,
      kind.scenario_type,
      head.cooldown_window_start as head_window,
      sent.id as sent_id,
      delivered.id as delivered_id,
      coalesce(series.triggered_at, '-infinity') as series_from
    from page
    cross join kind
    left join lateral (
      select notification.cooldown_window_start
      from public.scenario_notifications as notification
      where notification.user_id = page.user_id
        and notification.scenario_type = kind.scenario_type
        and notification.cooldown_window_start is not null
      order by notification.cooldown_window_start desc
      limit 1
    ) as head on true
    left join lateral (
      select notification.id
      from public.scenario_notifications as notification
      where notification.user_id = page.user_id
        and notification.scenario_type = kind.scenario_type
        and not notification.is_failed
        and notification.delivery_status = 'sent'
      order by notification.triggered_at desc
      limit 1
    ) as sent on true
    left join lateral (
      select notification.id
      from public.scenario_notifications as notification
      where notification.user_id = page.user_id
        and notification.scenario_type = kind.scenario_type
        and not notification.is_failed
        and notification.delivery_status = 'sent'
      order by notification.settled_at desc
      limit 1
    ) as delivered on true
    left join lateral (
      select reminder.triggered_at
      from scenario_private.reminder as reminder
      where reminder.user_id = page.user_id
        and reminder.scenario_type = kind.scenario_type
        -- A pending one may fail, and count no more.
        and reminder.settled_at is not null
      order by reminder.triggered_at desc
      offset kind.series - 1
      limit 1
    ) as series on true
  ),
  old as (
    select notification.id
    from history
    join scenario_private.hold as notification
      on notification.user_id = history.user_id
      and notification.scenario_type = history.scenario_type
    join public.scenario_notifications as locked on locked.id = notification.id
    where notification.triggered_at < over_before
      and notification.settled_at < over_before
      and coalesce(notification.held_until, '-infinity') < over_before
      and coalesce(notification.unsettled_at, '-infinity') < over_before
      and (notification.scenario_type <> 'milestone' or notification.is_failed)
      and (notification.cooldown_window_start is null or notification.cooldown_window_start < history.head_window)
      and notification.id is distinct from history.sent_id
      and notification.id is distinct from history.delivered_id
      and (
        not notification.counts
        or (
          notification.triggered_at < history.series_from
          and not exists (
            select
            -- One about its scenario as a whole is renewed by another such one alone: null is no subject of any.
            from unnest(coalesce(nullif(notification.subjects, '{}'), array[null])) as subject (value)
            where not exists (
              select
              from scenario_private.hold as newer
              where newer.user_id = notification.user_id
                and newer.scenario_type = notification.scenario_type
                and newer.counts
                and newer.settled_at is not null
                and newer.triggered_at > notification.triggered_at
                and (newer.subjects = '{}' or subject.value = any (newer.subjects))
            )
          )
        )
      )
    order by notification.id
    for update of locked skip locked
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
revoke all on function public.scenario_purge_notifications(double precision, uuid, integer, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_purge_notifications(double precision, uuid, integer, integer) to service_role;
