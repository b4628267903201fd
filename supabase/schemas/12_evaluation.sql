-- Evaluation: find who is due and claim for them, a page of mentors at a time, inside the database.
--
-- Most passes find most of those who are due in a cooldown: the scheduler runs every few minutes, a cooldown lasts
-- weeks. Whom a cooldown holds costs one index look-up: no facts are put together, nothing is sorted, and no claim is
-- made only to be refused. A dry run asks the same query and stops there.

-- Evaluates one page: the mentors after p_after, by user_id, p_limit active memberships or a few more (a user's
-- memberships are never split), of one organization or of all.
--   out  {"evaluated", "due", "claimed", "skipped": {reason: count}, "next_after"}; next_after is null at the end.
-- p_dry_run counts what would be claimed and writes nothing. Raises SR001 for a limit outside 1 to 100,000, SR004 for
-- an unknown scenario type, SR005 without its default settings, SR008 without its rule. Every page stands for itself:
-- repeated and overlapping calls are refused by the cooldown.
-- The queries are built for each call, so that they are planned for their own bounds (a generic plan costs up to 20
-- times).
create or replace function public.scenario_evaluate(
  p_scenario_type text,
  p_organization_id uuid default null,
  p_after uuid default null,
  p_limit integer default 10000,
  p_dry_run boolean default false,
  p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
declare
  rule regclass;
  bounds text := '';
  last_user_id uuid;
  evaluated_count integer;
  due_count integer;
  held_count integer;
  candidate_count integer;
  user_ids uuid[];
  organization_ids uuid[];
  cooldowns interval[];
  milestone_values integer[];
  facts jsonb[];
  away_user_ids uuid[];
  away_reasons text[];
  skip_reasons text[];
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 100000);
  if p_dry_run is null then
    raise exception using errcode = 'SR001', message = 'expected p_dry_run as true or false, got null';
  end if;
  rule := scenario_private.rule_of(p_scenario_type);
  perform scenario_private.require_default_settings(p_scenario_type);

  if p_organization_id is not null then
    bounds := bounds || format(' and mentor.organization_id = %L', p_organization_id);
  end if;
  if p_after is not null then
    bounds := bounds || format(' and mentor.user_id > %L', p_after);
  end if;
  execute format(
    'select mentor.user_id
     from scenario_source.mentors as mentor
     where mentor.is_active%s
     order by mentor.user_id
     offset %s
     limit 1',
    bounds, p_limit - 1
  ) into last_user_id;
  if last_user_id is not null then
    bounds := bounds || format(' and mentor.user_id <= %L', last_user_id);
  end if;

  -- A milestone that is due is one the user does not have: only a cooldown holds. Of a user's memberships that are due
  -- and not held one is claimed for: that of the highest milestone or the shortest cooldown (if it refuses, so does
  -- every longer one), then of the lowest organization_id.
  execute format(
    'with mentor as materialized (
       select
         mentor.user_id,
         mentor.organization_id,
         mentor.cooldown,
         mentor.milestone_value,
         mentor.is_due,
         holder.is_held,
         case when mentor.is_due and holder.is_held is null then mentor.facts end as facts
       from %s as mentor
       left join lateral (
         select true as is_held
         from scenario_private.holding as holding
         where mentor.is_due
           and holding.user_id = mentor.user_id
           and holding.scenario_type = %L
           and holding.triggered_at > now()
             - case when mentor.cooldown is not null then least(mentor.cooldown, interval ''36525 days'') end
         order by holding.triggered_at desc
         limit 1
       ) as holder on true
       where mentor.is_evaluated%s
     )
     select tally.*, candidates.*
     from (
       select count(*), count(*) filter (where mentor.is_due), count(mentor.is_held)
       from mentor
     ) as tally
     cross join (
       select
         count(*),
         array_agg(candidate.user_id),
         array_agg(candidate.organization_id),
         array_agg(candidate.cooldown),
         array_agg(candidate.milestone_value),
         array_agg(candidate.facts)
       from (
         select distinct on (mentor.user_id) mentor.*
         from mentor
         where mentor.is_due and mentor.is_held is null
         order by mentor.user_id, mentor.milestone_value desc, mentor.cooldown, mentor.organization_id
       ) as candidate
     ) as candidates',
    rule, p_scenario_type, bounds
  ) into evaluated_count, due_count, held_count, candidate_count,
    user_ids, organization_ids, cooldowns, milestone_values, facts;

  -- Users who are gone or banned are not notified: the lease asks the same again.
  if candidate_count > 0 then
    select array_agg(away.user_id), array_agg(away.reason) into away_user_ids, away_reasons
    from scenario_private.users_away(user_ids) as away;
  end if;
  if cardinality(away_reasons) > 0 then
    select
      count(*),
      array_agg(candidate.user_id),
      array_agg(candidate.organization_id),
      array_agg(candidate.cooldown),
      array_agg(candidate.milestone_value),
      array_agg(candidate.facts)
    into candidate_count, user_ids, organization_ids, cooldowns, milestone_values, facts
    from unnest(user_ids, organization_ids, cooldowns, milestone_values, facts)
      as candidate (user_id, organization_id, cooldown, milestone_value, facts)
    where coalesce(candidate.user_id <> all (away_user_ids), true);
  end if;

  if p_dry_run or candidate_count = 0 then
    skip_reasons := array_fill(null::text, array[candidate_count]);
  else
    -- Another claimer may have been faster since the query above: its users are skipped here.
    skip_reasons := array(
      select outcome.skip_reason
      from scenario_private.claim(
        user_ids,
        organization_ids,
        array_fill(p_scenario_type, array[candidate_count]),
        cooldowns,
        milestone_values,
        facts
      ) as outcome
    );
  end if;

  return (
    select json_build_object(
      'evaluated', evaluated_count,
      'due', due_count,
      'claimed', coalesce(sum(tally.mentors) filter (where tally.reason is null), 0),
      'skipped', coalesce(json_object_agg(tally.reason, tally.mentors) filter (where tally.reason is not null), '{}'),
      'next_after', last_user_id
    )
    from (
      select part.reason, sum(part.mentors) as mentors
      from (
        select element.reason, 1
        from unnest(skip_reasons || away_reasons) as element (reason)
        union all
        values
          ('cooldown', held_count),
          ('duplicate_in_batch', due_count - held_count - candidate_count - coalesce(cardinality(away_reasons), 0))
      ) as part (reason, mentors)
      group by part.reason
      having sum(part.mentors) > 0
    ) as tally
  );
