-- The settlement: what became of a lease. At least once: a worker that dies after sending and before settling is not known
-- to have sent, and its rows are handed out again when the lease runs out.
--
-- Where a notification is stands in scenario_private.handover; a lease is known by its lease_number. The order of locks
-- is said in 16_lease.sql.

-- Whether device tokens can be read: a list of at most 1,000 texts, or none.
create or replace function scenario_private.are_readable_tokens(p_tokens jsonb)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select case jsonb_typeof(p_tokens)
    when 'array' then jsonb_array_length(p_tokens) <= 1000
      and not jsonb_path_exists(p_tokens, 'strict $[*] ? (@.type() != "string")')
    else coalesce(p_tokens, 'null') = 'null'
  end
$$;
revoke all on function scenario_private.are_readable_tokens(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.are_readable_tokens(jsonb) to service_role;

-- Removes device tokens that a provider called invalid, each if it is still this user's and was not registered since;
-- returns how many could not be removed, for the app's view does not allow it.
create or replace function scenario_private.remove_tokens(
  p_user_ids uuid[], p_tokens text[], p_registered_before timestamptz[]
)
returns integer
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
as $$
begin
  delete from scenario_source.device_tokens as device
  using unnest(p_user_ids, p_tokens, p_registered_before) as invalid (user_id, token, registered_before)
  where device.user_id = invalid.user_id
    and device.token = invalid.token
    and (device.registered_at <= invalid.registered_before) is not false;
  return 0;
exception
  when object_not_in_prerequisite_state or insufficient_privilege or feature_not_supported then
    return (
      select count(*)
      from unnest(p_user_ids, p_tokens) as invalid (user_id, token)
      where exists (
        select
        from scenario_source.device_tokens as device
        where device.user_id = invalid.user_id and device.token = invalid.token
      )
    );
end
$$;
revoke all on function scenario_private.remove_tokens(uuid[], text[], timestamptz[]) from public, anon, authenticated;
grant execute on function scenario_private.remove_tokens(uuid[], text[], timestamptz[]) to service_role;

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
      and p_settlement ->> 'result' in ('sent', 'retry', 'failed', 'suppressed', 'released')
      and coalesce((p_settlement ->> 'retry_after_seconds')::double precision between 0 and 2592000, true)
      -- The function is asked of few.
      and case when p_settlement ? 'reached' then scenario_private.are_readable_tokens(p_settlement -> 'reached') else true end
      and case
        when p_settlement ? 'invalid_tokens' then scenario_private.are_readable_tokens(p_settlement -> 'invalid_tokens')
        else true
      end,
    false
  );
exception when data_exception then
  return false;
