"""Write the Python and the SQL of personal data from one file, tools/personal_data.toml.

    python tools/personal_data.py             # write both
    python tools/personal_data.py --check     # fail if they are not what would be written
    python tools/personal_data.py --refresh   # first read Unicode's and libphonenumber's tables into the data file

Only --refresh needs more than the standard library: phonenumberslite, and unicodedata2 for a Unicode newer than this
Python's. What Unicode has decided of a character never changes, so the data file only ever grows by new characters.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
DATA: Final = ROOT / "tools" / "personal_data.toml"
PYTHON: Final = ROOT / "scenario_repo" / "_personal_data_tables.py"
SQL: Final = ROOT / "supabase" / "schemas" / "04_personal_data.sql"

_WIDTH: Final = 118
_REFERENCE: Final = re.compile("<([a-z_]+)>")
_BLOCK: Final = re.compile(r"(?ms)^( *)-- begin generated: ([a-z_ ]+)\n.*?^ *-- end generated$")
_REFRESHED: Final = re.compile(r"(?ms)^# begin refreshed$.*^# end refreshed$")

Runs = list[tuple[int, int, str]]
"""First code point, last code point, and what they become: a letter for each, or one text for all."""


def load() -> dict[str, Any]:
    """Read the data file, with every pattern spelled out."""
    data = tomllib.loads(DATA.read_text(encoding="utf-8"))
    parts = data["patterns"] | {name: "|".join(words) for name, words in data["words"].items()}
    data["patterns"] = {name: _spelled_out(pattern, parts) for name, pattern in data["patterns"].items()}
    return data


def _spelled_out(pattern: str, parts: dict[str, str]) -> str:
    while _REFERENCE.search(pattern):
        pattern = _REFERENCE.sub(lambda found: parts[found[1]], pattern)
    return pattern


# What each character becomes.


def listed_characters(data: dict[str, Any]) -> dict[int, str]:
    """Return what the characters listed by hand become."""
    return {
        code: becomes
        for becomes, listed in data["characters"].items()
        for first, _, last in (span.partition("-") for span in listed.split())
        for code in range(int(first, 16), int(last or first, 16) + 1)
    }


def compatible_characters(data: dict[str, Any], unicode: Any = unicodedata) -> dict[int, str]:  # noqa: ANN401 - or unicodedata2
    """Ask a version of Unicode for every further character that is ASCII by compatibility, or a decimal digit."""
    listed = listed_characters(data)
    found = {}
    for code in range(0x80, sys.maxunicode + 1):
        digit = unicode.decimal(chr(code), None)
        becomes = str(digit) if digit is not None else unicode.normalize("NFKC", chr(code)).translate(listed)
        if code not in listed and not 0xD800 <= code <= 0xDFFF and becomes.isascii():  # noqa: PLR2004
            found[code] = becomes
    return found


def runs_of(characters: dict[int, str]) -> Runs:
    """Join neighbours: those that become one text, and those that become a letter each."""
    runs: Runs = []
    for code, becomes in sorted(characters.items()):
        first, last, whole = runs[-1] if runs else (0, -2, "")
        size = last - first + 1
        if code != last + 1 or len(becomes) > 1 or (len(whole) > 1 and len(whole) != size):
            runs.append((code, code, becomes))
        elif becomes == whole or (whole == becomes * size != ""):
            runs[-1] = (first, code, becomes)
        elif "" not in {becomes, whole} and len(whole) == size:
            runs[-1] = (first, code, whole + becomes)
        else:
            runs.append((code, code, becomes))
    return runs


def characters_of(runs: Iterable[tuple[int, int, str]]) -> dict[int, str]:
    """Undo runs_of."""
    return {
        code: whole[code - first] if len(whole) == last - first + 1 else whole
        for first, last, whole in runs
        for code in range(first, last + 1)
    }


def all_runs(data: dict[str, Any]) -> Runs:
    """Return everything that becomes something else, in order."""
    refreshed = [(*_span(span), becomes) for span, becomes in data["unicode"]["characters"]]
    return runs_of(listed_characters(data) | characters_of(refreshed))


def _span(span: str) -> tuple[int, int]:
    first, _, last = span.partition("-")
    return int(first, 16), int(last or first, 16)


def _hexadecimal(first: int, last: int) -> str:
    return f"{first:04x}" if first == last else f"{first:04x}-{last:04x}"


# How long phone numbers are.


def library_phone_lengths() -> dict[str, str]:
    """Ask the installed phonenumbers: lengths of national numbers → the calling codes that have them."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata  # noqa: PLC0415 - only to refresh

    codes: dict[str, list[int]] = {}
    for code, regions in sorted(COUNTRY_CODE_TO_REGION_CODE.items()):
        metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, regions[0])
        possible = sorted(metadata.general_desc.possible_length) if metadata else []
        if possible:
            codes.setdefault(_spans(possible), []).append(code)
    return {
        spans: " ".join(map(str, of_them))
        for spans, of_them in sorted(codes.items(), key=lambda item: [int(n) for n in re.findall("[0-9]+", item[0])])
    }


