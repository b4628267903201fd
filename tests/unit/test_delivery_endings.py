"""DeliveryWorker: how it stops, what it does when the database is unavailable, and that it loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenario_repo import (
    DeliveryResult,
    Lease,
    LeasedNotification,
    PermanentDeliveryError,
    PermissionDeniedException,
    ScenarioRepositoryException,
    Settlement,
    SettlementAnswer,
    SuppressDelivery,
    UnavailableException,
)
from tests.unit.delivery import LONG, Clock, Script, Send, raising, succeed, unavailable, until, worker
from tests.unit.leaks import MARKER


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Make the clock of the leases one that a test turns."""
    made = Clock()
    monkeypatch.setattr("scenario_repo._pace.clock", made)
    return made


@pytest.fixture(scope="module", autouse=True)
def short_pauses() -> Iterator[None]:
    """Make the pause before another settlement very short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scenario_repo.delivery._LONGEST_PAUSE_SECONDS", 0.001)
        yield


async def test_stopped_it_finishes_what_it_sends_and_takes_nothing_more() -> None:
    """After stop() no notification is leased; the running sends finish and are settled."""
    script = Script(9)
    go_on = asyncio.Event()

    async def send(_: LeasedNotification) -> None:
        await go_on.wait()

    delivery = worker(script, send)
    running = asyncio.create_task(delivery.run())
    await until(lambda: len(script.leased) == 4)
    delivery.stop()
    go_on.set()

    assert await asyncio.wait_for(running, 5) == {SettlementAnswer.SENT: 4}
    assert (len(script.outcomes()), len(script.due)) == (4, 5)


async def test_stopped_while_idle_it_ends_at_once() -> None:
    """stop() ends a pause at once."""
    script = Script(0)
    delivery = worker(script, succeed, idle_pause=LONG)
    running = asyncio.create_task(delivery.run())
    await until(lambda: script.leases)
    delivery.stop()

    assert await asyncio.wait_for(running, 1) == {}


async def test_cancelled_it_releases_what_it_sends_and_settles_what_is_done() -> None:
    """Unfinished sends are released at once, and no sent notification is sent again."""
    script = Script(4)
    done = {row.id for row in script.due[:2]}
    script.gate.clear()

    async def send(notification: LeasedNotification) -> None:
        if notification.id not in done:
            await asyncio.Event().wait()

    running = asyncio.create_task(worker(script, send).run())
    await until(lambda: script.settle_calls)
    running.cancel()
    script.gate.set()

    with pytest.raises(asyncio.CancelledError):
        await running
    released = {key for key, outcome in script.outcomes().items() if outcome == (DeliveryResult.RELEASED, None)}
    assert released == {row.id for row in script.leased} - done


async def test_a_settlement_that_did_not_get_through_is_repeated() -> None:
    """What was sent is recorded as soon as the database answers again, and only once."""
    script = Script(3, settle_failures=[unavailable(), unavailable()])

    assert await worker(script, succeed).run(until_idle=True) == {SettlementAnswer.SENT: 3}
    assert len(script.settle_calls) == 3
    assert set(script.outcomes().values()) == {(DeliveryResult.SENT, None)}


async def test_a_settlement_that_is_refused_ends_the_worker() -> None:
    """Waiting would not help; the worker tries to release its leases, and raises."""
    script = Script(4, settle_failures=[PermissionDeniedException()])

    with pytest.raises(PermissionDeniedException):
        await worker(script, succeed).run(until_idle=True)
    assert len(script.outcomes()) == 4


async def test_a_database_that_stays_away_ends_a_worker_that_is_to_end(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    """When the leases are over it raises, and logs how many leases have to run out."""

    class Away(Script):
        async def settle_notifications(self, *_: object) -> list[SettlementAnswer | str]:
            clock.seconds += 10
            raise unavailable()

    script = Away(3)
    with pytest.raises(UnavailableException):
        await asyncio.wait_for(worker(script, succeed).run(until_idle=True), 5)
    assert "3 leases could not be released and will run out" in caplog.text
    assert 120 <= clock.seconds < 200


async def test_an_outage_longer_than_the_leases_ends_no_worker(clock: Clock) -> None:
    """Nobody else can lease meanwhile either: what was sent is settled when the database is back, and sent once."""

    class Away(Script):
        async def settle_notifications(
            self, results: Sequence[Settlement], max_attempts: int | None = None
        ) -> list[SettlementAnswer | str]:
            clock.seconds += 60
            return await super().settle_notifications(results, max_attempts)

    script = Away(3, settle_failures=[unavailable() for _ in range(20)])
    running = asyncio.create_task(worker(script, succeed).run())
    await until(lambda: script.settled)

    assert set(script.outcomes().values()) == {(DeliveryResult.SENT, None)}
    running.cancel()
    await asyncio.wait([running])


async def test_a_worker_that_is_to_end_waits_a_minute_for_the_database(clock: Clock) -> None:
    """A schema cache takes half a minute to come back; after a minute the worker raises."""

    class Away(Script):
        async def lease_notifications(self, *arguments: Any, **_: Any) -> Lease:  # noqa: ANN401
            clock.seconds += 10
            return await super().lease_notifications(*arguments)

    back = Away(1, lease_failures=[unavailable() for _ in range(4)])
    assert await asyncio.wait_for(worker(back, succeed).run(until_idle=True), 5) == {SettlementAnswer.SENT: 1}
    gone = Away(1, lease_failures=[unavailable() for _ in range(99)])
    with pytest.raises(UnavailableException):
        await asyncio.wait_for(worker(gone, succeed).run(until_idle=True), 5)


@pytest.mark.parametrize("until_idle", [False, True])
@pytest.mark.parametrize("error", [unavailable(), PermissionDeniedException()], ids=["unavailable", "denied"])
async def test_a_lease_that_fails_is_tried_again_if_that_may_help(
    error: ScenarioRepositoryException, *, until_idle: bool
) -> None:
    """A worker waits for an unavailable database, but raises on a refusal."""
    script = Script(3, lease_failures=[error])
    running = asyncio.create_task(worker(script, succeed).run(until_idle=until_idle))
    await until(lambda: running.done() or len(script.settled) == 3)

    if not error.retryable:
        with pytest.raises(type(error)):
            await running
        return
    assert len(script.settled) == 3
    if not until_idle:
        running.cancel()
    await asyncio.wait([running])


async def _returns_late(_: LeasedNotification) -> None:
    await asyncio.sleep(0.002)


async def _times_out(_: LeasedNotification) -> None:
    await asyncio.sleep(60)


async def _ignores_cancellation(_: LeasedNotification) -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(60)


async def _raises_when_cancelled(_: LeasedNotification) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        raise OSError(MARKER)


_BEHAVIOURS: list[Send] = [succeed, _returns_late, _times_out, _ignores_cancellation, _raises_when_cancelled]
_BEHAVIOURS += [
    raising(error)
    for error in (OSError(), TimeoutError(), PermanentDeliveryError(), SuppressDelivery(), KeyError(MARKER))
]


@settings(max_examples=60, deadline=None)
@given(
    behaviours=st.lists(st.sampled_from(_BEHAVIOURS), max_size=12),
    concurrency=st.integers(1, 5),
    end=st.sampled_from(["idle", "stop", "cancel"]),
    steps=st.integers(0, 40),
    failures=st.integers(0, 3),
)
def test_every_lease_is_settled_once(
    behaviours: list[Send], concurrency: int, end: str, steps: int, failures: int
) -> None:
    """Whatever the senders' results, and whenever and however the worker ends."""

    async def deliver() -> Script:
        script = Script(len(behaviours), settle_failures=[unavailable() for _ in range(failures)])
        chosen = {row.id: behaviour for row, behaviour in zip(script.due, behaviours, strict=True)}
        delivery = worker(
            script, lambda row: chosen[row.id](row), concurrency=concurrency, send_timeout=timedelta(milliseconds=4)
        )
        running = asyncio.create_task(delivery.run(until_idle=end == "idle"))
        for _ in range(steps):
            await asyncio.sleep(0)
        if end == "stop":
            delivery.stop()
        elif end == "cancel":
            running.cancel()
        await asyncio.wait([running])
        assert end != "idle" or len(script.leased) == len(behaviours)
        return script

    assert set(asyncio.run(deliver()).outcomes().values()) <= {
        (DeliveryResult.SENT, None),
        (DeliveryResult.RETRY, "timeout"),
        (DeliveryResult.RETRY, "send_failed"),
        (DeliveryResult.FAILED, "permanent_failure"),
        (DeliveryResult.SUPPRESSED, None),
        (DeliveryResult.RELEASED, None),
    }


async def test_a_sender_that_is_cancelled_inside_is_a_retry() -> None:
    """If a sender's own inner task is cancelled, its send has failed; the worker is not cancelled."""
    script = Script(3)

    async def send(_: LeasedNotification) -> None:
        inner = asyncio.create_task(asyncio.sleep(60))
        inner.cancel()
        await inner

    await worker(script, send).run(until_idle=True)

    assert set(script.outcomes().values()) == {(DeliveryResult.RETRY, "send_failed")}


async def test_what_was_sent_is_settled_while_no_more_can_be_leased() -> None:
    """A failed lease is tried again later; sends that end before then are settled at once."""
    script = Script(1)

    async def send(_: LeasedNotification) -> None:
        await until(lambda: len(script.leases) > 1)

    running = asyncio.create_task(worker(script, send).run())
    await until(lambda: script.leased)
    script.lease_failures.append(UnavailableException(retry_after=3600.0))
    try:
        async with asyncio.timeout(1):
            await until(lambda: script.settled)
    finally:
        running.cancel()
        await asyncio.wait([running])
