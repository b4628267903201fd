"""Pages and passes on a real PostgreSQL: nobody twice, nobody left out, whoever dies in between."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from tests.integration.database import Database
from tests.integration.evaluation import (
    KINDS,
    OTHER_ORGANIZATION,
    act,
    configure,
    evaluate,
    explain,
    next_page,
)
from tests.rows import ORGANIZATION, ago, insert_activities, insert_mentors

_SEED = Path(__file__).parents[2] / "supabase" / "seed.sql"
_SEED_ORGANIZATION = UUID("5ca1ab1e-0000-4000-8000-000000000001")
_TABLES = ("scenario_notifications", "scenario_evaluation_config", "peer_mentors", "activities", "certifications")


@pytest.fixture
def database(emptied: Database) -> Database:
    """Keep one database for all tests, emptied after each."""
    return emptied


def quiet_mentors(database: Database, number: int, organization_id: UUID = ORGANIZATION) -> list[UUID]:
    """Make mentors who are due for inactivity, in the order of their ids."""
    ids = sorted(database.new_mentors(number, organization_id))
    with database.connect() as worker:
        insert_activities(worker, ids, ago("40 days"), organization_id=organization_id)
    return ids


def notified(worker: psycopg.Connection) -> list[UUID]:
    """Read who was notified, in the order of their ids, as often as they were."""
    return [row[0] for row in worker.execute("select user_id from public.scenario_notifications order by 1").fetchall()]


def pass_of(worker: psycopg.Connection, organization_id: UUID | None = None) -> dict[str, Any]:
    """Read what is kept of the pass over inactivity."""
    row = worker.execute(
        "select to_jsonb(config) from public.scenario_evaluation_config as config"
        " where scenario_type = 'inactivity' and organization_id is not distinct from %s",
        [organization_id],
    ).fetchone()
    assert row is not None
    return {key.removeprefix("pass_"): value for key, value in row[0].items()}


def fingerprint(worker: psycopg.Connection) -> list[Any]:
    """Read the versions of all rows: a write of any kind changes them."""
    rows = []
    for table in _TABLES:
        versions = f"select array_agg((xmin::text, ctid::text)::text order by ctid) from public.{table}"  # noqa: S608
        rows.append(worker.execute(versions.encode()).fetchone())
    return rows


@pytest.mark.parametrize("limit", [1, 3, 4, 11, 12, 100])
def test_pages_come_to_everybody_once(database: Database, worker: psycopg.Connection, limit: int) -> None:
    """The union of all pages is every mentor, each claimed once, and only the last page has no next one."""
    ids = quiet_mentors(database, 12)
    pages: list[dict[str, Any]] = []
    after = None
    while not pages or after is not None:
        pages.append(evaluate(worker, "inactivity", after=after, limit=limit))
        after = pages[-1]["next_after"]
    assert sum(page["evaluated"] for page in pages) == sum(page["claimed"] for page in pages) == 12
    assert [page["next_after"] for page in pages[:-1]] == [str(ids[last]) for last in range(limit - 1, 12, limit)]
    assert notified(worker) == ids


def test_mentors_who_are_not_active_fill_no_page(database: Database, worker: psycopg.Connection) -> None:
    """A page has as many active mentors as were asked for, however many others lie between them."""
    quiet_mentors(database, 6)
    database.new_mentors(30, ORGANIZATION, is_active=False)
    assert [evaluate(worker, "inactivity", scope, limit=6)["evaluated"] for scope in (None, ORGANIZATION)] == [6, 6]


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_a_users_memberships_are_never_split(database: Database, worker: psycopg.Connection, limit: int) -> None:
    """A page is longer rather than to end between two organizations of one mentor."""
    ids = quiet_mentors(database, 4)
    for number in range(1, 4):
        insert_mentors(worker, ids, organization_id=UUID(int=100 + number))
    evaluated: list[int] = []
    after = None
    while not evaluated or after is not None:
        page = evaluate(worker, "inactivity", after=after, limit=limit)
        evaluated.append(page["evaluated"])
        assert page["skipped"].get("duplicate_in_batch", 0) == page["due"] - page["claimed"]
        after = page["next_after"]
    assert {count % 4 for count in evaluated} == {0}
    assert sum(evaluated) == 16
    assert notified(worker) == ids


def test_a_page_is_of_one_organization(database: Database, worker: psycopg.Connection) -> None:
    """Mentors of others are neither evaluated nor counted by the limit."""
    ids = quiet_mentors(database, 5)
    quiet_mentors(database, 5, OTHER_ORGANIZATION)
    first = evaluate(worker, "inactivity", ORGANIZATION, limit=3)
    second = evaluate(worker, "inactivity", ORGANIZATION, after=first["next_after"], limit=3)
    assert (first["evaluated"], first["next_after"], second["evaluated"], second["next_after"]) == (
        3,
        str(ids[2]),
        2,
        None,
    )
    assert notified(worker) == ids


def test_a_repeated_evaluation_claims_nothing(database: Database, worker: psycopg.Connection) -> None:
    """Whoever is notified is in cooldown: due still, and skipped."""
    quiet_mentors(database, 5)
    assert evaluate(worker, "inactivity")["claimed"] == 5
    page = evaluate(worker, "inactivity")
    assert (page["due"], page["claimed"], page["skipped"]) == (5, 0, {"cooldown": 5})


def test_history_is_counted_and_not_told(database: Database, worker: psycopg.Connection) -> None:
    """Who went quiet longer than due_within ago is left out of what is due, and counted; the call may reach further."""
    quiet = quiet_mentors(database, 3)
    long_gone = database.new_mentors(2, ORGANIZATION)
    insert_activities(worker, long_gone, ago("400 days"))
    whole: dict[str, object] = {"next_after": None, "due_mentors": []}
    nobody: dict[str, object] = {"evaluated": 5, "due": 3, "claimed": 3, "history": 2, "skipped": {}, **whole}
    assert evaluate(worker, "inactivity", dry_run=True) == nobody
    assert next_page(worker, 100) == nobody
    kept = pass_of(worker)
    assert [kept[name] for name in ("evaluated", "due", "claimed", "skipped", "history")] == [5, 3, 3, 0, 2]
    assert notified(worker) == quiet

    everybody: dict[str, object] = {
        "evaluated": 5,
        "due": 5,
        "claimed": 2,
        "history": 0,
        "skipped": {"cooldown": 3},
        **whole,
    }
    assert evaluate(worker, "inactivity", dry_run=True, due_within=timedelta(days=371)) == everybody
    call = "select public.scenario_evaluate_next_page('inactivity', null, 100, %s)"
    assert worker.execute(call, [371 * 86_400]).fetchone() == (everybody,)
    assert notified(worker) == sorted([*quiet, *long_gone])


def test_a_pass_adds_up_its_history(database: Database, worker: psycopg.Connection) -> None:
    """Page by page, and from nothing in the next pass."""
    insert_activities(worker, database.new_mentors(5, ORGANIZATION), ago("400 days"))
    kept = [(next_page(worker, 2)["history"], pass_of(worker)["history"]) for _ in range(4)]
    assert kept == [(2, 2), (2, 4), (1, 5), (2, 2)]


@pytest.mark.parametrize("seconds", [-1, 36_525 * 86_400 + 1, float("nan"), float("inf")])
def test_a_due_within_out_of_bounds_is_refused(worker: psycopg.Connection, seconds: float) -> None:
    """From none to a hundred years, in every function."""
    for call in ("evaluate('inactivity', null, null, 10, false, %s)", "evaluate_next_page('inactivity', null, 10, %s)"):
        with pytest.raises(psycopg.Error, match="expected p_due_within_seconds from 0 to") as refused:
            worker.execute(f"select public.scenario_{call}".encode(), [seconds])
        assert refused.value.sqlstate == "SR001"


@pytest.mark.parametrize("limit", [None, 0, -1, 100_001])
def test_a_limit_out_of_bounds_is_refused(worker: psycopg.Connection, limit: int | None) -> None:
    """A page is of 1 to 100,000 memberships, in every function."""
    for call in ("evaluate('inactivity', null, null, %s)", "evaluate_next_page('inactivity', null, %s)"):
        with pytest.raises(psycopg.Error, match="expected p_limit from 1 to 100000, got") as refused:
            worker.execute(f"select public.scenario_{call}".encode(), [limit])
        assert refused.value.sqlstate == "SR001"


@pytest.mark.parametrize("kind", [None, "", "birthday", "inactivity'; drop table public.activities; --"])
def test_an_unknown_scenario_type_is_refused(worker: psycopg.Connection, kind: str | None) -> None:
    """Nothing but a type of the CHECK's list gets as far as a query."""
    for function in ("scenario_evaluate", "scenario_evaluate_next_page"):
        with pytest.raises(psycopg.Error, match="known scenario type") as refused:
            worker.execute(f"select public.{function}(%s)".encode(), [kind])
        assert refused.value.sqlstate == "SR004"


