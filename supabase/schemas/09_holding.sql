-- What holds: what refuses a later claim of the same user and scenario type about the same thing, and until when. It is
-- said here once: claim, evaluation, dry run, rules, explanations, look-ups and the purge read these views.
--
--   pending, in nobody's hands     until the later of deliver_until and triggered_at plus the claim's cooldown
--   pending, leased, or its lease  as sent when the lease ends
--     ran out unsettled
--   sent                           until the later of triggered_at and settled_at, plus the claim's cooldown
--   failed                         until held_until: scenario_private.keep_books says what each failure holds
--   a milestone                    pending or sent: for good
--
-- About the same thing: a row without subjects holds every subject of its type, and a claim without subjects is refused
-- by any row of its type.

-- Every notification with what it holds. It refuses a claim with cooldown c while holds_until > now() or holds_since >
-- now() - c. What can be told without looking at its lease costs less: holds_from is never later than holds_since, and
-- lasts_until is holds_until as if it were in nobody's hands. Leases are looked at only where a query asks.
create or replace view scenario_private.hold
with (security_invoker = true)
as
select
  row.*,
  case row.delivery_status
    when 'sent' then greatest(row.triggered_at, row.settled_at)
    when 'pending' then greatest(
      row.triggered_at,
      (
        select greatest(handover.leased_until, handover.unsettled_at)
        from scenario_private.handover as handover
        where handover.notification_id = row.id
      )
    )
  end as holds_since,
  case
    when row.delivery_status = 'pending'
      and row.scenario_type <> 'milestone'
      -- Not as EXISTS, which may be planned by reading the whole hand-over.
      and (
        select handover.leased_until
        from scenario_private.handover as handover
        where handover.notification_id = row.id
      ) is not null
      then null
    else row.lasts_until
  end as holds_until
from (
  select
    notification.*,
    -- Whether it counts as a reminder: the user was told, will be, or may have been.
    not notification.is_failed or notification.unsettled_at is not null as counts,
    case
      when not notification.is_failed then greatest(notification.triggered_at, notification.settled_at)
    end as holds_from,
    case
      -- Nobody could be told: it is over when the user registers a device.
      when notification.is_failed
        and notification.failure_code = 'suppressed'
        and notification.held_until > now()
        and exists (
          select
          from scenario_source.device_tokens as device
          where device.user_id = notification.user_id
            and device.registered_at > notification.settled_at
        )
        then null
      when notification.is_failed then notification.held_until
      when notification.scenario_type = 'milestone' then timestamptz 'infinity'
      when notification.delivery_status = 'pending' then notification.deliver_until
    end as lasts_until
  from public.scenario_notifications as notification
) as row;
comment on view scenario_private.hold is
  'Every notification with what it holds: it refuses a claim until holds_until, and for a cooldown after holds_since.';
revoke all on table scenario_private.hold from public, anon, authenticated;
grant select on table scenario_private.hold to service_role;

-- Where to look for what holds: whatever may refuse a claim with cooldown c has found_at > now() - c - 8 days. Each
-- part is found by its own index, past any number of failed and old rows. Seven days is how long a notification is
-- usually handed out, and a lease lasts a day at the most: what outlasts that, and the failed ones that hold, are the
-- second part. The first part has nothing where even the user's newest notification is older.
create or replace view scenario_private.holding
with (security_invoker = true)
as
select hold.*, hold.triggered_at as found_at, false as outlasts
from scenario_private.hold as hold
where not hold.is_failed
union all
select hold.*, hold.outlasts_at, true
from scenario_private.hold as hold
where hold.outlasts_at is not null;
comment on view scenario_private.holding is
  'The notifications that may hold, with the time by which each is found (one that outlasts may be found twice).';
revoke all on table scenario_private.holding from public, anon, authenticated;
grant select on table scenario_private.holding to service_role;

-- The notifications that count as reminders, each found by an index.
create or replace view scenario_private.reminder
with (security_invoker = true)
as
select hold.id, hold.user_id, hold.scenario_type, hold.triggered_at, hold.settled_at
from scenario_private.hold as hold
where hold.counts
  and not hold.is_failed
union all
select hold.id, hold.user_id, hold.scenario_type, hold.triggered_at, hold.settled_at
from scenario_private.hold as hold
where hold.counts
  and hold.is_failed
  and hold.outlasts_at is not null;
comment on view scenario_private.reminder is
  'The notifications by which a user was told, will be told or may have been: what a series counts.';
revoke all on table scenario_private.reminder from public, anon, authenticated;
grant select on table scenario_private.reminder to service_role;

-- The notification that holds longest against a claim as of now, outside the calling statement's snapshot (volatile);
-- null if none does. A milestone is held by its own record.
create or replace function scenario_private.current_holder(
  p_user_id uuid, p_scenario_type text, p_cooldown interval, p_milestone_value integer, p_subjects text[]
)
returns table (id uuid, triggered_at timestamptz, ends_at timestamptz)
language sql
volatile
set search_path = ''
set timezone = 'UTC'
as $$
  select holder.id, holder.triggered_at, nullif(holder.ends_at, 'infinity')
  from (
    select
      holding.id,
      holding.triggered_at,
      greatest(holding.holds_until, holding.holds_since + p_cooldown) as ends_at
    from scenario_private.holding as holding
    where p_milestone_value is null
      and holding.user_id = p_user_id
      and holding.scenario_type = p_scenario_type
      and holding.found_at > now() - p_cooldown - interval '8 days'
      and (p_subjects = '{}' or holding.subjects = '{}' or holding.subjects && p_subjects)
    union all
    select hold.id, hold.triggered_at, hold.holds_until
    from scenario_private.hold as hold
    where hold.user_id = p_user_id
      and hold.scenario_type = 'milestone'
      and hold.milestone_value = p_milestone_value
      and (not hold.is_failed or hold.held_until = 'infinity')
    union all
    select hold.id, hold.triggered_at, hold.holds_until
    from scenario_private.hold as hold
    where hold.user_id = p_user_id
      and hold.scenario_type = 'milestone'
      and hold.milestone_value = p_milestone_value
      and hold.outlasts_at > now()
      and hold.is_failed
  ) as holder
  where holder.ends_at > now()
  order by holder.ends_at desc
  limit 1
$$;
revoke all on function scenario_private.current_holder(uuid, text, interval, integer, text[])
  from public, anon, authenticated;
grant execute on function scenario_private.current_holder(uuid, text, interval, integer, text[]) to service_role;
