-- The claim: a pending notification comes into being if, and only if, nothing holds against it.
--
-- A claim is a compare-and-swap on history. It reads the user's newest claim of the scenario type and writes that
-- row's triggered_at as its own cooldown_window_start, 'epoch' when there is none. Two concurrent claimers see the
-- same predecessor, write the same key, and the unique constraint one_claim_per_window lets one through. A later
-- claimer sees the new row, and what it holds (09_holding.sql) refuses the claim. No locks on users, no calendar slots,
-- any isolation level (under repeatable read and above the loser gets 40001 and may try again).
--
-- The predecessor is the newest *claim*, of any status and about anything: a status change can't alter it, and a plain
-- insert, which stands outside the chain, can't give two claimers different keys.
--
-- The walk of a batch:
--   scenario_claim_notifications        the API: json in, json out
--   scenario_private.claim              the one way every claim takes, the API's and the evaluation's:
--     scenario_private.claim_once         judges, inserts and answers in one statement, with a plain INSERT
--     scenario_private.claim_once         again, with care, only if a constraint objected to that: row by row; and
--                                         once more where a race was lost, which may have been about another subject
--
-- The constraints decide. The first time trusts them with everything that is rare: a lost race, a repetition in the
-- batch, a user who is gone, an unknown scenario type, metadata that the table refuses. An objection undoes the whole
-- batch (a subtransaction), and the second time judges what the first one trusted.
--
-- Rows go in by user_id, scenario_type, milestone_value: batches in whatever order can't deadlock.

-- A prefix for the ids of a batch, which end with the place in it, in five hexadecimal digits: 48 bits of the clock,
-- version 7, 54 random bits. Neighbours in time are neighbours in the index, and the answer needs no ids.
create or replace function scenario_private.new_id_prefix()
returns text
language sql
volatile
set search_path = ''
as $$
  select
    lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
      || '7' || substr(random.digits, 14, 3) || substr(random.digits, 17, 11)
  from (select replace(gen_random_uuid()::text, '-', '') as digits) as random
$$;
revoke all on function scenario_private.new_id_prefix() from public, anon, authenticated;
grant execute on function scenario_private.new_id_prefix() to service_role;

-- What became of a batch: the exceptions, by columns. Every other place was claimed as the batch's id prefix and its
-- place, triggered now, after 'epoch', with all its subjects new, to be delivered within 7 days. It has no rows: it is
-- the type of an answer, of arrays as they are, for json would be read again by whoever asks for a part of it.
create or replace view scenario_private.claim_answer
with (security_invoker = true)
as
select
  null::bigint[] as skipped_places,
  null::text[] as skip_reasons,
  null::uuid[] as held_by,
  null::timestamptz[] as ends_at,
  null::bigint[] as following_places,
  null::timestamptz[] as following_at,
  null::timestamptz[] as following_windows,
  null::bigint[] as partly_places,
  null::json as partly_subjects,
  null::bigint[] as deliver_places,
  null::timestamptz[] as deliver_until,
  null::bigint[] as lost_places
where false;
comment on view scenario_private.claim_answer is
  'What a claim answers: the exceptions of a batch, by columns. It has no rows.';
comment on column scenario_private.claim_answer.skipped_places is
  'Who was refused, with the reason, what holds (held_by) and until when (ends_at, infinity for good).';
comment on column scenario_private.claim_answer.following_places is
  'Claimed after an earlier claim: its triggered_at (following_at) and cooldown_window_start (following_windows).';
comment on column scenario_private.claim_answer.partly_places is
  'Claimed, and some of the subjects are held already: those that are not (partly_subjects).';
comment on column scenario_private.claim_answer.deliver_places is
  'Claimed, and deliver_until is not 7 days from now.';
comment on column scenario_private.claim_answer.lost_places is
  'With care: who lost a race.';
revoke all on table scenario_private.claim_answer from public, anon, authenticated;
grant select on table scenario_private.claim_answer to service_role;

