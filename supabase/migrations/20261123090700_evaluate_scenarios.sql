-- Evaluation: find who is due and claim for them, a page of mentors at a time, inside the database.

-- Evaluates one page: the mentors after p_after, by user_id, p_limit memberships or a few more (a user's memberships
-- are never split), of one organization or of all.
--   out  {"evaluated", "due", "claimed", "skipped": {reason: count}, "next_after"}; next_after is null at the end.
-- p_dry_run counts what would be claimed and writes nothing. Raises SR001 for an unknown scenario type or a limit
-- outside 1 to 100,000. Every page stands for itself: repeated and overlapping calls are refused by the cooldown.
-- The query is built for each call, so that it is planned for its own bounds (a generic plan costs up to 20 times).
create or replace function public.scenario_evaluate(
  p_scenario_type text,
  p_organization_id uuid default null,
  p_after uuid default null,
  p_limit integer default 10000,
  p_dry_run boolean default false
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
declare
  bounds text := '';
  last_user_id uuid;
  member_count bigint;
  evaluated_count bigint;
  repeated_count integer;
  user_ids uuid[];
  organization_ids uuid[];
  cooldowns interval[];
  milestone_values integer[];
  facts jsonb[];
  skip_reasons text[];
begin
  if p_scenario_type is null
    or p_scenario_type not in ('inactivity', 'milestone', 'certification_expiry', 'welcome_back')
  then
    raise exception using errcode = 'SR001', message = 'expected a known scenario type';
  end if;
  if p_limit is null or p_limit not between 1 and 100000 then
    raise exception using errcode = 'SR001', message = 'expected a limit from 1 to 100000';
  end if;

  if p_organization_id is not null then
    bounds := bounds || format(' and mentor.organization_id = %L', p_organization_id);
  end if;
  if p_after is not null then
    bounds := bounds || format(' and mentor.user_id > %L', p_after);
  end if;
  execute format(
    'select (array_agg(page.user_id order by page.user_id desc))[1], count(*)
     from (
       select mentor.user_id
       from public.peer_mentors as mentor
       where true%s
       order by mentor.user_id
       limit %s
     ) as page',
    bounds, p_limit
  ) into last_user_id, member_count;
  if member_count = p_limit then
    bounds := bounds || format(' and mentor.user_id <= %L', last_user_id);
  else
    last_user_id := null;
  end if;

  -- Of a user's memberships that are due one is claimed for: that of the highest milestone or the shortest cooldown
  -- (if it refuses, so does every longer one), then of the lowest organization_id.
  execute format(
    'with member as materialized (
       select
         mentor.*,
         row_number() over (
           partition by mentor.user_id, mentor.is_due
           order by mentor.milestone_value desc, mentor.cooldown, mentor.organization_id
         ) as repetition
       from scenario_private.scenario_rule as mentor
       where mentor.scenario_type = %L and mentor.is_evaluated%s
     )
     select
       (select count(*) from member),
       (select count(*)::integer from member where member.is_due and member.repetition > 1),
       array_agg(chosen.user_id),
       array_agg(chosen.organization_id),
       array_agg(chosen.cooldown),
       array_agg(chosen.milestone_value),
       array_agg(chosen.facts)
     from (
       select *
       from member
       where member.is_due and member.repetition = 1
       order by member.user_id
     ) as chosen',
    p_scenario_type, bounds
  ) into evaluated_count, repeated_count, user_ids, organization_ids, cooldowns, milestone_values, facts;

  if user_ids is null then
    skip_reasons := '{}';
  elsif p_dry_run then
    skip_reasons := array(
      -- A milestone that is due is one the user does not have: only a cooldown can refuse.
      select case when recent.held then 'cooldown' end
      from unnest(user_ids, cooldowns) as candidate (user_id, cooldown)
      left join lateral (
        select true as held
        from public.scenario_notifications as notification
        where notification.user_id = candidate.user_id
          and notification.scenario_type = p_scenario_type
          and notification.delivery_status <> 'failed'
          and notification.triggered_at > now() - candidate.cooldown
        order by notification.triggered_at desc
        limit 1
      ) as recent on true
    );
  else
    skip_reasons := array(
      select outcome.skip_reason
      from scenario_private.claim(
        user_ids,
        organization_ids,
        array_fill(p_scenario_type, array[cardinality(user_ids)]),
        cooldowns,
        milestone_values,
        facts
      ) as outcome
    );
  end if;
  skip_reasons := skip_reasons || array_fill('duplicate_in_batch'::text, array[repeated_count]);

  return (
    select json_build_object(
      'evaluated', evaluated_count,
      'due', cardinality(skip_reasons),
      'claimed', coalesce(sum(tally.mentors) filter (where tally.reason is null), 0),
      'skipped', coalesce(json_object_agg(tally.reason, tally.mentors) filter (where tally.reason is not null), '{}'),
      'next_after', last_user_id
    )
    from (
      select element.reason, count(*) as mentors
      from unnest(skip_reasons) as element (reason)
      group by element.reason
    ) as tally
  );
