-- What a rule is: a view scenario_private.<scenario type>_rule, one row per mentor and organization. Each has a file
-- under rules/; an app's own is made by a migration (`scenario-repo new-scenario`). Nothing else lists the rules.
--
-- What rules share:
--   * They start from scenario_private.mentor_setting and read the sources, and never write. An activity counts for its
--     user whichever organization it belongs to: a mentor who is busy in one organization has not gone quiet in
--     another. A certificate is told by the organization it belongs to, and by no other. The cooldown is the user's, so
--     a mentor of two organizations is notified once: for the one with the highest milestone or the shortest cooldown
--     that finds the mentor due, then the lowest organization_id.
--   * What lies in the future has not happened: an activity after now() is not seen.
--   * Boundaries are inclusive: a gap of exactly inactive_after is long enough, a certificate that lapses in exactly
--     expires_within is included; one that lapses now has lapsed.
--   * All is timestamptz and every day has 24 hours: the functions that read the rules pin the time zone to UTC, so
--     daylight saving shifts nothing.
--   * A look-up is a lateral subquery that finds one mentor's rows by an index: pages of thousands then cost a few
--     index entries a mentor.

create or replace view scenario_private.rule_contract
with (security_invoker = true)
as
select
  null::text as scenario_type,
  null::uuid as user_id,
  null::uuid as organization_id,
  null::boolean as is_active,
  null::boolean as is_enabled,
  null::boolean as is_evaluated,
  null::interval as cooldown,
  null::integer as milestone_value,
  null::boolean as is_due,
  null::text as finding,
  null::jsonb as facts,
  null::text[] as subjects,
  null::timestamptz as crossed_at,
  null::timestamptz as history_before,
  null::timestamptz as series_began_at,
  null::integer as series_limit,
  null::boolean as stands
where false;
comment on view scenario_private.rule_contract is
  'The columns that every rule has, with what each means; it has no rows.';
comment on column scenario_private.rule_contract.scenario_type is
  'The rule''s own scenario type, in every row.';
comment on column scenario_private.rule_contract.user_id is
  'The mentor: mentor_setting.user_id, unchanged, so that a page''s bounds reach the sources.';
comment on column scenario_private.rule_contract.organization_id is
  'The organization for which the mentor is judged: mentor_setting.organization_id.';
comment on column scenario_private.rule_contract.is_active is
  'Whether the mentor is active there: mentor_setting.is_active.';
comment on column scenario_private.rule_contract.is_enabled is
  'Whether the scenario is enabled there: mentor_setting.is_enabled.';
comment on column scenario_private.rule_contract.is_evaluated is
  'Whether an evaluation looks at the mentor: mentor_setting.is_evaluated.';
comment on column scenario_private.rule_contract.cooldown is
  'The shortest time between two notifications: mentor_setting.cooldown. Null for milestones, which are once ever.';
comment on column scenario_private.rule_contract.milestone_value is
  'The milestone that was reached; null in every other rule.';
comment on column scenario_private.rule_contract.is_due is
  'The verdict, whether or not the mentor is evaluated; null where there is nothing to judge.';
comment on column scenario_private.rule_contract.finding is
  'Why, in a code of lower-case letters, digits and underscores: what an explanation says.';
comment on column scenario_private.rule_contract.facts is
  'What the verdict rests on, as a json object of at most 8 KiB without personal data: the notification''s metadata.';
comment on column scenario_private.rule_contract.subjects is
  'What it is about, where a user may be told about several things of the type: ids, by scenario_private.subject_of; '
  '{}: about the scenario as a whole.';
comment on column scenario_private.rule_contract.crossed_at is
  'When what it tells of came true; null in a rule that looks ahead. Before history_before it is history.';
comment on column scenario_private.rule_contract.history_before is
  'What came true before this is not told, unless its series has begun: mentor_setting.history_before.';
comment on column scenario_private.rule_contract.series_began_at is
  'Notifications since then are reminders of the same; null: nothing is counted.';
comment on column scenario_private.rule_contract.series_limit is
  'How many there may be; null: as many as the cooldown allows.';
comment on column scenario_private.rule_contract.stands is
  'Whether what was claimed still holds, asked when it is handed out: mostly as is_due, without asking whether it was '
  'told. Where the rule names a milestone or subjects, the notification''s own are compared with them.';
revoke all on table scenario_private.rule_contract from public, anon, authenticated;
grant select on table scenario_private.rule_contract to service_role;

