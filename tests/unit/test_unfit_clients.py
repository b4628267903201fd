"""Clients that can't be used are refused by name, and the message says what to do."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest
import respx
from supabase import AsyncClientOptions, create_async_client, create_client
from supabase.lib.client_options import SyncClientOptions

from scenario_repo import ConfigurationException, ScenarioNotificationRepository, ScenarioType, blocking, connect
from tests.factories import PROJECT_URL, SECRET_KEY, USER_ID


def _refusal(client: Any) -> str:  # noqa: ANN401 - the point of it
    with pytest.raises(ConfigurationException) as refusal:
        ScenarioNotificationRepository(client)
    assert SECRET_KEY not in str(refusal.value)
    return str(refusal.value)


def test_a_blocking_supabase_client_is_refused() -> None:
    """supabase.Client can't be awaited: use connect(), or the blocking face."""
    with httpx.Client() as http:
        client = create_client(PROJECT_URL, SECRET_KEY, SyncClientOptions(httpx_client=http))
        assert _refusal(client) == (
            "expected a supabase.AsyncClient, got the blocking supabase.Client: "
            "open one with connect(), or use scenario_repo.blocking"
        )


def test_a_client_of_the_blocking_face_is_refused() -> None:
    """The asynchronous repository does not take the blocking face's client."""
    with blocking.connect(PROJECT_URL, SECRET_KEY) as client:
        assert _refusal(client).endswith("got scenario_repo._portal.Client")


def test_a_client_that_is_not_opened_yet_is_refused() -> None:
    """``connect()`` without ``async with``, and ``create_async_client`` without ``await``, say what is missing."""
    assert "`async with connect() as client`" in _refusal(connect(PROJECT_URL, SECRET_KEY))
    assert "await create_async_client(…) first" in _refusal(create_async_client(PROJECT_URL, SECRET_KEY))


def test_anything_else_is_refused_by_its_type() -> None:
    """Whatever is no client of Supabase is named by its type."""
    assert _refusal(None) == "expected a supabase.AsyncClient, got builtins.NoneType"


def _look_up(repository: ScenarioNotificationRepository) -> Coroutine[Any, Any, object]:
    return repository.get_last_sent_at(USER_ID, ScenarioType.INACTIVITY)


@pytest.mark.usefixtures("no_request")
async def test_a_client_after_its_block_is_refused() -> None:
    """A closed client says that it is closed."""
    async with connect(PROJECT_URL, SECRET_KEY) as client:
        repository = ScenarioNotificationRepository(client)

    with pytest.raises(ConfigurationException, match="the client is closed: use it inside") as refusal:
        await _look_up(repository)
    assert refusal.value.operation == "get_last_sent_at"


async def _repository_on(http: httpx.AsyncClient) -> ScenarioNotificationRepository:
    client = await create_async_client(PROJECT_URL, SECRET_KEY, AsyncClientOptions(httpx_client=http))
    return ScenarioNotificationRepository(client)


def test_a_client_of_a_closed_event_loop_is_refused(rest: respx.MockRouter) -> None:
    """The second asyncio.run() with the same client is refused before anything is sent."""
    rest.route().respond(json=[])
    http = httpx.AsyncClient()
    repository = asyncio.run(_repository_on(http))
    asyncio.run(_look_up(repository))
    gc.collect()

    with pytest.raises(ConfigurationException, match="of another event loop, which is closed") as refusal:
        asyncio.run(_look_up(repository))
    assert "async with connect()" in str(refusal.value)
    assert rest.calls.call_count == 1
    asyncio.run(http.aclose())


def test_a_client_of_another_running_loop_is_refused(rest: respx.MockRouter) -> None:
    """So is a client that another thread uses in its own loop."""
    rest.route().respond(json=[])
    outcomes: list[object] = []

    async def main() -> None:
        async with httpx.AsyncClient() as http:
            repository = await _repository_on(http)
            await _look_up(repository)

            def elsewhere() -> None:
                with pytest.raises(ConfigurationException, match="of another event loop: open one") as refusal:
                    asyncio.run(_look_up(repository))
                outcomes.append(refusal.value.retryable)

            thread = threading.Thread(target=elsewhere)
            thread.start()
            await asyncio.to_thread(thread.join)
            await _look_up(repository)

    asyncio.run(main())
    assert outcomes == [False]
    assert rest.calls.call_count == 2


def test_a_client_may_be_made_in_one_loop_and_first_used_in_another(rest: respx.MockRouter) -> None:
    """Only a request binds it to a loop: its connections live there."""
    rest.route().respond(json=[])
    http = httpx.AsyncClient()
    repository = asyncio.run(_repository_on(http))

    assert asyncio.run(_look_up(repository)) is None
    asyncio.run(http.aclose())
