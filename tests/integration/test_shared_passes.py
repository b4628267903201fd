"""Passes that several callers share at once: everybody once, true figures, whoever dies, comes or goes meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.integration.database import Database
from tests.integration.evaluation import configure, empty, reused_database
from tests.postgres.server import PostgresServer
from tests.rows import ORGANIZATION, ago, insert_activities, insert_mentors, insert_notifications, insert_users

RANGE = 50
"""So few mentors are a range here: a few thousand are as many ranges as a million elsewhere."""


@contextmanager
def ranged_database(server: PostgresServer, name: str, template: str, mentors: int) -> Iterator[Database]:
    """Clone a database in which so few mentors are a range; it has no statistics but those that a test makes."""
    with reused_database(server, name, template) as database:
        set_range_size(database, mentors)
        database.run("alter table public.peer_mentors set (autovacuum_enabled = false)")
        yield database


@pytest.fixture(scope="module")
def reused(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests."""
    with ranged_database(postgres_server, "shared_passes", migrated, RANGE) as database:
        yield database


@pytest.fixture
def database(reused: Database) -> Iterator[Database]:
    """Empty the database after each test."""
    yield reused
    empty(reused)


def set_range_size(database: Database, mentors: int) -> None:
    """Say how many mentors make a range."""
    with database.connect(role=None) as owner:
        owner.execute(
            "create or replace function scenario_private.range_size() returns integer language sql immutable"
            f" set search_path = '' as 'select {mentors}'".encode()
        )


def quiet(database: Database, ids: list[UUID], organization_id: UUID = ORGANIZATION) -> list[UUID]:
    """Make mentors of these ids who are due for inactivity."""
    with database.connect(role=None) as owner:
        insert_users(owner, ids)
        insert_mentors(owner, ids, organization_id=organization_id)
        insert_activities(owner, ids, ago("40 days"), organization_id=organization_id)
    return sorted(ids)


def new_quiet(database: Database, number: int) -> list[UUID]:
    """Make mentors of random ids who are due for inactivity."""
    ids = sorted(database.new_mentors(number, ORGANIZATION))
    with database.connect() as worker:
        insert_activities(worker, ids, ago("40 days"))
    return ids


def in_a_row(number: int) -> list[UUID]:
    """Return ids as UUIDs of version 7 are: of one morning, a few in every millisecond."""
    return [UUID(f"0197b9e4-{one // 3 % 65_536:04x}-7{one % 4096:03x}-8000-{one:012x}") for one in range(number)]


def next_page(
    worker: psycopg.Connection, limit: int, number: int | None = None, organization_id: UUID | None = None
) -> dict[str, Any]:
    """Ask for the next page of a pass over inactivity."""
    row = worker.execute(
        "select public.scenario_evaluate_next_page('inactivity', %s, %s, p_pass_number => %s)",
        [organization_id, limit, number],
    ).fetchone()
    assert row is not None
    page: dict[str, Any] = row[0]
    return page


def turn_pages(
    database: Database, number: int, limits: tuple[int, ...], organization_id: UUID | None
) -> list[dict[str, Any]]:
    """Ask for pages until the pass is over, as an engine does; begin anew whenever the session is killed."""
    pages: list[dict[str, Any]] = []
    while True:
        with suppress(psycopg.OperationalError), database.connect() as worker:
            while True:
                page = next_page(worker, limits[len(pages) % len(limits)], number, organization_id)
                pages.append(page)
                if page["next_after"] is None:
                    return pages
                if page["in_other_hands"]:
                    time.sleep(0.005)


def share(
    database: Database,
    callers: int,
    number: int = 1,
    *,
    limits: tuple[int, ...] = (40,),
    organization_id: UUID | None = None,
) -> list[dict[str, Any]]:
    """Let so many callers do one pass between them, and return all pages."""
    with ThreadPoolExecutor(callers) as pool:
        turned = [pool.submit(turn_pages, database, number, limits, organization_id) for _ in range(callers)]
        return [page for one in turned for page in one.result(120)]


def ranges(worker: psycopg.Connection) -> list[tuple[int, UUID | None, UUID | None]]:
    """Read the ranges of the pass under way: which, from where, up to where."""
    return worker.execute("select number, place, upto from scenario_private.pass_range order by number").fetchall()


