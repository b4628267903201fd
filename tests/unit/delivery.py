"""A scripted repository, and a delivery worker on it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from scenario_repo import (
    DeliveryResult,
    DeliveryWorker,
    Lease,
    LeasedNotification,
    ScenarioNotificationRepository,
    Settlement,
    SettlementAnswer,
    UnavailableException,
)
from tests.factories import leased_row

MOMENT: Final = timedelta(milliseconds=20)
LONG: Final = timedelta(seconds=60)
Send = Callable[[LeasedNotification], Awaitable[None]]


class Clock:
    """A clock that goes on by itself, and that a test turns ahead."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = time.monotonic()

    def __call__(self) -> float:
        """Return the seconds."""
        return self.seconds + time.monotonic() - self._began


class Script(ScenarioNotificationRepository):
    """Hands out notifications and takes settlements, as scripted: each failure is raised by one call, in order."""

    def __init__(
        self, due: int, lease_failures: Iterable[Exception] = (), settle_failures: Iterable[Exception] = ()
    ) -> None:
        self.due = [leased() for _ in range(due)]
        self.lease_failures, self.settle_failures = list(lease_failures), list(settle_failures)
        self.leases: list[tuple[Any, ...]] = []
        self.leased: list[LeasedNotification] = []
        self.settled: list[Settlement] = []
        self.settle_calls: list[int | None] = []
        self.lost: set[UUID] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def lease_notifications(self, *arguments: Any, **_: Any) -> Lease:  # noqa: ANN401
        """Hand out what is due."""
        self.leases.append(arguments)
        await asyncio.sleep(0)
        if self.lease_failures:
            raise self.lease_failures.pop(0)
        taken, self.due = self.due[: arguments[0]], self.due[arguments[0] :]
        self.leased += taken
        return Lease(leased=tuple(taken), has_more=bool(self.due))

    async def settle_notifications(
        self, results: Sequence[Settlement], max_attempts: int | None = None
    ) -> list[SettlementAnswer | str]:
        """Record the results when the gate is open."""
        self.settle_calls.append(max_attempts)
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.settle_failures:
            raise self.settle_failures.pop(0)
        assert not {result.id for result in results} & {result.id for result in self.settled}, "settled twice"
        self.settled += results
        return [self._answer(result) for result in results]

    def _answer(self, result: Settlement) -> SettlementAnswer:
        if result.id in self.lost:
            return SettlementAnswer.LEASE_LOST
        answers = {
            DeliveryResult.SENT: SettlementAnswer.SENT,
            DeliveryResult.FAILED: SettlementAnswer.FAILED,
            DeliveryResult.SUPPRESSED: SettlementAnswer.FAILED,
        }
        return answers.get(result.result, SettlementAnswer.PENDING)

    def outcomes(self) -> dict[UUID, tuple[DeliveryResult, str | None]]:
        """Return what was settled, every lease exactly once."""
        assert Counter(result.id for result in self.settled) == Counter(row.id for row in self.leased)
        return {result.id: (result.result, result.failure_code) for result in self.settled}


def leased() -> LeasedNotification:
    """Make a leased notification."""
    return LeasedNotification(**leased_row(id=uuid4()))


def worker(script: Script, send: Send, **settings: Any) -> DeliveryWorker:  # noqa: ANN401
    """Make a worker with four places, a minute for each send, and very short pauses."""
    defaults: dict[str, Any] = {"concurrency": 4, "send_timeout": LONG, "idle_pause": MOMENT}
    return DeliveryWorker(script, send, **defaults | settings)


async def succeed(_: LeasedNotification) -> None:
    """Send."""
    await asyncio.sleep(0)


def raising(error: Exception) -> Send:
    """Make a sender that fails."""

    async def send(_: LeasedNotification) -> None:
        await asyncio.sleep(0)
        raise error

    return send


async def until(condition: Callable[[], object]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - of whatever kind
            await asyncio.sleep(0.001)


def unavailable() -> UnavailableException:
    """Make the error of a database that is unavailable for a moment."""
    return UnavailableException(retry_after=0.001)
