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

-- Raises SR006 if the caller needs a newer schema than this one. Null, a caller that doesn't say, passes.
-- Every function of the API asks this first: a mismatch is refused before anything is read or written.
create or replace function scenario_private.require_schema(p_needed_version integer)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
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

-- supabase/schemas/03_sources.sql =====================================================================================

-- The sources: mentors, activities, certificates and device tokens, as the rules and the lease read them.
--
-- They are four views in scenario_source, the one seam to the app's own tables:
--   mentors        user_id uuid, organization_id uuid, is_active boolean
--   activities     user_id uuid, activity_date timestamptz
--   certificates   certificate_id text, user_id uuid, organization_id uuid, kind text (or null), expires_at timestamptz
--   device_tokens  user_id uuid, token text, platform text
--
-- An app whose tables have other names, types or meanings makes a view of its own before this file runs, or replaces
-- one later (docs/own-tables.md). A view that is there is kept. For every other one the default is made: over the
-- app's table public.peer_mentors, activities, certifications or device_tokens if there is one, and else over a new
-- table, closed: row level security on, nothing for public, anon and authenticated, everything for service_role. An
-- app's table keeps its columns, policies and grants; it gets the indexes that the rules need.
--
-- What does not fit is told in one message (SR007), before anything is made.

do $sources$
declare
  misfits text;
  misfitting_views text;
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
        '{user_id uuid, token text, platform text}',
        '{user_id uuid, token text, platform text}'
      )
  ),
  -- What will be read: whatever has the view's name, else whatever has the table's name. Types are looked for as well:
  -- a table makes a type of its own name.
  source as (
    select wanted.view_name, named.*, relation.oid as relation_id, relation.relkind, relation.relowner
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
  misfit (view_name, text) as (
    select
      source.view_name,
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
      source.view_name,
      format('%s: expected the owner %s, got %s', source.full_name, current_user, source.relowner::regrole)
    from source
    where (source.is_view or source.relkind in ('r', 'p')) and not pg_has_role(source.relowner, 'usage')
    union all
    select
      source.view_name,
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
  )
  select
    string_agg(E'\n  ' || misfit.text, '' order by misfit.text),
    string_agg(distinct format('scenario_source.%I', misfit.view_name), ', ')
  into misfits, misfitting_views
  from misfit;

  if misfits is not null then
    -- The remedy is part of the message: the Supabase CLI shows no hints.
    raise exception using
      errcode = 'SR007',
      message = format(
        E'this project''s own tables don''t have what scenario_repo reads; nothing was changed%s\n'
          'Remedy: in a migration before this one, create or correct the views that translate your tables: %s'
          ' (docs/own-tables.md).',
        misfits, misfitting_views
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
      primary key (user_id, token),
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

  create view scenario_source.device_tokens
  with (security_invoker = true)
  as
  select device.user_id::uuid as user_id, device.token::text as token, device.platform::text as platform
  from public.device_tokens as device;
  comment on view scenario_source.device_tokens is
    'Where a user''s notifications are delivered.';
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
-- on, from pending to sent or failed, and failed is final. Two unique constraints make double notification
-- impossible, whoever writes:
--   * one_claim_per_window: a claim's cooldown_window_start is the triggered_at of that user's previous claim of
--     the same scenario type ('epoch' for the first), so every claim has one successor at the most;
--   * one_notification_per_milestone: a milestone that has not failed exists once per user, for ever.
-- A row without cooldown_window_start was recorded unconditionally, by a plain insert.
--
-- The list of scenario types in the CHECK is the one that functions read, by scenario_private.scenario_types.

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
  attempt_count integer not null default 0,
  next_attempt_at timestamptz not null default now(),
  failure_code text,

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
  constraint scenario_notifications_attempt_count_is_not_negative
    check (attempt_count >= 0),
  constraint scenario_notifications_failure_code_is_a_code
    check (failure_code is null or (failure_code ~ '^[a-z][a-z0-9_]{0,62}$' and delivery_status <> 'sent')),
  -- The expression spares an ordinary small object the function: see scenario_private.holds_personal_data.
  constraint scenario_notifications_metadata_holds_no_personal_data
    check (
      metadata::text !~ '[^ -$&-?A-\[\]-~]|\+..[^:]|[-.0-9 /()]{8}[^-+0-9A-Za-z]'
      or not scenario_private.holds_personal_data(metadata)
    ),
  constraint scenario_notifications_one_claim_per_window
    unique (user_id, scenario_type, cooldown_window_start)
)
-- Index-only look-ups need the visibility map: vacuum after 5 % of new rows instead of 20 %.
with (autovacuum_vacuum_insert_scale_factor = 0.05);

comment on table public.scenario_notifications is
  'One row is one notification of a scenario to a user: pending, then sent or failed. Holds no personal data.';
comment on column public.scenario_notifications.triggered_at is
  'When the scenario was triggered; the cooldown is measured from here.';
comment on column public.scenario_notifications.milestone_value is
  'The activity count that was reached, for scenario_type milestone only.';
comment on column public.scenario_notifications.cooldown_window_start is
  'The triggered_at of the claim before this one, epoch for the first; null for rows recorded by a plain insert.';
comment on column public.scenario_notifications.attempt_count is
  'How often the row was leased for delivery; also the lease''s token: it changes with every lease.';
comment on column public.scenario_notifications.next_attempt_at is
  'When a pending row may be leased; a lease pushes it ahead.';
comment on column public.scenario_notifications.failure_code is
  'Why the last attempt failed: a short code, never text of the provider''s, which may hold personal data.';

create index if not exists scenario_notifications_user_id_scenario_type_triggered_at_idx
  on public.scenario_notifications (user_id, scenario_type, triggered_at desc);
comment on index public.scenario_notifications_user_id_scenario_type_triggered_at_idx is
  'Serves: the rolling cooldown check of a claim (the newest row that has not failed), and a user''s history.';

create index if not exists scenario_notifications_organization_id_scenario_type_idx
  on public.scenario_notifications (organization_id, scenario_type, triggered_at desc);
comment on index public.scenario_notifications_organization_id_scenario_type_idx is
  'Serves: the report of an organization over a period.';

create index if not exists scenario_notifications_sent_idx
  on public.scenario_notifications (user_id, scenario_type, triggered_at desc)
  where delivery_status = 'sent';
comment on index public.scenario_notifications_sent_idx is
  'Serves: get_last_sent_at and has_been_sent_since_threshold, index-only.';

create unique index if not exists scenario_notifications_one_notification_per_milestone
  on public.scenario_notifications (user_id, milestone_value)
  where scenario_type = 'milestone' and delivery_status <> 'failed';
comment on index public.scenario_notifications_one_notification_per_milestone is
  'Keeps a milestone once per user; serves: get_milestone_record and the claim of a milestone.';

create index if not exists scenario_notifications_pending_idx
  on public.scenario_notifications (next_attempt_at)
  where delivery_status = 'pending';
comment on index public.scenario_notifications_pending_idx is
  'Serves: the lease (the pending rows that are due, oldest first).';

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

-- supabase/schemas/06_history.sql =====================================================================================

-- History is kept: a row's past can't be rewritten, and sent and failed are final. A change of status that is not
-- listed here is refused.
--
-- The cooldown rests on it. A failed row frees its cooldown, so another may have been claimed since: were the failed
-- one sent after all, two would stand inside one cooldown. A sent one that were pending again would be sent twice. And
-- a row moved in time or to another user would break the chain of claims.

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
  before update of id, user_id, organization_id, scenario_type, triggered_at, milestone_value, cooldown_window_start
  on public.scenario_notifications
  for each row
  when (
    (old.id, old.user_id, old.organization_id, old.scenario_type, old.triggered_at)
      is distinct from (new.id, new.user_id, new.organization_id, new.scenario_type, new.triggered_at)
    or (old.milestone_value, old.cooldown_window_start)
      is distinct from (new.milestone_value, new.cooldown_window_start)
  )
  execute function scenario_private.refuse_rewriting_history('whose, which and when are fixed');

-- supabase/schemas/07_scenario_types.sql ==============================================================================

-- The scenario types: the built-in four, and an app's own.
--
-- The CHECK of scenario_notifications is the list; every function that needs it asks scenario_private.scenario_types.
-- A type has a rule (the view scenario_private.<type>_rule) and a default row in scenario_evaluation_config.
-- `scenario-repo new-scenario` writes the migration that adds one.

-- The types that the CHECK lists, in its order.
create or replace function scenario_private.scenario_types()
returns text[]
language sql
stable
set search_path = ''
as $$
  select array(
    select literal.captured[1]
    from pg_catalog.pg_constraint as list
    cross join lateral pg_catalog.regexp_matches(pg_catalog.pg_get_constraintdef(list.oid), '''([a-z0-9_]+)''', 'g')
      with ordinality as literal (captured, ordinal)
    where list.conrelid = 'public.scenario_notifications'::regclass
      and list.conname = 'scenario_notifications_scenario_type_is_known'
    order by literal.ordinal
  )
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
  pass_evaluated bigint not null default 0,
  pass_due bigint not null default 0,
  pass_claimed bigint not null default 0,
  pass_skipped bigint not null default 0,
  pass_duration interval not null default '0',
  pass_finished_at timestamptz,
  resume_after uuid,

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
    ),
  -- A built-in scenario has the settings that its rule reads. A rule of the app's own may read any but milestones.
  constraint scenario_evaluation_config_settings_belong_to_their_scenario
    check (
      (cooldown is null or scenario_type <> 'milestone')
      and (inactive_after is null or scenario_type not in ('milestone', 'certification_expiry'))
      and (returned_within is null or scenario_type not in ('inactivity', 'milestone', 'certification_expiry'))
      and (expires_within is null or scenario_type not in ('inactivity', 'milestone', 'welcome_back'))
      and (milestones is null or scenario_type = 'milestone')
    ),
  constraint scenario_evaluation_config_intervals_are_positive
    check (least(cooldown, inactive_after, returned_within, expires_within) > interval '0'),
  constraint scenario_evaluation_config_intervals_are_at_most_36525_days
    check (greatest(cooldown, inactive_after, returned_within, expires_within) <= interval '36525 days'),
  -- A month is not a length of time; days are 24 hours here, in UTC.
  constraint scenario_evaluation_config_intervals_have_no_months
    check (
      coalesce(extract(year from cooldown) + extract(month from cooldown), 0) = 0
      and coalesce(extract(year from inactive_after) + extract(month from inactive_after), 0) = 0
      and coalesce(extract(year from returned_within) + extract(month from returned_within), 0) = 0
      and coalesce(extract(year from expires_within) + extract(month from expires_within), 0) = 0
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
comment on column public.scenario_evaluation_config.pass_finished_at is
  'When the last complete pass ended; the pass_ figures are those of the pass under way, or of the last one.';
comment on column public.scenario_evaluation_config.resume_after is
  'The last user_id the pass under way has evaluated; null when none is under way.';

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
  (scenario_type, is_enabled, cooldown, inactive_after, returned_within, expires_within, milestones)
values
  ('inactivity', true, '30 days', '30 days', null, null, null),
  ('milestone', true, null, null, null, null, '{10, 25, 50, 100, 250, 500, 1000}'),
  ('certification_expiry', true, '14 days', null, null, '30 days', null),
  ('welcome_back', true, '30 days', '30 days', '7 days', null, null)
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

-- Every mentor with the settings that hold for her: what the rules start from.
--
-- The instants that follow from the default settings are reckoned once a query: reckoned for every mentor, they were a
-- twentieth of a page. OFFSET 0 keeps the planner from moving the sums back to the mentors. Where an organization
-- overrides a setting, they are reckoned for its mentors.
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
  coalesce(now() - override.inactive_after, standard.inactive_since) as inactive_since,
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
  coalesce(override.milestones, standard.milestones) as milestones
from scenario_source.mentors as mentor
cross join (
  select
    config.*,
    now() - config.inactive_after as inactive_since,
    now() - least(config.returned_within, config.inactive_after) as returned_since,
    now() + config.expires_within as expires_until
  from public.scenario_evaluation_config as config
  where config.organization_id is null
  offset 0
) as standard
left join public.scenario_evaluation_config as override
  on override.scenario_type = standard.scenario_type
  and override.organization_id = mentor.organization_id;
comment on view scenario_private.mentor_setting is
  'Every mentor of every organization with the settings that hold there: the organization''s, or the default.';
revoke all on table scenario_private.mentor_setting from public, anon, authenticated;
grant select on table scenario_private.mentor_setting to service_role;

-- supabase/schemas/09_holding.sql =====================================================================================

-- What holds: a notification that has not failed refuses a later claim of the same, for a cooldown or, a milestone, for
-- ever. It is said here once: claim, evaluation, dry run, rules, explanations and look-ups read this view.

create or replace view scenario_private.holding
with (security_invoker = true)
as
select notification.*
from public.scenario_notifications as notification
where notification.delivery_status <> 'failed';
comment on view scenario_private.holding is
  'The notifications that refuse a later claim: pending and sent ones.';
revoke all on table scenario_private.holding from public, anon, authenticated;
grant select on table scenario_private.holding to service_role;

-- The notification that holds against a claim as of now, outside the calling statement's snapshot: volatile, so it sees
-- what was committed since the statement began, and tells the loser of a race who won.
create or replace function scenario_private.current_holder(
  p_user_id uuid, p_scenario_type text, p_cooldown interval, p_milestone_value integer
)
returns scenario_private.holding
language sql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
  select holding
  from scenario_private.holding as holding
  where holding.user_id = p_user_id
    and holding.scenario_type = p_scenario_type
    and (
      holding.milestone_value = p_milestone_value
      or (p_milestone_value is null and holding.triggered_at > now() - p_cooldown)
    )
  order by holding.triggered_at desc
  limit 1
$$;
revoke all on function scenario_private.current_holder(uuid, text, interval, integer) from public, anon, authenticated;
grant execute on function scenario_private.current_holder(uuid, text, interval, integer) to service_role;

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
language sql
stable
security definer
set search_path = ''
rows 10
as $$
  select
    asked.user_id,
    case when users.banned_until > now() and users.deleted_at is null then 'user_banned' else 'user_gone' end
  from unnest(p_user_ids) as asked (user_id)
  left join auth.users as users on users.id = asked.user_id
  where asked.user_id is not null
    and (users.id is null or users.deleted_at is not null or users.banned_until > now())
$$;
revoke all on function scenario_private.users_away(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.users_away(uuid[]) to service_role;

-- supabase/schemas/10_claim.sql =======================================================================================

-- The claim: a pending notification comes into being if, and only if, nothing holds against it.
--
-- A claim is a compare-and-swap on history. It reads the user's newest claim of the scenario type and writes that
-- row's triggered_at as its own cooldown_window_start, 'epoch' when there is none. Two concurrent claimers see the
-- same predecessor, write the same key, and the unique constraint one_claim_per_window lets one through. A later
-- claimer sees the new row, and the rolling check refuses it until the cooldown has passed. No locks on users, no
-- calendar slots, any isolation level (under repeatable read and above the loser gets 40001 and may try again).
--
-- The predecessor is the newest *claim*, of any status: a status change can't alter it, and a plain insert, which
-- stands outside the chain, can't give two claimers different keys. The rolling check counts plain inserts too.
--
-- The walk of a batch:
--   scenario_claim_notifications   the API: json in, json out
--   scenario_private.claim         the one way every claim takes, the API's and the evaluation's:
--     claim_fast_path                judges all rows and inserts those that nothing refuses, with a plain INSERT
--     claim_row_by_row               only if a constraint objected to that: finds out which rows it meant
--   scenario_private.judge_claims  what both ways share: each row's verdict, on the history before the batch
--
-- The constraints decide. The fast path trusts them with everything that is rare: a lost race, a repetition in the
-- batch, a user who is gone, an unknown scenario type, metadata that the table refuses. An objection undoes the whole
-- batch (a subtransaction), and the second way judges what the first one trusted.
--
-- In both ways rows go in by user_id, scenario_type, milestone_value: batches in whatever order can't deadlock.

-- Judges each claim by itself, on the history before the batch. Arrays of one length in; a row per element out, in the
-- order in which they are inserted. refusal is null for a claim that may be granted:
--
--   unknown_user         p_existing_user_ids has no user in the element's place
--   invalid_claim        a field is missing or out of bounds, or p_known_types lacks the scenario type
--   cooldown             held_by holds the cooldown, since held_since
--   milestone_reached    held_by is the record of this milestone
--   invalid_metadata     the table's constraints refuse the metadata
--
-- The fast path gives p_user_ids again as p_existing_user_ids, and null as p_known_types: users, types and metadata are
-- then left to the constraints. window_start and triggered_at are the new row's; triggered_at is now(), or just after
-- the predecessor if clocks went backwards, so that the chain never wedges.
-- Look-ups are lateral with limit 1, never a join the planner could turn into a scan of the table, and in the order of
-- the indexes: neighbours share pages.
create or replace function scenario_private.judge_claims(
  p_user_ids uuid[],
  p_existing_user_ids uuid[],
  p_organization_ids uuid[],
  p_scenario_types text[],
  p_cooldowns interval[],
  p_milestone_values integer[],
  p_metadata jsonb[],
  p_known_types text[]
)
returns table (
  ordinal bigint,
  user_id uuid,
  organization_id uuid,
  scenario_type text,
  cooldown interval,
  milestone_value integer,
  metadata jsonb,
  refusal text,
  held_by uuid,
  held_since timestamptz,
  triggered_at timestamptz,
  window_start timestamptz
)
language sql
stable
set search_path = ''
set timezone = 'UTC'
rows 1000
as $$
  select
    looked_up.ordinal,
    looked_up.user_id,
    looked_up.organization_id,
    looked_up.scenario_type,
    looked_up.cooldown,
    looked_up.milestone_value,
    looked_up.metadata,
    looked_up.refusal,
    looked_up.held_by,
    looked_up.held_since,
    greatest(now(), predecessor.triggered_at + interval '1 microsecond'),
    case when looked_up.milestone_value is null then coalesce(predecessor.triggered_at, 'epoch') end
  from (
    select
      checked.*,
      holder.id as held_by,
      holder.triggered_at as held_since,
      case
        when checked.fault is not null then checked.fault
        when holder.id is not null and checked.milestone_value is null then 'cooldown'
        when holder.id is not null then 'milestone_reached'
        when p_known_types is not null
          and checked.metadata is not null
          and not scenario_private.is_storable_metadata(checked.metadata)
          then 'invalid_metadata'
      end as refusal
    from (
      select
        element.*,
        case
          when element.user_id is not null and element.existing_user_id is null then 'unknown_user'
          when element.user_id is null
            or element.organization_id is null
            or element.scenario_type is null
            or element.scenario_type <> all (p_known_types)
            then 'invalid_claim'
          when element.scenario_type = 'milestone'
            then case when element.milestone_value > 0 and element.cooldown is null then null else 'invalid_claim' end
          when element.milestone_value is null
            and element.cooldown > interval '0'
            and element.cooldown <= interval '36525 days'
            then null
          else 'invalid_claim'
        end as fault
      from unnest(
        p_user_ids, p_existing_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values,
        p_metadata
      ) with ordinality as element (
        user_id, existing_user_id, organization_id, scenario_type, cooldown, milestone_value, metadata, ordinal
      )
      order by element.user_id, element.scenario_type, element.milestone_value
      offset 0
    ) as checked
    left join lateral (
      (
        select holding.id, holding.triggered_at
        from scenario_private.holding as holding
        where checked.fault is null
          and checked.milestone_value is null
          and holding.user_id = checked.user_id
          and holding.scenario_type = checked.scenario_type
          and holding.triggered_at > now() - checked.cooldown
        order by holding.triggered_at desc
        limit 1
      )
      union all
      (
        select holding.id, holding.triggered_at
        from scenario_private.holding as holding
        where checked.fault is null
          and checked.milestone_value is not null
          and holding.user_id = checked.user_id
          and holding.milestone_value = checked.milestone_value
          and holding.scenario_type = 'milestone'
        limit 1
      )
    ) as holder on true
    offset 0
  ) as looked_up
  left join lateral (
    select notification.triggered_at
    from public.scenario_notifications as notification
    where looked_up.refusal is null
      and looked_up.milestone_value is null
      and notification.user_id = looked_up.user_id
      and notification.scenario_type = looked_up.scenario_type
      and notification.cooldown_window_start is not null
    order by notification.cooldown_window_start desc
    limit 1
  ) as predecessor on true
$$;
revoke all on function
  scenario_private.judge_claims(uuid[], uuid[], uuid[], text[], interval[], integer[], jsonb[], text[])
  from public, anon, authenticated;
grant execute on function
  scenario_private.judge_claims(uuid[], uuid[], uuid[], text[], interval[], integer[], jsonb[], text[])
  to service_role;

-- Claims a batch to which no constraint objects: outcomes as of scenario_private.claim. Ids are made beforehand, so
-- that the INSERT needs neither ON CONFLICT nor RETURNING. An objection (unique, foreign key or check) raises, and
-- nothing is inserted.
create or replace function scenario_private.claim_fast_path(
  p_user_ids uuid[],
  p_organization_ids uuid[],
  p_scenario_types text[],
  p_cooldowns interval[],
  p_milestone_values integer[],
  p_metadata jsonb[]
)
returns table (
  ordinal bigint,
  id uuid,
  triggered_at timestamptz,
  cooldown_window_start timestamptz,
  skip_reason text,
  held_by uuid,
  ends_at timestamptz
)
language sql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
  with judged as materialized (
    select judged.*, case when judged.refusal is null then gen_random_uuid() end as id
    from scenario_private.judge_claims(
      p_user_ids, p_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values, p_metadata, null
    ) as judged
  ),
  inserted as (
    insert into public.scenario_notifications
      (id, user_id, organization_id, scenario_type, triggered_at, milestone_value, metadata, cooldown_window_start)
    select
      judged.id,
      judged.user_id,
      judged.organization_id,
      judged.scenario_type,
      judged.triggered_at,
      judged.milestone_value,
      judged.metadata,
      judged.window_start
    from judged
    where judged.id is not null
    order by judged.user_id, judged.scenario_type, judged.milestone_value
  )
  select
    judged.ordinal,
    judged.id,
    case when judged.id is not null then judged.triggered_at end,
    case when judged.id is not null then judged.window_start end,
    judged.refusal,
    judged.held_by,
    -- No later than a client's datetime can be.
    case
      when judged.held_since is not null and judged.cooldown is not null
        then least(judged.held_since + judged.cooldown, timestamptz '9999-12-31 23:59:59+00')
    end
  from judged
$$;
revoke all on function scenario_private.claim_fast_path(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  from public, anon, authenticated;
grant execute on function
  scenario_private.claim_fast_path(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  to service_role;

-- Claims a batch to which a constraint objected: outcomes as of scenario_private.claim. p_existing_user_ids has the
-- users who exist and can't be deleted meanwhile, in their places among p_user_ids, and null for the others. Metadata
-- and types are judged beforehand, and ON CONFLICT leaves out whoever lost a race: no constraint is left to object.
create or replace function scenario_private.claim_row_by_row(
  p_user_ids uuid[],
  p_existing_user_ids uuid[],
  p_organization_ids uuid[],
  p_scenario_types text[],
  p_cooldowns interval[],
  p_milestone_values integer[],
  p_metadata jsonb[]
)
returns table (
  ordinal bigint,
  id uuid,
  triggered_at timestamptz,
  cooldown_window_start timestamptz,
  skip_reason text,
  held_by uuid,
  ends_at timestamptz
)
language sql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
  with judged as materialized (
    select
      judged.*,
      row_number() over (
        partition by judged.user_id, judged.scenario_type, judged.milestone_value, judged.refusal is null
        order by judged.ordinal
      ) as repetition
    from scenario_private.judge_claims(
      p_user_ids,
      p_existing_user_ids,
      p_organization_ids,
      p_scenario_types,
      p_cooldowns,
      p_milestone_values,
      p_metadata,
      scenario_private.scenario_types()
    ) as judged
  ),
  inserted as (
    insert into public.scenario_notifications as notification
      (user_id, organization_id, scenario_type, triggered_at, milestone_value, metadata, cooldown_window_start)
    select
      judged.user_id,
      judged.organization_id,
      judged.scenario_type,
      judged.triggered_at,
      judged.milestone_value,
      judged.metadata,
      judged.window_start
    from judged
    where judged.refusal is null and judged.repetition = 1
    order by judged.user_id, judged.scenario_type, judged.milestone_value
    on conflict do nothing
    returning
      notification.id,
      notification.user_id,
      notification.scenario_type,
      notification.milestone_value,
      notification.triggered_at,
      notification.cooldown_window_start
  )
  select
    outcome.ordinal,
    outcome.id,
    outcome.triggered_at,
    outcome.cooldown_window_start,
    case
      when (outcome.winner).id is null then outcome.skip_reason
      when outcome.milestone_value is null then 'cooldown'
      else 'milestone_reached'
    end,
    coalesce(outcome.held_by, (outcome.winner).id),
    -- No later than a client's datetime can be.
    case
      when coalesce(outcome.held_since, (outcome.winner).triggered_at) is not null and outcome.cooldown is not null
        then least(
          coalesce(outcome.held_since, (outcome.winner).triggered_at) + outcome.cooldown,
          timestamptz '9999-12-31 23:59:59+00'
        )
    end
  from (
    select
      decided.*,
      case
        when decided.skip_reason = 'concurrent_claim' then scenario_private.current_holder(
          decided.user_id, decided.scenario_type, decided.cooldown, decided.milestone_value
        )
      end as winner
    from (
      select
        judged.ordinal,
        judged.user_id,
        judged.scenario_type,
        judged.cooldown,
        judged.milestone_value,
        judged.held_by,
        judged.held_since,
        inserted.id,
        inserted.triggered_at,
        inserted.cooldown_window_start,
        case
          when inserted.id is not null then null
          when judged.refusal is not null then judged.refusal
          when judged.repetition > 1 then 'duplicate_in_batch'
          else 'concurrent_claim'
        end as skip_reason
      from judged
      left join inserted
        on inserted.user_id = judged.user_id
        and inserted.scenario_type = judged.scenario_type
        and inserted.milestone_value is not distinct from judged.milestone_value
        and judged.refusal is null
        and judged.repetition = 1
    ) as decided
    offset 0 -- looks up the winner once, and after the insert
  ) as outcome
$$;
revoke all on function
  scenario_private.claim_row_by_row(uuid[], uuid[], uuid[], text[], interval[], integer[], jsonb[])
  from public, anon, authenticated;
grant execute on function
  scenario_private.claim_row_by_row(uuid[], uuid[], uuid[], text[], interval[], integer[], jsonb[])
  to service_role;

-- Claims a batch. Arrays of one length in; one outcome per element out, in any order: claimed (id is not null) or
-- skipped for a reason, one of scenario_private.judge_claims or:
--
--   duplicate_in_batch   an earlier element of the batch claims the same
--   concurrent_claim     another claimer was first, and its row has failed or gone since: claim again
--
-- Each element is judged on the history before the batch. Who lost a race is told cooldown or milestone_reached, with
-- the winner as held_by.
create or replace function scenario_private.claim(
  p_user_ids uuid[],
  p_organization_ids uuid[],
  p_scenario_types text[],
  p_cooldowns interval[],
  p_milestone_values integer[],
  p_metadata jsonb[]
)
returns table (
  ordinal bigint,
  id uuid,
  triggered_at timestamptz,
  cooldown_window_start timestamptz,
  skip_reason text,
  held_by uuid,
  ends_at timestamptz
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  existing_user_ids uuid[];
begin
  return query
  select *
  from scenario_private.claim_fast_path(
    p_user_ids, p_organization_ids, p_scenario_types, p_cooldowns, p_milestone_values, p_metadata
  );
exception
  when unique_violation or foreign_key_violation or check_violation then
    existing_user_ids := array(
      select existing.id
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      left join scenario_private.lock_existing_users(p_user_ids) as existing (id) on existing.id = element.user_id
      order by element.ordinal
    );
    return query
    select *
    from scenario_private.claim_row_by_row(
      p_user_ids,
      existing_user_ids,
      p_organization_ids,
      p_scenario_types,
      p_cooldowns,
      p_milestone_values,
      p_metadata
    );
end
$$;
revoke all on function scenario_private.claim(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  from public, anon, authenticated;
grant execute on function scenario_private.claim(uuid[], uuid[], text[], interval[], integer[], jsonb[])
  to service_role;

-- Claims a batch: a json array in, a json array of outcomes out, in the same order.
--   in   {"user_id", "organization_id", "scenario_type", "cooldown_seconds", "milestone_value", "metadata"}
--   out  {"id", "triggered_at", "cooldown_window_start"} of the new row, whose other columns the caller has given, or
--        {"skip_reason", "held_by", "ends_at"}
-- Raises SR001 for anything but an array, SR003 for more than 20,000 claims: one statement has to fit its timeout, and
-- splitting a batch would leave a caller whose second half failed not knowing about the first.
create or replace function public.scenario_claim_notifications(p_claims jsonb, p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  outcomes json;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_array('p_claims', p_claims, 20000);

  select coalesce(
    json_agg(
      case
        when outcome.id is null then json_build_object(
          'skip_reason', outcome.skip_reason,
          'held_by', outcome.held_by,
          'ends_at', outcome.ends_at
        )
        else json_build_object(
          'id', outcome.id,
          'triggered_at', outcome.triggered_at,
          'cooldown_window_start', outcome.cooldown_window_start
        )
      end
      order by outcome.ordinal
    ),
    '[]'
  )
  into outcomes
  from (
    select
      array_agg(claim.user_id) as user_ids,
      array_agg(claim.organization_id) as organization_ids,
      array_agg(claim.scenario_type) as scenario_types,
      array_agg(make_interval(secs => claim.cooldown_seconds)) as cooldowns,
      array_agg(claim.milestone_value) as milestone_values,
      array_agg(nullif(claim.metadata, 'null')) as metadata
    from (
      select *
      from rows from (
        jsonb_to_recordset(p_claims) as (
          user_id uuid,
          organization_id uuid,
          scenario_type text,
          cooldown_seconds double precision,
          milestone_value integer,
          metadata jsonb
        )
      ) with ordinality
      order by ordinality
    ) as claim
  ) as batch
  cross join lateral scenario_private.claim(
    batch.user_ids,
    batch.organization_ids,
    batch.scenario_types,
    batch.cooldowns,
    batch.milestone_values,
    batch.metadata
  ) as outcome;
  return outcomes;
end
$$;
revoke all on function public.scenario_claim_notifications(jsonb, integer) from public, anon, authenticated;
grant execute on function public.scenario_claim_notifications(jsonb, integer) to service_role;

-- supabase/schemas/11_look_ups.sql ====================================================================================

-- Look-ups for many users in one call: an array of ids in, one json array out, in the order of the ids. One value is
-- never cut at max_rows, and ids in a request body know no limit of a URL.
--
-- An unknown scenario type is SR004. More than 50,000 ids are SR003: the answer has to fit a statement's time and a
-- response's size. The ids are read in sorted order, which keeps neighbouring look-ups on the same index pages (1.4 to
-- 1.9 times faster).

-- When a notification of the type was last sent to each user: a timestamp or null.
create or replace function public.scenario_get_last_sent_at_many(
  p_user_ids uuid[], p_scenario_type text, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_scenario_type(p_scenario_type);
  return (
    select coalesce(json_agg(last_sent.triggered_at order by asked.ordinal), '[]')
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
      order by notification.triggered_at desc
      limit 1
    ) as last_sent on true
  );
end
$$;
revoke all on function public.scenario_get_last_sent_at_many(uuid[], text, integer) from public, anon, authenticated;
grant execute on function public.scenario_get_last_sent_at_many(uuid[], text, integer) to service_role;

-- Whether a notification of the type was sent to each user at the cutoff or later: true or false.
create or replace function public.scenario_has_been_sent_since_threshold_many(
  p_user_ids uuid[], p_scenario_type text, p_cutoff timestamptz, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  perform scenario_private.require_scenario_type(p_scenario_type);
  return (
    select coalesce(json_agg(last_sent.triggered_at is not null order by asked.ordinal), '[]')
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

-- The record that holds a milestone for each user, pending or sent: the row or null.
create or replace function public.scenario_get_milestone_record_many(
  p_user_ids uuid[], p_milestone_value integer, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_at_most(cardinality(p_user_ids), 50000);
  return (
    select coalesce(json_agg(record.row order by asked.ordinal), '[]')
    from (
      select element.user_id, element.ordinal
      from unnest(p_user_ids) with ordinality as element (user_id, ordinal)
      order by element.user_id
    ) as asked
    left join lateral (
      select to_json(holding) as row
      from scenario_private.holding as holding
      where holding.user_id = asked.user_id
        and holding.milestone_value = p_milestone_value
        and holding.scenario_type = 'milestone'
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
-- weeks. Whom a cooldown holds costs one index look-up: no facts are put together, nothing is sorted, and no claim is
-- made only to be refused. A dry run asks the same query and stops there.

-- Evaluates one page: the mentors after p_after, by user_id, p_limit active memberships or a few more (a user's
-- memberships are never split), of one organization or of all.
--   out  {"evaluated", "due", "claimed", "skipped": {reason: count}, "next_after"}; next_after is null at the end.
-- p_dry_run counts what would be claimed and writes nothing. Raises SR001 for a limit outside 1 to 100,000, SR004 for
-- an unknown scenario type, SR005 without its default settings, SR008 without its rule. Every page stands for itself:
-- repeated and overlapping calls are refused by the cooldown.
-- The queries are built for each call, so that they are planned for their own bounds (a generic plan costs up to 20
-- times).
create or replace function public.scenario_evaluate(
  p_scenario_type text,
  p_organization_id uuid default null,
  p_after uuid default null,
  p_limit integer default 10000,
  p_dry_run boolean default false,
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
  rule regclass;
  bounds text := '';
  last_user_id uuid;
  evaluated_count integer;
  due_count integer;
  held_count integer;
  candidate_count integer;
  user_ids uuid[];
  organization_ids uuid[];
  cooldowns interval[];
  milestone_values integer[];
  facts jsonb[];
  away_user_ids uuid[];
  away_reasons text[];
  skip_reasons text[];
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 100000);
  if p_dry_run is null then
    raise exception using errcode = 'SR001', message = 'expected p_dry_run as true or false, got null';
  end if;
  rule := scenario_private.rule_of(p_scenario_type);
  perform scenario_private.require_default_settings(p_scenario_type);

  if p_organization_id is not null then
    bounds := bounds || format(' and mentor.organization_id = %L', p_organization_id);
  end if;
  if p_after is not null then
    bounds := bounds || format(' and mentor.user_id > %L', p_after);
  end if;
  execute format(
    'select mentor.user_id
     from scenario_source.mentors as mentor
     where mentor.is_active%s
     order by mentor.user_id
     offset %s
     limit 1',
    bounds, p_limit - 1
  ) into last_user_id;
  if last_user_id is not null then
    bounds := bounds || format(' and mentor.user_id <= %L', last_user_id);
  end if;

  -- A milestone that is due is one the user does not have: only a cooldown holds. Of a user's memberships that are due
  -- and not held one is claimed for: that of the highest milestone or the shortest cooldown (if it refuses, so does
  -- every longer one), then of the lowest organization_id.
  execute format(
    'with mentor as materialized (
       select
         mentor.user_id,
         mentor.organization_id,
         mentor.cooldown,
         mentor.milestone_value,
         mentor.is_due,
         holder.is_held,
         case when mentor.is_due and holder.is_held is null then mentor.facts end as facts
       from %s as mentor
       left join lateral (
         select true as is_held
         from scenario_private.holding as holding
         where mentor.is_due
           and holding.user_id = mentor.user_id
           and holding.scenario_type = %L
           and holding.triggered_at > now()
             - case when mentor.cooldown is not null then least(mentor.cooldown, interval ''36525 days'') end
         order by holding.triggered_at desc
         limit 1
       ) as holder on true
       where mentor.is_evaluated%s
     )
     select tally.*, candidates.*
     from (
       select count(*), count(*) filter (where mentor.is_due), count(mentor.is_held)
       from mentor
     ) as tally
     cross join (
       select
         count(*),
         array_agg(candidate.user_id),
         array_agg(candidate.organization_id),
         array_agg(candidate.cooldown),
         array_agg(candidate.milestone_value),
         array_agg(candidate.facts)
       from (
         select distinct on (mentor.user_id) mentor.*
         from mentor
         where mentor.is_due and mentor.is_held is null
         order by mentor.user_id, mentor.milestone_value desc, mentor.cooldown, mentor.organization_id
       ) as candidate
     ) as candidates',
    rule, p_scenario_type, bounds
  ) into evaluated_count, due_count, held_count, candidate_count,
    user_ids, organization_ids, cooldowns, milestone_values, facts;

  -- Users who are gone or banned are not notified: the lease asks the same again.
  if candidate_count > 0 then
    select array_agg(away.user_id), array_agg(away.reason) into away_user_ids, away_reasons
    from scenario_private.users_away(user_ids) as away;
  end if;
  if cardinality(away_reasons) > 0 then
    select
      count(*),
      array_agg(candidate.user_id),
      array_agg(candidate.organization_id),
      array_agg(candidate.cooldown),
      array_agg(candidate.milestone_value),
      array_agg(candidate.facts)
    into candidate_count, user_ids, organization_ids, cooldowns, milestone_values, facts
    from unnest(user_ids, organization_ids, cooldowns, milestone_values, facts)
      as candidate (user_id, organization_id, cooldown, milestone_value, facts)
    where coalesce(candidate.user_id <> all (away_user_ids), true);
  end if;

  if p_dry_run or candidate_count = 0 then
    skip_reasons := array_fill(null::text, array[candidate_count]);
  else
    -- Another claimer may have been faster since the query above: its users are skipped here.
    skip_reasons := array(
      select outcome.skip_reason
      from scenario_private.claim(
        user_ids,
        organization_ids,
        array_fill(p_scenario_type, array[candidate_count]),
        cooldowns,
        milestone_values,
        facts
      ) as outcome
    );
  end if;

  return (
    select json_build_object(
      'evaluated', evaluated_count,
      'due', due_count,
      'claimed', coalesce(sum(tally.mentors) filter (where tally.reason is null), 0),
      'skipped', coalesce(json_object_agg(tally.reason, tally.mentors) filter (where tally.reason is not null), '{}'),
      'next_after', last_user_id
    )
    from (
      select part.reason, sum(part.mentors) as mentors
      from (
        select element.reason, 1
        from unnest(skip_reasons || away_reasons) as element (reason)
        union all
        values
          ('cooldown', held_count),
          ('duplicate_in_batch', due_count - held_count - candidate_count - coalesce(cardinality(away_reasons), 0))
      ) as part (reason, mentors)
      group by part.reason
      having sum(part.mentors) > 0
    ) as tally
  );
end
$$;
revoke all on function public.scenario_evaluate(text, uuid, uuid, integer, boolean, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_evaluate(text, uuid, uuid, integer, boolean, integer) to service_role;

-- Evaluates the next page of the scenario's pass and keeps the books: where the pass stands and what it has done so
-- far, in the row of p_organization_id (made when there is none), or in the default row for all organizations.
-- Page, figures and resume point are one transaction: a pass goes on where it stood, whoever died in between. Two
-- callers take turns, page by page, and share one pass.
create or replace function public.scenario_evaluate_next_page(
  p_scenario_type text,
  p_organization_id uuid default null,
  p_limit integer default 10000,
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
  page := public.scenario_evaluate(p_scenario_type, p_organization_id, pass.resume_after, p_limit);

  if pass.resume_after is null then
    pass.pass_evaluated := 0;
    pass.pass_due := 0;
    pass.pass_claimed := 0;
    pass.pass_duration := '0';
  end if;
  update public.scenario_evaluation_config as config
  set
    pass_evaluated = pass.pass_evaluated + (page ->> 'evaluated')::bigint,
    pass_due = pass.pass_due + (page ->> 'due')::bigint,
    pass_claimed = pass.pass_claimed + (page ->> 'claimed')::bigint,
    pass_skipped = pass.pass_due + (page ->> 'due')::bigint - pass.pass_claimed - (page ->> 'claimed')::bigint,
    pass_duration = pass.pass_duration + (clock_timestamp() - started_at),
    pass_finished_at = case when page ->> 'next_after' is null then now() else config.pass_finished_at end,
    resume_after = (page ->> 'next_after')::uuid
  where config.id = pass.id;
  return page;
end
$$;
revoke all on function public.scenario_evaluate_next_page(text, uuid, integer, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_evaluate_next_page(text, uuid, integer, integer) to service_role;

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
  null::jsonb as facts
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
revoke all on table scenario_private.rule_contract from public, anon, authenticated;
grant select on table scenario_private.rule_contract to service_role;

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
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  return json_build_object(
    'version', scenario_private.schema_version(),
    'scenario_types', array(
      select listed.scenario_type
      from unnest(scenario_private.scenario_types()) with ordinality as listed (scenario_type, ordinal)
      where exists (
        select
        from public.scenario_evaluation_config as config
        where config.scenario_type = listed.scenario_type and config.organization_id is null
      ) or to_regclass(format('scenario_private.%I', listed.scenario_type || '_rule')) is not null
      order by listed.ordinal
    )
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
set timezone = 'UTC'
as $$
declare
  rule regclass;
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
  if rule is not null and not exists (
    select
    from pg_class as relation
    cross join lateral pg_options_to_table(relation.reloptions) as option
    where relation.oid = rule and option.option_name = 'security_invoker' and option.option_value::boolean
  ) then
    faults := faults || 'it is no view with security_invoker: it would read with its owner''s rights'::text;
  end if;
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
--   out  [{"scenario_type", "organization_id", "is_due", "reason", "facts", "milestone_value", "held_by", "held_since",
--          "ends_at"}]
-- reason is the rule's finding (rule_failed if the rule raises) unless something comes first: user_gone, user_banned,
-- mentor_not_active, scenario_disabled; or, for a mentor who is due, cooldown (held_by until ends_at). A user who is no
-- mentor gives [].
create or replace function public.scenario_explain(p_user_id uuid, p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
declare
  away_reason constant text := (select away.reason from scenario_private.users_away(array[p_user_id]) as away);
  known record;
  found jsonb;
  verdicts jsonb := jsonb '[]';
begin
  perform scenario_private.require_schema(p_needs_schema);
  -- Rule by rule: one that raises, an app's own for example, silences none of the others.
  for known in select rules.scenario_type, rules.rule from scenario_private.rules() as rules loop
    begin
      execute format(
        'select jsonb_agg(rule) from (
           select
             %L::text as scenario_type,
             rule.organization_id::uuid,
             coalesce(rule.is_active::boolean, false) as is_active,
             coalesce(rule.is_enabled::boolean, false) as is_enabled,
             coalesce(rule.is_evaluated::boolean, false) as is_evaluated,
             case when rule.cooldown is not null then least(rule.cooldown::interval, interval ''36525 days'') end
               as cooldown,
             rule.milestone_value::integer,
             rule.is_due::boolean,
             coalesce(rule.finding::text, ''rule_failed'') as finding,
             case when scenario_private.is_storable_metadata(rule.facts::jsonb) then rule.facts::jsonb end as facts
           from %s as rule
           where rule.user_id = $1 and rule.organization_id is not null
         ) as rule',
        known.scenario_type, known.rule
      ) into found using p_user_id;
    exception when others then
      select jsonb_agg(setting) into found
      from (
        select
          setting.scenario_type, setting.organization_id, setting.is_active, setting.is_enabled,
          setting.is_evaluated, 'rule_failed' as finding
        from scenario_private.mentor_setting as setting
        where setting.scenario_type = known.scenario_type and setting.user_id = p_user_id
      ) as setting;
    end;
    verdicts := verdicts || coalesce(found, '[]');
  end loop;

  return (
    select coalesce(
      json_agg(
        json_build_object(
          'scenario_type', verdict.scenario_type,
          'organization_id', verdict.organization_id,
          'is_due', away_reason is null and verdict.is_evaluated and coalesce(verdict.is_due, false)
            and holder.id is null,
          'reason', case
            when away_reason is not null then away_reason
            when not verdict.is_active then 'mentor_not_active'
            when not verdict.is_enabled then 'scenario_disabled'
            when verdict.is_due and holder.id is not null then 'cooldown'
            else verdict.finding
          end,
          'facts', coalesce(verdict.facts, '{}'),
          'milestone_value', verdict.milestone_value,
          'held_by', holder.id,
          'held_since', holder.triggered_at,
          'ends_at', case
            when holder.id is not null and verdict.cooldown is not null
              then least(holder.triggered_at + verdict.cooldown, timestamptz '9999-12-31 23:59:59+00')
          end
        )
        order by verdict.organization_id, verdict.scenario_type
      ),
      '[]'
    )
    from jsonb_to_recordset(verdicts) as verdict (
      scenario_type text, organization_id uuid, is_active boolean, is_enabled boolean, is_evaluated boolean,
      cooldown interval, milestone_value integer, is_due boolean, finding text, facts jsonb
    )
    cross join lateral scenario_private.current_holder(
      p_user_id, verdict.scenario_type, verdict.cooldown, verdict.milestone_value
    ) as holder
  );
end
$$;
revoke all on function public.scenario_explain(uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_explain(uuid, integer) to service_role;

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

-- supabase/schemas/16_delivery.sql ====================================================================================

-- Delivery: lease pending notifications, settle what became of them. At least once: a worker that dies after sending
-- and before settling is not known to have sent, and its rows are handed out again when the lease runs out.
--
-- A lease is a row's attempt_count: every lease counts one up, so a worker whose lease went to another can't settle.

-- Fails those of the notifications whose users are gone or banned, with that reason; returns their ids. The caller has
-- locked them.
create or replace function scenario_private.fail_for_users_away(p_ids uuid[])
returns uuid[]
language sql
volatile
set search_path = ''
as $$
  with refused as (
    update public.scenario_notifications as notification
    set delivery_status = 'failed', failure_code = away.reason
    from scenario_private.users_away(
      array(
        select distinct due.user_id
        from public.scenario_notifications as due
        where due.id = any (p_ids)
      )
    ) as away
    where notification.id = any (p_ids)
      and notification.user_id = away.user_id
    returning notification.id
  )
  select coalesce(array_agg(refused.id), '{}') from refused
$$;
revoke all on function scenario_private.fail_for_users_away(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.fail_for_users_away(uuid[]) to service_role;

-- Leases up to p_limit pending rows that are due, the longest due first, of one organization and of some scenario types
-- if given; rows that another worker is leasing at this moment are passed over. Until p_lease_seconds from now nobody
-- else gets them.
--   out  [{...the row..., "device_tokens": [{"token", "platform"}]}], oldest first
-- A user without a device token is handed out like any other, with an empty list: only the sender knows whether the
-- app has another way to tell (failing the row here would free the cooldown, and the next evaluation would claim
-- again, every few minutes). A row of a user who is gone or banned fails with that reason instead, which the evaluation
-- asks as well.
-- Raises SR001 for a limit outside 1 to 1,000 or a lease outside 1 second to 1 day, SR004 for an unknown scenario type.
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
as $$
declare
  due_ids uuid[];
  refused_ids uuid[];
  leased json;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 1000);
  perform scenario_private.require_between('p_lease_seconds', p_lease_seconds, 1, 86400);
  perform scenario_private.require_scenario_type(wanted.scenario_type)
  from unnest(p_scenario_types) as wanted (scenario_type);

  -- Again, where all that was due had to be refused; not for ever, for one call has a bounded time.
  for attempt in 1..10 loop
    due_ids := array(
      select notification.id
      from public.scenario_notifications as notification
      where notification.delivery_status = 'pending'
        and notification.next_attempt_at <= now()
        and (p_organization_id is null or notification.organization_id = p_organization_id)
        and (p_scenario_types is null or notification.scenario_type = any (p_scenario_types))
      order by notification.next_attempt_at
      limit p_limit
      for update skip locked
    );
    refused_ids := scenario_private.fail_for_users_away(due_ids);

    with taken as (
      update public.scenario_notifications as notification
      set
        attempt_count = notification.attempt_count + 1,
        next_attempt_at = now() + make_interval(secs => p_lease_seconds)
      where notification.id = any (due_ids)
        and notification.id <> all (refused_ids)
      returning notification.*
    )
    select coalesce(
      json_agg(
        to_jsonb(taken) || jsonb_build_object('device_tokens', devices.tokens)
        order by taken.triggered_at, taken.id
      ),
      '[]'
    )
    into leased
    from taken
    cross join lateral (
      select coalesce(
        jsonb_agg(jsonb_build_object('token', device.token, 'platform', device.platform) order by device.token), '[]'
      ) as tokens
      from scenario_source.device_tokens as device
      where device.user_id = taken.user_id
    ) as devices;
    exit when cardinality(refused_ids) < p_limit;
  end loop;
  return leased;
end
$$;
revoke all on function public.scenario_lease_notifications(integer, double precision, uuid, text[], integer)
  from public, anon, authenticated;
grant execute on function public.scenario_lease_notifications(integer, double precision, uuid, text[], integer)
  to service_role;

-- Settles leases: an array of {"id", "attempt_count", "result", "failure_code"} in, one answer each out, in order.
--   result   sent      delivered
--            retry     try again after a while: 1 minute, doubled by every attempt, at most 6 hours, and between half
--                      and all of that, so that rows which failed together don't come back together; failed for good
--                      (attempts_spent) once p_max_attempts are spent
--            failed    failed for good, which frees the cooldown or the milestone
--            released  not tried: due again at once (an attempt all the same: the count names the lease)
--   answer   sent, pending or failed (what the row is now), or why it was refused: lease_lost (another worker has it),
--            already_settled, unknown
-- Until somebody leases the row again, the same retry or release may be reported again: an answer may have been lost.
-- A failure_code that is no code becomes unnamed_failure. Each result is judged by its own lease; the same lease twice
-- in one call settles once. Rows are locked by id: overlapping calls can't deadlock.
-- Raises SR001 for anything but an array of known results, SR003 for more than 1,000.
create or replace function public.scenario_settle_notifications(
  p_results jsonb, p_max_attempts integer default 8, p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  answers json;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_array('p_results', p_results, 1000);
  if exists (
    select
    from jsonb_array_elements(p_results) as element (value)
    where coalesce(element.value ->> 'result', '') not in ('sent', 'retry', 'failed', 'released')
  ) then
    raise exception using errcode = 'SR001', message = 'expected a result: sent, retry, failed or released';
  end if;

  with result as materialized (
    select
      element.*,
      row_number() over (partition by element.id, element.attempt_count order by element.ordinality) as repetition
    from rows from (
      jsonb_to_recordset(p_results) as (id uuid, attempt_count integer, result text, failure_code text)
    ) with ordinality as element
  ),
  locked as materialized (
    select notification.id, notification.attempt_count, notification.delivery_status
    from public.scenario_notifications as notification
    where notification.id in (select result.id from result)
    order by notification.id
    for no key update
  ),
  judged as materialized (
    select
      result.*,
      case
        when locked.id is null then 'unknown'
        when locked.delivery_status <> 'pending' then 'already_settled'
        when locked.attempt_count is distinct from result.attempt_count then 'lease_lost'
        when result.repetition > 1 then 'already_settled'
      end as refusal,
      case
        when result.result in ('sent', 'failed') then result.result
        when result.result = 'retry' and result.attempt_count >= coalesce(p_max_attempts, 8) then 'failed'
        else 'pending'
      end as delivery_status
    from result
    left join locked on locked.id = result.id
  ),
  settled as (
    update public.scenario_notifications as notification
    set
      delivery_status = judged.delivery_status,
      failure_code = case
        when judged.result = 'sent' then null
        when judged.result = 'retry' and judged.delivery_status = 'failed' then 'attempts_spent'
        when judged.result = 'released' then notification.failure_code
        when judged.failure_code is null then null
        when judged.failure_code ~ '^[a-z][a-z0-9_]{0,62}$' then judged.failure_code
        else 'unnamed_failure'
      end,
      next_attempt_at = case judged.result
        when 'retry' then now() + (0.5 + random() / 2)
          * least(interval '1 minute' * power(2, least(judged.attempt_count, 20) - 1), interval '6 hours')
        else now()
      end
    from judged
    where notification.id = judged.id
      and judged.refusal is null
  )
  select coalesce(json_agg(coalesce(judged.refusal, judged.delivery_status) order by judged.ordinality), '[]')
  into answers
  from judged;
  return answers;
end
$$;
revoke all on function public.scenario_settle_notifications(jsonb, integer, integer) from public, anon, authenticated;
grant execute on function public.scenario_settle_notifications(jsonb, integer, integer) to service_role;

-- supabase/schemas/17_purge.sql =======================================================================================

-- Keeping: history stays small without forgetting what a decision rests on.

-- Purges, for the next p_limit users after p_after, what was settled longer than p_older_than_seconds ago.
--   out  {"purged", "next_after"}; next_after is null at the end
-- Kept whatever their age: pending rows, milestones (once ever), and of every user and scenario type the newest row of
-- each status and the newest claim. So no decision changes, for whatever cooldown: the rolling check sees the newest
-- row that has not failed, the chain of claims its head, and get_last_sent_at the newest sent one.
-- Raises SR001 for a period shorter than the longest cooldown configured, or a limit outside 1 to 100,000.
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
set timezone = 'UTC'
as $$
declare
  older_than interval;
  longest_cooldown interval;
  last_user_id uuid;
  user_count integer;
  purged_count integer;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_between('p_limit', p_limit, 1, 100000);
  perform scenario_private.require_between('p_older_than_seconds', p_older_than_seconds, 0, 36525 * 86400.0);
  older_than := make_interval(secs => p_older_than_seconds);
  select max(config.cooldown) into longest_cooldown from public.scenario_evaluation_config as config;
  if older_than < longest_cooldown then
    raise exception using
      errcode = 'SR001',
      message = format('expected a period of at least the longest cooldown configured, %s', longest_cooldown);
  end if;

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
  old as (
    select notification.id
    from page
    join public.scenario_notifications as notification on notification.user_id = page.user_id
    where notification.triggered_at < now() - older_than
      and notification.delivery_status <> 'pending'
      and notification.scenario_type <> 'milestone'
      and exists (
        select
        from public.scenario_notifications as newer
        where newer.user_id = notification.user_id
          and newer.scenario_type = notification.scenario_type
          and newer.delivery_status = notification.delivery_status
          and (newer.triggered_at, newer.id) > (notification.triggered_at, notification.id)
      )
      and (
        notification.cooldown_window_start is null
        or exists (
          select
          from public.scenario_notifications as newer
          where newer.user_id = notification.user_id
            and newer.scenario_type = notification.scenario_type
            and newer.cooldown_window_start > notification.cooldown_window_start
        )
      )
    order by notification.id
    for update of notification skip locked
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

-- supabase/schemas/18_report.sql ======================================================================================

-- Counts an organization's notifications from p_since (inclusive) to p_until (exclusive), per day in UTC, scenario type
-- and delivery status.
--   out  [{"day", "scenario_type", "delivery_status", "notifications"}], only what is not zero
create or replace function public.scenario_get_organization_report(
  p_organization_id uuid, p_since timestamptz, p_until timestamptz, p_needs_schema integer default null
)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  return (
    select coalesce(
      json_agg(
        json_build_object(
          'day', tally.day,
          'scenario_type', tally.scenario_type,
          'delivery_status', tally.delivery_status,
          'notifications', tally.notifications
        )
        order by tally.day, tally.scenario_type, tally.delivery_status
      ),
      '[]'
    )
    from (
      select
        notification.triggered_at::date as day,
        notification.scenario_type,
        notification.delivery_status,
        count(*) as notifications
      from unnest(scenario_private.scenario_types()) as scenario (type)
      cross join lateral (
        select counted.triggered_at, counted.scenario_type, counted.delivery_status
        from public.scenario_notifications as counted
        where counted.organization_id = p_organization_id
          and counted.scenario_type = scenario.type
          and counted.triggered_at >= p_since
          and counted.triggered_at < p_until
      ) as notification
      group by 1, 2, 3
    ) as tally
  );
end
$$;
revoke all on function public.scenario_get_organization_report(uuid, timestamptz, timestamptz, integer)
  from public, anon, authenticated;
grant execute on function public.scenario_get_organization_report(uuid, timestamptz, timestamptz, integer)
  to service_role;

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
--   out  [{"user_id", "last_activity_at"}]; fewer than p_limit is the end, else go on after the last user_id
-- The meaning is the inactivity rule's: a user's activities count whichever organization they belong to, future ones do
-- not, the boundary is inclusive, and a mentor who was never active has not gone quiet.
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
set timezone = 'UTC'
as $$
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

  return (
    select coalesce(
      json_agg(
        json_build_object('user_id', quiet.user_id, 'last_activity_at', quiet.activity_date)
        order by quiet.user_id
      ),
      '[]'
    )
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
        and last.activity_date <= now() - p_inactive_after
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

-- supabase/schemas/rules/certification_expiry.sql =====================================================================

-- certification_expiry: a certificate of this organization lapses within expires_within, has not lapsed yet, and is not
-- renewed: no certificate of the same user, organization and kind lapses later. A certificate without a kind renews
-- nothing. The facts list the certificates (the 50 that lapse first: metadata is bounded).
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
  jsonb_build_object('certificate_ids', expiring.certificate_ids, 'expires_at', expiring.expires_at) as facts
from scenario_private.mentor_setting as setting
left join lateral (
  select
    jsonb_agg(certificate.certificate_id order by certificate.expires_at, certificate.certificate_id)
      as certificate_ids,
    min(certificate.expires_at) as expires_at
  from (
    select held.certificate_id, held.expires_at
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

-- supabase/schemas/rules/inactivity.sql ===============================================================================

-- inactivity: no activity for inactive_after. A mentor who was never active has not gone quiet: there is nothing to
-- measure from (peer_mentors has no date of joining), and somebody who joined today must not be told so.
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
  jsonb_build_object('last_activity_at', last.activity_date) as facts
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

-- supabase/schemas/rules/milestone.sql ================================================================================

-- milestone: the number of activities reached a threshold above every milestone the user has. Only the highest is
-- due: a first run over old data sends one notification, not one per threshold, and a threshold that is added below
-- what a user has already reached and been told stays silent. A failed milestone is not one the user has.
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
  jsonb_build_object('activity_count', counted.activity_count) as facts
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
  select holding.milestone_value
  from scenario_private.holding as holding
  where reached.milestone_value is not null
    and holding.user_id = setting.user_id
    and holding.scenario_type = 'milestone'
  order by holding.milestone_value desc
  limit 1
) as recorded on true
where setting.scenario_type = 'milestone';
comment on view scenario_private.milestone_rule is
  'Due: the activity count reached a threshold higher than every milestone the user has; the highest such one.';
revoke all on table scenario_private.milestone_rule from public, anon, authenticated;
grant select on table scenario_private.milestone_rule to service_role;

-- supabase/schemas/rules/welcome_back.sql =============================================================================

-- welcome_back: the first activity inside the last returned_within comes at least inactive_after after the one before
-- it. A first activity ever is no return. An inactivity notice just before changes nothing: scenarios are
-- independent of each other.
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
  returned.activity_date >= before.activity_date + setting.inactive_after as is_due,
  case
    when returned.activity_date is null then 'not_active_lately'
    when before.activity_date is null then 'newly_active'
    when returned.activity_date >= before.activity_date + setting.inactive_after then 'returned'
    else 'never_away'
  end as finding,
  jsonb_build_object('returned_at', returned.activity_date, 'last_activity_before', before.activity_date) as facts
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
where setting.scenario_type = 'welcome_back';
comment on view scenario_private.welcome_back_rule is
  'Due: the first activity within returned_within follows a gap of at least inactive_after.';
revoke all on table scenario_private.welcome_back_rule from public, anon, authenticated;
grant select on table scenario_private.welcome_back_rule to service_role;
