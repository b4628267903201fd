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
_SECTION: Final = re.compile(r"\[(\d+\.\d+\.\d+)\] - (unreleased|\d{4}-\d\d-\d\d)")


def test_each_section_has_a_version_and_a_day() -> None:
    """Only the newest may not be released yet; the others go back in time."""
    matches = [_SECTION.fullmatch(section) for section in SECTIONS]
    assert None not in matches
    versions = [[*map(int, match[1].split("."))] for match in matches if match]
    days = [match[2] for match in matches if match]
    assert versions == sorted(versions, reverse=True)
    released = [date.fromisoformat(day) for place, day in enumerate(days) if place > 0 or day != "unreleased"]
    assert released == sorted(released, reverse=True)


def test_the_newest_section_is_the_packages_version() -> None:
    """A tag on any commit names what the changelog says."""
    assert SECTIONS[0].startswith(f"[{VERSION}] - ")
