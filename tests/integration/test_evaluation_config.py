"""The settings of evaluation: what is refused, what an organization overrides, and what it inherits."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from tests.integration.database import Database
from tests.integration.evaluation import (
    OTHER_ORGANIZATION,
    act,
    certify,
    evaluate,
)
from tests.rows import ORGANIZATION

_PREFIX = "scenario_evaluation_config_"


@pytest.fixture
def database(emptied: Database) -> Database:
    """Keep one database for all tests, emptied after each."""
    return emptied


def override(worker: psycopg.Connection, kind: str, organization_id: UUID = ORGANIZATION, **settings: object) -> None:
    """Give an organization settings of its own."""
    columns = "".join(f", {name}" for name in settings)
    worker.execute(
        f"insert into public.scenario_evaluation_config (scenario_type, organization_id{columns})"
        f" values (%s, %s{', %s' * len(settings)})",
        [kind, organization_id, *settings.values()],
    )


@pytest.mark.parametrize("scope", ["default", "override"])
@pytest.mark.parametrize(
    ("kind", "setting", "constraint"),
    [
        ("inactivity", "cooldown = '-1 day'", "intervals_are_positive"),
        ("inactivity", "cooldown = '0'", "intervals_are_positive"),
        ("inactivity", "inactive_after = '-1 microsecond'", "intervals_are_positive"),
        ("welcome_back", "returned_within = '0'", "intervals_are_positive"),
        ("certification_expiry", "expires_within = '-3 days'", "intervals_are_positive"),
        ("inactivity", "cooldown = '36526 days'", "intervals_are_at_most_36525_days"),
        ("certification_expiry", "expires_within = '100000 days'", "intervals_are_at_most_36525_days"),
        ("inactivity", "inactive_after = '1 month'", "intervals_have_no_months"),
        ("certification_expiry", "cooldown = '1 year'", "intervals_have_no_months"),
        ("welcome_back", "(returned_within, inactive_after) = ('8 days', '7 days')", "window_fits_inside_gap"),
        ("milestone", "milestones = '{}'", "milestones_are_positive"),
        ("milestone", "milestones = '{10, 0}'", "milestones_are_positive"),
        ("milestone", "milestones = '{10, null}'", "milestones_are_positive"),
        ("milestone", "cooldown = '7 days'", "settings_belong_to_their_scenario"),
        ("inactivity", "milestones = '{10}'", "settings_belong_to_their_scenario"),
        ("inactivity", "returned_within = '1 day'", "settings_belong_to_their_scenario"),
        ("milestone", "expires_within = '1 day'", "settings_belong_to_their_scenario"),
        ("certification_expiry", "inactive_after = '1 day'", "settings_belong_to_their_scenario"),
        ("inactivity", "scenario_type = 'birthday'", "scenario_type_is_known"),
    ],
)
def test_a_nonsensical_setting_is_refused_by_a_constraint_that_says_why(
    worker: psycopg.Connection, kind: str, setting: str, constraint: str, scope: str
) -> None:
    """The service role changes settings by plain updates; the name of what refuses one is the explanation."""
    if scope == "override":
        override(worker, kind)
    where = "organization_id is null" if scope == "default" else "organization_id is not null"
    with pytest.raises(errors.CheckViolation) as refused:
        worker.execute(
            f"update public.scenario_evaluation_config set {setting} where scenario_type = %s and {where}".encode(),
            [kind],
        )
    assert refused.value.diag.constraint_name == _PREFIX + constraint


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("inactivity", "is_enabled"),
        ("inactivity", "cooldown"),
        ("inactivity", "inactive_after"),
        ("welcome_back", "returned_within"),
        ("certification_expiry", "expires_within"),
        ("milestone", "milestones"),
        *((kind, "due_within") for kind in ("inactivity", "milestone", "welcome_back")),
        ("inactivity", "max_reminders"),
        *(
            ("certification_expiry", setting)
            for setting in ("retry_failed_after", "deliver_within", "max_attempts", "priority")
        ),
    ],
)
def test_a_default_has_to_be_complete(worker: psycopg.Connection, kind: str, setting: str) -> None:
    """What an organization may leave out, the default has to give."""
    with pytest.raises(errors.CheckViolation) as refused:
        worker.execute(
            f"update public.scenario_evaluation_config set {setting} = null"
            " where scenario_type = %s and organization_id is null".encode(),
            [kind],
        )
    assert refused.value.diag.constraint_name == f"{_PREFIX}default_is_complete"


@pytest.mark.parametrize("organization_id", [None, ORGANIZATION])
def test_a_scope_has_one_row(worker: psycopg.Connection, organization_id: UUID | None) -> None:
    """Neither a default nor an organization's settings can be given twice."""
    copied = (
        "is_enabled, inactive_after, cooldown, due_within, max_reminders, retry_failed_after, deliver_within,"
        " max_attempts, priority"
    )
    if organization_id is not None:
        override(worker, "inactivity")
    with pytest.raises(errors.UniqueViolation) as refused:
        worker.execute(
            f"insert into public.scenario_evaluation_config (scenario_type, organization_id, {copied})"
            f" select scenario_type, %s::uuid, {copied} from public.scenario_evaluation_config"
            " where scenario_type = 'inactivity' and organization_id is null".encode(),
            [organization_id],
        )
    assert refused.value.diag.constraint_name == f"{_PREFIX}one_row_per_scope"


