"""All values dump as JSON, always: those that callers give and those that they get."""

from __future__ import annotations

import inspect
import json
import types
import warnings
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Annotated, Any, Final, Union, get_args, get_origin
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, JsonValue

import scenario_repo
from scenario_repo import (
    ClaimOutcome,
    InvalidDataException,
    LeasedNotification,
    MilestoneFacts,
    NotificationClaim,
    ScenarioNotification,
    ScenarioType,
    Settlement,
)
from scenario_repo._fields import FOR_GOOD, Input
from scenario_repo._limits import MAX_DURATION
from tests.factories import ORGANIZATION_ID, USER_ID, leased_row, notification_row

OF_THE_ENGINE: Final = {"EngineReport", "ScenarioReport"}  # tests/unit/test_engine.py
MODELS: Final[list[type[BaseModel]]] = [
    thing
    for name in scenario_repo.__all__
    if name not in OF_THE_ENGINE and inspect.isclass(thing := getattr(scenario_repo, name))
    if issubclass(thing, BaseModel)
]

WORDS: Final = st.text(st.characters(), max_size=5)
"""Any text that Python can hold: control characters and lone surrogates too."""
STORED_WORDS: Final = st.text(max_size=5)
"""Any text that JSON can hold, where the database's comes from."""
NUMBERS: Final = st.integers(min_value=-(2**70), max_value=2**70)
INSTANTS: Final = st.datetimes(timezones=st.timezones()) | st.just(FOR_GOOD)
JSON: Final = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | STORED_WORDS,
    lambda children: st.lists(children, max_size=2) | st.dictionaries(STORED_WORDS, children, max_size=2),
    max_leaves=4,
)
PLAIN: Final[dict[object, st.SearchStrategy[Any]]] = {
    type(None): st.none(),
    UUID: st.uuids(),
    bool: st.booleans(),
    int: NUMBERS,
    float: st.floats(),
    datetime: INSTANTS,
    AwareDatetime: INSTANTS,
    date: st.dates(),
    time: st.times(),
    timedelta: st.timedeltas(timedelta(microseconds=1), MAX_DURATION),
    JsonValue: JSON,
}
GIVEN: Final[dict[str, st.SearchStrategy[Any]]] = {
    "scenario_type": st.sampled_from(ScenarioType) | st.from_regex(r"\A[a-z][a-z0-9_]{0,39}\Z"),
    "milestone_value": st.none() | st.integers(1, 2**31 - 1),
    "lease_number": st.integers(1, 2**31 - 1),
    "failure_code": st.none() | st.from_regex(r"\A[a-z][a-z0-9_]{0,62}\Z"),
    "metadata": st.none() | st.dictionaries(st.from_regex(r"\A[a-z]{1,4}\Z"), st.booleans() | st.floats(0, 9)),
    "subjects": st.lists(st.from_regex(r"\A[a-z]{1,9}\Z"), max_size=3),
    "time_zone": st.none() | st.timezone_keys(),
    "weekdays": st.none() | st.sets(st.integers(1, 7), min_size=1),
    "min_gap": st.none() | st.timedeltas(timedelta(0), timedelta(days=7)),
}
"""Fields of what callers give whose values are checked more closely than their types."""


