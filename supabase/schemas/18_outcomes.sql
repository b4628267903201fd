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
