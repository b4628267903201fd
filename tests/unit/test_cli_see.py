"""scenario-repo left-out, outcomes, explain-notification, and a report for other programs."""

from __future__ import annotations

import csv
import json
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import httpx
import pytest
import respx

from scenario_repo._cli.past import past_lines
from scenario_repo.testing import (
    NOON,
    a_left_out,
    a_left_out_pass,
    a_notification_past,
    a_report_line,
    an_outcome_group,
    some_outcomes,
)
from tests.factories import ORGANIZATION_ID, USER_ID

if TYPE_CHECKING:  # pytest imports it first, as a plugin
    from tests.unit.command_line import Run

pytest_plugins = ["tests.unit.command_line"]

_DAY = timedelta(days=1)


def _asked(route: respx.Route) -> dict[str, Any]:
    arguments: dict[str, Any] = json.loads(route.calls.last.request.content)
    return arguments


# outcomes ----------------------------------------------------------------


def test_outcomes_are_shares_with_their_intervals_and_no_word_of_cause(run: Run, server: respx.MockRouter) -> None:
    """Both groups are a row; the difference is in points, and says that it names no cause."""
    route = server.post("/rpc/scenario_get_outcomes").respond(json=some_outcomes().model_dump(mode="json"))
    told = run("outcomes", ORGANIZATION_ID, "inactivity", "--within", "21d", "--days", 60)
    lines = told.out.splitlines()
    assert told.code == 0
    assert lines[1].split("  ")[0] == "told"
    assert lines[1].split() == ["told", "80", "20", "25.0%", "16.8%", "to", "35.5%", "-"]
    assert lines[2].split()[:4] == ["not", "told", "80", "20"]
    assert lines[3] == "difference: +0.0 points (95 %: -13.3 to +13.3); it names no cause"
    asked = _asked(route)
    assert (asked["p_scenario_type"], asked["p_within_seconds"]) == ("inactivity", 21 * 86_400)
    period = datetime.fromisoformat(asked["p_until"]) - datetime.fromisoformat(asked["p_since"])
    assert period == timedelta(days=60)
    assert json.loads(run("outcomes", ORGANIZATION_ID, "inactivity", "--json").out)["told"]["hoped"] == 20


def test_outcomes_of_a_fixed_period(run: Run, server: respx.MockRouter) -> None:
    """A quarter is asked for as it is, in UTC unless the time has a zone; a beginning alone lasts until now."""
    route = server.post("/rpc/scenario_get_outcomes").respond(json=some_outcomes().model_dump(mode="json"))
    assert not run(
        "outcomes", ORGANIZATION_ID, "inactivity", "--since", "2026-01-01", "--until", "2026-04-01T00:00+02:00"
    ).code
    asked = [datetime.fromisoformat(_asked(route)[name]) for name in ("p_since", "p_until")]
    assert asked == [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 31, 22, tzinfo=UTC)]
    run("outcomes", ORGANIZATION_ID, "inactivity", "--since", "2026-01-01")
    assert datetime.now(UTC) - datetime.fromisoformat(_asked(route)["p_until"]) < timedelta(minutes=1)
    assert not run("outcomes", ORGANIZATION_ID, "inactivity", "--until", "0001-01-01").code


def test_outcomes_of_a_few_are_not_shown(run: Run, server: respx.MockRouter) -> None:
    """What the database leaves out is a dash, and there is no difference."""
    few = an_outcome_group(persons=None, hoped=None, share=None, lowest=None, highest=None)
    outcomes = some_outcomes(not_told=few, difference=None)
    server.post("/rpc/scenario_get_outcomes").respond(json=outcomes.model_dump(mode="json"))
    lines = run("outcomes", ORGANIZATION_ID, "milestone").out.splitlines()
    assert lines[2].split() == ["not", "told", "-", "-", "-", "-", "-"]
    assert lines[3:] == ["hoped for: within 14d; -: fewer than 5 persons, or all but fewer than 5"]


