"""The seam to the database: its names, the requests, and ``fetch``, which parses the answers.

supabase-py builds each request, and it is sent once: no hidden retry, whatever the client's options. The bytes of the
answer are parsed straight into the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, time, timedelta
from typing import Final, Literal, Protocol, TypeVar
from uuid import UUID

from httpx import AsyncClient as HttpClient
from httpx import Headers
from postgrest import AsyncSelectRequestBuilder
from postgrest.base_request_builder import RequestConfig
from pydantic import TypeAdapter, ValidationError
from supabase import AsyncClient

from scenario_repo import _watching
from scenario_repo._clients import fault_of_use
from scenario_repo._keys import acts_as_user, is_downgraded
from scenario_repo._translation import exception_from_error, exception_from_response, exception_from_unfit_answer
from scenario_repo.exceptions import ConfigurationException, ScenarioRepositoryException
from scenario_repo.models import (
    DeliveryStatus,
    NewScenarioNotification,
    ScenarioNotification,
    ScenarioType,
    Settlement,
)
from scenario_repo.policies import DayOff, DeliveryPolicy, Mute, NewDayOff, NewMute
from scenario_repo.settings import ScenarioSettings

T = TypeVar("T")

_IDS = TypeAdapter(list[UUID])
_SETTLEMENTS = TypeAdapter(list[Settlement])
_SELDOM = {"retry_after", "reached", "invalid_tokens"}

_DOWNGRADED = "somebody signed in on the worker's client, which now acts as that user: sign in on a client of its own"

NOTIFICATIONS: Final = "scenario_notifications"
NOTIFICATION_COLUMNS: Final = tuple(ScenarioNotification.model_fields)

POLICIES: Final = "scenario_delivery_policy"
POLICY_COLUMNS: Final = tuple(DeliveryPolicy.model_fields)
DAYS_OFF: Final = "scenario_days_off"
DAY_OFF_COLUMNS: Final = tuple(DayOff.model_fields)
SETTINGS: Final = "scenario_evaluation_config"
SETTINGS_COLUMNS: Final = tuple(ScenarioSettings.model_fields)
MUTES: Final = "scenario_mutes"
MUTE_COLUMNS: Final = tuple(Mute.model_fields)

SCHEMA_VERSION: Final = 1
"""The version of the schema that this library needs; every function of an older schema refuses to run."""

FUNCTIONS: Final[dict[str, tuple[str, ...]]] = {
    "scenario_begin_run": ("p_scenario_types", "p_organization_id"),
    "scenario_check_rule": ("p_scenario_type", "p_samples"),
    "scenario_claim_notifications": ("p_claims", "p_lease_seconds"),
    "scenario_evaluate": (
        "p_scenario_type",
        "p_organization_id",
        "p_after",
        "p_limit",
        "p_dry_run",
        "p_due_within_seconds",
        "p_list",
    ),
    "scenario_evaluate_next_page": (
        "p_scenario_type",
        "p_organization_id",
        "p_limit",
        "p_due_within_seconds",
        "p_pass_number",
    ),
    "scenario_explain": ("p_user_id",),
    "scenario_explain_notification": ("p_id",),
    "scenario_get_catalogue": (),
    "scenario_get_last_delivered_at_many": ("p_user_ids", "p_scenario_type"),
    "scenario_get_last_sent_at_many": ("p_user_ids", "p_scenario_type"),
    "scenario_get_milestone_record_many": ("p_user_ids", "p_milestone_value"),
    "scenario_get_left_out": ("p_organization_id", "p_under_way"),
    "scenario_get_organization_report": ("p_organization_id", "p_since", "p_until", "p_time_zone"),
    "scenario_get_outcomes": ("p_organization_id", "p_scenario_type", "p_since", "p_until", "p_within_seconds"),
    "scenario_get_schema": (),
    "scenario_get_status": (),
    "scenario_has_been_delivered_since_many": ("p_user_ids", "p_scenario_type", "p_cutoff"),
    "scenario_has_been_sent_since_threshold_many": ("p_user_ids", "p_scenario_type", "p_cutoff"),
    "scenario_lease_notifications": ("p_limit", "p_lease_seconds", "p_organization_id", "p_scenario_types"),
    "scenario_list_pending": ("p_organization_id", "p_scenario_type", "p_after_at", "p_after_id", "p_limit"),
    "scenario_cancel_notifications": ("p_ids",),
    "scenario_retry_notifications": ("p_ids",),
    "scenario_purge_notifications": ("p_older_than_seconds", "p_after", "p_limit"),
    "scenario_settle_notifications": ("p_results", "p_max_attempts"),
    "scenario_simulate": ("p_scenario_type", "p_changes", "p_organization_id", "p_after", "p_limit", "p_list"),
    "scenario_export_person": ("p_user_id",),
    "scenario_erase_person": ("p_user_id",),
}
"""Every function called, with its arguments in order; a test compares it with the live catalogue.

