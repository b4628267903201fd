-- The constraints: for each a bad row that it alone refuses, and beside it the good rows that it must let pass.
--
-- Every row is a table's good row with something changed; null stands for SQL's. A new constraint or unique index
-- without a bad row fails the last test.

begin;
select no_plan();

create temp table good_row (table_name text primary key, fields jsonb);
insert into good_row values
  ('scenario_notifications', jsonb_build_object(
    'id', md5('good')::uuid, 'user_id', md5('mentor')::uuid, 'organization_id', md5('organization')::uuid,
    'scenario_type', 'inactivity', 'triggered_at', '2026-11-01T12:00:00Z', 'delivery_status', 'pending',
    'origin', 'insert', 'subjects', jsonb '[]', 'deliver_until', '2026-11-08T12:00:00Z'
  )),
  ('peer_mentors', jsonb_build_object(
    'user_id', md5('mentor')::uuid, 'organization_id', md5('organization')::uuid, 'is_active', true
  )),
  ('activities', jsonb_build_object(
    'id', 1, 'user_id', md5('mentor')::uuid, 'organization_id', md5('organization')::uuid,
    'activity_date', '2026-11-01T12:00:00Z'
  )),
  ('certifications', jsonb_build_object(
    'id', md5('good')::uuid, 'user_id', md5('mentor')::uuid, 'organization_id', md5('organization')::uuid,
    'expires_at', '2026-11-01T12:00:00Z'
  )),
  ('device_tokens', jsonb_build_object(
    'user_id', md5('mentor')::uuid, 'token', 'token', 'platform', 'ios', 'registered_at', '2026-11-01T12:00:00Z'
  )),
  ('scenario_delivery_policy', jsonb_build_object(
    'organization_id', md5('organization')::uuid, 'time_zone', 'Europe/Oslo', 'weekdays', jsonb '[1, 2, 3, 4, 5]',
    'opens_at', '08:00', 'closes_at', '20:00', 'min_gap', '4 hours'
  )),
  ('scenario_days_off', jsonb_build_object(
    'id', md5('good')::uuid, 'organization_id', md5('organization')::uuid, 'first_day', '2026-12-24',
    'last_day', '2026-12-26', 'stops_clock', true
  )),
  ('scenario_mutes', jsonb_build_object(
    'id', md5('good')::uuid, 'user_id', md5('mentor')::uuid, 'organization_id', md5('organization')::uuid,
    'scenario_type', 'inactivity', 'muted_until', '2026-12-24T12:00:00Z'
  )),
  ('scenario_evaluation_config', jsonb_build_object(
    'id', md5('good')::uuid, 'scenario_type', 'inactivity', 'organization_id', md5('organization')::uuid,
    'pass_evaluated', 0, 'pass_due', 0, 'pass_claimed', 0, 'pass_skipped', 0, 'pass_history', 0, 'pass_duration', '0',
    'pass_number', 0
  ));

-- A generated column takes no value.
create function pg_temp.insertion(p_table text, p_changes jsonb)
returns text
language sql
as $$
  select format(
    'insert into public.%1$I (%2$s) overriding system value'
      ' select %2$s from jsonb_populate_record(null::public.%1$I, %3$L)',
    p_table,
    (
      select string_agg(quote_ident(attname), ', ')
      from pg_attribute
      where attrelid = format('public.%I', p_table)::regclass
        and attnum > 0 and attgenerated = '' and not attisdropped
    ),
    fields || p_changes
  )
  from good_row
  where table_name = p_table
$$;

-- A new identity, for what may be stored beside the good row.
create function pg_temp.anew(p_changes jsonb)
returns jsonb
language sql
as $$
  select jsonb_build_object('id', gen_random_uuid()) || p_changes
$$;

insert into auth.users (id) values (md5('mentor')::uuid), (md5('another mentor')::uuid);
delete from public.scenario_delivery_policy;
delete from public.scenario_evaluation_config where organization_id is not null;

-- Good rows ---------------------------------------------------------------------------------------------------------

select lives_ok(pg_temp.insertion(table_name, '{}'), format('good_row: %s', table_name))
from good_row
order by table_name;

