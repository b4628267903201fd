"""One call of each function of the API that reads more than a row, on what `plans.FILL` has filled."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

from typing import Final

_ASKED = "md5('user 2501')::uuid"
_SOME = "(select array_agg(md5('user ' || u)::uuid) from generate_series(1, 100) as u)"
_ORGANIZATION = f"(select organization_id from public.peer_mentors where user_id = {_ASKED})"
_CLAIMS = f"""jsonb_build_object(
  'user_id', {_SOME},
  'all', jsonb_build_object(
    'organization_id', {_ORGANIZATION}, 'scenario_type', 'welcome_back', 'cooldown_seconds', 864000
  )
)"""
CALLS: Final = {
    "claim": f"scenario_claim_notifications({_CLAIMS})",
    "claim with a lease": f"scenario_claim_notifications({_CLAIMS}, 60)",
    "evaluate": "scenario_evaluate('inactivity', p_limit => 500)",
    "evaluate certificates": "scenario_evaluate('certification_expiry', p_limit => 500)",
    "evaluate milestones": "scenario_evaluate('milestone', p_limit => 500)",
    "evaluate returns, dry": "scenario_evaluate('welcome_back', p_limit => 500, p_dry_run => true)",
    "explain": f"scenario_explain({_ASKED})",
    "explain a notification": (
        "scenario_explain_notification("
        f"(select id from public.scenario_notifications where user_id = {_ASKED} limit 1))"
    ),
    "export a person": f"scenario_export_person({_ASKED})",
    "find inactive mentors": f"scenario_find_inactive_mentors({_ORGANIZATION}, interval '30 days', 100)",
    "last delivered": f"scenario_get_last_delivered_at_many({_SOME}, 'inactivity')",
    "last sent": f"scenario_get_last_sent_at_many({_SOME}, 'inactivity')",
    "lease": "scenario_lease_notifications(100, 60)",
    "list pending": "scenario_list_pending()",
    "report": f"scenario_get_organization_report({_ORGANIZATION}, now() - interval '40 days', now())",
    "status": "scenario_get_status()",
}
