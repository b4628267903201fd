"""The TypeScript compiler that comes with the embedded stack, and the Node that runs it."""

from __future__ import annotations

from typing import Final

from scenario_repo.testing.embedded_stack import node_command
from tests.docs.pages import ROOT

__all__ = ["TSC", "node_command"]

TSC: Final = (
    *node_command(),
    str(ROOT / "supabase" / "local" / "node_modules" / "typescript" / "bin" / "tsc"),
)