end
$$;
revoke all on function public.scenario_evaluate(text, uuid, uuid, integer, boolean, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_evaluate(text, uuid, uuid, integer, boolean, integer) to service_role;

-- Evaluates the next page of the scenario's pass and keeps the books: where the pass stands and what it has done so
-- far, in the row of p_organization_id (made when there is none), or in the default row for all organizations.
-- Page, figures and resume point are one transaction: a pass goes on where it stood, whoever died in between. Two
-- callers take turns, page by page, and share one pass.
create or replace function public.scenario_evaluate_next_page(
  p_scenario_type text,
  p_organization_id uuid default null,
  p_limit integer default 10000,
  p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
declare
  pass public.scenario_evaluation_config;
  page json;
  started_at timestamptz;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_scenario_type(p_scenario_type);
  perform scenario_private.require_default_settings(p_scenario_type);
  if p_organization_id is not null then
    insert into public.scenario_evaluation_config (scenario_type, organization_id)
    values (p_scenario_type, p_organization_id)
    on conflict do nothing;
  end if;
  select * into pass
  from public.scenario_evaluation_config as config
  where config.scenario_type = p_scenario_type
    and config.organization_id is not distinct from p_organization_id
  for no key update;

  started_at := clock_timestamp();
  page := public.scenario_evaluate(p_scenario_type, p_organization_id, pass.resume_after, p_limit);

  if pass.resume_after is null then
    pass.pass_evaluated := 0;
    pass.pass_due := 0;
    pass.pass_claimed := 0;
    pass.pass_duration := '0';
  end if;
  update public.scenario_evaluation_config as config
  set
    pass_evaluated = pass.pass_evaluated + (page ->> 'evaluated')::bigint,
    pass_due = pass.pass_due + (page ->> 'due')::bigint,
    pass_claimed = pass.pass_claimed + (page ->> 'claimed')::bigint,
    pass_skipped = pass.pass_due + (page ->> 'due')::bigint - pass.pass_claimed - (page ->> 'claimed')::bigint,
    pass_duration = pass.pass_duration + (clock_timestamp() - started_at),
    pass_finished_at = case when page ->> 'next_after' is null then now() else config.pass_finished_at end,
    resume_after = (page ->> 'next_after')::uuid
  where config.id = pass.id;
  return page;
end
$$;
revoke all on function public.scenario_evaluate_next_page(text, uuid, integer, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_evaluate_next_page(text, uuid, integer, integer) to service_role;
