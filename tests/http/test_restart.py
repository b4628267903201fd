"""PostgreSQL restarted in mid-run: the engine and the delivery worker recover, nothing twice and nothing lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from scenario_repo import (
    DeliveryWorker,
    LeasedNotification,
    NotificationClaim,
    ScenarioNotificationRepository,
    ScenarioTriggerEngine,
    ScenarioType,
)
from scenario_repo.testing.embedded_stack import embedded_stack
from tests.http.counting import counted_worker
from tests.http.platform_differences import DATABASE_GONE, SURVIVES_ITS_DATABASE
from tests.http.supabase_platform import Platform
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import PostgresServer, postgres_server
from tests.rows import ago, insert_activities, insert_mentors


class AsPostgrest(httpx.AsyncBaseTransport):
    """Answers as PostgREST does while its database is away."""

    def __init__(self, platform: Platform) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self._codes = DATABASE_GONE.on(platform)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send, and put the answer right."""
        answer = await self._inner.handle_async_request(request)
        if answer.status_code == 500 and json.loads(await answer.aread()).get("code") in self._codes:
            return httpx.Response(503, json={"code": "PGRST001", "message": "no", "details": None, "hint": None})
        return answer

    async def aclose(self) -> None:
        """Hang up."""
        await self._inner.aclose()


@dataclass
class Restartable:
    """A server of the test's own, and a Supabase on it."""

    server: PostgresServer
    platform: Platform

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[ScenarioNotificationRepository]:
        """Connect as a worker."""
        async with counted_worker(self.platform, AsPostgrest(self.platform), timeout=1) as counted:
            yield counted.repository

    async def restart(self) -> None:
        """Stop PostgreSQL with all its connections, and start it again, while others go on."""
        await asyncio.to_thread(self.server.restart)

    def unsent(self, organization_id: UUID) -> int:
        """Count what is still to be sent; while the database is away, something is."""
        try:
            ((number,),) = self.platform.execute(
                "select count(*) from public.scenario_notifications"
                " where organization_id = %s and delivery_status <> 'sent'",
                organization_id,
            )
        except psycopg.OperationalError:
            return 1
        return int(str(number))


@pytest.fixture(scope="module")
def own() -> Iterator[Restartable]:
    """Run a PostgreSQL that may be restarted, with the stack on it."""
    with postgres_server() as server:
        url = server.create_database("restarted")
        apply_migrations(url)
        with pytest.MonkeyPatch.context() as environment, ExitStack() as stacks:
            for name, value in SURVIVES_ITS_DATABASE.lite.items():
                environment.setenv(name, value)
            stack = stacks.enter_context(embedded_stack(url))
            keys = (stack.secret_key, stack.publishable_key, stack.jwt_secret)
            yield Restartable(server, Platform("lite on PostgreSQL", stack.url, url, *keys))


async def test_the_engine_survives_a_restart_of_postgresql(own: Restartable) -> None:
    """PostgreSQL goes in mid-run: the run retries or reports, and a following one completes, each mentor once."""
    platform, organization = own.platform, uuid4()
    users = platform.new_users(300)
    with platform.owner() as owner:
        insert_mentors(owner, users, organization_id=organization)
        insert_activities(owner, users, ago("40 days"), organization_id=organization)
    pages = asyncio.Event()
    async with own.worker() as repository:
        engine = ScenarioTriggerEngine(repository, page_size=5, on_page=lambda *_: pages.set())
        run = asyncio.create_task(engine.run([ScenarioType.INACTIVITY], organization, timedelta(seconds=30)))
        await asyncio.wait_for(pages.wait(), 10)
        await own.restart()
        interrupted = await run
        assert interrupted.completed or [error.retryable for error in interrupted.errors] == [True]
        async with asyncio.timeout(30):
            while not (await engine.run([ScenarioType.INACTIVITY], organization)).completed:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    rows = platform.execute(
        "select user_id from public.scenario_notifications where organization_id = %s", organization
    )
    assert Counter(UUID(str(user)) for (user,) in rows) == Counter(users)


async def test_the_delivery_worker_survives_a_restart_of_postgresql(own: Restartable) -> None:
    """PostgreSQL goes while notifications are being sent: every one is delivered and settled, none is left behind."""
    organization = uuid4()
    users = own.platform.new_users(60)
    sent: Counter[UUID] = Counter()
    half = asyncio.Event()

    async def send(notification: LeasedNotification) -> None:
        await asyncio.sleep(0.01)
        sent[notification.user_id] += 1
        if len(sent) == len(users) // 2:
            half.set()

    async with own.worker() as repository:
        await repository.claim_notifications(
            [
                NotificationClaim(
                    user_id=user,
                    organization_id=organization,
                    scenario_type=ScenarioType.INACTIVITY,
                    cooldown=timedelta(days=7),
                )
                for user in users
            ]
        )
        worker = DeliveryWorker(
            repository, send, concurrency=5, idle_pause=timedelta(milliseconds=100), organization_id=organization
        )
        running = asyncio.create_task(worker.run())
        try:
            await asyncio.wait_for(half.wait(), 10)
            await own.restart()
            async with asyncio.timeout(30):
                while own.unsent(organization) and not running.done():
                    own.platform.execute(LEASES_RUN_OUT, organization, list(sent))
                    await asyncio.sleep(0.1)
        finally:
            worker.stop()
            await running
    assert (own.unsent(organization), set(sent)) == (0, set(users))


LEASES_RUN_OUT: Final = (
    "update scenario_private.handover set leased_until = now() where organization_id = %s"
    " and user_id <> all (%s::uuid[]) and leased_until > now()"
)
"""For notifications whose lease was granted and never heard of: a minute and a half, at once."""
