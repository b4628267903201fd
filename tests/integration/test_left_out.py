"""Whom a pass left out: by organization and reason, of the last pass, and only numbers that hide everybody."""

from __future__ import annotations

from itertools import chain
from uuid import UUID

import psycopg
import pytest

from tests.integration.database import Database
from tests.integration.evaluation import act, configure, next_page
from tests.rows import ORGANIZATION, ago, insert_mentors, insert_notifications

OTHER = UUID(int=2)


@pytest.fixture
def database(emptied: Database) -> Database:
    """Keep one database for all tests, emptied after each."""
    return emptied


def left_out(
    worker: psycopg.Connection, organization: UUID | None = None, *, under_way: bool = False
) -> dict[str, int | None] | None:
    """Ask whom the last pass of inactivity left out; None: there was none."""
    row = worker.execute("select public.scenario_get_left_out(%s, %s)", [organization, under_way]).fetchone()
    assert row is not None
    for one in row[0]["passes"]:
        if one["scenario_type"] == "inactivity":
            assert (one["finished_at"] is None) == under_way
            return {line["reason"]: line["mentors"] for line in one["left_out"]}
    return None


def quiet(database: Database, worker: psycopg.Connection, number: int, organization: UUID = ORGANIZATION) -> list[UUID]:
    """Make mentors who have been quiet for 40 days."""
    users = database.new_mentors(number, organization)
    for user in users:
        act(worker, user, "40 days")
    return users


def test_each_is_left_out_where_she_is_for_her_reason(database: Database, worker: psycopg.Connection) -> None:
    """Held, reminded enough, history, muted, gone, banned, and told by another organization: each in her own."""
    held = quiet(database, worker, 6)
    insert_notifications(worker, held, delivery_status="sent", triggered_at=ago("5 days"))
    elsewhere = quiet(database, worker, 5, OTHER)
    insert_notifications(worker, elsewhere, delivery_status="sent", triggered_at=ago("5 days"))
    for user in database.new_mentors(7, ORGANIZATION):
        act(worker, user, "400 days")
    for user in quiet(database, worker, 8):
        worker.execute("insert into public.scenario_mutes (user_id, organization_id) values (%s, null)", [user])
    both = quiet(database, worker, 5)
    insert_mentors(worker, both, organization_id=OTHER)
    gone, banned = quiet(database, worker, 9), quiet(database, worker, 5)
    spent = quiet(database, worker, 5)
    for days in (39, 38, 37):
        insert_notifications(worker, spent, delivery_status="sent", triggered_at=ago(f"{days} days"))
    configure(worker, "inactivity", "cooldown", "10 days")
    with database.connect(role=None) as owner:
        owner.execute("update auth.users set deleted_at = now() where id = any (%s)", [gone])
        owner.execute("update auth.users set banned_until = now() + interval '1 day' where id = any (%s)", [banned])
    page = next_page(worker)
    reasons = {"cooldown": 6, "history": 7, "muted": 8, "user_gone": 9, "user_banned": 5, "reminders_spent": 5}
    assert left_out(worker, ORGANIZATION) == reasons
    assert left_out(worker, OTHER) == {"cooldown": 5, "duplicate_in_batch": 5}
    everywhere = left_out(worker)
    assert everywhere == {**reasons, "cooldown": 11, "duplicate_in_batch": 5}
    # As the page itself counts.
    assert page["skipped"] | {"history": page["history"]} == everywhere


def test_a_pass_is_a_gauge_and_no_counter(database: Database, worker: psycopg.Connection) -> None:
    """The next pass takes the place of the one before, also when it leaves out nobody."""
    users = quiet(database, worker, 6)
    insert_notifications(worker, users, delivery_status="sent", triggered_at=ago("5 days"))
    for _ in range(3):
        next_page(worker)
        assert left_out(worker) == {"cooldown": 6}
    for user in users:
        act(worker, user, "1 day")
    next_page(worker)
    assert left_out(worker) == {}
    assert worker.execute("select count(*) from scenario_private.left_out").fetchone() == (1,)


def test_a_pass_under_way_is_shown_only_when_asked_for(database: Database, worker: psycopg.Connection) -> None:
    """Its pages add up; at its end they take the place of the pass before, which is shown until then."""
    users = quiet(database, worker, 12)
    insert_notifications(worker, users[:6], delivery_status="sent", triggered_at=ago("5 days"))
    next_page(worker)
    insert_notifications(worker, users[6:], delivery_status="sent", triggered_at=ago("5 days"))
    assert left_out(worker, under_way=True) is None
    next_page(worker, limit=4)
    next_page(worker, limit=4)
    assert left_out(worker) == {"cooldown": 6}
    assert left_out(worker, ORGANIZATION, under_way=True) == {"cooldown": 8}
    while next_page(worker, limit=4)["next_after"] is not None:
        pass
    assert left_out(worker) == {"cooldown": 12}
    assert left_out(worker, under_way=True) is None


