-- Who may do what: every actor tries every act on every table and calls every function.
--
-- The acts are generated from the three lists below. A new table or function that isn't listed fails the first
-- tests: add a line, and its acts come by themselves.

begin;
select no_plan();

-- The lists --------------------------------------------------------------------------------------------------------

-- In the templates, %1$L is a user and %2$L an organization.
--   schema     where it is: scenario_private is closed to all but the service
--   readable   whether signed-in users read their own rows
--   columns, row   what an insert writes
--   belongs    finds the row of that user and organization
--   change     a harmless update; key   what an upsert conflicts on
create temp table known_table (
  schema text, name text primary key, readable boolean, columns text, row text, belongs text, change text, key text
);
insert into known_table values
  ('public', 'scenario_notifications', true,
   'user_id, organization_id, scenario_type', '%1$L, %2$L, ''inactivity''',
   'user_id = %1$L', 'metadata = null', 'id'),
  ('public', 'peer_mentors', false,
   'user_id, organization_id', '%1$L, %2$L',
   'user_id = %1$L', 'is_active = not is_active', 'user_id, organization_id'),
  ('public', 'activities', false,
   'user_id, organization_id, activity_date', '%1$L, %2$L, now()',
   'user_id = %1$L', 'activity_date = now()', 'id'),
  ('public', 'certifications', false,
   'user_id, organization_id, expires_at', '%1$L, %2$L, now()',
   'user_id = %1$L', 'expires_at = now()', 'id'),
  ('public', 'device_tokens', false,
   'user_id, token, platform', '%1$L, ''token of '' || %1$L, ''ios''',
   'user_id = %1$L', 'platform = ''web''', 'user_id, token'),
  ('public', 'scenario_mutes', true,
   'user_id, organization_id', '%1$L, %2$L',
   'user_id = %1$L', 'muted_until = null', 'user_id, organization_id, scenario_type'),
  ('scenario_private', 'delivery_turn', false,
   'user_id', '%1$L', 'user_id = %1$L', 'handed_at = null', 'user_id'),
  -- Nobody's in particular: the user's id stands for an organization's.
  ('public', 'scenario_evaluation_config', false,
   'id, scenario_type, organization_id', 'md5(%1$L)::uuid, ''inactivity'', %1$L',
   'organization_id = %1$L', 'pass_finished_at = null', 'scenario_type, organization_id'),
  ('public', 'scenario_delivery_policy', false,
   'organization_id', '%1$L', 'organization_id = %1$L', 'min_gap = null', 'organization_id'),
  ('public', 'scenario_days_off', false,
   'id, organization_id, first_day, last_day', 'md5(%1$L)::uuid, %1$L, ''2026-12-24'', ''2026-12-24''',
   'organization_id = %1$L', 'stops_clock = true', 'id'),
  ('scenario_private', 'left_out', false,
   'pass_id, organization_ids, reasons, mentors',
   -- Of the owner's pass, whoever writes it.
   'md5(md5(''owner'')::uuid::text)::uuid, array[%1$L::uuid], ''{cooldown}'', ''{5}''',
   '%1$L = any (organization_ids)', 'mentors = ''{6}''', 'pass_id, id'),
  ('scenario_private', 'pass_range', false,
   'pass_id, number, place', 'md5(md5(''owner'')::uuid::text)::uuid, hashtext(%1$L), %1$L',
   'place = %1$L', 'evaluated = 1', 'pass_id, number'),
  -- Last: the notifications above have brought some already, which go first.
  ('scenario_private', 'handover', false,
   'notification_id, user_id, organization_id, scenario_type', 'md5(%1$L)::uuid, %1$L, %2$L, ''inactivity''',
   'user_id = %1$L', 'attempt_count = attempt_count + 1', 'notification_id');

