"""The purge: what it keeps, and that no decision changes by what it removes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.database import Database, claim, new_claim
from tests.rows import ago, insert_activities, insert_notification, insert_users

ORGANIZATION = UUID(int=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)
TYPES = ("inactivity", "certification_expiry", "welcome_back")


def _purge(
    worker: psycopg.Connection, older_than: timedelta | None = YEAR, after: UUID | None = None, limit: int | None = 100
) -> tuple[int, UUID | None]:
    call = "select public.scenario_purge_notifications(%s, %s, %s)"
    row = worker.execute(call, [older_than and older_than.total_seconds(), after, limit]).fetchone()
    assert row is not None
    return row[0]["purged"], row[0]["next_after"] and UUID(row[0]["next_after"])


def _purge_all(connection: psycopg.Connection, older_than: timedelta = YEAR, limit: int = 100) -> list[int]:
    """Purge page by page, and return what each page removed."""
    purged, after = _purge(connection, older_than, None, limit)
    pages = [purged]
    while after is not None:
        purged, after = _purge(connection, older_than, after, limit)
        pages.append(purged)
    return pages


def _add(  # noqa: PLR0913 - the columns a purge looks at
    connection: psycopg.Connection,
    user_id: UUID,
    age: timedelta,
    status: str = "sent",
    scenario_type: str = "inactivity",
    *,
    milestone_value: int | None = None,
    chained: bool = False,
) -> UUID:
    """Record a notification of that age, as a plain insert or (chained) as the claim that came after the last one."""
    predecessor = """
        select max(triggered_at) from public.scenario_notifications
        where user_id = %s and scenario_type = %s and cooldown_window_start is not null
    """
    (before,) = (chained and connection.execute(predecessor, [user_id, scenario_type]).fetchone()) or (None,)
    row = insert_notification(
        connection,
        user_id,
        scenario_type=scenario_type,
        triggered_at=ago(age),
        delivery_status=status,
        milestone_value=milestone_value,
        cooldown_window_start=(before or EPOCH) if chained else None,
    )
    added: UUID = row["id"]
    return added


def _ids(connection: psycopg.Connection) -> set[UUID]:
    return {row[0] for row in connection.execute("select id from public.scenario_notifications")}


def test_what_is_old_and_settled_goes(database: Database, worker: psycopg.Connection) -> None:
    """Of each user, type and status all but the newest row, once it is older than the period."""
    (user,) = database.new_users(1)
    kept, gone = set(), set()
    for scenario_type in TYPES:
        for status in ("sent", "failed"):
            gone |= {_add(worker, user, YEAR + age, status, scenario_type) for age in (timedelta(seconds=9), 3 * DAY)}
            kept |= {_add(worker, user, YEAR - timedelta(minutes=1), status, scenario_type)}
            kept |= {_add(worker, user, age, status, scenario_type) for age in (DAY, 30 * DAY)}

    assert _purge(worker) == (len(gone), None)
    assert _ids(worker) == kept
    assert _purge(worker) == (0, None)


def test_the_newest_row_of_each_status_is_kept(database: Database, worker: psycopg.Connection) -> None:
    """However old: the newest sent one is what get_last_sent_at tells, the newest not failed what a claim looks at."""
    (user,) = database.new_users(1)
    for status in ("sent", "failed"):
        _add(worker, user, 9 * YEAR, status)
    kept = {_add(worker, user, 8 * YEAR, "sent"), _add(worker, user, 7 * YEAR, "failed")}

    assert _purge(worker) == (2, None)
    assert _ids(worker) == kept


def test_pending_rows_and_milestones_are_kept(database: Database, worker: psycopg.Connection) -> None:
    """What is still to be sent, and what is once ever, whatever came of it and however many there are."""
    (user,) = database.new_users(1)
    kept = {_add(worker, user, age * YEAR, "pending") for age in (9, 8, 7)}
    kept |= {
        _add(worker, user, age * YEAR, status, "milestone", milestone_value=10 * age)
        for age in (9, 8, 7)
        for status in ("sent", "failed")
    }
    _add(worker, user, DAY)

    assert _purge(worker) == (0, None)
    assert kept < _ids(worker)


def test_the_newest_claim_is_kept(database: Database, worker: psycopg.Connection) -> None:
    """The head of the chain stays although plain inserts of its status came after it: the next claim follows it."""
    (user,) = database.new_users(1)
    gone = {_add(worker, user, 9 * YEAR, chained=True), _add(worker, user, 8 * YEAR, chained=True)}
    head = _add(worker, user, 7 * YEAR, chained=True)
    gone |= {_add(worker, user, 6 * YEAR)}
    newest = _add(worker, user, 5 * YEAR)

    assert _purge(worker) == (len(gone), None)
    assert _ids(worker) == {head, newest}
    (outcome,) = claim(worker, [new_claim(user)])
    follows = worker.execute("select triggered_at from public.scenario_notifications where id = %s", [head]).fetchone()
    assert follows == (datetime.fromisoformat(outcome["cooldown_window_start"]),)


def test_rows_of_one_moment_leave_one(database: Database, worker: psycopg.Connection) -> None:
    """Among rows of the very same moment the highest id counts as the newest."""
    (user,) = database.new_users(1)
    with worker.transaction():
        same = [_add(worker, user, 2 * YEAR) for _ in range(4)]
    assert _purge(worker) == (3, None)
    assert _ids(worker) == {max(same)}


def test_pages_of_users_cover_everybody_once(database: Database, worker: psycopg.Connection) -> None:
    """Each page takes the next users in the order of their ids, the lowest and the highest id included."""
    users = [*database.new_users(23), UUID(int=0), UUID(int=2**128 - 1)]
    with database.connect(role=None) as owner:
        insert_users(owner, users[-2:])
    for limit in (1, 4, 24, 25, 26):
        for user in users:
            for age in (2, 3):
                _add(worker, user, age * YEAR)

        pages = _purge_all(worker, limit=limit)

        assert len(pages) == 25 // limit + 1
        assert sum(pages) == (25 if limit == 1 else 50)
        assert set(pages[:-1]) <= {limit if limit == 1 else 2 * limit}
        assert len(_ids(worker)) == 25


def test_a_period_below_the_longest_cooldown_is_refused(database: Database, worker: psycopg.Connection) -> None:
    """An organization's own cooldown counts as well; exactly the longest is allowed."""
    (user,) = database.new_users(1)
    for age in (41, 42):
        _add(worker, user, age * DAY)
    refused = [
        (30 * DAY - timedelta(seconds=1), 100),
        (None, 100),
        (-YEAR, 1),
        *((YEAR, n) for n in (None, 0, 100_001)),
    ]
    for older_than, limit in refused:
        with pytest.raises(psycopg.DatabaseError) as refusal:
            _purge(worker, older_than, limit=limit)
        assert refusal.value.sqlstate == "SR001"
    worker.execute(
        """
        insert into public.scenario_evaluation_config (scenario_type, organization_id, cooldown)
        values ('welcome_back', %s, '40 days')
        """,
        [uuid4()],
    )
    with pytest.raises(psycopg.DatabaseError, match="40 days") as refusal:
        _purge(worker, 39 * DAY)
    assert refusal.value.sqlstate == "SR001"
    assert len(_ids(worker)) == 2

    assert _purge(worker, 40 * DAY, limit=100_000) == (1, None)


