-- Turns: nothing else is handed out to a person within the min_gap of the organization's policy, whichever organization
-- it comes from. One row per person says what was handed out last and when. A lease takes the row under SKIP LOCKED and
-- compares it again under the lock, so any number of leases beside each other keep the gap; under repeatable read and
-- above a lease gets 40001 and may try again. Nobody has a row before there is a policy with a gap.

create table if not exists scenario_private.delivery_turn (
  user_id uuid primary key references auth.users (id) on delete cascade,
  handed_at timestamptz,
  notification_id uuid,
  previously_handed_at timestamptz
)
with (fillfactor = 50);

comment on table scenario_private.delivery_turn is
  'What was handed out last to each person: the next one waits for the min_gap of its organization''s policy.';
comment on column scenario_private.delivery_turn.handed_at is
  'When it was handed out; null: nothing yet.';
comment on column scenario_private.delivery_turn.notification_id is
  'Which notification: it does not wait for itself.';
comment on column scenario_private.delivery_turn.previously_handed_at is
  'When the one before was: that counts again where this one was not sent.';

alter table scenario_private.delivery_turn enable row level security;

drop policy if exists delivery_turn_service_role_policy on scenario_private.delivery_turn;
create policy delivery_turn_service_role_policy
  on scenario_private.delivery_turn
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table scenario_private.delivery_turn from public, anon, authenticated, service_role;
grant select, insert, update, delete on table scenario_private.delivery_turn to service_role;

-- Makes the rows of those who have none. Whoever is deleted, changed, or given one, at this moment is left out: it never
-- waits. The users' rows are what is locked: there is room for any number.
create or replace function scenario_private.begin_turns(p_user_ids uuid[])
returns void
language sql
volatile
security definer
set search_path = ''
as $$
  with missing as materialized (
    select distinct asked.user_id
    from unnest(p_user_ids) as asked (user_id)
    where not exists (select from scenario_private.delivery_turn as turn where turn.user_id = asked.user_id)
  ),
  held as materialized (
    select users.id
    from auth.users as users
    where users.id in (select missing.user_id from missing)
    for no key update skip locked
  )
  insert into scenario_private.delivery_turn (user_id)
  select held.id from held
  on conflict do nothing
$$;
revoke all on function scenario_private.begin_turns(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.begin_turns(uuid[]) to service_role;

-- Takes the turns for notifications that may be handed out otherwise: arrays of one length, a row for each place.
--   is_left     another lease is at this person: not now, without a new time
--   wait_until  not before; null where it goes now
-- What is of priority 0, or of an organization without a gap, goes whatever was handed out before. Of the others of one
-- person one goes: what is in the last third of its time first, then by priority, then the oldest. p_gaps has the gap of
-- each organization that has one.
create or replace function scenario_private.take_turns(
  p_ids uuid[],
  p_user_ids uuid[],
  p_organization_ids uuid[],
  p_priorities integer[],
  p_triggered_at timestamptz[],
  p_deliver_until timestamptz[],
  p_gaps jsonb
)
returns table (place bigint, is_left boolean, wait_until timestamptz)
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC'
set jit = off
set enable_seqscan = off
as $$
begin
  perform scenario_private.begin_turns(p_user_ids);
  return query
  with turn as materialized (
    select turn.user_id, turn.handed_at, turn.notification_id
    from scenario_private.delivery_turn as turn
    where turn.user_id = any (p_user_ids)
    order by turn.user_id
    for no key update skip locked
  ),
  asked as (
    select
      element.*,
      coalesce((p_gaps ->> element.organization_id::text)::interval, '0') as gap,
      turn.user_id is not null as is_taken,
      case when turn.notification_id is distinct from element.id then turn.handed_at end as handed_at
    from unnest(p_ids, p_user_ids, p_organization_ids, p_priorities, p_triggered_at, p_deliver_until)
      with ordinality as element (id, user_id, organization_id, priority, triggered_at, deliver_until, place)
    left join turn on turn.user_id = element.user_id
  ),
  judged as (
    select
      asked.*,
      asked.priority = 0 or asked.gap = '0' as is_free,
      coalesce(asked.handed_at + asked.gap <= clock_timestamp(), true) as is_open
    from asked
  ),
  ranked as (
    select
      judged.*,
      bool_or(judged.is_free) over (partition by judged.user_id) as has_free,
      row_number() over (
        partition by judged.user_id, judged.is_free, judged.is_open
        order by
          now() > judged.deliver_until - (judged.deliver_until - judged.triggered_at) / 3 desc,
          judged.priority,
          judged.triggered_at,
          judged.id
      ) as rank
    from judged
  ),
  decided as materialized (
    select
      ranked.*,
      case
        when not ranked.is_taken or ranked.is_free then null
        when not ranked.is_open then ranked.handed_at + ranked.gap
        when ranked.has_free or ranked.rank > 1 then clock_timestamp() + ranked.gap
      end as until
    from ranked
  ),
  marked as (
    update scenario_private.delivery_turn as turn
    set
      previously_handed_at = case
        when turn.notification_id is distinct from going.id then turn.handed_at
        else turn.previously_handed_at
      end,
      handed_at = clock_timestamp(),
      notification_id = going.id
    from (
      select distinct on (decided.user_id) decided.user_id, decided.id
      from decided
      where decided.is_taken and decided.until is null
      order by decided.user_id, decided.is_free, decided.rank
    ) as going
    where turn.user_id = going.user_id
  )
  select decided.place, not decided.is_taken, decided.until
  from decided;
end
$$;
revoke all on function
  scenario_private.take_turns(uuid[], uuid[], uuid[], integer[], timestamptz[], timestamptz[], jsonb)
  from public, anon, authenticated;
grant execute on function
  scenario_private.take_turns(uuid[], uuid[], uuid[], integer[], timestamptz[], timestamptz[], jsonb)
  to service_role;

-- Gives the turns back of notifications that were not sent: what was handed out before counts again.
create or replace function scenario_private.give_turns_back(p_ids uuid[], p_user_ids uuid[])
returns void
language sql
volatile
set search_path = ''
set enable_seqscan = off
as $$
  with turn as materialized (
    select turn.user_id
    from scenario_private.delivery_turn as turn
    where turn.user_id = any (p_user_ids)
      and turn.notification_id = any (p_ids)
    order by turn.user_id
    for no key update
  )
  update scenario_private.delivery_turn as turn
  set handed_at = turn.previously_handed_at, notification_id = null
  where turn.user_id = any (array(select turn.user_id from turn))
    and turn.notification_id = any (p_ids)
$$;
revoke all on function scenario_private.give_turns_back(uuid[], uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.give_turns_back(uuid[], uuid[]) to service_role;
