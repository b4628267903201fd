"""Any history, step by step: what the database decides is what a few lines of Python foretell."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.integration.database import Database, claim, new_claim
from tests.rows import ago, insert_notification, insert_users

IN_CI: Final = "CI" in os.environ
USERS: Final = tuple(UUID(int=number) for number in range(1, 4))
TYPES: Final = ("inactivity", "welcome_back")
MILESTONES: Final = (10, 25)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
COOLDOWNS: Final = (DAY, 7 * DAY, 40 * DAY)
PURGED: Final = 30 * DAY
"""The shortest period that may be purged; claims have longer cooldowns too."""


class Subject(NamedTuple):
    """What there may be one of at a time."""

    user: UUID
    scenario_type: str
    milestone: int | None


@dataclass
class Row:
    """A notification as the oracle remembers it."""

    id: str
    subject: Subject
    triggered_at: datetime
    status: str
    window: datetime | None


class Oracle:
    """What was recorded and never forgotten: purging must not change what is decided, so the oracle doesn't purge."""

    def __init__(self) -> None:
        self.users = set(USERS)
        self.rows: list[Row] = []

    def of(self, subject: Subject) -> list[Row]:
        """Return the rows of a subject, oldest first."""
        return sorted((row for row in self.rows if row.subject == subject), key=lambda row: row.triggered_at)

    def holder(self, subject: Subject, cooldown: timedelta, now: datetime) -> Row | None:
        """Return the row that stands in a claim's way."""
        for row in reversed(self.of(subject)):
            if row.status != "failed" and (subject.milestone or row.triggered_at > now - cooldown):
                return row
        return None

    def last_sent(self, subject: Subject) -> datetime | None:
        """Return when one was last sent."""
        sent = [row.triggered_at for row in self.of(subject) if row.status == "sent"]
        return sent[-1] if sent else None

    def milestone(self, subject: Subject) -> str | None:
        """Return the record that holds a milestone."""
        return next((row.id for row in self.of(subject) if row.status != "failed"), None)

    def head(self, subject: Subject) -> datetime:
        """Return the start of the window of the next claim."""
        return max((row.triggered_at for row in self.of(subject) if row.window), default=EPOCH)

    def let_pass(self, time: timedelta) -> None:
        """Move the past back."""
        self.rows = [
            replace(row, triggered_at=row.triggered_at - time, window=row.window and max(row.window - time, EPOCH))
            for row in self.rows
        ]

    def delete(self, user: UUID) -> None:
        """Forget a user."""
        self.users.remove(user)
        self.rows = [row for row in self.rows if row.subject.user != user]


subjects = st.builds(Subject, st.sampled_from(USERS), st.sampled_from(TYPES), st.none()) | st.builds(
    Subject, st.sampled_from(USERS), st.just("milestone"), st.sampled_from(MILESTONES)
)
claims = st.tuples(subjects, st.sampled_from(COOLDOWNS))


