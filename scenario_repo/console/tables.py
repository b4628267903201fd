"""Tables: what a page shows in rows, and what a chart shows for those who don't see it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from scenario_repo._cli.words import minute_of


@dataclass(frozen=True)
class Link:
    """A cell that leads to another page."""

    text: str
    href: str
    is_id: bool = False


Cell = str | Link


@dataclass(frozen=True)
class Table:
    """Rows under names; the first cell of each row is its heading."""

    caption: str
    names: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    numbers: frozenset[str] = frozenset()
    """The names of the columns that hold numbers."""
    empty: str = "None."
    """What is said in place of a table without rows."""
    moments: frozenset[str] = frozenset()
    """The names of the columns that hold moments; a caption over moments says that they are in UTC."""


PERSON: Final = "/person"
ORGANIZATION: Final = "/organization"
NOTIFICATION: Final = "/notification"
PENDING: Final = "/pending"
FAILED: Final = "/failed"


def minute(value: datetime | None) -> str:
    """Write a moment for a cell, in UTC; nothing for none."""
    return minute_of(value).removesuffix(" UTC") if value else ""


def address(path: str, **parameters: object) -> str:
    """Write the address of a page; a parameter that is None is left out."""
    given = {name: str(value) for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def person(user_id: UUID) -> Link:
    """Lead to a person."""
    return Link(str(user_id), address(PERSON, id=user_id), is_id=True)


def organization(organization_id: UUID) -> Link:
    """Lead to an organization."""
    return Link(str(organization_id), address(ORGANIZATION, id=organization_id), is_id=True)


def numbers(values: Iterable[int]) -> tuple[str, ...]:
    """Write numbers for the cells of a row."""
    return tuple(f"{value:,}" for value in values)