-- caller: service_role, or nobody (triggers, and what only other functions run). rights: invoker, or definer.
create temp table known_function (signature text primary key, caller text, rights text);
insert into known_function values
  ('public.scenario_cancel_notifications(p_ids uuid[], p_needs_schema integer)', 'service_role', 'invoker'),
  ('public.scenario_check_rule(p_scenario_type text, p_samples integer, p_needs_schema integer)',
   'service_role', 'invoker'),
  ('public.scenario_begin_run(p_scenario_types text[], p_organization_id uuid, p_needs_schema integer)',
   'service_role', 'invoker'),
  ('public.scenario_claim_notifications(p_claims jsonb, p_lease_seconds double precision, p_needs_schema'
   ' integer)',
   'service_role', 'invoker'),
  ('public.scenario_evaluate(p_scenario_type text, p_organization_id uuid, p_after uuid, p_limit '
   'integer, p_dry_run boolean, p_due_within_seconds double precision, p_list boolean, p_needs_schema '
   'integer)',
   'service_role', 'invoker'),
  ('public.scenario_evaluate_next_page(p_scenario_type text, p_organization_id uuid, p_limit integer, '
   'p_due_within_seconds double precision, p_pass_number bigint, p_needs_schema integer)',
   'service_role', 'invoker'),
  ('public.scenario_explain(p_user_id uuid, p_needs_schema integer)', 'service_role', 'invoker'),
  ('public.scenario_find_inactive_mentors(p_organization_id uuid, p_inactive_after interval, p_limit '
   'integer, p_after uuid, p_needs_schema integer)',
   'service_role', 'definer'),
  ('public.scenario_get_catalogue(p_needs_schema integer)', 'service_role', 'invoker'),
  ('public.scenario_get_last_delivered_at_many(p_user_ids uuid[], p_scenario_type text, p_needs_schema '
   'integer)',
   'service_role', 'invoker'),
  ('public.scenario_get_last_sent_at_many(p_user_ids uuid[], p_scenario_type text, p_needs_schema '
   'integer)',
   'service_role', 'invoker'),
  ('public.scenario_get_milestone_record_many(p_user_ids uuid[], p_milestone_value integer, '
   'p_needs_schema integer)',
   'service_role', 'invoker'),
  ('scenario_private.changed_settings(p_scenario_type text, p_changes jsonb, p_organization_id uuid)',
   'service_role', 'invoker'),
  ('scenario_private.require_real_settings()', 'service_role', 'invoker'),
  ('scenario_private.simulated_settings()', 'service_role', 'invoker'),
  ('public.scenario_erase_person(p_user_id uuid, p_needs_schema integer)', 'service_role', 'invoker'),
  ('public.scenario_export_person(p_user_id uuid, p_needs_schema integer)', 'service_role', 'invoker'),
  ('public.scenario_simulate(p_scenario_type text, p_changes jsonb, p_organization_id uuid, p_after uuid, '
   'p_limit integer, p_list boolean, p_needs_schema integer)',
   'service_role', 'invoker'),
  ('public.scenario_get_organization_report(p_organization_id uuid, p_since timestamp with time zone, '
   'p_until timestamp with time zone, p_time_zone text, p_needs_schema integer)',
   'service_role', 'invoker'),
  ('public.scenario_explain_notification(p_id uuid, p_needs_schema integer)', 'service_role', 'invoker'),
  ('public.scenario_get_left_out(p_organization_id uuid, p_under_way boolean, p_needs_schema integer)',
   'service_role', 'invoker'),
  ('public.scenario_get_outcomes(p_organization_id uuid, p_scenario_type text, p_since timestamp with '
   'time zone, p_until timestamp with time zone, p_within_seconds double precision, p_needs_schema '
   'integer)',
   'service_role', 'invoker'),
  ('scenario_private.days_between(p_since timestamp with time zone, p_until timestamp with time zone, '
   'p_first timestamp with time zone, p_last timestamp with time zone, p_time_zone text)',
   'service_role', 'invoker'),
  ('scenario_private.difference_interval(p_hits bigint, p_number bigint, p_other_hits bigint, '
   'p_other_number bigint)',
   'service_role', 'invoker'),
  ('scenario_private.evaluate_page(p_scenario_type text, p_organization_id uuid, p_after uuid, p_limit '
   'integer, p_dry_run boolean, p_due_within_seconds double precision, p_list boolean, '
   'p_by_organization boolean, p_upto uuid, OUT page json, OUT left_out_organization_ids uuid[], OUT '
   'left_out_reasons text[], OUT left_out_mentors bigint[])',
   'service_role', 'invoker'),
  ('scenario_private.page_of_pass(p_page json, p_next_after uuid, p_pass_number bigint, p_in_other_hands '
   'boolean)',
   'service_role', 'invoker'),
  ('scenario_private.range_bounds(p_organization_id uuid)', 'service_role', 'invoker'),
  ('scenario_private.range_size()', 'service_role', 'invoker'),
  ('scenario_private.keep_left_out(p_pass_id uuid, p_is_first boolean, p_is_last boolean, '
   'p_organization_ids uuid[], p_reasons text[], p_mentors bigint[])',
   'service_role', 'invoker'),
  ('scenario_private.require_time_zone(p_argument text, p_value text)', 'service_role', 'invoker'),
  ('scenario_private.share_interval(p_hits bigint, p_number bigint)', 'service_role', 'invoker'),
  ('scenario_private.shown(p_persons bigint)', 'service_role', 'invoker'),
  ('scenario_private.shown_group(p_persons bigint, p_hoped bigint, p_undecided bigint)',
   'service_role', 'invoker'),
  ('public.scenario_get_schema(p_needs_schema integer)', 'service_role', 'invoker'),
  ('public.scenario_get_status(p_needs_schema integer)', 'service_role', 'invoker'),
  ('public.scenario_has_been_delivered_since_many(p_user_ids uuid[], p_scenario_type text, p_cutoff '
   'timestamp with time zone, p_needs_schema integer)',
   'service_role', 'invoker'),
  ('public.scenario_has_been_sent_since_threshold_many(p_user_ids uuid[], p_scenario_type text, p_cutoff'
   ' timestamp with time zone, p_needs_schema integer)',
   'service_role', 'invoker'),
  ('public.scenario_lease_notifications(p_limit integer, p_lease_seconds double precision, '
   'p_organization_id uuid, p_scenario_types text[], p_needs_schema integer)',
   'service_role', 'invoker'),
  ('public.scenario_list_pending(p_organization_id uuid, p_scenario_type text, p_after_at timestamp with '
   'time zone, p_after_id uuid, p_limit integer, p_needs_schema integer)',
   'service_role', 'invoker'),
  ('public.scenario_purge_notifications(p_older_than_seconds double precision, p_after uuid, p_limit '
   'integer, p_needs_schema integer)',
   'service_role', 'invoker'),
  ('public.scenario_retry_notifications(p_ids uuid[], p_needs_schema integer)', 'service_role', 'invoker'),
  ('public.scenario_settle_notifications(p_results jsonb, p_max_attempts integer, p_needs_schema '
   'integer)',
   'service_role', 'invoker'),
  ('scenario_private.add_scenario_type(p_scenario_type text)', 'nobody', 'invoker'),
  ('scenario_private.announces_a_phone(p_plain text)', 'service_role', 'invoker'),
  ('scenario_private.answers_of_rule(p_scenario_type text, p_candidates scenario_private.lease_candidate[])',
   'service_role', 'invoker'),
  ('scenario_private.are_readable_subjects(p_subjects jsonb)', 'service_role', 'invoker'),
  ('scenario_private.are_readable_tokens(p_tokens jsonb)', 'service_role', 'invoker'),
  ('scenario_private.are_storable_subjects(p_subjects text[])', 'service_role', 'invoker'),
  ('scenario_private.ask_again(p_candidates scenario_private.lease_candidate[])', 'service_role', 'invoker'),
  ('scenario_private.ask_rules(p_candidates scenario_private.lease_candidate[])', 'service_role', 'invoker'),
  ('scenario_private.await_moments(p_candidates scenario_private.lease_candidate[], p_has_gaps boolean)',
   'service_role', 'invoker'),
  ('scenario_private.begin_turns(p_user_ids uuid[])', 'service_role', 'definer'),
  ('scenario_private.check_mutes()', 'nobody', 'definer'),
  ('scenario_private.claim(p_id_prefix text, p_origin text, p_user_ids uuid[], p_organization_ids '
   'uuid[], p_organization_id uuid, p_scenario_types text[], p_scenario_type text, p_cooldowns '
   'interval[], p_cooldown interval, p_milestone_values integer[], p_metadata jsonb[], p_all_metadata '
   'jsonb, p_subjects jsonb[], p_predecessors timestamp with time zone[], p_places bigint[], '
   'p_leased_until timestamp with time zone)',
   'service_role', 'invoker'),
  ('scenario_private.claim_once(p_id_prefix text, p_origin text, p_user_ids uuid[], p_organization_ids '
   'uuid[], p_organization_id uuid, p_scenario_types text[], p_scenario_type text, p_cooldowns '
   'interval[], p_cooldown interval, p_milestone_values integer[], p_metadata jsonb[], p_all_metadata '
   'jsonb, p_subjects jsonb[], p_predecessors timestamp with time zone[], p_existing_user_ids uuid[], '
   'p_judges_values boolean, p_places bigint[], p_leased_until timestamp with time zone)',
   'service_role', 'invoker'),
  ('scenario_private.clock_back(p_until timestamp with time zone, p_length interval, p_stopped '
   'tstzmultirange)',
   'service_role', 'invoker'),
  ('scenario_private.clock_forward(p_since timestamp with time zone, p_length interval, p_stopped '
   'tstzmultirange)',
   'service_role', 'invoker'),
  ('scenario_private.column_of(p_values anyarray)', 'service_role', 'invoker'),
  ('scenario_private.complete_plain_insert()', 'nobody', 'invoker'),
  ('scenario_private.current_holder(p_user_id uuid, p_scenario_type text, p_cooldown interval, '
   'p_milestone_value integer, p_subjects text[])',
   'service_role', 'invoker'),
  ('scenario_private.deadlines(p_organization_ids uuid[], p_organization_id uuid, p_scenario_types '
   'text[], p_scenario_type text)',
   'service_role', 'invoker'),
  ('scenario_private.delivery_policy_of(p_organization_id uuid)', 'service_role', 'invoker'),
  ('scenario_private.delivery_setting_of(p_scenario_type text, p_organization_id uuid)', 'service_role', 'invoker'),
  ('scenario_private.end_handovers()', 'nobody', 'definer'),
  ('scenario_private.end_suppressions(p_user_ids uuid[])', 'service_role', 'invoker'),
  ('scenario_private.evaluated_types()', 'service_role', 'invoker'),
  ('scenario_private.first_due_at()', 'service_role', 'invoker'),
  ('scenario_private.give_turns_back(p_ids uuid[], p_user_ids uuid[])', 'service_role', 'invoker'),
  ('scenario_private.hand_over_plain_insert()', 'nobody', 'invoker'),
  ('scenario_private.has_delivery_policies()', 'service_role', 'invoker'),
  ('scenario_private.hold_of_failure(p_failure_code text)', 'service_role', 'invoker'),
  ('scenario_private.holds_an_address(p_plain text)', 'service_role', 'invoker'),
  ('scenario_private.holds_personal_data(p_metadata jsonb)', 'service_role', 'invoker'),
  ('scenario_private.in_lower_case(p_text text)', 'service_role', 'invoker'),
  ('scenario_private.is_fodselsnummer(p_number text)', 'service_role', 'invoker'),
  ('scenario_private.is_muted(p_user_id uuid, p_organization_id uuid, p_scenario_type text)',
   'service_role', 'invoker'),
  ('scenario_private.is_personnummer(p_born text, p_divider text, p_serial text)', 'service_role', 'invoker'),
  ('scenario_private.is_phone_number(p_number text)', 'service_role', 'invoker'),
  ('scenario_private.is_readable_claim(p_claim jsonb)', 'service_role', 'invoker'),
  ('scenario_private.is_readable_settlement(p_settlement jsonb)', 'service_role', 'invoker'),
  ('scenario_private.is_storable_metadata(p_metadata jsonb)', 'service_role', 'invoker'),
  ('scenario_private.is_time_zone(p_name text)', 'service_role', 'invoker'),
  ('scenario_private.keep_books()', 'nobody', 'invoker'),
  ('scenario_private.leased_rows(p_ids uuid[])', 'service_role', 'invoker'),
  ('scenario_private.local_instant(p_local timestamp without time zone, p_time_zone text, p_last '
   'boolean)',
   'service_role', 'invoker'),
  ('scenario_private.lock_existing_users(p_user_ids uuid[])', 'service_role', 'definer'),
  ('scenario_private.min_gap_of(p_organization_id uuid)', 'service_role', 'invoker'),
  ('scenario_private.names_a_phone(p_key text)', 'service_role', 'invoker'),
  ('scenario_private.new_id_prefix()', 'service_role', 'invoker'),
  ('scenario_private.next_due_at(p_organization_id uuid, p_scenario_types text[])', 'service_role', 'invoker'),
  ('scenario_private.next_moment(p_organization_id uuid, p_from timestamp with time zone)', 'service_role', 'invoker'),
  ('scenario_private.next_permitted(p_time_zone text, p_weekdays integer[], p_opens_at time without time'
   ' zone, p_closes_at time without time zone, p_days_off datemultirange, p_from timestamp with time '
   'zone)',
   'service_role', 'invoker'),
  ('scenario_private.organizations_waiting(p_after uuid, p_most integer)', 'service_role', 'invoker'),
  ('scenario_private.personal_data_in_number(p_number numeric, p_of_phone boolean)', 'service_role', 'invoker'),
  ('scenario_private.personal_data_in_text(p_text text, p_of_phone boolean)', 'service_role', 'invoker'),
  ('scenario_private.plain_letters(p_text text)', 'service_role', 'invoker'),
  ('scenario_private.plain_text(p_text text)', 'service_role', 'invoker'),
  ('scenario_private.read_claims(p_claims jsonb)', 'service_role', 'invoker'),
  ('scenario_private.refusals(p_user_ids uuid[], p_organization_ids uuid[], p_scenario_types text[], '
   'p_by_rule boolean[])',
   'service_role', 'invoker'),
  ('scenario_private.refuse_leased_claims(p_id_prefix text, p_user_ids uuid[], p_organization_ids '
   'uuid[], p_scenario_types text[])',
   'service_role', 'invoker'),
  ('scenario_private.refuse_rewriting_history()', 'nobody', 'invoker'),
  ('scenario_private.relations_behind(p_relation oid)', 'service_role', 'invoker'),
  ('scenario_private.remove_tokens(p_user_ids uuid[], p_tokens text[], p_registered_before timestamp '
   'with time zone[])',
   'service_role', 'invoker'),
  ('scenario_private.require_array(p_argument text, p_elements jsonb, p_most integer)', 'service_role', 'invoker'),
  ('scenario_private.require_at_most(p_count integer, p_most integer)', 'service_role', 'invoker'),
  ('scenario_private.require_between(p_argument text, p_value double precision, p_least double '
   'precision, p_most double precision)',
   'service_role', 'invoker'),
  ('scenario_private.require_claims(p_claims jsonb, p_most integer)', 'service_role', 'invoker'),
  ('scenario_private.require_default_settings(p_scenario_type text)', 'service_role', 'invoker'),
  ('scenario_private.require_given(p_argument text, p_value anyelement)', 'service_role', 'invoker'),
  ('scenario_private.require_scenario_type(p_scenario_type text)', 'service_role', 'invoker'),
  ('scenario_private.require_schema(p_needed_version integer)', 'service_role', 'invoker'),
  ('scenario_private.rule_of(p_scenario_type text)', 'service_role', 'invoker'),
  ('scenario_private.rules()', 'service_role', 'invoker'),
  ('scenario_private.scenario_types()', 'service_role', 'invoker'),
  ('scenario_private.schema_version()', 'service_role', 'invoker'),
  ('scenario_private.subject_of(p_id text)', 'service_role', 'invoker'),
  ('scenario_private.take_leases(p_ids uuid[], p_until timestamp with time zone)', 'service_role', 'invoker'),
  ('scenario_private.take_turns(p_ids uuid[], p_user_ids uuid[], p_organization_ids uuid[], p_priorities'
   ' integer[], p_triggered_at timestamp with time zone[], p_deliver_until timestamp with time zone[], '
   'p_gaps jsonb)',
   'service_role', 'invoker'),
  ('scenario_private.users_away(p_user_ids uuid[])', 'service_role', 'definer'),
  ('scenario_private.with_answers(p_candidates scenario_private.lease_candidate[], p_ids uuid[], p_reasons text[], '
   'p_facts jsonb[])',
   'service_role', 'invoker'),
  ('scenario_private.verdict_query(p_rule regclass, p_scenario_type text, p_condition text, '
   'p_history_before timestamp with time zone, p_with_facts boolean)',
   'service_role', 'invoker');

