-- History: what a row says of the past is fixed, sent and failed are final, what a row holds may only end early, a
-- failed milestone is free again, and a deleted user's rows go with her.

begin;
select no_plan();

insert into auth.users (id) values (md5('mentor')::uuid), (md5('other')::uuid);

-- The rows are known by their scenario type and status.
insert into public.scenario_notifications
  (id, user_id, organization_id, scenario_type, delivery_status, triggered_at, cooldown_window_start)
select
  md5(status)::uuid, md5('mentor')::uuid, md5('organization')::uuid, 'inactivity', status, triggered_at, window_start
from (values
  ('failed', '2026-10-01T12:00:00Z'::timestamptz, 'epoch'::timestamptz),
  ('sent', '2026-10-02T12:00:00Z', '2026-10-01T12:00:00Z'),
  ('pending', '2026-11-02T12:00:00Z', '2026-10-02T12:00:00Z')
) as row (status, triggered_at, window_start);

insert into public.scenario_notifications (id, user_id, organization_id, scenario_type, milestone_value)
values (md5('milestone')::uuid, md5('mentor')::uuid, md5('organization')::uuid, 'milestone', 10);

-- Does a statement, and tells how it was refused: the code and the constraint, which the library goes by.
create function pg_temp.refusal(p_statement text)
returns text
language plpgsql
as $$
declare
  refused_by text;
begin
  execute p_statement;
  return 'not refused';
exception
  when others then
    get stacked diagnostics refused_by = constraint_name;
    return format('%s %s', sqlstate, refused_by);
end
$$;

-- Settled is final --------------------------------------------------------------------------------------------------

select is(
  pg_temp.refusal(
    format('update public.scenario_notifications set delivery_status = %L where id = %L', status, md5('failed')::uuid)
  ),
  'SR002 scenario_notifications_settled_is_final',
  format('a failed notification can''t become %s', status)
)
from unnest(array['pending', 'sent']) as status;

select is(
  pg_temp.refusal(
    format('update public.scenario_notifications set delivery_status = %L where id = %L', status, md5('sent')::uuid)
  ),
  'SR002 scenario_notifications_settled_is_final',
  format('a sent notification can''t become %s', status)
)
from unnest(array['pending', 'failed']) as status;

select throws_ok(
  $$ update public.scenario_notifications set delivery_status = 'sent' where id = md5('failed')::uuid $$,
  'SR002',
  'a notification''s history is final: a pending one is settled once, as sent or failed',
  'the refusal says why'
);

select is(
  pg_temp.refusal(
    $$ insert into public.scenario_notifications (id, user_id, organization_id, scenario_type)
       values (md5('failed')::uuid, md5('mentor')::uuid, md5('organization')::uuid, 'inactivity')
       on conflict (id) do update set delivery_status = excluded.delivery_status $$
  ),
  'SR002 scenario_notifications_settled_is_final',
  'an upsert can''t bring a failed notification back either'
);

select is(
  pg_temp.refusal(
    $$ update public.scenario_notifications set delivery_status = 'sent' where user_id = md5('mentor')::uuid $$
  ),
  'SR002 scenario_notifications_settled_is_final',
  'one failed notification among many is enough to refuse'
);

select lives_ok(
  $$ update public.scenario_notifications set delivery_status = 'failed' where id = md5('failed')::uuid $$,
  'a failed notification may fail again'
);

select lives_ok(
  $$ update public.scenario_notifications
     set metadata = '{"reason": "unreachable"}', failure_code = 'unreachable'
     where id = md5('failed')::uuid $$,
  'a failed notification may still be annotated'
);

set local role service_role;
select is(
  pg_temp.refusal(
    $$ update public.scenario_notifications set delivery_status = 'sent' where id = md5('failed')::uuid $$
  ),
  'SR002 scenario_notifications_settled_is_final',
  'the service role can''t bring a failed notification back'
);
reset role;

