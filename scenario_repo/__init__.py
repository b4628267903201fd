"""Who is due for which notification, recorded exactly once: scenario notifications on Supabase.

A worker opens a client and asks; PostgreSQL makes every decision::

    async with connect() as client:  # SUPABASE_URL and SUPABASE_SECRET_KEY
        repository = ScenarioNotificationRepository(client)
        last = await repository.get_last_sent_at(user_id, ScenarioType.INACTIVITY)

Code without an event loop has the same surface in :mod:`scenario_repo.blocking`.

Values are frozen models (:mod:`scenario_repo.models`); every error is a
:class:`ScenarioRepositoryException` (:mod:`scenario_repo.exceptions`).
"""

from scenario_repo.client import connect, connect_as_user, open_http_client
from scenario_repo.delivery import DeliveryWorker
from scenario_repo.engine import ScenarioTriggerEngine
from scenario_repo.exceptions import (
    ConfigurationException,
    DuplicateNotificationException,
    InvalidDataException,
    PermissionDeniedException,
    ScenarioRepositoryException,
    SchemaNotMigratedException,
    UnavailableException,
    UnexpectedResponseException,
    UnknownReferenceException,
)
from scenario_repo.facts import (
    CertificationExpiryFacts,
    InactivityFacts,
    MilestoneFacts,
    ScenarioFacts,
    WelcomeBackFacts,
)
from scenario_repo.models import (
    CancelAnswer,
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
    SettlementAnswer,
    SkipReason,
)
from scenario_repo.outcomes import NotificationPast, OutcomeDifference, OutcomeGroup, Outcomes
from scenario_repo.person import Erasure, PersonalData
from scenario_repo.policies import DayOff, DeliveryPolicy, Mute, NewDayOff, NewMute
from scenario_repo.reports import EngineReport, ScenarioReport
from scenario_repo.repository import ScenarioNotificationRepository
from scenario_repo.senders import (
    DeliverLater,
    InvalidDeviceToken,
    PermanentDeliveryError,
    SenderFailingError,
    SuppressDelivery,
)
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
from scenario_repo.verification import InstallationFault, Verification

__all__ = [
    "CancelAnswer",
    "CertificationExpiryFacts",
    "ClaimOutcome",
    "ConfigurationException",
    "DayOff",
    "DeliverLater",
    "DeliveryPolicy",
    "DeliveryResult",
    "DeliveryStatus",
    "DeliveryWorker",
    "DeviceToken",
    "DueMentor",
    "DuplicateNotificationException",
    "EngineReport",
    "Erasure",
    "EvaluationPage",
    "FailureCount",
    "FailureReason",
    "InactivityFacts",
    "InstallationFault",
    "InvalidDataException",
    "InvalidDeviceToken",
    "Lease",
    "LeasedClaimOutcome",
    "LeasedNotification",
    "LeftOut",
    "LeftOutPass",
    "MilestoneFacts",
    "Mute",
    "NewDayOff",
    "NewMute",
    "NewScenarioNotification",
    "NotificationClaim",
    "NotificationOrigin",
    "NotificationPast",
    "OrganizationReport",
    "OutcomeDifference",
    "OutcomeGroup",
    "Outcomes",
    "PendingNotification",
    "PermanentDeliveryError",
    "PermissionDeniedException",
    "PersonalData",
    "PurgedPage",
    "ReportLine",
    "RetryAnswer",
    "RetryOutcome",
    "RuleCheck",
    "RuleSample",
    "ScenarioExplanation",
    "ScenarioFacts",
    "ScenarioNotification",
    "ScenarioNotificationRepository",
    "ScenarioPass",
    "ScenarioReport",
    "ScenarioRepositoryException",
    "ScenarioSettings",
    "ScenarioStatus",
    "ScenarioTriggerEngine",
    "ScenarioType",
    "SchemaDescription",
    "SchemaNotMigratedException",
    "SenderFailingError",
    "Settlement",
    "SettlementAnswer",
    "Simulation",
    "SkipReason",
    "Status",
    "SuppressDelivery",
    "UnavailableException",
    "UnexpectedResponseException",
    "UnknownReferenceException",
    "Verification",
    "WelcomeBackFacts",
    "connect",
    "connect_as_user",
    "open_http_client",
]
