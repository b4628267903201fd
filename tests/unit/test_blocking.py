"""The blocking face: the same surface as the asynchronous one, for code without an event loop."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import blocking as generator
import httpx
import pytest
import respx
from anyio.from_thread import BlockingPortal

import scenario_repo
from scenario_repo import (
    ConfigurationException,
    DeliveryResult,
    EvaluationPage,
    InvalidDataException,
    NotificationClaim,
    PermanentDeliveryError,
    PermissionDeniedException,
    ScenarioType,
    SettlementAnswer,
    UnavailableException,
    blocking,
)
from tests.factories import (
    PROJECT_URL,
    PUBLISHABLE_KEY,
    SECRET_KEY,
    USER_ID,
    claims_answer,
    function_arguments,
    leased_row,
    minted_jwt,
)
from tests.unit.begun_runs import serve_run
from tests.unit.leaks import CALLS

TWINS: Final = ("ScenarioNotificationRepository", "ScenarioTriggerEngine", "DeliveryWorker")
TYPES: Final = {
    "AsyncIterator[AsyncClient]": "Iterator[Client]",
    "AsyncIterator[httpx.AsyncClient]": "Iterator[HttpClient]",
    "httpx.AsyncClient | None": "HttpClient | None",
    "AsyncClient": "Client",
}
"""The types of the asynchronous signatures, and those of the blocking ones."""


@pytest.fixture
def client() -> Iterator[blocking.Client]:
    """Open a worker's client."""
    with blocking.connect(PROJECT_URL, SECRET_KEY) as opened:
        yield opened


@pytest.fixture
def repository(client: blocking.Client) -> blocking.ScenarioNotificationRepository:
    """Make a repository on it."""
    return blocking.ScenarioNotificationRepository(client)


def _public(cls: type) -> dict[str, Any]:
    members = {name: member for base in reversed(cls.__mro__[:-1]) for name, member in vars(base).items()}
    return {name: member for name, member in members.items() if not name.startswith("_") or name == "__init__"}


def _function(member: Any) -> Callable[..., object]:  # noqa: ANN401 - a method or a property
    function: Any = member.fget if isinstance(member, property) else member
    unwrapped: Callable[..., object] = inspect.unwrap(function)
    return unwrapped


def _signature(function: Callable[..., object], types: dict[str, str]) -> tuple[object, object]:
    signature = inspect.signature(function)
    parameters = [
        (one.name, one.kind, one.default, types.get(one.annotation, one.annotation))
        for one in signature.parameters.values()
    ]
    return parameters, types.get(signature.return_annotation, signature.return_annotation)


# The twins ---------------------------------------------------------------


@pytest.mark.parametrize("name", TWINS)
def test_every_public_method_has_a_twin_of_the_same_signature(name: str) -> None:
    """Each public member, also an inherited one, has a blocking twin: the same arguments, defaults, types, no await."""
    asynchronous, twin = _public(getattr(scenario_repo, name)), _public(getattr(blocking, name))

    assert set(asynchronous) == set(twin)
    for method, member in asynchronous.items():
        assert _signature(_function(member), TYPES) == _signature(_function(twin[method]), {}), method
        assert not inspect.iscoroutinefunction(_function(twin[method]))
        assert isinstance(member, property) == isinstance(twin[method], property)


@pytest.mark.parametrize("name", ["connect", "connect_as_user", "open_http_client"])
def test_every_way_to_connect_has_a_twin_of_the_same_signature(name: str) -> None:
    """A client is opened with the same arguments."""
    asynchronous, twin = getattr(scenario_repo, name), getattr(blocking, name)

    assert _signature(inspect.unwrap(asynchronous), TYPES) == _signature(inspect.unwrap(twin), {})


def test_whatever_is_asynchronous_has_a_twin() -> None:
    """Of the public surface, everything that is awaited or entered has a name in the blocking face."""
    public = {name: getattr(scenario_repo, name) for name in scenario_repo.__all__}
    awaited = {
        name
        for name, thing in public.items()
        if inspect.isasyncgenfunction(inspect.unwrap(thing))
        or (inspect.isclass(thing) and any(inspect.iscoroutinefunction(one) for one in vars(thing).values()))
    }

    assert awaited == {*TWINS, "connect", "connect_as_user", "open_http_client"}
    assert awaited <= set(blocking.__all__)


def test_the_blocking_face_is_what_would_be_generated() -> None:
    """blocking.py has not drifted from the asynchronous source."""
    assert generator.BLOCKING.read_text(encoding="utf-8") == generator.written()


