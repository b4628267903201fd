"""The guide to an app's own tables: its SQL as it stands there, on databases that have only the app's tables."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.integration.database import Database
from tests.integration.delivery import lease
from tests.integration.evaluation import KINDS, configure, evaluate
from tests.integration.guide import BLOCKS, EXAMPLES, Example, fill, run
from tests.integration.plans import Plan
from tests.postgres.install import FULL_VERSION, MAJOR_VERSION
from tests.postgres.migrations import apply_migrations, schema_dump
from tests.postgres.server import SUPERUSER, PostgresServer
from tests.rows import ORGANIZATION

_ON_EXAMPLE_A = pytest.mark.parametrize("example", ["a"], indirect=True, scope="module")
_MICROSECOND = timedelta(microseconds=1)
# What an app may have on its tables: none of it is ours to change.
_APPS_OWN = """
do $$
declare
  app_table regclass;
begin
  for app_table in
    select oid from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
  loop
    execute format('alter table %s enable row level security', app_table);
    execute format('create policy own_rows on %s for select to authenticated using (false)', app_table);
    execute format('grant select on %s to authenticated', app_table);
    execute format('comment on table %s is %L', app_table, 'the app''s own');
  end loop;
end
$$;
"""


def _new_project(server: PostgresServer, name: str) -> Database:
    """Make a project's database, where a new table is granted to nobody."""
    database = Database(server.create_database(name))
    with database.connect(role=None) as owner:
        run(
            owner,
            "alter default privileges for role postgres in schema public"
            " revoke all on tables from anon, authenticated, service_role",
        )
    return database


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> Example:
    """Take one example of the guide after the other."""
    return EXAMPLES[request.param]


@pytest.fixture(scope="module")
def app(postgres_server: PostgresServer, example: Example) -> Iterator[Database]:
    """Apply the app's tables, the mapping and the indexes, and then our migrations; tests roll back what they do."""
    name = f"own_tables_{example.name}"
    database = _new_project(postgres_server, name)
    with database.connect(role=None) as owner:
        for kind in ("tables", "mapping", "indexes"):
            run(owner, example.block(kind))
        run(owner, _APPS_OWN)
    apply_migrations(database.url)
    yield database
    postgres_server.drop_database(name)


class People:
    """The people of one test, in a transaction that is rolled back: now() stands still."""

    def __init__(self, connection: psycopg.Connection, example: Example) -> None:
        self.connection = connection
        self.example = example
        self._names: dict[str, str] = {}

    def instant(self, expression: str) -> datetime:
        """Return an instant that SQL tells."""
        row = self.connection.execute(f"select ({expression})::timestamptz".encode()).fetchone()
        assert row is not None
        instant: datetime = row[0]
        return instant

    def oslo_midnight(self, days: int) -> datetime:
        """Return the start of a day in Oslo, that many days from today's."""
        day = f"(now() at time zone 'Europe/Oslo')::date + ({days})"
        return self.instant(f"({day})::timestamp at time zone 'Europe/Oslo'")

    def mentor(self, name: str, *activities: datetime, is_active: bool = True) -> UUID:
        """Make a mentor and her activities."""
        user_id = uuid4()
        self._names[str(user_id)] = name
        run(self.connection, "insert into auth.users (id) values (%(user_id)s)", user_id=user_id)
        run(
            self.connection,
            self.example.mentor,
            user_id=user_id,
            organization_id=ORGANIZATION,
            is_active=is_active,
        )
        for at in activities:
            run(self.connection, self.example.activity, user_id=user_id, at=at)
        run(self.connection, self.example.device, user_id=user_id, token=f"token of {name}")
        return user_id

    def delete_activity(self, user_id: UUID, at: datetime) -> None:
        """Record an activity that was deleted, where the app keeps such rows."""
        if self.example.deleted_activity:
            run(self.connection, self.example.deleted_activity, user_id=user_id, at=at)

    def certify(self, user_id: UUID, ends: datetime, kind: str = "first aid") -> None:
        """Give a certificate, which is no longer valid from that instant on."""
        run(
            self.connection,
            self.example.certificate,
            user_id=user_id,
            organization_id=ORGANIZATION,
            ends=ends,
            kind=kind,
        )

    def due(self, scenario_type: str, **settings: object) -> set[str]:
        """Ask as the worker does who is due with these default settings."""
        if self.example.settle:
            run(self.connection, self.example.settle)
        with self._as_worker():
            for setting, value in settings.items():
                configure(self.connection, scenario_type, setting, value)
            rows = self.connection.execute(
                f"select user_id from scenario_private.{scenario_type}_rule where is_evaluated and is_due".encode()
            ).fetchall()
            page = evaluate(self.connection, scenario_type, dry_run=True)
        assert page["due"] == len(rows)
        return {self._names[str(user_id)] for (user_id,) in rows}

    def claim_and_lease(self, scenario_type: str) -> dict[str, list[dict[str, str]]]:
        """Claim for whoever is due, and return the devices of each who was leased."""
        with self._as_worker():
            evaluate(self.connection, scenario_type)
            leased = lease(self.connection)
        return {self._names[notification["user_id"]]: notification["device_tokens"] for notification in leased}

    def _as_worker(self) -> Worker:
        return Worker(self.connection)


