"""Claimers that race, interleaved by hand; and sixteen at once, round by round."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection, IsolationLevel
from psycopg.errors import SerializationFailure

from tests.integration.database import Database, claim, new_claim, new_milestone, now, results
from tests.postgres.server import PostgresServer
from tests.rows import insert_notification

CLAIMERS = 16
PATIENCE_SECONDS = 10.0
TYPES = ("inactivity", "welcome_back")

SETTLE_ALL = """
update public.scenario_notifications set delivery_status = 'failed', failure_code = 'expired'
where delivery_status = 'pending'
"""
FAIL = "update public.scenario_notifications set delivery_status = 'failed', failure_code = %s where id = %s"
DELETE_USER = "delete from auth.users where id = %s"


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests: each has users of its own."""
    yield Database(postgres_server.create_database("races", template=migrated))
    postgres_server.drop_database("races")


@pytest.fixture
def rival(database: Database) -> Iterator[Connection]:
    """Connect a second worker."""
    with database.connect() as connection:
        yield connection


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Run what has to wait."""
    with ThreadPoolExecutor(CLAIMERS + 4) as executor:
        yield executor


def wait_until_blocked(database: Database, *connections: Connection, by: Connection | None = None) -> None:
    """Return when each of the connections waits for a lock: anybody's, or that of a certain one."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with database.connect() as observer:
        for connection in connections:
            blockers = "select from unnest(pg_blocking_pids(%s)) as pid where coalesce(pid = %s, true)"
            pids = [connection.info.backend_pid, by and by.info.backend_pid]
            while not observer.execute(blockers, pids).rowcount:
                assert time.monotonic() < deadline, "the claim did not wait"
                time.sleep(0.005)


@pytest.mark.parametrize("cooldown", [timedelta(days=7), timedelta(days=30), timedelta(minutes=1), None])
def test_the_loser_waits_and_is_told_who_won(
    cooldown: timedelta | None, database: Database, worker: Connection, rival: Connection, pool: ThreadPoolExecutor
) -> None:
    """Beside an uncommitted claim, another with whatever cooldown, or for the same milestone, waits and is refused."""
    first, second = sorted(database.new_users(2))
    new = new_claim if cooldown else partial(new_milestone, value=10)
    later = [new(user) | {"cooldown_seconds": cooldown and cooldown.total_seconds()} for user in (second, first)]
    with worker.transaction():
        (won,) = claim(worker, [new(first)])
        waiting = pool.submit(claim, rival, later)
        wait_until_blocked(database, rival)
    outcomes = waiting.result()
    assert results(outcomes) == ["claimed", "cooldown" if cooldown else "milestone_reached"]
    assert outcomes[1]["held_by"] == won["id"]
    assert (outcomes[1]["ends_at"] is None) == (cooldown is None)


def test_two_sides_of_a_calendar_boundary_are_one_race(
    database: Database, worker: Connection, rival: Connection, pool: ThreadPoolExecutor
) -> None:
    """With a cooldown of a second, claimers just before and just after a full second get one notification."""
    (user,) = database.new_users(1)
    time.sleep(0.95 - time.time() % 1 if time.time() % 1 < 0.95 else 0)
    with worker.transaction():
        assert results(claim(worker, [new_claim(user, cooldown_seconds=1)])) == ["claimed"]
        time.sleep(0.1)
        waiting = pool.submit(claim, rival, [new_claim(user, cooldown_seconds=1)])
        wait_until_blocked(database, rival)
    assert results(waiting.result()) in (["cooldown"], ["concurrent_claim"])


