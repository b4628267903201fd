"""The pg_cron snippet: on a server that loads pg_cron, and on one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.database import Database
from tests.integration.evaluation import KINDS
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import SUPERUSER, PostgresServer, postgres_server
from tests.rows import ORGANIZATION, ago, insert_activities, insert_notification

_SNIPPETS = Path(__file__).parents[2] / "supabase" / "snippets"
SCHEDULE = (_SNIPPETS / "schedule_with_pg_cron.sql").read_bytes()
CLEARING = ("purge", "job_run_details")
UNSCHEDULE = (_SNIPPETS / "unschedule_pg_cron.sql").read_bytes()


@pytest.fixture(scope="module")
def cron_server() -> Iterator[PostgresServer]:
    """Run a server with pg_cron, in the one database that may have it."""
    settings = {"shared_preload_libraries": "pg_cron", "cron.database_name": "postgres"}
    with postgres_server(settings) as server:
        apply_migrations(server.url())
        yield server


@pytest.fixture
def owner(cron_server: PostgresServer) -> Iterator[psycopg.Connection]:
    """Connect as postgres, as the SQL editor does, to a database with pg_cron and without jobs."""
    with psycopg.connect(cron_server.url(user=SUPERUSER), autocommit=True) as superuser:
        # As on the platform, where supautils lets postgres create it.
        superuser.execute("create extension if not exists pg_cron")
    with psycopg.connect(cron_server.url(), autocommit=True) as connection:
        yield connection
        connection.execute(UNSCHEDULE)


def jobs(connection: psycopg.Connection) -> dict[str, tuple[int, str, str, str]]:
    """Read the jobs: by name, their number, schedule, user and command."""
    rows = connection.execute("select jobname, jobid, schedule, username, command from cron.job").fetchall()
    return {name: (number, schedule, user, command) for name, number, schedule, user, command in rows}


@pytest.mark.needs("pg_cron")
def test_each_scenario_gets_a_job_of_its_own(owner: psycopg.Connection) -> None:
    """Named, as the user who ran the snippet, and at minutes that don't meet; two more clear up."""
    owner.execute(SCHEDULE)
    scheduled = jobs(owner)
    assert set(scheduled) == {f"scenario_repo {kind}" for kind in (*KINDS, *CLEARING)}
    assert {user for _, _, user, _ in scheduled.values()} == {"postgres"}
    minutes = {schedule.split("/")[0].split()[0] for _, schedule, _, _ in scheduled.values()}
    assert len(minutes) == len(scheduled)


@pytest.mark.needs("pg_cron")
def test_running_the_snippet_twice_changes_nothing(owner: psycopg.Connection) -> None:
    """The names upsert: no second job, and the first keeps its number."""
    owner.execute(SCHEDULE)
    first = jobs(owner)
    owner.execute(SCHEDULE)
    assert jobs(owner) == first


@pytest.mark.needs("pg_cron")
def test_another_schedule_replaces_the_one_before(owner: psycopg.Connection) -> None:
    """Whoever edits the snippet and runs it again changes the jobs."""
    owner.execute(SCHEDULE)
    owner.execute(SCHEDULE.replace(b"23 5 * * *", b"41 6 * * 1"))
    assert jobs(owner)["scenario_repo certification_expiry"][1] == "41 6 * * 1"
    assert len(jobs(owner)) == len(KINDS) + len(CLEARING)


@pytest.mark.needs("pg_cron")
def test_unscheduling_takes_our_jobs_alone(owner: psycopg.Connection) -> None:
    """Somebody else's job stays; doing it twice changes nothing."""
    owner.execute("select cron.schedule('not ours', '0 0 1 1 *', 'select 1')")
    owner.execute(SCHEDULE)
    owner.execute(UNSCHEDULE)
    owner.execute(UNSCHEDULE)
    assert set(jobs(owner)) == {"not ours"}
    owner.execute("select cron.unschedule('not ours')")


