"""The look-ups for many users: what the single ones say, user by user, in one answer."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.database import Database
from tests.rows import insert_notification, insert_rows, insert_users

NOON: Final = datetime(2026, 11, 2, 12, tzinfo=UTC)
LAST_SENT: Final = "select public.scenario_get_last_sent_at_many(%s::uuid[], 'inactivity')"
SENT_SINCE: Final = "select public.scenario_has_been_sent_since_threshold_many(%s::uuid[], 'inactivity', '2026-11-02')"
LAST_DELIVERED: Final = "select public.scenario_get_last_delivered_at_many(%s::uuid[], 'inactivity')"
DELIVERED_SINCE: Final = "select public.scenario_has_been_delivered_since_many(%s::uuid[], 'inactivity', '2026-11-02')"
MILESTONE: Final = "select public.scenario_get_milestone_record_many(%s::uuid[], 10)"
EVERY_LOOK_UP: Final = pytest.mark.parametrize(
    ("function", "nothing"),
    [(LAST_SENT, None), (SENT_SINCE, False), (LAST_DELIVERED, None), (DELIVERED_SINCE, False), (MILESTONE, None)],
)

# The single look-ups, as PostgREST puts them.
SINGLE_LAST_SENT: Final = """
select triggered_at from public.scenario_notifications
where user_id = %s and scenario_type = %s and delivery_status = 'sent'
order by triggered_at desc limit 1
"""
SINGLE_SENT_SINCE: Final = """
select triggered_at from public.scenario_notifications
where user_id = %s and scenario_type = %s and delivery_status = 'sent' and triggered_at >= %s
order by triggered_at desc limit 1
"""
SINGLE_LAST_DELIVERED: Final = """
select max(settled_at) from public.scenario_notifications
where user_id = %s and scenario_type = %s and delivery_status = 'sent'
"""
SINGLE_DELIVERED_SINCE: Final = f"{SINGLE_LAST_DELIVERED} having max(settled_at) >= %s"
SINGLE_MILESTONE: Final = """
select to_json(notification) from public.scenario_notifications as notification
where user_id = %s and scenario_type = 'milestone' and milestone_value = %s and delivery_status <> 'failed'
limit 1
"""


def look_up(worker: psycopg.Connection, query: str, *arguments: object) -> list[Any]:
    """Return the answers, one for each id."""
    ((answer,),) = worker.execute(query.encode(), arguments).fetchall()
    answers: list[Any] = answer["answers"]
    assert answer == {"answers": answers}
    return answers


def insert(worker: psycopg.Connection, user_id: UUID, age: timedelta, kind: object = "inactivity") -> None:
    """Record what was sent that long before noon: of a type, or a milestone."""
    of = {"scenario_type": "milestone", "milestone_value": kind} if isinstance(kind, int) else {"scenario_type": kind}
    insert_notification(worker, user_id, **of, delivery_status="sent", triggered_at=NOON - age)


@EVERY_LOOK_UP
def test_answers_come_in_the_order_of_the_ids(
    function: str, nothing: object, database: Database, worker: psycopg.Connection
) -> None:
    """One answer for each id however they are ordered: known, unknown, without history, asked for twice."""
    users = database.new_users(20)
    for number, user in enumerate(users[:15]):
        insert(worker, user, timedelta(minutes=number))
        insert(worker, user, timedelta(minutes=number), 10)
    asked = [*users, uuid4(), *users[:5], UUID(int=0)]
    random.Random(20).shuffle(asked)  # noqa: S311
    answers = look_up(worker, function, asked)
    assert answers == [look_up(worker, function, [user])[0] for user in asked]
    assert [answer == nothing for answer in answers] == [user not in users[:15] for user in asked]
    if function in {LAST_SENT, LAST_DELIVERED}:
        times = {user: NOON - timedelta(minutes=number) for number, user in enumerate(users[:15])}
        assert [answer and datetime.fromisoformat(answer) for answer in answers] == list(map(times.get, asked))
    if function == MILESTONE:
        assert [answer["user_id"] for answer in answers if answer] == [
            str(user) for user in asked if user in users[:15]
        ]


@EVERY_LOOK_UP
def test_no_ids_have_no_answers(function: str, nothing: object, worker: psycopg.Connection) -> None:
    """An empty array gives no answers; a null among the ids is somebody without a history."""
    assert look_up(worker, function, []) == []
    assert look_up(worker, function, [None]) == [nothing]


@pytest.mark.parametrize(
    "call",
    [
        "scenario_get_last_sent_at_many(null, 'inactivity')",
        "scenario_has_been_sent_since_threshold_many(null, 'inactivity', now())",
        "scenario_has_been_sent_since_threshold_many('{}', 'inactivity', null)",
        "scenario_get_last_delivered_at_many(null, 'inactivity')",
        "scenario_has_been_delivered_since_many(null, 'inactivity', now())",
        "scenario_has_been_delivered_since_many('{}', 'inactivity', null)",
        "scenario_get_milestone_record_many(null, 10)",
        "scenario_get_milestone_record_many('{}', null)",
    ],
)
def test_a_missing_argument_is_refused(call: str, worker: psycopg.Connection) -> None:
    """SR001 names it: no answer to a question that was not asked."""
    with pytest.raises(psycopg.DatabaseError, match=r"expected p_\w+, got null") as refusal:
        worker.execute(f"select public.{call}".encode())
    assert refusal.value.sqlstate == "SR001"


@EVERY_LOOK_UP
def test_50000_ids_are_answered_and_one_more_refused(
    function: str, nothing: object, database: Database, worker: psycopg.Connection
) -> None:
    """The limit is in the message of SR003; below it nothing is cut."""
    (known,) = database.new_users(1)
    insert(worker, known, timedelta(0))
    insert(worker, known, timedelta(0), 10)
    asked = [UUID(int=number) for number in range(50_000)]
    asked[31_415] = known
    answers = look_up(worker, function, asked)
    assert len(answers) == 50_000
    assert [index for index, answer in enumerate(answers) if answer != nothing] == [31_415]
    with pytest.raises(psycopg.Error, match="expected at most 50000 elements, got 50001") as refusal:
        look_up(worker, function, [*asked, known])
    assert refusal.value.sqlstate == "SR003"


@pytest.mark.parametrize("role", ["anon", "authenticated"])
@EVERY_LOOK_UP
def test_only_a_worker_may_look_up_many(function: str, nothing: object, role: str, database: Database) -> None:
    """The key of an app, or a signed-in user's token, is denied."""
    assert not nothing
    with database.connect(role) as stranger, pytest.raises(psycopg.errors.InsufficientPrivilege):
        look_up(stranger, function, [])


