-- Passes: which scenario a run begins with, where each pass stands, and how large its pages are.
--
-- A run may end before every scenario had a page, and a page may hang or fail for the whole run, in every run. So who
-- has waited longest comes first, by the database's clock, and what is remembered of a run is stored before its first
-- page: a page that is undone takes nothing with it.

-- The scenario types to evaluate: those that have default settings or a rule.
create or replace function scenario_private.evaluated_types()
returns text[]
language sql
stable
set search_path = ''
as $$
  select array(
    select listed.scenario_type
    from unnest(scenario_private.scenario_types()) with ordinality as listed (scenario_type, ordinal)
    where exists (
      select
      from public.scenario_evaluation_config as config
      where config.scenario_type = listed.scenario_type and config.organization_id is null
    ) or to_regclass(format('scenario_private.%I', listed.scenario_type || '_rule')) is not null
    order by listed.ordinal
  )
$$;
revoke all on function scenario_private.evaluated_types() from public, anon, authenticated;
grant execute on function scenario_private.evaluated_types() to service_role;

-- Begins a run over some scenario types, or all that are evaluated: says in which order, and how large a page may be.
--   out  {"passes": [{"scenario_type", "place", "page_size", "pass_number"}]}, in the order of p_scenario_types; place 1
--        is the first of the run: who has waited longest for a page or to be the first; page_size is the size that was
--        found to be done in time, null where none is known; pass_number is the pass to take part in: the one under way,
--        or the next one
-- The first one is recorded as served, so that the next run begins with another one even if no page comes of it; if
-- none has come since it was the first one before, its pages are halved. One whose page is running elsewhere is not the
-- first.
-- A type that is unknown or has no settings has a place as well: its page is refused.
create or replace function public.scenario_begin_run(
  p_scenario_types text[] default null, p_organization_id uuid default null, p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
as $$
declare
  kinds text[];
  first_id uuid;
begin
  perform scenario_private.require_schema(p_needs_schema);
  kinds := coalesce(p_scenario_types, scenario_private.evaluated_types());
  if p_organization_id is not null then
    insert into public.scenario_evaluation_config (scenario_type, organization_id)
    select config.scenario_type, p_organization_id
    from public.scenario_evaluation_config as config
    where config.scenario_type = any (kinds) and config.organization_id is null
    on conflict do nothing;
  end if;

  select config.id into first_id
  from unnest(kinds) with ordinality as given (scenario_type, place)
  join public.scenario_evaluation_config as config
    on config.scenario_type = given.scenario_type
    and config.organization_id is not distinct from p_organization_id
  order by config.pass_served_at nulls first, given.place
  limit 1
  for no key update of config skip locked;
  update public.scenario_evaluation_config as config
  set
    pass_page_size = case
      -- Not where another run has begun just now: its first page is on its way.
      when config.pass_page_owed_since < clock_timestamp() - interval '1 second'
        then greatest(1, coalesce(config.pass_page_size, 1000) / 2)
      else config.pass_page_size
    end,
    pass_served_at = clock_timestamp(),
    pass_page_owed_since = clock_timestamp()
  where config.id = first_id;

  return json_build_object(
    'passes', array(
      select json_build_object(
        'scenario_type', given.scenario_type,
        'place', row_number() over (
          order by coalesce(config.id = first_id, false) desc, config.pass_served_at nulls first, given.place
        ),
        'page_size', config.pass_page_size,
        'pass_number', config.pass_number + 1
      )
      from unnest(kinds) with ordinality as given (scenario_type, place)
      left join public.scenario_evaluation_config as config
        on config.scenario_type = given.scenario_type
        and config.organization_id is not distinct from p_organization_id
      order by given.place
    )
  );
end
$$;
revoke all on function public.scenario_begin_run(text[], uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_begin_run(text[], uuid, integer) to service_role;

-- The answer to a request for a page of a pass.
create or replace function scenario_private.page_of_pass(
  p_page json, p_next_after uuid, p_pass_number bigint, p_in_other_hands boolean
)
returns json
language sql
stable
set search_path = ''
as $$
  select json_build_object(
    'evaluated', coalesce(p_page -> 'evaluated', '0'),
    'due', coalesce(p_page -> 'due', '0'),
    'claimed', coalesce(p_page -> 'claimed', '0'),
    'history', coalesce(p_page -> 'history', '0'),
    'skipped', coalesce(p_page -> 'skipped', '{}'),
    'next_after', p_next_after,
    'due_mentors', coalesce(p_page -> 'due_mentors', '[]'),
    'pass_number', p_pass_number,
    'in_other_hands', p_in_other_hands
  )
$$;
revoke all on function scenario_private.page_of_pass(json, uuid, bigint, boolean) from public, anon, authenticated;
grant execute on function scenario_private.page_of_pass(json, uuid, bigint, boolean) to service_role;

-- Evaluates the next page of the scenario's pass and keeps the books: where the pass stands and what it has done so
-- far. The pass is that of p_organization_id (its row is made when there is none), or the one over all organizations.
--   out  as scenario_evaluate, and {"pass_number", "in_other_hands"}; next_after is null once the pass is over
-- Page, figures and place are one transaction: a pass goes on where it stood, whoever died in between. Callers share
-- one pass and don't wait for each other: each takes a range that nobody has in hand (12_pass_ranges.sql). Where there
-- is none, in_other_hands is true, and nobody was evaluated: ask again in a while. The first call of a pass that is
-- worth cutting does only that.
-- p_limit is kept as the size that the scenario's pages have: a whole page of it was done in time.
-- p_pass_number is the pass to take part in, as scenario_begin_run or an earlier page said: if it is over, next_after is
-- null and nobody was evaluated. Without it the next pass begins where one has ended.
create or replace function public.scenario_evaluate_next_page(
  p_scenario_type text,
  p_organization_id uuid default null,
  p_limit integer default 10000,
  p_due_within_seconds double precision default null,
  p_pass_number bigint default null,
  p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set timezone = 'UTC'
as $$
declare
  somewhere constant uuid := '00000000-0000-0000-0000-000000000000'::uuid;
  pass public.scenario_evaluation_config;
  range scenario_private.pass_range;
  bounds uuid[];
  begins boolean := false;
  is_locked boolean;
  is_over boolean := false;
  evaluated record;
  page json;
  started_at timestamptz;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_scenario_type(p_scenario_type);
  perform scenario_private.require_default_settings(p_scenario_type);
  perform scenario_private.require_between('p_limit', p_limit, 1, 100000);
  if p_organization_id is not null then
    insert into public.scenario_evaluation_config (scenario_type, organization_id)
    values (p_scenario_type, p_organization_id)
    on conflict do nothing;
  end if;
  -- Whoever deletes the settings waits for the page: not the page for them, with its range locked.
  select * into pass
  from public.scenario_evaluation_config as config
  where config.scenario_type = p_scenario_type
    and config.organization_id is not distinct from p_organization_id
  for key share;
  if p_pass_number <= pass.pass_number then
    return scenario_private.page_of_pass(null, null, p_pass_number, false);
  end if;

  select * into range
  from scenario_private.pass_range as free
  where free.pass_id = pass.id and not free.is_finished
  order by free.number desc
  limit 1
  for no key update skip locked;
  if range.pass_id is null then
    select * into pass
    from public.scenario_evaluation_config as config
    where config.id = pass.id
    for no key update skip locked;
    if not found or exists (
      select from scenario_private.pass_range as taken where taken.pass_id = pass.id and not taken.is_finished
    ) then
      return scenario_private.page_of_pass(null, somewhere, p_pass_number, true);
    end if;
    if p_pass_number <= pass.pass_number then
      return scenario_private.page_of_pass(null, null, p_pass_number, false);
    end if;
    begins := not exists (select from scenario_private.pass_range as done where done.pass_id = pass.id);
    if begins then
      bounds := scenario_private.range_bounds(p_organization_id);
      insert into scenario_private.pass_range (pass_id, number, place, upto)
      select pass.id, part.number, bounds[part.number - 1], bounds[part.number]
      from generate_series(1, coalesce(cardinality(bounds), 0) + 1) as part (number);
      if cardinality(bounds) > 0 then
        perform scenario_private.keep_left_out(pass.id, true, false, null, null, null);
        update public.scenario_evaluation_config as config
        set pass_served_at = clock_timestamp(), pass_page_owed_since = null
        where config.id = pass.id;
        return scenario_private.page_of_pass(null, bounds[1], pass.pass_number + 1, false);
      end if;
      select * into range from scenario_private.pass_range as whole where whole.pass_id = pass.id;
    end if;
  end if;

  if range.pass_id is not null then
    started_at := clock_timestamp();
    select * into evaluated
    from scenario_private.evaluate_page(
      p_scenario_type, p_organization_id, range.place, p_limit, false, p_due_within_seconds, false, true, range.upto
    );
    page := evaluated.page;
    range.place := coalesce((page ->> 'next_after')::uuid, range.upto, range.place);
    range.is_finished := page ->> 'next_after' is null;
    update scenario_private.pass_range as served
    set
      place = range.place,
      evaluated = served.evaluated + (page ->> 'evaluated')::bigint,
      due = served.due + (page ->> 'due')::bigint,
      claimed = served.claimed + (page ->> 'claimed')::bigint,
      history = served.history + (page ->> 'history')::bigint,
      duration = served.duration + (clock_timestamp() - started_at),
      is_finished = range.is_finished
    where served.pass_id = range.pass_id and served.number = range.number;
  end if;

  -- What is kept for the next run needs no certainty: who has the row writes the same. The end of the pass is recorded
  -- by whoever finds all ranges finished with the row locked, or by the next call.
  select true into is_locked
  from public.scenario_evaluation_config as config
  where config.id = pass.id
  for no key update skip locked;
  if is_locked then
    is_over := not exists (
      select from scenario_private.pass_range as open where open.pass_id = pass.id and not open.is_finished
    );
    update public.scenario_evaluation_config as config
    set
      -- The rest of a range proves no larger size than its own.
      pass_page_size = case
        when page is null then config.pass_page_size
        when range.is_finished
          then least(p_limit, greatest(coalesce(config.pass_page_size, p_limit), (page ->> 'evaluated')::integer))
        else p_limit
      end,
      pass_served_at = clock_timestamp(),
      pass_page_owed_since = null
    where config.id = pass.id
    returning * into pass;
  end if;
  if range.pass_id is null then
    perform scenario_private.keep_left_out(pass.id, begins, is_over, null, null, null);
  else
    perform scenario_private.keep_left_out(
      pass.id, begins, is_over,
      evaluated.left_out_organization_ids, evaluated.left_out_reasons, evaluated.left_out_mentors
    );
  end if;
  if is_over then
    update public.scenario_evaluation_config as config
    set
      pass_number = config.pass_number + 1,
      pass_evaluated = done.evaluated,
      pass_due = done.due,
      pass_claimed = done.claimed,
      pass_skipped = done.skipped,
      pass_history = done.history,
      pass_duration = done.duration,
      pass_finished_at = now()
    from scenario_private.pass as done
    where config.id = pass.id and done.id = config.id;
    delete from scenario_private.pass_range as done where done.pass_id = pass.id;
  end if;
  return scenario_private.page_of_pass(
    page, case when not is_over then coalesce(range.place, somewhere) end, pass.pass_number + 1, false
  );
end
$$;
revoke all on function
  public.scenario_evaluate_next_page(text, uuid, integer, double precision, bigint, integer)
  from public, anon, authenticated;
grant execute on function
  public.scenario_evaluate_next_page(text, uuid, integer, double precision, bigint, integer)
  to service_role;
