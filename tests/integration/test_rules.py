"""The rules of evaluation on a real PostgreSQL: each edge case, decided.

Exact boundaries are met inside one transaction, where now() stands still.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from tests.integration.database import Database
from tests.integration.evaluation import (
    KINDS,
    OTHER_ORGANIZATION,
    act,
    certify,
    configure,
    evaluate,
    explain,
    held,
)
from tests.rows import ORGANIZATION, insert_activities, insert_mentors, insert_notification
from tests.rows import ago as moment_ago


@pytest.fixture
def database(emptied: Database) -> Database:
    """Keep one database for all tests, emptied after each."""
    return emptied


@pytest.fixture
def mentor(database: Database) -> UUID:
    """Make a mentor of one organization, with nothing in the past."""
    return database.new_mentors(1, ORGANIZATION)[0]


@pytest.mark.parametrize(
    ("ago", "reason"),
    [
        ([], "never_active"),
        (["30 days"], "inactive"),
        (["30 days 1 microsecond"], "inactive"),
        (["30 days -1 microseconds"], "recently_active"),
        (["0 s"], "recently_active"),
        (["-1 microseconds"], "never_active"),
        (["30 days", "-1 day"], "inactive"),
        (["90 days", "1 day"], "recently_active"),
    ],
)
def test_inactivity_begins_exactly_after_the_period(
    worker: psycopg.Connection, mentor: UUID, ago: Sequence[str], reason: str
) -> None:
    """A gap of exactly inactive_after is long enough; the future has not happened; who never acted is not gone."""
    with worker.transaction():
        act(worker, mentor, *ago)
        verdict = explain(worker, mentor, "inactivity")
        assert (verdict["reason"], verdict["is_due"]) == (reason, reason == "inactive")
        assert evaluate(worker, "inactivity")["claimed"] == (reason == "inactive")


@pytest.mark.parametrize(
    ("ago", "reason"),
    [
        ([], "not_active_lately"),
        (["1 day"], "newly_active"),
        (["1 day", "31 days"], "returned"),
        (["1 day", "31 days -1 microseconds"], "never_away"),
        (["7 days", "37 days"], "returned"),
        (["7 days 1 microsecond", "60 days"], "not_active_lately"),
        (["0 s", "30 days"], "returned"),
        (["1 day", "6 days", "36 days"], "returned"),
        (["1 day", "8 days", "60 days"], "never_away"),
        (["-1 day", "60 days"], "not_active_lately"),
        (["1 day", "-1 day", "60 days"], "returned"),
    ],
)
def test_welcome_back_follows_a_gap_exactly_as_long_as_the_period(
    worker: psycopg.Connection, mentor: UUID, ago: Sequence[str], reason: str
) -> None:
    """Gap and window count with their ends; a first activity ever is no return, a future one is none yet."""
    with worker.transaction():
        act(worker, mentor, *ago)
        verdict = explain(worker, mentor, "welcome_back")
        assert (verdict["reason"], verdict["is_due"]) == (reason, reason == "returned")
        assert evaluate(worker, "welcome_back")["claimed"] == (reason == "returned")


@pytest.mark.parametrize(
    ("ahead", "expiring"),
    [
        ([], []),
        (["-1 day"], []),
        (["0 s"], []),
        (["1 microsecond"], [0]),
        (["30 days"], [0]),
        (["30 days 1 microsecond"], []),
        (["20 days", "-1 day", "10 days", "60 days"], [2, 0]),
    ],
)
def test_certificates_are_due_from_the_period_to_the_moment_they_lapse(
    worker: psycopg.Connection, mentor: UUID, ahead: Sequence[str], expiring: Sequence[int]
) -> None:
    """One that lapses in exactly expires_within is listed, one that lapses now has lapsed; the first comes first."""
    with worker.transaction():
        ids = certify(worker, mentor, *ahead)
        verdict = explain(worker, mentor, "certification_expiry")
        assert verdict["is_due"] == bool(expiring)
        assert (verdict["facts"]["certificate_ids"] or []) == [ids[index] for index in expiring]
        assert evaluate(worker, "certification_expiry")["claimed"] == bool(expiring)
        metadata = worker.execute("select metadata -> 'certificate_ids' from public.scenario_notifications").fetchall()
        assert metadata == ([([ids[index] for index in expiring],)] if expiring else [])


@pytest.mark.parametrize(
    ("first", "second", "is_due"),
    [
        (("10 days", "first aid"), ("700 days", "first aid"), False),
        (("10 days", "first aid"), ("10 days", "first aid"), True),
        (("10 days", "first aid"), ("10 days 1 microsecond", "first aid"), True),
        (("10 days", "first aid"), ("700 days", "driving"), True),
        (("10 days", None), ("700 days", None), True),
        (("10 days", "first aid"), ("700 days", None), True),
        (("10 days", "first aid"), ("-1 days", "first aid"), True),
    ],
)
def test_a_later_certificate_of_its_kind_renews_one(
    worker: psycopg.Connection,
    mentor: UUID,
    first: tuple[str, str | None],
    second: tuple[str, str | None],
    *,
    is_due: bool,
) -> None:
    """A renewed certificate may lapse; where nothing says what is certified, nothing is taken to renew another."""
    ids = [certify(worker, mentor, ahead, kind=kind)[0] for ahead, kind in (first, second)]
    verdict = explain(worker, mentor, "certification_expiry")
    assert verdict["is_due"] is is_due
    named = verdict["facts"]["certificate_ids"] or []
    assert set(named) <= set(ids)
    assert evaluate(worker, "certification_expiry")["claimed"] == is_due


def test_a_certificate_is_told_by_its_organization_alone(worker: psycopg.Connection, mentor: UUID) -> None:
    """Also where the mentor belongs to another one with a shorter cooldown; and there it renews nothing."""
    insert_mentors(worker, [mentor], organization_id=OTHER_ORGANIZATION)
    configure(worker, "certification_expiry", "cooldown", "1 day", OTHER_ORGANIZATION)
    certify(worker, mentor, "10 days", kind="first aid")
    certify(worker, mentor, "700 days", kind="first aid", organization_id=OTHER_ORGANIZATION)
    assert not explain(worker, mentor, "certification_expiry", OTHER_ORGANIZATION)["is_due"]
    assert evaluate(worker, "certification_expiry", OTHER_ORGANIZATION)["claimed"] == 0
    assert evaluate(worker, "certification_expiry")["claimed"] == 1
    assert held(worker, mentor) == [("certification_expiry", None, ORGANIZATION)]


def test_hundreds_of_certificates_fit_the_metadata(worker: psycopg.Connection, mentor: UUID) -> None:
    """The facts list the fifty that lapse first: the claim is never lost to the bound of metadata."""
    ids = certify(worker, mentor, *(f"{hours} hours" for hours in range(400, 0, -1)))
    assert evaluate(worker, "certification_expiry") | {"next_after": None} == {
        "evaluated": 1, "due": 1, "claimed": 1, "history": 0, "skipped": {}, "next_after": None, "due_mentors": [],
    }  # fmt: skip
    row = worker.execute("select metadata -> 'certificate_ids' from public.scenario_notifications").fetchone()
    assert row == (ids[:-51:-1],)


@pytest.mark.parametrize(
    ("activities", "milestone"), [(0, None), (9, None), (10, 10), (49, 25), (50, 50), (1001, 1000)]
)
def test_a_first_run_over_old_data_claims_only_the_highest_milestone(
    worker: psycopg.Connection, mentor: UUID, activities: int, milestone: int | None
) -> None:
    """Whoever has reached several thresholds hears of the last alone; future activities are not counted."""
    act(worker, mentor, *(f"{number + 1} hours" for number in range(activities)), *(["-1 hour"] * 3))
    assert evaluate(worker, "milestone")["claimed"] == (milestone is not None)
    assert held(worker, mentor) == ([("milestone", milestone, ORGANIZATION)] if milestone else [])
    assert evaluate(worker, "milestone")["due"] == 0


def test_a_threshold_that_is_added_counts_above_and_is_silent_below(worker: psycopg.Connection, mentor: UUID) -> None:
    """A list that grows brings the new threshold above what was recorded, and nothing of the past."""
    act(worker, mentor, *(f"{number + 1} hours" for number in range(60)))
    configure(worker, "milestone", "milestones", [20])
    assert evaluate(worker, "milestone")["claimed"] == 1
    configure(worker, "milestone", "milestones", [5, 10, 20])
    assert evaluate(worker, "milestone")["due"] == 0
    configure(worker, "milestone", "milestones", [55, 5, 40, 20])
    assert evaluate(worker, "milestone")["claimed"] == 1
    assert [value for _, value, _ in held(worker, mentor)] == [20, 55]
    configure(worker, "milestone", "milestones", [5])
    assert explain(worker, mentor, "milestone")["reason"] == "no_new_milestone"


def test_a_failed_milestone_becomes_due_again(database: Database, worker: psycopg.Connection, mentor: UUID) -> None:
    """Pending and sent hold a milestone for good, a failure holds it for retry_failed_after."""
    act(worker, mentor, *(f"{number + 1} hours" for number in range(10)))
    assert evaluate(worker, "milestone")["claimed"] == 1
    worker.execute("update public.scenario_notifications set delivery_status = 'failed' where user_id = %s", [mentor])
    assert explain(worker, mentor, "milestone")["reason"] == "cooldown"
    assert evaluate(worker, "milestone")["skipped"] == {"cooldown": 1}
    database.let_pass(timedelta(days=1))
    assert explain(worker, mentor, "milestone")["is_due"]
    assert evaluate(worker, "milestone")["claimed"] == 1
    worker.execute(
        "update public.scenario_notifications set delivery_status = 'sent' where delivery_status = 'pending'"
    )
    assert evaluate(worker, "milestone")["due"] == 0


def test_a_welcome_back_follows_right_after_an_inactivity_notice(worker: psycopg.Connection, mentor: UUID) -> None:
    """Scenarios are independent: the notice of the morning doesn't hold up the welcome of the afternoon."""
    act(worker, mentor, "45 days")
    assert evaluate(worker, "inactivity")["claimed"] == 1
    act(worker, mentor, "1 second")
    assert evaluate(worker, "welcome_back")["claimed"] == 1
    assert evaluate(worker, "inactivity")["due"] == 0


