"""scenario-repo outcomes: what came of an organization's notifications."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from scenario_repo._cli import values
from scenario_repo._cli.endings import DONE
from scenario_repo._cli.output import Figures, print_figures, print_json, print_lines
from scenario_repo._cli.running import command, database
from scenario_repo._cli.words import length_of
from scenario_repo._limits import MAX_DAYS
from scenario_repo.models import ScenarioType
from scenario_repo.outcomes import OutcomeGroup, Outcomes

_FIRST = datetime.min.replace(tzinfo=UTC)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "outcomes")(outcomes)


async def outcomes(  # noqa: PLR0913 - one for each option
    organization_id: Annotated[UUID, typer.Argument(metavar="ORGANIZATION_ID", show_default=False)],
    scenario_type: Annotated[str, typer.Argument(metavar="SCENARIO", parser=values.scenario_type, show_default=False)],
    *,
    days: Annotated[int, typer.Option(min=1, max=MAX_DAYS, metavar="N", help="Of what was settled in N days.")] = 90,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=values.moment,
            metavar="WHEN",
            help="Of what was settled from then on, such as 2026-01-01 (UTC); in place of --days.",
            show_default="--days before --until",
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(parser=values.moment, metavar="WHEN", help="And before then.", show_default="now"),
    ] = None,
    within: Annotated[
        timedelta,
        typer.Option(
            parser=values.duration(MAX_DAYS), metavar="TIME", help="How long they have to do it.", show_default="14d"
        ),
    ] = timedelta(days=14),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say how many did what the scenario hopes for, of those who were told, and of those who could not be told.

    Persons are counted, not notifications. A number that fewer than 5 persons stand behind is left out, as "-". A
    difference names no cause: nobody was drawn by lot. Figures of periods that overlap can be subtracted from each
    other: give away only those of fixed periods that do not, by --since and --until.
    """
    last = until or datetime.now(UTC)
    first = since or last - min(timedelta(days=days), last - _FIRST)
    async with database() as repository:
        found = await repository.get_outcomes(organization_id, scenario_type, first, last, within)
    if as_json:
        print_json(found)
        return DONE
    print_figures(_figures(found))
    print_lines(_notes(found, scenario_type, within))
    return DONE


def _figures(found: Outcomes) -> Figures:
    names = ("", "persons", "hoped for", "share", "95 %", "undecided")
    rows = [_row("told", found.told), _row("not told", found.not_told)]
    return Figures(names, rows, frozenset(names[1:]))


def _row(name: str, group: OutcomeGroup) -> tuple[str, ...]:
    between = "-" if group.lowest is None or group.highest is None else f"{group.lowest:.1%} to {group.highest:.1%}"
    share = "-" if group.share is None else f"{group.share:.1%}"
    return (name, _number(group.persons), _number(group.hoped), share, between, _number(group.undecided))


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _notes(found: Outcomes, scenario_type: ScenarioType | str, within: timedelta) -> Iterator[str]:
    if not found.says_hope:
        yield f"{scenario_type} does not say what it hopes for: there is no view scenario_private.{scenario_type}_hope"
        return
    difference = found.difference
    if difference is not None:
        yield (
            f"difference: {100 * difference.share:+.1f} points (95 %: {100 * difference.lowest:+.1f} to"
            f" {100 * difference.highest:+.1f}); it names no cause"
        )
    when = f"within {length_of(within)}" if found.says_when else "by now: no date says when it was"
    yield f"hoped for: {when}; -: fewer than 5 persons, or all but fewer than 5"
