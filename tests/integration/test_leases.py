"""The lease: which pending notifications a worker is handed, and that nobody else is handed them meanwhile."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.integration.database import Database
from tests.integration.delivery import ids, lease
from tests.rows import ago, insert_devices, insert_notification, insert_notifications, set_handover

ORGANIZATION = UUID(int=1)


def _add(  # noqa: PLR0913 - the columns that matter here
    worker: psycopg.Connection,
    user_id: UUID,
    *,
    due_since: timedelta = timedelta(0),
    status: str = "pending",
    scenario_type: str = "inactivity",
    organization_id: UUID = ORGANIZATION,
) -> str:
    """Record a notification, and return its id as it stands in json."""
    row = insert_notification(
        worker,
        user_id,
        organization_id=organization_id,
        scenario_type=scenario_type,
        milestone_value=10 if scenario_type == "milestone" else None,
        delivery_status=status,
    )
    if due_since:
        set_handover(worker, [row["id"]], next_attempt_at=ago(due_since))
    return str(row["id"])


def test_only_pending_rows_that_are_due_are_leased(database: Database, worker: psycopg.Connection) -> None:
    """A sent row, a failed one and one that is due in a minute stay where they are."""
    (user,) = database.new_users(1)
    due = _add(worker, user)
    for status in ("sent", "failed"):
        _add(worker, user, status=status)
    _add(worker, user, due_since=timedelta(minutes=-1))

    assert ids(lease(worker)) == [due]


def test_nothing_due_is_an_empty_list(worker: psycopg.Connection) -> None:
    """The answer is an array, never null."""
    assert lease(worker) == []


def test_the_longest_due_are_leased_first(database: Database, worker: psycopg.Connection) -> None:
    """The limit cuts off those that became due last, in whatever order they were recorded."""
    (user,) = database.new_users(1)
    hours = [3, 9, 1, 7, 5]
    by_hours = {hour: _add(worker, user, due_since=timedelta(hours=hour)) for hour in hours}

    leases = [ids(lease(worker, 2)) for _ in range(4)]

    assert [set(leased) for leased in leases] == [
        {by_hours[9], by_hours[7]},
        {by_hours[5], by_hours[3]},
        {by_hours[1]},
        set(),
    ]


def test_leased_rows_come_oldest_first(database: Database, worker: psycopg.Connection) -> None:
    """Within one lease the order is that of triggered_at, whatever became due first."""
    (user,) = database.new_users(1)
    recorded = [_add(worker, user, due_since=timedelta(minutes=minute)) for minute in (1, 3, 2)]

    assert ids(lease(worker)) == recorded


def test_a_lease_is_the_row_with_its_hand_over(database: Database, worker: psycopg.Connection) -> None:
    """The answer is the row with its lease, the first one, which spends an attempt; what is the table's own is not."""
    (user,) = database.new_users(1)
    added = _add(worker, user)
    with worker.transaction():
        (leased,) = lease(worker, seconds=90.5)
        row = worker.execute(
            """
            select
              to_jsonb(notification) - array['is_failed', 'failed_code', 'outlasts_at', 'held_until', 'unsettled_at'],
              to_jsonb(handover),
              handover.leased_until - now()
            from public.scenario_notifications as notification
            join scenario_private.handover as handover on handover.notification_id = notification.id
            where id = %s
            """,
            [added],
        ).fetchone()

    assert row is not None
    stored, handover, ahead = row
    handed_over = {
        name: handover[name] for name in ("lease_number", "attempt_count", "leased_until", "unsettled_leases")
    }
    assert leased == stored | handed_over | {"device_tokens": []}
    assert (leased["delivery_status"], leased["lease_number"], leased["attempt_count"]) == ("pending", 1, 1)
    assert ahead == timedelta(seconds=90.5)


def test_the_lease_is_of_one_organization(database: Database, worker: psycopg.Connection) -> None:
    """With an organization given, other organizations' rows are left for others."""
    (user,) = database.new_users(1)
    other = uuid4()
    _add(worker, user)
    wanted = _add(worker, user, organization_id=other)

    assert ids(lease(worker, organization_id=other)) == [wanted]
    assert len(lease(worker)) == 1


def test_the_lease_is_of_some_scenario_types(database: Database, worker: psycopg.Connection) -> None:
    """Of the types given, all come; of none given, none."""
    (user,) = database.new_users(1)
    types = ("inactivity", "milestone", "certification_expiry", "welcome_back")
    added = {scenario_type: _add(worker, user, scenario_type=scenario_type) for scenario_type in types}

    assert lease(worker, scenario_types=[]) == []
    assert set(ids(lease(worker, scenario_types=["milestone", "welcome_back"]))) == {
        added["milestone"],
        added["welcome_back"],
    }
    assert set(ids(lease(worker))) == {added["inactivity"], added["certification_expiry"]}


