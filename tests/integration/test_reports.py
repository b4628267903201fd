"""The report of an organization: what is counted, on which day, and by which index."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from tests.integration.database import Database, new_claim
from tests.rows import insert_notification

ORGANIZATION = UUID(int=1)
SINCE = datetime(2026, 3, 28, tzinfo=UTC)
UNTIL = datetime(2026, 4, 1, tzinfo=UTC)

Line = tuple[str | None, str, str, str | None, int | None]


def _report(
    connection: psycopg.Connection,
    since: datetime | None = SINCE,
    until: datetime | None = UNTIL,
    organization_id: UUID | None = ORGANIZATION,
) -> list[Line]:
    row = connection.execute(
        "select public.scenario_get_organization_report(%s, %s, %s)", [organization_id, since, until]
    ).fetchone()
    assert row is not None
    return [
        (line["day"], line["scenario_type"], line["delivery_status"], line["failure_code"], line["notifications"])
        for line in row[0]["lines"]
        if len(line) == 5
    ]


def _add_each(
    worker: psycopg.Connection,
    users: list[UUID],
    triggered_at: datetime,
    *columns: str,
    **more: Any,  # noqa: ANN401 - as _add has them
) -> None:
    """Give each of these a notification."""
    for user in users:
        _add(worker, user, triggered_at, *columns, **more)


def _add(  # noqa: PLR0913 - the columns that are counted by
    worker: psycopg.Connection,
    user_id: UUID,
    triggered_at: datetime,
    scenario_type: str = "inactivity",
    status: str = "sent",
    *,
    organization_id: UUID = ORGANIZATION,
    milestone_value: int | None = None,
    failure_code: str | None = None,
) -> None:
    insert_notification(
        worker,
        user_id,
        organization_id=organization_id,
        scenario_type=scenario_type,
        triggered_at=triggered_at,
        delivery_status=status,
        milestone_value=milestone_value,
        failure_code=failure_code,
    )


def test_notifications_are_counted_per_day_type_and_status(database: Database, worker: psycopg.Connection) -> None:
    """One line for each combination there is, in order, and none for what is zero; what failed by its code."""
    five, six = database.new_users(5), database.new_users(6)
    first, second = SINCE + timedelta(hours=7), SINCE + timedelta(days=1, hours=23)
    _add_each(worker, six, second)
    _add_each(worker, six, first, "welcome_back", "failed")
    _add_each(worker, six, first, "milestone", milestone_value=10)
    _add_each(worker, five, first, "milestone", milestone_value=25)
    _add_each(worker, five, first, "certification_expiry", "pending")
    _add_each(worker, five, first, "welcome_back", "failed", failure_code="no_longer_due")
    _add_each(worker, five, second, "inactivity", "pending", failure_code="timeout")

    assert _report(worker) == [
        ("2026-03-28", "certification_expiry", "pending", None, 5),
        ("2026-03-28", "milestone", "sent", None, 11),
        ("2026-03-28", "welcome_back", "failed", "no_longer_due", 5),
        ("2026-03-28", "welcome_back", "failed", None, 6),
        ("2026-03-29", "inactivity", "pending", None, 5),
        ("2026-03-29", "inactivity", "sent", None, 6),
    ]


STATUSES = (("sent", None), ("pending", None), ("failed", "timeout"))


@pytest.mark.parametrize(("status", "code"), STATUSES)
@pytest.mark.parametrize("each", [1, 30])
def test_few_persons_are_not_counted(
    database: Database, worker: psycopg.Connection, status: str, code: str | None, each: int
) -> None:
    """Persons make a number, however many notifications each has: four are hidden, and five are not."""
    users = database.new_users(5)
    for number in range(each):
        _add_each(worker, users[:4], SINCE + timedelta(minutes=number), status=status, failure_code=code)
    assert _report(worker) == [(None, "inactivity", status, code, None)]
    _add(worker, users[4], SINCE + timedelta(hours=1), status=status, failure_code=code)
    assert _report(worker) == [("2026-03-28", "inactivity", status, code, 4 * each + 1)]


@pytest.mark.parametrize(("status", "code"), STATUSES)
def test_days_of_few_persons_are_put_together(
    database: Database, worker: psycopg.Connection, status: str, code: str | None
) -> None:
    """In one line, once five different persons stand behind it; beside the days that are shown."""
    crowd, few, other = database.new_users(5), database.new_users(4), database.new_users(1)
    _add_each(worker, crowd, SINCE, status=status, failure_code=code)
    for day in (1, 2):
        _add_each(worker, few, SINCE + timedelta(days=day), status=status, failure_code=code)
    shown = ("2026-03-28", "inactivity", status, code, 5)
    assert _report(worker) == [shown, (None, "inactivity", status, code, None)]
    _add_each(worker, other, SINCE + timedelta(days=3), status=status, failure_code=code)
    assert _report(worker) == [shown, (None, "inactivity", status, code, 9)]


def test_a_hidden_number_is_in_no_other(database: Database, worker: psycopg.Connection) -> None:
    """Types, statuses and codes are each for themselves: no sum of several is told."""
    users = database.new_users(4)
    _add_each(worker, users, SINCE)
    _add_each(worker, users, SINCE, "welcome_back")
    _add_each(worker, users, SINCE, "welcome_back", "pending")
    for code in ("timeout", "no_device", None):
        _add_each(worker, users, SINCE, "certification_expiry", "failed", failure_code=code)
    assert [line[1:] for line in _report(worker)] == [
        ("certification_expiry", "failed", "no_device", None),
        ("certification_expiry", "failed", "timeout", None),
        ("certification_expiry", "failed", None, None),
        ("inactivity", "sent", None, None),
        ("welcome_back", "pending", None, None),
        ("welcome_back", "sent", None, None),
    ]


def test_every_number_is_what_a_plain_count_gives(database: Database, worker: psycopg.Connection) -> None:
    """Of many days, types, statuses and codes with few persons and many, by a query that knows no index."""
    users = database.new_users(9)
    chance = random.Random(14)  # noqa: S311 - no secret
    for day in range(4):
        for kind in ("inactivity", "welcome_back"):
            for status, code in (*STATUSES, ("failed", None)):
                for user in chance.choices(users, k=chance.choice((0, 1, 5, 9, 20))):
                    moment = SINCE + timedelta(days=day, minutes=chance.randrange(1440))
                    _add(worker, user, moment, kind, status, failure_code=code)
    found = worker.execute(
        """with cell as (
             select triggered_at::date::text as day, scenario_type, delivery_status as status, failed_code as code,
               array_agg(user_id) as persons, count(distinct user_id) as few
             from public.scenario_notifications group by 1, 2, 3, 4
           ), merged as (
             select null, scenario_type, status, code, count(person), count(distinct person) as few
             from cell, unnest(persons) as person where few < 5 group by 2, 3, 4
           )
           select day, scenario_type, status, code, cardinality(persons) from cell where few >= 5
           union all
           select null, scenario_type, status, code, case when few >= 5 then count end from merged
           order by 1, 2, 3, 4"""
    ).fetchall()
    assert _report(worker) == found
    assert {(day is None, number is None) for day, *_, number in found} == {(False, False), (True, False), (True, True)}


def test_since_is_inclusive_and_until_exclusive(database: Database, worker: psycopg.Connection) -> None:
    """Periods that meet count every notification once, to the microsecond."""
    users = database.new_users(5)
    tick = timedelta(microseconds=1)
    for moment in (SINCE - tick, SINCE, UNTIL - tick, UNTIL):
        _add_each(worker, users, moment)

    assert _report(worker) == [
        ("2026-03-28", "inactivity", "sent", None, 5),
        ("2026-03-31", "inactivity", "sent", None, 5),
    ]
    before, after = _report(worker, SINCE - timedelta(days=9), SINCE), _report(worker, UNTIL, UNTIL + tick)
    assert [before, after] == [
        [("2026-03-27", "inactivity", "sent", None, 5)],
        [("2026-04-01", "inactivity", "sent", None, 5)],
    ]


def test_another_organization_is_not_counted(database: Database, worker: psycopg.Connection) -> None:
    """A user of two organizations counts where the notification belongs."""
    users = database.new_users(5)
    other = uuid4()
    _add_each(worker, users, SINCE, organization_id=other)
    _add_each(worker, users, SINCE, "welcome_back")

    assert _report(worker) == [("2026-03-28", "welcome_back", "sent", None, 5)]
    assert _report(worker, organization_id=other) == [("2026-03-28", "inactivity", "sent", None, 5)]
    assert _report(worker, organization_id=uuid4()) == []


def test_a_period_of_nothing_is_an_empty_report(database: Database, worker: psycopg.Connection) -> None:
    """It gives no lines, never null."""
    (user,) = database.new_users(1)
    _add(worker, user, SINCE)

    assert _report(worker, SINCE, SINCE) == []


def test_a_missing_argument_is_refused(worker: psycopg.Connection) -> None:
    """SR001 names it: a report of nothing is not the answer to a question that was not asked."""
    for since, until, organization_id in (
        (None, UNTIL, ORGANIZATION),
        (SINCE, None, ORGANIZATION),
        (SINCE, UNTIL, None),
    ):
        with pytest.raises(psycopg.DatabaseError, match=r"expected p_\w+, got null") as refusal:
            _report(worker, since, until, organization_id)
        assert refusal.value.sqlstate == "SR001"


def test_a_period_that_ends_before_it_begins_is_refused(worker: psycopg.Connection) -> None:
    """An empty report would look as if nobody had been told anything."""
    query = "select scenario_get_organization_report(%s, now(), now() - interval '1 second')"
    with pytest.raises(psycopg.Error, match="expected p_until not before p_since") as refused:
        worker.execute(query, [ORGANIZATION])
    assert refused.value.sqlstate == "SR001"


def test_days_are_utc_whatever_the_session_says(database: Database, worker: psycopg.Connection) -> None:
    """Neither the session's time zone nor a change to summer time moves a notification to another day."""
    users = database.new_users(5)
    moments = [datetime(2026, 3, 29, hour, 30, tzinfo=UTC) for hour in (0, 1, 23)]
    for moment in moments:
        _add_each(worker, users, moment)

    for zone in ("UTC", "Europe/Copenhagen", "Pacific/Kiritimati", "America/Los_Angeles"):
        worker.execute(sql.SQL("set timezone = {}").format(sql.Literal(zone)))
        assert _report(worker) == [(date(2026, 3, 29).isoformat(), "inactivity", "sent", None, 15)], zone
        assert worker.execute("show timezone").fetchone() == (zone,)


