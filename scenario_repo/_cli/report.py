"""scenario-repo report: an organization's figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import typer

from scenario_repo._cli import values
from scenario_repo._cli.charts import report_chart
from scenario_repo._cli.endings import DONE
from scenario_repo._cli.output import Figures, can_print, print_figures, print_json, print_lines, print_note
from scenario_repo._cli.running import command, database
from scenario_repo._cli.words import not_counted
from scenario_repo._limits import MAX_DAYS
from scenario_repo.models import DeliveryStatus, OrganizationReport, ReportLine, ScenarioType

_BAR_WIDTH: Final = 40
_UTC: Final = ZoneInfo("UTC")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "report")(report)


async def report(  # noqa: PLR0913 - one for each option
    organization_id: Annotated[UUID, typer.Argument(metavar="ORGANIZATION_ID", show_default=False)],
    *,
    days: Annotated[int, typer.Option(min=1, max=MAX_DAYS, metavar="N", help="Today and the days before it.")] = 30,
    time_zone: Annotated[
        ZoneInfo,
        typer.Option(
            parser=values.time_zone, metavar="ZONE", help="Whose days, such as Europe/Oslo.", show_default="UTC"
        ),
    ] = _UTC,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: a line for each day, type, status and code.")
    ] = False,
    chart: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Draw the days into this SVG file.", show_default="no chart"),
    ] = None,
) -> int:
    """Count an organization's notifications per scenario type, status and day, and why any failed.

    A number that fewer than 5 persons stand behind is left out: such days are
    put together, without a date.
    """
    if as_json and as_csv:
        raise typer.BadParameter("expected --json or --csv, got both")
    until = datetime.now(time_zone)
    first = until.date() - timedelta(days=days - 1)
    since = datetime.combine(first, time(), time_zone)
    async with database() as repository:
        counted = await repository.get_organization_report(organization_id, since, until, time_zone.key)
    shown = [first + timedelta(days=number) for number in range(days)]
    if chart is not None:
        _draw(chart, counted, shown)
    if as_json:
        failed = {"undelivered": counted.undelivered(), "withheld": counted.withheld()}
        print_json(counted.model_dump(mode="json") | failed)
    elif as_csv:
        print_lines(_csv(counted))
    else:
        print_figures(_figures(counted))
        print_lines(failure_lines(counted.undelivered(), counted.withheld()))
        print_lines(not_counted(counted.not_counted()))
        print_lines(["", *_days(counted, shown)])
    return DONE


def _draw(file: Path, counted: OrganizationReport, days: Sequence[date]) -> None:
    try:
        drawn = report_chart(counted, days)
    except ModuleNotFoundError:
        raise typer.BadParameter("a chart needs pygal: pip install 'scenario_repo[charts]'") from None
    file.write_bytes(drawn)
    print_note(f"drew {file}")


def _csv(counted: OrganizationReport) -> Iterator[str]:
    """Write a line for each line of the report, after their names. No value needs quotes: dates, codes and numbers."""
    names = tuple(ReportLine.model_fields)
    yield ",".join(names)
    for line in counted.lines:
        row = line.model_dump(mode="json")
        yield ",".join("" if row[name] is None else str(row[name]) for name in names)


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


def _days(counted: OrganizationReport, days: Sequence[date]) -> Iterator[str]:
    """Show a bar for every day."""
    per_day: Counter[date] = Counter()
    together = 0
    for line in counted.lines:
        if line.day is None:
            together += line.notifications or 0
        else:
            per_day[line.day] += line.notifications or 0
    most = max(per_day.values(), default=0)
    bar = "█" if can_print("█") else "#"
    for day in days:
        length = -(-per_day[day] * _BAR_WIDTH // most) if most else 0
        yield f"{day}  {bar * length}{' ' * bool(length)}{per_day[day]:,}"
    if together:
        yield f"days of fewer than 5 persons, together  {together:,}"
