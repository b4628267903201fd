"""Where things are measured: the server, its databases, the stack that speaks HTTP, and how much is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import psycopg

from scenario_repo.testing.embedded_stack import EmbeddedStack, embedded_stack, install
from tests.benchmarks.measure import timed
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import SUPERUSER, PostgresServer

Extent = Literal["quick", "default", "full", "huge"]

SETTINGS = {
    "shared_buffers": "2GB",
    "max_wal_size": "16GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "max_connections": "100",
    # VACUUM marks pages all-visible only when the commit that filled them is on disk.
    "synchronous_commit": "on",
    # A checkpoint or an autovacuum in the middle of one contestant would be told as that one's slowness.
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}
"""On top of the test server's: no fsync, no full-page writes. Both contestants have them."""

_MIGRATED = "migrated"


@dataclass(frozen=True)
class Database:
    """A database on the server."""

    name: str
    server: PostgresServer

    @property
    def url(self) -> str:
        """The address, as the owner."""
        return self.server.url(self.name)

    @contextmanager
    def worker(self) -> Iterator[psycopg.Connection]:
        """Connect as service_role, in autocommit: what PostgREST is to a worker."""
        with psycopg.connect(self.url, autocommit=True, options="-c role=service_role") as connection:
            yield connection

    @contextmanager
    def owner(self) -> Iterator[psycopg.Connection]:
        """Connect as the migrations do."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            yield connection

    @contextmanager
    def filler(self) -> Iterator[psycopg.Connection]:
        """Connect to fill tables with rows that fit together: no triggers, no foreign keys."""
        with psycopg.connect(self.server.url(self.name, SUPERUSER), autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            yield connection


@dataclass(frozen=True)
class Bench:
    """What every section is given."""

    server: PostgresServer
    extent: Extent
    kept: dict[str, Database] = field(default_factory=dict)

    def migrate(self) -> None:
        """Migrate one database, the template of every other."""
        apply_migrations(self.server.create_database(_MIGRATED))

    def choose(self, *, quick: Any, default: Any, full: Any = None) -> Any:  # noqa: ANN401 - of the caller's type
        """Return what goes with the extent; full is default unless it is given."""
        if self.extent == "quick":
            return quick
        return default if self.extent == "default" or full is None else full

    def sizes(self, *default: int, full: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the sizes to measure: the small ones of them when it has to be quick."""
        if self.extent == "quick":
            return tuple(size for size in default if size <= 10_000)[:2]
        return default + full if self.extent in {"full", "huge"} else default

    def rounds(self, size: int) -> int:
        """How often to measure something of this size: the shorter, the more often."""
        if self.extent == "quick":
            return 3
        return 9 if size <= 1_000 else 7 if size <= 20_000 else 3

    @contextmanager
    def database(self, name: str) -> Iterator[Database]:
        """Create a migrated database for as long as the block lasts."""
        self.server.create_database(name, template=_MIGRATED)
        try:
            yield Database(name, self.server)
        finally:
            self.server.drop_database(name)

    def keep(self, name: str, fill: Callable[[Database], None]) -> Database:
        """Return a database that several sections use, created and filled by the first of them."""
        if name not in self.kept:
            self.server.create_database(name, template=_MIGRATED)
            self.kept[name] = Database(name, self.server)
            fill(self.kept[name])
        return self.kept[name]

    @contextmanager
    def http(self, database: Database) -> Iterator[EmbeddedStack]:
        """Run the embedded stack on a database."""
        install()
        with embedded_stack(database.url) as stack:
            yield stack


def run(connection: psycopg.Connection, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Execute a statement and return its rows, if it has any."""
    cursor = connection.execute(statement.encode(), parameters or None)
    return cursor.fetchall() if cursor.description else []


def timed_run(connection: psycopg.Connection, statement: str, *parameters: object) -> float:
    """Execute a statement and return its seconds."""
    return timed(lambda: run(connection, statement, *parameters))


def value(connection: psycopg.Connection, statement: str, *parameters: object) -> Any:  # noqa: ANN401 - as the query has it
    """Execute a statement and return the one value it gives."""
    return run(connection, statement, *parameters)[0][0]
