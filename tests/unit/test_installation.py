"""Every fact of a pristine installation is looked at: one that is lost or changed is a fault."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from supabase import AsyncClient

from scenario_repo import _installation, _mending, _operating, _postgrest

EXPECTED: Final = _installation.expected()
DEFAULT_TABLES: Final = {
    "scenario_source.mentors": "public.peer_mentors",
    "scenario_source.activities": "public.activities",
    "scenario_source.certificates": "public.certifications",
    "scenario_source.device_tokens": "public.device_tokens",
}
FACTS: Final = [(kind, name) for kind, facts in EXPECTED.facts.items() for name in facts]


def installed(**changes: object) -> _installation.Catalogue:
    """Make the catalogue of a pristine installation, but for what is given."""
    sources = [
        {
            "source": view,
            "name": table,
            "schema": "public",
            "is_table": True,
            "is_direct": True,
            "is_readable": True,
            "is_in_reach": True,
        }
        for view, table in DEFAULT_TABLES.items()
    ]
    pristine: dict[str, Any] = {
        "schema_version": EXPECTED.schema_version,
        "now": datetime.now(UTC).isoformat(),
        "facts": EXPECTED.facts,
        "sources": sources,
        "without_settings": [],
        "shared_tokens": None,
    }
    return _installation.CATALOGUE.validate_json(json.dumps(pristine | changes))


def faults(facts: dict[str, dict[str, Any]]) -> list[str]:
    """Return what is wrong with an installation that has these facts."""
    return [one.what for one in _installation.verified(installed(facts=facts), timedelta(0)).faults]


def test_a_pristine_installation_is_whole() -> None:
    """Held against itself, nothing is wrong."""
    assert _installation.verified(installed(), timedelta(0)).ok


def test_every_fact_that_is_lost_is_a_fault() -> None:
    """Each object and each grant, by name; what belongs to a table or constraint that is lost is told with that."""
    silent = []
    for kind, name in FACTS:
        of_kind = dict(EXPECTED.facts[kind])
        gone = of_kind.pop(name)
        facts = EXPECTED.facts | {kind: of_kind}
        is_told_elsewhere = (kind == "index" and gone["is_of_constraint"]) or _is_column_of_a_view(kind, name)
        if not is_told_elsewhere and not any(_named(kind, name) in fault for fault in faults(facts)):
            silent.append((kind, name))
    assert silent == []


def test_every_fact_that_is_changed_is_a_fault() -> None:
    """Each part of each fact; a table's options and a view's comment may be more than ours."""
    silent = []
    for kind, name in FACTS:
        for part, value in EXPECTED.facts[kind][name].items():
            if part in {"comment", "is_of_constraint", "table", "is_generated"} or (
                part in {"options", "rules"} and value == []
            ):
                continue
            fact = EXPECTED.facts[kind][name] | {part: _changed(value)}
            facts = EXPECTED.facts | {kind: EXPECTED.facts[kind] | {name: fact}}
            is_open = name.endswith("scenario_type_is_known")  # an app's own types may be listed
            unchecked = is_open or (value in (None, False) and part in {"text", "has_row_level_security"})
            if not (unchecked or _is_column_of_a_view(kind, name) or faults(facts)):
                silent.append((kind, name, part))
    assert silent == []


def _is_column_of_a_view(kind: str, name: str) -> bool:
    """Tell whether a view's query speaks for a column; a source view's nullability and default say nothing."""
    if kind != "column":
        return False
    relation = name.rpartition(".")[0]
    return bool(EXPECTED.facts["relation"][relation]["is_view"])


def _named(kind: str, name: str) -> str:
    """Return what a fault says of a fact: an object's full name, or that of a part of its table."""
    match kind:
        case "grant":
            return name.partition(" ")[2].rpartition(" to ")[0]
        case "relation" | "function" | "index":
            return name
        case _:
            return name.rpartition(".")[2]


def _changed(value: object) -> object:
    match value:
        case bool():
            return not value
        case str():
            return f"{value}x"
        case list():
            return []
        case _:
            return "x"


@pytest.mark.parametrize("kind", ["function", "view", "table", "trigger"])
def test_the_releases_have_the_statement_that_makes_each_object(kind: str) -> None:
    """What is said to mend is found in the migrations, whole."""
    relations = EXPECTED.facts["relation"]
    names = {
        "function": [name.partition("(")[0] for name in EXPECTED.facts["function"]],
        "view": [
            name for name, fact in relations.items() if fact["is_view"] and not name.startswith("scenario_source.")
        ],
        "table": [name for name, fact in relations.items() if not fact["is_view"]],
        "trigger": [name.rpartition(".")[2] for name in EXPECTED.facts["trigger"]],
    }[kind]
    assert names
    for name in names:
        statement = _mending.create(kind, name)
        assert statement.startswith("create "), name
        assert statement.endswith(";"), name


async def test_the_clock_is_compared_at_half_the_time_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow answer is no skew."""
    started = datetime(2026, 11, 26, 12, tzinfo=UTC)
    times = iter([started, started + timedelta(seconds=100)])

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Clock:
            assert tz is UTC
            return next(times)  # type: ignore[return-value]

    async def answered(*_: object, **__: object) -> _installation.Catalogue:
        return installed(now=(started + timedelta(seconds=50)).isoformat())

    monkeypatch.setattr(_operating, "datetime", Clock)
    monkeypatch.setattr(_postgrest, "fetch", answered)
    repository = _operating.Operating(AsyncClient.__new__(AsyncClient))  # which is never used
    assert (await repository.verify_installation()).ok
