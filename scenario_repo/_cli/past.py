"""What happened to a notification, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from scenario_repo._cli.words import counted, day_of, minute_of
from scenario_repo.models import DeliveryStatus, FailureReason, NotificationOrigin, was_withheld
from scenario_repo.outcomes import NotificationPast

_ORIGINS: Final = {
    NotificationOrigin.EVALUATION: "an evaluation claimed it",
    NotificationOrigin.CLAIM: "the app claimed it",
    NotificationOrigin.INSERT: "it was inserted",
}
_REASONS: Final = {
    FailureReason.SUPPRESSED: "there was nobody to send to",
    FailureReason.CANCELLED: "an operator took it back",
    FailureReason.EXPIRED: "its time was over",
    FailureReason.USER_GONE: "the account is deleted",
    FailureReason.USER_BANNED: "the account was banned",
    FailureReason.MENTOR_NOT_ACTIVE: "the mentor was not active in the organization any more",
    FailureReason.SCENARIO_DISABLED: "the scenario was disabled for the organization",
    FailureReason.MUTED: "the user did not want it",
    FailureReason.NO_LONGER_DUE: "what it tells was no longer true",
    FailureReason.SUPERSEDED: "a newer one tells the same",
    "attempts_spent": "all its tries failed",
}
"""Why it was not told, in words; any other code is the sender's."""


def failed_because(code: str, *, was_withheld: bool) -> str:
    """Say in a few words what a failure means, and why it was decided not to tell."""
    meaning = "decided not to tell" if was_withheld else "could not be delivered"
    reason = _REASONS.get(code)
    return f"{meaning}: {reason}" if reason else meaning


def past_lines(past: NotificationPast, now: datetime | None = None) -> list[str]:
    """Tell what happened to a notification: a sentence for each step, and what it holds."""
    return [f"{sentence}." for sentence in _sentences(past, now or datetime.now(UTC))]


def _sentences(past: NotificationPast, now: datetime) -> Iterator[str]:
    what = str(past.scenario_type)
    if past.milestone_value is not None:
        what += f" {past.milestone_value}"
    yield f"{what}: triggered at {minute_of(past.triggered_at)}; {_ORIGINS.get(past.origin, past.origin)}"  # type: ignore[call-overload]
    if past.delivery_status == DeliveryStatus.PENDING:
        yield from _on_its_way(past, now)
    else:
        yield _ending(past)
    if past.unsettled_at is not None:
        yield f"The user may have been told by {minute_of(past.unsettled_at)}: nobody settled that lease"
    yield _hold(past)
    if past.next_id is not None:
        milestone = f", {past.next_milestone_value}," if past.next_milestone_value is not None else ""
        yield f"The next one of the type{milestone} was triggered on {day_of(past.next_triggered_at)}: {past.next_id}"


def _on_its_way(past: NotificationPast, now: datetime) -> Iterator[str]:
    yield f"It is pending, to be handed out until {minute_of(past.deliver_until)}"
    if past.lease_count:
        tries = f"{counted(past.attempt_count or 0, 'try').replace('trys', 'tries')} spent"
        yield f"It was handed out {counted(past.lease_count, 'time')}, {tries}"
    else:
        yield "It was not handed out yet"
    if past.failure_code is not None:
        yield f"The last try failed: {past.failure_code}"
    if past.leased_until is not None and past.leased_until > now:
        yield f"A worker has it in hand until {minute_of(past.leased_until)}"
    elif past.next_attempt_at is not None and past.next_attempt_at > now:
        why = "It is to be tried again" if past.attempt_count else "It waits for the moment at which it may be told"
        yield f"{why}, not before {minute_of(past.next_attempt_at)}"
    else:
        yield "A worker may have it now"


def _ending(past: NotificationPast) -> str:
    at = minute_of(past.settled_at)
    if past.delivery_status == DeliveryStatus.SENT:
        return f"It was sent at {at}"
    code = past.failure_code
    reason = "no reason was given" if code is None else f"{_REASONS.get(code, 'the sender says so')} ({code})"
    verb = "It was decided not to tell it" if was_withheld(code) else "It could not be delivered"
    return f"{verb}, at {at}: {reason}"


def _hold(past: NotificationPast) -> str:
    if not past.holds:
        return "It holds nothing: the user can be claimed for again"
    return f"It holds {f'until {minute_of(past.holds_until)}' if past.holds_until else 'for good'}"
