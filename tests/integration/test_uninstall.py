"""Installed and taken away again, a project is what it was."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Final

import psycopg
import pytest

from scenario_repo._releases import files_of
from tests.integration.database import Database, claim, new_claim
from tests.postgres.migrations import apply_migrations, schema_dump
from tests.postgres.server import PostgresServer

UNINSTALL: Final = next(file for file in files_of("snippets") if file.name == "uninstall.sql").read_text()
_numbers = count(1)
_APPS_TABLES: Final = """
create table public.peer_mentors (user_id uuid, organization_id uuid, is_active boolean);
create table public.activities (user_id uuid, activity_date timestamptz);
create index on public.activities (user_id, activity_date);
create table public.certifications (id uuid, user_id uuid, organization_id uuid, expires_at timestamptz);
create table public.device_tokens (user_id uuid, token text, platform text, created_at timestamptz);
create function public.scenario_of_ours() returns integer language sql as 'select 1';
grant select on all tables in schema public to service_role;
"""


@pytest.fixture
def app(postgres_server: PostgresServer) -> Iterator[Database]:
    """Make the database of a project without scenario_repo."""
    name = f"uninstalled_{next(_numbers)}"
    yield Database(postgres_server.create_database(name))
    postgres_server.drop_database(name)


def _name(database: Database) -> str:
    return database.url.rpartition("/")[2]


@pytest.mark.needs("pg_dump")
@pytest.mark.parametrize("tables", ["", _APPS_TABLES], ids=["no tables of its own", "tables of its own"])
def test_nothing_is_left_and_nothing_of_the_app_is_lost(
    postgres_server: PostgresServer, app: Database, tables: str
) -> None:
    """The schema is what it was, twice over; an app's function of a name like ours stays, and its own index."""
    if tables:
        app.run(tables)
    before = schema_dump(postgres_server, _name(app))
    for _ in range(2):
        apply_migrations(app.url)
        with app.connect() as worker:
            claim(worker, [new_claim(app.new_users(1)[0])])
        app.run(UNINSTALL)
        assert schema_dump(postgres_server, _name(app)) == before
    app.run(UNINSTALL)


def test_a_default_table_with_rows_is_kept(app: Database) -> None:
    """The activities are the app's data, whoever made the table."""
    apply_migrations(app.url)
    (user_id,) = app.new_users(1)
    app.add_activities(user_id, timedelta(days=1))
    notices: list[str] = []
    with app.connect(role=None) as owner:
        owner.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        owner.execute(UNINSTALL.encode())
        left = owner.execute("select to_regclass('public.activities'), to_regclass('public.peer_mentors')").fetchone()
    assert left == ("activities", None)
    assert "kept, since it has rows: activities" in notices


@pytest.mark.parametrize(
    ("reader", "named"),
    [
        ("create view public.board as select count(*) from public.scenario_notifications", "the view board"),
        (
            (
                "create table public.reply"
                " (notification_id uuid constraint reply_to references public.scenario_notifications (id))"
            ),
            "the foreign key reply_to of reply",
        ),
    ],
)
def test_what_reads_our_tables_is_told_first(app: Database, reader: str, named: str) -> None:
    """Nothing is dropped, and the message has all that is in the way."""
    apply_migrations(app.url)
    app.run(reader)
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match=named):
        app.run(UNINSTALL)
    with app.connect() as worker:
        assert worker.execute("select public.scenario_get_schema()").fetchone() is not None
