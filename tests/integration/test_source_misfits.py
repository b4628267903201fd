"""An app's own tables that fit as they are, and those that don't: one message, and nothing is made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import psycopg
import pytest

from tests.integration.database import Database
from tests.integration.delivery import lease
from tests.integration.evaluation import evaluate
from tests.postgres.migrations import apply_migrations, schema_dump
from tests.postgres.server import SUPERUSER, PostgresServer

_numbers = count(1)
_GRANTS = "grant select on all tables in schema public to service_role"
_MENTORS = "create table public.peer_mentors (user_id uuid, organization_id uuid, is_active boolean);"
_ACTIVITIES = "create table public.activities (user_id uuid, activity_date timestamptz);"
_CERTIFICATIONS = (
    "create table public.certifications (id uuid, user_id uuid, organization_id uuid, expires_at timestamptz);"
)
_DEVICES = "create table public.device_tokens (user_id uuid, token text, platform text);"


@pytest.fixture
def app(postgres_server: PostgresServer) -> Iterator[Database]:
    """Make a new project's database, where a new table is granted to nobody."""
    name = f"app_{next(_numbers)}"
    database = Database(postgres_server.create_database(name))
    database.run(
        "alter default privileges for role postgres in schema public"
        " revoke all on tables from anon, authenticated, service_role",
    )
    yield database
    postgres_server.drop_database(name)


def _name(database: Database) -> str:
    return database.url.rpartition("/")[2]


def _refusal(database: Database) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.Error) as caught:
        apply_migrations(database.url)
    assert caught.value.sqlstate == "SR007", caught.value
    return caught.value.diag


def _misfits(database: Database) -> list[str]:
    text, _, _ = (_refusal(database).message_primary or "").partition("\nRemedy: ")
    message, *misfits = text.splitlines()
    assert message == "this project's own tables don't have what scenario_repo reads; nothing was changed"
    return [misfit.removeprefix("  ") for misfit in misfits]


def _remedies(database: Database) -> list[str]:
    _, _, remedies = (_refusal(database).message_primary or "").partition("\nRemedy: in a migration before this one, ")
    return remedies.split("\n  ")


# What does not fit --------------------------------------------------------------------------------

