"""The command line: what each command prints, how it ends, and that it never shows a key or a traceback."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import respx

from scenario_repo import (
    InstallationFault,
    ScenarioNotificationRepository,
    ScenarioType,
    Verification,
)
from scenario_repo._postgrest import SCHEMA_VERSION
from scenario_repo._releases import schema_text, snippets
from tests.factories import ORGANIZATION_ID, PUBLISHABLE_KEY, SECRET_KEY, USER_ID, function_arguments
from tests.unit.begun_runs import serve_run

if TYPE_CHECKING:  # pytest imports it first, as a plugin
    from tests.unit.command_line import Run

pytest_plugins = ["tests.unit.command_line"]

_MIGRATIONS = Path(__file__).parents[2] / "supabase" / "migrations"


COMMANDS = (
    *("evaluate", "deliver", "status", "console", "left-out", "report", "outcomes", "explain", "explain-notification"),
    *("check-rules", "pending", "failed", "retry", "cancel"),
    *(
        "purge",
        "mutes",
        "mute",
        "unmute",
        "export",
        "erase",
        "simulate",
        "verify",
        "migrations",
        "schema",
        "snippet",
        "new-scenario",
        "config",
        "policy",
        "days-off",
    ),
)
SUBCOMMANDS = (
    *("config get", "config set", "policy get", "policy set", "policy delete"),
    *("days-off list", "days-off add", "days-off remove"),
)


def test_every_command_is_tried_here(run: Run) -> None:
    """The list of the commands is that of the help."""
    assert tuple(re.findall(r"^│ ([a-z][a-z-]+)(?: |$)", run("--help").out, re.MULTILINE)) == COMMANDS


def serve_schema(server: respx.MockRouter, *own: str) -> None:
    """Answer which scenario types there are: the built-in ones, and the app's own."""
    serve_run(server, *own)
    types = {"version": SCHEMA_VERSION, "scenario_types": [*ScenarioType, *own]}
    server.post("/rpc/scenario_get_schema").mock(return_value=httpx.Response(200, json=types))


def page(**figures: object) -> httpx.Response:
    """Answer with a page."""
    return httpx.Response(
        200,
        json={"evaluated": 500, "due": 75, "claimed": 70, "history": 0, "skipped": {"cooldown": 5}, "next_after": None}
        | figures,
    )


# evaluate ----------------------------------------------------------------


def test_evaluate_tells_each_scenario_and_the_sum(run: Run, server: respx.MockRouter) -> None:
    """A line for each scenario, in plain text, and 0."""
    serve_schema(server)
    server.post("/rpc/scenario_evaluate_next_page").mock(return_value=page())
    told = run("evaluate")
    lines = told.out.splitlines()
    assert (told.code, told.err, len(lines)) == (0, "", len(ScenarioType) + 1)
    assert lines[0].startswith(
        "inactivity            evaluated 500, due 75, claimed 70, skipped 5 (cooldown 5), 1 page,"
    )
    assert lines[-1].startswith(f"{70 * len(ScenarioType)} claimed in ")


def test_evaluate_asks_for_what_the_options_say(run: Run, server: respx.MockRouter) -> None:
    """Scenario, organization, page size and dry run reach the database; JSON says the same as the text."""
    route = server.post("/rpc/scenario_evaluate").mock(side_effect=[page(next_after=str(USER_ID)), page()])
    told = run(
        *["evaluate", "--dry-run", "--json", "--page-size", "7", "--scenario", "milestone", "--due-within", "90d"],
        *["--organization", ORGANIZATION_ID],
    )
    assert [function_arguments(call.request) for call in route.calls] == [
        {
            "p_scenario_type": "milestone",
            "p_organization_id": str(ORGANIZATION_ID),
            "p_after": after,
            "p_limit": 7,
            "p_dry_run": True,
            "p_due_within_seconds": 7_776_000.0,
            "p_list": False,
        }
        for after in (None, str(USER_ID))
    ]
    report = json.loads(told.out)
    assert (told.code, report["dry_run"], report["completed"]) == (0, True, True)
    (milestone,) = report["scenarios"]
    assert (milestone["scenario_type"], milestone["claimed"], milestone["pages"]) == ("milestone", 140, 2)
    assert (milestone["skipped"], milestone["error"]) == ({"cooldown": 10}, None)


