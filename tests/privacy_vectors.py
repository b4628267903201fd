"""What must be refused as personal data and what must pass: one corpus, and makers of any number of such texts.

Every number is made up: artificial dates and serials with true check digits, or published for testing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID

KINDS: Final = {
    "email": "an e-mail address",
    "personnummer": "a Swedish personnummer",
    "fodselsnummer": "a Norwegian fødselsnummer",
    "phone": "a phone number",
}
_CORPUS = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
MUST_REFUSE: Final[list[tuple[str, dict[str, Any]]]] = [
    (KINDS[vector["kind"]], vector["metadata"]) for vector in _CORPUS["must_refuse"]
]
MUST_PASS: Final[list[dict[str, Any]]] = [vector["metadata"] for vector in _CORPUS["must_pass"]]

_ODD_SPACES = ["\u00a0", "\u2009", "\u202f", "\u3000"]
_ODD_DASHES = ["\u2010", "\u2011", "\u2013", "\u2212", "\uff0d"]
_INVISIBLE = ["\u200b", "\u200d", "\u2060", "\u00ad", "\ufeff", "\u202e", "\ufe0f"]
_ZEROS = [0x0660, 0x06F0, 0x0966, 0x09E6, 0x0E50, 0xFF10, 0x1D7CE, 0x1D7F6]
_WORDS = ["note", "ring", "Førerkort", "ok", "id", "för", "mentor", "日本"]
_NAMES = ["ola", "kari.nordmann", "jørn", "o-hara", "用户", "anna+mentor", "x_1"]
_DOMAINS = ["example.com", "example.no", "blåbær.example", "mail.example.co.uk", "xn--blbr-roah.no", "例え.テスト"]
# How national numbers look with their calling code; 9 is any digit.
_PHONES = [
    "+46 7{} 999 99 99",
    "+46 (0)7{}-999 99 99",
    "+467{}9999999",
    "00467{}9999999",
    "07{}-999 99 99",
    "07{}9999999",
    "+47 9{}9 99 999",
    "+479{}99 9999",
    "0047 4{} 99 99 99",
    "(+47) 22 9{} 99 99",
    "+45 2{} 99 99 99",
    "+44 20 7{}9 9999",
    "+1 (202) 55{}-9999",
    "tel:4{}999999",
    "tlf. 4{}9 99 999",
    "Mobil: 4{} 99 99 99",
    "sms:8{}999999",
    "phone=5{}999999",
]


# Beginnings of what the patterns look for, of which a text of thousands must be searched in linear time.
HOSTILE: Final = [
    *("1 ", "1-", "12345 ", "123456 1234 ", "123456-1234-", "070 ", "07012345 ", "00 46 ", "0046 7 ", "+1 "),
    *("+1-", "+46 70 "),
    *("07-(0", "07-(00", "00(1", "00", "0046 70-(0", "+4 6-", "(0)", "+(", "0(", "0)(", "1-.(", "4 6", "46"),
    *("19", "811228-"),
    *("a@", "a@a", "a@a.", "a@a.1", "@a.b", "a.", "xn--", "@xn--", "a@0.0.", "a@v1.2", "a@a.png", "a@a.min."),
    *("a@a-", "a@%"),
    *("git@", "git@a", "git@a.b:", "git@a:b", "//git@", "//git@a", "é", "é@", "a@é", "a@é.é"),
    *("%25", "%", "%4", "%2", "%40", "%2525", "-", " ", ".", "aA", "A1", "9", "0", "12345678-", "12345678-1234-"),
    *("1.", "1:"),
    *("tel ", "tel:", "tlf.nr. ", "phone", "phone ", "mobil 9", "tel 2026-", "sms 1-", "wa.me/", "mms"),
    *("telefonnummer er ", "\u260e", "\u260e "),
    *("\u200b", "\u0660", "\u2212", "\ufdfa", "\u2474", "\u2026", "20260929", "20.09.2026", "\\", '"'),
]


def personnummer(random: Random) -> str:
    """Make a personnummer or a coordination number, its date known or not, as it may be written."""
    coordinated = random.random() < 0.3
    long, divider = random.random() < 0.5, random.choice(["", "-", "-", "+", " ", " - "])
    # Undivided numbers of 2013 to 2030 are known to pass; so is 13 to 30 of any century when it is not written.
    first, last = (date(1900, 1, 1), date(1999, 12, 31)) if long else (date(1931, 1, 1), date(2012, 12, 31))
    born = first + timedelta(days=random.randrange((last - first).days + 1))
    written = f"{born:%Y%m}" if long else f"{born:%y%m}"
    unknown = coordinated and random.random() < 0.3
    written = written[:-2] + "00" if unknown and random.random() < 0.5 else written
    written += f"{(0 if unknown and random.random() < 0.5 else born.day) + 60 * coordinated:02}"
    serial = f"{random.randrange(1, 1000):03}"
    total = sum(sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(written[-6:] + serial))
    return written + divider + serial + str(-total % 10)


def fodselsnummer(random: Random) -> str:
    """Make a fødselsnummer, D-number, H-number or both, or a synthetic person's, as it may be written."""
    while True:
        born = date(1940, 1, 1) + timedelta(days=random.randrange(30_000))
        serials = range(500) if born.year < 2000 else range(500, 1000)
        digits = f"{born.day + random.choice([0, 0, 40]):02}{born.month + random.choice([0, 0, 0, 40, 80]):02}{born:%y}"
        digits += f"{random.choice(serials):03}"
        for weights in ((3, 7, 6, 1, 8, 9, 4, 5, 2), (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)):
            digits += str(-sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False)) % 11)
        if len(digits) == 11:  # a check digit of 10 does not exist
            return digits[:6] + random.choice(["", "", " ", "-", " - "]) + digits[6:]


