"""What came of it: who counts, in which group, what is hoped for, and what is not shown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.integration.database import Database
from tests.rows import (
    ORGANIZATION,
    ago,
    ahead,
    insert_activities,
    insert_certificates,
    insert_notification,
    set_handover,
)

OTHER = UUID(int=2)
DAY = timedelta(days=1)


@pytest.fixture
def database(emptied: Database) -> Database:
    """Keep one database for all tests, emptied after each."""
    return emptied


def outcomes(
    worker: psycopg.Connection,
    kind: str = "inactivity",
    within: timedelta = 14 * DAY,
    organization: UUID = ORGANIZATION,
) -> dict[str, Any]:
    """Ask what came of the last 60 days."""
    row = worker.execute(
        "select public.scenario_get_outcomes(%s, %s, now() - interval '60 days', now(), %s)",
        [organization, kind, within.total_seconds()],
    ).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return answer


def told(worker: psycopg.Connection, users: Iterable[UUID], days: int = 30, **columns: Any) -> None:  # noqa: ANN401 - the columns'
    """Record that they were told, so many days ago."""
    for user in users:
        given = {
            "delivery_status": "sent",
            "triggered_at": ago(f"{days} days 1 hour"),
            "settled_at": ago(f"{days} days"),
        }
        insert_notification(worker, user, **given | columns)


def failed(worker: psycopg.Connection, users: Iterable[UUID], code: str | None = "timeout", **columns: Any) -> None:  # noqa: ANN401 - as above
    """Record that they could not be told, 30 days ago."""
    told(worker, users, **{"delivery_status": "failed", "failure_code": code} | columns)


def interval_of(worker: psycopg.Connection, function: str, *numbers: int) -> tuple[float, ...]:
    """Ask one of the two functions for an interval, to the four places of the published tables."""
    row = worker.execute(
        f"select lowest, highest from scenario_private.{function}({', '.join(map(str, numbers))})".encode()  # noqa: S608
    ).fetchone()
    assert row is not None
    return tuple(round(bound, 4) for bound in row)


def counts(group: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Return the numbers of a group."""
    return group["persons"], group["hoped"], group["undecided"]


def test_shares_and_their_intervals_are_those_of_the_books(database: Database, worker: psycopg.Connection) -> None:
    """Wilson's interval of 56 of 70, and Newcombe's of it less 48 of 80: his own example of 1998."""
    one, other = database.new_users(70), database.new_users(80)
    told(worker, one)
    failed(worker, other)
    insert_activities(worker, [*one[:56], *other[:48]], ago("20 days"))
    found = outcomes(worker)
    assert (found["says_hope"], found["says_when"]) == (True, True)
    assert (counts(found["told"]), counts(found["not_told"])) == ((70, 56, None), (80, 48, None))
    assert [round(found["told"][name], 4) for name in ("share", "lowest", "highest")] == [0.8, 0.6918, 0.877]
    assert [round(found["difference"][name], 4) for name in ("share", "lowest", "highest")] == [0.2, 0.0524, 0.3339]


@pytest.mark.parametrize(
    ("hits", "number", "interval"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (29, 29, (0.8830, 1.0)),
    ],
)
def test_a_share_has_wilsons_interval(
    worker: psycopg.Connection, hits: int, number: int, interval: tuple[float, float]
) -> None:
    """As published: Newcombe, Two-sided confidence intervals for the single proportion (1998), table I, method 3.

    The last one is none of his: it is 1 less the interval of 0 of 29.
    """
    assert interval_of(worker, "share_interval", hits, number) == interval


