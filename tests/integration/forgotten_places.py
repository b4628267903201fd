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
    DeliveryResult,
    DeliveryStatus,
    FailureReason,
    ScenarioNotification,
    ScenarioType,
    SettlementAnswer,
    SkipReason,
    _claims,
)
from scenario_repo._cli import findings as told
from scenario_repo._translation import BY_CODE
from scenario_repo.testing.time_travel import moving_columns
from tests.postgres.install import ROOT

SCHEMAS: Final = ROOT / "supabase" / "schemas"
_TABLE: Final = "public.scenario_notifications"

HOLDS: Final[Mapping[str, bool]] = {"pending": True, "sent": True, "failed": False}
"""Whether a plain insert of each status refuses a later claim."""
TRANSITIONS: Final = {("pending", "sent"), ("pending", "failed")}
"""The changes of status that are allowed."""
_NAMED_OTHERWISE: Final[Mapping[str, set[str]]] = {
    "scenario_private.hold": {"failed"},  # is_failed
    "scenario_private.is_readable_settlement": {"pending"},  # two of the results are called as statuses are
    "public.scenario_cancel_notifications": {"sent"},  # already settled, whatever it is
}
"""The statuses that a place leaves out and means."""
_HISTORY: Final = ("scenario_notifications_past_is_fixed", "scenario_notifications_outcome_is_fixed")
"""The triggers that fix columns: some for good, some once a notification is settled."""
_MOVING: Final = {"delivery_status", "metadata", "failure_code"}
"""The columns that may change at any time; each other one is fixed by a trigger."""
_INSIDE: Final = {"cooldown", "unsettled_at"}
"""The columns that ScenarioNotification leaves out: only the next claim asks for them."""
_LEFT_TO_THE_DEFAULT: Final = {"delivery_status", "failure_code", "settled_at", "held_until", "unsettled_at"}
"""The columns that a claim does not insert."""
_ON_THE_CALENDAR: Final[Mapping[str, tuple[str, ...]]] = {
    "public.scenario_days_off": ("first_day", "last_day"),
    "public.scenario_delivery_policy": ("opens_at", "closes_at"),
}
"""The times that are no moments: they do not move when time passes."""
_NO_HOLD_OF_ITS_OWN: Final = {"attempts_spent", "unnamed_failure"}
"""The failure codes that SQL writes and that hold as a sender's own code does."""
_ONLY_TOLD: Final = {"settled", "left", "not_found", "rule_failed", "sent", "not_now"}
"""What the lease calls a row that it neither hands out nor fails; it is written nowhere."""


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
        "the view scenario_private.hold (what does it hold, and until when?)": list(HOLDS),
        "the trigger scenario_notifications_settled_is_final (from where, and where to?)": sorted(
            {status for transition in TRANSITIONS for status in transition}
        ),
    }
    found = [f"{place} lacks {word}" for place, there in lists.items() for word in words if word not in there]
    return found + list(_named_in_part("delivery status", words, sources))


def columns(connection: psycopg.Connection) -> list[str]:
    """Name the places that lack a column of scenario_notifications."""
    rows = _columns_of(connection, _TABLE)
    fixed: set[str] = set()
    compared: set[str] = set()
    for trigger in _HISTORY:
        ((definition, watched),) = connection.execute(
            "select pg_get_triggerdef(oid), array("
            "  select attname::text from pg_attribute where attrelid = tgrelid and attnum = any (tgattr)"
            ") from pg_trigger where tgname = %s",
            [trigger],
        ).fetchall()
        fixed |= set(watched)
        compared |= set(re.findall(r"old\.([a-z_]+)", definition)) & set(re.findall(r"new\.([a-z_]+)", definition))
    lists: dict[str, set[str]] = {
        f"the triggers {' and '.join(_HISTORY)}": fixed | _MOVING,
        f"the comparisons of the triggers {' and '.join(_HISTORY)}": compared | _MOVING,
        "scenario_repo.ScenarioNotification": {*ScenarioNotification.model_fields} | _INSIDE,
        "the outcome of a claim in scenario_repo/_claims.py": _outcome_fields() | _INSIDE,
        **{
            f"scenario_private.claim_once ({way})": there | _LEFT_TO_THE_DEFAULT
            for way, there in _inserted_by_claims(connection).items()
        },
    }
    return [f"{place} lacks {name}" for place, there in lists.items() for name in rows if name not in there]


