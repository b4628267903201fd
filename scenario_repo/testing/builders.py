"""A builder for every public value: defaults that fit together, and any field given replaces its default.

    a_leased_notification(scenario_type="welcome_back", device_tokens=())

The moments lie around :data:`NOON`, a Monday; ids of rows are new each time, the user and the organization are always
:data:`USER_ID` and :data:`ORGANIZATION_ID`. What follows from a given field follows it: a milestone has a value, what
is sent or failed was settled, what was skipped has a reason.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Unpack
from uuid import UUID, uuid4

from scenario_repo import _postgrest
from scenario_repo.facts import CertificationExpiryFacts, InactivityFacts, MilestoneFacts, WelcomeBackFacts
from scenario_repo.models import (
    ClaimOutcome,
    DeliveryResult,
    DeliveryStatus,
    DeviceToken,
    DueMentor,
    EvaluationPage,
    FailureReason,
    Lease,
    LeasedClaimOutcome,
    LeasedNotification,
    NewScenarioNotification,
    NotificationClaim,
    NotificationOrigin,
    OrganizationReport,
    ReportLine,
    RetryAnswer,
    RetryOutcome,
    RuleCheck,
    RuleSample,
    ScenarioExplanation,
    ScenarioNotification,
    ScenarioPass,
    ScenarioType,
    SchemaDescription,
    Settlement,
    SkipReason,
)
from scenario_repo.outcomes import NotificationPast, OutcomeDifference, OutcomeGroup, Outcomes
from scenario_repo.person import DataRows, Erasure, PersonalData
from scenario_repo.policies import DayOff, DeliveryPolicy, Mute, NewDayOff, NewMute
from scenario_repo.reports import EngineReport, ScenarioReport
from scenario_repo.settings import ScenarioSettings
from scenario_repo.simulation import Simulation
from scenario_repo.status import (
    FailureCount,
    LeftOut,
    LeftOutPass,
    PendingNotification,
    PurgedPage,
    ScenarioStatus,
    Status,
)
from scenario_repo.testing import _given
from scenario_repo.verification import InstallationFault, Verification

USER_ID: Final = UUID("0b6c1f1e-6f0c-4e0a-9f1b-2d4f5a6b7c8d")
ORGANIZATION_ID: Final = UUID("7d9e2c3b-4a5f-4b6c-8d7e-9f0a1b2c3d4e")
NOON: Final = datetime(2026, 11, 2, 12, tzinfo=UTC)
MILESTONE: Final = 10

_DAY: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)


def a_new_notification(**fields: Unpack[_given.NewNotificationFields]) -> NewScenarioNotification:
    """Build what an app inserts: inactivity, or a milestone where its value is given."""
    return NewScenarioNotification(**{**_about(fields), **fields})


def a_notification(**fields: Unpack[_given.NotificationFields]) -> ScenarioNotification:
    """Build a stored notification: pending, unless its status is given."""
    return ScenarioNotification(**{**_stored(fields), **fields})


def a_leased_notification(**fields: Unpack[_given.LeasedNotificationFields]) -> LeasedNotification:
    """Build a notification in its first lease, for a user with one device."""
    stored = _stored(fields) | {"origin": NotificationOrigin.CLAIM}
    lease = {
        "lease_number": 1,
        "attempt_count": 1,
        "leased_until": stored["triggered_at"] + 5 * _MINUTE,
        "device_tokens": (a_device_token(),),
    }
    return LeasedNotification(**{**stored, **lease, **fields})


def a_device_token(**fields: Unpack[_given.DeviceTokenFields]) -> DeviceToken:
    """Build the push address of an iPhone."""
    return DeviceToken(**{"token": "a-device-token", "platform": "ios", **fields})


def a_claim(**fields: Unpack[_given.ClaimFields]) -> NotificationClaim:
    """Build a claim with a cooldown of a week; a milestone, which has none, where its value is given."""
    about = _about(fields)
    cooldown = None if about["scenario_type"] == ScenarioType.MILESTONE else 7 * _DAY
    return NotificationClaim(**{**about, "cooldown": cooldown, **fields})


def an_outcome(**fields: Unpack[_given.OutcomeFields]) -> ClaimOutcome:
    """Build the outcome of a granted claim, or of one that was skipped where its reason is given."""
    granted = {"notification": a_notification(origin=NotificationOrigin.CLAIM)}
    return ClaimOutcome(**{**(_skipped(fields["skip_reason"]) if fields.get("skip_reason") else granted), **fields})


def a_leased_outcome(**fields: Unpack[_given.LeasedOutcomeFields]) -> LeasedClaimOutcome:
    """Build the outcome of a claim with a lease, as :func:`an_outcome` does."""
    granted = {"notification": a_leased_notification()}
    return LeasedClaimOutcome(
        **{**(_skipped(fields["skip_reason"]) if fields.get("skip_reason") else granted), **fields}
    )


def a_lease(**fields: Unpack[_given.LeaseFields]) -> Lease:
    """Build the answer to a request for a lease, of one notification."""
    return Lease(**{"leased": (a_leased_notification(),), **fields})


def a_settlement(**fields: Unpack[_given.SettlementFields]) -> Settlement:
    """Build the settlement of a first lease: sent, unless its result is given."""
    failed = fields.get("result") is DeliveryResult.FAILED
    default = {"id": uuid4(), "lease_number": 1, "result": DeliveryResult.SENT}
    return Settlement(**{**default, **({"failure_code": "rejected"} if failed else {}), **fields})


def a_due_mentor(**fields: Unpack[_given.DueMentorFields]) -> DueMentor:
    """Build a mentor whom a dry run of inactivity would claim for."""
    return DueMentor(**{"user_id": USER_ID, "organization_id": ORGANIZATION_ID, "finding": "inactive", **fields})


def a_scenario_pass(**fields: Unpack[_given.ScenarioPassFields]) -> ScenarioPass:
    """Build the place of inactivity in a run: the first, with pages of which no size is known."""
    return ScenarioPass(**{"scenario_type": ScenarioType.INACTIVITY, "place": 1, "page_size": None, **fields})


def an_evaluation_page(**fields: Unpack[_given.EvaluationPageFields]) -> EvaluationPage:
    """Build the counts of the only page: ten mentors, of whom one is due and claimed."""
    return EvaluationPage(**{**_counted(fields), "next_after": None, **fields})


def a_scenario_report(**fields: Unpack[_given.ScenarioReportFields]) -> ScenarioReport:
    """Build what a run did for one scenario type, in one page."""
    default = {"scenario_type": ScenarioType.INACTIVITY, "pages": 1, "seconds": 0.1}
    return ScenarioReport(**{**default, **_counted(fields), "completed": fields.get("error") is None, **fields})


def an_engine_report(**fields: Unpack[_given.EngineReportFields]) -> EngineReport:
    """Build what a run did, for inactivity alone unless its scenarios are given."""
    default: dict[str, Any] = {"scenarios": (a_scenario_report(),), "dry_run": False}
    scenarios = fields.get("scenarios", default["scenarios"])
    return EngineReport(**{**default, "seconds": sum(one.seconds for one in scenarios), **fields})


def a_schema_description(**fields: Unpack[_given.SchemaFields]) -> SchemaDescription:
    """Build the description of the schema that this library needs, with the built-in scenarios."""
    default = {"version": _postgrest.SCHEMA_VERSION, "scenario_types": tuple(ScenarioType)}
    return SchemaDescription(**{**default, **fields})


def an_installation_fault(**fields: Unpack[_given.InstallationFaultFields]) -> InstallationFault:
    """Build the fault of a table without row level security."""
    table = "public.scenario_mutes"
    default = {
        "what": f"{table}: expected row level security, got none",
        "mend": f"alter table {table} enable row level security;",
    }
    return InstallationFault(**{**default, **fields})


def a_verification(**fields: Unpack[_given.VerificationFields]) -> Verification:
    """Build the verification of an installation without a fault."""
    return Verification(**{"schema_version": _postgrest.SCHEMA_VERSION, "faults": (), **fields})


def a_rule_sample(**fields: Unpack[_given.RuleSampleFields]) -> RuleSample:
    """Build a mentor who is due by the rule of inactivity."""
    default = {
        "user_id": USER_ID,
        "organization_id": ORGANIZATION_ID,
        "milestone_value": None,
        "finding": "inactive",
        "facts": inactivity_facts().model_dump(mode="json"),
    }
    return RuleSample(**{**default, **fields})


def a_rule_check(**fields: Unpack[_given.RuleCheckFields]) -> RuleCheck:
    """Build the check of a rule without a fault, by which one of ten mentors is due."""
    default = {
        "scenario_type": ScenarioType.INACTIVITY,
        "faults": (),
        "mentors": 10,
        "is_complete": True,
        "samples": (a_rule_sample(),),
        "page_plan": ("Index Scan",),
        "look_up_plan": ("Index Scan",),
    }
    samples = fields.get("samples", default["samples"])
    return RuleCheck(**{**default, "due": len(samples) if isinstance(samples, tuple) else 1, **fields})


def an_explanation(**fields: Unpack[_given.ExplanationFields]) -> ScenarioExplanation:
    """Build why a mentor is due for inactivity; or is not, where something holds."""
    held = fields.get("held_by") is not None
    default = {
        "scenario_type": ScenarioType.INACTIVITY,
        "organization_id": ORGANIZATION_ID,
        "is_due": not held and fields.get("reason", "inactive") == "inactive",
        "reason": "cooldown" if held else "inactive",
        "facts": inactivity_facts().model_dump(mode="json"),
        "milestone_value": None,
        "held_by": None,
        "held_since": NOON - _DAY if held else None,
        "ends_at": NOON + 6 * _DAY if held else None,
    }
    return ScenarioExplanation(**{**default, **fields})


def a_retry_outcome(**fields: Unpack[_given.RetryOutcomeFields]) -> RetryOutcome:
    """Build the outcome of a retry: freed for the next evaluation; recorded anew where that is the answer."""
    recorded = fields.get("answer") == RetryAnswer.RECORDED
    return RetryOutcome(**{"answer": RetryAnswer.FREED, "notification_id": uuid4() if recorded else None, **fields})


def a_report_line(**fields: Unpack[_given.ReportLineFields]) -> ReportLine:
    """Build one day's line of five sent notifications; failed ones could not be delivered."""
    failed = fields.get("delivery_status") == DeliveryStatus.FAILED
    default = {
        "day": NOON.date(),
        "scenario_type": ScenarioType.INACTIVITY,
        "delivery_status": DeliveryStatus.SENT,
        "failure_code": FailureReason.EXPIRED if failed else None,
        "notifications": 5,
    }
    return ReportLine(**{**default, **fields})


