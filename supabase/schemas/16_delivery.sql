-- Delivery: lease pending notifications, settle what became of them. At least once: a worker that dies after sending
-- and before settling is not known to have sent, and its rows are handed out again when the lease runs out.
--
-- Where a notification is stands in scenario_private.handover; a lease is known by its lease_number.
--
-- Locks: a settlement locks notifications by id, then their hand-overs by id. A lease locks hand-overs that nobody
-- holds, and then only notifications that nobody holds: it never waits, so nothing it meets can deadlock.
--
-- Plans are kept: one that was made while nothing was pending must not read a table whole when much is. So these
-- functions go without sequential scans, and look rows up by lateral queries (OFFSET 0) or arrays of ids, which only an
-- index can answer.

-- Notifications under lease as the API gives them, oldest first: the row, "lease_number", "attempt_count",
-- "leased_until" and "device_tokens": [{"token", "platform"}].
create or replace function scenario_private.leased_rows(p_ids uuid[])
returns json
language sql
volatile
set search_path = ''
set enable_seqscan = off
as $$
  select coalesce(
    json_agg(
      to_jsonb(notification) - '{is_failed, outlasts_at, held_until, unsettled_at}'::text[] || jsonb_build_object(
        'lease_number', handover.lease_number,
        'attempt_count', handover.attempt_count,
        'leased_until', handover.leased_until,
        'device_tokens', devices.tokens
      )
      order by notification.triggered_at, notification.id
    ),
    '[]'
  )
  from unnest(p_ids) as leased (id)
  cross join lateral (
    select * from public.scenario_notifications as row where row.id = leased.id offset 0
  ) as notification
  cross join lateral (
    select * from scenario_private.handover as row where row.notification_id = leased.id offset 0
  ) as handover
  cross join lateral (
    select coalesce(
      jsonb_agg(jsonb_build_object('token', device.token, 'platform', device.platform) order by device.token), '[]'
    ) as tokens
    from scenario_source.device_tokens as device
    where device.user_id = notification.user_id
  ) as devices
