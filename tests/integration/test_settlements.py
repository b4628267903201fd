"""The settlement: what becomes of a leased notification, and which results are refused."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from statistics import mean
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.sql import SQL

from tests.integration.database import Database, claim, new_claim, new_milestone, results
from tests.integration.delivery import ids, lease, settle, settlement
from tests.rows import insert_notifications, set_handover

ORGANIZATION = UUID(int=1)


def _leases(
    database: Database, worker: psycopg.Connection, number: int, attempt_count: int = 0
) -> list[dict[str, Any]]:
    """Record notifications of as many users and lease them, as if each had been tried that often before."""
    insert_notifications(worker, database.new_users(number))
    leased = lease(worker)
    assert len(leased) == number
    if attempt_count:
        set_handover(worker, ids(leased), attempt_count=attempt_count + 1, lease_number=attempt_count + 1)
    return [row | {"lease_number": attempt_count + 1} for row in leased]


def _states(
    worker: psycopg.Connection, leased: Iterable[Mapping[str, Any]]
) -> list[tuple[str, int | None, str | None, bool | None]]:
    """Status, attempts, failure code and whether it is due, in the order given; a settled one is on its way no more."""
    rows = {
        row[0]: row[1:]
        for row in worker.execute(
            """
            select
              id::text, delivery_status, attempt_count, failure_code,
              next_attempt_at <= now() and (leased_until is null or leased_until <= now())
            from public.scenario_notifications
            left join scenario_private.handover on notification_id = id
            """
        )
    }
    return [rows[notification["id"]] for notification in leased]


def test_each_result_moves_its_own_row(database: Database, worker: psycopg.Connection) -> None:
    """Sent and failed are the end of it, a retry comes due later, a released row at once; one answer each."""
    leased = _leases(database, worker, 4)
    ends = [
        settlement(leased[0], "sent"),
        settlement(leased[1], "retry", "timeout"),
        settlement(leased[2], "failed", "unregistered"),
        settlement(leased[3], "released"),
    ]

    assert settle(worker, ends) == ["sent", "pending", "failed", "pending"]
    assert _states(worker, leased) == [
        ("sent", None, None, None),
        ("pending", 1, "timeout", False),
        ("failed", None, "unregistered", None),
        ("pending", 0, None, True),
    ]
    again = [(row["id"], row["lease_number"], row["attempt_count"]) for row in lease(worker)]
    assert again == [(leased[3]["id"], 2, 1)]


def test_back_off_doubles_up_to_six_hours_less_a_random_half(database: Database, worker: psycopg.Connection) -> None:
    """The wait of attempt n is spread evenly between half and all of 2^(n-1) minutes, at most six hours."""
    for attempt in (1, 2, 3, 7, 9, 10, 25, 100_000):
        whole = min(60 * 2 ** (min(attempt, 20) - 1), 6 * 60 * 60)
        leased = _leases(database, worker, 500, attempt - 1)
        with worker.transaction():
            assert settle(worker, [settlement(row, "retry") for row in leased], 2**31 - 1) == ["pending"] * 500
            waits = [
                seconds / whole
                for (seconds,) in worker.execute(
                    """
                    select extract(epoch from next_attempt_at - now())::float8
                    from scenario_private.handover
                    where attempt_count = %s
                    """,
                    [attempt],
                )
            ]

        assert 0.5 <= min(waits) < 0.53
        assert 0.97 < max(waits) <= 1
        assert mean(waits) == pytest.approx(0.75, abs=0.05)


def test_the_last_attempt_fails_for_good(database: Database, worker: psycopg.Connection) -> None:
    """A retry after max_attempts attempts is failed, whatever its own code was; one attempt earlier it is not."""
    earlier, last, beyond = (_leases(database, worker, 1, attempt)[0] for attempt in (1, 2, 3))

    answers = settle(worker, [settlement(row, "retry", "timeout") for row in (earlier, last, beyond)], 3)

    assert answers == ["pending", "failed", "failed"]
    assert [state[:3] for state in _states(worker, [earlier, last, beyond])] == [
        ("pending", 2, "timeout"),
        ("failed", None, "attempts_spent"),
        ("failed", None, "attempts_spent"),
    ]


def test_spent_attempts_do_not_stop_other_results(database: Database, worker: psycopg.Connection) -> None:
    """The last attempt may still be sent, fail for its own reason or be given back."""
    leased = _leases(database, worker, 3, 7)

    answers = settle(
        worker,
        [
            settlement(leased[0], "sent"),
            settlement(leased[1], "failed", "unregistered"),
            settlement(leased[2], "released"),
        ],
    )

    assert answers == ["sent", "failed", "pending"]
    assert [state[2] for state in _states(worker, leased)] == [None, "unregistered", None]


def test_a_second_settlement_is_refused_alone(database: Database, worker: psycopg.Connection) -> None:
    """What is settled stays settled, whatever comes later, and the other results of the call are recorded."""
    leased = _leases(database, worker, 9)
    firsts, seconds = ["sent"] * 4 + ["failed"] * 4, ["sent", "retry", "failed", "released"] * 2
    ends = [settlement(row, first) for row, first in zip(leased, firsts, strict=False)]
    assert settle(worker, ends) == firsts
    before = _states(worker, leased[:8])

    ends = [settlement(row, second) for row, second in zip(leased, [*seconds, "sent"], strict=True)]

    assert settle(worker, ends) == ["already_settled"] * 8 + ["sent"]
    assert _states(worker, leased[:8]) == before


def test_a_retry_may_be_reported_again(database: Database, worker: psycopg.Connection) -> None:
    """A caller that lost the answer may repeat its call: the row is still pending, with the same attempts."""
    (leased,) = _leases(database, worker, 1)
    assert [settle(worker, [settlement(leased, "retry", "timeout")]) for _ in range(2)] == [["pending"]] * 2
    assert _states(worker, [leased]) == [("pending", 1, "timeout", False)]


def test_a_lost_lease_is_refused_alone(database: Database, worker: psycopg.Connection) -> None:
    """Once another worker has the row, no result of the first one is recorded; its other ends are."""
    *lost, kept = _leases(database, worker, 5)
    set_handover(worker, ids(lost), leased_until=SQL("now()"))
    again = lease(worker)
    assert len(again) == 4
    ends = [settlement(row, result) for row, result in zip(lost, ["sent", "retry", "failed", "released"], strict=True)]

    assert settle(worker, [*ends, settlement(kept, "sent")]) == ["lease_lost"] * 4 + ["sent"]
    assert _states(worker, lost) == [("pending", 2, None, False)] * 4
    assert settle(worker, [settlement(row, "sent") for row in again]) == ["sent"] * 4


def test_a_late_settlement_counts_while_nobody_else_has_the_row(database: Database, worker: psycopg.Connection) -> None:
    """A worker that was slow but alone is believed: the notification is not sent again."""
    (leased,) = _leases(database, worker, 1)
    database.let_pass(timedelta(days=1))

    assert settle(worker, [settlement(leased, "sent")]) == ["sent"]
    assert lease(worker) == []


def test_what_does_not_exist_is_unknown(database: Database, worker: psycopg.Connection) -> None:
    """An id without a row doesn't stop the others."""
    (leased,) = _leases(database, worker, 1)
    stranger = {"id": uuid4(), "lease_number": 1}

    assert settle(worker, [settlement(stranger, "sent"), settlement(leased, "sent")]) == ["unknown", "sent"]


