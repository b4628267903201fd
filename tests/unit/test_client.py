"""A worker's client: made from arguments or the environment, with a secret key, and closed in the end."""

from __future__ import annotations

import json

import httpx
import pytest
import respx
from postgrest import APIError
from pydantic import SecretStr

from scenario_repo import ConfigurationException, ScenarioNotificationRepository, ScenarioType, connect
from tests.factories import PROJECT_URL, PUBLISHABLE_KEY, SECRET_KEY, USER_ID, minted_jwt
from tests.unit.leaks import MARKER, told_by

URL_AND_KEYS = (
    "SUPABASE_URL",
    "SUPABASE_SECRET_KEYS",
    "SUPABASE_SECRET_KEY",
    "SUPABASE_SERVICE_ROLE_KEY",
    "SUPABASE_PUBLISHABLE_KEY",
    "SUPABASE_ANON_KEY",
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Clear the settings of the developer's own environment."""
    for name in URL_AND_KEYS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


async def _key_that_is_sent(url: str | None = None, key: str | SecretStr | None = None) -> str:
    """Connect, make a request and return the key it carried, as ``apikey`` and as bearer token alike."""
    with respx.mock(base_url=f"{url or PROJECT_URL}/rest/v1") as router:
        router.route().respond(200, json=[])
        async with connect(url, key) as client:
            await ScenarioNotificationRepository(client).get_last_sent_at(USER_ID, ScenarioType.INACTIVITY)
        headers = router.calls.last.request.headers
    sent = str(headers["apikey"])
    assert headers["Authorization"] == f"Bearer {sent}"
    return sent


ENVIRONMENT = {
    "SUPABASE_SECRET_KEYS": json.dumps({"other": "sb_secret_other", "default": "sb_secret_first"}),
    "SUPABASE_SECRET_KEY": "sb_secret_second",
    "SUPABASE_SERVICE_ROLE_KEY": minted_jwt("service_role", ref="third"),
}


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (["SUPABASE_SECRET_KEYS", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"], "sb_secret_first"),
        (["SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"], "sb_secret_second"),
        (["SUPABASE_SERVICE_ROLE_KEY"], ENVIRONMENT["SUPABASE_SERVICE_ROLE_KEY"]),
    ],
    ids=["keys", "key", "legacy"],
)
async def test_the_environment_is_read_in_order(names: list[str], key: str, environment: pytest.MonkeyPatch) -> None:
    """Without arguments the newest kind of setting that is there wins."""
    environment.setenv("SUPABASE_URL", PROJECT_URL)
    for name in names:
        environment.setenv(name, ENVIRONMENT[name])

    assert await _key_that_is_sent() == key


async def test_arguments_go_before_the_environment(environment: pytest.MonkeyPatch) -> None:
    """What is given is used, whatever the environment says."""
    environment.setenv("SUPABASE_URL", "https://another.example")
    environment.setenv("SUPABASE_SECRET_KEYS", MARKER)

    assert await _key_that_is_sent(PROJECT_URL, SECRET_KEY) == SECRET_KEY


@pytest.mark.parametrize(
    "key", [SECRET_KEY, SecretStr(SECRET_KEY), minted_jwt("service_role")], ids=["text", "hidden", "legacy"]
)
async def test_a_secret_key_is_accepted(key: str | SecretStr) -> None:
    """A secret key of either kind opens a worker's client, hidden in a SecretStr or not."""
    assert await _key_that_is_sent(PROJECT_URL, key) == (key if isinstance(key, str) else key.get_secret_value())


NO_SECRET_KEYS = {
    "publishable": f"sb_publishable_{MARKER}",
    "anon": minted_jwt("anon", note=MARKER),
    "authenticated": minted_jwt("authenticated", note=MARKER),
    "garbage": MARKER,
    "garbage in three parts": f"a.{MARKER}.c",
    "two parts": ".".join(minted_jwt("service_role").split(".")[:2]),
    "role that is no text": minted_jwt(["service_role"]),
    "no role": minted_jwt(None),
    "empty": "",
    "blank": " ",
    "newline": f"sb_secret_{MARKER}\n",
    "carriage return": f"sb_secret_{MARKER}\r\nX-Injected: 1",
    "control character": f"sb_secret_{MARKER}\x7f",
    "leading blank": f" sb_secret_{MARKER}",
    "beyond ASCII": f"sb_secret_{MARKER}é",
    "newline in a JWT": minted_jwt("service_role") + "\n",
}
no_secret_key = pytest.mark.parametrize("key", NO_SECRET_KEYS.values(), ids=list(NO_SECRET_KEYS))


async def _refusal(url: str | None = None, key: str | SecretStr | None = None) -> ConfigurationException:
    with pytest.raises(ConfigurationException) as refusal:
        async with connect(url, key):
            pytest.fail("connected")
    assert MARKER not in told_by(refusal.value)
    return refusal.value


@pytest.mark.usefixtures("no_request")
@no_secret_key
async def test_what_is_no_secret_key_is_refused(key: str, environment: pytest.MonkeyPatch) -> None:
    """A worker's client does not open with any other key, given or set, and the key is not shown."""
    await _refusal(PROJECT_URL, key)
    await _refusal(PROJECT_URL, SecretStr(key))
    environment.setenv("SUPABASE_SECRET_KEY", key)
    await _refusal(PROJECT_URL)


@pytest.mark.usefixtures("no_request")
async def test_an_empty_argument_does_not_fall_back_to_the_environment(environment: pytest.MonkeyPatch) -> None:
    """An empty argument is refused, and no key from the environment is sent to the URL given."""
    environment.setenv("SUPABASE_URL", "https://another.example")
    environment.setenv("SUPABASE_SECRET_KEY", SECRET_KEY)

    await _refusal(PROJECT_URL, "")
    await _refusal("", SECRET_KEY)


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize(
    "keys", [MARKER, "[]", "7", "null", "{}", f'{{"other": "{MARKER}"}}', f'{{"default": "{MARKER}"}}']
)
async def test_malformed_keys_in_the_environment_are_refused(keys: str, environment: pytest.MonkeyPatch) -> None:
    """SUPABASE_SECRET_KEYS must be JSON with a secret key under ``default``; its content is not shown."""
    environment.setenv("SUPABASE_SECRET_KEYS", keys)

    await _refusal(PROJECT_URL)


@pytest.mark.usefixtures("no_request")
async def test_a_missing_setting_is_named(environment: pytest.MonkeyPatch) -> None:
    """Without settings, the error says what to set."""
    assert "SUPABASE_SECRET_KEY" in str(await _refusal(PROJECT_URL))
    assert "SUPABASE_URL" in str(await _refusal(None, SECRET_KEY))
    environment.setenv("SUPABASE_URL", "")
    assert "SUPABASE_URL" in str(await _refusal(None, SECRET_KEY))


@pytest.mark.parametrize("key", [PUBLISHABLE_KEY, minted_jwt("anon")], ids=["publishable", "anon"])
async def test_a_publishable_key_is_called_by_its_name(key: str) -> None:
    """A publishable key, the most common mistake, has an error message of its own."""
    assert "publishable key" in str(await _refusal(PROJECT_URL, key)).partition("got")[2]


@pytest.mark.parametrize(
    "url",
    [
        PROJECT_URL,
        "https://supabase.example/behind/a/path",
        "http://127.0.0.1:54321",
        "http://127.9.9.9:54321",
        "http://localhost:54321",
        "http://[::1]:54321",
    ],
)
async def test_https_and_loopback_are_accepted(url: str) -> None:
    """A project's URL, and a local stack's without encryption."""
    assert await _key_that_is_sent(url, SECRET_KEY) == SECRET_KEY


async def test_a_slash_at_the_end_makes_no_difference() -> None:
    """The URL may be given as a browser shows it."""
    async with connect(f"{PROJECT_URL}/", SECRET_KEY) as client:
        assert str(client.rest_url) == f"{PROJECT_URL}/rest/v1"


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize(
    "url",
    [
        f"http://{MARKER}.example",
        f"http://127.0.0.1.{MARKER}.example",
        f"http://localhost.{MARKER}.example",
        "http://10.0.0.1:54321",
        "http://0.0.0.0:54321",
        "http://[2001:db8::1]:54321",
        f"ftp://{MARKER}.example",
        f"postgresql://postgres:{MARKER}@127.0.0.1/postgres",
        MARKER,
        "//project.supabase.co",
        "https://",
        "https://:443",
        f"https://{MARKER}:{MARKER}",
        f"https://{MARKER}.example:99999",
        f"https://{MARKER}.example\n",
        f"https://user:{MARKER}@project.supabase.co",
        f"https://user:{MARKER}/@project.supabase.co",
        f"https://{MARKER}@project.supabase.co",
        f"{PROJECT_URL}?apikey={MARKER}",
        f"{PROJECT_URL}#{MARKER}",
        f"{PROJECT_URL}/rest/v1",
        f"{PROJECT_URL}/rest/v1/",
        "https://" + "a" * 70_000,
    ],
    ids=lambda url: url[:50],
)
async def test_any_other_url_is_refused(url: str, environment: pytest.MonkeyPatch) -> None:
    """No key is sent unencrypted beyond this machine, and no URL that may hold a password is shown."""
    await _refusal(url, SECRET_KEY)
    environment.setenv("SUPABASE_URL", url)
    await _refusal(None, SECRET_KEY)


async def test_the_client_is_closed_afterwards() -> None:
    """The HTTP client is open inside the block and closed after it."""
    async with connect(PROJECT_URL, SECRET_KEY) as client:
        session = client.postgrest.session
        assert session.is_closed is False
    assert session.is_closed is True


async def test_the_client_is_closed_after_an_exception() -> None:
    """Whatever ends the block, the HTTP client is closed and the exception goes on."""
    opened: list[httpx.AsyncClient] = []

    async def fail() -> None:
        async with connect(PROJECT_URL, SECRET_KEY) as client:
            opened.append(client.postgrest.session)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert [session.is_closed for session in opened] == [True]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, {"connect": 5.0, "read": 15.0, "write": 15.0, "pool": 15.0}),
        (0.5, dict.fromkeys(("connect", "read", "write", "pool"), 0.5)),
        (httpx.Timeout(7.0, read=2.5), {"connect": 7.0, "read": 2.5, "write": 7.0, "pool": 7.0}),
    ],
    ids=["default", "seconds", "phases"],
)
async def test_the_timeout_is_the_one_given(
    given: httpx.Timeout | float | None, seconds: dict[str, float], rest: respx.MockRouter
) -> None:
    """Each request has the timeout that was asked for, fractions of a second included."""
    rest.route().respond(200, json=[])

    opened = connect(PROJECT_URL, SECRET_KEY) if given is None else connect(PROJECT_URL, SECRET_KEY, timeout=given)
    async with opened as client:
        await ScenarioNotificationRepository(client).get_last_sent_at(USER_ID, ScenarioType.INACTIVITY)

    assert rest.calls.last.request.extensions["timeout"] == seconds


async def test_the_client_retries_nothing_by_itself(rest: respx.MockRouter) -> None:
    """A request that the caller builds with the client is sent once as well."""
    rest.route().respond(503)

    async with connect(PROJECT_URL, SECRET_KEY) as client:
        with pytest.raises(APIError):
            await client.table("peer_mentors").select("user_id").execute()
    assert rest.calls.call_count == 1


async def test_a_redirect_is_not_followed(rest: respx.MockRouter) -> None:
    """The key goes to the host that was given and to no other."""
    rest.route().respond(307, headers={"Location": "https://another.example/"})

    async with connect(PROJECT_URL, SECRET_KEY) as client:
        with pytest.raises(APIError):
            await client.table("peer_mentors").select("user_id").execute()
    assert rest.calls.call_count == 1
