"""The changelog has the form that a release needs."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SECTIONS: Final = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
VERSION: Final[str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def _is_newer(version: str, other: str) -> bool:
    return [int(part) for part in version.split(".")] > [int(part) for part in other.split(".")]


def test_what_is_not_released_stands_first() -> None:
    """Whoever changes something finds where to say so."""
    assert SECTIONS[0] == "[Unreleased]"


def test_releases_have_a_version_and_a_day() -> None:
    """The newest first; none later than today by more than a day, wherever the clock stands."""
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", section) for section in SECTIONS[1:]]
    assert None not in released
    found = [(match[1], date.fromisoformat(match[2])) for match in released if match]
    assert found == sorted(found, key=lambda one: [*map(int, one[0].split("."))], reverse=True)
    assert [day for _, day in found] == sorted((day for _, day in found), reverse=True)


def test_the_packages_version_is_released_or_next() -> None:
    """It is the newest release's, or a later one under way."""
    newest = SECTIONS[1].partition("]")[0].removeprefix("[") if len(SECTIONS) > 1 else None
    assert newest is None or newest == VERSION or _is_newer(VERSION, newest)
