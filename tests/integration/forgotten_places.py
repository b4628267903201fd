"""What must be touched together and can't be derived, read from the live catalogue and from the sources.

Each function returns one sentence for each place that was forgotten; :mod:`tests.integration.test_forgotten_places`
expects none, and adds a type, a status, a column or a code to see that the places are named.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

import psycopg

from scenario_repo import (
    ClaimOutcome,
    DeliveryStatus,
    ScenarioNotification,
    ScenarioType,
    SettlementAnswer,
    SkipReason,
    _claims,
    _console,
)
from scenario_repo._translation import BY_CODE
from tests.integration.database import Database
from tests.postgres.install import ROOT

SCHEMAS: Final = ROOT / "supabase" / "schemas"
_TABLE: Final = "public.scenario_notifications"

HOLDS: Final[Mapping[str, bool]] = {"pending": True, "sent": True, "failed": False}
"""Whether a notification of each status refuses a later claim."""
TRANSITIONS: Final = {("pending", "sent"), ("pending", "failed")}
"""The changes of status that are allowed."""
_MOVING: Final = {"delivery_status", "metadata", "attempt_count", "next_attempt_at", "failure_code"}
"""The columns that may change; all others are fixed by a trigger."""
_INSIDE: Final = {"attempt_count", "next_attempt_at", "failure_code"}
"""The columns that ScenarioNotification leaves out: they belong to a lease."""
_LEFT_TO_THE_DEFAULT: Final = {"delivery_status", "attempt_count", "next_attempt_at", "failure_code"}
"""The columns that a claim does not insert."""


def check_list(connection: psycopg.Connection, table: str, constraint: str) -> list[str]:
    """Return the words that a CHECK lists, in its order."""
    row = connection.execute(
        "select pg_get_constraintdef(oid) from pg_constraint where conrelid = %s::regclass and conname = %s",
        [table, constraint],
    ).fetchone()
    assert row is not None, f"{table} has no constraint {constraint}"
    return re.findall(r"'([a-z0-9_]+)'::text", row[0])


def scenario_types(connection: psycopg.Connection, sources: Mapping[str, str]) -> list[str]:
    """Name the places that lack a scenario type of the CHECK."""
    types = check_list(connection, _TABLE, "scenario_notifications_scenario_type_is_known")
    settings = "public.scenario_evaluation_config"
    lists: dict[str, list[str]] = {
        f"the CHECK of {settings}": check_list(
            connection, settings, "scenario_evaluation_config_scenario_type_is_known"
        ),
        "scenario_repo.ScenarioType": list(ScenarioType),
        "supabase/schemas/rules": [file.stem for file in (SCHEMAS / "rules").glob("*.sql")],
        f"the default rows of {settings}": [
            kind
            for (kind,) in connection.execute(
                "select scenario_type from public.scenario_evaluation_config where organization_id is null"
            )
        ],
        "the views scenario_private.…_rule": [
            kind for (kind,) in connection.execute("select scenario_type from scenario_private.rules()")
        ],
    }
    found = [f"{place} lacks {kind}" for place, there in lists.items() for kind in types if kind not in there]
    return found + list(_named_in_part("scenario type", types, sources))


def statuses(connection: psycopg.Connection, sources: Mapping[str, str]) -> list[str]:
    """Name the places that lack a delivery status of the CHECK."""
    words = check_list(connection, _TABLE, "scenario_notifications_delivery_status_is_known")
    lists: dict[str, list[str]] = {
        "scenario_repo.DeliveryStatus": list(DeliveryStatus),
        "the view scenario_private.holding (does it hold a cooldown?)": list(HOLDS),
        "the trigger scenario_notifications_settled_is_final (from where, and where to?)": sorted(
            {status for transition in TRANSITIONS for status in transition}
        ),
    }
    found = [f"{place} lacks {word}" for place, there in lists.items() for word in words if word not in there]
    return found + list(_named_in_part("delivery status", words, sources))


def columns(connection: psycopg.Connection) -> list[str]:
    """Name the places that lack a column of scenario_notifications."""
    rows = connection.execute(
        "select attname, atttypid = 'timestamptz'::regtype from pg_attribute"
        " where attrelid = 'public.scenario_notifications'::regclass and attnum > 0 and not attisdropped"
    ).fetchall()
    names = [name for name, _ in rows]
    fixed = {
        name
        for (name,) in connection.execute(
            "select attname from pg_trigger join pg_attribute on attrelid = tgrelid and attnum = any (tgattr)"
            " where tgname = 'scenario_notifications_past_is_fixed'"
        )
    }
    ((definition,),) = connection.execute(
        "select pg_get_triggerdef(oid) from pg_trigger where tgname = 'scenario_notifications_past_is_fixed'"
    ).fetchall()
    compared = set(re.findall(r"old\.([a-z_]+)", definition)) & set(re.findall(r"new\.([a-z_]+)", definition))
    inserted = {way: _inserted_by(connection, way) for way in ("claim_fast_path", "claim_row_by_row")}
    moved = inspect.getsource(Database.let_pass)
    lists: dict[str, set[str]] = {
        "the trigger scenario_notifications_past_is_fixed": fixed | _MOVING,
        "the comparison of the trigger scenario_notifications_past_is_fixed": compared | _MOVING,
        "scenario_repo.ScenarioNotification": {*ScenarioNotification.model_fields} | _INSIDE,
        "the outcome of a claim in scenario_repo/_claims.py": {*_outcome_fields()} | _INSIDE,
        **{f"scenario_private.{way}": there | _LEFT_TO_THE_DEFAULT for way, there in inserted.items()},
        "Database.let_pass of the tests": {
            name for name, is_time in rows if not is_time or re.search(rf"\b{name} = ", moved)
        },
    }
    # claim_row_by_row leaves the id to the table.
    lists["scenario_private.claim_row_by_row"].add("id")
    return [f"{place} lacks {name}" for place, there in lists.items() for name in names if name not in there]


def codes(sources: Mapping[str, str]) -> list[str]:
    """Name the places that lack a SQLSTATE raised in SQL, and the SQLSTATEs nobody raises."""
    raised = {code for text in sources.values() for code in re.findall(r"errcode = '(SR\d{3})'", text)}
    described = set(re.findall(r"^--   (SR\d{3})  ", sources["02_versions_and_refusals.sql"], re.MULTILINE))
    translated = {code for code in BY_CODE if code.startswith("SR")}
    places = {"scenario_repo/_translation.py": translated, "02_versions_and_refusals.sql": described}
    found = [f"{place} lacks {code}" for place, there in places.items() for code in sorted(raised - there)]
    return found + [f"{place} has {code}, which nothing raises" for place, there in places.items()
                    for code in sorted(there - raised)]  # fmt: skip


def words(sources: Mapping[str, str]) -> list[str]:
    """Name the findings, reasons and answers in SQL for which Python has no words."""
    console = inspect.getsource(_console)
    findings = {finding for name, text in sources.items() if name.startswith("rules/") for finding in findings_of(text)}
    findings |= set(re.findall(r"(?:then |, )'([a-z_]+)'(?:\n| as finding)", sources["14_explanation.sql"]))
    away = set(re.findall(r"(?:then|else) '([a-z_]+)'", sources["09_users.sql"]))
    findings |= away
    reasons = away | set(re.findall(r"(?:then|else) '([a-z_]+)'", sources["10_claim.sql"]))
    settle = sources["16_delivery.sql"].partition("scenario_settle_notifications(")[2]
    judged = settle.partition("judged as materialized")[2].partition("settled as")[0]
    answers = set(re.findall(r"(?:then|else) '([a-z_]+)'", judged)) | {"sent"}
    assert findings, "no finding was found in the rules"
    untold = sorted(word for word in findings if f'"{word}"' not in console)
    return [
        *(f"scenario_repo/_console.py has no words for {word}" for word in untold),
        *_missing(reasons, SkipReason),
        *_missing(answers, SettlementAnswer),
    ]  # fmt: skip


def findings_of(rule: str) -> set[str]:
    """Return the findings that the text of a rule can give."""
    parts = re.findall(r"case\n?(.*?)end\s+as finding", rule, re.DOTALL)
    return {finding for part in parts for finding in re.findall(r"(?:then|else) '([a-z_]+)'", part)}


def schema_sources() -> dict[str, str]:
    """Read every schema file, by its path below supabase/schemas, and the snippets."""
    files = [*SCHEMAS.rglob("*.sql"), *(ROOT / "supabase" / "snippets").glob("*.sql")]
    return {_name(file): file.read_text() for file in files}


def functions_and_views(connection: psycopg.Connection) -> dict[str, str]:
    """Read the text of every function and view of ours from the catalogue."""
    rows = connection.execute(
        """
        select format('%s.%s', pronamespace::regnamespace, proname), prosrc
        from pg_proc
        where pronamespace in ('public'::regnamespace, 'scenario_private'::regnamespace)
        union all
        select format('%s.%s', relnamespace::regnamespace, relname), pg_get_viewdef(oid)
        from pg_class
        where relkind = 'v' and relnamespace in ('scenario_private'::regnamespace, 'scenario_source'::regnamespace)
        """
    ).fetchall()
    return dict(rows)


def _named_in_part(kind: str, words: list[str], sources: Mapping[str, str]) -> Iterator[str]:
    """Yield what a text lacks that names two of the words or more; one alone is a rule of its own."""
    for place, text in sources.items():
        named = {word for word in words if re.search(rf"'{word}'", text)}
        if len(named) > 1:
            yield from (f"{place} names a {kind} of several, and lacks {word}" for word in words if word not in named)


def _inserted_by(connection: psycopg.Connection, function: str) -> set[str]:
    row = connection.execute(
        "select prosrc from pg_proc where pronamespace = 'scenario_private'::regnamespace and proname = %s", [function]
    ).fetchone()
    assert row is not None, f"there is no function {function}"
    found = re.search(r"insert into public\.scenario_notifications[^(]*\(([^)]*)\)", row[0])
    assert found is not None, f"{function} inserts nothing"
    return {name.strip() for name in found[1].split(",")}


def _outcome_fields() -> set[str]:
    """Return the fields that an outcome of a granted claim gives to its notification."""
    source = inspect.getsource(_claims.outcomes_of)
    assert ClaimOutcome.model_fields.keys() >= {"notification"}
    return set(re.findall(r'"([a-z_]+)": (?:claim|answer|DeliveryStatus)\b', source))


def _missing(words: set[str], enum: type[StrEnum]) -> list[str]:
    assert words, f"no word of {enum.__name__} was found in SQL"
    return [f"scenario_repo.{enum.__name__} lacks {word}" for word in sorted(words - set(enum))]


def _name(file: Path) -> str:
    return str(file.relative_to(SCHEMAS)) if file.is_relative_to(SCHEMAS) else f"snippets/{file.name}"
