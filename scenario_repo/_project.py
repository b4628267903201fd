"""The files that scenario_repo writes into a Supabase project: its migrations, and those of an app's own types.

`supabase db push` refuses a migration that is older than the newest applied one, so every file is dated after the
newest migration there. A copy is known by its name behind the 14 digits.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from scenario_repo._releases import release_files, schema_text
from scenario_repo.exceptions import ScenarioRepositoryException

_MIGRATION: Final = re.compile(r"(\d{14})_(.*)\.sql")
_FORMAT: Final = "%Y%m%d%H%M%S"
_SCHEMA_HEADER: Final = """\
-- The schema of scenario_repo, for a project with declarative schemas: written by `scenario-repo schema`, and written
-- again with each release. What is edited here stays as it is, and hinders that.
-- sha256 of what follows: """


@dataclass(frozen=True)
class Copies:
    """What became of the releases' migrations in a project: their file names there."""

    copied: tuple[str, ...]
    """New here, or missing if only looked for."""
    present: tuple[str, ...]
    differing: tuple[str, ...]
    """There already, with another text; left as they are."""
    repeated: tuple[str, ...]
    """There already a second time, as when two colleagues copy."""


def copy_migrations(directory: Path, now: datetime, *, only_look: bool = False) -> Copies:
    """Copy the releases' migrations that a project does not have yet, each dated after the newest one there."""
    copied: list[str] = []
    present: list[str] = []
    differing: list[str] = []
    repeated: list[str] = []
    for release in release_files():
        name = _name_of(release.name)
        text = _lines(release.read_bytes())
        copies = sorted(file for file in directory.glob("*.sql") if _name_of(file.name) == name)
        if not copies:
            file = directory / f"{_next_version(directory, now)}_{name}.sql"
            copied.append(file.name)
            if not only_look:
                file.write_bytes(text)
        for file in copies[:1]:
            (present if _lines(file.read_bytes()) == text else differing).append(file.name)
        repeated += [file.name for file in copies[1:]]
    return Copies(tuple(copied), tuple(present), tuple(differing), tuple(repeated))


def copy_schema(directory: Path) -> tuple[Path, bool]:
    """Write the whole schema into a folder of declarative schemas, in place of the file of an earlier release.

    Return the file's path, and whether it was written; it is not if it is the same.

    Raises:
        ScenarioRepositoryException: the file there was edited, or is not ours; it stays.

    """
    file = directory / "scenario_repo.sql"
    body = schema_text()
    text = f"{_SCHEMA_HEADER}{_digest(body)}\n\n{body}"
    if file.exists():
        there = _lines(file.read_bytes()).decode()
        if there == text:
            return file, False
        header, _, rest = there.partition("\n\n")
        if header != f"{_SCHEMA_HEADER}{_digest(rest)}":
            raise ScenarioRepositoryException(f"nothing written: {file} was edited, or is not scenario_repo's")
    file.write_text(text, encoding="utf-8", newline="\n")
    return file, True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_scenario(name: str, project: Path, now: datetime) -> tuple[Path, Path]:
    """Write the migration of a scenario type of the app's own, and its pgTAP test; return their paths.

    Raises:
        ScenarioRepositoryException: the project is no folder, or the type has a migration or a test already; nothing
            is written.

    """
    if not project.is_dir():
        raise ScenarioRepositoryException(f"nothing written: {project} is no folder (`supabase init` makes one)")
    migrations, tests = project / "migrations", project / "tests"
    earlier = [file for file in migrations.glob("*.sql") if _name_of(file.name) == f"scenario_{name}"]
    earlier += tests.glob(f"{name}_rule.sql")
    if earlier:
        raise ScenarioRepositoryException(f"nothing written: {earlier[0]} is there already")
    for folder in (migrations, tests):
        folder.mkdir(parents=True, exist_ok=True)
    migration = migrations / f"{_next_version(migrations, now)}_scenario_{name}.sql"
    test = tests / f"{name}_rule.sql"
    for file, template in ((migration, "scenario.sql"), (test, "scenario_test.sql")):
        text = (resources.files("scenario_repo") / "templates" / template).read_text(encoding="utf-8")
        file.write_text(Template(text).substitute(name=name), encoding="utf-8", newline="\n")
    return migration, test


def _name_of(file_name: str) -> str | None:
    found = _MIGRATION.fullmatch(file_name)
    return found[2] if found else None


def _lines(text: bytes) -> bytes:
    """Return a text as it is but for its line ends, which git and editors change."""
    return text.replace(b"\r\n", b"\n")


def _next_version(migrations: Path, now: datetime) -> str:
    """Return the 14 digits of now (UTC), or of the second after the newest migration."""
    versions = [found[1] for file in migrations.glob("*.sql") if (found := _MIGRATION.fullmatch(file.name))]
    newest = max(versions, default="")
    version = now.astimezone(UTC).strftime(_FORMAT)
    if version > newest:
        return version
    try:
        return (datetime.strptime(newest, _FORMAT).replace(tzinfo=UTC) + timedelta(seconds=1)).strftime(_FORMAT)
    except ValueError:  # digits that are no time
        following = str(int(newest) + 1)
    if len(following) > len(newest):
        raise ScenarioRepositoryException(f"nothing written: no migration can come after {newest}, the newest there")
    return following
