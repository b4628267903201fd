"""The senders of docs/senders.md, against servers that answer as the providers do."""

from __future__ import annotations

import asyncio
import email
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Final

import httpx
import jwt
import pytest
import respx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from scenario_repo import (
    DeliverLater,
    DeviceToken,
    InvalidDeviceToken,
    LeasedNotification,
    PermanentDeliveryError,
    ScenarioType,
)
from tests.docs.fake_providers import Apns, MailServer, served
from tests.docs.pages import load
from tests.factories import PROJECT_URL, REST_URL, USER_ID, leased_row

pytest_plugins = ["tests.unit.command_line"]

PAGE: Final = "docs/senders.md"
DEVICE: Final = DeviceToken(token="device-token", platform="ios")
FCM_URL: Final = "https://fcm.googleapis.com/v1/projects/our-project/messages:send"
TOKEN_URL: Final = "https://oauth2.example/token"  # noqa: S105 - an address
EXPO_URL: Final = "https://exp.host/--/api/v2/push"

Sender = Callable[[LeasedNotification, DeviceToken], Awaitable[None]]


def leased(**overrides: object) -> LeasedNotification:
    """Make a notification that the sender has in hand."""
    return LeasedNotification(**leased_row(**overrides))


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    """Forget the modules of the page afterwards."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in {"words", "waiting", "fcm", "apns", "expo", "mail"}:
            del sys.modules[name]


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


@asynccontextmanager
async def module(name: str) -> AsyncIterator[ModuleType]:
    """Load a sender with what it imports, and close its client afterwards."""
    loaded = load(PAGE, "words.py", "waiting.py", name)
    try:
        yield loaded
    finally:
        await loaded.CLIENT.aclose()


# What it says ------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "title"),
    [
        ({"scenario_type": "inactivity", "metadata": {"last_activity_at": "2026-09-01T00:00:00Z"}}, "We miss you"),
        (
            {
                "scenario_type": "milestone",
                "milestone_value": 25,
                "metadata": {"activity_count": 26, "reached_at": "2026-09-01T00:00:00Z"},
            },
            "Well done!",
        ),
        ({"scenario_type": "first_session"}, "News for you"),
    ],
)
def test_each_scenario_has_its_words(row: dict[str, object], title: str) -> None:
    """By its facts; a type of the app's own has none."""
    said = load(PAGE, "words.py").words(leased(**row))
    assert said[0] == title
    assert row.get("milestone_value") is None or str(row["milestone_value"]) in said[1]


@pytest.mark.parametrize(
    ("value", "waits"),
    [("120", 120), ("", 7), ("0", 7), ("Wed, 21 Oct 2026 07:28:00 GMT", 7), ("99999999", 7), ("-5", 7)],
)
def test_a_provider_says_how_long_to_wait(value: str, waits: int) -> None:
    """In seconds; whatever else it says counts for nothing."""
    response = httpx.Response(503, headers={"Retry-After": value})
    assert load(PAGE, "waiting.py").retry_after(response, timedelta(seconds=7)) == timedelta(seconds=waits)


# FCM ---------------------------------------------------------------------


@pytest.fixture
def fcm_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> rsa.RSAPrivateKey:
    """Write a service account's file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account = {
        "project_id": "our-project",
        "client_email": "worker@our-project.example",
        "private_key": _pem(key),
        "token_uri": TOKEN_URL,
        "type": "service_account",
    }
    file = tmp_path / "account.json"
    file.write_text(json.dumps(account), encoding="utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    return key


def fcm_error(code: int, **error: object) -> httpx.Response:
    """Make an answer as Google's API gives it."""
    return httpx.Response(code, json={"error": {"code": code, "message": "…", **error}})


def _fcm_detail(code: str) -> dict[str, object]:
    return {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}


_TOKEN_AT_FAULT: Final = {
    "@type": "type.googleapis.com/google.rpc.BadRequest",
    "fieldViolations": [{"field": "message.token", "description": "Invalid registration token"}],
}


