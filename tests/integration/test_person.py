"""One person's data: the export has all of it, the erasure leaves nothing, whoever else is at work."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.integration.database import Database, claim, new_claim
from tests.integration.evaluation import OTHER_ORGANIZATION, act, certify, evaluate, next_page
from tests.rows import ORGANIZATION, insert_devices, insert_mentors, insert_notification

HOLDS: dict[str, str] = {
    "scenario_notifications.user_id": "a user",
    "scenario_notifications.id": "",
    "scenario_notifications.organization_id": "",
    "scenario_notifications.scenario_type": "",
    "scenario_notifications.delivery_status": "",
    "scenario_notifications.failure_code": "the sender's word of the row's user",
    "scenario_notifications.failed_code": "the same",
    "scenario_notifications.origin": "",
    "scenario_notifications.metadata": "facts of the row's user",
    "scenario_notifications.subjects": "certificates of the row's user",
    "handover.user_id": "a user",
    "handover.notification_id": "",
    "handover.organization_id": "",
    "handover.scenario_type": "",
    "handover.reached": "devices of the row's user",
    "delivery_turn.user_id": "a user",
    "delivery_turn.notification_id": "a notification of the row's user",
    "left_out.pass_id": "",
    "left_out.organization_ids": "",
    "left_out.reasons": "",
    "left_out.mentors": "counts",
    "scenario_mutes.user_id": "a user",
    "scenario_mutes.id": "",
    "scenario_mutes.organization_id": "",
    "scenario_mutes.scenario_type": "",
    "scenario_evaluation_config.resume_after": "a user",
    "scenario_evaluation_config.id": "",
    "scenario_evaluation_config.organization_id": "",
    "scenario_evaluation_config.scenario_type": "",
    "scenario_evaluation_config.milestones": "",
    "scenario_delivery_policy.organization_id": "",
    "scenario_delivery_policy.weekdays": "",
    "scenario_delivery_policy.time_zone": "",
    "scenario_days_off.id": "",
    "scenario_days_off.organization_id": "",
}
"""What every column of our tables holds that could name a user: ids, texts, lists, json. A new one needs its line."""


def call(worker: psycopg.Connection, function: str, user_id: UUID) -> dict[str, Any]:
    """Call a function with a user, and return its answer."""
    row = worker.execute(f"select public.{function}(%s)".encode(), [user_id]).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return answer


def tables(owner: psycopg.Connection) -> list[str]:
    """Find every table of ours: whatever keeps rows in our schemas and in public, but for the app's own four."""
    return [
        name
        for (name,) in owner.execute(
            "select oid::regclass::text from pg_class where relkind in ('r', 'p', 'm', 'f')"
            " and relnamespace::regnamespace::text in ('public', 'scenario_private', 'scenario_source')"
            " and oid::regclass::text not in ('peer_mentors', 'activities', 'certifications', 'device_tokens')"
            " order by 1"
        )
    ]


def traces(database: Database, user_id: UUID) -> dict[str, int]:
    """Count the rows of each of our tables that have the user's id anywhere, as text."""
    with database.connect(role=None) as owner:
        found = {}
        for name in tables(owner):
            row = owner.execute(
                f"select count(*) from {name} as t where t::text like %s".encode(),  # noqa: S608
                [f"%{user_id}%"],
            ).fetchone()
            assert row is not None
            if row[0]:
                found[name] = row[0]
        return found


@pytest.fixture
def person(database: Database, worker: psycopg.Connection) -> UUID:
    """Make a mentor who has left a trace in every table that can hold one, beside another mentor."""
    # An id beyond all others: the pass below ends at its last but one page.
    other, user_id = sorted(database.new_users(2))
    insert_mentors(worker, [other, user_id])
    insert_mentors(worker, [user_id], organization_id=OTHER_ORGANIZATION)
    for one in (other, user_id):
        act(worker, one, "40 days")
        certify(worker, one, "10 days")
        insert_devices(worker, [one])
        insert_notification(worker, one, scenario_type="welcome_back", delivery_status="failed", failure_code="x")
        worker.execute("insert into public.scenario_mutes (user_id, scenario_type) values (%s, 'milestone')", [one])
    worker.execute(
        "insert into public.scenario_delivery_policy (organization_id, time_zone, min_gap)"
        " values (null, 'Europe/Oslo', '1 hour')"
    )
    for kind in ("inactivity", "certification_expiry"):
        evaluate(worker, kind)
    worker.execute("select public.scenario_lease_notifications(10, 60)")
    worker.execute(
        "update public.scenario_evaluation_config set resume_after = %s where scenario_type = 'milestone'", [user_id]
    )
    return user_id