-- Judges a batch, inserts what nothing refuses, and answers, all in one statement: exact at whatever isolation level.
--
-- Arrays of one length; p_organization_id, p_scenario_type, p_cooldown and p_metadata stand for a column that is null
-- or null in a place. p_subjects has a json array or null in each place.
--   p_predecessors       of an evaluation, which has judged on the same snapshot: the triggered_at of the claim before
--                        (null: none). Nothing is judged here then but what the constraints are about.
--   p_existing_user_ids  with care: the users who exist and can't be deleted meanwhile, in their places; else null
--   p_judges_values      with care: whether types, subjects and metadata are judged too, each value a second time
--   p_places             with care: the places to claim now; null: all
--   p_leased_until       for claims with a lease
--
-- Answers with scenario_private.claim_answer. ends_at is what is known without looking at leases: a pending one
-- holds longer if it is sent later.
--
-- Reasons: unknown_user; invalid_claim (a field is missing or out of bounds); cooldown and milestone_reached (held_by
-- holds, until ends_at); invalid_metadata; duplicate_in_batch (an earlier place names the same); concurrent_claim (an
-- earlier place claims the same user and type about something else: claim again).
create or replace function scenario_private.claim_once(
  p_id_prefix text,
  p_origin text,
  p_user_ids uuid[],
  p_organization_ids uuid[],
  p_organization_id uuid,
  p_scenario_types text[],
  p_scenario_type text,
  p_cooldowns interval[],
  p_cooldown interval,
  p_milestone_values integer[],
  p_metadata jsonb[],
  p_all_metadata jsonb,
  p_subjects jsonb[],
  p_predecessors timestamptz[],
  p_existing_user_ids uuid[],
  p_judges_values boolean,
  p_places bigint[],
  p_leased_until timestamptz
)
returns scenario_private.claim_answer
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
-- One plan for all batches, made once a connection: planning takes longer than a small batch, and compiling longer than
-- a large one. A plan that was made while a table was empty must not read it whole for ever.
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set work_mem = '32MB'
as $$
declare
  with_care constant boolean := p_existing_user_ids is not null;
  is_judged constant boolean := p_predecessors is not null;
  known_types constant text[] := case when p_judges_values then scenario_private.scenario_types() end;
  -- Null where nothing is out of the ordinary, as mostly; then nothing is looked up.
  deadlines constant jsonb := scenario_private.deadlines(
    p_organization_ids, p_organization_id, p_scenario_types, p_scenario_type
  );
  usual_end constant timestamptz := now() + interval '7 days';
  answer scenario_private.claim_answer;
