"""The releases' migrations, as they travel in the package."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from scenario_repo.exceptions import ScenarioRepositoryException


def files_of(folder: str) -> list[Traversable]:
    """Return the files of a folder of SQL, by name: of the installed package, or of the checkout's supabase/."""
    in_checkout = Path(__file__).parents[1] / "supabase" / folder
    for place in (resources.files("scenario_repo") / folder, in_checkout):
        if place.is_dir():
            return sorted((file for file in place.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    raise ScenarioRepositoryException(f"the {folder} are not in this installation: reinstall scenario_repo")


def release_files() -> list[Traversable]:
    """Return every release's migration, in order."""
    return files_of("migrations")


def release_texts() -> list[str]:
    """Return the text of every release's migration, in order."""
    return [release.read_text(encoding="utf-8") for release in release_files()]


def schema_text() -> str:
    """Return the whole schema as it is now: its files in the order in which they depend on each other."""
    files = [*files_of("schemas"), *files_of("schemas/rules")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def snippets() -> dict[str, str]:
    """Return the SQL that is no migration, by name: what an owner runs by hand, or puts into a migration."""
    return {file.name.removesuffix(".sql"): file.read_text(encoding="utf-8") for file in files_of("snippets")}