def test_device_tokens_come_with_thelease(database: Database, worker: psycopg.Connection) -> None:
    """Each row brings its own user's devices; a user without one is handed out with an empty list."""
    with_two, with_one, without = database.new_users(3)
    insert_devices(worker, [with_two], token="token-b", platform="ios")
    insert_devices(worker, [with_two], token="token-a", platform="android")
    insert_devices(worker, [with_one], token="token-c", platform="web")
    for user in (with_two, with_one, without):
        _add(worker, user)

    devices = {UUID(row["user_id"]): row["device_tokens"] for row in lease(worker)}

    assert devices == {
        with_two: [{"token": "token-a", "platform": "android"}, {"token": "token-b", "platform": "ios"}],
        with_one: [{"token": "token-c", "platform": "web"}],
        without: [],
    }


def test_two_open_leases_share_no_row(database: Database, worker: psycopg.Connection) -> None:
    """What one transaction is leasing another passes over, without waiting for it."""
    (user,) = database.new_users(1)
    added = {_add(worker, user) for _ in range(10)}
    with database.connect() as one, database.connect() as two, one.transaction(), two.transaction():
        two.execute("set local lock_timeout = '2s'")
        first, second, third = ids(lease(one, 4)), ids(lease(two, 4)), ids(lease(one, 4))

    assert [len(first), len(second), len(third)] == [4, 4, 2]
    assert {*first, *second, *third} == added
    assert lease(worker) == []


def test_many_workers_lease_every_row_once(database: Database, worker: psycopg.Connection) -> None:
    """Eight workers that lease as fast as they can get each row to exactly one of them."""
    users = database.new_users(800)
    insert_notifications(worker, users)

    def lease_all(_: int) -> list[str]:
        mine: list[str] = []
        with database.connect() as connection:
            while leased := lease(connection, 7):
                mine += ids(leased)
        return mine

    with ThreadPoolExecutor(8) as pool:
        taken = Counter(leased for mine in pool.map(lease_all, range(8)) for leased in mine)
    # A worker may have found the last rows locked; nothing is left to a later one all the same.
    taken.update(ids(lease(worker, 1000)))

    assert (len(taken), taken.total()) == (800, 800)
    query = "select distinct lease_number, attempt_count from scenario_private.handover"
    assert worker.execute(query).fetchall() == [(1, 1)]


def test_a_row_comes_back_when_its_lease_runs_out(database: Database, worker: psycopg.Connection) -> None:
    """Not before; then to whoever asks, as the next attempt."""
    (user,) = database.new_users(1)
    _add(worker, user)
    (first,) = lease(worker, seconds=300)

    database.let_pass(timedelta(seconds=290))
    assert lease(worker) == []
    database.let_pass(timedelta(seconds=11))
    (second,) = lease(worker)

    assert second["id"] == first["id"]
    assert [(row["lease_number"], row["attempt_count"]) for row in (first, second)] == [(1, 1), (2, 2)]


def test_a_lease_that_is_rolled_back_was_none(database: Database, worker: psycopg.Connection) -> None:
    """A worker whose connection dies inside the call has counted and held nothing."""
    (user,) = database.new_users(1)
    _add(worker, user)
    with database.connect() as other, other.transaction(force_rollback=True):
        assert len(lease(other)) == 1

    assert [(row["lease_number"], row["attempt_count"]) for row in lease(worker)] == [(1, 1)]


def test_arguments_out_of_bounds_are_refused(database: Database, worker: psycopg.Connection) -> None:
    """SR001 for less than 1 or more than 1,000 rows, 1 second or 1 day, and nothing is leased."""
    (user,) = database.new_users(1)
    _add(worker, user)

    limits = [(limit, 60.0) for limit in (None, 0, -1, 1001)]
    leases = [(1, seconds) for seconds in (None, 0.999, -60.0, 86400.5, float("nan"))]
    for limit, seconds in [*limits, *leases]:
        with pytest.raises(psycopg.DatabaseError) as refusal:
            lease(worker, limit, seconds)
        assert refusal.value.sqlstate == "SR001"

    assert [len(lease(worker, 1000, 1)), len(lease(worker, 1, 86400))] == [1, 0]
