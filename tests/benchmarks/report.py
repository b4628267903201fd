"""What a run leaves behind: a table to read, JSON to compute with, a plot to look at."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Figure

RESULTS = Path(__file__).with_name("results")


def print_table(console: Console, figures: Sequence[Figure]) -> None:
    """Print all figures as one table."""
    table = Table(title="scenario_repo: medians; the ratio's range is that of the rounds")
    for name in ("section", "what", "size", "ours", "against", "theirs", "ratio", "range", "aim", "met"):
        table.add_column(
            name, justify="right" if name in {"size", "ours", "theirs", "ratio", "range", "aim"} else "left"
        )
    previous = None
    for figure in figures:
        if previous not in {None, figure.section}:
            table.add_section()
        table.add_row(*_cells(figure, repeated=figure.section == previous))
        previous = figure.section
    console.print(table)
    for figure in figures:
        if figure.note:
            size = f", {figure.size:,}" if figure.size else ""
            console.print(f"  {figure.section}: {figure.what}{size}: {figure.note}", highlight=False, markup=False)


def _cells(figure: Figure, *, repeated: bool) -> list[str]:
    return [
        "" if repeated else figure.section,
        figure.what,
        f"{figure.size:,}" if figure.size else "",
        quantity(figure.ours, figure.unit),
        figure.against,
        quantity(figure.theirs, figure.unit) if figure.theirs is not None else "",
        f"{_plain(figure.ratio)} x" if figure.ratio is not None else "",
        _range(figure),
        figure.aim,
        {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}[figure.met],
    ]


def _range(figure: Figure) -> str:
    if figure.low is None or figure.high is None or figure.rounds == 1:
        return ""
    if figure.ratio is not None:
        return f"{_plain(figure.low)}–{_plain(figure.high)}"  # noqa: RUF001 - a range
    return f"{quantity(figure.low, figure.unit)}–{quantity(figure.high, figure.unit)}"  # noqa: RUF001 - a range


def quantity(value: float, unit: str) -> str:
    """Write a value with its unit; seconds in whichever unit of time reads best."""
    if unit != "s":
        return f"{value:,.0f} {unit}" if abs(value) >= 100 or value == int(value) else f"{value:,.1f} {unit}"
    for factor, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= factor or name == "µs":
            return f"{value / factor:.3g} {name}" if value / factor < 1000 else f"{value / factor:,.0f} {name}"
    raise AssertionError


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def write_json(figures: Sequence[Figure], **about: object) -> Path:
    """Write the figures, with where and when they were taken."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "latest.json"
    content = {
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        **about,
        "figures": [figure.as_json() for figure in figures],
    }
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def machine() -> dict[str, object]:
    """Tell what kind of machine this is, and not which."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in _lines(info) if line.startswith("model name")]
    memory = [int(line.split()[1]) // 2**20 for line in _lines(Path("/proc/meminfo")) if line.startswith("MemTotal")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(models) or None,
        "memory_gib": memory[0] if memory else None,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.is_file() else []


def write_plot(figures: Sequence[Figure]) -> Path | None:
    """Draw every ratio that has an aim, in its own terms: below the line is better than aimed at."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - only here, and only if it is installed
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ImportError:
        return None
    mpl.use("svg")
    shown = [(figure, *_against_aim(figure)) for figure in figures if figure.met is not None]
    height = 1.2 + 0.24 * len(shown)
    drawing, axes = plt.subplots(figsize=(10, height))
    labels = [
        f"{figure.section}: {figure.what}" + (f", {figure.size:,}" if figure.size else "") for figure, *_ in shown
    ]
    for row, (figure, middle, low, high) in enumerate(shown):
        colour = "tab:green" if figure.met else "tab:red"
        axes.plot([low, high], [row, row], color=colour, linewidth=2, alpha=0.5)
        axes.plot([middle], [row], "o", color=colour, markersize=5)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(shown)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("measured ÷ aimed at, or the other way round where more is better: left of the line meets the aim")
    axes.grid(axis="x", alpha=0.3)
    drawing.tight_layout()
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "latest.svg"
    drawing.savefig(file, metadata={"Date": None})
    plt.close(drawing)
    return file


def _against_aim(figure: Figure) -> tuple[float, float, float]:
    """Return the median and extremes as shares of the aim."""
    sign, limit, *_ = figure.aim.split()
    values = [figure.ratio if figure.ratio is not None else figure.ours, figure.low, figure.high]
    smallest = float(limit) / 1e4
    shares = [max(value if value is not None else values[0] or 0, smallest) / float(limit) for value in values]
    if sign == "≥":
        shares = [1 / share for share in shares]
    return shares[0], min(shares), max(shares)
