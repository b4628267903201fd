-- The claim, first as if nobody objected.
--
-- Almost every batch meets no race, no repetition, no user who is gone and no metadata the table refuses. For it the
-- claim is two look-ups a row at the most and a plain INSERT: what it writes it knows beforehand, ids included, so that nothing
-- has to come back from the INSERT. Where a constraint objects, nothing has happened (a subtransaction), and the batch
-- goes again the careful way (scenario_private.claim_contested), which tells one row from the other.
--
-- Correctness rests on the same two unique constraints: a claimer who lost a race, or claims the same twice in a batch,
-- meets unique_violation and goes the careful way, in which ON CONFLICT sorts out who won.

-- Without metadata there is nothing to look at: called for every such row by its CHECK, it cost more than the INSERT.
alter function scenario_private.holds_personal_data(jsonb) strict;

-- Claims a batch that nobody objects to. Arrays of one length in; one outcome per element out: claimed (id is not null)
-- or skipped for a reason (invalid_claim, cooldown, milestone_reached; see scenario_private.claim), in any order.
-- What a constraint refuses (unique, foreign key or check) fails the whole batch.
-- Rows go in by user_id, scenario_type, milestone_value: batches in whatever order can't deadlock.
-- triggered_at is now(), or just after the predecessor if clocks went backwards: the chain never wedges.
-- Look-ups are lateral with limit 1, never a join the planner could turn into a scan of the table, and in the order of
-- the indexes: neighbours share pages.
create or replace function scenario_private.claim_unopposed(
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
      p_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values, p_metadata
    ) with ordinality as element (
      user_id, organization_id, scenario_type, cooldown, milestone_value, metadata, ordinal
    )
    order by element.user_id, element.scenario_type, element.milestone_value
    offset 0
  ),
  decided as materialized (
    select
      judged.*,
      case when judged.fault is null and holder.id is null then gen_random_uuid() end as id,
      greatest(now(), predecessor.triggered_at + interval '1 microsecond') as triggered_at,
      case when judged.milestone_value is null then coalesce(predecessor.triggered_at, 'epoch') end
        as cooldown_window_start,
      holder.id as held_by,
      holder.triggered_at as held_since
    from judged
    left join lateral (
      (
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
      )
      union all
      (
        select notification.id, notification.triggered_at
        from public.scenario_notifications as notification
        where judged.fault is null
          and judged.milestone_value is not null
          and notification.user_id = judged.user_id
          and notification.milestone_value = judged.milestone_value
          and notification.scenario_type = 'milestone'
          and notification.delivery_status <> 'failed'
        limit 1
      )
    ) as holder on true
    left join lateral (
      select notification.triggered_at
      from public.scenario_notifications as notification
      where judged.fault is null
        and holder.id is null
        and judged.milestone_value is null
        and notification.user_id = judged.user_id
        and notification.scenario_type = judged.scenario_type
        and notification.cooldown_window_start is not null
      order by notification.cooldown_window_start desc
      limit 1
    ) as predecessor on true
  ),
  inserted as (
    insert into public.scenario_notifications
      (id, user_id, organization_id, scenario_type, triggered_at, milestone_value, metadata, cooldown_window_start)
    select
      decided.id,
      decided.user_id,
      decided.organization_id,
      decided.scenario_type,
      decided.triggered_at,
      decided.milestone_value,
      decided.metadata,
      decided.cooldown_window_start
    from decided
    where decided.id is not null
    order by decided.user_id, decided.scenario_type, decided.milestone_value
  )
  select
    decided.ordinal,
    decided.id,
    case when decided.id is not null then decided.triggered_at end,
    case when decided.id is not null then decided.cooldown_window_start end,
    case
      when decided.id is not null then null
      when decided.fault is not null then decided.fault
      when decided.milestone_value is null then 'cooldown'
      else 'milestone_reached'
    end,
    decided.held_by,
    -- No later than a client's datetime can be.
    case
      when decided.held_since is not null and decided.cooldown is not null
        then least(decided.held_since + decided.cooldown, timestamptz '9999-12-31 23:59:59+00')
    end
  from decided
