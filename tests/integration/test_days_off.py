"""Days off that stop the clock: what is compared with inactive_after is counted again in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest

from tests.integration.database import Database, now
from tests.integration.evaluation import evaluate
from tests.rows import insert_activities

OWN, OTHER = UUID(int=1), UUID(int=2)
DAY: Final = timedelta(days=1)
LEAST: Final = timedelta(microseconds=1)
INACTIVE_AFTER: Final = timedelta(days=30)


class Clock:
    """An organization's clock, which stands still on some days of its zone."""

    def __init__(self, zone: str, days: set[date]) -> None:
        self.stops = [
            (
                datetime.combine(day, time(0), ZoneInfo(zone)).astimezone(UTC),
                datetime.combine(day + DAY, time(0), ZoneInfo(zone)).astimezone(UTC),
            )
            for day in sorted(days)
        ]

    def runs(self, since: datetime, until: datetime) -> timedelta:
        """Count how long it ran."""
        stood = (min(end, until) - max(begin, since) for begin, end in self.stops if begin < until and end > since)
        return until - since - sum(stood, timedelta(0))

    def edge(self, until: datetime) -> datetime:
        """Return an instant since which it has run for INACTIVE_AFTER, to the microsecond."""
        since = until - INACTIVE_AFTER
        while missing := INACTIVE_AFTER - self.runs(since, until):
            since -= missing
        return since


@pytest.mark.parametrize("seed", range(8))
def test_what_the_clock_did_not_run_counts_for_nothing(
    seed: int, database: Database, worker: psycopg.Connection
) -> None:
    """In reminders, welcomes and the search alike: days of one's own and of all, in the zone of the organization."""
    random = Random(seed)  # noqa: S311 - the same days each time
    zones = {OWN: random.choice(["Europe/Oslo", "America/New_York", "Pacific/Kiritimati"]), OTHER: "UTC"}
    worker.execute(
        "insert into scenario_delivery_policy (organization_id, time_zone) values (%s, %s)", [OWN, zones[OWN]]
    )
    with worker.transaction():
        moment = now(worker)
        stopped: dict[UUID, set[date]] = {OWN: set(), OTHER: set()}
        # Without days of its own an organization still has those of all, in its own zone.
        for organization in (OWN, None, OWN, None) if seed % 2 else (None, None):
            first = moment.date() - DAY * random.randint(0, 45)
            days = [first + DAY * number for number in range(random.randint(1, 9))]
            stops = random.random() < 0.8
            worker.execute(
                "insert into scenario_days_off (organization_id, first_day, last_day, stops_clock)"
                " values (%s, %s, %s, %s)",
                [organization, days[0], days[-1], stops],
            )
            for whose in (OWN, OTHER) if stops else ():
                if organization in {None, whose}:
                    stopped[whose].update(days)
        for organization in (OWN, OTHER):
            agree(database, worker, organization, Clock(zones[organization], stopped[organization]), random)


def agree(database: Database, worker: psycopg.Connection, organization: UUID, clock: Clock, random: Random) -> None:
    """Compare the three with what is counted."""
    moment = now(worker)
    returned = moment - timedelta(hours=1)
    lasts = [moment - timedelta(hours=random.randint(25 * 24, 80 * 24)) for _ in range(15)]
    quiet = dict(zip(database.new_mentors(17, organization), [*lasts, *edges(clock, moment)], strict=True))
    back = dict(zip(database.new_mentors(17, organization), [*lasts, *edges(clock, returned)], strict=True))
    for mentor, last in [*quiet.items(), *back.items()]:
        insert_activities(worker, [mentor], last)
    insert_activities(worker, list(back), returned)

    due = {mentor for mentor, last in quiet.items() if clock.runs(last, moment) >= INACTIVE_AFTER}
    welcome = {mentor for mentor, last in back.items() if clock.runs(last, returned) >= INACTIVE_AFTER}
    query = "select public.scenario_find_inactive_mentors(%s, '30 days')"
    row = worker.execute(query, [organization]).fetchone()
    assert row is not None
    assert {UUID(mentor["user_id"]) for mentor in row[0]["mentors"]} == due
    # What came true long ago is not history here.
    for kind in ("inactivity", "welcome_back"):
        evaluate(worker, kind, organization, due_within=timedelta(days=365))
    assert told(worker, "inactivity", organization) == due
    assert told(worker, "welcome_back", organization) == welcome


def edges(clock: Clock, until: datetime) -> Sequence[datetime]:
    """Return the last instant that is long enough ago, and the first that is not."""
    edge = clock.edge(until)
    return [edge, edge + LEAST]


def told(worker: psycopg.Connection, kind: str, organization: UUID) -> set[UUID]:
    """Return who was claimed for."""
    query = "select user_id from scenario_notifications where scenario_type = %s and organization_id = %s"
    return {user for (user,) in worker.execute(query, [kind, organization])}
