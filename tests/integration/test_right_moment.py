"""The lease asks again whether it is still true, whether this is the moment, and whether it is her turn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date, datetime, timedelta
from itertools import pairwise
from threading import Barrier
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import IsolationLevel
from psycopg.errors import SerializationFailure

from tests.integration.database import Database, claim, new_claim, now, results
from tests.integration.delivery import answer, ids, lease, settle, settlement
from tests.integration.evaluation import empty, evaluate
from tests.integration.histories import OWN, Mentor, database_with_own_type
from tests.postgres.server import PostgresServer
from tests.rows import ORGANIZATION, ago, ahead, insert_activities, insert_certificates, insert_devices, insert_mentors

DAY: Final = timedelta(days=1)


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database with a type of the app's own."""
    with database_with_own_type(postgres_server, "right_moment", migrated) as database:
        yield database


@pytest.fixture
def database(shared: Database) -> Iterator[Database]:
    """Empty the tables afterwards."""
    yield shared
    empty(shared)


def set_policy(database: Database, organization: UUID | None = None, **columns: object) -> None:
    """Set the policy of an organization, or the default."""
    with database.connect() as worker:
        names = ", ".join(columns)
        worker.execute(
            f"insert into scenario_delivery_policy (organization_id, {names})"  # noqa: S608 - a test's columns
            f" values (%s{', %s' * len(columns)})".encode(),
            [organization, *columns.values()],
        )


def close(database: Database, organization: UUID | None = None, *, days: int = 2, stops: bool = False) -> None:
    """Make today and the days around it days off."""
    with database.connect() as worker:
        worker.execute(
            "insert into scenario_days_off (organization_id, first_day, last_day, stops_clock)"
            " values (%s, current_date - 1, current_date + %s, %s)",
            [organization, days - 1, stops],
        )


# Is it still true? ----------------------------------------------------------------------------------------------------


def test_what_is_no_longer_true_is_not_told(database: Database, worker: psycopg.Connection) -> None:
    """Case 1.1: of four who went quiet one is back, one inactive, one no member: one reminder, and the welcome."""
    mentors = database.new_mentors(4, ORGANIZATION)
    insert_activities(worker, mentors, ago("40 days"))
    assert evaluate(worker, "inactivity")["claimed"] == 4
    database.let_pass(2 * DAY)
    insert_activities(worker, mentors[:1], ago("1 hour"))
    worker.execute("update peer_mentors set is_active = false where user_id = %s", [mentors[1]])
    worker.execute("delete from peer_mentors where user_id = %s", [mentors[2]])
    assert evaluate(worker, "welcome_back")["claimed"] == 1
    told = answer(worker)
    assert sorted((row["user_id"], row["scenario_type"]) for row in told["leased"]) == sorted(
        [(str(mentors[0]), "welcome_back"), (str(mentors[3]), "inactivity")]
    )
    assert told["failed"] == {"no_longer_due": 1, "mentor_not_active": 2}
    assert (told["deferred"], told["rule_failed"], told["has_more"], told["next_due_at"]) == (0, 0, False, None)


