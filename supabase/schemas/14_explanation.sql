-- Explains, for one user, each scenario in each organization where the user is a mentor: whether the next evaluation
-- would claim, and why or why not.
--   out  [{"scenario_type", "organization_id", "is_due", "reason", "facts", "milestone_value", "held_by", "held_since",
--          "ends_at"}]
-- reason is the rule's finding (rule_failed if the rule raises) unless something comes first: user_gone, user_banned,
-- mentor_not_active, scenario_disabled; or, for a mentor who is due, cooldown (held_by until ends_at). A user who is no
-- mentor gives [].
create or replace function public.scenario_explain(p_user_id uuid, p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set timezone = 'UTC'
as $$
declare
  away_reason constant text := (select away.reason from scenario_private.users_away(array[p_user_id]) as away);
  known record;
  found jsonb;
  verdicts jsonb := jsonb '[]';
begin
  perform scenario_private.require_schema(p_needs_schema);
  -- Rule by rule: one that raises, an app's own for example, silences none of the others.
  for known in select rules.scenario_type, rules.rule from scenario_private.rules() as rules loop
    begin
      execute format(
        'select jsonb_agg(rule) from (
           select
             %L::text as scenario_type,
             rule.organization_id::uuid,
             coalesce(rule.is_active::boolean, false) as is_active,
             coalesce(rule.is_enabled::boolean, false) as is_enabled,
             coalesce(rule.is_evaluated::boolean, false) as is_evaluated,
             case when rule.cooldown is not null then least(rule.cooldown::interval, interval ''36525 days'') end
               as cooldown,
             rule.milestone_value::integer,
             rule.is_due::boolean,
             coalesce(rule.finding::text, ''rule_failed'') as finding,
             case when scenario_private.is_storable_metadata(rule.facts::jsonb) then rule.facts::jsonb end as facts
           from %s as rule
           where rule.user_id = $1 and rule.organization_id is not null
         ) as rule',
        known.scenario_type, known.rule
      ) into found using p_user_id;
    exception when others then
      select jsonb_agg(setting) into found
      from (
        select
          setting.scenario_type, setting.organization_id, setting.is_active, setting.is_enabled,
          setting.is_evaluated, 'rule_failed' as finding
        from scenario_private.mentor_setting as setting
        where setting.scenario_type = known.scenario_type and setting.user_id = p_user_id
      ) as setting;
    end;
    verdicts := verdicts || coalesce(found, '[]');
  end loop;

  return (
    select coalesce(
      json_agg(
        json_build_object(
          'scenario_type', verdict.scenario_type,
          'organization_id', verdict.organization_id,
          'is_due', away_reason is null and verdict.is_evaluated and coalesce(verdict.is_due, false)
            and holder.id is null,
          'reason', case
            when away_reason is not null then away_reason
            when not verdict.is_active then 'mentor_not_active'
            when not verdict.is_enabled then 'scenario_disabled'
            when verdict.is_due and holder.id is not null then 'cooldown'
            else verdict.finding
          end,
          'facts', coalesce(verdict.facts, '{}'),
          'milestone_value', verdict.milestone_value,
          'held_by', holder.id,
          'held_since', holder.triggered_at,
          'ends_at', case
            when holder.id is not null and verdict.cooldown is not null
              then least(holder.triggered_at + verdict.cooldown, timestamptz '9999-12-31 23:59:59+00')
          end
        )
        order by verdict.organization_id, verdict.scenario_type
      ),
      '[]'
    )
    from jsonb_to_recordset(verdicts) as verdict (
      scenario_type text, organization_id uuid, is_active boolean, is_enabled boolean, is_evaluated boolean,
      cooldown interval, milestone_value integer, is_due boolean, finding text, facts jsonb
    )
    cross join lateral scenario_private.current_holder(
      p_user_id, verdict.scenario_type, verdict.cooldown, verdict.milestone_value
    ) as holder
  );
end
$$;
revoke all on function public.scenario_explain(uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_explain(uuid, integer) to service_role;
