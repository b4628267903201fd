"""Claims as the library sends them, by columns, and as it reads the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from scenario_repo import (
    ClaimOutcome,
    LeasedClaimOutcome,
    NotificationClaim,
    ScenarioNotification,
    ScenarioType,
    SkipReason,
)
from scenario_repo._claims import ANSWER, Answer, claims_request, leased_outcomes_of, outcomes_of
from tests.integration.database import Database, new_claim, new_milestone, results
from tests.integration.database import outcomes_of as outcomes_of_json

ORGANIZATION = UUID(int=1)
CERTIFICATES = ScenarioType.CERTIFICATION_EXPIRY


class Recorder:
    """A client whose requests are their arguments."""

    def rpc(self, _: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Keep them."""
        return arguments


def ask(worker: psycopg.Connection, claims: Sequence[NotificationClaim], lease_seconds: float | None = None) -> Answer:
    """Claim on the library's wire."""
    recorder: Any = Recorder()
    request: Any = claims_request(recorder, claims, lease_seconds)
    row = worker.execute(
        "select public.scenario_claim_notifications(%s::jsonb, %s)::text",
        [json.dumps(request["p_claims"]), request["p_lease_seconds"]],
    ).fetchone()
    assert row is not None
    return ANSWER.validate_json(row[0])


def claim(worker: psycopg.Connection, claims: Sequence[NotificationClaim]) -> list[ClaimOutcome]:
    """Claim as the library does."""
    return outcomes_of(claims, ask(worker, claims))


def claim_with_lease(worker: psycopg.Connection, claims: Sequence[NotificationClaim]) -> list[LeasedClaimOutcome]:
    """Claim with a lease as the library does."""
    return leased_outcomes_of(claims, ask(worker, claims, 60))


def certificates(user: UUID, *subjects: str, **fields: Any) -> NotificationClaim:  # noqa: ANN401 - the fields of a claim
    """Claim for certificates."""
    given: dict[str, Any] = {"scenario_type": CERTIFICATES, "cooldown": timedelta(days=7), "subjects": subjects}
    return NotificationClaim(user_id=user, organization_id=ORGANIZATION, **given | fields)


def stored(worker: psycopg.Connection, notification_id: UUID) -> ScenarioNotification:
    """Read a row as PostgREST gives it."""
    row = worker.execute(
        "select to_json(notification)::text from public.scenario_notifications as notification where id = %s",
        [notification_id],
    ).fetchone()
    assert row is not None
    return ScenarioNotification.model_validate_json(row[0])


def assert_granted_as_stored(worker: psycopg.Connection, outcomes: Sequence[ClaimOutcome]) -> None:
    """Every outcome is granted, and its notification is the row."""
    for outcome in outcomes:
        assert outcome.notification is not None, outcome.skip_reason
        plain = outcome.notification.model_dump(include=set(ScenarioNotification.model_fields))
        assert plain == stored(worker, outcome.notification.id).model_dump()


@pytest.mark.parametrize(
    "subjects",
    [
        [["a"], ["b"]],
        [["a", "b"], ["c", "d"]],
        [["a"], ["b", "c"]],
        [[], ["b"]],
        [["a"], []],
        [["Å", "b", "Z", "a"], ["-", "_"]],
    ],
)
def test_subjects_reach_their_claims(subjects: list[list[str]], database: Database, worker: psycopg.Connection) -> None:
    """As many for each claim or not: json arrays in an array are no array of two dimensions."""
    users = database.new_users(2)
    outcomes = claim(worker, [certificates(user, *named) for user, named in zip(users, subjects, strict=True)])
    assert_granted_as_stored(worker, outcomes)
    assert [outcome.new_subjects for outcome in outcomes] == [tuple(sorted(named)) for named in subjects]


def test_a_granted_notification_is_its_row(database: Database, worker: psycopg.Connection) -> None:
    """Whatever the answer leaves out is known: the first of a user and a later one, of all types, in part held."""
    one, other = database.new_users(2)
    assert_granted_as_stored(
        worker,
        [
            *claim(worker, [certificates(one, "a", metadata={"a": [1, {"b": None}]}), certificates(other)]),
            *claim(
                worker,
                [
                    certificates(one, "a", "b", metadata={"a": 1}),
                    certificates(one, scenario_type="milestone", milestone_value=10, cooldown=None),
                    certificates(other, scenario_type="inactivity"),
                ],
            ),
        ],
    )
    with database.connect() as operator:
        change = "update public.scenario_evaluation_config set deliver_within = %s where scenario_type = 'welcome_back'"
        operator.execute(change, [timedelta(days=2)])
        try:
            welcomed = claim(worker, [certificates(user, scenario_type="welcome_back") for user in (one, other)])
            assert_granted_as_stored(worker, welcomed)
        finally:
            operator.execute(change, [timedelta(days=7)])


