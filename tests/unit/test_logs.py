"""What is logged: exact lines, their levels and fields, and that a JSON formatter can take them apart."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
import respx
from pythonjsonlogger.json import JsonFormatter

from scenario_repo import (
    DeliverLater,
    DeliveryWorker,
    Lease,
    LeasedNotification,
    PermissionDeniedException,
    ScenarioNotificationRepository,
    ScenarioTriggerEngine,
    ScenarioType,
    SenderFailingError,
    UnavailableException,
    _logs,
    connect,
)
from tests.factories import PROJECT_URL, SECRET_KEY, USER_ID, leased_row
from tests.unit.begun_runs import serve_run
from tests.unit.delivery import MOMENT, Script, raising, succeed, worker
from tests.unit.leaks import MARKER

SOURCES: Final = Path(_logs.__file__).parent
TOKEN: Final = f"device-{MARKER}"

Lines = Callable[[], list[tuple[str, str, str]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Return what was logged by the library so far: the part, the level, the text; without the seconds."""
    caplog.set_level(logging.INFO, logger="scenario_repo")

    def told() -> list[tuple[str, str, str]]:
        records = [record for record in caplog.records if record.name.startswith("scenario_repo")]
        return [(record.name, record.levelname, record.getMessage().partition(" in 0.")[0]) for record in records]

    return told


def page(**figures: object) -> httpx.Response:
    """Answer with a page."""
    empty = {"evaluated": 0, "due": 0, "claimed": 0, "history": 0, "skipped": {}, "next_after": None}
    return httpx.Response(200, json=empty | figures)


async def test_a_run_is_told_in_counts(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository, lines: Lines
) -> None:
    """A line for each scenario and one for the run; a timeout is routine, and an error is the scenario's end."""
    serve_run(rest)
    first = page(evaluated=1000, due=75, claimed=70, skipped={"cooldown": 5}, next_after=str(USER_ID))
    too_slow = httpx.Response(500, json={"code": "57014", "message": "canceling statement due to statement timeout"})
    refused = httpx.Response(403, json={"code": "42501", "message": f"no {MARKER}"})
    rest.post("/rpc/scenario_evaluate_next_page").mock(side_effect=[first, refused, too_slow, page(evaluated=9)])
    await ScenarioTriggerEngine(repository).run([ScenarioType.INACTIVITY, ScenarioType.MILESTONE])
    told = lines()
    engine = "scenario_repo.engine"
    assert told[0] == (engine, "INFO", "inactivity: a page of 2000 was not done in time, halved")
    assert told[1] == (engine, "INFO", "inactivity: evaluated 1009, due 75, claimed 70, skipped 5")
    assert told[2][:2] == (engine, "ERROR")
    assert told[2][2].startswith("milestone: the run of this scenario ended: evaluate_next_page: ")
    assert told[3] == (engine, "INFO", "claimed 70 in 2 scenarios")
    assert len(told) == 4
    assert MARKER not in str(told)