def kept(worker: psycopg.Connection, organization_id: UUID | None = None) -> tuple[Any, ...]:
    """Read what is kept of the pass: whether it is under way, and its figures."""
    row = worker.execute(
        "select is_under_way, evaluated, due, claimed, skipped from scenario_private.pass"
        " where scenario_type = 'inactivity' and organization_id is not distinct from %s",
        [organization_id],
    ).fetchone()
    assert row is not None
    return row


def notified(worker: psycopg.Connection) -> list[UUID]:
    """Read who was notified, in the order of their ids, as often as they were."""
    return [row[0] for row in worker.execute("select user_id from public.scenario_notifications order by 1").fetchall()]


def cut(worker: psycopg.Connection, organization_id: UUID | None = None) -> list[int]:
    """Begin a pass, and return how many mentors each of its ranges has; together they are all, and none twice."""
    page = next_page(worker, 100, organization_id=organization_id)
    assert (page["evaluated"], page["in_other_hands"]) == (0, False)
    assert page["next_after"] is not None
    found = ranges(worker)
    assert [number for number, _, _ in found] == list(range(1, len(found) + 1))
    assert (found[0][1], found[-1][2]) == (None, None)
    assert all(one[2] == other[1] for one, other in pairwise(found))
    mentors = worker.execute(
        "select (select count(*) from public.peer_mentors as mentor where mentor.is_active"
        " and (%(organization)s::uuid is null or mentor.organization_id = %(organization)s)"
        " and (range.place is null or mentor.user_id > range.place)"
        " and (range.upto is null or mentor.user_id <= range.upto))"
        " from scenario_private.pass_range as range order by range.number",
        {"organization": organization_id},
    ).fetchall()
    return [number for (number,) in mentors]


@contextmanager
def dawdling(database: Database, seconds: float) -> Iterator[None]:
    """Make every claim of a page take so long."""
    with database.connect(role=None) as owner:
        owner.execute(
            "create function public.dawdle() returns trigger language plpgsql as"
            f" $$ begin perform pg_sleep({seconds}); return null; end $$".encode()
        )
        owner.execute(
            "create trigger dawdle after insert on public.scenario_notifications"
            " for each statement execute function public.dawdle()"
        )
        try:
            yield
        finally:
            owner.execute("drop function public.dawdle cascade")


@pytest.mark.parametrize("callers", [1, 2, 8])
@pytest.mark.parametrize("organization_id", [None, ORGANIZATION])
def test_a_pass_is_exact_whoever_shares_it(
    database: Database, worker: psycopg.Connection, callers: int, organization_id: UUID | None
) -> None:
    """Everybody is evaluated and notified once; about as many pages as one caller needs; and the figures say so."""
    ids = new_quiet(database, 3_000)
    pages = share(database, callers, organization_id=organization_id)
    assert notified(worker) == ids
    assert sum(page["evaluated"] for page in pages) == 3_000
    assert kept(worker, organization_id) == (False, 3_000, 3_000, 3_000, 0)
    # Each range has a page of 40 and one of the rest; whoever is told that the pass is over, is told once.
    served = Counter(page["evaluated"] > 0 for page in pages)[True]
    assert 58 <= served <= 130
    assert [page["pass_number"] for page in pages if page["next_after"] is None] == [1] * callers
    assert ranges(worker) == []


def test_the_next_pass_counts_anew(database: Database, worker: psycopg.Connection) -> None:
    """Whoever is held is counted as skipped, and nothing of the pass before."""
    new_quiet(database, 1_000)
    share(database, 2)
    pages = share(database, 2, number=2)
    assert sum(page["skipped"].get("cooldown", 0) for page in pages) == 1_000
    assert kept(worker) == (False, 1_000, 1_000, 0, 1_000)


