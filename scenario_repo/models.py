"""The values that callers give and get: frozen, typed, without I/O.

Every datetime is aware; the database stores ``timestamptz``. Invalid input raises
:class:`~scenario_repo.exceptions.InvalidDataException` on construction, before anything is sent.
"""

from __future__ import annotations

import re
from datetime import date
from enum import Enum, StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from scenario_repo._fields import (
    Duration,
    FailureCode,
    Id,
    Input,
    Instant,
    Metadata,
    PositiveInteger,
    Row,
)
from scenario_repo.exceptions import InvalidDataException


class ScenarioType(StrEnum):
    """The scenario that a notification is about."""

    INACTIVITY = "inactivity"
    MILESTONE = "milestone"
    CERTIFICATION_EXPIRY = "certification_expiry"
    WELCOME_BACK = "welcome_back"


# The rule of scenario_private.add_scenario_type.
_TYPE_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def _scenario_type(value: object) -> object:
    # A word of another enum, a status for example, is a mistake.
    is_text = isinstance(value, str) and (isinstance(value, ScenarioType) or not isinstance(value, Enum))
    if is_text and _TYPE_NAME.fullmatch(str(value)):
        return value
    raise PydanticCustomError("scenario_type", "a scenario type")


LEFT_TO_RIGHT = Field(union_mode="left_to_right")
GivenScenarioType = Annotated[ScenarioType | str, LEFT_TO_RIGHT, BeforeValidator(_scenario_type)]
"""A scenario type given by the caller: a :class:`ScenarioType`, or the name of a type of the app's own."""
StoredScenarioType = Annotated[ScenarioType | str, LEFT_TO_RIGHT]
"""A scenario type from the database: a :class:`ScenarioType`, or text for a type of the app's own."""


class DeliveryStatus(StrEnum):
    """The state of a notification. ``failed`` is final, and frees the cooldown or milestone it held."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


StoredDeliveryStatus = Annotated[DeliveryStatus | str, LEFT_TO_RIGHT]
"""A delivery status from the database; one that this version does not know is kept as text."""


class NewScenarioNotification(Input):
    """A notification to record without any check of the cooldown.

    ``triggered_at`` defaults to the database's ``now()``; give it to import history from elsewhere.
    """

    user_id: Id
    organization_id: Id
    scenario_type: GivenScenarioType
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
    scenario_type: StoredScenarioType
    triggered_at: AwareDatetime
    delivery_status: StoredDeliveryStatus
    milestone_value: int | None
    metadata: dict[str, JsonValue] | None = Field(repr=False)
    cooldown_window_start: AwareDatetime | None
    """The ``triggered_at`` of the claim before this one (epoch for the first); None for a plain insert."""


class NotificationClaim(Input):
    """A request for the right to notify, granted unless the user's cooldown or milestone is held already.

    ``cooldown`` is the minimum time since the user's last pending or sent notification of the scenario type,
    positive and at most 36,525 days. A milestone has none: each user and value is claimed only once.
    """

    user_id: Id
    organization_id: Id
    scenario_type: GivenScenarioType
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
    """Why a claim was not granted, and what the caller can do."""

    COOLDOWN = "cooldown"
    """``held_by`` holds the cooldown; claim again after ``ends_at``."""
    MILESTONE_REACHED = "milestone_reached"
    """``held_by`` is the record of this milestone; do not claim it again."""
    DUPLICATE_IN_BATCH = "duplicate_in_batch"
    """An earlier claim of the batch has the same user and type (and milestone); see its outcome."""
    UNKNOWN_USER = "unknown_user"
    """The user does not exist (any more); drop the claim."""
    USER_GONE = "user_gone"
    """The user's account is deleted; only an evaluation says so."""
    USER_BANNED = "user_banned"
    """The user is banned for now; only an evaluation says so."""
    CONCURRENT_CLAIM = "concurrent_claim"
    """Another claimer won the race, but its notification has failed or been deleted since; claim again."""
    INVALID_METADATA = "invalid_metadata"
    """A constraint refuses the metadata; correct it."""
    INVALID_CLAIM = "invalid_claim"
    """A field is missing or out of bounds; correct it."""


StoredSkipReason = Annotated[SkipReason | str, LEFT_TO_RIGHT]
"""A skip reason from the database; one that this version does not know is kept as text."""


class ClaimOutcome(Row):
    """The result of one claim: its new pending notification, or the reason why there is none."""

    notification: ScenarioNotification | None = None
    skip_reason: StoredSkipReason | None = None
    held_by: UUID | None = None
    """The id of the notification that holds the cooldown or milestone, if there is one."""
    ends_at: AwareDatetime | None = None
    """When the cooldown ends."""

    @property
    def claimed(self) -> bool:
        """Whether there is a new pending notification, for a delivery worker to send."""
        return self.notification is not None


class EvaluationPage(Row):
    """The counts of one evaluated page of mentors."""

    evaluated: int
    """Active mentors (one per organization) for whom the scenario is enabled."""
    due: int
    claimed: int
    """New pending notifications; in a dry run, those that would be claimed."""
    skipped: dict[StoredSkipReason, int]
    next_after: UUID | None
    """Where the next page starts; None after the last."""


