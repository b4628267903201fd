"""Whoever is gone or banned is told nothing: evaluation, dry run, explanation and lease ask the same."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from scenario_repo import SkipReason
from tests.integration.database import Database, claim, new_claim, results
from tests.integration.delivery import lease
from tests.integration.evaluation import act, evaluate, explain
from tests.rows import ORGANIZATION, insert_notification

AWAY = {
    "user_gone": "deleted_at = now()",
    "user_banned": "banned_until = now() + interval '1 hour'",
}
BACK = "deleted_at = null, banned_until = now() - interval '1 microsecond'"


@pytest.fixture
def owner(database: Database) -> Iterator[psycopg.Connection]:
    """Connect as the owner, who may change users as Supabase Auth does."""
    with database.connect(role=None) as connection:
        yield connection


def set_user(owner: psycopg.Connection, user: UUID, state: str) -> None:
    """Change a user's account."""
    owner.execute(f"update auth.users set {state} where id = %s".encode(), [user])  # noqa: S608 - the states are ours


def leased_users(worker: psycopg.Connection, limit: int = 100) -> list[str]:
    """Lease, and return whose notifications were handed out."""
    return [notification["user_id"] for notification in lease(worker, limit)]


@pytest.mark.parametrize("reason", AWAY)
def test_nothing_is_claimed_for_who_is_away(
    reason: str, database: Database, owner: psycopg.Connection, worker: psycopg.Connection
) -> None:
    """The others of the page are claimed; the reason is counted and explained; once she is back she is due again."""
    away, here = database.new_mentors(2, ORGANIZATION)
    for mentor in (away, here):
        act(worker, mentor, "40 days")
    set_user(owner, away, AWAY[reason])
    assert explain(worker, away, "inactivity")["reason"] == reason
    assert not explain(worker, away, "inactivity")["is_due"]
    page = {
        "evaluated": 2,
        "due": 2,
        "claimed": 1,
        "history": 0,
        "skipped": {reason: 1},
        "next_after": None,
        "due_mentors": [],
    }
    assert evaluate(worker, "inactivity", dry_run=True) == page
    assert evaluate(worker, "inactivity") == page
    assert evaluate(worker, "inactivity")["skipped"] == {reason: 1, "cooldown": 1}
    assert SkipReason(reason)

    set_user(owner, away, BACK)
    assert explain(worker, away, "inactivity")["is_due"]
    assert evaluate(worker, "inactivity")["claimed"] == 1


@pytest.mark.parametrize("reason", AWAY)
def test_what_was_claimed_before_fails_at_the_lease(
    reason: str, database: Database, owner: psycopg.Connection, worker: psycopg.Connection
) -> None:
    """With its reason, and however often all three run: one row. Afterwards, it holds nothing."""
    away, here = database.new_mentors(2, ORGANIZATION)
    for mentor in (away, here):
        act(worker, mentor, "40 days")
    assert evaluate(worker, "inactivity")["claimed"] == 2
    set_user(owner, away, AWAY[reason])
    assert leased_users(worker) == [str(here)]
    for _ in range(10):
        assert evaluate(worker, "inactivity")["claimed"] == 0
        assert leased_users(worker) == []
    query = "select delivery_status, failure_code, held_until from public.scenario_notifications where user_id = %s"
    assert worker.execute(query, [away]).fetchall() == [("failed", reason, None)]

    set_user(owner, away, BACK)
    assert evaluate(worker, "inactivity")["claimed"] == 1
    assert leased_users(worker) == [str(away)]


def test_a_row_without_a_user_loses_nobody_else(
    database: Database, owner: psycopg.Connection, worker: psycopg.Connection
) -> None:
    """As an app's own view may give one: it is an invalid claim, whether or not somebody is away."""
    away, here = database.new_mentors(2, ORGANIZATION)
    owner.execute(
        "create or replace view scenario_source.mentors as"
        " select user_id, organization_id, is_active from public.peer_mentors"
        " union all values (null::uuid, %s::uuid, true)".replace("%s", f"'{ORGANIZATION}'").encode()
    )
    owner.execute(
        "create or replace view scenario_source.activities as"
        " select user_id, activity_date from public.activities"
        " union all values (null::uuid, now() - interval '40 days')"
    )
    owner.execute(
        "create or replace view scenario_private.inactivity_rule with (security_invoker = true) as"
        " select scenario_type, user_id, organization_id, is_active, is_enabled, is_evaluated, cooldown,"
        " null::integer as milestone_value, true as is_due, 'inactive'::text as finding, '{}'::jsonb as facts,"
        " '{}'::text[] as subjects, null::timestamptz as crossed_at, history_before,"
        " null::timestamptz as series_began_at, null::integer as series_limit, true as stands"
        " from scenario_private.mentor_setting where scenario_type = 'inactivity'"
    )
    set_user(owner, away, AWAY["user_gone"])
    assert evaluate(worker, "inactivity")["skipped"] == {"user_gone": 1, "invalid_claim": 1}
    assert leased_users(worker) == [str(here)]


def test_who_is_away_hides_nobody_behind(
    database: Database, owner: psycopg.Connection, worker: psycopg.Connection
) -> None:
    """A lease whose first rows are all refused goes on to the next ones: an empty answer means that nothing is due."""
    away = database.new_users(5)
    (here,) = database.new_users(1)
    for user in (*away, here):
        insert_notification(worker, user)
        set_user(owner, user, AWAY["user_gone"] if user in away else "deleted_at = null")
    assert leased_users(worker, 2) == [str(here)]
    assert leased_users(worker, 2) == []


def test_a_claim_of_the_apps_own_is_the_apps_decision(
    database: Database, owner: psycopg.Connection, worker: psycopg.Connection
) -> None:
    """It is granted for a banned user, as a plain insert is; the lease refuses to hand it out."""
    (user,) = database.new_users(1)
    set_user(owner, user, AWAY["user_banned"])
    assert results(claim(worker, [new_claim(user)])) == ["claimed"]
    assert leased_users(worker) == []


def test_of_the_users_only_ids_and_reasons_are_told(database: Database, owner: psycopg.Connection) -> None:
    """The definer function is the service's alone, and answers for nobody who may be told."""
    gone, banned, both, here = database.new_users(4)
    set_user(owner, gone, AWAY["user_gone"])
    set_user(owner, banned, AWAY["user_banned"])
    set_user(owner, both, ", ".join(AWAY.values()))
    never = UUID(int=7)
    query = "select user_id, reason from scenario_private.users_away(%s::uuid[])"
    with database.connect() as service:
        rows = service.execute(query, [[gone, banned, both, here, never]]).fetchall()
    assert set(rows) == {
        *((user, "user_gone") for user in (gone, both, never)),
        (banned, "user_banned"),
    }
    for role in ("anon", "authenticated"):
        with database.connect(role) as stranger, pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute(query, [[gone]])