def test_the_report_reads_the_organizations_index(worker: psycopg.Connection) -> None:
    """The function's statement finds the organization and the period in the index made for them, by its name."""
    row = worker.execute(
        "select prosrc from pg_proc where oid = 'public.scenario_get_organization_report'::regproc"
    ).fetchone()
    assert row is not None
    query = row[0].partition("return (")[2].rpartition(");")[0]
    body = query.replace("p_organization_id", "$1").replace("p_since", "$2").replace("p_until", "$3")
    body = body.replace("p_time_zone", "'UTC'").replace("first_at", "$2").replace("last_at", "$3")
    explain = sql.SQL("explain execute report ({}, {}, {})").format(*map(sql.Literal, (ORGANIZATION, SINCE, UNTIL)))
    with worker.transaction():
        worker.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")
        worker.execute(sql.SQL("prepare report (uuid, timestamptz, timestamptz) as {}").format(sql.SQL(body)))
        plan = [line for (line,) in worker.execute(explain)]

    for index in ("organization_id_scenario_type_idx", "failed_by_organization_idx"):
        name = f"Index Only Scan using scenario_notifications_{index}"
        scan = next(position for position, line in enumerate(plan) if name in line)
        assert all(column in plan[scan + 1] for column in ("(organization_id =", "(triggered_at >=", "(triggered_at <"))


