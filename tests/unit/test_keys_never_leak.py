"""Keys and tokens: refused where they don't belong, and never shown, whatever fails."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, redirect_stderr, redirect_stdout
from typing import Any, Final

import httpx
import pytest
import respx
from pydantic import SecretStr
from supabase import AsyncClient

from scenario_repo import (
    ConfigurationException,
    DeliveryWorker,
    LeasedNotification,
    PermissionDeniedException,
    ScenarioNotificationRepository,
    ScenarioRepositoryException,
    ScenarioTriggerEngine,
    ScenarioType,
    cli,
    connect,
    connect_as_user,
)
from tests.factories import (
    ORGANIZATION_ID,
    PROJECT_URL,
    REST_URL,
    SECRET_KEY,
    USER_ID,
    leased_row,
    minted_jwt,
)
from tests.unit.leaks import CALLS, KEYS, MARKER, PUBLISHABLE_KEYS, TOKEN, everything_about, hushed

both_families = pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))


QUOTING: Final = {"code": "42501", "message": MARKER, "hint": f"apikey {MARKER}", "details": f"Bearer {MARKER}"}
FAILURES: Final[dict[str, httpx.Response | Exception]] = {
    "refused": httpx.ConnectError("no route"),
    "time out": httpx.ReadTimeout(""),
    "protocol": httpx.LocalProtocolError(f"Illegal header value b'Bearer {MARKER}'"),
    "remote protocol": httpx.RemoteProtocolError(f"illegal header line: {MARKER}"),
    "invalid URL": httpx.InvalidURL(f"Invalid {MARKER}"),
    "programming error": KeyError(f"apikey {MARKER}"),
    "runtime": RuntimeError(f"closed with {MARKER}"),
    "denied": httpx.Response(401, json=QUOTING),
    "gateway": httpx.Response(502, html=f"<html>apikey: {MARKER}</html>"),
    "nonsense": httpx.Response(200, text=f"Bearer {MARKER}"),
}


@pytest.fixture(autouse=True)
def told_on_the_side(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[[], str]]:
    """Collect every log record, every warning and all output, and search them after each test."""
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")

        def everything() -> str:
            records = [f"{record.getMessage()} {record.exc_text} {vars(record)}" for record in caplog.records]
            written = capfd.readouterr()
            return "\n".join([*records, *(str(one.message) for one in warned), written.out, written.err])

        yield everything
    hushed(everything(), *KEYS.values(), *PUBLISHABLE_KEYS.values(), TOKEN)


def client_with(key: str, failure: httpx.Response | Exception) -> AbstractAsyncContextManager[AsyncClient]:
    """Connect with the key to a transport that fails every request in the given way."""
    respx.route().mock(**({"side_effect": failure} if isinstance(failure, Exception) else {"return_value": failure}))
    return connect(PROJECT_URL, key)


def test_every_method_of_the_repository_is_called_here() -> None:
    """A new method must join the calls whose error paths run here."""
    public = {name for name in dir(ScenarioNotificationRepository) if not name.startswith("_")}
    assert set(CALLS) == public


@both_families
@pytest.mark.parametrize("failure", FAILURES.values(), ids=list(FAILURES))
@respx.mock
async def test_no_failure_of_a_method_tells_the_key(key: str, failure: httpx.Response | Exception) -> None:
    """Every method fails in every way: no text, attribute, pickle or traceback has the key, or what the server said."""
    async with client_with(key, failure) as client:
        repository = ScenarioNotificationRepository(client)
        for name, call in CALLS.items():
            with pytest.raises(ScenarioRepositoryException) as failed:
                await call(repository)
            assert failed.value.operation == name
            hushed(everything_about(failed.value), key)
        hushed(f"{repository!r} {repository} {client!r}", key)


@both_families
@respx.mock
async def test_no_failure_of_the_engine_or_the_worker_tells_the_key(key: str) -> None:
    """The engine's report and the worker's log and exceptions show no key either."""
    async with client_with(key, FAILURES["denied"]) as client:
        repository = ScenarioNotificationRepository(client)
        report = await ScenarioTriggerEngine(repository).run()
        hushed(f"{report} {report!r} {report.model_dump()}", key)
        assert len(report.errors) == len(ScenarioType)
        for error in report.errors:
            hushed(everything_about(error), key)

        async def send(_: LeasedNotification) -> None:
            raise AssertionError

        with pytest.raises(ScenarioRepositoryException) as failed:
            await DeliveryWorker(repository, send).run(until_idle=True)
        hushed(everything_about(failed.value), key)


@respx.mock(assert_all_called=False)
async def test_neither_a_device_token_nor_a_senders_words_are_told(
    respx_mock: respx.MockRouter, told_on_the_side: Callable[[], str]
) -> None:
    """A sender that quotes the device's token in its error is logged by the error's class alone."""
    row = leased_row(device_tokens=[{"token": MARKER, "platform": "ios"}])
    lease = respx_mock.post(f"{REST_URL}/rpc/scenario_lease_notifications")
    lease.side_effect = [httpx.Response(200, json={"leased": rows}) for rows in ([row], [])]
    respx_mock.post(f"{REST_URL}/rpc/scenario_settle_notifications").respond(200, json={"answers": ["pending"]})

    async def send(notification: LeasedNotification) -> None:
        hushed(f"{notification} {notification!r}")
        raise ValueError(notification.device_tokens[0].token)

    async with connect(PROJECT_URL, SECRET_KEY) as client:
        await DeliveryWorker(ScenarioNotificationRepository(client), send).run(until_idle=True)
    said = told_on_the_side()
    assert "a send failed: ValueError at " in said
    hushed(said)


# Settings ----------------------------------------------------------------------------------------------------------

BAD_SETTINGS: Final[dict[str, tuple[object, object]]] = {
    "publishable key": (PROJECT_URL, PUBLISHABLE_KEYS["sb_publishable_"]),
    "legacy anon key": (PROJECT_URL, PUBLISHABLE_KEYS["legacy anon"]),
    "user's token": (PROJECT_URL, TOKEN),
    "half a key": (PROJECT_URL, f"sb_secre_{MARKER}"),
    "key with a line break": (PROJECT_URL, f"sb_secret_{MARKER}\n"),
    "key beyond ASCII": (PROJECT_URL, f"sb_secret_{MARKER}ö"),
    "JWT of another role": (PROJECT_URL, minted_jwt("postgres", ref=MARKER)),
    "JWT without a role": (PROJECT_URL, minted_jwt(None, ref=MARKER)),
    "password in the URL": (f"https://user:{MARKER}@project.supabase.co", SECRET_KEY),
    "key in the URL": (f"{PROJECT_URL}?apikey={MARKER}", SECRET_KEY),
    "key as URL": (f"sb_secret_{MARKER}", SECRET_KEY),
    "URL that is none": (f"https://{MARKER}:port", SECRET_KEY),
    "key in the clear": (f"http://{MARKER.lower()}.example", f"sb_secret_{MARKER}"),
}


@pytest.mark.parametrize(("url", "key"), BAD_SETTINGS.values(), ids=list(BAD_SETTINGS))
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_bad_setting_is_refused_without_being_told(url: Any, key: Any, wrapped: bool) -> None:  # noqa: ANN401, FBT001
    """An invalid key or URL raises before anything is sent, and is not quoted."""
    with pytest.raises(ConfigurationException) as refused:
        async with connect(url, SecretStr(key) if wrapped else key):
            pass
    hushed(everything_about(refused.value), key)


@both_families
async def test_a_users_client_refuses_a_secret_key(key: str) -> None:
    """A user's client refuses a secret key, as key and as token: everybody could read it there."""
    publishable = PUBLISHABLE_KEYS["sb_publishable_"]
    bad_key, bad_token = ConfigurationException, PermissionDeniedException
    for token, given, kind in (
        (TOKEN, key, bad_key),
        (key, publishable, bad_token),
        (key, key, bad_key),
        (publishable, publishable, bad_token),
    ):
        with pytest.raises(kind) as refused:
            async with connect_as_user(token, PROJECT_URL, given):
                pass
        hushed(everything_about(refused.value), key)


