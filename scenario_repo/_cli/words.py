"""Numbers and moments as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from scenario_repo.models import ReportLine


def counted(number: int, noun: str) -> str:
    """Write a number and its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _moment(value: JsonValue | datetime) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:  # PostgreSQL has infinity, and years before 1
            return None
    return value.astimezone(UTC) if isinstance(value, datetime) else None


def day_of(value: JsonValue | datetime) -> str:
    """Write the day of a moment, in UTC."""
    moment = _moment(value)
    return f"{moment:%Y-%m-%d}" if moment else "an unknown day"


def minute_of(value: JsonValue | datetime) -> str:
    """Write a moment to the minute, in UTC."""
    moment = _moment(value)
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "an unknown time"


def length_of(value: timedelta) -> str:
    """Write a length of time as the options take it: the largest unit that divides it, such as 30d, 90m or 45s."""
    seconds = value.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def not_counted(lines: Iterable[ReportLine]) -> Iterator[str]:
    """Say what is in no number of a report, if anything is not."""
    names = [" ".join(filter(None, (line.scenario_type, line.delivery_status, line.failure_code))) for line in lines]
    if names:
        yield f"not counted, fewer than 5 persons each: {', '.join(names)}"


def setting_of(value: object) -> str:
    """Write the value of a setting as ``config set`` takes it."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case timedelta():
            return length_of(value)
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)


def ago(value: datetime | None) -> str:
    """Write how long ago a moment was, in its two largest units; nothing for none."""
    if value is None:
        return ""
    minutes = max(0, int((datetime.now(UTC) - value).total_seconds() // 60))
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days}d {hours}h ago"
    return f"{hours}h {minutes % 60}m ago" if hours else f"{minutes}m ago"
