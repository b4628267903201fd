"""Personal data is refused before it leaves the process; ids, times and counts are not mistaken for it."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from importlib.metadata import requires
from importlib.resources import files
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any

import personal_data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import luhn
from stdnum.exceptions import ValidationError
from stdnum.no import fodselsnummer as stdnum_fodselsnummer

from scenario_repo import InvalidDataException, _personal_data
from scenario_repo._limits import MAX_METADATA_BYTES
from scenario_repo._metadata import metadata_fault
from tests.factories import new_notification
from tests.privacy_vectors import (
    HOSTILE,
    KINDS,
    MAKERS,
    MUST_PASS,
    MUST_REFUSE,
    disguised,
    fodselsnummer,
    grows_linearly,
    harmless,
    personnummer,
    wrapped,
)
from tests.unit.leaks import told_by

randoms = st.integers(0, 2**64).map(Random)
DATA = personal_data.load()
many = settings(max_examples=300, deadline=None)
EXPECTED = "expected no personal data, got "


def test_the_corpus_is_large_and_says_nothing_twice() -> None:
    """No vector is listed twice."""
    vectors = [json.dumps(metadata) for metadata in [*(metadata for _, metadata in MUST_REFUSE), *MUST_PASS]]

    assert len(vectors) == len(set(vectors)) >= 500
    assert {kind for kind, _ in MUST_REFUSE} == set(KINDS.values())


@pytest.mark.parametrize(("kind", "metadata"), MUST_REFUSE, ids=[json.dumps(metadata) for _, metadata in MUST_REFUSE])
def test_personal_data_is_refused_by_its_kind(kind: str, metadata: dict[str, Any]) -> None:
    """The message names the kind of personal data and its path."""
    fault = metadata_fault(metadata)

    assert fault is not None
    assert fault.startswith(f"{EXPECTED}{kind} at $.")


@pytest.mark.parametrize("metadata", MUST_PASS, ids=json.dumps)
def test_ordinary_metadata_passes(metadata: dict[str, Any]) -> None:
    """Data that only resembles personal data passes."""
    assert metadata_fault(metadata) is None


@pytest.mark.parametrize("kind", MAKERS)
@many
@given(random=randoms)
def test_personal_data_is_refused_however_it_is_written(kind: str, random: Random) -> None:
    """Dividers, scripts, invisible characters, sentences, keys and nesting hide nothing."""
    metadata = wrapped(random, disguised(random, MAKERS[kind](random)))
    fault = metadata_fault(metadata)

    assert fault is not None, json.dumps(metadata)
    assert fault.startswith(EXPECTED)


@many
@given(random=randoms)
def test_ids_times_counts_and_prices_are_never_refused(random: Random) -> None:
    """No generated ordinary value is taken for personal data."""
    metadata = {"value": harmless(random), "values": [harmless(random) for _ in range(5)]}

    assert metadata_fault(metadata) is None, json.dumps(metadata)


@settings(max_examples=300, deadline=None)
@given(st.uuids(), st.datetimes(timezones=st.timezones()), st.integers(0, 10**8 - 1))
def test_any_uuid_any_instant_and_any_smaller_integer_pass(uuid: object, instant: Any, count: int) -> None:  # noqa: ANN401
    """Over the whole of their types, not only where they are likely."""
    assert metadata_fault({"id": str(uuid), "at": instant.isoformat(), "n": count, "s": str(count)}) is None


@pytest.mark.parametrize(("length", "bound"), [(9, 0.012), (10, 0.012), (11, 0.003), (12, 0.003)])
def test_longer_integers_are_seldom_mistaken(length: int, bound: float) -> None:
    """A random integer as long as an identity number passes, but for the few that are one by chance."""
    random = Random(length)  # noqa: S311 - not a secret
    numbers = [random.randrange(10 ** (length - 1), 10**length) for _ in range(20_000)]
    refused = sum(metadata_fault({"n": number}) is not None for number in numbers)

    assert refused / len(numbers) < bound


@many
@given(random=randoms)
def test_an_identity_number_is_refused_as_a_json_number(random: Random) -> None:
    """As an integer, and as a float without a fraction."""
    digits = "".join(filter(str.isdigit, personnummer(random)))
    reads_as_time = len(digits) == 10 and "13" <= digits[:2] <= "30"
    if digits.startswith("00") or reads_as_time:
        return

    for value in (int(digits), float(digits)):
        assert metadata_fault({"a": [0, value]}) == f"{EXPECTED}a Swedish personnummer at $.a[1]"


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"a": {"b": [0, {"c_d": "811228-9874"}]}}, "$.a.b[1].c_d"),
        ({"a": 1, "811228-9874": "x"}, "$.<key 1>"),
        ({"a": {"811228-9874": "x"}}, "$.a.<key 0>"),
        ({"n1": {"x": ["811228-9874"]}}, "$.<key 0>.x[0]"),
    ],
)
def test_the_message_tells_the_path_and_never_the_value(metadata: dict[str, Any], path: str) -> None:
    """A key that is personal data is named by its position, as its text must not be shown."""
    with pytest.raises(InvalidDataException) as refusal:
        new_notification(metadata=metadata)

    assert str(refusal.value) == f"NewScenarioNotification.metadata: {EXPECTED}a Swedish personnummer at {path}"
    assert "9874" not in told_by(refusal.value)


@many
@given(random=randoms, kind=st.sampled_from(sorted(MAKERS)))
def test_no_message_holds_any_part_of_what_was_refused(random: Random, kind: str) -> None:
    """Neither the text nor the digits in it."""
    text = MAKERS[kind](random)
    fault = metadata_fault({"a": [f"x {text}"], text: 1}) or ""

    assert text not in fault
    assert fault.removeprefix(EXPECTED).split(" at ")[1] in {"$.a[0]", "$.<key 1>"}


@pytest.mark.parametrize(
    "key",
    [
        *(
            "phone",
            "Phone",
            "PHONE",
            "user_phone",
            "userPhone",
            "phone-number",
            "phoneNumber",
            "phone2",
            "contact.phone",
        ),
        *("telefon", "telefonNummer", "telephone", "mobil", "mobilnr", "mobile", "cellphone", "mobiltelefon"),
        *("tel", "tlf", "tlfnr", "sms", "SMSNumber", "msisdn", "cell", "whatsapp", "work whatsapp"),
    ],
)
def test_a_key_may_say_phone(key: str) -> None:
    """As a word in the key, however its words are joined."""
    assert metadata_fault({key: {"x": [90000001]}}) == f"{EXPECTED}a phone number at {_path(key)}.x[0]"


def _path(key: str) -> str:
    return f"$.{key}" if key.replace("_", "a").isalpha() else "$.<key 0>"


@pytest.mark.parametrize("key", ["telemetry", "xphone", "iphone", "cancelled", "hotel", "smsc", "stellar", "mobility"])
def test_a_key_that_only_contains_such_letters_says_nothing(key: str) -> None:
    """Eight digits under an ordinary key are a count."""
    assert metadata_fault({key: 90000001, "phone": None}) is None


def test_oversized_metadata_is_refused_for_its_size() -> None:
    """Limits are checked first: input that is too large is not searched."""
    metadata = {"a": "811228-9874", "b": "x" * MAX_METADATA_BYTES}

    assert metadata_fault(metadata) == f"expected at most {MAX_METADATA_BYTES} bytes of JSON"


@pytest.mark.parametrize("piece", HOSTILE, ids=ascii)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    """Eight KiB of anything are searched in milliseconds, as a text, and as the key that may say phone."""
    text = (piece * MAX_METADATA_BYTES)[: (MAX_METADATA_BYTES - 20) // max(len(piece[-1].encode()), 1)]
    for metadata in ({"phone": text}, {text: 90000001}):
        started = perf_counter()
        metadata_fault(metadata)
        assert perf_counter() - started < 0.5


@pytest.mark.parametrize("piece", HOSTILE, ids=ascii)
def test_four_times_the_text_takes_about_four_times_as_long(piece: str) -> None:
    """A quadratic search would take sixteen times as long."""

    def seconds(text: str) -> float:
        started = process_time()
        _personal_data.in_text(text, of_phone=True)
        _personal_data.names_a_phone(text)
        return process_time() - started

    assert grows_linearly(seconds, piece)


def test_what_is_generated_is_what_the_data_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's tables and the patterns in the SQL are written by ``make generate``, and by nothing else."""
    monkeypatch.setattr(sys, "argv", ["personal_data.py", "--check"])

    assert personal_data.main() == 0, capsys.readouterr().out


