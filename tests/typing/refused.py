"""What the types refuse: each line has an error, and it is an error if one has none."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from supabase import Client

import scenario_repo as sr
from scenario_repo import blocking


def send(_: sr.LeasedNotification) -> None:
    """Block, and send."""


async def send_async(_: sr.LeasedNotification) -> None:
    """Send."""


async def asynchronous(repository: sr.ScenarioNotificationRepository, user: UUID, at: datetime) -> None:
    """Of the asynchronous surface."""
    _ = repository.get_last_sent_at(user, "inactivity").year  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    await repository.get_last_sent_at(user)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await repository.get_last_sent_at(str(user), "inactivity")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await repository.has_been_sent_since_threshold(user, "inactivity", at.isoformat())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await repository.get_milestone_record(user, "10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await repository.purge_notifications(365)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await repository.evaluate_scenario("inactivity", None, None, 10, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    _ = (await repository.claim_notifications([]))[0].notification.lease_number  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess, reportUnknownMemberType, reportUnknownVariableType]
    async with blocking.connect():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass
    sr.DeliveryWorker(repository, send)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    sr.DeliveryWorker(repository, send_async, "worker")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]


def without_await(repository: blocking.ScenarioNotificationRepository, client: Client, user: UUID) -> None:
    """Of the blocking face, and what does not fit together."""
    sr.ScenarioNotificationRepository(client)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    blocking.ScenarioNotificationRepository(client)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    sr.ScenarioTriggerEngine(repository)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    repository.get_last_sent_at(user)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    repository.claim_notifications([], 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    blocking.DeliveryWorker(repository, send_async)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with sr.connect():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass


def values(row: sr.ScenarioNotification, user: UUID) -> None:
    """Values are frozen, and say what they need."""
    row.delivery_status = sr.DeliveryStatus.SENT  # type: ignore[misc]  # pydantic's plugin for mypy knows that it is frozen
    sr.NotificationClaim(user_id=user)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    sr.NewMute(user_id=user, until=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    sr.DeliverLater("soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    timedelta(row.milestone_value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