@pytest.mark.parametrize(
    ("kind", "setting", "narrow"),
    [
        ("inactivity", "inactive_after", "41 days"),
        ("certification_expiry", "expires_within", "2 days"),
        ("welcome_back", "returned_within", "2 days"),
        ("welcome_back", "inactive_after", "38 days"),
    ],
)
def test_each_period_can_be_overridden_alone(
    database: Database, worker: psycopg.Connection, kind: str, setting: str, narrow: str
) -> None:
    """A mentor who is due by the defaults is not where the organization's own period is stricter."""
    ours, theirs = database.new_mentors(1, ORGANIZATION)[0], database.new_mentors(1, OTHER_ORGANIZATION)[0]
    for mentor, organization in ((ours, ORGANIZATION), (theirs, OTHER_ORGANIZATION)):
        act(worker, mentor, "40 days", *(["3 days"] if kind == "welcome_back" else []))
        certify(worker, mentor, "3 days", organization_id=organization)
    override(worker, kind, ORGANIZATION, **{setting: narrow})
    due = {
        organization: evaluate(worker, kind, organization)["due"] for organization in (ORGANIZATION, OTHER_ORGANIZATION)
    }
    assert due == {ORGANIZATION: 0, OTHER_ORGANIZATION: 1}


def test_an_organization_overrides_what_it_gives_and_inherits_the_rest(
    database: Database, worker: psycopg.Connection
) -> None:
    """A shorter period holds for its mentors alone, with the default's cooldown; a later default reaches them too."""
    (patient,) = database.new_mentors(1, OTHER_ORGANIZATION)
    (hasty,) = database.new_mentors(1, ORGANIZATION)
    for mentor in (patient, hasty):
        database.add_activities(mentor, timedelta(days=10))
    override(worker, "inactivity", inactive_after="5 days")
    assert evaluate(worker, "inactivity")["claimed"] == 1
    database.let_pass(timedelta(days=29))
    assert evaluate(worker, "inactivity", ORGANIZATION)["skipped"] == {"cooldown": 1}
    worker.execute(
        "update public.scenario_evaluation_config set cooldown = '7 days'"
        " where organization_id is null and scenario_type = 'inactivity'"
    )
    assert evaluate(worker, "inactivity", ORGANIZATION)["claimed"] == 1


def test_a_window_longer_than_the_inherited_gap_still_finds_returns(
    database: Database, worker: psycopg.Connection
) -> None:
    """An organization that only shortens the gap, below the default's window, welcomes back after that gap."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    database.add_activities(mentor, timedelta(days=1), timedelta(days=5), timedelta(days=6), timedelta(days=7.5))
    override(worker, "welcome_back", inactive_after="3 days")
    assert evaluate(worker, "welcome_back")["claimed"] == 1


def test_a_scenario_disabled_for_an_organization_costs_and_says_nothing_there(
    database: Database, worker: psycopg.Connection
) -> None:
    """Its mentors are not evaluated; the others are, and explain says which it is."""
    (mentor,) = database.new_mentors(1, ORGANIZATION)
    (other,) = database.new_mentors(1, OTHER_ORGANIZATION)
    for user_id in (mentor, other):
        database.add_activities(user_id, timedelta(days=40))
    override(worker, "inactivity", is_enabled=False)
    page = evaluate(worker, "inactivity")
    assert (page["evaluated"], page["claimed"]) == (1, 1)
    assert evaluate(worker, "inactivity", ORGANIZATION)["evaluated"] == 0
    row = worker.execute("select public.scenario_explain(%s)", [mentor]).fetchone()
    assert row is not None
    verdicts = {verdict["scenario_type"]: (verdict["is_due"], verdict["reason"]) for verdict in row[0]["explanations"]}
    assert verdicts["inactivity"] == (False, "scenario_disabled")
    assert verdicts["welcome_back"] == (False, "not_active_lately")


def test_a_scenario_disabled_for_all_can_be_enabled_for_one(database: Database, worker: psycopg.Connection) -> None:
    """The default's off is everybody's, but for the organization that says on."""
    for organization in (ORGANIZATION, OTHER_ORGANIZATION):
        (mentor,) = database.new_mentors(1, organization)
        database.add_activities(mentor, timedelta(days=40))
    worker.execute("update public.scenario_evaluation_config set is_enabled = false where organization_id is null")
    assert evaluate(worker, "inactivity")["evaluated"] == 0
    override(worker, "inactivity", is_enabled=True)
    page = evaluate(worker, "inactivity")
    assert (page["evaluated"], page["claimed"]) == (1, 1)


def test_without_a_default_a_pass_is_refused_rather_than_endless(
    database: Database, worker: psycopg.Connection
) -> None:
    """A pass whose row is gone has nowhere to keep its place: it says so, and does not begin again for ever."""
    database.new_mentors(3, ORGANIZATION)
    worker.execute("delete from public.scenario_evaluation_config where organization_id is null")
    with pytest.raises(psycopg.Error) as refused:
        worker.execute("select public.scenario_evaluate_next_page('inactivity', null, 2)")
    assert refused.value.sqlstate == "SR005"
    with pytest.raises(psycopg.Error, match="the default settings of inactivity are missing"):
        worker.execute("select public.scenario_evaluate('inactivity')")
