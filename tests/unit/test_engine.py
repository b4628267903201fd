"""The engine: order of pages, budget, retries and reports, on a scripted stand-in for the repository."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from scenario_repo import (
    DueMentor,
    EvaluationPage,
    InvalidDataException,
    PermissionDeniedException,
    ScenarioPass,
    ScenarioRepositoryException,
    ScenarioTriggerEngine,
    ScenarioType,
    SchemaDescription,
    SkipReason,
    UnavailableException,
)
from scenario_repo import engine as engine_module
from tests.factories import ORGANIZATION_ID

INACTIVITY, MILESTONE = ScenarioType.INACTIVITY, ScenarioType.MILESTONE
_SECOND = timedelta(seconds=1)


def page(next_after: int | None = None, **figures: object) -> EvaluationPage:
    """Make a page of ten mentors, one of them due and claimed; without ``next_after`` it is the last page."""
    given = {"evaluated": 10, "due": 1, "claimed": 1, "history": 0, "skipped": {}, **figures}
    following = None if next_after is None else UUID(int=next_after)
    return EvaluationPage.model_validate({**given, "next_after": following})


class Clock:
    """The engine's clock, which only the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


Step = EvaluationPage | Exception | Callable[[], Any]


class Script:
    """Plays the repository's two methods: the given steps of each scenario, then last pages only."""

    def __init__(self, **steps: list[Step]) -> None:
        self._steps: defaultdict[str, deque[Step]] = defaultdict(deque, {k: deque(v) for k, v in steps.items()})
        self.calls: list[tuple[str, str, dict[str, object]]] = []
        self.due_within: set[timedelta | None] = set()
        self.list_due: set[bool] = set()
        self.begun: list[tuple[tuple[ScenarioType, ...] | None, UUID | None]] = []
        self.places: dict[ScenarioType | str, int] = {}
        self.page_sizes: dict[ScenarioType | str, int] = {}
        self.schema: SchemaDescription | Exception = SchemaDescription(version=1, scenario_types=tuple(ScenarioType))

    def add(self, kind: str, *steps: Step) -> None:
        """Add steps of a scenario."""
        self._steps[kind].extend(steps)

    @property
    def order(self) -> list[str]:
        """The scenarios of the calls, in order."""
        return [kind for _, kind, _ in self.calls]

    async def describe_schema(self) -> SchemaDescription:
        """Play the method that tells which scenarios there are."""
        if isinstance(self.schema, Exception):
            raise self.schema
        return self.schema

    async def begin_run(
        self, kinds: tuple[ScenarioType, ...] | None, organization_id: UUID | None
    ) -> tuple[ScenarioPass, ...]:
        """Play the method that says in which order, and how large the pages are."""
        self.begun.append((kinds, organization_id))
        given = (await self.describe_schema()).scenario_types if kinds is None else kinds
        return tuple(
            ScenarioPass(
                scenario_type=kind,
                place=self.places.get(kind, place),
                page_size=self.page_sizes.get(kind),
            )
            for place, kind in enumerate(given, 1)
        )

    async def evaluate_next_page(
        self, kind: ScenarioType, organization_id: UUID | None, limit: int, *, due_within: timedelta | None
    ) -> EvaluationPage:
        """Play the method that writes."""
        self.due_within.add(due_within)
        return await self._play("next_page", kind, organization_id=organization_id, limit=limit)

    async def evaluate_scenario(  # noqa: PLR0913 - as in the repository
        self,
        kind: ScenarioType,
        organization_id: UUID | None,
        after: UUID | None,
        limit: int,
        *,
        dry_run: bool = False,
        due_within: timedelta | None,
        list_due: bool,
    ) -> EvaluationPage:
        """Play the method that a dry run uses."""
        assert dry_run
        self.list_due.add(list_due)
        self.due_within.add(due_within)
        return await self._play("dry_run", kind, organization_id=organization_id, after=after, limit=limit)

    async def _play(self, method: str, kind: ScenarioType, **arguments: object) -> EvaluationPage:
        self.calls.append((method, kind.value, arguments))
        step = self._steps[kind.value].popleft() if self._steps[kind.value] else page()
        if isinstance(step, Exception):
            raise step
        if isinstance(step, EvaluationPage):
            return step
        result = step()
        if asyncio.iscoroutine(result):
            result = await result
        assert isinstance(result, EvaluationPage)
        return result


