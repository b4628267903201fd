"""What a page is asked for, by its address; what was given instead is never repeated."""

from __future__ import annotations

from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from starlette.requests import Request

from scenario_repo._limits import MAX_LISTED
from scenario_repo.console.tables import address
from scenario_repo.exceptions import InvalidDataException

_FIRST: Final = 100
"""How many rows a list shows at first; a link shows up to 1,000."""


def id_of(request: Request, name: str = "id") -> UUID:
    """Read an id."""
    try:
        return UUID(request.query_params.get(name, "").strip())
    except ValueError:
        raise InvalidDataException(f"{name}: expected a UUID") from None


def scope(request: Request) -> tuple[UUID | None, str | None]:
    """Read of which organization and scenario type a list is; None: of all."""
    given = request.query_params.get("organization", "").strip()
    scenario = request.query_params.get("scenario", "").strip()
    return id_of(request, "organization") if given else None, scenario or None


def number(request: Request, name: str, otherwise: int, most: int) -> int:
    """Read a number from 1 on."""
    given = request.query_params.get(name, str(otherwise)).strip()
    if not (given.isascii() and given.isdecimal() and len(given) <= len(str(most)) and 1 <= int(given) <= most):
        raise InvalidDataException(f"{name}: expected a number from 1 to {most:,}")
    return int(given)


def time_zone(request: Request) -> ZoneInfo:
    """Read whose days are meant; UTC unless it is given."""
    try:
        return ZoneInfo(request.query_params.get("zone", "").strip() or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidDataException("zone: expected the name of a time zone, such as Europe/Oslo") from None


def limit(request: Request) -> int:
    """Read how many rows a list may show."""
    return number(request, "limit", _FIRST, MAX_LISTED)


def more(request: Request, found: int) -> str | None:
    """Return where more of a list is shown; None: this is all, or as much as a page shows."""
    most = limit(request)
    if found < most or most >= MAX_LISTED:
        return None
    return address(request.url.path, **{**request.query_params, "limit": MAX_LISTED})
