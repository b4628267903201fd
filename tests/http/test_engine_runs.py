"""Runs in a row, on a server whose pages time out or hang: every scenario is served, and passes move on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import pytest

from scenario_repo import EvaluationPage, ScenarioNotificationRepository, ScenarioTriggerEngine, ScenarioType
from tests.factories import function_arguments
from tests.http.counting import Counted, counted_worker
from tests.http.supabase_platform import Platform
from tests.rows import ago, insert_activities, insert_mentors

INACTIVITY: Final = ScenarioType.INACTIVITY
PATIENCE: Final = timedelta(minutes=2)

# Several sessions of a real server: PGlite has one, and no statement timeout.
pytestmark = pytest.mark.parametrize(
    "platform",
    ["external" if os.environ.get("SCENARIO_TEST_SUPABASE_URL") else "lite on PostgreSQL"],
    indirect=True,
    scope="session",
)

Slow = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def mentors(platform: Platform, new_users: Callable[[int], list[UUID]], organization_id: UUID) -> Iterator[list[UUID]]:
    """Make 1,100 mentors who are quiet; what is kept of the organization's passes goes afterwards."""
    users = sorted(new_users(1_100))
    with platform.owner() as owner:
        insert_mentors(owner, users, organization_id=organization_id)
        insert_activities(owner, users, ago("40 days"), organization_id=organization_id)
    yield users
    platform.execute("delete from public.scenario_evaluation_config where organization_id = %s", organization_id)


@pytest.fixture
def slow(platform: Platform, organization_id: UUID) -> Slow:
    """Make the claims of the organization sleep under a condition on the number of new rows."""

    @contextmanager
    def sleeping(condition: str) -> Iterator[None]:
        platform.execute(
            f"""
            create function public.sleep_a_while() returns trigger language plpgsql as $$
            begin
              if (
                select count(*) {condition} from fresh where organization_id = '{organization_id}'
              ) then
                perform pg_sleep(30);
              end if;
              return null;
            end
            $$
            """  # noqa: S608 - the test's own words
        )
        platform.execute(
            """
            create trigger sleep_a_while after insert on public.scenario_notifications
            referencing new table as fresh for each statement execute function public.sleep_a_while()
            """
        )
        try:
            yield
        finally:
            platform.execute("drop function public.sleep_a_while cascade")

    return sleeping


def pages(counted: Counted) -> list[dict[str, Any]]:
    """Return the arguments of each page that was asked for, and forget the requests."""
    asked = [function_arguments(request) for request in counted.requests if "next_page" in request.url.path]
    counted.requests.clear()
    return asked


def sizes(counted: Counted) -> list[int]:
    """Return the size of each page that was asked for, and forget the requests."""
    return [arguments["p_limit"] for arguments in pages(counted)]


@pytest.mark.usefixtures("mentors")
async def test_pages_that_meet_the_statement_timeout_are_halved_and_the_size_is_kept(
    platform: Platform, organization_id: UUID, slow: Slow
) -> None:
    """The server cancels any page that claims for more than 500: the pass ends, and no later run meets the timeout."""
    async with counted_worker(platform) as counted:
        engine = ScenarioTriggerEngine(counted.repository)
        with slow("> 500"):
            report = await engine.run([INACTIVITY], organization_id, PATIENCE)
            assert (report.completed, report.errors, report.scenarios[0].claimed) == (True, (), 1_100)
            assert sizes(counted) == [1_000, 500, 500, 500]
        platform.execute("delete from public.scenario_notifications where organization_id = %s", organization_id)
        with slow("> 500"):
            report = await engine.run([INACTIVITY], organization_id, PATIENCE)
            assert (report.completed, report.scenarios[0].claimed) == (True, 1_100)
            assert sizes(counted) == [500, 500, 500]


@pytest.mark.usefixtures("mentors")
async def test_pages_grow_again(platform: Platform, organization_id: UUID) -> None:
    """What a run found is where the next one begins, and no bound for good."""
    async with counted_worker(platform) as counted:
        await counted.repository.evaluate_next_page(INACTIVITY, organization_id, 50)
        sizes(counted)
        report = await ScenarioTriggerEngine(counted.repository).run([INACTIVITY], organization_id, PATIENCE)
        assert report.scenarios[0].claimed == 1_050
        assert sizes(counted) == [*[50] * 8, 100, 200, 400]
        assert (await counted.repository.begin_run([INACTIVITY], organization_id))[0].page_size == 350


@pytest.mark.usefixtures("mentors")
async def test_runs_of_one_page_serve_each_scenario(
    repository: ScenarioNotificationRepository, organization_id: UUID
) -> None:
    """Four runs that end after a page, as where little time is given, come to all four scenarios."""
    served: list[ScenarioType | str] = []

    def end(kind: ScenarioType | str, _: EvaluationPage) -> None:
        served.append(kind)
        engine.stop()

    for _ in ScenarioType:
        engine = ScenarioTriggerEngine(repository, page_size=10, on_page=end)
        await engine.run(organization_id=organization_id)
    assert served == list(ScenarioType)


@pytest.mark.usefixtures("mentors")
async def test_a_page_that_hangs_in_every_run_keeps_no_other_scenario_from_its_pages(
    platform: Platform, organization_id: UUID, slow: Slow
) -> None:
    """Runs are cut off during the first scenario's page, which is never done: the next one ends the others' passes.

    The page still runs in the database: its mentors are in other hands, and the next run waits for them last.
    """
    async with counted_worker(platform) as counted:
        with slow("> 0"):
            runs = []
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(
                        ScenarioTriggerEngine(counted.repository).run(organization_id=organization_id), 1
                    )
                runs.append([arguments["p_scenario_type"] for arguments in pages(counted)])
    hanging, *others = ScenarioType
    first, second = runs
    assert first == [hanging]
    assert second[:4] == [*others, hanging]
    assert [second.count(one) for one in others] == [2, 2, 2]
