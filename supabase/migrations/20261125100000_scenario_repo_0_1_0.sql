-- scenario_repo 0.1.0: the whole schema.
--
-- Generated from supabase/schemas by `make generate`: edit there, not here. Can run twice.

-- supabase/schemas/01_schemas.sql =====================================================================================

-- Three schemas: public has the tables and the functions of the API; scenario_source has the views through which the
-- app's own tables are read; scenario_private has everything else and is never exposed.

create schema if not exists scenario_private;
comment on schema scenario_private is
  'The inside of scenario_repo: never exposed through the API.';
revoke all on schema scenario_private from public, anon, authenticated;
grant usage on schema scenario_private to service_role;

create schema if not exists scenario_source;
comment on schema scenario_source is
  'Mentors, activities, certificates and device tokens as scenario_repo reads them: views, which an app may redefine.';
revoke all on schema scenario_source from public, anon, authenticated;
grant usage on schema scenario_source to service_role;

-- supabase/schemas/02_versions_and_refusals.sql =======================================================================

-- The schema's version, and the refusals that several functions share.
--
-- Refusals carry SQLSTATEs of our own, one for each kind. Their messages are written here and hold no personal value;
-- the library shows them to the caller (scenario_repo/_translation.py has the same list):
--
--   SR001  an argument is missing or out of bounds
--   SR002  a notification's history is final
--   SR003  too many elements in one call
--   SR004  no such scenario type
--   SR005  the scenario type's default settings are missing
--   SR006  the library needs a newer schema
--   SR007  the app's own tables don't have what scenario_repo reads (migrations only)
--   SR008  a scenario type of the app's own is not what it has to be

-- Raised by one with every release that changes the schema. A function's answer only gains fields; a function whose
-- answer changes otherwise gets a new name. So a library works with every schema that is at least as new as it needs.
create or replace function scenario_private.schema_version()
returns integer
language sql
immutable
set search_path = ''
as $$
  select 1
$$;
revoke all on function scenario_private.schema_version() from public, anon, authenticated;
grant execute on function scenario_private.schema_version() to service_role;

-- Raises SR001 where the transaction reads simulated settings (08_settings.sql): nothing is claimed, handed out or
-- answered by them. Only scenario_simulate sets them, and takes them back before it ends.
create or replace function scenario_private.require_real_settings()
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if current_setting('scenario_repo.simulated_settings', true) <> '' then
    raise exception using
      errcode = 'SR001',
      message = 'the session has scenario_repo.simulated_settings, which are scenario_simulate''s alone: reset them';
  end if;
end
$$;
revoke all on function scenario_private.require_real_settings() from public, anon, authenticated;
grant execute on function scenario_private.require_real_settings() to service_role;

-- Raises SR006 if the caller needs a newer schema than this one. Null, a caller that doesn't say, passes.
-- Every function of the API asks this first: a mismatch is refused before anything is read or written. So are simulated
-- settings (SR001).
create or replace function scenario_private.require_schema(p_needed_version integer)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  perform scenario_private.require_real_settings();
  if p_needed_version > scenario_private.schema_version() then
    raise exception using
      errcode = 'SR006',
      message = format(
        'this scenario_repo needs version %s of its schema, the database has version %s: apply the newer migrations'
          ' (scenario-repo migrations supabase/migrations, then supabase db push)',
        p_needed_version, scenario_private.schema_version()
      );
  end if;
end
$$;
revoke all on function scenario_private.require_schema(integer) from public, anon, authenticated;
grant execute on function scenario_private.require_schema(integer) to service_role;

-- Raises SR001 unless the value lies between the bounds. p_argument is what the message calls it.
create or replace function scenario_private.require_between(
  p_argument text, p_value double precision, p_least double precision, p_most double precision
)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_value is null or p_value not between p_least and p_most then
    raise exception using
      errcode = 'SR001',
      message = format(
        'expected %s from %s to %s, got %s', p_argument, p_least, p_most, coalesce(p_value::text, 'null')
      );
  end if;
end
$$;
revoke all on function scenario_private.require_between(text, double precision, double precision, double precision)
  from public, anon, authenticated;
grant execute on function scenario_private.require_between(text, double precision, double precision, double precision)
  to service_role;

-- Raises SR003 for more elements than one statement can finish in time.
create or replace function scenario_private.require_at_most(p_count integer, p_most integer)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_count > p_most then
    raise exception using errcode = 'SR003', message = format('expected at most %s elements, got %s', p_most, p_count);
  end if;
end
$$;
revoke all on function scenario_private.require_at_most(integer, integer) from public, anon, authenticated;
grant execute on function scenario_private.require_at_most(integer, integer) to service_role;

-- Raises SR001 unless p_elements is a json array, SR003 if it has more than p_most elements.
create or replace function scenario_private.require_array(p_argument text, p_elements jsonb, p_most integer)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if jsonb_typeof(p_elements) is distinct from 'array' then
    raise exception using
      errcode = 'SR001',
      message = format('expected %s as a json array, got %s', p_argument, coalesce(jsonb_typeof(p_elements), 'null'));
  end if;
  perform scenario_private.require_at_most(jsonb_array_length(p_elements), p_most);
end
$$;
revoke all on function scenario_private.require_array(text, jsonb, integer) from public, anon, authenticated;
grant execute on function scenario_private.require_array(text, jsonb, integer) to service_role;

-- Raises SR001 for null, an argument that is needed.
create or replace function scenario_private.require_given(p_argument text, p_value anyelement)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_value is null then
    raise exception using errcode = 'SR001', message = format('expected %s, got null', p_argument);
  end if;
end
$$;
revoke all on function scenario_private.require_given(text, anyelement) from public, anon, authenticated;
grant execute on function scenario_private.require_given(text, anyelement) to service_role;

-- supabase/schemas/03_sources.sql =====================================================================================

-- The sources: mentors, activities, certificates and device tokens, as the rules and the lease read them.
--
-- They are four views in scenario_source, the one seam to the app's own tables:
--   mentors        user_id uuid, organization_id uuid, is_active boolean
--   activities     user_id uuid, activity_date timestamptz
--   certificates   certificate_id text, user_id uuid, organization_id uuid, kind text (or null), expires_at timestamptz
--   device_tokens  user_id uuid, token text, platform text, registered_at timestamptz (or null)
--
-- An app whose tables have other names, types or meanings makes a view of its own before this file runs, or replaces
-- one later (docs/own-tables.md). A view that is there is kept. For every other one the default is made: over the
-- app's table public.peer_mentors, activities, certifications or device_tokens if there is one, and else over a new
-- table, closed: row level security on, nothing for public, anon and authenticated, everything for service_role. An
-- app's table keeps its columns, policies and grants; it gets the indexes that the rules need.
--
-- What does not fit is told in one message (SR007), before anything is made: what the app has of other kinds, columns,
-- types and owners, what the service role may not read, indexes of our names that are invalid or on something else,
-- and tables of our names that are not ours.

-- What a relation reads, and needs the right to read: through the views that run with the rights of their reader.
create or replace function scenario_private.relations_behind(p_relation oid)
returns table (relation_id oid, depth integer)
language sql
stable
set search_path = ''
rows 5
as $$
  with recursive read (relation_id, depth) as (
    select p_relation, 0
    union
    select dependency.refobjid, read.depth + 1
    from read
    join pg_catalog.pg_class as view
      on view.oid = read.relation_id
      and view.relkind = 'v'
      and coalesce(view.reloptions, '{}')
        && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1', 'security_invoker=yes']
    join pg_catalog.pg_rewrite as rule on rule.ev_class = view.oid
    join pg_catalog.pg_depend as dependency
      on dependency.classid = 'pg_catalog.pg_rewrite'::regclass
      and dependency.objid = rule.oid
      and dependency.refclassid = 'pg_catalog.pg_class'::regclass
      and dependency.refobjid <> view.oid
  )
  select read.relation_id, min(read.depth)
  from read
  group by read.relation_id
$$;
revoke all on function scenario_private.relations_behind(oid) from public, anon, authenticated;
grant execute on function scenario_private.relations_behind(oid) to service_role;

do $sources$
declare
  misfits text;
  remedies text;
begin
  with wanted (view_name, table_name, view_columns, table_columns) as (
    values
      (
        'mentors', 'peer_mentors',
        '{user_id uuid, organization_id uuid, is_active boolean}'::text[],
        '{user_id uuid, organization_id uuid, is_active boolean}'::text[]
      ),
      (
        'activities', 'activities',
        '{user_id uuid, activity_date timestamptz}',
        '{user_id uuid, activity_date timestamptz}'
      ),
      (
        'certificates', 'certifications',
        '{certificate_id text, user_id uuid, organization_id uuid, kind text, expires_at timestamptz}',
        '{id any, user_id uuid, organization_id uuid, expires_at timestamptz}'
      ),
      (
        'device_tokens', 'device_tokens',
        '{user_id uuid, token text, platform text, registered_at timestamptz}',
        '{user_id uuid, token text, platform text}'
      )
  ),
  -- What will be read: whatever has the view's name, else whatever has the table's name. Types are looked for as well:
  -- a table makes a type of its own name.
  source as (
    select
      format('scenario_source.%I', wanted.view_name) as remedy,
      named.*,
      relation.oid as relation_id,
      relation.relkind,
      relation.relowner
    from wanted
    cross join lateral (
      select candidate.*
      from (
        values
          (format('scenario_source.%I', wanted.view_name), wanted.view_columns, true),
          (format('public.%I', wanted.table_name), wanted.table_columns, false)
      ) as candidate (full_name, columns, is_view)
      where to_regclass(candidate.full_name) is not null or to_regtype(candidate.full_name) is not null
      order by candidate.is_view desc
      limit 1
    ) as named
    left join pg_class as relation on relation.oid = to_regclass(named.full_name)
  ),
  -- The indexes that are made below, as PostgreSQL writes them, without what differs between types that fit.
  wanted_index (name, definition) as (
    values
      ('peer_mentors_active_by_user_idx', 'public.peer_mentors USING btree user_id, organization_id WHERE is_active'),
      (
        'peer_mentors_active_by_organization_idx',
        'public.peer_mentors USING btree organization_id, user_id WHERE is_active'
      ),
      ('activities_user_id_activity_date_idx', 'public.activities USING btree user_id, activity_date'),
      ('certifications_user_id_expires_at_idx', 'public.certifications USING btree user_id, expires_at')
  ),
  misfit (remedy, text) as (
    select
      source.remedy,
      format(
        '%s: expected a table or view, got %s',
        source.full_name,
        case
          when source.relkind = 'S' then 'a sequence'
          when source.relkind in ('i', 'I') then 'an index'
          else 'a type'
        end
      )
    from source
    where source.relkind is null or source.relkind not in ('r', 'p', 'v', 'm', 'f')
    union all
    -- Tables get indexes, and views in scenario_source get grants: both need their owner.
    select
      source.remedy,
      format('%s: expected the owner %s, got %s', source.full_name, current_user, source.relowner::regrole)
    from source
    where (source.is_view or source.relkind in ('r', 'p')) and not pg_has_role(source.relowner, 'usage')
    union all
    select
      source.remedy,
      format(
        '%s.%s: expected %s, got %s',
        source.full_name,
        expected.column_name,
        case expected.type_name when 'any' then 'a column' else format_type(to_regtype(expected.type_name), null) end,
        coalesce(format_type(actual.atttypid, actual.atttypmod), 'no such column')
      )
    from source
    cross join lateral (
      select split_part(pair.text, ' ', 1) as column_name, split_part(pair.text, ' ', 2) as type_name
      from unnest(source.columns) as pair (text)
    ) as expected
    left join pg_attribute as actual
      on actual.attrelid = source.relation_id
      and actual.attname = expected.column_name
      and actual.attnum > 0
      and not actual.attisdropped
    left join pg_type as type on type.oid = actual.atttypid
    where source.relkind in ('r', 'p', 'v', 'm', 'f')
      and case
        when actual.attname is null then true
        when expected.type_name = 'any' then false
        -- The default views cast ids and texts: domains, varchar, citext and enums fit. They don't cast times: with the
        -- cast of a timestamptz(3) its index gives no order. An app's own view gives the very types.
        when source.is_view or expected.type_name = 'timestamptz' then type.oid <> to_regtype(expected.type_name)
        when expected.type_name = 'text' then type.typcategory not in ('S', 'E')
        else coalesce(nullif(type.typbasetype, 0), type.oid) <> to_regtype(expected.type_name)
      end
    union all
    -- A new table of a Supabase project is granted to nobody.
    select
      format('grant select on %s to service_role;', behind.name),
      format('%s: expected select for service_role, got no such grant', behind.name)
    from (
      select distinct format('%I.%I', schema.nspname, relation.relname) as name
      from source
      cross join lateral scenario_private.relations_behind(source.relation_id) as read
      join pg_class as relation on relation.oid = read.relation_id
      join pg_namespace as schema on schema.oid = relation.relnamespace
      where source.relkind in ('r', 'p', 'v', 'm', 'f')
        -- The migration itself grants the views of scenario_source.
        and schema.nspname <> 'scenario_source'
        -- Or of some columns: PostgreSQL tells at the first evaluation if one is missing.
        and not has_any_column_privilege('service_role', relation.oid, 'select')
    ) as behind
    union all
    select
      format('grant usage on schema %s to service_role;', behind.schema_name),
      format('schema %s: expected usage for service_role, got no such grant', behind.schema_name)
    from (
      select distinct quote_ident(schema.nspname) as schema_name
      from source
      cross join lateral scenario_private.relations_behind(source.relation_id) as read
      join pg_class as relation on relation.oid = read.relation_id
      join pg_namespace as schema on schema.oid = relation.relnamespace
      where source.relkind in ('r', 'p', 'v', 'm', 'f')
        and schema.nspname <> 'scenario_source'
        and not has_schema_privilege('service_role', schema.oid, 'usage')
    ) as behind
    union all
    select
      case
        when index.indexrelid is null then format('rename public.%I: an index gets this name', wanted_index.name)
        when index.indisvalid then format('drop index public.%I; -- or rename it', wanted_index.name)
        else format('reindex index public.%I; -- or drop it', wanted_index.name)
      end,
      format(
        'public.%I: expected an index on %s, got %s',
        wanted_index.name,
        replace(wanted_index.definition, ' USING btree', ''),
        case
          when index.indexrelid is null then 'no index'
          when index.indisvalid then 'one on ' || split_part(pg_get_indexdef(index.indexrelid), ' ON ', 2)
          else 'an invalid one, as a failed build leaves it'
        end
      )
    from wanted_index
    join pg_class as relation on relation.oid = to_regclass(format('public.%I', wanted_index.name))
    left join pg_index as index on index.indexrelid = relation.oid
    cross join lateral (
      select regexp_replace(split_part(pg_get_indexdef(index.indexrelid), ' ON ', 2), '^ONLY |::[a-z ]+|[()]', '', 'g')
        as text
    ) as definition
    where index.indexrelid is null
      or not index.indisvalid
      or definition.text <> wanted_index.definition
      -- Further columns do no harm.
      and (
        definition.text not like wanted_index.definition || ', %'
        and definition.text not like wanted_index.definition || ' INCLUDE %'
        or definition.text like '% WHERE %'
      )
    union all
    -- Ours come later in the first migration; after it, they are there.
    select
      case
        when to_regclass(format('public.%I', own.name)) is null
          then format('alter type public.%I rename to …; -- or another schema', own.name)
        else format('alter table public.%I rename to …; -- or another schema', own.name)
      end,
      format('public.%I: expected no such table or type, got one that is not scenario_repo''s', own.name)
    from unnest(
      array[
        'scenario_notifications', 'scenario_evaluation_config', 'scenario_delivery_policy', 'scenario_days_off',
        'scenario_mutes'
      ]
    ) as own (name)
    -- A table makes a type of its name. Ours has its policy, also where scenario_private was dropped.
    where to_regclass('scenario_private.handover') is null
      and to_regtype(format('public.%I', own.name)) is not null
      and not exists (
        select
        from pg_policy as policy
        where policy.polrelid = to_regclass(format('public.%I', own.name))
          and policy.polname = own.name || '_service_role_policy'
      )
  )
  select
    string_agg(E'\n  ' || misfit.text, '' order by misfit.text),
    concat_ws(
      E'\n  ',
      'create or correct the views that translate your tables: '
        || string_agg(distinct misfit.remedy, ', ') filter (where starts_with(misfit.remedy, 'scenario_source.'))
        || ' (docs/own-tables.md).',
      string_agg(distinct misfit.remedy, E'\n  ') filter (where not starts_with(misfit.remedy, 'scenario_source.'))
    )
  into misfits, remedies
  from misfit;

  if misfits is not null then
    -- The remedy is part of the message: the Supabase CLI shows no hints.
    raise exception using
      errcode = 'SR007',
      message = format(
        E'this project''s own tables don''t have what scenario_repo reads; nothing was changed%s\n'
          'Remedy: in a migration before this one, %s',
        misfits, remedies
      );
  end if;
end
$sources$;

-- Mentors -----------------------------------------------------------------

do $mentors$
declare
  is_table boolean;
begin
  if to_regclass('scenario_source.mentors') is not null then
    return;
  end if;
  if to_regclass('public.peer_mentors') is null then
    create table public.peer_mentors (
      user_id uuid not null references auth.users (id) on delete cascade,
      organization_id uuid not null,
      is_active boolean not null default true,
      primary key (user_id, organization_id)
    );
    comment on table public.peer_mentors is
      'Who is a mentor in which organization; a mentor may belong to several.';

    alter table public.peer_mentors enable row level security;
    create policy peer_mentors_service_role_policy
      on public.peer_mentors
      for all
      to service_role
      using (true)
      with check (true);
    revoke all on table public.peer_mentors from public, anon, authenticated, service_role;
    grant select, insert, update, delete on table public.peer_mentors to service_role;
  end if;

  is_table := (
    select relation.relkind in ('r', 'p') from pg_class as relation where relation.oid = 'public.peer_mentors'::regclass
  );
  if is_table and to_regclass('public.peer_mentors_active_by_user_idx') is null then
    create index peer_mentors_active_by_user_idx
      on public.peer_mentors (user_id, organization_id)
      where is_active;
    comment on index public.peer_mentors_active_by_user_idx is
      'Serves: the pages of an evaluation of all organizations, index-only and by user_id.';
  end if;
  -- Beside the one by user, and not instead: a generic plan, which knows no organization, would read all of that.
  if is_table and to_regclass('public.peer_mentors_active_by_organization_idx') is null then
    create index peer_mentors_active_by_organization_idx
      on public.peer_mentors (organization_id, user_id)
      where is_active;
    comment on index public.peer_mentors_active_by_organization_idx is
      'Serves: the pages of an evaluation of one organization, and its inactive mentors, index-only and by user_id.';
  end if;

  create view scenario_source.mentors
  with (security_invoker = true)
  as
  select
    mentor.user_id::uuid as user_id,
    mentor.organization_id::uuid as organization_id,
    mentor.is_active::boolean as is_active
  from public.peer_mentors as mentor;
  comment on view scenario_source.mentors is
    'Who is a mentor in which organization, once each; and whether she is active there.';
end
$mentors$;

-- Activities --------------------------------------------------------------

do $activities$
begin
  if to_regclass('scenario_source.activities') is not null then
    return;
  end if;
  if to_regclass('public.activities') is null then
    create table public.activities (
      id bigint generated always as identity primary key,
      user_id uuid not null references auth.users (id) on delete cascade,
      organization_id uuid not null,
      activity_date timestamptz not null
    );
    comment on table public.activities is
      'What mentors did and when: the inactivity, milestone and welcome_back rules count and date these rows.';

    alter table public.activities enable row level security;
    create policy activities_service_role_policy
      on public.activities
      for all
      to service_role
      using (true)
      with check (true);
    revoke all on table public.activities from public, anon, authenticated, service_role;
    grant select, insert, update, delete on table public.activities to service_role;
    -- Not by its usual name: the app may have a sequence of that name.
    execute format(
      'revoke all on sequence %s from public, anon, authenticated', pg_get_serial_sequence('public.activities', 'id')
    );
  end if;

  if (select relation.relkind in ('r', 'p') from pg_class as relation where oid = 'public.activities'::regclass)
    and to_regclass('public.activities_user_id_activity_date_idx') is null
  then
    create index activities_user_id_activity_date_idx
      on public.activities (user_id, activity_date);
    comment on index public.activities_user_id_activity_date_idx is
      'Serves: the newest activity of a user, the one before it, and the count of them, all index-only.';
  end if;

  create view scenario_source.activities
  with (security_invoker = true)
  as
  select activity.user_id::uuid as user_id, activity.activity_date
  from public.activities as activity;
  comment on view scenario_source.activities is
    'What a user did and when, in whichever organization.';
end
$activities$;

-- Certificates ------------------------------------------------------------

do $certificates$
begin
  if to_regclass('scenario_source.certificates') is not null then
    return;
  end if;
  if to_regclass('public.certifications') is null then
    create table public.certifications (
      id uuid primary key default gen_random_uuid(),
      user_id uuid not null references auth.users (id) on delete cascade,
      organization_id uuid not null,
      expires_at timestamptz not null,
      kind text
    );
    comment on table public.certifications is
      'Certificates and when they lapse: read by the certification_expiry rule.';
    comment on column public.certifications.kind is
      'What is certified: a later certificate of the same kind renews an earlier one. Null: nothing is known of it.';

    alter table public.certifications enable row level security;
    create policy certifications_service_role_policy
      on public.certifications
      for all
      to service_role
      using (true)
      with check (true);
    revoke all on table public.certifications from public, anon, authenticated, service_role;
    grant select, insert, update, delete on table public.certifications to service_role;
  end if;

  if (select relation.relkind in ('r', 'p') from pg_class as relation where oid = 'public.certifications'::regclass)
    and to_regclass('public.certifications_user_id_expires_at_idx') is null
  then
    create index certifications_user_id_expires_at_idx
      on public.certifications (user_id, expires_at);
    comment on index public.certifications_user_id_expires_at_idx is
      'Serves: the certificates of a user that lapse inside a period.';
  end if;

  -- An app's own table may have no kind.
  execute format(
    'create view scenario_source.certificates
     with (security_invoker = true)
     as
     select
       certification.id::text as certificate_id,
       certification.user_id::uuid as user_id,
       certification.organization_id::uuid as organization_id,
       %s::text as kind,
       certification.expires_at
     from public.certifications as certification',
    case
      when exists (
        select
        from pg_attribute
        where attrelid = 'public.certifications'::regclass and attname = 'kind' and not attisdropped
      )
        then 'certification.kind'
      else 'null'
    end
  );
  comment on view scenario_source.certificates is
    'Certificates and when they lapse; kind says what is certified, or is null.';
end
$certificates$;

-- Device tokens -----------------------------------------------------------

do $device_tokens$
begin
  if to_regclass('scenario_source.device_tokens') is not null then
    return;
  end if;
  if to_regclass('public.device_tokens') is null then
    create table public.device_tokens (
      user_id uuid not null references auth.users (id) on delete cascade,
      token text not null,
      platform text not null,
      registered_at timestamptz not null default now(),
      primary key (user_id, token),
      -- One phone, two accounts: who registers last has it.
      constraint device_tokens_token_has_one_owner unique (token),
      constraint device_tokens_platform_is_known check (platform in ('android', 'ios', 'web'))
    );
    comment on table public.device_tokens is
      'Where a user''s notifications are delivered: handed to the sender together with the leased notification.';

    alter table public.device_tokens enable row level security;
    create policy device_tokens_service_role_policy
      on public.device_tokens
      for all
      to service_role
      using (true)
      with check (true);
    revoke all on table public.device_tokens from public, anon, authenticated, service_role;
    grant select, insert, update, delete on table public.device_tokens to service_role;
  end if;

  -- An app's own table may not say since when; then null.
  execute format(
    'create view scenario_source.device_tokens
     with (security_invoker = true)
     as
     select
       device.user_id::uuid as user_id,
       device.token::text as token,
       device.platform::text as platform,
       %s::timestamptz as registered_at
     from public.device_tokens as device',
    coalesce(
      (
        select format('device.%I', attname)
        from pg_attribute
        where attrelid = 'public.device_tokens'::regclass
          and attname in ('registered_at', 'created_at')
          and atttypid = 'timestamptz'::regtype
          and not attisdropped
        order by attname desc
        limit 1
      ),
      'null'
    )
  );
  comment on view scenario_source.device_tokens is
    'Where a user''s notifications are delivered, and since when; null where that is not known.';
end
$device_tokens$;

revoke all on table
  scenario_source.mentors,
  scenario_source.activities,
  scenario_source.certificates,
  scenario_source.device_tokens
  from public, anon, authenticated;
grant select on table
  scenario_source.mentors,
  scenario_source.activities,
  scenario_source.certificates,
  scenario_source.device_tokens
  to service_role;
-- An invalid token is removed through the view, where the app's view allows it.
grant delete on table scenario_source.device_tokens to service_role;

-- supabase/schemas/04_personal_data.sql ===============================================================================

-- No personal data in metadata: no personnummer, no fødselsnummer, no e-mail address, no phone number; in values or
-- keys, at any depth, as string or as number. The library refuses them with a better message
-- (scenario_repo/_personal_data.py, which also says what passes because it can't be told from ordinary data); these
-- functions bind every other writer to the same rules. `make generate` writes the marked blocks here and Python's
-- tables from supabase/generators/personal_data.toml; the tests hold both sides to one corpus and to each other.
--
-- No function depends on the server's version: neither PostgreSQL's Unicode tables nor a collation decides anything.

-- Replaces the characters that look like ASCII, or like nothing, by what they look like.
create or replace function scenario_private.plain_letters(p_text text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- The span from firsts[n] to lasts[n] becomes the text number becomes[n]: a letter in turn, again and again.
  -- begin generated: characters
  texts constant text[] := '{
    "", " ", "-", ".", "/", "+", "(", ")", ":", "%", "@", "0123456789", "123456789", "1234", "456789", "23", "1", "0",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "!\"#$%&''()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~", "CR", "C",
    "gHHHh", "IILl", "N", "PQRRR", "Z", "K", "BC", "eEF", "Mo", "i", "Ddeij"
  }'::text[];
  firsts constant integer[] := '{
    1, 9, 14, 127, 133, 134, 160, 168, 173, 175, 178, 180, 183, 184, 185, 728, 768, 890, 900, 903, 1155, 1418, 1470,
    1564, 1632, 1776, 1984, 2406, 2534, 2662, 2790, 2918, 3046, 3174, 3302, 3430, 3558, 3664, 3792, 3872, 4160, 4240,
    4447, 4969, 5120, 5760, 6068, 6112, 6150, 6155, 6160, 6470, 6608, 6618, 6784, 6800, 6832, 6992, 7088, 7232, 7248,
    7616, 8125, 8127, 8141, 8157, 8173, 8189, 8192, 8203, 8208, 8215, 8226, 8228, 8232, 8234, 8239, 8254, 8259, 8260,
    8287, 8288, 8304, 8308, 8314, 8315, 8317, 8318, 8320, 8330, 8331, 8333, 8334, 8400, 8450, 8458, 8464, 8469, 8473,
    8484, 8488, 8490, 8492, 8495, 8499, 8505, 8517, 8722, 8725, 9312, 9332, 9352, 9361, 9398, 9450, 9461, 9471, 10102,
    10112, 10122, 10133, 10240, 11799, 11802, 11834, 11840, 11869, 12288, 12290, 12316, 12336, 12448, 12539, 12644,
    13250, 13255, 13272, 42528, 43216, 43264, 43472, 43504, 43600, 44016, 64297, 65024, 65042, 65043, 65049, 65056,
    65072, 65073, 65077, 65078, 65097, 65106, 65109, 65112, 65113, 65114, 65122, 65123, 65130, 65131, 65279, 65281,
    65377, 65381, 65440, 65507, 65520, 66720, 68160, 68912, 68928, 69216, 69293, 69714, 69734, 69872, 69942, 70096,
    70384, 70736, 70864, 71248, 71360, 71376, 71472, 71904, 72016, 72688, 72784, 73040, 73120, 73184, 73552, 90416,
    92768, 92864, 93008, 93552, 113824, 117974, 118000, 119155, 119808, 120782, 123200, 123632, 124144, 124401, 125264,
    127232, 127234, 127275, 127280, 130032, 917504
  }'::integer[];
  lasts constant integer[] := '{
    8, 13, 31, 132, 133, 159, 160, 168, 173, 175, 179, 180, 183, 184, 185, 733, 879, 890, 901, 903, 1161, 1418, 1470,
    1564, 1641, 1785, 1993, 2415, 2543, 2671, 2799, 2927, 3055, 3183, 3311, 3439, 3567, 3673, 3801, 3881, 4169, 4249,
    4448, 4977, 5120, 5760, 6069, 6121, 6150, 6159, 6169, 6479, 6617, 6618, 6793, 6809, 6911, 7001, 7097, 7241, 7257,
    7679, 8125, 8129, 8143, 8159, 8175, 8190, 8202, 8207, 8213, 8215, 8226, 8231, 8233, 8238, 8239, 8254, 8259, 8260,
    8287, 8303, 8304, 8313, 8314, 8315, 8317, 8318, 8329, 8330, 8331, 8333, 8334, 8447, 8450, 8462, 8467, 8469, 8477,
    8484, 8488, 8490, 8493, 8497, 8500, 8505, 8521, 8722, 8725, 9320, 9340, 9360, 9371, 9449, 9450, 9469, 9471, 10110,
    10120, 10130, 10133, 10240, 11799, 11802, 11835, 11840, 11869, 12288, 12290, 12316, 12336, 12448, 12539, 12644,
    13250, 13255, 13272, 42537, 43225, 43273, 43481, 43513, 43609, 44025, 64297, 65039, 65042, 65043, 65049, 65071,
    65072, 65074, 65077, 65078, 65100, 65106, 65109, 65112, 65113, 65114, 65122, 65123, 65130, 65131, 65279, 65374,
    65377, 65381, 65440, 65507, 65531, 66729, 68163, 68921, 68937, 69224, 69293, 69722, 69743, 69881, 69951, 70105,
    70393, 70745, 70873, 71257, 71369, 71395, 71481, 71913, 72025, 72697, 72793, 73049, 73129, 73193, 73561, 90425,
    92777, 92873, 93017, 93561, 113827, 117999, 118009, 119162, 120483, 120831, 123209, 123641, 124153, 124410, 125273,
    127233, 127242, 127276, 127305, 130041, 921599
  }'::integer[];
  becomes constant integer[] := '{
    1, 2, 1, 1, 2, 1, 2, 2, 1, 2, 16, 2, 4, 2, 17, 2, 1, 2, 2, 4, 1, 3, 3, 1, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
    12, 12, 12, 12, 12, 12, 12, 12, 1, 13, 3, 2, 1, 12, 3, 1, 12, 12, 12, 17, 12, 12, 1, 12, 12, 12, 12, 1, 2, 2, 2, 2,
    2, 2, 2, 1, 3, 2, 4, 4, 2, 1, 2, 2, 3, 5, 2, 1, 18, 15, 6, 3, 7, 8, 12, 6, 3, 7, 8, 1, 22, 23, 24, 25, 26, 27, 27,
    28, 29, 30, 31, 32, 33, 3, 5, 13, 13, 13, 4, 19, 18, 13, 18, 13, 13, 13, 6, 2, 3, 3, 3, 3, 3, 2, 4, 3, 3, 3, 4, 1,
    4, 4, 4, 12, 12, 12, 12, 12, 12, 12, 6, 1, 4, 9, 4, 1, 4, 3, 7, 8, 2, 4, 9, 3, 7, 8, 6, 3, 10, 11, 1, 20, 4, 4, 1,
    2, 1, 12, 14, 12, 12, 13, 3, 13, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
    12, 12, 12, 12, 1, 19, 12, 1, 19, 12, 12, 12, 12, 12, 12, 18, 13, 21, 19, 12, 1
  }'::integer[];
  -- end generated
begin
  return (
    select coalesce(string_agg(
      case
        when part.code between 32 and 126 or part.place = 0 or part.code > lasts[part.place] then part.letter
        else substr(
          texts[becomes[part.place]],
          1 + (part.code - firsts[part.place]) % greatest(1, length(texts[becomes[part.place]])),
          1
        )
      end,
      '' order by part.ordinal
    ), '')
    from (
      select
        letters.letter,
        ascii(letters.letter) as code,
        width_bucket(ascii(letters.letter), firsts) as place,
        letters.ordinal
      from string_to_table(p_text, null) with ordinality as letters (letter, ordinal)
    ) as part
  );
end
$$;

-- Undoes what makes the same text look otherwise: widths, scripts, invisible characters, percent-encoding.
create or replace function scenario_private.plain_text(p_text text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  plain text := p_text;
  -- begin generated: constants not_plain repeated_percent
  not_plain constant text := '[^ -~\u00c0-\u024f]';
  repeated_percent constant text := '%(?:25)+(?=[0-9A-Fa-f]{2})';
  -- end generated
begin
  if plain ~ not_plain then
    plain := scenario_private.plain_letters(plain);
  end if;
  if strpos(plain, '%') > 0 then
    select string_agg(
      case
        when piece.ordinal = 1 then piece.rest
        when piece.rest !~ '^[2-7][0-9A-Fa-f]' then '%' || piece.rest
        when piece.rest ~ '^7[Ff]' then substr(piece.rest, 3)
        else chr(get_byte(decode(left(piece.rest, 2), 'hex'), 0)) || substr(piece.rest, 3)
      end,
      '' order by piece.ordinal
    )
    into plain
    from string_to_table(regexp_replace(plain, repeated_percent, '%', 'g'), '%')
      with ordinality as piece (rest, ordinal);
  end if;
  return regexp_replace(plain, ' {2,}', ' ', 'g');
end
$$;

-- Lower case for ASCII alone, whatever the collation.
create or replace function scenario_private.in_lower_case(p_text text)
returns text
language sql
immutable
set search_path = ''
as $$
  select translate(p_text, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')
$$;

-- Whether a key says that its value is a phone number: phone, mobilNummer, contact-tel; but not telemetry.
create or replace function scenario_private.names_a_phone(p_key text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- begin generated: constants hump phone_key
  hump constant text := '([a-z])([A-Z])';
  phone_key constant text :=
    '(?:(?<![a-z])(?:(?:cell|mobile?|tele)?phones?|(?:mobil)?telefon|mobile?|mob|tel|tlf|tfn|sms|msisdn|cell'
    '|whatsapp)(?:number|nummer|num|nr|no)?(?![a-z])|[℡☎📞])';
  -- end generated
begin
  return scenario_private.in_lower_case(regexp_replace(scenario_private.plain_text(p_key), hump, '\1 \2', 'g'))
    ~ phone_key;
end
$$;

-- Whether the digits after a plus sign, up to the end of any of their groups, have the length that numbers of their
-- country calling code may have: as Google's libphonenumber knows.
create or replace function scenario_private.is_phone_number(p_number text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  digits text := '';
  digit_group text;
  -- begin generated: phone lengths
  possible constant text := '(?x)^(
    (290)([0-9]{4,5})|
    (683)([0-9]{4}|[0-9]{7})|
    (690)([0-9]{4,7})|
    (98)([0-9]{4,7}|[0-9]{10})|
    (352)([0-9]{4,11})|
    (43| 598)([0-9]{4,13})|
    (49)([0-9]{4,15})|
    (500| 682)([0-9]{5})|
    (247)([0-9]{5,6})|
    (82)([0-9]{5,6}|[0-9]{8,14})|
    (676| 677| 678)([0-9]{5}|[0-9]{7})|
    (688)([0-9]{5,7})|
    (685)([0-9]{5,7}|[0-9]{10})|
    (47| 686)([0-9]{5}|[0-9]{8})|
    (386)([0-9]{5,8})|
    (852)([0-9]{5,9}|[0-9]{11})|
    (27| 64)([0-9]{5,10})|
    (61)([0-9]{5,10}|[0-9]{12})|
    (31)([0-9]{5,11})|
    (358| 971)([0-9]{5,12})|
    (298| 299| 672| 687)([0-9]{6})|
    (597)([0-9]{6,7})|
    (421)([0-9]{6,7}|[0-9]{9})|
    (376| 689)([0-9]{6}|[0-9]{8,9})|
    (53)([0-9]{6,8}|[0-9]{10})|
    (63)([0-9]{6}|[0-9]{8,13})|
    (40| 508| 681)([0-9]{6}|[0-9]{9})|
    (252| 355)([0-9]{6,9})|
    (359)([0-9]{6,9}|[0-9]{12})|
    (48| 95| 880)([0-9]{6,10})|
    (46)([0-9]{6,10}|[0-9]{12})|
    (375| 595)([0-9]{6,11})|
    (39| 381)([0-9]{6,12})|
    (238| 239| 246| 248| 269| 291| 297| 592| 673| 674| 680| 691| 692)([0-9]{7})|
    (241| 599| 670| 675| 853| 961| 965| 975)([0-9]{7,8})|
    (230| 267| 372)([0-9]{7,8}|[0-9]{10})|
    (507)([0-9]{7,8}|[0-9]{10,11})|
    (503)([0-9]{7,8}|[0-9]{11})|
    (220| 245| 265| 354| 423)([0-9]{7}|[0-9]{9})|
    (231| 385| 967| 968)([0-9]{7,9})|
    (44| 263)([0-9]{7}|[0-9]{9,10})|
    (974)([0-9]{7,9}|[0-9]{11})|
    (84| 243| 254| 353)([0-9]{7,10})|
    (960)([0-9]{7}|[0-9]{10})|
    (90)([0-9]{7}|[0-9]{10}|[0-9]{12,13})|
    (501| 679)([0-9]{7}|[0-9]{11})|
    (886)([0-9]{7,11})|
    (86| 882| 972)([0-9]{7,12})|
    (62)([0-9]{7,17})|
    (45| 216| 222| 223| 226| 227| 228| 232| 235| 236| 253| 257| 266| 350| 356| 357| 370| 371| 373| 374| 389| 505|
      509| 800| 808| 973| 993)([0-9]{8})|
    (32| 36| 51| 213| 224| 233| 237| 250| 258| 264| 268| 377| 382| 387| 591| 962| 963)([0-9]{8,9})|
    (20| 60| 855| 856| 964| 970| 976)([0-9]{8,10})|
    (229| 378| 506| 850)([0-9]{8}|[0-9]{10})|
    (57| 65| 977)([0-9]{8}|[0-9]{10,11})|
    (66)([0-9]{8,10}|[0-9]{13})|
    (55| 593)([0-9]{8,11})|
    (502| 504)([0-9]{8}|[0-9]{11})|
    (92| 383| 883)([0-9]{8,12})|
    (91)([0-9]{8,13})|
    (81)([0-9]{8,17})|
    (33| 34| 93| 94| 211| 212| 218| 221| 240| 242| 244| 249| 251| 255| 256| 260| 261| 262| 351| 590| 594| 596|
      979| 992| 994| 995| 998)([0-9]{9})|
    (380| 881| 966| 996)([0-9]{9,10})|
    (56)([0-9]{9,11})|
    (41| 870)([0-9]{9}|[0-9]{12})|
    (420)([0-9]{9,12})|
    (1| 52| 58| 225)([0-9]{10})|
    (54)([0-9]{10,11})|
    (30)([0-9]{10,12})|
    (7)([0-9]{10}|[0-9]{14})|
    (234)([0-9]{10,14})|
    (888)([0-9]{11})|
    (878)([0-9]{12})
  )$';
  -- end generated
begin
  foreach digit_group in array regexp_split_to_array(replace(p_number, '(0)', ' '), '[^0-9]+') loop
    digits := digits || digit_group;
    exit when length(digits) > 15;
    if length(digits) >= 8 and digits ~ possible then
      return true;
    end if;
  end loop;
  return false;
end
$$;

-- Whether a date of birth (with or without its century), a divider and a serial are a personnummer or a coordination
-- number, whose day is 60 later, and in whose date 00 is what is not known. Undivided dates of 2013 to 2030 are
-- compact timestamps; of a coordination number's only ten bare digits may be something else: epoch seconds.
create or replace function scenario_private.is_personnummer(p_born text, p_divider text, p_serial text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  century constant text := left(p_born, -6);
  year constant integer := (substr(right(p_born, 6), 1, 2))::integer;
  month constant integer := (substr(right(p_born, 6), 3, 2))::integer;
  day constant integer := (right(p_born, 2))::integer;
  is_coordinated constant boolean := month between 0 and 12 and day between 60 and 91;
  digits constant text := right(p_born, 6) || p_serial;
  digit integer;
  total integer := 0;
begin
  if trim(p_divider) = '' and year between 13 and 30 and century in ('', '20')
    and (not is_coordinated or p_divider || century = '')
  then
    return false;
  end if;
  if not is_coordinated
    and (
      month not between 1 and 12
      or day not between 1 and case
        when month <> 2 then 30 + (month + month / 8) % 2
        when year % 4 = 0 and (year > 0 or century in ('', '20')) then 29
        else 28
      end
    )
  then
    return false;
  end if;
  for place in 1..10 loop
    digit := (substr(digits, place, 1))::integer * (1 + place % 2);
    total := total + digit / 10 + digit % 10;
  end loop;
  return total % 10 = 0;
end
$$;

-- Whether eleven digits are a fødselsnummer: both check digits, and a date of birth of a century that its serial
-- allows. A D-number's day is 40 later, an H-number's month; the tax agency's synthetic persons' month is 80 later.
create or replace function scenario_private.is_fodselsnummer(p_number text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  digits constant integer[] := string_to_array(p_number, null)::integer[];
  day constant integer := case when digits[1] between 4 and 7 then -40 else 0 end + (left(p_number, 2))::integer;
  month constant integer := (substr(p_number, 3, 2))::integer % 40;
  year constant integer := (substr(p_number, 5, 2))::integer;
  serial constant integer := (substr(p_number, 7, 3))::integer;
begin
  return
    (
      3 * digits[1] + 7 * digits[2] + 6 * digits[3] + digits[4] + 8 * digits[5] + 9 * digits[6]
      + 4 * digits[7] + 5 * digits[8] + 2 * digits[9] + digits[10]
    ) % 11 = 0
    and (
      5 * digits[1] + 4 * digits[2] + 3 * digits[3] + 2 * digits[4] + 7 * digits[5] + 6 * digits[6]
      + 5 * digits[7] + 4 * digits[8] + 3 * digits[9] + 2 * digits[10] + digits[11]
    ) % 11 = 0
    and (serial < 500 or serial < 750 and year >= 54 or year < 40 or serial >= 900)
    and month between 1 and 12
    and day between 1 and case
      when month <> 2 then 30 + (month + month / 8) % 2
      when year % 4 = 0 and (year > 0 or serial >= 500) then 29
      else 28
    end;
end
$$;

-- Whether there is an e-mail address in a plain text.
create or replace function scenario_private.holds_an_address(p_plain text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- begin generated: constants git_remote email
  git_remote constant text :=
    '(?:(?<![0-9a-z!#$%&''*+/=?^_.@{|}~-])(?<![^\u0001-\u007f])git@[0-9a-z.-]+:[0-9a-z_~][0-9a-z_.~-]*/'
    '|//git@[0-9a-z.-]+[:/])';
  email constant text :=
    '[^ @/(<\[{,;:=|]@(?!v?[0-9]+\.[0-9]+[.-])(?!(?:[0-9]+\.[0-9]+x|(?:[0-9a-z_%-]|[^\u0001-\u007f])+)\.(?:'
    '(?:min|tar)\.)?(?:png|jpe?g|gif|webp|svgz?|avif|bmp|hei[cf]|tiff?|ico|icns|psd|pdf|eps|css|s[ac]ss|less'
    '|[cm]?js|[jt]sx?|vue|json|ya?ml|toml|xml|html?|txt|[ct]sv|log|woff2?|[ot]tf|eot|mp[34]|m4[av]|wav|ogg|webm'
    '|gz|tgz|whl|jar|class|service|socket|timer|mount)(?!(?:[0-9a-z_%-]|[^\u0001-\u007f])|\.[0-9a-z]))(?:'
    '(?:[0-9a-z_%-]|[^\u0001-\u007f])+\.)+(?:xn--[0-9a-z-]+|(?:[a-z]|[^\u0001-\u007f]){2,})(?![0-9a-z])';
  -- end generated
begin
  return regexp_replace(scenario_private.in_lower_case(p_plain), git_remote, '~', 'g') ~ email;
end
$$;

-- Whether a word in a plain text says that the number after it is a phone number: tel:91234567, tlf. 91 23 45 67.
create or replace function scenario_private.announces_a_phone(p_plain text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- begin generated: constants hump phone_hint announced_phone
  hump constant text := '([a-z])([A-Z])';
  phone_hint constant text := 'phone|telefon|mob|mms|tel|tlf|tfn|sms|msisdn|cell|whatsapp|callto|wa[.]me|[℡☎📞]';
  announced_phone constant text :=
    '(?:(?<![a-z])(?:(?:cell|mobile?|tele)?phones?|(?:mobil)?telefon|mobile?|mob|tel|tlf|tfn|sms|msisdn|cell'
    '|whatsapp|smsto|mmsto|mms|callto|wa[.]me)(?:[ ._-]?(?:number|nummer|num|nr|no))?(?![a-z])[^0-9a-z]{1,4}(?:'
    '(?:is|er|är) )?|[℡☎📞][^0-9a-z]{0,4})(?<![0-9A-Za-z-])(?<![0-9][.:])(?!(?:(?:19|20)[0-9]{2}[-./ ]?(?:0[1-9]'
    '|1[0-2])[-./ ]?(?:0[1-9]|[12][0-9]|3[01])(?![0-9])|(?:0[1-9]|[12][0-9]|3[01])[-./ ](?:0[1-9]|1[0-2])[-./ ]'
    '(?:19|20)[0-9]{2}(?![0-9])))(?:[2-9](?:[-. /()]{0,3}[0-9]){7}|0[1-9](?:[-. /()]{0,3}[0-9]){6,8}|4[67]'
    '(?:[-. /()]{0,3}[0-9]){7,9})(?![0-9A-Za-z+-])';
  -- end generated
begin
  return scenario_private.in_lower_case(p_plain) ~ phone_hint
    and scenario_private.in_lower_case(regexp_replace(p_plain, hump, '\1 \2', 'g')) ~ announced_phone;
end
$$;

-- Whether there is personal data in a text; p_of_phone when its key says that it is a phone number.
create or replace function scenario_private.personal_data_in_text(p_text text, p_of_phone boolean)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  plain text := scenario_private.plain_text(p_text);
  found text[];
  -- begin generated: constants uuid enough_digits enough_identity
  uuid constant text := '(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])';
  enough_digits constant text := '[0-9][-+. /()0-9]{6,}[0-9]';
  enough_identity constant text := '[0-9]{6}[-+ ]{0,3}[0-9]{4}';
  -- end generated
  -- begin generated: constants international_phone swedish_mobile national_phone personnummer fodselsnummer
  international_phone constant text :=
    '(?:^|[^0-9A-Za-z])\+[ (]{0,2}([1-9](?:[-. /()]{0,3}[0-9]){7,15})(?![0-9])|(?:^|[^0-9A-Za-z.:-]|(?:^'
    '|[^0-9])[.:])00[-. /()]{0,3}([1-9](?:[-. /()]{0,3}[0-9]){7,31})(?![0-9A-Za-z+-])';
  swedish_mobile constant text :=
    '(?<![0-9A-Za-z-])(?<![0-9][.:])07[02369](?:[-. /()]{0,3}[0-9]){7}(?![0-9A-Za-z+-])';
  national_phone constant text :=
    '(?<![0-9A-Za-z-])(?<![0-9][.:])(?!(?:(?:19|20)[0-9]{2}[-./ ]?(?:0[1-9]|1[0-2])[-./ ]?(?:0[1-9]|[12][0-9]'
    '|3[01])(?![0-9])|(?:0[1-9]|[12][0-9]|3[01])[-./ ](?:0[1-9]|1[0-2])[-./ ](?:19|20)[0-9]{2}(?![0-9])))'
    '(?:[2-9](?:[-. /()]{0,3}[0-9]){7}|0[1-9](?:[-. /()]{0,3}[0-9]){6,8}|4[67](?:[-. /()]{0,3}[0-9]){7,9})'
    '(?![0-9A-Za-z+-])';
  personnummer constant text :=
    '(?:^|[^0-9A-Za-z.:-]|(?:^|[^0-9])[.:])((?:1[89]|20)?[0-9]{6})( ?[-+] ?| )?([0-9]{4})(?![0-9A-Za-z+-])';
  fodselsnummer constant text :=
    '(?:^|[^0-9A-Za-z.:-]|(?:^|[^0-9])[.:])([0-9]{6})(?: ?- ?| )?([0-9]{5})(?![0-9A-Za-z+-])';
  -- end generated
begin
  plain := regexp_replace(plain, uuid, '~', 'g');
  if strpos(plain, '@') > 0 and scenario_private.holds_an_address(plain) then
    return true;
  end if;
  if plain !~ enough_digits then
    return false;
  end if;

  if strpos(plain, '+') > 0 or strpos(plain, '00') > 0 then
    for found in select regexp_matches(plain, international_phone, 'g') loop
      if scenario_private.is_phone_number(coalesce(found[1], found[2])) then
        return true;
      end if;
    end loop;
  end if;
  if strpos(plain, '07') > 0 and plain ~ swedish_mobile
    or p_of_phone and plain ~ national_phone
    or scenario_private.announces_a_phone(plain)
  then
    return true;
  end if;

  if plain !~ enough_identity then
    return false;
  end if;
  for found in select regexp_matches(plain, personnummer, 'g') loop
    if scenario_private.is_personnummer(found[1], coalesce(found[2], ''), found[3]) then
      return true;
    end if;
  end loop;
  for found in select regexp_matches(plain, fodselsnummer, 'g') loop
    if scenario_private.is_fodselsnummer(found[1] || found[2]) then
      return true;
    end if;
  end loop;
  return false;
end
$$;

-- Whether a number is personal data: the lost leading zero of a fødselsnummer or personnummer is put back.
create or replace function scenario_private.personal_data_in_number(p_number numeric, p_of_phone boolean)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  digits constant text := (trim_scale(p_number))::text;
  length constant integer := octet_length(digits);
  -- begin generated: constants national_phone_as_number
  national_phone_as_number constant text :=
    '^(?!(?:(?:19|20)[0-9]{2}[-./ ]?(?:0[1-9]|1[0-2])[-./ ]?(?:0[1-9]|[12][0-9]|3[01])(?![0-9])|(?:0[1-9]'
    '|[12][0-9]|3[01])[-./ ](?:0[1-9]|1[0-2])[-./ ](?:19|20)[0-9]{2}(?![0-9])))(?:[1-9][0-9]{7,8}'
    '|4[67][0-9]{8,9})$';
  -- end generated
begin
  if digits !~ '^[1-9][0-9]{7,11}$' then
    return false;
  end if;
  return p_of_phone and digits ~ national_phone_as_number
    or length = 9 and scenario_private.is_personnummer('0' || left(digits, 5), '', right(digits, 4))
    or (length = 10 or length = 12 and digits ~ '^(?:1[89]|20)')
      and scenario_private.is_personnummer(left(digits, -4), '', right(digits, 4))
    or length = 10 and substr(digits, 2, 2) between '01' and '12' and scenario_private.is_fodselsnummer('0' || digits)
    or length = 11 and scenario_private.is_fodselsnummer(digits);
end
$$;

-- Whether there is personal data anywhere in a json value. What is beyond 8 KiB is for another constraint to refuse.
-- Strict: without metadata there is nothing to look at, and the CHECK of every such row would pay for the call.
create or replace function scenario_private.holds_personal_data(p_metadata jsonb)
returns boolean
language plpgsql
immutable
strict
set search_path = ''
as $$
declare
  as_text constant text := p_metadata::text;
  -- begin generated: constants candidate
  candidate constant text := '[@\\]|(?<![0-9A-Za-z])\+[ (]{0,2}[1-9]|(?<![0-9A-Za-z-])[0-9][-+. /()0-9]{6,}[0-9]';
  -- end generated
begin
  if octet_length(as_text) > 8192 then
    return false;
  end if;
  -- Most of what the constraint sends here ends here: UUIDs that end in digits, times with other offsets, letters
  -- beyond ASCII. (An escape is not what it stands for: texts with one are looked at in turn.)
  if scenario_private.plain_text(as_text) !~ candidate then
    return false;
  end if;
  return exists (
    with recursive node (value, name, below_phone, of_phone) as (
      select p_metadata, null::text, false, false
      union all
      select
        child.value,
        child.name,
        node.of_phone,
        node.of_phone or coalesce(scenario_private.names_a_phone(child.name), false)
      from node
      cross join lateral (
        select member.value, member.key
        from jsonb_each(case jsonb_typeof(node.value) when 'object' then node.value end) as member
        union all
        select element.value, null
        from jsonb_array_elements(case jsonb_typeof(node.value) when 'array' then node.value end) as element
      ) as child (value, name)
    )
    select
    from node
    where coalesce(scenario_private.personal_data_in_text(node.name, node.below_phone), false)
      or case jsonb_typeof(node.value)
        when 'string' then scenario_private.personal_data_in_text(node.value #>> '{}', node.of_phone)
        when 'number' then scenario_private.personal_data_in_number((node.value #>> '{}')::numeric, node.of_phone)
      end
  );
end
$$;

-- The claim asks before it inserts, so that one row can't lose a batch: in the constraint's own words. The first
-- pattern sends on to the function whatever the function could refuse, and costs an ordinary small object little.
create or replace function scenario_private.is_storable_metadata(p_metadata jsonb)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select
    jsonb_typeof(p_metadata) = 'object'
    and octet_length(p_metadata::text) <= 8192
    and (
      p_metadata::text !~
        -- begin generated: worth_a_look
        '[^ -$&-?A-\[\]-~]|\+..[^:]|[-.0-9 /()]{8}[^-+0-9A-Za-z]'
        -- end generated
      or not scenario_private.holds_personal_data(p_metadata)
    )
$$;

revoke all on function
  scenario_private.plain_letters(text),
  scenario_private.plain_text(text),
  scenario_private.in_lower_case(text),
  scenario_private.names_a_phone(text),
  scenario_private.is_phone_number(text),
  scenario_private.is_personnummer(text, text, text),
  scenario_private.is_fodselsnummer(text),
  scenario_private.holds_an_address(text),
  scenario_private.announces_a_phone(text),
  scenario_private.personal_data_in_text(text, boolean),
  scenario_private.personal_data_in_number(numeric, boolean),
  scenario_private.holds_personal_data(jsonb),
  scenario_private.is_storable_metadata(jsonb)
from public, anon, authenticated;
grant execute on function
  scenario_private.plain_letters(text),
  scenario_private.plain_text(text),
  scenario_private.in_lower_case(text),
  scenario_private.names_a_phone(text),
  scenario_private.is_phone_number(text),
  scenario_private.is_personnummer(text, text, text),
  scenario_private.is_fodselsnummer(text),
  scenario_private.holds_an_address(text),
  scenario_private.announces_a_phone(text),
  scenario_private.personal_data_in_text(text, boolean),
  scenario_private.personal_data_in_number(numeric, boolean),
  scenario_private.holds_personal_data(jsonb),
  scenario_private.is_storable_metadata(jsonb)
to service_role;

-- supabase/schemas/05_notifications.sql ===============================================================================

-- scenario_notifications: what was decided for whom, and what became of it. One row is one notification.
--
-- The table is a history: what a row says of the past (whose, which, when) never changes; only its delivery moves
-- on, from pending to sent or failed, and both are final. Two unique constraints make double notification impossible,
-- whoever writes:
--   * one_claim_per_window: a claim's cooldown_window_start is the triggered_at of that user's previous claim of
--     the same scenario type ('epoch' for the first), so every claim has one successor at the most;
--   * one_notification_per_milestone: a milestone that has not failed, or failed and is held for good, exists once per
--     user, for ever.
-- A row without cooldown_window_start was recorded unconditionally, by a plain insert.
--
-- What a row holds, and until when, is said by scenario_private.hold (09_holding.sql). Where a pending row is on its
-- way stands in scenario_private.handover (06_handover.sql).
--
-- The list of scenario types in the CHECK is the one that functions read, by scenario_private.scenario_types.

-- Whether texts can be a notification's subjects: one to fifty, each of 1 to 100 characters, without personal data.
create or replace function scenario_private.are_storable_subjects(p_subjects text[])
returns boolean
language sql
immutable
strict
set search_path = ''
as $$
  select
    array_ndims(p_subjects) = 1
    and cardinality(p_subjects) <= 50
    and array_position(p_subjects, null) is null
    and not exists (
      select
      from unnest(p_subjects) as element (subject)
      where char_length(element.subject) not between 1 and 100
        or scenario_private.holds_personal_data(jsonb_build_object('subject', element.subject))
    )
$$;
revoke all on function scenario_private.are_storable_subjects(text[]) from public, anon, authenticated;
grant execute on function scenario_private.are_storable_subjects(text[]) to service_role;

-- What an id is called among a notification's subjects and facts: the id itself, or its md5 in UUID form where it is
-- longer than 64 characters or looks like personal data.
create or replace function scenario_private.subject_of(p_id text)
returns text
language sql
immutable
strict
set search_path = ''
as $$
  select case
    -- An ordinary UUID is never personal data.
    when p_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then p_id
    when char_length(p_id) between 1 and 64
      and not scenario_private.holds_personal_data(jsonb_build_object('subject', p_id))
      then p_id
    else md5(p_id)::uuid::text
  end
$$;
revoke all on function scenario_private.subject_of(text) from public, anon, authenticated;
grant execute on function scenario_private.subject_of(text) to service_role;

create table if not exists public.scenario_notifications (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  organization_id uuid not null,
  scenario_type text not null,
  triggered_at timestamptz not null default now(),
  delivery_status text not null default 'pending',
  milestone_value integer,
  metadata jsonb,
  cooldown_window_start timestamptz,
  failure_code text,
  origin text not null default 'insert',
  cooldown interval,
  subjects text[] not null default '{}',
  deliver_until timestamptz not null,
  settled_at timestamptz,
  held_until timestamptz,
  unsettled_at timestamptz,
  -- What sending does not change, so that sending touches no index (a HOT update).
  is_failed boolean not null generated always as (delivery_status = 'failed') stored,
  failed_code text generated always as (case when delivery_status = 'failed' then failure_code end) stored,
  outlasts_at timestamptz generated always as (
    case
      when delivery_status = 'failed' then coalesce(held_until, unsettled_at)
      when not isfinite(triggered_at) or not isfinite(deliver_until) then null
      when delivery_status = 'pending' and deliver_until - triggered_at > interval '7 days' then deliver_until
      when delivery_status = 'sent' and settled_at - triggered_at > interval '8 days' then settled_at
    end
  ) stored,

  constraint scenario_notifications_scenario_type_is_known
    check (scenario_type in ('inactivity', 'milestone', 'certification_expiry', 'welcome_back')),
  constraint scenario_notifications_delivery_status_is_known
    check (delivery_status in ('pending', 'sent', 'failed')),
  constraint scenario_notifications_milestone_value_only_for_milestones
    check ((scenario_type = 'milestone') = (milestone_value is not null)),
  constraint scenario_notifications_milestone_value_is_positive
    check (milestone_value > 0),
  constraint scenario_notifications_metadata_is_an_object
    check (jsonb_typeof(metadata) = 'object'),
  constraint scenario_notifications_metadata_is_at_most_8_kib
    check (octet_length(metadata::text) <= 8192),
  -- The years 1 to 9999: what a client's datetime can hold; no infinity either.
  constraint scenario_notifications_triggered_at_fits_a_datetime
    check (triggered_at >= '0001-01-01 00:00:00+00' and triggered_at < '10000-01-01 00:00:00+00'),
  constraint scenario_notifications_window_starts_before_trigger
    check (cooldown_window_start < triggered_at),
  constraint scenario_notifications_milestones_have_no_window
    check (scenario_type <> 'milestone' or cooldown_window_start is null),
  constraint scenario_notifications_triggered_at_is_at_most_a_day_ahead
    check (triggered_at <= now() + interval '1 day'),
  constraint scenario_notifications_failure_code_is_a_code
    check (failure_code is null or (failure_code ~ '^[a-z][a-z0-9_]{0,62}$' and delivery_status <> 'sent')),
  constraint scenario_notifications_origin_is_known
    check (origin in ('evaluation', 'claim', 'insert')),
  constraint scenario_notifications_cooldown_is_positive
    check (cooldown > interval '0'),
  constraint scenario_notifications_milestones_have_no_cooldown
    check (scenario_type <> 'milestone' or cooldown is null),
  constraint scenario_notifications_subjects_are_storable
    check (
      subjects = '{}'
      -- A few ordinary ids and words are spared the function, by the same expression as ordinary metadata.
      or (
        subjects::text !~ '[^ -$&-?A-\[\]-~]|\+..[^:]|[-.0-9 /()]{8}[^-+0-9A-Za-z]'
        and octet_length(subjects::text) <= 100
        and array_ndims(subjects) = 1
        and array_position(subjects, null) is null
        and array_position(subjects, '') is null
      )
      or scenario_private.are_storable_subjects(subjects)
    ),
  constraint scenario_notifications_deliver_until_fits_a_datetime
    check (deliver_until >= '0001-01-01 00:00:00+00' and deliver_until < '10000-01-01 00:00:00+00'),
  constraint scenario_notifications_settled_at_unless_pending
    check ((delivery_status = 'pending') = (settled_at is null)),
  constraint scenario_notifications_only_failed_ones_are_held_until
    check (delivery_status = 'failed' or (held_until is null and unsettled_at is null)),
  -- The expression spares an ordinary small object the function: see scenario_private.holds_personal_data.
  constraint scenario_notifications_metadata_holds_no_personal_data
    check (
      metadata::text !~ '[^ -$&-?A-\[\]-~]|\+..[^:]|[-.0-9 /()]{8}[^-+0-9A-Za-z]'
      or not scenario_private.holds_personal_data(metadata)
    ),
  constraint scenario_notifications_one_claim_per_window
    unique (user_id, scenario_type, cooldown_window_start)
)
-- Rows that were claimed together are settled together: each needs a free place in its page, to be settled in place.
-- Reports read an index alone, which needs the visibility map: vacuum after 5 % of new rows instead of 20 %.
with (fillfactor = 50, autovacuum_vacuum_insert_scale_factor = 0.05);

comment on table public.scenario_notifications is
  'One row is one notification of a scenario to a user: pending, then sent or failed. Holds no personal data.';
comment on column public.scenario_notifications.triggered_at is
  'When the scenario was triggered; the cooldown is measured from here.';
comment on column public.scenario_notifications.milestone_value is
  'The activity count that was reached, for scenario_type milestone only.';
comment on column public.scenario_notifications.cooldown_window_start is
  'The triggered_at of the claim before this one, epoch for the first; null for rows recorded by a plain insert.';
comment on column public.scenario_notifications.failure_code is
  'Why it failed, or why the last attempt did: a short code, never the provider''s text, which may hold personal data.';
comment on column public.scenario_notifications.origin is
  'Who made the row: an evaluation, a claim of the app''s, or a plain insert.';
comment on column public.scenario_notifications.cooldown is
  'The cooldown it was claimed with; null for milestones and plain inserts.';
comment on column public.scenario_notifications.subjects is
  'The ids of everything it names, a certificate''s for example; empty: it is about its scenario as a whole.';
comment on column public.scenario_notifications.deliver_until is
  'After this it is no longer handed out.';
comment on column public.scenario_notifications.settled_at is
  'When it became sent or failed; null while pending. Never later than the lease it was sent under.';
comment on column public.scenario_notifications.held_until is
  'For a failed one: until when it refuses a later claim (infinity: for good); null: it does not.';
comment on column public.scenario_notifications.unsettled_at is
  'For one that was refused after a lease which nobody settled: when that lease ended. She may have been told by then.';
comment on column public.scenario_notifications.failed_code is
  'The failure_code of one that failed: unlike that, it does not change with every try, and so may be in an index.';
comment on column public.scenario_notifications.outlasts_at is
  'Where it holds though it failed, or more than a week after its trigger: the time by which it is found.';

create index if not exists scenario_notifications_user_id_scenario_type_triggered_at_idx
  on public.scenario_notifications (user_id, scenario_type, triggered_at desc);
comment on index public.scenario_notifications_user_id_scenario_type_triggered_at_idx is
  'Serves: a claim''s look at the user''s newest notification, and a user''s history.';

create index if not exists scenario_notifications_organization_id_scenario_type_idx
  on public.scenario_notifications (organization_id, scenario_type, triggered_at desc);
comment on index public.scenario_notifications_organization_id_scenario_type_idx is
  'Serves: the report of an organization over a period, from the index alone, and what came of what it was told.';

create index if not exists scenario_notifications_not_failed_idx
  on public.scenario_notifications (user_id, scenario_type, triggered_at desc)
  where not is_failed;
comment on index public.scenario_notifications_not_failed_idx is
  'Serves: what holds against a claim, the count of a series, and when one was last sent, past any number of failures.';

create index if not exists scenario_notifications_outlasting_idx
  on public.scenario_notifications (user_id, scenario_type, outlasts_at desc)
  where outlasts_at is not null;
comment on index public.scenario_notifications_outlasting_idx is
  'Serves: the failures that hold against a claim, and what holds long after its trigger. Little is in it.';

create index if not exists scenario_notifications_failed_idx
  on public.scenario_notifications (triggered_at desc, id desc)
  where is_failed;
comment on index public.scenario_notifications_failed_idx is
  'Serves: the failures of all organizations, newest first, and those of the last days by code.';

create index if not exists scenario_notifications_failed_by_organization_idx
  on public.scenario_notifications (organization_id, triggered_at desc, id desc)
  include (scenario_type, failed_code)
  where is_failed;
comment on index public.scenario_notifications_failed_by_organization_idx is
  'Serves: the failures of an organization, newest first, and its report, which reads nothing else of them.';

create unique index if not exists scenario_notifications_one_notification_per_milestone
  on public.scenario_notifications (user_id, milestone_value)
  where scenario_type = 'milestone' and (not is_failed or held_until = 'infinity');
comment on index public.scenario_notifications_one_notification_per_milestone is
  'Keeps a milestone once per user; serves: get_milestone_record and the claim of a milestone.';

alter table public.scenario_notifications enable row level security;

drop policy if exists scenario_notifications_select_own_policy on public.scenario_notifications;
create policy scenario_notifications_select_own_policy
  on public.scenario_notifications
  for select
  to authenticated
  using (user_id = (select auth.uid()));

-- service_role bypasses row level security on Supabase; the policy says the same where a platform does not.
drop policy if exists scenario_notifications_service_role_policy on public.scenario_notifications;
create policy scenario_notifications_service_role_policy
  on public.scenario_notifications
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table public.scenario_notifications from public, anon, authenticated, service_role;
grant select on table public.scenario_notifications to authenticated;
grant select, insert, update, delete on table public.scenario_notifications to service_role;

-- supabase/schemas/06_handover.sql ====================================================================================

-- The hand-over: where each pending notification is on its way. One narrow row per pending notification; leases and
-- retries touch only this, settling removes it.
--
-- Three things are kept apart: lease_number, the token of a lease, grows with every lease; attempt_count counts the
-- tries that were spent; leased_until says in whose hands it is.
--
-- Its index serves organizations in turn: however many rows one of them has waiting, the next one's are a step away.

create table if not exists scenario_private.handover (
  notification_id uuid primary key,
  user_id uuid not null,
  organization_id uuid not null,
  scenario_type text not null,
  triggered_at timestamptz not null default now(),
  next_attempt_at timestamptz not null default now(),
  leased_at timestamptz,
  leased_until timestamptz,
  lease_number integer not null default 0,
  attempt_count integer not null default 0,
  unsettled_at timestamptz,
  unsettled_leases integer not null default 0,
  reached text[],

  constraint handover_counts_are_not_negative
    check (lease_number >= 0 and attempt_count >= 0)
)
-- Leased together, settled together: each row needs a free place in its page, so that a lease touches no index.
with (fillfactor = 50);

comment on table scenario_private.handover is
  'The pending notifications: when each may be handed out, in whose hands it is, how often it was tried.';
comment on column scenario_private.handover.triggered_at is
  'The notification''s: what is pending is counted by day without a look at it.';
comment on column scenario_private.handover.next_attempt_at is
  'When the notification may be leased.';
comment on column scenario_private.handover.leased_at is
  'When its lease began.';
comment on column scenario_private.handover.leased_until is
  'When its lease ends, or ended without being settled; null: it is in nobody''s hands.';
comment on column scenario_private.handover.lease_number is
  'The token of its lease: it grows with every lease.';
comment on column scenario_private.handover.attempt_count is
  'How many tries were spent; a lease spends one, a release gives it back.';
comment on column scenario_private.handover.unsettled_at is
  'When the last lease ended that nobody settled: the user may have been told by then.';

comment on column scenario_private.handover.unsettled_leases is
  'How many leases in a row ended unsettled before the last one: it may be what its workers die of.';
comment on column scenario_private.handover.reached is
  'The devices that it has reached, each as the SHA-256 of its token.';

create index if not exists handover_due_idx
  on scenario_private.handover (organization_id, scenario_type, next_attempt_at);
comment on index scenario_private.handover_due_idx is
  'Serves: the lease (of each organization and scenario type, the longest due first; which organizations there are).';

create index if not exists handover_suspects_idx
  on scenario_private.handover (notification_id)
  where unsettled_leases > 0;
comment on index scenario_private.handover_suspects_idx is
  'Serves: the lease of what may kill its workers, last and alone. Hardly anything is in it.';

alter table scenario_private.handover enable row level security;

drop policy if exists handover_service_role_policy on scenario_private.handover;
create policy handover_service_role_policy
  on scenario_private.handover
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table scenario_private.handover from public, anon, authenticated, service_role;
grant select, insert, update, delete on table scenario_private.handover to service_role;

-- No foreign key: it would cost each claim a look-up. Its work is done when notifications go.
create or replace function scenario_private.end_handovers()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_op = 'TRUNCATE' then
    truncate scenario_private.handover;
  else
    delete from scenario_private.handover as handover
    using gone
    where handover.notification_id = gone.id;
  end if;
  return null;
end
$$;
revoke all on function scenario_private.end_handovers() from public, anon, authenticated, service_role;

create or replace trigger scenario_notifications_end_handovers
  after delete on public.scenario_notifications
  referencing old table as gone
  for each statement
  execute function scenario_private.end_handovers();

create or replace trigger scenario_notifications_end_all_handovers
  after truncate on public.scenario_notifications
  for each statement
  execute function scenario_private.end_handovers();

-- supabase/schemas/06_history.sql =====================================================================================

-- History is kept: a row's past can't be rewritten, and sent and failed are final. A change of status that is not
-- listed here is refused. What a failed row holds may end early, and never lasts longer.
--
-- The cooldown rests on it. A failed row may have freed its cooldown, so another may have been claimed since: were the
-- failed one sent after all, two would stand inside one cooldown. A sent one that were pending again would be sent
-- twice. And a row moved in time or to another user would break the chain of claims. A claim may see an older state of
-- a row than the newest: it then refuses too much, never too little, for what a row holds only ever gets weaker.

-- Raises SR002, whenever it is called: the triggers' WHEN clauses decide.
create or replace function scenario_private.refuse_rewriting_history()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception using
    errcode = 'SR002',
    message = format('a notification''s history is final: %s', tg_argv[0]),
    constraint = tg_name;
end
$$;
revoke all on function scenario_private.refuse_rewriting_history() from public, anon, authenticated;

create or replace trigger scenario_notifications_settled_is_final
  before update of delivery_status on public.scenario_notifications
  for each row
  when (
    old.delivery_status <> new.delivery_status
    and (old.delivery_status, new.delivery_status) not in (('pending', 'sent'), ('pending', 'failed'))
  )
  execute function scenario_private.refuse_rewriting_history('a pending one is settled once, as sent or failed');

create or replace trigger scenario_notifications_past_is_fixed
  before update of
    id, user_id, organization_id, scenario_type, triggered_at, milestone_value, cooldown_window_start, origin, cooldown,
    subjects
  on public.scenario_notifications
  for each row
  when (
    (old.id, old.user_id, old.organization_id, old.scenario_type, old.triggered_at)
      is distinct from (new.id, new.user_id, new.organization_id, new.scenario_type, new.triggered_at)
    or (old.milestone_value, old.cooldown_window_start, old.origin, old.cooldown, old.subjects)
      is distinct from (new.milestone_value, new.cooldown_window_start, new.origin, new.cooldown, new.subjects)
  )
  execute function scenario_private.refuse_rewriting_history('whose, which, when and about what are fixed');

create or replace trigger scenario_notifications_outcome_is_fixed
  before update of settled_at, unsettled_at, held_until, deliver_until on public.scenario_notifications
  for each row
  when (
    old.delivery_status <> 'pending'
    and (
      (old.settled_at, old.unsettled_at, old.deliver_until)
        is distinct from (new.settled_at, new.unsettled_at, new.deliver_until)
      or new.held_until > old.held_until
      or (old.held_until is null and new.held_until is not null)
    )
  )
  execute function scenario_private.refuse_rewriting_history('what it holds may end early, never last longer');

-- supabase/schemas/07_scenario_types.sql ==============================================================================

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

-- supabase/schemas/08_moments.sql =====================================================================================

-- Moments: when a clock in some time zone says what, and when a window is open. Pure functions; the policies that give
-- them their values are in 08_policies.sql.

-- The instant at which a clock in the zone shows p_local. A time that the zone leaves out is the first instant after the
-- gap; of two equal ones it is the first, or with p_last the second.
create or replace function scenario_private.local_instant(p_local timestamp, p_time_zone text, p_last boolean)
returns timestamptz
language plpgsql
immutable
strict
set search_path = ''
set timezone = 'UTC'
as $$
declare
  as_utc constant timestamptz := p_local at time zone 'UTC';
  -- No zone changes its clock twice within two days.
  before constant interval := (as_utc - interval '1 day') at time zone p_time_zone
    - (as_utc - interval '1 day') at time zone 'UTC';
  after constant interval := (as_utc + interval '1 day') at time zone p_time_zone
    - (as_utc + interval '1 day') at time zone 'UTC';
  early timestamptz := as_utc - greatest(before, after);
  late timestamptz := as_utc - least(before, after);
  middle timestamptz;
begin
  if before = after then
    return early;
  end if;
  if p_last then
    if late at time zone p_time_zone = p_local then
      return late;
    elsif early at time zone p_time_zone = p_local then
      return early;
    end if;
  elsif early at time zone p_time_zone = p_local then
    return early;
  elsif late at time zone p_time_zone = p_local then
    return late;
  end if;
  -- In the gap: the clock jumps at a whole second in between.
  early := date_trunc('second', early) - interval '1 second';
  late := date_trunc('second', late) + interval '1 second';
  while late - early > interval '1 second' loop
    middle := early + make_interval(secs => floor(extract(epoch from late - early) / 2));
    if middle at time zone p_time_zone > p_local then
      late := middle;
    else
      early := middle;
    end if;
  end loop;
  return late;
end
$$;
revoke all on function scenario_private.local_instant(timestamp, text, boolean) from public, anon, authenticated;
grant execute on function scenario_private.local_instant(timestamp, text, boolean) to service_role;

-- The first instant at or after p_from at which a window is open; null: none within 400 days.
--   p_weekdays   the days on which windows open, 1 (Monday) to 7; null: all
--   p_opens_at, p_closes_at  from, until (exclusive); until not after from: over midnight; null: all day
--   p_days_off   days on which none opens; a window over midnight belongs to the day on which it opens
-- A window opens at the first of two equal local times and closes at the second.
create or replace function scenario_private.next_permitted(
  p_time_zone text,
  p_weekdays integer[],
  p_opens_at time,
  p_closes_at time,
  p_days_off datemultirange,
  p_from timestamptz
)
returns timestamptz
language plpgsql
immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
  zone constant text := coalesce(p_time_zone, 'UTC');
  opens_at constant time := coalesce(p_opens_at, '00:00');
  closes_at constant time := coalesce(p_closes_at, '24:00');
  day date;
  opening timestamptz;
  closing timestamptz;
begin
  if p_from is null or not isfinite(p_from) then
    return p_from;
  end if;
  if p_weekdays is null and p_opens_at is null and coalesce(p_days_off, '{}') = '{}' then
    return p_from;
  end if;
  -- From the day before: its window may still be open.
  for ahead in -1..400 loop
    day := (p_from at time zone zone)::date + ahead;
    continue when extract(isodow from day)::integer <> all (p_weekdays) or day <@ p_days_off;
    -- Without hours the whole day is open, and no minute of the next.
    closing := scenario_private.local_instant(day + closes_at + case when closes_at <= opens_at then interval '1 day'
      else interval '0' end, zone, p_closes_at is not null);
    continue when p_from >= closing;
    opening := scenario_private.local_instant(day + opens_at, zone, false);
    -- A window or a day that the zone leaves out as a whole never opens.
    if opening < closing then
      return greatest(p_from, opening);
    end if;
  end loop;
  return null;
end
$$;
revoke all on function
  scenario_private.next_permitted(text, integer[], time, time, datemultirange, timestamptz)
  from public, anon, authenticated;
grant execute on function
  scenario_private.next_permitted(text, integer[], time, time, datemultirange, timestamptz)
  to service_role;

-- The instant from which, up to p_until, the clock has run for p_length: it stands still in p_stopped.
create or replace function scenario_private.clock_back(
  p_until timestamptz, p_length interval, p_stopped tstzmultirange
)
returns timestamptz
language plpgsql
immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
  place timestamptz := p_until;
  remaining interval := p_length;
  stop tstzrange;
begin
  for stop in select range from unnest(p_stopped) as range order by range desc loop
    continue when lower(stop) >= place;
    if upper(stop) < place then
      exit when place - upper(stop) >= remaining;
      remaining := remaining - (place - upper(stop));
    end if;
    place := lower(stop);
  end loop;
  return place - remaining;
end
$$;
revoke all on function scenario_private.clock_back(timestamptz, interval, tstzmultirange)
  from public, anon, authenticated;
grant execute on function scenario_private.clock_back(timestamptz, interval, tstzmultirange) to service_role;

-- The instant at which the clock has run for p_length since p_since: it stands still in p_stopped.
create or replace function scenario_private.clock_forward(
  p_since timestamptz, p_length interval, p_stopped tstzmultirange
)
returns timestamptz
language plpgsql
immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
  place timestamptz := p_since;
  remaining interval := p_length;
  stop tstzrange;
begin
  for stop in select range from unnest(p_stopped) as range order by range loop
    continue when upper(stop) <= place;
    if lower(stop) > place then
      exit when lower(stop) - place >= remaining;
      remaining := remaining - (lower(stop) - place);
    end if;
    place := upper(stop);
  end loop;
  return place + remaining;
end
$$;
revoke all on function scenario_private.clock_forward(timestamptz, interval, tstzmultirange)
  from public, anon, authenticated;
grant execute on function scenario_private.clock_forward(timestamptz, interval, tstzmultirange) to service_role;

-- supabase/schemas/08_mutes.sql =======================================================================================

-- Mutes: what a person does not want to be told. She writes her own, under row level security; the evaluation does not
-- claim what is muted, and the lease hands it to nobody, however urgent.

create table if not exists public.scenario_mutes (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  organization_id uuid,
  scenario_type text,
  muted_until timestamptz,

  constraint scenario_mutes_one_row_per_scope
    unique nulls not distinct (user_id, organization_id, scenario_type),
  constraint scenario_mutes_muted_until_fits_a_datetime
    check (muted_until >= '0001-01-01 00:00:00+00' and muted_until < '10000-01-01 00:00:00+00')
);

comment on table public.scenario_mutes is
  'What people do not want to be told: a scenario type or all, of an organization or of all.';
comment on column public.scenario_mutes.organization_id is
  'Of which organization; null: of all.';
comment on column public.scenario_mutes.scenario_type is
  'Which scenario type; null: all.';
comment on column public.scenario_mutes.muted_until is
  'Until when; null: for good.';

alter table public.scenario_mutes enable row level security;

drop policy if exists scenario_mutes_own_policy on public.scenario_mutes;
create policy scenario_mutes_own_policy
  on public.scenario_mutes
  for all
  to authenticated
  using (user_id = (select auth.uid()))
  with check (user_id = (select auth.uid()));

drop policy if exists scenario_mutes_service_role_policy on public.scenario_mutes;
create policy scenario_mutes_service_role_policy
  on public.scenario_mutes
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table public.scenario_mutes from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.scenario_mutes to authenticated, service_role;

-- Refuses a scenario type that there is not (SR004), and more than 200 mutes of one person (SR003), also of those who
-- write at the same moment. The person who writes may call nothing of ours: it runs with the owner's rights.
--
-- Locks are of 1,024 kinds, and each statement takes its own in one order: however many mutes an app brings along, the
-- server has room for them, and two that bring mutes of the same people don't deadlock. Who has a single mute needs none.
create or replace function scenario_private.check_mutes()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  user_ids uuid[];
begin
  perform scenario_private.require_scenario_type(named.scenario_type)
  from (select distinct written.scenario_type from written where written.scenario_type is not null) as named;

  if tg_op = 'INSERT' then
    user_ids := array(select distinct written.user_id from written);
  else
    -- Given to another person it is one more of hers.
    user_ids := array(
      select distinct written.user_id
      from written
      left join replaced on replaced.id = written.id
      where replaced.user_id is distinct from written.user_id
    );
  end if;
  user_ids := array(
    select mute.user_id
    from public.scenario_mutes as mute
    where mute.user_id = any (user_ids)
    group by mute.user_id
    having count(*) > 1
  );
  perform pg_advisory_xact_lock(hashtext('scenario_repo mutes'), kind.number)
  from (
    select distinct hashtext(asked.user_id::text) & 1023 as number
    from unnest(user_ids) as asked (user_id)
    order by number
  ) as kind;
  if exists (
    select
    from public.scenario_mutes as mute
    where mute.user_id = any (user_ids)
    group by mute.user_id
    having count(*) > 200
  ) then
    raise exception using errcode = 'SR003', message = 'expected at most 200 mutes of one user, got more';
  end if;
  return null;
end
$$;
revoke all on function scenario_private.check_mutes() from public, anon, authenticated, service_role;

create or replace trigger scenario_mutes_check_inserted
  after insert on public.scenario_mutes
  referencing new table as written
  for each statement
  execute function scenario_private.check_mutes();

create or replace trigger scenario_mutes_check_updated
  after update on public.scenario_mutes
  referencing old table as replaced new table as written
  for each statement
  execute function scenario_private.check_mutes();

-- Whether a person has muted a scenario type of an organization.
create or replace function scenario_private.is_muted(p_user_id uuid, p_organization_id uuid, p_scenario_type text)
returns boolean
language sql
stable
set search_path = ''
as $$
  select exists (
    select
    from public.scenario_mutes as mute
    where mute.user_id = p_user_id
      and (mute.organization_id = p_organization_id or mute.organization_id is null)
      and (mute.scenario_type = p_scenario_type or mute.scenario_type is null)
      and (mute.muted_until > now() or mute.muted_until is null)
  )
$$;
revoke all on function scenario_private.is_muted(uuid, uuid, text) from public, anon, authenticated;
grant execute on function scenario_private.is_muted(uuid, uuid, text) to service_role;

-- supabase/schemas/08_policies.sql ====================================================================================

-- When people may be told: an organization's policy, and its days off. The lease asks; without a row it is always the
-- moment. What is not told now is kept for the first moment that is permitted.

-- Whether a text is the name of a time zone: an abbreviation or an offset has no summer.
create or replace function scenario_private.is_time_zone(p_name text)
returns boolean
language plpgsql
immutable
strict
set search_path = ''
-- Whatever is set below ends with the function.
set timezone = 'UTC'
as $$
begin
  -- The view opens the file of every zone there is, which takes longer than most reports. PostgreSQL reads a setting
  -- without a digit as a name or not at all, and says it again as the name is written.
  if p_name ~ '^[A-Za-z_/-]+$' then
    perform set_config('timezone', p_name, true);
    return current_setting('timezone') = p_name;
  end if;
  return exists (select from pg_catalog.pg_timezone_names as zone where zone.name = p_name);
exception when invalid_parameter_value then
  return false;
end
$$;
revoke all on function scenario_private.is_time_zone(text) from public, anon, authenticated;
grant execute on function scenario_private.is_time_zone(text) to service_role;

-- Raises SR001 unless the argument is the name of a time zone. UTC needs no look through all of them.
create or replace function scenario_private.require_time_zone(p_argument text, p_value text)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  perform scenario_private.require_given(p_argument, p_value);
  if p_value <> 'UTC' and not scenario_private.is_time_zone(p_value) then
    raise exception using
      errcode = 'SR001', message = format('expected %s to be a time zone, such as Europe/Oslo', p_argument);
  end if;
end
$$;
revoke all on function scenario_private.require_time_zone(text, text) from public, anon, authenticated;
grant execute on function scenario_private.require_time_zone(text, text) to service_role;

create table if not exists public.scenario_delivery_policy (
  organization_id uuid,
  time_zone text,
  weekdays integer[],
  opens_at time,
  closes_at time,
  min_gap interval,

  constraint scenario_delivery_policy_one_row_per_organization
    unique nulls not distinct (organization_id),
  constraint scenario_delivery_policy_time_zone_is_a_name
    check (scenario_private.is_time_zone(time_zone)),
  -- Some day has to be open: none at all would keep everything for ever. As many days as there are of the seven: none
  -- is there twice. (A CASE, since array_position takes no array of arrays.)
  constraint scenario_delivery_policy_weekdays_are_days
    check (
      case when array_ndims(weekdays) > 1 then false
      else cardinality(weekdays) > 0
        and array_position(weekdays, null) is null
        and cardinality(weekdays) = (1 = any (weekdays))::integer + (2 = any (weekdays))::integer
          + (3 = any (weekdays))::integer + (4 = any (weekdays))::integer + (5 = any (weekdays))::integer
          + (6 = any (weekdays))::integer + (7 = any (weekdays))::integer
      end
    ),
  constraint scenario_delivery_policy_opens_and_closes
    check ((opens_at is null) = (closes_at is null)),
  -- 24:00 is the end of a day, and opens none.
  constraint scenario_delivery_policy_opens_some_time
    check (opens_at <> closes_at and opens_at < '24:00'),
  constraint scenario_delivery_policy_min_gap_is_at_most_a_week
    check (min_gap >= interval '0' and min_gap <= interval '7 days')
);

comment on table public.scenario_delivery_policy is
  'When people may be told: one default row, and one for each organization that differs. Null inherits the default''s.';
comment on column public.scenario_delivery_policy.organization_id is
  'Whose policy it is; null: the default.';
comment on column public.scenario_delivery_policy.time_zone is
  'The name of the zone whose clock and calendar count, such as Europe/Oslo; UTC if neither row says.';
comment on column public.scenario_delivery_policy.weekdays is
  'The days on which people may be told, 1 (Monday) to 7; null in both rows: all.';
comment on column public.scenario_delivery_policy.opens_at is
  'From when on; inherited together with closes_at.';
comment on column public.scenario_delivery_policy.closes_at is
  'Until when, exclusive; not after opens_at: over midnight, and it belongs to the day on which it opens.';
comment on column public.scenario_delivery_policy.min_gap is
  'The shortest time between two notifications to one person, whatever they are and whichever organization has the other.';

create table if not exists public.scenario_days_off (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid,
  first_day date not null,
  last_day date not null,
  stops_clock boolean not null default false,

  constraint scenario_days_off_end_after_they_begin
    check (last_day >= first_day and isfinite(first_day) and isfinite(last_day)),
  constraint scenario_days_off_are_at_most_a_year
    check (last_day - first_day < 366)
);

comment on table public.scenario_days_off is
  'Days on which nobody is told, of an organization or of all; both count.';
comment on column public.scenario_days_off.organization_id is
  'Whose days off they are; null: everybody''s.';
comment on column public.scenario_days_off.stops_clock is
  'Whether the days count for nothing where a length is compared with inactive_after: nobody is active in a holiday.';

alter table public.scenario_delivery_policy enable row level security;
alter table public.scenario_days_off enable row level security;

drop policy if exists scenario_delivery_policy_service_role_policy on public.scenario_delivery_policy;
create policy scenario_delivery_policy_service_role_policy
  on public.scenario_delivery_policy
  for all
  to service_role
  using (true)
  with check (true);

drop policy if exists scenario_days_off_service_role_policy on public.scenario_days_off;
create policy scenario_days_off_service_role_policy
  on public.scenario_days_off
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table public.scenario_delivery_policy, public.scenario_days_off
  from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.scenario_delivery_policy, public.scenario_days_off to service_role;

-- Whether there is any policy or day off: if not, nothing else here is asked. In PL/pgSQL, which keeps the plan.
create or replace function scenario_private.has_delivery_policies()
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return exists (select from public.scenario_delivery_policy) or exists (select from public.scenario_days_off);
end
$$;
revoke all on function scenario_private.has_delivery_policies() from public, anon, authenticated;
grant execute on function scenario_private.has_delivery_policies() to service_role;

-- The policy of an organization: what its own row says, else the default's.
create or replace function scenario_private.delivery_policy_of(p_organization_id uuid)
returns table (time_zone text, weekdays integer[], opens_at time, closes_at time, min_gap interval)
language sql
stable
set search_path = ''
rows 1
as $$
  select
    coalesce(own.time_zone, standard.time_zone, 'UTC'),
    coalesce(own.weekdays, standard.weekdays),
    case when own.opens_at is not null then own.opens_at else standard.opens_at end,
    case when own.opens_at is not null then own.closes_at else standard.closes_at end,
    coalesce(own.min_gap, standard.min_gap)
  from (select) as one
  left join public.scenario_delivery_policy as own on own.organization_id = p_organization_id
  left join public.scenario_delivery_policy as standard on standard.organization_id is null
$$;
revoke all on function scenario_private.delivery_policy_of(uuid) from public, anon, authenticated;
grant execute on function scenario_private.delivery_policy_of(uuid) to service_role;

-- The first moment at or after p_from at which people of an organization may be told; null: none within 400 days.
create or replace function scenario_private.next_moment(p_organization_id uuid, p_from timestamptz)
returns timestamptz
language sql
stable
set search_path = ''
as $$
  select scenario_private.next_permitted(
    policy.time_zone, policy.weekdays, policy.opens_at, policy.closes_at, days.off, p_from
  )
  from scenario_private.delivery_policy_of(p_organization_id) as policy
  cross join (
    select range_agg(daterange(day.first_day, day.last_day, '[]')) as off
    from public.scenario_days_off as day
    where day.organization_id = p_organization_id or day.organization_id is null
  ) as days
$$;
revoke all on function scenario_private.next_moment(uuid, timestamptz) from public, anon, authenticated;
grant execute on function scenario_private.next_moment(uuid, timestamptz) to service_role;

-- The shortest time between two notifications to one person; null: none.
create or replace function scenario_private.min_gap_of(p_organization_id uuid)
returns interval
language sql
stable
set search_path = ''
as $$
  select policy.min_gap from scenario_private.delivery_policy_of(p_organization_id) as policy
$$;
revoke all on function scenario_private.min_gap_of(uuid) from public, anon, authenticated;
grant execute on function scenario_private.min_gap_of(uuid) to service_role;

-- The time in which clocks stand still: for each organization that has such days of its own, or a time zone of its own,
-- and for all others (null). Days are those of the organization's zone. When a zone's days begin and end is reckoned once
-- a zone, for there are few, and may be thousands of organizations; and not at all where no day stops a clock.
create or replace view scenario_private.stopped_clock
with (security_invoker = true)
as
with organization as materialized (
  select listed.id, coalesce(own.time_zone, standard.time_zone, 'UTC') as time_zone
  from (
    select null::uuid as id
    union all
    (
      select day.organization_id
      from public.scenario_days_off as day
      where day.stops_clock and day.organization_id is not null
      union
      select policy.organization_id
      from public.scenario_delivery_policy as policy
      where policy.time_zone is not null and policy.organization_id is not null
    )
  ) as listed
  left join public.scenario_delivery_policy as own on own.organization_id = listed.id
  left join public.scenario_delivery_policy as standard on standard.organization_id is null
  where exists (select from public.scenario_days_off as day where day.stops_clock)
),
of_all as materialized (
  select
    zone.name as time_zone,
    range_agg(
      tstzrange(
        scenario_private.local_instant(day.first_day::timestamp, zone.name, false),
        scenario_private.local_instant((day.last_day + 1)::timestamp, zone.name, false)
      )
    ) as stopped
  from (select distinct organization.time_zone as name from organization) as zone
  cross join public.scenario_days_off as day
  where day.stops_clock and day.organization_id is null
  group by zone.name
),
of_its_own as materialized (
  select
    organization.id,
    range_agg(
      tstzrange(
        scenario_private.local_instant(day.first_day::timestamp, organization.time_zone, false),
        scenario_private.local_instant((day.last_day + 1)::timestamp, organization.time_zone, false)
      )
    ) as stopped
  from organization
  join public.scenario_days_off as day on day.stops_clock and day.organization_id = organization.id
  group by organization.id
)
select
  organization.id as organization_id,
  coalesce(of_all.stopped, '{}') + coalesce(of_its_own.stopped, '{}') as stopped
from organization
left join of_all on of_all.time_zone = organization.time_zone
left join of_its_own on of_its_own.id = organization.id
where of_all.stopped is not null or of_its_own.stopped is not null;
comment on view scenario_private.stopped_clock is
  'When clocks stand still, for each organization that differs from the others, and (null) for these.';
revoke all on table scenario_private.stopped_clock from public, anon, authenticated;
grant select on table scenario_private.stopped_clock to service_role;

-- supabase/schemas/08_settings.sql ====================================================================================

-- scenario_evaluation_config: who is due when, set by an operator with plain updates; and what each scenario's last
-- pass over the mentors did.
--
-- One row per scenario type holds the defaults (organization_id is null). A row with an organization_id overrides
-- for that organization what it gives, and leaves the rest (null) to the default. A pass over one organization is
-- recorded in that organization's row, a pass over all of them in the default row.

create table if not exists public.scenario_evaluation_config (
  id uuid primary key default gen_random_uuid(),
  scenario_type text not null,
  organization_id uuid,
  is_enabled boolean,
  cooldown interval,
  inactive_after interval,
  returned_within interval,
  expires_within interval,
  milestones integer[],
  due_within interval,
  max_reminders integer,
  retry_failed_after interval,
  deliver_within interval,
  max_attempts integer,
  priority smallint,
  pass_evaluated bigint not null default 0,
  pass_due bigint not null default 0,
  pass_claimed bigint not null default 0,
  pass_skipped bigint not null default 0,
  pass_history bigint not null default 0,
  pass_duration interval not null default '0',
  pass_finished_at timestamptz,
  pass_number bigint not null default 0,
  pass_page_size integer,
  pass_served_at timestamptz,
  pass_page_owed_since timestamptz,

  constraint scenario_evaluation_config_one_row_per_scope
    unique nulls not distinct (scenario_type, organization_id),
  constraint scenario_evaluation_config_scenario_type_is_known
    check (scenario_type in ('inactivity', 'milestone', 'certification_expiry', 'welcome_back')),
  constraint scenario_evaluation_config_default_is_complete
    check (
      organization_id is not null
      or is_enabled is not null
      and (cooldown is not null or scenario_type = 'milestone')
      and (inactive_after is not null or scenario_type not in ('inactivity', 'welcome_back'))
      and (returned_within is not null or scenario_type <> 'welcome_back')
      and (expires_within is not null or scenario_type <> 'certification_expiry')
      and (milestones is not null or scenario_type <> 'milestone')
      and (due_within is not null or scenario_type not in ('inactivity', 'milestone', 'welcome_back'))
      and (max_reminders is not null or scenario_type <> 'inactivity')
      and retry_failed_after is not null
      and deliver_within is not null
      and max_attempts is not null
      and priority is not null
    ),
  -- A built-in scenario has the settings that its rule reads. A rule of the app's own may read any but milestones.
  constraint scenario_evaluation_config_settings_belong_to_their_scenario
    check (
      (cooldown is null or scenario_type <> 'milestone')
      and (inactive_after is null or scenario_type not in ('milestone', 'certification_expiry'))
      and (returned_within is null or scenario_type not in ('inactivity', 'milestone', 'certification_expiry'))
      and (expires_within is null or scenario_type not in ('inactivity', 'milestone', 'welcome_back'))
      and (milestones is null or scenario_type = 'milestone')
      and (due_within is null or scenario_type <> 'certification_expiry')
      and (max_reminders is null or scenario_type not in ('milestone', 'certification_expiry', 'welcome_back'))
    ),
  constraint scenario_evaluation_config_intervals_are_positive
    check (
      least(cooldown, inactive_after, returned_within, expires_within, due_within, retry_failed_after, deliver_within)
        > interval '0'
    ),
  constraint scenario_evaluation_config_intervals_are_at_most_36525_days
    check (
      greatest(
        cooldown, inactive_after, returned_within, expires_within, due_within, retry_failed_after, deliver_within
      )
        <= interval '36525 days'
    ),
  -- A month is not a length of time; days are 24 hours here, in UTC.
  constraint scenario_evaluation_config_intervals_have_no_months
    check (
      coalesce(extract(year from cooldown) + extract(month from cooldown), 0) = 0
      and coalesce(extract(year from inactive_after) + extract(month from inactive_after), 0) = 0
      and coalesce(extract(year from returned_within) + extract(month from returned_within), 0) = 0
      and coalesce(extract(year from expires_within) + extract(month from expires_within), 0) = 0
      and coalesce(extract(year from due_within) + extract(month from due_within), 0) = 0
      and coalesce(extract(year from retry_failed_after) + extract(month from retry_failed_after), 0) = 0
      and coalesce(extract(year from deliver_within) + extract(month from deliver_within), 0) = 0
    ),
  constraint scenario_evaluation_config_counts_are_in_bounds
    check (
      max_reminders between 1 and 1000
      and max_attempts between 1 and 1000
      and priority between 0 and 9
      and pass_page_size between 1 and 100000
    ),
  -- Else a gap inside the window could be one to welcome back from, and the rule would have to look at every activity.
  constraint scenario_evaluation_config_window_fits_inside_gap
    check (returned_within <= inactive_after),
  constraint scenario_evaluation_config_milestones_are_positive
    check (
      case when array_ndims(milestones) > 1 then false
      else cardinality(milestones) > 0 and array_position(milestones, null) is null and 0 < all (milestones)
      end
    )
);

comment on table public.scenario_evaluation_config is
  'Settings of each scenario: the defaults, and what an organization overrides; with the figures of the last pass.';
comment on column public.scenario_evaluation_config.organization_id is
  'The organization whose overrides these are; null for the defaults.';
comment on column public.scenario_evaluation_config.cooldown is
  'The shortest time between two notifications of this type to one user, whichever the organization.';
comment on column public.scenario_evaluation_config.inactive_after is
  'inactivity: without activity for this long a mentor is due; welcome_back: after a gap this long a mentor came back.';
comment on column public.scenario_evaluation_config.returned_within is
  'welcome_back: how long after the return a mentor is still welcomed.';
comment on column public.scenario_evaluation_config.expires_within is
  'certification_expiry: how long before a certificate lapses its holder is due.';
comment on column public.scenario_evaluation_config.milestones is
  'milestone: the activity counts that call for a notification, in any order.';
comment on column public.scenario_evaluation_config.due_within is
  'What came true longer ago is history and not told. Null: the scenario looks ahead, nothing of it is history.';
comment on column public.scenario_evaluation_config.max_reminders is
  'inactivity: how many notifications one absence calls for at most. Null in a rule of the app''s own: no limit.';
comment on column public.scenario_evaluation_config.retry_failed_after is
  'How long a failure to deliver refuses a later claim; doubled by each failure in a row, up to the cooldown.';
comment on column public.scenario_evaluation_config.deliver_within is
  'How long after its trigger a notification is still handed out.';
comment on column public.scenario_evaluation_config.max_attempts is
  'How many tries a notification has before it fails for good.';
comment on column public.scenario_evaluation_config.priority is
  'What a user is told first where several things wait: 1 before 9; 0 is urgent.';
comment on column public.scenario_evaluation_config.pass_history is
  'Of the pass: how many were left out since it came true longer ago than due_within.';
comment on column public.scenario_evaluation_config.pass_finished_at is
  'When the last complete pass ended; the pass_ figures are its own. Those of one under way: scenario_private.pass.';
comment on column public.scenario_evaluation_config.pass_number is
  'How many passes have ended.';
comment on column public.scenario_evaluation_config.pass_page_size is
  'How many mentors a page may have, as the last runs found; null: not known yet.';
comment on column public.scenario_evaluation_config.pass_served_at is
  'When the last page was evaluated, or a run began with this scenario: who has waited longest comes first next time.';
comment on column public.scenario_evaluation_config.pass_page_owed_since is
  'When a run last began with this scenario; null once a page has come of it.';

alter table public.scenario_evaluation_config enable row level security;

drop policy if exists scenario_evaluation_config_service_role_policy on public.scenario_evaluation_config;
create policy scenario_evaluation_config_service_role_policy
  on public.scenario_evaluation_config
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table public.scenario_evaluation_config from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.scenario_evaluation_config to service_role;

insert into public.scenario_evaluation_config
  (
    scenario_type, is_enabled, cooldown, inactive_after, returned_within, expires_within, milestones, due_within,
    max_reminders, retry_failed_after, deliver_within, max_attempts, priority
  )
values
  ('inactivity', true, '30 days', '30 days', null, null, null, '30 days', 3, '1 day', '7 days', 8, 5),
  (
    'milestone', true, null, null, null, null, '{10, 25, 50, 100, 250, 500, 1000}', '30 days',
    null, '1 day', '7 days', 8, 5
  ),
  ('certification_expiry', true, '14 days', null, null, '30 days', null, null, null, '1 day', '7 days', 8, 3),
  ('welcome_back', true, '30 days', '30 days', '7 days', null, null, '30 days', null, '1 day', '7 days', 8, 5)
on conflict do nothing;

-- Raises SR005 unless the scenario type has its default row.
create or replace function scenario_private.require_default_settings(p_scenario_type text)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if not exists (
    select
    from public.scenario_evaluation_config as config
    where config.scenario_type = p_scenario_type and config.organization_id is null
  ) then
    raise exception using
      errcode = 'SR005',
      message = format(
        'the default settings of %s are missing: insert its row without an organization_id'
          ' into scenario_evaluation_config, or run the migrations again',
        p_scenario_type
      );
  end if;
end
$$;
revoke all on function scenario_private.require_default_settings(text) from public, anon, authenticated;
grant execute on function scenario_private.require_default_settings(text) to service_role;

-- The default settings that a simulation would have instead (12_simulation.sql): those of one scenario type are the row
-- in scenario_repo.simulated_settings. Nothing is written for it: a changed row would keep its lock, and every
-- evaluation waiting, until the simulation ends. None where nothing is simulated.
create or replace function scenario_private.simulated_settings()
returns setof public.scenario_evaluation_config
language sql
stable
set search_path = ''
rows 10
as $$
  with simulated as materialized (
    select jsonb_populate_record(
      null::public.scenario_evaluation_config,
      nullif(current_setting('scenario_repo.simulated_settings', true), '')::jsonb
    ) as config
    where current_setting('scenario_repo.simulated_settings', true) <> ''
  )
  select (simulated.config).*
  from simulated
  union all
  select other.*
  from simulated
  join public.scenario_evaluation_config as other
    on other.scenario_type <> (simulated.config).scenario_type
    and other.organization_id is null
$$;
revoke all on function scenario_private.simulated_settings() from public, anon, authenticated;
grant execute on function scenario_private.simulated_settings() to service_role;

-- The default settings of which who is due follows, as they hold in this transaction: those of the table, or simulated.
-- What is no column of it changes nothing of who is due.
create or replace view scenario_private.standard_setting
with (security_invoker = true)
as
select
  config.scenario_type, config.is_enabled, config.cooldown, config.inactive_after, config.returned_within,
  config.expires_within, config.milestones, config.due_within, config.max_reminders
from public.scenario_evaluation_config as config
where config.organization_id is null
  and coalesce(current_setting('scenario_repo.simulated_settings', true), '') = ''
union all
select
  simulated.scenario_type, simulated.is_enabled, simulated.cooldown, simulated.inactive_after,
  simulated.returned_within, simulated.expires_within, simulated.milestones, simulated.due_within,
  simulated.max_reminders
from scenario_private.simulated_settings() as simulated
where current_setting('scenario_repo.simulated_settings', true) <> '';
comment on view scenario_private.standard_setting is
  'The default settings of which who is due follows, as they hold in this transaction: real, or simulated.';
revoke all on table scenario_private.standard_setting from public, anon, authenticated;
grant select on table scenario_private.standard_setting to service_role;

-- Every mentor with the settings that hold for her: what the rules start from.
--
-- The instants that follow from the default settings, and the clocks, are reckoned once a query, also where it asks of
-- each mentor by herself: so they are materialized. Where an organization overrides a setting, its instants are reckoned
-- for its mentors.
create or replace view scenario_private.mentor_setting
with (security_invoker = true)
as
select
  standard.scenario_type,
  mentor.user_id,
  mentor.organization_id,
  mentor.is_active,
  coalesce(override.is_enabled, standard.is_enabled) as is_enabled,
  mentor.is_active and coalesce(override.is_enabled, standard.is_enabled) as is_evaluated,
  coalesce(override.cooldown, standard.cooldown) as cooldown,
  case
    when override.inactive_after is null and own_clock.stopped is null then standard.inactive_since
    when coalesce(own_clock.stopped, standard.stopped) is null then now() - override.inactive_after
    else scenario_private.clock_back(
      now(), coalesce(override.inactive_after, standard.inactive_after), coalesce(own_clock.stopped, standard.stopped)
    )
  end as inactive_since,
  coalesce(override.inactive_after, standard.inactive_after) as inactive_after,
  -- Never a longer window than the gap: a gap inside the window would go unseen.
  case
    when override.returned_within is null and override.inactive_after is null then standard.returned_since
    else now() - least(
      coalesce(override.returned_within, standard.returned_within),
      coalesce(override.inactive_after, standard.inactive_after)
    )
  end as returned_since,
  coalesce(now() + override.expires_within, standard.expires_until) as expires_until,
  coalesce(override.milestones, standard.milestones) as milestones,
  coalesce(override.max_reminders, standard.max_reminders) as max_reminders,
  coalesce(now() - override.due_within, standard.history_before) as history_before,
  coalesce(own_clock.stopped, standard.stopped) as stopped
from scenario_source.mentors as mentor
cross join (
  with reckoned as materialized (
    select
      config.*,
      clock.stopped,
      -- Most clocks never stand still: the function is spared them.
      case
        when clock.stopped is null then now() - config.inactive_after
        else scenario_private.clock_back(now(), config.inactive_after, clock.stopped)
      end as inactive_since,
      now() - least(config.returned_within, config.inactive_after) as returned_since,
      now() + config.expires_within as expires_until,
      now() - config.due_within as history_before
    from scenario_private.standard_setting as config
    left join scenario_private.stopped_clock as clock on clock.organization_id is null
  )
  select * from reckoned
) as standard
left join public.scenario_evaluation_config as override
  on override.scenario_type = standard.scenario_type
  and override.organization_id = mentor.organization_id
  -- Simulated for one organization, what it overrides is in the simulated settings already.
  and override.organization_id is distinct from (
    select nullif(current_setting('scenario_repo.simulated_organization', true), '')::uuid
  )
left join (
  with reckoned as materialized (select * from scenario_private.stopped_clock)
  select * from reckoned
) as own_clock
  on own_clock.organization_id = mentor.organization_id;
comment on view scenario_private.mentor_setting is
  'Every mentor of every organization with the settings that hold there: the organization''s, or the default.';
revoke all on table scenario_private.mentor_setting from public, anon, authenticated;
grant select on table scenario_private.mentor_setting to service_role;

-- How a notification is delivered: the settings that hold for each scenario type, for all organizations (null), and for
-- those that override something.
create or replace view scenario_private.delivery_setting
with (security_invoker = true)
as
select
  scope.scenario_type,
  scope.organization_id,
  coalesce(scope.cooldown, standard.cooldown) as cooldown,
  coalesce(scope.retry_failed_after, standard.retry_failed_after) as retry_failed_after,
  coalesce(scope.deliver_within, standard.deliver_within) as deliver_within,
  coalesce(scope.max_attempts, standard.max_attempts) as max_attempts,
  coalesce(scope.priority, standard.priority) as priority,
  standard.due_within is null as looks_ahead
from public.scenario_evaluation_config as scope
join public.scenario_evaluation_config as standard
  on standard.scenario_type = scope.scenario_type
  and standard.organization_id is null;
comment on view scenario_private.delivery_setting is
  'How notifications are delivered: the settings of each scenario type, for all, and for organizations of their own.';
revoke all on table scenario_private.delivery_setting from public, anon, authenticated;
grant select on table scenario_private.delivery_setting to service_role;

-- The one of them that holds for a notification.
create or replace function scenario_private.delivery_setting_of(p_scenario_type text, p_organization_id uuid)
returns scenario_private.delivery_setting
language sql
stable
set search_path = ''
as $$
  select setting
  from scenario_private.delivery_setting as setting
  where setting.scenario_type = p_scenario_type
    and (setting.organization_id = p_organization_id or setting.organization_id is null)
  order by setting.organization_id nulls last
  limit 1
$$;
revoke all on function scenario_private.delivery_setting_of(text, uuid) from public, anon, authenticated;
grant execute on function scenario_private.delivery_setting_of(text, uuid) to service_role;

-- supabase/schemas/09_deadlines.sql ===================================================================================

-- Deadlines: when what is claimed now may first be told, and until when it is handed out.

-- For each pair of organization and scenario type (one may stand for a whole column) the first permitted moment and
-- deliver_until, an array under the key of both, divided by a space; null where every organization is always open and
-- hands out for 7 days. What would end at a time that is not permitted ends a day after the next one that is: holding is
-- never losing.
create or replace function scenario_private.deadlines(
  p_organization_ids uuid[], p_organization_id uuid, p_scenario_types text[], p_scenario_type text
)
returns jsonb
language plpgsql
stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  if not scenario_private.has_delivery_policies()
    and not exists (
      select from public.scenario_evaluation_config as config where config.deliver_within <> interval '7 days'
    )
  then
    return null;
  end if;
  return (
    select jsonb_object_agg(
      pair.organization_id || ' ' || pair.scenario_type,
      jsonb_build_array(
        coalesce(scenario_private.next_moment(pair.organization_id, now()), now()),
        case
          when moment.open_at > ending.at then moment.open_at + interval '1 day'
          else ending.at
        end
      )
    )
    from (
      select distinct
        coalesce(asked.organization_id, p_organization_id) as organization_id,
        coalesce(asked.scenario_type, p_scenario_type) as scenario_type
      from unnest(p_organization_ids, p_scenario_types) as asked (organization_id, scenario_type)
      union
      select p_organization_id, p_scenario_type
    ) as pair
    cross join lateral (
      select now() + coalesce(
        (scenario_private.delivery_setting_of(pair.scenario_type, pair.organization_id)).deliver_within,
        interval '7 days'
      ) as at
    ) as ending
    cross join lateral (
      select scenario_private.next_moment(pair.organization_id, ending.at) as open_at
    ) as moment
    where pair.organization_id is not null
      and pair.scenario_type is not null
  );
end
$$;
revoke all on function scenario_private.deadlines(uuid[], uuid, text[], text) from public, anon, authenticated;
grant execute on function scenario_private.deadlines(uuid[], uuid, text[], text) to service_role;

-- supabase/schemas/09_holding.sql =====================================================================================

-- What holds: what refuses a later claim of the same user and scenario type about the same thing, and until when. It is
-- said here once: claim, evaluation, dry run, rules, explanations, look-ups and the purge read these views.
--
--   pending, in nobody's hands     until the later of deliver_until and triggered_at plus the claim's cooldown
--   pending, leased, or its lease  as sent when the lease ends
--     ran out unsettled
--   sent                           until the later of triggered_at and settled_at, plus the claim's cooldown
--   failed                         until held_until: scenario_private.keep_books says what each failure holds
--   a milestone                    pending or sent: for good
--
-- About the same thing: a row without subjects holds every subject of its type, and a claim without subjects is refused
-- by any row of its type.

-- Every notification with what it holds. It refuses a claim with cooldown c while holds_until > now() or holds_since >
-- now() - c. What can be told without looking at its lease costs less: holds_from is never later than holds_since, and
-- lasts_until is holds_until as if it were in nobody's hands. Leases are looked at only where a query asks.
create or replace view scenario_private.hold
with (security_invoker = true)
as
select
  row.*,
  case row.delivery_status
    when 'sent' then greatest(row.triggered_at, row.settled_at)
    when 'pending' then greatest(
      row.triggered_at,
      (
        select greatest(handover.leased_until, handover.unsettled_at)
        from scenario_private.handover as handover
        where handover.notification_id = row.id
      )
    )
  end as holds_since,
  case
    when row.delivery_status = 'pending'
      and row.scenario_type <> 'milestone'
      -- Not as EXISTS, which may be planned by reading the whole hand-over.
      and (
        select handover.leased_until
        from scenario_private.handover as handover
        where handover.notification_id = row.id
      ) is not null
      then null
    else row.lasts_until
  end as holds_until
from (
  select
    notification.*,
    -- Whether it counts as a reminder: the user was told, will be, or may have been.
    not notification.is_failed or notification.unsettled_at is not null as counts,
    case
      when not notification.is_failed then greatest(notification.triggered_at, notification.settled_at)
    end as holds_from,
    case
      -- Nobody could be told: it is over when the user registers a device.
      when notification.is_failed
        and notification.failure_code = 'suppressed'
        and notification.held_until > now()
        and exists (
          select
          from scenario_source.device_tokens as device
          where device.user_id = notification.user_id
            and device.registered_at > notification.settled_at
        )
        then null
      when notification.is_failed then notification.held_until
      when notification.scenario_type = 'milestone' then timestamptz 'infinity'
      when notification.delivery_status = 'pending' then notification.deliver_until
    end as lasts_until
  from public.scenario_notifications as notification
) as row;
comment on view scenario_private.hold is
  'Every notification with what it holds: it refuses a claim until holds_until, and for a cooldown after holds_since.';
revoke all on table scenario_private.hold from public, anon, authenticated;
grant select on table scenario_private.hold to service_role;

-- Where to look for what holds: whatever may refuse a claim with cooldown c has found_at > now() - c - 8 days. Each
-- part is found by its own index, past any number of failed and old rows. Seven days is how long a notification is
-- usually handed out, and a lease lasts a day at the most: what outlasts that, and the failed ones that hold, are the
-- second part. The first part has nothing where even the user's newest notification is older.
create or replace view scenario_private.holding
with (security_invoker = true)
as
select hold.*, hold.triggered_at as found_at, false as outlasts
from scenario_private.hold as hold
where not hold.is_failed
union all
select hold.*, hold.outlasts_at, true
from scenario_private.hold as hold
where hold.outlasts_at is not null;
comment on view scenario_private.holding is
  'The notifications that may hold, with the time by which each is found (one that outlasts may be found twice).';
revoke all on table scenario_private.holding from public, anon, authenticated;
grant select on table scenario_private.holding to service_role;

-- The notifications that count as reminders, each found by an index.
create or replace view scenario_private.reminder
with (security_invoker = true)
as
select hold.id, hold.user_id, hold.scenario_type, hold.triggered_at, hold.settled_at
from scenario_private.hold as hold
where hold.counts
  and not hold.is_failed
union all
select hold.id, hold.user_id, hold.scenario_type, hold.triggered_at, hold.settled_at
from scenario_private.hold as hold
where hold.counts
  and hold.is_failed
  and hold.outlasts_at is not null;
comment on view scenario_private.reminder is
  'The notifications by which a user was told, will be told or may have been: what a series counts.';
revoke all on table scenario_private.reminder from public, anon, authenticated;
grant select on table scenario_private.reminder to service_role;

-- The notification that holds longest against a claim as of now, outside the calling statement's snapshot (volatile);
-- null if none does. A milestone is held by its own record.
create or replace function scenario_private.current_holder(
  p_user_id uuid, p_scenario_type text, p_cooldown interval, p_milestone_value integer, p_subjects text[]
)
returns table (id uuid, triggered_at timestamptz, ends_at timestamptz)
language sql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
  select holder.id, holder.triggered_at, nullif(holder.ends_at, 'infinity')
  from (
    select
      holding.id,
      holding.triggered_at,
      greatest(holding.holds_until, holding.holds_since + p_cooldown) as ends_at
    from scenario_private.holding as holding
    where p_milestone_value is null
      and holding.user_id = p_user_id
      and holding.scenario_type = p_scenario_type
      and holding.found_at > now() - p_cooldown - interval '8 days'
      and (p_subjects = '{}' or holding.subjects = '{}' or holding.subjects && p_subjects)
    union all
    select hold.id, hold.triggered_at, hold.holds_until
    from scenario_private.hold as hold
    where hold.user_id = p_user_id
      and hold.scenario_type = 'milestone'
      and hold.milestone_value = p_milestone_value
      and (not hold.is_failed or hold.held_until = 'infinity')
    union all
    select hold.id, hold.triggered_at, hold.holds_until
    from scenario_private.hold as hold
    where hold.user_id = p_user_id
      and hold.scenario_type = 'milestone'
      and hold.milestone_value = p_milestone_value
      and hold.outlasts_at > now()
      and hold.is_failed
  ) as holder
  where holder.ends_at > now()
  order by holder.ends_at desc
  limit 1
$$;
revoke all on function scenario_private.current_holder(uuid, text, interval, integer, text[])
  from public, anon, authenticated;
grant execute on function scenario_private.current_holder(uuid, text, interval, integer, text[]) to service_role;

-- supabase/schemas/09_users.sql =======================================================================================

-- The users, of whom service_role may read nothing: two definer functions answer, with ids and a reason alone.

-- Which of these users exist; they can't be deleted until the transaction ends.
create or replace function scenario_private.lock_existing_users(p_user_ids uuid[])
returns setof uuid
language sql
volatile
security definer
set search_path = ''
rows 1000
as $$
  select users.id
  from auth.users as users
  where users.id = any (p_user_ids)
  order by users.id
  for key share
$$;
revoke all on function scenario_private.lock_existing_users(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.lock_existing_users(uuid[]) to service_role;

-- Which of these users are not to be notified, and why: user_gone (deleted, also softly), or user_banned until later
-- than now. Asked once a page or a lease, by array.
create or replace function scenario_private.users_away(p_user_ids uuid[])
returns table (user_id uuid, reason text)
language plpgsql
stable
security definer
set search_path = ''
set enable_seqscan = off
rows 10
as $$
begin
  return query
  select
    asked.user_id,
    case when users.banned_until > now() and users.deleted_at is null then 'user_banned' else 'user_gone' end
  from unnest(p_user_ids) as asked (user_id)
  left join auth.users as users on users.id = asked.user_id
  where asked.user_id is not null
    and (users.id is null or users.deleted_at is not null or users.banned_until > now());
end
$$;
revoke all on function scenario_private.users_away(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.users_away(uuid[]) to service_role;

-- Who is not to be told, and why: gone or banned (users_away), not an active member, scenario disabled, muted. The lease
-- asks it of notifications, the evaluation and the explanation ask the same of rules (which stand on mentor_setting). A
-- notification that no rule made is asked about the user and her mutes alone.
-- Arrays of one length; a row for each place that is refused.
create or replace function scenario_private.refusals(
  p_user_ids uuid[], p_organization_ids uuid[], p_scenario_types text[], p_by_rule boolean[]
)
returns table (place bigint, reason text)
language plpgsql
stable
set search_path = ''
set jit = off
set enable_seqscan = off
rows 10
as $$
begin
  -- Kept, the plan costs the next call nothing.
  return query
  select asked.place, coalesce(away.reason, refused.reason, muted.reason)
  from unnest(p_user_ids, p_organization_ids, p_scenario_types, p_by_rule) with ordinality as asked (
    user_id, organization_id, scenario_type, by_rule, place
  )
  left join scenario_private.users_away(p_user_ids) as away on away.user_id = asked.user_id
  left join lateral (
    select case
      when not coalesce(setting.is_active, false) then 'mentor_not_active'
      when not setting.is_enabled then 'scenario_disabled'
    end as reason
    from (select) as one
    left join scenario_private.mentor_setting as setting
      on setting.scenario_type = asked.scenario_type
      and setting.user_id = asked.user_id
      and setting.organization_id = asked.organization_id
    where asked.by_rule
    limit 1
  ) as refused on true
  left join lateral (
    select 'muted' as reason
    from public.scenario_mutes as mute
    where mute.user_id = asked.user_id
      and (mute.organization_id = asked.organization_id or mute.organization_id is null)
      and (mute.scenario_type = asked.scenario_type or mute.scenario_type is null)
      and (mute.muted_until > now() or mute.muted_until is null)
    limit 1
  ) as muted on true
  where coalesce(away.reason, refused.reason, muted.reason) is not null;
end
$$;
revoke all on function scenario_private.refusals(uuid[], uuid[], text[], boolean[]) from public, anon, authenticated;
grant execute on function scenario_private.refusals(uuid[], uuid[], text[], boolean[]) to service_role;

-- supabase/schemas/10_books.sql =======================================================================================

-- The books: what is recorded with every notification that comes in or is settled, whoever writes. The claim and the
-- settlement write what they know themselves; triggers see to plain writes, and to every failure.

-- What a failure holds, by its code: 'nothing', where the evaluation itself asks the same and so claims nothing again
-- while it lasts; 'cooldown', where nobody is to be told; null, a failure to deliver: it is tried again, later and
-- later. A sender may give any code but those that are listed here.
create or replace function scenario_private.hold_of_failure(p_failure_code text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when p_failure_code in (
      'expired', 'mentor_not_active', 'muted', 'no_longer_due', 'scenario_disabled', 'superseded', 'user_banned',
      'user_gone'
    )
      then 'nothing'
    when p_failure_code in ('cancelled', 'suppressed') then 'cooldown'
  end
$$;
revoke all on function scenario_private.hold_of_failure(text) from public, anon, authenticated;
grant execute on function scenario_private.hold_of_failure(text) to service_role;

-- A plain insert is handed out for as long as its scenario's settings say, from now on, and was settled when it was
-- triggered, if it is past.
create or replace function scenario_private.complete_plain_insert()
returns trigger
language plpgsql
set search_path = ''
set timezone = 'UTC'
as $$
begin
  new.deliver_until := coalesce(
    new.deliver_until,
    greatest(now(), least(new.triggered_at, now() + interval '1 day')) + coalesce(
      (scenario_private.delivery_setting_of(new.scenario_type, new.organization_id)).deliver_within, interval '7 days'
    )
  );
  if new.delivery_status <> 'pending' then
    new.settled_at := coalesce(new.settled_at, new.triggered_at);
  end if;
  return new;
end
$$;
revoke all on function scenario_private.complete_plain_insert() from public, anon, authenticated;

create or replace trigger scenario_notifications_complete_plain_insert
  before insert on public.scenario_notifications
  for each row
  when (new.deliver_until is null or (new.delivery_status <> 'pending' and new.settled_at is null))
  execute function scenario_private.complete_plain_insert();

-- A plain insert that is pending is handed out like any other.
create or replace function scenario_private.hand_over_plain_insert()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  insert into scenario_private.handover (notification_id, user_id, organization_id, scenario_type, triggered_at)
  values (new.id, new.user_id, new.organization_id, new.scenario_type, new.triggered_at);
  return null;
end
$$;
revoke all on function scenario_private.hand_over_plain_insert() from public, anon, authenticated;

create or replace trigger scenario_notifications_hand_over_plain_insert
  after insert on public.scenario_notifications
  for each row
  when (new.origin = 'insert' and new.delivery_status = 'pending')
  execute function scenario_private.hand_over_plain_insert();

-- Settles the books of a notification that fails, or that a plain update makes sent: its hand-over ends, settled_at is
-- now(), and a failed one holds what its failure_code says:
--   * a failure to deliver (whatever code the sender gave, attempts_spent, or expired after a try): retry_failed_after,
--     doubled by each such failure in a row, at most the cooldown, 30 days for a milestone;
--   * suppressed, cancelled: the cooldown, a milestone for good; suppressed in a scenario that looks ahead:
--     retry_failed_after, for what is ahead comes nearer;
--   * whatever comes after a lease that nobody settled: as if sent when that lease ended, and it counts as told;
--   * anything else: nothing.
-- Only a settlement by a lease gives settled_at; without it, a lease that has run out was not settled.
create or replace function scenario_private.keep_books()
returns trigger
language plpgsql
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off
as $$
declare
  handed_over scenario_private.handover;
  setting scenario_private.delivery_setting;
  cooldown interval;
  previous interval;
  is_milestone constant boolean := new.scenario_type = 'milestone';
begin
  delete from scenario_private.handover as handover
  where handover.notification_id = new.id
  returning * into handed_over;
  if new.delivery_status <> 'failed' then
    new.settled_at := now();
    return new;
  end if;

  setting := scenario_private.delivery_setting_of(new.scenario_type, new.organization_id);
  cooldown := case when is_milestone then interval '30 days'
    else coalesce(new.cooldown, setting.cooldown, interval '30 days') end;
  new.unsettled_at := greatest(
    handed_over.unsettled_at,
    case when new.settled_at is null and handed_over.leased_until <= now() then handed_over.leased_until end
  );
  new.settled_at := coalesce(new.settled_at, now());
  new.held_until := case
    when scenario_private.hold_of_failure(new.failure_code) = 'cooldown' then
      case
        when new.failure_code = 'suppressed' and setting.looks_ahead
          then new.settled_at + least(setting.retry_failed_after, cooldown)
        when is_milestone then 'infinity'
        else new.settled_at + cooldown
      end
  end;
  if scenario_private.hold_of_failure(new.failure_code) is null
    or (new.failure_code = 'expired' and (old.failure_code is not null or handed_over.attempt_count > 0))
  then
    select last.held_until - last.settled_at into previous
    from public.scenario_notifications as last
    where last.user_id = new.user_id
      and last.scenario_type = new.scenario_type
      and last.milestone_value is not distinct from new.milestone_value
      and last.outlasts_at is not null
      and last.is_failed
      and last.unsettled_at is null
      and (scenario_private.hold_of_failure(last.failure_code) is null or last.failure_code = 'expired')
      and not exists (
        select
        from public.scenario_notifications as told
        where told.user_id = new.user_id
          and told.scenario_type = new.scenario_type
          and told.milestone_value is not distinct from new.milestone_value
          and not told.is_failed
          and told.triggered_at > last.triggered_at
          and told.id <> new.id
      )
    order by last.outlasts_at desc
    limit 1;
    new.held_until := new.settled_at
      + least(greatest(coalesce(setting.retry_failed_after, interval '1 day'), 2 * previous), cooldown);
  end if;
  if new.unsettled_at is not null then
    new.held_until := greatest(
      new.held_until, case when is_milestone then 'infinity' else new.unsettled_at + cooldown end
    );
  end if;
  return new;
end
$$;
revoke all on function scenario_private.keep_books() from public, anon, authenticated;

create or replace trigger scenario_notifications_keep_books
  before update of delivery_status on public.scenario_notifications
  for each row
  when (
    old.delivery_status = 'pending'
    and (new.delivery_status = 'failed' or (new.delivery_status = 'sent' and new.settled_at is null))
  )
  execute function scenario_private.keep_books();

-- Ends what suppressed notifications of these users hold, where a device was registered since: a milestone of theirs
-- can be claimed again, which its unique index would refuse.
create or replace function scenario_private.end_suppressions(p_user_ids uuid[])
returns void
language sql
volatile
set search_path = ''
as $$
  with over as materialized (
    select notification.id
    from public.scenario_notifications as notification
    where notification.id in (
      select hold.id
      from unnest(p_user_ids) as asked (user_id)
      join scenario_private.hold as hold on hold.user_id = asked.user_id
      where hold.outlasts_at > now()
        and hold.failure_code = 'suppressed'
        and hold.holds_until is null
    )
    order by notification.id
    for no key update
  )
  update public.scenario_notifications as notification
  set held_until = now()
  from over
  where notification.id = over.id
$$;
revoke all on function scenario_private.end_suppressions(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.end_suppressions(uuid[]) to service_role;

-- supabase/schemas/10_claim.sql =======================================================================================

-- The claim: a pending notification comes into being if, and only if, nothing holds against it.
--
-- A claim is a compare-and-swap on history. It reads the user's newest claim of the scenario type and writes that
-- row's triggered_at as its own cooldown_window_start, 'epoch' when there is none. Two concurrent claimers see the
-- same predecessor, write the same key, and the unique constraint one_claim_per_window lets one through. A later
-- claimer sees the new row, and what it holds (09_holding.sql) refuses the claim. No locks on users, no calendar slots,
-- any isolation level (under repeatable read and above the loser gets 40001 and may try again).
--
-- The predecessor is the newest *claim*, of any status and about anything: a status change can't alter it, and a plain
-- insert, which stands outside the chain, can't give two claimers different keys.
--
-- The walk of a batch:
--   scenario_claim_notifications        the API: json in, json out
--   scenario_private.claim              the one way every claim takes, the API's and the evaluation's:
--     scenario_private.claim_once         judges, inserts and answers in one statement, with a plain INSERT
--     scenario_private.claim_once         again, with care, only if a constraint objected to that: row by row; and
--                                         once more where a race was lost, which may have been about another subject
--
-- The constraints decide. The first time trusts them with everything that is rare: a lost race, a repetition in the
-- batch, a user who is gone, an unknown scenario type, metadata that the table refuses. An objection undoes the whole
-- batch (a subtransaction), and the second time judges what the first one trusted.
--
-- Rows go in by user_id, scenario_type, milestone_value: batches in whatever order can't deadlock.

-- A prefix for the ids of a batch, which end with the place in it, in five hexadecimal digits: 48 bits of the clock,
-- version 7, 54 random bits. Neighbours in time are neighbours in the index, and the answer needs no ids.
create or replace function scenario_private.new_id_prefix()
returns text
language sql
volatile
set search_path = ''
as $$
  select
    lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
      || '7' || substr(random.digits, 14, 3) || substr(random.digits, 17, 11)
  from (select replace(gen_random_uuid()::text, '-', '') as digits) as random
$$;
revoke all on function scenario_private.new_id_prefix() from public, anon, authenticated;
grant execute on function scenario_private.new_id_prefix() to service_role;

-- What became of a batch: the exceptions, by columns. Every other place was claimed as the batch's id prefix and its
-- place, triggered now, after 'epoch', with all its subjects new, to be delivered within 7 days. It has no rows: it is
-- the type of an answer, of arrays as they are, for json would be read again by whoever asks for a part of it.
create or replace view scenario_private.claim_answer
with (security_invoker = true)
as
select
  null::bigint[] as skipped_places,
  null::text[] as skip_reasons,
  null::uuid[] as held_by,
  null::timestamptz[] as ends_at,
  null::bigint[] as following_places,
  null::timestamptz[] as following_at,
  null::timestamptz[] as following_windows,
  null::bigint[] as partly_places,
  null::json as partly_subjects,
  null::bigint[] as deliver_places,
  null::timestamptz[] as deliver_until,
  null::bigint[] as lost_places
where false;
comment on view scenario_private.claim_answer is
  'What a claim answers: the exceptions of a batch, by columns. It has no rows.';
comment on column scenario_private.claim_answer.skipped_places is
  'Who was refused, with the reason, what holds (held_by) and until when (ends_at, infinity for good).';
comment on column scenario_private.claim_answer.following_places is
  'Claimed after an earlier claim: its triggered_at (following_at) and cooldown_window_start (following_windows).';
comment on column scenario_private.claim_answer.partly_places is
  'Claimed, and some of the subjects are held already: those that are not (partly_subjects).';
comment on column scenario_private.claim_answer.deliver_places is
  'Claimed, and deliver_until is not 7 days from now.';
comment on column scenario_private.claim_answer.lost_places is
  'With care: who lost a race.';
revoke all on table scenario_private.claim_answer from public, anon, authenticated;
grant select on table scenario_private.claim_answer to service_role;

-- Judges a batch, inserts what nothing refuses, and answers, all in one statement: exact at whatever isolation level.
--
-- Arrays of one length; p_organization_id, p_scenario_type, p_cooldown and p_metadata stand for a column that is null
-- or null in a place. p_subjects has a json array or null in each place.
--   p_predecessors       of an evaluation, which has judged on the same snapshot: the triggered_at of the claim before
--                        (null: none). Nothing is judged here then but what the constraints are about.
--   p_existing_user_ids  with care: the users who exist and can't be deleted meanwhile, in their places; else null
--   p_judges_values      with care: whether types, subjects and metadata are judged too, each value a second time
--   p_places             with care: the places to claim now; null: all
--   p_leased_until       for claims with a lease
--
-- Answers with scenario_private.claim_answer. ends_at is what is known without looking at leases: a pending one
-- holds longer if it is sent later.
--
-- Reasons: unknown_user; invalid_claim (a field is missing or out of bounds); cooldown and milestone_reached (held_by
-- holds, until ends_at); invalid_metadata; duplicate_in_batch (an earlier place names the same); concurrent_claim (an
-- earlier place claims the same user and type about something else: claim again).
create or replace function scenario_private.claim_once(
  p_id_prefix text,
  p_origin text,
  p_user_ids uuid[],
  p_organization_ids uuid[],
  p_organization_id uuid,
  p_scenario_types text[],
  p_scenario_type text,
  p_cooldowns interval[],
  p_cooldown interval,
  p_milestone_values integer[],
  p_metadata jsonb[],
  p_all_metadata jsonb,
  p_subjects jsonb[],
  p_predecessors timestamptz[],
  p_existing_user_ids uuid[],
  p_judges_values boolean,
  p_places bigint[],
  p_leased_until timestamptz
)
returns scenario_private.claim_answer
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
-- One plan for all batches, made once a connection: planning takes longer than a small batch, and compiling longer than
-- a large one. A plan that was made while a table was empty must not read it whole for ever.
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set work_mem = '32MB'
as $$
declare
  with_care constant boolean := p_existing_user_ids is not null;
  is_judged constant boolean := p_predecessors is not null;
  known_types constant text[] := case when p_judges_values then scenario_private.scenario_types() end;
  -- Null where nothing is out of the ordinary, as mostly; then nothing is looked up.
  deadlines constant jsonb := scenario_private.deadlines(
    p_organization_ids, p_organization_id, p_scenario_types, p_scenario_type
  );
  usual_end constant timestamptz := now() + interval '7 days';
  answer scenario_private.claim_answer;
begin
  with judged as (
    select
      element.*,
      case
        when element.user_id is null or element.organization_id is null or element.scenario_type is null
          then 'invalid_claim'
        when with_care and element.existing_user_id is null then 'unknown_user'
        when element.scenario_type <> all (known_types) then 'invalid_claim'
        when (
          case
            when element.scenario_type = 'milestone' then element.milestone_value > 0 and element.cooldown is null
            else element.milestone_value is null
              and element.cooldown > interval '0'
              and element.cooldown <= interval '36525 days'
          end
        ) is not true
          then 'invalid_claim'
        when known_types is null then null
        when element.subjects <> '{}' and not scenario_private.are_storable_subjects(element.subjects)
          then 'invalid_claim'
        when element.metadata is not null and not scenario_private.is_storable_metadata(element.metadata)
          then 'invalid_metadata'
      end as fault
    from (
      select
        part.place,
        part.user_id,
        coalesce(part.organization_id, p_organization_id) as organization_id,
        coalesce(part.scenario_type, p_scenario_type) as scenario_type,
        coalesce(part.cooldown, p_cooldown) as cooldown,
        part.milestone_value,
        coalesce(nullif(part.metadata, 'null'), p_all_metadata) as metadata,
        case
          when nullif(part.subjects, 'null') is null then '{}'
          else array(
            -- In an order that clients know, whatever the database's collation.
            select distinct subject.value collate "C" as value
            from jsonb_array_elements_text(part.subjects) as subject (value)
            order by value
          )
        end as subjects,
        part.predecessor_at,
        part.existing_user_id
      from unnest(
        p_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values, p_metadata, p_subjects,
        p_predecessors, p_existing_user_ids
      ) with ordinality as part (
        user_id, organization_id, scenario_type, cooldown, milestone_value, metadata, subjects, predecessor_at,
        existing_user_id, place
      )
      where p_places is null or part.place = any (p_places)
      offset 0
    ) as element
    order by element.user_id, element.scenario_type, element.milestone_value, element.place
    offset 0
  ),
  -- One look tells most of it: nothing yet, or the newest one holds.
  probed as materialized (
    select
      judged.*,
      coalesce(newest.ends_at > now() and judged.subjects = '{}', false) as is_refused,
      newest.id as newest_id,
      newest.triggered_at as newest_at,
      newest.cooldown_window_start as newest_window,
      newest.ends_at as newest_ends_at,
      coalesce(
        newest.ends_at > now()
          and (judged.subjects = '{}' or newest.subjects = '{}' or newest.subjects && judged.subjects),
        false
      ) as newest_holds
    from judged
    left join lateral (
      select
        hold.id,
        hold.triggered_at,
        hold.cooldown_window_start,
        hold.subjects,
        case
          when hold.holds_from > now() - judged.cooldown
            then greatest(hold.lasts_until, hold.holds_from + judged.cooldown)
          else greatest(hold.holds_until, hold.holds_since + judged.cooldown)
        end as ends_at
      from scenario_private.hold as hold
      where judged.fault is null
        and judged.milestone_value is null
        and not is_judged
        and hold.user_id = judged.user_id
        and hold.scenario_type = judged.scenario_type
      order by hold.triggered_at desc
      limit 1
    ) as newest on true
  ),
  -- Where the newest one doesn't settle it, whatever may hold: looked up for few.
  searched as (
    select
      probed.*,
      case
        when probed.newest_id is not null and not probed.newest_holds then (
          select holding
          from scenario_private.holding as holding
          where holding.user_id = probed.user_id
            and holding.scenario_type = probed.scenario_type
            and holding.found_at > now() - probed.cooldown - interval '8 days'
            and (holding.outlasts or probed.newest_at > now() - probed.cooldown - interval '8 days')
            and (holding.holds_until > now() or holding.holds_since > now() - probed.cooldown)
            and (probed.subjects = '{}' or holding.subjects = '{}' or holding.subjects && probed.subjects)
          limit 1
        )
      end as other,
      case
        when probed.fault is null and probed.milestone_value is not null and not is_judged then coalesce(
          (
            select hold
            from scenario_private.hold as hold
            where hold.user_id = probed.user_id
              and hold.milestone_value = probed.milestone_value
              and hold.scenario_type = 'milestone'
              and (not hold.is_failed or hold.held_until = 'infinity')
              and hold.holds_until > now()
            limit 1
          ),
          (
            select hold
            from scenario_private.hold as hold
            where hold.user_id = probed.user_id
              and hold.milestone_value = probed.milestone_value
              and hold.scenario_type = 'milestone'
              and hold.outlasts_at > now()
              and hold.is_failed
              and hold.holds_until > now()
            limit 1
          )
        )
      end as record
    from probed
    where not probed.is_refused
    offset 0
  ),
  held as (
    select
      searched.*,
      case
        when searched.newest_holds then searched.newest_id
        else coalesce((searched.other).id, (searched.record).id)
      end as held_by,
      case
        when searched.newest_holds then searched.newest_ends_at
        when (searched.other).holds_from > now() - searched.cooldown
          then greatest((searched.other).lasts_until, (searched.other).holds_from + searched.cooldown)
        when (searched.other).id is not null
          then greatest((searched.other).holds_until, (searched.other).holds_since + searched.cooldown)
        else (searched.record).holds_until
      end as ends_at
    from searched
    offset 0
  ),
  decided as materialized (
    select
      judged.*,
      case
        when judged.fault is not null then judged.fault
        when judged.held_by is null or judged.fresh_subjects is not null then null
        when judged.milestone_value is null then 'cooldown'
        else 'milestone_reached'
      end as refusal,
      -- Just after the predecessor if clocks went backwards, so that the chain never wedges.
      greatest(now(), judged.predecessor_at + interval '1 microsecond') as triggered_at,
      case when judged.milestone_value is null then coalesce(judged.predecessor_at, 'epoch') end as window_start
    from (
      select
        held.place,
        held.user_id,
        held.organization_id,
        held.scenario_type,
        held.cooldown,
        held.milestone_value,
        held.metadata,
        held.subjects,
        held.fault,
        held.held_by,
        held.ends_at,
        case
          when held.held_by is not null and held.milestone_value is null and held.subjects <> '{}' then (
            select array_agg(subject.value order by subject.ordinal)
            from unnest(held.subjects) with ordinality as subject (value, ordinal)
            where not exists (
              select
              from scenario_private.holding as holding
              where holding.user_id = held.user_id
                and holding.scenario_type = held.scenario_type
                and holding.found_at > now() - held.cooldown - interval '8 days'
                and (holding.holds_until > now() or holding.holds_since > now() - held.cooldown)
                and (holding.subjects = '{}' or subject.value = any (holding.subjects))
            )
          )
        end as fresh_subjects,
        case
          when is_judged then held.predecessor_at
          when held.newest_window is not null then held.newest_at
          when held.newest_id is not null then (
            select notification.triggered_at
            from public.scenario_notifications as notification
            where notification.user_id = held.user_id
              and notification.scenario_type = held.scenario_type
              and notification.cooldown_window_start is not null
            order by notification.cooldown_window_start desc
            limit 1
          )
        end as predecessor_at
      from held
      offset 0
    ) as judged
  ),
  granted as materialized (
    select
      decided.*,
      (p_id_prefix || lpad(to_hex(decided.place), 5, '0'))::uuid as id,
      case
        when moment.of is null and decided.triggered_at = now() then usual_end
        when moment.of is null then decided.triggered_at + interval '7 days'
        else greatest(decided.triggered_at + interval '1 second', (moment.of ->> 1)::timestamptz)
      end as deliver_until,
      -- Looked at again once a day: a policy may change.
      case
        when moment.of is null then now()
        else least((moment.of ->> 0)::timestamptz, now() + interval '1 day')
      end as first_at
    from decided
    cross join lateral (
      select case
        when deadlines is not null then deadlines -> (decided.organization_id || ' ' || decided.scenario_type)
      end as of
      offset 0
    ) as moment
    where decided.refusal is null
    order by decided.user_id, decided.scenario_type, decided.milestone_value, decided.place
  ),
  inserted as (
    insert into public.scenario_notifications
      (
        id, user_id, organization_id, scenario_type, triggered_at, milestone_value, metadata, cooldown_window_start,
        origin, cooldown, subjects, deliver_until
      )
    select
      granted.id, granted.user_id, granted.organization_id, granted.scenario_type, granted.triggered_at,
      granted.milestone_value, granted.metadata, granted.window_start,
      p_origin, granted.cooldown, granted.subjects, granted.deliver_until
    from granted
    where not with_care
  ),
  inserted_with_care as (
    insert into public.scenario_notifications as notification
      (
        id, user_id, organization_id, scenario_type, triggered_at, milestone_value, metadata, cooldown_window_start,
        origin, cooldown, subjects, deliver_until
      )
    select
      granted.id, granted.user_id, granted.organization_id, granted.scenario_type, granted.triggered_at,
      granted.milestone_value, granted.metadata, granted.window_start,
      p_origin, granted.cooldown, granted.subjects, granted.deliver_until
    from granted
    where with_care
    on conflict do nothing
    returning notification.id, notification.user_id, notification.scenario_type, notification.milestone_value,
      notification.subjects
  ),
  handed_over as (
    insert into scenario_private.handover
      (
        notification_id, user_id, organization_id, scenario_type, triggered_at, next_attempt_at, leased_at,
        leased_until, lease_number, attempt_count
      )
    select
      granted.id, granted.user_id, granted.organization_id, granted.scenario_type, granted.triggered_at,
      granted.first_at,
      case when p_leased_until is not null then now() end, p_leased_until,
      (p_leased_until is not null)::integer, (p_leased_until is not null)::integer
    from granted
    where not with_care or exists (select from inserted_with_care as inserted where inserted.id = granted.id)
  ),
  -- What is not plainly claimed.
  exception as (
    select
      probed.place,
      'cooldown' as reason,
      probed.newest_id as held_by,
      probed.newest_ends_at as ends_at,
      null::timestamptz as triggered_at,
      null::timestamptz as window_start,
      null::text[] as fresh_subjects
    from probed
    where probed.is_refused
    union all
    select
      decided.place,
      case
        when decided.refusal is not null then decided.refusal
        when not with_care or inserted.id is not null then null
        when earlier.id is null then 'lost'
        when earlier.subjects = '{}' or (decided.subjects <> '{}' and decided.subjects <@ earlier.subjects)
          then 'duplicate_in_batch'
        else 'concurrent_claim'
      end,
      decided.held_by,
      decided.ends_at,
      decided.triggered_at,
      decided.window_start,
      decided.fresh_subjects
    from decided
    left join inserted_with_care as inserted
      on inserted.id = case when with_care then (p_id_prefix || lpad(to_hex(decided.place), 5, '0'))::uuid end
    -- Of the same user and type (and milestone) one place has come in: the first.
    left join inserted_with_care as earlier
      on earlier.user_id = case when decided.refusal is null then decided.user_id end
      and earlier.scenario_type = decided.scenario_type
      and earlier.milestone_value is not distinct from decided.milestone_value
    where with_care
      or decided.refusal is not null
      or decided.window_start > 'epoch'
      or decided.fresh_subjects is not null
  ),
  deferred as (
    select granted.place, granted.deliver_until
    from granted
    where granted.deliver_until <> usual_end
      and (not with_care or exists (select from inserted_with_care as inserted where inserted.id = granted.id))
  )
  select
    array_agg(exception.place) filter (where exception.reason <> 'lost'),
    array_agg(exception.reason) filter (where exception.reason <> 'lost'),
    array_agg(exception.held_by) filter (where exception.reason <> 'lost'),
    array_agg(
      -- No later than a client's datetime can be; null for good.
      case when exception.ends_at <> 'infinity' then least(exception.ends_at, '9999-12-31 23:59:59+00') end
    ) filter (where exception.reason <> 'lost'),
    array_agg(exception.place) filter (where exception.reason is null and exception.window_start > 'epoch'),
    array_agg(exception.triggered_at) filter (where exception.reason is null and exception.window_start > 'epoch'),
    array_agg(exception.window_start) filter (where exception.reason is null and exception.window_start > 'epoch'),
    array_agg(exception.place) filter (where exception.reason is null and exception.fresh_subjects is not null),
    json_agg(exception.fresh_subjects) filter (where exception.reason is null and exception.fresh_subjects is not null),
    (select array_agg(deferred.place) from deferred),
    (select array_agg(deferred.deliver_until) from deferred),
    array_agg(exception.place) filter (where exception.reason = 'lost')
  into answer
  from exception;
  return answer;
end
$$;
revoke all on function
  scenario_private.claim_once(
    text, text, uuid[], uuid[], uuid, text[], text, interval[], interval, integer[], jsonb[], jsonb, jsonb[],
    timestamptz[], uuid[], boolean, bigint[], timestamptz
  )
  from public, anon, authenticated;
grant execute on function
  scenario_private.claim_once(
    text, text, uuid[], uuid[], uuid, text[], text, interval[], interval, integer[], jsonb[], jsonb, jsonb[],
    timestamptz[], uuid[], boolean, bigint[], timestamptz
  )
  to service_role;

-- Claims a batch: arguments and answer of scenario_private.claim_once. Who lost a race is judged again, on what was
-- committed meanwhile; an evaluation's claims are not (it asks its rule again), and stay lost.
create or replace function scenario_private.claim(
  p_id_prefix text,
  p_origin text,
  p_user_ids uuid[],
  p_organization_ids uuid[],
  p_organization_id uuid,
  p_scenario_types text[],
  p_scenario_type text,
  p_cooldowns interval[],
  p_cooldown interval,
  p_milestone_values integer[],
  p_metadata jsonb[],
  p_all_metadata jsonb,
  p_subjects jsonb[],
  p_predecessors timestamptz[],
  p_places bigint[],
  p_leased_until timestamptz
)
returns scenario_private.claim_answer
language plpgsql
volatile
set search_path = ''
as $$
declare
  existing_user_ids uuid[];
  judges_values boolean := false;
  turns_lost integer := 0;
  answer scenario_private.claim_answer;
begin
  -- Much metadata is judged by the table's constraints once, not twice: with care from the start.
  begin
    if pg_column_size(p_metadata) > 4194304 then
      raise unique_violation;
    end if;
    return scenario_private.claim_once(
      p_id_prefix, p_origin, p_user_ids, p_organization_ids, p_organization_id, p_scenario_types, p_scenario_type,
      p_cooldowns, p_cooldown, p_milestone_values, p_metadata, p_all_metadata, p_subjects, p_predecessors,
      null, false, p_places, p_leased_until
    );
  exception
    when unique_violation or foreign_key_violation then null;
    when check_violation then judges_values := true;
  end;

  existing_user_ids := array(
    select existing.id
    from unnest(p_user_ids) with ordinality as element (user_id, place)
    left join scenario_private.lock_existing_users(p_user_ids) as existing (id) on existing.id = element.user_id
    order by element.place
  );
  perform scenario_private.end_suppressions(p_user_ids);
  -- A turn that lost a race is undone and made again as a whole, so that rows always go in in their order: tried again
  -- for the losers alone, beside what it had inserted already, two batches could wait for each other.
  loop
    begin
      answer := scenario_private.claim_once(
        p_id_prefix, p_origin, p_user_ids, p_organization_ids, p_organization_id, p_scenario_types, p_scenario_type,
        p_cooldowns, p_cooldown, p_milestone_values, p_metadata, p_all_metadata, p_subjects, p_predecessors,
        existing_user_ids, judges_values, p_places, p_leased_until
      );
      if turns_lost < 8 and p_predecessors is null and answer.lost_places is not null then
        raise exception using errcode = 'triggered_action_exception', message = 'lost a race';
      end if;
      exit;
    exception
      when triggered_action_exception then
        turns_lost := turns_lost + 1;
      when check_violation then
        if judges_values then
          raise;
        end if;
        judges_values := true;
    end;
  end loop;
  return answer;
end
$$;
revoke all on function
  scenario_private.claim(
    text, text, uuid[], uuid[], uuid, text[], text, interval[], interval, integer[], jsonb[], jsonb, jsonb[],
    timestamptz[], bigint[], timestamptz
  )
  from public, anon, authenticated;
grant execute on function
  scenario_private.claim(
    text, text, uuid[], uuid[], uuid, text[], text, interval[], interval, integer[], jsonb[], jsonb, jsonb[],
    timestamptz[], bigint[], timestamptz
  )
  to service_role;

-- Whether a claim's subjects can be read: a list of plain values, or none.
create or replace function scenario_private.are_readable_subjects(p_subjects jsonb)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select case jsonb_typeof(p_subjects)
    when 'array' then not jsonb_path_exists(p_subjects, 'strict $[*] ? (@.type() == "array" || @.type() == "object")')
    else coalesce(p_subjects, 'null') = 'null'
  end
$$;
revoke all on function scenario_private.are_readable_subjects(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.are_readable_subjects(jsonb) to service_role;

-- Whether each field of a claim can be read as what it should be; what it says is judged later.
create or replace function scenario_private.is_readable_claim(p_claim jsonb)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  perform
    (p_claim ->> 'user_id')::uuid,
    (p_claim ->> 'organization_id')::uuid,
    make_interval(secs => (p_claim ->> 'cooldown_seconds')::double precision),
    (p_claim ->> 'milestone_value')::integer;
  return jsonb_typeof(p_claim) = 'object'
    and scenario_private.are_readable_subjects(p_claim -> 'subjects')
    -- A field of another name would be one that is silently left out.
    and p_claim - array[
      'user_id', 'organization_id', 'scenario_type', 'cooldown_seconds', 'milestone_value', 'metadata', 'subjects'
    ] = '{}';
exception when data_exception then
  return false;
end
$$;
revoke all on function scenario_private.is_readable_claim(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.is_readable_claim(jsonb) to service_role;

-- A batch of claims by columns, read from a json object of columns or from an array of claims; a claim with a field
-- that can't be read has no user_id. all_… stand for a whole column.
create or replace function scenario_private.read_claims(p_claims jsonb)
returns table (
  user_ids uuid[],
  organization_ids uuid[],
  scenario_types text[],
  cooldowns interval[],
  milestone_values integer[],
  metadata jsonb[],
  subjects jsonb[],
  all_organization_id uuid,
  all_scenario_type text,
  all_cooldown interval,
  all_metadata jsonb
)
language plpgsql
stable
set search_path = ''
as $$
declare
  claims jsonb := p_claims;
begin
  if jsonb_typeof(p_claims) = 'object' then
    begin
      -- A list of lists would be read as one array of two dimensions: values would move to other places.
      if 'array' in (
        jsonb_typeof(p_claims #> '{user_id,0}'),
        jsonb_typeof(p_claims #> '{organization_id,0}'),
        jsonb_typeof(p_claims #> '{scenario_type,0}'),
        jsonb_typeof(p_claims #> '{cooldown_seconds,0}'),
        jsonb_typeof(p_claims #> '{milestone_value,0}')
      ) then
        raise data_exception;
      end if;
      return query
      select
        columns.user_id,
        columns.organization_id,
        columns.scenario_type,
        case
          when columns.cooldown_seconds is not null then array(
            select make_interval(secs => element.seconds)
            from unnest(columns.cooldown_seconds) with ordinality as element (seconds, place)
            order by element.place
          )
        end,
        columns.milestone_value,
        -- Read by jsonb_to_record, a list of lists would be one array of two dimensions.
        case
          when array_ndims(columns.metadata) > 1 then array(
            select element.value
            from jsonb_array_elements(p_claims -> 'metadata') with ordinality as element (value, place)
            order by element.place
          )
          else columns.metadata
        end,
        case
          when jsonb_typeof(p_claims -> 'subjects') = 'array' then array(
            -- What can't be read is refused as a subject that is null.
            select case when scenario_private.are_readable_subjects(element.value) then element.value else '[null]' end
            from jsonb_array_elements(p_claims -> 'subjects') with ordinality as element (value, place)
            order by element.place
          )
        end,
        same.organization_id,
        same.scenario_type,
        make_interval(secs => same.cooldown_seconds),
        nullif(same.metadata, 'null')
      from jsonb_to_record(p_claims) as columns (
        user_id uuid[], organization_id uuid[], scenario_type text[], cooldown_seconds double precision[],
        milestone_value integer[], metadata jsonb[], "all" jsonb
      )
      left join lateral jsonb_to_record(columns."all") as same (
        organization_id uuid, scenario_type text, cooldown_seconds double precision, metadata jsonb
      ) on true;
      return;
    exception when data_exception then
      -- One claim after the other, then.
      claims := (
        select jsonb_agg(
          coalesce(nullif(p_claims -> 'all', 'null'), '{}') || jsonb_strip_nulls(
            jsonb_build_object(
              'organization_id', p_claims -> 'organization_id' -> place,
              'scenario_type', p_claims -> 'scenario_type' -> place,
              'cooldown_seconds', p_claims -> 'cooldown_seconds' -> place,
              'milestone_value', p_claims -> 'milestone_value' -> place
            )
          ) || jsonb_build_object(
            'user_id', element.value,
            'metadata', coalesce(nullif(p_claims -> 'metadata' -> place, 'null'), p_claims -> 'all' -> 'metadata'),
            'subjects', p_claims -> 'subjects' -> place
          )
          order by element.ordinal
        )
        from jsonb_array_elements(p_claims -> 'user_id') with ordinality as element (value, ordinal)
        cross join lateral (select (element.ordinal - 1)::integer) as counted (place)
      );
    end;
  end if;

  return query
  select
    array_agg(claim.user_id order by claim.ordinal),
    array_agg(claim.organization_id order by claim.ordinal),
    array_agg(claim.scenario_type order by claim.ordinal),
    array_agg(claim.cooldown order by claim.ordinal),
    array_agg(claim.milestone_value order by claim.ordinal),
    array_agg(claim.metadata order by claim.ordinal),
    array_agg(claim.subjects order by claim.ordinal),
    null::uuid,
    null::text,
    null::interval,
    null::jsonb
  from (
    select
      element.ordinal,
      (readable.claim ->> 'user_id')::uuid as user_id,
      (readable.claim ->> 'organization_id')::uuid as organization_id,
      readable.claim ->> 'scenario_type' as scenario_type,
      make_interval(secs => (readable.claim ->> 'cooldown_seconds')::double precision) as cooldown,
      (readable.claim ->> 'milestone_value')::integer as milestone_value,
      readable.claim -> 'metadata' as metadata,
      readable.claim -> 'subjects' as subjects
    from jsonb_array_elements(claims) with ordinality as element (claim, ordinal)
    cross join lateral (
      select case when scenario_private.is_readable_claim(element.claim) then element.claim end as claim
      offset 0
    ) as readable
  ) as claim;
end
$$;
revoke all on function scenario_private.read_claims(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.read_claims(jsonb) to service_role;

-- Raises unless p_claims is an array of claims or an object of columns of one length, of at most p_most claims; returns
-- how many.
create or replace function scenario_private.require_claims(p_claims jsonb, p_most integer)
returns integer
language plpgsql
immutable
set search_path = ''
as $$
declare
  number_of_claims integer;
  misfit record;
begin
  if jsonb_typeof(p_claims) = 'object' then
    perform scenario_private.require_array('p_claims.user_id', p_claims -> 'user_id', p_most);
    number_of_claims := jsonb_array_length(p_claims -> 'user_id');
    select part.key, jsonb_typeof(part.value) as kind into misfit
    from jsonb_each(p_claims) as part
    where case
      when part.key = 'all' then jsonb_typeof(part.value) not in ('object', 'null')
      when part.key not in (
        'user_id', 'organization_id', 'scenario_type', 'cooldown_seconds', 'milestone_value', 'metadata', 'subjects'
      )
        then true
      when jsonb_typeof(part.value) = 'array' then jsonb_array_length(part.value) <> number_of_claims
      else jsonb_typeof(part.value) <> 'null'
    end
    limit 1;
    if misfit.key is null and exists (
      select
      from jsonb_object_keys(nullif(p_claims -> 'all', 'null')) as same (key)
      where same.key not in ('organization_id', 'scenario_type', 'cooldown_seconds', 'metadata')
    ) then
      raise exception using
        errcode = 'SR001',
        message = 'expected p_claims.all to have organization_id, scenario_type, cooldown_seconds and metadata at most,'
          ' got another field';
    end if;
    if misfit.key is not null then
      raise exception using
        errcode = 'SR001',
        message = format(
          'expected p_claims to have columns of %s claims (user_id, organization_id, scenario_type, cooldown_seconds,'
            ' milestone_value, metadata, subjects) and all, an object; one of its columns is another (%s)',
          number_of_claims, misfit.kind
        );
    end if;
    return number_of_claims;
  end if;
  perform scenario_private.require_array('p_claims', p_claims, p_most);
  return jsonb_array_length(p_claims);
end
$$;
revoke all on function scenario_private.require_claims(jsonb, integer) from public, anon, authenticated;
grant execute on function scenario_private.require_claims(jsonb, integer) to service_role;

-- A column of an answer: one value for all places, where all have the same, else one each.
create or replace function scenario_private.column_of(p_values anyarray)
returns json
language sql
immutable
set search_path = ''
as $$
  select case
    when p_values is null then '[]'
    when p_values[1] = all (p_values) then to_json(p_values[1])
    else to_json(p_values)
  end
$$;
revoke all on function scenario_private.column_of(anyarray) from public, anon, authenticated;
grant execute on function scenario_private.column_of(anyarray) to service_role;

-- Claims a batch; with p_lease_seconds for a caller who sends by hand: each notification is leased to the caller at
-- once, who settles it. Without, it is the delivery workers'.
--   in   columns: {"user_id": […], "organization_id": […], "scenario_type": […], "cooldown_seconds": […],
--        "milestone_value": […], "metadata": […], "subjects": […], "all": {…}}; a column may be left out, and all has
--        one value for a whole column. Or an array of claims, each an object with these fields.
--   out  {"id_prefix", "triggered_at", "deliver_until",
--        "skipped": {"place", "reason", "held_by", "ends_at"},
--        "following": {"place", "triggered_at", "cooldown_window_start"},
--        "partly": {"place", "new_subjects"}, "deliver": {"place", "deliver_until"}}: the exceptions, by columns, as
--        scenario_private.claim_answer says; places count from 1, and a column may be one value for all. With a lease also "leased", the rows as
--        scenario_lease_notifications gives them, and "taken_over": {"place", "id"}, claims of before that nobody had
--        in hand.
-- With a lease the same is asked as by a lease: who is gone or banned, or has muted it, is skipped with that reason, and
-- who may not be told at this moment, or has not her turn, as not_now, with the time in ends_at. Nothing is written then.
-- Raises SR001 for anything else, or a lease outside 1 second to 1 day; SR003 for more than 20,000 claims (1,000 with
-- a lease) or 16 MiB of them: one statement has to fit its timeout, and splitting a batch would leave a caller whose
-- second half failed not knowing about the first.
create or replace function public.scenario_claim_notifications(
  p_claims jsonb, p_lease_seconds double precision default null, p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set enable_seqscan = off
as $$
declare
  id_prefix constant text := scenario_private.new_id_prefix();
  number_of_claims integer;
  batch record;
  away_places bigint[];
  away_reasons text[];
  away_until timestamptz[];
  places bigint[];
  answer scenario_private.claim_answer;
  taken_over json;
  leased_ids uuid[];
begin
  perform scenario_private.require_schema(p_needs_schema);
  if pg_column_size(p_claims) > 16777216 then
    raise exception using
      errcode = 'SR003',
      message = format('expected at most 16 MiB of claims in one call, got %s MiB', pg_column_size(p_claims) / 1048576);
  end if;
  if p_lease_seconds is not null then
    perform scenario_private.require_between('p_lease_seconds', p_lease_seconds, 1, 86400);
  end if;
  number_of_claims := scenario_private.require_claims(
    p_claims, case when p_lease_seconds is null then 20000 else 1000 end
  );
  select * into batch from scenario_private.read_claims(p_claims);

  if p_lease_seconds is not null and number_of_claims > 0 then
    select array_agg(refusal.place), array_agg(refusal.reason), array_agg(refusal.wait_until)
    into away_places, away_reasons, away_until
    from scenario_private.refuse_leased_claims(
      id_prefix,
      batch.user_ids,
      coalesce(batch.organization_ids, array_fill(batch.all_organization_id, array[number_of_claims])),
      coalesce(batch.scenario_types, array_fill(batch.all_scenario_type, array[number_of_claims]))
    ) as refusal;
    places := array(
      select place
      from generate_series(1, number_of_claims) as place
      where away_places is null or place <> all (away_places)
    );
  end if;

  answer := scenario_private.claim(
    id_prefix, 'claim', batch.user_ids, batch.organization_ids, batch.all_organization_id, batch.scenario_types,
    batch.all_scenario_type, batch.cooldowns, batch.all_cooldown, batch.milestone_values, batch.metadata,
    batch.all_metadata, batch.subjects, null, places, now() + make_interval(secs => p_lease_seconds)
  );
  if answer.lost_places is not null or p_lease_seconds is not null then
    with skip as (
      select skipped.place, skipped.reason, skipped.held_by, skipped.ends_at
      from unnest(answer.skipped_places, answer.skip_reasons, answer.held_by, answer.ends_at)
        as skipped (place, reason, held_by, ends_at)
      union all
      select lost.place, 'concurrent_claim', null, null
      from unnest(answer.lost_places) as lost (place)
      union all
      select away.place, away.reason, null, away.until
      from unnest(away_places, away_reasons, away_until) as away (place, reason, until)
    ),
    -- With a lease: a claim of before, for the same, that nobody has in hand.
    own as (
      select distinct on (skip.held_by) skip.place, skip.held_by as id, notification.cooldown
      from skip
      cross join lateral (
        select * from public.scenario_notifications as row where row.id = skip.held_by offset 0
      ) as notification
      cross join lateral (
        select array(select jsonb_array_elements_text(nullif(batch.subjects[skip.place], 'null'))) as subjects
      ) as claim
      where p_lease_seconds is not null
        and notification.origin = 'claim'
        and notification.delivery_status = 'pending'
        and notification.deliver_until > now()
        and claim.subjects <@ notification.subjects
        and (claim.subjects <> '{}' or notification.subjects = '{}')
      order by skip.held_by, skip.place
    ),
    free as materialized (
      select handover.notification_id as id, own.place
      from own
      join scenario_private.handover as handover on handover.notification_id = own.id
      where handover.notification_id = any (array(select own.id from own))
        and (handover.leased_until is null or handover.leased_until <= now())
        -- As a lease refuses it.
        and (greatest(handover.leased_until, handover.unsettled_at) + own.cooldown > now() + interval '1 minute')
          is not false
        and handover.attempt_count < coalesce(
          (scenario_private.delivery_setting_of(handover.scenario_type, handover.organization_id)).max_attempts, 8
        )
      order by handover.notification_id
      for no key update of handover skip locked
    ),
    taken as materialized (
      select free.id, free.place
      from scenario_private.take_leases(
        array(select free.id from free), now() + make_interval(secs => p_lease_seconds)
      ) as leased (id)
      join free on free.id = leased.id
    )
    select
      skipped.places,
      skipped.reasons,
      skipped.held_by,
      skipped.ends_at,
      (
        select json_build_object(
          'place', coalesce(json_agg(taken.place order by taken.place), '[]'),
          'id', coalesce(json_agg(taken.id order by taken.place), '[]')
        )
        from taken
      ),
      array(
        select taken.id from taken
        union all
        select (id_prefix || lpad(to_hex(claimed.place), 5, '0'))::uuid
        from generate_series(1, number_of_claims) as claimed (place)
        where not exists (select from skip where skip.place = claimed.place)
      )
    into answer.skipped_places, answer.skip_reasons, answer.held_by, answer.ends_at, taken_over, leased_ids
    from (
      select
        array_agg(skip.place order by skip.place) as places,
        array_agg(skip.reason order by skip.place) as reasons,
        array_agg(skip.held_by order by skip.place) as held_by,
        array_agg(skip.ends_at order by skip.place) as ends_at
      from skip
      where not exists (select from taken where taken.place = skip.place)
    ) as skipped;
    perform scenario_private.give_turns_back(
      array_agg((id_prefix || lpad(to_hex(element.place), 5, '0'))::uuid), array_agg(element.user_id)
    )
    from unnest(batch.user_ids) with ordinality as element (user_id, place)
    where p_lease_seconds is not null
      and (id_prefix || lpad(to_hex(element.place), 5, '0'))::uuid <> all (leased_ids)
    having count(*) > 0;
  end if;

  return json_build_object(
    'id_prefix', id_prefix,
    'triggered_at', now(),
    'deliver_until', now() + interval '7 days',
    'skipped', json_build_object(
      'place', coalesce(answer.skipped_places, '{}'),
      'reason', scenario_private.column_of(answer.skip_reasons),
      'held_by', coalesce(answer.held_by, '{}'),
      'ends_at', scenario_private.column_of(answer.ends_at)
    ),
    'following', json_build_object(
      'place', coalesce(answer.following_places, '{}'),
      'triggered_at', scenario_private.column_of(answer.following_at),
      'cooldown_window_start', scenario_private.column_of(answer.following_windows)
    ),
    'partly', json_build_object(
      'place', coalesce(answer.partly_places, '{}'),
      'new_subjects', coalesce(answer.partly_subjects, '[]')
    ),
    'deliver', json_build_object(
      'place', coalesce(answer.deliver_places, '{}'),
      'deliver_until', scenario_private.column_of(answer.deliver_until)
    ),
    'taken_over', taken_over,
    'leased', case when p_lease_seconds is not null then scenario_private.leased_rows(leased_ids) end
  );
end
$$;
revoke all on function public.scenario_claim_notifications(jsonb, double precision, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_claim_notifications(jsonb, double precision, integer) to service_role;

-- supabase/schemas/11_look_ups.sql ====================================================================================

-- Look-ups for many users in one call: an array of ids in, {"answers": […]} out, in the order of the ids. One value is
-- never cut at max_rows, and ids in a request body know no limit of a URL.
--
-- A missing argument is SR001, an unknown scenario type SR004. More than 50,000 ids are SR003: the answer has to fit a
-- statement's time and a response's size. The ids are read in sorted order, which keeps neighbouring look-ups on the
-- same index pages (1.4 to 1.9 times faster).

-- When a notification of the type was last sent to each user, by triggered_at: a timestamp or null.
create or replace function public.scenario_get_last_sent_at_many(
  p_user_ids uuid[], p_scenario_type text, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_ids', p_user_ids);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_scenario_type(p_scenario_type);
  return (
    select json_build_object('answers', coalesce(json_agg(last_sent.triggered_at order by asked.ordinal), '[]'))
    from (
      select element.user_id, element.ordinal
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      order by element.user_id
    ) as asked
    left join lateral (
      select notification.triggered_at
      from public.scenario_notifications as notification
      where notification.user_id = asked.user_id
        and notification.scenario_type = p_scenario_type
        and notification.delivery_status = 'sent'
        and not notification.is_failed
      order by notification.triggered_at desc
      limit 1
    ) as last_sent on true
  );
end
$$;
revoke all on function public.scenario_get_last_sent_at_many(uuid[], text, integer) from public, anon, authenticated;
grant execute on function public.scenario_get_last_sent_at_many(uuid[], text, integer) to service_role;

-- Whether a notification of the type was sent to each user that was triggered at the cutoff or later: true or false.
create or replace function public.scenario_has_been_sent_since_threshold_many(
  p_user_ids uuid[], p_scenario_type text, p_cutoff timestamptz, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_ids', p_user_ids);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_scenario_type(p_scenario_type);
  perform scenario_private.require_given('p_cutoff', p_cutoff);
  return (
    select json_build_object(
      'answers', coalesce(json_agg(last_sent.triggered_at is not null order by asked.ordinal), '[]')
    )
    from (
      select element.user_id, element.ordinal
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      order by element.user_id
    ) as asked
    left join lateral (
      select notification.triggered_at
      from public.scenario_notifications as notification
      where notification.user_id = asked.user_id
        and notification.scenario_type = p_scenario_type
        and notification.delivery_status = 'sent'
        and not notification.is_failed
        and notification.triggered_at >= p_cutoff
      order by notification.triggered_at desc
      limit 1
    ) as last_sent on true
  );
end
$$;
revoke all on function public.scenario_has_been_sent_since_threshold_many(uuid[], text, timestamptz, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_has_been_sent_since_threshold_many(uuid[], text, timestamptz, integer)
  to service_role;

-- When a notification of the type was last delivered to each user, by settled_at: a timestamp or null.
create or replace function public.scenario_get_last_delivered_at_many(
  p_user_ids uuid[], p_scenario_type text, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_ids', p_user_ids);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_scenario_type(p_scenario_type);
  return (
    select json_build_object('answers', coalesce(json_agg(last_delivered.settled_at order by asked.ordinal), '[]'))
    from (
      select element.user_id, element.ordinal
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      order by element.user_id
    ) as asked
    left join lateral (
      select notification.settled_at
      from public.scenario_notifications as notification
      where notification.user_id = asked.user_id
        and notification.scenario_type = p_scenario_type
        and notification.delivery_status = 'sent'
        and not notification.is_failed
      order by notification.settled_at desc
      limit 1
    ) as last_delivered on true
  );
end
$$;
revoke all on function public.scenario_get_last_delivered_at_many(uuid[], text, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_get_last_delivered_at_many(uuid[], text, integer) to service_role;

-- Whether a notification of the type was delivered to each user at the cutoff or later: true or false.
create or replace function public.scenario_has_been_delivered_since_many(
  p_user_ids uuid[], p_scenario_type text, p_cutoff timestamptz, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_ids', p_user_ids);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_scenario_type(p_scenario_type);
  perform scenario_private.require_given('p_cutoff', p_cutoff);
  return (
    select json_build_object(
      'answers', coalesce(json_agg(last_delivered.settled_at is not null order by asked.ordinal), '[]')
    )
    from (
      select element.user_id, element.ordinal
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      order by element.user_id
    ) as asked
    left join lateral (
      select notification.settled_at
      from public.scenario_notifications as notification
      where notification.user_id = asked.user_id
        and notification.scenario_type = p_scenario_type
        and notification.delivery_status = 'sent'
        and not notification.is_failed
        and notification.settled_at >= p_cutoff
      order by notification.settled_at desc
      limit 1
    ) as last_delivered on true
  );
end
$$;
revoke all on function public.scenario_has_been_delivered_since_many(uuid[], text, timestamptz, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_has_been_delivered_since_many(uuid[], text, timestamptz, integer)
  to service_role;

-- The record of a milestone for each user, pending or sent: the row or null.
create or replace function public.scenario_get_milestone_record_many(
  p_user_ids uuid[], p_milestone_value integer, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_ids', p_user_ids);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_given('p_milestone_value', p_milestone_value);
  return (
    select json_build_object('answers', coalesce(json_agg(record.row order by asked.ordinal), '[]'))
    from (
      select element.user_id, element.ordinal
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      order by element.user_id
    ) as asked
    left join lateral (
      select to_json(notification) as row
      from public.scenario_notifications as notification
      where notification.user_id = asked.user_id
        and notification.milestone_value = p_milestone_value
        and notification.scenario_type = 'milestone'
        and not notification.is_failed
      limit 1
    ) as record on true
  );
end
$$;
revoke all on function public.scenario_get_milestone_record_many(uuid[], integer, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_get_milestone_record_many(uuid[], integer, integer) to service_role;

-- supabase/schemas/12_evaluation.sql ==================================================================================

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

-- supabase/schemas/12_left_out.sql ====================================================================================

-- Who was left out: of each pass, how many mentors of which organization it did not claim for though it came true for
-- them, and why. A gauge, not a counter: the same mentors are left out in every pass, and only the last one is kept.
--
-- A page adds one row, whatever the number of organizations; the last page of a pass puts its rows together, and the
-- pass before goes. So a page waits for nobody and costs next to nothing.

-- A number of persons as it may be shown: null for fewer than 5, who could be told apart.
create or replace function scenario_private.shown(p_persons bigint)
returns bigint
language sql
immutable
set search_path = ''
as $$
  select case when p_persons >= 5 then p_persons end
$$;
revoke all on function scenario_private.shown(bigint) from public, anon, authenticated;
grant execute on function scenario_private.shown(bigint) to service_role;

create table if not exists scenario_private.left_out (
  id bigint generated always as identity,
  pass_id uuid not null references public.scenario_evaluation_config (id) on delete cascade,
  finished_at timestamptz,
  organization_ids uuid[] not null,
  reasons text[] not null,
  mentors bigint[] not null,

  -- In this order: the rows of a pass are found by it.
  constraint left_out_pkey primary key (pass_id, id)
);

-- Compressing them would cost a page more than all the rest.
alter table scenario_private.left_out
  alter column organization_ids set storage external,
  alter column reasons set storage external,
  alter column mentors set storage external;

comment on table scenario_private.left_out is
  'Whom the last pass left out, and the one under way: how many mentors of which organization for which reason.';
comment on column scenario_private.left_out.pass_id is
  'The row of the settings that keeps the pass: its scenario type, and its organization or all.';
comment on column scenario_private.left_out.finished_at is
  'When the pass ended; null: a page of the pass under way.';
comment on column scenario_private.left_out.organization_ids is
  'By columns: the organizations, with reasons and mentors in the same places.';
comment on column scenario_private.left_out.reasons is
  'Why they were left out.';
comment on column scenario_private.left_out.mentors is
  'How many.';

alter table scenario_private.left_out enable row level security;

drop policy if exists left_out_service_role_policy on scenario_private.left_out;
create policy left_out_service_role_policy
  on scenario_private.left_out
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table scenario_private.left_out from public, anon, authenticated, service_role;
grant select, insert, update, delete on table scenario_private.left_out to service_role;

-- Keeps whom a page left out, by columns (null: nobody). The first page of a pass takes over from one that was given
-- up; the last one puts the pages together in place of the pass before. Called with the pass locked.
create or replace function scenario_private.keep_left_out(
  p_pass_id uuid, p_is_first boolean, p_is_last boolean, p_organization_ids uuid[], p_reasons text[], p_mentors bigint[]
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  if p_is_first then
    delete from scenario_private.left_out as page
    where page.pass_id = p_pass_id and page.finished_at is null;
  end if;
  if not p_is_last then
    insert into scenario_private.left_out (pass_id, organization_ids, reasons, mentors)
    select p_pass_id, p_organization_ids, p_reasons, p_mentors
    where p_reasons is not null;
    return;
  end if;
  with gone as (
    delete from scenario_private.left_out as page
    where page.pass_id = p_pass_id
    returning page.finished_at, page.organization_ids, page.reasons, page.mentors
  ),
  line as (
    select counted.organization_id, counted.reason, sum(counted.mentors)::bigint as mentors
    from (
      select gone.organization_ids, gone.reasons, gone.mentors from gone where gone.finished_at is null
      union all
      select p_organization_ids, p_reasons, p_mentors
    ) as page
    cross join unnest(page.organization_ids, page.reasons, page.mentors)
      as counted (organization_id, reason, mentors)
    group by counted.organization_id, counted.reason
  )
  insert into scenario_private.left_out (pass_id, finished_at, organization_ids, reasons, mentors)
  select
    p_pass_id, now(),
    coalesce(array_agg(line.organization_id), '{}'),
    coalesce(array_agg(line.reason), '{}'),
    coalesce(array_agg(line.mentors), '{}')
  from line;
end
$$;
revoke all on function scenario_private.keep_left_out(uuid, boolean, boolean, uuid[], text[], bigint[])
  from public, anon, authenticated;
grant execute on function scenario_private.keep_left_out(uuid, boolean, boolean, uuid[], text[], bigint[])
  to service_role;

-- Says whom the last pass of each scenario type left out, though it came true for them: of an organization, by the
-- newest pass over it alone or over all; or of all organizations. With p_under_way of the pass under way, if there is
-- one.
--   out  {"passes": [{"scenario_type", "finished_at", "left_out": [{"reason", "mentors"}]}]}; finished_at is null for
--        one under way; mentors is null for fewer than 5, who could be told apart
-- Into the sum over all organizations go those with 5 or more; the others only where they are 5 organizations or more:
-- else the sum less what the organizations are told would be what one of them is not told. And 3 persons who are
-- members of two organizations are not 6.
-- A reason is one of a claim (cooldown, reminders_spent, muted, user_gone, …), or history: it came true too long ago.
-- A pass that ended before there was anything to keep, has no line.
-- Raises SR001 if p_under_way is null.
create or replace function public.scenario_get_left_out(
  p_organization_id uuid default null, p_under_way boolean default false, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set timezone = 'UTC'
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_under_way', p_under_way);
  return (
    with pass as (
      select distinct on (config.scenario_type)
        config.id, config.scenario_type, newest.finished_at
      from public.scenario_evaluation_config as config
      cross join lateral (
        select page.finished_at, page.id
        from scenario_private.left_out as page
        where page.pass_id = config.id
          and (page.finished_at is null) = p_under_way
        order by page.id desc
        limit 1
      ) as newest
      where config.organization_id is null
        or config.organization_id = p_organization_id
      order by config.scenario_type, newest.finished_at desc nulls last, newest.id desc
    )
    select json_build_object('passes', coalesce(
      json_agg(
        json_build_object(
          'scenario_type', pass.scenario_type,
          'finished_at', pass.finished_at,
          'left_out', (
            select coalesce(
              json_agg(
                json_build_object('reason', tally.reason, 'mentors', scenario_private.shown(tally.mentors))
                order by tally.reason
              ),
              '[]'
            )
            from (
              select
                organization.reason,
                case
                  when count(*) filter (where organization.mentors < 5) >= 5 then sum(organization.mentors)
                  else sum(organization.mentors) filter (where organization.mentors >= 5)
                end::bigint as mentors
              from (
                select counted.organization_id, counted.reason, sum(counted.mentors) as mentors
                from scenario_private.left_out as page
                cross join unnest(page.organization_ids, page.reasons, page.mentors)
                  as counted (organization_id, reason, mentors)
                where page.pass_id = pass.id
                  and (page.finished_at is null) = p_under_way
                  and (p_organization_id is null or counted.organization_id = p_organization_id)
                group by counted.organization_id, counted.reason
              ) as organization
              group by organization.reason
            ) as tally
          )
        )
        order by array_position(scenario_private.scenario_types(), pass.scenario_type), pass.scenario_type
      ),
      '[]'
    ))
    from pass
  );
end
$$;
revoke all on function public.scenario_get_left_out(uuid, boolean, integer) from public, anon, authenticated;
grant execute on function public.scenario_get_left_out(uuid, boolean, integer) to service_role;

-- supabase/schemas/12_pass_ranges.sql =================================================================================

-- Ranges: a pass is cut into parts, so that several callers share it, each on another core.
--
-- A page locks the row of its range, and skips what others have locked; it stores its figures and its place there, in
-- its own transaction. So the lock is all that says whose a range is: whoever dies frees it, and nobody waits. No row is
-- written by two: what a pass has done so far is the sum of its ranges (scenario_private.pass).
--
-- There are many more ranges than callers, so that nobody waits long for the last one. The one of the highest ids is
-- served first: those who came after the bounds were drawn are in it. A small population is one range.

create table if not exists scenario_private.pass_range (
  pass_id uuid not null references public.scenario_evaluation_config (id) on delete cascade,
  number integer not null,
  place uuid,
  upto uuid,
  evaluated bigint not null default 0,
  due bigint not null default 0,
  claimed bigint not null default 0,
  history bigint not null default 0,
  duration interval not null default '0',
  is_finished boolean not null default false,

  constraint pass_range_pkey primary key (pass_id, number)
)
-- Every page updates its row: there is a free place for it.
with (fillfactor = 50);

comment on table scenario_private.pass_range is
  'The passes under way: the ranges of mentors that each consists of, where each stands, and what was done in it.';
comment on column scenario_private.pass_range.pass_id is
  'The row of the settings that keeps the pass: its scenario type, and its organization or all.';
comment on column scenario_private.pass_range.number is
  'Its place among the ranges, in the order of ids, from 1.';
comment on column scenario_private.pass_range.place is
  'The user_id after which it goes on; null: from the first one.';
comment on column scenario_private.pass_range.upto is
  'The last user_id that belongs to it; null: all that follow.';
comment on column scenario_private.pass_range.duration is
  'How long its pages took.';

alter table scenario_private.pass_range enable row level security;

drop policy if exists pass_range_service_role_policy on scenario_private.pass_range;
create policy pass_range_service_role_policy
  on scenario_private.pass_range
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table scenario_private.pass_range from public, anon, authenticated, service_role;
grant select, insert, update, delete on table scenario_private.pass_range to service_role;

-- Every pass as it stands: the one under way, else the last one that ended; of each scenario type, over all
-- organizations (null) and over each that had one of its own.
create or replace view scenario_private.pass
with (security_invoker = true)
as
select
  config.id,
  config.scenario_type,
  config.organization_id,
  range.pass_id is not null as is_under_way,
  case when range.pass_id is null then config.pass_evaluated else range.evaluated end as evaluated,
  case when range.pass_id is null then config.pass_due else range.due end as due,
  case when range.pass_id is null then config.pass_claimed else range.claimed end as claimed,
  case when range.pass_id is null then config.pass_skipped else range.due - range.claimed end as skipped,
  case when range.pass_id is null then config.pass_history else range.history end as history,
  case when range.pass_id is null then config.pass_duration else range.duration end as duration,
  config.pass_finished_at as finished_at
from public.scenario_evaluation_config as config
left join (
  select
    range.pass_id,
    sum(range.evaluated)::bigint as evaluated,
    sum(range.due)::bigint as due,
    sum(range.claimed)::bigint as claimed,
    sum(range.history)::bigint as history,
    sum(range.duration) as duration
  from scenario_private.pass_range as range
  group by range.pass_id
) as range on range.pass_id = config.id;
comment on view scenario_private.pass is
  'Every pass as it stands: the figures of the one under way, else of the last one; finished_at is the last one''s end.';
revoke all on table scenario_private.pass from public, anon, authenticated;
grant select on table scenario_private.pass to service_role;

-- How many mentors make a range: somewhat fewer than a page has, as the library asks for it, so that each range is one
-- whole page. A pass over fewer than two ranges is not cut, and a large one has more mentors in each.
create or replace function scenario_private.range_size()
returns integer
language sql
immutable
set search_path = ''
as $$
  select 8000
$$;
revoke all on function scenario_private.range_size() from public, anon, authenticated;
grant execute on function scenario_private.range_size() to service_role;

-- The bounds of a pass's ranges: each is the last user_id of its range, but for the last range, which has none.
--   The mentors are walked, along their index: exact for whatever ids, view and organization; 0.2 s per million.
--   A large population is cut by the statistics, in no time: where they are of today, of a single table behind the view,
--   and the pass is over all organizations.
--   Beyond what can be walked in a second or two, statistics serve as they are, and else the space between the first and
--   the last id is cut into equal parts. A bad cut is a slower pass, and no wrong one.
create or replace function scenario_private.range_bounds(p_organization_id uuid)
returns uuid[]
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
-- For the plan that is read below: a table is a single node.
set max_parallel_workers_per_gather = 0
as $$
declare
  most constant integer := 128;
  parts integer;
  step bigint := scenario_private.range_size();
  mentors text := 'from scenario_source.mentors as mentor where mentor.is_active';
  plan json;
  expected double precision;
  source record;
  histogram uuid[];
  bounds uuid[] := '{}'::uuid[];
  bound uuid;
  lowest uuid;
  highest uuid;
begin
  if p_organization_id is not null then
    mentors := mentors || format(' and mentor.organization_id = %L', p_organization_id);
  end if;
  -- How many there are about, and in which column of which table, the planner knows, whatever the view.
  execute format('explain (verbose, format json) select mentor.user_id %s', mentors) into plan;
  plan := plan -> 0 -> 'Plan';
  expected := (plan ->> 'Plan Rows')::double precision;
  if expected > 10 * step then
    select
      namespace.nspname as schema_name,
      relation.relname as table_name,
      attribute.attname as column_name,
      pg_catalog.pg_stat_get_mod_since_analyze(relation.oid) <= relation.reltuples / 10 as is_of_today
    into source
    from pg_catalog.pg_namespace as namespace
    join pg_catalog.pg_class as relation on relation.relnamespace = namespace.oid
    join pg_catalog.pg_attribute as attribute on attribute.attrelid = relation.oid
    where namespace.nspname = plan ->> 'Schema'
      and relation.relname = plan ->> 'Relation Name'
      and plan -> 'Output' ->> 0 = format('%I.%I', plan ->> 'Alias', attribute.attname)
      and attribute.atttypid = 'uuid'::regtype;
    if p_organization_id is null and source.is_of_today or expected > 1000 * step then
      select stats.histogram_bounds::text::uuid[] into histogram
      from pg_catalog.pg_stats as stats
      where stats.schemaname = source.schema_name
        and stats.tablename = source.table_name
        and stats.attname = source.column_name
        and not stats.inherited;
    end if;
  end if;

  if histogram is not null then
    parts := least(most, (expected / step)::integer);
    return array(
      select distinct histogram[1 + part.number * (cardinality(histogram) - 1) / parts]
      from generate_series(1, parts - 1) as part (number)
      order by 1
    );
  end if;
  if expected > 1000 * step then
    execute format('select mentor.user_id %s order by mentor.user_id limit 1', mentors) into lowest;
    execute format('select mentor.user_id %s order by mentor.user_id desc limit 1', mentors) into highest;
    return array(
      select distinct (
        lpad(to_hex(space.first + (space.last - space.first) * part.number / most), 12, '0') || repeat('f', 20)
      )::uuid
      from (
        select
          ('x' || left(replace(lowest::text, '-', ''), 12))::bit(48)::bigint as first,
          ('x' || left(replace(highest::text, '-', ''), 12))::bit(48)::bigint as last
      ) as space
      cross join generate_series(1, most - 1) as part (number)
      order by 1
    );
  end if;
  loop
    execute format(
      'select mentor.user_id %s %s order by mentor.user_id offset %s limit 1',
      mentors, case when bound is not null then format('and mentor.user_id > %L', bound) end, step
    ) into bound;
    exit when bound is null;
    bounds := bounds || bound;
    -- However many there are: twice as many ranges as are wanted, and each two become one.
    if cardinality(bounds) = 2 * most then
      bounds := array(
        select every.value
        from unnest(bounds) with ordinality as every (value, place)
        where every.place % 2 = 0
        order by every.place
      );
      step := 2 * step;
    end if;
  end loop;
  -- The rest is no range of its own.
  return bounds[:cardinality(bounds) - 1];
end
$$;
revoke all on function scenario_private.range_bounds(uuid) from public, anon, authenticated;
grant execute on function scenario_private.range_bounds(uuid) to service_role;

-- supabase/schemas/12_passes.sql ======================================================================================

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

-- supabase/schemas/12_simulation.sql ==================================================================================

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
set jit = off
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

-- supabase/schemas/13_rules.sql =======================================================================================

-- What a rule is: a view scenario_private.<scenario type>_rule, one row per mentor and organization. Each has a file
-- under rules/; an app's own is made by a migration (`scenario-repo new-scenario`). Nothing else lists the rules.
--
-- What rules share:
--   * They start from scenario_private.mentor_setting and read the sources, and never write. An activity counts for its
--     user whichever organization it belongs to: a mentor who is busy in one organization has not gone quiet in
--     another. A certificate is told by the organization it belongs to, and by no other. The cooldown is the user's, so
--     a mentor of two organizations is notified once: for the one with the highest milestone or the shortest cooldown
--     that finds the mentor due, then the lowest organization_id.
--   * What lies in the future has not happened: an activity after now() is not seen.
--   * Boundaries are inclusive: a gap of exactly inactive_after is long enough, a certificate that lapses in exactly
--     expires_within is included; one that lapses now has lapsed.
--   * All is timestamptz and every day has 24 hours: the functions that read the rules pin the time zone to UTC, so
--     daylight saving shifts nothing.
--   * A look-up is a lateral subquery that finds one mentor's rows by an index: pages of thousands then cost a few
--     index entries a mentor.

create or replace view scenario_private.rule_contract
with (security_invoker = true)
as
select
  null::text as scenario_type,
  null::uuid as user_id,
  null::uuid as organization_id,
  null::boolean as is_active,
  null::boolean as is_enabled,
  null::boolean as is_evaluated,
  null::interval as cooldown,
  null::integer as milestone_value,
  null::boolean as is_due,
  null::text as finding,
  null::jsonb as facts,
  null::text[] as subjects,
  null::timestamptz as crossed_at,
  null::timestamptz as history_before,
  null::timestamptz as series_began_at,
  null::integer as series_limit,
  null::boolean as stands
where false;
comment on view scenario_private.rule_contract is
  'The columns that every rule has, with what each means; it has no rows.';
comment on column scenario_private.rule_contract.scenario_type is
  'The rule''s own scenario type, in every row.';
comment on column scenario_private.rule_contract.user_id is
  'The mentor: mentor_setting.user_id, unchanged, so that a page''s bounds reach the sources.';
comment on column scenario_private.rule_contract.organization_id is
  'The organization for which the mentor is judged: mentor_setting.organization_id.';
comment on column scenario_private.rule_contract.is_active is
  'Whether the mentor is active there: mentor_setting.is_active.';
comment on column scenario_private.rule_contract.is_enabled is
  'Whether the scenario is enabled there: mentor_setting.is_enabled.';
comment on column scenario_private.rule_contract.is_evaluated is
  'Whether an evaluation looks at the mentor: mentor_setting.is_evaluated.';
comment on column scenario_private.rule_contract.cooldown is
  'The shortest time between two notifications: mentor_setting.cooldown. Null for milestones, which are once ever.';
comment on column scenario_private.rule_contract.milestone_value is
  'The milestone that was reached; null in every other rule.';
comment on column scenario_private.rule_contract.is_due is
  'The verdict, whether or not the mentor is evaluated; null where there is nothing to judge.';
comment on column scenario_private.rule_contract.finding is
  'Why, in a code of lower-case letters, digits and underscores: what an explanation says.';
comment on column scenario_private.rule_contract.facts is
  'What the verdict rests on, as a json object of at most 8 KiB without personal data: the notification''s metadata.';
comment on column scenario_private.rule_contract.subjects is
  'What it is about, where a user may be told about several things of the type: ids, by scenario_private.subject_of; '
  '{}: about the scenario as a whole.';
comment on column scenario_private.rule_contract.crossed_at is
  'When what it tells of came true; null in a rule that looks ahead. Before history_before it is history.';
comment on column scenario_private.rule_contract.history_before is
  'What came true before this is not told, unless its series has begun: mentor_setting.history_before.';
comment on column scenario_private.rule_contract.series_began_at is
  'Notifications since then are reminders of the same; null: nothing is counted.';
comment on column scenario_private.rule_contract.series_limit is
  'How many there may be; null: as many as the cooldown allows.';
comment on column scenario_private.rule_contract.stands is
  'Whether what was claimed still holds, asked when it is handed out: mostly as is_due, without asking whether it was '
  'told. Where the rule names a milestone or subjects, the notification''s own are compared with them.';
revoke all on table scenario_private.rule_contract from public, anon, authenticated;
grant select on table scenario_private.rule_contract to service_role;

-- What a scenario hopes for is a second view beside its rule, scenario_private.<scenario type>_hope, if the type says it
-- at all: what came of a notification is read from it (18_outcomes.sql), for those who were told and for those who could
-- not be. It starts from public.scenario_notifications, and looks up one person's rows by an index.
create or replace view scenario_private.hope_contract
with (security_invoker = true)
as
select
  null::uuid as notification_id,
  null::timestamptz as hoped_at
where false;
comment on view scenario_private.hope_contract is
  'The columns of every view of what a scenario hopes for, with what each means; it has no rows.';
comment on column scenario_private.hope_contract.notification_id is
  'A notification of the type that was settled, sent or failed: its id, in one row.';
comment on column scenario_private.hope_contract.hoped_at is
  'When what the scenario hopes for first came true after settled_at, and not after now(); null: it has not. Where the '
  'app''s tables have no date for it, settled_at: some time since.';
revoke all on table scenario_private.hope_contract from public, anon, authenticated;
grant select on table scenario_private.hope_contract to service_role;

-- The hope of three of the built-in scenarios: an activity after it. What a rule calls it is in its own file.
create or replace view scenario_private.further_activity
with (security_invoker = true)
as
select
  notification.id as notification_id,
  notification.scenario_type,
  (
    select activity.activity_date
    from scenario_source.activities as activity
    where activity.user_id = notification.user_id
      and activity.activity_date > notification.settled_at
      and activity.activity_date <= now()
    order by activity.activity_date
    limit 1
  ) as hoped_at
from public.scenario_notifications as notification;
comment on view scenario_private.further_activity is
  'When each notification''s user was first active after it was settled.';
revoke all on table scenario_private.further_activity from public, anon, authenticated;
grant select on table scenario_private.further_activity to service_role;

-- The rules there are, in the order of the scenario types; a type whose view is missing is left out.
create or replace function scenario_private.rules()
returns table (scenario_type text, rule regclass)
language sql
stable
set search_path = ''
rows 10
as $$
  select listed.scenario_type, view.rule
  from unnest(scenario_private.scenario_types()) with ordinality as listed (scenario_type, ordinal)
  cross join lateral (
    select pg_catalog.to_regclass(format('scenario_private.%I', listed.scenario_type || '_rule')) as rule
  ) as view
  where view.rule is not null
  order by listed.ordinal
$$;
revoke all on function scenario_private.rules() from public, anon, authenticated;
grant execute on function scenario_private.rules() to service_role;

-- The rule of a scenario type. Raises SR004 for an unknown type, SR008 for one without a rule.
create or replace function scenario_private.rule_of(p_scenario_type text)
returns regclass
language plpgsql
stable
set search_path = ''
as $$
declare
  rule regclass;
begin
  perform scenario_private.require_scenario_type(p_scenario_type);
  rule := pg_catalog.to_regclass(format('scenario_private.%I', p_scenario_type || '_rule'));
  if rule is null then
    raise exception using
      errcode = 'SR008',
      message = format(
        '%s has no rule: create the view scenario_private.%I, or run the migrations again',
        p_scenario_type, p_scenario_type || '_rule'
      );
  end if;
  return rule;
end
$$;
revoke all on function scenario_private.rule_of(text) from public, anon, authenticated;
grant execute on function scenario_private.rule_of(text) to service_role;

-- The schema's version, and the scenario types to evaluate: those that have default settings or a rule. What is missing
-- of the two, their evaluation says.
--   out  {"version", "scenario_types": [text]}
create or replace function public.scenario_get_schema(p_needs_schema integer default null)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  return json_build_object(
    'version', scenario_private.schema_version(),
    'scenario_types', scenario_private.evaluated_types()
  );
end
$$;
revoke all on function public.scenario_get_schema(integer) from public, anon, authenticated;
grant execute on function public.scenario_get_schema(integer) to service_role;

-- Runs one rule the way an evaluation would, without claiming: for whoever writes a rule.
--   out  {"scenario_type", "faults": [text], "mentors", "due", "is_complete", "samples": [row],
--         "page_plan": [line], "look_up_plan": [line]}
-- faults says what breaks the contract (scenario_private.rule_contract), and which table a look-up would read whole.
-- mentors and due are counted among the first 10,000 active memberships; is_complete says whether these are all. They
-- are not counted where there is a fault that would keep the rule from running, or for ever.
-- samples are p_samples of those who are due, without facts that a notification could not keep. The plans are those of
-- one page and of a look-up of 100 persons.
-- Raises SR004 for an unknown scenario type, SR001 for p_samples outside 0 to 100. A rule that raises is a fault.
create or replace function public.scenario_check_rule(
  p_scenario_type text, p_samples integer default 10, p_needs_schema integer default null
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
  rule regclass;
  hope regclass;
  faults text[];
  last_user_id uuid;
  is_complete boolean := false;
  mentor_count integer := 0;
  due_count integer := 0;
  samples json := json '[]';
  page_query text;
  look_up_query text;
  page_plan text[] := array[]::text[];
  look_up_plan text[] := array[]::text[];
  line text;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_scenario_type(p_scenario_type);
  perform scenario_private.require_between('p_samples', p_samples, 0, 100);

  rule := to_regclass(format('scenario_private.%I', p_scenario_type || '_rule'));
  if rule is null then
    faults := array[format('there is no view scenario_private.%I', p_scenario_type || '_rule')];
  elsif not has_table_privilege(rule, 'select') then
    faults := array[format('%s may not read it: grant select on %s to %s', current_user, rule, current_user)];
  else
    faults := array(
      select case
          when actual.attname is null then format('column %s is missing', wanted.attname)
          else format(
            'column %s: expected %s, got %s',
            wanted.attname, format_type(wanted.atttypid, null), format_type(actual.atttypid, null)
          )
        end
      from pg_attribute as wanted
      left join pg_attribute as actual on actual.attrelid = rule and actual.attname = wanted.attname
      where wanted.attrelid = 'scenario_private.rule_contract'::regclass
        and wanted.attnum > 0
        and actual.atttypid is distinct from wanted.atttypid
      order by wanted.attnum
    );
  end if;
  -- What it hopes for, if it says so.
  hope := to_regclass(format('scenario_private.%I', p_scenario_type || '_hope'));
  if hope is not null and not has_table_privilege(hope, 'select') then
    faults := faults || format('%s may not read it: grant select on %s to %s', current_user, hope, current_user);
  elsif hope is not null then
    faults := faults || array(
      select format('%s: expected a column %s of %s', hope, wanted.attname, format_type(wanted.atttypid, null))
      from pg_attribute as wanted
      left join pg_attribute as actual on actual.attrelid = hope and actual.attname = wanted.attname
      where wanted.attrelid = 'scenario_private.hope_contract'::regclass
        and wanted.attnum > 0
        and actual.atttypid is distinct from wanted.atttypid
      order by wanted.attnum
    );
  end if;
  faults := faults || array(
    select format(
      '%s is no view with security_invoker: it would read with its owner''s rights',
      case when given.place = 1 then 'it' else given.view::text end
    )
    from unnest(array[rule, hope]) with ordinality as given (view, place)
    where given.view is not null and not exists (
      select
      from pg_class as relation
      cross join lateral pg_options_to_table(relation.reloptions) as option
      where relation.oid = given.view and option.option_name = 'security_invoker' and option.option_value::boolean
    )
    order by given.place
  );
  if not exists (
    select
    from public.scenario_evaluation_config as config
    where config.scenario_type = p_scenario_type and config.organization_id is null
  ) then
    faults := faults || 'its default row in scenario_evaluation_config is missing'::text;
  end if;

  if cardinality(faults) = 0 then
    begin
      select mentor.user_id into last_user_id
      from scenario_source.mentors as mentor
      where mentor.is_active
      order by mentor.user_id
      offset 9999
      limit 1;
      page_query := format(
        'select rule.* from %s as rule where rule.is_evaluated%s',
        rule, case when last_user_id is not null then format(' and rule.user_id <= %L', last_user_id) end
      );
      look_up_query := format(
        'select found.*
         from unnest(%L::uuid[]) as person (user_id)
         cross join lateral (select rule.* from %s as rule where rule.user_id = person.user_id offset 0) as found',
        array(select mentor.user_id from scenario_source.mentors as mentor limit 100), rule
      );
      for line in execute 'explain (verbose) ' || page_query loop
        page_plan := page_plan || line;
      end loop;
      for line in execute 'explain (verbose) ' || look_up_query loop
        look_up_plan := look_up_plan || line;
      end loop;
      faults := faults || array(
        select distinct format(
          'the look-up of a person reads all of %s: an index that starts with the user is missing', found.relation
        )
        from (
          select (regexp_match(plan.line, 'Seq Scan on (\S+)'))[1] as relation
          from unnest(look_up_plan) as plan (line)
        ) as found
        join pg_class on pg_class.oid = to_regclass(found.relation)
        where pg_class.reltuples > 1000
      );
      -- Without its index the page could take for ever.
      if cardinality(faults) = 0 then
        execute format(
          'with page as materialized (%1$s)
           select
             (select count(*) from page),
             (select count(*) from page where page.is_due),
             (
               select coalesce(json_agg(sample), ''[]'')
               from (
                 select
                   page.user_id, page.organization_id, page.milestone_value, page.finding,
                   case when scenario_private.is_storable_metadata(page.facts) then page.facts end as facts
                 from page
                 where page.is_due and page.user_id is not null and page.organization_id is not null
                 order by page.user_id, page.organization_id
                 limit %2$s
               ) as sample
             ),
             array(
               select fault.text
               from (
                 values
                   (
                     (select count(*) <> count(distinct (page.user_id, page.organization_id)) from page),
                     ''a mentor has more than one row for an organization''
                   ),
                   (
                     exists (select from page where page.user_id is null or page.organization_id is null),
                     ''user_id or organization_id is null in some rows''
                   ),
                   (
                     exists (
                       select from page
                       where page.is_due
                         and not page.cooldown between interval ''1 microsecond'' and interval ''36525 days''
                     ),
                     ''cooldown is not positive, or longer than 36525 days, in some rows''
                   ),
                   (
                     exists (select from page where page.scenario_type is distinct from %3$L),
                     ''scenario_type is another one in some rows''
                   ),
                   (
                     exists (select from page where page.is_due and (page.milestone_value is not null) <> %4$L),
                     ''milestone_value is for milestones alone, and each has one''
                   ),
                   (
                     exists (select from page where page.is_due and (page.cooldown is null) <> %4$L),
                     ''cooldown is null in some rows''
                   ),
                   (
                     exists (select from page where page.finding is null or page.finding !~ ''^[a-z][a-z0-9_]*$''),
                     ''finding is not a code of lower-case letters, digits and underscores in some rows''
                   ),
                   (
                     exists (
                       select from page
                       where page.is_due
                         and page.facts is not null
                         and not scenario_private.is_storable_metadata(page.facts)
                     ),
                     ''facts is no json object, is larger than 8 KiB or holds personal data in some rows''
                   ),
                   (
                     exists (select from page where page.is_due and page.subjects is null),
                     ''subjects is null in some rows: {} is about the scenario as a whole''
                   ),
                   (
                     exists (
                       select from page
                       where page.is_due
                         and page.subjects <> ''{}''
                         and not scenario_private.are_storable_subjects(page.subjects)
                     ),
                     ''subjects are more than 50, empty, longer than 100 characters or hold personal data in some rows''
                   ),
                   (
                     exists (select from page where page.is_due and page.stands is not true),
                     ''is due and does not stand, in some rows: it would be claimed and never handed out''
                   ),
                   (
                     exists (select from page where page.is_due and page.series_limit < 1),
                     ''series_limit is less than 1 in some rows''
                   )
               ) as fault (is_found, text)
               where fault.is_found
             )',
          page_query, p_samples, p_scenario_type, p_scenario_type = 'milestone'
        ) into mentor_count, due_count, samples, faults;
        is_complete := last_user_id is null;
      end if;
    exception
      -- In catalogue errors the message names objects; in all others it may quote a row.
      when syntax_error_or_access_rule_violation then
        faults := array[format('the rule raised %s: %s', sqlstate, sqlerrm)];
      when others then
        faults := array[format('the rule raised %s', sqlstate)];
    end;
  end if;

  return json_build_object(
    'scenario_type', p_scenario_type,
    'faults', faults,
    'mentors', mentor_count,
    'due', due_count,
    'is_complete', is_complete,
    'samples', samples,
    'page_plan', page_plan,
    'look_up_plan', look_up_plan
  );
end
$$;
revoke all on function public.scenario_check_rule(text, integer, integer) from public, anon, authenticated;
grant execute on function public.scenario_check_rule(text, integer, integer) to service_role;

-- supabase/schemas/14_explanation.sql =================================================================================

-- Explains, for one user, each scenario in each organization where the user is a mentor: whether the next evaluation
-- would claim, and why or why not.
--   out  {"explanations": [{"scenario_type", "organization_id", "is_due", "reason", "facts", "milestone_value",
--        "held_by", "held_since", "ends_at"}]}
-- reason is the rule's finding (rule_failed if the rule raises) unless something comes first: user_gone, user_banned,
-- mentor_not_active, scenario_disabled; or, for a mentor who is due, cooldown (held_by holds, until ends_at; null: for
-- good), history (it came true too long ago) or reminders_spent. A user who is no mentor gives [].
-- Raises SR001 without a user.
create or replace function public.scenario_explain(p_user_id uuid, p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set timezone = 'UTC'
as $$
declare
  away_reason constant text := (select away.reason from scenario_private.users_away(array[p_user_id]) as away);
  known record;
  found jsonb;
  verdicts jsonb := jsonb '[]';
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_id', p_user_id);
  -- Rule by rule: one that raises, an app's own for example, silences none of the others.
  for known in select rules.scenario_type, rules.rule from scenario_private.rules() as rules loop
    begin
      execute format(
        'select jsonb_agg(judged) from (
           select
             %L::text as scenario_type,
             mentor.organization_id::uuid,
             coalesce(mentor.is_active::boolean, false) as is_active,
             coalesce(mentor.is_enabled::boolean, false) as is_enabled,
             coalesce(mentor.is_evaluated::boolean, false) as is_evaluated,
             mentor.cooldown,
             mentor.milestone_value::integer,
             mentor.verdict,
             coalesce(mentor.subjects::text[], ''{}'') as subjects,
             coalesce(mentor.finding::text, ''rule_failed'') as finding,
             case when scenario_private.is_storable_metadata(mentor.facts::jsonb) then mentor.facts::jsonb end
               as facts
           from (%s) as mentor
           where mentor.organization_id is not null
         ) as judged',
        known.scenario_type,
        scenario_private.verdict_query(
          known.rule, known.scenario_type, format('mentor.user_id = %L', p_user_id), null, true
        )
      ) into found;
    exception when others then
      select jsonb_agg(setting) into found
      from (
        select
          setting.scenario_type, setting.organization_id, setting.is_active, setting.is_enabled,
          setting.is_evaluated, 'not_due' as verdict, 'rule_failed' as finding
        from scenario_private.mentor_setting as setting
        where setting.scenario_type = known.scenario_type and setting.user_id = p_user_id
      ) as setting;
    end;
    verdicts := verdicts || coalesce(found, '[]');
  end loop;

  return (
    select json_build_object('explanations', coalesce(
      json_agg(
        json_build_object(
          'scenario_type', verdict.scenario_type,
          'organization_id', verdict.organization_id,
          'is_due', away_reason is null and verdict.is_evaluated and verdict.verdict = 'due' and not muted.is_muted,
          'reason', case
            when away_reason is not null then away_reason
            when not verdict.is_active then 'mentor_not_active'
            when not verdict.is_enabled then 'scenario_disabled'
            when muted.is_muted then 'muted'
            when verdict.verdict = 'held' then 'cooldown'
            when verdict.verdict in ('history', 'reminders_spent') then verdict.verdict
            else verdict.finding
          end,
          'facts', coalesce(verdict.facts, '{}'),
          'milestone_value', verdict.milestone_value,
          'held_by', holder.id,
          'held_since', holder.triggered_at,
          -- No later than a client's datetime can be.
          'ends_at', case
            when holder.ends_at is not null then least(holder.ends_at, timestamptz '9999-12-31 23:59:59+00')
          end
        )
        order by verdict.organization_id, verdict.scenario_type
      ),
      '[]'
    ))
    from jsonb_to_recordset(verdicts) as verdict (
      scenario_type text, organization_id uuid, is_active boolean, is_enabled boolean, is_evaluated boolean,
      cooldown interval, milestone_value integer, verdict text, subjects text[], finding text, facts jsonb
    )
    cross join lateral (
      select scenario_private.is_muted(p_user_id, verdict.organization_id, verdict.scenario_type) as is_muted
    ) as muted
    left join lateral scenario_private.current_holder(
      p_user_id, verdict.scenario_type, verdict.cooldown, verdict.milestone_value, verdict.subjects
    ) as holder on true
  );
end
$$;
revoke all on function public.scenario_explain(uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_explain(uuid, integer) to service_role;

-- supabase/schemas/14_past.sql ========================================================================================

-- What became of one notification: explain, for what is past.

-- Tells what happened to a notification, as far as it is kept, and what it holds now.
--   out  {"notification": null if there is none, or {"id", "user_id", "organization_id", "scenario_type", "origin",
--        "triggered_at", "milestone_value", "delivery_status", "deliver_until", "settled_at", "failure_code": why it
--        failed, or why the last try did, "unsettled_at": when the last lease ended that nobody settled, "holds": whether
--        it refuses a claim with its own cooldown now, "holds_until": until when (null: for good, or it does not),
--        "next_attempt_at", "leased_until", "lease_count", "attempt_count", "unsettled_leases": of a pending one; null
--        when it is settled, "next_id", "next_triggered_at", "next_milestone_value": the user's next notification of the
--        type, which came after it}}
-- Raises SR001 without an id.
create or replace function public.scenario_explain_notification(p_id uuid, p_needs_schema integer default null)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
set timezone = 'UTC'
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_id', p_id);
  return json_build_object(
    'notification', (
      select json_build_object(
        'id', hold.id,
        'user_id', hold.user_id,
        'organization_id', hold.organization_id,
        'scenario_type', hold.scenario_type,
        'origin', hold.origin,
        'triggered_at', hold.triggered_at,
        'milestone_value', hold.milestone_value,
        'delivery_status', hold.delivery_status,
        'deliver_until', hold.deliver_until,
        'settled_at', hold.settled_at,
        'failure_code', hold.failure_code,
        'unsettled_at', coalesce(hold.unsettled_at, handover.unsettled_at),
        'holds', coalesce(held.ends_at > now(), false),
        -- No later than a client's datetime can be.
        'holds_until', case
          when held.ends_at > now() and held.ends_at < timestamptz '9999-12-31 23:59:59+00' then held.ends_at
        end,
        'next_attempt_at', handover.next_attempt_at,
        'leased_until', handover.leased_until,
        'lease_count', handover.lease_number,
        'attempt_count', handover.attempt_count,
        'unsettled_leases', handover.unsettled_leases,
        'next_id', next.id,
        'next_triggered_at', next.triggered_at,
        'next_milestone_value', next.milestone_value
      )
      from scenario_private.hold as hold
      left join scenario_private.handover as handover on handover.notification_id = hold.id
      cross join lateral (
        select greatest(
          hold.holds_until,
          hold.holds_since + least(
            coalesce(
              hold.cooldown,
              (scenario_private.delivery_setting_of(hold.scenario_type, hold.organization_id)).cooldown
            ),
            interval '36525 days'
          )
        ) as ends_at
      ) as held
      left join lateral (
        select later.id, later.triggered_at, later.milestone_value
        from public.scenario_notifications as later
        where later.user_id = hold.user_id
          and later.scenario_type = hold.scenario_type
          and later.triggered_at > hold.triggered_at
        order by later.triggered_at
        limit 1
      ) as next on true
      where hold.id = p_id
    )
  );
end
$$;
revoke all on function public.scenario_explain_notification(uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_explain_notification(uuid, integer) to service_role;

-- supabase/schemas/15_realtime.sql ====================================================================================

-- Realtime: an app sees its user's new notifications as they come. Row level security holds there too: Realtime
-- sends a row to those who may select it. Nothing happens where there is no publication supabase_realtime.

do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime')
    and not exists (
      select
      from pg_publication_tables
      where pubname = 'supabase_realtime'
        and schemaname = 'public'
        and tablename = 'scenario_notifications'
    )
  then
    alter publication supabase_realtime add table public.scenario_notifications;
  end if;
end
$$;

-- supabase/schemas/15_turns.sql =======================================================================================

-- Turns: nothing else is handed out to a person within the min_gap of the organization's policy, whichever organization
-- it comes from. One row per person says what was handed out last and when. A lease takes the row under SKIP LOCKED and
-- compares it again under the lock, so any number of leases beside each other keep the gap; under repeatable read and
-- above a lease gets 40001 and may try again. Nobody has a row before there is a policy with a gap.

create table if not exists scenario_private.delivery_turn (
  user_id uuid primary key references auth.users (id) on delete cascade,
  handed_at timestamptz,
  notification_id uuid,
  previously_handed_at timestamptz
)
with (fillfactor = 50);

comment on table scenario_private.delivery_turn is
  'What was handed out last to each person: the next one waits for the min_gap of its organization''s policy.';
comment on column scenario_private.delivery_turn.handed_at is
  'When it was handed out; null: nothing yet.';
comment on column scenario_private.delivery_turn.notification_id is
  'Which notification: it does not wait for itself.';
comment on column scenario_private.delivery_turn.previously_handed_at is
  'When the one before was: that counts again where this one was not sent.';

alter table scenario_private.delivery_turn enable row level security;

drop policy if exists delivery_turn_service_role_policy on scenario_private.delivery_turn;
create policy delivery_turn_service_role_policy
  on scenario_private.delivery_turn
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table scenario_private.delivery_turn from public, anon, authenticated, service_role;
grant select, insert, update, delete on table scenario_private.delivery_turn to service_role;

-- Makes the rows of those who have none. Whoever is deleted, changed, or given one, at this moment is left out: it never
-- waits. The users' rows are what is locked: there is room for any number.
create or replace function scenario_private.begin_turns(p_user_ids uuid[])
returns void
language sql
volatile
security definer
set search_path = ''
as $$
  with missing as materialized (
    select distinct asked.user_id
    from unnest(p_user_ids) as asked (user_id)
    where not exists (select from scenario_private.delivery_turn as turn where turn.user_id = asked.user_id)
  ),
  held as materialized (
    select users.id
    from auth.users as users
    where users.id in (select missing.user_id from missing)
    for no key update skip locked
  )
  insert into scenario_private.delivery_turn (user_id)
  select held.id from held
  on conflict do nothing
$$;
revoke all on function scenario_private.begin_turns(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.begin_turns(uuid[]) to service_role;

-- Takes the turns for notifications that may be handed out otherwise: arrays of one length, a row for each place.
--   is_left     another lease is at this person: not now, without a new time
--   wait_until  not before; null where it goes now
-- What is of priority 0, or of an organization without a gap, goes whatever was handed out before. Of the others of one
-- person one goes: what is in the last third of its time first, then by priority, then the oldest. p_gaps has the gap of
-- each organization that has one.
create or replace function scenario_private.take_turns(
  p_ids uuid[],
  p_user_ids uuid[],
  p_organization_ids uuid[],
  p_priorities integer[],
  p_triggered_at timestamptz[],
  p_deliver_until timestamptz[],
  p_gaps jsonb
)
returns table (place bigint, is_left boolean, wait_until timestamptz)
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
set jit = off
set enable_seqscan = off
as $$
begin
  perform scenario_private.begin_turns(p_user_ids);
  return query
  with turn as materialized (
    select turn.user_id, turn.handed_at, turn.notification_id
    from scenario_private.delivery_turn as turn
    where turn.user_id = any (p_user_ids)
    order by turn.user_id
    for no key update skip locked
  ),
  asked as (
    select
      element.*,
      coalesce((p_gaps ->> element.organization_id::text)::interval, '0') as gap,
      turn.user_id is not null as is_taken,
      case when turn.notification_id is distinct from element.id then turn.handed_at end as handed_at
    from unnest(p_ids, p_user_ids, p_organization_ids, p_priorities, p_triggered_at, p_deliver_until)
      with ordinality as element (id, user_id, organization_id, priority, triggered_at, deliver_until, place)
    left join turn on turn.user_id = element.user_id
  ),
  judged as (
    select
      asked.*,
      asked.priority = 0 or asked.gap = '0' as is_free,
      coalesce(asked.handed_at + asked.gap <= clock_timestamp(), true) as is_open
    from asked
  ),
  ranked as (
    select
      judged.*,
      bool_or(judged.is_free) over (partition by judged.user_id) as has_free,
      row_number() over (
        partition by judged.user_id, judged.is_free, judged.is_open
        order by
          now() > judged.deliver_until - (judged.deliver_until - judged.triggered_at) / 3 desc,
          judged.priority,
          judged.triggered_at,
          judged.id
      ) as rank
    from judged
  ),
  decided as materialized (
    select
      ranked.*,
      case
        when not ranked.is_taken or ranked.is_free then null
        when not ranked.is_open then ranked.handed_at + ranked.gap
        when ranked.has_free or ranked.rank > 1 then clock_timestamp() + ranked.gap
      end as until
    from ranked
  ),
  marked as (
    update scenario_private.delivery_turn as turn
    set
      previously_handed_at = case
        when turn.notification_id is distinct from going.id then turn.handed_at
        else turn.previously_handed_at
      end,
      handed_at = clock_timestamp(),
      notification_id = going.id
    from (
      select distinct on (decided.user_id) decided.user_id, decided.id
      from decided
      where decided.is_taken and decided.until is null
      order by decided.user_id, decided.is_free, decided.rank
    ) as going
    where turn.user_id = going.user_id
  )
  select decided.place, not decided.is_taken, decided.until
  from decided;
end
$$;
revoke all on function
  scenario_private.take_turns(uuid[], uuid[], uuid[], integer[], timestamptz[], timestamptz[], jsonb)
  from public, anon, authenticated;
grant execute on function
  scenario_private.take_turns(uuid[], uuid[], uuid[], integer[], timestamptz[], timestamptz[], jsonb)
  to service_role;

-- Gives the turns back of notifications that were not sent: what was handed out before counts again.
create or replace function scenario_private.give_turns_back(p_ids uuid[], p_user_ids uuid[])
returns void
language sql
volatile
set search_path = ''
set enable_seqscan = off
as $$
  with turn as materialized (
    select turn.user_id
    from scenario_private.delivery_turn as turn
    where turn.user_id = any (p_user_ids)
      and turn.notification_id = any (p_ids)
    order by turn.user_id
    for no key update
  )
  update scenario_private.delivery_turn as turn
  set handed_at = turn.previously_handed_at, notification_id = null
  where turn.user_id = any (array(select turn.user_id from turn))
    and turn.notification_id = any (p_ids)
$$;
revoke all on function scenario_private.give_turns_back(uuid[], uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.give_turns_back(uuid[], uuid[]) to service_role;

-- supabase/schemas/16_asking_again.sql ================================================================================

-- Asking again: a notification may lie for days between claim and send, so what a lease is about to hand out is asked
-- what was asked before it was claimed. Is she there, is it still true, is this the moment, is it her turn?

-- What a lease knows of a notification that it may hand out.
create or replace view scenario_private.lease_candidate
with (security_invoker = true)
as
select
  null::uuid as id,
  null::uuid as user_id,
  null::uuid as organization_id,
  null::text as scenario_type,
  null::boolean as by_rule,
  null::timestamptz as triggered_at,
  null::timestamptz as deliver_until,
  null::integer as milestone_value,
  null::text[] as subjects,
  null::jsonb as metadata,
  null::integer as priority,
  null::boolean as has_reached,
  null::boolean as may_follow,
  null::text as reason,
  null::timestamptz as wait_until,
  null::jsonb as facts
where false;
comment on view scenario_private.lease_candidate is
  'The columns of a notification that a lease looks at; it has no rows.';
comment on column scenario_private.lease_candidate.metadata is
  'What it tells, where that is about subjects; else null, for nothing of it is looked at.';
comment on column scenario_private.lease_candidate.may_follow is
  'Whether another one about the same may be claimed within a minute.';
comment on column scenario_private.lease_candidate.reason is
  'Why it is not handed out: the failure_code it is settled with; or settled, left, rule_failed.';
comment on column scenario_private.lease_candidate.wait_until is
  'When it may be handed out, if that is later.';
comment on column scenario_private.lease_candidate.facts is
  'Its metadata, brought up to date; null: as it is.';
revoke all on table scenario_private.lease_candidate from public, anon, authenticated;
grant select on table scenario_private.lease_candidate to service_role;

-- What the rule of a scenario type says of its candidates that have no reason yet, nulls where nothing: whoever calls it
-- names the columns. The query is prepared once a connection, under a name that its text makes: planning a rule takes
-- longer than asking it of a few. EXECUTE takes no parameters of the caller's, so the ids are in its text. The types are
-- said here, for an answer of another type could not be prepared again.
create or replace function scenario_private.answers_of_rule(
  p_scenario_type text, p_candidates scenario_private.lease_candidate[]
)
returns setof record
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
set jit = off
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  question constant text := format(
    'select asked.id, rule.is_active, rule.is_enabled, rule.stands, rule.milestone_value, rule.subjects, rule.facts
     from unnest($1, $2, $3, $4) as asked (id, user_id, organization_id, is_about_subjects)
     left join lateral (
       select
         rule.is_active::boolean, rule.is_enabled::boolean, rule.stands::boolean, rule.milestone_value::integer,
         rule.subjects::text[], case when asked.is_about_subjects then rule.facts::jsonb end as facts
       from %2$s as rule
       where rule.scenario_type = %1$L
         and rule.user_id = asked.user_id
         and rule.organization_id = asked.organization_id
       offset 0
     ) as rule on true',
    p_scenario_type, scenario_private.rule_of(p_scenario_type)
  );
  prepared_name constant text := 'scenario_rule_' || md5(question);
begin
  if not exists (select from pg_catalog.pg_prepared_statements as prepared where prepared.name = prepared_name) then
    execute format('prepare %I (uuid[], uuid[], uuid[], boolean[]) as %s', prepared_name, question);
  end if;
  return query execute (
    select format(
      'execute %I(%L, %L, %L, %L)',
      prepared_name,
      array_agg(asked.id), array_agg(asked.user_id), array_agg(asked.organization_id),
      array_agg(asked.subjects <> '{}')
    )
    from unnest(p_candidates) as asked
    where asked.scenario_type = p_scenario_type and asked.by_rule and asked.reason is null
  );
end
$$;
revoke all on function scenario_private.answers_of_rule(text, scenario_private.lease_candidate[])
  from public, anon, authenticated;
grant execute on function scenario_private.answers_of_rule(text, scenario_private.lease_candidate[]) to service_role;

-- Asks the rules whether what they claimed still stands: a row for each candidate that a rule made and that has no reason
-- yet. Its reason is mentor_not_active or scenario_disabled where the rule says so, not_found where it says nothing of
-- her; no_longer_due where it does not stand (a milestone: the count is not there any more, or a higher one was claimed
-- since; of subjects: none of the new ones is still due), rule_failed where the rule raised or met the statement
-- timeout: a rule that fails keeps nobody else's from being handed out. In the order of the types: an app's own come
-- last. Those of whom there is nothing to say are left out.
create or replace function scenario_private.ask_rules(p_candidates scenario_private.lease_candidate[])
returns table (id uuid, reason text, facts jsonb)
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
set jit = off
set enable_seqscan = off
as $$
declare
  kind text;
  ids uuid[];
  reasons text[];
  all_facts jsonb[];
begin
  for kind in
    select asked.scenario_type
    from unnest(p_candidates) as asked
    where asked.by_rule and asked.reason is null
    group by asked.scenario_type
    order by array_position(scenario_private.scenario_types(), asked.scenario_type)
  loop
    begin
      select array_agg(judged.id), array_agg(judged.reason), array_agg(judged.facts)
      into ids, reasons, all_facts
      from (
        select
          asked.id,
          case
            when rule.is_active is null or rule.is_enabled is null then 'not_found'
            when not rule.is_active then 'mentor_not_active'
            when not rule.is_enabled then 'scenario_disabled'
            when not coalesce(rule.stands, false) then 'no_longer_due'
            when asked.milestone_value > coalesce(rule.milestone_value, 0) then 'no_longer_due'
            when asked.subjects <> '{}' and not coalesce(fresh.subjects && rule.subjects, false) then 'no_longer_due'
            when asked.milestone_value is not null
              and exists (
                select
                from scenario_private.hold as higher
                where higher.user_id = asked.user_id
                  and higher.scenario_type = 'milestone'
                  and not higher.is_failed
                  and higher.milestone_value > asked.milestone_value
                  and higher.triggered_at > asked.triggered_at
              )
              then 'superseded'
          end as reason,
          case
            when asked.subjects <> '{}' then rule.facts || jsonb_build_object(
              'new_subjects',
              array(select subject from unnest(fresh.subjects) as subject where subject = any (rule.subjects))
            )
          end as facts
        from scenario_private.answers_of_rule(kind, p_candidates) as rule (
          id uuid, is_active boolean, is_enabled boolean, stands boolean, milestone_value integer, subjects text[],
          facts jsonb
        )
        join unnest(p_candidates) as asked on asked.id = rule.id
        cross join lateral (
          select case
            when jsonb_typeof(asked.metadata -> 'new_subjects') = 'array'
              then array(select jsonb_array_elements_text(asked.metadata -> 'new_subjects'))
            else asked.subjects
          end as subjects
        ) as fresh
      ) as judged
      where judged.reason is not null
        or judged.facts is not null;
      return query
      select judged.id, judged.reason, judged.facts
      from unnest(ids, reasons, all_facts) as judged (id, reason, facts);
      continue;
    exception
      when serialization_failure or deadlock_detected then raise;
      -- The timeout has been met once, and is not set again; who cancels a query means it.
      when query_canceled then
        if sqlerrm not like '%statement timeout%' then
          raise;
        end if;
      when others then null;
    end;
    return query
    select asked.id, 'rule_failed', null::jsonb
    from unnest(p_candidates) as asked
    where asked.scenario_type = kind and asked.by_rule and asked.reason is null;
  end loop;
end
$$;
revoke all on function scenario_private.ask_rules(scenario_private.lease_candidate[]) from public, anon, authenticated;
grant execute on function scenario_private.ask_rules(scenario_private.lease_candidate[]) to service_role;

-- The candidates with the answers about some of them: arrays of one length, of ids, reasons and facts. A reason takes the
-- place of the one before; a candidate whose rule failed waits.
create or replace function scenario_private.with_answers(
  p_candidates scenario_private.lease_candidate[], p_ids uuid[], p_reasons text[], p_facts jsonb[]
)
returns scenario_private.lease_candidate[]
language plpgsql
stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  return array(
    select (
      asked.id, asked.user_id, asked.organization_id, asked.scenario_type, asked.by_rule, asked.triggered_at,
      asked.deliver_until, asked.milestone_value, asked.subjects, asked.metadata, asked.priority, asked.has_reached,
      asked.may_follow,
      coalesce(answer.reason, asked.reason),
      case when coalesce(answer.reason, asked.reason) = 'rule_failed' then now() + interval '5 minutes' end,
      case
        when answer.id is null then asked.facts
        when answer.reason is null and answer.facts <> asked.metadata then answer.facts
      end
    )::scenario_private.lease_candidate
    from unnest(p_candidates) as asked
    left join unnest(p_ids, p_reasons, p_facts) as answer (id, reason, facts) on answer.id = asked.id
  );
end
$$;
revoke all on function
  scenario_private.with_answers(scenario_private.lease_candidate[], uuid[], text[], jsonb[])
  from public, anon, authenticated;
grant execute on function
  scenario_private.with_answers(scenario_private.lease_candidate[], uuid[], text[], jsonb[])
  to service_role;

-- Asks again of candidates what was asked before they were claimed: who is not to be told (scenario_private.refusals),
-- and whether the rules stand by them. What was settled meanwhile is not asked; otherwise a refusal comes first, then
-- the reason that a candidate has, then its rule's.
--
-- A rule walks a mentor's settings anyway: what it says of membership is taken from it. The settings are walked again
-- only for those of whom it says nothing, or who have another reason.
create or replace function scenario_private.ask_again(p_candidates scenario_private.lease_candidate[])
returns scenario_private.lease_candidate[]
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
set jit = off
set enable_seqscan = off
as $$
declare
  candidates scenario_private.lease_candidate[] := p_candidates;
  ids uuid[];
  reasons text[];
  all_facts jsonb[];
begin
  select array_agg(asked.ids[refusal.place]), array_agg(refusal.reason)
  into ids, reasons
  from (
    select
      array_agg(given.id) as ids,
      array_agg(given.user_id) as user_ids,
      array_agg(given.organization_id) as organization_ids,
      array_agg(given.scenario_type) as scenario_types,
      array_agg(given.by_rule and given.reason is not null) as by_rule
    from unnest(candidates) as given
    where given.reason is distinct from 'settled'
  ) as asked
  cross join lateral scenario_private.refusals(
    asked.user_ids, asked.organization_ids, asked.scenario_types, asked.by_rule
  ) as refusal;
  if ids is not null then
    candidates := scenario_private.with_answers(candidates, ids, reasons, null);
  end if;

  select array_agg(answer.id), array_agg(answer.reason), array_agg(answer.facts)
  into ids, reasons, all_facts
  from scenario_private.ask_rules(candidates) as answer;
  if ids is not null then
    candidates := scenario_private.with_answers(candidates, ids, reasons, all_facts);
  end if;

  -- Of whom her rule says nothing, the settings may; and a mute is the last reason not to tell her.
  with doubtful as materialized (
    select given.*, row_number() over () as place
    from unnest(candidates) as given
    where given.by_rule and given.reason in ('muted', 'not_found', 'rule_failed')
  ),
  refusal as materialized (
    select answer.place, answer.reason
    from (
      select
        array_agg(doubtful.user_id order by doubtful.place) as user_ids,
        array_agg(doubtful.organization_id order by doubtful.place) as organization_ids,
        array_agg(doubtful.scenario_type order by doubtful.place) as scenario_types,
        array_agg(doubtful.by_rule order by doubtful.place) as by_rule
      from doubtful
    ) as asked
    cross join lateral scenario_private.refusals(
      asked.user_ids, asked.organization_ids, asked.scenario_types, asked.by_rule
    ) as answer
  )
  select
    array_agg(doubtful.id),
    array_agg(
      coalesce(
        refusal.reason, case doubtful.reason when 'not_found' then 'no_longer_due' else doubtful.reason end
      )
    )
  into ids, reasons
  from doubtful
  left join refusal on refusal.place = doubtful.place;
  if ids is not null then
    candidates := scenario_private.with_answers(candidates, ids, reasons, null);
  end if;
  return candidates;
end
$$;
revoke all on function scenario_private.ask_again(scenario_private.lease_candidate[]) from public, anon, authenticated;
grant execute on function scenario_private.ask_again(scenario_private.lease_candidate[]) to service_role;

-- Lets candidates wait, where it is not the moment or not their turn.
create or replace function scenario_private.await_moments(
  p_candidates scenario_private.lease_candidate[], p_has_gaps boolean
)
returns scenario_private.lease_candidate[]
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
set jit = off
as $$
declare
  candidates scenario_private.lease_candidate[];
begin
  candidates := array(
    select (
      asked.id, asked.user_id, asked.organization_id, asked.scenario_type, asked.by_rule, asked.triggered_at,
      asked.deliver_until, asked.milestone_value, asked.subjects, asked.metadata, asked.priority, asked.has_reached,
      asked.may_follow,
      -- Too late to move its time along: another one may be claimed meanwhile.
      case
        when asked.reason is null and waiting.until is not null and asked.may_follow
          and asked.deliver_until <= now() + interval '1 minute'
          then 'expired'
        else asked.reason
      end,
      case when asked.reason is null then waiting.until else asked.wait_until end,
      asked.facts
    )::scenario_private.lease_candidate
    from unnest(p_candidates) as asked
    left join (
      select organization.id, scenario_private.next_moment(organization.id, now()) as opens_at
      from (
        select distinct given.organization_id as id
        from unnest(p_candidates) as given
        where given.reason is null and given.priority <> 0
      ) as organization
      offset 0
    ) as moment on moment.id = asked.organization_id
    cross join lateral (
      select case
        when asked.reason is null and asked.priority <> 0 and moment.opens_at is distinct from now()
          then least(moment.opens_at, now() + interval '1 day')
      end as until
    ) as waiting
  );
  if not p_has_gaps then
    return candidates;
  end if;
  return array(
    select (
      asked.id, asked.user_id, asked.organization_id, asked.scenario_type, asked.by_rule, asked.triggered_at,
      asked.deliver_until, asked.milestone_value, asked.subjects, asked.metadata, asked.priority, asked.has_reached,
      asked.may_follow,
      case when turn.is_left then 'left' else asked.reason end,
      coalesce(asked.wait_until, case when not turn.is_left then turn.wait_until end),
      asked.facts
    )::scenario_private.lease_candidate
    from unnest(candidates) as asked
    left join (
      select element.id, turn.is_left, turn.wait_until
      from (
        select
          array_agg(given.id) as ids,
          array_agg(given.user_id) as user_ids,
          array_agg(given.organization_id) as organization_ids,
          array_agg(given.priority) as priorities,
          array_agg(given.triggered_at) as triggered_at,
          array_agg(given.deliver_until) as deliver_until,
          (
            select jsonb_object_agg(organization.id, scenario_private.min_gap_of(organization.id))
            from (select distinct other.organization_id as id from unnest(candidates) as other) as organization
          ) as gaps
        from unnest(candidates) as given
        where given.reason is null and given.wait_until is null
      ) as going
      cross join lateral scenario_private.take_turns(
        going.ids, going.user_ids, going.organization_ids, going.priorities, going.triggered_at, going.deliver_until,
        going.gaps
      ) as turn
      join unnest(going.ids) with ordinality as element (id, place) on element.place = turn.place
    ) as turn on turn.id = asked.id
  );
end
$$;
revoke all on function scenario_private.await_moments(scenario_private.lease_candidate[], boolean)
  from public, anon, authenticated;
grant execute on function scenario_private.await_moments(scenario_private.lease_candidate[], boolean) to service_role;

-- supabase/schemas/16_lease.sql =======================================================================================

-- The lease: the temporary right to send a pending notification. A notification may lie for days between claim and send,
-- so what is handed out is asked again first: is she there, is it still true, is this the moment, is it her turn?
--
-- Locks: whoever waits does so in one order, for notifications by id, then their hand-overs by id, then turns by user,
-- then devices: settlements, operators, plain updates. A lease takes what it meets under SKIP LOCKED, in whatever order
-- it meets it, and never waits: nothing can deadlock with it.
--
-- Plans are kept: one that was made while nothing was pending must not read a table whole when much is. So these
-- functions go without sequential scans, and look rows up by lateral queries (OFFSET 0) or arrays of ids, which only an
-- index can answer.

-- Notifications under lease as the API gives them, oldest first: the row, "lease_number", "attempt_count",
-- "leased_until", "unsettled_leases" (how many in a row nobody settled: from two on it is handed out alone, and had
-- better be sent alone) and "device_tokens": [{"token", "platform"}], without those that it has reached already.
create or replace function scenario_private.leased_rows(p_ids uuid[])
returns json
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
as $$
begin
  return (
    select coalesce(json_agg(leased order by leased.triggered_at, leased.id), '[]')
    from (
      select
        notification.id,
        notification.user_id,
        notification.organization_id,
        notification.scenario_type,
        notification.triggered_at,
        notification.delivery_status,
        notification.milestone_value,
        notification.metadata,
        notification.cooldown_window_start,
        notification.failure_code,
        notification.origin,
        notification.cooldown,
        notification.subjects,
        notification.deliver_until,
        notification.settled_at,
        handover.lease_number,
        handover.attempt_count,
        handover.leased_until,
        handover.unsettled_leases,
        coalesce(
          (
            select json_agg(device)
            from (
              select device.token, device.platform
              from scenario_source.device_tokens as device
              where device.user_id = notification.user_id
                and (
                  handover.reached is null
                  or encode(sha256(convert_to(device.token, 'UTF8')), 'hex') <> all (handover.reached)
                )
              order by device.token
            ) as device
          ),
          '[]'
        ) as device_tokens
      from unnest(p_ids) as asked (id)
      cross join lateral (
        select * from public.scenario_notifications as row where row.id = asked.id offset 0
      ) as notification
      cross join lateral (
        select * from scenario_private.handover as row where row.notification_id = asked.id offset 0
      ) as handover
    ) as leased
  );
end
$$;
revoke all on function scenario_private.leased_rows(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.leased_rows(uuid[]) to service_role;

-- Takes hand-overs that the caller has locked into its hands until then; returns which. A lease before that nobody
-- settled is remembered.
create or replace function scenario_private.take_leases(p_ids uuid[], p_until timestamptz)
returns setof uuid
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
as $$
begin
  return query
  update scenario_private.handover as handover
  set
    leased_at = now(),
    leased_until = p_until,
    lease_number = handover.lease_number + 1,
    attempt_count = handover.attempt_count + 1,
    unsettled_at = coalesce(handover.leased_until, handover.unsettled_at),
    unsettled_leases = handover.unsettled_leases + (handover.leased_until is not null)::integer
  where handover.notification_id = any (p_ids)
  returning handover.notification_id;
end
$$;
revoke all on function scenario_private.take_leases(uuid[], timestamptz) from public, anon, authenticated;
grant execute on function scenario_private.take_leases(uuid[], timestamptz) to service_role;

-- The organizations that have something in the hand-over, after (p_after, and any scenario type), by id, at most p_most:
-- one index descent each, however much lies in between.
create or replace function scenario_private.organizations_waiting(p_after uuid, p_most integer)
returns uuid[]
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
as $$
begin
  return (
    with recursive organization (id, place) as (
      (
        select handover.organization_id, 1
        from scenario_private.handover as handover
        where (handover.organization_id, handover.scenario_type) > (
          coalesce(p_after, '00000000-0000-0000-0000-000000000000'), case when p_after is null then '' else '~' end
        )
        order by handover.organization_id, handover.scenario_type
        limit 1
      )
      union all
      select following.organization_id, organization.place + 1
      from organization
      cross join lateral (
        select handover.organization_id
        from scenario_private.handover as handover
        where handover.organization_id > organization.id
        order by handover.organization_id
        limit 1
      ) as following
      where organization.place < p_most
    )
    select array_agg(organization.id order by organization.place) from organization
  );
end
$$;
revoke all on function scenario_private.organizations_waiting(uuid, integer) from public, anon, authenticated;
grant execute on function scenario_private.organizations_waiting(uuid, integer) to service_role;

-- When the first one is due, of whatever organization and type: one index descent for each of them, however much each
-- has waiting. Past the first that is due now it is not looked; null: nothing waits.
create or replace function scenario_private.first_due_at()
returns timestamptz
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
as $$
begin
  return (
    with recursive first (organization_id, scenario_type, due_at) as (
      (
        select handover.organization_id, handover.scenario_type, handover.next_attempt_at
        from scenario_private.handover as handover
        order by handover.organization_id, handover.scenario_type, handover.next_attempt_at
        limit 1
      )
      union all
      select following.*
      from first
      cross join lateral (
        select handover.organization_id, handover.scenario_type, handover.next_attempt_at
        from scenario_private.handover as handover
        where (handover.organization_id, handover.scenario_type) > (first.organization_id, first.scenario_type)
        order by handover.organization_id, handover.scenario_type, handover.next_attempt_at
        limit 1
      ) as following
      where first.due_at > now()
    )
    select min(first.due_at) from first
  );
end
$$;
revoke all on function scenario_private.first_due_at() from public, anon, authenticated;
grant execute on function scenario_private.first_due_at() to service_role;

-- When the next one is due of those that wait; null: none does.
create or replace function scenario_private.next_due_at(p_organization_id uuid, p_scenario_types text[])
returns timestamptz
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
as $$
begin
  return (
    select min(waiting.next_attempt_at)
    from unnest(
      case
        when p_organization_id is null then scenario_private.organizations_waiting(null, 100000)
        else array[p_organization_id]
      end
    ) as organization (id)
    cross join unnest(p_scenario_types) as kind (scenario_type)
    cross join lateral (
      select handover.next_attempt_at
      from scenario_private.handover as handover
      where handover.organization_id = organization.id
        and handover.scenario_type = kind.scenario_type
        and handover.next_attempt_at > now()
      order by handover.next_attempt_at
      limit 1
    ) as waiting
  );
end
$$;
revoke all on function scenario_private.next_due_at(uuid, text[]) from public, anon, authenticated;
grant execute on function scenario_private.next_due_at(uuid, text[]) to service_role;

-- Leases up to p_limit pending rows that are due, of one organization and of some scenario types if given; rows that
-- another worker is leasing at this moment are passed over. Until p_lease_seconds from now nobody else gets them.
-- Organizations take turns, from a random one on, however much one of them has waiting; of each the longest due first.
-- What two leases in a row left unsettled comes last and alone: it may be what its workers die of.
--   out  {"leased": the rows as scenario_private.leased_rows says, "deferred": how many have to wait, "failed": {reason:
--        count}, "rule_failed": how many were left since their rule failed, "has_more": whether there may be more now,
--        "next_due_at": if not, when the next one is due, of those in nobody's hands}
-- What is handed out is asked again first, in this order; what is refused fails, with its reason:
--   user_gone, user_banned, muted, and of those that a rule made mentor_not_active, scenario_disabled
--   expired         deliver_until is over
--   attempts_spent  it was tried max_attempts times (a lease that runs out unsettled is a try)
--   superseded      after a lease that nobody settled, another one about the same has been claimed, or may be within a
--                   minute: what she may have been told holds no longer; or a higher milestone has been claimed since
--   no_longer_due   its rule doesn't stand by it any more
-- What has reached a device before is sent then, not failed. What may not be told at this moment waits: for the first
-- moment that the organization's policy permits, looked at again at least once a day; for its turn (min_gap); five
-- minutes after its rule failed. Its deliver_until moves along, to a day after that: holding is never losing. Priority 0
-- waits for neither policy nor turn.
-- A user without a device token is handed out like any other, with an empty list: only the sender knows whether the
-- app has another way to tell; one that has none says suppressed.
-- A bounded number of rows is looked at. Raises SR001 for a limit outside 1 to 1,000 or a lease outside 1 second to
-- 1 day, SR004 for an unknown scenario type.
create or replace function public.scenario_lease_notifications(
  p_limit integer,
  p_lease_seconds double precision,
  p_organization_id uuid default null,
  p_scenario_types text[] default null,
  p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set timezone = 'UTC'
set jit = off
set enable_seqscan = off
-- A small lease takes less time than its plans do.
set plan_cache_mode = force_generic_plan
as $$
declare
  has_policies constant boolean := scenario_private.has_delivery_policies();
  -- What is handed out is marked for all as soon as one organization has a gap.
  has_gaps constant boolean := has_policies
    and exists (select from public.scenario_delivery_policy as policy where policy.min_gap > interval '0');
  kinds text[];
  organizations uuid[];
  -- A lap begins anywhere, and is over where it began.
  beginning constant uuid := gen_random_uuid();
  after uuid := beginning;
  has_wrapped boolean := false;
  -- The organizations of this lap, null for all that wait; and who had something in it: the next lap asks no other.
  lap uuid[] := case when p_organization_id is not null then array[p_organization_id] end;
  found uuid[] := array[]::uuid[];
  -- How many fair shares an organization may have, for some have little waiting; the next lap gives the others more.
  generosity integer := 2;
  -- Where nothing is due, more organizations are looked at together.
  width integer := greatest(p_limit, 100);
  -- When the first one is due of all, once that was asked.
  first_due_at timestamptz;
  was_asked boolean := false;
  are_suspects boolean := false;
  looked_at integer := 0;
  candidates scenario_private.lease_candidate[];
  leased_ids uuid[] := array[]::uuid[];
  granted_ids uuid[];
  have_reasons boolean;
  have_to_wait boolean;
  have_facts boolean;
  left_ids uuid[] := array[]::uuid[];
  deferred_count integer := 0;
  rule_failed_count integer := 0;
  failed_reasons text[] := array[]::text[];
  has_more boolean := false;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 1000);
  perform scenario_private.require_between('p_lease_seconds', p_lease_seconds, 1, 86400);
  perform scenario_private.require_scenario_type(wanted.scenario_type)
  from unnest(p_scenario_types) as wanted (scenario_type);
  -- Types take turns too: each call begins with another.
  kinds := array(
    select kind.scenario_type
    from unnest(coalesce(p_scenario_types, scenario_private.scenario_types())) as kind (scenario_type)
    group by kind.scenario_type
    order by random()
  );

  loop
    if cardinality(leased_ids) >= p_limit or looked_at >= 5 * p_limit then
      has_more := true;
      exit;
    end if;
    exit when are_suspects and cardinality(leased_ids) > 0;

    if lap is not null then
      organizations := case when not has_wrapped then lap end;
      has_wrapped := true;
    else
      organizations := scenario_private.organizations_waiting(after, width);
      if has_wrapped then
        organizations := array(select passed.id from unnest(organizations) as passed (id) where passed.id <= beginning);
      end if;
      after := organizations[cardinality(organizations)];
      width := least(2 * width, 10000);
    end if;
    if not are_suspects and coalesce(cardinality(organizations), 0) = 0 then
      if lap is null and not has_wrapped then
        has_wrapped := true;
        after := null;
      elsif cardinality(found) > 0 then
        has_wrapped := false;
        lap := found;
        found := array[]::uuid[];
        generosity := least(4 * generosity, 1024);
      else
        exit when cardinality(leased_ids) > 0;
        are_suspects := true;
      end if;
      continue when not are_suspects;
    end if;

    candidates := array(
      select (
        due.notification_id, due.user_id, due.organization_id, due.scenario_type,
        notification.origin = 'evaluation',
        notification.triggered_at, notification.deliver_until, notification.milestone_value, notification.subjects,
        case when notification.subjects <> '{}' then notification.metadata end,
        coalesce(own.priority, standard.priority, 5),
        due.reached is not null,
        notification.triggered_at + notification.cooldown <= now() + interval '1 minute',
        case
          when notification.delivery_status is distinct from 'pending' then 'settled'
          when notification.deliver_until <= now() then 'expired'
          when due.attempt_count >= coalesce(own.max_attempts, standard.max_attempts, 8) then 'attempts_spent'
          -- Another one may be claimed as soon as that is over, and be invisible here for as long as its claim runs.
          when greatest(due.leased_until, due.unsettled_at) + notification.cooldown <= now() + interval '1 minute'
            then 'superseded'
          when greatest(due.leased_until, due.unsettled_at) is not null
            and exists (
              select
              from scenario_private.hold as newer
              where newer.user_id = due.user_id
                and newer.scenario_type = due.scenario_type
                and not newer.is_failed
                and newer.triggered_at > notification.triggered_at
                and newer.milestone_value is null
                and newer.cooldown_window_start is not null
                and (
                  newer.subjects = '{}' or notification.subjects = '{}' or newer.subjects && notification.subjects
                )
            )
            then 'superseded'
        end,
        null,
        null
      )::scenario_private.lease_candidate
      from (
        select suspect.*
        from (
          select row.*
          from scenario_private.handover as row
          where are_suspects
            and row.unsettled_leases > 0
            and row.unsettled_leases + (row.leased_until is not null)::integer >= 2
            and (row.leased_until is null or row.leased_until <= now())
            and row.next_attempt_at <= now()
            and (p_organization_id is null or row.organization_id = p_organization_id)
            and row.scenario_type = any (kinds)
            and row.notification_id <> all (left_ids)
          order by row.next_attempt_at
          limit 1
          for update skip locked
        ) as suspect
        union all
        select waiting.*
        from unnest(case when not are_suspects then organizations end) as organization (id)
        cross join lateral (
          select handover.*
          from unnest(kinds) as kind (scenario_type)
          cross join lateral (
            select row.*
            from scenario_private.handover as row
            where row.organization_id = organization.id
              and row.scenario_type = kind.scenario_type
              and row.next_attempt_at <= now()
              and (row.leased_until is null or row.leased_until <= now())
              and row.unsettled_leases + (row.leased_until is not null)::integer < 2
              and row.notification_id <> all (left_ids)
            order by row.next_attempt_at
            limit p_limit
            for update skip locked
          ) as handover
          limit greatest(
            generosity * (p_limit - cardinality(leased_ids)) / greatest(cardinality(organizations), 1), 1
          )
        ) as waiting
        limit p_limit - cardinality(leased_ids)
      ) as due
      left join lateral (
        select * from public.scenario_notifications as row where row.id = due.notification_id offset 0
      ) as notification on true
      left join scenario_private.delivery_setting as own
        on own.scenario_type = due.scenario_type
        and own.organization_id = due.organization_id
      left join scenario_private.delivery_setting as standard
        on standard.scenario_type = due.scenario_type
        and standard.organization_id is null
    );
    exit when are_suspects and cardinality(candidates) = 0;
    if cardinality(candidates) = 0 then
      -- Before all the other organizations are looked at: is anything due at all?
      if not was_asked and p_organization_id is null then
        was_asked := true;
        first_due_at := scenario_private.first_due_at();
        exit when coalesce(first_due_at > now(), true);
      end if;
      continue;
    end if;
    found := found || array(select distinct candidate.organization_id from unnest(candidates) as candidate);
    looked_at := looked_at + cardinality(candidates);

    candidates := scenario_private.ask_again(candidates);
    if has_policies then
      candidates := scenario_private.await_moments(candidates, has_gaps);
    end if;

    select
      array_agg(asked.id) filter (where asked.reason is null and asked.wait_until is null),
      bool_or(asked.reason is not null),
      bool_or(asked.wait_until is not null),
      bool_or(asked.facts is not null)
    into granted_ids, have_reasons, have_to_wait, have_facts
    from unnest(candidates) as asked;

    -- What is refused fails, or was sent where it has reached a device.
    if have_reasons then
      with refused as materialized (
        select
          asked.id,
          -- She was told: failed it would hold nothing, and be claimed and told again.
          case when asked.has_reached then 'sent' else 'failed' end as delivery_status,
          asked.reason
        from unnest(candidates) as asked
        where asked.reason not in ('settled', 'left', 'rule_failed')
      ),
      locked as materialized (
        select notification.id
        from public.scenario_notifications as notification
        where notification.id = any (array(select refused.id from refused))
          and notification.delivery_status = 'pending'
        for no key update skip locked
      ),
      failed as (
        update public.scenario_notifications as notification
        set
          delivery_status = refused.delivery_status,
          failure_code = case when refused.delivery_status = 'failed' then refused.reason end
        from refused
        where notification.id = any (array(select locked.id from locked))
          and notification.id = refused.id
      ),
      gone as (
        delete from scenario_private.handover as handover
        where handover.notification_id = any (
          array(select asked.id from unnest(candidates) as asked where asked.reason = 'settled')
        )
      )
      select failed_reasons || coalesce(array_agg(refused.reason), '{}') into failed_reasons
      from refused
      where refused.delivery_status = 'failed'
        and refused.id in (select locked.id from locked);
      left_ids := left_ids || array(select asked.id from unnest(candidates) as asked where asked.reason = 'left');
    end if;

    -- What waits; its time moves along.
    if have_to_wait then
      update scenario_private.handover as handover
      set
        next_attempt_at = asked.wait_until,
        unsettled_at = coalesce(handover.leased_until, handover.unsettled_at),
        unsettled_leases = handover.unsettled_leases + (handover.leased_until is not null)::integer,
        leased_until = null
      from unnest(candidates) as asked
      where handover.notification_id = any (
          array(select given.id from unnest(candidates) as given where given.wait_until is not null)
        )
        and handover.notification_id = asked.id;
      with locked as materialized (
        select notification.id
        from public.scenario_notifications as notification
        where notification.id = any (
          array(
            select given.id
            from unnest(candidates) as given
            where given.wait_until + interval '1 day' > given.deliver_until
          )
        )
          and notification.delivery_status = 'pending'
        for no key update skip locked
      )
      update public.scenario_notifications as notification
      set deliver_until = asked.wait_until + interval '1 day'
      from unnest(candidates) as asked
      where notification.id = any (array(select locked.id from locked))
        and notification.id = asked.id;
      deferred_count := deferred_count + (
        select count(*) from unnest(candidates) as asked where asked.wait_until is not null and asked.reason is null
      );
      rule_failed_count := rule_failed_count + (
        select count(*) from unnest(candidates) as asked where asked.reason = 'rule_failed'
      );
    end if;

    -- What is told anew. Who holds a row at this moment may wait for the hand-over: it keeps its facts.
    if have_facts then
      with locked as materialized (
        select notification.id
        from public.scenario_notifications as notification
        where notification.id = any (
          array(
            select given.id
            from unnest(candidates) as given
            where given.id = any (granted_ids) and given.facts is not null
          )
        )
        for no key update skip locked
      )
      update public.scenario_notifications as notification
      set metadata = asked.facts
      from unnest(candidates) as asked
      where notification.id = any (array(select locked.id from locked))
        and notification.id = asked.id
        and scenario_private.is_storable_metadata(asked.facts);
    end if;
    leased_ids := leased_ids || array(
      select taken.id
      from scenario_private.take_leases(granted_ids, now() + make_interval(secs => p_lease_seconds)) as taken (id)
    );
  end loop;

  return json_build_object(
    'leased', scenario_private.leased_rows(leased_ids),
    'deferred', deferred_count,
    'failed', (
      select coalesce(json_object_agg(counted.reason, counted.number), '{}')
      from (
        select failed.reason, count(*) as number
        from unnest(failed_reasons) as failed (reason)
        group by failed.reason
      ) as counted
    ),
    'rule_failed', rule_failed_count,
    'has_more', has_more or cardinality(left_ids) > 0,
    'next_due_at', case
      when not has_more and cardinality(left_ids) = 0
        then case
          -- Nothing is due: that is the next one.
          when first_due_at > now() and p_scenario_types is null then first_due_at
          else scenario_private.next_due_at(p_organization_id, kinds)
        end
    end
  );
end
$$;
revoke all on function public.scenario_lease_notifications(integer, double precision, uuid, text[], integer)
  from public, anon, authenticated;
grant execute on function public.scenario_lease_notifications(integer, double precision, uuid, text[], integer)
  to service_role;

-- Which claims with a lease are not to be claimed now: a row for each, with why, and not_now with the time at which it
-- may be. Who is not refused has taken her turn, for the id that her claim will have.
create or replace function scenario_private.refuse_leased_claims(
  p_id_prefix text, p_user_ids uuid[], p_organization_ids uuid[], p_scenario_types text[]
)
returns table (place bigint, reason text, wait_until timestamptz)
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
  candidates scenario_private.lease_candidate[];
begin
  candidates := array(
    select (
      (p_id_prefix || lpad(to_hex(asked.place), 5, '0'))::uuid, asked.user_id, asked.organization_id,
      asked.scenario_type, false, now(), now() + interval '7 days', null, null, null,
      coalesce(
        (scenario_private.delivery_setting_of(asked.scenario_type, asked.organization_id)).priority, 5
      ),
      false, false, refusal.reason, null, null
    )::scenario_private.lease_candidate
    from unnest(p_user_ids, p_organization_ids, p_scenario_types) with ordinality as asked (
      user_id, organization_id, scenario_type, place
    )
    left join scenario_private.refusals(
      p_user_ids, p_organization_ids, p_scenario_types, array_fill(false, array[cardinality(p_user_ids)])
    ) as refusal on refusal.place = asked.place
    where asked.user_id is not null
  );
  if scenario_private.has_delivery_policies() then
    candidates := scenario_private.await_moments(
      candidates, exists (select from public.scenario_delivery_policy as policy where policy.min_gap > interval '0')
    );
  end if;
  return query
  select
    ('x' || right(refused.id::text, 5))::bit(20)::bigint,
    case when refused.reason is null or refused.reason = 'left' then 'not_now' else refused.reason end,
    case when refused.reason = 'left' then now() else refused.wait_until end
  from unnest(candidates) as refused
  where refused.reason is not null
    or refused.wait_until is not null;
end
$$;
revoke all on function scenario_private.refuse_leased_claims(text, uuid[], uuid[], text[])
  from public, anon, authenticated;
grant execute on function scenario_private.refuse_leased_claims(text, uuid[], uuid[], text[]) to service_role;

-- supabase/schemas/16_operators.sql ===================================================================================

-- What an operator may do to single notifications: cancel what is not to be told, and let what failed be tried anew.

-- Cancels pending notifications: they fail as cancelled, which holds for the cooldown (a milestone for good).
--   out  {"answers": […]}, one for each id: cancelled, leased (somebody may be sending it), already_settled (or it has
--        reached a device: then it is sent), unknown
-- Raises SR001 without ids, SR003 for more than 1,000.
create or replace function public.scenario_cancel_notifications(p_ids uuid[], p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set enable_seqscan = off
as $$
declare
  answers text[];
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_ids', p_ids);
  perform scenario_private.require_at_most(cardinality(p_ids), 1000);

  perform notification.id
  from public.scenario_notifications as notification
  where notification.id = any (p_ids)
  order by notification.id
  for no key update;
  perform handover.notification_id
  from scenario_private.handover as handover
  where handover.notification_id = any (p_ids)
  order by handover.notification_id
  for no key update;

  answers := array(
    select case
      when notification.id is null then 'unknown'
      when notification.delivery_status <> 'pending' then 'already_settled'
      when handover.leased_until > now() then 'leased'
      when handover.reached is not null then 'already_settled'
      when row_number() over (partition by asked.id order by asked.place) > 1 then 'already_settled'
      else 'cancelled'
    end
    from unnest(p_ids) with ordinality as asked (id, place)
    left join lateral (
      select * from public.scenario_notifications as row where row.id = asked.id offset 0
    ) as notification on true
    left join lateral (
      select * from scenario_private.handover as row where row.notification_id = asked.id offset 0
    ) as handover on true
    order by asked.place
  );
  -- What has reached a device was told, and can't be taken back.
  update public.scenario_notifications as notification
  set delivery_status = 'sent', failure_code = null
  from scenario_private.handover as handover
  where notification.id = any (p_ids)
    and handover.notification_id = notification.id
    and handover.reached is not null
    and (handover.leased_until is null or handover.leased_until <= now())
    and notification.delivery_status = 'pending';
  update public.scenario_notifications as notification
  set delivery_status = 'failed', failure_code = 'cancelled'
  where notification.id = any (
    array(
      select asked.id from unnest(p_ids, answers) as asked (id, answer) where asked.answer = 'cancelled'
    )
  );
  return json_build_object('answers', to_json(answers));
end
$$;
revoke all on function public.scenario_cancel_notifications(uuid[], integer) from public, anon, authenticated;
grant execute on function public.scenario_cancel_notifications(uuid[], integer) to service_role;

-- Lets notifications that failed be tried anew, and whatever they hold end.
--   out  {"answers": […], "ids": […]}, one for each id:
--        freed     an evaluation made it: the next one may claim the same again, if it is still due
--        recorded  a claim or a plain insert: recorded anew, as a plain insert does, with the id in ids
--        pending   it waits to be sent as it is, or is being sent
--        sent      it was sent
--        not_held  it holds nothing any more: an evaluation may claim the same already; of a claim's or an insert's
--                  milestone: it is recorded by another one
--        unknown   there is none
-- Raises SR001 without ids, SR003 for more than 1,000.
create or replace function public.scenario_retry_notifications(p_ids uuid[], p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set enable_seqscan = off
as $$
declare
  answers text[] := array[]::text[];
  ids uuid[] := array[]::uuid[];
  asked uuid;
  found public.scenario_notifications;
  new_id uuid;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_ids', p_ids);
  perform scenario_private.require_at_most(cardinality(p_ids), 1000);

  perform notification.id
  from public.scenario_notifications as notification
  where notification.id = any (p_ids)
  order by notification.id
  for no key update;

  foreach asked in array p_ids loop
    new_id := null;
    select * into found from public.scenario_notifications as notification where notification.id = asked;
    if found.id is null then
      answers := answers || 'unknown'::text;
    elsif found.delivery_status <> 'failed' then
      answers := answers || found.delivery_status;
    else
      update public.scenario_notifications as notification
      set held_until = now()
      where notification.id = asked
        and notification.held_until > now();
      if found.origin = 'evaluation' then
        answers := answers || case when found.held_until > now() then 'freed' else 'not_held' end;
      else
        -- By an id that follows from the old one: asked again, it is recorded once.
        insert into public.scenario_notifications
          (id, user_id, organization_id, scenario_type, milestone_value, metadata, subjects)
        values (
          md5('scenario_repo retry ' || found.id)::uuid, found.user_id, found.organization_id, found.scenario_type,
          found.milestone_value, found.metadata, found.subjects
        )
        on conflict do nothing;
        select notification.id into new_id
        from public.scenario_notifications as notification
        where notification.id = md5('scenario_repo retry ' || found.id)::uuid;
        answers := answers || case when new_id is null then 'not_held' else 'recorded' end;
      end if;
    end if;
    ids := ids || new_id;
  end loop;
  return json_build_object('answers', to_json(answers), 'ids', to_json(ids));
end
$$;
revoke all on function public.scenario_retry_notifications(uuid[], integer) from public, anon, authenticated;
grant execute on function public.scenario_retry_notifications(uuid[], integer) to service_role;

-- supabase/schemas/16_settlement.sql ==================================================================================

-- The settlement: what became of a lease. At least once: a worker that dies after sending and before settling is not known
-- to have sent, and its rows are handed out again when the lease runs out.
--
-- Where a notification is stands in scenario_private.handover; a lease is known by its lease_number. The order of locks
-- is said in 16_lease.sql.

-- Whether device tokens can be read: a list of at most 1,000 texts, or none.
create or replace function scenario_private.are_readable_tokens(p_tokens jsonb)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select case jsonb_typeof(p_tokens)
    when 'array' then jsonb_array_length(p_tokens) <= 1000
      and not jsonb_path_exists(p_tokens, 'strict $[*] ? (@.type() != "string")')
    else coalesce(p_tokens, 'null') = 'null'
  end
$$;
revoke all on function scenario_private.are_readable_tokens(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.are_readable_tokens(jsonb) to service_role;

-- Removes device tokens that a provider called invalid, each if it is still this user's and was not registered since;
-- returns how many could not be removed, for the app's view does not allow it.
create or replace function scenario_private.remove_tokens(
  p_user_ids uuid[], p_tokens text[], p_registered_before timestamptz[]
)
returns integer
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
as $$
begin
  delete from scenario_source.device_tokens as device
  using unnest(p_user_ids, p_tokens, p_registered_before) as invalid (user_id, token, registered_before)
  where device.user_id = invalid.user_id
    and device.token = invalid.token
    and (device.registered_at <= invalid.registered_before) is not false;
  return 0;
exception
  when object_not_in_prerequisite_state or insufficient_privilege or feature_not_supported then
    return (
      select count(*)
      from unnest(p_user_ids, p_tokens) as invalid (user_id, token)
      where exists (
        select
        from scenario_source.device_tokens as device
        where device.user_id = invalid.user_id and device.token = invalid.token
      )
    );
end
$$;
revoke all on function scenario_private.remove_tokens(uuid[], text[], timestamptz[]) from public, anon, authenticated;
grant execute on function scenario_private.remove_tokens(uuid[], text[], timestamptz[]) to service_role;

-- Whether each field of a settlement can be read as what it should be.
create or replace function scenario_private.is_readable_settlement(p_settlement jsonb)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  return coalesce(
    jsonb_typeof(p_settlement) = 'object'
      and (p_settlement ->> 'id')::uuid is not null
      and coalesce(p_settlement ->> 'lease_number', p_settlement ->> 'attempt_count')::integer > 0
      and p_settlement ->> 'result' in ('sent', 'retry', 'failed', 'suppressed', 'released')
      and coalesce((p_settlement ->> 'retry_after_seconds')::double precision between 0 and 2592000, true)
      -- The function is asked of few.
      and case when p_settlement ? 'reached' then scenario_private.are_readable_tokens(p_settlement -> 'reached') else true end
      and case
        when p_settlement ? 'invalid_tokens' then scenario_private.are_readable_tokens(p_settlement -> 'invalid_tokens')
        else true
      end,
    false
  );
exception when data_exception then
  return false;
end
$$;
revoke all on function scenario_private.is_readable_settlement(jsonb) from public, anon, authenticated;
grant execute on function scenario_private.is_readable_settlement(jsonb) to service_role;

-- Settles leases: an array of {"id", "lease_number", "result", "failure_code", "retry_after_seconds", "reached",
-- "invalid_tokens"} in, one answer each out, in order.
--   result   sent        delivered
--            retry       try again after a while: 1 minute, doubled by every attempt, at most 6 hours, and between half
--                        and all of that, so that rows which failed together don't come back together; failed for good
--                        (attempts_spent) once p_max_attempts are spent (null: the settings' max_attempts). With
--                        retry_after_seconds (up to 30 days): not before that, and no attempt is spent
--            failed      failed for good; what it holds: scenario_private.keep_books
--            suppressed  failed for good, for there is nobody to send to: no device, no permission
--            released    not tried: due again at once, and no attempt is spent
--   reached         the tokens of the devices that it has reached: it is not handed out for these again, and what
--                   has reached one, now or before, is sent where it would have failed
--   invalid_tokens  the tokens that the provider called invalid: removed if they are still this user's, and were not
--                   registered since the lease began
--   out  {"answers": […], "undeleted_tokens": how many could not be removed}; an answer is sent, pending or failed (what
--        the row is now), or why it was refused: lease_lost (another worker has it), already_settled, unknown,
--        invalid_settlement
-- Until somebody leases the row again, the same retry or release may be reported again: an answer may have been lost.
-- A failure_code that is no code, or one of scenario_repo's own, becomes unnamed_failure. Each result is judged by its
-- own lease; the same lease twice in one call settles once. A caller that names a lease by attempt_count is understood.
-- Raises SR001 for anything but an array, SR003 for more than 1,000.
create or replace function public.scenario_settle_notifications(
  p_results jsonb, p_max_attempts integer default null, p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set enable_seqscan = off
as $$
declare
  -- Null for one that can't be read.
  results jsonb[];
  are_plain boolean;
  locked_ids uuid[];
  statuses text[];
  places tid[];
  answers json;
  given_back_ids uuid[];
  given_back_user_ids uuid[];
  invalid_tokens jsonb;
  undeleted_count integer := 0;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_array('p_results', p_results, 1000);
  if p_max_attempts is not null then
    perform scenario_private.require_between('p_max_attempts', p_max_attempts, 1, 2147483647);
  end if;

  -- Most are made of three plain fields, and are read all at once.
  begin
    are_plain := (
      select bool_and(
        coalesce(
          (element.value ->> 'id')::uuid is not null
            and (element.value ->> 'lease_number')::integer > 0
            and element.value ->> 'result' = any ('{sent,retry,failed,suppressed,released}')
            and not element.value ?| '{retry_after_seconds,reached,invalid_tokens}',
          false
        )
      )
      from jsonb_array_elements(p_results) as element (value)
    );
  exception when data_exception then
    are_plain := false;
  end;
  results := array(
    select case when are_plain or scenario_private.is_readable_settlement(element.value) then element.value end
    from jsonb_array_elements(p_results) with ordinality as element (value, ordinal)
    order by element.ordinal
  );
  -- First, so that what follows sees what a lease or a settlement has done meanwhile. Locked rows stay where they are.
  with locked as materialized (
    select notification.id, notification.delivery_status, notification.ctid
    from public.scenario_notifications as notification
    where notification.id = any (array(select (element.value ->> 'id')::uuid from unnest(results) as element (value)))
    order by notification.id
    for no key update
  )
  select array_agg(locked.id), array_agg(locked.delivery_status), array_agg(locked.ctid)
  into locked_ids, statuses, places
  from locked;

  with result as materialized (
    select
      readable.id,
      readable.lease_number,
      readable.result,
      readable.failure_code,
      readable.retry_after,
      readable.reached,
      readable.invalid_tokens,
      readable.ordinal,
      row_number() over (partition by readable.id, readable.lease_number order by readable.ordinal) as repetition
    from (
      select
        (settlement.value ->> 'id')::uuid as id,
        coalesce(settlement.value ->> 'lease_number', settlement.value ->> 'attempt_count')::integer as lease_number,
        settlement.value ->> 'result' as result,
        case
          when settlement.value ->> 'result' = 'suppressed' then 'suppressed'
          when settlement.value ->> 'failure_code' is null then null
          when settlement.value ->> 'failure_code' ~ '^[a-z][a-z0-9_]{0,62}$'
            and scenario_private.hold_of_failure(settlement.value ->> 'failure_code') is null
            then settlement.value ->> 'failure_code'
          else 'unnamed_failure'
        end as failure_code,
        case
          when settlement.value ->> 'result' = 'retry'
            then make_interval(secs => (settlement.value ->> 'retry_after_seconds')::double precision)
        end as retry_after,
        case
          when jsonb_typeof(settlement.value -> 'reached') = 'array' and settlement.value -> 'reached' <> '[]' then array(
            select encode(sha256(convert_to(token.value, 'UTF8')), 'hex')
            from jsonb_array_elements_text(settlement.value -> 'reached') as token (value)
          )
        end as reached,
        nullif(settlement.value -> 'invalid_tokens', 'null') as invalid_tokens,
        settlement.ordinal
      from unnest(results) with ordinality as settlement (value, ordinal)
    ) as readable
  ),
  locked as materialized (
    select
      handover.notification_id as id,
      handover.ctid,
      handover.user_id,
      handover.leased_at,
      handover.reached,
      handover.lease_number,
      handover.attempt_count,
      handover.leased_until,
      coalesce(p_max_attempts, own.max_attempts, standard.max_attempts, 8) as max_attempts
    from scenario_private.handover as handover
    left join scenario_private.delivery_setting as own
      on own.scenario_type = handover.scenario_type
      and own.organization_id = handover.organization_id
    left join scenario_private.delivery_setting as standard
      on standard.scenario_type = handover.scenario_type
      and standard.organization_id is null
    where handover.notification_id = any (array(select result.id from result))
    order by handover.notification_id
    for no key update of handover
  ),
  judged as materialized (
    select
      result.*,
      case
        when result.result is null then 'invalid_settlement'
        when notification.id is null then 'unknown'
        when notification.delivery_status <> 'pending' then 'already_settled'
        when locked.lease_number is distinct from result.lease_number then 'lease_lost'
        when result.repetition > 1 then 'already_settled'
      end as refusal,
      case
        when result.result = 'sent' then 'sent'
        when result.result in ('failed', 'suppressed')
          or (result.result = 'retry' and result.retry_after is null and locked.attempt_count >= locked.max_attempts)
          then case when coalesce(result.reached, locked.reached) is not null then 'sent' else 'failed' end
        else 'pending'
      end as delivery_status,
      locked.user_id,
      locked.leased_at,
      locked.attempt_count,
      locked.leased_until,
      -- Both rows are locked: they stay where they are.
      notification.ctid as notification_ctid,
      locked.ctid as handover_ctid
    from result
    left join unnest(locked_ids, statuses, places) as notification (id, delivery_status, ctid)
      on notification.id = result.id
    left join locked on locked.id = result.id
  ),
  settled as (
    update public.scenario_notifications as notification
    set
      delivery_status = judged.delivery_status,
      failure_code = case
        when judged.delivery_status = 'sent' then null
        when judged.result = 'retry' and judged.delivery_status = 'failed' then 'attempts_spent'
        else judged.failure_code
      end,
      -- It was sent before its lease was over, however late that is told.
      settled_at = case
        when judged.delivery_status = 'sent' then greatest(notification.triggered_at, least(now(), judged.leased_until))
        when judged.delivery_status = 'failed' then now()
      end
    from judged
    where notification.ctid = judged.notification_ctid
      and judged.refusal is null
      and (judged.delivery_status <> 'pending' or judged.failure_code is distinct from notification.failure_code)
      and judged.result <> 'released'
  ),
  given_back as (
    update scenario_private.handover as handover
    set
      leased_until = null,
      attempt_count = handover.attempt_count - (judged.result = 'released' or judged.retry_after is not null)::integer,
      unsettled_leases = 0,
      reached = case
        when judged.reached is null then handover.reached
        else array(select distinct hash from unnest(handover.reached || judged.reached) as hash order by hash)
      end,
      next_attempt_at = case
        when judged.result <> 'retry' then now()
        when judged.retry_after is not null then now() + judged.retry_after
        else now() + (0.5 + random() / 2)
          * least(interval '1 minute' * power(2, least(judged.attempt_count, 20) - 1), interval '6 hours')
      end
    from judged
    where handover.ctid = judged.handover_ctid
      and judged.refusal is null
      and judged.delivery_status = 'pending'
      -- Once: what is reported again changes nothing.
      and judged.leased_until is not null
  ),
  ended as (
    delete from scenario_private.handover as handover
    using judged
    where handover.ctid = judged.handover_ctid
      and judged.refusal is null
      and judged.delivery_status = 'sent'
  )
  select
    coalesce(json_agg(coalesce(judged.refusal, judged.delivery_status) order by judged.ordinal), '[]'),
    array_agg(judged.id)
      filter (where judged.refusal is null and (judged.delivery_status = 'failed' or judged.result = 'released')),
    array_agg(judged.user_id)
      filter (where judged.refusal is null and (judged.delivery_status = 'failed' or judged.result = 'released')),
    jsonb_agg(jsonb_build_array(judged.user_id, judged.leased_at, judged.invalid_tokens))
      filter (where judged.refusal is null and judged.invalid_tokens <> '[]')
  into answers, given_back_ids, given_back_user_ids, invalid_tokens
  from judged;

  if given_back_ids is not null then
    perform scenario_private.give_turns_back(given_back_ids, given_back_user_ids);
  end if;
  if invalid_tokens is not null then
    undeleted_count := (
      select scenario_private.remove_tokens(
        array_agg((element.value ->> 0)::uuid), array_agg(token.value), array_agg((element.value ->> 1)::timestamptz)
      )
      from jsonb_array_elements(invalid_tokens) as element (value)
      cross join lateral jsonb_array_elements_text(element.value -> 2) as token (value)
    );
  end if;
  return json_build_object('answers', answers, 'undeleted_tokens', undeleted_count);
end
$$;
revoke all on function public.scenario_settle_notifications(jsonb, integer, integer) from public, anon, authenticated;
grant execute on function public.scenario_settle_notifications(jsonb, integer, integer) to service_role;

-- supabase/schemas/17_purge.sql =======================================================================================

-- Keeping: history stays small without forgetting what a decision rests on.

-- Purges, for the next p_limit users after p_after, what has been over for longer than p_older_than_seconds: the latest
-- of triggered_at, settled_at, held_until and unsettled_at.
--   out  {"purged", "next_after"}; next_after is null at the end
-- Kept whatever their age, so that no decision changes: pending rows; milestones that are recorded or held for good; of
-- every user and scenario type the newest claim (the chain's head), the rows sent and delivered last, and the newest
-- notifications that count as reminders, as many as a series may have (one at least), with the newest of these for each
-- subject and the newest without subjects. A scenario type whose longest cooldown is longer than the period is left alone.
-- Raises SR001 for a period that is negative or longer than 36,525 days, or a limit outside 1 to 100,000.
create or replace function public.scenario_purge_notifications(
  p_older_than_seconds double precision,
  p_after uuid default null,
  p_limit integer default 10000,
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
  over_before timestamptz;
  last_user_id uuid;
  user_count integer;
  purged_count integer;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 100000);
  perform scenario_private.require_between('p_older_than_seconds', p_older_than_seconds, 0, 36525 * 86400.0);
  over_before := now() - make_interval(secs => p_older_than_seconds);

  -- A loose scan: one index descent per user, however long the histories are.
  with recursive page (user_id, position) as (
    (
      select notification.user_id, 1
      from public.scenario_notifications as notification
      where notification.user_id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
        or (p_after is null and notification.user_id = '00000000-0000-0000-0000-000000000000')
      order by notification.user_id
      limit 1
    )
    union all
    select following.user_id, page.position + 1
    from page
    cross join lateral (
      select notification.user_id
      from public.scenario_notifications as notification
      where notification.user_id > page.user_id
      order by notification.user_id
      limit 1
    ) as following
    where page.position < p_limit
  ),
  kind as (
    select config.scenario_type, greatest(max(config.max_reminders), 1) as series
    from public.scenario_evaluation_config as config
    group by config.scenario_type
    having coalesce(max(config.cooldown), '0') <= make_interval(secs => p_older_than_seconds)
  ),
  -- What is kept of each user and type, looked up once, however many rows there are.
  history as materialized (
    select
      page.user_id,
      kind.scenario_type,
      head.cooldown_window_start as head_window,
      sent.id as sent_id,
      delivered.id as delivered_id,
      coalesce(series.triggered_at, '-infinity') as series_from
    from page
    cross join kind
    left join lateral (
      select notification.cooldown_window_start
      from public.scenario_notifications as notification
      where notification.user_id = page.user_id
        and notification.scenario_type = kind.scenario_type
        and notification.cooldown_window_start is not null
      order by notification.cooldown_window_start desc
      limit 1
    ) as head on true
    left join lateral (
      select notification.id
      from public.scenario_notifications as notification
      where notification.user_id = page.user_id
        and notification.scenario_type = kind.scenario_type
        and not notification.is_failed
        and notification.delivery_status = 'sent'
      order by notification.triggered_at desc
      limit 1
    ) as sent on true
    left join lateral (
      select notification.id
      from public.scenario_notifications as notification
      where notification.user_id = page.user_id
        and notification.scenario_type = kind.scenario_type
        and not notification.is_failed
        and notification.delivery_status = 'sent'
      order by notification.settled_at desc
      limit 1
    ) as delivered on true
    left join lateral (
      select reminder.triggered_at
      from scenario_private.reminder as reminder
      where reminder.user_id = page.user_id
        and reminder.scenario_type = kind.scenario_type
        -- A pending one may fail, and count no more.
        and reminder.settled_at is not null
      order by reminder.triggered_at desc
      offset kind.series - 1
      limit 1
    ) as series on true
  ),
  old as (
    select notification.id
    from history
    join scenario_private.hold as notification
      on notification.user_id = history.user_id
      and notification.scenario_type = history.scenario_type
    join public.scenario_notifications as locked on locked.id = notification.id
    where notification.triggered_at < over_before
      and notification.settled_at < over_before
      and coalesce(notification.held_until, '-infinity') < over_before
      and coalesce(notification.unsettled_at, '-infinity') < over_before
      and (notification.scenario_type <> 'milestone' or notification.is_failed)
      and (notification.cooldown_window_start is null or notification.cooldown_window_start < history.head_window)
      and notification.id is distinct from history.sent_id
      and notification.id is distinct from history.delivered_id
      and (
        not notification.counts
        or (
          notification.triggered_at < history.series_from
          and not exists (
            select
            -- One about its scenario as a whole is renewed by another such one alone: null is no subject of any.
            from unnest(coalesce(nullif(notification.subjects, '{}'), array[null])) as subject (value)
            where not exists (
              select
              from scenario_private.hold as newer
              where newer.user_id = notification.user_id
                and newer.scenario_type = notification.scenario_type
                and newer.counts
                and newer.settled_at is not null
                and newer.triggered_at > notification.triggered_at
                and (newer.subjects = '{}' or subject.value = any (newer.subjects))
            )
          )
        )
      )
    order by notification.id
    for update of locked skip locked
  ),
  purged as (
    delete from public.scenario_notifications as notification
    using old
    where notification.id = old.id
    returning notification.id
  )
  select
    (select count(*) from purged),
    (select count(*) from page),
    (select page.user_id from page order by page.position desc limit 1)
  into purged_count, user_count, last_user_id;

  return json_build_object(
    'purged', purged_count,
    'next_after', case when user_count = p_limit then last_user_id end
  );
end
$$;
revoke all on function public.scenario_purge_notifications(double precision, uuid, integer, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_purge_notifications(double precision, uuid, integer, integer) to service_role;

-- supabase/schemas/18_outcomes.sql ====================================================================================

-- What came of it: of those who were told, how many did what the scenario hopes for, beside those who were due and
-- could not be told. Counts, shares and intervals; nothing here says that the one is the cause of the other.
--
-- What a scenario hopes for is said in its rule's file, by the view scenario_private.<scenario type>_hope: the contract
-- is scenario_private.hope_contract (13_rules.sql). A type without one says nothing of it.

-- The interval of a share by Wilson's score method, 95 %: so many of so many.
create or replace function scenario_private.share_interval(p_hits bigint, p_number bigint)
returns table (share double precision, lowest double precision, highest double precision)
language sql
immutable
set search_path = ''
rows 1
as $$
  select
    given.share,
    greatest(0, (given.share + z.square / (2 * given.number) - part.half) / (1 + z.square / given.number)),
    least(1, (given.share + z.square / (2 * given.number) + part.half) / (1 + z.square / given.number))
  from (
    select asked.number, p_hits / asked.number as share
    from (select nullif(p_number, 0)::double precision as number) as asked
  ) as given
  cross join (select 1.959963984540054 ^ 2 as square) as z
  cross join lateral (
    select sqrt(
      z.square * (given.share * (1 - given.share) / given.number + z.square / (4 * given.number ^ 2))
    ) as half
  ) as part
$$;
revoke all on function scenario_private.share_interval(bigint, bigint) from public, anon, authenticated;
grant execute on function scenario_private.share_interval(bigint, bigint) to service_role;

-- The difference of two shares and its interval by Newcombe's hybrid score method (1998, method 10), 95 %.
create or replace function scenario_private.difference_interval(
  p_hits bigint, p_number bigint, p_other_hits bigint, p_other_number bigint
)
returns table (difference double precision, lowest double precision, highest double precision)
language sql
immutable
set search_path = ''
rows 1
as $$
  select
    one.share - other.share,
    one.share - other.share - sqrt((one.share - one.lowest) ^ 2 + (other.highest - other.share) ^ 2),
    one.share - other.share + sqrt((one.highest - one.share) ^ 2 + (other.share - other.lowest) ^ 2)
  from scenario_private.share_interval(p_hits, p_number) as one
  cross join scenario_private.share_interval(p_other_hits, p_other_number) as other
$$;
revoke all on function scenario_private.difference_interval(bigint, bigint, bigint, bigint)
  from public, anon, authenticated;
grant execute on function scenario_private.difference_interval(bigint, bigint, bigint, bigint) to service_role;

-- A group as it may be shown. How many did it is only said where at least 5 did and at least 5 did not.
--   out  {"persons", "hoped", "share", "lowest", "highest", "undecided"}
create or replace function scenario_private.shown_group(p_persons bigint, p_hoped bigint, p_undecided bigint)
returns json
language sql
immutable
set search_path = ''
as $$
  select json_build_object(
    'persons', scenario_private.shown(p_persons),
    'hoped', told.hoped,
    'share', part.share,
    'lowest', part.lowest,
    'highest', part.highest,
    'undecided', scenario_private.shown(p_undecided)
  )
  from (
    select case when p_hoped >= 5 and p_persons - p_hoped >= 5 then p_hoped end as hoped
  ) as told
  left join lateral scenario_private.share_interval(told.hoped, p_persons) as part on told.hoped is not null
$$;
revoke all on function scenario_private.shown_group(bigint, bigint, bigint) from public, anon, authenticated;
grant execute on function scenario_private.shown_group(bigint, bigint, bigint) to service_role;

-- Says what came of an organization's notifications of a type that were settled from p_since (inclusive) to p_until
-- (exclusive).
--   out  {"says_hope", "says_when", "told": {…}, "not_told": {…}, "difference": {"share", "lowest", "highest"}}
--   a group  {"persons", "hoped", "share", "lowest", "highest", "undecided"}
-- Persons are counted, not notifications: each once, from the first time in the period.
--   told       to whom one was sent
--   not_told   whose notification failed though she was there and still due; to whom the organization sent nothing of
--              the type in the period, and nobody did from its beginning until p_within_seconds after it failed.
--              Whoever may have been told all the same (by a lease that nobody settled) is in neither group; nor is one
--              that is pending. Who was held or muted before anything was claimed has no row; they are counted by
--              scenario_get_left_out
--   persons    of those whose p_within_seconds are over; undecided: of the others
--   hoped      who did what the scenario hopes for within p_within_seconds
-- says_hope is false where the type has no view of what it hopes for: then hoped and what follows from it are null. So
-- is every number that fewer than 5 persons stand behind, and hoped where fewer than 5 of the group did not; so is the
-- difference unless both shares are shown.
-- says_when is false where no date says when some of the hoped ones did it: they have by now, perhaps too late.
-- Whoever asks twice, for periods that overlap or for another p_within_seconds, can subtract: what is given away is
-- figures of fixed periods that do not overlap, not this function.
-- One that waited for longer than the type's deliver_within and 30 days is not found.
-- Raises SR001 if an argument is missing, p_until is before p_since or p_within_seconds is not between 1 and 36,525
-- days, SR004 for an unknown scenario type.
create or replace function public.scenario_get_outcomes(
  p_organization_id uuid,
  p_scenario_type text,
  p_since timestamptz,
  p_until timestamptz,
  p_within_seconds double precision,
  p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set timezone = 'UTC'
-- A few index entries a person: compiling takes longer, and no table is read from end to end.
set jit = off
set enable_seqscan = off
as $$
declare
  hope regclass;
  within interval;
  longest interval;
  told_persons bigint;
  told_hoped bigint;
  told_undecided bigint;
  told_is_dated boolean;
  other_persons bigint;
  other_hoped bigint;
  other_undecided bigint;
  other_is_dated boolean;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_organization_id', p_organization_id);
  perform scenario_private.require_scenario_type(p_scenario_type);
  perform scenario_private.require_given('p_since', p_since);
  perform scenario_private.require_given('p_until', p_until);
  if p_until < p_since then
    raise exception using errcode = 'SR001', message = 'expected p_until not before p_since';
  end if;
  perform scenario_private.require_between('p_within_seconds', p_within_seconds, 1, 36525 * 86400.0);
  within := make_interval(secs => p_within_seconds);
  longest := interval '30 days' + coalesce(
    (scenario_private.delivery_setting_of(p_scenario_type, p_organization_id)).deliver_within, interval '7 days'
  );
  hope := to_regclass(format('scenario_private.%I', p_scenario_type || '_hope'));

  execute format(
    'with settled as materialized (
       select notification.id, notification.user_id, notification.settled_at, notification.is_failed
       from public.scenario_notifications as notification
       where notification.organization_id = $1
         and notification.scenario_type = $2
         and notification.triggered_at > $3 - $6
         and notification.triggered_at < $4 + interval ''1 day''
         and notification.settled_at >= $3
         and notification.settled_at < $4
         and (
           notification.delivery_status = ''sent''
           or (
             notification.unsettled_at is null
             and coalesce(notification.failure_code, '''') not in (
               ''mentor_not_active'', ''no_longer_due'', ''superseded'', ''user_banned'', ''user_gone''
             )
           )
         )
     ),
     person as materialized (
       -- Told before not told; then the first time.
       select distinct on (settled.user_id) settled.*
       from settled
       order by settled.user_id, settled.is_failed, settled.settled_at, settled.id
     ),
     counted as (
       select
         person.is_failed,
         person.settled_at + $5 > now() as is_undecided,
         hope.hoped_at <= person.settled_at + $5 as is_hoped,
         hope.hoped_at > person.settled_at as is_dated
       from person
       left join lateral (%s) as hope on person.settled_at + $5 <= now()
       where not person.is_failed
         or not exists (
           select
           from public.scenario_notifications as other
           left join scenario_private.handover as handover
             on handover.notification_id = other.id and handover.unsettled_at is not null
           cross join lateral (
             select case when other.is_failed or other.settled_at is null
               then coalesce(other.unsettled_at, handover.unsettled_at)
               else other.settled_at
             end as told_at
           ) as perhaps
           where other.user_id = person.user_id
             and other.scenario_type = $2
             and other.triggered_at > $3 - $6
             and (not other.is_failed or other.unsettled_at is not null)
             and perhaps.told_at >= $3
             and perhaps.told_at < person.settled_at + $5
         )
     )
     select
       count(*) filter (where not counted.is_failed and not counted.is_undecided),
       count(*) filter (where not counted.is_failed and counted.is_hoped),
       count(*) filter (where not counted.is_failed and counted.is_undecided),
       bool_and(counted.is_dated) filter (where not counted.is_failed and counted.is_hoped),
       count(*) filter (where counted.is_failed and not counted.is_undecided),
       count(*) filter (where counted.is_failed and counted.is_hoped),
       count(*) filter (where counted.is_failed and counted.is_undecided),
       bool_and(counted.is_dated) filter (where counted.is_failed and counted.is_hoped)
     from counted',
    case
      when hope is null then 'select null::timestamptz as hoped_at'
      -- Of one person, by the notification: set by set it would be of everybody. An app's own may have several rows.
      else format(
        'select min(found.hoped_at) filter (where found.hoped_at >= person.settled_at) as hoped_at
         from (select hope.hoped_at from %s as hope where hope.notification_id = person.id offset 0) as found',
        hope
      )
    end
  )
  into
    told_persons, told_hoped, told_undecided, told_is_dated,
    other_persons, other_hoped, other_undecided, other_is_dated
  using p_organization_id, p_scenario_type, p_since, p_until, within, longest;

  return json_build_object(
    'says_hope', hope is not null,
    -- Of numbers that are shown.
    'says_when', not (
      (not told_is_dated and least(told_hoped, told_persons - told_hoped) >= 5) is true
      or (not other_is_dated and least(other_hoped, other_persons - other_hoped) >= 5) is true
    ),
    'told', scenario_private.shown_group(told_persons, told_hoped, told_undecided),
    'not_told', scenario_private.shown_group(other_persons, other_hoped, other_undecided),
    'difference', (
      select json_build_object(
        'share', found.difference, 'lowest', found.lowest, 'highest', found.highest
      )
      from scenario_private.difference_interval(told_hoped, told_persons, other_hoped, other_persons) as found
      -- Only of shares that are shown.
      where least(told_hoped, told_persons - told_hoped, other_hoped, other_persons - other_hoped) >= 5
    )
  );
end
$$;
revoke all on function
  public.scenario_get_outcomes(uuid, text, timestamptz, timestamptz, double precision, integer)
  from public, anon, authenticated;
grant execute on function
  public.scenario_get_outcomes(uuid, text, timestamptz, timestamptz, double precision, integer)
  to service_role;

-- supabase/schemas/18_pending.sql =====================================================================================

-- What waits, one by one.

-- Lists pending notifications in the order in which they come due, after the place (p_after_at, p_after_id): the
-- next_attempt_at and the id of the last one of the page before.
--   out  {"pending": […]}, each {"id", "user_id", "organization_id", "scenario_type", "triggered_at", "deliver_until",
--        "failure_code": of the last try, "next_attempt_at", "attempt_count", "leased_until": null unless somebody has it
--        in hand, "unsettled_leases"}
-- Of one organization, each scenario type is a range of handover_due_idx; of all, the pending ones are read once.
-- Raises SR001 for a limit outside 1 to 1,000, or half a place.
create or replace function public.scenario_list_pending(
  p_organization_id uuid default null,
  p_scenario_type text default null,
  p_after_at timestamptz default null,
  p_after_id uuid default null,
  p_limit integer default 100,
  p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
set timezone = 'UTC'
as $$
declare
  after_at constant timestamptz := coalesce(p_after_at, '-infinity');
  after_id constant uuid := coalesce(p_after_id, '00000000-0000-0000-0000-000000000000');
  ids uuid[];
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 1000);
  if p_after_at is not null then
    perform scenario_private.require_given('p_after_id', p_after_id);
  end if;
  if p_after_id is not null then
    perform scenario_private.require_given('p_after_at', p_after_at);
  end if;
  if p_organization_id is null then
    ids := array(
      select handover.notification_id
      from scenario_private.handover as handover
      where (handover.next_attempt_at, handover.notification_id) > (after_at, after_id)
        and (p_scenario_type is null or handover.scenario_type = p_scenario_type)
      order by handover.next_attempt_at, handover.notification_id
      limit p_limit
    );
  else
    ids := array(
      select handover.notification_id
      from unnest(
        case when p_scenario_type is null then scenario_private.scenario_types() else array[p_scenario_type] end
      ) as scenario (type)
      cross join lateral (
        select row.notification_id, row.next_attempt_at
        from scenario_private.handover as row
        where row.organization_id = p_organization_id
          and row.scenario_type = scenario.type
          and (row.next_attempt_at, row.notification_id) > (after_at, after_id)
        order by row.next_attempt_at, row.notification_id
        limit p_limit
      ) as handover
      order by handover.next_attempt_at, handover.notification_id
      limit p_limit
    );
  end if;
  return (
    select json_build_object('pending', coalesce(
      json_agg(
        json_build_object(
          'id', notification.id,
          'user_id', notification.user_id,
          'organization_id', notification.organization_id,
          'scenario_type', notification.scenario_type,
          'triggered_at', notification.triggered_at,
          'deliver_until', notification.deliver_until,
          'failure_code', notification.failure_code,
          'next_attempt_at', handover.next_attempt_at,
          'attempt_count', handover.attempt_count,
          'leased_until', case when handover.leased_until > now() then handover.leased_until end,
          'unsettled_leases', handover.unsettled_leases
        )
        order by handover.next_attempt_at, handover.notification_id
      ),
      '[]'
    ))
    from unnest(ids) as page (id)
    cross join lateral (
      select * from scenario_private.handover as row where row.notification_id = page.id offset 0
    ) as handover
    cross join lateral (
      select * from public.scenario_notifications as row where row.id = page.id offset 0
    ) as notification
  );
end
$$;
revoke all on function public.scenario_list_pending(uuid, text, timestamptz, uuid, integer, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_list_pending(uuid, text, timestamptz, uuid, integer, integer)
  to service_role;

-- supabase/schemas/18_person.sql ======================================================================================

-- One person's data: all of it, for whoever asks for her own, and its erasure from the tables of scenario_repo.
--
-- A column that refers to a user is in both: tests/integration/test_person.py finds each in the catalogue.

-- What there is of a person.
--   out  {"user_id", "exported_at", "notifications", "handovers", "mutes", "turns", "passes", "sources": {"mentors",
--        "activities", "certificates", "device_tokens"}}: rows as they are, with every column; sources is what the app's
--        own tables have of her, as the views of scenario_source show it; passes are the ranges that begin or end
--        with her
-- Whoever is unknown has no rows. Raises SR001 without a user.
create or replace function public.scenario_export_person(p_user_id uuid, p_needs_schema integer default null)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
set timezone = 'UTC'
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_id', p_user_id);
  return json_build_object(
    'user_id', p_user_id,
    'exported_at', now(),
    'notifications', (
      select coalesce(json_agg(notification order by notification.triggered_at, notification.id), '[]')
      from public.scenario_notifications as notification
      where notification.user_id = p_user_id
    ),
    'handovers', (
      select coalesce(json_agg(handover order by handover.notification_id), '[]')
      from scenario_private.handover as handover
      where handover.user_id = p_user_id
    ),
    'mutes', (
      select coalesce(json_agg(mute order by mute.id), '[]')
      from public.scenario_mutes as mute
      where mute.user_id = p_user_id
    ),
    'turns', (
      select coalesce(json_agg(turn), '[]')
      from scenario_private.delivery_turn as turn
      where turn.user_id = p_user_id
    ),
    'passes', (
      select coalesce(
        json_agg(
          json_build_object(
            'scenario_type', config.scenario_type,
            'organization_id', config.organization_id,
            'resume_after', range.place,
            'upto', range.upto
          )
          order by config.scenario_type, config.organization_id, range.number
        ),
        '[]'
      )
      from scenario_private.pass_range as range
      join public.scenario_evaluation_config as config on config.id = range.pass_id
      where p_user_id in (range.place, range.upto)
    ),
    'sources', json_build_object(
      'mentors', (
        select coalesce(json_agg(mentor order by mentor.organization_id), '[]')
        from scenario_source.mentors as mentor
        where mentor.user_id = p_user_id
      ),
      'activities', (
        select coalesce(json_agg(activity order by activity.activity_date), '[]')
        from scenario_source.activities as activity
        where activity.user_id = p_user_id
      ),
      'certificates', (
        select coalesce(json_agg(certificate order by certificate.expires_at, certificate.certificate_id), '[]')
        from scenario_source.certificates as certificate
        where certificate.user_id = p_user_id
      ),
      'device_tokens', (
        select coalesce(json_agg(device order by device.registered_at, device.token), '[]')
        from scenario_source.device_tokens as device
        where device.user_id = p_user_id
      )
    )
  );
end
$$;
revoke all on function public.scenario_export_person(uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_export_person(uuid, integer) to service_role;

-- Erases a person from the tables of scenario_repo; the app's own tables keep what they have of her.
--   out  {"notifications", "handovers", "mutes", "turns", "passes"}: how many rows of hers are gone; of passes, how many
--        ranges no longer begin or end with her
-- Afterwards nothing of her is known: no cooldown, no milestone, no mute. As long as she is an active mentor she may be
-- claimed for and told again; who is to be told nothing more leaves peer_mentors first, or is deleted as a user. The
-- figures of an organization's report are counted from rows, and so are fewer; those of passes stay.
-- A worker that has one of her notifications in hand may still send it; it settles as unknown. Whoever has written to
-- these tables and not committed, such as a claim or a page under way, is waited for: then what is theirs is seen. Who
-- begins to write after that may claim for her anew. Erasing twice finds nothing.
-- It never waits while it has a lock, so it is part of no deadlock: what others have in hand it tries again, for up to
-- five seconds (then 55P03, and nothing is erased).
-- Raises SR001 without a user.
create or replace function public.scenario_erase_person(p_user_id uuid, p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
as $$
declare
  until constant timestamptz := clock_timestamp() + interval '5 seconds';
  writers text[];
  notification_ids uuid[];
  handover_ids uuid[];
  notification_count integer := 0;
  handover_count integer := 0;
  mute_count integer := 0;
  turn_count integer := 0;
  pass_count integer := 0;
  found_count integer;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_id', p_user_id);
  -- A page locks its range before it reads whom to claim for.
  writers := array(
    select distinct lock.virtualtransaction
    from pg_catalog.pg_locks as lock
    where lock.relation in (
        'public.scenario_notifications'::regclass, 'public.scenario_mutes'::regclass,
        'public.scenario_evaluation_config'::regclass, 'scenario_private.handover'::regclass,
        'scenario_private.delivery_turn'::regclass, 'scenario_private.pass_range'::regclass
      )
      and lock.database = (select own.oid from pg_catalog.pg_database as own where own.datname = current_database())
      and lock.mode in ('RowShareLock', 'RowExclusiveLock')
      and lock.granted
      and lock.pid is distinct from pg_backend_pid()
  );
  while exists (select from pg_catalog.pg_locks as lock where lock.virtualtransaction = any (writers)) loop
    if clock_timestamp() > until then
      raise exception using
        errcode = 'lock_not_available', message = 'others have written for more than five seconds and not committed';
    end if;
    perform pg_sleep(0.02);
  end loop;
  loop
    begin
      perform
      from scenario_private.pass_range as range
      where p_user_id in (range.place, range.upto)
      for no key update nowait;
      -- Then every hand-over of theirs is seen by the next query.
      notification_ids := array(
        select notification.id
        from public.scenario_notifications as notification
        where notification.user_id = p_user_id
        for update nowait
      );
      handover_ids := array(
        select handover.notification_id
        from scenario_private.handover as handover
        where handover.user_id = p_user_id
        for update nowait
      );
      perform from scenario_private.delivery_turn as turn where turn.user_id = p_user_id for update nowait;
      perform from public.scenario_mutes as mute where mute.user_id = p_user_id for update nowait;

      -- The mentor before her takes her place: where she was the last one evaluated, and as a bound on both sides.
      update scenario_private.pass_range as range
      set
        place = case when range.place = p_user_id then before.user_id else range.place end,
        upto = case when range.upto = p_user_id then before.user_id else range.upto end
      from (
        select coalesce(max(previous.user_id::text), '00000000-0000-0000-0000-000000000000')::uuid as user_id
        from (
          select mentor.user_id
          from scenario_source.mentors as mentor
          where mentor.user_id < p_user_id and mentor.is_active
          order by mentor.user_id desc
          limit 1
        ) as previous
      ) as before
      where (range.pass_id, range.number) in (
        select named.pass_id, named.number
        from scenario_private.pass_range as named
        where p_user_id in (named.place, named.upto)
        for no key update skip locked
      );
      get diagnostics found_count = row_count;
      pass_count := pass_count + found_count;
      delete from scenario_private.handover as handover where handover.notification_id = any (handover_ids);
      get diagnostics found_count = row_count;
      handover_count := handover_count + found_count;
      delete from public.scenario_notifications as notification where notification.id = any (notification_ids);
      get diagnostics found_count = row_count;
      notification_count := notification_count + found_count;
      delete from scenario_private.delivery_turn as turn where turn.user_id = p_user_id;
      get diagnostics found_count = row_count;
      turn_count := turn_count + found_count;
      delete from public.scenario_mutes as mute where mute.user_id = p_user_id;
      get diagnostics found_count = row_count;
      mute_count := mute_count + found_count;
      exit when not exists (
        select from public.scenario_notifications as notification where notification.user_id = p_user_id
      ) and not exists (
        select from scenario_private.pass_range as range where p_user_id in (range.place, range.upto)
      );
    exception when lock_not_available then
      if clock_timestamp() > until then
        raise;
      end if;
    end;
    perform pg_sleep(0.02);
  end loop;

  return json_build_object(
    'notifications', notification_count,
    'handovers', handover_count,
    'mutes', mute_count,
    'turns', turn_count,
    'passes', pass_count
  );
end
$$;
revoke all on function public.scenario_erase_person(uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_erase_person(uuid, integer) to service_role;

-- supabase/schemas/18_report.sql ======================================================================================

-- An organization's figures, day by day.
--
-- They are counted from three indexes, and hardly a row is read: how many there are on a day, from the organization's
-- index alone; which of them failed, and why, from the failed ones; which of them are pending, from the hand-over. The
-- rest was sent. One statement is one snapshot, so the parts agree whoever settles meanwhile, and no sum is kept that
-- could drift.
--
-- Whether at least 5 persons stand behind a number, the first few of its rows mostly tell. Who is behind a number that
-- is not shown, is known whole: its days are put together.

-- The days of a zone that a period touches: each with its part of the period. The days before p_first and after p_last
-- are left out.
create or replace function scenario_private.days_between(
  p_since timestamptz, p_until timestamptz, p_first timestamptz, p_last timestamptz, p_time_zone text
)
returns table (day date, starts_at timestamptz, ends_at timestamptz)
language sql
stable
set search_path = ''
set timezone = 'UTC'
rows 30
as $$
  select begun.day, greatest(begun.starts_at, p_since), least(begun.ends_at, p_until)
  from (
    select
      whole.day,
      scenario_private.local_instant(whole.day, p_time_zone, false) as starts_at,
      scenario_private.local_instant(whole.day + 1, p_time_zone, false) as ends_at
    from (
      select (p_first at time zone p_time_zone)::date + place.number as day
      from generate_series(
        0, (p_last at time zone p_time_zone)::date - (p_first at time zone p_time_zone)::date
      ) as place (number)
    ) as whole
  ) as begun
$$;
revoke all on function scenario_private.days_between(timestamptz, timestamptz, timestamptz, timestamptz, text)
  from public, anon, authenticated;
grant execute on function scenario_private.days_between(timestamptz, timestamptz, timestamptz, timestamptz, text)
  to service_role;

-- Counts an organization's notifications from p_since (inclusive) to p_until (exclusive), per day of p_time_zone,
-- scenario type, delivery status and, for failed ones, the code.
--   out  {"time_zone", "lines": [{"day", "scenario_type", "delivery_status", "failure_code", "notifications"}]}, only
--        what is not zero; failure_code is null but for failed ones
-- A day on which fewer than 5 persons stand behind a number has no line of it. All such days of a type, status and code
-- make one line whose day is null; its notifications are null where they too are of fewer than 5 persons. Nothing is
-- told that a hidden number could be reckoned from: there is no sum over days, types or codes. Whoever asks for periods
-- that overlap can still reckon: give figures of fixed periods away, not this function.
-- Raises SR001 if an argument is missing, p_until is before p_since, or PostgreSQL knows no such time zone.
create or replace function public.scenario_get_organization_report(
  p_organization_id uuid,
  p_since timestamptz,
  p_until timestamptz,
  p_time_zone text default 'UTC',
  p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set timezone = 'UTC'
-- Each part is found by an index; compiling it takes longer than running it.
set jit = off
set enable_seqscan = off
as $$
declare
  first_at timestamptz;
  last_at timestamptz;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_organization_id', p_organization_id);
  perform scenario_private.require_given('p_since', p_since);
  perform scenario_private.require_given('p_until', p_until);
  if p_until < p_since then
    raise exception using errcode = 'SR001', message = 'expected p_until not before p_since';
  end if;
  perform scenario_private.require_time_zone('p_time_zone', p_time_zone);
  -- A period may have a hundred years of which a month has something.
  select min(found.first_at), max(found.last_at) into first_at, last_at
  from unnest(scenario_private.scenario_types()) as scenario (type)
  cross join lateral (
    select min(counted.triggered_at) as first_at, max(counted.triggered_at) as last_at
    from public.scenario_notifications as counted
    where counted.organization_id = p_organization_id
      and counted.scenario_type = scenario.type
      and counted.triggered_at >= p_since
      and counted.triggered_at < p_until
  ) as found;
  return (
    with part as materialized (
      select between_them.*
      from scenario_private.days_between(p_since, p_until, first_at, last_at, p_time_zone) as between_them
      where first_at is not null
    ),
    per_day as materialized (
      select part.day, part.starts_at, part.ends_at, scenario.type as scenario_type, counted.notifications
      from part
      cross join unnest(scenario_private.scenario_types()) as scenario (type)
      cross join lateral (
        select count(*) as notifications
        from public.scenario_notifications as notification
        where notification.organization_id = p_organization_id
          and notification.scenario_type = scenario.type
          and notification.triggered_at >= part.starts_at
          and notification.triggered_at < part.ends_at
        offset 0
      ) as counted
      where counted.notifications > 0
    ),
    other as materialized (
      select
        part.day, failed.scenario_type, 'failed' as delivery_status, failed.failure_code, failed.notifications,
        failed.ids, null::uuid[] as user_ids
      from part
      cross join lateral (
        select
          notification.scenario_type, notification.failed_code as failure_code, count(*) as notifications,
          array_agg(notification.id) as ids
        from public.scenario_notifications as notification
        where notification.organization_id = p_organization_id
          and notification.is_failed
          and notification.triggered_at >= part.starts_at
          and notification.triggered_at < part.ends_at
        group by notification.scenario_type, notification.failed_code
        offset 0
      ) as failed
      union all
      select
        (handover.triggered_at at time zone p_time_zone)::date,
        handover.scenario_type,
        'pending',
        null,
        count(*),
        null,
        array_agg(handover.user_id)
      from scenario_private.handover as handover
      where handover.organization_id = p_organization_id
        and handover.triggered_at >= p_since
        and handover.triggered_at < p_until
      group by 1, 2
    ),
    tally as materialized (
      -- Five of the persons behind each number, or all where there are fewer.
      select
        other.day, other.scenario_type, other.delivery_status, other.failure_code, other.notifications,
        case
          when cardinality(first_few.persons) >= 5 or other.notifications <= 8 then first_few.persons
          else (
            select array_agg(distinct behind.user_id)
            from (
              select notification.user_id
              from public.scenario_notifications as notification
              where notification.id = any (other.ids)
              union all
              select unnest(other.user_ids)
            ) as behind (user_id)
          )
        end as persons
      from other
      cross join lateral (
        select array_agg(distinct behind.user_id) as persons
        from (
          select notification.user_id
          from public.scenario_notifications as notification
          where notification.id = any (other.ids[:8])
          union all
          select unnest(other.user_ids[:8])
        ) as behind (user_id)
      ) as first_few
      union all
      select
        sent.day, sent.scenario_type, 'sent', null, sent.notifications,
        case
          when cardinality(first_few.persons) >= 5 or sent.notifications <= 8 then first_few.persons
          else (
            select array_agg(distinct notification.user_id)
            from public.scenario_notifications as notification
            where notification.organization_id = p_organization_id
              and notification.scenario_type = sent.scenario_type
              and notification.triggered_at >= sent.starts_at
              and notification.triggered_at < sent.ends_at
              and notification.delivery_status = 'sent'
          )
        end
      from (
        select
          per_day.day, per_day.starts_at, per_day.ends_at, per_day.scenario_type,
          (per_day.notifications - coalesce(sum(other.notifications), 0))::bigint as notifications
        from per_day
        left join other on other.day = per_day.day and other.scenario_type = per_day.scenario_type
        group by per_day.day, per_day.starts_at, per_day.ends_at, per_day.scenario_type, per_day.notifications
        having per_day.notifications > coalesce(sum(other.notifications), 0)
      ) as sent
      cross join lateral (
        select array_agg(distinct few.user_id) as persons
        from (
          select notification.user_id
          from public.scenario_notifications as notification
          where notification.organization_id = p_organization_id
            and notification.scenario_type = sent.scenario_type
            and notification.triggered_at >= sent.starts_at
            and notification.triggered_at < sent.ends_at
            and notification.delivery_status = 'sent'
          limit 8
        ) as few
      ) as first_few
    ),
    line as (
      select tally.day, tally.scenario_type, tally.delivery_status, tally.failure_code, tally.notifications
      from tally
      where scenario_private.shown(cardinality(tally.persons)) is not null
      union all
      select
        null, hidden.scenario_type, hidden.delivery_status, hidden.failure_code,
        case when scenario_private.shown(count(distinct person.user_id)) is not null
          then sum(hidden.notifications) filter (where person.place = 1) end
      from tally as hidden
      cross join unnest(hidden.persons) with ordinality as person (user_id, place)
      where scenario_private.shown(cardinality(hidden.persons)) is null
      group by hidden.scenario_type, hidden.delivery_status, hidden.failure_code
    )
    select json_build_object(
      'time_zone', p_time_zone,
      'lines', coalesce(
        json_agg(
          json_build_object(
            'day', line.day,
            'scenario_type', line.scenario_type,
            'delivery_status', line.delivery_status,
            'failure_code', line.failure_code,
            'notifications', line.notifications
          )
          order by line.day, line.scenario_type, line.delivery_status, line.failure_code
        ),
        '[]'
      )
    )
    from line
  );
end
$$;
revoke all on function public.scenario_get_organization_report(uuid, timestamptz, timestamptz, text, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_get_organization_report(uuid, timestamptz, timestamptz, text, integer)
  to service_role;

-- supabase/schemas/18_status.sql ======================================================================================

-- How things stand: one look at the passes, at what waits, and at what failed lately. Of the system as a whole and for
-- its operator: exact numbers, also where fewer than 5 persons stand behind them, since one failure is one to look into.

-- Says how things stand, for each scenario type.
--   out  {"version", "scenarios": […], "failures": […]}
--   a scenario  {"scenario_type", "is_enabled", "overriding": how many organizations override a setting, "evaluated",
--        "due", "claimed", "skipped", "history", "seconds": of the pass under way or the last one (seconds: the sum of its
--        pages, also of those that ran at once), "finished_at": when the last pass over all ended, "is_under_way",
--        "organization_pass_finished_at": when the newest pass over one organization ended; of the pending ones "waiting": not due yet, "due_now", "leased", "unsettled": those whose
--        last lease nobody settled, "oldest_due_at": since when the one waits that has been due longest; null if none
--        is due}
--   a failure   {"scenario_type", "failure_code", "last_day", "last_week"}: how many failed so in 24 hours and in 7 days
-- A failure is found if it was triggered within the longest deliver_within and 30 days before these 7 days.
create or replace function public.scenario_get_status(p_needs_schema integer default null)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
set timezone = 'UTC'
as $$
declare
  triggered_after timestamptz;
begin
  perform scenario_private.require_schema(p_needs_schema);
  select now() - interval '37 days' - max(config.deliver_within) into triggered_after
  from public.scenario_evaluation_config as config;
  return (
    with backlog as materialized (
      select
        handover.scenario_type,
        count(*) filter (where handover.is_leased) as leased,
        count(*) filter (where handover.is_due and not handover.is_leased) as due_now,
        count(*) filter (where not handover.is_due and not handover.is_leased) as waiting,
        count(*) filter (where handover.unsettled_leases > 0) as unsettled,
        min(handover.next_attempt_at) filter (where handover.is_due and not handover.is_leased) as oldest_due_at
      from (
        select
          row.scenario_type, row.next_attempt_at, row.unsettled_leases,
          row.next_attempt_at <= now() as is_due,
          row.leased_until is not null and row.leased_until > now() as is_leased
        from scenario_private.handover as row
      ) as handover
      group by handover.scenario_type
    ),
    organizations as (
      select
        config.scenario_type,
        -- A row that only keeps a pass overrides nothing.
        count(*) filter (
          where exists (
            select
            from jsonb_object_keys(jsonb_strip_nulls(to_jsonb(config))) as given (name)
            where given.name !~ '^pass_' and given.name not in ('id', 'scenario_type', 'organization_id')
          )
        ) as overriding,
        max(config.pass_finished_at) as finished_at
      from public.scenario_evaluation_config as config
      where config.organization_id is not null
      group by config.scenario_type
    )
    select json_build_object(
      'version', scenario_private.schema_version(),
      'scenarios', (
        select coalesce(
          json_agg(
            json_build_object(
              'scenario_type', config.scenario_type,
              'is_enabled', config.is_enabled,
              'overriding', coalesce(organizations.overriding, 0),
              'evaluated', pass.evaluated,
              'due', pass.due,
              'claimed', pass.claimed,
              'skipped', pass.skipped,
              'history', pass.history,
              'seconds', extract(epoch from pass.duration),
              'finished_at', pass.finished_at,
              'is_under_way', pass.is_under_way,
              'organization_pass_finished_at', organizations.finished_at,
              'waiting', coalesce(backlog.waiting, 0),
              'due_now', coalesce(backlog.due_now, 0),
              'leased', coalesce(backlog.leased, 0),
              'unsettled', coalesce(backlog.unsettled, 0),
              'oldest_due_at', backlog.oldest_due_at
            )
            order by array_position(scenario_private.scenario_types(), config.scenario_type), config.scenario_type
          ),
          '[]'
        )
        from public.scenario_evaluation_config as config
        join scenario_private.pass as pass on pass.id = config.id
        left join backlog on backlog.scenario_type = config.scenario_type
        left join organizations on organizations.scenario_type = config.scenario_type
        where config.organization_id is null
      ),
      'failures', (
        select coalesce(
          json_agg(
            json_build_object(
              'scenario_type', tally.scenario_type,
              'failure_code', tally.failure_code,
              'last_day', tally.last_day,
              'last_week', tally.last_week
            )
            order by tally.scenario_type, tally.failure_code
          ),
          '[]'
        )
        from (
          select
            failed.scenario_type,
            failed.failure_code,
            count(*) filter (where failed.settled_at > now() - interval '1 day') as last_day,
            count(*) as last_week
          from public.scenario_notifications as failed
          where failed.is_failed
            and failed.triggered_at > triggered_after
            and failed.settled_at > now() - interval '7 days'
          group by failed.scenario_type, failed.failure_code
        ) as tally
      )
    )
  );
end
$$;
revoke all on function public.scenario_get_status(integer) from public, anon, authenticated;
grant execute on function public.scenario_get_status(integer) to service_role;

-- supabase/schemas/19_inactive_mentors.sql ============================================================================

-- Contingency: the inactivity aggregation alone, for a role that may not read the tables.
--
-- The engine runs as service_role and needs no such thing: evaluation is security invoker throughout. Where a project
-- restricts its service role (no select on activities or peer_mentors), this one function still answers who has gone
-- quiet. It is security definer for that reason alone, and its scope is as small as the question: one organization,
-- which must be named; active mentors only; a user_id and a time, nothing else; a bounded page. It writes nothing and
-- claims nothing: hand the answer to scenario_claim_notifications.
--
-- search_path is empty and every name qualified, so that no caller's objects get in between; no text is executed.

-- The active mentors of an organization without activity for p_inactive_after, by user_id; p_limit after p_after.
--   out  {"mentors": [{"user_id", "last_activity_at"}]}; fewer than p_limit is the end, else go on after the last
--        user_id
-- The meaning is the inactivity rule's: a user's activities count whichever organization they belong to, future ones do
-- not, the boundary is inclusive, days off that stop the clock are left out, and a mentor who was never active has not
-- gone quiet.
-- Raises SR001 without an organization, for a period that is not positive or longer than 36,525 days, or a limit
-- outside 1 to 10,000.
create or replace function public.scenario_find_inactive_mentors(
  p_organization_id uuid,
  p_inactive_after interval,
  p_limit integer default 1000,
  p_after uuid default null,
  p_needs_schema integer default null
)
returns json
language plpgsql
stable
security definer
set search_path = ''
set jit = off
set timezone = 'UTC'
as $$
declare
  stopped tstzmultirange;
  quiet_since timestamptz;
begin
  perform scenario_private.require_schema(p_needs_schema);
  if p_organization_id is null then
    raise exception using errcode = 'SR001', message = 'expected an organization';
  end if;
  if p_inactive_after is null
    or p_inactive_after <= interval '0'
    or p_inactive_after > interval '36525 days'
  then
    raise exception using errcode = 'SR001', message = 'expected a period of more than 0 and at most 36525 days';
  end if;
  perform scenario_private.require_between('p_limit', p_limit, 1, 10000);
  select clock.stopped into stopped
  from scenario_private.stopped_clock as clock
  where clock.organization_id = p_organization_id or clock.organization_id is null
  order by clock.organization_id nulls last
  limit 1;
  quiet_since := case
    when stopped is null then now() - p_inactive_after
    else scenario_private.clock_back(now(), p_inactive_after, stopped)
  end;

  return (
    select json_build_object('mentors', coalesce(
      json_agg(
        json_build_object('user_id', quiet.user_id, 'last_activity_at', quiet.activity_date)
        order by quiet.user_id
      ),
      '[]'
    ))
    from (
      select mentor.user_id, last.activity_date
      from scenario_source.mentors as mentor
      cross join lateral (
        select activity.activity_date
        from scenario_source.activities as activity
        where activity.user_id = mentor.user_id
          and activity.activity_date <= now()
        order by activity.activity_date desc
        limit 1
      ) as last
      where mentor.organization_id = p_organization_id
        and mentor.is_active
        -- One index range, with p_after and without.
        and mentor.user_id >= coalesce(p_after, '00000000-0000-0000-0000-000000000000')
        and mentor.user_id is distinct from p_after
        and last.activity_date <= quiet_since
      order by mentor.user_id
      limit p_limit
    ) as quiet
  );
end
$$;
comment on function public.scenario_find_inactive_mentors(uuid, interval, integer, uuid, integer) is
  'One organization''s active mentors without activity for a period: for a service role that may not read the tables.';
revoke all on function public.scenario_find_inactive_mentors(uuid, interval, integer, uuid, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_find_inactive_mentors(uuid, interval, integer, uuid, integer) to service_role;

-- supabase/schemas/20_catalogue.sql ===================================================================================

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

-- supabase/schemas/rules/certification_expiry.sql =====================================================================

-- certification_expiry: a certificate of this organization lapses within expires_within, has not lapsed yet, and is not
-- renewed: no certificate of the same user, organization and kind lapses later. A certificate without a kind renews
-- nothing. What it is about is the kinds, and the certificates without one. The facts list the certificates (the 50
-- that lapse first: metadata is bounded).
create or replace view scenario_private.certification_expiry_rule
with (security_invoker = true)
as
select
  setting.scenario_type,
  setting.user_id,
  setting.organization_id,
  setting.is_active,
  setting.is_enabled,
  setting.is_evaluated,
  setting.cooldown,
  null::integer as milestone_value,
  expiring.certificate_ids is not null as is_due,
  case when expiring.certificate_ids is not null then 'certificate_expiring' else 'no_certificate_expiring' end
    as finding,
  jsonb_build_object('certificate_ids', expiring.certificate_ids, 'expires_at', expiring.expires_at) as facts,
  coalesce(expiring.subjects, '{}') as subjects,
  null::timestamptz as crossed_at,
  setting.history_before,
  null::timestamptz as series_began_at,
  null::integer as series_limit,
  expiring.certificate_ids is not null as stands
from scenario_private.mentor_setting as setting
left join lateral (
  select
    jsonb_agg(certificate.id order by certificate.expires_at, certificate.id) as certificate_ids,
    min(certificate.expires_at) as expires_at,
    array_agg(
      distinct
      case
        when certificate.kind is null then certificate.id
        when certificate.kind ~ '^[A-Za-z_ -]+[0-9]{0,4}$' and char_length(certificate.kind) <= 64 then certificate.kind
        else scenario_private.subject_of(certificate.kind)
      end
    ) as subjects
  from (
    select
      -- An ordinary one is spared the function; so is an ordinary kind.
      case
        when held.certificate_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then held.certificate_id
        else scenario_private.subject_of(held.certificate_id)
      end as id,
      held.kind,
      held.expires_at
    from scenario_source.certificates as held
    where held.user_id = setting.user_id
      and held.organization_id = setting.organization_id
      and held.expires_at > now()
      and held.expires_at <= setting.expires_until
      and not exists (
        select
        from scenario_source.certificates as renewal
        where renewal.user_id = held.user_id
          and renewal.organization_id = held.organization_id
          and renewal.kind = held.kind
          and renewal.expires_at > held.expires_at
      )
    order by held.expires_at
    limit 50
  ) as certificate
) as expiring on true
where setting.scenario_type = 'certification_expiry';
comment on view scenario_private.certification_expiry_rule is
  'Due: at least one certificate of the organization lapses within expires_within, has not lapsed and is not renewed.';
revoke all on table scenario_private.certification_expiry_rule from public, anon, authenticated;
grant select on table scenario_private.certification_expiry_rule to service_role;

-- Hoped for: one of the certificates that it named is renewed, as the rule judges it: a later one of its kind is there.
-- Or, where it named one alone, that one's time was moved, or a new row took its place. No date says when: what counts
-- is whether it is so by now.
create or replace view scenario_private.certification_expiry_hope
with (security_invoker = true)
as
select
  notification.id as notification_id,
  case
    when exists (
      select
      from scenario_source.certificates as held
      cross join lateral (
        select
          case
            when held.certificate_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then held.certificate_id
            else scenario_private.subject_of(held.certificate_id)
          end as id
      ) as known
      where held.user_id = notification.user_id
        and held.organization_id = notification.organization_id
        and (
          (
            notification.metadata -> 'certificate_ids' ? known.id
            and exists (
              select
              from scenario_source.certificates as renewal
              where renewal.user_id = held.user_id
                and renewal.organization_id = held.organization_id
                and renewal.kind = held.kind
                and renewal.expires_at > held.expires_at
            )
          )
          or (
            held.expires_at > told.expires_at
            and coalesce(scenario_private.subject_of(held.kind), known.id) = any (notification.subjects)
          )
        )
    )
      then notification.settled_at
  end as hoped_at
from public.scenario_notifications as notification
cross join lateral (
  -- An evaluation's facts are the rule's; an app's own may hold anything.
  select case
    when notification.origin = 'evaluation'
      and cardinality(notification.subjects) = 1
      and notification.metadata ->> 'expires_at' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+[+]00:00$'
      then (notification.metadata ->> 'expires_at')::timestamptz
  end as expires_at
) as told
where notification.scenario_type = 'certification_expiry';
comment on view scenario_private.certification_expiry_hope is
  'Hoped for: one of the certificates that it named is renewed by now.';
revoke all on table scenario_private.certification_expiry_hope from public, anon, authenticated;
grant select on table scenario_private.certification_expiry_hope to service_role;

-- supabase/schemas/rules/inactivity.sql ===============================================================================

-- inactivity: no activity for inactive_after, and at most max_reminders of it until the next activity. A mentor who was
-- never active has not gone quiet: there is nothing to measure from (peer_mentors has no date of joining), and somebody
-- who joined today must not be told so. Days off that stop the clock are left out of the length.
create or replace view scenario_private.inactivity_rule
with (security_invoker = true)
as
select
  setting.scenario_type,
  setting.user_id,
  setting.organization_id,
  setting.is_active,
  setting.is_enabled,
  setting.is_evaluated,
  setting.cooldown,
  null::integer as milestone_value,
  last.activity_date <= setting.inactive_since as is_due,
  case
    when last.activity_date is null then 'never_active'
    when last.activity_date <= setting.inactive_since then 'inactive'
    else 'recently_active'
  end as finding,
  jsonb_build_object('last_activity_at', last.activity_date) as facts,
  '{}'::text[] as subjects,
  case
    when setting.stopped is null then last.activity_date + setting.inactive_after
    else scenario_private.clock_forward(last.activity_date, setting.inactive_after, setting.stopped)
  end as crossed_at,
  setting.history_before,
  last.activity_date as series_began_at,
  setting.max_reminders as series_limit,
  last.activity_date <= setting.inactive_since as stands
from scenario_private.mentor_setting as setting
left join lateral (
  select activity.activity_date
  from scenario_source.activities as activity
  where activity.user_id = setting.user_id
    and activity.activity_date <= now()
  order by activity.activity_date desc
  limit 1
) as last on true
where setting.scenario_type = 'inactivity';
comment on view scenario_private.inactivity_rule is
  'Due: no activity for inactive_after, and at least one before that.';
revoke all on table scenario_private.inactivity_rule from public, anon, authenticated;
grant select on table scenario_private.inactivity_rule to service_role;

-- Hoped for: she is active again.
create or replace view scenario_private.inactivity_hope
with (security_invoker = true)
as
select further.notification_id, further.hoped_at
from scenario_private.further_activity as further
where further.scenario_type = 'inactivity';
comment on view scenario_private.inactivity_hope is
  'Hoped for: she is active again.';
revoke all on table scenario_private.inactivity_hope from public, anon, authenticated;
grant select on table scenario_private.inactivity_hope to service_role;

-- supabase/schemas/rules/milestone.sql ================================================================================

-- milestone: the number of activities reached a threshold above every milestone the user has. Only the highest is
-- due: a first run over old data sends one notification, not one per threshold, and a threshold that is added below
-- what a user has already reached and been told stays silent. A failed milestone that is not held for good is not one
-- the user has.
create or replace view scenario_private.milestone_rule
with (security_invoker = true)
as
select
  setting.scenario_type,
  setting.user_id,
  setting.organization_id,
  setting.is_active,
  setting.is_enabled,
  setting.is_evaluated,
  setting.cooldown,
  reached.milestone_value,
  reached.milestone_value > coalesce(recorded.milestone_value, 0) as is_due,
  case
    when reached.milestone_value is null then 'no_milestone_yet'
    when reached.milestone_value > coalesce(recorded.milestone_value, 0) then 'milestone_crossed'
    else 'no_new_milestone'
  end as finding,
  jsonb_build_object('activity_count', counted.activity_count, 'reached_at', crossed.activity_date) as facts,
  '{}'::text[] as subjects,
  crossed.activity_date as crossed_at,
  setting.history_before,
  null::timestamptz as series_began_at,
  null::integer as series_limit,
  reached.milestone_value is not null as stands
from scenario_private.mentor_setting as setting
left join lateral (
  select count(*) as activity_count
  from (
    select
    from scenario_source.activities as activity
    where activity.user_id = setting.user_id
      and activity.activity_date <= now()
    limit (select max(threshold.value) from unnest(setting.milestones) as threshold (value))
  ) as activity
) as counted on true
left join lateral (
  select max(threshold.value) as milestone_value
  from unnest(setting.milestones) as threshold (value)
  where threshold.value <= counted.activity_count
) as reached on true
left join lateral (
  select hold.milestone_value
  from scenario_private.hold as hold
  where reached.milestone_value is not null
    and hold.user_id = setting.user_id
    and hold.scenario_type = 'milestone'
    and (not hold.is_failed or hold.held_until = 'infinity')
    and hold.holds_until = 'infinity'
  order by hold.milestone_value desc
  limit 1
) as recorded on true
-- By which activity: asked only where the milestone is due.
left join lateral (
  select activity.activity_date
  from scenario_source.activities as activity
  where reached.milestone_value > coalesce(recorded.milestone_value, 0)
    and activity.user_id = setting.user_id
    and activity.activity_date <= now()
  order by activity.activity_date
  offset reached.milestone_value - 1
  limit 1
) as crossed on true
where setting.scenario_type = 'milestone';
comment on view scenario_private.milestone_rule is
  'Due: the activity count reached a threshold higher than every milestone the user has; the highest such one.';
revoke all on table scenario_private.milestone_rule from public, anon, authenticated;
grant select on table scenario_private.milestone_rule to service_role;

-- Hoped for: she goes on: a further activity.
create or replace view scenario_private.milestone_hope
with (security_invoker = true)
as
select further.notification_id, further.hoped_at
from scenario_private.further_activity as further
where further.scenario_type = 'milestone';
comment on view scenario_private.milestone_hope is
  'Hoped for: she goes on: a further activity.';
revoke all on table scenario_private.milestone_hope from public, anon, authenticated;
grant select on table scenario_private.milestone_hope to service_role;

-- supabase/schemas/rules/welcome_back.sql =============================================================================

-- welcome_back: the first activity inside the last returned_within comes at least inactive_after after the one before
-- it; once per return. A first activity ever is no return. An inactivity notice just before changes nothing: scenarios
-- are independent of each other. Days off that stop the clock are left out of the gap.
create or replace view scenario_private.welcome_back_rule
with (security_invoker = true)
as
select
  setting.scenario_type,
  setting.user_id,
  setting.organization_id,
  setting.is_active,
  setting.is_enabled,
  setting.is_evaluated,
  setting.cooldown,
  null::integer as milestone_value,
  returned.activity_date >= gap.ends_at as is_due,
  case
    when returned.activity_date is null then 'not_active_lately'
    when before.activity_date is null then 'newly_active'
    when returned.activity_date >= gap.ends_at then 'returned'
    else 'never_away'
  end as finding,
  jsonb_build_object('returned_at', returned.activity_date, 'last_activity_before', before.activity_date) as facts,
  '{}'::text[] as subjects,
  returned.activity_date as crossed_at,
  setting.history_before,
  gap.ends_at as series_began_at,
  1 as series_limit,
  -- The return is the latest, and she is still here: asked of what was claimed, also after returned_within.
  exists (
    select
    from scenario_source.activities as activity
    where activity.user_id = setting.user_id
      and activity.activity_date > setting.inactive_since
      and activity.activity_date <= now()
  ) as stands
from scenario_private.mentor_setting as setting
left join lateral (
  select activity.activity_date
  from scenario_source.activities as activity
  where activity.user_id = setting.user_id
    and activity.activity_date >= setting.returned_since
    and activity.activity_date <= now()
  order by activity.activity_date
  limit 1
) as returned on true
left join lateral (
  select activity.activity_date
  from scenario_source.activities as activity
  where returned.activity_date is not null
    and activity.user_id = setting.user_id
    and activity.activity_date < setting.returned_since
  order by activity.activity_date desc
  limit 1
) as before on true
cross join lateral (
  select case
    when setting.stopped is null then before.activity_date + setting.inactive_after
    else scenario_private.clock_forward(before.activity_date, setting.inactive_after, setting.stopped)
  end as ends_at
) as gap
where setting.scenario_type = 'welcome_back';
comment on view scenario_private.welcome_back_rule is
  'Due: the first activity within returned_within follows a gap of at least inactive_after.';
revoke all on table scenario_private.welcome_back_rule from public, anon, authenticated;
grant select on table scenario_private.welcome_back_rule to service_role;

-- Hoped for: she stays: another activity.
create or replace view scenario_private.welcome_back_hope
with (security_invoker = true)
as
select further.notification_id, further.hoped_at
from scenario_private.further_activity as further
where further.scenario_type = 'welcome_back';
comment on view scenario_private.welcome_back_hope is
  'Hoped for: she stays: another activity.';
revoke all on table scenario_private.welcome_back_hope from public, anon, authenticated;
grant select on table scenario_private.welcome_back_hope to service_role;
