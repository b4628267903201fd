"""When a person may be told, over HTTP: policies, days off, mutes, devices, and an operator's cancel and retry."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID, uuid4

import pytest

from scenario_repo import (
    CancelAnswer,
    DayOff,
    DeliveryPolicy,
    DeliveryResult,
    DeliveryStatus,
    DeliveryWorker,
    DeviceToken,
    InvalidDataException,
    InvalidDeviceToken,
    LeasedNotification,
    Mute,
    NewDayOff,
    NewMute,
    NewScenarioNotification,
    PermissionDeniedException,
    RetryAnswer,
    ScenarioNotificationRepository,
    ScenarioType,
    SettlementAnswer,
)
from tests.http.supabase_platform import Platform
from tests.rows import insert_devices

NEW_YEAR: Final = date(2027, 1, 1)


async def pending(repository: ScenarioNotificationRepository, user_id: UUID, organization_id: UUID) -> UUID:
    """Record a pending notification, and return its id."""
    row = await repository.insert_notification(
        NewScenarioNotification(
            user_id=user_id, organization_id=organization_id, scenario_type=ScenarioType.WELCOME_BACK
        )
    )
    return row.id


async def test_a_policy_comes_back_as_it_went_in(
    repository: ScenarioNotificationRepository, organization_id: UUID
) -> None:
    """Set twice, it is replaced; one that is open all day too; deleted, it is gone."""
    policies = [
        DeliveryPolicy(
            organization_id=organization_id,
            time_zone="Europe/Oslo",
            weekdays=(1, 2, 3, 4, 5),
            opens_at=time(8),
            closes_at=time(20, 30),
            min_gap=timedelta(days=1, hours=2, minutes=3),
        ),
        DeliveryPolicy(organization_id=organization_id, opens_at=time(22), closes_at=time(6)),
        DeliveryPolicy(organization_id=organization_id, opens_at=time(0), closes_at=time(0)),
        DeliveryPolicy(organization_id=organization_id),
    ]
    for policy in policies:
        assert await repository.set_delivery_policy(policy) == policy
        assert policy in await repository.get_delivery_policies()
    assert await repository.delete_delivery_policy(organization_id)
    assert not await repository.delete_delivery_policy(organization_id)
    assert organization_id not in [policy.organization_id for policy in await repository.get_delivery_policies()]


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_zone": "CEST+2"},
        {"weekdays": ()},
        {"weekdays": (0,)},
        {"opens_at": time(8)},
        {"opens_at": time(8), "closes_at": time(8)},
        {"opens_at": time(8, tzinfo=UTC), "closes_at": time(9)},
        {"min_gap": timedelta(days=8)},
        {"min_gap": timedelta(seconds=-1)},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused_unsent(wrong: dict[str, object]) -> None:
    """With the field's name."""
    with pytest.raises(InvalidDataException, match=r"DeliveryPolicy\.(time_zone|weekdays|opens_at|closes_at|min_gap)"):
        DeliveryPolicy(**wrong)


async def test_days_off_keep_a_notification_until_they_are_removed(
    repository: ScenarioNotificationRepository, user_id: UUID, organization_id: UUID
) -> None:
    """It waits, and the lease says until when."""
    today = datetime.now(UTC).date()
    near = NewDayOff(
        organization_id=organization_id, first_day=today - timedelta(days=1), last_day=today + timedelta(days=1)
    )
    far = NewDayOff(organization_id=organization_id, first_day=NEW_YEAR, last_day=NEW_YEAR, stops_clock=True)
    stored = await repository.add_days_off([near, far])
    assert [type(day) for day in stored] == [DayOff, DayOff]
    listed = await repository.list_days_off(organization_id)
    assert sorted(day.id for day in listed if day.organization_id == organization_id) == sorted(
        day.id for day in stored
    )
    assert await repository.add_days_off([]) == []

    await pending(repository, user_id, organization_id)
    lease = await repository.lease_notifications(5, organization_id=organization_id)
    assert (list(lease), lease.deferred, lease.has_more) == ([], 1, False)
    assert lease.next_due_at is not None
    assert lease.next_due_at > datetime.now(UTC) + timedelta(hours=1)
    assert await repository.remove_days_off([day.id for day in stored]) == 2
    assert await repository.remove_days_off([day.id for day in stored]) == 0


