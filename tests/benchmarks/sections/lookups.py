"""The cooldown look-up: how long it takes, what it reads, and what it would without its index."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from time import perf_counter
from typing import Any
from uuid import UUID

import psycopg

from scenario_repo import ScenarioNotificationRepository, ScenarioType, connect
from tests.benchmarks.measure import Aim, Figure, compared, contest, require, single
from tests.benchmarks.population import history, user
from tests.benchmarks.setting import Bench, Database, run, timed_run, value
from tests.integration.plans import NOT_FAILED

SECTION = "cooldown look-up"
ACCEPTED_SECONDS = 0.05
_LOOPS = 5_000
_HTTP_CALLS = 100

_LOOK_UP = """
select triggered_at from {table}
where user_id = {user} and scenario_type = 'inactivity' and delivery_status = 'sent' and not is_failed
order by triggered_at desc limit 1
"""

# A loop inside the server: the client's and the network's share is none.
_LOOP = """
create or replace function pg_temp.{name}(p_loops integer, p_users integer)
returns double precision language plpgsql as $$
declare
  found timestamptz;
  started_at timestamptz;
  ids uuid[] := array(select {id} from generate_series(1, p_loops) as n);
  asked uuid;
begin
  started_at := clock_timestamp();
  foreach asked in array ids loop
    found := ({query});
  end loop;
  return extract(epoch from clock_timestamp() - started_at) / p_loops;
end $$
"""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure on tables of growing size."""
    buffers: dict[int, float] = {}
    for size in bench.sizes(10_000, 1_000_000, full=(10_000_000,)):
        database = history(bench, size)
        with database.worker() as worker:
            yield from _inside(bench, worker, size)
            plans = [_plan(worker, number * size // 100) for number in range(1, 100)]
            buffers[size] = max(plan["buffers"] for plan in plans)
            yield single(
                SECTION,
                "buffers",
                size,
                [plan["buffers"] for plan in plans],
                unit="pages",
                aim=Aim(5),
                note="99 users; the index from its root down, and the row",
            )
            milliseconds = [plan["milliseconds"] / 1e3 for plan in plans]
            margin = ACCEPTED_SECONDS / max(milliseconds)
            yield single(
                SECTION,
                "EXPLAIN ANALYZE execution time",
                size,
                milliseconds,
                aim=Aim(ACCEPTED_SECONDS),
                note=f"99 users; the slowest is {margin:,.0f} times inside the 50 ms",
            )
        if size <= 1_000_000:
            yield from _over_http(bench, database, size)
            yield _without_index(bench, database, size)
    smallest, largest = min(buffers), max(buffers)
    yield single(
        SECTION,
        "pages more than at the smallest size",
        largest,
        [buffers[largest] - buffers[smallest]],
        unit="pages",
        aim=Aim(2),
        note=f"from {smallest:,} to {largest:,} rows: the height of the B-tree",
    )


def _inside(bench: Bench, worker: psycopg.Connection, size: int) -> Iterator[Figure]:
    queries = {
        "look_up": _LOOK_UP.format(table="public.scenario_notifications", user="asked"),
        "nothing": "select now()",
    }
    for name, query in queries.items():
        run(worker, _LOOP.format(name=name, query=query, id=user("(1 + n * 7919 % p_users)")))

    def seconds_each(name: str) -> float:
        return float(value(worker, f"select pg_temp.{name}(%s, %s)", _LOOPS, size))

    seconds = contest({name: partial(seconds_each, name) for name in queries}, bench.rounds(size))
    yield compared(
        SECTION,
        "one look-up, inside the server",
        size,
        seconds["look_up"],
        seconds["nothing"],
        against="`select` of nothing",
        note=f"per look-up, {_LOOPS:,} users in a plpgsql loop",
    )


def _plan(worker: psycopg.Connection, number: int) -> dict[str, float]:
    statement = _LOOK_UP.format(table="public.scenario_notifications", user=user(str(max(number, 1))))
    explained = value(worker, f"explain (analyze, buffers, format json) {statement}")[0]
    nodes = list(_walk(explained["Plan"]))
    scan = next(node for node in nodes if "Index Name" in node)
    require(scan["Index Name"] == NOT_FAILED, f"expected a scan of {NOT_FAILED}, got {scan['Index Name']}")
    require(scan["Actual Rows"] == 1, "expected to find the user's notification")
    return {
        "buffers": scan["Shared Hit Blocks"] + scan["Shared Read Blocks"],
        "milliseconds": explained["Execution Time"],
    }


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


def _without_index(bench: Bench, database: Database, size: int) -> Figure:
    """Measure the same question to a copy of the table that has no index."""
    with database.owner() as owner:
        run(owner, "create table public.without_index as table public.scenario_notifications")
        run(owner, "analyze public.without_index")
        run(owner, "set max_parallel_workers_per_gather = 0")
        questions = {
            name: _LOOK_UP.format(table=table, user=user(str(size // 2)))
            for name, table in {"ours": "public.scenario_notifications", "none": "public.without_index"}.items()
        }
        answers = {name: run(owner, question) for name, question in questions.items()}
        require(answers["ours"] == answers["none"], "the index gives another answer than the table")
        seconds = contest(
            {name: partial(timed_run, owner, question) for name, question in questions.items()},
            bench.rounds(size),
        )
    return compared(
        SECTION,
        "one look-up from a SQL client",
        size,
        seconds["ours"],
        seconds["none"],
        against="without the index",
        aim=Aim(1, at_least=True),
        times_better=True,
        note="times faster; the round trip is in both",
    )


def _over_http(bench: Bench, database: Database, size: int) -> Iterator[Figure]:
    with bench.http(database) as stack:
        seconds = asyncio.run(_http_calls(stack.url, stack.secret_key, _user_ids(database, size)))
    yield compared(
        SECTION,
        "get_last_sent_at over HTTP",
        size,
        seconds["ours"],
        seconds["nothing"],
        against="request for one row by its key",
        note="embedded stack (Node) on loopback; medians of 100 calls",
    )
    yield single(SECTION, "get_last_sent_at, acceptance line", size, seconds["ours"], aim=Aim(ACCEPTED_SECONDS))


def _user_ids(database: Database, size: int) -> list[UUID]:
    with database.owner() as owner:
        return [
            row[0]
            for row in run(owner, f"select {user()} from generate_series(1, %s::integer) as u", min(size, _HTTP_CALLS))
        ]


async def _http_calls(url: str, key: str, ids: list[UUID]) -> dict[str, list[float]]:
    """Call in turns: the look-up, and the cheapest request there is."""
    seconds: dict[str, list[float]] = {"ours": [], "nothing": []}
    async with connect(url, key) as client:
        repository = ScenarioNotificationRepository(client)
        for user_id in ids[:10] + ids:
            started = perf_counter()
            found = await repository.get_last_sent_at(user_id, ScenarioType.INACTIVITY)
            middle = perf_counter()
            await client.table("peer_mentors").select("user_id").eq("user_id", str(user_id)).execute()
            seconds["ours"].append(middle - started)
            seconds["nothing"].append(perf_counter() - middle)
            require(found is not None, "expected to find the user's notification")
    return {name: times[10:] for name, times in seconds.items()}
