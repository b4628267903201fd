"""`make wheel`: build the wheel, install it in an environment of its own, and use it there."""

# ruff: noqa: S603, T201 (the commands are ours, and this is a script)

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

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
        subprocess.run([*pip, "--constraint", str(CONSTRAINTS), str(wheel)], check=True)
        subprocess.run([str(python), "-W", "error", "-c", PROOF], check=True, cwd=folder)
        subprocess.run([str(here / "venv" / "bin" / "scenario-repo"), "--help"], check=True, stdout=subprocess.DEVNULL)
        scenario = [str(here / "venv" / "bin" / "scenario-repo"), "new-scenario", "first_session", "--project", folder]
        subprocess.run(scenario, check=True, stdout=subprocess.DEVNULL)
        print(f"{wheel.name} works in an environment of its own")


if __name__ == "__main__":
    main()
