"""What a command prints: tables and colours on a terminal, plain lines in a pipe, JSON on request, notes aside.

Results go to standard output, notes and progress to standard error. rich knows NO_COLOR, the width and the encoding.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from scenario_repo._cli.endings import code_of, line_of
from scenario_repo.exceptions import ScenarioRepositoryException

_GAP: Final = "  "
_STYLES: Final = {
    "pending": "yellow",
    "sent": "green",
    "failed": "red",
    "due": "green",
    "leased": "cyan",
    "done": "green",
    "more to do": "yellow",
    "yes": "green",
    "no": "yellow",
}
"""The colours of words that say how something stands."""


@dataclass(frozen=True)
class Figures:
    """Rows under names; the columns of ``numbers`` are aligned at their right, those ``asked`` for are known."""

    names: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()

    @property
    def widths(self) -> list[int]:
        """The width of each column."""
        return [max(len(cell) for cell in column) for column in zip(self.names, *self.rows, strict=True)]

    def unasked(self) -> Figures:
        """Leave out what the reader asked for, and so knows: the scenario or the organization."""
        kept = [place for place, name in enumerate(self.names) if name not in self.asked]
        names = tuple(self.names[place] for place in kept)
        return Figures(names, [tuple(row[place] for place in kept) for row in self.rows], self.numbers)

    def lines(self) -> Iterator[str]:
        """Write it in plain columns, each as wide as its widest cell."""
        widths = self.widths
        for row in (self.names, *self.rows):
            cells = [
                cell.rjust(width) if name in self.numbers else cell.ljust(width)
                for name, cell, width in zip(self.names, row, widths, strict=True)
            ]
            yield _GAP.join(cells).rstrip()


def print_figures(figures: Figures, title: str | None = None) -> None:
    """Print a table on a terminal, or where it is too narrow one field a line; plain columns in a pipe."""
    if not is_terminal():
        print_lines([*([title] if title else []), *figures.lines()])
        return
    console = Console(highlight=False)
    figures = figures.unasked()
    if sum(figures.widths) + 3 * len(figures.widths) > console.width:
        _print_records(console, figures, title)
        return
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for name in figures.names:
        table.add_column(name, justify="right" if name in figures.numbers else "left", no_wrap=True)
    for row in figures.rows:
        table.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in row))
    console.print(table)


def _print_records(console: Console, figures: Figures, title: str | None) -> None:
    width = max(map(len, figures.names))
    if title:
        console.print(Text(title, "bold"))
    for number, row in enumerate(figures.rows):
        if number:
            console.print()
        for name, cell in zip(figures.names, row, strict=True):
            if not name:
                console.print(Text(cell, "bold"), soft_wrap=True)
            elif cell:
                console.print(Text(f"{name:<{width}}", "bold"), Text(cell, _STYLES.get(cell, "")), soft_wrap=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print plain lines, as they are."""
    for line in lines:
        print(line)  # noqa: T201


def print_json(value: object) -> None:
    """Print JSON for a program; models become objects."""
    print(json.dumps(value, indent=2, default=_dumped))  # noqa: T201


def _dumped(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(type(value).__name__)


def print_note(text: str) -> None:
    """Print one line for the operator to standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(Text("scenario-repo: ", "dim") + Text(text, "not dim"), soft_wrap=True)


def print_error(error: ScenarioRepositoryException, about: str | None = None) -> int:
    """Print an error and its remedy in one line, and return its exit code."""
    print_note(line_of(error, about))
    return code_of(error, about)


def forget_output() -> None:
    """Let the rest of standard output go nowhere: its reader has gone, and Python's flush at exit must not raise."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_terminal() -> bool:
    """Whether somebody reads standard output on a terminal."""
    return sys.stdout.isatty()


def can_print(text: str) -> bool:
    """Whether standard output has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def counted(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show how far a long run is, of the total if it is known; in a pipe, nothing. Yields what tells the count."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with live(MofNCompleteColumn() if total is not None else TextColumn("{task.completed:,}")) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done)


def live(*columns: ProgressColumn) -> Progress:
    """Make bars on standard error, with these columns behind each; what is printed meanwhile stays above them."""
    # rich would take standard output along, also where that is a pipe.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(20),
        *columns,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=is_terminal(),
    )
