"""What a setting would change: pages of a dry run, by settings that nobody has.

The third part of :class:`~scenario_repo.ScenarioNotificationRepository`, which inherits it.
"""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from scenario_repo import _arguments, _postgrest
from scenario_repo._limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from scenario_repo._operating import Operating
from scenario_repo._translation import STATEMENT_TIMEOUT
from scenario_repo.exceptions import ScenarioRepositoryException
from scenario_repo.models import DueMentor, EvaluationPage, StoredSkipReason
from scenario_repo.settings import ScenarioSettings
from scenario_repo.simulation import Simulation


class _Page(BaseModel):
    today: EvaluationPage
    simulated: EvaluationPage
    next_after: UUID | None


_PAGE = TypeAdapter(_Page)


class Simulating(Operating):
    """What operators try before they change it."""

    async def simulate(
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
        checked = _arguments.settings(settings)
        size = _arguments.positive("limit", limit, MAX_PAGE_SIZE)
        pages: list[_Page] = []
        while not pages or pages[-1].next_after is not None:
            after = pages[-1].next_after if pages else None
            try:
                pages.append(await self._simulated_page(checked, after, size, list_due=list_due))
            except ScenarioRepositoryException as error:
                if error.code != STATEMENT_TIMEOUT or size == 1:
                    raise
                size //= 2
        return Simulation(
            scenario_type=checked.scenario_type,
            organization_id=checked.organization_id,
            today=_sum([page.today for page in pages]),
            simulated=_sum([page.simulated for page in pages]),
        )

    async def _simulated_page(
        self, settings: ScenarioSettings, after: UUID | None, limit: int, *, list_due: bool
    ) -> _Page:
        return await self._call(
            _PAGE,
            "simulate",
            "scenario_simulate",
            settings.scenario_type,
            _postgrest.changes_of(settings),
            settings.organization_id,
            after,
            limit,
            bool(list_due),
        )


def _sum(pages: list[EvaluationPage]) -> EvaluationPage:
    skipped: Counter[StoredSkipReason] = Counter()
    due: list[DueMentor] = []
    for page in pages:
        skipped.update(page.skipped)
        due += page.due_mentors
    return EvaluationPage(
        evaluated=sum(page.evaluated for page in pages),
        due=sum(page.due for page in pages),
        claimed=sum(page.claimed for page in pages),
        history=sum(page.history for page in pages),
        skipped=dict(skipped),
        next_after=None,
        due_mentors=tuple(due),
    )
