"""The blocking face in processes: Ctrl-C in the middle of a call, forks, and what is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PREAMBLE: Final = """
import asyncio, json, os, signal, sys, threading, time
import httpx, respx
from datetime import timedelta
from scenario_repo import ConfigurationException, blocking
from tests.factories import PROJECT_URL, SECRET_KEY, leased_row

def say(*words):
    print(*words, flush=True)

def press_ctrl_c():
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

router = respx.mock(assert_all_called=False)
router.start()
"""


def _run(script: str) -> list[str]:
    """Run a script in a process of its own, and return its words."""
    run = subprocess.run(  # noqa: S603 - the script is a test's
        (sys.executable, "-c", PREAMBLE + script),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_ctrl_c_cancels_the_request_and_returns() -> None:
    """KeyboardInterrupt ends a call at once, its request is cancelled, and the client closes."""
    assert _run("""
async def answer(request):
    press_ctrl_c()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        say("cancelled")
        raise

router.route().mock(side_effect=answer)
began = time.monotonic()
try:
    with blocking.connect(PROJECT_URL, SECRET_KEY) as client:
        blocking.ScenarioNotificationRepository(client).describe_schema()
except KeyboardInterrupt:
    say("interrupted", time.monotonic() - began < 10, [thread.name for thread in threading.enumerate()])
""") == ["cancelled", "interrupted True ['MainThread']"]


def test_after_ctrl_c_the_client_goes_on() -> None:
    """A program that catches the interrupt may make the next call on the same client."""
    assert _run("""
async def hang(request):
    press_ctrl_c()
    await asyncio.sleep(60)

router.route().mock(side_effect=hang)
with blocking.connect(PROJECT_URL, SECRET_KEY) as client:
    repository = blocking.ScenarioNotificationRepository(client)
    try:
        repository.describe_schema()
    except KeyboardInterrupt:
        router.route().respond(json={"version": 1, "scenario_types": []})
        say(repository.describe_schema().version)
""") == ["1"]


def test_what_a_signal_handler_raises_cancels_too() -> None:
    """An exception of a signal handler, such as Celery's SoftTimeLimitExceeded, ends the call as Ctrl-C does."""
    assert _run("""
class TimeIsUp(Exception):
    pass

def raise_it(*_):
    raise TimeIsUp

async def answer(request):
    try:
        await asyncio.sleep(60)
    finally:
        say("cancelled")

router.route().mock(side_effect=answer)
signal.signal(signal.SIGALRM, raise_it)
with blocking.connect(PROJECT_URL, SECRET_KEY) as client:
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        blocking.ScenarioNotificationRepository(client).describe_schema()
    except TimeIsUp:
        say("time is up")
""") == ["cancelled", "time is up"]


def test_ctrl_c_releases_the_leases_of_a_worker() -> None:
    """An interrupted worker gives back what it has in hand, waits for a send that is in its thread, and then ends."""
    assert _run("""
rows = [leased_row(id=f"00000000-0000-4000-8000-00000000000{n}", leased_until="2999-01-01T00:00:00Z") for n in (1, 2)]

def lease(request):
    taken, rows[:] = list(rows), []
    return httpx.Response(200, json={"leased": taken, "has_more": False})

def settle(request):
    results = sorted(row["result"] for row in json.loads(request.content)["p_results"])
    say(*results)
    return httpx.Response(200, json={"answers": ["pending"] * len(results)})

router.post(path="/rest/v1/rpc/scenario_lease_notifications").mock(side_effect=lease)
router.post(path="/rest/v1/rpc/scenario_settle_notifications").mock(side_effect=settle)

def send(notification):
    press_ctrl_c()
    time.sleep(0.6)

with blocking.connect(PROJECT_URL, SECRET_KEY) as client:
    try:
        worker = blocking.DeliveryWorker(blocking.ScenarioNotificationRepository(client), send, rate=0.5)
        worker.run()
    except KeyboardInterrupt:
        say("interrupted", not worker.is_abandoning)
""") == ["released sent", "interrupted True"]


fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@fork
def test_a_client_from_before_a_fork_is_refused_and_does_not_hang() -> None:
    """In the child, the parent's client is refused by name, and to leave its block waits for no thread."""
    assert _run("""
import warnings
warnings.simplefilter("ignore")
router.route().respond(json={"version": 1, "scenario_types": []})
with blocking.connect(PROJECT_URL, SECRET_KEY) as client:
    repository = blocking.ScenarioNotificationRepository(client)
    child = os.fork()
    if not child:
        try:
            repository.describe_schema()
        except ConfigurationException as refusal:
            say("opened before a fork" in str(refusal))
if child:
    _, status = os.waitpid(child, 0)
    say("parent", status)
    try:
        repository.describe_schema()
    except ConfigurationException as refusal:
        say(refusal)
""") == ["True", "parent 0", "the client is closed: use it inside the `with` block that opened it"]


@fork
def test_a_fork_opens_a_client_of_its_own() -> None:
    """A child that opens its own client works, beside that of its parent."""
    assert _run("""
import warnings
warnings.simplefilter("ignore")
router.route().respond(json={"version": 1, "scenario_types": []})

def ask():
    with blocking.connect(PROJECT_URL, SECRET_KEY) as client:
        return blocking.ScenarioNotificationRepository(client).describe_schema().version

with blocking.connect(PROJECT_URL, SECRET_KEY):
    child = os.fork()
    if not child:
        say("child", ask())
        os._exit(0)
    os.waitpid(child, 0)
    say("parent", ask())
""") == ["child 1", "parent 1"]


def test_the_package_does_not_import_the_blocking_face() -> None:
    """``import scenario_repo`` costs nothing of what only blocking code needs."""
    assert _run("""
import subprocess
ours = {"scenario_repo.blocking", "scenario_repo._portal"}
code = f"import sys, scenario_repo; print(sorted({ours} & set(sys.modules)))"
say(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
""") == ["[]"]
