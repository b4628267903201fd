"""What a broken network, gateway or database comes to: the right error in time, no notification twice, none lost."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import httpx
import pytest

from scenario_repo import (
    DeliveryWorker,
    LeasedNotification,
    NewScenarioNotification,
    NotificationClaim,
    ScenarioNotificationRepository,
    ScenarioRepositoryException,
    ScenarioTriggerEngine,
    ScenarioType,
    SkipReason,
    UnavailableException,
    UnexpectedResponseException,
    connect,
)
from tests.http.supabase_platform import Platform
from tests.integration.fault_proxy import Answer, Fault, FaultProxy, fault_proxy

IMPATIENT: Final = httpx.Timeout(10, read=0.3)
"""For what never answers; everybody else gets all the time a busy machine may need."""
DEADLINE: Final = 5.0
"""Nothing may take longer, whatever breaks."""

# The faults are in front of the platform: PGlite behind it would add nothing but time.
pytestmark = pytest.mark.parametrize(
    "platform",
    ["external" if os.environ.get("SCENARIO_TEST_SUPABASE_URL") else "lite on PostgreSQL"],
    indirect=True,
    scope="session",
)

NewUsers = Callable[[int], list[UUID]]


class Expected(NamedTuple):
    """What a fault comes to: the class, whether a read or claim may be repeated, and whether a plain insert may."""

    exception: type[ScenarioRepositoryException]
    claim_again: bool
    insert_again: bool
    retry_after: float | None = None


NOT_DONE = Expected(UnavailableException, claim_again=True, insert_again=True)
OUTCOME_UNKNOWN = Expected(UnavailableException, claim_again=True, insert_again=False)
MAKES_NO_SENSE = Expected(UnexpectedResponseException, claim_again=False, insert_again=False)
HTML = b"<html>busy</html>"

FAULTS: Final[dict[str, tuple[Fault | Answer, Expected]]] = {
    "reset before the request was read": (Fault.RESET_BEFORE, OUTCOME_UNKNOWN),
    "closed before the request was forwarded": (Fault.CLOSED_BEFORE, OUTCOME_UNKNOWN),
    "reset after the request was done": (Fault.RESET_AFTER, OUTCOME_UNKNOWN),
    "silence": (Fault.SILENCE, OUTCOME_UNKNOWN),
    "silence after the request was done": (Fault.SILENCE_AFTER, OUTCOME_UNKNOWN),
    "an answer that stalls": (Fault.STALLS, OUTCOME_UNKNOWN),
    "an answer cut short": (Fault.TRUNCATED, OUTCOME_UNKNOWN),
    "a page of HTML with a 200": (Answer(200, HTML), MAKES_NO_SENSE),
    "JSON of another shape": (Answer(200, b'{"ok": true}', "application/json"), MAKES_NO_SENSE),
    "half of the JSON with a 200": (Answer(200, b'[{"triggered_at": "20', "application/json"), MAKES_NO_SENSE),
    "a redirect": (Answer(302, headers=(("Location", "/login"),)), MAKES_NO_SENSE),
    "429 with Retry-After": (Answer(429, HTML, headers=(("Retry-After", "7"),)), NOT_DONE._replace(retry_after=7)),
    "502": (Answer(502, HTML), OUTCOME_UNKNOWN),
    "503": (Answer(503, HTML), NOT_DONE),
    "503 of PostgREST": (
        Answer(503, b'{"code": "PGRST002", "message": "no"}', "application/json", (("Retry-After", "2"),)),
        NOT_DONE._replace(retry_after=2),
    ),
    "504": (Answer(504, HTML), OUTCOME_UNKNOWN),
    "504 of PostgREST": (Answer(504, b'{"code": "PGRST003", "message": "no"}', "application/json"), NOT_DONE),
    "520": (Answer(520, HTML), OUTCOME_UNKNOWN),
    "522": (Answer(522, HTML), OUTCOME_UNKNOWN),
}
SILENCES: Final = {Fault.SILENCE, Fault.SILENCE_AFTER, Fault.STALLS}
DONE_NEVERTHELESS: Final = {Fault.RESET_AFTER, Fault.SILENCE_AFTER, Fault.STALLS, Fault.TRUNCATED}
"""The server has done what was asked, and the client can't know."""


