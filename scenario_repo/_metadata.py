"""Checks a notification's metadata, a small JSON object, and its subjects, a few ids: without personal data.

The database has the same rules as CHECK constraints, so that they bind other writers too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from scenario_repo import _personal_data
from scenario_repo._limits import MAX_METADATA_BYTES, MAX_METADATA_DEPTH, MAX_SUBJECT_LENGTH, MAX_SUBJECTS

_INTEGER_BITS = 63
_MAX_SHOWN_KEY_LENGTH = 64


class _Node(NamedTuple):
    """A value or a key with its path; of_phone if a key above it names a phone number."""

    path: str
    depth: int
    value: object
    of_phone: bool


def metadata_fault(metadata: object) -> str | None:
    """Return the first fault of a notification's metadata, or None.

    The message gives what was expected, the kind of value found and its JSON path, never the value. One walk, which
    ends at the limit in bytes or depth, so that the work is bounded however large the input is. Only input within
    the limits is searched for personal data, in time linear in its size.
    """
    if not isinstance(metadata, dict):
        return f"expected a JSON object, got {type(metadata).__name__}"
    budget = MAX_METADATA_BYTES
    nodes: list[_Node] = []
    for node in _walk(metadata):
        if node.depth > MAX_METADATA_DEPTH:
            return f"expected at most {MAX_METADATA_DEPTH} levels of nesting"
        if _least_bytes(node.value) > budget:
            return f"expected at most {MAX_METADATA_BYTES} bytes of JSON"
        fault = _value_fault(node.value)
        if fault is not None:
            return f"{fault} at {node.path}"
        budget -= _bytes(node.value)
        if budget < 0:
            return f"expected at most {MAX_METADATA_BYTES} bytes of JSON"
        nodes.append(node)
    faults = (f"expected no personal data, got {kind} at {node.path}" for node in nodes if (kind := _kind(node)))
    return next(faults, None)


def subjects_fault(subjects: Collection[object]) -> str | None:
    """Return the first fault of a notification's subjects, or None."""
    if len(subjects) > MAX_SUBJECTS:
        return f"expected at most {MAX_SUBJECTS} subjects, got {len(subjects)}"
    for subject in subjects:
        if not isinstance(subject, str):
            return f"expected text, got {type(subject).__name__}"
        if not 1 <= len(subject) <= MAX_SUBJECT_LENGTH:
            return f"expected text of 1 to {MAX_SUBJECT_LENGTH} characters, got {len(subject)}"
        fault = metadata_fault({"subject": subject})
        if fault is not None:
            return fault.removesuffix(" at $.subject")
    return None


def _walk(metadata: Mapping[object, object]) -> Iterator[_Node]:
    """Yield every key and value as a node, each key before its value."""
    stack = [_Node("$", 1, metadata, of_phone=False)]
    while stack:
        node = stack.pop()
        yield node
        path, depth, value, of_phone = node
        if isinstance(value, dict):
            for position, (key, child) in enumerate(value.items()):
                # A key may be personal data itself, so an unusual key is named by its position.
                here = f"{path}.{key}" if _is_plain_key(key) else f"{path}.<key {position}>"
                # The key is yielded before it is searched, so that the caller can stop at a key beyond the limits.
                name = key if isinstance(key, str) else _NotAString(key)
                yield _Node(f"{path}.<key {position}>", depth, name, of_phone)
                says_phone = of_phone or (isinstance(key, str) and _personal_data.names_a_phone(key))
                stack.append(_Node(here, depth + 1, child, says_phone))
        elif isinstance(value, list):
            stack.extend(_Node(f"{path}[{index}]", depth + 1, child, of_phone) for index, child in enumerate(value))


def _kind(node: _Node) -> str | None:
    match node.value:
        case str():
            return _personal_data.in_text(node.value, of_phone=node.of_phone)
        case bool():
            return None
        case int():
            return _personal_data.in_number(node.value, of_phone=node.of_phone)
        case float() if node.value.is_integer():
            return _personal_data.in_number(int(node.value), of_phone=node.of_phone)
        case _:
            return None


class _NotAString:
    """Replaces a key that JSON can't hold."""

    def __init__(self, key: object) -> None:
        self.type_name = type(key).__name__


def _is_plain_key(key: object) -> bool:
    return (
        isinstance(key, str) and key.isascii() and key.replace("_", "a").isalpha() and len(key) <= _MAX_SHOWN_KEY_LENGTH
    )


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
    """Return a lower bound of a value's bytes in O(1): a container counts its separators only."""
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
    """Return a value's bytes in PostgreSQL's text of a jsonb (a float with an exponent takes more there)."""
    if isinstance(value, dict | list):
        return _least_bytes(value)
    return len(json.dumps(value, ensure_ascii=False).encode())
