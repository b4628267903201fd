"""Metadata is a small JSON object: anything else is refused, and its values are not shown."""

from __future__ import annotations

import copy
import json
import math
from collections import UserDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from time import perf_counter
from types import MappingProxyType
from typing import Any, SupportsIndex
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scenario_repo import InvalidDataException
from scenario_repo._limits import MAX_METADATA_BYTES, MAX_METADATA_DEPTH
from scenario_repo._metadata import metadata_fault
from tests.factories import new_notification
from tests.unit.leaks import MARKER, told_by

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
json_objects = st.dictionaries(
    texts,
    st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=15),
    max_size=8,
).filter(lambda value: len(json.dumps(value)) < MAX_METADATA_BYTES)

UNSTORABLE: list[tuple[str, object, str]] = [
    ("NaN", math.nan, "a finite number, got NaN or an infinity"),
    ("infinity", math.inf, "a finite number, got NaN or an infinity"),
    ("negative infinity", -math.inf, "a finite number, got NaN or an infinity"),
    ("too large an integer", 2**63, "an integer below 2^63, got a larger one"),
    ("an enormous integer", 10**5000, "an integer below 2^63, got a larger one"),
    ("lone surrogate", f"{MARKER}\ud800", "Unicode text, got a lone surrogate"),
    ("NUL", f"{MARKER}\0", "text without NUL, which PostgreSQL can't store"),
    ("bytes", MARKER.encode(), "a JSON value, got bytes"),
    ("set", {MARKER}, "a JSON value, got set"),
    ("complex", 1j, "a JSON value, got complex"),
    ("Decimal", Decimal("1.5"), "a JSON value, got Decimal"),
    ("datetime", datetime(2026, 11, 2, tzinfo=UTC), "a JSON value, got datetime"),
    ("UUID", UUID(int=7), "a JSON value, got UUID"),
    ("object", object(), "a JSON value, got object"),
    ("generator", (value for value in MARKER), "a JSON value, got generator"),
]
unstorable = pytest.mark.parametrize(
    ("value", "expected"), [case[1:] for case in UNSTORABLE], ids=[case[0] for case in UNSTORABLE]
)


def _refusal_of(metadata: object) -> str:
    with pytest.raises(InvalidDataException) as refusal:
        new_notification(metadata=metadata)
    assert MARKER not in told_by(refusal.value)
    return str(refusal.value).removeprefix("NewScenarioNotification.metadata: expected ")


