"""Evaluation over random populations: a dry run, a run, a repetition and explain never contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.integration.database import Database
from tests.integration.evaluation import KINDS, act, certify, configure, empty, evaluate, reused_database
from tests.integration.forgotten_places import SCHEMAS, findings_of
from tests.postgres.server import PostgresServer
from tests.rows import ago, insert_mentors, insert_notification

_ORGANIZATIONS = (UUID(int=1), UUID(int=2), UUID(int=3))
_FINDINGS = {kind: findings_of((SCHEMAS / "rules" / f"{kind}.sql").read_text()) for kind in KINDS}


_BEFORE_A_FINDING = {"mentor_not_active", "scenario_disabled", "cooldown", "history", "reminders_spent"}
_BOTH = {UUID(int=1): True, UUID(int=2): True}


@dataclass(frozen=True)
class Mentor:
    """What a mentor is, did and was told."""

    memberships: Mapping[UUID, bool]
    active_days_ago: tuple[int, ...]
    certificates: tuple[int, ...]
    told: tuple[tuple[str, int, str], ...]


_MENTORS = st.builds(
    Mentor,
    memberships=st.dictionaries(st.sampled_from(_ORGANIZATIONS), st.sampled_from([True, True, False]), min_size=1),
    active_days_ago=st.lists(st.sampled_from([-1, 0, 3, 6, 8, 29, 31, 45, 90]), max_size=14).map(tuple),
    certificates=st.lists(st.sampled_from([-5, 1, 20, 29, 31, 90]), max_size=3).map(tuple),
    told=st.lists(
        st.tuples(
            st.sampled_from(KINDS), st.sampled_from([1, 10, 16, 35, 80]), st.sampled_from(["pending", "sent", "failed"])
        ),
        max_size=3,
        unique_by=lambda one: one[0],
    ).map(tuple),
)
_OVERRIDES = st.lists(
    st.tuples(
        st.sampled_from(
            [
                ("inactivity", "is_enabled", False),
                ("inactivity", "inactive_after", "40 days"),
                ("inactivity", "cooldown", "12 days"),
                ("welcome_back", "inactive_after", "5 days"),
                ("welcome_back", "returned_within", "2 days"),
                ("certification_expiry", "expires_within", "60 days"),
                ("certification_expiry", "cooldown", "40 days"),
                ("milestone", "milestones", [3, 5]),
                ("milestone", "milestones", [2, 12]),
                ("milestone", "is_enabled", False),
            ]
        ),
        st.sampled_from(_ORGANIZATIONS),
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer, migrated: str) -> Iterator[Database]:
    """Keep one database for all populations."""
    with reused_database(postgres_server, "evaluation_properties", migrated) as database:
        yield database


def populate(database: Database, worker: psycopg.Connection, mentors: list[Mentor]) -> list[UUID]:
    """Create the mentors, and return their ids."""
    ids = database.new_users(len(mentors))
    for user_id, mentor in zip(ids, mentors, strict=True):
        for organization_id, is_active in mentor.memberships.items():
            insert_mentors(worker, [user_id], organization_id=organization_id, is_active=is_active)
        act(worker, user_id, *(f"{days} days" for days in mentor.active_days_ago))
        certify(worker, user_id, *(f"{days} days" for days in mentor.certificates))
        for kind, days, status in mentor.told:
            insert_notification(
                worker,
                user_id,
                organization_id=_ORGANIZATIONS[0],
                scenario_type=kind,
                triggered_at=ago(timedelta(days=days)),
                delivery_status=status,
                milestone_value=5 if kind == "milestone" else None,
            )
    return ids


def explanations(worker: psycopg.Connection, user_id: UUID) -> list[dict[str, Any]]:
    """Explain everything about a user."""
    row = worker.execute("select public.scenario_explain(%s)", [user_id]).fetchone()
    assert row is not None
    verdicts: list[dict[str, Any]] = row[0]["explanations"]
    return verdicts


def counts(page: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out where the next page starts."""
    return {name: page[name] for name in ("evaluated", "due", "claimed", "history", "skipped")}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mentors=st.lists(_MENTORS, min_size=1, max_size=8),
    overrides=_OVERRIDES,
    organization_id=st.sampled_from([None, None, *_ORGANIZATIONS]),
)
@example(  # two lists of milestones for one mentor
    mentors=[Mentor(_BOTH, (1,) * 5, (), ())],
    overrides=[(("milestone", "milestones", [3, 5]), UUID(int=2)), (("milestone", "milestones", [2, 12]), UUID(int=1))],
    organization_id=None,
)
@example(  # two cooldowns, of which one is over
    mentors=[Mentor(_BOTH, (90,), (), (("inactivity", 16, "sent"),))],
    overrides=[(("inactivity", "cooldown", "12 days"), UUID(int=2))],
    organization_id=None,
)
def test_what_is_foretold_and_explained_is_what_happens(
    database: Database,
    mentors: list[Mentor],
    overrides: list[tuple[tuple[str, str, object], UUID]],
    organization_id: UUID | None,
) -> None:
    """A dry run has the numbers of the run after it; it claims for whom explain calls due, and never twice.

    The reason is one of the rule's own, unless the mentor, the settings or the cooldown come first.
    """
    try:
        with database.connect() as worker:
            for (kind, setting, value), owner in overrides:
                configure(worker, kind, setting, value, owner)
            ids = populate(database, worker, mentors)
            before = {user_id: explanations(worker, user_id) for user_id in ids}
            for kind in KINDS:
                expected = set()
                for user_id, verdicts in before.items():
                    for verdict in verdicts:
                        if verdict["scenario_type"] != kind:
                            continue
                        assert verdict["reason"] in _FINDINGS[kind] | _BEFORE_A_FINDING
                        if verdict["is_due"] and organization_id in {None, UUID(verdict["organization_id"])}:
                            expected.add(user_id)
                planned = counts(evaluate(worker, kind, organization_id, dry_run=True))
                done = counts(evaluate(worker, kind, organization_id))
                assert planned == done
                assert done["due"] == done["claimed"] + sum(done["skipped"].values())
                claimed = worker.execute(
                    "select user_id from public.scenario_notifications"
                    " where scenario_type = %s and triggered_at > now() - interval '1 hour'",
                    [kind],
                ).fetchall()
                assert sorted(row[0] for row in claimed) == sorted(expected)
                assert done["claimed"] == len(expected)
                assert evaluate(worker, kind, organization_id)["claimed"] == 0
    finally:
        empty(database)


