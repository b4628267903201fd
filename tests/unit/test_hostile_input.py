"""Hostile input to every public name: a right answer or a typed error, in time, and only valid requests are sent."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from supabase import AsyncClientOptions, create_async_client

from scenario_repo import (
    ConfigurationException,
    DeliveryResult,
    DeliveryWorker,
    InvalidDataException,
    LeasedNotification,
    NewScenarioNotification,
    NotificationClaim,
    PendingNotification,
    ScenarioNotification,
    ScenarioNotificationRepository,
    ScenarioRepositoryException,
    ScenarioSettings,
    ScenarioTriggerEngine,
    ScenarioType,
    Settlement,
    UnavailableException,
    connect,
    connect_as_user,
)
from scenario_repo.policies import DeliveryPolicy, NewDayOff, NewMute
from tests.factories import (
    ORGANIZATION_ID,
    PROJECT_URL,
    SECRET_KEY,
    USER_ID,
    new_notification,
    notification_row,
    pending_row,
)
from tests.unit.hostile_values import ANYTHING, HOSTILE_TEXTS

CLAIM = NotificationClaim(
    user_id=USER_ID,
    organization_id=ORGANIZATION_ID,
    scenario_type=ScenarioType.INACTIVITY,
    cooldown=timedelta(days=7),
)
ROW = ScenarioNotification(**notification_row())
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
VALID: Final[dict[str, dict[str, Any]]] = {
    "insert_notification": {"notification": new_notification()},
    "get_last_sent_at": {"user_id": USER_ID, "scenario_type": ScenarioType.INACTIVITY},
    "has_been_sent_since_threshold": {"user_id": USER_ID, "scenario_type": "inactivity", "cutoff": NOON},
    "get_milestone_record": {"user_id": USER_ID, "milestone_value": 10},
    "list_notifications": {"user_id": USER_ID, "before": ROW, "limit": 50},
    "get_last_sent_at_many": {"user_ids": [USER_ID], "scenario_type": ScenarioType.INACTIVITY},
    "has_been_sent_since_threshold_many": {"user_ids": [USER_ID], "scenario_type": "milestone", "cutoff": NOON},
    "get_milestone_record_many": {"user_ids": {USER_ID}, "milestone_value": 10},
    "get_last_delivered_at": {"user_id": USER_ID, "scenario_type": ScenarioType.INACTIVITY},
    "has_been_delivered_since": {"user_id": USER_ID, "scenario_type": "inactivity", "cutoff": NOON},
    "get_last_delivered_at_many": {"user_ids": [USER_ID], "scenario_type": ScenarioType.INACTIVITY},
    "has_been_delivered_since_many": {"user_ids": [USER_ID], "scenario_type": "milestone", "cutoff": NOON},
    "claim_notifications": {"claims": [CLAIM], "lease": timedelta(minutes=5)},
    "evaluate_scenario": {
        "scenario_type": "milestone",
        "organization_id": ORGANIZATION_ID,
        "after": USER_ID,
        "limit": 10,
        "due_within": timedelta(days=90),
    },
    "begin_run": {"scenario_types": ["milestone"], "organization_id": ORGANIZATION_ID},
    "evaluate_next_page": {
        "scenario_type": "milestone",
        "organization_id": None,
        "limit": 10,
        "due_within": timedelta(days=90),
        "pass_number": 1,
    },
    "explain_scenarios": {"user_id": USER_ID},
    "describe_schema": {},
    "verify_installation": {},
    "check_rule": {"scenario_type": "first_session", "samples": 10},
    "lease_notifications": {
        "limit": 10,
        "lease": timedelta(minutes=5),
        "organization_id": None,
        "scenario_types": ["inactivity"],
    },
    "settle_notifications": {
        "results": [Settlement(id=uuid4(), lease_number=1, result=DeliveryResult.SENT)],
        "max_attempts": 8,
    },
    "purge_notifications": {"older_than": timedelta(days=365), "batch": 100},
    "get_organization_report": {
        "organization_id": ORGANIZATION_ID,
        "since": NOON,
        "until": NOON,
        "time_zone": "Europe/Oslo",
    },
    "get_outcomes": {
        "organization_id": ORGANIZATION_ID,
        "scenario_type": "inactivity",
        "since": NOON,
        "until": NOON,
        "within": timedelta(days=14),
    },
    "get_left_out": {"organization_id": ORGANIZATION_ID},
    "explain_notification": {"notification_id": USER_ID},
    "cancel_notifications": {"ids": [USER_ID]},
    "retry_notifications": {"ids": [USER_ID]},
    "purge_page": {"older_than": timedelta(days=365), "after": USER_ID, "limit": 100},
    "get_status": {},
    "simulate": {
        "settings": ScenarioSettings(scenario_type="inactivity", inactive_after=timedelta(days=21)),
        "limit": 100,
    },
    "export_person": {"user_id": USER_ID},
    "erase_person": {"user_id": USER_ID},
    "list_pending": {
        "organization_id": ORGANIZATION_ID,
        "scenario_type": "milestone",
        "after": PendingNotification(**pending_row()),
        "limit": 50,
    },
    "list_failed": {"organization_id": ORGANIZATION_ID, "scenario_type": "milestone", "before": ROW, "limit": 50},
    "get_settings": {"organization_id": ORGANIZATION_ID},
    "set_settings": {"settings": ScenarioSettings(scenario_type="milestone", milestones=(10, 25), is_enabled=None)},
    "get_delivery_policies": {},
    "set_delivery_policy": {"policy": DeliveryPolicy(time_zone="Europe/Oslo", min_gap=timedelta(hours=4))},
    "delete_delivery_policy": {"organization_id": ORGANIZATION_ID},
    "list_days_off": {"organization_id": ORGANIZATION_ID},
    "add_days_off": {"days": [NewDayOff(first_day=date(2026, 12, 24), last_day=date(2026, 12, 26))]},
    "remove_days_off": {"ids": [USER_ID]},
    "list_mutes": {"user_id": USER_ID},
    "mute": {"mute": NewMute(user_id=USER_ID, scenario_type="milestone")},
    "unmute": {"user_id": USER_ID, "organization_id": ORGANIZATION_ID, "scenario_type": "milestone"},
}
"""Every method of the repository, with valid arguments."""


class Wire:
    """A repository on a wire that answers every request with 503, and records it."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.sent: list[httpx.Request] = []
        self.repository = self.runner.run(self._connect())

    async def _connect(self) -> ScenarioNotificationRepository:
        def answer(request: httpx.Request) -> httpx.Response:
            self.sent.append(request)
            return httpx.Response(503)

        self.http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        options = AsyncClientOptions(httpx_client=self.http)
        return ScenarioNotificationRepository(await create_async_client(PROJECT_URL, SECRET_KEY, options))

    def fails(self, method: str, arguments: dict[str, Any]) -> ScenarioRepositoryException:
        """Call a method, and return its error, which must be typed and in time."""
        self.sent.clear()
        started = time.monotonic()
        try:
            answer = self.runner.run(getattr(self.repository, method)(**arguments))
        except ScenarioRepositoryException as error:
            assert time.monotonic() - started < 5
            return error
        assert answer in ([], {}, 0), "nothing asked, nothing sent"
        assert not self.sent
        return UnavailableException()

    def close(self) -> None:
        """Hang up."""
        self.runner.run(self.http.aclose())
        self.runner.close()


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Open the wire once for hypothesis's thousand calls."""
    wire = Wire()
    yield wire
    wire.close()


