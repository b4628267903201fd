-- The scenario types: the built-in four, and an app's own.
--
-- The CHECK of scenario_notifications is the list; every function that needs it asks scenario_private.scenario_types.
-- A type has a rule (the view scenario_private.<type>_rule) and a default row in scenario_evaluation_config.
-- `scenario-repo new-scenario` writes the migration that adds one.

-- The types that the CHECK lists, in its order. In PL/pgSQL, which keeps the plan: small calls ask it again and again.
create or replace function scenario_private.scenario_types()
returns text[]
language plpgsql
stable
set search_path = ''
as $$
begin
  return array(
    select literal.captured[1]
    from pg_catalog.pg_constraint as list
    cross join lateral pg_catalog.regexp_matches(pg_catalog.pg_get_constraintdef(list.oid), '''([a-z0-9_]+)''', 'g')
      with ordinality as literal (captured, ordinal)
    where list.conrelid = 'public.scenario_notifications'::regclass
      and list.conname = 'scenario_notifications_scenario_type_is_known'
    order by literal.ordinal
  );
end
$$;
revoke all on function scenario_private.scenario_types() from public, anon, authenticated;
grant execute on function scenario_private.scenario_types() to service_role;

-- Raises SR004 for anything but a type of the list.
create or replace function scenario_private.require_scenario_type(p_scenario_type text)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if p_scenario_type is null or p_scenario_type <> all (scenario_private.scenario_types()) then
    raise exception using
      errcode = 'SR004',
      message = format(
        'expected a known scenario type: %s', array_to_string(scenario_private.scenario_types(), ', ')
      );
  end if;
end
$$;
revoke all on function scenario_private.require_scenario_type(text) from public, anon, authenticated;
grant execute on function scenario_private.require_scenario_type(text) to service_role;

-- Adds a type to both CHECKs; the lists only grow. Nothing happens if it is there. For migrations: it alters tables, so
-- only their owner can call it. Existing rows are read once, under a lock that keeps writers waiting.
-- Raises SR008 for a name that is not made of a lower-case letter and then lower-case letters, digits and underscores,
-- 40 characters at most.
create or replace function scenario_private.add_scenario_type(p_scenario_type text)
returns void
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  listed text;
begin
  if p_scenario_type is null or p_scenario_type !~ '^[a-z][a-z0-9_]{0,39}$' then
    raise exception using
      errcode = 'SR008',
      message = 'expected a scenario type of 1 to 40 lower-case letters, digits and underscores, a letter first';
  end if;
  if p_scenario_type = any (scenario_private.scenario_types()) then
    return;
  end if;
  select string_agg(quote_literal(element.type), ', ' order by element.ordinal)
  into listed
  from unnest(scenario_private.scenario_types() || p_scenario_type) with ordinality as element (type, ordinal);
  execute format(
    'alter table public.scenario_notifications
       drop constraint scenario_notifications_scenario_type_is_known,
       add constraint scenario_notifications_scenario_type_is_known check (scenario_type in (%s))',
    listed
  );
  execute format(
    'alter table public.scenario_evaluation_config
       drop constraint scenario_evaluation_config_scenario_type_is_known,
       add constraint scenario_evaluation_config_scenario_type_is_known check (scenario_type in (%s))',
    listed
  );
end
$$;
revoke all on function scenario_private.add_scenario_type(text) from public, anon, authenticated, service_role;
