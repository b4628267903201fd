"""What docs/scaling.md says of replicas: which functions answer where nothing may be written or locked."""

from __future__ import annotations

from typing import Final

import psycopg
import pytest

from tests.integration.database import Database

_USER: Final = "'00000000-0000-4000-8000-000000000001'::uuid"
_READING: Final = {
    "scenario_explain_notification": _USER,
    "scenario_export_person": _USER,
    "scenario_find_inactive_mentors": f"{_USER}, '30 days'",
    "scenario_get_catalogue": "",
    "scenario_get_last_delivered_at_many": f"array[{_USER}], 'inactivity'",
    "scenario_get_last_sent_at_many": f"array[{_USER}], 'inactivity'",
    "scenario_get_left_out": "",
    "scenario_get_milestone_record_many": f"array[{_USER}], 50",
    "scenario_get_organization_report": f"{_USER}, now() - interval '1 day', now()",
    "scenario_get_outcomes": f"{_USER}, 'inactivity', now() - interval '1 day', now(), 86400",
    "scenario_get_schema": "",
    "scenario_get_status": "",
    "scenario_has_been_delivered_since_many": f"array[{_USER}], 'inactivity', now()",
    "scenario_has_been_sent_since_threshold_many": f"array[{_USER}], 'inactivity', now()",
    "scenario_list_pending": "",
}
_READING_IN_SQL: Final = {
    "scenario_check_rule": "'inactivity'",
    "scenario_evaluate": "'inactivity', p_dry_run => true",
    "scenario_explain": _USER,
    "scenario_simulate": """'inactivity', '{"inactive_after": "20 days"}'""",
}
_WRITING: Final = {
    "scenario_begin_run": "",
    "scenario_cancel_notifications": f"array[{_USER}]",
    "scenario_claim_notifications": """'{"user_id": [], "all": {}}'""",
    "scenario_erase_person": _USER,
    "scenario_evaluate_next_page": "'inactivity'",
    "scenario_lease_notifications": "10, 60",
    "scenario_purge_notifications": "86400",
    "scenario_retry_notifications": f"array[{_USER}]",
    "scenario_settle_notifications": "'[]'",
}


@pytest.fixture
def replica(worker: psycopg.Connection) -> psycopg.Connection:
    """Let every statement run as on a hot standby: in a transaction that may only read."""
    worker.execute("set default_transaction_read_only = on")
    return worker


def test_what_only_reads_answers_on_a_replica(replica: psycopg.Connection) -> None:
    """The look-ups, the reports, the export and the dry runs lock nothing and write nothing."""
    for function, arguments in (_READING | _READING_IN_SQL).items():
        replica.execute(f"select public.{function}({arguments})".encode())


def test_what_writes_is_refused_on_a_replica(replica: psycopg.Connection) -> None:
    """A worker that is sent to a replica is told so at once, even when it would find nothing to do."""
    for function, arguments in _WRITING.items():
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            replica.execute(f"select public.{function}({arguments})".encode())


def test_every_function_has_its_line(database: Database) -> None:
    """PostgREST begins a transaction that only reads for what is declared stable: that is what answers there."""
    with database.connect() as worker:
        found: dict[str, str] = dict(
            worker.execute("""
                select proname, provolatile::text from pg_proc
                where pronamespace = 'public'::regnamespace and starts_with(proname, 'scenario_')
            """).fetchall()
        )
    stable = sorted(name for name, volatility in found.items() if volatility == "s")
    assert sorted(_READING) == stable
    assert sorted(_READING | _READING_IN_SQL | _WRITING) == sorted(found)
