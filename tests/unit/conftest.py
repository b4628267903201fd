"""A client without a network: respx replaces the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import respx
from supabase import AsyncClient, AsyncClientOptions, create_async_client

from scenario_repo import ScenarioNotificationRepository
from tests.factories import PROJECT_URL, REST_URL, SECRET_KEY


@pytest.fixture
def rest() -> Iterator[respx.MockRouter]:
    """Mock the project's PostgREST; each route must be called, and nothing else may be."""
    with respx.mock(base_url=REST_URL, assert_all_called=True, assert_all_mocked=True) as router:
        yield router


@pytest.fixture
def no_request() -> Iterator[None]:
    """Fail the test when any request is sent."""
    with respx.mock(assert_all_called=False) as router:
        anything = router.route().respond(200, json=[])
        yield
        assert anything.call_count == 0


@pytest.fixture(scope="session", autouse=True)
def no_certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Load no CA certificates: to load them for each HTTP client takes a third of the time."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("SSL_CERT_FILE", raising=False)
        environment.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("no_certificates")))
        yield


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """Open the HTTP client that is injected into the Supabase client."""
    async with httpx.AsyncClient() as opened:
        yield opened


@pytest.fixture
async def client(http: httpx.AsyncClient) -> AsyncClient:
    """Make a worker's client as an app might: with postgrest's own retry on, which is its default."""
    return await create_async_client(PROJECT_URL, SECRET_KEY, AsyncClientOptions(httpx_client=http))


@pytest.fixture
def repository(client: AsyncClient) -> ScenarioNotificationRepository:
    """Make a repository on the worker's client."""
    return ScenarioNotificationRepository(client)
