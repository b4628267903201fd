"""What a lease asks once and not again: settings, rules and organizations; the answers stay those of each alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.integration.database import Database, claim, new_claim, now
from tests.integration.delivery import answer, ids
from tests.integration.evaluation import empty, evaluate
from tests.integration.histories import OWN, Mentor, database_with_own_type
from tests.postgres.server import SUPERUSER, PostgresServer
from tests.rows import ORGANIZATION, ago, ahead, insert_activities, insert_certificates

_GONE = "delete from peer_mentors where user_id = %s"
_RETIRED = "update peer_mentors set is_active = false where user_id = %s"
_MUTED = "insert into scenario_mutes (user_id) values (%s)"
_EXPIRED = "update scenario_notifications set deliver_until = now() - interval '1 second' where user_id = %s"
_ACTIVE = "she is active again"
_MADE_ANEW = """
drop view scenario_private.errand_rule;
create view scenario_private.errand_rule with (security_invoker = true) as {}
grant select on scenario_private.errand_rule to service_role
"""
_BANNED = "update auth.users set banned_until = now() + interval '1 day' where id = %s"


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database with a type of the app's own."""
    with database_with_own_type(postgres_server, "ask_again", migrated) as database:
        yield database


@pytest.fixture
def database(shared: Database) -> Iterator[Database]:
    """Empty the tables afterwards."""
    yield shared
    empty(shared)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ((_RETIRED, _MUTED), "mentor_not_active"),
        ((_GONE, _MUTED), "mentor_not_active"),
        ((_GONE, _EXPIRED), "mentor_not_active"),
        ((_RETIRED, _ACTIVE), "mentor_not_active"),
        ((_MUTED, _ACTIVE), "muted"),
        ((_MUTED, _EXPIRED), "muted"),
        ((_EXPIRED, _ACTIVE), "expired"),
        ((_BANNED, _RETIRED, _MUTED, _EXPIRED), "user_banned"),
        ((_ACTIVE,), "no_longer_due"),
    ],
)
def test_of_several_reasons_the_first_is_said(
    changes: tuple[str, ...], reason: str, database: Database, worker: psycopg.Connection
) -> None:
    """User, membership, mute, deadline, rule: wherever each of them is asked, their order stands."""
    mentor = Mentor(database, worker, "inactivity")
    mentor.be_claimed()
    other = Mentor(database, worker, "inactivity")
    other.be_claimed()
    with database.connect(role=None) as owner:
        for change in changes:
            if change is _ACTIVE:
                insert_activities(worker, [mentor.user], ago("1 hour"))
            else:
                owner.execute(change.encode(), [mentor.user])
    told = answer(worker)
    assert told["failed"] == {reason: 1}
    assert ids(told["leased"]) == [str(other.row()["id"])]


def test_whose_rule_fails_is_refused_all_the_same(database: Database, worker: psycopg.Connection) -> None:
    """Of two whose rule can't be asked one has retired: she is refused, the other waits for the rule."""
    retired = Mentor(database, worker, OWN)
    retired.be_claimed()
    staying = Mentor(database, worker, OWN)
    staying.be_claimed()
    worker.execute(_RETIRED, [retired.user])
    with database.connect(role=None) as owner:
        owner.execute("alter view scenario_private.errand_rule rename to gone")
    try:
        told = answer(worker)
    finally:
        with database.connect(role=None) as owner:
            owner.execute("alter view scenario_private.gone rename to errand_rule")
    assert (told["leased"], told["failed"], told["rule_failed"]) == ([], {"mentor_not_active": 1}, 1)


def _lease_another(database: Database, worker: psycopg.Connection, kind: str) -> dict[str, Any]:
    Mentor(database, worker, kind).be_claimed()
    return answer(worker)


def test_a_rule_is_planned_once_a_connection(database: Database, worker: psycopg.Connection) -> None:
    """Planning takes longer than a small lease; nobody else's id is kept in what is."""
    for _ in range(3):
        assert len(_lease_another(database, worker, "inactivity")["leased"]) == 1
    kept = worker.execute(
        "select statement, generic_plans, custom_plans from pg_prepared_statements where name ^@ 'scenario_rule_'"
    ).fetchall()
    assert [plans for _, *plans in kept] == [[3, 0]]
    assert "unnest($1, $2, $3, $4)" in kept[0][0]


