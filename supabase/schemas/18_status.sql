-- How things stand: one look at the passes, at what waits, and at what failed lately. Of the system as a whole and for
-- its operator: exact numbers, also where fewer than 5 persons stand behind them, since one failure is one to look into.

-- Says how things stand, for each scenario type.
--   out  {"version", "scenarios": […], "failures": […]}
--   a scenario  {"scenario_type", "is_enabled", "overriding": how many organizations override a setting, "evaluated",
--        "due", "claimed", "skipped", "history", "seconds": of the pass under way or the last one, "finished_at": when
--        the last pass over all ended, "is_under_way", "organization_pass_finished_at": when the newest pass over one
--        organization ended; of the pending ones "waiting": not due yet, "due_now", "leased", "unsettled": those whose
--        last lease nobody settled, "oldest_due_at": since when the one waits that has been due longest; null if none
--        is due}
--   a failure   {"scenario_type", "failure_code", "last_day", "last_week"}: how many failed so in 24 hours and in 7 days
-- A failure is found if it was triggered within the longest deliver_within and 30 days before these 7 days.
create or replace function public.scenario_get_status(p_needs_schema integer default null)
returns json
language plpgsql
stable
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
declare
  triggered_after timestamptz;
begin
  perform scenario_private.require_schema(p_needs_schema);
  select now() - interval '37 days' - max(config.deliver_within) into triggered_after
  from public.scenario_evaluation_config as config;
  return (
    with backlog as materialized (
      select
        handover.scenario_type,
        count(*) filter (where handover.is_leased) as leased,
        count(*) filter (where handover.is_due and not handover.is_leased) as due_now,
        count(*) filter (where not handover.is_due and not handover.is_leased) as waiting,
        count(*) filter (where handover.unsettled_leases > 0) as unsettled,
        min(handover.next_attempt_at) filter (where handover.is_due and not handover.is_leased) as oldest_due_at
      from (
        select
          row.scenario_type, row.next_attempt_at, row.unsettled_leases,
          row.next_attempt_at <= now() as is_due,
          row.leased_until is not null and row.leased_until > now() as is_leased
        from scenario_private.handover as row
      ) as handover
      group by handover.scenario_type
    ),
    organizations as (
      select
        config.scenario_type,
        -- A row that only keeps a pass overrides nothing.
        count(*) filter (
          where exists (
            select
            from jsonb_object_keys(jsonb_strip_nulls(to_jsonb(config))) as given (name)
            where given.name !~ '^pass_' and given.name not in ('id', 'scenario_type', 'organization_id', 'resume_after')
          )
        ) as overriding,
        max(config.pass_finished_at) as finished_at
      from public.scenario_evaluation_config as config
      where config.organization_id is not null
      group by config.scenario_type
    )
    select json_build_object(
      'version', scenario_private.schema_version(),
      'scenarios', (
        select coalesce(
          json_agg(
            json_build_object(
              'scenario_type', config.scenario_type,
              'is_enabled', config.is_enabled,
              'overriding', coalesce(organizations.overriding, 0),
              'evaluated', config.pass_evaluated,
              'due', config.pass_due,
              'claimed', config.pass_claimed,
              'skipped', config.pass_skipped,
              'history', config.pass_history,
              'seconds', extract(epoch from config.pass_duration),
              'finished_at', config.pass_finished_at,
              'is_under_way', config.resume_after is not null,
              'organization_pass_finished_at', organizations.finished_at,
              'waiting', coalesce(backlog.waiting, 0),
              'due_now', coalesce(backlog.due_now, 0),
              'leased', coalesce(backlog.leased, 0),
              'unsettled', coalesce(backlog.unsettled, 0),
              'oldest_due_at', backlog.oldest_due_at
            )
            order by array_position(scenario_private.scenario_types(), config.scenario_type), config.scenario_type
          ),
          '[]'
        )
        from public.scenario_evaluation_config as config
        left join backlog on backlog.scenario_type = config.scenario_type
        left join organizations on organizations.scenario_type = config.scenario_type
        where config.organization_id is null
      ),
      'failures', (
        select coalesce(
          json_agg(
            json_build_object(
              'scenario_type', tally.scenario_type,
              'failure_code', tally.failure_code,
              'last_day', tally.last_day,
              'last_week', tally.last_week
            )
            order by tally.scenario_type, tally.failure_code
          ),
          '[]'
        )
        from (
          select
            failed.scenario_type,
            failed.failure_code,
            count(*) filter (where failed.settled_at > now() - interval '1 day') as last_day,
            count(*) as last_week
          from public.scenario_notifications as failed
          where failed.is_failed
            and failed.triggered_at > triggered_after
            and failed.settled_at > now() - interval '7 days'
          group by failed.scenario_type, failed.failure_code
        ) as tally
      )
    )
  );
end
$$;
revoke all on function public.scenario_get_status(integer) from public, anon, authenticated;
grant execute on function public.scenario_get_status(integer) to service_role;