def engine(
    script: Script, page_size: int = 10_000, on_page: Callable[[ScenarioType | str, EvaluationPage], None] | None = None
) -> ScenarioTriggerEngine:
    """Make an engine on the script."""
    repository: Any = script
    return ScenarioTriggerEngine(repository, page_size=page_size, on_page=on_page)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Skip the pauses before another try, and record them."""
    pauses: list[float] = []

    async def pause(_: ScenarioTriggerEngine, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(ScenarioTriggerEngine, "_pause", pause)
    return pauses


async def test_pages_are_turned_until_none_is_left() -> None:
    """The report sums the pages of each scenario, in the order of the request; a pass that ended is completed."""
    script = Script(
        milestone=[page(1, due=3, claimed=1, skipped={"cooldown": 2}), page(2), page(due=2, skipped={"cooldown": 1})]
    )
    report = await engine(script).run([MILESTONE, INACTIVITY])
    milestone, inactivity = report.scenarios
    assert (milestone.scenario_type, milestone.pages, milestone.evaluated) == (MILESTONE, 3, 30)
    assert (milestone.due, milestone.claimed, milestone.skipped) == (6, 3, {SkipReason.COOLDOWN: 3})
    assert (inactivity.scenario_type, inactivity.pages, inactivity.due) == (INACTIVITY, 1, 1)
    assert report.completed
    assert report.errors == ()
    assert not report.dry_run


async def test_scenarios_take_turns() -> None:
    """The scenarios alternate page by page: a long pass does not delay a short one."""
    script = Script(inactivity=[page(1), page(2)], welcome_back=[page(1)])
    await engine(script).run()
    assert script.order == [*ScenarioType, "inactivity", "welcome_back", "inactivity"]


async def test_the_database_says_who_is_first() -> None:
    """The run serves the scenarios by their places; the report keeps the order of the request."""
    script = Script(inactivity=[page(1)])
    script.places = {INACTIVITY: 3, MILESTONE: 1, ScenarioType.WELCOME_BACK: 2}
    report = await engine(script).run([INACTIVITY, MILESTONE, ScenarioType.WELCOME_BACK], ORGANIZATION_ID)
    assert script.order == ["milestone", "welcome_back", "inactivity", "inactivity"]
    assert [one.scenario_type for one in report.scenarios] == [INACTIVITY, MILESTONE, ScenarioType.WELCOME_BACK]
    assert script.begun == [((INACTIVITY, MILESTONE, ScenarioType.WELCOME_BACK), ORGANIZATION_ID)]


async def test_a_dry_run_begins_no_run() -> None:
    """It writes nothing, not even whose turn it was: the order is that of the request."""
    script = Script()
    script.places = {INACTIVITY: 2, MILESTONE: 1}
    await engine(script).run([INACTIVITY, MILESTONE], dry_run=True)
    assert script.order == ["inactivity", "milestone"]
    await engine(script).run(dry_run=True)
    assert script.begun == []


async def test_only_what_is_asked_for_is_evaluated() -> None:
    """Scenario types (each once), organization and page size reach the repository."""
    script = Script()
    report = await engine(script, page_size=77).run([MILESTONE, MILESTONE], ORGANIZATION_ID)
    assert script.calls == [("next_page", "milestone", {"organization_id": ORGANIZATION_ID, "limit": 77})]
    assert len(report.scenarios) == 1


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("due_within", [None, timedelta(days=90)])
async def test_history_is_counted_and_its_bound_passed_on(due_within: timedelta | None, *, dry_run: bool) -> None:
    """What came true too long ago is left out; the report says how many, per scenario and in total."""
    script = Script(inactivity=[page(1, history=3), page(history=2)], milestone=[page(history=4)])
    report = await engine(script).run([INACTIVITY, MILESTONE], dry_run=dry_run, due_within=due_within)
    assert ([one.history for one in report.scenarios], report.history) == ([5, 4], 9)
    assert script.due_within == {due_within}


async def test_an_empty_choice_evaluates_nothing() -> None:
    """An empty list evaluates nothing."""
    script = Script()
    report = await engine(script).run([])
    assert (report.scenarios, script.calls) == ((), [])


async def test_a_dry_run_follows_its_own_pages() -> None:
    """It starts at the first mentor, continues where each page ended, and never calls the method that writes."""
    script = Script(inactivity=[page(5), page(9)])
    report = await engine(script, page_size=3).run([INACTIVITY], ORGANIZATION_ID, dry_run=True)
    assert report.dry_run
    assert report.scenarios[0].claimed == 3
    shared = {"organization_id": ORGANIZATION_ID, "limit": 3}
    assert script.calls == [
        ("dry_run", "inactivity", shared | {"after": after}) for after in (None, UUID(int=5), UUID(int=9))
    ]


async def test_a_dry_run_names_who_is_due() -> None:
    """With ``list_due`` the report has the mentors of all pages, in their order; without it nobody is asked for."""
    first, second = (DueMentor(user_id=UUID(int=number), organization_id=ORGANIZATION_ID) for number in (1, 2))
    script = Script(inactivity=[page(1, due_mentors=(first,)), page(due_mentors=(second,))])
    report = await engine(script).run([INACTIVITY], dry_run=True, list_due=True)
    assert report.scenarios[0].due_mentors == (first, second)
    assert script.list_due == {True}
    assert (await engine(script).run([INACTIVITY], dry_run=True)).scenarios[0].due_mentors == ()
    assert script.list_due == {True, False}


async def test_each_page_is_shown_as_it_comes() -> None:
    """on_page gets every page with its scenario."""
    shown: list[tuple[ScenarioType | str, UUID | None]] = []
    script = Script(inactivity=[page(5)])
    await engine(script, on_page=lambda kind, one: shown.append((kind, one.next_after))).run([INACTIVITY])
    assert shown == [(INACTIVITY, UUID(int=5)), (INACTIVITY, None)]


# The time budget ---------------------------------------------------------


async def test_a_run_stops_before_a_page_that_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With less time left than the longest page took, the run ends without an error and reports its numbers."""
    clock = Clock()
    monkeypatch.setattr(engine_module, "time", clock)

    def slow(number: int, seconds: float) -> Callable[[], EvaluationPage]:
        def take() -> EvaluationPage:
            clock.now += seconds
            return page(number)

        return take

    script = Script(inactivity=[slow(1, 4), slow(2, 1), slow(3, 2), slow(4, 0)])
    report = await engine(script).run([INACTIVITY], time_budget=10 * _SECOND)
    (inactivity,) = report.scenarios
    assert (inactivity.pages, inactivity.seconds, inactivity.completed, inactivity.error) == (3, 7.0, False, None)
    assert (report.completed, report.seconds, report.errors) == (False, 7.0, ())


