"""The console's pages over given answers: what they show, and what they never show."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn
from uuid import UUID

import httpx
import pytest

from scenario_repo import (
    PermissionDeniedException,
    ScenarioNotificationRepository,
    ScenarioRepositoryException,
    UnavailableException,
    connect,
)
from scenario_repo._cli.words import ago, pending_line
from scenario_repo.console import organizations, readings
from scenario_repo.console.app import console
from scenario_repo.console.charts import lying, stacked, steps_to
from scenario_repo.console.guard import HEADERS
from scenario_repo.console.organizations import STATUSES
from scenario_repo.console.text import shown
from scenario_repo.models import DeliveryStatus
from scenario_repo.testing import (
    NOON,
    PostgrestAnswers,
    a_failure_count,
    a_left_out,
    a_left_out_pass,
    a_mute,
    a_notification,
    a_notification_past,
    a_pending_notification,
    a_report,
    a_report_line,
    a_scenario_status,
    a_status,
    an_explanation,
    an_outcome_group,
    some_outcomes,
    some_settings,
)

PERSON: Final = UUID("00000000-0000-4000-8000-0000000000a1")
ORGANIZATION: Final = UUID("00000000-0000-4000-8000-0000000000b2")
NOTIFICATION: Final = UUID("00000000-0000-4000-8000-0000000000c3")
TOKEN: Final = "the-token-of-this-run"  # noqa: S105 - opens nothing
SCRIPT: Final = "<script>alert(1)</script>"
HOSTILE: Final = f"{SCRIPT}\"'><img src=x onerror=alert(2)>\u202eevil\u2066"
PAGES: Final = (
    *("/", "/live", "/pending", "/failed", f"/person?id={PERSON}"),
    *(f"/organization?id={ORGANIZATION}", f"/notification?id={NOTIFICATION}"),
)

every_page = pytest.mark.parametrize("page", PAGES)


@pytest.fixture
def bare() -> Iterator[PostgrestAnswers]:
    """Answer nothing yet."""
    with PostgrestAnswers(assert_all_called=False) as given:
        yield given


@pytest.fixture
def answers(bare: PostgrestAnswers) -> PostgrestAnswers:
    """Answer every question of the pages."""
    running = a_scenario_status(scenario_type="inactivity", is_under_way=True, evaluated=400, due_now=7)
    bare.get_status(a_status(scenarios=(running,), failures=(a_failure_count(failure_code="invalid_token"),)))
    bare.get_settings([some_settings(scenario_type="inactivity", is_enabled=True, cooldown=timedelta(days=30))])
    bare.explain_scenarios([an_explanation(organization_id=ORGANIZATION, facts={"last_activity_at": "2026-01-01"})])
    told = a_notification(
        user_id=PERSON,
        organization_id=ORGANIZATION,
        delivery_status="failed",
        failure_code="gone",
        settled_at=NOON,
        metadata={"secret": "in metadata"},
        subjects=("a subject",),
    )
    bare.list_notifications([told])
    bare.list_mutes([a_mute(user_id=PERSON)])
    lines = (a_report_line(notifications=12), a_report_line(delivery_status="failed", failure_code="invalid_token"))
    bare.get_organization_report(a_report(organization_id=ORGANIZATION, lines=lines))
    bare.get_outcomes(some_outcomes(not_told=an_outcome_group(persons=None, hoped=None, share=None, lowest=None)))
    bare.get_left_out([a_left_out_pass(left_out=(a_left_out(mentors=None), a_left_out(reason="history")))])
    bare.explain_notification(a_notification_past(user_id=PERSON, organization_id=ORGANIZATION))
    bare.list_pending([a_pending_notification(user_id=PERSON)])
    bare.list_failed([told])
    return bare


@asynccontextmanager
async def opened(answers: PostgrestAnswers, **options: Any) -> AsyncIterator[httpx.AsyncClient]:  # noqa: ANN401 - the guard's
    """Open the console as a browser on this machine would."""
    async with connect(answers.url, answers.secret_key) as client:
        app = console(ScenarioNotificationRepository(client), **({"token": None} | options))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8420") as browser:
            yield browser


@every_page
async def test_every_page_has_the_strict_headers_and_no_key(answers: PostgrestAnswers, page: str) -> None:
    """A page comes with every header, without the key, an inline script or style, and names no other host."""
    async with opened(answers) as browser:
        answer = await browser.get(page)
    assert answer.status_code == 200
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert answers.secret_key not in answer.text
    assert answers.url not in answer.text
    assert (
        re.findall(
            r"<script(?! src=\"/static/)|<style|\sstyle=|\son\w+=|https?:(?!//www\.w3\.org/2000/svg)", answer.text
        )
        == []
    )


@every_page
async def test_every_page_is_read_only(answers: PostgrestAnswers, page: str) -> None:
    """A page is read, or its head alone, and nothing else."""
    async with opened(answers) as browser:
        head = await browser.head(page)
        assert (head.status_code, head.content) == (200, b"")
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            refused = await browser.request(method, page)
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
            assert "default-src 'none'" in refused.headers["content-security-policy"]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "127.0.0.1:80:80"]
)
async def test_another_name_is_refused(answers: PostgrestAnswers, host: str) -> None:
    """A site that points its own name at loopback (DNS rebinding) gets nothing, even with the token."""
    async with opened(answers, token=TOKEN) as browser:
        answer = await browser.get(f"/?token={TOKEN}", headers={"host": host})
    assert answer.status_code == 421
    assert "set-cookie" not in answer.headers
    assert answers.asked("get_status") == []


@pytest.mark.parametrize("host", ["127.0.0.1:8420", "localhost", "LOCALHOST:1", "[::1]:8420"])
async def test_the_names_of_loopback_are_served(answers: PostgrestAnswers, host: str) -> None:
    """All names of this machine will do, on any port: a tunnel has another one."""
    async with opened(answers) as browser:
        assert (await browser.get("/", headers={"host": host})).status_code == 200


async def test_behind_a_proxy_its_name_alone_is_served(answers: PostgrestAnswers) -> None:
    """The proxy's name is served, and loopback no more."""
    async with opened(answers, hosts=frozenset({"console.example.org"})) as browser:
        assert (await browser.get("/", headers={"host": "console.example.org"})).status_code == 200
        assert (await browser.get("/")).status_code == 421


