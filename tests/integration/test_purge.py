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
from tests.integration.delivery import deliver
from tests.rows import ago, insert_activities, insert_notification, insert_notifications, insert_users

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
    **columns: object,
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
        **columns,
    )
    added: UUID = row["id"]
    return added


def _ids(connection: psycopg.Connection) -> set[UUID]:
    return {row[0] for row in connection.execute("select id from public.scenario_notifications")}


def test_what_is_old_and_settled_goes(database: Database, worker: psycopg.Connection) -> None:
    """Of each user, type and status what is older than the period, but for what a later decision rests on."""
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


def test_as_many_reminders_are_kept_as_a_series_may_have(database: Database, worker: psycopg.Connection) -> None:
    """However old: three of inactivity, one of the others; what failed and holds nothing goes."""
    (user,) = database.new_users(1)
    kept = set()
    for scenario_type, number in (("inactivity", 3), ("certification_expiry", 1), ("welcome_back", 1)):
        sent = [_add(worker, user, years * YEAR, "sent", scenario_type) for years in (9, 8, 7, 6, 5)]
        kept |= set(sent[-number:])
        for years in (9, 4):
            _add(worker, user, years * YEAR, "failed", scenario_type)

    assert _purge(worker) == (3 * 7 - 5, None)
    assert _ids(worker) == kept


def test_what_may_have_been_told_counts_as_a_reminder(database: Database, worker: psycopg.Connection) -> None:
    """A failure after a lease that nobody settled is one of the newest that are kept."""
    (user,) = database.new_users(1)
    told = _add(worker, user, 9 * YEAR, "sent", "welcome_back")
    perhaps = _add(
        worker, user, 8 * YEAR, "failed", "welcome_back", unsettled_at=ago(8 * YEAR), held_until=ago(7 * YEAR)
    )
    assert _purge(worker) == (0, None)
    assert _ids(worker) == {told, perhaps}


def test_the_newest_of_each_subject_is_kept(database: Database, worker: psycopg.Connection) -> None:
    """A row goes when each of its subjects was named again, or one without subjects named them all."""
    one, two = database.new_users(2)
    subjects = {9: ["a", "b"], 8: ["a"], 7: ["c"], 6: ["b"], 5: ["a"]}
    rows = {
        years: _add(worker, one, years * YEAR, "sent", "certification_expiry", subjects=of)
        for years, of in subjects.items()
    }
    for years in (9, 8):
        _add(worker, two, years * YEAR, "sent", "certification_expiry", subjects=["a"])
    newest = _add(worker, two, 7 * YEAR, "sent", "certification_expiry")

    assert _purge(worker) == (4, None)
    assert _ids(worker) == {rows[7], rows[6], rows[5], newest}


def test_what_was_delivered_last_is_kept(database: Database, worker: psycopg.Connection) -> None:
    """By triggered_at and by settled_at it may be two: each is what a look-up tells."""
    (user,) = database.new_users(1)
    delivered_last = _add(worker, user, 9 * YEAR, "sent", "welcome_back", settled_at=ago(5 * YEAR))
    _add(worker, user, 8 * YEAR, "sent", "welcome_back")
    triggered_last = _add(worker, user, 7 * YEAR, "sent", "welcome_back")
    assert _purge(worker) == (1, None)
    assert _ids(worker) == {delivered_last, triggered_last}


def test_the_period_begins_when_a_row_is_over(database: Database, worker: psycopg.Connection) -> None:
    """When it was settled, when its hold ended, and when the lease ended that nobody settled."""
    (user,) = database.new_users(1)
    _add(worker, user, DAY, "sent", "welcome_back")
    _add(worker, user, 2 * YEAR, "failed", "welcome_back", held_until=ago(YEAR + DAY))
    kept = {
        _add(worker, user, 2 * YEAR, "sent", "welcome_back", settled_at=ago(YEAR - DAY)),
        _add(worker, user, 2 * YEAR, "failed", "welcome_back", held_until=ago(YEAR - DAY)),
        _add(worker, user, 2 * YEAR, "failed", "welcome_back", unsettled_at=ago(YEAR - DAY)),
    }
    assert _purge(worker) == (1, None)
    assert kept < _ids(worker)


def test_pending_rows_and_milestones_are_kept(database: Database, worker: psycopg.Connection) -> None:
    """What is still to be sent, and what is once ever, however many there are; a failed milestone goes.

    One that is held for good stays: without it the milestone could be claimed again.
    """
    (user,) = database.new_users(1)
    kept = {_add(worker, user, age * YEAR, "pending") for age in (9, 8, 7)}
    for age in (9, 8, 7):
        kept |= {_add(worker, user, age * YEAR, "sent", "milestone", milestone_value=10 * age)}
        _add(worker, user, age * YEAR, "failed", "milestone", milestone_value=10 * age)
    kept |= {_add(worker, user, DAY)}
    # What is held for good has no end that Python could read.
    held = {"scenario_type": "milestone", "milestone_value": 5, "delivery_status": "failed", "held_until": "infinity"}
    insert_notifications(worker, [user], triggered_at=ago(9 * YEAR), **held)

    assert _purge(worker) == (3, None)
    assert kept < _ids(worker)
    assert len(_ids(worker)) == len(kept) + 1
    assert worker.execute("select from public.scenario_notifications where held_until = 'infinity'").rowcount == 1


