"""Hot queries and the indexes that serve them, by name."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from tests.integration.plans import (
    ACTIVE_MENTORS,
    ACTIVITIES,
    AS_POSTGREST,
    CERTIFICATIONS,
    DATABASE,
    DEVICES,
    DUE,
    FAILED,
    FAILED_OF_ORGANIZATION,
    FILL,
    FULL,
    HANDOVER,
    MENTORS,
    MILESTONE,
    NOT_FAILED,
    OFTEN_FAILED,
    ORGANIZATION,
    ORGANIZATION_MENTORS,
    OUTLASTING,
    PRIMARY_KEY,
    SUSPECTS,
    WINDOW,
    Plan,
)
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import SUPERUSER, PostgresServer


@pytest.fixture(scope="module")
def filled(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """Fill a migrated database once, vacuumed as autovacuum would have."""
    url = postgres_server.create_database(DATABASE)
    try:
        apply_migrations(url)
        with closing(psycopg.connect(postgres_server.url(DATABASE, SUPERUSER), autocommit=True)) as connection:
            # Vacuum marks pages all-visible only when the commit that filled them is on disk.
            connection.execute("set synchronous_commit = on")
            # The rows fit together: without triggers and foreign keys they come in half the time.
            connection.execute("set session_replication_role = replica")
            for statement in FILL:
                connection.execute(statement)
            for table in ("activities", "certifications", "device_tokens", "peer_mentors", "scenario_notifications"):
                connection.execute(sql.SQL("vacuum (analyze) {}").format(sql.Identifier("public", table)))
            connection.execute("vacuum (analyze) scenario_private.handover")
        yield postgres_server
    finally:
        postgres_server.drop_database(DATABASE)


@pytest.fixture
def connection(filled: PostgresServer) -> Iterator[psycopg.Connection]:
    """Connect as the API does for a worker; whatever a test does is rolled back."""
    with closing(psycopg.connect(filled.url(DATABASE))) as connection:
        connection.execute("set role service_role")
        yield connection


def _user(number: int) -> str:
    return f"md5('user {number}')::uuid"


def _users(first: int, last: int) -> str:
    return f"(select array_agg(md5('user ' || u)::uuid) from generate_series({first}, {last}) as u)"


def _explain(
    connection: psycopg.Connection, query: str, arguments: Sequence[str] = (), *, mode: str = "force_custom_plan"
) -> Plan:
    """Run a query as a prepared statement; the arguments are SQL expressions."""
    connection.execute(sql.SQL("set local plan_cache_mode = {}").format(sql.Identifier(mode)))
    connection.execute(_composed(f"prepare hot as {query}"))
    values = f"({', '.join(arguments)})" if arguments else ""
    row = connection.execute(_composed(f"explain (analyze, buffers, format json) execute hot{values}")).fetchone()
    connection.execute("deallocate hot")
    assert row is not None
    return Plan(row[0][0]["Plan"])


def _composed(query: str) -> sql.Composed:
    # Not f-strings for execute(): psycopg's types ask for a literal, and these are put together from literals.
    return sql.Composed([sql.SQL(query)])


@dataclass(frozen=True)
class HotQuery:
    """A request as PostgREST runs it, and what is expected of its plan."""

    select: str
    arguments: tuple[str, ...]
    index: str
    generic_index: str = FULL
    index_only: bool = False
    buffers: int = 6

    @property
    def statement(self) -> str:
        """The statement that PostgREST would prepare."""
        return AS_POSTGREST.format(self.select, f"${len(self.arguments)}")


_TABLE = "public.scenario_notifications"
_SENT = "user_id = $1 and scenario_type = $2 and delivery_status = $3 and is_failed = $4"
HOT_QUERIES = {
    "get_last_sent_at": HotQuery(
        f"select triggered_at from {_TABLE} where {_SENT} order by triggered_at desc",
        (_user(2501), "'inactivity'", "'sent'", "false", "1"),
        NOT_FAILED,
    ),
    "has_been_sent_since_threshold": HotQuery(
        f"select triggered_at from {_TABLE} where {_SENT} and triggered_at >= $5 order by triggered_at desc",
        (_user(2501), "'inactivity'", "'sent'", "false", "now() - interval '60 days'", "1"),
        NOT_FAILED,
    ),
    "has_been_sent_since_threshold, not since": HotQuery(
        f"select triggered_at from {_TABLE} where {_SENT} and triggered_at >= $5 order by triggered_at desc",
        (_user(2501), "'inactivity'", "'sent'", "false", "now() - interval '7 days'", "1"),
        NOT_FAILED,
    ),
    "get_milestone_record": HotQuery(
        f"""select * from {_TABLE}
            where user_id = $1 and scenario_type = $2 and milestone_value = $3 and is_failed = $4""",
        (_user(2501), "'milestone'", "50", "false", "1"),
        MILESTONE,
    ),
    "the first page of a user's history of one type": HotQuery(
        f"""select * from {_TABLE} where user_id = $1 and scenario_type = $2 order by triggered_at desc""",
        (_user(2501), "'welcome_back'", "2"),
        FULL,
    ),
}


@pytest.mark.parametrize("name", HOT_QUERIES)
def test_hot_query_uses_its_index(connection: psycopg.Connection, name: str) -> None:
    """With its values known, each hot query reads at most six pages of the index made for it."""
    query = HOT_QUERIES[name]
    plan = _explain(connection, query.statement, query.arguments)
    assert plan.indexes == {query.index}, plan
    assert plan.node_types(query.index) == {"Index Only Scan" if query.index_only else "Index Scan"}, plan
    assert plan.heap_fetches == 0, plan
    assert plan.buffers <= query.buffers, plan
    assert not any("Sort" in node["Node Type"] for node in plan.nodes), plan


@pytest.mark.parametrize("name", HOT_QUERIES)
def test_hot_query_uses_the_full_index_under_a_generic_plan(connection: psycopg.Connection, name: str) -> None:
    """With the status a parameter, no partial index can be proven to fit: the full one serves as well."""
    query = HOT_QUERIES[name]
    plan = _explain(connection, query.statement, query.arguments, mode="force_generic_plan")
    assert plan.indexes == {query.generic_index}, plan
    assert not plan.scanned_tables, plan


@pytest.mark.parametrize("name", ["get_last_sent_at", "has_been_sent_since_threshold"])
def test_generic_plan_costs_no_more(connection: psycopg.Connection, name: str) -> None:
    """Under a generic plan a look-up past few failed rows stays within the six pages."""
    query = HOT_QUERIES[name]
    plan = _explain(connection, query.statement, query.arguments, mode="force_generic_plan")
    assert plan.buffers <= query.buffers, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_literal_condition_keeps_the_partial_index(connection: psycopg.Connection, mode: str) -> None:
    """Written into the query, the condition fits the partial index under any plan: so the functions do it."""
    plan = _explain(
        connection,
        f"""select triggered_at from {_TABLE}
            where user_id = $1 and scenario_type = $2 and delivery_status = 'sent' and not is_failed
            order by triggered_at desc limit 1""",
        (_user(2501), "'inactivity'"),
        mode=mode,
    )
    assert plan.indexes == {NOT_FAILED}, plan
    assert plan.buffers <= 6, plan


@pytest.mark.parametrize("by", ["triggered_at", "settled_at"])
@pytest.mark.parametrize("since", ["", "and {by} >= now() - interval '60 days'"])
def test_the_delivered_look_up_reads_the_users_own_rows(connection: psycopg.Connection, by: str, since: str) -> None:
    """By the time of delivery there is no index: the rows of one user and type that have not failed are sorted."""
    plan = _explain(
        connection,
        AS_POSTGREST.format(
            f"select {by} from {_TABLE} where {_SENT} {since.format(by=by)} order by {by} desc nulls last", "$5"
        ),
        (_user(2501), "'inactivity'", "'sent'", "false", "1"),
    )
    assert plan.indexes == {NOT_FAILED}, plan
    assert not plan.scanned_tables, plan
    assert plan.buffers <= 10 + 6, plan


@pytest.mark.parametrize("kind", ["inactivity", "milestone"])
def test_many_failed_rows_cost_a_look_up_nothing(connection: psycopg.Connection, kind: str) -> None:
    """Behind 3,000 failures that came after it, what was sent last is found as fast as before."""
    sent = HOT_QUERIES["get_last_sent_at"]
    plan = _explain(connection, sent.statement, (_user(OFTEN_FAILED), f"'{kind}'", "'sent'", "false", "1"))
    assert plan.indexes == {NOT_FAILED}, plan
    assert plan.buffers <= sent.buffers, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    "page",
    ["true", "(triggered_at < now() or (triggered_at = now() and id < gen_random_uuid()))"],
    ids=["first", "next"],
)
def test_history_of_all_types_stays_with_the_user(connection: psycopg.Connection, page: str, mode: str) -> None:
    """A user's whole history is read by an index on the user, its forty rows and little more."""
    select = f"select * from {_TABLE} where user_id = $1 and {page} order by triggered_at desc, id desc"
    statement = AS_POSTGREST.format(select, "$2")
    plan = _explain(connection, statement, (_user(2501), "50"), mode=mode)
    assert plan.indexes <= {FULL, WINDOW}, plan
    assert not plan.scanned_tables, plan
    assert plan.buffers <= 40 + 6, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_own_history_asks_once_who_is_calling(connection: psycopg.Connection, mode: str) -> None:
    """Row level security costs a signed-in user an index condition, not a function call per row."""
    claims = "select set_config('request.jwt.claims', json_build_object('sub', md5('user 2501')::uuid)::text, true)"
    connection.execute(claims)
    connection.execute("set local role authenticated")
    statement = AS_POSTGREST.format(f"select * from {_TABLE} where scenario_type = $1 order by triggered_at desc", "$2")
    plan = _explain(connection, statement, ("'inactivity'", "50"), mode=mode)
    assert plan.indexes == {FULL}, plan
    assert "InitPlan" in {node.get("Parent Relationship") for node in plan.nodes}, plan
    assert not any("auth.uid" in node.get("Filter", "") for node in plan.nodes), plan
    assert plan.buffers <= 10 + 6, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_organization_range_uses_its_index(connection: psycopg.Connection, mode: str) -> None:
    """A period of one organization and scenario type is one range of the organization's index."""
    plan = _explain(
        connection,
        f"""select delivery_status, count(*) from {_TABLE}
            where organization_id = $1 and scenario_type = $2 and triggered_at >= $3 and triggered_at < $4
            group by delivery_status""",
        ("md5('organization 7')::uuid", "'inactivity'", "now() - interval '90 days'", "now()"),
        mode=mode,
    )
    assert plan.indexes == {ORGANIZATION}, plan
    assert not plan.scanned_tables, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_due_rows_come_from_the_due_index(connection: psycopg.Connection, mode: str) -> None:
    """The pending rows that are due longest are the first entries of their index: no sort."""
    plan = _explain(
        connection,
        """select notification_id from scenario_private.handover
           where organization_id = $1 and scenario_type = 'inactivity' and next_attempt_at <= now()
           order by next_attempt_at limit $2""",
        ("md5('organization 10')::uuid", "3"),
        mode=mode,
    )
    assert plan.indexes == {DUE}, plan
    assert not any("Sort" in node["Node Type"] for node in plan.nodes), plan
    assert plan.buffers <= 6, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_suspects_come_from_an_index_of_their_own(connection: psycopg.Connection, mode: str) -> None:
    """However much is waiting: what two leases left unsettled is found without looking at the rest."""
    plan = _explain(
        connection,
        """select notification_id from scenario_private.handover
           where unsettled_leases > 0 and leased_until <= now() and next_attempt_at <= now()
           order by next_attempt_at limit $1""",
        ("1",),
        mode=mode,
    )
    assert plan.indexes == {SUSPECTS}, plan
    assert plan.buffers <= 3, plan