def test_claims_and_evaluation_go_on_meanwhile(database: Database, worker: psycopg.Connection) -> None:
    """Purges that run all the time disturb nobody, and let through not one claim that the cooldown refuses."""
    held = database.new_mentors(60, ORGANIZATION)
    free = database.new_mentors(60, ORGANIZATION)
    for mentor in (*held, *free):
        for age in (400, 300, 200, 100):
            _add(worker, mentor, age * DAY, chained=True)
    for mentor in held:
        _add(worker, mentor, 6 * DAY, chained=True)
        _add(worker, mentor, 5 * DAY, "failed", chained=True)
    insert_activities(worker, [*held, *free], ago("50 days"))
    over = Event()

    def repeat(call: Callable[[psycopg.Connection], object]) -> int:
        times = 0
        with database.connect() as connection:
            while not over.is_set():
                call(connection)
                times += 1
        return times

    def claim_everybody(connection: psycopg.Connection) -> list[UUID]:
        asked = (*held, *free)
        outcomes = claim(connection, [new_claim(mentor) for mentor in asked])
        return [mentor for mentor, outcome in zip(asked, outcomes, strict=True) if "id" in outcome]

    def evaluate(connection: psycopg.Connection) -> None:
        connection.execute("select public.scenario_evaluate('inactivity')")

    with ThreadPoolExecutor(4) as pool:
        purges = [pool.submit(repeat, lambda connection: _purge_all(connection, 30 * DAY, 7)) for _ in range(2)]
        evaluations = pool.submit(repeat, evaluate)
        claims = pool.submit(lambda: [claim_everybody(worker) for _ in range(30)])
        try:
            claimed = [mentor for some in claims.result(60) for mentor in some]
        finally:
            over.set()
        assert all(future.result(60) for future in (*purges, evaluations))

    assert not set(claimed) & set(held)
    counts = worker.execute(
        """
        select user_id, count(*) filter (where delivery_status = 'pending'), count(*)
        from public.scenario_notifications group by 1
        """
    ).fetchall()
    # Kept: the newest sent one, and beside it the failed one or the new claim.
    assert {user: (pending, total) for user, pending, total in counts} == {
        **dict.fromkeys(held, (0, 2)),
        **dict.fromkeys(free, (1, 2)),
    }


