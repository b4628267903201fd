"""Invalid input is refused on construction, by field, without its value."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from pydantic import ValidationError

from scenario_repo import (
    CertificationExpiryFacts,
    DeliveryResult,
    DeliveryStatus,
    FailureReason,
    InactivityFacts,
    InvalidDataException,
    MilestoneFacts,
    NewScenarioNotification,
    ScenarioFacts,
    ScenarioNotification,
    ScenarioType,
    Settlement,
    WelcomeBackFacts,
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
    ("subjects", MARKER, "several texts", THE_MARKER),
    ("subjects", [MARKER, 7], "text", "int"),
    ("subjects", [f"{MARKER}@example.org"], "no personal data", "an e-mail address"),
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


def test_a_hold_for_good_is_the_last_moment_there_is() -> None:
    """PostgreSQL's infinity can't be a datetime; an ordinary end is itself, and None is no hold."""
    ends: list[tuple[str | None, datetime | None]] = [
        ("infinity", datetime.max.replace(tzinfo=UTC)),
        ("2026-11-03T08:30:00+00:00", datetime(2026, 11, 3, 8, 30, tzinfo=UTC)),
        (None, None),
    ]
    for text, moment in ends:
        row = notification_row(delivery_status="failed", failure_code="invalid_token", held_until=text)
        for notification in (
            ScenarioNotification.model_validate_json(json.dumps(row)),
            ScenarioNotification.model_validate(row),
        ):
            assert notification.held_until == moment
            assert ScenarioNotification.model_validate_json(notification.model_dump_json()) == notification


def test_words_of_a_newer_schema_stay_text() -> None:
    """A status or an origin that this version does not know loses no row."""
    row = notification_row(delivery_status="parked", origin="import")
    notification = ScenarioNotification.model_validate(row)
    assert (notification.delivery_status, notification.origin) == ("parked", "import")


DAY: Final = "2026-11-02T08:30:00+00:00"
MOMENT: Final = datetime(2026, 11, 2, 8, 30, tzinfo=UTC)
FACTS: Final[dict[str, tuple[dict[str, object], ScenarioFacts]]] = {
    "inactivity": ({"last_activity_at": DAY}, InactivityFacts(last_activity_at=MOMENT)),
    "milestone": (
        {"activity_count": 26, "reached_at": DAY},
        MilestoneFacts(activity_count=26, reached_at=MOMENT),
    ),
    "certification_expiry": (
        {"certificate_ids": ["a", "b"], "expires_at": DAY, "new_subjects": ["first aid"], "added later": 1},
        CertificationExpiryFacts(certificate_ids=("a", "b"), expires_at=MOMENT, new_subjects=("first aid",)),
    ),
    "welcome_back": (
        {"returned_at": DAY, "last_activity_before": DAY},
        WelcomeBackFacts(returned_at=MOMENT, last_activity_before=MOMENT),
    ),
}


def test_every_built_in_scenario_has_typed_facts() -> None:
    """The metadata of an evaluation, as the scenario's own type."""
    assert FACTS.keys() == set(ScenarioType)
    for kind, (metadata, facts) in FACTS.items():
        notification = ScenarioNotification.model_validate(notification_row(scenario_type=kind, metadata=metadata))
        assert notification.facts == facts
        assert type(notification.facts) is type(facts)


@pytest.mark.parametrize(
    "row",
    [
        {"scenario_type": "first_session", "metadata": {"last_activity_at": DAY}},
        {"scenario_type": "inactivity", "metadata": None},
        {"scenario_type": "inactivity", "metadata": {"note": MARKER}},
        {"scenario_type": "inactivity", "metadata": {"last_activity_at": "infinity"}},
        {"scenario_type": "inactivity", "metadata": {"last_activity_at": None}},
        {"scenario_type": "milestone", "metadata": {"activity_count": MARKER, "reached_at": DAY}},
    ],
)
def test_other_metadata_has_no_facts(row: dict[str, object]) -> None:
    """A type of the app's own, or metadata of the app's: that is no error."""
    assert ScenarioNotification.model_validate(notification_row(**row)).facts is None


def test_facts_keep_their_values_to_themselves() -> None:
    """Neither ``repr`` nor ``str`` shows what is metadata."""
    facts = CertificationExpiryFacts(certificate_ids=(MARKER,), expires_at=MOMENT, new_subjects=(MARKER,))
    assert f"{facts!r}" == "CertificationExpiryFacts()"
    assert MARKER not in f"{facts} {facts!r}"


@pytest.mark.parametrize("code", FailureReason)
def test_a_sender_gives_none_of_scenario_repos_codes(code: FailureReason) -> None:
    """They say what was decided here, and each holds in its own way; the message names the field and the code."""
    for result in (DeliveryResult.FAILED, DeliveryResult.RETRY):
        with pytest.raises(InvalidDataException) as refusal:
            Settlement(id=UUID(int=1), lease_number=1, result=result, failure_code=str(code))
        assert str(refusal.value) == (
            f"Settlement.failure_code: expected a code of the sender's own, got scenario_repo's {code}"
        )


@pytest.mark.parametrize("result", [DeliveryResult.SENT, DeliveryResult.SUPPRESSED, DeliveryResult.RELEASED])
def test_only_a_failure_has_a_code(result: DeliveryResult) -> None:
    """What was sent, suppressed or given back failed for no reason of the sender's."""
    with pytest.raises(InvalidDataException, match=f"expected nothing for {result}, got a code"):
        Settlement(id=UUID(int=1), lease_number=1, result=result, failure_code="invalid_token")


def test_the_reasons_of_failures_are_those_of_the_database() -> None:
    """scenario_private.hold_of_failure lists them; a reason that is added there is added here."""
    source = (Path(__file__).parents[2] / "supabase" / "schemas" / "10_books.sql").read_text()
    function = source.partition("function scenario_private.hold_of_failure(")[2].partition("$$;")[0]
    listed = [code for part in re.findall(r"\bin \(([^)]*)\)", function) for code in re.findall(r"'(\w+)'", part)]
    assert sorted(listed) == sorted(FailureReason)


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
def test_a_repr_keeps_metadata_and_subjects_to_itself(model: Any) -> None:  # noqa: ANN401 - either model's maker
    """Neither ``repr`` nor ``str`` of a value shows its metadata or its subjects."""
    value = model(metadata={"note": MARKER}, subjects=[MARKER])

    assert MARKER not in f"{value!r} {value}"