def test_evaluate_tells_what_was_left_out_as_history(run: Run, server: respx.MockRouter) -> None:
    """Per scenario and in all, with the option that tells it; where there is none, nothing is said of it."""
    serve_schema(server)
    server.post("/rpc/scenario_evaluate_next_page").mock(
        side_effect=[page(history=1200), page(history=34), *[page()] * len(ScenarioType)]
    )
    lines = run("evaluate").out.splitlines()
    assert "skipped 5 (cooldown 5), history 1,200, 1 page," in lines[0]
    assert [("history" in line) for line in lines] == [True, True, *[False] * (len(ScenarioType) - 1), True]
    assert lines[-1].startswith("1,234 left out as history")
    assert "--due-within" in lines[-1]
    server.post("/rpc/scenario_evaluate_next_page").mock(return_value=page(history=7))
    report = json.loads(run("evaluate", "--json").out)
    assert [one["history"] for one in report["scenarios"]] == [7] * len(ScenarioType)
    assert report["history"] == 7 * len(ScenarioType)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90", timedelta(seconds=90)),
        ("0.5s", timedelta(seconds=0.5)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("30d", timedelta(days=30)),
        ("36525d", timedelta(days=36_525)),
    ],
)
def test_a_length_of_time_may_have_a_unit(run: Run, server: respx.MockRouter, text: str, length: timedelta) -> None:
    """Seconds without one."""
    route = server.post("/rpc/scenario_evaluate_next_page").mock(return_value=page())
    assert run("evaluate", "--scenario", "inactivity", "--due-within", text).code == 0
    assert function_arguments(route.calls.last.request)["p_due_within_seconds"] == length.total_seconds()


def test_evaluate_ends_with_1_when_the_budget_is_spent(run: Run, server: respx.MockRouter) -> None:
    """Work left over is no failure, and has an exit code of its own."""
    server.post("/rpc/scenario_evaluate_next_page").mock(return_value=page(next_after=str(USER_ID)))
    told = run(*["evaluate", "--scenario", "inactivity", "--time-budget", "0.2"])
    assert (told.code, told.err) == (1, "")
    assert "more to do" in told.out
    assert "not finished" in told.out


_FAILURES = [
    (httpx.ConnectError("no route to SECRET-ROW-VALUE"), 3, "try again later"),
    (httpx.ReadTimeout(""), 3, "try again later"),
    (httpx.Response(503, json={"code": "PGRST002", "message": "SECRET-ROW-VALUE"}), 3, "try again later"),
    (httpx.Response(500, json={"code": "57014", "message": "timeout"}), 3, "try again later"),
    (httpx.Response(401, json={"message": "Invalid API key"}), 2, "SUPABASE_SECRET_KEY"),
    (httpx.Response(403, json={"code": "42501", "message": "permission denied"}), 4, "SUPABASE_SECRET_KEY"),
    (httpx.Response(404, json={"code": "PGRST202", "message": "no such function"}), 4, "migrations"),
    (httpx.Response(400, json={"code": "SR001", "message": "expected"}), 2, ""),
    (httpx.Response(400, json={"code": "SR006", "message": "apply the newer migrations"}), 4, "newer migrations"),
    (httpx.Response(200, text="<html>hello</html>"), 4, "SUPABASE_URL"),
]


@pytest.mark.parametrize(("answer", "code", "remedy"), _FAILURES)
@pytest.mark.parametrize(
    "command", ["evaluate --scenario inactivity", f"explain {USER_ID}", f"report {ORGANIZATION_ID}"]
)
def test_a_failure_is_one_line_with_its_remedy(  # noqa: PLR0913 - a table of failures, by command
    run: Run, server: respx.MockRouter, command: str, answer: httpx.Response | Exception, *, code: int, remedy: str
) -> None:
    """Every failure of every command has an exit code to act on; row values are not quoted."""
    server.post().mock(side_effect=lambda _: _raised_or_returned(answer))
    told = run(*command.split())
    assert told.code == code
    (line,) = told.err.splitlines()
    assert line.startswith("scenario-repo: ")
    assert remedy in line
    assert "SECRET-ROW-VALUE" not in told.err + told.out


