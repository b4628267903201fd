"""A signed-in user's client: a publishable key and that user's token, never a secret key."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest
import respx
from pydantic import SecretStr

from scenario_repo import (
    ConfigurationException,
    PermissionDeniedException,
    ScenarioNotificationRepository,
    ScenarioType,
    connect,
    connect_as_user,
    open_http_client,
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


NOW = 1_900_000_000


BAD_TOKENS = {
    "secret key": (f"sb_secret_{MARKER}", "got a key of the project"),
    "publishable key": (f"sb_publishable_{MARKER}", "got a key of the project"),
    "service_role key": (minted_jwt("service_role", note=MARKER), "got a key of the project"),
    "anon key": (minted_jwt("anon", note=MARKER), "got a key of the project"),
    "another role": (minted_jwt(MARKER), "got a token of another role"),
    "no role": (minted_jwt(None, note=MARKER), "got a token of another role"),
    "a role that is no text": (minted_jwt([MARKER]), "got a token of another role"),
    "garbage": (MARKER, "a JWT"),
    "three parts of garbage": (f"a.{MARKER}.c", "a JWT"),
    "a JWT that is no object": ("e30.WyJTRUNSRVQtUk9XLVZBTFVFIl0.c2ln", "a JWT"),
    "empty": ("", "a JWT"),
    "newline": (f"{TOKEN}\n", "a JWT"),
    "with its scheme": (f"Bearer {TOKEN}", "without 'Bearer'"),
    "expired": (minted_jwt("authenticated", exp=NOW - 31, note=MARKER), "has expired: refresh it"),
    "expired long ago": (minted_jwt("authenticated", exp=1.5, note=MARKER), "has expired: refresh it"),
}


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize(("token", "said"), BAD_TOKENS.values(), ids=list(BAD_TOKENS))
@pytest.mark.parametrize("hide", [str, SecretStr])
async def test_a_bad_token_is_told_from_a_bad_setting(
    token: str, said: str, hide: type[str | SecretStr], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's token that can't be good is refused before a request: another user may do, the settings are right."""
    monkeypatch.setattr("time.time", lambda: float(NOW))
    with pytest.raises(PermissionDeniedException, match="access token") as refusal:
        async with connect_as_user(hide(token), PROJECT_URL, PUBLISHABLE_KEY):
            pytest.fail("connected")
    assert said in str(refusal.value)
    assert refusal.value.retryable is False
    assert MARKER not in told_by(refusal.value)


@pytest.mark.usefixtures("no_request")
async def test_no_token_is_a_bad_token() -> None:
    """What is no text is refused in the same way."""
    with pytest.raises(PermissionDeniedException, match="access token, got no text"):
        async with connect_as_user(None, PROJECT_URL, PUBLISHABLE_KEY):  # type: ignore[arg-type]
            pytest.fail("connected")


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize("expiry", [NOW - 29, NOW, NOW + 3600, None, "soon", True], ids=str)
async def test_only_a_token_that_is_over_has_expired(expiry: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks may be half a minute apart, and what says no time is left to the server."""
    monkeypatch.setattr("time.time", lambda: float(NOW) if expiry is not True else 1.0)
    token = minted_jwt("authenticated") if expiry is None else minted_jwt("authenticated", exp=expiry)

    async with connect_as_user(token, PROJECT_URL, PUBLISHABLE_KEY):
        pass


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize(
    ("url", "key"), [("ftp://project.supabase.co", PUBLISHABLE_KEY), (PROJECT_URL, SECRET_KEY), (PROJECT_URL, "")]
)
async def test_a_bad_setting_is_told_first(url: str, key: str) -> None:
    """Where the settings are wrong, no token can be right."""
    with pytest.raises(ConfigurationException):
        async with connect_as_user("", url, key):
            pytest.fail("connected")


# A shared HTTP client ----------------------------------------------------


def _state(http: httpx.AsyncClient) -> str:
    return f"{dict(http.headers)} {dict(http.params)} {list(http.cookies.jar)} {http.auth} {http.base_url}"


async def test_users_share_an_http_client_and_nothing_of_each_other(rest: respx.MockRouter) -> None:
    """Each request acts for its own user; the shared client holds no token, key or cookie, and stays open."""
    rest.route().respond(200, json=[], headers={"Set-Cookie": f"session={MARKER}"})
    tokens = [minted_jwt("authenticated", sub=str(number)) for number in range(3)]

    async with open_http_client() as shared:
        before = _state(shared)
        async with AsyncExitStack() as users:
            for token in tokens:
                client = connect_as_user(token, PROJECT_URL, PUBLISHABLE_KEY, http_client=shared)
                await ScenarioNotificationRepository(await users.enter_async_context(client)).list_notifications(
                    USER_ID
                )
        async with connect(PROJECT_URL, SECRET_KEY, http_client=shared) as worker:
            await ScenarioNotificationRepository(worker).list_notifications(USER_ID)
        assert _state(shared) == before
        assert shared.is_closed is False

    sent = [call.request.headers for call in rest.calls]
    assert [one["Authorization"] for one in sent] == [f"Bearer {one}" for one in [*tokens, SECRET_KEY]]
    assert [one["apikey"] for one in sent] == [*[PUBLISHABLE_KEY] * 3, SECRET_KEY]
    assert not any("Cookie" in one for one in sent)


async def test_an_app_may_share_its_own_http_client(rest: respx.MockRouter) -> None:
    """A user's token does not get into the headers of the app's client, nor its own authorization into the request."""
    rest.route().respond(200, json=[])
    async with httpx.AsyncClient(headers={"Authorization": "Basic of-the-app"}, auth=("app", "word")) as shared:
        async with connect_as_user(TOKEN, PROJECT_URL, PUBLISHABLE_KEY, http_client=shared) as client:
            await ScenarioNotificationRepository(client).list_notifications(USER_ID)
        assert shared.headers["Authorization"] == "Basic of-the-app"
    assert rest.calls.last.request.headers["Authorization"] == f"Bearer {TOKEN}"


async def test_an_http_client_that_cant_be_shared_is_refused() -> None:
    """A blocking HTTP client and a closed one are refused by name."""
    with httpx.Client() as blocking, pytest.raises(ConfigurationException, match=r"httpx\.AsyncClient, got Client"):
        async with connect(PROJECT_URL, SECRET_KEY, http_client=blocking):  # type: ignore[arg-type]
            pytest.fail("connected")
    async with httpx.AsyncClient() as closed:
        pass
    with pytest.raises(ConfigurationException, match="closed"):
        async with connect(PROJECT_URL, SECRET_KEY, http_client=closed):
            pytest.fail("connected")


async def test_certificates_are_loaded_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """To connect loads no certificates again, unless the environment names others."""
    loaded = Mock(wraps=httpx.create_ssl_context)
    monkeypatch.setattr(httpx, "create_ssl_context", loaded)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))

    for _ in range(3):
        async with connect_as_user(TOKEN, PROJECT_URL, PUBLISHABLE_KEY):
            pass
    assert loaded.call_count == 1


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
