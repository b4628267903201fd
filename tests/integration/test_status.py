"""How things stand: what is pending in each state, what failed, the passes; and what is pending, page by page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.integration.database import Database
from tests.integration.delivery import lease, settle, settlement
from tests.integration.evaluation import act, configure
from tests.rows import ORGANIZATION, ago, ahead, insert_notification, set_handover

OTHER = UUID(int=2)


def status(worker: psycopg.Connection) -> dict[str, Any]:
    """Ask how things stand."""
    row = worker.execute("select public.scenario_get_status()").fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return answer


def scenario(worker: psycopg.Connection, kind: str = "inactivity") -> dict[str, Any]:
    """Ask how one scenario stands."""
    (one,) = [one for one in status(worker)["scenarios"] if one["scenario_type"] == kind]
    return dict(one)


def pending(worker: psycopg.Connection, *arguments: object) -> list[dict[str, Any]]:
    """List what is pending."""
    places = ", ".join(["%s"] * len(arguments))
    row = worker.execute(f"select public.scenario_list_pending({places})".encode(), arguments).fetchone()
    assert row is not None
    return list(row[0]["pending"])


def test_each_pending_notification_is_counted_once(database: Database, worker: psycopg.Connection) -> None:
    """Waiting, due or leased; what waits longest is due and in nobody's hands."""
    users = database.new_users(6)
    ids = [insert_notification(worker, user)["id"] for user in users]
    set_handover(worker, ids[:2], next_attempt_at=ahead("1 hour"))
    set_handover(worker, ids[2:3], next_attempt_at=ago("3 hours"))
    set_handover(worker, ids[3:4], next_attempt_at=ago("5 hours"), leased_until=ahead("1 minute"))
    set_handover(worker, ids[4:5], next_attempt_at=ago("2 hours"), leased_until=ago("1 minute"), unsettled_leases=1)
    insert_notification(worker, users[0], scenario_type="milestone", milestone_value=10)
    found = scenario(worker)
    counts = ("waiting", "due_now", "leased", "unsettled")
    assert tuple(found[name] for name in counts) == (2, 3, 1, 1)
    (moment,) = worker.execute("select now() - interval '3 hours'").fetchone() or (None,)
    assert abs(datetime.fromisoformat(found["oldest_due_at"]) - moment) < timedelta(minutes=1)
    assert tuple(scenario(worker, "milestone")[name] for name in counts) == (0, 1, 0, 0)
    assert scenario(worker, "welcome_back")["oldest_due_at"] is None


def test_failures_are_counted_by_when_they_failed(database: Database, worker: psycopg.Connection) -> None:
    """Of 24 hours and of 7 days, by code; what failed before is not counted, however late it was triggered."""
    users = database.new_users(5)
    for user, settled in zip(users, ("1 hour", "25 hours", "6 days", "8 days", "2 hours"), strict=True):
        code = None if settled == "2 hours" else "expired"
        insert_notification(worker, user, triggered_at=ago("9 days"), delivery_status="failed",
                            failure_code=code, settled_at=ago(settled))  # fmt: skip
    found = status(worker)["failures"]
    assert [(one["failure_code"], one["last_day"], one["last_week"]) for one in found] == [
        ("expired", 1, 3),
        (None, 1, 1),
    ]


def test_the_figures_of_the_passes_are_told(database: Database, worker: psycopg.Connection) -> None:
    """A pass that is under way, one that has ended, and one over a single organization that has settings of its own."""
    for user in database.new_mentors(3, ORGANIZATION):
        act(worker, user, "40 days")
    before = scenario(worker)
    assert (before["evaluated"], before["is_under_way"], before["finished_at"]) == (0, False, None)
    worker.execute("select public.scenario_evaluate_next_page('inactivity', null, 2)")
    under_way = scenario(worker)
    assert (under_way["evaluated"], under_way["claimed"], under_way["is_under_way"]) == (2, 2, True)
    worker.execute("select public.scenario_evaluate_next_page('inactivity', null, 2)")
    ended = scenario(worker)
    assert (ended["evaluated"], ended["claimed"], ended["is_under_way"]) == (3, 3, False)
    assert ended["finished_at"] is not None
    assert (ended["overriding"], ended["organization_pass_finished_at"]) == (0, None)
    worker.execute("select public.scenario_evaluate_next_page('inactivity', %s)", [ORGANIZATION])
    assert scenario(worker)["overriding"] == 0, "a row that only keeps a pass overrides nothing"
    configure(worker, "inactivity", "cooldown", "3 days", ORGANIZATION)
    one = scenario(worker)
    assert (one["overriding"], one["organization_pass_finished_at"] is None) == (1, False)


