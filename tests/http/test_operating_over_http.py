"""An operator's commands against the embedded stack: look, change, and look again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from scenario_repo import ScenarioNotification, cli
from tests.http.supabase_platform import Platform
from tests.rows import ago, insert_activities, insert_mentors

Run = Callable[..., Any]


@pytest.fixture
def run(platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command against the platform; return its lines, or its JSON, and expect the exit code."""
    monkeypatch.setenv("SUPABASE_URL", platform.url)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", platform.secret_key)
    monkeypatch.delenv("SUPABASE_SECRET_KEYS", raising=False)

    def run_command(*arguments: object, code: int = 0) -> Any:  # noqa: ANN401 - lines or JSON
        ended = cli.main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        assert ended == code, told.err
        if code:
            return told.err.splitlines()
        return json.loads(told.out) if "--json" in arguments else told.out.splitlines()

    return run_command


@pytest.fixture
def organization_id(platform: Platform) -> Iterator[UUID]:
    """Name an organization of the test's own, whose settings are deleted after it."""
    organization = uuid4()
    yield organization
    platform.execute("delete from public.scenario_evaluation_config where organization_id = %s", organization)


@pytest.fixture
def mentors(platform: Platform, new_users: Callable[[int], list[UUID]], organization_id: UUID) -> list[UUID]:
    """Make three mentors who were active last 40 days ago."""
    users = new_users(3)
    with platform.owner() as owner:
        insert_mentors(owner, users, organization_id=organization_id)
        insert_activities(owner, users, ago("40 days"), organization_id=organization_id)
    return users


def test_what_is_pending_is_seen_cancelled_and_retried(run: Run, mentors: list[UUID], organization_id: UUID) -> None:
    """A dry run lists who is due; then they are pending, one is cancelled, has failed so, and is freed again."""
    scope = ("--organization", organization_id)
    listed = run("evaluate", "--scenario", "inactivity", *scope, "--dry-run", "--list")
    assert sorted(listed) == sorted(f"inactivity  {user}  {organization_id}" for user in mentors)
    run("evaluate", "--scenario", "inactivity", *scope)

    pending = run("pending", *scope, "--json")
    assert {one["user_id"] for one in pending} == set(map(str, mentors))
    assert run("pending", *scope, "--scenario", "milestone") == []
    assert run("pending", *scope, "--ids", "--limit", 2) == [one["id"] for one in pending[:2]]
    status = run("status", "--json")
    (inactivity,) = [one for one in status["scenarios"] if one["scenario_type"] == "inactivity"]
    assert inactivity["due_now"] + inactivity["waiting"] >= 3
    assert any(line.startswith("inactivity ") for line in run("status"))

    first = pending[0]["id"]
    assert run("cancel", first) == [f"{first}  cancelled"]
    assert run("cancel", first, code=4) == ["scenario-repo: already_settled 1"]
    (failed,) = run("failed", *scope, "--json")
    assert (failed["id"], failed["failure_code"]) == (first, "cancelled")
    assert run("failed", *scope, "--scenario", "milestone", "--ids") == []
    codes = {one["failure_code"] for one in run("status", "--json")["failures"]}
    assert "cancelled" in codes
    assert run("retry", first) == [f"{first}  freed"]
    assert run("retry", uuid4(), code=4) == ["scenario-repo: unknown 1"]


def test_what_failed_is_paged_newest_first(
    run: Run, platform: Platform, mentors: list[UUID], organization_id: UUID
) -> None:
    """Page after page has each once, also those of the same moment."""
    run("evaluate", "--scenario", "inactivity", "--organization", organization_id)
    run("cancel", *run("pending", "--organization", organization_id, "--ids"))
    one, *rest = [row for (row,) in platform.execute(
        "select id from public.scenario_notifications where organization_id = %s order by triggered_at desc, id desc",
        organization_id,
    )]  # fmt: skip
    assert len(rest) == len(mentors) - 1
    assert run("failed", "--organization", organization_id, "--ids") == [str(one), *map(str, rest)]

    async def page_by_page() -> list[UUID]:
        seen: list[ScenarioNotification] = []
        async with platform.worker() as repository:
            while page := await repository.list_failed(organization_id, None, seen[-1] if seen else None, 1):
                seen += page
        return [row.id for row in seen]

    assert asyncio.run(page_by_page()) == [one, *rest]


