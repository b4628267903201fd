"""Claimers that race: first interleaved by hand, then sixteen at once, and an oracle in SQL over what they left."""

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
from psycopg.errors import OperationalError, SerializationFailure

from tests.integration.database import Database, claim, new_claim, new_milestone, now, results
from tests.integration.delivery import lease, settle, settlement
from tests.postgres.server import PostgresServer
from tests.rows import insert_notification

CLAIMERS = 16
SECONDS_OF_RACING = 1.5
PATIENCE_SECONDS = 10.0
TYPES = ("inactivity", "welcome_back")

SETTLE_ALL = """
update public.scenario_notifications set delivery_status = 'failed', failure_code = 'expired'
where delivery_status = 'pending'
"""
SETTLE_SOME = """
update public.scenario_notifications set delivery_status = %s where id in (
  select id from public.scenario_notifications
  where delivery_status = 'pending' order by random() limit 4 for update skip locked)
"""
KILL_A_CLAIM = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and state = 'active' and query like '%scenario_claim%' and pid <> pg_backend_pid()
order by random() limit 1
"""
DELETE_USER = "delete from auth.users where id = %s"

# A claim of something that an earlier claim held (what each was told of as new is in the table told: no row for a claim
# without subjects that was granted as a whole); a milestone twice; a claim whose window does not start at another
# claim's triggered_at. A pending row is one that nobody lets run out here.
VIOLATIONS = """
select 'hold', earlier.user_id, earlier.scenario_type
from public.scenario_notifications as earlier
join public.scenario_notifications as later using (user_id, scenario_type)
join told on told.id = later.id
where earlier.id <> later.id
  and earlier.cooldown_window_start is not null and later.cooldown_window_start is not null
  and later.triggered_at >= earlier.triggered_at
  and case earlier.delivery_status
    when 'pending' then true
    when 'sent' then greatest(earlier.triggered_at, earlier.settled_at) + later.cooldown > later.triggered_at
    else earlier.held_until > later.triggered_at
  end
  and (earlier.subjects = '{}' or told.new_subjects = '{}' or earlier.subjects && told.new_subjects)
union all
select 'milestone', user_id, milestone_value::text
from public.scenario_notifications
where milestone_value is not null and (delivery_status <> 'failed' or held_until = 'infinity')
group by user_id, milestone_value having count(*) > 1
union all
select 'chain', claimed.user_id, claimed.scenario_type
from public.scenario_notifications as claimed where claimed.cooldown_window_start > 'epoch'
  and (claimed.user_id, claimed.scenario_type, claimed.cooldown_window_start) not in (
    select user_id, scenario_type, triggered_at from public.scenario_notifications
    where cooldown_window_start is not null)
"""


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


def wait_until_blocked(database: Database, *connections: Connection) -> None:
    """Return when each of the connections waits for a lock."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with database.connect() as observer:
        for connection in connections:
            blockers = "select from unnest(pg_blocking_pids(%s))"
            while not observer.execute(blockers, [connection.info.backend_pid]).rowcount:
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
        fail = "update public.scenario_notifications set delivery_status = 'failed', failure_code = %s where id = %s"
        worker.execute(fail, [code, won["id"]])
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