Each also takes ``p_needs_schema``, which :func:`function_request` adds.
"""


class Sendable(Protocol):
    """The common part of supabase-py's builders: a request that is ready to send."""

    @property
    def request(self) -> RequestConfig[HttpClient]: ...


async def fetch(
    build: Callable[[], Sendable],
    answer: TypeAdapter[T],
    *,
    operation: str,
    idempotent: bool,
    if_too_large: str | None = None,
) -> T:
    """Build a request, send it once and return its parsed answer.

    ``idempotent``: the call may be sent twice (a read, or a write that has no further effect the second time).
    ``if_too_large``: what to do if its statement times out, which it would again; the error then is not retryable.

    Raises:
        ScenarioRepositoryException: any failure, as its subclass; cancellation passes through.

    """
    with _watching.watch(_watching.Step.REQUEST, operation=operation):
        return await _fetch(build, answer, operation, if_too_large, idempotent=idempotent)


async def _fetch(
    build: Callable[[], Sendable], answer: TypeAdapter[T], operation: str, if_too_large: str | None, *, idempotent: bool
) -> T:
    # Raised outside the except blocks, so that no foreign error becomes its context: some quote headers or rows.
    failure: ScenarioRepositoryException
    try:
        request = build().request
        fault = _DOWNGRADED if is_downgraded(request.headers) else fault_of_use(request.session)
        if fault is not None:
            failure = ConfigurationException(fault, operation=operation)
        else:
            response = await request.send(Headers())
            if response.is_success:
                return answer.validate_json(response.content)
            failure = exception_from_response(
                response, operation=operation, idempotent=idempotent, if_too_large=if_too_large
            )
    except ValidationError as error:
        failure = exception_from_unfit_answer(error, response, operation=operation)
    except Exception as error:  # noqa: BLE001 - the seam lets nothing foreign through
        failure = exception_from_error(error, operation=operation, idempotent=idempotent)
    raise failure


def insert_request(client: AsyncClient, new: NewScenarioNotification) -> Sendable:
    """Insert one row and return it; fields not given get the database's defaults."""
    row = new.model_dump(mode="json", exclude_none=True, warnings=False)
    if not new.subjects:
        del row["subjects"]
    return client.table(NOTIFICATIONS).insert(row).select(*NOTIFICATION_COLUMNS)


def last_sent_request(
    client: AsyncClient,
    user_id: UUID,
    scenario_type: ScenarioType | str,
    by: Literal["triggered_at", "settled_at"],
    cutoff: datetime | None = None,
) -> Sendable:
    """Read the newest time, of triggering or of delivery, of a user's sent rows of the type, from the cutoff on."""
    query = (
        client.table(NOTIFICATIONS)
        .select(by)
        .eq("user_id", user_id)
        .eq("scenario_type", scenario_type)
        .eq("delivery_status", DeliveryStatus.SENT)
        .eq("is_failed", "false")  # the index scenario_notifications_not_failed_idx
    )
    if cutoff is not None:
        query = query.gte(by, cutoff.isoformat())
    return query.order(by, desc=True).limit(1)


