"""What may be given to each builder, typed: the fields of its value, all of them optional."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import TypedDict
from uuid import UUID

from pydantic import JsonValue

from scenario_repo.exceptions import ScenarioRepositoryException
from scenario_repo.models import (
    DeliveryResult,
    DeliveryStatus,
    DeviceToken,
    DueMentor,
    EvaluationPage,
    LeasedNotification,
    NotificationOrigin,
    ReportLine,
    RetryAnswer,
    RuleSample,
    ScenarioNotification,
    ScenarioType,
    SkipReason,
)
from scenario_repo.outcomes import OutcomeDifference, OutcomeGroup
from scenario_repo.person import DataRows
from scenario_repo.reports import ScenarioReport
from scenario_repo.status import FailureCount, LeftOut, ScenarioStatus
from scenario_repo.verification import InstallationFault

Facts = dict[str, JsonValue]


class NewNotificationFields(TypedDict, total=False):
    """The fields of a NewScenarioNotification."""

    user_id: UUID
    organization_id: UUID
    scenario_type: ScenarioType | str
    milestone_value: int | None
    metadata: Facts | None
    delivery_status: DeliveryStatus
    triggered_at: datetime | None
    subjects: tuple[str, ...]


class NotificationFields(TypedDict, total=False):
    """The fields of a ScenarioNotification."""

    id: UUID
    user_id: UUID
    organization_id: UUID
    scenario_type: ScenarioType | str
    triggered_at: datetime
    delivery_status: DeliveryStatus | str
    milestone_value: int | None
    metadata: Facts | None
    cooldown_window_start: datetime | None
    failure_code: str | None
    origin: NotificationOrigin | str
    subjects: tuple[str, ...]
    deliver_until: datetime
    settled_at: datetime | None
    held_until: datetime | None


class LeasedNotificationFields(NotificationFields, total=False):
    """The fields of a LeasedNotification."""

    lease_number: int
    attempt_count: int
    leased_until: datetime
    unsettled_leases: int
    device_tokens: tuple[DeviceToken, ...]


class ClaimFields(TypedDict, total=False):
    """The fields of a NotificationClaim."""

    user_id: UUID
    organization_id: UUID
    scenario_type: ScenarioType | str
    cooldown: timedelta | None
    milestone_value: int | None
    metadata: Facts | None
    subjects: tuple[str, ...]


class OutcomeFields(TypedDict, total=False):
    """The fields of a ClaimOutcome."""

    notification: ScenarioNotification | None
    skip_reason: SkipReason | str | None
    held_by: UUID | None
    ends_at: datetime | None
    new_subjects: tuple[str, ...]


class LeasedOutcomeFields(TypedDict, total=False):
    """The fields of a LeasedClaimOutcome."""

    notification: LeasedNotification | None
    skip_reason: SkipReason | str | None
    held_by: UUID | None
    ends_at: datetime | None
    new_subjects: tuple[str, ...]


class LeaseFields(TypedDict, total=False):
    """The fields of a Lease."""

    leased: tuple[LeasedNotification, ...]
    deferred: int
    failed: dict[str, int]
    rule_failed: int
    has_more: bool
    next_due_at: datetime | None


class SettlementFields(TypedDict, total=False):
    """The fields of a Settlement."""

    id: UUID
    lease_number: int
    result: DeliveryResult
    failure_code: str | None
    retry_after: timedelta | None
    reached: tuple[str, ...]
    invalid_tokens: tuple[str, ...]


class DeviceTokenFields(TypedDict, total=False):
    """The fields of a DeviceToken."""

    token: str
    platform: str


class DueMentorFields(TypedDict, total=False):
    """The fields of a DueMentor."""

    user_id: UUID
    organization_id: UUID
    milestone_value: int | None
    finding: str | None


class ScenarioPassFields(TypedDict, total=False):
    """The fields of a ScenarioPass."""

    scenario_type: ScenarioType | str
    place: int
    page_size: int | None


class EvaluationPageFields(TypedDict, total=False):
    """The fields of an EvaluationPage."""

    evaluated: int
    due: int
    claimed: int
    history: int
    skipped: dict[SkipReason | str, int]
    next_after: UUID | None
    due_mentors: tuple[DueMentor, ...]


class ScenarioReportFields(TypedDict, total=False):
    """The fields of a ScenarioReport."""

    scenario_type: ScenarioType | str
    evaluated: int
    due: int
    claimed: int
    history: int
    skipped: dict[SkipReason | str, int]
    pages: int
    seconds: float
    completed: bool
    error: ScenarioRepositoryException | None
    due_mentors: tuple[DueMentor, ...]


class EngineReportFields(TypedDict, total=False):
    """The fields of an EngineReport."""

    scenarios: tuple[ScenarioReport, ...]
    seconds: float
    dry_run: bool


class SchemaFields(TypedDict, total=False):
    """The fields of a SchemaDescription."""

    version: int
    scenario_types: tuple[ScenarioType | str, ...]


class InstallationFaultFields(TypedDict, total=False):
    """The fields of an InstallationFault."""

    what: str
    mend: str | None


class VerificationFields(TypedDict, total=False):
    """The fields of a Verification."""

    schema_version: int
    faults: tuple[InstallationFault, ...]


class RuleSampleFields(TypedDict, total=False):
    """The fields of a RuleSample."""

    user_id: UUID
    organization_id: UUID
    milestone_value: int | None
    finding: str | None
    facts: Facts | None


class RuleCheckFields(TypedDict, total=False):
    """The fields of a RuleCheck."""

    scenario_type: ScenarioType | str
    faults: tuple[str, ...]
    mentors: int
    due: int
    is_complete: bool
    samples: tuple[RuleSample, ...]
    page_plan: tuple[str, ...]
    look_up_plan: tuple[str, ...]


class ExplanationFields(TypedDict, total=False):
    """The fields of a ScenarioExplanation."""

    scenario_type: ScenarioType | str
    organization_id: UUID
    is_due: bool
    reason: str
    facts: Facts
    milestone_value: int | None
    held_by: UUID | None
    held_since: datetime | None
    ends_at: datetime | None


class RetryOutcomeFields(TypedDict, total=False):
    """The fields of a RetryOutcome."""

    answer: RetryAnswer | str
    notification_id: UUID | None


class ReportLineFields(TypedDict, total=False):
    """The fields of a ReportLine."""

    day: date | None
    scenario_type: ScenarioType | str
    delivery_status: DeliveryStatus | str
    failure_code: str | None
    notifications: int | None


class ReportFields(TypedDict, total=False):
    """The fields of an OrganizationReport."""

    organization_id: UUID
    since: datetime
    until: datetime
    lines: tuple[ReportLine, ...]
    time_zone: str


class ScenarioStatusFields(TypedDict, total=False):
    """The fields of a ScenarioStatus."""

    scenario_type: ScenarioType | str
    is_enabled: bool
    overriding: int
    evaluated: int
    due: int
    claimed: int
    skipped: int
    history: int
    seconds: float
    finished_at: datetime | None
    is_under_way: bool
    organization_pass_finished_at: datetime | None
    waiting: int
    due_now: int
    leased: int
    unsettled: int
    oldest_due_at: datetime | None


class FailureCountFields(TypedDict, total=False):
    """The fields of a FailureCount."""

    scenario_type: ScenarioType | str
    failure_code: str | None
    last_day: int
    last_week: int


class StatusFields(TypedDict, total=False):
    """The fields of a Status."""

    version: int
    scenarios: tuple[ScenarioStatus, ...]
    failures: tuple[FailureCount, ...]


class LeftOutFields(TypedDict, total=False):
    """The fields of a LeftOut."""

    reason: str
    mentors: int | None


class LeftOutPassFields(TypedDict, total=False):
    """The fields of a LeftOutPass."""

    scenario_type: ScenarioType | str
    finished_at: datetime | None
    left_out: tuple[LeftOut, ...]


class OutcomeGroupFields(TypedDict, total=False):
    """The fields of an OutcomeGroup."""

    persons: int | None
    hoped: int | None
    share: float | None
    lowest: float | None
    highest: float | None
    undecided: int | None


class OutcomeDifferenceFields(TypedDict, total=False):
    """The fields of an OutcomeDifference."""

    share: float
    lowest: float
    highest: float


class OutcomesFields(TypedDict, total=False):
    """The fields of Outcomes."""

    says_hope: bool
    says_when: bool
    told: OutcomeGroup
    not_told: OutcomeGroup
    difference: OutcomeDifference | None


class NotificationPastFields(TypedDict, total=False):
    """The fields of a NotificationPast."""

    id: UUID
    user_id: UUID
    organization_id: UUID
    scenario_type: ScenarioType | str
    origin: NotificationOrigin | str
    triggered_at: datetime
    milestone_value: int | None
    delivery_status: DeliveryStatus | str
    deliver_until: datetime
    settled_at: datetime | None
    failure_code: str | None
    unsettled_at: datetime | None
    holds: bool
    holds_until: datetime | None
    next_attempt_at: datetime | None
    leased_until: datetime | None
    lease_count: int | None
    attempt_count: int | None
    unsettled_leases: int | None
    next_id: UUID | None
    next_triggered_at: datetime | None
    next_milestone_value: int | None


class PendingNotificationFields(TypedDict, total=False):
    """The fields of a PendingNotification."""

    id: UUID
    user_id: UUID
    organization_id: UUID
    scenario_type: ScenarioType | str
    triggered_at: datetime
    deliver_until: datetime
    failure_code: str | None
    next_attempt_at: datetime
    attempt_count: int
    leased_until: datetime | None
    unsettled_leases: int


class PurgedPageFields(TypedDict, total=False):
    """The fields of a PurgedPage."""

    purged: int
    next_after: UUID | None


class SimulationFields(TypedDict, total=False):
    """The fields of a Simulation."""

    scenario_type: ScenarioType | str
    organization_id: UUID | None
    today: EvaluationPage
    simulated: EvaluationPage


class PersonalDataFields(TypedDict, total=False):
    """The fields of PersonalData."""

    user_id: UUID
    exported_at: datetime
    notifications: DataRows
    handovers: DataRows
    mutes: DataRows
    turns: DataRows
    passes: DataRows
    sources: dict[str, DataRows]


class ErasureFields(TypedDict, total=False):
    """The fields of an Erasure."""

    notifications: int
    handovers: int
    mutes: int
    turns: int
    passes: int


class SettingsFields(TypedDict, total=False):
    """The fields of ScenarioSettings."""

    scenario_type: ScenarioType | str
    organization_id: UUID | None
    is_enabled: bool | None
    cooldown: timedelta | None
    inactive_after: timedelta | None
    returned_within: timedelta | None
    expires_within: timedelta | None
    milestones: tuple[int, ...] | None
    due_within: timedelta | None
    max_reminders: int | None
    retry_failed_after: timedelta | None
    deliver_within: timedelta | None
    max_attempts: int | None
    priority: int | None


class PolicyFields(TypedDict, total=False):
    """The fields of a DeliveryPolicy."""

    organization_id: UUID | None
    time_zone: str | None
    weekdays: tuple[int, ...] | None
    opens_at: time | None
    closes_at: time | None
    min_gap: timedelta | None


class NewDayOffFields(TypedDict, total=False):
    """The fields of a NewDayOff."""

    first_day: date
    last_day: date
    organization_id: UUID | None
    stops_clock: bool


class DayOffFields(NewDayOffFields, total=False):
    """The fields of a DayOff."""

    id: UUID


class NewMuteFields(TypedDict, total=False):
    """The fields of a NewMute."""

    user_id: UUID
    organization_id: UUID | None
    scenario_type: ScenarioType | str | None
    muted_until: datetime | None


class MuteFields(NewMuteFields, total=False):
    """The fields of a Mute."""

    id: UUID


class InactivityFactsFields(TypedDict, total=False):
    """The fields of InactivityFacts."""

    last_activity_at: datetime


class MilestoneFactsFields(TypedDict, total=False):
    """The fields of MilestoneFacts."""

    activity_count: int
    reached_at: datetime


class CertificationExpiryFactsFields(TypedDict, total=False):
    """The fields of CertificationExpiryFacts."""

    certificate_ids: tuple[str, ...]
    expires_at: datetime
    new_subjects: tuple[str, ...]


class WelcomeBackFactsFields(TypedDict, total=False):
    """The fields of WelcomeBackFacts."""

    returned_at: datetime
    last_activity_before: datetime
