"""The settings of the scenarios, as an operator reads and changes them: rows of ``scenario_evaluation_config``."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from scenario_repo._fields import Duration, Id, Input, PositiveInteger
from scenario_repo.exceptions import InvalidDataException
from scenario_repo.models import GivenScenarioType

_TIMEDELTA = TypeAdapter(timedelta)


def _length(value: object) -> object:
    # PostgreSQL writes an interval as text.
    try:
        return _TIMEDELTA.validate_python(value) if isinstance(value, str) else value
    except ValidationError:
        raise PydanticCustomError("expected", "expected a timedelta, or an interval such as 30 days") from None


Length = Annotated[Duration, BeforeValidator(_length)]
"""A length of time, or its text as PostgreSQL writes it."""
_Count = Annotated[int, Field(strict=True, ge=1, le=1000)]


class ScenarioSettings(Input):
    """Settings of a scenario type: the defaults, or what an organization overrides.

    To change some, name these alone: what is not given stays as it is. None takes a setting away: an organization then
    has the default, and the default has none, where the scenario can do without.
    """

    scenario_type: GivenScenarioType
    organization_id: Id | None = None
    """Whose overrides they are; None: the defaults of all organizations."""
    is_enabled: Annotated[bool, Field(strict=True)] | None = None
    """Whether the scenario is evaluated and delivered."""
    cooldown: Length | None = None
    """The shortest time between two notifications to one user. A milestone has none: it is told once."""
    inactive_after: Length | None = None
    """``inactivity``: without activity for this long a mentor is due; ``welcome_back``: the gap before a return."""
    returned_within: Length | None = None
    """``welcome_back``: how long after the return a mentor is still welcomed; at most ``inactive_after``."""
    expires_within: Length | None = None
    """``certification_expiry``: how long before a certificate expires its holder is told."""
    milestones: tuple[PositiveInteger, ...] | None = None
    """``milestone``: the numbers of activities that are told."""
    due_within: Length | None = None
    """What came true longer ago is history, and not told; ``certification_expiry`` looks ahead, and has none."""
    max_reminders: _Count | None = None
    """``inactivity``: how many notifications one absence calls for at most."""
    retry_failed_after: Length | None = None
    """How long a failure to deliver refuses a later claim; doubled by each failure in a row, up to the cooldown."""
    deliver_within: Length | None = None
    """How long after its trigger a notification is still handed out."""
    max_attempts: _Count | None = None
    """How many tries a notification has."""
    priority: Annotated[int, Field(strict=True, ge=0, le=9)] | None = None
    """What a user is told first where several things wait: 1 before 9; 0 is urgent, and waits for nothing."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.milestones == ():
            raise InvalidDataException("ScenarioSettings.milestones: expected at least one number, got none")
        both = self.returned_within is not None and self.inactive_after is not None
        if both and self.returned_within > self.inactive_after:  # type: ignore[operator]
            raise InvalidDataException("ScenarioSettings.returned_within: expected at most inactive_after")
        return self

    @property
    def changes(self) -> dict[str, object]:
        """What was given beside whose settings they are, by name."""
        scope = {"scenario_type", "organization_id"}
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set - scope}