def milestone_request(client: AsyncClient, user_id: UUID, milestone_value: int) -> Sendable:
    """Read the record of a milestone: pending or sent, not failed."""
    return (
        client.table(NOTIFICATIONS)
        .select(*NOTIFICATION_COLUMNS)
        .eq("user_id", user_id)
        .eq("scenario_type", ScenarioType.MILESTONE)
        .eq("milestone_value", milestone_value)
        .eq("is_failed", "false")  # the index scenario_notifications_one_notification_per_milestone
        .limit(1)
    )


def history_request(client: AsyncClient, user_id: UUID, before: ScenarioNotification | None, limit: int) -> Sendable:
    """Read a user's notifications, newest first; with ``before``, only those older than it.

    A signed-in user is shown what was sent: what is pending may never be, and what failed was not.
    """
    query = client.table(NOTIFICATIONS).select(*NOTIFICATION_COLUMNS).eq("user_id", user_id)
    if acts_as_user(query.request.headers):
        query = query.eq("delivery_status", DeliveryStatus.SENT).eq("is_failed", "false")
    if before is not None:
        instant = before.triggered_at.isoformat()
        query = query.or_(f"triggered_at.lt.{instant},and(triggered_at.eq.{instant},id.lt.{before.id})")
    return query.order("triggered_at", desc=True).order("id", desc=True).limit(limit)


def failed_request(
    client: AsyncClient,
    organization_id: UUID | None,
    scenario_type: ScenarioType | str | None,
    before: ScenarioNotification | None,
    limit: int,
) -> Sendable:
    """Read notifications that failed, newest first; with ``before``, only those older than it."""
    query = client.table(NOTIFICATIONS).select(*NOTIFICATION_COLUMNS).eq("is_failed", "true")
    # The indexes scenario_notifications_failed_by_organization_idx and scenario_notifications_failed_idx.
    if organization_id is not None:
        query = query.eq("organization_id", organization_id)
    if scenario_type is not None:
        query = query.eq("scenario_type", scenario_type)
    if before is not None:
        instant = before.triggered_at.isoformat()
        query = query.lte("triggered_at", instant)
        query = query.or_(f"triggered_at.lt.{instant},id.lt.{before.id}")
    return query.order("triggered_at", desc=True).order("id", desc=True).limit(limit)


def settings_request(client: AsyncClient, organization_id: UUID | None) -> Sendable:
    """Read the default settings, and with an organization what it overrides; the defaults come first."""
    query = client.table(SETTINGS).select(*SETTINGS_COLUMNS)
    if organization_id is None:
        query = query.is_("organization_id", "null")
    else:
        query = query.or_(f"organization_id.is.null,organization_id.eq.{organization_id}")
    return query.order("organization_id", nullsfirst=True).order("scenario_type")


def set_settings_request(client: AsyncClient, settings: ScenarioSettings) -> Sendable:
    """Change the settings that were given: of the default row, which is there, or of an organization's, or a new one.

    A default row can't be upserted: PostgreSQL checks that it is complete before it sees that it is there.
    """
    row = changes_of(settings)
    scope = {"scenario_type": settings.scenario_type, "organization_id": settings.organization_id}
    if settings.organization_id is None:
        return _of(client.table(SETTINGS).update(row), **scope).select(*SETTINGS_COLUMNS)
    row |= {"scenario_type": str(settings.scenario_type), "organization_id": str(settings.organization_id)}
    return client.table(SETTINGS).upsert(row, on_conflict="scenario_type,organization_id").select(*SETTINGS_COLUMNS)


def changes_of(settings: ScenarioSettings) -> dict[str, object]:
    """Write the settings that were given as the database reads them, by name."""
    row: dict[str, object] = settings.model_dump(mode="json", include=set(settings.changes), warnings=False)
    lengths = {name: length for name, length in settings.changes.items() if isinstance(length, timedelta)}
    return row | {name: f"{length.total_seconds()} seconds" for name, length in lengths.items()}


def policies_request(client: AsyncClient) -> Sendable:
    """Read all delivery policies, the default first."""
    return client.table(POLICIES).select(*POLICY_COLUMNS).order("organization_id", nullsfirst=True)


