"""scenario-repo explain, explain-notification and check-rules: why a mentor is due or not, and what became of it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from scenario_repo._cli import values
from scenario_repo._cli.endings import DONE, FAILED
from scenario_repo._cli.findings import check_lines, explanation_lines
from scenario_repo._cli.output import print_json, print_lines
from scenario_repo._cli.past import past_lines
from scenario_repo._cli.running import command, database
from scenario_repo._limits import MAX_SAMPLES


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "explain")(explain)
    command(app, "explain-notification")(explain_notification)
    command(app, "check-rules")(check_rules)


async def explain(
    user_id: Annotated[UUID, typer.Argument(metavar="USER_ID", show_default=False)],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say for each scenario whether a mentor is due, and why or why not."""
    async with database() as repository:
        explanations = await repository.explain_scenarios(user_id)
    if as_json:
        print_json(explanations)
    else:
        print_lines(explanation_lines(explanations))
    return DONE


async def explain_notification(
    notification_id: Annotated[UUID, typer.Argument(metavar="NOTIFICATION_ID", show_default=False)],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Tell what happened to a notification, and what it holds now.

    How often it was handed out and tried is kept while it is pending.
    """
    async with database() as repository:
        past = await repository.explain_notification(notification_id)
    if as_json:
        print_json(past)
    else:
        print_lines(["there is no such notification"] if past is None else past_lines(past))
    return DONE


async def check_rules(
    names: Annotated[
        list[str] | None,
        typer.Argument(parser=values.scenario_type, metavar="NAME", help="Only these.", show_default="all"),
    ] = None,
    *,
    samples: Annotated[
        int, typer.Option(min=1, max=MAX_SAMPLES, metavar="N", help="How many of those who are due.")
    ] = 10,
    plans: Annotated[bool, typer.Option("--plans", help="Show PostgreSQL's plans too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Run rules without claiming: their faults, who is due, and how the database finds them."""
    async with database() as repository:
        kinds = names or (await repository.describe_schema()).scenario_types
        checks = [await repository.check_rule(kind, samples) for kind in dict.fromkeys(kinds)]
    if as_json:
        print_json(checks)
    else:
        for check in checks:
            print_lines(check_lines(check, plans=plans))
    return FAILED if any(check.faults for check in checks) else DONE
