"""What may be in a notification's metadata: a small JSON object.

The database has the same rules as CHECK constraints, so that another writer can't pass either.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

MAX_METADATA_BYTES = 8192
"""The bound of the CHECK ``scenario_notifications_metadata_is_at_most_8_kib``."""
MAX_METADATA_DEPTH = 32
"""How deep objects and arrays may nest; far beyond any sensible use, and cheap to walk."""
_INTEGER_BITS = 63
_LONGEST_TOLD_KEY = 64


def metadata_fault(metadata: object) -> str | None:
    """Say what is wrong with a notification's metadata, or None when nothing is.

    The fault says what was expected, the kind of thing that was found and the JSON path to it, never the value.
    One pass, which ends as soon as the bound in bytes or in depth is crossed: the work is bounded however large
    the input.
    """
    if not isinstance(metadata, dict):
        return f"expected a JSON object, got {type(metadata).__name__}"
    budget = MAX_METADATA_BYTES
    for path, depth, value in _walk(metadata):
        if depth > MAX_METADATA_DEPTH:
            return f"expected at most {MAX_METADATA_DEPTH} levels of nesting"
        if _least_bytes(value) > budget:
            return f"expected at most {MAX_METADATA_BYTES} bytes of JSON"
        fault = _value_fault(value)
        if fault is not None:
            return f"{fault} at {path}"
        budget -= _bytes(value)
        if budget < 0:
            return f"expected at most {MAX_METADATA_BYTES} bytes of JSON"
    return None


def _walk(metadata: Mapping[object, object]) -> Iterator[tuple[str, int, object]]:
    """Yield path, depth and value of every node; a key is a node of its own, before its value."""
    stack: list[tuple[str, int, object]] = [("$", 1, metadata)]
    while stack:
        path, depth, value = stack.pop()
        yield path, depth, value
        if isinstance(value, dict):
            for position, (key, child) in enumerate(value.items()):
                # A key may itself be what must not be told: keys are named by their position.
                here = f"{path}.{key}" if _is_plain_key(key) else f"{path}.<key {position}>"
                yield (
                    f"{path}.<key {position}>",
                    depth,
                    key if isinstance(key, str) else _NotAString(key),
                )
                stack.append((here, depth + 1, child))
        elif isinstance(value, list):
            stack.extend((f"{path}[{index}]", depth + 1, child) for index, child in enumerate(value))


class _NotAString:
    """Stands for a key that JSON can't have."""

    def __init__(self, key: object) -> None:
        self.type_name = type(key).__name__


def _is_plain_key(key: object) -> bool:
    return isinstance(key, str) and key.isascii() and key.replace("_", "a").isalpha() and len(key) <= _LONGEST_TOLD_KEY


def _value_fault(value: object) -> str | None:
    match value:
        case None | bool() | dict() | list():
            return None
        case str():
            return _text_fault(value)
        case int():
            fits = value.bit_length() <= _INTEGER_BITS
            return None if fits else "expected an integer below 2^63, got a larger one"
        case float():
            return None if math.isfinite(value) else "expected a finite number, got NaN or an infinity"
        case _NotAString():
            return f"expected a string as key, got {value.type_name}"
        case _:
            return f"expected a JSON value, got {type(value).__name__}"


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "expected text without NUL, which PostgreSQL can't store"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "expected Unicode text, got a lone surrogate"
    return None


def _least_bytes(value: object) -> int:
    """Count the fewest bytes a value can take, without looking into it; a container pays for its separators."""
    match value:
        case str():
            return len(value) + 2
        case dict():
            return max(2, 4 * len(value))
        case list():
            return max(2, 2 * len(value))
        case _:
            return 1


def _bytes(value: object) -> int:
    """Count the bytes of a value in PostgreSQL's text of a jsonb (a float with an exponent takes more there)."""
    if isinstance(value, dict | list):
        return _least_bytes(value)
    return len(json.dumps(value, ensure_ascii=False).encode())