def _raised_or_returned(answer: httpx.Response | Exception) -> httpx.Response:
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_evaluate_reports_one_scenarios_failure_and_the_others_figures(run: Run, server: respx.MockRouter) -> None:
    """The worst exit code is returned; the claims are still reported, as JSON too."""
    answers = [page() for _ in ScenarioType]
    answers[1] = httpx.Response(403, json={"code": "42501", "message": "no"})
    serve_schema(server)
    server.post("/rpc/scenario_evaluate_next_page").mock(side_effect=answers)
    told = run("evaluate", "--json")
    scenarios = json.loads(told.out)["scenarios"]
    assert told.code == 4
    assert [one["claimed"] for one in scenarios] == [70, 0, *[70] * (len(ScenarioType) - 2)]
    assert scenarios[1]["error"]["type"] == "PermissionDeniedException"
    assert scenarios[1]["error"]["retryable"] is False
    assert told.err.startswith("scenario-repo: milestone: ")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_evaluate_shows_progress_on_a_terminal(
    run: Run, server: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar on the terminal's standard error, beside the plain lines of standard output, which is a pipe."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    server.post("/rpc/scenario_evaluate_next_page").mock(return_value=page())
    told = run("evaluate", "--scenario", "inactivity")
    assert told.code == 0
    assert told.out.startswith("inactivity ")
    assert "mentors evaluated" in terminal.getvalue()


def test_progress_leaves_a_pipe_alone(run: Run, server: respx.MockRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output goes on into its pipe while bars are drawn on the terminal's standard error."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    server.post("/rpc/scenario_evaluate").mock(return_value=page(claimed=1, due_mentors=_MENTORS))
    told = run("evaluate", "--scenario", "inactivity", "--dry-run", "--list")
    assert told.out == f"inactivity  {USER_ID}  {ORGANIZATION_ID}\n"
    assert str(USER_ID) not in terminal.getvalue()


_MENTORS = [
    {"user_id": str(USER_ID), "organization_id": str(ORGANIZATION_ID), "milestone_value": None, "finding": "inactive"}
]


def test_a_dry_run_lists_who_is_due_as_the_pages_come(run: Run, server: respx.MockRouter) -> None:
    """Ids alone on standard output, one line each; the sums are aside. As JSON, with the figures."""
    route = server.post("/rpc/scenario_evaluate").mock(side_effect=lambda _: page(claimed=1, due_mentors=_MENTORS))
    told = run("evaluate", "--scenario", "inactivity", "--dry-run", "--list")
    assert (told.code, told.out) == (0, f"inactivity  {USER_ID}  {ORGANIZATION_ID}\n")
    assert told.err.startswith("scenario-repo: 1 would be claimed")
    assert function_arguments(route.calls.last.request)["p_list"] is True
    (one,) = json.loads(run("evaluate", "--scenario", "inactivity", "--dry-run", "--list", "--json").out)["scenarios"]
    assert one["due_mentors"] == _MENTORS


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_an_evaluation_after_its_page(run: Run, server: respx.MockRouter, name: str) -> None:
    """The page counts, no other one is begun, and the exit code is that of a run that stopped."""

    async def signalled(_: httpx.Request) -> httpx.Response:
        os.kill(os.getpid(), getattr(signal, name))
        await asyncio.sleep(0.05)
        return page(next_after=str(USER_ID))

    route = server.post("/rpc/scenario_evaluate_next_page").mock(side_effect=signalled)
    told = run("evaluate", "--scenario", "inactivity")
    assert (told.code, route.call_count, len(told.err.splitlines())) == (1, 1, 1)
    assert "claimed 70" in told.out
    assert "not finished" in told.out
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_signal_ends_an_evaluation_at_once(run: Run, server: respx.MockRouter) -> None:
    """A page that hangs is not waited for; nothing is printed but that."""

    async def hang(_: httpx.Request) -> httpx.Response:
        for _signal in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.05)
        await asyncio.sleep(60)
        return page()

    server.post("/rpc/scenario_evaluate_next_page").mock(side_effect=hang)
    told = run("evaluate", "--scenario", "inactivity")
    assert (told.code, told.out) == (1, "")
    assert told.err.splitlines()[-1] == "scenario-repo: interrupted"


def test_a_rule_that_raises_is_looked_at_with_check_rules(run: Run, server: respx.MockRouter) -> None:
    """Its error names no setting of the caller's: exit code 4, and the command that says where it is."""
    server.post("/rpc/scenario_evaluate_next_page").respond(400, json={"code": "22012", "message": "division by zero"})
    told = run("evaluate", "--scenario", "first_session")
    assert (told.code, len(told.err.splitlines())) == (4, 1)
    assert told.err.startswith("scenario-repo: first_session: ")
    assert "scenario-repo check-rules first_session" in told.err


def test_a_grant_that_is_missing_is_not_blamed_on_the_key(run: Run, server: respx.MockRouter) -> None:
    """An error that names a table has its own remedy: the grant, and not another key."""
    refusal = {"code": "42501", "message": "permission denied for table activities"}
    server.post("/rpc/scenario_evaluate_next_page").respond(403, json=refusal)
    told = run("evaluate", "--scenario", "inactivity")
    assert (told.code, len(told.err.splitlines())) == (4, 1)
    assert "grant select on activities to service_role" in told.err
    assert "SUPABASE_SECRET_KEY" not in told.err


# verify ------------------------------------------------------------------


_WHOLE = Verification(schema_version=SCHEMA_VERSION, faults=())
_FAULTY = Verification(
    schema_version=SCHEMA_VERSION,
    faults=(
        InstallationFault(what="the index x: expected it to be valid", mend="reindex index public.x;"),
        InstallationFault(what="the clock: expected it to be right"),
    ),
)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Callable[[Verification], None]:
    """Answer with a verification."""

    def answer(verification: Verification) -> None:
        async def verify(_: object) -> Verification:
            return verification

        monkeypatch.setattr(ScenarioNotificationRepository, "verify_installation", verify)

    return answer


def test_verify_tells_each_fault_and_what_mends_it(run: Run, verified: Callable[[Verification], None]) -> None:
    """Exit code 1; the SQL alone with --sql, as one script; all of it as JSON."""
    verified(_FAULTY)
    told = run("verify")
    assert (told.code, told.out.splitlines()) == (
        1,
        ["the index x: expected it to be valid", "    reindex index public.x;", "the clock: expected it to be right"],
    )
    assert told.err.startswith("scenario-repo: 2 faults; ")
    assert run("verify", "--sql").out == "reindex index public.x;\n"
    as_json = run("verify", "--json")
    assert (as_json.code, json.loads(as_json.out)["ok"], len(json.loads(as_json.out)["faults"])) == (1, False, 2)


def test_verify_ends_with_0_if_all_is_well(run: Run, verified: Callable[[Verification], None]) -> None:
    """One line, or JSON."""
    verified(_WHOLE)
    told = run("verify")
    assert (told.code, told.out, told.err) == (0, f"ok: version {SCHEMA_VERSION} of the schema is whole\n", "")
    assert run("verify", "--sql").out == ""
    assert json.loads(run("verify", "--json").out) == {"schema_version": SCHEMA_VERSION, "faults": [], "ok": True}


# report ------------------------------------------------------------------


def test_report_is_a_table_and_a_bar_for_each_day(run: Run, server: respx.MockRouter) -> None:
    """Counts per type and status with their sums, why any failed, and every day, in which the most is the longest."""
    route = server.post("/rpc/scenario_get_organization_report")

    def answer(request: httpx.Request) -> httpx.Response:
        today = json.loads(request.content)["p_until"][:10]
        line = {"day": today, "scenario_type": "milestone", "delivery_status": "sent"}
        figures = [("sent", None, 1200), *(("failed", code, 1) for code in ("invalid_token", "expired", "user_gone"))]
        named = [{"delivery_status": status, "failure_code": code, "notifications": n} for status, code, n in figures]
        return httpx.Response(200, json={"lines": [line | one for one in named]})

    route.mock(side_effect=answer)
    told = run("report", ORGANIZATION_ID, "--days", 3)
    lines = told.out.splitlines()
    table = 1 + len(ScenarioType) + 1
    assert (told.code, len(lines)) == (0, table + 2 + 1 + 3)
    assert lines[0].split() == ["pending", "sent", "failed", "total"]
    assert lines[2].split() == ["milestone", "0", "1,200", "3", "1,203"]
    assert lines[table - 1].split() == ["total", "0", "1,200", "3", "1,203"]
    assert lines[table : table + 2] == [
        "failed, could not be delivered: 2 (expired 1, invalid_token 1)",
        "failed, not to be told: 1 (user_gone 1)",
    ]
    assert [line.split()[1:] for line in lines[table + 3 :]] == [["0"], ["0"], ["█" * 40, "1,203"]]
    asked = json.loads(route.calls.last.request.content)
    assert asked["p_since"].partition("T")[2].startswith("00:00:00")
    report = json.loads(run("report", ORGANIZATION_ID, "--json").out)
    assert report["organization_id"] == str(ORGANIZATION_ID)
    assert [line["notifications"] for line in report["lines"]] == [1200, 1, 1, 1]
    assert (report["undelivered"], report["withheld"]) == ({"expired": 1, "invalid_token": 1}, {"user_gone": 1})
    assert [line["failure_code"] for line in report["lines"]] == [None, "invalid_token", "expired", "user_gone"]


# migrations --------------------------------------------------------------


_NAMES = [file.name.partition("_")[2] for file in sorted(_MIGRATIONS.glob("*.sql"))]


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """Make a project's folder of migrations, with one of its own, dated in the future."""
    folder = tmp_path / "supabase" / "migrations"
    folder.mkdir(parents=True)
    (folder / "20991231235959_app.sql").write_text("-- the app's own")
    return folder


def test_migrations_are_dated_after_the_projects_own(run: Run, migrations: Path) -> None:
    """`supabase db push` refuses older ones; the name behind the date is ours, and the text the same."""
    told = run("migrations", migrations)
    copied = sorted(migrations.glob("*scenario_repo*"))
    assert [file.name for file in copied] == [f"21000101000000_{name}" for name in _NAMES]
    assert [file.read_bytes() for file in copied] == [file.read_bytes() for file in sorted(_MIGRATIONS.glob("*.sql"))]
    assert told.code == 0
    assert told.out.splitlines()[:-1] == [f"copied {file.name}" for file in copied]
    assert told.out.splitlines()[-1].startswith("next: apply it")


def test_migrations_know_their_own_copies(run: Run, migrations: Path) -> None:
    """By the name, whatever the date and the line ends: a second run copies nothing."""
    run("migrations", migrations)
    (copy,) = migrations.glob(f"*{_NAMES[0]}")
    copy.rename(migrations / f"20200101000000_{_NAMES[0]}")
    crlf = migrations / f"20200101000000_{_NAMES[0]}"
    crlf.write_bytes(crlf.read_bytes().replace(b"\n", b"\r\n"))
    before = sorted(migrations.iterdir())
    told = run("migrations", migrations)
    assert (told.code, told.out, told.err) == (0, "nothing to copy: every migration is there\n", "")
    assert sorted(migrations.iterdir()) == before
    assert run("migrations", migrations, "--check").code == 0


def test_migrations_that_differ_stay_and_hinder_no_other(
    run: Run, migrations: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An edited copy is named and left alone; what is new is copied, after it; a second copy is named too."""
    releases = tmp_path / "releases"
    releases.mkdir()
    for release in ("20261125100000_scenario_repo_0_1_0.sql", "20270101000000_scenario_repo_0_2_0.sql"):
        (releases / release).write_text(f"-- {release}")
    monkeypatch.setattr("scenario_repo._project.release_files", lambda: sorted(releases.iterdir()))
    for version in ("20990101000000", "20990102000000"):
        (migrations / f"{version}_scenario_repo_0_1_0.sql").write_text("-- edited")

    checked = run("migrations", migrations, "--check")
    assert (checked.code, checked.out) == (4, "missing scenario_repo_0_2_0.sql\n")
    told = run("migrations", migrations)
    assert (told.code, told.out.splitlines()[0]) == (0, "copied 21000101000000_scenario_repo_0_2_0.sql")
    assert [line.partition(": ")[2].partition(";")[0] for line in told.err.splitlines()] == [
        "20990101000000_scenario_repo_0_1_0.sql is not what this version has",
        "20990102000000_scenario_repo_0_1_0.sql is a second copy",
    ]
    assert (migrations / "20990101000000_scenario_repo_0_1_0.sql").read_text() == "-- edited"


def test_migrations_need_a_folder_or_the_word_to_make_one(run: Run, tmp_path: Path) -> None:
    """A mistyped path is refused; with --create the folder is made; a path that is a file is one line."""
    folder = tmp_path / "supabse" / "migrations"
    told = run("migrations", folder)
    assert (told.code, folder.exists(), len(told.err.splitlines())) == (2, False, 1)
    assert "--create" in told.err
    assert run("migrations", folder, "--check").code == 2
    assert run("migrations", folder, "--create").code == 0
    assert len(list(folder.iterdir())) == len(_NAMES)
    (tmp_path / "taken").write_text("")
    for option in ((), ("--create",)):
        told = run("migrations", tmp_path / "taken", *option)
        assert (told.code, len(told.err.splitlines())) == (2, 1)


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_folder_is_no_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A shell's unset variable, as in `migrations "$DIR"`, does not write into the folder one happens to be in."""
    monkeypatch.chdir(tmp_path)
    told = run("migrations", text)
    assert (told.code, len(told.err.splitlines()), list(tmp_path.iterdir())) == (2, 1, [])
    assert "expected a folder, got nothing" in told.err


def test_the_schema_is_written_as_one_file(run: Run, tmp_path: Path) -> None:
    """Once a release; a folder that is not there is refused unless asked for; an edited file stays."""
    folder = tmp_path / "schemas"
    assert (run("schema", folder).code, folder.exists()) == (2, False)
    told = run("schema", folder, "--create")
    file = folder / "scenario_repo.sql"
    assert (told.code, told.out) == (0, f"wrote {file}\n")
    assert file.read_text().endswith(schema_text())
    assert run("schema", folder).out == f"nothing to write: {file} is that of this release\n"
    file.write_text("-- mine")
    told = run("schema", folder)
    assert (told.code, told.out, len(told.err.splitlines())) == (4, "", 1)
    assert file.read_text() == "-- mine"


def test_a_snippet_is_printed_as_it_is(run: Run) -> None:
    """By its name; without one the names are listed, and so they are for an unknown one."""
    names = run("snippet").out.split()
    assert names == sorted(snippets())
    for name in names:
        assert run("snippet", name).out == snippets()[name]
    told = run("snippet", "no_such")
    assert (told.code, told.out, len(told.err.splitlines())) == (2, "", 1)
    assert all(name in told.err for name in names)


# Usage and settings ------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "",
        "unknown",
        "explain",
        "explain not-a-uuid",
        "report 123",
        "report 0b6c1f1e-6f0c-4e0a-9f1b-2d4f5a6b7c8d --days 0",
        "evaluate --organization x",
        "evaluate --scenario Birthday",
        "evaluate --list",
        "new-scenario",
        "new-scenario Birthday",
        "new-scenario inactivity",
        "new-scenario repo_0_1_0",
        "check-rules --samples 101",
        "evaluate --time-budget 0",
        "evaluate --time-budget nan",
        "evaluate --time-budget 1e300",
        "evaluate --time-budget 2d",
        "evaluate --due-within d",
        "evaluate --due-within 1w",
        "evaluate --due-within 0d",
        "evaluate --due-within 36526d",
        "evaluate --page-size 100001",
        "evaluate --page-size -1",
        "deliver",
        "deliver --sender x:y --concurrency ²",
        "migrations",
    ],
)
def test_wrong_usage_ends_with_2(run: Run, line: str) -> None:
    """Nothing is sent; what is wrong and where the help is are one line."""
    told = run(*line.split())
    assert (told.code, told.out, len(told.err.splitlines())) == (2, "", 1)
    assert told.err.startswith("scenario-repo: ")
    assert (
        f"see `{' '.join(['scenario-repo', *line.split()[:1]] if line != 'unknown' else ['scenario-repo'])} --help`"
        in told.err
    )


