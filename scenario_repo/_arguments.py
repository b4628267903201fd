"""Checks the arguments of the repository's methods before anything is sent.

Each function takes the caller's value and returns it as its type, or raises
:class:`~scenario_repo.exceptions.InvalidDataException` with the argument's name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, TypeVar
from uuid import UUID

from pydantic import Field, InstanceOf, TypeAdapter

from scenario_repo._fields import Duration, Id, Instant, PositiveInteger, validated
from scenario_repo._limits import MAX_CLAIMS, MAX_LEASE_SECONDS, MAX_LEASED_CLAIMS, MAX_LEASES, MAX_LOOK_UPS
from scenario_repo.exceptions import InvalidDataException
from scenario_repo.models import (
    GivenScenarioType,
    NewScenarioNotification,
    NotificationClaim,
    ScenarioNotification,
    ScenarioType,
    Settlement,
)
from scenario_repo.policies import DeliveryPolicy, NewDayOff, NewMute
from scenario_repo.settings import ScenarioSettings
from scenario_repo.status import PendingNotification

T = TypeVar("T")

_NEW_NOTIFICATION = TypeAdapter(InstanceOf[NewScenarioNotification])
_UUID: TypeAdapter[UUID] = TypeAdapter(Id)
_OPTIONAL_UUID: TypeAdapter[UUID | None] = TypeAdapter(Id | None)
_UUIDS: TypeAdapter[list[UUID]] = TypeAdapter(list[Id])
_SCENARIO_TYPE: TypeAdapter[ScenarioType | str] = TypeAdapter(GivenScenarioType)
_SCENARIO_TYPES: TypeAdapter[list[ScenarioType | str] | None] = TypeAdapter(list[GivenScenarioType] | None)
_NOTIFICATION: TypeAdapter[ScenarioNotification | None] = TypeAdapter(InstanceOf[ScenarioNotification] | None)
_CLAIMS = TypeAdapter(list[InstanceOf[NotificationClaim]])
_SETTLEMENTS = TypeAdapter(list[InstanceOf[Settlement]])
_POLICY = TypeAdapter(InstanceOf[DeliveryPolicy])
_DAYS_OFF = TypeAdapter(list[InstanceOf[NewDayOff]])
_MUTE = TypeAdapter(InstanceOf[NewMute])
_SETTINGS = TypeAdapter(InstanceOf[ScenarioSettings])
_PENDING: TypeAdapter[PendingNotification | None] = TypeAdapter(InstanceOf[PendingNotification] | None)
_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)
_DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)
_TIME_ZONE: TypeAdapter[str] = TypeAdapter(Annotated[str, Field(strict=True, pattern=r"\A[A-Za-z0-9_+/-]{1,64}\z")])
_POSITIVE_INTEGER: TypeAdapter[int] = TypeAdapter(PositiveInteger)
_POSITIVE_NUMBER: TypeAdapter[float] = TypeAdapter(Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)])


def new_notification(value: NewScenarioNotification) -> NewScenarioNotification:
    """Check a notification to insert."""
    return validated(_NEW_NOTIFICATION, "notification", value)


def user_id(value: UUID) -> UUID:
    """Check a user's id."""
    return validated(_UUID, "user_id", value)


def user_ids(values: Iterable[UUID]) -> list[UUID]:
    """Check users' ids, at most 50,000 distinct ones, and return them in the order of their first occurrence."""
    given = values if isinstance(values, list) else _listed("user_ids", values)
    checked = validated(_UUIDS, "user_ids", given)
    return _at_most_elements(MAX_LOOK_UPS, "user_ids", list(dict.fromkeys(checked)))


def organization_id(value: UUID) -> UUID:
    """Check an organization's id."""
    return validated(_UUID, "organization_id", value)


def optional_id(field: str, value: UUID | None) -> UUID | None:
    """Check an id that may be left out."""
    return validated(_OPTIONAL_UUID, field, value)


def an_id(field: str, value: UUID) -> UUID:
    """Check an id."""
    return validated(_UUID, field, value)


def time_zone(field: str, value: str) -> str:
    """Check the form of a time zone's name; the database knows which there are."""
    return validated(_TIME_ZONE, field, value)


def scenario_type(value: ScenarioType | str) -> ScenarioType | str:
    """Check a scenario type: a built-in one, or the name of the app's own."""
    return validated(_SCENARIO_TYPE, "scenario_type", value)


