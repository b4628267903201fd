"""``python -m scenario_repo.testing``: set up the local Supabase, as the first test on it would."""

from __future__ import annotations

import sys

from scenario_repo.testing.embedded_stack import IS_CHECKOUT, EmbeddedStackError, folder, install


def main() -> int:
    """Install the Node packages; return the exit status."""
    try:
        install(bring_node=IS_CHECKOUT)
    except EmbeddedStackError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return 1
    print(f"the local Supabase is set up in {folder()}")  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
