"""The output of the command line: plain text, and a progress bar if there are a terminal and rich."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Final, TextIO

from pydantic import JsonValue

from scenario_repo.engine import EngineReport, ScenarioReport
from scenario_repo.models import (
    DeliveryStatus,
    EvaluationPage,
    OrganizationReport,
    RuleCheck,
    ScenarioExplanation,
    ScenarioType,
    SettlementAnswer,
)
from scenario_repo.senders import Failure

_BAR_WIDTH: Final = 40
_SECONDS_BETWEEN_NOTES: Final = 5.0

_PLAIN_FINDINGS: Final = {
    "user_gone": "the account is deleted",
    "user_banned": "the account is banned for now",
    "rule_failed": "the rule raised an error: scenario-repo check-rules tells which",
    "muted": "the user does not want it",
    "mentor_not_active": "the mentor is not active in this organization",
    "scenario_disabled": "disabled for this organization",
    "never_active": "never active",
    "no_certificate_expiring": "no certificate is about to expire",
    "not_active_lately": "not active lately",
    "history": "it came true longer ago than due_within",
    "reminders_spent": "reminded as often as max_reminders allows",
}


def _width(kinds: Iterable[str]) -> int:
    """Return the width of a column of scenario types."""
    return max(len(kind) for kind in (*ScenarioType, *kinds))


def evaluation_lines(report: EngineReport) -> list[str]:
    """Describe a run: one line per scenario, and one for all."""
    width = _width(one.scenario_type for one in report.scenarios)
    lines = [f"{one.scenario_type:<{width}}  {_evaluated(one)}" for one in report.scenarios]
    claimed = sum(one.claimed for one in report.scenarios)
    verb = "would be claimed" if report.dry_run else "claimed"
    end = "" if report.completed else ", not finished"
    lines.append(f"{claimed:,} {verb} in {report.seconds:.1f} s{end}")
    if report.history:
        lines.append(f"{report.history:,} left out as history: it came true longer ago than due_within (--due-within)")
    return lines


def _evaluated(one: ScenarioReport) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(one.skipped.items()))
    history = f"history {one.history:,}, " if one.history else ""
    end = "" if one.completed else ", failed" if one.error else ", more to do"
    return (
        f"evaluated {one.evaluated:,}, due {one.due:,}, claimed {one.claimed:,}, "
        f"skipped {sum(one.skipped.values()):,}{f' ({reasons})' if reasons else ''}, "
        f"{history}{_counted(one.pages, 'page')}, {one.seconds:.1f} s{end}"
    )


def evaluation_json(report: EngineReport) -> dict[str, object]:
    """Describe a run as JSON."""
    scenarios = []
    for one in report.scenarios:
        error = one.error
        error_json = error and {"type": type(error).__name__, "message": str(error), "retryable": error.retryable}
        scenarios.append(one.model_dump(mode="json", exclude={"error"}) | {"error": error_json})
    return {
        "dry_run": report.dry_run,
        "completed": report.completed,
        "seconds": report.seconds,
        "history": report.history,
        "scenarios": scenarios,
    }


def explanation_lines(explanations: Iterable[ScenarioExplanation]) -> list[str]:
    """Say why a mentor is due or not: one line per scenario, and per organization if there are several."""
    verdicts = list(explanations)
    if not verdicts:
        return ["not a mentor of any organization"]
    several = len({verdict.organization_id for verdict in verdicts}) > 1
    return [
        f"{f'{verdict.organization_id}  ' if several else ''}{verdict.scenario_type}: "
        f"{'due' if verdict.is_due else 'not due'}, {_because(verdict)}"
        for verdict in verdicts
    ]


def _because(verdict: ScenarioExplanation) -> str:
    reason, facts = verdict.reason, verdict.facts
    if reason == "cooldown":
        until = f"in cooldown until {_minute(verdict.ends_at)}" if verdict.ends_at else "held for good"
        return f"{until}, held by {verdict.held_by} since {_day(verdict.held_since)}"
    if reason == "no_new_milestone" and verdict.held_by is not None:
        return f"milestone {verdict.milestone_value} already recorded on {_day(verdict.held_since)} ({reason})"
    return f"{_found(reason, facts, verdict.milestone_value)} ({reason})"


def _found(reason: str, facts: dict[str, JsonValue], milestone_value: int | None) -> str:
    count = facts.get("activity_count")
    match reason:
        case "inactive" | "recently_active":
            text = f"last active {_day(facts.get('last_activity_at'))}"
        case "no_milestone_yet":
            text = f"no milestone reached, activities counted: {count}"
        case "milestone_crossed":
            text = f"milestone {milestone_value} reached, activities counted: {count}"
        case "no_new_milestone":
            text = f"a milestone above {milestone_value} is recorded already, activities counted: {count}"
        case "certificate_expiring":
            ids = facts.get("certificate_ids")
            number = len(ids) if isinstance(ids, list) else 0
            text = f"{_counted(number, 'certificate')} about to expire, the first on {_day(facts.get('expires_at'))}"
        case "newly_active":
            text = f"active for the first time on {_day(facts.get('returned_at'))}"
        case "returned" | "never_away":
            back, before = facts.get("returned_at"), facts.get("last_activity_before")
            text = f"active on {_day(back)}, and before that on {_day(before)}"
        case _:
            # A rule of the app's own: its code, as words.
            text = _PLAIN_FINDINGS.get(reason, reason.replace("_", " "))
    return text


def report_json(report: OrganizationReport) -> dict[str, object]:
    """Describe an organization's notifications as JSON: the lines, and why any failed."""
    failed = {"undelivered": report.undelivered(), "withheld": report.withheld()}
    return report.model_dump(mode="json") | failed


