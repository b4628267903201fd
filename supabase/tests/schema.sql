-- The tables: every column with type, nullability and default, every constraint and index by name and definition.
--
-- Other code leans on these names: the library tells errors apart by constraint, the plan tests name the indexes.

begin;
select plan(32);

create function pg_temp.columns_of(p_table regclass)
returns table (name text, type text, is_nullable boolean, default_value text)
language sql
as $$
  select
    attribute.attname::text,
    format_type(attribute.atttypid, attribute.atttypmod),
    not attribute.attnotnull,
    case
      when attribute.attidentity = 'a' then 'generated always as identity'
      when attribute.attgenerated = 's' then 'generated always as stored'
      else coalesce(pg_get_expr(default_value.adbin, default_value.adrelid), '')
    end
  from pg_attribute as attribute
  left join pg_attrdef as default_value
    on default_value.adrelid = attribute.attrelid and default_value.adnum = attribute.attnum
  where attribute.attrelid = p_table and attribute.attnum > 0 and not attribute.attisdropped
$$;

-- CHECKs by name alone: what they mean is in constraints.sql, and how they are printed is PostgreSQL's business.
create function pg_temp.constraints_of(p_table regclass)
returns table (name text, definition text)
language sql
as $$
  select
    conname::text,
    case when contype = 'c' then 'CHECK' else pg_get_constraintdef(oid) end
  from pg_constraint
  where conrelid = p_table and contype in ('c', 'f', 'p', 'u', 'x')
$$;

create function pg_temp.indexes_of(p_table text)
returns table (name text, definition text)
language sql
as $$
  select indexname::text, regexp_replace(indexdef, '^CREATE (UNIQUE )?INDEX \S+ ON \S+ USING', '\1')
  from pg_indexes
  where schemaname in ('public', 'scenario_private') and tablename = p_table
$$;

-- scenario_notifications

select has_table('public', 'scenario_notifications', 'scenario_notifications exists');

