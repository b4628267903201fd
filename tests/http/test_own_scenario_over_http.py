"""A scenario type of the app's own on the embedded stack: the command line and Python take its name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from scenario_repo import (
    DeliveryWorker,
    InvalidDataException,
    LeasedNotification,
    NewScenarioNotification,
    NotificationClaim,
    ScenarioTriggerEngine,
    ScenarioType,
    cli,
)
from scenario_repo.testing.embedded_stack import embedded_stack
from tests import own_scenario
from tests.http.supabase_platform import Platform
from tests.own_scenario import NAME
from tests.rows import ago, insert_activities, insert_mentors

ORGANIZATION = uuid4()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let the command line write the migration into a project."""
    folder = tmp_path_factory.mktemp("project")
    assert cli.main(["new-scenario", NAME, "--project", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def platform(project: Path) -> Iterator[Platform]:
    """Start a stack of the module's own, with the type added."""
    with embedded_stack() as running:
        (migration,) = (project / "migrations").glob("*.sql")
        with psycopg.connect(running.database_url, autocommit=True, prepare_threshold=None) as owner:
            owner.execute(own_scenario.filled_in(migration).encode())
        yield Platform(
            name="lite on PGlite",
            url=running.url,
            database_url=running.database_url,
            secret_key=running.secret_key,
            publishable_key=running.publishable_key,
            jwt_secret=running.jwt_secret,
        )


@pytest.fixture
def mentors(platform: Platform) -> Iterator[list[UUID]]:
    """Make five mentors who have just begun."""
    users = platform.new_users(5)
    with psycopg.connect(platform.database_url, autocommit=True, prepare_threshold=None) as owner:
        insert_mentors(owner, users, organization_id=ORGANIZATION)
        insert_activities(owner, users, ago("1 day"), organization_id=ORGANIZATION)
    yield users
    platform.delete_users(users)


async def test_python_takes_the_name_wherever_a_type_goes(platform: Platform, mentors: list[UUID]) -> None:
    """Engine, worker, look-ups, claim, insert and report; the database refuses a name it does not know."""
    sent: list[LeasedNotification] = []

    async def send(notification: LeasedNotification) -> None:
        sent.append(notification)

    async with platform.worker() as repository:
        assert (await repository.describe_schema()).scenario_types == (*ScenarioType, NAME)
        report = await ScenarioTriggerEngine(repository).run()
        assert [(one.scenario_type, one.claimed) for one in report.scenarios] == [
            *((kind, 0) for kind in ScenarioType),
            (NAME, 5),
        ]
        await DeliveryWorker(repository, send, scenario_types=[NAME]).run(until_idle=True)
        assert {(one.user_id, one.scenario_type) for one in sent} == {(user, NAME) for user in mentors}
        assert all((await repository.get_last_sent_at_many(mentors, NAME)).values())
        assert await repository.get_last_sent_at(mentors[0], NAME) is not None

        claim = NotificationClaim(
            user_id=mentors[0], organization_id=ORGANIZATION, scenario_type=NAME, cooldown=timedelta(days=1)
        )
        (outcome,) = await repository.claim_notifications([claim])
        assert (outcome.claimed, outcome.skip_reason) == (False, "cooldown")
        (row,) = await repository.list_notifications(mentors[1])
        assert (row.scenario_type, type(row.scenario_type)) == (NAME, str)
        new = NewScenarioNotification(user_id=mentors[1], organization_id=ORGANIZATION, scenario_type=NAME)
        assert (await repository.insert_notification(new)).scenario_type == NAME
        with pytest.raises(InvalidDataException, match=r"known scenario type: inactivity, .*first_session"):
            await repository.get_last_sent_at_many(mentors, "birthday")
        with pytest.raises(InvalidDataException):
            await repository.insert_notification(new.model_copy(update={"scenario_type": "birthday"}))


async def test_the_command_line_takes_it(
    platform: Platform, mentors: list[UUID], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """evaluate, explain, report and check-rules know it as they know the built-in ones."""
    monkeypatch.setenv("SUPABASE_URL", platform.url)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", platform.secret_key)
    monkeypatch.delenv("SUPABASE_SECRET_KEYS", raising=False)

    def run(*arguments: str) -> str:
        assert cli.main(arguments) == 0
        return capsys.readouterr().out

    evaluated = await asyncio.to_thread(run, "evaluate", "--scenario", NAME, "--json")
    assert json.loads(evaluated)["scenarios"][0]["claimed"] == 5
    assert f"{NAME}: not due, in cooldown" in await asyncio.to_thread(run, "explain", str(mentors[0]))
    assert f"\n{NAME} " in await asyncio.to_thread(run, "report", str(ORGANIZATION))
    checked = await asyncio.to_thread(run, "check-rules")
    assert [line.partition(":")[0] for line in checked.splitlines() if ": ok, " in line] == [*ScenarioType, NAME]
    assert "  plan of a page:" in await asyncio.to_thread(run, "check-rules", NAME, "--plans")


def test_the_type_is_written_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run writes nothing, and says why; another type's migration is dated after it."""
    before = sorted(project.rglob("*.sql"))
    assert cli.main(["new-scenario", NAME, "--project", str(project)]) == 4
    assert "is there already" in capsys.readouterr().err
    assert sorted(project.rglob("*.sql")) == before
