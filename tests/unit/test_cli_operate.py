"""The commands of an operator: how things stand, single notifications, mutes and settings."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
import respx

from scenario_repo import ScenarioSettings
from tests.factories import (
    ORGANIZATION_ID,
    USER_ID,
    function_arguments,
    notification_row,
    pending_row,
    scenario_status,
    settings_row,
)

if TYPE_CHECKING:  # pytest imports it first, as a plugin
    from tests.unit.command_line import Run

pytest_plugins = ["tests.unit.command_line"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Terminal]:
    """Make standard output a terminal of so many columns."""

    def make(columns: int) -> Terminal:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.delenv("NO_COLOR", raising=False)
        return terminal

    return make


# status ------------------------------------------------------------------


@pytest.fixture
def standing(server: respx.MockRouter) -> None:
    """Answer with two scenarios, one of which waits."""
    ended = (datetime.now(UTC) - timedelta(hours=3, minutes=5)).isoformat()
    due = (datetime.now(UTC) - timedelta(days=2, hours=1, minutes=1)).isoformat()
    scenarios = [
        scenario_status(waiting=1_000, due_now=20, leased=3, unsettled=1, oldest_due_at=due, evaluated=5_000,
                        finished_at=ended, overriding=2, seconds=1.25),
        scenario_status(scenario_type="welcome_back", is_under_way=True),
    ]  # fmt: skip
    failures = [
        {"scenario_type": "inactivity", "failure_code": "expired", "last_day": 1, "last_week": 4},
        {"scenario_type": "inactivity", "failure_code": "muted", "last_day": 0, "last_week": 2},
    ]
    server.post("/rpc/scenario_get_status").respond(json={"version": 1, "scenarios": scenarios, "failures": failures})
    server.get("/scenario_evaluation_config").respond(
        json=[settings_row(), settings_row(scenario_type="welcome_back", is_enabled=False, cooldown="12:00:00")]
    )


@pytest.mark.usefixtures("standing")
def test_status_tells_how_things_stand(run: Run) -> None:
    """What is pending and since when, the passes, failures of two kinds, and the settings."""
    told = run("status")
    lines = told.out.splitlines()
    assert (told.code, told.err) == (0, "")
    assert "inactivity      1,023       20    1,000       3          1  2d 1h ago" in lines
    assert "1,023 pending, the longest due since 2d 1h" in lines
    assert "inactivity        5,000    0        0        0        0      1.2  3h 5m ago" in lines
    assert [line for line in lines if line.endswith("under way")]
    assert "last 24 hours: failed, could not be delivered: 1 (expired 1)" in lines
    assert "last 7 days: failed, not to be told: 2 (muted 2)" in lines
    assert next(line for line in lines if line.startswith("inactivity: is_enabled yes, cooldown 30d")).endswith(
        "; 2 organizations of their own"
    )
    assert [line for line in lines if line.startswith("welcome_back: is_enabled no, cooldown 12h")]


@pytest.mark.usefixtures("standing")
def test_status_is_json_for_a_program(run: Run) -> None:
    """With the settings, their lengths of time as in ISO 8601."""
    status = json.loads(run("status", "--json").out)
    assert [one["due_now"] for one in status["scenarios"]] == [20, 0]
    assert [one["cooldown"] for one in status["settings"]] == ["P30D", "PT12H"]
    assert status["failures"][0]["last_week"] == 4


# pending and failed ------------------------------------------------------


def test_pending_is_listed_over_the_pages(run: Run, server: respx.MockRouter) -> None:
    """As many as asked for, page after page; one line each, with its state and its last failure."""
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    first = [pending_row() for _ in range(999)] + [pending_row(attempt_count=2, failure_code="timeout")]
    second = [pending_row(next_attempt_at=soon), pending_row(leased_until=soon)]
    route = server.post("/rpc/scenario_list_pending").mock(
        side_effect=[httpx.Response(200, json={"pending": rows}) for rows in (first, second)]
    )
    told = run("pending", "--organization", ORGANIZATION_ID, "--scenario", "inactivity", "--limit", 1_500)
    header, *lines = told.out.splitlines()
    assert (told.code, len(lines)) == (0, 1_002)
    assert header.split() == [
        *("id", "user_id", "organization_id", "scenario", "triggered_at", "next_attempt_at", "attempts", "state"),
        "code",
    ]
    assert lines[999].split()[0] == first[999]["id"]
    assert lines[999].split()[-3:] == ["2", "due", "timeout"]
    assert [line.split()[-1] for line in lines[1_000:]] == ["waiting", "leased"]
    asked = [function_arguments(call.request) for call in route.calls]
    assert [(one["p_limit"], one["p_after_id"]) for one in asked] == [(1_000, None), (500, first[999]["id"])]
    assert {(one["p_organization_id"], one["p_scenario_type"]) for one in asked} == {
        (str(ORGANIZATION_ID), "inactivity")
    }


def test_failed_is_listed_without_what_it_told(run: Run, server: respx.MockRouter) -> None:
    """Newest first, with the code; metadata and subjects are the app's, in JSON too."""
    row = notification_row(
        delivery_status="failed", failure_code="expired", settled_at="2026-11-09T08:30:00+00:00",
        metadata={"x": "SECRET-ROW-VALUE"}, subjects=["SECRET-ROW-VALUE"],
    )  # fmt: skip
    server.get("/scenario_notifications").respond(json=[row])
    told, as_json, ids = run("failed"), run("failed", "--json"), run("failed", "--ids")
    assert told.out.splitlines()[1].endswith("2026-11-02 08:30 UTC  2026-11-09 08:30 UTC  expired")
    assert json.loads(as_json.out)[0]["failure_code"] == "expired"
    assert ids.out == f"{row['id']}\n"
    for one in (told, as_json):
        assert "SECRET-ROW-VALUE" not in one.out