@pytest.mark.parametrize("command", ["", *COMMANDS, *SUBCOMMANDS])
def test_help_tells_the_exit_codes_and_the_settings(run: Run, command: str) -> None:
    """Every --help has the settings and exit codes; no option takes a key."""
    told = run(*command.split(), "--help")
    assert told.code == 0
    for text in ("SUPABASE_SECRET_KEY", "Exit codes:", "3: the database is unavailable"):
        assert text in told.out
    assert "--key" not in told.out


@pytest.mark.parametrize("command", ["", *COMMANDS, *SUBCOMMANDS])
def test_help_fits_a_narrow_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """At 40 columns no option is cut, and no line is longer but for a word or two beside a long option."""
    monkeypatch.setenv("COLUMNS", "120")
    wide = run(*command.split(), "--help").out
    monkeypatch.setenv("COLUMNS", "40")
    narrow = run(*command.split(), "--help").out
    assert max(len(line) for line in narrow.splitlines()) <= 46
    options = set(re.findall(r"^│ [* ]*(--[a-z-]+)", wide, re.MULTILINE))
    assert "--help" in options
    assert options <= set(re.findall(r"--[a-z-]+", narrow))


def test_every_default_is_in_the_help(run: Run) -> None:
    """Of numbers, lengths of time, and what is left to the settings."""
    told = " ".join(run("evaluate", "--help").out.replace("│", "").split())
    for default in ("(25s)", "10000", "(the settings' due_within)"):
        assert f"[default: {default}]" in told