class SchemaDescription(Row):
    """What the database has of scenario_repo."""

    version: int
    """The schema's version; each release of the library needs at least one (``p_needs_schema`` of its calls)."""
    scenario_types: tuple[StoredScenarioType, ...]
    """The scenario types to evaluate: those that have default settings or a rule."""


class RuleSample(Row):
    """A mentor who is due by a rule."""

    user_id: UUID
    organization_id: UUID
    milestone_value: int | None
    finding: str | None
    facts: dict[str, JsonValue] | None = Field(repr=False)


class RuleCheck(Row):
    """What a rule does and how the database runs it, for whoever writes a rule."""

    scenario_type: StoredScenarioType
    faults: tuple[str, ...]
    """What breaks the contract of a rule, and which table is read whole to look one person up; empty if all is well."""
    mentors: int
    """The memberships looked at: the first 10,000 active ones for which the scenario is enabled."""
    due: int
    is_complete: bool
    """Whether these are all memberships."""
    samples: tuple[RuleSample, ...]
    page_plan: tuple[str, ...]
    """PostgreSQL's plan of a page of an evaluation."""
    look_up_plan: tuple[str, ...]
    """PostgreSQL's plan of a look-up of 100 persons."""


class ScenarioExplanation(Row):
    """Whether the next evaluation would notify a mentor, and why."""

    scenario_type: StoredScenarioType
    organization_id: UUID
    is_due: bool
    reason: str
    """``mentor_not_active``, ``scenario_disabled``, ``cooldown``, or the rule's finding, such as
    ``recently_active`` (supabase/schemas/rules has those of the built-in scenarios)."""
    facts: dict[str, JsonValue]
    """The evidence for the reason: dates, counts and certificate ids."""
    milestone_value: int | None
    held_by: UUID | None
    held_since: AwareDatetime | None
    ends_at: AwareDatetime | None
    """When the cooldown ends, if there is one."""


class DeviceToken(Row):
    """The push address of one of the user's devices."""

    token: str = Field(repr=False)
    platform: str


class DeliveryResult(StrEnum):
    """The result of an attempt to deliver."""

    SENT = "sent"
    RETRY = "retry"
    FAILED = "failed"
    RELEASED = "released"
    """Not sent; due again at once."""


class Settlement(Input):
    """The result of one lease, to record. ``failure_code`` is a short code, never the provider's own text."""

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
    """The notification's state after a settlement, or why the settlement was refused."""

    SENT = "sent"
    PENDING = "pending"
    """It will be tried again."""
    FAILED = "failed"
    """Final; the cooldown or milestone is free again."""
    LEASE_LOST = "lease_lost"
    """The lease ran out, and another worker has the notification now."""
    ALREADY_SETTLED = "already_settled"
    UNKNOWN = "unknown"
    """There is no such notification (any more)."""


StoredSettlementAnswer = Annotated[SettlementAnswer | str, LEFT_TO_RIGHT]
"""An answer from the database; one that this version does not know is kept as text."""


class LeasedNotification(ScenarioNotification):
    """A pending notification that only this worker may send until the lease runs out."""

    attempt_count: int
    """The number of this attempt, from 1; it identifies the lease."""
    device_tokens: tuple[DeviceToken, ...]
    """The user's devices; may be empty."""

    def settlement(self, result: DeliveryResult, failure_code: str | None = None) -> Settlement:
        """Build the settlement of this lease."""
        return Settlement(id=self.id, attempt_count=self.attempt_count, result=result, failure_code=failure_code)


class ReportLine(Row):
    """How many notifications of one type and status an organization had on one day (UTC)."""

    day: date
    scenario_type: StoredScenarioType
    delivery_status: StoredDeliveryStatus
    notifications: int


class OrganizationReport(Row):
    """An organization's notifications from ``since`` (inclusive) to ``until`` (exclusive), day by day."""

    organization_id: UUID
    since: AwareDatetime
    until: AwareDatetime
    lines: tuple[ReportLine, ...]

    def count(
        self, scenario_type: ScenarioType | str | None = None, delivery_status: DeliveryStatus | None = None
    ) -> int:
        """Count the notifications, optionally of one type, of one status or of both."""
        return sum(
            line.notifications
            for line in self.lines
            if scenario_type in {None, line.scenario_type} and delivery_status in {None, line.delivery_status}
        )


def refuse_misplaced_milestone_value(name: str, scenario_type: ScenarioType | str, milestone_value: int | None) -> None:
    """Raise InvalidDataException unless a milestone value is given for a milestone, and only then.

    The same rule as the CHECK ``scenario_notifications_milestone_value_only_for_milestones``.
    """
    if scenario_type is ScenarioType.MILESTONE and milestone_value is None:
        raise InvalidDataException(f"{name}.milestone_value: expected a positive integer for a milestone, got nothing")
    if scenario_type is not ScenarioType.MILESTONE and milestone_value is not None:
        raise InvalidDataException(f"{name}.milestone_value: expected nothing for {scenario_type}, got an integer")
