"""Memory: the peak of a process that delivers or evaluates a thousand rows, and of one that goes through a million."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.measure import Aim, Figure, compared, require
from tests.benchmarks.setting import Bench

SECTION = "memory"
FLAT = Aim(1.05)
FEW = 1_000


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure processes of their own, in turns: a peak never falls."""
    sizes = {
        "worker": ("DeliveryWorker", bench.choose(quick=10_000, default=100_000, full=1_000_000)),
        "engine": ("ScenarioTriggerEngine", bench.choose(quick=100_000, default=1_000_000)),
    }
    for work, (name, many) in sizes.items():
        peaks: dict[int, list[float]] = {FEW: [], many: []}
        for _ in range(bench.choose(quick=1, default=3)):
            for rows, found in peaks.items():
                found.append(_peak_mib(work, rows))
        grown = [(one - other) * 1024 for one, other in zip(peaks[many], peaks[FEW], strict=True)]
        yield compared(
            SECTION,
            f"peak of a process with a {name}",
            many,
            peaks[many],
            peaks[FEW],
            unit="MiB",
            against=f"{FEW:,} rows",
            aim=FLAT,
            note=f"{max(grown):,.0f} KiB more at most; with the interpreter and every import",
        )


def _peak_mib(work: str, rows: int) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.memory_process", work, str(rows)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    answer = json.loads(done.stdout)
    require(answer["through"] == rows, f"{work}: {answer['through']} of {rows} rows came through")
    return float(answer["peak_kib"]) / 1024
