"""The app: which address is which page, the templates, and errors without a value in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, time, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Final
from uuid import UUID

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from scenario_repo._cli.endings import line_of
from scenario_repo._cli.words import minute_of
from scenario_repo._limits import MAX_DAYS, MAX_LISTED
from scenario_repo.console import organizations, overview, people
from scenario_repo.console.guard import LOOPBACK, Guard
from scenario_repo.console.readings import Reading, Readings
from scenario_repo.console.tables import FAILED, ORGANIZATION, PENDING, PERSON, address
from scenario_repo.console.text import shown
from scenario_repo.exceptions import InvalidDataException, ScenarioRepositoryException
from scenario_repo.repository import ScenarioNotificationRepository

_HERE: Final = Path(__file__).parent
_FIRST: Final = 100
"""How many rows a list shows at first; a link shows up to 1,000."""
_DAYS: Final = 30
_BAD_REQUEST, _BAD_GATEWAY, _UNAVAILABLE = 400, 502, 503
_TITLES: Final = {400: "That can't be looked up", 404: "There is no such page", 503: "The database is unavailable"}

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
        user_id, limit = _id(request, "id"), _limit(request)
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
            more=_more(request, len(history), limit),
            mutes=people.mutes(mutes),
        )

    async def _organization(self, request: Request) -> Response:
        organization_id, days = _id(request, "id"), _number(request, "days", _DAYS, MAX_DAYS)
        until = datetime.now(UTC)
        since = datetime.combine(until.date() - timedelta(days=days - 1), time(), UTC)
        report = await self._repository.get_organization_report(organization_id, since, until)
        settings = await self._repository.get_settings(organization_id)
        return self._page(
            request,
            "organization.html",
            organization_id=organization_id,
            days=days,
            lengths=sorted({*organizations.DAYS, days}),
            total=report.count(),
            statuses=organizations.STATUSES,
            figures=[organizations.per_day(report), organizations.per_scenario(report)] if report.lines else [],
            reasons=organizations.reasons(report),
            overrides=organizations.overrides(settings),
        )

    async def _list(self, request: Request) -> Response:
        scope, limit = _scope(request), _limit(request)
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
            more=_more(request, len(table.rows), limit),
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


def _id(request: Request, name: str) -> UUID:
    """Read an id; what was given instead is not repeated."""
    try:
        return UUID(request.query_params.get(name, "").strip())
    except ValueError:
        raise InvalidDataException(f"{name}: expected a UUID") from None


def _scope(request: Request) -> tuple[UUID | None, str | None]:
    """Read of which organization and scenario type a list is; None: of all."""
    given = request.query_params.get("organization", "").strip()
    return _id(request, "organization") if given else None, request.query_params.get("scenario", "").strip() or None


def _limit(request: Request) -> int:
    return _number(request, "limit", _FIRST, MAX_LISTED)


def _number(request: Request, name: str, otherwise: int, most: int) -> int:
    given = request.query_params.get(name, str(otherwise)).strip()
    if not (given.isascii() and given.isdecimal() and len(given) <= len(str(most)) and 1 <= int(given) <= most):
        raise InvalidDataException(f"{name}: expected a number from 1 to {most:,}")
    return int(given)


def _more(request: Request, found: int, limit: int) -> str | None:
    """Return where more of a list is shown; None: this is all, or as much as a page shows."""
    if found < limit or limit >= MAX_LISTED:
        return None
    return address(request.url.path, **{**request.query_params, "limit": MAX_LISTED})