# Passes ------------------------------------------------------------------


@pytest.mark.parametrize("organization_id", [None, ORGANIZATION])
def test_a_pass_keeps_its_place_and_its_figures(
    database: Database, worker: psycopg.Connection, organization_id: UUID | None
) -> None:
    """Every page adds up and moves the resume point; the last one ends the pass, and the next starts afresh."""
    ids = quiet_mentors(database, 5)
    act(worker, ids[1], "1 day")
    for place, figures in ((ids[1], (2, 1, 1, 0)), (ids[3], (4, 3, 3, 0))):
        next_page(worker, 2, organization_id)
        kept = pass_of(worker, organization_id)
        assert (kept["evaluated"], kept["due"], kept["claimed"], kept["skipped"]) == figures
        assert (kept["resume_after"], kept["finished_at"]) == (str(place), None)
    assert next_page(worker, 2, organization_id)["next_after"] is None
    kept = pass_of(worker, organization_id)
    assert (kept["evaluated"], kept["due"], kept["claimed"], kept["resume_after"]) == (5, 4, 4, None)
    finished_at = kept["finished_at"]
    assert finished_at is not None
    next_page(worker, 2, organization_id)
    kept = pass_of(worker, organization_id)
    assert (kept["evaluated"], kept["due"], kept["claimed"], kept["skipped"]) == (2, 1, 0, 1)
    assert (kept["finished_at"], kept["resume_after"]) == (finished_at, str(ids[1]))


