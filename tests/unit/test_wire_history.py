"""What each method puts on the wire, and what it makes of the answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import httpx
import pytest
import respx

from scenario_repo import (
    InvalidDataException,
    NewScenarioNotification,
    ScenarioNotification,
    ScenarioNotificationRepository,
    ScenarioType,
    UnexpectedResponseException,
)
from tests.factories import (
    MILESTONE,
    ORGANIZATION_ID,
    USER_ID,
    new_notification,
    notification_row,
)
from tests.unit.leaks import MARKER, told_by

INACTIVITY: Final = ScenarioType.INACTIVITY
CUTOFF: Final = datetime(2026, 11, 2, 10, 30, 0, 5, tzinfo=timezone(timedelta(hours=2)))
COLUMNS: Final = ",".join(notification_row())


def _sent(rest: respx.MockRouter) -> httpx.Request:
    """Return the one request that was sent."""
    assert rest.calls.call_count == 1
    request = rest.calls.last.request
    assert isinstance(request, httpx.Request)
    return request


def _assert_read(request: httpx.Request, **filters: str) -> None:
    assert (request.method, request.url.path) == ("GET", "/rest/v1/scenario_notifications")
    assert sorted(request.url.params.multi_items()) == sorted(filters.items())
    assert request.content == b""


@pytest.mark.parametrize("user_id", [USER_ID, str(USER_ID)])
async def test_the_last_sent_time_is_asked_for(
    user_id: Any,  # noqa: ANN401 - text will do
    rest: respx.MockRouter,
    repository: ScenarioNotificationRepository,
) -> None:
    """One column of one row: the newest that was sent."""
    rest.route().respond(200, json=[{"triggered_at": "2026-11-02T09:30:00.123456+01:00"}])

    last = await repository.get_last_sent_at(user_id, INACTIVITY)

    assert last == datetime(2026, 11, 2, 8, 30, 0, 123456, tzinfo=UTC)
    _assert_read(
        _sent(rest),
        select="triggered_at",
        user_id=f"eq.{USER_ID}",
        scenario_type="eq.inactivity",
        delivery_status="eq.sent",
        is_failed="eq.false",
        order="triggered_at.desc",
        limit="1",
    )


async def test_the_most_recent_of_several_counts(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """The first row of a newest-first answer is the last that was sent."""
    rows = [{"triggered_at": f"2026-{month}-02T08:30:00+00:00"} for month in (11, 10)]
    rest.route().respond(200, json=rows)

    assert await repository.get_last_sent_at(USER_ID, INACTIVITY) == datetime(2026, 11, 2, 8, 30, tzinfo=UTC)


async def test_the_threshold_is_asked_in_utc_and_inclusive(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """The cutoff goes out as the same moment in UTC, compared with ``gte``."""
    rest.route().respond(200, json=[{"triggered_at": "2026-11-02T08:30:00.000005+00:00"}])

    assert await repository.has_been_sent_since_threshold(USER_ID, ScenarioType.WELCOME_BACK, CUTOFF) is True
    _assert_read(
        _sent(rest),
        select="triggered_at",
        user_id=f"eq.{USER_ID}",
        scenario_type="eq.welcome_back",
        delivery_status="eq.sent",
        is_failed="eq.false",
        triggered_at="gte.2026-11-02T08:30:00.000005+00:00",
        order="triggered_at.desc",
        limit="1",
    )


async def test_the_last_delivery_is_asked_for(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """When it was settled counts, however long ago it was triggered."""
    rest.route().respond(200, json=[{"settled_at": "2026-11-02T09:30:00.123456+01:00"}])

    assert await repository.get_last_delivered_at(USER_ID, INACTIVITY) == datetime(
        2026, 11, 2, 8, 30, 0, 123456, tzinfo=UTC
    )
    _assert_read(
        _sent(rest),
        select="settled_at",
        user_id=f"eq.{USER_ID}",
        scenario_type="eq.inactivity",
        delivery_status="eq.sent",
        is_failed="eq.false",
        order="settled_at.desc",
        limit="1",
    )


async def test_a_delivery_since_the_cutoff_is_asked_for(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Inclusive and in UTC, by the time of the delivery."""
    rest.route().respond(200, json=[{"settled_at": "2026-11-02T08:30:00.000005+00:00"}])

    assert await repository.has_been_delivered_since(USER_ID, ScenarioType.WELCOME_BACK, CUTOFF) is True
    _assert_read(
        _sent(rest),
        select="settled_at",
        user_id=f"eq.{USER_ID}",
        scenario_type="eq.welcome_back",
        delivery_status="eq.sent",
        is_failed="eq.false",
        settled_at="gte.2026-11-02T08:30:00.000005+00:00",
        order="settled_at.desc",
        limit="1",
    )


