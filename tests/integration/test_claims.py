"""What a claim decides of one user: one connection, no rivals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.integration.database import Database, claim, new_claim, new_milestone, now, results
from tests.postgres.server import PostgresServer
from tests.rows import insert_notification

WEEK = timedelta(days=7)
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests: each has users of its own."""
    yield Database(postgres_server.create_database("claims", template=migrated))
    postgres_server.drop_database("claims")


@pytest.fixture
def user(database: Database) -> UUID:
    """Create a user without a history."""
    return database.new_users(1)[0]


def settle(
    connection: psycopg.Connection, notification_id: object, status: str, failure_code: str | None = None
) -> None:
    connection.execute(
        "update public.scenario_notifications set delivery_status = %s, failure_code = %s where id = %s",
        [status, failure_code, notification_id],
    )


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_first_claim_is_granted_and_returned_as_stored(worker: psycopg.Connection, user: UUID) -> None:
    """What the outcome tells is of the pending row: triggered now, with epoch as the start of its window."""
    metadata = {"certificates": ["a", "ö"], "days": 3}
    with worker.transaction():
        time = now(worker)
        (told,) = claim(worker, [new_claim(user, metadata=metadata)])
    assert instant(told["triggered_at"]) == time
    assert instant(told["cooldown_window_start"]) == EPOCH

    query = "select to_json(row) from public.scenario_notifications as row where user_id = %s"
    ((row,),) = worker.execute(query, [user]).fetchall()
    assert told.pop("new_subjects") == []
    assert {name: row[name] for name in told} == told
    assert instant(told["deliver_until"]) == time + WEEK
    assert (row["delivery_status"], row["metadata"]) == ("pending", metadata)


def test_a_cooldown_tells_who_holds_it_and_until_when(worker: psycopg.Connection, user: UUID) -> None:
    """The second claim is told the id of the first, and its triggered_at plus the cooldown, to the microsecond."""
    first, second = (claim(worker, [new_claim(user)])[0] for _ in range(2))
    assert second["skip_reason"] == "cooldown"
    assert second["held_by"] == first["id"]
    assert instant(second["ends_at"]) == instant(first["triggered_at"]) + WEEK


@pytest.mark.parametrize(
    ("last", "days"),
    [(datetime(2026, 3, 26, 1, tzinfo=UTC), 2_000), (datetime(2025, 10, 23, 1, tzinfo=UTC), 1_900)],
    ids=["winter to summer", "summer to winter"],
)
def test_a_cooldown_is_as_long_across_a_change_of_the_clock(
    last: datetime, days: int, worker: psycopg.Connection, user: UUID
) -> None:
    """A day is 24 hours, whatever the session's time zone, given as seconds or as days."""
    worker.execute("set timezone = 'Europe/Oslo'")
    insert_notification(worker, user, triggered_at=last, delivery_status="sent")
    (outcome,) = claim(worker, [new_claim(user, cooldown_seconds=days * 86_400)])
    assert instant(outcome["ends_at"]) == last + timedelta(hours=days * 24)
    query = """
      select (
        (scenario_private.claim(
          scenario_private.new_id_prefix(), 'claim', array[%s::uuid], array[gen_random_uuid()], null, '{inactivity}',
          null, array[make_interval(days => %s)], null, '{null}', null, null, null, null, null, null
        )).ends_at
      )[1]
    """
    row = worker.execute(query, [user, days]).fetchone()
    assert row == (last + timedelta(hours=days * 24),)


