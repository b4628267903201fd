"""The values that callers give and get: frozen, typed, without I/O.

Every datetime is aware; the database stores ``timestamptz``. Invalid input raises
:class:`~scenario_repo.exceptions.InvalidDataException` on construction, before anything is sent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import date, timedelta
from enum import Enum, StrEnum
from typing import Annotated, Final, Self, overload
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
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
    StoredInstant,
    Subjects,
    Token,
)
from scenario_repo._limits import MAX_RETRY_AFTER
from scenario_repo.exceptions import InvalidDataException
from scenario_repo.facts import (
    CertificationExpiryFacts,
    InactivityFacts,
    MilestoneFacts,
    ScenarioFacts,
    WelcomeBackFacts,
)


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


_FACTS: Final[dict[ScenarioType | str, type[ScenarioFacts]]] = {
    ScenarioType.INACTIVITY: InactivityFacts,
    ScenarioType.MILESTONE: MilestoneFacts,
    ScenarioType.CERTIFICATION_EXPIRY: CertificationExpiryFacts,
    ScenarioType.WELCOME_BACK: WelcomeBackFacts,
}


class DeliveryStatus(StrEnum):
    """The state of a notification, and what it holds: until when it refuses a later claim about the same."""

    PENDING = "pending"
    """It holds for the cooldown and for as long as it may be delivered; a milestone until it is settled."""
    SENT = "sent"
    """Final. It holds for the cooldown from when it was triggered or, if later, sent; a milestone for good."""
    FAILED = "failed"
    """Final. It holds until ``held_until``, which follows from the failure (:class:`FailureReason`)."""


StoredDeliveryStatus = Annotated[DeliveryStatus | str, LEFT_TO_RIGHT]
"""A delivery status from the database; one that this version does not know is kept as text."""


class NotificationOrigin(StrEnum):
    """Who made a notification."""

    EVALUATION = "evaluation"
    """An evaluation: before it is handed out, it is asked again whether the mentor is active and the type enabled."""
    CLAIM = "claim"
    """``claim_notifications``."""
    INSERT = "insert"
    """``insert_notification``, or a plain INSERT."""


StoredOrigin = Annotated[NotificationOrigin | str, LEFT_TO_RIGHT]
"""An origin from the database; one that this version does not know is kept as text."""


class FailureReason(StrEnum):
    """The failure codes that scenario_repo gives itself, and what a notification that failed with one holds.

    A sender may give any other code. That and ``attempts_spent`` (every try failed) are failures to deliver: they hold
    for the setting ``retry_failed_after``, doubled by each such failure in a row, at most for the cooldown (30 days for
    a milestone). Whatever the reason: after a lease that nobody settled, a failed notification holds as one sent when
    that lease ended, for the user may have been told.
    """

    SUPPRESSED = "suppressed"
    """The sender had nobody to send to. Holds for the cooldown (a milestone for good), but ends when the user registers
    a device; in a type that looks ahead, such as certificates, for ``retry_failed_after``."""
    CANCELLED = "cancelled"
    """An operator took it back. Holds for the cooldown, a milestone for good."""
    EXPIRED = "expired"
    """``deliver_until`` was over. Holds nothing if it was never tried, else as a failure to deliver."""
    USER_GONE = "user_gone"
    """The account is deleted. Holds nothing; as long as it lasts, the evaluation claims nothing for the user."""
    USER_BANNED = "user_banned"
    """The account is banned for now. Holds nothing, as above."""
    MENTOR_NOT_ACTIVE = "mentor_not_active"
    """No active mentor of the organization any more. Holds nothing, as above."""
    SCENARIO_DISABLED = "scenario_disabled"
    """The scenario is disabled for the organization. Holds nothing, as above."""
    MUTED = "muted"
    """The user does not want it. Holds nothing, as above."""
    NO_LONGER_DUE = "no_longer_due"
    """What it tells is no longer true. Holds nothing."""
    SUPERSEDED = "superseded"
    """A newer one tells the same. Holds nothing."""


_UNDELIVERED: Final = frozenset({FailureReason.EXPIRED})
"""Of these reasons, those that are failures to deliver all the same: nobody decided not to tell."""


def was_withheld(failure_code: str | None) -> bool:
    """Whether a failure of this code was a decision not to tell; else it is one that could not be delivered."""
    return failure_code in set(FailureReason) - _UNDELIVERED


class NewScenarioNotification(Input):
    """A notification to record without any check of the cooldown.

    ``triggered_at`` defaults to the database's ``now()``; give it to import history from elsewhere, and at most a day
    ahead. It counts for later claims: pending, it is handed out and holds like a claimed one; sent, it holds for the
    later claim's cooldown; failed, it holds nothing. Without ``subjects`` it holds every subject of its type.
    """

    user_id: Id
    organization_id: Id
    scenario_type: GivenScenarioType
    milestone_value: PositiveInteger | None = None
    metadata: Metadata = Field(default=None, repr=False)
    delivery_status: DeliveryStatus = DeliveryStatus.PENDING
    triggered_at: Instant | None = None
    subjects: Subjects = Field(default=(), repr=False)

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
    """What it rests on; :attr:`facts` has it typed. An evaluation writes the facts of the rule:

    * inactivity: ``last_activity_at``
    * milestone: ``activity_count``, ``reached_at``
    * certification_expiry: ``certificate_ids``, ``expires_at``, ``new_subjects``
    * welcome_back: ``returned_at``, ``last_activity_before``
    """
    cooldown_window_start: AwareDatetime | None
    """The ``triggered_at`` of the claim before this one (epoch for the first); None for a plain insert."""
    failure_code: str | None
    """Why it failed, or why the last attempt did: a :class:`FailureReason`, ``attempts_spent`` or a sender's code."""
    origin: StoredOrigin
    subjects: tuple[str, ...] = Field(repr=False)
    """The ids of everything it names, such as a certificate's; empty if it is about its scenario as a whole."""
    deliver_until: AwareDatetime
    """After this it is no longer handed out."""
    settled_at: AwareDatetime | None
    """When it became sent or failed; None while it is pending."""
    held_until: StoredInstant | None
    """For a failed one: until when it refuses a later claim (``datetime.max`` in UTC: for good); None: it does not."""

    @property
    def facts(self) -> ScenarioFacts | None:
        """The metadata as the facts of a built-in scenario; None for a type of the app's own, or other metadata."""
        model = _FACTS.get(self.scenario_type)
        try:
            return model.model_validate(self.metadata) if model is not None else None
        except ValidationError:
            return None


