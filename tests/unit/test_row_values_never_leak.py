"""An exception shows no key, no row value and nothing that a server quotes."""

from __future__ import annotations

import json
import logging

import httpx
import pytest
import respx
from supabase import AsyncClientOptions, create_async_client

from scenario_repo import ScenarioNotificationRepository, ScenarioRepositoryException, ScenarioType
from tests.factories import PROJECT_URL, USER_ID, new_notification, notification_row
from tests.unit.leaks import MARKER, told_by

KEY = f"sb_secret_{MARKER}"

ANSWERS = {
    "details": httpx.Response(
        409, json={"code": "23505", "message": "no", "hint": None, "details": f"Key (a)=({MARKER}) exists."}
    ),
    "hint": httpx.Response(400, json={"code": "42703", "message": "no", "hint": MARKER, "details": None}),
    "message": httpx.Response(400, json={"code": "22P02", "message": f'invalid input: "{MARKER}"'}),
    "quoted constraint": httpx.Response(400, json={"code": "22P02", "message": 'invalid: constraint "SECRET_ROW"'}),
    "raised message": httpx.Response(400, json={"code": "P0001", "message": MARKER}),
    "code": httpx.Response(500, json={"code": MARKER, "message": "no"}),
    "code in a header": httpx.Response(500, headers={"Proxy-Status": f"PostgREST; error={MARKER}"}),
    "headers": httpx.Response(503, headers={"Retry-After": MARKER, "Set-Cookie": f"a={MARKER}", "Location": MARKER}),
    "reason": httpx.Response(503, extensions={"reason_phrase": MARKER.encode()}),
    "HTML": httpx.Response(502, html=f"<html>{MARKER}</html>"),
    "truncated error": httpx.Response(409, content=f'{{"code":"23505","details":"{MARKER}'.encode()),
    "row that is cut": httpx.Response(
        200, content=json.dumps([notification_row(metadata={"a": MARKER})]).encode()[:-9]
    ),
    "row that does not fit": httpx.Response(
        200, json=[notification_row(triggered_at=MARKER, scenario_type=MARKER, metadata=MARKER, user_id=MARKER)]
    ),
    "key that does not fit": httpx.Response(200, json={MARKER: MARKER}),
    "text": httpx.Response(200, text=MARKER),
}


async def _failures(repository: ScenarioNotificationRepository) -> list[ScenarioRepositoryException]:
    with pytest.raises(ScenarioRepositoryException) as of_read:
        await repository.get_last_sent_at(USER_ID, ScenarioType.INACTIVITY)
    with pytest.raises(ScenarioRepositoryException) as of_write:
        await repository.insert_notification(new_notification(metadata={"a": MARKER}))
    return [of_read.value, of_write.value]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))
async def test_nothing_that_was_sent_or_answered_is_told(
    answer: httpx.Response, rest: respx.MockRouter, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither ``str``, ``repr``, attributes, traceback nor log shows the key, the metadata or the answer."""
    caplog.set_level(logging.DEBUG, logger="scenario_repo")
    client = await create_async_client(PROJECT_URL, KEY, AsyncClientOptions(httpx_client=http))
    rest.route().mock(return_value=answer)

    for failure in await _failures(ScenarioNotificationRepository(client)):
        assert MARKER not in told_by(failure)
        assert "SECRET_ROW" not in told_by(failure)
    assert not [record for record in caplog.records if record.name.startswith("scenario_repo")]


async def test_a_key_that_no_header_can_carry_is_not_told(http: httpx.AsyncClient) -> None:
    """A key that httpx or the protocol refuses to send is not quoted in the error."""
    client = await create_async_client(PROJECT_URL, f"{KEY}ö", AsyncClientOptions(httpx_client=http))

    for failure in await _failures(ScenarioNotificationRepository(client)):
        assert MARKER not in told_by(failure)