def test_every_reason_is_given_for_what_it_says(database: Database) -> None:
    """One population brings out every reason that explain knows."""
    with database.connect() as worker:
        everything = (1, *range(31, 60))
        population = [
            Mentor({_ORGANIZATIONS[0]: True}, (), (), ()),
            Mentor({_ORGANIZATIONS[0]: True}, everything, (5,), ()),
            Mentor({_ORGANIZATIONS[0]: True}, (45,), (), ()),
            Mentor({_ORGANIZATIONS[0]: True}, (1,), (), ()),
            Mentor({_ORGANIZATIONS[0]: True}, (1, 8), (), ()),
            Mentor({_ORGANIZATIONS[0]: True}, (80,) * 12, (), (("inactivity", 3, "sent"),)),
            Mentor({_ORGANIZATIONS[1]: False}, (), (), ()),
            Mentor({_ORGANIZATIONS[2]: True}, (), (), ()),
            Mentor({_ORGANIZATIONS[0]: True}, (2,) * 10, (), ()),
            Mentor({_ORGANIZATIONS[0]: True}, (90,), (), ()),
            Mentor(
                {_ORGANIZATIONS[0]: True}, (150,), (), tuple(("inactivity", days, "sent") for days in (40, 75, 110))
            ),
        ]
        ids = populate(database, worker, population)
        configure(worker, "inactivity", "is_enabled", value=False, organization_id=_ORGANIZATIONS[2])
        milestone = {"scenario_type": "milestone", "milestone_value": 10}
        insert_notification(worker, ids[5], organization_id=_ORGANIZATIONS[0], **milestone)
        verdicts = [verdict for user_id in ids for verdict in explanations(worker, user_id)]
        known = set.union(*_FINDINGS.values(), _BEFORE_A_FINDING)
        assert {verdict["reason"] for verdict in verdicts} == known
        (held,) = (one for one in explanations(worker, ids[5]) if one["scenario_type"] == "milestone")
        assert (held["reason"], held["milestone_value"]) == ("no_new_milestone", 10)
        assert held["held_by"] is not None
        assert explanations(worker, UUID(int=99)) == []
    empty(database)
