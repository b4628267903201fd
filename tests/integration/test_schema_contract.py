"""What Python says about the database, against the live catalogue: names, types, values and bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from enum import StrEnum
from typing import Any, get_args, get_type_hints

import psycopg
import pytest

from scenario_repo import _postgrest
from scenario_repo._limits import MAX_METADATA_BYTES
from scenario_repo._translation import BY_CONSTRAINT
from scenario_repo.models import DeliveryStatus, NewScenarioNotification, ScenarioNotification, ScenarioType
from scenario_repo.settings import ScenarioSettings
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import PostgresServer

_DATABASE = "schema_contract"
# What a column's value is in the answer, in the words of JSON schema: type and format.
_JSON_TYPES = {
    "uuid": ("string", "uuid"),
    "text": ("string", None),
    "timestamp with time zone": ("string", "date-time"),
    "integer": ("integer", None),
    "jsonb": ("object", None),
    "ARRAY": ("array", None),
}


@pytest.fixture(scope="module")
def connection(postgres_server: PostgresServer) -> Iterator[psycopg.Connection]:
    """Connect to a freshly migrated database, to look at its catalogue."""
    url = postgres_server.create_database(_DATABASE)
    try:
        apply_migrations(url)
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            yield connection
    finally:
        postgres_server.drop_database(_DATABASE)


@pytest.fixture(scope="module")
def columns(connection: psycopg.Connection) -> dict[str, tuple[str, bool]]:
    """Read the columns of scenario_notifications: type, and whether null is allowed."""
    rows = connection.execute(
        "select column_name, data_type, is_nullable = 'YES' from information_schema.columns"
        " where table_schema = 'public' and table_name = %s",
        [_postgrest.NOTIFICATIONS],
    ).fetchall()
    return {name: (data_type, is_nullable) for name, data_type, is_nullable in rows}


def _check(connection: psycopg.Connection, name: str) -> str:
    """Return the definition of a CHECK of scenario_notifications."""
    row = connection.execute(
        "select pg_get_constraintdef(oid) from pg_constraint"
        " where conname = %s and conrelid = 'public.scenario_notifications'::regclass",
        [f"scenario_notifications_{name}"],
    ).fetchone()
    assert row is not None, f"there is no constraint scenario_notifications_{name}"
    return str(row[0])


def _resolved(kind: dict[str, Any]) -> dict[str, Any]:
    """Follow a JSON schema's reference to the definition of an enum."""
    reference = str(kind.get("$ref", ""))
    definitions: dict[str, dict[str, Any]] = ScenarioNotification.model_json_schema().get("$defs", {})
    return definitions[reference.rpartition("/")[2]] if reference else kind


def test_seam_reads_the_columns_that_exist(columns: dict[str, tuple[str, bool]]) -> None:
    """Every column that a look-up names is a column of the table."""
    assert set(_postgrest.NOTIFICATION_COLUMNS) <= columns.keys()


def test_every_setting_has_a_field(connection: psycopg.Connection) -> None:
    """A column of the settings that is forgotten in ScenarioSettings is named; figures of passes are no settings."""
    rows = connection.execute(
        "select column_name, data_type from information_schema.columns"
        " where table_schema = 'public' and table_name = %s",
        [_postgrest.SETTINGS],
    ).fetchall()
    figures = {"id", "resume_after"}
    columns = {name: kind for name, kind in rows if not name.startswith("pass_") and name not in figures}
    assert columns.keys() == set(ScenarioSettings.model_fields) == set(_postgrest.SETTINGS_COLUMNS)
    kinds = {"interval": timedelta, "boolean": bool, "integer": int, "smallint": int, "ARRAY": tuple[int, ...]}
    hints = get_type_hints(ScenarioSettings)
    assert {name: get_args(hints[name])[0] for name, kind in columns.items() if kind in kinds} == {
        name: kinds[kind] for name, kind in columns.items() if kind in kinds
    }


def test_every_check_of_what_an_operator_writes_has_its_sentence(connection: psycopg.Connection) -> None:
    """A CHECK of a setting, a policy or a day off that is added or renamed is named here."""
    rows = connection.execute(
        "select conname from pg_constraint where contype = 'c' and conname not like '%%_scenario_type_is_known'"
        " and conrelid = any (%s::regclass[])",
        [[f"public.{name}" for name in (_postgrest.SETTINGS, "scenario_delivery_policy", "scenario_days_off")]],
    ).fetchall()
    assert {name for (name,) in rows} == set(BY_CONSTRAINT)


