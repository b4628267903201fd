"""Invalid input is refused on construction, by field, without its value."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from scenario_repo import (
    DeliveryStatus,
    InvalidDataException,
    NewScenarioNotification,
    ScenarioNotification,
    ScenarioType,
)
from tests.factories import MILESTONE, new_notification, new_notification_fields, notification_row
from tests.unit.leaks import MARKER, told_by

A_UUID = "a UUID"
A_SCENARIO_TYPE = "a ScenarioType, or the name of a type of the app's own (lower-case letters, digits, underscores)"
A_STATUS = "'pending', 'sent' or 'failed'"
AN_INSTANT = "a datetime with a time zone"
THE_MARKER = f"text of {len(MARKER)} characters"

REFUSED: list[tuple[str, object, str, str]] = [
    ("user_id", MARKER, A_UUID, THE_MARKER),
    ("user_id", MARKER.encode(), A_UUID, "bytes"),
    ("user_id", [MARKER], A_UUID, "list"),
    ("user_id", {MARKER: MARKER}, A_UUID, "dict"),
    ("user_id", 7, A_UUID, "a positive integer"),
    ("user_id", None, A_UUID, "nothing"),
    ("organization_id", MARKER, A_UUID, THE_MARKER),
    ("organization_id", "0b6c1f1e-6f0c-4e0a-9f1b-2d4f5a6b7c8", A_UUID, "text of 35 characters"),
    ("scenario_type", MARKER, A_SCENARIO_TYPE, THE_MARKER),
    ("scenario_type", "INACTIVITY", A_SCENARIO_TYPE, "text of 10 characters"),
    ("scenario_type", DeliveryStatus.SENT, A_SCENARIO_TYPE, "text of 4 characters"),
    ("scenario_type", None, A_SCENARIO_TYPE, "nothing"),
    ("delivery_status", MARKER, A_STATUS, THE_MARKER),
    ("delivery_status", None, A_STATUS, "nothing"),
    ("triggered_at", datetime(2026, 11, 2, 8, 30), AN_INSTANT, "a naive one"),  # noqa: DTZ001 - the point of it
    ("triggered_at", MARKER, AN_INSTANT, THE_MARKER),
    ("triggered_at", "2026-11-02T08:30:00+00:00", AN_INSTANT, "text of 25 characters"),
    ("triggered_at", date(2026, 11, 2), AN_INSTANT, "date"),
    ("triggered_at", 1_793_000_000, AN_INSTANT, "a positive integer"),
    ("milestone_value", 0, "a positive integer", "zero"),
    ("milestone_value", -25, "a positive integer", "a negative integer"),
    ("milestone_value", 2**31, "an integer below 2,147,483,648", "a positive integer"),
    ("milestone_value", 10**40, "an integer below 2,147,483,648", "a positive integer"),
    ("milestone_value", True, "an integer", "a bool"),
    ("milestone_value", 10.0, "an integer", "float"),
    ("milestone_value", "10", "an integer", "text of 2 characters"),
    ("milestone_value", MARKER, "an integer", THE_MARKER),
    ("milestone_value", None, "a positive integer for a milestone", "nothing"),
    ("metadata", MARKER, "a JSON object", "str"),
    ("metadata", [MARKER], "a JSON object", "list"),
    ("cooldown", MARKER, "no such field", THE_MARKER),
]


@pytest.mark.parametrize(("field", "value", "expected", "got"), REFUSED)
def test_bad_input_is_refused_by_name_without_its_value(field: str, value: object, expected: str, got: str) -> None:
    """The error names the field, what was expected and the kind of value given, but not the value."""
    with pytest.raises(InvalidDataException) as refusal:
        new_notification(**{field: value})

    assert str(refusal.value) == f"NewScenarioNotification.{field}: expected {expected}, got {got}"
    assert refusal.value.retryable is False
    assert MARKER not in told_by(refusal.value)


@pytest.mark.parametrize("scenario_type", [kind for kind in ScenarioType if kind is not ScenarioType.MILESTONE])
def test_only_a_milestone_has_a_milestone_value(scenario_type: ScenarioType) -> None:
    """A value without a milestone is refused for every other scenario type."""
    with pytest.raises(InvalidDataException) as refusal:
        new_notification(scenario_type=scenario_type, milestone_value=MILESTONE)

    assert str(refusal.value) == (
        f"NewScenarioNotification.milestone_value: expected nothing for {scenario_type}, got an integer"
    )


@pytest.mark.parametrize("field", ["user_id", "organization_id", "scenario_type"])
def test_a_missing_field_is_named(field: str) -> None:
    """A missing required field is named."""
    fields = new_notification_fields(metadata={"note": MARKER})
    del fields[field]

    with pytest.raises(InvalidDataException, match=rf"NewScenarioNotification\.{field}: expected a value") as refusal:
        NewScenarioNotification(**fields)
    assert MARKER not in told_by(refusal.value)


@pytest.mark.parametrize("data", [MARKER, [MARKER], None, 7])
def test_what_is_no_set_of_fields_is_refused(data: Any) -> None:  # noqa: ANN401 - anything at all
    """Validation of foreign data gives the same exception as the constructor."""
    with pytest.raises(InvalidDataException, match="expected the fields of the model") as refusal:
        NewScenarioNotification.model_validate(data)
    assert MARKER not in told_by(refusal.value)


def test_several_faults_are_told_at_once() -> None:
    """One error names every field at fault."""
    with pytest.raises(InvalidDataException) as refusal:
        new_notification(user_id=MARKER, triggered_at=MARKER)

    assert "user_id" in str(refusal.value)
    assert "triggered_at" in str(refusal.value)
    assert MARKER not in told_by(refusal.value)


@pytest.mark.parametrize("scenario_type", [*ScenarioType, *map(str, ScenarioType)])
def test_a_scenario_type_may_be_given_as_text(scenario_type: str) -> None:
    """Both the enum and its value are accepted, and become the enum."""
    assert new_notification(scenario_type=scenario_type).scenario_type is ScenarioType(scenario_type)


@pytest.mark.parametrize("value", [1, 10, 2**31 - 1])
def test_a_milestone_value_is_a_positive_postgresql_integer(value: int) -> None:
    """Both ends of the range pass."""
    assert new_notification(milestone_value=value).milestone_value == value


def test_an_instant_is_normalised_to_utc() -> None:
    """An aware datetime of any zone is the same moment in UTC."""
    given = datetime(2026, 11, 2, 10, 30, tzinfo=timezone(timedelta(hours=2)))

    triggered_at = new_notification(triggered_at=given).triggered_at

    assert triggered_at == given
    assert triggered_at is not None
    assert triggered_at.tzinfo is UTC


def test_an_instant_outside_the_calendar_is_refused() -> None:
    """A datetime that UTC can't express gives no OverflowError."""
    with pytest.raises(InvalidDataException, match=r"triggered_at: expected a datetime between the years 1 and 9999"):
        new_notification(triggered_at=datetime.min.replace(tzinfo=timezone(timedelta(hours=1))))