async def test_a_scenario_of_short_pages_goes_on_where_a_long_one_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a page still fits depends on the scenario's own pages."""
    clock = Clock()
    monkeypatch.setattr(engine_module, "time", clock)

    def slow() -> EvaluationPage:
        clock.now += 6
        return page(1)

    script = Script(inactivity=[slow], milestone=[page(1), page(2)])
    report = await engine(script).run([INACTIVITY, MILESTONE], time_budget=10 * _SECOND)
    assert [one.completed for one in report.scenarios] == [False, True]
    assert script.order == ["inactivity", "milestone", "milestone", "milestone"]


async def test_a_page_that_hangs_delays_no_other_scenario() -> None:
    """It is given up at its share of the time; the run ends within its budget, not completed and without an error."""
    script = Script(inactivity=[lambda: asyncio.sleep(60)] * 9, milestone=[page(1)])
    started = time.monotonic()
    report = await engine(script).run([INACTIVITY, MILESTONE], time_budget=0.4 * _SECOND)
    assert 0.2 <= time.monotonic() - started < 5
    assert script.order[:2] == ["inactivity", "milestone"]
    assert [(one.completed, one.pages, one.error) for one in report.scenarios] == [(False, 0, None), (True, 2, None)]


@pytest.mark.parametrize(("page_size", "told"), [(2, [2]), (1, [])])
async def test_a_page_of_one_is_not_halved(caplog: pytest.LogCaptureFixture, page_size: int, told: list[int]) -> None:
    """There is nothing left to halve, so none is told."""
    caplog.set_level(logging.INFO, logger="scenario_repo.engine")
    script = Script(inactivity=[lambda: asyncio.sleep(60)])
    await engine(script, page_size=page_size).run([INACTIVITY], time_budget=0.2 * _SECOND)
    halved = [vars(record) for record in caplog.records if vars(record).get("event") == "page_halved"]
    assert [record["page_size"] for record in halved] == told


