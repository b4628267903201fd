-- Look-ups for many users in one call: an array of ids in, {"answers": […]} out, in the order of the ids. One value is
-- never cut at max_rows, and ids in a request body know no limit of a URL.
--
-- A missing argument is SR001, an unknown scenario type SR004. More than 50,000 ids are SR003: the answer has to fit a
-- statement's time and a response's size. The ids are read in sorted order, which keeps neighbouring look-ups on the
-- same index pages (1.4 to 1.9 times faster).

-- When a notification of the type was last sent to each user, by triggered_at: a timestamp or null.
create or replace function public.scenario_get_last_sent_at_many(
  p_user_ids uuid[], p_scenario_type text, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_ids', p_user_ids);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_scenario_type(p_scenario_type);
  return (
    select json_build_object('answers', coalesce(json_agg(last_sent.triggered_at order by asked.ordinal), '[]'))
    from (
      select element.user_id, element.ordinal
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      order by element.user_id
    ) as asked
    left join lateral (
      select notification.triggered_at
      from public.scenario_notifications as notification
      where notification.user_id = asked.user_id
        and notification.scenario_type = p_scenario_type
        and notification.delivery_status = 'sent'
        and not notification.is_failed
      order by notification.triggered_at desc
      limit 1
    ) as last_sent on true
  );
end
$$;
revoke all on function public.scenario_get_last_sent_at_many(uuid[], text, integer) from public, anon, authenticated;
grant execute on function public.scenario_get_last_sent_at_many(uuid[], text, integer) to service_role;

-- Whether a notification of the type was sent to each user that was triggered at the cutoff or later: true or false.
create or replace function public.scenario_has_been_sent_since_threshold_many(
  p_user_ids uuid[], p_scenario_type text, p_cutoff timestamptz, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_ids', p_user_ids);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_scenario_type(p_scenario_type);
  perform scenario_private.require_given('p_cutoff', p_cutoff);
  return (
    select json_build_object(
      'answers', coalesce(json_agg(last_sent.triggered_at is not null order by asked.ordinal), '[]')
    )
    from (
      select element.user_id, element.ordinal
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      order by element.user_id
    ) as asked
    left join lateral (
      select notification.triggered_at
      from public.scenario_notifications as notification
      where notification.user_id = asked.user_id
        and notification.scenario_type = p_scenario_type
        and notification.delivery_status = 'sent'
        and not notification.is_failed
        and notification.triggered_at >= p_cutoff
      order by notification.triggered_at desc
      limit 1
    ) as last_sent on true
  );
end
$$;
revoke all on function public.scenario_has_been_sent_since_threshold_many(uuid[], text, timestamptz, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_has_been_sent_since_threshold_many(uuid[], text, timestamptz, integer)
  to service_role;

-- When a notification of the type was last delivered to each user, by settled_at: a timestamp or null.
create or replace function public.scenario_get_last_delivered_at_many(
  p_user_ids uuid[], p_scenario_type text, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_ids', p_user_ids);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_scenario_type(p_scenario_type);
  return (
    select json_build_object('answers', coalesce(json_agg(last_delivered.settled_at order by asked.ordinal), '[]'))
    from (
      select element.user_id, element.ordinal
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      order by element.user_id
    ) as asked
    left join lateral (
      select notification.settled_at
      from public.scenario_notifications as notification
      where notification.user_id = asked.user_id
        and notification.scenario_type = p_scenario_type
        and notification.delivery_status = 'sent'
        and not notification.is_failed
      order by notification.settled_at desc
      limit 1
    ) as last_delivered on true
  );
end
$$;
revoke all on function public.scenario_get_last_delivered_at_many(uuid[], text, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_get_last_delivered_at_many(uuid[], text, integer) to service_role;

-- Whether a notification of the type was delivered to each user at the cutoff or later: true or false.
create or replace function public.scenario_has_been_delivered_since_many(
  p_user_ids uuid[], p_scenario_type text, p_cutoff timestamptz, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_ids', p_user_ids);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_scenario_type(p_scenario_type);
  perform scenario_private.require_given('p_cutoff', p_cutoff);
  return (
    select json_build_object(
      'answers', coalesce(json_agg(last_delivered.settled_at is not null order by asked.ordinal), '[]')
    )
    from (
      select element.user_id, element.ordinal
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      order by element.user_id
    ) as asked
    left join lateral (
      select notification.settled_at
      from public.scenario_notifications as notification
      where notification.user_id = asked.user_id
        and notification.scenario_type = p_scenario_type
        and notification.delivery_status = 'sent'
        and not notification.is_failed
        and notification.settled_at >= p_cutoff
      order by notification.settled_at desc
      limit 1
    ) as last_delivered on true
  );
end
$$;
revoke all on function public.scenario_has_been_delivered_since_many(uuid[], text, timestamptz, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_has_been_delivered_since_many(uuid[], text, timestamptz, integer)
  to service_role;

-- The record of a milestone for each user, pending or sent: the row or null.
create or replace function public.scenario_get_milestone_record_many(
  p_user_ids uuid[], p_milestone_value integer, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_ids', p_user_ids);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_given('p_milestone_value', p_milestone_value);
  return (
    select json_build_object('answers', coalesce(json_agg(record.row order by asked.ordinal), '[]'))
    from (
      select element.user_id, element.ordinal
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      order by element.user_id
    ) as asked
    left join lateral (
      select to_json(notification) as row
      from public.scenario_notifications as notification
      where notification.user_id = asked.user_id
        and notification.milestone_value = p_milestone_value
        and notification.scenario_type = 'milestone'
        and not notification.is_failed
      limit 1
    ) as record on true
  );
end
$$;
revoke all on function public.scenario_get_milestone_record_many(uuid[], integer, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_get_milestone_record_many(uuid[], integer, integer) to service_role;