end
$$;
revoke all on function scenario_private.is_readable_settlement(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.is_readable_settlement(jsonb) to service_role;

-- Settles leases: an array of {"id", "lease_number", "result", "failure_code", "retry_after_seconds", "reached",
-- "invalid_tokens"} in, one answer each out, in order.
--   result   sent        delivered
--            retry       try again after a while: 1 minute, doubled by every attempt, at most 6 hours, and between half
--                        and all of that, so that rows which failed together don't come back together; failed for good
--                        (attempts_spent) once p_max_attempts are spent (null: the settings' max_attempts). With
--                        retry_after_seconds (up to 30 days): not before that, and no attempt is spent
--            failed      failed for good; what it holds: scenario_private.keep_books
--            suppressed  failed for good, for there is nobody to send to: no device, no permission
--            released    not tried: due again at once, and no attempt is spent
--   reached         the tokens of the devices that it has reached: it is not handed out for these again, and what
--                   has reached one, now or before, is sent where it would have failed
--   invalid_tokens  the tokens that the provider called invalid: removed if they are still this user's, and were not
--                   registered since the lease began
--   out  {"answers": […], "undeleted_tokens": how many could not be removed}; an answer is sent, pending or failed (what
--        the row is now), or why it was refused: lease_lost (another worker has it), already_settled, unknown,
--        invalid_settlement
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
  -- Null for one that can't be read.
  results jsonb[];
  are_plain boolean;
  locked_ids uuid[];
  statuses text[];
  places tid[];
  answers json;
  given_back_ids uuid[];
  given_back_user_ids uuid[];
  invalid_tokens jsonb;
  undeleted_count integer := 0;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_array('p_results', p_results, 1000);
  if p_max_attempts is not null then
    perform scenario_private.require_between('p_max_attempts', p_max_attempts, 1, 2147483647);
  end if;

  -- Most are made of three plain fields, and are read all at once.
  begin
    are_plain := (
      select bool_and(
        coalesce(
          (element.value ->> 'id')::uuid is not null
            and (element.value ->> 'lease_number')::integer > 0
            and element.value ->> 'result' = any ('{sent,retry,failed,suppressed,released}')
            and not element.value ?| '{retry_after_seconds,reached,invalid_tokens}',
          false
        )
      )
      from jsonb_array_elements(p_results) as element (value)
    );
  exception when data_exception then
    are_plain := false;
  end;
  results := array(
    select case when are_plain or scenario_private.is_readable_settlement(element.value) then element.value end
    from jsonb_array_elements(p_results) with ordinality as element (value, ordinal)
    order by element.ordinal
  );
  -- First, so that what follows sees what a lease or a settlement has done meanwhile. Locked rows stay where they are.
  with locked as materialized (
    select notification.id, notification.delivery_status, notification.ctid
    from public.scenario_notifications as notification
    where notification.id = any (array(select (element.value ->> 'id')::uuid from unnest(results) as element (value)))
    order by notification.id
    for no key update
  )
  select array_agg(locked.id), array_agg(locked.delivery_status), array_agg(locked.ctid)
  into locked_ids, statuses, places
  from locked;

  with result as materialized (
    select
      readable.id,
      readable.lease_number,
      readable.result,
      readable.failure_code,
      readable.retry_after,
      readable.reached,
      readable.invalid_tokens,
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
        case
          when settlement.value ->> 'result' = 'retry'
            then make_interval(secs => (settlement.value ->> 'retry_after_seconds')::double precision)
        end as retry_after,
        case
          when jsonb_typeof(settlement.value -> 'reached') = 'array' and settlement.value -> 'reached' <> '[]' then array(
            select encode(sha256(convert_to(token.value, 'UTF8')), 'hex')
            from jsonb_array_elements_text(settlement.value -> 'reached') as token (value)
          )
        end as reached,
        nullif(settlement.value -> 'invalid_tokens', 'null') as invalid_tokens,
        settlement.ordinal
      from unnest(results) with ordinality as settlement (value, ordinal)
    ) as readable
  ),
  locked as materialized (
    select
      handover.notification_id as id,
      handover.ctid,
      handover.user_id,
      handover.leased_at,
      handover.reached,
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
        when result.result = 'sent' then 'sent'
        when result.result in ('failed', 'suppressed')
          or (result.result = 'retry' and result.retry_after is null and locked.attempt_count >= locked.max_attempts)
          then case when coalesce(result.reached, locked.reached) is not null then 'sent' else 'failed' end
        else 'pending'
      end as delivery_status,
      locked.user_id,
      locked.leased_at,
      locked.attempt_count,
      locked.leased_until,
      -- Both rows are locked: they stay where they are.
      notification.ctid as notification_ctid,
      locked.ctid as handover_ctid
    from result
    left join unnest(locked_ids, statuses, places) as notification (id, delivery_status, ctid)
      on notification.id = result.id
    left join locked on locked.id = result.id
  ),
  settled as (
    update public.scenario_notifications as notification
    set
      delivery_status = judged.delivery_status,
      failure_code = case
        when judged.delivery_status = 'sent' then null
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
      attempt_count = handover.attempt_count - (judged.result = 'released' or judged.retry_after is not null)::integer,
      unsettled_leases = 0,
      reached = case
        when judged.reached is null then handover.reached
        else array(select distinct hash from unnest(handover.reached || judged.reached) as hash order by hash)
      end,
      next_attempt_at = case
        when judged.result <> 'retry' then now()
        when judged.retry_after is not null then now() + judged.retry_after
        else now() + (0.5 + random() / 2)
          * least(interval '1 minute' * power(2, least(judged.attempt_count, 20) - 1), interval '6 hours')
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
  select
    coalesce(json_agg(coalesce(judged.refusal, judged.delivery_status) order by judged.ordinal), '[]'),
    array_agg(judged.id)
      filter (where judged.refusal is null and (judged.delivery_status = 'failed' or judged.result = 'released')),
    array_agg(judged.user_id)
      filter (where judged.refusal is null and (judged.delivery_status = 'failed' or judged.result = 'released')),
    jsonb_agg(jsonb_build_array(judged.user_id, judged.leased_at, judged.invalid_tokens))
      filter (where judged.refusal is null and judged.invalid_tokens <> '[]')
  into answers, given_back_ids, given_back_user_ids, invalid_tokens
  from judged;

  if given_back_ids is not null then
    perform scenario_private.give_turns_back(given_back_ids, given_back_user_ids);
  end if;
  if invalid_tokens is not null then
    undeleted_count := (
      select scenario_private.remove_tokens(
        array_agg((element.value ->> 0)::uuid), array_agg(token.value), array_agg((element.value ->> 1)::timestamptz)
      )
      from jsonb_array_elements(invalid_tokens) as element (value)
      cross join lateral jsonb_array_elements_text(element.value -> 2) as token (value)
    );
  end if;
  return json_build_object('answers', answers, 'undeleted_tokens', undeleted_count);
end
$$;
revoke all on function public.scenario_settle_notifications(jsonb, integer, integer) from public, anon, authenticated;
grant execute on function public.scenario_settle_notifications(jsonb, integer, integer) to service_role;
