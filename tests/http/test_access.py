"""Who may do what over HTTP: every actor tries every act on every table, and calls every function.

Raw requests, not the repository's. The tables come from the list below, which a test holds against the catalogue, and
the functions from the catalogue itself: a new one has its acts, or fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, cast
from uuid import UUID, uuid4

import httpx
import jwt
import psycopg
import pytest

from scenario_repo._postgrest import FUNCTIONS, SCHEMA_VERSION
from tests.http.platform_differences import (
    EMBEDDING_REFUSED,
    FORGED_TOKEN,
    HEAD_OF_A_FUNCTION,
    HEAD_OF_A_STABLE_FUNCTION,
    OPENAPI_LISTS_TABLES,
)
from tests.http.scene import ACTORS, EXPIRED, FOREIGNER, MUTES, NEIGHBOUR, TABLES, TAMPERED, Scene
from tests.http.supabase_platform import Platform

NOBODYS_FUNCTIONS: Final = {"scenario_find_inactive_mentors"}
"""What the API offers and the library does not call."""


@pytest.fixture(scope="module")
def scene(platform: Platform) -> Iterator[Scene]:
    """Put the people there, once for all acts: none of them changes anything."""
    organization, another, third = uuid4(), uuid4(), uuid4()
    users = platform.new_users(4)
    people = dict(
        zip(
            ("owner", NEIGHBOUR, FOREIGNER, "newcomer"),
            zip(users, (organization, organization, another, third), strict=True),
            strict=True,
        )
    )
    with (
        psycopg.connect(platform.database_url, autocommit=True, prepare_threshold=None) as owner,
        httpx.Client(base_url=f"{platform.url}/rest/v1") as http,
    ):
        scene = Scene(platform, http, owner, people)
        for name in TABLES:
            for person in people:
                one_row_each = {"scenario_evaluation_config", "scenario_delivery_policy"}
                if person == "newcomer" or (person == NEIGHBOUR and name in one_row_each):
                    continue
                answer = scene.ask(
                    "service", "POST", name, json=scene.row(name, person), prefer="return=representation"
                )
                assert answer.status_code == 201, answer.text
                if name == "scenario_notifications":
                    scene.ids[person] = UUID(answer.json()[0]["id"])
        yield scene
        for table in "scenario_evaluation_config", "scenario_delivery_policy", "scenario_days_off":
            owner.execute(
                f"delete from public.{table} where organization_id = any(%s)".encode(),  # noqa: S608
                [[organization, another, third]],
            )
    platform.delete_users(users)


@pytest.fixture(params=list(ACTORS))
def actor(request: pytest.FixtureRequest) -> str:
    """Name each of those who may write nothing."""
    name: str = request.param
    return name


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Tell a refusal by its status and code."""
    return answer.status_code, answer.json()["code"] if answer.content else ""


def assert_refused(answer: httpx.Response, actor: str, what: str) -> None:
    """Take the actor's own refusal of this table or function for an answer, and not one of something inside it."""
    assert refusal(answer) == ACTORS[actor], what
    if answer.content and ACTORS[actor][1] == "42501":
        assert answer.json()["message"] == f"permission denied for {what}"


# The lists are complete --------------------------------------------------------------------------------------------


def test_every_table_and_view_of_the_schema_has_its_acts(platform: Platform) -> None:
    """A new relation that anybody could reach over HTTP has to be listed here."""
    found = platform.execute(
        "select relname from pg_class where relnamespace = 'public'::regnamespace"
        " and relkind in ('r', 'p', 'v', 'm', 'f') and not exists (select from pg_depend"
        " where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e')"
    )
    assert {name for (name,) in found} == {*TABLES, MUTES}


def test_every_function_of_the_schema_is_the_librarys(platform: Platform) -> None:
    """A function that the library does not call is on the list above, or is a mistake."""
    assert set(functions(platform)) == set(FUNCTIONS) | NOBODYS_FUNCTIONS


def test_what_the_api_describes_is_what_is_listed(platform: Platform, scene: Scene) -> None:
    """The OpenAPI root offers the worker these tables and functions, and a stranger nothing."""
    paths = set(scene.ask("service", "GET", "").json().get("paths", {})) - {"/"}
    expected = {f"/{name}" for name in (*TABLES, MUTES)} | {
        f"/rpc/{name}" for name in set(FUNCTIONS) | NOBODYS_FUNCTIONS
    }
    assert paths == (expected if OPENAPI_LISTS_TABLES.on(platform) else set())
    assert "scenario" not in scene.ask("anonymous", "GET", "").text


