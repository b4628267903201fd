"""For an app's own tests: ``pip install scenario_repo[testing]``.

Without a database, builders make values and :class:`PostgrestAnswers` answers the repository's requests::

    with PostgrestAnswers() as answers:
        answers.lease_notifications([a_leased_notification(device_tokens=())])
        answers.settle_notifications()

With one, pytest starts the local Supabase (the fixture ``scenario_stack``, see the module ``pytest_scenario_repo``),
and :func:`travel` lets time pass for the rows of a database.

Nothing here decides: what the database decides is tested on the database.
"""

from scenario_repo.testing._claims_wire import id_of_claim
from scenario_repo.testing.answers import (
    PROJECT_URL,
    PUBLISHABLE_KEY,
    SECRET_KEY,
    Asked,
    PostgrestAnswers,
    UnansweredRequestError,
)
from scenario_repo.testing.builders import (
    MILESTONE,
    NOON,
    ORGANIZATION_ID,
    USER_ID,
    a_claim,
    a_day_off,
    a_device_token,
    a_lease,
    a_leased_notification,
    a_leased_outcome,
    a_mute,
    a_new_day_off,
    a_new_mute,
    a_new_notification,
    a_notification,
    a_policy,
    a_report,
    a_report_line,
    a_retry_outcome,
    a_rule_check,
    a_rule_sample,
    a_scenario_report,
    a_schema_description,
    a_settlement,
    an_engine_report,
    an_evaluation_page,
    an_explanation,
    an_outcome,
    certification_expiry_facts,
    inactivity_facts,
    milestone_facts,
    welcome_back_facts,
)
from scenario_repo.testing.local_supabase import LocalSupabase, local_supabase
from scenario_repo.testing.time_travel import travel

__all__ = [
    "MILESTONE",
    "NOON",
    "ORGANIZATION_ID",
    "PROJECT_URL",
    "PUBLISHABLE_KEY",
    "SECRET_KEY",
    "USER_ID",
    "Asked",
    "LocalSupabase",
    "PostgrestAnswers",
    "UnansweredRequestError",
    "a_claim",
    "a_day_off",
    "a_device_token",
    "a_lease",
    "a_leased_notification",
    "a_leased_outcome",
    "a_mute",
    "a_new_day_off",
    "a_new_mute",
    "a_new_notification",
    "a_notification",
    "a_policy",
    "a_report",
    "a_report_line",
    "a_retry_outcome",
    "a_rule_check",
    "a_rule_sample",
    "a_scenario_report",
    "a_schema_description",
    "a_settlement",
    "an_engine_report",
    "an_evaluation_page",
    "an_explanation",
    "an_outcome",
    "certification_expiry_facts",
    "id_of_claim",
    "inactivity_facts",
    "local_supabase",
    "milestone_facts",
    "travel",
    "welcome_back_facts",
]
