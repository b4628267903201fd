-- Takes scenario_repo out of a database: its functions, tables with all they hold, schemas, jobs of pg_cron, and the
-- indexes that it made on an app's tables. What is the app's stays: its tables, and what it wrote.
--
-- Put it into a migration of your own (`supabase migration new remove_scenario_repo`), so that `supabase db reset`
-- comes to the same end; or run it once, as postgres. Stop the workers first.
--
-- A table that scenario_repo made because the app had none (peer_mentors, activities, certifications, device_tokens) is
-- dropped if it is empty, and kept with a notice if not. Whatever of the app's reads our tables is told in one message,
-- and nothing is dropped.

do $uninstall$
declare
  dependents text;
  object record;
  is_filled boolean;
begin
  create temporary table our_relation on commit drop as
  select relation.oid
  from pg_class as relation
  join pg_namespace as schema on schema.oid = relation.relnamespace
  where schema.nspname in ('scenario_private', 'scenario_source')
    or schema.nspname = 'public'
      and relation.relname in (
        'scenario_notifications', 'scenario_evaluation_config', 'scenario_delivery_policy', 'scenario_days_off',
        'scenario_mutes'
      );

  select string_agg(distinct format(E'\n  %s', found.name), '')
  into dependents
  from (
    select format('the view %s', rule.ev_class::regclass) as name
    from pg_depend as dependency
    join pg_rewrite as rule on dependency.classid = 'pg_rewrite'::regclass and rule.oid = dependency.objid
    where dependency.refclassid = 'pg_class'::regclass
      and dependency.refobjid in (select oid from our_relation)
      and rule.ev_class not in (select oid from our_relation)
    union all
    select format('the foreign key %s of %s', reference.conname, reference.conrelid::regclass)
    from pg_constraint as reference
    where reference.contype = 'f'
      and reference.confrelid in (select oid from our_relation)
      and reference.conrelid not in (select oid from our_relation)
  ) as found;
  if dependents is not null then
    raise exception using
      errcode = 'dependent_objects_still_exist',
      message = format('this reads the tables of scenario_repo, and has to go or to change first:%s', dependents);
  end if;

  if to_regclass('cron.job') is not null then
    perform cron.unschedule(job.jobname) from cron.job as job where job.jobname like 'scenario\_repo %';
  end if;

  -- Every function of the API has this argument.
  for object in
    select function.oid::regprocedure as signature
    from pg_proc as function
    where function.pronamespace = 'public'::regnamespace
      and starts_with(function.proname, 'scenario_')
      and 'p_needs_schema' = any (function.proargnames)
  loop
    execute format('drop function %s', object.signature);
  end loop;

  drop schema if exists scenario_source cascade;
  drop table if exists
    public.scenario_notifications,
    public.scenario_evaluation_config,
    public.scenario_delivery_policy,
    public.scenario_days_off,
    public.scenario_mutes
    cascade;
  drop schema if exists scenario_private cascade;

  for object in
    select relation.oid::regclass as name
    from pg_class as relation
    join pg_description as comment
      on comment.objoid = relation.oid and comment.classoid = 'pg_class'::regclass and comment.objsubid = 0
    where relation.relkind in ('r', 'p')
      and (relation.oid, comment.description) in (
        (
          to_regclass('public.peer_mentors'),
          'Who is a mentor in which organization; a mentor may belong to several.'
        ),
        (
          to_regclass('public.activities'),
          'What mentors did and when: the inactivity, milestone and welcome_back rules count and date these rows.'
        ),
        (
          to_regclass('public.certifications'),
          'Certificates and when they lapse: read by the certification_expiry rule.'
        ),
        (
          to_regclass('public.device_tokens'),
          'Where a user''s notifications are delivered: handed to the sender together with the leased notification.'
        )
      )
  loop
    execute format('select exists (select from %s)', object.name) into is_filled;
    if is_filled then
      raise notice 'kept, since it has rows: %', object.name;
    else
      execute format('drop table %s', object.name);
    end if;
  end loop;

  -- On an app's tables. Whatever an app made itself has another comment, or none.
  for object in
    select relation.oid::regclass as name
    from pg_class as relation
    join pg_description as comment
      on comment.objoid = relation.oid and comment.classoid = 'pg_class'::regclass and comment.objsubid = 0
    where relation.relkind in ('i', 'I')
      and relation.oid in (
        to_regclass('public.peer_mentors_active_by_user_idx'),
        to_regclass('public.peer_mentors_active_by_organization_idx'),
        to_regclass('public.activities_user_id_activity_date_idx'),
        to_regclass('public.certifications_user_id_expires_at_idx')
      )
      and starts_with(comment.description, 'Serves: ')
  loop
    execute format('drop index %s', object.name);
  end loop;
end
$uninstall$;
