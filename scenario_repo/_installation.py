"""An installation's catalogue, held against that of a pristine one (``catalogue.json``, recorded by a test)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from importlib import resources
from typing import Any, Final

from pydantic import AwareDatetime, TypeAdapter

from scenario_repo import _mending
from scenario_repo._fields import Row
from scenario_repo.verification import InstallationFault, Verification

Facts = dict[str, dict[str, Any]]
Placed = tuple[int, InstallationFault]
"""A fault of something that the releases make, and where they make it."""

_LARGEST_SKEW: Final = timedelta(seconds=60)
_API_ROLES: Final = frozenset({"public", "anon", "authenticated"})
_NOTHING: Final[dict[str, Any]] = {"privileges": ()}
_SCENARIO_TYPES: Final = "scenario_type_is_known"


class SourceRelation(Row):
    """A table or view that a source view reads."""

    source: str
    name: str
    is_table: bool
    is_direct: bool
    is_readable: bool
    """For the service role."""
    schema_: str
    is_in_reach: bool
    """Whether the service role may use its schema."""

    model_config = Row.model_config | {"alias_generator": lambda field: field.removesuffix("_")}


class Catalogue(Row):
    """What ``scenario_get_catalogue`` answers."""

    schema_version: int
    now: AwareDatetime
    facts: dict[str, Facts]
    """By kind and name."""
    sources: tuple[SourceRelation, ...]
    without_settings: tuple[str, ...]
    """Scenario types that have a rule and no default settings."""
    shared_tokens: int | None
    """How many tokens are several users'; None where the tokens can't be read."""


CATALOGUE: Final = TypeAdapter(Catalogue)


class _Expected(Row):
    schema_version: int
    facts: dict[str, Facts]


@cache
def expected() -> _Expected:
    """Return the catalogue of a pristine installation."""
    return _Expected.model_validate_json((resources.files("scenario_repo") / "catalogue.json").read_bytes())


def verified(installed: Catalogue, skew: timedelta) -> Verification:
    """Hold a catalogue against a pristine one; ``skew``: how far this clock is ahead of the database's."""
    pristine = expected()
    if installed.schema_version != pristine.schema_version:
        what = (
            f"the schema: this library verifies version {pristine.schema_version},"
            f" the database has version {installed.schema_version}"
        )
        return Verification(schema_version=installed.schema_version, faults=(InstallationFault(what=what),))
    made = [
        *_relations(installed, pristine.facts),
        *_columns(installed, pristine.facts),
        *_functions(installed, pristine.facts),
    ]
    faults = [
        # Together they are one script, and each may need those before it.
        *(fault for _, fault in sorted(made, key=lambda one: one[0])),
        *_rules(installed, pristine.facts),
        *_indexes(installed, pristine.facts),
        *_grants(installed, pristine.facts),
        *_sources(installed),
        *_data(installed),
        *_clock(skew),
    ]
    return Verification(schema_version=installed.schema_version, faults=tuple(faults))


def _relations(installed: Catalogue, pristine: dict[str, Facts]) -> Iterator[Placed]:
    found = installed.facts["relation"]
    lost_sources = [name for name in pristine["relation"] if _is_of_source(name) and name not in found]
    for name, fact in pristine["relation"].items():
        place = _mending.place(name)
        kind = "view" if fact["is_view"] else "table"
        if name not in found:
            # Only the migrations make a source view again, and with it what reads it.
            mend = _mending.again(lost_sources[0]) if lost_sources else _mending.create(kind, name)
            yield place, InstallationFault(what=f"{name}: expected a {kind}, got none", mend=mend)
            continue
        there = found[name]
        if there["is_view"] != fact["is_view"]:
            yield place, InstallationFault(what=f"{name}: expected a {kind}, got something else")
            continue
        if fact["has_row_level_security"] and not there["has_row_level_security"]:
            mend = f"alter table {name} enable row level security;"
            yield place, InstallationFault(what=f"{name}: expected row level security, got none", mend=mend)
        if fact["is_logged"] and not there["is_logged"]:
            mend = f"alter table {name} set logged;"
            yield place, InstallationFault(what=f"{name}: an unlogged table, which a crash empties", mend=mend)
        for rule in there["rules"]:
            what = f"{name}: the rule {rule} rewrites what is asked of it"
            yield place, InstallationFault(what=what, mend=f"drop rule {rule} on {name};")
        lost = [option for option in fact["options"] if option not in there["options"]]
        if lost:
            mend = f"alter {kind} {name} set ({', '.join(lost)});"
            yield place, InstallationFault(what=f"{name}: expected {', '.join(lost)}", mend=mend)
        if there["text"] != fact["text"]:
            yield place, InstallationFault(what=f"{name}: its query is another", mend=_mending.create("view", name))


