"""A scenario type of the app's own is one migration: everything else takes it as it takes the built-in ones."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from scenario_repo import RuleCheck, ScenarioType
from tests import own_scenario
from tests.integration.database import Database, claim, new_claim, results
from tests.integration.delivery import lease, settle, settlement
from tests.integration.evaluation import act, evaluate, explain
from tests.own_scenario import NAME
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import SUPERUSER, PostgresServer
from tests.rows import ORGANIZATION, ago, insert_activities, insert_certificates, insert_devices

BUILT_IN = [str(kind) for kind in ScenarioType]


@pytest.fixture
def own(database: Database, tmp_path: Path) -> Database:
    """Add the type to a database, twice: the migration can run again."""
    migration, _ = own_scenario.write(tmp_path)
    with database.connect(role=None) as owner:
        for _ in range(2):
            owner.execute(own_scenario.filled_in(migration).encode())
    return database


@pytest.fixture
def mentors(own: Database) -> tuple[UUID, UUID, UUID]:
    """Make a mentor who has just begun, one who began long ago, and one who never did anything."""
    new, old, never = own.new_mentors(3, ORGANIZATION)
    with own.connect() as worker:
        act(worker, new, "2 days", "1 hour")
        act(worker, old, "60 days", "1 day")
    return new, old, never


@pytest.fixture
def worker(own: Database) -> Iterator[psycopg.Connection]:
    """Connect as service_role."""
    with own.connect() as connection:
        yield connection


def call(worker: psycopg.Connection, query: str, *arguments: object) -> Any:  # noqa: ANN401 - whatever json holds
    """Call a function of the API, and return its answer."""
    row = worker.execute(query.encode(), arguments).fetchone()
    assert row is not None
    return row[0]


def check(worker: psycopg.Connection, kind: str = NAME) -> RuleCheck:
    """Check a rule."""
    return RuleCheck.model_validate(call(worker, "select public.scenario_check_rule(%s)", kind))


def test_it_is_evaluated_explained_delivered_and_reported(
    own: Database, worker: psycopg.Connection, mentors: tuple[UUID, UUID, UUID]
) -> None:
    """From the evaluation to the purge, without a line changed elsewhere."""
    new = mentors[0]
    dry, page = evaluate(worker, NAME, dry_run=True), evaluate(worker, NAME)
    figures = {"evaluated": 3, "due": 1, "claimed": 1, "history": 0, "skipped": {}, "next_after": None}
    assert dry == page == figures | {"due_mentors": []}
    assert evaluate(worker, NAME)["skipped"] == {"cooldown": 1}
    assert [explain(worker, user, NAME)["reason"] for user in mentors] == ["cooldown", "long_a_mentor", "never_active"]

    insert_devices(worker, [new])
    (leased,) = lease(worker, scenario_types=[NAME])
    assert (leased["user_id"], leased["scenario_type"], len(leased["device_tokens"])) == (str(new), NAME, 1)
    assert settle(worker, [settlement(leased, "sent")]) == ["sent"]
    last = call(worker, "select public.scenario_get_last_sent_at_many(array[%s::uuid], %s)", new, NAME)
    assert last == {"answers": [leased["triggered_at"]]}

    report = "select public.scenario_get_organization_report(%s, now() - interval '1 day', now() + interval '1 day')"
    (line,) = call(worker, report, ORGANIZATION)["lines"]
    assert (line["scenario_type"], line["delivery_status"], line["notifications"]) == (NAME, "sent", None)

    own.let_pass(timedelta(days=40))
    assert results(claim(worker, [new_claim(new, scenario_type=NAME)])) == ["claimed"]
    own.let_pass(timedelta(days=400))
    worker.execute("update public.scenario_notifications set delivery_status = 'sent'")
    purged = call(worker, "select public.scenario_purge_notifications(%s)", 365 * 86_400)
    assert purged["purged"] == 1


def test_it_is_claimed_beside_the_built_in_types(worker: psycopg.Connection, mentors: tuple[UUID, UUID, UUID]) -> None:
    """In a batch with others, on the fast path and row by row; a type that nobody added is refused alone."""
    new, old, _ = mentors
    claims = [new_claim(new, scenario_type=NAME), new_claim(new), new_claim(old, scenario_type=NAME)]
    assert results(claim(worker, [*claims, new_claim(old, scenario_type="birthday")])) == [
        *["claimed"] * 3,
        "invalid_claim",
    ]
    assert results(claim(worker, claims)) == ["cooldown"] * 3


def test_the_passes_of_all_types_are_known(worker: psycopg.Connection) -> None:
    """What an engine evaluates when it is given no type: the built-in four, and this one."""
    assert call(worker, "select public.scenario_get_schema()") == {"version": 1, "scenario_types": [*BUILT_IN, NAME]}
    page = call(worker, "select public.scenario_evaluate_next_page(%s)", NAME)
    assert page["next_after"] is None


def test_the_lists_only_grow(own: Database, worker: psycopg.Connection) -> None:
    """The migrations of scenario_repo and of the type, run again in either order, leave the lists as they are."""
    apply_migrations(own.url)
    with own.connect(role=None) as owner:
        owner.execute("select scenario_private.add_scenario_type('second_session')")
        owner.execute(f"select scenario_private.add_scenario_type('{NAME}')".encode())
        owner.execute("select scenario_private.add_scenario_type('inactivity')")
    types = call(worker, "select scenario_private.scenario_types()")
    assert types == [*BUILT_IN, NAME, "second_session"]
    for table in ("scenario_notifications", "scenario_evaluation_config"):
        name = f"{table}_scenario_type_is_known"
        row = worker.execute("select convalidated from pg_constraint where conname = %s", [name]).fetchone()
        assert row == (True,)


@pytest.mark.parametrize("name", [None, "", "Birthday", "1st", "a-b", "a'b", "x" * 41, "über"])
def test_a_name_that_is_none_is_refused(name: str | None, database: Database) -> None:
    """SR008 says what a name is made of."""
    with database.connect(role=None) as owner, pytest.raises(psycopg.Error, match="expected a scenario type of") as no:
        owner.execute("select scenario_private.add_scenario_type(%s)", [name])
    assert no.value.sqlstate == "SR008"


def test_only_the_owner_adds_a_type(database: Database) -> None:
    """Not the service's role: the lists of a CHECK are the migrations' business."""
    with database.connect() as service, pytest.raises(psycopg.errors.InsufficientPrivilege):
        service.execute("select scenario_private.add_scenario_type('birthday')")


def test_a_type_without_a_rule_is_claimed_and_not_evaluated(database: Database) -> None:
    """An app may claim by itself what no rule finds; an evaluation says what is missing."""
    (user,) = database.new_users(1)
    with database.connect(role=None) as owner:
        owner.execute("select scenario_private.add_scenario_type('birthday')")
    with database.connect() as worker:
        assert results(claim(worker, [new_claim(user, scenario_type="birthday")])) == ["claimed"]
        assert call(worker, "select public.scenario_get_schema()")["scenario_types"] == BUILT_IN
        # With default settings it is meant to be evaluated: whoever evaluates is told that its rule is missing.
        worker.execute(
            "insert into public.scenario_evaluation_config"
            " (scenario_type, is_enabled, cooldown, retry_failed_after, deliver_within, max_attempts, priority)"
            " values ('birthday', true, '300 days', '1 day', '7 days', 8, 5)"
        )
        assert call(worker, "select public.scenario_get_schema()")["scenario_types"] == [*BUILT_IN, "birthday"]
        with pytest.raises(psycopg.Error, match="birthday has no rule: create the view") as refused:
            evaluate(worker, "birthday")
        assert refused.value.sqlstate == "SR008"


def test_an_own_type_may_have_a_built_in_ones_settings(own: Database) -> None:
    """Its rule may read a length of time from the settings; milestones stay the milestones'."""
    with own.connect() as worker:
        setting = "update public.scenario_evaluation_config set {} where scenario_type = %s"
        for column in ("inactive_after", "returned_within", "expires_within", "due_within"):
            worker.execute(setting.format(f"{column} = '7 days'").encode(), [NAME])
        with pytest.raises(psycopg.errors.CheckViolation, match="settings_belong_to_their_scenario"):
            worker.execute(setting.format("milestones = '{1}'").encode(), [NAME])