@pytest.mark.parametrize("end", ["rolls back", "is killed", "expires as a milestone", "expires"])
def test_a_claim_that_comes_to_nothing_leaves_room(
    end: str, database: Database, worker: Connection, rival: Connection, pool: ThreadPoolExecutor
) -> None:
    """The other gets it, where the winner's row is gone or holds nothing any more."""
    (user,) = database.new_users(1)
    wanted = new_milestone(user, 10) if end == "expires as a milestone" else new_claim(user)
    worker.autocommit = False
    assert results(claim(worker, [wanted])) == ["claimed"]
    waiting = pool.submit(claim, rival, [wanted])
    wait_until_blocked(database, rival)
    if end == "rolls back":
        worker.rollback()
    elif end == "is killed":
        with database.connect(role=None) as killer:
            killer.execute("select pg_terminate_backend(%s)", [worker.info.backend_pid])
        worker.close()
    else:
        worker.execute(SETTLE_ALL)
        worker.commit()
    assert results(waiting.result()) == ["claimed"]


@pytest.mark.parametrize("code", ["invalid_token", "suppressed", "cancelled"])
def test_a_claim_that_failed_meanwhile_holds_what_its_failure_says(
    code: str, database: Database, worker: Connection, rival: Connection, pool: ThreadPoolExecutor
) -> None:
    """The loser is judged again, on what has become of the winner's row."""
    (user,) = database.new_users(1)
    with worker.transaction():
        (won,) = claim(worker, [new_claim(user)])
        waiting = pool.submit(claim, rival, [new_claim(user)])
        wait_until_blocked(database, rival)
        worker.execute(FAIL, [code, won["id"]])
    (outcome,) = waiting.result()
    assert (outcome.get("skip_reason"), outcome.get("held_by")) == ("cooldown", won["id"])


@pytest.mark.parametrize("end", ["stays", "expires"])
def test_a_batch_that_repeats_itself_is_told_who_won(
    end: str, database: Database, worker: Connection, rival: Connection, pool: ThreadPoolExecutor
) -> None:
    """It goes row by row, and loses its race there; if the winner has expired since, it gets it in the same call."""
    first, second = sorted(database.new_users(2))
    with worker.transaction():
        (won,) = claim(worker, [new_claim(second)])
        waiting = pool.submit(claim, rival, [new_claim(first), new_claim(first), new_claim(second)])
        wait_until_blocked(database, rival)
        if end == "expires":
            worker.execute(SETTLE_ALL)
    outcomes = waiting.result()
    last = "claimed" if end == "expires" else "cooldown"
    assert results(outcomes) == ["claimed", "duplicate_in_batch", last]
    assert end == "expires" or outcomes[2]["held_by"] == won["id"]


