-- What is here: the catalogue as an installation is verified against it (`scenario-repo verify`).
--
-- The library has the same facts of a pristine installation (scenario_repo/catalogue.json, recorded by a test) and
-- compares. Texts are as PostgreSQL writes them back; where its versions write differently, they are left out.

-- Our relations: all of our schemas, and those of public that have our name.
create or replace view scenario_private.our_relation
with (security_invoker = true)
as
select
  relation.oid as relation_id,
  format('%I.%I', schema.nspname, relation.relname) as name,
  relation.relkind,
  relation.relrowsecurity,
  relation.relacl,
  relation.relowner,
  relation.reloptions
from pg_catalog.pg_class as relation
join pg_catalog.pg_namespace as schema on schema.oid = relation.relnamespace
where relation.relkind in ('r', 'p', 'v', 'm', 'f')
  and (
    schema.nspname in ('scenario_private', 'scenario_source')
    or schema.nspname = 'public' and starts_with(relation.relname, 'scenario_')
  );
comment on view scenario_private.our_relation is
  'The tables and views of scenario_repo.';
revoke all on table scenario_private.our_relation from public, anon, authenticated;
grant select on table scenario_private.our_relation to service_role;

-- Our functions: all of scenario_private, and those of public that have our name.
create or replace view scenario_private.our_function
with (security_invoker = true)
as
select
  function.oid as function_id,
  format('%I.%I(%s)', schema.nspname, function.proname, pg_get_function_identity_arguments(function.oid)) as name,
  function.proacl,
  function.proowner
from pg_catalog.pg_proc as function
join pg_catalog.pg_namespace as schema on schema.oid = function.pronamespace
where schema.nspname = 'scenario_private'
  or schema.nspname = 'public' and starts_with(function.proname, 'scenario_');
comment on view scenario_private.our_function is
  'The functions of scenario_repo.';
revoke all on table scenario_private.our_function from public, anon, authenticated;
grant select on table scenario_private.our_function to service_role;

-- What a source view reads: the app's tables, and the views between.
create or replace view scenario_private.source_relation
with (security_invoker = true)
as
select
  source.name as source,
  relation.oid as relation_id,
  format('%I.%I', schema.nspname, relation.relname) as name,
  quote_ident(schema.nspname) as schema_name,
  relation.relkind,
  read.depth,
  has_any_column_privilege('service_role', relation.oid, 'select') as is_readable,
  has_schema_privilege('service_role', schema.oid, 'usage') as is_in_reach
from scenario_private.our_relation as source
cross join lateral scenario_private.relations_behind(source.relation_id) as read
join pg_catalog.pg_class as relation on relation.oid = read.relation_id
join pg_catalog.pg_namespace as schema on schema.oid = relation.relnamespace
where starts_with(source.name, 'scenario_source.') and read.depth > 0;
comment on view scenario_private.source_relation is
  'The tables and views behind each source view, whether the service role may read each.';
revoke all on table scenario_private.source_relation from public, anon, authenticated;
grant select on table scenario_private.source_relation to service_role;

-- The facts, one a row: their kind, the object's name, and what there is to say of it.
create or replace view scenario_private.catalogue_fact
with (security_invoker = true)
as
select 'relation' as kind, our.name, jsonb_build_object(
  'is_view', our.relkind = 'v',
  'has_row_level_security', our.relrowsecurity,
  'is_logged', relation.relpersistence = 'p',
  -- But for a view's own: one on a table rewrites what is asked of it.
  'rules', coalesce(
    (
      select jsonb_agg(quote_ident(rule.rulename) order by rule.rulename)
      from pg_catalog.pg_rewrite as rule
      where rule.ev_class = our.relation_id and rule.rulename <> '_RETURN'
    ),
    '[]'
  ),
  'options', coalesce(
    (select jsonb_agg(option.text order by option.text) from unnest(our.reloptions) as option (text)), '[]'
  ),
  -- PostgreSQL 16 and later write fewer qualifiers and parentheses.
  'text', case
    when our.relkind = 'v' and not starts_with(our.name, 'scenario_source.')
      then md5(regexp_replace(pg_get_viewdef(our.relation_id), '\s|"?\w+"?\.|[()]', '', 'g'))
  end,
  -- Tells a default view from an app's own.
  'comment', case
    when starts_with(our.name, 'scenario_source.') then obj_description(our.relation_id, 'pg_class')
  end
) as fact
from scenario_private.our_relation as our
join pg_catalog.pg_class as relation on relation.oid = our.relation_id
union all
select 'column', format('%s.%I', our.name, attribute.attname), jsonb_build_object(
  'type', format_type(attribute.atttypid, attribute.atttypmod),
  'is_nullable', not attribute.attnotnull,
  'default', pg_get_expr(standard.adbin, standard.adrelid),
  'is_generated', attribute.attgenerated <> ''
)
from scenario_private.our_relation as our
join pg_catalog.pg_attribute as attribute
  on attribute.attrelid = our.relation_id and attribute.attnum > 0 and not attribute.attisdropped
