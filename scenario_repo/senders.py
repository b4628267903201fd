"""Senders: what an app gives to a :class:`~scenario_repo.DeliveryWorker`, and what a sender may raise.

There are two kinds: one sends a whole notification, the other sends it to one device and is called for each.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pydantic import TypeAdapter

from scenario_repo._fields import Duration, validated
from scenario_repo._limits import MAX_RETRY_AFTER
from scenario_repo.exceptions import InvalidDataException
from scenario_repo.models import DeliveryResult, DeviceToken, LeasedNotification, Settlement

Send = Callable[[LeasedNotification], Awaitable[None]]
"""Delivers one notification, or raises."""
SendToDevice = Callable[[LeasedNotification, DeviceToken], Awaitable[None]]
"""Delivers one notification to one of the user's devices, or raises."""

_DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)


class PermanentDeliveryError(Exception):
    """Raised by a sender: this notification can never be delivered (to this device).

    ``failure_code`` is stored with the row: a short code (lower-case letters, digits, underscores), never the
    provider's own text, which may hold personal data, and none of :class:`~scenario_repo.FailureReason`. The user can
    be claimed for again after the setting ``retry_failed_after``, later with each such failure in a row.
    """

    def __init__(self, failure_code: str = "permanent_failure") -> None:
        """Keep the code."""
        super().__init__(failure_code)
        self.failure_code = failure_code


class SuppressDelivery(Exception):  # noqa: N818 - no error: there is nobody to send to
    """Raised by a sender: there is nobody to send to, such as no device or no permission.

    The notification is settled as suppressed: final, and nobody was told. It holds for its cooldown, so the user is not
    claimed for again and again; the hold ends when the user registers a device.
    """


class DeliverLater(Exception):  # noqa: N818 - no error: the provider asks to wait
    """Raised by a sender: not now, but after a while, such as a provider's ``Retry-After``.

    The notification is due again after ``after`` (positive, at most 30 days), and no attempt is spent. With
    ``everybody`` the whole worker sends nothing until then.
    """

    def __init__(self, after: timedelta, *, everybody: bool = False) -> None:
        """Keep the delay.

        Raises:
            InvalidDataException: ``after`` is not a positive length of at most 30 days.

        """
        super().__init__()
        self.after = validated(_DURATION, "DeliverLater.after", after)
        if self.after > MAX_RETRY_AFTER:
            raise InvalidDataException("DeliverLater.after: expected at most 30 days, got a longer one")
        self.everybody = everybody


class InvalidDeviceToken(Exception):  # noqa: N818 - the provider's word for it
    """Raised by a sender: the provider does not know the device (any more); the token is removed.

    A sender to one device says nothing more. A sender of whole notifications names the ``tokens``; it has reached the
    user's other devices, if there are any.
    """

    def __init__(self, *tokens: str) -> None:
        """Keep the tokens, which no text of the exception shows."""
        super().__init__()
        self.tokens = tokens


@dataclass(frozen=True)
class Failure:
    """An exception that no sender is expected to raise: of which class, and where."""

    kind: str
    place: str
    frames: tuple[str, ...]
    """The last calls of the traceback, innermost last; without the exception's text, which may hold a token."""


