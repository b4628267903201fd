"""The values of options and arguments: each function takes the text, and refuses it in one sentence."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from scenario_repo import _arguments
from scenario_repo._limits import MAX_DAYS
from scenario_repo.exceptions import InvalidDataException
from scenario_repo.models import ScenarioType
from scenario_repo.senders import Send, SendToDevice

NONE: Final = "none"
"""Takes a setting away."""
_UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def folder(text: str) -> Path:
    """Take a folder; an empty text, such as a shell's unset variable, is none."""
    if not text.strip():
        raise typer.BadParameter("expected a folder, got nothing")
    return Path(text)


def own_scenario_type(text: str) -> str:
    """Take the name of a scenario type of the app's own."""
    name = scenario_type(text)
    if isinstance(name, ScenarioType):
        raise typer.BadParameter("expected a name of the app's own, got a built-in scenario type")
    if name.startswith("repo_"):
        raise typer.BadParameter("expected a name that does not begin with repo_, as scenario_repo's files do")
    return name


def scenario_type(text: str) -> ScenarioType | str:
    """Take the name of a scenario type, built in or the app's own."""
    try:
        return _arguments.scenario_type(text)
    except InvalidDataException as error:
        raise typer.BadParameter(str(error).partition(": ")[2]) from None


def sender(text: str) -> Send:
    """Import a sender of whole notifications."""
    checked: Send = _imported(text)
    return checked


def device_sender(text: str) -> SendToDevice:
    """Import a sender to one device."""
    checked: SendToDevice = _imported(text)
    return checked


def rate(text: str) -> float:
    """Take a positive number."""
    try:
        return _arguments.positive_number("rate", float(text))
    except (ValueError, InvalidDataException):
        raise typer.BadParameter("expected a positive number") from None


def _imported(text: str) -> Any:  # noqa: ANN401 - what the app's module has
    """Import an async function; its module may be in the working directory."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise typer.BadParameter("expected MODULE:FUNCTION, such as my_app.push:send")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        send = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001 - the imported module may raise anything
        raise typer.BadParameter(f"could not import it ({type(error).__name__})") from None
    if not inspect.iscoroutinefunction(send) and not inspect.iscoroutinefunction(getattr(send, "__call__", None)):  # noqa: B004
        raise typer.BadParameter("expected an async function")
    return send


def duration(most_days: int = 1) -> Callable[[str | timedelta], timedelta]:
    """Make a type that takes a length of time: seconds, or a number and its unit (s, m, h, d), such as 90 or 30d."""

    def length(text: str | timedelta) -> timedelta:
        if isinstance(text, timedelta):
            return text  # a default
        number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
        try:
            given = float(number) * _UNITS[unit]
        except (ValueError, OverflowError):
            given = timedelta(0)
        if not timedelta(0) < given <= timedelta(days=most_days):
            raise typer.BadParameter(
                f"expected seconds, or a number with s, m, h or d behind it: more than 0, at most {most_days}d"
            )
        return given

    return length


def moment(text: str | datetime) -> datetime:
    """Take a day or a moment, in UTC unless it says otherwise, or a length of time from now on."""
    if isinstance(text, datetime):
        return text
    with suppress(ValueError):
        given = datetime.fromisoformat(text)
        return given if given.tzinfo else given.replace(tzinfo=UTC)
    with suppress(typer.BadParameter):
        return datetime.now(UTC) + duration(MAX_DAYS)(text)
    raise typer.BadParameter("expected a day (2026-12-24), a moment (2026-12-24T18:00), or a time from now on (90d)")


def time_zone(text: str) -> ZoneInfo:
    """Take the name of a time zone."""
    try:
        return ZoneInfo(str(text))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter("expected the name of a time zone, such as Europe/Oslo") from None


def boolean(text: str) -> bool:
    """Take yes or no, in the words that are used for them."""
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise typer.BadParameter(f"expected one of {', '.join(words)}")
    return words[text.lower()]


def number(text: str) -> int:
    """Take a whole number."""
    if not (text.isascii() and text.isdecimal()):
        raise typer.BadParameter("expected a whole number")
    return int(text)


def numbers(text: str) -> tuple[int, ...]:
    """Take whole numbers with commas between them."""
    try:
        return tuple(number(part.strip()) for part in text.split(","))
    except typer.BadParameter:
        raise typer.BadParameter("expected whole numbers with commas between them, such as 10,25,50") from None


def day(text: str | date) -> date:
    """Take a day."""
    try:
        return text if isinstance(text, date) else date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("expected a day, such as 2026-12-24") from None


def time_of_day(text: str) -> time:
    """Take a time of day."""
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("expected a time of day, such as 08:00") from None
