-- Evaluates the scenarios inside the database, on pg_cron: one job per scenario that has a rule, the app's own ones
-- too, at minutes that don't meet (five kinds; then they are shared). Each night, one job deletes what has been over
-- for a year (see 17_purge.sql: no row that a decision depends on), and one what pg_cron noted of these jobs, which
-- would grow for good.
--
-- Not a migration: run it once, as postgres, in the SQL editor or with psql. Each job is named, so that running this
-- again (with another schedule, say) changes the jobs instead of adding to them. Where pg_cron is not available nothing
-- happens but a notice. unschedule_pg_cron.sql takes the jobs away.
--
-- A job turns the pages of its scenario's pass, with a commit after each: no transaction and no lock is longer than a
-- page, and a job that is stopped half way goes on from there next time. The commit is why the loop is a do block of
-- the job's own and not a function: one with a SET clause, as ours are, may not commit. A job that is still running
-- when its next turn comes does no harm: two share one pass.

do $schedule$
declare
  scenario record;
  -- A scenario whose longest cooldown is longer is left alone.
  kept_for constant interval := '365 days';
  runs_kept_for constant interval := '7 days';
begin
  if to_regprocedure('scenario_private.rules()') is null then
    raise exception 'scenario_repo is not in this database: apply its migrations first';
  end if;

  -- pg_cron is listed as available even where the server doesn't load it: only trying tells.
  begin
    create extension if not exists pg_cron;
  exception when others then
    raise notice 'pg_cron is not available here (%): nothing was scheduled', sqlerrm
      using hint = 'A cron of any other kind can run `scenario-repo evaluate` instead.';
    return;
  end;

  for scenario in
    select
      known.scenario_type,
      case
        -- What comes due with the day, not with what somebody does.
        when known.scenario_type = 'certification_expiry' then '23 5 * * *'
        else format('%s-59/15 * * * *', 3 * row_number() over () % 15)
      end as schedule
    from scenario_private.rules() as known
  loop
    perform cron.schedule(
      'scenario_repo ' || scenario.scenario_type,
      scenario.schedule,
      format(
        $job$
        do $pages$
        declare
          page json;
        begin
          loop
            page := public.scenario_evaluate_next_page(
              %L, p_pass_number => (page ->> 'pass_number')::bigint
            );
            commit;
            -- Over, or left to the engines that have the rest in hand.
            exit when page ->> 'next_after' is null or (page ->> 'in_other_hands')::boolean;
          end loop;
        end
        $pages$
        $job$,
        scenario.scenario_type
      )
    );
  end loop;

  perform cron.schedule(
    'scenario_repo purge',
    '17 2 * * *',
    format(
      $job$
      do $pages$
      declare
        page json;
        after uuid;
      begin
        loop
          page := public.scenario_purge_notifications(%s, after);
          commit;
          after := page ->> 'next_after';
          exit when after is null;
        end loop;
      end
      $pages$
      $job$,
      extract(epoch from kept_for)
    )
  );

  perform cron.schedule(
    'scenario_repo job_run_details',
    '29 2 * * *',
    format(
      $job$
      delete from cron.job_run_details as run
      using cron.job as job
      where job.jobid = run.jobid and job.jobname like 'scenario\_repo %%' and run.end_time < now() - interval %L
      $job$,
      runs_kept_for
    )
  );
end
$schedule$;
