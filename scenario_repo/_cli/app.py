"""The app: every command in its place, and one line for whatever ends it early."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Final

import typer

from scenario_repo._cli import (
    console,
    deliver,
    evaluate,
    installation,
    left_out,
    notifications,
    outcomes,
    people,
    person,
    policies,
    project,
    report,
    rules,
    settings,
    simulate,
    status,
)
from scenario_repo._cli.endings import DONE, FAILED, STOPPED, USAGE
from scenario_repo._cli.output import forget_output, print_error, print_lines, print_note
from scenario_repo._cli.running import EPILOG
from scenario_repo._postgrest import SCHEMA_VERSION
from scenario_repo.exceptions import ScenarioRepositoryException

_WIDE: Final = 72
_INTERRUPTED: Final = 130
"""Typer's code of a Ctrl-C outside of a command, while it reads the arguments."""

app = typer.Typer(
    name="scenario-repo",
    epilog=EPILOG,
    pretty_exceptions_enable=False,  # a traceback may show a key
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (
    evaluate,
    deliver,
    status,
    console,
    left_out,
    report,
    outcomes,
    rules,
    notifications,
    people,
    person,
    settings,
    simulate,
    policies,
    installation,
    project,
):
    room.add_to(app)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        print_lines([f"scenario-repo {version('scenario_repo')}, which needs version {SCHEMA_VERSION} of the schema"])
        raise typer.Exit


@app.callback()
def start(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=lambda wanted: _print_version(wanted=wanted), is_eager=True,
            help="Print the versions of the library and of the schema that it needs.",
        ),
    ] = False,
) -> None:  # fmt: skip
    """Scenario notifications on Supabase: evaluate, deliver, look and operate."""


def run(arguments: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - one for each ending
    """Run one command, and return its exit code; whatever goes wrong is one line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:  # closed by the caller: `scenario-repo status >&-`
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process
    width = get_terminal_size().columns
    # In a narrow terminal the boxes would cut the options' names.
    app.rich_markup_mode = "markdown" if width >= _WIDE else None
    try:
        code = app(given, prog_name="scenario-repo", standalone_mode=False, terminal_width=width)
        sys.stdout.flush()
    except ScenarioRepositoryException as error:
        return print_error(error)
    except typer.TyperException as error:
        return _usage(error)
    except typer.Abort:
        code = _INTERRUPTED
    except BrokenPipeError:
        forget_output()
        return STOPPED
    except OSError as error:
        print_note(f"{type(error).__name__}: {error.strerror or 'no reason given'}")
        return FAILED
    except Exception as error:  # noqa: BLE001 - one line for a cron; the error's text may hold secrets
        print_note(f"failed unexpectedly with {type(error).__name__}")
        return FAILED
    if code == _INTERRUPTED:
        print_note("interrupted")
        return STOPPED
    return DONE if code is None else int(code)


def _usage(error: typer.TyperException) -> int:
    """Say in one line what was wrong with the usage, and where the help is."""
    context = getattr(error, "ctx", None)
    path = "scenario-repo" if context is None else context.command_path
    message = " ".join(error.format_message().split()).removesuffix(".")
    print_note(f"{message}; see `{path} --help`")
    return USAGE
