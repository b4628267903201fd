"""Which request each method of the repository sends: how respx tells them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scenario_repo import _postgrest

_FUNCTIONS: Final = {
    "evaluate_scenario": "scenario_evaluate",
    "explain_scenarios": "scenario_explain",
    "describe_schema": "scenario_get_schema",
    "verify_installation": "scenario_get_catalogue",
}
"""The methods whose function has another name; each other one calls ``scenario_`` and its own."""


def _functions() -> dict[str, str]:
    others = {function.removeprefix("scenario_"): function for function in _postgrest.FUNCTIONS}
    named = set(_FUNCTIONS.values())
    return _FUNCTIONS | {operation: function for operation, function in others.items() if function not in named}


def _table(method: str, table: str, query: str = "") -> dict[str, Any]:
    """Match a request to a table whose query has this, as a regular expression."""
    return {"method": method, "url__regex": rf"/{table}(\?|$).*{query}"}


def _tables() -> dict[str, Mapping[str, Any]]:
    notifications = _postgrest.NOTIFICATIONS
    return {
        "insert_notification": _table("POST", notifications),
        # The more particular first: respx takes the first that fits.
        "has_been_sent_since_threshold": _table("GET", notifications, r"select=triggered_at&.*triggered_at=gte"),
        "get_last_sent_at": _table("GET", notifications, r"select=triggered_at&"),
        "has_been_delivered_since": _table("GET", notifications, r"select=settled_at&.*settled_at=gte"),
        "get_last_delivered_at": _table("GET", notifications, r"select=settled_at&"),
        "get_milestone_record": _table("GET", notifications, r"milestone_value=eq"),
        "list_failed": _table("GET", notifications, r"is_failed=eq\.true"),
        "list_notifications": _table("GET", notifications),
        "get_settings": _table("GET", _postgrest.SETTINGS),
        "set_settings": {"method__in": ["PATCH", "POST"], "path": f"/{_postgrest.SETTINGS}"},
        "get_delivery_policies": _table("GET", _postgrest.POLICIES),
        "set_delivery_policy": _table("POST", _postgrest.POLICIES),
        "delete_delivery_policy": _table("DELETE", _postgrest.POLICIES),
        "list_days_off": _table("GET", _postgrest.DAYS_OFF),
        "add_days_off": _table("POST", _postgrest.DAYS_OFF),
        "remove_days_off": _table("DELETE", _postgrest.DAYS_OFF),
        "list_mutes": _table("GET", _postgrest.MUTES),
        "mute": _table("POST", _postgrest.MUTES),
        "unmute": _table("DELETE", _postgrest.MUTES),
    }


SAME_REQUEST: Final = {"purge_page": "purge_notifications"}
"""A method whose requests are those of another one."""
OPERATIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    **{operation: {"method": "POST", "path": f"/rpc/{function}"} for operation, function in _functions().items()},
    **_tables(),
}
"""Method of the repository → what respx matches its request by."""
