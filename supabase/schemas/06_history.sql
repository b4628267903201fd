-- History is kept: a row's past can't be rewritten, and sent and failed are final. A change of status that is not
-- listed here is refused. What a failed row holds may end early, and never lasts longer.
--
-- The cooldown rests on it. A failed row may have freed its cooldown, so another may have been claimed since: were the
-- failed one sent after all, two would stand inside one cooldown. A sent one that were pending again would be sent
-- twice. And a row moved in time or to another user would break the chain of claims. A claim may see an older state of
-- a row than the newest: it then refuses too much, never too little, for what a row holds only ever gets weaker.

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
  before update of
    id, user_id, organization_id, scenario_type, triggered_at, milestone_value, cooldown_window_start, origin, cooldown,
    subjects
  on public.scenario_notifications
  for each row
  when (
    (old.id, old.user_id, old.organization_id, old.scenario_type, old.triggered_at)
      is distinct from (new.id, new.user_id, new.organization_id, new.scenario_type, new.triggered_at)
    or (old.milestone_value, old.cooldown_window_start, old.origin, old.cooldown, old.subjects)
      is distinct from (new.milestone_value, new.cooldown_window_start, new.origin, new.cooldown, new.subjects)
  )
  execute function scenario_private.refuse_rewriting_history('whose, which, when and about what are fixed');

create or replace trigger scenario_notifications_outcome_is_fixed
  before update of settled_at, unsettled_at, held_until, deliver_until on public.scenario_notifications
  for each row
  when (
    old.delivery_status <> 'pending'
    and (
      (old.settled_at, old.unsettled_at, old.deliver_until)
        is distinct from (new.settled_at, new.unsettled_at, new.deliver_until)
      or new.held_until > old.held_until
      or (old.held_until is null and new.held_until is not null)
    )
  )
  execute function scenario_private.refuse_rewriting_history('what it holds may end early, never last longer');