-- own: whose rows the actor has, by the name of a user. sees: how many of the rows of a readable table there are
-- for the actor, and how many of the owner's.
create temp table actor (name text primary key, role name, claims jsonb, own text, sees_all int, sees_owners int);
insert into actor values
  ('owner', 'authenticated',
   jsonb_build_object('sub', md5('owner')::uuid, 'role', 'authenticated'), 'owner', 1, 1),
  ('stranger in the same organization', 'authenticated',
   jsonb_build_object('sub', md5('neighbour')::uuid, 'role', 'authenticated'), 'neighbour', 1, 0),
  ('stranger in another organization', 'authenticated',
   jsonb_build_object('sub', md5('foreigner')::uuid, 'role', 'authenticated'), 'foreigner', 1, 0),
  ('stranger who claims to be the service', 'authenticated',
   jsonb_build_object('sub', md5('neighbour')::uuid, 'role', 'service_role'), 'neighbour', 1, 0),
  ('signed-in user without sub', 'authenticated', jsonb_build_object('role', 'authenticated'), 'neighbour', 0, 0),
  ('signed-in user without claims', 'authenticated', null, 'neighbour', 0, 0),
  ('deleted user', 'authenticated',
   jsonb_build_object('sub', md5('nobody')::uuid, 'role', 'authenticated'), 'neighbour', 0, 0),
  ('anonymous', 'anon', jsonb_build_object('role', 'anon'), 'neighbour', null, null),
  ('anonymous with the owner''s sub', 'anon',
   jsonb_build_object('sub', md5('owner')::uuid, 'role', 'anon'), 'owner', null, null),
  ('service', 'service_role', jsonb_build_object('role', 'service_role'), 'newcomer', 3, 1);

