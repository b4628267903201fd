"""What a worker and an engine hold does not grow with what has gone through them: counted in objects, not in time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from scenario_repo import (
    DeliveryWorker,
    EvaluationPage,
    Lease,
    LeasedNotification,
    ScenarioNotificationRepository,
    ScenarioPass,
    ScenarioTriggerEngine,
    ScenarioType,
    Settlement,
    SettlementAnswer,
    SuppressDelivery,
)
from scenario_repo.senders import Attempt
from tests.unit.delivery import leased

_PLACES = 4
_HELD = (LeasedNotification, Lease, Settlement, Attempt, EvaluationPage, UUID, asyncio.Task)


class _Forgetful(ScenarioNotificationRepository):
    """Hands out notifications and pages, remembers none, and counts what is alive when there are no more."""

    def __init__(self, due: int, pages: int = 0) -> None:
        self.due, self.pages = due, pages
        self.settled = 0
        self.held = 0

    async def lease_notifications(self, *arguments: Any, **_: Any) -> Lease:  # noqa: ANN401
        await asyncio.sleep(0)
        taken = min(self.due, arguments[0])
        self.due -= taken
        if taken and not self.due:
            self.held = _alive()
        return Lease(leased=tuple(leased() for _ in range(taken)), has_more=self.due > 0)

    async def settle_notifications(
        self, results: Sequence[Settlement], max_attempts: int | None = None
    ) -> list[SettlementAnswer | str]:
        await asyncio.sleep(0)
        self.settled += len(results)
        return [SettlementAnswer.SENT for _ in results if max_attempts is None]

    async def begin_run(self, *_: Any) -> tuple[ScenarioPass, ...]:  # noqa: ANN401
        return (ScenarioPass(scenario_type=ScenarioType.INACTIVITY, place=1, page_size=None),)

    async def evaluate_next_page(self, *_: Any, **__: Any) -> EvaluationPage:  # noqa: ANN401
        await asyncio.sleep(0)
        self.pages -= 1
        if not self.pages:
            self.held = _alive()
        figures = {"evaluated": 10, "due": 10, "claimed": 10, "history": 0, "skipped": {}}
        return EvaluationPage.model_validate({**figures, "next_after": UUID(int=self.pages) if self.pages else None})


def _alive() -> int:
    gc.collect()
    return sum(isinstance(one, _HELD) for one in gc.get_objects())


async def _held(due: int, failing: type[Exception] | None = None) -> int:
    repository = _Forgetful(due)

    async def send(_: LeasedNotification) -> None:
        await asyncio.sleep(0)
        if failing is not None:
            raise failing

    await DeliveryWorker(repository, send, concurrency=_PLACES, stop_after=None).run(until_idle=True)
    assert repository.settled == due
    return repository.held


@pytest.mark.parametrize("failing", [None, RuntimeError, SuppressDelivery])
async def test_a_worker_holds_no_more_after_a_hundred_leases_than_after_a_few(failing: type[Exception] | None) -> None:
    """Notifications, leases, results and tasks are let go once they are settled, whatever the sender makes of them."""
    few = await _held(5 * _PLACES, failing)
    assert await _held(100 * _PLACES, failing) <= few + _PLACES


async def test_an_engine_holds_no_page_that_is_over() -> None:
    """A pass of a hundred pages keeps sums, and no page."""
    held = []
    for pages in (5, 100):
        repository = _Forgetful(0, pages)
        report = await ScenarioTriggerEngine(repository).run([ScenarioType.INACTIVITY])
        assert report.scenarios[0].evaluated == 10 * pages
        held.append(repository.held)
    assert held[1] <= held[0] + 1
