"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres.server import PostgresServer
from tests.postgres.server import postgres_server as run_postgres_server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL 15 that looks like Supabase's, for the whole session."""
    with run_postgres_server() as server:
        yield server
