"""The whole job by pg-boss and graphile-worker, in a Node process each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from tests.benchmarks.peers.node_peers import NodeQueue, open_in_node
from tests.benchmarks.peers.whole_job import BATCH, FIND, WORKERS, Contestant, Teller, Told


class _Node:
    def __init__(self, queue: NodeQueue) -> None:
        self._queue = queue

    async def tell(self) -> Told:
        return Told(**await self._queue.ask("tell", find=FIND, batch=BATCH, workers=WORKERS))


@asynccontextmanager
async def _open(peer: str, url: str) -> AsyncIterator[Teller]:
    async with open_in_node(peer, url, "whole_node.mjs") as queue:
        yield _Node(queue)


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
