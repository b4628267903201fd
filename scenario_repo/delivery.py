"""DeliveryWorker: leases, sends and settles notifications, several at once, and loses none.

Delivery is at least once. A lease lasts longer than its send may take. If the worker dies in between, its lease runs
out, and the notification is due again.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from scenario_repo import _arguments, _logs, _pace, _watching, senders
from scenario_repo._backoff import pause_seconds
from scenario_repo._limits import MAX_LEASES
from scenario_repo.exceptions import InvalidDataException, ScenarioRepositoryException
from scenario_repo.models import (
    DeliveryResult,
    Lease,
    LeasedNotification,
    ScenarioType,
    Settlement,
    SettlementAnswer,
)
from scenario_repo.repository import ScenarioNotificationRepository
from scenario_repo.senders import Attempt, Failure, Send, SenderFailingError, SendToDevice

_LEASE_MARGIN: Final = timedelta(seconds=60)
_LONGEST_PAUSE_SECONDS: Final = 30.0
_PATIENCE_SECONDS: Final = 60.0
"""How long a worker that is to end when nothing is due waits for a database, or for a provider's pause to end."""
_SUSPECT: Final = 2
"""So many leases in a row that nobody settled: it may be what its workers die of, and is sent alone."""

Progress = Callable[[Counter[SettlementAnswer | str]], None]
"""Told the counts of the answers so far, after each settlement."""


