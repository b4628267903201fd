"""How things are measured: contestants in turns, medians, and ratios within one round.

A machine is never quiet for long. Contestants therefore take turns (A B, B A, A B, …), a ratio is taken within each
round, and its median is told together with the lowest and the highest of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

Contestant = Callable[[], float]
"""Prepares whatever it needs, does its work once and returns the seconds of the work alone."""


class BrokenError(AssertionError):
    """Something is wrong, not slow: a duplicate claim, a wrong count."""


def require(condition: object, message: str) -> None:
    """Raise BrokenError unless the condition holds."""
    if not condition:
        raise BrokenError(message)


@dataclass(frozen=True)
class Aim:
    """What a ratio should be. Missing it fails nothing."""

    limit: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:.3g}"

    def is_met(self, value: float) -> bool:
        """Tell whether the value is what it should be."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Figure:
    """One line of the table: what was measured, against what, and whether that is what it should be.

    `ratio` is ours ÷ theirs, or theirs ÷ ours where it tells how many times better ours is. `low` and
    `high` are the ratio's extremes over the rounds (or, without a ratio, those of ours).
    """

    section: str
    what: str
    size: int | None
    ours: float
    unit: str
    against: str = ""
    theirs: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 1
    aim: str = ""
    met: bool | None = None
    note: str = ""

    def as_json(self) -> dict[str, object]:
        """Return what is written to the results."""
        return asdict(self)


def timed(work: Callable[[], object]) -> float:
    """Do the work once and return its seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def contest(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """Let the contestants take turns, and return the seconds of each, round by round."""
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            seconds[name].append(contestants[name]())
    return seconds


def compared(  # noqa: PLR0913 - the columns of the table
    section: str,
    what: str,
    size: int | None,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    against: str,
    unit: str = "s",
    aim: Aim | None = None,
    times_better: bool = False,
    note: str = "",
) -> Figure:
    """Make the figure of a contest of two, the aim being one on their ratio."""
    ratios = [b / a if times_better else a / b for a, b in zip(ours, theirs, strict=True)]
    ratio = median(ratios)
    return Figure(
        section,
        what,
        size,
        median(ours),
        unit,
        against,
        median(theirs),
        ratio,
        min(ratios),
        max(ratios),
        rounds=len(ratios),
        aim=str(aim or ""),
        met=aim.is_met(ratio) if aim else None,
        note=note,
    )


def single(  # noqa: PLR0913 - the columns of the table
    section: str,
    what: str,
    size: int | None,
    ours: Sequence[float],
    *,
    unit: str = "s",
    aim: Aim | None = None,
    note: str = "",
) -> Figure:
    """Make the figure of a measurement that stands for itself, the aim being one on its value."""
    value = median(ours)
    return Figure(
        section,
        what,
        size,
        value,
        unit,
        low=min(ours),
        high=max(ours),
        rounds=len(ours),
        aim=f"{aim} {unit}" if aim else "",
        met=aim.is_met(value) if aim else None,
        note=note,
    )
