"""Somebody's own project: install, map, verify, evaluate, deliver, upgrade, uninstall, by the documented commands.

The app has tables of its own, two of them with names of ours and none with our columns, and migrations that go on. The
Supabase CLI is the real one; the API is the embedded stack's, on the project's database.
"""

# ruff: noqa: S603 (the commands are ours)

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import psycopg
import pytest

from scenario_repo.testing.embedded_stack import embedded_stack
from tests.postgres.install import ROOT
from tests.postgres.migrations import schema_dump
from tests.postgres.server import PostgresServer
from tests.supabase_cli import SupabaseCli

_DATABASE: Final = "adopted"
_GUIDE: Final = (ROOT / "docs" / "own-tables.md").read_text(encoding="utf-8")
_SENDER: Final = """
from scenario_repo import LeasedNotification


async def send(notification: LeasedNotification) -> None:
    with open("sent.txt", "a") as file:
        print(notification.scenario_type, *(device.token for device in notification.device_tokens), file=file)
"""
_PEOPLE: Final = """
insert into auth.users (id) select md5(n::text)::uuid from generate_series(1, 3) as n;
insert into public.mentors (id, chapter_id) select md5(n::text)::uuid::text, md5('chapter')::uuid
from generate_series(1, 3) as n;
insert into public.activities (mentor_id, occurred_on)
values (md5('1')::uuid::text, current_date - 40), (md5('2')::uuid::text, current_date - 3);
insert into public.push_tokens (token, mentor_id, platform) values ('a phone', md5('1')::uuid::text, 'ios');
"""


def _block(name: str) -> str:
    """Return a block of the guide to one's own tables: example A."""
    found = re.search(rf"```sql a-{name}\n(.*?)```", _GUIDE, re.DOTALL)
    assert found is not None, name
    return found[1]


class Project:
    """An app's project in a folder, and its database."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder / "project"
        self.migrations = self.folder / "supabase" / "migrations"
        self.migrations.mkdir(parents=True)
        (self.folder / "supabase" / "config.toml").write_text('project_id = "an_app"\n')
        self._flag = f"--remote={database_url}?sslmode=disable"
        self._cli = SupabaseCli(folder)
        self.environment: dict[str, str] = {}

    def supabase(self, *arguments: str) -> str:
        """Run the Supabase CLI; return its output."""
        done = self._cli(*arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def push(self) -> subprocess.CompletedProcess[str]:
        """Apply what is new."""
        return self._cli("db", "push", "--yes", self._flag)

    def reset(self) -> None:
        """Start over: every migration from the first on."""
        self.supabase("db", "reset", "--yes", self._flag)

    def scenario_repo(self, *arguments: str, code: int = 0) -> str:
        """Run scenario-repo in the project's folder; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "scenario_repo.cli", *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def write(self, name: str, text: str) -> None:
        """Write a migration as the CLI does: `supabase migration new`."""
        self.supabase("migration", "new", name)
        (file,) = self.migrations.glob(f"*_{name}.sql")
        file.write_text(text)


@pytest.fixture
def project(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Project]:
    """Make a project whose database has nothing yet."""
    yield Project(tmp_path, postgres_server.create_database(_DATABASE))
    postgres_server.drop_database(_DATABASE)


@pytest.mark.needs("pg_dump")
def test_an_app_adopts_scenario_repo_and_leaves_it(postgres_server: PostgresServer, project: Project) -> None:
    """Each step by the command that the documentation gives, and nothing besides."""
    project.write("app", _block("tables"))
    assert project.push().returncode == 0
    before = schema_dump(postgres_server, _DATABASE)

    # Install: refused in one message, with nothing changed; then with the mapping, before ours.
    project.scenario_repo("migrations", "supabase/migrations")
    refused = project.push()
    assert refused.returncode != 0
    for misfit in ("public.activities.user_id: expected uuid", "public.certifications.user_id: expected uuid"):
        assert misfit in refused.stdout
    assert schema_dump(postgres_server, _DATABASE) == before
    for copy in project.migrations.glob("*_scenario_repo_0_1_0.sql"):
        copy.unlink()
    project.write("scenario_sources", _block("mapping") + _block("indexes"))
    project.scenario_repo("migrations", "supabase/migrations")
    pushed = project.push()
    assert pushed.returncode == 0, pushed.stdout
    project.scenario_repo("migrations", "--check", "supabase/migrations")

    (project.folder / "app.py").write_text(_SENDER)
    with embedded_stack(postgres_server.url(_DATABASE)) as stack:
        project.environment = {"SUPABASE_URL": stack.url, "SUPABASE_SECRET_KEY": stack.secret_key}
        _verify_and_run(postgres_server, project)

    # Upgrade: the next release has one more file, dated after the app's newest migration.
    project.write("more_of_the_app", "create table public.rooms (id uuid primary key);\n")
    _release(project, "20270101000000_scenario_repo_0_2_0.sql")
    pushed = project.push()
    assert pushed.returncode == 0, pushed.stdout

    # Uninstall, by a migration of the app's own: reset comes to the same end.
    project.write("remove_scenario_repo", project.scenario_repo("snippet", "uninstall"))
    pushed = project.push()
    assert pushed.returncode == 0, pushed.stdout
    end = schema_dump(postgres_server, _DATABASE)
    assert "scenario" not in re.sub(r"\w+_for_scenarios\w*|scenario_sources", "", end)
    project.reset()
    assert schema_dump(postgres_server, _DATABASE) == end


def _verify_and_run(server: PostgresServer, project: Project) -> None:
    """Verify, find what was broken, mend it by what verify prints; evaluate and deliver."""
    project.scenario_repo("verify")
    with closing(psycopg.connect(server.url(_DATABASE), autocommit=True)) as owner:
        owner.execute(_PEOPLE.encode())
        owner.execute("revoke select on public.activities from service_role")
        told = project.scenario_repo("verify", code=1)
        assert "public.activities: the service role may not read it" in told
        (mend,) = re.findall(r"grant select on public\.activities to service_role;", told)
        owner.execute(mend.encode())
    project.scenario_repo("verify")
    project.scenario_repo("evaluate")
    project.scenario_repo("deliver", "--once", "--sender", "app:send")
    assert (project.folder / "sent.txt").read_text() == "inactivity a phone\n"


def _release(project: Project, name: str) -> None:
    """Copy the migrations as the next release's library does."""
    program = (
        "import pathlib, sys; from scenario_repo import _project, cli;"
        "releases = _project.release_files();"
        f"newer = pathlib.Path({name!r}); newer.write_text('comment on schema scenario_private is $$of 0.2.0$$;');"
        "_project.release_files = lambda: [*releases, newer];"
        "sys.exit(cli.main(['migrations', 'supabase/migrations']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project.folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("copied ")] != []
