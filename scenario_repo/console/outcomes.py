"""What came of an organization's notifications, and whom the last pass left out.

Persons are counted here, and the database leaves out each number that fewer than 5 of them stand behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Final

from scenario_repo._cli.findings import why_left_out
from scenario_repo._cli.words import ago
from scenario_repo.console.tables import Table
from scenario_repo.outcomes import OutcomeGroup, Outcomes
from scenario_repo.status import LeftOutPass

WITHIN: Final = timedelta(days=14)
"""How long they have to do what the scenario hopes for."""
_FEW: Final = "fewer than 5"


def came_of_it(found: Mapping[str, Outcomes]) -> Table:
    """Show for each scenario that says what it hopes for how many did it, of those who were told and of the others."""
    names = ("scenario", "who", "persons", "hoped for", "share", "95 % interval", "undecided")
    rows = [
        (kind if outcomes.says_when else f"{kind}, by now", who, *_figures(group))
        for kind, outcomes in found.items()
        if outcomes.says_hope
        for who, group in (("told", outcomes.told), ("due, not told", outcomes.not_told))
    ]
    caption = f"Who did what the scenario hopes for, within {WITHIN.days} days"
    return Table(caption, names, rows, frozenset(names[2:]), empty="Nothing was settled in this time.")


def differences(found: Mapping[str, Outcomes]) -> Iterator[str]:
    """Say how the shares differ, where both are known."""
    for kind, outcomes in found.items():
        difference = outcomes.difference
        if difference is not None:
            yield (
                f"{kind}: {100 * difference.share:+.1f} points among those who were told "
                f"(95 %: {100 * difference.lowest:+.1f} to {100 * difference.highest:+.1f})."
            )


def left_out(found: Iterable[LeftOutPass]) -> Table:
    """Show whom the last pass of each scenario left out though it came true for them."""
    rows = [
        (
            str(one.scenario_type),
            line.reason,
            why_left_out(line.reason),
            _FEW if line.mentors is None else f"{line.mentors:,}",
            ago(one.finished_at) or "under way",
        )
        for one in found
        for line in one.left_out
    ]
    names = ("scenario", "reason", "what it means", "mentors", "the pass ended")
    empty = "The last passes left out nobody."
    return Table("Whom the last pass left out, though it came true", names, rows, frozenset({"mentors"}), empty)


def _figures(group: OutcomeGroup) -> tuple[str, ...]:
    share = "" if group.share is None else f"{group.share:.1%}"
    between = "" if group.lowest is None or group.highest is None else f"{group.lowest:.1%} to {group.highest:.1%}"
    return _number(group.persons), _hoped(group), share, between, _number(group.undecided)


def _hoped(group: OutcomeGroup) -> str:
    if group.hoped is not None:
        return f"{group.hoped:,}"
    return "" if group.persons is None else "left out"


def _number(value: int | None) -> str:
    return _FEW if value is None else f"{value:,}"
