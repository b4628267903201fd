-- Asking again: a notification may lie for days between claim and send, so what a lease is about to hand out is asked
-- what was asked before it was claimed. Is she there, is it still true, is this the moment, is it her turn?

-- What a lease knows of a notification that it may hand out.
create or replace view scenario_private.lease_candidate
with (security_invoker = true)
as
select
  null::uuid as id,
  null::uuid as user_id,
  null::uuid as organization_id,
  null::text as scenario_type,
  null::boolean as by_rule,
  null::timestamptz as triggered_at,
  null::timestamptz as deliver_until,
  null::integer as milestone_value,
  null::text[] as subjects,
  null::jsonb as metadata,
  null::integer as priority,
  null::boolean as has_reached,
  null::boolean as may_follow,
  null::text as reason,
  null::timestamptz as wait_until,
  null::jsonb as facts
where false;
comment on view scenario_private.lease_candidate is
  'The columns of a notification that a lease looks at; it has no rows.';
comment on column scenario_private.lease_candidate.metadata is
  'What it tells, where that is about subjects; else null, for nothing of it is looked at.';
comment on column scenario_private.lease_candidate.may_follow is
  'Whether another one about the same may be claimed within a minute.';
comment on column scenario_private.lease_candidate.reason is
  'Why it is not handed out: the failure_code it is settled with; or settled, left, rule_failed.';
comment on column scenario_private.lease_candidate.wait_until is
  'When it may be handed out, if that is later.';
comment on column scenario_private.lease_candidate.facts is
  'Its metadata, brought up to date; null: as it is.';
revoke all on table scenario_private.lease_candidate from public, anon, authenticated;
grant select on table scenario_private.lease_candidate to service_role;

-- What the rule of a scenario type says of its candidates that have no reason yet, nulls where nothing: whoever calls it
-- names the columns. The query is prepared once a connection, under a name that its text makes: planning a rule takes
-- longer than asking it of a few. EXECUTE takes no parameters of the caller's, so the ids are in its text. The types are
-- said here, for an answer of another type could not be prepared again.
create or replace function scenario_private.answers_of_rule(
  p_scenario_type text, p_candidates scenario_private.lease_candidate[]
)
returns setof record
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
set jit = off
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  question constant text := format(
    'select asked.id, rule.is_active, rule.is_enabled, rule.stands, rule.milestone_value, rule.subjects, rule.facts
     from unnest($1, $2, $3, $4) as asked (id, user_id, organization_id, is_about_subjects)
     left join lateral (
       select
         rule.is_active::boolean, rule.is_enabled::boolean, rule.stands::boolean, rule.milestone_value::integer,
         rule.subjects::text[], case when asked.is_about_subjects then rule.facts::jsonb end as facts
       from %2$s as rule
       where rule.scenario_type = %1$L
         and rule.user_id = asked.user_id
         and rule.organization_id = asked.organization_id
       offset 0
     ) as rule on true',
    p_scenario_type, scenario_private.rule_of(p_scenario_type)
  );
  prepared_name constant text := 'scenario_rule_' || md5(question);
begin
  if not exists (select from pg_catalog.pg_prepared_statements as prepared where prepared.name = prepared_name) then
    execute format('prepare %I (uuid[], uuid[], uuid[], boolean[]) as %s', prepared_name, question);
  end if;
  return query execute (
    select format(
      'execute %I(%L, %L, %L, %L)',
      prepared_name,
      array_agg(asked.id), array_agg(asked.user_id), array_agg(asked.organization_id),
      array_agg(asked.subjects <> '{}')
    )
    from unnest(p_candidates) as asked
    where asked.scenario_type = p_scenario_type and asked.by_rule and asked.reason is null
  );
end
$$;
revoke all on function scenario_private.answers_of_rule(text, scenario_private.lease_candidate[])
  from public, anon, authenticated;
grant execute on function scenario_private.answers_of_rule(text, scenario_private.lease_candidate[]) to service_role;

