"""A month of 500 mentors: plain Python, which remembers everything, checks each delivery against each rule.

Time passes for the rows, as in the other tests; the windows of the policies are moved the other way, so that they open
when the month's own clock and calendar say so.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest

from tests.integration.database import Database, now
from tests.integration.delivery import lease, settle, settlement
from tests.integration.evaluation import KINDS, evaluate, reused_database
from tests.postgres.server import PostgresServer
from tests.rows import ahead, insert_activities, insert_certificates

DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
MENTORS: Final = 500
BEGINNING: Final = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday."""
STEP: Final = timedelta(hours=7)
FREE, OFFICE, CLOSED = UUID(int=101), UUID(int=102), UUID(int=103)
"""Always open; on weekdays from 8 to 20, with a gap; daily from 10 to 16, with days off."""
OPENS: Final = {OFFICE: (time(8), time(20)), CLOSED: (time(10), time(16))}
OFF: Final = (date(2026, 3, 12), date(2026, 3, 15))
GAP: Final = 10 * HOUR
QUIET: Final = 10 * DAY
COOLDOWNS: Final = {"inactivity": 5 * DAY, "welcome_back": 5 * DAY, "certification_expiry": 4 * DAY}
AHEAD: Final = 14 * DAY
REMINDERS: Final = 3


@dataclass
class Person:
    """All that is known of a mentor, by the month's clock."""

    id: UUID
    organization: UUID
    activities: list[datetime] = field(default_factory=list)
    certificates: list[tuple[str, datetime]] = field(default_factory=list)
    mutes: list[tuple[str | None, datetime]] = field(default_factory=list)
    is_active: bool = True
    handed: list[tuple[datetime, str, tuple[str, ...], int | None, str]] = field(default_factory=list)
    """What was handed out and may have been told."""

    def expiring(self, now: datetime) -> set[str]:
        """Name the kinds of certificate that lapse soon, and have no later one."""
        latest = {kind: max(at for one, at in self.certificates if one == kind) for kind, _ in self.certificates}
        return {kind for kind, at in latest.items() if now < at <= now + AHEAD}


def is_open(organization: UUID, now: datetime) -> bool:
    """Say whether the month's clock and calendar permit it."""
    if organization == FREE:
        return True
    if organization == OFFICE and now.isoweekday() > 5:
        return False
    if organization == CLOSED and OFF[0] <= now.date() <= OFF[1]:
        return False
    opens, closes = OPENS[organization]
    return opens <= now.time() < closes