@pytest.mark.parametrize("command", ["pending", "failed"])
def test_nothing_to_list_is_said_aside(run: Run, server: respx.MockRouter, command: str) -> None:
    """Standard output stays empty, or an empty array."""
    server.post("/rpc/scenario_list_pending").respond(json={"pending": []})
    server.get("/scenario_notifications").respond(json=[])
    told = run(command)
    assert (told.code, told.out, told.err) == (0, "", "scenario-repo: none\n")
    assert json.loads(run(command, "--json").out) == []


def test_a_terminal_has_a_table_in_colours(
    run: Run, server: respx.MockRouter, on_terminal: Callable[[int], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is wide enough; NO_COLOR takes the colours away."""
    server.post("/rpc/scenario_list_pending").respond(json={"pending": [pending_row()]})
    terminal = on_terminal(200)
    assert run("pending").code == 0
    assert "\x1b[" in terminal.getvalue()
    assert "id" in terminal.getvalue().splitlines()[0]
    monkeypatch.setenv("NO_COLOR", "1")
    plain = on_terminal(200)
    monkeypatch.setenv("NO_COLOR", "1")
    assert run("pending").code == 0
    assert "\x1b[3" not in plain.getvalue()


def test_a_table_leaves_out_what_was_asked_for(
    run: Run, server: respx.MockRouter, on_terminal: Callable[[int], Terminal]
) -> None:
    """On a terminal the one organization and scenario are known; in a pipe the columns are always the same."""
    row = pending_row()
    server.post("/rpc/scenario_list_pending").respond(json={"pending": [row]})
    scope = ("--organization", ORGANIZATION_ID, "--scenario", "inactivity")
    terminal = on_terminal(160)
    assert run("pending", *scope).code == 0
    shown = terminal.getvalue()
    assert row["id"] in shown.splitlines()[1]
    assert not {str(ORGANIZATION_ID), "organization_id", "inactivity"} & set(shown.split())


def test_a_narrow_terminal_has_one_field_a_line(
    run: Run, server: respx.MockRouter, on_terminal: Callable[[int], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 40 columns every id is whole, on a line with its name or behind it."""
    row = pending_row()
    server.post("/rpc/scenario_list_pending").respond(json={"pending": [row, pending_row()]})
    terminal = on_terminal(40)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert run("pending").code == 0
    lines = terminal.getvalue().splitlines()
    assert f"id              {row['id']}" in lines
    assert "scenario        inactivity" in lines
    assert "" in lines


# retry and cancel --------------------------------------------------------


def _ids(number: int) -> list[str]:
    return [str(UUID(int=n + 1)) for n in range(number)]


def test_retry_tells_what_became_of_each(run: Run, server: respx.MockRouter) -> None:
    """A line for each id in the order given, the sum aside; exit code 4 if one could not be retried."""
    first, second, third = _ids(3)
    new = str(UUID(int=99))
    route = server.post("/rpc/scenario_retry_notifications")
    route.respond(json={"answers": ["freed", "recorded", "unknown"], "ids": [None, new, None]})
    told = run("retry", first, second, third, first)
    assert told.code == 4
    assert told.out.splitlines() == [f"{first}  freed", f"{second}  recorded as {new}", f"{third}  unknown"]
    assert told.err == "scenario-repo: freed 1, recorded 1, unknown 1\n"
    assert function_arguments(route.calls.last.request) == {"p_ids": [first, second, third]}
    route.respond(json={"answers": ["freed"], "ids": [None]})
    as_json = run("retry", first, "--json")
    assert (as_json.code, json.loads(as_json.out)) == (
        0,
        [{"id": first, "answer": "freed", "notification_id": None}],
    )


def test_cancel_reads_ids_from_standard_input(
    run: Run, server: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dash: as many as there are, a thousand in a request."""
    ids = _ids(1_001)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(ids[:1_000]) + f"\n\n {ids[1_000]}\n"))
    route = server.post("/rpc/scenario_cancel_notifications").mock(
        side_effect=lambda request: httpx.Response(
            200, json={"answers": ["cancelled"] * len(json.loads(request.content)["p_ids"])}
        )
    )
    told = run("cancel", "-")
    assert (told.code, told.err) == (0, "scenario-repo: cancelled 1,001\n")
    assert [len(function_arguments(call.request)["p_ids"]) for call in route.calls] == [1_000, 1]
    assert told.out.splitlines()[-1] == f"{ids[-1]}  cancelled"


def test_cancel_ends_with_4_if_one_was_not_cancelled(run: Run, server: respx.MockRouter) -> None:
    """Somebody may be sending it."""
    server.post("/rpc/scenario_cancel_notifications").respond(json={"answers": ["cancelled", "leased"]})
    told = run("cancel", *_ids(2), "--json")
    assert told.code == 4
    assert [one["answer"] for one in json.loads(told.out)] == ["cancelled", "leased"]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("command", ["retry", "cancel"])
@pytest.mark.parametrize("text", ["", "\n \n"])
def test_no_ids_on_standard_input_are_none(run: Run, monkeypatch: pytest.MonkeyPatch, command: str, text: str) -> None:
    """`scenario-repo failed --ids | scenario-repo retry -` where nothing failed: nothing is asked, and all is well."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    told = run(command, "-")
    assert (told.code, told.out, told.err) == (0, "", "scenario-repo: no ids given\n")


@pytest.mark.usefixtures("server")
def test_reading_ids_can_be_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while standard input is waited for: one line, and the exit code of a run that stopped."""

    def waiting() -> Iterator[str]:
        yield str(UUID(int=1))
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", waiting())
    told = run("retry", "-")
    assert (told.code, told.out, told.err) == (1, "", "scenario-repo: interrupted\n")


# purge -------------------------------------------------------------------


def test_purge_goes_on_to_the_end(run: Run, server: respx.MockRouter) -> None:
    """Page after page, each behind the last user of the one before."""
    pages = [{"purged": 1_200, "next_after": str(USER_ID)}, {"purged": 34, "next_after": None}]
    route = server.post("/rpc/scenario_purge_notifications").mock(
        side_effect=[httpx.Response(200, json=page) for page in pages]
    )
    told = run("purge", "--older-than", "365d", "--page-size", 500)
    assert (told.code, told.out, told.err) == (0, "1,234 purged\n", "")
    assert [function_arguments(call.request) for call in route.calls] == [
        {"p_older_than_seconds": 31_536_000.0, "p_after": after, "p_limit": 500} for after in (None, str(USER_ID))
    ]


def test_purge_stops_at_its_time_budget(run: Run, server: respx.MockRouter) -> None:
    """Exit code 1, and how to go on: behind the last user."""

    async def answer(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.05)
        return httpx.Response(200, json={"purged": 1, "next_after": str(USER_ID)})

    route = server.post("/rpc/scenario_purge_notifications").mock(side_effect=answer)
    told = run("purge", "--older-than", "365d", "--time-budget", "0.2")
    assert (told.code, route.call_count <= 4) == (1, True)
    assert told.out.endswith(f"not finished: go on with --after {USER_ID}\n")
    told = run("purge", "--older-than", "365d", "--time-budget", "0.2", "--after", USER_ID, "--json")
    assert json.loads(told.out) | {"purged": 0} == {"purged": 0, "completed": False, "next_after": str(USER_ID)}
    assert function_arguments(route.calls.last.request)["p_after"] == str(USER_ID)


# mutes -------------------------------------------------------------------


def _mute(**overrides: object) -> dict[str, Any]:
    plain = {"organization_id": None, "scenario_type": None, "muted_until": None}
    return {"id": str(UUID(int=5)), "user_id": str(USER_ID), **plain, **overrides}


def test_a_mute_is_recorded_with_its_scope(run: Run, server: respx.MockRouter) -> None:
    """Of a scenario and an organization, until a day in UTC; or of everything for good."""
    stored = _mute(scenario_type="milestone", muted_until="2099-01-01T00:00:00+00:00")
    route = server.post("/scenario_mutes").respond(json=[stored])
    told = run("mute", USER_ID, "--organization", ORGANIZATION_ID, "--scenario", "milestone", "--until", "2099-01-01")
    assert told.code == 0
    assert told.out.splitlines()[1].split() == ["milestone", "all", "2099-01-01", "00:00", "UTC", "muted"]
    assert json.loads(route.calls.last.request.content) == {
        "user_id": str(USER_ID),
        "organization_id": str(ORGANIZATION_ID),
        "scenario_type": "milestone",
        "muted_until": "2099-01-01T00:00:00Z",
    }
    assert json.loads(run("mute", USER_ID, "--json").out)["muted_until"] == "2099-01-01T00:00:00Z"
    assert json.loads(route.calls.last.request.content)["muted_until"] is None


def test_a_mute_may_last_for_a_length_of_time(run: Run, server: respx.MockRouter) -> None:
    """From now on."""
    route = server.post("/scenario_mutes").respond(json=[_mute()])
    assert run("mute", USER_ID, "--until", "90d").code == 0
    until = datetime.fromisoformat(json.loads(route.calls.last.request.content)["muted_until"])
    assert abs(until - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)


def test_mutes_are_listed_and_taken_back(run: Run, server: respx.MockRouter) -> None:
    """What is over says so; to take back what is not there is no failure."""
    rows = [_mute(), _mute(scenario_type="milestone", muted_until="2020-01-01T00:00:00+00:00")]
    server.get("/scenario_mutes").respond(json=rows)
    lines = run("mutes", USER_ID).out.splitlines()
    assert lines[1].split() == ["all", "all", "for", "good", "muted"]
    assert lines[2].split()[-1] == "over"
    assert len(json.loads(run("mutes", USER_ID, "--json").out)) == 2
    server.get("/scenario_mutes").respond(json=[])
    assert run("mutes", USER_ID).err == "scenario-repo: none\n"
    route = server.delete("/scenario_mutes").respond(json=[_mute()])
    assert run("unmute", USER_ID, "--scenario", "milestone").out == "unmuted\n"
    assert route.calls.last.request.url.params["scenario_type"] == "eq.milestone"
    server.delete("/scenario_mutes").respond(json=[])
    assert json.loads(run("unmute", USER_ID, "--json").out) == {"was_muted": False}


# config ------------------------------------------------------------------


def test_config_shows_the_settings_that_are_given(run: Run, server: respx.MockRouter) -> None:
    """One a line, as config set takes them; with an organization, whose they are."""
    own = dict.fromkeys(settings_row()) | {"scenario_type": "inactivity", "organization_id": str(ORGANIZATION_ID)}
    rows = [settings_row(), settings_row(scenario_type="milestone", milestones=[10, 25]), own | {"cooldown": "90 days"}]
    server.get("/scenario_evaluation_config").respond(json=rows)
    lines = [line.split() for line in run("config", "get", "milestone").out.splitlines()]
    assert ["milestone", "milestones", "10,25"] in lines
    assert ["milestone", "is_enabled", "yes"] in lines
    assert {line[0] for line in lines} == {"scenario", "milestone"}
    lines = [
        line.split() for line in run("config", "get", "inactivity", "--organization", ORGANIZATION_ID).out.splitlines()
    ]
    assert ["inactivity", "cooldown", "30d", "all"] in lines
    assert lines[-1] == ["inactivity", "cooldown", "90d", "the", "organization"]
    assert json.loads(run("config", "get", "--json").out)[1]["milestones"] == [10, 25]
    missing = run("config", "get", "first_session")
    assert (missing.code, missing.out, len(missing.err.splitlines())) == (4, "", 1)


_VALUES = {
    "is_enabled": ("no", False),
    "cooldown": ("21d", "1814400.0 seconds"),
    "inactive_after": ("12h", "43200.0 seconds"),
    "returned_within": ("90m", "5400.0 seconds"),
    "expires_within": ("90", "90.0 seconds"),
    "milestones": ("10, 25,50", [10, 25, 50]),
    "due_within": ("none", None),
    "max_reminders": ("3", 3),
    "retry_failed_after": ("1d", "86400.0 seconds"),
    "deliver_within": ("7d", "604800.0 seconds"),
    "max_attempts": ("8", 8),
    "priority": ("0", 0),
}


def test_config_sets_every_setting(run: Run, server: respx.MockRouter) -> None:
    """Each by its name and in its words; the row that is stored is shown."""
    assert _VALUES.keys() == ScenarioSettings.model_fields.keys() - {"scenario_type", "organization_id"}
    route = server.patch("/scenario_evaluation_config").respond(json=[settings_row()])
    for name, (text, written) in _VALUES.items():
        told = run("config", "set", "inactivity", f"{name}={text}")
        assert told.code == 0, told.err
        assert json.loads(route.calls.last.request.content) == {name: written}
    assert ["inactivity", "cooldown", "30d"] in [line.split() for line in told.out.splitlines()]


def test_config_sets_several_for_one_organization(run: Run, server: respx.MockRouter) -> None:
    """In one request, so all of them or none."""
    route = server.post("/scenario_evaluation_config").respond(json=[settings_row()])
    told = run("config", "set", "inactivity", "cooldown=21d", "priority=1", "--organization", ORGANIZATION_ID, "--json")
    assert (told.code, json.loads(told.out)["cooldown"]) == (0, "P30D")
    assert json.loads(route.calls.last.request.content) == {
        "scenario_type": "inactivity",
        "organization_id": str(ORGANIZATION_ID),
        "cooldown": "1814400.0 seconds",
        "priority": 1,
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("colour=red", "no such setting: colour; there are is_enabled, cooldown,"),
        ("pass_due=1", "no such setting: pass_due"),
        ("cooldown", "expected cooldown=VALUE"),
        ("cooldown=tomorrow", "expected seconds, or a number with s, m, h or d behind it"),
        ("cooldown=0", "more than 0, at most 36525d; or none"),
        ("is_enabled=maybe", "expected one of true, yes, on, false, no, off"),
        ("milestones=10;25", "expected whole numbers with commas"),
        ("milestones=0", "expected a positive integer"),
        ("priority=10", "priority"),
        ("max_attempts=-1", "expected a whole number"),
    ],
)
def test_config_refuses_what_does_not_fit_unsent(run: Run, server: respx.MockRouter, given: str, said: str) -> None:
    """One line, exit code 2, and nothing is written, nor what was given beside it."""
    told = run("config", "set", "inactivity", "priority=1", given)
    assert (told.code, told.out, len(told.err.splitlines())) == (2, "", 1)
    assert said in told.err
    assert not server.calls


def test_config_refuses_a_setting_that_is_given_twice(run: Run) -> None:
    """Which of the two was meant, is not guessed."""
    told = run("config", "set", "inactivity", "cooldown=3d", "cooldown=4d")
    assert told.code == 2
    assert "expected cooldown once" in told.err


# Wrong usage -------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "pending --limit 0",
        "failed --scenario Birthday",
        "retry",
        "retry x",
        "cancel",
        f"cancel {USER_ID} x",
        "purge",
        "purge --older-than never",
        "mute",
        f"mute {USER_ID} --until tomorrow",
        "mutes x",
        "config",
        "config get Birthday",
        "config set inactivity",
    ],
)
def test_wrong_usage_ends_with_2_and_nothing_is_sent(run: Run, server: respx.MockRouter, line: str) -> None:
    """One line that says what was expected."""
    told = run(*line.split())
    assert (told.code, told.out, len(told.err.splitlines())) == (2, "", 1)
    assert not server.calls
