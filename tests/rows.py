"""Rows for the suites that have a database: consistent by default; what matters to a test is given by that test.

Every test that needs such a row makes it here, so a new column without a default gets its value in one place,
``DEFAULTS``. A column is a Python value or SQL: :func:`ago` and :func:`ahead` are moments beside the transaction's
``now()``.

```python
insert_notification(connection, user_id, triggered_at=ago(timedelta(days=3)), delivery_status="sent")
insert_activities(connection, mentors, ago("40 days"), ago("50 days"))
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composable, Composed

ORGANIZATION: Final = UUID(int=1)
"""Whose rows are that name no organization."""

DEFAULTS: Final[Mapping[str, Mapping[str, object]]] = {
    "scenario_notifications": {"organization_id": ORGANIZATION, "scenario_type": "inactivity"},
    "peer_mentors": {"organization_id": ORGANIZATION, "is_active": True},
    "activities": {"organization_id": ORGANIZATION, "activity_date": SQL("now()")},
    "certifications": {"organization_id": ORGANIZATION, "expires_at": SQL("now() + interval '10 days'")},
    "device_tokens": {"token": SQL("gen_random_uuid()"), "platform": "ios"},
}
"""What a row has unless it is told otherwise; the rest is the column's own default."""


def ago(distance: timedelta | str) -> Composed:
    """Name the moment that long before the transaction's now(): a timedelta, or an interval as PostgreSQL reads it."""
    return SQL("(now() - {}::interval)").format(distance)


def ahead(distance: timedelta | str) -> Composed:
    """Name the moment that long after the transaction's now()."""
    return SQL("(now() + {}::interval)").format(distance)


def insert_users(owner: psycopg.Connection, users: Iterable[UUID]) -> None:
    """Create users who are not there yet; the API's roles may not."""
    owner.execute("insert into auth.users (id) select unnest(%s::uuid[]) on conflict do nothing", [list(users)])


def insert_notification(connection: psycopg.Connection, user_id: UUID, **columns: object) -> dict[str, Any]:
    """Record a notification as any other writer would, and return its row."""
    (statement,) = _inserts("scenario_notifications", [{"user_id": user_id} | columns])
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(statement + SQL(" returning *")).fetchone()
    assert row is not None
    return row


def set_handover(connection: psycopg.Connection, notifications: Iterable[UUID | str], **columns: object) -> None:
    """Change where pending notifications are on their way: when each is due, how often it was leased and tried."""
    changes = SQL(", ").join(
        SQL("{} = {}").format(sql.Identifier(name), value if isinstance(value, Composable) else sql.Literal(value))
        for name, value in columns.items()
    )
    ids = list(map(str, notifications))
    statement = SQL("update scenario_private.handover set {} where notification_id = any ({}::uuid[])")
    assert connection.execute(statement.format(changes, ids)).rowcount == len(ids)


def insert_notifications(connection: psycopg.Connection, users: Iterable[UUID], **columns: object) -> None:
    """Record a notification of each user, alike in all else."""
    _insert_for_each(connection, "scenario_notifications", users, columns)


def insert_mentors(connection: psycopg.Connection, users: Iterable[UUID], **columns: object) -> None:
    """Make users mentors of an organization."""
    _insert_for_each(connection, "peer_mentors", users, columns)


def insert_activities(
    connection: psycopg.Connection, users: Iterable[UUID], *dates: Composable | datetime, **columns: object
) -> None:
    """Record activities of each user, on each of the dates."""
    _insert_for_each(connection, "activities", users, columns, activity_date=dates)


def insert_certificates(
    connection: psycopg.Connection, users: Iterable[UUID], *expiries: Composable | datetime, **columns: object
) -> list[UUID]:
    """Record certificates of each user, one for each of the expiries, and return their ids in that order."""
    return _insert_for_each(connection, "certifications", users, columns, "id", expires_at=expiries)


def insert_devices(connection: psycopg.Connection, users: Iterable[UUID], **columns: object) -> None:
    """Register a device of each user, with a token of its own unless one is given."""
    _insert_for_each(connection, "device_tokens", users, columns)


def insert_rows(
    connection: psycopg.Connection,
    table: str,
    rows: Iterable[Mapping[str, object]],
    *,
    on_conflict: LiteralString = "",
) -> None:
    """Insert rows that differ in several columns, each with its user_id; all name the same columns."""
    for statement in _inserts(table, rows):
        connection.execute(statement + SQL(on_conflict))


def insert_by_query(table: str, source: LiteralString, **columns: LiteralString) -> Composed:
    """Write the statement that inserts a row for each one of ``select … from source``; columns are SQL over it."""
    return _insert_from(table, {name: SQL(expression) for name, expression in columns.items()}, SQL(source))


def _inserts(table: str, rows: Iterable[Mapping[str, object]], at_once: int = 1_000) -> Iterable[Composed]:
    filled = [{**DEFAULTS[table], **row} for row in rows]
    for first in range(0, len(filled), at_once):
        lines = [SQL("({})").format(_values(row)) for row in filled[first : first + at_once]]
        yield SQL("insert into {} ({}) values {}").format(_table(table), _names(filled[0]), SQL(", ").join(lines))


def _insert_from(table: str, columns: Mapping[str, object], source: Composable) -> Composed:
    filled = {**DEFAULTS[table], **columns}
    return SQL("insert into {} ({}) select {} from {}").format(_table(table), _names(filled), _values(filled), source)


def _insert_for_each(
    connection: psycopg.Connection,
    table: str,
    users: Iterable[UUID],
    columns: Mapping[str, object],
    returning: str = "user_id",
    **moments: tuple[Composable | datetime, ...],
) -> list[UUID]:
    """Insert a row for each user, and for each of several moments where there are any."""
    given = {"user_id": SQL("each_user"), **columns}
    source = SQL("unnest({}::uuid[]) as each_user").format(list(users))
    for name, several in moments.items():
        if several:
            given[name] = SQL("each_moment")
            lines = SQL(", ").join(SQL("({})").format(moment) for moment in several)
            source += SQL(" cross join (values {}) as moments (each_moment)").format(lines)
    inserted = connection.execute(
        _insert_from(table, given, source) + SQL(" returning {}").format(sql.Identifier(returning))
    )
    return list(chain.from_iterable(inserted))


def _table(name: str) -> Composable:
    return sql.Identifier("public", name)


def _names(columns: Iterable[str]) -> Composed:
    return SQL(", ").join(map(sql.Identifier, columns))


def _values(columns: Mapping[str, object]) -> Composed:
    values = columns.values()
    return SQL(", ").join(value if isinstance(value, Composable) else sql.Literal(value) for value in values)
