"""A worker whose requests are counted on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from supabase import AsyncClientOptions, create_async_client

from scenario_repo import ScenarioNotificationRepository
from tests.http.supabase_platform import Platform


@dataclass
class Counted:
    """A worker's repository, and the requests it has sent."""

    repository: ScenarioNotificationRepository
    requests: list[httpx.Request] = field(default_factory=list)

    def taken(self) -> int:
        """Return how many requests were sent since the last look."""
        number = len(self.requests)
        self.requests.clear()
        return number


@asynccontextmanager
async def counted_worker(
    platform: Platform, transport: httpx.AsyncBaseTransport | None = None, *, timeout: float = 30
) -> AsyncIterator[Counted]:
    """Connect as a worker, by an HTTP client that counts."""
    requests: list[httpx.Request] = []

    async def note(request: httpx.Request) -> None:
        requests.append(request)

    async with httpx.AsyncClient(transport=transport, timeout=timeout, event_hooks={"request": [note]}) as http:
        client = await create_async_client(platform.url, platform.secret_key, AsyncClientOptions(httpx_client=http))
        yield Counted(ScenarioNotificationRepository(client), requests)
