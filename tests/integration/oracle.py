"""What is decided and recorded, foretold in plain Python: every row is kept, and each question looks at all of them.

Purging must not change what is decided, so the oracle forgets nothing but how long a purged failure held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

DAY: Final = timedelta(days=1)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FOR_GOOD: Final = datetime(9999, 1, 1, tzinfo=UTC)

MAX_ATTEMPTS: Final = 8
RETRY_FAILED_AFTER: Final = DAY
DELIVER_WITHIN: Final = 7 * DAY
MARGIN: Final = timedelta(minutes=1)
"""How long before another one may be claimed a lease gives up on what may have been told."""
MILESTONE_CAP: Final = 30 * DAY
STANDARD_COOLDOWNS: Final[Mapping[str, timedelta]] = {"inactivity": 30 * DAY, "certification_expiry": 14 * DAY}
LOOKS_AHEAD: Final = ("certification_expiry",)
HOLDS_NOTHING: Final = ("expired", "superseded", "no_longer_due")
HOLDS_COOLDOWN: Final = ("cancelled", "suppressed")


class Topic(NamedTuple):
    """Whose notifications of a type are one chain; a milestone's are once ever."""

    user: UUID
    scenario_type: str
    milestone: int | None


@dataclass
class Row:
    """A notification as the oracle remembers it, with its hand-over."""

    id: str
    topic: Topic
    subjects: frozenset[str]
    origin: str
    triggered_at: datetime
    deliver_until: datetime
    window: datetime | None = None
    cooldown: timedelta | None = None
    status: str = "pending"
    code: str | None = None
    settled_at: datetime | None = None
    held_until: datetime | None = None
    unsettled_at: datetime | None = None
    leased_until: datetime | None = None
    lease_number: int = 0
    attempts: int = 0
    is_waiting: bool = False
    is_purged: bool = False

    def names(self, subjects: frozenset[str]) -> bool:
        """Whether it is about the same thing."""
        return not subjects or not self.subjects or bool(self.subjects & subjects)

    def is_in_hand(self, now: datetime) -> bool:
        """Whether a lease of it runs."""
        return self.leased_until is not None and self.leased_until > now

    def is_over(self, now: datetime) -> bool:
        """Whether it may have been told, and that holds no longer: another may be claimed by now."""
        told_at = max(self.leased_until or EPOCH, self.unsettled_at or EPOCH)
        return told_at != EPOCH and self.cooldown is not None and told_at + self.cooldown <= now + MARGIN

    def is_takeable(self, subjects: frozenset[str], now: datetime) -> bool:
        """Whether a claim with a lease takes it over."""
        return (
            self.origin == "claim"
            and self.status == "pending"
            and self.deliver_until > now
            and subjects <= self.subjects
            and (bool(subjects) or not self.subjects)
            and not self.is_in_hand(now)
            and not self.is_over(now)
            and self.attempts < MAX_ATTEMPTS
        )

    def lease(self, until: datetime) -> None:
        """Hand it out; a lease that nobody settled may have told her."""
        self.unsettled_at = self.leased_until or self.unsettled_at
        self.leased_until = until
        self.lease_number += 1
        self.attempts += 1
        self.is_waiting = False