-- Delivery moves on -------------------------------------------------------------------------------------------------

select lives_ok(
  format(
    $$ update public.scenario_notifications set delivery_status = %L where id = %L $$, status, md5('pending')::uuid
  ),
  format('a notification that is delivered can become %s', status)
)
from unnest(array['pending', 'sent']) as status;

-- The past is fixed -------------------------------------------------------------------------------------------------

select is(
  pg_temp.refusal(format('update public.scenario_notifications set %s where id = %L', change, md5(row)::uuid)),
  'SR002 scenario_notifications_past_is_fixed',
  format('the past is fixed: %s row, %s', row, change)
)
from (values
  ('sent', 'id = gen_random_uuid()'),
  ('sent', 'user_id = md5(''other'')::uuid'),
  ('sent', 'organization_id = md5(''another'')::uuid'),
  ('sent', 'scenario_type = ''welcome_back'''),
  ('sent', 'scenario_type = ''milestone'', milestone_value = 1, cooldown_window_start = null'),
  ('sent', 'triggered_at = triggered_at + interval ''1 microsecond'''),
  ('sent', 'triggered_at = triggered_at - interval ''1 day'''),
  ('sent', 'cooldown_window_start = cooldown_window_start - interval ''1 microsecond'''),
  ('sent', 'cooldown_window_start = null'),
  ('sent', 'origin = ''claim'''),
  ('sent', 'cooldown = interval ''1 day'''),
  ('sent', 'subjects = ''{a}'''),
  ('failed', 'triggered_at = now()'),
  ('failed', 'cooldown_window_start = null'),
  ('milestone', 'milestone_value = 11'),
  ('milestone', 'milestone_value = null, scenario_type = ''inactivity'''),
  ('milestone', 'user_id = md5(''other'')::uuid')
) as attempt (row, change);

select throws_ok(
  $$ update public.scenario_notifications set triggered_at = now() where id = md5('sent')::uuid $$,
  'SR002',
  'a notification''s history is final: whose, which, when and about what are fixed',
  'the refusal says what is fixed'
);

select lives_ok(
  $$ update public.scenario_notifications
     set id = id, user_id = user_id, triggered_at = triggered_at, cooldown_window_start = cooldown_window_start
     where id = md5('sent')::uuid $$,
  'writing the same past again is no change'
);

-- What it holds may end early ---------------------------------------------------------------------------------------

insert into public.scenario_notifications
  (id, user_id, organization_id, scenario_type, delivery_status, triggered_at, settled_at, held_until)
values (
  md5('held')::uuid, md5('other')::uuid, md5('organization')::uuid, 'inactivity', 'failed',
  '2026-11-01T12:00:00Z', '2026-11-02T12:00:00Z', '2026-12-02T12:00:00Z'
);

select is(
  pg_temp.refusal(format('update public.scenario_notifications set %s where id = %L', change, md5(row)::uuid)),
  'SR002 scenario_notifications_outcome_is_fixed',
  format('an outcome is fixed: %s row, %s', row, change)
)
from (values
  ('held', 'held_until = held_until + interval ''1 microsecond'''),
  ('held', 'held_until = ''infinity'''),
  ('held', 'settled_at = settled_at - interval ''1 day'''),
  ('held', 'unsettled_at = settled_at'),
  ('held', 'deliver_until = deliver_until + interval ''1 day'''),
  ('failed', 'held_until = now()'),
  ('sent', 'settled_at = now()'),
  ('sent', 'deliver_until = now()')
) as attempt (row, change);

select lives_ok(
  format('update public.scenario_notifications set %s where id = %L', change, md5(row)::uuid),
  format('an outcome may weaken: %s row, %s', row, change)
)
from (values
  ('milestone', 'deliver_until = deliver_until + interval ''1 day'''),
  ('held', 'held_until = held_until'),
  ('held', 'held_until = held_until - interval ''1 day'''),
  ('held', 'held_until = null')
) as attempt (row, change);