-- What a scenario hopes for is a second view beside its rule, scenario_private.<scenario type>_hope, if the type says it
-- at all: what came of a notification is read from it (18_outcomes.sql), for those who were told and for those who could
-- not be. It starts from public.scenario_notifications, and looks up one person's rows by an index.
create or replace view scenario_private.hope_contract
with (security_invoker = true)
as
select
  null::uuid as notification_id,
  null::timestamptz as hoped_at
where false;
comment on view scenario_private.hope_contract is
  'The columns of every view of what a scenario hopes for, with what each means; it has no rows.';
comment on column scenario_private.hope_contract.notification_id is
  'A notification of the type that was settled, sent or failed: its id, in one row.';
comment on column scenario_private.hope_contract.hoped_at is
  'When what the scenario hopes for first came true after settled_at, and not after now(); null: it has not. Where the '
  'app''s tables have no date for it, settled_at: some time since.';
revoke all on table scenario_private.hope_contract from public, anon, authenticated;
grant select on table scenario_private.hope_contract to service_role;

-- The hope of three of the built-in scenarios: an activity after it. What a rule calls it is in its own file.
create or replace view scenario_private.further_activity
with (security_invoker = true)
as
select
  notification.id as notification_id,
  notification.scenario_type,
  (
    select activity.activity_date
    from scenario_source.activities as activity
    where activity.user_id = notification.user_id
      and activity.activity_date > notification.settled_at
      and activity.activity_date <= now()
    order by activity.activity_date
    limit 1
  ) as hoped_at
from public.scenario_notifications as notification;
comment on view scenario_private.further_activity is
  'When each notification''s user was first active after it was settled.';
revoke all on table scenario_private.further_activity from public, anon, authenticated;
grant select on table scenario_private.further_activity to service_role;

-- The rules there are, in the order of the scenario types; a type whose view is missing is left out.
create or replace function scenario_private.rules()
returns table (scenario_type text, rule regclass)
language sql
stable
set search_path = ''
rows 10
as $$
  select listed.scenario_type, view.rule
  from unnest(scenario_private.scenario_types()) with ordinality as listed (scenario_type, ordinal)
  cross join lateral (
    select pg_catalog.to_regclass(format('scenario_private.%I', listed.scenario_type || '_rule')) as rule
  ) as view
  where view.rule is not null
  order by listed.ordinal
$$;
revoke all on function scenario_private.rules() from public, anon, authenticated;
grant execute on function scenario_private.rules() to service_role;

-- The rule of a scenario type. Raises SR004 for an unknown type, SR008 for one without a rule.
create or replace function scenario_private.rule_of(p_scenario_type text)
returns regclass
language plpgsql
stable
set search_path = ''
as $$
declare
  rule regclass;
begin
  perform scenario_private.require_scenario_type(p_scenario_type);
  rule := pg_catalog.to_regclass(format('scenario_private.%I', p_scenario_type || '_rule'));
  if rule is null then
    raise exception using
      errcode = 'SR008',
      message = format(
        '%s has no rule: create the view scenario_private.%I, or run the migrations again',
        p_scenario_type, p_scenario_type || '_rule'
      );
  end if;
  return rule;
end
$$;
revoke all on function scenario_private.rule_of(text) from public, anon, authenticated;
grant execute on function scenario_private.rule_of(text) to service_role;

-- The schema's version, and the scenario types to evaluate: those that have default settings or a rule. What is missing
-- of the two, their evaluation says.
--   out  {"version", "scenario_types": [text]}
create or replace function public.scenario_get_schema(p_needs_schema integer default null)
returns json
language plpgsql
stable
security invoker
set search_path = ''
as $$
begin
  perform scenario_private.require_schema(p_needs_schema);
  return json_build_object(
    'version', scenario_private.schema_version(),
    'scenario_types', scenario_private.evaluated_types()
  );
end
$$;
revoke all on function public.scenario_get_schema(integer) from public, anon, authenticated;
grant execute on function public.scenario_get_schema(integer) to service_role;