class Worker:
    """A part of the transaction as the service role."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("set local role service_role")

    def __exit__(self, *_: object) -> None:
        if self._connection.info.transaction_status != psycopg.pq.TransactionStatus.INERROR:
            self._connection.execute("reset role")


@pytest.fixture
def people(app: Database, example: Example) -> Iterator[People]:
    """Begin a transaction for the people of one test."""
    with closing(psycopg.connect(app.url)) as connection:
        yield People(connection, example)
        connection.rollback()


# Installing ---------------------------------------------------------------------------------------


@pytest.mark.needs("pg_dump")
def test_the_migrations_run_twice_and_leave_the_app_alone(postgres_server: PostgresServer, example: Example) -> None:
    """Tables, grants, policies, comments and indexes of the app stay as they are; a second run changes nothing."""
    name = f"own_tables_twice_{example.name}"
    database = _new_project(postgres_server, name)
    try:
        with database.connect(role=None) as owner:
            for kind in ("tables", "mapping", "indexes"):
                run(owner, example.block(kind))
            run(owner, _APPS_OWN)
            relations = owner.execute(
                "select relname from pg_class"
                " where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')"
            ).fetchall()
        before = schema_dump(postgres_server, name)
        apply_migrations(database.url)
        first = schema_dump(postgres_server, name)
        apply_migrations(database.url)
        assert schema_dump(postgres_server, name) == first

        statements, earlier = set(first.split(";\n")), set(before.split(";\n"))
        # The service role is granted each source view and the schemas; the default privileges are its.
        assert {statement for statement in earlier - statements if "scenario_source" not in statement} == set()
        tables = "|".join(relation for (relation,) in relations)
        touched = re.compile(
            rf"(ALTER TABLE|GRANT|REVOKE|CREATE POLICY|CREATE TRIGGER|COMMENT).*\bpublic\.({tables})\b"
        )
        assert [statement for statement in statements - earlier if touched.match(statement)] == []
    finally:
        postgres_server.drop_database(name)


def test_without_the_mapping_the_refusal_is_the_one_in_the_guide(postgres_server: PostgresServer) -> None:
    """Word for word."""
    database = _new_project(postgres_server, "own_tables_refused")
    try:
        with database.connect(role=None) as owner:
            run(owner, BLOCKS["b-tables"])
        with pytest.raises(psycopg.Error) as refused:
            apply_migrations(database.url)
        assert refused.value.sqlstate == "SR007"
        assert f"{refused.value.diag.message_primary}\n" == BLOCKS["b-refusal"]
    finally:
        postgres_server.drop_database("own_tables_refused")


def test_without_the_grants_the_worker_is_refused(app: Database, example: Example) -> None:
    """The views are security_invoker: the worker needs `select` on the app's tables, as the guide says."""
    grants = re.sub(
        r"grant select(.*) to service_role",
        r"revoke select\1 from service_role",
        example.block("mapping"),
        flags=re.DOTALL,
    )
    with closing(psycopg.connect(app.url)) as connection:
        run(connection, grants[grants.index("revoke select") :])
        connection.execute("set local role service_role")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for"):
            evaluate(connection, "inactivity")


