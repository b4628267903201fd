"""scenario-repo export and erase: one person's data."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from scenario_repo._cli.endings import DONE
from scenario_repo._cli.output import print_json, print_lines, print_note
from scenario_repo._cli.running import command, database
from scenario_repo._cli.words import counted

UserId = Annotated[UUID, typer.Argument(metavar="USER_ID", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "export")(export)
    command(app, "erase")(erase)


async def export(user_id: UserId) -> int:
    """Print all that there is of one person, as JSON: for whoever asks for her own data.

    Her notifications, what is under way, her mutes, and what the app's own tables have of her; with device tokens.
    """
    async with database() as repository:
        print_json(await repository.export_person(user_id))
    return DONE


async def erase(
    user_id: UserId,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="It can't be taken back: do it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Delete all that scenario_repo's own tables have of one person; the app's tables stay as they are.

    Cooldowns, milestones and mutes go with it: as long as she is an active mentor, she may be told all of it again.
    """
    if not yes:
        raise typer.BadParameter("expected it: what is erased can't be brought back", param_hint="--yes")
    async with database() as repository:
        erased = await repository.erase_person(user_id)
    if as_json:
        print_json(erased)
        return DONE
    parts = [
        counted(erased.notifications, "notification"),
        counted(erased.handovers, "hand-over"),
        counted(erased.mutes, "mute"),
        counted(erased.turns, "turn"),
    ]
    print_lines([f"erased {', '.join(parts)}"])
    print_note("her history is gone: as long as she is an active mentor, she may be told again")
    return DONE
