"""What all loggers together tell at DEBUG of real requests: httpx's and httpcore's too."""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import UUID

import pytest

from scenario_repo import DeliveryWorker, LeasedNotification, NotificationClaim, ScenarioType
from tests.http.supabase_platform import Platform
from tests.rows import insert_devices

METADATA = "a-word-of-the-metadata"


async def test_no_logger_tells_a_key_a_token_or_a_value(
    platform: Platform, user_id: UUID, organization_id: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    """A claim, a delivery and a read; a user's id is in the URL of a read alone, which httpx tells at INFO."""
    with platform.owner() as owner:
        insert_devices(owner, [user_id])
        tokens = [
            str(row[0]) for row in owner.execute("select token from public.device_tokens where user_id = %s", [user_id])
        ]
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")  # a program may have lowered it, as docs/senders.md does
    sent: list[UUID] = []

    async def send(notification: LeasedNotification) -> None:
        sent.append(notification.id)

    claim = NotificationClaim(
        user_id=user_id,
        organization_id=organization_id,
        scenario_type=ScenarioType.INACTIVITY,
        cooldown=timedelta(days=7),
        metadata={"about": METADATA},
    )
    async with platform.worker() as repository:
        await repository.claim_notifications([claim])
        await DeliveryWorker(repository, send, organization_id=organization_id).run(until_idle=True)
        quiet = len(caplog.records)
        await repository.list_notifications(user_id)
    assert len(sent) == 1
    told = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    assert {"httpx", "scenario_repo.delivery"} <= {record.name for record in caplog.records}
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    for secret in (platform.secret_key, METADATA, *tokens):
        assert secret not in "".join(told)
    assert str(user_id) not in "".join(told[:quiet])
    telling = {record.name for record, line in zip(caplog.records, told, strict=True) if str(user_id) in line}
    assert {"httpx"} <= telling <= {"httpx", "httpcore.http11"}
