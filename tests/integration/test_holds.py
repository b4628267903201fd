"""What holds, and until when: the contract's table row by row, for each later claim, just before and just after.

The expectations are the contract's: each of tests.integration.outcomes brings a row into one state, and says when its
hold is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import psycopg
import pytest

from tests.integration.database import Database, now, results
from tests.integration.delivery import lease, settle, settlement
from tests.integration.evaluation import configure, empty
from tests.integration.histories import (
    COOLDOWNS,
    DAY,
    FOR_GOOD,
    HOUR,
    KINDS,
    LONG,
    MICROSECOND,
    MINUTE,
    OWN,
    REFUSALS,
    Mentor,
    Refusal,
    database_with_own_type,
)
from tests.integration.outcomes import (
    COUNTING,
    MAX_ATTEMPTS,
    NOT_COUNTING,
    Outcome,
    sent,
    suppressed,
    suppressed_until_a_device_came,
)
from tests.postgres.server import PostgresServer

LONGEST_FAILURE: Final = {kind: cooldown or 30 * DAY for kind, cooldown in COOLDOWNS.items()}


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests; history and the length of a series are other tests' business."""
    settings = {"due_within": LONG, "max_reminders": "1000"}
    with database_with_own_type(postgres_server, "holds", migrated, **settings) as database:
        yield database


@pytest.fixture
def database(shared: Database) -> Iterator[Database]:
    """Empty the database afterwards."""
    yield shared
    empty(shared)


@pytest.fixture(scope="module")
def kept(shared: Database) -> Iterator[psycopg.Connection]:
    """Keep one connection: its plans are made once."""
    with shared.connect() as connection:
        yield connection


@pytest.fixture
def worker(database: Database, kept: psycopg.Connection) -> psycopg.Connection:  # noqa: ARG001 - emptied afterwards
    """Use the one connection."""
    return kept


@pytest.fixture(params=KINDS)
def mentor(request: pytest.FixtureRequest, database: Database, worker: psycopg.Connection) -> Mentor:
    """Make a mentor who is due, for each scenario type."""
    return Mentor(database, worker, request.param)


@pytest.mark.parametrize("outcome", [*COUNTING, *NOT_COUNTING], ids=lambda outcome: outcome.__name__)
def test_a_row_holds_until_its_outcome_says(mentor: Mentor, outcome: Outcome) -> None:
    """Each later claim is refused one microsecond before that, and granted then; and the row by itself tells so."""
    mentor.be_claimed()
    end = outcome(mentor)
    assert tells_of(mentor, end)
    if end is None:
        mentor.become_due()
        assert is_free(mentor)
        return
    if end == FOR_GOOD:
        for years in range(2):
            mentor.wait(years * 4000 * DAY)
            mentor.become_due()
            assert is_held(mentor, None)
        return
    with mentor.at(end - MICROSECOND) as passed:
        assert is_held(mentor, end - passed)
    with mentor.at(end - passed):
        assert is_free(mentor)


def tells_of(mentor: Mentor, end: datetime | None) -> bool:
    """Say whether what is told of the row by itself is that it holds until then; None: that it does not."""
    with mentor.worker.transaction():
        holds = end is not None and end > now(mentor.worker)
        ((told,),) = mentor.worker.execute(
            "select public.scenario_explain_notification(%s) -> 'notification'", [mentor.row()["id"]]
        ).fetchall()
    until = told["holds_until"] and datetime.fromisoformat(told["holds_until"])
    return (told["holds"], until) == (holds, end if holds and end != FOR_GOOD else None)


def is_held(mentor: Mentor, end: datetime | None) -> bool:
    """Ask in each way: all of them are refused, and told until when; another subject is free beside a subject."""
    row = mentor.row()
    reason = "milestone_reached" if mentor.kind == "milestone" else "cooldown"
    for subjects in [], row["subjects"] or ["another"]:
        outcome = mentor.claim(*subjects)
        assert results([outcome]) == [reason], subjects
        assert outcome["held_by"] == str(row["id"])
        assert (outcome["ends_at"] and datetime.fromisoformat(outcome["ends_at"])) == end
    if row["subjects"]:
        with mentor.worker.transaction(force_rollback=True):
            assert mentor.claim("another")["new_subjects"] == ["another"]
    for dry_run in True, False:
        page = mentor.evaluate(dry_run=dry_run)
        assert (page["claimed"], page["skipped"]) == (0, {} if end is None else {"cooldown": 1})
    explained = mentor.explain()
    assert explained["is_due"] is False
    if end is not None:
        assert (explained["reason"], explained["held_by"]) == ("cooldown", str(row["id"]))
        assert datetime.fromisoformat(explained["ends_at"]) == end
    assert mentor.row()["id"] == row["id"]
    return True


