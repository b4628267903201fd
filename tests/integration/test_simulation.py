"""Simulation: who would be due by other settings; by the real rules, and without a trace."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.integration.database import Database
from tests.integration.evaluation import OTHER_ORGANIZATION, act, certify, configure, evaluate
from tests.own_scenario import filled_in, write
from tests.rows import ORGANIZATION, ago, insert_mentors, insert_notification

CHANGES: list[tuple[str, str, object]] = [
    ("inactivity", "inactive_after", "21 days"),
    ("inactivity", "inactive_after", "3 days"),
    ("inactivity", "inactive_after", "100 days"),
    ("inactivity", "cooldown", "1 day"),
    ("inactivity", "due_within", "365 days"),
    ("inactivity", "max_reminders", 1),
    ("inactivity", "is_enabled", False),
    ("milestone", "milestones", [2, 3]),
    ("certification_expiry", "expires_within", "90 days"),
    ("welcome_back", "inactive_after", "8 days"),
    ("welcome_back", "returned_within", "1 day"),
]


@pytest.fixture
def mentors(database: Database, worker: psycopg.Connection) -> list[UUID]:
    """Give mentors of two organizations all kinds of histories: quiet, busy, long gone, told, muted, banned."""
    ids = database.new_mentors(12, ORGANIZATION)
    insert_mentors(worker, ids[8:], organization_id=OTHER_ORGANIZATION)
    for place, user_id in enumerate(ids):
        act(worker, user_id, f"{4 + 9 * place} days", f"{60 + 9 * place} days")
    act(worker, ids[0], "1 hour", "30 days")
    act(worker, ids[11], "3 days")
    certify(worker, ids[1], "20 days")
    certify(worker, ids[2], "60 days")
    for user_id, told in ((ids[3], "2 days"), (ids[4], "20 days"), (ids[7], "35 days")):
        insert_notification(worker, user_id, triggered_at=ago(told), delivery_status="sent", cooldown="30 days")
    worker.execute("insert into public.scenario_mutes (user_id, scenario_type) values (%s, 'inactivity')", [ids[5]])
    with database.connect(role=None) as owner:
        owner.execute("update auth.users set banned_until = 'infinity' where id = %s", [ids[6]])
    # What this organization overrides outlasts other defaults.
    configure(worker, "inactivity", "inactive_after", "40 days", OTHER_ORGANIZATION)
    return ids


def simulate(  # noqa: PLR0913, PLR0917 - the function's own arguments
    worker: psycopg.Connection,
    kind: str,
    changes: object,
    organization_id: UUID | None = None,
    after: UUID | str | None = None,
    limit: int = 10_000,
    *,
    list_due: bool = True,
) -> dict[str, Any]:
    """Simulate one page, the first one unless told otherwise."""
    row = worker.execute(
        "select public.scenario_simulate(%s, %s, %s, %s, %s, %s)",
        [kind, json.dumps(changes), organization_id, after, limit, list_due],
    ).fetchone()
    assert row is not None
    page: dict[str, Any] = row[0]
    return page


@pytest.mark.usefixtures("mentors")
@pytest.mark.parametrize("organization_id", [None, ORGANIZATION, OTHER_ORGANIZATION])
@pytest.mark.parametrize(("kind", "setting", "value"), CHANGES)
def test_it_says_what_a_dry_run_says_after_the_change(
    kind: str, setting: str, value: object, organization_id: UUID | None, worker: psycopg.Connection
) -> None:
    """Today's figures are those of a dry run, the simulated ones those of a dry run once the setting is changed."""
    page = simulate(worker, kind, {setting: value}, organization_id)
    assert page["today"] == evaluate(worker, kind, organization_id, dry_run=True, list_due=True)
    configure(worker, kind, setting, value, organization_id)
    assert page["simulated"] == evaluate(worker, kind, organization_id, dry_run=True, list_due=True)


@pytest.mark.usefixtures("mentors")
def test_the_changes_differ_from_today(worker: psycopg.Connection) -> None:
    """The mentors of these tests are such that each change shows: the comparison above compares something."""
    unseen = [
        (kind, setting, value)
        for kind, setting, value in CHANGES
        if (page := simulate(worker, kind, {setting: value}))["today"] == page["simulated"]
    ]
    assert not unseen


