"""Charts, drawn here as SVG by pygal; the browser gets no script and no style with them.

pygal's own scripts, styles and tooltips are taken out, as the pages' content policy would refuse them: console.css has
the colours, light and dark. A chart is an image with a name; the table beside it has the same numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final
from xml.etree import ElementTree as ET

import pygal
from markupsafe import Markup
from pygal.style import Style

# pygal looks for maps in the old way, about which Python 3.11 warns at every import of whatever else.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
ET.register_namespace("", "http://www.w3.org/2000/svg")

_SVG: Final = "{http://www.w3.org/2000/svg}"
_UNWANTED: Final = frozenset({"script", "style", "title", "desc", "defs"})
_MOST_STEPS: Final = 5
_MOST_LABELS: Final = 8
_WIDTH: Final = 720
_FONT_SIZE: Final = 14.0


def stacked(labels: Sequence[str], series: Mapping[str, Sequence[int]], *, name_id: str) -> Markup:
    """Draw upright stacked bars, one for each label; ``name_id`` is the id of the element that names the chart."""
    every = -(-len(labels) // _MOST_LABELS) or 1
    chart = pygal.StackedBar(
        _config(height=220, labels=labels, series=series),
        x_labels_major_every=every,
        show_minor_x_labels=False,
    )
    return _drawn(chart, series, name_id)


def lying(labels: Sequence[str], series: Mapping[str, Sequence[int]], *, name_id: str) -> Markup:
    """Draw lying stacked bars, one for each label from the top; ``name_id`` as for :func:`stacked`."""
    chart = pygal.HorizontalStackedBar(_config(height=60 + 30 * len(labels), labels=labels[::-1], series=series))
    return _drawn(chart, {name: values[::-1] for name, values in series.items()}, name_id)


def _config(*, height: int, labels: Sequence[str], series: Mapping[str, Sequence[int]]) -> pygal.Config:
    steps = steps_to(max((sum(bar) for bar in zip(*series.values(), strict=True)), default=0))
    return pygal.Config(
        width=_WIDTH,
        margin_bottom=0,
        height=height,
        style=Style(label_font_size=_FONT_SIZE, major_label_font_size=_FONT_SIZE),
        js=[],
        css=[],
        show_legend=False,
        explicit_size=False,
        disable_xml_declaration=True,
        print_values=False,
        truncate_label=-1,
        x_labels=list(labels),
        y_labels=steps,
        range=(0, steps[-1]),
        value_formatter=lambda value: f"{value:,.0f}",
    )


def steps_to(most: int) -> list[int]:
    """Return the marks of an axis that reaches up to a number: whole, and at most five above 0."""
    size = 1
    while True:
        for step in (size, 2 * size, 5 * size):
            if step * _MOST_STEPS >= most:
                return list(range(0, max(most, 1) + step, step))[: _MOST_STEPS + 1]
        size *= 10


def _drawn(chart: pygal.Graph, series: Mapping[str, Sequence[int]], name_id: str) -> Markup:
    for name, values in series.items():
        chart.add(name, list(values))
    # As text, since pygal's tree is lxml's where that is installed.
    tree = ET.fromstring(chart.render(is_unicode=True))  # noqa: S314 - what pygal has just written
    _clear(tree)
    del tree.attrib["id"]  # a new one each time
    tree.set("role", "img")
    tree.set("aria-labelledby", name_id)
    return Markup(ET.tostring(tree, encoding="unicode"))  # noqa: S704 - written by ElementTree, which escapes


def _clear(element: ET.Element) -> None:
    """Take out what is no drawing: scripts, styles, bars of 0, and tooltips (its comments are gone already)."""
    element.attrib.pop("style", None)
    for child in list(element):
        if child.tag.removeprefix(_SVG) in _UNWANTED or "tooltip-overlay" in child.get("class", "") or _is_flat(child):
            element.remove(child)
        else:
            _clear(child)


def _is_flat(element: ET.Element) -> bool:
    if element.get("class") != "bar":
        return False
    return any(float(one.get("width", 1)) * float(one.get("height", 1)) == 0 for one in element)