class SenderFailingError(Exception):
    """Raised by a worker: sends failed in the same way, many in a row, so it has stopped.

    What had just failed so is due again at once, and no attempt is spent.
    """

    def __init__(self, failure: Failure, times: int) -> None:
        """Say how often, which class of exception, and where."""
        super().__init__(f"{times} sends in a row failed with {failure.kind} at {failure.place}")
        self.failure = failure
        self.times = times


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt to send."""

    settlement: Settlement
    failure: Failure | None = None
    """Set where the sender raised what it was not expected to raise."""
    pause: timedelta | None = None
    """How long the provider asks the whole worker to wait."""
    error: BaseException | None = None
    """What ends the worker: no Exception, and no interruption."""


async def attempt(send: Send, notification: LeasedNotification, timeout_seconds: float) -> Attempt:
    """Send a whole notification once; a cancellation from outside passes through."""
    outcome = await _outcome(send, lambda: send(notification), timeout_seconds)
    tokens = {device.token for device in notification.device_tokens}
    if outcome.result is not _INVALID_TOKEN:
        return outcome.attempt(notification)
    invalid = tokens.intersection(outcome.invalid_tokens) or (tokens if len(tokens) == 1 else set())
    result = DeliveryResult.SENT if tokens - invalid else DeliveryResult.SUPPRESSED
    return Attempt(notification.settlement(result, invalid_tokens=sorted(invalid)))


async def attempt_by_device(send: SendToDevice, notification: LeasedNotification, timeout_seconds: float) -> Attempt:
    """Send to each device once, all at the same time; what has arrived is known, whatever becomes of the others.

    With a device reached, the notification is sent; those that may be reached later are tried again, the reached ones
    not.
    """
    if not notification.device_tokens:
        return Attempt(notification.settlement(DeliveryResult.SUPPRESSED))

    def call(device: DeviceToken) -> Callable[[], Awaitable[None]]:
        return lambda: send(notification, device)

    tasks = {
        device.token: asyncio.ensure_future(_outcome(send, call(device), timeout_seconds))
        for device in notification.device_tokens
    }
    try:
        await asyncio.wait(tasks.values())
    except asyncio.CancelledError:
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values(), timeout=GRACE_SECONDS)
        reached = [
            token
            for token, task in tasks.items()
            if task.done() and not task.cancelled() and not task.exception() and task.result().result == _SENT
        ]
        raise Interrupted(notification.settlement(DeliveryResult.RELEASED, reached=reached)) from None
    outcomes = {token: task.result() for token, task in tasks.items()}
    reached = [token for token, outcome in outcomes.items() if outcome.result == _SENT]
    invalid = [token for token, outcome in outcomes.items() if outcome.result is _INVALID_TOKEN]
    again = [outcome for outcome in outcomes.values() if outcome.result is DeliveryResult.RETRY]
    final = [outcome for outcome in outcomes.values() if outcome.result is DeliveryResult.FAILED]
    code = next((outcome.failure_code for outcome in (*again, *final)), None)
    if again:
        result = DeliveryResult.RETRY
    elif reached:
        result, code = DeliveryResult.SENT, None
    elif final:
        result = DeliveryResult.FAILED
    else:
        result, code = DeliveryResult.SUPPRESSED, None
    # Without a delay of its own, the usual back-off.
    later = [outcome.later for outcome in again]
    delays = [delay for delay in later if delay is not None]
    settlement = notification.settlement(
        result,
        code,
        retry_after=max(delays) if delays and len(delays) == len(again) else None,
        reached=reached,
        invalid_tokens=invalid,
    )
    pauses = [outcome.later for outcome in outcomes.values() if outcome.everybody and outcome.later is not None]
    return Attempt(
        settlement,
        # One device that fails says nothing of the sender, where another was reached.
        None if reached else next((outcome.failure for outcome in again if outcome.failure is not None), None),
        max(pauses, default=None),
        next((outcome.error for outcome in outcomes.values() if outcome.error is not None), None),
    )


class Interrupted(asyncio.CancelledError):
    """A cancellation from outside, with what had been reached by then."""

    def __init__(self, settlement: Settlement) -> None:
        """Keep the settlement."""
        super().__init__()
        self.settlement = settlement


GRACE_SECONDS: Final = 10.0
"""How long a cancelled send may take to end."""
_FRAMES: Final = 20
_SENT: Final = DeliveryResult.SENT
_INVALID_TOKEN: Final = object()


@dataclass(frozen=True)
class _Outcome:
    result: object
    failure_code: str | None = None
    later: timedelta | None = None
    everybody: bool = False
    failure: Failure | None = None
    error: BaseException | None = None
    invalid_tokens: Collection[str] = ()

    def attempt(self, notification: LeasedNotification) -> Attempt:
        """Make it the outcome of a whole notification."""
        result = DeliveryResult(str(self.result))
        try:
            settlement = notification.settlement(result, self.failure_code, retry_after=self.later)
        except InvalidDataException:
            settlement = notification.settlement(result, "unnamed_failure", retry_after=self.later)
        return Attempt(settlement, self.failure, self.later if self.everybody else None, self.error)


async def _outcome(
    send: Callable[..., object], call: Callable[[], Awaitable[None]], timeout_seconds: float
) -> _Outcome:
    try:
        async with asyncio.timeout(timeout_seconds):
            await call()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # A task inside the sender was cancelled, not this attempt.
        return _Outcome(DeliveryResult.RETRY, "send_failed", failure=_failure(send, error))
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a sender raises is the outcome of this attempt
        return _raised(send, error)
    return _Outcome(_SENT)


def _raised(send: Callable[..., object], error: BaseException) -> _Outcome:
    failure = _failure(send, error)
    match error:
        case SuppressDelivery():
            outcome = _Outcome(DeliveryResult.SUPPRESSED)
        case PermanentDeliveryError():
            outcome = _Outcome(DeliveryResult.FAILED, error.failure_code)
        case DeliverLater():
            outcome = _Outcome(DeliveryResult.RETRY, "deliver_later", later=error.after, everybody=error.everybody)
        case InvalidDeviceToken():
            outcome = _Outcome(_INVALID_TOKEN, invalid_tokens=error.tokens)
        case TimeoutError():
            outcome = _Outcome(DeliveryResult.RETRY, "timeout", failure=failure)
        case Exception():
            outcome = _Outcome(DeliveryResult.RETRY, "send_failed", failure=failure)
        case _:
            # It ends the worker, after what is sent is settled.
            outcome = _Outcome(DeliveryResult.RETRY, "send_failed", failure=failure, error=error)
    return outcome


def _failure(send: Callable[..., object], error: BaseException) -> Failure:
    """Say where in the sender it happened: its own innermost line, or else the innermost one."""
    walked = traceback.walk_tb(error.__traceback__)
    frames = [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in walked][-_FRAMES:]
    code = getattr(inspect.unwrap(send), "__code__", None)
    own = [frame for frame in frames if code is not None and frame[0] == code.co_filename]
    file, line, name = (own or frames or [("an unknown file", 0, "an unknown function")])[-1]
    return Failure(
        type(error).__name__,
        f"{file}:{line}, in {name}",
        tuple(f"{file}:{line}, in {name}" for file, line, name in frames),
    )
