"""Claims and look-ups for many, over HTTP: one request each, never cut, and each notification granted once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import groupby
from uuid import UUID, uuid4

import httpx
import pytest

from scenario_repo import (
    ClaimOutcome,
    NotificationClaim,
    ScenarioNotificationRepository,
    ScenarioType,
    SkipReason,
    UnavailableException,
)
from tests.http.counting import Counted, counted_worker
from tests.http.platform_differences import LARGEST_BATCH
from tests.http.supabase_platform import Platform
from tests.rows import insert_notifications

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
BEYOND_MAX_ROWS = 3_000

NewUsers = Callable[[int], list[UUID]]


@pytest.fixture
async def counted(platform: Platform) -> AsyncIterator[Counted]:
    """Connect as a worker whose requests are counted."""
    async with counted_worker(platform) as counted:
        yield counted


def inactivity(user_ids: Sequence[UUID], organization_id: UUID) -> list[NotificationClaim]:
    return [
        NotificationClaim(
            user_id=user_id, organization_id=organization_id, scenario_type=ScenarioType.INACTIVITY, cooldown=WEEK
        )
        for user_id in user_ids
    ]


def held(platform: Platform, organization_id: UUID) -> Counter[UUID]:
    """Count the organization's notifications of each user, as the database has them."""
    rows = platform.execute(
        "select user_id from public.scenario_notifications where organization_id = %s", organization_id
    )
    return Counter(UUID(str(user_id)) for (user_id,) in rows)


async def test_look_ups_longer_than_max_rows_are_whole_and_one_request_each(
    platform: Platform, counted: Counted, new_users: NewUsers, organization_id: UUID
) -> None:
    """3,000 ids, of whom every third was never notified, and some are asked for twice: each has its answer."""
    users = new_users(BEYOND_MAX_ROWS)
    notified = [user for number, user in enumerate(users) if number % 3]
    sent = {"organization_id": organization_id, "delivery_status": "sent", "triggered_at": NOON}
    with platform.owner() as owner:
        insert_notifications(owner, notified, **sent)
        insert_notifications(owner, notified, scenario_type="milestone", milestone_value=50, **sent)
    stranger = uuid4()
    asked = [*users, stranger, *users[:10]]
    random.Random(1).shuffle(asked)  # noqa: S311 - an order, not a secret
    repository, expected = counted.repository, set(notified)

    times = await repository.get_last_sent_at_many(asked, ScenarioType.INACTIVITY)
    assert times == {user: NOON if user in expected else None for user in asked}
    assert counted.taken() == 1

    truths = await repository.has_been_sent_since_threshold_many(asked, ScenarioType.INACTIVITY, NOON)
    assert truths == {user: user in expected for user in asked}
    assert counted.taken() == 1

    records = await repository.get_milestone_record_many(asked, 50)
    assert {user: record and record.user_id for user, record in records.items()} == {
        user: user if user in expected else None for user in asked
    }
    assert counted.taken() == 1


async def test_nothing_asked_is_nothing_sent(counted: Counted) -> None:
    """An empty list is answered without a request."""
    repository = counted.repository
    assert await repository.claim_notifications([]) == []
    assert await repository.get_last_sent_at_many([], ScenarioType.INACTIVITY) == {}
    assert await repository.has_been_sent_since_threshold_many([], ScenarioType.INACTIVITY, NOON) == {}
    assert await repository.get_milestone_record_many([], 50) == {}
    assert await repository.settle_notifications([]) == []
    assert counted.taken() == 0


async def test_the_largest_batch_is_claimed_in_one_request(
    platform: Platform, counted: Counted, new_users: NewUsers, organization_id: UUID
) -> None:
    """20,000 claims: one request, one outcome each in the order of the claims, and one row each."""
    users = new_users(LARGEST_BATCH.on(platform))
    outcomes = await counted.repository.claim_notifications(inactivity(users, organization_id))
    assert counted.taken() == 1
    assert [outcome.notification and outcome.notification.user_id for outcome in outcomes] == users
    assert held(platform, organization_id) == Counter(users)


