"""What personal data looks like in a text or a number: pure functions, in linear time.

The database says the same in SQL (``scenario_private.personal_data_in_text`` and its neighbours): a change here
needs a migration there, and the tests hold both to one corpus and to each other.

What can't be told from ordinary data is decided for the ordinary data, and this is the recall it costs:

* an undivided Swedish number with a date of 2013 to 2030 reads as a compact timestamp or as epoch seconds;
* the leading zeros of a number are put back only where one zero was lost: not for those born in 2000;
* eight digits are a Norwegian phone number only where the key says so.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final

from stdnum import luhn
from stdnum.exceptions import ValidationError
from stdnum.no import fodselsnummer

EMAIL: Final = "an e-mail address"
PHONE: Final = "a phone number"
PERSONNUMMER: Final = "a Swedish personnummer"
FODSELSNUMMER: Final = "a Norwegian fødselsnummer"

# The zeros of Unicode's decimal digits that compatibility normalisation leaves alone, and what looks like nothing,
# like a dash, like a space, like a dot: as text, because the migration holds the same lists.
DIGIT_ZEROS: Final = (
    "0660 06f0 07c0 0966 09e6 0a66 0ae6 0b66 0be6 0c66 0ce6 0d66 0de6 0e50 0ed0 0f20 1040 1090 17e0 1810 1946 19d0 "
    "1a80 1a90 1b50 1bb0 1c40 1c50 a620 a8d0 a900 a9d0 a9f0 aa50 abf0 104a0 10d30 11066 110f0 11136 111d0 112f0 "
    "11450 114d0 11650 116c0 11730 118e0 11950 11c50 11d50 11da0 11f50 16a60 16ac0 16b50 1e140 1e2f0 1e4f0 1e950"
)
IGNORABLE: Final = (
    "0001-0008 000e-001f 007f-0084 0086-009f 00ad 0300-036f 061c 115f-1160 17b4-17b5 180b-180f 200b-200f 202a-202e "
    "2060-206f 20d0-20ff 3164 fe00-fe0f feff ffa0 fff0-fffb 1bca0-1bca3 1d173-1d17a e0000-e0fff"
)
DASHES: Final = "058a 05be 1400 1806 2010-2015 2043 2212 2e17 2e1a 2e3a-2e3b 2e40 2e5d 301c 3030 30a0 10ead"
SPACES: Final = "0009-000d 0085 1680 2028-2029 2800"
DOTS: Final = "00b7 2022 2027 3002 30fb"


def _characters(listed: str) -> list[int]:
    bounds = ([int(bound, 16) for bound in span.split("-")] for span in listed.split())
    return [code for span in bounds for code in range(span[0], span[-1] + 1)]


_PLAIN: Final[dict[int, str | None]] = {
    **dict.fromkeys(_characters(DASHES), "-"),
    **dict.fromkeys(_characters(SPACES), " "),
    **dict.fromkeys(_characters(DOTS), "."),
    **dict.fromkeys(_characters(IGNORABLE)),
    **{zero + digit: str(digit) for zero in _characters(DIGIT_ZEROS) for digit in range(10)},
    0x2044: "/",
    0x2215: "/",
    0x2795: "+",
}
_REPEATED_PERCENT: Final = re.compile(r"%(?:25)+(?=[0-9A-Fa-f]{2})")
_ENCODED: Final = re.compile(r"%([2-7][0-9A-Fa-f])")
_SPACES: Final = re.compile(" {2,}")
_UUID: Final = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])")

# Where a number begins and ends: not inside a word, a UUID, a decimal fraction, a time of day.
_LEFT: Final = r"(?<![0-9A-Za-z-])(?<![0-9][.:])"
_RIGHT: Final = r"(?![0-9A-Za-z+-])"
_GAP: Final = r"[-. /()]{0,3}"
_DATE: Final = (
    r"(?:(?:19|20)[0-9]{2}[-./ ]?(?:0[1-9]|1[0-2])[-./ ]?(?:0[1-9]|[12][0-9]|3[01])(?![0-9])"
    r"|(?:0[1-9]|[12][0-9]|3[01])[-./ ](?:0[1-9]|1[0-2])[-./ ](?:19|20)[0-9]{2}(?![0-9]))"
)
_EMAIL: Final = re.compile(
    r"[^ @/(<\[{,;:=|]@(?![0-9]+\.[0-9]+\.)(?:(?:[0-9A-Za-z_%-]|[^\x01-\x7f])+\.)+"
    r"(?:[Xx][Nn]--[0-9A-Za-z-]+|(?:[A-Za-z]|[^\x01-\x7f]){2,})(?![0-9A-Za-z])"
)
_INTERNATIONAL: Final = re.compile(
    rf"(?<![0-9A-Za-z])\+[ (]{{0,2}}([1-9](?:{_GAP}[0-9]){{7,}})|{_LEFT}00{_GAP}([1-9](?:{_GAP}[0-9]){{7,}}){_RIGHT}"
)
_SWEDISH_MOBILE: Final = re.compile(rf"{_LEFT}07[02369](?:{_GAP}[0-9]){{7}}{_RIGHT}")
_NATIONAL: Final = re.compile(
    rf"{_LEFT}(?!{_DATE})"
    rf"(?:[2-9](?:{_GAP}[0-9]){{7}}|0[1-9](?:{_GAP}[0-9]){{6,8}}|4[67](?:{_GAP}[0-9]){{7,9}}){_RIGHT}"
)
_NATIONAL_NUMBER: Final = re.compile(rf"(?!{_DATE})(?:[1-9][0-9]{{7,8}}|4[67][0-9]{{8,9}})")
_PERSONNUMMER: Final = re.compile(rf"{_LEFT}((?:1[89]|20)?[0-9]{{6}})( ?[-+] ?| )?([0-9]{{4}}){_RIGHT}")
_FODSELSNUMMER: Final = re.compile(rf"{_LEFT}([0-9]{{6}})(?: ?- ?| )?([0-9]{{5}}){_RIGHT}")
_DIGITS: Final = re.compile("[0-9]+")

_HUMP: Final = re.compile("([a-z0-9])([A-Z])")
_PHONE_WORD: Final = re.compile(
    r"(?<![a-z])(?:(?:cell|mobile?|tele)?phones?|(?:mobil)?telefon|mobile?|tel|tlf|sms|msisdn|cell|whatsapp)"
    r"(?:number|nummer|num|nr|no)?(?![a-z])"
)
_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_SHORTEST_PHONE, _LONGEST_PHONE = 8, 15


def names_a_phone(key: str) -> bool:
    """Tell whether a key says that its value is a phone number: ``phone``, ``mobilNummer``, ``contact-tel``."""
    return _PHONE_WORD.search(_HUMP.sub(r"\1 \2", plain_text(key)).translate(_LOWER)) is not None


def in_text(text: str, *, of_phone: bool = False) -> str | None:
    """Name the kind of personal data in a text, or None; ``of_phone`` when the key says that it is a phone number."""
    plain = _UUID.sub("~", plain_text(text))
    if "@" in plain and _EMAIL.search(plain):
        return EMAIL
    if not _DIGITS.search(plain):
        return None
    if (
        any(_is_international(found[1] or found[2]) for found in _INTERNATIONAL.finditer(plain))
        or _SWEDISH_MOBILE.search(plain)
        or (of_phone and _NATIONAL.search(plain))
    ):
        return PHONE
    if any(_is_personnummer(found[1], found[2] or "", found[3]) for found in _PERSONNUMMER.finditer(plain)):
        return PERSONNUMMER
    if any(_is_fodselsnummer(found[1] + found[2]) for found in _FODSELSNUMMER.finditer(plain)):
        return FODSELSNUMMER
    return None


def in_number(number: int, *, of_phone: bool = False) -> str | None:
    """Name the kind of personal data that a whole JSON number is, or None; a lost leading zero is put back."""
    if number < 0:
        return None
    digits = str(number)
    if of_phone and _NATIONAL_NUMBER.fullmatch(digits):
        return PHONE
    born, serial = (f"0{digits}"[:6], digits[5:]) if len(digits) == 9 else (digits[:-4], digits[-4:])  # noqa: PLR2004
    match len(digits):
        case 9 | 10 | 12 if _PERSONNUMMER.fullmatch(born + serial) and _is_personnummer(born, "", serial):
            return PERSONNUMMER
        case 10 if "01" <= digits[1:3] <= "12" and _is_fodselsnummer(f"0{digits}"):
            return FODSELSNUMMER
        case 11 if digits.isdigit() and _is_fodselsnummer(digits):
            return FODSELSNUMMER
        case _:
            return None


def plain_text(text: str) -> str:
    """Undo what makes the same text look otherwise to a machine: widths, scripts, invisible characters, encodings."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if not (text.isascii() and text.isprintable()):
        text = text.translate(_PLAIN)
    if "%" in text:
        text = _ENCODED.sub(lambda found: chr(int(found[1], 16)), _REPEATED_PERCENT.sub("%", text))
        text = text.replace("\x7f", "")
    return _SPACES.sub(" ", text)


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


