"""Senders: what an app gives to a :class:`~scenario_repo.DeliveryWorker`, and what a sender may raise.

There are two kinds: one sends a whole notification, the other sends it to one device and is called for each.
"""

from __future__ import annotations

import asyncio
import inspect
import sysconfig
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from scenario_repo._fields import Duration, validated
from scenario_repo._limits import MAX_RETRY_AFTER
from scenario_repo._pace import Pace
from scenario_repo.exceptions import InvalidDataException
from scenario_repo.models import DeliveryResult, DeviceToken, LeasedNotification, Settlement

Send = Callable[[LeasedNotification], Awaitable[None]]
"""Delivers one notification, or raises."""
SendToDevice = Callable[[LeasedNotification, DeviceToken], Awaitable[None]]
"""Delivers one notification to one of the user's devices, or raises."""

GRACE_SECONDS: Final = 10.0
"""How long a cancelled send may take to end."""
_FRAMES: Final = 20
_LIBRARIES: Final = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
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
        self.after: timedelta = validated(_DURATION, "DeliverLater.after", after)
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
    """The innermost line of the app's own code, as ``module:line``."""
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
    """What ends the worker: no Exception."""
    is_abandoned: bool = False
    """Whether a send ignored its cancellation, and goes on."""


def check(send: object) -> None:
    """Refuse what can't be a sender. A plain function may be one: what it returns may be awaited.

    Raises:
        InvalidDataException: it can't be called, or yields.

    """
    if not callable(send) or inspect.isgeneratorfunction(send) or inspect.isasyncgenfunction(send):
        raise InvalidDataException("send: expected a function, got what can't be called, or yields")


async def attempt(send: Send, notification: LeasedNotification, pace: Pace, timeout_seconds: float) -> Attempt:
    """Send a whole notification once, in its turn; a cancellation from outside passes through."""
    outcome = await _outcome(send, lambda: send(notification), notification, pace, timeout_seconds)
    if outcome is None:
        return Attempt(notification.settlement(DeliveryResult.RELEASED))
    result, invalid = outcome.result, []
    if result is None:
        tokens = [device.token for device in notification.device_tokens]
        invalid = [token for token in tokens if token in outcome.invalid_tokens or len(tokens) == 1]
        result = DeliveryResult.SENT if len(invalid) < len(tokens) else DeliveryResult.SUPPRESSED
    return Attempt(
        _settlement(notification, result, outcome.failure_code, outcome.later, invalid_tokens=invalid),
        outcome.failure,
        outcome.later if outcome.everybody else None,
        outcome.error,
        outcome.is_abandoned,
    )


async def attempt_by_device(
    send: SendToDevice, notification: LeasedNotification, pace: Pace, timeout_seconds: float
) -> Attempt:
    """Send to each device once, in its turn; what has arrived is known, whatever becomes of the others.

    With a device reached, the notification is sent; those that may be reached later are tried again, the reached ones
    not. After a cancellation from outside, the devices that were not reached are released.
    """
    if not notification.device_tokens:
        return Attempt(notification.settlement(DeliveryResult.SUPPRESSED))

    def call(device: DeviceToken) -> Callable[[], Awaitable[None]]:
        return lambda: send(notification, device)

    tasks = {
        device.token: asyncio.create_task(_outcome(send, call(device), notification, pace, timeout_seconds))
        for device in notification.device_tokens
    }
    try:
        await asyncio.wait(tasks.values())
    except asyncio.CancelledError:
        for task in tasks.values():
            task.cancel()
        # Whoever cancels it does not wait for long.
        await asyncio.wait(tasks.values())
        outcomes = {token: None if task.cancelled() else task.result() for token, task in tasks.items()}
        final = {DeliveryResult.SENT, None}
        return _of_devices(
            notification, {token: one if one and one.result in final else None for token, one in outcomes.items()}
        )
    return _of_devices(notification, {token: task.result() for token, task in tasks.items()})


@dataclass(frozen=True)
class _Outcome:
    """What became of one send."""

    result: DeliveryResult | None
    """None: the device's token is invalid."""
    failure_code: str | None = None
    later: timedelta | None = None
    everybody: bool = False
    failure: Failure | None = None
    error: BaseException | None = None
    invalid_tokens: tuple[object, ...] = ()
    is_abandoned: bool = False


def _of_devices(notification: LeasedNotification, outcomes: Mapping[str, _Outcome | None]) -> Attempt:
    """Put together what became of each device; None: its send was not begun, or was interrupted."""
    known = [outcome for outcome in outcomes.values() if outcome is not None]
    reached = [token for token, one in outcomes.items() if one is not None and one.result is DeliveryResult.SENT]
    invalid = [token for token, one in outcomes.items() if one is not None and one.result is None]
    again = [outcome for outcome in known if outcome.result is DeliveryResult.RETRY]
    final = [outcome for outcome in known if outcome.result is DeliveryResult.FAILED]
    code = None
    if again:
        result, code = DeliveryResult.RETRY, again[0].failure_code
    elif len(known) < len(outcomes) or any(one.result is DeliveryResult.RELEASED for one in known):
        result = DeliveryResult.RELEASED
    elif reached:
        result = DeliveryResult.SENT
    elif final:
        result, code = DeliveryResult.FAILED, final[0].failure_code
    else:
        result = DeliveryResult.SUPPRESSED
    # With a device that failed without a delay of its own: the usual back-off.
    delays = [outcome.later for outcome in again if outcome.later is not None]
    later = max(delays) if delays and len(delays) == len(again) else None
    return Attempt(
        _settlement(notification, result, code, later, reached, invalid),
        # One device that fails says nothing of the sender, where another was reached.
        None if reached else next((outcome.failure for outcome in again if outcome.failure is not None), None),
        max((one.later for one in known if one.everybody and one.later is not None), default=None),
        next((outcome.error for outcome in known if outcome.error is not None), None),
        any(outcome.is_abandoned for outcome in known),
    )


