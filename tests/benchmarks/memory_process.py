"""`python -m tests.benchmarks.memory_process worker|engine ROWS`: go through so many rows, and print the peak memory.

A process of its own, since a peak never falls. What answers is in the process too, and holds nothing between requests:
a client on a mock transport, so that encoding, parsing and logging are what they are in a worker.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from supabase import AsyncClientOptions, create_async_client

from scenario_repo import (
    DeliveryWorker,
    LeasedNotification,
    ScenarioNotificationRepository,
    ScenarioTriggerEngine,
    ScenarioType,
)
from tests.factories import leased_row

_ROW = leased_row(device_tokens=[{"token": "0123456789abcdef" * 4, "platform": "ios"}])


class _Server:
    """Answers a worker and an engine until all rows are through."""

    def __init__(self, rows: int) -> None:
        self.left = rows
        self.settled = 0
        self._last_id = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer: Callable[[dict[str, Any]], object] = getattr(self, request.url.path.rpartition("/")[2])
        return httpx.Response(200, json=answer(json.loads(request.content)))

    def scenario_lease_notifications(self, arguments: dict[str, Any]) -> object:
        rows = [_ROW | {"id": self._new_id()} for _ in range(self._taken(arguments["p_limit"]))]
        return {"leased": rows, "has_more": self.left > 0}

    def scenario_settle_notifications(self, arguments: dict[str, Any]) -> object:
        self.settled += len(arguments["p_results"])
        return {"answers": ["sent"] * len(arguments["p_results"])}

    def scenario_begin_run(self, arguments: dict[str, Any]) -> object:
        kinds = arguments["p_scenario_types"]
        return {"passes": [{"scenario_type": kind, "place": 1, "page_size": None} for kind in kinds]}

    def scenario_evaluate_next_page(self, arguments: dict[str, Any]) -> object:
        taken = self._taken(arguments["p_limit"])
        self.settled += taken
        figures = {"evaluated": taken, "due": taken, "claimed": taken, "history": 0, "skipped": {}}
        return figures | {"next_after": self._new_id() if self.left else None}

    def _taken(self, limit: int) -> int:
        taken = min(limit, self.left)
        self.left -= taken
        return taken

    def _new_id(self) -> str:
        self._last_id += 1
        return str(UUID(int=self._last_id))


async def _worker(repository: ScenarioNotificationRepository) -> None:
    async def send(_: LeasedNotification) -> None:
        """Count nothing, keep nothing."""

    await DeliveryWorker(repository, send, concurrency=200).run(until_idle=True)


async def _engine(repository: ScenarioNotificationRepository) -> None:
    engine = ScenarioTriggerEngine(repository)
    await engine.run([ScenarioType.INACTIVITY], time_budget=timedelta(hours=1))


async def _go_through(work: str, rows: int) -> int:
    server = _Server(rows)
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
        options = AsyncClientOptions(httpx_client=http, postgrest_client_retry=False)
        client = await create_async_client("http://127.0.0.1", "sb_secret_of_nobody", options)
        await {"worker": _worker, "engine": _engine}[work](ScenarioNotificationRepository(client))
    return server.settled


def _peak_kib() -> int:
    """Return the peak of this process; Linux's ru_maxrss would count that of the process that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        assert found is not None
        return int(found[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # bytes on macOS


if __name__ == "__main__":
    through = asyncio.run(_go_through(sys.argv[1], int(sys.argv[2])))
    print(json.dumps({"peak_kib": _peak_kib(), "through": through}))  # noqa: T201 - the answer
