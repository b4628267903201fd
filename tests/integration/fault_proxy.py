"""An HTTP proxy that stands between a client and a server, and breaks what it is told to break."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from urllib.parse import urlsplit

_MOMENT = 0.05


class Fault(Enum):
    """What happens to one request."""

    NONE = auto()
    RESET_BEFORE = auto()
    """The connection is reset before the request is read: nothing reaches the server."""
    CLOSED_BEFORE = auto()
    """The request is read, and the connection closed without a word: nothing reaches the server."""
    RESET_AFTER = auto()
    """The server has answered; the connection is reset before the client learns of it."""
    SILENCE = auto()
    """The request is read, and nothing more happens: nothing reaches the server."""
    SILENCE_AFTER = auto()
    """The server has answered; the client never learns of it."""
    STALLS = auto()
    """Half of the server's answer arrives, and then nothing more."""
    DRIPS = auto()
    """An answer arrives byte by byte, each within the timeout, and never ends; nothing reaches the server."""
    TRUNCATED = auto()
    """Half of the server's answer arrives, and then the connection is closed."""


@dataclass(frozen=True)
class Answer:
    """What the proxy answers in the server's place; nothing reaches the server."""

    status: int
    body: bytes = b""
    content_type: str = "text/html"
    headers: tuple[tuple[str, str], ...] = ()

    def encoded(self) -> bytes:
        """Put the answer as HTTP has it."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}", f"Content-Length: {len(self.body)}", "Connection: close"]
        lines += [f"Content-Type: {self.content_type}", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass
class FaultProxy:
    """A running proxy: its address, what it is going to break, and what it has seen."""

    upstream: str
    url: str = ""
    script: deque[Fault | Answer] = field(default_factory=deque)
    """What happens to the next requests, one each; none left is none broken."""
    requests: int = 0
    forwarded: int = 0
    """How many requests the server has answered."""
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    def then(self, *faults: Fault | Answer) -> None:
        """Break the next requests this way, and forget what else was planned."""
        self.script = deque(faults)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request of one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the proxy ends
        finally:
            self._open.discard(task)
            writer.close()

    async def end(self) -> None:
        """Hang up on everybody."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        fault = self.script.popleft() if self.script else Fault.NONE
        if fault is Fault.RESET_BEFORE:
            _reset(writer)
            return
        request = head + await reader.readexactly(_content_length(head))
        if isinstance(fault, Answer):
            writer.write(fault.encoded())
        elif fault is Fault.SILENCE:
            await asyncio.Event().wait()
        elif fault is Fault.DRIPS:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(_MOMENT)
        elif fault is not Fault.CLOSED_BEFORE:
            await self._answer(writer, await self._forward(request), fault)
        await writer.drain()

    async def _forward(self, request: bytes) -> bytes:
        """Ask the server on a connection of its own, and return the whole answer."""
        parts = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            line, rest = request.split(b"\r\n", 1)
            writer.write(line + b"\r\nConnection: close\r\n" + _without_connection(rest))
            answer = await reader.read(-1)
        finally:
            writer.close()
        self.forwarded += 1
        return answer

    async def _answer(self, writer: asyncio.StreamWriter, answer: bytes, fault: Fault) -> None:
        half = answer.index(b"\r\n\r\n") + 4 + (len(answer) - answer.index(b"\r\n\r\n") - 4) // 2
        match fault:
            case Fault.RESET_AFTER:
                _reset(writer)
            case Fault.SILENCE_AFTER:
                await asyncio.Event().wait()
            case Fault.STALLS:
                writer.write(answer[:half])
                await asyncio.Event().wait()
            case Fault.TRUNCATED:
                writer.write(answer[:half])
            case _:
                writer.write(answer)


@asynccontextmanager
async def fault_proxy(upstream: str, faults: Iterable[Fault | Answer] = ()) -> AsyncIterator[FaultProxy]:
    """Run a proxy on this machine, in front of the server at that URL."""
    proxy = FaultProxy(upstream, script=deque(faults))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy.url = f"http://127.0.0.1:{port}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection by RST, as a crashed peer or a firewall does."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _without_connection(head: bytes) -> bytes:
    fields, _, body = head.partition(b"\r\n\r\n")
    kept = [line for line in fields.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join(kept) + b"\r\n\r\n" + body
