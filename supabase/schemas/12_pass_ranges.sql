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
