"""How things stand: passes, what waits and what failed lately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from pydantic import AwareDatetime

from scenario_repo._fields import Row
from scenario_repo.models import StoredScenarioType, was_withheld


class ScenarioStatus(Row):
    """How one scenario type stands: its last pass, and what of it is pending."""

    scenario_type: StoredScenarioType
    is_enabled: bool
    """Whether it is enabled by default."""
    overriding: int
    """How many organizations override some of its settings."""
    evaluated: int
    """Mentors of the pass over all organizations that is under way, or else of the last one; as the next four."""
    due: int
    claimed: int
    skipped: int
    history: int
    seconds: float
    finished_at: AwareDatetime | None
    """When the last pass over all organizations ended; None: there was none."""
    is_under_way: bool
    """Whether a pass over all has begun and not ended; the next run continues it."""
    organization_pass_finished_at: AwareDatetime | None
    """When the newest pass over a single organization ended, of those that have settings of their own."""
    waiting: int
    """Pending notifications that are not due yet."""
    due_now: int
    """Pending notifications that a worker may have now."""
    leased: int
    """Pending notifications that a worker has in hand."""
    unsettled: int
    """Pending notifications whose last lease nobody settled: they may be what workers die of."""
    oldest_due_at: AwareDatetime | None
    """Since when the one has waited that has been due longest; None: none is due."""

    @property
    def pending(self) -> int:
        """How many are pending in all."""
        return self.waiting + self.due_now + self.leased


class FailureCount(Row):
    """How many notifications of a type failed with a code lately."""

    scenario_type: StoredScenarioType
    failure_code: str | None
    last_day: int
    """In the last 24 hours."""
    last_week: int
    """In the last 7 days, these 24 hours among them."""

    @property
    def was_withheld(self) -> bool:
        """Whether it was decided not to tell; else it could not be delivered."""
        return was_withheld(self.failure_code)


class Status(Row):
    """How things stand in the database."""

    version: int
    """The version of the schema."""
    scenarios: tuple[ScenarioStatus, ...]
    failures: tuple[FailureCount, ...]

    @property
    def pending(self) -> int:
        """How many notifications are pending in all."""
        return sum(scenario.pending for scenario in self.scenarios)

    @property
    def oldest_due_at(self) -> datetime | None:
        """Since when the notification has waited that has been due longest, of all types."""
        return min((one.oldest_due_at for one in self.scenarios if one.oldest_due_at is not None), default=None)

    def undelivered(self, *, in_a_day: bool = False) -> dict[str, int]:
        """Count by failure code what could not be delivered in the last 7 days, or in the last 24 hours."""
        return _counted((one for one in self.failures if not one.was_withheld), in_a_day=in_a_day)

    def withheld(self, *, in_a_day: bool = False) -> dict[str, int]:
        """Count by failure code what it was decided not to tell in the last 7 days, or in the last 24 hours."""
        return _counted((one for one in self.failures if one.was_withheld), in_a_day=in_a_day)


class PendingNotification(Row):
    """A notification that waits for its delivery, and where it is on its way."""

    id: UUID
    user_id: UUID
    organization_id: UUID
    scenario_type: StoredScenarioType
    triggered_at: AwareDatetime
    deliver_until: AwareDatetime
    failure_code: str | None
    """Why the last try failed."""
    next_attempt_at: AwareDatetime
    """When it is due."""
    attempt_count: int
    """How many tries were spent."""
    leased_until: AwareDatetime | None
    """Until when a worker has it in hand; None: nobody has."""
    unsettled_leases: int
    """How many leases in a row nobody settled before the last one."""


class LeftOut(Row):
    """How many mentors a pass left out for one reason, though it came true for them."""

    reason: str
    """One of :class:`~scenario_repo.SkipReason`, or ``history``: it came true longer ago than ``due_within``."""
    mentors: int | None
    """None: fewer than 5, who could be told apart; of all organizations: in each of fewer than 5 organizations."""


class LeftOutPass(Row):
    """Whom a pass of one scenario type left out; a gauge of that pass alone, not a count over time."""

    scenario_type: StoredScenarioType
    finished_at: AwareDatetime | None
    """When the pass ended; None: it is under way."""
    left_out: tuple[LeftOut, ...]


class PurgedPage(Row):
    """What one page of a purge did."""

    purged: int
    """How many notifications it deleted."""
    next_after: UUID | None
    """The last user it looked at; None: it was the last page."""


def _counted(failures: Iterable[FailureCount], *, in_a_day: bool) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for failure in failures:
        counts[failure.failure_code or "unknown"] += failure.last_day if in_a_day else failure.last_week
    return {code: count for code, count in sorted(counts.items()) if count}