def test_outcomes_without_a_date_claim_no_time(run: Run, server: respx.MockRouter) -> None:
    """Where no date says when it was done, the line does not say that it was in time."""
    outcomes = some_outcomes(says_when=False)
    server.post("/rpc/scenario_get_outcomes").respond(json=outcomes.model_dump(mode="json"))
    last = run("outcomes", ORGANIZATION_ID, "certification_expiry").out.splitlines()[-1]
    assert last.startswith("hoped for: by now: no date says when it was;")


def test_a_type_without_a_hope_says_so(run: Run, server: respx.MockRouter) -> None:
    """Instead of a share there is the name of the view that would say it."""
    outcomes = some_outcomes(says_hope=False, difference=None)
    server.post("/rpc/scenario_get_outcomes").respond(json=outcomes.model_dump(mode="json"))
    told = run("outcomes", ORGANIZATION_ID, "first_session").out
    assert "first_session does not say what it hopes for: there is no view scenario_private.first_session_hope" in told


# left-out ----------------------------------------------------------------


def test_left_out_says_whom_a_pass_left_out(run: Run, server: respx.MockRouter) -> None:
    """A line for each pass with its reasons; a few are not counted."""
    ended = datetime.now(UTC) - timedelta(hours=3, minutes=1)
    passes = [
        a_left_out_pass(finished_at=ended, left_out=(a_left_out(), a_left_out(reason="muted", mentors=None))),
        a_left_out_pass(scenario_type="milestone", finished_at=None, left_out=()),
    ]
    answer = {"passes": [one.model_dump(mode="json") for one in passes]}
    route = server.post("/rpc/scenario_get_left_out").respond(json=answer)
    told = run("left-out", "--organization", ORGANIZATION_ID)
    assert (told.code, told.out.splitlines()) == (
        0,
        [
            "inactivity, ended 3h 1m ago: cooldown 10, muted fewer than 5",
            "milestone, under way: nobody was left out",
        ],
    )
    assert (_asked(route)["p_organization_id"], _asked(route)["p_under_way"]) == (str(ORGANIZATION_ID), False)
    assert "muted few" in run("left-out").out
    assert len(json.loads(run("left-out", "--json").out)) == 2


def test_left_out_says_that_there_was_no_pass(run: Run, server: respx.MockRouter) -> None:
    """Before the first pass ends, or with none under way, there is a sentence and not nothing."""
    server.post("/rpc/scenario_get_left_out").respond(json={"passes": []})
    assert run("left-out").out == "no pass has ended yet\n"
    assert run("left-out", "--under-way").out == "no pass is under way\n"


# explain-notification ----------------------------------------------------


