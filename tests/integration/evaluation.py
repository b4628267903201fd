"""What the tests of evaluation share: one database for a module, emptied after each test; its functions; its tables.

Emptying costs less than a clone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg

from scenario_repo import ScenarioType
from tests.integration.database import Database
from tests.postgres.server import PostgresServer
from tests.rows import ORGANIZATION, insert_activities, insert_certificates
from tests.rows import ago as moment_ago
from tests.rows import ahead as moment_ahead

OTHER_ORGANIZATION = UUID(int=2)
KINDS: tuple[str, ...] = tuple(ScenarioType)


@contextmanager
def reused_database(server: PostgresServer, name: str, template: str) -> Iterator[Database]:
    """Clone a migrated database, and remember its settings."""
    database = Database(server.create_database(name, template=template))
    try:
        with database.connect(role=None) as owner:
            owner.execute("create table scenario_private.first_config as table public.scenario_evaluation_config")
        yield database
    finally:
        server.drop_database(name)


def empty(database: Database) -> None:
    """Delete every user, and everything of theirs with them; put settings and policies back as they were."""
    with database.connect(role=None) as owner, owner.transaction():
        owner.execute("delete from auth.users")
        owner.execute("delete from public.scenario_delivery_policy")
        owner.execute("delete from public.scenario_days_off")
        owner.execute("delete from public.scenario_evaluation_config")
        owner.execute("insert into public.scenario_evaluation_config table scenario_private.first_config")


def evaluate(  # noqa: PLR0913 - the function's own arguments
    worker: psycopg.Connection,
    kind: str,
    organization_id: UUID | None = None,
    after: UUID | str | None = None,
    limit: int | None = 10_000,
    *,
    dry_run: bool = False,
    due_within: timedelta | None = None,
    list_due: bool | None = False,
) -> dict[str, Any]:
    """Evaluate one page, the first one unless told otherwise."""
    row = worker.execute(
        "select public.scenario_evaluate(%s, %s, %s, %s, %s, %s, %s)",
        [kind, organization_id, after, limit, dry_run, due_within and due_within.total_seconds(), list_due],
    ).fetchone()
    assert row is not None
    page: dict[str, Any] = row[0]
    return page


def next_page(
    worker: psycopg.Connection, limit: int = 10_000, organization_id: UUID | None = None, kind: str = "inactivity"
) -> dict[str, Any]:
    """Evaluate the next page of the pass under way, and claim for whoever is due."""
    row = worker.execute(
        "select public.scenario_evaluate_next_page(%s, %s, %s)", [kind, organization_id, limit]
    ).fetchone()
    assert row is not None
    page: dict[str, Any] = row[0]
    return page


def explain(
    worker: psycopg.Connection, user_id: UUID, kind: str, organization_id: UUID = ORGANIZATION
) -> dict[str, Any]:
    """Explain one scenario in one organization."""
    row = worker.execute("select public.scenario_explain(%s)", [user_id]).fetchone()
    assert row is not None
    (verdict,) = (
        verdict
        for verdict in row[0]["explanations"]
        if verdict["scenario_type"] == kind and verdict["organization_id"] == str(organization_id)
    )
    return dict(verdict)


def act(worker: psycopg.Connection, user_id: UUID, *ago: str) -> None:
    """Record activities, each that long before now()."""
    if ago:
        insert_activities(worker, [user_id], *map(moment_ago, ago), organization_id=uuid4())


def certify(
    worker: psycopg.Connection,
    user_id: UUID,
    *ahead: str,
    organization_id: UUID = ORGANIZATION,
    kind: str | None = None,
) -> list[str]:
    """Record certificates of one kind that lapse that long after now(), and return their ids."""
    if not ahead:
        return []
    expiries = map(moment_ahead, ahead)
    ids = insert_certificates(worker, [user_id], *expiries, organization_id=organization_id, kind=kind)
    return [str(certificate) for certificate in ids]


def configure(
    worker: psycopg.Connection, kind: str, setting: str, value: object, organization_id: UUID | None = None
) -> None:
    """Change one setting: a default, or an organization's own."""
    worker.execute(
        f"insert into public.scenario_evaluation_config as config (scenario_type, organization_id, {setting})"  # noqa: S608
        " values (%s, %s, %s) on conflict (scenario_type, organization_id)"
        f" do update set {setting} = excluded.{setting}"
        if organization_id is not None
        else f"update public.scenario_evaluation_config set {setting} = %s"  # noqa: S608
        " where scenario_type = %s and organization_id is null",
        [kind, organization_id, value] if organization_id is not None else [value, kind],
    )


def held(worker: psycopg.Connection, user_id: UUID) -> list[tuple[str, int | None, UUID]]:
    """Read whom the user was notified for, of what, in the order of type and value."""
    return worker.execute(
        "select scenario_type, milestone_value, organization_id from public.scenario_notifications"
        " where user_id = %s order by scenario_type, milestone_value",
        [user_id],
    ).fetchall()
