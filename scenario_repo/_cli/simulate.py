"""scenario-repo simulate: what a setting would change, before it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

import typer

from scenario_repo._cli import values
from scenario_repo._cli.endings import DONE
from scenario_repo._cli.output import Figures, print_figures, print_json, print_lines, print_note
from scenario_repo._cli.running import command, database
from scenario_repo._cli.settings import PARSERS, given_settings
from scenario_repo._limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from scenario_repo.models import DueMentor
from scenario_repo.settings import ScenarioSettings
from scenario_repo.simulation import Simulation


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "simulate")(simulate)


async def simulate(  # noqa: PLR0913 - one for each option
    scenario: Annotated[str, typer.Argument(parser=values.scenario_type, metavar="SCENARIO", show_default=False)],
    *,
    given: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help=f"Such as inactive_after=21d (repeatable), as `config set` takes it; {values.NONE} takes it away.",
            show_default=False,
        ),
    ],
    organization: Annotated[
        UUID | None,
        typer.Option(metavar="UUID", help="What this one would override, for its mentors.", show_default="all"),
    ] = None,
    list_due: Annotated[
        bool, typer.Option("--list", help="Tell who: + is due by the change alone, - by today's settings alone.")
    ] = False,
    page_size: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_SIZE, metavar="N", help="Mentors in a page, at most.")
    ] = DEFAULT_PAGE_SIZE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say who would be due by other settings, beside who is due today; nothing is changed or claimed.

    By the real rules, on the real data: nobody waits for it, and nobody sees it. Numbers are exact, also those of fewer
    than 5 persons, for whoever may list them: they are not to be given away. Of who is due, when they may be told is
    no part: delivery policies and deliver_within change nothing here.
    """
    wanted = ScenarioSettings(
        scenario_type=scenario, organization_id=organization, **given_settings(given, PARSERS, "--set")
    )
    async with database() as repository:
        found = await repository.simulate(wanted, page_size, list_due=list_due)
    if as_json:
        print_json(found)
    elif list_due:  # standard output has the ids alone
        print_lines(_listed(found))
        print_note(_sum(found))
    else:
        print_figures(_figures(found))
        print_lines([_sum(found)])
    return DONE


def _figures(found: Simulation) -> Figures:
    """Compare the two evaluations: one figure a row."""
    today, simulated = found.today, found.simulated
    pairs = {
        "evaluated": (today.evaluated, simulated.evaluated),
        "due": (today.due, simulated.due),
        "would be claimed": (today.claimed, simulated.claimed),
        **{
            f"skipped: {reason}": (today.skipped.get(reason, 0), simulated.skipped.get(reason, 0))
            for reason in sorted({*today.skipped, *simulated.skipped})
        },
        "history": (today.history, simulated.history),
    }
    rows = [
        (name, f"{now:,}", f"{then:,}", f"{then - now:+,}" if then != now else "")
        for name, (now, then) in pairs.items()
    ]
    names = ("mentors", "today", "simulated", "difference")
    return Figures(names, rows, frozenset(names[1:]))


def _listed(found: Simulation) -> Iterator[str]:
    """Name all who would be claimed for by either, by user: a sign, the user and the organization."""
    signs = {one.user_id: "+" for one in found.gained} | {one.user_id: "-" for one in found.lost}
    both: dict[UUID, DueMentor] = {one.user_id: one for one in (*found.today.due_mentors, *found.simulated.due_mentors)}
    for user_id, one in sorted(both.items()):
        yield f"{signs.get(user_id, '=')} {user_id}  {one.organization_id}"


def _sum(found: Simulation) -> str:
    difference = found.simulated.claimed - found.today.claimed
    return f"{found.simulated.claimed:,} would be claimed, {difference:+,} beside today; nothing was changed"