def test_callers_evaluate_at_once(database: Database, worker: psycopg.Connection) -> None:
    """A caller takes another range than those in hand, and waits for none of them."""
    ids = new_quiet(database, 1_000)
    cut(worker)
    worker.execute("set lock_timeout = '1s'")
    with database.connect() as other, database.connect() as third:
        for busy in (other, third):
            busy.autocommit = False
            assert next_page(busy, 40)["claimed"] == 40
        assert next_page(worker, 40)["claimed"] == 40
        # What is not committed is not counted.
        assert kept(worker) == (True, 40, 40, 40, 0)
        other.commit()
        third.rollback()
    assert kept(worker)[1] == 80
    worker.execute("reset lock_timeout")
    share(database, 1)
    assert notified(worker) == ids
    assert kept(worker) == (False, 1_000, 1_000, 1_000, 0)


def test_who_finds_all_in_other_hands_is_told_so_at_once(database: Database, worker: psycopg.Connection) -> None:
    """A page of nobody, of a pass that is not over; also while another one begins it."""
    new_quiet(database, 30)
    worker.execute("set lock_timeout = '1s'")
    with database.connect() as other:
        other.autocommit = False
        for claimed in (10, 20):
            assert next_page(other, 10 if claimed == 10 else 100)["claimed"] == claimed
            page = next_page(worker, 10)
            assert (page["evaluated"], page["in_other_hands"]) == (0, True)
            assert page["next_after"] is not None
            other.commit()
    worker.execute("reset lock_timeout")
    assert kept(worker) == (False, 30, 30, 30, 0)


def test_killed_sessions_lose_and_double_nothing(database: Database, worker: psycopg.Connection) -> None:
    """Eight callers whose sessions die in mid-page, dozens of them: the others take over, and the figures stay true."""
    ids = new_quiet(database, 2_000)
    over = threading.Event()

    def kill() -> int:
        killed = 0
        with database.connect(role=None) as owner:
            while not over.is_set() and killed < 40:
                time.sleep(0.02)
                row = owner.execute(
                    "select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity"
                    " where datname = current_database() and state = 'active' and wait_event = 'PgSleep'"
                    " limit 1) as victim"
                ).fetchone()
                assert row is not None
                killed += row[0]
        return killed

    with dawdling(database, 0.03), ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill)
        try:
            share(database, 8)
        finally:
            over.set()
        assert killing.result(10) > 10
    assert notified(worker) == ids
    assert kept(worker) == (False, 2_000, 2_000, 2_000, 0)


def test_a_pass_goes_on_where_it_stood(database: Database, worker: psycopg.Connection) -> None:
    """Pages of any size, hours apart: each range remembers its place."""
    ids = new_quiet(database, 1_000)
    for limit in (7, 1, 33, 500, 12):
        next_page(worker, limit)
    under_way, evaluated, *_ = kept(worker)
    assert under_way
    assert 0 < evaluated < 1_000
    share(database, 2, limits=(1_000, 3, 20))
    assert notified(worker) == ids
    assert kept(worker) == (False, 1_000, 1_000, 1_000, 0)


def test_who_comes_and_goes_meanwhile_harms_no_figure(database: Database, worker: psycopg.Connection) -> None:
    """Mentors before, between and after all bounds come and go: who is there all the time is evaluated once."""
    ids = new_quiet(database, 1_000)
    cut(worker)
    next_page(worker, 40)
    gone = ids[::10]
    worker.execute("delete from public.peer_mentors where user_id = any (%s)", [gone])
    last = next(place for _, place, upto in ranges(worker) if upto is None and place is not None)
    missed = UUID(int=last.int - 1)
    more = quiet(database, [UUID(int=1), UUID(int=2**127 + 1), UUID(int=2**128 - 1)])
    quiet(database, [missed])
    pages = share(database, 3)
    told = notified(worker)
    assert len(told) == len(set(told))
    assert set(told) >= set(ids) - set(gone)
    assert set(told) >= set(more)
    # The last range is served first: whoever comes behind its place is the next pass's.
    assert missed not in told
    assert kept(worker)[3] == len(told) == 40 + sum(page["claimed"] for page in pages)
    share(database, 2, number=2)
    assert set(notified(worker)) == {*told, missed}


@pytest.mark.parametrize("mentors", [0, 1, RANGE, 2 * RANGE])
def test_few_mentors_are_one_page(database: Database, worker: psycopg.Connection, mentors: int) -> None:
    """As many requests as one page needs: nothing is cut that is not worth it."""
    new_quiet(database, mentors)
    for organization_id in (None, ORGANIZATION):
        page = next_page(worker, 1_000, organization_id=organization_id)
        assert (page["evaluated"], page["next_after"], page["pass_number"]) == (mentors, None, 1)
    assert len(notified(worker)) == mentors