async def test_the_last_scenario_may_take_all_the_time_that_is_left() -> None:
    """A page that hangs alone is given up at the end of the budget."""
    script = Script(inactivity=[lambda: asyncio.sleep(60)])
    started = time.monotonic()
    report = await engine(script).run([INACTIVITY], time_budget=0.2 * _SECOND)
    assert 0.2 <= time.monotonic() - started < 5
    assert (script.order, report.completed, report.errors) == (["inactivity"], False, ())


async def test_a_report_is_dumped_as_json() -> None:
    """Also when a scenario failed: the error is its type, message and facts, and the sums are there."""
    refused = PermissionDeniedException("no", operation="evaluate_next_page", code="42501", http_status=403)
    away = ScenarioRepositoryException(retryable=True, retry_after=2.5)
    script = Script(inactivity=[refused], milestone=[page(1, skipped={"cooldown": 2}, history=3), page()])
    report = await engine(script).run([INACTIVITY, MILESTONE])
    dumped = json.loads(report.model_dump_json())
    assert dumped == report.model_dump(mode="json")
    assert set(dumped) == {"scenarios", "seconds", "dry_run", "completed", "history"}
    assert (dumped["completed"], dumped["history"], dumped["dry_run"]) == (False, 3, False)
    failed, went_on = dumped["scenarios"]
    assert failed["error"] == {
        "type": "PermissionDeniedException",
        "message": "no",
        "operation": "evaluate_next_page",
        "code": "42501",
        "constraint": None,
        "relation": None,
        "column": None,
        "http_status": 403,
        "retryable": False,
        "retry_after": None,
    }
    assert (went_on["error"], went_on["skipped"], went_on["claimed"]) == (None, {"cooldown": 2}, 2)
    assert report.model_dump()["scenarios"][0]["error"] is refused
    other = report.scenarios[0].model_copy(update={"error": away}).model_dump(mode="json")["error"]
    assert (other["retryable"], other["retry_after"], other["message"]) == (True, 2.5, away.args[0])


async def test_a_dry_runs_list_is_dumped_as_json() -> None:
    """It is ids and codes."""
    due = DueMentor(user_id=UUID(int=1), organization_id=ORGANIZATION_ID, milestone_value=10, finding="reached")
    report = await engine(Script(milestone=[page(due_mentors=(due,))])).run([MILESTONE], dry_run=True, list_due=True)
    assert json.loads(report.model_dump_json())["scenarios"][0]["due_mentors"] == [
        {
            "user_id": str(UUID(int=1)),
            "organization_id": str(ORGANIZATION_ID),
            "milestone_value": 10,
            "finding": "reached",
        }
    ]


# Failures ----------------------------------------------------------------


async def test_a_page_that_fails_for_a_moment_is_tried_again(no_pause: list[float]) -> None:
    """After 40001 or a lost connection the same page is tried again after a pause, and the report shows no error."""
    script = Script(inactivity=[page(1), UnavailableException(code="40001"), UnavailableException(), page(claimed=0)])
    report = await engine(script).run([INACTIVITY])
    (inactivity,) = report.scenarios
    assert (inactivity.pages, inactivity.claimed, inactivity.completed, inactivity.error) == (2, 1, True, None)
    assert len(no_pause) == 2
    assert 0 < no_pause[0] < no_pause[1]


async def test_the_server_may_ask_for_a_longer_pause(no_pause: list[float]) -> None:
    """Retry-After is honoured if it fits the budget."""
    script = Script(inactivity=[UnavailableException(retry_after=7.5)])
    report = await engine(script).run([INACTIVITY])
    assert report.completed
    assert no_pause == [pytest.approx(7.5, abs=0.1)]


async def test_a_dry_run_tries_the_same_page_again(no_pause: list[float]) -> None:
    """A failed page is not skipped."""
    script = Script(inactivity=[page(5), UnavailableException(), page(9)])
    await engine(script).run([INACTIVITY], dry_run=True)
    assert [call[2]["after"] for call in script.calls] == [None, UUID(int=5), UUID(int=5), UUID(int=9)]
    assert len(no_pause) == 1


