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
