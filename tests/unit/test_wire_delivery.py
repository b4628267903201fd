"""Evaluation, delivery, purge and report on the wire: the request, and the parsed answer."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
import respx

from scenario_repo import (
    DeliveryResult,
    DeliveryStatus,
    DeviceToken,
    DueMentor,
    EvaluationPage,
    FailureReason,
    InvalidDataException,
    LeasedNotification,
    OrganizationReport,
    ReportLine,
    ScenarioExplanation,
    ScenarioNotification,
    ScenarioNotificationRepository,
    ScenarioPass,
    ScenarioType,
    Settlement,
    SettlementAnswer,
    SkipReason,
    UnexpectedResponseException,
)
from tests.factories import ORGANIZATION_ID, USER_ID, function_arguments, leased_row, notification_row
from tests.unit.leaks import MARKER, told_by

INACTIVITY: Final = ScenarioType.INACTIVITY
NEXT: Final = UUID(int=77)
SINCE: Final = datetime(2026, 11, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
UNTIL: Final = datetime(2026, 11, 9, tzinfo=UTC)
PAGE: Final = {
    "evaluated": 9,
    "due": 2,
    "claimed": 1,
    "history": 4,
    "skipped": {"cooldown": 1, "reminders_spent": 1},
    "next_after": str(NEXT),
    "due_mentors": [
        {"user_id": str(USER_ID), "organization_id": str(ORGANIZATION_ID), "milestone_value": None, "finding": "quiet"}
    ],
}


def _called(request: httpx.Request, function: str) -> Any:  # noqa: ANN401 - json
    """Return the arguments of a function's call."""
    assert (request.method, request.url.path) == ("POST", f"/rest/v1/rpc/{function}")
    assert request.url.params.multi_items() == []
    assert request.headers["Content-Type"] == "application/json"
    return function_arguments(request)


def _only(rest: respx.MockRouter, function: str) -> Any:  # noqa: ANN401 - json
    assert rest.calls.call_count == 1
    return _called(rest.calls.last.request, function)


def _leased_row(**overrides: object) -> dict[str, Any]:
    devices = [{"token": MARKER, "platform": "ios"}]
    return leased_row(**{"lease_number": 3, "attempt_count": 2, "device_tokens": devices, **overrides})


def _settlement(result: DeliveryResult, failure_code: str | None = None) -> Settlement:
    return Settlement(id=NEXT, lease_number=3, result=result, failure_code=failure_code)