select set_eq(
  $$ select * from pg_temp.columns_of('public.scenario_notifications') $$,
  $$ values
    ('id', 'uuid', false, 'gen_random_uuid()'),
    ('user_id', 'uuid', false, ''),
    ('organization_id', 'uuid', false, ''),
    ('scenario_type', 'text', false, ''),
    ('triggered_at', 'timestamp with time zone', false, 'now()'),
    ('delivery_status', 'text', false, '''pending''::text'),
    ('milestone_value', 'integer', true, ''),
    ('metadata', 'jsonb', true, ''),
    ('cooldown_window_start', 'timestamp with time zone', true, ''),
    ('failure_code', 'text', true, ''),
    ('origin', 'text', false, '''insert''::text'),
    ('cooldown', 'interval', true, ''),
    ('subjects', 'text[]', false, '''{}''::text[]'),
    ('deliver_until', 'timestamp with time zone', false, ''),
    ('settled_at', 'timestamp with time zone', true, ''),
    ('held_until', 'timestamp with time zone', true, ''),
    ('unsettled_at', 'timestamp with time zone', true, ''),
    ('is_failed', 'boolean', false, 'generated always as stored'),
    ('failed_code', 'text', true, 'generated always as stored'),
    ('outlasts_at', 'timestamp with time zone', true, 'generated always as stored')
  $$,
  'scenario_notifications: columns'
);

select set_eq(
  $$ select * from pg_temp.constraints_of('public.scenario_notifications') $$,
  $$ values
    ('scenario_notifications_pkey', 'PRIMARY KEY (id)'),
    ('scenario_notifications_user_id_fkey', 'FOREIGN KEY (user_id) REFERENCES auth.users(id) ON DELETE CASCADE'),
    ('scenario_notifications_one_claim_per_window', 'UNIQUE (user_id, scenario_type, cooldown_window_start)'),
    ('scenario_notifications_scenario_type_is_known', 'CHECK'),
    ('scenario_notifications_delivery_status_is_known', 'CHECK'),
    ('scenario_notifications_milestone_value_only_for_milestones', 'CHECK'),
    ('scenario_notifications_milestone_value_is_positive', 'CHECK'),
    ('scenario_notifications_metadata_is_an_object', 'CHECK'),
    ('scenario_notifications_metadata_is_at_most_8_kib', 'CHECK'),
    ('scenario_notifications_metadata_holds_no_personal_data', 'CHECK'),
    ('scenario_notifications_triggered_at_fits_a_datetime', 'CHECK'),
    ('scenario_notifications_window_starts_before_trigger', 'CHECK'),
    ('scenario_notifications_milestones_have_no_window', 'CHECK'),
    ('scenario_notifications_triggered_at_is_at_most_a_day_ahead', 'CHECK'),
    ('scenario_notifications_failure_code_is_a_code', 'CHECK'),
    ('scenario_notifications_origin_is_known', 'CHECK'),
    ('scenario_notifications_cooldown_is_positive', 'CHECK'),
    ('scenario_notifications_milestones_have_no_cooldown', 'CHECK'),
    ('scenario_notifications_subjects_are_storable', 'CHECK'),
    ('scenario_notifications_deliver_until_fits_a_datetime', 'CHECK'),
    ('scenario_notifications_settled_at_unless_pending', 'CHECK'),
    ('scenario_notifications_only_failed_ones_are_held_until', 'CHECK')
  $$,
  'scenario_notifications: constraints'
);

select set_eq(
  $$ select * from pg_temp.indexes_of('scenario_notifications') $$,
  $$ values
    ('scenario_notifications_pkey', 'UNIQUE  btree (id)'),
    ('scenario_notifications_one_claim_per_window',
     'UNIQUE  btree (user_id, scenario_type, cooldown_window_start)'),
    ('scenario_notifications_user_id_scenario_type_triggered_at_idx',
     ' btree (user_id, scenario_type, triggered_at DESC)'),
    ('scenario_notifications_organization_id_scenario_type_idx',
     ' btree (organization_id, scenario_type, triggered_at DESC)'),
    ('scenario_notifications_not_failed_idx',
     ' btree (user_id, scenario_type, triggered_at DESC) WHERE (NOT is_failed)'),
    ('scenario_notifications_failed_idx', ' btree (triggered_at DESC, id DESC) WHERE is_failed'),
    ('scenario_notifications_failed_by_organization_idx',
     ' btree (organization_id, triggered_at DESC, id DESC) INCLUDE (scenario_type, failed_code) WHERE is_failed'),
    ('scenario_notifications_outlasting_idx',
     ' btree (user_id, scenario_type, outlasts_at DESC) WHERE (outlasts_at IS NOT NULL)'),
    ('scenario_notifications_one_notification_per_milestone',
     'UNIQUE  btree (user_id, milestone_value)'
       ' WHERE ((scenario_type = ''milestone''::text)'
       ' AND ((NOT is_failed) OR (held_until = ''infinity''::timestamp with time zone)))')
  $$,
  'scenario_notifications: indexes'
);

select set_has(
  $$ select unnest(reloptions) from pg_class where oid = 'public.scenario_notifications'::regclass $$,
  $$ values ('autovacuum_vacuum_insert_scale_factor=0.05') $$,
  'scenario_notifications: inserts alone bring the vacuum that index-only look-ups need'
);

select set_has(
  $$ select unnest(reloptions) from pg_class where oid = 'public.scenario_notifications'::regclass $$,
  $$ values ('fillfactor=50') $$,
  'scenario_notifications: a page has room for its rows to be settled in place'
);

select set_eq(
  $$ select tgname::text, tgenabled::text from pg_trigger
     where tgrelid = 'public.scenario_notifications'::regclass and not tgisinternal $$,
  $$ values
    ('scenario_notifications_settled_is_final', 'O'),
    ('scenario_notifications_past_is_fixed', 'O'),
    ('scenario_notifications_outcome_is_fixed', 'O'),
    ('scenario_notifications_complete_plain_insert', 'O'),
    ('scenario_notifications_hand_over_plain_insert', 'O'),
    ('scenario_notifications_keep_books', 'O'),
    ('scenario_notifications_end_handovers', 'O'),
    ('scenario_notifications_end_all_handovers', 'O')
  $$,
  'scenario_notifications: triggers'
);

-- The hand-over

select set_eq(
  $$ select * from pg_temp.columns_of('scenario_private.handover') $$,
  $$ values
    ('notification_id', 'uuid', false, ''),
    ('user_id', 'uuid', false, ''),
    ('organization_id', 'uuid', false, ''),
    ('scenario_type', 'text', false, ''),
    ('triggered_at', 'timestamp with time zone', false, 'now()'),
    ('next_attempt_at', 'timestamp with time zone', false, 'now()'),
    ('leased_at', 'timestamp with time zone', true, ''),
    ('leased_until', 'timestamp with time zone', true, ''),
    ('lease_number', 'integer', false, '0'),
    ('attempt_count', 'integer', false, '0'),
    ('unsettled_at', 'timestamp with time zone', true, ''),
    ('unsettled_leases', 'integer', false, '0'),
    ('reached', 'text[]', true, '')
  $$,
  'handover: columns'
);

select set_eq(
  $$ select * from pg_temp.columns_of('scenario_private.pass_range') $$,
  $$ values
    ('pass_id', 'uuid', false, ''),
    ('number', 'integer', false, ''),
    ('place', 'uuid', true, ''),
    ('upto', 'uuid', true, ''),
    ('evaluated', 'bigint', false, '0'),
    ('due', 'bigint', false, '0'),
    ('claimed', 'bigint', false, '0'),
    ('history', 'bigint', false, '0'),
    ('duration', 'interval', false, '''00:00:00''::interval'),
    ('is_finished', 'boolean', false, 'false')
  $$,
  'pass_range: columns'
);

select set_eq(
  $$ select * from pg_temp.constraints_of('scenario_private.handover') $$,
  $$ values
    ('handover_pkey', 'PRIMARY KEY (notification_id)'),
    ('handover_counts_are_not_negative', 'CHECK')
  $$,
  'handover: constraints'
);

select set_eq(
  $$ select * from pg_temp.indexes_of('handover') $$,
  $$ values
    ('handover_pkey', 'UNIQUE  btree (notification_id)'),
    ('handover_due_idx', ' btree (organization_id, scenario_type, next_attempt_at)'),
    ('handover_suspects_idx', ' btree (notification_id) WHERE (unsettled_leases > 0)')
  $$,
  'handover: indexes'
);

select throws_ok(
  format(
    $$ insert into scenario_private.handover
         (notification_id, user_id, organization_id, scenario_type, lease_number, attempt_count)
       values (%1$L, %1$L, %1$L, 'inactivity', %2$s) $$,
    md5('mentor')::uuid,
    counts
  ),
  '23514',
  'new row for relation "handover" violates check constraint "handover_counts_are_not_negative"',
  format('handover: a lease number and a number of tries of %s are refused', counts)
)
from unnest(array['-1, 0', '0, -1']) as counts;

-- peer_mentors

select set_eq(
  $$ select * from pg_temp.columns_of('public.peer_mentors') $$,
  $$ values
    ('user_id', 'uuid', false, ''),
    ('organization_id', 'uuid', false, ''),
    ('is_active', 'boolean', false, 'true')
  $$,
  'peer_mentors: columns'
);

select set_eq(
  $$ select * from pg_temp.constraints_of('public.peer_mentors') $$,
  $$ values
    ('peer_mentors_pkey', 'PRIMARY KEY (user_id, organization_id)'),
    ('peer_mentors_user_id_fkey', 'FOREIGN KEY (user_id) REFERENCES auth.users(id) ON DELETE CASCADE')
  $$,
  'peer_mentors: constraints'
);

select set_eq(
  $$ select * from pg_temp.indexes_of('peer_mentors') $$,
  $$ values
    ('peer_mentors_pkey', 'UNIQUE  btree (user_id, organization_id)'),
    ('peer_mentors_active_by_organization_idx', ' btree (organization_id, user_id) WHERE is_active'),
    ('peer_mentors_active_by_user_idx', ' btree (user_id, organization_id) WHERE is_active')
  $$,
  'peer_mentors: indexes'
);

-- activities

select set_eq(
  $$ select * from pg_temp.columns_of('public.activities') $$,
  $$ values
    ('id', 'bigint', false, 'generated always as identity'),
    ('user_id', 'uuid', false, ''),
    ('organization_id', 'uuid', false, ''),
    ('activity_date', 'timestamp with time zone', false, '')
  $$,
  'activities: columns'
);

select set_eq(
  $$ select * from pg_temp.constraints_of('public.activities') $$,
  $$ values
    ('activities_pkey', 'PRIMARY KEY (id)'),
    ('activities_user_id_fkey', 'FOREIGN KEY (user_id) REFERENCES auth.users(id) ON DELETE CASCADE')
  $$,
  'activities: constraints'
);

select set_eq(
  $$ select * from pg_temp.indexes_of('activities') $$,
  $$ values
    ('activities_pkey', 'UNIQUE  btree (id)'),
    ('activities_user_id_activity_date_idx', ' btree (user_id, activity_date)')
  $$,
  'activities: indexes'
);

-- certifications

select set_eq(
  $$ select * from pg_temp.columns_of('public.certifications') $$,
  $$ values
    ('id', 'uuid', false, 'gen_random_uuid()'),
    ('user_id', 'uuid', false, ''),
    ('organization_id', 'uuid', false, ''),
    ('expires_at', 'timestamp with time zone', false, ''),
    ('kind', 'text', true, '')
  $$,
  'certifications: columns'
);

select set_eq(
  $$ select * from pg_temp.constraints_of('public.certifications') $$,
  $$ values
    ('certifications_pkey', 'PRIMARY KEY (id)'),
    ('certifications_user_id_fkey', 'FOREIGN KEY (user_id) REFERENCES auth.users(id) ON DELETE CASCADE')
  $$,
  'certifications: constraints'
);

select set_eq(
  $$ select * from pg_temp.indexes_of('certifications') $$,
  $$ values
    ('certifications_pkey', 'UNIQUE  btree (id)'),
    ('certifications_user_id_expires_at_idx', ' btree (user_id, expires_at)')
  $$,
  'certifications: indexes'
);

-- device_tokens

select set_eq(
  $$ select * from pg_temp.columns_of('public.device_tokens') $$,
  $$ values
    ('user_id', 'uuid', false, ''),
    ('token', 'text', false, ''),
    ('platform', 'text', false, ''),
    ('registered_at', 'timestamp with time zone', false, 'now()')
  $$,
  'device_tokens: columns'
);

select set_eq(
  $$ select * from pg_temp.constraints_of('public.device_tokens') $$,
  $$ values
    ('device_tokens_pkey', 'PRIMARY KEY (user_id, token)'),
    ('device_tokens_user_id_fkey', 'FOREIGN KEY (user_id) REFERENCES auth.users(id) ON DELETE CASCADE'),
    ('device_tokens_token_has_one_owner', 'UNIQUE (token)'),
    ('device_tokens_platform_is_known', 'CHECK')
  $$,
  'device_tokens: constraints'
);

-- scenario_evaluation_config

select set_eq(
  $$ select * from pg_temp.columns_of('public.scenario_evaluation_config') $$,
  $$ values
    ('id', 'uuid', false, 'gen_random_uuid()'),
    ('scenario_type', 'text', false, ''),
    ('organization_id', 'uuid', true, ''),
    ('is_enabled', 'boolean', true, ''),
    ('cooldown', 'interval', true, ''),
    ('inactive_after', 'interval', true, ''),
    ('returned_within', 'interval', true, ''),
    ('expires_within', 'interval', true, ''),
    ('milestones', 'integer[]', true, ''),
    ('due_within', 'interval', true, ''),
    ('max_reminders', 'integer', true, ''),
    ('retry_failed_after', 'interval', true, ''),
    ('deliver_within', 'interval', true, ''),
    ('max_attempts', 'integer', true, ''),
    ('priority', 'smallint', true, ''),
    ('pass_evaluated', 'bigint', false, '0'),
    ('pass_due', 'bigint', false, '0'),
    ('pass_claimed', 'bigint', false, '0'),
    ('pass_skipped', 'bigint', false, '0'),
    ('pass_history', 'bigint', false, '0'),
    ('pass_duration', 'interval', false, '''00:00:00''::interval'),
    ('pass_finished_at', 'timestamp with time zone', true, ''),
    ('pass_number', 'bigint', false, '0'),
    ('pass_page_size', 'integer', true, ''),
    ('pass_served_at', 'timestamp with time zone', true, ''),
    ('pass_page_owed_since', 'timestamp with time zone', true, '')
  $$,
  'scenario_evaluation_config: columns'
);

select set_eq(
  $$ select * from pg_temp.constraints_of('public.scenario_evaluation_config') $$,
  $$ values
    ('scenario_evaluation_config_pkey', 'PRIMARY KEY (id)'),
    ('scenario_evaluation_config_one_row_per_scope', 'UNIQUE NULLS NOT DISTINCT (scenario_type, organization_id)'),
    ('scenario_evaluation_config_scenario_type_is_known', 'CHECK'),
    ('scenario_evaluation_config_default_is_complete', 'CHECK'),
    ('scenario_evaluation_config_settings_belong_to_their_scenario', 'CHECK'),
    ('scenario_evaluation_config_intervals_are_positive', 'CHECK'),
    ('scenario_evaluation_config_intervals_are_at_most_36525_days', 'CHECK'),
    ('scenario_evaluation_config_intervals_have_no_months', 'CHECK'),
    ('scenario_evaluation_config_counts_are_in_bounds', 'CHECK'),
    ('scenario_evaluation_config_window_fits_inside_gap', 'CHECK'),
    ('scenario_evaluation_config_milestones_are_positive', 'CHECK')
  $$,
  'scenario_evaluation_config: constraints'
);

select set_eq(
  $$ select * from pg_temp.indexes_of('scenario_evaluation_config') $$,
  $$ values
    ('scenario_evaluation_config_pkey', 'UNIQUE  btree (id)'),
    ('scenario_evaluation_config_one_row_per_scope',
     'UNIQUE  btree (scenario_type, organization_id) NULLS NOT DISTINCT')
  $$,
  'scenario_evaluation_config: indexes'
);

select set_eq(
  $$ select scenario_type from public.scenario_evaluation_config where organization_id is null $$,
  $$ select unnest(scenario_private.scenario_types()) $$,
  'scenario_evaluation_config: every scenario type has its defaults'
);

-- Comments

select is_empty(
  $$ select relname from pg_class
     where relnamespace in ('public'::regnamespace, 'scenario_private'::regnamespace) and relkind in ('r', 'p')
       and obj_description(oid, 'pg_class') is null $$,
  'every table says what it holds'
);

select is_empty(
  $$ select relname from pg_class
     where relnamespace = 'scenario_private'::regnamespace and relkind = 'v'
       and obj_description(oid, 'pg_class') is null $$,
  'every view says what it shows'
);

select is_empty(
  $$ select relname from pg_class
     where relnamespace in ('public'::regnamespace, 'scenario_private'::regnamespace) and relkind in ('i', 'I')
       and not exists (select from pg_constraint where conindid = pg_class.oid)
       and coalesce(obj_description(oid, 'pg_class'), '') !~* '\mserves: ' $$,
  'every index that no constraint made names the query it serves'
);

select is_strict(
  'scenario_private', 'holds_personal_data', array['jsonb'],
  'a row without metadata, which its CHECK hands on, costs no look at it'
);

select * from finish();
rollback;