def _in_zone(
    worker: psycopg.Connection, zone: str, since: datetime, until: datetime
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Return the days that are reported and how many each has, and what one by one gives."""
    row = worker.execute(
        "select public.scenario_get_organization_report(%s, %s, %s, %s)", [ORGANIZATION, since, until, zone]
    ).fetchone()
    assert row is not None
    assert row[0]["time_zone"] == zone
    one_by_one = worker.execute(
        """select (triggered_at at time zone %s)::date::text, count(*)::integer from public.scenario_notifications
           where triggered_at >= %s and triggered_at < %s group by 1 order by 1""",
        [zone, since, until],
    ).fetchall()
    return [(line["day"], line["notifications"]) for line in row[0]["lines"]], one_by_one


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Europe/Oslo", datetime(2026, 3, 29, tzinfo=UTC)),
        ("Europe/Oslo", datetime(2025, 10, 26, tzinfo=UTC)),
        ("America/Havana", datetime(2025, 11, 2, tzinfo=UTC)),  # midnight comes twice
        ("America/Havana", datetime(2026, 3, 8, tzinfo=UTC)),  # and here not at all
        ("America/Sao_Paulo", datetime(2018, 2, 18, tzinfo=UTC)),  # the last hour comes twice
        ("Pacific/Apia", datetime(2011, 12, 30, tzinfo=UTC)),  # a day that there was not
        ("Asia/Kathmandu", datetime(2026, 3, 29, tzinfo=UTC)),
    ],
)
def test_days_are_those_of_a_zone(database: Database, worker: psycopg.Connection, zone: str, day: datetime) -> None:
    """A notification a quarter of an hour, over three days, is counted on the day that its clock shows."""
    users = database.new_users(5)
    for quarter in range(-96, 192):
        _add(worker, users[quarter % 5], day + quarter * timedelta(minutes=15))
    reported, one_by_one = _in_zone(worker, zone, day - timedelta(hours=13), day + timedelta(hours=31))
    assert reported == one_by_one


def test_a_time_zone_is_what_postgresql_lists(worker: psycopg.Connection) -> None:
    """Every name in its list is one, as it is written there; nothing else that it would take for a zone is."""
    names = "select name from pg_timezone_names"
    refused = worker.execute(f"{names} where not scenario_private.is_time_zone(name)").fetchall()
    assert refused == []
    spelt = """with few as (select name from pg_timezone_names where left(name, 2) in ('As', 'CE', 'Et', 'GM', 'UT'))
      select spelt from (
        select lower(name) as spelt from few union select upper(name) from few
        union select name || '/' from few union select '/' || name from few
        union select abbrev from pg_timezone_abbrevs
        union select unnest(array['default', 'local', 'interval', 'America', 'CET-', '-', '/', '..', 'A/../UTC', ''])
      ) as other where spelt not in (select name from pg_timezone_names) and scenario_private.is_time_zone(spelt)"""
    assert worker.execute(spelt).fetchall() == []
    worker.execute("set timezone = 'Asia/Kathmandu'")
    assert worker.execute("select scenario_private.is_time_zone('Europe/Oslo')").fetchone() == (True,)
    assert worker.execute("show timezone").fetchone() == ("Asia/Kathmandu",)


def test_an_unknown_time_zone_is_refused(worker: psycopg.Connection) -> None:
    """An abbreviation has no summer, and an offset is no zone."""
    for zone in ("CET-1", "+02:00", "Europe/Atlantis", "", None):
        with pytest.raises(psycopg.Error) as refused:
            worker.execute(
                "select public.scenario_get_organization_report(%s, %s, %s, %s)", [ORGANIZATION, SINCE, UNTIL, zone]
            )
        assert refused.value.sqlstate == "SR001"


def test_a_hundred_years_are_as_fast_as_what_is_in_them(database: Database, worker: psycopg.Connection) -> None:
    """Days before the first notification and after the last one are not looked at."""
    _add_each(worker, database.new_users(5), SINCE)
    reported, one_by_one = _in_zone(
        worker, "Europe/Oslo", datetime(1950, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
    )
    assert reported == one_by_one == [("2026-03-28", 5)]
    longest = worker.execute(
        "select count(*) from scenario_private.days_between('-infinity', 'infinity', %s, %s, 'UTC')", [SINCE, SINCE]
    ).fetchone()
    assert longest == (1,)


def test_a_claimed_one_is_pending_on_its_day(database: Database, worker: psycopg.Connection) -> None:
    """The hand-over has the notification's time, whoever made it; sent or failed, it is no longer pending."""
    users = database.new_users(15)
    for user in users:
        worker.execute(
            "select public.scenario_claim_notifications(%s)",
            [json.dumps([new_claim(user, organization_id=ORGANIZATION)], default=str)],
        )
    _add_each(worker, users[:5], SINCE, "welcome_back", "pending")
    differing = worker.execute(
        """select count(*) filter (where handover.triggered_at is distinct from notification.triggered_at), count(*)
           from public.scenario_notifications as notification
           left join scenario_private.handover as handover on handover.notification_id = notification.id"""
    ).fetchone()
    assert differing == (0, 20)
    settle = "update public.scenario_notifications set delivery_status = %s, failure_code = %s where user_id = any (%s)"
    worker.execute(settle, ["sent", None, users[5:10]])
    worker.execute(settle, ["failed", "x", users[10:]])
    now = datetime.now(UTC)
    found = _report(worker, SINCE, now + timedelta(days=1))
    assert [(status, code, number) for _, _, status, code, number in found] == [
        ("pending", None, 5),
        ("failed", "x", 5),
        ("pending", None, 5),
        ("sent", None, 5),
    ]
