"""Long stories with a purge in them: what is decided afterwards is what would have been decided without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from tests.integration.database import Database, claim, new_claim
from tests.integration.delivery import deliver, lease
from tests.integration.evaluation import act, certify, configure, empty, evaluate
from tests.integration.histories import DAY, HOUR, OWN, Mentor, database_with_own_type
from tests.postgres.server import PostgresServer
from tests.rows import (
    ORGANIZATION,
    ago,
    ahead,
    insert_activities,
    insert_by_query,
    insert_certificates,
    insert_notification,
)

MONTH = timedelta(days=30)


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests."""
    with database_with_own_type(postgres_server, "purge_timelines", migrated) as database:
        yield database


@pytest.fixture
def database(shared: Database) -> Iterator[Database]:
    """Empty the database afterwards."""
    yield shared
    empty(shared)


@pytest.fixture(params=["purged", "kept"])
def tidy(request: pytest.FixtureRequest, worker: psycopg.Connection) -> Callable[[timedelta], int]:
    """Purge, or don't: each story has the same end both ways."""

    def purge_or_not(older_than: timedelta) -> int:
        return purge(worker, older_than) if request.param == "purged" else -1

    return purge_or_not


def purge(worker: psycopg.Connection, older_than: timedelta = MONTH) -> int:
    """Purge everybody's, and return how many went."""
    query = "select public.scenario_purge_notifications(%s)"
    ((answer,),) = worker.execute(query, [older_than.total_seconds()]).fetchall()
    assert answer["next_after"] is None
    purged: int = answer["purged"]
    return purged