# Acts on tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_nobody_but_the_service_reads_more_than_their_own(scene: Scene, actor: str, table: str) -> None:
    """Select, count, HEAD and filters on foreign ids: one's own notifications, or a refusal."""
    column = TABLES[table].belongs
    place = 0 if column == "user_id" else 1
    own = scene.people[actor if actor in scene.people else "owner"][place]
    neighbour = scene.people[NEIGHBOUR if actor == "owner" else "owner"][place]
    foreign = scene.people["owner" if actor == FOREIGNER else FOREIGNER][place]
    ways = {
        "": ["select=*", f"{column}=not.is.null", "limit=1000&offset=0", f"order={column}.desc"],
        "some own": [
            f"or=({column}.eq.{foreign},{column}.eq.{own})",
            f"not.and=({column}.eq.{own},{column}.neq.{own})",
        ],
        "none": [
            f"{column}=eq.{foreign}",
            f"{column}=neq.{own}",
            f"{column}=in.({foreign})",
            f"or=({column}.eq.{neighbour},{column}.eq.{foreign})",
            f"or=({column}.neq.{own},and({column}.gt.{own},{column}.not.is.null))",
        ],
    }
    if table == "scenario_notifications":
        foreign_ids = ",".join(str(row) for person, row in scene.ids.items() if person != actor)
        ways["none"].append(f"id=in.({foreign_ids})")
        ways["some own"].append(f"or=(id.in.({foreign_ids}),user_id.eq.{own})")
    is_reader = actor in scene.people and TABLES[table].readable
    for kind, filters in ways.items():
        for wanted in filters if is_reader else filters[:1]:
            parameters = dict(httpx.QueryParams(wanted))
            answer = scene.ask(actor, "GET", table, params=parameters, prefer="count=exact")
            head = scene.ask(actor, "HEAD", table, params=parameters, prefer="count=exact")
            assert head.content == b""
            if is_reader:
                visible = [] if kind == "none" else [str(scene.ids[actor])]
                assert answer.status_code == head.status_code == 200
                assert [row["id"] for row in answer.json()] == visible, wanted
                for counted in (answer, head):
                    assert counted.headers["content-range"].endswith(f"/{len(visible)}"), wanted
            else:
                assert_refused(answer, actor, f"table {table}")
                assert head.status_code == ACTORS[actor][0], wanted
                assert "content-range" not in head.headers


@pytest.mark.parametrize("table", TABLES)
def test_nobody_but_the_service_writes(scene: Scene, actor: str, table: str) -> None:
    """Insert, upsert, update and delete, of one's own rows or another's, are refused and change nothing."""
    before = scene.contents()
    own_row = scene.row(table, actor if actor in scene.people else "owner")
    foreign_row: dict[str, object] = dict(scene.row(table, FOREIGNER))
    if table == "scenario_notifications":
        foreign_row["id"] = str(scene.ids[FOREIGNER])
    change, key = TABLES[table].change, {"on_conflict": TABLES[table].key}
    every = scene.whose(table, "owner", NEIGHBOUR, FOREIGNER)
    acts = {
        "insert": ("POST", {}, own_row, ""),
        "insert several": ("POST", {}, [own_row, scene.row(table, FOREIGNER)], ""),
        "upsert": ("POST", key, foreign_row | dict(change), "resolution=merge-duplicates"),
        "upsert, ignoring": ("POST", key, foreign_row, "resolution=ignore-duplicates"),
        "update and read back": ("PATCH", every, change, "return=representation"),
        "delete and read back": ("DELETE", every, None, "return=representation"),
    }
    for name, (method, parameters, body, prefer) in acts.items():
        answer = scene.ask(actor, method, table, params=parameters, json=body, prefer=prefer)
        assert_refused(answer, actor, f"table {table}")
        assert scene.contents() == before, name
    by_key = {name: f"eq.{foreign_row[name]}" for name in TABLES[table].key.split(",") if name in foreign_row}
    for name, parameters in {"its key": by_key, "an id": {"id": f"eq.{scene.ids['owner']}"}}.items():
        replaced = scene.ask(actor, "PUT", table, params=parameters, json=foreign_row)
        # PostgREST wants the primary key and nothing else, before it looks at anybody's rights.
        unfit = (405, "PGRST105")
        assert replaced.status_code in {400, 401, 403} or refusal(replaced) == unfit, (name, replaced.text)
        assert scene.contents() == before, name