@pytest.mark.parametrize("outcome", ["lapsed", "renewed", "moved", "stands"])
def test_a_certificate_is_told_while_one_of_the_new_ones_lapses(
    outcome: str, database: Database, worker: psycopg.Connection
) -> None:
    """Case 1.2, and its kin; the facts are brought up to date."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    insert_certificates(worker, [mentor], ahead("5 days"), kind="first_aid")
    insert_certificates(worker, [mentor], ahead("20 days"), kind="rescue")
    assert evaluate(worker, "certification_expiry")["claimed"] == 1
    match outcome:
        case "lapsed":
            database.let_pass(6 * DAY)
            worker.execute("delete from certifications where kind = 'rescue'")
        case "renewed":
            insert_certificates(worker, [mentor], ahead("2 years"), kind="first_aid")
        case "moved":
            worker.execute("update certifications set expires_at = now() + interval '1 year'")
    told = answer(worker)
    if outcome in {"lapsed", "moved"}:
        assert told["failed"] == {"no_longer_due": 1}
        return
    (leased,) = told["leased"]
    assert leased["subjects"] == ["first_aid", "rescue"]
    new = ["first_aid", "rescue"] if outcome == "stands" else ["rescue"]
    assert leased["metadata"]["new_subjects"] == new
    assert len(leased["metadata"]["certificate_ids"]) == len(new)


def test_a_milestone_is_told_if_the_count_is_there_and_no_higher_one(
    database: Database, worker: psycopg.Connection
) -> None:
    """Deleted activities take it back; a higher one claimed since overtakes it."""
    less, more, same = database.new_mentors(3, ORGANIZATION)
    insert_activities(worker, [less, more, same], *[ago(f"{hours} hours") for hours in range(1, 11)])
    assert evaluate(worker, "milestone")["claimed"] == 3
    worker.execute(
        "delete from activities where user_id = %s and activity_date > now() - interval '90 minutes'", [less]
    )
    insert_activities(worker, [more], *[ago(f"{minutes} minutes") for minutes in range(1, 16)])
    assert evaluate(worker, "milestone")["claimed"] == 1
    told = answer(worker)
    assert sorted((row["user_id"], row["milestone_value"]) for row in told["leased"]) == sorted(
        [(str(same), 10), (str(more), 25)]
    )
    assert told["failed"] == {"no_longer_due": 1, "superseded": 1}


def test_what_no_rule_said_is_not_asked_of_rules(database: Database, worker: psycopg.Connection) -> None:
    """A claim of the app's and a plain insert are the app's own to know."""
    (user,) = database.new_users(1)
    assert results(claim(worker, [new_claim(user)])) == ["claimed"]
    assert len(answer(worker)["leased"]) == 1


def test_a_rule_that_fails_keeps_nobody_elses(database: Database, worker: psycopg.Connection) -> None:
    """Its rows are left for five minutes, and the others go out."""
    own, other = Mentor(database, worker, OWN), Mentor(database, worker, "inactivity")
    own.be_claimed()
    other.be_claimed()
    with database.connect(role=None) as owner:
        owner.execute("alter view scenario_private.errand_rule rename to gone")
    try:
        told = answer(worker)
        assert ids(told["leased"]) == [str(other.row()["id"])]
        assert (told["rule_failed"], told["failed"]) == (1, {})
        assert own.row()["delivery_status"] == "pending"
        assert datetime.fromisoformat(told["next_due_at"]) - now(worker) <= timedelta(minutes=5)
    finally:
        with database.connect(role=None) as owner:
            owner.execute("alter view scenario_private.gone rename to errand_rule")
    database.let_pass(timedelta(minutes=6))
    assert str(own.row()["id"]) in ids(answer(worker)["leased"])


def test_a_rule_that_overruns_keeps_nobody_elses(database: Database, worker: psycopg.Connection) -> None:
    """It meets the statement timeout; the others go out all the same, and its rows are left for five minutes."""
    own, other = Mentor(database, worker, OWN), Mentor(database, worker, "inactivity")
    own.be_claimed()
    other.be_claimed()
    with database.connect(role=None) as owner:
        owner.execute("alter view scenario_private.errand_rule rename to gone")
        owner.execute(
            "create view scenario_private.errand_rule with (security_invoker = true) as"
            " select gone.* from scenario_private.gone where (select pg_sleep(20)) is not null"
        )
        owner.execute("grant select on scenario_private.errand_rule to service_role")
    try:
        worker.execute("set statement_timeout = '500ms'")
        told = answer(worker)
    finally:
        worker.execute("reset statement_timeout")
        with database.connect(role=None) as owner:
            owner.execute("drop view scenario_private.errand_rule")
            owner.execute("alter view scenario_private.gone rename to errand_rule")
    assert ids(told["leased"]) == [str(other.row()["id"])]
    assert (told["rule_failed"], own.row()["delivery_status"]) == (1, "pending")


# Is this the moment? --------------------------------------------------------------------------------------------------


def test_what_may_not_be_told_now_waits_and_is_not_lost(database: Database, worker: psycopg.Connection) -> None:
    """Claimed before the days off, it outlives its week and is told on the first day that is open."""
    mentor = Mentor(database, worker, "inactivity")
    mentor.be_claimed()
    close(database, days=16)
    told = answer(worker)
    assert (told["leased"], told["deferred"], told["failed"]) == ([], 1, {})
    assert timedelta(0) < datetime.fromisoformat(told["next_due_at"]) - now(worker) <= DAY
    for _ in range(20):
        database.let_pass(DAY)
        with database.connect() as other:
            other.execute("update scenario_days_off set first_day = first_day - 1, last_day = last_day - 1")
        if answer(worker)["leased"]:
            break
    assert mentor.row()["delivery_status"] == "pending"
    assert mentor.row()["deliver_until"] > now(worker)
    assert mentor.rows()[0]["triggered_at"] < now(worker) - 15 * DAY


def test_a_claim_is_written_with_its_first_moment_and_its_deadline(
    database: Database, worker: psycopg.Connection
) -> None:
    """In the days off: due at most a day ahead, to be looked at again; the deadline a day after they are over."""
    close(database, ORGANIZATION, days=16)
    mentor = Mentor(database, worker, "inactivity")
    with worker.transaction():
        mentor.be_claimed()
        moment = now(worker)
        query = "select next_attempt_at from scenario_private.handover"
        assert worker.execute(query).fetchall() == [(moment + DAY,)]
        ((until,),) = worker.execute("select (current_date + 16)::timestamptz + interval '1 day'").fetchall()
    assert mentor.row()["deliver_until"] == until
    assert answer(worker)["leased"] == []


def test_priority_0_waits_for_nothing_but_a_mute(database: Database, worker: psycopg.Connection) -> None:
    """Days off, a gap: it is handed out; a mute: it is not."""
    close(database)
    set_policy(database, min_gap=timedelta(hours=4))
    with database.connect(role=None) as owner:
        owner.execute("update scenario_evaluation_config set priority = 0 where scenario_type = 'inactivity'")
    mentor = Mentor(database, worker, "inactivity")
    try:
        worker.execute("insert into scenario_mutes (user_id) values (%s)", [mentor.user])
        assert mentor.evaluate()["skipped"] == {"muted": 1}
        worker.execute("delete from scenario_mutes")
        mentor.be_claimed()
        worker.execute("update scenario_private.handover set next_attempt_at = now()")
        assert ids(answer(worker)["leased"]) == [str(mentor.row()["id"])]
    finally:
        with database.connect(role=None) as owner:
            owner.execute("update scenario_evaluation_config set priority = 5 where scenario_type = 'inactivity'")


def test_of_two_organizations_the_one_that_is_open_tells_it(database: Database, worker: psycopg.Connection) -> None:
    """A mentor of both; and a certificate of the closed one is told by its own, later."""
    mine, other = UUID(int=1), UUID(int=2)
    (mentor,) = database.new_mentors(1, mine)
    insert_mentors(worker, [mentor], organization_id=other)
    insert_activities(worker, [mentor], ago("40 days"))
    close(database, mine)
    assert evaluate(worker, "inactivity")["claimed"] == 1
    (leased,) = answer(worker)["leased"]
    assert leased["organization_id"] == str(other)


@pytest.mark.parametrize("stops", [True, False])
def test_days_off_that_stop_the_clock_count_for_nothing(
    database: Database, worker: psycopg.Connection, *, stops: bool
) -> None:
    """In inactivity, in the search for inactive mentors, and in the gap of a return."""
    quiet, back = database.new_mentors(2, ORGANIZATION)
    insert_activities(worker, [quiet], ago("31 days"))
    insert_activities(worker, [back], ago("33 days"), ago("1 hour"))
    with database.connect() as other:
        other.execute(
            "insert into scenario_days_off (first_day, last_day, stops_clock)"
            " values (current_date - 20, current_date - 15, %s)",
            [stops],
        )
    due = 0 if stops else 1
    assert evaluate(worker, "inactivity")["claimed"] == due
    assert evaluate(worker, "welcome_back")["claimed"] == due
    query = "select public.scenario_find_inactive_mentors(%s, '30 days')"
    ((found,),) = worker.execute(query, [ORGANIZATION]).fetchall()
    assert [UUID(one["user_id"]) for one in found["mentors"]] == ([] if stops else [quiet])
    database.let_pass(6 * DAY)
    worker.execute("update scenario_days_off set first_day = first_day - 6, last_day = last_day - 6")
    assert evaluate(worker, "inactivity")["claimed"] == (1 if stops else 0)


# Does she want it? ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["all", "of the organization", "of the type", "of both"])
@pytest.mark.parametrize("until", [None, ahead("1 day"), ago("1 minute")], ids=["for good", "for a day", "over"])
def test_what_is_muted_is_neither_claimed_nor_handed_out(
    scope: str, until: object, database: Database, worker: psycopg.Connection
) -> None:
    """Muted after the claim, ten rounds of evaluation and lease make one row; explanation and dry run say the same."""
    mentor = Mentor(database, worker, "inactivity")
    mentor.be_claimed()
    worker.execute(
        psycopg.sql.SQL(
            "insert into scenario_mutes (user_id, organization_id, scenario_type, muted_until) values (%s, %s, %s, {})"
        ).format(until),
        [
            mentor.user,
            ORGANIZATION if scope in {"of the organization", "of both"} else None,
            "inactivity" if scope in {"of the type", "of both"} else None,
        ],
    )
    is_muted = "1 minute" not in repr(until)
    for _ in range(10):
        told = answer(worker)
        mentor.evaluate()
    if not is_muted:
        assert told["leased"] == []
        assert len(mentor.rows()) == 1
        return
    assert (len(mentor.rows()), mentor.row()["failure_code"]) == (1, "muted")
    assert mentor.evaluate(dry_run=True)["skipped"] == {"muted": 1}
    assert (mentor.explain()["is_due"], mentor.explain()["reason"]) == (False, "muted")
    worker.execute("delete from scenario_mutes")
    assert mentor.evaluate()["claimed"] == 1


def test_a_mute_of_another_organization_or_type_mutes_nothing(database: Database, worker: psycopg.Connection) -> None:
    """Each scope is its own."""
    mentor = Mentor(database, worker, "inactivity")
    for organization, kind in (uuid4(), None), (None, "milestone"), (uuid4(), "inactivity"):
        worker.execute(
            "insert into scenario_mutes (user_id, organization_id, scenario_type) values (%s, %s, %s)",
            [mentor.user, organization, kind],
        )
    mentor.be_claimed()
    assert len(answer(worker)["leased"]) == 1


def test_a_person_has_at_most_200_mutes(database: Database, worker: psycopg.Connection) -> None:
    """Also of those who write at the same moment."""
    (user,) = database.new_users(1)
    insert = (
        "insert into scenario_mutes (user_id, organization_id) select %s, gen_random_uuid() from generate_series(1, %s)"
    )
    worker.execute(insert, [user, 199])
    barrier = Barrier(2)

    def one_more() -> str:
        with database.connect() as connection:
            barrier.wait()
            try:
                connection.execute(insert, [user, 1])
            except psycopg.Error as error:
                return str(error.sqlstate)
        return "written"

    with ThreadPoolExecutor(2) as pool:
        said = Counter(future.result() for future in [pool.submit(one_more) for _ in range(2)])
    assert said == {"written": 1, "SR003": 1}


# Is it her turn? ------------------------------------------------------------------------------------------------------


def waiting(database: Database, worker: psycopg.Connection, users: int, kinds: tuple[str, ...]) -> list[UUID]:
    """Claim one notification of each type for each user."""
    found = database.new_users(users)
    assert set(results(claim(worker, [new_claim(one, scenario_type=kind) for one in found for kind in kinds]))) == {
        "claimed"
    }
    return found


KINDS: Final = ("inactivity", "certification_expiry", "welcome_back", OWN)


def test_one_is_handed_out_and_the_others_wait_for_the_gap(database: Database, worker: psycopg.Connection) -> None:
    """The more important one first; each gets its turn, whatever became of the lease before."""
    set_policy(database, min_gap=timedelta(hours=4))
    with database.connect(role=None) as owner:
        owner.execute(f"update scenario_evaluation_config set priority = 1 where scenario_type = '{OWN}'")  # noqa: S608
    try:
        (user,) = waiting(database, worker, 1, KINDS)
        seen = []
        for _ in range(4):
            told = answer(worker)
            (leased,) = told["leased"]
            assert answer(worker)["leased"] == []
            seen.append(leased["scenario_type"])
            assert settle(worker, [settlement(leased, "sent")]) == ["sent"]
            database.let_pass(timedelta(hours=4, minutes=1))
        assert seen[0] == OWN
        assert sorted(seen) == sorted(KINDS)
        assert answer(worker)["next_due_at"] is None
        assert UUID(leased["user_id"]) == user
    finally:
        with database.connect(role=None) as owner:
            owner.execute(f"update scenario_evaluation_config set priority = 5 where scenario_type = '{OWN}'")  # noqa: S608


@pytest.mark.parametrize("result", ["released", "failed", "suppressed"])
def test_what_was_not_sent_gives_its_turn_back(result: str, database: Database, worker: psycopg.Connection) -> None:
    """The next one is handed out as soon as it is due again."""
    set_policy(database, min_gap=timedelta(hours=4))
    waiting(database, worker, 1, KINDS[:2])
    (leased,) = answer(worker)["leased"]
    assert answer(worker)["leased"] == []
    settle(worker, [settlement(leased, result)])
    worker.execute("update scenario_private.handover set next_attempt_at = now()")
    assert len(answer(worker)["leased"]) == 1


def test_a_retry_does_not_wait_for_itself(database: Database, worker: psycopg.Connection) -> None:
    """After its back-off it is handed out again, in the middle of the gap."""
    set_policy(database, min_gap=timedelta(hours=4))
    waiting(database, worker, 1, KINDS[:1])
    (leased,) = answer(worker)["leased"]
    settle(worker, [settlement(leased, "retry")])
    database.let_pass(timedelta(minutes=2))
    assert ids(answer(worker)["leased"]) == [leased["id"]]


def test_first_turns_take_no_room_among_the_locks(database: Database, worker: psycopg.Connection) -> None:
    """The server has room for a few thousand in all: several leases of a thousand would have filled it."""
    set_policy(database, min_gap=timedelta(hours=4))
    waiting(database, worker, 40, KINDS[:1])
    with worker.transaction():
        assert len(lease(worker, 100)) == 40
        row = worker.execute(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        ).fetchone()
    assert row == (0,)


def test_a_first_turn_waits_for_nobody(database: Database, worker: psycopg.Connection) -> None:
    """Whose row another one is writing is left for the next lease."""
    set_policy(database, min_gap=timedelta(hours=4))
    first, *others = waiting(database, worker, 3, KINDS[:1])
    worker.execute("set lock_timeout = '2s'")
    with database.connect(role=None) as owner, owner.transaction():
        owner.execute("update auth.users set updated_at = now() where id = %s", [first])
        assert {row["user_id"] for row in lease(worker, 100)} == {str(one) for one in others}
    assert {row["user_id"] for row in lease(worker, 100)} == {str(first)}


@pytest.mark.parametrize("isolation", [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ], ids=str)
def test_the_gap_holds_under_any_number_of_leases(
    isolation: IsolationLevel, database: Database, worker: psycopg.Connection
) -> None:
    """Eight workers, each leasing for the same forty people: nobody gets two within the gap; retryable at worst."""
    gap = timedelta(milliseconds=300)
    set_policy(database, min_gap=gap)
    users = waiting(database, worker, 40, KINDS)
    with database.connect(role=None) as owner:
        owner.execute(_WATCH)
    barrier = Barrier(8)

    def work() -> None:
        with database.connect() as connection:
            connection.isolation_level = isolation
            barrier.wait()
            for _ in range(40):
                with suppress(SerializationFailure):
                    connection.execute("select public.scenario_lease_notifications(7, 60)")

    try:
        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(work) for _ in range(8)]:
                future.result(60)
        handed = worker.execute("select user_id, handed_at from public.handed order by user_id, handed_at").fetchall()
        leased = worker.execute("select count(*) from scenario_private.handover where lease_number > 0").fetchone()
    finally:
        with database.connect(role=None) as owner:
            owner.execute("drop trigger watch on scenario_private.delivery_turn")
            owner.execute("drop table public.handed")
    assert {user for user, _ in handed} == set(users)
    assert leased == (len(handed),)
    assert all(later - earlier >= gap for (one, earlier), (other, later) in pairwise(handed) if one == other)


_WATCH: Final = """
create table public.handed (user_id uuid, handed_at timestamptz);
grant insert, select on public.handed to service_role;
create or replace function public.watch() returns trigger language plpgsql as $$
begin
  insert into public.handed values (new.user_id, new.handed_at);
  return null;
