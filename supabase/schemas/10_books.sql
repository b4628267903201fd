-- The books: what is recorded with every notification that comes in or is settled, whoever writes. The claim and the
-- settlement write what they know themselves; triggers see to plain writes, and to every failure.

-- What a failure holds, by its code: 'nothing', where the evaluation itself asks the same and so claims nothing again
-- while it lasts; 'cooldown', where nobody is to be told; null, a failure to deliver: it is tried again, later and
-- later. A sender may give any code but those that are listed here.
create or replace function scenario_private.hold_of_failure(p_failure_code text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when p_failure_code in (
      'expired', 'mentor_not_active', 'muted', 'no_longer_due', 'scenario_disabled', 'superseded', 'user_banned',
      'user_gone'
    )
      then 'nothing'
    when p_failure_code in ('cancelled', 'suppressed') then 'cooldown'
  end
$$;
revoke all on function scenario_private.hold_of_failure(text) from public, anon, authenticated;
grant execute on function scenario_private.hold_of_failure(text) to service_role;

-- A plain insert is handed out for as long as its scenario's settings say, from now on, and was settled when it was
-- triggered, if it is past.
create or replace function scenario_private.complete_plain_insert()
returns trigger
language plpgsql
set search_path = ''
set timezone = 'UTC'
as $$
begin
  new.deliver_until := coalesce(
    new.deliver_until,
    greatest(now(), least(new.triggered_at, now() + interval '1 day')) + coalesce(
      (scenario_private.delivery_setting_of(new.scenario_type, new.organization_id)).deliver_within, interval '7 days'
    )
  );
  if new.delivery_status <> 'pending' then
    new.settled_at := coalesce(new.settled_at, new.triggered_at);
  end if;
  return new;
end
$$;
revoke all on function scenario_private.complete_plain_insert() from public, anon, authenticated;

create or replace trigger scenario_notifications_complete_plain_insert
  before insert on public.scenario_notifications
  for each row
  when (new.deliver_until is null or (new.delivery_status <> 'pending' and new.settled_at is null))
  execute function scenario_private.complete_plain_insert();

-- A plain insert that is pending is handed out like any other.
create or replace function scenario_private.hand_over_plain_insert()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  insert into scenario_private.handover (notification_id, user_id, organization_id, scenario_type, triggered_at)
  values (new.id, new.user_id, new.organization_id, new.scenario_type, new.triggered_at);
  return null;
end
$$;
revoke all on function scenario_private.hand_over_plain_insert() from public, anon, authenticated;

create or replace trigger scenario_notifications_hand_over_plain_insert
  after insert on public.scenario_notifications
  for each row
  when (new.origin = 'insert' and new.delivery_status = 'pending')
  execute function scenario_private.hand_over_plain_insert();

-- Settles the books of a notification that fails, or that a plain update makes sent: its hand-over ends, settled_at is
-- now(), and a failed one holds what its failure_code says:
--   * a failure to deliver (whatever code the sender gave, attempts_spent, or expired after a try): retry_failed_after,
--     doubled by each such failure in a row, at most the cooldown, 30 days for a milestone;
--   * suppressed, cancelled: the cooldown, a milestone for good; suppressed in a scenario that looks ahead:
--     retry_failed_after, for what is ahead comes nearer;
--   * whatever comes after a lease that nobody settled: as if sent when that lease ended, and it counts as told;
--   * anything else: nothing.
-- Only a settlement by a lease gives settled_at; without it, a lease that has run out was not settled.
create or replace function scenario_private.keep_books()
returns trigger
language plpgsql
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off
as $$
declare
  handed_over scenario_private.handover;
  setting scenario_private.delivery_setting;
  cooldown interval;
  previous interval;
  is_milestone constant boolean := new.scenario_type = 'milestone';
begin
  delete from scenario_private.handover as handover
  where handover.notification_id = new.id
  returning * into handed_over;
  if new.delivery_status <> 'failed' then
    new.settled_at := now();
    return new;
  end if;

  setting := scenario_private.delivery_setting_of(new.scenario_type, new.organization_id);
  cooldown := case when is_milestone then interval '30 days'
    else coalesce(new.cooldown, setting.cooldown, interval '30 days') end;
  new.unsettled_at := greatest(
    handed_over.unsettled_at,
    case when new.settled_at is null and handed_over.leased_until <= now() then handed_over.leased_until end
  );
  new.settled_at := coalesce(new.settled_at, now());
  new.held_until := case
    when scenario_private.hold_of_failure(new.failure_code) = 'cooldown' then
      case
        when new.failure_code = 'suppressed' and setting.looks_ahead
          then new.settled_at + least(setting.retry_failed_after, cooldown)
        when is_milestone then 'infinity'
        else new.settled_at + cooldown
      end
  end;
  if scenario_private.hold_of_failure(new.failure_code) is null
    or (new.failure_code = 'expired' and (old.failure_code is not null or handed_over.attempt_count > 0))
  then
    select last.held_until - last.settled_at into previous
    from public.scenario_notifications as last
    where last.user_id = new.user_id
      and last.scenario_type = new.scenario_type
      and last.milestone_value is not distinct from new.milestone_value
      and last.outlasts_at is not null
      and last.is_failed
      and last.unsettled_at is null
      and (scenario_private.hold_of_failure(last.failure_code) is null or last.failure_code = 'expired')
      and not exists (
        select
        from public.scenario_notifications as told
        where told.user_id = new.user_id
          and told.scenario_type = new.scenario_type
          and told.milestone_value is not distinct from new.milestone_value
          and not told.is_failed
          and told.triggered_at > last.triggered_at
          and told.id <> new.id
      )
    order by last.outlasts_at desc
    limit 1;
    new.held_until := new.settled_at
      + least(greatest(coalesce(setting.retry_failed_after, interval '1 day'), 2 * previous), cooldown);
  end if;
  if new.unsettled_at is not null then
    new.held_until := greatest(
      new.held_until, case when is_milestone then 'infinity' else new.unsettled_at + cooldown end
    );
  end if;
  return new;
end
$$;
revoke all on function scenario_private.keep_books() from public, anon, authenticated;

create or replace trigger scenario_notifications_keep_books
  before update of delivery_status on public.scenario_notifications
  for each row
  when (
    old.delivery_status = 'pending'
    and (new.delivery_status = 'failed' or (new.delivery_status = 'sent' and new.settled_at is null))
  )
  execute function scenario_private.keep_books();

-- Ends what suppressed notifications of these users hold, where a device was registered since: a milestone of theirs
-- can be claimed again, which its unique index would refuse.
create or replace function scenario_private.end_suppressions(p_user_ids uuid[])
returns void
language sql
volatile
set search_path = ''
as $$
  with over as materialized (
    select notification.id
    from public.scenario_notifications as notification
    where notification.id in (
      select hold.id
      from unnest(p_user_ids) as asked (user_id)
      join scenario_private.hold as hold on hold.user_id = asked.user_id
      where hold.outlasts_at > now()
        and hold.failure_code = 'suppressed'
        and hold.holds_until is null
    )
    order by notification.id
    for no key update
  )
  update public.scenario_notifications as notification
  set held_until = now()
  from over
  where notification.id = over.id
$$;
revoke all on function scenario_private.end_suppressions(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.end_suppressions(uuid[]) to service_role;