-- Milestones --------------------------------------------------------------------------------------------------------

prepare record_milestone (text, integer) as
  insert into public.scenario_notifications (user_id, organization_id, scenario_type, milestone_value)
  values (md5($1)::uuid, md5('organization')::uuid, 'milestone', $2);

select throws_ok(
  $$ execute record_milestone ('mentor', 10) $$,
  '23505',
  'duplicate key value violates unique constraint "scenario_notifications_one_notification_per_milestone"',
  'a pending milestone is not recorded twice'
);
select lives_ok($$ execute record_milestone ('mentor', 25) $$, 'another milestone of the user is free');
select lives_ok($$ execute record_milestone ('other', 10) $$, 'the same milestone of another user is free');

update public.scenario_notifications set delivery_status = 'sent' where id = md5('milestone')::uuid;
select throws_ok(
  $$ execute record_milestone ('mentor', 10) $$,
  '23505',
  'duplicate key value violates unique constraint "scenario_notifications_one_notification_per_milestone"',
  'a sent milestone is not recorded twice'
);

insert into public.scenario_notifications
  (id, user_id, organization_id, scenario_type, milestone_value, delivery_status)
values (md5('failed milestone')::uuid, md5('mentor')::uuid, md5('organization')::uuid, 'milestone', 50, 'failed');
select lives_ok($$ execute record_milestone ('mentor', 50) $$, 'a failed milestone is free again');
select throws_ok(
  $$ execute record_milestone ('mentor', 50) $$,
  '23505',
  'duplicate key value violates unique constraint "scenario_notifications_one_notification_per_milestone"',
  'and free only once'
);
select is(
  pg_temp.refusal(
    $$ update public.scenario_notifications set delivery_status = 'sent' where id = md5('failed milestone')::uuid $$
  ),
  'SR002 scenario_notifications_settled_is_final',
  'the failed milestone can''t come back beside its successor'
);

-- A deleted user ----------------------------------------------------------------------------------------------------

insert into public.peer_mentors (user_id, organization_id)
select md5(name)::uuid, md5('organization')::uuid from unnest(array['mentor', 'other']) as name;
insert into public.activities (user_id, organization_id, activity_date)
select md5(name)::uuid, md5('organization')::uuid, now() from unnest(array['mentor', 'other']) as name;
insert into public.certifications (user_id, organization_id, expires_at)
select md5(name)::uuid, md5('organization')::uuid, now() from unnest(array['mentor', 'other']) as name;
insert into public.device_tokens (user_id, token, platform)
select md5(name)::uuid, name, 'ios' from unnest(array['mentor', 'other']) as name;
insert into public.scenario_mutes (user_id)
select md5(name)::uuid from unnest(array['mentor', 'other']) as name;

create function pg_temp.rows_of(p_user text)
returns setof text
language plpgsql
as $$
declare
  referrer regclass;
  has_rows boolean;
begin
  for referrer in
    select conrelid from pg_constraint
    where confrelid = 'auth.users'::regclass and contype = 'f' and connamespace = 'public'::regnamespace
  loop
    execute format('select exists (select from %s where user_id = $1)', referrer) into has_rows using md5(p_user)::uuid;
    if has_rows then
      return next referrer::text;
    end if;
  end loop;
end
$$;

select is(
  (select count(*) from pg_temp.rows_of('mentor')),
  (select count(*) from pg_constraint
   where confrelid = 'auth.users'::regclass and contype = 'f' and connamespace = 'public'::regnamespace),
  'the mentor has rows in every table that refers to users'
);

select lives_ok($$ delete from auth.users where id = md5('mentor')::uuid $$, 'a user with a history can be deleted');
select is_empty($$ select pg_temp.rows_of('mentor') $$, 'her rows go with her, fixed past or not');
select isnt_empty($$ select pg_temp.rows_of('other') $$, 'another user''s rows stay');

select * from finish();
rollback;
