"""The site is built without a warning, is complete, and asks nothing of another host."""

# ruff: noqa: S603 (the command is ours)

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from tests.docs.pages import ROOT

DOCS: Final = ROOT / "docs"
THEME: Final = "https://github.com/pradyunsg/furo"


def _build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    return subprocess.run([*command, str(source), str(target)], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it."""
    target = tmp_path_factory.mktemp("site")
    built = _build(DOCS, target)
    assert (built.stderr, built.returncode) == ("", 0)
    return target


def test_every_page_is_in_the_navigation(site: Path) -> None:
    """From the first page one gets to each."""
    first = (site / "index.html").read_text(encoding="utf-8")
    pages = {str(page.relative_to(DOCS).with_suffix(".html")) for page in DOCS.glob("**/*.md")} - {"index.html"}
    assert {page for page in pages if f'href="{page}"' not in first} == set()


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    """No font, no script, no style, no image; links are no requests."""
    loaded = re.compile(r"""<(?:script|img|link|iframe)[^>]*?\b(?:src|href)=["'](?:https?:)?//[^"']*""")
    for page in site.glob("**/*.html"):
        assert loaded.findall(page.read_text(encoding="utf-8")) == [], page.name
    for style in site.glob("**/*.css"):
        assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")) == [], (
            style.name
        )


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    """To a page, or to a heading."""
    for file in DOCS.glob("conf.py"):
        text = file.read_text(encoding="utf-8").replace("Path(__file__).parents[1]", f"Path({str(ROOT)!r})")
        (tmp_path / "conf.py").write_text(text, encoding="utf-8")
    (tmp_path / "index.md").write_text("# One\n\n[a](nowhere.md) [b](#no-such-heading)\n", encoding="utf-8")
    built = _build(tmp_path, tmp_path / "built")
    assert built.returncode == 1
    assert "nowhere.md" in built.stderr
    assert "no-such-heading" in built.stderr


@pytest.mark.parametrize("drawing", sorted(DOCS.glob("*.svg")), ids=lambda file: file.name)
def test_a_drawing_stands_for_itself(drawing: Path) -> None:
    """It is well-formed, has a title, and nothing in it lies outside."""
    root = ET.fromstring(drawing.read_text(encoding="utf-8"))  # noqa: S314 - our own
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title") is not None
    *_, width, height = map(float, root.attrib["viewBox"].split())
    for text in root.iter(f"{space}text"):
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 <= float(text.attrib["y"]) <= height
    assert "href" not in drawing.read_text(encoding="utf-8")


def test_figures_are_those_of_the_benchmarks() -> None:
    """The page on operating repeats lines of the table, unchanged."""
    page = (DOCS / "operating.md").read_text(encoding="utf-8").partition("## Sizes")[2].partition("## Autovacuum")[0]
    figures = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(figures) > 1
    assert set(figures) <= set((ROOT / "BENCHMARKS.md").read_text(encoding="utf-8").splitlines())


def test_the_reference_is_what_the_code_says() -> None:
    """Whoever changes the code generates the pages again."""
    said = subprocess.run(
        [sys.executable, "docs/reference.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (said.stdout, said.returncode) == ("", 0), said.stderr
