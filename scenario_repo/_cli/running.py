"""Commands are coroutines: what runs one, the database they share, and the signals."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, NoReturn, ParamSpec

import typer

from scenario_repo._cli.endings import STOPPED
from scenario_repo._cli.output import forget_output, print_note
from scenario_repo.client import connect
from scenario_repo.repository import ScenarioNotificationRepository

P = ParamSpec("P")

EPILOG: Final = """\
Settings come from the environment: SUPABASE_URL, the project's URL, and SUPABASE_SECRET_KEY, its secret key (or
SUPABASE_SECRET_KEYS, or SUPABASE_SERVICE_ROLE_KEY). A TIME is a number of seconds, or a number and its unit: 90, 15m,
2h, 30d.

Exit codes:

- 0: done

- 1: stopped before the end, by the time budget or a signal: the next run continues there; of verify: not whole

- 2: wrong usage, settings or key; trying again changes nothing

- 3: the database is unavailable; try again later

- 4: refused or failed: no permission, migrations missing, or anything else
"""

Command = Callable[P, Coroutine[Any, Any, int]]


def command(app: typer.Typer, name: str) -> Callable[[Command[P]], Command[P]]:
    """Add a coroutine to the app; its docstring is the help, its answer the exit code."""

    def add(coroutine: Command[P]) -> Command[P]:
        @functools.wraps(coroutine)
        def run(*args: P.args, **kwargs: P.kwargs) -> int:
            # Before Typer sees them, which has exit codes of its own for them.
            try:
                return asyncio.run(coroutine(*args, **kwargs))
            except KeyboardInterrupt:
                print_note("interrupted")
            except BrokenPipeError:
                forget_output()
            return STOPPED

        app.command(name, epilog=EPILOG)(run)
        return coroutine

    return add


@asynccontextmanager
async def database() -> AsyncIterator[ScenarioNotificationRepository]:
    """Open the project of the environment."""
    async with connect() as client:
        yield ScenarioNotificationRepository(client)


@contextmanager
def handled_signals(handler: Callable[[], None]) -> Iterator[None]:
    """Call the handler on SIGTERM and on SIGINT, as long as the block runs."""
    loop = asyncio.get_running_loop()
    # On Windows, Ctrl-C cancels the task; in a thread, signals are the main thread's.
    with suppress(NotImplementedError, RuntimeError):
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError):
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def end_by_force(code: int) -> NoReturn:
    """End the process though a send ignores its cancellation, for which the event loop would wait for ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
