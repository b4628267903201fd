"""What is recorded beside a notification, whoever writes: plain writes keep the books too, and the past is fixed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Composable

from tests.integration.database import Database, claim, new_claim, new_milestone, now, results
from tests.integration.delivery import deliver, ids, lease
from tests.postgres.server import PostgresServer
from tests.rows import ago, ahead, insert_notification

DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests."""
    yield Database(postgres_server.create_database("books", template=migrated))
    postgres_server.drop_database("books")


@pytest.fixture
def database(shared: Database) -> Iterator[Database]:
    """Empty the database afterwards."""
    yield shared
    with shared.connect(role=None) as owner:
        owner.execute("delete from auth.users")


@pytest.fixture
def user(database: Database) -> UUID:
    """Create a user without a history."""
    return database.new_users(1)[0]


def read(worker: psycopg.Connection, column: str, notification_id: object) -> Any:  # noqa: ANN401 - any column
    """Read one column of a notification."""
    query = SQL("select {} from public.scenario_notifications where id = %s").format(psycopg.sql.Identifier(column))
    return worker.execute(query, [notification_id]).fetchall()[0][0]


def write(worker: psycopg.Connection, notification_id: object, **columns: object) -> datetime:
    """Update a notification as any writer might; return when that was."""
    settings = SQL(", ").join(
        SQL("{} = {}").format(psycopg.sql.Identifier(name), value) for name, value in columns.items()
    )
    with worker.transaction():
        moment = now(worker)
        query = SQL("update public.scenario_notifications set {} where id = %s").format(settings)
        assert worker.execute(query, [notification_id]).rowcount == 1
    return moment


def ends_at(worker: psycopg.Connection, user: UUID, **overrides: object) -> datetime | None:
    """Claim, and return until when it is held; None where it is granted."""
    with worker.transaction(force_rollback=True):
        (outcome,) = claim(worker, [new_claim(user, **overrides)])
    return datetime.fromisoformat(outcome["ends_at"]) if "ends_at" in outcome else None


@pytest.mark.parametrize("age", [timedelta(0), 3 * DAY, 40 * DAY])
def test_a_plain_insert_that_was_sent_holds_from_the_later_of_its_times(
    age: timedelta, worker: psycopg.Connection, user: UUID
) -> None:
    """It was settled when it was triggered, unless the writer says otherwise; the claim's own cooldown counts."""
    row = insert_notification(worker, user, delivery_status="sent", triggered_at=ago(age))
    assert (row["origin"], row["cooldown"], row["subjects"]) == ("insert", None, [])
    assert row["settled_at"] == row["triggered_at"]
    for length in WEEK, 30 * DAY, 41 * DAY:
        held = row["triggered_at"] + length if age < length else None
        assert ends_at(worker, user, cooldown_seconds=length.total_seconds()) == held


def test_a_plain_insert_may_say_when_it_was_settled(worker: psycopg.Connection, user: UUID) -> None:
    """Triggered 40 days ago and sent yesterday, it holds from yesterday on."""
    row = insert_notification(worker, user, delivery_status="sent", triggered_at=ago(40 * DAY), settled_at=ago(DAY))
    assert ends_at(worker, user) == row["settled_at"] + WEEK


@pytest.mark.parametrize("age", [timedelta(0), 3 * DAY, 40 * DAY])
def test_a_plain_insert_that_is_pending_holds_and_is_handed_out(
    age: timedelta, worker: psycopg.Connection, user: UUID
) -> None:
    """From now on for as long as its scenario's settings say, however long ago it was triggered."""
    with worker.transaction():
        moment = now(worker)
        row = insert_notification(worker, user, triggered_at=ago(age))
    assert row["settled_at"] is None
    assert row["deliver_until"] == moment + WEEK
    for length in DAY, 30 * DAY, 50 * DAY:
        expected = max(row["deliver_until"], row["triggered_at"] + length)
        assert ends_at(worker, user, cooldown_seconds=length.total_seconds()) == expected
    assert ids(deliver(worker)) == [str(row["id"])]
    settled_at = read(worker, "settled_at", row["id"])
    assert ends_at(worker, user) == settled_at + WEEK