@pytest.mark.parametrize("missing", ["typer", "rich.console"])
def test_without_the_extra_one_line_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Exit code 2, and the command to paste."""
    for name in [name for name in sys.modules if name.startswith("scenario_repo._cli.")]:
        if not name.endswith("endings"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    told = run("evaluate")
    assert (told.code, told.out, len(told.err.splitlines())) == (2, "", 1)
    assert "pip install 'scenario_repo[cli]'" in told.err


def test_the_versions_are_told(run: Run) -> None:
    """The library's, and that of the schema it needs."""
    told = run("--version")
    assert (told.code, told.err) == (0, "")
    assert (
        told.out
        == f"scenario-repo {metadata.version('scenario_repo')}, which needs version {SCHEMA_VERSION} of the schema\n"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUPABASE_URL", None),
        ("SUPABASE_URL", "my-own.example"),
        ("SUPABASE_URL", "http://project.example"),
        ("SUPABASE_SECRET_KEY", None),
        ("SUPABASE_SECRET_KEY", PUBLISHABLE_KEY),
        ("SUPABASE_SECRET_KEY", "nonsense"),
        ("SUPABASE_SECRET_KEYS", "{"),
    ],
)
def test_wrong_settings_end_with_2(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    """A missing or publishable key, an odd URL: one line, before anything is sent, and the value is not in it."""
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    told = run("evaluate")
    assert told.code == 2
    assert len(told.err.splitlines()) == 1
    assert "--help" in told.err
    assert value is None or len(value) < 5 or value not in told.err


def test_an_interrupted_command_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, server: respx.MockRouter
) -> None:
    """Ctrl-C in a command without signals of its own."""

    async def interrupted(*_: object) -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    monkeypatch.setattr(ScenarioNotificationRepository, "explain_scenarios", interrupted)
    told = run("explain", USER_ID)
    assert (told.code, told.out, told.err) == (1, "", "scenario-repo: interrupted\n")
    assert not server.calls


