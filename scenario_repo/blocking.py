"""The blocking face: the same surface for Celery tasks, Django views and plain scripts, without await.

::

    with connect() as client:  # SUPABASE_URL and SUPABASE_SECRET_KEY
        repository = ScenarioNotificationRepository(client)
        last = repository.get_last_sent_at(user_id, ScenarioType.INACTIVITY)

The values and the exceptions are those of :mod:`scenario_repo`. A client has an event loop in a thread of its own; any
thread of the process may use it. KeyboardInterrupt cancels what a call waits for. A client that was opened before a
fork, and a call inside a running event loop, are refused with ConfigurationException.

Generated from the asynchronous surface by `make generate`: edit supabase/generators/blocking.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import overload
from uuid import UUID

import httpx
from pydantic import SecretStr

from scenario_repo import _portal, client, delivery, engine, repository
from scenario_repo._limits import DEFAULT_PAGE_SIZE
from scenario_repo._portal import Client, HttpClient
from scenario_repo.client import DEFAULT_TIMEOUT
from scenario_repo.delivery import Progress
from scenario_repo.models import (
    CancelAnswer,
    ClaimOutcome,
    DeviceToken,
    EvaluationPage,
    Lease,
    LeasedClaimOutcome,
    LeasedNotification,
    NewScenarioNotification,
    NotificationClaim,
    OrganizationReport,
    RetryOutcome,
    RuleCheck,
    ScenarioExplanation,
    ScenarioNotification,
    ScenarioPass,
    ScenarioType,
    SchemaDescription,
    Settlement,
    SettlementAnswer,
)
from scenario_repo.outcomes import NotificationPast, Outcomes
from scenario_repo.person import Erasure, PersonalData
from scenario_repo.policies import DayOff, DeliveryPolicy, Mute, NewDayOff, NewMute
from scenario_repo.reports import EngineReport
from scenario_repo.settings import ScenarioSettings
from scenario_repo.simulation import Simulation
from scenario_repo.status import LeftOutPass, PendingNotification, PurgedPage, Status
from scenario_repo.verification import Verification

__all__ = [
    "Client",
    "DeliveryWorker",
    "HttpClient",
    "ScenarioNotificationRepository",
    "ScenarioTriggerEngine",
    "Send",
    "SendToDevice",
    "connect",
    "connect_as_user",
    "open_http_client",
]

Send = Callable[[LeasedNotification], None]
"""Delivers one notification, or raises; in a thread of its own."""
SendToDevice = Callable[[LeasedNotification, DeviceToken], None]
"""Delivers one notification to one of the user's devices, or raises; in a thread of its own."""


@contextmanager
def open_http_client(*, timeout: httpx.Timeout | float = DEFAULT_TIMEOUT) -> Iterator[HttpClient]:
    """Yield an HTTP client that clients may share: they keep its connections open, each with its own key and token.

    It follows no redirects and keeps no cookies, which one user's answer could set for the next. ``timeout`` is in
    seconds, for each phase of a request.
    """
    with _portal.opened_http_client(client.open_http_client(timeout=timeout)) as http:
        yield http


@contextmanager
def connect(
    url: str | None = None,
    key: str | SecretStr | None = None,
    *,
    timeout: httpx.Timeout | float = DEFAULT_TIMEOUT,
    http_client: HttpClient | None = None,
) -> Iterator[Client]:
    """Yield a worker's client, and close it afterwards.

    ``key`` is a secret key (``sb_secret_…`` or a legacy service_role JWT); ``timeout`` is in seconds, for each phase
    of a request. With an ``http_client`` it is that one's, which stays open. Any thread of the process may
    use it.

    Raises:
        ConfigurationException: the URL or key is missing or can't be used; nothing has been sent.

    """
    with _portal.opened_client(
        lambda http: client.connect(url, key, timeout=timeout, http_client=http), http_client
    ) as opened:
        yield opened


