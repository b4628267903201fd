"""The typing tests leave nothing out: tests/typing names every public call, of both faces."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

import scenario_repo
from scenario_repo import blocking

TYPING: Final = Path(__file__).parents[1] / "typing"
CLASSES: Final = ("ScenarioNotificationRepository", "ScenarioTriggerEngine", "DeliveryWorker")
FUNCTIONS: Final = {"connect", "connect_as_user", "open_http_client"}


@pytest.mark.parametrize(
    ("face", "file"), [(scenario_repo, "asynchronous.py"), (blocking, "without_await.py")], ids=["async", "blocking"]
)
def test_the_type_of_every_public_call_is_asserted(face: ModuleType, file: str) -> None:
    """A method that is added is missing in tests/typing until its type is asserted there."""
    tree = ast.parse((TYPING / file).read_text(encoding="utf-8"))
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    methods = {
        name
        for cls in CLASSES
        for name, member in inspect.getmembers(getattr(face, cls))
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }

    assert methods | FUNCTIONS <= named


def test_each_refused_line_is_checked_by_both() -> None:
    """Each expected error is expected of mypy, and of pyright unless the line says why it is not."""
    lines = (TYPING / "refused.py").read_text(encoding="utf-8").splitlines()
    expected = [line for line in lines if "type: ignore[" in line]

    assert len(expected) > 15
    assert [line for line in expected if "pyright: ignore[" not in line and "plugin for mypy" not in line] == []