def known_columns(owner: psycopg.Connection) -> set[str]:
    """Find every column of ours that could hold a user's id: of any type but numbers, times and yes or no."""
    return {
        f"{table}.{column}"
        for table, column in owner.execute(
            "select relation.relname, attribute.attname"
            " from pg_class as relation"
            " join pg_attribute as attribute on attribute.attrelid = relation.oid"
            " join pg_type as type on type.oid = attribute.atttypid"
            " where relation.oid = any (%s::regclass[]) and attribute.attnum > 0 and not attribute.attisdropped"
            "   and (type.typcategory not in ('B', 'N', 'D', 'T')"
            "     or attribute.attname ~ '(user|mentor|person|_by$|_id$)')",
            [tables(owner)],
        )
    }


def test_every_column_that_may_name_a_user_is_known(database: Database) -> None:
    """A new id, text, list or json in one of our tables is named here, with what it holds: then export and erase do."""
    with database.connect(role=None) as owner:
        assert known_columns(owner) == set(HOLDS)


@pytest.mark.parametrize(
    "kind",
    [
        "table scenario_private.diary (user_id uuid references auth.users)",
        "table scenario_private.diary (recipient text)",
        "table scenario_private.diary (recipient bytea)",
        "table public.diary (recipient varchar(36))",
        "table scenario_source.diary (recipient uuid)",
        "materialized view scenario_private.diary as select user_id as recipient from public.scenario_mutes",
    ],
)
def test_a_new_place_for_a_user_is_noticed(database: Database, kind: str) -> None:
    """Whatever its type, name and schema: the test above would fail."""
    database.run(f"create {kind}")
    with database.connect(role=None) as owner:
        assert len(known_columns(owner) - set(HOLDS)) == 1


def test_the_person_of_these_tests_is_everywhere(database: Database, person: UUID) -> None:
    """Each column that names a user names her: else the tests below would prove nothing."""
    columns = [name.split(".") for name, holds in HOLDS.items() if holds == "a user"]
    with database.connect(role=None) as owner:
        for table, column in columns:
            schema = "public" if table.startswith("scenario_") else "scenario_private"
            row = owner.execute(
                f"select count(*) from {schema}.{table} where {column} = %s".encode(),  # noqa: S608
                [person],
            ).fetchone()
            assert row is not None
            assert row[0] > 0, f"{table}.{column}"


def test_the_export_has_every_row_of_hers(database: Database, worker: psycopg.Connection, person: UUID) -> None:
    """From our tables as many as a search of all of them finds, each with every column; and from the app's views."""
    exported = call(worker, "scenario_export_person", person)
    found = traces(database, person)
    assert {
        "scenario_notifications": len(exported["notifications"]),
        "scenario_private.handover": len(exported["handovers"]),
        "scenario_mutes": len(exported["mutes"]),
        "scenario_private.delivery_turn": len(exported["turns"]),
        "scenario_evaluation_config": len(exported["passes"]),
    } == found
    with database.connect(role=None) as owner:
        for part, table in (
            ("notifications", "public.scenario_notifications"),
            ("handovers", "scenario_private.handover"),
            ("mutes", "public.scenario_mutes"),
            ("turns", "scenario_private.delivery_turn"),
        ):
            columns = owner.execute(
                "select array_agg(attname::text) from pg_attribute"
                " where attrelid = %s::regclass and attnum > 0 and not attisdropped",
                [table],
            ).fetchone()
            assert columns is not None
            assert sorted(exported[part][0]) == sorted(columns[0])
    sources = exported["sources"]
    assert {name: len(rows) for name, rows in sources.items()} == {
        "mentors": 2, "activities": 1, "certificates": 1, "device_tokens": 1,
    }  # fmt: skip
    views = "select relname from pg_class where relnamespace = 'scenario_source'::regnamespace and relkind = 'v'"
    assert {name for (name,) in worker.execute(views)} == set(sources)
    assert {row["user_id"] for rows in sources.values() for row in rows} == {str(person)}


