"""pytest's fixtures of scenario_repo: the local Supabase, and answers without one.

``pip install scenario_repo[testing]`` makes them known. They cost nothing until a test asks for one: this module
imports neither scenario_repo nor supabase, and so stands outside the package.

* ``scenario_stack``: a :class:`scenario_repo.testing.LocalSupabase` for the session, with the migrations of
  scenario_repo and of the project (``scenario_repo_migrations`` in pytest's settings, ``supabase/migrations`` unless
  given). Each test finds the data as the migrations left them.
* ``scenario_repository``: a worker's repository on it.
* ``scenario_environment``: the same, with the stack's URL and keys in the environment, for code that connects itself.
* ``postgrest_answers``: a started :class:`scenario_repo.testing.PostgrestAnswers`; no stack.

Without Node 20 the tests on the stack are skipped, and say so; where ``CI`` is set, they fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scenario_repo import ScenarioNotificationRepository
    from scenario_repo.testing import LocalSupabase, PostgrestAnswers
    from scenario_repo.testing._clean_slate import CleanSlate

_SETTING = "scenario_repo_migrations"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make the setting known."""
    parser.addini(_SETTING, "folder of the project's migrations, from pytest's rootdir", default="supabase/migrations")


@pytest.fixture(scope="session")
def _scenario_stack_of_the_session(request: pytest.FixtureRequest) -> Iterator[tuple[LocalSupabase, CleanSlate]]:
    from scenario_repo.testing.embedded_stack import EmbeddedStackError, install, npm_command  # noqa: PLC0415 - late
    from scenario_repo.testing.local_supabase import local_supabase  # noqa: PLC0415 - late

    try:
        npm_command()
    except EmbeddedStackError as error:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse(f"the local Supabase needs Node: {error}")
    folder = request.config.rootpath / request.config.getini(_SETTING)
    try:
        install()
        with local_supabase(folder if folder.is_dir() else None) as running:
            yield running
    except EmbeddedStackError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def scenario_stack(_scenario_stack_of_the_session: tuple[LocalSupabase, CleanSlate]) -> LocalSupabase:
    """Run the local Supabase for the session; each test finds the data as the migrations left them."""
    local, slate = _scenario_stack_of_the_session
    slate.restore()
    return local


@pytest.fixture
def scenario_repository(scenario_stack: LocalSupabase) -> ScenarioNotificationRepository:
    """Make a worker's repository on the local Supabase, for whichever event loop the test has."""
    return scenario_stack.repository()


@pytest.fixture
def scenario_environment(scenario_stack: LocalSupabase, monkeypatch: pytest.MonkeyPatch) -> LocalSupabase:
    """Put the local Supabase's URL and keys into the environment, as an app finds its project."""
    for name, value in scenario_stack.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("SUPABASE_SECRET_KEYS", "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_ANON_KEY"):
        monkeypatch.delenv(name, raising=False)
    return scenario_stack


@pytest.fixture
def postgrest_answers() -> Iterator[PostgrestAnswers]:
    """Answer the repository's requests as the test says, without a server."""
    from scenario_repo.testing import PostgrestAnswers  # noqa: PLC0415 - late

    with PostgrestAnswers() as answers:
        yield answers
