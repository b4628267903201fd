"""Fixtures of the tests on a real PostgreSQL: a migrated database each, and connections as the API's roles."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import psycopg
import pytest

from tests.integration.database import Database
from tests.integration.evaluation import empty, reused_database
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import PostgresServer

_MIGRATED = "migrated"
_numbers = count(1)


@pytest.fixture(scope="session")
def migrated(postgres_server: PostgresServer) -> str:
    """Migrate one database, the template of every other, and return its name."""
    apply_migrations(postgres_server.create_database(_MIGRATED))
    return _MIGRATED


@pytest.fixture
def database(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Make a migrated database for one test, dropped with all its connections afterwards."""
    name = f"test_{next(_numbers)}"
    yield Database(postgres_server.create_database(name, template=migrated))
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def reused(request: pytest.FixtureRequest, postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Make one database for all tests of a module."""
    module = request.module.__name__.rpartition(".")[2].removeprefix("test_")
    with reused_database(postgres_server, module, migrated) as database:
        yield database


@pytest.fixture
def emptied(reused: Database) -> Iterator[Database]:
    """Empty the module's database after each test: for a module whose ``database`` is this one."""
    yield reused
    empty(reused)


@pytest.fixture
def worker(database: Database) -> Iterator[psycopg.Connection]:
    """Connect as service_role, in autocommit: what PostgREST is to a worker."""
    with database.connect() as connection:
        yield connection
