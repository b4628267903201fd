"""A claim with a lease: for whoever sends by hand, claim and lease at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.integration.database import Database, claim, new_claim, new_milestone, now, results
from tests.integration.delivery import deliver, lease, settle, settlement
from tests.integration.evaluation import empty
from tests.integration.histories import LONG, REFUSALS, Mentor, Refusal, database_with_own_type
from tests.postgres.server import PostgresServer
from tests.rows import ahead, insert_devices, insert_notification

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
AWAY = [refusal for refusal in REFUSALS if refusal.reason.startswith("user_")]


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests."""
    with database_with_own_type(postgres_server, "leased_claims", migrated, due_within=LONG) as database:
        yield database


@pytest.fixture
def database(shared: Database) -> Iterator[Database]:
    """Empty the database afterwards."""
    yield shared
    empty(shared)


@pytest.fixture
def user(database: Database) -> UUID:
    """Create a user without a history."""
    return database.new_users(1)[0]


def ask(worker: psycopg.Connection, user: UUID, seconds: float | None = 60, **overrides: object) -> dict[str, Any]:
    """Claim with a lease, and return the outcome."""
    (outcome,) = claim(worker, [new_claim(user, **overrides)], seconds)
    return outcome


def count(worker: psycopg.Connection) -> int:
    """Count the notifications."""
    return worker.execute("select from public.scenario_notifications").rowcount


def test_it_is_leased_to_its_claimer(worker: psycopg.Connection, user: UUID) -> None:
    """Like a row of the lease: first lease, first attempt, the devices; nobody else gets it meanwhile."""
    insert_devices(worker, [user], token="a-token")
    with worker.transaction():
        moment = now(worker)
        outcome = ask(worker, user, 90)
    assert (outcome["lease_number"], outcome["attempt_count"]) == (1, 1)
    assert datetime.fromisoformat(outcome["leased_until"]) == moment + timedelta(seconds=90)
    assert [device["token"] for device in outcome["device_tokens"]] == ["a-token"]
    assert (outcome["delivery_status"], outcome["origin"], outcome["user_id"]) == ("pending", "claim", str(user))
    assert lease(worker) == []


@pytest.mark.parametrize("result", ["sent", "failed", "suppressed"])
def test_it_is_settled_by_its_claimer(result: str, worker: psycopg.Connection, user: UUID) -> None:
    """Case 2.5: settled once, sent once; a worker that runs afterwards finds nothing."""
    outcome = ask(worker, user)
    answer = "sent" if result == "sent" else "failed"
    assert settle(worker, [settlement(outcome, result)]) == [answer]
    assert settle(worker, [settlement(outcome, result)]) == ["already_settled"]
    assert lease(worker) == []
    assert ask(worker, user)["skip_reason"] == "cooldown"


