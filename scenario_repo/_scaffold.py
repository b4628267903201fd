"""Writes the files of a scenario type of the app's own: its migration and its pgTAP test, from templates/."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

_VERSION: Final = re.compile(r"(\d{14})_.*\.sql")
_FORMAT: Final = "%Y%m%d%H%M%S"


def write(name: str, project: Path, now: datetime) -> tuple[Path, Path]:
    """Write the migration and the test of a scenario type into a Supabase project's folder; return their paths.

    The migration is dated after the newest one there: `supabase db push` refuses older ones.

    Raises:
        FileExistsError: the type has a migration or a test already; nothing is written.

    """
    migrations, tests = project / "migrations", project / "tests"
    earlier = [*migrations.glob(f"*_scenario_{name}.sql"), *tests.glob(f"{name}_rule.sql")]
    if earlier:
        raise FileExistsError(f"{earlier[0]} is there already")
    migration = migrations / f"{_next_version(migrations, now)}_scenario_{name}.sql"
    test = tests / f"{name}_rule.sql"
    for file, template in ((migration, "scenario.sql"), (test, "scenario_test.sql")):
        text = (resources.files("scenario_repo") / "templates" / template).read_text(encoding="utf-8")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(text).substitute(name=name), encoding="utf-8", newline="\n")
    return migration, test


def _next_version(migrations: Path, now: datetime) -> str:
    """Return the 14 digits of now (UTC), or of the second after the newest migration."""
    versions = [found[1] for file in migrations.glob("*.sql") if (found := _VERSION.fullmatch(file.name))]
    newest = max(versions, default="")
    version = now.astimezone(UTC).strftime(_FORMAT)
    if version > newest:
        return version
    try:
        return (datetime.strptime(newest, _FORMAT).replace(tzinfo=UTC) + timedelta(seconds=1)).strftime(_FORMAT)
    except ValueError:  # digits that are no time
        return str(int(newest) + 1)
