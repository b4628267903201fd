"""The real Supabase CLI applies, lints and advises on the migrations, without Docker."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from scenario_repo._project import copy_migrations, copy_schema
from scenario_repo._releases import release_texts
from tests.postgres.install import ROOT
from tests.postgres.migrations import migration_files
from tests.postgres.server import SUPERUSER, PostgresServer
from tests.supabase_cli import SupabaseCli

_DATABASE = "supabase_cli"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> SupabaseCli:
    """Run the CLI on a copy of the project, which it may write to."""
    folder = tmp_path_factory.mktemp("supabase_cli")
    for name in ("config.toml", "seed.sql", "migrations"):
        source, target = ROOT / "supabase" / name, folder / "project" / "supabase" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            shutil.copy(source, target)
    return SupabaseCli(folder)


@pytest.fixture(scope="module")
def target(postgres_server: PostgresServer, cli: SupabaseCli) -> Iterator[str]:
    """Return the flag for a database that `supabase db reset` has filled."""
    # The CLI tries TLS first and warns unless it is told not to.
    flag = f"--remote={postgres_server.create_database(_DATABASE)}?sslmode=disable"
    try:
        reset = cli("db", "reset", "--yes", flag)
        assert reset.returncode == 0, reset.stdout
        yield flag
    finally:
        postgres_server.drop_database(_DATABASE)


def test_config_has_only_keys_that_the_cli_knows(cli: SupabaseCli, target: str) -> None:
    """A key that the CLI doesn't recognize is ignored with a warning."""
    listing = cli("migration", "list", target)
    assert listing.returncode == 0, listing.stdout
    assert "does not recognize" not in listing.stdout


def test_reset_applies_every_migration(postgres_server: PostgresServer, target: str) -> None:
    """`supabase db reset` leaves every migration applied and recorded, in order."""
    assert target
    history = "select version from supabase_migrations.schema_migrations order by version"
    with closing(psycopg.connect(postgres_server.url(_DATABASE))) as connection:
        versions = [version for (version,) in connection.execute(history).fetchall()]
    assert versions == [file.name.partition("_")[0] for file in migration_files()]


def test_reset_starts_over(postgres_server: PostgresServer, cli: SupabaseCli, target: str) -> None:
    """`supabase db reset` on a database with data brings back the seed's state."""
    rows = "select count(*) from auth.users"
    with closing(psycopg.connect(postgres_server.url(_DATABASE), autocommit=True)) as connection:
        before = connection.execute(rows).fetchone()
        connection.execute("insert into auth.users (id) values (gen_random_uuid())")
        reset = cli("db", "reset", "--yes", target)
        assert reset.returncode == 0, reset.stdout
        assert connection.execute(rows).fetchone() == before


def test_migration_up_finds_nothing_to_do(cli: SupabaseCli, target: str) -> None:
    """After a reset, `supabase migration up` has nothing left to apply."""
    up = cli("migration", "up", target)
    assert up.returncode == 0, up.stdout
    assert "up to date" in up.stdout
    assert "Applying migration" not in up.stdout


@pytest.mark.needs("plpgsql_check")
def test_lint_finds_no_errors(postgres_server: PostgresServer, cli: SupabaseCli) -> None:
    """`supabase db lint` finds neither errors nor warnings in any function."""
    # A database of its own: a reset can't drop what supabase_admin installs here.
    # The platform lets `postgres` create the extension, plain PostgreSQL doesn't.
    database = f"{_DATABASE}_lint"
    flag = f"--remote={postgres_server.create_database(database)}?sslmode=disable"
    try:
        up = cli("migration", "up", "--yes", flag)
        assert up.returncode == 0, up.stdout
        with closing(psycopg.connect(postgres_server.url(database, SUPERUSER), autocommit=True)) as connection:
            connection.execute("create extension plpgsql_check with schema extensions")
        lint = cli("db", "lint", "--level", "warning", "--fail-on", "warning", flag)
        assert lint.returncode == 0, lint.stdout
        assert "No schema errors found" in lint.stdout, lint.stdout
    finally:
        postgres_server.drop_database(database)