select lives_ok(
  pg_temp.insertion('scenario_notifications', pg_temp.anew(changes::jsonb)),
  format('good_row: scenario_notifications, %s', name)
)
from (values
  ('a second plain one of the same time', '{}'),
  ('certification_expiry', '{"scenario_type": "certification_expiry"}'),
  ('welcome_back', '{"scenario_type": "welcome_back"}'),
  ('sent', '{"delivery_status": "sent"}'),
  ('sent later', '{"delivery_status": "sent", "settled_at": "2026-11-05T12:00:00Z"}'),
  ('failed', '{"delivery_status": "failed"}'),
  ('failed, and held for a while',
   '{"delivery_status": "failed", "settled_at": "2026-11-05T12:00:00Z", "held_until": "2026-11-06T12:00:00Z"}'),
  ('failed after a lease that nobody settled, and held for good',
   '{"delivery_status": "failed", "unsettled_at": "2026-11-05T12:00:00Z", "held_until": "infinity"}'),
  ('failed for a reason', format('{"delivery_status": "failed", "failure_code": "%s"}', repeat('x', 63))),
  ('failed once, and tried again', '{"failure_code": "timeout_2"}'),
  ('the lowest milestone', '{"scenario_type": "milestone", "milestone_value": 1}'),
  ('the highest milestone', '{"scenario_type": "milestone", "milestone_value": 2147483647}'),
  ('the lowest milestone again, failed and held for a while',
   '{"scenario_type": "milestone", "milestone_value": 1, "delivery_status": "failed",
     "held_until": "2026-12-01T12:00:00Z"}'),
  ('empty metadata', '{"metadata": {}}'),
  ('nested metadata', '{"metadata": {"certificate_ids": ["a", "b"], "gap": {"days": 12.5}, "note": null}}'),
  ('the first claim', '{"cooldown_window_start": "1970-01-01T00:00:00Z"}'),
  ('the next claim', '{"cooldown_window_start": "2026-11-01T11:59:59.999999Z"}'),
  ('the same window of another scenario',
   '{"scenario_type": "welcome_back", "cooldown_window_start": "1970-01-01T00:00:00Z"}'),
  ('of an evaluation, with its cooldown', '{"origin": "evaluation", "cooldown": "1 microsecond"}'),
  ('of a claim', '{"origin": "claim", "cooldown": "36525 days"}'),
  ('one subject', '{"subjects": ["a"]}'),
  ('a subject of 100 characters', format('{"subjects": ["%s"]}', repeat('x', 100))),
  ('fifty subjects', jsonb_build_object('subjects', array(select n::text from generate_series(1, 50) as n))::text),
  ('the year 1', '{"triggered_at": "0001-01-01T00:00:00Z", "deliver_until": "0001-01-01T00:00:00Z"}'),
  ('a day ahead', jsonb_build_object('triggered_at', now() + interval '1 day')::text),
  ('handed out until the year 9999', '{"deliver_until": "9999-12-31T23:59:59.999999Z"}')
) as good (name, changes);

select lives_ok(
  pg_temp.insertion(
    'scenario_notifications',
    pg_temp.anew(jsonb_build_object('metadata', jsonb_build_object('note', repeat('x', 8192 - length('{"note": ""}')))))
  ),
  'good_row: scenario_notifications, metadata of exactly 8 KiB'
);

select lives_ok(
  pg_temp.insertion('device_tokens', jsonb_build_object('token', platform, 'platform', platform)),
  format('good_row: device_tokens, %s', platform)
)
from unnest(array['android', 'ios', 'web']) as platform;

