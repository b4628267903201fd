"""What keeping personal data out costs, and how well it tells: the figures of tests/benchmarks/privacy.py."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks import privacy
from tests.benchmarks.measure import Figure, single
from tests.benchmarks.setting import Bench

SECTION = "personal data"


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure on a server of its own; left out when it has to be quick."""
    if bench.extent == "quick":
        return
    figures = privacy.measure()
    for where, quality in figures["quality"].items():
        yield single(SECTION, f"precision, {where}", None, [100 * quality["precision"]], unit="%")
        for kind, recall in quality["recall"].items():
            yield single(SECTION, f"recall of {kind}, {where}", None, [100 * recall], unit="%")
    for name, cost in figures["cost"].items():
        yield single(SECTION, f"search by the library, {name}", None, [cost["library_us"] / 1e6])
        yield single(
            SECTION,
            f"constraint in the database, {name}",
            None,
            [cost["constraint_us"] / 1e6],
            note=f"{cost['ratio']:.2f} times the INSERT without it",
        )
