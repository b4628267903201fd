"""The values that go in and come out: frozen, typed, without I/O.

Every datetime is aware; the database keeps ``timestamptz``. Input that does not fit raises
:class:`~scenario_repo.exceptions.InvalidDataException` on construction, before anything is sent.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Self
from uuid import UUID

from pydantic import AwareDatetime, Field, JsonValue, model_validator

from scenario_repo._fields import Duration, FailureCode, Id, Input, Instant, Metadata, PositiveInteger, Row
from scenario_repo.exceptions import InvalidDataException


class ScenarioType(StrEnum):
    """What called for a notification."""

    INACTIVITY = "inactivity"
    MILESTONE = "milestone"
    CERTIFICATION_EXPIRY = "certification_expiry"
    WELCOME_BACK = "welcome_back"


class DeliveryStatus(StrEnum):
    """What became of a notification. ``failed`` is final, and frees the cooldown or milestone it held."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


class NewScenarioNotification(Input):
    """A notification to record unconditionally, whatever the cooldown.

    ``triggered_at`` is the database's ``now()`` unless given (for history taken over from elsewhere).
    """

    user_id: Id
    organization_id: Id
    scenario_type: ScenarioType
    milestone_value: PositiveInteger | None = None
    metadata: Metadata = Field(default=None, repr=False)
    delivery_status: DeliveryStatus = DeliveryStatus.PENDING
    triggered_at: Instant | None = None

    @model_validator(mode="after")
    def _milestone_value_only_for_milestones(self) -> Self:
        refuse_misplaced_milestone_value(type(self).__name__, self.scenario_type, self.milestone_value)
        return self


class ScenarioNotification(Row):
    """One row of ``scenario_notifications``, as the database returned it."""

    id: UUID
    user_id: UUID
    organization_id: UUID
    scenario_type: ScenarioType
    triggered_at: AwareDatetime
    delivery_status: DeliveryStatus
    milestone_value: int | None
    metadata: dict[str, JsonValue] | None = Field(repr=False)
    cooldown_window_start: AwareDatetime | None
    """The ``triggered_at`` of the claim before this one (epoch for the first); None for a plain insert."""


class NotificationClaim(Input):
    """A wish to notify, granted if no notification of this type to this user stands in its way.

    ``cooldown`` is the shortest time since the user's last pending or sent notification of the scenario type,
    positive and at most 36,525 days. A milestone has none: it is claimed once per user and value, for ever.
    """

    user_id: Id
    organization_id: Id
    scenario_type: ScenarioType
    cooldown: Duration | None = None
    milestone_value: PositiveInteger | None = None
    metadata: Metadata = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _cooldown_or_milestone_value(self) -> Self:
        name = type(self).__name__
        refuse_misplaced_milestone_value(name, self.scenario_type, self.milestone_value)
        if self.scenario_type is ScenarioType.MILESTONE and self.cooldown is not None:
            raise InvalidDataException(f"{name}.cooldown: expected nothing for a milestone, got a timedelta")
        if self.scenario_type is not ScenarioType.MILESTONE and self.cooldown is None:
            raise InvalidDataException(f"{name}.cooldown: expected a timedelta for {self.scenario_type}, got nothing")
        return self


class SkipReason(StrEnum):
    """Why a claim was not granted, and what a caller can do about it."""

    COOLDOWN = "cooldown"
    """``held_by`` was notified of the same; claim again after ``ends_at``."""
    MILESTONE_REACHED = "milestone_reached"
    """``held_by`` is the record of this milestone; never claim it again."""
    DUPLICATE_IN_BATCH = "duplicate_in_batch"
    """An earlier claim of the batch is for the same; look at its outcome."""
    UNKNOWN_USER = "unknown_user"
    """The user does not exist, or was deleted meanwhile; drop the claim."""
    CONCURRENT_CLAIM = "concurrent_claim"
    """Another claimer was first, and its notification has failed or gone since; claim again."""
    INVALID_METADATA = "invalid_metadata"
    """The database's constraints refuse the metadata; correct it."""
    INVALID_CLAIM = "invalid_claim"
    """The database finds a field missing or out of bounds; correct it."""


class ClaimOutcome(Row):
    """What became of one claim: its new pending notification, or the reason there is none."""

    notification: ScenarioNotification | None = None
    skip_reason: SkipReason | None = None
    held_by: UUID | None = None
    """The id of the notification that stands in the way, where there is one."""
    ends_at: AwareDatetime | None = None
    """When the cooldown ends."""

    @property
    def claimed(self) -> bool:
        """Whether the notification is the caller's to send."""
        return self.notification is not None