def _columns(installed: Catalogue, pristine: dict[str, Facts]) -> Iterator[Placed]:
    found = installed.facts["column"]
    for name, fact in pristine["column"].items():
        relation, _, column = name.rpartition(".")
        if relation not in installed.facts["relation"]:
            continue
        is_view = pristine["relation"][relation]["is_view"]
        if is_view and not _is_of_source(relation):
            continue  # its query says it all
        place = _mending.place(relation)
        there = found.get(name)
        got = "no such column" if there is None else there["type"]
        if got != fact["type"]:
            mend = _mending.of_source(relation) if is_view else _mending.column(relation, column, fact, there)
            yield place, InstallationFault(what=f"{name}: expected {fact['type']}, got {got}", mend=mend)
            continue
        if is_view or there is None:
            continue
        if there["is_nullable"] != fact["is_nullable"]:
            wanted, action = ("null allowed", "drop") if fact["is_nullable"] else ("not null", "set")
            mend = f"alter table {relation} alter column {column} {action} not null;"
            yield place, InstallationFault(what=f"{name}: expected {wanted}", mend=mend)
        if there["default"] != fact["default"] and fact["is_generated"]:
            yield place, InstallationFault(what=f"{name}: expected it generated as {fact['default']}")
        elif there["default"] != fact["default"]:
            change = "drop default" if fact["default"] is None else f"set default {fact['default']}"
            mend = f"alter table {relation} alter column {column} {change};"
            yield place, InstallationFault(what=f"{name}: its default is another", mend=mend)


def _is_of_source(relation: str) -> bool:
    return relation.startswith("scenario_source.")


def _rules(installed: Catalogue, pristine: dict[str, Facts]) -> Iterator[InstallationFault]:
    """Constraints, triggers and policies: what keeps the tables' promises."""
    for kind in ("constraint", "trigger", "policy"):
        found = installed.facts.get(kind, {})
        for name, fact in pristine[kind].items():
            relation, _, own_name = name.rpartition(".")
            if relation not in installed.facts["relation"]:
                continue
            there = found.get(name)
            if there is None or not _is_as_good(name, there, fact):
                got = "none" if there is None else "another" if there.get("is_enabled", True) else "a disabled one"
                mend = _mending.rule(kind, relation, own_name, fact)
                yield InstallationFault(what=f"{relation}: expected the {kind} {own_name}, got {got}", mend=mend)
    for name, there in installed.facts.get("policy", {}).items():
        relation, _, own_name = name.rpartition(".")
        opened = _API_ROLES.intersection(there["roles"])
        if relation in pristine["relation"] and name not in pristine["policy"] and opened and there["is_permissive"]:
            what = f"{relation}: the policy {own_name} is not ours, and opens it to {', '.join(sorted(opened))}"
            yield InstallationFault(what=what, mend=f"drop policy {own_name} on {relation};")


def _is_as_good(name: str, there: dict[str, Any], fact: dict[str, Any]) -> bool:
    if not name.endswith(_SCENARIO_TYPES):
        return there == fact
    # An app's own types may be listed besides.
    texts = (str(there["text"]), str(fact["text"]))
    listed, ours = (set(re.findall(r"'(\w+)'", text)) for text in texts)
    return ours <= listed


def _indexes(installed: Catalogue, pristine: dict[str, Facts]) -> Iterator[InstallationFault]:
    found = installed.facts.get("index", {})
    for name, fact in pristine["index"].items():
        if not _is_read(installed, pristine, fact["table"]):
            continue
        there = found.get(name)
        if there is None:
            if not fact["is_of_constraint"]:
                what = f"{fact['table']}: expected the index {name}, got none"
                yield InstallationFault(what=what, mend=f"{fact['text']};")
        elif not _serves(_plain(there["text"]), _plain(fact["text"])):
            what = f"{fact['table']}: expected another index of the name {name}"
            yield InstallationFault(what=what, mend=_mending.index(name, fact["text"]))
    for name, there in found.items():
        if not there["is_valid"]:
            what = f"{there['table']}: the index {name} is invalid, as a failed build leaves it"
            yield InstallationFault(what=what, mend=f"reindex index {name};")


