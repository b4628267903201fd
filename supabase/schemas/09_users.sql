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
language plpgsql
stable
security definer
set search_path = ''
set enable_seqscan = off
rows 10
as $$
begin
  return query
  select
    asked.user_id,
    case when users.banned_until > now() and users.deleted_at is null then 'user_banned' else 'user_gone' end
  from unnest(p_user_ids) as asked (user_id)
  left join auth.users as users on users.id = asked.user_id
  where asked.user_id is not null
    and (users.id is null or users.deleted_at is not null or users.banned_until > now());
end
$$;
revoke all on function scenario_private.users_away(uuid[]) from public, anon, authenticated;
grant execute on function scenario_private.users_away(uuid[]) to service_role;

-- Who is not to be told, and why: gone or banned (users_away), not an active member, scenario disabled, muted. The lease
-- asks it of notifications, the evaluation and the explanation ask the same of rules (which stand on mentor_setting). A
-- notification that no rule made is asked about the user and her mutes alone.
-- Arrays of one length; a row for each place that is refused.
create or replace function scenario_private.refusals(
  p_user_ids uuid[], p_organization_ids uuid[], p_scenario_types text[], p_by_rule boolean[]
)
returns table (place bigint, reason text)
language plpgsql
stable
set search_path = ''
set jit = off
set enable_seqscan = off
rows 10
as $$
begin
  -- Kept, the plan costs the next call nothing.
  return query
  select asked.place, coalesce(away.reason, refused.reason, muted.reason)
  from unnest(p_user_ids, p_organization_ids, p_scenario_types, p_by_rule) with ordinality as asked (
    user_id, organization_id, scenario_type, by_rule, place
  )
  left join scenario_private.users_away(p_user_ids) as away on away.user_id = asked.user_id
  left join lateral (
    select case
      when not coalesce(setting.is_active, false) then 'mentor_not_active'
      when not setting.is_enabled then 'scenario_disabled'
    end as reason
    from (select) as one
    left join scenario_private.mentor_setting as setting
      on setting.scenario_type = asked.scenario_type
      and setting.user_id = asked.user_id
      and setting.organization_id = asked.organization_id
    where asked.by_rule
    limit 1
  ) as refused on true
  left join lateral (
    select 'muted' as reason
    from public.scenario_mutes as mute
    where mute.user_id = asked.user_id
      and (mute.organization_id = asked.organization_id or mute.organization_id is null)
      and (mute.scenario_type = asked.scenario_type or mute.scenario_type is null)
      and (mute.muted_until > now() or mute.muted_until is null)
    limit 1
  ) as muted on true
  where coalesce(away.reason, refused.reason, muted.reason) is not null;
end
$$;
revoke all on function scenario_private.refusals(uuid[], uuid[], text[], boolean[]) from public, anon, authenticated;
grant execute on function scenario_private.refusals(uuid[], uuid[], text[], boolean[]) to service_role;
