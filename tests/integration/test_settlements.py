"""The settlement: what becomes of a leased notification, and which results are refused."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from statistics import mean
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.integration.database import Database, claim, new_claim
from tests.rows import insert_notifications

ORGANIZATION = UUID(int=1)


def _lease(worker: psycopg.Connection, limit: int = 1000) -> list[dict[str, Any]]:
    row = worker.execute("select public.scenario_lease_notifications(%s, 60)", [limit]).fetchone()
    assert row is not None
    leased: list[dict[str, Any]] = row[0]
    return leased


def _settle(worker: psycopg.Connection, results: object, max_attempts: int = 8) -> list[str]:
    row = worker.execute(
        "select public.scenario_settle_notifications(%s::jsonb, %s)", [json.dumps(results, default=str), max_attempts]
    ).fetchone()
    assert row is not None
    answers: list[str] = row[0]
    return answers


def _result(leased: Mapping[str, Any], result: str, failure_code: str | None = None) -> dict[str, object]:
    lease = {"id": leased["id"], "attempt_count": leased["attempt_count"]}
    return lease | {"result": result, "failure_code": failure_code}


def _leases(
    database: Database, worker: psycopg.Connection, number: int, attempt_count: int = 0
) -> list[dict[str, Any]]:
    """Record notifications of as many users, leased that often before, and lease them."""
    insert_notifications(worker, database.new_users(number), attempt_count=attempt_count)
    leased = _lease(worker)
    assert len(leased) == number
    return leased


def _states(worker: psycopg.Connection, leased: Iterable[Mapping[str, Any]]) -> list[tuple[str, int, str | None, bool]]:
    """Status, attempts, failure code and whether it is due, in the order given."""
    rows = {
        row[0]: row[1:]
        for row in worker.execute(
            """
            select id::text, delivery_status, attempt_count, failure_code, next_attempt_at <= now()
            from public.scenario_notifications
            """
        )
    }
    return [rows[notification["id"]] for notification in leased]


def test_each_result_moves_its_own_row(database: Database, worker: psycopg.Connection) -> None:
    """Sent and failed are the end of it, a retry comes due later, a released row at once; one answer each."""
    leased = _leases(database, worker, 4)
    results = [
        _result(leased[0], "sent"),
        _result(leased[1], "retry", "timeout"),
        _result(leased[2], "failed", "unregistered"),
        _result(leased[3], "released"),
    ]

    assert _settle(worker, results) == ["sent", "pending", "failed", "pending"]
    assert _states(worker, leased) == [
        ("sent", 1, None, True),
        ("pending", 1, "timeout", False),
        ("failed", 1, "unregistered", True),
        ("pending", 1, None, True),
    ]
    assert [(again["id"], again["attempt_count"]) for again in _lease(worker)] == [(leased[3]["id"], 2)]


def test_back_off_doubles_up_to_six_hours_less_a_random_half(database: Database, worker: psycopg.Connection) -> None:
    """The wait of attempt n is spread evenly between half and all of 2^(n-1) minutes, at most six hours."""
    for attempt in (1, 2, 3, 7, 9, 10, 25, 100_000):
        whole = min(60 * 2 ** (min(attempt, 20) - 1), 6 * 60 * 60)
        leased = _leases(database, worker, 500, attempt - 1)
        with worker.transaction():
            assert _settle(worker, [_result(row, "retry") for row in leased], 2**31 - 1) == ["pending"] * 500
            waits = [
                seconds / whole
                for (seconds,) in worker.execute(
                    """
                    select extract(epoch from next_attempt_at - now())::float8
                    from public.scenario_notifications
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

    answers = _settle(worker, [_result(row, "retry", "timeout") for row in (earlier, last, beyond)], 3)

    assert answers == ["pending", "failed", "failed"]
    assert [state[:3] for state in _states(worker, [earlier, last, beyond])] == [
        ("pending", 2, "timeout"),
        ("failed", 3, "attempts_spent"),
        ("failed", 4, "attempts_spent"),
    ]