def test_of_somebody_unknown_there_is_nothing(worker: psycopg.Connection) -> None:
    """No error: an export without rows, and an erasure of none."""
    unknown = uuid4()
    exported = call(worker, "scenario_export_person", unknown)
    assert exported.pop("user_id") == str(unknown)
    assert exported.pop("exported_at")
    assert not any(exported.pop("sources").values())
    assert not any(exported.values())
    assert not any(call(worker, "scenario_erase_person", unknown).values())


def test_nothing_of_hers_is_left(database: Database, worker: psycopg.Connection, person: UUID) -> None:
    """The answer counts what a search finds; afterwards it finds nothing, in the app's tables all, and others' rows."""
    before = traces(database, person)
    (other,) = worker.execute("select user_id from peer_mentors where user_id <> %s", [person]).fetchall()[0]
    others, app = traces(database, other), call(worker, "scenario_export_person", person)["sources"]
    assert call(worker, "scenario_erase_person", person) == {
        "notifications": before["scenario_notifications"],
        "handovers": before["scenario_private.handover"],
        "mutes": 1,
        "turns": 1,
        "passes": 1,
    }
    assert traces(database, person) == {}
    assert call(worker, "scenario_export_person", person)["sources"] == app
    # The pass that stood at her stands at the mentor before.
    others["scenario_evaluation_config"] = 1
    assert traces(database, other) == others
    assert not any(call(worker, "scenario_erase_person", person).values())


def test_what_an_erasure_means(database: Database, worker: psycopg.Connection, person: UUID) -> None:
    """A lease of hers that is out settles as unknown; reports count fewer; and she is claimed for again."""
    for user in database.new_users(4):
        insert_notification(worker, user, scenario_type="welcome_back", delivery_status="failed", failure_code="x")
    notifications = call(worker, "scenario_export_person", person)
    held = next(row for row in notifications["handovers"] if row["leased_until"] is not None)

    def reported() -> int:
        row = worker.execute(
            "select public.scenario_get_organization_report(%s, now() - interval '1 day', now() + interval '1 day')",
            [ORGANIZATION],
        ).fetchone()
        assert row is not None
        return sum(line["notifications"] or 0 for line in row[0]["lines"] if line["scenario_type"] == "welcome_back")

    assert reported() == 6
    call(worker, "scenario_erase_person", person)
    results = [{"id": held["notification_id"], "lease_number": held["lease_number"], "result": "sent"}]
    row = worker.execute("select public.scenario_settle_notifications(%s)", [json.dumps(results)]).fetchone()
    assert row is not None
    assert row[0]["answers"] == ["unknown"]
    assert reported() == 5
    assert evaluate(worker, "inactivity")["claimed"] == 1


def test_what_others_have_in_hand_is_waited_for(database: Database, worker: psycopg.Connection, person: UUID) -> None:
    """Without a lock in its own hands: whoever works at her rows goes on, and then they are erased."""
    with database.connect() as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            # As a lease does: the hand-over first, then the notification.
            other.execute("select from scenario_private.handover where user_id = %s for update", [person])
            erasing = pool.submit(call, worker, "scenario_erase_person", person)
            threading.Event().wait(0.3)
            assert not erasing.done()
            other.execute("set local lock_timeout = '200ms'")
            other.execute("update public.scenario_notifications set metadata = '{}' where user_id = %s", [person])
            other.execute("update scenario_private.delivery_turn set handed_at = now() where user_id = %s", [person])
        assert erasing.result(5)["notifications"] > 0
    assert traces(database, person) == {}