def times(connection: psycopg.Connection) -> list[str]:
    """Name the times of our tables that scenario_repo.testing.travel leaves where they are."""
    moving = moving_columns(connection)
    rows = connection.execute(
        """
        select format('%s.%s', class.relnamespace::regnamespace, class.relname), attname
        from pg_class as class
        join pg_attribute as attribute on attrelid = class.oid and attnum > 0 and not attisdropped
        join pg_type as type on type.oid = atttypid
        left join pg_type as element on element.oid = type.typelem
        where class.relkind in ('r', 'p')
          and relnamespace in ('public'::regnamespace, 'scenario_private'::regnamespace)
          and attgenerated = ''
          and (
            'D' in (type.typcategory, element.typcategory)
            or coalesce(element.typname, type.typname) ~ '^(date|ts|tstz)(multi)?range$'
          )
        order by class.relnamespace::regnamespace::text, class.relname, attnum
        """
    ).fetchall()
    return [
        f"scenario_repo.testing.travel leaves {name} of {table}"
        for table, name in rows
        if name not in moving.get(table, ()) and name not in _ON_THE_CALENDAR.get(table, ())
    ]


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
    """Name the findings, reasons, results, codes and answers that SQL has and Python lacks, or the other way round."""
    console = inspect.getsource(told)
    findings = {finding for name, text in sources.items() if name.startswith("rules/") for finding in findings_of(text)}
    findings |= set(re.findall(r"(?:then |, )'([a-z_]+)'(?:\n| as finding)", sources["14_explanation.sql"]))
    refusals = set(re.findall(r"(?:then|else) '([a-z_]+)'", sources["09_users.sql"]))
    verdicts = set(re.findall(r"(?:then|else) ''([a-z_]+)''", sources["12_evaluation.sql"]))
    findings |= refusals | verdicts - {"not_due", "held", "due"}
    away = set(re.findall(r"(?:then|else) '(user_[a-z_]+)'", sources["09_users.sql"]))
    # A reason is chosen in a case or given to all of a kind; what was lost is claimed again.
    reasons = away | set(re.findall(r"(?:then|else) '([a-z_]+)'", sources["10_claim.sql"])) - {"lost"}
    reasons |= set(re.findall(r"select lost\.place::bigint, '([a-z_]+)'", sources["10_claim.sql"]))
    reasons |= set(re.findall(r"array_fill\('([a-z_]+)'", sources["12_evaluation.sql"]))
    lease, settle = sources["16_asking_again.sql"] + sources["16_lease.sql"], sources["16_settlement.sql"]
    reasons |= set(re.findall(r"then '(not_now)'", lease))
    judged = settle.partition("judged as materialized")[2].partition("settled as")[0]
    answers = set(re.findall(r"(?:then|else) '([a-z_]+)'", judged)) | {"sent"}
    (results,) = re.findall(r"->> 'result' in \(([^)]*)\)", settle)
    held = set(_quoted(_function(sources["10_books.sql"], "hold_of_failure"))) - {"nothing", "cooldown"}
    given = refusals | set(re.findall(r"then '{1,2}([a-z_]+)'", lease)) - _NO_HOLD_OF_ITS_OWN - _ONLY_TOLD
    unheld = sorted(given - held)
    assert findings, "no finding was found in the rules"
    untold = sorted(word for word in findings if f'"{word}"' not in console)
    return [
        *(f"scenario_repo/_cli/findings.py has no words for {word}" for word in untold),
        *_compared(reasons, SkipReason),
        *_compared(answers, SettlementAnswer),
        *_compared(set(_quoted(results)), DeliveryResult),
        *_compared(held, FailureReason),
        *(f"scenario_private.hold_of_failure lacks {word}, with which a lease is refused" for word in unheld),
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
            named |= _NAMED_OTHERWISE.get(place, set())
            yield from (f"{place} names a {kind} of several, and lacks {word}" for word in words if word not in named)


def _columns_of(connection: psycopg.Connection, table: str) -> list[str]:
    """Read a table's columns; a generated one follows from the others."""
    rows = connection.execute(
        "select attname from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and attgenerated = '' and not attisdropped",
        [table],
    ).fetchall()
    return [name for (name,) in rows]


def _inserted_by_claims(connection: psycopg.Connection) -> dict[str, set[str]]:
    """Return the columns that a claim inserts: with care, and without."""
    row = connection.execute(
        "select prosrc from pg_proc where pronamespace = 'scenario_private'::regnamespace and proname = 'claim_once'"
    ).fetchone()
    assert row is not None, "there is no function claim_once"
    insert = r"(\w+) as \(\s*insert into public\.scenario_notifications[^(]*\(([^)]*)\)"
    found = {way: {name.strip() for name in names.split(",")} for way, names in re.findall(insert, row[0])}
    assert found.keys() == {"inserted", "inserted_with_care"}, f"claim_once inserts as {found.keys()}"
    return found


def _outcome_fields() -> set[str]:
    """Return the fields that an outcome of a granted claim gives to its notification."""
    source = inspect.getsource(_claims._outcomes)  # noqa: SLF001 - the one place
    assert ClaimOutcome.model_fields.keys() >= {"notification"}
    _, found, notification = source.partition('"notification": {')
    assert found, "no outcome has a notification"
    return set(re.findall(r'"([a-z_]+)": ', notification.partition("},")[0]))


def _function(source: str, name: str) -> str:
    """Return the body of a function."""
    body = re.search(rf"function scenario_private\.{name}\(.*?\$\$(.*?)\$\$", source, re.DOTALL)
    assert body is not None, f"there is no function {name}"
    return body[1]


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([a-z_]+)'", text)


def _compared(words: set[str], enum: type[StrEnum]) -> list[str]:
    """Name the words that SQL has and an enum lacks, and those that the enum has and SQL does not know."""
    assert words, f"no word of {enum.__name__} was found in SQL"
    lacking = [f"scenario_repo.{enum.__name__} lacks {word}" for word in sorted(words - set(enum))]
    return lacking + [
        f"scenario_repo.{enum.__name__} has {word}, which SQL lacks" for word in sorted(set(enum) - words)
    ]


def _name(file: Path) -> str:
    return str(file.relative_to(SCHEMAS)) if file.is_relative_to(SCHEMAS) else f"snippets/{file.name}"
