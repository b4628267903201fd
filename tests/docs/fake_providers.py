"""Servers on loopback that answer as APNs and as a mail server do, and keep what they were sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import h2.config
import h2.connection
import h2.events


@dataclass
class Apns:
    """APNs: HTTP/2 without TLS, which httpx speaks where it is told to speak nothing else."""

    status: int = 200
    reason: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """What it answers with."""
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    """The headers and the payload of each request."""
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each request of a connection."""
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        asked: dict[int, tuple[dict[str, str], bytearray]] = {}
        while True:
            writer.write(connection.data_to_send())
            data = await reader.read(65536)
            if not data:
                break
            for event in connection.receive_data(data):
                match event:
                    case h2.events.RequestReceived():
                        headers = cast("list[tuple[str, str]]", event.headers)
                        asked[event.stream_id] = (dict(headers), bytearray())
                    case h2.events.DataReceived():
                        asked[event.stream_id][1].extend(event.data)
                    case h2.events.StreamEnded():
                        headers_of_request, body = asked.pop(event.stream_id)
                        self.requests.append((headers_of_request, json.loads(body)))
                        self._answer(connection, event.stream_id)
                    case _:
                        pass

    def _answer(self, connection: h2.connection.H2Connection, stream: int) -> None:
        body = b"" if self.reason is None else json.dumps({"reason": self.reason}).encode()
        connection.send_headers(stream, [(":status", str(self.status)), *self.headers.items()])
        connection.send_data(stream, body, end_stream=True)


@dataclass
class MailServer:
    """SMTP without extensions."""

    to_recipient: str = "250 ok"
    to_text: str = "250 ok"
    mails: list[str] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each line of a connection."""

        async def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())
            await writer.drain()

        await say("220 here")
        while line := (await reader.readline()).decode().strip():
            match line.split()[0].upper():
                case "RCPT":
                    await say(self.to_recipient)
                case "DATA":
                    await say("354 go on")
                    text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                    if self.to_text.startswith("250"):
                        self.mails.append(text)
                    await say(self.to_text)
                case "QUIT":
                    await say("221 bye")
                    break
                case _:
                    await say("250 ok")


@asynccontextmanager
async def served(provider: Apns | MailServer) -> AsyncIterator[None]:
    """Run one; it ends when its connections do."""
    under_way: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.append(task)
        try:
            await provider.serve(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    provider.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        await asyncio.gather(*under_way, return_exceptions=True)
        await server.wait_closed()
