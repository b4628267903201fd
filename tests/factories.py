"""Values for tests, with defaults that fit together; whatever matters to a test is given by that test."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from httpx import Request

from scenario_repo import NewScenarioNotification
from scenario_repo._postgrest import SCHEMA_VERSION
from scenario_repo.testing import (
    MILESTONE,
    ORGANIZATION_ID,
    PROJECT_URL,
    PUBLISHABLE_KEY,
    SECRET_KEY,
    USER_ID,
    a_leased_notification,
    a_notification,
    an_outcome,
    id_of_claim,
)
from scenario_repo.testing._claims_wire import claims_answer as wire_answer

__all__ = ["MILESTONE", "ORGANIZATION_ID", "PROJECT_URL", "PUBLISHABLE_KEY", "SECRET_KEY", "USER_ID", "id_of_claim"]

REST_URL: Final = f"{PROJECT_URL}/rest/v1"
_TRIGGERED_AT: Final = datetime(2026, 11, 2, 8, 30, 0, 123456, UTC)
_LEASED_UNTIL: Final = datetime(2026, 11, 2, 8, 35, tzinfo=UTC)


def new_notification(**overrides: object) -> NewScenarioNotification:
    """Make a notification to insert: of inactivity, or of a milestone when one is asked for."""
    return NewScenarioNotification(**new_notification_fields(**overrides))


def new_notification_fields(**overrides: object) -> dict[str, Any]:
    """Make the arguments of a NewScenarioNotification, which the overrides may spoil."""
    return {**_shared(**overrides), **overrides}


def notification_row(**overrides: object) -> dict[str, Any]:
    """Make a row of scenario_notifications as PostgREST returns it, as JSON, which the overrides may spoil."""
    row = a_notification(triggered_at=_TRIGGERED_AT, milestone_value=_milestone_value(overrides)).model_dump(
        mode="json"
    )
    return {**row, **overrides}


def leased_row(**overrides: object) -> dict[str, Any]:
    """Make a notification as a lease returns it, as JSON, for a user without a device."""
    leased = a_leased_notification(
        triggered_at=_TRIGGERED_AT,
        leased_until=_LEASED_UNTIL,
        milestone_value=_milestone_value(overrides),
        device_tokens=(),
    )
    return {**leased.model_dump(mode="json", exclude={"held_until"}), **overrides}


def pending_row(**overrides: object) -> dict[str, Any]:
    """Make a pending notification as scenario_list_pending returns it, as JSON."""
    row = notification_row()
    shared = ("id", "user_id", "organization_id", "scenario_type", "triggered_at", "deliver_until", "failure_code")
    way = {"next_attempt_at": "2026-11-02T08:30:00+00:00", "attempt_count": 0, "leased_until": None}
    return {**{name: row[name] for name in shared}, **way, "unsettled_leases": 0, **overrides}


def settings_row(**overrides: object) -> dict[str, Any]:
    """Make a row of scenario_evaluation_config as PostgREST returns its settings, as JSON."""
    return {
        "scenario_type": "inactivity",
        "organization_id": None,
        "is_enabled": True,
        "cooldown": "30 days",
        "inactive_after": "30 days",
        "returned_within": None,
        "expires_within": None,
        "milestones": None,
        "due_within": "30 days",
        "max_reminders": 3,
        "retry_failed_after": "1 day",
        "deliver_within": "7 days",
        "max_attempts": 8,
        "priority": 5,
        **overrides,
    }


def scenario_status(**overrides: object) -> dict[str, Any]:
    """Make one scenario of scenario_get_status, as JSON."""
    return {
        "scenario_type": "inactivity",
        "is_enabled": True,
        "overriding": 0,
        "evaluated": 0,
        "due": 0,
        "claimed": 0,
        "skipped": 0,
        "history": 0,
        "seconds": 0.0,
        "finished_at": None,
        "is_under_way": False,
        "organization_pass_finished_at": None,
        "waiting": 0,
        "due_now": 0,
        "leased": 0,
        "unsettled": 0,
        "oldest_due_at": None,
        **overrides,
    }


def claims_answer(**exceptions: object) -> dict[str, Any]:
    """Make the answer to a batch of claims, as JSON: all were granted, but for the exceptions."""
    notification = a_notification(triggered_at=_TRIGGERED_AT)
    return {**wire_answer([an_outcome(notification=notification)], leased=False), **exceptions}


def function_arguments(request: Request) -> dict[str, Any]:
    """Read the arguments of a function from its request, but for the version of the schema, which each one has."""
    arguments: dict[str, Any] = json.loads(request.content)
    assert arguments.pop("p_needs_schema") == SCHEMA_VERSION
    return arguments


def minted_jwt(role: object, **claims: object) -> str:
    """Make an unsigned token in the form of Supabase's: a legacy API key, or a user's access token."""
    header, payload = (_base64url({"alg": "HS256", "typ": "JWT"}), _base64url({"role": role, **claims}))
    return f"{header}.{payload}.c2lnbmF0dXJl"


def _shared(**overrides: object) -> dict[str, object]:
    value = _milestone_value(overrides)
    return {
        "user_id": USER_ID,
        "organization_id": ORGANIZATION_ID,
        "scenario_type": "inactivity" if value is None else "milestone",
        **({} if value is None else {"milestone_value": value}),
    }


def _milestone_value(overrides: Mapping[str, object]) -> int | None:
    """Return the value of a milestone, if the overrides ask for one."""
    is_milestone = overrides.get("scenario_type", "milestone" if "milestone_value" in overrides else "") == "milestone"
    return MILESTONE if is_milestone else None


def _base64url(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
