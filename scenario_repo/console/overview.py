"""The overview: how the scenarios stand, what is pending, what failed lately, and the settings."""

from __future__ import annotations

from collections.abc import Iterator

from scenario_repo._cli.past import failed_because
from scenario_repo._cli.words import ago, counted, pending_line, setting_of
from scenario_repo.console.readings import Reading
from scenario_repo.console.tables import FAILED, PENDING, Cell, Link, Table, address, numbers
from scenario_repo.settings import ScenarioSettings
from scenario_repo.status import ScenarioStatus, Status


def deliveries(status: Status) -> Table:
    """Show what is pending of each scenario, and where it is on its way."""
    names = ("scenario", "pending", "due now", "waiting", "in hand", "unsettled", "oldest due")
    rows: list[tuple[Cell, ...]] = [
        (
            Link(str(one.scenario_type), address(PENDING, scenario=one.scenario_type)),
            *numbers((one.pending, one.due_now, one.waiting, one.leased, one.unsettled)),
            ago(one.oldest_due_at),
        )
        for one in status.scenarios
    ]
    return Table("Deliveries: what is pending", names, rows, frozenset(names[1:-1]))


def passes(status: Status) -> Table:
    """Show the pass of each scenario that is under way, or its last one."""
    names = ("scenario", "pass", "evaluated", "due", "claimed", "skipped", "history", "seconds")
    rows = [
        (
            str(one.scenario_type),
            _state_of(one),
            *numbers((one.evaluated, one.due, one.claimed, one.skipped, one.history)),
            f"{one.seconds:,.2f}",
        )
        for one in status.scenarios
    ]
    return Table("Passes over all organizations", names, rows, frozenset(names[2:]))


def failures(status: Status) -> Table:
    """Show what failed lately, by code."""
    names = ("code", "scenario", "what it means", "24 hours", "7 days")
    rows: list[tuple[Cell, ...]] = [
        (
            one.failure_code or "unknown",
            Link(str(one.scenario_type), address(FAILED, scenario=one.scenario_type)),
            failed_because(one.failure_code or "", was_withheld=one.was_withheld),
            *numbers((one.last_day, one.last_week)),
        )
        for one in sorted(status.failures, key=lambda one: (one.was_withheld, -one.last_week))
    ]
    return Table("Failures by code", names, rows, frozenset(names[3:]), empty="Nothing failed in the last 7 days.")


def settings(found: list[ScenarioSettings], status: Status) -> Table:
    """Show the default settings, and how many organizations have some of their own."""
    overriding = {one.scenario_type: one.overriding for one in status.scenarios}
    rows: list[tuple[Cell, ...]] = [
        (
            str(one.scenario_type),
            "yes" if one.is_enabled else "no",
            settings_text(one),
            counted(overriding.get(one.scenario_type, 0), "organization"),
        )
        for one in found
    ]
    return Table("Settings by default", ("scenario", "enabled", "settings", "with their own"), rows)


def settings_text(one: ScenarioSettings) -> str:
    """Write what was set, as ``scenario-repo config set`` takes it, but for whether it is enabled."""
    set_ = {name: value for name, value in one.changes.items() if value is not None and name != "is_enabled"}
    return ", ".join(f"{name}={setting_of(value)}" for name, value in set_.items())


def headlines(reading: Reading) -> Iterator[str]:
    """Say how things stand, in a sentence or two."""
    status = reading.status
    yield f"{pending_line(status.pending, status.oldest_due_at)}."
    under_way = [str(one.scenario_type) for one in status.scenarios if one.is_under_way]
    if under_way:
        yield f"Passes under way: {', '.join(under_way)}."
    elif any(one.finished_at or one.organization_pass_finished_at for one in status.scenarios):
        yield "No pass is under way."
    else:
        yield "No pass over all organizations has run yet: scenario-repo evaluate begins one."
    if reading.seconds is not None:
        more, evaluated = reading.pending_change, counted(reading.evaluated_change, "mentor")
        pending = f"{abs(more):,} {'more' if more > 0 else 'fewer'} pending" if more else "as many pending as before"
        yield f"In the last {counted(round(reading.seconds), 'second')}: {evaluated} evaluated, {pending}."


def _state_of(one: ScenarioStatus) -> str:
    if not one.is_enabled:
        return "disabled"
    if one.is_under_way:
        return "under way"
    if one.finished_at is not None:
        return f"ended {ago(one.finished_at)}"
    alone = one.organization_pass_finished_at
    return f"of one organization, {ago(alone)}" if alone is not None else "never"