begin
  with judged as (
    select
      element.*,
      case
        when element.user_id is null or element.organization_id is null or element.scenario_type is null
          then 'invalid_claim'
        when with_care and element.existing_user_id is null then 'unknown_user'
        when element.scenario_type <> all (known_types) then 'invalid_claim'
        when (
          case
            when element.scenario_type = 'milestone' then element.milestone_value > 0 and element.cooldown is null
            else element.milestone_value is null
              and element.cooldown > interval '0'
              and element.cooldown <= interval '36525 days'
          end
        ) is not true
          then 'invalid_claim'
        when known_types is null then null
        when element.subjects <> '{}' and not scenario_private.are_storable_subjects(element.subjects)
          then 'invalid_claim'
        when element.metadata is not null and not scenario_private.is_storable_metadata(element.metadata)
          then 'invalid_metadata'
      end as fault
    from (
      select
        part.place,
        part.user_id,
        coalesce(part.organization_id, p_organization_id) as organization_id,
        coalesce(part.scenario_type, p_scenario_type) as scenario_type,
        coalesce(part.cooldown, p_cooldown) as cooldown,
        part.milestone_value,
        coalesce(nullif(part.metadata, 'null'), p_all_metadata) as metadata,
        case
          when nullif(part.subjects, 'null') is null then '{}'
          else array(
            -- In an order that clients know, whatever the database's collation.
            select distinct subject.value collate "C" as value
            from jsonb_array_elements_text(part.subjects) as subject (value)
            order by value
          )
        end as subjects,
        part.predecessor_at,
        part.existing_user_id
      from unnest(
        p_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values, p_metadata, p_subjects,
        p_predecessors, p_existing_user_ids
      ) with ordinality as part (
        user_id, organization_id, scenario_type, cooldown, milestone_value, metadata, subjects, predecessor_at,
        existing_user_id, place
      )
      where p_places is null or part.place = any (p_places)
      offset 0
    ) as element
    order by element.user_id, element.scenario_type, element.milestone_value, element.place
    offset 0
  ),
  -- One look tells most of it: nothing yet, or the newest one holds.
  probed as materialized (
    select
      judged.*,
      coalesce(newest.ends_at > now() and judged.subjects = '{}', false) as is_refused,
      newest.id as newest_id,
      newest.triggered_at as newest_at,
      newest.cooldown_window_start as newest_window,
      newest.ends_at as newest_ends_at,
      coalesce(
        newest.ends_at > now()
          and (judged.subjects = '{}' or newest.subjects = '{}' or newest.subjects && judged.subjects),
        false
      ) as newest_holds
    from judged
    left join lateral (
      select
        hold.id,
        hold.triggered_at,
        hold.cooldown_window_start,
        hold.subjects,
        case
          when hold.holds_from > now() - judged.cooldown
            then greatest(hold.lasts_until, hold.holds_from + judged.cooldown)
          else greatest(hold.holds_until, hold.holds_since + judged.cooldown)
        end as ends_at
      from scenario_private.hold as hold
      where judged.fault is null
        and judged.milestone_value is null
        and not is_judged
        and hold.user_id = judged.user_id
        and hold.scenario_type = judged.scenario_type
      order by hold.triggered_at desc
      limit 1
    ) as newest on true
  ),
  -- Where the newest one doesn't settle it, whatever may hold: looked up for few.
  searched as (
    select
      probed.*,
      case
        when probed.newest_id is not null and not probed.newest_holds then (
          select holding
          from scenario_private.holding as holding
          where holding.user_id = probed.user_id
            and holding.scenario_type = probed.scenario_type
            and holding.found_at > now() - probed.cooldown - interval '8 days'
            and (holding.outlasts or probed.newest_at > now() - probed.cooldown - interval '8 days')
            and (holding.holds_until > now() or holding.holds_since > now() - probed.cooldown)
            and (probed.subjects = '{}' or holding.subjects = '{}' or holding.subjects && probed.subjects)
          limit 1
        )
      end as other,
      case
        when probed.fault is null and probed.milestone_value is not null and not is_judged then coalesce(
          (
            select hold
            from scenario_private.hold as hold
            where hold.user_id = probed.user_id
              and hold.milestone_value = probed.milestone_value
              and hold.scenario_type = 'milestone'
              and (not hold.is_failed or hold.held_until = 'infinity')
              and hold.holds_until > now()
            limit 1
          ),
          (
            select hold
            from scenario_private.hold as hold
            where hold.user_id = probed.user_id
              and hold.milestone_value = probed.milestone_value
              and hold.scenario_type = 'milestone'
              and hold.outlasts_at > now()
              and hold.is_failed
              and hold.holds_until > now()
            limit 1
          )
        )
      end as record
    from probed
    where not probed.is_refused
    offset 0
  ),
  held as (
    select
      searched.*,
      case
        when searched.newest_holds then searched.newest_id
        else coalesce((searched.other).id, (searched.record).id)
      end as held_by,
      case
        when searched.newest_holds then searched.newest_ends_at
        when (searched.other).holds_from > now() - searched.cooldown
          then greatest((searched.other).lasts_until, (searched.other).holds_from + searched.cooldown)
        when (searched.other).id is not null
          then greatest((searched.other).holds_until, (searched.other).holds_since + searched.cooldown)
        else (searched.record).holds_until
      end as ends_at
    from searched
    offset 0
  ),
  decided as materialized (
    select
      judged.*,
      case
        when judged.fault is not null then judged.fault
        when judged.held_by is null or judged.fresh_subjects is not null then null
        when judged.milestone_value is null then 'cooldown'
        else 'milestone_reached'
      end as refusal,
      -- Just after the predecessor if clocks went backwards, so that the chain never wedges.
      greatest(now(), judged.predecessor_at + interval '1 microsecond') as triggered_at,
      case when judged.milestone_value is null then coalesce(judged.predecessor_at, 'epoch') end as window_start
    from (
      select
        held.place,
        held.user_id,
        held.organization_id,
        held.scenario_type,
        held.cooldown,
        held.milestone_value,
        held.metadata,
        held.subjects,
        held.fault,
        held.held_by,
        held.ends_at,
        case
          when held.held_by is not null and held.milestone_value is null and held.subjects <> '{}' then (
            select array_agg(subject.value order by subject.ordinal)
            from unnest(held.subjects) with ordinality as subject (value, ordinal)
            where not exists (
              select
              from scenario_private.holding as holding
              where holding.user_id = held.user_id
                and holding.scenario_type = held.scenario_type
                and holding.found_at > now() - held.cooldown - interval '8 days'
                and (holding.holds_until > now() or holding.holds_since > now() - held.cooldown)
                and (holding.subjects = '{}' or subject.value = any (holding.subjects))
            )
          )
        end as fresh_subjects,
        case
          when is_judged then held.predecessor_at
          when held.newest_window is not null then held.newest_at
          when held.newest_id is not null then (
            select notification.triggered_at
            from public.scenario_notifications as notification
            where notification.user_id = held.user_id
              and notification.scenario_type = held.scenario_type
              and notification.cooldown_window_start is not null
            order by notification.cooldown_window_start desc
            limit 1
          )
        end as predecessor_at
      from held
      offset 0
    ) as judged
  ),
  granted as materialized (
    select
      decided.*,
      (p_id_prefix || lpad(to_hex(decided.place), 5, '0'))::uuid as id,
      case
        when moment.of is null and decided.triggered_at = now() then usual_end
        when moment.of is null then decided.triggered_at + interval '7 days'
        else greatest(decided.triggered_at + interval '1 second', (moment.of ->> 1)::timestamptz)
      end as deliver_until,
      -- Looked at again once a day: a policy may change.
      case
        when moment.of is null then now()
        else least((moment.of ->> 0)::timestamptz, now() + interval '1 day')
      end as first_at
    from decided
    cross join lateral (
      select case
        when deadlines is not null then deadlines -> (decided.organization_id || ' ' || decided.scenario_type)
      end as of
      offset 0
    ) as moment
    where decided.refusal is null
    order by decided.user_id, decided.scenario_type, decided.milestone_value, decided.place
  ),
  inserted as (
    insert into public.scenario_notifications
      (
        id, user_id, organization_id, scenario_type, triggered_at, milestone_value, metadata, cooldown_window_start,
        origin, cooldown, subjects, deliver_until
      )
    select
      granted.id, granted.user_id, granted.organization_id, granted.scenario_type, granted.triggered_at,
      granted.milestone_value, granted.metadata, granted.window_start,
      p_origin, granted.cooldown, granted.subjects, granted.deliver_until
    from granted
    where not with_care
  ),
  inserted_with_care as (
    insert into public.scenario_notifications as notification
      (
        id, user_id, organization_id, scenario_type, triggered_at, milestone_value, metadata, cooldown_window_start,
        origin, cooldown, subjects, deliver_until
      )
    select
      granted.id, granted.user_id, granted.organization_id, granted.scenario_type, granted.triggered_at,
      granted.milestone_value, granted.metadata, granted.window_start,
      p_origin, granted.cooldown, granted.subjects, granted.deliver_until
    from granted
    where with_care
    on conflict do nothing
    returning notification.id, notification.user_id, notification.scenario_type, notification.milestone_value,
      notification.subjects
  ),
  handed_over as (
    insert into scenario_private.handover
      (
        notification_id, user_id, organization_id, scenario_type, triggered_at, next_attempt_at, leased_at,
        leased_until, lease_number, attempt_count
      )
    select
      granted.id, granted.user_id, granted.organization_id, granted.scenario_type, granted.triggered_at,
      granted.first_at,
      case when p_leased_until is not null then now() end, p_leased_until,
      (p_leased_until is not null)::integer, (p_leased_until is not null)::integer
    from granted
    where not with_care or exists (select from inserted_with_care as inserted where inserted.id = granted.id)
  ),
  -- What is not plainly claimed.
  exception as (
    select
      probed.place,
      'cooldown' as reason,
      probed.newest_id as held_by,
      probed.newest_ends_at as ends_at,
      null::timestamptz as triggered_at,
      null::timestamptz as window_start,
      null::text[] as fresh_subjects
    from probed
    where probed.is_refused
    union all
    select
      decided.place,
      case
        when decided.refusal is not null then decided.refusal
        when not with_care or inserted.id is not null then null
        when earlier.id is null then 'lost'
        when earlier.subjects = '{}' or (decided.subjects <> '{}' and decided.subjects <@ earlier.subjects)
          then 'duplicate_in_batch'
        else 'concurrent_claim'
      end,
      decided.held_by,
      decided.ends_at,
      decided.triggered_at,
      decided.window_start,
      decided.fresh_subjects
    from decided
    left join inserted_with_care as inserted
      on inserted.id = case when with_care then (p_id_prefix || lpad(to_hex(decided.place), 5, '0'))::uuid end
    -- Of the same user and type (and milestone) one place has come in: the first.
    left join inserted_with_care as earlier
      on earlier.user_id = case when decided.refusal is null then decided.user_id end
      and earlier.scenario_type = decided.scenario_type
      and earlier.milestone_value is not distinct from decided.milestone_value
    where with_care
      or decided.refusal is not null
      or decided.window_start > 'epoch'
      or decided.fresh_subjects is not null
  ),
  deferred as (
    select granted.place, granted.deliver_until
    from granted
    where granted.deliver_until <> usual_end
      and (not with_care or exists (select from inserted_with_care as inserted where inserted.id = granted.id))
  )
  select
    array_agg(exception.place) filter (where exception.reason <> 'lost'),
    array_agg(exception.reason) filter (where exception.reason <> 'lost'),
    array_agg(exception.held_by) filter (where exception.reason <> 'lost'),
    array_agg(
      -- No later than a client's datetime can be; null for good.
      case when exception.ends_at <> 'infinity' then least(exception.ends_at, '9999-12-31 23:59:59+00') end
    ) filter (where exception.reason <> 'lost'),
    array_agg(exception.place) filter (where exception.reason is null and exception.window_start > 'epoch'),
    array_agg(exception.triggered_at) filter (where exception.reason is null and exception.window_start > 'epoch'),
    array_agg(exception.window_start) filter (where exception.reason is null and exception.window_start > 'epoch'),
    array_agg(exception.place) filter (where exception.reason is null and exception.fresh_subjects is not null),
    json_agg(exception.fresh_subjects) filter (where exception.reason is null and exception.fresh_subjects is not null),
    (select array_agg(deferred.place) from deferred),
    (select array_agg(deferred.deliver_until) from deferred),
    array_agg(exception.place) filter (where exception.reason = 'lost')
  into answer
  from exception;
  return answer;