def test_a_pass_that_was_given_up_leaves_nothing_behind(database: Database, worker: psycopg.Connection) -> None:
    """A pass that begins anew forgets the pages of the one that did not end."""
    users = quiet(database, worker, 12)
    insert_notifications(worker, users, delivery_status="sent", triggered_at=ago("5 days"))
    next_page(worker, limit=6)
    worker.execute("update public.scenario_evaluation_config set resume_after = null")
    next_page(worker)
    assert left_out(worker) == {"cooldown": 12}


def test_an_organization_is_told_of_the_newest_pass_over_it(database: Database, worker: psycopg.Connection) -> None:
    """Of its own or of all; another one's pass is none of its."""
    users = quiet(database, worker, 6)
    insert_notifications(worker, users, delivery_status="sent", triggered_at=ago("5 days"))
    next_page(worker)
    more = quiet(database, worker, 5)
    insert_notifications(worker, more, delivery_status="sent", triggered_at=ago("5 days"))
    next_page(worker, organization_id=ORGANIZATION)
    assert (left_out(worker, ORGANIZATION), left_out(worker)) == ({"cooldown": 11}, {"cooldown": 6})
    assert left_out(worker, OTHER) == {}
    next_page(worker)
    assert left_out(worker) == {"cooldown": 11}


def test_fewer_than_five_are_not_counted(database: Database, worker: psycopg.Connection) -> None:
    """There is the reason, and no number."""
    few, enough = quiet(database, worker, 4), quiet(database, worker, 5, OTHER)
    insert_notifications(worker, [*few, *enough], delivery_status="sent", triggered_at=ago("5 days"))
    next_page(worker)
    assert (left_out(worker, ORGANIZATION), left_out(worker, OTHER)) == ({"cooldown": None}, {"cooldown": 5})


def test_the_sum_gives_no_organizations_few_away(database: Database, worker: psycopg.Connection) -> None:
    """Less what the organizations with five or more are told, it would be what one is not told."""
    groups = [quiet(database, worker, number, UUID(int=100 + number)) for number in (11, 5, 4, 3)]
    insert_notifications(worker, chain(*groups), delivery_status="sent", triggered_at=ago("5 days"))
    next_page(worker)
    assert left_out(worker) == {"cooldown": 16}


def test_many_small_organizations_are_a_sum(database: Database, worker: psycopg.Connection) -> None:
    """Of five organizations with few each, none can be told from it."""
    groups = [quiet(database, worker, 2, UUID(int=100 + number)) for number in range(5)]
    insert_notifications(worker, chain(*groups[:4]), delivery_status="sent", triggered_at=ago("5 days"))
    next_page(worker)
    assert left_out(worker) == {"cooldown": None}
    insert_notifications(worker, groups[4], delivery_status="sent", triggered_at=ago("5 days"))
    next_page(worker)
    assert left_out(worker) == {"cooldown": 10}


def test_three_members_of_two_organizations_are_not_six(database: Database, worker: psycopg.Connection) -> None:
    """A number that fewer than five persons stand behind is not shown because each counts twice."""
    users = quiet(database, worker, 3)
    insert_mentors(worker, users, organization_id=OTHER)
    insert_notifications(worker, users, delivery_status="sent", triggered_at=ago("5 days"))
    next_page(worker)
    assert left_out(worker) == {"cooldown": None}


def test_a_refused_claim_is_left_out_too(database: Database, worker: psycopg.Connection) -> None:
    """A rule's facts that can't be stored refuse the claim: whoever is due is counted where she is."""
    quiet(database, worker, 5)
    with database.connect(role=None) as owner, owner.transaction(force_rollback=True):
        (rule,) = owner.execute("select pg_get_viewdef('scenario_private.inactivity_rule'::regclass)").fetchone() or (
            "",
        )
        broken = rule.replace(
            "jsonb_build_object('last_activity_at', last.activity_date) AS facts", "'[]'::jsonb AS facts"
        )
        assert broken != rule
        owner.execute(f"create or replace view scenario_private.inactivity_rule as {broken}".encode())
        page = next_page(owner)
        assert (page["claimed"], page["skipped"]) == (0, {"invalid_metadata": 5})
        assert left_out(owner, ORGANIZATION) == {"invalid_metadata": 5}


def test_a_page_adds_one_row(database: Database, worker: psycopg.Connection) -> None:
    """However many organizations it has, so that it costs the same."""
    for number in range(10):
        users = quiet(database, worker, 2, UUID(int=100 + number))
        insert_notifications(worker, users, delivery_status="sent", triggered_at=ago("5 days"))
    next_page(worker, limit=15)
    assert worker.execute("select count(*) from scenario_private.left_out").fetchone() == (1,)
