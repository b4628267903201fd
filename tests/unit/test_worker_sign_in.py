"""A sign-in on the worker's client is an error, never a silent downgrade to that user's rows."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import respx
from supabase import AsyncClient, AsyncClientOptions, create_async_client

from scenario_repo import ConfigurationException, ScenarioNotificationRepository, ScenarioTriggerEngine
from tests.factories import PROJECT_URL, REST_URL, USER_ID, minted_jwt
from tests.unit.leaks import CALLS, KEYS, MARKER, NOON, everything_about, hushed


@pytest.fixture(params=list(KEYS))
async def worker(request: pytest.FixtureRequest) -> AsyncIterator[AsyncClient]:
    """Make a worker's client as an app might, with each kind of key."""
    async with httpx.AsyncClient() as http:
        yield await create_async_client(
            PROJECT_URL, KEYS[request.param], AsyncClientOptions(httpx_client=http, auto_refresh_token=False)
        )


def session(token: str) -> dict[str, object]:
    """Make Supabase Auth's answer to a sign-in."""
    user = {
        "id": str(USER_ID),
        "aud": "authenticated",
        "role": "authenticated",
        "app_metadata": {},
        "user_metadata": {},
        "created_at": NOON.isoformat(),
    }
    return {
        "access_token": token,
        "refresh_token": f"refresh-{MARKER}",
        "token_type": "bearer",
        "expires_in": 3600,
        "user": user,
    }


@pytest.mark.parametrize("way", ["password", "session", "headers"])
async def test_a_sign_in_on_the_workers_client_is_refused_and_not_a_downgrade(worker: AsyncClient, way: str) -> None:
    """However the user signed in on the client, every method raises before anything is sent."""
    token = minted_jwt("authenticated", sub=str(USER_ID), ref=MARKER, exp=4_000_000_000)
    with respx.mock(assert_all_called=False) as router:
        router.post(f"{PROJECT_URL}/auth/v1/token").respond(json=session(token))
        router.get(f"{PROJECT_URL}/auth/v1/user").respond(json=session(token)["user"])
        rest = router.route(url__startswith=REST_URL).respond(200, json=[])
        repository = ScenarioNotificationRepository(worker)
        assert await repository.list_notifications(USER_ID) == []
        assert rest.call_count == 1
        if way == "password":
            await worker.auth.sign_in_with_password({"email": "a@example.invalid", "password": MARKER})
        elif way == "session":
            await worker.auth.set_session(token, f"refresh-{MARKER}")
        else:
            worker.postgrest.headers["Authorization"] = f"Bearer {token}"
        for call in CALLS.values():
            with pytest.raises(ConfigurationException) as refused:
                await call(repository)
            assert not refused.value.retryable
            hushed(everything_about(refused.value), token)
        assert rest.call_count == 1


@respx.mock
async def test_the_engine_reports_a_sign_in_on_its_client(worker: AsyncClient) -> None:
    """A run on a downgraded client reports the error, not a success with nobody due."""
    token = minted_jwt("authenticated", sub=str(USER_ID), exp=4_000_000_000)
    respx.post(f"{PROJECT_URL}/auth/v1/token").respond(json=session(token))
    await worker.auth.sign_in_with_password({"email": "a@example.invalid", "password": MARKER})
    report = await ScenarioTriggerEngine(ScenarioNotificationRepository(worker)).run()
    assert not report.completed
    assert {type(error) for error in report.errors} == {ConfigurationException}
