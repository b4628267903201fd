"""What a setting would change, before it is used: who would be due by it, beside who is due today.

Its numbers are exact, also those of fewer than 5 persons: it is an operator's dry run, who may list the persons. They
are not to be given away.
"""

from __future__ import annotations

from uuid import UUID

from scenario_repo._fields import Row
from scenario_repo.models import DueMentor, EvaluationPage, StoredScenarioType


class Simulation(Row):
    """One scenario type, evaluated twice without claiming: by today's settings, and by others."""

    scenario_type: StoredScenarioType
    organization_id: UUID | None = None
    """Whose mentors were evaluated, by what this one would override; None: all, by other defaults."""
    today: EvaluationPage
    """The sums over all mentors, by the settings as they are."""
    simulated: EvaluationPage
    """The sums over all mentors, by the settings as they would be."""

    @property
    def gained(self) -> tuple[DueMentor, ...]:
        """With ``list_due``: whom an evaluation would claim for by the other settings alone."""
        return _beyond(self.simulated, self.today)

    @property
    def lost(self) -> tuple[DueMentor, ...]:
        """With ``list_due``: whom an evaluation would claim for by today's settings alone."""
        return _beyond(self.today, self.simulated)


def _beyond(these: EvaluationPage, those: EvaluationPage) -> tuple[DueMentor, ...]:
    known = {one.user_id for one in those.due_mentors}
    return tuple(one for one in these.due_mentors if one.user_id not in known)
