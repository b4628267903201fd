"""Evaluation: find who is due and claim for them, against the floors of writing and of reading the same rows."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import pairwise
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import psycopg

from scenario_repo import (
    NewScenarioNotification,
    ScenarioNotificationRepository,
    ScenarioTriggerEngine,
    ScenarioType,
    connect,
)
from scenario_repo.testing.embedded_stack import EmbeddedStack
from tests.benchmarks.measure import Aim, Figure, compared, contest, require, single
from tests.benchmarks.population import empty_notifications, fill_failures, fill_mentors, fill_users, user
from tests.benchmarks.sections.claim_statements import duplicates
from tests.benchmarks.setting import Bench, Database, run, timed_run, value

SECTION = "evaluation"
PAGE = 10_000
BOTH_FLOORS = Aim(1.3)
IN_COOLDOWN = Aim(0.25)
WHOLE_RUN_SECONDS = Aim(30)
_LOOP_MENTORS = 500
_TEMPORARY = "just_claimed"

_PAGE_CALL = "select public.scenario_evaluate('inactivity', null, %s, %s)"
_INSERT_FLOOR = f"""
with due as materialized (select * from {_TEMPORARY} where user_id > %s and user_id <= %s order by user_id),
recorded as (
  insert into public.scenario_notifications
    (
      id, user_id, organization_id, scenario_type, triggered_at, metadata, cooldown_window_start, origin, cooldown,
      deliver_until
    )
  select id, user_id, organization_id, scenario_type, now(), metadata, 'epoch', 'evaluation', cooldown, deliver_until
  from due
)
insert into scenario_private.handover (notification_id, user_id, organization_id, scenario_type)
select id, user_id, organization_id, scenario_type from due
"""
_READ_FLOOR = """
select count(activity_date), max(activity_date) from public.activities where user_id > %s and user_id <= %s
"""
_BOUNDS = """
select user_id from (
  select user_id, row_number() over (order by user_id) as number from public.peer_mentors
) as mentor where number %% %s = 0 order by user_id
"""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure on growing numbers of mentors: half of them are due, and all have 20 activities."""
    for size in bench.sizes(500, 10_000, 100_000, full=(1_000_000,)):
        with bench.database("evaluation") as database:
            fill_mentors(database, size)
            yield from _pages(bench, database, size)
            if size in {500, 10_000}:
                with bench.http(database) as stack:
                    yield from _over_http(bench, database, stack, size)
            require(not duplicates(database), "two claims inside one cooldown")
    yield _failures(bench)


