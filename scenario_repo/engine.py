"""ScenarioTriggerEngine: pages of mentors, evaluated inside the database, under a time budget.

The engine only turns the pages. Who is due, the claim and where a pass stands are the database's, so an engine may
be killed at any moment, and several may run at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from scenario_repo import _arguments
from scenario_repo._limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from scenario_repo.exceptions import ScenarioRepositoryException
from scenario_repo.models import EvaluationPage, ScenarioType, SkipReason
from scenario_repo.repository import ScenarioNotificationRepository

PAGE_TRIES: Final = 3
_FIRST_PAUSE_SECONDS: Final = 0.2


class ScenarioReport(BaseModel):
    """What a run did for one scenario type."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    scenario_type: ScenarioType
    evaluated: int
    due: int
    claimed: int
    skipped: dict[SkipReason, int]
    pages: int
    seconds: float
    """The time spent on this scenario."""
    completed: bool
    """Whether the pass came to its end; if not, the next run goes on where this one stopped."""
    error: ScenarioRepositoryException | None = None
    """What stopped this scenario; the others went on."""


class EngineReport(BaseModel):
    """What a run did, scenario by scenario, in the order they were asked for."""

    model_config = ConfigDict(frozen=True)

    scenarios: tuple[ScenarioReport, ...]
    seconds: float
    dry_run: bool

    @property
    def completed(self) -> bool:
        """Whether every scenario's pass came to its end."""
        return all(scenario.completed for scenario in self.scenarios)

    @property
    def errors(self) -> tuple[ScenarioRepositoryException, ...]:
        """What stopped a scenario, if anything did."""
        return tuple(scenario.error for scenario in self.scenarios if scenario.error is not None)


@dataclass
class _Pass:
    """One scenario's pages so far."""

    scenario_type: ScenarioType
    evaluated: int = 0
    due: int = 0
    claimed: int = 0
    skipped: Counter[SkipReason] = field(default_factory=Counter)
    pages: int = 0
    seconds: float = 0.0
    longest_page_seconds: float = 0.0
    completed: bool = False
    error: ScenarioRepositoryException | None = None
    after: UUID | None = None

    def add(self, page: EvaluationPage, seconds: float) -> None:
        self.evaluated += page.evaluated
        self.due += page.due
        self.claimed += page.claimed
        self.skipped.update(page.skipped)
        self.pages += 1
        self.longest_page_seconds = max(self.longest_page_seconds, seconds)
        self.after = page.next_after
        self.completed = page.next_after is None

    def report(self) -> ScenarioReport:
        return ScenarioReport(
            scenario_type=self.scenario_type,
            evaluated=self.evaluated,
            due=self.due,
            claimed=self.claimed,
            skipped=dict(self.skipped),
            pages=self.pages,
            seconds=self.seconds,
            completed=self.completed,
            error=self.error,
        )


class ScenarioTriggerEngine:
    """Evaluates whole organizations: who is due is found and claimed page by page."""

    def __init__(
        self,
        repository: ScenarioNotificationRepository,
        *,
        page_size: int = DEFAULT_PAGE_SIZE,
        on_page: Callable[[ScenarioType, EvaluationPage], None] | None = None,
    ) -> None:
        """Take a worker's repository; ``on_page`` is called after every page, to show progress."""
        self._repository = repository
        self._page_size = _arguments.positive("page_size", page_size, MAX_PAGE_SIZE)
        self._on_page = on_page

    async def run(
        self,
        scenario_types: Collection[ScenarioType] | None = None,
        organization_id: UUID | None = None,
        time_budget: timedelta = timedelta(seconds=25),
        *,
        dry_run: bool = False,
    ) -> EngineReport:
        """Evaluate the scenarios (all four unless given) for one organization or all, within the time budget.

        The scenarios take turns, page by page, so that none starves. When a further page would not fit the budget
        the run stops, and the next one goes on there; a page still under way at the end of the budget is given up
        (the database finishes or forgets it as a whole). A page that fails in a way that may pass is tried
        three times; what fails for good stops its scenario, is in the report, and leaves the others alone.

        A dry run starts from the first mentor, writes nothing and gives the same numbers.
        """
        kinds = _arguments.scenario_types(list(ScenarioType) if scenario_types is None else scenario_types) or []
        organization = _arguments.optional_id("organization_id", organization_id)
        started = time.monotonic()
        deadline = started + _arguments.seconds("time_budget", time_budget)
        passes = [_Pass(kind) for kind in dict.fromkeys(kinds)]
        turns = deque(passes)
        while turns:
            turn = turns.popleft()
            if time.monotonic() + turn.longest_page_seconds >= deadline:
                continue
            await self._turn_page(turn, organization, deadline, dry_run=dry_run)
            if not turn.completed and turn.error is None:
                turns.append(turn)
        return EngineReport(
            scenarios=tuple(one.report() for one in passes), seconds=time.monotonic() - started, dry_run=dry_run
        )

    async def _turn_page(self, turn: _Pass, organization_id: UUID | None, deadline: float, *, dry_run: bool) -> None:
        """Evaluate one page, and enter it or what stopped it."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(deadline - started):
                page = await self._page(turn, organization_id, deadline, dry_run=dry_run)
        except TimeoutError:
            # The budget is spent: not finished, and nothing wrong.
            turn.longest_page_seconds = float("inf")
        except ScenarioRepositoryException as error:
            turn.error = error
        else:
            turn.add(page, time.monotonic() - started)
            if self._on_page is not None:
                self._on_page(turn.scenario_type, page)
        turn.seconds += time.monotonic() - started

    async def _page(
        self, turn: _Pass, organization_id: UUID | None, deadline: float, *, dry_run: bool
    ) -> EvaluationPage:
        for remaining in reversed(range(PAGE_TRIES)):
            try:
                if dry_run:
                    return await self._repository.evaluate_scenario(
                        turn.scenario_type, organization_id, turn.after, self._page_size, dry_run=True
                    )
                return await self._repository.evaluate_next_page(turn.scenario_type, organization_id, self._page_size)
            except ScenarioRepositoryException as error:
                pause = max(_FIRST_PAUSE_SECONDS * 2 ** (PAGE_TRIES - 1 - remaining), error.retry_after or 0)
                if not error.retryable or not remaining or time.monotonic() + pause >= deadline:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError  # the last try returns or raises
