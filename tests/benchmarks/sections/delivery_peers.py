"""Delivery against the job queues of the field, on the same server: fetch and complete, by 1 worker and by 8."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial

from tests.benchmarks.measure import Aim, Figure, compared, require
from tests.benchmarks.peers.installed import installed, say
from tests.benchmarks.peers.workers import Contestant, Crew, open_ours
from tests.benchmarks.population import fill_devices, fill_mentors, fill_pending
from tests.benchmarks.setting import Bench

SECTION = "delivery_peers"
AHEAD = Aim(1, at_least=True)


def measure(bench: Bench) -> Iterator[Figure]:
    """Let the workers of everybody who can be had here do as many jobs as there are."""
    size = bench.choose(quick=2_000, default=10_000)
    crews: list[Contestant] = installed(SECTION, "python_workers", "node_workers")
    with bench.database("workers_ours") as database:
        fill_mentors(database, 2 * size)
        fill_devices(database, size)
        ours = Contestant(
            "scenario_repo",
            "lease, with every check, and settle",
            partial(open_ours, refill=partial(fill_pending, database)),
        )
        names = {crew: f"workers_{crew.name.replace('-', '_')}" for crew in crews}
        urls = {crew: bench.server.create_database(name) for crew, name in names.items()}
        try:
            yield from asyncio.run(_measured({ours: database.url} | urls, size, bench.choose(quick=2, default=5)))
        finally:
            for name in names.values():
                bench.server.drop_database(name)


async def _measured(urls: dict[Contestant, str], size: int, rounds: int) -> list[Figure]:
    async with AsyncExitStack() as stack:
        crews = {who: await stack.enter_async_context(who.open(url)) for who, url in urls.items()}
        for who in urls:
            say(SECTION, f"{who.name}: {who.how}")
        figures: list[Figure] = []
        for workers in (1, 8):
            seconds: dict[Contestant, list[float]] = {who: [] for who in crews}
            for turn in range(-1, rounds):
                for who in reversed(crews) if turn % 2 else crews:
                    each = await _seconds_each(who, crews[who], size, workers)
                    if turn >= 0:  # the first warms up
                        seconds[who].append(each)
            ours, *others = seconds
            figures += [
                compared(
                    SECTION,
                    f"fetch + complete, {workers} worker{'s' * (workers > 1)}",
                    size,
                    [each * size for each in seconds[ours]],
                    [each * size for each in seconds[other]],
                    against=other.name,
                    times_better=True,
                    aim=AHEAD,
                    note=f"jobs/s at best: {1 / min(seconds[ours]):,.0f}, {other.name} {1 / min(seconds[other]):,.0f}",
                )
                for other in others
            ]
        return figures


async def _seconds_each(who: Contestant, crew: Crew, size: int, workers: int) -> float:
    """Let the workers do their jobs, each of them once, and return the seconds for one job."""
    count = size * who.of_ten_thousand // 10_000
    await crew.enqueue(count)
    delivered = await crew.deliver(workers)
    require(
        len(delivered.done) == len(set(delivered.done)) == count,
        f"{who.name} did {len(delivered.done)} jobs, {len(set(delivered.done))} different ones, of {count}",
    )
    return delivered.seconds / count