def quiet(database: Database, worker: psycopg.Connection, time: str = "30 days") -> UUID:
    """Make a mentor whose last activity is that long ago."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    insert_activities(worker, [mentor], ago(time))
    return mentor


def count(worker: psycopg.Connection) -> int:
    """Count the notifications."""
    return worker.execute("select from public.scenario_notifications").rowcount


def test_a_series_that_is_spent_does_not_begin_anew(
    database: Database, worker: psycopg.Connection, tidy: Callable[[timedelta], int]
) -> None:
    """Told three times, then silence: a purge every month for two years must not let her be told a fourth time."""
    quiet(database, worker)
    told = 0
    for _ in range(24):
        evaluate(worker, "inactivity")
        told += len(deliver(worker))
        database.let_pass(MONTH)
        assert tidy(MONTH) <= 0
    assert told == 3


def test_a_series_under_way_goes_on_where_it_was(
    database: Database, worker: psycopg.Connection, tidy: Callable[[timedelta], int]
) -> None:
    """Told once, then disabled for a year and purged: two more are due, and it has not become history."""
    quiet(database, worker)
    evaluate(worker, "inactivity")
    deliver(worker)
    database.let_pass(365 * DAY)
    assert tidy(MONTH) <= 0
    told = 0
    for _ in range(6):
        told += evaluate(worker, "inactivity")["claimed"]
        deliver(worker)
        database.let_pass(MONTH)
        tidy(MONTH)
    assert told == 2


def test_a_series_of_the_longest_setting_is_kept(
    database: Database, worker: psycopg.Connection, tidy: Callable[[timedelta], int]
) -> None:
    """One organization has five reminders where the default is three."""
    configure(worker, "inactivity", "max_reminders", 5, ORGANIZATION)
    quiet(database, worker)
    told = 0
    for _ in range(20):
        told += evaluate(worker, "inactivity")["claimed"]
        deliver(worker)
        database.let_pass(MONTH)
        tidy(MONTH)
    assert told == 5


def test_what_may_have_told_her_is_kept_as_a_reminder(
    database: Database, worker: psycopg.Connection, tidy: Callable[[timedelta], int]
) -> None:
    """Failed after a lease that ran out unsettled, it counts: also after a purge."""
    configure(worker, "inactivity", "max_reminders", 1)
    mentor = Mentor(database, worker, "inactivity")
    mentor.be_claimed()
    mentor.let_a_lease_run_out()
    mentor.wait(8 * DAY)
    mentor.be_refused()
    mentor.wait(100 * DAY)
    assert tidy(MONTH) <= 0
    assert evaluate(worker, "inactivity")["skipped"] == {"reminders_spent": 1}


def test_an_older_absence_goes(database: Database, worker: psycopg.Connection) -> None:
    """Of three absences with three reminders each, the newest three rows stay."""
    mentor = quiet(database, worker)
    for _ in range(3):
        for _ in range(3):
            assert evaluate(worker, "inactivity")["claimed"] == 1
            deliver(worker)
            database.let_pass(MONTH)
        act(worker, mentor, "0 days")
        database.let_pass(MONTH)
    assert (count(worker), purge(worker), count(worker)) == (9, 6, 3)


@pytest.mark.parametrize(("settled", "gone"), [(10 * DAY, 0), (29 * DAY, 0), (31 * DAY, 1)])
def test_what_was_sent_late_is_as_old_as_its_sending(
    settled: timedelta, gone: int, database: Database, worker: psycopg.Connection
) -> None:
    """Triggered 40 days ago and sent 10 days ago, it holds for another 20; newer ones would let it go."""
    (user,) = database.new_users(1)
    for kind in "inactivity", "certification_expiry":
        insert_notification(
            worker,
            user,
            scenario_type=kind,
            delivery_status="sent",
            triggered_at=ago(40 * DAY),
            settled_at=ago(settled),
        )
        for age in (39 * DAY, 38 * DAY, 37 * DAY):
            insert_notification(
                worker, user, scenario_type=kind, delivery_status="sent", triggered_at=ago(age), settled_at=ago(5 * DAY)
            )
    assert purge(worker) == 2 * gone


def test_a_hold_that_lasts_keeps_its_row(database: Database, worker: psycopg.Connection) -> None:
    """Failed 40 days ago and held until yesterday: as old as its hold; held until tomorrow: still there."""
    for held_until, gone in (ago(31 * DAY), 1), (ago(DAY), 0), (ahead(DAY), 0):
        (user,) = database.new_users(1)
        insert_notification(
            worker,
            user,
            delivery_status="failed",
            failure_code="cancelled",
            triggered_at=ago(40 * DAY),
            held_until=held_until,
        )
        assert purge(worker) == gone


def test_a_type_that_is_once_ever_is_left_alone(
    database: Database, worker: psycopg.Connection, tidy: Callable[[timedelta], int]
) -> None:
    """An own type with a cooldown of a hundred years: whatever the period, it is told once."""
    configure(worker, OWN, "cooldown", "36500 days")
    mentor = Mentor(database, worker, OWN)
    mentor.be_claimed()
    mentor.deliver("sent")
    mentor.wait(4000 * DAY)
    worker.execute("insert into public.errands values (%s, 'another')", [mentor.user])
    assert tidy(MONTH) <= 0
    assert mentor.evaluate()["skipped"] == {"cooldown": 1}


def test_a_longer_cooldown_of_one_organization_protects_the_type(
    database: Database, worker: psycopg.Connection
) -> None:
    """The longest cooldown of the type counts; other types are purged all the same."""
    configure(worker, "inactivity", "cooldown", "90 days", ORGANIZATION)
    (user,) = database.new_users(1)
    for kind in "inactivity", "certification_expiry":
        for age in (80 * DAY, 70 * DAY, 60 * DAY, 50 * DAY):
            insert_notification(worker, user, scenario_type=kind, delivery_status="sent", triggered_at=ago(age))
    assert purge(worker) == 3
    assert purge(worker, 90 * DAY) == 0


@pytest.mark.parametrize("code", ["invalid_token", "no_longer_due"])
def test_the_head_of_the_chain_is_kept_though_it_failed(
    code: str, database: Database, worker: psycopg.Connection, tidy: Callable[[timedelta], int]
) -> None:
    """The next claim comes after it; the failures before it go."""
    (user,) = database.new_users(1)
    for _ in range(4):
        claim(worker, [new_claim(user)])
        worker.execute(
            "update public.scenario_notifications set delivery_status = 'failed', failure_code = %s"
            " where delivery_status = 'pending'",
            [code],
        )
        database.let_pass(9 * DAY)
    database.let_pass(60 * DAY)
    head = worker.execute("select max(triggered_at) from public.scenario_notifications").fetchall()[0][0]
    assert tidy(MONTH) in (3, -1)
    (outcome,) = claim(worker, [new_claim(user)])
    query = "select cooldown_window_start from public.scenario_notifications where id = %s"
    assert worker.execute(query, [outcome["id"]]).fetchall() == [(head,)]


def test_each_subject_is_kept_by_the_row_that_told_it_last(
    database: Database, worker: psycopg.Connection, tidy: Callable[[timedelta], int]
) -> None:
    """Told by different rows: those stay, and what is new afterwards is the same."""
    (user,) = database.new_users(1)
    for subjects in ["a"], ["b"], ["a", "c"], ["c"], ["c"]:
        about = {"scenario_type": "certification_expiry", "subjects": subjects}
        claim(worker, [new_claim(user, cooldown_seconds=DAY.total_seconds()) | about])
        deliver(worker)
        database.let_pass(2 * DAY)
    database.let_pass(40 * DAY)
    assert tidy(MONTH) in (2, -1)
    assert count(worker) in (3, 5)
    query = """
      select subjects from public.scenario_notifications as told where not exists (
        select from public.scenario_notifications as newer
        where newer.triggered_at > told.triggered_at and newer.subjects @> told.subjects)
      order by triggered_at
    """
    assert [row[0] for row in worker.execute(query)] == [["b"], ["a", "c"], ["c"]]


def test_a_row_without_subjects_told_them_all(database: Database, worker: psycopg.Connection) -> None:
    """What it was newer than may go; a later one about one of them does not renew it."""
    (user,) = database.new_users(1)
    for age, subjects in (90, ["a"]), (80, ["b"]), (70, []), (60, ["c"]):
        insert_notification(
            worker,
            user,
            scenario_type="certification_expiry",
            delivery_status="sent",
            triggered_at=ago(age * DAY),
            subjects=subjects,
        )
    assert (purge(worker), count(worker)) == (2, 2)


def test_milestones_are_kept_for_ever(
    database: Database, worker: psycopg.Connection, tidy: Callable[[timedelta], int]
) -> None:
    """Sent, or suppressed for good; a failure to deliver goes, and its milestone has become history by then."""
    mentors = [Mentor(database, worker, "milestone") for _ in range(3)]
    for mentor, result in zip(mentors, ("sent", "suppressed", "failed"), strict=True):
        mentor.claim()
        mentor.deliver(result)
    database.let_pass(4000 * DAY)
    assert tidy(MONTH) in (1, -1)
    reasons = [mentor.claim().get("skip_reason") for mentor in mentors]
    assert reasons == ["milestone_reached", "milestone_reached", None]


def test_the_doubling_of_failures_outlasts_a_purge_of_a_year(
    database: Database, worker: psycopg.Connection, tidy: Callable[[timedelta], int]
) -> None:
    """A row of failures goes on where it was: their holds are younger than the period."""
    mentor = Mentor(database, worker, OWN)
    for days in 1, 2, 4, 8:
        mentor.be_claimed()
        mentor.deliver("failed", "invalid_token")
        mentor.wait(days * DAY + HOUR)
        tidy(365 * DAY)
    mentor.be_claimed()
    moment = mentor.deliver("failed", "invalid_token")
    outcome = mentor.claim()
    assert datetime.fromisoformat(outcome["ends_at"]) == moment + 10 * DAY


def test_two_certificates_are_told_in_their_rhythm_beside_a_purge(
    database: Database, worker: psycopg.Connection, tidy: Callable[[timedelta], int]
) -> None:
    """Case 2.1 with a purge each day."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    certify(worker, mentor, "29 days")
    days = []
    for day in range(30):
        if day == 1:
            insert_certificates(worker, [mentor], ahead("10 days"), organization_id=ORGANIZATION)
        if evaluate(worker, "certification_expiry")["claimed"]:
            days.append(day)
            deliver(worker)
        database.let_pass(DAY)
        tidy(14 * DAY)
    assert days == [0, 1, 15]


