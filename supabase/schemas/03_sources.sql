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
