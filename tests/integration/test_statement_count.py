"""The number of statements depends on pages, never on mentors, and a lease plans none of its own: the server counts."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.integration.database import Database
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import SUPERUSER, PostgresServer, postgres_server
from tests.rows import ORGANIZATION, ago, ahead, insert_activities, insert_certificates

_PAGE = 5_000
_MOST = 21
"""18 before PostgreSQL 18, which counts the bodies of SQL functions too."""


@pytest.fixture(scope="module")
def counting_server() -> Iterator[PostgresServer]:
    """Run a server that counts statements, those inside functions too."""
    settings = {
        "shared_preload_libraries": "pg_stat_statements",
        "pg_stat_statements.track": "all",
        "pg_stat_statements.track_planning": "on",
        # Whatever it analyzes is planned anew.
        "autovacuum": "off",
    }
    with postgres_server(settings) as server:
        yield server


@pytest.fixture(scope="module", params=[500, 5_000])
def mentors(request: pytest.FixtureRequest) -> int:
    """Say how many mentors there are."""
    number: int = request.param
    return number


@pytest.fixture(scope="module")
def populated(counting_server: PostgresServer, mentors: int) -> Iterator[Database]:
    """Make that many mentors, each due for every scenario."""
    name = f"counted_{mentors}"
    database = Database(counting_server.create_database(name))
    apply_migrations(database.url)
    with psycopg.connect(counting_server.url(name, SUPERUSER), autocommit=True) as superuser:
        superuser.execute("create extension pg_stat_statements with schema extensions")
    ids = database.new_mentors(mentors, ORGANIZATION)
    with database.connect() as worker:
        insert_activities(worker, ids, *(ago(f"{10 * k} days") for k in range(4, 16)))
        insert_certificates(worker, ids, ahead("3 days"))
        # What they are told of is no history.
        longer = "update public.scenario_evaluation_config set due_within = '365 days' where due_within is not null"
        worker.execute(longer)
    yield database
    counting_server.drop_database(name)


def statements(server: PostgresServer, database: str) -> int:
    """Count what service_role executed in a database since the last count: each query, at the top and inside functions.

    Not counted is what reads no table: a check of one row's metadata, and what only puts an answer together.
    """
    with psycopg.connect(server.url(database, SUPERUSER), autocommit=True) as superuser:
        row = superuser.execute(
            "select coalesce(sum(calls), 0)::int from extensions.pg_stat_statements"
            " where dbid = (select oid from pg_database where datname = current_database())"
            " and userid = 'service_role'::regrole"
            r" and query ~ '\y(public|auth|scenario_source)\.'"
        ).fetchone()
        superuser.execute("select extensions.pg_stat_statements_reset()")
    assert row is not None
    number: int = row[0]
    return number


_PER_PAGE: dict[str, set[tuple[int, ...]]] = {}


@pytest.mark.parametrize("kind", ["inactivity", "milestone", "certification_expiry"])
def test_statements_depend_on_pages_and_not_on_mentors(
    counting_server: PostgresServer, populated: Database, mentors: int, kind: str
) -> None:
    """A page of 5,000 mentors takes as many statements as one of 500; ten pages take ten times as many.

    Whether everybody is found and claimed, everybody is in cooldown, or nothing is written.
    """
    name = f"counted_{mentors}"
    with populated.connect() as worker:

        def count(call: str, limit: int = _PAGE + 1) -> tuple[int, int]:
            statements(counting_server, name)
            row = worker.execute(f"select public.{call}".encode(), [kind, limit]).fetchone()
            assert row is not None
            return row[0]["claimed"], statements(counting_server, name)

        planned, dry = count("scenario_evaluate(%s, null, null, %s, true)")
        claimed, fresh = count("scenario_evaluate_next_page(%s, null, %s)")
        assert planned == claimed == mentors
        none, repeated = count("scenario_evaluate_next_page(%s, null, %s)")
        _, dry_again = count("scenario_evaluate(%s, null, null, %s, true)")
        assert none == 0
        tenths = [count("scenario_evaluate_next_page(%s, null, %s)", mentors // 10)[1] for _ in range(10)]
    # The first page begins the pass, and the last one ends it.
    first, *between, last = tenths
    assert max(first, *between, last) <= repeated
    assert len(set(between)) == 1
    numbers = (dry, fresh, repeated, dry_again, first, between[0], last)
    assert 3 <= min(numbers) <= max(numbers) <= _MOST
    # The same for 500 and for 5,000, whichever came first.
    _PER_PAGE.setdefault(kind, set()).add(numbers)
    assert len(_PER_PAGE[kind]) == 1


# Of one type: which of several comes first is by chance, and each has a question of its own.
_SMALL_LEASE = "select public.scenario_lease_notifications(1, 60, null, array['inactivity'])"
_PLANNED = """
select query from extensions.pg_stat_statements where plans > 0 and userid = 'service_role'::regrole
"""


@pytest.mark.parametrize("mentors", [500], indirect=True)
def test_a_lease_plans_nothing_that_was_planned_before(counting_server: PostgresServer, populated: Database) -> None:
    """Planning takes longer than a small lease: the second one of a connection plans the call to it, and no more."""
    name = "counted_500"
    with (
        populated.connect() as worker,
        psycopg.connect(counting_server.url(name, SUPERUSER), autocommit=True) as superuser,
    ):
        planned = []
        for _ in range(2):
            superuser.execute("select extensions.pg_stat_statements_reset()")
            row = worker.execute(_SMALL_LEASE).fetchone()
            assert row is not None
            assert len(row[0]["leased"]) == 1
            planned.append(superuser.execute(_PLANNED).fetchall())
    assert len(planned[0]) > 10
    assert len(planned[1]) == 1
    assert "scenario_lease_notifications" in planned[1][0][0]
