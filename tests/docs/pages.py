"""The documents' blocks of code: where each stands, its language, its name and its text."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (
    "README.md",
    "CONTRIBUTING.md",
    "BENCHMARKS.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "supabase/local/README.md",
    *sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("docs/**/*.md")),
)
_BLOCK: Final = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One fenced block; ``name`` is the second word after the fence, such as a file's name."""

    page: str
    line: int
    """The line of the fence."""
    language: str
    name: str
    text: str

    @property
    def place(self) -> str:
        """Say where it is."""
        return f"{self.page}:{self.line}"


def _blocks(page: str) -> Iterator[Block]:
    document = (ROOT / page).read_text(encoding="utf-8")
    for match in _BLOCK.finditer(document):
        language, _, name = match["info"].strip().partition(" ")
        line = document.count("\n", 0, match.start()) + 1
        yield Block(page, line, language, name.strip(), match["text"])


BLOCKS: Final = tuple(block for page in PAGES for block in _blocks(page))


def blocks(language: str, page: str | None = None) -> list[Block]:
    """Return the blocks of a language, of one page or of all, in order."""
    return [block for block in BLOCKS if block.language == language and page in {None, block.page}]


def named(page: str, name: str) -> Block:
    """Return the block of a page that has the name."""
    (block,) = (block for block in BLOCKS if (block.page, block.name) == (page, name))
    return block


def load(page: str, *names: str) -> types.ModuleType:
    """Run the named blocks of Python as the modules they are named after, in order; return the last.

    They are importable by the blocks after them; whoever calls this takes them out of ``sys.modules`` again.
    """
    for name in names:
        block = named(page, name)
        module = types.ModuleType(name.removesuffix(".py"))
        sys.modules[module.__name__] = module
        code = compile("\n" * block.line + block.text, str(ROOT / page), "exec")
        exec(code, module.__dict__)  # noqa: S102 - our own text
    return module
