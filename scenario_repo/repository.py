"""ScenarioNotificationRepository: one coroutine per use case, one request each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar, overload
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, TypeAdapter

from scenario_repo import _arguments, _claims, _postgrest
from scenario_repo._limits import DEFAULT_PAGE_SIZE, MAX_LEASES, MAX_LISTED, MAX_PAGE_SIZE
from scenario_repo._operating import Answers, refuse_other_length
from scenario_repo._simulating import Simulating
from scenario_repo.exceptions import UnexpectedResponseException
from scenario_repo.models import (
    ClaimOutcome,
    EvaluationPage,
    Lease,
    LeasedClaimOutcome,
    NewScenarioNotification,
    NotificationClaim,
    ScenarioNotification,
    ScenarioPass,
    ScenarioType,
    Settlement,
    SettlementAnswer,
    StoredSettlementAnswer,
)

T = TypeVar("T")


class _Triggered(BaseModel):
    triggered_at: AwareDatetime


class _Begun(BaseModel):
    passes: tuple[ScenarioPass, ...]


class _Delivered(BaseModel):
    settled_at: AwareDatetime


_NOTIFICATIONS = TypeAdapter(list[ScenarioNotification])
_TRIGGERED = TypeAdapter(list[_Triggered])
_DELIVERED = TypeAdapter(list[_Delivered])
_TIMES = TypeAdapter(Answers[AwareDatetime | None])
_TRUTHS = TypeAdapter(Answers[bool])
_RECORDS = TypeAdapter(Answers[ScenarioNotification | None])
_PAGE = TypeAdapter(EvaluationPage)
_BEGUN = TypeAdapter(_Begun)
_LEASE = TypeAdapter(Lease)
_ANSWERS: TypeAdapter[Answers[SettlementAnswer | str]] = TypeAdapter(Answers[StoredSettlementAnswer])


class ScenarioNotificationRepository(Simulating):
    """The history of scenario notifications, and the decisions based on it.

    Takes any ``supabase.AsyncClient``: a worker's (secret key, see :func:`scenario_repo.connect`) reads everything,
    a signed-in user's reads that user's own rows and can't write.

    Every method sends at most one request (a purge one per page) and never retries. Every error is a
    :class:`~scenario_repo.exceptions.ScenarioRepositoryException` or a subclass of it; invalid input raises
    ``InvalidDataException`` before anything is sent.
    """

    async def insert_notification(self, notification: NewScenarioNotification) -> ScenarioNotification:
        """Record a notification unconditionally and return its row.

        To look up first and then insert is a race: two workers may both find none. To decide whether to send, use
        ``claim_notifications``, which decides and records in one step.

        Raises:
            DuplicateNotificationException: the user has this milestone already.
            UnknownReferenceException: there is no such user.
            InvalidDataException: a constraint refuses the row.

        """
        operation = "insert_notification"
        _arguments.new_notification(notification)
        rows = await _postgrest.fetch(
            partial(_postgrest.insert_request, self._client, notification),
            _NOTIFICATIONS,
            operation=operation,
            idempotent=False,
        )
        if len(rows) != 1:
            message = f"expected the inserted row, got {len(rows)} rows"
            raise UnexpectedResponseException(message, operation=operation)
        return rows[0]

    async def get_last_sent_at(self, user_id: UUID, scenario_type: ScenarioType | str) -> datetime | None:
        """Return the ``triggered_at`` of the newest sent notification of this type to the user (aware), or None.

        Only rows with delivery status ``sent`` count. A notification may be delivered long after it was triggered:
        :meth:`get_last_delivered_at` says when. To decide whether to send, claim instead: another worker may send
        between this answer and an insert.
        """
        request = partial(
            _postgrest.last_sent_request,
            self._client,
            _arguments.user_id(user_id),
            _arguments.scenario_type(scenario_type),
            "triggered_at",
        )
        rows = await _postgrest.fetch(request, _TRIGGERED, operation="get_last_sent_at", idempotent=True)
        return rows[0].triggered_at if rows else None

    async def has_been_sent_since_threshold(
        self, user_id: UUID, scenario_type: ScenarioType | str, cutoff: datetime
    ) -> bool:
        """Tell whether a notification of this type that was triggered at the cutoff or later was sent to the user.

        ``cutoff`` is aware and inclusive; only rows with delivery status ``sent`` count. To decide whether to send,
        claim instead: another worker may send between this answer and an insert.
        """
        request = partial(
            _postgrest.last_sent_request,
            self._client,
            _arguments.user_id(user_id),
            _arguments.scenario_type(scenario_type),
            "triggered_at",
            _arguments.instant("cutoff", cutoff),
        )
        rows = await _postgrest.fetch(request, _TRIGGERED, operation="has_been_sent_since_threshold", idempotent=True)
        return bool(rows)

    async def get_last_delivered_at(self, user_id: UUID, scenario_type: ScenarioType | str) -> datetime | None:
        """Return when a notification of this type was last delivered to the user (``settled_at``), or None if never.

        The cooldown runs from here, where this is later than ``triggered_at``.
        """
        request = partial(
            _postgrest.last_sent_request,
            self._client,
            _arguments.user_id(user_id),
            _arguments.scenario_type(scenario_type),
            "settled_at",
        )
        rows = await _postgrest.fetch(request, _DELIVERED, operation="get_last_delivered_at", idempotent=True)
        return rows[0].settled_at if rows else None

    async def has_been_delivered_since(
        self, user_id: UUID, scenario_type: ScenarioType | str, cutoff: datetime
    ) -> bool:
        """Tell whether a notification of this type was delivered to the user at the cutoff (aware) or later."""
        request = partial(
            _postgrest.last_sent_request,
            self._client,
            _arguments.user_id(user_id),
            _arguments.scenario_type(scenario_type),
            "settled_at",
            _arguments.instant("cutoff", cutoff),
        )
        rows = await _postgrest.fetch(request, _DELIVERED, operation="has_been_delivered_since", idempotent=True)
        return bool(rows)

    async def get_milestone_record(self, user_id: UUID, milestone_value: int) -> ScenarioNotification | None:
        """Return the record of this milestone for the user, pending or sent, or None.

        A failed record is none, also while it still holds. To decide whether to send, claim instead: another worker may
        claim between this answer and an insert.
        """
        request = partial(
            _postgrest.milestone_request,
            self._client,
            _arguments.user_id(user_id),
            _arguments.positive("milestone_value", milestone_value),
        )
        rows = await _postgrest.fetch(request, _NOTIFICATIONS, operation="get_milestone_record", idempotent=True)
        return rows[0] if rows else None

    async def list_notifications(
        self, user_id: UUID, before: ScenarioNotification | None = None, limit: int = 50
    ) -> list[ScenarioNotification]:
        """Return a page of a user's notifications, newest first; ``before`` is the last row of the previous page.

        ``limit`` is at most 1,000, as PostgREST cuts longer answers. A signed-in user's client may call it too, and
        gets what was sent: what is pending may never be, and what failed was not.
        """
        request = partial(
            _postgrest.history_request,
            self._client,
            _arguments.user_id(user_id),
            _arguments.notification("before", before),
            _arguments.positive("limit", limit, MAX_LISTED),
        )
        return await _postgrest.fetch(request, _NOTIFICATIONS, operation="list_notifications", idempotent=True)

    async def get_last_sent_at_many(
        self, user_ids: Iterable[UUID], scenario_type: ScenarioType | str
    ) -> dict[UUID, datetime | None]:
        """Answer :meth:`get_last_sent_at` for up to 50,000 users in one request; each id given is a key."""
        return await self._times("get_last_sent_at_many", user_ids, scenario_type)

    async def has_been_sent_since_threshold_many(
        self, user_ids: Iterable[UUID], scenario_type: ScenarioType | str, cutoff: datetime
    ) -> dict[UUID, bool]:
        """Answer :meth:`has_been_sent_since_threshold` for up to 50,000 users in one request."""
        return await self._truths("has_been_sent_since_threshold_many", user_ids, scenario_type, cutoff)

    async def get_last_delivered_at_many(
        self, user_ids: Iterable[UUID], scenario_type: ScenarioType | str
    ) -> dict[UUID, datetime | None]:
        """Answer :meth:`get_last_delivered_at` for up to 50,000 users in one request; each id given is a key."""
        return await self._times("get_last_delivered_at_many", user_ids, scenario_type)

    async def has_been_delivered_since_many(
        self, user_ids: Iterable[UUID], scenario_type: ScenarioType | str, cutoff: datetime
    ) -> dict[UUID, bool]:
        """Answer :meth:`has_been_delivered_since` for up to 50,000 users in one request."""
        return await self._truths("has_been_delivered_since_many", user_ids, scenario_type, cutoff)

    async def get_milestone_record_many(
        self, user_ids: Iterable[UUID], milestone_value: int
    ) -> dict[UUID, ScenarioNotification | None]:
        """Answer :meth:`get_milestone_record` for up to 50,000 users in one request."""
        operation = "get_milestone_record_many"
        ids = _arguments.user_ids(user_ids)
        value = _arguments.positive("milestone_value", milestone_value)
        if not ids:
            return {}
        records = await self._call(
            _RECORDS, operation, "scenario_get_milestone_record_many", _postgrest.texts(ids), value
        )
        return _paired(ids, records.answers, operation)

    @overload
    async def claim_notifications(
        self, claims: Sequence[NotificationClaim], lease: None = None
    ) -> list[ClaimOutcome]: ...

    @overload
    async def claim_notifications(
        self, claims: Sequence[NotificationClaim], lease: timedelta
    ) -> list[LeasedClaimOutcome]: ...

    async def claim_notifications(
        self, claims: Sequence[NotificationClaim], lease: timedelta | None = None
    ) -> list[ClaimOutcome] | list[LeasedClaimOutcome]:
        """Claim up to 20,000 notifications in one request, and return one outcome per claim, in the same order.

        A claim is granted if and only if no other notification of its type to its user holds, also when others claim at
        the same time: none that was or may have been told within its cooldown, none that is on its way, and no failure
        whose time is not over. A milestone is granted if the user does not have it. Any other claim is skipped with a
        reason; one bad claim never loses the others.

        Without ``lease`` a granted claim is a new pending notification for the delivery workers, who send it. To repeat
        the call is safe: what it claimed before is then held.

        With a ``lease`` (1 second to 1 day; at most 1,000 claims) it is the caller's: each notification comes leased,
        with the user's devices. Send it before ``leased_until``, and settle it with :meth:`settle_notifications`. A
        user who is gone or banned is skipped, and nothing is written. To repeat the call takes over what it claimed
        before, once nobody has it in hand. When a lease runs out, the notification is the delivery workers'.

        A larger batch is refused, not split: after a failure in the middle the caller could not know which part was
        claimed. One that takes longer than the server's statement timeout is undone as a whole; its error is not
        retryable, and fewer at once will do. Duplicates (claims for what is held already) are logged as one line at
        INFO, in counts.
        """
        operation = "claim_notifications"
        seconds = None if lease is None else _arguments.lease_seconds("lease", lease)
        checked = _arguments.claims(claims, leased=lease is not None)
        if not checked:
            return []
        answer = await _postgrest.fetch(
            partial(_claims.claims_request, self._client, checked, seconds),
            _claims.ANSWER,
            operation=operation,
            idempotent=True,
            # A single claim is no smaller the next time: it may have waited for another claimer.
            if_too_large=_claims.TIMED_OUT if len(checked) > 1 else None,
        )
        outcomes = (
            _claims.outcomes_of(checked, answer) if lease is None else _claims.leased_outcomes_of(checked, answer)
        )
        _claims.log_duplicates(outcomes)
        return outcomes

    async def evaluate_scenario(  # noqa: PLR0913 - settings, three by name
        self,
        scenario_type: ScenarioType | str,
        organization_id: UUID | None = None,
        after: UUID | None = None,
        limit: int = DEFAULT_PAGE_SIZE,
        *,
        dry_run: bool = False,
        due_within: timedelta | None = None,
        list_due: bool = False,
    ) -> EvaluationPage:
        """Find who is due among the next ``limit`` mentors after the user ``after``, and claim for them.

        For one organization's mentors, or all. A dry run writes nothing and returns the same numbers, and with
        ``list_due`` also who they are: :attr:`EvaluationPage.due_mentors`. Pages are independent, and evaluating one
        twice claims nothing twice.

        What came true longer than ``due_within`` ago is history: it is not told, and counted in the page. Unless given,
        it is that of the settings.
        """
        return await self._call(
            _PAGE,
            "evaluate_scenario",
            "scenario_evaluate",
            _arguments.scenario_type(scenario_type),
            _arguments.optional_id("organization_id", organization_id),
            _arguments.optional_id("after", after),
            _arguments.positive("limit", limit, MAX_PAGE_SIZE),
            bool(dry_run),
            _arguments.optional_seconds("due_within", due_within),
            _arguments.only_with("list_due", list_due, "dry_run", dry_run),
        )

    async def begin_run(
        self, scenario_types: Collection[ScenarioType | str] | None = None, organization_id: UUID | None = None
    ) -> tuple[ScenarioPass, ...]:
        """Say in which order a run serves the scenarios, and how large their pages may be; in the order given.

        Unless given, they are all that have a rule. The first one is recorded, and is not the first of the next run,
        even if no page comes of it: scenarios take turns across runs. Where none came, its pages are halved next time.
        """
        begun = await self._call(
            _BEGUN,
            "begin_run",
            "scenario_begin_run",
            _arguments.scenario_types(scenario_types),
            _arguments.optional_id("organization_id", organization_id),
        )
        return begun.passes

    async def evaluate_next_page(
        self,
        scenario_type: ScenarioType | str,
        organization_id: UUID | None = None,
        limit: int = DEFAULT_PAGE_SIZE,
        *,
        due_within: timedelta | None = None,
        pass_number: int | None = None,
    ) -> EvaluationPage:
        """Evaluate the next page of the current pass, or begin a new one.

        The same transaction stores how far the pass has come. A pass therefore survives the death of a worker, and
        several callers share it, at once: each evaluates mentors of its own. A caller that finds all of them in others'
        hands gets a page of nobody (:attr:`EvaluationPage.in_other_hands`), and asks again in a while.

        ``pass_number``, from :meth:`begin_run` or an earlier page, is the pass to take part in: once it is over,
        whoever ended it, the answer is a last page of nobody. Without it, a new pass begins. ``due_within`` is that of
        :meth:`evaluate_scenario`.
        """
        return await self._call(
            _PAGE,
            "evaluate_next_page",
            "scenario_evaluate_next_page",
            _arguments.scenario_type(scenario_type),
            _arguments.optional_id("organization_id", organization_id),
            _arguments.positive("limit", limit, MAX_PAGE_SIZE),
            _arguments.optional_seconds("due_within", due_within),
            _arguments.optional_positive("pass_number", pass_number),
        )

    async def lease_notifications(
        self,
        limit: int,
        lease: timedelta = timedelta(minutes=5),
        organization_id: UUID | None = None,
        scenario_types: Collection[ScenarioType | str] | None = None,
    ) -> Lease:
        """Lease up to ``limit`` (at most 1,000) pending notifications that are due, to send them.

        Organizations take turns; of each, the longest due come first. Nobody else gets them until the lease (1 second
        to 1 day) runs out; then they are due again. Delivery is at least once: if a worker dies between sending and
        settling, the notification is sent again.

        Before they are handed out they are asked again: what is over, was tried too often, is for nobody any more, is
        muted or no longer true fails with its reason (:class:`~scenario_repo.FailureReason`); what may not be told now
        (:class:`~scenario_repo.DeliveryPolicy`) waits for the next moment that is permitted.
        """
        return await self._call(
            _LEASE,
            "lease_notifications",
            "scenario_lease_notifications",
            _arguments.positive("limit", limit, MAX_LEASES),
            _arguments.lease_seconds("lease", lease),
            _arguments.optional_id("organization_id", organization_id),
            _arguments.scenario_types(scenario_types),
        )

    async def settle_notifications(
        self, results: Sequence[Settlement], max_attempts: int | None = None
    ) -> list[SettlementAnswer | str]:
        """Record the results of up to 1,000 leases, and return one answer each, in the same order.

        A retry is due after one minute, doubled with each attempt up to six hours, minus a random part of up to half.
        After ``max_attempts`` attempts (unless given, those of the scenario's settings) it fails for good. A lease that
        was lost or is settled already is refused; the others are recorded.
        """
        operation = "settle_notifications"
        checked = _arguments.settlements(results)
        attempts = _arguments.optional_positive("max_attempts", max_attempts)
        if not checked:
            return []
        request = partial(_postgrest.settlements_request, self._client, checked, attempts)
        answer = await _postgrest.fetch(request, _ANSWERS, operation=operation, idempotent=True)
        refuse_other_length(operation, checked, answer.answers)
        return answer.answers

    async def _times(
        self, operation: str, user_ids: Iterable[UUID], scenario_type: ScenarioType | str
    ) -> dict[UUID, datetime | None]:
        ids = _arguments.user_ids(user_ids)
        kind = _arguments.scenario_type(scenario_type)
        if not ids:
            return {}
        times = await self._call(_TIMES, operation, f"scenario_{operation}", _postgrest.texts(ids), kind)
        return _paired(ids, times.answers, operation)

    async def _truths(
        self, operation: str, user_ids: Iterable[UUID], scenario_type: ScenarioType | str, cutoff: datetime
    ) -> dict[UUID, bool]:
        ids = _arguments.user_ids(user_ids)
        kind = _arguments.scenario_type(scenario_type)
        instant = _arguments.instant("cutoff", cutoff)
        if not ids:
            return {}
        truths = await self._call(_TRUTHS, operation, f"scenario_{operation}", _postgrest.texts(ids), kind, instant)
        return _paired(ids, truths.answers, operation)


def _paired(ids: Sequence[UUID], answers: Sequence[T], operation: str) -> dict[UUID, T]:
    refuse_other_length(operation, ids, answers)
    return dict(zip(ids, answers, strict=True))