def _is_read(installed: Catalogue, pristine: dict[str, Facts], table: str) -> bool:
    """Tell whether an index of this table is expected: of ours, and of an app's own under a default view."""
    relations = installed.facts["relation"]
    if table in pristine["relation"]:
        return table in relations
    return any(
        one.name == table
        and one.is_table
        and one.is_direct
        and relations.get(one.source, {}).get("comment") == pristine["relation"][one.source]["comment"]
        for one in installed.sources
    )


def _serves(text: str, wanted: str) -> bool:
    """Tell whether an index is the one that is wanted, or has further columns."""
    return text == wanted or (text.startswith((f"{wanted},", f"{wanted}INCLUDE")) and "WHERE" not in text)


def _plain(text: str) -> str:
    """Leave out what differs between tables and column types that fit: ONLY, casts and parentheses."""
    return re.sub(r"(?<= ON )ONLY |::[a-z ]+|[()\s]", "", text)


def _functions(installed: Catalogue, pristine: dict[str, Facts]) -> Iterator[Placed]:
    found = installed.facts.get("function", {})
    for signature, fact in pristine["function"].items():
        there = found.get(signature)
        if there != fact:
            got = "none" if there is None else "another"
            name = signature.partition("(")[0]
            mend = _mending.create("function", name)
            yield (
                _mending.place(name),
                InstallationFault(what=f"{signature}: expected this function, got {got}", mend=mend),
            )
    for signature in _second_functions(installed, pristine):
        what = f"{signature}: a second function of a name of ours, which makes calls ambiguous"
        # It is the app's, as far as anybody knows: it gets another name, and is not dropped.
        mend = f"alter function {signature} rename to {signature.partition('(')[0].rpartition('.')[2]}_of_the_app;"
        yield _mending.place(signature.partition("(")[0]), InstallationFault(what=what, mend=mend)


def _second_functions(installed: Catalogue, pristine: dict[str, Facts]) -> list[str]:
    names = {signature.partition("(")[0] for signature in pristine["function"]}
    found = installed.facts.get("function", {})
    return [name for name in found if name not in pristine["function"] and name.partition("(")[0] in names]


def _grants(installed: Catalogue, pristine: dict[str, Facts]) -> Iterator[InstallationFault]:
    """Compare what the API's roles may do; more is as wrong as less."""
    found, ours = installed.facts.get("grant", {}), pristine["grant"]
    relations = installed.facts["relation"]
    objects = {
        *relations,
        *installed.facts["column"],
        *installed.facts.get("function", {}),
        *(name.partition(".")[0] for name in relations),  # their schemas
    }.difference(_second_functions(installed, pristine))  # they are to be dropped
    for place in sorted({*ours, *found}):
        wanted, held = (set(grants.get(place, _NOTHING)["privileges"]) for grants in (ours, found))
        thing, _, role = place.rpartition(" to ")
        kind, _, name = thing.partition(" ")
        is_ours = any(other.startswith(f"{thing} to ") for other in ours)
        if name not in objects or wanted == held or not (is_ours or role in _API_ROLES):
            continue
        got = ", ".join(sorted(held)) or "nothing"
        what = f"{name}: expected {', '.join(sorted(wanted)) or 'nothing'} for {role}, got {got}"
        yield InstallationFault(what=what, mend=_mending.grant(kind, name, role, wanted))


def _sources(installed: Catalogue) -> Iterator[InstallationFault]:
    for one in installed.sources:
        if not one.is_in_reach:
            what = f"{one.name}: the service role may not use its schema, and {one.source} reads it"
            yield InstallationFault(what=what, mend=f"grant usage on schema {one.schema_} to service_role;")
        if not one.is_readable:
            what = f"{one.name}: the service role may not read it, and {one.source} does"
            yield InstallationFault(what=what, mend=f"grant select on {one.name} to service_role;")


def _data(installed: Catalogue) -> Iterator[InstallationFault]:
    for scenario_type in installed.without_settings:
        what = f"public.scenario_evaluation_config: expected default settings of {scenario_type}, got none"
        yield InstallationFault(what=what, mend=_mending.settings(scenario_type))
    if installed.shared_tokens:
        what = (
            f"scenario_source.device_tokens: {installed.shared_tokens:,} tokens belong to several users:"
            " one phone would show what is another's"
        )
        is_default = _is_read(installed, expected().facts, "public.device_tokens")
        yield InstallationFault(what=what, mend=_mending.tokens(is_default=is_default))


def _clock(skew: timedelta) -> Iterator[InstallationFault]:
    if abs(skew) > _LARGEST_SKEW:
        direction = "ahead of" if skew > timedelta(0) else "behind"
        yield InstallationFault(
            what=f"this machine's clock is {abs(skew).total_seconds():,.0f} s {direction} the database's"
        )