def test_users_write_their_own_mutes_and_no_other(scene: Scene, actor: str) -> None:
    """Whoever is signed in adds, reads, changes and removes her own; of another's she sees nothing."""
    own = scene.people.get(actor, scene.people["owner"])[0]
    foreign = scene.people["owner" if actor == FOREIGNER else FOREIGNER][0]
    added = scene.ask("service", "POST", MUTES, json={"user_id": str(foreign)}, prefer="return=representation")
    assert added.status_code == 201
    mine = {"user_id": str(own), "scenario_type": "milestone"}
    answer = scene.ask(actor, "POST", MUTES, json=mine, prefer="return=representation")
    try:
        if actor not in scene.people:
            assert_refused(answer, actor, f"table {MUTES}")
            assert_refused(scene.ask(actor, "GET", MUTES), actor, f"table {MUTES}")
            return
        assert answer.status_code == 201, answer.text
        assert [row["user_id"] for row in scene.ask(actor, "GET", MUTES).json()] == [str(own)]
        stolen = scene.ask(actor, "POST", MUTES, json={"user_id": str(foreign), "scenario_type": "milestone"})
        assert refusal(stolen) == (403, "42501")
        unknown = scene.ask(actor, "POST", MUTES, json={"user_id": str(own), "scenario_type": "party"})
        assert refusal(unknown) == (400, "SR004")
        every = {"user_id": f"in.({own},{foreign})"}
        back = "return=representation"
        change = {"muted_until": "2030-01-01T00:00:00+00:00"}
        changed = scene.ask(actor, "PATCH", MUTES, params=every, json=change, prefer=back)
        assert [row["user_id"] for row in changed.json()] == [str(own)]
        removed = scene.ask(actor, "DELETE", MUTES, params=every, prefer=back)
        assert [row["user_id"] for row in removed.json()] == [str(own)]
    finally:
        scene.owner.execute("delete from public.scenario_mutes where user_id = any(%s)", [[own, foreign]])


def test_embedding_from_another_table_opens_nothing(scene: Scene, actor: str) -> None:
    """No table leads to another's rows, in either direction, nor to the users."""
    pairs = {(name, "scenario_notifications") for name in TABLES} | {
        ("scenario_notifications", name) for name in TABLES
    }
    for table, embedded in sorted(pairs | {("scenario_notifications", "users"), ("peer_mentors", "users")}):
        for way in (f"*,{embedded}(*)", f"*,...{embedded}!inner(user_id)"):
            status, code = refusal(scene.ask(actor, "GET", table, params={"select": way}))
            if ACTORS[actor] in (EXPIRED, TAMPERED):
                assert (status, code) == ACTORS[actor]
            else:
                allowed = EMBEDDING_REFUSED.on(scene.platform) | {ACTORS[actor][1]}
                assert (status >= 400, code in allowed) == (True, True), (table, way, status, code)


def test_other_schemas_are_not_there(scene: Scene, actor: str) -> None:
    """Neither the users nor the inside of scenario_repo can be reached by naming their schema."""
    for schema, name in (
        ("auth", "users"),
        ("scenario_private", "inactivity_rule"),
        ("scenario_source", "mentors"),
        ("pg_catalog", "pg_class"),
    ):
        answer = scene.ask(actor, "GET", name, headers={"Accept-Profile": schema})
        assert refusal(answer) in {(406, "PGRST106"), ACTORS[actor]}
    answer = scene.ask(actor, "POST", "rpc/claim", json={}, headers={"Content-Profile": "scenario_private"})
    assert refusal(answer) in {(406, "PGRST106"), ACTORS[actor]}