async def test_500_mentors_claimed_by_several_workers_at_once_are_each_claimed_once(
    platform: Platform, new_users: NewUsers, organization_id: UUID
) -> None:
    """Six workers race for the same mentors in orders of their own: one grant each, and the losers know who won."""
    users = new_users(500)

    async def race(worker: Counted, seed: int) -> list[tuple[UUID, ClaimOutcome]]:
        order = random.Random(seed).sample(users, len(users))  # noqa: S311
        told: list[tuple[UUID, ClaimOutcome]] = []
        for start in range(0, len(order), 125):
            batch = order[start : start + 125]
            outcomes = await worker.repository.claim_notifications(inactivity(batch, organization_id))
            told += zip(batch, outcomes, strict=True)
        return told

    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(counted_worker(platform)) for _ in range(6)]
        told = await asyncio.gather(*(race(worker, seed) for seed, worker in enumerate(workers)))
        assert [worker.taken() for worker in workers] == [4] * 6

    by_user = groupby(
        sorted((pair for worker in told for pair in worker), key=lambda pair: pair[0]), lambda pair: pair[0]
    )
    seen = set()
    for user, pairs in by_user:
        outcomes = [outcome for _, outcome in pairs]
        (granted,) = [outcome.notification.id for outcome in outcomes if outcome.notification]
        refused = [outcome for outcome in outcomes if not outcome.claimed]
        assert {outcome.skip_reason for outcome in refused} == {SkipReason.COOLDOWN}
        assert {outcome.held_by for outcome in refused} == {granted}
        seen.add(user)
    assert seen == set(users)
    assert held(platform, organization_id) == Counter(users)


async def test_duplicates_are_logged_once_in_numbers(
    repository: ScenarioNotificationRepository,
    new_users: NewUsers,
    organization_id: UUID,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A batch with claims that are held already is one line at INFO, without a user's id."""
    caplog.set_level(logging.INFO, logger="scenario_repo")
    users = new_users(5)
    await repository.claim_notifications(inactivity(users[:2], organization_id))
    assert not [record for record in caplog.records if record.name == "scenario_repo.claims"]

    outcomes = await repository.claim_notifications(inactivity([*users, users[4], uuid4()], organization_id))
    (record,) = [record for record in caplog.records if record.name == "scenario_repo.claims"]
    assert record.levelno == logging.INFO
    assert record.getMessage() == "3 of 7 claims were duplicates: cooldown 2, duplicate_in_batch 1"
    assert [outcome.claimed for outcome in outcomes] == [False, False, True, True, True, False, False]
    assert outcomes[-1].skip_reason is SkipReason.UNKNOWN_USER


class LosesAnswers(httpx.AsyncBaseTransport):
    """Sends every request, and loses the first answers on their way back."""

    def __init__(self, lost: int) -> None:
        self._inner = httpx.AsyncHTTPTransport(verify=False)
        self._lost = lost

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send, and perhaps lose the answer."""
        answer = await self._inner.handle_async_request(request)
        if self._lost:
            self._lost -= 1
            await answer.aclose()
            raise httpx.ReadError("connection reset by peer")
        return answer

    async def aclose(self) -> None:
        """Hang up."""
        await self._inner.aclose()


async def test_repeating_a_claim_whose_answer_was_lost_claims_nothing_twice(
    platform: Platform, new_users: NewUsers, organization_id: UUID
) -> None:
    """The answer is lost, twice, after the claim was made: the repetition finds it in cooldown, and there to send."""
    users = new_users(20)
    claims = inactivity(users, organization_id)
    async with counted_worker(platform, LosesAnswers(2)) as counted:
        for _ in range(2):
            with pytest.raises(UnavailableException) as lost:
                await counted.repository.claim_notifications(claims)
            assert lost.value.retryable
        outcomes = await counted.repository.claim_notifications(claims)
        leased = await counted.repository.lease_notifications(100, organization_id=organization_id)
    assert {outcome.skip_reason for outcome in outcomes} == {SkipReason.COOLDOWN}
    assert {outcome.held_by for outcome in outcomes} == {notification.id for notification in leased}
    assert held(platform, organization_id) == Counter(users)