@dataclass
class Oracle:
    """All that was ever recorded."""

    users: set[UUID]
    rows: list[Row] = field(default_factory=list)
    devices: dict[UUID, datetime] = field(default_factory=dict)

    def of(self, topic: Topic) -> list[Row]:
        """Return the rows of a topic, oldest first."""
        return sorted((row for row in self.rows if row.topic == topic), key=lambda row: row.triggered_at)

    def pending(self) -> list[Row]:
        """Return what is pending."""
        return [row for row in self.rows if row.status == "pending"]

    def end(self, row: Row, cooldown: timedelta) -> datetime:
        """Return until when a row holds against a claim with this cooldown."""
        if row.status == "failed":
            told = row.code != "suppressed" or self.devices.get(row.topic.user, EPOCH) <= (row.settled_at or EPOCH)
            return row.held_until if row.held_until and told else EPOCH
        if row.topic.milestone:
            return FOR_GOOD
        if row.status == "sent":
            return max(row.triggered_at, row.settled_at or EPOCH) + cooldown
        end = max(row.triggered_at, row.leased_until or EPOCH, row.unsettled_at or EPOCH) + cooldown
        return end if row.leased_until else max(end, row.deliver_until)

    def told_end(self, row: Row, cooldown: timedelta, now: datetime) -> datetime:
        """Return until when a refused claim is told that a row holds: as if unleased, where that is enough to hold."""
        unleased = row.triggered_at + cooldown
        if row.status == "pending" and not row.topic.milestone and unleased > now:
            return max(unleased, row.deliver_until)
        return self.end(row, cooldown)

    def holders(
        self, topic: Topic, subjects: frozenset[str], cooldown: timedelta, now: datetime
    ) -> dict[str, datetime]:
        """Return the rows that stand in a claim's way, with their ends."""
        ends = ((row, self.end(row, cooldown)) for row in self.of(topic))
        return {row.id: end for row, end in ends if end > now and row.names(subjects)}

    def new_subjects(self, topic: Topic, subjects: frozenset[str], cooldown: timedelta, now: datetime) -> list[str]:
        """Return the subjects that nothing holds."""
        return sorted(one for one in subjects if not self.holders(topic, frozenset([one]), cooldown, now))

    def head(self, topic: Topic) -> datetime:
        """Return the start of the window of the next claim."""
        return max((row.triggered_at for row in self.of(topic) if row.window), default=EPOCH)

    def last_sent(self, topic: Topic) -> datetime | None:
        """Return the trigger of the one that was triggered last, of those that were sent."""
        return max((row.triggered_at for row in self.of(topic) if row.status == "sent"), default=None)

    def last_delivered(self, topic: Topic) -> datetime | None:
        """Return when one was last sent."""
        return max((row.settled_at for row in self.of(topic) if row.settled_at and row.status == "sent"), default=None)

    def milestone(self, topic: Topic) -> str | None:
        """Return the record of a milestone."""
        return next((row.id for row in self.of(topic) if row.status != "failed"), None)

    def refusal(self, row: Row, now: datetime) -> str | None:
        """Say why a lease hands it out no more."""
        if row.deliver_until <= now:
            return "expired"
        if row.attempts >= MAX_ATTEMPTS:
            return "attempts_spent"
        if row.is_over(now):
            return "superseded"
        if (row.leased_until or row.unsettled_at) and any(
            newer.status != "failed" and newer.window and newer.triggered_at > row.triggered_at
            for newer in self.of(row.topic)
            if newer.names(row.subjects)
        ):
            return "superseded"
        return None

    def leasable(self, now: datetime) -> Iterator[Row]:
        """Give what a lease looks at."""
        return (row for row in self.pending() if not row.is_in_hand(now) and not row.is_waiting)

    def send(self, row: Row, settled_at: datetime) -> None:
        """Record that it was sent."""
        row.status, row.code, row.settled_at = "sent", None, max(row.triggered_at, settled_at)
        row.unsettled_at = row.leased_until = None

    def fail(self, row: Row, code: str | None, now: datetime, *, by_lease: bool) -> None:
        """Record that it failed, and what it holds."""
        own = row.cooldown or STANDARD_COOLDOWNS.get(row.topic.scenario_type, MILESTONE_CAP)
        held: datetime | None = None
        if code in HOLDS_COOLDOWN:
            if code == "suppressed" and row.topic.scenario_type in LOOKS_AHEAD:
                held = now + min(RETRY_FAILED_AFTER, own)
            else:
                held = FOR_GOOD if row.topic.milestone else now + own
        elif code not in HOLDS_NOTHING or (code == "expired" and (row.code or row.attempts)):
            held = now + min(max(RETRY_FAILED_AFTER, 2 * self.last_failure(row)), own)
        if not by_lease and row.leased_until and row.leased_until <= now:
            row.unsettled_at = row.leased_until
        if row.unsettled_at:
            held = max(held or EPOCH, FOR_GOOD if row.topic.milestone else row.unsettled_at + own)
        row.status, row.code, row.settled_at, row.held_until = "failed", code, now, held
        row.leased_until = None

    def last_failure(self, failing: Row) -> timedelta:
        """Return how long the failure just before held, if nothing was told since."""
        rows = [row for row in self.of(failing.topic) if row is not failing and not row.is_purged]
        told = max((row.triggered_at for row in rows if row.status != "failed"), default=EPOCH)
        failures = [
            (row.held_until, row.held_until - row.settled_at)
            for row in rows
            if row.status == "failed"
            and row.held_until
            and row.settled_at
            and not row.unsettled_at
            and (row.code == "expired" or row.code not in (*HOLDS_NOTHING, *HOLDS_COOLDOWN))
            and row.triggered_at >= told
        ]
        return max(failures)[1] if failures else timedelta(0)

    def let_pass(self, time: timedelta) -> None:
        """Move the past back."""
        for row in self.rows:
            row.is_waiting = False
            for each in fields(row):
                moment = getattr(row, each.name)
                if isinstance(moment, datetime) and moment not in (EPOCH, FOR_GOOD):
                    setattr(row, each.name, moment - time)
        self.devices = {user: moment - time for user, moment in self.devices.items()}

    def delete(self, user: UUID) -> None:
        """Forget a user."""
        self.users.remove(user)
        self.rows = [row for row in self.rows if row.topic.user != user]
        self.devices.pop(user, None)
