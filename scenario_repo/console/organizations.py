"""One organization: how many were told of what, day by day, and why any were not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from scenario_repo.console import charts
from scenario_repo.console.overview import settings_text
from scenario_repo.console.tables import Cell, Table, numbers
from scenario_repo.console.text import shown
from scenario_repo.models import DeliveryStatus, OrganizationReport
from scenario_repo.settings import ScenarioSettings

DAYS: Final = (7, 30, 90, 365)
"""The lengths that the page offers."""
STATUSES: Final = (DeliveryStatus.SENT, DeliveryStatus.PENDING, DeliveryStatus.FAILED)
"""In the order in which the bars are stacked."""
_NAMES: Final = tuple(str(status) for status in STATUSES)


@dataclass(frozen=True)
class Figure:
    """A chart, and the table with the same numbers."""

    id: str
    drawn: Markup
    table: Table


def per_day(report: OrganizationReport) -> Figure:
    """Show how many were sent, are pending and failed, of each day on which they were triggered."""
    counts: Counter[tuple[date | None, str]] = Counter()
    for line in report.lines:
        counts[line.day, str(line.delivery_status)] += line.notifications or 0
    zone = ZoneInfo(report.time_zone)
    first, last = report.since.astimezone(zone).date(), report.until.astimezone(zone).date()
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    series = {status: [counts[day, status] for day in days] for status in _NAMES}
    labels = [str(day) for day in days]
    rows = [(label, *numbers(values)) for label, *values in zip(labels, *series.values(), strict=True)]
    together = [counts[None, status] for status in _NAMES]
    if any(together):
        rows.append(("days of fewer than 5, together", *numbers(together)))
    table = Table(f"Notifications per day ({zone.key})", ("day", *_NAMES), rows, frozenset(_NAMES))
    return Figure("per-day", charts.stacked([f"{day:%m-%d}" for day in days], series, name_id="per-day-name"), table)


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
        (code, meaning, f"{number:,}")
        for meaning, failed in (
            ("could not be delivered", report.undelivered()),
            ("decided not to tell", report.withheld()),
        )
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
