"""The database refuses personal data from any writer, and agrees with the library on every single value."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from random import Random
from time import perf_counter
from typing import Any
from uuid import UUID

import personal_data
import psycopg
import pytest
from psycopg.types.json import Jsonb

from scenario_repo import _personal_data
from scenario_repo._metadata import metadata_fault
from tests.integration.database import Database, claim, new_claim
from tests.privacy_vectors import (
    HOSTILE,
    MAKERS,
    MUST_PASS,
    MUST_REFUSE,
    disguised,
    grows_linearly,
    harmless,
    wrapped,
)
from tests.rows import insert_notification

CONSTRAINT = "scenario_notifications_metadata_holds_no_personal_data"
# Pieces that together come near every rule, and every exception to it.
_PIECES = [
    *("0", "1", "2", "9", "811228", "9874", "8112289874", "19811228", "15108695088", "151086", "95088", "90000001"),
    *("00", "07", "070", "174", "06", "05", "46", "47", "+46", "0046", "(0)", "19", "20", "13", "30"),
    *("000101", "690161"),
    *("-", "+", " ", "  ", ".", "/", "(", ")", ",", ":", "\n", "\\", '"', "_", "x", "T", "A", "é", "\u2013", "\u00a0"),
    *("@", "é@", "a@b.co", ".se", "xn--p1ai", "%40", "%2540", "%31", "%", "%7f", "%2B", "%25", "\u200b", "\u0336"),
    *("\u0660", "\u0661", "\uff18", "\u2460", "2026-09-29", "20260929", "12345678-1234-1234-1234-123456789012", "."),
    *("git@", "//git@", "a@2x", ".png", ".min", "@v1.", ":a/", "TEL", "tel:", "Tlf.nr. ", "phone="),
    *("mobil er ", "sms "),
    *("850060", "2399", "191500", "72", "88", "170070", "17912099997", "91234567", "\u2121", "\ufe6b", "\U0001ccf7"),
]
_KEYS = [
    *("a", "phone", "mobilNr", "x_tel_y", "telemetry", "SMS", "sub-cell", "iPhoneX", "90000001", "mobil nummer", "ü"),
    *("mob", "TFN"),
]
_NUMBERS = [
    *(191500722390, 201700702390, 17912099997, 811228987, 8112289874, 190112289, 15108695088, 1010100001, 90000001),
    *(90000001.0, 8112289874.0, 1e10, 0.5),
]


def _insertion(worker: psycopg.Connection, user: UUID, metadata: object) -> str | None:
    """Insert a row, and return the name of the constraint that refused it."""
    try:
        with worker.transaction(force_rollback=True):
            insert_notification(worker, user, metadata=Jsonb(metadata))
    except psycopg.errors.CheckViolation as refusal:
        return refusal.diag.constraint_name
    return None


def _verdicts(worker: psycopg.Connection, objects: Iterable[object]) -> list[tuple[bool, bool]]:
    """Ask the database of many objects at once: whether they hold personal data, and whether they are storable."""
    return worker.execute(
        """
        select scenario_private.holds_personal_data(value), scenario_private.is_storable_metadata(value)
        from (select text::jsonb, ordinal from unnest(%s::text[]) with ordinality as given (text, ordinal))
          as given (value, ordinal)
        order by ordinal
        """,
        [[json.dumps(value) for value in objects]],
    ).fetchall()


def _anything(random: Random, depth: int = 0) -> Any:  # noqa: ANN401
    """Make a value of pieces: some are personal data, many nearly."""
    match random.random():
        case chance if chance < 0.65 or depth > 3:
            return "".join(random.choice(_PIECES) for _ in range(random.randint(1, 7)))
        case chance if chance < 0.75:
            return random.choice([random.randrange(10 ** random.randint(1, 13)), -1, None, True, *_NUMBERS])
        case chance if chance < 0.88:
            return {_key(random): _anything(random, depth + 1) for _ in range(random.randint(0, 3))}
        case _:
            return [_anything(random, depth + 1) for _ in range(random.randint(0, 3))]


def _key(random: Random) -> str:
    if random.random() < 0.8:
        return random.choice(_KEYS)
    return "".join(random.choice(_PIECES) for _ in range(random.randint(1, 5)))


def test_the_constraint_refuses_what_it_must_and_nothing_else(worker: psycopg.Connection, database: Database) -> None:
    """The whole corpus, inserted row by row as another writer would."""
    (user,) = database.new_users(1)
    outcomes = {
        json.dumps(metadata): _insertion(worker, user, metadata)
        for metadata in [*(metadata for _, metadata in MUST_REFUSE), *MUST_PASS]
    }

    assert [text for text, refused in outcomes.items() if refused != CONSTRAINT] == [*map(json.dumps, MUST_PASS)]
    assert {outcomes[json.dumps(metadata)] for metadata in MUST_PASS} == {None}


def test_an_update_is_refused_as_an_insert_is(worker: psycopg.Connection, database: Database) -> None:
    """Nothing gets in by the back door: neither through an update nor an upsert of the row."""
    (user,) = database.new_users(1)
    row = insert_notification(worker, user)
    with database.connect(role=None) as owner:
        owner.execute("alter table public.scenario_notifications disable trigger user")
        with pytest.raises(psycopg.errors.CheckViolation, match=CONSTRAINT):
            owner.execute(
                "update public.scenario_notifications set metadata = %s where id = %s",
                [Jsonb({"note": "811228-9874"}), row["id"]],
            )


@pytest.mark.parametrize("seed", range(4))
def test_database_and_library_agree_on_everything(worker: psycopg.Connection, seed: int) -> None:
    """Thousands of values near the rules: refused by both or by neither, and the constraint's filter lets none by."""
    random = Random(seed)  # noqa: S311 - not a secret
    objects = [{_key(random): _anything(random) for _ in range(2)} for _ in range(2500)]
    objects += [{"value": harmless(random), "mobile": harmless(random)} for _ in range(500)]
    objects += [wrapped(random, disguised(random, make(random))) for make in MAKERS.values() for _ in range(500)]
    by_library = [metadata_fault(value) is not None for value in objects]
    by_database = _verdicts(worker, objects)

    assert 1500 < sum(by_library) < 3500
    differing = [value for value, a, b in zip(objects, by_library, by_database, strict=True) if (a, not a) != b]
    assert differing == []


