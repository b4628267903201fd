"""What may pass, on the wire: neither the delivery worker nor the engine ends for it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
import respx

from scenario_repo import (
    DeliveryWorker,
    LeasedNotification,
    PermissionDeniedException,
    ScenarioNotificationRepository,
    ScenarioTriggerEngine,
    ScenarioType,
    SettlementAnswer,
)
from tests.factories import leased_row
from tests.unit.begun_runs import serve_run

MOMENT: Final = timedelta(milliseconds=20)
HTML: Final = "<html><body><h1>Something went wrong</h1></body></html>"
SCHEMA_CACHE: Final = {"code": "PGRST002", "message": "Could not query the database for the schema cache. Retrying."}
FUTURE: Final = {"code": "PGRST303", "message": "JWT issued at future", "details": None, "hint": None}
BROKEN_COMMIT: Final[dict[str, Any]] = {"code": "", "details": None, "hint": None, "message": ""}
PASSING: Final[dict[str, list[httpx.Response | Exception]]] = {
    "4.1": [httpx.Response(401, json=FUTURE)],
    "4.7": [httpx.Response(400, json=BROKEN_COMMIT, headers={"Proxy-Status": "PostgREST; error="})],
    "4.8": [
        httpx.Response(503, json={"code": "PGRST001", "message": "no connection"}),
        *[httpx.Response(503, json=SCHEMA_CACHE, headers={"Retry-After": "0"})] * 8,
    ],
    "a gateway's pages": [httpx.Response(status, text=HTML) for status in (500, 502, 503, 504, 520, 522, 540, 599)],
    "closed connections": [
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed"),
        httpx.ReadTimeout("late"),
    ],
}

every_outage = pytest.mark.parametrize("outage", PASSING.values(), ids=PASSING)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scenario_repo.delivery._LONGEST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("scenario_repo._backoff.FIRST_PAUSE_SECONDS", 0.001)


def _settle(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"answers": ["sent"] * len(json.loads(request.content)["p_results"])})


@every_outage
async def test_the_worker_goes_on(
    outage: list[httpx.Response | Exception], rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """Neither a lease nor a settlement gives up, and nothing is sent twice."""
    rows = [leased_row(id=str(UUID(int=number))) for number in range(3)]
    # An answer of the old shape: what it does not have is none.
    leases = [httpx.Response(200, json={"leased": leased}) for leased in (rows, *[[]] * 9)]
    rest.post("/rpc/scenario_lease_notifications").mock(side_effect=[*outage, *leases])
    failing = list(outage)

    def settle(request: httpx.Request) -> httpx.Response:
        if not failing:
            return _settle(request)
        failure = failing.pop(0)
        if isinstance(failure, Exception):
            raise failure
        return failure

    rest.post("/rpc/scenario_settle_notifications").mock(side_effect=settle)
    sent: list[UUID] = []

    async def send(notification: LeasedNotification) -> None:
        sent.append(notification.id)

    delivery = DeliveryWorker(repository, send, idle_pause=MOMENT)
    assert await delivery.run(until_idle=True) == {SettlementAnswer.SENT: 3}
    assert sorted(sent) == [UUID(int=number) for number in range(3)]


async def test_a_lease_that_failed_is_not_idleness(
    rest: respx.MockRouter, repository: ScenarioNotificationRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its pause is over at once: only the database tells that nothing is due."""
    monkeypatch.setattr("scenario_repo.delivery._pause_seconds", lambda *_: 0.0)
    answers: list[httpx.Response | Exception] = [
        httpx.ConnectError("refused"),
        httpx.Response(200, json={"leased": [leased_row()]}),
    ]
    rest.post("/rpc/scenario_lease_notifications").mock(
        side_effect=[*answers, *[httpx.Response(200, json={"leased": []})] * 9]
    )
    rest.post("/rpc/scenario_settle_notifications").mock(side_effect=_settle)

    async def send(_: LeasedNotification) -> None:
        """Send."""

    delivery = DeliveryWorker(repository, send, idle_pause=MOMENT)
    assert await delivery.run(until_idle=True) == {SettlementAnswer.SENT: 1}


@every_outage
async def test_the_engine_goes_on(
    outage: list[httpx.Response | Exception], rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """The page is asked for again, until it comes."""
    page = {"evaluated": 1, "due": 1, "claimed": 1, "history": 0, "skipped": {}, "next_after": None}
    serve_run(rest)
    rest.post("/rpc/scenario_evaluate_next_page").mock(side_effect=[*outage, httpx.Response(200, json=page)])
    report = await ScenarioTriggerEngine(repository).run([ScenarioType.INACTIVITY])
    assert (report.completed, report.errors, report.scenarios[0].claimed) == (True, (), 1)


@pytest.mark.parametrize(
    "refusal", [httpx.Response(403, json={"code": "42501", "message": "no"}), httpx.Response(401, json={"message": ""})]
)
async def test_what_waiting_does_not_mend_ends_the_worker(
    refusal: httpx.Response, rest: respx.MockRouter, repository: ScenarioNotificationRepository
) -> None:
    """It says what was refused."""
    rest.post("/rpc/scenario_lease_notifications").mock(return_value=refusal)

    async def send(_: LeasedNotification) -> None:
        """Send."""

    with pytest.raises(PermissionDeniedException, match="lease_notifications"):
        await DeliveryWorker(repository, send, idle_pause=MOMENT).run()
