"""scenario-repo policy and days-off: when people may be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, time, timedelta
from typing import Annotated, Any, Final, get_args, get_type_hints
from uuid import UUID

import typer

from scenario_repo._cli import values
from scenario_repo._cli.endings import DONE, FAILED
from scenario_repo._cli.output import Figures, print_figures, print_json, print_lines, print_note
from scenario_repo._cli.running import EPILOG, command, database
from scenario_repo._cli.settings import given_settings
from scenario_repo._cli.words import setting_of
from scenario_repo._limits import MAX_DAYS
from scenario_repo.policies import DayOff, DeliveryPolicy, NewDayOff

_OF_A_KIND: Final[dict[object, Callable[[str], Any]]] = {
    str: str,
    time: values.time_of_day,
    timedelta: values.duration(MAX_DAYS),
    tuple[int, ...]: values.numbers,
}
_PARSERS: Final = {
    name: _OF_A_KIND[get_args(kind)[0]]
    for name, kind in get_type_hints(DeliveryPolicy).items()
    if name in DeliveryPolicy.model_fields and name != "organization_id"
}

Organization = Annotated[
    UUID | None, typer.Option(metavar="UUID", help="Of this one.", show_default="the default of all")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands, as two groups."""
    policy = typer.Typer(help="When people may be told: zone, days, hours, and the gap between two.", epilog=EPILOG)
    command(policy, "get")(get)
    command(policy, "set")(change)
    command(policy, "delete")(delete)
    app.add_typer(policy, name="policy")
    days_off = typer.Typer(help="Days on which nobody is told.", epilog=EPILOG)
    command(days_off, "list")(list_days)
    command(days_off, "add")(add_days)
    command(days_off, "remove")(remove_days)
    app.add_typer(days_off, name="days-off")


async def get(*, as_json: Json = False) -> int:
    """Show all policies, the default first."""
    async with database() as repository:
        found = await repository.get_delivery_policies()
    if as_json:
        print_json(found)
    elif found:
        print_figures(_policies(found))
    else:
        print_note("none: it is always the moment")
    return DONE


async def change(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE",
            help="time_zone=Europe/Oslo, weekdays=1,2,3,4,5, opens_at=08:00, closes_at=20:00, min_gap=4h;"
            f" {values.NONE} inherits it from the default.",
            show_default=False,
        ),
    ],
    *,
    organization: Organization = None,
    as_json: Json = False,
) -> int:
    """Change a policy; what is not given stays as it is."""
    changes = given_settings(given, _PARSERS)
    async with database() as repository:
        policies = await repository.get_delivery_policies()
        before = next((one for one in policies if one.organization_id == organization), DeliveryPolicy())
        wanted = before.model_dump() | {"organization_id": organization} | changes
        stored = await repository.set_delivery_policy(DeliveryPolicy(**wanted))
    if as_json:
        print_json(stored)
    else:
        print_figures(_policies([stored]))
    return DONE


async def delete(*, organization: Organization = None, as_json: Json = False) -> int:
    """Delete a policy: an organization then has the default, and without one it is always the moment."""
    async with database() as repository:
        was_there = await repository.delete_delivery_policy(organization)
    if as_json:
        print_json({"was_there": was_there})
    else:
        print_lines(["deleted" if was_there else "there was none"])
    return DONE


async def list_days(*, organization: Organization = None, as_json: Json = False) -> int:
    """List the days off of all and, with an organization, its own too."""
    async with database() as repository:
        found = await repository.list_days_off(organization)
    if as_json:
        print_json(found)
    elif found:
        print_figures(_days(found))
    else:
        print_note("none")
    return DONE


async def add_days(
    first_day: Annotated[date, typer.Argument(parser=values.day, metavar="FIRST_DAY", show_default=False)],
    last_day: Annotated[
        date | None,
        typer.Argument(parser=values.day, metavar="LAST_DAY", help="Inclusive.", show_default="the first"),
    ] = None,
    *,
    organization: Organization = None,
    stops_clock: Annotated[
        bool, typer.Option("--stops-clock", help="Nobody goes quiet meanwhile: they count for nothing.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Record days off, such as 2026-12-21 2027-01-06, of an organization or of all."""
    wanted = NewDayOff(
        first_day=first_day, last_day=last_day or first_day, organization_id=organization, stops_clock=stops_clock
    )
    async with database() as repository:
        stored = await repository.add_days_off([wanted])
    if as_json:
        print_json(stored)
    else:
        print_figures(_days(stored))
    return DONE


async def remove_days(
    ids: Annotated[list[UUID], typer.Argument(metavar="ID", show_default=False)], *, as_json: Json = False
) -> int:
    """Remove days off by their ids; exit code 4 if one was not there."""
    wanted = list(dict.fromkeys(ids))
    async with database() as repository:
        removed = await repository.remove_days_off(wanted)
    if as_json:
        print_json({"removed": removed})
    else:
        print_lines([f"{removed} removed"])
    return DONE if removed == len(wanted) else FAILED


def _policies(found: Iterable[DeliveryPolicy]) -> Figures:
    rows = [
        (_scope(one.organization_id), name, _written(getattr(one, name)))
        for one in found
        for name in _PARSERS
        if getattr(one, name) is not None
    ]
    return Figures(("organization", "setting", "value"), rows)


def _days(found: Iterable[DayOff]) -> Figures:
    rows = [
        (
            str(one.id),
            str(one.first_day),
            str(one.last_day),
            _scope(one.organization_id),
            "yes" if one.stops_clock else "no",
        )
        for one in found
    ]
    return Figures(("id", "first day", "last day", "organization", "stops clock"), rows)


def _scope(organization: UUID | None) -> str:
    return "all" if organization is None else str(organization)


def _written(value: Any) -> str:  # noqa: ANN401 - what a policy's field may be
    return f"{value:%H:%M}" if isinstance(value, time) else setting_of(value)