-- The scene ---------------------------------------------------------------------------------------------------------

create temp table person (name text primary key, user_id uuid, organization_id uuid);
insert into person
select name, md5(name)::uuid, md5(organization)::uuid
from (values
  ('owner', 'organization'), ('neighbour', 'organization'), ('foreigner', 'another'), ('newcomer', 'third')
) as person (name, organization);

insert into auth.users (id) select user_id from person;

-- Only the scene's rows count: others are deleted, and come back with the rollback.
do $$
declare
  known known_table;
begin
  for known in table known_table loop
    execute format('delete from %I.%I', known.schema, known.name);
    execute (
      select string_agg(
        format(
          'insert into %I.%I (%s) values (%s) on conflict do nothing',
          known.schema,
          known.name,
          known.columns,
          format(known.row, person.user_id, person.organization_id)
        ),
        '; '
      )
      from person
      where person.name <> 'newcomer'
    );
  end loop;
end
$$;

-- Does a statement as the actor, undoes it, and tells what came of it: the number of rows, or the refusal. A count
-- gives what was counted.
create function pg_temp.act(p_actor actor, p_statement text)
returns text
language plpgsql
as $$
declare
  result bigint;
begin
  perform set_config('request.jwt.claims', coalesce(p_actor.claims::text, ''), true);
  perform set_config('role', p_actor.role, true);
  if p_statement like 'select count(*)%' then
    execute p_statement into result;
  else
    execute p_statement;
    get diagnostics result = row_count;
  end if;
  raise exception using errcode = 'UNDOX', message = format('%s rows', result);