select lives_ok(
  pg_temp.insertion(
    'scenario_evaluation_config',
    pg_temp.anew(jsonb_build_object('organization_id', md5(name)::uuid) || changes::jsonb)
  ),
  format('good_row: scenario_evaluation_config, %s', name)
)
from (values
  ('only switched off', '{"is_enabled": false}'),
  ('inactivity', '{"cooldown": "7 days", "inactive_after": "12:30:00", "due_within": "1 day", "max_reminders": 1}'),
  ('delivery', '{"retry_failed_after": "1 second", "deliver_within": "36525 days", "max_attempts": 1, "priority": 0}'),
  ('the largest counts', '{"max_reminders": 1000, "max_attempts": 1000, "priority": 9}'),
  ('milestone', '{"scenario_type": "milestone", "milestones": [1]}'),
  ('certification_expiry',
   '{"scenario_type": "certification_expiry", "cooldown": "1 day", "expires_within": "36525 days"}'),
  ('welcome_back', '{"scenario_type": "welcome_back", "inactive_after": "7 days", "returned_within": "7 days"}')
) as good (name, changes);

-- Bad rows ----------------------------------------------------------------------------------------------------------

create temp table bad_row (table_name text, breaks text, name text, changes jsonb);

insert into bad_row
select 'scenario_notifications', 'scenario_notifications_' || breaks, name, pg_temp.anew(changes::jsonb)
from (values
  ('pkey', 'an id twice', format('{"id": "%s"}', md5('good')::uuid)),
  ('user_id_fkey', 'no such user', format('{"user_id": "%s"}', md5('nobody')::uuid)),
  ('scenario_type_is_known', 'an unknown scenario type', '{"scenario_type": "birthday"}'),
  ('scenario_type_is_known', 'a scenario type in capitals', '{"scenario_type": "Inactivity"}'),
  ('scenario_type_is_known', 'an empty scenario type', '{"scenario_type": ""}'),
  ('delivery_status_is_known', 'an unknown status', '{"delivery_status": "delivered"}'),
  ('delivery_status_is_known', 'an empty status', '{"delivery_status": ""}'),
  ('milestone_value_only_for_milestones', 'a milestone without value', '{"scenario_type": "milestone"}'),
  ('milestone_value_only_for_milestones', 'a value without milestone', '{"milestone_value": 10}'),
  ('milestone_value_is_positive', 'milestone 0', '{"scenario_type": "milestone", "milestone_value": 0}'),
  ('milestone_value_is_positive', 'milestone -1', '{"scenario_type": "milestone", "milestone_value": -1}'),
  ('metadata_is_an_object', 'metadata as array', '{"metadata": [{}]}'),
  ('metadata_is_an_object', 'metadata as string', '{"metadata": "text"}'),
  ('metadata_is_an_object', 'metadata as number', '{"metadata": 1}'),
  ('metadata_is_an_object', 'metadata as boolean', '{"metadata": true}'),
  ('metadata_is_at_most_8_kib', 'metadata one byte too long',
   jsonb_build_object('metadata', jsonb_build_object('note', repeat('x', 8193 - length('{"note": ""}'))))::text),
  ('metadata_is_at_most_8_kib', 'metadata too long in bytes, not in characters',
   jsonb_build_object('metadata', jsonb_build_object('note', repeat('å', 4096)))::text),
  ('metadata_holds_no_personal_data', 'an e-mail address', '{"metadata": {"note": "to nobody@example.com"}}'),
  ('metadata_holds_no_personal_data', 'a telephone number as a key', '{"metadata": {"+47 41 23 45 67": true}}'),
  ('triggered_at_fits_a_datetime', 'triggered in eternity', '{"triggered_at": "infinity"}'),
  ('triggered_at_fits_a_datetime', 'triggered before all time', '{"triggered_at": "-infinity"}'),
  ('triggered_at_is_at_most_a_day_ahead', 'triggered more than a day ahead',
   jsonb_build_object('triggered_at', now() + interval '1 day 1 microsecond')::text),
  ('window_starts_before_trigger', 'a window that starts with the trigger',
   '{"cooldown_window_start": "2026-11-01T12:00:00Z"}'),
  ('window_starts_before_trigger', 'a window that starts after the trigger',
   '{"cooldown_window_start": "2026-11-01T12:00:00.000001Z"}'),
  ('milestones_have_no_window', 'a milestone with a window',
   '{"scenario_type": "milestone", "milestone_value": 2, "cooldown_window_start": "1970-01-01T00:00:00Z"}'),
  ('milestones_have_no_cooldown', 'a milestone with a cooldown',
   '{"scenario_type": "milestone", "milestone_value": 2, "cooldown": "1 day"}'),
  ('cooldown_is_positive', 'a cooldown of no time', '{"cooldown": "0"}'),
  ('cooldown_is_positive', 'a negative cooldown', '{"cooldown": "-1 microsecond"}'),
  ('origin_is_known', 'made by nobody we know', '{"origin": "import"}'),
  ('subjects_are_storable', 'an empty subject', '{"subjects": ["a", ""]}'),
  ('subjects_are_storable', 'a subject of 101 characters', format('{"subjects": ["%s"]}', repeat('x', 101))),
  ('subjects_are_storable', 'fifty-one subjects',
   jsonb_build_object('subjects', array(select n::text from generate_series(1, 51) as n))::text),
  ('subjects_are_storable', 'a subject of null', '{"subjects": ["a", null]}'),
  ('subjects_are_storable', 'subjects in rows', '{"subjects": [["a"], ["b"]]}'),
  ('subjects_are_storable', 'an e-mail address as a subject', '{"subjects": ["nobody@example.com"]}'),
  ('deliver_until_fits_a_datetime', 'handed out for ever', '{"deliver_until": "infinity"}'),
  ('deliver_until_fits_a_datetime', 'handed out in the year 10000', '{"deliver_until": "10000-01-01T00:00:00Z"}'),
  ('deliver_until_fits_a_datetime', 'handed out before all time', '{"deliver_until": "-infinity"}'),
  ('settled_at_unless_pending', 'pending, and settled', '{"settled_at": "2026-11-01T12:00:00Z"}'),
  ('only_failed_ones_are_held_until', 'pending, and held by a failure', '{"held_until": "2026-11-01T12:00:00Z"}'),
  ('only_failed_ones_are_held_until', 'sent, and held by a failure',
   '{"delivery_status": "sent", "held_until": "infinity"}'),
  ('only_failed_ones_are_held_until', 'sent, after a lease that nobody settled',
   '{"delivery_status": "sent", "unsettled_at": "2026-11-01T12:00:00Z"}'),
  ('failure_code_is_a_code', 'a failure in words', '{"failure_code": "No such device"}'),
  ('failure_code_is_a_code', 'an empty failure code', '{"failure_code": ""}'),
  ('failure_code_is_a_code', 'a failure code with a line after it', '{"failure_code": "timeout\n"}'),
  ('failure_code_is_a_code', 'a failure code of 64 characters', format('{"failure_code": "%s"}', repeat('x', 64))),
  ('failure_code_is_a_code', 'sent, and failed', '{"failure_code": "timeout", "delivery_status": "sent"}'),
  ('one_claim_per_window', 'a second first claim', '{"cooldown_window_start": "1970-01-01T00:00:00Z"}'),
  ('one_claim_per_window', 'a second claim after the same one, after a failure',
   '{"cooldown_window_start": "2026-11-01T11:59:59.999999Z", "delivery_status": "failed"}'),
  ('one_notification_per_milestone', 'a milestone twice', '{"scenario_type": "milestone", "milestone_value": 1}'),
  ('one_notification_per_milestone', 'a milestone twice, the second one sent, in another organization',
   format('{"scenario_type": "milestone", "milestone_value": 1, "delivery_status": "sent", "organization_id": "%s"}',
          md5('another')::uuid)),
  ('one_notification_per_milestone', 'a milestone twice, the second one failed and held for good',
   '{"scenario_type": "milestone", "milestone_value": 1, "delivery_status": "failed", "held_until": "infinity"}')
) as bad (breaks, name, changes);

