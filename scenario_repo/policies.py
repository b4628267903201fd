"""When a person may be told, and what she does not want to be told: policies, days off and mutes."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated, Final, Self
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from scenario_repo._fields import Id, Input, Instant, Row
from scenario_repo.exceptions import InvalidDataException
from scenario_repo.models import GivenScenarioType, StoredScenarioType

MAX_GAP: Final = timedelta(days=7)
"""The limit of the CHECK ``scenario_delivery_policy_min_gap_is_at_most_a_week``."""
MAX_DAYS_OFF: Final = timedelta(days=366)
"""The limit of the CHECK ``scenario_days_off_are_at_most_a_year``."""


_SUNDAY: Final = 7


def _time_zone(value: object) -> object:
    try:
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PydanticCustomError("expected", "expected the name of a time zone, such as Europe/Oslo") from None
    return value


def _weekdays(value: object) -> object:
    days = list(value) if isinstance(value, list | tuple | set | frozenset | range) else []
    if not days or not all(isinstance(day, int) and not isinstance(day, bool) and 1 <= day <= _SUNDAY for day in days):
        raise PydanticCustomError("expected", "expected at least one day, each from 1 (Monday) to 7")
    return tuple(sorted(set(days)))


def _midnight(value: object) -> object:
    # PostgreSQL's 24:00 is the next day's midnight, which a window that closes at 00:00 ends at too.
    return time(0) if value == "24:00:00" else value


class DeliveryPolicy(Input):
    """When the people of an organization may be told; None in a field inherits it from the default policy.

    Without a policy it is always the moment. What may not be told now is kept for the first moment that is permitted.
    """

    organization_id: Id | None = None
    """Whose policy it is; None: the default of all organizations."""
    time_zone: Annotated[str, BeforeValidator(_time_zone)] | None = None
    """The name of the zone whose clock and calendar count, such as ``Europe/Oslo``; UTC if no policy says."""
    weekdays: Annotated[tuple[int, ...], BeforeValidator(_weekdays)] | None = None
    """The days on which people may be told, 1 (Monday) to 7."""
    opens_at: time | None = None
    """From when on, by the zone's clock; inherited together with ``closes_at``."""
    closes_at: Annotated[time, BeforeValidator(_midnight)] | None = None
    """Until when, exclusive. Not after ``opens_at``: over midnight, and the window belongs to the day it opens. From
    midnight until midnight is all day."""
    min_gap: Annotated[timedelta, Field(ge=timedelta(0), le=MAX_GAP)] | None = None
    """The shortest time between two notifications to one person, whatever they are about and whichever organization
    has the other; at most 7 days. Priority 0 does not wait for it, nor for the policy."""

    @model_validator(mode="after")
    def _opens_and_closes(self) -> Self:
        if (self.opens_at is None) != (self.closes_at is None):
            raise InvalidDataException("DeliveryPolicy.closes_at: expected both opens_at and closes_at, or neither")
        if self.opens_at is not None and self.opens_at == self.closes_at != time(0):
            raise InvalidDataException("DeliveryPolicy.closes_at: expected another time than opens_at: it never opens")
        for name in ("opens_at", "closes_at"):
            at = getattr(self, name)
            if at is not None and at.tzinfo is not None:
                raise InvalidDataException(f"DeliveryPolicy.{name}: expected a time of day without a time zone")
        return self


class NewDayOff(Input):
    """Days on which nobody is told, of an organization or (None) of all: calendar days of the policy's zone."""

    first_day: date
    last_day: date
    """Inclusive; at most 366 days."""
    organization_id: Id | None = None
    stops_clock: bool = False
    """Whether the days count for nothing in lengths that are compared with ``inactive_after``."""

    @model_validator(mode="after")
    def _end_after_they_begin(self) -> Self:
        if not timedelta(0) <= self.last_day - self.first_day < MAX_DAYS_OFF:
            raise InvalidDataException("NewDayOff.last_day: expected first_day or one of the 365 days after it")
        return self


class DayOff(Row):
    """Days off as they are stored."""

    id: UUID
    organization_id: UUID | None
    first_day: date
    last_day: date
    stops_clock: bool


class NewMute(Input):
    """What a person does not want to be told: a scenario type or (None) all, of an organization or (None) of all."""

    user_id: Id
    organization_id: Id | None = None
    scenario_type: GivenScenarioType | None = None
    muted_until: Instant | None = None
    """None: for good."""


class Mute(Row):
    """A mute as it is stored."""

    id: UUID
    user_id: UUID
    organization_id: UUID | None
    scenario_type: StoredScenarioType | None
    muted_until: AwareDatetime | None

    def is_over(self, now: datetime) -> bool:
        """Whether it mutes nothing any more."""
        return self.muted_until is not None and self.muted_until <= now