end
$$;
create trigger watch after update of handed_at on scenario_private.delivery_turn
  for each row when (new.handed_at is not null) execute function public.watch();
"""


def test_deleting_users_beside_leases_is_retryable_at_worst(database: Database, worker: psycopg.Connection) -> None:
    """Leases with turns, settlements and a bulk deletion at once: nothing but retryable errors, nothing left behind."""
    set_policy(database, min_gap=timedelta(milliseconds=1))
    users = waiting(database, worker, 200, KINDS)
    refused: list[str | None] = []
    barrier = Barrier(4)

    def work() -> None:
        with database.connect() as connection:
            barrier.wait()
            for _ in range(25):
                try:
                    leased = lease(connection, 20)
                    settle(connection, [settlement(one, "sent") for one in leased])
                except psycopg.Error as error:
                    refused.append(error.sqlstate)

    def delete() -> None:
        with database.connect(role=None) as owner:
            barrier.wait()
            for first in range(0, 150, 10):
                try:
                    owner.execute("delete from auth.users where id = any(%s)", [users[first : first + 10]])
                except psycopg.Error as error:
                    refused.append(error.sqlstate)

    with ThreadPoolExecutor(4) as pool:
        for future in [*(pool.submit(work) for _ in range(3)), pool.submit(delete)]:
            future.result(60)
    assert set(refused) <= {"40001", "40P01"}
    orphans = worker.execute(
        """
        select notification_id from scenario_private.handover
        where notification_id not in (select id from scenario_notifications)
        union all
        select user_id from scenario_private.delivery_turn
        where user_id not in (select user_id from scenario_notifications)
        """
    ).fetchall()
    assert orphans == []


# Organizations in turn, suspects last ---------------------------------------------------------------------------------


def test_organizations_take_turns(database: Database, worker: psycopg.Connection) -> None:
    """One with a thousand waiting keeps nobody else's for long, also in a lease of one type."""
    large, small = UUID(int=7), [UUID(int=number) for number in (3, 9, 11)]
    users = database.new_users(1_003)
    claims = [new_claim(user, organization_id=large) for user in users[:1000]]
    claims += [new_claim(user, organization_id=own) for user, own in zip(users[1000:], small, strict=True)]
    claim(worker, claims)
    for types in None, ["inactivity"]:
        with worker.transaction(force_rollback=True):
            leased = lease(worker, 8, 60, None, types)
            assert {row["organization_id"] for row in leased} == {str(one) for one in (large, *small)}
            assert len(leased) == 8
    assert {row["organization_id"] for row in lease(worker, 5, 60, small[0])} == {str(small[0])}