# The property: two users of one history, of whom only one is purged, can't be told apart by any decision.

_PAST = st.lists(
    st.tuples(
        st.sampled_from((*TYPES, "milestone")),
        st.sampled_from(("pending", "sent", "sent", "failed", "failed")),
        st.booleans(),
        st.integers(min_value=1, max_value=40).map(lambda hours: hours * timedelta(hours=6)),
    ),
    max_size=14,
)
_AGES = st.integers(min_value=1, max_value=15).map(lambda days: days * DAY)
_NEXT = st.tuples(_AGES, st.integers(min_value=1, max_value=4), st.sampled_from(("sent", "retry", "failed")), _AGES)


_APART = {"id", "user_id", "held_by", "next_attempt_at"}  # the last has a random part


def _told(answer: dict[str, Any] | None) -> object:
    """Leave out of an outcome or a record what differs between twins."""
    return {key: value for key, value in (answer or {}).items() if key not in _APART}


def _decisions(connection: psycopg.Connection, user: UUID) -> list[object]:
    """Everything that can be asked about a user."""
    row = connection.execute(
        """
        select jsonb_agg(jsonb_build_array(
          public.scenario_get_last_sent_at_many(array[%(user)s], type) -> 0,
          public.scenario_has_been_sent_since_threshold_many(array[%(user)s], type, now() - interval '20 days') -> 0
        ))
        from unnest(%(types)s::text[]) as type
        """,
        {"user": user, "types": list(TYPES)},
    ).fetchone()
    records = connection.execute(
        "select public.scenario_get_milestone_record_many(array[%s], n) -> 0 from generate_series(1, 4) as n", [user]
    )
    return [row, *[_told(record) for (record,) in records]]


def _claims(connection: psycopg.Connection, user: UUID, cooldown: timedelta, milestone_value: int) -> list[object]:
    """Claim one of everything."""
    claims = [new_claim(user, scenario_type=type_, cooldown_seconds=cooldown.total_seconds()) for type_ in TYPES]
    milestone = new_claim(user, scenario_type="milestone", cooldown_seconds=None, milestone_value=milestone_value)
    return [_told(outcome) for outcome in claim(connection, [*claims, milestone])]


def _settle(connection: psycopg.Connection, user: UUID, result: str) -> None:
    connection.execute(
        """
        select public.scenario_settle_notifications(coalesce(jsonb_agg(
          jsonb_build_object('id', id, 'attempt_count', attempt_count, 'result', %s::text)
        ), '[]'))
        from public.scenario_notifications
        where user_id = %s and delivery_status = 'pending'
        """,
        [result, user],
    )


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(past=_PAST, cut=st.integers(0, 14), older_than=_AGES, future=st.lists(_NEXT, max_size=5))
def test_no_decision_changes_by_a_purge(
    past: list[tuple[str, str, bool, timedelta]],
    cut: int,
    older_than: timedelta,
    future: list[tuple[timedelta, int, str, timedelta]],
    database: Database,
) -> None:
    """Of two users with one history, one is purged at any moments: no claim, look-up or milestone tells them apart."""
    purged = uuid4()
    # Neighbours, so that a page of one user holds one of them alone.
    twins = purged, UUID(int=purged.int ^ 1)
    ages = [sum((gap for *_, gap in past[index:]), timedelta(0)) for index in range(len(past))]
    with database.connect(role=None) as owner, owner.transaction(force_rollback=True):
        insert_users(owner, twins)
        owner.execute("update public.scenario_evaluation_config set cooldown = '1 day' where cooldown is not null")
        owner.execute("set local role service_role")
        for index, ((scenario_type, status, chained, _), age) in enumerate(zip(past, ages, strict=True)):
            if index == cut:
                _purge(owner, older_than, UUID(int=purged.int - 1), 1)
            for user in twins:
                value = index + 1 if scenario_type == "milestone" else None
                chain = chained and value is None
                _add(owner, user, age, status, scenario_type, milestone_value=value, chained=chain)
        _purge(owner, older_than, UUID(int=purged.int - 1), 1)

        for cooldown, milestone_value, result, later in future:
            one, two = (_decisions(owner, user) for user in twins)
            assert one == two
            one, two = (_claims(owner, user, cooldown, milestone_value) for user in twins)
            assert one == two
            for user in twins:
                _settle(owner, user, result)
            _purge(owner, later, UUID(int=purged.int - 1), 1)
        one, two = (_decisions(owner, user) for user in twins)
        assert one == two
