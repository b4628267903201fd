"""`make pictures`: the console's pages as pictures for the README, from the sample data on the embedded stack.

Six weeks pass for the sample organization: each few days it is evaluated and delivered, with some failures. What is
random is seeded, so that a picture changes when a page does.
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

from playwright.sync_api import Browser

from scenario_repo import (
    DeliveryWorker,
    LeasedNotification,
    PermanentDeliveryError,
    ScenarioNotificationRepository,
    ScenarioTriggerEngine,
    SuppressDelivery,
    connect,
)
from scenario_repo.testing import travel
from scenario_repo.testing.embedded_stack import EmbeddedStack, embedded_stack, install
from tests.browser import chromium, running_console

PICTURES: Final = Path(__file__).parents[1] / "docs" / "pictures"
ORGANIZATION: Final = UUID("5ca1ab1e-0000-4000-8000-000000000001")
"""The organization of supabase/seed.sql."""
ROUNDS: Final = (12, 3, 3, 3, 3, 2, 2, *[1] * 11)
"""The days between one evaluation and the next."""


async def _live_through(stack: EmbeddedStack) -> UUID:
    """Let the weeks pass, and return a person who was told something."""
    chance = random.Random(14)  # noqa: S311 - sample data

    async def send(_: LeasedNotification) -> None:
        drawn = chance.random()
        if drawn < 0.06:
            raise PermanentDeliveryError("invalid_token")
        if drawn < 0.14:
            raise SuppressDelivery

    async with connect(stack.url, stack.secret_key) as client:
        repository = ScenarioNotificationRepository(client)
        for days in ROUNDS:
            await ScenarioTriggerEngine(repository).run()
            await DeliveryWorker(repository, send, concurrency=1).run(until_idle=True)
            await asyncio.to_thread(travel, stack.database_url, timedelta(days=days))
        await ScenarioTriggerEngine(repository).run()
        failed = await repository.list_failed(ORGANIZATION, limit=1)
        return failed[0].user_id


@dataclass(frozen=True)
class Shot:
    """One picture: of which page, how wide, and in which colours."""

    name: str
    path: str
    width: int = 960
    scheme: Literal["light", "dark"] = "light"

    def take(self, browser: Browser, address: str) -> None:
        """Take it in a browser of its own, which comes with the token."""
        file = PICTURES / f"{self.name}.png"
        context = browser.new_context(viewport={"width": self.width, "height": 760}, color_scheme=self.scheme)
        page = context.new_page()
        page.goto(address)
        page.goto(f"{address.partition('/?')[0]}{self.path}")
        page.screenshot(path=file)
        context.close()
        print(f"docs/pictures/{file.name}, {file.stat().st_size / 1024:.0f} kB")  # noqa: T201 - a script


def main() -> int:
    """Take them all."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    install(bring_node=True)
    with embedded_stack(seed=True) as stack:
        person = asyncio.run(_live_through(stack))
        with running_console(stack.url, stack.secret_key) as address, chromium() as browser:
            organization = f"/organization?id={ORGANIZATION}&days=30"
            for shot in (
                Shot("overview", "/"),
                Shot("organization", organization),
                Shot("organization-dark", organization, scheme="dark"),
                Shot("organization-narrow", organization, width=360),
                Shot("person", f"/person?id={person}"),
                Shot("failed", f"/failed?organization={ORGANIZATION}"),
            ):
                shot.take(browser, address)
    return 0


if __name__ == "__main__":
    sys.exit(main())
