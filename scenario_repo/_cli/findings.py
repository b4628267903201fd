"""Why somebody is due or not, in words, and what a rule does."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from pydantic import JsonValue

from scenario_repo._cli.words import counted, day_of, minute_of
from scenario_repo.models import RuleCheck, ScenarioExplanation

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
_LEFT_OUT: Final = _PLAIN_FINDINGS | {
    "cooldown": "an earlier notification holds",
    "milestone_reached": "the milestone is recorded already",
    "concurrent_claim": "somebody else claimed at the same moment",
    "not_now": "not the moment to tell",
}


def explanation_lines(explanations: Iterable[ScenarioExplanation]) -> list[str]:
    """Say why a mentor is due or not: one line per scenario, and per organization if there are several."""
    verdicts = list(explanations)
    if not verdicts:
        return ["not a mentor of any organization"]
    several = len({verdict.organization_id for verdict in verdicts}) > 1
    return [
        f"{f'{verdict.organization_id}  ' if several else ''}{verdict.scenario_type}: "
        f"{'due' if verdict.is_due else 'not due'}, {because(verdict)}"
        for verdict in verdicts
    ]


def because(verdict: ScenarioExplanation, *, names_holder: bool = True) -> str:
    """Say in a few words why a mentor is due for a scenario, or not."""
    reason, facts = verdict.reason, verdict.facts
    if reason == "cooldown":
        until = f"in cooldown until {minute_of(verdict.ends_at)}" if verdict.ends_at else "held for good"
        return f"{until}, held by {verdict.held_by} since {day_of(verdict.held_since)}" if names_holder else until
    if reason == "no_new_milestone" and verdict.held_by is not None:
        return f"milestone {verdict.milestone_value} already recorded on {day_of(verdict.held_since)} ({reason})"
    return f"{_found(reason, facts, verdict.milestone_value)} ({reason})"


def _found(reason: str, facts: dict[str, JsonValue], milestone_value: int | None) -> str:
    count = facts.get("activity_count")
    match reason:
        case "inactive" | "recently_active":
            text = f"last active {day_of(facts.get('last_activity_at'))}"
        case "no_milestone_yet":
            text = f"no milestone reached, activities counted: {count}"
        case "milestone_crossed":
            text = f"milestone {milestone_value} reached, activities counted: {count}"
        case "no_new_milestone":
            text = f"a milestone above {milestone_value} is recorded already, activities counted: {count}"
        case "certificate_expiring":
            ids = facts.get("certificate_ids")
            number = len(ids) if isinstance(ids, list) else 0
            text = f"{counted(number, 'certificate')} about to expire, the first on {day_of(facts.get('expires_at'))}"
        case "newly_active":
            text = f"active for the first time on {day_of(facts.get('returned_at'))}"
        case "returned" | "never_away":
            back, before = facts.get("returned_at"), facts.get("last_activity_before")
            text = f"active on {day_of(back)}, and before that on {day_of(before)}"
        case _:
            # A rule of the app's own: its code, as words.
            text = _PLAIN_FINDINGS.get(reason, reason.replace("_", " "))
    return text


def why_left_out(reason: str) -> str:
    """Say in a few words why a pass leaves out somebody for whom it came true."""
    return _LEFT_OUT.get(reason, reason.replace("_", " "))


def check_lines(check: RuleCheck, *, plans: bool) -> list[str]:
    """Show what a rule does: its faults, its counts, samples, and the plans if asked for."""
    scope = "all" if check.is_complete else "the first"
    verdict = counted(len(check.faults), "fault") if check.faults else "ok"
    mentors = f"{scope} {counted(check.mentors, 'active mentor')}"
    due = f", {check.due:,} due of {mentors}" if check.mentors or not check.faults else ""
    lines = [f"{check.scenario_type}: {verdict}{due}"]
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