def _nested(depth: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(depth - 1):
        metadata = {"a": metadata}
    return metadata


@settings(max_examples=30, deadline=None)
@given(json_objects)
def test_any_json_object_within_bounds_passes_unchanged(metadata: dict[str, Any]) -> None:
    """JSON that PostgreSQL can store is unchanged, including the type of numbers and the order of keys."""
    assume("personal data" not in (metadata_fault(metadata) or ""))  # chance makes an address now and then
    kept = new_notification(metadata=metadata)

    assert json.dumps(kept.metadata) == json.dumps(metadata)
    assert json.dumps(kept.model_dump(mode="json")["metadata"]) == json.dumps(metadata)


@unstorable
def test_what_json_or_postgresql_cannot_hold_is_refused_with_its_path(value: object, expected: str) -> None:
    """A value of the wrong type is refused at any depth, and the message has its path."""
    assert _refusal_of({"a": value}) == f"{expected} at $.a"
    assert _refusal_of({"a": [{"note": MARKER}, {"b_c": [MARKER, value]}]}) == f"{expected} at $.a[1].b_c[1]"


@pytest.mark.parametrize("key", [f"{MARKER}\0", f"{MARKER}\udfff"], ids=["NUL", "lone surrogate"])
def test_a_key_that_cannot_be_stored_is_told_by_its_position(key: str) -> None:
    """A key may be personal data itself: the path has its position, not its text."""
    assert _refusal_of({"a": 1, key: 2}).endswith("at $.<key 1>")


@pytest.mark.parametrize("key", [1, None, True, 1.5, (MARKER,), UUID(int=7)], ids=repr)
def test_a_key_that_is_no_string_is_refused(key: object) -> None:
    """JSON would change such a key, or refuse it."""
    assert _refusal_of({"a": {key: MARKER}}) == f"a string as key, got {type(key).__name__} at $.a.<key 0>"


@unstorable
def test_a_fault_below_a_personal_key_does_not_show_the_key(value: object, expected: str) -> None:
    """Only keys that are plain words are named on the path."""
    assert _refusal_of({MARKER: {"a": value}}) == f"{expected} at $.<key 0>.a"


@pytest.mark.parametrize("value", [(1, 2), UserDict(a=1), MappingProxyType({"a": 1})], ids=lambda v: type(v).__name__)
def test_near_json_either_passes_or_is_refused_as_invalid_data(value: object) -> None:
    """Tuples and other mappings raise no foreign error, and their refusal shows no key."""
    for metadata in (value, {MARKER: value}):
        try:
            new_notification(metadata=metadata)
        except InvalidDataException as refusal:
            assert MARKER not in told_by(refusal)  # noqa: PT017 - passing is fine as well


def test_metadata_is_a_copy() -> None:
    """Later changes of the caller's dict do not change the value."""
    given_metadata: dict[str, Any] = {"ids": [1, {"a": 2}]}
    kept = new_notification(metadata=given_metadata)
    before = copy.deepcopy(given_metadata)

    given_metadata["ids"][1]["a"] = MARKER
    given_metadata["more"] = MARKER

    assert kept.metadata == before


def _text(metadata: object) -> bytes:
    """Write JSON as PostgreSQL writes a jsonb."""
    return json.dumps(metadata, ensure_ascii=False).encode()


@pytest.mark.parametrize("size", [MAX_METADATA_BYTES - 1, MAX_METADATA_BYTES])
@pytest.mark.parametrize(
    "shape",
    [
        lambda text: {"a": text},
        lambda text: {"a": [[1, text]]},
        lambda text: {"é": {"a": {}, "b": [], "c": text}, "d": None},
    ],
    ids=["flat", "nested", "mixed"],
)
def test_metadata_up_to_the_databases_bound_passes(shape: Callable[[str], dict[str, Any]], size: int) -> None:
    """Metadata that the CHECK accepts, by the bytes of PostgreSQL's text, is accepted here."""
    metadata = shape("x" * (size - len(_text(shape("")))))

    assert len(_text(metadata)) == size
    assert metadata_fault(metadata) is None


@pytest.mark.parametrize(
    "character", ["x", "é", "𝄞", "\n", "\x01"], ids=["ascii", "latin", "clef", "newline", "control"]
)
def test_metadata_over_the_databases_bound_is_refused(character: str) -> None:
    """Bytes count as PostgreSQL would write them, not characters."""
    count = MAX_METADATA_BYTES // len(_text(character)[1:-1])

    assert _refusal_of({"a": character * count}) == f"at most {MAX_METADATA_BYTES} bytes of JSON"


@pytest.mark.parametrize("depth", [1, 2, MAX_METADATA_DEPTH])
def test_metadata_may_nest(depth: int) -> None:
    """Nesting up to the limit passes."""
    assert new_notification(metadata=_nested(depth)).metadata == _nested(depth)


def test_metadata_that_nests_too_deep_is_refused_without_recursion() -> None:
    """The walk of a hundred thousand levels, or of a list that holds itself, ends at the limit."""
    endless: list[object] = []
    endless.append(endless)

    for metadata in (_nested(MAX_METADATA_DEPTH + 1), _nested(100_000), {"a": endless}):
        assert _refusal_of(metadata) == f"at most {MAX_METADATA_DEPTH} levels of nesting"
        _unravel(metadata)


def _unravel(metadata: dict[str, Any]) -> None:
    """Take a deep structure apart from the outside, as its recursive deallocation could crash the interpreter."""
    inner: Any = metadata
    while isinstance(inner, dict) and inner:
        inner = inner.pop("a")


class _Watched(list[int]):
    """A list that counts how many of its items are read."""

    looked_at = 0

    def __iter__(self) -> Iterator[int]:
        for item in super().__iter__():
            self.looked_at += 1
            yield item

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - list's own signature
        self.looked_at += 1
        return super().__getitem__(index)

    def pop(self, index: SupportsIndex = -1) -> int:
        self.looked_at += 1
        return super().pop(index)


def test_the_work_on_a_long_list_is_bounded() -> None:
    """No more items are read than fit into the limit in bytes."""
    items = _Watched([0] * 100_000)

    assert _refusal_of({"a": items}) == f"at most {MAX_METADATA_BYTES} bytes of JSON"
    assert items.looked_at <= MAX_METADATA_BYTES


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": "x" * 10_000_000},
        {"a": "é" * 10_000_000},
        {"é" * 10_000_000: 1},
        dict.fromkeys(map(str, range(300_000)), 1),
    ],
    ids=["text", "text beyond ASCII", "key", "keys"],
)
def test_huge_metadata_is_refused_fast(metadata: dict[str, Any]) -> None:
    """The time of a refusal does not depend on the size of the input."""
    started = perf_counter()
    fault = metadata_fault(metadata)

    assert fault == f"expected at most {MAX_METADATA_BYTES} bytes of JSON"
    assert perf_counter() - started < 0.2
