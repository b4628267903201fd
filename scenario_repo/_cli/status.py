"""scenario-repo status: how things stand, at one look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from scenario_repo._cli.endings import DONE
from scenario_repo._cli.output import Figures, print_figures, print_json, print_lines
from scenario_repo._cli.report import failure_lines
from scenario_repo._cli.running import command, database
from scenario_repo._cli.words import ago, counted, pending_line, setting_of
from scenario_repo.settings import ScenarioSettings
from scenario_repo.status import ScenarioStatus, Status


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "status")(status)


async def status(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> int:
    """Show how things stand: settings, passes, what is pending, and what failed lately."""
    async with database() as repository:
        found, settings = await repository.get_status(), await repository.get_settings()
    if as_json:
        print_json(found.model_dump(mode="json") | {"settings": [one.model_dump(mode="json") for one in settings]})
        return DONE
    print_figures(_backlog(found), "pending")
    print_lines([*_oldest(found), ""])
    print_figures(_passes(found), "the last pass over all organizations")
    print_lines(["", *_failures(found), ""])
    print_lines(["settings", *(_settings(one, found) for one in settings)])
    return DONE


def _backlog(found: Status) -> Figures:
    names = ("scenario", "pending", "due now", "waiting", "leased", "unsettled", "longest due")
    rows = [
        (
            str(one.scenario_type),
            *(f"{number:,}" for number in (one.pending, one.due_now, one.waiting, one.leased, one.unsettled)),
            ago(one.oldest_due_at),
        )
        for one in found.scenarios
    ]
    return Figures(names, rows, frozenset(names[1:-1]))


def _oldest(found: Status) -> Iterator[str]:
    yield pending_line(found.pending, found.oldest_due_at)


def _passes(found: Status) -> Figures:
    names = ("scenario", "evaluated", "due", "claimed", "skipped", "history", "seconds", "ended")
    rows = [
        (
            str(one.scenario_type),
            *(f"{number:,}" for number in (one.evaluated, one.due, one.claimed, one.skipped, one.history)),
            f"{one.seconds:.1f}",
            _end_of(one),
        )
        for one in found.scenarios
    ]
    return Figures(names, rows, frozenset(names[1:-1]))


def _end_of(one: ScenarioStatus) -> str:
    if one.is_under_way:
        return "under way"
    return ago(one.finished_at) or (
        f"of one: {ago(one.organization_pass_finished_at)}" if one.organization_pass_finished_at else "never"
    )


def _failures(found: Status) -> Iterator[str]:
    for title, in_a_day in (("24 hours", True), ("7 days", False)):
        lines = list(failure_lines(found.undelivered(in_a_day=in_a_day), found.withheld(in_a_day=in_a_day)))
        yield from (f"last {title}: {line}" for line in lines or ["nothing failed"])


def _settings(settings: ScenarioSettings, found: Status) -> str:
    overriding = next((one.overriding for one in found.scenarios if one.scenario_type == settings.scenario_type), 0)
    given = ", ".join(f"{name} {setting_of(value)}" for name, value in settings.changes.items() if value is not None)
    others = f"; {counted(overriding, 'organization')} of their own" if overriding else ""
    return f"{settings.scenario_type}: {given}{others}"
