"""The values of the command line's options: text to type, or the one sentence that argparse shows."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from scenario_repo import _arguments
from scenario_repo.delivery import Send
from scenario_repo.exceptions import InvalidDataException
from scenario_repo.models import ScenarioType


def own_scenario_type(text: str) -> str:
    """Take the name of a scenario type of the app's own."""
    name = scenario_type(text)
    if isinstance(name, ScenarioType):
        raise argparse.ArgumentTypeError("expected a name of the app's own, got a built-in scenario type")
    if name.startswith("repo_"):
        raise argparse.ArgumentTypeError("expected a name that does not begin with repo_, as scenario_repo's files do")
    return name


def scenario_type(text: str) -> ScenarioType | str:
    """Take the name of a scenario type, built in or the app's own."""
    try:
        return _arguments.scenario_type(text)
    except InvalidDataException as error:
        raise argparse.ArgumentTypeError(str(error).partition(": ")[2]) from None


def sender(text: str) -> Send:
    """Import an async function; its module may be in the working directory."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise argparse.ArgumentTypeError("expected MODULE:FUNCTION, such as my_app.push:send")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        send = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001 - the imported module may raise anything
        raise argparse.ArgumentTypeError(f"could not import it ({type(error).__name__})") from None
    if not inspect.iscoroutinefunction(send) and not inspect.iscoroutinefunction(getattr(send, "__call__", None)):  # noqa: B004
        raise argparse.ArgumentTypeError("expected an async function")
    checked: Send = send
    return checked


def duration(text: str) -> timedelta:
    """Take seconds: more than 0, at most a day."""
    try:
        length = timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        length = timedelta(0)
    if not timedelta(0) < length <= timedelta(days=1):
        raise argparse.ArgumentTypeError("expected seconds: more than 0, at most 86400")
    return length


def up_to(most: int) -> Callable[[str], int]:
    """Make a type that takes a number from 1 to ``most``."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"expected a number from 1 to {most}")
        return int(text)

    return number
