"""What came of notifications: of those who were told, beside those who could not be; and of a single one."""

from __future__ import annotations

from uuid import UUID

from pydantic import AwareDatetime

from scenario_repo._fields import Row
from scenario_repo.models import StoredDeliveryStatus, StoredOrigin, StoredScenarioType


class OutcomeGroup(Row):
    """Persons of one kind, and how many did what the scenario hopes for.

    A number that fewer than 5 persons stand behind is None: they could be told apart.
    """

    persons: int | None
    """How many whose time is over; each counts once, from the first time in the period."""
    hoped: int | None
    """How many of them did it in time; None also where fewer than 5 of them did not."""
    share: float | None
    lowest: float | None
    """Where the share's 95 % interval begins, by Wilson's score method."""
    highest: float | None
    undecided: int | None
    """How many more whose time is not over yet."""


class OutcomeDifference(Row):
    """The share of those who were told, less that of those who were not. It names no cause."""

    share: float
    lowest: float
    """Where its 95 % interval begins, by Newcombe's hybrid score method."""
    highest: float


class Outcomes(Row):
    """What came of an organization's notifications of one type."""

    says_hope: bool
    """Whether the type says what it hopes for; if not, there is no view ``scenario_private.<type>_hope``."""
    says_when: bool
    """False: of some who did it no date says when, and it may have been too late; so with renewed certificates."""
    told: OutcomeGroup
    """To whom one was sent."""
    not_told: OutcomeGroup
    """For whom it was claimed and who could not be told: it failed, was withheld, suppressed or muted by then."""
    difference: OutcomeDifference | None
    """None if one of the shares is."""


class NotificationPast(Row):
    """What happened to a notification, as far as it is kept, and what it holds now."""

    id: UUID
    user_id: UUID
    organization_id: UUID
    scenario_type: StoredScenarioType
    origin: StoredOrigin
    triggered_at: AwareDatetime
    milestone_value: int | None
    delivery_status: StoredDeliveryStatus
    deliver_until: AwareDatetime
    """Until when it is handed out, or was."""
    settled_at: AwareDatetime | None
    """When it became sent or failed; None while it is pending."""
    failure_code: str | None
    """Why it failed; of a pending one, why the last try did."""
    unsettled_at: AwareDatetime | None
    """When the last lease ended that nobody settled: the user may have been told by then."""
    holds: bool
    """Whether it refuses a claim of the same user and type now, with the cooldown it was claimed with."""
    holds_until: AwareDatetime | None
    """Until when; None: for good, or it does not hold."""
    next_attempt_at: AwareDatetime | None
    """When a pending one may be handed out; as the next four None once it is settled, when they are not kept."""
    leased_until: AwareDatetime | None
    lease_count: int | None
    """How often it was handed out."""
    attempt_count: int | None
    """How many tries were spent."""
    unsettled_leases: int | None
    """How many leases in a row nobody settled before the last one."""
    next_id: UUID | None
    """The user's next notification of the type, which came after it."""
    next_triggered_at: AwareDatetime | None
    next_milestone_value: int | None
