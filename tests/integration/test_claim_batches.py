"""What a claim decides of a batch: repetitions, bad rows among good ones, order and size; one connection, no rivals."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.integration.database import Database, claim, new_claim, new_milestone, now, outcomes_of, results
from tests.postgres.server import PostgresServer
from tests.rows import insert_notification


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests: each has users of its own."""
    yield Database(postgres_server.create_database("claim_batches", template=migrated))
    postgres_server.drop_database("claim_batches")


@pytest.fixture
def user(database: Database) -> UUID:
    """Create a user without a history."""
    return database.new_users(1)[0]


def stored(connection: psycopg.Connection, outcomes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Read the rows that were claimed, in the order of their outcomes."""
    query = """
      select notification.*
      from unnest(%s::uuid[]) with ordinality as claimed (id, ordinal)
      join public.scenario_notifications as notification using (id)
      order by claimed.ordinal
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, [[outcome["id"] for outcome in outcomes if "id" in outcome]]).fetchall()


def test_the_first_of_a_batchs_duplicates_wins(database: Database, worker: psycopg.Connection) -> None:
    """Same user, type and milestone is the same, whatever else differs; who is held is held each time."""
    first, second, third = database.new_users(3)
    claim(worker, [new_claim(third)])
    batch = [
        (new_claim(first, organization_id=UUID(int=7)), "claimed"),
        (new_milestone(first, 10), "claimed"),
        (new_claim(third), "cooldown"),
        (new_claim(first, cooldown_seconds=1), "duplicate_in_batch"),
        (new_milestone(first, 25), "claimed"),
        (new_claim(first, scenario_type="welcome_back"), "claimed"),
        (new_milestone(first, 10), "duplicate_in_batch"),
        (new_claim(third), "cooldown"),
        (new_claim(second), "claimed"),
        (new_claim(first), "duplicate_in_batch"),
    ]
    outcomes = claim(worker, [asked for asked, _ in batch])
    assert results(outcomes) == [result for _, result in batch]
    assert stored(worker, outcomes)[0]["organization_id"] == UUID(int=7)
    assert outcomes[3] == {"skip_reason": "duplicate_in_batch", "held_by": None, "ends_at": None}


@pytest.mark.parametrize("again", [[], ["duplicate_in_batch"]], ids=["fast path", "row by row"])
def test_a_longer_cooldown_of_a_batch_refuses_its_own_claim_alone(
    again: list[str], worker: psycopg.Connection, user: UUID
) -> None:
    """Each claim is judged by its own cooldown, on the fast path and row by row."""
    insert_notification(worker, user, triggered_at=now(worker) - timedelta(days=2), delivery_status="sent")
    long, short = (new_claim(user, cooldown_seconds=days * 86_400) for days in (3, 1))
    outcomes = claim(worker, [long, short, *(short for _ in again), long])
    assert results(outcomes) == ["cooldown", "claimed", *again, "cooldown"]


def test_a_user_who_does_not_exist_is_told_and_loses_nobody(database: Database, worker: psycopg.Connection) -> None:
    """Never was, or deleted since the caller looked: the rest of the batch is claimed."""
    deleted, kept = database.new_users(2)
    claim(worker, [new_claim(deleted)])
    with database.connect(role=None) as owner:
        owner.execute("delete from auth.users where id = %s", [deleted])
    outcomes = claim(worker, [new_claim(deleted), new_claim(kept), new_claim(uuid4()), new_milestone(uuid4(), 3)])
    assert results(outcomes) == ["unknown_user", "claimed", "unknown_user", "unknown_user"]
    assert outcomes[0] == {"skip_reason": "unknown_user", "held_by": None, "ends_at": None}


def invalid_claims(user: UUID) -> list[dict[str, object]]:
    """Make claims that nothing but the claim itself may refuse, and some that a constraint would."""
    inactivity, milestone = new_claim(user), new_milestone(user, 10)
    return [
        inactivity | {"user_id": None},
        inactivity | {"organization_id": None},
        inactivity | {"scenario_type": None},
        inactivity | {"scenario_type": "Inactivity"},
        *(inactivity | {"cooldown_seconds": seconds} for seconds in (None, 0, -1, 36_525 * 86_400 + 1)),
        inactivity | {"milestone_value": 10},
        *(milestone | {"milestone_value": value} for value in (None, 0, -1)),
        milestone | {"cooldown_seconds": 60},
        inactivity | {"subject": ["a"]},
    ]


def test_an_invalid_claim_is_refused_alone(worker: psycopg.Connection, user: UUID) -> None:
    """Nothing is written for it, though no other claim of the batch makes anybody look twice."""
    for invalid in invalid_claims(user):
        assert results(claim(worker, [invalid])) == ["invalid_claim"]
    query = "select from public.scenario_notifications where user_id = %s"
    assert worker.execute(query, [user]).rowcount == 0


@pytest.mark.parametrize("repeated", [1, 2])
def test_an_invalid_claim_loses_nobody_else(repeated: int, worker: psycopg.Connection, user: UUID) -> None:
    """It is told so, and so is its repetition; a valid claim for the same is not its duplicate."""
    valid, invalid = [new_claim(user), new_milestone(user, 10)] * repeated, invalid_claims(user)
    outcomes = claim(worker, [*invalid, *valid, *invalid])
    refused = ["invalid_claim"] * len(invalid)
    granted = ["claimed"] * 2 + ["duplicate_in_batch"] * (len(valid) - 2)
    assert results(outcomes) == [*refused, *granted, *refused]