def _settlement(  # noqa: PLR0913, PLR0917 - the fields of one settlement
    notification: LeasedNotification,
    result: DeliveryResult,
    code: str | None,
    later: timedelta | None,
    reached: list[str] | None = None,
    invalid_tokens: list[str] | None = None,
) -> Settlement:
    """Build a settlement; a code of the sender's that can't be stored becomes a general one."""
    try:
        return notification.settlement(
            result, code, retry_after=later, reached=reached or (), invalid_tokens=invalid_tokens or ()
        )
    except InvalidDataException:
        return notification.settlement(
            result, "unnamed_failure", retry_after=later, reached=reached or (), invalid_tokens=invalid_tokens or ()
        )


_PLAIN: Final = (
    "send: expected an async function, got a plain one, which would block every other send"
    " (scenario_repo.blocking takes it); what it did not refuse is counted as sent"
)


class _NotBegun(Exception):  # noqa: N818 - no error
    """The lease may be over, or the provider asked to wait."""


class _NotAsync(Exception):  # noqa: N818 - an answer to its caller
    """The sender is a plain function, and has done by now what it does."""


async def _outcome(
    send: Callable[..., object],
    call: Callable[[], Awaitable[None]],
    notification: LeasedNotification,
    pace: Pace,
    timeout_seconds: float,
) -> _Outcome | None:
    """Send in its turn, in a task of its own; None: not begun.

    A send that ignores its cancellation is left to itself after a while. A cancellation from outside passes through,
    unless the send has arrived.
    """
    if not await pace.wait_for_turn():
        return None

    async def begin() -> None:
        # Asked in the task itself: until it runs, another may block the event loop.
        if not pace.may_begin(notification):
            raise _NotBegun
        sent = call()
        if not inspect.isawaitable(sent):
            raise _NotAsync
        await sent

    sending = asyncio.create_task(begin())
    is_late = False
    try:
        await asyncio.wait([sending], timeout=timeout_seconds)
        if not sending.done():
            is_late = True
            sending.cancel()
            await asyncio.wait([sending], timeout=GRACE_SECONDS)
    except asyncio.CancelledError:
        sending.cancel()
        await asyncio.wait([sending])
        if sending.cancelled() or sending.exception() is not None:
            raise
    if not sending.done():
        sending.add_done_callback(_ignore)
        return _Outcome(DeliveryResult.RETRY, "timeout", is_abandoned=True)
    return _result(send, sending, is_late=is_late)


def _ignore(sending: asyncio.Task[None]) -> None:
    """Take the exception of a send that nobody waits for any more."""
    if not sending.cancelled():
        sending.exception()


def _result(send: Callable[..., object], sending: asyncio.Task[None], *, is_late: bool) -> _Outcome | None:
    try:
        sending.result()
    except _NotBegun:
        return None
    except asyncio.CancelledError as error:
        # By the worker, for it took too long; or a task inside the sender was cancelled.
        code = "timeout" if is_late else "send_failed"
        return _Outcome(DeliveryResult.RETRY, code, failure=failure_of(send, error))
    except _NotAsync:
        return _Outcome(DeliveryResult.SENT, error=InvalidDataException(_PLAIN))
    except (KeyboardInterrupt, SystemExit) as error:
        return _Outcome(DeliveryResult.RELEASED, error=error)
    except BaseException as error:  # noqa: BLE001 - whatever a sender raises is the outcome of this send
        return _raised(send, error)
    return _Outcome(DeliveryResult.SENT)


def _raised(send: Callable[..., object], error: BaseException) -> _Outcome:
    match error:
        case SuppressDelivery():
            outcome = _Outcome(DeliveryResult.SUPPRESSED)
        case PermanentDeliveryError():
            outcome = _Outcome(DeliveryResult.FAILED, error.failure_code)
        case DeliverLater():
            outcome = _Outcome(DeliveryResult.RETRY, "deliver_later", later=error.after, everybody=error.everybody)
        case InvalidDeviceToken():
            outcome = _Outcome(None, invalid_tokens=error.tokens)
        case Exception():
            code = "timeout" if isinstance(error, TimeoutError) else "send_failed"
            outcome = _Outcome(DeliveryResult.RETRY, code, failure=failure_of(send, error))
        case _:
            # It ends the worker, after what is sent is settled.
            outcome = _Outcome(DeliveryResult.RETRY, "send_failed", failure=failure_of(send, error), error=error)
    return outcome


def failure_of(send: Callable[..., object], error: BaseException) -> Failure:
    """Say where it happened: the innermost line of the app's own code, or else of any, or else the sender's first."""
    walked = [(frame.f_code, frame.f_globals, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    frames = [
        (str(variables.get("__name__", "?")), line, code)
        for code, variables, line in walked
        if code.co_filename != __file__
    ][-_FRAMES:]
    own = [frame for frame in frames if not _is_of_a_library(frame[2].co_filename)]
    code = getattr(inspect.unwrap(send), "__code__", None)
    if own or frames:
        module, line, _ = (own or frames)[-1]
    else:
        module = getattr(send, "__module__", None) or "an unknown module"
        line = 0 if code is None else code.co_firstlineno
    return Failure(
        type(error).__name__,
        f"{module}:{line}",
        tuple(f"{code.co_filename}:{line}, in {code.co_name}" for _, line, code in frames),
    )


def _is_of_a_library(file: str) -> bool:
    return file.startswith("<") or any(Path(file).is_relative_to(folder) for folder in _LIBRARIES)
