"""A library that needs a newer schema is refused before anything is done; an older one is served."""

from __future__ import annotations

import json
from uuid import UUID

import psycopg
import pytest

from scenario_repo._postgrest import FUNCTIONS, SCHEMA_VERSION
from tests.integration.database import Database, new_claim
from tests.integration.evaluation import act
from tests.rows import ORGANIZATION, insert_notification

NEWER = SCHEMA_VERSION + 1
_EVERYTHING = """
    select
      (select count(*) from public.scenario_notifications),
      (select array_agg((scenario_type, organization_id, pass_evaluated)::text order by 1)
       from public.scenario_evaluation_config)
"""


def arguments(user: UUID) -> dict[str, str]:
    """Return arguments for every function with which it would write, if it writes at all."""
    return {
        "scenario_cancel_notifications": f"array['{user}'::uuid]",
        "scenario_begin_run": "null, null",
        "scenario_check_rule": "'inactivity', 10",
        "scenario_claim_notifications": f"'{json.dumps([new_claim(user)], default=str)}'",
        "scenario_evaluate": "'inactivity', null, null, 10, false",
        "scenario_evaluate_next_page": f"'inactivity', '{ORGANIZATION}', 10",
        "scenario_explain": f"'{user}'",
        "scenario_explain_notification": f"'{user}'",
        "scenario_get_left_out": f"'{ORGANIZATION}', false",
        "scenario_get_outcomes": f"'{ORGANIZATION}', 'inactivity', now(), now(), 60",
        "scenario_find_inactive_mentors": f"'{ORGANIZATION}', '30 days', 10, null",
        "scenario_get_last_delivered_at_many": f"array['{user}'::uuid], 'inactivity'",
        "scenario_get_last_sent_at_many": f"array['{user}'::uuid], 'inactivity'",
        "scenario_get_milestone_record_many": f"array['{user}'::uuid], 10",
        "scenario_get_organization_report": f"'{ORGANIZATION}', now(), now(), 'UTC'",
        "scenario_get_schema": "",
        "scenario_get_status": "",
        "scenario_get_catalogue": "",
        "scenario_has_been_delivered_since_many": f"array['{user}'::uuid], 'inactivity', now()",
        "scenario_has_been_sent_since_threshold_many": f"array['{user}'::uuid], 'inactivity', now()",
        "scenario_lease_notifications": "10, 60, null, null",
        "scenario_list_pending": "null, null, null, null, 10",
        "scenario_erase_person": f"'{user}'",
        "scenario_export_person": f"'{user}'",
        "scenario_simulate": """'inactivity', '{"inactive_after": "21 days"}', null, null, 10, true""",
        "scenario_purge_notifications": "31536000, null, 10",
        "scenario_retry_notifications": f"array['{user}'::uuid]",
        "scenario_settle_notifications": "'[]', 8",
    }


def test_the_schema_has_the_version_that_the_library_needs(worker: psycopg.Connection) -> None:
    """They are raised together, with every release that changes the schema."""
    assert worker.execute("select scenario_private.schema_version()").fetchone() == (SCHEMA_VERSION,)


def test_every_function_takes_the_version_last(worker: psycopg.Connection) -> None:
    """As an argument that may be left out, by psql and by pg_cron; this test knows every function."""
    rows = worker.execute(
        "select proname, proargnames[pronargs], pronargdefaults > 0 from pg_proc"
        " where pronamespace = 'public'::regnamespace and proname like 'scenario%'"
    ).fetchall()
    assert {(name, optional) for _, name, optional in rows} == {("p_needs_schema", True)}
    assert {name for name, _, _ in rows} == arguments(UUID(int=0)).keys() >= FUNCTIONS.keys()


@pytest.mark.parametrize("function", arguments(UUID(int=0)))
def test_a_newer_library_is_refused_before_anything_is_written(
    function: str, database: Database, worker: psycopg.Connection
) -> None:
    """SR006 names both versions and what to apply; the version that is there, or none, is served."""
    user, other = database.new_mentors(2, ORGANIZATION)
    act(worker, user, "40 days")
    insert_notification(worker, other)
    given = ", ".join(filter(None, [arguments(user)[function], f"p_needs_schema => {NEWER}"]))
    before = worker.execute(_EVERYTHING.encode()).fetchone()

    with pytest.raises(psycopg.Error, match=f"needs version {NEWER} .* has version {SCHEMA_VERSION}: apply") as refused:
        worker.execute(f"select public.{function}({given})".encode())
    assert refused.value.sqlstate == "SR006"
    assert worker.execute(_EVERYTHING.encode()).fetchone() == before

    for served in (f"p_needs_schema => {SCHEMA_VERSION}", "p_needs_schema => null", ""):
        given = ", ".join(filter(None, [arguments(user)[function], served]))
        worker.execute(f"select public.{function}({given})".encode())
