"""A report as a picture: what an organization was sent, day by day, as an SVG that asks nothing of the outside."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any, Final
from xml.etree import ElementTree as ET

from scenario_repo.models import DeliveryStatus, OrganizationReport

_STATUSES: Final = (DeliveryStatus.SENT, DeliveryStatus.FAILED, DeliveryStatus.PENDING)
_COLOURS: Final = ("#2e7d32", "#c62828", "#f9a825")
_MOST_LABELS: Final = 12


def report_chart(report: OrganizationReport, days: Sequence[date]) -> bytes:
    """Draw bars of these days, as many high as there were, by what became of them.

    What is known of no single day, since fewer than 5 persons stand behind it, is in no bar; the title says so.

    Raises:
        ModuleNotFoundError: pygal is missing (the extra ``charts``).

    """
    pygal, style = _pygal()

    counts: dict[DeliveryStatus, Counter[date]] = {status: Counter() for status in _STATUSES}
    for line in report.lines:
        if line.delivery_status in counts and line.day is not None:
            counts[DeliveryStatus(line.delivery_status)][line.day] += line.notifications or 0
    few = "; without numbers of fewer than 5 persons" if any(line.day is None for line in report.lines) else ""
    chart = pygal.StackedBar(
        js=[],  # it would come from the outside
        style=style(colors=_COLOURS, font_family="sans-serif", background="white", plot_background="white"),
        title=f"Notifications per day ({report.time_zone}{few})",
        x_label_rotation=30,
        x_labels_major_every=max(1, -(-len(days) // _MOST_LABELS)),
        show_minor_x_labels=False,
        legend_at_bottom=True,
        value_formatter=lambda number: f"{number:,.0f}",
        width=960,
        height=420,
    )
    chart.x_labels = [day.isoformat() for day in days]
    for status, per_day in counts.items():
        chart.add(status.value, [per_day[day] for day in days])
    drawn = chart.render_tree()
    for parent in list(drawn.iter()):
        for script in [child for child in parent if str(child.tag).endswith("script")]:
            parent.remove(script)
    written: bytes = ET.tostring(drawn, encoding="utf-8", xml_declaration=True)
    return written


def _pygal() -> tuple[Any, Any]:
    """Import pygal and its style, without the finder of plugins that it would leave behind for every later import."""
    import pygal  # noqa: PLC0415 - an extra, and half a tenth of a second
    from pygal.style import Style  # noqa: PLC0415 - as above

    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
    return pygal, Style
