"""scenario-repo report: an organization's figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final
from uuid import UUID

import typer

from scenario_repo._cli.endings import DONE
from scenario_repo._cli.output import Figures, can_print, print_figures, print_json, print_lines
from scenario_repo._cli.running import command, database
from scenario_repo._limits import MAX_DAYS
from scenario_repo.models import DeliveryStatus, OrganizationReport, ScenarioType

_BAR_WIDTH: Final = 40


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "report")(report)


async def report(
    organization_id: Annotated[UUID, typer.Argument(metavar="ORGANIZATION_ID", show_default=False)],
    *,
    days: Annotated[
        int, typer.Option(min=1, max=MAX_DAYS, metavar="N", help="Today and the days before it, in UTC.")
    ] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Count an organization's notifications per scenario type, status and day, and why any failed."""
    until = datetime.now(UTC)
    since = datetime.combine(until.date() - timedelta(days=days - 1), time(), UTC)
    async with database() as repository:
        counted = await repository.get_organization_report(organization_id, since, until)
    if as_json:
        failed = {"undelivered": counted.undelivered(), "withheld": counted.withheld()}
        print_json(counted.model_dump(mode="json") | failed)
        return DONE
    print_figures(_figures(counted))
    print_lines(failure_lines(counted.undelivered(), counted.withheld()))
    print_lines(["", *_days(counted)])
    return DONE


def failure_lines(undelivered: dict[str, int], withheld: dict[str, int]) -> Iterator[str]:
    """Say why notifications failed: what could not be delivered, and what it was decided not to tell."""
    for title, failed in (("could not be delivered", undelivered), ("not to be told", withheld)):
        if failed:
            codes = ", ".join(f"{code} {number:,}" for code, number in failed.items())
            yield f"failed, {title}: {sum(failed.values()):,} ({codes})"


def _figures(counted: OrganizationReport) -> Figures:
    statuses = list(DeliveryStatus)
    kinds = dict.fromkeys([*ScenarioType, *sorted(line.scenario_type for line in counted.lines)])
    names = ("", *statuses, "total")
    rows = [
        (kind or "total", *(f"{counted.count(kind, status):,}" for status in (*statuses, None)))
        for kind in (*kinds, None)
    ]
    return Figures(names, rows, frozenset(names[1:]))


def _days(counted: OrganizationReport) -> Iterator[str]:
    """Show a bar for every day."""
    per_day: Counter[date] = Counter()
    for line in counted.lines:
        per_day[line.day] += line.notifications
    most = max(per_day.values(), default=0)
    bar = "█" if can_print("█") else "#"
    first, last = counted.since.astimezone(UTC).date(), counted.until.astimezone(UTC).date()
    for day in (first + timedelta(days=number) for number in range((last - first).days + 1)):
        length = -(-per_day[day] * _BAR_WIDTH // most) if most else 0
        yield f"{day}  {bar * length}{' ' * bool(length)}{per_day[day]:,}"