def test_a_lease_looks_at_a_bounded_number_and_says_so(database: Database, worker: psycopg.Connection) -> None:
    """Where all are refused it stops after a few times its limit; where nothing is left it says so too."""
    users = database.new_users(100)
    claim(worker, [new_claim(user) for user in users])
    worker.execute("update scenario_notifications set deliver_until = now() - interval '1 second'")
    told = answer(worker, 10)
    assert (told["leased"], told["failed"], told["has_more"]) == ([], {"expired": 50}, True)
    told = answer(worker, 10)
    assert told["failed"] == {"expired": 50}
    assert (answer(worker, 10)["has_more"], answer(worker, 10)["failed"]) == (False, {})


def test_what_two_leases_left_unsettled_comes_last_and_alone(database: Database, worker: psycopg.Connection) -> None:
    """It may be what its workers die of: the others go out first, then each such one by itself."""
    users = database.new_users(6)
    claim(worker, [new_claim(user) for user in users[:2]])
    for _ in range(2):
        assert len(answer(worker)["leased"]) == 2
        database.let_pass(timedelta(minutes=2))
    claim(worker, [new_claim(user) for user in users[2:]])
    assert {row["user_id"] for row in answer(worker)["leased"]} == {str(user) for user in users[2:]}
    first, second = answer(worker)["leased"], answer(worker)["leased"]
    assert [len(first), len(second)] == [1, 1]
    assert {first[0]["user_id"], second[0]["user_id"]} == {str(user) for user in users[:2]}
    assert [first[0]["unsettled_leases"], second[0]["unsettled_leases"]] == [2, 2]
    assert answer(worker)["leased"] == []


