-- Evaluation: find who is due and claim for them, a page of mentors at a time, inside the database.
--
-- Most passes find most of those who are due in a cooldown: the scheduler runs every few minutes, a cooldown lasts
-- weeks. Who is held costs one index look-up: no facts are put together, nothing is sorted, and no claim is
-- made only to be refused. A dry run asks the same query and stops there.

-- The query of a rule's verdicts on some mentors, as text, for p_condition on mentor, the rule: said once for the
-- evaluation, the dry run and the explanation. Each mentor with
--   verdict         not_due, held (a notification holds against all that she is due for), history (it came true before
--                   history_before, and no series of it has begun), reminders_spent (the series is at its limit), due
--   new_subjects    of the subjects, those that nothing holds; null where nothing holds at all
--   predecessor_at  the newest claim before, as of the same snapshot: what is counted on top of it is exact only if the
--                   claim comes right after that one
--   facts           where she is due; with p_with_facts always, and is_active, is_enabled and is_evaluated too
-- p_history_before replaces the rule's own bound.
create or replace function scenario_private.verdict_query(
  p_rule regclass, p_scenario_type text, p_condition text, p_history_before timestamptz, p_with_facts boolean
)
returns text
language sql
stable
set search_path = ''
as $$
  select format(
    'select
       mentor.user_id,
       mentor.organization_id,
       %6$s
       given.cooldown,
       mentor.milestone_value,
       mentor.finding,
       given.subjects,
       coalesce(judged.verdict, ''not_due'') as verdict,
       judged.new_subjects,
       judged.predecessor_at,
       case when judged.verdict = ''due'' or %4$L then mentor.facts end as facts
     from %1$s as mentor
     cross join lateral (
       select
         case when mentor.cooldown is not null then least(mentor.cooldown, interval ''36525 days'') end as cooldown,
         coalesce(mentor.subjects, ''{}'') as subjects
     ) as given
     left join lateral (
       select
         told.verdict,
         told.new_subjects,
         case
           when told.verdict = ''due'' and told.newest_id is not null then (
             select notification.triggered_at
             from public.scenario_notifications as notification
             where notification.user_id = mentor.user_id
               and notification.scenario_type = %2$L
               and notification.cooldown_window_start is not null
             order by notification.cooldown_window_start desc
             limit 1
           )
         end as predecessor_at
       from (
         select
           held.newest_id,
           held.new_subjects,
           case
             when held.is_held and held.new_subjects is null then ''held''
             when counted.reminders = 0
               and mentor.crossed_at < case when mentor.history_before is not null then %3$s end
               then ''history''
             when counted.reminders >= mentor.series_limit then ''reminders_spent''
             else ''due''
           end as verdict
         from (
           select
             searched.*,
             case
               when searched.is_held and given.subjects <> ''{}'' then (
                 select array_agg(subject.value order by subject.value)
                 from unnest(given.subjects) as subject (value)
                 where not exists (
                   select
                   from scenario_private.holding as holding
                   where holding.user_id = mentor.user_id
                     and holding.scenario_type = %2$L
                     and holding.found_at > now() - given.cooldown - interval ''8 days''
                     and (holding.holds_until > now() or holding.holds_since > now() - given.cooldown)
                     and (holding.subjects = ''{}'' or subject.value = any (holding.subjects))
                 )
               )
             end as new_subjects
           from (
             select
               newest.id as newest_id,
               case
                 when newest.is_holding
                   and (given.subjects = ''{}'' or newest.subjects = ''{}'' or newest.subjects && given.subjects)
                   then true
                 -- Where the newest one doesn''t settle it, whatever may hold.
                 when newest.id is not null then exists (
                   select
                   from scenario_private.holding as holding
                   where holding.user_id = mentor.user_id
                     and holding.scenario_type = %2$L
                     and holding.found_at > now() - given.cooldown - interval ''8 days''
                     and (holding.outlasts or newest.triggered_at > now() - given.cooldown - interval ''8 days'')
                     and (holding.holds_until > now() or holding.holds_since > now() - given.cooldown)
                     and (given.subjects = ''{}'' or holding.subjects = ''{}'' or holding.subjects && given.subjects)
                 )
                 -- A milestone that is not recorded can still be held for a while, by a failure.
                 when mentor.milestone_value is not null then exists (
                   select
                   from scenario_private.hold as hold
                   where hold.user_id = mentor.user_id
                     and hold.scenario_type = %2$L
                     and hold.milestone_value = mentor.milestone_value
                     and hold.outlasts_at > now()
                     and hold.is_failed
                     and hold.holds_until > now()
                 )
                 else false
               end as is_held
             from (select) as one
             -- One look tells most of it: nothing yet, or the newest one holds.
             left join lateral (
               select
                 hold.id,
                 hold.triggered_at,
                 hold.subjects,
                 case
                   when hold.holds_from > now() - given.cooldown then true
                   else hold.holds_until > now() or hold.holds_since > now() - given.cooldown
                 end as is_holding
               from scenario_private.hold as hold
               where mentor.milestone_value is null
                 and hold.user_id = mentor.user_id
                 and hold.scenario_type = %2$L
               order by hold.triggered_at desc
               limit 1
             ) as newest on true
             offset 0
           ) as searched
           offset 0
         ) as held
         cross join lateral (
           select case
             when held.newest_id is null or mentor.series_began_at is null then 0
             when held.is_held and held.new_subjects is null then 0
             else (
               select count(*)
               from (
                 select
                 from scenario_private.reminder as reminder
                 where reminder.user_id = mentor.user_id
                   and reminder.scenario_type = %2$L
                   and reminder.triggered_at >= mentor.series_began_at
                 limit coalesce(mentor.series_limit, 1)
               ) as of_the_series
             )
           end as reminders
           offset 0
         ) as counted
         offset 0
       ) as told
       where mentor.is_due
       offset 0
     ) as judged on true
     where %5$s',
    p_rule,
    p_scenario_type,
    case
      when p_history_before is null then 'mentor.history_before'
      else format('%L::timestamptz', p_history_before)
    end,
    p_with_facts,
    p_condition,
    -- An evaluation does without: mentors come from their index alone.
    case when p_with_facts then 'mentor.is_active, mentor.is_enabled, mentor.is_evaluated,' end
  )