@pytest.mark.parametrize("command", ["discard all", "deallocate all", "discard plans"])
def test_a_connection_may_be_cleared_between_leases(
    command: str, database: Database, worker: psycopg.Connection
) -> None:
    """As a pool does that hands the connection on."""
    assert len(_lease_another(database, worker, "inactivity")["leased"]) == 1
    worker.execute(command.encode())
    worker.execute("set role service_role")
    assert len(_lease_another(database, worker, "inactivity")["leased"]) == 1


@pytest.mark.parametrize("facts", ["jsonb_build_object(", "json_build_object("], ids=["same types", "other types"])
def test_a_rule_made_anew_is_asked_at_once(facts: str, database: Database, worker: psycopg.Connection) -> None:
    """By a connection that has asked the old one, whatever the types of the new one's columns."""
    assert len(_lease_another(database, worker, OWN)["leased"]) == 1
    Mentor(database, worker, OWN).be_claimed()
    with database.connect(role=None) as owner:
        (rule,) = owner.execute("select pg_get_viewdef('scenario_private.errand_rule'::regclass)").fetchone() or ("",)
        changed = rule.replace("(errand.number > 0) AS stands", "false AS stands").replace("jsonb_build_object(", facts)
        assert "false AS stands" in changed
        try:
            owner.execute(_MADE_ANEW.format(changed).encode())
            told = answer(worker)
        finally:
            owner.execute(_MADE_ANEW.format(rule).encode())
    assert (told["leased"], told["failed"], told["rule_failed"]) == ([], {"no_longer_due": 1}, 0)