def test_what_waits_stays_suspect(database: Database, worker: psycopg.Connection) -> None:
    """A night in between does not make it any safer."""
    users = database.new_users(3)
    claim(worker, [new_claim(user) for user in users[:1]])
    for _ in range(2):
        assert len(answer(worker)["leased"]) == 1
        database.let_pass(timedelta(minutes=2))
    close(database)
    assert answer(worker)["deferred"] == 1
    worker.execute("delete from scenario_days_off")
    database.let_pass(DAY)
    claim(worker, [new_claim(user) for user in users[1:]])
    assert {row["user_id"] for row in answer(worker)["leased"]} == {str(user) for user in users[1:]}
    (suspect,) = answer(worker)["leased"]
    assert (suspect["user_id"], suspect["unsettled_leases"]) == (str(users[0]), 2)
    assert settle(worker, [settlement(suspect, "released")]) == ["pending"]
    (again,) = answer(worker)["leased"]
    assert again["unsettled_leases"] == 0


# Devices --------------------------------------------------------------------------------------------------------------


def by_device(leased: dict[str, Any], result: str, **tokens: list[str]) -> dict[str, Any]:
    """Make the settlement of a lease by device."""
    return settlement(leased, result) | tokens


def devices(worker: psycopg.Connection, user: UUID) -> list[str]:
    """Return the tokens of a user."""
    query = "select token from device_tokens where user_id = %s order by token"
    return [token for (token,) in worker.execute(query, [user]).fetchall()]


