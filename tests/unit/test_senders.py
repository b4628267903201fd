"""Senders: what each exception does to a notification, to a device, and to the whole worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenario_repo import (
    DeliverLater,
    DeliveryResult,
    DeliveryWorker,
    DeviceToken,
    InvalidDataException,
    InvalidDeviceToken,
    LeasedNotification,
    PermanentDeliveryError,
    SenderFailingError,
    SettlementAnswer,
    SuppressDelivery,
)
from tests.factories import leased_row
from tests.unit.delivery import LONG, MOMENT, Clock, Script, leased, raising, succeed, until, worker
from tests.unit.leaks import MARKER


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Make the clock of the leases one that a test turns."""
    made = Clock()
    monkeypatch.setattr("scenario_repo._pace.clock", made)
    return made


@pytest.fixture
def _short_grace() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scenario_repo.senders.GRACE_SECONDS", 0.02)
        yield


def by_device(script: Script, outcomes: dict[str, BaseException | None], sent: list[str]) -> DeliveryWorker:
    """Make a worker whose sender does to each device what is given, and notes it."""

    async def send(_: LeasedNotification, device: DeviceToken) -> None:
        await asyncio.sleep(0)
        sent.append(device.token)
        outcome = outcomes[device.token]
        if outcome is not None:
            raise outcome

    return DeliveryWorker(script, send_to_device=send, send_timeout=LONG, idle_pause=MOMENT)


def of_kind(script: Script, send: Callable[..., Awaitable[None]], *, device: bool, **given: Any) -> DeliveryWorker:  # noqa: ANN401
    """Make a worker with a sender of the one kind or the other."""
    kind: dict[str, Any] = {"send_to_device": send} if device else {"send": send}
    defaults: dict[str, Any] = {"send_timeout": LONG, "idle_pause": MOMENT}
    return DeliveryWorker(script, **kind, **defaults | given)


def to_devices(*tokens: str) -> LeasedNotification:
    """Make a notification for a user with these devices."""
    return leased().model_copy(
        update={"device_tokens": tuple(DeviceToken(token=token, platform="ios") for token in tokens)}
    )


async def test_a_dead_device_keeps_no_other_from_being_reached() -> None:
    """Each device is sent to once, the notification is sent, and the dead token is told."""
    script, sent = Script(0), list[str]()
    script.due = [to_devices("a", "b", "c")]
    outcomes: dict[str, BaseException | None] = {"a": None, "b": None, "c": InvalidDeviceToken()}

    assert await by_device(script, outcomes, sent).run(until_idle=True) == {SettlementAnswer.SENT: 1}
    (one,) = script.settled
    assert (one.result, one.reached, one.invalid_tokens) == (DeliveryResult.SENT, ("a", "b"), ("c",))
    assert sorted(sent) == ["a", "b", "c"]


_LATER = timedelta(hours=1)
_OF_A_DEVICE: list[BaseException | None] = [
    None,
    InvalidDeviceToken(),
    SuppressDelivery(),
    PermanentDeliveryError("blocked"),
    PermanentDeliveryError("No such token!"),
    DeliverLater(_LATER),
    OSError(MARKER),
    TimeoutError(),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(_OF_A_DEVICE), max_size=5))
def test_a_settlement_of_devices_follows_from_each(raised: list[BaseException | None]) -> None:
    """Somebody to try again is a retry; else one reached is sent; else a failure; else nobody was there."""
    script, sent = Script(0), list[str]()
    outcomes = {str(number): error for number, error in enumerate(raised)}
    script.due = [to_devices(*outcomes)]

    asyncio.run(by_device(script, outcomes, sent).run(until_idle=True))

    (one,) = script.settled
    again = [error for error in raised if isinstance(error, DeliverLater | OSError | TimeoutError)]
    if again:
        expected = DeliveryResult.RETRY
    elif None in raised:
        expected = DeliveryResult.SENT
    elif any(isinstance(error, PermanentDeliveryError) for error in raised):
        expected = DeliveryResult.FAILED
    else:
        expected = DeliveryResult.SUPPRESSED
    assert one.result is expected
    assert set(one.reached) == {token for token, error in outcomes.items() if error is None}
    assert set(one.invalid_tokens) == {key for key, error in outcomes.items() if isinstance(error, InvalidDeviceToken)}
    is_put_off = bool(again) and all(isinstance(error, DeliverLater) for error in again)
    assert one.retry_after == (_LATER if is_put_off else None)
    assert sorted(sent) == sorted(outcomes)


