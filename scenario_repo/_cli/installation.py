"""scenario-repo verify: whether the installation is whole."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from scenario_repo._cli.endings import DONE
from scenario_repo._cli.output import print_json, print_lines, print_note
from scenario_repo._cli.running import command, database
from scenario_repo._cli.words import counted

_FAULTY: Final = 1
"""The exit code of a check that a deployment asks."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "verify")(verify)


async def verify(
    *,
    sql: Annotated[bool, typer.Option("--sql", help="Print only the SQL that mends, as one script.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Hold the database against what this release installs, and tell the SQL that mends it.

    The exit code is 0 if nothing is wrong, and else 1.
    """
    async with database() as repository:
        found = await repository.verify_installation()
    if as_json:
        print_json(found.model_dump(mode="json") | {"ok": found.ok})
    elif sql:
        print_lines([found.mending] if found.mending else [])
    elif found.ok:
        print_lines([f"ok: version {found.schema_version} of the schema is whole"])
    else:
        for fault in found.faults:
            print_lines([fault.what, *(f"    {line}" for line in (fault.mend or "").splitlines())])
    if not found.ok:
        hint = "" if sql or not found.mending else "; `scenario-repo verify --sql` prints what mends them"
        print_note(f"{counted(len(found.faults), 'fault')}{hint}")
    return DONE if found.ok else _FAULTY
