"""scenario_find_inactive_mentors: for a role that may not read the tables, and no further than it says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from tests.integration.database import Database
from tests.integration.evaluation import OTHER_ORGANIZATION, act, empty, explain, reused_database
from tests.postgres.server import PostgresServer
from tests.rows import ORGANIZATION

_SIGNATURE = "public.scenario_find_inactive_mentors(uuid, interval, integer, uuid, integer)"
_ROLE = "restricted_worker"


@pytest.fixture(scope="module")
def reused(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests, and a role that may do nothing but call the function."""
    with reused_database(postgres_server, "contingency", migrated) as database:
        with database.connect(role=None) as owner:
            owner.execute(f"create role {_ROLE} nologin noinherit".encode())
            owner.execute(f"grant usage on schema public to {_ROLE}".encode())
            owner.execute(f"grant execute on function {_SIGNATURE} to {_ROLE}".encode())
            owner.execute(f"grant {_ROLE} to postgres".encode())
        try:
            yield database
        finally:
            with database.connect(role=None) as owner:
                owner.execute(f"drop owned by {_ROLE}".encode())
                owner.execute(f"drop role {_ROLE}".encode())


@pytest.fixture
def database(reused: Database) -> Iterator[Database]:
    """Empty the database after each test."""
    yield reused
    empty(reused)


@pytest.fixture
def restricted(database: Database) -> Iterator[psycopg.Connection]:
    """Connect as the role that may not read the tables."""
    with database.connect(_ROLE) as connection:
        yield connection


def find(connection: psycopg.Connection, *arguments: object) -> list[dict[str, Any]]:
    """Call the function; of one organization and 30 days unless told otherwise."""
    given = [*arguments, *(ORGANIZATION, "30 days", 1000, None)[len(arguments) :]]
    row = connection.execute("select public.scenario_find_inactive_mentors(%s, %s::interval, %s, %s)", given).fetchone()
    assert row is not None
    found: list[dict[str, Any]] = row[0]["mentors"]
    return found


def test_it_answers_a_role_that_may_not_read_the_tables(
    database: Database, worker: psycopg.Connection, restricted: psycopg.Connection
) -> None:
    """Whoever may execute it learns who has gone quiet and since when, and nothing by any other way."""
    quiet, busy, never = sorted(database.new_mentors(3, ORGANIZATION))
    act(worker, quiet, "45 days", "60 days", "-1 day")
    act(worker, busy, "1 day", "60 days")
    (found,) = find(restricted)
    assert found.keys() == {"user_id", "last_activity_at"}
    assert found["user_id"] == str(quiet)
    assert datetime.fromisoformat(found["last_activity_at"]).utcoffset() is not None
    for table in ("activities", "peer_mentors", "scenario_notifications", "scenario_evaluation_config"):
        with pytest.raises(errors.InsufficientPrivilege):
            restricted.execute(f"select from public.{table}".encode())
    with pytest.raises(errors.InsufficientPrivilege):
        restricted.execute("select public.scenario_evaluate('inactivity')")
    assert str(never) not in str(found)


def test_it_means_what_the_rule_means(database: Database, restricted: psycopg.Connection) -> None:
    """For mentors of every kind, on the boundary too, it finds exactly those whom explain calls due."""
    mentors = database.new_mentors(7, ORGANIZATION)
    (stopped,) = database.new_mentors(1, ORGANIZATION, is_active=False)
    kinds: tuple[list[str], ...] = (
        ["30 days"],
        ["30 days -1 microseconds"],
        ["30 days 1 microsecond"],
        [],
        ["-1 day"],
        ["0 s"],
        ["31 days"],
    )
    with database.connect() as connection, connection.transaction():
        for user_id, ago in zip([*mentors, stopped], [*kinds, ["90 days"]], strict=True):
            act(connection, user_id, *ago)
        due = {str(one) for one in [*mentors, stopped] if explain(connection, one, "inactivity")["is_due"]}
        assert {one["user_id"] for one in find(connection)} == due
        assert due == {str(mentors[0]), str(mentors[2]), str(mentors[6])}
    # A moment later the one who was a microsecond short has gone quiet too.
    assert len(find(restricted)) == 4


def test_it_is_of_one_organization_and_a_page(
    database: Database, worker: psycopg.Connection, restricted: psycopg.Connection
) -> None:
    """Only active mentors of the organization that is named, as many as asked for, in the order of their ids."""
    ids = sorted(database.new_mentors(5, ORGANIZATION))
    (stranger,) = database.new_mentors(1, OTHER_ORGANIZATION)
    (stopped,) = database.new_mentors(1, ORGANIZATION, is_active=False)
    for user_id in (*ids, stranger, stopped):
        act(worker, user_id, "60 days")
    pages: list[list[str]] = []
    after = None
    while not pages or len(pages[-1]) == 2:
        pages.append([one["user_id"] for one in find(restricted, ORGANIZATION, "30 days", 2, after)])
        after = pages[-1][-1]
    assert [user_id for page in pages for user_id in page] == [str(user_id) for user_id in ids]
    assert [one["user_id"] for one in find(restricted, OTHER_ORGANIZATION)] == [str(stranger)]
    assert find(restricted, UUID(int=77)) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (None,),
        (ORGANIZATION, None),
        (ORGANIZATION, "0"),
        (ORGANIZATION, "-1 day"),
        (ORGANIZATION, "36526 days"),
        (ORGANIZATION, "30 days", None),
        (ORGANIZATION, "30 days", 0),
        (ORGANIZATION, "30 days", 10_001),
    ],
)
def test_no_wider_question_is_answered(restricted: psycopg.Connection, arguments: tuple[object, ...]) -> None:
    """All organizations, no period, an endless page: refused."""
    with pytest.raises(psycopg.Error) as refused:
        find(restricted, *arguments)
    assert refused.value.sqlstate == "SR001"


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_the_apis_other_roles_may_not_execute_it(database: Database, role: str) -> None:
    """A definer function is only as closed as its grants."""
    with database.connect(role) as connection, pytest.raises(errors.InsufficientPrivilege):
        find(connection)


def test_it_is_a_definer_that_nobody_can_lead_astray(worker: psycopg.Connection) -> None:
    """It runs as its owner with a pinned search_path, reads only, and is granted to service_role alone."""
    row = worker.execute(
        "select prosecdef, provolatile, proconfig, proacl::text from pg_proc where oid = %s::regprocedure", [_SIGNATURE]
    ).fetchone()
    assert row is not None
    is_definer, volatility, configuration, grants = row
    assert (is_definer, volatility) == (True, "s")
    assert 'search_path=""' in configuration
    grantees = {grant.partition("=")[0] for grant in grants.strip("{}").split(",")}
    assert grantees == {"postgres", "service_role", _ROLE}


def test_a_callers_own_objects_are_not_used(
    database: Database, worker: psycopg.Connection, restricted: psycopg.Connection
) -> None:
    """A table of the caller's that bears the same name, first in the search path, changes nothing."""
    (quiet,) = database.new_mentors(1, ORGANIZATION)
    act(worker, quiet, "60 days")
    restricted.execute("create temporary table peer_mentors (user_id uuid, organization_id uuid, is_active boolean)")
    restricted.execute("create temporary table activities (user_id uuid, activity_date timestamptz)")
    restricted.execute("set search_path = pg_temp, public")
    assert [one["user_id"] for one in find(restricted)] == [str(quiet)]