exception
  when sqlstate 'UNDOX' then return sqlerrm;
  when others then return format('%s %s', sqlstate, sqlerrm);
end
$$;

-- The lists are complete --------------------------------------------------------------------------------------------

select set_eq(
  $$ select relnamespace::regnamespace::text, relname::text from pg_class
     where relnamespace in
         ('public'::regnamespace, 'scenario_private'::regnamespace, 'scenario_source'::regnamespace)
       and relkind in ('r', 'p')
       and not exists (
         select from pg_depend where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e'
       ) $$,
  $$ select schema, name from known_table $$,
  'every table of ours has its acts in this file'
);

create temp view existing_function as
  select
    proc.oid,
    namespace.nspname as schema,
    proc.proname as name,
    format('%s.%s(%s)', namespace.nspname, proc.proname, pg_get_function_identity_arguments(proc.oid)) as signature,
    proc.prosecdef,
    proc.prorettype = 'trigger'::regtype as is_trigger,
    proc.proargtypes
  from pg_proc as proc
  join pg_namespace as namespace
    on namespace.oid = proc.pronamespace and namespace.nspname in ('public', 'scenario_private', 'scenario_source')
  where not exists (
    select from pg_depend where classid = 'pg_proc'::regclass and objid = proc.oid and deptype = 'e'
  );