insert into bad_row
select table_name, breaks, name, changes::jsonb
from (values
  ('peer_mentors', 'peer_mentors_pkey', 'a mentor twice in an organization', '{"is_active": false}'),
  ('peer_mentors', 'peer_mentors_user_id_fkey', 'no such user', format('{"user_id": "%s"}', md5('nobody')::uuid)),
  ('activities', 'activities_pkey', 'an id twice', '{}'),
  ('activities', 'activities_user_id_fkey', 'no such user', format('{"id": 2, "user_id": "%s"}', md5('nobody')::uuid)),
  ('certifications', 'certifications_pkey', 'an id twice', '{}'),
  ('certifications', 'certifications_user_id_fkey', 'no such user',
   format('{"id": "%s", "user_id": "%s"}', md5('bad')::uuid, md5('nobody')::uuid)),
  ('device_tokens', 'device_tokens_pkey', 'a token twice', '{"platform": "web"}'),
  ('device_tokens', 'device_tokens_user_id_fkey', 'no such user',
   format('{"user_id": "%s", "token": "another"}', md5('nobody')::uuid)),
  ('device_tokens', 'device_tokens_token_has_one_owner', 'somebody else''s token',
   format('{"user_id": "%s"}', md5('another mentor')::uuid)),
  ('device_tokens', 'device_tokens_platform_is_known', 'an unknown platform', '{"token": "new", "platform": "phone"}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_one_row_per_organization', 'a second row', '{}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_time_zone_is_a_name', 'an abbreviation',
   '{"organization_id": null, "time_zone": "CEST"}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_time_zone_is_a_name', 'an offset',
   '{"organization_id": null, "time_zone": "+02:00"}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_weekdays_are_days', 'no day',
   '{"organization_id": null, "weekdays": []}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_weekdays_are_days', 'an eighth day',
   '{"organization_id": null, "weekdays": [8]}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_weekdays_are_days', 'a day that is null',
   '{"organization_id": null, "weekdays": [1, null]}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_weekdays_are_days', 'a day twice',
   '{"organization_id": null, "weekdays": [1, 1]}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_opens_and_closes', 'it never closes',
   '{"organization_id": null, "closes_at": null}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_opens_and_closes', 'it never opens',
   '{"organization_id": null, "opens_at": null}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_opens_some_time', 'from the end of the day to its end',
   '{"organization_id": null, "opens_at": "24:00", "closes_at": "00:00"}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_opens_some_time', 'until is from',
   '{"organization_id": null, "closes_at": "08:00"}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_min_gap_is_at_most_a_week', 'a negative gap',
   '{"organization_id": null, "min_gap": "-1 second"}'),
  ('scenario_delivery_policy', 'scenario_delivery_policy_min_gap_is_at_most_a_week', 'a longer gap',
   '{"organization_id": null, "min_gap": "7 days 00:00:01"}'),
  ('scenario_days_off', 'scenario_days_off_pkey', 'an id twice', '{}'),
  ('scenario_days_off', 'scenario_days_off_end_after_they_begin', 'they end before',
   format('{"id": "%s", "last_day": "2026-12-23"}', md5('bad')::uuid)),
  ('scenario_days_off', 'scenario_days_off_are_at_most_a_year', 'more than a year',
   format('{"id": "%s", "last_day": "2027-12-25"}', md5('bad')::uuid)),
  ('scenario_mutes', 'scenario_mutes_pkey', 'an id twice', '{"scenario_type": null}'),
  ('scenario_mutes', 'scenario_mutes_one_row_per_scope', 'the same scope twice',
   format('{"id": "%s"}', md5('bad')::uuid)),
  ('scenario_mutes', 'scenario_mutes_user_id_fkey', 'no such user',
   format('{"id": "%s", "user_id": "%s"}', md5('bad')::uuid, md5('nobody')::uuid)),
  ('scenario_mutes', 'scenario_mutes_muted_until_fits_a_datetime', 'for ever and a day',
   format('{"id": "%s", "scenario_type": null, "muted_until": "infinity"}', md5('bad')::uuid))
) as bad (table_name, breaks, name, changes);

