"""The package's public names, and the imports allowed between modules."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

import scenario_repo
from scenario_repo import exceptions, facts, models, settings, status

PACKAGE: Final = Path(scenario_repo.__path__[0])
MODULES: Final = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("_cli/*.py"), *PACKAGE.glob("console/*.py")]
    if path.stem != "__init__"
)
THE_SEAM: Final = {"_clients", "_portal", "_postgrest", "_translation", "blocking", "client"}
WITHOUT_A_CLIENT: Final = {
    "_fields",
    "_limits",
    "_metadata",
    "_personal_data",
    "_personal_data_tables",
    "exceptions",
    "facts",
    "models",
    "settings",
    "status",
}


def _imported_by(module: str) -> set[str]:
    """Read the names of the modules that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            from_here = node.module in {"scenario_repo", "scenario_repo._cli", "scenario_repo.console"}
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if from_here else {node.module or ""}
    return names


def _foreign(module: str) -> set[str]:
    roots = {name.partition(".")[0] for name in _imported_by(module)}
    return {root for root in roots if root not in sys.stdlib_module_names and root != "scenario_repo"}


def _own(module: str) -> set[str]:
    return {name.partition(".")[2] for name in _imported_by(module) if name.startswith("scenario_repo.")}


def _public_classes(module: ModuleType) -> set[str]:
    members = inspect.getmembers(module, inspect.isclass)
    return {name for name, cls in members if cls.__module__ == module.__name__ and not name.startswith("_")}


def test_all_is_sorted_and_free_of_repetition() -> None:
    """``__all__`` is sorted, without duplicates."""
    assert scenario_repo.__all__ == sorted(set(scenario_repo.__all__))


def test_all_names_what_the_package_imports() -> None:
    """Whatever ``__init__`` imports is public, and whatever is public is there."""
    nodes = ast.walk(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")))
    imported = {
        alias.asname or alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }

    assert set(scenario_repo.__all__) == {name for name in imported if not name.startswith("_")}
    assert all(hasattr(scenario_repo, name) for name in scenario_repo.__all__)


@pytest.mark.parametrize("module", [exceptions, facts, models, settings, status], ids=lambda module: module.__name__)
def test_every_exception_and_model_is_public(module: ModuleType) -> None:
    """No exception has to be caught, and no value annotated, by a name from an inner module."""
    assert _public_classes(module) <= set(scenario_repo.__all__)


@pytest.mark.parametrize("name", scenario_repo.__all__)
def test_every_public_name_has_a_docstring(name: str) -> None:
    """Each public name, and each public method of it, has a docstring."""
    public = getattr(scenario_repo, name)
    methods = [member for key, member in vars(public).items() if inspect.isfunction(member) and not key.startswith("_")]

    assert all(vars(thing).get("__doc__") or thing.__doc__ for thing in [public, *methods])


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_docstring(module: str) -> None:
    """Each module has a docstring."""
    assert import_module(f"scenario_repo.{module}").__doc__


@pytest.mark.parametrize("module", sorted(set(MODULES) - THE_SEAM))
def test_only_the_seam_knows_httpx_and_postgrest(module: str) -> None:
    """No other module sees a type of httpx or postgrest."""
    assert not _foreign(module) & {"httpx", "postgrest"}


@pytest.mark.parametrize("module", sorted(WITHOUT_A_CLIENT))
def test_values_and_errors_know_no_client(module: str) -> None:
    """Models, their validation and the exceptions work without Supabase."""
    assert _foreign(module) <= {"pydantic", "pydantic_core"}
    assert _own(module) <= WITHOUT_A_CLIENT


def test_exceptions_import_nothing_foreign() -> None:
    """The exceptions need the standard library alone."""
    assert not _foreign("exceptions")
    assert not _own("exceptions")


def test_imports_point_one_way() -> None:
    """There is an order in which every module imports earlier ones only."""
    order = list(TopologicalSorter({module: _own(module) for module in MODULES}).static_order())

    assert set(order) == set(MODULES)


def test_the_import_brings_no_extra_along() -> None:
    """Whoever imports the package gets neither the command line nor its library (httpx itself imports rich)."""
    extras = {"typer", "pytest", "scenario_repo._cli.app"}
    program = f"import sys, scenario_repo, scenario_repo.cli; print(*{extras} & {{*sys.modules}})"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert told.stdout.split() == []
