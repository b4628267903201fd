"""Properties of every method of the repository; a new method must join the table."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta, timezone
from typing import Final
from uuid import UUID

import httpx
import pytest
import respx
from supabase import AsyncClient

from scenario_repo import (
    ScenarioNotificationRepository,
    ScenarioType,
    UnavailableException,
)
from scenario_repo.models import DeliveryResult, NotificationClaim, Settlement
from scenario_repo.policies import DeliveryPolicy, NewDayOff, NewMute
from tests.factories import (
    MILESTONE,
    ORGANIZATION_ID,
    SECRET_KEY,
    USER_ID,
    new_notification,
)

INACTIVITY: Final = ScenarioType.INACTIVITY
CUTOFF: Final = datetime(2026, 11, 2, 10, 30, 0, 5, tzinfo=timezone(timedelta(hours=2)))

CLAIM: Final = NotificationClaim(
    user_id=USER_ID, organization_id=ORGANIZATION_ID, scenario_type=INACTIVITY, cooldown=timedelta(days=7)
)
SETTLEMENT: Final = Settlement(id=USER_ID, lease_number=1, result=DeliveryResult.SENT)

CALLS: dict[str, Callable[[ScenarioNotificationRepository], Awaitable[object]]] = {
    "add_days_off": lambda repository: repository.add_days_off(
        [NewDayOff(first_day=date(2026, 12, 24), last_day=date(2026, 12, 26))]
    ),
    "cancel_notifications": lambda repository: repository.cancel_notifications([USER_ID]),
    "delete_delivery_policy": lambda repository: repository.delete_delivery_policy(ORGANIZATION_ID),
    "get_delivery_policies": lambda repository: repository.get_delivery_policies(),
    "list_days_off": lambda repository: repository.list_days_off(ORGANIZATION_ID),
    "list_mutes": lambda repository: repository.list_mutes(USER_ID),
    "mute": lambda repository: repository.mute(NewMute(user_id=USER_ID)),
    "remove_days_off": lambda repository: repository.remove_days_off([USER_ID]),
    "retry_notifications": lambda repository: repository.retry_notifications([USER_ID]),
    "set_delivery_policy": lambda repository: repository.set_delivery_policy(DeliveryPolicy(time_zone="Europe/Oslo")),
    "unmute": lambda repository: repository.unmute(USER_ID),
    "check_rule": lambda repository: repository.check_rule(INACTIVITY),
    "claim_notifications": lambda repository: repository.claim_notifications([CLAIM]),
    "describe_schema": lambda repository: repository.describe_schema(),
    "evaluate_next_page": lambda repository: repository.evaluate_next_page(INACTIVITY),
    "evaluate_scenario": lambda repository: repository.evaluate_scenario(INACTIVITY),
    "explain_scenarios": lambda repository: repository.explain_scenarios(USER_ID),
    "get_last_delivered_at": lambda repository: repository.get_last_delivered_at(USER_ID, INACTIVITY),
    "get_last_delivered_at_many": lambda repository: repository.get_last_delivered_at_many([USER_ID], INACTIVITY),
    "get_last_sent_at": lambda repository: repository.get_last_sent_at(USER_ID, INACTIVITY),
    "get_last_sent_at_many": lambda repository: repository.get_last_sent_at_many([USER_ID], INACTIVITY),
    "get_milestone_record": lambda repository: repository.get_milestone_record(USER_ID, MILESTONE),
    "get_milestone_record_many": lambda repository: repository.get_milestone_record_many([USER_ID], MILESTONE),
    "get_organization_report": lambda repository: repository.get_organization_report(ORGANIZATION_ID, CUTOFF, CUTOFF),
    "has_been_delivered_since": lambda repository: repository.has_been_delivered_since(USER_ID, INACTIVITY, CUTOFF),
    "has_been_delivered_since_many": lambda repository: repository.has_been_delivered_since_many(
        [USER_ID], INACTIVITY, CUTOFF
    ),
    "has_been_sent_since_threshold": lambda repository: repository.has_been_sent_since_threshold(
        USER_ID, INACTIVITY, CUTOFF
    ),
    "has_been_sent_since_threshold_many": lambda repository: repository.has_been_sent_since_threshold_many(
        [USER_ID], INACTIVITY, CUTOFF
    ),
    "insert_notification": lambda repository: repository.insert_notification(new_notification()),
    "lease_notifications": lambda repository: repository.lease_notifications(10),
    "list_notifications": lambda repository: repository.list_notifications(USER_ID),
    "purge_notifications": lambda repository: repository.purge_notifications(timedelta(days=365)),
    "settle_notifications": lambda repository: repository.settle_notifications([SETTLEMENT]),
}
"""A valid call of every method; a method without one fails below."""

SINGLE_LOOK_UPS = {
    "get_last_delivered_at",
    "get_last_sent_at",
    "get_milestone_record",
    "has_been_delivered_since",
    "has_been_sent_since_threshold",
}


def _public_members() -> dict[str, object]:
    return {name: member for name, member in vars(ScenarioNotificationRepository).items() if not name.startswith("_")}


every_method = pytest.mark.parametrize("method", sorted(_public_members()))


@every_method
def test_every_method_is_a_coroutine_with_a_call_to_try(method: str) -> None:
    """The repository offers coroutines and nothing else, and each is in the table above."""
    assert inspect.iscoroutinefunction(_public_members()[method])
    assert method in CALLS


@every_method
async def test_every_method_is_translated(
    method: str, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """A failed connection raises the library's exception with the method's name, and is retryable."""
    rest.route().mock(side_effect=httpx.ConnectError("All connection attempts failed"))

    with pytest.raises(UnavailableException) as failure:
        await CALLS[method](repository)
    assert failure.value.operation == method
    assert failure.value.retryable is True


@every_method
@pytest.mark.parametrize("status", [503, 520])
async def test_nothing_is_retried_in_secret(
    method: str, status: int, rest: respx.MockRouter, client: AsyncClient, repository: ScenarioNotificationRepository
) -> None:
    """One call is one request, even on a client whose own retry is on."""
    assert client.options.postgrest_client_retry is True
    rest.route().respond(status)

    with pytest.raises(UnavailableException):
        await CALLS[method](repository)
    assert rest.calls.call_count == 1


@every_method
async def test_every_request_carries_the_key(
    method: str, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """The key is sent as ``apikey`` and as bearer token, the latter until somebody signs in."""
    rest.route().respond(503)

    with pytest.raises(UnavailableException):
        await CALLS[method](repository)

    headers = rest.calls.last.request.headers
    assert (headers["apikey"], headers["Authorization"]) == (SECRET_KEY, f"Bearer {SECRET_KEY}")


@pytest.mark.parametrize("method", sorted(SINGLE_LOOK_UPS))
async def test_a_read_may_be_repeated_when_its_answer_was_lost(
    method: str, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """A read is idempotent, so a read that timed out is retryable."""
    rest.route().mock(side_effect=httpx.ReadTimeout(""))

    with pytest.raises(UnavailableException) as failure:
        await CALLS[method](repository)
    assert failure.value.retryable is True


@pytest.mark.parametrize("method", sorted(SINGLE_LOOK_UPS))
async def test_a_user_without_notifications_is_no_error(
    method: str, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Without a row the answer is None or False."""
    rest.route().respond(200, json=[])

    assert await CALLS[method](repository) is (False if method.startswith("has_been") else None)


async def test_an_injected_client_is_used_as_it_is(rest: respx.MockRouter, client: AsyncClient) -> None:
    """Two repositories may share a client, and neither closes it."""
    rest.route().respond(200, json=[])

    for _ in range(2):
        assert await ScenarioNotificationRepository(client).get_milestone_record(UUID(int=1), 1) is None
    assert client.postgrest.session.is_closed is False
