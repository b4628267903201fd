"""Several engines share a pass: two against one, eight at once, and what a mentor costs among ten million."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final

from tests.benchmarks.measure import Aim, Figure, compared, contest, require, single
from tests.benchmarks.passes import PAGE, begin_pass, share_pass
from tests.benchmarks.population import empty_notifications, fill_mentors
from tests.benchmarks.sections.claim_statements import duplicates
from tests.benchmarks.setting import Bench, Database, run, value

SECTION = "parallel"
TWO_ENGINES = Aim(1.7, at_least=True)
ONE_PASS = Aim(1.1)
HUGE = 10_000_000
_ACTIVITIES: Final = 20
_FIRST_SIZE = 100_000
_BYTES_FOR_ONE: Final = 1.6
"""Of disk for each byte of a table: its indexes are sorted outside of it, and there is the WAL."""

_PAGES = "select public.scenario_evaluate('inactivity', null, %s, %s)"


@dataclass(frozen=True)
class _Shared:
    """One pass that engines did between them."""

    seconds: float
    pages: int
    """Those in which somebody was evaluated."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure on growing numbers of mentors: half of them are due, and all have 20 activities."""
    of_first: dict[str, float] = {}
    bytes_each = 0.0
    sizes = bench.sizes(_FIRST_SIZE, full=(1_000_000,)) or (40_000,)
    for size in (*sizes, HUGE) if bench.extent == "huge" else sizes:
        activities = _ACTIVITIES if size < HUGE else _affordable(bench, bytes_each * size)
        with bench.database("parallel") as database:
            fill_mentors(database, size, activities)
            if size == sizes[0]:
                bytes_each = value_of_owner(database, "select pg_database_size(current_database())") / size
            yield from _two(bench, database, size)
            yield from _eight(database, size)
            yield from _cost(database, size, activities, of_first)


def _affordable(bench: Bench, size: float) -> int:
    """Return how many activities a mentor may have on this disk: 20, or as many as there is room for."""
    room = shutil.disk_usage(bench.server.socket_folder).free / _BYTES_FOR_ONE
    return max(1, min(_ACTIVITIES, int(_ACTIVITIES * room / size)))


def value_of_owner(database: Database, statement: str) -> float:
    """Ask something as the owner."""
    with database.owner() as owner:
        return float(value(owner, statement))


def _two(bench: Bench, database: Database, size: int) -> Iterator[Figure]:
    held: dict[str, list[float]] = {"one": [], "two": []}

    def fresh(name: str, engines: int) -> float:
        empty_notifications(database)
        seconds = _pass(database, engines, size, claimed=size // 2).seconds
        held[name].append(_pass(database, engines, size, claimed=0).seconds)
        return seconds

    rounds = bench.choose(quick=3, default=5) if size <= _FIRST_SIZE else 3 if size < HUGE else 1
    seconds = contest({"two": partial(fresh, "two", 2), "one": partial(fresh, "one", 1)}, rounds)
    for what, times in (("a fresh pass", seconds), ("everybody in cooldown", held)):
        yield compared(
            SECTION,
            f"two engines share a pass: {what}",
            size,
            times["two"],
            times["one"],
            against="one engine",
            times_better=True,
            aim=TWO_ENGINES if size >= _FIRST_SIZE else None,
            note="on an idle machine of two cores or more",
        )
    if size > 1_000_000:
        return

    def whole() -> float:
        empty_notifications(database)
        return _unshared(database, size)

    def ranges() -> float:
        empty_notifications(database)
        return _pass(database, 1, size, claimed=size // 2).seconds

    times = contest({"ranges": ranges, "whole": whole}, rounds)
    yield compared(
        SECTION,
        "one engine, a pass of ranges",
        size,
        times["ranges"],
        times["whole"],
        against="pages without a pass",
        note="a pass also keeps whom it left out, by organization",
    )


def _eight(database: Database, size: int) -> Iterator[Figure]:
    empty_notifications(database)
    alone = _pass(database, 1, size, claimed=size // 2)
    empty_notifications(database)
    eight = _pass(database, 8, size, claimed=size // 2)
    yield compared(
        SECTION,
        "eight engines begin together",
        size,
        [float(eight.pages)],
        [float(alone.pages)],
        against="one engine",
        unit="pages",
        aim=ONE_PASS,
        note=f"one pass between them, in {eight.seconds / alone.seconds:.2f} of the time",
    )
    require(not duplicates(database), "two claims inside one cooldown")


def _cost(database: Database, size: int, activities: int, of_first: dict[str, float]) -> Iterator[Figure]:
    """Tell what a mentor costs, and how that grows: the trees that are searched have a height of log n."""
    for what, claimed in (("a fresh pass", size // 2), ("everybody in cooldown", 0)):
        times = []
        for _ in range(3 if size < HUGE else 1):
            if claimed:
                empty_notifications(database)
            times.append(1e6 * _pass(database, 1, size, claimed=claimed).seconds / size)
        note = f"{activities} activities each"
        if what not in of_first:
            of_first[what] = median(times)
            yield single(SECTION, f"a mentor in {what}", size, times, unit="µs", note=note)
            continue
        yield compared(
            SECTION,
            f"a mentor in {what}",
            size,
            times,
            [of_first[what]] * len(times),
            against=f"a mentor among {_FIRST_SIZE:,}",
            unit="µs",
            aim=Aim(math.log(size) / math.log(_FIRST_SIZE)),
            note=note,
        )


def _pass(database: Database, engines: int, size: int, *, claimed: int) -> _Shared:
    """Let so many engines do a pass between them, and check what is kept of it."""
    with database.worker() as worker:
        number = begin_pass(worker)
    with ThreadPoolExecutor(engines) as pool:
        started = time.perf_counter()
        turned = [pool.submit(_engine, database, number) for _ in range(engines)]
        pages = sum(one.result() for one in turned)
        seconds = time.perf_counter() - started
    with database.worker() as worker:
        kept = run(
            worker,
            "select pass_number, pass_evaluated, pass_due, pass_claimed from public.scenario_evaluation_config"
            " where scenario_type = 'inactivity' and organization_id is null",
        )
    expected = (number, size, size // 2, claimed)
    require(kept == [expected], f"expected {expected}, got {kept}")
    return _Shared(seconds, pages)


def _engine(database: Database, number: int) -> int:
    """Take part in a pass, on a connection of its own."""
    with database.worker() as worker:
        return share_pass(worker, number)


def _unshared(database: Database, size: int) -> float:
    """Evaluate page after page, without a pass."""
    after, claimed = None, 0
    with database.worker() as worker:
        started = time.perf_counter()
        while True:
            page = value(worker, _PAGES, after, PAGE)
            claimed += page["claimed"]
            after = page["next_after"]
            if after is None:
                break
        seconds = time.perf_counter() - started
    require(claimed == size // 2, f"expected {size // 2} claims, got {claimed}")
    return seconds