# The template --------------------------------------------------------------


def test_the_template_is_a_rule_by_which_nobody_is_due(database: Database, tmp_path: Path) -> None:
    """As written, before it is filled in, it can be applied and keeps the contract."""
    migration, _ = own_scenario.write(tmp_path)
    (user,) = database.new_mentors(1, ORGANIZATION)
    with database.connect(role=None) as owner:
        owner.execute(migration.read_bytes())
    with database.connect() as worker:
        act(worker, user, "1 day")
        checked = check(worker)
        assert (checked.faults, checked.mentors, checked.due, checked.samples) == ((), 1, 0, ())
        assert explain(worker, user, NAME)["reason"] == "rule_not_written"


@pytest.mark.needs("pgtap", "pg_prove", "psql")
def test_the_templates_pgtap_test_passes_and_can_fail(own: Database, tmp_path: Path) -> None:
    """It holds the rule to the contract: it passes, and fails for a view without one of the columns."""
    _, test = own_scenario.write(tmp_path / "again")

    def prove() -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PGOPTIONS": "-c search_path=public,extensions"}
        url = own.url.replace("postgres@", f"{SUPERUSER}@")
        return subprocess.run(  # noqa: S603 - the command is ours
            ["pg_prove", "--dbname", url, str(test)],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )

    assert prove().returncode == 0, prove().stdout + prove().stderr
    _replace_rule(own, _rule_of(_COLUMNS.replace("as facts", "as fact")))
    assert prove().returncode != 0