async def test_the_token_opens_once_and_leaves_the_address(answers: PostgrestAnswers) -> None:
    """Without the token nothing is read; with it the browser gets a cookie, and an address without the token."""
    async with opened(answers, token=TOKEN, cookie="console_8420") as browser:
        for address in ("/", "/static/console.css", "/?token=another", "/?token=", "/?token=%ff"):
            assert (await browser.get(address)).status_code == 403
        assert answers.asked("get_status") == []
        answer = await browser.get(f"/?token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        page = await browser.get("/")
        again = await browser.get(f"/?token={TOKEN}")
    assert page.status_code == 200
    assert TOKEN not in page.text
    assert (again.status_code, again.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    ("asked", "leads_to"),
    [
        (f"/organization?id={ORGANIZATION}&days=7", f"/organization?id={ORGANIZATION}&days=7"),
        ("//evil.example/", "/evil.example/"),
        ("/%5C%5Cevil.example", "/evil.example"),
        ("/a%0D%0Aset-cookie:b=c", "/a%0D%0Aset-cookie%3Ab%3Dc"),
    ],
)
async def test_the_token_opens_any_page_and_no_other_host(answers: PostgrestAnswers, asked: str, leads_to: str) -> None:
    """A printed address may lead to a page; what looks like another host's address stays here."""
    async with opened(answers, token=TOKEN) as browser:
        answer = await browser.get(f"http://127.0.0.1{asked}{'&' if '?' in asked else '?'}token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, leads_to)


async def test_hostile_text_is_shown_and_does_nothing(bare: PostgrestAnswers) -> None:
    """A script in facts, codes or names stays text, and marks that turn the direction of text are seen."""
    facts: dict[str, Any] = {HOSTILE: HOSTILE, "deep": {"list": [SCRIPT]}}
    bare.explain_scenarios([an_explanation(scenario_type=HOSTILE, reason=HOSTILE, facts=facts)])
    bare.list_notifications([a_notification(scenario_type=HOSTILE, failure_code=HOSTILE, metadata={"name": HOSTILE})])
    line = a_report_line(delivery_status="failed", failure_code=HOSTILE)
    bare.get_organization_report(a_report(lines=(line,)))
    bare.get_status(
        a_status(
            scenarios=(a_scenario_status(scenario_type=HOSTILE),),
            failures=(a_failure_count(scenario_type=HOSTILE, failure_code=HOSTILE),),
        )
    )
    bare.list_pending([a_pending_notification(scenario_type=HOSTILE, failure_code=HOSTILE)])
    bare.list_failed([a_notification(scenario_type=HOSTILE, delivery_status="failed", failure_code=HOSTILE)])
    bare.get_settings([some_settings(scenario_type="inactivity", milestones=(10,))])
    bare.get_outcomes(some_outcomes())
    bare.get_left_out([a_left_out_pass(scenario_type=HOSTILE, left_out=(a_left_out(reason=HOSTILE),))])
    bare.explain_notification(a_notification_past(scenario_type=HOSTILE, failure_code=HOSTILE))
    bare.list_mutes([a_mute(user_id=PERSON)])
    async with opened(bare) as browser:
        for page in PAGES:
            text = (await browser.get(page)).text
            assert SCRIPT not in text
            assert "<img" not in text
            assert {"\u202e", "\u2066"} & set(text) == set()
            assert "&lt;script&gt;" in text
            assert r"\u202e" in text


async def test_what_a_notification_tells_is_not_shown(answers: PostgrestAnswers) -> None:
    """The metadata and the subjects are the app's: the pages leave them out."""
    async with opened(answers) as browser:
        text = (await browser.get(f"/person?id={PERSON}")).text + (await browser.get("/failed")).text
    assert "in metadata" not in text
    assert "a subject" not in text


@pytest.mark.parametrize(
    "address",
    [
        "/person",
        f"/person?id={SCRIPT}",
        "/organization?id=1",
        f"/notification?id={SCRIPT}",
        f"/organization?id={ORGANIZATION}&days=0",
        f"/organization?id={ORGANIZATION}&zone={SCRIPT}",
        f"/organization?id={ORGANIZATION}&zone=../../etc/hostname",
        f"/organization?id={ORGANIZATION}&days=9999999999",
        f"/organization?id={ORGANIZATION}&days=3654",
        f"/organization?id={ORGANIZATION}&days=٣",
        "/pending?organization=x",
        "/pending?limit=1001",
        "/failed?scenario=Not a name",
    ],
)
async def test_a_wrong_address_is_an_error_without_its_value(answers: PostgrestAnswers, address: str) -> None:
    """What was given is not repeated, and nothing is asked."""
    async with opened(answers) as browser:
        answer = await browser.get(address)
    assert answer.status_code == 400
    assert "script>alert" not in answer.text
    assert "Not a name" not in answer.text
    assert "expected" in answer.text


async def test_an_unknown_page_is_an_error_page(answers: PostgrestAnswers) -> None:
    """It leads back, and says nothing of what was asked for."""
    async with opened(answers) as browser:
        for address in (f"/{SCRIPT}", "/static/../app.py", "/static/%2e%2e/app.py"):
            answer = await browser.get(address)
            assert answer.status_code == 404
            assert "alert" not in answer.text


@pytest.mark.parametrize(("error", "status"), [(UnavailableException, 503), (PermissionDeniedException, 502)])
async def test_an_error_of_the_database_is_a_page(
    bare: PostgrestAnswers, error: type[ScenarioRepositoryException], status: int
) -> None:
    """The page says what went wrong and what to do, as the command line does."""
    bare.fail("explain_scenarios", error)
    async with opened(bare) as browser:
        answer = await browser.get(f"/person?id={PERSON}")
    assert answer.status_code == status
    assert "explain_scenarios" in answer.text
    assert str(PERSON) not in answer.text


async def test_a_bug_says_nothing(
    answers: PostgrestAnswers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error is a plain answer, and a line in the log with the error's type alone."""

    async def broken(_: object) -> object:
        raise ZeroDivisionError(SCRIPT)

    monkeypatch.setattr(readings.Readings, "newest", broken)
    async with opened(answers) as browser:
        answer = await browser.get("/")
    assert answer.status_code == 500
    assert SCRIPT not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"
    (told,) = [record.getMessage() for record in caplog.records if record.name == "scenario_repo.console"]
    assert told.startswith("a page failed: ZeroDivisionError at tests.unit.test_console:")


async def test_the_overview_shows_how_things_stand(answers: PostgrestAnswers) -> None:
    """What is pending, the passes, the failures and the settings are tables with a caption and headings."""
    async with opened(answers) as browser:
        text = (await browser.get("/")).text
    assert "Passes under way: inactivity." in text
    assert re.findall(r"<caption>(.*?)</caption>", text) == [
        "Deliveries: what is pending",
        "Passes over all organizations",
        "Failures by code",
        "Settings by default",
    ]
    assert "cooldown=30d" in text
    assert "invalid_token" in text


async def test_a_person_is_explained(answers: PostgrestAnswers) -> None:
    """Why she is due or not, her history and her mutes, with links to the organization."""
    async with opened(answers) as browser:
        text = (await browser.get(f"/person?id= {PERSON} ")).text
    assert "not due" in text or ">due<" in text
    assert f"/organization?id={ORGANIZATION}" in text
    assert "<dt><bdi>last_activity_at</bdi></dt>" in text
    assert (answers.asked("list_notifications")[0].arguments)["user_id"] == f"eq.{PERSON}"


async def test_an_organizations_charts_have_tables_with_the_same_numbers(answers: PostgrestAnswers) -> None:
    """A chart is an image with a name; its table has a row for each of the days."""
    async with opened(answers) as browser:
        text = (await browser.get(f"/organization?id={ORGANIZATION}&days=7")).text
    named = re.findall(r'<svg [^>]*role="img" aria-labelledby="([^"]+)"', text)
    assert named == ["over-time-name", "per-scenario-name"]
    assert all(f'id="{name}"' in text for name in named)
    (table,) = re.findall(r"<caption>Notifications per day \(UTC\)</caption>.*?</table>", text, re.DOTALL)
    assert table.count('scope="row"') == 7
    assert f"/failed?organization={ORGANIZATION}" in text
    assert answers.asked("get_organization_report")[0].arguments["p_organization_id"] == str(ORGANIZATION)


async def test_numbers_about_few_persons_are_left_out(answers: PostgrestAnswers) -> None:
    """Of outcomes and of who was left out: what the database leaves out is said to be about fewer than 5."""
    async with opened(answers) as browser:
        text = (await browser.get(f"/organization?id={ORGANIZATION}")).text
    (outcomes,) = re.findall(r"<caption>Who did what the scenario hopes for.*?</table>", text, re.DOTALL)
    assert outcomes.count("fewer than 5") == 3
    assert "25.0%" in outcomes
    assert "<bdi>16.8% to 35.5%</bdi>" in outcomes
    (left_out,) = re.findall(r"<caption>Whom the last pass left out.*?</table>", text, re.DOTALL)
    assert left_out.count("fewer than 5") == 1
    assert "names no cause" in text


async def test_what_has_no_date_is_not_said_to_be_in_time(answers: PostgrestAnswers) -> None:
    """Where no date says when it was done, the row says so."""
    answers.get_outcomes(some_outcomes(says_when=False))
    async with opened(answers) as browser:
        dated, undated = [(await browser.get(f"/organization?id={ORGANIZATION}")).text for _ in range(2)]
    assert (dated.count(", by now</bdi>"), undated.count(", by now</bdi>")) == (0, 2)


async def test_a_report_of_few_persons_has_no_number_and_says_so(bare: PostgrestAnswers) -> None:
    """Days of fewer than 5 have one row without a date, and what is in no number is named."""
    few = a_report_line(day=None, delivery_status="failed", failure_code="gone", notifications=None)
    lines = (a_report_line(day=None, notifications=6), few)
    bare.get_organization_report(a_report(organization_id=ORGANIZATION, lines=lines))
    bare.get_outcomes(some_outcomes())
    bare.get_left_out([])
    bare.get_settings([])
    async with opened(bare) as browser:
        text = (await browser.get(f"/organization?id={ORGANIZATION}&days=7")).text
    (table,) = re.findall(r"<caption>Notifications per day \(UTC\)</caption>.*?</table>", text, re.DOTALL)
    row = re.sub(r"<[^>]*>", " ", table.rpartition("<tr")[2]).split()
    assert " ".join(row).endswith("days of fewer than 5, together 6 0 0")
    assert "6 notifications triggered" in text
    assert "Not in the bars: 6 of days" in text
    assert "not counted, fewer than 5 persons each: inactivity failed gone" in text


async def test_the_days_are_those_of_a_time_zone(answers: PostgrestAnswers) -> None:
    """A day begins at midnight there, and the report is asked for that zone."""
    async with opened(answers) as browser:
        await browser.get(f"/organization?id={ORGANIZATION}&days=7&zone=Asia/Kathmandu")
    asked = answers.asked("get_organization_report")[0].arguments
    assert asked["p_time_zone"] == "Asia/Kathmandu"
    assert asked["p_since"].endswith(("T00:00:00+05:45", "T18:15:00+00:00", "T18:15:00Z"))


async def test_what_happened_to_a_notification_is_told(answers: PostgrestAnswers) -> None:
    """In the sentences of the command line, with links; the person's history leads there."""
    async with opened(answers) as browser:
        text = (await browser.get(f"/notification?id={NOTIFICATION}")).text
        history = (await browser.get(f"/person?id={PERSON}")).text
    assert "It was sent at" in text
    assert f"/person?id={PERSON}" in text
    assert re.search(r'<th scope="row"><a href="/notification\?id=[0-9a-f-]{36}">', history)


async def test_a_notification_that_is_gone_is_not_found(bare: PostgrestAnswers) -> None:
    """Purged or never there: a page says so."""
    bare.explain_notification(None)
    async with opened(bare) as browser:
        answer = await browser.get(f"/notification?id={NOTIFICATION}")
    assert answer.status_code == 404
    assert "no notification of this id" in answer.text


async def test_lists_are_scoped_and_grow(bare: PostgrestAnswers) -> None:
    """A full page of a list leads to up to 1,000 rows of the same scope."""
    bare.list_pending([a_pending_notification(user_id=PERSON)] * 100)
    async with opened(bare) as browser:
        text = (await browser.get(f"/pending?organization={ORGANIZATION}&scenario=inactivity")).text
    asked = bare.asked("list_pending")[0].arguments
    assert (asked["p_organization_id"], asked["p_scenario_type"]) == (str(ORGANIZATION), "inactivity")
    more = f"/pending?organization={ORGANIZATION}&amp;scenario=inactivity&amp;limit=1000"
    assert f'href="{more}"' in text
    assert f"/person?id={PERSON}" in text


async def test_many_who_look_are_one_reading(answers: PostgrestAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A status reads all that is pending: it is read once for two seconds, and compared with the one before."""
    async with opened(answers) as browser:
        for _ in range(3):
            await browser.get("/live")
        assert len(answers.asked("get_status")) == 1
        monkeypatch.setattr(readings, "_FRESH_SECONDS", 0)
        answers.get_status(a_status(scenarios=(a_scenario_status(evaluated=500, due_now=4, waiting=0, leased=0),)))
        await browser.get("/live")
        text = (await browser.get("/live")).text
    assert ": 100 mentors evaluated, " in text


async def test_a_slow_database_is_asked_once_for_all_who_wait(
    answers: PostgrestAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tabs that wait for a reading share it, and its failure; the next one asks anew."""
    asked, answered = 0, asyncio.Event()

    async def fail_late(_: object) -> NoReturn:
        nonlocal asked
        asked += 1
        await answered.wait()
        raise UnavailableException(operation="get_status")

    monkeypatch.setattr(ScenarioNotificationRepository, "get_status", fail_late)
    async with opened(answers) as browser:
        tabs = [asyncio.create_task(browser.get("/live")) for _ in range(3)]
        await asyncio.sleep(0)
        while not asked:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        gone = tabs.pop()
        gone.cancel()
        answered.set()
        statuses = [(await tab).status_code for tab in tabs]
        assert (statuses, asked) == ([503, 503], 1)
        assert (await browser.get("/live")).status_code == 503
    assert asked == 2


@pytest.mark.parametrize(
    ("days", "caption", "first", "rows"),
    [
        (7, r"Notifications per day \(UTC\)", "2026-01-09", 7),
        (100, r"Notifications per day \(UTC\)", "2025-10-08", 100),
        (365, r"Notifications per week, from Monday \(UTC\)", "2025-01-13", 53),
        (3650, r"Notifications per month \(UTC\)", "2016-01", 121),
    ],
)
def test_a_long_time_has_bars_for_weeks_or_months(days: int, caption: str, first: str, rows: int) -> None:
    """A bar is wide enough to see, and none is missing: each line is counted in the bar of its day."""
    until = datetime(2026, 1, 15, 12, tzinfo=UTC)
    since = until.replace(hour=0) - timedelta(days=days - 1)
    lines = tuple(a_report_line(day=day.date(), notifications=3) for day in (since, until))
    figure = organizations.over_time(a_report(since=since, until=until, time_zone="UTC", lines=lines))
    assert re.fullmatch(caption, figure.table.caption)
    assert (figure.table.rows[0][0], len(figure.table.rows)) == (first, rows)
    assert sum(int(str(number)) for row in figure.table.rows for number in row[1:]) == 6
    assert str(figure.drawn).count('class="bar"') == 2


async def test_a_list_of_one_organization_does_not_repeat_it(answers: PostgrestAnswers) -> None:
    """Of all organizations each row names its own."""
    async with opened(answers) as browser:
        for page in ("/pending", "/failed"):
            assert '<th scope="col">organization</th>' in (await browser.get(page)).text
            assert '<th scope="col">organization</th>' not in (await browser.get(f"{page}?organization={PERSON}")).text


async def test_a_first_look_says_what_begins(bare: PostgrestAnswers) -> None:
    """Without data the pages say what is missing, and what to run."""
    bare.get_status(a_status(scenarios=(), failures=()))
    bare.get_settings([])
    bare.get_organization_report(a_report(lines=()))
    bare.get_left_out([])
    async with opened(bare) as browser:
        overview = (await browser.get("/")).text
        organization = (await browser.get(f"/organization?id={ORGANIZATION}")).text
    assert "scenario-repo evaluate begins one" in overview
    assert "Nothing failed in the last 7 days." in overview
    assert "does not exist looks the same" in organization


@pytest.mark.parametrize(
    ("age", "waits", "seen"),
    [
        (timedelta(seconds=20), "less than a minute", "just now"),
        (timedelta(minutes=5), "5m", "5m ago"),
        (timedelta(hours=2, minutes=3), "2h 3m", "2h 3m ago"),
        (timedelta(days=2, hours=1), "2d 1h", "2d 1h ago"),
    ],
)
def test_a_time_ago_is_said_in_words(age: timedelta, waits: str, seen: str) -> None:
    """Two units at most, and no "0m ago"."""
    moment = datetime.now(UTC) - age
    assert pending_line(1023, moment) == f"1,023 pending, the longest due for {waits}"
    assert ago(moment) == seen


def test_a_chart_has_no_script_style_or_text_but_its_labels() -> None:
    """Of what pygal draws, only shapes and labels are left, and a hostile label stays a label."""
    for draw in (stacked, lying):
        drawn = str(draw([SCRIPT, "b"], {"sent": [1, 2], "failed": [0, 3]}, name_id="name"))
        assert re.findall(r"<(script|style|title|desc|defs)|\sstyle=|<!--", drawn) == []
        assert drawn.count("&lt;script&gt;") == 1
        assert drawn == str(draw([SCRIPT, "b"], {"sent": [1, 2], "failed": [0, 3]}, name_id="name"))


@pytest.mark.parametrize(
    ("most", "steps"), [(0, [0, 1]), (1, [0, 1]), (7, [0, 2, 4, 6, 8]), (5001, [0, 2000, 4000, 6000])]
)
def test_an_axis_has_whole_steps(most: int, steps: list[int]) -> None:
    """There is no half of a notification."""
    assert steps_to(most) == steps


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\u202eb", r"a\u202eb"),
        ("\U000e0041", r"\U000e0041"),
        ("\x00\n", r"\u0000\u000a"),
        ("blå 😀", "blå 😀"),
        (None, ""),
    ],
)
def test_what_can_not_be_seen_is_shown_as_its_escape(value: object, text: str) -> None:
    """Controls and marks of direction are written out; letters of any language stay."""
    assert shown(value) == text


def test_a_long_text_is_cut() -> None:
    """A page stays readable, and says how long the text is."""
    assert shown("x" * 5000) == f"{'x' * 300} … (5,000 characters)"


def test_statuses_of_the_charts_are_all_there_are() -> None:
    """A new status would be missing in the bars."""
    assert set(STATUSES) == set(DeliveryStatus)