def test_spent_attempts_do_not_stop_other_results(database: Database, worker: psycopg.Connection) -> None:
    """The last attempt may still be sent, fail for its own reason or be given back."""
    leased = _leases(database, worker, 3, 7)

    answers = _settle(
        worker,
        [_result(leased[0], "sent"), _result(leased[1], "failed", "unregistered"), _result(leased[2], "released")],
    )

    assert answers == ["sent", "failed", "pending"]
    assert [state[2] for state in _states(worker, leased)] == [None, "unregistered", None]


def test_a_second_settlement_is_refused_alone(database: Database, worker: psycopg.Connection) -> None:
    """What is settled stays settled, whatever comes later, and the other results of the call are recorded."""
    leased = _leases(database, worker, 9)
    firsts, seconds = ["sent"] * 4 + ["failed"] * 4, ["sent", "retry", "failed", "released"] * 2
    results = [_result(row, first) for row, first in zip(leased, firsts, strict=False)]
    assert _settle(worker, results) == firsts
    before = _states(worker, leased[:8])

    results = [_result(row, second) for row, second in zip(leased, [*seconds, "sent"], strict=True)]

    assert _settle(worker, results) == ["already_settled"] * 8 + ["sent"]
    assert _states(worker, leased[:8]) == before


def test_a_retry_may_be_reported_again(database: Database, worker: psycopg.Connection) -> None:
    """A caller that lost the answer may repeat its call: the row is still pending, with the same attempts."""
    (leased,) = _leases(database, worker, 1)
    assert [_settle(worker, [_result(leased, "retry", "timeout")]) for _ in range(2)] == [["pending"]] * 2
    assert _states(worker, [leased]) == [("pending", 1, "timeout", False)]


def test_a_lost_lease_is_refused_alone(database: Database, worker: psycopg.Connection) -> None:
    """Once another worker has the row, no result of the first one is recorded; its other results are."""
    *lost, kept = _leases(database, worker, 5)
    worker.execute(
        "update public.scenario_notifications set next_attempt_at = now() where id <> %s::uuid", [kept["id"]]
    )
    again = _lease(worker)
    assert len(again) == 4
    results = [_result(row, result) for row, result in zip(lost, ["sent", "retry", "failed", "released"], strict=True)]

    assert _settle(worker, [*results, _result(kept, "sent")]) == ["lease_lost"] * 4 + ["sent"]
    assert _states(worker, lost) == [("pending", 2, None, False)] * 4
    assert _settle(worker, [_result(row, "sent") for row in again]) == ["sent"] * 4


def test_a_late_settlement_counts_while_nobody_else_has_the_row(database: Database, worker: psycopg.Connection) -> None:
    """A worker that was slow but alone is believed: the notification is not sent again."""
    (leased,) = _leases(database, worker, 1)
    database.let_pass(timedelta(days=1))

    assert _settle(worker, [_result(leased, "sent")]) == ["sent"]
    assert _lease(worker) == []


def test_what_does_not_exist_is_unknown(database: Database, worker: psycopg.Connection) -> None:
    """An id without a row, or without an id at all, doesn't stop the others."""
    (leased,) = _leases(database, worker, 1)
    stranger = {"id": uuid4(), "attempt_count": 1}

    assert _settle(
        worker, [_result(stranger, "sent"), _result(leased, "sent"), {"result": "sent", "attempt_count": 1}]
    ) == ["unknown", "sent", "unknown"]


def test_the_same_lease_twice_in_one_call_settles_once(database: Database, worker: psycopg.Connection) -> None:
    """The first mention counts."""
    (leased,) = _leases(database, worker, 1)

    answers = _settle(worker, [_result(leased, result) for result in ("failed", "sent", "failed")])

    assert answers == ["failed", "already_settled", "already_settled"]
    assert [state[0] for state in _states(worker, [leased])] == ["failed"]