-- Asks the rules whether what they claimed still stands: a row for each candidate that a rule made and that has no reason
-- yet. Its reason is mentor_not_active or scenario_disabled where the rule says so, not_found where it says nothing of
-- her; no_longer_due where it does not stand (a milestone: the count is not there any more, or a higher one was claimed
-- since; of subjects: none of the new ones is still due), rule_failed where the rule raised or met the statement
-- timeout: a rule that fails keeps nobody else's from being handed out. In the order of the types: an app's own come
-- last. Those of whom there is nothing to say are left out.
create or replace function scenario_private.ask_rules(p_candidates scenario_private.lease_candidate[])
returns table (id uuid, reason text, facts jsonb)
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
set jit = off
set enable_seqscan = off
as $$
declare
  kind text;
  ids uuid[];
  reasons text[];
  all_facts jsonb[];
begin
  for kind in
    select asked.scenario_type
    from unnest(p_candidates) as asked
    where asked.by_rule and asked.reason is null
    group by asked.scenario_type
    order by array_position(scenario_private.scenario_types(), asked.scenario_type)
  loop
    begin
      select array_agg(judged.id), array_agg(judged.reason), array_agg(judged.facts)
      into ids, reasons, all_facts
      from (
        select
          asked.id,
          case
            when rule.is_active is null or rule.is_enabled is null then 'not_found'
            when not rule.is_active then 'mentor_not_active'
            when not rule.is_enabled then 'scenario_disabled'
            when not coalesce(rule.stands, false) then 'no_longer_due'
            when asked.milestone_value > coalesce(rule.milestone_value, 0) then 'no_longer_due'
            when asked.subjects <> '{}' and not coalesce(fresh.subjects && rule.subjects, false) then 'no_longer_due'
            when asked.milestone_value is not null
              and exists (
                select
                from scenario_private.hold as higher
                where higher.user_id = asked.user_id
                  and higher.scenario_type = 'milestone'
                  and not higher.is_failed
                  and higher.milestone_value > asked.milestone_value
                  and higher.triggered_at > asked.triggered_at
              )
              then 'superseded'
          end as reason,
          case
            when asked.subjects <> '{}' then rule.facts || jsonb_build_object(
              'new_subjects',
              array(select subject from unnest(fresh.subjects) as subject where subject = any (rule.subjects))
            )
          end as facts
        from scenario_private.answers_of_rule(kind, p_candidates) as rule (
          id uuid, is_active boolean, is_enabled boolean, stands boolean, milestone_value integer, subjects text[],
          facts jsonb
        )
        join unnest(p_candidates) as asked on asked.id = rule.id
        cross join lateral (
          select case
            when jsonb_typeof(asked.metadata -> 'new_subjects') = 'array'
              then array(select jsonb_array_elements_text(asked.metadata -> 'new_subjects'))
            else asked.subjects
          end as subjects
        ) as fresh
      ) as judged
      where judged.reason is not null
        or judged.facts is not null;
      return query
      select judged.id, judged.reason, judged.facts
      from unnest(ids, reasons, all_facts) as judged (id, reason, facts);
      continue;
    exception
      when serialization_failure or deadlock_detected then raise;
      -- The timeout has been met once, and is not set again; who cancels a query means it.
      when query_canceled then
        if sqlerrm not like '%statement timeout%' then
          raise;
        end if;
      when others then null;
    end;
    return query
    select asked.id, 'rule_failed', null::jsonb
    from unnest(p_candidates) as asked
    where asked.scenario_type = kind and asked.by_rule and asked.reason is null;
  end loop;
end
$$;
revoke all on function scenario_private.ask_rules(scenario_private.lease_candidate[]) from public, anon, authenticated;
grant execute on function scenario_private.ask_rules(scenario_private.lease_candidate[]) to service_role;

