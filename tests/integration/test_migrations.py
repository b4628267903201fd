"""The migrations can run twice, on an empty database and on one with data."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import closing
from uuid import UUID

import migration
import psycopg
import pytest
from psycopg import sql

from tests.postgres.install import ROOT
from tests.postgres.migrations import apply_migrations, migration_files, schema_dump
from tests.postgres.server import PostgresServer
from tests.rows import insert_mentors, insert_notification, insert_users

_SEED = ROOT / "supabase" / "seed.sql"


def _fill(url: str) -> None:
    with closing(psycopg.connect(url)) as connection, connection:
        # Beside the seed, a row that was there before the second run.
        mentor = UUID("5ca1ab1e-0000-4000-8000-000000000001")
        insert_users(connection, [mentor])
        insert_mentors(connection, [mentor])
        insert_notification(connection, mentor)
        if _SEED.exists():
            connection.execute(_SEED.read_bytes())


def _contents(url: str) -> dict[str, tuple[int, str]]:
    """Each table's number of rows and a digest of them."""
    tables = "select schemaname, tablename from pg_tables where tableowner in ('postgres', 'supabase_auth_admin')"
    digest = sql.SQL("select count(*), md5(coalesce(string_agg(r::text, ' ' order by r::text), '')) from {} as r")
    contents: dict[str, tuple[int, str]] = {}
    with closing(psycopg.connect(url)) as connection:
        for schema, table in connection.execute(tables).fetchall():
            row = connection.execute(digest.format(sql.Identifier(schema, table))).fetchone()
            assert row is not None
            contents[f"{schema}.{table}"] = (row[0], row[1])
    return contents


@pytest.mark.needs("pg_dump")
@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_second_run_changes_nothing(postgres_server: PostgresServer, *, filled: bool) -> None:
    """Every migration leaves schema and data as they are when it runs again."""
    database = f"migrated_twice_{'filled' if filled else 'empty'}"
    url = postgres_server.create_database(database)
    try:
        names = apply_migrations(url)
        if filled:
            _fill(url)
        schema, contents = schema_dump(postgres_server, database), _contents(url)
        assert "CREATE TABLE public.scenario_notifications" in schema
        assert (contents["public.scenario_notifications"][0] > 0) is filled

        assert apply_migrations(url) == names

        assert schema_dump(postgres_server, database) == schema
        assert _contents(url) == contents
    finally:
        postgres_server.drop_database(database)


@pytest.mark.needs("pg_dump")
def test_the_migrations_make_what_the_schemas_say(postgres_server: PostgresServer) -> None:
    """supabase/schemas, applied by itself, and the sum of the migrations give the same dump."""
    databases = ("from_schemas", "from_migrations")
    urls = [postgres_server.create_database(database) for database in databases]
    try:
        with closing(psycopg.connect(urls[0], autocommit=True)) as connection:
            for file in migration.schema_files():
                connection.execute(file.read_bytes())
        apply_migrations(urls[1])
        present, sum_of_migrations = (schema_dump(postgres_server, database) for database in databases)
        assert present == sum_of_migrations
    finally:
        for database in databases:
            postgres_server.drop_database(database)


def test_every_schema_file_is_in_the_configured_order() -> None:
    """config.toml names them all, each once; `db diff` reads the same list."""
    files = migration.schema_files()
    assert len(files) == len(set(files))
    assert set(files) == set((ROOT / "supabase" / "schemas").rglob("*.sql"))


def test_each_object_is_defined_once_in_the_schemas() -> None:
    """A second definition would be the one that counts, and the first the one that is read."""
    defined = Counter(
        found.lower()
        for file in migration.schema_files()
        for found in re.findall(
            r"^create (?:or replace )?((?:function|view|trigger) [a-z_.]+)", file.read_text(), re.MULTILINE
        )
    )
    assert [name for name, times in defined.items() if times > 1] == []


def test_the_baseline_is_up_to_date() -> None:
    """Whoever edits a schema file writes the migration of the release under way; a released one stays as it is."""
    assert migration.is_released() or migration.baseline() == migration.BASELINE.read_text(), "run `make generate`"


def test_the_apps_own_indexes_stay(postgres_server: PostgresServer) -> None:
    """Also those under the name PostgreSQL gives them, which a migration would have given its own."""
    database = "migrated_beside_an_app"
    url = postgres_server.create_database(database)
    indexes = "select indexdef from pg_indexes where schemaname = 'public' and tablename = 'peer_mentors'"
    try:
        with closing(psycopg.connect(url)) as connection, connection:
            connection.execute("""
                create table public.peer_mentors (
                  user_id uuid, organization_id uuid, is_active boolean not null, primary key (user_id, organization_id)
                )
            """)
            connection.execute("create index on public.peer_mentors (organization_id, user_id)")
            before = connection.execute(indexes).fetchall()
        apply_migrations(url)
        with closing(psycopg.connect(url)) as connection:
            assert {*before} <= {*connection.execute(indexes).fetchall()}
    finally:
        postgres_server.drop_database(database)


def test_migrations_need_no_superuser(postgres_server: PostgresServer) -> None:
    """On Supabase, migrations run as `postgres`, which is no superuser."""
    with closing(psycopg.connect(postgres_server.url())) as connection:
        row = connection.execute("select current_user, current_setting('is_superuser')").fetchone()
    assert row == ("postgres", "off")


def test_migration_names_are_timestamped_and_unique() -> None:
    """The CLI orders by the 14 digits in front of the name, and keeps them as the key."""
    versions = [file.name.partition("_")[0] for file in migration_files()]
    assert versions, "there are no migrations"
    assert len(set(versions)) == len(versions)
    assert all(len(version) == len("20260101000000") and version.isdigit() for version in versions)