def report_lines(report: OrganizationReport, *, bar: str = "█") -> list[str]:
    """Show an organization's notifications: a table of types and statuses, why any failed, and a bar for every day."""
    statuses = list(DeliveryStatus)
    kinds = dict.fromkeys([*ScenarioType, *sorted(line.scenario_type for line in report.lines)])
    width = _width(kinds)
    lines = [" " * width + "".join(f"{name:>9}" for name in (*statuses, "total"))]
    for kind in (*kinds, None):
        counts = [report.count(kind, status) for status in (*statuses, None)]
        lines.append(f"{kind or 'total':<{width}}" + "".join(f"{number:>9,}" for number in counts))
    for title, failed in (("could not be delivered", report.undelivered()), ("not to be told", report.withheld())):
        if failed:
            codes = ", ".join(f"{code} {number:,}" for code, number in failed.items())
            lines.append(f"failed, {title}: {sum(failed.values()):,} ({codes})")
    per_day: Counter[date] = Counter()
    for line in report.lines:
        per_day[line.day] += line.notifications
    most = max(per_day.values(), default=0)
    first, last = report.since.astimezone(UTC).date(), report.until.astimezone(UTC).date()
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [*lines, "", *(f"{day}  {_bar(per_day[day], most, bar)}{per_day[day]:,}" for day in days)]


def _bar(number: int, most: int, bar: str) -> str:
    length = -(-number * _BAR_WIDTH // most) if most else 0
    return bar * length + " " * bool(length)


def delivery_line(settled: Counter[SettlementAnswer | str]) -> str:
    """Count the results of the deliveries."""
    answers = dict.fromkeys([*SettlementAnswer, *sorted(settled)])
    return ", ".join(f"{answer} {settled[answer]:,}" for answer in answers if settled[answer]) or "nothing due"


def delivery_json(settled: Counter[SettlementAnswer | str], failure: Failure | None) -> dict[str, object]:
    """Count the results of the deliveries as JSON, and say what of the sender's ended them."""
    return {"settled": dict(settled), "failure": failure and {"kind": failure.kind, "place": failure.place}}


def delivery_progress(note: Callable[[str], None]) -> Callable[[Counter[SettlementAnswer | str]], None]:
    """Tell how far a delivery is, every few seconds."""
    told_at = time.monotonic()

    def progress(settled: Counter[SettlementAnswer | str]) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _SECONDS_BETWEEN_NOTES:
            told_at = time.monotonic()
            note(f"so far {delivery_line(settled)}")

    return progress


def check_lines(check: RuleCheck, *, plans: bool) -> list[str]:
    """Show what a rule does: its faults, its counts, samples, and the plans if asked for."""
    scope = "all" if check.is_complete else "the first"
    verdict = _counted(len(check.faults), "fault") if check.faults else "ok"
    mentors = f"{scope} {_counted(check.mentors, 'active mentor')}"
    counted = f", {check.due:,} due of {mentors}" if check.mentors or not check.faults else ""
    lines = [f"{check.scenario_type}: {verdict}{counted}"]
    lines += [f"  fault: {fault}" for fault in check.faults]
    lines += [
        f"  due: {sample.user_id} of {sample.organization_id}"
        f"{f', milestone {sample.milestone_value}' if sample.milestone_value is not None else ''}"
        f": {sample.finding}, {_one_line(sample.facts)}"
        for sample in check.samples
    ]
    if plans:
        for title, plan in (("a page", check.page_plan), ("a look-up of 100 persons", check.look_up_plan)):
            lines += [f"  plan of {title}:", *(f"    {line}" for line in plan)]
    return lines


def _one_line(facts: JsonValue) -> str:
    return json.dumps(facts, ensure_ascii=True)


@contextmanager
def progress(stream: TextIO) -> Iterator[Callable[[ScenarioType | str, EvaluationPage], None] | None]:
    """Show progress page by page; show nothing if the stream is no terminal or rich is missing."""
    if not stream.isatty():
        yield None
        return
    try:
        from rich.console import Console  # noqa: PLC0415 - an optional extra
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    except ImportError:
        yield None
        return
    figures = TextColumn("{task.completed:,} mentors evaluated, {task.fields[claimed]:,} claimed")
    columns = (TextColumn(f"{{task.description:<{_width(())}}}"), BarColumn(), figures, TimeElapsedColumn())
    with Progress(*columns, console=Console(file=stream), transient=True) as bars:
        shown: dict[str, TaskID] = {}
        claimed: Counter[str] = Counter()

        def on_page(kind: ScenarioType | str, page: EvaluationPage) -> None:
            if kind not in shown:
                shown[kind] = bars.add_task(kind, total=None, claimed=0)
            claimed[kind] += page.claimed
            bars.update(shown[kind], advance=page.evaluated, claimed=claimed[kind])
            if page.next_after is None:
                bars.update(shown[kind], total=max(bars.tasks[shown[kind]].completed, 1))

        yield on_page


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _moment(value: JsonValue | datetime) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:  # PostgreSQL has infinity, and years before 1
            return None
    return value.astimezone(UTC) if isinstance(value, datetime) else None


def _day(value: JsonValue | datetime) -> str:
    moment = _moment(value)
    return f"{moment:%Y-%m-%d}" if moment else "an unknown day"


def _minute(value: JsonValue | datetime) -> str:
    moment = _moment(value)
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "an unknown time"
