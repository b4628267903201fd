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
  misfits text[];
begin
  with wanted (view_name, table_name, view_columns, table_columns) as (
    values
      (
        'mentors', 'peer_mentors',
        '{user_id, uuid, organization_id, uuid, is_active, boolean}'::text[],
        '{user_id, uuid, organization_id, uuid, is_active, boolean}'::text[]
      ),
      (
        'activities', 'activities',
        '{user_id, uuid, activity_date, timestamp with time zone}',
        '{user_id, uuid, activity_date, timestamp with time zone}'
      ),
      (
        'certificates', 'certifications',
        '{certificate_id, text, user_id, uuid, organization_id, uuid, kind, text, expires_at, timestamp with time zone}',
        '{id, any, user_id, uuid, organization_id, uuid, expires_at, timestamp with time zone}'
      ),
      (
        'device_tokens', 'device_tokens',
        '{user_id, uuid, token, text, platform, text}',
        '{user_id, uuid, token, any, platform, any}'
      )
  ),
  -- What will be read: the view if it is there, else the table if it is there.
  found as (
    select
      coalesce(
        to_regclass(format('scenario_source.%I', wanted.view_name)), to_regclass(format('public.%I', wanted.table_name))
      ) as relation,
      case
        when to_regclass(format('scenario_source.%I', wanted.view_name)) is not null then wanted.view_columns
        else wanted.table_columns
      end as pairs
    from wanted
  ),
  expected as (
    select
      found.relation,
      found.pairs[2 * place.n - 1] as column_name,
      found.pairs[2 * place.n] as type_name
    from found
    cross join lateral generate_series(1, cardinality(found.pairs) / 2) as place (n)
    where found.relation is not null
  )
  select array_agg(
    format(
      '%s.%s: expected %s, got %s',
      expected.relation,
      expected.column_name,
      case expected.type_name when 'any' then 'a column' else expected.type_name end,
      coalesce(format_type(actual.atttypid, actual.atttypmod), 'no such column')
    )
    order by expected.relation::text, expected.column_name
  )
  into misfits
  from expected
  left join pg_attribute as actual
    on actual.attrelid = expected.relation
    and actual.attname = expected.column_name
    and actual.attnum > 0
    and not actual.attisdropped
  where actual.attname is null
    or expected.type_name not in ('any', format_type(actual.atttypid, null));

  if misfits is not null then
    raise exception using
      errcode = 'SR007',
      message = E'this project''s own tables don''t have what scenario_repo reads; nothing was changed\n  '
        || array_to_string(misfits, E'\n  '),
      hint = 'Before this migration, create the views scenario_source.mentors, activities, certificates or device_tokens'
        ' that translate these tables: see docs/own-tables.md.';
  end if;
end
$sources$;

-- Mentors -----------------------------------------------------------------

do $mentors$
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

  if (select relation.relkind in ('r', 'p') from pg_class as relation where oid = 'public.peer_mentors'::regclass) then
    create index if not exists peer_mentors_active_by_user_idx
      on public.peer_mentors (user_id, organization_id)
      where is_active;
    comment on index public.peer_mentors_active_by_user_idx is
      'Serves: the pages of an evaluation of all organizations, index-only and by user_id.';

    -- Beside the one by user, and not instead: a generic plan, which knows no organization, would read all of that.
    create index if not exists peer_mentors_active_by_organization_idx
      on public.peer_mentors (organization_id, user_id)
      where is_active;
    comment on index public.peer_mentors_active_by_organization_idx is
      'Serves: the pages of an evaluation of one organization, and its inactive mentors, index-only and by user_id.';
  end if;

  create view scenario_source.mentors
  with (security_invoker = true)
  as
  select mentor.user_id, mentor.organization_id, mentor.is_active
  from public.peer_mentors as mentor;
end
$mentors$;
comment on view scenario_source.mentors is
  'Who is a mentor in which organization, once each; and whether she is active there.';

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
    revoke all on sequence public.activities_id_seq from public, anon, authenticated;
  end if;

  if (select relation.relkind in ('r', 'p') from pg_class as relation where oid = 'public.activities'::regclass) then
    create index if not exists activities_user_id_activity_date_idx
      on public.activities (user_id, activity_date);
    comment on index public.activities_user_id_activity_date_idx is
      'Serves: the newest activity of a user, the one before it, and the count of them, all index-only.';
  end if;

  create view scenario_source.activities
  with (security_invoker = true)
  as
  select activity.user_id, activity.activity_date
  from public.activities as activity;
end
$activities$;
comment on view scenario_source.activities is
  'What a user did and when, in whichever organization.';

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
  then
    create index if not exists certifications_user_id_expires_at_idx
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
       certification.user_id,
       certification.organization_id,
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
end
$certificates$;
comment on view scenario_source.certificates is
  'Certificates and when they lapse; kind says what is certified, or is null.';

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
  select device.user_id, device.token::text as token, device.platform::text as platform
  from public.device_tokens as device;
end
$device_tokens$;
comment on view scenario_source.device_tokens is
  'Where a user''s notifications are delivered.';

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
