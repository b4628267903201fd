"""What became of one notification: as far as it is kept, and what it holds now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.integration.database import Database
from tests.integration.delivery import lease, settle, settlement
from tests.rows import ago, insert_notification, set_handover


def past(worker: psycopg.Connection, notification: UUID | str) -> dict[str, Any] | None:
    """Ask what happened to it."""
    row = worker.execute("select public.scenario_explain_notification(%s)", [notification]).fetchone()
    assert row is not None
    told: dict[str, Any] | None = row[0]["notification"]
    return told


def test_a_pending_one_is_told_with_its_way(database: Database, worker: psycopg.Connection) -> None:
    """Waiting, then in hand, then to be tried again: how often, until when, and why the last try failed."""
    (user,) = database.new_users(1)
    one = insert_notification(worker, user)["id"]
    told = past(worker, one)
    assert told is not None
    assert (told["delivery_status"], told["lease_count"], told["attempt_count"], told["holds"]) == (
        "pending",
        0,
        0,
        True,
    )
    (row,) = lease(worker)
    told = past(worker, one)
    assert told is not None
    assert (told["lease_count"], told["attempt_count"]) == (1, 1)
    assert told["leased_until"] is not None
    settle(worker, [settlement(row, "retry", "timeout")])
    told = past(worker, one)
    assert told is not None
    assert (told["failure_code"], told["leased_until"], told["attempt_count"]) == ("timeout", None, 1)
    assert told["next_attempt_at"] is not None
    # Nobody settles the next lease.
    set_handover(worker, [one], unsettled_at=ago("1 hour"))
    told = past(worker, one)
    assert told is not None
    assert told["unsettled_at"] is not None


def test_a_settled_one_is_told_with_what_it_holds(database: Database, worker: psycopg.Connection) -> None:
    """Sent, it holds for its cooldown from its delivery; then nothing. A milestone holds for good."""
    (user,) = database.new_users(1)
    given = {"delivery_status": "sent", "triggered_at": ago("5 days"), "settled_at": ago("4 days")}
    held = past(worker, insert_notification(worker, user, cooldown=timedelta(days=30), **given)["id"])
    over = past(worker, insert_notification(worker, user, cooldown=timedelta(days=3), **given)["id"])
    good = past(worker, insert_notification(worker, user, scenario_type="milestone", milestone_value=10, **given)["id"])
    assert held is not None
    assert over is not None
    assert good is not None
    until = datetime.fromisoformat(held["holds_until"]) - datetime.fromisoformat(held["settled_at"])
    assert (held["holds"], until) == (True, timedelta(days=30))
    assert (over["holds"], over["holds_until"]) == (False, None)
    assert (good["holds"], good["holds_until"]) == (True, None)
    assert (held["lease_count"], held["next_attempt_at"]) == (None, None)


def test_a_failed_one_is_told_with_its_reason(database: Database, worker: psycopg.Connection) -> None:
    """What it holds is what its reason says, as of now."""
    one, other = database.new_users(2)
    for user, code, holds in ((one, "muted", False), (other, "timeout", True)):
        row = insert_notification(worker, user)["id"]
        worker.execute(
            "update public.scenario_notifications set delivery_status = 'failed', failure_code = %s where id = %s",
            [code, row],
        )
        told = past(worker, row)
        assert told is not None
        assert (told["delivery_status"], told["failure_code"], told["holds"]) == ("failed", code, holds)


def test_the_next_one_of_the_type_is_named(database: Database, worker: psycopg.Connection) -> None:
    """The one that came right after, of the same user and type; the newest has none."""
    (user,) = database.new_users(1)
    ids = [insert_notification(worker, user, triggered_at=ago(f"{days} days"))["id"] for days in (9, 6, 3)]
    insert_notification(worker, user, triggered_at=ago("8 days"), scenario_type="welcome_back")
    told = [past(worker, one) for one in ids]
    assert [one and one["next_id"] for one in told] == [str(ids[1]), str(ids[2]), None]


def test_there_may_be_none(worker: psycopg.Connection) -> None:
    """An id that nobody has is answered, and none at all is refused."""
    assert past(worker, uuid4()) is None
    with pytest.raises(psycopg.Error) as refused:
        worker.execute("select public.scenario_explain_notification(null)")
    assert refused.value.sqlstate == "SR001"
