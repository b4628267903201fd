"""Every block of the documents is checked by its language; one that nothing checks fails."""

# ruff: noqa: S603 (the commands are ours)

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import yaml

from scenario_repo._postgrest import FUNCTIONS
from tests.docs.command_lines import parse
from tests.docs.pages import BLOCKS, PAGES, ROOT, Block, blocks
from tests.docs.typescript import TSC

DRAWINGS: Final = {"CONTRIBUTING.md"}
"""Where a block without a language is a drawing."""
OF_THEIR_OWN_TESTS: Final = {
    "docs/own-tables.md": "tests/integration/test_own_tables.py",
    "docs/command-line.md": "tests/docs/test_site.py",
    "docs/testing.md": "tests/http/test_pytest_plugin.py",
}
"""Pages whose SQL and texts a test of their own takes from the page."""
RUN_AND_UNTYPED: Final = {"docs/testing.md"}
"""Pages of plain tests without types, which their own test runs."""
DIRECTIVES: Final = {"{toctree}", "{include}", "{figure}", "{image}"}
"""Sphinx's: building the site checks them."""
FRAMEWORKS_WITHOUT_TYPES: Final = (
    "--allow-subclassing-any",
    "--allow-untyped-decorators",
    "--disable-error-code=import-untyped",
)
"""Celery's and Django's: mypy takes what they give as Any."""
EDGE_RUNTIME: Final = """
declare namespace Deno {
  const env: { get(name: string): string | undefined };
  function serve(handler: (request: Request) => Response | Promise<Response>): void;
}
declare module "npm:@supabase/supabase-js@2" {
  type Answer = { data: any; error: { code: string; message: string } | null };
  export function createClient(
    url: string, key: string, options?: object,
  ): { rpc(name: string, parameters: object): PromiseLike<Answer> };
}
"""
"""What an Edge Function finds: as much of it as the documents use."""

SH = blocks("sh")
_INSTRUCTIONS: Final = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "CMD", "ENTRYPOINT", "ARG"}


def _ids(block: Block) -> str:
    return block.place


# One way for each language -----------------------------------------------


def _shell(block: Block) -> None:
    said = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)  # noqa: S607
    assert said.stderr == ""
    for command in command_lines(block.text):
        parse(command)


def _json(block: Block) -> None:
    json.loads(block.text)


def _toml(block: Block) -> None:
    tomllib.loads(block.text)


def _yaml(block: Block) -> None:
    assert yaml.safe_load(block.text)


def _ini(block: Block) -> None:
    """Read a systemd unit: sections with settings, of which some may come twice."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string(block.text)
    assert parser.sections()
    for section in parser.values():
        for name, value in section.items():
            if name == "execstart":
                parse(shlex.split(value)[1:])


def _dockerfile(block: Block) -> None:
    """Known instructions, the first of them FROM; what runs is a list, so that signals arrive."""
    lines = [line for line in block.text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    instructions = [line.split()[0] for line in lines]
    assert instructions[0] == "FROM"
    assert set(instructions) <= _INSTRUCTIONS
    (command,) = [line.partition(" ")[2] for line in lines if line.startswith("CMD ")]
    program, *arguments = json.loads(command)
    assert program == "scenario-repo"
    parse(arguments)


def _crontab(block: Block) -> None:
    """Read settings, and lines of five fields and a command."""
    for line in block.text.splitlines():
        if line and not line.startswith("#") and not re.match(r"[A-Z_]+=", line):
            fields = line.split(maxsplit=5)
            assert all(re.fullmatch(r"[\d*/,-]+", field) for field in fields[:5])
            assert fields[5:]
    for command in command_lines(block.text):
        parse(command)


def _drawing(block: Block) -> None:
    assert block.page in DRAWINGS, "a block needs its language"


def _elsewhere(block: Block) -> None:
    """Leave it to a test of its page, which takes it by its name, or to test_sql.py."""
    if block.page in OF_THEIR_OWN_TESTS:
        assert (ROOT / OF_THEIR_OWN_TESTS[block.page]).is_file()
    else:
        assert block.language == "sql", "a text needs a test that compares it"


def _together(block: Block) -> None:
    """Leave it to the tests below, which take all of them at once."""
    assert block in (*blocks("python"), *blocks("ts"))


CHECKS: Final[dict[str, Callable[[Block], None]]] = {
    "": _drawing,
    "crontab": _crontab,
    "dockerfile": _dockerfile,
    "ini": _ini,
    "json": _json,
    "python": _together,
    "sh": _shell,
    "sql": _elsewhere,
    "text": _elsewhere,
    "toml": _toml,
    "ts": _together,
    "yaml": _yaml,
}


def command_lines(text: str) -> list[list[str]]:
    """Return the arguments of each ``scenario-repo`` in a shell's text."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set("();<>|&"):
                if "scenario-repo" in command:
                    found.append(command[command.index("scenario-repo") + 1 :])
                command = []
            else:
                command.append(word)
    return found


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language not in DIRECTIVES], ids=_ids)
def test_every_block_is_checked(block: Block) -> None:
    """Whatever a document shows is at least read by what reads its language."""
    assert block.language in CHECKS, f"{block.place}: nothing checks {block.language!r}"
    CHECKS[block.language](block)


def test_no_fence_is_missed() -> None:
    """Each fence of each document opens or closes a block that was found."""
    fences = sum(len(re.findall(r"^ *```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)) for page in PAGES)
    assert fences == 2 * len(BLOCKS)


# All of a language at once -----------------------------------------------


def test_python_passes_strict_type_checks(tmp_path: Path) -> None:
    """Each block stands for itself, or is a file that the page's other blocks import."""
    folders: dict[str, Path] = {}
    for block in (one for one in blocks("python") if one.page not in RUN_AND_UNTYPED):
        folder = folders.setdefault(block.page, tmp_path / re.sub(r"\W", "_", block.page))
        folder.mkdir(exist_ok=True)
        name = block.name or f"{folder.name}_{block.line}.py"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n" * block.line + block.text, encoding="utf-8")
    said = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"),
         "--cache-dir", str(ROOT / ".cache" / "mypy-of-documents"), "--no-error-summary",
         *FRAMEWORKS_WITHOUT_TYPES, "."],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, [ROOT, *folders.values()]))},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert said.stdout + said.stderr == ""


def test_typescript_passes_strict_type_checks(tmp_path: Path) -> None:
    """An Edge Function fits what the Edge Runtime and supabase-js have."""
    (tmp_path / "runtime.d.ts").write_text(EDGE_RUNTIME, encoding="utf-8")
    files = []
    for number, block in enumerate(blocks("ts")):
        files.append(tmp_path / f"block_{number}.ts")
        files[-1].write_text("\n" * block.line + block.text, encoding="utf-8")
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler",
               "--lib", "es2022,dom,dom.iterable", "--noUnusedLocals"]  # fmt: skip
    said = subprocess.run(
        [*TSC, *options, "runtime.d.ts", *map(str, files)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout + said.stderr == ""


def test_typescript_calls_functions_that_exist() -> None:
    """By their names, with arguments that they have."""
    call = re.compile(r'"(scenario_\w+)", \{(.*?)\}\)', re.DOTALL)
    calls = [found for block in blocks("ts") for found in call.findall(block.text)]
    assert calls
    for function, arguments in calls:
        assert set(re.findall(r"\b(p_\w+)", arguments)) <= {*FUNCTIONS[function], "p_needs_schema"}
