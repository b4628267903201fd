"""Hostile input over HTTP: as the worker, past all the checks of Python, straight to the tables and functions.

Every refusal is the client's fault (4xx) with a code, comes in time, and leaves the data as it was.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from scenario_repo import (
    InvalidDataException,
    NewScenarioNotification,
    NotificationClaim,
    ScenarioNotificationRepository,
    ScenarioRepositoryException,
    ScenarioType,
    SkipReason,
)
from scenario_repo._postgrest import FUNCTIONS
from tests.http.hostile_values import GOOD, HOSTILE, NOBODY
from tests.http.platform_differences import ANY_JSON_REACHES_POSTGRESQL, REFUSED_AS_THE_SERVERS_FAULT
from tests.http.supabase_platform import Platform

STATEMENT_SECONDS: Final = 8.0


class Scene:
    """A worker who speaks raw HTTP, and one user's rows that nothing may change."""

    def __init__(self, platform: Platform, http: httpx.Client, owner: psycopg.Connection, user_id: UUID) -> None:
        self.platform, self.http, self.owner, self.user_id = platform, http, owner, user_id
        self.organization_id = uuid4()

    def send(self, method: str, path: str, body: object = None, **parameters: str) -> httpx.Response:
        """Send JSON as it is, lone surrogates and all."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if content else {}
        started = time.monotonic()
        answer = self.http.request(method, path, params=parameters, content=content, headers=headers)
        assert time.monotonic() - started < STATEMENT_SECONDS
        return answer

    def contents(self) -> list[tuple[Any, ...]]:
        """Read the user's notifications, whole."""
        return self.owner.execute(
            "select to_jsonb(t)::text from public.scenario_notifications as t where user_id = %s order by id",
            [self.user_id],
        ).fetchall()


@pytest.fixture(scope="module")
def scene(platform: Platform) -> Iterator[Scene]:
    """Put one user with two notifications there."""
    (user_id,) = platform.new_users(1)
    key = platform.secret_key
    with (
        psycopg.connect(platform.database_url, autocommit=True, prepare_threshold=None) as owner,
        httpx.Client(
            base_url=f"{platform.url}/rest/v1",
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
            timeout=2 * STATEMENT_SECONDS,
        ) as http,
    ):
        scene = Scene(platform, http, owner, user_id)
        for kind, value in (("inactivity", None), ("milestone", 10)):
            row = {"user_id": str(user_id), "organization_id": str(scene.organization_id), "scenario_type": kind}
            assert scene.send("POST", "/scenario_notifications", row | {"milestone_value": value}).status_code == 201
        yield scene
        organizations = [scene.organization_id, UUID(GOOD["p_organization_id"])]
        owner.execute("delete from public.scenario_evaluation_config where organization_id = any(%s)", [organizations])
    platform.delete_users([user_id])


def assert_clients_fault(scene: Scene, answer: httpx.Response, *said: object) -> None:
    """Take a 4xx with a code for an answer, and neither a crash nor a timeout."""
    if answer.status_code == 500 and answer.json()["code"] in REFUSED_AS_THE_SERVERS_FAULT.on(scene.platform):
        return
    assert 400 <= answer.status_code < 500, (*said, answer.status_code, answer.text)
    assert answer.json()["code"][:2] not in {"XX", "57", "53", "58"}, (*said, answer.text)


def is_of_its_kind(good: object, value: object) -> bool:
    """Tell whether a value is at least the kind of JSON that belongs there."""
    if good is None or isinstance(good, str):
        return isinstance(value, str)
    return isinstance(value, float | int) and isinstance(good, float | int)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_hostile_arguments_of_a_function_are_refused_or_answered(scene: Scene, function: str) -> None:
    """Each argument, in turn, is everything it should not be."""
    before = scene.contents()
    good = {name: GOOD[name] for name in FUNCTIONS[function]}
    for name in good:
        for value in HOSTILE[name]:
            if name == "p_organization_id" and value is None:
                continue  # everybody's
            if not (ANY_JSON_REACHES_POSTGRESQL.on(scene.platform) or is_of_its_kind(GOOD[name], value)):
                continue
            answer = scene.send("POST", f"/rpc/{function}", good | {name: value})
            if answer.status_code == 200:
                assert isinstance(answer.json(), list | dict)
            else:
                assert_clients_fault(scene, answer, name, repr(value)[:60])
    assert scene.contents() == before