async def test_fcm_sends_with_one_access_token(fcm_key: rsa.RSAPrivateKey) -> None:
    """A signed assertion is exchanged once; the message names the device and the notification."""
    async with module("fcm.py") as fcm:
        with respx.mock:
            granted = respx.post(TOKEN_URL).respond(json={"access_token": "granted", "expires_in": 3600})
            route = respx.post(FCM_URL).respond(json={"name": "projects/our-project/messages/1"})
            notification = leased()
            await fcm.send(notification, DEVICE)
            await fcm.send(notification, DEVICE)
    assert (granted.call_count, route.call_count) == (1, 2)
    form = dict(httpx.QueryParams(granted.calls.last.request.content.decode()))
    claims = jwt.decode(form["assertion"], fcm_key.public_key(), algorithms=["RS256"], audience=TOKEN_URL)
    assert (claims["iss"], claims["scope"]) == ("worker@our-project.example", fcm.SCOPE)
    request = route.calls.last.request
    message = json.loads(request.content)["message"]
    assert request.headers["Authorization"] == "Bearer granted"
    assert message["token"] == DEVICE.token
    assert message["android"]["notification"]["tag"] == str(notification.id)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (fcm_error(404, status="NOT_FOUND", details=[_fcm_detail("UNREGISTERED")]), InvalidDeviceToken),
        (
            fcm_error(400, status="INVALID_ARGUMENT", details=[_fcm_detail("INVALID_ARGUMENT"), _TOKEN_AT_FAULT]),
            InvalidDeviceToken,
        ),
        (fcm_error(400, status="INVALID_ARGUMENT"), PermanentDeliveryError),
        (fcm_error(404, status="NOT_FOUND"), httpx.HTTPStatusError),  # no such project
        (fcm_error(403, details=[_fcm_detail("SENDER_ID_MISMATCH")]), httpx.HTTPStatusError),
        (fcm_error(401, details=[_fcm_detail("THIRD_PARTY_AUTH_ERROR")]), httpx.HTTPStatusError),
        (fcm_error(500, status="INTERNAL"), httpx.HTTPStatusError),
        (httpx.Response(502, html="<!DOCTYPE html>"), httpx.HTTPStatusError),
    ],
)
@pytest.mark.usefixtures("fcm_key")
async def test_fcm_answers(answer: httpx.Response, expected: type[Exception]) -> None:
    """Only what says that the device is gone removes its token."""
    async with module("fcm.py") as fcm:
        with respx.mock:
            respx.post(TOKEN_URL).respond(json={"access_token": "granted", "expires_in": 3600})
            respx.post(FCM_URL).mock(return_value=answer)
            with pytest.raises(expected):
                await fcm.send(leased(), DEVICE)


@pytest.mark.parametrize(("status", "header", "waits"), [(429, "90", 90), (429, "", 60), (503, "5", 5), (503, "", 30)])
@pytest.mark.usefixtures("fcm_key")
async def test_fcm_asks_everybody_to_wait(status: int, header: str, waits: int) -> None:
    """The quota and an outage are not one notification's."""
    async with module("fcm.py") as fcm:
        with respx.mock:
            respx.post(TOKEN_URL).respond(json={"access_token": "granted", "expires_in": 3600})
            respx.post(FCM_URL).respond(status, headers={"Retry-After": header}, json={})
            with pytest.raises(DeliverLater) as later:
                await fcm.send(leased(), DEVICE)
    assert (later.value.after, later.value.everybody) == (timedelta(seconds=waits), True)


@pytest.mark.usefixtures("fcm_key")
async def test_fcm_asks_for_a_new_token_when_one_is_refused() -> None:
    """A 401 is tried again by the worker, with a token of its own."""
    async with module("fcm.py") as fcm:
        with respx.mock:
            granted = respx.post(TOKEN_URL).respond(json={"access_token": "granted", "expires_in": 3600})
            respx.post(FCM_URL).mock(side_effect=[httpx.Response(401, json={}), httpx.Response(200, json={})])
            with pytest.raises(httpx.HTTPStatusError):
                await fcm.send(leased(), DEVICE)
            await fcm.send(leased(), DEVICE)
    assert granted.call_count == 2


# APNs --------------------------------------------------------------------


@pytest.fixture
def apns_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ec.EllipticCurvePrivateKey:
    """Write a signing key, and the settings."""
    key = ec.generate_private_key(ec.SECP256R1())
    file = tmp_path / "AuthKey.p8"
    file.write_text(_pem(key), encoding="utf-8")
    settings = {"TEAM_ID": "TEAM", "KEY_ID": "KEY", "TOPIC": "app.example", "KEY_FILE": str(file)}
    for name, value in settings.items():
        monkeypatch.setenv(f"APNS_{name}", value)
    return key