def test_a_plain_insert_is_handed_out_as_long_as_its_organization_says(worker: psycopg.Connection, user: UUID) -> None:
    """The organization's own deliver_within, or what the writer gives."""
    worker.execute(
        "insert into public.scenario_evaluation_config (scenario_type, organization_id, deliver_within)"
        " values ('inactivity', %s, '2 days')",
        [organization := uuid4()],
    )
    with worker.transaction():
        moment = now(worker)
        row = insert_notification(worker, user, organization_id=organization)
        given = insert_notification(worker, user, organization_id=organization, deliver_until=ahead(DAY))
    assert (row["deliver_until"], given["deliver_until"]) == (moment + 2 * DAY, moment + DAY)
    worker.execute("delete from public.scenario_evaluation_config where organization_id = %s", [organization])


@pytest.mark.parametrize("age", [timedelta(0), 3 * DAY])
def test_a_plain_insert_that_failed_holds_nothing(age: timedelta, worker: psycopg.Connection, user: UUID) -> None:
    """Whatever its code says."""
    for code in None, "invalid_token", "suppressed":
        row = insert_notification(worker, user, delivery_status="failed", triggered_at=ago(age), failure_code=code)
        assert (row["settled_at"], row["held_until"]) == (row["triggered_at"], None)
    assert ends_at(worker, user) is None


def test_a_milestone_inserted_plainly_holds_for_good(database: Database, worker: psycopg.Connection) -> None:
    """Pending or sent; a failed one holds nothing."""
    for status, outcome in ("pending", "milestone_reached"), ("sent", "milestone_reached"), ("failed", "claimed"):
        (user,) = database.new_users(1)
        insert_notification(
            worker,
            user,
            scenario_type="milestone",
            milestone_value=10,
            delivery_status=status,
            triggered_at=ago(4000 * DAY),
        )
        assert results(claim(worker, [new_milestone(user, 10), new_milestone(user, 25)])) == [outcome, "claimed"]


def test_the_future_is_a_day_long(worker: psycopg.Connection, user: UUID) -> None:
    """A trigger that lies further ahead would hold for longer than anybody asked for."""
    insert_notification(worker, user, triggered_at=ahead(timedelta(hours=23)))
    with pytest.raises(psycopg.errors.CheckViolation, match="triggered_at_is_at_most_a_day_ahead"):
        insert_notification(worker, user, triggered_at=ahead(timedelta(hours=25)))


@pytest.mark.parametrize(
    ("columns", "held_for"),
    [
        ({"delivery_status": "failed"}, DAY),
        ({"delivery_status": "failed", "failure_code": "mailbox_full"}, DAY),
        ({"delivery_status": "failed", "failure_code": "cancelled"}, 30 * DAY),
        ({"delivery_status": "failed", "failure_code": "suppressed"}, 30 * DAY),
        ({"delivery_status": "failed", "failure_code": "expired"}, None),
        ({"delivery_status": "failed", "failure_code": "user_gone"}, None),
        ({"delivery_status": "failed", "failure_code": "no_longer_due"}, None),
    ],
)
@pytest.mark.parametrize("origin", ["claim", "insert"])
def test_a_plain_update_keeps_the_books(
    columns: dict[str, object], held_for: timedelta | None, origin: str, worker: psycopg.Connection, user: UUID
) -> None:
    """It is settled now, holds what its code says, and is handed out no more."""
    month = (30 * DAY).total_seconds()
    made = (
        claim(worker, [new_claim(user, cooldown_seconds=month)])[0]
        if origin == "claim"
        else insert_notification(worker, user)
    )
    moment = write(worker, made["id"], **columns)
    assert read(worker, "settled_at", made["id"]) == moment
    assert read(worker, "held_until", made["id"]) == (held_for and moment + held_for)
    assert ends_at(worker, user, cooldown_seconds=month) == (held_for and moment + held_for)
    assert lease(worker) == []
    assert worker.execute("select from scenario_private.handover").rowcount == 0


def test_a_plain_update_under_a_lease_ends_it(database: Database, worker: psycopg.Connection, user: UUID) -> None:
    """It was sent now, and the lease can no longer be settled."""
    claim(worker, [new_claim(user)])
    (leased,) = lease(worker)
    moment = write(worker, leased["id"], delivery_status="sent")
    assert read(worker, "settled_at", leased["id"]) == moment
    database.let_pass(timedelta(minutes=2))
    assert lease(worker) == []