@pytest.mark.parametrize(
    ("named", "devices", "result", "invalid"),
    [
        (["b"], "ab", DeliveryResult.SENT, ("b",)),
        (["a", "b"], "ab", DeliveryResult.SUPPRESSED, ("a", "b")),
        ([], "a", DeliveryResult.SUPPRESSED, ("a",)),
        ([], "ab", DeliveryResult.SENT, ()),
        (["of another user", 7, ["x"]], "ab", DeliveryResult.SENT, ()),
        (["a"], "", DeliveryResult.SUPPRESSED, ()),
    ],
)
async def test_a_sender_of_whole_notifications_names_the_dead_tokens(
    named: list[str], devices: str, result: DeliveryResult, invalid: tuple[str, ...]
) -> None:
    """It has reached the others; without others nobody was there. No token of anybody else's is told."""
    script = Script(0)
    script.due = [to_devices(*devices)]
    await worker(script, raising(InvalidDeviceToken(*named))).run(until_idle=True)
    (one,) = script.settled
    assert (one.result, one.invalid_tokens) == (result, invalid)


async def test_the_provider_puts_one_notification_off() -> None:
    """It is tried again after the delay, and spends no attempt; the others go out."""
    script = Script(3)
    late = script.due[0].id

    async def send(notification: LeasedNotification) -> None:
        if notification.id == late:
            raise DeliverLater(_LATER)

    await worker(script, send).run(until_idle=True)
    assert [(one.result, one.retry_after) for one in script.settled if one.id == late] == [
        (DeliveryResult.RETRY, _LATER)
    ]
    assert [one.result for one in script.settled if one.id != late] == [DeliveryResult.SENT] * 2


async def test_the_provider_makes_everybody_wait(clock: Clock) -> None:
    """Until then nothing is leased, and nothing is sent of what is leased; then it goes on."""
    script, sent = Script(9), list[float]()

    async def send(_: LeasedNotification) -> None:
        sent.append(clock())
        if len(sent) == 1:
            raise DeliverLater(_LATER, everybody=True)

    running = asyncio.create_task(worker(script, send, concurrency=1).run())
    await until(lambda: script.settled)
    await asyncio.sleep(0.1)
    assert (len(sent), len(script.leases)) == (1, 1)
    clock.seconds += 3_600
    running.cancel()
    await asyncio.wait([running])


async def test_what_is_leased_already_waits_too() -> None:
    """What has not begun when the provider asks everybody to wait is given back."""
    script, sent = Script(4), list[object]()

    async def send(notification: LeasedNotification) -> None:
        sent.append(notification)
        raise DeliverLater(_LATER, everybody=True)

    running = asyncio.create_task(worker(script, send, rate=20).run())
    await until(lambda: len(script.settled) == 4)
    running.cancel()
    await asyncio.wait([running])
    assert len(sent) == 1
    assert sorted(one.result for one in script.settled) == ["released"] * 3 + ["retry"]


async def test_a_worker_that_is_to_end_does_not_sit_a_long_pause_out() -> None:
    """What is due stays due, for a later run."""
    script = Script(3)
    running = worker(script, raising(DeliverLater(_LATER, everybody=True)), concurrency=1).run(until_idle=True)
    assert await asyncio.wait_for(running, 1) == {SettlementAnswer.PENDING: 1}
    assert len(script.due) == 2


@pytest.mark.parametrize("after", [timedelta(0), -MOMENT, timedelta(days=31), 60])
def test_a_delay_out_of_bounds_is_refused(after: timedelta) -> None:
    """A delay is positive, and at most thirty days."""
    with pytest.raises(InvalidDataException, match=r"DeliverLater\.after"):
        DeliverLater(after)


