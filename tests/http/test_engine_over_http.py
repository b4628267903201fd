"""The main job over HTTP: 500 mentors of one organization evaluated, claimed, explained, delivered and reported."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from scenario_repo import (
    DeliveryStatus,
    DeliveryWorker,
    EngineReport,
    LeasedNotification,
    ScenarioNotificationRepository,
    ScenarioTriggerEngine,
    ScenarioType,
    SettlementAnswer,
)
from tests.http.counting import counted_worker
from tests.http.supabase_platform import Platform
from tests.rows import ago, ahead, insert_devices, insert_mentors, insert_rows

MENTORS = 500
MILESTONES = (10, 25, 50)
PATIENCE = timedelta(minutes=2)
DUE_WITHIN = timedelta(days=30)
"""What came true longer ago is history."""


@dataclass(frozen=True)
class Mentor:
    """One mentor of supabase/seed.sql's kinds: of every 20, 14 are busy, 3 quiet, 2 back and 1 new."""

    number: int
    user_id: UUID

    @property
    def kind(self) -> str:
        """What the mentor's past looks like."""
        place = self.number % 20
        return "busy" if place < 14 else "quiet" if place < 17 else "back" if place < 19 else "new"

    @property
    def is_active(self) -> bool:
        """Whether the mentor is one still."""
        return self.number % 50 != 0

    @property
    def activities(self) -> int:
        """How many there are."""
        return 0 if self.kind == "new" else 5 + self.number % 60

    @property
    def past(self) -> list[timedelta]:
        """How long ago each activity was."""
        days = {"quiet": 40, "back": 45}.get(self.kind, 0)
        distances = [
            timedelta(days=days + 3 * k, hours=1 if self.kind == "busy" else 0) for k in range(self.activities)
        ]
        return [timedelta(days=1), *distances[1:]] if self.kind == "back" else distances

    @property
    def milestone_reached(self) -> timedelta | None:
        """How long ago the activity was that reached the highest milestone."""
        reached = [value for value in MILESTONES if value <= self.activities]
        return sorted(self.past, reverse=True)[max(reached) - 1] if reached else None

    @property
    def lapses_in_days(self) -> int | None:
        """When a certificate lapses, for those who have one."""
        return self.number % 365 if self.number % 3 == 0 else None

    @property
    def due(self) -> set[ScenarioType]:
        """What the rules say of such a mentor, with the settings that the migrations bring."""
        if not self.is_active:
            return set()
        found = set()
        if self.kind == "quiet":
            found.add(ScenarioType.INACTIVITY)
        if self.milestone_reached is not None and self.milestone_reached < DUE_WITHIN:
            found.add(ScenarioType.MILESTONE)
        if self.lapses_in_days is not None and 0 < self.lapses_in_days <= 30:
            found.add(ScenarioType.CERTIFICATION_EXPIRY)
        if self.kind == "back":
            found.add(ScenarioType.WELCOME_BACK)
        return found


@dataclass
class Crowd:
    """The mentors of one organization."""

    platform: Platform
    organization_id: UUID
    mentors: list[Mentor]
    due: Counter[ScenarioType] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.due = Counter(kind for mentor in self.mentors for kind in mentor.due)

    def claimed(self) -> Counter[tuple[UUID, str]]:
        """Count the notifications of each mentor and scenario, as the database has them."""
        rows = self.platform.execute(
            "select user_id, scenario_type from public.scenario_notifications where organization_id = %s",
            self.organization_id,
        )
        return Counter((UUID(str(user_id)), str(kind)) for user_id, kind in rows)

    def expected(self) -> Counter[tuple[UUID, str]]:
        """Count what every due mentor shall have: one of each kind that is due."""
        return Counter((mentor.user_id, kind.value) for mentor in self.mentors for kind in mentor.due)


@pytest.fixture
def crowd(platform: Platform, new_users: Callable[[int], list[UUID]], organization_id: UUID) -> Iterator[Crowd]:
    """Put 500 mentors and their past there; what the engine keeps of the organization goes afterwards."""
    users = sorted(new_users(MENTORS))
    mentors = [Mentor(number, user_id) for number, user_id in enumerate(users)]
    where = {"organization_id": organization_id}
    with platform.owner() as owner:
        for is_active in (True, False):
            ids = [one.user_id for one in mentors if one.is_active is is_active]
            insert_mentors(owner, ids, is_active=is_active, **where)
        acts = [(one.user_id, distance) for one in mentors for distance in one.past]
        activities = [{"user_id": user, "activity_date": ago(distance)} | where for user, distance in acts]
        insert_rows(owner, "activities", activities)
        lapsing = [(one.user_id, one.lapses_in_days) for one in mentors if one.lapses_in_days is not None]
        certificates = [{"user_id": user, "expires_at": ahead(timedelta(days=days))} | where for user, days in lapsing]
        insert_rows(owner, "certifications", certificates)
        insert_devices(owner, users[::2])
    yield Crowd(platform, organization_id, mentors)
    platform.execute("delete from public.scenario_evaluation_config where organization_id = %s", organization_id)


