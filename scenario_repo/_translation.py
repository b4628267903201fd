"""Tables that map every failure on the wire to the exception a caller sees.

Most specific first: the SQLSTATE or PGRST code, then its class, then the HTTP status. The codes are PostgreSQL's
(appendix A of its manual) and PostgREST's (its reference, "Errors"); ``SR…`` are scenario_repo's own.

Whether a call is retryable depends on its first try. If it was refused before it ran, or was rolled back: always. If
its outcome is unknown, because the connection broke or timed out after the request was sent: only if it is idempotent.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

import httpx
from httpx import Response
from postgrest import APIError
from postgrest.exceptions import APIErrorFromJSON, generate_default_error_message
from pydantic import ValidationError

from scenario_repo._keys import is_opaque, role_of
from scenario_repo._named import Named, named_in, permission_remedy
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


class Repeat(Enum):
    """When the same call may be repeated."""

    NEVER = "never"
    IF_IDEMPOTENT = "reads and idempotent writes"
    ALWAYS = "always: the call had no effect"


class Verdict(NamedTuple):
    """The exception for a failure, and when the call may be repeated."""

    exception: type[ScenarioRepositoryException]
    repeat: Repeat = Repeat.NEVER
    message: str | None = None


_NOT_DONE = Verdict(UnavailableException, Repeat.ALWAYS)
_UNKNOWN_OUTCOME = Verdict(UnavailableException, Repeat.IF_IDEMPOTENT)
_DENIED = Verdict(PermissionDeniedException)
_INVALID = Verdict(InvalidDataException)
_NOT_MIGRATED = Verdict(SchemaNotMigratedException)
_UNEXPECTED = Verdict(UnexpectedResponseException)
_CLIENT_MISUSED = Verdict(
    ConfigurationException, message="the HTTP client can't be used: closed, of another event loop, or misconfigured"
)
_UNENCODABLE = Verdict(InvalidDataException, message="the input can't be encoded as JSON")

STATEMENT_TIMEOUT: Final = "57014"

BY_CODE: dict[str, Verdict] = {
    "23503": Verdict(UnknownReferenceException),
    "23505": Verdict(DuplicateNotificationException),
    "25006": _NOT_DONE,  # read-only transaction: a replica, or during a failover
    "3F000": _NOT_MIGRATED,
    "40001": _NOT_DONE,
    "40P01": _NOT_DONE,
    "42501": _DENIED,
    "42703": _NOT_MIGRATED,
    "42883": _NOT_MIGRATED,
    "42P01": _NOT_MIGRATED,
    "42P10": _NOT_MIGRATED,  # ON CONFLICT names no constraint
    "55P03": _NOT_DONE,
    STATEMENT_TIMEOUT: Verdict(
        UnavailableException, Repeat.ALWAYS, "the statement timed out and was rolled back: ask for less at once"
    ),
    "P0001": _INVALID,
    "P0002": _UNEXPECTED,  # plpgsql's own: a function raises it each time
    "P0003": _UNEXPECTED,
    "P0004": _UNEXPECTED,
    "PGRST000": _NOT_DONE,
    "PGRST001": _NOT_DONE,
    "PGRST002": _NOT_DONE,
    "PGRST003": _NOT_DONE,
    "PGRST106": _NOT_MIGRATED,
    "PGRST116": _UNEXPECTED,
    "SR001": _INVALID,  # an argument is missing or out of bounds
    "SR002": _INVALID,  # a notification's history is final
    "SR003": _INVALID,  # too many elements in one call
    "SR004": _INVALID,  # no such scenario type
    "SR005": _NOT_MIGRATED,  # the scenario type's default settings are missing
    "SR006": _NOT_MIGRATED,  # the library needs a newer schema
    "SR007": _NOT_MIGRATED,  # the app's own tables don't have what scenario_repo reads
    "SR008": _INVALID,  # a scenario type of the app's own is not what it has to be
}
"""SQLSTATE or PGRST code → verdict."""

BY_CODE_CLASS: dict[str, Verdict] = {
    "08": _UNKNOWN_OUTCOME,
    "22": _INVALID,
    "23": _INVALID,
    "28": _DENIED,
    "53": _NOT_DONE,
    "54": _INVALID,
    "57P": _NOT_DONE,
    "PGRST1": Verdict(InvalidDataException, message="PostgREST can't read the request"),
    "PGRST2": _NOT_MIGRATED,
    "PGRST3": _DENIED,
    "SR": _INVALID,
}
"""The code's first characters → verdict."""

