"""The claim, against the plain INSERT of the same rows: fresh, all in cooldown, and by several at once."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg

from tests.benchmarks.measure import Aim, Figure, compared, contest, require, timed
from tests.benchmarks.population import COOLDOWN_DAYS, empty_notifications, fill_users, history, user
from tests.benchmarks.sections import calendar_windows, claimers
from tests.benchmarks.sections.claim_statements import (
    ANOTHER_DAY,
    CORE,
    Users,
    duplicates,
    expect,
    prepare,
    timed_insert,
)
from tests.benchmarks.setting import Bench, Database, run, value

SECTION = "claim"
FRESH = Aim(1.2)
IN_COOLDOWN = Aim(0.15)
API_BATCH = 20_000
_API_ROUNDS = 3
_MILLION = 1_000_000

_API = """
select jsonb_array_length(request -> 'user_id')
  - json_array_length(public.scenario_claim_notifications(request) -> 'skipped' -> 'place')
from (select %s::jsonb as request offset 0) as sent
"""
_BULK_INSERT = """
with inserted as (
  insert into public.scenario_notifications as notification
    (
      user_id, organization_id, scenario_type, metadata, cooldown_window_start, origin, cooldown, deliver_until
    )
  select element.user_id, element.organization_id, scenario_type, metadata, '2020-01-01', 'claim', interval '30 days',
    now() + interval '7 days'
  from json_to_record(%s::json) as request (user_id uuid[], organization_id uuid[], "all" json)
  cross join unnest(request.user_id, request.organization_id) as element (user_id, organization_id)
  cross join json_to_record(request."all") as same (scenario_type text, metadata jsonb)
  returning notification.*
)
select count(*) from json_array_elements((select json_agg(inserted) from inserted))
"""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure on a table with a million older notifications, a batch of other users every time."""
    number = bench.choose(quick=85_000, default=_MILLION)
    database = history(bench, number)
    users = Users(number)
    for size in bench.sizes(500, 10_000, 100_000):
        yield from _core(bench, database, users, size)
    for size in bench.choose(quick=(500,), default=(500, API_BATCH)):
        yield from _api(database, users, size)
    yield from claimers.measure(bench, database, users)
    require(not duplicates(database), "two claims inside one cooldown")
    with bench.database("calendar") as database:
        yield from calendar_windows.measure(bench, database)
    if bench.extent == "full":
        with bench.database("claims_million") as database:
            fill_users(database, _MILLION)
            yield from _from_nothing(bench, database, _MILLION)


def _core(bench: Bench, database: Database, users: Users, size: int) -> Iterator[Figure]:
    cooldown: list[float] = []
    with database.worker() as worker:

        def ours() -> float:
            batch = prepare(worker, *users.take(size))
            seconds = timed(lambda: expect(run(worker, CORE, batch), claimed=size, cooldown=0))
            cooldown.append(timed(lambda: expect(run(worker, CORE, batch), claimed=0, cooldown=size)))
            return seconds

        def floor() -> float:
            return timed_insert(worker, prepare(worker, *users.take(size)), ANOTHER_DAY, size)

        seconds = contest({"ours": ours, "floor": floor}, bench.rounds(size))
    yield compared(
        SECTION,
        "core, fresh",
        size,
        seconds["ours"],
        seconds["floor"],
        against="plain INSERTs of the same rows",
        aim=FRESH,
        note=f"{min(seconds['ours']) / size * 1e6:.1f} µs a claim at best, on top of older notifications",
    )
    yield compared(
        SECTION,
        "core, all in cooldown",
        size,
        cooldown,
        seconds["ours"],
        against="ours, fresh",
        aim=IN_COOLDOWN,
        note=f"{min(cooldown) / size * 1e6:.1f} µs a claim at best",
    )


