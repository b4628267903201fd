"""Evaluations that race: what is counted on top of a history is exact, and what is new is told once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import psycopg
import pytest

from tests.integration.database import Database, claim, new_claim
from tests.integration.delivery import deliver, lease, settle, settlement
from tests.integration.evaluation import certify, configure, empty, evaluate
from tests.integration.histories import database_with_own_type
from tests.postgres.server import PostgresServer
from tests.rows import ORGANIZATION, ago, insert_activities, insert_notifications

ENGINES = 6
MENTORS = 40
REMINDERS = 3
PATIENCE_SECONDS = 10.0


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests."""
    with database_with_own_type(postgres_server, "evaluation_races", migrated) as database:
        yield database


@pytest.fixture
def database(shared: Database) -> Iterator[Database]:
    """Empty the database afterwards."""
    yield shared
    empty(shared)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Run what has to wait."""
    with ThreadPoolExecutor(ENGINES + 2) as executor:
        yield executor


@pytest.fixture
def rival(database: Database) -> Iterator[psycopg.Connection]:
    """Connect a second engine."""
    with database.connect() as connection:
        yield connection


def wait_until_blocked(database: Database, connection: psycopg.Connection) -> None:
    """Return when the connection waits for a lock."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with database.connect() as observer:
        while not observer.execute("select from unnest(pg_blocking_pids(%s))", [connection.info.backend_pid]).rowcount:
            assert time.monotonic() < deadline, "the evaluation did not wait"
            time.sleep(0.005)


def due(database: Database, worker: psycopg.Connection, kind: str, number: int) -> list[UUID]:
    """Make mentors who are due for it, with a cooldown that is over at once."""
    configure(worker, kind, "cooldown", "1 microsecond")
    mentors = database.new_mentors(number, ORGANIZATION)
    insert_activities(worker, mentors, *map(ago, ["35 days"] if kind == "inactivity" else ["35 days", "1 hour"]))
    return mentors


def counts(worker: psycopg.Connection) -> set[int]:
    """Count the notifications of each user."""
    return {row[0] for row in worker.execute("select count(*) from public.scenario_notifications group by user_id")}


@pytest.mark.parametrize(("kind", "limit"), [("inactivity", REMINDERS), ("welcome_back", 1)])
def test_no_engine_tells_one_too_many(
    kind: str, limit: int, database: Database, worker: psycopg.Connection, pool: ThreadPoolExecutor
) -> None:
    """Case 2.3 under concurrency: engines and workers side by side, and each mentor gets exactly as many as she may."""
    due(database, worker, kind, MENTORS)

    def run(seed: int) -> None:
        with database.connect() as engine:
            for turn in range(4 * REMINDERS):
                evaluate(engine, kind, limit=7 + seed + turn)
                leased = lease(engine, 20)
                settle(engine, [settlement(one, "sent") for one in leased])

    for running in [pool.submit(run, seed) for seed in range(ENGINES)]:
        running.result()
    for _ in range(2 * REMINDERS):
        evaluate(worker, kind)
        deliver(worker)
    assert counts(worker) == {limit}


@pytest.mark.parametrize(("kind", "before"), [("inactivity", REMINDERS - 1), ("welcome_back", 0)])
def test_what_was_told_between_counting_and_claiming_counts(  # noqa: PLR0913, PLR0917
    kind: str,
    before: int,
    database: Database,
    worker: psycopg.Connection,
    rival: psycopg.Connection,
    pool: ThreadPoolExecutor,
) -> None:
    """An evaluation that waits after it has counted does not tell one too many."""
    mentors = due(database, worker, kind, 3)
    for number in range(before):
        insert_notifications(
            worker, mentors, scenario_type=kind, delivery_status="sent", triggered_at=ago(f"{3 - number} days")
        )
    with database.connect(role=None) as other:
        with other.transaction():
            other.execute("lock table auth.users in access exclusive mode")
            waiting = pool.submit(evaluate, rival, kind)
            wait_until_blocked(database, rival)
            assert evaluate(other, kind)["claimed"] == len(mentors)
            assert len(deliver(other)) == len(mentors)
        page = waiting.result()
    assert (page["claimed"], page["skipped"]) == (0, {"reminders_spent": len(mentors)})
    assert counts(worker) == {before + 1}


def test_an_evaluation_that_loses_tells_what_it_did_not_lose(
    database: Database, worker: psycopg.Connection, rival: psycopg.Connection, pool: ThreadPoolExecutor
) -> None:
    """A claim about one certificate comes first: the evaluation tells the other as new, in the same call."""
    first, second = sorted(database.new_mentors(2, ORGANIZATION))
    certificates = [certify(worker, mentor, "5 days", "6 days") for mentor in (first, second)]
    (told, other) = certificates[1]
    about = {"scenario_type": "certification_expiry", "subjects": [told]}
    with worker.transaction():
        claim(worker, [new_claim(second, **about)])
        waiting = pool.submit(evaluate, rival, "certification_expiry")
        wait_until_blocked(database, rival)
    page = waiting.result()
    assert (page["evaluated"], page["due"], page["claimed"], page["skipped"]) == (2, 2, 2, {})
    query = """
      select user_id, metadata -> 'new_subjects' from public.scenario_notifications where origin = 'evaluation'
    """
    assert dict(worker.execute(query).fetchall()) == {first: sorted(certificates[0]), second: [other]}


def test_an_evaluation_that_loses_everything_claims_nothing(
    database: Database, worker: psycopg.Connection, rival: psycopg.Connection, pool: ThreadPoolExecutor
) -> None:
    """Two engines on one page: the second finds all of it held, and says so."""
    mentors = database.new_mentors(5, ORGANIZATION)
    insert_activities(worker, mentors, ago("35 days"))
    with worker.transaction():
        assert evaluate(worker, "inactivity")["claimed"] == 5
        waiting = pool.submit(evaluate, rival, "inactivity")
        wait_until_blocked(database, rival)
    page = waiting.result()
    assert (page["due"], page["claimed"], page["skipped"]) == (5, 0, {"cooldown": 5})


def test_a_user_deleted_meanwhile_is_skipped(
    database: Database, worker: psycopg.Connection, rival: psycopg.Connection, pool: ThreadPoolExecutor
) -> None:
    """The others of the page are told."""
    mentors = sorted(database.new_mentors(3, ORGANIZATION))
    insert_activities(worker, mentors, ago("35 days"))
    with database.connect(role=None) as owner:
        with owner.transaction():
            owner.execute("delete from auth.users where id = %s", [mentors[1]])
            waiting = pool.submit(evaluate, rival, "inactivity")
            wait_until_blocked(database, rival)
        page = waiting.result()
    assert page["claimed"] == 2
