"""What a run of the engine did: counts for each scenario, and the error where one failed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, computed_field, field_serializer

from scenario_repo.exceptions import ScenarioRepositoryException
from scenario_repo.models import DueMentor, StoredScenarioType, StoredSkipReason


class ScenarioReport(BaseModel):
    """What a run did for one scenario type: the run's own part, where other engines shared the pass."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    scenario_type: StoredScenarioType
    evaluated: int
    due: int
    claimed: int
    history: int
    """Mentors left out, since what would be told came true longer than ``due_within`` ago."""
    skipped: dict[StoredSkipReason, int]
    pages: int
    seconds: float
    """The time spent on this scenario."""
    completed: bool
    """Whether the pass reached its end, whoever ended it; if not, the next run continues where this one stopped."""
    error: ScenarioRepositoryException | None = None
    """The error that stopped this scenario; it did not stop the others."""
    due_mentors: tuple[DueMentor, ...] = ()
    """With ``list_due``: those who are counted as claimed, by ``user_id``; else empty."""

    @field_serializer("error", when_used="json-unless-none")
    def _error(self, error: ScenarioRepositoryException) -> dict[str, str | int | float | bool | None]:
        return {
            "type": type(error).__name__,
            "message": str(error.args[0]),
            "operation": error.operation,
            "code": error.code,
            "constraint": error.constraint,
            "relation": error.relation,
            "column": error.column,
            "http_status": error.http_status,
            "retryable": error.retryable,
            "retry_after": error.retry_after,
        }


class EngineReport(BaseModel):
    """What a run did: one report per scenario, in the order of the request.

    ``model_dump_json()`` has all of it, also when a scenario failed: an error is its type, message and facts.
    """

    model_config = ConfigDict(frozen=True)

    scenarios: tuple[ScenarioReport, ...]
    seconds: float
    dry_run: bool

    @computed_field  # type: ignore[prop-decorator] # mypy knows no decorated property
    @property
    def completed(self) -> bool:
        """Whether the pass of every scenario reached its end."""
        return all(scenario.completed for scenario in self.scenarios)

    @computed_field  # type: ignore[prop-decorator] # as above
    @property
    def history(self) -> int:
        """How many were left out in all, since it came true longer than ``due_within`` ago."""
        return sum(scenario.history for scenario in self.scenarios)

    @property
    def errors(self) -> tuple[ScenarioRepositoryException, ...]:
        """The errors that stopped scenarios."""
        return tuple(scenario.error for scenario in self.scenarios if scenario.error is not None)
