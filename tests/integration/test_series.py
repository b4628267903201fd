"""What is told how often, and what is history: series of reminders, one welcome a return, due_within."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.integration.database import Database, claim, new_claim
from tests.integration.delivery import deliver, lease, settle, settlement
from tests.integration.evaluation import OTHER_ORGANIZATION, act, configure, empty, evaluate
from tests.integration.histories import DAY, HOUR, Mentor, database_with_own_type
from tests.postgres.server import PostgresServer
from tests.rows import ORGANIZATION, ago, insert_activities, insert_mentors, insert_notification

MONTH = timedelta(days=30)


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests, with the settings as they come."""
    with database_with_own_type(postgres_server, "series", migrated) as database:
        yield database


@pytest.fixture
def database(shared: Database) -> Iterator[Database]:
    """Empty the database afterwards."""
    yield shared
    empty(shared)


def quiet_for(database: Database, worker: psycopg.Connection, time: str, number: int = 1) -> list[UUID]:
    """Make mentors whose last activity is that long ago."""
    mentors = database.new_mentors(number, ORGANIZATION)
    insert_activities(worker, mentors, ago(time))
    return mentors


def days_told(
    database: Database, worker: psycopg.Connection, kind: str, days: int, step: timedelta = 5 * DAY
) -> list[int]:
    """Evaluate and send every few days; return the days on which something was sent."""
    told = []
    for number in range(days // step.days):
        evaluate(worker, kind)
        told += [number * step.days] * len(deliver(worker))
        database.let_pass(step)
    return told


def explained(worker: psycopg.Connection, user: UUID, kind: str, organization_id: UUID = ORGANIZATION) -> Any:  # noqa: ANN401
    """Return the reason that an explanation gives."""
    ((answer,),) = worker.execute("select public.scenario_explain(%s)", [user]).fetchall()
    (verdict,) = (
        one
        for one in answer["explanations"]
        if one["scenario_type"] == kind and one["organization_id"] == str(organization_id)
    )
    return verdict["reason"]


def test_an_absence_calls_for_three_reminders_and_then_silence(database: Database, worker: psycopg.Connection) -> None:
    """Case 2.3: who goes quiet today is told three times in two years; after an activity it begins anew."""
    (mentor,) = quiet_for(database, worker, "30 days")
    assert days_told(database, worker, "inactivity", 730) == [0, 30, 60]
    assert explained(worker, mentor, "inactivity") == "reminders_spent"
    assert evaluate(worker, "inactivity")["skipped"] == {"reminders_spent": 1}
    act(worker, mentor, "0 days")
    assert days_told(database, worker, "inactivity", 365) == [30, 60, 90]


def test_the_last_reminder_is_that_of_the_setting(database: Database, worker: psycopg.Connection) -> None:
    """The default's, or an organization's own; a mentor of both is told as long as one of them would."""
    configure(worker, "inactivity", "max_reminders", 2)
    configure(worker, "inactivity", "max_reminders", 4, OTHER_ORGANIZATION)
    (first,) = quiet_for(database, worker, "30 days")
    (second,) = database.new_mentors(1, OTHER_ORGANIZATION)
    (both,) = quiet_for(database, worker, "30 days")
    insert_mentors(worker, [both], organization_id=OTHER_ORGANIZATION)
    insert_activities(worker, [second], ago("30 days"))
    for _ in range(12):
        evaluate(worker, "inactivity")
        deliver(worker)
        database.let_pass(MONTH)
    query = "select count(*) from public.scenario_notifications where user_id = %s"
    assert [worker.execute(query, [user]).fetchall()[0][0] for user in (first, second, both)] == [2, 4, 4]


def test_a_setting_that_shrinks_or_grows_counts_at_once(database: Database, worker: psycopg.Connection) -> None:
    """What was told before counts against it."""
    quiet_for(database, worker, "30 days")
    assert days_told(database, worker, "inactivity", 60) == [0, 30]
    configure(worker, "inactivity", "max_reminders", 1)
    assert days_told(database, worker, "inactivity", 60) == []
    configure(worker, "inactivity", "max_reminders", 3)
    assert days_told(database, worker, "inactivity", 60) == [0]


def test_claims_and_plain_inserts_count_in_a_series(database: Database, worker: psycopg.Connection) -> None:
    """Whoever told her, she was told; what was told before she was last active is another absence's."""
    (mentor,) = quiet_for(database, worker, "40 days")
    for age in "45 days", "39 days":
        insert_notification(worker, mentor, delivery_status="sent", triggered_at=ago(age))
    claim(worker, [new_claim(mentor)])
    deliver(worker)
    database.let_pass(MONTH)
    assert days_told(database, worker, "inactivity", 365) == [0]


def test_a_failure_in_a_series_is_made_up_for(database: Database, worker: psycopg.Connection) -> None:
    """What failed was not told: three are sent all the same."""
    quiet_for(database, worker, "30 days")
    sent = failed = 0
    for number in range(200):
        evaluate(worker, "inactivity")
        leased = lease(worker)
        outcome = "failed" if number % 40 < 2 else "sent"
        settle(worker, [settlement(one, outcome, "provider_down" if outcome == "failed" else None) for one in leased])
        sent, failed = sent + len(leased) * (outcome == "sent"), failed + len(leased) * (outcome == "failed")
        database.let_pass(DAY)
    assert (sent, failed > 0) == (3, True)


def test_old_absences_are_history(database: Database, worker: psycopg.Connection) -> None:
    """Cases 2.3 and 2.4: gone for five years, nobody is told in two more; they are counted, and not due."""
    quiet_for(database, worker, "1826 days", 20)
    page = evaluate(worker, "inactivity", dry_run=True)
    assert page == evaluate(worker, "inactivity")
    assert {name: page[name] for name in ("evaluated", "due", "claimed", "history", "skipped")} == {
        "evaluated": 20,
        "due": 0,
        "claimed": 0,
        "history": 20,
        "skipped": {},
    }
    assert days_told(database, worker, "inactivity", 730, 10 * DAY) == []


@pytest.mark.parametrize(("quiet", "told"), [("60 days", 1), ("60 days 1 second", 0), ("30 days", 1), ("29 days", 0)])
def test_history_begins_due_within_after_it_came_true(
    quiet: str, told: int, database: Database, worker: psycopg.Connection
) -> None:
    """Inactive after 30 days, told within another 30: to the second, both ends included."""
    with worker.transaction():
        (mentor,) = quiet_for(database, worker, quiet)
        page = evaluate(worker, "inactivity")
        assert (page["claimed"], page["history"]) == (told, int(quiet > "60 days"))
        reason = {"60 days": "cooldown", "30 days": "cooldown", "29 days": "recently_active"}.get(quiet, "history")
        assert explained(worker, mentor, "inactivity") == reason


def test_a_series_that_has_begun_goes_on(database: Database, worker: psycopg.Connection) -> None:
    """The second and third reminder are due long after due_within; the first never is."""
    early, late = (quiet_for(database, worker, "30 days")[0] for _ in range(2))
    claim(worker, [new_claim(early)])
    deliver(worker)
    database.let_pass(100 * DAY)
    page = evaluate(worker, "inactivity")
    assert (page["claimed"], page["history"]) == (1, 1)
    assert explained(worker, late, "inactivity") == "history"
    assert explained(worker, early, "inactivity") == "cooldown"


def test_a_series_of_an_earlier_absence_has_not_begun_this_one(database: Database, worker: psycopg.Connection) -> None:
    """She was told two years ago, came back, and left again 100 days ago: that is history."""
    (mentor,) = quiet_for(database, worker, "100 days")
    insert_notification(worker, mentor, delivery_status="sent", triggered_at=ago("101 days"))
    assert evaluate(worker, "inactivity")["history"] == 1
    insert_notification(worker, mentor, delivery_status="failed", triggered_at=ago("60 days"))
    assert evaluate(worker, "inactivity")["history"] == 1
    insert_notification(worker, mentor, delivery_status="sent", triggered_at=ago("60 days"))
    assert evaluate(worker, "inactivity")["claimed"] == 1


@pytest.mark.parametrize("way", ["argument", "default", "organization"])
def test_the_past_can_be_told(way: str, database: Database, worker: psycopg.Connection) -> None:
    """By an argument of this call, or by the settings; an argument can also narrow it."""
    quiet_for(database, worker, "1000 days")
    assert evaluate(worker, "inactivity", dry_run=True)["history"] == 1
    if way == "default":
        configure(worker, "inactivity", "due_within", "970 days 1 minute")
    elif way == "organization":
        configure(worker, "inactivity", "due_within", "970 days 1 minute", ORGANIZATION)
    seconds = timedelta(days=970, minutes=1).total_seconds()
    query = "select public.scenario_evaluate('inactivity', p_due_within_seconds => %s, p_dry_run => %s)"
    ((narrow,),) = worker.execute(query, [seconds - 120, True]).fetchall()
    assert (narrow["claimed"], narrow["history"]) == (0, 1)
    ((page,),) = worker.execute(query, [seconds if way == "argument" else None, False]).fetchall()
    assert (page["claimed"], page["history"]) == (1, 0)


def test_a_pass_counts_what_it_left_out(database: Database, worker: psycopg.Connection) -> None:
    """Over all its pages, anew in each pass; with the past told, nothing is left out."""
    quiet_for(database, worker, "1000 days", 5)
    quiet_for(database, worker, "35 days", 2)
    figures = """
      select evaluated, due, claimed, skipped, history
      from scenario_private.pass where scenario_type = 'inactivity' and organization_id is null
    """
    for _ in range(2):
        while worker.execute("select public.scenario_evaluate_next_page('inactivity', null, 3)").fetchall()[0][0][
            "next_after"
        ]:
            pass
        ((evaluated, due, claimed, skipped, history),) = worker.execute(figures).fetchall()
        assert (evaluated, due, claimed + skipped, history) == (7, 2, 2, 5)
    worker.execute("select public.scenario_evaluate_next_page('inactivity', null, 100, 1e9)")
    assert worker.execute(figures).fetchall() == [(7, 7, 5, 2, 0)]


@pytest.mark.parametrize("seconds", [-1, 36526 * 86_400, float("nan"), float("inf")])
def test_a_due_within_out_of_bounds_is_refused(seconds: float, worker: psycopg.Connection) -> None:
    """With a sentence of ours, before anything is evaluated."""
    for function in "scenario_evaluate", "scenario_evaluate_next_page":
        with pytest.raises(psycopg.errors.DatabaseError, match="p_due_within_seconds") as refused:
            worker.execute(f"select public.{function}('inactivity', p_due_within_seconds => %s)".encode(), [seconds])
        assert refused.value.sqlstate == "SR001"


def test_an_old_milestone_is_history(database: Database, worker: psycopg.Connection) -> None:
    """Case 2.4: what counts is the activity that reached it, not the newest one."""
    old, new, mixed = database.new_mentors(3, ORGANIZATION)
    insert_activities(worker, [old], *(ago(f"{days} days") for days in range(100, 110)))
    insert_activities(worker, [new], *(ago(f"{days} days") for days in range(20, 30)))
    insert_activities(worker, [mixed], *(ago(f"{days} days") for days in [*range(40, 50), 1, 2]))
    page = evaluate(worker, "milestone")
    assert (page["claimed"], page["history"]) == (1, 2)
    assert [explained(worker, user, "milestone") for user in (old, new, mixed)] == [
        "history",
        "no_new_milestone",
        "history",
    ]
    query = "select user_id, metadata ->> 'activity_count' from public.scenario_notifications"
    assert worker.execute(query).fetchall() == [(new, "10")]
    insert_activities(worker, [mixed], *(ago(f"{hours} hours") for hours in range(1, 14)))
    assert evaluate(worker, "milestone")["claimed"] == 1


def test_the_milestone_names_the_activity_that_reached_it(database: Database, worker: psycopg.Connection) -> None:
    """The tenth of twelve."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    with worker.transaction():
        insert_activities(worker, [mentor], *(ago(f"{days} days") for days in range(1, 13)))
        evaluate(worker, "milestone")
        query = """
          select (metadata ->> 'reached_at')::timestamptz = now() - interval '3 days'
          from public.scenario_notifications
        """
        assert worker.execute(query).fetchall() == [(True,)]


def test_a_return_is_welcomed_once(database: Database, worker: psycopg.Connection) -> None:
    """However short the cooldown is; the next return is another."""
    configure(worker, "welcome_back", "cooldown", DAY)
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    act(worker, mentor, "50 days", "1 hour")
    assert days_told(database, worker, "welcome_back", 10, DAY) == [0]
    act(worker, mentor, "0 days")
    assert days_told(database, worker, "welcome_back", 10, DAY) == []
    database.let_pass(40 * DAY)
    act(worker, mentor, "1 hour")
    assert days_told(database, worker, "welcome_back", 10, DAY) == [0]


@pytest.mark.parametrize(("told", "claimed"), [("21 days", 0), ("19 days", 0), ("20 days 1 hour", 0), ("51 days", 1)])
def test_who_was_welcomed_since_the_gap_became_long_enough_was_welcomed(
    told: str, claimed: int, database: Database, worker: psycopg.Connection
) -> None:
    """The gap was long enough 21 days ago; a welcome before that was for an earlier return."""
    configure(worker, "welcome_back", "cooldown", DAY)
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    act(worker, mentor, "51 days", "1 hour")
    insert_notification(worker, mentor, scenario_type="welcome_back", delivery_status="sent", triggered_at=ago(told))
    page = evaluate(worker, "welcome_back")
    assert (page["claimed"], page["skipped"]) == (claimed, {} if claimed else {"reminders_spent": 1})


def test_a_welcome_that_failed_is_tried_again_while_she_is_newly_back(
    database: Database, worker: psycopg.Connection
) -> None:
    """After one day, and two more; what failed is no welcome."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    act(worker, mentor, "50 days", "1 hour")
    days = []
    for day in range(20):
        evaluate(worker, "welcome_back")
        days += [day] * len(deliver(worker, "failed", "provider_down"))
        database.let_pass(DAY + timedelta(minutes=1))
    assert days == [0, 1, 3]


def test_an_own_rule_without_a_series_is_never_spent(database: Database, worker: psycopg.Connection) -> None:
    """Nothing is counted, and nothing is history, where the rule says neither."""
    mentor = Mentor(database, worker, "errand")
    assert days_told(database, worker, "errand", 100, 10 * DAY) == [*range(0, 100, 10)]
    assert len(mentor.rows()) == 10


def test_a_certificate_looks_ahead_and_knows_no_history(database: Database, worker: psycopg.Connection) -> None:
    """Also a narrow due_within leaves out nothing."""
    Mentor(database, worker, "certification_expiry")
    query = "select public.scenario_evaluate('certification_expiry', p_due_within_seconds => 0)"
    ((page,),) = worker.execute(query).fetchall()
    assert (page["claimed"], page["history"]) == (1, 0)


def test_the_newest_settlement_of_two_leases_counts(database: Database, worker: psycopg.Connection) -> None:
    """Case 3.9: each result is judged by its own lease, in whatever order and in one call."""
    mentor = Mentor(database, worker, "inactivity")
    mentor.be_claimed()
    (first,) = lease(worker)
    database.let_pass(HOUR)
    (second,) = lease(worker)
    assert (first["lease_number"], second["lease_number"]) == (1, 2)
    answers = settle(worker, [settlement(first, "sent"), settlement(second, "sent"), settlement(second, "sent")])
    assert answers == ["lease_lost", "sent", "already_settled"]
    assert mentor.row()["delivery_status"] == "sent"


def test_nobody_to_send_to_is_suppressed(database: Database, worker: psycopg.Connection) -> None:
    """Case 3.3: final, nobody told, held for the cooldown, and no reminder."""
    quiet_for(database, worker, "30 days")
    days = []
    for day in range(70):
        evaluate(worker, "inactivity")
        days += [day] * len(deliver(worker, "suppressed"))
        database.let_pass(DAY)
    assert days == [0]
    query = "select delivery_status, failure_code from public.scenario_notifications"
    assert worker.execute(query).fetchall() == [("failed", "suppressed")]
