"""The console over the embedded stack, in a real browser: accessible, narrow, by keyboard, live, and closed."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID, uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Page, ViewportSize
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from scenario_repo.testing import PostgrestAnswers, a_notification, a_status, an_explanation
from tests.browser import chromium, running_console, served
from tests.http.supabase_platform import Platform
from tests.rows import (
    ago,
    ahead,
    insert_activities,
    insert_certificates,
    insert_mentors,
    insert_notification,
)

pytestmark = pytest.mark.needs("chromium")

HOSTILE: Final = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e"
NARROW: Final[ViewportSize] = {"width": 360, "height": 740}
WIDE: Final[ViewportSize] = {"width": 1100, "height": 800}

LOOKS: Final[tuple[tuple[Literal["light", "dark"], str, dict[str, list[str]]], ...]] = (
    ("light", "rgb(251, 250, 248)", {}),
    ("dark", "rgb(18, 22, 21)", {"runOnly": ["color-contrast"]}),
)
"""The colours, their ground, and what axe looks at: only the contrasts change with the colours."""


@dataclass(frozen=True)
class Scene:
    """A console over an organization with a history, and the pages to look at."""

    address: str
    """With the token of this run."""
    organization: UUID
    person: UUID
    notification: UUID

    @property
    def root(self) -> str:
        """The address without the token."""
        return self.address.partition("/?")[0]

    @property
    def pages(self) -> dict[str, str]:
        """Every page, by name."""
        return {
            "overview": "/",
            "person": f"/person?id={self.person}",
            "organization": f"/organization?id={self.organization}&days=7",
            "notification": f"/notification?id={self.notification}",
            "pending": f"/pending?organization={self.organization}",
            "failed": f"/failed?organization={self.organization}",
            "nobody": f"/person?id={uuid4()}",
            "error": "/person?id=nonsense",
        }


@pytest.fixture(scope="module")
def platform(platforms: Callable[[str], Platform]) -> Platform:
    """Look at one Supabase alone: the pages are the same everywhere."""
    return platforms("external" if os.environ.get("SCENARIO_TEST_SUPABASE_URL") else "lite on PostgreSQL")


@pytest.fixture(scope="module")
def scene(platform: Platform) -> Iterator[Scene]:
    """Make three people with a history, and open the console."""
    organization, users = uuid4(), platform.new_users(3)
    with platform.owner() as owner:
        insert_mentors(owner, users, organization_id=organization)
        insert_activities(owner, users, ago("40 days"), organization_id=organization)
        insert_certificates(owner, users[:1], ahead("10 days"), organization_id=organization)
        about = {"organization_id": organization, "scenario_type": "inactivity"}
        for user, days, status in (
            (users[0], "5 days", "sent"),
            (users[1], "2 days", "failed"),
            (users[2], "1 day", "pending"),
        ):
            code = "invalid_token" if status == "failed" else None
            row = {**about, "delivery_status": status, "triggered_at": ago(days), "failure_code": code}
            inserted = insert_notification(owner, user, **row, metadata=Jsonb({"note": HOSTILE}))
        owner.execute("insert into public.scenario_mutes (user_id) values (%s)", [users[0]])
    with ExitStack() as stack:
        stack.callback(platform.delete_users, users)
        address = stack.enter_context(running_console(platform.url, platform.secret_key))
        yield Scene(address, organization, users[0], inserted["id"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run one browser for all."""
    with chromium() as running:
        yield running


