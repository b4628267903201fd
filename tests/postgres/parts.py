"""What a test needs from the PostgreSQL installation, beyond the server; and a browser.

A test says so with ``@pytest.mark.needs("pg_dump")``. PostgreSQL 15 is the version with every part: where one is
missing there, the test is skipped loudly, and fails in CI. The other versions come as a server alone; what needs more
is deselected, and the head of the report lists it with its reason.
"""

from __future__ import annotations

import os
from collections import defaultdict

import pytest

from tests.postgres.install import FULL_VERSION, MAJOR_VERSION, WITHOUT, missing_parts

MARKER = "needs(*parts): parts of the installation without which the test can't run"


def left_out() -> dict[str, list[str]]:
    """Return what is deselected on this version: the tests, and the parts that are missing."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for part in missing_parts() if MAJOR_VERSION != FULL_VERSION else ():
        if part in WITHOUT:
            reasons[WITHOUT[part]].append(part)
    return dict(reasons)


def deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out the tests that this version can't run."""
    absent = {part for parts in left_out().values() for part in parts}
    without = [item for item in items if absent & _needed(item)]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in set(without)]


def require_parts(item: pytest.Item) -> None:
    """Skip the test loudly where a part of the full installation is missing; fail in CI."""
    needed = _needed(item)
    missing = sorted(needed & set(missing_parts())) if needed else []
    if not missing:
        return
    message = f"missing: {', '.join(missing)}; run `python tests/postgres/install.py` as root"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _needed(item: pytest.Item) -> set[str]:
    return {part for marker in item.iter_markers("needs") for part in marker.args}
