"""The whole job by procrastinate and pgqueuer, each by the fastest way of its documentation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from time import perf_counter

import asyncpg
import psycopg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode
from procrastinate import App, PsycopgConnector

from tests.benchmarks.peers.python_peers import Pgqueuer, Procrastinate
from tests.benchmarks.peers.whole_job import BATCH, FIND, WORKERS, Contestant, Teller, Told

_CONCURRENCY = 100


class _Procrastinate:
    def __init__(self, app: App, connection: psycopg.AsyncConnection, sent: list[str]) -> None:
        self._app = app
        self._connection = connection
        self._sent = sent

    async def tell(self) -> Told:
        self._sent.clear()
        started = perf_counter()
        cursor = await self._connection.execute(FIND.encode())
        # batch_defer (docs/howto/basics/batch_defer.md); the queueing lock (docs/howto/advanced/queueing_locks.md) is
        # free again as soon as the job begins.
        await Procrastinate(self._app).enqueue([str(user_id) for (user_id,) in await cursor.fetchall()])
        enqueued = perf_counter()
        # Each fetches one job after the other. Concurrency and deleted jobs are what its guides have for throughput
        # (App.run_worker_async, docs/howto/production/delete_finished_jobs.md); wait=False ends when nothing is left.
        await asyncio.gather(
            *(
                self._app.run_worker_async(
                    concurrency=_CONCURRENCY,
                    wait=False,
                    delete_jobs="always",
                    listen_notify=False,
                    install_signal_handlers=False,
                )
                for _ in range(WORKERS)
            )
        )
        return Told.of(started, enqueued, self._sent)


@asynccontextmanager
async def open_procrastinate(url: str) -> AsyncIterator[Teller]:
    """Open procrastinate with a task that counts."""
    sent: list[str] = []
    app = App(connector=PsycopgConnector(conninfo=url, max_size=16))

    async def send(user_id: str) -> None:
        sent.append(user_id)

    app.task(name="inactivity")(send)

    async with app.open_async(), await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await app.schema_manager.apply_schema_async()
        yield _Procrastinate(app, connection, sent)


class _Pgqueuer:
    def __init__(self, url: str, queries: Queries, connection: asyncpg.Connection) -> None:
        self._url = url
        self._queries = queries
        self._connection = connection

    async def tell(self) -> Told:
        sent: list[str] = []
        async with AsyncExitStack() as stack:
            # "A single connection for QueueManager", larger batches for short jobs (docs/guides/performance-tuning.md);
            # several of them, as its own benchmark has (tools/benchmark.py). A manager is good for one run.
            managers = [await self._manager(stack, sent) for _ in range(WORKERS)]
            started = perf_counter()
            user_ids = [str(row[0]) for row in await self._connection.fetch(FIND)]
            await Pgqueuer(self._queries).enqueue(user_ids)
            enqueued = perf_counter()
            # After the last batch a manager waits for dequeue_timeout before it sees that it is done.
            await asyncio.gather(
                *(
                    manager.run(
                        batch_size=BATCH,
                        mode=QueueExecutionMode.drain,
                        dequeue_timeout=timedelta(milliseconds=10),
                        log_aggregation_interval=timedelta(0),
                    )
                    for manager in managers
                )
            )
            return Told.of(started, enqueued, sent)

    async def _manager(self, stack: AsyncExitStack, sent: list[str]) -> QueueManager:
        connection = await asyncpg.connect(self._url)
        stack.push_async_callback(connection.close)
        manager = QueueManager(Queries(AsyncpgDriver(connection)))

        async def send(job: Job) -> None:
            sent.append((job.payload or b"").decode())

        manager.entrypoint("inactivity")(send)

        return manager


@asynccontextmanager
async def open_pgqueuer(url: str) -> AsyncIterator[Teller]:
    """Open pgqueuer on asyncpg, twice as fast as psycopg (docs/development/benchmark.md)."""
    connection = await asyncpg.connect(url)
    try:
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.optimize_autovacuum()  # the first line of its checklist; it sets a fillfactor too
        yield _Pgqueuer(url, queries, connection)
    finally:
        await connection.close()


CONTESTANTS = (
    Contestant(
        "procrastinate",
        f"batch_defer, {WORKERS} workers with concurrency {_CONCURRENCY}, done jobs are deleted",
        "none: a queueing lock is free once the job begins",
        ("procrastinate_jobs",),
        open_procrastinate,
    ),
    Contestant(
        "pgqueuer",
        f"enqueue of lists, {WORKERS} QueueManagers, batches of {BATCH:,}",
        "none: a dedupe key is free once the job is done",
        ("pgqueuer", "pgqueuer_log"),
        open_pgqueuer,
    ),
)
