"""Delivery: how many notifications a second are leased and settled, inside the database and over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from time import perf_counter

import psycopg

from scenario_repo import (
    DeliveryWorker,
    LeasedNotification,
    ScenarioNotificationRepository,
    SettlementAnswer,
    connect,
)
from scenario_repo.testing.embedded_stack import EmbeddedStack
from tests.benchmarks.measure import Figure, compared, require, single, timed
from tests.benchmarks.population import fill_devices, fill_mentors, fill_pending
from tests.benchmarks.setting import Bench, Database, run, value

SECTION = "delivery"
_BATCH = 1_000
_SMALL_BATCHES = (1, 20)
"""What a worker leases whose sends end one by one, and one that begins with its usual concurrency."""

# The same rows change in the same columns, without asking anybody.
_LEASE_FLOOR = """
with batch as materialized (
  select notification_id from scenario_private.handover where lease_number = 0 limit %s
)
update scenario_private.handover as handover
set leased_until = now() + interval '5 minutes', lease_number = 1, attempt_count = 1
from batch where handover.notification_id = batch.notification_id
"""
_SETTLE_FLOOR = """
with batch as materialized (
  delete from scenario_private.handover
  where notification_id in (select notification_id from scenario_private.handover where lease_number = 1 limit %s)
  returning notification_id
)
update public.scenario_notifications as notification
set delivery_status = 'sent', settled_at = now()
from batch where notification.id = batch.notification_id
"""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure on a table of pending notifications, one per quiet mentor, each with a device; all checks are asked."""
    size = bench.choose(quick=2_000, default=10_000)
    with bench.database("delivery") as database:
        fill_mentors(database, 2 * size)
        fill_devices(database, size)
        for workers in (1, 8):
            yield _against_floor(bench, database, size, workers, _BATCH)
        for batch in _SMALL_BATCHES:
            yield _against_floor(bench, database, 100 * batch, 1, batch)
        with bench.http(database) as stack:
            yield from _over_http(bench, database, stack, min(size, 5_000))


def _against_floor(bench: Bench, database: Database, size: int, workers: int, batch: int) -> Figure:
    ours: list[float] = []
    floors: list[float] = []
    for _ in range(bench.choose(quick=2, default=3)):
        fill_pending(database, size)
        ours.append(_lease_and_settle(database, workers, size, batch))
        fill_pending(database, size)
        floors.append(_floor(database, size, batch))
    return compared(
        SECTION,
        f"lease + settle by {batch:,}, {workers} worker{'s' * (workers > 1)}",
        size,
        ours,
        floors,
        against="plain writes of the same rows, 1 worker",
        note=f"{size / min(ours):,.0f} notifications/s at best; each delivered once",
    )


def _lease_and_settle(database: Database, workers: int, size: int, batch: int) -> float:
    with ExitStack() as stack:
        connections = [stack.enter_context(database.worker()) for _ in range(workers)]
        delivered: list[list[str]] = []
        with ThreadPoolExecutor(workers) as pool:
            seconds = timed(lambda: delivered.extend(pool.map(partial(_work, batch=batch), connections)))
    ids = [one for part in delivered for one in part]
    require(len(ids) == len(set(ids)) == size, f"{len(ids)} deliveries of {len(set(ids))} notifications out of {size}")
    with database.owner() as owner:
        sent = value(owner, "select count(*) from public.scenario_notifications where delivery_status = 'sent'")
    require(sent == size, f"{sent} of {size} are settled as sent")
    return seconds


def _work(connection: psycopg.Connection, batch: int) -> list[str]:
    """Lease and settle until nothing is due; return the ids."""
    delivered: list[str] = []
    while leased := value(connection, "select public.scenario_lease_notifications(%s::integer, 300)", batch)["leased"]:
        results = [{"id": row["id"], "lease_number": row["lease_number"], "result": "sent"} for row in leased]
        settled = value(connection, "select public.scenario_settle_notifications(%s::jsonb)", json.dumps(results))
        answers = settled["answers"]
        require(set(answers) == {"sent"}, f"settled as {set(answers)}")
        delivered += [row["id"] for row in leased]
    return delivered


def _floor(database: Database, size: int, batch: int) -> float:
    with database.worker() as worker:
        return timed(
            lambda: [
                run(worker, floor, batch) for _ in range(0, size, batch) for floor in (_LEASE_FLOOR, _SETTLE_FLOOR)
            ]
        )


def _over_http(bench: Bench, database: Database, stack: EmbeddedStack, size: int) -> Iterator[Figure]:
    for workers in (1, 8):
        seconds = []
        for _ in range(bench.choose(quick=1, default=3)):
            fill_pending(database, size)
            seconds.append(asyncio.run(_workers(stack, workers, size)))
        yield single(
            SECTION,
            f"DeliveryWorker over HTTP, {workers} at once",
            size,
            [size / one for one in seconds],
            unit="notifications/s",
            note="a sender that returns at once, concurrency 200; embedded stack (Node)",
        )


async def _workers(stack: EmbeddedStack, workers: int, size: int) -> float:
    delivered: list[object] = []

    async def send(notification: LeasedNotification) -> None:
        delivered.append(notification.id)

    async def work() -> int:
        async with connect(stack.url, stack.secret_key) as client:
            worker = DeliveryWorker(ScenarioNotificationRepository(client), send, concurrency=200)
            return (await worker.run(until_idle=True))[SettlementAnswer.SENT]

    started = perf_counter()
    settled = await asyncio.gather(*(work() for _ in range(workers)))
    seconds = perf_counter() - started
    require(sum(settled) == len(set(delivered)) == len(delivered) == size, f"{len(delivered)} sends of {size}")
    return seconds