end
$$;
revoke all on function public.scenario_evaluate(text, uuid, uuid, integer, boolean) from public, anon, authenticated;
grant execute on function public.scenario_evaluate(text, uuid, uuid, integer, boolean) to service_role;

-- Evaluates the next page of the scenario's pass and keeps the books: where the pass stands and what it has done so
-- far, in the row of p_organization_id (made when there is none), or in the default row for all organizations.
-- Page, figures and resume point are one transaction: a pass goes on where it stood, whoever died in between. Two
-- callers take turns, page by page, and share one pass.
create or replace function public.scenario_evaluate_next_page(
  p_scenario_type text,
  p_organization_id uuid default null,
  p_limit integer default 10000
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
  if pass.id is null then
    raise exception using errcode = 'SR001', message = 'expected a known scenario type that has its default settings';
  end if;

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
revoke all on function public.scenario_evaluate_next_page(text, uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_evaluate_next_page(text, uuid, integer) to service_role;

-- Explains, for one user, each scenario in each organization where the user is a mentor: whether the next evaluation
-- would claim, and why or why not.
--   out  [{"scenario_type", "organization_id", "is_due", "reason", "facts", "milestone_value", "held_by", "ends_at"}]
-- reason is the rule's finding unless something comes first: mentor_not_active, scenario_disabled; or, for a mentor
-- who is due, cooldown (held_by until ends_at). A user who is no mentor gives [].
create or replace function public.scenario_explain(p_user_id uuid)
returns json
language sql
volatile
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
  select coalesce(
    json_agg(
      json_build_object(
        'scenario_type', verdict.scenario_type,
        'organization_id', verdict.organization_id,
        'is_due', verdict.is_evaluated and coalesce(verdict.is_due, false) and holder.id is null,
        'reason', case
          when not verdict.is_active then 'mentor_not_active'
          when not verdict.is_enabled then 'scenario_disabled'
          when verdict.is_due and holder.id is not null then 'cooldown'
          else verdict.finding
        end,
        'facts', verdict.facts,
        'milestone_value', verdict.milestone_value,
        'held_by', holder.id,
        'held_since', holder.triggered_at,
        'ends_at', case
          when holder.id is not null and verdict.cooldown is not null
            then least(holder.triggered_at + verdict.cooldown, timestamptz '9999-12-31 23:59:59+00')
        end
      )
      order by verdict.organization_id, verdict.scenario_type
    ),
    '[]'
  )
  from scenario_private.scenario_rule as verdict
  cross join lateral scenario_private.current_holder(
    verdict.user_id, verdict.scenario_type, verdict.cooldown, verdict.milestone_value
  ) as holder
  where verdict.user_id = p_user_id
$$;
revoke all on function public.scenario_explain(uuid) from public, anon, authenticated;
grant execute on function public.scenario_explain(uuid) to service_role;
