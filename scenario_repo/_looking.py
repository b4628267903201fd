"""What can be seen: how things stand, why somebody is told or not, and what came of it. One request each, no writes.

A part of :class:`~scenario_repo.ScenarioNotificationRepository`, which inherits it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel, TypeAdapter
from supabase import AsyncClient

from scenario_repo import _arguments, _postgrest
from scenario_repo._clients import checked_client
from scenario_repo.models import OrganizationReport, ReportLine, ScenarioExplanation, ScenarioType
from scenario_repo.outcomes import NotificationPast, Outcomes
from scenario_repo.status import LeftOutPass, Status

T = TypeVar("T")


class _Explanations(BaseModel):
    explanations: list[ScenarioExplanation]


class _ReportLines(BaseModel):
    lines: tuple[ReportLine, ...]


class _Passes(BaseModel):
    passes: list[LeftOutPass]


class _Past(BaseModel):
    notification: NotificationPast | None


_EXPLANATIONS = TypeAdapter(_Explanations)
_REPORT_LINES = TypeAdapter(_ReportLines)
_STATUS = TypeAdapter(Status)
_OUTCOMES = TypeAdapter(Outcomes)
_PASSES = TypeAdapter(_Passes)
_PAST = TypeAdapter(_Past)


class Looking:
    """What can be seen."""

    def __init__(self, client: AsyncClient) -> None:
        """Keep the client; its owner closes it.

        Raises:
            ConfigurationException: it is none that can be awaited, such as a blocking ``supabase.Client``.

        """
        self._client = checked_client(client)

    async def explain_scenarios(self, user_id: UUID) -> list[ScenarioExplanation]:
        """Say for each scenario and each of the user's organizations whether the user is due, and why.

        The list is empty if the user is no mentor.
        """
        checked = _arguments.user_id(user_id)
        found = await self._call(_EXPLANATIONS, "explain_scenarios", "scenario_explain", checked)
        return found.explanations

    async def explain_notification(self, notification_id: UUID) -> NotificationPast | None:
        """Tell what happened to a notification and what it holds now; None: there is none of this id.

        How often it was handed out and tried is kept while it is pending.
        """
        checked = _arguments.an_id("notification_id", notification_id)
        told = await self._call(_PAST, "explain_notification", "scenario_explain_notification", checked)
        return told.notification

    async def get_organization_report(
        self, organization_id: UUID, since: datetime, until: datetime, time_zone: str = "UTC"
    ) -> OrganizationReport:
        """Count an organization's notifications from ``since`` (inclusive) to ``until`` (exclusive).

        Per day of the time zone (a name such as ``Europe/Oslo``, of which PostgreSQL knows the list), scenario type,
        delivery status and, for failed ones, failure code. A number that fewer than 5 persons stand behind is left out:
        the days of a type, status and code that have such numbers are put together, in a line without a day; fewer than
        5 persons in all, and the line has no number either.
        """
        organization = _arguments.organization_id(organization_id)
        first, last = _arguments.instant("since", since), _arguments.instant("until", until)
        zone = _arguments.time_zone("time_zone", time_zone)
        counted = await self._call(
            _REPORT_LINES,
            "get_organization_report",
            "scenario_get_organization_report",
            organization,
            first,
            last,
            zone,
        )
        return OrganizationReport(
            organization_id=organization, since=first, until=last, lines=counted.lines, time_zone=zone
        )

    async def get_outcomes(
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
        return await self._call(
            _OUTCOMES,
            "get_outcomes",
            "scenario_get_outcomes",
            _arguments.organization_id(organization_id),
            _arguments.scenario_type(scenario_type),
            _arguments.instant("since", since),
            _arguments.instant("until", until),
            _arguments.seconds("within", within),
        )

    async def get_left_out(self, organization_id: UUID | None = None, *, under_way: bool = False) -> list[LeftOutPass]:
        """Say whom the last pass of each scenario type left out though it came true for them, and why.

        Of an organization, or of all. With ``under_way``: the passes that have begun and not ended. Fewer than 5 are
        not counted; in the sum of all are the organizations with 5 or more, and the others if they are 5 or more.
        """
        found = await self._call(
            _PASSES,
            "get_left_out",
            "scenario_get_left_out",
            _arguments.optional_id("organization_id", organization_id),
            bool(under_way),
        )
        return found.passes

    async def get_status(self) -> Status:
        """Return how things stand: for each scenario its last pass and what is pending, and what failed lately.

        All pending notifications are read: about half a second for a million of them.
        """
        return await self._call(_STATUS, "get_status", "scenario_get_status")

    async def _call(self, answer: TypeAdapter[T], operation: str, function: str, *arguments: object) -> T:
        """Call a function; all of them are idempotent."""
        request = partial(_postgrest.function_request, self._client, function, *arguments)
        return await _postgrest.fetch(request, answer, operation=operation, idempotent=True)
