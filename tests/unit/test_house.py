"""The tests' own house: what is named exists, and what is shared is shared from one place."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = ROOT / "tests"
MODULES: Final = sorted(TESTS.rglob("*.py"))
WITH_A_DATABASE: Final = sorted([*TESTS.glob("http/*.py"), *TESTS.glob("integration/*.py")])
WRITE_THEIR_OWN_ROWS: Final = {"guide.py", "test_adoption.py", "test_own_tables.py", "test_source_misfits.py"}
"""They write into an app's own tables, some of which have the names of ours."""


def test_security_names_only_tests_that_exist() -> None:
    """Every promise of SECURITY.md leads to a test, and every row of its table names one."""
    table = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| **")]
    assert table
    for line in table:
        tested_in = line.rsplit("|", 2)[1]
        named = re.findall(r"`([^`]+)`", tested_in)
        assert named or tested_in.strip() == "the same", line
        assert [path for path in named if not (ROOT / path).is_file()] == []


def test_security_names_only_files_that_exist() -> None:
    """Nor does the text around the table name a test or a list that is gone."""
    named = set(re.findall(r"`((?:supabase/)?tests/[^`]+)`", (ROOT / "SECURITY.md").read_text()))
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(TESTS)))
def test_no_module_imports_a_test_module(module: Path) -> None:
    """What tests share is in a module of its own, imported from ``tests.…``."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "an import names its module from the root"
            imported |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    in_tests = {name for name in imported if name.startswith("tests.")}
    assert {name for name in in_tests if re.search(r"\.(test_|conftest)\w*$", name)} == set()


def test_every_folder_of_tests_is_a_package() -> None:
    """Two files of one name are two modules: importing one can't stand in for the other."""
    folders = {module.parent for module in MODULES}
    assert {str(folder) for folder in folders if not (folder / "__init__.py").is_file()} == set()


@pytest.mark.parametrize("module", WITH_A_DATABASE, ids=lambda module: module.stem)
def test_rows_are_built_in_one_place(module: Path) -> None:
    """A suite with a database writes no INSERT into these tables by hand: a new column would have to be put there."""
    by_hand = re.findall(
        r"insert\s+into\s+(?:public\.)?"
        r"(scenario_notifications|peer_mentors|activities|certifications|device_tokens)\b",
        module.read_text(),
        re.IGNORECASE,
    )
    assert bool(by_hand) is (module.name in WRITE_THEIR_OWN_ROWS), by_hand
