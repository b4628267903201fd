"""scenario-repo config get and config set: the settings of the scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, get_args, get_type_hints
from uuid import UUID

import typer

from scenario_repo._cli import values
from scenario_repo._cli.endings import DONE, FAILED
from scenario_repo._cli.output import Figures, print_figures, print_json, print_note
from scenario_repo._cli.running import EPILOG, command, database
from scenario_repo._cli.words import setting_of
from scenario_repo._limits import MAX_DAYS
from scenario_repo.settings import ScenarioSettings

_OF_A_KIND: Final[dict[object, Callable[[str], Any]]] = {
    bool: values.boolean,
    int: values.number,
    timedelta: values.duration(MAX_DAYS),
    tuple[int, ...]: values.numbers,
}
PARSERS: Final = {
    name: _OF_A_KIND[get_args(kind)[0]]
    for name, kind in get_type_hints(ScenarioSettings).items()
    if name in ScenarioSettings.model_fields and name not in {"scenario_type", "organization_id"}
}
"""The settings by name, and what takes the value of each."""

Organization = Annotated[
    UUID | None, typer.Option(metavar="UUID", help="What this one overrides.", show_default="the defaults of all")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands, as a group of their own."""
    config = typer.Typer(help="Read and change the settings of the scenarios.", epilog=EPILOG)
    command(config, "get")(get)
    command(config, "set")(change)
    app.add_typer(config, name="config")


async def get(
    scenario: Annotated[
        str | None,
        typer.Argument(parser=values.scenario_type, metavar="SCENARIO", help="Of this alone.", show_default="all"),
    ] = None,
    *,
    organization: Organization = None,
    as_json: Json = False,
) -> int:
    """Show the settings: the defaults and, with an organization, what it overrides."""
    async with database() as repository:
        found = [one for one in await repository.get_settings(organization) if scenario in {None, one.scenario_type}]
    if scenario is not None and not found:
        print_note(f"there is no scenario {scenario} in the database; `scenario-repo config get` shows those there are")
        return FAILED
    if as_json:
        print_json(found)
    else:
        print_figures(_figures(found, scenario, with_scope=organization is not None))
    return DONE


async def change(
    scenario: Annotated[str, typer.Argument(parser=values.scenario_type, metavar="SCENARIO", show_default=False)],
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE",
            help=f"Such as cooldown=21d, is_enabled=no, milestones=10,25,50; {values.NONE} takes it away.",
            show_default=False,
        ),
    ],
    *,
    organization: Organization = None,
    as_json: Json = False,
) -> int:
    """Change settings, all of those given or none: the defaults, or what an organization overrides."""
    changes = given_settings(given, PARSERS)
    wanted = ScenarioSettings(scenario_type=scenario, organization_id=organization, **changes)
    async with database() as repository:
        stored = await repository.set_settings(wanted)
    if as_json:
        print_json(stored)
    else:
        print_figures(_figures([stored], scenario, with_scope=organization is not None))
    return DONE


def given_settings(
    given: Iterable[str], parsers: Mapping[str, Callable[[str], Any]], hint: str = "KEY=VALUE"
) -> dict[str, Any]:
    """Take the settings as they were given, KEY=VALUE each; ``parsers`` has those there are."""
    found: dict[str, Any] = {}
    for text in given:
        name, value = _setting(text, parsers, hint)
        if name in found:
            raise typer.BadParameter(f"expected {name} once", param_hint=hint)
        found[name] = value
    return found


def _setting(text: str, parsers: Mapping[str, Callable[[str], Any]], hint: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if name not in parsers:
        raise typer.BadParameter(f"no such setting: {name}; there are {', '.join(parsers)}", param_hint=hint)
    if not equals:
        raise typer.BadParameter(f"expected {name}=VALUE", param_hint=hint)
    if value == values.NONE:
        return name, None
    try:
        return name, parsers[name](value)
    except typer.BadParameter as error:
        raise typer.BadParameter(f"{error.message}; or {values.NONE}", param_hint=name) from None


def _figures(found: Iterable[ScenarioSettings], scenario: str | None, *, with_scope: bool) -> Figures:
    """Show the settings that are given, one a row."""
    rows = [
        (str(one.scenario_type), name, setting_of(value), *([_scope(one)] if with_scope else []))
        for one in found
        for name, value in one.changes.items()
        if value is not None
    ]
    asked = frozenset({"scenario"} if scenario else ())
    return Figures(("scenario", "setting", "value", *(["of"] if with_scope else [])), rows, asked=asked)


def _scope(one: ScenarioSettings) -> str:
    return "all" if one.organization_id is None else "the organization"