def test_a_retry_goes_only_where_it_has_not_arrived(database: Database, worker: psycopg.Connection) -> None:
    """Case 3.5: two reached, one dead, one to be tried again; in the end it is sent."""
    (user,) = database.new_users(1)
    for token in "abcd":
        insert_devices(worker, [user], token=token)
    claim(worker, [new_claim(user)])
    (leased,) = answer(worker)["leased"]
    result = [by_device(leased, "retry", reached=["a", "b"], invalid_tokens=["c"])]
    row = worker.execute("select public.scenario_settle_notifications(%s::jsonb)", [json.dumps(result)]).fetchone()
    assert row == ({"answers": ["pending"], "undeleted_tokens": 0},)
    assert devices(worker, user) == ["a", "b", "d"]
    database.let_pass(timedelta(minutes=2))
    (again,) = answer(worker)["leased"]
    assert [device["token"] for device in again["device_tokens"]] == ["d"]
    assert settle(worker, [by_device(again, "failed")]) == ["sent"]


@pytest.mark.parametrize("refusal", ["expired", "attempts_spent", "muted"])
def test_what_has_reached_a_device_is_sent_whatever_the_lease_says_then(
    refusal: str, database: Database, worker: psycopg.Connection
) -> None:
    """She was told, so it holds as sent, and nobody claims it again."""
    mentor = Mentor(database, worker, "inactivity")
    mentor.be_claimed()
    for token in "ab":
        insert_devices(worker, [mentor.user], token=token)
    (leased,) = answer(worker)["leased"]
    assert settle(worker, [by_device(leased, "retry", reached=["a"])]) == ["pending"]
    database.let_pass(timedelta(minutes=2))
    match refusal:
        case "expired":
            worker.execute("update scenario_notifications set deliver_until = now() - interval '1 second'")
        case "attempts_spent":
            worker.execute("update scenario_private.handover set attempt_count = 8")
        case "muted":
            worker.execute("insert into scenario_mutes (user_id) values (%s)", [mentor.user])
    told = answer(worker)
    assert (told["leased"], told["failed"]) == ([], {})
    assert mentor.row()["delivery_status"] == "sent"
    worker.execute("delete from scenario_mutes")
    assert mentor.evaluate()["skipped"] == {"cooldown": 1}