# check_rule ----------------------------------------------------------------


@pytest.mark.parametrize("kind", BUILT_IN)
def test_the_built_in_rules_keep_the_contract(kind: str, worker: psycopg.Connection) -> None:
    """The check finds nothing to say against them, and shows both plans."""
    checked = check(worker, kind)
    assert (checked.scenario_type, checked.faults) == (kind, ())
    assert checked.page_plan
    assert checked.look_up_plan


@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_check_of_many_mentors_finds_no_fault(kind: str, own: Database) -> None:
    """With enough rows for every table to be worth an index, a look-up reads none of them whole."""
    mentors = own.new_mentors(3_000, ORGANIZATION)
    with own.connect(role=None) as owner:
        insert_activities(owner, mentors, ago("40 days"), ago("2 days"))
        insert_certificates(owner, mentors, ago("-10 days"))
        for table in ("peer_mentors", "activities", "certifications", "scenario_notifications"):
            owner.execute(f"analyze public.{table}".encode())
    with own.connect() as worker:
        assert check(worker, kind).faults == ()


def test_a_check_counts_and_shows_samples(worker: psycopg.Connection, mentors: tuple[UUID, UUID, UUID]) -> None:
    """Who is due, with what the verdict rests on; nothing is claimed."""
    checked = check(worker)
    assert (checked.mentors, checked.due, checked.is_complete) == (3, 1, True)
    (sample,) = checked.samples
    assert (sample.user_id, sample.organization_id, sample.finding) == (mentors[0], ORGANIZATION, "first_session_held")
    assert worker.execute("select from public.scenario_notifications").rowcount == 0


_COLUMNS = """
    setting.scenario_type, setting.user_id, setting.organization_id, setting.is_active, setting.is_enabled,
    setting.is_evaluated, setting.cooldown, null::integer as milestone_value, true as is_due, 'ok'::text as finding,
    '{}'::jsonb as facts, '{}'::text[] as subjects, null::timestamptz as crossed_at,
    null::timestamptz as history_before, null::timestamptz as series_began_at, null::integer as series_limit,
    true as stands
"""
_FAULTY = {
    "column facts is missing": ("'{}'::jsonb as facts", "'{}'::jsonb as fact"),
    "column subjects is missing": ("'{}'::text[] as subjects", "'{}'::text[] as subject"),
    "column series_limit: expected integer, got bigint": ("null::integer as series_limit", "1::bigint as series_limit"),
    "column finding: expected text, got integer": ("'ok'::text as finding", "1 as finding"),
    "user_id or organization_id is null": ("setting.organization_id", "null::uuid as organization_id"),
    "cooldown is not positive": ("setting.cooldown", "interval '-1 day' as cooldown"),
    "or longer than 36525 days": ("setting.cooldown", "interval '36526 days' as cooldown"),
    "milestone_value is for milestones alone": ("null::integer as milestone_value", "7 as milestone_value"),
    "cooldown is null in some rows": ("setting.cooldown", "null::interval as cooldown"),
    "finding is not a code": ("'ok'::text", "'Not a code'::text"),
    "scenario_type is another one": ("setting.scenario_type", "'inactivity'::text as scenario_type"),
    "holds personal data": ("'{}'::jsonb", "jsonb_build_object('note', 'a@example.com')"),
    "is no json object": ("'{}'::jsonb", "'[]'::jsonb"),
    "the rule raised 22012": ("true as is_due", "1 / (length(setting.user_id::text) - 36) = 0 as is_due"),
}


