"""One person: why she is due or not, what she was told, and what she does not want to be told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from scenario_repo._cli.findings import because
from scenario_repo._cli.words import day_of
from scenario_repo.console.tables import NOTIFICATION, Cell, Link, Table, address, minute, organization, person
from scenario_repo.console.text import facts_of
from scenario_repo.models import ScenarioExplanation, ScenarioNotification
from scenario_repo.policies import Mute
from scenario_repo.status import PendingNotification


@dataclass(frozen=True)
class Evidence:
    """The facts of a verdict."""

    title: str
    facts: list[tuple[str, str]]


def verdicts(found: Iterable[ScenarioExplanation]) -> Table:
    """Show for each scenario whether the next evaluation would tell her, and why."""
    rows: list[tuple[Cell, ...]] = [
        (
            str(one.scenario_type),
            "due" if one.is_due else "not due",
            because(one, names_holder=False),
            Link(day_of(one.held_since), address(NOTIFICATION, id=one.held_by)) if one.held_by else "",
            organization(one.organization_id),
        )
        for one in found
    ]
    return Table(
        "Due, or why not",
        ("scenario", "verdict", "reason", "held since", "organization"),
        rows,
        moments=frozenset({"held since"}),
        empty="Not a mentor of any organization.",
    )


def evidence(found: Iterable[ScenarioExplanation]) -> list[Evidence]:
    """Return the facts on which the verdicts rest, of those that have some."""
    return [Evidence(f"{one.scenario_type}: {one.reason}", facts_of(one.facts)) for one in found if one.facts]


def history(found: Iterable[ScenarioNotification]) -> Table:
    """Show what was recorded for her, the newest first; what it told is the app's, and is not shown."""
    names = ("triggered", "scenario", "status", "code", "settled", "holds until", "organization")
    rows: list[tuple[Cell, ...]] = [
        (
            _past(one.id, one.triggered_at),
            _kind(one),
            str(one.delivery_status),
            one.failure_code or "",
            minute(one.settled_at),
            _held(one),
            organization(one.organization_id),
        )
        for one in found
    ]
    return Table(
        "What was recorded, the newest first",
        names,
        rows,
        moments=frozenset({"settled", "holds until"}),
        empty="Nothing is recorded.",
    )


def mutes(found: Iterable[Mute]) -> Table:
    """Show what she does not want to be told, also what is over."""
    now = datetime.now(UTC)
    rows: list[tuple[Cell, ...]] = [
        (
            str(one.scenario_type or "all"),
            minute(one.muted_until) or "for good",
            "over" if one.is_over(now) else "muted",
            organization(one.organization_id) if one.organization_id else "all",
        )
        for one in found
    ]
    return Table(
        "What this person does not want to be told",
        ("scenario", "until", "state", "organization"),
        rows,
        moments=frozenset({"until"}),
        empty="Nothing: no mutes.",
    )


def pending(found: Iterable[PendingNotification], *, of: UUID | None) -> Table:
    """Show what waits, in the order in which it comes due, of an organization or of all."""
    now = datetime.now(UTC)
    names = ("due", "scenario", "state", "tries", "last code", "over", "person", *_whose(of))
    rows: list[tuple[Cell, ...]] = [
        (
            _past(one.id, one.next_attempt_at),
            str(one.scenario_type),
            "in hand" if one.leased_until else "due" if one.next_attempt_at <= now else "waiting",
            f"{one.attempt_count:,}",
            one.failure_code or "",
            minute(one.deliver_until),
            person(one.user_id),
            *([organization(one.organization_id)] if of is None else []),
        )
        for one in found
    ]
    return Table(
        "Pending, what is due first at the head",
        names,
        rows,
        numbers=frozenset({"tries"}),
        moments=frozenset({"over"}),
        empty="Nothing waits.",
    )


def failed(found: Iterable[ScenarioNotification], *, of: UUID | None) -> Table:
    """Show what failed, the newest first, of an organization or of all."""
    names = ("triggered", "scenario", "code", "failed", "holds until", "person", *_whose(of))
    rows: list[tuple[Cell, ...]] = [
        (
            _past(one.id, one.triggered_at),
            _kind(one),
            one.failure_code or "unknown",
            minute(one.settled_at),
            _held(one),
            person(one.user_id),
            *([organization(one.organization_id)] if of is None else []),
        )
        for one in found
    ]
    return Table(
        "Failed, the newest first",
        names,
        rows,
        moments=frozenset({"failed", "holds until"}),
        empty="Nothing failed.",
    )


def _whose(of: UUID | None) -> tuple[str, ...]:
    return ("organization",) if of is None else ()


def _past(notification_id: UUID, moment: datetime) -> Link:
    """Lead from a moment to what happened to its notification."""
    return Link(minute(moment), address(NOTIFICATION, id=notification_id))


def _kind(one: ScenarioNotification) -> str:
    return str(one.scenario_type) if one.milestone_value is None else f"{one.scenario_type} {one.milestone_value:,}"


def _held(one: ScenarioNotification) -> str:
    if one.held_until is None:
        return ""
    return "for good" if one.held_until == datetime.max.replace(tzinfo=UTC) else minute(one.held_until)