_NEXT = a_notification_past(id=USER_ID).id
_PASTS: list[tuple[dict[str, Any], list[str]]] = [
    (
        {},
        [
            "inactivity: triggered at {noon}; an evaluation claimed it.",
            "It was sent at {hour}.",
            "It holds until {month}.",
        ],
    ),
    (
        {"delivery_status": "failed", "failure_code": "muted", "origin": "claim", "holds": False, "holds_until": None},
        [
            "inactivity: triggered at {noon}; the app claimed it.",
            "It was decided not to tell it, at {hour}: the user did not want it (muted).",
            "It holds nothing: the user can be claimed for again.",
        ],
    ),
    (
        {"delivery_status": "failed", "failure_code": "quota", "origin": "insert", "unsettled_at": NOON},
        [
            "inactivity: triggered at {noon}; it was inserted.",
            "It could not be delivered, at {hour}: the sender says so (quota).",
            "The user may have been told by {noon}: nobody settled that lease.",
            "It holds until {month}.",
        ],
    ),
    (
        {
            "scenario_type": "milestone",
            "milestone_value": 25,
            "delivery_status": "failed",
            "failure_code": "superseded",
            "holds_until": None,
            "next_id": _NEXT,
            "next_triggered_at": NOON + _DAY,
            "next_milestone_value": 50,
        },
        [
            "milestone 25: triggered at {noon}; an evaluation claimed it.",
            "It was decided not to tell it, at {hour}: a newer one tells the same (superseded).",
            "It holds for good.",
            f"The next one of the type, 50, was triggered on {NOON + _DAY:%Y-%m-%d}: {_NEXT}.",
        ],
    ),
    (
        {"delivery_status": "pending", "next_attempt_at": NOON + _DAY},
        [
            "inactivity: triggered at {noon}; an evaluation claimed it.",
            "It is pending, to be handed out until {week}.",
            "It was not handed out yet.",
            "It waits for the moment at which it may be told, not before {day}.",
            "It holds until {month}.",
        ],
    ),
    (
        {
            "delivery_status": "pending",
            "failure_code": "timeout",
            "lease_count": 2,
            "attempt_count": 2,
            "next_attempt_at": NOON + _DAY,
        },
        [
            "inactivity: triggered at {noon}; an evaluation claimed it.",
            "It is pending, to be handed out until {week}.",
            "It was handed out 2 times, 2 tries spent.",
            "The last try failed: timeout.",
            "It is to be tried again, not before {day}.",
            "It holds until {month}.",
        ],
    ),
    (
        {"delivery_status": "pending", "lease_count": 1, "attempt_count": 1, "leased_until": NOON + _DAY},
        [
            "inactivity: triggered at {noon}; an evaluation claimed it.",
            "It is pending, to be handed out until {week}.",
            "It was handed out 1 time, 1 try spent.",
            "A worker has it in hand until {day}.",
            "It holds until {month}.",
        ],
    ),
    (
        {"delivery_status": "pending"},
        [
            "inactivity: triggered at {noon}; an evaluation claimed it.",
            "It is pending, to be handed out until {week}.",
            "It was not handed out yet.",
            "A worker may have it now.",
            "It holds until {month}.",
        ],
    ),
]


@pytest.mark.parametrize(("fields", "sentences"), _PASTS)
def test_a_past_is_told_in_sentences(fields: dict[str, Any], sentences: list[str]) -> None:
    """Each step is a sentence, with its time and its reason."""
    moments = {
        "noon": NOON,
        "hour": NOON + _DAY / 24,
        "day": NOON + _DAY,
        "week": NOON + 7 * _DAY,
        "month": NOON + 30 * _DAY,
    }
    written = {name: f"{moment:%Y-%m-%d %H:%M} UTC" for name, moment in moments.items()}
    assert past_lines(a_notification_past(**fields), NOON) == [line.format(**written) for line in sentences]


def test_explain_notification_asks_for_one(run: Run, server: respx.MockRouter) -> None:
    """Sentences for a person, JSON for a program, and a plain word where there is none."""
    past = a_notification_past()
    route = server.post("/rpc/scenario_explain_notification").respond(
        json={"notification": past.model_dump(mode="json")}
    )
    told = run("explain-notification", past.id)
    assert (told.code, len(told.out.splitlines())) == (0, 3)
    assert _asked(route)["p_id"] == str(past.id)
    assert json.loads(run("explain-notification", past.id, "--json").out)["id"] == str(past.id)
    route.respond(json={"notification": None})
    assert run("explain-notification", past.id).out == "there is no such notification\n"


# report ------------------------------------------------------------------


@pytest.fixture
def reported(server: respx.MockRouter) -> respx.Route:
    """Answer with two lines of the last day asked for."""

    def answer(request: httpx.Request) -> httpx.Response:
        day = datetime.fromisoformat(json.loads(request.content)["p_until"]).date()
        lines = [a_report_line(day=day, notifications=7), a_report_line(day=day, delivery_status="failed")]
        return httpx.Response(200, json={"lines": [line.model_dump(mode="json") for line in lines]})

    return server.post("/rpc/scenario_get_organization_report").mock(side_effect=answer)