@pytest.mark.parametrize("what", ["somebody else's", "registered since"])
def test_a_token_that_is_not_the_users_any_more_is_kept(
    what: str, database: Database, worker: psycopg.Connection
) -> None:
    """It went to somebody else, or came back, while the provider was asked."""
    user, other = database.new_users(2)
    insert_devices(worker, [user], token="t")
    claim(worker, [new_claim(user)])
    (leased,) = answer(worker)["leased"]
    if what == "somebody else's":
        worker.execute("update device_tokens set user_id = %s", [other])
    else:
        worker.execute("update device_tokens set registered_at = clock_timestamp() + interval '1 second'")
    settle(worker, [by_device(leased, "suppressed", invalid_tokens=["t"])])
    assert devices(worker, user) + devices(worker, other) == ["t"]


def test_a_view_that_deletes_nothing_is_told(database: Database, worker: psycopg.Connection) -> None:
    """The app's own view over two tables: the settlement stands, and says how many tokens are left."""
    (user,) = database.new_users(1)
    insert_devices(worker, [user], token="t")
    claim(worker, [new_claim(user)])
    (leased,) = answer(worker)["leased"]
    with database.connect(role=None) as owner, owner.transaction(force_rollback=True):
        owner.execute(
            "create or replace view scenario_source.device_tokens with (security_invoker = true) as"
            " select distinct user_id, token, platform, registered_at from public.device_tokens"
        )
        owner.execute("set local role service_role")
        result = [by_device(leased, "suppressed", invalid_tokens=["t"])]
        row = owner.execute("select public.scenario_settle_notifications(%s::jsonb)", [json.dumps(result)]).fetchone()
        assert row == ({"answers": ["failed"], "undeleted_tokens": 1},)


