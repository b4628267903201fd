"""Run the unit tests and the type checks on every supported Python that this machine has.

    python tests/check_pythons.py [--all]

Pythons are looked for on PATH and among pyenv's versions; each has a cached environment. One that is missing is named
loudly; with --all it is an error.
"""

# ruff: noqa: S603, T201 (a script; its commands are ours)

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SUPPORTED: Final = ("3.11", "3.12", "3.13", "3.14")
CACHE: Final = ROOT / ".cache" / "pythons"
CONSTRAINTS: Final = "tests/constraints.txt"
CHECKS: Final = (
    ("-m", "pytest", "tests/unit", "--numprocesses", "2", "--dist", "loadfile", "--quiet"),
    ("-m", "mypy"),
    ("-m", "pyright", "--pythonpath", "{python}"),
)


def find_python(version: str) -> str | None:
    """Return an interpreter of that version, or None."""
    for candidate in _candidates(version):
        said = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        # A shim of pyenv is there without its Python.
        if said.returncode == 0 and said.stdout.startswith(f"Python {version}."):
            return candidate
    return None


def _candidates(version: str) -> Iterator[str]:
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True))


def environment(version: str, python: str) -> str:
    """Make the environment of a version, or find it made of the same requirements; return its interpreter."""
    folder = CACHE / version
    interpreter, stamp = folder / "bin" / "python", folder / ".installed"
    contents = (ROOT / "pyproject.toml").read_bytes() + (ROOT / CONSTRAINTS).read_bytes() + python.encode()
    wanted = hashlib.sha256(contents).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == wanted):
        _run(python, "-m", "venv", "--clear", str(folder))
        pip = (str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, "--constraint", CONSTRAINTS, "--upgrade", "pip")
        _run(*pip, "--constraint", CONSTRAINTS, "--editable", ".", "--group", "dev")
        stamp.write_text(wanted)
    return str(interpreter)


def _run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> int:
    """Check each version, and say which were not there."""
    parser = argparse.ArgumentParser(description="Run the unit tests and the type checks on every supported Python.")
    parser.add_argument("--all", action="store_true", help="fail where a supported Python is missing")
    parser.add_argument(
        "--newest", action="store_true", help="only the newest that is here, unless it is this one, and no type checks"
    )
    options = parser.parse_args()
    needs_all: bool = options.all
    found = {version: find_python(version) for version in SUPPORTED}
    checks: tuple[tuple[str, ...], ...] = CHECKS
    if options.newest:
        checks = CHECKS[:1]
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        newest = max((version for version, python in found.items() if python), key=SUPPORTED.index, default=here)
        found = {newest: found[newest]} if newest != here else {}
    for version, python in found.items():
        if python is None:
            continue
        started = time.monotonic()
        print(f"-- Python {version}", flush=True)
        interpreter = environment(version, python)
        for check in checks:
            command = [interpreter, *(part.format(python=interpreter) for part in check)]
            if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
                print(f"Python {version}: {' '.join(check[1:])} failed", file=sys.stderr)
                return 1
        print(f"-- Python {version}: {time.monotonic() - started:.0f} s", flush=True)
    missing = [version for version, python in found.items() if python is None]
    for version in missing:
        print(f"WARNING: there is no Python {version} on this machine: it was NOT TESTED.", file=sys.stderr)
    return 1 if missing and needs_all else 0


if __name__ == "__main__":
    sys.exit(main())
