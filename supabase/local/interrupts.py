"""Ctrl-C is one line, at any moment: also while modules are imported. Standard library only, and imported first."""

from __future__ import annotations

import os
import sys
from types import TracebackType

LINE = "stopped; nothing is left running"


def end_in_one_line() -> None:
    """End the program with one line when an interrupt has passed everything that had to be stopped.

    Under make its own status is enough: make was interrupted too, and would add a line about another one.
    """
    as_usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            as_usual(kind, error, traceback)
            return
        _end()

    def unraisable(event: sys.UnraisableHookArgs) -> None:
        # An interrupt inside a callback of the interpreter would be lost, with a traceback.
        if issubclass(event.exc_type, KeyboardInterrupt):
            _end()
        sys.__unraisablehook__(event)

    sys.excepthook = hook
    sys.unraisablehook = unraisable


def _end() -> None:
    print(f"\n{LINE}" if sys.stdout.isatty() else LINE, flush=True)
    os._exit(0 if "MAKELEVEL" in os.environ else 130)
