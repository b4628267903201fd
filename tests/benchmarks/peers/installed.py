"""Which peers can be had here."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from tests.benchmarks.peers.node_peers import NodeMissingError, install


def installed(section: str, python: str, node: str) -> list[Any]:
    """Return the contestants of two modules beside this one, of those that are installed; say loudly who is not."""
    found: list[Any] = []
    try:
        found += importlib.import_module(f"{__package__}.{python}").CONTESTANTS
    except ImportError as error:
        say(section, f"WITHOUT procrastinate and pgqueuer: {error} (dependency group `bench`)")
    try:
        install()
        found += importlib.import_module(f"{__package__}.{node}").CONTESTANTS
    except NodeMissingError as error:
        say(section, f"WITHOUT pg-boss and graphile-worker: {error}")
    return found


def say(section: str, text: str) -> None:
    """Tell whoever watches the run."""
    print(f"  {section}: {text}", file=sys.stderr, flush=True)  # noqa: T201 - loudly
