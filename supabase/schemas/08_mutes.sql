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
