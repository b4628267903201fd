"""A newcomer's first ten minutes: what the stack prints can be pasted, and Ctrl-C is one line at any moment."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import pytest
from interrupts import LINE

from tests.http.supabase_platform import Platform

ROOT: Final = Path(__file__).parents[2]
LOCAL: Final = ROOT / "supabase" / "local"
READY: Final = "Ctrl-C ends the stack"
MAKE: Final = (
    "make",
    "--no-print-directory",
    "--old-file=.venv/.installed",
    "--old-file=supabase/local/node_modules/.installed-lock",
    f"BIN={Path(sys.executable).parent}",
)
"""make, with everything set up."""


@contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a session of its own, which nothing survives."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SUPABASE", "MAKE"))}
    process = subprocess.Popen(  # noqa: S603 - our own
        command,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for pid in _session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _session(sid: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    listed = subprocess.run(["ps", "-eo", "pid=,sid=,stat="], capture_output=True, text=True, check=True)  # noqa: S607
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, of, stat in rows if int(of) == sid and not stat.startswith("Z")]


def _read_until(output: IO[str] | None, words: str) -> str:
    assert output is not None
    read = ""
    for line in output:
        read += line
        if words in line:
            return read
    pytest.fail(f"{words!r} was not printed, but:\n{read}")


def _interrupted(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C: the whole group gets it. Return what is printed from then on."""
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    deadline = time.monotonic() + 5
    while _session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _session(process.pid) == [], "something is left running"
    return rest


def test_what_the_stack_prints_can_be_pasted() -> None:
    """Every line that is no comment runs in a shell, and shows what it says."""
    with _running(sys.executable, str(LOCAL / "serve.py"), "--seed") as process:
        told = _read_until(process.stdout, READY)
        commands = [line for line in told.splitlines() if re.match(r"export|curl|psql|\S*scenario-repo", line)]
        (console,) = [line for line in commands if line.endswith("scenario-repo console")]
        commands.remove(console)  # it runs until Ctrl-C
        assert len(commands) == 5 + 3 + 2 + ("\npsql" in told)
        script = "\n".join(["set -euo pipefail", *commands])
        shown = subprocess.run(  # noqa: S603 - what we print
            ["bash", "-c", script],  # noqa: S607 - whichever bash
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert shown.returncode == 0, shown.stdout + shown.stderr
        quiet = re.findall(r"[0-9a-f-]{36}", told.partition("# of whom")[2])[0]
        assert f"explain {quiet}" in told
        assert re.search(r"inactivity.*27", shown.stdout)
        as_worker, as_mentor = re.findall(r"\[(?:\{.*?\})?\]", shown.stdout.replace("\n", " "))[-2:]
        assert '"pending"' in as_worker
        assert set(re.findall(r'"user_id":"([^"]+)"', as_mentor)) == {quiet}
        assert _interrupted(process).strip() == LINE
    assert process.returncode == 130


@pytest.mark.parametrize("words", ["starting", "it runs on", "Delivered"])
def test_ctrl_c_in_the_demo_is_one_line(words: str) -> None:
    """While the stack starts, and between and within its parts; make has nothing to add."""
    with _running(*MAKE, "demo") as process:
        _read_until(process.stdout, words)
        rest = _interrupted(process)
    printed = [line for line in rest.splitlines() if line.strip() and not re.match(r"[\s│┏┃┡└└]", line)]
    assert printed[-1] == LINE
    assert not re.search("Traceback|Error|make:", rest), rest


SHOW: Final = """
import interrupts
interrupts.end_in_one_line()
import os
from types import SimpleNamespace
from uuid import UUID
from demo_console import show_console
show_console(SimpleNamespace(url=os.environ["AT"], secret_key=os.environ["KEY"]), UUID(int=1))
print("the end")
"""
"""The end of the demo, over a stack that runs already."""


@pytest.fixture
def showing(platforms: Callable[[str], Platform]) -> dict[str, str]:
    """Return the environment in which SHOW finds a stack."""
    platform = platforms("lite on PostgreSQL")
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "MAKELEVEL"}}
    path = os.pathsep.join((str(ROOT), str(LOCAL)))
    return {**kept, "PYTHONPATH": path, "AT": platform.url, "KEY": platform.secret_key}


def test_the_demo_ends_with_the_consoles_address(showing: dict[str, str]) -> None:
    """Where nobody sits at a terminal it goes on by itself: it has read the pages, and says where they were."""
    shown = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", SHOW], env=showing, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    *_, overview, organization, last = shown.stdout.rstrip("\n").split("\n")
    assert re.fullmatch(r"overview:     http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", overview)
    assert re.fullmatch(r"organization: http://127\.0\.0\.1:\d+/organization\?id=[0-9a-f-]{36}&token=\S+", organization)
    assert (last, shown.stderr) == ("the end", "")
    assert "the overview of 4 scenarios" in shown.stdout


def test_a_demo_whose_console_does_not_answer_fails(showing: dict[str, str]) -> None:
    """The gate runs the demo, and takes no address that leads nowhere."""
    wrong = {**showing, "KEY": "sb_secret_of-another-project"}
    shown = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", SHOW], env=wrong, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert shown.returncode != 0
    assert "EmbeddedStackError: the console did not start" in shown.stderr
    assert "http" not in shown.stdout