class Tab:
    """A page, and what went wrong in it."""

    def __init__(
        self, browser: Browser, scene: Scene, *, scheme: Literal["light", "dark"], scripts: bool = True
    ) -> None:
        """Open the console with the token, as the terminal's address does."""
        self.scene = scene
        self._context = browser.new_context(color_scheme=scheme, viewport=WIDE, java_script_enabled=scripts)
        self.page: Page = self._context.new_page()
        self.faults: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.goto(scene.address)

    def _refuse(self, dialog: Dialog) -> None:
        self.faults.append(dialog.message)
        dialog.dismiss()

    def open(self, path: str) -> None:
        """Go to a page."""
        self.page.goto(f"{self.scene.root}{path}")

    def close(self) -> None:
        """Close it; no page may have complained, or have asked anything of another host."""
        self._context.close()
        # The browser itself names a page whose status is an error.
        assert [fault for fault in self.faults if "status of 400" not in fault] == []
        assert {url for url in self.asked if not url.startswith(f"{self.scene.root}/")} == set()


@pytest.fixture
def tab(browser: Browser, scene: Scene) -> Iterator[Tab]:
    """Open a tab in light colours."""
    opened = Tab(browser, scene, scheme="light")
    yield opened
    opened.close()


def test_every_page_is_accessible(tab: Tab) -> None:
    """Nothing is found by axe on any page, with all that can be opened open: names, contrasts, landmarks, tables."""
    axe = Axe()
    for name, path in tab.scene.pages.items():
        tab.page.emulate_media(color_scheme="light")
        tab.open(path)
        tab.page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        for scheme, ground, options in LOOKS:
            tab.page.emulate_media(color_scheme=scheme)
            assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
            found = axe.run(tab.page, options=options).response
            assert [f"{name}: {one['id']}: {one['nodes'][0]['html']}" for one in found["violations"]] == []
            assert len(found["passes"]) > (0 if options else 10)


def test_no_page_scrolls_sideways_on_a_small_phone(tab: Tab) -> None:
    """At 360 pixels wide tables scroll in themselves, and the page does not."""
    tab.page.set_viewport_size(NARROW)
    for name, path in tab.scene.pages.items():
        tab.open(path)
        assert tab.page.evaluate("document.documentElement.scrollWidth") == NARROW["width"], name


def test_a_person_is_found_by_keyboard_alone(tab: Tab) -> None:
    """The first stop skips to the content; the focus is seen; an id and Enter lead to the person."""
    tab.page.keyboard.press("Tab")
    skip = tab.page.locator(":focus")
    assert skip.text_content() == "Skip to the content"
    tab.page.wait_for_function("document.activeElement.getBoundingClientRect().top >= 0")
    assert tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("document.activeElement.id") == "main"
    tab.page.get_by_label("Id", exact=True).focus()
    tab.page.keyboard.type(str(tab.scene.person))
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_url(f"{tab.scene.root}/person?id={tab.scene.person}")
    assert tab.page.get_by_role("heading", level=1).text_content() == f"Person {tab.scene.person}"
    tab.page.get_by_role("link", name=str(tab.scene.organization)).first.click()
    assert tab.page.get_by_role("img", name=re.compile("^Bars: Notifications per day")).is_visible()


def test_hostile_text_is_only_text(browser: Browser) -> None:
    """Facts with a script in them, and a mark that turns the direction of text, are shown as they are."""
    facts: dict[str, JsonValue] = {HOSTILE: [HOSTILE]}
    with PostgrestAnswers() as answers:
        answers.get_status(a_status())
        answers.get_settings([])
        answers.explain_scenarios([an_explanation(scenario_type=HOSTILE, reason=HOSTILE, facts=facts)])
        answers.list_notifications([a_notification(scenario_type=HOSTILE)])
        answers.list_mutes([])
        with served(answers) as root:
            scene = Scene(f"{root}/?", uuid4(), uuid4(), uuid4())
            tab = Tab(browser, scene, scheme="light")
            tab.open(scene.pages["person"])
            tab.page.locator("summary").click()
            text = tab.page.locator("main").inner_text()
            added = tab.page.locator("main img, main script").count()
            tab.close()
    assert text.count("<script>alert(2)</script>") == 8
    assert text.count(r"\u202e") == 8
    assert added == 0