def set_policy_request(client: AsyncClient, policy: DeliveryPolicy) -> Sendable:
    """Insert or replace the policy of an organization, or the default."""
    row = policy.model_dump(mode="json", warnings=False)
    if policy.closes_at == time(0):
        row["closes_at"] = "24:00"
    if policy.min_gap is not None:
        row["min_gap"] = f"{policy.min_gap.total_seconds()} seconds"
    return client.table(POLICIES).upsert(row, on_conflict="organization_id").select(*POLICY_COLUMNS)


def delete_policy_request(client: AsyncClient, organization_id: UUID | None) -> Sendable:
    """Delete a policy, and return it."""
    query = client.table(POLICIES).delete()
    return _of(query, organization_id=organization_id).select(*POLICY_COLUMNS)


def days_off_request(client: AsyncClient, organization_id: UUID | None) -> Sendable:
    """Read the days off of an organization and those of all."""
    query = client.table(DAYS_OFF).select(*DAY_OFF_COLUMNS)
    if organization_id is None:
        query = query.is_("organization_id", "null")
    else:
        query = query.or_(f"organization_id.eq.{organization_id},organization_id.is.null")
    return query.order("first_day").order("id")


def add_days_off_request(client: AsyncClient, days: Sequence[NewDayOff]) -> Sendable:
    """Insert days off, and return them."""
    rows = [day.model_dump(mode="json", warnings=False) for day in days]
    return client.table(DAYS_OFF).insert(rows).select(*DAY_OFF_COLUMNS)


def remove_days_off_request(client: AsyncClient, ids: Iterable[UUID]) -> Sendable:
    """Delete days off, and return them."""
    return client.table(DAYS_OFF).delete().in_("id", texts(ids)).select(*DAY_OFF_COLUMNS)


def mutes_request(client: AsyncClient, user_id: UUID) -> Sendable:
    """Read the mutes of a user."""
    return client.table(MUTES).select(*MUTE_COLUMNS).eq("user_id", user_id).order("id")


def mute_request(client: AsyncClient, mute: NewMute) -> Sendable:
    """Insert or replace a mute."""
    row = mute.model_dump(mode="json", warnings=False)
    scope = "user_id,organization_id,scenario_type"
    return client.table(MUTES).upsert(row, on_conflict=scope).select(*MUTE_COLUMNS)


def unmute_request(
    client: AsyncClient, user_id: UUID, organization_id: UUID | None, scenario_type: ScenarioType | str | None
) -> Sendable:
    """Delete a mute, and return it."""
    query = client.table(MUTES).delete().eq("user_id", user_id)
    return _of(query, organization_id=organization_id, scenario_type=scenario_type).select(*MUTE_COLUMNS)


def _of(query: AsyncSelectRequestBuilder, **scope: object) -> AsyncSelectRequestBuilder:
    """Find the row whose columns have these values, None for SQL's null."""
    for column, value in scope.items():
        query = query.is_(column, "null") if value is None else query.eq(column, value)
    return query


def function_request(client: AsyncClient, function: str, *arguments: object) -> Sendable:
    """Call a function of FUNCTIONS with its arguments in the same order."""
    named = dict(zip(FUNCTIONS[function], arguments, strict=True))
    return client.rpc(function, {**named, "p_needs_schema": SCHEMA_VERSION})


def texts(ids: Iterable[UUID]) -> list[str]:
    """Convert ids to JSON strings, all in one call: several times as fast as one by one."""
    written: list[str] = _IDS.dump_python(list(ids), mode="json", warnings=False)
    return written


def settlements_request(client: AsyncClient, settlements: Sequence[Settlement], max_attempts: int | None) -> Sendable:
    """Settle leases; without ``max_attempts``, the settings' holds."""
    rows = _SETTLEMENTS.dump_python(list(settlements), mode="json", exclude={"__all__": _SELDOM}, warnings=False)
    for row, settlement in zip(rows, settlements, strict=True):
        if settlement.retry_after is not None:
            row["retry_after_seconds"] = settlement.retry_after.total_seconds()
        if settlement.reached:
            row["reached"] = settlement.reached
        if settlement.invalid_tokens:
            row["invalid_tokens"] = settlement.invalid_tokens
    return function_request(client, "scenario_settle_notifications", rows, max_attempts)