class DeliveryWorker:
    """Sends pending notifications until it is stopped.

    ``send`` gets one leased notification with the user's device tokens, and returns when it is sent; or
    ``send_to_device`` gets it once for each device, and is called for all of them at the same time. One device reached
    is sent; a retry goes only where it has not arrived. A user without a device has no token: ``send`` may use another
    channel, or raises :class:`SuppressDelivery`; by device that is what becomes of it.

    A sender may raise :class:`PermanentDeliveryError`, :class:`SuppressDelivery`, :class:`DeliverLater` and
    :class:`InvalidDeviceToken`. Any other exception means a retry, with back-off; a failed last attempt is final.
    Unless ``max_attempts`` is given, the scenario's settings say how many attempts there are. Up to ``concurrency``
    notifications are sent at once, each for at most ``send_timeout``; a slow one does not delay the others. ``rate``
    limits how many begin in a second. When ``stop_after`` sends in a row fail in the same way, the worker gives their
    attempts back and stops; None: it never does.
    """

    def __init__(  # noqa: PLR0913 - settings, all by name
        self,
        repository: ScenarioNotificationRepository,
        send: Send | None = None,
        *,
        send_to_device: SendToDevice | None = None,
        concurrency: int = 20,
        send_timeout: timedelta = timedelta(seconds=30),
        idle_pause: timedelta = timedelta(seconds=5),
        max_attempts: int | None = None,
        organization_id: UUID | None = None,
        scenario_types: Collection[ScenarioType | str] | None = None,
        rate: float | None = None,
        stop_after: int | None = 10,
        on_progress: Progress | None = None,
    ) -> None:
        """Take a worker's repository and the sender, of the one kind or the other."""
        self._repository = repository
        self._concurrency = _arguments.positive("concurrency", concurrency, MAX_LEASES)
        self._send_timeout = _arguments.seconds("send_timeout", send_timeout)
        self._lease = send_timeout + _LEASE_MARGIN
        _arguments.lease_seconds("send_timeout and its margin", self._lease)
        self._idle_seconds = _arguments.seconds("idle_pause", idle_pause)
        self._max_attempts = _arguments.optional_positive("max_attempts", max_attempts)
        self._organization_id = _arguments.optional_id("organization_id", organization_id)
        self._scenario_types = _arguments.scenario_types(scenario_types)
        self._pace = _pace.Pace(
            self._lease.total_seconds(),
            self._send_timeout,
            None if rate is None else _arguments.positive_number("rate", rate),
        )
        self._send_once = _sending(send, send_to_device, self._pace, self._send_timeout)
        self._stop_after = _arguments.optional_positive("stop_after", stop_after)
        self._on_progress = on_progress
        self._stopping = asyncio.Event()
        self._is_abandoning = False
        self._settled: Counter[SettlementAnswer | str] = Counter()
        self._unsettled: list[Settlement] = []
        """Results that the database does not have yet."""
        self._lease_again_at = 0.0
        self._failing_since: float | None = None
        self._lease_failures = 0
        self._vain_leases = 0
        """Leases in a row that failed, or handed nothing out and got nothing out of the way."""
        self._suspects: list[LeasedNotification] = []
        self._last_failure: Failure | None = None
        self._failures_in_a_row = 0
        self._kept_back: list[Settlement] = []
        """Failures in a row, all alike, kept back until it is known whether they stop the worker."""

    @property
    def is_abandoning(self) -> bool:
        """Whether a send ignored its cancellation: it may go on, and keep the event loop from ending."""
        return self._is_abandoning

    @property
    def settled(self) -> Counter[SettlementAnswer | str]:
        """The counts of the answers so far, also when :meth:`run` has raised."""
        return self._settled.copy()

    def stop(self) -> None:
        """Lease no more; finish and settle the running sends (a handler for SIGTERM)."""
        self._stopping.set()

    async def run(self, *, until_idle: bool = False) -> Counter[SettlementAnswer | str]:
        """Deliver until :meth:`stop`, or with ``until_idle`` until nothing is due; return the counts of the answers.

        It waits for a database that can't be reached; with ``until_idle`` for a minute, and for what was sent as long
        as the leases last. When it is cancelled, it cancels the running sends and releases their leases, so that others
        can lease them at once.

        Raises:
            ScenarioRepositoryException: the database refused (waiting would not help), or with ``until_idle`` it can't
                be reached for too long.
            SenderFailingError: ``stop_after`` sends in a row failed in the same way.
            BaseException: what a sender raised that is no Exception, after what was sent is settled.

        """
        self._settled.clear()
        _logs.WORKER_STARTED.tell(concurrency=self._concurrency)
        sending: dict[asyncio.Task[Attempt], LeasedNotification] = {}
        try:
            while True:
                answer = await self._lease_for_free_places(sending.values(), patient=not until_idle)
                lease = Lease() if answer is None else answer
                for notification in [*lease, *self._suspect_alone(sending.values())]:
                    sending[asyncio.create_task(self._send_watched(notification))] = notification
                # Only the database tells that nothing is due: a lease that failed, or that was not asked for, does not.
                is_idle = answer is not None and not sending and not self._suspects and not lease.has_more
                is_over = not sending and (
                    self._stopping.is_set()
                    or (until_idle and (is_idle or self._pace.pause_seconds() > _PATIENCE_SECONDS))
                )
                if is_idle or is_over:
                    self._unsettled += self._let_go()
                if is_over:
                    self._unsettled += self._suspects_released()
                    await self._settle(patient=False)
                    _logs.WORKER_STOPPED.tell(by_answer=_logs.counts(self._settled), answers=dict(self._settled))
                    return self.settled
                done = await self._wait(sending, full=len(sending) >= self._concurrency, more=lease.has_more)
                # Nothing is awaited here in between: a cancellation loses no result.
                attempts = [task.result() for task in sending if task in done]
                for task in done:
                    del sending[task]
                self._unsettled += self._judged(attempts)
                await self._settle(patient=not until_idle)
                if self._on_progress is not None and done:
                    self._on_progress(self.settled)
                self._raise_what_ends_it(attempts)
        except BaseException as error:
            await asyncio.shield(self._cancel(sending))
            if not isinstance(error, asyncio.CancelledError):
                _log_what_ended_it(error)
            raise

    def _may_lease(self) -> bool:
        return _pace.clock() >= max(self._lease_again_at, self._pace.lease_again_at)

    async def _lease_for_free_places(self, sending: Collection[LeasedNotification], *, patient: bool) -> Lease | None:
        """Lease for the places that are free; None if the database was not asked, or could not answer."""
        places = self._concurrency - len(sending)
        is_alone = bool(self._suspects) or any(one.unsettled_leases >= _SUSPECT for one in sending)
        if self._stopping.is_set() or not places or is_alone or not self._may_lease():
            return None
        asked_at = _pace.clock()
        leasing = asyncio.ensure_future(self._leased(places))
        try:
            lease = await asyncio.shield(leasing)
        except asyncio.CancelledError:
            # The server may have leased already: await its answer, and release what will not be sent.
            await asyncio.wait([leasing])
            if leasing.exception() is None:
                self._pace.remember(leasing.result(), asked_at)
                self._unsettled += [one.settlement(DeliveryResult.RELEASED) for one in leasing.result()]
            raise
        except ScenarioRepositoryException as error:
            self._failing_since = asked_at if self._failing_since is None else self._failing_since
            if not error.retryable or not (patient or _pace.clock() - self._failing_since < _PATIENCE_SECONDS):
                raise
            self._lease_failures += 1
            failed = _logs.lasting(self._lease_failures, _logs.LEASE_FAILED, _logs.LEASE_KEEPS_FAILING)
            failed.tell(failures=self._lease_failures, **_logs.of_error(error))
            self._lease_later(error.retry_after)
            return None
        if self._lease_failures:
            _logs.LEASES_AGAIN.tell(failures=self._lease_failures)
        self._failing_since, self._lease_failures = None, 0
        self._pace.remember(lease, asked_at)
        self._log(lease)
        if lease.has_more and not (lease or lease.deferred or lease.failed or lease.rule_failed):
            self._lease_later()
        else:
            self._vain_leases = 0
        self._suspects += [one for one in lease if one.unsettled_leases >= _SUSPECT]
        return lease.without(self._suspects)

    async def _leased(self, places: int) -> Lease:
        with _watching.watch(_watching.Step.LEASE) as step:
            lease = await self._repository.lease_notifications(
                places, self._lease, self._organization_id, self._scenario_types
            )
            step.note(leases=[(one.id, one.lease_number) for one in lease])
        return lease

    async def _send_watched(self, notification: LeasedNotification) -> Attempt:
        with _watching.watch(
            _watching.Step.SEND,
            lease=(notification.id, notification.lease_number),
            scenario_type=str(notification.scenario_type),
            attempt=notification.attempt_count,
        ) as step:
            attempt = await self._send_once(notification)
            failure = None if attempt.failure is None else attempt.failure.kind
            step.note(result=str(attempt.settlement.result), failure=failure)
        return attempt

    def _lease_later(self, retry_after: float | None = None) -> None:
        self._vain_leases += 1
        self._lease_again_at = _pace.clock() + _pause_seconds(self._vain_leases, retry_after)

    @staticmethod
    def _log(lease: Lease) -> None:
        if lease:
            _logs.LEASED.tell(leased=len(lease), notification_ids=[str(one.id) for one in lease])
        for reason, count in lease.failed.items():
            _logs.NOT_HANDED_OUT.tell(count=count, reason=reason)
        if lease.rule_failed:
            _logs.RULE_FAILED.tell(count=lease.rule_failed)

    def _suspect_alone(self, sending: Collection[LeasedNotification]) -> list[LeasedNotification]:
        """Give what may kill a worker when nothing else is being sent."""
        return [] if sending or not self._suspects or self._stopping.is_set() else [self._suspects.pop()]

    def _suspects_released(self) -> list[Settlement]:
        released = [one.settlement(DeliveryResult.RELEASED) for one in self._suspects]
        self._suspects.clear()
        return released

    async def _wait(
        self, sending: dict[asyncio.Task[Attempt], LeasedNotification], *, full: bool, more: bool
    ) -> set[asyncio.Task[Attempt]]:
        """Wait until a send ends; with free places, at most until it is time to lease again."""
        lease_again_at = max(self._lease_again_at, self._pace.lease_again_at)
        until_lease = max(lease_again_at - _pace.clock(), 0 if more else self._idle_seconds)
        if not sending:
            await self._pause(until_lease)
            return set()
        timeout = None if full or self._stopping.is_set() else until_lease
        done, _ = await asyncio.wait(sending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return done

    async def _pause(self, seconds: float) -> None:
        """Sleep, and wake up early on :meth:`stop`."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _judged(self, attempts: Iterable[Attempt]) -> Iterator[Settlement]:
        """Give what can be settled; failures that are all alike are kept back, until others end their row."""
        for attempt in attempts:
            if attempt.pause is not None:
                _logs.PROVIDER_PAUSED.tell(seconds=attempt.pause.total_seconds())
                self._pace.pause(attempt.pause)
            self._is_abandoning |= attempt.is_abandoned
            failure = attempt.failure
            if failure is not None:
                sent = str(attempt.settlement.id)
                _logs.SEND_FAILED.tell(notification_id=sent, kind=failure.kind, place=failure.place)
            if failure is None or attempt.error is not None or self._stop_after is None:
                if attempt.settlement.result is not DeliveryResult.RELEASED:
                    yield from self._let_go()
                    self._failures_in_a_row = 0
                yield attempt.settlement
                continue
            if self._last_failure is None or _alike(self._last_failure) != _alike(failure):
                yield from self._let_go()
                self._failures_in_a_row = 0
            self._last_failure = failure
            self._failures_in_a_row += 1
            self._kept_back.append(attempt.settlement)
        # Not so long that their leases run out.
        oldest = min(map(self._pace.ends_at, self._kept_back), default=math.inf)
        if oldest - _pace.clock() < _LEASE_MARGIN.total_seconds() / 2 and not self._is_failing():
            yield from self._let_go()

    def _let_go(self) -> list[Settlement]:
        """Give the failures that were kept back, to be tried again."""
        kept_back, self._kept_back = self._kept_back, []
        return kept_back

    def _is_failing(self) -> bool:
        return self._failures_in_a_row >= (self._stop_after or math.inf)

    def _raise_what_ends_it(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            if attempt.error is not None:
                raise attempt.error
        if self._last_failure is not None and self._is_failing():
            raise SenderFailingError(self._last_failure, self._failures_in_a_row)

    async def _settle(self, *, patient: bool, seconds: float = math.inf) -> None:
        """Record the results, for a lost one means that the notification is sent again.

        While the database can't be reached it tries again as long as the leases last, at most for so many seconds. With
        patience it goes on: nobody else can lease meanwhile either, so it is in time if it is the first.
        """
        gives_up_at = _pace.clock() + seconds
        tries = 0
        while self._unsettled:
            results = self._unsettled[:MAX_LEASES]
            try:
                answers = await self._settle_once(results)
            except ScenarioRepositoryException as error:
                tries += 1
                pause = _pause_seconds(tries, error.retry_after)
                ends_at = min(max(map(self._pace.ends_at, results)), gives_up_at)
                has_time = _pace.clock() + pause <= ends_at or (patient and not self._stopping.is_set())
                if not error.retryable or not has_time:
                    raise
                failed = _logs.lasting(tries, _logs.SETTLEMENT_FAILED, _logs.SETTLEMENT_KEEPS_FAILING)
                failed.tell(failures=tries, count=len(results), **_logs.of_error(error))
                await asyncio.sleep(pause)
            else:
                tries = 0
                del self._unsettled[: len(results)]
                self._pace.forget(results)
                self._settled.update(answers)
                _log_settled(results, answers)
                lost = answers.count(SettlementAnswer.LEASE_LOST)
                if lost:
                    _logs.LEASES_LOST.tell(lost=lost, count=len(answers))

    async def _settle_once(self, results: Sequence[Settlement]) -> list[SettlementAnswer | str]:
        leases = [(one.id, one.lease_number) for one in results]
        with _watching.watch(_watching.Step.SETTLE, leases=leases) as step:
            answers = await self._repository.settle_notifications(results, self._max_attempts)
            step.note(leases=leases, answers=Counter(answers))
        return answers

    async def _cancel(self, sending: dict[asyncio.Task[Attempt], LeasedNotification]) -> None:
        """Cancel the running sends; settle those that have ended, release the others that end now.

        A send that does not end keeps its lease: nobody knows whether it goes on.
        """
        for task in sending:
            task.cancel()
        if sending:
            await asyncio.wait(sending, timeout=senders.GRACE_SECONDS)
        self._unsettled += [*map(_released, self._let_go()), *self._suspects_released()]
        for task, notification in sending.items():
            if task.done():
                self._unsettled.append(_ended(task, notification))
            else:
                _logs.SEND_ABANDONED.tell(notification_id=str(notification.id))
                self._is_abandoning = True
        try:
            await self._settle(patient=False, seconds=senders.GRACE_SECONDS)
        except ScenarioRepositoryException as error:
            _logs.LEASES_LEFT.tell(count=len(self._unsettled), **_logs.of_error(error))
            self._unsettled.clear()


def _sending(
    send: Send | None, send_to_device: SendToDevice | None, pace: _pace.Pace, timeout_seconds: float
) -> Callable[[LeasedNotification], Coroutine[Any, Any, Attempt]]:
    if send is not None and send_to_device is None:
        senders.check(send)
        return partial(senders.attempt, send, pace=pace, timeout_seconds=timeout_seconds)
    if send_to_device is not None and send is None:
        senders.check(send_to_device)
        return partial(senders.attempt_by_device, send_to_device, pace=pace, timeout_seconds=timeout_seconds)
    raise InvalidDataException("send: expected one of send and send_to_device")


def _log_settled(results: Sequence[Settlement], answers: Sequence[SettlementAnswer | str]) -> None:
    by_answer = {str(answer): count for answer, count in Counter(answers).items()}
    _logs.SETTLED.tell(
        count=len(results),
        by_answer=_logs.counts(by_answer),
        answers=by_answer,
        notification_ids=[str(result.id) for result in results],
    )


def _log_what_ended_it(error: BaseException) -> None:
    """Log the text of our own exceptions; that of a sender's may hold a token."""
    if isinstance(error, ScenarioRepositoryException):
        _logs.WORKER_FAILED.tell(**_logs.of_error(error))
    else:
        text = str(error) if isinstance(error, SenderFailingError) else type(error).__name__
        _logs.WORKER_FAILED.tell(error=text, error_type=type(error).__name__)


def _alike(failure: Failure) -> tuple[str, str]:
    return failure.kind, failure.place


def _ended(task: asyncio.Task[Attempt], notification: LeasedNotification) -> Settlement:
    released = notification.settlement(DeliveryResult.RELEASED)
    try:
        return task.result().settlement
    except BaseException:  # noqa: BLE001 - cancelled
        return released


def _released(settlement: Settlement) -> Settlement:
    return Settlement(
        id=settlement.id,
        lease_number=settlement.lease_number,
        result=DeliveryResult.RELEASED,
        reached=settlement.reached,
        invalid_tokens=settlement.invalid_tokens,
    )


def _pause_seconds(failures: int, retry_after: float | None) -> float:
    """Return the pause; a server may not ask for more than the longest, for leases run out meanwhile."""
    return pause_seconds(failures, _LONGEST_PAUSE_SECONDS, min(retry_after or 0, _LONGEST_PAUSE_SECONDS))
