"""What operators ask and change: one coroutine per use case, one request each.

The other half of :class:`~scenario_repo.ScenarioNotificationRepository`, which inherits it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from scenario_repo import _arguments, _installation, _postgrest
from scenario_repo._limits import DEFAULT_PAGE_SIZE, MAX_LISTED, MAX_PAGE_SIZE, MAX_SAMPLES
from scenario_repo._looking import Looking
from scenario_repo.exceptions import InvalidDataException, UnexpectedResponseException
from scenario_repo.models import (
    CancelAnswer,
    RetryOutcome,
    RuleCheck,
    ScenarioNotification,
    ScenarioType,
    SchemaDescription,
    StoredCancelAnswer,
    StoredRetryAnswer,
)
from scenario_repo.person import Erasure, PersonalData
from scenario_repo.policies import DayOff, DeliveryPolicy, Mute, NewDayOff, NewMute
from scenario_repo.settings import ScenarioSettings
from scenario_repo.status import PendingNotification, PurgedPage
from scenario_repo.verification import Verification

T = TypeVar("T")


class Answers(BaseModel, Generic[T]):
    """One answer for each element that was given, in the same order."""

    answers: list[T]


class _Retried(BaseModel):
    answers: list[StoredRetryAnswer]
    ids: list[UUID | None]


class _Pending(BaseModel):
    pending: list[PendingNotification]


_CANCELLED: TypeAdapter[Answers[CancelAnswer | str]] = TypeAdapter(Answers[StoredCancelAnswer])
_RETRIED = TypeAdapter(_Retried)
_POLICIES = TypeAdapter(list[DeliveryPolicy])
_DAYS_OFF = TypeAdapter(list[DayOff])
_MUTES = TypeAdapter(list[Mute])
_PURGED = TypeAdapter(PurgedPage)
_PENDING = TypeAdapter(_Pending)
_FAILED = TypeAdapter(list[ScenarioNotification])
_PERSON = TypeAdapter(PersonalData)
_ERASURE = TypeAdapter(Erasure)
_SETTINGS = TypeAdapter(list[ScenarioSettings])
_SCHEMA = TypeAdapter(SchemaDescription)
_RULE_CHECK = TypeAdapter(RuleCheck)


class Operating(Looking):
    """What operators ask and change."""

    async def describe_schema(self) -> SchemaDescription:
        """Return the schema's version and the scenario types to evaluate, the app's own ones too."""
        return await self._call(_SCHEMA, "describe_schema", "scenario_get_schema")

    async def verify_installation(self) -> Verification:
        """Hold the installation against what its release makes: say what is wrong, and the SQL that mends it.

        For a deployment or a health check; it takes some tenths of a second. Tables, columns, constraints, indexes,
        policies, grants and functions are compared, what the source views read and whether the service role may, the
        default settings, devices of several users, and this machine's clock.

        Raises:
            SchemaNotMigratedException: there is no scenario_repo, or one too old to be asked.

        """
        asked = datetime.now(UTC)
        installed = await self._call(_installation.CATALOGUE, "verify_installation", "scenario_get_catalogue")
        # Between the two, the database looked at its own.
        half_way = asked + (datetime.now(UTC) - asked) / 2
        return _installation.verified(installed, half_way - installed.now)

    async def check_rule(self, scenario_type: ScenarioType | str, samples: int = 10) -> RuleCheck:
        """Run the rule of a scenario type without claiming: its faults, counts, up to 100 samples and plans.

        For whoever writes a rule; it takes about as long as a page of an evaluation.
        """
        return await self._call(
            _RULE_CHECK,
            "check_rule",
            "scenario_check_rule",
            _arguments.scenario_type(scenario_type),
            _arguments.positive("samples", samples, MAX_SAMPLES),
        )

    async def cancel_notifications(self, ids: Iterable[UUID]) -> list[CancelAnswer | str]:
        """Cancel up to 1,000 pending notifications, and return one answer each, in the same order.

        What is cancelled fails with ``cancelled``, and holds for its cooldown (a milestone for good). What is leased is
        refused, for somebody may be sending it.
        """
        checked = _arguments.notification_ids(ids)
        if not checked:
            return []
        operation = "cancel_notifications"
        answer = await self._call(_CANCELLED, operation, "scenario_cancel_notifications", _postgrest.texts(checked))
        refuse_other_length(operation, checked, answer.answers)
        return answer.answers

    async def retry_notifications(self, ids: Iterable[UUID]) -> list[RetryOutcome]:
        """Let up to 1,000 failed notifications be tried anew, and return one outcome each, in the same order.

        What an evaluation made is freed: the next one may claim the same again, if it is still due. What a claim or a
        plain insert made is recorded anew, once, however often this is called.
        """
        checked = _arguments.notification_ids(ids)
        if not checked:
            return []
        operation = "retry_notifications"
        answer = await self._call(_RETRIED, operation, "scenario_retry_notifications", _postgrest.texts(checked))
        refuse_other_length(operation, checked, answer.answers)
        refuse_other_length(operation, checked, answer.ids)
        return [
            RetryOutcome(answer=one, notification_id=new) for one, new in zip(answer.answers, answer.ids, strict=True)
        ]

    async def get_delivery_policies(self) -> list[DeliveryPolicy]:
        """Return when people may be told: the default policy, if there is one, and those of organizations."""
        request = partial(_postgrest.policies_request, self._client)
        return await _postgrest.fetch(request, _POLICIES, operation="get_delivery_policies", idempotent=True)

    async def set_delivery_policy(self, policy: DeliveryPolicy) -> DeliveryPolicy:
        """Record the policy of an organization, or the default, in place of the one before."""
        request = partial(_postgrest.set_policy_request, self._client, _arguments.policy(policy))
        stored = await _postgrest.fetch(request, _POLICIES, operation="set_delivery_policy", idempotent=True)
        return _only("set_delivery_policy", stored)

    async def delete_delivery_policy(self, organization_id: UUID | None) -> bool:
        """Delete the policy of an organization, or with None the default; return whether there was one."""
        checked = _arguments.optional_id("organization_id", organization_id)
        request = partial(_postgrest.delete_policy_request, self._client, checked)
        gone = await _postgrest.fetch(request, _POLICIES, operation="delete_delivery_policy", idempotent=True)
        return bool(gone)

    async def list_days_off(self, organization_id: UUID | None = None) -> list[DayOff]:
        """Return the days off of all, and with an organization its own too, the earliest first."""
        checked = _arguments.optional_id("organization_id", organization_id)
        request = partial(_postgrest.days_off_request, self._client, checked)
        return await _postgrest.fetch(request, _DAYS_OFF, operation="list_days_off", idempotent=True)

    async def add_days_off(self, days: Sequence[NewDayOff]) -> list[DayOff]:
        """Record up to 1,000 days off, and return them as they are stored."""
        checked = _arguments.days_off(days)
        if not checked:
            return []
        request = partial(_postgrest.add_days_off_request, self._client, checked)
        return await _postgrest.fetch(request, _DAYS_OFF, operation="add_days_off", idempotent=False)

    async def remove_days_off(self, ids: Iterable[UUID]) -> int:
        """Delete up to 1,000 days off; return how many there were."""
        checked = _arguments.notification_ids(ids)
        if not checked:
            return 0
        request = partial(_postgrest.remove_days_off_request, self._client, checked)
        gone = await _postgrest.fetch(request, _DAYS_OFF, operation="remove_days_off", idempotent=True)
        return len(gone)

    async def list_mutes(self, user_id: UUID) -> list[Mute]:
        """Return what a user does not want to be told, also what is over. A signed-in user's client may call it too."""
        request = partial(_postgrest.mutes_request, self._client, _arguments.user_id(user_id))
        return await _postgrest.fetch(request, _MUTES, operation="list_mutes", idempotent=True)

    async def mute(self, mute: NewMute) -> Mute:
        """Record what a user does not want to be told, in place of what she said before of the same.

        A signed-in user's client may call it for herself; a user has at most 200 mutes.
        """
        request = partial(_postgrest.mute_request, self._client, _arguments.mute(mute))
        stored = await _postgrest.fetch(request, _MUTES, operation="mute", idempotent=True)
        return _only("mute", stored)

    async def unmute(
        self, user_id: UUID, organization_id: UUID | None = None, scenario_type: ScenarioType | str | None = None
    ) -> bool:
        """Delete the mute of this very scope; return whether there was one. A signed-in user's client may call it."""
        request = partial(
            _postgrest.unmute_request,
            self._client,
            _arguments.user_id(user_id),
            _arguments.optional_id("organization_id", organization_id),
            None if scenario_type is None else _arguments.scenario_type(scenario_type),
        )
        gone = await _postgrest.fetch(request, _MUTES, operation="unmute", idempotent=True)
        return bool(gone)

    async def export_person(self, user_id: UUID) -> PersonalData:
        """Return all that there is of one person, also in the app's own tables as the source views show them.

        Of somebody unknown there is nothing, which is no error.
        """
        return await self._call(_PERSON, "export_person", "scenario_export_person", _arguments.user_id(user_id))

    async def erase_person(self, user_id: UUID) -> Erasure:
        """Delete all that the tables of scenario_repo have of one person, and say how much; the app's own stay.

        With her history go cooldowns, milestones and mutes: as long as she is an active mentor, she may be told all of
        it again. A worker that has a notification of hers in hand may still send it. Organizations' reports count
        fewer. Whoever is writing meanwhile is waited for, up to five seconds; if that is not enough, nothing is erased,
        and the error says that it can be tried again. To repeat the call is safe, and erases what has come since.
        """
        return await self._call(_ERASURE, "erase_person", "scenario_erase_person", _arguments.user_id(user_id))

    async def purge_notifications(self, older_than: timedelta, batch: int = DEFAULT_PAGE_SIZE) -> int:
        """Delete what has been over for longer than ``older_than``, ``batch`` users per request; return the number.

        A row is over when it is settled and holds nothing any more. Rows that a decision depends on stay, however old:
        pending rows; milestones, but for failed ones that hold nothing; and for each user and scenario type the newest
        claim, those sent and delivered last, as many reminders as a series may have, and the last that told each
        subject. A scenario type whose longest cooldown is longer than ``older_than`` is left alone.
        """
        users = _arguments.positive("batch", batch, MAX_PAGE_SIZE)
        purged, after, more = 0, None, True
        while more:
            page = await self._purged_page("purge_notifications", older_than, after, users)
            purged, after, more = purged + page.purged, page.next_after, page.next_after is not None
        return purged

    async def purge_page(
        self, older_than: timedelta, after: UUID | None = None, limit: int = DEFAULT_PAGE_SIZE
    ) -> PurgedPage:
        """Purge as :meth:`purge_notifications` does, for the next ``limit`` users after the user ``after`` alone."""
        return await self._purged_page("purge_page", older_than, after, limit)

    async def _purged_page(self, operation: str, older_than: timedelta, after: UUID | None, limit: int) -> PurgedPage:
        return await self._call(
            _PURGED,
            operation,
            "scenario_purge_notifications",
            _arguments.seconds("older_than", older_than),
            _arguments.optional_id("after", after),
            _arguments.positive("limit", limit, MAX_PAGE_SIZE),
        )

    async def list_pending(
        self,
        organization_id: UUID | None = None,
        scenario_type: ScenarioType | str | None = None,
        after: PendingNotification | None = None,
        limit: int = 100,
    ) -> list[PendingNotification]:
        """Return up to ``limit`` (at most 1,000) pending notifications, in the order in which they come due.

        Of one organization or all, of one scenario type or all; for the next page, ``after`` is the last one of this.
        """
        place = _arguments.pending("after", after)
        page = await self._call(
            _PENDING,
            "list_pending",
            "scenario_list_pending",
            _arguments.optional_id("organization_id", organization_id),
            _arguments.optional_scenario_type(scenario_type),
            None if place is None else place.next_attempt_at,
            None if place is None else place.id,
            _arguments.positive("limit", limit, MAX_LISTED),
        )
        return page.pending

    async def list_failed(
        self,
        organization_id: UUID | None = None,
        scenario_type: ScenarioType | str | None = None,
        before: ScenarioNotification | None = None,
        limit: int = 100,
    ) -> list[ScenarioNotification]:
        """Return up to ``limit`` (at most 1,000) notifications that failed, newest first.

        Of one organization or all, of one scenario type or all; for the next page, ``before`` is the last one of this.
        """
        request = partial(
            _postgrest.failed_request,
            self._client,
            _arguments.optional_id("organization_id", organization_id),
            _arguments.optional_scenario_type(scenario_type),
            _arguments.notification("before", before),
            _arguments.positive("limit", limit, MAX_LISTED),
        )
        return await _postgrest.fetch(request, _FAILED, operation="list_failed", idempotent=True)

    async def get_settings(self, organization_id: UUID | None = None) -> list[ScenarioSettings]:
        """Return the default settings of every scenario type, and with an organization what it overrides after them."""
        checked = _arguments.optional_id("organization_id", organization_id)
        request = partial(_postgrest.settings_request, self._client, checked)
        return await _postgrest.fetch(request, _SETTINGS, operation="get_settings", idempotent=True)

    async def set_settings(self, settings: ScenarioSettings) -> ScenarioSettings:
        """Change the settings that were given, the defaults or an organization's, and return all of that row.

        What is not given stays as it is. None of it is written if one does not fit.
        """
        operation = "set_settings"
        checked = _arguments.settings(settings)
        request = partial(_postgrest.set_settings_request, self._client, checked)
        stored = await _postgrest.fetch(request, _SETTINGS, operation=operation, idempotent=True)
        if not stored:
            raise InvalidDataException(
                "scenario_type: expected one that has a rule in the database (see `scenario-repo config get`)",
                operation=operation,
            )
        return _only(operation, stored)


def refuse_other_length(operation: str, asked: Sequence[object], answered: Sequence[object]) -> None:
    """Raise unless there is one answer for each that was asked."""
    if len(asked) != len(answered):
        raise UnexpectedResponseException(f"expected {len(asked)} answers, got {len(answered)}", operation=operation)


def _only(operation: str, rows: Sequence[T]) -> T:
    refuse_other_length(operation, (None,), rows)
    return rows[0]