def _values(  # noqa: PLR0911 - one for each kind of type
    annotation: Any,  # noqa: ANN401
    words: st.SearchStrategy[str],
) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in PLAIN:
        return PLAIN[annotation]
    if annotation is str:
        return words
    if origin is Annotated:
        return _values(arguments[0], words)
    if origin in {Union, types.UnionType}:
        return st.one_of(*(_values(one, words) for one in arguments))
    if origin is tuple:
        return st.lists(_values(arguments[0], words), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(_values(arguments[0], words), _values(arguments[1], words), max_size=2)
    if issubclass(annotation, Enum):
        return st.sampled_from(annotation)
    if issubclass(annotation, BaseModel):
        return _instances(annotation)
    raise NotImplementedError(annotation)


def _instances(model: type[BaseModel]) -> st.SearchStrategy[BaseModel]:
    is_input = issubclass(model, Input)
    words = WORDS if is_input else STORED_WORDS
    fields = {
        name: GIVEN[name] if is_input and name in GIVEN else _values(field.annotation, words)
        for name, field in model.model_fields.items()
    }

    def make(values: dict[str, Any]) -> BaseModel:
        try:
            return model(**values)
        except InvalidDataException:
            assume(False)  # the values do not fit together
            raise

    return st.fixed_dictionaries(fields).map(make)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_value_dumps_as_json(model: type[BaseModel], data: st.DataObject) -> None:
    """Each public model dumps as JSON in both ways, without a warning, and the two agree."""
    value = data.draw(_instances(model))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = value.model_dump_json()
        plain = value.model_dump(mode="json")
    assert set(json.loads(text)) == set(plain) >= {*model.model_fields, *model.model_computed_fields}
    assert json.loads(json.dumps(plain)) is not None


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_subclass_of_an_app_dumps_too(model: type[BaseModel]) -> None:
    """A field that an app's own subclass adds is dumped with the others."""

    class Extended(model):  # type: ignore[valid-type,misc]
        note: str = "of the app"

    made = Extended.model_construct(**{name: () if name == "lines" else None for name in model.model_fields})
    assert made.model_dump(mode="json", warnings=False)["note"] == "of the app"


def test_infinity_is_a_moment_in_json() -> None:
    """A hold for good dumps as the last moment there is, and is read again."""
    row = notification_row(delivery_status="failed", failure_code="cancelled", held_until="infinity")
    text = ScenarioNotification.model_validate(row).model_dump_json()

    assert json.loads(text)["held_until"] == "9999-12-31T23:59:59.999999Z"
    assert ScenarioNotification.model_validate_json(text).held_until == FOR_GOOD


def test_types_of_an_app_and_words_of_a_newer_schema_dump_as_text() -> None:
    """A type that is no ScenarioType, a status, an origin and a reason that this version does not know are text."""
    row = notification_row(scenario_type="first_session", delivery_status="parked", origin="import")
    outcome = ClaimOutcome(notification=ScenarioNotification(**row), skip_reason="unheard_of")
    dumped = json.loads(outcome.model_dump_json())

    assert (dumped["skip_reason"], dumped["notification"]["scenario_type"]) == ("unheard_of", "first_session")
    assert (dumped["notification"]["delivery_status"], dumped["notification"]["origin"]) == ("parked", "import")


def test_a_leased_notification_keeps_its_lease_in_json() -> None:
    """What a subclass of the library adds is dumped, also inside another value."""
    leased = LeasedNotification(**leased_row(device_tokens=[{"token": "t", "platform": "ios"}]))
    outcome = scenario_repo.LeasedClaimOutcome(notification=leased)

    assert json.loads(outcome.model_dump_json())["notification"] == json.loads(leased.model_dump_json())
    assert LeasedNotification.model_validate_json(leased.model_dump_json()) == leased


def test_a_claim_dumps_its_cooldown_as_a_duration() -> None:
    """A timedelta is ISO 8601 in JSON."""
    claim = NotificationClaim(
        user_id=USER_ID,
        organization_id=ORGANIZATION_ID,
        scenario_type="first_session",
        cooldown=timedelta(days=7, hours=1),
    )
    assert json.loads(claim.model_dump_json())["cooldown"] == "P7DT1H"


def test_the_facts_dump_as_those_of_their_scenario() -> None:
    """The typed facts have their own fields in JSON."""
    row = notification_row(milestone_value=10, metadata={"activity_count": 10, "reached_at": "2026-11-01T00:00:00Z"})
    facts = ScenarioNotification(**row).facts

    assert isinstance(facts, MilestoneFacts)
    assert json.loads(facts.model_dump_json()) == {"activity_count": 10, "reached_at": "2026-11-01T00:00:00Z"}


def test_a_token_that_json_cant_hold_is_refused() -> None:
    """A lone surrogate in a device's token could not be sent; it is refused before, and not shown."""
    with pytest.raises(InvalidDataException, match=r"Settlement\.reached") as refusal:
        Settlement(id=USER_ID, lease_number=1, result="sent", reached=("\ud800",))
    assert "\\ud800" not in ascii(str(refusal.value))