$$;
revoke all on function scenario_private.verdict_query(regclass, text, text, timestamptz, boolean)
  from public, anon, authenticated;
grant execute on function scenario_private.verdict_query(regclass, text, text, timestamptz, boolean) to service_role;

-- Evaluates one page, by the settings that hold in this transaction: what public.scenario_evaluate answers, of the
-- mentors up to p_upto; and with p_by_organization, who was left out: how many mentors of which organization for which reason,
-- by columns: of those for whom it came true, whoever was not claimed for. scenario_simulate makes it a dry run: SR001
-- where it would claim by simulated settings.
-- The queries are built for each call, so that they are planned for their own bounds (a generic plan costs up to 20
-- times).
create or replace function scenario_private.evaluate_page(
  p_scenario_type text,
  p_organization_id uuid,
  p_after uuid,
  p_limit integer,
  p_dry_run boolean,
  p_due_within_seconds double precision,
  p_list boolean,
  p_by_organization boolean,
  p_upto uuid default null,
  out page json,
  out left_out_organization_ids uuid[],
  out left_out_reasons text[],
  out left_out_mentors bigint[]
)
language plpgsql
volatile
security invoker
set search_path = ''
set timezone = 'UTC'
-- The page's bounds are in its plan; compiling it takes longer than running it.
set jit = off
as $$
declare
  rule regclass;
  bounds text := 'mentor.is_evaluated';
  last_user_id uuid;
  history_before timestamptz;
  evaluated_count integer;
  due_count integer;
  history_count integer;
  held_count integer;
  spent_count integer;
  muted_count integer;
  candidate_count integer;
  user_ids uuid[];
  organization_ids uuid[];
  cooldowns interval[];
  milestone_values integer[];
  facts jsonb[];
  subjects jsonb[];
  predecessors timestamptz[];
  findings text[];
  due_mentors json;
  claimed_count integer;
  lost_count integer;
  away_user_ids uuid[];
  away_reasons text[];
  places bigint[];
  outcome scenario_private.claim_answer;
  skip_reasons text[];
  unclaimed_places bigint[];
  unclaimed_reasons text[];
