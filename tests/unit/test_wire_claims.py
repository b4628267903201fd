"""Claims and look-ups for many users on the wire: one request and one JSON value per batch."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
import respx

from scenario_repo import (
    ClaimOutcome,
    DeliveryResult,
    InvalidDataException,
    LeasedClaimOutcome,
    LeasedNotification,
    NotificationClaim,
    ScenarioNotification,
    ScenarioNotificationRepository,
    ScenarioType,
    Settlement,
    SkipReason,
    UnavailableException,
    UnexpectedResponseException,
)
from tests.factories import (
    MILESTONE,
    ORGANIZATION_ID,
    USER_ID,
    claims_answer,
    function_arguments,
    id_of_claim,
    leased_row,
    notification_row,
)
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


def skipped(*outcomes: tuple[str, UUID | None, str | None]) -> dict[str, object]:
    """Make the part of the answer about claims that were not granted: the first places, each for a reason."""
    return {
        "place": list(range(1, len(outcomes) + 1)),
        "reason": [reason for reason, _, _ in outcomes],
        "held_by": [held_by and str(held_by) for _, held_by, _ in outcomes],
        "ends_at": [ends_at for _, _, ends_at in outcomes],
    }


def granted(place: int, **columns: object) -> ScenarioNotification:
    """Make the notification of a claim that was granted as usual, but for these columns."""
    usual = {"id": str(id_of_claim(place)), "origin": "claim", "cooldown_window_start": "1970-01-01T00:00:00+00:00"}
    return ScenarioNotification.model_validate(notification_row(**usual | columns))


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
    """Columns hold the claims, and ``all`` what is the same for all; outcomes are typed and in order."""
    refused = {
        "place": [3, 2],
        "reason": ["milestone_reached", "cooldown"],
        "held_by": [str(OTHER_ID), str(OTHER_ID)],
        "ends_at": [None, "2026-11-09T08:30:00.123456+00:00"],
    }
    rest.route().respond(200, json=claims_answer(skipped=refused))

    outcomes = await repository.claim_notifications(
        [
            new_claim(metadata={"days": 3}),
            new_claim(user_id=OTHER_ID, cooldown=timedelta(hours=1, microseconds=1)),
            new_milestone(25),
        ]
    )

    assert body_of_the_call(rest, "scenario_claim_notifications") == {
        "p_claims": {
            "user_id": [str(USER_ID), str(OTHER_ID), str(USER_ID)],
            "scenario_type": ["inactivity", "inactivity", "milestone"],
            "cooldown_seconds": [604_800.0, 3600.000001, None],
            "milestone_value": [None, None, 25],
            "metadata": [{"days": 3}, None, None],
            "all": {"organization_id": str(ORGANIZATION_ID)},
        },
        "p_lease_seconds": None,
    }
    assert outcomes == [
        ClaimOutcome(notification=granted(1, metadata={"days": 3})),
        ClaimOutcome(
            skip_reason=SkipReason.COOLDOWN, held_by=OTHER_ID, ends_at=datetime(2026, 11, 9, 8, 30, 0, 123456, UTC)
        ),
        ClaimOutcome(skip_reason=SkipReason.MILESTONE_REACHED, held_by=OTHER_ID),
    ]
    assert [outcome.claimed for outcome in outcomes] == [True, False, False]


@pytest.mark.parametrize(
    ("claims", "sent"),
    [
        (
            [new_claim(), new_claim(user_id=OTHER_ID)],
            {
                "all": {
                    "organization_id": str(ORGANIZATION_ID),
                    "scenario_type": "inactivity",
                    "cooldown_seconds": 604_800.0,
                }
            },
        ),
        (
            [new_claim(metadata={"a": [1]}), new_claim(metadata={"a": [1]}, organization_id=OTHER_ID)],
            {
                "organization_id": [str(ORGANIZATION_ID), str(OTHER_ID)],
                "all": {"scenario_type": "inactivity", "cooldown_seconds": 604_800.0, "metadata": {"a": [1]}},
            },
        ),
        (
            [new_milestone(10), new_milestone(10)],
            {
                "milestone_value": [10, 10],
                "all": {"organization_id": str(ORGANIZATION_ID), "scenario_type": "milestone"},
            },
        ),
        (
            [new_claim(subjects=["b", "a", "b"]), new_claim()],
            {
                "subjects": [["a", "b"], None],
                "all": {
                    "organization_id": str(ORGANIZATION_ID),
                    "scenario_type": "inactivity",
                    "cooldown_seconds": 604_800.0,
                },
            },
        ),
        *(
            (
                [new_claim(metadata={"a": one}), new_claim(metadata={"a": other})],
                {
                    "metadata": [{"a": one}, {"a": other}],
                    "all": {
                        "organization_id": str(ORGANIZATION_ID),
                        "scenario_type": "inactivity",
                        "cooldown_seconds": 604_800.0,
                    },
                },
            )
            for one, other in ((1, True), (0, False), (1, 1.0), (0.0, -0.0), ("a", "b"))
        ),
    ],
)
async def test_what_is_the_same_for_all_goes_out_once(
    claims: list[NotificationClaim],
    sent: dict[str, object],
    rest: respx.MockRouter,
    repository: ScenarioNotificationRepository,
) -> None:
    """A column without a value is left out, and values that are equal in Python alone are two."""
    rest.route().respond(200, json=claims_answer())
    await repository.claim_notifications(claims)
    asked = body_of_the_call(rest, "scenario_claim_notifications")["p_claims"]
    expected = {"user_id": [str(claim.user_id) for claim in claims], **sent}
    # As text, in which 1, 1.0 and true are different.
    assert json.dumps(asked, sort_keys=True) == json.dumps(expected, sort_keys=True)


async def test_the_exceptions_of_the_answer_reach_their_claims(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """A notification has what its row has: when it was triggered, after which one, until when it may go out."""
    later, before, until = (f"2026-11-{day}T08:30:00+00:00" for day in ("03", "01", "30"))
    rest.route().respond(
        200,
        json=claims_answer(
            following={"place": [3], "triggered_at": [later], "cooldown_window_start": [before]},
            partly={"place": [3], "new_subjects": [["b"]]},
            deliver={"place": [2, 3], "deliver_until": [until, until]},
        ),
    )
    outcomes = await repository.claim_notifications(
        [new_claim(subjects=["a"]), new_milestone(25), new_claim(subjects=["b", "a"])]
    )
    assert outcomes == [
        ClaimOutcome(notification=granted(1, subjects=["a"]), new_subjects=("a",)),
        ClaimOutcome(
            notification=granted(2, milestone_value=25, cooldown_window_start=None, deliver_until=until),
        ),
        ClaimOutcome(
            notification=granted(
                3, subjects=["a", "b"], triggered_at=later, cooldown_window_start=before, deliver_until=until
            ),
            new_subjects=("b",),
        ),
    ]


async def test_one_reason_may_stand_for_all(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """The database writes a reason that all have once."""
    refused = skipped(("cooldown", OTHER_ID, SENT_AT), ("cooldown", OTHER_ID, SENT_AT)) | {"reason": "cooldown"}
    rest.route().respond(200, json=claims_answer(skipped=refused))
    outcomes = await repository.claim_notifications([new_claim()] * 3)
    assert [outcome.skip_reason for outcome in outcomes] == [SkipReason.COOLDOWN, SkipReason.COOLDOWN, None]


async def test_outcomes_stay_in_order_up_to_the_limit(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """20,000 claims are still one request, and the n-th outcome is that of the n-th claim."""
    holders = [UUID(int=number) for number in range(20_000)]
    refused = skipped(*(("cooldown", holder, SENT_AT) for holder in holders))
    rest.route().respond(200, json=claims_answer(skipped=refused))

    outcomes = await repository.claim_notifications([new_claim(user_id=holder) for holder in holders])

    sent = body_of_the_call(rest, "scenario_claim_notifications")["p_claims"]
    assert sent["user_id"] == list(map(str, holders))
    assert [outcome.held_by for outcome in outcomes] == holders


# With a lease ------------------------------------------------------------


async def test_a_claim_with_a_lease_is_the_callers(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Each granted claim comes as it was leased; one of before that nobody has in hand is taken over."""
    devices = [{"token": "t", "platform": "ios"}]
    new = leased_row(id=str(id_of_claim(1)), device_tokens=devices, subjects=["a"])
    old = leased_row(id=str(OTHER_ID), lease_number=3, attempt_count=2)
    rest.route().respond(
        200,
        json=claims_answer(
            skipped={"place": [3], "reason": ["user_banned"], "held_by": [None], "ends_at": [None]},
            taken_over={"place": [2], "id": [str(OTHER_ID)]},
            leased=[old, new],
        ),
    )

    outcomes = await repository.claim_notifications(
        [new_claim(subjects=["a"]), new_claim(), new_claim()], timedelta(seconds=90)
    )

    assert body_of_the_call(rest, "scenario_claim_notifications")["p_lease_seconds"] == 90.0
    assert outcomes == [
        LeasedClaimOutcome(notification=LeasedNotification.model_validate(new), new_subjects=("a",)),
        LeasedClaimOutcome(notification=LeasedNotification.model_validate(old)),
        LeasedClaimOutcome(skip_reason=SkipReason.USER_BANNED),
    ]
    assert outcomes[0].notification is not None
    assert outcomes[0].notification.settlement(DeliveryResult.SENT) == Settlement(
        id=id_of_claim(1), lease_number=1, result=DeliveryResult.SENT
    )