def is_free(mentor: Mentor) -> bool:
    """Ask in each way: all of them are granted."""
    row = mentor.row()
    assert mentor.explain()["is_due"] is True
    for subjects in [], row["subjects"], ["another"]:
        with mentor.worker.transaction(force_rollback=True):
            outcome = mentor.claim(*subjects)
            assert results([outcome]) == ["claimed"], (subjects, outcome)
            assert outcome["new_subjects"] == subjects
    assert (mentor.evaluate(dry_run=True)["claimed"], mentor.evaluate()["claimed"]) == (1, 1)
    assert mentor.row()["id"] != row["id"]
    return True


@pytest.mark.parametrize("outcome", [*COUNTING, *NOT_COUNTING], ids=lambda outcome: outcome.__name__)
@pytest.mark.parametrize("mentor", ["inactivity"], indirect=True)
def test_what_may_have_told_her_counts_as_a_reminder(
    mentor: Mentor, outcome: Outcome, worker: psycopg.Connection
) -> None:
    """Where one absence calls for one reminder, another is due only if that one was none."""
    mentor.be_claimed()
    end = outcome(mentor)
    counts = outcome in COUNTING
    configure(worker, "inactivity", "max_reminders", 1)
    if end is not None:
        mentor.wait(end - mentor.worker.execute("select now()").fetchall()[0][0])
    page = mentor.evaluate()
    assert (page["claimed"], page["skipped"]) == ((0, {"reminders_spent": 1}) if counts else (1, {}))


def test_failures_in_a_row_are_tried_again_later_and_later(mentor: Mentor) -> None:
    """A day, doubled by each failure, at most the cooldown; 30 days for a milestone."""
    for wait in [1, 2, 4, 8, 16, 32, 64]:
        mentor.be_claimed()
        end = mentor.deliver("failed", "invalid_token") + min(wait * DAY, LONGEST_FAILURE[mentor.kind])
        with mentor.at(end - MICROSECOND) as passed:
            assert is_held(mentor, end - passed)
        with mentor.at(end - passed):
            pass
    assert len(mentor.rows()) == 7


@pytest.mark.parametrize("mentor", ["inactivity", OWN], indirect=True)
@pytest.mark.parametrize("between", [sent, suppressed], ids=lambda outcome: outcome.__name__)
def test_a_row_of_failures_ends_when_she_is_told(mentor: Mentor, between: Outcome) -> None:
    """Then the next failure is the first again; what told nobody leaves the row as it is."""
    for days in 1, 2:
        mentor.be_claimed()
        end = mentor.deliver("failed") + days * DAY
        with mentor.at(end):
            pass
    mentor.be_claimed()
    over = between(mentor)
    assert over is not None
    with mentor.at(over):
        mentor.become_due()
    mentor.be_claimed()
    end = mentor.deliver("failed") + (4 if between is suppressed else 1) * DAY
    with mentor.at(end - MICROSECOND) as passed:
        assert is_held(mentor, end - passed)
    with mentor.at(end - passed):
        assert is_free(mentor)


@pytest.mark.parametrize("mentor", ["milestone"], indirect=True)
@pytest.mark.parametrize("way", ["evaluation", "claim"])
def test_a_suppressed_milestone_is_claimed_once_when_a_device_comes(mentor: Mentor, way: str) -> None:
    """Its record made it once ever; the device ends that, and the new record takes its place."""
    mentor.be_claimed()
    suppressed_until_a_device_came(mentor)
    outcomes = [mentor.evaluate()["claimed"] if way == "evaluation" else "id" in mentor.claim() for _ in range(3)]
    assert outcomes == [True, False, False]
    mentor.deliver("suppressed")
    mentor.wait(4000 * DAY)
    mentor.become_due()
    assert is_held(mentor, None)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.reason)
def test_what_holds_nothing_is_asked_by_the_evaluation_too(mentor: Mentor, refusal: Refusal) -> None:
    """Ten rounds of evaluating and leasing while it lasts make one row; when it is over, one more."""
    mentor.be_claimed()
    refusal.begin(mentor.database, mentor.user)
    for _ in range(10):
        assert mentor.evaluate(dry_run=True)["claimed"] == 0
        assert mentor.evaluate()["claimed"] == 0
        assert mentor.explain()["reason"] == refusal.reason
        mentor.be_refused()
        mentor.wait(HOUR)
        mentor.become_due()
    assert [row["failure_code"] for row in mentor.rows()] == [refusal.reason]
    refusal.end(mentor.database, mentor.user)
    assert mentor.evaluate()["claimed"] == 1


def test_what_expired_is_claimed_again_and_can_be_handed_out(mentor: Mentor) -> None:
    """Nobody ran for months: at each start one row is claimed, and then it is in time."""
    for round_ in range(1, 4):
        mentor.be_claimed()
        mentor.wait(40 * DAY)
        mentor.be_refused()
        mentor.become_due()
        assert len(mentor.rows()) == round_
    mentor.be_claimed()
    mentor.deliver("sent")
    assert [row["delivery_status"] for row in mentor.rows()] == ["sent", *["failed"] * 3]