-- A default row has what every default row has, unless it is told otherwise.
insert into bad_row
select
  'scenario_evaluation_config',
  'scenario_evaluation_config_' || breaks,
  name,
  pg_temp.anew(
    case changes::jsonb -> 'organization_id'
      when 'null' then jsonb_build_object(
        'is_enabled', true, 'retry_failed_after', '1 day', 'deliver_within', '7 days', 'max_attempts', 8, 'priority', 5
      )
      else jsonb_build_object('organization_id', md5('bad')::uuid)
    end || changes::jsonb
  )
from (values
  ('pkey', 'an id twice', format('{"id": "%s"}', md5('good')::uuid)),
  ('one_row_per_scope', 'a scenario''s overrides twice',
   format('{"organization_id": "%s"}', md5('organization')::uuid)),
  ('one_row_per_scope', 'a scenario''s defaults twice',
   '{"organization_id": null, "cooldown": "1 day", "inactive_after": "1 day", "due_within": "1 day",
     "max_reminders": 1}'),
  ('scenario_type_is_known', 'an unknown scenario type', '{"scenario_type": "birthday"}'),
  ('default_is_complete', 'defaults without is_enabled',
   '{"organization_id": null, "scenario_type": "milestone", "milestones": [1], "due_within": "1 day",
     "is_enabled": null}'),
  ('default_is_complete', 'defaults without retry_failed_after',
   '{"organization_id": null, "scenario_type": "milestone", "milestones": [1], "due_within": "1 day",
     "retry_failed_after": null}'),
  ('default_is_complete', 'defaults without deliver_within',
   '{"organization_id": null, "scenario_type": "milestone", "milestones": [1], "due_within": "1 day",
     "deliver_within": null}'),
  ('default_is_complete', 'defaults without max_attempts',
   '{"organization_id": null, "scenario_type": "milestone", "milestones": [1], "due_within": "1 day",
     "max_attempts": null}'),
  ('default_is_complete', 'defaults without priority',
   '{"organization_id": null, "scenario_type": "milestone", "milestones": [1], "due_within": "1 day",
     "priority": null}'),
  ('default_is_complete', 'inactivity''s defaults without cooldown',
   '{"organization_id": null, "inactive_after": "1 day", "due_within": "1 day", "max_reminders": 1}'),
  ('default_is_complete', 'inactivity''s defaults without inactive_after',
   '{"organization_id": null, "cooldown": "1 day", "due_within": "1 day", "max_reminders": 1}'),
  ('default_is_complete', 'inactivity''s defaults without due_within',
   '{"organization_id": null, "cooldown": "1 day", "inactive_after": "1 day", "max_reminders": 1}'),
  ('default_is_complete', 'inactivity''s defaults without max_reminders',
   '{"organization_id": null, "cooldown": "1 day", "inactive_after": "1 day", "due_within": "1 day"}'),
  ('default_is_complete', 'welcome_back''s defaults without returned_within',
   '{"organization_id": null, "scenario_type": "welcome_back", "cooldown": "1 day", "inactive_after": "1 day",
     "due_within": "1 day"}'),
  ('default_is_complete', 'welcome_back''s defaults without due_within',
   '{"organization_id": null, "scenario_type": "welcome_back", "cooldown": "1 day", "inactive_after": "1 day",
     "returned_within": "1 day"}'),
  ('default_is_complete', 'certification_expiry''s defaults without expires_within',
   '{"organization_id": null, "scenario_type": "certification_expiry", "cooldown": "1 day"}'),
  ('default_is_complete', 'milestone''s defaults without milestones',
   '{"organization_id": null, "scenario_type": "milestone", "due_within": "1 day"}'),
  ('default_is_complete', 'milestone''s defaults without due_within',
   '{"organization_id": null, "scenario_type": "milestone", "milestones": [1]}'),
  ('settings_belong_to_their_scenario', 'a cooldown between milestones',
   '{"scenario_type": "milestone", "cooldown": "1 day"}'),
  ('settings_belong_to_their_scenario', 'inactive_after for milestones',
   '{"scenario_type": "milestone", "inactive_after": "1 day"}'),
  ('settings_belong_to_their_scenario', 'returned_within for inactivity', '{"returned_within": "1 day"}'),
  ('settings_belong_to_their_scenario', 'expires_within for inactivity', '{"expires_within": "1 day"}'),
  ('settings_belong_to_their_scenario', 'milestones for inactivity', '{"milestones": [1]}'),
  ('settings_belong_to_their_scenario', 'due_within for certificates, which lie ahead',
   '{"scenario_type": "certification_expiry", "due_within": "1 day"}'),
  ('settings_belong_to_their_scenario', 'reminders of a milestone',
   '{"scenario_type": "milestone", "max_reminders": 2}'),
  ('settings_belong_to_their_scenario', 'reminders of a return',
   '{"scenario_type": "welcome_back", "max_reminders": 2}'),
  ('settings_belong_to_their_scenario', 'reminders of certificates',
   '{"scenario_type": "certification_expiry", "max_reminders": 2}'),
  ('intervals_are_positive', 'a cooldown of no time', '{"cooldown": "0"}'),
  ('intervals_are_positive', 'a negative inactive_after', '{"inactive_after": "-1 day"}'),
  ('intervals_are_positive', 'a negative returned_within',
   '{"scenario_type": "welcome_back", "returned_within": "-1 second"}'),
  ('intervals_are_positive', 'a negative expires_within',
   '{"scenario_type": "certification_expiry", "expires_within": "-1 day"}'),
  ('intervals_are_positive', 'a due_within of no time', '{"due_within": "0"}'),
  ('intervals_are_positive', 'a retry_failed_after of no time', '{"retry_failed_after": "0"}'),
  ('intervals_are_positive', 'a negative deliver_within', '{"deliver_within": "-1 day"}'),
  ('intervals_are_at_most_36525_days', 'a due_within of more than a hundred years',
   '{"due_within": "36525 days 1 second"}'),
  ('intervals_are_at_most_36525_days', 'a retry_failed_after of more than a hundred years',
   '{"retry_failed_after": "36525 days 1 second"}'),
  ('intervals_are_at_most_36525_days', 'a deliver_within of more than a hundred years',
   '{"deliver_within": "36525 days 1 second"}'),
  ('intervals_are_at_most_36525_days', 'a cooldown of more than a hundred years',
   '{"cooldown": "36525 days 1 second"}'),
  ('intervals_have_no_months', 'a cooldown of a month', '{"cooldown": "1 month"}'),
  ('intervals_have_no_months', 'an inactivity of a year', '{"inactive_after": "1 year"}'),
  ('intervals_have_no_months', 'a return within a month',
   '{"scenario_type": "welcome_back", "returned_within": "1 month"}'),
  ('intervals_have_no_months', 'an expiry within a month',
   '{"scenario_type": "certification_expiry", "expires_within": "1 month"}'),
  ('intervals_have_no_months', 'due within a month', '{"due_within": "1 month"}'),
  ('intervals_have_no_months', 'a failure tried again after a month', '{"retry_failed_after": "1 month"}'),
  ('intervals_have_no_months', 'handed out for a month', '{"deliver_within": "1 month"}'),
  ('counts_are_in_bounds', 'no reminder', '{"max_reminders": 0}'),
  ('counts_are_in_bounds', '1,001 reminders', '{"max_reminders": 1001}'),
  ('counts_are_in_bounds', 'no attempt', '{"max_attempts": 0}'),
  ('counts_are_in_bounds', '1,001 attempts', '{"max_attempts": 1001}'),
  ('counts_are_in_bounds', 'more urgent than urgent', '{"priority": -1}'),
  ('counts_are_in_bounds', 'priority 10', '{"priority": 10}'),
  ('counts_are_in_bounds', 'a page of nobody', '{"pass_page_size": 0}'),
  ('counts_are_in_bounds', 'a page of 100,001', '{"pass_page_size": 100001}'),
  ('window_fits_inside_gap', 'a return longer than the absence',
   '{"scenario_type": "welcome_back", "inactive_after": "7 days", "returned_within": "7 days 1 second"}'),
  ('milestones_are_positive', 'milestone 0', '{"scenario_type": "milestone", "milestones": [10, 0]}'),
  ('milestones_are_positive', 'no milestones', '{"scenario_type": "milestone", "milestones": []}'),
  ('milestones_are_positive', 'a milestone of null', '{"scenario_type": "milestone", "milestones": [10, null]}')
) as bad (breaks, name, changes);

