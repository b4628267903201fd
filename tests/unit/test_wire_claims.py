"""Claims and look-ups for many users on the wire: one request and one JSON value per batch."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
import respx

from scenario_repo import (
    ClaimOutcome,
    InvalidDataException,
    NotificationClaim,
    ScenarioNotification,
    ScenarioNotificationRepository,
    ScenarioType,
    SkipReason,
    UnexpectedResponseException,
)
from tests.factories import MILESTONE, ORGANIZATION_ID, USER_ID, function_arguments, notification_row
from tests.unit.leaks import MARKER, told_by

INACTIVITY: Final = ScenarioType.INACTIVITY
WEEK: Final = timedelta(days=7)
CUTOFF: Final = datetime(2026, 11, 2, 10, 30, 0, 5, tzinfo=timezone(timedelta(hours=2)))
OTHER_ID: Final = UUID("e3a1b2c4-5d6e-4f70-8a9b-0c1d2e3f4a5b")
SENT_AT: Final = "2026-11-02T08:30:00.123456+00:00"


def new_claim(**overrides: object) -> NotificationClaim:
    fields: dict[str, Any] = {
        "user_id": USER_ID,
        "organization_id": ORGANIZATION_ID,
        "scenario_type": INACTIVITY,
        "cooldown": WEEK,
    }
    return NotificationClaim(**fields | overrides)


def new_milestone(value: object = MILESTONE, **overrides: object) -> NotificationClaim:
    return new_claim(
        **{"scenario_type": ScenarioType.MILESTONE, "milestone_value": value, "cooldown": None} | overrides
    )


def claimed(row: Mapping[str, object]) -> dict[str, object]:
    """Make the answer to a granted claim: the columns that the caller does not know."""
    return {name: row[name] for name in ("id", "triggered_at", "cooldown_window_start")}


def skipped(reason: str, held_by: UUID | None = None, ends_at: str | None = None) -> dict[str, object]:
    return {"skip_reason": reason, "held_by": held_by and str(held_by), "ends_at": ends_at}


def body_of_the_call(rest: respx.MockRouter, function: str) -> Any:  # noqa: ANN401
    """Return what was sent: one POST to the function, with nothing in the URL."""
    assert rest.calls.call_count == 1
    request = rest.calls.last.request
    assert isinstance(request, httpx.Request)
    assert (request.method, str(request.url.path), request.url.query) == ("POST", f"/rest/v1/rpc/{function}", b"")
    return function_arguments(request)


async def test_a_batch_of_claims_is_one_call(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """One array holds every claim with all its fields, the cooldown in seconds; outcomes are typed and in order."""
    row = notification_row(cooldown_window_start="1970-01-01T00:00:00+00:00", metadata={"days": 3})
    ends_at = "2026-11-09T08:30:00.123456+00:00"
    rest.route().respond(
        200,
        json=[claimed(row), skipped("cooldown", OTHER_ID, ends_at), skipped("milestone_reached", OTHER_ID)],
    )

    outcomes = await repository.claim_notifications(
        [
            new_claim(metadata={"days": 3}),
            new_claim(user_id=OTHER_ID, cooldown=timedelta(hours=1, microseconds=1)),
            new_milestone(25),
        ]
    )

    common = {"user_id": str(USER_ID), "organization_id": str(ORGANIZATION_ID), "metadata": None}
    inactivity = common | {"scenario_type": "inactivity", "milestone_value": None}
    assert body_of_the_call(rest, "scenario_claim_notifications") == {
        "p_claims": [
            inactivity | {"cooldown_seconds": 604_800.0, "metadata": {"days": 3}},
            inactivity | {"user_id": str(OTHER_ID), "cooldown_seconds": 3600.000001},
            common | {"scenario_type": "milestone", "milestone_value": 25, "cooldown_seconds": None},
        ]
    }
    assert outcomes == [
        ClaimOutcome(notification=ScenarioNotification.model_validate(row)),
        ClaimOutcome(
            skip_reason=SkipReason.COOLDOWN, held_by=OTHER_ID, ends_at=datetime(2026, 11, 9, 8, 30, 0, 123456, UTC)
        ),
        ClaimOutcome(skip_reason=SkipReason.MILESTONE_REACHED, held_by=OTHER_ID),
    ]
    assert [outcome.claimed for outcome in outcomes] == [True, False, False]


async def test_outcomes_stay_in_order_up_to_the_limit(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """20,000 claims are still one request, and the n-th outcome is that of the n-th claim."""
    holders = [UUID(int=number) for number in range(20_000)]
    rest.route().respond(200, json=[skipped("cooldown", holder, SENT_AT) for holder in holders])

    outcomes = await repository.claim_notifications([new_claim(user_id=holder) for holder in holders])

    sent = body_of_the_call(rest, "scenario_claim_notifications")["p_claims"]
    assert [claim["user_id"] for claim in sent] == list(map(str, holders))
    assert [outcome.held_by for outcome in outcomes] == holders


@pytest.mark.usefixtures("no_request")
async def test_no_claims_need_no_request(repository: ScenarioNotificationRepository) -> None:
    """An empty batch has no outcomes."""
    assert await repository.claim_notifications([]) == []
    assert await repository.claim_notifications(()) == []


@pytest.mark.usefixtures("no_request")
async def test_too_large_a_batch_is_refused_before_it_is_sent(repository: ScenarioNotificationRepository) -> None:
    """The message has the limit and the number given."""
    with pytest.raises(InvalidDataException, match="claims: expected at most 20,000 elements, got 20,001"):
        await repository.claim_notifications([new_claim()] * 20_001)


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize("claims", [None, MARKER, [None], [new_claim(), MARKER], [{"user_id": MARKER}], new_claim()])
async def test_anything_but_claims_is_refused(claims: Any, repository: ScenarioNotificationRepository) -> None:  # noqa: ANN401
    """Only a sequence of NotificationClaim is sent; the refusal shows no value."""
    with pytest.raises(InvalidDataException, match="claims") as refusal:
        await repository.claim_notifications(claims)
    assert MARKER not in told_by(refusal.value)


async def test_a_reason_of_a_newer_schema_stays_text(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """An unknown word is the caller's to read, and no reason to lose the other outcomes."""
    rest.route().respond(200, json=[skipped("not_now"), skipped("cooldown", OTHER_ID)])
    outcomes = await repository.claim_notifications([new_claim(), new_claim(user_id=OTHER_ID)])
    assert [outcome.skip_reason for outcome in outcomes] == ["not_now", SkipReason.COOLDOWN]
    assert outcomes[1].skip_reason is SkipReason.COOLDOWN


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [skipped("cooldown")],
        [skipped("cooldown")] * 3,
        None,
        {},
        [skipped(MARKER) | {"held_by": MARKER}] * 2,
        [claimed(notification_row()) | {"id": MARKER}] * 2,
        [claimed(notification_row()) | {"triggered_at": "2026-11-02T08:30:00"}] * 2,
        [{"id": str(OTHER_ID)}] * 2,
        [{}] * 2,
    ],
)
async def test_an_answer_that_does_not_fit_the_batch_is_refused(
    answer: object, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Too few outcomes, or one of an unknown form, are an error for the whole batch."""
    rest.route().respond(200, content=json.dumps(answer))
    with pytest.raises(UnexpectedResponseException) as failure:
        await repository.claim_notifications([new_claim(), new_claim(user_id=OTHER_ID)])
    assert failure.value.operation == "claim_notifications"
    assert MARKER not in told_by(failure.value)


async def test_duplicates_are_logged_once_at_info_in_counts(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository, caplog: pytest.LogCaptureFixture
) -> None:
    """The line counts duplicates by reason and holds no id; other skip reasons are not counted."""
    reasons = ["cooldown", "cooldown", "milestone_reached", "duplicate_in_batch", "concurrent_claim"]
    others = ["unknown_user", "invalid_claim", "invalid_metadata"]
    answer = [skipped(reason, OTHER_ID, SENT_AT) for reason in [*reasons, *others]]
    rest.route().respond(200, json=[*answer, claimed(notification_row())])

    with caplog.at_level(logging.DEBUG, logger="scenario_repo"):
        await repository.claim_notifications([new_claim(metadata={"about": MARKER})] * 9)

    (record,) = (record for record in caplog.records if record.name == "scenario_repo")
    assert record.levelno == logging.INFO
    assert record.getMessage() == (
        "5 of 9 claims were duplicates: concurrent_claim 1, cooldown 2, duplicate_in_batch 1, milestone_reached 1"
    )
    for secret in (USER_ID, OTHER_ID, ORGANIZATION_ID, MARKER):
        assert str(secret) not in f"{record.__dict__}"


async def test_nothing_is_logged_without_duplicates(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository, caplog: pytest.LogCaptureFixture
) -> None:
    """Granted claims and unknown users are not logged."""
    rest.route().respond(200, json=[claimed(notification_row()), skipped("unknown_user")])
    with caplog.at_level(logging.DEBUG, logger="scenario_repo"):
        await repository.claim_notifications([new_claim(), new_claim(user_id=OTHER_ID)])
    assert [record for record in caplog.records if record.name == "scenario_repo"] == []


MILESTONE_OF: Final[dict[str, object]] = {"scenario_type": "milestone", "cooldown": None}
TOO_LONG: Final = timedelta(days=36_525, microseconds=1)
BAD_CLAIMS: list[tuple[str, dict[str, object]]] = [
    ("cooldown: expected a timedelta for inactivity, got nothing", {"cooldown": None}),
    ("cooldown: expected a positive duration of at most 36,525 days, got no time", {"cooldown": timedelta(0)}),
    ("cooldown: expected a positive duration of at most 36,525 days, got a negative one", {"cooldown": -WEEK}),
    ("cooldown: expected a positive duration of at most 36,525 days, got a longer one", {"cooldown": TOO_LONG}),
    ("cooldown: expected a timedelta, got a positive integer", {"cooldown": 7}),
    ("cooldown: expected a timedelta, got text", {"cooldown": f"P7D{MARKER}"}),
    ("cooldown: expected nothing for a milestone", {"scenario_type": "milestone", "milestone_value": 10}),
    ("milestone_value: expected a positive integer for a milestone, got nothing", MILESTONE_OF),
    ("milestone_value: expected nothing for inactivity", {"milestone_value": 10}),
    ("milestone_value: expected a positive integer, got zero", MILESTONE_OF | {"milestone_value": 0}),
    ("milestone_value: expected a positive integer, got a neg", MILESTONE_OF | {"milestone_value": -1}),
    ("milestone_value: expected an integer below 2,147,483,648", MILESTONE_OF | {"milestone_value": 2**31}),
    ("milestone_value: expected an integer, got a bool", MILESTONE_OF | {"milestone_value": True}),
    ("milestone_value: expected an integer, got float", MILESTONE_OF | {"milestone_value": 10.0}),
    ("milestone_value: expected an integer, got text", MILESTONE_OF | {"milestone_value": MARKER}),
    ("user_id: expected a UUID", {"user_id": MARKER}),
    ("user_id: expected a UUID", {"user_id": None}),
    ("organization_id: expected a UUID", {"organization_id": 7}),
    ("scenario_type: expected", {"scenario_type": MARKER}),
    ("metadata: expected a JSON object", {"metadata": [MARKER]}),
    ("metadata: expected a finite number", {"metadata": {"a": float("nan"), "b": MARKER}}),
    ("expected no such field", {"cooldown_seconds": MARKER}),
]


@pytest.mark.parametrize(("message", "fault"), BAD_CLAIMS)
def test_a_claim_that_does_not_fit_is_refused_by_name(message: str, fault: dict[str, object]) -> None:
    """The message names the field, what was expected and the kind of value given; never the value."""
    with pytest.raises(InvalidDataException) as refusal:
        new_claim(**fault)
    assert message in str(refusal.value)
    assert MARKER not in told_by(refusal.value)


def test_a_claim_within_the_bounds_is_accepted() -> None:
    """From a microsecond to 36,525 days; milestones up to the largest integer; the type as text too."""
    for cooldown in (timedelta(microseconds=1), timedelta(days=36_525)):
        assert new_claim(cooldown=cooldown, scenario_type="welcome_back").cooldown == cooldown
    assert new_milestone(2**31 - 1).cooldown is None


Look = Callable[[ScenarioNotificationRepository, Any], Awaitable[dict[UUID, Any]]]
RECORD: Final = notification_row(milestone_value=MILESTONE)
LOOK_UPS: dict[str, tuple[Look, dict[str, object], list[Any], list[Any]]] = {
    "get_last_sent_at_many": (
        lambda repository, ids: repository.get_last_sent_at_many(ids, INACTIVITY),
        {"p_scenario_type": "inactivity"},
        [SENT_AT, None],
        [datetime(2026, 11, 2, 8, 30, 0, 123456, UTC), None],
    ),
    "has_been_sent_since_threshold_many": (
        lambda repository, ids: repository.has_been_sent_since_threshold_many(ids, INACTIVITY, CUTOFF),
        {"p_scenario_type": "inactivity", "p_cutoff": "2026-11-02T08:30:00.000005+00:00"},
        [True, False],
        [True, False],
    ),
    "get_milestone_record_many": (
        lambda repository, ids: repository.get_milestone_record_many(ids, MILESTONE),
        {"p_milestone_value": MILESTONE},
        [RECORD, None],
        [ScenarioNotification.model_validate(RECORD), None],
    ),
}
"""For each method: a call, its other arguments on the wire, an answer for two ids, and the parsed values."""

every_look_up = pytest.mark.parametrize("method", LOOK_UPS)


def _generated(ids: list[UUID]) -> Iterator[UUID]:
    yield from ids


@every_look_up
@pytest.mark.parametrize("given", [list, tuple, _generated, lambda ids: [*ids, *reversed(ids)]])
async def test_a_look_up_of_many_is_one_call(
    method: str,
    given: Callable[[list[UUID]], object],
    rest: respx.MockRouter,
    repository: ScenarioNotificationRepository,
) -> None:
    """Each id is sent once, in the order of first occurrence, and is a key of the answer."""
    look_up, arguments, answer, values = LOOK_UPS[method]
    rest.route().respond(200, json=answer)

    found = await look_up(repository, given([USER_ID, OTHER_ID]))

    sent = body_of_the_call(rest, f"scenario_{method}")
    assert sent == {"p_user_ids": [str(USER_ID), str(OTHER_ID)], **arguments}
    assert list(found.items()) == list(zip([USER_ID, OTHER_ID], values, strict=True))


@every_look_up
async def test_a_look_up_takes_a_set_and_ids_as_text(
    method: str, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Each answer belongs to its id, whatever the order of a set; the keys are UUIDs."""
    look_up, _, answer, values = LOOK_UPS[method]
    rest.route().respond(200, json=answer)

    found = await look_up(repository, {str(USER_ID), str(OTHER_ID)})

    asked = body_of_the_call(rest, f"scenario_{method}")["p_user_ids"]
    assert found == dict(zip(map(UUID, asked), values, strict=True))


@every_look_up
@pytest.mark.usefixtures("no_request")
async def test_a_look_up_of_nobody_needs_no_request(method: str, repository: ScenarioNotificationRepository) -> None:
    """No ids, no answers."""
    assert await LOOK_UPS[method][0](repository, iter([])) == {}


@every_look_up
async def test_50000_users_are_one_call_and_more_are_refused(
    method: str, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Distinct users count; one too many is refused before anything is sent, with the limit."""
    look_up, _, answer, values = LOOK_UPS[method]
    users = [UUID(int=number) for number in range(50_000)]
    with pytest.raises(InvalidDataException, match="user_ids: expected at most 50,000 elements, got 50,001"):
        await look_up(repository, [*users, uuid4()])

    rest.route().respond(200, json=answer[1:] * 49_999 + answer[:1])
    found = await look_up(repository, [*users, *users])
    assert list(found) == users
    assert (found[users[0]], found[users[-1]]) == (values[1], values[0])
    assert len(body_of_the_call(rest, f"scenario_{method}")["p_user_ids"]) == 50_000


@every_look_up
async def test_a_look_up_needs_an_answer_for_each_user(
    method: str, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """An answer of another length or type can't be matched with the ids, and is an error."""
    look_up, _, answer, _ = LOOK_UPS[method]
    unfits: list[object] = [answer[:1], [*answer, answer[1]], [], None, [MARKER, MARKER], {}]
    for unfit in unfits:
        rest.route().respond(200, content=json.dumps(unfit))
        with pytest.raises(UnexpectedResponseException) as failure:
            await look_up(repository, [USER_ID, OTHER_ID])
        assert failure.value.operation == method
        assert MARKER not in told_by(failure.value)


@every_look_up
@pytest.mark.usefixtures("no_request")
async def test_ids_that_are_none_are_refused(method: str, repository: ScenarioNotificationRepository) -> None:
    """The refusal names the argument, and shows no value."""
    with pytest.raises(InvalidDataException, match=r"user_ids\.1: expected a UUID") as refusal:
        await LOOK_UPS[method][0](repository, [USER_ID, MARKER])
    assert MARKER not in told_by(refusal.value)