class Melee:
    """Claimers without pause, and others who settle, insert, delete and kill, with cooldowns of milliseconds."""

    def __init__(self, database: Database, isolation: IsolationLevel) -> None:
        self.database = database
        self.isolation = isolation
        self.users = database.new_users(6)
        self.doomed = database.new_users(40)
        self.told: list[tuple[object, str, list[str]]] = []
        """The users, notifications and new subjects that a claimer was told of, and committed."""
        self.failures: list[str] = []
        self.ends = time.monotonic() + SECONDS_OF_RACING

    def batch(self, dice: random.Random) -> list[dict[str, object]]:
        """Claim for many users in any order, with cooldowns of different lengths."""
        users = [*self.users, *self.users, *dice.sample(self.doomed, 3)]
        claims = [new_milestone(user, dice.randint(1, 5)) for user in users]
        for user in users:
            length = dice.choice((0.02, 0.05, 0.1))
            kind = dice.choice(TYPES)
            about = dice.choice(([], [], ["a"], ["b"], ["a", "b"], ["b", "c"]))
            claims.append(new_claim(user, scenario_type=kind, cooldown_seconds=length, subjects=about))
        return dice.sample(claims, dice.randint(1, len(claims)))

    def claim(self, seed: int) -> None:
        """Claim until the end; connect again when killed."""
        dice = random.Random(seed)  # noqa: S311
        while time.monotonic() < self.ends:
            connection = self.database.connect()
            connection.isolation_level = self.isolation
            while time.monotonic() < self.ends and not connection.closed:
                try:
                    self.claim_once(connection, dice)
                except OperationalError as error:
                    self.failures.append(type(error).__name__)
            connection.close()

    def claim_once(self, connection: Connection, dice: random.Random) -> None:
        """Claim a batch in a transaction that may linger, fail some of its rows again, or be rolled back.

        What it claims with a lease it settles afterwards.
        """
        rolls_back = dice.random() < 0.1
        lease_seconds = dice.choice((None, 60))
        with connection.transaction(force_rollback=rolls_back):
            batch = self.batch(dice)
            outcomes = claim(connection, batch, lease_seconds)
            told = [
                (asked["user_id"], got["id"], got["new_subjects"])
                for asked, got in zip(batch, outcomes, strict=True)
                if "new_subjects" in got  # else it was claimed before, and is taken over
            ]
            if told and dice.random() < 0.2:
                connection.execute(f"{SETTLE_ALL} and id = any (%s)", [[told[0][1]]])
            if dice.random() < 0.3:
                time.sleep(dice.random() / 100)
        if not rolls_back:
            self.told += told
            self.settle(connection, dice, [outcome for outcome in outcomes if "lease_number" in outcome])

    @staticmethod
    def settle(connection: Connection, dice: random.Random, leased: list[dict[str, Any]]) -> None:
        """Say of each lease what became of it."""
        settle(
            connection,
            [settlement(one, dice.choice(("sent", "failed", "suppressed", "retry", "released"))) for one in leased],
        )

    def disturb(self, seed: int) -> None:
        """Do now and then what the rest of the world does."""
        dice = random.Random(seed)  # noqa: S311
        doomed = self.doomed.copy()
        with self.database.connect(role=None) as connection:
            while time.monotonic() < self.ends:
                connection.execute(SETTLE_SOME, [dice.choice(("sent", "failed"))])
                self.settle(connection, dice, lease(connection, 4))
                row = {
                    "scenario_type": dice.choice(TYPES),
                    "delivery_status": dice.choice(("pending", "sent", "failed")),
                }
                age = timedelta(seconds=dice.random() / 4)
                insert_notification(connection, dice.choice(self.users), triggered_at=now(connection) - age, **row)
                if dice.random() < 0.1:
                    connection.execute(KILL_A_CLAIM)
                if dice.random() < 0.1 and doomed:
                    connection.execute(DELETE_USER, [doomed.pop()])
                time.sleep(dice.random() / 50)


@pytest.mark.parametrize("isolation", list(IsolationLevel)[1:])
def test_sixteen_claimers_in_a_melee_never_notify_twice(
    isolation: IsolationLevel, database: Database, pool: ThreadPoolExecutor
) -> None:
    """No two claims within a cooldown, no milestone twice, no fork of the chain, no lost row, no deadlock."""
    melee = Melee(database, isolation)
    for run in [*(pool.submit(melee.claim, seed) for seed in range(CLAIMERS)), pool.submit(melee.disturb, CLAIMERS)]:
        run.result()
    with database.connect(role=None) as observer:
        observer.execute("create temporary table told (id uuid, new_subjects text[])")
        observer.cursor().executemany("insert into told values (%s, %s)", [told[1:] for told in melee.told])
        assert observer.execute(VIOLATIONS).fetchall() == []
        kept = {str(row[0]) for row in observer.execute("select id from public.scenario_notifications")}
    assert {told for user, told, _ in melee.told if user in melee.users} <= kept
    retried = [] if isolation is IsolationLevel.READ_COMMITTED else ["SerializationFailure"]
    assert set(melee.failures) <= {"AdminShutdown", "OperationalError", *retried}
    assert len(melee.told) > len(melee.users)
