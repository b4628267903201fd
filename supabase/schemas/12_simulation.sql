-- Simulation: who would be due by settings that nobody has yet, beside who is due by today's.
--
-- Rule, evaluation and checks are the real ones; the settings alone are others, and only for this transaction
-- (scenario_private.standard_setting). Nothing is written, to be undone: it runs in a subtransaction that is read-only,
-- in which PostgreSQL refuses every write and row lock, also those of an app's own rule. So nobody waits for a
-- simulation, and nobody sees it: no row, no number of a sequence, no trigger, no transaction id. What the
-- subtransaction has set ends with it.
--
-- Its numbers are exact, also those of fewer than 5 persons, like those of the dry run that it is: it is for whoever
-- holds the secret key and may have the persons themselves listed, pages of it are added up by the caller, and a setting
-- for a small organization can't be tried by numbers that are not told. What is made to be given away to an
-- organization leaves them out: its outcomes and who was left out.

-- The settings that a scenario type would have after p_changes, as the row of simulated_settings. For an organization
-- they are what it overrides, above the defaults.
-- Raises SR001 unless p_changes is an object of settings that who is due follows from, and whatever
-- scenario_evaluation_config itself would refuse: 23514 with its constraint, 22xxx for a text that is none.
create or replace function scenario_private.changed_settings(
  p_scenario_type text, p_changes jsonb, p_organization_id uuid
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  names constant text[] := array(
    select attribute.attname
    from pg_catalog.pg_attribute as attribute
    where attribute.attrelid = 'scenario_private.standard_setting'::regclass
      and attribute.attnum > 0
      and attribute.attname <> 'scenario_type'
    order by attribute.attnum
  );
  standard public.scenario_evaluation_config;
  changed public.scenario_evaluation_config;
  rule record;
  is_broken boolean;
begin
  if jsonb_typeof(p_changes) is distinct from 'object' or p_changes = '{}' then
    raise exception using errcode = 'SR001', message = 'expected p_changes as a json object of settings';
  end if;
  if exists (select from jsonb_object_keys(p_changes) as given (name) where given.name <> all (names)) then
    raise exception using
      errcode = 'SR001',
      message = format('expected settings that change who is due: %s', array_to_string(names, ', '));
  end if;

  select config.* into standard
  from public.scenario_evaluation_config as config
  where config.scenario_type = p_scenario_type and config.organization_id is null;
  changed := standard;
  if p_organization_id is not null then
    select config.* into changed
    from public.scenario_evaluation_config as config
    where config.scenario_type = p_scenario_type and config.organization_id = p_organization_id;
    changed.scenario_type := p_scenario_type;
    changed.organization_id := p_organization_id;
  end if;
  changed := jsonb_populate_record(changed, p_changes);

  -- No row is written: its constraints are asked one by one.
  for rule in
    select known.conname as name, pg_catalog.pg_get_expr(known.conbin, known.conrelid) as condition
    from pg_catalog.pg_constraint as known
    where known.conrelid = 'public.scenario_evaluation_config'::regclass and known.contype = 'c'
    order by known.conname
  loop
    execute format('select (%s) is false from (select ($1).*) as config', rule.condition) into is_broken using changed;
    if is_broken then
      raise exception using
        errcode = 'check_violation',
        message = format(
          'new row for relation "scenario_evaluation_config" violates check constraint "%s"', rule.name
        ),
        schema = 'public',
        table = 'scenario_evaluation_config',
        constraint = rule.name;
    end if;
  end loop;
  if p_organization_id is null then
    return to_jsonb(changed);
  end if;
  return to_jsonb(standard) || jsonb_strip_nulls(to_jsonb(changed));
end
$$;
revoke all on function scenario_private.changed_settings(text, jsonb, uuid) from public, anon, authenticated;
grant execute on function scenario_private.changed_settings(text, jsonb, uuid) to service_role;

-- Evaluates one page twice without claiming: by today's settings, and by those that p_changes would make of them.
--   in   p_changes  {setting: value}, as the columns of scenario_evaluation_config; null takes a setting away
--        p_organization_id  the changes are of what this one overrides, and its mentors alone are evaluated; without it
--        they are of the defaults, and all are
--   out  {"today", "simulated", "next_after"}, each of the two as scenario_evaluate answers a dry run
-- Both are the same mentors; between the two, others may claim.
-- Raises what scenario_evaluate raises, what scenario_private.changed_settings raises, and 25006 if the rule writes.
create or replace function public.scenario_simulate(
  p_scenario_type text,
  p_changes jsonb,
  p_organization_id uuid default null,
  p_after uuid default null,
  p_limit integer default 10000,
  p_list boolean default false,
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
  simulated_settings jsonb;
  today json;
  simulated json;
  is_done boolean := false;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_scenario_type(p_scenario_type);
  perform scenario_private.require_default_settings(p_scenario_type);
  simulated_settings := scenario_private.changed_settings(p_scenario_type, p_changes, p_organization_id);

  begin
    -- By a function's SET it can't be had: PostgreSQL 17 refuses that.
    perform set_config('transaction_read_only', 'on', true);
    select evaluated.page into today
    from scenario_private.evaluate_page(
      p_scenario_type, p_organization_id, p_after, p_limit, true, null, p_list, false
    ) as evaluated;
    perform set_config('scenario_repo.simulated_settings', simulated_settings::text, true);
    perform set_config('scenario_repo.simulated_organization', coalesce(p_organization_id::text, ''), true);
    select evaluated.page into simulated
    from scenario_private.evaluate_page(
      p_scenario_type, p_organization_id, p_after, p_limit, true, null, p_list, false
    ) as evaluated;
    is_done := true;
    raise exception using errcode = 'triggered_action_exception', message = 'simulated';
  exception when triggered_action_exception then
    if not is_done then
      raise;
    end if;
  end;
  return json_build_object('today', today, 'simulated', simulated, 'next_after', today -> 'next_after');
end
$$;
revoke all on function public.scenario_simulate(text, jsonb, uuid, uuid, integer, boolean, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_simulate(text, jsonb, uuid, uuid, integer, boolean, integer)
  to service_role;
