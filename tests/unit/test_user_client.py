"""A signed-in user's client: a publishable key and that user's token, never a secret key."""

from __future__ import annotations

import httpx
import pytest
import respx
from pydantic import SecretStr

from scenario_repo import (
    ConfigurationException,
    ScenarioNotificationRepository,
    ScenarioType,
    connect,
    connect_as_user,
)
from tests.factories import PROJECT_URL, PUBLISHABLE_KEY, SECRET_KEY, USER_ID, minted_jwt
from tests.unit.leaks import MARKER, told_by

TOKEN = minted_jwt("authenticated", sub=str(USER_ID))
ANON_KEY = minted_jwt("anon")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Clear the settings of the developer's own environment."""
    for name in ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY", "SUPABASE_ANON_KEY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


async def _headers_that_are_sent(
    rest: respx.MockRouter, token: str | SecretStr, url: str | None, key: str | SecretStr | None
) -> httpx.Headers:
    rest.route().respond(200, json=[])
    async with connect_as_user(token, url, key) as client:
        await ScenarioNotificationRepository(client).get_last_sent_at(USER_ID, ScenarioType.INACTIVITY)
    headers = rest.calls.last.request.headers
    assert isinstance(headers, httpx.Headers)
    return headers


@pytest.mark.parametrize("key", [PUBLISHABLE_KEY, ANON_KEY], ids=["publishable", "anon"])
@pytest.mark.parametrize("hide", [str, SecretStr])
async def test_the_user_is_who_asks(key: str, hide: type[str | SecretStr], rest: respx.MockRouter) -> None:
    """Requests carry the user's token as bearer and the publishable key as ``apikey``."""
    headers = await _headers_that_are_sent(rest, hide(TOKEN), PROJECT_URL, hide(key))

    assert (headers["apikey"], headers["Authorization"]) == (key, f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    ("names", "sent"),
    [(["SUPABASE_PUBLISHABLE_KEY", "SUPABASE_ANON_KEY"], PUBLISHABLE_KEY), (["SUPABASE_ANON_KEY"], ANON_KEY)],
    ids=["publishable", "anon"],
)
async def test_the_environment_is_read_in_order(
    names: list[str], sent: str, environment: pytest.MonkeyPatch, rest: respx.MockRouter
) -> None:
    """Without arguments the newer kind of setting wins."""
    environment.setenv("SUPABASE_URL", PROJECT_URL)
    for name in names:
        environment.setenv(name, {"SUPABASE_ANON_KEY": ANON_KEY, "SUPABASE_PUBLISHABLE_KEY": PUBLISHABLE_KEY}[name])

    assert (await _headers_that_are_sent(rest, TOKEN, None, None))["apikey"] == sent


async def test_a_users_token_stays_with_that_users_client(rest: respx.MockRouter) -> None:
    """Clients share no headers: the next one acts for itself."""
    await _headers_that_are_sent(rest, TOKEN, PROJECT_URL, PUBLISHABLE_KEY)

    async with connect(PROJECT_URL, SECRET_KEY) as client:
        await ScenarioNotificationRepository(client).get_last_sent_at(USER_ID, ScenarioType.INACTIVITY)
    assert rest.calls.last.request.headers["Authorization"] == f"Bearer {SECRET_KEY}"


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize(
    "key",
    [
        f"sb_secret_{MARKER}",
        minted_jwt("service_role", note=MARKER),
        minted_jwt("authenticated", note=MARKER),
        MARKER,
        "",
        None,
        f"sb_publishable_{MARKER}\n",
    ],
    ids=["secret", "service_role", "a user's token", "garbage", "empty", "none", "newline"],
)
async def test_what_is_no_publishable_key_is_refused(key: str | None) -> None:
    """Only a publishable key opens a user's client: a secret key is refused, and no key is shown."""
    with pytest.raises(ConfigurationException) as refusal:
        async with connect_as_user(TOKEN, PROJECT_URL, key):
            pytest.fail("connected")
    assert MARKER not in told_by(refusal.value)


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize(
    "token",
    [
        f"sb_secret_{MARKER}",
        f"sb_publishable_{MARKER}",
        minted_jwt("service_role", note=MARKER),
        minted_jwt("anon", note=MARKER),
        MARKER,
        "",
        f"{TOKEN}\n",
        f"Bearer {TOKEN}",
    ],
    ids=["secret", "publishable", "service_role", "anon", "garbage", "empty", "newline", "with its scheme"],
)
@pytest.mark.parametrize("hide", [str, SecretStr])
async def test_what_is_no_users_token_is_refused(token: str, hide: type[str | SecretStr]) -> None:
    """Only a signed-in user's access token opens a user's client, and no token is shown."""
    with pytest.raises(ConfigurationException, match="access token") as refusal:
        async with connect_as_user(hide(token), PROJECT_URL, PUBLISHABLE_KEY):
            pytest.fail("connected")
    assert MARKER not in told_by(refusal.value)


@pytest.mark.usefixtures("no_request")
async def test_a_users_token_does_not_travel_in_the_clear() -> None:
    """The URL is checked as for a worker."""
    with pytest.raises(ConfigurationException, match="https"):
        async with connect_as_user(TOKEN, f"http://{MARKER}.example", PUBLISHABLE_KEY):
            pytest.fail("connected")


async def test_the_client_is_closed_afterwards() -> None:
    """The HTTP client is closed with the block."""
    async with connect_as_user(TOKEN, PROJECT_URL, PUBLISHABLE_KEY) as client:
        session = client.postgrest.session
        assert session.is_closed is False
    assert session.is_closed is True
