"""ScenarioTriggerEngine: pages of mentors, evaluated inside the database, within a time budget.

The engine only asks for pages. The database decides who is due, claims, and stores how far a pass has come. An engine
may therefore be killed at any moment, and several share a pass: each evaluates mentors of its own, at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeVar
from uuid import UUID

from scenario_repo import _arguments, _logs, _watching
from scenario_repo._backoff import pause_seconds
from scenario_repo._limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from scenario_repo._translation import STATEMENT_TIMEOUT
from scenario_repo.exceptions import ScenarioRepositoryException
from scenario_repo.models import DueMentor, EvaluationPage, ScenarioType, SkipReason
from scenario_repo.reports import EngineReport, ScenarioReport
from scenario_repo.repository import ScenarioNotificationRepository

T = TypeVar("T")

PAGE_TRIES: Final = 12
"""For half a minute in all: a database that restarts, and a schema cache that is read anew, take that long."""
FIRST_PAGE_SIZE: Final = 1_000
"""Where no size is known yet: pages double while they are fast, and one too large for the server costs no whole run."""
_FAST_PAGE_SECONDS: Final = 2.0
_PAGES_UNTIL_GROWTH: Final = 8
_LONGEST_PAUSE_SECONDS: Final = 5.0
_LONGEST_WAIT_SECONDS: Final = 1.0


@dataclass(frozen=True)
class _Settings:
    """What is the same for all pages of a run."""

    organization_id: UUID | None
    dry_run: bool
    due_within: timedelta | None
    list_due: bool


@dataclass
class _Pass:
    """The sum of one scenario's pages so far."""

    scenario_type: ScenarioType | str
    place: int = 0
    """When it is served first, in this run."""
    evaluated: int = 0
    due: int = 0
    claimed: int = 0
    history: int = 0
    skipped: Counter[SkipReason | str] = field(default_factory=Counter)
    pages: int = 0
    seconds: float = 0.0
    longest_page_seconds: float = 0.0
    completed: bool = False
    error: ScenarioRepositoryException | None = None
    due_mentors: list[DueMentor] = field(default_factory=list)
    after: UUID | None = None
    page_size: int = 0
    pages_until_growth: int = 0
    failures: int = 0
    """Tries in a row of the same page that failed in a way that may pass."""
    not_before: float = 0.0
    """When the next try is due."""
    number: int | None = None
    """The pass that it takes part in: over as soon as anybody has ended it."""
    refusals: int = 0
    """Tries in a row that found the rest of the pass in other hands."""

    def add(self, page: EvaluationPage, seconds: float) -> None:
        self.evaluated += page.evaluated
        self.due += page.due
        self.claimed += page.claimed
        self.history += page.history
        self.skipped.update(page.skipped)
        self.due_mentors += page.due_mentors
        self.pages += 1
        self.longest_page_seconds = max(self.longest_page_seconds, seconds)
        self.after = page.next_after
        self.failures, self.refusals, self.not_before = 0, 0, 0.0
        self.completed = page.next_after is None

    def wait(self) -> None:
        """Come back in a while: other engines have the rest of the pass in hand."""
        self.refusals += 1
        self.failures, self.not_before = 0, time.monotonic() + pause_seconds(self.refusals, _LONGEST_WAIT_SECONDS, None)

    def grow(self, most: int, seconds: float) -> None:
        """Ask for a larger page next time, unless this one took long or a timeout was met a few pages ago."""
        self.pages_until_growth = max(0, self.pages_until_growth - 1)
        if seconds < _FAST_PAGE_SECONDS and not self.pages_until_growth:
            self.page_size = min(most, 2 * self.page_size)

    def shrink(self) -> None:
        """Ask for half the page next time: this one met the server's statement timeout, and nothing was done."""
        if self.page_size > 1:
            _logs.PAGE_HALVED.tell(scenario_type=str(self.scenario_type), page_size=self.page_size)
        self.page_size = max(1, self.page_size // 2)
        self.pages_until_growth = _PAGES_UNTIL_GROWTH

    def fail(self, error: ScenarioRepositoryException, deadline: float) -> None:
        """Try the page again after a while, if that may help and there is time; else stop with the error."""
        self.failures += 1
        self.not_before = time.monotonic() + pause_seconds(self.failures, _LONGEST_PAUSE_SECONDS, error.retry_after)
        may_pass = error.retryable and error.code != STATEMENT_TIMEOUT
        if not may_pass or self.failures >= PAGE_TRIES or self.not_before >= deadline:
            self.error = error
        else:
            failed = _logs.lasting(self.failures, _logs.PAGE_FAILED, _logs.PAGE_KEEPS_FAILING)
            failed.tell(scenario_type=str(self.scenario_type), failures=self.failures, **_logs.of_error(error))

    def report(self) -> ScenarioReport:
        return ScenarioReport(
            scenario_type=self.scenario_type,
            evaluated=self.evaluated,
            due=self.due,
            claimed=self.claimed,
            history=self.history,
            skipped=dict(self.skipped),
            pages=self.pages,
            seconds=self.seconds,
            completed=self.completed,
            error=self.error,
            due_mentors=tuple(self.due_mentors),
        )


class ScenarioTriggerEngine:
    """Evaluates whole organizations: finds who is due, and claims, page by page."""

    def __init__(
        self,
        repository: ScenarioNotificationRepository,
        *,
        page_size: int = DEFAULT_PAGE_SIZE,
        on_page: Callable[[ScenarioType | str, EvaluationPage], None] | None = None,
    ) -> None:
        """Take a worker's repository; ``on_page`` is called after every page, to show progress.

        ``page_size`` is the largest page, in mentors. A page that meets the server's statement timeout is halved.
        """
        self._repository = repository
        self._page_size = _arguments.positive("page_size", page_size, MAX_PAGE_SIZE)
        self._on_page = on_page
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the run after the page that is running, and start no other one (a handler for SIGTERM).

        The next run, of another engine, continues there: every page is stored with what it claimed.
        """
        self._stopping.set()

    async def run(  # noqa: PLR0913 - settings, three by name
        self,
        scenario_types: Collection[ScenarioType | str] | None = None,
        organization_id: UUID | None = None,
        time_budget: timedelta = timedelta(seconds=25),
        *,
        dry_run: bool = False,
        due_within: timedelta | None = None,
        list_due: bool = False,
    ) -> EngineReport:
        """Evaluate the scenarios for one organization or all, within the time budget.

        Unless given, they are all that have a rule in the database, the app's own ones too.

        The scenarios alternate page by page (round robin), and the first is who has waited longest, so that none
        starves, in this run or in many short ones. Pages have the size that the last runs found to be done in time, and
        grow again. When another page would not fit the budget, the run stops, and the next run continues there. A page
        still running at the end of its share of the time is cancelled; the database commits it as a whole or not at
        all. A page whose error may pass is tried again for about half a minute, with growing pauses in which the others
        go on. Any other error stops its scenario alone and is in the report.

        Engines that run at once, in one process or in many, do one pass between them, each on another core of the
        database. Where others have the rest of a pass in hand, the other scenarios go on; it is completed once the pass
        is over, whoever ended it.

        A dry run starts from the first mentor, writes nothing and returns the same numbers; with ``list_due`` also who
        they are: :attr:`ScenarioReport.due_mentors`.

        What came true longer than ``due_within`` ago (unless given, the settings') is history: it is not told, and
        counted in the report.
        """
        given = _arguments.scenario_types(scenario_types)
        organization = _arguments.optional_id("organization_id", organization_id)
        started = time.monotonic()
        deadline = started + _arguments.seconds("time_budget", time_budget)
        _arguments.optional_seconds("due_within", due_within)
        _arguments.only_with("list_due", list_due, "dry_run", dry_run)
        settings = _Settings(organization, dry_run, due_within, list_due)
        with _watching.watch(_watching.Step.RUN, dry_run=dry_run) as step:
            passes = await self._run(given, settings, deadline)
            report = EngineReport(
                scenarios=tuple(one.report() for one in passes), seconds=time.monotonic() - started, dry_run=dry_run
            )
            step.note(claimed=sum(one.claimed for one in passes), completed=report.completed)
        _log(report)
        return report

    async def _run(self, given: list[ScenarioType | str] | None, settings: _Settings, deadline: float) -> list[_Pass]:
        passes = await self._begin(None if given is None else tuple(dict.fromkeys(given)), settings, deadline)
        queue = deque(sorted((one for one in passes if one.error is None), key=lambda one: one.place))
        while queue and not self._stopping.is_set():
            scenario = await self._next(queue)
            if self._stopping.is_set():
                break
            if max(time.monotonic(), scenario.not_before) + scenario.longest_page_seconds >= deadline:
                continue
            # A page may take its share of the time that is left: a scenario whose pages hang delays no other for long.
            share = (deadline - time.monotonic()) / (len(queue) + 1)
            await self._evaluate_page(scenario, settings, time.monotonic() + share, deadline)
            if not scenario.completed and scenario.error is None:
                queue.append(scenario)
        return passes

    async def _evaluate_page(self, scenario: _Pass, settings: _Settings, until: float, deadline: float) -> None:
        """Evaluate one page until its time is over, and add its numbers or its error to the scenario."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(until - started):
                page = await self._watched_page(scenario, settings)
        except TimeoutError:
            # No error: tried again with half the page, if there is as much time left as this one took.
            scenario.shrink()
            scenario.longest_page_seconds = max(scenario.longest_page_seconds, time.monotonic() - started)
        except ScenarioRepositoryException as error:
            if error.code == STATEMENT_TIMEOUT and scenario.page_size > 1:
                scenario.shrink()
            else:
                scenario.fail(error, deadline)
        else:
            if page.in_other_hands:
                scenario.wait()
            else:
                self._take(scenario, page, time.monotonic() - started)
        scenario.seconds += time.monotonic() - started

    def _take(self, scenario: _Pass, page: EvaluationPage, seconds: float) -> None:
        """Add a page's numbers to its scenario, and tell of it."""
        scenario.add(page, seconds)
        _logs.PAGE_EVALUATED.tell(
            scenario_type=str(scenario.scenario_type),
            page_size=scenario.page_size,
            due=page.due,
            claimed=page.claimed,
            seconds=seconds,
        )
        scenario.grow(self._page_size, seconds)
        if self._on_page is not None:
            self._on_page(scenario.scenario_type, page)

    async def _begin(
        self, given: tuple[ScenarioType | str, ...] | None, settings: _Settings, deadline: float
    ) -> list[_Pass]:
        """Return the scenarios' passes, as the database says; with its error, if it can't tell."""
        fallback = tuple(ScenarioType) if given is None else given
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._retried(lambda: self._passes(given, settings), deadline)
        except TimeoutError:
            return [_Pass(kind) for kind in fallback]
        except ScenarioRepositoryException as error:
            return [_Pass(kind, error=error) for kind in fallback]

    async def _passes(self, given: tuple[ScenarioType | str, ...] | None, settings: _Settings) -> list[_Pass]:
        first_size = min(self._page_size, FIRST_PAGE_SIZE)
        if settings.dry_run:
            # It writes nothing, and so it begins no run: the order is that of the request.
            kinds = (await self._repository.describe_schema()).scenario_types if given is None else given
            return [_Pass(kind, page_size=first_size) for kind in kinds]
        return [
            _Pass(
                one.scenario_type,
                place=one.place,
                page_size=min(self._page_size, one.page_size or FIRST_PAGE_SIZE),
                # The last run may have found this size by meeting a timeout.
                pages_until_growth=0 if one.page_size is None else _PAGES_UNTIL_GROWTH,
                number=one.pass_number,
            )
            for one in await self._repository.begin_run(given, settings.organization_id)
        ]

    async def _watched_page(self, scenario: _Pass, settings: _Settings) -> EvaluationPage:
        with _watching.watch(
            _watching.Step.PAGE,
            scenario_type=str(scenario.scenario_type),
            page_size=scenario.page_size,
            dry_run=settings.dry_run,
        ) as step:
            page = await self._fetch_page(scenario, settings)
            step.note(
                evaluated=page.evaluated, due=page.due, claimed=page.claimed, history=page.history, skipped=page.skipped
            )
        return page

    async def _fetch_page(self, scenario: _Pass, settings: _Settings) -> EvaluationPage:
        if settings.dry_run:
            return await self._repository.evaluate_scenario(
                scenario.scenario_type,
                settings.organization_id,
                scenario.after,
                scenario.page_size,
                dry_run=True,
                due_within=settings.due_within,
                list_due=settings.list_due,
            )
        return await self._repository.evaluate_next_page(
            scenario.scenario_type,
            settings.organization_id,
            scenario.page_size,
            due_within=settings.due_within,
            pass_number=scenario.number,
        )

    async def _retried(self, request: Callable[[], Awaitable[T]], deadline: float) -> T:
        """Make a request again and again, as long as it fails in a way that may pass and there is time left."""
        for tries in range(1, PAGE_TRIES + 1):
            try:
                return await request()
            except ScenarioRepositoryException as error:
                pause = pause_seconds(tries, _LONGEST_PAUSE_SECONDS, error.retry_after)
                if not error.retryable or tries == PAGE_TRIES or time.monotonic() + pause >= deadline:
                    raise
                await self._pause(pause)
                if self._stopping.is_set():
                    raise
        raise AssertionError  # the last try returns or raises

    async def _next(self, queue: deque[_Pass]) -> _Pass:
        """Take the first scenario that waits for no other try; if all wait, wait for the one that is due first."""
        scenario = next((one for one in queue if one.not_before <= time.monotonic()), None)
        if scenario is None:
            scenario = min(queue, key=lambda one: one.not_before)
            await self._pause(scenario.not_before - time.monotonic())
        queue.remove(scenario)
        return scenario

    async def _pause(self, seconds: float) -> None:
        """Sleep, and wake up early on :meth:`stop`."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _log(report: EngineReport) -> None:
    for one in report.scenarios:
        told: dict[str, object] = {
            **one.model_dump(include={"evaluated", "due", "claimed", "history", "pages", "seconds", "completed"}),
            "scenario_type": str(one.scenario_type),
            "skipped": sum(one.skipped.values()),
            "dry_run": report.dry_run,
        }
        if one.error is None:
            _logs.SCENARIO_EVALUATED.tell(**told)
        else:
            _logs.SCENARIO_FAILED.tell(**told, **_logs.of_error(one.error))
    _logs.RUN_ENDED.tell(
        claimed=sum(one.claimed for one in report.scenarios),
        scenarios=len(report.scenarios),
        seconds=report.seconds,
        completed=report.completed,
        dry_run=report.dry_run,
    )
