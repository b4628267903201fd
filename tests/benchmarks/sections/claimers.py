"""Several claimers at once, all after the same users."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Barrier
from uuid import UUID

import psycopg

from tests.benchmarks.measure import Aim, Figure, compared, contest, require, single, timed
from tests.benchmarks.population import user
from tests.benchmarks.sections.claim_statements import ANOTHER_DAY, CORE, INSERT_OR_SKIP, Users, prepare
from tests.benchmarks.setting import Bench, Database, run, value

SECTION = "claim"
BATCH = 1_000
ROUNDS = 3
API_BATCH = 20_000
WITHIN = Aim(4)
"""Seconds for a contested batch with text: half of the statement timeout that the API's roles are given."""
SENTENCE = "Vi savner deg på møtene våre, og håper at du får tid til å komme innom en dag. Gå gjerne innom når du kan."


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
    size = bench.choose(quick=2_000, default=API_BATCH)
    with database.worker() as one, database.worker() as other:
        yield single(
            SECTION,
            "function of the API, 2 claimers of the same users",
            size,
            [_with_text([one, other], users, size) for _ in range(ROUNDS)],
            aim=WITHIN,
            note="one batch each, a sentence of Norwegian text in every claim; the longer of both",
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


def _with_text(workers: list[psycopg.Connection], users: Users, size: int) -> float:
    first, last = users.take(size)
    ids = value(
        workers[0], f"select json_agg({user()}) from generate_series(%s::integer, %s::integer) as u", first, last
    )
    same = {"organization_id": str(UUID(int=1)), "scenario_type": "inactivity", "cooldown_seconds": 30 * 86_400}
    claims = json.dumps({"user_id": ids, "metadata": [{"note": SENTENCE}] * size, "all": same})
    statement = "select json_array_length(public.scenario_claim_notifications(%s::jsonb) -> 'skipped' -> 'place')"
    barrier = Barrier(len(workers))

    def one(worker: psycopg.Connection) -> int:
        barrier.wait()
        return int(value(worker, statement, claims))

    held: list[int] = []
    with ThreadPoolExecutor(len(workers)) as pool:
        seconds = timed(lambda: held.extend(pool.map(one, workers)))
    require(sorted(held) == [0, size], f"of two claimers of the same {size} users these were refused: {held}")
    return seconds
