"""Errors of httpx, and errors before a request is sent: translated, without quoting their text."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import respx

from scenario_repo import (
    ConfigurationException,
    InvalidDataException,
    ScenarioNotificationRepository,
    ScenarioRepositoryException,
    ScenarioType,
    UnavailableException,
    UnexpectedResponseException,
)
from scenario_repo._translation import BY_HTTPX_CLASS
from tests.factories import USER_ID, new_notification
from tests.unit.leaks import MARKER, told_by

ALWAYS, IF_IDEMPOTENT, NEVER = (True, True), (True, False), (False, False)
"""Whether a read and a write may be repeated."""

Outcome = tuple[type[ScenarioRepositoryException], tuple[bool, bool]]
NOT_DONE: Outcome = (UnavailableException, ALWAYS)
UNKNOWN_OUTCOME: Outcome = (UnavailableException, IF_IDEMPOTENT)
MISUSED: Outcome = (ConfigurationException, NEVER)
UNENCODABLE: Outcome = (InvalidDataException, NEVER)
UNEXPECTED: Outcome = (UnexpectedResponseException, NEVER)

BY_HTTPX: dict[type[Exception], Outcome] = {
    httpx.ConnectError: NOT_DONE,
    httpx.ConnectTimeout: NOT_DONE,
    httpx.PoolTimeout: NOT_DONE,
    httpx.ProxyError: NOT_DONE,
    httpx.ReadError: UNKNOWN_OUTCOME,
    httpx.ReadTimeout: UNKNOWN_OUTCOME,
    httpx.WriteError: UNKNOWN_OUTCOME,
    httpx.WriteTimeout: UNKNOWN_OUTCOME,
    httpx.CloseError: UNKNOWN_OUTCOME,
    httpx.RemoteProtocolError: UNKNOWN_OUTCOME,
    httpx.LocalProtocolError: MISUSED,
    httpx.UnsupportedProtocol: MISUSED,
    httpx.InvalidURL: MISUSED,
    httpx.CookieConflict: MISUSED,
    httpx.DecodingError: UNEXPECTED,
    httpx.TooManyRedirects: UNEXPECTED,
    httpx.HTTPStatusError: UNEXPECTED,
    httpx.StreamClosed: UNEXPECTED,
    httpx.StreamConsumed: UNEXPECTED,
    httpx.RequestNotRead: UNEXPECTED,
    httpx.ResponseNotRead: UNEXPECTED,
}


def _httpx_classes(root: type[BaseException] = Exception) -> Iterator[type[Exception]]:
    """Yield every exception of httpx below a class."""
    for cls in root.__subclasses__():
        if cls.__module__.partition(".")[0] == "httpx" and issubclass(cls, Exception):
            yield cls
        yield from _httpx_classes(cls)


HTTPX_CLASSES = sorted(set(_httpx_classes()), key=lambda cls: cls.__name__)
HTTPX_LEAVES = [cls for cls in HTTPX_CLASSES if not any(cls in other.__mro__[1:] for other in HTTPX_CLASSES)]


def _raised(cls: type[Exception], message: str = MARKER) -> Exception:
    """Make an instance, whatever arguments the constructor needs."""
    asked: dict[str, Any] = {
        "message": message,
        "request": httpx.Request("GET", f"https://{MARKER}.example"),
        "response": httpx.Response(500, text=message),
    }
    takes = inspect.signature(cls).parameters
    return cls(**{name: value for name, value in asked.items() if name in takes})


async def _read(repository: ScenarioNotificationRepository) -> object:
    return await repository.get_last_sent_at(USER_ID, ScenarioType.INACTIVITY)


async def _write(repository: ScenarioNotificationRepository) -> object:
    return await repository.insert_notification(new_notification())


async def _failures(repository: ScenarioNotificationRepository) -> list[ScenarioRepositoryException]:
    failures = []
    for call in (_read, _write):
        with pytest.raises(ScenarioRepositoryException) as failure:
            await call(repository)
        failures.append(failure.value)
    return failures


async def _outcome(repository: ScenarioNotificationRepository) -> Outcome:
    """Read and write, both of which must fail, and return the class and whether either may be repeated."""
    read, write = await _failures(repository)
    assert type(read) is type(write)
    return type(read), (read.retryable, write.retryable)


def test_every_exception_of_httpx_has_its_line_in_the_table() -> None:
    """A new exception class of httpx fails here until it has a verdict."""
    assert len(HTTPX_LEAVES) > 20
    assert set(HTTPX_LEAVES) == set(BY_HTTPX_CLASS)
    assert set(HTTPX_LEAVES) == set(BY_HTTPX)


@pytest.mark.parametrize("cls", HTTPX_LEAVES, ids=lambda cls: cls.__name__)
async def test_an_error_of_httpx_gives_its_exception(
    cls: type[Exception], rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Each class decides whether a read or a write may be repeated."""
    rest.route().mock(side_effect=_raised(cls))

    assert await _outcome(repository) == BY_HTTPX[cls]