def test_retry_after_spends_no_attempt(database: Database, worker: psycopg.Connection) -> None:
    """Case 3.6: not before the provider's time, as often as it asks."""
    (user,) = database.new_users(1)
    claim(worker, [new_claim(user)])
    for _ in range(10):
        (leased,) = answer(worker)["leased"]
        assert leased["attempt_count"] == 1
        assert settle(worker, [settlement(leased, "retry") | {"retry_after_seconds": 3600}]) == ["pending"]
        database.let_pass(timedelta(minutes=59))
        assert answer(worker)["leased"] == []
        database.let_pass(timedelta(minutes=2))


# Operators ------------------------------------------------------------------------------------------------------------


def operate(worker: psycopg.Connection, function: str, *asked: object) -> dict[str, Any]:
    """Cancel or retry."""
    row = worker.execute(
        f"select public.scenario_{function}_notifications(%s::uuid[])".encode(), [[str(one) for one in asked]]
    ).fetchone()
    assert row is not None
    return dict(row[0])


def test_an_operator_cancels_what_nobody_has_in_hand(database: Database, worker: psycopg.Connection) -> None:
    """One answer each; what is cancelled holds its cooldown."""
    users = database.new_users(3)
    waits, leased, sent = (outcome["id"] for outcome in claim(worker, [new_claim(user) for user in users]))
    worker.execute("update scenario_notifications set delivery_status = 'sent' where id = %s", [sent])
    worker.execute(
        "update scenario_private.handover set leased_until = now() + interval '1 minute' where notification_id = %s",
        [leased],
    )
    assert operate(worker, "cancel", waits, leased, sent, uuid4(), waits) == {
        "answers": ["cancelled", "leased", "already_settled", "unknown", "already_settled"]
    }
    assert results(claim(worker, [new_claim(users[0])])) == ["cooldown"]


def test_what_has_reached_a_device_is_not_cancelled(database: Database, worker: psycopg.Connection) -> None:
    """It was told: it is sent."""
    (user,) = database.new_users(1)
    for token in "ab":
        insert_devices(worker, [user], token=token)
    (outcome,) = claim(worker, [new_claim(user)])
    (leased,) = answer(worker)["leased"]
    settle(worker, [by_device(leased, "retry", reached=["a"])])
    assert operate(worker, "cancel", outcome["id"]) == {"answers": ["already_settled"]}
    query = "select delivery_status, failure_code from scenario_notifications"
    assert worker.execute(query).fetchall() == [("sent", None)]


def test_an_operator_lets_what_failed_be_tried_anew(database: Database, worker: psycopg.Connection) -> None:
    """What an evaluation made is freed, what a claim made is recorded anew, once."""
    mentor = Mentor(database, worker, "inactivity")
    mentor.be_claimed()
    mentor.deliver("failed", "invalid_token")
    (user,) = database.new_users(1)
    (outcome,) = claim(worker, [new_claim(user)])
    (leased,) = answer(worker)["leased"]
    settle(worker, [settlement(leased, "failed", "invalid_token")])
    failed = mentor.row()["id"]
    assert mentor.evaluate()["skipped"] == {"cooldown": 1}
    told = operate(worker, "retry", failed, outcome["id"], uuid4())
    assert told["answers"] == ["freed", "recorded", "unknown"]
    assert mentor.evaluate()["claimed"] == 1
    again = operate(worker, "retry", outcome["id"])
    assert again == {"answers": ["recorded"], "ids": [told["ids"][1]]}
    assert {row["user_id"] for row in answer(worker)["leased"]} == {str(user), str(mentor.user)}
    assert operate(worker, "retry", failed)["answers"] == ["not_held"]


def test_days_off_are_days_of_the_organizations_zone(database: Database, worker: psycopg.Connection) -> None:
    """A day begins where the organization is."""
    set_policy(database, ORGANIZATION, time_zone="Pacific/Kiritimati")
    with database.connect() as other:
        other.execute(
            "insert into scenario_days_off (first_day, last_day) values (%s, %s)",
            [date(2026, 12, 24), date(2026, 12, 24)],
        )
    query = "select scenario_private.next_moment(%s, '2026-12-23 10:00:00+00')"
    assert worker.execute(query, [ORGANIZATION]).fetchone() == (datetime.fromisoformat("2026-12-24T10:00:00Z"),)
    assert worker.execute(query, [uuid4()]).fetchone() == (datetime.fromisoformat("2026-12-23T10:00:00Z"),)
