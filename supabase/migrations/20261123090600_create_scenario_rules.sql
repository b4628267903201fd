-- The rules: who is due for what, and why. Read-only views, one per scenario, one row per mentor and organization;
-- evaluation, dry run and explain all read them.
--
-- What they share:
--   * Evaluated are active mentors for whom the scenario is enabled. A rule looks at the user's own activities and
--     certificates, whichever organization they belong to: a mentor who is busy in one organization has not gone
--     quiet. The cooldown is the user's as well, so a mentor of two organizations is notified once: for the one with
--     the highest milestone or the shortest cooldown that finds the mentor due, then the lowest organization_id.
--   * What lies in the future has not happened: an activity after now() is not seen.
--   * Boundaries are inclusive: a gap of exactly inactive_after is long enough, a certificate that lapses in exactly
--     expires_within is included; one that lapses now has lapsed.
--   * All is timestamptz and every day has 24 hours: the functions that read the rules pin the time zone to UTC, so
--     daylight saving shifts nothing.
--
-- is_due is the rule's verdict (null: nothing to judge), whether or not the mentor is evaluated. finding says why;
-- facts are what it rests on, and become the notification's metadata. The laterals look up one or two index entries per
-- mentor; the count of a milestone stops at the highest threshold.

create or replace view scenario_private.mentor_setting
with (security_invoker = true)
as
select
  standard.scenario_type,
  mentor.user_id,
  mentor.organization_id,
  mentor.is_active,
  coalesce(override.is_enabled, standard.is_enabled) as is_enabled,
  mentor.is_active and coalesce(override.is_enabled, standard.is_enabled) as is_evaluated,
  coalesce(override.cooldown, standard.cooldown) as cooldown,
  now() - coalesce(override.inactive_after, standard.inactive_after) as inactive_since,
  coalesce(override.inactive_after, standard.inactive_after) as inactive_after,
  -- Never a longer window than the gap: a gap inside the window would go unseen.
  now() - least(
    coalesce(override.returned_within, standard.returned_within),
    coalesce(override.inactive_after, standard.inactive_after)
  ) as returned_since,
  now() + coalesce(override.expires_within, standard.expires_within) as expires_until,
  coalesce(override.milestones, standard.milestones) as milestones
from public.peer_mentors as mentor
join public.scenario_evaluation_config as standard
  on standard.organization_id is null
left join public.scenario_evaluation_config as override
  on override.scenario_type = standard.scenario_type
  and override.organization_id = mentor.organization_id;
comment on view scenario_private.mentor_setting is
  'Every mentor of every organization with the settings that hold there: the organization''s, or the default.';

-- inactivity: no activity for inactive_after. A mentor who was never active has not gone quiet: there is nothing to
-- measure from (peer_mentors has no date of joining), and somebody who joined today must not be told so.
create or replace view scenario_private.inactivity_rule
with (security_invoker = true)
as
select
  setting.scenario_type,
  setting.user_id,
  setting.organization_id,
  setting.is_active,
  setting.is_enabled,
  setting.is_evaluated,
  setting.cooldown,
  null::integer as milestone_value,
  last.activity_date <= setting.inactive_since as is_due,
  case
    when last.activity_date is null then 'never_active'
    when last.activity_date <= setting.inactive_since then 'inactive'
    else 'recently_active'
  end as finding,
  jsonb_build_object('last_activity_at', last.activity_date) as facts
from scenario_private.mentor_setting as setting
left join lateral (
  select activity.activity_date
  from public.activities as activity
  where activity.user_id = setting.user_id
    and activity.activity_date <= now()
  order by activity.activity_date desc
  limit 1
) as last on true
where setting.scenario_type = 'inactivity';
comment on view scenario_private.inactivity_rule is
  'Due: no activity for inactive_after, and at least one before that.';

-- milestone: the number of activities reached a threshold above every milestone the user has. Only the highest is
-- due: a first run over old data sends one notification, not one per threshold, and a threshold that is added below
-- what a user has already reached and been told stays silent. A failed milestone is not one the user has.
create or replace view scenario_private.milestone_rule
with (security_invoker = true)
as
select
  setting.scenario_type,
  setting.user_id,
  setting.organization_id,
  setting.is_active,
  setting.is_enabled,
  setting.is_evaluated,
  setting.cooldown,
  reached.milestone_value,
  reached.milestone_value > coalesce(recorded.milestone_value, 0) as is_due,
  case
    when reached.milestone_value is null then 'no_milestone_yet'
    when reached.milestone_value > coalesce(recorded.milestone_value, 0) then 'milestone_crossed'
    else 'no_new_milestone'
  end as finding,
  jsonb_build_object('activity_count', counted.activity_count) as facts
