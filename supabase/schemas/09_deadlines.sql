-- Deadlines: when what is claimed now may first be told, and until when it is handed out.

-- For each pair of organization and scenario type (one may stand for a whole column) the first permitted moment and
-- deliver_until, an array under the key of both, divided by a space; null where every organization is always open and
-- hands out for 7 days. What would end at a time that is not permitted ends a day after the next one that is: holding is
-- never losing.
create or replace function scenario_private.deadlines(
  p_organization_ids uuid[], p_organization_id uuid, p_scenario_types text[], p_scenario_type text
)
returns jsonb
language plpgsql
stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  if not scenario_private.has_delivery_policies()
    and not exists (
      select from public.scenario_evaluation_config as config where config.deliver_within <> interval '7 days'
    )
  then
    return null;
  end if;
  return (
    select jsonb_object_agg(
      pair.organization_id || ' ' || pair.scenario_type,
      jsonb_build_array(
        coalesce(scenario_private.next_moment(pair.organization_id, now()), now()),
        case
          when moment.open_at > ending.at then moment.open_at + interval '1 day'
          else ending.at
        end
      )
    )
    from (
      select distinct
        coalesce(asked.organization_id, p_organization_id) as organization_id,
        coalesce(asked.scenario_type, p_scenario_type) as scenario_type
      from unnest(p_organization_ids, p_scenario_types) as asked (organization_id, scenario_type)
      union
      select p_organization_id, p_scenario_type
    ) as pair
    cross join lateral (
      select now() + coalesce(
        (scenario_private.delivery_setting_of(pair.scenario_type, pair.organization_id)).deliver_within,
        interval '7 days'
      ) as at
    ) as ending
    cross join lateral (
      select scenario_private.next_moment(pair.organization_id, ending.at) as open_at
    ) as moment
    where pair.organization_id is not null
      and pair.scenario_type is not null
  );
end
$$;
revoke all on function scenario_private.deadlines(uuid[], uuid, text[], text) from public, anon, authenticated;
grant execute on function scenario_private.deadlines(uuid[], uuid, text[], text) to service_role;
