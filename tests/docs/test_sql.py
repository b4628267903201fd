"""The documents' SQL runs, each page in its order, as the SQL editor runs it: on a migrated database, as postgres."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from tests.docs.pages import blocks
from tests.docs.stand_ins import STAND_INS
from tests.integration.database import Database
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import PostgresServer
from tests.rows import insert_notification

ORGANIZATION: Final = "00000000-0000-4000-9000-000000000001"
OF_THEIR_OWN_TESTS: Final = {"docs/own-tables.md", "docs/testing.md"}
PAGES: Final = sorted({block.page for block in blocks("sql")} - OF_THEIR_OWN_TESTS)
_numbers = count(1)


@pytest.fixture(scope="module")
def migrated(postgres_server: PostgresServer) -> str:
    """Migrate a database, the template of each page's."""
    name = "documents"
    apply_migrations(postgres_server.create_database(name))
    return name


@pytest.fixture
def database(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Make a database with stand-ins for the platform's extensions."""
    name = f"document_{next(_numbers)}"
    made = Database(postgres_server.create_database(name, template=migrated))
    with made.connect(role=None) as owner:
        _execute(owner, STAND_INS)
    yield made
    postgres_server.drop_database(name)


def _execute(connection: psycopg.Connection, text: str) -> list[list[tuple[Any, ...]]]:
    """Run statements, and return the rows of each that has some."""
    cursor = connection.execute(sql.Composed([sql.SQL(text)]))
    rows = []
    while True:
        if cursor.description is not None:
            rows.append(cursor.fetchall())
        if not cursor.nextset():
            return rows


def run_page(connection: psycopg.Connection, page: str) -> list[list[list[tuple[Any, ...]]]]:
    """Run the blocks of a page in order; return the rows of each statement of each block."""
    answers = []
    for block in blocks("sql", page):
        try:
            answers.append(_execute(connection, block.text.replace("'…'", f"'{ORGANIZATION}'")))
        except psycopg.Error as error:
            error.add_note(f"at {block.place}")
            raise
    return answers


@pytest.mark.parametrize("page", PAGES)
def test_the_sql_of_a_page_runs(page: str, database: Database) -> None:
    """Block after block, and what it schedules runs too."""
    with database.connect(role=None) as owner:
        run_page(owner, page)
        for (command,) in owner.execute("select command from cron.job").fetchall():
            _execute(owner, command)


def test_a_claim_begins_a_chain(database: Database) -> None:
    """The page on the claim shows a first row, whose window starts with the epoch."""
    with database.connect(role=None) as owner:
        ((_, rows),) = run_page(owner, "docs/how-the-claim-works.md")
    ((scenario_type, status, _, window),) = rows
    assert (scenario_type, status, window) == ("welcome_back", "pending", datetime(1970, 1, 1, tzinfo=UTC))


def test_settings_do_what_the_page_says(database: Database) -> None:
    """Reminders come later and twice, and one organization has milestones of its own and welcomes nobody back."""
    with database.connect(role=None) as owner:
        run_page(owner, "docs/scenarios.md")
        settings = owner.execute(
            """
            select setting.scenario_type, setting.inactive_after::text, setting.max_reminders, setting.milestones,
                   setting.is_enabled, setting.organization_id is null
            from public.scenario_evaluation_config as setting
            where setting.organization_id is not null or setting.scenario_type = 'inactivity'
            order by setting.scenario_type
            """
        ).fetchall()
    assert settings == [
        ("inactivity", "45 days", 2, None, True, True),
        ("milestone", None, None, [5, 10, 20], None, False),
        ("welcome_back", None, None, None, False, False),
    ]


def test_the_database_wakes_the_function_when_something_is_due(database: Database) -> None:
    """Not before; with the address and the password of Vault."""
    with database.connect(role=None) as owner:
        run_page(owner, "docs/deploying.md")
        ((command,),) = owner.execute("select command from cron.job").fetchall()
        _execute(owner, command)
        assert owner.execute("select count(*) from net.calls").fetchall() == [(0,)]
        (user,) = database.new_users(1)
        insert_notification(owner, user, organization_id=ORGANIZATION)
        _execute(owner, command)
        ((url, headers),) = owner.execute("select url, headers from net.calls").fetchall()
    assert url == "https://our-project.supabase.co/functions/v1/deliver"
    assert headers["X-Deliver-Password"] == "a long random text"


def test_an_own_scenario_finds_who_has_begun(database: Database) -> None:
    """The rule of the page is sound, and its mentor is due after her first session."""
    with database.connect(role=None) as owner:
        run_page(owner, "docs/own-scenarios.md")
        (mentor,) = database.new_mentors(1, UUID(ORGANIZATION))
        verdict = "select is_due, stands, finding from scenario_private.first_session_rule where user_id = %s"
        assert owner.execute(verdict, [mentor]).fetchall() == [(False, False, "never_active")]
        database.add_activities(mentor, timedelta(days=1))
        assert owner.execute(verdict, [mentor]).fetchall() == [(True, True, "has_begun")]
        ((checked,),) = owner.execute("select public.scenario_check_rule('first_session', 10)").fetchall()
    assert checked["faults"] == []


def test_the_backlog_is_counted(database: Database) -> None:
    """The page on operating tells what is due from what is in hand."""
    users = database.new_users(3)
    with database.connect(role=None) as owner:
        for user in users:
            insert_notification(owner, user, organization_id=ORGANIZATION)
        owner.execute("select public.scenario_lease_notifications(1, 60)")
        _, ((backlog,),), *_ = run_page(owner, "docs/operating.md")
    assert backlog[:2] == (2, 1)