$$;
revoke all on function scenario_private.claim_unopposed(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  from public, anon, authenticated;
grant execute on function
  scenario_private.claim_unopposed(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  to service_role;

-- Claims a batch that a constraint objected to; outcomes as of scenario_private.claim. p_existing_user_ids has the users
-- who exist and can't be deleted meanwhile, in their places among p_user_ids, and null for the others: with metadata
-- judged beforehand and ON CONFLICT for those who were first, no constraint is left to object.
-- Order of the rows, triggered_at and look-ups are those of scenario_private.claim_unopposed.
create or replace function scenario_private.claim_contested(
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
  with judged as (
    select
      element.*,
      case
        when element.user_id is not null and element.existing_user_id is null then 'unknown_user'
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
      p_user_ids, p_existing_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values, p_metadata
    ) with ordinality as element (
      user_id, existing_user_id, organization_id, scenario_type, cooldown, milestone_value, metadata, ordinal
    )
    order by element.user_id, element.scenario_type, element.milestone_value
    offset 0
  ),
  looked_up as (
    select
      judged.*,
      holder.id as held_by,
      holder.triggered_at as held_since,
      case
        when judged.fault is not null then judged.fault
        when holder.id is not null and judged.milestone_value is null then 'cooldown'
        when holder.id is not null then 'milestone_reached'
        when judged.metadata is not null and not scenario_private.is_storable_metadata(judged.metadata)
          then 'invalid_metadata'
      end as refusal
    from judged
    left join lateral (
      (
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
      )
      union all
      (
        select notification.id, notification.triggered_at
        from public.scenario_notifications as notification
        where judged.fault is null
          and judged.milestone_value is not null
          and notification.user_id = judged.user_id
          and notification.milestone_value = judged.milestone_value
          and notification.scenario_type = 'milestone'
          and notification.delivery_status <> 'failed'
        limit 1
      )
    ) as holder on true
    offset 0
  ),
  checked as materialized (
    select
      looked_up.*,
      row_number() over (
        partition by looked_up.user_id, looked_up.scenario_type, looked_up.milestone_value, looked_up.refusal is null
        order by looked_up.ordinal
      ) as repetition
    from looked_up
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
    where checked.refusal is null and checked.repetition = 1
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
        checked.*,
        inserted.id,
        inserted.triggered_at,
        inserted.cooldown_window_start,
        case
          when inserted.id is not null then null
          when checked.refusal is not null then checked.refusal
          when checked.repetition > 1 then 'duplicate_in_batch'
          else 'concurrent_claim'
        end as skip_reason
      from checked
      left join inserted
        on inserted.user_id = checked.user_id
        and inserted.scenario_type = checked.scenario_type
        and inserted.milestone_value is not distinct from checked.milestone_value
        and checked.refusal is null
        and checked.repetition = 1
    ) as told
    offset 0 -- computes the winner once, and after the insert
  ) as outcome
$$;
revoke all on function
  scenario_private.claim_contested(uuid[], uuid[], uuid[], text[], interval[], integer[], jsonb[])
  from public, anon, authenticated;
grant execute on function
  scenario_private.claim_contested(uuid[], uuid[], uuid[], text[], interval[], integer[], jsonb[])
  to service_role;

-- Claims a batch: the one path every claim takes, the API's and the evaluation's. Arrays of one length in; one outcome
-- per element out, in any order: claimed (id is not null) or skipped for a reason. Each element is judged by itself, on
-- the history before the batch.
--
--   invalid_claim        a field is missing or out of bounds (the API's callers are refused before they get here)
--   invalid_metadata     the table's constraints refuse the metadata
--   unknown_user         there is no such user (any more), whatever else is wrong
--   duplicate_in_batch   an earlier element claims the same, and was the first to
--   cooldown             held_by holds the cooldown, until ends_at
--   milestone_reached    held_by is the record of this milestone
--   concurrent_claim     another claimer was first, and its row has failed or gone since: claim again
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
  from scenario_private.claim_unopposed(
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
    from scenario_private.claim_contested(
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

drop function if exists
  scenario_private.claim_valid(uuid[], uuid[], text[], interval[], integer[], jsonb[], boolean[]);

-- Claims a batch: a json array in, a json array of outcomes out, in the same order.
--   in   {"user_id", "organization_id", "scenario_type", "cooldown_seconds", "milestone_value", "metadata"}
--   out  {"id", "triggered_at", "cooldown_window_start"} of the new row, whose other columns the caller has given, or
--        {"skip_reason", "held_by", "ends_at"}
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
revoke all on function public.scenario_claim_notifications(jsonb) from public, anon, authenticated;
grant execute on function public.scenario_claim_notifications(jsonb) to service_role;
