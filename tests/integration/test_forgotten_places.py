"""Nothing that must be touched together was forgotten; and whoever forgets a place is told which."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from scenario_repo import ScenarioType
from tests.integration import forgotten_places
from tests.integration.database import Database, claim, new_claim
from tests.integration.forgotten_places import HOLDS, TRANSITIONS
from tests.rows import insert_notification


@pytest.fixture
def owner(database: Database) -> Iterator[psycopg.Connection]:
    """Connect as the owner of the tables, in a transaction that is rolled back."""
    with database.connect(role=None) as connection, connection.transaction(force_rollback=True):
        yield connection


def test_no_place_is_forgotten(owner: psycopg.Connection) -> None:
    """Types, statuses, columns, SQLSTATEs and words agree wherever they stand."""
    live, sources = forgotten_places.functions_and_views(owner), forgotten_places.schema_sources()
    snippets = {name: text for name, text in sources.items() if name.startswith("snippets/")}
    assert forgotten_places.scenario_types(owner, live | snippets) == []
    assert forgotten_places.statuses(owner, live) == []
    assert forgotten_places.columns(owner) == []
    assert forgotten_places.times(owner) == []
    assert forgotten_places.codes(sources) == []
    assert forgotten_places.words(sources) == []


@pytest.mark.parametrize("status", HOLDS)
def test_a_status_holds_as_said(status: str, database: Database, worker: psycopg.Connection) -> None:
    """A notification of the status refuses a later claim, or does not."""
    (user,) = database.new_users(1)
    insert_notification(worker, user, delivery_status=status)
    (outcome,) = claim(worker, [new_claim(user)])
    assert ("skip_reason" in outcome) is HOLDS[status]


def test_a_status_changes_as_said(database: Database, worker: psycopg.Connection) -> None:
    """From every status to every other: allowed if it is listed, else refused."""
    (user,) = database.new_users(1)
    for before in HOLDS:
        for after in HOLDS:
            row = insert_notification(worker, user, delivery_status=before)
            change = "update public.scenario_notifications set delivery_status = %s where id = %s"
            if before == after or (before, after) in TRANSITIONS:
                worker.execute(change, [after, row["id"]])
            else:
                with pytest.raises(psycopg.Error, match="history is final"):
                    worker.execute(change, [after, row["id"]])


def test_a_forgotten_scenario_type_is_named(owner: psycopg.Connection) -> None:
    """A fifth type in one CHECK alone: the other CHECK, the enum, the rule and the default row are asked for."""
    owner.execute("select scenario_private.add_scenario_type('birthday')")
    found = forgotten_places.scenario_types(owner, forgotten_places.functions_and_views(owner))
    assert found == [
        "scenario_repo.ScenarioType lacks birthday",
        "supabase/schemas/rules lacks birthday",
        "the default rows of public.scenario_evaluation_config lacks birthday",
        "the views scenario_private.…_rule lacks birthday",
    ]
    table = "public.scenario_evaluation_config"
    name = "scenario_evaluation_config_scenario_type_is_known"
    listed = ", ".join(f"'{kind}'" for kind in ScenarioType)
    check = f"add constraint {name} check (scenario_type in ({listed}))"
    owner.execute(f"alter table {table} drop constraint {name}, {check}".encode())
    assert f"the CHECK of {table} lacks birthday" in forgotten_places.scenario_types(owner, {})


def test_a_list_of_scenario_types_in_a_function_is_named(owner: psycopg.Connection) -> None:
    """A function that names two types names them all, or it is said what it lacks."""
    owner.execute(
        "create function public.scenario_partial(p_type text) returns boolean language sql immutable"
        " return p_type in ('inactivity', 'welcome_back')"
    )
    owner.execute(
        "create function public.scenario_partial_plpgsql(p_type text) returns boolean language plpgsql"
        " as $$ begin return p_type in ('inactivity', 'welcome_back'); end $$"
    )
    found = forgotten_places.scenario_types(owner, forgotten_places.functions_and_views(owner))
    assert found == [
        f"public.scenario_partial_plpgsql names a scenario type of several, and lacks {kind}"
        for kind in ScenarioType
        if kind not in {"inactivity", "welcome_back"}
    ]


def test_a_forgotten_delivery_status_is_named(owner: psycopg.Connection) -> None:
    """A fourth status: the enum, the view of what holds and the transitions are asked for; until then it can't move."""
    name = "scenario_notifications_delivery_status_is_known"
    owner.execute(
        f"alter table public.scenario_notifications drop constraint {name},"
        f" add constraint {name} check (delivery_status in ('pending', 'sent', 'failed', 'opened'))"
    )
    found = forgotten_places.statuses(owner, forgotten_places.functions_and_views(owner))
    assert [sentence.split(" (")[0].removesuffix(" lacks opened") for sentence in found][:3] == [
        "scenario_repo.DeliveryStatus",
        "the view scenario_private.hold",
        "the trigger scenario_notifications_settled_is_final",
    ]
    assert all(sentence.endswith("lacks opened") for sentence in found)