def _api(database: Database, users: Users, size: int) -> Iterator[Figure]:
    """Measure what PostgREST calls, beside what it would make of a bulk insert of the same rows."""
    cooldown: list[float] = []
    with database.worker() as worker:

        def ours() -> float:
            batches = _api_batches(worker, users, size)
            seconds = timed(lambda: _expect_api(worker, batches, _API, size))
            cooldown.append(timed(lambda: _expect_api(worker, batches, _API, 0)))
            return seconds

        def floor() -> float:
            batches = _api_batches(worker, users, size)
            return timed(lambda: _expect_api(worker, batches, _BULK_INSERT, size))

        seconds = contest({"ours": ours, "floor": floor}, _API_ROUNDS)
    batches = f" in batches of {API_BATCH:,}" if size > API_BATCH else ""
    yield compared(
        SECTION,
        f"function of the API, fresh{batches}",
        size,
        seconds["ours"],
        seconds["floor"],
        against="PostgREST's bulk INSERT",
        note="JSON in and JSON out, metadata of one key, without HTTP",
    )
    yield compared(
        SECTION,
        f"function of the API, all in cooldown{batches}",
        size,
        cooldown,
        seconds["ours"],
        against="ours, fresh",
    )


def _api_batches(worker: psycopg.Connection, users: Users, size: int) -> list[str]:
    first, last = users.take(size)
    statement = f"""
        select jsonb_build_object(
          'user_id', jsonb_agg({user()} order by u),
          'organization_id', jsonb_agg(md5('organization ' || u %% 50)::uuid order by u),
          'all', jsonb_build_object(
            'scenario_type', 'inactivity', 'cooldown_seconds', {COOLDOWN_DAYS * 86_400},
            'metadata', jsonb_build_object('inactive_days', 31)
          )
        )
        from generate_series(%s::integer, %s::integer) as u
    """
    starts = range(first, last + 1, API_BATCH)
    return [json.dumps(value(worker, statement, start, min(start + API_BATCH - 1, last))) for start in starts]


def _expect_api(worker: psycopg.Connection, batches: list[str], statement: str, claimed: int) -> None:
    got = sum(value(worker, statement, batch) for batch in batches)
    require(got == claimed, f"expected {claimed} rows of the API's function, got {got}")


def _from_nothing(bench: Bench, database: Database, size: int) -> Iterator[Figure]:
    """Claim for everybody at once, on a table that was empty."""
    cooldown: list[float] = []
    api: list[float] = []
    with database.worker() as worker:
        batch = prepare(worker, 1, size)

        def ours() -> float:
            empty_notifications(database)
            seconds = timed(lambda: expect(run(worker, CORE, batch), claimed=size, cooldown=0))
            cooldown.append(timed(lambda: expect(run(worker, CORE, batch), claimed=0, cooldown=size)))
            return seconds

        def insert() -> float:
            empty_notifications(database)
            return timed_insert(worker, batch, "epoch", size)

        def in_batches() -> float:
            empty_notifications(database)
            batches = _api_batches(worker, Users(size), size)
            seconds = timed(lambda: _expect_api(worker, batches, _API, size))
            api.append(timed(lambda: _expect_api(worker, batches, _API, 0)))
            return seconds

        seconds = contest({"ours": ours, "floor": insert, "api": in_batches}, bench.rounds(size))
    against = "plain INSERTs of the same rows"
    yield compared(
        SECTION, "core, fresh, one call", size, seconds["ours"], seconds["floor"], against=against, aim=FRESH
    )
    yield compared(
        SECTION,
        "core, all in cooldown, one call",
        size,
        cooldown,
        seconds["ours"],
        against="ours, fresh",
        aim=IN_COOLDOWN,
    )
    what = f"function of the API, fresh in batches of {API_BATCH:,}"
    yield compared(SECTION, what, size, seconds["api"], seconds["floor"], against=against)
    yield compared(SECTION, what.replace("fresh", "all in cooldown"), size, api, seconds["api"], against="ours, fresh")
