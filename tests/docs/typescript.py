"""The TypeScript compiler that comes with the embedded stack, and the Node that runs it."""

from __future__ import annotations

from typing import Final

from embedded_stack import NODE_MODULES, node_command

__all__ = ["TSC", "node_command"]

TSC: Final = (*node_command(), str(NODE_MODULES / "typescript" / "bin" / "tsc"))