begin
  if not p_dry_run then
    perform scenario_private.require_real_settings();
  end if;
  perform scenario_private.require_between('p_limit', p_limit, 1, 100000);
  perform scenario_private.require_given('p_dry_run', p_dry_run);
  perform scenario_private.require_given('p_list', p_list);
  if p_list and not p_dry_run then
    raise exception using errcode = 'SR001', message = 'expected p_list only with p_dry_run';
  end if;
  if p_due_within_seconds is not null then
    perform scenario_private.require_between('p_due_within_seconds', p_due_within_seconds, 0, 36525 * 86400.0);
    history_before := now() - make_interval(secs => p_due_within_seconds);
  end if;
  rule := scenario_private.rule_of(p_scenario_type);
  perform scenario_private.require_default_settings(p_scenario_type);

  if p_organization_id is not null then
    bounds := bounds || format(' and mentor.organization_id = %L', p_organization_id);
  end if;
  if p_after is not null then
    bounds := bounds || format(' and mentor.user_id > %L', p_after);
  end if;
  if p_upto is not null then
    bounds := bounds || format(' and mentor.user_id <= %L', p_upto);
  end if;
  execute format(
    'select mentor.user_id
     from scenario_source.mentors as mentor
     where %s
     order by mentor.user_id
     offset %s
     limit 1',
    replace(bounds, 'mentor.is_evaluated', 'mentor.is_active'), p_limit - 1
  ) into last_user_id;
  -- Nobody is left after the bound.
  last_user_id := nullif(last_user_id, p_upto);
  if last_user_id is not null then
    bounds := bounds || format(' and mentor.user_id <= %L', last_user_id);
  end if;

  -- A page that lost a race to another claimer is undone and made again as a whole: what is due may be about something
  -- else by now, and rows go in in their order.
  for turn in 1..3 loop
    begin
      lost_count := 0;
      -- Of a user's memberships that are due one is claimed for: that in which she may be told first, then that of the
      -- highest milestone or the shortest cooldown (if it refuses, so does every longer one), then of the lowest
      -- organization_id.
      execute format(
        'with mentor as materialized (
           -- Nobody is claimed for who has muted it: the lease asks the same again.
           select verdict.*, case when verdict.verdict = ''due'' then %2$s else false end as is_muted
           from (%1$s) as verdict
         ),
         moment as materialized (
           select organization.id, scenario_private.next_moment(organization.id, now()) as opens_at
           from (
             select distinct mentor.organization_id as id
             from mentor
             where mentor.verdict = ''due'' and not mentor.is_muted and %3$L::boolean
           ) as organization
           offset 0
         ),
         counted as materialized (
           select %5$s as organization_id, mentor.verdict, mentor.is_muted, count(*) as mentors
           from mentor
           group by 1, 2, 3
         )
         select tally.*, candidates.*, left_out.*
         from (
           select
             coalesce(sum(counted.mentors), 0) as evaluated,
             coalesce(sum(counted.mentors) filter (where counted.verdict not in (''not_due'', ''history'')), 0) as due,
             coalesce(sum(counted.mentors) filter (where counted.verdict = ''history''), 0) as history,
             coalesce(sum(counted.mentors) filter (where counted.verdict = ''held''), 0) as held,
             coalesce(sum(counted.mentors) filter (where counted.verdict = ''reminders_spent''), 0) as spent,
             coalesce(sum(counted.mentors) filter (where counted.is_muted), 0) as muted
           from counted
         ) as tally
         cross join (
           select
             count(*) as candidates,
             array_agg(candidate.user_id) as user_ids,
             array_agg(candidate.organization_id) as organization_ids,
             array_agg(candidate.cooldown) as cooldowns,
             array_agg(candidate.milestone_value) as milestone_values,
             array_agg(
               case
                 when candidate.subjects = ''{}'' then candidate.facts
                 when jsonb_typeof(candidate.facts) <> ''object'' then candidate.facts
                 else coalesce(candidate.facts, ''{}'')
                   || jsonb_build_object(''new_subjects'', coalesce(candidate.new_subjects, candidate.subjects))
               end
             ) as facts,
             array_agg(case when candidate.subjects <> ''{}'' then to_jsonb(candidate.subjects) end) as subjects,
             array_agg(candidate.predecessor_at) as predecessors,
             %4$s as findings
           from (
             select distinct on (mentor.user_id) mentor.*
             from mentor
             left join moment on moment.id = mentor.organization_id
             where mentor.verdict = ''due'' and not mentor.is_muted
             order by
               mentor.user_id, moment.opens_at, mentor.milestone_value desc, mentor.cooldown, mentor.organization_id
           ) as candidate
         ) as candidates
         -- The due ones too: of a user''s memberships one is claimed for.
         cross join (
           select
             array_agg(counted.organization_id) as organization_ids,
             array_agg(
               case
                 when counted.is_muted then ''muted''
                 when counted.verdict = ''held'' then ''cooldown''
                 else counted.verdict
               end
             ) as reasons,
             array_agg(counted.mentors) as mentors
           from counted
           where counted.verdict <> ''not_due''
         ) as left_out',
        scenario_private.verdict_query(rule, p_scenario_type, bounds, history_before, false),
        case
          when exists (select from public.scenario_mutes)
            then format('scenario_private.is_muted(verdict.user_id, verdict.organization_id, %L)', p_scenario_type)
          else 'false'
        end,
        scenario_private.has_delivery_policies(),
        case when p_list then 'array_agg(candidate.finding)' else 'null::text[]' end,
        case when p_by_organization then 'mentor.organization_id' else 'null::uuid' end
      )
      into
        evaluated_count, due_count, history_count, held_count, spent_count, muted_count, candidate_count,
        user_ids,
        organization_ids, cooldowns, milestone_values, facts, subjects, predecessors, findings,
        left_out_organization_ids, left_out_reasons, left_out_mentors;

      -- Users who are gone or banned are not notified: the lease asks the same again.
      select array_agg(away.user_id), array_agg(away.reason) into away_user_ids, away_reasons
      from scenario_private.users_away(user_ids) as away;
      skip_reasons := away_reasons
        || array_fill('cooldown'::text, array[held_count])
        || array_fill('reminders_spent'::text, array[spent_count])
        || array_fill('muted'::text, array[muted_count])
        || array_fill(
          'duplicate_in_batch'::text, array[due_count - held_count - spent_count - muted_count - candidate_count]
        );
      claimed_count := 0;
      unclaimed_places := '{}';
      unclaimed_reasons := '{}';
      exit when candidate_count = 0;

      places := case
        when away_user_ids is not null then array(
          select candidate.place
          from unnest(user_ids) with ordinality as candidate (user_id, place)
          -- A row without a user is refused as an invalid claim, and counted.
          where (candidate.user_id = any (away_user_ids)) is not true
        )
      end;
      claimed_count := coalesce(cardinality(places), candidate_count);
      if p_list then
        select json_agg(to_json(candidate) order by candidate.user_id)
        into due_mentors
        from unnest(user_ids, organization_ids, milestone_values, findings)
          as candidate (user_id, organization_id, milestone_value, finding)
        where (candidate.user_id = any (away_user_ids)) is not true;
      end if;
      exit when p_dry_run;
      outcome := scenario_private.claim(
        scenario_private.new_id_prefix(), 'evaluation', user_ids, organization_ids, null, null, p_scenario_type,
        cooldowns, null, milestone_values, facts, null, subjects, predecessors, places, null
      );
      lost_count := coalesce(cardinality(outcome.lost_places), 0);
      if lost_count > 0 and turn < 3 then
        raise exception using errcode = 'triggered_action_exception', message = 'lost a race';
      end if;
      unclaimed_places := coalesce(outcome.skipped_places || outcome.lost_places, '{}');
      unclaimed_reasons := coalesce(outcome.skip_reasons, '{}') || array_fill('concurrent_claim'::text, array[lost_count]);
      claimed_count := claimed_count - cardinality(unclaimed_places);
      skip_reasons := skip_reasons || unclaimed_reasons;
      exit;
    exception when triggered_action_exception then
      if lost_count = 0 then
        raise;
      end if;
    end;
  end loop;

  -- Mostly nobody is to be claimed for: then it stands as it was counted.
  if p_by_organization and left_out_reasons is not null and due_count - held_count - spent_count > muted_count then
    select array_agg(tally.organization_id), array_agg(tally.reason), array_agg(tally.mentors)
    into left_out_organization_ids, left_out_reasons, left_out_mentors
    from (
      select found.organization_id, found.reason, sum(found.mentors)::bigint as mentors
      from (
        select counted.organization_id, counted.reason, counted.mentors
        from unnest(left_out_organization_ids, left_out_reasons, left_out_mentors)
          as counted (organization_id, reason, mentors)
        where counted.reason <> 'due'
        union all
        select candidate.organization_id, away.reason, 1
        from unnest(away_user_ids, away_reasons) as away (user_id, reason)
        join unnest(user_ids, organization_ids) as candidate (user_id, organization_id)
          on candidate.user_id = away.user_id
        union all
        select organization_ids[unclaimed.place], unclaimed.reason, 1
        from unnest(unclaimed_places, unclaimed_reasons) as unclaimed (place, reason)
        union all
        (
          select due.organization_id, 'duplicate_in_batch', sum(due.mentors)
          from (
            select counted.organization_id, counted.mentors
            from unnest(left_out_organization_ids, left_out_reasons, left_out_mentors)
              as counted (organization_id, reason, mentors)
            where counted.reason = 'due'
            union all
            select candidate.organization_id, -1
            from unnest(organization_ids) as candidate (organization_id)
          ) as due
          where due_count - held_count - spent_count - muted_count > candidate_count
          group by due.organization_id
          having sum(due.mentors) > 0
        )
      ) as found
      group by found.organization_id, found.reason
    ) as tally;
  end if;

  page := (
    select json_build_object(
      'evaluated', evaluated_count,
      'due', due_count,
      'claimed', claimed_count,
      'history', history_count,
      'skipped', coalesce(json_object_agg(tally.reason, tally.mentors), '{}'),
      'next_after', last_user_id,
      'due_mentors', coalesce(due_mentors, '[]')
    )
    from (
      select skipped.reason, count(*) as mentors
      from unnest(skip_reasons) as skipped (reason)
      group by skipped.reason
    ) as tally
  );
