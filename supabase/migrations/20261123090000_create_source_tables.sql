-- The source tables: what the scenario rules read.
--
-- An app that already has one of these tables keeps it as it is, with its own columns, policies and grants;
-- only the indexes the rules need are added, and the columns named here must exist. A table that is missing is
-- created closed: row level security on, nothing for public, anon and authenticated, everything for service_role.

do $$
begin
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
end
$$;

create index if not exists peer_mentors_organization_id_user_id_idx
  on public.peer_mentors (organization_id, user_id);
comment on index public.peer_mentors_organization_id_user_id_idx is
  'Serves: one page of the mentors of one organization, in the order of user_id.';

do $$
begin
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
end
$$;

create index if not exists activities_user_id_activity_date_idx
  on public.activities (user_id, activity_date);
comment on index public.activities_user_id_activity_date_idx is
  'Serves: the newest activity of a user, the one before it, and the count of them, all index-only.';

do $$
begin
  if to_regclass('public.certifications') is null then
    create table public.certifications (
      id uuid primary key default gen_random_uuid(),
      user_id uuid not null references auth.users (id) on delete cascade,
      organization_id uuid not null,
      expires_at timestamptz not null
    );
    comment on table public.certifications is
      'Certificates and when they lapse: read by the certification_expiry rule.';

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
end
$$;

create index if not exists certifications_user_id_expires_at_idx
  on public.certifications (user_id, expires_at);
comment on index public.certifications_user_id_expires_at_idx is
  'Serves: the certificates of a user that lapse inside a period.';

do $$
begin
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
end
$$;
