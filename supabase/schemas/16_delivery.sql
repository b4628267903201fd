-- Delivery: lease pending notifications, settle what became of them. At least once: a worker that dies after sending
-- and before settling is not known to have sent, and its rows are handed out again when the lease runs out.
--
-- A lease is a row's attempt_count: every lease counts one up, so a worker whose lease went to another can't settle.

-- Fails those of the notifications whose users are gone or banned, with that reason; returns their ids. The caller has
-- locked them.
create or replace function scenario_private.fail_for_users_away(p_ids uuid[])
returns uuid[]
language sql
volatile
set search_path = ''
as $$
  with refused as (
    update public.scenario_notifications as notification
    set delivery_status = 'failed', failure_code = away.reason
    from scenario_private.users_away(
      array(
        select distinct due.user_id
        from public.scenario_notifications as due
        where due.id = any (p_ids)
      )
    ) as away
    where notification.id = any (p_ids)
      and notification.user_id = away.user_id
    returning notification.id
  )
  select coalesce(array_agg(refused.id), '{}') from refused
$$;
revoke all on function scenario_private.fail_for_users_away(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.fail_for_users_away(uuid[]) to service_role;

-- Leases up to p_limit pending rows that are due, the longest due first, of one organization and of some scenario types
-- if given; rows that another worker is leasing at this moment are passed over. Until p_lease_seconds from now nobody
-- else gets them.
--   out  [{...the row..., "device_tokens": [{"token", "platform"}]}], oldest first
-- A user without a device token is handed out like any other, with an empty list: only the sender knows whether the
-- app has another way to tell (failing the row here would free the cooldown, and the next evaluation would claim
-- again, every few minutes). A row of a user who is gone or banned fails with that reason instead, which the evaluation
-- asks as well.
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
as $$
declare
  due_ids uuid[];
  refused_ids uuid[];
  leased json;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 1000);
  perform scenario_private.require_between('p_lease_seconds', p_lease_seconds, 1, 86400);
  perform scenario_private.require_scenario_type(wanted.scenario_type)
  from unnest(p_scenario_types) as wanted (scenario_type);

  -- Again, where all that was due had to be refused; not for ever, for one call has a bounded time.
  for attempt in 1..10 loop
    due_ids := array(
      select notification.id
      from public.scenario_notifications as notification
      where notification.delivery_status = 'pending'
        and notification.next_attempt_at <= now()
        and (p_organization_id is null or notification.organization_id = p_organization_id)
        and (p_scenario_types is null or notification.scenario_type = any (p_scenario_types))
      order by notification.next_attempt_at
      limit p_limit
      for update skip locked
    );
    refused_ids := scenario_private.fail_for_users_away(due_ids);

    with taken as (
      update public.scenario_notifications as notification
      set
        attempt_count = notification.attempt_count + 1,
        next_attempt_at = now() + make_interval(secs => p_lease_seconds)
      where notification.id = any (due_ids)
        and notification.id <> all (refused_ids)
      returning notification.*
    )
    select coalesce(
      json_agg(
        to_jsonb(taken) || jsonb_build_object('device_tokens', devices.tokens)
        order by taken.triggered_at, taken.id
      ),
      '[]'
    )
    into leased
    from taken
    cross join lateral (
      select coalesce(
        jsonb_agg(jsonb_build_object('token', device.token, 'platform', device.platform) order by device.token), '[]'
      ) as tokens
      from scenario_source.device_tokens as device
      where device.user_id = taken.user_id
    ) as devices;
    exit when cardinality(refused_ids) < p_limit;
  end loop;
  return leased;
end
$$;
revoke all on function public.scenario_lease_notifications(integer, double precision, uuid, text[], integer)
  from public, anon, authenticated;
grant execute on function public.scenario_lease_notifications(integer, double precision, uuid, text[], integer)
  to service_role;

-- Settles leases: an array of {"id", "attempt_count", "result", "failure_code"} in, one answer each out, in order.
--   result   sent      delivered
--            retry     try again after a while: 1 minute, doubled by every attempt, at most 6 hours, and between half
--                      and all of that, so that rows which failed together don't come back together; failed for good
--                      (attempts_spent) once p_max_attempts are spent
--            failed    failed for good, which frees the cooldown or the milestone
--            released  not tried: due again at once (an attempt all the same: the count names the lease)
--   answer   sent, pending or failed (what the row is now), or why it was refused: lease_lost (another worker has it),
--            already_settled, unknown
-- Until somebody leases the row again, the same retry or release may be reported again: an answer may have been lost.
-- A failure_code that is no code becomes unnamed_failure. Each result is judged by its own lease; the same lease twice
-- in one call settles once. Rows are locked by id: overlapping calls can't deadlock.
-- Raises SR001 for anything but an array of known results, SR003 for more than 1,000.
create or replace function public.scenario_settle_notifications(
  p_results jsonb, p_max_attempts integer default 8, p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  answers json;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_array('p_results', p_results, 1000);
  if exists (
    select
    from jsonb_array_elements(p_results) as element (value)
    where coalesce(element.value ->> 'result', '') not in ('sent', 'retry', 'failed', 'released')
  ) then
    raise exception using errcode = 'SR001', message = 'expected a result: sent, retry, failed or released';
  end if;

  with result as materialized (
    select
      element.*,
      row_number() over (partition by element.id, element.attempt_count order by element.ordinality) as repetition
    from rows from (
      jsonb_to_recordset(p_results) as (id uuid, attempt_count integer, result text, failure_code text)
    ) with ordinality as element
  ),
  locked as materialized (
    select notification.id, notification.attempt_count, notification.delivery_status
    from public.scenario_notifications as notification
    where notification.id in (select result.id from result)
    order by notification.id
    for no key update
  ),
  judged as materialized (
    select
      result.*,
      case
        when locked.id is null then 'unknown'
        when locked.delivery_status <> 'pending' then 'already_settled'
        when locked.attempt_count is distinct from result.attempt_count then 'lease_lost'
        when result.repetition > 1 then 'already_settled'
      end as refusal,
      case
        when result.result in ('sent', 'failed') then result.result
        when result.result = 'retry' and result.attempt_count >= coalesce(p_max_attempts, 8) then 'failed'
        else 'pending'
      end as delivery_status
    from result
    left join locked on locked.id = result.id
  ),
  settled as (
    update public.scenario_notifications as notification
    set
      delivery_status = judged.delivery_status,
      failure_code = case
        when judged.result = 'sent' then null
        when judged.result = 'retry' and judged.delivery_status = 'failed' then 'attempts_spent'
        when judged.result = 'released' then notification.failure_code
        when judged.failure_code is null then null
        when judged.failure_code ~ '^[a-z][a-z0-9_]{0,62}$' then judged.failure_code
        else 'unnamed_failure'
      end,
      next_attempt_at = case judged.result
        when 'retry' then now() + (0.5 + random() / 2)
          * least(interval '1 minute' * power(2, least(judged.attempt_count, 20) - 1), interval '6 hours')
        else now()
      end
    from judged
    where notification.id = judged.id
      and judged.refusal is null
  )
  select coalesce(json_agg(coalesce(judged.refusal, judged.delivery_status) order by judged.ordinality), '[]')
  into answers
  from judged;
  return answers;
end
$$;
revoke all on function public.scenario_settle_notifications(jsonb, integer, integer) from public, anon, authenticated;
grant execute on function public.scenario_settle_notifications(jsonb, integer, integer) to service_role;
