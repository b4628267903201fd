-- What became of one notification: explain, for what is past.

-- Tells what happened to a notification, as far as it is kept, and what it holds now.
--   out  {"notification": null if there is none, or {"id", "user_id", "organization_id", "scenario_type", "origin",
--        "triggered_at", "milestone_value", "delivery_status", "deliver_until", "settled_at", "failure_code": why it
--        failed, or why the last try did, "unsettled_at": when the last lease ended that nobody settled, "holds": whether
--        it refuses a claim with its own cooldown now, "holds_until": until when (null: for good, or it does not),
--        "next_attempt_at", "leased_until", "lease_count", "attempt_count", "unsettled_leases": of a pending one; null
--        when it is settled, "next_id", "next_triggered_at", "next_milestone_value": the user's next notification of the
--        type, which came after it}}
-- Raises SR001 without an id.
create or replace function public.scenario_explain_notification(p_id uuid, p_needs_schema integer default null)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set jit = off
set timezone = 'UTC'
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_id', p_id);
  return json_build_object(
    'notification', (
      select json_build_object(
        'id', hold.id,
        'user_id', hold.user_id,
        'organization_id', hold.organization_id,
        'scenario_type', hold.scenario_type,
        'origin', hold.origin,
        'triggered_at', hold.triggered_at,
        'milestone_value', hold.milestone_value,
        'delivery_status', hold.delivery_status,
        'deliver_until', hold.deliver_until,
        'settled_at', hold.settled_at,
        'failure_code', hold.failure_code,
        'unsettled_at', coalesce(hold.unsettled_at, handover.unsettled_at),
        'holds', coalesce(held.ends_at > now(), false),
        -- No later than a client's datetime can be.
        'holds_until', case
          when held.ends_at > now() and held.ends_at < timestamptz '9999-12-31 23:59:59+00' then held.ends_at
        end,
        'next_attempt_at', handover.next_attempt_at,
        'leased_until', handover.leased_until,
        'lease_count', handover.lease_number,
        'attempt_count', handover.attempt_count,
        'unsettled_leases', handover.unsettled_leases,
        'next_id', next.id,
        'next_triggered_at', next.triggered_at,
        'next_milestone_value', next.milestone_value
      )
      from scenario_private.hold as hold
      left join scenario_private.handover as handover on handover.notification_id = hold.id
      cross join lateral (
        select greatest(
          hold.holds_until,
          hold.holds_since + least(
            coalesce(
              hold.cooldown,
              (scenario_private.delivery_setting_of(hold.scenario_type, hold.organization_id)).cooldown
            ),
            interval '36525 days'
          )
        ) as ends_at
      ) as held
      left join lateral (
        select later.id, later.triggered_at, later.milestone_value
        from public.scenario_notifications as later
        where later.user_id = hold.user_id
          and later.scenario_type = hold.scenario_type
          and later.triggered_at > hold.triggered_at
        order by later.triggered_at
        limit 1
      ) as next on true
      where hold.id = p_id
    )
  );
end
$$;
revoke all on function public.scenario_explain_notification(uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_explain_notification(uuid, integer) to service_role;