async def test_a_user_writes_her_own_mutes_and_reads_what_was_sent(
    platform: Platform, repository: ScenarioNotificationRepository, user_id: UUID, organization_id: UUID
) -> None:
    """Of another user she may write none; what is pending she is not shown."""
    await pending(repository, user_id, organization_id)
    sent = await repository.insert_notification(
        NewScenarioNotification(
            user_id=user_id,
            organization_id=organization_id,
            scenario_type=ScenarioType.INACTIVITY,
            delivery_status=DeliveryStatus.SENT,
        )
    )
    until = datetime(2030, 1, 1, tzinfo=UTC)
    async with platform.user(user_id) as own:
        assert await own.list_notifications(user_id) == [sent]
        muted = await own.mute(NewMute(user_id=user_id, scenario_type=ScenarioType.WELCOME_BACK, muted_until=until))
        assert (muted.scenario_type, muted.muted_until) == (ScenarioType.WELCOME_BACK, until)
        again = await own.mute(NewMute(user_id=user_id, scenario_type=ScenarioType.WELCOME_BACK))
        assert (again.id, again.muted_until) == (muted.id, None)
        assert await own.list_mutes(user_id) == [again]
        with pytest.raises(PermissionDeniedException):
            await own.mute(NewMute(user_id=uuid4()))
        with pytest.raises(InvalidDataException):
            await own.mute(NewMute(user_id=user_id, scenario_type="party"))
    assert len(await repository.list_notifications(user_id)) == 2
    lease = await repository.lease_notifications(5, organization_id=organization_id)
    assert (list(lease), lease.failed) == ([], {"muted": 1})
    async with platform.user(user_id) as own:
        assert await own.unmute(user_id, scenario_type=ScenarioType.WELCOME_BACK)
        assert not await own.unmute(user_id)
        assert await own.list_mutes(user_id) == []
    assert Mute.model_fields.keys() >= {"id", "muted_until"}


async def test_a_worker_sends_to_each_device_once(
    platform: Platform, repository: ScenarioNotificationRepository, user_id: UUID, organization_id: UUID
) -> None:
    """Case 3.5: two good ones and a dead one."""
    with platform.owner() as owner:
        for token in ("a", "b", "dead"):
            insert_devices(owner, [user_id], token=f"{token} {user_id}")
    sends: list[str] = []

    async def send(_: LeasedNotification, device: DeviceToken) -> None:
        sends.append(device.token.split(" ")[0])
        if device.token.startswith("dead"):
            raise InvalidDeviceToken

    await pending(repository, user_id, organization_id)
    worker = DeliveryWorker(repository, send_to_device=send, organization_id=organization_id)
    assert await worker.run(until_idle=True) == {SettlementAnswer.SENT: 1}
    assert sorted(sends) == ["a", "b", "dead"]
    left = platform.execute("select token from device_tokens where user_id = %s order by token", user_id)
    assert left == [(f"a {user_id}",), (f"b {user_id}",)]


async def test_an_operator_cancels_and_retries(
    repository: ScenarioNotificationRepository, user_id: UUID, organization_id: UUID
) -> None:
    """One answer each; what is recorded anew is leased."""
    one, two = [await pending(repository, user_id, organization_id) for _ in range(2)]
    assert await repository.cancel_notifications([one, uuid4()]) == [CancelAnswer.CANCELLED, CancelAnswer.UNKNOWN]
    (leased,) = await repository.lease_notifications(5, organization_id=organization_id)
    assert await repository.cancel_notifications([two]) == [CancelAnswer.LEASED]
    failed = leased.settlement(DeliveryResult.FAILED, "unregistered")
    assert await repository.settle_notifications([failed]) == [SettlementAnswer.FAILED]
    assert await repository.cancel_notifications([two]) == [CancelAnswer.ALREADY_SETTLED]
    (outcome, unknown) = await repository.retry_notifications([two, uuid4()])
    assert (outcome.answer, unknown.answer) == (RetryAnswer.RECORDED, RetryAnswer.UNKNOWN)
    (again,) = await repository.lease_notifications(5, organization_id=organization_id)
    assert again.id == outcome.notification_id