-- What each constraint and unique index is, and what PostgreSQL says when it is broken.
create temp view rule as
  select
    class.relname::text as table_name,
    conname::text as name,
    case contype when 'c' then '23514' when 'f' then '23503' else '23505' end as code,
    case contype
      when 'c' then format('new row for relation "%s" violates check constraint "%s"', class.relname, conname)
      when 'f' then
        format('insert or update on table "%s" violates foreign key constraint "%s"', class.relname, conname)
      else format('duplicate key value violates unique constraint "%s"', conname)
    end as message
  from pg_constraint
  join pg_class as class on class.oid = conrelid
  join good_row on good_row.table_name = class.relname
  where class.relnamespace = 'public'::regnamespace and contype in ('c', 'f', 'p', 'u')
  union all
  select
    tables.relname::text,
    indexes.relname::text,
    '23505',
    format('duplicate key value violates unique constraint "%s"', indexes.relname)
  from pg_index
  join pg_class as tables on tables.oid = indrelid
  join pg_class as indexes on indexes.oid = indexrelid
  join good_row on good_row.table_name = tables.relname
  where tables.relnamespace = 'public'::regnamespace
    and indisunique
    and not exists (select from pg_constraint where conindid = indexrelid);

select throws_ok(
  pg_temp.insertion(bad_row.table_name, bad_row.changes),
  rule.code,
  rule.message,
  format('bad_row: %s, %s', bad_row.table_name, bad_row.name)
)
from bad_row
left join rule on rule.table_name = bad_row.table_name and rule.name = bad_row.breaks
order by bad_row.table_name, bad_row.breaks, bad_row.name;