IN_URL: Final = {
    "user_id": r"eq\.[0-9a-f-]{36}",
    "scenario_type": r"eq\.[a-z][a-z0-9_]{0,39}|is\.null",
    "organization_id": r"eq\.[0-9a-f-]{36}|is\.null",
    "id": r"in\.\([0-9a-f,-]*\)",
    "is_failed": r"eq\.(true|false)",
    "settled_at": r"gte\.[0-9T:.-]+\+00:00",
    "triggered_at": r"[gl]te\.[0-9T:.-]+\+00:00",
    "milestone_value": r"eq\.\d+",
    "limit": r"\d+",
}
"""The format of each value in a URL."""


def test_every_public_method_is_attacked() -> None:
    """A new method, or a new argument, has to be listed here."""
    for name, method in inspect.getmembers(ScenarioNotificationRepository):
        if not name.startswith("_"):
            assert set(inspect.signature(method).parameters) - {"self", "dry_run", "list_due", "under_way"} == set(
                VALID[name]
            )


@pytest.mark.parametrize(("method", "argument"), [(name, key) for name, given in VALID.items() for key in given])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_argument_is_valid_or_refused_before_anything_is_sent(
    wire: Wire, method: str, argument: str, data: st.DataObject
) -> None:
    """One argument is hostile: it is refused before sending, or exactly one well-formed request is sent."""
    failure = wire.fails(method, VALID[method] | {argument: data.draw(ANYTHING)})
    assert type(failure) in {InvalidDataException, UnavailableException}
    if isinstance(failure, InvalidDataException):
        assert not wire.sent
        assert "drop table" not in str(failure)
        return
    for request in wire.sent:
        assert_plain(request)


