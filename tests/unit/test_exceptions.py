"""The exception tree: distinct classes, facts as attributes, picklable."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

from scenario_repo import ScenarioRepositoryException, UnavailableException, exceptions

FACTS = {
    "operation": "insert_notification",
    "code": "23505",
    "constraint": "scenario_notifications_pkey",
    "relation": None,
    "column": None,
    "http_status": 409,
    "retryable": True,
    "retry_after": 2.5,
}


def _tree(root: type[ScenarioRepositoryException]) -> Iterator[type[ScenarioRepositoryException]]:
    yield root
    for cls in root.__subclasses__():
        yield from _tree(cls)


every_class = pytest.mark.parametrize("cls", list(_tree(ScenarioRepositoryException)), ids=lambda cls: cls.__name__)


def _make(cls: type[ScenarioRepositoryException]) -> ScenarioRepositoryException:
    return cls(
        "it went wrong",
        operation="insert_notification",
        code="23505",
        constraint="scenario_notifications_pkey",
        relation=None,
        column=None,
        http_status=409,
        retryable=True,
        retry_after=2.5,
    )


@every_class
def test_the_tree_is_drawn_in_the_module(cls: type[ScenarioRepositoryException]) -> None:
    """Every class is in the module's drawing, and directly below the base."""
    assert cls.__name__ in (exceptions.__doc__ or "")
    assert cls is ScenarioRepositoryException or cls.__base__ is ScenarioRepositoryException


@every_class
def test_the_docstring_is_the_default_message(cls: type[ScenarioRepositoryException]) -> None:
    """An exception without a message says what its class says."""
    assert str(cls()) == (cls.__doc__ or "").partition("\n")[0]
    assert str(cls())


@every_class
def test_a_bare_exception_knows_nothing(cls: type[ScenarioRepositoryException]) -> None:
    """Unknown facts are None, and only an unavailable database is retryable."""
    bare = cls()

    assert (bare.operation, bare.code, bare.constraint, bare.http_status, bare.retry_after) == (None,) * 5
    assert (bare.relation, bare.column) == (None, None)
    assert bare.retryable is issubclass(cls, UnavailableException)


@every_class
def test_an_exception_carries_its_facts(cls: type[ScenarioRepositoryException]) -> None:
    """Each fact is an attribute."""
    assert vars(_make(cls)) == FACTS


@every_class
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_exception_survives_pickling(cls: type[ScenarioRepositoryException], protocol: int) -> None:
    """Every attribute survives pickling, as for a process pool or a task queue."""
    again = pickle.loads(pickle.dumps(_make(cls), protocol))  # noqa: S301 - our own bytes

    assert type(again) is cls
    assert (again.args, vars(again), str(again)) == (("it went wrong",), FACTS, str(_make(cls)))


@every_class
def test_an_exception_survives_copying(cls: type[ScenarioRepositoryException]) -> None:
    """A shallow and a deep copy have every attribute."""
    for again in (copy.copy(_make(cls)), copy.deepcopy(_make(cls))):
        assert type(again) is cls
        assert (again.args, vars(again), str(again)) == (("it went wrong",), FACTS, str(_make(cls)))


def test_str_shows_operation_message_and_codes() -> None:
    """One line has the operation and all facts to search a log for."""
    assert str(_make(ScenarioRepositoryException)) == (
        "insert_notification: it went wrong (code 23505, constraint scenario_notifications_pkey, HTTP 409)"
    )


def test_str_leaves_out_what_is_not_known() -> None:
    """Missing facts are left out of the text."""
    assert str(ScenarioRepositoryException("it went wrong")) == "it went wrong"
    assert str(ScenarioRepositoryException("it went wrong", http_status=503)) == "it went wrong (HTTP 503)"


def test_a_missing_schema_comes_with_its_remedy() -> None:
    """A missing migration's message says which command to run."""
    assert "supabase db push" in str(exceptions.SchemaNotMigratedException())
