"""What a queue has to do here, and ours doing it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from psycopg import AsyncConnection

from tests.benchmarks.population import COOLDOWN_DAYS

BATCH = 10_000
"""How many jobs everybody enqueues in one call."""


@dataclass(frozen=True)
class Enqueued:
    """What became of one attempt: how long it took, and how many jobs are new."""

    seconds: float
    accepted: int


class Queue(Protocol):
    """An opened queue."""

    async def enqueue(self, keys: Sequence[str]) -> Enqueued:
        """Enqueue a job for each key, unless there is one already, in the fastest documented way."""
        ...


@dataclass(frozen=True)
class Peer:
    """A queue that may be opened on a database of its own, and what its uniqueness is worth."""

    name: str
    how: str
    guarantee: str
    open: Callable[[str], AbstractAsyncContextManager[Queue]]


class _Ours:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def enqueue(self, keys: Sequence[str]) -> Enqueued:
        started = perf_counter()
        accepted = 0
        for first in range(0, len(keys), BATCH):
            batch = keys[first : first + BATCH]
            claims = {
                "user_id": batch,
                "all": {
                    "organization_id": "5ca1ab1e-0000-4000-8000-000000000001",
                    "scenario_type": "inactivity",
                    "cooldown_seconds": COOLDOWN_DAYS * 86_400,
                    "metadata": {"inactive_days": 31},
                },
            }
            cursor = await self._connection.execute(
                "select public.scenario_claim_notifications(%s::jsonb)", [json.dumps(claims)]
            )
            row = await cursor.fetchone()
            assert row is not None
            accepted += len(batch) - len(row[0]["skipped"]["place"])
        return Enqueued(perf_counter() - started, accepted)


@asynccontextmanager
async def open_ours(url: str) -> AsyncIterator[Queue]:
    """Open scenario_repo's claim, through the same kind of connection as the peers have."""
    async with await AsyncConnection.connect(url, autocommit=True, options="-c role=service_role") as connection:
        yield _Ours(connection)


UNGUARDED = Peer(
    "ours without foreign key and CHECKs",
    "scenario_claim_notifications",
    "the control: what it costs to refuse unknown users and personal data, which no peer does",
    open_ours,
)
OURS = Peer(
    "scenario_repo",
    "scenario_claim_notifications",
    "at most one per user and type inside a rolling cooldown, whoever claims; one outcome per claim, with its reason",
    open_ours,
)