def test_every_model_field_is_read() -> None:
    """The columns that are read are the fields of the model, no more and no fewer."""
    assert set(_postgrest.NOTIFICATION_COLUMNS) == set(ScenarioNotification.model_fields)


@pytest.mark.parametrize("name", ScenarioNotification.model_fields)
def test_field_fits_its_column(columns: dict[str, tuple[str, bool]], name: str) -> None:
    """A field has its column's type, and takes None exactly when the column may be null."""
    data_type, is_nullable = columns[name]
    schema = ScenarioNotification.model_json_schema()["properties"][name]
    kinds = [_resolved(kind) for kind in schema.get("anyOf", [schema])]
    assert ({"type": "null"} in kinds) is is_nullable
    expected_type, expected_format = _JSON_TYPES[data_type]
    for kind in kinds:
        if kind != {"type": "null"}:
            assert (kind["type"], kind.get("format")) == (expected_type, expected_format)


@pytest.mark.parametrize("name", NewScenarioNotification.model_fields)
def test_new_field_is_a_column(columns: dict[str, tuple[str, bool]], name: str) -> None:
    """What an insert sends has a column to go to."""
    assert name in columns


def test_required_columns_are_required_in_python(connection: psycopg.Connection) -> None:
    """A new notification has to give exactly the columns that have neither default nor null.

    One of these a trigger fills, by the settings: until when a plain insert is handed out.
    """
    rows = connection.execute(
        "select column_name from information_schema.columns where table_schema = 'public' and table_name = %s"
        " and is_nullable = 'NO' and column_default is null and is_generated = 'NEVER'",
        [_postgrest.NOTIFICATIONS],
    ).fetchall()
    required = {name for name, field in NewScenarioNotification.model_fields.items() if field.is_required()}
    assert {name for (name,) in rows} == required | {"deliver_until"}


@pytest.mark.parametrize(("enum", "column"), [(ScenarioType, "scenario_type"), (DeliveryStatus, "delivery_status")])
def test_enum_has_the_values_of_its_check(connection: psycopg.Connection, enum: type[StrEnum], column: str) -> None:
    """The database knows the same words as the enum."""
    values = re.findall(r"'([a-z_]+)'::text", _check(connection, f"{column}_is_known"))
    assert sorted(values) == sorted(enum)


def test_default_status_is_the_same(connection: psycopg.Connection) -> None:
    """A notification without a status is pending, whoever writes it."""
    row = connection.execute(
        "select pg_get_expr(adbin, adrelid) from pg_attrdef"
        " join pg_attribute on attrelid = adrelid and attnum = adnum"
        " where adrelid = 'public.scenario_notifications'::regclass and attname = 'delivery_status'"
    ).fetchone()
    assert row == (f"'{DeliveryStatus.PENDING}'::text",)
    assert NewScenarioNotification.model_fields["delivery_status"].default is DeliveryStatus.PENDING


def test_metadata_has_the_same_bound(connection: psycopg.Connection) -> None:
    """Python refuses metadata at the size where the database does."""
    bounds = re.findall(r"octet_length\(.*?\) <= (\d+)", _check(connection, "metadata_is_at_most_8_kib"))
    assert bounds == [str(MAX_METADATA_BYTES)]


def test_milestone_fits_the_column(columns: dict[str, tuple[str, bool]]) -> None:
    """The highest milestone that Python lets pass is the highest that the column can keep."""
    assert columns["milestone_value"][0] == "integer"
    schema = NewScenarioNotification.model_json_schema()["properties"]["milestone_value"]
    bounds = next(kind for kind in schema["anyOf"] if kind["type"] == "integer")
    assert (bounds["exclusiveMinimum"], bounds["exclusiveMaximum"]) == (0, 2**31)


def test_seam_calls_functions_by_their_arguments(connection: psycopg.Connection) -> None:
    """PostgREST finds a function by its argument names: the seam has them as the catalogue has, and in its order."""
    rows = connection.execute(
        "select proname, proargnames[:pronargs] from pg_proc where pronamespace = 'public'::regnamespace"
    ).fetchall()
    catalogue = {name: tuple(arguments or ()) for name, arguments in rows}
    expected = {name: (*arguments, "p_needs_schema") for name, arguments in _postgrest.FUNCTIONS.items()}
    assert {name: catalogue.get(name) for name in expected} == expected
