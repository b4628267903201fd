"""What operators ask for on the wire: status, what is pending, what failed, and the settings."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import respx

from scenario_repo import (
    InvalidDataException,
    PendingNotification,
    ScenarioNotification,
    ScenarioNotificationRepository,
    ScenarioSettings,
    ScenarioType,
    UnexpectedResponseException,
)
from tests.factories import (
    ORGANIZATION_ID,
    REST_URL,
    function_arguments,
    notification_row,
    pending_row,
    scenario_status,
    settings_row,
)

INACTIVITY = ScenarioType.INACTIVITY
MOMENT = "2026-11-02T08:30:00.123456+00:00"


def _params(rest: respx.MockRouter) -> list[dict[str, str]]:
    return [dict(call.request.url.params.multi_items()) for call in rest.calls]


# Status ------------------------------------------------------------------


async def test_the_status_is_summed(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """Pending and the longest due of all types; failures of two kinds, in a day and in a week."""
    failures = [
        {"scenario_type": kind, "failure_code": code, "last_day": day, "last_week": week}
        for kind, code, day, week in (
            ("inactivity", "expired", 1, 2),
            ("milestone", "expired", 0, 3),
            ("inactivity", None, 0, 1),
            ("inactivity", "muted", 4, 5),
        )
    ]
    scenarios = [
        scenario_status(waiting=1, due_now=2, leased=3, oldest_due_at="2026-11-02T08:00:00+00:00"),
        scenario_status(scenario_type="milestone", due_now=1, oldest_due_at="2026-11-01T08:00:00+00:00"),
        scenario_status(scenario_type="own_type"),
    ]
    route = rest.post("/rpc/scenario_get_status").respond(
        json={"version": 1, "scenarios": scenarios, "failures": failures, "of_a_later_release": 7}
    )
    status = await repository.get_status()
    assert function_arguments(route.calls.last.request) == {}
    assert [one.pending for one in status.scenarios] == [6, 1, 0]
    assert (status.pending, status.oldest_due_at) == (7, datetime(2026, 11, 1, 8, tzinfo=UTC))
    assert (status.undelivered(), status.undelivered(in_a_day=True)) == ({"expired": 5, "unknown": 1}, {"expired": 1})
    assert (status.withheld(), status.withheld(in_a_day=True)) == ({"muted": 5}, {"muted": 4})
    rest.post("/rpc/scenario_get_status").respond(json={"version": 1, "scenarios": [scenarios[2]], "failures": []})
    assert (await repository.get_status()).oldest_due_at is None


# Pending and failed ------------------------------------------------------


async def test_what_is_pending_is_paged(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """The next page begins behind the last one's moment and id."""
    row = pending_row()
    route = rest.post("/rpc/scenario_list_pending").respond(json={"pending": [row]})
    page = await repository.list_pending(ORGANIZATION_ID, INACTIVITY, limit=1)
    assert page == [PendingNotification.model_validate(row)]
    await repository.list_pending(after=page[0])
    assert [function_arguments(call.request) for call in route.calls] == [
        {
            "p_organization_id": str(ORGANIZATION_ID),
            "p_scenario_type": "inactivity",
            "p_after_at": None,
            "p_after_id": None,
            "p_limit": 1,
        },
        {
            "p_organization_id": None,
            "p_scenario_type": None,
            "p_after_at": "2026-11-02T08:30:00+00:00",
            "p_after_id": row["id"],
            "p_limit": 100,
        },
    ]