def test_every_docstring_is_that_of_the_asynchronous_twin_in_blocking_words() -> None:
    """The docstrings are taken over, and none speaks of await or of an AsyncClient."""
    for name in TWINS:
        for method, member in _public(getattr(blocking, name)).items():
            told = _function(member).__doc__ or ""
            assert told, method
            assert not re.search(r"\bawait|AsyncClient|coroutine|event loop that", told), method


# Calls -------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(CALLS))
def test_every_method_asks_the_database(
    method: str, rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """Each blocking method sends the request of its twin, and its exception is that of the library."""
    rest.route().respond(503)

    with pytest.raises(UnavailableException) as failure:
        CALLS[method](repository)  # type: ignore[arg-type]  # the same surface
    assert failure.value.operation == method
    assert rest.calls.call_count == 1


def test_an_answer_comes_back(rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository) -> None:
    """The value is that of the asynchronous method."""
    rest.route().respond(json=[{"triggered_at": "2026-11-02T08:30:00+00:00"}])

    assert repository.get_last_sent_at(USER_ID, "inactivity") == datetime(2026, 11, 2, 8, 30, tzinfo=UTC)


def test_a_batch_is_claimed(rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository) -> None:
    """Claims return one outcome each."""
    rest.post("/rpc/scenario_claim_notifications").respond(json=claims_answer())
    claim = NotificationClaim(
        user_id=USER_ID, organization_id=uuid4(), scenario_type=ScenarioType.INACTIVITY, cooldown=timedelta(days=7)
    )

    assert [outcome.claimed for outcome in repository.claim_notifications([claim])] == [True]


def test_what_is_lazy_is_walked_through_in_the_callers_thread(
    rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """An iterator of ids that blocks, such as a Django query, runs where blocking is allowed."""
    rest.route().respond(json={"answers": [None, None]})
    threads: set[threading.Thread] = set()

    def ids() -> Iterator[UUID]:
        for _ in range(2):
            threads.add(threading.current_thread())
            yield uuid4()

    assert set(repository.get_last_sent_at_many(ids(), ScenarioType.INACTIVITY).values()) == {None}
    assert threads == {threading.current_thread()}


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize("ids", ["text", 7, None], ids=repr)
def test_bad_input_is_refused_as_in_the_asynchronous_method(
    ids: Any,  # noqa: ANN401 - the point of it
    repository: blocking.ScenarioNotificationRepository,
) -> None:
    """What is no collection of ids is invalid data, not an error of Python."""
    with pytest.raises(InvalidDataException):
        repository.get_last_sent_at_many(ids, ScenarioType.INACTIVITY)


def test_several_threads_call_at_once(
    rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """Calls of several threads run at the same time on one client."""
    waiting = 0

    async def answer(_: httpx.Request) -> httpx.Response:
        nonlocal waiting
        waiting += 1
        while waiting < 5:  # noqa: ASYNC110 - each waits for the others
            await asyncio.sleep(0.001)
        return httpx.Response(200, json=[])

    rest.route().mock(side_effect=answer)
    with ThreadPoolExecutor(5) as threads:
        calls = [threads.submit(repository.get_last_sent_at, uuid4(), "inactivity") for _ in range(5)]
        assert [call.result(timeout=10) for call in calls] == [None] * 5


# Refusals ----------------------------------------------------------------


@pytest.mark.usefixtures("no_request")
async def test_inside_an_event_loop_it_is_refused() -> None:
    """A blocking call would stop the loop that runs: it is refused, with what to do."""
    with pytest.raises(ConfigurationException, match="running event loop"), blocking.connect(PROJECT_URL, SECRET_KEY):
        pytest.fail("connected")


def test_a_call_inside_an_event_loop_is_refused(repository: blocking.ScenarioNotificationRepository) -> None:
    """So is a call on a client that was opened before the loop."""

    async def call() -> None:
        repository.describe_schema()

    with pytest.raises(ConfigurationException, match="await scenario_repo's own"):
        asyncio.run(call())


def test_after_its_block_a_client_is_refused(rest: respx.MockRouter) -> None:
    """A closed client says so, and its thread and its connections are gone."""
    rest.route().respond(json=[])
    with blocking.connect(PROJECT_URL, SECRET_KEY) as client:
        repository = blocking.ScenarioNotificationRepository(client)
        repository.get_last_sent_at(USER_ID, "inactivity")
        assert "scenario_repo" in {thread.name for thread in threading.enumerate()}

    assert "scenario_repo" not in {thread.name for thread in threading.enumerate()}
    assert client.supabase.postgrest.session.is_closed
    with pytest.raises(ConfigurationException, match="the client is closed"):
        repository.get_last_sent_at(USER_ID, "inactivity")


def test_an_error_in_the_block_closes_it_too() -> None:
    """Whatever ends the block, nothing stays open."""

    def fail() -> None:
        with blocking.connect(PROJECT_URL, SECRET_KEY):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "scenario_repo" not in {thread.name for thread in threading.enumerate()}


@respx.mock(assert_all_called=False)  # what is cancelled does not count as called
def test_a_call_whose_client_is_closed_meanwhile_says_so(respx_mock: respx.MockRouter) -> None:
    """A call of another thread does not outlive the client, and does not hang."""
    is_asked = threading.Event()

    async def answer(_: httpx.Request) -> httpx.Response:
        is_asked.set()
        await asyncio.sleep(60)
        return httpx.Response(200, json=[])

    respx_mock.route().mock(side_effect=answer)
    with ThreadPoolExecutor(1) as threads:
        with pytest.raises(KeyError), blocking.connect(PROJECT_URL, SECRET_KEY) as client:  # noqa: PT012
            repository = blocking.ScenarioNotificationRepository(client)
            call = threads.submit(repository.get_last_sent_at, USER_ID, "inactivity")
            is_asked.wait(10)
            raise KeyError
        with pytest.raises(ConfigurationException, match="closed during the call"):
            call.result(timeout=10)


def test_settings_are_refused_as_in_the_asynchronous_connect() -> None:
    """A bad key raises before a client is there, and no thread is left."""
    with pytest.raises(ConfigurationException, match="publishable"), blocking.connect(PROJECT_URL, PUBLISHABLE_KEY):
        pytest.fail("connected")
    with (
        pytest.raises(PermissionDeniedException, match="access token"),
        blocking.connect_as_user(SECRET_KEY, PROJECT_URL, PUBLISHABLE_KEY),
    ):
        pytest.fail("connected")
    assert "scenario_repo" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (blocking.ScenarioNotificationRepository, "Client"),
        (blocking.ScenarioTriggerEngine, "ScenarioNotificationRepository"),
        (lambda it: blocking.DeliveryWorker(it, print), "ScenarioNotificationRepository"),
    ],
    ids=["repository", "engine", "worker"],
)
def test_what_is_not_of_the_blocking_face_is_refused_by_name(make: Callable[[Any], object], expected: str) -> None:
    """An asynchronous thing, or another library's, is refused, and the message says which it was."""
    with pytest.raises(
        ConfigurationException, match=rf"expected a {expected} of scenario_repo.blocking, got builtins.object"
    ):
        make(object())


# Engine and worker -------------------------------------------------------


def test_the_engine_runs(rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository) -> None:
    """The engine evaluates page by page and tells its progress."""
    page = {"evaluated": 3, "due": 1, "claimed": 1, "history": 0, "skipped": {}, "next_after": None}
    serve_run(rest)
    rest.post("/rpc/scenario_evaluate_next_page").respond(json=page)
    seen: list[EvaluationPage] = []

    report = blocking.ScenarioTriggerEngine(repository, on_page=lambda _, one: seen.append(one)).run(
        iter([ScenarioType.INACTIVITY])  # type: ignore[arg-type]  # what the asynchronous engine also takes
    )

    assert (report.completed, report.scenarios[0].claimed, len(seen)) == (True, 1, 1)


class Due:
    """A database with so many notifications to deliver."""

    def __init__(self, rest: respx.MockRouter, count: int, **fields: object) -> None:
        self.rows = [leased_row(id=str(uuid4()), **fields) for _ in range(count)]
        self.results: list[str] = []
        rest.post("/rpc/scenario_lease_notifications").mock(side_effect=self._lease)
        rest.post("/rpc/scenario_settle_notifications").mock(side_effect=self._settle)

    def _lease(self, request: httpx.Request) -> httpx.Response:
        limit = function_arguments(request)["p_limit"]
        taken, self.rows = self.rows[:limit], self.rows[limit:]
        for row in taken:
            row["leased_until"] = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        return httpx.Response(200, json={"leased": taken, "has_more": bool(self.rows)})

    def _settle(self, request: httpx.Request) -> httpx.Response:
        results = [row["result"] for row in function_arguments(request)["p_results"]]
        self.results += results
        answers = {"sent": "sent", "failed": "failed"}
        return httpx.Response(200, json={"answers": [answers.get(one, "pending") for one in results]})


def test_blocking_senders_run_at_the_same_time(
    rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """Senders block in threads of their own, so a slow one delays no other."""
    due = Due(rest, 3)
    together = threading.Barrier(3)

    worker = blocking.DeliveryWorker(repository, lambda _: (together.wait(10), None)[1])

    assert worker.run(until_idle=True) == {SettlementAnswer.SENT: 3}
    assert due.results == ["sent"] * 3
    assert worker.settled == {SettlementAnswer.SENT: 3}
    assert not worker.is_abandoning


def test_what_a_blocking_sender_raises_is_its_outcome(
    rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """The exceptions of a sender mean what they mean in the asynchronous worker."""
    due = Due(rest, 1)

    def refuse(_: object) -> None:
        raise PermanentDeliveryError("unregistered")

    blocking.DeliveryWorker(repository, refuse).run(until_idle=True)
    assert due.results == ["failed"]


def test_each_device_is_sent_to(rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository) -> None:
    """A sender to one device is called for each of them."""
    devices = [{"token": token, "platform": "ios"} for token in "ab"]
    Due(rest, 1, device_tokens=devices)
    reached: list[str] = []

    blocking.DeliveryWorker(repository, send_to_device=lambda _, device: reached.append(device.token)).run(
        until_idle=True
    )
    assert sorted(reached) == ["a", "b"]


def test_another_thread_stops_the_worker(
    rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """stop() may be called from any thread, or by a signal handler: what is sent is settled, and run() returns."""
    due = Due(rest, 1)
    worker = blocking.DeliveryWorker(repository, lambda _: worker.stop())

    assert worker.run() == {SettlementAnswer.SENT: 1}
    assert due.results == ["sent"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_a_sender_that_ends_the_program_ends_the_worker_and_not_the_client(
    error: BaseException, rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """sys.exit() in a sender is raised by run(), after what was sent is settled; the client still works."""
    due = Due(rest, 1)

    def end(_: object) -> None:
        raise error

    with pytest.raises(type(error)):
        blocking.DeliveryWorker(repository, end).run(until_idle=True)
    assert due.results == ["retry"]
    rest.post("/rpc/scenario_get_schema").respond(json={"version": 1, "scenario_types": []})
    assert repository.describe_schema().version == 1


def test_a_send_that_ends_late_keeps_its_result(
    rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """A thread can't be cancelled, so a send that arrives shortly after its time is sent, and not tried again."""
    due = Due(rest, 1)
    release = threading.Event()
    threading.Timer(0.3, release.set).start()

    worker = blocking.DeliveryWorker(
        repository, lambda _: (release.wait(10), None)[1], send_timeout=timedelta(milliseconds=50)
    )

    assert worker.run(until_idle=True) == {SettlementAnswer.SENT: 1}
    assert due.results == [DeliveryResult.SENT]


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize("name", ["send", "send_to_device"])
def test_a_sender_that_has_to_be_awaited_is_refused(
    name: str, repository: blocking.ScenarioNotificationRepository
) -> None:
    """A coroutine function would send nothing and look as if it had."""

    async def send(*_: object) -> None:
        pass

    with pytest.raises(InvalidDataException, match="a sender that blocks, got a coroutine function"):
        blocking.DeliveryWorker(repository, **{name: send})  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_request")
@pytest.mark.parametrize("name", ["send", "send_to_device"])
def test_a_sender_that_cannot_be_called_is_refused(
    name: str, repository: blocking.ScenarioNotificationRepository
) -> None:
    """As in the asynchronous worker: before anything is leased for it."""
    with pytest.raises(InvalidDataException, match="can't be called"):
        blocking.DeliveryWorker(repository, **{name: "notify"})  # type: ignore[arg-type]


def test_a_sender_that_returns_a_coroutine_has_sent_nothing(
    rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """What a function hides is found at the first send: it is tried again, and not recorded as sent."""
    due = Due(rest, 1)

    async def send() -> None:
        pass

    blocking.DeliveryWorker(repository, lambda _: send()).run(until_idle=True)  # type: ignore[arg-type]
    assert due.results == ["retry"]


def test_a_sender_may_ask_the_repository(
    rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """A sender's thread may use the same client, while the worker runs on it."""
    Due(rest, 1)
    rest.post("/rpc/scenario_get_schema").respond(json={"version": 1, "scenario_types": []})
    asked: list[int] = []

    blocking.DeliveryWorker(repository, lambda _: asked.append(repository.describe_schema().version)).run(
        until_idle=True
    )
    assert asked == [1]


# Around a call -----------------------------------------------------------


def test_a_call_sees_the_callers_context(
    rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """A trace that begins in the calling thread goes on in the request: context variables are taken along."""
    trace: ContextVar[str] = ContextVar("trace")
    seen: list[str] = []

    def answer(_: httpx.Request) -> httpx.Response:
        seen.append(trace.get("none"))
        return httpx.Response(200, json=[])

    rest.route().mock(side_effect=answer)
    trace.set("of the caller")
    repository.get_last_sent_at(USER_ID, "inactivity")
    assert seen == ["of the caller"]


@respx.mock(assert_all_called=False)
def test_an_interrupt_while_a_call_begins_cancels_it(
    respx_mock: respx.MockRouter,
    repository: blocking.ScenarioNotificationRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C between the start of a call and the wait for it leaves nothing running."""
    ended: list[str] = []

    async def answer(_: httpx.Request) -> httpx.Response:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")
        return httpx.Response(200, json=[])

    respx_mock.route().mock(side_effect=answer)
    start = BlockingPortal.start_task_soon
    interrupts = iter([KeyboardInterrupt()])

    def start_and_interrupt(portal: BlockingPortal, *arguments: Any) -> object:  # noqa: ANN401
        future = start(portal, *arguments)
        for interrupt in interrupts:
            time.sleep(0.1)
            raise interrupt
        return future

    monkeypatch.setattr(BlockingPortal, "start_task_soon", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        repository.get_last_sent_at(USER_ID, "inactivity")
    assert ended == ["cancelled"]


def test_an_interrupt_before_a_call_begins_does_not_wait_for_it(
    repository: blocking.ScenarioNotificationRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the interrupt comes first, nothing is sent, and nobody waits."""
    start = BlockingPortal.start_task_soon
    interrupts = iter([KeyboardInterrupt()])

    def interrupt_or_start(portal: BlockingPortal, *arguments: Any) -> object:  # noqa: ANN401
        for interrupt in interrupts:
            raise interrupt
        return start(portal, *arguments)

    monkeypatch.setattr(BlockingPortal, "start_task_soon", interrupt_or_start)
    with pytest.raises(KeyboardInterrupt):
        repository.get_last_sent_at(USER_ID, "inactivity")


# Shared connections ------------------------------------------------------


def test_users_share_an_http_client(rest: respx.MockRouter) -> None:
    """Clients on one HTTP client share its thread, each acts for its own user, and none closes it."""
    rest.route().respond(json=[])
    tokens = [minted_jwt("authenticated", sub=str(uuid4())) for _ in range(2)]

    with blocking.open_http_client() as http_client:
        for token in tokens:
            with blocking.connect_as_user(token, PROJECT_URL, PUBLISHABLE_KEY, http_client=http_client) as client:
                blocking.ScenarioNotificationRepository(client).list_notifications(USER_ID)
        assert [thread.name for thread in threading.enumerate()].count("scenario_repo") == 1

    assert [call.request.headers["Authorization"] for call in rest.calls] == [f"Bearer {token}" for token in tokens]


def test_another_http_client_is_refused_by_name() -> None:
    """Only an HTTP client of the blocking face can be shared there."""
    with (
        httpx.Client() as other,
        pytest.raises(ConfigurationException, match=r"open_http_client\(\), got Client"),
        blocking.connect(PROJECT_URL, SECRET_KEY, http_client=other),  # type: ignore[arg-type]
    ):
        pytest.fail("connected")


def test_values_are_those_of_the_package(
    rest: respx.MockRouter, repository: blocking.ScenarioNotificationRepository
) -> None:
    """A call passes its settings on, by the same names."""
    rest.post("/rpc/scenario_evaluate").respond(
        json={"evaluated": 0, "due": 0, "claimed": 0, "history": 0, "skipped": {}, "next_after": None}
    )
    repository.evaluate_scenario("inactivity", USER_ID, None, 5, dry_run=True, due_within=timedelta(days=2))

    assert json.loads(rest.calls.last.request.content) | {"p_needs_schema": 1} == {
        "p_scenario_type": "inactivity",
        "p_organization_id": str(USER_ID),
        "p_after": None,
        "p_limit": 5,
        "p_dry_run": True,
        "p_due_within_seconds": 172800.0,
        "p_list": False,
        "p_needs_schema": 1,
    }
