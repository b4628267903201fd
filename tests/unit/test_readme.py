"""What the documents show runs, and what they name exists."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
import respx

import scenario_repo
from scenario_repo import LeasedNotification, ScenarioNotificationRepository, ScenarioType, SuppressDelivery
from tests.factories import ORGANIZATION_ID, USER_ID, claims_answer, function_arguments, id_of_claim, leased_row

if TYPE_CHECKING:  # pytest imports it first, as a plugin
    from tests.unit.command_line import Run

pytest_plugins = ["tests.unit.command_line"]

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = (
    "README.md",
    "CONTRIBUTING.md",
    "BENCHMARKS.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "supabase/local/README.md",
    *sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("docs/*.md")),
)
OF_AN_APP: Final = re.compile(r"supabase/(migrations|tests)(/\d{14}_[a-z0-9_]+\.sql|/[a-z0-9_]+_rule\.sql)?")
"""The files of the app's own project."""
MADE_BY_A_RUN: Final = {"tests/benchmarks/results"}
_FOLDERS: Final = {"scenario_repo", "scenario_repo._cli", "scenario_repo.console"}

every_document = pytest.mark.parametrize("document", DOCUMENTS)


def _text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def _blocks(document: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", _text(document), re.MULTILINE | re.DOTALL)


def _code(document: str) -> str:
    """Return what stands as code: the blocks of shell, and what is between backticks in a line."""
    in_lines = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", _text(document), flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*_blocks(document, "sh"), *in_lines])


def _missing(paths: set[str]) -> set[str]:
    return {path for path in paths if not (ROOT / path).exists()}


def _beside(document: str, path: str) -> str:
    """Return the path, from the root, of what a document names from its own folder; itself if it names nothing."""
    target = (ROOT / document).parent / path if path else ROOT / document
    return str(target.resolve().relative_to(ROOT))


def _anchors(document: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.*)$", _text(document), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


# The examples ------------------------------------------------------------


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Save the README's first example as app.py in the working directory, as the README says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "app", raising=False)
    file = tmp_path / "app.py"
    file.write_text(_blocks("README.md", "python")[0], encoding="utf-8")
    return file


@pytest.fixture
def one_pending(server: respx.MockRouter) -> respx.MockRouter:
    """Answer as a database with one mentor who is due for one scenario."""
    page = {"evaluated": 1, "due": 1, "claimed": 1, "history": 0, "skipped": {}, "next_after": None}
    leased = leased_row(device_tokens=[{"token": "token", "platform": "ios"}])
    run = {"scenario_type": "inactivity", "place": 1, "page_size": None}
    server.post("/rpc/scenario_begin_run").respond(json={"passes": [run]})
    server.post("/rpc/scenario_evaluate_next_page").respond(json=page)
    server.post("/rpc/scenario_lease_notifications").mock(
        side_effect=[httpx.Response(200, json={"leased": rows}) for rows in ([leased], *[[]] * 9)]
    )
    server.post("/rpc/scenario_settle_notifications").respond(json={"answers": ["sent"]})
    return server


@pytest.mark.usefixtures("environment", "one_pending")
def test_the_main_job_runs_in_python(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The README's first example evaluates, sends and settles."""
    runpy.run_path(str(app), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == ["claimed 1", "send inactivity to 1 devices", "settled sent 1"]


@pytest.mark.usefixtures("app", "one_pending")
def test_the_main_job_runs_from_a_shell(run: Run) -> None:
    """The README's first commands do the same, with the example's own sender."""
    shell = next(block for block in _blocks("README.md", "sh") if "scenario-repo evaluate" in block)
    commands = re.findall(r"^scenario-repo ((?:evaluate|deliver)[^#\n]*)", shell, re.MULTILINE)
    evaluated, delivered = (run(*command.split()) for command in commands)
    assert (evaluated.code, delivered.code) == (0, 0)
    assert "1 claimed" in evaluated.out
    assert delivered.out == "send inactivity to 1 devices\nsent 1\n"


@pytest.mark.usefixtures("app")
async def test_a_sender_suppresses_what_nobody_can_get() -> None:
    """The README's sender has no other channel than devices."""
    send = runpy.run_path("app.py")["send"]
    with pytest.raises(SuppressDelivery):
        await send(LeasedNotification(**leased_row(device_tokens=[])))


_DEVICES: Final = [{"token": "token", "platform": "ios"}]


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        (
            {"leased": [leased_row(id=str(id_of_claim(1)), device_tokens=_DEVICES)]},
            "welcome on 1 devices\nsettled: sent\n",
        ),
        (
            {
                "leased": [],
                "skipped": {
                    "place": [1],
                    "reason": ["cooldown"],
                    "held_by": [str(USER_ID)],
                    "ends_at": ["2026-12-02T08:30:00Z"],
                },
            },
            "skipped: cooldown until 2026-12-02 08:30:00+00:00\n",
        ),
    ],
    ids=["granted", "skipped"],
)
async def test_the_claim_runs(
    answer: dict[str, object],
    printed: str,
    rest: respx.MockRouter,
    repository: ScenarioNotificationRepository,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The README's second example claims a welcome with a lease, settles it, and says what came of it."""
    route = rest.post("/rpc/scenario_claim_notifications").respond(json=claims_answer(**answer))
    if "settled" in printed:  # the fixture sees that it is called then, and only then
        rest.post("/rpc/scenario_settle_notifications").respond(json={"answers": ["sent"]})
    names: dict[str, Any] = {}
    exec(_blocks("README.md", "python")[1], names)  # noqa: S102 - our own text
    await names["welcome"](repository, USER_ID, ORGANIZATION_ID)
    claims = function_arguments(route.calls.last.request)["p_claims"]
    assert (claims["user_id"], claims["all"]["scenario_type"]) == ([str(USER_ID)], ScenarioType.WELCOME_BACK)
    assert capsys.readouterr().out == printed


@every_document
def test_every_example_compiles_and_imports_what_is_public(document: str) -> None:
    """No block of Python has a mistake in its syntax or a name that the package does not have."""
    for block in _blocks(document, "python"):
        compile(block, document, "exec")
        for names in re.findall(r"^from scenario_repo import (?:\((.*?)\)|(.*?)$)", block, re.MULTILINE | re.DOTALL):
            imported = {name.strip() for name in "".join(names).split(",") if name.strip()}
            assert imported <= set(scenario_repo.__all__)


# What is named -----------------------------------------------------------


@every_document
def test_every_link_leads_somewhere(document: str) -> None:
    """A relative link is a file or folder of the repository, and its anchor a heading there."""
    found = re.findall(r"\]\(([^)\s#]*)#?([^)\s]*)\)", _text(document))
    links = {(_beside(document, path), anchor) for path, anchor in found if "://" not in path}
    assert _missing({path for path, _ in links}) == set()
    for path, anchor in links:
        assert not anchor or anchor in _anchors(path)


@every_document
def test_every_path_exists(document: str) -> None:
    """What is named as a file of the sources, the schema or the tests is there."""
    named = set(re.findall(r"(?:supabase|tests|scenario_repo|docs|tools|\.github)/[\w./-]*\w", _code(document)))
    ours = {path for path in named - MADE_BY_A_RUN if not OF_AN_APP.fullmatch(path)}
    assert _missing(ours) == set()


@every_document
def test_every_make_command_exists(document: str) -> None:
    """A target that is named is one of the Makefile's."""
    targets = set(re.findall(r"^([a-z-]+):", _text("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^|[^\w-])make ([a-z-]+)", _code(document), re.MULTILINE))
    assert named <= targets


@every_document
def test_every_command_and_option_exists(document: str, run: Run) -> None:
    """A command of the command line that is named answers --help, and knows the options named with it."""
    for line in re.findall(r"scenario-repo ([^\n`]+)", _code(document)):
        command, *rest = line.split()
        if command.startswith("-"):
            continue
        told = run(command, "--help")
        assert told.code == 0, line
        if rest and rest[0].isalpha() and re.search(rf"^│ {rest[0]} ", told.out, re.MULTILINE):  # config set, …
            told = run(command, rest[0], "--help")
        assert [
            option for option in re.findall(r"--[a-z-]+", " ".join(rest).partition("|")[0]) if option not in told.out
        ] == []


def test_every_command_is_in_the_readme(run: Run) -> None:
    """Whoever adds a command says in the README what it is for."""
    commands = re.findall(r"^│ ([a-z][a-z-]+) ", run("--help").out, re.MULTILINE)
    assert "evaluate" in commands
    assert [name for name in commands if f"scenario-repo {name}" not in _code("README.md")] == []


# What is said twice ------------------------------------------------------


def test_the_readmes_figures_are_those_of_the_benchmarks() -> None:
    """The README repeats four lines of the whole table, unchanged."""
    figures = [line for line in _text("README.md").partition("## Figures")[2].splitlines() if line.startswith("| ")]
    assert len(figures) == 1 + 4
    assert [line for line in figures if line not in _text("BENCHMARKS.md").splitlines()] == []


def test_no_room_is_left_out() -> None:
    """CONTRIBUTING.md has a line for each module, each schema file and each suite."""
    files = [*ROOT.glob("scenario_repo/*.py"), *ROOT.glob("supabase/schemas/*.sql")]
    rooms = [file for folder in ("_cli", "console") for file in ROOT.glob(f"scenario_repo/{folder}/*.py")]
    commands = {f"{file.parent.name}/{file.name}" for file in rooms if file.name != "__init__.py"}
    suites = [path.parent for path in ROOT.glob("tests/*/__init__.py") if path.parent.name != "postgres"]
    names = {file.name for file in files if file.name != "__init__.py"} | {f"tests/{suite.name}" for suite in suites}
    names |= commands
    described = {name for row in re.findall(r"^\| (`.*?) \| ", _text("CONTRIBUTING.md"), re.MULTILINE)
                 for name in re.findall(r"`([^`]+)`", row)}  # fmt: skip
    assert sorted(names - described) == []


def test_imports_point_up_the_table_of_modules() -> None:
    """CONTRIBUTING.md lists the modules in an order in which each imports only what stands above it, or beside it."""
    table = _text("CONTRIBUTING.md").partition("### Python")[2].partition("### SQL")[0]
    above: set[str] = set()
    for row in re.findall(r"^\| (`.*?) \| ", table, re.MULTILINE):
        modules = {name.replace("/", ".") for name in re.findall(r"`([\w/]+)\.py`", row)}
        above |= modules
        for module in modules:
            file = ROOT / "scenario_repo" / f"{module.replace('.', '/')}.py"
            if file.exists():
                assert _own_imports(file) <= above, module


def _own_imports(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in _FOLDERS:
            folder = f"{node.module}.".removeprefix("scenario_repo.")
            names |= {f"{folder}{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scenario_repo."):
            names.add(str(node.module).removeprefix("scenario_repo."))
    return names