@pytest.mark.parametrize("device", [False, True])
async def test_no_send_begins_on_a_lease_that_may_be_over(clock: Clock, *, device: bool) -> None:
    """A sender blocks the event loop; the others see it, each right before it would begin, and are released."""
    script, begun = Script(0), list[float]()
    script.due = [to_devices("a") for _ in range(8)]

    async def send(*_: object) -> None:
        begun.append(clock())
        clock.seconds += 25  # the loop is blocked, or the machine asleep
        await asyncio.sleep(0)

    delivery = of_kind(script, send, device=device, send_timeout=timedelta(seconds=1), concurrency=8)
    running = asyncio.create_task(delivery.run())
    await until(lambda: len(script.settled) == 8)
    running.cancel()
    await asyncio.wait([running])

    assert len(begun) == 3
    assert all(moment <= 61 - 1 for moment in begun)
    assert sorted(one.result for one in script.settled) == ["released"] * 5 + ["sent"] * 3


async def test_the_time_a_lease_took_to_come_counts(clock: Clock) -> None:
    """Its length is reckoned from before the request: the server's clock began somewhere in between."""

    class Slow(Script):
        async def lease_notifications(self, *arguments: object, **_: object):  # type: ignore[no-untyped-def] # noqa: ANN202
            lease = await super().lease_notifications(*arguments)
            clock.seconds += 65 if len(self.leases) == 1 else 0
            return lease

    script, begun = Slow(1), list[object]()

    async def send(notification: LeasedNotification) -> None:
        begun.append(notification)

    await worker(script, send, send_timeout=timedelta(seconds=1)).run(until_idle=True)
    assert begun == []
    assert [one.result for one in script.settled] == [DeliveryResult.RELEASED]


class Boom(BaseException):
    """No Exception."""


@pytest.mark.parametrize("device", [False, True])
async def test_what_is_no_exception_spends_its_own_attempt_alone(*, device: bool) -> None:
    """What was sent is settled, the bad one is tried again later, the others are released, and it is raised."""
    script = Script(0)
    script.due = [to_devices("a") for _ in range(6)]
    bad, slow = script.due[2].id, script.due[3].id

    async def send(notification: LeasedNotification, *_: object) -> None:
        if notification.id == bad:
            await asyncio.sleep(0)
            raise Boom(MARKER)
        if notification.id == slow:
            await asyncio.sleep(60)

    delivery = of_kind(script, send, device=device)
    with pytest.raises(Boom):
        await delivery.run(until_idle=True)

    outcomes = script.outcomes()
    assert outcomes.pop(bad) == (DeliveryResult.RETRY, "send_failed")
    assert outcomes.pop(slow) == (DeliveryResult.RELEASED, None)
    assert set(outcomes.values()) == {(DeliveryResult.SENT, None)}
    assert delivery.settled[SettlementAnswer.SENT] == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interruption_in_a_sender_releases(error: BaseException) -> None:
    """Ctrl-C is nobody's fault: no attempt is spent, and it passes through."""
    script = Script(3)
    with pytest.raises(type(error)):
        asyncio.run(worker(script, raising(error)).run(until_idle=True))  # type: ignore[arg-type]
    assert set(script.outcomes().values()) <= {(DeliveryResult.RELEASED, None)}


@pytest.mark.parametrize("device", [False, True])
async def test_a_sender_with_a_bug_stops_the_worker_early(caplog: pytest.LogCaptureFixture, *, device: bool) -> None:
    """After a few failures that are all alike it ends; no attempt is spent, and the place is told, the text not."""
    script = Script(0)
    script.due = [to_devices("a") for _ in range(567)]

    async def send(_: LeasedNotification, *__: object) -> None:
        raise TypeError(MARKER)

    delivery = of_kind(script, send, device=device, concurrency=4)
    with caplog.at_level(logging.DEBUG), pytest.raises(SenderFailingError) as failing:
        await delivery.run(until_idle=True)

    line = send.__code__.co_firstlineno + 1
    assert (failing.value.failure.kind, failing.value.failure.place) == ("TypeError", f"{__name__}:{line}")
    assert len(script.leased) <= 12
    assert set(script.outcomes().values()) == {(DeliveryResult.RELEASED, None)}
    assert MARKER not in caplog.text + str(failing.value) + repr(failing.value) + repr(failing.value.failure)


