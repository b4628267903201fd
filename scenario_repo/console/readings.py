"""How things stand, read once for all who look: a status reads all that is pending."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from scenario_repo.repository import ScenarioNotificationRepository
from scenario_repo.status import Status

_FRESH_SECONDS: Final = 2.0
_REMEMBERED_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Reading:
    """A status, when it was read, and how that compares with a minute ago."""

    status: Status
    read_at: datetime
    seconds: float | None
    """How far back the changes go; None: this is the first reading within a minute."""
    pending_change: int
    """How many more are pending than then."""
    evaluated_change: int
    """How many mentors the passes went through since; a pass that began anew is left out."""


class Readings:
    """The newest reading, for two seconds, and the ones of the last minute to compare it with."""

    def __init__(self, repository: ScenarioNotificationRepository) -> None:
        self._repository = repository
        self._under_way: asyncio.Task[None] | None = None
        self._past: deque[tuple[float, datetime, Status]] = deque()

    async def newest(self) -> Reading:
        """Return how things stand, at most two seconds old; who comes while it is read waits for the same reading."""
        if not self._past or time.monotonic() - self._past[-1][0] > _FRESH_SECONDS:
            if self._under_way is None:
                self._under_way = asyncio.create_task(self._read())
                self._under_way.add_done_callback(self._end)
            # Whoever goes away does not take it from the others.
            await asyncio.shield(self._under_way)
        moment, read_at, status = self._past[-1]
        while moment - self._past[0][0] > _REMEMBERED_SECONDS:
            self._past.popleft()
        earlier, _, before = self._past[0]
        return Reading(
            status=status,
            read_at=read_at,
            seconds=moment - earlier if before is not status else None,
            pending_change=status.pending - before.pending,
            evaluated_change=_evaluated_between(before, status),
        )

    async def _read(self) -> None:
        status = await self._repository.get_status()
        self._past.append((time.monotonic(), datetime.now(UTC), status))

    def _end(self, reading: asyncio.Task[None]) -> None:
        self._under_way = None
        if not reading.cancelled():
            reading.exception()  # asyncio prints one that nobody has seen, such as when all have gone away


def _evaluated_between(before: Status, after: Status) -> int:
    then = {one.scenario_type: one.evaluated for one in before.scenarios}
    return sum(max(0, one.evaluated - then.get(one.scenario_type, one.evaluated)) for one in after.scenarios)
