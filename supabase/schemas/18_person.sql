-- One person's data: all of it, for whoever asks for her own, and its erasure from the tables of scenario_repo.
--
-- A column that refers to a user is in both: tests/integration/test_person.py finds each in the catalogue.

-- What there is of a person.
--   out  {"user_id", "exported_at", "notifications", "handovers", "mutes", "turns", "passes", "sources": {"mentors",
--        "activities", "certificates", "device_tokens"}}: rows as they are, with every column; sources is what the app's
--        own tables have of her, as the views of scenario_source show it; passes are the ranges that begin or end
--        with her
-- Whoever is unknown has no rows. Raises SR001 without a user.
create or replace function public.scenario_export_person(p_user_id uuid, p_needs_schema integer default null)
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
  perform scenario_private.require_given('p_user_id', p_user_id);
  return json_build_object(
    'user_id', p_user_id,
    'exported_at', now(),
    'notifications', (
      select coalesce(json_agg(notification order by notification.triggered_at, notification.id), '[]')
      from public.scenario_notifications as notification
      where notification.user_id = p_user_id
    ),
    'handovers', (
      select coalesce(json_agg(handover order by handover.notification_id), '[]')
      from scenario_private.handover as handover
      where handover.user_id = p_user_id
    ),
    'mutes', (
      select coalesce(json_agg(mute order by mute.id), '[]')
      from public.scenario_mutes as mute
      where mute.user_id = p_user_id
    ),
    'turns', (
      select coalesce(json_agg(turn), '[]')
      from scenario_private.delivery_turn as turn
      where turn.user_id = p_user_id
    ),
    'passes', (
      select coalesce(
        json_agg(
          json_build_object(
            'scenario_type', config.scenario_type,
            'organization_id', config.organization_id,
            'resume_after', range.place,
            'upto', range.upto
          )
          order by config.scenario_type, config.organization_id, range.number
        ),
        '[]'
      )
      from scenario_private.pass_range as range
      join public.scenario_evaluation_config as config on config.id = range.pass_id
      where p_user_id in (range.place, range.upto)
    ),
    'sources', json_build_object(
      'mentors', (
        select coalesce(json_agg(mentor order by mentor.organization_id), '[]')
        from scenario_source.mentors as mentor
        where mentor.user_id = p_user_id
      ),
      'activities', (
        select coalesce(json_agg(activity order by activity.activity_date), '[]')
        from scenario_source.activities as activity
        where activity.user_id = p_user_id
      ),
      'certificates', (
        select coalesce(json_agg(certificate order by certificate.expires_at, certificate.certificate_id), '[]')
        from scenario_source.certificates as certificate
        where certificate.user_id = p_user_id
      ),
      'device_tokens', (
        select coalesce(json_agg(device order by device.registered_at, device.token), '[]')
        from scenario_source.device_tokens as device
        where device.user_id = p_user_id
      )
    )
  );