BY_CONSTRAINT: dict[str, str] = {
    "scenario_evaluation_config_default_is_complete": (
        "a default that the scenario can't do without was taken away: only an organization's row may leave it out"
    ),
    "scenario_evaluation_config_settings_belong_to_their_scenario": (
        "the scenario has no such setting (cooldown, inactive_after, returned_within, expires_within, milestones,"
        " due_within and max_reminders belong to some of the built-in scenarios each)"
    ),
    "scenario_evaluation_config_intervals_are_positive": "expected lengths of time of more than 0",
    "scenario_evaluation_config_intervals_are_at_most_36525_days": "expected lengths of time of at most 36,525 days",
    "scenario_evaluation_config_intervals_have_no_months": "expected lengths of time in days or less, not months",
    "scenario_evaluation_config_counts_are_in_bounds": (
        "expected max_reminders and max_attempts from 1 to 1,000, and priority from 0 to 9"
    ),
    "scenario_evaluation_config_window_fits_inside_gap": "expected returned_within of at most inactive_after",
    "scenario_evaluation_config_milestones_are_positive": "expected milestones as a list of positive numbers",
    "scenario_delivery_policy_time_zone_is_a_name": "expected time_zone to be a time zone, such as Europe/Oslo",
    "scenario_delivery_policy_weekdays_are_days": "expected weekdays from 1 (Monday) to 7, each once",
    "scenario_delivery_policy_opens_and_closes": "expected both of opens_at and closes_at, or neither",
    "scenario_delivery_policy_opens_some_time": "expected opens_at and closes_at to differ",
    "scenario_delivery_policy_min_gap_is_at_most_a_week": "expected min_gap of at least 0 and at most 7 days",
    "scenario_days_off_end_after_they_begin": "expected last_day on or after first_day",
    "scenario_days_off_are_at_most_a_year": "expected at most a year from first_day to last_day",
}
"""CHECK of what an operator writes → what it expects. A test compares it with the live catalogue."""

BY_STATUS: dict[int, Verdict] = {
    401: _DENIED,
    403: _DENIED,
    408: _UNKNOWN_OUTCOME,
    413: Verdict(InvalidDataException, message="the request is too large for the server"),
    414: Verdict(InvalidDataException, message="the request is too large for the server"),
    429: _NOT_DONE,
    431: Verdict(InvalidDataException, message="the request is too large for the server"),
    **dict.fromkeys(range(500, 600), _UNKNOWN_OUTCOME),  # a gateway's, or the server's: it may pass
    503: _NOT_DONE,
}
"""HTTP status → verdict, for answers without a known code (mostly from gateways)."""

BY_HTTPX_CLASS: dict[type[Exception], Verdict] = {
    httpx.ConnectError: _NOT_DONE,
    httpx.ConnectTimeout: _NOT_DONE,
    httpx.PoolTimeout: _NOT_DONE,
    httpx.ProxyError: _NOT_DONE,
    httpx.ReadError: _UNKNOWN_OUTCOME,
    httpx.ReadTimeout: _UNKNOWN_OUTCOME,
    httpx.WriteError: _UNKNOWN_OUTCOME,
    httpx.WriteTimeout: _UNKNOWN_OUTCOME,
    httpx.CloseError: _UNKNOWN_OUTCOME,
    httpx.RemoteProtocolError: _UNKNOWN_OUTCOME,
    httpx.LocalProtocolError: _CLIENT_MISUSED,
    httpx.UnsupportedProtocol: _CLIENT_MISUSED,
    httpx.InvalidURL: _CLIENT_MISUSED,
    httpx.CookieConflict: _CLIENT_MISUSED,
    httpx.DecodingError: _UNEXPECTED,
    httpx.TooManyRedirects: _UNEXPECTED,
    httpx.HTTPStatusError: _UNEXPECTED,
    httpx.StreamClosed: _UNEXPECTED,
    httpx.StreamConsumed: _UNEXPECTED,
    httpx.RequestNotRead: _UNEXPECTED,
    httpx.ResponseNotRead: _UNEXPECTED,
}
"""Every exception class that httpx raises → verdict. A test walks httpx's class tree and proves it complete."""

_BY_BUILTIN_CLASS: dict[type[Exception], Verdict] = {
    httpx.TransportError: _UNKNOWN_OUTCOME,
    AttributeError: _UNENCODABLE,  # a value that bypassed its model's validation
    TypeError: _UNENCODABLE,
    ValueError: _UNENCODABLE,  # includes UnicodeEncodeError
    RuntimeError: _CLIENT_MISUSED,
    OSError: _UNKNOWN_OUTCOME,
}

# The format of PostgreSQL's and PostgREST's codes; a gateway may send anything as a code.
_CODE = re.compile(r"[0-9A-Z]{5}|PGRST[0-9A-Z]{3}")

# Errors kept as __cause__, unless their text may quote a header or a value.
_CAUSES = (httpx.TransportError, OSError)
_QUOTING_ERRORS = (httpx.LocalProtocolError, httpx.RemoteProtocolError)