class NotificationClaim(Input):
    """A request for the right to notify, granted unless another notification holds.

    ``cooldown`` is the shortest time since the user's last notification of the scenario type that was or may have been
    told, positive and at most 36,525 days. A milestone has none: each user and value is claimed only once. What failed
    holds for a time of its own (:class:`FailureReason`).

    ``subjects`` are the ids of what it names, where a user may be told about several things of a type: at most 50, each
    of 1 to 100 characters without personal data. The claim is granted if at least one of them is not held; the
    notification then names all of them, and each is held. A claim without subjects is held by any notification of its
    type, and holds all of it.
    """

    user_id: Id
    organization_id: Id
    scenario_type: GivenScenarioType
    cooldown: Duration | None = None
    milestone_value: PositiveInteger | None = None
    metadata: Metadata = Field(default=None, repr=False)
    subjects: Subjects = Field(default=(), repr=False)

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
    """``held_by`` holds everything that the claim is about; claim again after ``ends_at``."""
    MILESTONE_REACHED = "milestone_reached"
    """``held_by`` is the record of this milestone; without ``ends_at`` it is for good, do not claim it again."""
    REMINDERS_SPENT = "reminders_spent"
    """The user was reminded of it as often as the settings allow (``max_reminders``); only an evaluation says so."""
    DUPLICATE_IN_BATCH = "duplicate_in_batch"
    """An earlier claim of the batch has the same user, type (and milestone) and all the subjects; see its outcome."""
    UNKNOWN_USER = "unknown_user"
    """The user does not exist (any more); drop the claim."""
    USER_GONE = "user_gone"
    """The user's account is deleted; an evaluation and a claim with a lease say so."""
    USER_BANNED = "user_banned"
    """The user is banned for now; an evaluation and a claim with a lease say so."""
    MUTED = "muted"
    """The user does not want it; an evaluation and a claim with a lease say so."""
    NOT_NOW = "not_now"
    """The user may not be told at this moment, or it is not her turn: claim again after ``ends_at``; a claim with a
    lease says so."""
    CONCURRENT_CLAIM = "concurrent_claim"
    """Another claim of the same user and type won the race, or stands earlier in the batch, and holds not all of what
    this one is about; claim again."""
    INVALID_METADATA = "invalid_metadata"
    """A constraint refuses the metadata; correct it."""
    INVALID_CLAIM = "invalid_claim"
    """A field is missing or out of bounds, or the type is unknown; correct it."""


StoredSkipReason = Annotated[SkipReason | str, LEFT_TO_RIGHT]
"""A skip reason from the database; one that this version does not know is kept as text."""