def a_report(**fields: Unpack[_given.ReportFields]) -> OrganizationReport:
    """Build an organization's report on one day."""
    midnight = NOON.replace(hour=0)
    default = {
        "organization_id": ORGANIZATION_ID,
        "since": midnight,
        "until": midnight + _DAY,
        "lines": (a_report_line(),),
        "time_zone": "UTC",
    }
    return OrganizationReport(**{**default, **fields})


def a_scenario_status(**fields: Unpack[_given.ScenarioStatusFields]) -> ScenarioStatus:
    """Build how inactivity stands after a pass at noon: one was claimed, and is due."""
    default = {
        "scenario_type": ScenarioType.INACTIVITY,
        "is_enabled": True,
        "overriding": 0,
        "evaluated": 10,
        "due": 1,
        "claimed": 1,
        "skipped": 0,
        "history": 0,
        "seconds": 0.1,
        "finished_at": NOON,
        "is_under_way": False,
        "organization_pass_finished_at": None,
        "waiting": 0,
        "due_now": 1,
        "leased": 0,
        "unsettled": 0,
        "oldest_due_at": NOON if fields.get("due_now", 1) else None,
    }
    return ScenarioStatus(**{**default, **fields})


def a_failure_count(**fields: Unpack[_given.FailureCountFields]) -> FailureCount:
    """Build a count of one that expired in the last week."""
    default = {"scenario_type": ScenarioType.INACTIVITY, "failure_code": FailureReason.EXPIRED, "last_day": 0}
    return FailureCount(**{**default, "last_week": max(1, fields.get("last_day", 0)), **fields})