def test_the_same_lease_twice_in_one_call_settles_once(database: Database, worker: psycopg.Connection) -> None:
    """The first mention counts."""
    (leased,) = _leases(database, worker, 1)

    answers = settle(worker, [settlement(leased, result) for result in ("failed", "sent", "failed")])

    assert answers == ["failed", "already_settled", "already_settled"]
    assert [state[0] for state in _states(worker, [leased])] == ["failed"]


def test_each_result_is_judged_by_its_ownlease(database: Database, worker: psycopg.Connection) -> None:
    """The result of a lease that was lost does not stand in the way of the one that holds, in whatever order."""
    leased = _leases(database, worker, 2, attempt_count=1)
    lost = [settlement(row | {"lease_number": 1}, "sent") for row in leased]
    held = [settlement(leased[0], "sent"), settlement(leased[1], "retry")]
    answers = settle(worker, [lost[0], held[0], held[0], held[1], lost[1], held[1] | {"result": "sent"}])
    assert answers == ["lease_lost", "sent", "already_settled", "pending", "lease_lost", "already_settled"]
    assert [state[0] for state in _states(worker, leased)] == ["sent", "pending"]


def test_answers_come_in_the_order_of_the_results(database: Database, worker: psycopg.Connection) -> None:
    """A thousand results in any order, each with its own answer."""
    leased = _leases(database, worker, 1000)
    expected = {"sent": "sent", "retry": "pending", "failed": "failed", "released": "pending"}
    shuffled = random.Random(5).sample(leased, len(leased))  # noqa: S311 - any order will do
    ends = [settlement(row, list(expected)[index % 4]) for index, row in enumerate(shuffled)]

    assert settle(worker, ends) == [expected[str(result["result"])] for result in ends]
    assert [state[0] for state in _states(worker, shuffled)] == [expected[str(result["result"])] for result in ends]