def _spans(numbers: list[int]) -> str:
    """Write 6, 7, 8, 10 as "6-8 10"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] + 1 == number:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return " ".join("-".join(map(str, span)) for span in spans)


# What is written.


def python_module(data: dict[str, Any]) -> str:
    """Return the text of the generated Python module."""
    blocks = [
        '"""What personal data looks like: written by tools/personal_data.py from tools/personal_data.toml."""\n',
        "# ruff: noqa: E501, RUF001, S105 (written by a machine)\n",
        "from typing import Final\n",
    ]
    blocks += [f"{name.upper()}: Final = {_literal(pattern)}" for name, pattern in data["patterns"].items()]
    blocks.append(
        "\n# First code point, last code point, and what they become: a letter for each, or one text for all."
    )
    runs = [f"(0x{first:x}, 0x{last:x}, {_literal(whole)})" for first, last, whole in all_runs(data)]
    blocks += ["CHARACTERS: Final = (", *_filled(runs, "    "), ")"]
    blocks.append("\n# How long the national numbers of calling codes may be.")
    lengths = "".join(f"    {_literal(spans)}: {_literal(codes)},\n" for spans, codes in data["phone_lengths"].items())
    blocks.append(f"PHONE_LENGTHS: Final = {{\n{lengths}}}\n")
    return "\n".join(blocks)


def _literal(text: str) -> str:
    if '"' in text or text.endswith("\\"):
        return repr(text)
    return f'r"{text}"' if "\\" in text else f'"{text}"'


def sql_file(data: dict[str, Any], text: str) -> str:
    """Return the text of the SQL file, with what is generated in it."""
    blocks: dict[str, Iterable[str]] = {
        "characters": _sql_characters(data),
        "phone lengths": _sql_phone_lengths(data),
        **{name: _sql_pattern(pattern) for name, pattern in data["patterns"].items()},
    }

    def block(found: re.Match[str]) -> str:
        indent, name = found[1], found[2]
        kind, _, names = name.partition(" ")
        lines = _sql_constants(data, names.split()) if kind == "constants" else blocks[name]
        body = "".join(f"{indent}{line}\n" for line in lines)
        return f"{indent}-- begin generated: {name}\n{body}{indent}-- end generated"

    return _BLOCK.sub(block, text)


def _sql_constants(data: dict[str, Any], names: list[str]) -> Iterator[str]:
    for name in names:
        first, *rest = _sql_pattern(data["patterns"][name])
        if rest:
            yield f"{name} constant text :="
            yield from (f"  {line}" for line in [first, *rest[:-1]])
            yield f"  {rest[-1]};"
        else:
            yield f"{name} constant text := {first};"


def _sql_pattern(pattern: str) -> list[str]:
    """Split a pattern into adjacent literals, preferably before an opening parenthesis."""
    lines, line = [], ""
    for piece in re.findall(r"\\?[^(|]+|\|[^(|]*|\([^(|]*", pattern):
        if line and len(line) + len(piece) > _WIDTH - 12:
            lines.append(line)
            line = ""
        line += piece
    assert "".join([*lines, line]) == pattern  # noqa: S101 - no letter is lost
    return ["'" + part.replace("'", "''") + "'" for part in [*lines, line]]


def _sql_characters(data: dict[str, Any]) -> Iterator[str]:
    runs = all_runs(data)
    for name, type_, values in (
        ("firsts", "integer", [str(first) for first, _, _ in runs]),
        ("lasts", "integer", [str(last) for _, last, _ in runs]),
        ("become", "text", [json.dumps(whole).replace("'", "''") for _, _, whole in runs]),
    ):
        yield f"{name} constant {type_}[] := '{{"
        yield from _filled(values, "  ", _WIDTH - 4)
        yield f"}}'::{type_}[];"


def _sql_phone_lengths(data: dict[str, Any]) -> Iterator[str]:
    lines = []
    for spans, codes in data["phone_lengths"].items():
        counts = [f"[0-9]{{{span.replace('-', ',')}}}" for span in spans.split()]
        lines.append(f"({'| '.join(codes.split())})({'|'.join(counts)})|")
    yield "possible constant text := '(?x)^("
    for line in [*lines[:-1], lines[-1].removesuffix("|")]:
        yield from textwrap.wrap(line, _WIDTH - 6, initial_indent="  ", subsequent_indent="    ")
    yield ")$';"


def _filled(items: Iterable[str], indent: str, width: int = _WIDTH) -> list[str]:
    """Fill lines with a list's items, never breaking one."""
    lines, line = [], indent
    for item in items:
        if len(line) + len(item) > width and line.strip():
            lines.append(f"{line},")
            line = indent
        line += f", {item}" if line.strip() else item
    return [*lines, line]