def test_a_new_notification_is_pending_unless_said_otherwise() -> None:
    """Fields left out are None, for the database's defaults; the status is pending."""
    new = new_notification()

    assert new.delivery_status is DeliveryStatus.PENDING
    assert (new.milestone_value, new.metadata, new.triggered_at) == (None, None, None)


def test_a_row_becomes_a_typed_value() -> None:
    """A row as PostgREST returns it becomes UUIDs, aware datetimes and enums."""
    row = notification_row(milestone_value=25, delivery_status="sent", metadata={"badge": "gold"})
    notification = ScenarioNotification.model_validate(row)

    assert set(row) == set(ScenarioNotification.model_fields)
    assert notification.id == UUID(row["id"])
    assert notification.scenario_type is ScenarioType.MILESTONE
    assert notification.delivery_status is DeliveryStatus.SENT
    assert notification.triggered_at == datetime(2026, 11, 2, 8, 30, 0, 123456, tzinfo=UTC)
    assert notification.metadata == {"badge": "gold"}


@pytest.mark.parametrize(
    "model",
    [new_notification(), ScenarioNotification.model_validate(notification_row())],
    ids=lambda m: type(m).__name__,
)
def test_a_value_is_frozen(model: NewScenarioNotification | ScenarioNotification) -> None:
    """No field can be assigned."""
    with pytest.raises(ValidationError, match="frozen"):
        model.scenario_type = ScenarioType.WELCOME_BACK  # type: ignore[misc]  # the point of it


@pytest.mark.parametrize("model", [new_notification, lambda **row: ScenarioNotification(**notification_row(**row))])
def test_a_repr_keeps_metadata_to_itself(model: Any) -> None:  # noqa: ANN401 - either model's maker
    """Neither ``repr`` nor ``str`` of a value shows its metadata."""
    value = model(metadata={"note": MARKER})

    assert MARKER not in f"{value!r} {value}"