def email(random: Random) -> str:
    """Make an e-mail address."""
    at = random.choice(["@", "@", "@", "%40", "%2540", "\uff20"])
    return f"{random.choice(_NAMES)}{at}{random.choice(_DOMAINS)}"


def phone(random: Random) -> str:
    """Make an international phone number, that of a Swedish mobile, or a Norwegian one that says what it is."""
    shape = random.choice(_PHONES).format(random.choice("0236"))
    return "".join(str(random.randrange(10)) if character == "9" else character for character in shape)


MAKERS: Final = {"email": email, "personnummer": personnummer, "fodselsnummer": fodselsnummer, "phone": phone}


def disguised(random: Random, text: str) -> str:
    """Write a text so that it looks the same, and is not the same to a machine."""
    zero = random.choice([48, 48, 48, *_ZEROS])
    text = text.translate({48 + digit: zero + digit for digit in range(10)}) if "%" not in text else text
    if random.random() < 0.3:
        text = text.replace("-", random.choice(_ODD_DASHES)).replace(" ", random.choice(_ODD_SPACES))
    if random.random() < 0.3:
        place = random.randrange(len(text) + 1)
        text = text[:place] + random.choice(_INVISIBLE) + text[place:] if "%" not in text else text
    return text


def wrapped(random: Random, text: str) -> dict[str, Any]:
    """Put a text somewhere into metadata: bare or in a sentence, as a value or a key, at some depth."""
    before = random.choice(["", "", f"{random.choice(_WORDS)}: ", "(", '"', "x, ", "/ ", "_"])
    after = random.choice(["", "", ".", ", " + random.choice(_WORDS), ")", '"', "\n", " /"])
    inner: Any = before + text + after
    if random.random() < 0.2:
        inner = {inner: random.choice([None, 1, True, "x"])}
    for _ in range(random.randrange(4)):
        inner = [1, inner] if random.random() < 0.5 else {random.choice(_WORDS): inner, "n": 2}
    return inner if isinstance(inner, dict) else {"note": inner}