@pytest.mark.parametrize("write", ["claim", "claim with a lease", "page", "mute"])
def test_what_is_not_committed_yet_is_waited_for(database: Database, worker: psycopg.Connection, write: str) -> None:
    """Rows that nobody else can see yet are erased too: whoever writes them goes on, and the erasure comes after."""
    (user_id,) = database.new_mentors(1, ORGANIZATION)
    act(worker, user_id, "40 days")
    with database.connect() as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            match write:
                case "page":
                    assert next_page(other)["claimed"] == 1
                case "mute":
                    other.execute("insert into public.scenario_mutes (user_id) values (%s)", [user_id])
                case _:
                    claim(other, [new_claim(user_id)], 60 if write == "claim with a lease" else None)
            erasing = pool.submit(call, worker, "scenario_erase_person", user_id)
            threading.Event().wait(0.3)
            assert not erasing.done()
        assert any(erasing.result(5).values())
    assert traces(database, user_id) == {}


def test_who_only_reads_is_not_waited_for(database: Database, worker: psycopg.Connection, person: UUID) -> None:
    """A dump or a report that is open for hours holds no erasure up."""
    with database.connect() as other, other.transaction():
        other.execute("select count(*) from public.scenario_notifications, public.scenario_mutes").fetchone()
        worker.execute("set statement_timeout = '2s'")
        assert call(worker, "scenario_erase_person", person)["mutes"] == 1
    assert traces(database, person) == {}


def test_what_is_held_for_long_is_refused_whole(database: Database, worker: psycopg.Connection, person: UUID) -> None:
    """After five seconds it fails with what may be tried again, and nothing is erased."""
    before = traces(database, person)
    with database.connect() as other, other.transaction():
        other.execute("select from public.scenario_mutes where user_id = %s for update", [person])
        worker.execute("set statement_timeout = '20s'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            call(worker, "scenario_erase_person", person)
    assert traces(database, person) == before


def test_erasing_beside_claims_leases_and_settlements(database: Database) -> None:
    """Hundreds of erasures among workers: no deadlock, no lost row of anybody else, and in the end nothing is left."""
    ids = database.new_mentors(6, ORGANIZATION)
    erased, kept = ids[:3], ids[3:]
    for one in ids:
        database.add_activities(one, timedelta(days=40))
    with database.connect() as worker:
        worker.execute(
            "insert into public.scenario_delivery_policy (organization_id, time_zone, min_gap)"
            " values (null, 'Europe/Oslo', '1 second')"
        )
    over = threading.Event()

    def claims() -> int:
        done = 0
        with database.connect() as worker:
            while not over.is_set():
                done += len(claim(worker, [new_claim(one, scenario_type="welcome_back") for one in ids]))
                worker.execute("select public.scenario_evaluate_next_page('inactivity', null, 2)")
        return done

    def deliveries() -> int:
        done = 0
        with database.connect() as worker:
            while not over.is_set():
                row = worker.execute("select public.scenario_lease_notifications(10, 60)").fetchone()
                assert row is not None
                results = [
                    {"id": one["id"], "lease_number": one["lease_number"], "result": result}
                    for one, result in zip(row[0]["leased"], ("sent", "released", "failed", "retry") * 5, strict=False)
                ]
                worker.execute("select public.scenario_settle_notifications(%s)", [json.dumps(results)])
                done += len(results)
        return done

    def erasures() -> int:
        done = 0
        with database.connect() as worker:
            for _ in range(60):
                done += sum(call(worker, "scenario_erase_person", one)["notifications"] for one in erased)
        return done

    with ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(work) for work in (claims, claims, deliveries, deliveries)]
        try:
            gone = [erasing.result(60) for erasing in [pool.submit(erasures), pool.submit(erasures)]]
        finally:
            over.set()
        figures = [one.result(30) for one in workers]
    assert all(figures)
    assert sum(gone) > 5
    with database.connect() as worker:
        for one in erased:
            call(worker, "scenario_erase_person", one)
            assert traces(database, one) == {}
        # Whoever was not erased was told once, of each.
        counted = worker.execute(
            "select user_id, scenario_type, count(*) from public.scenario_notifications"
            " where delivery_status <> 'failed' group by 1, 2 having count(*) > 1"
        ).fetchall()
        assert counted == []
        orphans = worker.execute(
            "select count(*) from scenario_private.handover as handover where not exists"
            " (select from public.scenario_notifications as one where one.id = handover.notification_id)"
        ).fetchone()
        assert orphans == (0,)
    with database.connect(role=None) as owner:
        rows = owner.execute("select deadlocks from pg_stat_database where datname = current_database()").fetchone()
        assert rows == (0,)
    assert kept
