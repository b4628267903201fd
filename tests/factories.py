"""Values for tests, with defaults that fit together; whatever matters to a test is given by that test."""

from __future__ import annotations

import base64
import json
from typing import Any, Final
from uuid import UUID, uuid4

from httpx import Request

from scenario_repo import NewScenarioNotification
from scenario_repo._postgrest import SCHEMA_VERSION

PROJECT_URL: Final = "https://project.supabase.co"
REST_URL: Final = f"{PROJECT_URL}/rest/v1"
SECRET_KEY: Final = "sb_secret_of-the-worker"  # noqa: S105 - opens nothing
PUBLISHABLE_KEY: Final = "sb_publishable_of-the-app"

USER_ID: Final = UUID("0b6c1f1e-6f0c-4e0a-9f1b-2d4f5a6b7c8d")
ORGANIZATION_ID: Final = UUID("7d9e2c3b-4a5f-4b6c-8d7e-9f0a1b2c3d4e")
MILESTONE: Final = 10
_ID_PREFIX: Final = "01a2144654667100861a2ecbc95"


def new_notification(**overrides: object) -> NewScenarioNotification:
    """Make a notification to insert: of inactivity, or of a milestone when one is asked for."""
    return NewScenarioNotification(**new_notification_fields(**overrides))


def new_notification_fields(**overrides: object) -> dict[str, Any]:
    """Make the arguments of a NewScenarioNotification, which the overrides may spoil."""
    return {**_shared(**overrides), **overrides}


def notification_row(**overrides: object) -> dict[str, Any]:
    """Make a row of scenario_notifications as PostgREST returns it, as JSON."""
    shared = _shared(**overrides)
    return {
        "id": str(uuid4()),
        "user_id": str(shared["user_id"]),
        "organization_id": str(shared["organization_id"]),
        "scenario_type": shared["scenario_type"],
        "triggered_at": "2026-11-02T08:30:00.123456+00:00",
        "delivery_status": "pending",
        "milestone_value": shared.get("milestone_value"),
        "metadata": None,
        "cooldown_window_start": None,
        "failure_code": None,
        "origin": "insert",
        "subjects": [],
        "deliver_until": "2026-11-09T08:30:00.123456+00:00",
        "settled_at": None,
        "held_until": None,
        **overrides,
    }


def leased_row(**overrides: object) -> dict[str, Any]:
    """Make a notification as a lease returns it, as JSON."""
    row = notification_row(origin="claim")
    del row["held_until"]
    lease = {"lease_number": 1, "attempt_count": 1, "leased_until": "2026-11-02T08:35:00+00:00", "device_tokens": []}
    return {**row, **lease, **overrides}


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
    return {
        "id_prefix": _ID_PREFIX,
        "triggered_at": "2026-11-02T08:30:00.123456+00:00",
        "deliver_until": "2026-11-09T08:30:00.123456+00:00",
        "skipped": {"place": [], "reason": [], "held_by": [], "ends_at": []},
        "following": {"place": [], "triggered_at": [], "cooldown_window_start": []},
        "partly": {"place": [], "new_subjects": []},
        "deliver": {"place": [], "deliver_until": []},
        "taken_over": None,
        "leased": None,
        **exceptions,
    }


def id_of_claim(place: int) -> UUID:
    """Return the id of the claim in a place of the batch, from 1, in :func:`claims_answer`."""
    return UUID(f"{_ID_PREFIX}{place:05x}")


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
    is_milestone = overrides.get("scenario_type", "milestone" if "milestone_value" in overrides else "") == "milestone"
    return {
        "user_id": USER_ID,
        "organization_id": ORGANIZATION_ID,
        "scenario_type": "milestone" if is_milestone else "inactivity",
        **({"milestone_value": MILESTONE} if is_milestone else {}),
    }


def _base64url(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