def test_new_facts_wait_for_nobody(database: Database, worker: psycopg.Connection) -> None:
    """Who holds the row may be a settlement that waits for the hand-over: the lease goes on, and keeps the facts."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    insert_certificates(worker, [mentor], ahead("5 days"), kind="first_aid")
    insert_certificates(worker, [mentor], ahead("20 days"), kind="rescue")
    assert evaluate(worker, "certification_expiry")["claimed"] == 1
    insert_certificates(worker, [mentor], ahead("2 years"), kind="first_aid")
    with database.connect() as holder, holder.transaction(force_rollback=True):
        holder.execute("select from scenario_notifications for no key update")
        worker.execute("set lock_timeout = '2s'")
        (leased,) = answer(worker)["leased"]
    assert sorted(leased["metadata"]["new_subjects"]) == ["first_aid", "rescue"]


def test_one_large_organization_fills_a_lease_in_few_rounds(
    postgres_server: PostgresServer, database: Database, worker: psycopg.Connection
) -> None:
    """Sixty small ones have their own soon told; the rest is not shared out to them again and again."""
    users = database.new_users(460)
    claims = [new_claim(user, organization_id=UUID(int=1000 + place)) for place, user in enumerate(users[:60])]
    claims += [new_claim(user, organization_id=UUID(int=7)) for user in users[60:]]
    claim(worker, claims)
    rounds, told = _calls(postgres_server, database, "organizations_waiting", 400)
    assert len(told["leased"]) == 400
    assert rounds <= 12


def test_who_has_nothing_due_is_looked_at_once(
    postgres_server: PostgresServer, database: Database, worker: psycopg.Connection
) -> None:
    """Sixty organizations wait for tomorrow: the laps that fill the lease ask the one that has more, and no other."""
    users = database.new_users(110)
    claims = [new_claim(user, organization_id=UUID(int=1000 + place)) for place, user in enumerate(users[:60])]
    claims += [new_claim(user, organization_id=UUID(int=7)) for user in users[60:]]
    claim(worker, claims)
    worker.execute(
        "update scenario_private.handover set next_attempt_at = now() + interval '1 day' where organization_id <> %s",
        [UUID(int=7)],
    )
    walks, told = _calls(postgres_server, database, "organizations_waiting", 40)
    assert len(told["leased"]) == 40
    assert walks <= 4


def test_nothing_due_is_seen_without_a_look_at_each_type(
    postgres_server: PostgresServer, database: Database, worker: psycopg.Connection
) -> None:
    """One walk says that all wait, and until when; the second, over organizations and types, is spared."""
    users = database.new_users(3)
    claim(worker, [new_claim(user, organization_id=UUID(int=place)) for place, user in enumerate(users, 1)])
    worker.execute(
        "update scenario_private.handover set next_attempt_at = now() + interval '1 hour' * (2 + triggered_order)"
        " from (select user_id as whose, row_number() over (order by organization_id) as triggered_order"
        " from scenario_private.handover) as place where whose = user_id"
    )
    calls, told = _calls(postgres_server, database, "next_due_at", 100)
    assert (told["leased"], told["has_more"], calls) == ([], False, 0)
    assert 2.9 < (datetime.fromisoformat(told["next_due_at"]) - now(worker)).total_seconds() / 3600 <= 3
    worker.execute(
        "update scenario_private.handover set next_attempt_at = now() where organization_id = %s", [UUID(int=3)]
    )
    assert len(answer(worker)["leased"]) == 1
    told = answer(worker)
    assert (told["leased"], told["has_more"]) == ([], False)
    assert 2.9 < (datetime.fromisoformat(told["next_due_at"]) - now(worker)).total_seconds() / 3600 <= 3


def test_clocks_that_stand_still_are_reckoned_once(
    postgres_server: PostgresServer, database: Database, worker: psycopg.Connection
) -> None:
    """For all mentors of a lease together: how many there are makes no difference."""
    _claimed_beside_a_stopped_clock(database, worker, 11, ORGANIZATION)
    for_one, told = _calls(postgres_server, database, "local_instant", 1)
    assert len(told["leased"]) == 1
    for_ten, told = _calls(postgres_server, database, "local_instant", 10)
    assert len(told["leased"]) == 10
    assert for_one == for_ten > 0


def test_clocks_of_one_zone_are_reckoned_once(
    postgres_server: PostgresServer, database: Database, worker: psycopg.Connection
) -> None:
    """However many organizations have it: a lease of one does not become slower with each that an app gains."""
    _claimed_beside_a_stopped_clock(database, worker, 2, None)
    calls = []
    for first, last in (1, 1), (2, 40):
        worker.execute(
            "insert into scenario_delivery_policy (organization_id, time_zone)"
            " select md5(number::text)::uuid, 'Europe/Oslo' from generate_series(%s::integer, %s) as number",
            [first, last],
        )
        number, told = _calls(postgres_server, database, "local_instant", 1)
        assert len(told["leased"]) == 1
        calls.append(number)
    assert calls[0] == calls[1] > 0


def _claimed_beside_a_stopped_clock(
    database: Database, worker: psycopg.Connection, mentors: int, organization_id: UUID | None
) -> None:
    """Have mentors claimed for, and days off that stop the clock of their organization or of all."""
    insert_activities(worker, database.new_mentors(mentors, ORGANIZATION), ago("40 days"))
    worker.execute(
        "insert into scenario_days_off (organization_id, first_day, last_day, stops_clock)"
        " values (%s, current_date - 20, current_date - 15, true)",
        [organization_id],
    )
    assert evaluate(worker, "inactivity")["claimed"] == mentors


def _calls(server: PostgresServer, database: Database, function: str, limit: int) -> tuple[int, dict[str, Any]]:
    """Lease, and return how often one of our functions was called, as the server counts it."""
    name = psycopg.conninfo.conninfo_to_dict(database.url)["dbname"]
    with psycopg.connect(server.url(str(name), SUPERUSER)) as connection:
        connection.execute("set track_functions = 'all'")
        connection.execute("set role service_role")
        told = answer(connection, limit)
        row = connection.execute(
            "select coalesce(sum(calls), 0)::int from pg_stat_xact_user_functions where funcname = %s", [function]
        ).fetchone()
        connection.rollback()
    assert row is not None
    return row[0], told
