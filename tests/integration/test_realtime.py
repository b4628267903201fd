"""The table in Realtime's publication, wherever there is one to join."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from tests.integration.database import Database
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import SUPERUSER

_PUBLISHED = """
    select schemaname || '.' || tablename from pg_publication_tables where pubname = 'supabase_realtime' order by 1
"""


def _migrate_again(database: Database) -> None:
    apply_migrations(database.url)


def _published(connection: psycopg.Connection) -> list[str]:
    return [table for (table,) in connection.execute(_PUBLISHED)]


def test_the_notifications_are_published_and_nothing_else(worker: psycopg.Connection) -> None:
    """Of our tables, an app may listen to the one whose rows belong to its user."""
    assert _published(worker) == ["public.scenario_notifications"]


def test_a_second_run_publishes_nothing_twice(database: Database, worker: psycopg.Connection) -> None:
    """The migration finds the table published and leaves the publication as it is."""
    _migrate_again(database)

    assert _published(worker) == ["public.scenario_notifications"]


def test_what_is_published_already_stays_published(database: Database, worker: psycopg.Connection) -> None:
    """The table joins whatever an app has in its publication before."""
    with database.connect(role=None) as owner:
        owner.execute("alter publication supabase_realtime set table public.activities")

    _migrate_again(database)

    assert _published(worker) == ["public.activities", "public.scenario_notifications"]


def test_without_a_publication_nothing_happens(database: Database, worker: psycopg.Connection) -> None:
    """A database without Realtime is migrated all the same, and gets no publication."""
    with database.connect(role=None) as owner:
        owner.execute("drop publication supabase_realtime")

    _migrate_again(database)

    assert worker.execute("select pubname from pg_publication").fetchall() == []


@pytest.mark.parametrize("scope", ["for all tables", "for tables in schema public"])
def test_a_publication_that_has_the_table_anyway_is_left_alone(
    scope: str, database: Database, worker: psycopg.Connection
) -> None:
    """Where everything is published, naming the table would be an error, or a second entry."""
    with psycopg.connect(database.url, user=SUPERUSER, autocommit=True) as superuser:
        superuser.execute("drop publication supabase_realtime")
        superuser.execute(sql.SQL("create publication supabase_realtime {}").format(sql.SQL(scope)))

    _migrate_again(database)

    assert _published(worker).count("public.scenario_notifications") == 1
    assert worker.execute("select from pg_publication_rel").fetchall() == []


def test_what_is_published_is_guarded(worker: psycopg.Connection) -> None:
    """Realtime hands a row to whoever may select it: row level security is on."""
    guarded = "select relrowsecurity from pg_class where oid = 'public.scenario_notifications'::regclass"
    assert worker.execute(guarded).fetchone() == (True,)