@pytest.fixture
async def proxy(platform: Platform) -> AsyncIterator[FaultProxy]:
    """Stand between the worker and the platform."""
    async with fault_proxy(platform.url) as proxy:
        yield proxy


@pytest.fixture
async def disturbed(platform: Platform, proxy: FaultProxy) -> AsyncIterator[ScenarioNotificationRepository]:
    """Connect as a worker through the proxy."""
    async with connect(proxy.url, platform.secret_key) as client:
        yield ScenarioNotificationRepository(client)


def inactivity(user_id: UUID, organization_id: UUID) -> NotificationClaim:
    return NotificationClaim(
        user_id=user_id,
        organization_id=organization_id,
        scenario_type=ScenarioType.INACTIVITY,
        cooldown=timedelta(days=7),
    )


def milestone(user_id: UUID, organization_id: UUID) -> NewScenarioNotification:
    return NewScenarioNotification(
        user_id=user_id, organization_id=organization_id, scenario_type=ScenarioType.MILESTONE, milestone_value=10
    )


def rows_of(platform: Platform, organization_id: UUID) -> int:
    (row,) = platform.execute(
        "select count(*) from public.scenario_notifications where organization_id = %s", organization_id
    )
    return int(str(row[0]))


async def failure_of(call: Awaitable[object]) -> ScenarioRepositoryException:
    """Fail in time, and return with what."""
    started = time.monotonic()
    with pytest.raises(ScenarioRepositoryException) as failed:
        await asyncio.wait_for(call, DEADLINE)
    assert time.monotonic() - started < DEADLINE
    return failed.value


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_has_its_class_and_loses_and_doubles_nothing(  # noqa: PLR0913, PLR0917 - fixtures
    platform: Platform,
    disturbed: ScenarioNotificationRepository,
    proxy: FaultProxy,
    user_id: UUID,
    organization_id: UUID,
    name: str,
) -> None:
    """A read, a claim and an insert fail alike, but for whether to repeat them; the claim, repeated, is there once."""
    fault, expected = FAULTS[name]
    done = fault in DONE_NEVERTHELESS
    claims = [inactivity(user_id, organization_id)]

    async with connect(proxy.url, platform.secret_key, timeout=IMPATIENT if fault in SILENCES else 10) as client:
        failing = ScenarioNotificationRepository(client)
        proxy.then(fault, fault, fault)
        of_read = await failure_of(failing.get_last_sent_at(user_id, ScenarioType.WELCOME_BACK))
        of_claim = await failure_of(failing.claim_notifications(claims))
        assert rows_of(platform, organization_id) == done
        of_insert = await failure_of(failing.insert_notification(milestone(user_id, organization_id)))
    assert [type(error) for error in (of_read, of_claim, of_insert)] == [expected.exception] * 3
    assert [error.retryable for error in (of_read, of_claim)] == [expected.claim_again] * 2
    assert of_insert.retryable == expected.insert_again
    assert of_claim.retry_after == expected.retry_after
    assert proxy.requests == 3  # no hidden retry

    (again,) = await disturbed.claim_notifications(claims)
    assert again.claimed is not done
    leased = await disturbed.lease_notifications(10, organization_id=organization_id)
    notified = [one for one in leased if one.scenario_type is ScenarioType.INACTIVITY]
    assert [one.id for one in notified] == [again.notification.id if again.notification else again.held_by]
    assert again.skip_reason is (SkipReason.COOLDOWN if done else None)
    assert rows_of(platform, organization_id) == 1 + done


