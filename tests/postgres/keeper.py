"""Wait for the parent's end, then stop its PostgreSQL and remove the folder.

    python keeper.py FOLDER

Standard input is a pipe that only the parent holds open. However the parent
ends, by itself or by SIGKILL, the read below returns and the cleaning starts.
"""

# ruff: noqa: S603, S607 (its commands are ours)

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_PATIENCE_SECONDS = 20.0


def _command_line(pid: int) -> str:
    """Return the command line of a process, empty when there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    with suppress(OSError):
        return subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
    return ""


def _postmaster(data: Path) -> int | None:
    """Return the pid of the server that runs on this data folder, if one does.

    A crashed server leaves its pid file behind, and the number may belong to
    somebody else by now: the command line has to name the folder.
    """
    with suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        if str(data) in _command_line(pid):
            return pid
    return None


def stop(data: Path) -> None:
    """Stop the server on a data folder: fast, then immediate, then killed."""
    for step in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        pid = _postmaster(data)
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, step)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline and _postmaster(data) is not None:
            time.sleep(0.05)


def main() -> None:
    """Wait for end of file on standard input, then clean up."""
    folder = Path(sys.argv[1])
    sys.stdin.buffer.read()
    stop(folder / "data")
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
