"""Spans and metrics, with the in-memory exporters of OpenTelemetry's SDK."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import respx
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from scenario_repo import (
    DeliveryResult,
    LeasedNotification,
    PermissionDeniedException,
    ScenarioNotificationRepository,
    ScenarioTriggerEngine,
    ScenarioType,
    _watching,
    telemetry,
)
from tests.factories import USER_ID
from tests.unit.begun_runs import serve_run
from tests.unit.delivery import Script, raising, succeed, worker
from tests.unit.leaks import MARKER

QUEUE: Final = {
    "messaging.system": "scenario_repo",
    "messaging.destination.name": "scenario_notifications",
}


class Exported:
    """What was exported in memory."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self._metrics: Any = None
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def spans(self, name: str) -> list[ReadableSpan]:
        """Return the spans of a name, as they ended."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Return a metric's points, of the first look: attributes, and the value or how many durations there were."""
        data = self._metrics = self._metrics or self.reader.get_metrics_data()
        return [
            (dict(point.attributes or {}), getattr(point, "value", getattr(point, "count", None)))
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def everything(self) -> str:
        """Return all that was exported, as text."""
        data = self.reader.get_metrics_data()
        return "".join(span.to_json() for span in self.exporter.get_finished_spans()) + (data.to_json() if data else "")


@pytest.fixture
def exported() -> Iterator[Exported]:
    """Switch on, with exporters in memory."""
    exported = Exported()
    telemetry.switch_on(exported.tracers, exported.meters)
    yield exported
    telemetry.switch_off()


def page(**figures: object) -> httpx.Response:
    """Answer with a page."""
    empty = {"evaluated": 0, "due": 0, "claimed": 0, "history": 0, "skipped": {}, "next_after": None}
    return httpx.Response(200, json=empty | figures)


async def test_a_run_has_a_span_for_each_page_and_request(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository, exported: Exported
) -> None:
    """A request's span lies in its page's, and that in the run's; counts, names and durations are told."""
    serve_run(rest)
    pages = [
        page(evaluated=10, due=7, claimed=4, history=1, skipped={"cooldown": 2, "muted": 1}, next_after=str(USER_ID))
    ]
    rest.post("/rpc/scenario_evaluate_next_page").mock(side_effect=[*pages, page(evaluated=5)])
    await ScenarioTriggerEngine(repository).run([ScenarioType.INACTIVITY])
    (run,) = exported.spans("evaluate")
    first, second = exported.spans("evaluate inactivity")
    request = exported.spans("evaluate_next_page")[0]
    assert (first.parent, request.parent) == (run.context, first.context)
    assert (run.kind, request.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    assert dict(run.attributes or {}) == {
        "scenario_repo.dry_run": False,
        "scenario_repo.claimed": 4,
        "scenario_repo.completed": True,
    }
    assert dict(first.attributes or {}) == {
        "scenario_repo.scenario_type": "inactivity",
        "scenario_repo.page_size": 1000,
        "scenario_repo.dry_run": False,
        "scenario_repo.evaluated": 10,
        "scenario_repo.due": 7,
        "scenario_repo.claimed": 4,
        "scenario_repo.history": 1,
        "scenario_repo.skipped": 3,
    }
    assert dict(request.attributes or {}) == {
        "db.system.name": "postgresql",
        "db.operation.name": "evaluate_next_page",
    }
    assert second.status.status_code is StatusCode.UNSET
    kind = {"scenario_repo.scenario_type": "inactivity"}
    assert exported.points("scenario_repo.evaluated") == [(kind, 15)]
    assert exported.points("scenario_repo.claimed") == [(kind, 4)]
    assert sorted(
        (one["scenario_repo.reason"], number) for one, number in exported.points("scenario_repo.skipped")
    ) == [
        ("cooldown", 2),
        ("muted", 1),
    ]
    assert exported.points("scenario_repo.page.duration") == [(kind | {"scenario_repo.dry_run": False}, 2)]
    assert exported.points("scenario_repo.run.duration") == [({"scenario_repo.dry_run": False}, 1)]
    calls = {one["db.operation.name"]: number for one, number in exported.points("db.client.operation.duration")}
    assert calls == {"begin_run": 1, "evaluate_next_page": 2}


async def test_a_dry_run_counts_nothing(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository, exported: Exported
) -> None:
    """It has its spans; nobody was claimed for."""
    rest.post("/rpc/scenario_evaluate").mock(return_value=page(evaluated=5, claimed=2, due=2))
    await ScenarioTriggerEngine(repository).run([ScenarioType.INACTIVITY], dry_run=True)
    (span,) = exported.spans("evaluate inactivity")
    assert (span.attributes or {})["scenario_repo.dry_run"] is True
    assert exported.points("scenario_repo.claimed") == []


async def test_a_failure_is_told_by_its_class_and_code(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository, exported: Exported
) -> None:
    """Its text is not, neither as a status nor as an event."""
    rest.route().respond(403, json={"code": "42501", "message": MARKER})
    with pytest.raises(PermissionDeniedException):
        await repository.describe_schema()
    (span,) = exported.spans("describe_schema")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "PermissionDeniedException")
    assert span.events == ()
    failure = {"error.type": "PermissionDeniedException", "db.response.status_code": "42501"}
    assert (span.attributes or {}).items() >= failure.items()
    ((counted, number),) = exported.points("db.client.operation.duration")
    assert (counted.items() >= failure.items(), number) == (True, 1)
    assert MARKER not in exported.everything()


async def test_a_send_is_linked_to_its_lease_and_holds_what_the_sender_does(exported: Exported) -> None:
    """A span for the lease, one for each attempt with a link to it, and one for the settlement."""
    script = Script(2)

    async def send(_: LeasedNotification) -> None:
        with exported.tracers.get_tracer("app").start_as_current_span("post to the provider"):
            await asyncio.sleep(0)

    await worker(script, send).run(until_idle=True)
    lease = next(one for one in exported.spans("lease scenario_notifications") if _count(one) == 2)
    sends = exported.spans("send scenario_notifications")
    (settle,) = exported.spans("settle scenario_notifications")
    assert [[link.context for link in one.links] for one in sends] == [[lease.context]] * 2
    assert all(any(one.parent == send.context for send in sends) for one in exported.spans("post to the provider"))
    assert len(exported.spans("post to the provider")) == 2
    assert [one.kind for one in (lease, sends[0], settle)] == [SpanKind.CLIENT, SpanKind.CONSUMER, SpanKind.CLIENT]
    notification = next(
        one for one in script.leased if str(one.id) == (sends[0].attributes or {})["messaging.message.id"]
    )
    assert dict(sends[0].attributes or {}) == QUEUE | {
        "messaging.operation.name": "send",
        "messaging.operation.type": "process",
        "messaging.message.id": str(notification.id),
        "scenario_repo.scenario_type": str(notification.scenario_type),
        "scenario_repo.attempt": notification.attempt_count,
        "scenario_repo.result": "sent",
    }
    assert _count(settle) == 2
    operation = {"messaging.operation.name": "lease", "messaging.operation.type": "receive"}
    assert exported.points("messaging.client.consumed.messages") == [(QUEUE | operation, 2)]
    assert exported.points("scenario_repo.settled") == [({"scenario_repo.answer": "sent"}, 2)]
    ((processed, number),) = exported.points("messaging.process.duration")
    assert (processed["scenario_repo.result"], number) == ("sent", 2)
    assert {one["messaging.operation.name"] for one, _ in exported.points("messaging.client.operation.duration")} == {
        "lease",
        "settle",
    }


def _count(span: ReadableSpan) -> object:
    return (span.attributes or {})["messaging.batch.message_count"]


async def test_a_send_that_fails_is_told_by_its_class(exported: Exported) -> None:
    """What the sender raised may quote a token: its text is nowhere, nor is a token or a user's id."""
    script = Script(1)
    await worker(script, raising(RuntimeError(MARKER))).run(until_idle=True)
    (send,) = exported.spans("send scenario_notifications")
    assert (send.status.status_code, send.status.description) == (StatusCode.ERROR, "RuntimeError")
    assert (send.attributes or {})["error.type"] == "RuntimeError"
    assert (send.attributes or {})["scenario_repo.result"] == DeliveryResult.RETRY
    for secret in (MARKER, str(script.leased[0].user_id), str(script.leased[0].organization_id)):
        assert secret not in exported.everything()


async def test_nothing_is_kept_of_what_is_settled(exported: Exported) -> None:
    """The contexts of leases do not pile up in a worker that runs for months."""
    await worker(Script(5), succeed).run(until_idle=True)
    assert exported.spans("send scenario_notifications")
    assert vars(_watching)["_watcher"]._leases == {}  # noqa: SLF001


async def test_what_is_never_settled_here_is_forgotten_in_time(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases whose workers were stopped leave no more than a bounded number of contexts, the newest."""
    monkeypatch.setattr(telemetry, "_MOST_LEASES", 3)
    script = Script(5)
    for _ in range(5):
        with _watching.watch(_watching.Step.LEASE) as step:
            lease = await script.lease_notifications(1)
            step.note(leases=[(one.id, one.lease_number) for one in lease])
    assert len(exported.spans("lease scenario_notifications")) == 5
    kept = [notification for notification, _ in vars(_watching)["_watcher"]._leases]  # noqa: SLF001
    assert kept == [one.id for one in script.leased[2:]]


async def test_the_backlog_is_measured(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository, exported: Exported
) -> None:
    """By scenario type, again and again; a failure ends nothing."""
    due = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    counts = dict.fromkeys(("overriding", "evaluated", "due", "claimed", "skipped", "history", "unsettled"), 0)
    row = counts | {
        "scenario_type": "inactivity", "is_enabled": True, "seconds": 0.0, "finished_at": None, "is_under_way": False,
        "organization_pass_finished_at": None, "waiting": 2, "due_now": 3, "leased": 1, "oldest_due_at": due,
    }  # fmt: skip
    quiet = row | {"scenario_type": "milestone", "waiting": 0, "due_now": 0, "leased": 0, "oldest_due_at": None}
    answer = httpx.Response(200, json={"version": 1, "scenarios": [row, quiet], "failures": []})
    route = rest.post("/rpc/scenario_get_status").mock(side_effect=[httpx.Response(503), *[answer] * 99])
    watching = asyncio.create_task(
        telemetry.watch_backlog(repository, timedelta(milliseconds=1), meter_provider=exported.meters)
    )
    while route.call_count < 3:
        await asyncio.sleep(0.01)
        assert not watching.done()
    watching.cancel()
    kinds = ({"scenario_repo.scenario_type": "inactivity"}, {"scenario_repo.scenario_type": "milestone"})
    assert exported.points("scenario_repo.backlog") == [(kinds[0], 6), (kinds[1], 0)]
    (one, waited), (_, none) = exported.points("scenario_repo.oldest_due")
    assert (one, none) == (kinds[0], 0)
    assert 300 <= waited < 330


@pytest.mark.usefixtures("exported")
def test_the_document_names_every_span_and_metric() -> None:
    """And no other one."""
    told = (Path(telemetry.__file__).parents[1] / "docs" / "logs-and-telemetry.md").read_text()
    for kind in vars(telemetry)["_KINDS"].values():
        assert kind.span.partition("{")[0] in told
        assert f"`{kind.duration}`" in told
    watcher = vars(_watching)["_watcher"]
    counters = {*watcher._mentors.values(), watcher._consumed, watcher._settled}  # noqa: SLF001
    named = set(re.findall(r"`((?:db|messaging|scenario_repo)\.[a-z._]+)`", told.partition("## Spans")[2]))
    durations = {kind.duration for kind in vars(telemetry)["_KINDS"].values()}
    assert named == durations | {one.name for one in counters} | {"scenario_repo.backlog", "scenario_repo.oldest_due"}


async def test_switched_off_nothing_is_told(exported: Exported) -> None:
    """Steps are told while it is on."""
    telemetry.switch_off()
    await worker(Script(1), succeed).run(until_idle=True)
    assert exported.exporter.get_finished_spans() == ()


async def test_the_global_providers_are_the_default(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Without the app's own set-up, the API does nothing, and neither does this."""
    rest.route().respond(200, json={"version": 1, "scenario_types": []})
    telemetry.switch_on()
    try:
        await repository.describe_schema()
    finally:
        telemetry.switch_off()
    assert not trace.get_current_span().is_recording()


WITHOUT_THE_EXTRA: Final = """
sys.modules['opentelemetry'] = None
import scenario_repo
try:
    import scenario_repo.telemetry
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("program", "output"),
    [
        ("import scenario_repo; print([one for one in sys.modules if one.startswith('opentelemetry')])", "[]"),
        (WITHOUT_THE_EXTRA, "scenario_repo.telemetry wants the extra otel: pip install 'scenario-repo[otel]'"),
    ],
)
def test_the_extra_is_optional(program: str, output: str) -> None:
    """The library never imports it by itself, and who asks for it without the extra is told how to get it."""
    done = subprocess.run(  # noqa: S603 - a program of ours
        [sys.executable, "-c", f"import sys\n{program}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == output
