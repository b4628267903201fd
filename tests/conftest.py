"""Fixtures for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.postgres import parts
from tests.postgres.install import MAJOR_VERSION
from tests.postgres.server import PostgresServer
from tests.postgres.server import postgres_server as run_postgres_server

# The gate runs the same examples every time; elsewhere every run looks for new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", parts.MARKER)


def pytest_report_header() -> list[str]:
    """Say which PostgreSQL the tests run on, and what can't run there."""
    without = (f"{tests} (missing: {', '.join(missing)})" for tests, missing in parts.left_out().items())
    return [f"PostgreSQL {MAJOR_VERSION}", *(f"not on PostgreSQL {MAJOR_VERSION}: {line}" for line in without)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this PostgreSQL has no parts for."""
    parts.deselect(config, items)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the parts that a test needs."""
    parts.require_parts(item)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL that looks like Supabase's, for the whole session."""
    with run_postgres_server() as server:
        yield server