def test_overlapping_settlements_do_not_deadlock(database: Database, worker: psycopg.Connection) -> None:
    """Settlers of the same rows in different orders wait for each other, and each of them ends."""
    leased = _leases(database, worker, 400)

    def settle_some(seed: int) -> list[str]:
        chance = random.Random(seed)  # noqa: S311
        answers: list[str] = []
        with database.connect() as connection:
            for _ in range(20):
                some = chance.sample(leased, chance.randint(50, 300))
                answers += settle(connection, [settlement(row, "released") for row in some])
        return answers

    with ThreadPoolExecutor(6) as pool:
        answers = [answer for some in pool.map(settle_some, range(6)) for answer in some]

    assert set(answers) == {"pending"}


def test_racing_settlers_of_one_lease_settle_it_once(database: Database, worker: psycopg.Connection) -> None:
    """The one that comes second finds the row settled, although it began before."""
    (leased,) = _leases(database, worker, 1)
    with database.connect() as one, database.connect() as two, ThreadPoolExecutor(1) as pool:
        with one.transaction():
            assert settle(one, [settlement(leased, "sent")]) == ["sent"]
            second = pool.submit(settle, two, [settlement(leased, "failed")])
            _wait_until_blocked(worker)
        assert second.result(10) == ["already_settled"]
    assert [state[0] for state in _states(worker, [leased])] == ["sent"]


def _wait_until_blocked(worker: psycopg.Connection) -> None:
    waiting = "select from pg_locks where not granted"
    for _ in range(500):
        if worker.execute(waiting).rowcount:
            return
        worker.execute("select pg_sleep(0.01)")
    pytest.fail("nobody waits")


def test_a_failure_holds_the_cooldown_for_a_day(database: Database, worker: psycopg.Connection) -> None:
    """What could not be delivered is claimed again after retry_failed_after, and what was sent after the cooldown."""
    sent, failed = database.new_users(2)
    claims = [new_claim(sent), new_claim(failed)]
    assert results(claim(worker, claims)) == ["claimed", "claimed"]
    assert results(claim(worker, claims)) == ["cooldown", "cooldown"]
    ends = {str(sent): "sent", str(failed): "failed"}

    settle(worker, [settlement(row, ends[row["user_id"]]) for row in lease(worker)])

    assert results(claim(worker, claims)) == ["cooldown", "cooldown"]
    database.let_pass(timedelta(days=1))
    assert results(claim(worker, claims)) == ["cooldown", "claimed"]


def test_a_failure_holds_the_milestone_for_a_day(database: Database, worker: psycopg.Connection) -> None:
    """A milestone whose notification failed can be claimed again after retry_failed_after, a sent one never."""
    users = database.new_users(2)
    claims = [new_milestone(user, 10) for user in users]
    claim(worker, claims)
    ends = {str(users[0]): "sent", str(users[1]): "failed"}

    settle(worker, [settlement(row, ends[row["user_id"]]) for row in lease(worker)])

    assert results(claim(worker, claims)) == ["milestone_reached", "milestone_reached"]
    database.let_pass(timedelta(days=1))
    assert results(claim(worker, claims)) == ["milestone_reached", "claimed"]


@pytest.mark.parametrize("scenario_type", ["inactivity", "milestone"])
def test_an_evaluation_a_day_later_claims_again_what_failed(
    scenario_type: str, database: Database, worker: psycopg.Connection
) -> None:
    """Pending, sent and to be retried are not claimed again; failed and spent are, once retry_failed_after is over."""
    worker.execute("update public.scenario_evaluation_config set due_within = '365 days' where due_within is not null")
    mentors = database.new_mentors(5, ORGANIZATION)
    for mentor in mentors:
        database.add_activities(mentor, *[timedelta(days=40 + day) for day in range(10)])
    assert _evaluate(worker, scenario_type)["claimed"] == 5
    assert _evaluate(worker, scenario_type)["claimed"] == 0
    leased = sorted(lease(worker), key=lambda row: mentors.index(UUID(row["user_id"])))
    ends = ["sent", "retry", "released", "failed"]

    settle(worker, [settlement(row, end) for row, end in zip(leased, ends, strict=False)])
    settle(worker, [settlement(leased[4], "retry")], 1)

    assert _evaluate(worker, scenario_type)["claimed"] == 0
    database.let_pass(timedelta(days=1))
    assert _evaluate(worker, scenario_type)["claimed"] == 2
    assert {UUID(row["user_id"]) for row in lease(worker)} == set(mentors[1:])


