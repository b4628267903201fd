"""Being told about several things of one scenario: what a row names, what it holds, and what is new."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.integration.database import Database, claim, new_claim, new_milestone, results
from tests.integration.delivery import deliver
from tests.integration.evaluation import OTHER_ORGANIZATION, certify, empty, evaluate
from tests.integration.histories import DAY, LONG, OWN, Mentor, database_with_own_type
from tests.postgres.server import PostgresServer
from tests.rows import ORGANIZATION, ahead, insert_certificates, insert_mentors, insert_notification

WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all tests."""
    with database_with_own_type(postgres_server, "subjects", migrated, due_within=LONG) as database:
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


def ask(worker: psycopg.Connection, user: UUID, *subjects: str, **overrides: object) -> dict[str, Any]:
    """Claim about subjects, and return the outcome."""
    (outcome,) = claim(worker, [new_claim(user, subjects=list(subjects)) | overrides])
    return outcome


def named(worker: psycopg.Connection, user: UUID) -> list[list[str]]:
    """Return what each notification names, the oldest first."""
    query = "select subjects from public.scenario_notifications where user_id = %s order by triggered_at, id"
    return [row[0] for row in worker.execute(query, [user])]


def facts(worker: psycopg.Connection, user: UUID) -> dict[str, Any]:
    """Return the metadata of the newest notification."""
    query = """
      select metadata from public.scenario_notifications where user_id = %s order by triggered_at desc, id desc limit 1
    """
    metadata: dict[str, Any] = worker.execute(query, [user]).fetchall()[0][0]
    return metadata


