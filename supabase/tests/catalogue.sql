-- The catalogue: what has to hold for every table, function and policy, whichever there are.
--
-- Beyond the CLI's advisors (lints 0001 to 0024): grants to the API's roles, executable and definer functions,
-- pinned search paths, wrapped policies. What belongs to an extension is the extension's business.

begin;
select plan(24);

create temp view our_schema as
  select oid, nspname as name, nspacl, nspowner
  from pg_namespace
  where nspname in ('public', 'scenario_private', 'scenario_source');

create temp view our_relation as
  select format('%s.%s', our_schema.name, class.relname) as name, class.*
  from pg_class as class
  join our_schema on our_schema.oid = class.relnamespace
  where not exists (
    select from pg_depend as dependency
    where dependency.classid = 'pg_class'::regclass and dependency.objid = class.oid and dependency.deptype = 'e'
  );

create temp view our_function as
  select format('%s.%s', our_schema.name, proc.proname) as name, our_schema.name as schema, proc.*
  from pg_proc as proc
  join our_schema on our_schema.oid = proc.pronamespace
  where not exists (
    select from pg_depend as dependency
    where dependency.classid = 'pg_proc'::regclass and dependency.objid = proc.oid and dependency.deptype = 'e'
  );

-- Who holds what: privileges as text, the grantee 0 is public.
create temp view relation_grant as
  select
    our_relation.name,
    our_relation.relkind,
    case grants.grantee when 0 then 'public' else grants.grantee::regrole::text end as grantee,
    grants.privilege_type as privilege
  from our_relation
  cross join aclexplode(
    coalesce(relacl, acldefault((case relkind when 'S' then 's' else 'r' end)::"char", relowner))
  ) as grants
  where relkind in ('r', 'p', 'v', 'm', 'f', 'S') and grants.grantee <> relowner;

create temp view function_grant as
  select
    our_function.name,
    case grants.grantee when 0 then 'public' else grants.grantee::regrole::text end as grantee,
    grants.privilege_type as privilege
  from our_function
  cross join aclexplode(coalesce(proacl, acldefault('f', proowner))) as grants
  where grants.grantee <> proowner;

-- Row level security

select isnt_empty(
  $$ select name from our_relation where relkind in ('r', 'p') $$,
  'there are tables to look at'
);

select is_empty(
  $$ select name from our_relation where relkind in ('r', 'p') and not relrowsecurity $$,
  'row level security is on for every table'
);

select is_empty(
  $$ select name from our_relation where relkind in ('r', 'p')
     and not exists (select from pg_policy where polrelid = our_relation.oid) $$,
  'every table has a policy: closed on purpose, not by chance'
);

select is_empty(
  $$ select name from our_relation
     where relkind in ('m', 'f')
       or relkind = 'v'
       and (starts_with(name, 'public.') or not coalesce(reloptions, '{}') @> array['security_invoker=true']) $$,
  'no view goes around row level security: none in public, and elsewhere they run with the rights of their reader'
);

select is_empty(
  $$ select policyname from pg_policies
     where schemaname in ('public', 'scenario_private') and roles && array['public', 'anon']::name[] $$,
  'no policy is for public or anon'
);

select is_empty(
  $$ select policyname from pg_policies
     where schemaname in ('public', 'scenario_private')
       and 'authenticated' = any (roles)
       and tablename <> 'scenario_mutes'
       and (cmd <> 'SELECT' or permissive <> 'PERMISSIVE') $$,
  'a signed-in user''s policies are for reading alone, but for her mutes'
);

select set_eq(
  $$ select tablename::text, policyname::text, cmd, qual, with_check from pg_policies
     where schemaname in ('public', 'scenario_private') and 'authenticated' = any (roles) $$,
  $$ values
    ('scenario_notifications', 'scenario_notifications_select_own_policy', 'SELECT',
     '(user_id = ( SELECT auth.uid() AS uid))', null),
    ('scenario_mutes', 'scenario_mutes_own_policy', 'ALL',
     '(user_id = ( SELECT auth.uid() AS uid))', '(user_id = ( SELECT auth.uid() AS uid))') $$,
  'a signed-in user reads her own notifications, has her own mutes, and nothing else'
);

select is_empty(
  $$ select policyname from pg_policies
     where schemaname in ('public', 'scenario_private')
       and regexp_replace(concat(qual, ' ', with_check), '\(\s*SELECT auth\.\w+\(\)( AS \w+)?\)', '', 'g')
           ~ '(auth\.|current_setting|current_user|session_user)' $$,
  'policies ask who is calling as (select auth.…()), once a statement and not once a row'
);