@pytest.mark.parametrize("isolation", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
@pytest.mark.parametrize("noise", ["failed", "backdated", "none"])
def test_an_old_snapshot_never_claims_a_second_time(
    isolation: IsolationLevel, noise: str, database: Database, worker: Connection, rival: Connection
) -> None:
    """It gets 40001, also when rows it can't see, which hold nothing, were inserted since; trying again is safe."""
    (user,) = database.new_users(1)
    for wanted, held in (new_claim(user), "cooldown"), (new_milestone(user, 10), "milestone_reached"):
        rival.isolation_level = isolation
        with rival.transaction(force_rollback=True):
            rival.execute("select")
            insert_noise(worker, user, noise)
            assert results(claim(worker, [wanted])) == ["claimed"]
            with pytest.raises(SerializationFailure):
                claim(rival, [wanted])
        assert results(claim(rival, [wanted])) == [held]


def insert_noise(connection: Connection, user: UUID, noise: str) -> None:
    """Insert a row that holds no cooldown but is the newest of its user, or none."""
    status, age = {"failed": ("failed", 0), "backdated": ("sent", 8)}.get(noise, (None, 0))
    if status:
        insert_notification(
            connection, user, delivery_status=status, triggered_at=now(connection) - timedelta(days=age)
        )


@pytest.mark.parametrize("code", ["suppressed", "cancelled"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_milestone_that_came_to_nothing_meanwhile_is_not_claimed_again(  # noqa: PLR0913, PLR0917
    code: str, times: int, database: Database, worker: Connection, rival: Connection, pool: ThreadPoolExecutor
) -> None:
    """A long statement can't see it: it was claimed, and suppressed for good, since that began."""
    first, second = sorted(database.new_users(2))
    batch = [new_milestone(first, 10), new_milestone(second, 10)]
    with worker.transaction(force_rollback=True):
        claim(worker, batch[:1])
        waiting = pool.submit(claim, rival, batch * times)
        wait_until_blocked(database, rival)
        with database.connect() as third:
            (won,) = claim(third, batch[1:], 60)
            third.execute(FAIL, [code, won["id"]])
    outcomes = waiting.result()
    assert results(outcomes[:2]) == ["claimed", "milestone_reached"]
    assert outcomes[1]["held_by"] == won["id"]


@pytest.mark.parametrize("noise", ["failed", "backdated"])
def test_a_slow_claim_never_claims_a_second_time(
    noise: str, database: Database, worker: Connection, rival: Connection, pool: ThreadPoolExecutor
) -> None:
    """A claim that waits in the middle of its batch meets the one that came meanwhile, past rows that hold nothing."""
    first, second = sorted(database.new_users(2))
    with worker.transaction():
        claim(worker, [new_claim(first)])
        waiting = pool.submit(claim, rival, [new_claim(first), new_claim(second)])
        wait_until_blocked(database, rival)
        with database.connect() as third:
            insert_noise(third, second, noise)
            (won,) = claim(third, [new_claim(second)])
    outcomes = waiting.result()
    assert results(outcomes) == ["cooldown", "cooldown"]
    assert outcomes[1]["held_by"] == won["id"]


def test_batches_in_opposite_orders_never_deadlock(
    database: Database, worker: Connection, rival: Connection, pool: ThreadPoolExecutor
) -> None:
    """Each is held up in its middle, having claimed what it takes first: that is the same for both."""
    users = sorted(database.new_users(4))
    with database.connect() as blocker:
        with blocker.transaction():
            claim(blocker, [new_claim(users[1]), new_claim(users[2])])
            batches = ((worker, users), (rival, [*reversed(users)]))
            waiting = [pool.submit(claim, connection, list(map(new_claim, batch))) for connection, batch in batches]
            wait_until_blocked(database, worker, rival)
        tally = Counter(result for future in wait(waiting).done for result in results(future.result()))
    assert tally == {"claimed": 2, "cooldown": 6}


@pytest.mark.parametrize("stranger", [[], [UUID(int=0)]], ids=["beside known users", "beside an unknown one"])
def test_a_user_deleted_meanwhile_is_unknown(
    stranger: list[UUID], database: Database, worker: Connection, pool: ThreadPoolExecutor
) -> None:
    """The claim waits for the deletion, and then claims for the others; had it been rolled back, for all."""
    users = sorted(database.new_users(3))
    unknown = ["unknown_user"] * len(stranger)
    with database.connect(role=None) as owner:
        for expected in ("claimed", "unknown_user"):
            with owner.transaction(force_rollback=expected == "claimed"):
                owner.execute(DELETE_USER, [users[1]])
                waiting = pool.submit(claim, worker, list(map(new_claim, [*stranger, *users])))
                wait_until_blocked(database, worker)
            assert results(waiting.result()) == [*unknown, "claimed", expected, "claimed"]
            worker.execute(SETTLE_ALL)


def test_a_claim_goes_with_its_user(database: Database, worker: Connection, pool: ThreadPoolExecutor) -> None:
    """A deletion waits for the claim to commit, and takes its row along."""
    (user,) = database.new_users(1)
    with database.connect(role=None) as owner:
        with worker.transaction():
            assert results(claim(worker, [new_claim(user)])) == ["claimed"]
            waiting = pool.submit(owner.execute, DELETE_USER, [user])
            wait_until_blocked(database, owner)
        waiting.result()
    assert worker.execute("select from public.scenario_notifications where user_id = %s", [user]).rowcount == 0


def test_a_batch_that_lost_a_race_is_made_again_in_order(
    database: Database, worker: Connection, rival: Connection, pool: ThreadPoolExecutor
) -> None:
    """It lost its first place and had inserted its second, which another waits for that has the first: no deadlock."""
    users = sorted(database.new_users(4))
    asked = [new_claim(user, subjects=["a"]) for user in (users[0], *users)]  # the repetition makes it go row by row
    with database.connect(role=None) as owner, database.connect() as first, database.connect() as third:
        with owner.transaction():
            owner.execute("select from auth.users where id = %s for update", [users[3]])
            losing = pool.submit(claim, rival, asked)
            wait_until_blocked(database, rival)
            third.autocommit = first.autocommit = False
            claim(third, [new_claim(users[2], subjects=["b"])])
            claim(first, [new_claim(users[0], subjects=["b"])])
        wait_until_blocked(database, rival, by=first)
        first.commit()
        wait_until_blocked(database, rival, by=third)
        waiting = pool.submit(claim, worker, [new_claim(user, subjects=["c"]) for user in users[:2]])
        wait_until_blocked(database, worker, by=rival)
        third.commit()
    assert results(waiting.result()) == ["claimed"] * 2
    assert results(losing.result()) == ["claimed", "duplicate_in_batch", *["claimed"] * 3]


@pytest.mark.parametrize(
    ("first", "second", "new"),
    [
        (["a"], ["a", "b"], ["b"]),
        (["a", "b"], ["a"], None),
        (["a"], ["b"], ["b"]),
        ([], ["a"], None),
        (["a"], [], None),
    ],
    ids=repr,
)
@pytest.mark.parametrize("isolation", [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ])
def test_the_loser_gets_the_subjects_that_it_did_not_lose(  # noqa: PLR0913, PLR0917
    first: list[str],
    second: list[str],
    new: list[str] | None,
    isolation: IsolationLevel,
    database: Database,
    worker: Connection,
    rival: Connection,
    pool: ThreadPoolExecutor,
) -> None:
    """In the same call; with an old snapshot it gets 40001, and them when it tries again."""
    (user,) = database.new_users(1)
    rival.isolation_level = isolation

    def lose() -> list[dict[str, Any]]:
        with rival.transaction():
            return claim(rival, [new_claim(user, subjects=second)])

    with worker.transaction():
        (won,) = claim(worker, [new_claim(user, subjects=first)])
        waiting = pool.submit(lose)
        wait_until_blocked(database, rival)
    if isolation is IsolationLevel.READ_COMMITTED:
        (outcome,) = waiting.result()
    else:
        with pytest.raises(SerializationFailure):
            waiting.result()
        (outcome,) = lose()
    assert (outcome.get("new_subjects"), outcome.get("held_by")) == (new, None if new else won["id"])


def test_sixteen_claimers_get_one_notification_each_time_a_cooldown_ends(
    database: Database, pool: ThreadPoolExecutor
) -> None:
    """Round by round: nobody wins just before the end of the cooldown, exactly one just after."""
    batch = [new_claim(user, scenario_type=kind) for user in database.new_users(20) for kind in TYPES]
    start = threading.Barrier(CLAIMERS)

    def compete(connection: Connection, seed: int) -> Counter[str]:
        shuffled = random.Random(seed).sample(batch, len(batch))  # noqa: S311
        start.wait(PATIENCE_SECONDS)
        return Counter(results(claim(connection, shuffled)))

    with ExitStack() as stack:
        connections = [stack.enter_context(database.connect()) for _ in range(CLAIMERS)]
        for hours, claimed in (0, 1), (167, 0), (2, 1), (168, 1):
            database.let_pass(timedelta(hours=hours))
            rounds = [pool.submit(compete, one, hours + seat) for seat, one in enumerate(connections)]
            tally = sum((future.result() for future in wait(rounds).done), Counter[str]())
            assert tally == Counter(claimed=claimed * 40, cooldown=(CLAIMERS - claimed) * 40)