class ClaimOutcome(Row):
    """The result of one claim: its new pending notification, or the reason why there is none."""

    notification: ScenarioNotification | None = None
    skip_reason: StoredSkipReason | None = None
    held_by: UUID | None = None
    """The id of a notification that holds against the claim, if there is one."""
    ends_at: AwareDatetime | None = None
    """When that hold ends; None if it is for good."""
    new_subjects: tuple[str, ...] = Field(default=(), repr=False)
    """Of a granted claim's subjects, those that nothing held before."""

    @property
    def claimed(self) -> bool:
        """Whether the claim was granted: there is a pending notification to send."""
        return self.notification is not None


class ScenarioPass(Row):
    """Where a scenario stands when a run begins."""

    scenario_type: StoredScenarioType
    place: int
    """1 for the first of the run: who has waited longest for a page, or to be the first."""
    page_size: int | None
    """The size of a page that was found to be done in time; None where none is known."""


class DueMentor(Row):
    """A mentor whom a dry run would claim for, in the organization it would be for: ids only."""

    user_id: UUID
    organization_id: UUID
    milestone_value: int | None = None
    finding: str | None = None
    """The reason that the rule gives, as a code."""


class EvaluationPage(Row):
    """The counts of one evaluated page of mentors."""

    evaluated: int
    """Active mentors (one per organization) for whom the scenario is enabled."""
    due: int
    claimed: int
    """New pending notifications; in a dry run, those that would be claimed."""
    history: int
    """Mentors left out, since what would be told came true longer than ``due_within`` ago; they are not due."""
    skipped: dict[StoredSkipReason, int]
    next_after: UUID | None
    """Where the next page starts; None after the last."""
    due_mentors: tuple[DueMentor, ...] = ()
    """With ``list_due``: those who are counted as claimed, by ``user_id``; else empty."""


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
    """``user_gone``, ``user_banned``, ``mentor_not_active``, ``scenario_disabled``, ``muted``, ``cooldown`` (something
    holds), ``history`` (it came true longer than ``due_within`` ago), ``reminders_spent``, or the rule's finding, such
    as ``recently_active`` (supabase/schemas/rules has those of the built-in scenarios)."""
    facts: dict[str, JsonValue]
    """The evidence for the reason: dates, counts and certificate ids."""
    milestone_value: int | None
    held_by: UUID | None
    held_since: AwareDatetime | None
    ends_at: AwareDatetime | None
    """When the hold ends; None if there is none, or if it is for good."""


class DeviceToken(Row):
    """The push address of one of the user's devices."""

    token: str = Field(repr=False)
    platform: str


class DeliveryResult(StrEnum):
    """The result of an attempt to deliver."""

    SENT = "sent"
    RETRY = "retry"
    """Not delivered; due again after a while, or failed for good when all attempts are spent."""
    FAILED = "failed"
    """Can't be delivered; holds as :class:`FailureReason` says of a failure to deliver."""
    SUPPRESSED = "suppressed"
    """Nobody to send to: no device, no permission. Final, and nobody was told; no failure of the delivery."""
    RELEASED = "released"
    """Not tried; due again at once, and no attempt is spent."""


class Settlement(Input):
    """The result of one lease, to record; ``lease_number`` says which.

    ``failure_code`` is a short code of the sender's own, never the provider's text, and none of :class:`FailureReason`.
    """

    id: Id
    lease_number: PositiveInteger
    result: DeliveryResult
    failure_code: FailureCode | None = None
    retry_after: Duration | None = None
    """With a retry: due again after so long, at most 30 days, and no attempt is spent."""
    reached: tuple[Token, ...] = Field(default=(), repr=False)
    """The tokens of the devices that it has reached: it goes to the others alone, and is sent where it would fail."""
    invalid_tokens: tuple[Token, ...] = Field(default=(), repr=False)
    """The tokens that the provider does not know; removed, unless they were registered since."""

    @model_validator(mode="after")
    def _failure_code_only_for_failures(self) -> Self:
        if self.retry_after is not None and self.result is not DeliveryResult.RETRY:
            raise InvalidDataException(f"Settlement.retry_after: expected nothing for {self.result}, got a timedelta")
        if self.retry_after is not None and self.retry_after > MAX_RETRY_AFTER:
            raise InvalidDataException("Settlement.retry_after: expected at most 30 days, got a longer one")
        if self.failure_code is None:
            return self
        if self.result not in {DeliveryResult.RETRY, DeliveryResult.FAILED}:
            raise InvalidDataException(f"Settlement.failure_code: expected nothing for {self.result}, got a code")
        if self.failure_code in set(FailureReason):
            raise InvalidDataException(
                f"Settlement.failure_code: expected a code of the sender's own, got scenario_repo's {self.failure_code}"
            )
        return self