@pytest.mark.parametrize(
    ("scope", "index"),
    [("", FAILED), ("and organization_id = md5('organization 7')::uuid", FAILED_OF_ORGANIZATION)],
)
@pytest.mark.parametrize("page", ["", "and triggered_at <= now() and (triggered_at < now() or id < gen_random_uuid())"])
def test_what_failed_is_the_beginning_of_an_index(
    connection: psycopg.Connection, scope: str, page: str, index: str
) -> None:
    """Newest first, of all or of one organization, behind a place or from the newest: no sort, a row for each."""
    where = f"is_failed = $1 {scope} {page}"
    plan = _explain(
        connection,
        AS_POSTGREST.format(f"select * from {_TABLE} where {where} order by triggered_at desc, id desc", "$2"),
        ("true", "20"),
    )
    assert plan.indexes == {index}, plan
    assert not any("Sort" in node["Node Type"] for node in plan.nodes), plan
    assert plan.buffers <= 20 + 6, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_the_status_reads_what_is_pending_and_what_failed_lately(filled: PostgresServer, mode: str) -> None:
    """All that is pending, once; of the notifications, a range of the failed ones."""
    with _watched(filled) as (connection, plans):
        connection.execute(sql.SQL("set local plan_cache_mode = {}").format(sql.Identifier(mode)))
        connection.execute("select public.scenario_get_status()")
    inside = plans[:-1]
    explained = "\n".join(map(str, inside))
    assert FAILED in set().union(*(plan.indexes for plan in inside)), explained
    assert "scenario_notifications" not in set().union(*(plan.scanned_tables for plan in inside)), explained