def _evaluate(worker: psycopg.Connection, scenario_type: str) -> dict[str, Any]:
    row = worker.execute("select public.scenario_evaluate(%s)", [scenario_type]).fetchone()
    assert row is not None
    page: dict[str, Any] = row[0]
    return page


def test_a_sent_row_keeps_no_failure_code(database: Database, worker: psycopg.Connection) -> None:
    """The code of an earlier attempt stays until the row is sent, and a release doesn't touch it."""
    (leased,) = _leases(database, worker, 1)
    settle(worker, [settlement(leased, "retry", "timeout")])
    settle(worker, [settlement(leased, "released", "ignored")])
    assert [state[2] for state in _states(worker, [leased])] == ["timeout"]

    assert settle(worker, [settlement(leased, "sent", "ignored")]) == ["sent"]
    assert [state[2] for state in _states(worker, [leased])] == [None]


def test_a_failure_code_is_a_short_code(database: Database, worker: psycopg.Connection) -> None:
    """Anything longer or freer, or one of our own, is not kept and spoils no other result.

    Written directly, the table refuses what is no code.
    """
    codes = ["", "Timeout", "1st", "no such device", "a-b", "å", "code\n", "a" * 64, "+4512345678"]
    own = ["suppressed", "cancelled", "expired", "no_longer_due", "user_gone"]
    pending, *leased = _leases(database, worker, len(codes) + len(own) + 2)
    ends = [settlement(row, "failed", code) for row, code in zip(leased, [*codes, *own, "a" * 63], strict=True)]

    assert settle(worker, ends) == ["failed"] * len(ends)
    kept = [state[2] for state in _states(worker, leased)]
    assert kept == ["unnamed_failure"] * (len(codes) + len(own)) + ["a" * 63]
    direct = "update public.scenario_notifications set delivery_status = %s, failure_code = %s where id = %s"
    for status, code in [("sent", "timeout"), *(("pending", code) for code in codes)]:
        with pytest.raises(psycopg.errors.CheckViolation, match="failure_code_is_a_code"):
            worker.execute(direct, [status, code, pending["id"]])


def test_suppressed_is_the_end_of_it(database: Database, worker: psycopg.Connection) -> None:
    """There is nobody to send to: failed for good, under that name whatever code the sender gave."""
    leased = _leases(database, worker, 2)
    ends = [settlement(row, "suppressed", code) for row, code in zip(leased, (None, "x"), strict=True)]
    assert settle(worker, ends) == ["failed", "failed"]
    assert _states(worker, leased) == [("failed", None, "suppressed", None)] * 2


def test_what_cannot_be_read_spoils_no_other_result(database: Database, worker: psycopg.Connection) -> None:
    """A field that is missing or no such thing is answered invalid_settlement, in its place."""
    (leased,) = _leases(database, worker, 1)
    good = settlement(leased, "sent")
    bad: list[object] = [
        "sent",
        None,
        good | {"id": None},
        good | {"id": "x"},
        good | {"lease_number": None},
        good | {"lease_number": 0},
        good | {"lease_number": "one"},
        good | {"lease_number": 2**31},
        good | {"result": None},
        good | {"result": "delivered"},
    ]
    assert settle(worker, [*bad, good]) == ["invalid_settlement"] * len(bad) + ["sent"]


def test_a_caller_that_names_a_lease_by_attempt_count_is_understood(
    database: Database, worker: psycopg.Connection
) -> None:
    """As earlier releases of the library do."""
    (leased,) = _leases(database, worker, 1)
    assert settle(worker, [{"id": leased["id"], "attempt_count": 1, "result": "sent"}]) == ["sent"]


def test_what_is_no_list_of_results_is_refused(worker: psycopg.Connection) -> None:
    """SR001 for anything but an array, SR003 for more than 1,000."""
    sent = settlement({"id": UUID(int=9), "lease_number": 1}, "sent")
    for refused, code in ((None, "SR001"), ({}, "SR001"), ("text", "SR001"), ([sent] * 1001, "SR003")):
        with pytest.raises(psycopg.DatabaseError) as refusal:
            settle(worker, refused)
        assert refusal.value.sqlstate == code
    assert [settle(worker, []), settle(worker, [sent] * 1000)] == [[], ["unknown"] * 1000]