def test_a_claim_beside_a_bad_one_is_its_row(database: Database, worker: psycopg.Connection) -> None:
    """Also where the batch is judged with care."""
    (user,) = database.new_users(1)
    bad, good = claim(worker, [certificates(uuid4(), "a"), certificates(user, "b", "a")])
    assert bad.skip_reason is SkipReason.UNKNOWN_USER
    assert_granted_as_stored(worker, [good])


def test_a_claim_with_a_lease_is_its_row(database: Database, worker: psycopg.Connection) -> None:
    """New ones and one that is taken over; once leased, it is held."""
    one, other = database.new_users(2)
    claim(worker, [certificates(one, "a")])
    claims = [certificates(one, "a"), certificates(other, "b")]
    first = claim_with_lease(worker, claims)
    assert_granted_as_stored(worker, first)
    assert [outcome.notification and outcome.notification.attempt_count for outcome in first] == [1, 1]
    assert [outcome.skip_reason for outcome in claim_with_lease(worker, claims)] == [SkipReason.COOLDOWN] * 2


def judged(worker: psycopg.Connection, claims: object) -> list[str]:
    """Claim two in plain json, by columns or one by one, and say what became of each."""
    row = worker.execute(
        "select public.scenario_claim_notifications(%s::jsonb)", [json.dumps(claims, default=str)]
    ).fetchone()
    assert row is not None
    return results(outcomes_of_json(row[0], [{}, {}]))


ODD_COLUMNS: list[dict[str, object]] = [
    {"user_id": [["x", "y"], ["z", "u"]]},
    {"user_id": [{"a": 1}, None]},
    {"user_id": [[str(UUID(int=1)), str(UUID(int=2))], [str(UUID(int=3)), str(UUID(int=4))]]},
    {"organization_id": [["x"], ["y"]]},
    {"scenario_type": [["inactivity"], ["inactivity"]]},
    {"cooldown_seconds": [[1], [2]]},
    {"cooldown_seconds": ["x", "Infinity"]},
    {"milestone_value": [[1, 2], [3, 4]]},
    {"milestone_value": ["1", 2.5]},
    {"metadata": [["a", "b"], ["c", "d"]]},
    {"metadata": [["a"], {}], "scenario_type": ["inactivity", "nothing"]},
    {"subjects": ["a", "b"]},
    {"subjects": [{"a": 1}, 7]},
    {"subjects": [[["a"]], ["a", None]], "scenario_type": ["inactivity", "nothing"]},
]


@pytest.mark.parametrize("odd", ODD_COLUMNS, ids=json.dumps)
def test_odd_columns_are_judged_claim_by_claim(
    odd: dict[str, list[object]], database: Database, worker: psycopg.Connection
) -> None:
    """From other clients: no value moves to another place, and a batch by columns means what its claims mean."""
    users = database.new_users(2)
    common = {name: value for name, value in new_claim(users[0]).items() if name != "user_id"}
    columns: dict[str, Any] = {
        "user_id": [str(user) for user in users],
        **{name: [value, value] for name, value in common.items()},
        **odd,
    }
    claims = [{name: column[place] for name, column in columns.items()} for place in range(2)]
    with worker.transaction(force_rollback=True):
        one_by_one = judged(worker, claims)
    assert judged(worker, columns) == one_by_one
    assert len(one_by_one) == 2


def test_all_has_what_is_the_same_for_all(database: Database, worker: psycopg.Connection) -> None:
    """A value in its own place goes before the one for all."""
    one, other = database.new_users(2)
    columns: dict[str, Any] = {
        "user_id": [str(one), str(other)],
        "milestone_value": [None, 10],
        "scenario_type": [None, "milestone"],
        "cooldown_seconds": [604_800, None],
        "all": {"organization_id": str(ORGANIZATION), "scenario_type": "inactivity", "metadata": {"a": 1}},
    }
    row = worker.execute("select public.scenario_claim_notifications(%s::jsonb)", [json.dumps(columns)]).fetchone()
    assert row is not None
    claims = [new_claim(one), new_milestone(other, 10)]
    claimed = [stored(worker, UUID(str(outcome["id"]))) for outcome in outcomes_of_json(row[0], claims)]
    assert [(one.scenario_type, one.milestone_value, one.metadata) for one in claimed] == [
        ("inactivity", None, {"a": 1}),
        ("milestone", 10, {"a": 1}),
    ]


@pytest.mark.parametrize("name", ["subjects", "user_id", "milestone_value", "cooldown"])
def test_all_has_no_other_fields(name: str, worker: psycopg.Connection) -> None:
    """What would be left out in silence is refused."""
    columns = {"user_id": [str(ORGANIZATION)], "all": {name: None}}
    with pytest.raises(psycopg.Error, match=r"p_claims\.all") as caught:
        worker.execute("select public.scenario_claim_notifications(%s::jsonb)", [json.dumps(columns)])
    assert caught.value.sqlstate == "SR001"