def claimed_by(report: EngineReport) -> Counter[ScenarioType | str]:
    return Counter({one.scenario_type: one.claimed for one in report.scenarios})


async def test_a_run_claims_what_is_due_and_the_next_one_nothing(platform: Platform, crowd: Crowd) -> None:
    """A dry run tells what the run then does; a second run finds the same mentors and claims none of them."""
    organization = crowd.organization_id
    async with counted_worker(platform) as counted:
        engine = ScenarioTriggerEngine(counted.repository)

        dry = await engine.run(organization_id=organization, time_budget=PATIENCE, dry_run=True)
        assert (dry.completed, dry.errors, claimed_by(dry)) == (True, (), crowd.due)
        assert counted.taken() == 1 + len(ScenarioType)  # which scenarios there are, and a page of each
        assert crowd.claimed() == Counter()

        first = await engine.run(organization_id=organization, time_budget=PATIENCE)
        assert (first.completed, first.errors, claimed_by(first)) == (True, (), crowd.due)
        assert {one.evaluated for one in first.scenarios} == {sum(mentor.is_active for mentor in crowd.mentors)}
        assert counted.taken() == 1 + len(ScenarioType)
        assert crowd.claimed() == crowd.expected()

        second = await engine.run(organization_id=organization, time_budget=PATIENCE)
        assert (second.completed, claimed_by(second).total()) == (True, 0)
        assert crowd.claimed() == crowd.expected()


async def test_requests_depend_on_pages_and_not_on_mentors(platform: Platform, crowd: Crowd) -> None:
    """500 mentors in pages of 200 are three requests a scenario; in one page, one; and one begins the run."""
    async with counted_worker(platform) as counted:
        for page_size, pages in ((1_000, 1), (200, 3)):
            engine = ScenarioTriggerEngine(counted.repository, page_size=page_size)
            report = await engine.run(organization_id=crowd.organization_id, time_budget=PATIENCE)
            assert {one.pages for one in report.scenarios} == {pages}
            assert counted.taken() == 1 + pages * len(ScenarioType)
    assert crowd.claimed() == crowd.expected()


async def test_two_engines_at_once_claim_each_mentor_once(platform: Platform, crowd: Crowd) -> None:
    """Two workers share the passes page by page; together they claim what is due, and nothing twice."""
    async with platform.worker() as one, platform.worker() as other:
        reports = await asyncio.gather(
            *(
                ScenarioTriggerEngine(repository, page_size=125).run(
                    organization_id=crowd.organization_id, time_budget=PATIENCE
                )
                for repository in (one, other)
            )
        )
    assert [report.errors for report in reports] == [(), ()]
    assert claimed_by(reports[0]) + claimed_by(reports[1]) == crowd.due
    assert crowd.claimed() == crowd.expected()


async def test_what_was_claimed_is_explained_delivered_and_reported(
    repository: ScenarioNotificationRepository, crowd: Crowd
) -> None:
    """Before: due, for the rule's reason; after: in cooldown. Every notification is sent once, and counted."""
    quiet = next(
        mentor for mentor in crowd.mentors if mentor.due == {ScenarioType.INACTIVITY} and mentor.activities > 9
    )
    before = {verdict.scenario_type: verdict for verdict in await repository.explain_scenarios(quiet.user_id)}
    assert {kind for kind, verdict in before.items() if verdict.is_due} == quiet.due
    assert before[ScenarioType.INACTIVITY].reason == "inactive"
    assert before[ScenarioType.MILESTONE].reason == "history"
    assert before[ScenarioType.MILESTONE].facts["activity_count"] == quiet.activities

    started = datetime.now(UTC) - timedelta(days=1)
    await ScenarioTriggerEngine(repository).run(organization_id=crowd.organization_id, time_budget=PATIENCE)
    after = {verdict.scenario_type: verdict for verdict in await repository.explain_scenarios(quiet.user_id)}
    assert not any(verdict.is_due for verdict in after.values())
    assert after[ScenarioType.INACTIVITY].reason == "cooldown"

    sent: list[LeasedNotification] = []

    async def send(notification: LeasedNotification) -> None:
        sent.append(notification)

    worker = DeliveryWorker(repository, send, concurrency=250, organization_id=crowd.organization_id)
    settled = await worker.run(until_idle=True)
    assert settled == {SettlementAnswer.SENT: crowd.due.total()}
    assert Counter((one.user_id, str(one.scenario_type)) for one in sent) == crowd.expected()
    with_device = {mentor.user_id for mentor in crowd.mentors[::2]}
    assert all(bool(one.device_tokens) == (one.user_id in with_device) for one in sent)

    report = await repository.get_organization_report(
        crowd.organization_id, started, datetime.now(UTC) + timedelta(days=1)
    )
    assert Counter({kind: report.count(kind) for kind in ScenarioType}) == crowd.due
    assert report.count(delivery_status=DeliveryStatus.SENT) == report.count() == crowd.due.total()
