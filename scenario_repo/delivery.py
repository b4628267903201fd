"""DeliveryWorker: leases, sends and settles notifications, several at once, and loses none.

Delivery is at least once. A lease lasts longer than its send may take. If the worker dies in between, its lease runs
out, and the notification is due again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

from scenario_repo import _arguments
from scenario_repo._limits import MAX_LEASES
from scenario_repo.exceptions import InvalidDataException, ScenarioRepositoryException
from scenario_repo.models import DeliveryResult, LeasedNotification, ScenarioType, Settlement, SettlementAnswer
from scenario_repo.repository import ScenarioNotificationRepository

Send = Callable[[LeasedNotification], Awaitable[None]]
"""Delivers one notification, or raises."""

_LEASE_MARGIN: Final = timedelta(seconds=60)
_SETTLE_TRIES: Final = 5
_LONGEST_SETTLE_PAUSE_SECONDS: Final = 10.0
_logger = logging.getLogger("scenario_repo")


class PermanentDeliveryError(Exception):
    """Raised by a sender: this notification can never be delivered.

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


class DeliveryWorker:
    """Sends pending notifications until it is stopped.

    ``send`` gets one leased notification with the user's device tokens, and returns when it is sent. A user without a
    device has no token; the sender may use another channel, or raises :class:`SuppressDelivery`. Any other exception
    means a retry, with back-off; :class:`PermanentDeliveryError` and a failed last attempt are final. Unless
    ``max_attempts`` is given, the scenario's settings say how many attempts there are. Up to ``concurrency`` sends run
    at once, each for at most ``send_timeout``; a slow one does not delay the others.
    """

    def __init__(  # noqa: PLR0913 - settings, all by name
        self,
        repository: ScenarioNotificationRepository,
        send: Send,
        *,
        concurrency: int = 20,
        send_timeout: timedelta = timedelta(seconds=30),
        idle_pause: timedelta = timedelta(seconds=5),
        max_attempts: int | None = None,
        organization_id: UUID | None = None,
        scenario_types: Collection[ScenarioType | str] | None = None,
    ) -> None:
        """Take a worker's repository and the sender."""
        self._repository = repository
        self._send = send
        self._concurrency = _arguments.positive("concurrency", concurrency, MAX_LEASES)
        self._send_timeout = _arguments.seconds("send_timeout", send_timeout)
        self._lease = send_timeout + _LEASE_MARGIN
        _arguments.lease_seconds("send_timeout and its margin", self._lease)
        self._idle_seconds = _arguments.seconds("idle_pause", idle_pause)
        self._max_attempts = _arguments.optional_positive("max_attempts", max_attempts)
        self._organization_id = _arguments.optional_id("organization_id", organization_id)
        self._scenario_types = _arguments.scenario_types(scenario_types)
        self._stopping = asyncio.Event()
        self._lease_again_at = 0.0

    def stop(self) -> None:
        """Lease no more; finish and settle the running sends (a handler for SIGTERM)."""
        self._stopping.set()

    async def run(self, *, until_idle: bool = False) -> Counter[SettlementAnswer | str]:
        """Deliver until :meth:`stop`, or with ``until_idle`` until nothing is due; return the counts of the answers.

        When it is cancelled, it cancels the running sends and releases their leases, so that others can lease them at
        once.

        Raises:
            ScenarioRepositoryException: the database refused (waiting would not help), a settlement failed in all
                its tries, or with ``until_idle`` the database can't be reached.

        """
        settled: Counter[SettlementAnswer | str] = Counter()
        sending: dict[asyncio.Task[Settlement], LeasedNotification] = {}
        try:
            while True:
                leased = await self._lease_for_free_places(len(sending), retry=not until_idle)
                for notification in leased:
                    sending[asyncio.create_task(self._attempt(notification))] = notification
                if not sending and (self._stopping.is_set() or (until_idle and not leased)):
                    return settled
                done = await self._wait(sending, full=len(sending) >= self._concurrency)
                settled.update(await self._settle([task.result() for task in done]))
                for task in done:
                    del sending[task]
        except BaseException:
            await asyncio.shield(self._cancel(sending))
            raise

    async def _lease_for_free_places(self, taken: int, *, retry: bool) -> list[LeasedNotification]:
        places = self._concurrency - taken
        if self._stopping.is_set() or not places or time.monotonic() < self._lease_again_at:
            return []
        leasing = asyncio.ensure_future(
            self._repository.lease_notifications(places, self._lease, self._organization_id, self._scenario_types)
        )
        try:
            return await asyncio.shield(leasing)
        except asyncio.CancelledError:
            # The server may have leased already: await its answer, and release what will not be sent.
            with suppress(ScenarioRepositoryException):
                await self._settle([one.settlement(DeliveryResult.RELEASED) for one in await leasing])
            raise
        except ScenarioRepositoryException as error:
            if not error.retryable or not retry:
                raise
            _logger.warning("lease failed, will be tried again: %s", error)
            self._lease_again_at = time.monotonic() + max(error.retry_after or 0, self._idle_seconds)
            return []

    async def _wait(
        self, sending: dict[asyncio.Task[Settlement], LeasedNotification], *, full: bool
    ) -> set[asyncio.Task[Settlement]]:
        """Wait until a send ends; with free places, at most ``idle_pause``, then lease again."""
        if not sending:
            await self._pause(self._idle_seconds)
            return set()
        timeout = None if full or self._stopping.is_set() else self._idle_seconds
        done, _ = await asyncio.wait(sending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return done

    async def _pause(self, seconds: float) -> None:
        """Sleep, and wake up early on :meth:`stop`."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _attempt(self, notification: LeasedNotification) -> Settlement:
        """Send once, and return its result as a settlement."""
        try:
            async with asyncio.timeout(self._send_timeout):
                await self._send(notification)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # A task inside the sender was cancelled, not this attempt.
            return _failed(notification, DeliveryResult.RETRY, "send_failed")
        except SuppressDelivery:
            return notification.settlement(DeliveryResult.SUPPRESSED)
        except PermanentDeliveryError as error:
            return _failed(notification, DeliveryResult.FAILED, error.failure_code)
        except TimeoutError:
            return _failed(notification, DeliveryResult.RETRY, "timeout")
        except Exception as error:  # noqa: BLE001 - any exception of the sender is a failed attempt
            # Log the class only: a provider's text may quote a device token or a name.
            _logger.warning("attempt %d failed: %s", notification.attempt_count, type(error).__name__)
            return _failed(notification, DeliveryResult.RETRY, "send_failed")
        return notification.settlement(DeliveryResult.SENT)

    async def _settle(self, results: list[Settlement]) -> list[SettlementAnswer | str]:
        """Settle, with several tries: a lost result means that the notification is sent again."""
        if not results:
            return []
        for remaining in reversed(range(_SETTLE_TRIES)):
            try:
                answers = await self._repository.settle_notifications(results, self._max_attempts)
            except ScenarioRepositoryException as error:
                if not error.retryable or not remaining:
                    raise
                # Cap the server's Retry-After: the leases must not run out during the pause.
                pause = max(0.2 * 2 ** (_SETTLE_TRIES - remaining), error.retry_after or 0)
                await asyncio.sleep(min(pause, _LONGEST_SETTLE_PAUSE_SECONDS))
            else:
                lost = answers.count(SettlementAnswer.LEASE_LOST)
                if lost:
                    _logger.warning("%d of %d leases had run out; they may be sent twice", lost, len(answers))
                return answers
        raise AssertionError  # the last try returns or raises

    async def _cancel(self, sending: dict[asyncio.Task[Settlement], LeasedNotification]) -> None:
        """Cancel the running sends; settle those that have ended, release the others."""
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        results = [
            notification.settlement(DeliveryResult.RELEASED)
            if task.cancelled() or task.exception() is not None
            else task.result()
            for task, notification in sending.items()
        ]
        try:
            await self._settle(results)
        except ScenarioRepositoryException as error:
            _logger.warning("%d leases could not be released and will run out: %s", len(results), error)


def _failed(notification: LeasedNotification, result: DeliveryResult, failure_code: str) -> Settlement:
    try:
        return notification.settlement(result, failure_code)
    except InvalidDataException:
        return notification.settlement(result, "unnamed_failure")
