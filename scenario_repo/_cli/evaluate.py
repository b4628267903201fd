"""scenario-repo evaluate: find who is due, and claim."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.progress import TaskID, TextColumn

from scenario_repo._cli import values
from scenario_repo._cli.endings import DONE, STOPPED
from scenario_repo._cli.output import (
    Figures,
    is_terminal,
    live,
    print_error,
    print_figures,
    print_json,
    print_lines,
    print_note,
)
from scenario_repo._cli.running import command, database, handled_signals
from scenario_repo._cli.words import counted
from scenario_repo._limits import DEFAULT_PAGE_SIZE, MAX_DAYS, MAX_PAGE_SIZE
from scenario_repo.engine import ScenarioTriggerEngine
from scenario_repo.models import EvaluationPage, ScenarioType
from scenario_repo.reports import EngineReport, ScenarioReport

_BUILT_IN: Final = ", ".join(ScenarioType)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "evaluate")(evaluate)


async def evaluate(  # noqa: PLR0913 - one for each option
    *,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            parser=values.scenario_type,
            metavar="NAME",
            help=f"Only this one (repeatable): {_BUILT_IN}, or one of the app's own.",
        ),
    ] = None,
    organization: Annotated[UUID | None, typer.Option(metavar="UUID", help="Only this one's mentors.")] = None,
    time_budget: Annotated[
        timedelta,
        typer.Option(parser=values.duration(), metavar="TIME", help="Stop after that long.", show_default="25s"),
    ] = timedelta(seconds=25),
    page_size: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_SIZE, metavar="N", help="Mentors in a page, at most.")
    ] = DEFAULT_PAGE_SIZE,
    due_within: Annotated[
        timedelta | None,
        typer.Option(
            parser=values.duration(MAX_DAYS),
            metavar="TIME",
            help="Tell what came true at most that long ago, such as 90d; what is older is history.",
            show_default="the settings' due_within",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count who would be notified; write nothing.")] = False,
    list_due: Annotated[
        bool, typer.Option("--list", help="With --dry-run: tell who, by scenario, user and organization.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Find who is due, and claim their notifications.

    On SIGTERM or SIGINT it ends after the running page, on a second one at once; the next run continues there.
    """
    if list_due and not dry_run:
        raise typer.BadParameter("expected --dry-run with it", param_hint="--list")
    async with database() as repository:
        with _progress(listed=list_due and not as_json) as on_page:
            engine = ScenarioTriggerEngine(repository, page_size=page_size, on_page=on_page)
            run = engine.run(
                scenario, organization, time_budget, dry_run=dry_run, due_within=due_within, list_due=list_due
            )
            report = await _until_signalled(engine, run)
    if report is None:
        print_note("interrupted")
        return STOPPED
    if as_json:
        print_json(report)
    elif list_due:  # standard output has the ids alone
        for line in _sums(report):
            print_note(line)
    elif is_terminal():
        print_figures(_figures(report))
        print_lines(_sums(report))
    else:
        print_lines([*_lines(report), *_sums(report)])
    codes = [print_error(one.error, one.scenario_type) for one in report.scenarios if one.error is not None]
    return max(codes, default=DONE if report.completed else STOPPED)


async def _until_signalled(
    engine: ScenarioTriggerEngine, run: Coroutine[Any, Any, EngineReport]
) -> EngineReport | None:
    """Run to the end, or to the end of a page on a signal; None if a second signal ended it at once."""
    evaluation = asyncio.ensure_future(run)
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            print_note("ending after the running page; a second signal ends at once")
            engine.stop()
        else:
            evaluation.cancel()

    try:
        with handled_signals(on_signal):
            return await evaluation
    except asyncio.CancelledError:
        if not signals:
            raise
        return None


def _end_of(one: ScenarioReport) -> str:
    return "done" if one.completed else "failed" if one.error else "more to do"


def _reasons(one: ScenarioReport) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(one.skipped.items()))


def _figures(report: EngineReport) -> Figures:
    """Describe a run as a table: one row per scenario."""
    names = ("scenario", "evaluated", "due", "claimed", "skipped", "history", "pages", "seconds", "state")
    rows = [
        (
            str(one.scenario_type),
            *(f"{number:,}" for number in (one.evaluated, one.due, one.claimed, sum(one.skipped.values()))),
            *(f"{number:,}" for number in (one.history, one.pages)),
            f"{one.seconds:.1f}",
            _end_of(one),
        )
        for one in report.scenarios
    ]
    return Figures(names, rows, frozenset(names[1:-1]))


def _lines(report: EngineReport) -> Iterator[str]:
    """Describe a run: one line per scenario."""
    width = max(len(name) for name in (*ScenarioType, *(one.scenario_type for one in report.scenarios)))
    for one in report.scenarios:
        reasons = f" ({_reasons(one)})" if one.skipped else ""
        history = f"history {one.history:,}, " if one.history else ""
        end = "" if one.completed else f", {_end_of(one)}"
        yield (
            f"{one.scenario_type:<{width}}  evaluated {one.evaluated:,}, due {one.due:,}, claimed {one.claimed:,}, "
            f"skipped {sum(one.skipped.values()):,}{reasons}, "
            f"{history}{counted(one.pages, 'page')}, {one.seconds:.1f} s{end}"
        )


def _sums(report: EngineReport) -> Iterator[str]:
    claimed = sum(one.claimed for one in report.scenarios)
    verb = "would be claimed" if report.dry_run else "claimed"
    end = "" if report.completed else ", not finished"
    yield f"{claimed:,} {verb} in {report.seconds:.1f} s{end}"
    if report.history:
        yield f"{report.history:,} left out as history: it came true longer ago than due_within (--due-within)"


@contextmanager
def _progress(*, listed: bool) -> Iterator[Callable[[ScenarioType | str, EvaluationPage], None]]:
    """Print who is due as the pages come, if they are to be listed; show progress if standard error is a terminal."""

    def print_due(kind: ScenarioType | str, page: EvaluationPage) -> None:
        if listed:
            print_lines(f"{kind}  {mentor.user_id}  {mentor.organization_id}" for mentor in page.due_mentors)

    if not sys.stderr.isatty():
        yield print_due
        return
    with live(TextColumn("{task.completed:,} mentors evaluated, {task.fields[claimed]:,} claimed")) as bars:
        shown: dict[str, TaskID] = {}
        claimed: Counter[str] = Counter()

        def on_page(kind: ScenarioType | str, page: EvaluationPage) -> None:
            print_due(kind, page)
            if kind not in shown:
                shown[kind] = bars.add_task(kind, total=None, claimed=0)
            claimed[kind] += page.claimed
            bars.update(shown[kind], advance=page.evaluated, claimed=claimed[kind])
            if page.next_after is None:
                bars.update(shown[kind], total=max(bars.tasks[shown[kind]].completed, 1))

        yield on_page