-- Runs one rule the way an evaluation would, without claiming: for whoever writes a rule.
--   out  {"scenario_type", "faults": [text], "mentors", "due", "is_complete", "samples": [row],
--         "page_plan": [line], "look_up_plan": [line]}
-- faults says what breaks the contract (scenario_private.rule_contract), and which table a look-up would read whole.
-- mentors and due are counted among the first 10,000 active memberships; is_complete says whether these are all. They
-- are not counted where there is a fault that would keep the rule from running, or for ever.
-- samples are p_samples of those who are due, without facts that a notification could not keep. The plans are those of
-- one page and of a look-up of 100 persons.
-- Raises SR004 for an unknown scenario type, SR001 for p_samples outside 0 to 100. A rule that raises is a fault.
create or replace function public.scenario_check_rule(
  p_scenario_type text, p_samples integer default 10, p_needs_schema integer default null
)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
declare
  rule regclass;
  hope regclass;
  faults text[];
  last_user_id uuid;
  is_complete boolean := false;
  mentor_count integer := 0;
  due_count integer := 0;
  samples json := json '[]';
  page_query text;
  look_up_query text;
  page_plan text[] := array[]::text[];
  look_up_plan text[] := array[]::text[];
  line text;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_scenario_type(p_scenario_type);
  perform scenario_private.require_between('p_samples', p_samples, 0, 100);

  rule := to_regclass(format('scenario_private.%I', p_scenario_type || '_rule'));
  if rule is null then
    faults := array[format('there is no view scenario_private.%I', p_scenario_type || '_rule')];
  elsif not has_table_privilege(rule, 'select') then
    faults := array[format('%s may not read it: grant select on %s to %s', current_user, rule, current_user)];
  else
    faults := array(
      select case
          when actual.attname is null then format('column %s is missing', wanted.attname)
          else format(
            'column %s: expected %s, got %s',
            wanted.attname, format_type(wanted.atttypid, null), format_type(actual.atttypid, null)
          )
        end
      from pg_attribute as wanted
      left join pg_attribute as actual on actual.attrelid = rule and actual.attname = wanted.attname
      where wanted.attrelid = 'scenario_private.rule_contract'::regclass
        and wanted.attnum > 0
        and actual.atttypid is distinct from wanted.atttypid
      order by wanted.attnum
    );
  end if;
  -- What it hopes for, if it says so.
  hope := to_regclass(format('scenario_private.%I', p_scenario_type || '_hope'));
  if hope is not null and not has_table_privilege(hope, 'select') then
    faults := faults || format('%s may not read it: grant select on %s to %s', current_user, hope, current_user);
  elsif hope is not null then
    faults := faults || array(
      select format('%s: expected a column %s of %s', hope, wanted.attname, format_type(wanted.atttypid, null))
      from pg_attribute as wanted
      left join pg_attribute as actual on actual.attrelid = hope and actual.attname = wanted.attname
      where wanted.attrelid = 'scenario_private.hope_contract'::regclass
        and wanted.attnum > 0
        and actual.atttypid is distinct from wanted.atttypid
      order by wanted.attnum
    );
  end if;
  faults := faults || array(
    select format(
      '%s is no view with security_invoker: it would read with its owner''s rights',
      case when given.place = 1 then 'it' else given.view::text end
    )
    from unnest(array[rule, hope]) with ordinality as given (view, place)
    where given.view is not null and not exists (
      select
      from pg_class as relation
      cross join lateral pg_options_to_table(relation.reloptions) as option
      where relation.oid = given.view and option.option_name = 'security_invoker' and option.option_value::boolean
    )
    order by given.place
  );
  if not exists (
    select
    from public.scenario_evaluation_config as config
    where config.scenario_type = p_scenario_type and config.organization_id is null
  ) then
    faults := faults || 'its default row in scenario_evaluation_config is missing'::text;
  end if;

  if cardinality(faults) = 0 then
    begin
      select mentor.user_id into last_user_id
      from scenario_source.mentors as mentor
      where mentor.is_active
      order by mentor.user_id
      offset 9999
      limit 1;
      page_query := format(
        'select rule.* from %s as rule where rule.is_evaluated%s',
        rule, case when last_user_id is not null then format(' and rule.user_id <= %L', last_user_id) end
      );
      look_up_query := format(
        'select found.*
         from unnest(%L::uuid[]) as person (user_id)
         cross join lateral (select rule.* from %s as rule where rule.user_id = person.user_id offset 0) as found',
        array(select mentor.user_id from scenario_source.mentors as mentor limit 100), rule
      );
      for line in execute 'explain (verbose) ' || page_query loop
        page_plan := page_plan || line;
      end loop;
      for line in execute 'explain (verbose) ' || look_up_query loop
        look_up_plan := look_up_plan || line;
      end loop;
      faults := faults || array(
        select distinct format(
          'the look-up of a person reads all of %s: an index that starts with the user is missing', found.relation
        )
        from (
          select (regexp_match(plan.line, 'Seq Scan on (\S+)'))[1] as relation
          from unnest(look_up_plan) as plan (line)
        ) as found
        join pg_class on pg_class.oid = to_regclass(found.relation)
        where pg_class.reltuples > 1000
      );
      -- Without its index the page could take for ever.
      if cardinality(faults) = 0 then
        execute format(
          'with page as materialized (%1$s)
           select
             (select count(*) from page),
             (select count(*) from page where page.is_due),
             (
               select coalesce(json_agg(sample), ''[]'')
               from (
                 select
                   page.user_id, page.organization_id, page.milestone_value, page.finding,
                   case when scenario_private.is_storable_metadata(page.facts) then page.facts end as facts
                 from page
                 where page.is_due and page.user_id is not null and page.organization_id is not null
                 order by page.user_id, page.organization_id
                 limit %2$s
               ) as sample
             ),
             array(
               select fault.text
               from (
                 values
                   (
                     (select count(*) <> count(distinct (page.user_id, page.organization_id)) from page),
                     ''a mentor has more than one row for an organization''
                   ),
                   (
                     exists (select from page where page.user_id is null or page.organization_id is null),
                     ''user_id or organization_id is null in some rows''
                   ),
                   (
                     exists (
                       select from page
                       where page.is_due
                         and not page.cooldown between interval ''1 microsecond'' and interval ''36525 days''
                     ),
                     ''cooldown is not positive, or longer than 36525 days, in some rows''
                   ),
                   (
                     exists (select from page where page.scenario_type is distinct from %3$L),
                     ''scenario_type is another one in some rows''
                   ),
                   (
                     exists (select from page where page.is_due and (page.milestone_value is not null) <> %4$L),
                     ''milestone_value is for milestones alone, and each has one''
                   ),
                   (
                     exists (select from page where page.is_due and (page.cooldown is null) <> %4$L),
                     ''cooldown is null in some rows''
                   ),
                   (
                     exists (select from page where page.finding is null or page.finding !~ ''^[a-z][a-z0-9_]*$''),
                     ''finding is not a code of lower-case letters, digits and underscores in some rows''
                   ),
                   (
                     exists (
                       select from page
                       where page.is_due
                         and page.facts is not null
                         and not scenario_private.is_storable_metadata(page.facts)
                     ),
                     ''facts is no json object, is larger than 8 KiB or holds personal data in some rows''
                   ),
                   (
                     exists (select from page where page.is_due and page.subjects is null),
                     ''subjects is null in some rows: {} is about the scenario as a whole''
                   ),
                   (
                     exists (
                       select from page
                       where page.is_due
                         and page.subjects <> ''{}''
                         and not scenario_private.are_storable_subjects(page.subjects)
                     ),
                     ''subjects are more than 50, empty, longer than 100 characters or hold personal data in some rows''
                   ),
                   (
                     exists (select from page where page.is_due and page.stands is not true),
                     ''is due and does not stand, in some rows: it would be claimed and never handed out''
                   ),
                   (
                     exists (select from page where page.is_due and page.series_limit < 1),
                     ''series_limit is less than 1 in some rows''
                   )
               ) as fault (is_found, text)
               where fault.is_found
             )',
          page_query, p_samples, p_scenario_type, p_scenario_type = 'milestone'
        ) into mentor_count, due_count, samples, faults;
        is_complete := last_user_id is null;
      end if;
    exception
      -- In catalogue errors the message names objects; in all others it may quote a row.
      when syntax_error_or_access_rule_violation then
        faults := array[format('the rule raised %s: %s', sqlstate, sqlerrm)];
      when others then
        faults := array[format('the rule raised %s', sqlstate)];
    end;
  end if;

  return json_build_object(
    'scenario_type', p_scenario_type,
    'faults', faults,
    'mentors', mentor_count,
    'due', due_count,
    'is_complete', is_complete,
    'samples', samples,
    'page_plan', page_plan,
    'look_up_plan', look_up_plan
  );
end
$$;
revoke all on function public.scenario_check_rule(text, integer, integer) from public, anon, authenticated;
grant execute on function public.scenario_check_rule(text, integer, integer) to service_role;
