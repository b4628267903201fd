"""Every failure on the wire becomes the exception that tells the caller what to do."""

from __future__ import annotations

import json

import httpx
import pytest
import respx
from supabase import AsyncClientOptions, create_async_client

from scenario_repo import (
    DuplicateNotificationException,
    InvalidDataException,
    PermissionDeniedException,
    ScenarioNotificationRepository,
    ScenarioRepositoryException,
    ScenarioType,
    SchemaNotMigratedException,
    UnavailableException,
    UnexpectedResponseException,
    UnknownReferenceException,
)
from scenario_repo._translation import BY_CODE, BY_CODE_CLASS, BY_CONSTRAINT, BY_STATUS
from tests.factories import (
    PROJECT_URL,
    PUBLISHABLE_KEY,
    USER_ID,
    minted_jwt,
    new_notification,
    notification_row,
)
from tests.unit.leaks import MARKER

ALWAYS, IF_IDEMPOTENT, NEVER = (True, True), (True, False), (False, False)
"""Whether a read and a write may be repeated."""

Outcome = tuple[type[ScenarioRepositoryException], tuple[bool, bool]]
DUPLICATE: Outcome = (DuplicateNotificationException, NEVER)
UNKNOWN_USER: Outcome = (UnknownReferenceException, NEVER)
INVALID: Outcome = (InvalidDataException, NEVER)
DENIED: Outcome = (PermissionDeniedException, NEVER)
NOT_MIGRATED: Outcome = (SchemaNotMigratedException, NEVER)
UNEXPECTED: Outcome = (UnexpectedResponseException, NEVER)
NOT_DONE: Outcome = (UnavailableException, ALWAYS)
UNKNOWN_OUTCOME: Outcome = (UnavailableException, IF_IDEMPOTENT)

CODES: dict[Outcome, dict[int, str]] = {
    UNKNOWN_USER: {409: "23503"},
    DUPLICATE: {409: "23505"},
    INVALID: {
        400: "22001 22003 22007 22008 22021 22023 22P02 22P05 23000 23001 23502 23514 23P01 P0001 "
        "PGRST100 PGRST101 PGRST102 PGRST103 PGRST108 PGRST118 PGRST128 SR001 SR002 SR003 SR004 SR008 SR999",
        413: "54000 54011 54023",
    },
    DENIED: {401: "PGRST300 PGRST301 PGRST302 42501", 403: "42501 28000 28P01"},
    NOT_MIGRATED: {
        400: "3F000 42703 42P10 PGRST200 PGRST204 SR005 SR006 SR007",
        404: "42883 42P01 PGRST202 PGRST205",
        406: "PGRST106",
    },
    NOT_DONE: {
        405: "25006",
        500: "40001 40P01 55P03 57014",
        503: "53000 53100 53200 53300 53400 57P01 57P02 57P03 57P05 PGRST000 PGRST001 PGRST002",
        504: "PGRST003",
    },
    UNKNOWN_OUTCOME: {
        500: "XX000 58030 SUP PGRSTX00",
        503: "08000 08001 08003 08004 08006 08007 08P01",
    },
    UNEXPECTED: {400: "42804 21000 0A000", 406: "PGRST116", 418: "PT418", 500: "P0002 P0003 P0004"},
}
CODE_CASES = [
    pytest.param(code, status, outcome, id=f"{code}-{status}")
    for outcome, by_status in CODES.items()
    for status, codes in by_status.items()
    for code in codes.split()
]

STATUSES: dict[int, Outcome] = {
    400: UNEXPECTED,
    401: DENIED,
    403: DENIED,
    404: UNEXPECTED,
    408: UNKNOWN_OUTCOME,
    413: INVALID,
    414: INVALID,
    429: NOT_DONE,
    431: INVALID,
    **dict.fromkeys(range(500, 600), UNKNOWN_OUTCOME),
    503: NOT_DONE,
    307: UNEXPECTED,
}
UNREADABLE = {
    "HTML": b"<html><body><h1>Error</h1></body></html>",
    "empty": b"",
    "truncated": b'{"code":"23505","mess',
    "no code": b'{"message":"no Route matched with those values"}',
    "other fields": b'{"error":"Unauthorized"}',
    "number as code": b'{"code":23505,"message":"bad gateway"}',
    "list": b"[]",
    "null": b"null",
    "not UTF-8": b"\xff\xfe\x00",
}


async def _failure_of_read(repository: ScenarioNotificationRepository) -> ScenarioRepositoryException:
    with pytest.raises(ScenarioRepositoryException) as failure:
        await repository.get_last_sent_at(USER_ID, ScenarioType.INACTIVITY)
    assert failure.value.operation == "get_last_sent_at"
    return failure.value


