"""`make`'s set-up: the Python environment, and the Node packages of the embedded stack.

    python supabase/local/set_up.py python|node

Each says what it does and about how long it takes. Two at once in one checkout wait for each other, and Ctrl-C ends
what runs. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import interrupts

if sys.platform != "win32":
    import fcntl

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / ".cache" / "set-up.lock"
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "tests" / "constraints.txt"
OLDEST_PYTHON = (3, 11)
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Step:
    """A part of the set-up."""

    title: str
    takes: str
    commands: Sequence[Sequence[str]]
    stamp: Path
    """Written when all is done, and newer than what it was made from."""
    made_from: Sequence[Path]

    @property
    def is_done(self) -> bool:
        """Whether nothing has changed since it was done."""
        if not self.stamp.is_file():
            return False
        return all(file.stat().st_mtime <= self.stamp.stat().st_mtime for file in self.made_from)


def python_step() -> Step:
    """Make the virtual environment, with the packages that the tests need."""
    python = str(VENV / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", str(CONSTRAINTS)]
    return Step(
        title="Python packages into .venv",
        takes="about a minute",
        commands=(
            [sys.executable, "-m", "venv", str(VENV)],
            [*pip, "--upgrade", "pip"],
            [*pip, "--editable", str(ROOT), "--group", "dev"],
        ),
        stamp=VENV / ".installed",
        made_from=(ROOT / "pyproject.toml", CONSTRAINTS),
    )


def node_step() -> Step:
    """Install the Node packages."""
    here = Path(__file__).parent
    return Step(
        title="Node packages for the embedded Supabase, 330 MB",
        takes="about a minute",
        commands=([sys.executable, "-m", "scenario_repo.testing"],),
        stamp=here / "node_modules" / ".installed-lock",
        made_from=(here / "package-lock.json",),
    )


def run(step: Step, lock: Path = LOCK) -> int:
    """Do a step, unless it is done; return the exit status of the command that failed, or 0."""
    with _alone(lock):
        if step.is_done:
            return 0
        began = time.monotonic()
        print(f"set-up: {step.title} ({step.takes}) …", flush=True)
        for command in step.commands:
            status = _run_to_end(command)
            if status:
                print(f"set-up: `{' '.join(command[1:4])} …` ended with status {status}", file=sys.stderr)
                return status
        step.stamp.touch()
        print(f"set-up: done in {time.monotonic() - began:.0f} s", flush=True)
    return 0


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other set-up runs in this checkout."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("set-up: another one runs in this checkout; waiting for it …", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run_to_end(command: Sequence[str]) -> int:
    """Run a command; an interrupt ends it, with whatever it has started."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - our own
    try:
        return process.wait()
    except BaseException:
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, how)
                process.wait(STOP_SECONDS)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        raise


def main(arguments: Sequence[str]) -> int:
    """Do one of the steps."""
    if sys.version_info < OLDEST_PYTHON:
        print("scenario_repo needs Python 3.11 or later: make PYTHON=python3.12 …", file=sys.stderr)
        return 1
    steps = {"python": python_step, "node": node_step}
    if len(arguments) != 1 or arguments[0] not in steps:
        print(f"expected one of: {', '.join(steps)}", file=sys.stderr)
        return 2
    return run(steps[arguments[0]]())


if __name__ == "__main__":
    interrupts.end_in_one_line()
    sys.exit(main(sys.argv[1:]))
