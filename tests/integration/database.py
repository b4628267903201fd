"""A migrated database, and what tests do with it in plain SQL."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection, sql

from scenario_repo.testing import travel
from scenario_repo.testing.time_travel import shift
from tests.postgres.server import SUPERUSER
from tests.rows import ago as moment_ago
from tests.rows import insert_activities, insert_mentors, insert_users


class Database:
    """The address of a migrated database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def connect(self, role: str | None = "service_role") -> psycopg.Connection:
        """Connect as a role of the API (None: as the owner, postgres), in autocommit."""
        return psycopg.connect(self.url, autocommit=True, options=f"-c role={role}" if role else "")

    async def connect_async(self, role: str | None = "service_role") -> AsyncConnection:
        """Connect as :meth:`connect` does, without blocking."""
        return await AsyncConnection.connect(self.url, autocommit=True, options=f"-c role={role}" if role else "")

    def run(self, statements: str) -> None:
        """Run statements as `postgres`, the owner, in one transaction: what a migration of the app's own does."""
        with self.connect(role=None) as owner, owner.transaction():
            owner.execute(sql.Composed([sql.SQL(statements)]))

    def new_users(self, number: int) -> list[UUID]:
        """Create users, and return their ids."""
        ids = [uuid4() for _ in range(number)]
        with self.connect(role=None) as owner:
            insert_users(owner, ids)
        return ids

    def new_mentors(self, number: int, organization_id: UUID, *, is_active: bool = True) -> list[UUID]:
        """Create users who are mentors of one organization, and return their ids."""
        ids = self.new_users(number)
        with self.connect() as worker:
            insert_mentors(worker, ids, organization_id=organization_id, is_active=is_active)
        return ids

    def add_activities(self, user_id: UUID, *ago: timedelta) -> None:
        """Record activities of a user that long before the database's now()."""
        with self.connect() as worker:
            insert_activities(worker, [user_id], *map(moment_ago, ago), organization_id=uuid4())

    def replica(self) -> psycopg.Connection:
        """Connect, in autocommit, where no ordinary trigger fires."""
        settings = "-c session_replication_role=replica"
        return psycopg.connect(self.url, user=SUPERUSER, autocommit=True, options=settings)

    @cached_property
    def _traveller(self) -> psycopg.Connection:
        """Keep one connection for all journeys: a month has many."""
        connection = self.replica()
        weakref.finalize(self, connection.close)
        return connection

    def let_pass(self, time: timedelta) -> None:
        """Let time pass; a negative time takes a journey back."""
        go = travel if time >= timedelta(0) else shift
        go(self._traveller, time)


def claim(
    worker: psycopg.Connection, claims: Iterable[Mapping[str, object]], lease_seconds: float | None = None
) -> list[dict[str, Any]]:
    """Call the claim function with plain json, and return its outcomes, one for each claim.

    A claimed one has the columns of its row that the caller didn't give, and new_subjects; with a lease it is the row
    as it was leased. Any other has skip_reason, held_by and ends_at.
    """
    given = list(claims)
    row = worker.execute(
        "select public.scenario_claim_notifications(%s::jsonb, %s)", [json.dumps(given, default=str), lease_seconds]
    ).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return outcomes_of(answer, given)


def outcomes_of(answer: Mapping[str, Any], claims: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
    """Make the outcomes of what the claim function answers, which has the exceptions by columns."""
    outcomes: list[dict[str, Any]] = [
        {
            "id": str(UUID(f"{answer['id_prefix']}{place:05x}")),
            "triggered_at": answer["triggered_at"],
            "cooldown_window_start": None if claim.get("scenario_type") == "milestone" else "1970-01-01T00:00:00+00:00",
            "deliver_until": answer["deliver_until"],
            "new_subjects": sorted(set(claim.get("subjects") or [])),  # type: ignore[call-overload]
        }
        for place, claim in enumerate(claims, 1)
    ]
    for exceptions in ("following", "partly", "deliver"):
        columns = dict(answer[exceptions])
        for at, place in enumerate(columns.pop("place")):
            outcomes[place - 1] |= {name: _at(values, at) for name, values in columns.items()}
    skipped = answer["skipped"]
    for at, place in enumerate(skipped["place"]):
        outcomes[place - 1] = {
            "skip_reason": _at(skipped["reason"], at),
            "held_by": skipped["held_by"][at],
            "ends_at": _at(skipped["ends_at"], at),
        }
    if answer["leased"] is not None:
        for place, taken in zip(*answer["taken_over"].values(), strict=True):
            outcomes[place - 1] = {"id": taken}
        leased = {row["id"]: row for row in answer["leased"]}
        outcomes = [outcome | leased.get(outcome.get("id"), {}) for outcome in outcomes]
    return outcomes


def _at(column: object, place: int) -> object:
    """Read a column of an answer, which has one value for all where all have the same."""
    return column[place] if isinstance(column, list) else column


def results(outcomes: Iterable[dict[str, Any]]) -> list[str]:
    """Say what became of each claim: ``claimed``, or why it was skipped."""
    return ["claimed" if "id" in outcome else outcome["skip_reason"] for outcome in outcomes]


def now(connection: psycopg.Connection) -> datetime:
    """Return the time of the transaction, at which a claim in it is made."""
    row = connection.execute("select now()").fetchone()
    assert row is not None
    time: datetime = row[0]
    return time


def new_claim(user_id: UUID, **overrides: object) -> dict[str, object]:
    """Make the json of a claim; inactivity with a cooldown of seven days unless told otherwise."""
    return {
        "user_id": user_id,
        "organization_id": UUID(int=1),
        "scenario_type": "inactivity",
        "cooldown_seconds": timedelta(days=7).total_seconds(),
    } | overrides


def new_milestone(user_id: UUID, value: int, **overrides: object) -> dict[str, object]:
    """Make the json of a claim of a milestone, which is once ever."""
    milestone = {"scenario_type": "milestone", "milestone_value": value, "cooldown_seconds": None}
    return new_claim(user_id, **milestone | overrides)