def test_the_claim_and_the_constraint_ask_what_the_data_says(worker: psycopg.Connection) -> None:
    """The filter before the function is one text, generated for the claim and spelled out by the table."""
    row = worker.execute(
        """
        select pg_get_functiondef('scenario_private.is_storable_metadata'::regproc), pg_get_constraintdef(oid)
        from pg_constraint
        where conname = %s
        """,
        [CONSTRAINT],
    ).fetchone()
    assert row is not None
    claim_asks, constraint_asks = (re.findall(r"!~[^']*'(.*?)'", definition) for definition in row)

    assert claim_asks == constraint_asks == [personal_data.load()["patterns"]["worth_a_look"]]


def test_both_see_the_same_text_in_every_character(worker: psycopg.Connection) -> None:
    """All of Unicode but what no text can hold: NUL and the surrogates. Assigned or not, whatever the versions."""
    codes = [code for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    texts = ["1".join(map(chr, codes[start : start + 4096])) for start in range(0, len(codes), 4096)]
    rows = worker.execute(
        "select scenario_private.plain_text(text) from unnest(%s::text[]) with ordinality as given (text, ordinal)"
        " order by ordinal",
        [texts],
    ).fetchall()

    assert len(codes) == 0x110000 - 1 - 0x800
    assert [
        ascii(text[:9]) for text, (plain,) in zip(texts, rows, strict=True) if _personal_data.plain_text(text) != plain
    ] == []


def test_characters_in_a_text_are_told_as_alone(worker: psycopg.Connection) -> None:
    """Each character that becomes another, between digits: nothing depends on its neighbours, but for spaces and %."""
    characters = personal_data.characters(personal_data.load())
    rows = worker.execute(
        "select code, scenario_private.plain_text('8' || chr(code) || '1') from unnest(%s::integer[]) as code",
        [list(characters)],
    ).fetchall()

    assert [code for code, plain in rows if plain != f"8{characters[code]}1"] == []


def test_the_database_knows_the_lengths_that_the_library_knows(worker: psycopg.Connection) -> None:
    """Each calling code, and what is none, with each length."""
    numbers = [
        str(code) + "2" * (length - len(str(code)))
        for code in range(1, 1000)
        for length in range(5, 18)
        if length > len(str(code))
    ]
    rows = worker.execute(
        "select number, scenario_private.is_phone_number(number) from unnest(%s::text[]) as number", [numbers]
    ).fetchall()

    possible = {number for number, is_possible in rows if is_possible}
    assert len(possible) > 900
    assert possible == {number for number in numbers if _personal_data.in_text(f"+{number}") == _personal_data.PHONE}


def test_one_person_in_a_batch_loses_no_claim(worker: psycopg.Connection, database: Database) -> None:
    """The claim whose metadata is refused says so; the others are granted."""
    users = database.new_users(4)
    metadata = [{"days": 9}, {"note": "ola@example.com"}, None, {"phone": [90000001]}]
    outcomes = claim(worker, [new_claim(user, metadata=value) for user, value in zip(users, metadata, strict=True)])

    assert [outcome.get("skip_reason", "claimed") for outcome in outcomes] == [
        *("claimed", "invalid_metadata"),
        *("claimed", "invalid_metadata"),
    ]


def test_metadata_beyond_the_bounds_is_refused_for_its_size(worker: psycopg.Connection, database: Database) -> None:
    """Megabytes, whether flat or deep, cost no search for personal data."""
    (user,) = database.new_users(1)
    deep: Any = "811228-9874"
    for _ in range(500):
        deep = [deep]
    worker.execute("set statement_timeout = '5s'")
    for metadata in ({"a": "811228-9874 " * 100_000}, {"a": ["@"] * 10_000}, {"a": deep, "b": "x" * 9000}):
        assert _insertion(worker, user, metadata) == "scenario_notifications_metadata_is_at_most_8_kib"
    assert _insertion(worker, user, {"a": deep}) == CONSTRAINT


def test_hostile_texts_are_searched_in_linear_time(worker: psycopg.Connection) -> None:
    """Four times the text takes about four times as long, as value and as key; eight KiB a fraction of a second."""

    def seconds(text: str) -> float:
        metadata = [json.dumps({"phone": text}), json.dumps({text: 90000001})]
        started = perf_counter()
        worker.execute(
            "select scenario_private.personal_data_in_text(%s, true), scenario_private.names_a_phone(%s)", [text, text]
        )
        worker.execute(
            "select scenario_private.is_storable_metadata(text::jsonb) from unnest(%s::text[]) as text", [metadata]
        )
        return perf_counter() - started

    worker.execute("set statement_timeout = '1s'")
    assert [piece for piece in HOSTILE if not grows_linearly(seconds, piece)] == []
