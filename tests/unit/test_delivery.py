"""DeliveryWorker: concurrency, timeouts, and the result of each send."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import timedelta
from uuid import UUID

import pytest

from scenario_repo import (
    DeliveryResult,
    FailureReason,
    InvalidDataException,
    LeasedNotification,
    PermanentDeliveryError,
    ScenarioType,
    SettlementAnswer,
    SuppressDelivery,
    UnavailableException,
)
from tests.factories import ORGANIZATION_ID
from tests.unit.delivery import LONG, MOMENT, Script, leased, raising, succeed, until, worker
from tests.unit.leaks import MARKER


async def test_everything_due_is_sent_and_counted() -> None:
    """With until_idle, the worker ends when nothing is due, and returns the counts."""
    script = Script(25)

    assert await worker(script, succeed).run(until_idle=True) == {SettlementAnswer.SENT: 25}
    assert set(script.outcomes().values()) == {(DeliveryResult.SENT, None)}


async def test_nothing_due_ends_at_once() -> None:
    """With until_idle and nothing due, the worker leases once and does not pause."""
    script = Script(0)

    assert await asyncio.wait_for(worker(script, succeed, idle_pause=LONG).run(until_idle=True), 1) == {}
    assert (len(script.leases), script.settle_calls) == (1, [])


async def test_no_more_are_sent_at_once_than_allowed() -> None:
    """No more than ``concurrency`` sends run, and no more are leased than can be sent at once."""
    sending: set[UUID] = set()
    most = 0

    async def send(notification: LeasedNotification) -> None:
        nonlocal most
        sending.add(notification.id)
        most = max(most, len(sending))
        await asyncio.sleep(0.001 * (len(sending) % 3))
        sending.remove(notification.id)

    script = Script(40)
    await worker(script, send).run(until_idle=True)

    assert most == 4
    assert all(1 <= limit <= 4 for limit, *_ in script.leases)
    assert len(script.outcomes()) == 40


async def test_a_slow_send_holds_up_no_other() -> None:
    """A send that never ends takes one place; the others continue, also those that become due later."""
    script = Script(12)
    slow = script.due[0].id

    async def send(notification: LeasedNotification) -> None:
        if notification.id == slow:
            await asyncio.Event().wait()

    running = asyncio.create_task(worker(script, send, concurrency=2).run())
    await until(lambda: len(script.settled) == 11)
    script.due.append(leased())
    await until(lambda: len(script.settled) == 12)

    assert slow not in {result.id for result in script.settled}
    running.cancel()
    await asyncio.wait([running])


async def test_a_send_that_takes_too_long_is_tried_again() -> None:
    """After send_timeout the send is cancelled, and its notification is due again."""
    script = Script(2)
    cancelled: list[UUID] = []

    async def send(notification: LeasedNotification) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(notification.id)

    await worker(script, send, send_timeout=MOMENT).run(until_idle=True)

    assert set(script.outcomes().values()) == {(DeliveryResult.RETRY, "timeout")}
    assert set(cancelled) == {row.id for row in script.leased}


@pytest.mark.parametrize("timeout", [MOMENT, timedelta(minutes=10)])
async def test_a_lease_is_longer_than_a_send_may_take(timeout: timedelta) -> None:
    """A lease lasts one minute longer than a send, for leasing and settling; the worker's filters are passed on."""
    script = Script(1)
    types = [ScenarioType.MILESTONE]
    delivery = worker(
        script, succeed, send_timeout=timeout, organization_id=ORGANIZATION_ID, scenario_types=types, max_attempts=3
    )
    await delivery.run(until_idle=True)

    assert script.leases[0] == (4, timeout + timedelta(seconds=60), ORGANIZATION_ID, types)
    assert script.settle_calls == [3]


@pytest.mark.parametrize("error", [RuntimeError(MARKER), OSError(MARKER), ExceptionGroup(MARKER, [ValueError(MARKER)])])
async def test_an_exception_is_a_retry_whose_text_is_not_told(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the class and the place in the sender; the text may quote a device token."""
    script = Script(1)

    with caplog.at_level(logging.DEBUG):
        assert await worker(script, raising(error)).run(until_idle=True) == {SettlementAnswer.PENDING: 1}

    assert list(script.outcomes().values()) == [(DeliveryResult.RETRY, "send_failed")]
    assert re.search(rf"a send failed: {type(error).__name__} at tests\.unit\.delivery:\d+", caplog.text)
    assert MARKER not in caplog.text + "".join(str(record.__dict__) for record in caplog.records)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermanentDeliveryError(), "permanent_failure"),
        (PermanentDeliveryError("unregistered"), "unregistered"),
        *((PermanentDeliveryError(code), "unnamed_failure") for code in ("", "No such token!", "a" * 64, "code\n")),
        *((PermanentDeliveryError(code), "unnamed_failure") for code in FailureReason),
        (PermanentDeliveryError(410), "unnamed_failure"),  # type: ignore[arg-type]
    ],
)
async def test_a_permanent_error_fails_for_good(error: PermanentDeliveryError, code: str) -> None:
    """The failure is recorded with its code, or with a general one if the code is invalid or scenario_repo's own."""
    script = Script(1)

    assert await worker(script, raising(error)).run(until_idle=True) == {SettlementAnswer.FAILED: 1}
    assert list(script.outcomes().values()) == [(DeliveryResult.FAILED, code)]


async def test_a_sender_without_anybody_to_send_to_suppresses(caplog: pytest.LogCaptureFixture) -> None:
    """It is no failure of the delivery: nobody is warned, and it is not tried again."""
    script = Script(1)

    with caplog.at_level(logging.DEBUG, logger="scenario_repo"):
        assert await worker(script, raising(SuppressDelivery())).run(until_idle=True) == {SettlementAnswer.FAILED: 1}
    assert list(script.outcomes().values()) == [(DeliveryResult.SUPPRESSED, None)]
    assert {record.levelno for record in caplog.records} <= {logging.DEBUG, logging.INFO}


async def test_the_settings_say_how_many_attempts_there_are() -> None:
    """Unless the worker is told otherwise, the database decides."""
    script = Script(1)
    await worker(script, succeed).run(until_idle=True)
    assert script.settle_calls == [None]


async def test_lost_leases_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A lease that another worker has now is counted as lost, and logged in counts."""
    script = Script(2)
    script.lost.add(script.due[0].id)

    with caplog.at_level(logging.INFO):
        counts = await worker(script, succeed).run(until_idle=True)

    assert counts == {SettlementAnswer.SENT: 1, SettlementAnswer.LEASE_LOST: 1}
    assert "leases had run out" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.INFO}


@pytest.mark.parametrize("name", ["concurrency", "send_timeout", "idle_pause", "max_attempts", "organization_id"])
@pytest.mark.parametrize("value", [0, -1, 1001.0, timedelta(0), -LONG, "many"])
async def test_settings_out_of_bounds_are_refused(name: str, value: object) -> None:
    """The setting is refused by its name, before anything is leased."""
    with pytest.raises(InvalidDataException, match=name):
        worker(Script(0), succeed, **{name: value})


async def test_a_long_retry_after_does_not_outlast_the_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result is settled before its lease runs out; otherwise it would be sent again."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def remember(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    script = Script(1, settle_failures=[UnavailableException(retry_after=3600.0)])
    with monkeypatch.context() as patch:
        patch.setattr("scenario_repo.delivery.asyncio.sleep", remember)
        await worker(script, succeed).run(until_idle=True)

    assert sum(slept) < 60