@pytest.mark.parametrize(
    ("one", "other", "interval"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((0, 10), (0, 10), (-0.2775, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_a_difference_has_newcombes_interval(
    worker: psycopg.Connection, one: tuple[int, int], other: tuple[int, int], interval: tuple[float, float]
) -> None:
    """As published: Newcombe, Interval estimation for the difference (1998), table II, method 10."""
    assert interval_of(worker, "difference_interval", *one, *other) == interval


def test_of_nobody_there_is_no_share(worker: psycopg.Connection) -> None:
    """No division by zero; and the interval says that it may be anything."""
    row = worker.execute("select * from scenario_private.share_interval(0, 0)").fetchone()
    assert row == (None, 0, 1)


def test_what_is_hoped_for_counts_in_time_only(database: Database, worker: psycopg.Connection) -> None:
    """After she was told and within the time, to the boundary; before or later is neither."""
    groups = [database.new_users(6) for _ in range(4)]
    at_once, at_last, late, before = groups
    told(worker, [user for group in groups for user in group])
    for users, when in (
        (at_once, "29 days 23 hours"),
        (at_last, "16 days"),
        (late, "15 days 23 hours"),
        (before, "31 days"),
    ):
        with worker.transaction():
            insert_activities(worker, users, ago(when))
    assert counts(outcomes(worker, within=timedelta(days=14, minutes=1))["told"]) == (24, 12, None)


def test_who_has_time_left_is_undecided(database: Database, worker: psycopg.Connection) -> None:
    """They are no part of the share, whether or not they did it already."""
    early, late = database.new_users(12), database.new_users(7)
    told(worker, early)
    told(worker, late, days=3)
    insert_activities(worker, [*early[:6], *late[:5]], ago("2 days"), ago("25 days"))
    assert counts(outcomes(worker)["told"]) == (12, 6, 7)


def test_a_person_counts_once_from_the_first_time(database: Database, worker: psycopg.Connection) -> None:
    """However often she was told in the period; and who was told is not among the others, whatever failed besides."""
    users = database.new_users(12)
    told(worker, users, days=50)
    told(worker, users, days=20)
    failed(worker, users)
    insert_activities(worker, users[:5], ago("45 days"))
    insert_activities(worker, users[5:], ago("15 days"))
    found = outcomes(worker)
    assert (counts(found["told"]), counts(found["not_told"])) == ((12, 5, None), (None, None, None))


def test_who_could_not_be_told_was_there_and_due(database: Database, worker: psycopg.Connection) -> None:
    """Failed, expired, suppressed, muted, cancelled count; no longer due, gone or maybe told: not."""
    codes = ("timeout", "expired", "suppressed", "muted", "cancelled", None)
    for code in codes:
        failed(worker, database.new_users(1), code)
    for code in ("no_longer_due", "superseded", "user_gone", "user_banned", "mentor_not_active"):
        failed(worker, database.new_users(1), code)
    failed(worker, database.new_users(1), unsettled_at=ago("29 days"))
    insert_notification(worker, database.new_users(1)[0], triggered_at=ago("30 days"))
    assert counts(outcomes(worker)["not_told"]) == (len(codes), None, None)


def test_who_was_told_soon_after_is_no_comparison(database: Database, worker: psycopg.Connection) -> None:
    """Told within the time after the failure, by whichever organization; told later, she is one."""
    soon, elsewhere, later = (database.new_users(6) for _ in range(3))
    failed(worker, [*soon, *elsewhere, *later], settled_at=ago("59 days"), triggered_at=ago("59 days 1 hour"))
    told(worker, elsewhere, days=50, organization_id=OTHER)
    told(worker, later, days=30, organization_id=OTHER)
    assert counts(outcomes(worker)["not_told"]) == (12, None, None)
    told(worker, soon, days=50)
    found = outcomes(worker)
    assert (found["told"]["persons"], found["not_told"]["persons"]) == (6, 6)


def test_who_was_told_before_is_no_comparison(database: Database, worker: psycopg.Connection) -> None:
    """Told in the period by another organization, then not reached: she knew. Told before the period: she is one."""
    lately, long_ago = database.new_users(6), database.new_users(7)
    told(worker, lately, days=50, organization_id=OTHER)
    told(worker, long_ago, days=61, organization_id=OTHER)
    failed(worker, [*lately, *long_ago])
    assert counts(outcomes(worker)["not_told"]) == (7, None, None)


def test_who_may_have_been_told_by_another_one_is_no_comparison(database: Database, worker: psycopg.Connection) -> None:
    """By a later notification whose lease nobody settled, over or still pending; once her time is over, she is one."""
    over, pending, too_late = (database.new_users(6) for _ in range(3))
    failed(worker, [*over, *pending, *too_late])
    for users, days in ((over, 20), (too_late, 10)):
        when = ago(f"{days} days")
        failed(worker, users, triggered_at=when, settled_at=ago(f"{days - 1} days"), unsettled_at=when)
    waiting = [insert_notification(worker, user, triggered_at=ago("21 days")) for user in pending]
    set_handover(worker, [row["id"] for row in waiting], unsettled_at=ago("20 days"))
    assert counts(outcomes(worker)["not_told"]) == (6, None, None)


def test_an_apps_own_hope_counts_a_person_once(database: Database, worker: psycopg.Connection) -> None:
    """However many rows its view has of a notification: the first time after it counts, and none before it does."""
    users = database.new_users(14)
    told(worker, users)
    insert_activities(worker, users[:6], ago("29 days"), ago("28 days"), ago("5 days"))
    insert_activities(worker, users[6:], ago("40 days"))
    with database.connect(role=None) as owner, owner.transaction(force_rollback=True):
        owner.execute(
            "create or replace view scenario_private.inactivity_hope with (security_invoker = true) as"
            " select notification.id as notification_id, activity.activity_date as hoped_at"
            " from public.scenario_notifications as notification"
            " join scenario_source.activities as activity on activity.user_id = notification.user_id"
        )
        assert counts(outcomes(owner)["told"]) == (14, 6, None)


@pytest.mark.parametrize(
    ("persons", "did", "shown"),
    [
        (4, 2, (None, None)),
        (5, 5, (5, None)),
        (9, 4, (9, None)),
        (9, 5, (9, None)),
        (10, 5, (10, 5)),
        (20, 0, (20, None)),
    ],
)
def test_a_few_are_not_shown(
    database: Database, worker: psycopg.Connection, persons: int, did: int, shown: tuple[int | None, int | None]
) -> None:
    """Neither fewer than five persons, nor a part of them where it or the rest is fewer than five; nor any share."""
    users = database.new_users(persons)
    told(worker, users)
    insert_activities(worker, users[:did], ago("20 days"))
    found = outcomes(worker)
    group = found["told"]
    assert (group["persons"], group["hoped"]) == shown
    assert (group["share"] is None, group["lowest"] is None) == (shown[1] is None,) * 2
    assert found["difference"] is None


def test_another_organization_type_and_period_do_not_count(database: Database, worker: psycopg.Connection) -> None:
    """What is counted is what was settled in the period, from its beginning to before its end."""
    users = database.new_users(5)
    told(worker, users, organization_id=OTHER)
    told(worker, users, scenario_type="welcome_back")
    told(worker, users, days=61)
    assert counts(outcomes(worker)["told"]) == (None, None, None)
    assert counts(outcomes(worker, organization=OTHER)["told"]) == (5, None, None)
    # Triggered before the period and delivered in it.
    told(worker, users, triggered_at=ago("70 days"))
    assert counts(outcomes(worker)["told"]) == (5, None, None)


@pytest.mark.parametrize("kind", ["milestone", "welcome_back"])
def test_a_further_activity_is_hoped_for(database: Database, worker: psycopg.Connection, kind: str) -> None:
    """After a milestone, and after a return."""
    users = database.new_users(12)
    told(worker, users, scenario_type=kind, **{"milestone_value": 10} if kind == "milestone" else {})
    insert_activities(worker, users[:6], ago("29 days"))
    assert counts(outcomes(worker, kind)["told"]) == (12, 6, None)


def _certificate(worker: psycopg.Connection, user: UUID, kind: str | None) -> tuple[UUID, dict[str, Any]]:
    """Give her a certificate that lapses in ten days, and tell her of it as an evaluation does."""
    (certificate,) = insert_certificates(worker, [user], ahead("10 days"), kind=kind)
    (lapses,) = worker.execute(
        "select to_jsonb(expires_at at time zone 'UTC') #>> '{}' || '+00:00' from public.certifications where id = %s",
        [certificate],
    ).fetchone() or (None,)
    facts = {"certificate_ids": [str(certificate)], "expires_at": lapses}
    columns: dict[str, Any] = {
        "scenario_type": "certification_expiry",
        "origin": "evaluation",
        "subjects": [kind or str(certificate)],
        "metadata": Jsonb(facts),
    }
    return certificate, columns


@pytest.mark.parametrize(
    "way", ["a later one", "moved", "replaced", "an earlier one", "another kind", "another organization"]
)
def test_a_certificate_is_renewed_as_the_rule_judges_it(
    database: Database, worker: psycopg.Connection, way: str
) -> None:
    """A later one of its kind and organization, or the same one with a later time; nothing else."""
    users = database.new_users(12)
    for place, user in enumerate(users):
        certificate, columns = _certificate(worker, user, "first_aid")
        told(worker, [user], **columns)
        if place >= 6:
            continue
        later = ahead("300 days")
        match way:
            case "a later one":
                insert_certificates(worker, [user], later, kind="first_aid")
            case "moved":
                worker.execute(
                    "update public.certifications set expires_at = now() + interval '300 days' where id = %s",
                    [certificate],
                )
            case "replaced":
                worker.execute("delete from public.certifications where id = %s", [certificate])
                insert_certificates(worker, [user], later, kind="first_aid")
            case "an earlier one":
                insert_certificates(worker, [user], ahead("5 days"), kind="first_aid")
            case "another kind":
                insert_certificates(worker, [user], later, kind="boat")
            case _:
                insert_certificates(worker, [user], later, kind="first_aid", organization_id=OTHER)
    renewed = way in {"a later one", "moved", "replaced"}
    found = outcomes(worker, "certification_expiry")
    assert counts(found["told"]) == (12, 6 if renewed else None, None)
    # When it was, no column says: it may be too late.
    assert found["says_when"] is not renewed


def test_a_certificate_without_a_kind_is_renewed_in_its_place_alone(
    database: Database, worker: psycopg.Connection
) -> None:
    """No other one renews it, as the rule has it."""
    users = database.new_users(12)
    for place, user in enumerate(users):
        certificate, columns = _certificate(worker, user, None)
        told(worker, [user], **columns)
        if place < 5:
            worker.execute(
                "update public.certifications set expires_at = now() + interval '1 year' where id = %s", [certificate]
            )
        else:
            insert_certificates(worker, [user], ahead("300 days"))
    assert counts(outcomes(worker, "certification_expiry")["told"]) == (12, 5, None)


def test_an_apps_own_facts_raise_nothing(database: Database, worker: psycopg.Connection) -> None:
    """Metadata that is no date, or a date that there is not, is no certificate's."""
    (user,) = database.new_users(1)
    for text in ("tomorrow", "2026-02-31T00:00:00+00:00"):
        facts = Jsonb({"expires_at": text, "certificate_ids": "none"})
        told(worker, [user], scenario_type="certification_expiry", subjects=["a"], metadata=facts)
    assert outcomes(worker, "certification_expiry")["told"]["persons"] is None


def test_a_type_without_a_hope_says_so(database: Database, worker: psycopg.Connection) -> None:
    """The persons are counted, and nothing of what they did."""
    users = database.new_users(12)
    told(worker, users)
    insert_activities(worker, users[:6], ago("20 days"))
    with database.connect(role=None) as owner, owner.transaction(force_rollback=True):
        owner.execute("drop view scenario_private.inactivity_hope")
        found = outcomes(owner)
    assert (found["says_hope"], counts(found["told"]), found["difference"]) == (False, (12, None, None), None)


def test_a_hope_of_other_columns_is_a_fault_of_the_rule(database: Database) -> None:
    """check-rules names the column that is missing or of another type, the right that is, and whose rights it uses."""
    check = "select public.scenario_check_rule('inactivity') -> 'faults'"
    hope = "scenario_private.inactivity_hope"
    with database.connect(role=None) as owner, owner.transaction(force_rollback=True):
        assert owner.execute(check).fetchone() == ([],)
        owner.execute("revoke select on scenario_private.inactivity_hope from service_role")
        owner.execute("set local role service_role")
        told = f"service_role may not read it: grant select on {hope} to service_role"
        assert owner.execute(check).fetchone() == ([told],)
        owner.execute("reset role")
        owner.execute("drop view scenario_private.inactivity_hope")
        owner.execute("create view scenario_private.inactivity_hope as select 1 as notification_id")
        assert owner.execute(check).fetchone() == (
            [
                f"{hope}: expected a column notification_id of uuid",
                f"{hope}: expected a column hoped_at of timestamp with time zone",
                f"{hope} is no view with security_invoker: it would read with its owner's rights",
            ],
        )


@pytest.mark.parametrize(
    "arguments",
    [
        "null, 'inactivity', now(), now(), 60",
        "gen_random_uuid(), 'inactivity', now(), now(), 0",
        "gen_random_uuid(), 'inactivity', now(), now(), 'NaN'",
        "gen_random_uuid(), 'inactivity', now(), now() - interval '1 second', 60",
    ],
)
def test_what_is_missing_or_out_of_bounds_is_refused(worker: psycopg.Connection, arguments: str) -> None:
    """Before anything is read."""
    with pytest.raises(psycopg.Error) as refused:
        worker.execute(f"select public.scenario_get_outcomes({arguments})".encode())
    assert refused.value.sqlstate == "SR001"


def test_an_unknown_type_is_refused(worker: psycopg.Connection) -> None:
    """As everywhere."""
    with pytest.raises(psycopg.Error) as refused:
        worker.execute("select public.scenario_get_outcomes(%s, 'nothing', now(), now(), 60)", [uuid4()])
    assert refused.value.sqlstate == "SR004"
