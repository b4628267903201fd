"""What PostgreSQL's and PostgREST's messages name: relations, columns, functions. Catalogue names are no values.

A message in another language, or of another form, names nothing: the rest of a message may quote a row, and is dropped.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Named(NamedTuple):
    """The objects that an error is about."""

    kind: str | None = None
    """As PostgreSQL says it: table, view, schema, function, …; None where it is not said."""
    relation: str | None = None
    """The object's name, with its schema where the message has it."""
    column: str | None = None


_NAME: Final = r"[A-Za-z_][A-Za-z0-9_$]{0,62}"
_OBJECT: Final = rf"\"?(?P<relation>(?:{_NAME}\.)?{_NAME})\"?"
_COLUMN: Final = rf"\"?(?P<column>{_NAME})\"?"
_KIND: Final = "(?P<kind>table|view|materialized view|foreign table|sequence|schema|function|relation)"

_FORMS: Final = {
    "42501": [
        rf"permission denied for {_KIND} {_OBJECT}",
        rf"must be owner of {_KIND} {_OBJECT}",
        rf"new row violates row-level security policy (?:\"{_NAME}\" )?for {_KIND} {_OBJECT}",
    ],
    "42P01": [rf"{_KIND} {_OBJECT} does not exist"],
    "3F000": [rf"{_KIND} {_OBJECT} does not exist"],
    "42703": [
        rf"column {_COLUMN} of {_KIND} {_OBJECT} does not exist",
        rf"column (?:{_NAME}\.)?{_COLUMN} does not exist",
    ],
    "42883": [rf"{_KIND} {_OBJECT}\(.*\) does not exist"],
    "23502": [rf"null value in column {_COLUMN} of {_KIND} {_OBJECT} violates not-null constraint"],
    "23503": [rf"(?:insert or update|update or delete) on {_KIND} {_OBJECT} violates foreign key constraint .*"],
    "23514": [rf"new row for {_KIND} {_OBJECT} violates check constraint .*"],
    "PGRST202": [rf"Could not find the {_KIND} {_OBJECT}\b.*"],
    "PGRST204": [rf"Could not find the '{_COLUMN}' column of '(?P<relation>{_NAME})' in the schema cache"],
    "PGRST205": [rf"Could not find the {_KIND} '(?P<relation>(?:{_NAME}\.)?{_NAME})' in the schema cache"],
}


def named_in(code: str | None, message: str | None) -> Named:
    """Return what a message of this SQLSTATE or PGRST code names."""
    for form in _FORMS.get(code or "", ()):
        found = re.fullmatch(form, message or "", re.DOTALL)
        if found is not None:
            return Named(**found.groupdict())
    return Named()


def permission_remedy(named: Named, *, is_worker: bool) -> str | None:
    """Say what gives the permission that was missed; None if nothing is named."""
    if named.relation is None:
        return None
    thing = f"the {named.kind or 'relation'} {named.relation}"
    if not is_worker:
        return f"a user's key or token may not do this with {thing}: a worker's secret key may"
    privilege = {"schema": "usage on schema", "function": "execute on function"}.get(named.kind or "", "select on")
    return (
        f"the service role may not use {thing}: run `grant {privilege} {named.relation} to service_role`"
        " (`scenario-repo verify` lists every grant that is missing)"
    )