def test_a_mapping_after_ours_replaces_the_default(postgres_server: PostgresServer) -> None:
    """The app's own table is read, its index serves, and the default table may go; ours run again."""
    name = "own_tables_later"
    database = _new_project(postgres_server, name)
    try:
        with database.connect(role=None) as owner:
            run(owner, BLOCKS["later-tables"])
        apply_migrations(database.url)
        with database.connect(role=None) as owner:
            run(owner, BLOCKS["later-mapping"])
        apply_migrations(database.url)
        user_id = database.new_mentors(1, ORGANIZATION)[0]
        with database.connect(role=None) as owner:
            run(
                owner,
                "insert into public.sessions (mentor_id, held_at) values (%(user_id)s, now() - interval '31 days')",
                user_id=user_id,
            )
            assert owner.execute("select to_regclass('public.activities')").fetchone() == (None,)
            invoker = "select 'security_invoker=true' = any (reloptions) from pg_class where oid = %s::regclass"
            assert owner.execute(invoker, ["scenario_source.activities"]).fetchone() == (True,)
        with database.connect() as worker:
            assert evaluate(worker, "inactivity")["claimed"] == 1
            assert evaluate(worker, "milestone")["evaluated"] == 1
    finally:
        postgres_server.drop_database(name)


# Who is due ---------------------------------------------------------------------------------------


def test_inactivity_at_its_boundary(people: People) -> None:
    """Due exactly inactive_after since the last activity that counts; who left is not, what was deleted is not seen."""
    last = people.oslo_midnight(-40)
    gone_by = people.instant("now()") - last
    people.mentor("quiet", last, people.oslo_midnight(-90))
    people.mentor("busy", last, people.oslo_midnight(-3))
    people.mentor("quiet but for what is planned", last, people.oslo_midnight(2))
    people.mentor("never active")
    people.mentor("left", last, is_active=False)
    deleted = people.mentor("quiet since the rest was deleted", last)
    people.delete_activity(deleted, people.oslo_midnight(-3))
    expected = {"quiet", "quiet but for what is planned", "quiet since the rest was deleted"}
    assert people.due("inactivity", inactive_after=gone_by + _MICROSECOND) == set()
    assert people.due("inactivity", inactive_after=gone_by) == expected
    assert set(people.claim_and_lease("inactivity")) == expected


def test_milestones_count_what_was_not_deleted(people: People) -> None:
    """The third activity that counts reaches the threshold."""
    days = [people.oslo_midnight(-number) for number in (2, 3, 4)]
    people.mentor("three", *days)
    people.mentor("two, and one to come", *days[:2], people.oslo_midnight(3))
    people.mentor("left", *days, is_active=False)
    two = people.mentor("two and a deleted one", *days[:2])
    people.delete_activity(two, days[2])
    assert people.due("milestone", milestones=[3]) == {"three"}
    assert set(people.claim_and_lease("milestone")) == {"three"}


def test_certificates_at_their_boundary(people: People) -> None:
    """Valid through the last day: due until that is over, and exactly expires_within before."""
    ends = people.oslo_midnight(1)
    ahead = ends - people.instant("now()")
    people.certify(people.mentor("valid through today"), ends)
    people.certify(people.mentor("valid through yesterday"), people.oslo_midnight(0))
    people.certify(people.mentor("valid through tomorrow"), people.oslo_midnight(2))
    people.certify(people.mentor("left", is_active=False), ends)
    renewed = people.mentor("renewed")
    people.certify(renewed, ends)
    people.certify(renewed, people.oslo_midnight(400))
    other = people.mentor("has another kind as well")
    people.certify(other, ends)
    people.certify(other, people.oslo_midnight(400), kind="listening")
    people.mentor("has none")
    expected = {"valid through today", "has another kind as well"}
    assert people.due("certification_expiry", expires_within=ahead - _MICROSECOND) == set()
    assert people.due("certification_expiry", expires_within=ahead) == expected
    assert set(people.claim_and_lease("certification_expiry")) == expected