class SettlementAnswer(StrEnum):
    """The notification's state after a settlement, or why the settlement was refused."""

    SENT = "sent"
    PENDING = "pending"
    """It will be tried again."""
    FAILED = "failed"
    """Final: failed, suppressed, or all attempts spent. What it holds: :class:`FailureReason`."""
    LEASE_LOST = "lease_lost"
    """The lease ran out, and another worker has the notification now."""
    ALREADY_SETTLED = "already_settled"
    UNKNOWN = "unknown"
    """There is no such notification (any more)."""
    INVALID_SETTLEMENT = "invalid_settlement"
    """A field is missing or out of bounds; correct it."""


StoredSettlementAnswer = Annotated[SettlementAnswer | str, LEFT_TO_RIGHT]
"""An answer from the database; one that this version does not know is kept as text."""


class LeasedNotification(ScenarioNotification):
    """A pending notification that only its holder may send until the lease runs out."""

    held_until: StoredInstant | None = None
    lease_number: int
    """The token of this lease: it grows with every lease, and a settlement names it."""
    attempt_count: int
    """The number of this attempt, from 1. A released lease spent none."""
    leased_until: AwareDatetime
    """When the lease runs out, by the database's clock."""
    unsettled_leases: int = 0
    """How many leases in a row nobody settled: from two on it may be what its workers die of, and is handed out last
    and alone."""
    device_tokens: tuple[DeviceToken, ...]
    """The user's devices, without those that it has reached; may be empty."""

    def settlement(
        self,
        result: DeliveryResult,
        failure_code: str | None = None,
        *,
        retry_after: timedelta | None = None,
        reached: Sequence[str] = (),
        invalid_tokens: Sequence[str] = (),
    ) -> Settlement:
        """Build the settlement of this lease."""
        return Settlement(
            id=self.id,
            lease_number=self.lease_number,
            result=result,
            failure_code=failure_code,
            retry_after=retry_after,
            reached=tuple(reached),
            invalid_tokens=tuple(invalid_tokens),
        )


class Lease(Row, Sequence[LeasedNotification]):
    """The answer to a request for a lease: a sequence of the leased notifications, and what became of the others."""

    leased: tuple[LeasedNotification, ...] = ()
    deferred: int = 0
    """How many have to wait: for a moment that the organization's policy permits, or for their turn."""
    failed: dict[str, int] = Field(default_factory=dict)
    """How many were refused for good, by reason (:class:`FailureReason`, ``attempts_spent``)."""
    rule_failed: int = 0
    """How many were left for five minutes, for their scenario's rule failed."""
    has_more: bool = False
    """Whether there may be more that is due now."""
    next_due_at: AwareDatetime | None = None
    """If not, when the next one is due, of those in nobody's hands; None: nothing waits."""

    def without(self, others: Collection[LeasedNotification]) -> Self:
        """Return the same with only the other notifications."""
        return self.model_copy(update={"leased": tuple(one for one in self.leased if one not in others)})

    def __len__(self) -> int:
        """Count the leased notifications."""
        return len(self.leased)

    def __iter__(self) -> Iterator[LeasedNotification]:  # type: ignore[override]
        """Iterate over the leased notifications."""
        return iter(self.leased)

    @overload
    def __getitem__(self, index: int) -> LeasedNotification: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LeasedNotification]: ...
    def __getitem__(self, index: int | slice) -> LeasedNotification | Sequence[LeasedNotification]:
        """Return a leased notification, or some."""
        return self.leased[index]


class LeasedClaimOutcome(ClaimOutcome):
    """The result of a claim with a lease: a notification for the caller to send and settle, or why there is none."""

    notification: LeasedNotification | None = None
    """New, or one that an earlier call of the app's claimed and that nobody has in hand: ``attempt_count`` tells."""


class CancelAnswer(StrEnum):
    """What became of a notification that was to be cancelled."""

    CANCELLED = "cancelled"
    LEASED = "leased"
    """Somebody may be sending it; try again when the lease is over."""
    ALREADY_SETTLED = "already_settled"
    UNKNOWN = "unknown"
    """There is no such notification (any more)."""


StoredCancelAnswer = Annotated[CancelAnswer | str, LEFT_TO_RIGHT]
"""An answer from the database; one that this version does not know is kept as text."""


