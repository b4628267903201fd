"""The exceptions: one class for each action a caller can take.

::

    ScenarioRepositoryException
    ├── DuplicateNotificationException    it is already there: go on
    ├── UnknownReferenceException         the user does not exist (any more): drop the row
    ├── InvalidDataException              refused by this library or by a constraint: correct the input
    ├── PermissionDeniedException         the key or token may not do this: use another
    ├── SchemaNotMigratedException        the schema is missing, incomplete or too old: apply the migrations
    ├── UnavailableException              no answer, or not in time: try again later
    ├── UnexpectedResponseException       no valid answer: check the URL and the proxies in between
    └── ConfigurationException            the URL or the key can't be used: correct the settings

No message, ``str`` or ``repr`` holds a key, a token, metadata or a value of a row.
"""

from __future__ import annotations

from typing import ClassVar


class ScenarioRepositoryException(Exception):  # noqa: N818 - the name is part of the contract
    """Something went wrong between the repository and the database."""

    _may_repeat: ClassVar[bool] = False

    operation: str | None
    """The repository method that failed, such as ``insert_notification``."""
    code: str | None
    """The SQLSTATE or PGRST code, if there was one."""
    constraint: str | None
    """The name of the constraint that refused a row."""
    relation: str | None
    """The table, view, function or schema that the server named, with its schema where it said it."""
    column: str | None
    """The column that the server named."""
    http_status: int | None
    """The status of the HTTP response, if there was one."""
    retryable: bool
    """Whether the same call may succeed later, and is safe to repeat."""
    retry_after: float | None
    """Seconds the server asked to wait before trying again."""

    def __init__(  # noqa: PLR0913 - the facts of one failure, all by name
        self,
        message: str | None = None,
        *,
        operation: str | None = None,
        code: str | None = None,
        constraint: str | None = None,
        relation: str | None = None,
        column: str | None = None,
        http_status: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Without a message, use the first line of the class's docstring."""
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])
        self.operation = operation
        self.code = code
        self.constraint = constraint
        self.relation = relation
        self.column = column
        self.http_status = http_status
        self.retryable = self._may_repeat if retryable is None else retryable
        self.retry_after = retry_after

    def __str__(self) -> str:
        """Return the operation, the message and the codes to search for."""
        facts = [
            f"{name} {value}"
            for name, value in (
                ("code", self.code),
                ("constraint", self.constraint),
                ("relation", self.relation),
                ("column", self.column),
                ("HTTP", self.http_status),
            )
            if value is not None
        ]
        text = f"{self.operation}: {self.args[0]}" if self.operation else str(self.args[0])
        return f"{text} ({', '.join(facts)})" if facts else text


class DuplicateNotificationException(ScenarioRepositoryException):
    """The notification exists already."""


class UnknownReferenceException(ScenarioRepositoryException):
    """The user does not exist."""


class InvalidDataException(ScenarioRepositoryException):
    """The data does not fit."""


class PermissionDeniedException(ScenarioRepositoryException):
    """The key or token in use may not do this."""


class SchemaNotMigratedException(ScenarioRepositoryException):
    """A table, column or function of scenario_repo is missing: apply supabase/migrations (`supabase db push`)."""


class UnavailableException(ScenarioRepositoryException):
    """The database could not be reached, or did not answer in time."""

    _may_repeat = True


class UnexpectedResponseException(ScenarioRepositoryException):
    """The server's answer is not one of PostgREST's."""


class ConfigurationException(ScenarioRepositoryException):
    """The URL or the key can't be used."""