async def test_nobody_listening_is_not_done(platform: Platform, user_id: UUID, organization_id: UUID) -> None:
    """A refused connection may be tried again, whatever was asked."""
    async with fault_proxy("http://127.0.0.1:9") as gone:
        url = gone.url
    async with connect(url, platform.secret_key) as client:
        repository = ScenarioNotificationRepository(client)
        failures = [
            await failure_of(repository.get_last_sent_at(user_id, ScenarioType.INACTIVITY)),
            await failure_of(repository.claim_notifications([inactivity(user_id, organization_id)])),
            await failure_of(repository.insert_notification(milestone(user_id, organization_id))),
        ]
    assert {(type(error), error.retryable) for error in failures} == {(UnavailableException, True)}


async def test_a_dripping_answer_ends_with_the_callers_deadline(
    disturbed: ScenarioNotificationRepository, proxy: FaultProxy, organization_id: UUID
) -> None:
    """Bytes that keep coming outwit a timeout per byte, but neither asyncio's deadline nor the engine's budget."""
    proxy.then(*[Fault.DRIPS] * 2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.6):
            await disturbed.get_organization_report(
                organization_id, datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
            )
    started = time.monotonic()
    engine = ScenarioTriggerEngine(disturbed)
    report = await engine.run([ScenarioType.INACTIVITY], organization_id, timedelta(seconds=0.6), dry_run=True)
    assert time.monotonic() - started < DEADLINE
    assert (report.completed, report.errors) == (False, ())


async def test_the_engine_rides_out_a_fault_and_reports_one_that_stays(
    disturbed: ScenarioNotificationRepository, proxy: FaultProxy, organization_id: UUID
) -> None:
    """Two faults cost two repetitions; one for the whole budget stops the scenario, and the next run goes on."""
    engine = ScenarioTriggerEngine(disturbed)
    proxy.then(Fault.RESET_BEFORE, Answer(503, HTML))
    report = await engine.run([ScenarioType.INACTIVITY], organization_id, dry_run=True)
    assert (report.completed, proxy.requests) == (True, 3)

    proxy.then(*[Answer(503, HTML)] * 20)
    report = await engine.run([ScenarioType.INACTIVITY], organization_id, timedelta(seconds=1), dry_run=True)
    assert (report.completed, [type(error) for error in report.errors]) == (False, [UnavailableException])
    proxy.script.clear()
    assert (await engine.run([ScenarioType.INACTIVITY], organization_id, dry_run=True)).completed


async def test_the_delivery_worker_rides_out_faults_and_loses_nothing(
    platform: Platform,
    disturbed: ScenarioNotificationRepository,
    proxy: FaultProxy,
    new_users: NewUsers,
    organization_id: UUID,
) -> None:
    """Leases and settlements break in turn: all is sent, and what was settled unheard is not sent again."""
    users = new_users(20)
    await disturbed.claim_notifications([inactivity(user, organization_id) for user in users])
    sent: Counter[UUID] = Counter()

    async def send(notification: LeasedNotification) -> None:
        sent[notification.user_id] += 1

    worker = DeliveryWorker(
        disturbed, send, concurrency=20, idle_pause=timedelta(milliseconds=50), organization_id=organization_id
    )
    # The first lease is refused; of the settlements, one is lost on its way and one on its way back.
    proxy.then(Answer(503, HTML), Fault.NONE, Fault.RESET_BEFORE, Fault.RESET_AFTER)
    running = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(15):
            while pending(platform, organization_id):  # noqa: ASYNC110 - the database rings no bell
                await asyncio.sleep(0.05)
    finally:
        worker.stop()
        await running
    assert sent == Counter(users)


def pending(platform: Platform, organization_id: UUID) -> int:
    (row,) = platform.execute(
        "select count(*) from public.scenario_notifications where organization_id = %s and delivery_status <> 'sent'",
        organization_id,
    )
    return int(str(row[0]))