select set_eq(
  $$ select signature from existing_function $$,
  $$ select signature from known_function $$,
  'every function of ours is listed in this file'
);

-- Acts on tables ----------------------------------------------------------------------------------------------------

create temp view act as
  select
    known.schema,
    known.name as table_name,
    known.readable,
    actor.name as actor_name,
    known.name || ': ' || actor.name || ' ' || act.name as description,
    act.statement,
    case
      when actor.role = 'service_role' then act.by_service
      when actor.role = 'authenticated' and known.readable then coalesce(act.by_user, 'denied')
      else 'denied'
    end as expected
  from known_table as known
  cross join actor
  join person as owner on owner.name = 'owner'
  join person as own on own.name = actor.own
  -- What names of the table's templates become.
  cross join lateral (
    select
      format('%I.%I', known.schema, known.name) as relation,
      format(known.row, own.user_id, own.organization_id) as own_row,
      format(known.row, owner.user_id, owner.organization_id) as owners_row,
      format(known.belongs, owner.user_id, owner.organization_id) as is_owners
  ) as text
  cross join lateral (values
    ('selects everything',
     format('select 1 from %s', relation), format('%s rows', actor.sees_all), null),
    ('selects the owner''s row',
     format('select * from %s where %s', relation, is_owners), format('%s rows', actor.sees_owners), '1 rows'),
    ('counts',
     format('select count(*) from %s', relation), format('%s rows', actor.sees_all), null),
    ('counts the owner''s rows',
     format('select count(*) from %s where %s', relation, is_owners), format('%s rows', actor.sees_owners), '1 rows'),
    ('locks the owner''s row',
     format('select 1 from %s where %s for update', relation, is_owners), null, '1 rows'),
    ('inserts a row of her own',
     format('insert into %s (%s) values (%s)', relation, known.columns, own_row), null, '1 rows'),
    ('inserts a row of her own and reads it back',
     format('insert into %s (%s) values (%s) returning *', relation, known.columns, own_row), null, '1 rows'),
    ('upserts the owner''s row',
     format('insert into %s (%s) values (%s) on conflict (%s) do update set %s',
            relation, known.columns, owners_row, known.key,
            regexp_replace(known.change, '= (not )?(attempt_count|is_active)', '= \1' || known.name || '.\2')),
     null, '1 rows'),
    ('upserts the owner''s row, ignoring duplicates',
     format('insert into %s (%s) values (%s) on conflict do nothing', relation, known.columns, own_row),
     null, '1 rows'),
    ('updates the owner''s row',
     format('update %s set %s where %s', relation, known.change, is_owners), null, '1 rows'),
    ('updates everything',
     format('update %s set %s', relation, known.change), null, null),
    ('deletes the owner''s row',
     format('delete from %s where %s', relation, is_owners), null, '1 rows'),
    ('deletes everything',
     format('delete from %s', relation), null, null),
    ('truncates',
     format('truncate %s', relation), null, 'denied')
  ) as act (name, statement, by_user, by_service)
  -- What a signed-in user writes of her mutes is below.
  where known.name <> 'scenario_mutes'
    or actor.role <> 'authenticated'
    or act.by_user is not null
    or act.name = 'truncates';