class RetryAnswer(StrEnum):
    """What became of a failed notification that was to be tried anew."""

    FREED = "freed"
    """An evaluation made it: the next one may claim the same again, if it is still due."""
    RECORDED = "recorded"
    """A claim or a plain insert made it: recorded anew."""
    PENDING = "pending"
    """It has not failed: it waits to be sent, or is being sent."""
    SENT = "sent"
    NOT_HELD = "not_held"
    """It holds nothing any more: an evaluation may claim the same already."""
    UNKNOWN = "unknown"
    """There is no such notification (any more)."""


StoredRetryAnswer = Annotated[RetryAnswer | str, LEFT_TO_RIGHT]
"""An answer from the database; one that this version does not know is kept as text."""


class RetryOutcome(Row):
    """What became of a failed notification that was to be tried anew, and the new one, if it was recorded anew."""

    answer: StoredRetryAnswer
    notification_id: UUID | None


class ReportLine(Row):
    """How many notifications of one type, status and failure code an organization had on one day."""

    day: date | None
    """None: together, on all days of which each has fewer than 5 persons behind this number."""
    scenario_type: StoredScenarioType
    delivery_status: StoredDeliveryStatus
    failure_code: str | None
    """Why they failed; None for those that did not, or without a reason."""
    notifications: int | None
    """None: fewer than 5 persons stand behind it, on these days together."""

    @property
    def was_withheld(self) -> bool:
        """Whether they failed because it was decided not to tell: a :class:`FailureReason` other than ``expired``."""
        return self.delivery_status is DeliveryStatus.FAILED and was_withheld(self.failure_code)

    @property
    def was_undelivered(self) -> bool:
        """Whether they failed because they could not be delivered: in time, in all attempts, or at all."""
        return self.delivery_status is DeliveryStatus.FAILED and not self.was_withheld


class OrganizationReport(Row):
    """An organization's notifications from ``since`` (inclusive) to ``until`` (exclusive), day by day.

    What fewer than 5 persons stand behind is in no number: see :meth:`not_counted`. A dump also has what failed, in two
    parts: ``undelivered`` and ``withheld``.
    """

    organization_id: UUID
    since: AwareDatetime
    until: AwareDatetime
    lines: tuple[ReportLine, ...]
    time_zone: str = "UTC"
    """Whose days they are."""

    def count(
        self, scenario_type: ScenarioType | str | None = None, delivery_status: DeliveryStatus | None = None
    ) -> int:
        """Count the notifications, optionally of one type, of one status or of both."""
        return sum(
            line.notifications or 0
            for line in self.lines
            if scenario_type in {None, line.scenario_type} and delivery_status in {None, line.delivery_status}
        )

    def not_counted(self) -> tuple[ReportLine, ...]:
        """Return the lines that no count has, since fewer than 5 persons stand behind each."""
        return tuple(line for line in self.lines if line.notifications is None)

    @model_serializer(mode="wrap")
    def _with_what_failed(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        dumped: dict[str, object] = handler(self)
        return dumped | {"undelivered": self.undelivered(), "withheld": self.withheld()}

    def withheld(self, scenario_type: ScenarioType | str | None = None) -> dict[str, int]:
        """Count what it was decided not to tell, by failure code, optionally of one type."""
        return self._failed([line for line in self.lines if line.was_withheld], scenario_type)

    def undelivered(self, scenario_type: ScenarioType | str | None = None) -> dict[str, int]:
        """Count what could not be delivered, by failure code (``unknown`` without one), optionally of one type."""
        return self._failed([line for line in self.lines if line.was_undelivered], scenario_type)

    @staticmethod
    def _failed(lines: Sequence[ReportLine], scenario_type: ScenarioType | str | None) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for line in lines:
            if scenario_type in {None, line.scenario_type} and line.notifications is not None:
                counts[line.failure_code or "unknown"] += line.notifications
        return dict(sorted(counts.items()))


def refuse_misplaced_milestone_value(name: str, scenario_type: ScenarioType | str, milestone_value: int | None) -> None:
    """Raise InvalidDataException unless a milestone value is given for a milestone, and only then.

    The same rule as the CHECK ``scenario_notifications_milestone_value_only_for_milestones``.
    """
    if scenario_type is ScenarioType.MILESTONE and milestone_value is None:
        raise InvalidDataException(f"{name}.milestone_value: expected a positive integer for a milestone, got nothing")
    if scenario_type is not ScenarioType.MILESTONE and milestone_value is not None:
        raise InvalidDataException(f"{name}.milestone_value: expected nothing for {scenario_type}, got an integer")