def test_passes_of_organizations_and_of_all_are_kept_apart(database: Database, worker: psycopg.Connection) -> None:
    """Each scope has a place of its own."""
    ids = quiet_mentors(database, 4)
    next_page(worker, 1, ORGANIZATION)
    next_page(worker, 3)
    assert pass_of(worker, ORGANIZATION)["resume_after"] == str(ids[0])
    assert pass_of(worker)["resume_after"] == str(ids[2])


def test_a_session_killed_in_mid_page_loses_and_doubles_nothing(database: Database, worker: psycopg.Connection) -> None:
    """Page and place are one transaction: the pass goes on where the last whole page ended."""
    ids = quiet_mentors(database, 20)
    next_page(worker, 5)
    doomed = database.connect()
    doomed.autocommit = False
    assert next_page(doomed, 5)["claimed"] == 5
    with database.connect(role=None) as owner:
        owner.execute("select pg_terminate_backend(%s)", [doomed.info.backend_pid])
        while owner.execute("select 1 from pg_stat_activity where pid = %s", [doomed.info.backend_pid]).fetchone():
            time.sleep(0.01)
    doomed.close()
    assert pass_of(worker)["resume_after"] == str(ids[4])
    while next_page(worker, 5)["next_after"] is not None:
        pass
    assert notified(worker) == ids
    assert pass_of(worker)["claimed"] == 20


def test_callers_share_a_pass(database: Database, worker: psycopg.Connection) -> None:
    """Four callers at once take turns, page by page: nobody is evaluated twice in one pass, and nobody left out."""
    ids = quiet_mentors(database, 120)
    barrier = threading.Barrier(4)

    def turn_pages(pages: int) -> list[dict[str, Any]]:
        with database.connect() as connection:
            barrier.wait()
            return [next_page(connection, 7) for _ in range(pages)]

    with ThreadPoolExecutor(4) as pool:
        pages = [page for turned in pool.map(turn_pages, [5, 4, 4, 5]) for page in turned]
    assert sum(page["evaluated"] for page in pages) == 120
    assert Counter(page["next_after"] is None for page in pages) == {False: 17, True: 1}
    assert notified(worker) == ids
    kept = pass_of(worker)
    assert (kept["evaluated"], kept["claimed"], kept["resume_after"]) == (120, 120, None)