-- The candidates with the answers about some of them: arrays of one length, of ids, reasons and facts. A reason takes the
-- place of the one before; a candidate whose rule failed waits.
create or replace function scenario_private.with_answers(
  p_candidates scenario_private.lease_candidate[], p_ids uuid[], p_reasons text[], p_facts jsonb[]
)
returns scenario_private.lease_candidate[]
language plpgsql
stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  return array(
    select (
      asked.id, asked.user_id, asked.organization_id, asked.scenario_type, asked.by_rule, asked.triggered_at,
      asked.deliver_until, asked.milestone_value, asked.subjects, asked.metadata, asked.priority, asked.has_reached,
      asked.may_follow,
      coalesce(answer.reason, asked.reason),
      case when coalesce(answer.reason, asked.reason) = 'rule_failed' then now() + interval '5 minutes' end,
      case
        when answer.id is null then asked.facts
        when answer.reason is null and answer.facts <> asked.metadata then answer.facts
      end
    )::scenario_private.lease_candidate
    from unnest(p_candidates) as asked
    left join unnest(p_ids, p_reasons, p_facts) as answer (id, reason, facts) on answer.id = asked.id
  );
end
$$;
revoke all on function
  scenario_private.with_answers(scenario_private.lease_candidate[], uuid[], text[], jsonb[])
  from public, anon, authenticated;
grant execute on function
  scenario_private.with_answers(scenario_private.lease_candidate[], uuid[], text[], jsonb[])
  to service_role;

-- Asks again of candidates what was asked before they were claimed: who is not to be told (scenario_private.refusals),
-- and whether the rules stand by them. What was settled meanwhile is not asked; otherwise a refusal comes first, then
-- the reason that a candidate has, then its rule's.
--
-- A rule walks a mentor's settings anyway: what it says of membership is taken from it. The settings are walked again
-- only for those of whom it says nothing, or who have another reason.
create or replace function scenario_private.ask_again(p_candidates scenario_private.lease_candidate[])
returns scenario_private.lease_candidate[]
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
set jit = off
set enable_seqscan = off
as $$
declare
  candidates scenario_private.lease_candidate[] := p_candidates;
  ids uuid[];
  reasons text[];
  all_facts jsonb[];
begin
  select array_agg(asked.ids[refusal.place]), array_agg(refusal.reason)
  into ids, reasons
  from (
    select
      array_agg(given.id) as ids,
      array_agg(given.user_id) as user_ids,
      array_agg(given.organization_id) as organization_ids,
      array_agg(given.scenario_type) as scenario_types,
      array_agg(given.by_rule and given.reason is not null) as by_rule
    from unnest(candidates) as given
    where given.reason is distinct from 'settled'
  ) as asked
  cross join lateral scenario_private.refusals(
    asked.user_ids, asked.organization_ids, asked.scenario_types, asked.by_rule
  ) as refusal;
  if ids is not null then
    candidates := scenario_private.with_answers(candidates, ids, reasons, null);
  end if;

  select array_agg(answer.id), array_agg(answer.reason), array_agg(answer.facts)
  into ids, reasons, all_facts
  from scenario_private.ask_rules(candidates) as answer;
  if ids is not null then
    candidates := scenario_private.with_answers(candidates, ids, reasons, all_facts);
  end if;

  -- Of whom her rule says nothing, the settings may; and a mute is the last reason not to tell her.
  with doubtful as materialized (
    select given.*, row_number() over () as place
    from unnest(candidates) as given
    where given.by_rule and given.reason in ('muted', 'not_found', 'rule_failed')
  ),
  refusal as materialized (
    select answer.place, answer.reason
    from (
      select
        array_agg(doubtful.user_id order by doubtful.place) as user_ids,
        array_agg(doubtful.organization_id order by doubtful.place) as organization_ids,
        array_agg(doubtful.scenario_type order by doubtful.place) as scenario_types,
        array_agg(doubtful.by_rule order by doubtful.place) as by_rule
      from doubtful
    ) as asked
    cross join lateral scenario_private.refusals(
      asked.user_ids, asked.organization_ids, asked.scenario_types, asked.by_rule
    ) as answer
  )
  select
    array_agg(doubtful.id),
    array_agg(
      coalesce(
        refusal.reason, case doubtful.reason when 'not_found' then 'no_longer_due' else doubtful.reason end
      )
    )
  into ids, reasons
  from doubtful
  left join refusal on refusal.place = doubtful.place;
  if ids is not null then
    candidates := scenario_private.with_answers(candidates, ids, reasons, null);
  end if;
  return candidates;
