"""What the database decided of claims: its answer on the wire, and the outcomes it becomes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from pydantic import AwareDatetime, Field, TypeAdapter

from scenario_repo.models import ClaimOutcome, DeliveryStatus, NotificationClaim, SkipReason


@dataclass(frozen=True, slots=True)
class Claimed:
    """What the claim's caller does not know of the new row."""

    id: UUID
    triggered_at: AwareDatetime
    cooldown_window_start: AwareDatetime | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """Why there is no new row."""

    skip_reason: SkipReason
    held_by: UUID | None
    ends_at: AwareDatetime | None


DECISIONS = TypeAdapter(list[Annotated[Claimed | Skipped, Field(union_mode="left_to_right")]])
"""The answer to a batch, one decision a claim, in order."""
_OUTCOMES = TypeAdapter(list[ClaimOutcome])

_HELD_ALREADY: Final = frozenset(
    {SkipReason.COOLDOWN, SkipReason.MILESTONE_REACHED, SkipReason.DUPLICATE_IN_BATCH, SkipReason.CONCURRENT_CLAIM}
)
_logger = logging.getLogger("scenario_repo")


def outcomes_of(claims: Sequence[NotificationClaim], decisions: Sequence[Claimed | Skipped]) -> list[ClaimOutcome]:
    """Put each claim and what was decided of it together."""
    return _OUTCOMES.validate_python(
        [
            {"skip_reason": decision.skip_reason, "held_by": decision.held_by, "ends_at": decision.ends_at}
            if isinstance(decision, Skipped)
            else {
                "notification": {
                    "id": decision.id,
                    "user_id": claim.user_id,
                    "organization_id": claim.organization_id,
                    "scenario_type": claim.scenario_type,
                    "triggered_at": decision.triggered_at,
                    "delivery_status": DeliveryStatus.PENDING,
                    "milestone_value": claim.milestone_value,
                    "metadata": claim.metadata,
                    "cooldown_window_start": decision.cooldown_window_start,
                }
            }
            for claim, decision in zip(claims, decisions, strict=True)
        ]
    )


def warn_of_duplicates(outcomes: Sequence[ClaimOutcome]) -> None:
    """Log, in numbers alone, how many claims were for what somebody holds already."""
    held = Counter(outcome.skip_reason for outcome in outcomes if outcome.skip_reason in _HELD_ALREADY)
    if held:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(held.items()))
        _logger.warning("%d of %d claims were duplicates: %s", held.total(), len(outcomes), reasons)
