"""Leases and settlements in plain json, for the tests of delivery."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg


def lease(
    worker: psycopg.Connection,
    limit: int | None = 1000,
    seconds: float | None = 60,
    organization_id: UUID | None = None,
    scenario_types: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Lease what is due, and return the rows."""
    row = worker.execute(
        "select public.scenario_lease_notifications(%s, %s, %s, %s)",
        [limit, seconds, organization_id, None if scenario_types is None else list(scenario_types)],
    ).fetchone()
    assert row is not None
    leased: list[dict[str, Any]] = row[0]["leased"]
    return leased


def answer(worker: psycopg.Connection, limit: int = 1000, organization: UUID | None = None) -> dict[str, Any]:
    """Lease for a minute, and return the whole answer."""
    row = worker.execute("select public.scenario_lease_notifications(%s, 60, %s)", [limit, organization]).fetchone()
    assert row is not None
    return dict(row[0])


def settle(worker: psycopg.Connection, results: object, max_attempts: int | None = None) -> list[str]:
    """Settle leases, and return the answers."""
    row = worker.execute(
        "select public.scenario_settle_notifications(%s::jsonb, %s)", [json.dumps(results, default=str), max_attempts]
    ).fetchone()
    assert row is not None
    answers: list[str] = row[0]["answers"]
    return answers


def settlement(leased: Mapping[str, Any], result: str, failure_code: str | None = None) -> dict[str, object]:
    """Make the settlement of a lease."""
    return {
        "id": leased["id"],
        "lease_number": leased["lease_number"],
        "result": result,
        "failure_code": failure_code,
    }


def deliver(
    worker: psycopg.Connection,
    result: str = "sent",
    failure_code: str | None = None,
    **leasing: Any,  # noqa: ANN401 - the arguments of lease()
) -> list[dict[str, Any]]:
    """Lease what is due and settle all of it alike; return what was leased."""
    leased = lease(worker, **leasing)
    settle(worker, [settlement(one, result, failure_code) for one in leased])
    return leased


def ids(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the ids of rows."""
    return [row["id"] for row in rows]