async def test_what_fails_again_and_again_stops_its_scenario_alone(no_pause: list[float]) -> None:
    """The error is in the report, and the other scenarios run to their end."""
    failure = UnavailableException("no connection")
    script = Script(
        inactivity=[page(1), *[failure] * engine_module.PAGE_TRIES, page(2)], milestone=[page(1), page(2), page(3)]
    )
    report = await engine(script).run([INACTIVITY, MILESTONE])
    inactivity, milestone = report.scenarios
    assert (inactivity.error, inactivity.pages, inactivity.completed) == (failure, 1, False)
    assert (milestone.error, milestone.pages, milestone.completed) == (None, 4, True)
    assert (report.errors, report.completed) == ((failure,), False)
    assert script.order.count("inactivity") == 1 + engine_module.PAGE_TRIES
    assert len(no_pause) < engine_module.PAGE_TRIES


async def test_an_outage_of_half_a_minute_stops_no_scenario(no_pause: list[float]) -> None:
    """A database restarts, and its API reads the schema anew: all scenarios go on, and the pauses are long enough."""
    away: list[Any] = [UnavailableException(retry_after=0.0)] * (engine_module.PAGE_TRIES - 1)
    script = Script(inactivity=[page(1), *away, page(2)], milestone=[page(1), *away, page(2)])
    report = await engine(script).run([INACTIVITY, MILESTONE], time_budget=600 * _SECOND)
    assert (report.completed, report.errors) == (True, ())
    assert sum(no_pause) > 15


@pytest.mark.parametrize("failure", [PermissionDeniedException(), ScenarioRepositoryException("odd")])
async def test_what_waiting_would_not_mend_is_not_tried_again(
    no_pause: list[float], failure: ScenarioRepositoryException
) -> None:
    """A page that is refused is not tried again."""
    script = Script(inactivity=[failure])
    report = await engine(script).run([INACTIVITY, MILESTONE])
    assert report.errors == (failure,)
    assert script.order == ["inactivity", "milestone"]
    assert no_pause == []


async def test_a_failure_is_reported_when_the_budget_has_no_room_for_another_try() -> None:
    """A database unreachable for the whole budget is an error, and no pause exceeds the budget."""
    failure = UnavailableException(retry_after=60)
    script = Script(inactivity=[failure])
    report = await engine(script).run([INACTIVITY, MILESTONE], time_budget=5 * _SECOND)
    assert report.errors == (failure,)
    assert report.scenarios[1].completed
    assert report.seconds < 4


def _too_slow_above(most: int, script: Script) -> Callable[[], EvaluationPage]:
    """Answer a page of at most that many mentors, and let the statement of a larger one time out."""

    def answer() -> EvaluationPage:
        if int(str(script.calls[-1][2]["limit"])) > most:
            raise UnavailableException(code="57014")
        return page(1)

    return answer


async def test_a_page_that_meets_the_statement_timeout_is_halved_and_grows_again(no_pause: list[float]) -> None:
    """It is not asked for again as it is; the other scenarios have their turn meanwhile, and the pass moves on."""
    script = Script(milestone=[page(1), page(2)])
    script.add("inactivity", *[_too_slow_above(300, script)] * 3, *[page(1)] * 9)
    report = await engine(script, page_size=3_000).run([INACTIVITY, MILESTONE])
    assert report.completed
    asked = [arguments["limit"] for _, kind, arguments in script.calls if kind == "inactivity"]
    assert asked == [1_000, 500, *[250] * 8, 500, 1_000, 2_000]
    assert [kind for _, kind, _ in script.calls[:4]] == ["inactivity", "milestone", "inactivity", "milestone"]
    assert no_pause == []


async def test_pages_begin_small_and_grow_while_they_are_fast() -> None:
    """Up to the size that was asked for; a smaller one is kept as it is."""
    script = Script(inactivity=[page(1)] * 5, milestone=[page(1)] * 2)
    await engine(script, page_size=5_000).run([INACTIVITY])
    await engine(script, page_size=7).run([MILESTONE])
    assert [arguments["limit"] for _, _, arguments in script.calls] == [
        *[1_000, 2_000, 4_000, 5_000, 5_000, 5_000],
        *[7, 7, 7],
    ]