def test_pages_are_those_of_an_evaluation(worker: psycopg.Connection, mentors: list[UUID]) -> None:
    """Page by page the figures add up to the whole, and each page begins where the last one ended."""
    changes = {"inactive_after": "21 days"}
    whole = simulate(worker, "inactivity", changes)
    pages = [simulate(worker, "inactivity", changes, limit=5)]
    while pages[-1]["next_after"] is not None:
        assert pages[-1]["next_after"] == pages[-1]["today"]["next_after"] == pages[-1]["simulated"]["next_after"]
        pages.append(simulate(worker, "inactivity", changes, after=pages[-1]["next_after"], limit=5))
    assert len(pages) > 2
    for side in ("today", "simulated"):
        assert sum(page[side]["evaluated"] for page in pages) == whole[side]["evaluated"] == len(mentors) + 4
        assert [one for page in pages for one in page[side]["due_mentors"]] == whole[side]["due_mentors"]


def test_an_own_type_is_simulated(database: Database, tmp_path: Path) -> None:
    """By a rule of the app's own, which starts from the same settings."""
    database.run(filled_in(write(tmp_path)[0]))
    users = database.new_mentors(2, ORGANIZATION)
    database.add_activities(users[0], timedelta(days=2))
    with database.connect() as worker:
        page = simulate(worker, "first_session", {"is_enabled": False})
    assert (page["today"]["claimed"], page["simulated"]["claimed"], page["simulated"]["evaluated"]) == (1, 0, 0)


