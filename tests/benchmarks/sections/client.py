"""What the repository costs in CPU, beside bare supabase-py that sends the same request and parses the same models."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import process_time

import httpx
from supabase import AsyncClient, AsyncClientOptions, create_async_client

from scenario_repo import ScenarioNotificationRepository
from tests.benchmarks.measure import Aim, Figure, compared
from tests.benchmarks.sections import client_calls
from tests.benchmarks.setting import Bench

SECTION = "client"
SMALL = Aim(1.15)
BATCH = Aim(1)

_IMPORT = "import time; started = time.process_time(); import {}; print(time.process_time() - started)"
_ADDRESS = "http://127.0.0.1"


@dataclass(frozen=True)
class Call:
    """A repository method, and bare supabase-py doing the same; both on one client."""

    ours: Callable[[ScenarioNotificationRepository], Awaitable[object]]
    bare: Callable[[AsyncClient], Awaitable[object]]
    answer: bytes
    size: int | None = None


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the calls, then the imports."""
    yield from asyncio.run(_calls(bench, client_calls.calls(Call)))
    rounds = bench.choose(quick=3, default=7)
    seconds: dict[str, list[float]] = {"scenario_repo": [], "supabase": []}
    for _ in range(rounds + 1):
        for module, times in seconds.items():
            times.append(_import_seconds(module))
    ours, theirs = (times[1:] for times in seconds.values())
    yield compared(SECTION, "import scenario_repo", None, ours, theirs, against="import supabase", note="CPU time")


def _import_seconds(module: str) -> float:
    command = [sys.executable, "-c", _IMPORT.format(module)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603 - ours


async def _calls(bench: Bench, calls: Sequence[tuple[str, Call]]) -> list[Figure]:
    figures = []
    for name, call in calls:
        if bench.extent == "quick" and (call.size or 0) > 1_000:
            continue
        transport = httpx.MockTransport(partial(_answer, call.answer))
        async with httpx.AsyncClient(transport=transport) as http:
            options = AsyncClientOptions(httpx_client=http, postgrest_client_retry=False)
            client = await create_async_client(_ADDRESS, "sb_secret_of_nobody", options)
            repository = ScenarioNotificationRepository(client)
            if await call.ours(repository) is None or await call.bare(client) is None:
                raise AssertionError(name)
            repeats = max(1, bench.choose(quick=20, default=200) // (1 + (call.size or 0) // 100))
            ours: list[float] = []
            theirs: list[float] = []
            for turn in range(bench.choose(quick=5, default=9)):
                contestants = [
                    (ours, lambda: call.ours(repository)),  # noqa: B023 - called before the next one
                    (theirs, lambda: call.bare(client)),  # noqa: B023
                ]
                for seconds, work in contestants if turn % 2 == 0 else reversed(contestants):
                    seconds.append(await _cpu_seconds(work, repeats))
        figures.append(
            compared(
                SECTION,
                name,
                call.size,
                ours,
                theirs,
                against="bare supabase-py + validate_python",
                aim=BATCH if call.size else SMALL,
                note=f"CPU of a call on a mock transport, {repeats} calls a round",
            )
        )
    return figures


async def _cpu_seconds(work: Callable[[], Awaitable[object]], repeats: int) -> float:
    gc.collect()
    gc.disable()
    try:
        started = process_time()
        for _ in range(repeats):
            await work()
        return (process_time() - started) / repeats
    finally:
        gc.enable()


def _answer(body: bytes, _: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=body, headers={"Content-Type": "application/json; charset=utf-8"})