async def test_a_lease_that_is_missing_in_the_answer_is_refused(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """What was not leased can't be settled: it is no outcome."""
    for answer in (claims_answer(leased=[]), claims_answer(), claims_answer(leased=[leased_row()])):
        rest.route().respond(200, json=answer)
        with pytest.raises(UnexpectedResponseException):
            await repository.claim_notifications([new_claim()], timedelta(seconds=90))


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize(
    ("message", "claims", "lease"),
    [
        ("claims: expected at most 1,000 elements, got 1,001", [new_claim()] * 1_001, WEEK / 7),
        ("lease: expected 1 second to 1 day, got a longer one", [new_claim()], WEEK),
        ("lease: expected 1 second to 1 day, got a shorter one", [new_claim()], timedelta(milliseconds=1)),
        ("lease: expected a timedelta, got a positive integer", [new_claim()], 60),
    ],
)
async def test_a_lease_out_of_bounds_is_refused(
    message: str,
    claims: list[NotificationClaim],
    lease: Any,  # noqa: ANN401 - anything at all
    repository: ScenarioNotificationRepository,
) -> None:
    """By its name, with the limit, before anything is sent."""
    with pytest.raises(InvalidDataException, match=message):
        await repository.claim_notifications(claims, lease)


# What does not fit -------------------------------------------------------


@pytest.mark.parametrize(("number", "retryable"), [(2, False), (1, True)])
async def test_a_batch_that_takes_too_long_is_not_to_be_repeated_as_it_is(
    number: int, rest: respx.MockRouter, repository: ScenarioNotificationRepository, *, retryable: bool
) -> None:
    """It would time out again: the error says to claim fewer. A single claim may have waited for another."""
    rest.route().respond(500, json={"code": "57014", "message": "canceling statement due to statement timeout"})
    with pytest.raises(UnavailableException) as failure:
        await repository.claim_notifications([new_claim()] * number)
    assert (failure.value.retryable, failure.value.code) == (retryable, "57014")
    assert ("claim fewer at once" in str(failure.value)) is not retryable


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
    refused = skipped(("not_now", None, None), ("cooldown", OTHER_ID, None))
    rest.route().respond(200, json=claims_answer(skipped=refused))
    outcomes = await repository.claim_notifications([new_claim(), new_claim(user_id=OTHER_ID)])
    assert [outcome.skip_reason for outcome in outcomes] == ["not_now", SkipReason.COOLDOWN]
    assert outcomes[1].skip_reason is SkipReason.COOLDOWN


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        [claims_answer()],
        claims_answer(id_prefix=MARKER),
        claims_answer(id_prefix="0" * 28),
        claims_answer(triggered_at="2026-11-02T08:30:00"),
        claims_answer(deliver_until=None),
        claims_answer(skipped=None),
        claims_answer(skipped=skipped(("cooldown", None, None)) | {"held_by": [MARKER]}),
        claims_answer(skipped=skipped(("cooldown", None, None)) | {"held_by": []}),
        claims_answer(skipped=skipped(("cooldown", None, None)) | {"reason": []}),
        *(claims_answer(skipped=skipped(("cooldown", None, None)) | {"place": [place]}) for place in (0, -1, 3, "x")),
        claims_answer(following={"place": [1], "triggered_at": [], "cooldown_window_start": []}),
        claims_answer(following={"place": [3], "triggered_at": [SENT_AT], "cooldown_window_start": [SENT_AT]}),
        claims_answer(deliver={"place": [1, 2], "deliver_until": [SENT_AT]}),
        claims_answer(partly={"place": [1], "new_subjects": [MARKER]}),
    ],
)
async def test_an_answer_that_does_not_fit_the_batch_is_refused(
    answer: object, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Columns of different lengths, a place outside the batch or an unknown form are an error for the whole batch."""
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
    refused = skipped(*((reason, OTHER_ID, SENT_AT) for reason in [*reasons, *others]))
    rest.route().respond(200, json=claims_answer(skipped=refused))

    with caplog.at_level(logging.DEBUG, logger="scenario_repo"):
        await repository.claim_notifications([new_claim(metadata={"about": MARKER})] * 9)

    (record,) = (record for record in caplog.records if record.name.startswith("scenario_repo"))
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
    rest.route().respond(200, json=claims_answer(skipped=skipped(("unknown_user", None, None))))
    with caplog.at_level(logging.DEBUG, logger="scenario_repo"):
        await repository.claim_notifications([new_claim(), new_claim(user_id=OTHER_ID)])
    assert [record for record in caplog.records if record.name.startswith("scenario_repo")] == []


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
    ("subjects: expected several texts, got text", {"subjects": MARKER}),
    ("subjects: expected several texts, got nothing", {"subjects": None}),
    ("subjects: expected several texts, got dict", {"subjects": {MARKER: 1}}),
    ("subjects: expected text, got int", {"subjects": ["a", 7]}),
    ("subjects: expected text, got list", {"subjects": [[MARKER]]}),
    ("subjects: expected at most 50 subjects, got 51", {"subjects": list(map(str, range(51)))}),
    ("subjects: expected text of 1 to 100 characters, got 0", {"subjects": [""]}),
    ("subjects: expected text of 1 to 100 characters, got 101", {"subjects": ["a" * 101]}),
    ("subjects: expected no personal data, got an e-mail address", {"subjects": ["a", f"{MARKER}@example.org"]}),
    ("subjects: expected text without NUL", {"subjects": ["a\0b"]}),
    ("subjects: expected Unicode text, got a lone surrogate", {"subjects": ["\ud800"]}),
]


@pytest.mark.parametrize(("message", "fault"), BAD_CLAIMS)
def test_a_claim_that_does_not_fit_is_refused_by_name(message: str, fault: dict[str, object]) -> None:
    """The message names the field, what was expected and the kind of value given; never the value."""
    with pytest.raises(InvalidDataException) as refusal:
        new_claim(**fault)
    assert message in str(refusal.value)
    assert MARKER not in told_by(refusal.value)


def test_a_claim_within_the_bounds_is_accepted() -> None:
    """Up to 36,525 days; milestones up to the largest integer; the type as text; up to 50 subjects, sorted."""
    for cooldown in (timedelta(microseconds=1), timedelta(days=36_525)):
        assert new_claim(cooldown=cooldown, scenario_type="welcome_back").cooldown == cooldown
    assert new_milestone(2**31 - 1).cooldown is None
    assert new_claim(subjects={"b", "a" * 100}).subjects == ("a" * 100, "b")
    assert len(new_claim(subjects=[str(number) for number in range(50)]).subjects) == 50


Look = Callable[[ScenarioNotificationRepository, Any], Awaitable[dict[UUID, Any]]]
RECORD: Final = notification_row(milestone_value=MILESTONE)
LOOK_UPS: dict[str, tuple[Look, dict[str, object], list[Any], list[Any]]] = {
    "get_last_sent_at_many": (
        lambda repository, ids: repository.get_last_sent_at_many(ids, INACTIVITY),
        {"p_scenario_type": "inactivity"},
        [SENT_AT, None],
        [datetime(2026, 11, 2, 8, 30, 0, 123456, UTC), None],
    ),
    "get_last_delivered_at_many": (
        lambda repository, ids: repository.get_last_delivered_at_many(ids, INACTIVITY),
        {"p_scenario_type": "inactivity"},
        [SENT_AT, None],
        [datetime(2026, 11, 2, 8, 30, 0, 123456, UTC), None],
    ),
    "has_been_delivered_since_many": (
        lambda repository, ids: repository.has_been_delivered_since_many(ids, INACTIVITY, CUTOFF),
        {"p_scenario_type": "inactivity", "p_cutoff": "2026-11-02T08:30:00.000005+00:00"},
        [True, False],
        [True, False],
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
    rest.route().respond(200, json={"answers": answer})

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
    rest.route().respond(200, json={"answers": answer})

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

    rest.route().respond(200, json={"answers": answer[1:] * 49_999 + answer[:1]})
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
    wrong: list[object] = [answer[:1], [*answer, answer[1]], [], None, [MARKER, MARKER], {}]
    for unfit in [answer, None, {}, *({"answers": answers} for answers in wrong)]:
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