def test_each_result_is_judged_by_its_own_lease(database: Database, worker: psycopg.Connection) -> None:
    """The result of a lease that was lost does not stand in the way of the one that holds, in whatever order."""
    leased = _leases(database, worker, 2, attempt_count=1)
    lost = [_result(row | {"attempt_count": 1}, "sent") for row in leased]
    held = [_result(leased[0], "sent"), _result(leased[1], "retry")]
    answers = _settle(worker, [lost[0], held[0], held[0], held[1], lost[1], held[1] | {"result": "sent"}])
    assert answers == ["lease_lost", "sent", "already_settled", "pending", "lease_lost", "already_settled"]
    assert [state[0] for state in _states(worker, leased)] == ["sent", "pending"]


def test_answers_come_in_the_order_of_the_results(database: Database, worker: psycopg.Connection) -> None:
    """A thousand results in any order, each with its own answer."""
    leased = _leases(database, worker, 1000)
    expected = {"sent": "sent", "retry": "pending", "failed": "failed", "released": "pending"}
    shuffled = random.Random(5).sample(leased, len(leased))  # noqa: S311 - any order will do
    results = [_result(row, list(expected)[index % 4]) for index, row in enumerate(shuffled)]

    assert _settle(worker, results) == [expected[str(result["result"])] for result in results]
    assert [state[0] for state in _states(worker, shuffled)] == [expected[str(result["result"])] for result in results]


def test_overlapping_settlements_do_not_deadlock(database: Database, worker: psycopg.Connection) -> None:
    """Settlers of the same rows in different orders wait for each other, and each of them ends."""
    leased = _leases(database, worker, 400)

    def settle(seed: int) -> list[str]:
        chance = random.Random(seed)  # noqa: S311
        answers: list[str] = []
        with database.connect() as connection:
            for _ in range(20):
                some = chance.sample(leased, chance.randint(50, 300))
                answers += _settle(connection, [_result(row, "released") for row in some])
        return answers

    with ThreadPoolExecutor(6) as pool:
        answers = [answer for some in pool.map(settle, range(6)) for answer in some]

    assert set(answers) == {"pending"}


def test_racing_settlers_of_one_lease_settle_it_once(database: Database, worker: psycopg.Connection) -> None:
    """The one that comes second finds the row settled, although it began before."""
    (leased,) = _leases(database, worker, 1)
    with database.connect() as one, database.connect() as two, ThreadPoolExecutor(1) as pool:
        with one.transaction():
            assert _settle(one, [_result(leased, "sent")]) == ["sent"]
            second = pool.submit(_settle, two, [_result(leased, "failed")])
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


def test_failed_for_good_frees_the_cooldown(database: Database, worker: psycopg.Connection) -> None:
    """Pending and sent hold the cooldown, failed does not: the next claim is granted."""
    sent, failed = database.new_users(2)
    claims = [new_claim(sent), new_claim(failed)]
    assert all("id" in outcome for outcome in claim(worker, claims))
    assert [outcome["skip_reason"] for outcome in claim(worker, claims)] == ["cooldown", "cooldown"]
    results = {str(sent): "sent", str(failed): "failed"}

    _settle(worker, [_result(row, results[row["user_id"]]) for row in _lease(worker)])

    again = claim(worker, claims)
    assert (again[0].get("skip_reason"), "id" in again[1]) == ("cooldown", True)


def test_failed_for_good_frees_the_milestone(database: Database, worker: psycopg.Connection) -> None:
    """A milestone whose notification failed can be claimed again, a sent one never."""
    users = database.new_users(2)
    claims = [new_claim(user, scenario_type="milestone", milestone_value=10, cooldown_seconds=None) for user in users]
    claim(worker, claims)
    results = {str(users[0]): "sent", str(users[1]): "failed"}

    _settle(worker, [_result(row, results[row["user_id"]]) for row in _lease(worker)])

    again = claim(worker, claims)
    assert (again[0].get("skip_reason"), "id" in again[1]) == ("milestone_reached", True)


