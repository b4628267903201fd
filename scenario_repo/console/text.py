"""Text on a page: what the app or its users wrote is shown so that it can't pass for something else."""

from __future__ import annotations

import json
import unicodedata
from typing import Final

from pydantic import JsonValue

_LONGEST: Final = 300
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
"""Controls, marks that turn the direction of text, and what no font has."""


def shown(value: object) -> str:
    """Write a value on one line: what can't be seen as its escape, and what is too long cut."""
    text = "" if value is None else str(value)
    cut = text[:_LONGEST]
    seen = "".join(_escape(sign) if unicodedata.category(sign) in _INVISIBLE else sign for sign in cut)
    return f"{seen} … ({len(text):,} characters)" if len(text) > _LONGEST else seen


def facts_of(facts: dict[str, JsonValue]) -> list[tuple[str, str]]:
    """Write the facts of a rule, name by name."""
    return [(shown(name), shown(_plain(value))) for name, value in sorted(facts.items())]


def _plain(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _escape(sign: str) -> str:
    code = ord(sign)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the longest of four digits