def test_a_short_cooldown_doesn_t_pile_up_what_nobody_delivers(database: Database, worker: psycopg.Connection) -> None:
    """Case 1.4: claimed daily without a worker, a pending one holds for as long as it may be handed out."""
    mentor = Mentor(database, worker, "inactivity")
    configure(worker, "inactivity", "cooldown", DAY)
    claimed = []
    for _ in range(7):
        claimed.append(mentor.evaluate()["claimed"])
        claimed.append(int("id" in mentor.claim(cooldown_seconds=DAY.total_seconds())))
        mentor.wait(DAY)
    assert sum(claimed) == 1
    assert mentor.evaluate()["claimed"] == 1
    assert len(lease(worker)) == 1


def test_the_cooldown_is_measured_from_the_sending(database: Database, worker: psycopg.Connection) -> None:
    """Case 1.5: claimed on day 0, sent on day 6, and on day 30 it was sent 24 days ago."""
    mentor = Mentor(database, worker, "inactivity")
    mentor.be_claimed()
    mentor.wait(6 * DAY)
    mentor.deliver("sent")
    mentor.wait(24 * DAY)
    assert mentor.evaluate()["skipped"] == {"cooldown": 1}
    mentor.wait(6 * DAY)
    assert mentor.evaluate()["claimed"] == 1


def test_a_dead_device_is_told_once_a_day_at_most(database: Database, worker: psycopg.Connection) -> None:
    """Case 3.1: a hundred passes in a day, each delivery fails for good: one send."""
    mentor = Mentor(database, worker, "inactivity")
    sends = 0
    for _ in range(100):
        mentor.evaluate()
        leased = lease(worker)
        sends += len(leased)
        settle(worker, [settlement(one, "failed", "invalid_token") for one in leased])
        mentor.wait(14 * MINUTE)
    assert sends == 1
    assert len(mentor.rows()) == 1


def test_a_worker_that_dies_each_time_spends_the_attempts(database: Database, worker: psycopg.Connection) -> None:
    """Case 3.4: fifty times leased, never settled: handed out eight times, then failed."""
    mentor = Mentor(database, worker, "inactivity")
    mentor.be_claimed()
    handed_out = 0
    for _ in range(50):
        handed_out += len(lease(worker))
        mentor.wait(2 * MINUTE)
    assert handed_out == MAX_ATTEMPTS
    assert (mentor.row()["delivery_status"], mentor.row()["failure_code"]) == ("failed", "attempts_spent")


@pytest.mark.parametrize(
    ("first", "second", "handed_out"),
    [([], [], 1), (["a"], ["a"], 1), (["a", "b"], ["b", "c"], 1), (["a"], [], 1), ([], ["a"], 1), (["a"], ["b"], 2)],
    ids=repr,
)
def test_what_was_overtaken_after_a_lease_ran_out_is_superseded(
    first: list[str], second: list[str], handed_out: int, database: Database, worker: psycopg.Connection
) -> None:
    """Another cooldown is over while it is still pending: of two about the same thing the newer one is handed out."""
    mentor = Mentor(database, worker, OWN)
    day = DAY.total_seconds()
    mentor.claim(*first, cooldown_seconds=2 * day)
    mentor.let_a_lease_run_out()
    mentor.wait(DAY)
    assert results([mentor.claim(*second, cooldown_seconds=day)]) == ["claimed"]
    leased = lease(worker)
    assert len(leased) == handed_out
    assert str(mentor.row()["id"]) in [one["id"] for one in leased]
    if handed_out == 1:
        assert mentor.rows()[1]["failure_code"] == "superseded"


@pytest.mark.parametrize("left", [2 * MINUTE, MINUTE, timedelta(0)], ids=str)
def test_what_may_have_been_told_is_given_up_before_another_may_be_claimed(
    left: timedelta, database: Database, worker: psycopg.Connection
) -> None:
    """A lease can't see a claim that is still running, so it stops a minute before the first of them may begin."""
    mentor = Mentor(database, worker, OWN)
    mentor.claim(cooldown_seconds=DAY.total_seconds())
    (leased,) = lease(worker)
    mentor.wait(DAY)
    with mentor.at(datetime.fromisoformat(leased["leased_until"]) - left):
        assert len(lease(worker)) == (1 if left > MINUTE else 0)
        assert mentor.row()["failure_code"] == (None if left > MINUTE else "superseded")
        assert results([mentor.claim(cooldown_seconds=DAY.total_seconds())]) == [
            "claimed" if left == timedelta(0) else "cooldown"
        ]