def test_a_plain_update_doesn_t_forget_that_she_may_have_been_told(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """A lease ran out unsettled: whatever the update says, it holds as if sent then."""
    claim(worker, [new_claim(user)])
    (leased,) = lease(worker)
    database.let_pass(timedelta(minutes=2))
    until = datetime.fromisoformat(leased["leased_until"]) - timedelta(minutes=2)
    write(worker, leased["id"], delivery_status="failed", failure_code="no_longer_due")
    assert read(worker, "unsettled_at", leased["id"]) == until
    assert ends_at(worker, user) == until + WEEK


FIXED: dict[str, Composable] = {
    "id": SQL("gen_random_uuid()"),
    "user_id": SQL("gen_random_uuid()"),
    "organization_id": SQL("gen_random_uuid()"),
    "scenario_type": SQL("'welcome_back'"),
    "triggered_at": SQL("triggered_at - interval '1 second'"),
    "cooldown_window_start": SQL("cooldown_window_start - interval '1 second'"),
    "origin": SQL("'insert'"),
    "cooldown": SQL("interval '1 second'"),
    "subjects": SQL("array['other']"),
}
OUTCOME: dict[str, Composable] = {
    "settled_at": SQL("settled_at - interval '1 second'"),
    "unsettled_at": SQL("now()"),
    "deliver_until": SQL("deliver_until + interval '1 second'"),
    "held_until": SQL("coalesce(held_until, now()) + interval '1 second'"),
}


@pytest.mark.parametrize("column", FIXED)
@pytest.mark.parametrize("status", ["pending", "sent", "failed"])
def test_what_it_is_about_is_fixed(column: str, status: str, worker: psycopg.Connection, user: UUID) -> None:
    """Whose, which, when, about what and by whom: from the first moment on."""
    (made,) = claim(worker, [new_claim(user, subjects=["one"])])
    if status != "pending":
        write(worker, made["id"], delivery_status=status)
    with pytest.raises(psycopg.errors.DatabaseError, match="a notification's history is final") as refused:
        write(worker, made["id"], **{column: FIXED[column]})
    assert refused.value.sqlstate == "SR002"


@pytest.mark.parametrize("column", OUTCOME)
@pytest.mark.parametrize("code", ["invalid_token", "no_longer_due"])
def test_the_outcome_is_fixed(column: str, code: str, worker: psycopg.Connection, user: UUID) -> None:
    """Once it is settled; what it holds never lasts longer."""
    (made,) = claim(worker, [new_claim(user)])
    write(worker, made["id"], delivery_status="failed", failure_code=code)
    with pytest.raises(psycopg.errors.DatabaseError, match="a notification's history is final") as refused:
        write(worker, made["id"], **{column: OUTCOME[column]})
    assert refused.value.sqlstate == "SR002"


def test_what_it_holds_may_end_early(worker: psycopg.Connection, user: UUID) -> None:
    """An operator shortens it, then ends it, and can't bring it back."""
    (made,) = claim(worker, [new_claim(user)])
    write(worker, made["id"], delivery_status="failed", failure_code="cancelled")
    shorter = write(worker, made["id"], held_until=ahead(DAY)) + DAY
    assert ends_at(worker, user) == shorter
    write(worker, made["id"], held_until=None)
    assert ends_at(worker, user) is None
    with pytest.raises(psycopg.errors.DatabaseError, match="never last longer"):
        write(worker, made["id"], held_until=ahead(timedelta(hours=1)))


@pytest.mark.parametrize(
    "columns",
    [
        {"settled_at": SQL("now()")},
        {"held_until": SQL("now()")},
        {"unsettled_at": SQL("now()")},
        {"delivery_status": "sent", "held_until": SQL("now()")},
    ],
    ids=repr,
)
def test_a_pending_or_sent_one_has_no_books_of_a_failure(
    columns: dict[str, object], worker: psycopg.Connection, user: UUID
) -> None:
    """settled_at is null exactly while it is pending; only a failed one is held until a time of its own."""
    (made,) = claim(worker, [new_claim(user)])
    with pytest.raises(psycopg.errors.CheckViolation):
        write(worker, made["id"], **columns)


def test_a_claim_and_an_evaluation_say_who_they_are(worker: psycopg.Connection, user: UUID) -> None:
    """With the cooldown they asked for; a milestone has none."""
    first, second = claim(worker, [new_claim(user, subjects=["b", "a", "b"]), new_milestone(user, 10)])
    assert read(worker, "origin", first["id"]) == "claim"
    assert read(worker, "cooldown", first["id"]) == WEEK
    assert read(worker, "subjects", first["id"]) == ["a", "b"]
    assert read(worker, "cooldown", second["id"]) is None
    assert datetime.now(UTC) - read(worker, "triggered_at", second["id"]) < DAY