def test_the_newest_claim_is_kept(database: Database, worker: psycopg.Connection) -> None:
    """The head of the chain stays although plain inserts of its status came after it: the next claim follows it."""
    (user,) = database.new_users(1)
    kind = "welcome_back"
    gone = {_add(worker, user, years * YEAR, "sent", kind, chained=True) for years in (9, 8)}
    head = _add(worker, user, 7 * YEAR, "failed", kind, chained=True)
    gone |= {_add(worker, user, 6 * YEAR, "sent", kind)}
    newest = _add(worker, user, 5 * YEAR, "sent", kind)

    assert _purge(worker) == (len(gone), None)
    assert _ids(worker) == {head, newest}
    (outcome,) = claim(worker, [new_claim(user, scenario_type=kind)])
    follows = worker.execute("select triggered_at from public.scenario_notifications where id = %s", [head]).fetchone()
    assert follows == (datetime.fromisoformat(outcome["cooldown_window_start"]),)


def test_rows_of_one_moment_are_as_new_as_each_other(database: Database, worker: psycopg.Connection) -> None:
    """Among rows of the very same moment none is older: all of them stay that count."""
    (user,) = database.new_users(1)
    with worker.transaction():
        same = {_add(worker, user, 2 * YEAR, "sent", "welcome_back") for _ in range(4)}
        _add(worker, user, 2 * YEAR, "failed", "welcome_back")
    assert _purge(worker) == (1, None)
    assert _ids(worker) == same


def test_pages_of_users_cover_everybody_once(database: Database, worker: psycopg.Connection) -> None:
    """Each page takes the next users in the order of their ids, the lowest and the highest id included."""
    users = [*database.new_users(23), UUID(int=0), UUID(int=2**128 - 1)]
    with database.connect(role=None) as owner:
        insert_users(owner, users[-2:])
    for limit in (1, 4, 24, 25, 26):
        for user in users:
            for age in (2, 3):
                _add(worker, user, age * YEAR, "sent", "welcome_back")

        pages = _purge_all(worker, limit=limit)

        assert len(pages) == 25 // limit + 1
        assert sum(pages) == (25 if limit == 1 else 50)
        assert set(pages[:-1]) <= {limit if limit == 1 else 2 * limit}
        assert len(_ids(worker)) == 25


def test_a_type_with_a_longer_cooldown_than_the_period_is_left_alone(
    database: Database, worker: psycopg.Connection
) -> None:
    """An organization's own cooldown counts as well; exactly the longest is allowed. Other types are purged.

    It was an error: that one organization lengthened a cooldown stopped the purge of all.
    """
    (user,) = database.new_users(1)
    ages = (41 * DAY, 42 * DAY)
    _add(worker, user, ages[1], "sent", "certification_expiry")
    kept = {_add(worker, user, ages[0], "sent", "certification_expiry")}
    kept |= {_add(worker, user, age, "sent", "welcome_back") for age in ages}

    assert _purge(worker, 30 * DAY - timedelta(seconds=1)) == (1, None)
    assert _ids(worker) == kept
    worker.execute(
        """
        insert into public.scenario_evaluation_config (scenario_type, organization_id, cooldown)
        values ('welcome_back', %s, '40 days')
        """,
        [uuid4()],
    )
    assert _purge(worker, 40 * DAY - timedelta(seconds=1)) == (0, None)
    assert _purge(worker, 40 * DAY, limit=100_000) == (1, None)


def test_arguments_out_of_bounds_are_refused(database: Database, worker: psycopg.Connection) -> None:
    """SR001 for no period, a negative one or more than a hundred years, and for pages of nobody or of too many."""
    (user,) = database.new_users(1)
    _add(worker, user, 9 * YEAR, "failed")
    periods = [(period, 100) for period in (None, -timedelta(seconds=1), timedelta(days=36_525, seconds=1))]
    for older_than, limit in [*periods, *((YEAR, n) for n in (None, 0, 100_001))]:
        with pytest.raises(psycopg.DatabaseError) as refusal:
            _purge(worker, older_than, limit=limit)
        assert refusal.value.sqlstate == "SR001"
    assert len(_ids(worker)) == 1


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
    # Kept: the three newest that were sent, and beside them the failed or pending one.
    assert {user: (pending, total) for user, pending, total in counts} == {
        **dict.fromkeys(held, (0, 4)),
        **dict.fromkeys(free, (1, 4)),
    }


# The property: two users of one history, of whom only one is purged, can't be told apart by any decision.

