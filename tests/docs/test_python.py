"""The short examples in Python run, against a server that stores what it gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
import respx

from scenario_repo import LeasedNotification, ScenarioNotificationRepository, SuppressDelivery, connect
from tests.docs.pages import Block, blocks
from tests.factories import (
    ORGANIZATION_ID,
    PUBLISHABLE_KEY,
    REST_URL,
    USER_ID,
    leased_row,
    minted_jwt,
    notification_row,
)

pytest_plugins = ["tests.unit.command_line"]
pytestmark = pytest.mark.usefixtures("environment")


def _names(block: Block) -> dict[str, Any]:
    """Run a block, and return the names that it defines."""
    names: dict[str, Any] = {}
    exec(compile(block.text, block.place, "exec"), names)  # noqa: S102 - our own text
    return names


def example(page: str, name: str) -> Any:  # noqa: ANN401 - whatever the page defines
    """Return what a page's blocks without a file's name call ``name``."""
    (found,) = (names[name] for names in map(_names, _unnamed(page)) if name in names)
    return found


def _unnamed(page: str) -> list[Block]:
    return [block for block in blocks("python", page) if not block.name or block.name == "app.py"]


@pytest.fixture
def stored() -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Store rows by table, and give them back as PostgREST does."""
    tables: dict[str, list[dict[str, Any]]] = {}

    def store(request: httpx.Request) -> httpx.Response:
        given = json.loads(request.content)
        rows = given if isinstance(given, list) else [given]
        table = request.url.path.rpartition("/")[2]
        tables.setdefault(table, []).extend(rows)
        # As Supabase writes intervals; and with what the database adds.
        added = [{"min_gap": "PT4H"} if row.get("min_gap") else {} for row in rows]
        if table != "scenario_delivery_policy":
            added = [{"id": str(uuid4())} for _ in rows]
        return httpx.Response(201, json=[{**row, **more} for row, more in zip(rows, added, strict=True)])

    with respx.mock(base_url=REST_URL, assert_all_called=False) as server:
        server.route(method__in=["POST", "PUT"], path__regex="/scenario_[a-z_]+").mock(side_effect=store)
        yield tables


async def test_people_are_left_in_peace(stored: dict[str, list[dict[str, Any]]]) -> None:
    """A policy for all, one that inherits, days off, and a mute."""
    async with connect() as client:
        repository = ScenarioNotificationRepository(client)
        await example("docs/right-moment.md", "set_up")(repository, ORGANIZATION_ID)
        await example("docs/right-moment.md", "leave_alone")(repository, USER_ID)
    everybody, one = stored["scenario_delivery_policy"]
    assert (everybody["time_zone"], one["time_zone"], one["weekdays"]) == ("Europe/Oslo", None, [1, 2, 3, 4, 5, 6, 7])
    assert [day["stops_clock"] for day in stored["scenario_days_off"]] == [True]
    assert [mute["scenario_type"] for mute in stored["scenario_mutes"]] == ["inactivity"]


async def test_a_user_reads_with_her_own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request has the publishable key, and her token."""
    monkeypatch.setenv("SUPABASE_PUBLISHABLE_KEY", PUBLISHABLE_KEY)
    token = minted_jwt("authenticated")
    with respx.mock(base_url=REST_URL) as server:
        route = server.get("/scenario_notifications").respond(json=[notification_row(delivery_status="sent")])
        (mine,) = await example("docs/security.md", "my_notifications")(USER_ID, token)
    headers = route.calls.last.request.headers
    assert (headers["apikey"], headers["Authorization"]) == (PUBLISHABLE_KEY, f"Bearer {token}")
    assert mine.user_id == USER_ID


async def test_an_own_type_goes_by_its_name() -> None:
    """In place of a ScenarioType."""
    with respx.mock(base_url=REST_URL) as server:
        route = server.get("/scenario_notifications").respond(json=[{"triggered_at": "2026-11-02T08:30:00Z"}])
        async with connect() as client:
            told = await example("docs/own-scenarios.md", "last_told")(ScenarioNotificationRepository(client), USER_ID)
    assert told == datetime(2026, 11, 2, 8, 30, tzinfo=UTC)
    assert route.calls.last.request.url.params["scenario_type"] == "eq.first_session"


def test_facts_are_typed() -> None:
    """The example counts the days of an absence."""
    since = datetime.now(UTC) - timedelta(days=40, hours=1)
    away = LeasedNotification(**leased_row(metadata={"last_activity_at": since.isoformat()}))
    days_away = example("docs/scenarios.md", "days_away")
    assert days_away(away) == 40
    assert days_away(LeasedNotification(**leased_row(scenario_type="first_session"))) is None


async def test_the_first_sender_suppresses_what_nobody_can_get(capsys: pytest.CaptureFixture[str]) -> None:
    """And says what it would send."""
    send = example("docs/index.md", "send")
    await send(LeasedNotification(**leased_row(device_tokens=[{"token": "token", "platform": "ios"}])))
    assert capsys.readouterr().out == "send inactivity to 1 devices\n"
    with pytest.raises(SuppressDelivery):
        await send(LeasedNotification(**leased_row()))
