"""Which relations and columns a server's message names, and that it names nothing else."""

from __future__ import annotations

import httpx
import pytest
import respx

from scenario_repo import PermissionDeniedException, ScenarioNotificationRepository, connect_as_user
from scenario_repo._named import Named, named_in
from tests.factories import PROJECT_URL, PUBLISHABLE_KEY, USER_ID, minted_jwt

MESSAGES = [
    ("42501", "permission denied for table activities", Named("table", "activities")),
    ("42501", "permission denied for materialized view people", Named("materialized view", "people")),
    ("42501", "permission denied for schema app", Named("schema", "app")),
    ("42501", 'new row violates row-level security policy for table "x"', Named("table", "x")),
    ("42501", 'new row violates row-level security policy "p" for table "x"', Named("table", "x")),
    ("42P01", 'relation "public.activities" does not exist', Named("relation", "public.activities")),
    ("3F000", 'schema "scenario_source" does not exist', Named("schema", "scenario_source")),
    ("42703", 'column "kind" of relation "certifications" does not exist', Named("relation", "certifications", "kind")),
    ("42703", "column activity.held_at does not exist", Named(column="held_at")),
    ("42883", "function public.gone(uuid, integer) does not exist", Named("function", "public.gone")),
    (
        "23502",
        'null value in column "user_id" of relation "scenario_notifications" violates not-null constraint',
        Named("relation", "scenario_notifications", "user_id"),
    ),
    (
        "23514",
        'new row for relation "scenario_mutes" violates check constraint "scenario_mutes_x"',
        Named("relation", "scenario_mutes"),
    ),
    (
        "23503",
        'insert or update on table "scenario_mutes" violates foreign key constraint "scenario_mutes_user_id_fkey"',
        Named("table", "scenario_mutes"),
    ),
    (
        "PGRST205",
        "Could not find the table 'public.scenario_mutes' in the schema cache",
        Named("table", "public.scenario_mutes"),
    ),
    (
        "PGRST204",
        "Could not find the 'subjects' column of 'scenario_notifications' in the schema cache",
        Named(None, "scenario_notifications", "subjects"),
    ),
    (
        "PGRST202",
        "Could not find the function public.scenario_explain(p_user_id) in the schema cache",
        Named("function", "public.scenario_explain"),
    ),
]


@pytest.mark.parametrize(("code", "message", "named"), MESSAGES)
def test_a_message_names_catalogue_objects(code: str, message: str, named: Named) -> None:
    """As PostgreSQL and PostgREST write it."""
    assert named_in(code, message) == named


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("22P02", 'invalid input syntax for type uuid: "ola@example.no"'),
        ("42501", "keine Berechtigung für Tabelle activities"),
        ("42501", "permission denied for table activities, says ola@example.no"),
        ("42501", 'permission denied for table "ola@example.no"'),
        ("42703", 'column "ola nordmann" does not exist'),
        ("P0001", "permission denied for table activities"),
        (None, "permission denied for table activities"),
        ("42501", None),
    ],
)
def test_anything_else_names_nothing(code: str | None, message: str | None) -> None:
    """What may quote a row or a person is not taken apart."""
    assert named_in(code, message) == Named()


async def test_a_worker_is_told_the_grant(repository: ScenarioNotificationRepository, rest: respx.MockRouter) -> None:
    """An app's table that is granted to nobody is no matter of the key."""
    refusal = {"code": "42501", "message": "permission denied for table activities", "hint": None, "details": None}
    rest.post("/rpc/scenario_get_schema").mock(return_value=httpx.Response(403, json=refusal))
    with pytest.raises(PermissionDeniedException) as denied:
        await repository.describe_schema()
    assert str(denied.value) == (
        "describe_schema: the service role may not use the table activities: run `grant select on activities to"
        " service_role` (`scenario-repo verify` lists every grant that is missing)"
        " (code 42501, relation activities, HTTP 403)"
    )
    assert denied.value.relation == "activities"


async def test_a_user_is_told_that_a_worker_may(rest: respx.MockRouter) -> None:
    """A grant to her is the last thing to advise."""
    refusal = {"code": "42501", "message": "permission denied for function scenario_get_schema"}
    rest.post("/rpc/scenario_get_schema").mock(return_value=httpx.Response(403, json=refusal))
    token = minted_jwt("authenticated", sub=str(USER_ID))
    async with connect_as_user(token, PROJECT_URL, PUBLISHABLE_KEY) as client:
        with pytest.raises(PermissionDeniedException, match="a user's key or token may not do this with the function"):
            await ScenarioNotificationRepository(client).describe_schema()