@cache
def lengths(calling_code: str) -> frozenset[int]:
    """Return how long the national numbers of a country calling code may be, as Google's libphonenumber knows."""
    # Imported late: it is large, and few texts have a plus sign.
    from phonenumbers import PhoneMetadata, region_code_for_country_code  # noqa: PLC0415

    region = region_code_for_country_code(int(calling_code))
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), region)
    description = metadata.general_desc if metadata else None
    return frozenset(description.possible_length if description else ())


def _is_personnummer(born: str, divider: str, serial: str) -> bool:
    century, year, month, day = born[:-6], int(born[-6:-4]), int(born[-4:-2]), int(born[-2:])
    if divider.strip() == "" and 13 <= year <= 30 and century in {"", "20"}:  # noqa: PLR2004
        return False
    leap = year % 4 == 0 and (year > 0 or century in {"", "20"})
    # A coordination number's day is 60 later.
    return _is_date(month, day - 60 if day > 60 else day, leap=leap) and luhn.is_valid(born[-6:] + serial)  # noqa: PLR2004


def _is_date(month: int, day: int, *, leap: bool) -> bool:
    days = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return 1 <= month <= len(days) and 1 <= day <= days[month - 1]


def _is_fodselsnummer(number: str) -> bool:
    # Not stdnum's validate: it refuses dates after today, and a CHECK can't know today.
    if number[9:] != fodselsnummer.calc_check_digit1(number) + fodselsnummer.calc_check_digit2(number):
        return False
    try:
        fodselsnummer.get_birth_date(number)
    except ValidationError:
        return False
    return True
