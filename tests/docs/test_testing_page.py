"""The tests that docs/testing.md shows pass, with the plugin, in a folder of their own."""

# ruff: noqa: S603 (the command is ours)

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.docs.pages import ROOT, blocks, named

PAGE: Final = "docs/testing.md"


def _pytest(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    (settings,) = blocks("toml", PAGE)
    (folder / "pyproject.toml").write_text(settings.text, encoding="utf-8")
    (folder / name).write_text(named(PAGE, name).text, encoding="utf-8")
    # The plugin of this checkout, whichever is installed.
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "pytest_scenario_repo", "-p", "no:cacheprovider", "--quiet", name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CI": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


@pytest.mark.parametrize("name", ["test_wire.py", "test_due.py"])
def test_the_pages_tests_pass(name: str, tmp_path: Path) -> None:
    """Without a database, and on the local Supabase."""
    said = _pytest(tmp_path, name)
    assert said.returncode == 0, said.stdout
    assert "1 passed" in said.stdout