@pytest.mark.parametrize(("ago", "claimed"), [("30 days", 1), ("30 days -1 microseconds", 0)])
def test_the_cooldown_ends_exactly_when_it_is_over(
    worker: psycopg.Connection, mentor: UUID, ago: str, claimed: int
) -> None:
    """A notification exactly as old as the cooldown stands in nobody's way."""
    with worker.transaction():
        act(worker, mentor, "100 days")
        insert_notification(worker, mentor, triggered_at=moment_ago(ago), delivery_status="sent")
        verdict = explain(worker, mentor, "inactivity")
        assert verdict["reason"] == ("inactive" if claimed else "cooldown")
        assert evaluate(worker, "inactivity")["claimed"] == claimed


def test_a_mentor_who_stays_away_is_told_again_after_the_cooldown(
    database: Database, worker: psycopg.Connection
) -> None:
    """The cooldown rolls from the last notice, however often evaluation runs in between; three notices at most."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    database.add_activities(mentor, timedelta(days=31))
    claimed = []
    for _ in range(18):
        claimed.append(evaluate(worker, "inactivity")["claimed"])
        database.let_pass(timedelta(days=8))
    assert claimed == [1, 0, 0, 0, 1, 0, 0, 0, 1, *[0] * 9]
    assert evaluate(worker, "inactivity")["skipped"] == {"reminders_spent": 1}
    assert explain(worker, mentor, "inactivity")["reason"] == "reminders_spent"

    # Active again, and quiet again: another absence.
    act(worker, mentor, "31 days")
    assert evaluate(worker, "inactivity")["claimed"] == 1


def test_one_return_is_welcomed_once(database: Database, worker: psycopg.Connection, mentor: UUID) -> None:
    """However short the cooldown; the next return is another one."""
    configure(worker, "welcome_back", "cooldown", "1 hour")
    act(worker, mentor, "41 days", "1 hour")
    assert evaluate(worker, "welcome_back")["claimed"] == 1
    worker.execute("update public.scenario_notifications set delivery_status = 'sent'")
    database.let_pass(timedelta(days=2))
    act(worker, mentor, "1 hour")
    assert evaluate(worker, "welcome_back")["skipped"] == {"reminders_spent": 1}
    database.let_pass(timedelta(days=40))
    act(worker, mentor, "1 hour")
    assert evaluate(worker, "welcome_back")["claimed"] == 1


@pytest.mark.parametrize(("microseconds", "is_history"), [(0, False), (1, True)])
@pytest.mark.parametrize("kind", ["inactivity", "milestone", "welcome_back"])
def test_what_came_true_longer_than_due_within_ago_is_history(
    worker: psycopg.Connection, mentor: UUID, kind: str, microseconds: int, *, is_history: bool
) -> None:
    """Exactly due_within ago is due still: the end of the quiet period, the activity that reached it, the return."""
    configure(worker, kind, "due_within", "2 days")
    crossed = f"2 days {microseconds} microseconds"
    acts = {
        "inactivity": [f"32 days {microseconds} microseconds"],
        "milestone": [*(f"{days} days" for days in range(3, 12)), crossed, "1 day"],
        "welcome_back": ["40 days", crossed],
    }
    with worker.transaction():
        act(worker, mentor, *acts[kind])
        verdict = explain(worker, mentor, kind)
        assert (verdict["is_due"], verdict["reason"] == "history") == (not is_history, is_history)
        page = evaluate(worker, kind)
        assert (page["due"], page["claimed"], page["history"]) == ((0, 0, 1) if is_history else (1, 1, 0))


def test_an_absence_that_has_been_told_of_is_no_history(
    database: Database, worker: psycopg.Connection, mentor: UUID
) -> None:
    """Its series has begun: the next notice comes after the cooldown, though the absence is older than due_within."""
    act(worker, mentor, "31 days")
    assert evaluate(worker, "inactivity")["claimed"] == 1
    worker.execute("update public.scenario_notifications set delivery_status = 'sent'")
    database.let_pass(timedelta(days=200))
    assert evaluate(worker, "inactivity")["claimed"] == 1


def test_an_inactive_mentor_is_neither_evaluated_nor_claimed(database: Database, worker: psycopg.Connection) -> None:
    """Who is no longer an active mentor is told nothing, whatever the rules say."""
    (mentor,) = database.new_mentors(1, ORGANIZATION, is_active=False)
    act(worker, mentor, "1 day", *["60 days"] * 30)
    certify(worker, mentor, "3 days")
    for kind in KINDS:
        page = evaluate(worker, kind)
        assert (page["evaluated"], page["due"], page["claimed"]) == (0, 0, 0)
        assert explain(worker, mentor, kind)["reason"] == "mentor_not_active"


@pytest.mark.parametrize("time_zone", ["UTC", "Europe/Oslo", "America/New_York", "Pacific/Auckland"])
@pytest.mark.parametrize(("minutes", "is_on_the_far_side"), [(-30, False), (0, True), (30, True)])
def test_time_zones_and_summer_time_change_nothing(
    worker: psycopg.Connection, mentor: UUID, time_zone: str, minutes: int, *, is_on_the_far_side: bool
) -> None:
    """Across a change of summer time a day has 24 hours, whatever the session's time zone is."""
    row = worker.execute(
        """
        select min(days)
        from generate_series(8, 300) as days
        where (now() - days * interval '24 hours') at time zone 'Europe/Oslo' + days * interval '24 hours'
          <> now() at time zone 'Europe/Oslo'
        """
    ).fetchone()
    assert row is not None
    days = row[0]
    worker.execute("select set_config('timezone', %s, false)", [time_zone])
    for kind, setting in (
        ("inactivity", "inactive_after"),
        ("welcome_back", "inactive_after"),
        ("inactivity", "cooldown"),
    ):
        configure(worker, kind, setting, f"{days} days")
    with worker.transaction():
        act(worker, mentor, f"{days * 24} hours {minutes} minutes")
        assert explain(worker, mentor, "inactivity")["is_due"] == is_on_the_far_side
        act(worker, mentor, "0 s")
        assert explain(worker, mentor, "welcome_back")["is_due"] == is_on_the_far_side
    configure(worker, "certification_expiry", "expires_within", f"{days + 150} days")
    with worker.transaction():
        certify(worker, mentor, f"{(days + 150) * 24} hours {minutes} minutes")
        assert explain(worker, mentor, "certification_expiry")["is_due"] == (minutes <= 0)


