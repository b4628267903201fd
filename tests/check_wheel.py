"""`make wheel`: build the wheel, install it in an environment of its own, and use it there."""

# ruff: noqa: S603, T201 (the commands are ours, and this is a script)

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TESTING_PROOF = """
import pathlib
from scenario_repo.testing import a_claim, embedded_stack
assert not embedded_stack.IS_CHECKOUT and embedded_stack.folder().parent.name == "scenario_repo"
assert not embedded_stack.is_installed() and embedded_stack.npm_command and a_claim()
"""
ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "tests" / "constraints.txt"
PROOF = """
import importlib.metadata, importlib.resources, scenario_repo
files = importlib.resources.files("scenario_repo")
assert files.joinpath("py.typed").is_file(), "not marked as typed"
migrations = sorted(file.name for file in files.joinpath("migrations").iterdir())
assert migrations, "no migrations in the wheel"
from scenario_repo._installation import expected
from scenario_repo._releases import schema_text, snippets
assert "create or replace view scenario_private.inactivity_rule" in schema_text(), "no schema in the wheel"
assert set(snippets()) >= {"schedule_with_pg_cron", "uninstall"}, "no snippets in the wheel"
assert expected().facts, "no catalogue in the wheel"
console = [name for part in ("templates", "static") for name in files.joinpath("console", part).iterdir()]
assert len(console) >= 12, "no templates of the console in the wheel"
stack = {file.name for file in files.joinpath("testing", "stack").iterdir()}
assert {"stack.mjs", "exclusive.mjs", "postgres_socket.mjs", "package.json", "package-lock.json"} == stack, stack
print(importlib.metadata.version("scenario_repo"), len(scenario_repo.__all__), "names,", len(migrations), "migrations")
"""


def main() -> None:
    """Fail unless the wheel works on its own."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(ROOT)]
        subprocess.run(build, check=True)
        (wheel,) = here.glob("*.whl")
        venv.create(here / "venv", with_pip=True)
        python = here / "venv" / "bin" / "python"
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--constraint", str(CONSTRAINTS), f"{wheel}[cli]"], check=True)
        subprocess.run([str(python), "-W", "error", "-c", PROOF], check=True, cwd=folder)
        subprocess.run([str(here / "venv" / "bin" / "scenario-repo"), "--help"], check=True, stdout=subprocess.DEVNULL)
        scenario = [str(here / "venv" / "bin" / "scenario-repo"), "new-scenario", "first_session", "--project", folder]
        subprocess.run(scenario, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*pip, "--constraint", str(CONSTRAINTS), f"{wheel}[testing]"], check=True)
        empty = {**os.environ, "XDG_CACHE_HOME": folder}
        subprocess.run([str(python), "-W", "error", "-c", TESTING_PROOF], check=True, cwd=folder, env=empty)
        fixtures = [str(python), "-m", "pytest", "--fixtures", "-q", "-p", "no:cacheprovider", folder]
        told = subprocess.run(fixtures, check=False, cwd=folder, capture_output=True, text=True).stdout
        assert "scenario_repository" in told, f"pytest does not know the fixtures:\n{told}"
        print(f"{wheel.name} works in an environment of its own")


if __name__ == "__main__":
    main()
