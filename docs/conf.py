"""How Sphinx builds these pages: ``make docs``. Every warning is an error: a broken link or anchor, a page left out."""

# ruff: noqa: INP001 (no package: Sphinx reads it)

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pygments.lexers.shell import BashLexer
from pygments.lexers.sql import PostgresLexer
from sphinx.application import Sphinx

_PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _PROJECT["name"]
release = version = _PROJECT["version"]
author = _PROJECT["authors"][0]["name"]
copyright = author  # noqa: A001 - Sphinx's name for it

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
nitpicky = True
myst_heading_anchors = 3
suppress_warnings: list[str] = []

html_theme = "furo"  # the system's own fonts, and nothing from another host
html_title = f"{project} {release}"
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False
html_theme_options: dict[str, Any] = {"navigation_with_keys": True}


def setup(app: Sphinx) -> None:
    """Read SQL as PostgreSQL's, with dollar quotes and named arguments; and a crontab as a shell's."""
    app.add_lexer("sql", PostgresLexer)
    app.add_lexer("crontab", BashLexer)