class Histories(RuleBasedStateMachine):
    """Two workers do whatever they may, one thing after the other; the oracle knows what comes of it."""

    def __init__(self, database: Database, worker: psycopg.Connection) -> None:
        super().__init__()
        self.database = database
        self.worker = worker
        self.oracle = Oracle()

    @initialize()
    def start_anew(self) -> None:
        """Empty the table, and bring back the users."""
        self.worker.execute("delete from public.scenario_notifications where true")
        with self.database.connect(role=None) as owner:
            insert_users(owner, USERS)

    @rule(subject=subjects, status=st.sampled_from(("pending", "sent", "failed")), age=st.sampled_from((0, 1, 8, 50)))
    def insert(self, subject: Subject, status: str, age: int) -> None:
        """Record unconditionally; a milestone that is held, or a user who is gone, refuses it."""
        refusal: type[psycopg.Error] | None = None
        if subject.user not in self.oracle.users:
            refusal = psycopg.errors.ForeignKeyViolation
        elif subject.milestone and status != "failed" and self.oracle.milestone(subject):
            refusal = psycopg.errors.UniqueViolation
        try:
            row = insert_notification(
                self.worker,
                subject.user,
                organization_id=uuid4(),
                scenario_type=subject.scenario_type,
                milestone_value=subject.milestone,
                delivery_status=status,
                triggered_at=ago(age * DAY),
            )
        except psycopg.IntegrityError as error:
            assert type(error) is refusal  # noqa: PT017
        else:
            assert refusal is None
            self.oracle.rows.append(Row(str(row["id"]), subject, row["triggered_at"], status, None))

    @rule(batch=st.lists(claims, min_size=1, max_size=4))
    def claim(self, batch: list[tuple[Subject, timedelta]]) -> None:
        """Claim a batch; each outcome is the foretold one, at the very time at which the claim was made."""
        asked = [
            new_claim(
                subject.user,
                scenario_type=subject.scenario_type,
                milestone_value=subject.milestone,
                cooldown_seconds=None if subject.milestone else cooldown.total_seconds(),
            )
            for subject, cooldown in batch
        ]
        with self.worker.transaction():
            now = self.worker.execute("select now()").fetchall()[0][0]
            outcomes = claim(self.worker, asked)
        claimed: set[Subject] = set()
        holders = [self.oracle.holder(subject, cooldown, now) for subject, cooldown in batch]
        for (subject, cooldown), holder, outcome in zip(batch, holders, outcomes, strict=True):
            reason = None
            if subject.user not in self.oracle.users:
                reason = "unknown_user"
            elif holder:
                reason = "milestone_reached" if subject.milestone else "cooldown"
            elif subject in claimed:
                reason = "duplicate_in_batch"
            if reason:
                ends_at = None if subject.milestone or not holder else holder.triggered_at + cooldown
                told = outcome["ends_at"] and datetime.fromisoformat(outcome["ends_at"])
                assert (outcome["skip_reason"], outcome["held_by"], told) == (reason, holder and holder.id, ends_at)
            else:
                self.record(subject, outcome, now)
                claimed.add(subject)

    def record(self, subject: Subject, told: dict[str, Any], now: datetime) -> None:
        """Remember a claim that had to be granted."""
        head = self.oracle.head(subject)
        window = told["cooldown_window_start"] and datetime.fromisoformat(told["cooldown_window_start"])
        assert window == (None if subject.milestone else head)
        assert datetime.fromisoformat(told["triggered_at"]) == now
        self.oracle.rows.append(Row(told["id"], subject, now, "pending", window))

    @precondition(lambda self: any(row.status == "pending" for row in self.oracle.rows))
    @rule(data=st.data(), status=st.sampled_from(("sent", "failed")))
    def settle(self, data: st.DataObject, status: str) -> None:
        """Record what became of a pending one."""
        pending = [row for row in self.oracle.rows if row.status == "pending"]
        row = pending[data.draw(st.integers(0, len(pending) - 1), "which pending one")]
        update = "update public.scenario_notifications set delivery_status = %s where id = %s"
        assert self.worker.execute(update, [status, row.id]).rowcount == 1
        row.status = status

    @rule()
    def purge(self) -> None:
        """Purge all that may go; no decision afterwards is another."""
        self.worker.execute("select public.scenario_purge_notifications(%s)", [PURGED.total_seconds()])

    @precondition(lambda self: len(self.oracle.users) > 1)
    @rule(data=st.data())
    def delete_user(self, data: st.DataObject) -> None:
        """Delete a user, history and all."""
        user = data.draw(st.sampled_from(sorted(self.oracle.users)), "who")
        with self.database.connect(role=None) as owner:
            owner.execute("delete from auth.users where id = %s", [user])
        self.oracle.delete(user)

    @rule(time=st.sampled_from((timedelta(hours=7), DAY, 7 * DAY, 31 * DAY)))
    def let_pass(self, time: timedelta) -> None:
        """Move the past back, in the database and in memory."""
        self.database.let_pass(time)
        self.oracle.let_pass(time)

    @invariant()
    def look_ups_agree(self) -> None:
        """Whoever asks is told what the oracle remembers."""
        for kind in TYPES:
            times = self.look_up("scenario_get_last_sent_at_many", kind)
            expected = [self.oracle.last_sent(Subject(user, kind, None)) for user in USERS]
            assert [time and datetime.fromisoformat(time) for time in times] == expected
        for value in MILESTONES:
            records = self.look_up("scenario_get_milestone_record_many", value)
            held = [self.oracle.milestone(Subject(user, "milestone", value)) for user in USERS]
            assert [record and record["id"] for record in records] == held

    def look_up(self, function: str, argument: object) -> list[Any]:
        """Ask about all the users."""
        statement = psycopg.sql.SQL("select public.{}(%s, %s)").format(psycopg.sql.Identifier(function))
        answers: list[Any] = self.worker.execute(statement, [list(USERS), argument]).fetchall()[0][0]
        return answers


def test_every_history_is_decided_as_foretold(database: Database, worker: psycopg.Connection) -> None:
    """Claims, look-ups and the chain agree with the oracle after any steps, purges among them."""

    class Here(Histories):
        def __init__(self) -> None:
            super().__init__(database, worker)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            deadline=None,
            database=None,
            derandomize=IN_CI,
            phases=[Phase.generate] if IN_CI else tuple(Phase),
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
