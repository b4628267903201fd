-- Takes away the jobs of schedule_with_pg_cron.sql; does nothing where there are none, or no pg_cron.
--
-- A pass under way stays where it stands: whoever evaluates next goes on there.

do $$
begin
  if to_regclass('cron.job') is null then
    raise notice 'pg_cron is not installed here: there is nothing to unschedule';
    return;
  end if;
  perform cron.unschedule(job.jobname)
  from cron.job as job
  where job.jobname like 'scenario_repo %';
end
$$;
