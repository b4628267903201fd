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
