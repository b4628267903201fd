-- What Supabase's platform gives a project's database before its first
-- migration, reduced to what scenario_repo can touch. It denies what the
-- platform denies: a stand-in that allows more hides mistakes. The roles, their
-- memberships, settings and grants follow supabase/postgres for version 15.
--
-- Run once, as the superuser supabase_admin, in a new cluster's database
-- `postgres` (initdb --username=supabase_admin).
--
-- What can't be had on a plain PostgreSQL:
--   safeupdate   the API's connections load it on the platform (UPDATE and DELETE
--                without WHERE fail, inside functions too). Debian has no package.
--   supautils    lets the non-superuser `postgres` create privileged extensions.
--                Here supabase_admin creates them (pgtap, pg_cron, plpgsql_check).

-- Roles ------------------------------------------------------------------

create role postgres login createdb createrole replication bypassrls;
create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
create role authenticator login noinherit;
create role supabase_auth_admin login noinherit;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to postgres;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
alter role postgres set search_path = "$user", public, extensions;
alter role supabase_admin set search_path = "$user", public, auth, extensions;
alter role supabase_auth_admin set search_path = auth;
alter role supabase_auth_admin set idle_in_transaction_session_timeout = 60000;

-- Schema public ----------------------------------------------------------

-- The database's owner is pg_database_owner, and so owns schema public.
alter database postgres owner to postgres;

grant usage on schema public to postgres, anon, authenticated, service_role;

-- Whatever postgres or supabase_admin creates in public is open to every API
-- role: migrations have to revoke explicitly.
alter default privileges for role postgres in schema public
    grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    grant all on sequences to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
    grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
    grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
    grant all on sequences to postgres, anon, authenticated, service_role;

-- Schema extensions ------------------------------------------------------

create schema extensions;
grant usage on schema extensions to anon, authenticated, service_role;
grant all on schema extensions to postgres;

-- pg_cron belongs to supabase_admin; postgres may schedule jobs, and may read
-- but not write the job table itself.
create function extensions.grant_pg_cron_access() returns event_trigger
language plpgsql
as $$
begin
    if exists (
        select
        from pg_event_trigger_ddl_commands() as command
        join pg_extension as extension on command.objid = extension.oid
        where extension.extname = 'pg_cron'
    ) then
        grant usage on schema cron to postgres with grant option;
        grant all on all tables in schema cron to postgres with grant option;
        revoke all on table cron.job from postgres;
        grant select on table cron.job to postgres with grant option;
    end if;
end;
$$;
create event trigger issue_pg_cron_access
    on ddl_command_end
    when tag in ('CREATE EXTENSION')
    execute function extensions.grant_pg_cron_access();

-- Schema auth ------------------------------------------------------------

-- Owned by supabase_admin: `supabase db reset` drops the schemas of others.
create schema auth authorization supabase_admin;
grant usage on schema auth to anon, authenticated, service_role, postgres;
grant all on schema auth to supabase_auth_admin;

create table auth.users (
    instance_id uuid,
    id uuid not null,
    aud varchar(255),
    role varchar(255),
    email varchar(255),
    encrypted_password varchar(255),
    email_confirmed_at timestamptz,
    invited_at timestamptz,
    confirmation_token varchar(255),
    confirmation_sent_at timestamptz,
    recovery_token varchar(255),
    recovery_sent_at timestamptz,
    email_change_token_new varchar(255),
    email_change varchar(255),
    email_change_sent_at timestamptz,
    last_sign_in_at timestamptz,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    is_super_admin boolean,
    created_at timestamptz,
    updated_at timestamptz,
    phone text default null,
    phone_confirmed_at timestamptz,
    phone_change text default '',
    phone_change_token varchar(255) default '',
    phone_change_sent_at timestamptz,
    confirmed_at timestamptz generated always as (
        least(email_confirmed_at, phone_confirmed_at)
    ) stored,
    email_change_token_current varchar(255) default '',
    email_change_confirm_status smallint default 0,
    banned_until timestamptz,
    reauthentication_token varchar(255) default '',
    reauthentication_sent_at timestamptz,
    is_sso_user boolean not null default false,
    deleted_at timestamptz,
    is_anonymous boolean not null default false,
    constraint users_pkey primary key (id),
    constraint users_phone_key unique (phone),
    constraint users_email_change_confirm_status_check
        check (email_change_confirm_status between 0 and 2)
);
create unique index users_email_partial_key on auth.users (email) where is_sso_user = false;
create index users_instance_id_idx on auth.users (instance_id);
comment on table auth.users is 'Auth: Stores user login data within a secure schema.';

alter table auth.users owner to supabase_auth_admin;
alter table auth.users enable row level security;
-- Not to anon, authenticated or service_role: none of them can read it.
grant all on table auth.users to postgres;

create function auth.uid() returns uuid
language sql
stable
as $$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid
$$;

create function auth.role() returns text
language sql
stable
as $$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
  )::text
$$;

create function auth.email() returns text
language sql
stable
as $$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.email', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email')
  )::text
$$;

create function auth.jwt() returns jsonb
language sql
stable
as $$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')
  )::jsonb
$$;

alter function auth.uid() owner to supabase_auth_admin;
alter function auth.role() owner to supabase_auth_admin;
alter function auth.email() owner to supabase_auth_admin;
alter function auth.jwt() owner to supabase_auth_admin;
grant all on all functions in schema auth to postgres;

-- Realtime ---------------------------------------------------------------

create publication supabase_realtime;
alter publication supabase_realtime owner to postgres;