async def test_a_page_that_keeps_failing_is_a_warning(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first failures are routine."""
    monkeypatch.setattr("scenario_repo._backoff.FIRST_PAUSE_SECONDS", 0)
    serve_run(rest)
    away = [httpx.ConnectError(MARKER)] * 4
    rest.post("/rpc/scenario_evaluate_next_page").mock(side_effect=[*away, page()])
    await ScenarioTriggerEngine(repository).run([ScenarioType.INACTIVITY])
    levels = [level for _, level, text in lines() if "a page failed" in text]
    assert levels == ["INFO", "INFO", "WARNING", "WARNING"]
    assert "inactivity: a page failed 3 times in a row, will be tried again: evaluate_next_page: " in str(lines())


async def test_a_delivery_is_told_in_counts(lines: Lines) -> None:
    """When it starts, what was settled, and when it ends; at INFO no line names whom."""
    script = Script(2)
    await worker(script, succeed).run(until_idle=True)
    delivery = "scenario_repo.delivery"
    assert lines() == [
        (delivery, "INFO", "delivery started, up to 4 at once"),
        (delivery, "INFO", "settled 2: sent 2"),
        (delivery, "INFO", "delivery stopped: sent 2"),
    ]


async def test_ids_of_notifications_are_fields(caplog: pytest.LogCaptureFixture) -> None:
    """What was leased and settled can be looked up; a user's id is in no record."""
    script = Script(2)
    with caplog.at_level(logging.DEBUG, logger="scenario_repo"):
        await worker(script, succeed).run(until_idle=True)
    by_event = {str(vars(record)["event"]): vars(record) for record in caplog.records if "event" in vars(record)}
    ids = sorted(str(one.id) for one in script.leased)
    assert sorted(by_event["leased"]["notification_ids"]) == sorted(by_event["settled"]["notification_ids"]) == ids
    assert by_event["settled"]["answers"] == {"sent": 2}
    assert str(script.leased[0].user_id) not in str(by_event)


class Refusing(Script):
    """Hands out nothing, for reasons."""

    async def lease_notifications(self, *arguments: Any, **_: Any) -> Lease:  # noqa: ANN401
        """Answer as a lease that refused three and could not ask about two."""
        lease = await super().lease_notifications(*arguments)
        return lease.model_copy(update={"failed": {"muted": 3}, "rule_failed": 2} if len(self.leases) == 1 else {})


async def test_what_is_not_handed_out_is_routine_unless_its_rule_failed(lines: Lines) -> None:
    """Somebody has to look at a rule that fails; a mute is nobody's fault."""
    await worker(Refusing(0), succeed).run(until_idle=True)
    assert lines()[1:3] == [
        ("scenario_repo.delivery", "INFO", "3 not handed out: muted"),
        ("scenario_repo.delivery", "WARNING", "2 not handed out, for their rule failed: scenario-repo check-rules"),
    ]


async def test_an_outage_is_a_warning_once_it_lasts(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the lease and of the settlement; and when it is over, that is said."""
    monkeypatch.setattr("scenario_repo._backoff.FIRST_PAUSE_SECONDS", 0)
    away = [UnavailableException("no connection") for _ in range(8)]
    await worker(Script(1, away[:4], away[4:]), succeed).run(until_idle=True)
    leases = [(level, text) for _, level, text in lines() if text.startswith("lease")]
    again = "will be tried again: no connection"
    assert leases == [
        *[("INFO", f"lease failed, {again}")] * 2,
        ("WARNING", f"lease failed 3 times in a row, {again}"),
        ("WARNING", f"lease failed 4 times in a row, {again}"),
        ("INFO", "leases again after 4 failures"),
    ]
    assert [level for _, level, text in lines() if text.startswith("settlement")] == ["INFO", "INFO", *["WARNING"] * 2]


async def test_what_ends_a_worker_is_an_error(lines: Lines) -> None:
    """A refusal of the database, a sender that fails, and what is no Exception: whose text is not told."""

    class Odd(BaseException):
        pass

    for script, send, error, text in (
        (
            Script(0, [PermissionDeniedException("no", code="42501")]),
            succeed,
            PermissionDeniedException,
            "no (code 42501)",
        ),
        (Script(3), raising(RuntimeError(MARKER)), SenderFailingError, "2 sends in a row failed with RuntimeError at"),
        (Script(1), _raising(Odd(MARKER)), Odd, "Odd"),
    ):
        with pytest.raises(error):
            await worker(script, send, concurrency=1, stop_after=2).run()
        name, level, told = lines()[-1]
        assert (name, level) == ("scenario_repo.delivery", "ERROR")
        assert told.startswith(f"delivery ended by {text}")
    assert MARKER not in str(lines())


def _raising(error: BaseException) -> Callable[[LeasedNotification], Any]:
    async def send(_: LeasedNotification) -> None:
        await asyncio.sleep(0)
        raise error

    return send


async def test_a_cancelled_worker_is_no_error(lines: Lines) -> None:
    """Whoever cancels it knows."""
    running = asyncio.create_task(worker(Script(0), succeed).run())
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [level for _, level, _ in lines()] == ["INFO"]


async def test_a_provider_that_asks_to_wait_is_routine(lines: Lines) -> None:
    """The pause is told in seconds."""
    later = raising(DeliverLater(timedelta(seconds=90), everybody=True))
    await worker(Script(1), later).run(until_idle=True)
    told = ("scenario_repo.delivery", "INFO", "the provider asked to wait: nothing is sent for 90.0 s")
    assert told in lines()


async def test_a_json_formatter_takes_the_lines_apart() -> None:
    """python-json-logger, in the app's own set-up, writes each field; the text is that of the plain line."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter("{levelname}{name}{message}", style="{"))
    logger = logging.getLogger("scenario_repo")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        script = Script(1)
        await worker(script, raising(RuntimeError(MARKER))).run(until_idle=True)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    by_event = {one["event"]: one for one in map(json.loads, written.getvalue().splitlines())}
    failed, settled = by_event["send_failed"], by_event["settled"]
    assert (failed["levelname"], failed["name"], failed["kind"]) == (
        "WARNING",
        "scenario_repo.delivery",
        "RuntimeError",
    )
    assert failed["message"] == f"a send failed: RuntimeError at {failed['place']}"
    assert UUID(failed["notification_id"]) == script.leased[0].id
    assert (settled["count"], settled["answers"], settled["message"]) == (1, {"pending": 1}, "settled 1: pending 1")
    assert MARKER not in written.getvalue()


async def test_no_logger_tells_a_key_a_token_or_a_value(
    rest: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG, whoever logs it: httpx tells a function's path and the status, and no body."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")  # another test, or its library, may have lowered it
    row = leased_row(device_tokens=[{"token": TOKEN, "platform": "ios"}], metadata={"about": MARKER})
    rest.post("/rpc/scenario_lease_notifications").mock(
        side_effect=[httpx.Response(200, json={"leased": rows}) for rows in ([row], [], [])]
    )
    rest.post("/rpc/scenario_settle_notifications").respond(json={"answers": ["sent"]})
    async with connect(PROJECT_URL, SECRET_KEY) as client:
        repository = ScenarioNotificationRepository(client)
        await DeliveryWorker(repository, succeed, idle_pause=MOMENT).run(until_idle=True)
    told = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert {record.name for record in caplog.records} >= {"httpx", "scenario_repo.delivery"}
    for secret in (SECRET_KEY, TOKEN, MARKER, str(USER_ID)):
        assert secret not in told


def test_every_line_is_used_and_lies_in_the_tree() -> None:
    """Each event is told somewhere, has a name of its own and a logger that the module's text draws."""
    assert len(_logs.EVENTS) == sum(isinstance(one, _logs.Event) for one in vars(_logs).values())
    told = "".join(path.read_text() for path in SOURCES.rglob("*.py") if path.name != "_logs.py")
    for name, event in _logs.EVENTS.items():
        assert f"_logs.{name.upper()}" in told
        assert f"scenario_repo.{event.part} " in str(_logs.__doc__)


def test_the_document_has_every_line() -> None:
    """With its logger, its level and its text."""
    rows = [
        f"| `{event.name}` | `scenario_repo.{event.part}` | {logging.getLevelName(event.level)} | {event.text} |"
        for event in _logs.EVENTS.values()
    ]
    told = (SOURCES.parent / "docs" / "logs-and-telemetry.md").read_text().splitlines()
    assert [row for row in told if row.startswith("| `") and "scenario_repo." in row.split("|")[2]] == rows


def test_the_library_configures_no_logging() -> None:
    """It has a NullHandler and no level: an app without a set-up of its own sees nothing, not even on stderr."""
    program = """
import logging, scenario_repo
from scenario_repo import _logs
logger = logging.getLogger("scenario_repo")
assert [type(one) for one in logger.handlers] == [logging.NullHandler], logger.handlers
assert logger.level == logging.NOTSET and logger.propagate and not logging.root.handlers
_logs.WORKER_FAILED.tell(error="x")
"""
    done = subprocess.run(  # noqa: S603 - a program of ours
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
