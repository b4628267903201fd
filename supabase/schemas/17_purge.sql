-- Keeping: history stays small without forgetting what a decision rests on.

-- Purges, for the next p_limit users after p_after, what was settled longer than p_older_than_seconds ago.
--   out  {"purged", "next_after"}; next_after is null at the end
-- Kept whatever their age: pending rows, milestones (once ever), and of every user and scenario type the newest row of
-- each status and the newest claim. So no decision changes, for whatever cooldown: the rolling check sees the newest
-- row that has not failed, the chain of claims its head, and get_last_sent_at the newest sent one.
-- Raises SR001 for a period shorter than the longest cooldown configured, or a limit outside 1 to 100,000.
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
set timezone = 'UTC'
as $$
declare
  older_than interval;
  longest_cooldown interval;
  last_user_id uuid;
  user_count integer;
  purged_count integer;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 100000);
  perform scenario_private.require_between('p_older_than_seconds', p_older_than_seconds, 0, 36525 * 86400.0);
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
revoke all on function public.scenario_purge_notifications(double precision, uuid, integer, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_purge_notifications(double precision, uuid, integer, integer) to service_role;
