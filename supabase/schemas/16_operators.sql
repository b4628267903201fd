-- What an operator may do to single notifications: cancel what is not to be told, and let what failed be tried anew.

-- Cancels pending notifications: they fail as cancelled, which holds for the cooldown (a milestone for good).
--   out  {"answers": […]}, one for each id: cancelled, leased (somebody may be sending it), already_settled (or it has
--        reached a device: then it is sent), unknown
-- Raises SR001 without ids, SR003 for more than 1,000.
create or replace function public.scenario_cancel_notifications(p_ids uuid[], p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set enable_seqscan = off
as $$
declare
  answers text[];
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_ids', p_ids);
  perform scenario_private.require_at_most(cardinality(p_ids), 1000);

  perform notification.id
  from public.scenario_notifications as notification
  where notification.id = any (p_ids)
  order by notification.id
  for no key update;
  perform handover.notification_id
  from scenario_private.handover as handover
  where handover.notification_id = any (p_ids)
  order by handover.notification_id
  for no key update;

  answers := array(
    select case
      when notification.id is null then 'unknown'
      when notification.delivery_status <> 'pending' then 'already_settled'
      when handover.leased_until > now() then 'leased'
      when handover.reached is not null then 'already_settled'
      when row_number() over (partition by asked.id order by asked.place) > 1 then 'already_settled'
      else 'cancelled'
    end
    from unnest(p_ids) with ordinality as asked (id, place)
    left join lateral (
      select * from public.scenario_notifications as row where row.id = asked.id offset 0
    ) as notification on true
    left join lateral (
      select * from scenario_private.handover as row where row.notification_id = asked.id offset 0
    ) as handover on true
    order by asked.place
  );
  -- What has reached a device was told, and can't be taken back.
  update public.scenario_notifications as notification
  set delivery_status = 'sent', failure_code = null
  from scenario_private.handover as handover
  where notification.id = any (p_ids)
    and handover.notification_id = notification.id
    and handover.reached is not null
    and (handover.leased_until is null or handover.leased_until <= now())
    and notification.delivery_status = 'pending';
  update public.scenario_notifications as notification
  set delivery_status = 'failed', failure_code = 'cancelled'
  where notification.id = any (
    array(
      select asked.id from unnest(p_ids, answers) as asked (id, answer) where asked.answer = 'cancelled'
    )
  );
  return json_build_object('answers', to_json(answers));
end
$$;
revoke all on function public.scenario_cancel_notifications(uuid[], integer) from public, anon, authenticated;
grant execute on function public.scenario_cancel_notifications(uuid[], integer) to service_role;

-- Lets notifications that failed be tried anew, and whatever they hold end.
--   out  {"answers": […], "ids": […]}, one for each id:
--        freed     an evaluation made it: the next one may claim the same again, if it is still due
--        recorded  a claim or a plain insert: recorded anew, as a plain insert does, with the id in ids
--        pending   it waits to be sent as it is, or is being sent
--        sent      it was sent
--        not_held  it holds nothing any more: an evaluation may claim the same already; of a claim's or an insert's
--                  milestone: it is recorded by another one
--        unknown   there is none
-- Raises SR001 without ids, SR003 for more than 1,000.
create or replace function public.scenario_retry_notifications(p_ids uuid[], p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set enable_seqscan = off
as $$
declare
  answers text[] := array[]::text[];
  ids uuid[] := array[]::uuid[];
  asked uuid;
  found public.scenario_notifications;
  new_id uuid;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_ids', p_ids);
  perform scenario_private.require_at_most(cardinality(p_ids), 1000);

  perform notification.id
  from public.scenario_notifications as notification
  where notification.id = any (p_ids)
  order by notification.id
  for no key update;

  foreach asked in array p_ids loop
    new_id := null;
    select * into found from public.scenario_notifications as notification where notification.id = asked;
    if found.id is null then
      answers := answers || 'unknown'::text;
    elsif found.delivery_status <> 'failed' then
      answers := answers || found.delivery_status;
    else
      update public.scenario_notifications as notification
      set held_until = now()
      where notification.id = asked
        and notification.held_until > now();
      if found.origin = 'evaluation' then
        answers := answers || case when found.held_until > now() then 'freed' else 'not_held' end;
      else
        -- By an id that follows from the old one: asked again, it is recorded once.
        insert into public.scenario_notifications
          (id, user_id, organization_id, scenario_type, milestone_value, metadata, subjects)
        values (
          md5('scenario_repo retry ' || found.id)::uuid, found.user_id, found.organization_id, found.scenario_type,
          found.milestone_value, found.metadata, found.subjects
        )
        on conflict do nothing;
        select notification.id into new_id
        from public.scenario_notifications as notification
        where notification.id = md5('scenario_repo retry ' || found.id)::uuid;
        answers := answers || case when new_id is null then 'not_held' else 'recorded' end;
      end if;
    end if;
    ids := ids || new_id;
  end loop;
  return json_build_object('answers', to_json(answers), 'ids', to_json(ids));
end
$$;
revoke all on function public.scenario_retry_notifications(uuid[], integer) from public, anon, authenticated;
grant execute on function public.scenario_retry_notifications(uuid[], integer) to service_role;
