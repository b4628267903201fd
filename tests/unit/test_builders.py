"""scenario_repo.testing has a builder for every public value, with defaults that fit together."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, get_type_hints

import pytest
from pydantic import BaseModel

import scenario_repo
from scenario_repo import (
    DeliveryResult,
    DeliveryStatus,
    InvalidDataException,
    LeasedNotification,
    ScenarioFacts,
    ScenarioNotification,
    ScenarioType,
    SkipReason,
    UnavailableException,
    testing,
)
from scenario_repo.testing import (
    NOON,
    a_claim,
    a_lease,
    a_leased_notification,
    a_new_notification,
    a_notification,
    a_scenario_report,
    a_settlement,
    an_evaluation_page,
    an_explanation,
    an_outcome,
    builders,
)

BUILDERS: Final[dict[type[BaseModel], Callable[..., BaseModel]]] = {
    get_type_hints(function)["return"]: function
    for name, function in inspect.getmembers(builders, inspect.isfunction)
    if function.__module__ == builders.__name__ and not name.startswith("_")
}
VALUES: Final = {
    value
    for value in (getattr(scenario_repo, name) for name in scenario_repo.__all__)
    if inspect.isclass(value) and issubclass(value, BaseModel) and value is not ScenarioFacts
}


def _fields_of(builder: Callable[..., BaseModel]) -> dict[str, Any]:
    """Return the fields that a builder takes, by its TypedDict."""
    (unpacked,) = get_type_hints(builder)["fields"].__args__
    return get_type_hints(unpacked)


def test_every_public_value_has_a_builder() -> None:
    """Whoever adds a public model adds its builder."""
    assert BUILDERS.keys() == VALUES


def test_every_builder_is_public() -> None:
    """A builder is imported from scenario_repo.testing."""
    names = {builder.__name__ for builder in BUILDERS.values()}
    assert names <= set(testing.__all__)
    assert len(testing.__all__) == len(set(testing.__all__))


@pytest.mark.parametrize("model", sorted(VALUES, key=str), ids=lambda model: model.__name__)
def test_a_builder_takes_every_field_of_its_value(model: type[BaseModel]) -> None:
    """Whoever adds a field to a model adds it to what its builder may be given, with its type."""
    builder = BUILDERS[model]
    value = builder()
    assert type(value) is model
    assert _fields_of(builder).keys() == model.model_fields.keys()
    for name in model.model_fields:
        given = getattr(value, name)
        assert getattr(builder(**{name: given}), name) == given


def test_a_given_field_replaces_its_default() -> None:
    """Whatever matters to a test is given by that test."""
    notification = a_leased_notification(scenario_type="first_session", attempt_count=3, device_tokens=())
    assert (notification.scenario_type, notification.attempt_count, notification.device_tokens) == (
        "first_session",
        3,
        (),
    )
    assert isinstance(notification, LeasedNotification)


def test_a_milestone_has_a_value_and_no_cooldown() -> None:
    """The type, or the value, makes the rest fit."""
    for milestone in (a_claim(scenario_type=ScenarioType.MILESTONE), a_claim(milestone_value=10)):
        assert (milestone.scenario_type, milestone.milestone_value, milestone.cooldown) == ("milestone", 10, None)
    assert a_notification(scenario_type="milestone").milestone_value == 10
    assert a_new_notification(milestone_value=25).scenario_type is ScenarioType.MILESTONE


def test_what_is_final_was_settled() -> None:
    """A sent or failed notification says when, and a failed one why."""
    sent, failed = (a_notification(delivery_status=status) for status in (DeliveryStatus.SENT, DeliveryStatus.FAILED))
    assert (a_notification().settled_at, sent.failure_code) == (None, None)
    assert sent.settled_at is not None
    assert sent.settled_at > sent.triggered_at
    assert failed.failure_code == "expired"


def test_moments_follow_the_given_one() -> None:
    """A notification of another day is delivered, leased and over on that day's terms."""
    later = a_leased_notification(triggered_at=NOON + timedelta(days=30))
    assert later.triggered_at < later.leased_until < later.deliver_until


def test_an_outcome_is_granted_or_skipped() -> None:
    """The reason alone makes a skipped one."""
    granted, skipped = an_outcome(), an_outcome(skip_reason=SkipReason.COOLDOWN)
    assert (granted.claimed, granted.skip_reason) == (True, None)
    assert (skipped.claimed, skipped.held_by is None, skipped.ends_at is None) == (False, False, False)
    assert an_outcome(skip_reason=SkipReason.UNKNOWN_USER).held_by is None


def test_counts_add_up() -> None:
    """Who is due is claimed or skipped."""
    page = an_evaluation_page(claimed=20, skipped={SkipReason.COOLDOWN: 3})
    assert (page.due, page.evaluated) == (23, 23)
    assert a_scenario_report(error=UnavailableException()).completed is False


def test_a_held_mentor_is_not_due() -> None:
    """What holds explains why."""
    held = an_explanation(held_by=builders.USER_ID)
    assert (held.is_due, held.reason) == (False, "cooldown")
    assert an_explanation().is_due


def test_a_builder_refuses_what_the_value_refuses() -> None:
    """Values are checked as everywhere."""
    with pytest.raises(InvalidDataException, match="failure_code"):
        a_settlement(result=DeliveryResult.SENT, failure_code="rejected")
    assert a_settlement(result=DeliveryResult.FAILED).failure_code == "rejected"


def test_rows_are_new_each_time() -> None:
    """Two notifications are two, of the same user."""
    one, other = a_notification(), a_notification()
    assert (one.id == other.id, one.user_id == other.user_id) == (False, True)
    assert isinstance(one, ScenarioNotification)
    assert len(a_lease()) == 1