@contextmanager
def connect_as_user(
    access_token: str | SecretStr,
    url: str | None = None,
    key: str | SecretStr | None = None,
    *,
    timeout: httpx.Timeout | float = DEFAULT_TIMEOUT,
    http_client: HttpClient | None = None,
) -> Iterator[Client]:
    """Yield a client that acts as one signed-in user: it reads that user's own notifications and can't write.

    ``key`` is a publishable key (``sb_publishable_…`` or a legacy anon JWT; ``SUPABASE_PUBLISHABLE_KEY`` or
    ``SUPABASE_ANON_KEY`` when not given), ``access_token`` the user's. Whoever serves many users gives an
    ``http_client`` (:func:`open_http_client`): they share its connections and its timeout, and it never has a token.

    Raises:
        ConfigurationException: the URL or key is missing or can't be used; nothing has been sent.
        PermissionDeniedException: the token is none of a signed-in user, or has expired; nothing has been sent.

    """
    with _portal.opened_client(
        lambda http: client.connect_as_user(access_token, url, key, timeout=timeout, http_client=http), http_client
    ) as opened:
        yield opened


class ScenarioNotificationRepository:
    """The history of scenario notifications, and the decisions based on it.

    Takes the client of :func:`connect` or :func:`connect_as_user`: a worker's (secret key) reads everything,
    a signed-in user's reads that user's own rows and can't write.

    Every method sends at most one request (a purge one per page) and never retries. Every error is a
    :class:`~scenario_repo.exceptions.ScenarioRepositoryException` or a subclass of it; invalid input raises
    ``InvalidDataException`` before anything is sent.
    """

    def __init__(self, client: Client) -> None:
        """Keep the client; its owner closes it.

        Raises:
            ConfigurationException: it is none of this module's :func:`connect` or :func:`connect_as_user`.

        """
        client = _portal.checked(Client, client)
        self._portal = client.portal
        self._twin = repository.ScenarioNotificationRepository(client.supabase)

    def insert_notification(self, notification: NewScenarioNotification) -> ScenarioNotification:
        """Record a notification unconditionally and return its row.

        To look up first and then insert is a race: two workers may both find none. To decide whether to send, use
        ``claim_notifications``, which decides and records in one step.

        Raises:
            DuplicateNotificationException: the user has this milestone already.
            UnknownReferenceException: there is no such user.
            InvalidDataException: a constraint refuses the row.

        """
        return self._portal.call(lambda: self._twin.insert_notification(notification))

    def get_last_sent_at(self, user_id: UUID, scenario_type: ScenarioType | str) -> datetime | None:
        """Return the ``triggered_at`` of the newest sent notification of this type to the user (aware), or None.

        Only rows with delivery status ``sent`` count. A notification may be delivered long after it was triggered:
        :meth:`get_last_delivered_at` says when. To decide whether to send, claim instead: another worker may send
        between this answer and an insert.
        """
        return self._portal.call(lambda: self._twin.get_last_sent_at(user_id, scenario_type))

    def has_been_sent_since_threshold(self, user_id: UUID, scenario_type: ScenarioType | str, cutoff: datetime) -> bool:
        """Tell whether a notification of this type that was triggered at the cutoff or later was sent to the user.

        ``cutoff`` is aware and inclusive; only rows with delivery status ``sent`` count. To decide whether to send,
        claim instead: another worker may send between this answer and an insert.
        """
        return self._portal.call(lambda: self._twin.has_been_sent_since_threshold(user_id, scenario_type, cutoff))

    def get_last_delivered_at(self, user_id: UUID, scenario_type: ScenarioType | str) -> datetime | None:
        """Return when a notification of this type was last delivered to the user (``settled_at``), or None if never.

        The cooldown runs from here, where this is later than ``triggered_at``.
        """
        return self._portal.call(lambda: self._twin.get_last_delivered_at(user_id, scenario_type))

    def has_been_delivered_since(self, user_id: UUID, scenario_type: ScenarioType | str, cutoff: datetime) -> bool:
        """Tell whether a notification of this type was delivered to the user at the cutoff (aware) or later."""
        return self._portal.call(lambda: self._twin.has_been_delivered_since(user_id, scenario_type, cutoff))

    def get_milestone_record(self, user_id: UUID, milestone_value: int) -> ScenarioNotification | None:
        """Return the record of this milestone for the user, pending or sent, or None.

        A failed record is none, also while it still holds. To decide whether to send, claim instead: another worker may
        claim between this answer and an insert.
        """
        return self._portal.call(lambda: self._twin.get_milestone_record(user_id, milestone_value))

    def list_notifications(
        self, user_id: UUID, before: ScenarioNotification | None = None, limit: int = 50
    ) -> list[ScenarioNotification]:
        """Return a page of a user's notifications, newest first; ``before`` is the last row of the previous page.

        ``limit`` is at most 1,000, as PostgREST cuts longer answers. A signed-in user's client may call it too, and
        gets what was sent: what is pending may never be, and what failed was not.
        """
        return self._portal.call(lambda: self._twin.list_notifications(user_id, before, limit))

    def get_last_sent_at_many(
        self, user_ids: Iterable[UUID], scenario_type: ScenarioType | str
    ) -> dict[UUID, datetime | None]:
        """Answer :meth:`get_last_sent_at` for up to 50,000 users in one request; each id given is a key."""
        user_ids = _portal.taken(user_ids)
        return self._portal.call(lambda: self._twin.get_last_sent_at_many(user_ids, scenario_type))

    def has_been_sent_since_threshold_many(
        self, user_ids: Iterable[UUID], scenario_type: ScenarioType | str, cutoff: datetime
    ) -> dict[UUID, bool]:
        """Answer :meth:`has_been_sent_since_threshold` for up to 50,000 users in one request."""
        user_ids = _portal.taken(user_ids)
        return self._portal.call(lambda: self._twin.has_been_sent_since_threshold_many(user_ids, scenario_type, cutoff))

    def get_last_delivered_at_many(
        self, user_ids: Iterable[UUID], scenario_type: ScenarioType | str
    ) -> dict[UUID, datetime | None]:
        """Answer :meth:`get_last_delivered_at` for up to 50,000 users in one request; each id given is a key."""
        user_ids = _portal.taken(user_ids)
        return self._portal.call(lambda: self._twin.get_last_delivered_at_many(user_ids, scenario_type))

    def has_been_delivered_since_many(
        self, user_ids: Iterable[UUID], scenario_type: ScenarioType | str, cutoff: datetime
    ) -> dict[UUID, bool]:
        """Answer :meth:`has_been_delivered_since` for up to 50,000 users in one request."""
        user_ids = _portal.taken(user_ids)
        return self._portal.call(lambda: self._twin.has_been_delivered_since_many(user_ids, scenario_type, cutoff))

    def get_milestone_record_many(
        self, user_ids: Iterable[UUID], milestone_value: int
    ) -> dict[UUID, ScenarioNotification | None]:
        """Answer :meth:`get_milestone_record` for up to 50,000 users in one request."""
        user_ids = _portal.taken(user_ids)
        return self._portal.call(lambda: self._twin.get_milestone_record_many(user_ids, milestone_value))

    @overload
    def claim_notifications(self, claims: Sequence[NotificationClaim], lease: None = None) -> list[ClaimOutcome]: ...

    @overload
    def claim_notifications(
        self, claims: Sequence[NotificationClaim], lease: timedelta
    ) -> list[LeasedClaimOutcome]: ...
    def claim_notifications(
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

        async def begin() -> list[ClaimOutcome] | list[LeasedClaimOutcome]:
            return await self._twin.claim_notifications(claims, lease)

        return self._portal.call(begin)

    def evaluate_scenario(  # noqa: PLR0913 - settings, three by name
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
        return self._portal.call(
            lambda: self._twin.evaluate_scenario(
                scenario_type, organization_id, after, limit, dry_run=dry_run, due_within=due_within, list_due=list_due
            )
        )

    def begin_run(
        self, scenario_types: Collection[ScenarioType | str] | None = None, organization_id: UUID | None = None
    ) -> tuple[ScenarioPass, ...]:
        """Say in which order a run serves the scenarios, and how large their pages may be; in the order given.

        Unless given, they are all that have a rule. The first one is recorded, and is not the first of the next run,
        even if no page comes of it: scenarios take turns across runs. Where none came, its pages are halved next time.
        """
        scenario_types = _portal.taken(scenario_types)
        return self._portal.call(lambda: self._twin.begin_run(scenario_types, organization_id))

    def evaluate_next_page(
        self,
        scenario_type: ScenarioType | str,
        organization_id: UUID | None = None,
        limit: int = DEFAULT_PAGE_SIZE,
        *,
        due_within: timedelta | None = None,
    ) -> EvaluationPage:
        """Evaluate the next page of the current pass, or the first page of a new one.

        The same transaction stores the pass's position in ``scenario_evaluation_config``. A pass therefore survives
        the death of a worker, and several callers share it. ``due_within`` is that of :meth:`evaluate_scenario`.
        """
        return self._portal.call(
            lambda: self._twin.evaluate_next_page(scenario_type, organization_id, limit, due_within=due_within)
        )

    def lease_notifications(
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
        scenario_types = _portal.taken(scenario_types)
        return self._portal.call(lambda: self._twin.lease_notifications(limit, lease, organization_id, scenario_types))

    def settle_notifications(
        self, results: Sequence[Settlement], max_attempts: int | None = None
    ) -> list[SettlementAnswer | str]:
        """Record the results of up to 1,000 leases, and return one answer each, in the same order.

        A retry is due after one minute, doubled with each attempt up to six hours, minus a random part of up to half.
        After ``max_attempts`` attempts (unless given, those of the scenario's settings) it fails for good. A lease that
        was lost or is settled already is refused; the others are recorded.
        """
        return self._portal.call(lambda: self._twin.settle_notifications(results, max_attempts))

    def simulate(
        self, settings: ScenarioSettings, limit: int = DEFAULT_PAGE_SIZE, *, list_due: bool = False
    ) -> Simulation:
        """Say who would be due by other settings, beside who is due today, and with ``list_due`` name whom.

        The settings are those of :meth:`set_settings`: of the defaults, for all mentors, or of what an organization
        overrides, for its own. They are refused where :meth:`set_settings` would refuse them, and also where they
        change nothing of who is due, such as ``deliver_within``; nor do delivery policies, which say when.

        The database evaluates as it always does, ``limit`` mentors per request, and writes nothing: nobody waits for
        it, and nobody sees it. A page that meets the server's statement timeout is halved. Between two pages, and
        between the two evaluations of one, others may claim.
        """
        return self._portal.call(lambda: self._twin.simulate(settings, limit, list_due=list_due))

    def describe_schema(self) -> SchemaDescription:
        """Return the schema's version and the scenario types to evaluate, the app's own ones too."""
        return self._portal.call(self._twin.describe_schema)

    def verify_installation(self) -> Verification:
        """Hold the installation against what its release makes: say what is wrong, and the SQL that mends it.

        For a deployment or a health check; it takes some tenths of a second. Tables, columns, constraints, indexes,
        policies, grants and functions are compared, what the source views read and whether the service role may, the
        default settings, devices of several users, and this machine's clock.

        Raises:
            SchemaNotMigratedException: there is no scenario_repo, or one too old to be asked.

        """
        return self._portal.call(self._twin.verify_installation)

    def check_rule(self, scenario_type: ScenarioType | str, samples: int = 10) -> RuleCheck:
        """Run the rule of a scenario type without claiming: its faults, counts, up to 100 samples and plans.

        For whoever writes a rule; it takes about as long as a page of an evaluation.
        """
        return self._portal.call(lambda: self._twin.check_rule(scenario_type, samples))

    def cancel_notifications(self, ids: Iterable[UUID]) -> list[CancelAnswer | str]:
        """Cancel up to 1,000 pending notifications, and return one answer each, in the same order.

        What is cancelled fails with ``cancelled``, and holds for its cooldown (a milestone for good). What is leased is
        refused, for somebody may be sending it.
        """
        ids = _portal.taken(ids)
        return self._portal.call(lambda: self._twin.cancel_notifications(ids))

    def retry_notifications(self, ids: Iterable[UUID]) -> list[RetryOutcome]:
        """Let up to 1,000 failed notifications be tried anew, and return one outcome each, in the same order.

        What an evaluation made is freed: the next one may claim the same again, if it is still due. What a claim or a
        plain insert made is recorded anew, once, however often this is called.
        """
        ids = _portal.taken(ids)
        return self._portal.call(lambda: self._twin.retry_notifications(ids))

    def get_delivery_policies(self) -> list[DeliveryPolicy]:
        """Return when people may be told: the default policy, if there is one, and those of organizations."""
        return self._portal.call(self._twin.get_delivery_policies)

    def set_delivery_policy(self, policy: DeliveryPolicy) -> DeliveryPolicy:
        """Record the policy of an organization, or the default, in place of the one before."""
        return self._portal.call(lambda: self._twin.set_delivery_policy(policy))

    def delete_delivery_policy(self, organization_id: UUID | None) -> bool:
        """Delete the policy of an organization, or with None the default; return whether there was one."""
        return self._portal.call(lambda: self._twin.delete_delivery_policy(organization_id))

    def list_days_off(self, organization_id: UUID | None = None) -> list[DayOff]:
        """Return the days off of all, and with an organization its own too, the earliest first."""
        return self._portal.call(lambda: self._twin.list_days_off(organization_id))

    def add_days_off(self, days: Sequence[NewDayOff]) -> list[DayOff]:
        """Record up to 1,000 days off, and return them as they are stored."""
        return self._portal.call(lambda: self._twin.add_days_off(days))

    def remove_days_off(self, ids: Iterable[UUID]) -> int:
        """Delete up to 1,000 days off; return how many there were."""
        ids = _portal.taken(ids)
        return self._portal.call(lambda: self._twin.remove_days_off(ids))

    def list_mutes(self, user_id: UUID) -> list[Mute]:
        """Return what a user does not want to be told, also what is over. A signed-in user's client may call it too."""
        return self._portal.call(lambda: self._twin.list_mutes(user_id))

    def mute(self, mute: NewMute) -> Mute:
        """Record what a user does not want to be told, in place of what she said before of the same.

        A signed-in user's client may call it for herself; a user has at most 200 mutes.
        """
        return self._portal.call(lambda: self._twin.mute(mute))

    def unmute(
        self, user_id: UUID, organization_id: UUID | None = None, scenario_type: ScenarioType | str | None = None
    ) -> bool:
        """Delete the mute of this very scope; return whether there was one. A signed-in user's client may call it."""
        return self._portal.call(lambda: self._twin.unmute(user_id, organization_id, scenario_type))

    def export_person(self, user_id: UUID) -> PersonalData:
        """Return all that there is of one person, also in the app's own tables as the source views show them.

        Of somebody unknown there is nothing, which is no error.
        """
        return self._portal.call(lambda: self._twin.export_person(user_id))

    def erase_person(self, user_id: UUID) -> Erasure:
        """Delete all that the tables of scenario_repo have of one person, and say how much; the app's own stay.

        With her history go cooldowns, milestones and mutes: as long as she is an active mentor, she may be told all of
        it again. A worker that has a notification of hers in hand may still send it. Organizations' reports count
        fewer. Whoever is writing meanwhile is waited for, up to five seconds; if that is not enough, nothing is erased,
        and the error says that it can be tried again. To repeat the call is safe, and erases what has come since.
        """
        return self._portal.call(lambda: self._twin.erase_person(user_id))

    def purge_notifications(self, older_than: timedelta, batch: int = DEFAULT_PAGE_SIZE) -> int:
        """Delete what has been over for longer than ``older_than``, ``batch`` users per request; return the number.

        A row is over when it is settled and holds nothing any more. Rows that a decision depends on stay, however old:
        pending rows; milestones, but for failed ones that hold nothing; and for each user and scenario type the newest
        claim, those sent and delivered last, as many reminders as a series may have, and the last that told each
        subject. A scenario type whose longest cooldown is longer than ``older_than`` is left alone.
        """
        return self._portal.call(lambda: self._twin.purge_notifications(older_than, batch))

    def purge_page(
        self, older_than: timedelta, after: UUID | None = None, limit: int = DEFAULT_PAGE_SIZE
    ) -> PurgedPage:
        """Purge as :meth:`purge_notifications` does, for the next ``limit`` users after the user ``after`` alone."""
        return self._portal.call(lambda: self._twin.purge_page(older_than, after, limit))

    def list_pending(
        self,
        organization_id: UUID | None = None,
        scenario_type: ScenarioType | str | None = None,
        after: PendingNotification | None = None,
        limit: int = 100,
    ) -> list[PendingNotification]:
        """Return up to ``limit`` (at most 1,000) pending notifications, in the order in which they come due.

        Of one organization or all, of one scenario type or all; for the next page, ``after`` is the last one of this.
        """
        return self._portal.call(lambda: self._twin.list_pending(organization_id, scenario_type, after, limit))

    def list_failed(
        self,
        organization_id: UUID | None = None,
        scenario_type: ScenarioType | str | None = None,
        before: ScenarioNotification | None = None,
        limit: int = 100,
    ) -> list[ScenarioNotification]:
        """Return up to ``limit`` (at most 1,000) notifications that failed, newest first.

        Of one organization or all, of one scenario type or all; for the next page, ``before`` is the last one of this.
        """
        return self._portal.call(lambda: self._twin.list_failed(organization_id, scenario_type, before, limit))

    def get_settings(self, organization_id: UUID | None = None) -> list[ScenarioSettings]:
        """Return the default settings of every scenario type, and with an organization what it overrides after them."""
        return self._portal.call(lambda: self._twin.get_settings(organization_id))

    def set_settings(self, settings: ScenarioSettings) -> ScenarioSettings:
        """Change the settings that were given, the defaults or an organization's, and return all of that row.

        What is not given stays as it is. None of it is written if one does not fit.
        """
        return self._portal.call(lambda: self._twin.set_settings(settings))

    def explain_scenarios(self, user_id: UUID) -> list[ScenarioExplanation]:
        """Say for each scenario and each of the user's organizations whether the user is due, and why.

        The list is empty if the user is no mentor.
        """
        return self._portal.call(lambda: self._twin.explain_scenarios(user_id))

    def explain_notification(self, notification_id: UUID) -> NotificationPast | None:
        """Tell what happened to a notification and what it holds now; None: there is none of this id.

        How often it was handed out and tried is kept while it is pending.
        """
        return self._portal.call(lambda: self._twin.explain_notification(notification_id))

    def get_organization_report(
        self, organization_id: UUID, since: datetime, until: datetime, time_zone: str = "UTC"
    ) -> OrganizationReport:
        """Count an organization's notifications from ``since`` (inclusive) to ``until`` (exclusive).

        Per day of the time zone (a name such as ``Europe/Oslo``, of which PostgreSQL knows the list), scenario type,
        delivery status and, for failed ones, failure code. A number that fewer than 5 persons stand behind is left out:
        the days of a type, status and code that have such numbers are put together, in a line without a day; fewer than
        5 persons in all, and the line has no number either.
        """
        return self._portal.call(lambda: self._twin.get_organization_report(organization_id, since, until, time_zone))

    def get_outcomes(
        self,
        organization_id: UUID,
        scenario_type: ScenarioType | str,
        since: datetime,
        until: datetime,
        within: timedelta,
    ) -> Outcomes:
        """Say what came of an organization's notifications that were settled from ``since`` to before ``until``.

        Of the persons who were told: how many did what the scenario hopes for ``within`` that time after; beside those
        who were due and could not be told. Nobody was drawn by lot, so a difference names no cause. A number that fewer
        than 5 persons stand behind is None. Two answers for periods that overlap, or for another ``within``, can be
        subtracted from each other: give away only figures of fixed periods that do not overlap.
        """
        return self._portal.call(lambda: self._twin.get_outcomes(organization_id, scenario_type, since, until, within))

    def get_left_out(self, organization_id: UUID | None = None, *, under_way: bool = False) -> list[LeftOutPass]:
        """Say whom the last pass of each scenario type left out though it came true for them, and why.

        Of an organization, or of all. With ``under_way``: the passes that have begun and not ended. Fewer than 5 are
        not counted; in the sum of all are the organizations with 5 or more, and the others if they are 5 or more.
        """
        return self._portal.call(lambda: self._twin.get_left_out(organization_id, under_way=under_way))

    def get_status(self) -> Status:
        """Return how things stand: for each scenario its last pass and what is pending, and what failed lately.

        All pending notifications are read: about half a second for a million of them.
        """
        return self._portal.call(self._twin.get_status)


class ScenarioTriggerEngine:
    """Evaluates whole organizations: finds who is due, and claims, page by page."""

    def __init__(
        self,
        repository: ScenarioNotificationRepository,
        *,
        page_size: int = DEFAULT_PAGE_SIZE,
        on_page: Callable[[ScenarioType | str, EvaluationPage], None] | None = None,
    ) -> None:
        """Take a worker's repository; ``on_page`` is called after every page, to show progress.

        That happens in the event loop's thread: it must not block, nor call this module.

        ``page_size`` is the largest page, in mentors. A page that meets the server's statement timeout is halved.
        """
        repository = _portal.checked(ScenarioNotificationRepository, repository)
        self._portal = repository._portal
        self._twin = engine.ScenarioTriggerEngine(repository._twin, page_size=page_size, on_page=on_page)

    def stop(self) -> None:
        """End the run after the page that is running, and start no other one (a handler for SIGTERM).

        The next run, of another engine, continues there: every page is stored with what it claimed.
        """
        self._portal.soon(self._twin.stop)

    def run(  # noqa: PLR0913 - settings, three by name
        self,
        scenario_types: Collection[ScenarioType | str] | None = None,
        organization_id: UUID | None = None,
        time_budget: timedelta = timedelta(seconds=25),
        *,
        dry_run: bool = False,
        due_within: timedelta | None = None,
        list_due: bool = False,
    ) -> EngineReport:
        """Evaluate the scenarios for one organization or all, within the time budget.

        Unless given, they are all that have a rule in the database, the app's own ones too.

        The scenarios alternate page by page (round robin), and the first is who has waited longest, so that none
        starves, in this run or in many short ones. Pages have the size that the last runs found to be done in time, and
        grow again. When another page would not fit the budget, the run stops, and the next run continues there. A page
        still running at the end of its share of the time is cancelled; the database commits it as a whole or not at
        all. A page whose error may pass is tried again for about half a minute, with growing pauses in which the others
        go on. Any other error stops its scenario alone and is in the report.

        A dry run starts from the first mentor, writes nothing and returns the same numbers; with ``list_due`` also who
        they are: :attr:`ScenarioReport.due_mentors`.

        What came true longer than ``due_within`` ago (unless given, the settings') is history: it is not told, and
        counted in the report.
        """
        scenario_types = _portal.taken(scenario_types)
        return self._portal.call(
            lambda: self._twin.run(
                scenario_types, organization_id, time_budget, dry_run=dry_run, due_within=due_within, list_due=list_due
            )
        )


class DeliveryWorker:
    """Sends pending notifications until it is stopped.

    A sender blocks, in a thread of its own. It needs its own timeout, for a thread can't be cancelled.
    ``on_progress`` is called in the event loop's thread: it must not block, nor call this module.

    ``send`` gets one leased notification with the user's device tokens, and returns when it is sent; or
    ``send_to_device`` gets it once for each device, and is called for all of them at the same time. One device reached
    is sent; a retry goes only where it has not arrived. A user without a device has no token: ``send`` may use another
    channel, or raises :class:`SuppressDelivery`; by device that is what becomes of it.

    A sender may raise :class:`PermanentDeliveryError`, :class:`SuppressDelivery`, :class:`DeliverLater` and
    :class:`InvalidDeviceToken`. Any other exception means a retry, with back-off; a failed last attempt is final.
    Unless ``max_attempts`` is given, the scenario's settings say how many attempts there are. Up to ``concurrency``
    notifications are sent at once, each for at most ``send_timeout``; a slow one does not delay the others. ``rate``
    limits how many begin in a second. When ``stop_after`` sends in a row fail in the same way, the worker gives their
    attempts back and stops; None: it never does.
    """

    def __init__(  # noqa: PLR0913 - settings, all by name
        self,
        repository: ScenarioNotificationRepository,
        send: Send | None = None,
        *,
        send_to_device: SendToDevice | None = None,
        concurrency: int = 20,
        send_timeout: timedelta = timedelta(seconds=30),
        idle_pause: timedelta = timedelta(seconds=5),
        max_attempts: int | None = None,
        organization_id: UUID | None = None,
        scenario_types: Collection[ScenarioType | str] | None = None,
        rate: float | None = None,
        stop_after: int | None = 10,
        on_progress: Progress | None = None,
    ) -> None:
        """Take a worker's repository and the sender, of the one kind or the other."""
        repository = _portal.checked(ScenarioNotificationRepository, repository)
        self._portal = repository._portal
        self._twin = delivery.DeliveryWorker(
            repository._twin,
            _portal.in_threads(send),
            send_to_device=_portal.in_threads(send_to_device),
            concurrency=concurrency,
            send_timeout=send_timeout,
            idle_pause=idle_pause,
            max_attempts=max_attempts,
            organization_id=organization_id,
            scenario_types=scenario_types,
            rate=rate,
            stop_after=stop_after,
            on_progress=on_progress,
        )

    @property
    def is_abandoning(self) -> bool:
        """Whether a send ignored its cancellation: it may go on, and keep the event loop from ending."""
        return self._twin.is_abandoning

    @property
    def settled(self) -> Counter[SettlementAnswer | str]:
        """The counts of the answers so far, also when :meth:`run` has raised."""
        return self._twin.settled

    def stop(self) -> None:
        """Lease no more; finish and settle the running sends (a handler for SIGTERM, or another thread)."""
        self._portal.soon(self._twin.stop)

    def run(self, *, until_idle: bool = False) -> Counter[SettlementAnswer | str]:
        """Deliver until :meth:`stop`, or with ``until_idle`` until nothing is due; return the counts of the answers.

        It waits for a database that can't be reached; with ``until_idle`` for a minute, and for what was sent as long
        as the leases last. KeyboardInterrupt cancels the running sends and releases their leases, so that
        others can lease them at once.

        Raises:
            ScenarioRepositoryException: the database refused (waiting would not help), or with ``until_idle`` it can't
                be reached for too long.
            SenderFailingError: ``stop_after`` sends in a row failed in the same way.
            BaseException: what a sender raised that is no Exception, after what was sent is settled.

        """
        return self._portal.call(lambda: self._twin.run(until_idle=until_idle))
