"""The app: which address is which page, the templates, and errors without a value in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, time, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from scenario_repo._cli.endings import line_of
from scenario_repo._cli.past import past_lines
from scenario_repo._cli.words import minute_of, not_counted
from scenario_repo._limits import MAX_DAYS
from scenario_repo.console import asked, organizations, outcomes, overview, people
from scenario_repo.console.guard import LOOPBACK, Guard
from scenario_repo.console.readings import Reading, Readings
from scenario_repo.console.tables import (
    FAILED,
    NOTIFICATION,
    ORGANIZATION,
    PENDING,
    PERSON,
    address,
    organization,
    person,
)
from scenario_repo.console.text import shown
from scenario_repo.exceptions import InvalidDataException, ScenarioRepositoryException
from scenario_repo.repository import ScenarioNotificationRepository

_HERE: Final = Path(__file__).parent
_DAYS: Final = 30
_BAD_REQUEST, _NOT_FOUND, _BAD_GATEWAY, _UNAVAILABLE = 400, 404, 502, 503
_TITLES: Final = {400: "That can't be looked up", 404: "There is nothing here", 503: "The database is unavailable"}

Page = Callable[[Request], Awaitable[Response]]


def console(
    repository: ScenarioNotificationRepository,
    *,
    hosts: frozenset[str] = LOOPBACK,
    token: str | None,
    cookie: str = "scenario_console",
) -> ASGIApp:
    """Make the console on a worker's repository, behind its :class:`~scenario_repo.console.guard.Guard`."""
    return Guard(_Pages(repository).app, hosts=hosts, token=token, cookie=cookie)


class _Pages:
    """The pages, each of which reads and renders."""

    def __init__(self, repository: ScenarioNotificationRepository) -> None:
        self._repository = repository
        self._readings = Readings(repository)
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"shown": shown, "minute": minute_of}
        self._templates.globals |= {"version": version("scenario_repo"), "address": address}
        pages: dict[str, Page] = {
            "/": self._overview,
            "/live": self._live,
            PERSON: self._person,
            NOTIFICATION: self._notification,
            ORGANIZATION: self._organization,
            PENDING: self._list,
            FAILED: self._list,
        }
        self.app: ASGIApp = Starlette(
            routes=[
                *(Route(path, page, methods=["GET"]) for path, page in pages.items()),
                Mount("/static", StaticFiles(directory=_HERE / "static")),
            ],
            exception_handlers={ScenarioRepositoryException: self._refused, HTTPException: self._not_found},
        )

    async def _overview(self, request: Request) -> Response:
        reading = await self._readings.newest()
        settings = await self._repository.get_settings()
        return self._page(
            request,
            "overview.html",
            **_live_parts(reading),
            failures=overview.failures(reading.status),
            settings=overview.settings(settings, reading.status),
            schema=reading.status.version,
        )

    async def _live(self, request: Request) -> Response:
        return self._page(request, "live.html", **_live_parts(await self._readings.newest()))

    async def _person(self, request: Request) -> Response:
        user_id, limit = asked.id_of(request), asked.limit(request)
        verdicts = await self._repository.explain_scenarios(user_id)
        history = await self._repository.list_notifications(user_id, limit=limit)
        mutes = await self._repository.list_mutes(user_id)
        return self._page(
            request,
            "person.html",
            user_id=user_id,
            verdicts=people.verdicts(verdicts),
            evidence=people.evidence(verdicts),
            history=people.history(history),
            more=asked.more(request, len(history)),
            mutes=people.mutes(mutes),
        )

    async def _notification(self, request: Request) -> Response:
        notification_id = asked.id_of(request)
        past = await self._repository.explain_notification(notification_id)
        if past is None:
            return self._error(request, _NOT_FOUND, "There is no notification of this id, or no more.")
        return self._page(
            request,
            "notification.html",
            id=notification_id,
            lines=past_lines(past),
            person=person(past.user_id),
            organization=organization(past.organization_id),
        )

    async def _organization(self, request: Request) -> Response:
        organization_id, zone = asked.id_of(request), asked.time_zone(request)
        days = asked.number(request, "days", _DAYS, MAX_DAYS)
        until = datetime.now(zone)
        since = datetime.combine(until.date() - timedelta(days=days - 1), time(), zone)
        report = await self._repository.get_organization_report(organization_id, since, until, zone.key)
        came_of_it = {
            kind: await self._repository.get_outcomes(organization_id, kind, since, until, outcomes.WITHIN)
            for kind in sorted({str(line.scenario_type) for line in report.lines})
        }
        left_out = await self._repository.get_left_out(organization_id)
        settings = await self._repository.get_settings(organization_id)
        return self._page(
            request,
            "organization.html",
            organization_id=organization_id,
            days=days,
            zone=zone.key,
            lengths=sorted({*organizations.DAYS, days}),
            total=report.count(),
            not_counted=list(not_counted(report.not_counted())),
            statuses=organizations.STATUSES,
            figures=[organizations.per_day(report), organizations.per_scenario(report)] if report.lines else [],
            reasons=organizations.reasons(report),
            left_out=outcomes.left_out(left_out),
            came_of_it=outcomes.came_of_it(came_of_it),
            differences=list(outcomes.differences(came_of_it)),
            overrides=organizations.overrides(settings),
        )

    async def _list(self, request: Request) -> Response:
        scope, limit = asked.scope(request), asked.limit(request)
        is_failed = request.url.path == FAILED
        if is_failed:
            table = people.failed(await self._repository.list_failed(*scope, limit=limit))
        else:
            table = people.pending(await self._repository.list_pending(*scope, limit=limit))
        return self._page(
            request,
            "list.html",
            title="Failed" if is_failed else "Pending",
            organization_id=scope[0],
            scenario=scope[1],
            table=table,
            more=asked.more(request, len(table.rows)),
        )

    def _page(self, request: Request, template: str, **values: object) -> HTMLResponse:
        return HTMLResponse(self._templates.get_template(template).render(here=request.url.path, **values))

    async def _refused(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, ScenarioRepositoryException):  # as the types of starlette would have it
            raise error
        if isinstance(error, InvalidDataException):
            status = _BAD_REQUEST
        else:
            status = _UNAVAILABLE if error.retryable else _BAD_GATEWAY
        return self._error(request, status, line_of(error))

    async def _not_found(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else _BAD_GATEWAY
        return self._error(request, status, "The overview leads to all there are.")

    def _error(self, request: Request, status: int, text: str) -> Response:
        title = _TITLES.get(status, "The database refused this")
        page = self._page(request, "error.html", title=title, text=text)
        page.status_code = status
        return page


def _live_parts(reading: Reading) -> dict[str, object]:
    return {
        "reading": reading,
        "headlines": list(overview.headlines(reading)),
        "deliveries": overview.deliveries(reading.status),
        "passes": overview.passes(reading.status),
    }
