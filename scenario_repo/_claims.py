"""The wire format of claims, by columns both ways: the request for a batch, the answer, and the outcomes of both.

A column that has one value for the whole batch goes out once, in ``all``. The answer holds the exceptions: every other
claim was granted as usual.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from typing import Annotated, Any, Final, TypeAlias, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, Field, JsonValue, TypeAdapter
from supabase import AsyncClient

from scenario_repo import _logs
from scenario_repo._postgrest import Sendable, function_request, texts
from scenario_repo.exceptions import UnexpectedResponseException
from scenario_repo.models import (
    ClaimOutcome,
    DeliveryStatus,
    LeasedClaimOutcome,
    LeasedNotification,
    NotificationClaim,
    NotificationOrigin,
    ScenarioType,
    SkipReason,
    StoredSkipReason,
)

_Value = TypeVar("_Value")

Places = list[Annotated[int, Field(gt=0)]]
"""Places in the batch, from 1."""

Column: TypeAlias = list[_Value] | _Value
"""What each place has: one value for all of them where all have the same, else one each."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The claims that were not granted."""

    place: Places
    reason: Column[StoredSkipReason]
    held_by: list[UUID | None]
    ends_at: Column[AwareDatetime | None]


@dataclass(frozen=True, slots=True)
class Following:
    """The claims that were granted after an earlier claim of the user and type."""

    place: Places
    triggered_at: Column[AwareDatetime]
    cooldown_window_start: Column[AwareDatetime]


@dataclass(frozen=True, slots=True)
class Partly:
    """The claims that were granted for some of their subjects; the others were held."""

    place: Places
    new_subjects: list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Deliver:
    """The claims whose scenario's settings have another ``deliver_within`` than the usual one."""

    place: Places
    deliver_until: Column[AwareDatetime]


@dataclass(frozen=True, slots=True)
class TakenOver:
    """The claims, with a lease, that got a notification of before that nobody had in hand."""

    place: Places
    id: list[UUID]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a batch. A granted claim's id is the prefix and its place, in five hexadecimal digits."""

    id_prefix: Annotated[str, Field(pattern=r"\A[0-9a-f]{27}\z")]
    triggered_at: AwareDatetime
    deliver_until: AwareDatetime
    skipped: Skipped
    following: Following
    partly: Partly
    deliver: Deliver
    taken_over: TakenOver | None = None
    leased: list[LeasedNotification] | None = None


ANSWER: Final = TypeAdapter(Answer)
_OUTCOMES: Final = TypeAdapter(list[ClaimOutcome])
_LEASED_OUTCOMES: Final = TypeAdapter(list[LeasedClaimOutcome])

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_DUPLICATES: Final = frozenset(
    {SkipReason.COOLDOWN, SkipReason.MILESTONE_REACHED, SkipReason.DUPLICATE_IN_BATCH, SkipReason.CONCURRENT_CLAIM}
)
TIMED_OUT: Final = "the statement timed out and was rolled back, nothing was claimed: claim fewer at once"


def claims_request(client: AsyncClient, claims: Sequence[NotificationClaim], lease_seconds: float | None) -> Sendable:
    """Claim a batch, with a lease if its length is given."""
    cooldowns = [claim.cooldown and claim.cooldown.total_seconds() for claim in claims]
    columns: dict[str, list[Any]] = {
        "user_id": texts(claim.user_id for claim in claims),
        "organization_id": texts(claim.organization_id for claim in claims),
        "scenario_type": [claim.scenario_type for claim in claims],
        "cooldown_seconds": cooldowns,
        "milestone_value": [claim.milestone_value for claim in claims],
        "metadata": [claim.metadata for claim in claims],
        "subjects": [claim.subjects or None for claim in claims],
    }
    same = {
        name: columns[name][0]
        for name in ("organization_id", "scenario_type", "cooldown_seconds")
        if columns[name][0] is not None and columns[name].count(columns[name][0]) == len(claims)
    }
    if _is_one_object(columns["metadata"]):
        same["metadata"] = columns["metadata"][0]
    sent = {
        name: column
        for name, column in columns.items()
        if name not in same and any(value is not None for value in column)
    }
    return function_request(client, "scenario_claim_notifications", sent | {"all": same}, lease_seconds)


def _is_one_object(metadata: Sequence[dict[str, JsonValue] | None]) -> bool:
    """Whether all have the same metadata, also as JSON: 1, 1.0 and true are equal in Python alone."""
    first = metadata[0]
    if first is None or any(one != first for one in metadata):
        return False
    if all(isinstance(value, str) for value in first.values()):  # text equals text alone
        return True
    text = json.dumps(first)
    return all(json.dumps(one) == text for one in metadata)


