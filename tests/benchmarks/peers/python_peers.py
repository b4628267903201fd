"""procrastinate and pgqueuer, from PyPI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.queries import Queries
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job

from tests.benchmarks.peers.queue import BATCH, Enqueued, Peer, Queue


class Procrastinate:
    """An opened procrastinate."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def enqueue(self, keys: Sequence[str]) -> Enqueued:
        """Enqueue a job for each key."""
        started = perf_counter()
        accepted = 0
        for first in range(0, len(keys), BATCH):
            jobs = [
                Job(
                    queue="default",
                    lock=None,
                    queueing_lock=key,
                    task_name="inactivity",
                    task_kwargs={"user_id": key},
                )
                for key in keys[first : first + BATCH]
            ]
            try:
                accepted += len(await self._app.job_manager.batch_defer_jobs_async(jobs))
            except AlreadyEnqueued:
                continue  # the whole batch is lost
        return Enqueued(perf_counter() - started, accepted)


@asynccontextmanager
async def open_procrastinate(url: str) -> AsyncIterator[Queue]:
    """Open procrastinate with its own connector."""
    async with App(connector=PsycopgConnector(conninfo=url)).open_async() as app:
        await app.schema_manager.apply_schema_async()
        yield Procrastinate(app)


class Pgqueuer:
    """An opened pgqueuer."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def enqueue(self, keys: Sequence[str]) -> Enqueued:
        """Enqueue a job for each key."""
        started = perf_counter()
        accepted = 0
        for first in range(0, len(keys), BATCH):
            batch = list(keys[first : first + BATCH])
            ids = await self._queries.enqueue(
                ["inactivity"] * len(batch),
                [b'{"user_id": "%s"}' % key.encode() for key in batch],
                [0] * len(batch),
                dedupe_key=[*batch],
                on_conflict="skip",
            )
            accepted += sum(id_ is not None for id_ in ids)
        return Enqueued(perf_counter() - started, accepted)


@asynccontextmanager
async def open_pgqueuer(url: str) -> AsyncIterator[Queue]:
    """Open pgqueuer on asyncpg, its default."""
    connection = await asyncpg.connect(url)
    try:
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        yield Pgqueuer(queries)
    finally:
        await connection.close()


CONTESTANTS = (
    Peer(
        "procrastinate",
        "batch_defer_jobs, queueing_lock",
        "unique while the job waits, no cooldown; one duplicate loses the whole batch",
        open_procrastinate,
    ),
    Peer(
        "pgqueuer",
        "enqueue of lists, dedupe_key, on_conflict=skip",
        "unique while the job waits or runs, no cooldown: once it is done the same key is accepted again",
        open_pgqueuer,
    ),
)
