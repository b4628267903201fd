"""``scenario-repo console``: where it listens, whom it lets in, and how it ends."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from scenario_repo.console.readings import Readings
from scenario_repo.console.server import QuietServer
from scenario_repo.exceptions import PermissionDeniedException
from scenario_repo.testing import PostgrestAnswers, a_status
from tests.factories import PROJECT_URL

if TYPE_CHECKING:  # pytest imports it first, as a plugin
    from tests.unit.command_line import Run

pytest_plugins = ["tests.unit.command_line"]

PROXY: Final = "console.example.org"

Visit = Callable[[int], Awaitable[None]]


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> Callable[[Visit], None]:
    """Let a visitor come once the server runs, after whom it ends as by Ctrl-C."""

    def set_visit(visit: Visit) -> None:
        serve = QuietServer.serve

        async def serve_the_visitor(server: QuietServer, sockets: Any) -> None:  # noqa: ANN401 - uvicorn's
            serving = asyncio.create_task(serve(server, sockets))
            port = sockets[0].getsockname()[1]
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            try:
                await visit(port)
            finally:
                server.end()
                await serving

        monkeypatch.setattr(QuietServer, "serve", serve_the_visitor)

    return set_visit


async def _get(port: int, path: str = "/", **headers: str) -> httpx.Response:
    """Ask the console itself: loopback is not mocked."""
    transport = httpx.AsyncHTTPTransport()
    async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{port}") as browser:
        return await browser.get(path, headers=headers)


@pytest.fixture
def answers() -> PostgrestAnswers:
    """Answer what is asked before the address is printed, and let requests to loopback pass."""
    given = PostgrestAnswers(PROJECT_URL)
    given.get_status(a_status())
    given.router.route(host="127.0.0.1").pass_through()
    return given


def test_the_printed_address_opens_and_no_other(
    run: Run, answers: PostgrestAnswers, visited: Callable[[Visit], None]
) -> None:
    """On loopback, with a token that is new each time; the answer names no server."""
    seen: list[httpx.Response] = []

    async def visit(port: int) -> None:
        seen.append(await _get(port))

    visited(visit)
    with answers:
        first, second = (run("console", "--port", "0") for _ in range(2))
    addresses = [re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=([\w-]{32})\n", told.out) for told in (first, second)]
    tokens = {address[1] for address in addresses if address}
    assert (first.code, first.err, len(tokens)) == (0, "", 2)
    assert [answer.status_code for answer in seen] == [403, 403]
    assert "server" not in seen[0].headers


def test_behind_a_proxy_its_name_lets_in(run: Run, answers: PostgrestAnswers, visited: Callable[[Visit], None]) -> None:
    """The proxy has signed its user in: no token; any other name is refused."""
    seen: list[int] = []

    async def visit(port: int) -> None:
        seen.extend([(await _get(port, "/live", Host=host)).status_code for host in (PROXY, "127.0.0.1")])

    visited(visit)
    with answers:
        told = run("console", "--port", "0", "--host", "127.0.0.1", "--behind-proxy", PROXY.upper())
    assert told.code == 0
    assert re.fullmatch(rf"listening on 127\.0\.0\.1:\d+ for {PROXY}; Ctrl-C ends it\n", told.out)
    assert seen == [200, 421]


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "console.example.org", ""])  # noqa: S104 - refused
def test_it_listens_on_loopback_alone(run: Run, host: str) -> None:
    """Another address is refused, unless a proxy is named; nothing is asked before."""
    told = run("console", "--host", host)
    assert (told.code, told.out) == (2, "")
    assert "--behind-proxy" in told.err


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize("name", ["*", "https://console.example.org", "console.example.org:443", ""])
def test_a_proxy_is_a_host_name(run: Run, name: str) -> None:
    """A pattern, an address or a port would never be what a browser asks for, or would let in everybody."""
    told = run("console", "--behind-proxy", name)
    assert (told.code, told.out) == (2, "")
    assert "host name" in told.err


def test_a_key_that_is_wrong_is_told_at_once(run: Run, answers: PostgrestAnswers) -> None:
    """Before the address is printed, with the exit code of any other command."""
    refused = PostgrestAnswers(answers.url)
    refused.fail("get_status", PermissionDeniedException)
    with refused:
        told = run("console", "--port", "0")
    assert told.out == ""
    assert told.code in {2, 4}


@pytest.mark.usefixtures("no_request")
def test_a_port_in_use_is_one_line(run: Run) -> None:
    """The command ends before it asks anything, and says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = run("console", "--port", taken.getsockname()[1])
    assert (told.code, told.out) == (2, "")
    assert re.fullmatch(r"scenario-repo: --port: \d+ is in use, .* or 0 for one that is free\n", told.err)


@pytest.mark.usefixtures("no_request")
def test_an_address_of_another_machine_is_one_line(run: Run) -> None:
    """Behind a proxy, where any address may be given."""
    told = run("console", "--host", "192.0.2.1", "--behind-proxy", PROXY)
    assert (told.code, told.out) == (2, "")
    assert "can't listen on port 8420 of 192.0.2.1" in told.err


def test_an_answer_is_sent_at_once(run: Run, answers: PostgrestAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TCP_NODELAY each page of a browser waits 40 ms for an acknowledgement."""
    found: list[int] = []

    async def serve(_: QuietServer, sockets: list[socket.socket]) -> None:
        found.extend(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets)

    monkeypatch.setattr(QuietServer, "serve", serve)
    with answers:
        assert run("console", "--port", "0").code == 0
    assert len(found) == 1
    assert found[0] != 0


def test_a_page_that_waits_is_cut_off_without_a_word(
    run: Run,
    answers: PostgrestAnswers,
    visited: Callable[[Visit], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ctrl-C while the database is slow prints no traceback; what is no HTTP is no news either."""
    pages: list[asyncio.Task[httpx.Response]] = []

    async def wait(_: object) -> None:
        await asyncio.sleep(60)

    async def visit(port: int) -> None:
        pages.append(asyncio.create_task(_get(port, "/live", Host=PROXY)))
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()

    monkeypatch.setattr(Readings, "newest", wait)
    visited(visit)
    with answers:
        told = run("console", "--port", "0", "--behind-proxy", PROXY)
    assert (told.code, told.err) == (0, "")
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert len(pages) == 1


@pytest.mark.parametrize("missing", ["starlette", "jinja2", "pygal", "uvicorn"])
def test_without_the_extra_one_line_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Exit code 2, and the command to paste."""
    for name in [name for name in sys.modules if name.startswith(("scenario_repo.console", f"{missing}."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    told = run("console")
    assert (told.code, told.out) == (2, "")
    assert "pip install 'scenario_repo[web]'" in told.err
