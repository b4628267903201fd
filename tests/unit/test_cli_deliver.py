"""scenario-repo deliver: the sender, the signals, and the end."""

from __future__ import annotations

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

from tests.factories import leased_row

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


def test_deliver_once_ends_when_nothing_is_due(
    run: Run, server: respx.MockRouter, sender: Callable[[str], str]
) -> None:
    """Every pending notification goes to the sender, and the counts are printed."""
    server.post("/rpc/scenario_lease_notifications").mock(
        side_effect=[httpx.Response(200, json=leased(3)), *[httpx.Response(200, json=leased(0))] * 9]
    )
    server.post("/rpc/scenario_settle_notifications").mock(side_effect=settle)
    told = run("deliver", "--once", "--sender", f"{sender('async def send(notification): pass')}:send")
    assert (told.code, told.out, told.err) == (0, "sent 3\n", "")


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
