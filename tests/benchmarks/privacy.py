"""What keeping personal data out costs, and how well it tells: ``python -m tests.benchmarks.privacy``.

Recall and precision are over made texts (tests/privacy_vectors.py), cost over ordinary small objects. A cost is a
difference to a floor that was taken in turns with it: inserts with the constraint and without, or, in the library,
the check without its search for personal data. Seconds are processor time, the
server's too where Linux tells it, and the least of several rounds: neighbours only ever add.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any
from unittest import mock

import psycopg

from scenario_repo import _metadata
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import postgres_server
from tests.privacy_vectors import MAKERS, disguised, harmless, wrapped

CONSTRAINT = "scenario_notifications_metadata_holds_no_personal_data"
ORDINARY: dict[str, dict[str, Any]] = {
    "activity count": {"activity_count": 61},
    "last activity": {"last_activity_at": "2026-09-29T17:05:02.728744+00:00"},
    "certificates": {
        "certificate_ids": ["0b6c1f1e-6f0c-4e0a-9f1b-2d4f5a6b7c8d"],
        "expires_at": "2026-10-29T17:05:02.728744+00:00",
    },
}
_POSITIVES, _NEGATIVES, _ROWS, _ROUNDS = 2_000, 20_000, 20_000, 9

Verdicts = Callable[[list[object]], list[bool]]


def measure() -> dict[str, Any]:
    """Measure precision, recall and cost, of the library and of the database."""
    with postgres_server() as server:
        url = server.create_database("privacy")
        apply_migrations(url)
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            return {
                "quality": {"library": _quality(_by_library), "database": _quality(_by_database(connection))},
                "cost": {
                    name: {
                        "library_us": round(_library_cost(metadata), 2),
                        **_database_cost(connection, metadata),
                    }
                    for name, metadata in ORDINARY.items()
                },
            }


def _by_library(objects: list[object]) -> list[bool]:
    return [_metadata.metadata_fault(value) is not None for value in objects]


def _by_database(connection: psycopg.Connection) -> Verdicts:
    def verdicts(objects: list[object]) -> list[bool]:
        rows = connection.execute(
            """
            select not scenario_private.is_storable_metadata(text::jsonb)
            from unnest(%s::text[]) with ordinality as given (text, ordinal)
            order by ordinal
            """,
            [[json.dumps(value) for value in objects]],
        )
        return [row[0] for row in rows]

    return verdicts


def _quality(verdicts: Verdicts) -> dict[str, Any]:
    random = Random(6)  # noqa: S311 - not a secret
    recall = {
        kind: _share(verdicts([wrapped(random, disguised(random, make(random))) for _ in range(_POSITIVES)]))
        for kind, make in MAKERS.items()
    }
    false_alarms = sum(verdicts([{"value": harmless(random)} for _ in range(_NEGATIVES)]))
    integers = {
        f"random integers of {length} digits": _share(
            verdicts([{"n": random.randrange(10 ** (length - 1), 10**length)} for _ in range(_NEGATIVES)])
        )
        for length in (8, 9, 10, 11, 12)
    }
    found = sum(recall.values()) * _POSITIVES
    return {
        "recall": recall,
        "false_alarms": false_alarms,
        "ordinary_values": _NEGATIVES,
        "precision": found / (found + false_alarms),
        "refused_by_chance": integers,
    }


def _share(verdicts: Iterable[bool]) -> float:
    values = list(verdicts)
    return sum(values) / len(values)


def _library_cost(metadata: dict[str, Any]) -> float:
    """Return the microseconds that the search for personal data takes."""

    def seconds() -> float:
        started = process_time()
        for _ in range(5_000):
            _metadata.metadata_fault(metadata)
        return process_time() - started

    with_it, without = [], []
    for _ in range(_ROUNDS):
        with_it.append(seconds())
        with mock.patch.object(_metadata, "_kind", _nothing):
            without.append(seconds())
    return (min(with_it) - min(without)) / 5_000 * 1e6


def _nothing(_node: object) -> None:
    """Stand for the search for personal data."""


def _database_cost(connection: psycopg.Connection, metadata: dict[str, Any]) -> dict[str, float]:
    """Insert many rows with the constraint and without, in turns."""
    definition = _definition(connection)
    connection.execute("insert into auth.users (id) values (md5('privacy')::uuid) on conflict do nothing")
    with_it, without = [], []
    for _ in range(_ROUNDS):
        with_it.append(_insert_seconds(connection, metadata))
        connection.execute(f"alter table public.scenario_notifications drop constraint {CONSTRAINT}")
        without.append(_insert_seconds(connection, metadata))
        connection.execute(f"alter table public.scenario_notifications add constraint {CONSTRAINT} {definition}")
    return {
        "expression_us": round(_expression_cost(connection, definition.removeprefix("CHECK ")), 2),
        "insert_without_us": round(min(without) / _ROWS * 1e6, 2),
        "constraint_us": round((min(with_it) - min(without)) / _ROWS * 1e6, 2),
        "ratio": round(min(with_it) / min(without), 3),
    }


def _expression_cost(connection: psycopg.Connection, expression: str) -> float:
    """Return the microseconds that the constraint's expression alone takes on the rows that are there."""
    seconds: dict[str, list[float]] = {"metadata is not null": [], expression: []}
    for _ in range(_ROUNDS):
        for condition, taken in seconds.items():
            query = f"select count(*) from public.scenario_notifications where {condition}"  # noqa: S608 - ours
            started = _server_seconds(connection)
            connection.execute(query.encode())
            taken.append(_server_seconds(connection) - started)
    floor, cost = map(min, seconds.values())
    return (cost - floor) / _ROWS * 1e6


def _insert_seconds(connection: psycopg.Connection, metadata: dict[str, Any]) -> float:
    connection.execute("truncate public.scenario_notifications cascade")
    started = _server_seconds(connection)
    connection.execute(
        """
        insert into public.scenario_notifications (user_id, organization_id, scenario_type, metadata)
        select md5('privacy')::uuid, md5('organization')::uuid, 'inactivity', %s::jsonb
        from generate_series(1, %s)
        """,
        [json.dumps(metadata), _ROWS],
    )
    return _server_seconds(connection) - started


def _server_seconds(connection: psycopg.Connection) -> float:
    """Return the processor time of the connection's backend, or the time of day where there is no such figure."""
    schedule = Path(f"/proc/{connection.info.backend_pid}/schedstat")
    return int(schedule.read_text().split()[0]) / 1e9 if schedule.exists() else perf_counter()


def _definition(connection: psycopg.Connection) -> str:
    row = connection.execute(
        "select pg_get_constraintdef(oid) from pg_constraint where conname = %s", [CONSTRAINT]
    ).fetchone()
    assert row is not None
    definition: str = row[0]
    return definition


def main() -> None:
    """Print the figures as json."""
    print(json.dumps(measure(), indent=2))  # noqa: T201 - that is what it is for


if __name__ == "__main__":
    main()
