"""Spans and metrics through the OpenTelemetry API, once :func:`switch_on` is called.

It wants the extra ``otel`` (``pip install 'scenario-repo[otel]'``). The app's own set-up of OpenTelemetry decides what
is sampled and where it goes. Names are those of the semantic conventions for databases and messaging where there is
one, else ``scenario_repo.…``. Attributes are counts, codes, scenario types and ids of notifications.

| span | kind | metric beside it |
|---|---|---|
| ``{operation}``, such as ``claim_notifications`` | client | ``db.client.operation.duration`` |
| ``evaluate`` | internal | ``scenario_repo.run.duration`` |
| ``evaluate {scenario type}`` | internal | ``scenario_repo.page.duration``; ``.evaluated``, ``.due``, ``.claimed``, … |
| ``lease scenario_notifications`` | client | ``messaging.client.operation.duration``, ``….consumed.messages`` |
| ``send scenario_notifications``, linked to its lease | consumer | ``messaging.process.duration`` |
| ``settle scenario_notifications`` | client | ``messaging.client.operation.duration``, ``scenario_repo.settled`` |

The app's sender runs inside its span, so that what it sends over HTTP becomes a part of it.
:func:`watch_backlog` adds ``scenario_repo.backlog`` and ``scenario_repo.oldest_due``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Final, NoReturn, cast
from uuid import UUID

from scenario_repo import _arguments, _logs, _watching
from scenario_repo._watching import Step
from scenario_repo.exceptions import ScenarioRepositoryException
from scenario_repo.repository import ScenarioNotificationRepository

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
except ImportError as error:
    raise ImportError("scenario_repo.telemetry wants the extra otel: pip install 'scenario-repo[otel]'") from error

Value = str | bool | int | float
_NAME: Final = "scenario_repo"
_QUEUE: Final = "scenario_notifications"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The buckets that the semantic conventions give for durations."""
_MOST_LEASES: Final = 10_000
"""So many leases are remembered at most: ten times what one call leases."""
_PAGE_COUNTS: Final = ("evaluated", "due", "claimed", "history")

LeaseToken = tuple[UUID, int]


@dataclass(frozen=True)
class _Kind:
    """How a step is told: its span, what is the same for all of them, and which facts the duration is counted by."""

    span: str
    kind: SpanKind
    duration: str
    always: Mapping[str, str] = field(default_factory=dict)
    counted_by: tuple[str, ...] = ()


def _messaging(name: str, kind: str) -> dict[str, str]:
    return {
        "messaging.system": _NAME,
        "messaging.destination.name": _QUEUE,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }


_KINDS: Final = {
    Step.REQUEST: _Kind(
        "{operation}",
        SpanKind.CLIENT,
        "db.client.operation.duration",
        {"db.system.name": "postgresql"},
        ("db.operation.name",),
    ),
    Step.RUN: _Kind("evaluate", SpanKind.INTERNAL, "scenario_repo.run.duration", {}, ("scenario_repo.dry_run",)),
    Step.PAGE: _Kind(
        "evaluate {scenario_type}",
        SpanKind.INTERNAL,
        "scenario_repo.page.duration",
        {},
        ("scenario_repo.scenario_type", "scenario_repo.dry_run"),
    ),
    Step.LEASE: _Kind(
        f"lease {_QUEUE}",
        SpanKind.CLIENT,
        "messaging.client.operation.duration",
        _messaging("lease", "receive"),
    ),
    Step.SEND: _Kind(
        f"send {_QUEUE}",
        SpanKind.CONSUMER,
        "messaging.process.duration",
        _messaging("send", "process"),
        ("scenario_repo.scenario_type", "scenario_repo.result"),
    ),
    Step.SETTLE: _Kind(
        f"settle {_QUEUE}",
        SpanKind.CLIENT,
        "messaging.client.operation.duration",
        _messaging("settle", "settle"),
    ),
}
_ATTRIBUTES: Final = {"operation": "db.operation.name", "message_id": "messaging.message.id"}


def switch_on(
    tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None
) -> None:
    """Tell all steps of this process from now on; unless given, to the providers that the app has set globally."""
    _watching.set_watcher(_Telling(tracer_provider, meter_provider))


def switch_off() -> None:
    """Tell nothing any more."""
    _watching.set_watcher(None)


async def watch_backlog(
    repository: ScenarioNotificationRepository,
    every: timedelta = timedelta(minutes=1),
    *,
    meter_provider: metrics.MeterProvider | None = None,
) -> NoReturn:
    """Measure again and again, until cancelled, how much is pending, and how long what is due has waited.

    A task of the app's own, in one process of many: each time all pending notifications are read, about half a second
    for a million of them. A failure is logged, and the next time is tried again.
    """
    pause = _arguments.seconds("every", every)
    meter = metrics.get_meter(_NAME, version("scenario-repo"), meter_provider)
    backlog = meter.create_gauge("scenario_repo.backlog", "{notification}", "Pending notifications.")
    oldest = meter.create_gauge("scenario_repo.oldest_due", "s", "How long the one that is due longest has waited.")
    while True:
        try:
            status = await repository.get_status()
        except ScenarioRepositoryException as error:
            _logs.BACKLOG_UNKNOWN.tell(**_logs.of_error(error))
        else:
            # Once more by the app's clock: a figure, on which nothing depends.
            now = datetime.now(UTC)
            for one in status.scenarios:
                attributes = {"scenario_repo.scenario_type": str(one.scenario_type)}
                waited = (now - (one.oldest_due_at or now)).total_seconds()
                backlog.set(one.pending, attributes)
                oldest.set(max(0.0, waited), attributes)
        await asyncio.sleep(pause)