async def test_apns_sends_over_http_2(apns_key: ec.EllipticCurvePrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the device's path, with the notification's id, and a token signed once for all."""
    async with served(provider := Apns()):
        monkeypatch.setenv("APNS_HOST", f"http://127.0.0.1:{provider.port}")
        notification = leased()
        async with module("apns.py") as sender:
            await sender.send(notification, DEVICE)
            await sender.send(notification, DEVICE)
    (headers, payload), (again, _) = provider.requests
    assert headers[":path"] == "/3/device/device-token"
    assert headers["apns-collapse-id"] == headers["apns-id"] == str(notification.id)
    assert payload["aps"]["alert"]["title"]
    token = headers["authorization"].removeprefix("bearer ")
    assert jwt.decode(token, apns_key.public_key(), algorithms=["ES256"], issuer="TEAM")
    assert (jwt.get_unverified_header(token)["kid"], again["authorization"]) == ("KEY", headers["authorization"])


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (410, "Unregistered", InvalidDeviceToken),
        (410, "ExpiredToken", InvalidDeviceToken),
        (400, "BadDeviceToken", PermanentDeliveryError),
        (400, "DeviceTokenNotForTopic", PermanentDeliveryError),
        (413, "PayloadTooLarge", PermanentDeliveryError),
        (400, "BadTopic", httpx.HTTPStatusError),
        (403, "InvalidProviderToken", httpx.HTTPStatusError),
        (500, "InternalServerError", httpx.HTTPStatusError),
        (500, None, httpx.HTTPStatusError),
    ],
)
@pytest.mark.usefixtures("apns_key")
async def test_apns_answers(
    status: int, reason: str | None, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong environment or key never removes a token."""
    async with served(provider := Apns()):
        monkeypatch.setenv("APNS_HOST", f"http://127.0.0.1:{provider.port}")
        provider.status, provider.reason = status, reason
        async with module("apns.py") as sender:
            with pytest.raises(expected):
                await sender.send(leased(), DEVICE)


@pytest.mark.parametrize(
    ("status", "reason", "header", "after", "everybody"),
    [
        (429, "TooManyRequests", "", timedelta(minutes=1), False),
        (429, "TooManyProviderTokenUpdates", "", timedelta(minutes=20), True),
        (503, "ServiceUnavailable", "12", timedelta(seconds=12), True),
        (503, "Shutdown", "", timedelta(seconds=30), True),
    ],
)
@pytest.mark.usefixtures("apns_key")
async def test_apns_asks_to_wait(  # noqa: PLR0913, PLR0917 - one case
    status: int,
    reason: str,
    header: str,
    after: timedelta,
    everybody: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For one device, or for all."""
    async with served(provider := Apns()):
        monkeypatch.setenv("APNS_HOST", f"http://127.0.0.1:{provider.port}")
        provider.status, provider.reason = status, reason
        provider.headers = {"retry-after": header} if header else {}
        async with module("apns.py") as sender:
            with pytest.raises(DeliverLater) as later:
                await sender.send(leased(), DEVICE)
    assert (later.value.after, later.value.everybody) == (after, everybody)


@pytest.mark.usefixtures("apns_key")
async def test_apns_gets_a_new_token_when_one_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple says so; the worker's next attempt has a new one."""
    async with served(provider := Apns()):
        monkeypatch.setenv("APNS_HOST", f"http://127.0.0.1:{provider.port}")
        provider.status, provider.reason = 403, "ExpiredProviderToken"
        async with module("apns.py") as sender:
            with pytest.raises(httpx.HTTPStatusError):
                await sender.send(leased(), DEVICE)
            provider.status = 200
            await sender.send(leased(), DEVICE)
    tokens = [headers["authorization"] for headers, _ in provider.requests]
    assert len(set(tokens)) == 2  # ES256 signs differently each time


# Expo --------------------------------------------------------------------


async def test_expo_sends() -> None:
    """One message, with the notification's id in its data."""
    notification = leased()
    async with module("expo.py") as expo:
        with respx.mock:
            route = respx.post(f"{EXPO_URL}/send").respond(json={"data": [{"status": "ok", "id": "ticket"}]})
            await expo.send(notification, DEVICE)
    (message,) = json.loads(route.calls.last.request.content)
    assert (message["to"], message["data"]["notification_id"]) == (DEVICE.token, str(notification.id))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("DeviceNotRegistered", InvalidDeviceToken),
        ("MessageTooBig", PermanentDeliveryError),
        ("MessageRateExceeded", DeliverLater),
        ("InvalidCredentials", None),
        ("MismatchSenderId", None),
        (None, None),
    ],
)
async def test_expo_tickets(error: str | None, expected: type[Exception] | None) -> None:
    """What Expo says of one message; what is wrong with the set-up is tried again."""
    ticket = {"status": "error", "message": "…", "details": {"error": error} if error else {}}
    async with module("expo.py") as expo:
        with respx.mock:
            respx.post(f"{EXPO_URL}/send").respond(json={"data": [ticket]})
            with pytest.raises(expected or expo.ExpoError):
                await expo.send(leased(), DEVICE)