USERS: Final = tuple(UUID(int=number) for number in range(1, 5))
ASKED: Final = (*USERS, UUID(int=99))
ages = st.integers(0, 6).map(lambda hours: timedelta(hours=hours))
notifications = st.tuples(
    st.sampled_from(USERS),
    st.sampled_from([("inactivity", None), ("welcome_back", None), ("milestone", 10), ("milestone", 25)]),
    st.sampled_from(["pending", "sent", "failed"]),
    ages,
    ages,
)


def test_many_mean_the_same_as_one(database: Database, worker: psycopg.Connection) -> None:
    """Over any history, for any ids, types and cutoffs, each answer is that of the single query."""
    with database.connect(role=None) as owner:
        insert_users(owner, USERS)

    @settings(
        max_examples=100,
        deadline=None,
        database=None,
        derandomize="CI" in os.environ,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        history=st.lists(notifications, max_size=25),
        asked=st.lists(st.sampled_from(ASKED), max_size=8),
        kind=st.sampled_from(["inactivity", "welcome_back", "certification_expiry"]),
        cutoff=ages.map(lambda age: NOON - age),
        value=st.sampled_from([10, 25, 50]),
    )
    def agree(
        history: list[tuple[UUID, tuple[str, int | None], str, timedelta, timedelta]],
        asked: list[UUID],
        kind: str,
        cutoff: datetime,
        value: int,
    ) -> None:
        def single(query: str, user: UUID, *arguments: object) -> Any:  # noqa: ANN401
            row = worker.execute(query.encode(), [user, *arguments]).fetchone()
            return row and row[0]

        worker.execute("delete from public.scenario_notifications where true")
        rows = (
            {
                "user_id": user,
                "scenario_type": kind,
                "milestone_value": milestone,
                "delivery_status": status,
                "triggered_at": NOON - age,
                # Also before the trigger, as nothing forbids it.
                "settled_at": None if status == "pending" else NOON - settled,
            }
            for user, (kind, milestone), status, age, settled in history
        )
        insert_rows(worker, "scenario_notifications", rows, on_conflict=" on conflict do nothing")

        times = look_up(worker, "select public.scenario_get_last_sent_at_many(%s, %s)", asked, kind)
        assert [time and datetime.fromisoformat(time) for time in times] == [
            single(SINGLE_LAST_SENT, user, kind) for user in asked
        ]
        assert look_up(
            worker, "select public.scenario_has_been_sent_since_threshold_many(%s, %s, %s)", asked, kind, cutoff
        ) == [single(SINGLE_SENT_SINCE, user, kind, cutoff) is not None for user in asked]
        delivered = look_up(worker, "select public.scenario_get_last_delivered_at_many(%s, %s)", asked, kind)
        assert [time and datetime.fromisoformat(time) for time in delivered] == [
            single(SINGLE_LAST_DELIVERED, user, kind) for user in asked
        ]
        assert look_up(
            worker, "select public.scenario_has_been_delivered_since_many(%s, %s, %s)", asked, kind, cutoff
        ) == [single(SINGLE_DELIVERED_SINCE, user, kind, cutoff) is not None for user in asked]
        assert look_up(worker, "select public.scenario_get_milestone_record_many(%s, %s)", asked, value) == [
            single(SINGLE_MILESTONE, user, value) for user in asked
        ]

    agree()
