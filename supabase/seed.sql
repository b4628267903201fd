-- Local sample data only: one organization with 500 mentors and a plausible past, relative to now().
-- The same every time (ids derive from a counter), and harmless when run twice.

create temporary table sample_mentor as
select
  n,
  md5('scenario_repo sample mentor ' || n)::uuid as user_id,
  '5ca1ab1e-0000-4000-8000-000000000001'::uuid as organization_id,
  -- Of every 20 mentors: 14 are busy, 3 went quiet, 2 have just come back, 1 never did anything.
  case when n % 20 < 14 then 'busy' when n % 20 < 17 then 'quiet' when n % 20 < 19 then 'back' else 'new' end as kind
from generate_series(1, 500) as n;

insert into auth.users (id, instance_id, aud, role, email, created_at, updated_at)
select
  user_id,
  '00000000-0000-0000-0000-000000000000',
  'authenticated',
  'authenticated',
  'mentor-' || n || '@example.invalid',
  now(),
  now()
from sample_mentor
on conflict do nothing;

insert into public.peer_mentors (user_id, organization_id, is_active)
select user_id, organization_id, n % 50 <> 0
from sample_mentor
on conflict do nothing;

insert into public.activities (user_id, organization_id, activity_date)
select
  mentor.user_id,
  mentor.organization_id,
  case mentor.kind
    -- one every third day
    when 'busy' then now() - make_interval(days => 3 * k, hours => mentor.n % 24)
    -- the same, but nothing for the last 40 to 99 days: a third of them by the defaults, the others are history
    when 'quiet' then now() - make_interval(days => 40 + mentor.n % 60 + 3 * k)
    -- one yesterday, the one before it at least 45 days ago
    when 'back' then now() - case when k = 0 then interval '1 day' else make_interval(days => 45 + 3 * k) end
  end
from sample_mentor as mentor
cross join lateral generate_series(0, 4 + mentor.n % 60) as k
where mentor.kind <> 'new'
  and not exists (
    select from public.activities as activity where activity.organization_id = mentor.organization_id
  );

insert into public.certifications (id, user_id, organization_id, expires_at)
select
  md5('scenario_repo sample certificate ' || n)::uuid,
  user_id,
  organization_id,
  now() + make_interval(days => n % 365)
from sample_mentor
where n % 3 = 0
on conflict do nothing;

insert into public.device_tokens (user_id, token, platform)
select user_id, md5('scenario_repo sample device ' || n), case when n % 2 = 0 then 'ios' else 'android' end
from sample_mentor
where n % 10 <> 0
on conflict do nothing;

drop table sample_mentor;