def a_status(**fields: Unpack[_given.StatusFields]) -> Status:
    """Build how things stand where nothing failed, with inactivity alone unless its scenarios are given."""
    default = {"version": _postgrest.SCHEMA_VERSION, "scenarios": (a_scenario_status(),), "failures": ()}
    return Status(**{**default, **fields})


def a_left_out(**fields: Unpack[_given.LeftOutFields]) -> LeftOut:
    """Build a count of ten in their cooldown."""
    return LeftOut(**{"reason": SkipReason.COOLDOWN, "mentors": 10, **fields})


def a_left_out_pass(**fields: Unpack[_given.LeftOutPassFields]) -> LeftOutPass:
    """Build whom a pass of inactivity left out, which ended at noon."""
    default = {"scenario_type": ScenarioType.INACTIVITY, "finished_at": NOON, "left_out": (a_left_out(),)}
    return LeftOutPass(**{**default, **fields})


def an_outcome_group(**fields: Unpack[_given.OutcomeGroupFields]) -> OutcomeGroup:
    """Build a group of 80 persons, of whom 20 did it."""
    default = {"persons": 80, "hoped": 20, "share": 0.25, "lowest": 0.168, "highest": 0.355, "undecided": None}
    return OutcomeGroup(**{**default, **fields})


def an_outcome_difference(**fields: Unpack[_given.OutcomeDifferenceFields]) -> OutcomeDifference:
    """Build a difference of no difference."""
    return OutcomeDifference(**{"share": 0.0, "lowest": -0.133, "highest": 0.133, **fields})


