"""The whole job on one server: find who is due, enqueue each once, hand out, send, complete; ours and the peers'."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import AsyncExitStack

from tests.benchmarks.measure import Aim, Figure, compared, require
from tests.benchmarks.peers.installed import installed, say
from tests.benchmarks.peers.whole_job import DIRECT, Contestant, Teller, Told, over_http
from tests.benchmarks.population import fill_mentors
from tests.benchmarks.setting import Bench, Database, run

SECTION = "whole"
FRESH = Aim(2, at_least=True)
IN_COOLDOWN = Aim(10, at_least=True)


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure everybody who can be had here on the same mentors, who are all due."""
    size = bench.choose(quick=1_000, default=10_000, full=100_000)
    rounds = bench.choose(quick=2, default=3, full=2)
    with bench.database("whole_job") as database:
        fill_mentors(database, size, inactive="true")
        with bench.http(database) as stack:
            ours = {over_http(stack.secret_key): stack.url, DIRECT: database.url}
            contestants = ours | dict.fromkeys(installed(SECTION, "whole_python", "whole_node"), database.url)
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                yield from runner.run(_measured(database, contestants, size, rounds))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop for all of them: pgqueuer measures itself on it."""
    try:
        import uvloop  # noqa: PLC0415 - may be missing
    except ImportError:
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


async def _measured(database: Database, urls: dict[Contestant, str], size: int, rounds: int) -> list[Figure]:
    fresh: dict[Contestant, list[Told]] = {one: [] for one in urls}
    again: dict[Contestant, list[Told]] = {one: [] for one in urls}
    async with AsyncExitStack() as stack:
        # As `scenario-repo deliver` does; all who are written in Python are in this process.
        gc.freeze()
        tellers = {one: await stack.enter_async_context(one.open(url)) for one, url in urls.items()}
        for one in urls:
            say(SECTION, f"{one.name}: {one.how}; cooldown: {one.cooldown}")
        for turn in range(rounds):
            for one in tellers if turn % 2 == 0 else reversed(tellers):
                first, second = await _round(database, one, tellers[one], size)
                fresh[one].append(first)
                again[one].append(second)
                say(SECTION, f"{one.name}: fresh {first}, again {second}")
    ours = [one for one in urls if one.cooldown == DIRECT.cooldown]
    return [
        _figure(what, size, results, (our, peer), aim)
        for what, results, aim in (("fresh", fresh, FRESH), ("everybody in cooldown", again, IN_COOLDOWN))
        for our in ours
        for peer in urls
        if peer not in ours
    ]


async def _round(database: Database, one: Contestant, teller: Teller, size: int) -> tuple[Told, Told]:
    """Let a contestant do the job twice, the second time within the cooldown, and check who was told."""
    with database.filler() as filler:
        run(filler, f"truncate {', '.join(one.tables)} cascade")
    first = await teller.tell()
    _settle_down(database, one)
    second = await teller.tell()
    require(first.sends == first.users == size, f"{one.name} told {first.users} of {size} in {first.sends} sends")
    require(second.sends == second.users, f"{one.name} told {second.users} again, in {second.sends} sends")
    if one.cooldown == DIRECT.cooldown:
        require(second.sends == 0, f"{one.name} told {second.sends} again within the cooldown")
    return first, second


def _settle_down(database: Database, one: Contestant) -> None:
    """Do what autovacuum would have done by the time of the next run."""
    with database.filler() as filler:
        run(filler, f"vacuum (analyze) {', '.join(one.tables)}")


def _figure(
    what: str, size: int, results: dict[Contestant, list[Told]], pair: tuple[Contestant, Contestant], aim: Aim
) -> Figure:
    ours, theirs = (results[one] for one in pair)
    note = "; ".join(
        f"{one.name}: {results[one][-1].sends:,} told, all enqueued after {results[one][-1].enqueued:.2f} s"
        for one in pair
    )
    return compared(
        SECTION,
        f"{pair[0].name}: {what}",
        size,
        [told.seconds for told in ours],
        [told.seconds for told in theirs],
        against=pair[1].name,
        times_better=True,
        aim=aim,
        note=note,
    )
