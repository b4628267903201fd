"""Fixtures for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.postgres.server import PostgresServer
from tests.postgres.server import postgres_server as run_postgres_server

# The gate runs the same examples every time; elsewhere every run looks for new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL 15 that looks like Supabase's, for the whole session."""
    with run_postgres_server() as server:
        yield server
