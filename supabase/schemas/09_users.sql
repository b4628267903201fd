-- The users, of whom service_role may read nothing: two definer functions answer, with ids and a reason alone.

-- Which of these users exist; they can't be deleted until the transaction ends.
create or replace function scenario_private.lock_existing_users(p_user_ids uuid[])
returns setof uuid
language sql
volatile
security definer
set search_path = ''
rows 1000
as $$
  select users.id
  from auth.users as users
  where users.id = any (p_user_ids)
  order by users.id
  for key share
$$;
revoke all on function scenario_private.lock_existing_users(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.lock_existing_users(uuid[]) to service_role;

-- Which of these users are not to be notified, and why: user_gone (deleted, also softly), or user_banned until later
-- than now. Asked once a page or a lease, by array.
create or replace function scenario_private.users_away(p_user_ids uuid[])
returns table (user_id uuid, reason text)
language sql
stable
security definer
set search_path = ''
rows 10
as $$
  select
    asked.user_id,
    case when users.banned_until > now() and users.deleted_at is null then 'user_banned' else 'user_gone' end
  from unnest(p_user_ids) as asked (user_id)
  left join auth.users as users on users.id = asked.user_id
  where asked.user_id is not null
    and (users.id is null or users.deleted_at is not null or users.banned_until > now())
$$;
revoke all on function scenario_private.users_away(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.users_away(uuid[]) to service_role;
