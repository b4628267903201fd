-- The instants that follow from the default settings, reckoned once a query instead of once a mentor.
--
-- now() minus an interval takes the calendar apart; for every mentor, several times over, that was a twentieth of a
-- page. OFFSET 0 keeps the planner from moving the sums back to the mentors. Only where an organization overrides a
-- setting are they done for its mentors. The columns are the same, and what they mean.

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
  coalesce(now() - override.inactive_after, standard.inactive_since) as inactive_since,
  coalesce(override.inactive_after, standard.inactive_after) as inactive_after,
  -- Never a longer window than the gap: a gap inside the window would go unseen.
  case
    when override.returned_within is null and override.inactive_after is null then standard.returned_since
    else now() - least(
      coalesce(override.returned_within, standard.returned_within),
      coalesce(override.inactive_after, standard.inactive_after)
    )
  end as returned_since,
  coalesce(now() + override.expires_within, standard.expires_until) as expires_until,
  coalesce(override.milestones, standard.milestones) as milestones
from public.peer_mentors as mentor
cross join (
  select
    config.*,
    now() - config.inactive_after as inactive_since,
    now() - least(config.returned_within, config.inactive_after) as returned_since,
    now() + config.expires_within as expires_until
  from public.scenario_evaluation_config as config
  where config.organization_id is null
  offset 0
) as standard
left join public.scenario_evaluation_config as override
  on override.scenario_type = standard.scenario_type
  and override.organization_id = mentor.organization_id;