async def test_a_lease_is_asked_for(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """All arguments are sent by name, and the rows are returned with their devices."""
    row = _leased_row(scenario_type="milestone", milestone_value=25, metadata={"badge": "gold"})
    rest.route().respond(200, json={"leased": [row, _leased_row(device_tokens=[])]})

    with_device, without = await repository.lease_notifications(
        20, timedelta(seconds=90.5), ORGANIZATION_ID, [ScenarioType.MILESTONE, INACTIVITY]
    )

    assert _only(rest, "scenario_lease_notifications") == {
        "p_limit": 20,
        "p_lease_seconds": 90.5,
        "p_organization_id": str(ORGANIZATION_ID),
        "p_scenario_types": ["milestone", "inactivity"],
    }
    assert with_device == LeasedNotification.model_validate(row)
    assert (with_device.lease_number, with_device.attempt_count, with_device.milestone_value) == (3, 2, 25)
    assert with_device.leased_until == datetime(2026, 11, 2, 8, 35, tzinfo=UTC)
    assert with_device.device_tokens == (DeviceToken(token=MARKER, platform="ios"),)
    assert without.device_tokens == ()


async def test_a_lease_of_anything_is_five_minutes(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Without filters the arguments are null, which means all."""
    rest.route().respond(200, json={"leased": []})

    assert list(await repository.lease_notifications(1)) == []
    assert _only(rest, "scenario_lease_notifications") == {
        "p_limit": 1,
        "p_lease_seconds": 300.0,
        "p_organization_id": None,
        "p_scenario_types": None,
    }


async def test_device_tokens_are_not_told(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """No repr shows a device token, nor does the error for an invalid row."""
    rest.route().respond(200, json={"leased": [_leased_row(metadata={"a": MARKER}, subjects=[MARKER])]})
    (leased,) = await repository.lease_notifications(1)

    for value in (leased, leased.device_tokens, leased.device_tokens[0]):
        assert MARKER not in f"{value} {value!r}"
    for unfit in ([_leased_row()], {"leased": [_leased_row(lease_number=None)]}):
        rest.route().respond(200, json=unfit)
        with pytest.raises(UnexpectedResponseException) as failure:
            await repository.lease_notifications(1)
        assert MARKER not in told_by(failure.value)


async def test_a_lease_knows_its_settlement(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """A settlement carries the number of the lease that it belongs to."""
    row = _leased_row()
    rest.route().respond(200, json={"leased": [row]})
    (leased,) = await repository.lease_notifications(1)

    assert leased.settlement(DeliveryResult.RETRY, "timeout") == Settlement(
        id=UUID(row["id"]), lease_number=3, result=DeliveryResult.RETRY, failure_code="timeout"
    )


async def test_settlements_go_out_together(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """One request holds one object per settlement, and returns one answer for each."""
    results = [
        _settlement(DeliveryResult.SENT),
        _settlement(DeliveryResult.RETRY, "timeout"),
        _settlement(DeliveryResult.FAILED, "unregistered"),
        _settlement(DeliveryResult.RELEASED),
        _settlement(DeliveryResult.SUPPRESSED),
    ]
    answers = ["sent", "pending", "failed", "lease_lost", "failed"]
    rest.route().respond(200, json={"answers": answers})

    assert await repository.settle_notifications(results, 3) == [SettlementAnswer(answer) for answer in answers]
    codes = [None, "timeout", "unregistered", None, None]
    assert _only(rest, "scenario_settle_notifications") == {
        "p_results": [
            {"id": str(NEXT), "lease_number": 3, "result": result, "failure_code": code}
            for result, code in zip(["sent", "retry", "failed", "released", "suppressed"], codes, strict=True)
        ],
        "p_max_attempts": 3,
    }


async def test_every_answer_of_a_settlement_is_known(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """The settings say how many attempts there are; a missing answer is an error, an unknown word stays text."""
    answers = ["sent", "pending", "failed", "lease_lost", "already_settled", "unknown", "invalid_settlement"]
    results = [_settlement(DeliveryResult.SENT)] * len(answers)
    rest.route().respond(200, json={"answers": answers})
    assert await repository.settle_notifications(results) == list(SettlementAnswer)
    assert _only(rest, "scenario_settle_notifications")["p_max_attempts"] is None

    rest.route().respond(200, json={"answers": [*answers[1:], "taken_over"]})
    assert (await repository.settle_notifications(results))[-1] == "taken_over"
    wrong: list[object] = [answers[1:], [*answers[1:], 7], [], None]
    for unfit in [answers, {}, None, *({"answers": other} for other in wrong)]:
        rest.route().respond(200, json=unfit)
        with pytest.raises(UnexpectedResponseException):
            await repository.settle_notifications(results)


@pytest.mark.usefixtures("no_request")
async def test_nothing_to_settle_sends_nothing(repository: ScenarioNotificationRepository) -> None:
    """An empty list has an empty answer."""
    assert await repository.settle_notifications([]) == []


async def test_a_purge_goes_on_to_the_last_page(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Each page starts where the previous one ended, an empty page does not end the purge, and the sum is returned."""
    pages = [(5, NEXT), (0, UUID(int=99)), (2, None)]
    rest.route().mock(
        side_effect=[
            httpx.Response(200, json={"purged": purged, "next_after": after and str(after)}) for purged, after in pages
        ]
    )

    assert await repository.purge_notifications(timedelta(days=365), 500) == 7
    assert [_called(call.request, "scenario_purge_notifications") for call in rest.calls] == [
        {"p_older_than_seconds": 31_536_000.0, "p_after": after, "p_limit": 500}
        for after in (None, str(NEXT), str(UUID(int=99)))
    ]


async def test_a_report_is_counted(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """The period is sent in UTC, and the report's lines can be summed."""
    rows = [
        {"day": day, "scenario_type": kind, "delivery_status": status, "failure_code": code, "notifications": number}
        for day, kind, status, code, number in (
            ("2026-11-02", "inactivity", "sent", None, 3),
            ("2026-11-02", "milestone", "sent", None, 2),
            ("2026-11-03", "inactivity", "failed", "attempts_spent", 1),
        )
    ]
    rest.route().respond(200, json={"lines": rows})

    report = await repository.get_organization_report(ORGANIZATION_ID, SINCE, UNTIL)

    arguments = _only(rest, "scenario_get_organization_report")
    assert arguments.pop("p_organization_id") == str(ORGANIZATION_ID)
    assert arguments.pop("p_time_zone") == "UTC"
    assert {name: datetime.fromisoformat(value) for name, value in arguments.items()} == {
        "p_since": SINCE,
        "p_until": UNTIL,
    }
    assert all(value.endswith(("Z", "+00:00")) for value in arguments.values())
    lines = tuple(ReportLine.model_validate(row) for row in rows)
    assert report == OrganizationReport(organization_id=ORGANIZATION_ID, since=SINCE, until=UNTIL, lines=lines)
    assert report.lines[0].day == date(2026, 11, 2)
    assert [
        report.count(),
        report.count(INACTIVITY),
        report.count(delivery_status=DeliveryStatus.SENT),
        report.count(INACTIVITY, DeliveryStatus.FAILED),
        report.count(ScenarioType.WELCOME_BACK),
    ] == [6, 4, 5, 1, 0]


def test_a_report_splits_what_failed() -> None:
    """What it was decided not to tell is no failure of the delivery; every code is one or the other."""
    codes: dict[str | None, int] = {None: 1, "invalid_token": 2, "attempts_spent": 3, **dict.fromkeys(FailureReason, 5)}
    lines = [
        ReportLine(
            day=SINCE.date(), scenario_type=kind, delivery_status=status, failure_code=code, notifications=number
        )
        for kind in (INACTIVITY, ScenarioType.MILESTONE)
        for code, number in codes.items()
        for status in ("failed", "pending")
    ]
    report = OrganizationReport(organization_id=ORGANIZATION_ID, since=SINCE, until=UNTIL, lines=tuple(lines))
    undelivered = {"attempts_spent": 3, "expired": 5, "invalid_token": 2, "unknown": 1}
    withheld = dict.fromkeys(sorted(set(FailureReason) - {FailureReason.EXPIRED}), 5)
    assert (report.undelivered(INACTIVITY), report.withheld(INACTIVITY)) == (undelivered, withheld)
    assert report.undelivered() == {code: 2 * number for code, number in undelivered.items()}
    assert report.withheld() == {code: 2 * number for code, number in withheld.items()}
    assert list(report.undelivered()) == sorted(undelivered)
    failed = report.count(delivery_status=DeliveryStatus.FAILED)
    assert sum(report.undelivered().values()) + sum(report.withheld().values()) == failed
    dumped = json.loads(report.model_dump_json())
    assert (dumped["undelivered"], dumped["withheld"]) == (report.undelivered(), report.withheld())
    assert OrganizationReport.model_validate(dumped) == report


async def test_a_page_of_history_is_asked_for(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Newest first; the next page starts below the last row: earlier, or the same time with a lower id."""
    rows = [notification_row(), notification_row(milestone_value=10)]
    rest.route().respond(200, json=rows)

    page = await repository.list_notifications(USER_ID, limit=2)
    await repository.list_notifications(USER_ID, page[-1])

    assert page == [ScenarioNotification.model_validate(row) for row in rows]
    first, second = (dict(call.request.url.params.multi_items()) for call in rest.calls)
    assert {call.request.url.path for call in rest.calls} == {"/rest/v1/scenario_notifications"}
    shared = {"select": ",".join(notification_row()), "user_id": f"eq.{USER_ID}", "order": "triggered_at.desc,id.desc"}
    moment = "2026-11-02T08:30:00.123456+00:00"
    assert first == shared | {"limit": "2"}
    assert second == shared | {
        "limit": "50",
        "or": f"(triggered_at.lt.{moment},and(triggered_at.eq.{moment},id.lt.{page[-1].id}))",
    }


@pytest.mark.parametrize(("dry_run", "list_due"), [(False, False), (True, False), (True, True)])
async def test_a_page_is_evaluated(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository, *, dry_run: bool, list_due: bool
) -> None:
    """The page's counts are typed, with the start of the next page."""
    rest.route().respond(200, json=PAGE)

    page = await repository.evaluate_scenario(
        INACTIVITY,
        ORGANIZATION_ID,
        USER_ID,
        100_000,
        dry_run=dry_run,
        due_within=timedelta(days=90),
        list_due=list_due,
    )

    assert _only(rest, "scenario_evaluate") == {
        "p_scenario_type": "inactivity",
        "p_organization_id": str(ORGANIZATION_ID),
        "p_after": str(USER_ID),
        "p_limit": 100_000,
        "p_dry_run": dry_run,
        "p_due_within_seconds": 7_776_000.0,
        "p_list": list_due,
    }
    assert page == EvaluationPage.model_validate(PAGE)
    assert page.due_mentors == (DueMentor(user_id=USER_ID, organization_id=ORGANIZATION_ID, finding="quiet"),)
    assert page.skipped == {SkipReason.COOLDOWN: 1, SkipReason.REMINDERS_SPENT: 1}
    assert (page.history, page.next_after) == (4, NEXT)


async def test_only_a_dry_run_names_who_is_due(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """A list of an evaluation that claims is refused before anything is sent."""
    with pytest.raises(InvalidDataException, match=r"^list_due: expected only with dry_run$"):
        await repository.evaluate_scenario(INACTIVITY, list_due=True)
    assert rest.calls.call_count == 0


async def test_a_run_is_begun(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """All scenarios of all organizations, or some of one; the answer is typed, with types of the app's own."""
    passes = [
        {"scenario_type": "inactivity", "place": 2, "page_size": None},
        {"scenario_type": "first_session", "place": 1, "page_size": 500},
    ]
    rest.route().respond(200, json={"passes": passes})
    begun = await repository.begin_run()
    assert begun == tuple(ScenarioPass.model_validate(one) for one in passes)
    assert [one.scenario_type for one in begun] == [INACTIVITY, "first_session"]
    await repository.begin_run([INACTIVITY, "first_session"], ORGANIZATION_ID)
    assert [_called(call.request, "scenario_begin_run") for call in rest.calls] == [
        {"p_scenario_types": None, "p_organization_id": None},
        {"p_scenario_types": ["inactivity", "first_session"], "p_organization_id": str(ORGANIZATION_ID)},
    ]


async def test_the_next_page_of_a_pass_is_evaluated(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Only the database knows the position of the pass."""
    rest.route().respond(200, json=PAGE | {"next_after": None, "skipped": {}})

    page = await repository.evaluate_next_page(INACTIVITY)
    await repository.evaluate_next_page(INACTIVITY, due_within=timedelta(days=90), pass_number=3)

    assert [_called(call.request, "scenario_evaluate_next_page") for call in rest.calls] == [
        {
            "p_scenario_type": "inactivity",
            "p_organization_id": None,
            "p_limit": 10_000,
            "p_due_within_seconds": due_within,
            "p_pass_number": pass_number,
        }
        for due_within, pass_number in ((None, None), (7_776_000.0, 3))
    ]
    assert (page.next_after, page.skipped, page.claimed) == (None, {}, 1)


async def test_a_user_is_explained(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """One verdict for each scenario and organization."""
    row = {
        "scenario_type": "inactivity",
        "organization_id": str(ORGANIZATION_ID),
        "is_due": False,
        "reason": "cooldown",
        "facts": {"last_activity_at": "2026-10-01T00:00:00+00:00"},
        "milestone_value": None,
        "held_by": str(NEXT),
        "held_since": "2026-11-01T00:00:00+00:00",
        "ends_at": "2026-12-01T00:00:00+00:00",
    }
    rest.route().respond(200, json={"explanations": [row]})

    assert await repository.explain_scenarios(USER_ID) == [ScenarioExplanation.model_validate(row)]
    assert _only(rest, "scenario_explain") == {"p_user_id": str(USER_ID)}


_PERIOD: Final = {"organization_id": ORGANIZATION_ID, "since": SINCE, "until": UNTIL}
BAD_ARGUMENTS: list[tuple[str, str, dict[str, Any]]] = [
    *(("lease_notifications", "limit", {"limit": value}) for value in (0, -1, 1001, 1.0, True, MARKER, None)),
    *(("lease_notifications", "lease", {"limit": 1, "lease": value}) for value in (timedelta(0), -timedelta(1), 60)),
    ("lease_notifications", "organization_id", {"limit": 1, "organization_id": MARKER}),
    ("lease_notifications", "scenario_types", {"limit": 1, "scenario_types": [MARKER]}),
    ("settle_notifications", "results", {"results": [_settlement(DeliveryResult.SENT)] * 1001}),
    ("settle_notifications", "results", {"results": [{"id": MARKER}]}),
    ("settle_notifications", "max_attempts", {"results": [], "max_attempts": 0}),
    *(("purge_notifications", "older_than", {"older_than": value}) for value in (timedelta(0), -timedelta(1), 365)),
    *(("purge_notifications", "batch", {"older_than": timedelta(365), "batch": value}) for value in (0, 100_001)),
    ("get_organization_report", "organization_id", _PERIOD | {"organization_id": MARKER}),
    ("get_organization_report", "since", _PERIOD | {"since": SINCE.replace(tzinfo=None)}),
    ("get_organization_report", "until", _PERIOD | {"until": UNTIL.date()}),
    *(("list_notifications", "limit", {"user_id": USER_ID, "limit": value}) for value in (0, 1001)),
    ("list_notifications", "before", {"user_id": USER_ID, "before": NEXT}),
    ("list_notifications", "user_id", {"user_id": MARKER}),
    *(("evaluate_scenario", "limit", {"scenario_type": INACTIVITY, "limit": value}) for value in (0, 100_001)),
    *(
        (method, "due_within", {"scenario_type": INACTIVITY, "due_within": value})
        for method in ("evaluate_scenario", "evaluate_next_page")
        for value in (timedelta(0), -timedelta(1), 90, timedelta(days=36_526))
    ),
    ("evaluate_scenario", "after", {"scenario_type": INACTIVITY, "after": MARKER}),
    ("evaluate_next_page", "scenario_type", {"scenario_type": MARKER}),
    ("evaluate_next_page", "limit", {"scenario_type": INACTIVITY, "limit": 100_001}),
    ("explain_scenarios", "user_id", {"user_id": None}),
]


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize(("method", "field", "arguments"), BAD_ARGUMENTS)
async def test_arguments_out_of_bounds_are_refused_by_name_and_not_sent(
    method: str, field: str, arguments: dict[str, object], repository: ScenarioNotificationRepository
) -> None:
    """The refusal names the argument, what was expected and what came, and no request leaves."""
    with pytest.raises(InvalidDataException, match=rf"{field}.*: expected .+, got .+") as refusal:
        await getattr(repository, method)(**arguments)
    assert MARKER not in told_by(refusal.value)