def test_a_forgotten_column_is_named(owner: psycopg.Connection) -> None:
    """A column with a default: history, the model, and the claim's way in and out are asked for."""
    owner.execute("alter table public.scenario_notifications add column opened_at timestamptz default now()")
    history = "scenario_notifications_past_is_fixed and scenario_notifications_outcome_is_fixed"
    assert forgotten_places.columns(owner) == [
        f"{place} lacks opened_at"
        for place in (
            f"the triggers {history}",
            f"the comparisons of the triggers {history}",
            "scenario_repo.ScenarioNotification",
            "the outcome of a claim in scenario_repo/_claims.py",
            "scenario_private.claim_once (inserted)",
            "scenario_private.claim_once (inserted_with_care)",
        )
    ]


def test_a_forgotten_time_is_named(owner: psycopg.Connection) -> None:
    """A new moment moves by itself when tests let time pass; a time of another kind is asked for."""
    owner.execute("alter table scenario_private.handover add column seen_at timestamptz, add column note text")
    assert forgotten_places.times(owner) == []
    owner.execute("alter table scenario_private.handover add column seen_on date, add column away tstzrange[]")
    owner.execute("alter table public.scenario_mutes add column during tstzrange")
    assert forgotten_places.times(owner) == [
        f"scenario_repo.testing.travel leaves {place}"
        for place in (
            "during of public.scenario_mutes",
            "seen_on of scenario_private.handover",
            "away of scenario_private.handover",
        )
    ]


def test_a_column_of_a_claim_is_named_that_one_way_forgets(owner: psycopg.Connection) -> None:
    """With care and without, a claim inserts the same columns."""
    ((claim_once,),) = owner.execute(
        "select pg_get_functiondef(oid) from pg_proc where proname = 'claim_once'"
    ).fetchall()
    first, insert, rest = claim_once.partition("inserted_with_care as (")
    forgetful = rest.replace("subjects, deliver_until", "deliver_until", 1)
    assert forgetful != rest
    owner.execute(f"set local check_function_bodies = off; {first}{insert}{forgetful}".encode())
    assert forgotten_places.columns(owner) == ["scenario_private.claim_once (inserted_with_care) lacks subjects"]


def test_a_forgotten_code_is_named() -> None:
    """A SQLSTATE that is raised and nowhere else known; and one that is known and not raised."""
    sources = forgotten_places.schema_sources()
    sources["12_evaluation.sql"] += "raise exception using errcode = 'SR042', message = 'no';"
    assert forgotten_places.codes(sources) == [
        "scenario_repo/_translation.py lacks SR042",
        "02_versions_and_refusals.sql lacks SR042",
    ]
    sources = {name: text.replace("errcode = 'SR002'", "") for name, text in forgotten_places.schema_sources().items()}
    assert forgotten_places.codes(sources) == [
        "scenario_repo/_translation.py has SR002, which nothing raises",
        "02_versions_and_refusals.sql has SR002, which nothing raises",
    ]


_WORDS = {
    "a finding": (
        ("rules/inactivity.sql", "'never_active'", "'not_seen'"),
        ["scenario_repo/_cli/findings.py has no words for not_seen"],
    ),
    "a verdict": (
        ("12_evaluation.sql", "then ''history''", "then ''long_ago''"),
        ["scenario_repo/_cli/findings.py has no words for long_ago"],
    ),
    "a reason of a claim": (
        ("10_claim.sql", "then 'unknown_user'", "then 'nobody'"),
        ["scenario_repo.SkipReason lacks nobody", "scenario_repo.SkipReason has unknown_user, which SQL lacks"],
    ),
    "a reason of an evaluation": (
        ("12_evaluation.sql", "array_fill('reminders_spent'", "array_fill('told_enough'"),
        ["scenario_repo.SkipReason lacks told_enough", "scenario_repo.SkipReason has reminders_spent, which SQL lacks"],
    ),
    "an answer": (
        ("16_settlement.sql", "then 'lease_lost'", "then 'taken_over'"),
        [
            "scenario_repo.SettlementAnswer lacks taken_over",
            "scenario_repo.SettlementAnswer has lease_lost, which SQL lacks",
        ],
    ),
    "a result": (
        ("16_settlement.sql", "'suppressed', 'released')", "'suppressed', 'released', 'opened')"),
        ["scenario_repo.DeliveryResult lacks opened"],
    ),
    "a result that SQL does not know": (
        ("16_settlement.sql", "'suppressed', 'released')", "'suppressed')"),
        ["scenario_repo.DeliveryResult has released, which SQL lacks"],
    ),
    "a failure with a hold of its own": (
        ("10_books.sql", "('cancelled', 'suppressed')", "('cancelled', 'suppressed', 'postponed')"),
        ["scenario_repo.FailureReason lacks postponed"],
    ),
    "a failure without one": (
        ("10_books.sql", "('cancelled', 'suppressed')", "('suppressed')"),
        ["scenario_repo.FailureReason has cancelled, which SQL lacks"],
    ),
    "a refusal at the lease": (
        ("16_lease.sql", "then 'expired'", "then 'too_late'"),
        ["scenario_private.hold_of_failure lacks too_late, with which a lease is refused"],
    ),
}


@pytest.mark.parametrize("name", _WORDS)
def test_a_word_that_one_side_lacks_is_named(name: str) -> None:
    """What a rule finds, why a claim is skipped or a row fails, what is settled and what that says: both sides know."""
    (file, word, other), expected = _WORDS[name]
    sources = forgotten_places.schema_sources()
    assert word in sources[file]
    sources[file] = sources[file].replace(word, other)
    assert forgotten_places.words(sources) == expected