MISFITS = {
    "a column is missing": (
        "create table public.peer_mentors (user_id uuid, organization_id uuid);",
        ["public.peer_mentors.is_active: expected boolean, got no such column"],
    ),
    "a column was dropped": (
        f"{_MENTORS} alter table public.peer_mentors drop column is_active;",
        ["public.peer_mentors.is_active: expected boolean, got no such column"],
    ),
    "ids are text": (
        "create table public.activities (user_id text, activity_date timestamptz);",
        ["public.activities.user_id: expected uuid, got text"],
    ),
    "a date instead of an instant": (
        "create table public.activities (user_id uuid, activity_date date);",
        ["public.activities.activity_date: expected timestamp with time zone, got date"],
    ),
    "an instant without a time zone": (
        "create table public.activities (user_id uuid, activity_date timestamp(3));",
        ["public.activities.activity_date: expected timestamp with time zone, got timestamp(3) without time zone"],
    ),
    "names in mixed case": (
        'create table public.activities ("userId" uuid, "activityDate" timestamptz);',
        [
            "public.activities.activity_date: expected timestamp with time zone, got no such column",
            "public.activities.user_id: expected uuid, got no such column",
        ],
    ),
    "a token that is no text": (
        "create table public.device_tokens (user_id uuid, token jsonb, platform integer);",
        [
            "public.device_tokens.platform: expected text, got integer",
            "public.device_tokens.token: expected text, got jsonb",
        ],
    ),
    "no id": (
        (
            "create table public.certifications"
            " (user_id uuid, organization_id uuid, kind text, expires_at timestamptz, primary key (user_id, kind));"
        ),
        ["public.certifications.id: expected a column, got no such column"],
    ),
    "a domain over another type": (
        (
            "create domain public.person as text;"
            "create table public.activities (user_id public.person, activity_date timestamptz);"
        ),
        ["public.activities.user_id: expected uuid, got person"],
    ),
    "a domain over an instant": (
        (
            "create domain public.instant as timestamptz;"
            "create table public.activities (user_id uuid, activity_date public.instant);"
        ),
        ["public.activities.activity_date: expected timestamp with time zone, got instant"],
    ),
    "an array": (
        "create table public.device_tokens (user_id uuid, token text[], platform text);",
        ["public.device_tokens.token: expected text, got text[]"],
    ),
    "a view without the columns": (
        "create view public.activities as select 1 as user_id;",
        [
            "public.activities.activity_date: expected timestamp with time zone, got no such column",
            "public.activities.user_id: expected uuid, got integer",
        ],
    ),
    "a sequence": (
        "create sequence public.activities;",
        ["public.activities: expected a table or view, got a sequence"],
    ),
    "an index": (
        "create table public.visits (at date); create index activities on public.visits (at);",
        ["public.activities: expected a table or view, got an index"],
    ),
    "a composite type": (
        "create type public.activities as (user_id uuid, activity_date timestamptz);",
        ["public.activities: expected a table or view, got a type"],
    ),
    "an enum": (
        "create type public.activities as enum ('call', 'meeting');",
        ["public.activities: expected a table or view, got a type"],
    ),
    "a domain": (
        "create domain public.device_tokens as text;",
        ["public.device_tokens: expected a table or view, got a type"],
    ),
    "a source view with a wrong type and without a column": (
        (
            "create schema scenario_source;"
            "create view scenario_source.certificates as select 1::bigint as certificate_id, null::uuid as user_id,"
            "  null::uuid as organization_id, now()::date as expires_at;"
        ),
        [
            "scenario_source.certificates.certificate_id: expected text, got bigint",
            "scenario_source.certificates.expires_at: expected timestamp with time zone, got date",
            "scenario_source.certificates.kind: expected text, got no such column",
        ],
    ),
    "a source view whose types are only alike": (
        (
            "create schema scenario_source; create domain public.person as uuid;"
            "create view scenario_source.device_tokens as"
            "  select null::public.person as user_id, 'x'::varchar(9) as token, 'y'::text as platform,"
            "    1 as registered_at;"
        ),
        [
            "scenario_source.device_tokens.registered_at: expected timestamp with time zone, got integer",
            "scenario_source.device_tokens.token: expected text, got character varying(9)",
            "scenario_source.device_tokens.user_id: expected uuid, got person",
        ],
    ),
    "a sequence in the place of a source view": (
        f"create schema scenario_source; create sequence scenario_source.mentors; {_MENTORS}",
        ["scenario_source.mentors: expected a table or view, got a sequence"],
    ),
    "everything at once": (
        (
            "create table public.activities (mentor_id uuid, occurred_on date);"
            "create table public.device_tokens (profile_id uuid, fcm_token text, os text);"
            "create table public.peer_mentors (user_id text, organization_id uuid);"
            "create sequence public.certifications;"
        ),
        [
            "public.activities.activity_date: expected timestamp with time zone, got no such column",
            "public.activities.user_id: expected uuid, got no such column",
            "public.certifications: expected a table or view, got a sequence",
            "public.device_tokens.platform: expected text, got no such column",
            "public.device_tokens.token: expected text, got no such column",
            "public.device_tokens.user_id: expected uuid, got no such column",
            "public.peer_mentors.is_active: expected boolean, got no such column",
            "public.peer_mentors.user_id: expected uuid, got text",
        ],
    ),
}


@pytest.mark.needs("pg_dump")
@pytest.mark.parametrize("name", MISFITS)
def test_misfits_are_told_in_one_message_and_nothing_is_made(
    postgres_server: PostgresServer, app: Database, name: str
) -> None:
    """All that does not fit is listed, and the database is as it was."""
    tables, expected = MISFITS[name]
    app.run(tables)
    app.run(_GRANTS)
    before = schema_dump(postgres_server, _name(app))
    assert _misfits(app) == expected
    assert schema_dump(postgres_server, _name(app)) == before


def test_the_remedy_names_the_views_to_create(app: Database) -> None:
    """Those of the tables that don't fit, each once, and the guide that shows how."""
    app.run(MISFITS["everything at once"][0].replace("create sequence public.certifications;", _CERTIFICATIONS))
    app.run(_GRANTS)
    assert (_refusal(app).message_primary or "").splitlines()[-1] == (
        "Remedy: in a migration before this one, create or correct the views that translate your tables:"
        " scenario_source.activities, scenario_source.device_tokens, scenario_source.mentors (docs/own-tables.md)."
    )