end
$$;
revoke all on function
  scenario_private.claim_once(
    text, text, uuid[], uuid[], uuid, text[], text, interval[], interval, integer[], jsonb[], jsonb, jsonb[],
    timestamptz[], uuid[], boolean, bigint[], timestamptz
  )
  from public, anon, authenticated;
grant execute on function
  scenario_private.claim_once(
    text, text, uuid[], uuid[], uuid, text[], text, interval[], interval, integer[], jsonb[], jsonb, jsonb[],
    timestamptz[], uuid[], boolean, bigint[], timestamptz
  )
  to service_role;

-- Claims a batch: arguments and answer of scenario_private.claim_once. Who lost a race is judged again, on what was
-- committed meanwhile; an evaluation's claims are not (it asks its rule again), and stay lost.
create or replace function scenario_private.claim(
  p_id_prefix text,
  p_origin text,
  p_user_ids uuid[],
  p_organization_ids uuid[],
  p_organization_id uuid,
  p_scenario_types text[],
  p_scenario_type text,
  p_cooldowns interval[],
  p_cooldown interval,
  p_milestone_values integer[],
  p_metadata jsonb[],
  p_all_metadata jsonb,
  p_subjects jsonb[],
  p_predecessors timestamptz[],
  p_places bigint[],
  p_leased_until timestamptz
)
returns scenario_private.claim_answer
language plpgsql
volatile
set search_path = ''
as $$
declare
  existing_user_ids uuid[];
  judges_values boolean := false;
  turns_lost integer := 0;
  answer scenario_private.claim_answer;