# Inside functions ---------------------------------------------------------------------------------


@contextmanager
def _watched(server: PostgresServer) -> Iterator[tuple[psycopg.Connection, list[Plan]]]:
    """Connect as the service role with auto_explain: every statement inside a function leaves its plan."""
    plans: list[Plan] = []

    def keep(diagnostic: psycopg.errors.Diagnostic) -> None:
        _, marker, plan = (diagnostic.message_primary or "").partition("plan:\n")
        if marker:
            plans.append(Plan(json.loads(plan)["Plan"]))

    with closing(psycopg.connect(server.url(DATABASE, SUPERUSER))) as connection:
        try:
            connection.execute("load 'auto_explain'")
        except psycopg.errors.UndefinedFile:
            message = "missing: auto_explain; run `python tests/postgres/install.py` as root"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
        connection.execute("""
            set auto_explain.log_min_duration = 0;
            set auto_explain.log_nested_statements = on;
            set auto_explain.log_analyze = on;
            set auto_explain.log_buffers = on;
            set auto_explain.log_timing = off;
            set auto_explain.log_format = json;
            set auto_explain.log_level = notice;
            set role service_role;
        """)
        connection.add_notice_handler(keep)
        yield connection, plans


def _claims(scenario_type: str, key: str, value: int) -> str:
    claims = f"""
        select jsonb_agg(jsonb_build_object(
          'user_id', md5('user ' || u)::uuid, 'organization_id', md5('organization ' || u % 50)::uuid,
          'scenario_type', '{scenario_type}', '{key}', {value}
        ))
        from generate_series(4901, 4990) as u
    """
    return f"scenario_claim_notifications(({claims}))"