@pytest.mark.parametrize("scenario_type", ["inactivity", "milestone"])
def test_the_next_evaluation_claims_again_what_failed(
    scenario_type: str, database: Database, worker: psycopg.Connection
) -> None:
    """Pending, sent and to be retried are not claimed again; failed and spent are."""
    mentors = database.new_mentors(5, ORGANIZATION)
    for mentor in mentors:
        database.add_activities(mentor, *[timedelta(days=40 + day) for day in range(10)])
    assert _evaluate(worker, scenario_type)["claimed"] == 5
    assert _evaluate(worker, scenario_type)["claimed"] == 0
    leased = sorted(_lease(worker), key=lambda row: mentors.index(UUID(row["user_id"])))
    results = ["sent", "retry", "released", "failed"]

    _settle(worker, [_result(row, result) for row, result in zip(leased, results, strict=False)])
    _settle(worker, [_result(leased[4], "retry")], 1)

    assert _evaluate(worker, scenario_type)["claimed"] == 2
    assert {UUID(row["user_id"]) for row in _lease(worker)} == {mentors[2], mentors[3], mentors[4]}


def _evaluate(worker: psycopg.Connection, scenario_type: str) -> dict[str, Any]:
    row = worker.execute("select public.scenario_evaluate(%s)", [scenario_type]).fetchone()
    assert row is not None
    page: dict[str, Any] = row[0]
    return page


def test_a_sent_row_keeps_no_failure_code(database: Database, worker: psycopg.Connection) -> None:
    """The code of an earlier attempt stays until the row is sent, and a release doesn't touch it."""
    (leased,) = _leases(database, worker, 1)
    _settle(worker, [_result(leased, "retry", "timeout")])
    _settle(worker, [_result(leased, "released", "ignored")])
    assert [state[2] for state in _states(worker, [leased])] == ["timeout"]

    assert _settle(worker, [_result(leased, "sent", "ignored")]) == ["sent"]
    assert [state[2] for state in _states(worker, [leased])] == [None]


def test_a_failure_code_is_a_short_code(database: Database, worker: psycopg.Connection) -> None:
    """Anything longer or freer is not kept and spoils no other result; written directly, the table refuses it."""
    codes = ["", "Timeout", "1st", "no such device", "a-b", "å", "code\n", "a" * 64, "+4512345678"]
    pending, *leased = _leases(database, worker, len(codes) + 2)
    results = [_result(row, "failed", code) for row, code in zip(leased, [*codes, "a" * 63], strict=True)]

    assert _settle(worker, results) == ["failed"] * len(results)
    assert [state[2] for state in _states(worker, leased)] == ["unnamed_failure"] * len(codes) + ["a" * 63]
    direct = "update public.scenario_notifications set delivery_status = %s, failure_code = %s where id = %s"
    for status, code in [("sent", "timeout"), *(("pending", code) for code in codes)]:
        with pytest.raises(psycopg.errors.CheckViolation, match="failure_code_is_a_code"):
            worker.execute(direct, [status, code, pending["id"]])


def test_what_is_no_list_of_results_is_refused(worker: psycopg.Connection) -> None:
    """SR001 for anything but an array of known results, SR003 for more than 1,000."""
    result = {"id": str(UUID(int=9)), "attempt_count": 1}
    sent, strange = result | {"result": "sent"}, result | {"result": "delivered"}
    lists = [["sent"], [sent] * 1001, [sent, result], [sent | {"result": None}], [sent, strange]]
    for results in (None, {}, "text", *lists):
        with pytest.raises(psycopg.DatabaseError) as refusal:
            _settle(worker, results)
        too_many = isinstance(results, list) and len(results) > 1000
        assert refusal.value.sqlstate == ("SR003" if too_many else "SR001")
    assert [_settle(worker, []), _settle(worker, [sent] * 1000)] == [[], ["unknown"] * 1000]