def test_a_table_of_another_owner_is_told(postgres_server: PostgresServer, app: Database) -> None:
    """Only a table's owner can index it."""
    with closing(psycopg.connect(postgres_server.url(_name(app), SUPERUSER), autocommit=True)) as superuser:
        superuser.execute(f"{_ACTIVITIES} {_GRANTS}".encode())
    assert _misfits(app) == ["public.activities: expected the owner postgres, got supabase_admin"]


def test_a_mapping_that_is_there_later_is_taken(app: Database) -> None:
    """After the refusal: the app's own migration, and ours again."""
    app.run(f"create table public.activities (mentor_id uuid, at timestamptz); {_GRANTS}")
    assert len(_misfits(app)) == 2
    app.run(
        "create schema scenario_source;"
        "create view scenario_source.activities with (security_invoker = true) as"
        "  select activity.mentor_id as user_id, activity.at as activity_date from public.activities as activity;",
    )
    apply_migrations(app.url)


# What can't be read, and what has a name of ours ----------------------------------------------------

FOUND = {
    "a table that is granted to nobody": (
        _ACTIVITIES,
        ["public.activities: expected select for service_role, got no such grant"],
        ["grant select on public.activities to service_role;"],
    ),
    "the tables behind a view, which runs with the rights of its reader": (
        (
            "create table public.visits (by uuid, at timestamptz);"
            "create view public.activities with (security_invoker = on) as"
            "  select by as user_id, at as activity_date from public.visits;"
            "grant select on public.activities to service_role;"
        ),
        ["public.visits: expected select for service_role, got no such grant"],
        ["grant select on public.visits to service_role;"],
    ),
    "the tables behind a source view": (
        (
            'create table public."Visits" (by uuid, at timestamptz); create schema scenario_source;'
            "create view scenario_source.activities with (security_invoker = true) as"
            '  select by as user_id, at as activity_date from public."Visits";'
        ),
        ['public."Visits": expected select for service_role, got no such grant'],
        ['grant select on public."Visits" to service_role;'],
    ),
    "an index of our name on other columns": (
        (
            f"{_ACTIVITIES} {_GRANTS};"
            "create index activities_user_id_activity_date_idx on public.activities (activity_date);"
        ),
        [
            (
                "public.activities_user_id_activity_date_idx: expected an index on public.activities user_id,"
                " activity_date, got one on public.activities USING btree (activity_date)"
            )
        ],
        ["drop index public.activities_user_id_activity_date_idx; -- or rename it"],
    ),
    "an index of our name for some of the rows": (
        (
            f"{_MENTORS} {_GRANTS};"
            "create index peer_mentors_active_by_user_idx on public.peer_mentors (user_id, organization_id);"
        ),
        [
            (
                "public.peer_mentors_active_by_user_idx: expected an index on public.peer_mentors user_id,"
                " organization_id WHERE is_active, got one on"
                " public.peer_mentors USING btree (user_id, organization_id)"
            )
        ],
        ["drop index public.peer_mentors_active_by_user_idx; -- or rename it"],
    ),
    "a table of an index's name": (
        "create table public.certifications_user_id_expires_at_idx ();",
        [
            (
                "public.certifications_user_id_expires_at_idx: expected an index on public.certifications user_id,"
                " expires_at, got no index"
            )
        ],
        ["rename public.certifications_user_id_expires_at_idx: an index gets this name"],
    ),
    "tables of our names": (
        "create table public.scenario_notifications (id uuid); create view public.scenario_mutes as select 1 as n;",
        [
            "public.scenario_mutes: expected no such table or type, got one that is not scenario_repo's",
            "public.scenario_notifications: expected no such table or type, got one that is not scenario_repo's",
        ],
        [
            "alter table public.scenario_mutes rename to …; -- or another schema",
            "alter table public.scenario_notifications rename to …; -- or another schema",
        ],
    ),
    "a schema of the app's that is out of reach": (
        (
            'create schema "App"; create table "App".visits (by uuid, at timestamptz); create schema scenario_source;'
            "create view scenario_source.activities with (security_invoker = true) as"
            '  select by as user_id, at as activity_date from "App".visits;'
        ),
        [
            '"App".visits: expected select for service_role, got no such grant',
            'schema "App": expected usage for service_role, got no such grant',
        ],
        ['grant select on "App".visits to service_role;', 'grant usage on schema "App" to service_role;'],
    ),
    "a type of our name": (
        "create type public.scenario_notifications as enum ('a');",
        ["public.scenario_notifications: expected no such table or type, got one that is not scenario_repo's"],
        ["alter type public.scenario_notifications rename to …; -- or another schema"],
    ),
    "columns and grants at once": (
        "create table public.activities (user_id uuid, occurred_on date);",
        [
            "public.activities.activity_date: expected timestamp with time zone, got no such column",
            "public.activities: expected select for service_role, got no such grant",
        ],
        [
            "create or correct the views that translate your tables: scenario_source.activities (docs/own-tables.md).",
            "grant select on public.activities to service_role;",
        ],
    ),
}