def some_outcomes(**fields: Unpack[_given.OutcomesFields]) -> Outcomes:
    """Build what came of it where both groups did alike."""
    default = {
        "says_hope": True,
        "says_when": True,
        "told": an_outcome_group(),
        "not_told": an_outcome_group(),
        "difference": an_outcome_difference(),
    }
    return Outcomes(**{**default, **fields})


def a_notification_past(**fields: Unpack[_given.NotificationPastFields]) -> NotificationPast:
    """Build the past of a notification that was sent an hour after its trigger, and holds for its cooldown."""
    triggered_at = fields.get("triggered_at", NOON)
    is_pending = fields.get("delivery_status") == DeliveryStatus.PENDING
    default = {
        "id": uuid4(),
        "user_id": USER_ID,
        "organization_id": ORGANIZATION_ID,
        "scenario_type": ScenarioType.INACTIVITY,
        "origin": NotificationOrigin.EVALUATION,
        "triggered_at": triggered_at,
        "milestone_value": None,
        "delivery_status": DeliveryStatus.SENT,
        "deliver_until": triggered_at + 7 * _DAY,
        "settled_at": None if is_pending else triggered_at + timedelta(hours=1),
        "failure_code": None,
        "unsettled_at": None,
        "holds": True,
        "holds_until": triggered_at + 30 * _DAY,
        "next_attempt_at": triggered_at if is_pending else None,
        "leased_until": None,
        "lease_count": 0 if is_pending else None,
        "attempt_count": 0 if is_pending else None,
        "unsettled_leases": 0 if is_pending else None,
        "next_id": None,
        "next_triggered_at": None,
        "next_milestone_value": None,
    }
    return NotificationPast(**{**default, **fields})


