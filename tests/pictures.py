"""`make pictures`: the console's pages as pictures for the README, from the sample data on the embedded stack.

Weeks pass for the sample organization: mentors go quiet and come back, more of them when they were told, and each few
days it is evaluated and delivered, with some failures. What is random is seeded, so that a picture changes when a page
does.
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

import psycopg
from playwright.sync_api import Browser

from scenario_repo import (
    DeliveryWorker,
    LeasedNotification,
    PermanentDeliveryError,
    ScenarioNotificationRepository,
    ScenarioTriggerEngine,
    ScenarioType,
    SuppressDelivery,
    connect,
)
from scenario_repo.testing import travel
from scenario_repo.testing.embedded_stack import EmbeddedStack, embedded_stack, install
from tests.browser import chromium, running_console
from tests.rows import ago, insert_activities

PICTURES: Final = Path(__file__).parents[1] / "docs" / "pictures"
ORGANIZATION: Final = UUID("5ca1ab1e-0000-4000-8000-000000000001")
"""The organization of supabase/seed.sql."""
ROUNDS: Final = (20, 5, 5, 5, 5, *[2] * 8, *[1] * 17)
"""The days between one evaluation and the next."""
GOES_QUIET, COMES_BACK, COMES_BACK_WHEN_TOLD, IS_ACTIVE, RENEWS = 0.012, 0.02, 0.3, 0.2, 0.45
"""The chances: the first two and the fourth of each day, the others of each notification."""


class Mentors:
    """The mentors of the sample organization, and what they do."""

    def __init__(self, database_url: str) -> None:
        """Find them; those whom the sample data left quiet stay so for now."""
        self._database_url = database_url
        self._chance = random.Random(14)  # noqa: S311 - sample data
        with self._owner() as owner:
            rows = owner.execute(
                "select user_id, coalesce(max(activity_date), '-infinity') < now() - interval '20 days'"
                " from public.peer_mentors left join public.activities using (user_id) group by user_id order by 1"
            ).fetchall()
        self._all = [user for user, _ in rows]
        self._quiet = {user for user, is_quiet in rows if is_quiet}
        self._renewing: set[UUID] = set()

    def _owner(self) -> psycopg.Connection:
        return psycopg.connect(self._database_url, autocommit=True)

    async def hear(self, notification: LeasedNotification) -> None:
        """Be sent one, unless that fails; who hears may do what it hopes for."""
        drawn = self._chance.random()
        if drawn < 0.04:
            raise PermanentDeliveryError("invalid_token")
        if drawn < 0.16:
            raise SuppressDelivery
        if self._chance.random() < COMES_BACK_WHEN_TOLD:
            self._quiet.discard(notification.user_id)
        if notification.scenario_type == ScenarioType.CERTIFICATION_EXPIRY and self._chance.random() < RENEWS:
            self._renewing.add(notification.user_id)

    def live(self, days: int) -> None:
        """Let days pass, in which they are active or not."""
        travel(self._database_url, timedelta(days=days))
        for user in self._all:
            if self._chance.random() < days * (COMES_BACK if user in self._quiet else GOES_QUIET):
                self._quiet ^= {user}
        with self._owner() as owner:
            for day in range(days):
                active = [one for one in self._all if one not in self._quiet and self._chance.random() < IS_ACTIVE]
                insert_activities(owner, active, ago(timedelta(days=day, hours=1)), organization_id=ORGANIZATION)
            owner.execute(
                "update public.certifications set expires_at = expires_at + interval '1 year' where user_id = any(%s)",
                [list(self._renewing)],
            )
        self._renewing.clear()


async def _live_through(stack: EmbeddedStack) -> UUID:
    """Let the weeks pass, and return a person who was told something."""
    mentors = await asyncio.to_thread(Mentors, stack.database_url)
    async with connect(stack.url, stack.secret_key) as client:
        repository = ScenarioNotificationRepository(client)
        for days in ROUNDS:
            await ScenarioTriggerEngine(repository).run()
            await DeliveryWorker(repository, mentors.hear, concurrency=1).run(until_idle=True)
            await asyncio.to_thread(mentors.live, days)
        await ScenarioTriggerEngine(repository).run()
        failed = await repository.list_failed(ORGANIZATION, limit=30)
        histories = [await repository.list_notifications(one.user_id) for one in failed]
        return max(histories, key=len)[0].user_id


@dataclass(frozen=True)
class Shot:
    """One picture: of which page, how large, and in which colours."""

    name: str
    path: str
    width: int = 960
    height: int = 760
    scheme: Literal["light", "dark"] = "light"

    def take(self, browser: Browser, address: str) -> None:
        """Take it in a browser of its own, which comes with the token."""
        file = PICTURES / f"{self.name}.png"
        context = browser.new_context(viewport={"width": self.width, "height": self.height}, color_scheme=self.scheme)
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
                Shot("organization", organization, height=960),
                Shot("organization-dark", organization, height=960, scheme="dark"),
                Shot("outcomes", f"{organization}#outcomes-title", height=960),
                Shot("organization-narrow", organization, width=360),
                Shot("person", f"/person?id={person}"),
                Shot("failed", f"/failed?organization={ORGANIZATION}"),
            ):
                shot.take(browser, address)
    return 0


if __name__ == "__main__":
    sys.exit(main())