@pytest.mark.needs("pg_dump")
@pytest.mark.parametrize("name", FOUND)
def test_what_would_fail_later_is_told_with_its_remedy(
    postgres_server: PostgresServer, app: Database, name: str
) -> None:
    """A missing grant, an index and a table that only has our name: found before anything is made."""
    tables, misfits, remedies = FOUND[name]
    app.run(tables)
    before = schema_dump(postgres_server, _name(app))
    assert _misfits(app) == misfits
    assert _remedies(app) == remedies
    assert schema_dump(postgres_server, _name(app)) == before


def test_an_invalid_index_is_told(app: Database) -> None:
    """A failed concurrent build leaves one: it has the name, and no query uses it."""
    app.run(f"{_ACTIVITIES} {_GRANTS}")
    for _ in range(2):
        app.run("insert into public.activities values (null, '2026-01-01')")
    with app.connect(role=None) as owner, pytest.raises(psycopg.errors.UniqueViolation):
        owner.execute(
            "create unique index concurrently activities_user_id_activity_date_idx"
            " on public.activities (user_id, activity_date) nulls not distinct"
        )
    assert _misfits(app) == [
        (
            "public.activities_user_id_activity_date_idx: expected an index on public.activities user_id,"
            " activity_date, got an invalid one, as a failed build leaves it"
        )
    ]
    assert _remedies(app) == ["reindex index public.activities_user_id_activity_date_idx; -- or drop it"]


def test_a_grant_of_the_columns_will_do(app: Database) -> None:
    """An app may show the service role no more than is read."""
    app.run(f"{_ACTIVITIES} grant select (user_id, activity_date) on public.activities to service_role")
    apply_migrations(app.url)
    with app.connect() as worker:
        assert evaluate(worker, "inactivity")["evaluated"] == 0


def test_an_index_with_further_columns_will_do(app: Database) -> None:
    """What our index would serve, it serves too."""
    app.run(
        f"{_CERTIFICATIONS} {_GRANTS};"
        "create index certifications_user_id_expires_at_idx on public.certifications"
        "  (user_id, expires_at) include (organization_id);",
    )
    apply_migrations(app.url)


# What fits ----------------------------------------------------------------------------------------