$$;
revoke all on function scenario_private.leased_rows(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.leased_rows(uuid[]) to service_role;

-- Leases up to p_limit pending rows that are due, the longest due first, of one organization and of some scenario types
-- if given; rows that another worker is leasing at this moment are passed over. Until p_lease_seconds from now nobody
-- else gets them.
--   out  {"leased": the rows as scenario_private.leased_rows says}
-- What is handed out is asked again first; what is refused fails, with its reason:
--   user_gone, user_banned, and of those that an evaluation claimed mentor_not_active, scenario_disabled
--   expired         deliver_until is over
--   attempts_spent  it was tried max_attempts times (a lease that runs out unsettled is a try)
--   superseded      after a lease that nobody settled, another one about the same has been claimed, or may be within a
--                   minute: what she may have been told holds no longer
-- A user without a device token is handed out like any other, with an empty list: only the sender knows whether the
-- app has another way to tell; one that has none says suppressed.
-- Raises SR001 for a limit outside 1 to 1,000 or a lease outside 1 second to 1 day, SR004 for an unknown scenario type.
create or replace function public.scenario_lease_notifications(
  p_limit integer,
  p_lease_seconds double precision,
  p_organization_id uuid default null,
  p_scenario_types text[] default null,
  p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set enable_seqscan = off
as $$
declare
  due record;
  refused record;
  leased_ids uuid[];
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 1000);
  perform scenario_private.require_between('p_lease_seconds', p_lease_seconds, 1, 86400);
  perform scenario_private.require_scenario_type(wanted.scenario_type)
  from unnest(p_scenario_types) as wanted (scenario_type);

  -- Again, where all that was due had to be refused; not for ever, for one call has a bounded time.
  for attempt in 1..10 loop
    with locked as materialized (
      select handover.*
      from scenario_private.handover as handover
      where handover.next_attempt_at <= now()
        and (handover.leased_until is null or handover.leased_until <= now())
        and (p_organization_id is null or handover.organization_id = p_organization_id)
        and (p_scenario_types is null or handover.scenario_type = any (p_scenario_types))
      order by handover.next_attempt_at
      limit p_limit
      for update skip locked
    )
    select
      array_agg(locked.notification_id) as ids,
      array_agg(locked.user_id) as user_ids,
      array_agg(locked.organization_id) as organization_ids,
      array_agg(locked.scenario_type) as scenario_types,
      array_agg(notification.origin = 'evaluation') as by_rule,
      array_agg(
        case
          when notification.delivery_status is distinct from 'pending' then 'settled'
          when notification.deliver_until <= now() then 'expired'
          when locked.attempt_count >= coalesce(own.max_attempts, standard.max_attempts, 8) then 'attempts_spent'
          -- Another one may be claimed as soon as that is over, and be invisible here for as long as its claim runs.
          when greatest(locked.leased_until, locked.unsettled_at) + notification.cooldown <= now() + interval '1 minute'
            then 'superseded'
          when greatest(locked.leased_until, locked.unsettled_at) is not null
            and exists (
              select
              from scenario_private.hold as newer
              where newer.user_id = locked.user_id
                and newer.scenario_type = locked.scenario_type
                and not newer.is_failed
                and newer.triggered_at > notification.triggered_at
                and newer.milestone_value is null
                and newer.cooldown_window_start is not null
                and (
                  newer.subjects = '{}' or notification.subjects = '{}' or newer.subjects && notification.subjects
                )
            )
            then 'superseded'
        end
      ) as reasons
    into due
    from locked
    left join lateral (
      select * from public.scenario_notifications as row where row.id = locked.notification_id offset 0
    ) as notification on true
    left join scenario_private.delivery_setting as own
      on own.scenario_type = locked.scenario_type
      and own.organization_id = locked.organization_id
    left join scenario_private.delivery_setting as standard
      on standard.scenario_type = locked.scenario_type
      and standard.organization_id is null;
    exit when due.ids is null;

    select array_agg(element.id) as ids, array_agg(element.reason) as reasons into refused
    from (
      select asked.id, coalesce(refusal.reason, asked.reason) as reason
      from unnest(due.ids, due.reasons) with ordinality as asked (id, reason, place)
      left join scenario_private.refusals(due.user_ids, due.organization_ids, due.scenario_types, due.by_rule)
        as refusal on refusal.place = asked.place
    ) as element
    where element.reason is not null;

    if refused.ids is not null then
      delete from scenario_private.handover as handover
      where handover.notification_id = any (
        array(
          select refusal.id
          from unnest(refused.ids, refused.reasons) as refusal (id, reason)
          where refusal.reason = 'settled'
        )
      );
      with locked as materialized (
        select notification.id
        from public.scenario_notifications as notification
        where notification.id = any (refused.ids)
          and notification.delivery_status = 'pending'
        for no key update skip locked
      )
      update public.scenario_notifications as notification
      set delivery_status = 'failed', failure_code = refused.reasons[array_position(refused.ids, notification.id)]
      where notification.id = any (array(select locked.id from locked));
    end if;

    with taken as (
      update scenario_private.handover as handover
      set
        leased_until = now() + make_interval(secs => p_lease_seconds),
        lease_number = handover.lease_number + 1,
        attempt_count = handover.attempt_count + 1,
        unsettled_at = coalesce(handover.leased_until, handover.unsettled_at)
      where handover.notification_id = any (due.ids)
        and (refused.ids is null or handover.notification_id <> all (refused.ids))
      returning handover.notification_id
    )
    select array_agg(taken.notification_id) into leased_ids from taken;
    exit when coalesce(cardinality(refused.ids), 0) < p_limit;
  end loop;
  return json_build_object('leased', scenario_private.leased_rows(leased_ids));
end
$$;
revoke all on function public.scenario_lease_notifications(integer, double precision, uuid, text[], integer)
  from public, anon, authenticated;
grant execute on function public.scenario_lease_notifications(integer, double precision, uuid, text[], integer)
  to service_role;

-- Whether each field of a settlement can be read as what it should be.
create or replace function scenario_private.is_readable_settlement(p_settlement jsonb)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  return coalesce(
    jsonb_typeof(p_settlement) = 'object'
      and (p_settlement ->> 'id')::uuid is not null
      and coalesce(p_settlement ->> 'lease_number', p_settlement ->> 'attempt_count')::integer > 0
      and p_settlement ->> 'result' in ('sent', 'retry', 'failed', 'suppressed', 'released'),
    false
  );
exception when data_exception then
  return false;
end
$$;
revoke all on function scenario_private.is_readable_settlement(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.is_readable_settlement(jsonb) to service_role;

-- Settles leases: an array of {"id", "lease_number", "result", "failure_code"} in, one answer each out, in order.
--   result   sent        delivered
--            retry       try again after a while: 1 minute, doubled by every attempt, at most 6 hours, and between half
--                        and all of that, so that rows which failed together don't come back together; failed for good
--                        (attempts_spent) once p_max_attempts are spent (null: the settings' max_attempts)
--            failed      failed for good; what it holds: scenario_private.keep_books
--            suppressed  failed for good, for there is nobody to send to: no device, no permission
--            released    not tried: due again at once, and no attempt is spent
--   out  {"answers": […]}: sent, pending or failed (what the row is now), or why it was refused: lease_lost (another
--        worker has it), already_settled, unknown, invalid_settlement
-- Until somebody leases the row again, the same retry or release may be reported again: an answer may have been lost.
-- A failure_code that is no code, or one of scenario_repo's own, becomes unnamed_failure. Each result is judged by its
-- own lease; the same lease twice in one call settles once. A caller that names a lease by attempt_count is understood.
-- Raises SR001 for anything but an array, SR003 for more than 1,000.
create or replace function public.scenario_settle_notifications(
  p_results jsonb, p_max_attempts integer default null, p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set enable_seqscan = off
as $$
declare
  answers json;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_array('p_results', p_results, 1000);
  if p_max_attempts is not null then
    perform scenario_private.require_between('p_max_attempts', p_max_attempts, 1, 2147483647);
  end if;

  -- First, so that what follows sees what a lease or a settlement has done meanwhile.
  perform notification.id
  from public.scenario_notifications as notification
  where notification.id = any (
    array(
      select (element.value ->> 'id')::uuid
      from jsonb_array_elements(p_results) as element (value)
      where scenario_private.is_readable_settlement(element.value)
    )
  )
  order by notification.id
  for no key update;

  with result as materialized (
    select
      readable.id,
      readable.lease_number,
      readable.result,
      readable.failure_code,
      readable.ordinal,
      row_number() over (partition by readable.id, readable.lease_number order by readable.ordinal) as repetition
    from (
      select
        (settlement.value ->> 'id')::uuid as id,
        coalesce(settlement.value ->> 'lease_number', settlement.value ->> 'attempt_count')::integer as lease_number,
        settlement.value ->> 'result' as result,
        case
          when settlement.value ->> 'result' = 'suppressed' then 'suppressed'
          when settlement.value ->> 'failure_code' is null then null
          when settlement.value ->> 'failure_code' ~ '^[a-z][a-z0-9_]{0,62}$'
            and scenario_private.hold_of_failure(settlement.value ->> 'failure_code') is null
            then settlement.value ->> 'failure_code'
          else 'unnamed_failure'
        end as failure_code,
        settlement.ordinal
      from jsonb_array_elements(p_results) with ordinality as element (value, ordinal)
      cross join lateral (
        select
          case when scenario_private.is_readable_settlement(element.value) then element.value end as value,
          element.ordinal
        offset 0
      ) as settlement
    ) as readable
  ),
  locked as materialized (
    select
      handover.notification_id as id,
      handover.ctid,
      handover.lease_number,
      handover.attempt_count,
      handover.leased_until,
      coalesce(p_max_attempts, own.max_attempts, standard.max_attempts, 8) as max_attempts
    from scenario_private.handover as handover
    left join scenario_private.delivery_setting as own
      on own.scenario_type = handover.scenario_type
      and own.organization_id = handover.organization_id
    left join scenario_private.delivery_setting as standard
      on standard.scenario_type = handover.scenario_type
      and standard.organization_id is null
    where handover.notification_id = any (array(select result.id from result))
    order by handover.notification_id
    for no key update of handover
  ),
  judged as materialized (
    select
      result.*,
      case
        when result.result is null then 'invalid_settlement'
        when notification.id is null then 'unknown'
        when notification.delivery_status <> 'pending' then 'already_settled'
        when locked.lease_number is distinct from result.lease_number then 'lease_lost'
        when result.repetition > 1 then 'already_settled'
      end as refusal,
      case
        when result.result in ('sent', 'failed') then result.result
        when result.result = 'suppressed' then 'failed'
        when result.result = 'retry' and locked.attempt_count >= locked.max_attempts then 'failed'
        else 'pending'
      end as delivery_status,
      locked.attempt_count,
      locked.leased_until,
      -- Both rows are locked: they stay where they are.
      notification.ctid as notification_ctid,
      locked.ctid as handover_ctid
    from result
    left join lateral (
      select row.id, row.delivery_status, row.ctid
      from public.scenario_notifications as row
      where row.id = result.id
      offset 0
    ) as notification on true
    left join locked on locked.id = result.id
  ),
  settled as (
    update public.scenario_notifications as notification
    set
      delivery_status = judged.delivery_status,
      failure_code = case
        when judged.result = 'sent' then null
        when judged.result = 'retry' and judged.delivery_status = 'failed' then 'attempts_spent'
        else judged.failure_code
      end,
      -- It was sent before its lease was over, however late that is told.
      settled_at = case
        when judged.delivery_status = 'sent' then greatest(notification.triggered_at, least(now(), judged.leased_until))
        when judged.delivery_status = 'failed' then now()
      end
    from judged
    where notification.ctid = judged.notification_ctid
      and judged.refusal is null
      and (judged.delivery_status <> 'pending' or judged.failure_code is distinct from notification.failure_code)
      and judged.result <> 'released'
  ),
  given_back as (
    update scenario_private.handover as handover
    set
      leased_until = null,
      attempt_count = handover.attempt_count - (judged.result = 'released')::integer,
      next_attempt_at = case judged.result
        when 'retry' then now() + (0.5 + random() / 2)
          * least(interval '1 minute' * power(2, least(judged.attempt_count, 20) - 1), interval '6 hours')
        else now()
      end
    from judged
    where handover.ctid = judged.handover_ctid
      and judged.refusal is null
      and judged.delivery_status = 'pending'
      -- Once: what is reported again changes nothing.
      and judged.leased_until is not null
  ),
  ended as (
    delete from scenario_private.handover as handover
    using judged
    where handover.ctid = judged.handover_ctid
      and judged.refusal is null
      and judged.delivery_status = 'sent'
  )
  select json_build_object(
    'answers', coalesce(json_agg(coalesce(judged.refusal, judged.delivery_status) order by judged.ordinal), '[]')
  )
  into answers
  from judged;
  return answers;
end
$$;
revoke all on function public.scenario_settle_notifications(jsonb, integer, integer) from public, anon, authenticated;
grant execute on function public.scenario_settle_notifications(jsonb, integer, integer) to service_role;