class EvaluationPage(Row):
    """What evaluating one page of mentors came to."""

    evaluated: int
    """Active mentors (one per organization) for whom the scenario is enabled."""
    due: int
    claimed: int
    """New pending notifications; in a dry run, those there would be."""
    skipped: dict[SkipReason, int]
    next_after: UUID | None
    """Where the next page starts; None after the last."""


class ScenarioExplanation(Row):
    """Why a mentor would or would not be notified by the next evaluation."""

    scenario_type: ScenarioType
    organization_id: UUID
    is_due: bool
    reason: str
    """``mentor_not_active``, ``scenario_disabled``, ``cooldown``, or the rule's finding (see the migration of the
    scenario rules), such as ``recently_active``."""
    facts: dict[str, JsonValue]
    """What the reason rests on: dates, counts and certificate ids."""
    milestone_value: int | None
    held_by: UUID | None
    held_since: AwareDatetime | None
    ends_at: AwareDatetime | None
    """When the cooldown ends, where there is one."""


class DeviceToken(Row):
    """Where to deliver to one of the user's devices."""

    token: str = Field(repr=False)
    platform: str


class DeliveryResult(StrEnum):
    """What became of an attempt to deliver."""

    SENT = "sent"
    RETRY = "retry"
    FAILED = "failed"
    RELEASED = "released"
    """Not tried; due again at once."""


class Settlement(Input):
    """The result of one lease, to be recorded. ``failure_code`` is a short code, never the provider's own text."""

    id: Id
    attempt_count: PositiveInteger
    result: DeliveryResult
    failure_code: FailureCode | None = None

    @model_validator(mode="after")
    def _failure_code_only_for_failures(self) -> Self:
        if self.failure_code is not None and self.result not in {DeliveryResult.RETRY, DeliveryResult.FAILED}:
            raise InvalidDataException(f"Settlement.failure_code: expected nothing for {self.result}, got a code")
        return self


class SettlementAnswer(StrEnum):
    """What a settlement made of its notification, or why it was refused."""

    SENT = "sent"
    PENDING = "pending"
    """To be tried again."""
    FAILED = "failed"
    """For good; the cooldown or milestone is free again."""
    LEASE_LOST = "lease_lost"
    """The lease ran out and another worker has the notification now."""
    ALREADY_SETTLED = "already_settled"
    UNKNOWN = "unknown"
    """There is no such notification (any more)."""


class LeasedNotification(ScenarioNotification):
    """A pending notification that is this worker's to send until the lease runs out."""

    attempt_count: int
    """Which attempt this is, from 1; it identifies the lease."""
    device_tokens: tuple[DeviceToken, ...]
    """The user's devices; empty for a user without any."""

    def settlement(self, result: DeliveryResult, failure_code: str | None = None) -> Settlement:
        """Say what became of this lease."""
        return Settlement(id=self.id, attempt_count=self.attempt_count, result=result, failure_code=failure_code)


class ReportLine(Row):
    """How many notifications of one type and status an organization had on one day (UTC)."""

    day: date
    scenario_type: ScenarioType
    delivery_status: DeliveryStatus
    notifications: int


class OrganizationReport(Row):
    """An organization's notifications from ``since`` (inclusive) to ``until`` (exclusive), day by day."""

    organization_id: UUID
    since: AwareDatetime
    until: AwareDatetime
    lines: tuple[ReportLine, ...]

    def count(self, scenario_type: ScenarioType | None = None, delivery_status: DeliveryStatus | None = None) -> int:
        """Sum the notifications of a type, of a status, of both or of all."""
        return sum(
            line.notifications
            for line in self.lines
            if scenario_type in {None, line.scenario_type} and delivery_status in {None, line.delivery_status}
        )


def refuse_misplaced_milestone_value(name: str, scenario_type: ScenarioType, milestone_value: int | None) -> None:
    """Raise InvalidDataException unless a milestone value is there exactly when the type is milestone.

    The rule of the CHECK ``scenario_notifications_milestone_value_only_for_milestones``.
    """
    if scenario_type is ScenarioType.MILESTONE and milestone_value is None:
        raise InvalidDataException(f"{name}.milestone_value: expected a positive integer for a milestone, got nothing")
    if scenario_type is not ScenarioType.MILESTONE and milestone_value is not None:
        raise InvalidDataException(f"{name}.milestone_value: expected nothing for {scenario_type}, got an integer")