FITTING = {
    "tables": f"{_MENTORS} {_ACTIVITIES} {_CERTIFICATIONS} {_DEVICES}",
    "more columns, in another order": """
        create table public.peer_mentors (
          is_active boolean, note text, organization_id uuid, joined_at timestamptz, user_id uuid
        );
        create table public.certifications (
          kind varchar(40), expires_at timestamptz(3), organization_id uuid, user_id uuid, id bigint
        );
    """,
    "ids of certificates in text": """
        create table public.certifications (id text, user_id uuid, organization_id uuid, expires_at timestamptz);
    """,
    "domains": """
        create domain public.person as uuid check (value <> '00000000-0000-0000-0000-000000000000');
        create domain public.yes as boolean;
        create domain public.push_token as varchar(4096);
        create table public.peer_mentors (user_id public.person, organization_id public.person, is_active public.yes);
        create table public.activities (user_id public.person, activity_date timestamptz(6));
        create table public.device_tokens (user_id public.person, token public.push_token, platform char(7));
    """,
    "citext and an enum": """
        create type public.platform as enum ('ios', 'android');
        create table public.device_tokens (user_id uuid, token extensions.citext, platform public.platform);
    """,
    "views": f"""
        create schema app;
        create table app.visits (by uuid, at timestamptz);
        create view public.activities as select by as user_id, at as activity_date from app.visits;
        {_MENTORS}
        alter table public.peer_mentors rename to people;
        create view public.peer_mentors as table public.people;
        grant usage on schema app to service_role;
        grant select on app.visits to service_role;
    """,  # noqa: S608 (a constant)
    "materialised views": f"""
        {_MENTORS}
        alter table public.peer_mentors rename to people;
        create materialized view public.peer_mentors as table public.people;
    """,
    "partitioned tables": """
        create table public.activities (user_id uuid, activity_date timestamptz) partition by range (activity_date);
        create table public.activities_all partition of public.activities default;
        create table public.peer_mentors (user_id uuid, organization_id uuid, is_active boolean)
        partition by hash (user_id);
        create table public.peer_mentors_0 partition of public.peer_mentors for values with (modulus 1, remainder 0);
    """,
    "functions of these names": """
        create function public.activities() returns integer language sql as 'select 1';
        create function public.peer_mentors(uuid) returns boolean language sql as 'select true';
    """,
    "types in another schema": "create schema app; create type app.activities as enum ('call');",
    "a sequence that has the name of ours": "create sequence public.activities_id_seq;",
    "other objects in scenario_source": """
        create schema scenario_source;
        create table scenario_source.log (at timestamptz);
        create view scenario_source.people as select gen_random_uuid() as id;
        create function scenario_source.mentors() returns integer language sql as 'select 1';
    """,
    "source views of every kind": """
        create schema scenario_source;
        create table scenario_source.mentors (organization_id uuid, user_id uuid, is_active boolean, note text);
        create materialized view scenario_source.activities as
          select null::uuid as user_id, null::timestamptz(3) as activity_date where false;
        create view scenario_source.device_tokens as
          select null::timestamptz as registered_at, null::text as token, null::uuid as user_id, null::text as platform
          where false;
    """,
}


@pytest.mark.needs("pg_dump")
@pytest.mark.parametrize("name", FITTING)
def test_what_fits_is_read_as_it_is(postgres_server: PostgresServer, app: Database, name: str) -> None:
    """The migrations run twice, and every scenario can be evaluated over the app's relations."""
    if "citext" in FITTING[name]:
        # On the platform `postgres` may create extensions.
        with closing(psycopg.connect(postgres_server.url(_name(app), SUPERUSER), autocommit=True)) as superuser:
            superuser.execute("create extension citext with schema extensions")
    app.run(FITTING[name])
    app.run(_GRANTS)
    apply_migrations(app.url)
    first = schema_dump(postgres_server, _name(app))
    apply_migrations(app.url)
    assert schema_dump(postgres_server, _name(app)) == first
    with app.connect() as worker:
        for scenario_type in ("inactivity", "milestone", "certification_expiry", "welcome_back"):
            assert evaluate(worker, scenario_type)["evaluated"] == 0
        assert lease(worker) == []


@pytest.mark.parametrize(
    ("columns", "registered"),
    [
        ("", None),
        (", created_at timestamptz default '2026-01-01'", 1),
        (", created_at timestamptz default '2026-01-01', registered_at timestamptz default '2026-02-01'", 2),
        (", created_at timestamptz default '2026-01-01', registered_at date default '2026-02-01'", 1),
    ],
)
def test_a_device_is_registered_when_its_table_says(app: Database, columns: str, registered: int | None) -> None:
    """By registered_at or created_at, the first of them that is an instant; else that is not known."""
    app.run(f"{_DEVICES.removesuffix(');')}{columns}); {_GRANTS}")
    apply_migrations(app.url)
    app.run("insert into public.device_tokens (user_id, token, platform) values (gen_random_uuid(), 'x', 'ios')")
    with app.connect(role=None) as owner:
        query = (
            "select extract(month from registered_at at time zone 'UTC')::integer from scenario_source.device_tokens"
        )
        assert owner.execute(query).fetchone() == (registered,)