@pytest.mark.parametrize(
    ("status", "expected"), [(429, DeliverLater), (503, DeliverLater), (500, httpx.HTTPStatusError)]
)
async def test_expo_is_busy(status: int, expected: type[Exception]) -> None:
    """Too much at once, or an outage: for everybody."""
    async with module("expo.py") as expo:
        with respx.mock:
            respx.post(f"{EXPO_URL}/send").respond(status, json={"errors": []})
            with pytest.raises(expected) as raised:
                await expo.send(leased(), DEVICE)
    assert getattr(raised.value, "everybody", True) is True


async def test_expo_tells_later_who_is_gone() -> None:
    """By the receipts of the tickets."""
    receipts = {"1": {"status": "ok"}, "2": {"status": "error", "details": {"error": "DeviceNotRegistered"}}}
    async with module("expo.py") as expo:
        with respx.mock:
            respx.post(f"{EXPO_URL}/getReceipts").respond(json={"data": receipts})
            assert await expo.unregistered({"1": "one", "2": "two", "3": "three"}) == ["two"]


# E-mail ------------------------------------------------------------------


@pytest.fixture
async def smtp(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MailServer]:
    """Run a mail server, and set the settings."""
    async with served(server := MailServer()):
        monkeypatch.setenv("SMTP_HOST", "127.0.0.1")
        monkeypatch.setenv("SMTP_PORT", str(server.port))
        monkeypatch.setenv("MAIL_FROM", "news@app.example")
        yield server


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("address", "answer", "result"), [("her@example.com", "sent", "sent"), ("", "failed", "suppressed")]
)
async def test_mail_goes_to_the_address_in_auth(smtp: MailServer, address: str, answer: str, result: str) -> None:
    """The program leases, looks the address up, sends, and settles; whoever has none is suppressed."""
    mail = load(PAGE, "words.py", "mail.py")
    row = leased_row(scenario_type=ScenarioType.INACTIVITY)
    user = {"id": str(USER_ID), "app_metadata": {}, "user_metadata": {}, "aud": "authenticated", "email": address,
            "created_at": "2026-01-01T00:00:00Z"}  # fmt: skip
    with respx.mock:
        respx.route(host="127.0.0.1").pass_through()
        respx.get(f"{PROJECT_URL}/auth/v1/admin/users/{USER_ID}").respond(json=user)
        respx.post(f"{REST_URL}/rpc/scenario_lease_notifications").mock(
            side_effect=[httpx.Response(200, json={"leased": rows}) for rows in ([row], *[[]] * 9)]
        )
        settled = respx.post(f"{REST_URL}/rpc/scenario_settle_notifications").respond(json={"answers": [answer]})
        await mail.main()
    (settlement,) = json.loads(settled.calls.last.request.content)["p_results"]
    assert settlement["result"] == result
    assert len(smtp.mails) == (result == "sent")
    for text in smtp.mails:
        message = email.message_from_string(text)
        assert (message["To"], message["Message-ID"]) == (address, f"<{row['id']}@app.example>")


@pytest.mark.parametrize(
    ("to_recipient", "to_text", "expected", "everybody"),
    [
        ("550 no such mailbox", "250 ok", PermanentDeliveryError, None),
        ("450 greylisted", "250 ok", DeliverLater, False),
        ("250 ok", "451 too much", DeliverLater, True),
        ("250 ok", "554 refused", PermanentDeliveryError, None),
    ],
)
async def test_mail_servers_answers(
    smtp: MailServer,
    to_recipient: str,
    to_text: str,
    expected: type[Exception],
    everybody: bool | None,  # noqa: FBT001
) -> None:
    """What is final, and what may pass, for one or for all."""
    smtp.to_recipient, smtp.to_text = to_recipient, to_text
    mail = load(PAGE, "words.py", "mail.py")
    with pytest.raises(expected) as raised:
        await asyncio.to_thread(mail.submit, mail.mail(leased(), "her@example.com"))
    assert getattr(raised.value, "everybody", None) is everybody