@pytest.mark.parametrize("fault", _FAULTY)
def test_a_fault_of_a_rule_is_named(fault: str, own: Database, worker: psycopg.Connection) -> None:
    """Each breach of the contract has its sentence, and none of them is an error."""
    own.new_mentors(2, ORGANIZATION)
    good, bad = _FAULTY[fault]
    assert good in _COLUMNS
    _replace_rule(own, _rule_of(_COLUMNS.replace(good, bad)))
    (found,) = check(worker).faults
    assert fault in found


def test_a_rule_that_raises_silences_no_other(own: Database, worker: psycopg.Connection) -> None:
    """An explanation says so of this rule and explains the others; the others are evaluated."""
    (mentor,) = own.new_mentors(1, ORGANIZATION)
    act(worker, mentor, "40 days")
    raising = "1 / (length(setting.user_id::text) - 36) = 0 as is_due"
    _replace_rule(own, _rule_of(_COLUMNS.replace("true as is_due", raising)))
    verdict = explain(worker, mentor, NAME)
    assert (verdict["is_due"], verdict["reason"], verdict["facts"]) == (False, "rule_failed", {})
    assert explain(worker, mentor, "inactivity")["is_due"]
    assert evaluate(worker, "inactivity")["claimed"] == 1
    with pytest.raises(psycopg.errors.DivisionByZero):
        evaluate(worker, NAME)


def test_one_bad_row_of_a_rule_loses_nobody_else(own: Database, worker: psycopg.Connection) -> None:
    """Facts that do not fit, a missing cooldown, a verdict that is null, a mentor twice: the others are claimed."""
    mentors = sorted(own.new_mentors(6, ORGANIZATION))
    cases = {
        "setting.cooldown": f"case when setting.user_id <> '{mentors[0]}' then setting.cooldown end as cooldown",
        "'{}'::jsonb as facts": f"""
            case setting.user_id
              when '{mentors[1]}' then jsonb_build_object('note', 'a@example.com')
              when '{mentors[2]}' then jsonb '[]'
              when '{mentors[3]}' then jsonb_build_object('x', repeat('x', 9000))
            end as facts""",
        "true as is_due": f"case when setting.user_id <> '{mentors[4]}' then true end as is_due",
    }
    columns = _COLUMNS
    for good, bad in cases.items():
        assert good in columns
        columns = columns.replace(good, bad)
    _replace_rule(own, f"{_rule_of(columns)} cross join generate_series(1, 2)")
    page = evaluate(worker, NAME)
    assert (page["claimed"], page["skipped"]["invalid_claim"], page["skipped"]["invalid_metadata"]) == (1, 1, 3)
    (claimed,) = worker.execute("select user_id from public.scenario_notifications").fetchall()
    assert claimed == (mentors[5],)


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        ("'{}'::jsonb as facts", "'[1]'::jsonb as facts", "ok"),
        ("'{}'::jsonb as facts", "jsonb_build_object('note', 'a@example.com') as facts", "ok"),
        ("'ok'::text as finding", "null::text as finding", "rule_failed"),
        ("setting.is_evaluated", "null::boolean as is_evaluated", "ok"),
        ("null::integer as milestone_value", "'x'::text as milestone_value", "rule_failed"),
        ("setting.cooldown", "interval '100000000 days' as cooldown", "ok"),
    ],
)
def test_no_row_of_a_rule_makes_an_explanation_unreadable(
    good: str, bad: str, reason: str, own: Database, worker: psycopg.Connection
) -> None:
    """Nor a page of an evaluation: what a notification could not keep is left out, and the others are explained."""
    (mentor,) = own.new_mentors(1, ORGANIZATION)
    act(worker, mentor, "40 days")
    assert good in _COLUMNS
    _replace_rule(own, _rule_of(_COLUMNS.replace(good, bad)))
    verdict = explain(worker, mentor, NAME)
    assert (verdict["reason"], verdict["facts"]) == (reason, {})
    assert explain(worker, mentor, "inactivity")["is_due"]
    if "::text as milestone_value" not in bad:
        assert evaluate(worker, NAME, dry_run=True)["evaluated"] in {0, 1}


