"""scenario-repo: evaluation, delivery, operation and reports from a shell or a cron.

The door of the command line, whose rooms are in ``scenario_repo/_cli``. Settings come from the environment, as for
:func:`scenario_repo.connect`; a key is never an argument.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from scenario_repo._cli.endings import DONE, FAILED, STOPPED, UNAVAILABLE, USAGE

__all__ = ["DONE", "FAILED", "STOPPED", "UNAVAILABLE", "USAGE", "main"]

_EXTRA = {"typer", "rich"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code."""
    try:
        from scenario_repo._cli.app import run  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        remedy = "pip install 'scenario_repo[cli]'"
        print(f"scenario-repo: the command line needs its extra: {remedy}", file=sys.stderr)  # noqa: T201
        return USAGE
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
