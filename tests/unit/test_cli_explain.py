"""scenario-repo explain: each reason in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import respx

from tests.factories import ORGANIZATION_ID, USER_ID

if TYPE_CHECKING:  # pytest imports it first, as a plugin
    from tests.unit.command_line import Run

pytest_plugins = ["tests.unit.command_line"]


def verdict(kind: str, reason: str, **more: object) -> dict[str, Any]:
    """Make one scenario's explanation."""
    plain: dict[str, object] = {
        "milestone_value": None,
        "held_by": None,
        "held_since": None,
        "ends_at": None,
        "facts": {},
    }
    return {
        "scenario_type": kind,
        "organization_id": str(ORGANIZATION_ID),
        "is_due": False,
        "reason": reason,
        **plain,
        **more,
    }


_HOLDER = "5b0e7c11-3a5c-4b8f-9d3e-0c9f5a3b2d10"
_HELD = {"held_by": _HOLDER, "held_since": "2026-10-20T08:00:00+00:00"}
_VERDICTS = [
    (
        verdict("inactivity", "recently_active", facts={"last_activity_at": "2026-10-01T23:30:00-02:00"}),
        "inactivity: not due, last active 2026-10-02 (recently_active)",
    ),
    (
        verdict("inactivity", "inactive", is_due=True, facts={"last_activity_at": "2026-08-01T08:00:00Z"}),
        "inactivity: due, last active 2026-08-01 (inactive)",
    ),
    (verdict("inactivity", "never_active"), "inactivity: not due, never active (never_active)"),
    (
        verdict("welcome_back", "cooldown", ends_at="2026-11-19T08:00:00+00:00", **_HELD),
        f"welcome_back: not due, in cooldown until 2026-11-19 08:00 UTC, held by {_HOLDER} since 2026-10-20",
    ),
    (
        verdict("milestone", "cooldown", milestone_value=50, **_HELD),
        f"milestone: not due, held for good, held by {_HOLDER} since 2026-10-20",
    ),
    (
        verdict("inactivity", "history", facts={"last_activity_at": "2020-08-01T08:00:00Z"}),
        "inactivity: not due, it came true longer ago than due_within (history)",
    ),
    (
        verdict("inactivity", "reminders_spent"),
        "inactivity: not due, reminded as often as max_reminders allows (reminders_spent)",
    ),
    (
        verdict("milestone", "no_new_milestone", milestone_value=50, **_HELD),
        "milestone: not due, milestone 50 already recorded on 2026-10-20 (no_new_milestone)",
    ),
    (
        verdict("milestone", "no_new_milestone", milestone_value=50, facts={"activity_count": 60}),
        "milestone: not due, a milestone above 50 is recorded already, activities counted: 60 (no_new_milestone)",
    ),
    (
        verdict("milestone", "milestone_crossed", is_due=True, milestone_value=25, facts={"activity_count": 26}),
        "milestone: due, milestone 25 reached, activities counted: 26 (milestone_crossed)",
    ),
    (
        verdict("milestone", "scenario_disabled"),
        "milestone: not due, disabled for this organization (scenario_disabled)",
    ),
    (
        verdict(
            "certification_expiry",
            "certificate_expiring",
            is_due=True,
            facts={"certificate_ids": ["a", "b"], "expires_at": "2026-12-01T00:00:00Z"},
        ),
        "certification_expiry: due, 2 certificates about to expire, the first on 2026-12-01 (certificate_expiring)",
    ),
    (
        verdict(
            "welcome_back", "returned", is_due=True,
            facts={"returned_at": "2026-11-20T00:00:00Z", "last_activity_before": "2026-09-01T00:00:00Z"},
        ),
        "welcome_back: due, active on 2026-11-20, and before that on 2026-09-01 (returned)",
    ),
    (
        verdict("first_session", "no_session_yet"),
        "first_session: not due, no session yet (no_session_yet)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("explanation", "line"), _VERDICTS)
def test_explain_says_why_in_a_line(run: Run, server: respx.MockRouter, explanation: dict[str, Any], line: str) -> None:
    """Each reason in words, with the facts it rests on, in UTC."""
    server.post("/rpc/scenario_explain").respond(json={"explanations": [explanation]})
    told = run("explain", USER_ID)
    assert (told.code, told.out, told.err) == (0, f"{line}\n", "")


def test_explain_names_the_organization_where_there_are_several(run: Run, server: respx.MockRouter) -> None:
    """A mentor of two organizations gets a line for each; JSON has all fields; a non-mentor gets a message."""
    both = [verdict("inactivity", "never_active", organization_id=str(UUID(int=number))) for number in (1, 2)]
    server.post("/rpc/scenario_explain").respond(json={"explanations": both})
    lines = run("explain", USER_ID).out.splitlines()
    assert [line.split()[0] for line in lines] == [str(UUID(int=1)), str(UUID(int=2))]
    assert json.loads(run("explain", USER_ID, "--json").out) == both
    server.post("/rpc/scenario_explain").respond(json={"explanations": []})
    assert run("explain", USER_ID).out == "not a mentor of any organization\n"