@pytest.mark.parametrize(
    "environment",
    [
        {"SUPABASE_SECRET_KEYS": f"{{{MARKER}"},
        {"SUPABASE_SECRET_KEYS": json.dumps({MARKER: MARKER})},
        {"SUPABASE_SECRET_KEYS": json.dumps([MARKER])},
        {"SUPABASE_SECRET_KEYS": json.dumps({"default": [MARKER]})},
        {"SUPABASE_SECRET_KEY": PUBLISHABLE_KEYS["legacy anon"]},
        {"SUPABASE_SERVICE_ROLE_KEY": TOKEN},
        {"SUPABASE_SECRET_KEY": KEYS["sb_secret_"], "SUPABASE_URL": f"https://x:{MARKER}@project.supabase.co"},
    ],
)
@pytest.mark.parametrize(
    "command", [["evaluate"], ["explain", str(USER_ID)], ["report", str(ORGANIZATION_ID), "--json"]]
)
def test_the_command_line_tells_no_setting(
    environment: dict[str, str], command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad settings end every command with a message that does not quote them."""
    for name in ("SUPABASE_SECRET_KEYS", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"SUPABASE_URL": PROJECT_URL} | environment).items():
        monkeypatch.setenv(name, value)
    code, said = run(command)
    assert code == cli.USAGE
    hushed(said, *environment.values())


@both_families
@pytest.mark.parametrize("failure", FAILURES.values(), ids=list(FAILURES))
def test_the_command_line_tells_no_key(
    key: str, failure: httpx.Response | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails in a command, its output holds no key and no text of the server."""
    monkeypatch.delenv("SUPABASE_SECRET_KEYS", raising=False)
    monkeypatch.setenv("SUPABASE_URL", PROJECT_URL)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", key)
    monkeypatch.setattr("scenario_repo._backoff.FIRST_PAUSE_SECONDS", 0)
    with respx.mock:
        respx.route().mock(
            **({"side_effect": failure} if isinstance(failure, Exception) else {"return_value": failure})
        )
        for command in (["evaluate", "--json"], ["explain", str(USER_ID)], ["report", str(ORGANIZATION_ID)]):
            code, said = run(command)
            assert code != cli.DONE
            hushed(said, key)


def run(command: list[str]) -> tuple[int, str]:
    """Run a command, and return its exit code and all its output."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = cli.main(command)
    return code, said.getvalue()
