"""Write the Python and the SQL of personal data from one file, personal_data.toml.

    python supabase/generators/personal_data.py             # write both
    python supabase/generators/personal_data.py --check     # fail if they are not what would be written
    python supabase/generators/personal_data.py --refresh   # first read phonenumberslite's table into the data file

Only --refresh needs more than the standard library: phonenumberslite.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = ROOT / "supabase" / "generators" / "personal_data.toml"
PYTHON: Final = ROOT / "scenario_repo" / "_personal_data_tables.py"
SQL: Final = ROOT / "supabase" / "schemas" / "04_personal_data.sql"

_WIDTH: Final = 118
_REFERENCE: Final = re.compile("<([a-z_]+)>")
_BLOCK: Final = re.compile(r"(?ms)^( *)-- begin generated: ([a-z_ ]+)\n.*?^ *-- end generated$")
_REFRESHED: Final = re.compile(r"(?ms)^# begin refreshed$.*^# end refreshed$")


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


def runs(data: dict[str, Any]) -> list[tuple[int, int, str]]:
    """Return first code point, last code point and text of every span of characters, in order."""
    found = sorted(
        (int(first, 16), int(last or first, 16), text)
        for text, spans in data["characters"].items()
        for first, _, last in (span.partition("-") for span in spans.split())
    )
    if any(last >= first for (_, last, _), (first, _, _) in pairwise(found)):
        raise ValueError("expected every character once, got spans that overlap")
    return found


def characters(data: dict[str, Any]) -> dict[int, str]:
    """Return what each character becomes: the letter of the text whose turn it is, or nothing."""
    return {
        code: text[(code - first) % len(text)] if text else ""
        for first, last, text in runs(data)
        for code in range(first, last + 1)
    }


# How long phone numbers are.


def library_phone_lengths() -> dict[str, str]:
    """Ask the installed phonenumbers: lengths of national numbers → the calling codes that have them."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata  # noqa: PLC0415 - only to refresh

    codes: dict[str, list[int]] = {}
    for code, regions in sorted(COUNTRY_CODE_TO_REGION_CODE.items()):
        metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, regions[0])
        numbers = metadata and metadata.general_desc
        possible = sorted(numbers.possible_length) if numbers else []
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
        '"""What personal data looks like: written by supabase/generators/personal_data.py."""\n',
        "# ruff: noqa: E501 (written by a machine)\n",
        "from typing import Final\n",
    ]
    blocks += [f"{name.upper()}: Final = {_literal(pattern)}" for name, pattern in data["patterns"].items()]
    blocks.append("\n# What characters become: each span's characters the text's letters in turn, again and again.")
    spans = "".join(_python_item(text, " ".join(listed.split())) for text, listed in data["characters"].items())
    blocks.append(f"CHARACTERS: Final = {{\n{spans}}}")
    blocks.append("\n# How long the national numbers of calling codes may be.")
    lengths = "".join(_python_item(spans, codes) for spans, codes in data["phone_lengths"].items())
    blocks.append(f"PHONE_LENGTHS: Final = {{\n{lengths}}}\n")
    return "\n".join(blocks)


def _python_item(key: str, spans: str) -> str:
    """Write one item of a dictionary, its value in as many lines as it needs."""
    lines = textwrap.wrap(spans, _WIDTH - 12, break_on_hyphens=False, break_long_words=False)
    if len(lines) == 1:
        return f'    {_literal(key)}: "{spans}",\n'
    written = "".join(f'        "{line} "\n' for line in lines[:-1]) + f'        "{lines[-1]}"\n'
    return f"    {_literal(key)}: (\n{written}    ),\n"


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
        lines = _sql_pattern(data["patterns"][name])
        start = f"{name} constant text :="
        if len(start) + len(lines[0]) < _WIDTH - 4 and len(lines) == 1:
            yield f"{start} {lines[0]};"
        else:
            yield start
            yield from (f"  {line}" for line in lines[:-1])
            yield f"  {lines[-1]};"


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
    found = runs(data)
    texts = list(data["characters"])
    for name, type_, values in (
        ("texts", "text", [_in_array(text) for text in texts]),
        ("firsts", "integer", [str(first) for first, _, _ in found]),
        ("lasts", "integer", [str(last) for _, last, _ in found]),
        ("becomes", "integer", [str(1 + texts.index(text)) for _, _, text in found]),
    ):
        yield f"{name} constant {type_}[] := '{{"
        yield from _filled(values, "  ", _WIDTH - 4)
        yield f"}}'::{type_}[];"


def _in_array(text: str) -> str:
    """Write an element of an array inside a literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("'", "''")
    return f'"{escaped}"'


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


def refreshed(text: str) -> str:
    """Return the data file's text with the phone numbers' lengths that the installed phonenumberslite knows."""
    import phonenumbers  # noqa: PLC0415 - only to refresh

    lines = [
        "# begin refreshed",
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
    parser.add_argument("--refresh", action="store_true", help="first read phonenumberslite's table into the data file")
    arguments = parser.parse_args()
    if arguments.refresh:
        DATA.write_text(refreshed(DATA.read_text(encoding="utf-8")), encoding="utf-8")
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