begin
  -- Much metadata is judged by the table's constraints once, not twice: with care from the start.
  begin
    if pg_column_size(p_metadata) > 4194304 then
      raise unique_violation;
    end if;
    return scenario_private.claim_once(
      p_id_prefix, p_origin, p_user_ids, p_organization_ids, p_organization_id, p_scenario_types, p_scenario_type,
      p_cooldowns, p_cooldown, p_milestone_values, p_metadata, p_all_metadata, p_subjects, p_predecessors,
      null, false, p_places, p_leased_until
    );
  exception
    when unique_violation or foreign_key_violation then null;
    when check_violation then judges_values := true;
  end;

  existing_user_ids := array(
    select existing.id
    from unnest(p_user_ids) with ordinality as element (user_id, place)
    left join scenario_private.lock_existing_users(p_user_ids) as existing (id) on existing.id = element.user_id
    order by element.place
  );
  perform scenario_private.end_suppressions(p_user_ids);
  -- A turn that lost a race is undone and made again as a whole, so that rows always go in in their order: tried again
  -- for the losers alone, beside what it had inserted already, two batches could wait for each other.
  loop
    begin
      answer := scenario_private.claim_once(
        p_id_prefix, p_origin, p_user_ids, p_organization_ids, p_organization_id, p_scenario_types, p_scenario_type,
        p_cooldowns, p_cooldown, p_milestone_values, p_metadata, p_all_metadata, p_subjects, p_predecessors,
        existing_user_ids, judges_values, p_places, p_leased_until
      );
      if turns_lost < 8 and p_predecessors is null and answer.lost_places is not null then
        raise exception using errcode = 'triggered_action_exception', message = 'lost a race';
      end if;
      exit;
    exception
      when triggered_action_exception then
        turns_lost := turns_lost + 1;
      when check_violation then
        if judges_values then
          raise;
        end if;
        judges_values := true;
    end;
  end loop;
  return answer;
end
$$;
revoke all on function
  scenario_private.claim(
    text, text, uuid[], uuid[], uuid, text[], text, interval[], interval, integer[], jsonb[], jsonb, jsonb[],
    timestamptz[], bigint[], timestamptz
  )
  from public, anon, authenticated;
grant execute on function
  scenario_private.claim(
    text, text, uuid[], uuid[], uuid, text[], text, interval[], interval, integer[], jsonb[], jsonb, jsonb[],
    timestamptz[], bigint[], timestamptz
  )
  to service_role;

-- Whether a claim's subjects can be read: a list of plain values, or none.
create or replace function scenario_private.are_readable_subjects(p_subjects jsonb)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select case jsonb_typeof(p_subjects)
    when 'array' then not jsonb_path_exists(p_subjects, 'strict $[*] ? (@.type() == "array" || @.type() == "object")')
    else coalesce(p_subjects, 'null') = 'null'
  end
