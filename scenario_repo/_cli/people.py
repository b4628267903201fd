"""scenario-repo mutes, mute and unmute: what a person does not want to be told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from scenario_repo._cli import values
from scenario_repo._cli.endings import DONE
from scenario_repo._cli.output import Figures, print_figures, print_json, print_lines, print_note
from scenario_repo._cli.running import command, database
from scenario_repo._cli.words import minute_of
from scenario_repo.policies import Mute, NewMute

UserId = Annotated[UUID, typer.Argument(metavar="USER_ID", show_default=False)]
Organization = Annotated[
    UUID | None, typer.Option(metavar="UUID", help="From one organization alone.", show_default="all")
]
Scenario = Annotated[
    str | None,
    typer.Option(parser=values.scenario_type, metavar="NAME", help="Of one scenario type alone.", show_default="all"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "mutes")(mutes)
    command(app, "mute")(mute)
    command(app, "unmute")(unmute)


async def mutes(user_id: UserId, *, as_json: Json = False) -> int:
    """List what a user does not want to be told, also what is over."""
    async with database() as repository:
        found = await repository.list_mutes(user_id)
    if as_json:
        print_json(found)
    elif found:
        print_figures(_figures(found))
    else:
        print_note("none")
    return DONE


async def mute(
    user_id: UserId,
    *,
    organization: Organization = None,
    scenario: Scenario = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            parser=values.moment,
            metavar="WHEN",
            help="A day or a moment, in UTC unless it says otherwise; or a TIME from now on, such as 90d.",
            show_default="for good",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Tell a user nothing more: of one scenario type or all, from one organization or all, for a time or for good."""
    wanted = NewMute(user_id=user_id, organization_id=organization, scenario_type=scenario, muted_until=until)
    async with database() as repository:
        stored = await repository.mute(wanted)
    if as_json:
        print_json(stored)
    else:
        print_figures(_figures([stored]))
    return DONE


async def unmute(
    user_id: UserId, *, organization: Organization = None, scenario: Scenario = None, as_json: Json = False
) -> int:
    """Take back the mute of this very scope."""
    async with database() as repository:
        was_muted = await repository.unmute(user_id, organization, scenario)
    if as_json:
        print_json({"was_muted": was_muted})
    else:
        print_lines(["unmuted" if was_muted else "there was no mute of this scope"])
    return DONE


def _figures(found: list[Mute]) -> Figures:
    now = datetime.now(UTC)
    rows = [
        (
            str(one.scenario_type or "all"),
            str(one.organization_id or "all"),
            minute_of(one.muted_until) if one.muted_until else "for good",
            "over" if one.is_over(now) else "muted",
        )
        for one in found
    ]
    return Figures(("scenario", "organization", "muted until", "state"), rows)
