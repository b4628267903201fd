"""One organization: how many were told of what, day by day, and why any were not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from scenario_repo._cli.past import failed_because
from scenario_repo.console import charts
from scenario_repo.console.overview import settings_text
from scenario_repo.console.tables import Cell, Table, numbers
from scenario_repo.console.text import shown
from scenario_repo.models import DeliveryStatus, OrganizationReport
from scenario_repo.settings import ScenarioSettings

DAYS: Final = (7, 30, 90, 365)
"""The lengths that the page offers."""
_MOST_DAYS: Final = 100
"""How many days have a bar each; more days have one for each week, and more weeks one for each month."""
STATUSES: Final = (DeliveryStatus.SENT, DeliveryStatus.PENDING, DeliveryStatus.FAILED)
"""In the order in which the bars are stacked."""
_NAMES: Final = tuple(str(status) for status in STATUSES)


@dataclass(frozen=True)
class Figure:
    """A chart, and the table with the same numbers."""

    id: str
    drawn: Markup
    table: Table
    is_over_time: bool = False
    """Whether the newest is at its right."""
    note: str = ""
    """What its bars leave out."""


def over_time(report: OrganizationReport) -> Figure:
    """Show how many were sent, are pending and failed, of each day, week or month in which they were triggered."""
    zone = ZoneInfo(report.time_zone)
    first, last = report.since.astimezone(zone).date(), report.until.astimezone(zone).date()
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    step = "day" if len(days) <= _MOST_DAYS else "week" if len(days) <= _MOST_DAYS * 7 else "month"
    counts: Counter[tuple[date | None, str]] = Counter()
    for line in report.lines:
        start = None if line.day is None else _first_day(line.day, step)
        counts[start, str(line.delivery_status)] += line.notifications or 0
    starts = list(dict.fromkeys(_first_day(day, step) for day in days))
    series = {status: [counts[start, status] for start in starts] for status in _NAMES}
    dates = [f"{start:%Y-%m}" if step == "month" else str(start) for start in starts]
    rows = [(label, *numbers(values)) for label, *values in zip(dates, *series.values(), strict=True)]
    together = [counts[None, status] for status in _NAMES]
    note = ""
    if any(together):
        note = f"Not in the bars: {sum(together):,} of days on which fewer than 5 persons stand behind a number."
        rows.append(("days of fewer than 5, together", *numbers(together)))
    name = f"week, from Monday ({zone.key})" if step == "week" else f"{step} ({zone.key})"
    table = Table(f"Notifications per {name}", (step, *_NAMES), rows, frozenset(_NAMES))
    labels = [f"{start:%b %Y}" if step == "month" else f"{start.day} {start:%b}" for start in starts]
    drawn = charts.stacked(labels, series, name_id="over-time-name")
    return Figure("over-time", drawn, table, is_over_time=True, note=note)


def _first_day(day: date, step: str) -> date:
    """Return the first day of the bar that a day belongs to."""
    match step:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case _:
            return day


def per_scenario(report: OrganizationReport) -> Figure:
    """Show how many were sent, are pending and failed, of each scenario."""
    kinds = sorted({str(line.scenario_type) for line in report.lines})
    series = {str(status): [report.count(kind, status) for kind in kinds] for status in STATUSES}
    rows = [(kind, *numbers(values)) for kind, *values in zip(kinds, *series.values(), strict=True)]
    table = Table("Notifications per scenario", ("scenario", *_NAMES), rows, frozenset(_NAMES))
    drawn = charts.lying([shown(kind) for kind in kinds], series, name_id="per-scenario-name")
    return Figure("per-scenario", drawn, table)


def reasons(report: OrganizationReport) -> Table:
    """Show why notifications failed: what could not be delivered, and what it was decided not to tell."""
    rows = [
        (code, failed_because(code, was_withheld=was_withheld), f"{number:,}")
        for was_withheld, failed in ((False, report.undelivered()), (True, report.withheld()))
        for code, number in failed.items()
    ]
    names = ("code", "what it means", "notifications")
    return Table("Why they failed", names, rows, frozenset({"notifications"}), empty="None failed.")


def overrides(found: Iterable[ScenarioSettings]) -> Table:
    """Show the settings that the organization has of its own."""
    rows: list[tuple[Cell, ...]] = [
        (str(one.scenario_type), {None: "as by default", True: "yes", False: "no"}[one.is_enabled], settings_text(one))
        for one in found
        if one.organization_id is not None
    ]
    return Table(
        "Settings of its own",
        ("scenario", "enabled", "settings"),
        rows,
        empty="None: the default settings apply.",
    )
