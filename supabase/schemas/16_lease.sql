-- The lease: the temporary right to send a pending notification. A notification may lie for days between claim and send,
-- so what is handed out is asked again first: is she there, is it still true, is this the moment, is it her turn?
--
-- Locks: whoever waits does so in one order, for notifications by id, then their hand-overs by id, then turns by user,
-- then devices: settlements, operators, plain updates. A lease takes what it meets under SKIP LOCKED, in whatever order
-- it meets it, and never waits: nothing can deadlock with it.
--
-- Plans are kept: one that was made while nothing was pending must not read a table whole when much is. So these
-- functions go without sequential scans, and look rows up by lateral queries (OFFSET 0) or arrays of ids, which only an
-- index can answer.

-- Notifications under lease as the API gives them, oldest first: the row, "lease_number", "attempt_count",
-- "leased_until", "unsettled_leases" (how many in a row nobody settled: from two on it is handed out alone, and had
-- better be sent alone) and "device_tokens": [{"token", "platform"}], without those that it has reached already.
create or replace function scenario_private.leased_rows(p_ids uuid[])
returns json
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
as $$
begin
  return (
    select coalesce(json_agg(leased order by leased.triggered_at, leased.id), '[]')
    from (
      select
        notification.id,
        notification.user_id,
        notification.organization_id,
        notification.scenario_type,
        notification.triggered_at,
        notification.delivery_status,
        notification.milestone_value,
        notification.metadata,
        notification.cooldown_window_start,
        notification.failure_code,
        notification.origin,
        notification.cooldown,
        notification.subjects,
        notification.deliver_until,
        notification.settled_at,
        handover.lease_number,
        handover.attempt_count,
        handover.leased_until,
        handover.unsettled_leases,
        coalesce(
          (
            select json_agg(device)
            from (
              select device.token, device.platform
              from scenario_source.device_tokens as device
              where device.user_id = notification.user_id
                and (
                  handover.reached is null
                  or encode(sha256(convert_to(device.token, 'UTF8')), 'hex') <> all (handover.reached)
                )
              order by device.token
            ) as device
          ),
          '[]'
        ) as device_tokens
      from unnest(p_ids) as asked (id)
      cross join lateral (
        select * from public.scenario_notifications as row where row.id = asked.id offset 0
      ) as notification
      cross join lateral (
        select * from scenario_private.handover as row where row.notification_id = asked.id offset 0
      ) as handover
    ) as leased
  );
