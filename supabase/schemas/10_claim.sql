-- The claim: a pending notification comes into being if, and only if, nothing holds against it.
--
-- A claim is a compare-and-swap on history. It reads the user's newest claim of the scenario type and writes that
-- row's triggered_at as its own cooldown_window_start, 'epoch' when there is none. Two concurrent claimers see the
-- same predecessor, write the same key, and the unique constraint one_claim_per_window lets one through. A later
-- claimer sees the new row, and the rolling check refuses it until the cooldown has passed. No locks on users, no
-- calendar slots, any isolation level (under repeatable read and above the loser gets 40001 and may try again).
--
-- The predecessor is the newest *claim*, of any status: a status change can't alter it, and a plain insert, which
-- stands outside the chain, can't give two claimers different keys. The rolling check counts plain inserts too.
--
-- The walk of a batch:
--   scenario_claim_notifications   the API: json in, json out
--   scenario_private.claim         the one way every claim takes, the API's and the evaluation's:
--     claim_fast_path                judges all rows and inserts those that nothing refuses, with a plain INSERT
--     claim_row_by_row               only if a constraint objected to that: finds out which rows it meant
--   scenario_private.judge_claims  what both ways share: each row's verdict, on the history before the batch
--
-- The constraints decide. The fast path trusts them with everything that is rare: a lost race, a repetition in the
-- batch, a user who is gone, an unknown scenario type, metadata that the table refuses. An objection undoes the whole
-- batch (a subtransaction), and the second way judges what the first one trusted.
--
-- In both ways rows go in by user_id, scenario_type, milestone_value: batches in whatever order can't deadlock.

-- Judges each claim by itself, on the history before the batch. Arrays of one length in; a row per element out, in the
-- order in which they are inserted. refusal is null for a claim that may be granted:
--
--   unknown_user         p_existing_user_ids has no user in the element's place
--   invalid_claim        a field is missing or out of bounds, or p_known_types lacks the scenario type
--   cooldown             held_by holds the cooldown, since held_since
--   milestone_reached    held_by is the record of this milestone
--   invalid_metadata     the table's constraints refuse the metadata
--
-- The fast path gives p_user_ids again as p_existing_user_ids, and null as p_known_types: users, types and metadata are
-- then left to the constraints. window_start and triggered_at are the new row's; triggered_at is now(), or just after
-- the predecessor if clocks went backwards, so that the chain never wedges.
-- Look-ups are lateral with limit 1, never a join the planner could turn into a scan of the table, and in the order of
-- the indexes: neighbours share pages.
create or replace function scenario_private.judge_claims(
  p_user_ids uuid[],
  p_existing_user_ids uuid[],
  p_organization_ids uuid[],
  p_scenario_types text[],
  p_cooldowns interval[],
  p_milestone_values integer[],
  p_metadata jsonb[],
  p_known_types text[]
)
returns table (
  ordinal bigint,
  user_id uuid,
  organization_id uuid,
  scenario_type text,
  cooldown interval,
  milestone_value integer,
  metadata jsonb,
  refusal text,
  held_by uuid,
  held_since timestamptz,
  triggered_at timestamptz,
  window_start timestamptz
)
language sql
stable
set search_path = ''
set timezone = 'UTC'
rows 1000
as $$
  select
    looked_up.ordinal,
    looked_up.user_id,
    looked_up.organization_id,
    looked_up.scenario_type,
    looked_up.cooldown,
    looked_up.milestone_value,
    looked_up.metadata,
    looked_up.refusal,
    looked_up.held_by,
    looked_up.held_since,
    greatest(now(), predecessor.triggered_at + interval '1 microsecond'),
    case when looked_up.milestone_value is null then coalesce(predecessor.triggered_at, 'epoch') end
  from (
    select
      checked.*,
      holder.id as held_by,
      holder.triggered_at as held_since,
      case
        when checked.fault is not null then checked.fault
        when holder.id is not null and checked.milestone_value is null then 'cooldown'
        when holder.id is not null then 'milestone_reached'
        when p_known_types is not null
          and checked.metadata is not null
          and not scenario_private.is_storable_metadata(checked.metadata)
          then 'invalid_metadata'
      end as refusal
    from (
      select
        element.*,
        case
          when element.user_id is not null and element.existing_user_id is null then 'unknown_user'
          when element.user_id is null
            or element.organization_id is null
            or element.scenario_type is null
            or element.scenario_type <> all (p_known_types)
            then 'invalid_claim'
          when element.scenario_type = 'milestone'
            then case when element.milestone_value > 0 and element.cooldown is null then null else 'invalid_claim' end
          when element.milestone_value is null
            and element.cooldown > interval '0'
            and element.cooldown <= interval '36525 days'
            then null
          else 'invalid_claim'
        end as fault
      from unnest(
        p_user_ids, p_existing_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values,
        p_metadata
      ) with ordinality as element (
        user_id, existing_user_id, organization_id, scenario_type, cooldown, milestone_value, metadata, ordinal
      )
      order by element.user_id, element.scenario_type, element.milestone_value
      offset 0
    ) as checked
    left join lateral (
      (
        select holding.id, holding.triggered_at
        from scenario_private.holding as holding
        where checked.fault is null
          and checked.milestone_value is null
          and holding.user_id = checked.user_id
          and holding.scenario_type = checked.scenario_type
          and holding.triggered_at > now() - checked.cooldown
        order by holding.triggered_at desc
        limit 1
      )
      union all
      (
        select holding.id, holding.triggered_at
        from scenario_private.holding as holding
        where checked.fault is null
          and checked.milestone_value is not null
          and holding.user_id = checked.user_id
          and holding.milestone_value = checked.milestone_value
          and holding.scenario_type = 'milestone'
        limit 1
      )
    ) as holder on true
    offset 0
  ) as looked_up
  left join lateral (
    select notification.triggered_at
    from public.scenario_notifications as notification
    where looked_up.refusal is null
      and looked_up.milestone_value is null
      and notification.user_id = looked_up.user_id
      and notification.scenario_type = looked_up.scenario_type
      and notification.cooldown_window_start is not null
    order by notification.cooldown_window_start desc
    limit 1
  ) as predecessor on true
