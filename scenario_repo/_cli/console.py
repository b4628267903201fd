"""scenario-repo console: the read-only pages, until Ctrl-C."""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
import sys
from contextlib import closing
from ipaddress import ip_address
from typing import Annotated, Final

import typer

from scenario_repo._cli.endings import DONE, USAGE
from scenario_repo._cli.output import print_lines, print_note
from scenario_repo._cli.running import command, database, handled_signals

_EXTRA: Final = frozenset({"jinja2", "markupsafe", "pygal", "starlette", "uvicorn"})
_GRACE_SECONDS: Final = 1
_MANUAL: Final = "docs/console.md"
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "console")(console)


async def console(
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, metavar="N", help="The port; 0: one that is free.")] = 8420,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on; another than loopback needs a proxy.")
    ] = "127.0.0.1",
    behind_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="The host name of a proxy that signs its users in: it alone decides who may look. May be repeated.",
            show_default="none",
        ),
    ] = None,
) -> int:
    """Show how things stand in a browser: read-only pages on this machine, until Ctrl-C."""
    names = frozenset(name.lower() for name in behind_proxy or ())
    if not names and not _is_loopback(host):
        print_note(f"--host: expected a loopback address, or --behind-proxy with it ({_MANUAL})")
        return USAGE
    if not all(map(_NAME.fullmatch, names)):
        print_note("--behind-proxy: expected a host name alone, such as console.example.org")
        return USAGE
    try:
        from scenario_repo.console.app import console as pages  # noqa: PLC0415 - an optional extra
        from scenario_repo.console.guard import LOOPBACK  # noqa: PLC0415
        from scenario_repo.console.server import QuietServer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print_note("the console needs its extra: pip install 'scenario_repo[web]'")
        return USAGE
    try:
        listening = _listening(host, port)
    except OSError as error:
        print_note(_why_not_listening(error, host, port))
        return USAGE
    token = None if names else secrets.token_urlsafe(24)
    with closing(listening):
        async with database() as repository:
            await repository.get_status()  # a wrong key is told here, and not in the browser
            bound = listening.getsockname()[1]
            # A browser sends a cookie to every port of a host.
            app = pages(repository, hosts=names or LOOPBACK, token=token, cookie=f"scenario_console_{bound}")
            server = QuietServer(app, grace_seconds=_GRACE_SECONDS)
            with handled_signals(server.end):
                print_lines([_greeting(host, bound, token, names)])
                sys.stdout.flush()
                await server.serve(sockets=[listening])
    return DONE


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # asyncio does so only for sockets that name their protocol; without, each page waits 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _why_not_listening(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port: {port} is in use, perhaps by another console; take another, or 0 for one that is free"
    return f"--host, --port: can't listen on port {port} of {host}: {os.strerror(error.errno or 0)}"


def _greeting(host: str, port: int, token: str | None, names: frozenset[str]) -> str:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if token is None:
        return f"listening on {place} for {', '.join(sorted(names))}; Ctrl-C ends it"
    return f"http://{place}/?token={token}"