def test_a_change_by_hand_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One word in either file, and nothing is written over it."""
    for name in ("PYTHON", "SQL"):
        changed = getattr(personal_data, name).read_text(encoding="utf-8").replace("whatsapp", "telegram")
        (tmp_path / name).write_text(changed, encoding="utf-8")
        monkeypatch.setattr(personal_data, name, tmp_path / name)
    monkeypatch.setattr(personal_data, "ROOT", tmp_path)
    monkeypatch.setattr(personal_data, "DATA", tmp_path / "data.toml")
    monkeypatch.setattr(personal_data, "load", lambda: DATA)
    monkeypatch.setattr(sys, "argv", ["personal_data.py", "--check"])

    assert personal_data.main() == 1
    assert capsys.readouterr().out.count("make generate") == 2
    assert "telegram" in (tmp_path / "SQL").read_text(encoding="utf-8")


def test_the_library_asks_nothing_at_run_time_that_the_database_cannot() -> None:
    """No version of a dependency can make the two disagree: neither of these is one."""
    run_time = " ".join(requires("scenario_repo") or [])

    assert "phonenumbers" not in run_time
    assert "stdnum" not in run_time


def test_every_digit_and_every_letter_in_another_font_is_known() -> None:
    """What this Python's Unicode takes for one; what it does not know yet may be known all the same."""
    known = personal_data.characters(DATA)
    wanted = {code: becomes for code in range(0x80, sys.maxunicode + 1) if (becomes := _by_unicode(chr(code)))}

    assert len(wanted) > 1600
    assert {hex(code): becomes for code, becomes in wanted.items() if known.get(code) != becomes} == {}