@dataclass(frozen=True)
class Call:
    """A function's call, the indexes that its statements have to use, and those of them that are index-only."""

    call: str
    indexes: frozenset[str]
    index_only: frozenset[str] = frozenset()


CALLS = {
    "get_last_sent_at_many": Call(
        f"scenario_get_last_sent_at_many({_users(2001, 2100)}, 'inactivity')",
        frozenset({NOT_FAILED}),
    ),
    "has_been_sent_since_threshold_many": Call(
        f"scenario_has_been_sent_since_threshold_many({_users(2001, 2100)}, 'inactivity', now() - interval '60 days')",
        frozenset({NOT_FAILED}),
    ),
    "get_last_delivered_at_many": Call(
        f"scenario_get_last_delivered_at_many({_users(2001, 2100)}, 'inactivity')",
        frozenset({NOT_FAILED}),
    ),
    "has_been_delivered_since_many": Call(
        f"scenario_has_been_delivered_since_many({_users(2001, 2100)}, 'inactivity', now() - interval '60 days')",
        frozenset({NOT_FAILED}),
    ),
    "get_milestone_record_many": Call(
        f"scenario_get_milestone_record_many({_users(2001, 2100)}, 50)",
        frozenset({MILESTONE}),
    ),
    "claim, allowed": Call(
        _claims("inactivity", "cooldown_seconds", 7 * 86400),
        frozenset({FULL, NOT_FAILED, OUTLASTING, WINDOW}),
    ),
    "claim, in cooldown": Call(
        _claims("inactivity", "cooldown_seconds", 60 * 86400),
        frozenset({FULL}),
    ),
    "claim of a milestone": Call(
        _claims("milestone", "milestone_value", 1000),
        frozenset({MILESTONE}),
    ),
    "evaluate inactivity": Call(
        "scenario_evaluate('inactivity', md5('organization 49')::uuid)",
        frozenset({ORGANIZATION_MENTORS, ACTIVITIES, FULL, NOT_FAILED, OUTLASTING, WINDOW}),
        frozenset({ORGANIZATION_MENTORS, ACTIVITIES}),
    ),
    "evaluate inactivity, a page of all organizations": Call(
        "scenario_evaluate('inactivity', null, md5('user 17')::uuid, 100)",
        frozenset({ACTIVE_MENTORS, ACTIVITIES, FULL}),
        frozenset({ACTIVE_MENTORS, ACTIVITIES}),
    ),
    "evaluate milestone": Call(
        "scenario_evaluate('milestone', md5('organization 49')::uuid)",
        frozenset({ORGANIZATION_MENTORS, ACTIVITIES, MILESTONE}),
        frozenset({ACTIVITIES}),
    ),
    "evaluate certification_expiry": Call(
        "scenario_evaluate('certification_expiry', md5('organization 49')::uuid)",
        frozenset({ORGANIZATION_MENTORS, CERTIFICATIONS}),
    ),
    "evaluate welcome_back": Call(
        "scenario_evaluate('welcome_back', md5('organization 49')::uuid)",
        frozenset({ORGANIZATION_MENTORS, ACTIVITIES}),
        frozenset({ACTIVITIES}),
    ),
    "explain": Call(f"scenario_explain({_user(2501)})", frozenset({MENTORS, ACTIVITIES, CERTIFICATIONS, FULL})),
    "lease": Call("scenario_lease_notifications(10, 60)", frozenset({DUE, HANDOVER, PRIMARY_KEY, DEVICES})),
    "settle": Call(
        """scenario_settle_notifications((
            select jsonb_agg(jsonb_build_object('id', notification_id, 'lease_number', 1, 'result', 'sent'))
            from (
              select notification_id from scenario_private.handover order by next_attempt_at limit 10
            ) as pending
        ))""",
        frozenset({PRIMARY_KEY, HANDOVER}),
    ),
    "purge": Call(
        "scenario_purge_notifications(90 * 86400, null, 10)",
        frozenset({PRIMARY_KEY, FULL, NOT_FAILED, WINDOW}),
    ),
    "pending": Call(
        "scenario_list_pending(md5('organization 10')::uuid)",
        frozenset({DUE, HANDOVER, PRIMARY_KEY}),
    ),
    "find inactive mentors": Call(
        "scenario_find_inactive_mentors(md5('organization 49')::uuid, '30 days')",
        frozenset({ORGANIZATION_MENTORS, ACTIVITIES}),
        frozenset({ACTIVITIES}),
    ),
    "organization report": Call(
        "scenario_get_organization_report(md5('organization 7')::uuid, now() - interval '90 days', now())",
        frozenset({ORGANIZATION}),
    ),
}

