"""scenario-repo migrations, schema, snippet and new-scenario: the files of a Supabase project."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from scenario_repo import _project, _releases
from scenario_repo._cli import values
from scenario_repo._cli.endings import DONE, FAILED, USAGE
from scenario_repo._cli.output import print_lines, print_note
from scenario_repo._cli.running import command


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "migrations")(migrations)
    command(app, "schema")(schema)
    command(app, "snippet")(snippet)
    command(app, "new-scenario")(new_scenario)


Directory = Annotated[Path, typer.Argument(parser=values.folder, metavar="DIRECTORY", show_default=False)]
Create = Annotated[bool, typer.Option("--create", help="Make the folder if it is not there.")]


async def migrations(
    directory: Directory,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Copy nothing; exit code 4 if one is missing or differs.")
    ] = False,
    create: Create = False,
) -> int:
    """Copy the migrations into a project, such as supabase/migrations; with --check, say whether they are there."""
    return _copy_migrations(directory, create=create, only_look=check)


async def schema(directory: Directory, *, create: Create = False) -> int:
    """Write the schema as one file into a folder of declarative schemas, such as supabase/schemas."""
    if not _is_folder(directory, create=create):
        return USAGE
    directory.mkdir(parents=True, exist_ok=True)
    file, was_written = _project.copy_schema(directory)
    print_lines([f"wrote {file}" if was_written else f"nothing to write: {file} is that of this release"])
    return DONE


async def snippet(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Which one.", show_default="list their names")
    ] = None,
) -> int:
    """Print SQL that is no migration: for psql, or for a migration of your own."""
    texts = _releases.snippets()
    if name is None:
        print_lines(sorted(texts))
    elif name in texts:
        print_lines([texts[name].removesuffix("\n")])
    else:
        raise typer.BadParameter(f"expected one of {', '.join(sorted(texts))}", param_hint="NAME")
    return DONE


def _is_folder(directory: Path, *, create: bool) -> bool:
    """Whether there is the folder, or may be made; say what to do if not."""
    if directory.is_dir() or (create and not directory.exists()):
        return True
    print_note(f"{directory} is no folder: run this where `supabase init` made one, or give --create")
    return False


def _copy_migrations(directory: Path, *, create: bool, only_look: bool) -> int:
    if not _is_folder(directory, create=create):
        return USAGE
    if not only_look:
        directory.mkdir(parents=True, exist_ok=True)
    copies = _project.copy_migrations(directory, datetime.now(UTC), only_look=only_look)
    for name in copies.differing:
        print_note(f"{name} is not what this version has; it stays as it is")
    for name in copies.repeated:
        print_note(f"{name} is a second copy; keep the one that is applied")
    if only_look:
        print_lines(f"missing {name.partition('_')[2]}" for name in copies.copied)
        return FAILED if copies.copied or copies.differing or copies.repeated else DONE
    print_lines(f"copied {name}" for name in copies.copied)
    if copies.copied:
        print_lines(["next: apply it (supabase db push; supabase migration up for a local database)"])
    elif not copies.differing:
        print_lines(["nothing to copy: every migration is there"])
    return DONE


async def new_scenario(
    name: Annotated[
        str,
        typer.Argument(
            parser=values.own_scenario_type,
            metavar="NAME",
            help="Such as first_session: lower-case letters, digits, underscores.",
            show_default=False,
        ),
    ],
    *,
    project: Annotated[Path, typer.Option(metavar="DIRECTORY", help="The project's folder.")] = Path("supabase"),
) -> int:
    """Write the migration of a scenario type of the app's own, and its test, to be filled in."""
    migration, test = _project.write_scenario(name, project, datetime.now(UTC))
    apply = f"fill in the rule in {migration.name}, and apply it (supabase db push)"
    check = f"look at it: scenario-repo check-rules {name}"
    print_lines([f"wrote {migration}", f"wrote {test}", f"next: {apply}; then {check}"])
    return DONE