@pytest.mark.needs("pg_cron")
def test_a_jobs_command_turns_all_pages_and_commits_each(
    cron_server: PostgresServer, owner: psycopg.Connection
) -> None:
    """As its user, sent as pg_cron sends it: everybody who is due is claimed, in a transaction for every page."""
    owner.execute(SCHEDULE)
    database = Database(cron_server.url())
    ids = database.new_mentors(25, ORGANIZATION)
    with database.connect() as worker:
        insert_activities(worker, ids, ago("40 days"))
    command = jobs(owner)["scenario_repo inactivity"][3]
    small_pages = command.replace("'inactivity',", "'inactivity', null, 10,")
    assert small_pages != command
    for text in (small_pages, command):
        owner.execute(text.encode())
    rows = owner.execute("select user_id from public.scenario_notifications").fetchall()
    assert sorted(row[0] for row in rows) == sorted(ids)
    # now() stands still in a transaction: as many times, as many commits.
    row = owner.execute("select count(distinct triggered_at) from public.scenario_notifications").fetchone()
    assert row == (3,)
    row = owner.execute(
        "select pass_skipped, pass_finished_at is not null from public.scenario_evaluation_config"
        " where scenario_type = 'inactivity'"
    ).fetchone()
    assert row == (25, True)


@pytest.mark.needs("pg_cron")
def test_the_nightly_jobs_delete_what_is_over_and_their_own_notes(
    cron_server: PostgresServer, owner: psycopg.Connection
) -> None:
    """A notification that has been over for more than a year, page by page; pg_cron's notes of other jobs stay."""
    owner.execute(SCHEDULE)
    owner.execute("select cron.schedule('not ours', '0 0 1 1 *', 'select 1')")
    database = Database(cron_server.url())
    (user_id,) = database.new_mentors(1, ORGANIZATION)
    for days in (500, 400, 300):
        times = {"triggered_at": ago(f"{days} days"), "settled_at": ago(f"{days} days")}
        insert_notification(owner, user_id, scenario_type="welcome_back", delivery_status="sent", **times)
    owner.execute(jobs(owner)["scenario_repo purge"][3].encode())
    left = owner.execute(
        "select extract(day from now() - triggered_at)::integer from public.scenario_notifications"
        " where user_id = %s order by triggered_at",
        [user_id],
    ).fetchall()
    assert left == [(300,)]
    owner.execute(
        "insert into cron.job_run_details (jobid, runid, username, end_time)"
        " select jobid, row_number() over () + 1000 * days, username, now() - make_interval(days => days)"
        " from cron.job, unnest(array[6, 8]) as days"
    )
    owner.execute(jobs(owner)["scenario_repo job_run_details"][3].encode())
    notes = owner.execute(
        "select jobname like 'scenario\\_repo %', count(*) from cron.job_run_details join cron.job using (jobid)"
        " where end_time is not null group by 1 order by 1"
    ).fetchall()
    assert notes == [(False, 2), (True, len(KINDS) + len(CLEARING))]
    owner.execute("select cron.unschedule('not ours')")


@pytest.mark.parametrize("snippet", [SCHEDULE, UNSCHEDULE])
def test_without_pg_cron_there_is_a_notice_and_nothing_else(
    worker: psycopg.Connection, database: Database, snippet: bytes
) -> None:
    """A server that doesn't load pg_cron, or a database that has none: the snippets say so."""
    notices: list[str] = []
    with database.connect(role=None) as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute(snippet)
    assert len(notices) == 1
    assert "pg_cron is not" in notices[0]
    assert worker.execute("select to_regnamespace('cron')").fetchone() == (None,)


def test_without_the_migrations_the_snippet_says_what_is_missing(postgres_server: PostgresServer) -> None:
    """A job that can only fail is not scheduled."""
    with (
        psycopg.connect(postgres_server.url(), autocommit=True) as connection,
        pytest.raises(psycopg.Error, match="apply its migrations first"),
    ):
        connection.execute(SCHEDULE)
