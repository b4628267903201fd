-- History is kept: a row's past can't be rewritten, and sent and failed are final. A change of status that is not
-- listed here is refused.
--
-- The cooldown rests on it. A failed row frees its cooldown, so another may have been claimed since: were the failed
-- one sent after all, two would stand inside one cooldown. A sent one that were pending again would be sent twice. And
-- a row moved in time or to another user would break the chain of claims.

-- Raises SR002, whenever it is called: the triggers' WHEN clauses decide.
create or replace function scenario_private.refuse_rewriting_history()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception using
    errcode = 'SR002',
    message = format('a notification''s history is final: %s', tg_argv[0]),
    constraint = tg_name;
end
$$;
revoke all on function scenario_private.refuse_rewriting_history() from public, anon, authenticated;

create or replace trigger scenario_notifications_settled_is_final
  before update of delivery_status on public.scenario_notifications
  for each row
  when (
    old.delivery_status <> new.delivery_status
    and (old.delivery_status, new.delivery_status) not in (('pending', 'sent'), ('pending', 'failed'))
  )
  execute function scenario_private.refuse_rewriting_history('a pending one is settled once, as sent or failed');

create or replace trigger scenario_notifications_past_is_fixed
  before update of id, user_id, organization_id, scenario_type, triggered_at, milestone_value, cooldown_window_start
  on public.scenario_notifications
  for each row
  when (
    (old.id, old.user_id, old.organization_id, old.scenario_type, old.triggered_at)
      is distinct from (new.id, new.user_id, new.organization_id, new.scenario_type, new.triggered_at)
    or (old.milestone_value, old.cooldown_window_start)
      is distinct from (new.milestone_value, new.cooldown_window_start)
  )
  execute function scenario_private.refuse_rewriting_history('whose, which and when are fixed');