def _by_unicode(character: str) -> str | None:
    """Return the digit, the letter, the space or the mark of a number or an address that a character stands for."""
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    alone = unicodedata.normalize("NFKC", character)
    is_raised = unicodedata.decomposition(character).startswith(("<super>", "<sub>", "<compat>"))
    if len(alone) == 1 and alone.isascii() and (alone in " -+./():%@" or (alone.isalpha() and not is_raised)):
        return alone
    return None


def test_every_character_is_plain_or_becomes_something() -> None:
    """The pattern that spares a text the look at each character holds none that becomes another."""
    plain = re.compile(DATA["patterns"]["not_plain"])

    assert [hex(code) for code in personal_data.characters(DATA) if not plain.match(chr(code)) and code != 0x7F] == []


def test_the_lengths_of_phone_numbers_are_the_newest_known() -> None:
    """A newer phonenumberslite that knows better: ``personal_data.py --refresh``."""
    assert personal_data.library_phone_lengths() == DATA["phone_lengths"]


def test_a_file_suffix_is_no_top_level_domain() -> None:
    """No address ends in one: IANA's list, as hypothesis carries it."""
    domains = files("hypothesis.vendor").joinpath("tlds-alpha-by-domain.txt").read_text().lower().split("\n")
    suffixes = "|".join(DATA["words"]["file_suffixes"])

    assert len(domains) > 1000
    assert [domain for domain in domains if re.fullmatch(suffixes, domain)] == []


@settings(max_examples=2000, deadline=None)
@given(randoms)
def test_identity_numbers_are_what_stdnum_takes_for_some(random: Random) -> None:
    """The digits' checks, apart from dates that only the registers give: no later than today, or not known."""
    number = "".join(filter(str.isdigit, fodselsnummer(random)))
    if random.random() < 0.5:
        place = random.randrange(11)
        number = number[:place] + str(random.randrange(10)) + number[place + 1 :]
    digits = "".join(random.choice("0123456789") for _ in range(10))

    # Synthetic persons' months are 80 later: stdnum knows none.
    is_date = _has_a_birth_date(f"{number[:2]}{int(number[2:4]) % 80:02}{number[4:]}")
    checked = stdnum_fodselsnummer.calc_check_digit1(number) + stdnum_fodselsnummer.calc_check_digit2(number)
    assert (_personal_data.in_text(number) == _personal_data.FODSELSNUMMER) == (number[9:] == checked and is_date)
    assert (_personal_data.in_text(f"8112{digits[:2]}-{digits[2:6]}") is not None) == (
        luhn.is_valid(f"8112{digits[:6]}") and (1 <= int(digits[:2]) <= 31 or 60 <= int(digits[:2]) <= 91)
    )


def _has_a_birth_date(number: str) -> bool:
    try:
        stdnum_fodselsnummer.get_birth_date(number)
    except ValidationError:
        return False
    return True