def a_pending_notification(**fields: Unpack[_given.PendingNotificationFields]) -> PendingNotification:
    """Build a notification that waits for its first delivery."""
    triggered_at = fields.get("triggered_at", NOON)
    default = {
        "id": uuid4(),
        "user_id": USER_ID,
        "organization_id": ORGANIZATION_ID,
        "scenario_type": ScenarioType.INACTIVITY,
        "triggered_at": triggered_at,
        "deliver_until": triggered_at + 7 * _DAY,
        "failure_code": None,
        "next_attempt_at": triggered_at,
        "attempt_count": 0,
        "leased_until": None,
        "unsettled_leases": 0,
    }
    return PendingNotification(**{**default, **fields})


def a_purged_page(**fields: Unpack[_given.PurgedPageFields]) -> PurgedPage:
    """Build the last page of a purge, which deleted nothing."""
    return PurgedPage(**{"purged": 0, "next_after": None, **fields})


def a_simulation(**fields: Unpack[_given.SimulationFields]) -> Simulation:
    """Build a simulation of inactivity for all organizations, which changes nothing."""
    default = {"scenario_type": ScenarioType.INACTIVITY, "organization_id": None}
    pages = {"today": an_evaluation_page(), "simulated": an_evaluation_page()}
    return Simulation(**{**default, **pages, **fields})


def personal_data(**fields: Unpack[_given.PersonalDataFields]) -> PersonalData:
    """Build the data of a person of whom there is nothing."""
    sources: dict[str, DataRows] = {"mentors": (), "activities": (), "certificates": (), "device_tokens": ()}
    rows: dict[str, DataRows] = {"notifications": (), "handovers": (), "mutes": (), "turns": (), "passes": ()}
    return PersonalData(**{"user_id": USER_ID, "exported_at": NOON, **rows, "sources": sources, **fields})


def an_erasure(**fields: Unpack[_given.ErasureFields]) -> Erasure:
    """Build the erasure of a person of whom there was nothing."""
    return Erasure(**{"notifications": 0, "handovers": 0, "mutes": 0, "turns": 0, "passes": 0, **fields})


def some_settings(**fields: Unpack[_given.SettingsFields]) -> ScenarioSettings:
    """Build the default settings of inactivity: a month's cooldown."""
    return ScenarioSettings(**{"scenario_type": ScenarioType.INACTIVITY, "cooldown": 30 * _DAY, **fields})


def a_policy(**fields: Unpack[_given.PolicyFields]) -> DeliveryPolicy:
    """Build a policy of office hours in Oslo."""
    default = {
        "organization_id": ORGANIZATION_ID,
        "time_zone": "Europe/Oslo",
        "weekdays": (1, 2, 3, 4, 5),
        "opens_at": time(8),
        "closes_at": time(18),
        "min_gap": timedelta(hours=4),
    }
    return DeliveryPolicy(**{**default, **fields})


def a_new_day_off(**fields: Unpack[_given.NewDayOffFields]) -> NewDayOff:
    """Build the days of Christmas, or the one day that is given."""
    return NewDayOff(**{**_days(fields), **fields})


def a_day_off(**fields: Unpack[_given.DayOffFields]) -> DayOff:
    """Build days off as they are stored."""
    return DayOff(**{"id": uuid4(), "organization_id": None, "stops_clock": False, **_days(fields), **fields})


def a_new_mute(**fields: Unpack[_given.NewMuteFields]) -> NewMute:
    """Build a mute of inactivity, everywhere and for good."""
    return NewMute(**{"user_id": USER_ID, "scenario_type": ScenarioType.INACTIVITY, **fields})


def a_mute(**fields: Unpack[_given.MuteFields]) -> Mute:
    """Build a mute as it is stored."""
    default = {"id": uuid4(), "user_id": USER_ID, "organization_id": None, "muted_until": None}
    return Mute(**{**default, "scenario_type": ScenarioType.INACTIVITY, **fields})