def test_pages_that_overlap_at_once_notify_once(database: Database, worker: psycopg.Connection) -> None:
    """Evaluations that know nothing of each other are refused by the cooldown, whoever comes first."""
    ids = quiet_mentors(database, 60)
    barrier = threading.Barrier(4)

    def run(number: int) -> int:
        with database.connect() as connection:
            barrier.wait()
            page = evaluate(connection, "inactivity", after=ids[number], limit=50)
            assert page["due"] == page["claimed"] + sum(page["skipped"].values())
            return int(page["claimed"])

    with ThreadPoolExecutor(4) as pool:
        claimed = list(pool.map(run, range(4)))
    assert sum(claimed) == len(notified(worker)) == len(set(notified(worker)))
    assert notified(worker) == ids[1:54]


def test_a_mentor_deleted_in_mid_run_is_passed_over(database: Database, worker: psycopg.Connection) -> None:
    """Neither a page nor a pass minds: not the mentor it stopped at, nor one that was still to come."""
    ids = quiet_mentors(database, 6)
    assert next_page(worker, 2)["next_after"] == str(ids[1])
    with database.connect(role=None) as owner:
        owner.execute("delete from auth.users where id = any(%s)", [[ids[1], ids[2]]])
    page = next_page(worker, 2)
    assert (page["claimed"], page["next_after"]) == (2, str(ids[4]))
    assert next_page(worker, 2)["claimed"] == 1
    assert notified(worker) == [ids[0], *ids[3:]]


def test_a_user_deleted_while_a_page_runs_is_skipped(database: Database, worker: psycopg.Connection) -> None:
    """A delete that commits between finding and claiming costs that user's notification alone."""
    ids = quiet_mentors(database, 3)
    with database.connect(role=None) as owner, ThreadPoolExecutor(1) as pool:
        owner.autocommit = False
        owner.execute("delete from auth.users where id = %s", [ids[1]])
        running = pool.submit(evaluate, worker, "inactivity")
        with database.connect(role=None) as watcher:
            deadline = time.monotonic() + 20
            waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and pid = %s"
            while not watcher.execute(waiting, [worker.info.backend_pid]).fetchone():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        owner.commit()
        page = running.result(20)
    assert (page["due"], page["claimed"], page["skipped"]) == (3, 2, {"unknown_user": 1})


# Dry runs, and the sample ------------------------------------------------


def test_a_dry_run_writes_nothing(database: Database, worker: psycopg.Connection) -> None:
    """Not a row changes, not even where the pass stands; a read-only transaction would do."""
    act(worker, quiet_mentors(database, 3)[0], "1 day")
    before = fingerprint(worker)
    for kind in KINDS:
        evaluate(worker, kind, limit=2, dry_run=True)
        evaluate(worker, kind, ORGANIZATION, dry_run=True)
    assert fingerprint(worker) == before
    with worker.transaction():
        worker.execute("set transaction read only")
        assert evaluate(worker, "inactivity", dry_run=True)["claimed"] == 2
        with pytest.raises(errors.ReadOnlySqlTransaction), worker.transaction():
            evaluate(worker, "inactivity")


