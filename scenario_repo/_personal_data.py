"""What personal data looks like in a text or a number: pure functions, in linear time.

The database says the same in SQL (``supabase/schemas/04_personal_data.sql``). Patterns and tables of both are generated
from ``supabase/generators/personal_data.toml``. Neither side asks at run time what differs from one installation to the
next, such as a version of Unicode or of libphonenumber. The tests hold both to one corpus and to each other.

What can't be told from ordinary data is decided for the ordinary data, and this is the recall it costs:

* an undivided Swedish number with a date of 2013 to 2030 reads as a compact timestamp, and an undivided coordination
  number of those years without its century as epoch seconds;
* the leading zeros of a number are put back only where one zero was lost: not for those born in 2000, and in Norway
  not for an H-number;
* eight digits are a Norwegian phone number only where the key, or a word before them, says so;
* an address whose user is ``git`` passes in a remote (``git@host.tld:path/…``, ``//git@host.tld/…``), as does one whose
  last label is a file's suffix (``icon@2x.png``; no such top-level domain exists), or whose domain begins like a
  version (``@1.2.``, ``@v1.2-``);
* a character that stands for several counts as none of them (``⑩``, ``½``, ``㎏``), nor does a raised letter.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from scenario_repo import _personal_data_tables as tables

EMAIL: Final = "an e-mail address"
PHONE: Final = "a phone number"
PERSONNUMMER: Final = "a Swedish personnummer"
FODSELSNUMMER: Final = "a Norwegian fødselsnummer"

_PLAIN: Final = {
    code: text[(code - int(first, 16)) % len(text)] if text else ""
    for text, spans in tables.CHARACTERS.items()
    for first, _, last in (span.partition("-") for span in spans.split())
    for code in range(int(first, 16), int(last or first, 16) + 1)
}
_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_REPEATED_PERCENT: Final = re.compile(tables.REPEATED_PERCENT)
_ENCODED: Final = re.compile("%([2-7][0-9A-Fa-f])")
_SPACES: Final = re.compile(" {2,}")
_DIGITS: Final = re.compile("[0-9]+")
_UUID: Final = re.compile(tables.UUID)
_HUMP: Final = re.compile(tables.HUMP)
_GIT_REMOTE: Final = re.compile(tables.GIT_REMOTE)
_EMAIL: Final = re.compile(tables.EMAIL)
_ENOUGH_DIGITS: Final = re.compile(tables.ENOUGH_DIGITS)
_INTERNATIONAL_PHONE: Final = re.compile(tables.INTERNATIONAL_PHONE)
_SWEDISH_MOBILE: Final = re.compile(tables.SWEDISH_MOBILE)
_NATIONAL_PHONE: Final = re.compile(tables.NATIONAL_PHONE)
_NATIONAL_PHONE_AS_NUMBER: Final = re.compile(tables.NATIONAL_PHONE_AS_NUMBER)
_PHONE_KEY: Final = re.compile(tables.PHONE_KEY)
_PHONE_HINT: Final = re.compile(tables.PHONE_HINT)
_ANNOUNCED_PHONE: Final = re.compile(tables.ANNOUNCED_PHONE)
_ENOUGH_IDENTITY: Final = re.compile(tables.ENOUGH_IDENTITY)
_PERSONNUMMER: Final = re.compile(tables.PERSONNUMMER)
_FODSELSNUMMER: Final = re.compile(tables.FODSELSNUMMER)

_SHORTEST_PHONE, _LONGEST_PHONE = 8, 15
# The weights of a fødselsnummer's two check digits, each over the digits up to and with itself.
_FIRST_WEIGHTS: Final = (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)
_SECOND_WEIGHTS: Final = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)


def names_a_phone(key: str) -> bool:
    """Tell whether a key says that its value is a phone number: ``phone``, ``mobilNummer``, ``contact-tel``."""
    return _PHONE_KEY.search(_words(plain_text(key))) is not None


def in_text(text: str, *, of_phone: bool = False) -> str | None:
    """Name the kind of personal data in a text, or None; ``of_phone`` when the key says that it is a phone number."""
    plain = _UUID.sub("~", plain_text(text))
    if "@" in plain and _EMAIL.search(_GIT_REMOTE.sub("~", plain.translate(_LOWER))):
        return EMAIL
    if not _ENOUGH_DIGITS.search(plain):
        return None
    if _holds_a_phone(plain, of_phone=of_phone):
        return PHONE
    return _identity(plain) if _ENOUGH_IDENTITY.search(plain) else None


def in_number(number: int, *, of_phone: bool = False) -> str | None:
    """Name the kind of personal data that a whole JSON number is, or None; a lost leading zero is put back."""
    if number < 0:
        return None
    digits = str(number)
    if of_phone and _NATIONAL_PHONE_AS_NUMBER.search(digits):
        return PHONE
    born, serial = (f"0{digits}"[:6], digits[5:]) if len(digits) == 9 else (digits[:-4], digits[-4:])  # noqa: PLR2004
    match len(digits):
        case 9 | 10 | 12 if _PERSONNUMMER.fullmatch(born + serial) and _is_personnummer(born, "", serial):
            return PERSONNUMMER
        case 10 if "01" <= digits[1:3] <= "12" and _is_fodselsnummer(f"0{digits}"):
            return FODSELSNUMMER
        case 11 if _is_fodselsnummer(digits):
            return FODSELSNUMMER
        case _:
            return None


def plain_text(text: str) -> str:
    """Undo what makes the same text look otherwise to a machine: widths, scripts, invisible characters, encodings."""
    if not (text.isascii() and text.isprintable()):
        text = text.translate(_PLAIN)
    if "%" in text:
        text = _ENCODED.sub(lambda found: chr(int(found[1], 16)), _REPEATED_PERCENT.sub("%", text))
        text = text.replace("\x7f", "")
    return _SPACES.sub(" ", text)


def _words(plain: str) -> str:
    """Split camelCase, and write in lower case: of ASCII alone, as the database does."""
    return _HUMP.sub(r"\1 \2", plain).translate(_LOWER)


def _holds_a_phone(plain: str, *, of_phone: bool) -> bool:
    if ("+" in plain or "00" in plain) and any(
        _is_international(found[1] or found[2]) for found in _INTERNATIONAL_PHONE.finditer(plain)
    ):
        return True
    return (
        ("07" in plain and _SWEDISH_MOBILE.search(plain) is not None)
        or (of_phone and _NATIONAL_PHONE.search(plain) is not None)
        or (
            _PHONE_HINT.search(plain.translate(_LOWER)) is not None
            and _ANNOUNCED_PHONE.search(_words(plain)) is not None
        )
    )


def _identity(plain: str) -> str | None:
    if any(_is_personnummer(found[1], found[2] or "", found[3]) for found in _PERSONNUMMER.finditer(plain)):
        return PERSONNUMMER
    if any(_is_fodselsnummer(found[1] + found[2]) for found in _FODSELSNUMMER.finditer(plain)):
        return FODSELSNUMMER
    return None


def _is_international(number: str) -> bool:
    """Tell whether digits after a plus sign, up to the end of any of their groups, may be a phone number."""
    digits = ""
    for group in _DIGITS.findall(number.replace("(0)", " ")):
        digits += group
        if len(digits) > _LONGEST_PHONE:
            return False
        if len(digits) >= _SHORTEST_PHONE and any(len(digits) - size in lengths(digits[:size]) for size in (1, 2, 3)):
            return True
    return False


def lengths(calling_code: str) -> frozenset[int]:
    """Return how long the national numbers of a country calling code may be, as Google's libphonenumber knows."""
    return _lengths().get(calling_code, frozenset())


