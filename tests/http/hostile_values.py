"""What the functions of the API are attacked with, argument by argument."""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

NOBODY: Final = "00000000-0000-0000-0000-000000000000"

UUIDS: Final[list[Any]] = [
    None,
    "",
    "x",
    "'; drop table scenario_notifications; --",
    "{}",
    f"{NOBODY}\u0000",
    7,
    [],
    {},
    True,
    "\ud800",
]
TEXTS: Final[list[Any]] = [
    None,
    "",
    "'; drop table x; --",
    "inactivity\u0000",
    "\ud800",
    "*",
    "eq.inactivity",
    7,
    [],
    {},
    "x" * 99_999,
]
INTEGERS: Final[list[Any]] = [None, 0, -1, 2**31, 2**63, 10**400, 1.5, "NaN", "0x10", "1;", True, [], {}, "٤"]
DOUBLES: Final[list[Any]] = [None, 0, -1, "NaN", "Infinity", "-Infinity", 1e308, 10**400, 1e-320, "1;", [], {}, True]
INSTANTS: Final[list[Any]] = [
    None,
    "",
    "now",
    "infinity",
    "-infinity",
    "0001-01-01",
    "9999-12-31T23:59:59Z",
    "294276-12-31",
    "4713-01-01 BC",
    "294277-01-01",
    "24:00",
    0,
    [],
    {},
    "\u0000",
]
JSONS: Final[list[object]] = [
    None,
    {},
    7,
    True,
    [None],
    [7],
    [[]],
    [{}],
    [{"user_id": "x"}],
    [{"user_id": NOBODY, "scenario_type": "inactivity", "cooldown_seconds": "NaN"}],
    [{"user_id": NOBODY, "scenario_type": "inactivity", "cooldown_seconds": 1e308}],
    [{"user_id": NOBODY, "scenario_type": "milestone", "milestone_value": 2**31}],
    [{"id": NOBODY, "lease_number": 10**30, "result": "sent"}],
    [{"id": "x", "lease_number": 1, "result": "sent"}],
    [{"id": NOBODY, "lease_number": 1, "result": {"sent": 1}}],
    {"user_id": {}},
    {"user_id": ["x", None, 7], "all": {"scenario_type": {}, "cooldown_seconds": "NaN"}},
    {"user_id": [NOBODY], "subjects": [[["a"]]], "metadata": [7], "milestone_value": ["x"], "all": None},
    {"user_id": [NOBODY], "all": {"metadata": {"a": "\u0000"}}},
    [{"metadata": {"a": "\u0000"}}],
    [{"metadata": "\ud800"}],
    [{}] * 20_001,
]
LISTS: Final[list[Any]] = [
    None,
    {},
    "x",
    "{",
    [None],
    ["x"],
    [[NOBODY]],
    [7],
    [{}],
    [NOBODY] * 50_001,
    ["'; drop table x; --"],
]
HOSTILE: Final[dict[str, list[Any]]] = {
    "p_claims": JSONS,
    "p_results": JSONS,
    "p_scenario_type": TEXTS,
    "p_organization_id": UUIDS,
    "p_after": UUIDS,
    "p_user_id": UUIDS,
    "p_ids": LISTS,
    "p_user_ids": LISTS,
    "p_scenario_types": LISTS,
    "p_limit": INTEGERS,
    "p_samples": INTEGERS,
    "p_milestone_value": INTEGERS,
    "p_max_attempts": INTEGERS,
    "p_dry_run": [None, "x", "\u0000", 2, [], {}],
    "p_since": INSTANTS,
    "p_until": INSTANTS,
    "p_cutoff": INSTANTS,
    "p_lease_seconds": DOUBLES,
    "p_due_within_seconds": DOUBLES,
    "p_older_than_seconds": DOUBLES,
}
"""What each argument of a function is attacked with."""

GOOD: Final[dict[str, Any]] = {
    "p_claims": [],
    "p_results": [],
    "p_scenario_type": "inactivity",
    "p_organization_id": str(uuid4()),
    "p_after": None,
    "p_user_id": NOBODY,
    "p_ids": [NOBODY],
    "p_user_ids": [NOBODY],
    "p_scenario_types": ["inactivity"],
    "p_limit": 1,
    "p_samples": 1,
    "p_milestone_value": 10,
    "p_max_attempts": 8,
    "p_dry_run": True,
    "p_since": "2026-06-01T00:00:00Z",
    "p_until": "2026-07-01T00:00:00Z",
    "p_cutoff": "2026-06-01T00:00:00Z",
    "p_lease_seconds": 60,
    "p_due_within_seconds": 86_400,
    "p_older_than_seconds": 36_525 * 86_400,
}
