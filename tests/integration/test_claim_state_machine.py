"""Any history, step by step: what the database decides and records is what a few lines of Python foretell."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import psycopg
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.integration.database import Database, claim, new_claim, now
from tests.integration.delivery import lease, settle, settlement
from tests.integration.oracle import DAY, DELIVER_WITHIN, FOR_GOOD, MAX_ATTEMPTS, Oracle, Row, Topic
from tests.rows import ago, insert_devices, insert_notification, insert_users

IN_CI: Final = "CI" in os.environ
USERS: Final = tuple(UUID(int=number) for number in range(1, 4))
TYPES: Final = ("inactivity", "certification_expiry")
MILESTONES: Final = (10, 25)
COOLDOWNS: Final = (DAY, 7 * DAY, 30 * DAY)
LEASE: Final = timedelta(hours=1)
PURGED: Final = 30 * DAY
"""The shortest period that may be purged, and the longest cooldown."""

topics = st.builds(Topic, st.sampled_from(USERS), st.sampled_from(TYPES), st.none()) | st.builds(
    Topic, st.sampled_from(USERS), st.just("milestone"), st.sampled_from(MILESTONES)
)
names = st.frozensets(st.sampled_from("abc"), max_size=2)


class Asked(NamedTuple):
    """A claim."""

    topic: Topic
    cooldown: timedelta
    subjects: frozenset[str]


claims = st.builds(
    lambda topic, cooldown, subjects: Asked(topic, cooldown, frozenset() if topic.milestone else subjects),
    topics,
    st.sampled_from(COOLDOWNS),
    names,
)


class Histories(RuleBasedStateMachine):
    """Workers and claimers do whatever they may, one thing after the other; the oracle knows what comes of it."""

    def __init__(self, database: Database, worker: psycopg.Connection) -> None:
        super().__init__()
        self.database = database
        self.worker = worker
        self.oracle = Oracle(set(USERS))
        self.leases: list[dict[str, Any]] = []

    @initialize()
    def start_anew(self) -> None:
        """Empty the tables, and bring back the users."""
        with self.database.connect(role=None) as owner:
            owner.execute("delete from auth.users")
            insert_users(owner, USERS)

    @rule(
        topic=topics,
        subjects=names,
        status=st.sampled_from(("pending", "sent", "failed")),
        age=st.sampled_from((0, 1, 8, 50)),
    )
    def insert(self, topic: Topic, subjects: frozenset[str], status: str, age: int) -> None:
        """Record unconditionally; a milestone that is held for good, or a user who is gone, refuses it."""
        refusal: type[psycopg.Error] | None = None
        if topic.user not in self.oracle.users:
            refusal = psycopg.errors.ForeignKeyViolation
        elif topic.milestone and status != "failed":
            records = [row for row in self.oracle.of(topic) if row.status != "failed" or row.held_until == FOR_GOOD]
            # Where a device has ended it, its row may know that already or not.
            assume(all(self.oracle.end(row, DAY) == FOR_GOOD for row in records))
            refusal = psycopg.errors.UniqueViolation if records else None
        try:
            with self.worker.transaction():
                moment = now(self.worker)
                row = insert_notification(
                    self.worker,
                    topic.user,
                    organization_id=uuid4(),
                    scenario_type=topic.scenario_type,
                    milestone_value=topic.milestone,
                    subjects=[] if topic.milestone else sorted(subjects),
                    delivery_status=status,
                    triggered_at=ago(age * DAY),
                )
        except psycopg.IntegrityError as error:
            assert type(error) is refusal  # noqa: PT017
        else:
            assert refusal is None
            inserted = self.record(str(row["id"]), topic, frozenset(row["subjects"]), "insert", moment - age * DAY)
            inserted.deliver_until = moment + DELIVER_WITHIN
            inserted.status = status
            inserted.settled_at = None if status == "pending" else inserted.triggered_at

    def record(
        self, notification_id: str, topic: Topic, subjects: frozenset[str], origin: str, moment: datetime
    ) -> Row:
        """Remember a notification."""
        row = Row(notification_id, topic, subjects, origin, moment, moment + DELIVER_WITHIN)
        self.oracle.rows.append(row)
        return row

    @rule(batch=st.lists(claims, min_size=1, max_size=4), is_leased=st.booleans())
    def claim(self, batch: list[Asked], *, is_leased: bool) -> None:
        """Claim a batch; each outcome is the foretold one, at the very time at which the claim was made."""
        asked = [
            new_claim(
                topic.user,
                scenario_type=topic.scenario_type,
                milestone_value=topic.milestone,
                cooldown_seconds=None if topic.milestone else cooldown.total_seconds(),
                subjects=sorted(subjects),
            )
            for topic, cooldown, subjects in batch
        ]
        with self.worker.transaction():
            moment = now(self.worker)
            outcomes = claim(self.worker, asked, LEASE.total_seconds() if is_leased else None)
        granted: dict[Topic, Row] = {}
        before = [self.oracle.holders(one.topic, one.subjects, one.cooldown, moment) for one in batch]
        fresh = [self.oracle.new_subjects(one.topic, one.subjects, one.cooldown, moment) for one in batch]
        heads = {one.topic: self.oracle.head(one.topic) for one in batch}
        for one, holders, new, outcome in zip(batch, before, fresh, outcomes, strict=True):
            if one.topic.user not in self.oracle.users:
                assert outcome["skip_reason"] == ("user_gone" if is_leased else "unknown_user")
            elif holders and not new:
                self.check_held(one, holders, outcome, moment, is_leased=is_leased)
            elif one.topic in granted:
                earlier = granted[one.topic].subjects
                is_repeated = not earlier or (one.subjects and one.subjects <= earlier)
                assert outcome["skip_reason"] == ("duplicate_in_batch" if is_repeated else "concurrent_claim")
            else:
                row = self.record(outcome["id"], one.topic, one.subjects, "claim", moment)
                row.cooldown = None if one.topic.milestone else one.cooldown
                row.window = None if one.topic.milestone else heads[one.topic]
                told = outcome["cooldown_window_start"]
                assert (told and datetime.fromisoformat(told)) == row.window
                assert datetime.fromisoformat(outcome["triggered_at"]) == moment
                assert outcome["new_subjects"] == new
                granted[one.topic] = row
                if is_leased:
                    row.lease(moment + LEASE)
                    self.take(outcome, row)

    def check_held(
        self, asked: Asked, holders: Iterable[str], outcome: dict[str, Any], moment: datetime, *, is_leased: bool
    ) -> None:
        """Compare a refusal, or a notification of before that is taken over."""
        (holder,) = (row for row in self.oracle.rows if row.id == outcome.get("held_by", outcome.get("id")))
        assert holder.id in holders
        is_taken = is_leased and holder.is_takeable(asked.subjects, moment)
        assert ("id" in outcome) == is_taken
        if is_taken:
            holder.lease(moment + LEASE)
            self.take(outcome, holder)
        else:
            assert outcome["skip_reason"] == ("milestone_reached" if asked.topic.milestone else "cooldown")
            told = outcome["ends_at"] and datetime.fromisoformat(outcome["ends_at"])
            end = self.oracle.told_end(holder, asked.cooldown, moment)
            assert told == (None if end == FOR_GOOD else end)

    def take(self, leased: dict[str, Any], row: Row) -> None:
        """Remember a lease."""
        assert (leased["lease_number"], leased["attempt_count"]) == (row.lease_number, row.attempts)
        assert datetime.fromisoformat(leased["leased_until"]) == row.leased_until
        self.leases.append(leased)

    @rule()
    def lease(self) -> None:
        """Lease all that may be handed out; what may not fails."""
        with self.worker.transaction():
            moment = now(self.worker)
            leased: dict[str, dict[str, Any]] = {}
            # Again, for what was left unsettled twice comes last, and alone.
            while part := lease(self.worker, seconds=LEASE.total_seconds()):
                leased |= {one["id"]: one for one in part}
        refused = {row.id: self.oracle.refusal(row, moment) for row in self.oracle.leasable(moment)}
        assert set(leased) == {one for one, reason in refused.items() if reason is None}
        for row in list(self.oracle.leasable(moment)):
            if reason := refused[row.id]:
                self.oracle.fail(row, reason, moment, by_lease=False)
            else:
                row.lease(moment + LEASE)
                self.take(leased[row.id], row)

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        result=st.sampled_from(("sent", "retry", "failed", "suppressed", "released")),
        code=st.sampled_from((None, "invalid_token", "cancelled")),
    )
    def settle(self, data: st.DataObject, result: str, code: str | None) -> None:
        """Settle a lease, the present one of its notification or one of before."""
        leased = self.leases[data.draw(st.integers(0, len(self.leases) - 1), "which lease")]
        with self.worker.transaction():
            moment = now(self.worker)
            (answer,) = settle(self.worker, [settlement(leased, result, code)])
        known = [row for row in self.oracle.rows if row.id == leased["id"] and not row.is_purged]
        if not known:
            assert answer == "unknown"
        elif known[0].status != "pending":
            assert answer == "already_settled"
        elif known[0].lease_number != leased["lease_number"]:
            assert answer == "lease_lost"
        else:
            # A sender can't give a code of scenario_repo's own.
            self.apply(known[0], result, "unnamed_failure" if code == "cancelled" else code, moment)
            assert answer == known[0].status

    def apply(self, row: Row, result: str, code: str | None, moment: datetime) -> None:
        """Remember a settlement."""
        if result == "sent":
            self.oracle.send(row, min(moment, row.leased_until or moment))
        elif result in ("failed", "suppressed"):
            self.oracle.fail(row, "suppressed" if result == "suppressed" else code, moment, by_lease=True)
        elif result == "retry" and row.attempts >= MAX_ATTEMPTS:
            self.oracle.fail(row, "attempts_spent", moment, by_lease=True)
        else:
            row.is_waiting = row.is_waiting if row.leased_until is None else result == "retry"
            row.attempts -= result == "released" and row.leased_until is not None
            row.code = code if result == "retry" else row.code
            row.leased_until = None

    @precondition(lambda self: self.oracle.pending())
    @rule(
        data=st.data(),
        status=st.sampled_from(("sent", "failed")),
        code=st.sampled_from((None, "expired", "cancelled", "suppressed", "mailbox_full")),
    )
    def update(self, data: st.DataObject, status: str, code: str | None) -> None:
        """Record by a plain update what became of a pending one."""
        pending = self.oracle.pending()
        row = pending[data.draw(st.integers(0, len(pending) - 1), "which pending one")]
        update = "update public.scenario_notifications set delivery_status = %s, failure_code = %s where id = %s"
        with self.worker.transaction():
            moment = now(self.worker)
            assert self.worker.execute(update, [status, code if status == "failed" else None, row.id]).rowcount == 1
        if status == "sent":
            self.oracle.send(row, moment)
        else:
            self.oracle.fail(row, code, moment, by_lease=False)

    @rule(user=st.sampled_from(USERS))
    def register_device(self, user: UUID) -> None:
        """Register a device, which ends what suppressed ones hold."""
        assume(user in self.oracle.users)
        with self.worker.transaction():
            self.oracle.devices[user] = now(self.worker)
            insert_devices(self.worker, [user])

    @rule()
    def purge(self) -> None:
        """Purge all that may go; no decision afterwards is another."""
        with self.worker.transaction():
            moment = now(self.worker)
            self.worker.execute("select public.scenario_purge_notifications(%s)", [PURGED.total_seconds()])
        kept = {str(row[0]) for row in self.worker.execute("select id from public.scenario_notifications")}
        for row in self.oracle.rows:
            if row.id not in kept and not row.is_purged:
                assert row.status != "pending"
                assert max(row.triggered_at, row.settled_at or FOR_GOOD) < moment - PURGED
                row.is_purged = True

    @precondition(lambda self: len(self.oracle.users) > 1)
    @rule(data=st.data())
    def delete_user(self, data: st.DataObject) -> None:
        """Delete a user, history and all."""
        user = data.draw(st.sampled_from(sorted(self.oracle.users)), "who")
        with self.database.connect(role=None) as owner:
            owner.execute("delete from auth.users where id = %s", [user])
        self.oracle.delete(user)

    @rule(time=st.sampled_from((timedelta(hours=7), DAY, 3 * DAY, 7 * DAY, 31 * DAY)))
    def let_pass(self, time: timedelta) -> None:
        """Move the past back, in the database and in memory; each lease and each pause before a retry is over then."""
        self.database.let_pass(time)
        self.oracle.let_pass(time)

    @invariant()
    def look_ups_agree(self) -> None:
        """Whoever asks is told what the oracle remembers."""
        for kind in TYPES:
            for function, remembered in (
                ("scenario_get_last_sent_at_many", self.oracle.last_sent),
                ("scenario_get_last_delivered_at_many", self.oracle.last_delivered),
            ):
                times = self.look_up(function, kind)
                expected = [remembered(Topic(user, kind, None)) for user in USERS]
                assert [time and datetime.fromisoformat(time) for time in times] == expected
        for value in MILESTONES:
            records = self.look_up("scenario_get_milestone_record_many", value)
            held = [self.oracle.milestone(Topic(user, "milestone", value)) for user in USERS]
            assert [record and record["id"] for record in records] == held

    @invariant()
    def books_agree(self) -> None:
        """Each row that is there says what the oracle remembers of it."""
        query = """
          select id::text, delivery_status, failure_code, settled_at, nullif(held_until, 'infinity'), unsettled_at
          from public.scenario_notifications
          where not is_failed or failure_code is distinct from 'suppressed'
          order by id
        """
        remembered = [
            (row.id, row.status, row.code, row.settled_at, row.held_until if row.held_until != FOR_GOOD else None)
            for row in sorted(self.oracle.rows, key=lambda row: row.id)
            if not row.is_purged and not (row.status == "failed" and row.code == "suppressed")
        ]
        assert [found[:5] for found in self.worker.execute(query)] == remembered

    def look_up(self, function: str, argument: object) -> list[Any]:
        """Ask about all the users."""
        statement = psycopg.sql.SQL("select public.{}(%s, %s)").format(psycopg.sql.Identifier(function))
        ((answer,),) = self.worker.execute(statement, [list(USERS), argument]).fetchall()
        answers: list[Any] = answer["answers"]
        return answers


def test_every_history_is_decided_as_foretold(database: Database, worker: psycopg.Connection) -> None:
    """Claims, leases, settlements, look-ups, books and the chain agree with the oracle after any steps."""

    class Here(Histories):
        def __init__(self) -> None:
            super().__init__(database, worker)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=int(os.environ.get("SCENARIO_TEST_HISTORIES", "40")),
            stateful_step_count=30,
            deadline=None,
            database=None,
            derandomize=IN_CI,
            phases=[Phase.generate] if IN_CI else tuple(Phase),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
