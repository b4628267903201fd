"""scenario-repo policy and days-off: when people may be told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import respx

from scenario_repo import DeliveryPolicy
from tests.factories import ORGANIZATION_ID

if TYPE_CHECKING:  # pytest imports it first, as a plugin
    from tests.unit.command_line import Run

pytest_plugins = ["tests.unit.command_line"]

_ID = str(UUID(int=5))


def _policy(**fields: object) -> dict[str, Any]:
    return dict.fromkeys(DeliveryPolicy.model_fields) | fields


_DEFAULT = _policy(time_zone="Europe/Oslo", opens_at="08:00:00", closes_at="20:00:00", min_gap="04:00:00")


def test_policies_are_shown(run: Run, server: respx.MockRouter) -> None:
    """What is given, one a line, the default first; without any it is always the moment."""
    own = _policy(organization_id=str(ORGANIZATION_ID), weekdays=[1, 2])
    route = server.get("/scenario_delivery_policy").respond(json=[_DEFAULT, own])
    lines = [line.split() for line in run("policy", "get").out.splitlines()]
    assert lines[1:] == [
        ["all", "time_zone", "Europe/Oslo"],
        ["all", "opens_at", "08:00"],
        ["all", "closes_at", "20:00"],
        ["all", "min_gap", "4h"],
        [str(ORGANIZATION_ID), "weekdays", "1,2"],
    ]
    assert len(json.loads(run("policy", "get", "--json").out)) == 2
    route.respond(json=[])
    assert "always the moment" in run("policy", "get").err


def test_a_policy_is_changed_in_what_is_given(run: Run, server: respx.MockRouter) -> None:
    """The rest of it stays, also on a policy that is replaced as a whole; none inherits."""
    assert len(DeliveryPolicy.model_fields) == 6, "a new field: try it here, and in the help of policy set"
    server.get("/scenario_delivery_policy").respond(json=[_DEFAULT])
    route = server.post("/scenario_delivery_policy").respond(json=[_DEFAULT])
    assert run("policy", "set", "weekdays=1,2,3", "min_gap=none", "closes_at=18:30").code == 0
    written = json.loads(route.calls.last.request.content)
    assert written == _policy(time_zone="Europe/Oslo", opens_at="08:00:00", closes_at="18:30:00", weekdays=[1, 2, 3])
    assert run("policy", "set", "time_zone=Europe/Paris", "--organization", ORGANIZATION_ID, "--json").code == 0
    written = json.loads(route.calls.last.request.content)
    assert written == _policy(organization_id=str(ORGANIZATION_ID), time_zone="Europe/Paris")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("colour=red", "there are time_zone, weekdays, opens_at, closes_at, min_gap"),
        ("opens_at=late", "expected a time of day, such as 08:00; or none"),
        ("opens_at=08:00", "both opens_at and closes_at"),
        ("weekdays=8", "each from 1 (Monday) to 7"),
        ("time_zone=Atlantis", "expected the name of a time zone"),
        ("min_gap=8d", "min_gap"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(run: Run, server: respx.MockRouter, given: str, said: str) -> None:
    """One line, exit code 2, and nothing is written."""
    server.get("/scenario_delivery_policy").respond(json=[])
    route = server.post("/scenario_delivery_policy").respond(json=[])
    told = run("policy", "set", given)
    assert (told.code, told.out, len(told.err.splitlines()), route.called) == (2, "", 1, False)
    assert said in told.err


def test_a_policy_is_deleted(run: Run, server: respx.MockRouter) -> None:
    """The default or an organization's; to delete what is not there is no failure."""
    route = server.delete("/scenario_delivery_policy").respond(json=[_DEFAULT])
    assert run("policy", "delete").out == "deleted\n"
    assert route.calls.last.request.url.params["organization_id"] == "is.null"
    route.respond(json=[])
    told = run("policy", "delete", "--organization", ORGANIZATION_ID, "--json")
    assert (told.code, json.loads(told.out)) == (0, {"was_there": False})
    assert route.calls.last.request.url.params["organization_id"] == f"eq.{ORGANIZATION_ID}"


def _days(**fields: object) -> dict[str, Any]:
    days = {"first_day": "2026-12-21", "last_day": "2027-01-06", "organization_id": None, "stops_clock": True}
    return {"id": _ID} | days | fields


def test_days_off_are_listed(run: Run, server: respx.MockRouter) -> None:
    """Those of all and of the organization, with the ids by which they are removed."""
    route = server.get("/scenario_days_off").respond(json=[_days()])
    lines = run("days-off", "list", "--organization", ORGANIZATION_ID).out.splitlines()
    assert lines[1].split() == [_ID, "2026-12-21", "2027-01-06", "all", "yes"]
    assert len(json.loads(run("days-off", "list", "--json").out)) == 1
    route.respond(json=[])
    assert run("days-off", "list").err == "scenario-repo: none\n"


def test_days_off_are_added(run: Run, server: respx.MockRouter) -> None:
    """From a day to a day, or one day alone."""
    route = server.post("/scenario_days_off").respond(json=[_days()])
    assert run("days-off", "add", "2026-12-21", "2027-01-06", "--stops-clock").code == 0
    (written,) = json.loads(route.calls.last.request.content)
    assert {"id": _ID} | written == _days()
    told = run("days-off", "add", "2026-12-24", "--organization", ORGANIZATION_ID, "--json")
    assert json.loads(told.out)[0]["id"] == _ID
    (written,) = json.loads(route.calls.last.request.content)
    assert (written["last_day"], written["organization_id"]) == ("2026-12-24", str(ORGANIZATION_ID))


def test_days_off_are_removed(run: Run, server: respx.MockRouter) -> None:
    """Exit code 4 if one of them was not there."""
    route = server.delete("/scenario_days_off").respond(json=[_days()])
    told = run("days-off", "remove", _ID, _ID)
    assert (told.code, told.out) == (0, "1 removed\n")
    assert route.calls.last.request.url.params["id"] == f"in.({_ID})"
    told = run("days-off", "remove", _ID, UUID(int=6), "--json")
    assert (told.code, json.loads(told.out)) == (4, {"removed": 1})


@pytest.mark.parametrize(
    "line",
    [
        "policy",
        "policy set",
        "days-off",
        "days-off add",
        "days-off add christmas",
        "days-off add 2026-12-24 2026-12-01",
        "days-off remove x",
    ],
)
def test_wrong_usage_ends_with_2_and_nothing_is_sent(run: Run, server: respx.MockRouter, line: str) -> None:
    """One line that says what was expected."""
    told = run(*line.split())
    assert (told.code, told.out, len(told.err.splitlines())) == (2, "", 1)
    assert not server.calls
