"""The SQL that mends an installation: written from what is expected, or taken out of the releases' migrations."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final

from scenario_repo._releases import release_texts

_LAST_REGISTRATION: Final = """\
delete from public.device_tokens as older
using scenario_source.device_tokens as its, scenario_source.device_tokens as newer
where its.user_id = older.user_id and its.token = older.token
  and newer.token = its.token and newer.registered_at > its.registered_at;
-- then, so that it stays so: create unique index on public.device_tokens (token);"""

_FLAGS: Final = re.DOTALL | re.MULTILINE
_BUILT_IN_SETTINGS: Final = re.compile(r"^insert into public\.scenario_evaluation_config\b.*?;$", _FLAGS)


def again(name: str) -> str:
    """Say that only the migrations make something, or make it in the right order."""
    return f"-- apply the migrations of scenario_repo again: they may run twice, and make {name}"


def place(name: str) -> int:
    """Return where the releases first make a function, view or table: whatever it needs comes before it."""
    return _places().get(name, 0)


@cache
def _places() -> dict[str, int]:
    made = re.finditer(
        r"^create (?:or replace )?(?:function|view|table) (?:if not exists )?([\w.]+)", _releases(), re.MULTILINE
    )
    places: dict[str, int] = {}
    for one in made:
        places.setdefault(one[1], one.start())
    return places


def create(kind: str, name: str) -> str:
    """Return the newest statement of the releases that makes a function, view, table or trigger, with its grants."""
    escaped = re.escape(name)
    end = {"function": r"\(.*?\n(\$\w*\$);$", "view": r"\n.*?;$", "table": r" \(.*?;$", "trigger": r"\n.*?;$"}[kind]
    found = [*re.finditer(rf"^create (?:or replace )?{kind} (?:if not exists )?{escaped}{end}", _releases(), _FLAGS)]
    if not found:
        return again(name)
    of_kind = "function" if kind == "function" else "table"
    grants = re.finditer(rf"^(?:grant|revoke) [^;]*? on {of_kind} {escaped}\b[^;]*;$", _releases(), _FLAGS)
    return "\n".join([found[-1][0], *dict.fromkeys(grant[0] for grant in grants)])


@cache
def _releases() -> str:
    return "\n".join(release_texts())


def column(relation: str, name: str, wanted: Mapping[str, Any], there: Mapping[str, Any] | None) -> str:
    """Add a column, or change its type."""
    kind = wanted["type"]
    if there is not None:
        return f"alter table {relation} alter column {name} type {kind} using {name}::{kind};"
    if wanted["is_generated"]:
        value = f" generated always as ({wanted['default']}) stored"
    else:
        value = "" if wanted["default"] is None else f" default {wanted['default']}"
    return f"alter table {relation} add column {name} {kind}{value}{'' if wanted['is_nullable'] else ' not null'};"


def of_source(view: str) -> str:
    """Say that a source view is the app's to write."""
    return f"-- write {view} anew, with the column of this type (docs/own-tables.md)"


def rule(kind: str, relation: str, name: str, wanted: Mapping[str, Any]) -> str:
    """Make a constraint, trigger or policy, in place of one of the name."""
    if kind == "constraint":
        return (
            f"alter table {relation} drop constraint if exists {name};\n"
            f"alter table {relation} add constraint {name} {wanted['text']};"
        )
    drop = f"drop {kind} if exists {name} on {relation};"
    if kind == "trigger":
        # Not from the catalogue: read in again, its text gains parentheses.
        return f"{create('trigger', name)}\nalter table {relation} enable trigger {name};"
    manner = "permissive" if wanted["is_permissive"] else "restrictive"
    parts = [f"create policy {name} on {relation} as {manner} for {wanted['command']} to {', '.join(wanted['roles'])}"]
    parts += [f"using ({wanted['using']})"] if wanted["using"] else []
    parts += [f"with check ({wanted['with_check']})"] if wanted["with_check"] else []
    return f"{drop}\n{' '.join(parts)};"


def index(name: str, text: str) -> str:
    """Make an index in place of one of its name, which stays under another until its owner drops it."""
    return f"alter index {name} rename to {name.rpartition('.')[2]}_before;\n{text};"


def tokens(*, is_default: bool) -> str:
    """Leave each device to whoever registered it last; of an app's own view, only the app can say how."""
    if is_default:
        return _LAST_REGISTRATION
    return "-- leave each token to the user who registered it last: the app's own table (docs/own-tables.md)"


def grant(kind: str, name: str, role: str, wanted: Collection[str]) -> str:
    """Give a role what it needs of an object, and no more."""
    if kind == "column":
        name, _, column_name = name.rpartition(".")
        wanted = [f"{privilege} ({column_name})" for privilege in wanted]
        return f"revoke all ({column_name}) on {name} from {role};" + (
            f"\ngrant {', '.join(sorted(wanted))} on {name} to {role};" if wanted else ""
        )
    revoke = f"revoke all on {kind} {name} from {role};"
    return f"{revoke}\ngrant {', '.join(sorted(wanted))} on {kind} {name} to {role};" if wanted else revoke


def settings(scenario_type: str) -> str | None:
    """Insert the default rows that the built-in scenarios lack; an app's own type has its row in its migration."""
    found = _BUILT_IN_SETTINGS.findall(_releases())
    return next((text for text in reversed(found) if f"'{scenario_type}'" in text), None)