def test_the_figures_are_live_until_they_are_paused(tab: Tab, platform: Platform) -> None:
    """What is claimed meanwhile is seen without a reload; after a click on Pause it is not."""
    (user,) = platform.new_users(1)
    tab.page.clock.install()
    tab.open("/")
    pause = tab.page.get_by_role("button", name="Pause")
    row = tab.page.locator("#live tr", has=tab.page.get_by_role("link", name="milestone", exact=True))
    before = row.inner_text()
    with platform.owner() as owner:
        row_of = {"organization_id": tab.scene.organization, "scenario_type": "milestone", "milestone_value": 10}
        insert_notification(owner, user, **row_of, delivery_status="pending")
    tab.page.wait_for_timeout(2100)  # as long as a reading is fresh
    tab.page.clock.run_for(6000)
    tab.page.wait_for_function("before => !document.querySelector('#live').innerText.includes(before)", arg=before)
    pause.click()
    assert pause.get_attribute("aria-pressed") == "true"
    tab.asked.clear()
    tab.page.clock.run_for(60_000)
    assert tab.asked == set()
    platform.delete_users([user])


def test_old_figures_are_said_to_be_old(tab: Tab) -> None:
    """A reading that fails is said, and the figures before it stay; the next one that works takes the words back."""
    tab.page.clock.install()
    tab.open("/")
    note = tab.page.get_by_role("status")
    works, figures = note.inner_text(), tab.page.locator("#live").inner_text()
    tab.page.route("**/live", lambda route: route.fulfill(body="<p>another answer", content_type="text/html"))
    tab.page.clock.run_for(6000)
    tab.page.wait_for_function("works => document.querySelector('[role=status]').innerText !== works", arg=works)
    assert note.inner_text() == "The last reading failed; these figures are old."
    assert tab.page.locator("#live").inner_text() == figures
    tab.page.unroute("**/live")
    tab.page.clock.run_for(60_000)
    tab.page.wait_for_function("works => document.querySelector('[role=status]').innerText === works", arg=works)


def test_a_chart_on_a_phone_shows_its_newest_end(tab: Tab) -> None:
    """Where a chart over time is wider than the screen, today is seen first, and the past by scrolling."""
    tab.page.set_viewport_size(NARROW)
    tab.open(tab.scene.pages["organization"])
    frame = tab.page.locator(".newest-first")
    right = "one => one.getBoundingClientRect().right"
    assert frame.locator("svg").evaluate(right) <= frame.evaluate(right)
    assert frame.evaluate("one => one.scrollWidth - one.clientWidth") > 100


def test_an_id_is_short_to_see_and_whole_to_copy(tab: Tab) -> None:
    """In a table an id is cut by the style alone: whoever copies it, points at it or listens has all of it."""
    tab.open(tab.scene.pages["failed"])
    cell = tab.page.locator("td a.id").first
    assert re.fullmatch(r"[0-9a-f-]{36}", cell.inner_text())
    assert cell.get_attribute("title") == cell.inner_text()
    assert cell.evaluate("one => one.scrollWidth > one.clientWidth")


def test_the_pages_work_without_scripts(browser: Browser, scene: Scene) -> None:
    """Without JavaScript the figures are there, a link reads them again, and no dead button is shown."""
    tab = Tab(browser, scene, scheme="light", scripts=False)
    assert not tab.page.get_by_role("button", name="Pause").is_visible()
    tab.page.get_by_role("link", name="Read again").click()
    assert tab.page.get_by_role("heading", name="Now").is_visible()
    tab.close()


def test_who_has_no_token_gets_nothing(scene: Scene) -> None:
    """Another user of this machine, or a site with a name that points here, is refused."""
    for headers, status in (({}, 403), ({"Host": "evil.example"}, 421), ({"Cookie": "scenario_console=1"}, 403)):
        request = urllib.request.Request(f"{scene.root}{scene.pages['person']}", headers=headers)  # noqa: S310 - loopback
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)  # noqa: S310 - the same
        with refused.value as answer:
            assert answer.status == status
            assert str(scene.person) not in answer.read().decode()