def test_welcome_back_at_its_boundary(people: People) -> None:
    """Due when the gap is exactly inactive_after long, also where a clock was changed in between."""
    returned, before = people.oslo_midnight(0), people.oslo_midnight(-60)
    people.mentor("back", before, returned)
    people.mentor("new", returned)
    people.mentor("never away", before, people.oslo_midnight(-20), returned)
    people.mentor("left", before, returned, is_active=False)
    gap = returned - before
    assert people.due("welcome_back", inactive_after=gap + _MICROSECOND) == set()
    assert people.due("welcome_back", inactive_after=gap) == {"back"}
    assert set(people.claim_and_lease("welcome_back")) == {"back"}


def test_the_lease_hands_out_the_apps_devices(people: People) -> None:
    """Under the names that the sender knows."""
    people.mentor("quiet", people.oslo_midnight(-40))
    people.due("inactivity")
    assert people.claim_and_lease("inactivity") == {"quiet": [{"token": "token of quiet", "platform": "ios"}]}


# A day in UTC ends at another instant than in Oslo, and another in winter than in summer.
_OSLO_DAYS = {
    "2026-01-15": ("2026-01-14 23:00+00", "2026-01-15 23:00+00"),
    "2026-03-28": ("2026-03-27 23:00+00", "2026-03-28 23:00+00"),
    "2026-03-29": ("2026-03-28 23:00+00", "2026-03-29 22:00+00"),
    "2026-03-30": ("2026-03-29 22:00+00", "2026-03-30 22:00+00"),
    "2026-07-15": ("2026-07-14 22:00+00", "2026-07-15 22:00+00"),
    "2026-10-24": ("2026-10-23 22:00+00", "2026-10-24 22:00+00"),
    "2026-10-25": ("2026-10-24 22:00+00", "2026-10-25 23:00+00"),
    "2026-10-26": ("2026-10-25 23:00+00", "2026-10-26 23:00+00"),
}


@pytest.mark.parametrize("time_zone", ["UTC", "Pacific/Auckland"])
def test_a_date_is_a_day_of_oslo(postgres_server: PostgresServer, time_zone: str) -> None:
    """From its start for an activity, to its end for a certificate, whatever the session's time zone."""
    name = f"own_tables_days_{time_zone[:3].lower()}"
    database = _new_project(postgres_server, name)
    try:
        with database.connect(role=None) as owner:
            for kind in ("tables", "mapping", "indexes"):
                run(owner, BLOCKS[f"a-{kind}"])
            user_id = str(uuid4())
            owner.execute("insert into public.mentors (id, chapter_id) values (%s, gen_random_uuid())", [user_id])
            owner.execute("select set_config('timezone', %s, false)", [time_zone])
            for day, (start, end) in _OSLO_DAYS.items():
                owner.execute("delete from public.activities")
                owner.execute("delete from public.certifications")
                owner.execute("insert into public.activities (mentor_id, occurred_on) values (%s, %s)", [user_id, day])
                owner.execute(
                    "insert into public.certifications (mentor_id, chapter_id, course, valid_through)"
                    " values (%s, gen_random_uuid(), 'first aid', %s)",
                    [user_id, day],
                )
                row = owner.execute(
                    "select activity_date = %s::timestamptz, expires_at = %s::timestamptz"
                    " from scenario_source.activities, scenario_source.certificates",
                    [start, end],
                ).fetchone()
                assert row == (True, True), day
    finally:
        postgres_server.drop_database(name)


# Plans --------------------------------------------------------------------------------------------

_CHECKS = [statement.strip() for statement in BLOCKS["check"].split(";") if statement.strip()]
_USER_ID = "00000000-0000-4000-8000-000000000007"


@pytest.fixture(scope="module")
def filled(postgres_server: PostgresServer, example: Example) -> Iterator[psycopg.Connection]:
    """Fill the example's tables, without the indexes of the guide; connect as the superuser."""
    name = f"own_tables_filled_{example.name}"
    database = _new_project(postgres_server, name)
    with database.connect(role=None) as owner:
        run(owner, example.block("tables"))
        run(owner, example.block("mapping"))
    apply_migrations(database.url)
    with closing(psycopg.connect(postgres_server.url(name, SUPERUSER), autocommit=True)) as connection:
        fill(connection, example)
        yield connection
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def indexed(filled: psycopg.Connection, example: Example) -> psycopg.Connection:
    """Add the indexes of the guide."""
    run(filled, example.block("indexes"))
    run(filled, "vacuum (analyze)")
    return filled