def test_a_report_is_csv_for_a_spreadsheet(run: Run, reported: respx.Route) -> None:
    """A line of names, and a line for each day, type, status and code."""
    told = run("report", ORGANIZATION_ID, "--csv")
    rows = list(csv.DictReader(told.out.splitlines()))
    assert [(row["delivery_status"], row["failure_code"], row["notifications"]) for row in rows] == [
        ("sent", "", "7"),
        ("failed", "expired", "5"),
    ]
    assert reported.called
    assert run("report", ORGANIZATION_ID, "--csv", "--json").code == 2


def test_a_report_of_few_persons_has_no_number_and_says_so(run: Run, server: respx.MockRouter, tmp_path: Path) -> None:
    """Days of fewer than 5 are one line without a date; of fewer than 5 in all it has no number, in no form."""
    day = datetime.now(UTC).date()
    lines = [
        a_report_line(day=day, notifications=7),
        a_report_line(day=None, notifications=6),
        a_report_line(day=None, delivery_status="failed", notifications=None),
    ]
    answer = {"lines": [line.model_dump(mode="json") for line in lines]}
    server.post("/rpc/scenario_get_organization_report").respond(200, json=answer)

    told = run("report", ORGANIZATION_ID, "--days", 2, "--chart", tmp_path / "few.svg").out
    assert "not counted, fewer than 5 persons each: inactivity failed expired\n" in told
    assert "total 0 13 0 13" in [" ".join(line.split()) for line in told.splitlines()]
    assert told.splitlines()[-1] == "days of fewer than 5 persons, together  6"
    drawn = (tmp_path / "few.svg").read_text()
    assert "(UTC; without numbers of fewer than 5 persons)" in drawn
    assert [told.splitlines()[-2].split()[-1], ">7<" in drawn, ">13<" in drawn] == ["7", True, False]
    rows = list(csv.DictReader(run("report", ORGANIZATION_ID, "--csv").out.splitlines()))
    assert [(row["day"], row["notifications"]) for row in rows] == [(str(day), "7"), ("", "6"), ("", "")]
    dumped = json.loads(run("report", ORGANIZATION_ID, "--json").out)
    assert [(line["day"], line["notifications"]) for line in dumped["lines"]][1:] == [(None, 6), (None, None)]
    assert dumped["undelivered"] == {}


def test_a_reports_days_are_a_zones(run: Run, reported: respx.Route) -> None:
    """The period begins at that zone's midnight; a zone that nobody knows is refused before anything is asked."""
    assert run("report", ORGANIZATION_ID, "--time-zone", "Asia/Kathmandu", "--days", 2).code == 0
    asked = _asked(reported)
    assert asked["p_time_zone"] == "Asia/Kathmandu"
    assert asked["p_since"].partition("T")[2].startswith("18:15:00")
    calls = reported.call_count
    assert run("report", ORGANIZATION_ID, "--time-zone", "Mars/Olympus").code == 2
    assert reported.call_count == calls


@pytest.mark.usefixtures("reported")
def test_a_report_is_drawn(run: Run, tmp_path: Path) -> None:
    """The chart is an SVG with a series for each status, and asks nothing of the outside."""
    file = tmp_path / "report.svg"
    told = run("report", ORGANIZATION_ID, "--chart", file, "--json")
    assert (told.code, json.loads(told.out)["time_zone"]) == (0, "UTC")
    drawn = file.read_text()
    assert not any(type(finder).__module__ == "pygal" for finder in sys.meta_path)
    assert version("scenario_repo")
    assert ET.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own file
    assert all(f">{status}<" in drawn for status in ("sent", "failed", "pending"))
    assert not any(word in drawn for word in ("script", "href", "@import", "url("))


@pytest.mark.usefixtures("reported")
def test_a_chart_without_its_library_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written, and the sentence names the extra."""
    monkeypatch.setitem(sys.modules, "pygal", None)
    told = run("report", ORGANIZATION_ID, "--chart", tmp_path / "report.svg")
    assert told.code == 2
    assert "scenario_repo[charts]" in told.err
    assert not list(tmp_path.iterdir())
