"""Delivery under pressure: out of a large backlog, beside a snapshot that is held, and a hundred times over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import psycopg

from tests.benchmarks.measure import Aim, Figure, compared, contest, require, timed
from tests.benchmarks.population import fill_pending, fill_users, user
from tests.benchmarks.setting import Bench, Database, run, value

SECTION = "delivery_pressure"
_BATCH = 1_000
_LEASE = "select public.scenario_lease_notifications(%s::integer, 300)"
_SETTLE = "select public.scenario_settle_notifications(%s::jsonb)"
# Over by the next cycle, so that the same users are told again.
_COOLDOWN_SECONDS = 0.001
_PURGED_EVERY = 10
"""Cycles; from the second time on the tables should keep their size."""

_SIZES = """
select json_object_agg(
  part, json_build_object('heap', pg_relation_size(part::regclass), 'indexes', pg_indexes_size(part::regclass))
)
from unnest(array['scenario_private.handover', 'public.scenario_notifications']) as part
"""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the three."""
    yield _backlog(bench)
    cycles = bench.choose(quick=30, default=100)
    yield _held(bench, cycles)
    yield from _growth(bench, cycles)


def _backlog(bench: Bench) -> Figure:
    """Measure lease and settle while few are waiting, and while very many are."""
    many = bench.choose(quick=20_000, default=1_000_000)
    few = bench.choose(quick=5_000, default=20_000)
    with bench.database("waiting") as few_waiting, bench.database("backlog") as many_waiting:
        for database, size in ((few_waiting, few), (many_waiting, many)):
            fill_users(database, 2 * size)
            fill_pending(database, size, "claim")
        with few_waiting.worker() as one, many_waiting.worker() as other:

            def deliver(worker: psycopg.Connection) -> float:
                # Undone again: whoever has few would run out of them.
                with worker.transaction(force_rollback=True):
                    return timed(partial(_deliver, worker))

            for worker in (one, other):
                deliver(worker)
            seconds = contest(
                {"ours": partial(deliver, other), "floor": partial(deliver, one)}, bench.choose(quick=3, default=9)
            )
    return compared(
        SECTION,
        f"lease + settle {_BATCH:,} out of a backlog",
        many,
        seconds["ours"],
        seconds["floor"],
        against=f"out of {few:,}",
        aim=Aim(1.2),
    )


@dataclass
class _Run:
    """A database through its cycles: the seconds of each, and its sizes once it has settled down and at the end."""

    database: Database
    worker: psycopg.Connection
    seconds: list[float] = field(default_factory=list)
    settled: dict[str, dict[str, int]] = field(default_factory=dict)
    end: dict[str, dict[str, int]] = field(default_factory=dict)

    def cycle(self, number: int) -> None:
        """Claim for every user, lease and settle; now and then purge, and vacuum as autovacuum would."""
        claims = {
            "user_id": [str(one) for (one,) in run(self.worker, _USERS, _BATCH)],
            "all": {
                "organization_id": "5ca1ab1e-0000-4000-8000-000000000001",
                "scenario_type": "inactivity",
                "cooldown_seconds": _COOLDOWN_SECONDS,
            },
        }
        answer = value(self.worker, "select public.scenario_claim_notifications(%s::jsonb)", json.dumps(claims))
        require(not answer["skipped"]["place"], f"cycle {number}: a claim was skipped")
        self.seconds.append(timed(lambda: _deliver(self.worker)))
        if number % _PURGED_EVERY == 0:
            # At its largest. The first purge leaves more than later ones need to fill again.
            self.end = self.measured()
            if number == 2 * _PURGED_EVERY:
                self.settled = self.end
            purged = value(self.worker, "select public.scenario_purge_notifications(%s)", _COOLDOWN_SECONDS)["purged"]
            require(purged >= (_PURGED_EVERY - 4) * _BATCH, f"cycle {number}: {purged} were purged")
            with self.database.filler() as filler:
                for table in ("public.scenario_notifications", "scenario_private.handover"):
                    run(filler, f"vacuum (analyze) {table}")

    def measured(self) -> dict[str, dict[str, int]]:
        """Return the bytes of heaps and indexes."""
        with self.database.owner() as owner:
            sizes: dict[str, dict[str, int]] = value(owner, _SIZES)
        return sizes


_USERS = f"select {user()} from generate_series(1, %s::integer) as u"  # noqa: S608 - put together from constants


def _held(bench: Bench, cycles: int) -> Figure:
    """Let the same users be told again and again, beside a snapshot that is held all the time and without it."""
    with bench.database("quiet") as quiet, bench.database("held") as held:
        for database in (quiet, held):
            _prepare(database)
        with quiet.worker() as one, held.worker() as other, _held_snapshot(held):
            runs = _Run(quiet, one), _Run(held, other)
            for number in range(1, cycles + 1):
                for each in runs if number % 2 else reversed(runs):
                    each.cycle(number)
    without, beside = runs
    last = cycles // 10
    return compared(
        SECTION,
        "lease + settle beside a held snapshot",
        cycles * _BATCH,
        beside.seconds[-last:],
        without.seconds[-last:],
        against="the quiet rate",
        times_better=True,
        aim=Aim(0.5, at_least=True),
        note=f"the last {last} of {cycles} cycles of {_BATCH:,}; all that was delivered is dead, and still there",
    )


def _growth(bench: Bench, cycles: int) -> Iterator[Figure]:
    """Let the same users be told again and again, alone: a snapshot of any database keeps empty pages of indexes."""
    with bench.database("again") as database:
        _prepare(database)
        with database.worker() as worker:
            cycling = _Run(database, worker)
            for number in range(1, cycles + 1):
                cycling.cycle(number)
    for part, kinds in cycling.settled.items():
        for kind, size in kinds.items():
            yield compared(
                SECTION,
                f"{kind} of {part.split('.')[1]} after {cycles} cycles",
                cycles * _BATCH,
                [cycling.end[part][kind] / 2**20],
                [size / 2**20],
                against=f"after {2 * _PURGED_EVERY}",
                unit="MiB",
                aim=Aim(1.2),
                note=f"the same users told again and again, purged and vacuumed every {_PURGED_EVERY} cycles",
            )


def _prepare(database: Database) -> None:
    fill_users(database, _BATCH)
    with database.owner() as owner:
        # What is younger than a cooldown is not purged.
        run(
            owner,
            "update public.scenario_evaluation_config set cooldown = interval '1 millisecond'"
            " where scenario_type = 'inactivity'",
        )


@contextmanager
def _held_snapshot(database: Database) -> Iterator[None]:
    """Hold what a long report would: a snapshot from before all of it."""
    with database.owner() as owner:
        run(owner, "begin isolation level repeatable read")
        run(owner, "select count(*) from auth.users")
        yield
        run(owner, "rollback")


def _deliver(worker: psycopg.Connection) -> None:
    leased = value(worker, _LEASE, _BATCH)["leased"]
    require(len({row["id"] for row in leased}) == _BATCH, f"{len(leased)} were leased of {_BATCH}")
    results = [{"id": row["id"], "lease_number": row["lease_number"], "result": "sent"} for row in leased]
    answers = value(worker, _SETTLE, json.dumps(results))["answers"]
    require(answers == ["sent"] * _BATCH, f"settled as {set(answers)}")