def inactivity_facts(**fields: Unpack[_given.InactivityFactsFields]) -> InactivityFacts:
    """Build the facts of a mentor who went quiet 40 days ago."""
    return InactivityFacts(**{"last_activity_at": NOON - 40 * _DAY, **fields})


def milestone_facts(**fields: Unpack[_given.MilestoneFactsFields]) -> MilestoneFacts:
    """Build the facts of a milestone reached yesterday."""
    return MilestoneFacts(**{"activity_count": MILESTONE, "reached_at": NOON - _DAY, **fields})


def certification_expiry_facts(
    **fields: Unpack[_given.CertificationExpiryFactsFields],
) -> CertificationExpiryFacts:
    """Build the facts of a certificate that expires in ten days."""
    ids = fields.get("certificate_ids", ("3f0c8a52-0d43-4e7b-9a51-6c1d2e3f4a5b",))
    default = {"certificate_ids": ids, "expires_at": NOON + 10 * _DAY, "new_subjects": ids}
    return CertificationExpiryFacts(**{**default, **fields})


def welcome_back_facts(**fields: Unpack[_given.WelcomeBackFactsFields]) -> WelcomeBackFacts:
    """Build the facts of a mentor who came back yesterday, after 45 days."""
    default = {"returned_at": NOON - _DAY, "last_activity_before": NOON - 46 * _DAY}
    return WelcomeBackFacts(**{**default, **fields})


_FIELDS = Any
"""One of the classes of ``_given``."""


def _about(fields: _FIELDS) -> dict[str, Any]:
    """Return who is told about what."""
    kind = fields.get("scenario_type")
    if kind is None:
        kind = ScenarioType.MILESTONE if fields.get("milestone_value") is not None else ScenarioType.INACTIVITY
    value = MILESTONE if kind == ScenarioType.MILESTONE else None
    return {
        "user_id": USER_ID,
        "organization_id": ORGANIZATION_ID,
        "scenario_type": kind,
        "milestone_value": value,
    }


def _stored(fields: _FIELDS) -> dict[str, Any]:
    """Return what a row has beside what was given; its times follow one another."""
    triggered_at = fields.get("triggered_at", NOON)
    status = fields.get("delivery_status", DeliveryStatus.PENDING)
    failed = status == DeliveryStatus.FAILED
    return {
        **_about(fields),
        "id": uuid4(),
        "triggered_at": triggered_at,
        "delivery_status": DeliveryStatus.PENDING,
        "metadata": None,
        "cooldown_window_start": None,
        "failure_code": FailureReason.EXPIRED if failed else None,
        "origin": NotificationOrigin.INSERT,
        "subjects": (),
        "deliver_until": triggered_at + 7 * _DAY,
        "settled_at": None if status == DeliveryStatus.PENDING else triggered_at + _MINUTE,
        "held_until": None,
    }


def _skipped(reason: SkipReason | str | None) -> dict[str, Any]:
    """Return who holds and until when, for the reasons that have that."""
    held = {"held_by": uuid4(), "ends_at": NOON + 6 * _DAY} if reason == SkipReason.COOLDOWN else {}
    return held | ({"held_by": uuid4()} if reason == SkipReason.MILESTONE_REACHED else {})


def _counted(fields: _FIELDS) -> dict[str, Any]:
    """Return counts that add up: who is due is claimed or skipped."""
    skipped = fields.get("skipped", {})
    claimed = fields.get("claimed", 1)
    due = fields.get("due", claimed + sum(skipped.values()))
    return {"evaluated": max(10, due), "due": due, "claimed": claimed, "history": 0, "skipped": skipped}


def _days(fields: _FIELDS) -> dict[str, Any]:
    first = fields.get("first_day", date(2026, 12, 24))
    return {"first_day": first, "last_day": first if "first_day" in fields else date(2026, 12, 26)}
