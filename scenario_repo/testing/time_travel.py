"""Letting time pass for the rows of a database: the whole past moves back, and its clock stays as it is.

Production has no clock that a test could turn. From inside a database, time passing looks like this: everything that
was recorded is longer ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

LOCKED: Final = ("public.scenario_notifications", "scenario_private.handover")
"""Locked first, so that no claim and no lease sees half of the journey."""

_DAY: Final = timedelta(days=1)
_MOVED: Final = """
with recursive read (relation) as (
  select oid from pg_class
  where relnamespace = to_regnamespace('scenario_source')
  union
  select dependency.refobjid
  from read
  join pg_rewrite as rewrite on rewrite.ev_class = read.relation
  join pg_depend as dependency
    on dependency.classid = 'pg_rewrite'::regclass
    and dependency.objid = rewrite.oid
    and dependency.refclassid = 'pg_class'::regclass
),
wanted (relation, is_of_the_app) as (
  select
    class.oid,
    space.nspname <> 'scenario_private' and not (space.nspname = 'public' and class.relname like 'scenario\\_%%')
  from pg_class as class
  join pg_namespace as space on space.oid = class.relnamespace
  where class.relkind in ('r', 'p')
    and not class.relispartition
    and space.nspname <> all ('{auth,pg_catalog,information_schema}')
    and (
      space.nspname = 'scenario_private'
      or space.nspname = 'public' and class.relname like 'scenario\\_%%'
      or class.oid in (select relation from read)
      or class.oid = any (%(tables)s::text[]::regclass[])
    )
)
select
  space.nspname,
  class.relname,
  array(
    select array[
      tgname::text, case tgenabled when 'A' then 'enable always' when 'R' then 'enable replica' else 'enable' end
    ]
    from pg_trigger
    where tgrelid = class.oid
      and not tgisinternal
      -- Those that would fire on this connection.
      and tgenabled in ('A', case current_setting('session_replication_role') when 'replica' then 'R' else 'O' end)
  ) as triggers,
  coalesce(
    array_agg(attribute.attname::text order by attribute.attnum) filter (
      where exists (
        select from pg_index as index
        where index.indrelid = class.oid
          and (index.indisunique or index.indisexclusion)
          and attribute.attnum = any (index.indkey::smallint[])
      )
    ),
    '{}'
  ) as unique_columns,
  array_agg(attribute.attname::text order by attribute.attnum),
  array_agg(base.name order by attribute.attnum)
from wanted
join pg_class as class on class.oid = wanted.relation
join pg_namespace as space on space.oid = class.relnamespace
join pg_attribute as attribute
  on attribute.attrelid = class.oid
  and attribute.attnum > 0
  and not attribute.attisdropped
  and attribute.attgenerated = ''
join pg_type as type on type.oid = attribute.atttypid
cross join lateral (values (coalesce(nullif(type.typbasetype, 0), type.oid)::regtype::text)) as base (name)
where base.name = 'timestamp with time zone'
  or wanted.is_of_the_app and base.name in ('timestamp without time zone', 'date')
group by class.oid, space.nspname, class.relname
order by coalesce(array_position(%(locked)s::text[], space.nspname || '.' || class.relname), 99), 1, 2
"""
"""Every table with a time that moves: ours, those that the views in scenario_source read, and those given.

Days off are on the calendar, as opening hours are on the clock: they stay.
"""


_MOMENT: Final = sql.SQL("between '1970-01-01 00:00:00.000001+00' and '2500-01-01'")
"""The epoch, infinity and the year 9999 stand for no moment."""


class _Moving:
    """A table whose times move."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        schema, name, self.triggers, self.unique_columns, columns, types = row
        self.name = f"{schema}.{name}"
        self.identifier = sql.Identifier(schema, name)
        self.columns: Mapping[str, str] = dict(zip(columns, types, strict=True))

    def update(self, time: timedelta) -> sql.Composed:
        """Write the statement that moves its times; what stands for no moment stays."""
        changes = sql.SQL(", ").join(
            sql.SQL(
                "{column} = case when {column} {is_moment} then ({column} - {time}::interval)::{type} else {column} end"
            ).format(column=sql.Identifier(column), is_moment=_MOMENT, time=sql.Literal(time), type=sql.SQL(type_))
            for column, type_ in self.columns.items()
        )
        return sql.SQL("update {} set {}").format(self.identifier, changes)

    def update_in_order(self, time: timedelta) -> sql.Composed:
        """Write the same row by row, the oldest first: none meets another that has not moved yet."""
        return sql.SQL(
            "do $travel$ declare place tid; begin"
            " for place in select ctid from {} order by {} loop {} where ctid = place; end loop; end $travel$"
        ).format(self.identifier, sql.SQL(", ").join(map(sql.Identifier, self.unique_columns)), self.update(time))


