"""scenario-repo deliver: the sender, the signals, and the end."""

from __future__ import annotations

import gc
import io
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
import respx

from tests.factories import leased_row, scenario_status

if TYPE_CHECKING:  # pytest imports it first, as a plugin
    from tests.unit.command_line import Run

pytest_plugins = ["tests.unit.command_line"]


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], str]:
    """Write a sender's module into the working directory, and return its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(body: str) -> str:
        name = f"sender_{abs(hash(body))}"
        (tmp_path / f"{name}.py").write_text(f"import asyncio, os, signal\n{body}\n")
        return name

    return write


def leased(number: int) -> dict[str, Any]:
    """Make leases as the database gives them out."""
    devices = [{"token": "SECRET-TOKEN", "platform": "ios"}]
    return {"leased": [leased_row(id=str(UUID(int=n)), device_tokens=devices) for n in range(number)]}


def settle(request: httpx.Request) -> httpx.Response:
    """Answer settlements as the database does."""
    results = json.loads(request.content)["p_results"]
    answers = {"sent": "sent", "retry": "pending", "failed": "failed", "released": "pending"}
    return httpx.Response(200, json={"answers": [answers[result["result"]] for result in results]})


def hand_out(server: respx.MockRouter, number: int) -> tuple[respx.Route, respx.Route]:
    """Lease so many and then none, and take their settlements; return the two routes."""
    lease = server.post("/rpc/scenario_lease_notifications").mock(
        side_effect=[httpx.Response(200, json=leased(number)), *[httpx.Response(200, json=leased(0))] * 9]
    )
    return lease, server.post("/rpc/scenario_settle_notifications").mock(side_effect=settle)


def test_deliver_once_ends_when_nothing_is_due(
    run: Run, server: respx.MockRouter, sender: Callable[[str], str]
) -> None:
    """Every pending notification goes to the sender, and the counts are printed."""
    hand_out(server, 3)
    told = run("deliver", "--once", "--sender", f"{sender('async def send(notification): pass')}:send")
    assert (told.code, told.out, told.err) == (0, "sent 3\n", "")


def test_the_collector_leaves_what_was_loaded_in_peace(
    run: Run, server: respx.MockRouter, sender: Callable[[str], str]
) -> None:
    """The sender's module too: it is loaded by then."""
    hand_out(server, 1)
    gc.unfreeze()
    send = "import gc\nasync def send(notification): assert not any(o is globals() for o in gc.get_objects())"
    told = run("deliver", "--once", "--sender", f"{sender(send)}:send")
    gc.unfreeze()
    assert (told.code, told.out, told.err) == (0, "sent 1\n", "")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.mark.parametrize("knows", [True, False])