_BIG_TABLES = {"scenario_notifications", "activities", "certifications", "peer_mentors", "device_tokens", "handover"}


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", CALLS)
def test_function_uses_its_indexes(filled: PostgresServer, name: str, mode: str) -> None:
    """Every statement inside a function finds its rows by an index, and no table is read from end to end."""
    call = CALLS[name]
    with _watched(filled) as (connection, plans):
        connection.execute(sql.SQL("set local plan_cache_mode = {}").format(sql.Identifier(mode)))
        connection.execute(_composed(f"select public.{call.call}"))
    # The last statement is the call itself, with what makes its arguments.
    inside = plans[:-1]
    used = set().union(*(plan.indexes for plan in inside))
    explained = "\n".join(map(str, inside))
    assert call.indexes <= used, explained
    assert not _BIG_TABLES & set().union(*(plan.scanned_tables for plan in inside)), explained
    for index in call.index_only:
        assert set().union(*(plan.node_types(index) for plan in inside)) == {"Index Only Scan"}, explained
    if call.index_only == call.indexes:
        assert sum(plan.heap_fetches for plan in inside) == 0, explained


@pytest.mark.parametrize(
    ("name", "pages"),
    [
        ("get_last_sent_at_many", 6),
        ("has_been_sent_since_threshold_many", 6),
        # The ten rows of each that have not failed are on ten pages.
        ("get_last_delivered_at_many", 10 + 6),
        ("get_milestone_record_many", 6),
    ],
)
def test_batch_look_up_costs_no_more_per_user_than_a_single_one(filled: PostgresServer, name: str, pages: int) -> None:
    """A hundred users cost at most a hundred times the pages of one."""
    with _watched(filled) as (connection, plans):
        connection.execute(_composed(f"select public.{CALLS[name].call}"))
    assert max(plan.buffers for plan in plans[:-1]) <= 100 * pages, "\n".join(map(str, plans))


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    "call",
    [
        f"scenario_get_last_sent_at_many(array[{_user(OFTEN_FAILED)}], 'inactivity')",
        f"scenario_get_last_delivered_at_many(array[{_user(OFTEN_FAILED)}], 'inactivity')",
        f"""scenario_claim_notifications(jsonb_build_array(jsonb_build_object(
            'user_id', {_user(OFTEN_FAILED)}, 'organization_id', md5('organization 1')::uuid,
            'scenario_type', 'inactivity', 'cooldown_seconds', 86400
        )))""",
        f"scenario_explain({_user(OFTEN_FAILED)})",
    ],
    ids=lambda call: call.partition("(")[0],
)
def test_many_failed_rows_cost_a_function_nothing(filled: PostgresServer, call: str, mode: str) -> None:
    """Each statement about a user with 3,000 failures reads some dozens of pages, and not those of the failures."""
    with _watched(filled) as (connection, plans):
        connection.execute(sql.SQL("set local plan_cache_mode = {}").format(sql.Identifier(mode)))
        connection.execute(_composed(f"select public.{call}"))
    assert max(plan.buffers for plan in plans) <= 150, "\n".join(map(str, plans))


def test_every_index_is_named_here(connection: psycopg.Connection) -> None:
    """An index that no plan in this file uses has no query to serve."""
    rows = connection.execute("""
        select relname from pg_class
        where relnamespace in ('public'::regnamespace, 'scenario_private'::regnamespace) and relkind = 'i'
          and not exists (select from pg_constraint where conindid = pg_class.oid)
    """).fetchall()
    proven = {query.index for query in HOT_QUERIES.values()} | {
        ORGANIZATION,
        DUE,
        SUSPECTS,
        FAILED,
        FAILED_OF_ORGANIZATION,
    }
    proven |= {index for call in CALLS.values() for index in call.indexes}
    assert {name for (name,) in rows} <= proven
