"""The workers of pg-boss and graphile-worker, in one Node process for each of the two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from tests.benchmarks.peers.node_peers import NodeProcess, node_process
from tests.benchmarks.peers.workers import BATCH, Contestant, Crew, Delivered


class _NodeCrew:
    def __init__(self, process: NodeProcess) -> None:
        self._process = process

    async def enqueue(self, count: int) -> None:
        await self._process.ask("enqueue", count=count)

    async def deliver(self, workers: int) -> Delivered:
        return Delivered(**await self._process.ask("deliver", workers=workers))


@asynccontextmanager
async def _open(peer: str, url: str) -> AsyncIterator[Crew]:
    async with node_process("node_workers.mjs", peer, url) as process:
        yield _NodeCrew(process)


CONTESTANTS = (
    Contestant("pg-boss", f"fetch with batchSize {BATCH:,}, complete of all ids", partial(_open, "pg-boss")),
    Contestant(
        "graphile-worker",
        "run with localQueue 500, completeJobBatchDelay 0, 24 jobs at once: its page on performance",
        partial(_open, "graphile-worker"),
    ),
)
