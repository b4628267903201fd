"""Right after a bulk load, before any ANALYZE: no function of the API compiles its plans, or plans ten times dearer."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import sql

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
_ASKED = "md5('user 2501')::uuid"
_SOME = "(select array_agg(md5('user ' || u)::uuid) from generate_series(1, 100) as u)"
_ORGANIZATION = f"(select organization_id from public.peer_mentors where user_id = {_ASKED})"
_CLAIMS = f"""jsonb_build_object(
  'user_id', {_SOME},
  'all', jsonb_build_object(
    'organization_id', {_ORGANIZATION}, 'scenario_type', 'welcome_back', 'cooldown_seconds', 864000
  )
)"""
CALLS = {
    "claim": f"scenario_claim_notifications({_CLAIMS})",
    "claim with a lease": f"scenario_claim_notifications({_CLAIMS}, 60)",
    "evaluate": "scenario_evaluate('inactivity', p_limit => 500)",
    "evaluate certificates": "scenario_evaluate('certification_expiry', p_limit => 500)",
    "evaluate milestones": "scenario_evaluate('milestone', p_limit => 500)",
    "evaluate returns, dry": "scenario_evaluate('welcome_back', p_limit => 500, p_dry_run => true)",
    "explain": f"scenario_explain({_ASKED})",
    "explain a notification": (
        "scenario_explain_notification("
        f"(select id from public.scenario_notifications where user_id = {_ASKED} limit 1))"
    ),
    "export a person": f"scenario_export_person({_ASKED})",
    "find inactive mentors": f"scenario_find_inactive_mentors({_ORGANIZATION}, interval '30 days', 100)",
    "last delivered": f"scenario_get_last_delivered_at_many({_SOME}, 'inactivity')",
    "last sent": f"scenario_get_last_sent_at_many({_SOME}, 'inactivity')",
    "lease": "scenario_lease_notifications(100, 60)",
    "list pending": "scenario_list_pending()",
    "report": f"scenario_get_organization_report({_ORGANIZATION}, now() - interval '40 days', now())",
    "status": "scenario_get_status()",
}


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