def harmless(random: Random) -> object:
    """Make what is in metadata for good reasons: ids, times in any format, counts, prices, versions, links."""
    seconds = random.randrange(1_420_070_400, 1_924_988_400)  # the years 2015 to 2030
    moment = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=random.randrange(1_000_000))
    uuid = str(UUID(int=random.getrandbits(128)))
    digits = "".join(random.choice("0123456789") for _ in range(32))
    offset = f"{random.choice('+-')}{random.randrange(15):02}{random.choice(['', ':'])}{random.choice(['00', '30'])}"
    version = f"{random.randrange(30)}.{random.randrange(30)}.{random.randrange(200)}"
    price = random.randrange(10_000_000)
    makers = [
        uuid,
        uuid.upper(),
        f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}",
        f"{random.getrandbits(256):064x}",
        moment.isoformat(),
        moment.isoformat().replace("+00:00", "Z"),
        moment.isoformat(sep=random.choice("T "), timespec=random.choice(["seconds", "milliseconds"])),
        moment.replace(tzinfo=None).isoformat() + offset,
        f"{moment:%Y-%m-%d %H:%M:%S} {offset}",
        f"{moment:%Y%m%dT%H%M%S}{offset.replace(':', '')}",
        f"{moment:%Y%m%dT%H%M%SZ}",
        f"{moment:%Y%m%d%H%M%S}",
        f"{moment:%Y%m%d%H%M}",
        f"{moment:%Y%m%d}",
        f"{moment:%y%m%d%H%M}",
        f"{moment:%d.%m.%Y %H:%M}",
        str(seconds),
        seconds,
        seconds * 1000 + random.randrange(1000),
        seconds * 1_000_000 + random.randrange(1_000_000),
        seconds + random.random(),
        random.randrange(100_000_000),
        -random.randrange(10**12),
        f"{price / 100:.2f}",
        f"{price / 100:,.2f}",
        f"{price / 100:,.2f} kr".replace(",", " ").replace(".", ","),
        version,
        f"{version}+{moment:%Y%m%d%H%M%S}",
        f"package@{version}",
        f"@scope/package@v{version}-rc.next",
        f"icon-{random.randrange(9)}@{random.choice(['2x', '3x', '1.5x'])}.{random.choice(['png', 'webp', 'min.svg'])}",
        f"git@git.example.com:team/repository-{random.randrange(10_000_000_000)}.git",
        f"sms {moment:%Y-%m-%d %H:%M}",
        f"telemetry {random.randrange(10_000_000, 100_000_000)}",
        f"CERT-{moment.year}-{random.randrange(1_000_000):06}",
        f"https://example.com/{uuid}?page={random.randrange(100)}",
        f"{random.uniform(-90, 90):.10f}, {random.uniform(-180, 180):.10f}",
        ".".join(str(random.randrange(256)) for _ in range(4)),
        random.choice(_WORDS),
    ]
    return random.choice(makers)


def grows_linearly(seconds: Callable[[str], float], piece: str) -> bool:
    """Tell whether eight KiB of a piece take at most eight times as long as two: linear is four, quadratic sixteen.

    Whatever comes last: a letter or a dash there makes a number of everything before it, or of nothing. Asked again
    where the answer is no: neighbours can make one measurement longer, and not each of twenty.
    """

    def is_linear(end: str) -> bool:
        small, large = (_cut(piece * size, size) + end for size in (2000, 8000))
        return any(
            min(seconds(large) for _ in range(3)) <= 8 * max(min(seconds(small) for _ in range(3)), 1e-5)
            for _ in range(20)
        )

    return all(is_linear(end) for end in ("", "x", "-"))


def _cut(text: str, size: int) -> str:
    """Return as much of a text as takes so many bytes."""
    return text.encode()[:size].decode(errors="ignore")
