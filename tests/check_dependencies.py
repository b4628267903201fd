"""Run the unit tests with the lowest and with the newest dependencies that pyproject.toml permits.

    python tests/check_dependencies.py [lowest|newest]

Lowest: what the library itself requires, at its floors; what these require in turn, as pip chooses. Newest: as pip
chooses today. Each has a cached environment. The tools of the tests are those of tests/constraints.txt.
"""

# ruff: noqa: S603, T201 (a script; its commands are ours)

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).resolve().parents[1]
CACHE: Final = ROOT / ".cache" / "dependencies"
RESOLUTIONS: Final = ("lowest", "newest")
LEFT_OUT: Final = frozenset({"testing"})
"""Extras that bring the tests' own tools, which are pinned."""
NOT_PINNED: Final = frozenset({"opentelemetry-sdk"})
"""Tools that come in the version of what the library requires."""


class NoFloorError(ValueError):
    """A requirement does not say from which version on."""


def lowest(requirement: Requirement) -> str:
    """Return the requirement of exactly its floor."""
    floors = [one.version for one in requirement.specifier if one.operator in {">=", "==", "~="}]
    if len(floors) != 1:
        raise NoFloorError(f"expected one floor, got {requirement}")
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}=={floors[0]}"


def requirements(project: dict[str, Any]) -> list[Requirement]:
    """Return what the library requires, with its extras."""
    optional = project.get("optional-dependencies", {}).items()
    texts = [*project["dependencies"], *(text for name, texts in optional if name not in LEFT_OUT for text in texts)]
    return [one for one in map(Requirement, texts) if one.name.replace("-", "_") != "scenario_repo"]


def tools(groups: dict[str, list[Any]], own: list[Requirement]) -> tuple[list[str], list[str]]:
    """Return what the tests require besides, and the lines of tests/constraints.txt for it."""
    wanted = [text for text in groups["test"] if isinstance(text, str)] + ["ruff"]  # a generator's
    names = {Requirement(text).name.lower() for text in wanted} - {one.name.lower() for one in own} - NOT_PINNED
    pinned = (ROOT / "tests" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return wanted, [line for line in pinned if line.partition("==")[0].lower() in names]


def environment(resolution: str) -> str:
    """Make the environment, or find it made of the same requirements; return its interpreter."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    own = requirements(project["project"])
    wanted, pinned = tools(project["dependency-groups"], own)
    chosen = [lowest(one) if resolution == "lowest" else str(one) for one in own]
    folder = CACHE / resolution
    interpreter, stamp = folder / "bin" / "python", folder / ".installed"
    # What is newest changes with the day.
    today = time.strftime("%Y-%m-%d") if resolution == "newest" else ""
    made_of = hashlib.sha256("\n".join([sys.version, today, *chosen, *wanted, *pinned]).encode()).hexdigest()
    if not (stamp.is_file() and stamp.read_text(encoding="utf-8") == made_of):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
            constraints.write("\n".join(pinned))
            constraints.flush()
            subprocess.run([*pip, "--constraint", constraints.name, *chosen, *wanted], check=True)
        subprocess.run([*pip, "--no-deps", "--editable", "."], check=True, cwd=ROOT)
        stamp.write_text(made_of, encoding="utf-8")
    return str(interpreter)


def main() -> int:
    """Check each, and say which versions they were."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("resolution", nargs="?", choices=RESOLUTIONS, help="only this one")
    only: str | None = parser.parse_args().resolution
    for resolution in [only] if only else RESOLUTIONS:
        interpreter = environment(resolution)
        listed = subprocess.run(
            [interpreter, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        names = {one.name.lower() for one in requirements(project)}
        print(f"-- {resolution}:", *(line for line in listed if line.partition("==")[0].lower() in names), flush=True)
        tests = ["-m", "pytest", "tests/unit", "--numprocesses", "2", "--dist", "loadfile", "--quiet"]
        if subprocess.run([interpreter, *tests], cwd=ROOT, check=False).returncode != 0:
            print(f"the unit tests failed with the {resolution} dependencies", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
