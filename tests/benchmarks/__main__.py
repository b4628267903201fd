"""`python -m tests.benchmarks [--quick | --full | --huge] [--only SECTION]…`: measure, print a table, keep the figures.

Ends with 1 only if something is wrong (a duplicate claim, a wrong count, a section that broke), never because of
a time.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Sequence

from rich.console import Console

from tests.benchmarks import report
from tests.benchmarks.measure import Figure
from tests.benchmarks.setting import SETTINGS, Bench, Extent
from tests.postgres.server import postgres_server

SECTIONS = {
    "lookups": "tests.benchmarks.sections.lookups",
    "batch": "tests.benchmarks.sections.batch_lookups",
    "claims": "tests.benchmarks.sections.claims",
    "evaluation": "tests.benchmarks.sections.evaluation",
    "parallel": "tests.benchmarks.sections.parallel",
    "peers": "tests.benchmarks.sections.peers",
    "whole": "tests.benchmarks.sections.whole_job",
    "memory": "tests.benchmarks.sections.memory",
    "client": "tests.benchmarks.sections.client",
    "delivery": "tests.benchmarks.sections.delivery",
    "delivery_peers": "tests.benchmarks.sections.delivery_peers",
    "delivery_pressure": "tests.benchmarks.sections.delivery_pressure",
    "report": "tests.benchmarks.sections.report_speed",
    "without_statistics": "tests.benchmarks.sections.without_statistics",
    "privacy": "tests.benchmarks.sections.personal_data",
}

console = Console(width=None if sys.stdout.isatty() else 200)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure scenario_repo.")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument(
        "--quick", dest="extent", action="store_const", const="quick", help="small sizes, about a minute"
    )
    extent.add_argument("--full", dest="extent", action="store_const", const="full", help="up to 20 million rows")
    extent.add_argument(
        "--huge",
        dest="extent",
        action="store_const",
        const="huge",
        help="and 10 million mentors in parallel: an hour, and up to 80 GB of disk",
    )
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section alone (may be repeated)")
    options = parser.parse_args(arguments)
    # Claims in cooldown are what is measured: one warning for each would be the only thing to read.
    logging.getLogger("scenario_repo").addHandler(logging.NullHandler())
    logging.getLogger("scenario_repo").propagate = False
    # In their order: claims leave the shared history changed.
    return run(options.extent or "default", [name for name in SECTIONS if name in (options.only or SECTIONS)])


def run(extent: Extent, names: Sequence[str]) -> int:
    """Measure, and tell."""
    figures: list[Figure] = []
    broken: list[str] = []
    started = time.monotonic()
    with postgres_server(SETTINGS) as server:
        bench = Bench(server, extent)
        bench.migrate()
        for name in names:
            section_started = time.monotonic()
            try:
                for figure in _figures(name, bench):
                    figures.append(figure)
                    console.print(
                        f"  {figure.section}: {figure.what} {figure.size or ''}", style="dim", highlight=False
                    )
            except Exception:  # noqa: BLE001 - the other sections go on
                broken.append(name)
                console.print(f"{name} is BROKEN:\n{traceback.format_exc()}", style="red", markup=False)
            console.print(f"{name}: {time.monotonic() - section_started:.0f} s", style="bold")
    seconds = time.monotonic() - started
    report.print_table(console, figures)
    report.write_json(figures, extent=extent, seconds=round(seconds), broken=broken, postgresql=SETTINGS)
    drawn = report.write_plot(figures)
    console.print(
        f"{seconds:.0f} s on {report.machine()}; JSON{' and plot' if drawn else ''} in tests/benchmarks/results/"
    )
    if broken:
        console.print(f"BROKEN: {', '.join(broken)}", style="bold red")
    return 1 if broken else 0


def _figures(name: str, bench: Bench) -> Iterator[Figure]:
    try:
        module = importlib.import_module(SECTIONS[name])
    except ModuleNotFoundError as error:
        if error.name != SECTIONS[name]:
            raise
        console.print(f"{name}: there is no such section yet", style="yellow")
        return
    yield from module.measure(bench)


if __name__ == "__main__":
    sys.exit(main())