@pytest.mark.parametrize("cls", HTTPX_CLASSES, ids=lambda cls: cls.__name__)
async def test_no_error_of_httpx_gets_through(
    cls: type[Exception], rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """The base classes of httpx are translated too, and the message names the original."""
    rest.route().mock(side_effect=_raised(cls))

    for failure in await _failures(repository):
        assert cls.__name__ in str(failure)
        assert failure.http_status is None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TypeError(MARKER), UNENCODABLE),
        (ValueError(MARKER), UNENCODABLE),
        (UnicodeEncodeError("utf-8", f"{MARKER}\ud800", 16, 17, MARKER), UNENCODABLE),
        (RuntimeError("Cannot send a request, as the client has been closed."), MISUSED),
        (OSError(24, "Too many open files"), UNKNOWN_OUTCOME),
        (TimeoutError(), UNKNOWN_OUTCOME),
        (KeyError(MARKER), (ScenarioRepositoryException, NEVER)),
        (AssertionError(MARKER), (ScenarioRepositoryException, NEVER)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_other_errors_give_their_exception(
    error: Exception, outcome: Outcome, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Other errors are translated by their builtin class."""
    rest.route().mock(side_effect=error)

    assert await _outcome(repository) == outcome


async def test_a_closed_client_is_a_matter_of_configuration(
    http: httpx.AsyncClient, repository: ScenarioNotificationRepository
) -> None:
    """A closed client raises the library's exception, not RuntimeError."""
    await http.aclose()

    assert await _outcome(repository) == MISUSED


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize("value", [float("nan"), f"{MARKER}\ud800", object()], ids=lambda v: type(v).__name__)
async def test_what_cannot_be_encoded_is_invalid_and_not_sent(
    value: object, repository: ScenarioNotificationRepository
) -> None:
    """Metadata made invalid after its validation raises no foreign error."""
    new = new_notification(metadata={"a": [1]})
    assert isinstance(new.metadata, dict)
    new.metadata["a"] = value  # type: ignore[assignment]  # the point of it

    with pytest.raises(InvalidDataException) as refusal:
        await repository.insert_notification(new)
    assert MARKER not in told_by(refusal.value)


async def test_cancellation_passes_through(repository: ScenarioNotificationRepository) -> None:
    """A cancelled call raises CancelledError, not a database error."""
    asked = asyncio.Event()

    async def never_answer(_: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    with respx.mock(assert_all_called=False) as router:  # respx counts a call when it is over
        router.route().mock(side_effect=never_answer)
        call = asyncio.create_task(_read(repository))
        await asked.wait()
        call.cancel()

        with pytest.raises(asyncio.CancelledError):
            await call


TALKATIVE: dict[str, Callable[[], Exception]] = {
    "response header": lambda: httpx.RemoteProtocolError(f"illegal header line: bytearray(b'Set-Cookie {MARKER}')"),
    "response body": lambda: httpx.RemoteProtocolError(f"illegal status line: bytearray(b'{MARKER}')"),
    "request header": lambda: httpx.LocalProtocolError(f"Illegal header value b'Bearer {MARKER}\\n'"),
    "url": lambda: httpx.InvalidURL(f"Invalid port: '{MARKER}'"),
    "body": lambda: TypeError(f"Object {MARKER} is not JSON serializable"),
    "value": lambda: ValueError(MARKER),
    "text": lambda: UnicodeEncodeError("utf-8", f"{MARKER}\ud800", 16, 17, "surrogates not allowed"),
    "key": lambda: KeyError(MARKER),
    "anything": lambda: RuntimeError(MARKER),
}


@pytest.mark.parametrize("make", TALKATIVE.values(), ids=list(TALKATIVE))
async def test_what_a_foreign_error_quotes_is_not_told(
    make: Callable[[], Exception], rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Neither the exception nor its chain repeats a header, a body or a value that a foreign error quotes."""
    error = make()
    error.__cause__ = ValueError(MARKER)
    rest.route().mock(side_effect=error)

    for failure in await _failures(repository):
        assert MARKER not in told_by(failure)