class _Told:
    """A step that is being told: its attributes so far."""

    def __init__(self, attributes: dict[str, Value]) -> None:
        self.attributes = attributes
        self.facts: dict[str, object] = {}

    def note(self, **facts: object) -> None:
        self.facts |= facts


class _Telling:
    """Turns steps into spans and metrics."""

    def __init__(self, tracers: trace.TracerProvider | None, meters: metrics.MeterProvider | None) -> None:
        release = version("scenario-repo")
        self._tracer = trace.get_tracer(_NAME, release, tracers)
        meter = metrics.get_meter(_NAME, release, meters)
        self._durations = {
            name: meter.create_histogram(name, "s", explicit_bucket_boundaries_advisory=_SECONDS)
            for name in {kind.duration for kind in _KINDS.values()}
        }
        self._mentors = {
            name: meter.create_counter(f"scenario_repo.{name}", "{mentor}") for name in (*_PAGE_COUNTS, "skipped")
        }
        self._consumed = meter.create_counter("messaging.client.consumed.messages", "{message}")
        self._settled = meter.create_counter("scenario_repo.settled", "{notification}")
        self._leases: dict[LeaseToken, SpanContext] = {}
        """In which span what is in hand was leased."""

    @contextmanager
    def watch(self, step: Step, **facts: object) -> Iterator[_Told]:
        kind = _KINDS[step]
        told = _Told({**kind.always, **_attributes(facts)})
        links = [Link(self._leases[token]) for token in _tokens(facts, "lease") if token in self._leases]
        started = time.perf_counter()
        with self._tracer.start_as_current_span(
            kind.span.format_map(facts),
            kind=kind.kind,
            attributes=told.attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            failure: dict[str, Value] = {}
            try:
                yield told
            except BaseException as error:
                failure = _failure_of(error)
                raise
            finally:
                if told.facts.get("failure") is not None:
                    failure = {"error.type": str(told.facts["failure"])}
                if failure:
                    span.set_status(Status(StatusCode.ERROR, str(failure["error.type"])))
                told.attributes |= _attributes(told.facts) | failure
                span.set_attributes(told.attributes)
                shown = (*kind.always, *kind.counted_by, "error.type", "db.response.status_code")
                counted = {name: told.attributes[name] for name in shown if name in told.attributes}
                self._durations[kind.duration].record(time.perf_counter() - started, counted)
                self._count(step, told, span.get_span_context())

    def _count(self, step: Step, told: _Told, context: SpanContext) -> None:
        facts = told.facts
        if step is Step.PAGE and "evaluated" in facts and not told.attributes["scenario_repo.dry_run"]:
            kind = {"scenario_repo.scenario_type": told.attributes["scenario_repo.scenario_type"]}
            for name in _PAGE_COUNTS:
                self._mentors[name].add(cast("int", facts[name]), kind)
            for reason, number in cast("Mapping[str, int]", facts["skipped"]).items():
                self._mentors["skipped"].add(number, kind | {"scenario_repo.reason": str(reason)})
        elif step is Step.LEASE:
            leased = _tokens(facts, "leases")
            self._consumed.add(len(leased), {name: told.attributes[name] for name in _KINDS[step].always})
            if context.is_valid:
                self._leases |= dict.fromkeys(leased, context)
                # Those of workers that were stopped are never settled here.
                for token in list(self._leases)[: max(0, len(self._leases) - _MOST_LEASES)]:
                    del self._leases[token]
        elif step is Step.SETTLE:
            for answer, number in cast("Mapping[str, int]", facts.get("answers", {})).items():
                self._settled.add(number, {"scenario_repo.answer": str(answer)})
            for token in _tokens(facts, "leases"):
                self._leases.pop(token, None)


def _attributes(facts: Mapping[str, object]) -> dict[str, Value]:
    """Return the facts that are plain values by their attributes' names; of leases, the id or how many there are."""
    plain = {
        _ATTRIBUTES.get(name, f"scenario_repo.{name}"): str(value) if isinstance(value, str | UUID) else value
        for name, value in facts.items()
        if isinstance(value, str | bool | int | float | UUID) and name != "failure"
    }
    if "leases" in facts:
        plain["messaging.batch.message_count"] = len(_tokens(facts, "leases"))
    for notification_id, _ in _tokens(facts, "lease"):
        plain["messaging.message.id"] = str(notification_id)
    if isinstance(facts.get("skipped"), Mapping):
        plain["scenario_repo.skipped"] = sum(cast("Mapping[str, int]", facts["skipped"]).values())
    return plain


def _tokens(facts: Mapping[str, object], name: str) -> Sequence[LeaseToken]:
    given = facts.get(name, ())
    return cast("Sequence[LeaseToken]", given if name == "leases" else [given] if given else [])


def _failure_of(error: BaseException) -> dict[str, Value]:
    """Return the class, and the database's code; never the text."""
    failure: dict[str, Value] = {"error.type": type(error).__name__}
    if isinstance(error, ScenarioRepositoryException) and error.code is not None:
        failure["db.response.status_code"] = error.code
    return failure