@pytest.mark.parametrize("result", ["retry", "released"])
def test_what_its_claimer_gives_back_is_the_workers(
    result: str, database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """It is pending like any other; a release spends no attempt."""
    outcome = ask(worker, user)
    assert settle(worker, [settlement(outcome, result)]) == ["pending"]
    database.let_pass(MINUTE)
    (leased,) = lease(worker)
    assert (leased["id"], leased["lease_number"]) == (outcome["id"], 2)
    assert leased["attempt_count"] == (2 if result == "retry" else 1)


def test_a_claimer_that_dies_leaves_it_to_the_workers(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """When its lease is over; the claimer's settlement comes too late then, and the row holds as sent meanwhile."""
    outcome = ask(worker, user)
    database.let_pass(2 * MINUTE)
    held = ask(worker, user, None)
    triggered_at = datetime.fromisoformat(outcome["triggered_at"]) - 2 * MINUTE
    assert datetime.fromisoformat(held["ends_at"]) == triggered_at + WEEK
    (leased,) = lease(worker)
    assert leased["id"] == outcome["id"]
    assert settle(worker, [settlement(outcome, "sent"), settlement(leased, "sent")]) == ["lease_lost", "sent"]


def test_a_claim_without_a_lease_is_the_workers(worker: psycopg.Connection, user: UUID) -> None:
    """It is handed out like any other."""
    outcome = ask(worker, user, None)
    assert "lease_number" not in outcome
    (leased,) = lease(worker)
    assert (leased["id"], leased["lease_number"]) == (outcome["id"], 1)


@pytest.mark.parametrize("refusal", AWAY, ids=lambda refusal: refusal.reason)
def test_who_is_away_is_skipped_and_nothing_is_written(
    refusal: Refusal, database: Database, worker: psycopg.Connection
) -> None:
    """As the lease would refuse it; the claims beside it are granted, each in its place."""
    users = database.new_users(3)
    refusal.begin(database, users[1])
    outcomes = claim(worker, [new_claim(user) for user in users], 60)
    assert results(outcomes) == ["claimed", refusal.reason, "claimed"]
    assert (outcomes[1]["held_by"], outcomes[1]["ends_at"]) == (None, None)
    assert [outcome["user_id"] for outcome in (outcomes[0], outcomes[2])] == [str(users[0]), str(users[2])]
    assert count(worker) == 2
    refusal.end(database, users[1])
    assert results(claim(worker, [new_claim(users[1])], 60)) == ["claimed"]


def test_an_unknown_user_is_gone(worker: psycopg.Connection) -> None:
    """Nobody of that id is there to be told."""
    assert results([ask(worker, uuid4())]) in (["user_gone"], ["unknown_user"])
    assert count(worker) == 0


@pytest.mark.parametrize("reason", ["mentor_not_active", "scenario_disabled"])
def test_what_no_rule_said_is_not_asked_of_a_rule(reason: str, database: Database, worker: psycopg.Connection) -> None:
    """A claim of the app's own is asked about the user alone."""
    (refusal,) = (one for one in REFUSALS if one.reason == reason)
    mentor = Mentor(database, worker, "inactivity")
    refusal.begin(database, mentor.user)
    assert "id" in mentor.claim(lease_seconds=60)


def test_repeating_it_takes_over_what_nobody_has_in_hand(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """The answer was lost, or the claimer died: the next goes on with the same notification, on its own lease."""
    first = ask(worker, user)
    assert ask(worker, user)["skip_reason"] == "cooldown"
    database.let_pass(2 * MINUTE)
    second = ask(worker, user)
    assert (second["id"], second["lease_number"], second["attempt_count"]) == (first["id"], 2, 2)
    assert ask(worker, user)["skip_reason"] == "cooldown"
    assert settle(worker, [settlement(first, "sent"), settlement(second, "released")]) == ["lease_lost", "pending"]
    third = ask(worker, user)
    assert (third["id"], third["lease_number"], third["attempt_count"]) == (first["id"], 3, 2)
    assert settle(worker, [settlement(third, "sent")]) == ["sent"]
    assert count(worker) == 1


def test_a_milestone_is_taken_over_too(database: Database, worker: psycopg.Connection, user: UUID) -> None:
    """By its value."""
    (first,) = claim(worker, [new_milestone(user, 10)], 60)
    database.let_pass(2 * MINUTE)
    outcomes = claim(worker, [new_milestone(user, 10), new_milestone(user, 25)], 60)
    assert outcomes[0]["id"] == first["id"]
    assert [outcome["lease_number"] for outcome in outcomes] == [2, 1]


def test_what_was_taken_over_still_may_have_been_told(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """The lease that ran out counts as sent, whatever becomes of the next."""
    first = ask(worker, user)
    database.let_pass(2 * MINUTE)
    until = datetime.fromisoformat(first["leased_until"]) - 2 * MINUTE
    assert settle(worker, [settlement(ask(worker, user), "failed", "invalid_token")]) == ["failed"]
    assert datetime.fromisoformat(ask(worker, user)["ends_at"]) == until + WEEK


@pytest.mark.parametrize("origin", ["evaluation", "insert"])
def test_what_others_made_is_not_taken_over(origin: str, database: Database, worker: psycopg.Connection) -> None:
    """An evaluation's and a plain insert's are the workers'."""
    mentor = Mentor(database, worker, "inactivity")
    if origin == "evaluation":
        mentor.be_claimed()
    else:
        insert_notification(worker, mentor.user)
    assert mentor.claim(lease_seconds=60)["skip_reason"] == "cooldown"
    assert len(lease(worker)) == 1


def test_what_is_over_is_not_taken_over(database: Database, worker: psycopg.Connection, user: UUID) -> None:
    """Neither what has expired, nor what has spent its attempts."""
    month = (30 * DAY).total_seconds()
    ask(worker, user, cooldown_seconds=month)
    database.let_pass(8 * DAY)
    assert ask(worker, user, cooldown_seconds=month)["skip_reason"] == "cooldown"
    (other,) = database.new_users(1)
    taken = 0
    for _ in range(20):
        taken += "id" in ask(worker, other)
        database.let_pass(2 * MINUTE)
    assert taken == 8


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        (["a", "b"], ["a"], "taken over"),
        (["a", "b"], ["a", "b"], "taken over"),
        ([], [], "taken over"),
        (["a"], ["a", "b"], "claimed anew"),
        (["a"], [], "refused"),
        ([], ["a"], "refused"),
    ],
    ids=repr,
)
def test_what_is_taken_over_names_all_that_is_claimed(  # noqa: PLR0913, PLR0917
    first: list[str], second: list[str], result: str, database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """Else she would be told of something else; what is new is claimed on its own."""
    made = ask(worker, user, subjects=first)
    database.let_pass(2 * MINUTE)
    outcome = ask(worker, user, subjects=second)
    if result == "claimed anew":
        assert outcome["id"] != made["id"]
        assert outcome["new_subjects"] == ["b"]
    else:
        assert outcome.get("id") == (made["id"] if result == "taken over" else None)


def test_one_notification_is_taken_over_once_in_a_batch(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """The same claim twice: the first place gets it."""
    made = ask(worker, user)
    database.let_pass(2 * MINUTE)
    outcomes = claim(worker, [new_claim(user), new_claim(user)], 60)
    assert [outcome.get("id") for outcome in outcomes] == [made["id"], None]


def test_two_claimers_take_over_one_notification_once(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """The second is told of the cooldown, and does not wait for the first."""
    made = ask(worker, user)
    database.let_pass(2 * MINUTE)
    with database.connect() as rival, rival.transaction():
        assert ask(rival, user)["id"] == made["id"]
        worker.execute("set lock_timeout = '2s'")
        assert ask(worker, user)["skip_reason"] == "cooldown"


def test_a_batch_is_answered_place_by_place(database: Database, worker: psycopg.Connection) -> None:
    """New ones, held ones, repetitions, strangers and those taken over, all in their places."""
    new, sent, own, busy = database.new_users(4)
    ask(worker, sent)
    deliver(worker)
    claim(worker, [new_claim(sent)], 60)
    query = "update public.scenario_notifications set delivery_status = 'sent' where user_id = %s"
    worker.execute(query, [sent])
    mine = ask(worker, own)
    database.let_pass(2 * MINUTE)
    ask(worker, busy)
    users = [busy, new, sent, own, new, own]
    outcomes = claim(worker, [*(new_claim(user) for user in users), new_claim(new, cooldown_seconds=-1)], 60)
    assert results(outcomes) == [
        "cooldown",
        "claimed",
        "cooldown",
        "claimed",
        "duplicate_in_batch",
        "cooldown",
        "invalid_claim",
    ]
    assert outcomes[3]["id"] == mine["id"]
    assert [outcome["user_id"] for outcome in outcomes if "id" in outcome] == [str(new), str(own)]


@pytest.mark.parametrize("seconds", [0, 0.5, 86_401, -60, float("nan"), float("inf")])
def test_a_lease_out_of_bounds_is_refused(seconds: float, worker: psycopg.Connection, user: UUID) -> None:
    """A second to a day, as for a worker; nothing is written."""
    with pytest.raises(psycopg.errors.DatabaseError, match="p_lease_seconds") as refused:
        ask(worker, user, seconds)
    assert refused.value.sqlstate == "SR001"
    assert count(worker) == 0


def test_a_thousand_claims_are_leased_at_once_and_no_more(database: Database, worker: psycopg.Connection) -> None:
    """As many as a worker may lease."""
    users = database.new_users(1001)
    with pytest.raises(psycopg.errors.DatabaseError) as refused:
        claim(worker, list(map(new_claim, users)), 60)
    assert refused.value.sqlstate == "SR003"
    assert len(claim(worker, list(map(new_claim, users[1:])), 60)) == 1000
    assert worker.execute("select from scenario_private.handover where leased_until > now()").rowcount == 1000


def test_a_claim_with_a_lease_asks_whether_it_is_the_moment(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """As a lease does: muted, closed until then, told something else just now; nothing is written for any of them."""
    worker.execute("insert into public.scenario_mutes (user_id, scenario_type) values (%s, 'inactivity')", [user])
    assert ask(worker, user)["skip_reason"] == "muted"
    worker.execute("delete from public.scenario_mutes")

    worker.execute(
        "insert into public.scenario_days_off (first_day, last_day) values (current_date - 1, current_date + 1)"
    )
    closed = ask(worker, user)
    ((opens_at,),) = worker.execute(
        "select least((current_date + 2)::timestamptz, now() + interval '1 day')"
    ).fetchall()
    assert closed["skip_reason"] == "not_now"
    assert abs(datetime.fromisoformat(closed["ends_at"]) - opens_at) < MINUTE
    worker.execute("delete from public.scenario_days_off")
    assert count(worker) == 0

    worker.execute("insert into public.scenario_delivery_policy (min_gap) values ('4 hours')")
    (other,) = database.new_users(1)
    types = ["inactivity", "welcome_back"]
    outcomes = claim(worker, [new_claim(one, scenario_type=kind) for one in (user, other) for kind in types], 60)
    assert results(outcomes) == ["claimed", "not_now", "claimed", "not_now"]
    # What holds is told before it is her turn, and takes none.
    database.let_pass(5 * 60 * MINUTE)
    assert ask(worker, user, 60)["id"] == outcomes[0]["id"]


def test_a_claim_that_is_refused_takes_no_turn(worker: psycopg.Connection, user: UUID) -> None:
    """The next one of the person is handed out."""
    worker.execute("insert into public.scenario_delivery_policy (min_gap) values ('4 hours')")
    ask(worker, user, None)
    worker.execute("update public.scenario_notifications set delivery_status = 'sent'")
    assert ask(worker, user)["skip_reason"] == "cooldown"
    (outcome,) = claim(worker, [new_claim(user, scenario_type="welcome_back")], 60)
    assert "id" in outcome


def test_a_claim_that_takes_over_knows_when_its_lease_began(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """A device that was registered since is kept, whatever the provider said of its token."""
    ask(worker, user)
    database.let_pass(2 * MINUTE)
    second = ask(worker, user)
    assert second["unsettled_leases"] == 1
    insert_devices(worker, [user], token="t", registered_at=ahead("1 second"))
    settle(worker, [settlement(second, "suppressed") | {"invalid_tokens": ["t"]}])
    assert worker.execute("select token from device_tokens where user_id = %s", [user]).fetchall() == [("t",)]