def travel(database: str | psycopg.Connection[Any], time: timedelta, *, tables: Iterable[str] = ()) -> None:
    """Let time pass for the rows of a database: afterwards all that is recorded there is so much longer ago.

    Every moment moves that scenario_repo stores, and each one of the tables that its source views read: those of an
    app's own are found through the views. ``tables`` are further ones, as ``schema.table``. Bans of users move too.
    Triggers are off meanwhile. Days off and opening hours stay where they are on the calendar and the clock.

    ``database`` is the URL, or a connection, of the tables' owner (``postgres``). Never use it on a database whose
    history matters. Many journeys are faster on one kept connection with ``session_replication_role = replica``,
    where ordinary triggers don't fire: to switch them off is to alter the table, after which all plans are made anew.

    Raises:
        ValueError: the time is negative; or it is no whole number of days, and a table has a column of dates.

    """
    if time < timedelta(0):
        raise ValueError("expected time to pass, got a negative timedelta")
    if isinstance(database, str):
        with psycopg.connect(database, autocommit=True, prepare_threshold=None) as connection:
            shift(connection, time, tables)
    else:
        shift(database, time, tables)


def moving_columns(connection: psycopg.Connection[Any], tables: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """Return the columns that :func:`travel` moves, by table."""
    return {table.name: tuple(table.columns) for table in _moving(connection, tables)}


def _moving(connection: psycopg.Connection[Any], tables: Iterable[str]) -> list[_Moving]:
    rows = connection.execute(_MOVED, {"tables": list(tables), "locked": list(LOCKED)}).fetchall()
    return [_Moving(row) for row in rows]


def shift(connection: psycopg.Connection[Any], time: timedelta, tables: Iterable[str] = ()) -> None:
    """Move everything by so much, for good or ill: a negative time undoes a journey."""
    with connection.transaction():
        moving = _moving(connection, tables)
        if time % _DAY:
            for table in moving:
                if "date" in table.columns.values():
                    raise ValueError(f"expected whole days: {table.name} has a column of dates")
        for table in moving:
            if table.name in LOCKED:
                connection.execute(sql.SQL("lock table {} in access exclusive mode").format(table.identifier))
        for table, has_rows in zip(moving, _filled(connection, moving), strict=True):
            if has_rows:
                _move(connection, table, time)
        _move_bans(connection, time)


def _filled(connection: psycopg.Connection[Any], tables: Iterable[_Moving]) -> list[bool]:
    """Tell which tables have rows, all in one request: most have none in most tests."""
    questions = [sql.SQL("exists (select from {})").format(table.identifier) for table in tables]
    row = connection.execute(sql.SQL("select array[{}]::boolean[]").format(sql.SQL(", ").join(questions))).fetchone()
    found: list[bool] = [] if row is None else row[0]
    return found


def _move(connection: psycopg.Connection[Any], table: _Moving, time: timedelta) -> None:
    _alter(connection, table, [(name, "disable") for name, _ in table.triggers])
    try:
        with connection.transaction():
            connection.execute(table.update(time))
    except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation):
        connection.execute(sql.SQL("lock table {} in share row exclusive mode").format(table.identifier))
        connection.execute(table.update_in_order(time))
    _alter(connection, table, table.triggers)


def _alter(connection: psycopg.Connection[Any], table: _Moving, changes: Iterable[tuple[str, LiteralString]]) -> None:
    parts = [sql.SQL("{} trigger {}").format(sql.SQL(how), sql.Identifier(name)) for name, how in changes]
    if parts:
        connection.execute(sql.SQL("alter table {} {}").format(table.identifier, sql.SQL(", ").join(parts)))


def _move_bans(connection: psycopg.Connection[Any], time: timedelta) -> None:
    (there,) = connection.execute(
        "select count(*) from pg_attribute"
        " where attrelid = to_regclass('auth.users') and attname = 'banned_until' and not attisdropped"
        " and has_column_privilege(attrelid, attnum, 'update')"
    ).fetchone() or (0,)
    if there:
        connection.execute(
            "update auth.users set banned_until = banned_until - %s"
            " where isfinite(banned_until) and banned_until is not null",
            [time],
        )
