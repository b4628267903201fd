"""The commands that try a setting, and those of one person's data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
import respx

from tests.factories import ORGANIZATION_ID, USER_ID, function_arguments

if TYPE_CHECKING:  # pytest imports it first, as a plugin
    from tests.unit.command_line import Run

pytest_plugins = ["tests.unit.command_line"]

SIMULATE = "/rpc/scenario_simulate"
LAST = UUID(int=2**128 - 1)


def side(**figures: object) -> dict[str, Any]:
    """Answer with one of the two evaluations."""
    counts = {"evaluated": 2_000, "due": 90, "claimed": 70, "history": 5, "skipped": {"cooldown": 20}}
    return {**counts, "next_after": None, "due_mentors": [], **figures}


def page(simulated: dict[str, Any], today: dict[str, Any] | None = None, **figures: object) -> dict[str, Any]:
    """Answer with a page."""
    return {"today": today or side(), "simulated": simulated, "next_after": None, **figures}


def due(*users: UUID) -> list[dict[str, Any]]:
    """Name mentors who are due."""
    return [
        {"user_id": str(user), "organization_id": str(ORGANIZATION_ID), "milestone_value": None, "finding": "inactive"}
        for user in users
    ]


# simulate ----------------------------------------------------------------


def test_a_simulation_is_shown_beside_today(run: Run, server: respx.MockRouter) -> None:
    """Each figure of both, skipped by reason, and the difference; the settings are sent as `config set` takes them."""
    route = server.post(SIMULATE).respond(
        json=page(side(due=3_100, claimed=3_000, history=0, skipped={"cooldown": 60, "muted": 40}))
    )
    told = run("simulate", "inactivity", "--set", "inactive_after=21d", "--set", "max_reminders=none")
    assert (told.code, told.err) == (0, "")
    assert [line.split() for line in told.out.splitlines()] == [
        ["mentors", "today", "simulated", "difference"],
        ["evaluated", "2,000", "2,000"],
        ["due", "90", "3,100", "+3,010"],
        ["would", "be", "claimed", "70", "3,000", "+2,930"],
        ["skipped:", "cooldown", "20", "60", "+40"],
        ["skipped:", "muted", "0", "40", "+40"],
        ["history", "5", "0", "-5"],
        ["3,000", "would", "be", "claimed,", "+2,930", "beside", "today;", "nothing", "was", "changed"],
    ]
    assert function_arguments(route.calls.last.request) == {
        "p_scenario_type": "inactivity",
        "p_changes": {"inactive_after": "1814400.0 seconds", "max_reminders": None},
        "p_organization_id": None,
        "p_after": None,
        "p_limit": 10_000,
        "p_list": False,
    }


def test_pages_add_up_and_one_that_takes_too_long_is_halved(run: Run, server: respx.MockRouter) -> None:
    """A page begins after the last one; one that met the statement timeout is asked for again, at half its size."""
    timeout = httpx.Response(500, json={"code": "57014", "message": "canceling", "details": None, "hint": None})
    first = page(side(claimed=1), side(claimed=2), next_after=str(USER_ID))
    route = server.post(SIMULATE).mock(
        side_effect=[timeout, httpx.Response(200, json=first), httpx.Response(200, json=page(side(claimed=10)))]
    )
    told = run("simulate", "milestone", "--set", "milestones=5", "--organization", ORGANIZATION_ID, "--json")
    figures = json.loads(told.out)
    assert (figures["today"]["claimed"], figures["simulated"]["claimed"]) == (72, 11)
    assert figures["simulated"]["skipped"] == {"cooldown": 40}
    asked = [json.loads(call.request.content) for call in route.calls]
    assert [(one["p_limit"], one["p_after"]) for one in asked] == [(10_000, None), (5_000, None), (5_000, str(USER_ID))]
    assert {one["p_organization_id"] for one in asked} == {str(ORGANIZATION_ID)}


def test_who_would_be_due_is_listed(run: Run, server: respx.MockRouter) -> None:
    """Standard output has the ids alone, with what the change does to each, by user."""
    gained, both = UUID(int=1), UUID(int=2)
    route = server.post(SIMULATE).respond(
        json=page(side(due_mentors=due(gained, both)), side(due_mentors=due(both, LAST)))
    )
    told = run("simulate", "inactivity", "--set", "cooldown=21d", "--list")
    assert told.out.splitlines() == [
        f"+ {gained}  {ORGANIZATION_ID}",
        f"= {both}  {ORGANIZATION_ID}",
        f"- {LAST}  {ORGANIZATION_ID}",
    ]
    assert "70 would be claimed" in told.err
    assert function_arguments(route.calls.last.request)["p_list"] is True


@pytest.mark.parametrize(
    "line",
    [
        "simulate inactivity",
        "simulate inactivity --set inactive_after",
        "simulate inactivity --set no_such=3",
        "simulate inactivity --set inactive_after=long",
        "simulate inactivity --set cooldown=1d --organization 3",
        f"erase {USER_ID}",
        "erase somebody --yes",
        "export",
    ],
)
def test_wrong_usage_ends_with_2_and_nothing_is_sent(run: Run, server: respx.MockRouter, line: str) -> None:
    """One line that says what was expected; without --yes nothing is erased."""
    told = run(*line.split())
    assert (told.code, told.out, len(told.err.splitlines())) == (2, "", 1)
    assert not server.calls


def test_a_setting_that_is_refused_is_told(run: Run, server: respx.MockRouter) -> None:
    """In the database's own words."""
    refusal = {"code": "SR001", "message": "expected settings that change who is due: cooldown", "details": None}
    server.post(SIMULATE).respond(400, json={**refusal, "hint": None})
    told = run("simulate", "inactivity", "--set", "priority=1")
    assert (told.code, told.out) == (2, "")
    assert "settings that change who is due" in told.err


# export, erase -----------------------------------------------------------


def test_an_export_is_json_with_all_that_the_database_says(run: Run, server: respx.MockRouter) -> None:
    """Also what this version does not know yet; her rows as they are."""
    data = {
        "user_id": str(USER_ID),
        "exported_at": "2026-11-02T12:00:00Z",
        "notifications": [{"id": str(LAST), "metadata": {"n": 1}}],
        **{part: [] for part in ("handovers", "mutes", "turns", "passes")},
        "sources": {"device_tokens": [{"token": "t"}]},
        "of_a_newer_schema": [{"x": 1}],
    }
    route = server.post("/rpc/scenario_export_person").respond(json=data)
    told = run("export", USER_ID)
    assert (told.code, told.err) == (0, "")
    assert json.loads(told.out) == data
    assert function_arguments(route.calls.last.request) == {"p_user_id": str(USER_ID)}


def test_an_erasure_says_how_much_and_what_it_means(run: Run, server: respx.MockRouter) -> None:
    """Counts on standard output; that she may be told again, as a note."""
    counts = {"notifications": 3, "handovers": 1, "mutes": 0, "turns": 1, "passes": 0}
    server.post("/rpc/scenario_erase_person").respond(json=counts)
    told = run("erase", USER_ID, "--yes")
    assert (told.code, told.out) == (0, "erased 3 notifications, 1 hand-over, 0 mutes, 1 turn\n")
    assert "may be told again" in told.err
    assert json.loads(run("erase", USER_ID, "--yes", "--json").out) == counts