end
$$;
revoke all on function
  scenario_private.evaluate_page(text, uuid, uuid, integer, boolean, double precision, boolean, boolean, uuid)
  from public, anon, authenticated;
grant execute on function
  scenario_private.evaluate_page(text, uuid, uuid, integer, boolean, double precision, boolean, boolean, uuid)
  to service_role;

-- Evaluates one page: the mentors after p_after, by user_id, p_limit active memberships or a few more (a user's
-- memberships are never split), of one organization or of all.
--   out  {"evaluated", "due", "claimed", "history", "skipped": {reason: count}, "next_after", "due_mentors": [{
--        "user_id", "organization_id", "milestone_value", "finding"}]}; next_after is null at the end; history are
--        those for whom it came true longer than due_within ago: they are not due; due_mentors is empty without p_list
-- p_dry_run counts what would be claimed and writes nothing; with p_list it names whom, by user_id.
-- p_due_within_seconds replaces the settings' due_within.
-- Raises SR001 for a limit outside 1 to 100,000, a due_within that is negative or longer than 36,525 days, or p_list
-- without p_dry_run (a claim answers in counts); SR004 for an unknown scenario type, SR005 without its default
-- settings, SR008 without its rule. Every page stands for itself: what repeated and overlapping calls find is held.
create or replace function public.scenario_evaluate(
  p_scenario_type text,
  p_organization_id uuid default null,
  p_after uuid default null,
  p_limit integer default 10000,
  p_dry_run boolean default false,
  p_due_within_seconds double precision default null,
  p_list boolean default false,
  p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  return (
    select evaluated.page
    from scenario_private.evaluate_page(
      p_scenario_type, p_organization_id, p_after, p_limit, p_dry_run, p_due_within_seconds, p_list, false
    ) as evaluated
  );
end
$$;
revoke all on function
  public.scenario_evaluate(text, uuid, uuid, integer, boolean, double precision, boolean, integer)
  from public, anon, authenticated;
grant execute on function
  public.scenario_evaluate(text, uuid, uuid, integer, boolean, double precision, boolean, integer)
  to service_role;