def _failures(bench: Bench) -> Figure:
    """Measure a page of mentors with thousands of failures each, beside one of mentors whose neighbours have them."""
    size = bench.choose(quick=100, default=500)
    each = bench.choose(quick=300, default=2_880)
    with bench.database("quiet") as quiet, bench.database("failures") as failing:
        for database in (quiet, failing):
            fill_mentors(database, size)
            fill_users(database, 2 * size)
        fill_failures(failing, 1, size, each)
        fill_failures(quiet, size + 1, 2 * size, each)
        with quiet.worker() as one, failing.worker() as other:

            def page(worker: psycopg.Connection) -> float:
                with worker.transaction(force_rollback=True):
                    return sum(_evaluate(worker, size, claimed=size // 2))

            seconds = contest({"ours": partial(page, other), "floor": partial(page, one)}, bench.rounds(size))
    return compared(
        SECTION,
        f"a page of mentors with {each:,} failed notifications each",
        size,
        seconds["ours"],
        seconds["floor"],
        against="the same without any, others have as many",
        aim=Aim(1.2),
    )


def _pages(bench: Bench, database: Database, size: int) -> Iterator[Figure]:
    cooldown: list[float] = []
    longest: list[float] = []
    read: list[float] = []
    with database.worker() as worker, database.owner() as owner:
        # What the evaluation writes, to be written by a plain INSERT.
        empty_notifications(database)
        _evaluate(worker, size, claimed=size // 2)
        run(worker, f"create temporary table {_TEMPORARY} as table public.scenario_notifications")
        run(worker, f"create index on {_TEMPORARY} (user_id)")
        run(worker, f"analyze {_TEMPORARY}")
        bounds = [UUID(int=0), *(row[0] for row in run(owner, _BOUNDS, PAGE)), UUID(int=2**128 - 1)]

        def ours() -> float:
            empty_notifications(database)
            pages = _evaluate(worker, size, claimed=size // 2)
            longest.append(max(pages))
            cooldown.append(sum(_evaluate(worker, size, claimed=0)))
            return sum(pages)

        def floors() -> float:
            empty_notifications(database)
            inserting = sum(timed_run(worker, _INSERT_FLOOR, first, last) for first, last in pairwise(bounds))
            inserted = value(worker, "select count(*) from public.scenario_notifications")
            require(inserted == size // 2, f"the floor inserted {inserted} rows instead of {size // 2}")
            read.append(_read(worker, bounds, size))
            return inserting + read[-1]

        seconds = contest({"ours": ours, "floors": floors}, bench.rounds(size * 2))
    yield compared(
        SECTION,
        f"find + claim, pages of {PAGE:,}",
        size,
        seconds["ours"],
        seconds["floors"],
        against="INSERTs of the same rows + index-only scan of the same activities",
        aim=BOTH_FLOORS if size >= 100_000 else None,
        note=f"half are due; the scan is {sum(read) / sum(seconds['floors']):.0%} of the floors",
    )
    yield compared(
        SECTION, "everybody in cooldown", size, cooldown, seconds["ours"], against="ours, fresh", aim=IN_COOLDOWN
    )
    if size >= PAGE:
        yield single(SECTION, "longest page", size, longest, aim=Aim(8), note="the platform's statement timeout is 8 s")
    if size >= 1_000_000:
        yield single(SECTION, "the whole run", size, seconds["ours"], aim=WHOLE_RUN_SECONDS)


def _evaluate(worker: psycopg.Connection, size: int, *, claimed: int) -> list[float]:
    """Evaluate all pages, and return the seconds of each."""
    after: UUID | None = None
    counts = {"evaluated": 0, "due": 0, "claimed": 0}
    seconds: list[float] = []
    while True:
        started = perf_counter()
        page: dict[str, Any] = value(worker, _PAGE_CALL, after, PAGE)
        seconds.append(perf_counter() - started)
        for name in counts:
            counts[name] += page[name]
        after = page["next_after"] and UUID(page["next_after"])
        if after is None:
            break
    expected = {"evaluated": size, "due": size // 2, "claimed": claimed}
    require(counts == expected, f"expected {expected}, got {counts}")
    return seconds


def _read(worker: psycopg.Connection, bounds: list[UUID], size: int) -> float:
    run(worker, "set enable_seqscan = off")
    run(worker, "set enable_bitmapscan = off")
    rows = 0
    seconds = 0.0
    for first, last in pairwise(bounds):
        started = perf_counter()
        rows += run(worker, _READ_FLOOR, first, last)[0][0]
        seconds += perf_counter() - started
    run(worker, "reset enable_seqscan")
    run(worker, "reset enable_bitmapscan")
    require(rows == 20 * size, f"the scan read {rows} activities instead of {20 * size}")
    return seconds


def _over_http(bench: Bench, database: Database, stack: EmbeddedStack, size: int) -> Iterator[Figure]:
    loop_ids = _some_mentors(database)
    engine: list[float] = []
    loop: list[float] = []
    for _ in range(bench.choose(quick=1, default=3)):
        empty_notifications(database)
        engine.append(asyncio.run(_engine(stack, claimed=size // 2)))
        if size <= _LOOP_MENTORS:
            empty_notifications(database)
            loop.append(asyncio.run(_one_by_one(stack, loop_ids)) / len(loop_ids))
    if not loop:
        yield single(SECTION, "the whole engine over HTTP", size, engine)
        return
    yield compared(
        SECTION,
        "the whole engine over HTTP",
        size,
        engine,
        [one * size for one in loop],
        times_better=True,
        against="a loop of get_last_sent_at + insert",
    )
    yield single(
        SECTION,
        "the loop over 100,000 mentors, extrapolated",
        100_000,
        [one * 100_000 for one in loop],
        note=f"measured on {len(loop_ids)}; it neither finds who is due nor keeps two workers apart",
    )


def _some_mentors(database: Database) -> list[UUID]:
    with database.owner() as owner:
        return list(
            value(owner, f"select array_agg({user()}) from generate_series(1, %s::integer) as u", _LOOP_MENTORS)
        )


async def _engine(stack: EmbeddedStack, *, claimed: int) -> float:
    async with connect(stack.url, stack.secret_key) as client:
        engine = ScenarioTriggerEngine(ScenarioNotificationRepository(client))
        started = perf_counter()
        report = await engine.run([ScenarioType.INACTIVITY], time_budget=timedelta(minutes=10))
        seconds = perf_counter() - started
    require(report.completed, f"the engine stopped: {report.errors}")
    require(report.scenarios[0].claimed == claimed, f"expected {claimed} claims, got {report.scenarios[0].claimed}")
    return seconds


async def _one_by_one(stack: EmbeddedStack, ids: list[UUID]) -> float:
    """Ask and insert for one mentor after the other: what an app does today."""
    organization_id = uuid4()
    async with connect(stack.url, stack.secret_key) as client:
        repository = ScenarioNotificationRepository(client)
        started = perf_counter()
        for user_id in ids:
            if await repository.get_last_sent_at(user_id, ScenarioType.INACTIVITY) is None:
                await repository.insert_notification(
                    NewScenarioNotification(
                        user_id=user_id, organization_id=organization_id, scenario_type=ScenarioType.INACTIVITY
                    )
                )
        return perf_counter() - started
