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
--   out  {"passes": [{"scenario_type", "place", "page_size"}]}, in the order of p_scenario_types; place 1 is the first
--        of the run: who has waited longest for a page or to be the first; page_size is the size that was found to be
--        done in time, null where none is known
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
        'page_size', config.pass_page_size
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

-- Evaluates the next page of the scenario's pass and keeps the books: where the pass stands and what it has done so
-- far, in the row of p_organization_id (made when there is none), or in the default row for all organizations.
-- Page, figures and resume point are one transaction: a pass goes on where it stood, whoever died in between. Two
-- callers take turns, page by page, and share one pass.
-- p_limit is kept as the size that the scenario's pages have: a whole page of it was done in time.
create or replace function public.scenario_evaluate_next_page(
  p_scenario_type text,
  p_organization_id uuid default null,
  p_limit integer default 10000,
  p_due_within_seconds double precision default null,
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
  evaluated record;
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
  select * into evaluated
  from scenario_private.evaluate_page(
    p_scenario_type, p_organization_id, pass.resume_after, p_limit, false, p_due_within_seconds, false, true
  );
  page := evaluated.page;
  perform scenario_private.keep_left_out(
    pass.id, pass.resume_after is null, page ->> 'next_after' is null,
    evaluated.left_out_organization_ids, evaluated.left_out_reasons, evaluated.left_out_mentors
  );

  if pass.resume_after is null then
    pass.pass_evaluated := 0;
    pass.pass_due := 0;
    pass.pass_claimed := 0;
    pass.pass_history := 0;
    pass.pass_duration := '0';
  end if;
  update public.scenario_evaluation_config as config
  set
    pass_evaluated = pass.pass_evaluated + (page ->> 'evaluated')::bigint,
    pass_due = pass.pass_due + (page ->> 'due')::bigint,
    pass_claimed = pass.pass_claimed + (page ->> 'claimed')::bigint,
    pass_skipped = pass.pass_due + (page ->> 'due')::bigint - pass.pass_claimed - (page ->> 'claimed')::bigint,
    pass_history = pass.pass_history + (page ->> 'history')::bigint,
    pass_duration = pass.pass_duration + (clock_timestamp() - started_at),
    pass_finished_at = case when page ->> 'next_after' is null then now() else config.pass_finished_at end,
    resume_after = (page ->> 'next_after')::uuid,
    pass_page_size = case
      when page ->> 'next_after' is null then least(config.pass_page_size, p_limit)
      else p_limit
    end,
    pass_served_at = clock_timestamp(),
    pass_page_owed_since = null
  where config.id = pass.id;
  return page;
end
$$;
revoke all on function public.scenario_evaluate_next_page(text, uuid, integer, double precision, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_evaluate_next_page(text, uuid, integer, double precision, integer)
  to service_role;