end
$$;
revoke all on function scenario_private.leased_rows(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.leased_rows(uuid[]) to service_role;

-- Takes hand-overs that the caller has locked into its hands until then; returns which. A lease before that nobody
-- settled is remembered.
create or replace function scenario_private.take_leases(p_ids uuid[], p_until timestamptz)
returns setof uuid
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
as $$
begin
  return query
  update scenario_private.handover as handover
  set
    leased_at = now(),
    leased_until = p_until,
    lease_number = handover.lease_number + 1,
    attempt_count = handover.attempt_count + 1,
    unsettled_at = coalesce(handover.leased_until, handover.unsettled_at),
    unsettled_leases = handover.unsettled_leases + (handover.leased_until is not null)::integer
  where handover.notification_id = any (p_ids)
  returning handover.notification_id;
end
$$;
revoke all on function scenario_private.take_leases(uuid[], timestamptz) from public, anon, authenticated;
grant execute on function scenario_private.take_leases(uuid[], timestamptz) to service_role;

-- The organizations that have something in the hand-over, after (p_after, and any scenario type), by id, at most p_most:
-- one index descent each, however much lies in between.
create or replace function scenario_private.organizations_waiting(p_after uuid, p_most integer)
returns uuid[]
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
as $$
begin
  return (
    with recursive organization (id, place) as (
      (
        select handover.organization_id, 1
        from scenario_private.handover as handover
        where (handover.organization_id, handover.scenario_type) > (
          coalesce(p_after, '00000000-0000-0000-0000-000000000000'), case when p_after is null then '' else '~' end
        )
        order by handover.organization_id, handover.scenario_type
        limit 1
      )
      union all
      select following.organization_id, organization.place + 1
      from organization
      cross join lateral (
        select handover.organization_id
        from scenario_private.handover as handover
        where handover.organization_id > organization.id
        order by handover.organization_id
        limit 1
      ) as following
      where organization.place < p_most
    )
    select array_agg(organization.id order by organization.place) from organization
  );
end
$$;
revoke all on function scenario_private.organizations_waiting(uuid, integer) from public, anon, authenticated;
grant execute on function scenario_private.organizations_waiting(uuid, integer) to service_role;

-- When the first one is due, of whatever organization and type: one index descent for each of them, however much each
-- has waiting. Past the first that is due now it is not looked; null: nothing waits.
create or replace function scenario_private.first_due_at()
returns timestamptz
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
as $$
begin
  return (
    with recursive first (organization_id, scenario_type, due_at) as (
      (
        select handover.organization_id, handover.scenario_type, handover.next_attempt_at
        from scenario_private.handover as handover
        order by handover.organization_id, handover.scenario_type, handover.next_attempt_at
        limit 1
      )
      union all
      select following.*
      from first
      cross join lateral (
        select handover.organization_id, handover.scenario_type, handover.next_attempt_at
        from scenario_private.handover as handover
        where (handover.organization_id, handover.scenario_type) > (first.organization_id, first.scenario_type)
        order by handover.organization_id, handover.scenario_type, handover.next_attempt_at
        limit 1
      ) as following
      where first.due_at > now()
    )
    select min(first.due_at) from first
  );
end
$$;
revoke all on function scenario_private.first_due_at() from public, anon, authenticated;
grant execute on function scenario_private.first_due_at() to service_role;

-- When the next one is due of those that wait; null: none does.
create or replace function scenario_private.next_due_at(p_organization_id uuid, p_scenario_types text[])
returns timestamptz
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
as $$
begin
  return (
    select min(waiting.next_attempt_at)
    from unnest(
      case
        when p_organization_id is null then scenario_private.organizations_waiting(null, 100000)
        else array[p_organization_id]
      end
    ) as organization (id)
    cross join unnest(p_scenario_types) as kind (scenario_type)
    cross join lateral (
      select handover.next_attempt_at
      from scenario_private.handover as handover
      where handover.organization_id = organization.id
        and handover.scenario_type = kind.scenario_type
        and handover.next_attempt_at > now()
      order by handover.next_attempt_at
      limit 1
    ) as waiting
  );
end
$$;
revoke all on function scenario_private.next_due_at(uuid, text[]) from public, anon, authenticated;
grant execute on function scenario_private.next_due_at(uuid, text[]) to service_role;

-- Leases up to p_limit pending rows that are due, of one organization and of some scenario types if given; rows that
-- another worker is leasing at this moment are passed over. Until p_lease_seconds from now nobody else gets them.
-- Organizations take turns, from a random one on, however much one of them has waiting; of each the longest due first.
-- What two leases in a row left unsettled comes last and alone: it may be what its workers die of.
--   out  {"leased": the rows as scenario_private.leased_rows says, "deferred": how many have to wait, "failed": {reason:
--        count}, "rule_failed": how many were left since their rule failed, "has_more": whether there may be more now,
--        "next_due_at": if not, when the next one is due, of those in nobody's hands}
-- What is handed out is asked again first, in this order; what is refused fails, with its reason:
--   user_gone, user_banned, muted, and of those that a rule made mentor_not_active, scenario_disabled
--   expired         deliver_until is over
--   attempts_spent  it was tried max_attempts times (a lease that runs out unsettled is a try)
--   superseded      after a lease that nobody settled, another one about the same has been claimed, or may be within a
--                   minute: what she may have been told holds no longer; or a higher milestone has been claimed since
--   no_longer_due   its rule doesn't stand by it any more
-- What has reached a device before is sent then, not failed. What may not be told at this moment waits: for the first
-- moment that the organization's policy permits, looked at again at least once a day; for its turn (min_gap); five
-- minutes after its rule failed. Its deliver_until moves along, to a day after that: holding is never losing. Priority 0
-- waits for neither policy nor turn.
-- A user without a device token is handed out like any other, with an empty list: only the sender knows whether the
-- app has another way to tell; one that has none says suppressed.
-- A bounded number of rows is looked at. Raises SR001 for a limit outside 1 to 1,000 or a lease outside 1 second to
-- 1 day, SR004 for an unknown scenario type.
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
set timezone = 'UTC'
set jit = off
set enable_seqscan = off
-- A small lease takes less time than its plans do.
set plan_cache_mode = force_generic_plan
as $$
declare
  has_policies constant boolean := scenario_private.has_delivery_policies();
  -- What is handed out is marked for all as soon as one organization has a gap.
  has_gaps constant boolean := has_policies
    and exists (select from public.scenario_delivery_policy as policy where policy.min_gap > interval '0');
  kinds text[];
  organizations uuid[];
  -- A lap begins anywhere, and is over where it began.
  beginning constant uuid := gen_random_uuid();
  after uuid := beginning;
  has_wrapped boolean := false;
  -- The organizations of this lap, null for all that wait; and who had something in it: the next lap asks no other.
  lap uuid[] := case when p_organization_id is not null then array[p_organization_id] end;
  found uuid[] := array[]::uuid[];
  -- How many fair shares an organization may have, for some have little waiting; the next lap gives the others more.
  generosity integer := 2;
  -- Where nothing is due, more organizations are looked at together.
  width integer := greatest(p_limit, 100);
  -- When the first one is due of all, once that was asked.
  first_due_at timestamptz;
  was_asked boolean := false;
  are_suspects boolean := false;
  looked_at integer := 0;
  candidates scenario_private.lease_candidate[];
  leased_ids uuid[] := array[]::uuid[];
  granted_ids uuid[];
  have_reasons boolean;
  have_to_wait boolean;
  have_facts boolean;
  left_ids uuid[] := array[]::uuid[];
  deferred_count integer := 0;
  rule_failed_count integer := 0;
  failed_reasons text[] := array[]::text[];
  has_more boolean := false;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 1000);
  perform scenario_private.require_between('p_lease_seconds', p_lease_seconds, 1, 86400);
  perform scenario_private.require_scenario_type(wanted.scenario_type)
  from unnest(p_scenario_types) as wanted (scenario_type);
  -- Types take turns too: each call begins with another.
  kinds := array(
    select kind.scenario_type
    from unnest(coalesce(p_scenario_types, scenario_private.scenario_types())) as kind (scenario_type)
    group by kind.scenario_type
    order by random()
  );

  loop
    if cardinality(leased_ids) >= p_limit or looked_at >= 5 * p_limit then
      has_more := true;
      exit;
    end if;
    exit when are_suspects and cardinality(leased_ids) > 0;

    if lap is not null then
      organizations := case when not has_wrapped then lap end;
      has_wrapped := true;
    else
      organizations := scenario_private.organizations_waiting(after, width);
      if has_wrapped then
        organizations := array(select passed.id from unnest(organizations) as passed (id) where passed.id <= beginning);
      end if;
      after := organizations[cardinality(organizations)];
      width := least(2 * width, 10000);
    end if;
    if not are_suspects and coalesce(cardinality(organizations), 0) = 0 then
      if lap is null and not has_wrapped then
        has_wrapped := true;
        after := null;
      elsif cardinality(found) > 0 then
        has_wrapped := false;
        lap := found;
        found := array[]::uuid[];
        generosity := least(4 * generosity, 1024);
      else
        exit when cardinality(leased_ids) > 0;
        are_suspects := true;
      end if;
      continue when not are_suspects;
    end if;

    candidates := array(
      select (
        due.notification_id, due.user_id, due.organization_id, due.scenario_type,
        notification.origin = 'evaluation',
        notification.triggered_at, notification.deliver_until, notification.milestone_value, notification.subjects,
        case when notification.subjects <> '{}' then notification.metadata end,
        coalesce(own.priority, standard.priority, 5),
        due.reached is not null,
        notification.triggered_at + notification.cooldown <= now() + interval '1 minute',
        case
          when notification.delivery_status is distinct from 'pending' then 'settled'
          when notification.deliver_until <= now() then 'expired'
          when due.attempt_count >= coalesce(own.max_attempts, standard.max_attempts, 8) then 'attempts_spent'
          -- Another one may be claimed as soon as that is over, and be invisible here for as long as its claim runs.
          when greatest(due.leased_until, due.unsettled_at) + notification.cooldown <= now() + interval '1 minute'
            then 'superseded'
          when greatest(due.leased_until, due.unsettled_at) is not null
            and exists (
              select
              from scenario_private.hold as newer
              where newer.user_id = due.user_id
                and newer.scenario_type = due.scenario_type
                and not newer.is_failed
                and newer.triggered_at > notification.triggered_at
                and newer.milestone_value is null
                and newer.cooldown_window_start is not null
                and (
                  newer.subjects = '{}' or notification.subjects = '{}' or newer.subjects && notification.subjects
                )
            )
            then 'superseded'
        end,
        null,
        null
      )::scenario_private.lease_candidate
      from (
        select suspect.*
        from (
          select row.*
          from scenario_private.handover as row
          where are_suspects
            and row.unsettled_leases > 0
            and row.unsettled_leases + (row.leased_until is not null)::integer >= 2
            and (row.leased_until is null or row.leased_until <= now())
            and row.next_attempt_at <= now()
            and (p_organization_id is null or row.organization_id = p_organization_id)
            and row.scenario_type = any (kinds)
            and row.notification_id <> all (left_ids)
          order by row.next_attempt_at
          limit 1
          for update skip locked
        ) as suspect
        union all
        select waiting.*
        from unnest(case when not are_suspects then organizations end) as organization (id)
        cross join lateral (
          select handover.*
          from unnest(kinds) as kind (scenario_type)
          cross join lateral (
            select row.*
            from scenario_private.handover as row
            where row.organization_id = organization.id
              and row.scenario_type = kind.scenario_type
              and row.next_attempt_at <= now()
              and (row.leased_until is null or row.leased_until <= now())
              and row.unsettled_leases + (row.leased_until is not null)::integer < 2
              and row.notification_id <> all (left_ids)
            order by row.next_attempt_at
            limit p_limit
            for update skip locked
          ) as handover
          limit greatest(
            generosity * (p_limit - cardinality(leased_ids)) / greatest(cardinality(organizations), 1), 1
          )
        ) as waiting
        limit p_limit - cardinality(leased_ids)
      ) as due
      left join lateral (
        select * from public.scenario_notifications as row where row.id = due.notification_id offset 0
      ) as notification on true
      left join scenario_private.delivery_setting as own
        on own.scenario_type = due.scenario_type
        and own.organization_id = due.organization_id
      left join scenario_private.delivery_setting as standard
        on standard.scenario_type = due.scenario_type
        and standard.organization_id is null
    );
    exit when are_suspects and cardinality(candidates) = 0;
    if cardinality(candidates) = 0 then
      -- Before all the other organizations are looked at: is anything due at all?
      if not was_asked and p_organization_id is null then
        was_asked := true;
        first_due_at := scenario_private.first_due_at();
        exit when coalesce(first_due_at > now(), true);
      end if;
      continue;
    end if;
    found := found || array(select distinct candidate.organization_id from unnest(candidates) as candidate);
    looked_at := looked_at + cardinality(candidates);

    candidates := scenario_private.ask_again(candidates);
    if has_policies then
      candidates := scenario_private.await_moments(candidates, has_gaps);
    end if;

    select
      array_agg(asked.id) filter (where asked.reason is null and asked.wait_until is null),
      bool_or(asked.reason is not null),
      bool_or(asked.wait_until is not null),
      bool_or(asked.facts is not null)
    into granted_ids, have_reasons, have_to_wait, have_facts
    from unnest(candidates) as asked;

    -- What is refused fails, or was sent where it has reached a device.
    if have_reasons then
      with refused as materialized (
        select
          asked.id,
          -- She was told: failed it would hold nothing, and be claimed and told again.
          case when asked.has_reached then 'sent' else 'failed' end as delivery_status,
          asked.reason
        from unnest(candidates) as asked
        where asked.reason not in ('settled', 'left', 'rule_failed')
      ),
      locked as materialized (
        select notification.id
        from public.scenario_notifications as notification
        where notification.id = any (array(select refused.id from refused))
          and notification.delivery_status = 'pending'
        for no key update skip locked
      ),
      failed as (
        update public.scenario_notifications as notification
        set
          delivery_status = refused.delivery_status,
          failure_code = case when refused.delivery_status = 'failed' then refused.reason end
        from refused
        where notification.id = any (array(select locked.id from locked))
          and notification.id = refused.id
      ),
      gone as (
        delete from scenario_private.handover as handover
        where handover.notification_id = any (
          array(select asked.id from unnest(candidates) as asked where asked.reason = 'settled')
        )
      )
      select failed_reasons || coalesce(array_agg(refused.reason), '{}') into failed_reasons
      from refused
      where refused.delivery_status = 'failed'
        and refused.id in (select locked.id from locked);
      left_ids := left_ids || array(select asked.id from unnest(candidates) as asked where asked.reason = 'left');
    end if;

    -- What waits; its time moves along.
    if have_to_wait then
      update scenario_private.handover as handover
      set
        next_attempt_at = asked.wait_until,
        unsettled_at = coalesce(handover.leased_until, handover.unsettled_at),
        unsettled_leases = handover.unsettled_leases + (handover.leased_until is not null)::integer,
        leased_until = null
      from unnest(candidates) as asked
      where handover.notification_id = any (
          array(select given.id from unnest(candidates) as given where given.wait_until is not null)
        )
        and handover.notification_id = asked.id;
      with locked as materialized (
        select notification.id
        from public.scenario_notifications as notification
        where notification.id = any (
          array(
            select given.id
            from unnest(candidates) as given
            where given.wait_until + interval '1 day' > given.deliver_until
          )
        )
          and notification.delivery_status = 'pending'
        for no key update skip locked
      )
      update public.scenario_notifications as notification
      set deliver_until = asked.wait_until + interval '1 day'
      from unnest(candidates) as asked
      where notification.id = any (array(select locked.id from locked))
        and notification.id = asked.id;
      deferred_count := deferred_count + (
        select count(*) from unnest(candidates) as asked where asked.wait_until is not null and asked.reason is null
      );
      rule_failed_count := rule_failed_count + (
        select count(*) from unnest(candidates) as asked where asked.reason = 'rule_failed'
      );
    end if;

    -- What is told anew. Who holds a row at this moment may wait for the hand-over: it keeps its facts.
    if have_facts then
      with locked as materialized (
        select notification.id
        from public.scenario_notifications as notification
        where notification.id = any (
          array(
            select given.id
            from unnest(candidates) as given
            where given.id = any (granted_ids) and given.facts is not null
          )
        )
        for no key update skip locked
      )
      update public.scenario_notifications as notification
      set metadata = asked.facts
      from unnest(candidates) as asked
      where notification.id = any (array(select locked.id from locked))
        and notification.id = asked.id
        and scenario_private.is_storable_metadata(asked.facts);
    end if;
    leased_ids := leased_ids || array(
      select taken.id
      from scenario_private.take_leases(granted_ids, now() + make_interval(secs => p_lease_seconds)) as taken (id)
    );
  end loop;

  return json_build_object(
    'leased', scenario_private.leased_rows(leased_ids),
    'deferred', deferred_count,
    'failed', (
      select coalesce(json_object_agg(counted.reason, counted.number), '{}')
      from (
        select failed.reason, count(*) as number
        from unnest(failed_reasons) as failed (reason)
        group by failed.reason
      ) as counted
    ),
    'rule_failed', rule_failed_count,
    'has_more', has_more or cardinality(left_ids) > 0,
    'next_due_at', case
      when not has_more and cardinality(left_ids) = 0
        then case
          -- Nothing is due: that is the next one.
          when first_due_at > now() and p_scenario_types is null then first_due_at
          else scenario_private.next_due_at(p_organization_id, kinds)
        end
    end
  );
end
$$;
revoke all on function public.scenario_lease_notifications(integer, double precision, uuid, text[], integer)
  from public, anon, authenticated;
grant execute on function public.scenario_lease_notifications(integer, double precision, uuid, text[], integer)
  to service_role;

-- Which claims with a lease are not to be claimed now: a row for each, with why, and not_now with the time at which it
-- may be. Who is not refused has taken her turn, for the id that her claim will have.
create or replace function scenario_private.refuse_leased_claims(
  p_id_prefix text, p_user_ids uuid[], p_organization_ids uuid[], p_scenario_types text[]
)
returns table (place bigint, reason text, wait_until timestamptz)
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
  candidates scenario_private.lease_candidate[];
begin
  candidates := array(
    select (
      (p_id_prefix || lpad(to_hex(asked.place), 5, '0'))::uuid, asked.user_id, asked.organization_id,
      asked.scenario_type, false, now(), now() + interval '7 days', null, null, null,
      coalesce(
        (scenario_private.delivery_setting_of(asked.scenario_type, asked.organization_id)).priority, 5
      ),
      false, false, refusal.reason, null, null
    )::scenario_private.lease_candidate
    from unnest(p_user_ids, p_organization_ids, p_scenario_types) with ordinality as asked (
      user_id, organization_id, scenario_type, place
    )
    left join scenario_private.refusals(
      p_user_ids, p_organization_ids, p_scenario_types, array_fill(false, array[cardinality(p_user_ids)])
    ) as refusal on refusal.place = asked.place
    where asked.user_id is not null
  );
  if scenario_private.has_delivery_policies() then
    candidates := scenario_private.await_moments(
      candidates, exists (select from public.scenario_delivery_policy as policy where policy.min_gap > interval '0')
    );
  end if;
  return query
  select
    ('x' || right(refused.id::text, 5))::bit(20)::bigint,
    case when refused.reason is null or refused.reason = 'left' then 'not_now' else refused.reason end,
    case when refused.reason = 'left' then now() else refused.wait_until end
  from unnest(candidates) as refused
  where refused.reason is not null
    or refused.wait_until is not null;
end
$$;
revoke all on function scenario_private.refuse_leased_claims(text, uuid[], uuid[], text[])
  from public, anon, authenticated;
grant execute on function scenario_private.refuse_leased_claims(text, uuid[], uuid[], text[]) to service_role;
