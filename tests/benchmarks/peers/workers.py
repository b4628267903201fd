"""What a crew of workers has to do here: fetch and complete every job that waits; and ours doing it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from psycopg import AsyncConnection

BATCH = 1_000
"""How many jobs those fetch in one call who can."""


@dataclass(frozen=True)
class Delivered:
    """What became of one run: how long it took, and which jobs were done, each as often as it was."""

    seconds: float
    done: list[str]


class Crew(Protocol):
    """Opened connections to a queue, each for any number of workers."""

    async def enqueue(self, count: int) -> None:
        """Enqueue that many jobs; this is not measured."""
        ...

    async def deliver(self, workers: int) -> Delivered:
        """Let that many workers do every job that waits, in the fastest documented way; a job only counts itself."""
        ...


@dataclass(frozen=True)
class Contestant:
    """Whose workers, how they go about it, and how many jobs they get of 10,000: the slow ones need no more."""

    name: str
    how: str
    open: Callable[[str], AbstractAsyncContextManager[Crew]]
    of_ten_thousand: int = 10_000


class Ours:
    """Leases and settlements, each worker over a connection of its own; the peers' pools keep theirs too."""

    def __init__(self, connections: Sequence[AsyncConnection], refill: Callable[[int], None]) -> None:
        self._connections = connections
        self._refill = refill

    async def enqueue(self, count: int) -> None:
        """Fill the tables: one pending notification for each of as many quiet mentors."""
        await asyncio.to_thread(self._refill, count)

    async def deliver(self, workers: int) -> Delivered:
        """Lease and settle until nothing is due, with every check."""
        done: list[str] = []
        started = perf_counter()
        await asyncio.gather(*(_work(connection, done) for connection in self._connections[:workers]))
        return Delivered(perf_counter() - started, done)


async def _work(connection: AsyncConnection, done: list[str]) -> None:
    while True:
        leased = (await _answer(connection, "select public.scenario_lease_notifications(%s, 300)", BATCH))["leased"]
        if not leased:
            return
        results = [{"id": row["id"], "lease_number": row["lease_number"], "result": "sent"} for row in leased]
        settled = await _answer(
            connection, "select public.scenario_settle_notifications(%s::jsonb)", json.dumps(results)
        )
        done += [row["id"] for row, answer in zip(leased, settled["answers"], strict=True) if answer == "sent"]


async def _answer(connection: AsyncConnection, statement: str, parameter: object) -> dict[str, Any]:
    row = await (await connection.execute(statement.encode(), [parameter])).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return answer


@asynccontextmanager
async def open_ours(url: str, refill: Callable[[int], None], workers: int = 8) -> AsyncIterator[Crew]:
    """Open ours on a database that `refill` fills."""
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(
                await AsyncConnection.connect(url, autocommit=True, options="-c role=service_role")
            )
            for _ in range(workers)
        ]
        yield Ours(connections, refill)
