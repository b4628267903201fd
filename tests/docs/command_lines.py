"""Read a command line as ``scenario-repo`` does, without running it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

import typer

from scenario_repo._cli.app import app
from tests.factories import ORGANIZATION_ID, USER_ID

PLACEHOLDERS: Final = {
    "ID": str(USER_ID),
    "UUID": str(ORGANIZATION_ID),
    "USER_ID": str(USER_ID),
    "ORGANIZATION_ID": str(ORGANIZATION_ID),
    "NOTIFICATION_ID": str(USER_ID),
    "DIRECTORY": "supabase/migrations",
    "-": str(USER_ID),  # standard input
}
SENDERS: Final = ("app", "apns", "expo", "fcm", "mail")
"""The modules of the documents that hold a sender."""


class UnknownCommandError(AssertionError):
    """The command line does not know what a document shows."""


def parse(arguments: Sequence[str]) -> None:
    """Fail unless the command, its options and their values are known; a sender is taken to be there."""
    rest = [PLACEHOLDERS.get(argument, argument) for argument in arguments]
    for module in SENDERS:
        sys.modules[module] = _module_of_a_sender(module)
    command: Any = typer.main.get_command(app)
    context: Any = None
    try:
        name = "scenario-repo"
        while True:
            context = command.make_context(name, list(rest), parent=context)
            if not hasattr(command, "resolve_command"):
                return
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])  # noqa: SLF001
    except typer.Exit as ended:  # --help, --version
        if ended.exit_code:
            raise UnknownCommandError(" ".join(arguments)) from ended
    except Exception as error:
        raise UnknownCommandError(f"scenario-repo {' '.join(arguments)}") from error
    finally:
        for module in SENDERS:
            del sys.modules[module]


def _module_of_a_sender(name: str) -> ModuleType:
    async def send(notification: object, device: object = None) -> None:
        """Send nothing."""

    module = ModuleType(name)
    vars(module)["send"] = send
    return module