@pytest.mark.parametrize("forged", ["not.a.jwt", "unsigned"])
def test_a_forged_token_reads_nothing(scene: Scene, platform: Platform, forged: str) -> None:
    """What is no token, and a token with the algorithm none, are refused."""
    token = forged
    if forged == "unsigned":
        claims = jwt.decode(platform.access_token(scene.people["owner"][0]), options={"verify_signature": False})
        token = jwt.encode(claims, "", algorithm="none")
    answer = scene.ask("owner", "GET", "scenario_notifications", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    assert refusal(answer)[1] in FORGED_TOKEN.on(platform)


@pytest.mark.parametrize("table", TABLES)
def test_the_service_does_everything(scene: Scene, table: str) -> None:
    """The worker's key inserts, upserts, reads, counts, updates and deletes, and leaves others' rows alone."""
    before = scene.contents()
    own, change = scene.whose(table, "newcomer"), TABLES[table].change
    column, value = next(iter(change.items()))
    whole = "return=representation"
    inserted = scene.ask("service", "POST", table, json=scene.row(table, "newcomer"), prefer=whole)
    assert inserted.status_code == 201
    key = {name: inserted.json()[0][name] for name in TABLES[table].key.split(",")}
    merged = scene.ask(
        "service",
        "POST",
        table,
        params={"on_conflict": TABLES[table].key},
        json=scene.row(table, "newcomer") | (key if key.keys() != {"id"} or table != "activities" else {}),
        prefer="resolution=merge-duplicates",
    )
    assert merged.status_code in {200, 201}
    counted = scene.ask("service", "HEAD", table, params=own, prefer="count=exact")
    rows = 2 if table == "activities" else 1  # its id is always generated: nothing to conflict with
    assert counted.headers["content-range"].endswith(f"/{rows}")
    changed = scene.ask("service", "PATCH", table, params=own, json=change, prefer=whole)
    assert changed.status_code == 200
    assert {str(row[column])[:10] for row in changed.json()} == {str(value)[:10]}
    assert len(scene.ask("service", "DELETE", table, params=own, prefer=whole).json()) == rows
    assert scene.contents() == before


# Acts on functions -------------------------------------------------------------------------------------------------


def functions(platform: Platform) -> dict[str, list[tuple[str, str]]]:
    """Ask the catalogue for every function of the API, with the names and types of its arguments."""
    found = platform.execute(
        "select proname::text, to_jsonb(proargnames), to_jsonb(array(select format_type(type, null)"
        " from unnest(proargtypes) with ordinality as argument (type, n) order by n)) from pg_proc"
        " where pronamespace = 'public'::regnamespace and prorettype <> 'trigger'::regtype and not exists"
        " (select from pg_depend where classid = 'pg_proc'::regclass and objid = pg_proc.oid and deptype = 'e')"
    )
    return {name: list(zip(names, types, strict=False)) for name, names, types in cast("list[tuple[Any, ...]]", found)}


def stable_functions(platform: Platform) -> set[str]:
    """Ask the catalogue which functions only read, and say so."""
    found = platform.execute(
        "select proname::text from pg_proc where pronamespace = 'public'::regnamespace and provolatile <> 'v'"
    )
    return {str(name) for (name,) in found}


def arguments(called: list[tuple[str, str]], user_id: UUID, organization_id: UUID) -> dict[str, object]:
    """Make arguments of the right types, about these two."""
    by_type: dict[str, object] = {
        "uuid": str(organization_id),
        "uuid[]": [str(user_id)],
        "text": "inactivity",
        "text[]": ["inactivity"],
        "jsonb": [],
        "integer": 5,
        "bigint": 5,
        "double precision": 60,
        "boolean": True,
        "interval": "30 days",
        "timestamp with time zone": "2026-06-01T12:00:00Z",
    }
    by_name: dict[str, object] = {
        "p_user_id": str(user_id),
        "p_after": None,
        "p_time_zone": "Europe/Oslo",
        "p_changes": {"is_enabled": True},
        "p_needs_schema": SCHEMA_VERSION,
    }
    return {name: by_name.get(name, by_type[kind]) for name, kind in called}


def test_nobody_but_the_service_calls_a_function(scene: Scene, actor: str) -> None:
    """Every function of the catalogue, by POST, GET and HEAD, is refused before it runs."""
    before, stable = scene.contents(), stable_functions(scene.platform)
    for name, called in functions(scene.platform).items():
        given = arguments(called, *scene.people["owner"])
        in_url = {
            key: value if isinstance(value, str) else json.dumps(value).replace("[", "{").replace("]", "}")
            for key, value in given.items()
            if value is not None
        }
        assert_refused(scene.ask(actor, "POST", f"rpc/{name}", json=given), actor, f"function {name}")
        assert_refused(scene.ask(actor, "GET", f"rpc/{name}", params=in_url), actor, f"function {name}")
        head = scene.ask(actor, "HEAD", f"rpc/{name}", params=in_url)
        is_let_in = ACTORS[actor] not in (EXPIRED, TAMPERED)
        difference = HEAD_OF_A_STABLE_FUNCTION if name in stable and is_let_in else HEAD_OF_A_FUNCTION
        assert head.status_code in {ACTORS[actor][0]} | difference.on(scene.platform), name
        assert head.content == b""
    assert scene.contents() == before


def test_the_service_calls_every_function(scene: Scene) -> None:
    """The worker's key is answered with one JSON value."""
    for name, called in functions(scene.platform).items():
        answer = scene.ask("service", "POST", f"rpc/{name}", json=arguments(called, *scene.people["newcomer"]))
        assert answer.status_code == 200, (name, answer.text)
        assert isinstance(answer.json(), dict)