async def test_failures_that_are_not_alike_stop_nobody() -> None:
    """Nor do those between which something is sent; each is tried again."""
    script, number = Script(60), 0

    async def send(_: LeasedNotification) -> None:
        nonlocal number
        number += 1
        if number % 3 == 0:
            return
        if number % 3 == 1:
            raise TypeError
        raise OSError

    counts = await worker(script, send, stop_after=2).run(until_idle=True)
    assert counts == {SettlementAnswer.SENT: 20, SettlementAnswer.PENDING: 40}


async def test_a_send_that_times_out_says_where_it_was() -> None:
    """The place is the line that waited, not asyncio's."""
    script = Script(5)

    async def send(_: LeasedNotification) -> None:
        await asyncio.sleep(60)

    with pytest.raises(SenderFailingError, match=rf"{__name__}:{send.__code__.co_firstlineno + 1}"):
        await worker(script, send, send_timeout=MOMENT, stop_after=3).run(until_idle=True)
    assert {result for result, _ in script.outcomes().values()} == {DeliveryResult.RELEASED}


async def test_a_sender_with_other_arguments_is_named_by_its_first_line() -> None:
    """It never ran: the place is where it is defined."""
    script = Script(3)

    async def send() -> None:
        """Take nothing."""

    with pytest.raises(SenderFailingError, match=rf"TypeError at {__name__}:{send.__code__.co_firstlineno}"):
        await worker(script, send, stop_after=3).run(until_idle=True)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_short_grace")
@pytest.mark.parametrize("end", ["timeout", "cancel"])
async def test_a_sender_that_swallows_cancellation_keeps_no_worker_from_ending(end: str) -> None:
    """It is left to itself: after its timeout it is tried again, after a cancellation its lease runs out."""
    script, free = Script(2), asyncio.Event()

    async def send(_: LeasedNotification) -> None:
        while not free.is_set():
            with suppress(asyncio.CancelledError):
                await free.wait()

    delivery = worker(script, send, send_timeout=MOMENT if end == "timeout" else LONG)
    running = asyncio.create_task(delivery.run(until_idle=True))
    if end == "cancel":
        await until(lambda: len(script.leased) == 2)
        running.cancel()
    await asyncio.wait([running], timeout=2)

    assert running.done()
    assert delivery.is_abandoning
    assert [one.result for one in script.settled] == ([DeliveryResult.RETRY] * 2 if end == "timeout" else [])
    free.set()
    await asyncio.sleep(0.01)


async def test_a_settlement_under_way_outlives_a_cancellation() -> None:
    """What was sent is settled, though the worker is cancelled while it asks for that."""
    script = Script(4)
    script.gate.clear()
    running = asyncio.create_task(worker(script, succeed).run())
    await until(lambda: script.settle_calls)
    running.cancel()
    await asyncio.sleep(0)
    script.gate.set()
    await asyncio.wait([running])
    assert set(script.outcomes().values()) == {(DeliveryResult.SENT, None)}


async def test_what_a_cancelled_send_had_reached_is_told() -> None:
    """The devices that were reached are not sent to again; the others are released at once."""
    script = Script(0)
    script.due = [to_devices("fast", "slow")]
    reached = asyncio.Event()

    async def send(_: LeasedNotification, device: DeviceToken) -> None:
        if device.token == "slow":  # noqa: S105 - a name
            await asyncio.sleep(60)
        reached.set()

    delivery = DeliveryWorker(script, send_to_device=send, send_timeout=LONG)
    running = asyncio.create_task(delivery.run())
    await reached.wait()
    running.cancel()
    await asyncio.wait([running])
    (one,) = script.settled
    assert (one.result, one.reached) == (DeliveryResult.RELEASED, ("fast",))