OUT_OF_BOUNDS: Final[dict[str, dict[str, tuple[Any, ...]]]] = {
    "scenario_lease_notifications": {
        "p_limit": (None, 0, 1_001),
        "p_lease_seconds": (None, 0, -1, 86_401, "NaN", "Infinity"),
    },
    "scenario_list_pending": {"p_limit": (None, 0, 1_001), "p_after_at": ("2026-06-01T00:00:00Z",)},
    "scenario_purge_notifications": {"p_limit": (None, 0, 100_001), "p_older_than_seconds": (None, -1, 4e9, "NaN")},
    "scenario_evaluate": {
        "p_limit": (None, 0, 100_001),
        "p_scenario_type": (None, "", "x"),
        "p_dry_run": (None,),
        "p_due_within_seconds": (-1, 4e9, "NaN", "Infinity"),
    },
    "scenario_evaluate_next_page": {
        "p_limit": (None, 0, 100_001),
        "p_scenario_type": (None, "", "x"),
        "p_due_within_seconds": (-1, 4e9, "NaN", "Infinity"),
    },
    "scenario_get_outcomes": {
        "p_scenario_type": (None, "", "x"),
        "p_within_seconds": (None, 0, -1, 4e9, "NaN", "Infinity"),
    },
    "scenario_get_organization_report": {"p_time_zone": (None, "", "Europe/Nowhere")},
    "scenario_explain_notification": {"p_id": (None,)},
    "scenario_check_rule": {"p_samples": (None, -1, 101), "p_scenario_type": (None, "", "x")},
    "scenario_claim_notifications": {
        "p_claims": (
            {},
            7,
            True,
            [{}] * 20_001,
            {"user_id": [NOBODY] * 20_001},
            {"user_id": [NOBODY], "subjects": []},
            {"user_id": [], "everybody": True},
        ),
        "p_lease_seconds": (0, -1, 86_401, "NaN", "Infinity"),
    },
    "scenario_settle_notifications": {"p_results": (None, {}, 7, [{"result": "sent"}] * 1_001)},
    "scenario_cancel_notifications": {"p_ids": (None, [NOBODY] * 1_001)},
    "scenario_retry_notifications": {"p_ids": (None, [NOBODY] * 1_001)},
    "scenario_get_last_sent_at_many": {"p_user_ids": (None, [NOBODY] * 50_001)},
    "scenario_get_last_delivered_at_many": {"p_user_ids": (None, [NOBODY] * 50_001)},
    "scenario_has_been_sent_since_threshold_many": {"p_user_ids": (None, [NOBODY] * 50_001), "p_cutoff": (None,)},
    "scenario_has_been_delivered_since_many": {"p_user_ids": (None, [NOBODY] * 50_001), "p_cutoff": (None,)},
    "scenario_get_milestone_record_many": {"p_user_ids": (None, [NOBODY] * 50_001), "p_milestone_value": (None,)},
}


@pytest.mark.parametrize("function", OUT_OF_BOUNDS)
def test_what_is_out_of_bounds_is_refused_by_the_database_itself(scene: Scene, function: str) -> None:
    """A worker without this library's checks gets the refusal's code, and nothing runs without a bound."""
    good = {name: GOOD[name] for name in FUNCTIONS[function]}
    for name, values in OUT_OF_BOUNDS[function].items():
        for value in values:
            answer = scene.send("POST", f"/rpc/{function}", good | {name: value})
            elements = value.get("user_id") if isinstance(value, dict) else value
            too_many = isinstance(elements, list) and len(elements) > 1_000
            code = "SR003" if too_many else "SR004" if name == "p_scenario_type" else "SR001"
            assert (answer.status_code, answer.json()["code"]) == (400, code), (name, repr(value)[:60])


