-- Explains, for one user, each scenario in each organization where the user is a mentor: whether the next evaluation
-- would claim, and why or why not.
--   out  {"explanations": [{"scenario_type", "organization_id", "is_due", "reason", "facts", "milestone_value",
--        "held_by", "held_since", "ends_at"}]}
-- reason is the rule's finding (rule_failed if the rule raises) unless something comes first: user_gone, user_banned,
-- mentor_not_active, scenario_disabled; or, for a mentor who is due, cooldown (held_by holds, until ends_at; null: for
-- good), history (it came true too long ago) or reminders_spent. A user who is no mentor gives [].
-- Raises SR001 without a user.
create or replace function public.scenario_explain(p_user_id uuid, p_needs_schema integer default null)
returns json
language plpgsql
volatile
security invoker
set search_path = ''
set jit = off
set timezone = 'UTC'
as $$
declare
  away_reason constant text := (select away.reason from scenario_private.users_away(array[p_user_id]) as away);
  known record;
  found jsonb;
  verdicts jsonb := jsonb '[]';
begin
  perform scenario_private.require_schema(p_needs_schema);
  perform scenario_private.require_given('p_user_id', p_user_id);
  -- Rule by rule: one that raises, an app's own for example, silences none of the others.
  for known in select rules.scenario_type, rules.rule from scenario_private.rules() as rules loop
    begin
      execute format(
        'select jsonb_agg(judged) from (
           select
             %L::text as scenario_type,
             mentor.organization_id::uuid,
             coalesce(mentor.is_active::boolean, false) as is_active,
             coalesce(mentor.is_enabled::boolean, false) as is_enabled,
             coalesce(mentor.is_evaluated::boolean, false) as is_evaluated,
             mentor.cooldown,
             mentor.milestone_value::integer,
             mentor.verdict,
             coalesce(mentor.subjects::text[], ''{}'') as subjects,
             coalesce(mentor.finding::text, ''rule_failed'') as finding,
             case when scenario_private.is_storable_metadata(mentor.facts::jsonb) then mentor.facts::jsonb end
               as facts
           from (%s) as mentor
           where mentor.organization_id is not null
         ) as judged',
        known.scenario_type,
        scenario_private.verdict_query(
          known.rule, known.scenario_type, format('mentor.user_id = %L', p_user_id), null, true
        )
      ) into found;
    exception when others then
      select jsonb_agg(setting) into found
      from (
        select
          setting.scenario_type, setting.organization_id, setting.is_active, setting.is_enabled,
          setting.is_evaluated, 'not_due' as verdict, 'rule_failed' as finding
        from scenario_private.mentor_setting as setting
        where setting.scenario_type = known.scenario_type and setting.user_id = p_user_id
      ) as setting;
    end;
    verdicts := verdicts || coalesce(found, '[]');
  end loop;

  return (
    select json_build_object('explanations', coalesce(
      json_agg(
        json_build_object(
          'scenario_type', verdict.scenario_type,
          'organization_id', verdict.organization_id,
          'is_due', away_reason is null and verdict.is_evaluated and verdict.verdict = 'due' and not muted.is_muted,
          'reason', case
            when away_reason is not null then away_reason
            when not verdict.is_active then 'mentor_not_active'
            when not verdict.is_enabled then 'scenario_disabled'
            when muted.is_muted then 'muted'
            when verdict.verdict = 'held' then 'cooldown'
            when verdict.verdict in ('history', 'reminders_spent') then verdict.verdict
            else verdict.finding
          end,
          'facts', coalesce(verdict.facts, '{}'),
          'milestone_value', verdict.milestone_value,
          'held_by', holder.id,
          'held_since', holder.triggered_at,
          -- No later than a client's datetime can be.
          'ends_at', case
            when holder.ends_at is not null then least(holder.ends_at, timestamptz '9999-12-31 23:59:59+00')
          end
        )
        order by verdict.organization_id, verdict.scenario_type
      ),
      '[]'
    ))
    from jsonb_to_recordset(verdicts) as verdict (
      scenario_type text, organization_id uuid, is_active boolean, is_enabled boolean, is_evaluated boolean,
      cooldown interval, milestone_value integer, verdict text, subjects text[], finding text, facts jsonb
    )
    cross join lateral (
      select scenario_private.is_muted(p_user_id, verdict.organization_id, verdict.scenario_type) as is_muted
    ) as muted
    left join lateral scenario_private.current_holder(
      p_user_id, verdict.scenario_type, verdict.cooldown, verdict.milestone_value, verdict.subjects
    ) as holder on true
  );
end
$$;
revoke all on function public.scenario_explain(uuid, integer) from public, anon, authenticated;
grant execute on function public.scenario_explain(uuid, integer) to service_role;