$$;
revoke all on function scenario_private.are_readable_subjects(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.are_readable_subjects(jsonb) to service_role;

-- Whether each field of a claim can be read as what it should be; what it says is judged later.
create or replace function scenario_private.is_readable_claim(p_claim jsonb)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  perform
    (p_claim ->> 'user_id')::uuid,
    (p_claim ->> 'organization_id')::uuid,
    make_interval(secs => (p_claim ->> 'cooldown_seconds')::double precision),
    (p_claim ->> 'milestone_value')::integer;
  return jsonb_typeof(p_claim) = 'object'
    and scenario_private.are_readable_subjects(p_claim -> 'subjects')
    -- A field of another name would be one that is silently left out.
    and p_claim - array[
      'user_id', 'organization_id', 'scenario_type', 'cooldown_seconds', 'milestone_value', 'metadata', 'subjects'
    ] = '{}';
exception when data_exception then
  return false;
end
$$;
revoke all on function scenario_private.is_readable_claim(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.is_readable_claim(jsonb) to service_role;

-- A batch of claims by columns, read from a json object of columns or from an array of claims; a claim with a field
-- that can't be read has no user_id. all_… stand for a whole column.
create or replace function scenario_private.read_claims(p_claims jsonb)
returns table (
  user_ids uuid[],
  organization_ids uuid[],
  scenario_types text[],
  cooldowns interval[],
  milestone_values integer[],
  metadata jsonb[],
  subjects jsonb[],
  all_organization_id uuid,
  all_scenario_type text,
  all_cooldown interval,
  all_metadata jsonb
)
language plpgsql
stable
set search_path = ''
as $$
declare
  claims jsonb := p_claims;
begin
  if jsonb_typeof(p_claims) = 'object' then
    begin
      -- A list of lists would be read as one array of two dimensions: values would move to other places.
      if 'array' in (
        jsonb_typeof(p_claims #> '{user_id,0}'),
        jsonb_typeof(p_claims #> '{organization_id,0}'),
        jsonb_typeof(p_claims #> '{scenario_type,0}'),
        jsonb_typeof(p_claims #> '{cooldown_seconds,0}'),
        jsonb_typeof(p_claims #> '{milestone_value,0}')
      ) then
        raise data_exception;
      end if;
      return query
      select
        columns.user_id,
        columns.organization_id,
        columns.scenario_type,
        case
          when columns.cooldown_seconds is not null then array(
            select make_interval(secs => element.seconds)
            from unnest(columns.cooldown_seconds) with ordinality as element (seconds, place)
            order by element.place
          )
        end,
        columns.milestone_value,
        -- Read by jsonb_to_record, a list of lists would be one array of two dimensions.
        case
          when array_ndims(columns.metadata) > 1 then array(
            select element.value
            from jsonb_array_elements(p_claims -> 'metadata') with ordinality as element (value, place)
            order by element.place
          )
          else columns.metadata
        end,
        case
          when jsonb_typeof(p_claims -> 'subjects') = 'array' then array(
            -- What can't be read is refused as a subject that is null.
            select case when scenario_private.are_readable_subjects(element.value) then element.value else '[null]' end
            from jsonb_array_elements(p_claims -> 'subjects') with ordinality as element (value, place)
            order by element.place
          )
        end,
        same.organization_id,
        same.scenario_type,
        make_interval(secs => same.cooldown_seconds),
        nullif(same.metadata, 'null')
      from jsonb_to_record(p_claims) as columns (
        user_id uuid[], organization_id uuid[], scenario_type text[], cooldown_seconds double precision[],
        milestone_value integer[], metadata jsonb[], "all" jsonb
      )
      left join lateral jsonb_to_record(columns."all") as same (
        organization_id uuid, scenario_type text, cooldown_seconds double precision, metadata jsonb
      ) on true;
      return;
    exception when data_exception then
      -- One claim after the other, then.
      claims := (
        select jsonb_agg(
          coalesce(nullif(p_claims -> 'all', 'null'), '{}') || jsonb_strip_nulls(
            jsonb_build_object(
              'organization_id', p_claims -> 'organization_id' -> place,
              'scenario_type', p_claims -> 'scenario_type' -> place,
              'cooldown_seconds', p_claims -> 'cooldown_seconds' -> place,
              'milestone_value', p_claims -> 'milestone_value' -> place
            )
          ) || jsonb_build_object(
            'user_id', element.value,
            'metadata', coalesce(nullif(p_claims -> 'metadata' -> place, 'null'), p_claims -> 'all' -> 'metadata'),
            'subjects', p_claims -> 'subjects' -> place
          )
          order by element.ordinal
        )
        from jsonb_array_elements(p_claims -> 'user_id') with ordinality as element (value, ordinal)
        cross join lateral (select (element.ordinal - 1)::integer) as counted (place)
      );
    end;
  end if;

  return query
  select
    array_agg(claim.user_id order by claim.ordinal),
    array_agg(claim.organization_id order by claim.ordinal),
    array_agg(claim.scenario_type order by claim.ordinal),
    array_agg(claim.cooldown order by claim.ordinal),
    array_agg(claim.milestone_value order by claim.ordinal),
    array_agg(claim.metadata order by claim.ordinal),
    array_agg(claim.subjects order by claim.ordinal),
    null::uuid,
    null::text,
    null::interval,
    null::jsonb
  from (
    select
      element.ordinal,
      (readable.claim ->> 'user_id')::uuid as user_id,
      (readable.claim ->> 'organization_id')::uuid as organization_id,
      readable.claim ->> 'scenario_type' as scenario_type,
      make_interval(secs => (readable.claim ->> 'cooldown_seconds')::double precision) as cooldown,
      (readable.claim ->> 'milestone_value')::integer as milestone_value,
      readable.claim -> 'metadata' as metadata,
      readable.claim -> 'subjects' as subjects
    from jsonb_array_elements(claims) with ordinality as element (claim, ordinal)
    cross join lateral (
      select case when scenario_private.is_readable_claim(element.claim) then element.claim end as claim
      offset 0
    ) as readable
  ) as claim;
end
$$;
revoke all on function scenario_private.read_claims(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.read_claims(jsonb) to service_role;

-- Raises unless p_claims is an array of claims or an object of columns of one length, of at most p_most claims; returns
-- how many.
create or replace function scenario_private.require_claims(p_claims jsonb, p_most integer)
returns integer
language plpgsql
immutable
set search_path = ''
as $$
declare
  number_of_claims integer;
  misfit record;
begin
  if jsonb_typeof(p_claims) = 'object' then
    perform scenario_private.require_array('p_claims.user_id', p_claims -> 'user_id', p_most);
    number_of_claims := jsonb_array_length(p_claims -> 'user_id');
    select part.key, jsonb_typeof(part.value) as kind into misfit
    from jsonb_each(p_claims) as part
    where case
      when part.key = 'all' then jsonb_typeof(part.value) not in ('object', 'null')
      when part.key not in (
        'user_id', 'organization_id', 'scenario_type', 'cooldown_seconds', 'milestone_value', 'metadata', 'subjects'
      )
        then true
      when jsonb_typeof(part.value) = 'array' then jsonb_array_length(part.value) <> number_of_claims
      else jsonb_typeof(part.value) <> 'null'
    end
    limit 1;
    if misfit.key is null and exists (
      select
      from jsonb_object_keys(nullif(p_claims -> 'all', 'null')) as same (key)
      where same.key not in ('organization_id', 'scenario_type', 'cooldown_seconds', 'metadata')
    ) then
      raise exception using
        errcode = 'SR001',
        message = 'expected p_claims.all to have organization_id, scenario_type, cooldown_seconds and metadata at most,'
          ' got another field';
    end if;
    if misfit.key is not null then
      raise exception using
        errcode = 'SR001',
        message = format(
          'expected p_claims to have columns of %s claims (user_id, organization_id, scenario_type, cooldown_seconds,'
            ' milestone_value, metadata, subjects) and all, an object; one of its columns is another (%s)',
          number_of_claims, misfit.kind
        );
    end if;
    return number_of_claims;
  end if;
  perform scenario_private.require_array('p_claims', p_claims, p_most);
  return jsonb_array_length(p_claims);
end
$$;
revoke all on function scenario_private.require_claims(jsonb, integer) from public, anon, authenticated;
grant execute on function scenario_private.require_claims(jsonb, integer) to service_role;

-- A column of an answer: one value for all places, where all have the same, else one each.
create or replace function scenario_private.column_of(p_values anyarray)
returns json
language sql
immutable
set search_path = ''
as $$
  select case
    when p_values is null then '[]'
    when p_values[1] = all (p_values) then to_json(p_values[1])
    else to_json(p_values)
  end
$$;
revoke all on function scenario_private.column_of(anyarray) from public, anon, authenticated;
grant execute on function scenario_private.column_of(anyarray) to service_role;

-- Claims a batch; with p_lease_seconds for a caller who sends by hand: each notification is leased to the caller at
-- once, who settles it. Without, it is the delivery workers'.
--   in   columns: {"user_id": […], "organization_id": […], "scenario_type": […], "cooldown_seconds": […],
--        "milestone_value": […], "metadata": […], "subjects": […], "all": {…}}; a column may be left out, and all has
--        one value for a whole column. Or an array of claims, each an object with these fields.
--   out  {"id_prefix", "triggered_at", "deliver_until",
--        "skipped": {"place", "reason", "held_by", "ends_at"},
--        "following": {"place", "triggered_at", "cooldown_window_start"},
--        "partly": {"place", "new_subjects"}, "deliver": {"place", "deliver_until"}}: the exceptions, by columns, as
--        scenario_private.claim_answer says; places count from 1, and a column may be one value for all. With a lease also "leased", the rows as
--        scenario_lease_notifications gives them, and "taken_over": {"place", "id"}, claims of before that nobody had
--        in hand.
-- With a lease the same is asked as by a lease: who is gone or banned, or has muted it, is skipped with that reason, and
-- who may not be told at this moment, or has not her turn, as not_now, with the time in ends_at. Nothing is written then.
-- Raises SR001 for anything else, or a lease outside 1 second to 1 day; SR003 for more than 20,000 claims (1,000 with
-- a lease) or 16 MiB of them: one statement has to fit its timeout, and splitting a batch would leave a caller whose
-- second half failed not knowing about the first.
create or replace function public.scenario_claim_notifications(
  p_claims jsonb, p_lease_seconds double precision default null, p_needs_schema integer default null
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
  id_prefix constant text := scenario_private.new_id_prefix();
  number_of_claims integer;
  batch record;
  away_places bigint[];
  away_reasons text[];
  away_until timestamptz[];
  places bigint[];
  answer scenario_private.claim_answer;
  taken_over json;
  leased_ids uuid[];
begin
  perform scenario_private.require_schema(p_needs_schema);
  if pg_column_size(p_claims) > 16777216 then
    raise exception using
      errcode = 'SR003',
      message = format('expected at most 16 MiB of claims in one call, got %s MiB', pg_column_size(p_claims) / 1048576);
  end if;
  if p_lease_seconds is not null then
    perform scenario_private.require_between('p_lease_seconds', p_lease_seconds, 1, 86400);
  end if;
  number_of_claims := scenario_private.require_claims(
    p_claims, case when p_lease_seconds is null then 20000 else 1000 end
  );
  select * into batch from scenario_private.read_claims(p_claims);

  if p_lease_seconds is not null and number_of_claims > 0 then
    select array_agg(refusal.place), array_agg(refusal.reason), array_agg(refusal.wait_until)
    into away_places, away_reasons, away_until
    from scenario_private.refuse_leased_claims(
      id_prefix,
      batch.user_ids,
      coalesce(batch.organization_ids, array_fill(batch.all_organization_id, array[number_of_claims])),
      coalesce(batch.scenario_types, array_fill(batch.all_scenario_type, array[number_of_claims]))
    ) as refusal;
    places := array(
      select place
      from generate_series(1, number_of_claims) as place
      where away_places is null or place <> all (away_places)
    );
  end if;

  answer := scenario_private.claim(
    id_prefix, 'claim', batch.user_ids, batch.organization_ids, batch.all_organization_id, batch.scenario_types,
    batch.all_scenario_type, batch.cooldowns, batch.all_cooldown, batch.milestone_values, batch.metadata,
    batch.all_metadata, batch.subjects, null, places, now() + make_interval(secs => p_lease_seconds)
  );
  if answer.lost_places is not null or p_lease_seconds is not null then
    with skip as (
      select skipped.place, skipped.reason, skipped.held_by, skipped.ends_at
      from unnest(answer.skipped_places, answer.skip_reasons, answer.held_by, answer.ends_at)
        as skipped (place, reason, held_by, ends_at)
      union all
      select lost.place, 'concurrent_claim', null, null
      from unnest(answer.lost_places) as lost (place)
      union all
      select away.place, away.reason, null, away.until
      from unnest(away_places, away_reasons, away_until) as away (place, reason, until)
    ),
    -- With a lease: a claim of before, for the same, that nobody has in hand.
    own as (
      select distinct on (skip.held_by) skip.place, skip.held_by as id, notification.cooldown
      from skip
      cross join lateral (
        select * from public.scenario_notifications as row where row.id = skip.held_by offset 0
      ) as notification
      cross join lateral (
        select array(select jsonb_array_elements_text(nullif(batch.subjects[skip.place], 'null'))) as subjects
      ) as claim
      where p_lease_seconds is not null
        and notification.origin = 'claim'
        and notification.delivery_status = 'pending'
        and notification.deliver_until > now()
        and claim.subjects <@ notification.subjects
        and (claim.subjects <> '{}' or notification.subjects = '{}')
      order by skip.held_by, skip.place
    ),
    free as materialized (
      select handover.notification_id as id, own.place
      from own
      join scenario_private.handover as handover on handover.notification_id = own.id
      where handover.notification_id = any (array(select own.id from own))
        and (handover.leased_until is null or handover.leased_until <= now())
        -- As a lease refuses it.
        and (greatest(handover.leased_until, handover.unsettled_at) + own.cooldown > now() + interval '1 minute')
          is not false
        and handover.attempt_count < coalesce(
          (scenario_private.delivery_setting_of(handover.scenario_type, handover.organization_id)).max_attempts, 8
        )
      order by handover.notification_id
      for no key update of handover skip locked
    ),
    taken as materialized (
      select free.id, free.place
      from scenario_private.take_leases(
        array(select free.id from free), now() + make_interval(secs => p_lease_seconds)
      ) as leased (id)
      join free on free.id = leased.id
    )
    select
      skipped.places,
      skipped.reasons,
      skipped.held_by,
      skipped.ends_at,
      (
        select json_build_object(
          'place', coalesce(json_agg(taken.place order by taken.place), '[]'),
          'id', coalesce(json_agg(taken.id order by taken.place), '[]')
        )
        from taken
      ),
      array(
        select taken.id from taken
        union all
        select (id_prefix || lpad(to_hex(claimed.place), 5, '0'))::uuid
        from generate_series(1, number_of_claims) as claimed (place)
        where not exists (select from skip where skip.place = claimed.place)
      )
    into answer.skipped_places, answer.skip_reasons, answer.held_by, answer.ends_at, taken_over, leased_ids
    from (
      select
        array_agg(skip.place order by skip.place) as places,
        array_agg(skip.reason order by skip.place) as reasons,
        array_agg(skip.held_by order by skip.place) as held_by,
        array_agg(skip.ends_at order by skip.place) as ends_at
      from skip
      where not exists (select from taken where taken.place = skip.place)
    ) as skipped;
    perform scenario_private.give_turns_back(
      array_agg((id_prefix || lpad(to_hex(element.place), 5, '0'))::uuid), array_agg(element.user_id)
    )
    from unnest(batch.user_ids) with ordinality as element (user_id, place)
    where p_lease_seconds is not null
      and (id_prefix || lpad(to_hex(element.place), 5, '0'))::uuid <> all (leased_ids)
    having count(*) > 0;
  end if;

  return json_build_object(
    'id_prefix', id_prefix,
    'triggered_at', now(),
    'deliver_until', now() + interval '7 days',
    'skipped', json_build_object(
      'place', coalesce(answer.skipped_places, '{}'),
      'reason', scenario_private.column_of(answer.skip_reasons),
      'held_by', coalesce(answer.held_by, '{}'),
      'ends_at', scenario_private.column_of(answer.ends_at)
    ),
    'following', json_build_object(
      'place', coalesce(answer.following_places, '{}'),
      'triggered_at', scenario_private.column_of(answer.following_at),
      'cooldown_window_start', scenario_private.column_of(answer.following_windows)
    ),
    'partly', json_build_object(
      'place', coalesce(answer.partly_places, '{}'),
      'new_subjects', coalesce(answer.partly_subjects, '[]')
    ),
    'deliver', json_build_object(
      'place', coalesce(answer.deliver_places, '{}'),
      'deliver_until', scenario_private.column_of(answer.deliver_until)
    ),
    'taken_over', taken_over,
    'leased', case when p_lease_seconds is not null then scenario_private.leased_rows(leased_ids) end
  );
end
$$;
revoke all on function public.scenario_claim_notifications(jsonb, double precision, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_claim_notifications(jsonb, double precision, integer) to service_role;