def test_a_mute_comes_and_goes(run: Run, mentors: list[UUID], organization_id: UUID) -> None:
    """Of one scenario of one organization; explained as such, and taken back."""
    scope = ("--organization", organization_id, "--scenario", "inactivity")
    run("mute", mentors[0], *scope, "--until", "90d")
    (mute,) = run("mutes", mentors[0], "--json")
    assert (mute["organization_id"], mute["scenario_type"]) == (str(organization_id), "inactivity")
    assert "inactivity: not due, the user does not want it (muted)" in run("explain", mentors[0])
    assert run("unmute", mentors[0], *scope) == ["unmuted"]
    assert run("mutes", mentors[0]) == []


def test_settings_of_an_organization_are_overridden(run: Run, mentors: list[UUID], organization_id: UUID) -> None:
    """A new row, then a change of one setting that leaves the other; none takes it away; the evaluation follows."""
    scope = ("--organization", organization_id)
    run("config", "set", "inactivity", "inactive_after=41d", "cooldown=60d", *scope)
    assert run("evaluate", "--scenario", "inactivity", *scope, "--dry-run", "--list") == []
    changed = run("config", "set", "inactivity", "inactive_after=39d", *scope, "--json")
    assert (changed["inactive_after"], changed["cooldown"]) == ("P39D", "P60D")
    assert len(run("evaluate", "--scenario", "inactivity", *scope, "--dry-run", "--list")) == len(mentors)
    assert run("config", "set", "inactivity", "cooldown=none", *scope, "--json")["cooldown"] is None
    own = [line for line in run("config", "get", "inactivity", *scope) if line.endswith("the organization")]
    assert [line.split()[1:3] for line in own] == [["inactive_after", "39d"]]


def test_default_settings_are_changed_or_refused_as_a_whole(run: Run, organization_id: UUID) -> None:
    """What does not belong to the scenario, or may not be missing, is refused by its constraint, in one line."""
    before = run("config", "get", "--json")
    (priority,) = [one["priority"] for one in before if one["scenario_type"] == "welcome_back"]
    assert run("config", "set", "welcome_back", f"priority={priority}", "--json")["priority"] == priority
    for wrong in (("max_reminders=1",), ("cooldown=none",), ("returned_within=31d",)):
        (line,) = run("config", "set", "welcome_back", "priority=9", *wrong, code=2)
        assert "constraint scenario_evaluation_config_" in line
    (line,) = run("config", "set", "no_such_type", "priority=1", code=2)
    assert "scenario_type" in line
    run("config", "set", "no_such_type", "priority=1", "--organization", organization_id, code=2)
    assert run("config", "get", "--json") == before


def test_a_purge_ends(run: Run) -> None:
    """Nothing is that old."""
    assert run("purge", "--older-than", "36000d", "--json") == {"purged": 0, "completed": True, "next_after": None}


def test_the_installation_is_whole(run: Run) -> None:
    """As the tests installed it."""
    assert run("verify", "--json")["faults"] == []


def test_a_setting_is_tried_and_a_person_exported_and_erased(
    run: Run, mentors: list[UUID], organization_id: UUID
) -> None:
    """What would change is seen and not changed; then one of three is claimed for, exported, erased, and due again."""
    scope = ("--organization", organization_id)
    listed = run("simulate", "inactivity", "--set", "inactive_after=41d", *scope, "--list")
    assert sorted(listed) == sorted(f"- {user}  {organization_id}" for user in mentors)
    found = run("simulate", "inactivity", "--set", "is_enabled=no", *scope, "--json")
    assert (found["today"]["claimed"], found["simulated"]["evaluated"]) == (3, 0)
    assert run("evaluate", "--scenario", "inactivity", *scope, "--json")["scenarios"][0]["claimed"] == 3
    user_id = mentors[0]
    exported = json.loads("\n".join(run("export", user_id)))
    assert [row["scenario_type"] for row in exported["notifications"]] == ["inactivity"]
    assert len(exported["sources"]["activities"]) == 1
    assert run("erase", user_id, "--yes", "--json")["notifications"] == 1
    assert json.loads("\n".join(run("export", user_id)))["notifications"] == []
    dry = run("evaluate", "--scenario", "inactivity", *scope, "--dry-run", "--list")
    assert dry == [f"inactivity  {user_id}  {organization_id}"]