left join pg_catalog.pg_attrdef as standard
  on standard.adrelid = attribute.attrelid and standard.adnum = attribute.attnum
union all
-- Not those of not null: PostgreSQL 18 lists them, and the column tells.
select 'constraint', format('%s.%I', our.name, rule.conname), jsonb_build_object(
  'text', pg_get_constraintdef(rule.oid)
)
from scenario_private.our_relation as our
join pg_catalog.pg_constraint as rule on rule.conrelid = our.relation_id and rule.contype in ('c', 'f', 'p', 'u', 'x')
union all
-- Of our tables, and of those the sources read.
select 'index', format('%I.%I', schema.nspname, class.relname), jsonb_build_object(
  'table', format('%I.%I', table_schema.nspname, owner.relname),
  'text', pg_get_indexdef(class.oid),
  'is_valid', index.indisvalid and index.indisready,
  'is_of_constraint', exists (
    select from pg_catalog.pg_constraint as rule where rule.conindid = class.oid and rule.contype in ('p', 'u', 'x')
  )
)
from (
  select our.relation_id from scenario_private.our_relation as our
  union
  select source.relation_id from scenario_private.source_relation as source
) as read
join pg_catalog.pg_index as index on index.indrelid = read.relation_id
join pg_catalog.pg_class as class on class.oid = index.indexrelid
join pg_catalog.pg_namespace as schema on schema.oid = class.relnamespace
join pg_catalog.pg_class as owner on owner.oid = index.indrelid
join pg_catalog.pg_namespace as table_schema on table_schema.oid = owner.relnamespace
union all
select 'trigger', format('%s.%I', our.name, "trigger".tgname), jsonb_build_object(
  'text', pg_get_triggerdef("trigger".oid),
  'is_enabled', "trigger".tgenabled <> 'D'
)
from scenario_private.our_relation as our
join pg_catalog.pg_trigger as "trigger" on "trigger".tgrelid = our.relation_id and not "trigger".tgisinternal
union all
select 'policy', format('%s.%I', our.name, policy.policyname), jsonb_build_object(
  'is_permissive', policy.permissive = 'PERMISSIVE',
  'roles', (select jsonb_agg(role.name order by role.name) from unnest(policy.roles) as role (name)),
  'command', lower(policy.cmd),
  'using', policy.qual,
  'with_check', policy.with_check
)
from scenario_private.our_relation as our
join pg_catalog.pg_policies as policy on format('%I.%I', policy.schemaname, policy.tablename) = our.name
union all
select 'function', our.name, jsonb_build_object(
  'text', md5(replace(function.prosrc, E'\r', '')),
  'returns', pg_get_function_result(function.oid),
  'language', language.lanname,
  'volatility', function.provolatile,
  'is_definer', function.prosecdef,
  'is_strict', function.proisstrict,
  'settings', coalesce(
    (select jsonb_agg(setting.text order by setting.text) from unnest(function.proconfig) as setting (text)), '[]'
  )
)
from scenario_private.our_function as our
join pg_catalog.pg_proc as function on function.oid = our.function_id
join pg_catalog.pg_language as language on language.oid = function.prolang
union all
-- What the API's roles may do; what an app grants to roles of its own is its business.
select
  'grant',
  format('%s %s to %s', object.kind, object.name, held.role),
  jsonb_build_object('privileges', jsonb_agg(held.privilege order by held.privilege))