class Month:
    """The database, and beside it what plain Python knows."""

    def __init__(self, database: Database, worker: psycopg.Connection) -> None:
        self.database = database
        self.worker = worker
        self.dice = random.Random(20260302)  # noqa: S311 - the same month each time
        self.now = BEGINNING
        organizations = (FREE, OFFICE, CLOSED)
        self.people = {
            user: Person(user, organization)
            for organization in organizations
            for user in database.new_mentors(MENTORS // 3 + 1, organization)
        }
        self.told: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        for person in self.people.values():
            since = self.dice.choice([DAY, 3 * DAY, 9 * DAY, 12 * DAY, 20 * DAY])
            self.act(person, *[since + number * 2 * DAY for number in range(self.dice.choice([1, 8, 9, 12, 23, 24]))])
            if self.dice.random() < 0.4:
                self.certify(person, self.dice.choice(["first aid", "rescue"]), self.dice.uniform(2, 40) * DAY)

    def act(self, person: Person, *ago: timedelta) -> None:
        """Record activities."""
        person.activities += [self.now - one for one in ago]
        insert_activities(self.worker, [person.id], *[ahead(-one) for one in ago], organization_id=person.organization)

    def certify(self, person: Person, kind: str, in_time: timedelta) -> None:
        """Record a certificate."""
        person.certificates.append((kind, self.now + in_time))
        insert_certificates(self.worker, [person.id], ahead(in_time), organization_id=person.organization, kind=kind)

    def live(self) -> None:
        """Let things happen to some."""
        for person in self.people.values():
            chance = self.dice.random()
            if chance < 0.03:
                self.act(person, self.dice.random() * HOUR)
            elif chance < 0.034:
                kind = self.dice.choice([None, *KINDS])
                person.mutes.append((kind, self.now + 3 * DAY))
                self.worker.execute(
                    "insert into scenario_mutes (user_id, scenario_type, muted_until)"
                    " values (%s, %s, now() + interval '3 days')"
                    " on conflict (user_id, organization_id, scenario_type)"
                    " do update set muted_until = excluded.muted_until",
                    [person.id, kind],
                )
            elif chance < 0.036:
                person.is_active = not person.is_active
                self.worker.execute(
                    "update peer_mentors set is_active = %s where user_id = %s", [person.is_active, person.id]
                )
            elif chance < 0.042 and person.certificates:
                self.certify(person, person.certificates[0][0], 300 * DAY)

    def set_policies(self) -> None:
        """Open the windows where the month's clock says so, seen from the database's."""
        offset = self.now - now(self.worker)
        self.worker.execute("delete from scenario_delivery_policy")
        self.worker.execute("delete from scenario_days_off")
        for organization, (opens, closes) in OPENS.items():
            first = datetime.combine(self.now.date(), opens, UTC)
            days = [first + number * DAY for number in range(7)]
            weekdays = [day for day in days if organization != OFFICE or day.isoweekday() <= 5]
            self.worker.execute(
                "insert into scenario_delivery_policy"
                " (organization_id, time_zone, weekdays, opens_at, closes_at, min_gap)"
                " values (%s, 'UTC', %s, %s, %s, %s)",
                [
                    organization,
                    sorted((day - offset).isoweekday() for day in weekdays),
                    (first - offset).time(),
                    (datetime.combine(self.now.date(), closes, UTC) - offset).time(),
                    GAP if organization == OFFICE else None,
                ],
            )
        begin, end = (datetime.combine(day, OPENS[CLOSED][0], UTC) - offset for day in OFF)
        self.worker.execute(
            "insert into scenario_days_off (organization_id, first_day, last_day) values (%s, %s, %s)",
            [CLOSED, begin.date(), end.date()],
        )

    def deliver(self) -> None:
        """Lease what is due, check it, and settle it as chance has it; some workers die."""
        leased = lease(self.worker, 1000, 300)
        results = []
        for one in leased:
            person = self.people[UUID(one["user_id"])]
            self.check(person, one)
            result = self.dice.choices(
                ["sent", "retry", "failed", "suppressed", "released", None], [90, 3, 2, 1, 2, 2]
            )[0]
            if result in {"sent", None}:
                subjects = tuple(one["subjects"])
                person.handed.append((self.now, one["scenario_type"], subjects, one["milestone_value"], one["id"]))
                self.told[one["scenario_type"]] += 1
            if result is not None:
                results.append(settlement(one, result))
        settle(self.worker, results)

    def check(self, person: Person, one: dict[str, Any]) -> None:
        """Hold a delivery against each rule."""
        kind = one["scenario_type"]
        said = (kind, person, one)
        assert person.is_active, said
        assert is_open(person.organization, self.now), said
        assert not any(until > self.now and muted in {None, kind} for muted, until in person.mutes), said
        # The same one may be handed out again after a lease that nobody settled.
        again = {
            told: at
            for at, of, subjects, value, told in person.handed
            if told != one["id"]
            and of == kind
            and value == one["milestone_value"]
            and (not subjects or set(subjects) & set(self.news(one)))
        }
        if kind == "milestone":
            assert len(person.activities) >= one["milestone_value"], said
            assert not again, said
        else:
            triggered_at = self.now - (now(self.worker) - datetime.fromisoformat(one["triggered_at"]))
            assert all(at + COOLDOWNS[kind] <= triggered_at + timedelta(seconds=5) for at in again.values()), said
        last = max(person.activities)
        if kind == "inactivity":
            assert last + QUIET <= self.now + timedelta(seconds=5), said
            assert len([at for at in again.values() if at > last + QUIET]) < REMINDERS, said
        if kind == "welcome_back":
            assert last > self.now - QUIET, said
        if kind == "certification_expiry":
            assert set(self.news(one)) <= person.expiring(self.now), said
        if person.organization == OFFICE:
            others = [at for at, of, *_ in person.handed if of != kind and at > self.now - GAP]
            assert not others, said

    @staticmethod
    def news(one: dict[str, Any]) -> list[str]:
        """Return which of its subjects are new."""
        return list(one["metadata"].get("new_subjects", [])) if one["subjects"] else []

    def pass_time(self) -> None:
        """Go on to the next round."""
        self.now += STEP
        self.database.let_pass(STEP)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Make a database with shorter times."""
    with reused_database(postgres_server, "month", migrated) as database:
        with database.connect(role=None) as owner:
            owner.execute("update scenario_evaluation_config set deliver_within = '2 days'")
            owner.execute(
                "update scenario_evaluation_config set max_reminders = %s where scenario_type = 'inactivity'",
                [REMINDERS],
            )
            for kind, cooldown in COOLDOWNS.items():
                owner.execute(
                    "update scenario_evaluation_config set cooldown = %s where scenario_type = %s", [cooldown, kind]
                )
            owner.execute(
                "update scenario_evaluation_config set inactive_after = %s where inactive_after is not null", [QUIET]
            )
            owner.execute(
                "update scenario_evaluation_config set expires_within = %s where expires_within is not null", [AHEAD]
            )
        yield database


def test_every_delivery_of_a_month_is_right(database: Database) -> None:
    """True, timely, wanted and the only one; and nobody who was quiet for long and could be told was left out."""
    with database.connect() as worker:
        month = Month(database, worker)
        while month.now < BEGINNING + 30 * DAY:
            month.live()
            month.set_policies()
            for kind in KINDS:
                evaluate(worker, kind)
            month.deliver()
            month.pass_time()
    assert set(month.told) == set(KINDS)
    assert min(month.told.values()) >= MENTORS / 25
    long_quiet = [
        person
        for person in month.people.values()
        if person.is_active
        and not person.mutes
        and max(person.activities) + QUIET + 8 * DAY < month.now
        and max(person.activities) + QUIET > BEGINNING - 25 * DAY
    ]
    told = [person for person in long_quiet if any(kind == "inactivity" for _, kind, *_ in person.handed)]
    # Some senders failed, and some were released.
    assert len(told) > 0.9 * len(long_quiet) > MENTORS / 20