def test_a_claim_is_granted_while_one_of_its_subjects_is_not_held(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """The row names all that it was asked for, and holds each of them from then on."""
    first = ask(worker, user, "a")
    assert first["new_subjects"] == ["a"]
    database.let_pass(3 * DAY)
    second = ask(worker, user, "a", "b")
    assert second["new_subjects"] == ["b"]
    assert named(worker, user) == [["a"], ["a", "b"]]
    deliver(worker)

    database.let_pass(5 * DAY)
    held = [ask(worker, user, *subjects) for subjects in (["a"], ["b"], ["a", "b"])]
    assert results(held) == ["cooldown"] * 3
    assert {outcome["held_by"] for outcome in held} == {second["id"]}
    database.let_pass(2 * DAY)
    assert ask(worker, user, "a", "b")["new_subjects"] == ["a", "b"]


def test_the_order_and_repetition_of_subjects_mean_nothing(worker: psycopg.Connection, user: UUID) -> None:
    """They are a set, stored in order."""
    assert ask(worker, user, "b", "a", "b")["new_subjects"] == ["a", "b"]
    assert named(worker, user) == [["a", "b"]]
    assert results([ask(worker, user, "a", "a")]) == ["cooldown"]


@pytest.mark.parametrize("maker", ["claim", "insert"])
def test_a_row_without_subjects_holds_them_all(maker: str, worker: psycopg.Connection, user: UUID) -> None:
    """It is about the scenario as a whole."""
    row = ask(worker, user) if maker == "claim" else insert_notification(worker, user)
    outcomes = [ask(worker, user), ask(worker, user, "a"), ask(worker, user, "a", "b")]
    assert results(outcomes) == ["cooldown"] * 3
    assert {outcome["held_by"] for outcome in outcomes} == {str(row["id"])}


def test_a_claim_without_subjects_is_held_by_any(database: Database, worker: psycopg.Connection, user: UUID) -> None:
    """Whatever was told of the type was told; until the last of them is over."""
    ask(worker, user, "a")
    database.let_pass(3 * DAY)
    second = ask(worker, user, "b")
    database.let_pass(5 * DAY)
    assert ask(worker, user)["held_by"] == second["id"]
    database.let_pass(2 * DAY)
    assert results([ask(worker, user)]) == ["claimed"]


def test_a_claim_that_is_held_is_told_until_when(database: Database, worker: psycopg.Connection, user: UUID) -> None:
    """The row that it is told of holds one of its subjects until the time that it is told."""
    first = ask(worker, user, "a")
    database.let_pass(3 * DAY)
    second = ask(worker, user, "b")
    outcome = ask(worker, user, "a", "b")
    ends = {
        first["id"]: datetime.fromisoformat(first["triggered_at"]) - 3 * DAY + WEEK,
        second["id"]: datetime.fromisoformat(second["triggered_at"]) + WEEK,
    }
    assert datetime.fromisoformat(outcome["ends_at"]) == ends[outcome["held_by"]]


def test_other_users_and_types_hold_no_subject(database: Database, worker: psycopg.Connection, user: UUID) -> None:
    """The same id elsewhere is another thing."""
    (other,) = database.new_users(1)
    ask(worker, user, "a")
    assert results([ask(worker, other, "a"), ask(worker, user, "a", scenario_type="welcome_back")]) == ["claimed"] * 2


@pytest.mark.parametrize(
    ("batch", "outcomes"),
    [
        ([["a"], ["a"]], ["claimed", "duplicate_in_batch"]),
        ([["a", "b"], ["b"]], ["claimed", "duplicate_in_batch"]),
        ([[], ["a"]], ["claimed", "duplicate_in_batch"]),
        ([[], []], ["claimed", "duplicate_in_batch"]),
        ([["a"], ["b"]], ["claimed", "concurrent_claim"]),
        ([["a"], ["a", "b"]], ["claimed", "concurrent_claim"]),
        ([["a"], []], ["claimed", "concurrent_claim"]),
        ([["a"], ["b"], ["a"]], ["claimed", "concurrent_claim", "duplicate_in_batch"]),
    ],
    ids=repr,
)
def test_of_one_batch_the_first_claim_is_granted(
    batch: list[list[str]], outcomes: list[str], worker: psycopg.Connection, user: UUID
) -> None:
    """The others are repetitions if it names all they do, and else have to be made again, when it is known."""
    assert results(claim(worker, [new_claim(user, subjects=subjects) for subjects in batch])) == outcomes


def test_what_a_batch_lost_is_granted_when_it_is_asked_again(worker: psycopg.Connection, user: UUID) -> None:
    """A concurrent claim says: claim again."""
    asked = [new_claim(user, subjects=["a"]), new_claim(user, subjects=["a", "b"])]
    claim(worker, asked)
    again = claim(worker, asked)
    assert results(again) == ["cooldown", "claimed"]
    assert again[1]["new_subjects"] == ["b"]


@pytest.mark.parametrize(
    "subjects",
    [[""], ["x" * 101], ["8112289874"], ["someone@example.com"], [str(number) for number in range(51)]],
    ids=["empty", "too long", "a personnummer", "an address", "too many"],
)
def test_a_subject_that_can_t_be_stored_refuses_that_claim_alone(
    subjects: list[str], database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """It is an invalid claim, and never shown; the claim beside it is granted."""
    (other,) = database.new_users(1)
    outcomes = claim(worker, [new_claim(user, subjects=subjects), new_claim(other, subjects=["fine"])])
    assert results(outcomes) == ["invalid_claim", "claimed"]


@pytest.mark.parametrize("subjects", ["a", {"a": 1}, 7, True, [7], [None], [["a"]]], ids=repr)
@pytest.mark.parametrize("shape", ["claims", "columns"])
def test_subjects_that_are_no_list_of_texts_refuse_that_claim_alone(
    subjects: object, shape: str, database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """Judged row by row, in both shapes of a request; a number in a list is read as text, as an id is."""
    (other,) = database.new_users(1)
    asked: object = [new_claim(user, subjects=subjects), new_claim(other, subjects=["a"])]
    if shape == "columns":
        alike = new_claim(user)
        del alike["user_id"]
        asked = {"user_id": [user, other], "subjects": [subjects, ["a"]], "all": alike}
    ((answer,),) = worker.execute(
        "select public.scenario_claim_notifications(%s::jsonb)", [json.dumps(asked, default=str)]
    ).fetchall()
    if subjects == [7]:
        assert answer["skipped"]["place"] == []
    else:
        assert (answer["skipped"]["place"], answer["skipped"]["reason"]) == ([1], "invalid_claim")


@pytest.mark.parametrize(
    "subjects", [[["a"], ["b"]], [["a"], ["b", "c"]], [["a"], None], [[], ["b"]], [["a", "c"], ["b", "d"]]], ids=repr
)
def test_subjects_are_read_by_columns(
    subjects: list[list[str] | None], database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """Of whatever lengths: lists of one length are no matrix."""
    (other,) = database.new_users(1)
    alike = new_claim(user)
    del alike["user_id"]
    asked = {"user_id": [user, other], "subjects": subjects, "all": alike}
    worker.execute("select public.scenario_claim_notifications(%s::jsonb)", [json.dumps(asked, default=str)])
    assert [named(worker, one) for one in (user, other)] == [[names or []] for names in subjects]


def test_metadata_that_is_a_matrix_is_refused_row_by_row(database: Database, worker: psycopg.Connection) -> None:
    """By columns, lists of one length are no matrix either; they are no objects."""
    users = database.new_users(3)
    alike = new_claim(users[0])
    del alike["user_id"]
    asked = {"user_id": users, "metadata": [[1], [2], [3]], "all": alike}
    ((answer,),) = worker.execute(
        "select public.scenario_claim_notifications(%s::jsonb)", [json.dumps(asked, default=str)]
    ).fetchall()
    assert sorted(answer["skipped"]["place"]) == [1, 2, 3]
    assert answer["skipped"]["reason"] == "invalid_metadata"


def test_a_milestone_is_once_ever_whatever_it_names(worker: psycopg.Connection, user: UUID) -> None:
    """Its value is what it is about."""
    outcomes = [claim(worker, [new_milestone(user, 10, subjects=names)])[0] for names in ([], ["a"], ["b"])]
    assert results(outcomes) == ["claimed", "milestone_reached", "milestone_reached"]


def test_a_failure_and_a_suppression_hold_their_subjects_alone(
    database: Database, worker: psycopg.Connection, user: UUID
) -> None:
    """What was not told about one certificate says nothing about another."""
    ask(worker, user, "a")
    deliver(worker, "failed", "invalid_token")
    assert ask(worker, user, "b")["new_subjects"] == ["b"]
    deliver(worker, "suppressed")
    assert results([ask(worker, user, "a"), ask(worker, user, "b")]) == ["cooldown"] * 2
    assert ask(worker, user, "a", "b", "c")["new_subjects"] == ["c"]
    deliver(worker, "failed", "no_device")
    database.let_pass(6 * DAY)
    assert ask(worker, user, "a", "b")["new_subjects"] == ["a"]


def test_a_second_certificate_is_told_when_it_comes(database: Database, worker: psycopg.Connection) -> None:
    """Case 2.1: A was told on day 0; B comes on day 1 and is told that day; then both go in one rhythm."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    (first,) = certify(worker, mentor, "29 days")
    days = []
    (second,) = (None,)
    for day in range(30):
        if day == 1:
            (second,) = certify(worker, mentor, "10 days")
        if evaluate(worker, "certification_expiry")["claimed"]:
            days.append((day, named(worker, mentor)[-1], facts(worker, mentor)["new_subjects"]))
            deliver(worker)
        database.let_pass(DAY)
    both = sorted([first, str(second)])
    assert days == [(0, [first], [first]), (1, both, [str(second)]), (15, [first], [first])]


def test_certificates_of_one_kind_are_one_subject(database: Database, worker: psycopg.Connection) -> None:
    """The kind is what she is told about; the facts list the certificates."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    (certificate,) = certify(worker, mentor, "5 days", kind="first_aid")
    evaluate(worker, "certification_expiry")
    assert named(worker, mentor) == [["first_aid"]]
    told = facts(worker, mentor)
    assert (told["certificate_ids"], told["new_subjects"]) == ([certificate], ["first_aid"])


@pytest.mark.parametrize(("kind", "claimed"), [("first_aid", 0), (None, 1)])
def test_a_renewed_certificate_is_not_told(
    kind: str | None, claimed: int, database: Database, worker: psycopg.Connection
) -> None:
    """Case 2.2: the later one of the same kind replaces it; without a kind nothing says so."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    certify(worker, mentor, "10 days", "730 days", kind=kind)
    assert evaluate(worker, "certification_expiry")["claimed"] == claimed


def test_a_renewal_is_of_the_same_kind_organization_and_user(database: Database, worker: psycopg.Connection) -> None:
    """A later certificate of anything else replaces nothing."""
    mentor, other = database.new_mentors(2, ORGANIZATION)
    insert_mentors(worker, [mentor], organization_id=OTHER_ORGANIZATION)
    certify(worker, mentor, "10 days", kind="first_aid")
    certify(worker, mentor, "730 days", kind="driving")
    certify(worker, mentor, "730 days", kind="first_aid", organization_id=OTHER_ORGANIZATION)
    certify(worker, other, "730 days", kind="first_aid")
    assert evaluate(worker, "certification_expiry")["claimed"] == 1


@pytest.mark.parametrize("odd", ["8112289874", "811228-9874", "+47 912 34 567", "x" * 80, ""])
@pytest.mark.parametrize("where", ["kind", "id"])
def test_an_id_that_looks_like_personal_data_is_told_as_its_md5(
    odd: str, where: str, database: Database, worker: psycopg.Connection
) -> None:
    """Case 5.7: in the form of a UUID, in subjects and facts; each day the same, so that it is told once."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    with database.connect(role=None) as owner:
        owner.execute(
            "create or replace view scenario_source.certificates with (security_invoker = true) as"
            " select case when kind = '-' then %s else id::text end as certificate_id, user_id, organization_id,"
            " nullif(kind, '-') as kind, expires_at from public.certifications".replace("%s", f"'{odd}'").encode()
        )
    insert_certificates(worker, [mentor], ahead("5 days"), kind=odd if where == "kind" else "-")
    expected = str(worker.execute("select md5(%s)::uuid", [odd]).fetchall()[0][0])
    assert evaluate(worker, "certification_expiry")["claimed"] == 1
    assert named(worker, mentor) == [[expected]]
    told = facts(worker, mentor)
    assert told["new_subjects"] == [expected]
    assert where == "kind" or told["certificate_ids"] == [expected]
    assert evaluate(worker, "certification_expiry")["skipped"] == {"cooldown": 1}


@pytest.mark.parametrize("first", [ORGANIZATION, OTHER_ORGANIZATION])
def test_two_organizations_tell_their_own_certificates(
    first: UUID, database: Database, worker: psycopg.Connection
) -> None:
    """Each tells of its own and of no other; the one that comes later tells what is not held."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    insert_mentors(worker, [mentor], organization_id=OTHER_ORGANIZATION)
    second = OTHER_ORGANIZATION if first == ORGANIZATION else ORGANIZATION
    (a,) = certify(worker, mentor, "5 days", organization_id=first)
    assert evaluate(worker, "certification_expiry")["claimed"] == 1
    (b,) = certify(worker, mentor, "6 days", organization_id=second)
    assert evaluate(worker, "certification_expiry")["claimed"] == 1
    assert evaluate(worker, "certification_expiry")["claimed"] == 0
    query = "select organization_id, subjects from public.scenario_notifications order by triggered_at"
    assert worker.execute(query).fetchall() == [(first, [a]), (second, [b])]


def test_of_two_organizations_at_once_both_are_told(database: Database, worker: psycopg.Connection) -> None:
    """One in this pass, the other in the next; none is left out for a cooldown that is another certificate's."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    insert_mentors(worker, [mentor], organization_id=OTHER_ORGANIZATION)
    certificates = {
        certify(worker, mentor, "5 days", organization_id=organization)[0]
        for organization in (ORGANIZATION, OTHER_ORGANIZATION)
    }
    pages = [evaluate(worker, "certification_expiry") for _ in range(3)]
    assert [page["claimed"] for page in pages] == [1, 1, 0]
    assert {subject for names in named(worker, mentor) for subject in names} == certificates


def test_the_evaluation_says_what_is_new_of_an_own_type(database: Database, worker: psycopg.Connection) -> None:
    """An app's rule names its subjects, and the engine does the rest."""
    mentor = Mentor(database, worker, OWN)
    worker.execute("delete from public.errands")
    pages = []
    for errand in "shopping", "walk", None:
        worker.execute("insert into public.errands values (%s, %s)", [mentor.user, errand])
        pages.append((mentor.evaluate(dry_run=True)["claimed"], mentor.evaluate()["claimed"]))
    assert pages == [(1, 1), (1, 1), (0, 0)]
    rows = mentor.rows()
    assert [row["subjects"] for row in rows] == [["shopping", "walk"], ["shopping"]]
    assert [row["metadata"]["new_subjects"] for row in rows] == [["walk"], ["shopping"]]
    assert mentor.explain()["reason"] == "cooldown"


def test_an_explanation_judges_the_subjects(database: Database, worker: psycopg.Connection) -> None:
    """She is due while one of them is not held."""
    mentor = Mentor(database, worker, OWN)
    worker.execute("delete from public.errands")
    worker.execute("insert into public.errands values (%s, 'walk')", [mentor.user])
    mentor.be_claimed()
    held = mentor.explain()
    assert (held["is_due"], held["reason"], held["held_by"]) == (False, "cooldown", str(mentor.row()["id"]))
    worker.execute("insert into public.errands values (%s, 'shopping')", [mentor.user])
    assert mentor.explain()["is_due"] is True


def test_evaluation_and_claim_hold_each_other_s_subjects(database: Database, worker: psycopg.Connection) -> None:
    """Whoever comes second is told of the first."""
    mentor = Mentor(database, worker, "certification_expiry")
    row = mentor.be_claimed()
    assert mentor.claim("first_aid")["held_by"] == str(row["id"])
    assert mentor.claim("driving")["new_subjects"] == ["driving"]
    certify(worker, mentor.user, "3 days", kind="driving")
    assert mentor.evaluate()["skipped"] == {"cooldown": 1}
    certify(worker, mentor.user, "3 days", kind="swimming")
    mentor.be_claimed()
    assert mentor.row()["metadata"]["new_subjects"] == ["swimming"]