async def test_what_failed_is_paged(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """Newest first; the next page is bounded by the last one's moment, so that the index begins there."""
    row = notification_row(delivery_status="failed", failure_code="expired", settled_at=MOMENT)
    rest.get("/scenario_notifications").respond(json=[row])
    page = await repository.list_failed(ORGANIZATION_ID, INACTIVITY, limit=1)
    assert page == [ScenarioNotification.model_validate(row)]
    await repository.list_failed(before=page[0])
    shared = {"select": ",".join(notification_row()), "is_failed": "eq.true", "order": "triggered_at.desc,id.desc"}
    assert _params(rest) == [
        shared | {"organization_id": f"eq.{ORGANIZATION_ID}", "scenario_type": "eq.inactivity", "limit": "1"},
        shared
        | {
            "limit": "100",
            "triggered_at": f"lte.{MOMENT}",
            "or": f"(triggered_at.lt.{MOMENT},id.lt.{page[0].id})",
        },
    ]


@pytest.mark.parametrize("limit", [0, 1_001])
@pytest.mark.usefixtures("no_request")
async def test_a_list_has_a_limit(repository: ScenarioNotificationRepository, limit: int) -> None:
    """PostgREST cuts longer answers, which would look like the end."""
    for listed in (repository.list_pending, repository.list_failed):
        with pytest.raises(InvalidDataException, match="limit"):
            await listed(limit=limit)


# Settings ----------------------------------------------------------------


async def test_settings_are_read(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """The defaults alone, or with what an organization overrides; intervals are lengths of time."""
    rows = [settings_row(), settings_row(organization_id=str(ORGANIZATION_ID), cooldown="1 day 02:00:00")]
    rest.get("/scenario_evaluation_config").respond(json=rows)
    standard, own = await repository.get_settings(ORGANIZATION_ID)
    await repository.get_settings()
    assert (standard.cooldown, own.cooldown) == (timedelta(days=30), timedelta(days=1, hours=2))
    assert (standard.organization_id, own.organization_id) == (None, ORGANIZATION_ID)
    first, second = _params(rest)
    assert first["or"] == f"(organization_id.is.null,organization_id.eq.{ORGANIZATION_ID})"
    assert (second["organization_id"], second["order"]) == (
        "is.null",
        "organization_id.asc.nullsfirst,scenario_type.asc",
    )


@pytest.mark.parametrize("organization_id", [None, ORGANIZATION_ID])
async def test_only_what_is_given_is_changed(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository, organization_id: UUID | None
) -> None:
    """A default row is updated, an organization's inserted or merged; None is written as null."""
    stored = settings_row(organization_id=organization_id and str(organization_id))
    rest.route(url__startswith=f"{REST_URL}/scenario_evaluation_config").respond(json=[stored])
    wanted = ScenarioSettings(
        scenario_type=INACTIVITY, organization_id=organization_id, cooldown=timedelta(days=21, hours=1), priority=None
    )
    assert (await repository.set_settings(wanted)).max_reminders == 3
    (call,) = rest.calls
    written: Any = json.loads(call.request.content)
    params = _params(rest)[0]
    changed = {"cooldown": "1818000.0 seconds", "priority": None}
    if organization_id is None:
        assert (call.request.method, written) == ("PATCH", changed)
        assert (params["scenario_type"], params["organization_id"]) == ("eq.inactivity", "is.null")
    else:
        scope = {"scenario_type": "inactivity", "organization_id": str(organization_id)}
        assert (call.request.method, written) == ("POST", changed | scope)
        assert params["on_conflict"] == "scenario_type,organization_id"
        assert "resolution=merge-duplicates" in call.request.headers["Prefer"]


async def test_settings_of_a_scenario_that_is_not_there_are_refused(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """The update finds no row; two would be no answer."""
    rest.patch("/scenario_evaluation_config").respond(json=[])
    wanted = ScenarioSettings(scenario_type="first_session", priority=1)
    with pytest.raises(InvalidDataException, match="scenario_type"):
        await repository.set_settings(wanted)
    rest.patch("/scenario_evaluation_config").respond(json=[settings_row()] * 2)
    with pytest.raises(UnexpectedResponseException):
        await repository.set_settings(wanted)


@pytest.mark.usefixtures("no_request")
async def test_no_change_is_refused_unsent(repository: ScenarioNotificationRepository) -> None:
    """Settings that name nothing to change are a mistake."""
    with pytest.raises(InvalidDataException, match="at least one"):
        await repository.set_settings(ScenarioSettings(scenario_type=INACTIVITY))


@pytest.mark.parametrize(
    "wrong",
    [
        {"cooldown": timedelta(0)},
        {"cooldown": timedelta(days=36_526)},
        {"cooldown": 30},
        {"cooldown": "one day SECRET"},
        {"is_enabled": "yes"},
        {"milestones": ()},
        {"milestones": (0,)},
        {"max_reminders": 0},
        {"max_attempts": 1_001},
        {"priority": 10},
        {"returned_within": timedelta(days=8), "inactive_after": timedelta(days=7)},
        {"scenario_type": "Birthday"},
        {"no_setting": 1},
    ],
)
def test_settings_that_fit_no_column_are_refused(wrong: dict[str, Any]) -> None:
    """Before anything is sent, with the name of the field."""
    with pytest.raises(InvalidDataException, match="|".join(wrong)):
        ScenarioSettings(**{"scenario_type": INACTIVITY, **wrong})
