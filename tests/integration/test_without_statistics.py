"""Right after a bulk load, before any ANALYZE: no function of the API compiles its plans, or plans ten times dearer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from tests.integration.api_calls import CALLS
from tests.integration.plans import FILL
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import SUPERUSER, PostgresServer

_DATABASE = "without_statistics"
_TABLES = (
    "auth.users",
    "public.activities",
    "public.certifications",
    "public.device_tokens",
    "public.peer_mentors",
    "public.scenario_notifications",
    "scenario_private.handover",
)


@pytest.fixture(scope="module")
def loaded(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """Fill a migrated database, and let nothing gather statistics."""
    url = postgres_server.create_database(_DATABASE)
    try:
        apply_migrations(url)
        with closing(psycopg.connect(postgres_server.url(_DATABASE, SUPERUSER), autocommit=True)) as connection:
            for table in _TABLES:
                connection.execute(
                    sql.SQL("alter table {} set (autovacuum_enabled = off)").format(sql.Identifier(*table.split(".")))
                )
            connection.execute("set session_replication_role = replica")
            for statement in FILL:
                connection.execute(statement)
        yield postgres_server
    finally:
        postgres_server.drop_database(_DATABASE)


@pytest.fixture(scope="module")
def pages(loaded: PostgresServer) -> dict[str, tuple[int, int]]:
    """Count the pages that each call touches, without statistics and with them."""
    without = {name: _touched(loaded, call) for name, call in CALLS.items()}
    with closing(psycopg.connect(loaded.url(_DATABASE, SUPERUSER), autocommit=True)) as connection:
        connection.execute("analyze")
    return {name: (without[name], _touched(loaded, call)) for name, call in CALLS.items()}


def _touched(server: PostgresServer, call: str) -> int:
    """Count the pages of a call that is rolled back, its plans made and the catalogue read by the one before."""
    with closing(psycopg.connect(server.url(_DATABASE))) as connection:
        connection.execute("set role service_role")
        connection.execute("set jit = on")
        statement = f"explain (analyze, buffers, format json) select public.{call}".encode()
        for _ in range(2):
            row = connection.execute(statement).fetchone()
            connection.rollback()
            connection.execute("set role service_role")
        assert row is not None
        plan = row[0][0]["Plan"]
        return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


@pytest.mark.parametrize("name", CALLS)
def test_missing_statistics_cost_no_plan_ten_times_as_much(name: str, pages: dict[str, tuple[int, int]]) -> None:
    """A call touches less than ten times the pages that it touches when the tables have been analyzed."""
    without, analyzed = pages[name]
    assert without < 10 * analyzed + 100


def test_no_function_of_the_api_compiles_its_plans(loaded: PostgresServer) -> None:
    """Compiling takes longer than what is compiled: without statistics, a second for an explanation of 72 pages."""
    with closing(psycopg.connect(loaded.url(_DATABASE))) as connection:
        rows = connection.execute(
            """
            select proname from pg_proc
            where pronamespace = 'public'::regnamespace
              and proname ^@ 'scenario_'
              and prorettype <> 'trigger'::regtype
              and coalesce('jit=off' <> all (proconfig), true)
            """
        ).fetchall()
    assert [name for (name,) in rows] == []
