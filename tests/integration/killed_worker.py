"""Deliver until killed: a worker process for test_killed_workers, which says what to do by its arguments.

    SUPABASE_URL=… SUPABASE_SECRET_KEY=… python killed_worker.py FILE CONCURRENCY [--once] [--devices]

Each delivery is one line in FILE: the notification's id, by device followed by a colon and the platform. Says "ready"
when it starts to deliver.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from datetime import timedelta

from scenario_repo import DeliveryWorker, DeviceToken, LeasedNotification, ScenarioNotificationRepository, connect


async def deliver(path: str, concurrency: int, *, once: bool, by_device: bool) -> None:
    """Append each notification's id to the file, in one write, after and before a short while."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND)

    async def write(line: str) -> None:
        await asyncio.sleep(random.uniform(0, 0.01))  # noqa: S311 - any time will do
        os.write(file, f"{line}\n".encode())
        await asyncio.sleep(random.uniform(0, 0.01))  # noqa: S311

    async def send(notification: LeasedNotification) -> None:
        await write(str(notification.id))

    async def send_to_device(notification: LeasedNotification, device: DeviceToken) -> None:
        await write(f"{notification.id}:{device.platform}")

    async with connect() as client:
        worker = DeliveryWorker(
            ScenarioNotificationRepository(client),
            None if by_device else send,
            send_to_device=send_to_device if by_device else None,
            concurrency=concurrency,
            send_timeout=timedelta(seconds=20),
            idle_pause=timedelta(milliseconds=50),
        )
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await worker.run(until_idle=once)


if __name__ == "__main__":
    asyncio.run(deliver(sys.argv[1], int(sys.argv[2]), once="--once" in sys.argv, by_device="--devices" in sys.argv))
