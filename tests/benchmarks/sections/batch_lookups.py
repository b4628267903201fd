"""Look-ups for many users: one request against many, and what the function adds to the bare query."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from time import perf_counter
from uuid import UUID

from scenario_repo import ScenarioNotificationRepository, ScenarioType, connect
from tests.benchmarks.measure import Aim, Figure, compared, contest, require
from tests.benchmarks.population import history, user
from tests.benchmarks.setting import Bench, Database, run, timed_run, value

SECTION = "batch look-up"
_SINGLE_CALLS = 500

_IDS = f"(select array_agg({user()} order by u) from generate_series(1, %s::integer) as u)"
_BARE = """
select json_build_object('answers', json_agg(last.triggered_at order by asked.ordinality))
from unnest(%s::uuid[]) with ordinality as asked (user_id)
left join lateral (
  select triggered_at from public.scenario_notifications as notification
  where notification.user_id = asked.user_id and scenario_type = 'inactivity' and delivery_status = 'sent'
    and not is_failed
  order by triggered_at desc limit 1
) as last on true
"""
_FUNCTION = "select public.scenario_get_last_sent_at_many(%s::uuid[], 'inactivity')"


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure on one table of a million notifications."""
    sizes = bench.sizes(500, 5_000, 50_000)
    database = history(bench, bench.choose(quick=10_000, default=1_000_000))
    with database.owner() as owner:
        ids: list[UUID] = value(owner, f"select {_IDS}", max(sizes))
    for size in sizes:
        yield _server_cost(bench, database, ids[:size])
    with bench.http(database) as stack:
        yield from asyncio.run(_over_http(bench, stack.url, stack.secret_key, ids, sizes))


def _server_cost(bench: Bench, database: Database, ids: list[UUID]) -> Figure:
    with database.worker() as worker:
        require(value(worker, _FUNCTION, ids) == value(worker, _BARE, ids), "the function answers other than the query")
        # Without the transport: the ids come from a table, the answer's length goes out.
        run(worker, "create temporary table asked (ids uuid[])")
        run(worker, "insert into asked values (%s::uuid[])", ids)
        statements = {
            name: f"select length(({statement.replace('%s::uuid[]', '(select ids from asked)')})::text)"
            for name, statement in {"ours": _FUNCTION, "bare": _BARE}.items()
        }
        seconds = contest(
            {name: partial(timed_run, worker, statement) for name, statement in statements.items()},
            bench.rounds(len(ids)),
        )
    return compared(
        SECTION,
        "server: get_last_sent_at_many",
        len(ids),
        seconds["ours"],
        seconds["bare"],
        against="the bare lateral query",
        aim=Aim(1.5),
        note=f"{min(seconds['ours']) / len(ids) * 1e6:.1f} µs a user",
    )


async def _over_http(bench: Bench, url: str, key: str, ids: list[UUID], sizes: tuple[int, ...]) -> list[Figure]:
    figures = []
    async with connect(url, key) as client:
        repository = ScenarioNotificationRepository(client)
        for user_id in ids[:20]:
            await repository.get_last_sent_at(user_id, ScenarioType.INACTIVITY)
        for size in sizes:
            many: list[float] = []
            ones: list[float] = []
            for _ in range(bench.choose(quick=1, default=3)):
                started = perf_counter()
                answers = await repository.get_last_sent_at_many(ids[:size], ScenarioType.INACTIVITY)
                many.append(perf_counter() - started)
                require(len(answers) == size and None not in answers.values(), "a batch look-up lost somebody")
                started = perf_counter()
                for user_id in ids[:_SINGLE_CALLS]:
                    await repository.get_last_sent_at(user_id, ScenarioType.INACTIVITY)
                ones.append((perf_counter() - started) / _SINGLE_CALLS * size)
            figures.append(
                compared(
                    SECTION,
                    "HTTP: one request",
                    size,
                    many,
                    ones,
                    against="one request a user",
                    aim=Aim(100, at_least=True) if size == 5_000 else None,
                    times_better=True,
                    note="times faster"
                    + (f"; singles extrapolated from {_SINGLE_CALLS}" if size > _SINGLE_CALLS else ""),
                )
            )
    return figures
