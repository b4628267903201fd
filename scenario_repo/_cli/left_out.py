"""scenario-repo left-out: whom the last pass left out, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

import typer

from scenario_repo._cli.endings import DONE
from scenario_repo._cli.output import print_json, print_lines
from scenario_repo._cli.running import command, database
from scenario_repo._cli.words import ago
from scenario_repo.status import LeftOutPass


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "left-out")(left_out)


async def left_out(
    *,
    organization: Annotated[
        UUID | None, typer.Option(metavar="ID", help="Of this organization alone.", show_default="all")
    ] = None,
    under_way: Annotated[bool, typer.Option("--under-way", help="Of the passes that have not ended yet.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say whom the last pass of each scenario left out though it came true for them, and why.

    Of one pass each: the same mentors are left out in every pass. Fewer than 5 mentors are not counted: of all
    organizations, those with fewer are in no sum, unless they are 5 organizations or more.
    """
    async with database() as repository:
        passes = await repository.get_left_out(organization, under_way=under_way)
    if as_json:
        print_json(passes)
    else:
        few = "few" if organization is None else "fewer than 5"
        print_lines((_line(one, few) for one in passes) if passes else _nothing(under_way=under_way))
    return DONE


def _line(one: LeftOutPass, few: str) -> str:
    ended = "under way" if one.finished_at is None else f"ended {ago(one.finished_at)}"
    reasons = [f"{line.reason} {few if line.mentors is None else f'{line.mentors:,}'}" for line in one.left_out]
    return f"{one.scenario_type}, {ended}: {', '.join(reasons) or 'nobody was left out'}"


def _nothing(*, under_way: bool) -> Iterator[str]:
    yield "no pass is under way" if under_way else "no pass has ended yet"