async def test_a_milestone_record_is_asked_for(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """The row that holds the milestone: pending or sent, never failed."""
    row = notification_row(milestone_value=25, metadata={"badge": "gold"})
    rest.route().respond(200, json=[row])

    record = await repository.get_milestone_record(USER_ID, 25)

    assert record == ScenarioNotification.model_validate(row)
    _assert_read(
        _sent(rest),
        select=COLUMNS,
        user_id=f"eq.{USER_ID}",
        scenario_type="eq.milestone",
        milestone_value="eq.25",
        is_failed="eq.false",
        limit="1",
    )


@pytest.mark.parametrize(
    ("new", "given"),
    [
        (new_notification(), {"scenario_type": "inactivity"}),
        (new_notification(milestone_value=25), {"scenario_type": "milestone", "milestone_value": 25}),
        (
            new_notification(metadata={"gone": None, "inner": {"gone": None}, "å": [None, 1.5]}),
            {"scenario_type": "inactivity", "metadata": {"gone": None, "inner": {"gone": None}, "å": [None, 1.5]}},
        ),
        (new_notification(metadata={}), {"scenario_type": "inactivity", "metadata": {}}),
        (new_notification(subjects=["b", "a"]), {"scenario_type": "inactivity", "subjects": ["a", "b"]}),
        (
            new_notification(triggered_at=CUTOFF, delivery_status="sent"),
            {
                "scenario_type": "inactivity",
                "triggered_at": "2026-11-02T08:30:00.000005Z",
                "delivery_status": "sent",
            },
        ),
    ],
    ids=["plain", "milestone", "metadata with nulls", "empty metadata", "subjects", "history"],
)
async def test_an_insert_sends_what_was_given(
    new: NewScenarioNotification,
    given: dict[str, Any],
    rest: respx.MockRouter,
    repository: ScenarioNotificationRepository,
) -> None:
    """One row goes out, without what is left to the database; nulls inside the metadata stay."""
    row = notification_row()
    rest.route().respond(201, json=[row])

    inserted = await repository.insert_notification(new)

    request = _sent(rest)
    assert inserted == ScenarioNotification.model_validate(row)
    assert (request.method, request.url.path) == ("POST", "/rest/v1/scenario_notifications")
    assert request.url.params.multi_items() == [("select", COLUMNS)]
    assert request.headers["Prefer"] == "return=representation"
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.content) == {
        "user_id": str(USER_ID),
        "organization_id": str(ORGANIZATION_ID),
        "delivery_status": "pending",
        **given,
    }


@pytest.mark.parametrize("count", [0, 2])
async def test_an_insert_must_return_its_row(
    count: int, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """No row (a policy hid it) or several are not what was asked for."""
    rest.route().respond(201, json=[notification_row(metadata={"a": MARKER})] * count)

    with pytest.raises(UnexpectedResponseException, match=f"expected the inserted row, got {count} rows") as failure:
        await repository.insert_notification(new_notification())
    assert failure.value.retryable is False
    assert MARKER not in told_by(failure.value)


BAD_ARGUMENTS: list[tuple[str, str, dict[str, Any]]] = [
    ("get_last_delivered_at", "user_id", {"user_id": MARKER, "scenario_type": INACTIVITY}),
    ("has_been_delivered_since", "scenario_type", {"user_id": USER_ID, "scenario_type": "", "cutoff": CUTOFF}),
    ("has_been_delivered_since", "cutoff", {"user_id": USER_ID, "scenario_type": INACTIVITY, "cutoff": MARKER}),
    ("get_last_sent_at", "user_id", {"user_id": MARKER, "scenario_type": INACTIVITY}),
    ("get_last_sent_at", "user_id", {"user_id": None, "scenario_type": INACTIVITY}),
    ("get_last_sent_at", "scenario_type", {"user_id": USER_ID, "scenario_type": MARKER}),
    ("has_been_sent_since_threshold", "user_id", {"user_id": 7, "scenario_type": INACTIVITY, "cutoff": CUTOFF}),
    ("has_been_sent_since_threshold", "scenario_type", {"user_id": USER_ID, "scenario_type": "", "cutoff": CUTOFF}),
    *(
        ("has_been_sent_since_threshold", "cutoff", {"user_id": USER_ID, "scenario_type": INACTIVITY, "cutoff": cutoff})
        for cutoff in (CUTOFF.replace(tzinfo=None), CUTOFF.date(), CUTOFF.isoformat(), MARKER, None, 0)
    ),
    ("get_milestone_record", "user_id", {"user_id": f"{USER_ID}{MARKER}", "milestone_value": MILESTONE}),
    *(
        ("get_milestone_record", "milestone_value", {"user_id": USER_ID, "milestone_value": value})
        for value in (0, -1, 2**31, True, 10.0, "10", MARKER, None)
    ),
    *(
        ("insert_notification", "notification", {"notification": value})
        for value in (None, MARKER, {"user_id": MARKER}, ScenarioNotification(**notification_row()))
    ),
]


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize(("method", "field", "arguments"), BAD_ARGUMENTS)
async def test_bad_arguments_are_refused_by_name_and_not_sent(
    method: str, field: str, arguments: dict[str, object], repository: ScenarioNotificationRepository
) -> None:
    """The refusal names the argument, what was expected and what came, and no request leaves."""
    with pytest.raises(InvalidDataException, match=rf"{field}: expected .+, got .+") as refusal:
        await getattr(repository, method)(**arguments)
    assert refusal.value.retryable is False
    assert MARKER not in told_by(refusal.value)
