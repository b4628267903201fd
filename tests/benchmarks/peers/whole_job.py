"""The whole job: find who is due, enqueue each once, hand out, send and complete; and ours doing it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from time import perf_counter
from typing import Protocol

import psycopg

from scenario_repo import (
    DeliveryWorker,
    LeasedNotification,
    ScenarioNotificationRepository,
    ScenarioTriggerEngine,
    ScenarioType,
    connect,
)
from tests.benchmarks.passes import begin_pass, share_pass
from tests.benchmarks.setting import value

WORKERS = 2
"""How many connections hand out and complete, where the peer leaves that to its user: one a core of the machine.

Ours find and claim too, for engines share a pass; no peer has a means to share out who is due.
"""
BATCH = 1_000
"""How many jobs are handed out and completed at once, where a batch is fetched by its size."""

FIND = """
select mentor.user_id
from public.peer_mentors as mentor
where mentor.is_active
  and exists (
    select
    from public.activities as activity
    where activity.user_id = mentor.user_id and activity.activity_date <= now() - interval '30 days'
  )
  and not exists (
    select
    from public.activities as activity
    where activity.user_id = mentor.user_id
      and activity.activity_date > now() - interval '30 days' and activity.activity_date <= now()
  )
"""
"""Who is due, on the app's tables, for all peers: what the inactivity rule asks, in the form that is fastest here.

A lateral look at the last activity takes 1.7 times as long, a grouped maximum 3 times.
"""


@dataclass(frozen=True)
class Told:
    """What came of one whole job: the seconds until all was enqueued, and until all was sent; how often, to whom."""

    enqueued: float
    seconds: float
    sends: int
    users: int

    @classmethod
    def of(cls, started: float, enqueued: float, user_ids: Iterable[str]) -> Told:
        """Count the sends, after the last of them."""
        seconds = perf_counter() - started
        sent = list(user_ids)
        return cls(enqueued - started, seconds, len(sent), len(set(sent)))


class Teller(Protocol):
    """An opened contestant."""

    async def tell(self) -> Told:
        """Do the whole job once."""
        ...


@dataclass(frozen=True)
class Contestant:
    """Who does the whole job: how, by which means within a cooldown, and the tables that it fills."""

    name: str
    how: str
    cooldown: str
    tables: tuple[str, ...]
    open: Callable[[str], AbstractAsyncContextManager[Teller]]


_TABLES = ("public.scenario_notifications", "scenario_private.handover")
_COOLDOWN = "rolling, 30 days"

# On a direct connection ----------------------------------------------------------------------------


class _Direct:
    def __init__(self, connections: list[psycopg.Connection]) -> None:
        self._connections = connections

    async def tell(self) -> Told:
        started = perf_counter()
        number = await asyncio.to_thread(begin_pass, self._connections[0])
        await asyncio.gather(*(asyncio.to_thread(share_pass, one, number) for one in self._connections))
        enqueued = perf_counter()
        sent: list[str] = []
        await asyncio.gather(*(asyncio.to_thread(_deliver, one, sent) for one in self._connections))
        return Told.of(started, enqueued, sent)


def _deliver(connection: psycopg.Connection, sent: list[str]) -> None:
    more = True
    while more:
        lease = value(connection, "select public.scenario_lease_notifications(%s::integer, 300)", BATCH)
        more = bool(lease["leased"]) or lease["has_more"]
        results = []
        for row in lease["leased"]:
            sent.append(row["user_id"])  # the sender, which only counts
            results.append({"id": row["id"], "lease_number": row["lease_number"], "result": "sent"})
        if results:
            value(connection, "select public.scenario_settle_notifications(%s::jsonb)", json.dumps(results))


@asynccontextmanager
async def open_direct(url: str) -> AsyncIterator[Teller]:
    """Open the functions of the API on connections of psycopg."""
    with ExitStack() as stack:
        options = "-c role=service_role"
        yield _Direct(
            [stack.enter_context(psycopg.connect(url, autocommit=True, options=options)) for _ in range(WORKERS)]
        )


# Over HTTP ----------------------------------------------------------------------------------------


class _OverHttp:
    def __init__(self, repositories: list[ScenarioNotificationRepository]) -> None:
        self._repositories = repositories

    async def tell(self) -> Told:
        sent: list[str] = []

        async def send(notification: LeasedNotification) -> None:
            sent.append(str(notification.user_id))

        started = perf_counter()
        reports = await asyncio.gather(
            *(
                ScenarioTriggerEngine(one).run([ScenarioType.INACTIVITY], time_budget=timedelta(hours=1))
                for one in self._repositories
            )
        )
        assert all(report.completed for report in reports), [report.errors for report in reports]
        enqueued = perf_counter()
        await asyncio.gather(
            *(DeliveryWorker(one, send, concurrency=BATCH).run(until_idle=True) for one in self._repositories)
        )
        return Told.of(started, enqueued, sent)


@asynccontextmanager
async def open_over_http(secret_key: str, url: str) -> AsyncIterator[Teller]:
    """Open the engine and the delivery worker on a server that speaks HTTP."""
    async with connect(url, secret_key) as client:
        yield _OverHttp([ScenarioNotificationRepository(client)] * WORKERS)


DIRECT = Contestant(
    "scenario_repo, direct", "the API's functions on two connections of psycopg", _COOLDOWN, _TABLES, open_direct
)


def over_http(secret_key: str) -> Contestant:
    """Return ours over HTTP; its address is the server's."""
    how = "two ScenarioTriggerEngines, two DeliveryWorkers"
    return Contestant("scenario_repo, HTTP", how, _COOLDOWN, _TABLES, partial(open_over_http, secret_key))
