"""Right after a bulk load: what each call of the API takes before any ANALYZE, beside the same data analyzed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import psycopg

from tests.benchmarks.measure import Aim, Figure, compared, contest
from tests.benchmarks.setting import Bench, Database, timed_run
from tests.integration.api_calls import CALLS
from tests.integration.plans import FILL, USERS

SECTION = "without_statistics"
NO_OTHER_PLAN = Aim(10)


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure every call on two databases with the same rows; autovacuum, which would analyze both, is off."""
    with bench.database("loaded") as loaded, bench.database("analyzed") as analyzed:
        for database in (loaded, analyzed):
            _load(database)
        with analyzed.filler() as filler:
            filler.execute("analyze")
        with loaded.worker() as one, analyzed.worker() as other:
            for name, call in CALLS.items():
                seconds = contest(
                    {"ours": partial(_undone, one, call), "floor": partial(_undone, other, call)},
                    bench.choose(quick=3, default=9),
                )
                yield compared(
                    SECTION,
                    name,
                    USERS,
                    seconds["ours"],
                    seconds["floor"],
                    against="the same, analyzed",
                    aim=NO_OTHER_PLAN,
                )


def _load(database: Database) -> None:
    with database.filler() as filler:
        for statement in FILL:
            filler.execute(statement)


def _undone(worker: psycopg.Connection, call: str) -> float:
    """Call it with plans made anew, as a new connection would, and take back what it wrote."""
    worker.execute("discard plans")
    with worker.transaction(force_rollback=True):
        return timed_run(worker, f"select public.{call}")