def test_every_scenario_of_the_settings_is_there(worker: psycopg.Connection) -> None:
    """In the order in which they are evaluated, enabled or not."""
    configure(worker, "milestone", "is_enabled", "false")
    found = status(worker)["scenarios"]
    assert [(one["scenario_type"], one["is_enabled"]) for one in found] == [
        ("inactivity", True),
        ("milestone", False),
        ("certification_expiry", True),
        ("welcome_back", True),
    ]


@pytest.mark.parametrize(
    "scope", [(None, None), (ORGANIZATION, None), (ORGANIZATION, "inactivity"), (None, "inactivity")]
)
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_pages_have_each_pending_one_once(
    database: Database, worker: psycopg.Connection, scope: tuple[UUID | None, str | None], limit: int
) -> None:
    """In the order in which they come due, those of the same moment too; of an organization, of a type, or of all."""
    made = [
        insert_notification(worker, user, organization_id=organization, scenario_type=kind)
        for user in database.new_users(3)
        for organization in (ORGANIZATION, OTHER)
        for kind in ("inactivity", "welcome_back")
    ]
    worker.execute("update scenario_private.handover set next_attempt_at = '2026-01-01T00:00:00Z'")
    set_handover(worker, [made[-1]["id"]], next_attempt_at="2025-01-01T00:00:00Z")
    seen: list[dict[str, Any]] = []
    while page := pending(
        worker, *scope, *((seen[-1]["next_attempt_at"], seen[-1]["id"]) if seen else (None, None)), limit
    ):
        assert len(page) <= limit
        seen += page
    wanted = {
        str(one["id"])
        for one in made
        if scope[0] in {None, one["organization_id"]} and scope[1] in {None, one["scenario_type"]}
    }
    assert {one["id"] for one in seen} == wanted
    assert len(seen) == len(wanted)
    assert seen == sorted(seen, key=lambda one: (one["next_attempt_at"], one["id"]))


def test_what_is_pending_tells_where_it_is(database: Database, worker: psycopg.Connection) -> None:
    """Its lease while it lasts, its tries, and why the last one failed; what is settled is no more in the list."""
    first, second = (insert_notification(worker, user) for user in database.new_users(2))
    leased = lease(worker, 2, 60)
    assert all(one["leased_until"] is not None and one["attempt_count"] == 1 for one in pending(worker))
    by_id = {one["id"]: one for one in leased}
    settle(
        worker, [settlement(by_id[str(first["id"])], "retry", "timeout"), settlement(by_id[str(second["id"])], "sent")]
    )
    (left,) = pending(worker)
    assert (left["id"], left["failure_code"], left["attempt_count"]) == (str(first["id"]), "timeout", 1)
    assert left["leased_until"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((None, None, None, None, 0), "p_limit"), ((None, None, None, None, 1_001), "p_limit"),
     ((None, None, "2026-01-01T00:00:00Z", None, 10), "p_after_id"),
     ((None, None, None, str(UUID(int=1)), 10), "p_after_at")],
)  # fmt: skip
def test_half_a_place_and_no_page_are_refused(
    worker: psycopg.Connection, arguments: tuple[object, ...], message: str
) -> None:
    """SR001 names the argument."""
    with pytest.raises(psycopg.Error, match=message) as refused:
        pending(worker, *arguments)
    assert refused.value.sqlstate == "SR001"


def test_an_unknown_organization_has_nothing_pending(worker: psycopg.Connection) -> None:
    """And an unknown type neither."""
    assert pending(worker, uuid4()) == pending(worker, None, "no_such_type") == []
