"""Fixtures of the tests over HTTP: supabase-py against a running Supabase.

Without settings that is the embedded stack, on PostgreSQL 15 and on PGlite. With ``SCENARIO_TEST_SUPABASE_URL`` and its
companions it is the Supabase they name, with the migrations applied: the suite works in organizations of its own and
removes its users at the end.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache
from uuid import UUID, uuid4

import pytest

from scenario_repo import ScenarioNotificationRepository
from scenario_repo.testing.embedded_stack import embedded_stack
from tests.http.supabase_platform import Platform
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import PostgresServer

_SETTINGS = {
    "url": "SCENARIO_TEST_SUPABASE_URL",
    "database_url": "SCENARIO_TEST_DATABASE_URL",
    "secret_key": "SCENARIO_TEST_SECRET_KEY",
    "publishable_key": "SCENARIO_TEST_PUBLISHABLE_KEY",
    "jwt_secret": "SCENARIO_TEST_JWT_SECRET",
}
_PLATFORMS = ["external"] if os.environ.get(_SETTINGS["url"]) else ["lite on PostgreSQL", "lite on PGlite"]


@pytest.fixture(scope="session")
def platforms(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Platform]]:
    """Start each platform when it is first asked for, and stop them all at the end."""
    with ExitStack() as stack:

        @cache
        def started(name: str) -> Platform:
            if name == "external":
                return _external(name)
            database_url = None
            if name == "lite on PostgreSQL":
                server: PostgresServer = request.getfixturevalue("postgres_server")
                database_url = server.create_database("over_http")
                apply_migrations(database_url)
            running = stack.enter_context(embedded_stack(database_url))
            return Platform(
                name=name,
                url=running.url,
                database_url=running.database_url,
                secret_key=running.secret_key,
                publishable_key=running.publishable_key,
                jwt_secret=running.jwt_secret,
            )

        yield started


def _external(name: str) -> Platform:
    missing = [variable for variable in _SETTINGS.values() if not os.environ.get(variable)]
    if missing:
        pytest.fail(f"{', '.join(missing)} must be set as well")
    return Platform(name=name, **{setting: os.environ[variable] for setting, variable in _SETTINGS.items()})


@pytest.fixture(scope="session", params=_PLATFORMS)
def platform(request: pytest.FixtureRequest, platforms: Callable[[str], Platform]) -> Platform:
    """Run a Supabase for the session, or take the one that is named."""
    return platforms(request.param)


@pytest.fixture
def new_users(platform: Platform) -> Iterator[Callable[[int], list[UUID]]]:
    """Create users, who are deleted after the test with all they have."""
    created: list[UUID] = []

    def create(number: int) -> list[UUID]:
        ids = platform.new_users(number)
        created.extend(ids)
        return ids

    yield create
    platform.delete_users(created)


@pytest.fixture
def user_id(new_users: Callable[[int], list[UUID]]) -> UUID:
    """Create one user."""
    return new_users(1)[0]


@pytest.fixture
def organization_id() -> UUID:
    """Name an organization of the test's own."""
    return uuid4()


@pytest.fixture
async def repository(platform: Platform) -> AsyncIterator[ScenarioNotificationRepository]:
    """Connect as a worker."""
    async with platform.worker() as repository:
        yield repository