def test_pending_rows_stay_however_old(database: Database, worker: psycopg.Connection) -> None:
    """With their hand-over: they are refused at the lease, and then they are history."""
    (user,) = database.new_users(1)
    claim(worker, [new_claim(user)])
    database.let_pass(4000 * DAY)
    assert purge(worker) == 0
    assert lease(worker) == []
    assert count(worker) == 1


def test_thousands_of_failures_are_read_a_few_times_each(database: Database, worker: psycopg.Connection) -> None:
    """Case 3.2: what a purge reads grows with the rows, and not with their square."""
    users = database.new_users(3)
    insert_failures(database, users, 2880)
    with worker.transaction():
        assert purge(worker, 365 * DAY) == 3 * 2880
        assert rows_read(worker) <= 12 * 3 * 2880


def test_thousands_of_failures_cost_an_evaluation_and_a_claim_nothing(
    database: Database, worker: psycopg.Connection
) -> None:
    """Case 3.2: a page reads of each of these mentors what it reads of one without a failure, and a few rows more."""
    read = []
    for failures in 0, 2880:
        mentors = database.new_mentors(20, ORGANIZATION)
        insert_activities(worker, mentors, ago("31 days"))
        insert_failures(database, mentors, failures)
        for way in "evaluation", "claim":
            with worker.transaction(force_rollback=True):
                if way == "evaluation":
                    assert evaluate(worker, "inactivity")["claimed"] == 20
                else:
                    claim(worker, [new_claim(mentor) for mentor in mentors])
                read.append(rows_read(worker))
        with database.connect(role=None) as owner:
            owner.execute("delete from auth.users")
    assert read[2] <= read[0] + 20 * 10
    assert read[3] <= read[1] + 20 * 10


def rows_read(worker: psycopg.Connection) -> int:
    """Return how many rows of notifications this transaction has read."""
    query = """
      select (seq_tup_read + coalesce(idx_tup_fetch, 0))::integer from pg_stat_xact_user_tables
      where relname = 'scenario_notifications'
    """
    ((rows,),) = worker.execute(query).fetchall()
    read: int = rows
    return read


def insert_failures(database: Database, users: list[UUID], number: int) -> None:
    """Record failures of each user, a quarter of an hour apart, that hold nothing any more."""
    with database.connect(role=None) as owner:
        owner.execute(
            insert_by_query(
                "scenario_notifications",
                """
                unnest(%s::uuid[]) as asked (id), generate_series(1, %s) as number (n),
                lateral (select now() - interval '400 days' - number.n * interval '15 minutes' as at) as moment
                """,
                user_id="asked.id",
                delivery_status="'failed'",
                failure_code="'invalid_token'",
                triggered_at="moment.at",
                deliver_until="moment.at",
                settled_at="moment.at",
                held_until="moment.at + interval '1 day'",
            ),
            [users, number],
        )
        owner.execute("vacuum analyze public.scenario_notifications")