def exception_from_response(
    response: Response, *, operation: str, idempotent: bool, if_too_large: str | None = None
) -> ScenarioRepositoryException:
    """Translate an HTTP response that is not a success; ``idempotent``: the call may be sent twice.

    ``if_too_large`` says what to do about a statement that timed out, as for its size it would again.
    """
    error = _api_error(response)
    code = error.code if _CODE.fullmatch(error.code or "") else None
    verdict = _passing(response, error) or _verdict(code) or BY_STATUS.get(response.status_code, _UNEXPECTED)
    if code == STATEMENT_TIMEOUT and if_too_large is not None:
        verdict = Verdict(UnavailableException, Repeat.NEVER, if_too_large)
    named = named_in(code, error.message)
    message = _own_sentence(code, error.message)
    if code == "23514":
        message = BY_CONSTRAINT.get(_constraint_name(error.message) or "")
    if code == "42501":
        is_worker = role_of(response.request.headers.get("Authorization", "").removeprefix("Bearer ")) == "service_role"
        message = permission_remedy(named, is_worker=is_worker)
    exception = _exception(
        verdict,
        operation=operation,
        idempotent=idempotent,
        code=code,
        message=message,
        named=named,
        constraint=_constraint_name(error.message) if code is not None and code.startswith("23") else None,
        http_status=response.status_code,
        retry_after=_retry_after(response),
    )
    exception.__cause__ = APIError({"code": code, "message": verdict.exception.__name__})
    return exception


def exception_from_error(error: Exception, *, operation: str, idempotent: bool) -> ScenarioRepositoryException:
    """Translate an error of httpx, or of encoding a request; the error becomes the cause if it quotes nothing."""
    verdict = next(
        (table[cls] for table in (BY_HTTPX_CLASS, _BY_BUILTIN_CLASS) for cls in type(error).__mro__ if cls in table),
        Verdict(ScenarioRepositoryException),
    )
    exception = _exception(verdict, operation=operation, idempotent=idempotent, detail=type(error).__name__)
    exception.__cause__ = error if isinstance(error, _CAUSES) and not isinstance(error, _QUOTING_ERRORS) else None
    return exception


def exception_from_unfit_answer(
    error: ValidationError, response: Response, *, operation: str
) -> ScenarioRepositoryException:
    """Translate a success whose body does not fit the model, and name the fields at fault."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    where = ", ".join(".".join(str(step) for step in fault["loc"]) or "the body" for fault in faults[:3])
    return UnexpectedResponseException(
        f"the server's answer does not fit: {faults[0]['type']} at {where}",
        operation=operation,
        http_status=response.status_code,
    )


def _api_error(response: Response) -> APIError:
    """Read the error as postgrest-py does."""
    try:
        return APIError(dict(APIErrorFromJSON.model_validate_json(response.content)))
    except ValidationError:
        return APIError(generate_default_error_message(response))


def _passing(response: Response, error: APIError) -> Verdict | None:
    """Return the verdict on what looks final and passes."""
    if error.code == "PGRST303" and is_opaque(response.request.headers):
        # The gateway's own short-lived token: "JWT issued at future" for a second (supabase/supabase#50651).
        return _NOT_DONE
    # PostgREST's answer when its connection breaks, during a COMMIT for example: status 400 and an empty code.
    return _UNKNOWN_OUTCOME if error.code == "" else None


def _verdict(code: str | None) -> Verdict | None:
    if code is None:
        return None
    if code in BY_CODE:
        return BY_CODE[code]
    return next((verdict for prefix, verdict in BY_CODE_CLASS.items() if code.startswith(prefix)), None)


def _exception(  # noqa: PLR0913 - the facts of one failure
    verdict: Verdict,
    *,
    operation: str,
    idempotent: bool,
    detail: str | None = None,
    message: str | None = None,
    code: str | None = None,
    constraint: str | None = None,
    named: Named = Named(),  # noqa: B008 - frozen
    http_status: int | None = None,
    retry_after: float | None = None,
) -> ScenarioRepositoryException:
    message = message or verdict.message or (verdict.exception.__doc__ or "").removesuffix(".")
    return verdict.exception(
        f"{message} [{detail}]" if detail else message,
        operation=operation,
        code=code,
        constraint=constraint,
        relation=named.relation,
        column=named.column,
        http_status=http_status,
        retryable=verdict.repeat is Repeat.ALWAYS or (idempotent and verdict.repeat is Repeat.IF_IDEMPOTENT),
        retry_after=retry_after,
    )


def _own_sentence(code: str | None, message: str | None) -> str | None:
    """Return the message of a refusal that scenario_repo's own SQL raised; it is written there and holds no value."""
    return message if code is not None and code.startswith("SR") else None


def _constraint_name(message: str | None) -> str | None:
    """Extract only the constraint's name from PostgreSQL's message."""
    found = re.search(r'constraint "([A-Za-z0-9_]+)"', message or "")
    return found[1] if found else None


def _retry_after(response: Response) -> float | None:
    """Read Retry-After in seconds (RFC 9110, section 10.2.3); the form with a date is ignored."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None