# Organizations -----------------------------------------------------------


def both_organizations(database: Database, worker: psycopg.Connection, *, first_is_active: bool = True) -> UUID:
    """Make a mentor of two organizations, the second one first."""
    (mentor,) = database.new_mentors(1, OTHER_ORGANIZATION)
    insert_mentors(worker, [mentor], organization_id=ORGANIZATION, is_active=first_is_active)
    return mentor


def test_a_mentor_of_two_organizations_is_notified_once(database: Database, worker: psycopg.Connection) -> None:
    """With the same settings the lower organization_id has it; the other is a duplicate, then in cooldown."""
    mentor = both_organizations(database, worker)
    act(worker, mentor, "31 days")
    page = evaluate(worker, "inactivity")
    assert (page["evaluated"], page["due"], page["claimed"]) == (2, 2, 1)
    assert page["skipped"] == {"duplicate_in_batch": 1}
    assert held(worker, mentor) == [("inactivity", None, ORGANIZATION)]
    assert evaluate(worker, "inactivity", OTHER_ORGANIZATION)["skipped"] == {"cooldown": 1}
    assert explain(worker, mentor, "inactivity", OTHER_ORGANIZATION)["reason"] == "cooldown"


@pytest.mark.parametrize(("setting", "value"), [("is_enabled", False), ("inactive_after", "32 days"), (None, None)])
def test_the_organization_that_finds_a_mentor_due_notifies(
    database: Database, worker: psycopg.Connection, setting: str | None, value: object
) -> None:
    """Where the lower one is disabled, more patient, or has no active mentor in her, the other one's verdict holds."""
    mentor = both_organizations(database, worker, first_is_active=setting is not None)
    act(worker, mentor, "31 days")
    if setting is not None:
        configure(worker, "inactivity", setting, value, ORGANIZATION)
    assert evaluate(worker, "inactivity")["claimed"] == 1
    assert held(worker, mentor) == [("inactivity", None, OTHER_ORGANIZATION)]