@cache
def _lengths() -> dict[str, frozenset[int]]:
    return {
        calling_code: frozenset(
            length
            for first, _, last in (span.partition("-") for span in spans.split())
            for length in range(int(first), int(last or first) + 1)
        )
        for spans, calling_codes in tables.PHONE_LENGTHS.items()
        for calling_code in calling_codes.split()
    }


def _is_personnummer(born: str, divider: str, serial: str) -> bool:
    century, year, month, day = born[:-6], int(born[-6:-4]), int(born[-4:-2]), int(born[-2:])
    # A coordination number's day is 60 later, and what is not known of its date is 00.
    is_coordinated = 0 <= month <= 12 and 60 <= day <= 91  # noqa: PLR2004
    # Undivided dates of 2013 to 2030 are compact timestamps. Of a coordination number's only ten bare digits may be
    # something else: epoch seconds.
    reads_as_time = divider.strip() == "" and 13 <= year <= 30 and century in {"", "20"}  # noqa: PLR2004
    if reads_as_time and (not is_coordinated or divider + century == ""):
        return False
    leap = year % 4 == 0 and (year > 0 or century in {"", "20"})
    return (is_coordinated or _is_date(month, day, leap=leap)) and _is_luhn(born[-6:] + serial)


def _is_luhn(digits: str) -> bool:
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(digits))
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0


def _is_date(month: int, day: int, *, leap: bool) -> bool:
    days = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return 1 <= month <= len(days) and 1 <= day <= days[month - 1]


def _is_fodselsnummer(number: str) -> bool:
    digits = [int(digit) for digit in number]
    for weights in (_FIRST_WEIGHTS, _SECOND_WEIGHTS):
        if sum(digit * weight for digit, weight in zip(digits, weights, strict=False)) % 11:
            return False
    day, month, year, serial = int(number[:2]), int(number[2:4]), int(number[4:6]), int(number[6:9])
    # Which centuries the serials stand for; without one, the number is nobody's.
    if not (serial < 500 or (serial < 750 and year >= 54) or year < 40 or serial >= 900):  # noqa: PLR2004
        return False
    # A D-number's day is 40 later, an H-number's month; the tax agency's synthetic persons' month is 80 later.
    day -= 40 if 4 <= digits[0] <= 7 else 0  # noqa: PLR2004
    return _is_date(month % 40, day, leap=year % 4 == 0 and (year > 0 or serial >= 500))  # noqa: PLR2004