def assert_plain(request: httpx.Request) -> None:
    """No value has become an operator, a column or a path of its own."""
    assert request.url.path.startswith("/rest/v1/")
    assert request.url.path.count("/") <= 4
    names = [name for name, _ in request.url.params.multi_items()]
    assert set(names) <= {*IN_URL, "select", "columns", "delivery_status", "on_conflict", "order", "or"}
    assert len(names) == len(set(names))
    for name, pattern in IN_URL.items():
        for value in request.url.params.get_list(name):
            assert re.fullmatch(pattern, value)
    body = json.loads(request.content) if request.content else {}
    body = body if isinstance(body, dict) else {}
    for name, value in body.items():
        if name in {"p_user_id", "p_organization_id", "p_after"}:
            assert value is None or str(UUID(value)) == value
        elif name == "p_user_ids":
            assert [str(UUID(one)) for one in value] == value
        elif name in {"p_limit", "p_milestone_value"} or (name == "p_max_attempts" and value is not None):
            assert type(value) is int
            assert 0 < value < 2**31
        elif name in {"p_cutoff", "p_since", "p_until"}:
            assert datetime.fromisoformat(value).utcoffset() == timedelta(0)
        elif name == "p_scenario_type" and value is not None:
            assert re.fullmatch(r"[a-z][a-z0-9_]{0,39}", value)


@settings(max_examples=60, deadline=None)
@given(
    fields=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("user_id", "organization_id", "scenario_type", "milestone_value", "metadata", "cooldown", "subjects", "x"),
            ANYTHING,
        ),
    )
)
def test_models_are_valid_or_refused(fields: dict[str, Any]) -> None:
    """A model made from hostile values raises InvalidDataException, or is a value that JSON can hold."""
    good = {"user_id": USER_ID, "organization_id": ORGANIZATION_ID, "scenario_type": "inactivity"}
    lease = {"id": USER_ID, "lease_number": 1, "result": "sent"}
    models: list[tuple[type[BaseModel], dict[str, object]]] = [
        (NewScenarioNotification, good),
        (NotificationClaim, good),
        (Settlement, lease),
        (DeliveryPolicy, {}),
        (NewMute, {"user_id": USER_ID}),
    ]
    for model, base in models:
        try:
            made = model(**(base | fields))
        except InvalidDataException:
            continue
        assert json.loads(made.model_dump_json())


@pytest.mark.parametrize(
    "metadata",
    [
        {"blob": "x" * 10_000_000},
        {"list": [1] * 2_000_000},
        {str(number): 1 for number in range(500_000)},
        {"digits": 10**100_000},
        json.loads('{"a":' * 900 + "1" + "}" * 900),
    ],
    ids=["10 MB of text", "2e6 numbers", "5e5 keys", "a long number", "900 levels"],
)
def test_huge_metadata_is_refused_at_once(metadata: dict[str, Any]) -> None:
    """A document a thousand times too large takes no longer than one slightly too large."""
    started = time.monotonic()
    with pytest.raises(InvalidDataException):
        new_notification(metadata=metadata)
    assert time.monotonic() - started < 1


def test_metadata_that_contains_itself_is_refused() -> None:
    """A cycle ends at the limit of depth."""
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(InvalidDataException):
        new_notification(metadata=endless)


