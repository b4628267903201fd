"""How a command ends: its exit code, and one line for what went wrong."""

from __future__ import annotations

import re
from typing import Final

from scenario_repo.exceptions import (
    ConfigurationException,
    InvalidDataException,
    PermissionDeniedException,
    ScenarioRepositoryException,
    SchemaNotMigratedException,
    UnavailableException,
    UnexpectedResponseException,
)

DONE: Final = 0
STOPPED: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3
FAILED: Final = 4

_UNAUTHORIZED: Final = 401

_REMEDIES: Final[dict[type[ScenarioRepositoryException], str]] = {
    ConfigurationException: "see --help for the settings",
    PermissionDeniedException: "check that SUPABASE_SECRET_KEY is a secret key of this project",
    SchemaNotMigratedException: "copy the migrations (`scenario-repo migrations supabase/migrations`) and apply them",
    UnavailableException: "try again later, and check SUPABASE_URL if it lasts",
    UnexpectedResponseException: "check SUPABASE_URL, and any proxy in between",
}

# Data that does not fit, wrong types, an error raised by hand: what the SQL of a rule can do wrong.
_OF_A_RULE: Final = re.compile(r"(2[0-3]|3[89]|42|P0)...")


def line_of(error: ScenarioRepositoryException, about: str | None = None) -> str:
    """Describe an error and its remedy in one line; ``about`` is what it happened to, such as a scenario type."""
    remedy = _remedy(error, about)
    message = " ".join(str(error).split())
    return f"{f'{about}: ' if about else ''}{message}{f'; {remedy}' if remedy else ''}"


def code_of(error: ScenarioRepositoryException, about: str | None = None) -> int:
    """Return the exit code of an error."""
    if about is not None and _is_of_a_rule(error):
        return FAILED
    if isinstance(error, ConfigurationException | InvalidDataException):
        return USAGE
    if isinstance(error, PermissionDeniedException):
        # 401: the server does not know the key; 403: it knows the key and refuses the request.
        return USAGE if error.http_status == _UNAUTHORIZED else FAILED
    return UNAVAILABLE if error.retryable or isinstance(error, UnavailableException) else FAILED


def _remedy(error: ScenarioRepositoryException, about: str | None) -> str | None:
    if (error.code or "").startswith("SR"):
        return None  # a refusal in the database's own words says what to do
    if about is not None and _is_of_a_rule(error):
        return f"run `scenario-repo check-rules {about}`, which says where"
    kind = next((kind for kind in _REMEDIES if isinstance(error, kind)), None)
    # An error that names a relation says what to grant there; the key is right.
    if kind is PermissionDeniedException and error.relation is not None:
        return None
    return None if kind is None else _REMEDIES[kind]


def _is_of_a_rule(error: ScenarioRepositoryException) -> bool:
    named_otherwise = isinstance(error, PermissionDeniedException | SchemaNotMigratedException)
    return _OF_A_RULE.fullmatch(error.code or "") is not None and not error.retryable and not named_otherwise