select throws_ok(
  pg_temp.insertion(class.relname, jsonb_build_object(attribute.attname, null)),
  '23502',
  format('null value in column "%s" of relation "%s" violates not-null constraint', attribute.attname, class.relname),
  format('bad_row: %s, %s of null', class.relname, attribute.attname)
)
from pg_attribute as attribute
join pg_class as class on class.oid = attribute.attrelid and class.relnamespace = 'public'::regnamespace
join good_row on good_row.table_name = class.relname
where attribute.attnum > 0 and attribute.attnotnull and not attribute.attisdropped and attribute.attgenerated = ''
  -- The trigger of a plain insert gives it: the next test.
  and (class.relname, attribute.attname) <> ('scenario_notifications', 'deliver_until')
order by class.relname, attribute.attnum;

insert into public.scenario_notifications (id, user_id, organization_id, scenario_type, delivery_status, triggered_at)
values
  (md5('plain pending')::uuid, md5('mentor')::uuid, md5('organization')::uuid, 'inactivity', 'pending', now()),
  (md5('plain sent')::uuid, md5('mentor')::uuid, md5('organization')::uuid, 'inactivity', 'sent',
   '2026-11-01T12:00:00Z');
select results_eq(
  $$ select deliver_until - now(), settled_at from public.scenario_notifications
     where id in (md5('plain pending')::uuid, md5('plain sent')::uuid)
     order by delivery_status $$,
  $$ values (interval '7 days', null::timestamptz), ('7 days', '2026-11-01T12:00:00Z') $$,
  'a plain insert is handed out for as long as the settings say, and was settled when it was triggered, if it is past'
);

-- SQL's null means no metadata; json's null is neither an object nor nothing.
select throws_ok(
  $$ insert into public.scenario_notifications (user_id, organization_id, scenario_type, metadata)
     values (md5('mentor')::uuid, md5('organization')::uuid, 'inactivity', 'null') $$,
  '23514',
  'new row for relation "scenario_notifications" violates check constraint'
    ' "scenario_notifications_metadata_is_an_object"',
  'bad_row: scenario_notifications, metadata as json null'
);

select set_eq(
  $$ select relname::text from pg_class
     where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
       and not exists (
         select from pg_depend where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e'
       ) $$,
  $$ select table_name from good_row $$,
  'every table has its good row in this file'
);

select is_empty(
  $$ select table_name, name from rule except select table_name, breaks from bad_row $$,
  'every constraint and unique index has a bad row in this file'
);

select * from finish();
rollback;