select is_empty(
  $$ select policyname from pg_policies
     where schemaname in ('public', 'scenario_private')
       and (not starts_with(policyname, tablename || '_') or policyname !~ '_policy$') $$,
  'policies are named <table>_…_policy'
);

-- Grants on tables and sequences

select is_empty(
  $$ select name, grantee, privilege from relation_grant where grantee in ('public', 'anon') $$,
  'nothing is granted to public and anon'
);

select set_eq(
  $$ select name, privilege from relation_grant where grantee = 'authenticated' $$,
  $$ values ('public.scenario_notifications', 'SELECT')
     union all
     select 'public.scenario_mutes', unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) $$,
  'signed-in users may read scenario_notifications and write scenario_mutes, and that is all'
);

select set_eq(
  $$ select name, privilege from relation_grant where grantee = 'service_role' and relkind <> 'S' $$,
  $$ select our_relation.name, privilege
     from our_relation cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as privilege
     where our_relation.relkind in ('r', 'p')
     union all
     select name, 'SELECT' from our_relation where relkind = 'v'
     union all
     -- An invalid token is removed.
     select 'scenario_source.device_tokens', 'DELETE' $$,
  'the service role reads and writes every table and reads every view, but can neither truncate nor alter them'
);

select is_empty(
  $$ select name, grantee, privilege from relation_grant
     where grantee not in ('public', 'anon', 'authenticated', 'service_role') $$,
  'no other role holds anything'
);

select is_empty(
  $$ select our_relation.name, attname from our_relation
     join pg_attribute on attrelid = our_relation.oid and attacl is not null and attnum > 0 and not attisdropped $$,
  'no column has grants of its own'
);

-- Functions

select is_empty(
  $$ select name, grantee from function_grant where grantee in ('public', 'anon', 'authenticated') $$,
  'no function can be executed by public, anon or authenticated, whoever''s rights it runs with'
);

select is_empty(
  $$ select name, grantee from function_grant
     where grantee not in ('public', 'anon', 'authenticated', 'service_role') $$,
  'no other role can execute a function'
);

select is_empty(
  $$ select name from our_function where not coalesce(proconfig, '{}') @> array['search_path=""'] $$,
  'every function runs with an empty search_path'
);

select is_empty(
  $$ select name from our_function where prosecdef and name <> 'public.scenario_find_inactive_mentors'
     and schema = 'public' $$,
  'no function that the API exposes runs with its owner''s rights, but the one made for restricted service roles'
);

select is_empty(
  $$ select name from our_function where schema = 'public' group by name having count(*) > 1 $$,
  'no function in public is overloaded: PostgREST finds them by the names of their arguments'
);

select is_empty(
  $$ select name from our_function
     where schema = 'public' and prokind = 'f' and prorettype <> 'trigger'::regtype
       and (proretset or prorettype not in ('json'::regtype, 'jsonb'::regtype)) $$,
  'functions of the API answer with one json value, which max_rows can''t cut'
);

select is_empty(
  $$ select name from our_function
     where schema = 'public' and pronargs > 0
       and (proargnames is null or exists (select from unnest(proargnames) as argument where argument !~ '^p_')) $$,
  'arguments of the API''s functions are named, p_…'
);

-- Schemas

select is_empty(
  $$ select our_schema.name, grants.grantee, grants.privilege_type
     from our_schema
     cross join aclexplode(coalesce(nspacl, acldefault('n', nspowner))) as grants
     left join pg_roles on pg_roles.oid = grants.grantee
     where grants.grantee <> nspowner
       and coalesce(pg_roles.rolname, 'public') in ('public', 'anon', 'authenticated', 'service_role')
       and not (our_schema.name = 'public' and grants.privilege_type = 'USAGE')
       and not (our_schema.name in ('scenario_private', 'scenario_source') and grants.privilege_type = 'USAGE'
                and pg_roles.rolname = 'service_role') $$,
  'the API''s roles create nothing, and only the service role enters the schemas that are not exposed'
);

-- Foreign keys

select is_empty(
  $$ select conrelid::regclass, conname
     from pg_constraint
     join our_schema on our_schema.oid = connamespace
     where contype = 'f' and not exists (
       select from pg_index
       where indrelid = conrelid and indisvalid and indpred is null
         and (string_to_array(indkey::text, ' ')::int2[])[1:cardinality(conkey)] @> conkey
     ) $$,
  'every foreign key has a whole index that leads with its columns'
);

select is_empty(
  $$ select conrelid::regclass, conname
     from pg_constraint
     join our_schema on our_schema.oid = connamespace
     where contype = 'f' and confrelid = 'auth.users'::regclass and confdeltype <> 'c' $$,
  'a deleted user takes all her rows along'
);

select * from finish();
rollback;
