"""The whole job by pg-boss and graphile-worker, in a Node process each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from tests.benchmarks.peers.node_peers import NodeProcess, node_process
from tests.benchmarks.peers.whole_job import BATCH, FIND, WORKERS, Contestant, Teller, Told


class _Node:
    def __init__(self, process: NodeProcess) -> None:
        self._process = process

    async def tell(self) -> Told:
        return Told(**await self._process.ask("tell", find=FIND, batch=BATCH, workers=WORKERS))


@asynccontextmanager
async def _open(peer: str, url: str) -> AsyncIterator[Teller]:
    async with node_process("whole_node.mjs", peer, url) as process:
        yield _Node(process)


CONTESTANTS = (
    Contestant(
        "pg-boss",
        f"INSERT … SELECT, {WORKERS} loops of fetch and complete by {BATCH:,}",
        "fixed slots of the calendar (singletonSeconds)",
        ("pgboss.job",),
        partial(_open, "pg-boss"),
    ),
    Contestant(
        "graphile-worker",
        "SQL add_jobs, runOnce with 24 concurrent jobs, local queue, batched completion",
        "none: a job is deleted when it is done, and its key with it",
        ("graphile_worker._private_jobs",),
        partial(_open, "graphile-worker"),
    ),
)
