-- The rule of $name keeps the contract of scenario_repo's rules. Run by `supabase test db`.

begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select plan(8);

select ok(
  '$name' = any (scenario_private.scenario_types()),
  'the CHECK lists $name'
);

select isnt_empty(
  $$$$ select from public.scenario_evaluation_config where scenario_type = '$name' and organization_id is null $$$$,
  '$name has its default settings'
);

select is_empty(
  $$$$ select attname, atttypid::regtype from pg_attribute
     where attrelid = 'scenario_private.rule_contract'::regclass and attnum > 0
     except
     select attname, atttypid::regtype from pg_attribute
     where attrelid = 'scenario_private.${name}_rule'::regclass and attnum > 0 $$$$,
  '${name}_rule has the columns of the contract, with their types'
);

select ok(
  has_table_privilege('service_role', 'scenario_private.${name}_rule', 'select'),
  'service_role may read ${name}_rule'
);

select is_empty(
  $$$$ select user_id, organization_id from scenario_private.${name}_rule group by 1, 2 having count(*) > 1 $$$$,
  '${name}_rule has one row for each mentor and organization'
);

select is_empty(
  $$$$ select user_id from scenario_private.${name}_rule
     where scenario_type is distinct from '$name'
       or milestone_value is not null
       or finding is null
       or finding !~ '^[a-z][a-z0-9_]*$$'
       or (is_due and cooldown is null) $$$$,
  '${name}_rule gives values that an evaluation can use'
);

select is_empty(
  $$$$ select user_id from scenario_private.${name}_rule
     where is_due and facts is not null and not scenario_private.is_storable_metadata(facts) $$$$,
  '${name}_rule gives facts that a notification can keep'
);

select is_empty(
  $$$$ select user_id from scenario_private.${name}_rule
     where subjects is null
       or (subjects <> '{}' and not scenario_private.are_storable_subjects(subjects))
       or series_limit < 1 $$$$,
  '${name}_rule gives subjects that a notification can keep, and a series room for one'
);

-- Add here: a mentor who is due and one who is not, at the boundary.

select * from finish();
rollback;