def test_a_delivery_shows_how_far_it_is_of_what_is_due(
    run: Run,
    server: respx.MockRouter,
    sender: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    knows: bool,
) -> None:
    """On a terminal: of the total, if the database tells it; the result goes to standard output as always."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    scenarios = [scenario_status(due_now=3), scenario_status(scenario_type="milestone", due_now=7)]
    status = {"version": 1, "scenarios": scenarios, "failures": []}
    server.post("/rpc/scenario_get_status").respond(200 if knows else 503, json=status)
    hand_out(server, 3)
    name = sender("async def send(notification): pass")
    told = run("deliver", "--once", "--scenario", "inactivity", "--sender", f"{name}:send")
    assert (told.code, told.out) == (0, "sent 3\n")
    assert ("3/3" in terminal.getvalue()) is knows
    assert "sent 3" in terminal.getvalue()


def test_a_first_signal_finishes_what_is_being_sent(
    run: Run, server: respx.MockRouter, sender: Callable[[str], str]
) -> None:
    """SIGTERM: nothing more is leased, the send under way ends and is settled, and the exit code is 0."""
    lease = server.post("/rpc/scenario_lease_notifications").respond(json=leased(1))
    server.post("/rpc/scenario_settle_notifications").mock(side_effect=settle)
    body = "async def send(n):\n    os.kill(os.getpid(), signal.SIGTERM)\n    await asyncio.sleep(0.1)"
    told = run("deliver", "--concurrency", 1, "--sender", f"{sender(body)}:send")
    assert (told.code, told.out, lease.call_count) == (0, "sent 1\n", 1)
    assert len(told.err.splitlines()) == 1
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_signal_gives_up_and_releases(
    run: Run, server: respx.MockRouter, sender: Callable[[str], str]
) -> None:
    """The send is cancelled, its notification is released for others, and the exit code is STOPPED."""
    server.post("/rpc/scenario_lease_notifications").respond(json=leased(1))
    route = server.post("/rpc/scenario_settle_notifications").mock(side_effect=settle)
    twice = "os.kill(os.getpid(), signal.SIGINT)\n    await asyncio.sleep(0.05)\n"
    body = f"async def send(n):\n    {twice}    {twice}    await asyncio.sleep(60)"
    told = run("deliver", "--concurrency", 1, "--sender", f"{sender(body)}:send")
    assert told.code == 1
    assert [one["result"] for one in json.loads(route.calls.last.request.content)["p_results"]] == ["released"]
    assert "SECRET-TOKEN" not in told.err + told.out


def _lease_asked(route: respx.Route) -> dict[str, Any]:
    asked: dict[str, Any] = json.loads(route.calls[0].request.content)
    return asked


def test_everything_the_worker_has_can_be_asked_for(
    run: Run, server: respx.MockRouter, sender: Callable[[str], str]
) -> None:
    """Organization, scenarios, attempts, rate, and a sender to one device; the counts as JSON."""
    lease, settled = hand_out(server, 2)
    name = sender("async def send(notification, device): assert device.platform == 'ios'")
    filters = ("--organization", UUID(int=7), "--scenario", "milestone", "--scenario", "own_type")
    told = run("deliver", "--once", "--device-sender", f"{name}:send", *filters, "--max-attempts", 3, "--rate", 50.5,
               "--json")  # fmt: skip
    assert (told.code, told.err) == (0, "")
    assert json.loads(told.out) == {"settled": {"sent": 2}, "failure": None}
    asked = _lease_asked(lease)
    assert (asked["p_organization_id"], asked["p_scenario_types"]) == (str(UUID(int=7)), ["milestone", "own_type"])
    results = json.loads(settled.calls[0].request.content)
    assert (results["p_max_attempts"], results["p_results"][0]["reached"]) == (3, ["SECRET-TOKEN"])


@pytest.mark.parametrize("options", [(), ("--traceback",), ("--json",)])
def test_a_sender_with_a_bug_ends_it_and_is_shown_the_place(
    run: Run, server: respx.MockRouter, sender: Callable[[str], str], options: tuple[str, ...]
) -> None:
    """Exit code FAILED after a few; the attempts are given back; the lines of the traceback on request, no text."""
    server.post("/rpc/scenario_lease_notifications").respond(json=leased(20) | {"has_more": True})
    settled = server.post("/rpc/scenario_settle_notifications").mock(side_effect=settle)
    name = sender("def fail(n):\n    raise TypeError(n.device_tokens[0].token)\nasync def send(n):\n    fail(n)")
    told = run("deliver", "--sender", f"{name}:send", *options)
    assert told.code == 4
    assert f"TypeError at {name}:3" in told.err
    assert "SECRET-TOKEN" not in told.err + told.out
    assert (", in fail" in told.err) is ("--traceback" in options)
    if "--json" in options:
        assert json.loads(told.out)["failure"] == {"kind": "TypeError", "place": f"{name}:3"}
    results = [one for call in settled.calls for one in json.loads(call.request.content)["p_results"]]
    assert {one["result"] for one in results} == {"released"}


def test_what_is_no_exception_ends_it_without_its_text(
    run: Run, server: respx.MockRouter, sender: Callable[[str], str]
) -> None:
    """The class and the place are told, the exit code is FAILED, and its attempt is spent."""
    server.post("/rpc/scenario_lease_notifications").respond(json=leased(1))
    settled = server.post("/rpc/scenario_settle_notifications").mock(side_effect=settle)
    body = "class Boom(BaseException): pass\nasync def send(n):\n    raise Boom(n.device_tokens[0].token)"
    name = sender(body)
    told = run("deliver", "--once", "--sender", f"{name}:send")
    assert (told.code, told.out) == (4, "pending 1\n")
    assert f"the sender raised Boom at {name}:4" in told.err
    assert "SECRET-TOKEN" not in told.err + told.out
    assert [one["result"] for one in json.loads(settled.calls.last.request.content)["p_results"]] == ["retry"]


def test_a_sender_that_swallows_cancellation_keeps_no_process_from_ending(
    run: Run, server: respx.MockRouter, sender: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two signals the process ends, by force, though the event loop would wait for the send."""
    server.post("/rpc/scenario_lease_notifications").respond(json=leased(1))
    monkeypatch.setattr("scenario_repo.senders.GRACE_SECONDS", 0.05)
    ended: list[int] = []

    def end(code: int) -> None:
        ended.append(code)
        raise SystemExit(code)

    monkeypatch.setattr("scenario_repo._cli.running.os._exit", end)
    body = """
async def send(n):
    os.kill(os.getpid(), signal.SIGINT)
    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    for _ in range(2):  # it gives way in the end, for this test's own process goes on
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""
    told = run("deliver", "--sender", f"{sender(body)}:send")
    assert (told.code, ended) == (1, [1])


@pytest.mark.parametrize("options", [(), ("--sender", "{0}:send", "--device-sender", "{0}:send"), ("--rate", "0")])
def test_a_sender_is_of_one_kind(run: Run, sender: Callable[[str], str], options: tuple[str, ...]) -> None:
    """Neither none nor both; a rate is positive."""
    name = sender("async def send(n): pass")
    assert run("deliver", *(option.format(name) for option in options)).code == 2


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("async def send(n): pass", "{}"),
        ("async def send(n): pass", "{}:other"),
        ("def send(n): pass", "{}:send"),
        ("raise RuntimeError('SECRET-ROW-VALUE')", "{}:send"),
        ("", "no_such_module_at_all:send"),
        ("", ":"),
    ],
)
def test_a_sender_that_cannot_be_used_is_a_usage_error(
    run: Run, sender: Callable[[str], str], body: str, name: str
) -> None:
    """It is refused before anything is leased, and the module's own error text is not shown."""
    told = run("deliver", "--sender", name.format(sender(body)))
    assert told.code == 2
    assert "--sender" in told.err
    assert "SECRET-ROW-VALUE" not in told.err