def scenario_types(values: Collection[ScenarioType | str] | None) -> list[ScenarioType | str] | None:
    """Check scenario types; None is all of them."""
    return validated(_SCENARIO_TYPES, "scenario_types", None if values is None else _listed("scenario_types", values))


def instant(field: str, value: datetime) -> datetime:
    """Check an aware datetime, and convert it to UTC."""
    return validated(_INSTANT, field, value)


def seconds(field: str, value: timedelta) -> float:
    """Check a positive duration, and convert it to seconds."""
    return validated(_DURATION, field, value).total_seconds()


def optional_seconds(field: str, value: timedelta | None) -> float | None:
    """Check a duration that may be left out, and convert it to seconds."""
    return None if value is None else seconds(field, value)


def lease_seconds(field: str, value: timedelta) -> float:
    """Check the length of a lease, 1 second to 1 day, and convert it to seconds."""
    length = seconds(field, value)
    if not 1 <= length <= MAX_LEASE_SECONDS:
        raise InvalidDataException(
            f"{field}: expected 1 second to 1 day, got a {'shorter' if length < 1 else 'longer'} one"
        )
    return length


def positive(field: str, value: int, most: int | None = None) -> int:
    """Check a positive integer, at most ``most`` if given."""
    number = validated(_POSITIVE_INTEGER, field, value)
    if most is not None and number > most:
        raise InvalidDataException(f"{field}: expected at most {most:,}, got {number:,}")
    return number


def positive_number(field: str, value: float) -> float:
    """Check a positive number."""
    return validated(_POSITIVE_NUMBER, field, value)


def optional_positive(field: str, value: int | None) -> int | None:
    """Check a positive integer that may be left out."""
    return None if value is None else positive(field, value)


def only_with(field: str, value: bool, other: str, other_value: bool) -> bool:  # noqa: FBT001 - values of arguments
    """Check a switch that another one must be on for."""
    if value and not other_value:
        raise InvalidDataException(f"{field}: expected only with {other}")
    return bool(value)


def notification(field: str, value: ScenarioNotification | None) -> ScenarioNotification | None:
    """Check a notification that may be left out."""
    return validated(_NOTIFICATION, field, value)


def claims(values: Sequence[NotificationClaim], *, leased: bool) -> list[NotificationClaim]:
    """Check a batch of claims: at most 20,000, with a lease 1,000."""
    most = MAX_LEASED_CLAIMS if leased else MAX_CLAIMS
    return _at_most_elements(most, "claims", validated(_CLAIMS, "claims", values))


def settlements(values: Sequence[Settlement]) -> list[Settlement]:
    """Check a batch of settlements, at most 1,000."""
    return _at_most_elements(MAX_LEASES, "results", validated(_SETTLEMENTS, "results", values))


def notification_ids(values: Iterable[UUID]) -> list[UUID]:
    """Check ids, at most 1,000."""
    checked = validated(_UUIDS, "ids", values if isinstance(values, list) else _listed("ids", values))
    return _at_most_elements(MAX_LEASES, "ids", checked)


def policy(value: DeliveryPolicy) -> DeliveryPolicy:
    """Check a delivery policy."""
    return validated(_POLICY, "policy", value)


def days_off(values: Sequence[NewDayOff]) -> list[NewDayOff]:
    """Check days off, at most 1,000."""
    return _at_most_elements(MAX_LEASES, "days", validated(_DAYS_OFF, "days", values))


def mute(value: NewMute) -> NewMute:
    """Check a mute."""
    return validated(_MUTE, "mute", value)


def settings(value: ScenarioSettings) -> ScenarioSettings:
    """Check settings to change, at least one."""
    checked = validated(_SETTINGS, "settings", value)
    if not checked.changes:
        raise InvalidDataException("settings: expected at least one setting to change, got none")
    return checked


def pending(field: str, value: PendingNotification | None) -> PendingNotification | None:
    """Check a pending notification that may be left out."""
    return validated(_PENDING, field, value)


def optional_scenario_type(value: ScenarioType | str | None) -> ScenarioType | str | None:
    """Check a scenario type that may be left out."""
    return None if value is None else scenario_type(value)


def _listed(field: str, values: object) -> list[object]:
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
        raise InvalidDataException(f"{field}: expected several, got {type(values).__name__}")
    return list(values)


def _at_most_elements(most: int, field: str, values: list[T]) -> list[T]:
    if len(values) > most:
        raise InvalidDataException(f"{field}: expected at most {most:,} elements, got {len(values):,}")
    return values
