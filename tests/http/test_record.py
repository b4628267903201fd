"""The notification record over HTTP: write it, ask for it, and see that nobody else can."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from scenario_repo import (
    DeliveryStatus,
    DuplicateNotificationException,
    InvalidDataException,
    NewScenarioNotification,
    PermissionDeniedException,
    ScenarioNotificationRepository,
    ScenarioRepositoryException,
    ScenarioType,
    UnknownReferenceException,
    connect,
    connect_as_user,
)
from tests.http.supabase_platform import Platform

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def sent(user_id: UUID, organization_id: UUID, at: datetime = NOON) -> NewScenarioNotification:
    return NewScenarioNotification(
        user_id=user_id,
        organization_id=organization_id,
        scenario_type=ScenarioType.INACTIVITY,
        delivery_status=DeliveryStatus.SENT,
        triggered_at=at,
    )


async def test_an_inserted_notification_comes_back_as_it_went_in(
    repository: ScenarioNotificationRepository, user_id: UUID, organization_id: UUID
) -> None:
    """The row returned holds what was given, and the database's defaults for the rest."""
    metadata = {"days": 31, "nested": {"list": [1, 2.5, None, True, "blå"]}}
    row = await repository.insert_notification(
        NewScenarioNotification(
            user_id=user_id,
            organization_id=organization_id,
            scenario_type=ScenarioType.MILESTONE,
            milestone_value=50,
            metadata=metadata,
        )
    )
    assert (row.user_id, row.organization_id, row.milestone_value, row.metadata) == (
        user_id,
        organization_id,
        50,
        metadata,
    )
    assert row.delivery_status is DeliveryStatus.PENDING
    assert abs(row.triggered_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert await repository.get_milestone_record(user_id, 50) == row
    assert await repository.list_notifications(user_id) == [row]


async def test_a_user_without_notifications_gives_none_and_false(
    repository: ScenarioNotificationRepository, user_id: UUID
) -> None:
    """No history is an answer, not an error; neither is a user nobody knows."""
    for somebody in (user_id, uuid4()):
        assert await repository.get_last_sent_at(somebody, ScenarioType.INACTIVITY) is None
        assert not await repository.has_been_sent_since_threshold(somebody, ScenarioType.INACTIVITY, NOON)
        assert await repository.get_milestone_record(somebody, 50) is None
        assert await repository.list_notifications(somebody) == []


async def test_the_most_recent_sent_one_counts_and_the_cutoff_is_inclusive(
    repository: ScenarioNotificationRepository, user_id: UUID, organization_id: UUID
) -> None:
    """Of several sent rows the newest is told; pending and failed ones are not sent."""
    for days in (3, 1, 2):
        await repository.insert_notification(sent(user_id, organization_id, NOON - timedelta(days=days)))
    await repository.insert_notification(
        sent(user_id, organization_id, NOON).model_copy(update={"delivery_status": DeliveryStatus.FAILED})
    )
    newest = NOON - timedelta(days=1)
    assert await repository.get_last_sent_at(user_id, ScenarioType.INACTIVITY) == newest
    assert await repository.get_last_sent_at(user_id, ScenarioType.WELCOME_BACK) is None
    for cutoff, answer in ((newest, True), (newest + timedelta(microseconds=1), False)):
        assert await repository.has_been_sent_since_threshold(user_id, ScenarioType.INACTIVITY, cutoff) is answer


async def test_history_is_paged_newest_first_without_gap_or_repetition(
    repository: ScenarioNotificationRepository, user_id: UUID, organization_id: UUID
) -> None:
    """Pages of two, several rows at the same instant: every row exactly once, in order."""
    for at in (NOON, NOON, NOON, NOON - timedelta(hours=1), NOON + timedelta(hours=1)):
        await repository.insert_notification(sent(user_id, organization_id, at))
    rows = await repository.list_notifications(user_id, limit=2)
    while page := await repository.list_notifications(user_id, before=rows[-1], limit=2):
        rows += page
    assert len(rows) == len({row.id for row in rows}) == 5
    assert [row.triggered_at for row in rows] == sorted((row.triggered_at for row in rows), reverse=True)


async def test_a_refusal_by_the_database_has_its_class_and_constraint(
    repository: ScenarioNotificationRepository, user_id: UUID, organization_id: UUID
) -> None:
    """Duplicate, unknown user, and a CHECK that Python does not know, are told apart."""
    milestone = NewScenarioNotification(
        user_id=user_id, organization_id=organization_id, scenario_type=ScenarioType.MILESTONE, milestone_value=10
    )
    await repository.insert_notification(milestone)
    with pytest.raises(DuplicateNotificationException) as duplicate:
        await repository.insert_notification(milestone)
    assert duplicate.value.constraint == "scenario_notifications_one_notification_per_milestone"
    assert duplicate.value.http_status == 409
    assert not duplicate.value.retryable

    with pytest.raises(UnknownReferenceException):
        await repository.insert_notification(sent(uuid4(), organization_id))

    # Numbers that Python writes in 5 characters and PostgreSQL in hundreds.
    too_long = sent(user_id, organization_id).model_copy(update={"metadata": {"n": [1e300] * 40}})
    with pytest.raises(InvalidDataException) as invalid:
        await repository.insert_notification(too_long)
    assert invalid.value.constraint == "scenario_notifications_metadata_is_at_most_8_kib"


async def test_nobody_reads_anothers_history(
    platform: Platform,
    repository: ScenarioNotificationRepository,
    new_users: Callable[[int], list[UUID]],
    organization_id: UUID,
) -> None:
    """Two signed-in users of one organization: each sees only their own rows, whatever they ask for."""
    one, other = new_users(2)
    for user in (one, other):
        await repository.insert_notification(sent(user, organization_id))
    for own, foreign in ((one, other), (other, one)):
        async with platform.user(own) as user_repository:
            assert [row.user_id for row in await user_repository.list_notifications(own)] == [own]
            assert await user_repository.get_last_sent_at(own, ScenarioType.INACTIVITY) == NOON
            assert await user_repository.list_notifications(foreign) == []
            assert await user_repository.get_last_sent_at(foreign, ScenarioType.INACTIVITY) is None
            with pytest.raises(PermissionDeniedException):
                await user_repository.insert_notification(sent(own, organization_id))
            with pytest.raises(PermissionDeniedException):
                await user_repository.get_last_sent_at_many([foreign], ScenarioType.INACTIVITY)


async def test_an_anonymous_request_is_refused(platform: Platform) -> None:
    """The publishable key alone reads nothing."""
    async with httpx.AsyncClient(headers={"apikey": platform.publishable_key}) as anonymous:
        answer = await anonymous.get(f"{platform.url}/rest/v1/scenario_notifications")
    assert answer.status_code in {401, 403}
    assert answer.json()["code"] == "42501"


async def test_a_token_signed_by_another_is_refused(platform: Platform, user_id: UUID) -> None:
    """Only the server can tell: it opens nothing."""
    token = platform.access_token(user_id, signed_with="another one, just as long as the real one is")
    async with connect_as_user(token, platform.url, platform.publishable_key) as client:
        with pytest.raises(PermissionDeniedException) as refused:
            await ScenarioNotificationRepository(client).list_notifications(user_id)
    assert refused.value.http_status == 401


async def test_an_expired_token_is_refused(platform: Platform, user_id: UUID) -> None:
    """By the library before any request, and by the server."""
    token = platform.access_token(user_id, seconds=-600)
    with pytest.raises(PermissionDeniedException, match="has expired"):
        async with connect_as_user(token, platform.url, platform.publishable_key):
            pytest.fail("an expired token was taken")
    headers = {"apikey": platform.publishable_key, "Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(headers=headers) as expired:
        answer = await expired.get(f"{platform.url}/rest/v1/scenario_notifications")
    assert answer.status_code == 401


async def test_nothing_listening_is_unavailable(user_id: UUID) -> None:
    """A refused connection is an exception of ours, and worth another try."""
    async with connect("http://127.0.0.1:9", "sb_secret_unused") as client:
        with pytest.raises(ScenarioRepositoryException) as unavailable:
            await ScenarioNotificationRepository(client).get_last_sent_at(user_id, ScenarioType.INACTIVITY)
    assert unavailable.value.retryable