def test_unstorable_metadata_loses_nobody_else(database: Database, worker: psycopg.Connection) -> None:
    """Refused for that claim alone: a good one for the same is granted; and JSON's null is no metadata."""
    unstorable: list[object] = [[1], "text", 7, True, {"long": "x" * 8192}]
    users = database.new_users(len(unstorable))
    bad = [new_claim(user, metadata=metadata) for user, metadata in zip(users, unstorable, strict=True)]
    outcomes = claim(worker, [*bad, *(new_claim(user, metadata=None) for user in users), new_claim(users[0])])
    assert results(outcomes) == [*["invalid_metadata"] * 5, *["claimed"] * 5, "duplicate_in_batch"]
    query = "select from public.scenario_notifications where user_id = any (%s) and metadata is null"
    assert worker.execute(query, [users]).rowcount == 5


def test_anything_but_an_array_of_20000_claims_is_refused(worker: psycopg.Connection) -> None:
    """The message names the argument or the limit; an empty array fits. An object has columns, one at least."""
    assert claim(worker, []) == []
    for claims in ("null", None, "1", "{}", '{"user_id": {}}'):
        with pytest.raises(psycopg.Error, match=r"expected p_claims(\.user_id)? as a json array, got") as refusal:
            worker.execute("select public.scenario_claim_notifications(%s)", [claims])
        assert refusal.value.sqlstate == "SR001"
    with pytest.raises(psycopg.Error, match="expected at most 20000 elements, got 20001") as refusal:
        worker.execute("select public.scenario_claim_notifications(%s)", [json.dumps([{}] * 20_001)])
    assert refusal.value.sqlstate == "SR003"


def test_columns_that_do_not_fit_together_are_refused(worker: psycopg.Connection) -> None:
    """A column of another length or name, or one value where a column has to be."""
    good = {"user_id": [str(UUID(int=1))] * 2, "all": {"scenario_type": "inactivity", "cooldown_seconds": 60}}
    faults: list[dict[str, object]] = [{"metadata": [None]}, {"user": []}, {"scenario_type": "inactivity"}, {"all": []}]
    for bad in faults:
        with pytest.raises(psycopg.Error, match="expected p_claims to have columns of 2 claims") as refusal:
            worker.execute("select public.scenario_claim_notifications(%s)", [json.dumps(good | bad)])
        assert refusal.value.sqlstate == "SR001"


_PARTS: list[dict[str, object]] = [
    {"scenario_type": "inactivity", "cooldown_seconds": 60.5, "metadata": {"n": 1}},
    {"scenario_type": "milestone", "milestone_value": 10},
    {"scenario_type": "certification_expiry", "cooldown_seconds": 60, "subjects": ["b", "a"]},
    {"scenario_type": "welcome_back"},
    {"scenario_type": "welcome_back", "cooldown_seconds": 60, "organization_id": str(UUID(int=9))},
]


@pytest.mark.parametrize(
    "more", [[], [{"scenario_type": "inactivity", "cooldown_seconds": "long"}]], ids=["whole columns", "one by one"]
)
def test_columns_mean_what_an_array_of_claims_means(
    more: list[dict[str, object]], database: Database, worker: psycopg.Connection
) -> None:
    """The same outcomes and rows, also where a field can't be read: that claim alone is refused."""
    parts = [*_PARTS, *more]
    by_array, by_columns = (
        [
            {"organization_id": str(UUID(int=1)), **part, "user_id": str(user)}
            for user, part in zip(users, parts, strict=True)
        ]
        for users in (database.new_users(len(parts)), database.new_users(len(parts)))
    )
    names = ("scenario_type", "cooldown_seconds", "milestone_value", "metadata", "subjects", "organization_id")
    given: dict[str, object] = {name: [part.get(name) for part in parts] for name in names}
    given["user_id"] = [asked["user_id"] for asked in by_columns]
    given["all"] = {"organization_id": str(UUID(int=1))}
    row = worker.execute("select public.scenario_claim_notifications(%s)", [json.dumps(given)]).fetchone()
    assert row is not None
    outcomes = outcomes_of(row[0], by_columns)
    assert results(outcomes) == [*["claimed"] * 3, "invalid_claim", "claimed", *["invalid_claim"] * len(more)]

    others = claim(worker, by_array)
    assert results(others) == results(outcomes)
    differing = {"id", "user_id", "triggered_at", "deliver_until"}
    rows = [
        [{name: value for name, value in one.items() if name not in differing} for one in stored(worker, some)]
        for some in (outcomes, others)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("size", [500, 20_000])
def test_outcomes_come_in_the_order_of_the_claims(size: int, database: Database, worker: psycopg.Connection) -> None:
    """However a batch is shuffled, the n-th outcome is that of the n-th claim."""
    shuffle = random.Random(size)  # noqa: S311
    users = database.new_users(size // 2)
    claims = [new_claim(user) for user in users] + [new_milestone(user, 10) for user in users]
    shuffle.shuffle(claims)

    def subject(of: Mapping[str, object]) -> tuple[str, object]:
        return str(of["user_id"]), of["scenario_type"]

    outcomes = claim(worker, claims)
    assert list(map(subject, stored(worker, outcomes))) == list(map(subject, claims))
    ids = {subject(asked): outcome["id"] for asked, outcome in zip(claims, outcomes, strict=True)}

    shuffle.shuffle(claims)
    again = claim(worker, claims)
    assert [outcome["held_by"] for outcome in again] == [ids[subject(asked)] for asked in claims]
    assert Counter(results(again)) == {"cooldown": size // 2, "milestone_reached": size // 2}
