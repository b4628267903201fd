"""Properties of every method of the repository; a new method must join the table."""

from __future__ import annotations

import inspect
from uuid import UUID

import httpx
import pytest
import respx
from supabase import AsyncClient

from scenario_repo import ScenarioNotificationRepository, UnavailableException
from tests.factories import SECRET_KEY
from tests.unit.leaks import CALLS

SINGLE_LOOK_UPS = {
    "get_last_delivered_at",
    "get_last_sent_at",
    "get_milestone_record",
    "has_been_delivered_since",
    "has_been_sent_since_threshold",
}


def _public_members() -> dict[str, object]:
    return {
        name: member for name, member in inspect.getmembers(ScenarioNotificationRepository) if not name.startswith("_")
    }


every_method = pytest.mark.parametrize("method", sorted(_public_members()))


@every_method
def test_every_method_is_a_coroutine_with_a_call_to_try(method: str) -> None:
    """The repository offers coroutines and nothing else, and each is in the table of calls."""
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