from scenario_private.mentor_setting as setting
left join lateral (
  select count(*) as activity_count
  from (
    select
    from public.activities as activity
    where activity.user_id = setting.user_id
      and activity.activity_date <= now()
    limit (select max(threshold.value) from unnest(setting.milestones) as threshold (value))
  ) as activity
) as counted on true
left join lateral (
  select max(threshold.value) as milestone_value
  from unnest(setting.milestones) as threshold (value)
  where threshold.value <= counted.activity_count
) as reached on true
left join lateral (
  select notification.milestone_value
  from public.scenario_notifications as notification
  where reached.milestone_value is not null
    and notification.user_id = setting.user_id
    and notification.scenario_type = 'milestone'
    and notification.delivery_status <> 'failed'
  order by notification.milestone_value desc
  limit 1
) as recorded on true
where setting.scenario_type = 'milestone';
comment on view scenario_private.milestone_rule is
  'Due: the activity count reached a threshold higher than every milestone the user has; the highest such one.';

-- certification_expiry: a certificate lapses within expires_within, and has not lapsed yet. The facts list the
-- certificates (the 50 that lapse first: metadata is bounded).
create or replace view scenario_private.certification_expiry_rule
with (security_invoker = true)
as
select
  setting.scenario_type,
  setting.user_id,
  setting.organization_id,
  setting.is_active,
  setting.is_enabled,
  setting.is_evaluated,
  setting.cooldown,
  null::integer as milestone_value,
  expiring.certificate_ids is not null as is_due,
  case when expiring.certificate_ids is not null then 'certificate_expiring' else 'no_certificate_expiring' end
    as finding,
  jsonb_build_object('certificate_ids', expiring.certificate_ids, 'expires_at', expiring.expires_at) as facts
from scenario_private.mentor_setting as setting
left join lateral (
  select
    jsonb_agg(certificate.id::text order by certificate.expires_at, certificate.id) as certificate_ids,
    min(certificate.expires_at) as expires_at
  from (
    select certification.id, certification.expires_at
    from public.certifications as certification
    where certification.user_id = setting.user_id
      and certification.expires_at > now()
      and certification.expires_at <= setting.expires_until
    order by certification.expires_at
    limit 50
  ) as certificate
) as expiring on true
where setting.scenario_type = 'certification_expiry';
comment on view scenario_private.certification_expiry_rule is
  'Due: at least one certificate lapses within expires_within and has not lapsed yet.';

-- welcome_back: the first activity inside the last returned_within comes at least inactive_after after the one before
-- it. A first activity ever is no return. An inactivity notice just before changes nothing: scenarios are
-- independent of each other.
create or replace view scenario_private.welcome_back_rule
with (security_invoker = true)
as
select
  setting.scenario_type,
  setting.user_id,
  setting.organization_id,
  setting.is_active,
  setting.is_enabled,
  setting.is_evaluated,
  setting.cooldown,
  null::integer as milestone_value,
  returned.activity_date >= before.activity_date + setting.inactive_after as is_due,
  case
    when returned.activity_date is null then 'not_active_lately'
    when before.activity_date is null then 'newly_active'
    when returned.activity_date >= before.activity_date + setting.inactive_after then 'returned'
    else 'never_away'
  end as finding,
  jsonb_build_object('returned_at', returned.activity_date, 'last_activity_before', before.activity_date) as facts
from scenario_private.mentor_setting as setting
left join lateral (
  select activity.activity_date
  from public.activities as activity
  where activity.user_id = setting.user_id
    and activity.activity_date >= setting.returned_since
    and activity.activity_date <= now()
  order by activity.activity_date
  limit 1
) as returned on true
left join lateral (
  select activity.activity_date
  from public.activities as activity
  where returned.activity_date is not null
    and activity.user_id = setting.user_id
    and activity.activity_date < setting.returned_since
  order by activity.activity_date desc
  limit 1
) as before on true
where setting.scenario_type = 'welcome_back';
comment on view scenario_private.welcome_back_rule is
  'Due: the first activity within returned_within follows a gap of at least inactive_after.';

create or replace view scenario_private.scenario_rule
with (security_invoker = true)
as
select * from scenario_private.inactivity_rule
union all
select * from scenario_private.milestone_rule
union all
select * from scenario_private.certification_expiry_rule
union all
select * from scenario_private.welcome_back_rule;
comment on view scenario_private.scenario_rule is
  'All four rules; a query that names one scenario_type plans only that one.';

revoke all on table
  scenario_private.mentor_setting,
  scenario_private.inactivity_rule,
  scenario_private.milestone_rule,
  scenario_private.certification_expiry_rule,
  scenario_private.welcome_back_rule,
  scenario_private.scenario_rule
  from public, anon, authenticated;
grant select on table
  scenario_private.mentor_setting,
  scenario_private.inactivity_rule,
  scenario_private.milestone_rule,
  scenario_private.certification_expiry_rule,
  scenario_private.welcome_back_rule,
  scenario_private.scenario_rule
  to service_role;