def test_a_foreign_table_is_read_as_it_is(postgres_server: PostgresServer, app: Database) -> None:
    """Without an index: that is the other server's."""
    with closing(psycopg.connect(postgres_server.url(_name(app), SUPERUSER), autocommit=True)) as superuser:
        try:
            superuser.execute("create extension postgres_fdw with schema extensions")
        except psycopg.errors.FeatureNotSupported:
            pytest.skip("missing: postgres_fdw")
        superuser.execute("""
            create server elsewhere foreign data wrapper postgres_fdw;
            create foreign table public.activities (user_id uuid, activity_date timestamptz) server elsewhere;
            grant select on public.activities to service_role;
        """)
    apply_migrations(app.url)
    with app.connect(role=None) as owner:
        definition = owner.execute("select pg_get_viewdef('scenario_source.activities'::regclass)").fetchone()
    assert definition is not None
    assert "FROM activities" in definition[0]


@pytest.mark.parametrize("user_id", ["uuid", "public.person"])
@pytest.mark.parametrize("activity_date", ["timestamptz", "timestamptz(3)"])
def test_domains_and_precisions_keep_the_index_in_use(app: Database, user_id: str, activity_date: str) -> None:
    """What the default views cast, and what they don't: a condition and an order still reach the index."""
    app.run(
        "create domain public.person as uuid;"
        f"create table public.activities (user_id {user_id}, activity_date {activity_date}); {_GRANTS}",
    )
    apply_migrations(app.url)
    app.run(
        "insert into public.activities select md5((n % 500)::text)::uuid, now() - n * interval '1 minute'"
        " from generate_series(1, 10000) as n; analyze public.activities",
    )
    with app.connect(role=None) as owner:
        plan = "\n".join(
            line
            for (line,) in owner.execute(
                "explain (costs off) select activity_date from scenario_source.activities"
                " where user_id = md5('7')::uuid and activity_date <= now() order by activity_date desc limit 1"
            )
        )
    assert re.search(r"Index Only Scan Backward using activities_user_id_activity_date_idx", plan), plan
    assert re.search(r"Index Cond: .*user_id.* AND .*activity_date", plan), plan
    assert "Sort" not in plan, plan


# What is the app's stays the app's ----------------------------------------------------------------


def test_our_sequence_is_closed_and_the_apps_keeps_its_grants(app: Database) -> None:
    """The new table's sequence has another name where the app has one of the usual name."""
    app.run("create sequence public.activities_id_seq; grant usage on sequence public.activities_id_seq to anon")
    apply_migrations(app.url)
    with app.connect(role=None) as owner:
        allowed = owner.execute("""
            select has_sequence_privilege('anon', 'public.activities_id_seq', 'usage'),
              has_sequence_privilege('anon', pg_get_serial_sequence('public.activities', 'id'), 'usage')
        """).fetchone()
    assert allowed == (True, False)


def test_an_apps_own_objects_keep_their_comments(app: Database) -> None:
    """Also an index of the very name that ours would have, and a source view."""
    app.run(
        f"""
        {_ACTIVITIES}
        create index on public.activities (user_id, activity_date);
        comment on index public.activities_user_id_activity_date_idx is 'the app''s own';
        create schema scenario_source;
        create view scenario_source.activities as table public.activities;
        comment on view scenario_source.activities is 'the app''s own';
        {_CERTIFICATIONS}
        create index on public.certifications (user_id, expires_at);
        comment on index public.certifications_user_id_expires_at_idx is 'the app''s own';
        {_GRANTS};
        """,
    )
    apply_migrations(app.url)
    with app.connect(role=None) as owner:
        comments = owner.execute("""
            select obj_description(name::regclass, 'pg_class') from unnest(array[
              'public.activities_user_id_activity_date_idx', 'scenario_source.activities',
              'public.certifications_user_id_expires_at_idx'
            ]) as name
        """).fetchall()
    assert comments == [("the app's own",)] * 3


def test_a_source_view_is_open_to_the_service_role_alone(app: Database) -> None:
    """Whatever the app's default privileges are."""
    app.run(
        "create schema scenario_source; grant usage on schema scenario_source to anon;"
        "create view scenario_source.activities as select null::uuid as user_id, now() as activity_date;"
        "grant select on scenario_source.activities to anon, authenticated, public;",
    )
    apply_migrations(app.url)
    with app.connect(role=None) as owner:
        allowed = owner.execute("""
            select role, has_table_privilege(role, 'scenario_source.activities', 'select')
            from unnest(array['anon', 'authenticated', 'service_role']) as role
        """).fetchall()
    assert allowed == [("anon", False), ("authenticated", False), ("service_role", True)]
