"""The steps that telemetry may watch: what is asked, evaluated, leased, sent and settled.

Whoever takes a step says so here, in counts, codes and ids of notifications. Unless a watcher is set
(:mod:`scenario_repo.telemetry`), that costs a look at a variable.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import Final, Protocol


class Step(StrEnum):
    """A kind of step."""

    REQUEST = "request"
    """One request to the database: ``operation``."""
    RUN = "run"
    """One run of the engine: ``dry_run``; then ``claimed`` and ``completed``."""
    PAGE = "page"
    """One page of it: ``scenario_type``, ``page_size`` and ``dry_run``; then the page's counts."""
    LEASE = "lease"
    """One lease of a worker; then ``leases``, an id and a number each."""
    SEND = "send"
    """One attempt to send: ``lease``, ``scenario_type`` and ``attempt``; then ``result`` and ``failure``."""
    SETTLE = "settle"
    """One settlement: ``leases``; then ``answers``, counted."""


class Watched(Protocol):
    """A step that is being taken."""

    def note(self, **facts: object) -> None:
        """Say what came of it."""


class Watcher(Protocol):
    """Whoever watches; an error that ends a step passes through it."""

    def watch(self, step: Step, **facts: object) -> AbstractContextManager[Watched]:
        """Watch a step from its begin to its end."""


class _Unwatched:
    def note(self, **facts: object) -> None:
        """Take no notice."""


_UNWATCHED: Final[AbstractContextManager[Watched]] = nullcontext(_Unwatched())
_watcher: Watcher | None = None


def set_watcher(watcher: Watcher | None) -> None:
    """Let it watch every step from now on, in this process; None: nobody."""
    global _watcher  # noqa: PLW0603 - one for the process, as OpenTelemetry's providers are
    _watcher = watcher


def watch(step: Step, **facts: object) -> AbstractContextManager[Watched]:
    """Take a step; what is noted in it says what came of it."""
    return _UNWATCHED if _watcher is None else _watcher.watch(step, **facts)
