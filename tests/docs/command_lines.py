"""Read a command line as ``scenario-repo`` does, without running it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from scenario_repo import _options, cli
from tests.factories import ORGANIZATION_ID, USER_ID

PLACEHOLDERS: Final = {
    "USER_ID": str(USER_ID),
    "ORGANIZATION_ID": str(ORGANIZATION_ID),
    "DIRECTORY": "supabase/migrations",
}


class UnknownCommandError(AssertionError):
    """The command line does not know what a document shows."""


def parse(arguments: Sequence[str]) -> None:
    """Fail unless the command, its options and their values are known; a sender need not be importable."""
    given = [PLACEHOLDERS.get(argument, argument) for argument in arguments]
    kept = {name: getattr(_options, name) for name in ("sender", "device_sender")}
    try:
        for name in kept:
            setattr(_options, name, _module_and_function)
        cli._parser().parse_args(given)  # noqa: SLF001 - what the command line itself asks
    except SystemExit as ended:
        if ended.code != 0:
            raise UnknownCommandError(f"scenario-repo {' '.join(arguments)}") from None
    finally:
        for name, function in kept.items():
            setattr(_options, name, function)


def _module_and_function(text: str) -> str:
    if not re.fullmatch(r"[a-z_.]+:[a-z_]+", text):
        raise ValueError(text)
    return text
