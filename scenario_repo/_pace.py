"""When a delivery worker may begin a send: while the lease surely lasts, at its rate, and not in a provider's pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Final
from uuid import UUID

from scenario_repo.models import LeasedNotification, Settlement

_LONGEST_WAIT_SECONDS: Final = 10.0
"""How long a send may wait for its turn under the rate, before its lease is given back."""


def clock() -> float:
    """Return seconds that go on while the machine is suspended, where the system has such a clock."""
    number: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    seconds: float = time.monotonic() if number is None else time.clock_gettime(number)
    return seconds


class Pace:
    """The ends of the leases, the rate, and the pause that a provider asked for."""

    def __init__(self, lease_seconds: float, send_seconds: float, rate: float | None) -> None:
        """Take the length of a lease and of a send, in seconds, and how many may begin in a second."""
        self._lease_seconds = lease_seconds
        self._send_seconds = send_seconds
        self._seconds_apart = 0.0 if rate is None else 1 / rate
        self._next_turn_at = 0.0
        self._paused_until = 0.0
        self._ends: dict[tuple[UUID, int], float] = {}
        self.lease_again_at = 0.0
        """Before then, nothing that is leased could begin."""

    def remember(self, leased: Iterable[LeasedNotification], asked_at: float) -> None:
        """Note when leases end at the earliest: their time began when they were asked for, or later."""
        for one in leased:
            self._ends[one.id, one.lease_number] = asked_at + self._lease_seconds

    def forget(self, settled: Iterable[Settlement]) -> None:
        """Drop the leases that are settled."""
        for one in settled:
            self._ends.pop((one.id, one.lease_number), None)

    def ends_at(self, lease: LeasedNotification | Settlement) -> float:
        """Return when a lease ends at the earliest, by the clock."""
        return self._ends.get((lease.id, lease.lease_number), 0.0)

    def pause(self, length: timedelta) -> None:
        """Begin nothing for that long."""
        self._paused_until = max(self._paused_until, clock() + length.total_seconds())
        self.lease_again_at = max(self.lease_again_at, self._paused_until)

    def pause_seconds(self) -> float:
        """Return how long the pause still lasts."""
        return max(0.0, self._paused_until - clock())

    async def wait_for_turn(self) -> bool:
        """Wait for a turn under the rate; return False at once if it would be long in coming."""
        if self._seconds_apart:
            turn_at = max(clock(), self._next_turn_at)
            if turn_at - clock() > _LONGEST_WAIT_SECONDS:
                self.lease_again_at = max(self.lease_again_at, turn_at - _LONGEST_WAIT_SECONDS / 2)
                return False
            self._next_turn_at = turn_at + self._seconds_apart
            await asyncio.sleep(turn_at - clock())
        return True

    def may_begin(self, lease: LeasedNotification) -> bool:
        """Tell whether a send that begins now ends while its lease lasts, and no pause was asked for.

        Ask right before the send: the event loop may have been blocked, or the machine asleep, since the lease.
        """
        return clock() + self._send_seconds <= self.ends_at(lease) and not self.pause_seconds()