def test_too_many_are_refused_unsent(wire: Wire) -> None:
    """A million ids, 20,001 claims or 1,001 settlements are refused by their number, before anything is sent."""
    ids = [UUID(int=number) for number in range(1_000_000)]
    fewer = ids[:50_001]
    settled = Settlement(id=USER_ID, lease_number=1, result=DeliveryResult.SENT)
    for method, change in (
        ("get_last_sent_at_many", {"user_ids": ids}),
        ("has_been_sent_since_threshold_many", {"user_ids": fewer}),
        ("get_milestone_record_many", {"user_ids": fewer}),
        ("claim_notifications", {"claims": [CLAIM] * 20_001, "lease": None}),
        ("claim_notifications", {"claims": [CLAIM] * 1_001}),
        ("settle_notifications", {"results": [settled] * 1_001}),
        ("lease_notifications", {"limit": 1_001}),
        ("cancel_notifications", {"ids": ids[:1_001]}),
        ("retry_notifications", {"ids": ids[:1_001]}),
        ("remove_days_off", {"ids": ids[:1_001]}),
        ("list_notifications", {"limit": 1_001}),
        ("evaluate_scenario", {"limit": 100_001}),
        ("purge_notifications", {"batch": 100_001}),
    ):
        failure = wire.fails(method, VALID[method] | change)
        assert type(failure) is InvalidDataException
        assert "at most" in str(failure)
        assert not wire.sent


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    field=st.sampled_from(["page_size", "concurrency", "send_timeout", "idle_pause", "max_attempts"]), value=ANYTHING
)
def test_the_engine_and_the_worker_refuse_what_is_no_setting(wire: Wire, field: str, value: object) -> None:
    """A setting is valid, or is refused by the constructor."""

    async def send(_: LeasedNotification) -> None:
        return

    make: Callable[..., object] = ScenarioTriggerEngine if field == "page_size" else DeliveryWorker
    arguments = [wire.repository] if field == "page_size" else [wire.repository, send]
    try:
        make(*arguments, **{field: value})
    except InvalidDataException as error:
        assert field in str(error)  # noqa: PT017 - either way is right


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(["scenario_types", "organization_id", "time_budget"]), value=ANYTHING)
def test_a_run_refuses_what_is_no_argument(wire: Wire, field: str, value: object) -> None:
    """An argument of a run is valid, or is refused before anything is evaluated."""
    wire.sent.clear()
    budget = {"time_budget": timedelta(milliseconds=1)}
    engine = ScenarioTriggerEngine(wire.repository)
    if isinstance(value, timedelta) and value > timedelta(seconds=1):
        return
    try:
        wire.runner.run(engine.run(**(budget | {field: value})))  # type: ignore[arg-type]
    except InvalidDataException as error:
        assert field in str(error)  # noqa: PT017
        assert not wire.sent


@settings(max_examples=50, deadline=None)
@given(
    url=st.one_of(st.text(), st.sampled_from(HOSTILE_TEXTS)), key=st.one_of(st.text(), st.sampled_from(HOSTILE_TEXTS))
)
def test_settings_are_refused_as_such(url: str, key: str) -> None:
    """Whatever the text, connect() fails only with ConfigurationException."""

    async def open_both() -> None:
        with pytest.raises(ConfigurationException):
            async with connect(url, key):
                pass
        with pytest.raises(ConfigurationException):
            async with connect_as_user(key, url, key):
                pass

    asyncio.run(open_both())


@pytest.mark.parametrize(
    "field",
    [
        "user_id",
        "organization_id",
        "scenario_type",
        "cooldown",
        "metadata",
        "triggered_at",
    ],
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=ANYTHING)
def test_models_made_behind_the_validators_back_fail_typed(wire: Wire, field: str, value: object) -> None:
    """model_construct and model_copy check nothing: the call raises a library exception, or is sent as JSON."""
    new = new_notification().model_copy(update={field: value})
    claim = CLAIM.model_copy(update={field: value})
    for method, arguments in (
        ("insert_notification", {"notification": new}),
        ("claim_notifications", {"claims": [claim]}),
    ):
        failure = wire.fails(method, arguments)
        assert isinstance(failure, ScenarioRepositoryException)
        for request in wire.sent:
            assert_plain(request)