BODIES: Final = {
    "nothing": b"",
    "half": b'{"p_user_id": ',
    "no JSON": b"<xml/>",
    "a list": b"[]",
    "a string": b'"x"',
    "not UTF-8": b'{"p_user_id": "\xff\xfe"}',
    "an unknown argument": b'{"p_user": "x"}',
    "one argument too many": b'{"p_user_id": null, "p_role": "service_role"}',
    "deeply nested": b'{"p_user_id": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
def test_a_body_that_is_no_call_is_refused(scene: Scene, body: bytes) -> None:
    """A body that is no JSON object of the function's arguments runs nothing."""
    answer = scene.http.post("/rpc/scenario_explain", content=body, headers={"Content-Type": "application/json"})
    assert_clients_fault(scene, answer, body[:40])


FILTERS: Final = [
    {"user_id": "eq.'; drop table scenario_notifications; --"},
    {"user_id": "eq.x) or true --"},
    {"scenario_type": "like.%\u0000"},
    {"or": "(user_id.is.null"},
    {"or": "(1.eq.1)"},
    {"order": "triggered_at;drop table x"},
    {"select": "*,pg_sleep(10)"},
    {"select": "id::regclass::text::int"},
    {"limit": "-1"},
    {"limit": "1;"},
    {"offset": "x"},
    {"id": "in.(select id from auth.users)"},
    {"triggered_at": "gt.infinity-"},
    {"milestone_value": f"eq.{10**400}"},
]


@pytest.mark.parametrize("parameters", FILTERS, ids=str)
def test_hostile_filters_are_refused_or_find_nothing(scene: Scene, parameters: dict[str, str]) -> None:
    """What is no filter is an error of the client's; nothing is executed that was meant as a value."""
    before = scene.contents()
    own = {"user_id": f"eq.{scene.user_id}"} if "user_id" not in parameters else {}
    answer = scene.send("GET", "/scenario_notifications", None, **(own | parameters))
    assert answer.status_code < 500
    if answer.status_code == 200:
        assert len(answer.json()) <= len(before)
    assert scene.contents() == before


ROWS: Final[dict[str, dict[str, object]]] = {
    "infinite": {"triggered_at": "infinity"},
    "NUL in metadata": {"metadata": {"a": "\u0000"}},
    "lone surrogate": {"metadata": {"a": "\ud800"}},
    "metadata that is no object": {"metadata": [1]},
    "1 MB of metadata": {"metadata": {"a": "x" * 1_000_000}},
    "milestone beyond an integer": {"scenario_type": "milestone", "milestone_value": 2**31},
    "no milestone": {"scenario_type": "milestone", "milestone_value": 0},
    "unknown type": {"scenario_type": "'; drop table x; --"},
    "unknown status": {"delivery_status": "SENT"},
    "unknown column": {"is_admin": True},
    "unknown user": {"user_id": NOBODY},
    "window after its trigger": {"cooldown_window_start": "9999-01-01"},
    "settled, and pending": {"settled_at": "2026-06-01T00:00:00Z"},
    "held for good, and pending": {"held_until": "infinity"},
    "handed out for ever": {"deliver_until": "infinity"},
    "of an unknown origin": {"origin": "SYSTEM"},
    "an e-mail address as a subject": {"subjects": ["a@b.example"]},
    "a thousand subjects": {"subjects": ["a"] * 1_000},
    "a provider's words": {"failure_code": "Unregistered: a@b.example"},
}


@pytest.mark.parametrize("fault", ROWS.values(), ids=list(ROWS))
def test_hostile_rows_are_refused(scene: Scene, fault: dict[str, object]) -> None:
    """As a row, as one of several and as an update: the constraints refuse it, and the good ones with it."""
    before = scene.contents()
    good = {
        "user_id": str(scene.user_id),
        "organization_id": str(scene.organization_id),
        "scenario_type": "inactivity",
    }
    for body in (good | fault, [good | dict.fromkeys(fault.keys() - good.keys()), good | fault]):
        assert_clients_fault(scene, scene.send("POST", "/scenario_notifications", body))
    own = {"user_id": f"eq.{scene.user_id}", "scenario_type": "eq.inactivity"}
    assert_clients_fault(scene, scene.send("PATCH", "/scenario_notifications", fault, **own))
    assert scene.contents() == before


# Through the repository ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "at",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(1582, 10, 10, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2026, 6, 1, 12, 0, 0, 999999, tzinfo=UTC),
    ],
    ids=str,
)
async def test_the_ends_of_time_go_in_and_come_out(
    repository: ScenarioNotificationRepository, user_id: UUID, organization_id: UUID, at: datetime
) -> None:
    """From year 1 on a moment is kept exactly, listed, compared and paged by."""
    row = await repository.insert_notification(
        NewScenarioNotification(
            user_id=user_id,
            organization_id=organization_id,
            scenario_type=ScenarioType.WELCOME_BACK,
            triggered_at=at,
        ).model_copy(update={"delivery_status": "sent"})
    )
    assert row.triggered_at == at
    assert await repository.get_last_sent_at(user_id, ScenarioType.WELCOME_BACK) == at
    assert await repository.get_last_sent_at_many([user_id], ScenarioType.WELCOME_BACK) == {user_id: at}
    assert await repository.has_been_sent_since_threshold(user_id, ScenarioType.WELCOME_BACK, at)
    assert await repository.list_notifications(user_id) == [row]
    assert await repository.list_notifications(user_id, before=row) == []