@pytest.mark.parametrize(("remaining", "result"), [(timedelta(0), "claimed"), (MICROSECOND, "cooldown")])
def test_a_cooldown_ends_to_the_microsecond(
    remaining: timedelta, result: str, database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """A claim is granted at the very end of the cooldown, and refused one microsecond before."""
    (first,) = claim(worker, [new_claim(user)])
    with worker.transaction():
        age = now(worker) - instant(first["triggered_at"])
        database.let_pass(WEEK - remaining - age)
        assert results(claim(worker, [new_claim(user)])) == [result]


@pytest.mark.parametrize(("status", "result"), [("pending", "cooldown"), ("sent", "cooldown"), ("failed", "claimed")])
def test_a_failed_notification_holds_for_a_day(
    status: str, result: str, database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """Pending and sent rows hold the cooldown, claimed or inserted; a failure holds for a day, an inserted one not."""
    (first,) = claim(worker, [new_claim(user)])
    settle(worker, first["id"], status)
    assert results(claim(worker, [new_claim(user)])) == ["cooldown"]
    database.let_pass(timedelta(days=1))
    assert results(claim(worker, [new_claim(user)])) == [result]

    insert_notification(worker, user, scenario_type="welcome_back", delivery_status=status)
    assert results(claim(worker, [new_claim(user, scenario_type="welcome_back")])) == [result]


def test_an_older_notification_holds_the_cooldown_behind_a_failed_one(worker: psycopg.Connection, user: UUID) -> None:
    """A failure doesn't hide what was sent before it."""
    sent = insert_notification(worker, user, delivery_status="sent", triggered_at=now(worker) - timedelta(days=3))
    insert_notification(worker, user, delivery_status="failed")
    (outcome,) = claim(worker, [new_claim(user)])
    assert (outcome["skip_reason"], outcome["held_by"]) == ("cooldown", str(sent["id"]))


def test_the_cooldown_asked_for_is_the_one_that_counts(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """A shorter cooldown than the last claim's frees sooner, a longer one holds longer."""
    (first,) = claim(worker, [new_claim(user)])
    settle(worker, first["id"], "sent")
    database.let_pass(timedelta(days=3))
    lengths = (timedelta(days=30), timedelta(days=3, hours=1), timedelta(days=2))
    outcomes = [claim(worker, [new_claim(user, cooldown_seconds=length.total_seconds())])[0] for length in lengths]
    assert results(outcomes) == ["cooldown", "cooldown", "claimed"]
    ends = [instant(outcome["ends_at"]) for outcome in outcomes[:2]]
    assert ends[0] - ends[1] == lengths[0] - lengths[1]


def test_a_plain_insert_counts_once_it_is_committed(database: Database, worker: psycopg.Connection, user: UUID) -> None:
    """Another writer's row, without a window of its own, holds the cooldown; while uncommitted it doesn't."""
    other = database.new_users(1)[0]
    with database.connect() as writer, writer.transaction():
        insert_notification(writer, user)
        row = insert_notification(writer, other, scenario_type="welcome_back")
        assert results(claim(worker, [new_claim(user)])) == ["claimed"]
    (outcome,) = claim(worker, [new_claim(other, scenario_type="welcome_back")])
    assert (outcome["skip_reason"], outcome["held_by"]) == ("cooldown", str(row["id"]))


def test_other_users_and_types_hold_nothing(database: Database, worker: psycopg.Connection) -> None:
    """A cooldown is that of one user and scenario type; it spans the user's organizations."""
    first, second = database.new_users(2)
    claims = [
        new_claim(user, scenario_type=kind) for user in (first, second) for kind in ("inactivity", "welcome_back")
    ]
    assert results(claim(worker, [*claims, new_milestone(first, 10)])) == ["claimed"] * 5
    assert results(claim(worker, [new_claim(first, organization_id=uuid4())])) == ["cooldown"]


def test_a_milestone_is_claimed_once_for_ever(database: Database, worker: psycopg.Connection, user: UUID) -> None:
    """No time frees it, in whatever organization; other values are free at once."""
    (first,) = claim(worker, [new_milestone(user, 10)])
    assert first["cooldown_window_start"] is None
    settle(worker, first["id"], "sent")
    database.let_pass(timedelta(days=4000))
    again, other, elsewhere = claim(
        worker, [new_milestone(user, 10), new_milestone(user, 25), new_milestone(user, 10, organization_id=uuid4())]
    )
    assert again == {"skip_reason": "milestone_reached", "held_by": first["id"], "ends_at": None}
    assert results([other, elsewhere]) == ["claimed", "milestone_reached"]


def test_a_failed_milestone_is_free_again_after_a_day(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """A failure holds it for a day, a record that has not failed for good, and a plain insert is one."""
    (first,) = claim(worker, [new_milestone(user, 10)])
    settle(worker, first["id"], "failed")
    (held,) = claim(worker, [new_milestone(user, 10)])
    assert (held["skip_reason"], held["held_by"]) == ("milestone_reached", first["id"])
    assert timedelta(hours=23) < instant(held["ends_at"]) - now(worker) <= timedelta(days=1)
    database.let_pass(timedelta(days=1))
    assert results(claim(worker, [new_milestone(user, 10)])) == ["claimed"]
    row = insert_notification(worker, user, scenario_type="milestone", milestone_value=25)
    (outcome,) = claim(worker, [new_milestone(user, 25)])
    assert (outcome["skip_reason"], outcome["held_by"]) == ("milestone_reached", str(row["id"]))


def test_a_predecessor_in_the_future_does_not_wedge_the_chain(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """After a clock went backwards a claim comes just after the one before it, once that one has failed."""
    with database.connect(role=None) as owner:
        ahead = insert_notification(
            owner, user, triggered_at=now(owner) + timedelta(hours=1), cooldown_window_start=EPOCH
        )
    (held,) = claim(worker, [new_claim(user, cooldown_seconds=1)])
    assert (held["skip_reason"], held["held_by"]) == ("cooldown", str(ahead["id"]))
    assert instant(held["ends_at"]) == ahead["deliver_until"]

    last = ahead["triggered_at"]
    failing = ahead["id"]
    for _ in range(3):
        settle(worker, failing, "failed", "no_longer_due")
        (outcome,) = claim(worker, [new_claim(user)])
        assert instant(outcome["cooldown_window_start"]) == last
        assert instant(outcome["triggered_at"]) == last + MICROSECOND
        last, failing = last + MICROSECOND, outcome["id"]


@pytest.mark.parametrize("clock", [-1, 1])
def test_no_history_takes_a_claim_off_the_fast_path(
    clock: int, database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """After a failed claim, before or after a clock went backwards, the first try finds the window that is free."""
    with database.connect(role=None) as owner:
        last = insert_notification(
            owner,
            user,
            triggered_at=now(owner) + clock * timedelta(hours=1),
            cooldown_window_start=EPOCH,
            delivery_status="failed",
        )
    query = """
      select answer.following_places, answer.following_windows, answer.following_at, now()
      from scenario_private.claim_once(
        scenario_private.new_id_prefix(), 'claim', array[%s::uuid], array[%s::uuid], null, array['inactivity'], null,
        array[interval '7 days'], null, array[null::integer], null, null, null, null, null, false, null, null
      ) as answer
    """
    ((places, (window,), (triggered_at,), asked_at),) = worker.execute(query, [user, uuid4()]).fetchall()
    assert places == [1]
    assert window == last["triggered_at"]
    assert triggered_at == max(asked_at, window + MICROSECOND)


def test_each_claims_window_starts_at_the_claim_before_it(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """A history of claims is one chain from epoch on, through failures and past plain inserts, which stand outside."""
    for turn in range(8):
        (outcome,) = claim(worker, [new_claim(user)])
        status = ("sent", "failed", "pending")[turn % 3]
        settle(worker, outcome["id"], status, "no_longer_due" if status == "failed" else None)
        insert_notification(worker, user, delivery_status="failed", triggered_at=now(worker) - turn * timedelta(days=2))
        database.let_pass(timedelta(0) if turn % 3 == 1 else WEEK)
    query = """
      select cooldown_window_start, triggered_at from public.scenario_notifications
      where cooldown_window_start is not null and user_id = %s order by triggered_at
    """
    rows = worker.execute(query, [user]).fetchall()
    assert len(rows) == 8
    assert [start for start, _ in rows] == [EPOCH, *(triggered_at for _, triggered_at in rows[:-1])]


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_only_a_worker_may_claim(role: str, database: Database, user: UUID) -> None:
    """The key of an app, or a signed-in user's token, is denied."""
    with database.connect(role) as stranger, pytest.raises(psycopg.errors.InsufficientPrivilege):
        claim(stranger, [new_claim(user)])