select is(
  pg_temp.act(actor, act.statement),
  case
    when act.expected <> 'denied' then act.expected
    -- Nobody else gets as far as the table.
    when act.schema <> 'public' and actor.role <> 'service_role'
      then '42501 permission denied for schema ' || act.schema
    else '42501 permission denied for table ' || act.table_name
  end,
  act.description
)
from act
join actor on actor.name = act.actor_name
where act.expected is not null
order by act.table_name, act.actor_name;

-- What the service does to everything: as many rows as there are.
select cmp_ok(
  split_part(pg_temp.act(actor, act.statement), ' rows', 1),
  '~',
  '^[1-9][0-9]*$',
  act.description
)
from act
join actor on actor.name = act.actor_name
where act.expected is null
order by act.table_name, act.description;

-- A signed-in user writes her own mutes, and nobody else's ------------------------------------------------------------

select is(pg_temp.act(actor, way.statement), way.expected, format('her mutes: %s', way.name))
from actor
cross join lateral (values
  ('she adds one',
   format('insert into public.scenario_mutes (user_id, scenario_type) values (%L, ''milestone'')', md5('owner')::uuid),
   '1 rows'),
  ('somebody else''s',
   format('insert into public.scenario_mutes (user_id) values (%L)', md5('neighbour')::uuid),
   '42501 new row violates row-level security policy for table "scenario_mutes"'),
  ('she changes all that she sees', 'update public.scenario_mutes set muted_until = now()', '1 rows'),
  ('she gives hers away',
   format('update public.scenario_mutes set user_id = %L', md5('neighbour')::uuid),
   '42501 new row violates row-level security policy for table "scenario_mutes"'),
  ('she changes somebody else''s',
   format('update public.scenario_mutes set muted_until = now() where user_id = %L', md5('neighbour')::uuid), '0 rows'),
  ('she deletes somebody else''s',
   format('delete from public.scenario_mutes where user_id = %L', md5('neighbour')::uuid), '0 rows'),
  ('she deletes all that she sees', 'delete from public.scenario_mutes', '1 rows')
) as way (name, statement, expected)
where actor.role = 'authenticated'
  and actor.claims ->> 'sub' = md5('owner')::uuid::text;