async def test_pages_begin_with_the_size_of_the_last_run() -> None:
    """It may have been found by meeting a timeout: it grows after a while, and up to what was asked for."""
    script = Script(inactivity=[page(1)] * 10, milestone=[page(1)])
    script.page_sizes = {INACTIVITY: 500, MILESTONE: 9_000}
    await engine(script, page_size=1_500).run([INACTIVITY, MILESTONE])
    asked = [(kind, arguments["limit"]) for _, kind, arguments in script.calls]
    assert [limit for kind, limit in asked if kind == "inactivity"] == [*[500] * 8, 1_000, 1_500, 1_500]
    assert [limit for kind, limit in asked if kind == "milestone"] == [1_500, 1_500]


async def test_a_single_mentor_who_takes_too_long_stops_the_scenario() -> None:
    """There is nothing left to halve: the timeout is the scenario's error."""
    script = Script()
    script.add("inactivity", *[_too_slow_above(0, script)] * 3)
    report = await engine(script, page_size=2).run([INACTIVITY, MILESTONE])
    assert [one.completed for one in report.scenarios] == [False, True]
    assert [error.code for error in report.errors] == ["57014"]


async def test_a_stopped_run_ends_after_the_page_that_is_running() -> None:
    """The page counts, no other one is asked for, and the report says that the passes have not reached their end."""
    script = Script(milestone=[page(1)])
    stopped = engine(script)

    def stopped_meanwhile() -> EvaluationPage:
        stopped.stop()
        return page(1)

    script.add("inactivity", stopped_meanwhile)
    report = await stopped.run([INACTIVITY, MILESTONE])
    assert script.order == ["inactivity"]
    assert [(one.pages, one.completed, one.error) for one in report.scenarios] == [(1, False, None), (0, False, None)]


async def test_a_run_is_stopped_in_a_pause() -> None:
    """It does not wait for the end of the pause, neither before a page nor before the scenario types are asked for."""
    failing: list[Step] = [UnavailableException(retry_after=20)]
    for given in ([INACTIVITY], None):
        script = Script(inactivity=failing)
        script.schema = UnavailableException(retry_after=20)
        stopped = engine(script)
        running = asyncio.create_task(stopped.run(given))
        await asyncio.sleep(0.05)
        stopped.stop()
        report = await asyncio.wait_for(running, 5)
        assert not report.completed
        assert script.order == (["inactivity"] if given else [])


async def test_an_engine_stopped_before_its_run_evaluates_nothing() -> None:
    """A signal that comes early is not lost."""
    script = Script()
    stopped = engine(script)
    stopped.stop()
    assert not (await stopped.run([INACTIVITY])).completed
    assert script.calls == []


async def test_cancellation_passes_through() -> None:
    """Cancelling the run works during a page and during a pause."""
    for step in (lambda: asyncio.sleep(60), UnavailableException(retry_after=20)):
        running = asyncio.create_task(engine(Script(inactivity=[step])).run([INACTIVITY]))
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"scenario_types": ["Birthday"]}, "scenario_types"),
        ({"scenario_types": "inactivity"}, "scenario_types"),
        ({"organization_id": "not an id"}, "organization_id"),
        ({"time_budget": timedelta(0)}, "time_budget"),
        ({"time_budget": -_SECOND}, "time_budget"),
        ({"time_budget": 25}, "time_budget"),
        ({"due_within": timedelta(0)}, "due_within"),
        ({"due_within": 90}, "due_within"),
        ({"list_due": True}, "list_due"),
    ],
)
async def test_bad_arguments_are_refused_before_anything_is_asked(arguments: dict[str, Any], name: str) -> None:
    """The message names the argument."""
    script = Script()
    with pytest.raises(InvalidDataException, match=f"^{name}"):
        await engine(script).run(**arguments)
    assert script.calls == []


@pytest.mark.parametrize("page_size", [0, -1, 100_001, 2.5, True, None])
def test_a_page_size_out_of_bounds_is_refused(page_size: object) -> None:
    """The page size is 1 to 100,000."""
    with pytest.raises(InvalidDataException, match=r"^page_size"):
        engine(Script(), page_size=page_size)  # type: ignore[arg-type]
