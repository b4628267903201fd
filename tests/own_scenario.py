"""A scenario type of an app's own, written as an app would: the template of `new-scenario`, filled in."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from scenario_repo import _project

NAME: Final = "first_session"
_FILLED_IN: Final = {
    "  false as is_due,": "  first.activity_date >= now() - interval '7 days' as is_due,",
    "  false as stands": "  first.activity_date >= now() - interval '7 days' as stands",
    "    else 'rule_not_written'": (
        "    when first.activity_date >= now() - interval '7 days' then 'first_session_held'\n    else 'long_a_mentor'"
    ),
}


def write(project: Path, name: str = NAME) -> tuple[Path, Path]:
    """Write the migration and the pgTAP test into a project, which is made if need be; return their paths."""
    project.mkdir(parents=True, exist_ok=True)
    return _project.write_scenario(name, project, datetime(2026, 11, 25, 12, tzinfo=UTC))


def filled_in(migration: Path) -> str:
    """Fill in the rule: due is who was active for the first time within the last seven days."""
    text = migration.read_text()
    for blank, rule in _FILLED_IN.items():
        assert blank in text, blank
        text = text.replace(blank, rule)
    return text
