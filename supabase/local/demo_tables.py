"""What the demo prints: tables, and under each what its figures mean."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_TEXTS = {
    "who asks",
    "worker",
    "scenario",
    "reason",
    "rests on",
    "to the sender",
    "entered",
    "names",
    "new",
    "who",
    "then",
    "outcome",
}
"""The columns of text, aligned left."""

console = Console()


def reasons(counts: Counter[object]) -> str:
    """Format counts as `cooldown 3, unknown_user 1`."""
    return ", ".join(f"{reason} {number}" for reason, number in sorted(counts.items(), key=str)) or "0"


def new_table(title: str, *columns: str) -> Table:
    """Print a table's title, and return the table with its numbers aligned right."""
    console.print(f"\n[bold]{title}[/bold]")
    table = Table()
    for column in columns:
        table.add_column(column, justify="left" if column in _TEXTS else "right")
    return table


def meaning(text: str) -> None:
    """Print what figures mean, below their table."""
    console.print(Padding(Text(text), (0, 0, 0, 2)), style="dim")