end
$$;
revoke all on function scenario_private.ask_again(scenario_private.lease_candidate[]) from public, anon, authenticated;
grant execute on function scenario_private.ask_again(scenario_private.lease_candidate[]) to service_role;

-- Lets candidates wait, where it is not the moment or not their turn.
create or replace function scenario_private.await_moments(
  p_candidates scenario_private.lease_candidate[], p_has_gaps boolean
)
returns scenario_private.lease_candidate[]
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
set jit = off
as $$
declare
  candidates scenario_private.lease_candidate[];
begin
  candidates := array(
    select (
      asked.id, asked.user_id, asked.organization_id, asked.scenario_type, asked.by_rule, asked.triggered_at,
      asked.deliver_until, asked.milestone_value, asked.subjects, asked.metadata, asked.priority, asked.has_reached,
      asked.may_follow,
      -- Too late to move its time along: another one may be claimed meanwhile.
      case
        when asked.reason is null and waiting.until is not null and asked.may_follow
          and asked.deliver_until <= now() + interval '1 minute'
          then 'expired'
        else asked.reason
      end,
      case when asked.reason is null then waiting.until else asked.wait_until end,
      asked.facts
    )::scenario_private.lease_candidate
    from unnest(p_candidates) as asked
    left join (
      select organization.id, scenario_private.next_moment(organization.id, now()) as opens_at
      from (
        select distinct given.organization_id as id
        from unnest(p_candidates) as given
        where given.reason is null and given.priority <> 0
      ) as organization
      offset 0
    ) as moment on moment.id = asked.organization_id
    cross join lateral (
      select case
        when asked.reason is null and asked.priority <> 0 and moment.opens_at is distinct from now()
          then least(moment.opens_at, now() + interval '1 day')
      end as until
    ) as waiting
  );
  if not p_has_gaps then
    return candidates;
  end if;
  return array(
    select (
      asked.id, asked.user_id, asked.organization_id, asked.scenario_type, asked.by_rule, asked.triggered_at,
      asked.deliver_until, asked.milestone_value, asked.subjects, asked.metadata, asked.priority, asked.has_reached,
      asked.may_follow,
      case when turn.is_left then 'left' else asked.reason end,
      coalesce(asked.wait_until, case when not turn.is_left then turn.wait_until end),
      asked.facts
    )::scenario_private.lease_candidate
    from unnest(candidates) as asked
    left join (
      select element.id, turn.is_left, turn.wait_until
      from (
        select
          array_agg(given.id) as ids,
          array_agg(given.user_id) as user_ids,
          array_agg(given.organization_id) as organization_ids,
          array_agg(given.priority) as priorities,
          array_agg(given.triggered_at) as triggered_at,
          array_agg(given.deliver_until) as deliver_until,
          (
            select jsonb_object_agg(organization.id, scenario_private.min_gap_of(organization.id))
            from (select distinct other.organization_id as id from unnest(candidates) as other) as organization
          ) as gaps
        from unnest(candidates) as given
        where given.reason is null and given.wait_until is null
      ) as going
      cross join lateral scenario_private.take_turns(
        going.ids, going.user_ids, going.organization_ids, going.priorities, going.triggered_at, going.deliver_until,
        going.gaps
      ) as turn
      join unnest(going.ids) with ordinality as element (id, place) on element.place = turn.place
    ) as turn on turn.id = asked.id
  );
end
$$;
revoke all on function scenario_private.await_moments(scenario_private.lease_candidate[], boolean)
  from public, anon, authenticated;
grant execute on function scenario_private.await_moments(scenario_private.lease_candidate[], boolean) to service_role;
