"""The workers of procrastinate and pgqueuer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import perf_counter

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode
from procrastinate import App, PsycopgConnector
from procrastinate.types import JSONValue

from tests.benchmarks.peers.workers import BATCH, Contestant, Crew, Delivered

_CONCURRENCY = 100


class _Procrastinate:
    def __init__(self, app: App) -> None:
        self._app = app
        self._done: list[str] = []

        async def inactivity(user_id: str) -> None:
            self._done.append(user_id)

        app.task(name="inactivity", queue="default")(inactivity)

    async def enqueue(self, count: int) -> None:
        jobs: list[dict[str, JSONValue]] = [{"user_id": str(number)} for number in range(count)]
        await self._app.configure_task("inactivity").batch_defer_async(*jobs)

    async def deliver(self, workers: int) -> Delivered:
        self._done = []
        started = perf_counter()
        # It fetches one job at a time. The options are those of run_worker_async; other values were not tried.
        await asyncio.gather(
            *(
                self._app.run_worker_async(
                    wait=False,
                    concurrency=_CONCURRENCY,
                    delete_jobs="always",
                    listen_notify=False,
                    install_signal_handlers=False,
                )
                for _ in range(workers)
            )
        )
        return Delivered(perf_counter() - started, self._done)


@asynccontextmanager
async def _open_procrastinate(url: str) -> AsyncIterator[Crew]:
    async with App(connector=PsycopgConnector(conninfo=url, max_size=16)).open_async() as app:
        await app.schema_manager.apply_schema_async()
        yield _Procrastinate(app)


class _Pgqueuer:
    def __init__(self, url: str, queries: Queries) -> None:
        self._url = url
        self._queries = queries

    async def enqueue(self, count: int) -> None:
        await self._queries.enqueue(
            ["inactivity"] * count, [b'{"user_id": "%d"}' % number for number in range(count)], [0] * count
        )

    async def deliver(self, workers: int) -> Delivered:
        done: list[str] = []
        connections = [await asyncpg.connect(self._url) for _ in range(workers)]
        try:
            managers = [self._manager(connection, done) for connection in connections]
            started = perf_counter()
            # As QueueManager.run documents them: drain ends when nothing waits. Other batch sizes were not tried.
            await asyncio.gather(
                *(
                    manager.qm.run(
                        batch_size=BATCH,
                        mode=QueueExecutionMode.drain,
                        dequeue_timeout=timedelta(milliseconds=1),
                        log_aggregation_interval=timedelta(0),
                    )
                    for manager in managers
                )
            )
            return Delivered(perf_counter() - started, done)
        finally:
            for connection in connections:
                await connection.close()

    @staticmethod
    def _manager(connection: asyncpg.Connection, done: list[str]) -> PgQueuer:
        manager = PgQueuer(AsyncpgDriver(connection))

        async def inactivity(job: Job) -> None:
            done.append(str(job.id))

        manager.entrypoint("inactivity")(inactivity)

        return manager


@asynccontextmanager
async def _open_pgqueuer(url: str) -> AsyncIterator[Crew]:
    connection = await asyncpg.connect(url)
    try:
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        yield _Pgqueuer(url, queries)
    finally:
        await connection.close()


CONTESTANTS = (
    Contestant(
        "procrastinate",
        f"run_worker_async, concurrency {_CONCURRENCY}, delete_jobs always; it fetches one job at a time",
        _open_procrastinate,
        of_ten_thousand=1_000,
    ),
    Contestant("pgqueuer", f"QueueManager.run, drain, batch_size {BATCH:,}", _open_pgqueuer),
)