def test_two_lists_of_milestones_bring_one_notification(database: Database, worker: psycopg.Connection) -> None:
    """A mentor of two organizations with unlike thresholds is told of one milestone in one pass, not of two."""
    mentor = both_organizations(database, worker)
    act(worker, mentor, *(f"{number + 1} hours" for number in range(30)))
    configure(worker, "milestone", "milestones", [10], ORGANIZATION)
    assert evaluate(worker, "milestone")["claimed"] == 1
    assert len(held(worker, mentor)) == 1


def test_a_long_cooldown_of_one_organization_does_not_silence_the_other(
    database: Database, worker: psycopg.Connection
) -> None:
    """Where the lower organization's own cooldown refuses, the other one, which finds the mentor free, notifies."""
    mentor = both_organizations(database, worker)
    act(worker, mentor, "100 days")
    insert_notification(
        worker,
        mentor,
        organization_id=OTHER_ORGANIZATION,
        triggered_at=moment_ago("40 days"),
        delivery_status="sent",
    )
    configure(worker, "inactivity", "cooldown", "90 days", ORGANIZATION)
    assert explain(worker, mentor, "inactivity", OTHER_ORGANIZATION)["is_due"]
    assert evaluate(worker, "inactivity")["claimed"] == 1


def test_activity_in_one_organization_counts_in_the_other(database: Database, worker: psycopg.Connection) -> None:
    """A mentor who is busy somewhere has not gone quiet; activities are the user's, whatever they belong to."""
    mentor = both_organizations(database, worker)
    insert_activities(worker, [mentor], organization_id=OTHER_ORGANIZATION)
    act(worker, mentor, "90 days")
    assert evaluate(worker, "inactivity")["due"] == 0
    assert json.dumps(explain(worker, mentor, "inactivity")["facts"]).count("T") == 1
