"""Several claimers at once, all after the same users."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Barrier

import psycopg

from tests.benchmarks.measure import Figure, compared, contest, require, timed
from tests.benchmarks.sections.claim_statements import ANOTHER_DAY, CORE, INSERT_OR_SKIP, Users, prepare
from tests.benchmarks.setting import Bench, Database, run

SECTION = "claim"
BATCH = 1_000
ROUNDS = 3


def measure(bench: Bench, database: Database, users: Users) -> Iterator[Figure]:
    """Let one, then eight claim for the same users, in batches and each from another start."""
    size = bench.choose(quick=1_000, default=5_000)
    for claimers in (1, 8):
        with ExitStack() as stack:
            workers = [stack.enter_context(database.worker()) for _ in range(claimers)]
            statements = {"ours": CORE, "floor": INSERT_OR_SKIP.format(window=ANOTHER_DAY)}
            seconds = contest(
                {name: partial(_together, workers, users, size, statement) for name, statement in statements.items()},
                ROUNDS,
            )
        yield compared(
            SECTION,
            f"core, fresh, {claimers} claimer{'s' * (claimers > 1)} of the same users",
            size,
            seconds["ours"],
            seconds["floor"],
            against="as many plain INSERT … on conflict do nothing",
            note=f"batches of {BATCH:,}; every user exactly once",
        )


def _together(workers: list[psycopg.Connection], users: Users, size: int, statement: str) -> float:
    first, last = users.take(size)
    starts = list(range(first, last, BATCH))
    for worker in workers:
        for start in starts:
            prepare(worker, start, start + BATCH - 1)
    barrier = Barrier(len(workers))

    def one(turn: int) -> int:
        offset = turn * len(starts) // len(workers)
        barrier.wait()
        return sum(int(run(workers[turn], statement, start)[0][0]) for start in starts[offset:] + starts[:offset])

    won: list[int] = []
    with ThreadPoolExecutor(len(workers)) as pool:
        seconds = timed(lambda: won.extend(pool.map(one, range(len(workers)))))
    require(sum(won) == size, f"{len(workers)} claimers won {sum(won)} of {size} users")
    return seconds
