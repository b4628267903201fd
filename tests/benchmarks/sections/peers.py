"""Job queues of the field on the same server: enqueueing with uniqueness, fresh and all duplicates."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack

from tests.benchmarks.measure import Aim, Figure, compared, require
from tests.benchmarks.peers.installed import installed, say
from tests.benchmarks.peers.queue import OURS, UNGUARDED, Peer, Queue
from tests.benchmarks.population import fill_users, user
from tests.benchmarks.setting import Bench, Database, run, value

SECTION = "peers"
AHEAD = Aim(1, at_least=True)

_UNGUARD = """
do $$
declare
  name text;
begin
  for name in
    select conname from pg_constraint
    where conrelid = 'public.scenario_notifications'::regclass and contype in ('c', 'f')
  loop
    execute format('alter table public.scenario_notifications drop constraint %I', name);
  end loop;
end
$$
"""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure everybody who can be had here."""
    sizes = bench.choose(quick=(1_000,), default=(10_000, 100_000))
    rounds = {size: bench.choose(quick=3, default=2 if size > 10_000 else 5) for size in sizes}
    everything = sum(size * (count + 1) for size, count in rounds.items())
    with bench.database("peer_ours") as database, bench.database("peer_unguarded") as unguarded:
        fill_users(database, everything)
        with unguarded.owner() as owner:
            run(owner, _UNGUARD)
        peers: list[Peer] = installed(SECTION, "python_peers", "node_peers")
        databases = {peer: f"peer_{re.sub('[^a-z]', '_', peer.name.lower())}" for peer in peers}
        urls = {peer: bench.server.create_database(name) for peer, name in databases.items()}
        try:
            ours = {OURS: database.url, UNGUARDED: unguarded.url}
            yield from asyncio.run(_measured(database, ours | urls, rounds))
        finally:
            for name in databases.values():
                bench.server.drop_database(name)


async def _measured(database: Database, urls: dict[Peer, str], rounds: dict[int, int]) -> list[Figure]:
    async with AsyncExitStack() as stack:
        queues = {peer.name: await stack.enter_async_context(peer.open(url)) for peer, url in urls.items()}
        for peer in urls:
            say(SECTION, f"{peer.name} ({peer.how}): {peer.guarantee}")
        figures: list[Figure] = []
        start = 1
        for size, count in rounds.items():
            fresh: dict[str, list[float]] = {name: [] for name in queues}
            again: dict[str, list[float]] = {name: [] for name in queues}
            for turn in range(-1 if size <= 10_000 else 0, count):
                keys = _keys(database, start, size)
                start += size
                async for name, seconds in _round(queues, keys, backwards=turn % 2 == 1):
                    if turn >= 0:  # the first warms up
                        fresh[name].append(seconds[0])
                        again[name].append(seconds[1])
            for peer in (peer for peer in urls if peer is not OURS):
                for what, seconds_of in (("fresh", fresh), ("all duplicates", again)):
                    ours, theirs = seconds_of[OURS.name], seconds_of[peer.name]
                    figures.append(
                        compared(
                            SECTION,
                            f"enqueue, {what}",
                            size,
                            ours,
                            theirs,
                            against=peer.name,
                            times_better=True,
                            aim=None if peer is UNGUARDED else AHEAD,
                            note=f"rows/s at best: {size / min(ours):,.0f}, {peer.name} {size / min(theirs):,.0f}",
                        )
                    )
        return figures


async def _round(
    queues: dict[str, Queue], keys: Sequence[str], *, backwards: bool
) -> AsyncIterator[tuple[str, tuple[float, float]]]:
    """Let everybody enqueue the same keys twice, and return the seconds of both."""
    for name in reversed(queues) if backwards else queues:
        first = await queues[name].enqueue(keys)
        require(first.accepted == len(keys), f"{name} accepted {first.accepted} of {len(keys)} new jobs")
        second = await queues[name].enqueue(keys)
        require(second.accepted == 0, f"{name} accepted {second.accepted} duplicates")
        yield name, (first.seconds, second.seconds)


def _keys(database: Database, start: int, size: int) -> list[str]:
    statement = f"select array_agg({user()}::text) from generate_series(%s::integer, %s::integer) as u"
    with database.owner() as owner:
        return list(value(owner, statement, start, start + size - 1))
