"""The answer to a batch of claims as the database writes it: by columns, with the exceptions alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from scenario_repo.models import ClaimOutcome, LeasedNotification
from scenario_repo.testing.builders import NOON

_ID_PREFIX: Final = "01a2144654667100861a2ecbc95"


def id_of_claim(place: int) -> UUID:
    """Return the id that a granted claim's notification gets, by its place in the batch, from 1."""
    return UUID(f"{_ID_PREFIX}{place:05x}")


def claims_answer(outcomes: Sequence[ClaimOutcome], *, leased: bool) -> dict[str, Any]:
    """Write the answer to claims with these outcomes, as JSON.

    What a granted notification has from its claim is the claim's; the answer adds its moments, and with a lease its
    row. Without one its id is :func:`id_of_claim`.
    """
    granted = [
        (place, outcome.notification, outcome.new_subjects)
        for place, outcome in enumerate(outcomes, 1)
        if outcome.notification is not None
    ]
    triggered_at = granted[0][1].triggered_at if granted else NOON
    deliver_until = granted[0][1].deliver_until if granted else NOON + timedelta(days=7)
    following = [
        (place, row.triggered_at, row.cooldown_window_start or datetime.fromtimestamp(0, triggered_at.tzinfo))
        for place, row, _ in granted
        if row.triggered_at != triggered_at or row.cooldown_window_start is not None
    ]
    deliver = [(place, row.deliver_until) for place, row, _ in granted if row.deliver_until != deliver_until]
    partly = [(place, subjects) for place, row, subjects in granted if subjects and subjects != row.subjects]
    skipped = [(place, one) for place, one in enumerate(outcomes, 1) if one.notification is None]
    rows = [row for _, row, _ in granted if isinstance(row, LeasedNotification)]
    taken = [(place, row.id) for place, row, _ in granted if row.id != id_of_claim(place)]
    return {
        "id_prefix": _ID_PREFIX,
        "triggered_at": triggered_at.isoformat(),
        "deliver_until": deliver_until.isoformat(),
        "skipped": {
            "place": [place for place, _ in skipped],
            "reason": [one.skip_reason for _, one in skipped],
            "held_by": [_text(one.held_by) for _, one in skipped],
            "ends_at": [_moment(one.ends_at) for _, one in skipped],
        },
        "following": {
            "place": [place for place, _, _ in following],
            "triggered_at": [_moment(at) for _, at, _ in following],
            "cooldown_window_start": [_moment(start) for _, _, start in following],
        },
        "partly": {"place": [place for place, _ in partly], "new_subjects": [subjects for _, subjects in partly]},
        "deliver": {
            "place": [place for place, _ in deliver],
            "deliver_until": [_moment(until) for _, until in deliver],
        },
        "taken_over": {"place": [place for place, _ in taken], "id": [_text(id_) for _, id_ in taken]}
        if leased
        else None,
        "leased": [row.model_dump(mode="json", exclude={"held_until"}) for row in rows] if leased else None,
    }


def _text(given: UUID | None) -> str | None:
    return None if given is None else str(given)


def _moment(given: datetime | None) -> str | None:
    return None if given is None else given.isoformat()
