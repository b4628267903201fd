"""The wire format of claims: the request for a batch, the answer, and the outcomes made of both."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from pydantic import AwareDatetime, Field, TypeAdapter
from supabase import AsyncClient

from scenario_repo._postgrest import Sendable, function_request, texts
from scenario_repo.models import ClaimOutcome, DeliveryStatus, NotificationClaim, SkipReason, StoredSkipReason


@dataclass(frozen=True, slots=True)
class Claimed:
    """The columns of the new row that the caller does not know yet."""

    id: UUID
    triggered_at: AwareDatetime
    cooldown_window_start: AwareDatetime | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """The reason why there is no new row."""

    skip_reason: StoredSkipReason
    held_by: UUID | None
    ends_at: AwareDatetime | None


ANSWERS = TypeAdapter(list[Annotated[Claimed | Skipped, Field(union_mode="left_to_right")]])
"""The answer to a batch: one element per claim, in the same order."""
_OUTCOMES = TypeAdapter(list[ClaimOutcome])

_DUPLICATES: Final = frozenset(
    {SkipReason.COOLDOWN, SkipReason.MILESTONE_REACHED, SkipReason.DUPLICATE_IN_BATCH, SkipReason.CONCURRENT_CLAIM}
)
_logger = logging.getLogger("scenario_repo")


def claims_request(client: AsyncClient, claims: Sequence[NotificationClaim]) -> Sendable:
    """Claim a batch."""
    user_ids = texts(claim.user_id for claim in claims)
    organization_ids = texts(claim.organization_id for claim in claims)
    rows = [
        {
            "user_id": user_id,
            "organization_id": organization_id,
            "scenario_type": claim.scenario_type,
            "cooldown_seconds": claim.cooldown and claim.cooldown.total_seconds(),
            "milestone_value": claim.milestone_value,
            "metadata": claim.metadata,
        }
        for claim, user_id, organization_id in zip(claims, user_ids, organization_ids, strict=True)
    ]
    return function_request(client, "scenario_claim_notifications", rows)


def outcomes_of(claims: Sequence[NotificationClaim], answers: Sequence[Claimed | Skipped]) -> list[ClaimOutcome]:
    """Build the outcome of each claim from the claim and its answer."""
    return _OUTCOMES.validate_python(
        [
            {"skip_reason": answer.skip_reason, "held_by": answer.held_by, "ends_at": answer.ends_at}
            if isinstance(answer, Skipped)
            else {
                "notification": {
                    "id": answer.id,
                    "user_id": claim.user_id,
                    "organization_id": claim.organization_id,
                    "scenario_type": claim.scenario_type,
                    "triggered_at": answer.triggered_at,
                    "delivery_status": DeliveryStatus.PENDING,
                    "milestone_value": claim.milestone_value,
                    "metadata": claim.metadata,
                    "cooldown_window_start": answer.cooldown_window_start,
                }
            }
            for claim, answer in zip(claims, answers, strict=True)
        ]
    )


def log_duplicates(outcomes: Sequence[ClaimOutcome]) -> None:
    """Log how many claims were duplicates, by reason: counts only, no ids."""
    skipped = Counter(outcome.skip_reason for outcome in outcomes if outcome.skip_reason in _DUPLICATES)
    if skipped:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(skipped.items()))
        _logger.info("%d of %d claims were duplicates: %s", skipped.total(), len(outcomes), reasons)