end
$$;
revoke all on function public.scenario_export_person(uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_export_person(uuid, integer) to service_role;

-- Erases a person from the tables of scenario_repo; the app's own tables keep what they have of her.
--   out  {"notifications", "handovers", "mutes", "turns", "passes"}: how many rows of hers are gone; of passes, how many
--        ranges no longer begin or end with her
-- Afterwards nothing of her is known: no cooldown, no milestone, no mute. As long as she is an active mentor she may be
-- claimed for and told again; who is to be told nothing more leaves peer_mentors first, or is deleted as a user. The
-- figures of an organization's report are counted from rows, and so are fewer; those of passes stay.
-- A worker that has one of her notifications in hand may still send it; it settles as unknown. Whoever has written to
-- these tables and not committed, such as a claim or a page under way, is waited for: then what is theirs is seen. Who
-- begins to write after that may claim for her anew. Erasing twice finds nothing.
-- It never waits while it has a lock, so it is part of no deadlock: what others have in hand it tries again, for up to
-- five seconds (then 55P03, and nothing is erased).
-- Raises SR001 without a user.
create or replace function public.scenario_erase_person(p_user_id uuid, p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
as $$
declare
  until constant timestamptz := clock_timestamp() + interval '5 seconds';
  writers text[];
  notification_ids uuid[];
  handover_ids uuid[];
  notification_count integer := 0;
  handover_count integer := 0;
  mute_count integer := 0;
  turn_count integer := 0;
  pass_count integer := 0;
  found_count integer;
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_id', p_user_id);
  -- A page locks its range before it reads whom to claim for.
  writers := array(
    select distinct lock.virtualtransaction
    from pg_catalog.pg_locks as lock
    where lock.relation in (
        'public.scenario_notifications'::regclass, 'public.scenario_mutes'::regclass,
        'public.scenario_evaluation_config'::regclass, 'scenario_private.handover'::regclass,
        'scenario_private.delivery_turn'::regclass, 'scenario_private.pass_range'::regclass
      )
      and lock.database = (select own.oid from pg_catalog.pg_database as own where own.datname = current_database())
      and lock.mode in ('RowShareLock', 'RowExclusiveLock')
      and lock.granted
      and lock.pid is distinct from pg_backend_pid()
  );
  while exists (select from pg_catalog.pg_locks as lock where lock.virtualtransaction = any (writers)) loop
    if clock_timestamp() > until then
      raise exception using
        errcode = 'lock_not_available', message = 'others have written for more than five seconds and not committed';
    end if;
    perform pg_sleep(0.02);
  end loop;
  loop
    begin
      perform
      from scenario_private.pass_range as range
      where p_user_id in (range.place, range.upto)
      for no key update nowait;
      -- Then every hand-over of theirs is seen by the next query.
      notification_ids := array(
        select notification.id
        from public.scenario_notifications as notification
        where notification.user_id = p_user_id
        for update nowait
      );
      handover_ids := array(
        select handover.notification_id
        from scenario_private.handover as handover
        where handover.user_id = p_user_id
        for update nowait
      );
      perform from scenario_private.delivery_turn as turn where turn.user_id = p_user_id for update nowait;
      perform from public.scenario_mutes as mute where mute.user_id = p_user_id for update nowait;

      -- The mentor before her takes her place: where she was the last one evaluated, and as a bound on both sides.
      update scenario_private.pass_range as range
      set
        place = case when range.place = p_user_id then before.user_id else range.place end,
        upto = case when range.upto = p_user_id then before.user_id else range.upto end
      from (
        select coalesce(max(previous.user_id::text), '00000000-0000-0000-0000-000000000000')::uuid as user_id
        from (
          select mentor.user_id
          from scenario_source.mentors as mentor
          where mentor.user_id < p_user_id and mentor.is_active
          order by mentor.user_id desc
          limit 1
        ) as previous
      ) as before
      where (range.pass_id, range.number) in (
        select named.pass_id, named.number
        from scenario_private.pass_range as named
        where p_user_id in (named.place, named.upto)
        for no key update skip locked
      );
      get diagnostics found_count = row_count;
      pass_count := pass_count + found_count;
      delete from scenario_private.handover as handover where handover.notification_id = any (handover_ids);
      get diagnostics found_count = row_count;
      handover_count := handover_count + found_count;
      delete from public.scenario_notifications as notification where notification.id = any (notification_ids);
      get diagnostics found_count = row_count;
      notification_count := notification_count + found_count;
      delete from scenario_private.delivery_turn as turn where turn.user_id = p_user_id;
      get diagnostics found_count = row_count;
      turn_count := turn_count + found_count;
      delete from public.scenario_mutes as mute where mute.user_id = p_user_id;
      get diagnostics found_count = row_count;
      mute_count := mute_count + found_count;
      exit when not exists (
        select from public.scenario_notifications as notification where notification.user_id = p_user_id
      ) and not exists (
        select from scenario_private.pass_range as range where p_user_id in (range.place, range.upto)
      );
    exception when lock_not_available then
      if clock_timestamp() > until then
        raise;
      end if;
    end;
    perform pg_sleep(0.02);
  end loop;

  return json_build_object(
    'notifications', notification_count,
    'handovers', handover_count,
    'mutes', mute_count,
    'turns', turn_count,
    'passes', pass_count
  );
end
$$;
revoke all on function public.scenario_erase_person(uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_erase_person(uuid, integer) to service_role;