async def _failure_of_write(repository: ScenarioNotificationRepository) -> ScenarioRepositoryException:
    with pytest.raises(ScenarioRepositoryException) as failure:
        await repository.insert_notification(new_notification())
    assert failure.value.operation == "insert_notification"
    return failure.value


async def _outcome(repository: ScenarioNotificationRepository) -> Outcome:
    """Read and write, both of which must fail, and return the class and whether either may be repeated."""
    read, write = await _failure_of_read(repository), await _failure_of_write(repository)
    assert type(read) is type(write)
    return type(read), (read.retryable, write.retryable)


@pytest.mark.parametrize(("code", "status", "outcome"), CODE_CASES)
async def test_a_code_gives_its_exception(
    code: str, status: int, outcome: Outcome, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Each SQLSTATE and PGRST code gives its class, and says whether a read or a write may be repeated."""
    rest.route().respond(status, json={"code": code, "message": "no", "details": None, "hint": None})

    assert await _outcome(repository) == outcome


@pytest.mark.parametrize("code", ["SR001", "SR005", "SR006", "SR999"])
async def test_a_refusal_in_the_databases_own_words_is_shown(
    code: str, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Its sentence is the message: it is written in scenario_repo's SQL, and holds no value of a row."""
    sentence = "expected p_limit from 1 to 1000, got 0"
    rest.route().respond(400, json={"code": code, "message": sentence, "details": MARKER, "hint": MARKER})
    with pytest.raises(ScenarioRepositoryException, match=f"describe_schema: {sentence}") as refused:
        await repository.describe_schema()
    assert refused.value.code == code
    assert MARKER not in str(refused.value)


async def test_any_other_message_of_the_database_is_not_shown(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """It may quote a row."""
    for code in ("22P02", "P0001", "23514"):
        rest.route().respond(400, json={"code": code, "message": MARKER})
        with pytest.raises(InvalidDataException) as refused:
            await repository.describe_schema()
        assert MARKER not in str(refused.value)


ISSUED_AT_FUTURE = {"code": "PGRST303", "message": "JWT issued at future", "details": None, "hint": None}


async def test_an_opaque_key_has_no_times_of_its_own(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Such a key refused for the time of a token: the token is the gateway's, and the call may be repeated."""
    rest.route().respond(401, json=ISSUED_AT_FUTURE)
    assert await _outcome(repository) == NOT_DONE


@pytest.mark.parametrize("token", [minted_jwt("service_role"), minted_jwt("authenticated")])
async def test_a_tokens_own_times_are_final(token: str, rest: respx.MockRouter, http: httpx.AsyncClient) -> None:
    """A legacy key, or a user's access token beside a publishable key, has expired or is not valid yet."""
    rest.route().respond(401, json=ISSUED_AT_FUTURE)
    is_legacy = token == minted_jwt("service_role")
    options = AsyncClientOptions(httpx_client=http)
    options.headers.update({} if is_legacy else {"Authorization": f"Bearer {token}"})
    client = await create_async_client(PROJECT_URL, token if is_legacy else PUBLISHABLE_KEY, options)
    assert await _outcome(ScenarioNotificationRepository(client)) == DENIED


@pytest.mark.parametrize("status", [400, 500, 503])
async def test_a_connection_that_broke_during_the_commit_has_an_unknown_outcome(
    status: int, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """PostgREST then sends an empty code: a read may be repeated, an insert may have been done."""
    body = {"code": "", "details": None, "hint": None, "message": ""}
    rest.route().respond(status, json=body, headers={"Proxy-Status": "PostgREST; error="})
    assert await _outcome(repository) == UNKNOWN_OUTCOME


def test_every_code_of_the_tables_has_a_case() -> None:
    """A code, class of codes or status added to a table must be added to these tests."""
    codes = {case.values[0] for case in CODE_CASES}

    assert set(BY_CODE) <= codes
    assert all(any(str(code).startswith(prefix) for code in codes) for prefix in BY_CODE_CLASS)
    assert set(BY_STATUS) <= set(STATUSES)


@pytest.mark.parametrize(("status", "outcome"), STATUSES.items(), ids=map(str, STATUSES))
async def test_without_a_code_the_status_decides(
    status: int, outcome: Outcome, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """A gateway's page gives the exception of its HTTP status."""
    rest.route().respond(status, html="<html><body><h1>Error</h1></body></html>")

    assert await _outcome(repository) == outcome


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=list(UNREADABLE))
async def test_the_status_decides_whatever_the_body(
    body: bytes, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """A body that is not PostgREST's does not break the translation."""
    rest.route().respond(502, content=body)

    assert await _outcome(repository) == UNKNOWN_OUTCOME


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=list(UNREADABLE))
async def test_an_http_status_is_no_code(
    body: bytes, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """``code`` is PostgreSQL's or PostgREST's, or None; the status has an attribute of its own."""
    rest.route().respond(502, content=body)

    failure = await _failure_of_read(repository)

    assert (failure.code, failure.constraint, failure.http_status) == (None, None, 502)


async def test_an_error_carries_its_code_and_status(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """What PostgREST said, and how, can be logged and searched for."""
    rest.route().respond(500, json={"code": "57014", "message": "canceling statement due to statement timeout"})

    failure = await _failure_of_read(repository)

    assert (failure.code, failure.constraint, failure.http_status) == ("57014", None, 500)
    assert "rolled back" in str(failure)


async def test_the_code_may_come_in_a_header(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """PostgREST's Proxy-Status gives the code if the body is missing."""
    rest.route().respond(404, headers={"Proxy-Status": "PostgREST; error=PGRST202"}, html="<html></html>")

    failure = await _failure_of_read(repository)

    assert type(failure) is SchemaNotMigratedException
    assert failure.code == "PGRST202"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("120", 120.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("²", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_handed_on(
    header: str, seconds: float | None, status: int, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """The seconds that a server asks to wait are the exception's ``retry_after``."""
    rest.route().respond(status, headers=[(b"Retry-After", header.encode())], html="<html></html>")

    assert (await _failure_of_read(repository)).retry_after == seconds


@pytest.mark.parametrize("code", ["23505", "23503", "23514"])
async def test_the_constraint_is_named(
    code: str, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """The name of the constraint that refused the row is taken from PostgreSQL's message."""
    message = 'new row for relation "scenario_notifications" violates constraint "scenario_notifications_user_fk"'
    rest.route().respond(409, json={"code": code, "message": message, "details": None, "hint": None})

    assert (await _failure_of_write(repository)).constraint == "scenario_notifications_user_fk"


async def test_what_a_check_expects_is_told(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """For a setting or a policy that an operator wrote, in our words: PostgreSQL's own show the row."""
    for name, sentence in BY_CONSTRAINT.items():
        message = f'new row for relation "t" violates check constraint "{name}"'
        details = f"Failing row contains ({MARKER})."
        body = {"code": "23514", "message": message, "details": details, "hint": None}
        rest.route().respond(400, json=body)
        told = str(await _failure_of_write(repository))
        assert sentence in told
        assert MARKER not in told


UNFIT = {
    "HTML": b"<html></html>",
    "empty": b"",
    "truncated": json.dumps([notification_row()]).encode()[:-40],
    "null": b"null",
    "text": b'"ok"',
    "number": b"1",
    "object": b"{}",
    "list of null": b"[null]",
    "list of lists": b"[[]]",
    "missing columns": b'[{"id":"0b6c1f1e-6f0c-4e0a-9f1b-2d4f5a6b7c8d"}]',
    "naive datetime": json.dumps([notification_row(triggered_at="2026-11-02T08:30:00")]).encode(),
    "no datetime": json.dumps([notification_row(triggered_at=None)]).encode(),
    "too deep": b'[{"triggered_at":' + b"[" * 100_000,
    "not UTF-8": b'[{"triggered_at":"\xff"}]',
}


@pytest.mark.parametrize("body", UNFIT.values(), ids=list(UNFIT))
@pytest.mark.parametrize("status", [200, 206])
async def test_a_success_that_does_not_fit_is_unexpected(
    status: int, body: bytes, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """A 2xx whose body does not fit the model is an error."""
    rest.route().respond(status, content=body)

    assert await _outcome(repository) == UNEXPECTED


@pytest.mark.parametrize("column", [*notification_row()])
async def test_a_missing_column_is_named(
    column: str, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """The message says which column of the answer is missing."""
    row = notification_row()
    del row[column]
    rest.route().respond(201, json=[row])

    assert column in str(await _failure_of_write(repository))


async def test_extra_columns_are_fine(rest: respx.MockRouter, repository: ScenarioNotificationRepository) -> None:
    """Unknown columns of a newer schema are ignored."""
    rest.route().respond(201, json=[notification_row(new_column={"a": 1})])

    assert (await repository.insert_notification(new_notification())).milestone_value is None