def test_a_dry_run_names_who_is_due(database: Database, worker: psycopg.Connection) -> None:
    """Who would be claimed for, in her organization and why; not who is banned, in a cooldown, or not due."""
    ids = quiet_mentors(database, 5)
    act(worker, ids[0], "1 day")
    with database.connect(role=None) as owner:
        owner.execute("update auth.users set banned_until = 'infinity' where id = %s", [ids[1]])
        owner.execute(
            "update public.peer_mentors set organization_id = %s where user_id = %s", [OTHER_ORGANIZATION, ids[3]]
        )
    evaluate(worker, "inactivity", after=ids[1], limit=1)
    page = evaluate(worker, "inactivity", dry_run=True, list_due=True)
    assert [(one["user_id"], one["organization_id"], one["milestone_value"]) for one in page["due_mentors"]] == [
        (str(ids[3]), str(OTHER_ORGANIZATION), None),
        (str(ids[4]), str(ORGANIZATION), None),
    ]
    assert page["claimed"] == 2
    assert {one["finding"] for one in page["due_mentors"]} == {"inactive"}
    assert evaluate(worker, "inactivity", dry_run=True)["due_mentors"] == []
    assert evaluate(worker, "inactivity", after=ids[4], dry_run=True, list_due=True)["due_mentors"] == []


def test_a_dry_run_names_the_milestone(database: Database, worker: psycopg.Connection) -> None:
    """The milestone that she would be told of."""
    user_id = database.new_mentors(1, ORGANIZATION)[0]
    insert_activities(worker, [user_id] * 10, ago("1 day"))
    page = evaluate(worker, "milestone", dry_run=True, list_due=True)
    assert [(one["user_id"], one["milestone_value"]) for one in page["due_mentors"]] == [(str(user_id), 10)]


def test_only_a_dry_run_names_who_is_due(worker: psycopg.Connection) -> None:
    """A claim answers in counts: p_list without p_dry_run is refused, and a null is too."""
    for dry_run, list_due in ((False, True), (True, None)):
        with pytest.raises(psycopg.DatabaseError) as refused:
            evaluate(worker, "inactivity", dry_run=dry_run, list_due=list_due)
        assert refused.value.sqlstate == "SR001"


def test_a_dry_run_knows_the_cooldown(database: Database, worker: psycopg.Connection) -> None:
    """Who was notified is due and skipped, in a dry run as well."""
    ids = quiet_mentors(database, 3)
    assert evaluate(worker, "inactivity", limit=1)["claimed"] == 1
    assert evaluate(worker, "inactivity", dry_run=True)["skipped"] == {"cooldown": 1}
    assert [explain(worker, user_id, "inactivity")["is_due"] for user_id in ids] == [False, True, True]


def test_the_sample_of_500_mentors_is_evaluated_once(database: Database, worker: psycopg.Connection) -> None:
    """On the seed all four scenarios find whom they should; dry runs say so before, a second run finds nobody more."""
    with database.connect(role=None) as owner:
        owner.execute(_SEED.read_bytes())
    planned = {kind: evaluate(worker, kind, limit=90, dry_run=True)["claimed"] for kind in KINDS}
    assert planned == {kind: evaluate(worker, kind, limit=90)["claimed"] for kind in KINDS}
    claimed = {kind: evaluate(worker, kind, _SEED_ORGANIZATION)["claimed"] + planned[kind] for kind in KINDS}
    # 75 quiet and 50 returned mentors of 500, less each 50th, who is not active; a third hold a certificate. Of the
    # quiet ones a third went quiet within due_within. Of the busy ones' milestones those are no history that one of the
    # last ten activities reached; of those who have just come back, that the very last one reached.
    row = worker.execute(
        """
        select
          count(*) filter (where n % 20 between 14 and 16 and n % 60 < 20),
          count(*) filter (where n % 20 between 17 and 18),
          count(*) filter (where n % 3 = 0 and n % 365 between 1 and 30),
          count(*) filter (
            where n % 20 < 14 and since between 0 and 9 or n % 20 between 17 and 18 and since = 0
          )
        from generate_series(1, 500) as n
        cross join lateral (
          select 5 + n % 60 - max(threshold) as since
          from unnest(array[10, 25, 50]) as threshold
          where threshold <= 5 + n % 60
        ) as activity
        where n % 50 <> 0
        """
    ).fetchone()
    assert row == tuple(claimed[kind] for kind in ("inactivity", "welcome_back", "certification_expiry", "milestone"))
    assert evaluate(worker, "inactivity")["history"] == 75 - claimed["inactivity"]
    assert {kind: evaluate(worker, kind)["claimed"] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    configure(worker, "milestone", "milestones", [1])
    assert evaluate(worker, "milestone")["claimed"] > 0