def test_advisors_have_no_warnings(cli: SupabaseCli, target: str) -> None:
    """`supabase db advisors` has nothing at level warn; what it says at info is shown by -s."""
    advisors = cli("db", "advisors", "--level", "info", "--fail-on", "warn", target)
    print(advisors.stdout)  # noqa: T201
    assert advisors.returncode == 0, advisors.stdout


def test_a_project_with_later_migrations_takes_ours(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Our copies are dated after the project's own: `db push` applies them, and a later `db reset` too.

    The project has a table of one of our names, and pushed its own migration, dated later than ours, before.
    """
    migrations = tmp_path / "project" / "supabase" / "migrations"
    migrations.mkdir(parents=True)
    (migrations.parent / "config.toml").write_text('project_id = "an_app"\n')
    app = migrations / "20261126080000_app.sql"
    app.write_text(
        "create table public.peer_mentors (user_id uuid, organization_id uuid, is_active boolean, name text);\n"
        "grant select on public.peer_mentors to service_role;\n"
    )
    run = SupabaseCli(tmp_path)
    flag = f"--remote={postgres_server.create_database('an_apps_project')}?sslmode=disable"
    try:
        pushed = run("db", "push", "--yes", flag)
        assert pushed.returncode == 0, pushed.stdout
        for _ in range(2):
            copy_migrations(migrations, datetime(2026, 11, 25, tzinfo=UTC))
        for command in (("db", "push"), ("db", "reset"), ("db", "push")):
            done = run(*command, "--yes", flag)
            assert done.returncode == 0, done.stdout
        with closing(psycopg.connect(postgres_server.url("an_apps_project"))) as connection:
            applied = connection.execute("select name from supabase_migrations.schema_migrations order by version")
            assert [name for (name,) in applied] == ["app", "scenario_repo_0_1_0"]
            assert connection.execute("select name from public.peer_mentors").fetchall() == []
    finally:
        postgres_server.drop_database("an_apps_project")


def test_a_diff_with_declarative_schemas_keeps_us(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """A project's schema files, ours among them, give what its migrations give: the CLI's diff is empty.

    Without ours, the diff drops scenario_repo.
    """
    app = "create table public.activities (user_id uuid, activity_date timestamptz, note text);\n"
    grant = "grant select on public.activities to service_role;\n"
    schemas = tmp_path / "project" / "supabase" / "schemas"
    schemas.mkdir(parents=True)
    (schemas.parent / "config.toml").write_text('project_id = "an_app"\n')
    (schemas / "activities.sql").write_text(app + grant)
    copy_schema(schemas)
    run = SupabaseCli(tmp_path)
    names = ("by_migrations", "by_schemas", "without_us")
    urls = {name: postgres_server.create_database(name) for name in names}
    try:
        for name, texts in zip(names, ([app + grant, *release_texts()], _texts(schemas), [app + grant]), strict=True):
            with psycopg.connect(urls[name], autocommit=True) as connection:
                for text in texts:
                    connection.execute(text.encode())

        def diff(target: str) -> str:
            flags = [f"{flag}={urls[name]}?sslmode=disable" for flag, name in (("--from", names[0]), ("--to", target))]
            done = run("--experimental", "db", "diff", *flags)
            assert done.returncode == 0, done.stdout
            return done.stdout

        assert "DROP" in diff("without_us")
        assert not re.search(r"^(ALTER|CREATE|DROP|GRANT|REVOKE|COMMENT)\b", diff("by_schemas"), re.MULTILINE)
    finally:
        for name in names:
            postgres_server.drop_database(name)


def _texts(schemas: Path) -> list[str]:
    """Read the schema files, in the CLI's order."""
    return [file.read_text() for file in sorted(schemas.glob("*.sql"))]