def _is_indexed(connection: psycopg.Connection) -> bool:
    return connection.execute("select from pg_indexes where indexname like '%\\_for\\_scenarios\\_%'").rowcount > 0


def _lines(connection: psycopg.Connection, explain: str) -> str:
    return "".join(f"{line}\n" for (line,) in connection.execute(explain.encode()).fetchall())


def _plan(connection: psycopg.Connection, query: str) -> Plan:
    row = connection.execute(f"explain (analyze, buffers, format json) {query}".encode()).fetchone()
    assert row is not None
    return Plan(row[0][0]["Plan"])


def test_without_the_indexes_everything_is_read(filled: psycopg.Connection, example: Example) -> None:
    """For one person's newest activity: the tables of all, and a sort; as the guide shows."""
    if _is_indexed(filled):
        pytest.skip("the indexes are there already: run the whole module")
    lines = _lines(filled, _CHECKS[0])
    assert "Seq Scan" in lines
    assert "Sort" in lines
    if example.name == "a" and MAJOR_VERSION == FULL_VERSION:
        assert lines == BLOCKS["a-plan-without-index"]


def _read_whole(connection: psycopg.Connection) -> set[str]:
    """Ask check_rule of every scenario, as `check-rules` does, which tables a look-up reads from end to end."""
    with connection.transaction(force_rollback=True), Worker(connection):
        # Nobody is evaluated then: without indexes a page takes minutes. The look-up is only explained.
        connection.execute("update public.scenario_evaluation_config set is_enabled = false")
        checks = [connection.execute("select public.scenario_check_rule(%s)", [kind]).fetchone() for kind in KINDS]
    faults = {fault for check in checks if check for fault in check[0]["faults"]}
    tables = {fault: re.match(r"the look-up of a person reads all of public\.(\w+):", fault) for fault in faults}
    assert all(tables.values()), faults
    return {table[1] for table in tables.values() if table}


def test_check_rules_names_the_tables_without_an_index(
    filled: psycopg.Connection, example: Example, request: pytest.FixtureRequest
) -> None:
    """Every table that a look-up reads whole, and none once the guide's indexes are there."""
    if not _is_indexed(filled):
        expected = {
            "a": {"mentors", "activities", "certifications"},
            "b": {"activities", "device_tokens"},
            "c": {"calls", "meetings"},
        }
        assert _read_whole(filled) == expected[example.name]
    assert _read_whole(request.getfixturevalue("indexed")) == set()


@pytest.mark.parametrize("check", _CHECKS, ids=lambda check: check.rpartition("from ")[2].split()[0])
def test_each_check_of_the_guide_finds_its_rows_by_an_index(
    indexed: psycopg.Connection, example: Example, check: str
) -> None:
    """The user, and the time where there is one, are conditions of an index; nothing is sorted or read whole."""
    lines = _lines(indexed, check)
    assert "Seq Scan" not in lines, lines
    # Partitions may be sorted together: a handful of rows.
    assert "Sort" not in lines.replace("Merge Append\n        Sort Key", "") or (
        example.name == "c" and "certificates" in check
    ), lines
    conditions = re.findall(r"Index Cond: (.*)", lines)
    assert conditions, lines
    assert all(_USER_ID in condition for condition in conditions), lines
    if "now()" in check:
        assert all("now()" in condition for condition in conditions), lines
        assert "Filter" not in lines, lines
    if example.name == "a" and check == _CHECKS[0] and MAJOR_VERSION == FULL_VERSION:
        assert lines == BLOCKS["a-plan"]