async def test_nothing_is_triggered_more_than_a_day_ahead(
    repository: ScenarioNotificationRepository, user_id: UUID, organization_id: UUID
) -> None:
    """A clock may be a little ahead; what lies further ahead would hold against every claim until then."""
    now = datetime.now(UTC)
    for at, fits in ((now + timedelta(hours=23), True), (now + timedelta(hours=25), False)):
        new = NewScenarioNotification(
            user_id=user_id, organization_id=organization_id, scenario_type=ScenarioType.WELCOME_BACK, triggered_at=at
        )
        if fits:
            assert (await repository.insert_notification(new)).triggered_at == at
        else:
            with pytest.raises(InvalidDataException, match="triggered_at_is_at_most_a_day_ahead"):
                await repository.insert_notification(new)


async def test_a_row_at_the_end_of_time_does_not_cost_the_rest_of_the_batch(
    platform: Platform,
    repository: ScenarioNotificationRepository,
    new_users: Callable[[int], list[UUID]],
    organization_id: UUID,
) -> None:
    """One user's hold lasts to the last microsecond of 9999: skipped, and the others' outcomes are told."""
    last, other = new_users(2)
    await repository.insert_notification(
        NewScenarioNotification(
            user_id=last,
            organization_id=organization_id,
            scenario_type=ScenarioType.INACTIVITY,
        )
    )
    platform.execute(
        "update public.scenario_notifications set deliver_until = '9999-12-31 23:59:59.999999+00' where user_id = %s",
        last,
    )
    outcomes = await repository.claim_notifications(
        [
            NotificationClaim(
                user_id=user,
                organization_id=organization_id,
                scenario_type=ScenarioType.INACTIVITY,
                cooldown=timedelta(days=36_525),
            )
            for user in (last, other)
        ]
    )
    assert [(outcome.claimed, outcome.skip_reason) for outcome in outcomes] == [
        (False, SkipReason.COOLDOWN),
        (True, None),
    ]


@pytest.fixture
def unchanged(platform: Platform, user_id: UUID, organization_id: UUID) -> Callable[[], Counter[str]]:
    """Look at what the user has."""

    def look() -> Counter[str]:
        rows = platform.execute(
            "select to_jsonb(t)::text from public.scenario_notifications as t"
            " where user_id = %s or organization_id = %s",
            user_id,
            organization_id,
        )
        return Counter(str(row) for (row,) in rows)

    return look


@pytest.mark.parametrize(
    "metadata",
    [{"a": float("nan")}, {"a": "\0"}, {"a": "\ud800"}, {"a": object()}, [1], 7],
    ids=["NaN", "NUL", "lone surrogate", "object", "list", "number"],
)
async def test_metadata_past_the_models_checks_fails_typed_and_writes_nothing(
    repository: ScenarioNotificationRepository,
    unchanged: Callable[[], Counter[str]],
    user_id: UUID,
    organization_id: UUID,
    metadata: object,
) -> None:
    """Behind the model's back, what JSON or PostgreSQL can't hold is refused, alone or in a batch, and not written."""
    claim = NotificationClaim(
        user_id=user_id,
        organization_id=organization_id,
        scenario_type=ScenarioType.INACTIVITY,
        cooldown=timedelta(days=1),
    )
    new = NewScenarioNotification(
        user_id=user_id, organization_id=organization_id, scenario_type=ScenarioType.INACTIVITY
    )
    with pytest.raises(ScenarioRepositoryException) as refused:
        await repository.insert_notification(new.model_copy(update={"metadata": metadata}))
    assert isinstance(refused.value, InvalidDataException)
    spoilt = claim.model_copy(update={"metadata": metadata})
    try:
        (outcome,) = await repository.claim_notifications([spoilt])
    except ScenarioRepositoryException as error:
        assert isinstance(error, InvalidDataException)  # noqa: PT017 - either way is right
    else:
        assert outcome.skip_reason is SkipReason.INVALID_METADATA
    assert unchanged() == Counter()
