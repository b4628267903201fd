"""What a mute may be: a known scenario type, and at most 200 of one person."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import psycopg
import pytest

from tests.integration.database import Database
from tests.rows import ORGANIZATION, ago, insert_activities, insert_mentors

INSERT = (
    "insert into scenario_mutes (user_id, organization_id) select %s, gen_random_uuid() from generate_series(1, %s)"
)


def test_a_mute_given_to_another_person_is_one_more_of_hers(database: Database, worker: psycopg.Connection) -> None:
    """An update is no way round the limit; what stays hers may change."""
    full, other = database.new_users(2)
    worker.execute(INSERT, [full, 200])
    worker.execute(INSERT, [other, 1])
    worker.execute("update scenario_mutes set muted_until = now()")
    with pytest.raises(psycopg.Error) as refused:
        worker.execute("update scenario_mutes set user_id = %s where user_id = %s", [full, other])
    assert refused.value.sqlstate == "SR003"


@pytest.mark.parametrize("change", ["insert", "update"])
def test_there_is_nothing_to_mute_in_an_unknown_scenario(
    change: str, database: Database, worker: psycopg.Connection
) -> None:
    """A typing error would mute nothing, and nobody would know."""
    (user,) = database.new_users(1)
    if change == "update":
        worker.execute("insert into scenario_mutes (user_id) values (%s)", [user])
    with pytest.raises(psycopg.Error) as refused:
        worker.execute(
            "insert into scenario_mutes (user_id, scenario_type) values (%s, 'party')"
            if change == "insert"
            else "update scenario_mutes set scenario_type = 'party' where user_id = %s",
            [user],
        )
    assert refused.value.sqlstate == "SR004"


def test_she_is_told_by_the_organization_that_she_has_not_muted(database: Database, worker: psycopg.Connection) -> None:
    """Of two memberships the muted one is left out before one is chosen."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    insert_mentors(worker, [mentor], organization_id=UUID(int=2**128 - 1))
    insert_activities(worker, [mentor], ago("40 days"))
    worker.execute("insert into scenario_mutes (user_id, organization_id) values (%s, %s)", [mentor, ORGANIZATION])
    row = worker.execute("select public.scenario_evaluate('inactivity')").fetchone()
    assert row is not None
    assert (row[0]["claimed"], row[0]["skipped"]) == (1, {"muted": 1})
    found = worker.execute("select organization_id::text from scenario_notifications").fetchall()
    assert found == [("ffffffff-ffff-ffff-ffff-ffffffffffff",)]


@pytest.mark.parametrize(("each", "locks"), [(1, 0), (3, 1_024)])
def test_an_app_brings_its_mutes_along_at_once(
    each: int, locks: int, database: Database, worker: psycopg.Connection
) -> None:
    """The server has room for a few thousand locks in all: a statement takes a bounded number, whatever its rows."""
    users = database.new_users(2_000)
    with worker.transaction():
        worker.execute(
            "insert into scenario_mutes (user_id, scenario_type)"
            " select person, kind from unnest(%s::uuid[]) as person"
            " cross join unnest(('{inactivity,milestone,welcome_back}'::text[])[:%s]) as kind",
            [users, each],
        )
        row = worker.execute(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        ).fetchone()
    assert row is not None
    assert (0 < row[0] <= locks) if locks else row == (0,)


def test_one_of_many_who_has_too_many_refuses_the_statement(database: Database, worker: psycopg.Connection) -> None:
    """Nobody's is written then."""
    full, other = database.new_users(2)
    worker.execute(INSERT, [full, 200])
    with pytest.raises(psycopg.Error) as refused:
        worker.execute(
            "insert into scenario_mutes (user_id, scenario_type) values (%s, null), (%s, null)", [other, full]
        )
    assert refused.value.sqlstate == "SR003"
    assert worker.execute("select count(*) from scenario_mutes").fetchone() == (200,)


def test_two_apps_bring_mutes_of_the_same_people_along(database: Database) -> None:
    """In whatever order: one waits for the other, and both are written."""
    users = database.new_users(100)
    barrier = Barrier(2, timeout=20)

    def bring(order: list[UUID]) -> None:
        with database.connect() as connection:
            for _ in range(20):
                barrier.wait()
                connection.execute(
                    "insert into scenario_mutes (user_id, organization_id)"
                    " select person, gen_random_uuid()"
                    " from unnest(%s::uuid[]) as person cross join generate_series(1, 2)",
                    [order],
                )

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(bring, order) for order in (users, users[::-1])]:
            future.result(60)
    with database.connect() as worker:
        assert worker.execute("select count(*) from scenario_mutes").fetchone() == (8_000,)