@pytest.mark.parametrize("scenario_type", KINDS)
@pytest.mark.parametrize("asked", ["a page", "one person"])
def test_each_rule_looks_up_by_the_indexes(
    indexed: psycopg.Connection, example: Example, scenario_type: str, asked: str
) -> None:
    """Neither a page nor one person reads anybody else's activities or certificates; activities need no heap."""
    condition = (
        f"user_id = '{_USER_ID}'"
        if asked == "one person"
        else "is_evaluated and user_id <= '{}'".format("00000000-0000-4000-8000-000000000100")
    )
    with Worker(indexed):
        plan = _plan(indexed, f"select * from scenario_private.{scenario_type}_rule where {condition}")
    looked_up = [node for node in plan.nodes if node.get("Relation Name") in example.plans_on]
    assert looked_up, plan
    for node in looked_up:
        # A page's own mentors may come by a bitmap.
        assert node["Node Type"] in {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, plan
        assert "Index Cond" in node or "Recheck Cond" in node, plan
        if node["Relation Name"] in {"activities", "calls", "meetings"}:
            assert node["Node Type"] == "Index Only Scan", plan
    assert plan.heap_fetches == 0, plan


_NOT_IN_A_VIEW = {
    "a limit": ("select user_id, activity_date from source limit 1000000", "the whole view"),
    "an offset": ("select user_id, activity_date from source offset 0", "the whole view"),
    "a window over all rows": (
        (
            "select user_id, case when row_number() over (order by activity_date) > 0 then activity_date end"
            " as activity_date"
            " from source"
        ),
        "the whole view",
    ),
    "a window of each user": (
        "select user_id, max(activity_date) over (partition by user_id) as activity_date from source",
        "the whole history",
    ),
    "an aggregate of each user": (
        "select user_id, max(activity_date) as activity_date from source group by user_id",
        "the whole history",
    ),
    "distinct": ("select distinct user_id, activity_date from source", "the whole history"),
    "a volatile function": (
        "select user_id, activity_date + random() * interval '0' as activity_date from source",
        "the whole history",
    ),
    "a cast by the session's time zone": (
        (
            "select mentor_id::uuid as user_id, occurred_on::timestamptz as activity_date"
            " from public.activities where deleted_at is null"
        ),
        "the whole history",
    ),
    "a join": (
        "select source.* from source join public.mentors as mentor on mentor.id::uuid = source.user_id",
        "the whole history",
    ),
}


@pytest.mark.parametrize("name", _NOT_IN_A_VIEW)
@_ON_EXAMPLE_A
def test_what_the_guide_forbids_reads_too_much(indexed: psycopg.Connection, name: str) -> None:
    """The condition on the user does not arrive at an index, or the rows come in no order."""
    query, read = _NOT_IN_A_VIEW[name]
    with indexed.transaction(force_rollback=True):
        definition = indexed.execute("select pg_get_viewdef('scenario_source.activities'::regclass)").fetchone()
        assert definition is not None
        source = definition[0].rstrip(";")
        run(indexed, f"create or replace view scenario_source.activities as with source as ({source}) {query}")
        lines = _lines(indexed, _CHECKS[0])
    assert bool(re.search(f"Index Cond: .*{_USER_ID}", lines)) is (read == "the whole history"), lines
    assert "Sort" in lines, lines


# Ids in text --------------------------------------------------------------------------------------


@_ON_EXAMPLE_A
def test_the_index_keeps_out_what_is_no_uuid(app: Database) -> None:
    """An insert fails that succeeded before there was the index: the guide says so."""
    with closing(psycopg.connect(app.url)) as connection, pytest.raises(psycopg.errors.InvalidTextRepresentation):
        connection.execute("insert into public.mentors (id, chapter_id) values ('guest', gen_random_uuid())")


@_ON_EXAMPLE_A
def test_the_lenient_view_passes_over_what_is_no_uuid(indexed: psycopg.Connection) -> None:
    """Its activities are nobody's, and everybody else's are found as before."""
    with indexed.transaction(force_rollback=True):
        run(indexed, BLOCKS["a-lenient"])
        run(indexed, "alter table public.activities drop constraint activities_mentor_id_fkey")
        run(indexed, "insert into public.activities (mentor_id, occurred_on) values ('guest', current_date)")
        run(indexed, "analyze public.activities")
        assert evaluate(indexed, "inactivity", dry_run=True)["due"] > 0
        lines = _lines(indexed, _CHECKS[0])
    assert re.search(f"Index Only Scan Backward.*\n.*Index Cond: .*{_USER_ID}.*now\\(\\)", lines), lines
