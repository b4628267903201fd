"""The answers of the API's functions, held against a recorded contract: from a release on they only gain fields.

``answers.json`` has each function's answer as a shape: an object's fields, an array's element, the JSON types a value
may have. Whoever adds a field records it: ``RECORD_ANSWERS=1 python -m pytest tests/integration/test_answers.py``.
Whoever takes one away, or changes its type, breaks the library's earlier releases: that needs a function of a new name.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest

from tests.integration.database import Database, new_claim, new_milestone
from tests.integration.delivery import settlement
from tests.integration.evaluation import act, certify, configure
from tests.rows import ORGANIZATION, ago, insert_activities, insert_devices, insert_notifications

RECORDED: Final = Path(__file__).with_name("answers.json")
_RESULTS: Final = {"inactivity": "failed", "certification_expiry": "retry"}
_OPEN: Final = {"facts", "metadata"}
"""Objects whose fields are words of the data: a rule's or an app's."""
_TYPES: Final = {str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}


def shape(value: object) -> Any:  # noqa: ANN401 - a shape is JSON
    """Return the shape of a JSON value; the elements of an array have one together."""
    if isinstance(value, dict):
        return {"object": {name: shape({} if _is_open(name, part) else part) for name, part in sorted(value.items())}}
    if isinstance(value, list):
        return {"array": joined([shape(part) for part in value])}
    return {"types": [_TYPES[type(value)]]}


def _is_open(name: str, part: object) -> bool:
    # What an evaluation skipped is counted by reason; what a claim skipped has columns.
    return name in _OPEN or (name == "skipped" and isinstance(part, dict) and "place" not in part)


def joined(shapes: list[Any]) -> Any:  # noqa: ANN401 - a shape is JSON
    """Join the shapes that a value has been seen to have."""
    result: dict[str, Any] = {}
    for one in shapes:
        for kind, content in one.items():
            if kind == "types":
                result[kind] = sorted({*result.get(kind, []), *content})
            elif kind == "array":
                result[kind] = joined([result.get(kind, {}), content])
            else:
                fields = result.setdefault(kind, {})
                for name, part in content.items():
                    fields[name] = joined([fields.get(name, {}), part])
    return result


def lost(recorded: Any, present: Any, where: str) -> list[str]:  # noqa: ANN401 - shapes are JSON
    """Say what the recorded shape has and the present one lacks, and which JSON types are new at a place."""
    found: list[str] = []
    for kind, content in recorded.items():
        if kind not in present:
            found.append(f"{where}: was {kind}")
        elif kind == "types":
            found += [f"{where}: may be {name} now" for name in present[kind] if name not in content]
        elif kind == "array":
            found += lost(content, present[kind], f"{where}[]")
        else:
            for name, part in content.items():
                if name in present[kind]:
                    found += lost(part, present[kind][name], f"{where}.{name}")
                else:
                    found.append(f"{where}.{name}: is gone")
    return found


@pytest.fixture
def answers(database: Database, worker: psycopg.Connection) -> dict[str, Any]:  # noqa: PLR0915 - a call a line
    """Call every function with what gives it something of everything to say, and return the shapes of the answers."""
    quiet, holder, busy, owner = database.new_mentors(4, ORGANIZATION)
    act(worker, quiet, "40 days")
    act(worker, busy, *(f"{day} days" for day in range(1, 12)))
    certify(worker, holder, "10 days")
    insert_devices(worker, [quiet, owner])
    functions = worker.execute(
        "select proname from pg_proc where pronamespace = 'public'::regnamespace and proname like 'scenario%'"
    )
    seen: dict[str, list[Any]] = {name: [] for (name,) in functions}

    def call(function: str, arguments: str, *values: object) -> Any:  # noqa: ANN401 - whatever json holds
        row = worker.execute(f"select public.{function}({arguments})".encode(), values).fetchone()
        assert row is not None
        seen[function].append(shape(row[0]))
        return row[0]

    call("scenario_get_schema", "")
    call("scenario_get_catalogue", "")
    call("scenario_check_rule", "'inactivity'")
    call("scenario_find_inactive_mentors", "%s, '30 days'", ORGANIZATION)
    for dry_run, limit in product((True, False, False), (1, 100)):
        call("scenario_evaluate", "'inactivity', null, null, %s, %s, null, %s", limit, dry_run, dry_run)
    for _ in range(6):
        # Before a page and after one.
        call("scenario_begin_run", "")
        call("scenario_evaluate_next_page", "'milestone', null, 1")
    call("scenario_evaluate", "'certification_expiry'")
    claims = [
        new_claim(owner, metadata={"n": 1}),
        new_claim(owner),
        new_claim(quiet),
        new_milestone(owner, 10),
        new_claim(owner, organization_id=None),
    ]
    configure(worker, "welcome_back", "deliver_within", "1 day", ORGANIZATION)
    about = {"scenario_type": "certification_expiry", "cooldown_seconds": 40 * 86_400}
    for subjects in (["a"], ["a"], ["a", "b"]):
        # With a lease: granted, held, and about something else as well.
        asked = [new_claim(owner, subjects=subjects, **about), new_claim(busy, scenario_type="welcome_back")]
        call("scenario_claim_notifications", "%s, 60", json.dumps(asked, default=str))
    for _ in range(2):
        call("scenario_claim_notifications", "%s", json.dumps(claims, default=str))
    # One reason for all.
    call("scenario_claim_notifications", "%s", json.dumps([new_claim(owner)], default=str))
    # What was claimed before and nobody has in hand, is taken over.
    call("scenario_claim_notifications", "%s, 60", json.dumps([new_claim(owner)], default=str))
    for user in (quiet, holder, busy, owner):
        call("scenario_explain", "%s", user)
    call("scenario_get_left_out", "")
    call("scenario_get_left_out", "null, true")
    call("scenario_explain_notification", "gen_random_uuid()")
    call("scenario_list_pending", "")
    call("scenario_get_status", "")
    leased = call("scenario_lease_notifications", "100, 60")["leased"]
    call("scenario_list_pending", "")
    results = [settlement(row, _RESULTS.get(row["scenario_type"], "sent"), "x") for row in leased]
    call("scenario_settle_notifications", "%s", json.dumps([*results, results[0] | {"lease_number": 9}, None]))
    settled = "update public.scenario_notifications set delivery_status = 'sent', failure_code = null"
    worker.execute(f"{settled} where delivery_status = 'pending'".encode())
    call("scenario_list_pending", "null, null, now() + interval '1 year', gen_random_uuid()")
    call("scenario_get_status", "")
    kept = [row["id"] for row in leased]
    call("scenario_simulate", """'inactivity', '{"inactive_after": "21 days"}', p_list => true""")
    stands_at = (
        "insert into scenario_private.pass_range (pass_id, number, place, upto)"
        " select config.id, range.number, range.place::uuid, range.upto::uuid"
        " from public.scenario_evaluation_config as config, (values (1, null, %s), (2, %s, null))"
        " as range (number, place, upto) where config.scenario_type = 'welcome_back'"
    )
    worker.execute(stands_at, [owner, owner])
    call("scenario_export_person", "%s", owner)
    for notification in kept:
        call("scenario_explain_notification", "%s", notification)
    call("scenario_cancel_notifications", "%s::uuid[]", kept)
    call("scenario_retry_notifications", "%s::uuid[]", [*kept, str(uuid4())])
    users = [quiet, holder, busy, owner]
    call("scenario_get_last_sent_at_many", "%s::uuid[], 'inactivity'", users)
    call("scenario_has_been_sent_since_threshold_many", "%s::uuid[], 'inactivity', now()", users)
    call("scenario_get_last_delivered_at_many", "%s::uuid[], 'inactivity'", users)
    call("scenario_has_been_delivered_since_many", "%s::uuid[], 'inactivity', now()", users)
    call("scenario_get_milestone_record_many", "%s::uuid[], 10", users)
    call("scenario_get_organization_report", "%s, now() - interval '1 day', now() + interval '1 day'", ORGANIZATION)
    call("scenario_get_outcomes", "%s, 'inactivity', now(), now(), 86400", ORGANIZATION)
    _tell_enough(database, worker)
    call("scenario_get_outcomes", "%s, 'inactivity', now() - interval '90 days', now(), 86400", ORGANIZATION)
    call("scenario_get_organization_report", "%s, now() - interval '90 days', now()", ORGANIZATION)
    # After a claim of before.
    database.let_pass(timedelta(days=30))
    call("scenario_claim_notifications", "%s", json.dumps([new_claim(owner)], default=str))
    call("scenario_purge_notifications", "31536000, null, 1")
    call("scenario_purge_notifications", "31536000")
    call("scenario_erase_person", "%s", owner)
    missing = [name for name, shapes in seen.items() if not shapes]
    assert not missing, f"not called: {missing}"
    return {name: joined(shapes) for name, shapes in sorted(seen.items())}


def _tell_enough(database: Database, worker: psycopg.Connection) -> None:
    """Tell ten persons 50 days ago and fail to tell ten, of whom five each came back: what came of it is shown."""
    for status in ("sent", "failed"):
        users = database.new_users(10)
        at = {"triggered_at": ago("50 days"), "settled_at": ago("50 days")}
        insert_notifications(worker, users, delivery_status=status, **at)
        insert_activities(worker, users[:5], ago("49 days 1 hour"))
        # And five of each just now.
        insert_notifications(worker, database.new_users(5), delivery_status=status)


def test_answers_only_gain_fields(answers: dict[str, Any]) -> None:
    """Nothing that the recorded contract has is gone or of another type; what is new is recorded as well."""
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    assert [fault for name, was in recorded.items() for fault in lost(was, answers.get(name, {}), name)] == []
    if os.environ.get("RECORD_ANSWERS"):
        RECORDED.write_text(json.dumps(answers, indent=1) + "\n")
    else:
        assert answers == recorded, "an answer gained a field: record it with RECORD_ANSWERS=1"


def test_what_an_answer_loses_is_named() -> None:
    """A field that is gone, one of another type, an array that became an object."""
    was = shape({"a": 1, "b": ["x"], "c": {"d": True}})
    assert lost(was, shape({"a": 1, "b": ["x"], "c": {"d": True}, "e": 1}), "f") == []
    assert lost(was, shape({"a": "1", "b": {"0": "x"}, "c": {}}), "f") == [
        "f.a: may be string now",
        "f.b: was array",
        "f.c.d: is gone",
    ]