$$;
revoke all on function
  scenario_private.judge_claims(uuid[], uuid[], uuid[], text[], interval[], integer[], jsonb[], text[])
  from public, anon, authenticated;
grant execute on function
  scenario_private.judge_claims(uuid[], uuid[], uuid[], text[], interval[], integer[], jsonb[], text[])
  to service_role;

-- Claims a batch to which no constraint objects: outcomes as of scenario_private.claim. Ids are made beforehand, so
-- that the INSERT needs neither ON CONFLICT nor RETURNING. An objection (unique, foreign key or check) raises, and
-- nothing is inserted.
create or replace function scenario_private.claim_fast_path(
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
language sql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
  with judged as materialized (
    select judged.*, case when judged.refusal is null then gen_random_uuid() end as id
    from scenario_private.judge_claims(
      p_user_ids, p_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values, p_metadata, null
    ) as judged
  ),
  inserted as (
    insert into public.scenario_notifications
      (id, user_id, organization_id, scenario_type, triggered_at, milestone_value, metadata, cooldown_window_start)
    select
      judged.id,
      judged.user_id,
      judged.organization_id,
      judged.scenario_type,
      judged.triggered_at,
      judged.milestone_value,
      judged.metadata,
      judged.window_start
    from judged
    where judged.id is not null
    order by judged.user_id, judged.scenario_type, judged.milestone_value
  )
  select
    judged.ordinal,
    judged.id,
    case when judged.id is not null then judged.triggered_at end,
    case when judged.id is not null then judged.window_start end,
    judged.refusal,
    judged.held_by,
    -- No later than a client's datetime can be.
    case
      when judged.held_since is not null and judged.cooldown is not null
        then least(judged.held_since + judged.cooldown, timestamptz '9999-12-31 23:59:59+00')
    end
  from judged
$$;
revoke all on function scenario_private.claim_fast_path(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  from public, anon, authenticated;
grant execute on function
  scenario_private.claim_fast_path(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  to service_role;

-- Claims a batch to which a constraint objected: outcomes as of scenario_private.claim. p_existing_user_ids has the
-- users who exist and can't be deleted meanwhile, in their places among p_user_ids, and null for the others. Metadata
-- and types are judged beforehand, and ON CONFLICT leaves out whoever lost a race: no constraint is left to object.
create or replace function scenario_private.claim_row_by_row(
  p_user_ids uuid[],
  p_existing_user_ids uuid[],
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
language sql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
  with judged as materialized (
    select
      judged.*,
      row_number() over (
        partition by judged.user_id, judged.scenario_type, judged.milestone_value, judged.refusal is null
        order by judged.ordinal
      ) as repetition
    from scenario_private.judge_claims(
      p_user_ids,
      p_existing_user_ids,
      p_organization_ids,
      p_scenario_types,
      p_cooldowns,
      p_milestone_values,
      p_metadata,
      scenario_private.scenario_types()
    ) as judged
  ),
  inserted as (
    insert into public.scenario_notifications as notification
      (user_id, organization_id, scenario_type, triggered_at, milestone_value, metadata, cooldown_window_start)
    select
      judged.user_id,
      judged.organization_id,
      judged.scenario_type,
      judged.triggered_at,
      judged.milestone_value,
      judged.metadata,
      judged.window_start
    from judged
    where judged.refusal is null and judged.repetition = 1
    order by judged.user_id, judged.scenario_type, judged.milestone_value
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
      decided.*,
      case
        when decided.skip_reason = 'concurrent_claim' then scenario_private.current_holder(
          decided.user_id, decided.scenario_type, decided.cooldown, decided.milestone_value
        )
      end as winner
    from (
      select
        judged.ordinal,
        judged.user_id,
        judged.scenario_type,
        judged.cooldown,
        judged.milestone_value,
        judged.held_by,
        judged.held_since,
        inserted.id,
        inserted.triggered_at,
        inserted.cooldown_window_start,
        case
          when inserted.id is not null then null
          when judged.refusal is not null then judged.refusal
          when judged.repetition > 1 then 'duplicate_in_batch'
          else 'concurrent_claim'
        end as skip_reason
      from judged
      left join inserted
        on inserted.user_id = judged.user_id
        and inserted.scenario_type = judged.scenario_type
        and inserted.milestone_value is not distinct from judged.milestone_value
        and judged.refusal is null
        and judged.repetition = 1
    ) as decided
    offset 0 -- looks up the winner once, and after the insert
  ) as outcome
$$;
revoke all on function
  scenario_private.claim_row_by_row(uuid[], uuid[], uuid[], text[], interval[], integer[], jsonb[])
  from public, anon, authenticated;
grant execute on function
  scenario_private.claim_row_by_row(uuid[], uuid[], uuid[], text[], interval[], integer[], jsonb[])
  to service_role;

-- Claims a batch. Arrays of one length in; one outcome per element out, in any order: claimed (id is not null) or
-- skipped for a reason, one of scenario_private.judge_claims or:
--
--   duplicate_in_batch   an earlier element of the batch claims the same
--   concurrent_claim     another claimer was first, and its row has failed or gone since: claim again
--
-- Each element is judged on the history before the batch. Who lost a race is told cooldown or milestone_reached, with
-- the winner as held_by.
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
  from scenario_private.claim_fast_path(
    p_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values, p_metadata
  );
exception
  when unique_violation or foreign_key_violation or check_violation then
    existing_user_ids := array(
      select existing.id
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      left join scenario_private.lock_existing_users(p_user_ids) as existing (id) on existing.id = element.user_id
      order by element.ordinal
    );
    return query
    select *
    from scenario_private.claim_row_by_row(
      p_user_ids,
      existing_user_ids,
      p_organization_ids,
      p_scenario_types,
      p_cooldowns,
      p_milestone_values,
      p_metadata
    );
end
$$;
revoke all on function scenario_private.claim(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  from public, anon, authenticated;
grant execute on function scenario_private.claim(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  to service_role;

-- Claims a batch: a json array in, a json array of outcomes out, in the same order.
--   in   {"user_id", "organization_id", "scenario_type", "cooldown_seconds", "milestone_value", "metadata"}
--   out  {"id", "triggered_at", "cooldown_window_start"} of the new row, whose other columns the caller has given, or
--        {"skip_reason", "held_by", "ends_at"}
-- Raises SR001 for anything but an array, SR003 for more than 20,000 claims: one statement has to fit its timeout, and
-- splitting a batch would leave a caller whose second half failed not knowing about the first.
create or replace function public.scenario_claim_notifications(p_claims jsonb, p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  outcomes json;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_array('p_claims', p_claims, 20000);

  select coalesce(
    json_agg(
      case
        when outcome.id is null then json_build_object(
          'skip_reason', outcome.skip_reason,
          'held_by', outcome.held_by,
          'ends_at', outcome.ends_at
        )
        else json_build_object(
          'id', outcome.id,
          'triggered_at', outcome.triggered_at,
          'cooldown_window_start', outcome.cooldown_window_start
        )
      end
      order by outcome.ordinal
    ),
    '[]'
  )
  into outcomes
  from (
    select
      array_agg(claim.user_id) as user_ids,
      array_agg(claim.organization_id) as organization_ids,
      array_agg(claim.scenario_type) as scenario_types,
      array_agg(make_interval(secs => claim.cooldown_seconds)) as cooldowns,
      array_agg(claim.milestone_value) as milestone_values,
      array_agg(nullif(claim.metadata, 'null')) as metadata
    from (
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
      order by ordinality
    ) as claim
  ) as batch
  cross join lateral scenario_private.claim(
    batch.user_ids,
    batch.organization_ids,
    batch.scenario_types,
    batch.cooldowns,
    batch.milestone_values,
    batch.metadata
  ) as outcome;
  return outcomes;
end
$$;
revoke all on function public.scenario_claim_notifications(jsonb, integer) from public, anon, authenticated;
grant execute on function public.scenario_claim_notifications(jsonb, integer) to service_role;
