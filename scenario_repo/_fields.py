"""The field types and base classes of the models: input is validated, rows are parsed.

pydantic's errors in the input are raised as one InvalidDataException that shows no value.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Final, Self, TypeVar, cast
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from scenario_repo._limits import MAX_DAYS, MAX_DURATION
from scenario_repo._metadata import metadata_fault, subjects_fault
from scenario_repo.exceptions import InvalidDataException

T = TypeVar("T")

FOR_GOOD: Final = datetime.max.replace(tzinfo=UTC)
"""What stands for PostgreSQL's infinity: the last moment that a datetime can hold."""


def _uuid(value: object) -> object:
    if isinstance(value, UUID | str):
        return value
    raise PydanticCustomError("uuid_type", "a UUID")  # pydantic accepts any 16 bytes as a UUID


def _aware_utc(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise PydanticCustomError("datetime_type", "a datetime with a time zone")
    if value.utcoffset() is None:
        raise PydanticCustomError("expected", "expected a datetime with a time zone, got a naive one")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("expected", "expected a datetime between the years 1 and 9999 in UTC") from None


def _metadata(value: object) -> dict[str, JsonValue] | None:
    if value is None:
        return None
    fault = metadata_fault(value)
    if fault is not None:
        raise PydanticCustomError("expected", "{fault}", {"fault": fault})
    plain: dict[str, JsonValue] = dict(copy.deepcopy(cast("Mapping[str, JsonValue]", value)))
    return plain


def _subjects(value: object) -> tuple[str, ...]:
    if not isinstance(value, Collection) or isinstance(value, str | bytes | Mapping):
        raise PydanticCustomError("expected", "expected several texts, got {kind}", {"kind": _kind(value)})
    given = list(value)
    fault = subjects_fault(given)
    if fault is not None:
        raise PydanticCustomError("expected", "{fault}", {"fault": fault})
    # As the database stores them.
    return tuple(sorted(set(given)))


def _encodable(value: object) -> object:
    try:
        _ = value.encode() if isinstance(value, str) else None
    except UnicodeEncodeError:
        raise PydanticCustomError("expected", "expected text that UTF-8 can hold, got a lone surrogate") from None
    return value


def _instant_or_for_good(value: object) -> object:
    return FOR_GOOD if value == "infinity" else value


Id = Annotated[UUID, BeforeValidator(_uuid)]
"""A UUID, or its text."""
Instant = Annotated[datetime, BeforeValidator(_aware_utc)]
"""An aware datetime, converted to UTC."""
Duration = Annotated[timedelta, Field(strict=True, gt=timedelta(0), le=MAX_DURATION)]
"""A positive length of time, at most 100 years."""
PositiveInteger = Annotated[int, Field(strict=True, gt=0, lt=2**31)]
"""A positive PostgreSQL integer."""
FailureCode = Annotated[str, Field(strict=True, pattern=r"\A[a-z][a-z0-9_]{0,62}\z")]
"""A short code of lower-case letters, digits and underscores."""
Metadata = Annotated[dict[str, JsonValue] | None, BeforeValidator(_metadata)]
"""A small JSON object that holds no personal data."""
Subjects = Annotated[tuple[str, ...], BeforeValidator(_subjects)]
"""Ids of what a notification names: at most 50, of 1 to 100 characters, no personal data; sorted, each once."""
Token = Annotated[str, BeforeValidator(_encodable)]
"""The token of a device."""
StoredInstant = Annotated[AwareDatetime, BeforeValidator(_instant_or_for_good)]
"""A moment from the database; its infinity is the last moment of a datetime, in UTC."""

_EXPECTED = {
    "uuid_type": "a UUID",
    "uuid_parsing": "a UUID",
    "uuid_version": "a UUID",
    "int_type": "an integer",
    "time_delta_type": "a timedelta",
    "greater_than": "a positive integer",
    "less_than": "an integer below 2,147,483,648",
    "string_type": "text",
    "string_pattern_mismatch": "a short code of lower-case letters, digits and underscores",
    "list_type": "a list",
    "scenario_type": "a ScenarioType, or the name of a type of the app's own (lower-case letters, digits, underscores)",
    "missing": "a value",
    "extra_forbidden": "no such field",
    "model_type": "the fields of the model",
}


def validated(adapter: TypeAdapter[T], field: str, value: object) -> T:
    """Return the value as the adapter's type, or raise InvalidDataException with the field's name."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        refusal = _refusal(field, error)
    raise refusal  # outside the except block: pydantic's error holds the input and must not be its context


class Input(BaseModel):
    """A frozen value from the caller; invalid input raises InvalidDataException on construction."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_without_showing_values(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            refusal = _refusal(cls.__name__, error)
        raise refusal


class Row(BaseModel):
    """A frozen value from the database; columns this version does not know are ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


def _refusal(name: str, error: ValidationError) -> InvalidDataException:
    """Describe up to five faults by field."""
    faults = error.errors(include_url=False, include_context=False)
    return InvalidDataException("; ".join(_message(name, fault) for fault in faults[:5]))


def _message(name: str, fault: ErrorDetails) -> str:
    path = ".".join([name, *(str(step) for step in fault["loc"])])
    if fault["type"] == "expected":
        return f"{path}: {fault['msg']}"
    given = fault["input"]
    if fault["type"] in {"greater_than", "less_than_equal"} and isinstance(given, timedelta):
        expected = f"a positive duration of at most {MAX_DAYS:,} days"
    else:
        expected = _EXPECTED.get(fault["type"], fault["msg"].removeprefix("Input should be "))
    return f"{path}: expected {expected}, got {_kind(given)}"


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "a bool"
        case int():
            return "zero" if value == 0 else f"a {'negative' if value < 0 else 'positive'} integer"
        case timedelta():
            return "no time" if not value else f"a {'negative' if value < timedelta(0) else 'longer'} one"
        case str():
            return f"text of {len(value)} characters"
        case _:
            return type(value).__name__