def outcomes_of(claims: Sequence[NotificationClaim], answer: Answer) -> list[ClaimOutcome]:
    """Build the outcome of each claim from the claims and the answer.

    Raises:
        UnexpectedResponseException: the answer does not fit the claims.

    """
    try:
        return _OUTCOMES.validate_python(_outcomes(claims, answer))
    except (IndexError, ValueError):
        failure = _unfit()
    raise failure


def leased_outcomes_of(claims: Sequence[NotificationClaim], answer: Answer) -> list[LeasedClaimOutcome]:
    """Build the outcome of each claim with a lease: a granted one has its row as it was leased.

    Raises:
        UnexpectedResponseException: the answer does not fit the claims.

    """
    try:
        rows = {row.id: row for row in answer.leased or ()}
        outcomes = _outcomes(claims, answer)
        if answer.taken_over is not None:
            for place, notification_id in zip(answer.taken_over.place, answer.taken_over.id, strict=True):
                outcomes[place - 1] = {"notification": {"id": notification_id.hex}}
        for outcome in outcomes:
            if "notification" in outcome:
                outcome["notification"] = rows[UUID(outcome["notification"]["id"])]
        return _LEASED_OUTCOMES.validate_python(outcomes)
    except (LookupError, ValueError):
        failure = _unfit()
    raise failure


def _unfit() -> UnexpectedResponseException:
    return UnexpectedResponseException("the server's answer does not fit the claims", operation="claim_notifications")


def _outcomes(claims: Sequence[NotificationClaim], answer: Answer) -> list[dict[str, Any]]:
    """Return what each outcome is made of: granted as usual, but for the exceptions."""
    outcomes: list[dict[str, Any]] = [
        {
            "notification": {
                "id": f"{answer.id_prefix}{place:05x}",
                "user_id": claim.user_id,
                "organization_id": claim.organization_id,
                "scenario_type": claim.scenario_type,
                "triggered_at": answer.triggered_at,
                "delivery_status": DeliveryStatus.PENDING,
                "milestone_value": claim.milestone_value,
                "metadata": claim.metadata,
                "cooldown_window_start": None if claim.scenario_type is ScenarioType.MILESTONE else _EPOCH,
                "failure_code": None,
                "origin": NotificationOrigin.CLAIM,
                "subjects": claim.subjects,
                "deliver_until": answer.deliver_until,
                "settled_at": None,
                "held_until": None,
            },
            "new_subjects": claim.subjects,
        }
        for place, claim in enumerate(claims, 1)
    ]
    _write_exceptions(outcomes, answer)
    return outcomes


def _write_exceptions(outcomes: list[dict[str, Any]], answer: Answer) -> None:
    """Write the exceptions of the answer into the outcomes."""
    following, partly, deliver, skipped = answer.following, answer.partly, answer.deliver, answer.skipped
    for place, triggered_at, window_start in _rows(
        following.place, following.triggered_at, following.cooldown_window_start
    ):
        outcomes[place - 1]["notification"] |= {"triggered_at": triggered_at, "cooldown_window_start": window_start}
    for place, until in _rows(deliver.place, deliver.deliver_until):
        outcomes[place - 1]["notification"]["deliver_until"] = until
    for place, subjects in zip(partly.place, partly.new_subjects, strict=True):
        outcomes[place - 1]["new_subjects"] = subjects
    for place, reason, held_by, ends_at in _rows(skipped.place, skipped.reason, skipped.held_by, skipped.ends_at):
        outcomes[place - 1] = {"skip_reason": reason, "held_by": held_by, "ends_at": ends_at}


def _rows(places: Places, *columns: Column[Any]) -> Iterator[tuple[Any, ...]]:
    """Turn columns into rows, each with its place."""
    full = (column if isinstance(column, list) else repeat(column, len(places)) for column in columns)
    return zip(places, *full, strict=True)


def log_duplicates(outcomes: Sequence[ClaimOutcome]) -> None:
    """Log how many claims were duplicates, by reason: counts only, no ids."""
    skipped = Counter(outcome.skip_reason for outcome in outcomes if outcome.skip_reason in _DUPLICATES)
    if skipped:
        reasons = {str(reason): count for reason, count in skipped.items()}
        _logs.CLAIM_DUPLICATES.tell(
            duplicates=skipped.total(), claims=len(outcomes), by_reason=_logs.counts(reasons), reasons=reasons
        )
