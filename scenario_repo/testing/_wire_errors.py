"""What the platform answers where the repository raises: one real case for each exception."""

from __future__ import annotations

from typing import Final, NamedTuple

import httpx

from scenario_repo.exceptions import (
    ConfigurationException,
    DuplicateNotificationException,
    InvalidDataException,
    PermissionDeniedException,
    ScenarioRepositoryException,
    SchemaNotMigratedException,
    UnavailableException,
    UnexpectedResponseException,
    UnknownReferenceException,
)

Failure = type[ScenarioRepositoryException] | httpx.HTTPError | httpx.Response
"""An exception of the repository's, by its class; an error of the HTTP client; or a response."""


class _Case(NamedTuple):
    status: int
    code: str
    message: str


CASES: Final[dict[type[ScenarioRepositoryException], _Case]] = {
    DuplicateNotificationException: _Case(
        409,
        "23505",
        'duplicate key value violates unique constraint "scenario_notifications_one_notification_per_milestone"',
    ),
    UnknownReferenceException: _Case(
        409,
        "23503",
        'insert or update on table "scenario_notifications" violates foreign key constraint '
        '"scenario_notifications_user_id_fkey"',
    ),
    InvalidDataException: _Case(400, "SR001", "an argument is missing or out of bounds"),
    PermissionDeniedException: _Case(403, "42501", "permission denied for table scenario_notifications"),
    SchemaNotMigratedException: _Case(404, "PGRST202", "Could not find the function in the schema cache"),
    UnavailableException: _Case(503, "PGRST001", "Could not connect with the database due to an internal error."),
    UnexpectedResponseException: _Case(406, "PGRST116", "Cannot coerce the result to a single JSON object"),
}
"""Exception → the answer that it is made from."""


def refuse_unknown(failure: Failure) -> None:
    """Raise ValueError for an exception that no answer leads to."""
    if isinstance(failure, type) and failure not in {*CASES, ConfigurationException}:
        raise ValueError(f"expected an exception that an answer of the platform leads to, got {failure.__name__}")


def respond_with(failure: Failure, request: httpx.Request) -> httpx.Response:
    """Answer a request with a failure, or raise it as the HTTP client would."""
    if isinstance(failure, httpx.Response):
        return failure
    if isinstance(failure, httpx.HTTPError):
        raise failure
    if failure is ConfigurationException:
        raise httpx.UnsupportedProtocol("the URL has no scheme", request=request)
    status, code, message = CASES[failure]
    body = {"code": code, "message": message, "details": None, "hint": None}
    return httpx.Response(status, json=body, headers={"Proxy-Status": f"PostgREST; error={code}"})
