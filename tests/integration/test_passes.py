"""Which scenario a run begins with, and how large its pages are: what the database remembers from run to run."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from tests.integration.database import Database
from tests.integration.evaluation import KINDS, next_page
from tests.rows import ORGANIZATION


@pytest.fixture
def database(emptied: Database) -> Database:
    """Keep one database for all tests, emptied after each."""
    return emptied


def begin(
    worker: psycopg.Connection, kinds: list[str] | None = None, organization_id: UUID | None = None
) -> list[dict[str, Any]]:
    """Begin a run."""
    row = worker.execute("select public.scenario_begin_run(%s, %s)", [kinds, organization_id]).fetchone()
    assert row is not None
    passes: list[dict[str, Any]] = row[0]["passes"]
    return passes


def order(passes: list[dict[str, Any]]) -> list[str]:
    """Return the scenarios in the order in which a run serves them."""
    return [one["scenario_type"] for one in sorted(passes, key=lambda one: one["place"])]


def size_of(worker: psycopg.Connection, kind: str = "inactivity") -> int | None:
    """Read the size that the scenario's pages have."""
    (size,) = worker.execute(
        "select pass_page_size from public.scenario_evaluation_config"
        " where scenario_type = %s and organization_id is null",
        [kind],
    ).fetchall()[0]
    return None if size is None else int(size)


def wait_a_moment(worker: psycopg.Connection) -> None:
    """Let the runs of before be longer ago than a request takes to come."""
    worker.execute(
        "update public.scenario_evaluation_config"
        " set pass_page_owed_since = pass_page_owed_since - interval '2 seconds'"
    )


@pytest.mark.parametrize("organization_id", [None, ORGANIZATION])
def test_runs_without_a_page_begin_with_each_scenario_in_turn(
    worker: psycopg.Connection, organization_id: UUID | None
) -> None:
    """Whoever was the first of a run comes last in the next one, even if no page came of it."""
    firsts = [order(begin(worker, None, organization_id)) for _ in range(5)]
    assert firsts[0] == [*KINDS]
    assert [one[0] for one in firsts] == [*KINDS, KINDS[0]]
    assert firsts[1] == [*KINDS[1:], KINDS[0]]


def test_who_had_a_page_waits_for_those_who_had_none(worker: psycopg.Connection) -> None:
    """A page counts as being served, whoever asked for it."""
    next_page(worker, kind=KINDS[0])
    next_page(worker, kind=KINDS[2])
    assert order(begin(worker)) == [KINDS[1], KINDS[3], KINDS[0], KINDS[2]]


def test_the_answer_is_in_the_order_of_the_request(worker: psycopg.Connection) -> None:
    """Only the places say who is first; a repetition of the call changes them, not the order of the answer."""
    kinds = [KINDS[2], KINDS[0]]
    answers = [begin(worker, kinds) for _ in range(2)]
    assert [[one["scenario_type"] for one in answer] for answer in answers] == [kinds, kinds]
    assert [[one["place"] for one in answer] for answer in answers] == [[1, 2], [2, 1]]
    assert begin(worker, []) == []


def test_the_turns_of_an_organization_are_its_own(worker: psycopg.Connection) -> None:
    """A run over all organizations changes nothing for one organization's."""
    begin(worker)
    assert order(begin(worker, None, ORGANIZATION))[0] == KINDS[0]
    assert order(begin(worker))[0] == KINDS[1]


def test_a_scenario_whose_page_is_running_elsewhere_is_not_the_first(
    database: Database, worker: psycopg.Connection
) -> None:
    """Two engines begin with different scenarios, and neither waits for the other."""
    with database.connect() as other:
        other.autocommit = False
        next_page(other, kind=KINDS[0])
        worker.execute("set lock_timeout = '1s'")
        try:
            assert order(begin(worker))[0] == KINDS[1]
            assert order(begin(worker, [KINDS[0]])) == [KINDS[0]]
        finally:
            worker.execute("reset lock_timeout")
        other.rollback()


def test_a_type_without_settings_has_a_place_as_well(worker: psycopg.Connection) -> None:
    """Its page is refused, not the run; and nothing is written for it."""
    for organization_id in (None, ORGANIZATION):
        passes = begin(worker, ["birthday", KINDS[0]], organization_id)
        assert sorted(one["place"] for one in passes) == [1, 2]
        assert order(passes)[0] == KINDS[0]


@pytest.mark.parametrize("organization_id", [None, ORGANIZATION])
def test_a_size_that_was_done_in_time_is_kept(
    database: Database, worker: psycopg.Connection, organization_id: UUID | None
) -> None:
    """A whole page's size is the next run's; the rest at the end of a pass proves no larger one."""
    database.new_mentors(5, ORGANIZATION)
    for limit, kept in ((2, 2), (1, 1), (100, 1), (3, 3), (2, 2)):
        next_page(worker, limit, organization_id)
        (one,) = begin(worker, ["inactivity"], organization_id)
        assert one["page_size"] == kept


def test_a_first_page_that_is_the_whole_pass_is_kept(worker: psycopg.Connection) -> None:
    """Nothing better is known."""
    next_page(worker, 1000)
    assert size_of(worker) == 1000


def test_a_run_of_which_no_page_came_halves_the_pages(database: Database, worker: psycopg.Connection) -> None:
    """Whatever ended it, a timeout or a kill: run by run down to one mentor, until a page comes."""
    database.new_mentors(300, ORGANIZATION)
    sizes = []
    for _ in range(12):
        sizes.append(begin(worker, ["inactivity"])[0]["page_size"])
        wait_a_moment(worker)
    assert sizes == [None, 500, 250, 125, 62, 31, 15, 7, 3, 1, 1, 1]
    next_page(worker, 200)
    assert [begin(worker, ["inactivity"])[0]["page_size"] for _ in range(2)] == [200, 200]


def test_runs_that_begin_together_halve_nothing(worker: psycopg.Connection) -> None:
    """The first one's page is on its way."""
    assert [begin(worker, ["inactivity"])[0]["page_size"] for _ in range(8)] == [None] * 8


def test_only_the_first_owes_a_page(worker: psycopg.Connection) -> None:
    """Those whom a run did not come to are not made smaller."""
    begin(worker)
    wait_a_moment(worker)
    assert {one["scenario_type"]: one["page_size"] for one in begin(worker)} == dict.fromkeys(KINDS)
    wait_a_moment(worker)
    begin(worker, [KINDS[0]])
    assert [size_of(worker, kind) for kind in KINDS] == [500, None, None, None]


def test_a_user_begins_no_run(database: Database) -> None:
    """It is the worker's."""
    with database.connect("authenticated") as user, pytest.raises(errors.InsufficientPrivilege):
        user.execute("select public.scenario_begin_run()")
