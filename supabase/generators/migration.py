"""Write the migration of the release under way from supabase/schemas, or check that it is written.

    python supabase/generators/migration.py [--check]

supabase/schemas is what one reads and edits; a migration is what a project applies. 0.1.0 has one, the baseline: the
schema files, in the order of config.toml's schema_paths. Once CHANGELOG.md gives 0.1.0 a date, its file is never
written again. The next release has a migration of its own, written by hand; a test compares the sum of the migrations
with the schemas.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path
from typing import Final

SUPABASE: Final = Path(__file__).resolve().parents[1]
BASELINE: Final = SUPABASE / "migrations" / "20261125100000_scenario_repo_0_1_0.sql"
_HEADER: Final = """\
-- scenario_repo 0.1.0: the whole schema.
--
-- Generated from supabase/schemas by `make generate`: edit there, not here. Can run twice.
"""


def schema_files() -> list[Path]:
    """Return the schema files in the order in which they depend on each other: that of config.toml."""
    settings = tomllib.loads((SUPABASE / "config.toml").read_text())
    patterns: list[str] = settings["db"]["migrations"]["schema_paths"]
    return [file for pattern in patterns for file in sorted(SUPABASE.glob(pattern.removeprefix("./")))]


def is_released() -> bool:
    """Tell whether 0.1.0 is released: whether the changelog gives its date."""
    return (
        re.search(r"^## \[0\.1\.0\] - \d{4}", (SUPABASE.parent / "CHANGELOG.md").read_text(), re.MULTILINE) is not None
    )


def baseline() -> str:
    """Put the schema files together."""
    parts = [_HEADER]
    for file in schema_files():
        name = f"supabase/{file.relative_to(SUPABASE)}"
        parts.append(f"-- {name} {'=' * (116 - len(name))}\n\n{file.read_text()}")
    return "\n".join(parts)


def main() -> int:
    """Write the file, or say whether it is the one that would be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the file is not up to date")
    options = parser.parse_args()
    if is_released():
        print(f"{BASELINE.name} is released: write the next release's migration by hand")
        return 0
    text = baseline()
    if not options.check:
        BASELINE.write_text(text)
    elif not BASELINE.exists() or BASELINE.read_text() != text:
        print(f"{BASELINE.name} is not what supabase/schemas says: run `make generate`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
