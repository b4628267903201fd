"""The calls that the client section measures: ours, and the same by hand on supabase-py."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

from pydantic import AwareDatetime, TypeAdapter

from scenario_repo import (
    ClaimOutcome,
    DeliveryResult,
    EvaluationPage,
    LeasedNotification,
    NewScenarioNotification,
    NotificationClaim,
    ScenarioNotification,
    ScenarioType,
    Settlement,
    SettlementAnswer,
)
from tests.factories import claims_answer

C = TypeVar("C")

NOTIFICATIONS = TypeAdapter(list[ScenarioNotification])
OUTCOMES = TypeAdapter(list[ClaimOutcome])
TIMES = TypeAdapter(list[AwareDatetime | None])
LEASED = TypeAdapter(list[LeasedNotification])
ANSWERS = TypeAdapter(list[SettlementAnswer])
PAGE = TypeAdapter(EvaluationPage)
TABLE = "scenario_notifications"
COLUMNS = ",".join(ScenarioNotification.model_fields)
KIND = ScenarioType.INACTIVITY
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
EVALUATED = {"evaluated": 10_000, "due": 20, "claimed": 10, "history": 0, "skipped": {"in_cooldown": 10}}
METADATA = {"last_activity_at": "2026-09-01T12:00:00+00:00"}


def calls(call: type[C]) -> list[tuple[str, C]]:
    """Make the calls, by name; `call` is what holds one."""
    make: Any = call
    user_id, organization_id = uuid4(), uuid4()
    new = NewScenarioNotification(
        user_id=user_id, organization_id=organization_id, scenario_type=KIND, metadata=METADATA
    )
    row = _row(user_id, organization_id)
    made = {
        "insert_notification": make(
            lambda repository: repository.insert_notification(new),
            lambda client: _insert(client, new),
            json.dumps([row]).encode(),
        ),
        "get_last_sent_at": make(
            lambda repository: repository.get_last_sent_at(user_id, KIND),
            lambda client: _last_sent(client, user_id),
            json.dumps([{"triggered_at": row["triggered_at"]}]).encode(),
        ),
        "has_been_sent_since_threshold": make(
            lambda repository: repository.has_been_sent_since_threshold(user_id, KIND, NOW),
            lambda client: _last_sent(client, user_id, NOW),
            json.dumps([{"triggered_at": row["triggered_at"]}]).encode(),
        ),
        "get_milestone_record": make(
            lambda repository: repository.get_milestone_record(user_id, 50),
            lambda client: _milestone(client, user_id),
            json.dumps([row | {"scenario_type": "milestone", "milestone_value": 50}]).encode(),
        ),
        "list_notifications, 50 rows": make(
            lambda repository: repository.list_notifications(user_id),
            lambda client: _history(client, user_id),
            json.dumps([row] * 50).encode(),
        ),
        "evaluate_next_page": make(
            lambda repository: repository.evaluate_next_page(KIND, limit=10_000),
            _evaluate,
            json.dumps(EVALUATED | {"next_after": str(user_id)}).encode(),
        ),
    }
    return [*made.items(), *_batches(make, 1_000), *_batches(make, 20_000)]


def _batches(make: Any, size: int) -> list[tuple[str, Any]]:  # noqa: ANN401 - see calls
    ids = [uuid4() for _ in range(size)]
    claims = [
        NotificationClaim(
            user_id=one, organization_id=one, scenario_type=KIND, cooldown=timedelta(days=30), metadata=METADATA
        )
        for one in ids
    ]
    batches = {
        "claim_notifications": make(
            lambda repository: repository.claim_notifications(claims),
            lambda client: _claim(client, claims),
            json.dumps(claims_answer()).encode(),
            size,
        ),
        "get_last_sent_at_many": make(
            lambda repository: repository.get_last_sent_at_many(ids, KIND),
            lambda client: _last_sent_many(client, ids),
            json.dumps({"answers": [NOW.isoformat()] * size}).encode(),
            size,
        ),
    }
    if size <= 1_000:
        leased = [
            _row(one, one)
            | {"lease_number": 1, "attempt_count": 1, "leased_until": NOW.isoformat()}
            | {"device_tokens": [{"token": "0123456789abcdef" * 4, "platform": "ios"}]}
            for one in ids
        ]
        results = [Settlement(id=one, lease_number=1, result=DeliveryResult.SENT) for one in ids]
        batches["lease_notifications"] = make(
            lambda repository: repository.lease_notifications(size),
            lambda client: _lease(client, size),
            json.dumps({"leased": leased}).encode(),
            size,
        )
        batches["settle_notifications"] = make(
            lambda repository: repository.settle_notifications(results),
            lambda client: _settle(client, results),
            json.dumps({"answers": ["sent"] * size}).encode(),
            size,
        )
    return list(batches.items())


def _row(user_id: UUID, organization_id: UUID) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "user_id": str(user_id),
        "organization_id": str(organization_id),
        "scenario_type": "inactivity",
        "triggered_at": "2026-11-01T12:00:00.123456+00:00",
        "delivery_status": "pending",
        "milestone_value": None,
        "metadata": METADATA,
        "cooldown_window_start": "1970-01-01T00:00:00+00:00",
        "failure_code": None,
        "origin": "claim",
        "subjects": [],
        "deliver_until": "2026-11-08T12:00:00.123456+00:00",
        "settled_at": None,
        "held_until": None,
    }


# By hand ------------------------------------------------------------------------------------------


async def _insert(client: Any, new: NewScenarioNotification) -> ScenarioNotification:  # noqa: ANN401 - supabase's
    row = new.model_dump(mode="json", exclude_none=True)
    answer = await client.table(TABLE).insert(row).select(*ScenarioNotification.model_fields).execute()
    return NOTIFICATIONS.validate_python(answer.data)[0]


async def _last_sent(client: Any, user_id: UUID, cutoff: datetime | None = None) -> datetime:  # noqa: ANN401
    query = client.table(TABLE).select("triggered_at").eq("user_id", str(user_id)).eq("scenario_type", KIND)
    query = query.eq("delivery_status", "sent").eq("is_failed", "false")
    if cutoff is not None:
        query = query.gte("triggered_at", cutoff.isoformat())
    answer = await query.order("triggered_at", desc=True).limit(1).execute()
    return TIMES.validate_python([row["triggered_at"] for row in answer.data])[0] or NOW


async def _milestone(client: Any, user_id: UUID) -> ScenarioNotification:  # noqa: ANN401
    query = client.table(TABLE).select(COLUMNS).eq("user_id", str(user_id)).eq("scenario_type", "milestone")
    answer = await query.eq("milestone_value", 50).eq("is_failed", "false").limit(1).execute()
    return NOTIFICATIONS.validate_python(answer.data)[0]


async def _history(client: Any, user_id: UUID) -> list[ScenarioNotification]:  # noqa: ANN401
    query = client.table(TABLE).select(COLUMNS).eq("user_id", str(user_id))
    answer = await query.order("triggered_at", desc=True).order("id", desc=True).limit(50).execute()
    return NOTIFICATIONS.validate_python(answer.data)


async def _claim(client: Any, claims: list[NotificationClaim]) -> list[ClaimOutcome]:  # noqa: ANN401
    batch = {
        "user_id": [str(claim.user_id) for claim in claims],
        "organization_id": [str(claim.organization_id) for claim in claims],
        "scenario_type": [claim.scenario_type for claim in claims],
        "cooldown_seconds": [claim.cooldown.total_seconds() if claim.cooldown else None for claim in claims],
        "metadata": [claim.metadata for claim in claims],
    }
    answer = (await client.rpc("scenario_claim_notifications", {"p_claims": batch}).execute()).data
    return OUTCOMES.validate_python(
        [
            {
                "notification": {
                    "id": f"{answer['id_prefix']}{place:05x}",
                    "user_id": claim.user_id,
                    "organization_id": claim.organization_id,
                    "scenario_type": claim.scenario_type,
                    "triggered_at": answer["triggered_at"],
                    "delivery_status": "pending",
                    "milestone_value": None,
                    "metadata": claim.metadata,
                    "cooldown_window_start": "1970-01-01T00:00:00+00:00",
                    "failure_code": None,
                    "origin": "claim",
                    "subjects": (),
                    "deliver_until": answer["deliver_until"],
                    "settled_at": None,
                    "held_until": None,
                }
            }
            for place, claim in enumerate(claims, 1)
        ]
    )


async def _last_sent_many(client: Any, ids: list[UUID]) -> dict[UUID, datetime | None]:  # noqa: ANN401
    arguments = {"p_user_ids": [str(one) for one in ids], "p_scenario_type": KIND}
    answer = await client.rpc("scenario_get_last_sent_at_many", arguments).execute()
    return dict(zip(ids, TIMES.validate_python(answer.data["answers"]), strict=True))


async def _evaluate(client: Any) -> EvaluationPage:  # noqa: ANN401
    arguments = {"p_scenario_type": KIND, "p_organization_id": None, "p_limit": 10_000, "p_due_within_seconds": None}
    return PAGE.validate_python((await client.rpc("scenario_evaluate_next_page", arguments).execute()).data)


async def _lease(client: Any, size: int) -> list[LeasedNotification]:  # noqa: ANN401
    arguments = {"p_limit": size, "p_lease_seconds": 300.0, "p_organization_id": None, "p_scenario_types": None}
    answer = await client.rpc("scenario_lease_notifications", arguments).execute()
    return LEASED.validate_python(answer.data["leased"])


async def _settle(client: Any, results: list[Settlement]) -> list[SettlementAnswer]:  # noqa: ANN401
    rows = [result.model_dump(mode="json") for result in results]
    arguments = {"p_results": rows, "p_max_attempts": 8}
    answer = await client.rpc("scenario_settle_notifications", arguments).execute()
    return ANSWERS.validate_python(answer.data["answers"])
