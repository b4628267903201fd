-- Explains, for one user, each scenario in each organization where the user is a mentor: whether the next evaluation
-- would claim, and why or why not.
--   out  [{"scenario_type", "organization_id", "is_due", "reason", "facts", "milestone_value", "held_by", "held_since",
--          "ends_at"}]
-- reason is the rule's finding unless something comes first: user_gone, user_banned, mentor_not_active,
-- scenario_disabled; or, for a mentor who is due, cooldown (held_by until ends_at). A user who is no mentor gives [].
create or replace function public.scenario_explain(p_user_id uuid, p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
declare
  verdicts text;
  explanations json;
begin
  perform scenario_private.require_schema(p_needs_schema);
  select string_agg(
    format(
      'select rule.scenario_type, rule.organization_id, rule.is_active, rule.is_enabled, rule.is_evaluated,
         rule.cooldown, rule.milestone_value, rule.is_due, rule.finding, rule.facts
       from %s as rule
       where rule.user_id = $1',
      known.rule
    ),
    ' union all '
  )
  into verdicts
  from scenario_private.rules() as known;

  execute format(
    'select coalesce(
       json_agg(
         json_build_object(
           ''scenario_type'', verdict.scenario_type,
           ''organization_id'', verdict.organization_id,
           ''is_due'', $2 is null and verdict.is_evaluated and coalesce(verdict.is_due, false) and holder.id is null,
           ''reason'', case
             when $2 is not null then $2
             when not verdict.is_active then ''mentor_not_active''
             when not verdict.is_enabled then ''scenario_disabled''
             when verdict.is_due and holder.id is not null then ''cooldown''
             else verdict.finding
           end,
           ''facts'', coalesce(verdict.facts, ''{}''),
           ''milestone_value'', verdict.milestone_value,
           ''held_by'', holder.id,
           ''held_since'', holder.triggered_at,
           ''ends_at'', case
             when holder.id is not null and verdict.cooldown is not null
               then least(holder.triggered_at + verdict.cooldown, timestamptz ''9999-12-31 23:59:59+00'')
           end
         )
         order by verdict.organization_id, verdict.scenario_type
       ),
       ''[]''
     )
     from (%s) as verdict
     cross join lateral scenario_private.current_holder(
       $1, verdict.scenario_type, verdict.cooldown, verdict.milestone_value
     ) as holder',
    verdicts
  )
  into explanations
  using p_user_id, (select away.reason from scenario_private.users_away(array[p_user_id]) as away);
  return explanations;
end
$$;
revoke all on function public.scenario_explain(uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_explain(uuid, integer) to service_role;