@pytest.mark.parametrize("line", ["snippet uninstall", "evaluate --help"])
def test_a_reader_that_has_gone_is_no_failure(line: str) -> None:
    """As in `scenario-repo … | head -1`: exit code 1, and nothing on standard error."""
    command = [sys.executable, "-m", "scenario_repo.cli", *line.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603 - ours
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        assert (process.wait(timeout=60), said) == (1, b"")


@pytest.mark.parametrize(("line", "code"), [("snippet uninstall", 0), ("unknown", 2)])
def test_a_closed_standard_output_is_no_failure(line: str, code: int) -> None:
    """As in `scenario-repo … >&-`: what would be told goes nowhere, and the exit code is the command's."""
    script = f"{shlex.quote(sys.executable)} -m scenario_repo.cli {line} >&-"
    told = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=False, timeout=60)  # noqa: S603 - ours
    assert (told.returncode, b"Traceback" in told.stderr) == (code, False)


def test_what_nobody_expected_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of the library shows its class alone, as its text may hold secrets."""

    def broken() -> Any:  # noqa: ANN401
        raise ZeroDivisionError(SECRET_KEY)

    monkeypatch.setattr("scenario_repo._cli.running.connect", broken)
    told = run("evaluate")
    assert (told.code, told.err) == (4, "scenario-repo: failed unexpectedly with ZeroDivisionError\n")
