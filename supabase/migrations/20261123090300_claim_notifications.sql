-- The claim: a pending notification comes into being if, and only if, the cooldown allows it.
--
-- A claim is a compare-and-swap on history. It reads the user's newest claim of the scenario type and writes that
-- row's triggered_at as its own cooldown_window_start, 'epoch' when there is none. Two concurrent claimers see the
-- same predecessor, write the same key, and the unique constraint one_claim_per_window lets one through. A later
-- claimer sees the new row, and the rolling check refuses it until the cooldown has passed. No locks on users, no
-- calendar slots, any isolation level (under repeatable read and above the loser gets 40001 and may try again).
--
-- The predecessor is the newest *claim*, of any status: a status change can't alter it, and a plain insert, which
-- stands outside the chain, can't give two claimers different keys. The rolling check counts plain inserts too.

-- Which of these users exist; they can't be deleted until the transaction ends. service_role may not read
-- auth.users, so the definer does, and answers with ids alone.
create or replace function scenario_private.lock_existing_users(p_user_ids uuid[])
returns setof uuid
language sql
volatile
security definer
set search_path = ''
rows 1000
as $$
  select users.id
  from auth.users as users
  where users.id = any (p_user_ids)
  order by users.id
  for key share
$$;
revoke all on function scenario_private.lock_existing_users(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.lock_existing_users(uuid[]) to service_role;

-- Whether the table's constraints accept this metadata; asked before an insert, so that one row can't lose a batch.
create or replace function scenario_private.is_storable_metadata(p_metadata jsonb)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select jsonb_typeof(p_metadata) = 'object' and octet_length(p_metadata::text) <= 8192
$$;
revoke all on function scenario_private.is_storable_metadata(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.is_storable_metadata(jsonb) to service_role;

-- The notification that stands in a claim's way as of now, outside the calling statement's snapshot (volatile, so
-- it sees what was committed since the statement began): it tells the loser of a race who won.
create or replace function scenario_private.current_holder(
  p_user_id uuid, p_scenario_type text, p_cooldown interval, p_milestone_value integer
)
returns public.scenario_notifications
language sql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
  select notification
  from public.scenario_notifications as notification
  where notification.user_id = p_user_id
    and notification.scenario_type = p_scenario_type
    and notification.delivery_status <> 'failed'
    and (
      notification.milestone_value = p_milestone_value
      or (p_milestone_value is null and notification.triggered_at > now() - p_cooldown)
    )
  order by notification.triggered_at desc
  limit 1
$$;
revoke all on function scenario_private.current_holder(uuid, text, interval, integer) from public, anon, authenticated;
grant execute on function scenario_private.current_holder(uuid, text, interval, integer) to service_role;

-- Claims a batch. Arrays of one length in (p_is_storable may be null: all metadata is then taken to be); one outcome
-- per element out: claimed (id is not null) or skipped for a reason. What the table refuses all the same, a user who
-- does not exist or metadata it does not take, fails the whole batch: see scenario_private.claim, which calls this.
--
--   invalid_claim        a field is missing or out of bounds (the API's callers are refused before they get here)
--   invalid_metadata     the table's constraints refuse the metadata
--   duplicate_in_batch   an earlier element claims the same
--   cooldown             held_by holds the cooldown, until ends_at
--   milestone_reached    held_by is the record of this milestone
--   concurrent_claim     another claimer was first, and its row has failed or gone since: claim again
--
-- Rows go in by user_id, scenario_type, milestone_value: batches in whatever order can't deadlock.
-- triggered_at is now(), or just after the predecessor if clocks went backwards: the chain never wedges.
-- Look-ups are lateral with limit 1, never a join the planner could turn into a scan of the table.
create or replace function scenario_private.claim_valid(
  p_user_ids uuid[],
  p_organization_ids uuid[],
  p_scenario_types text[],
  p_cooldowns interval[],
  p_milestone_values integer[],
  p_metadata jsonb[],
  p_is_storable boolean[]
)
returns table (
  ordinal bigint,
  id uuid,
  triggered_at timestamptz,
  cooldown_window_start timestamptz,
  skip_reason text,
  held_by uuid,
  ends_at timestamptz
)
language sql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
  with judged as (
    select
      element.*,
      case
        when element.user_id is null or element.organization_id is null then 'invalid_claim'
        when element.scenario_type = 'milestone' and element.milestone_value > 0 and element.cooldown is null then null
        when element.scenario_type in ('inactivity', 'certification_expiry', 'welcome_back')
          and element.milestone_value is null
          and element.cooldown > interval '0'
          and element.cooldown <= interval '36525 days'
          then null
        else 'invalid_claim'
      end as fault
    from unnest(
      p_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values, p_metadata, p_is_storable
    ) with ordinality as element (
      user_id, organization_id, scenario_type, cooldown, milestone_value, metadata, is_storable, ordinal
    )
    offset 0
  ),
  checked as materialized (
    select
      judged.*,
      coalesce(recent.id, reached.id) as held_by,
      coalesce(recent.triggered_at, reached.triggered_at) as held_since,
      row_number() over (
        partition by judged.user_id, judged.scenario_type, judged.milestone_value, judged.fault, judged.is_storable
        order by judged.ordinal
      ) as repetition
    from judged
    left join lateral (
      select notification.id, notification.triggered_at
      from public.scenario_notifications as notification
      where judged.fault is null
        and judged.milestone_value is null
        and notification.user_id = judged.user_id
        and notification.scenario_type = judged.scenario_type
        and notification.delivery_status <> 'failed'
        and notification.triggered_at > now() - judged.cooldown
      order by notification.triggered_at desc
      limit 1
    ) as recent on true
    left join lateral (
      select notification.id, notification.triggered_at
      from public.scenario_notifications as notification
      where judged.fault is null
        and judged.milestone_value is not null
        and notification.user_id = judged.user_id
        and notification.milestone_value = judged.milestone_value
        and notification.scenario_type = 'milestone'
        and notification.delivery_status <> 'failed'
      limit 1
    ) as reached on true
  ),
  inserted as (
    insert into public.scenario_notifications as notification
      (user_id, organization_id, scenario_type, triggered_at, milestone_value, metadata, cooldown_window_start)
    select
      checked.user_id,
      checked.organization_id,
      checked.scenario_type,
      greatest(now(), predecessor.triggered_at + interval '1 microsecond'),
      checked.milestone_value,
      checked.metadata,
      case when checked.milestone_value is null then coalesce(predecessor.triggered_at, 'epoch') end
    from checked
    left join lateral (
      select notification.triggered_at
      from public.scenario_notifications as notification
      where checked.milestone_value is null
        and notification.user_id = checked.user_id
        and notification.scenario_type = checked.scenario_type
        and notification.cooldown_window_start is not null
      order by notification.cooldown_window_start desc
      limit 1
    ) as predecessor on true
    where checked.fault is null
      and checked.is_storable is not false
      and checked.repetition = 1
      and checked.held_by is null
    order by checked.user_id, checked.scenario_type, checked.milestone_value
    on conflict do nothing
    returning
      notification.id,
      notification.user_id,
      notification.scenario_type,
      notification.milestone_value,
      notification.triggered_at,
      notification.cooldown_window_start
  )
  select
    outcome.ordinal,
    outcome.id,
    outcome.triggered_at,
    outcome.cooldown_window_start,
    case
      when (outcome.winner).id is null then outcome.skip_reason
      when outcome.milestone_value is null then 'cooldown'
      else 'milestone_reached'
    end,
    coalesce(outcome.held_by, (outcome.winner).id),
    -- No later than a client's datetime can be.
    case
      when coalesce(outcome.held_since, (outcome.winner).triggered_at) is not null and outcome.cooldown is not null
        then least(
          coalesce(outcome.held_since, (outcome.winner).triggered_at) + outcome.cooldown,
          timestamptz '9999-12-31 23:59:59+00'
        )
    end
  from (
    select
      told.*,
      case
        when told.skip_reason = 'concurrent_claim' then scenario_private.current_holder(
          told.user_id, told.scenario_type, told.cooldown, told.milestone_value
        )
      end as winner
    from (
      select
        checked.ordinal,
        checked.user_id,
        checked.scenario_type,
        checked.cooldown,
        checked.milestone_value,
        checked.held_by,
        checked.held_since,
        inserted.id,
        inserted.triggered_at,
        inserted.cooldown_window_start,
        case
          when inserted.id is not null then null
          when checked.fault is not null then checked.fault
          when checked.repetition > 1 then 'duplicate_in_batch'
          when checked.held_by is not null
            then case when checked.milestone_value is null then 'cooldown' else 'milestone_reached' end
          when not checked.is_storable then 'invalid_metadata'
          else 'concurrent_claim'
        end as skip_reason
      from checked
      left join inserted
        on inserted.user_id = checked.user_id
        and inserted.scenario_type = checked.scenario_type
        and inserted.milestone_value is not distinct from checked.milestone_value
        and checked.fault is null
        and checked.is_storable is not false
        and checked.repetition = 1
    ) as told
    offset 0 -- computes the winner once, and after the insert
  ) as outcome
  order by outcome.ordinal
$$;
revoke all on function scenario_private.claim_valid(uuid[], uuid[], text[], interval[], integer[], jsonb[], boolean[])
  from public, anon, authenticated;
grant execute on function
  scenario_private.claim_valid(uuid[], uuid[], text[], interval[], integer[], jsonb[], boolean[])
  to service_role;

-- Claims a batch: the one path every claim takes, the API's and the evaluation's. Outcomes as above, and one more:
--
--   unknown_user         there is no such user (any more), whatever else is wrong
--
-- First all is taken to be well, and the constraints are asked for nothing twice. Where one objects, nothing has
-- happened (a subtransaction), and the batch goes again without the users there are not and with its metadata judged;
-- the users there are can't be deleted then, so that nothing is left to object.
create or replace function scenario_private.claim(
  p_user_ids uuid[],
  p_organization_ids uuid[],
  p_scenario_types text[],
  p_cooldowns interval[],
  p_milestone_values integer[],
  p_metadata jsonb[]
)
returns table (
  ordinal bigint,
  id uuid,
  triggered_at timestamptz,
  cooldown_window_start timestamptz,
  skip_reason text,
  held_by uuid,
  ends_at timestamptz
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  existing_user_ids uuid[];
begin
  return query
  select *
  from scenario_private.claim_valid(
    p_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values, p_metadata, null
  );
exception
  when foreign_key_violation or check_violation then
    existing_user_ids := array(
      select existing.id
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      left join scenario_private.lock_existing_users(p_user_ids) as existing (id) on existing.id = element.user_id
      order by element.ordinal
    );
    return query
    select
      outcome.ordinal,
      outcome.id,
      outcome.triggered_at,
      outcome.cooldown_window_start,
      case
        when element.existing_id is null and element.user_id is not null then 'unknown_user'
        else outcome.skip_reason
      end,
      outcome.held_by,
      outcome.ends_at
    from scenario_private.claim_valid(
      existing_user_ids,
      p_organization_ids,
      p_scenario_types,
      p_cooldowns,
      p_milestone_values,
      p_metadata,
      array(
        select element.metadata is null or scenario_private.is_storable_metadata(element.metadata)
        from unnest(p_metadata) with ordinality as element (metadata, ordinal)
        order by element.ordinal
      )
    ) as outcome
    join unnest(p_user_ids, existing_user_ids) with ordinality as element (user_id, existing_id, ordinal)
      on element.ordinal = outcome.ordinal
    order by outcome.ordinal;
end
$$;
revoke all on function scenario_private.claim(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  from public, anon, authenticated;
grant execute on function scenario_private.claim(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  to service_role;

-- Claims a batch: a json array in, a json array of outcomes out, in the same order.
--   in   {"user_id", "organization_id", "scenario_type", "cooldown_seconds", "milestone_value", "metadata"}
--   out  {"notification": the claimed row} or {"skip_reason", "held_by", "ends_at"}
-- Raises SR001 for anything but an array of at most 20,000 claims: one statement has to fit its timeout, and
-- splitting a batch would leave a caller whose second half failed not knowing about the first.
create or replace function public.scenario_claim_notifications(p_claims jsonb)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  outcomes json;
begin
  if jsonb_typeof(p_claims) is distinct from 'array' or jsonb_array_length(p_claims) > 20000 then
    raise exception using errcode = 'SR001', message = 'expected a json array of at most 20000 claims';
  end if;

  with claim as materialized (
    select *
    from rows from (
      jsonb_to_recordset(p_claims) as (
        user_id uuid,
        organization_id uuid,
        scenario_type text,
        cooldown_seconds double precision,
        milestone_value integer,
        metadata jsonb
      )
    ) with ordinality
  ),
  outcome as (
    select outcome.*
    from (
      select
        array_agg(claim.user_id order by claim.ordinality) as user_ids,
        array_agg(claim.organization_id order by claim.ordinality) as organization_ids,
        array_agg(claim.scenario_type order by claim.ordinality) as scenario_types,
        array_agg(make_interval(secs => claim.cooldown_seconds) order by claim.ordinality) as cooldowns,
        array_agg(claim.milestone_value order by claim.ordinality) as milestone_values,
        array_agg(nullif(claim.metadata, 'null') order by claim.ordinality) as metadata
      from claim
    ) as batch
    cross join lateral scenario_private.claim(
      batch.user_ids,
      batch.organization_ids,
      batch.scenario_types,
      batch.cooldowns,
      batch.milestone_values,
      batch.metadata
    ) as outcome
  )
  select coalesce(
    json_agg(
      case
        when outcome.id is null then json_build_object(
          'skip_reason', outcome.skip_reason,
          'held_by', outcome.held_by,
          'ends_at', outcome.ends_at
        )
        else json_build_object(
          'notification', json_build_object(
            'id', outcome.id,
            'user_id', claim.user_id,
            'organization_id', claim.organization_id,
            'scenario_type', claim.scenario_type,
            'triggered_at', outcome.triggered_at,
            'delivery_status', 'pending',
            'milestone_value', claim.milestone_value,
            'metadata', nullif(claim.metadata, 'null'),
            'cooldown_window_start', outcome.cooldown_window_start
          )
        )
      end
      order by outcome.ordinal
    ),
    '[]'
  )
  into outcomes
  from outcome
  join claim on claim.ordinality = outcome.ordinal;
  return outcomes;
end
$$;
revoke all on function public.scenario_claim_notifications(jsonb) from public, anon, authenticated;
grant execute on function public.scenario_claim_notifications(jsonb) to service_role;
