"""An installation that is whole has no fault; one that was damaged is told what is wrong, and the SQL mends it.

``scenario_repo/catalogue.json`` is the catalogue of a pristine one. Whoever changes the schema records it anew:
``RECORD_CATALOGUE=1 python -m pytest tests/integration/test_installation.py``.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

import scenario_repo
from scenario_repo import Verification
from scenario_repo._installation import CATALOGUE, verified
from scenario_repo._releases import release_texts
from tests.integration.database import Database, claim, new_claim
from tests.rows import ago, insert_devices

RECORDED: Final = Path(scenario_repo.__file__).with_name("catalogue.json")
NO_SKEW: Final = timedelta(0)


def catalogue(database: Database) -> Any:  # noqa: ANN401 - JSON
    """Ask the database for its catalogue, as a worker does."""
    with database.connect() as worker:
        row = worker.execute("select public.scenario_get_catalogue(1)").fetchone()
    assert row is not None
    return row[0]


def verification(database: Database, skew: timedelta = NO_SKEW) -> Verification:
    """Verify the database's installation."""
    return verified(CATALOGUE.validate_python(catalogue(database)), skew)


def faults(database: Database) -> list[str]:
    """Return what is wrong."""
    return [fault.what for fault in verification(database).faults]


def test_the_recorded_catalogue_is_that_of_the_schema(database: Database) -> None:
    """Each version of PostgreSQL says the same of a pristine installation."""
    present = {name: part for name, part in catalogue(database).items() if name in {"schema_version", "facts"}}
    if os.environ.get("RECORD_CATALOGUE"):
        RECORDED.write_text(json.dumps(present, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert present == json.loads(RECORDED.read_text(encoding="utf-8"))


def test_a_pristine_installation_is_whole(database: Database) -> None:
    """Nothing is wrong with what the migrations make."""
    assert verification(database) == Verification(schema_version=1, faults=())


DAMAGES: Final = {
    "a table is gone": (
        "drop table scenario_private.delivery_turn",
        ["scenario_private.delivery_turn: expected a table, got none"],
    ),
    "a view is gone": (
        "drop view scenario_private.reminder cascade",
        ["scenario_private.reminder: expected a view, got none"],
    ),
    "a view asks something else": (
        (
            "create or replace view scenario_private.stopped_clock with (security_invoker = true) as"
            " select * from (select null::uuid as organization_id, null::tstzmultirange as stopped) as x where false"
        ),
        ["scenario_private.stopped_clock: its query is another"],
    ),
    "a view runs with its owner's rights": (
        "alter view scenario_source.activities reset (security_invoker)",
        ["scenario_source.activities: expected security_invoker=true"],
    ),
    "a column is gone": (
        "alter table public.scenario_mutes drop column muted_until cascade",
        ["public.scenario_mutes.muted_until: expected timestamp with time zone, got no such column"],
    ),
    "a column has another type": (
        "alter table public.scenario_mutes alter column muted_until type timestamp",
        ["public.scenario_mutes.muted_until: expected timestamp with time zone, got timestamp without time zone"],
    ),
    "a column may be null": (
        "alter table public.scenario_notifications alter column triggered_at drop not null",
        ["public.scenario_notifications.triggered_at: expected not null"],
    ),
    "a column has another default": (
        "alter table public.scenario_notifications alter column triggered_at set default '2000-01-01 00:00+00'",
        ["public.scenario_notifications.triggered_at: its default is another"],
    ),
    "a constraint is gone": (
        "alter table public.scenario_notifications drop constraint scenario_notifications_user_id_fkey",
        ["public.scenario_notifications: expected the constraint scenario_notifications_user_id_fkey, got none"],
    ),
    "a constraint is another": (
        (
            "alter table public.scenario_notifications drop constraint scenario_notifications_user_id_fkey;"
            " alter table public.scenario_notifications add constraint scenario_notifications_user_id_fkey"
            " foreign key (user_id) references auth.users (id)"
        ),
        ["public.scenario_notifications: expected the constraint scenario_notifications_user_id_fkey, got another"],
    ),
    "a scenario type is missing from the list": (
        (
            "alter table public.scenario_notifications drop constraint scenario_notifications_scenario_type_is_known;"
            " alter table public.scenario_notifications add constraint scenario_notifications_scenario_type_is_known"
            " check (scenario_type in ('inactivity', 'milestone', 'welcome_back'))"
        ),
        [
            (
                "public.scenario_notifications: expected the constraint scenario_notifications_scenario_type_is_known,"
                " got another"
            )
        ],
    ),
    "an index is gone": (
        "drop index public.peer_mentors_active_by_user_idx",
        ["public.peer_mentors: expected the index public.peer_mentors_active_by_user_idx, got none"],
    ),
    "an index is on other columns": (
        (
            "drop index public.activities_user_id_activity_date_idx;"
            " create index activities_user_id_activity_date_idx on public.activities (activity_date)"
        ),
        ["public.activities: expected another index of the name public.activities_user_id_activity_date_idx"],
    ),
    "row level security is off": (
        "alter table public.scenario_notifications disable row level security",
        ["public.scenario_notifications: expected row level security, got none"],
    ),
    "a policy is gone": (
        "drop policy scenario_notifications_select_own_policy on public.scenario_notifications",
        ["public.scenario_notifications: expected the policy scenario_notifications_select_own_policy, got none"],
    ),
    "a policy shows everybody everything": (
        "create policy debug on public.scenario_notifications for select to authenticated using (true)",
        ["public.scenario_notifications: the policy debug is not ours, and opens it to authenticated"],
    ),
    "a trigger is disabled": (
        "alter table public.scenario_notifications disable trigger scenario_notifications_past_is_fixed",
        [
            (
                "public.scenario_notifications: expected the trigger scenario_notifications_past_is_fixed,"
                " got a disabled one"
            )
        ],
    ),
    "a trigger is gone": (
        "drop trigger scenario_mutes_check_inserted on public.scenario_mutes",
        ["public.scenario_mutes: expected the trigger scenario_mutes_check_inserted, got none"],
    ),
    "a function is gone": (
        "drop function public.scenario_cancel_notifications(uuid[], integer)",
        [
            (
                "public.scenario_cancel_notifications(p_ids uuid[], p_needs_schema integer):"
                " expected this function, got none"
            )
        ],
    ),
    "a function is another": (
        "alter function scenario_private.users_away(uuid[]) security invoker",
        ["scenario_private.users_away(p_user_ids uuid[]): expected this function, got another"],
    ),
    "a function has a second form": (
        (
            "create function public.scenario_explain(p_user_id text) returns text language sql as 'select null';"
            " revoke all on function public.scenario_explain(text) from public, anon, authenticated, service_role"
        ),
        ["public.scenario_explain(p_user_id text): a second function of a name of ours, which makes calls ambiguous"],
    ),
    "an app's own function has a name of ours": (
        "create function public.scenario_evaluate(text) returns text language sql as 'select null'",
        ["public.scenario_evaluate(text): a second function of a name of ours, which makes calls ambiguous"],
    ),
    "a column that a view reads has another name": (
        "alter table public.scenario_mutes rename column muted_until to until_when",
        ["public.scenario_mutes.muted_until: expected timestamp with time zone, got no such column"],
    ),
    "a view and what reads it are gone": (
        "drop view scenario_private.mentor_setting cascade",
        ["scenario_private.mentor_setting: expected a view, got none"],
    ),
    "a column is granted": (
        "grant select (metadata) on public.scenario_notifications to anon",
        ["public.scenario_notifications.metadata: expected nothing for anon, got select"],
    ),
    "a rule swallows what is written": (
        "create rule nothing as on insert to public.scenario_notifications do instead nothing",
        ["public.scenario_notifications: the rule nothing rewrites what is asked of it"],
    ),
    "a table is unlogged": (
        "alter table public.scenario_mutes set unlogged",
        ["public.scenario_mutes: an unlogged table, which a crash empties"],
    ),
    "a grant is lost": (
        "revoke select on public.scenario_notifications from service_role",
        [
            (
                "public.scenario_notifications: expected delete, insert, select, update for service_role,"
                " got delete, insert, update"
            )
        ],
    ),
    "too much is granted": (
        "grant insert, select on public.scenario_notifications to anon",
        ["public.scenario_notifications: expected nothing for anon, got insert, select"],
    ),
    "a function may be called by anybody": (
        "grant execute on function public.scenario_explain(uuid, integer) to public",
        ["public.scenario_explain(p_user_id uuid, p_needs_schema integer): expected nothing for public, got execute"],
    ),
    "the private schema may be used": (
        "grant usage on schema scenario_private to authenticated",
        ["scenario_private: expected nothing for authenticated, got usage"],
    ),
    "a table of the app is granted to nobody": (
        "revoke all on public.activities from service_role",
        ["public.activities: the service role may not read it, and scenario_source.activities does"],
    ),
    "a default setting was deleted": (
        "delete from public.scenario_evaluation_config where scenario_type = 'milestone'",
        ["public.scenario_evaluation_config: expected default settings of milestone, got none"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_mended(database: Database, damage: str) -> None:
    """What is wrong is said first; the SQL makes it whole, if need be in several rounds."""
    statements, expected = DAMAGES[damage]
    database.run(statements)
    found = verification(database)
    assert [fault.what for fault in found.faults][: len(expected)] == expected
    for _ in range(3):
        database.run(found.mending)
        found = verification(database)
        if found.ok:
            break
    assert found.ok, found.faults


@pytest.mark.parametrize("lost", ["view scenario_source.activities", "schema scenario_source"])
def test_a_lost_source_is_mended_by_the_migrations(database: Database, lost: str) -> None:
    """What reads it can't be made before it is there, and only the migrations make it."""
    database.run(f"drop {lost} cascade")
    found = verification(database)
    assert any(fault.what.startswith("scenario_source.activities: expected a view") for fault in found.faults)
    assert [line[:51] for line in found.mending.splitlines()] == ["-- apply the migrations of scenario_repo again: the"]
    for text in release_texts():
        database.run(text)
    assert not faults(database)


def test_a_failed_concurrent_build_is_found(database: Database) -> None:
    """PostgreSQL leaves an invalid index, which is kept up to date and never used."""
    for user_id in database.new_users(2):
        database.add_activities(user_id, timedelta(days=1))
    with database.connect(role=None) as owner:
        owner.execute("update public.activities set activity_date = now()")
        with pytest.raises(Exception, match="could not create unique index"):
            owner.execute("create unique index concurrently once on public.activities (activity_date)")
        assert faults(database) == ["public.activities: the index public.once is invalid, as a failed build leaves it"]
        owner.execute("drop index public.once")
    assert not faults(database)


def test_a_column_of_an_apps_view_has_another_type(database: Database) -> None:
    """Only the app can mend what its own view says."""
    database.run(
        "drop view scenario_source.mentors cascade;"
        " create view scenario_source.mentors with (security_invoker = true) as"
        " select user_id, organization_id, is_active::text as is_active from public.peer_mentors;"
        " grant select on scenario_source.mentors to service_role",
    )
    found = verification(database)
    fault = next(one for one in found.faults if one.what.startswith("scenario_source.mentors"))
    assert fault.what == "scenario_source.mentors.is_active: expected boolean, got text"
    assert fault.mend is not None
    assert fault.mend.startswith("-- write scenario_source.mentors anew")


def test_one_phone_of_two_users_is_found(database: Database) -> None:
    """An app's own table may let two users have one token (Twake-Mobile#319)."""
    first, second = database.new_users(2)
    database.run("alter table public.device_tokens drop constraint device_tokens_token_has_one_owner")
    with database.connect() as worker:
        insert_devices(worker, [first], token="t", registered_at=ago(timedelta(days=1)))
        insert_devices(worker, [second], token="t")
    found = verification(database)
    assert found.faults[-1].what.startswith("scenario_source.device_tokens: 1 tokens belong to several users")
    database.run(found.mending)
    assert not faults(database)
    with database.connect() as worker:
        assert worker.execute("select user_id from public.device_tokens").fetchall() == [(second,)]


def test_an_apps_own_type_is_no_fault(database: Database) -> None:
    """More scenario types than ours are fine; one without default settings is not."""
    database.run(
        "select scenario_private.add_scenario_type('first_session');"
        " create view scenario_private.first_session_rule with (security_invoker = true) as"
        " select * from scenario_private.rule_contract where false;"
        " grant select on scenario_private.first_session_rule to service_role",
    )
    assert faults(database) == [
        "public.scenario_evaluation_config: expected default settings of first_session, got none"
    ]


def test_an_apps_schema_that_is_out_of_reach_is_found(database: Database) -> None:
    """A table in a schema of the app's own needs a grant on both."""
    database.run(
        "create schema app; create table app.sessions (mentor_id uuid, held_at timestamptz);"
        " create or replace view scenario_source.activities with (security_invoker = true) as"
        " select mentor_id as user_id, held_at as activity_date from app.sessions",
    )
    found = verification(database)
    assert [fault.what for fault in found.faults] == [
        "app.sessions: the service role may not use its schema, and scenario_source.activities reads it",
        "app.sessions: the service role may not read it, and scenario_source.activities does",
    ]
    database.run(found.mending)
    assert not faults(database)


def test_a_copy_with_other_line_ends_is_no_fault(database: Database) -> None:
    """Git and editors change line ends; what PostgreSQL stores of a function has them."""
    for text in release_texts():
        database.run(text.replace("\n", "\r\n"))
    assert not faults(database)


def test_a_clock_that_is_off_is_a_fault(database: Database) -> None:
    """A minute is too much: a token's times, and what a person reads in the logs, would be wrong."""
    assert not verification(database, timedelta(seconds=59)).faults
    (ahead,) = verification(database, timedelta(seconds=75)).faults
    assert ahead.what == "this machine's clock is 75 s ahead of the database's"
    (behind,) = verification(database, -timedelta(hours=1)).faults
    assert behind.what == "this machine's clock is 3,600 s behind the database's"


def test_another_version_of_the_schema_is_said_alone(database: Database) -> None:
    """A library can't verify a schema that it does not know."""
    installed = CATALOGUE.validate_python(catalogue(database) | {"schema_version": 2})
    (fault,) = verified(installed, NO_SKEW).faults
    assert fault.what == "the schema: this library verifies version 1, the database has version 2"


def test_what_was_private_is_made_again(database: Database, worker: psycopg.Connection) -> None:
    """Somebody dropped the schema: the migrations make it again, verify mends the tables, and history is there."""
    (user,) = database.new_users(1)
    (outcome,) = claim(worker, [new_claim(user)])
    assert "id" in outcome
    database.run("drop schema scenario_private cascade")
    for text in release_texts():
        database.run(text)
    for _ in range(3):
        database.run(verification(database).mending)
    assert not faults(database)
    (held,) = claim(worker, [new_claim(user)])
    assert held["skip_reason"] == "cooldown"