REFUSED: dict[str, tuple[str, object, str]] = {
    "no object": ("inactivity", [], "SR001"),
    "null": ("inactivity", None, "SR001"),
    "nothing": ("inactivity", {}, "SR001"),
    "no setting": ("inactivity", {"inactive_for": "21 days"}, "SR001"),
    "a figure of a pass": ("inactivity", {"pass_due": 3}, "SR001"),
    "changes nothing of who is due": ("inactivity", {"deliver_within": "1 day"}, "SR001"),
    "whose settings": ("inactivity", {"scenario_type": "milestone"}, "SR001"),
    "no such type": ("birthday", {"is_enabled": True}, "SR004"),
    "no length": ("inactivity", {"inactive_after": "long"}, "22007"),
    "negative": ("inactivity", {"inactive_after": "-1 days"}, "23514"),
    "months": ("inactivity", {"inactive_after": "1 month"}, "23514"),
    "incomplete": ("inactivity", {"inactive_after": None}, "23514"),
    "another type's": ("inactivity", {"milestones": [3]}, "23514"),
    "window longer than the gap": ("welcome_back", {"returned_within": "31 days"}, "23514"),
    "no milestones": ("milestone", {"milestones": []}, "23514"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_the_table_refuses_is_refused(fault: str, worker: psycopg.Connection) -> None:
    """With the same SQLSTATE and constraint as if the setting were changed; and what changes nothing of who is due."""
    kind, changes, code = REFUSED[fault]
    with pytest.raises(psycopg.Error) as refused:
        simulate(worker, kind, changes)
    assert refused.value.sqlstate == code
    if code == "23514":
        assert isinstance(changes, dict)
        ((setting, value),) = changes.items()
        with pytest.raises(psycopg.Error) as written:
            configure(worker, kind, setting, value)
        assert refused.value.diag.constraint_name == written.value.diag.constraint_name
        assert refused.value.diag.message_primary == written.value.diag.message_primary
    # The next call in the same session is a real one.
    assert evaluate(worker, "inactivity", dry_run=True)["evaluated"] == 0


@pytest.mark.usefixtures("mentors")
def test_an_override_that_is_taken_away_leaves_the_default(worker: psycopg.Connection) -> None:
    """Of three mentors who are quiet for 76, 85 and 94 days, 80 days call two due, and the default all three."""
    configure(worker, "inactivity", "due_within", "365 days")
    configure(worker, "inactivity", "inactive_after", "80 days", OTHER_ORGANIZATION)
    page = simulate(worker, "inactivity", {"inactive_after": None}, OTHER_ORGANIZATION)
    assert (page["today"]["due"], page["simulated"]["due"]) == (2, 3)


def everything(database: Database) -> dict[str, list[str]]:
    """Read all rows of all tables, with the transaction that wrote each, and where every sequence stands."""
    found: dict[str, list[str]] = {}
    with database.connect(role=None) as owner:
        relations = owner.execute(
            "select oid::regclass::text, relkind from pg_class where relkind in ('r', 'S')"
            " and relnamespace::regnamespace::text in ('public', 'auth', 'scenario_private', 'scenario_source')"
        ).fetchall()
        for name, kind in relations:
            columns = "t.last_value::text" if kind == "S" else "t.xmin::text || t.ctid::text || t::text"
            found[name] = sorted(row for (row,) in owner.execute(f"select {columns} from {name} as t".encode()))  # noqa: S608
    return found


@pytest.mark.usefixtures("mentors")
def test_nothing_is_left_behind(database: Database, worker: psycopg.Connection) -> None:
    """No row is new, gone or written again, no sequence has moved, and the transaction got no number of its own."""
    before = everything(database)
    with worker.transaction():
        simulate(worker, "inactivity", {"inactive_after": "21 days"})
        assert worker.execute("select pg_current_xact_id_if_assigned()").fetchone() == (None,)
        assert worker.execute("select current_setting('transaction_read_only')").fetchone() == ("off",)
        # What it still locks are relations, against being dropped or altered: nobody else waits for that.
        modes = "select distinct mode from pg_locks where pid = pg_backend_pid() and locktype <> 'virtualxid'"
        assert worker.execute(modes).fetchall() == [("AccessShareLock",)]
    assert everything(database) == before
    assert worker.execute("select current_setting('scenario_repo.simulated_settings')").fetchone() == ("",)


@pytest.mark.usefixtures("mentors")
def test_nobody_waits_for_it_and_nobody_sees_it(database: Database, worker: psycopg.Connection) -> None:
    """While the simulation's transaction is open, settings change, a pass goes on and a worker leases, at once."""
    with database.connect() as other:
        expected = evaluate(other, "inactivity", dry_run=True)
        with worker.transaction():
            page = simulate(worker, "inactivity", {"inactive_after": "3 days", "cooldown": "1 day"})
            assert page["simulated"]["claimed"] > page["today"]["claimed"]
            # In the same transaction too, what follows is real.
            assert evaluate(worker, "inactivity", dry_run=True) == expected
            other.execute("set lock_timeout = '200ms'")
            configure(other, "milestone", "milestones", [2])
            row = other.execute("select public.scenario_evaluate_next_page('inactivity')").fetchone()
            assert row is not None
            assert row[0]["claimed"] == expected["claimed"]
            leased = other.execute("select public.scenario_lease_notifications(100, 60)").fetchone()
            assert leased is not None
            assert len(leased[0]["leased"]) == expected["claimed"]


def test_it_waits_for_nobody(database: Database, worker: psycopg.Connection) -> None:
    """An open page of an evaluation, with its locks on the settings and what it has claimed, holds no simulation up."""
    (user_id,) = database.new_mentors(1, ORGANIZATION)
    act(worker, user_id, "40 days")
    with database.connect() as other, other.transaction():
        other.execute("select public.scenario_evaluate_next_page('inactivity')")
        worker.execute("set lock_timeout = '200ms'")
        # What is not committed is not seen.
        assert simulate(worker, "inactivity", {"inactive_after": "50 days"})["today"]["claimed"] == 1
    assert simulate(worker, "inactivity", {"inactive_after": "50 days"})["today"]["claimed"] == 0


def test_a_rule_that_writes_is_refused(database: Database, tmp_path: Path) -> None:
    """PostgreSQL itself sees to it that nothing is written, whatever a rule of the app's own calls."""
    migration = filled_in(write(tmp_path)[0])
    database.run(
        "create table public.app_log (line text);"
        " create function public.app_writes() returns boolean language sql volatile"
        " as 'insert into public.app_log values (''seen'') returning true';"
        " grant execute on function public.app_writes() to service_role;"
        " grant insert, select on public.app_log to service_role"
    )
    blank = "  first.activity_date >= now() - interval '7 days' as is_due,"
    assert blank in migration
    database.run(migration.replace(blank, "  public.app_writes() as is_due,"))
    database.new_mentors(1, ORGANIZATION)
    with database.connect() as worker, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        simulate(worker, "first_session", {"cooldown": "1 day"})
    with database.connect() as worker:
        assert worker.execute("select count(*) from public.app_log").fetchone() == (0,)


def test_no_real_call_reads_simulated_settings(database: Database, worker: psycopg.Connection) -> None:
    """Whoever sets them by hand is refused by every function of the API, and by the page that would claim."""
    database.new_mentors(1, ORGANIZATION)
    row = worker.execute(
        "select to_jsonb(config)::text from public.scenario_evaluation_config as config"
        " where config.scenario_type = 'inactivity'"
    ).fetchone()
    assert row is not None
    worker.execute("select set_config('scenario_repo.simulated_settings', %s, false)", row)
    functions = worker.execute(
        "select oid::regprocedure::text, pronargs from pg_proc"
        " where pronamespace = 'public'::regnamespace and proname like 'scenario\\_%'"
    ).fetchall()
    assert len(functions) > 20
    for signature, _ in functions:
        name, _, types = signature.partition("(")
        nulls = ", ".join(f"null::{kind}" for kind in types.removesuffix(")").split(","))
        with pytest.raises(psycopg.Error, match="simulated_settings") as refused:
            worker.execute(f"select {name}({nulls})".encode())
        assert refused.value.sqlstate == "SR001"
    with pytest.raises(psycopg.Error, match="simulated_settings"):
        worker.execute("select scenario_private.evaluate_page('inactivity', null, null, 10, false, null, false, false)")
