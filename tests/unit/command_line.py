"""Fixtures to run commands: settings, a server without a network, and what was printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest
import respx

from scenario_repo import cli
from tests.factories import PROJECT_URL, PUBLISHABLE_KEY, REST_URL, SECRET_KEY
from tests.unit.begun_runs import serve_run

_VARIABLES = ("SUPABASE_URL", "SUPABASE_SECRET_KEYS", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a worker's environment variables."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SUPABASE_URL", PROJECT_URL)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", SECRET_KEY)


@pytest.fixture
def server() -> Iterator[respx.MockRouter]:
    """Mock the project's functions."""
    with respx.mock(base_url=REST_URL, assert_all_called=False) as router:
        serve_run(router)
        yield router


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the pauses before another try."""
    monkeypatch.setattr("scenario_repo._backoff.FIRST_PAUSE_SECONDS", 0)


class Told:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Run(Protocol):
    """Runs a command with its arguments."""

    def __call__(self, *arguments: object) -> Told:
        """Run it."""
        ...


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], environment: None, no_pause: None) -> Run:  # noqa: ARG001 - both act
    """Run a command; check that its output has no key and no traceback, and that an error is one line."""

    def run_command(*arguments: object) -> Told:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as ending:
            code = int(str(ending.code))
        told = Told(code, *capsys.readouterr())
        for secret in (SECRET_KEY, PUBLISHABLE_KEY, "Traceback"):
            assert secret not in told.out + told.err
        return told

    return run_command