@pytest.mark.parametrize("organization_id", [None, ORGANIZATION])
@pytest.mark.parametrize("mentors", [2 * RANGE + 10, 1_000, 5_000])
def test_ids_in_a_row_are_cut_evenly(
    database: Database, worker: psycopg.Connection, organization_id: UUID | None, mentors: int
) -> None:
    """Without statistics, whatever the ids: each range but the last is as large as the others."""
    quiet(database, in_a_row(mentors))
    sizes = cut(worker, organization_id)
    assert sum(sizes) == mentors
    assert min(2, mentors // 100) <= len(sizes) <= 255
    assert max(sizes[:-1]) - min(sizes[:-1]) <= 1
    assert sizes[-1] <= 2 * sizes[0]


def test_many_mentors_are_not_many_ranges(database: Database, worker: psycopg.Connection) -> None:
    """However many there are: ranges are put together two by two, and stay about as large as each other."""
    set_range_size(database, 8)
    try:
        quiet(database, in_a_row(5_000))
        sizes = cut(worker)
    finally:
        set_range_size(database, RANGE)
    assert 128 <= len(sizes) <= 255
    assert max(sizes[:-1]) <= 1.2 * min(sizes[:-1])


@pytest.mark.parametrize("renamed", [False, True])
def test_statistics_of_today_cut_a_large_population(
    database: Database, worker: psycopg.Connection, *, renamed: bool
) -> None:
    """Also behind a view of the app's own, whose column has another name."""
    ids = quiet(database, in_a_row(3_000))
    with database.connect(role=None) as owner:
        if renamed:
            owner.execute('alter table public.peer_mentors rename column user_id to "Person"')
        try:
            owner.execute("analyze public.peer_mentors")
            row = owner.execute(
                "select histogram_bounds::text::uuid[] from pg_stats"
                " where tablename = 'peer_mentors' and attname in ('user_id', 'Person')"
            ).fetchone()
            assert row is not None
            bounds = [UUID(str(one)) for one in row[0]]
            next_page(worker, 100)
            drawn = [upto for _, _, upto in ranges(worker) if upto is not None]
            assert len(drawn) == 59
            assert set(drawn) <= set(bounds)
        finally:
            if renamed:
                owner.execute('alter table public.peer_mentors rename column "Person" to user_id')
    share(database, 2)
    assert notified(worker) == ids


def test_statistics_of_yesterday_are_not_trusted(database: Database, worker: psycopg.Connection) -> None:
    """Ids that came since are beyond all bounds: the mentors themselves are walked."""
    ids = in_a_row(4_000)
    quiet(database, ids[:1_000])
    with database.connect(role=None) as owner:
        owner.execute("analyze public.peer_mentors")
    quiet(database, ids[1_000:])
    with database.connect(role=None) as owner:
        owner.execute("select pg_stat_force_next_flush()")
    sizes = cut(worker)
    assert max(sizes) <= 2 * min(sizes)
    assert len(sizes) >= 32


def test_the_space_of_ids_is_the_last_resort(postgres_server: PostgresServer, migrated: str) -> None:
    """Too many to be walked, and no statistics: equal parts of what lies between the first and the last."""
    with ranged_database(postgres_server, "id_space", migrated, 1) as database, database.connect() as worker:
        random = new_quiet(database, 4_500)
        with database.connect(role=None) as owner:
            owner.execute("alter table public.peer_mentors alter column user_id set statistics 0")
            owner.execute("analyze public.peer_mentors")
        sizes = cut(worker)
        assert len(sizes) == 128
        assert sum(sizes) == 4_500
        assert max(sizes) < 120
        share(database, 2, limits=(400,))
        assert notified(worker) == random


def test_a_run_takes_part_in_one_pass(database: Database, worker: psycopg.Connection) -> None:
    """Who comes when the pass is over is told so, and begins no other one; without a number the next one begins."""
    new_quiet(database, 300)

    def begun() -> int:
        row = worker.execute("select public.scenario_begin_run(array['inactivity'])").fetchone()
        assert row is not None
        return int(row[0]["passes"][0]["pass_number"])

    assert begun() == 1
    next_page(worker, 40)
    assert begun() == 1
    share(database, 1)
    late = next_page(worker, 40, number=1)
    assert (late["evaluated"], late["next_after"], late["in_other_hands"]) == (0, None, False)
    assert ranges(worker) == []
    assert begun() == 2
    assert next_page(worker, 40)["pass_number"] == 2
    # Nor does it take a page of the next one, which is under way.
    assert next_page(worker, 40, number=1) == late


def test_a_run_that_only_cuts_owes_no_page(database: Database, worker: psycopg.Connection) -> None:
    """The pages of the next one are not halved for it."""
    new_quiet(database, 300)
    worker.execute("select public.scenario_begin_run(array['inactivity'])")
    cut(worker)
    owed = "select pass_page_owed_since from public.scenario_evaluation_config where scenario_type = 'inactivity'"
    assert worker.execute(owed).fetchone() == (None,)


def test_a_pass_ends_though_its_settings_are_locked(database: Database, worker: psycopg.Connection) -> None:
    """The last page waits for nobody: the next call ends the pass."""
    new_quiet(database, 30)
    with database.connect() as other:
        next_page(worker, 20)
        other.autocommit = False
        configure(other, "inactivity", "priority", 4)
        worker.execute("set lock_timeout = '1s'")
        page = next_page(worker, 20)
        assert page["evaluated"] == 10
        assert page["next_after"] is not None
        assert next_page(worker, 20)["in_other_hands"]
        assert kept(worker) == (True, 30, 30, 30, 0)
        other.commit()
    worker.execute("reset lock_timeout")
    page = next_page(worker, 20, number=1)
    assert (page["evaluated"], page["next_after"]) == (0, None)
    assert kept(worker) == (False, 30, 30, 30, 0)


def test_two_who_finish_the_last_ranges_at_once_end_the_pass(database: Database, worker: psycopg.Connection) -> None:
    """Neither sees the other's commit: the pass is ended all the same, and once."""
    new_quiet(database, 120)
    cut(worker)
    with database.connect() as one, database.connect() as other:
        for busy in (one, other):
            busy.autocommit = False
            assert next_page(busy, 100)["next_after"] is not None
        one.commit()
        other.commit()
    assert kept(worker)[0]
    assert next_page(worker, 100, number=1)["next_after"] is None
    assert kept(worker) == (False, 120, 120, 120, 0)


def test_settings_may_be_deleted_while_a_page_runs(database: Database, worker: psycopg.Connection) -> None:
    """Whoever deletes them waits for the page, and no deadlock comes of it; the next page makes them anew."""
    ids = new_quiet(database, 300)
    # Some are left out: their page writes that down beside its range.
    insert_notifications(worker, ids[::2], delivery_status="sent", triggered_at=ago("5 days"))
    next_page(worker, 40, organization_id=ORGANIZATION)
    with dawdling(database, 0.6), database.connect() as busy, ThreadPoolExecutor(1) as pool:
        turning = pool.submit(next_page, busy, 40, None, ORGANIZATION)
        time.sleep(0.2)
        deleted = worker.execute("delete from public.scenario_evaluation_config where organization_id is not null")
        assert deleted.rowcount == 1
        assert turning.result(5)["claimed"] > 0
    assert ranges(worker) == []
    share(database, 2, organization_id=ORGANIZATION)
    assert kept(worker, ORGANIZATION)[:2] == (False, 300)


def test_whom_a_shared_pass_left_out_is_kept_once(database: Database, worker: psycopg.Connection) -> None:
    """Pages at once add up: each page a row of its own, and one row in the end."""
    new_quiet(database, 1_000)
    share(database, 4)
    share(database, 4, number=2)
    row = worker.execute("select public.scenario_get_left_out()").fetchone()
    assert row is not None
    (told,) = (one["left_out"] for one in row[0]["passes"] if one["scenario_type"] == "inactivity")
    assert told == [{"reason": "cooldown", "mentors": 1_000}]
    assert worker.execute("select count(*) from scenario_private.left_out").fetchone() == (1,)