def test_a_dry_run_is_true_or_false(worker: psycopg.Connection) -> None:
    """Null is neither: it is refused, and nothing is claimed."""
    with pytest.raises(psycopg.Error, match="expected p_dry_run, got null") as refused:
        worker.execute("select public.scenario_evaluate('inactivity', null, null, 10, null)")
    assert refused.value.sqlstate == "SR001"


def test_a_built_in_rule_that_is_gone_is_an_error(own: Database, worker: psycopg.Connection) -> None:
    """Its type is still listed, so that an engine evaluates it and reports what is missing."""
    with own.connect(role=None) as owner:
        owner.execute("drop view scenario_private.inactivity_rule")
    assert call(worker, "select public.scenario_get_schema()")["scenario_types"] == [*BUILT_IN, NAME]
    with pytest.raises(psycopg.Error, match="inactivity has no rule") as refused:
        evaluate(worker, "inactivity")
    assert refused.value.sqlstate == "SR008"


def test_faults_around_a_rule_are_named(own: Database, worker: psycopg.Connection) -> None:
    """Two rows for a mentor; a view that is not granted or not there; settings that are missing."""
    own.new_mentors(2, ORGANIZATION)
    _replace_rule(own, f"{_rule_of(_COLUMNS)} cross join generate_series(1, 2)")
    assert check(worker).faults == ("a mentor has more than one row for an organization",)
    _replace_rule(own, _rule_of(_COLUMNS), grant=False)
    (fault,) = check(worker).faults
    assert fault.startswith("service_role may not read it: grant select on scenario_private.first_session_rule")
    _replace_rule(own, _rule_of(_COLUMNS))
    with own.connect(role=None) as owner:
        owner.execute("alter view scenario_private.first_session_rule reset (security_invoker)")
        (fault,) = check(worker).faults
        assert fault.startswith("it is no view with security_invoker")
        owner.execute("drop view scenario_private.first_session_rule")
        owner.execute("delete from public.scenario_evaluation_config where scenario_type = 'first_session'")
    assert check(worker).faults == (
        "there is no view scenario_private.first_session_rule",
        "its default row in scenario_evaluation_config is missing",
    )


def test_a_look_up_that_reads_a_whole_table_is_named(own: Database, worker: psycopg.Connection) -> None:
    """A rule over a table without an index by user works, and is slow: the check says which table."""
    with own.connect(role=None) as owner:
        owner.execute("create table public.sessions (user_id uuid, held_at timestamptz)")
        owner.execute("insert into public.sessions select gen_random_uuid(), now() from generate_series(1, 5000)")
        owner.execute("grant select on public.sessions to service_role")
        owner.execute("analyze public.sessions")
    columns = _COLUMNS.replace("true as is_due", "session.held_at is not null as is_due")
    look_up = "select held_at from public.sessions where sessions.user_id = setting.user_id limit 1"
    _replace_rule(own, f"{_rule_of(columns)} left join lateral ({look_up}) as session on true")
    own.new_mentors(50, ORGANIZATION)
    (fault,) = check(worker).faults
    assert fault.startswith("the look-up of a person reads all of public.sessions")
    with own.connect(role=None) as owner:
        owner.execute("create index on public.sessions (user_id, held_at)")
    assert check(worker).faults == ()


def _rule_of(columns: str) -> str:
    return f"select {columns} from scenario_private.mentor_setting as setting"  # noqa: S608 - the columns are ours


def _replace_rule(own: Database, query: str, *, grant: bool = True) -> None:
    with own.connect(role=None) as owner:
        owner.execute("drop view scenario_private.first_session_rule")
        owner.execute(
            f"create view scenario_private.first_session_rule with (security_invoker = true) as {query}"
            f" where setting.scenario_type = '{NAME}'".encode()
        )
        if grant:
            owner.execute("grant select on scenario_private.first_session_rule to service_role")


def test_a_template_before_our_own_migration_says_so(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Not a raw "schema does not exist"."""
    url = postgres_server.create_database("template_first")
    try:
        migration, _ = own_scenario.write(tmp_path)
        with (
            psycopg.connect(url) as owner,
            pytest.raises(psycopg.errors.RaiseException, match="its migration has to be applied before this one"),
        ):
            owner.execute(migration.read_bytes())
    finally:
        postgres_server.drop_database("template_first")