def refreshed(text: str, data: dict[str, Any]) -> str:
    """Return the data file's text with the tables of the newest Unicode and phonenumbers at hand."""
    import phonenumbers  # noqa: PLC0415 - only to refresh

    try:
        import unicodedata2 as unicode  # noqa: PLC0415 - only to refresh
    except ImportError:
        unicode = unicodedata
    runs = runs_of(compatible_characters(data, unicode))
    # A TOML file's basic strings are JSON's, for ASCII.
    entries = [f'["{_hexadecimal(first, last)}", {json.dumps(whole)}]' for first, last, whole in runs]
    lines = [
        "# begin refreshed",
        "[unicode]",
        f'version = "{unicode.unidata_version}"',
        "# Characters that are ASCII by compatibility, and decimal digits: a letter for each, or one text for all.",
        "characters = [",
        *_filled(entries, "  "),
        "]",
        "",
        "# How long national numbers may be, and the calling codes whose numbers are.",
        f"# phonenumberslite {phonenumbers.__version__}",
        "[phone_lengths]",
        *(f'"{spans}" = "{codes}"' for spans, codes in library_phone_lengths().items()),
        "# end refreshed",
    ]
    return _REFRESHED.sub(lambda _: "\n".join(lines), text)


def main() -> int:
    """Write, or check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    parser.add_argument(
        "--refresh", action="store_true", help="first read Unicode and libphonenumber into the data file"
    )
    arguments = parser.parse_args()
    if arguments.refresh:
        DATA.write_text(refreshed(DATA.read_text(encoding="utf-8"), load()), encoding="utf-8")
    data = load()
    stale = 0
    for file, wanted in (
        (PYTHON, python_module(data)),
        (SQL, sql_file(data, SQL.read_text(encoding="utf-8"))),
    ):
        if file.exists() and file.read_text(encoding="utf-8") == wanted:
            continue
        stale += 1
        if arguments.check:
            print(f"{file.relative_to(ROOT)} is not what {DATA.relative_to(ROOT)} says: run `make generate`")
        else:
            file.write_text(wanted, encoding="utf-8")
            print(f"wrote {file.relative_to(ROOT)}")
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
