"""The data of a test's database as they were after the migrations: remembered once, and put back before each test."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql

_KEPT: Final = "scenario_testing"
"""The schema of the copies; gone with the database."""
_TABLES: Final = """
select
  space.nspname,
  class.relname,
  array(
    select attname::text from pg_attribute
    where attrelid = class.oid and attnum > 0 and not attisdropped and attgenerated = ''
    order by attnum
  )
from pg_class as class
join pg_namespace as space on space.oid = class.relnamespace
where class.relkind in ('r', 'p')
  and not class.relispartition
  and class.relpersistence <> 't'
  and space.nspname <> all (array['information_schema', 'extensions', %(kept)s])
  and space.nspname not like 'pg\\_%%'
order by 1, 2
"""


class CleanSlate:
    """Puts the data back. Only for a superuser's database that belongs to the tests alone, as PGlite's does."""

    def __init__(self, database_url: str) -> None:
        """Remember what the tables hold now: the rows that the migrations wrote."""
        self._database_url = database_url
        self._kept: list[sql.Composed] = []
        with self._connect() as connection:
            connection.execute(sql.SQL("create schema {}").format(sql.Identifier(_KEPT)))
            for number, (schema, name, columns) in enumerate(self._tables(connection)):
                table, copy = sql.Identifier(schema, name), sql.Identifier(_KEPT, f"table_{number}")
                if _is_filled(connection, table):
                    names = sql.SQL(", ").join(map(sql.Identifier, columns))
                    connection.execute(sql.SQL("create table {} as select {} from {}").format(copy, names, table))
                    put_back = "insert into {} ({}) overriding system value select {} from {}"
                    self._kept.append(sql.SQL(put_back).format(table, names, names, copy))
            self._sequences = connection.execute(
                "select format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value),"
                " last_value is not null from pg_sequences"
            ).fetchall()

    def restore(self) -> None:
        """Put back what was there, in one transaction; without triggers and foreign keys meanwhile."""
        with self._connect() as connection, connection.transaction():
            tables = [sql.Identifier(schema, name) for schema, name, _ in self._tables(connection)]
            filled = [table for table in tables if _is_filled(connection, table)]
            connection.execute("set local session_replication_role = replica")
            if filled:
                connection.execute(sql.SQL("truncate {} cascade").format(sql.SQL(", ").join(filled)))
            for statement in self._kept:
                connection.execute(statement)
            for name, value, is_called in self._sequences:
                connection.execute("select setval(%s::text::regclass, %s, %s)", [name, value, is_called])

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._database_url, autocommit=True, prepare_threshold=None)

    def _tables(self, connection: psycopg.Connection[Any]) -> list[tuple[str, str, list[str]]]:
        return connection.execute(_TABLES, {"kept": _KEPT}).fetchall()


def _is_filled(connection: psycopg.Connection[Any], table: sql.Identifier) -> bool:
    row = connection.execute(sql.SQL("select exists (select from {})").format(table)).fetchone()
    return row is not None and bool(row[0])