select alike(
  pg_temp.act(
    actor,
    format('insert into public.scenario_mutes (user_id, scenario_type) values (%L, ''party'')', md5('owner')::uuid)
  ),
  'SR004%',
  'her mutes: not of a scenario type that there is not'
)
from actor
where actor.role = 'authenticated'
  and actor.claims ->> 'sub' = md5('owner')::uuid::text;

-- A signed-in user can't get at others' rows by other ways ----------------------------------------------------------

select is(pg_temp.act(actor, statement), expected, format('%s: %s', actor.name, way.name))
from actor
cross join lateral (values
  ('filters on another''s id',
   format('select * from public.scenario_notifications where id = %L',
          (select id from public.scenario_notifications where user_id = md5('foreigner')::uuid)),
   case actor.own when 'foreigner' then '1 rows' else '0 rows' end),
  ('filters on an organization',
   format('select * from public.scenario_notifications where organization_id = %L', md5('organization')::uuid),
   case actor.own when 'foreigner' then '0 rows' else '1 rows' end),
  ('filters on everybody else',
   format('select * from public.scenario_notifications where user_id <> %L', md5(actor.own)::uuid),
   '0 rows'),
  ('filters on what is always true',
   'select * from public.scenario_notifications where user_id is not null or true',
   '1 rows'),
  ('embeds her device tokens',
   'select * from public.scenario_notifications left join public.device_tokens using (user_id)',
   '42501 permission denied for table device_tokens'),
  ('embeds from her mentor row',
   'select * from public.peer_mentors left join public.scenario_notifications using (user_id)',
   '42501 permission denied for table peer_mentors'),
  ('reads the users',
   'select id from auth.users',
   '42501 permission denied for table users'),
  ('becomes the service by set_config',
   $act$ select set_config('request.jwt.claims', '{"role": "service_role"}', true);
         select * from public.scenario_notifications $act$,
   '0 rows'),
  ('copies the table',
   'create table public.copy as select * from public.scenario_notifications',
   '42501 permission denied for schema public'),
  ('adds a policy',
   'create policy mine on public.scenario_notifications using (true)',
   '42501 must be owner of table scenario_notifications'),
  ('switches row level security off',
   'alter table public.scenario_notifications disable row level security',
   '42501 must be owner of table scenario_notifications'),
  ('asks for rows without row level security',
   'set local row_security = off; select * from public.scenario_notifications',
   '42501 query would be affected by row-level security policy for table "scenario_notifications"')
) as way (name, statement, expected)
where actor.sees_all = 1 and actor.role = 'authenticated'
order by actor.name;

-- Functions ---------------------------------------------------------------------------------------------------------

-- A trigger function can't be called at all; the grant is what counts.
select is(
  pg_temp.act(
    actor,
    format(
      'select * from %I.%I(%s)',
      existing.schema,
      existing.name,
      (
        select string_agg(format('null::%s', format_type(argument.type, null)), ', ' order by argument.ordinal)
        from unnest(existing.proargtypes) with ordinality as argument (type, ordinal)
      )
    )
  ),
  case existing.schema
    when 'public' then '42501 permission denied for function ' || existing.name
    else '42501 permission denied for schema ' || existing.schema
  end,
  format('%s calls %s.%s', actor.name, existing.schema, existing.name)
)
from existing_function as existing
cross join actor
where actor.role in ('anon', 'authenticated') and not existing.is_trigger
order by existing.signature, actor.name;

select is(
  array(
    select role
    from unnest(array['anon', 'authenticated', 'service_role']) as role
    where has_function_privilege(role, existing.oid, 'execute')
  ),
  array_remove(array[known.caller], 'nobody'),
  format('%s is for %s', known.signature, known.caller)
)
from known_function as known
join existing_function as existing using (signature)
order by known.signature;

select is(
  existing.prosecdef,
  known.rights = 'definer',
  format('%s runs with the rights of its %s', known.signature, known.rights)
)
from known_function as known
join existing_function as existing using (signature)
order by known.signature;

-- Views -------------------------------------------------------------------------------------------------------------

select is(
  pg_temp.act(actor, format('select * from %s', view.oid::regclass)),
  '42501 permission denied for schema scenario_private',
  format('%s reads %s', actor.name, view.relname)
)
from pg_class as view
cross join actor
where view.relnamespace = 'scenario_private'::regnamespace
  and view.relkind = 'v'
  and actor.role in ('anon', 'authenticated')
order by view.relname, actor.name;

select * from finish();
rollback;