from (
  select 'table' as kind, our.name, coalesce(our.relacl, acldefault('r', our.relowner)) as acl, our.relowner as owner
  from scenario_private.our_relation as our
  union all
  select 'function', our.name, coalesce(our.proacl, acldefault('f', our.proowner)), our.proowner
  from scenario_private.our_function as our
  union all
  select
    'schema', quote_ident(schema.nspname), coalesce(schema.nspacl, acldefault('n', schema.nspowner)), schema.nspowner
  from pg_catalog.pg_namespace as schema
  where schema.nspname in ('scenario_private', 'scenario_source')
  union all
  select 'column', format('%s.%I', our.name, attribute.attname), attribute.attacl, our.relowner
  from scenario_private.our_relation as our
  join pg_catalog.pg_attribute as attribute
    on attribute.attrelid = our.relation_id and attribute.attacl is not null and not attribute.attisdropped
) as object
cross join lateral (
  select
    case privilege.grantee when 0 then 'public' else pg_get_userbyid(privilege.grantee)::text end as role,
    lower(privilege.privilege_type) as privilege
  from aclexplode(object.acl) as privilege
  where privilege.grantee <> object.owner
) as held
where held.role in ('public', 'anon', 'authenticated', 'service_role')
group by object.kind, object.name, held.role;
comment on view scenario_private.catalogue_fact is
  'What PostgreSQL''s catalogue says of scenario_repo: what an installation is verified against.';
revoke all on table scenario_private.catalogue_fact from public, anon, authenticated;
grant select on table scenario_private.catalogue_fact to service_role;

-- Everything that an installation is verified by: the facts by kind and name; what the sources read, and whether the
-- service role may; which scenario types have no default settings; how many devices' tokens are several users'
-- (null where that was not asked, since the app's table can't be read); and the time here.
create or replace function public.scenario_get_catalogue(p_needs_schema integer default null)
returns jsonb
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
set plan_cache_mode = force_custom_plan
as $$
declare
  shared_tokens bigint;
begin
  perform scenario_private.require_schema(p_needs_schema);
  begin
    select count(*) into shared_tokens
    from (
      select from scenario_source.device_tokens as device group by device.token having count(*) > 1
    ) as shared;
  exception when others then
    shared_tokens := null;
  end;
  return jsonb_build_object(
    'schema_version', scenario_private.schema_version(),
    'now', clock_timestamp(),
    'facts', (
      select jsonb_object_agg(of_kind.kind, of_kind.facts)
      from (
        select catalogue.kind, jsonb_object_agg(catalogue.name, catalogue.fact) as facts
        from scenario_private.catalogue_fact as catalogue
        group by catalogue.kind
      ) as of_kind
    ),
    'sources', coalesce(
      (
        select jsonb_agg(
          jsonb_build_object(
            'source', source.source,
            'name', source.name,
            'is_table', source.relkind in ('r', 'p'),
            'is_direct', source.depth = 1,
            'is_readable', source.is_readable,
            'schema', source.schema_name,
            'is_in_reach', source.is_in_reach
          )
          order by source.source, source.name
        )
        from scenario_private.source_relation as source
      ),
      '[]'
    ),
    'without_settings', coalesce(
      (
        select jsonb_agg(rule.scenario_type order by rule.scenario_type)
        from scenario_private.rules() as rule
        where not exists (
          select
          from public.scenario_evaluation_config as settings
          where settings.scenario_type = rule.scenario_type and settings.organization_id is null
        )
      ),
      '[]'
    ),
    'shared_tokens', shared_tokens
  );
end
$$;
revoke all on function public.scenario_get_catalogue(integer) from public, anon, authenticated;
grant execute on function public.scenario_get_catalogue(integer) to service_role;