_PAST = st.lists(
    st.tuples(
        st.sampled_from((*TYPES, "milestone")),
        st.sampled_from(("pending", "sent", "sent", "failed", "failed")),
        st.booleans(),
        st.sampled_from(((), (), ("a",), ("b",), ("a", "b"))),
        st.integers(min_value=1, max_value=40).map(lambda hours: hours * timedelta(hours=6)),
    ),
    max_size=14,
)
_AGES = st.integers(min_value=1, max_value=15).map(lambda days: days * DAY)
_NEXT = st.tuples(
    _AGES, st.integers(min_value=1, max_value=4), st.sampled_from(("sent", "retry", "failed", "suppressed")), _AGES
)


_APART = {"id", "user_id", "held_by"}


def _told(answer: dict[str, Any] | None) -> object:
    """Leave out of an outcome or a record what differs between twins."""
    return {key: value for key, value in (answer or {}).items() if key not in _APART}


def _decisions(connection: psycopg.Connection, user: UUID) -> list[object]:
    """Everything that can be asked about a user."""
    row = connection.execute(
        """
        select jsonb_agg(jsonb_build_array(
          public.scenario_get_last_sent_at_many(array[%(user)s], type),
          public.scenario_has_been_sent_since_threshold_many(array[%(user)s], type, now() - interval '20 days'),
          public.scenario_get_last_delivered_at_many(array[%(user)s], type),
          public.scenario_has_been_delivered_since_many(array[%(user)s], type, now() - interval '20 days'),
          -- How many reminders a series has had, as far as its limit.
          array(
            select (
              select count(*)
              from (
                select from scenario_private.reminder
                where user_id = %(user)s and scenario_type = type and triggered_at >= now() - began
                limit case when type = 'inactivity' then 3 else 1 end
              ) as reminder
            )
            from unnest('{1 day,4 days,10 days,20 days,50 days,150 days}'::interval[]) as began
          )
        ))
        from unnest(%(types)s::text[]) as type
        """,
        {"user": user, "types": list(TYPES)},
    ).fetchone()
    records = connection.execute(
        "select public.scenario_get_milestone_record_many(array[%s], n) -> 'answers' -> 0"
        " from generate_series(1, 4) as n",
        [user],
    )
    return [row, *[_told(record) for (record,) in records]]


def _claims(connection: psycopg.Connection, user: UUID, cooldown: timedelta, milestone_value: int) -> list[object]:
    """Claim one of everything."""
    claims = [new_claim(user, scenario_type=type_, cooldown_seconds=cooldown.total_seconds()) for type_ in TYPES]
    milestone = new_claim(user, scenario_type="milestone", cooldown_seconds=None, milestone_value=milestone_value)
    about: list[object] = []
    for subjects in (["a"], ["b"], ["a", "b"], ["a", "c"]):
        asked = new_claim(
            user,
            scenario_type="certification_expiry",
            cooldown_seconds=cooldown.total_seconds(),
            subjects=subjects,
        )
        with connection.transaction(force_rollback=True):
            (outcome,) = claim(connection, [asked])
        # Whatever of several holds is told.
        about.append((outcome.get("skip_reason"), outcome.get("new_subjects")))
    return [*about, *[_told(outcome) for outcome in claim(connection, [*claims, milestone])]]


def test_what_was_told_as_a_whole_outlasts_what_was_told_of_a_subject(
    worker: psycopg.Connection, database: Database
) -> None:
    """A later claim with a longer cooldown, about another subject, still meets it (found by the property below)."""
    (user,) = database.new_users(1)
    worker.execute("update public.scenario_evaluation_config set cooldown = '1 day' where cooldown is not null")
    _add(worker, user, timedelta(hours=30), "sent", "certification_expiry", subjects=[])
    _add(worker, user, timedelta(hours=6), "sent", "certification_expiry", subjects=["a"])
    about_b = {"scenario_type": "certification_expiry", "subjects": ["b"], "cooldown_seconds": 2 * 86_400}
    for _ in range(2):
        (outcome,) = claim(worker, [new_claim(user, **about_b)])
        assert outcome.get("skip_reason") == "cooldown"
        _purge(worker, timedelta(days=1), UUID(int=0), 10)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(past=_PAST, cut=st.integers(0, 14), older_than=_AGES, future=st.lists(_NEXT, max_size=5))
def test_no_decision_changes_by_a_purge(
    past: list[tuple[str, str, bool, tuple[str, ...], timedelta]],
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
        for index, ((scenario_type, status, chained, subjects, _), age) in enumerate(zip(past, ages, strict=True)):
            if index == cut:
                _purge(owner, older_than, UUID(int=purged.int - 1), 1)
            for user in twins:
                value = index + 1 if scenario_type == "milestone" else None
                chain = chained and value is None
                of = list(subjects) if value is None else []
                _add(owner, user, age, status, scenario_type, milestone_value=value, chained=chain, subjects=of)
        _purge(owner, older_than, UUID(int=purged.int - 1), 1)

        for cooldown, milestone_value, result, later in future:
            one, two = (_decisions(owner, user) for user in twins)
            assert one == two
            one, two = (_claims(owner, user, cooldown, milestone_value) for user in twins)
            assert one == two
            deliver(owner, result)
            _purge(owner, later, UUID(int=purged.int - 1), 1)
        one, two = (_decisions(owner, user) for user in twins)
        assert one == two