def test_the_console_ends_with_a_terminal_that_is_closed(showing: dict[str, str]) -> None:
    """Nothing outlives the demo, however it ends."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
        os.execve(sys.executable, [sys.executable, "-c", SHOW], showing)  # noqa: S606 - our own
    with open(terminal, "r+b", buffering=0) as screen:  # noqa: PTH123 - a terminal
        told = b""
        while b"ends the demo" not in told:
            told += screen.read(4096)
        assert len(_session(pid)) == 2
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGHUP
    deadline = time.monotonic() + 20
    while _session(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _session(pid) == []


@pytest.mark.parametrize("key", [b"\n", b"\x03"], ids=["enter", "ctrl-c"])
def test_at_a_terminal_the_console_stays(showing: dict[str, str], key: bytes) -> None:
    """Whoever sits there opens the address, and ends the demo with Enter or Ctrl-C; nothing is left running."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", SHOW], showing)  # noqa: S606 - our own
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with open(terminal, "r+b", buffering=0) as screen:  # noqa: PTH123 - a terminal
        told = b""
        while b"ends the demo" not in told:
            told += screen.read(4096)
        (address,) = re.findall(rb"overview: +(http://\S+)", told)
        with browser.open(address.decode()) as answer:
            assert answer.status == 200
        screen.write(key)
        with suppress(OSError):  # the end of a terminal
            while more := screen.read(4096):
                told += more
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == (0 if key == b"\n" else 130)
    assert told.decode().rstrip().endswith("the end" if key == b"\n" else LINE)
    assert b"Traceback" not in told
    assert _session(pid) == []


@pytest.mark.parametrize(("target", "seconds"), [("demo", 0.2), ("demo", 0.9), ("stack", 0.5)])
def test_ctrl_c_at_the_very_beginning_is_one_line(target: str, seconds: float) -> None:
    """Modules are imported then, which takes a second."""
    with _running(*MAKE, target) as process:
        time.sleep(seconds)
        rest = _interrupted(process)
    assert re.fullmatch(rf"(starting .*\n)?(it runs .*\n)?{LINE}\n", rest), rest


SET_UP: Final = """
import sys
from pathlib import Path
import interrupts, set_up
interrupts.end_in_one_line()
here = Path(sys.argv[1])
(here / "made_from").touch()
count = "open('ran', 'a').write('x'); import subprocess, sys, time; "
slow = count + "subprocess.run([sys.executable, '-c', 'import time; time.sleep(' + sys.argv[1] + ')'], check=True)"
command = [sys.executable, "-c", slow, sys.argv[2]]
step = set_up.Step("Things", "a moment", (command,), here / "stamp", [here / "made_from"])
sys.exit(set_up.run(step, here / "lock"))
"""


@contextmanager
def _setting_up(folder: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Run a set-up whose only command starts another one that takes so long."""
    driver = f"import os, sys; sys.path.insert(0, {str(LOCAL)!r}); os.chdir({str(folder)!r})\n{SET_UP}"
    with _running(sys.executable, "-c", driver, str(folder), str(seconds)) as process:
        yield process


def test_two_set_ups_wait_for_each_other(tmp_path: Path) -> None:
    """The second one says that it waits, and then finds all done."""
    with _setting_up(tmp_path, 2) as first:
        _read_until(first.stdout, "set-up: Things (a moment) …")
        with _setting_up(tmp_path, 2) as second:
            told, _ = second.communicate(timeout=30)
            rest, _ = first.communicate(timeout=30)
    assert told == "set-up: another one runs in this checkout; waiting for it …\n"
    assert re.fullmatch(r"set-up: done in \d s\n", rest)
    assert (first.returncode, second.returncode) == (0, 0)
    assert (tmp_path / "ran").read_text() == "x"


def test_a_set_up_is_done_once(tmp_path: Path) -> None:
    """It says nothing when nothing has changed; what is newer than the stamp is set up anew."""
    told = []
    for _ in range(2):
        with _setting_up(tmp_path, 0) as process:
            told.append(process.communicate(timeout=30)[0])
        os.utime(tmp_path / "stamp", (time.time() + 60, time.time() + 60))
    assert ("done" in told[0], told[1]) == (True, "")
    os.utime(tmp_path / "stamp", (0, 0))
    with _setting_up(tmp_path, 0) as process:
        assert "done" in process.communicate(timeout=30)[0]


@pytest.mark.parametrize("waits", [False, True], ids=["working", "waiting"])
def test_ctrl_c_in_a_set_up_is_one_line(tmp_path: Path, waits: bool) -> None:  # noqa: FBT001 - a parameter
    """What it has started ends with it, grandchildren too; the next one begins anew."""
    with _setting_up(tmp_path, 600) as first:
        _read_until(first.stdout, "set-up: Things")
        while not (tmp_path / "ran").exists():
            time.sleep(0.01)
        time.sleep(0.2)
        if waits:
            with _setting_up(tmp_path, 600) as second:
                _read_until(second.stdout, "waiting for it")
                assert _interrupted(second) == f"{LINE}\n"
        assert _interrupted(first) == f"{LINE}\n"
    asleep = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    assert "time.sleep(' + sys.argv[1]" not in asleep
    assert not (tmp_path / "stamp").exists()


def test_a_command_that_fails_ends_the_set_up(tmp_path: Path) -> None:
    """It is named, and nothing counts as done."""
    with _setting_up(tmp_path, -1) as process:
        told, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert told.endswith("ended with status 1\n")
    assert not (tmp_path / "stamp").exists()