async def test_no_more_begin_in_a_second_than_the_rate_allows() -> None:
    """They are spread evenly; by device, each device counts."""
    script, begun = Script(0), list[float]()
    script.due = [to_devices("a", "b", "c") for _ in range(4)]

    async def send(*_: object) -> None:
        begun.append(time.monotonic())

    started = time.monotonic()
    await DeliveryWorker(script, send_to_device=send, send_timeout=LONG, rate=100, idle_pause=MOMENT).run(
        until_idle=True
    )
    assert len(begun) == 12
    # From the start, not from the first, which may have been late.
    assert begun[-1] - started >= 0.11


async def test_a_turn_that_is_long_in_coming_is_given_back() -> None:
    """Its lease would run out first, or another worker could have it."""
    script = Script(4)
    running = asyncio.create_task(worker(script, succeed, rate=0.001).run())
    await until(lambda: len(script.settled) == 4)
    running.cancel()
    await asyncio.wait([running])
    assert sorted(one.result for one in script.settled) == ["released"] * 3 + ["sent"]


async def test_an_empty_lease_with_more_to_come_is_not_the_end() -> None:
    """Until_idle ends when there is no more, not when a lease handed nothing out."""

    class Deferring(Script):
        async def lease_notifications(self, *arguments: object, **_: object):  # type: ignore[no-untyped-def] # noqa: ANN202
            if len(self.leases) < 5:
                self.leases.append(arguments)
                return (await super().lease_notifications(0)).model_copy(update={"has_more": True, "deferred": 1})
            return await super().lease_notifications(*arguments)

    script = Deferring(2)
    assert await worker(script, succeed).run(until_idle=True) == {SettlementAnswer.SENT: 2}


async def test_a_suspect_is_sent_alone() -> None:
    """What two leases in a row left unsettled may kill its worker: nothing else is being sent with it."""
    script, sending, most = Script(3), set[object](), list[int]()
    script.due += [LeasedNotification(**leased_row(unsettled_leases=2)) for _ in range(2)]
    suspects = {one.id for one in script.due[3:]}

    async def send(notification: LeasedNotification) -> None:
        sending.add(notification.id)
        await asyncio.sleep(0.002)
        if notification.id in suspects:
            most.append(len(sending))
        sending.remove(notification.id)

    await worker(script, send, concurrency=5).run(until_idle=True)
    assert most == [1, 1]
    assert len(script.outcomes()) == 5


def test_one_kind_of_sender_is_given() -> None:
    """Neither none nor both."""
    for kind in ({}, {"send": succeed, "send_to_device": succeed}):
        with pytest.raises(InvalidDataException, match="expected one of send and send_to_device"):
            DeliveryWorker(Script(0), **kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["whole", "by device"])
async def test_a_plain_function_ends_the_worker_and_sends_nothing_twice(kind: str) -> None:
    """It has sent by the time it shows that it can't be awaited."""
    script, told = Script(0), list[object]()
    script.due = [to_devices("a", "b")]

    def send(*given: object) -> None:
        told.append(given)

    plain: Any = send
    senders = {"send": plain} if kind == "whole" else {"send_to_device": plain}
    with pytest.raises(InvalidDataException, match="send: expected an async function, got a plain one"):
        await DeliveryWorker(script, **senders, send_timeout=LONG, idle_pause=MOMENT).run(until_idle=True)
    assert [one.result for one in script.settled] == ["sent"]
    assert len(told) == (1 if kind == "whole" else 2)


def test_what_can_not_be_a_sender_is_refused() -> None:
    """Before anything is leased: what can't be called, and what yields."""

    async def yielding(_: LeasedNotification) -> AsyncIterator[None]:
        yield

    for unfit in ("app:send", yielding):
        for kind in ("send", "send_to_device"):
            with pytest.raises(InvalidDataException, match="expected a function, got what can't be called"):
                DeliveryWorker(Script(0), **{kind: unfit})  # type: ignore[arg-type]
