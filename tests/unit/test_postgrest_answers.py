"""An app's unit test gives the answers that PostgreSQL would give, and sees what was asked."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from scenario_repo import (
    DeliveryResult,
    DeliveryWorker,
    InvalidDataException,
    LeasedNotification,
    RetryAnswer,
    ScenarioNotificationRepository,
    ScenarioRepositoryException,
    ScenarioType,
    SettlementAnswer,
    SkipReason,
    UnavailableException,
    connect,
    exceptions,
)
from scenario_repo.testing import (
    NOON,
    USER_ID,
    PostgrestAnswers,
    UnansweredRequestError,
    a_claim,
    a_day_off,
    a_failure_count,
    a_lease,
    a_leased_notification,
    a_leased_outcome,
    a_left_out_pass,
    a_mute,
    a_new_mute,
    a_new_notification,
    a_notification,
    a_notification_past,
    a_pending_notification,
    a_policy,
    a_purged_page,
    a_report,
    a_retry_outcome,
    a_rule_check,
    a_scenario_pass,
    a_schema_description,
    a_settlement,
    a_simulation,
    a_status,
    an_erasure,
    an_evaluation_page,
    an_explanation,
    an_outcome,
    id_of_claim,
    personal_data,
    some_outcomes,
    some_settings,
)
from tests.unit.leaks import CALLS

COROUTINES: Final = {
    name
    for name, _ in inspect.getmembers(ScenarioNotificationRepository, inspect.iscoroutinefunction)
    if not name.startswith("_")
}
NOTIFICATION: Final = a_notification()
GIVEN: Final[dict[str, tuple[object, object]]] = {
    "add_days_off": ([day := a_day_off()], [day]),
    "begin_run": ((begun := (a_scenario_pass(), a_scenario_pass(scenario_type="milestone", place=2))), begun),
    "cancel_notifications": (["cancelled"], ["cancelled"]),
    "check_rule": (check := a_rule_check(), check),
    "delete_delivery_policy": (a_policy(), True),
    "describe_schema": (schema := a_schema_description(), schema),
    "evaluate_next_page": (page := an_evaluation_page(skipped={SkipReason.COOLDOWN: 2}), page),
    "evaluate_scenario": (page, page),
    "explain_notification": (past := a_notification_past(), past),
    "explain_scenarios": ([explanation := an_explanation(held_by=uuid4())], [explanation]),
    "get_delivery_policies": ([policy := a_policy()], [policy]),
    "get_last_delivered_at": (NOON, NOON),
    "get_last_delivered_at_many": ({USER_ID: NOON}, {USER_ID: NOON}),
    "get_last_sent_at": (NOON, NOON),
    "get_last_sent_at_many": ({}, {USER_ID: None}),
    "get_left_out": ([left_out := a_left_out_pass()], [left_out]),
    "get_milestone_record": (NOTIFICATION, NOTIFICATION),
    "get_milestone_record_many": ({USER_ID: NOTIFICATION}, {USER_ID: NOTIFICATION}),
    "get_outcomes": (outcomes := some_outcomes(), outcomes),
    "get_settings": ([settings := some_settings(milestones=(10, 25))], [settings]),
    "erase_person": (erasure := an_erasure(notifications=3, mutes=1), erasure),
    "export_person": (data := personal_data(mutes=({"id": str(USER_ID)},)), data),
    "simulate": (simulation := a_simulation(simulated=an_evaluation_page(due=3, claimed=3)), simulation),
    "get_status": (status := a_status(failures=(a_failure_count(last_day=2),)), status),
    "has_been_delivered_since": (True, True),
    "has_been_delivered_since_many": ({USER_ID: True}, {USER_ID: True}),
    "has_been_sent_since_threshold": (False, False),
    "has_been_sent_since_threshold_many": ({}, {USER_ID: False}),
    "insert_notification": (NOTIFICATION, NOTIFICATION),
    "lease_notifications": (lease := a_lease(deferred=2, next_due_at=NOON), lease),
    "list_days_off": ([day], [day]),
    "list_failed": ([failed := a_notification(delivery_status="failed")], [failed]),
    "list_mutes": ([mute := a_mute(muted_until=NOON)], [mute]),
    "list_notifications": ([NOTIFICATION, a_notification(scenario_type="milestone")], None),
    "list_pending": ([pending := a_pending_notification()], [pending]),
    "mute": (mute, mute),
    "purge_notifications": (7, 7),
    "purge_page": (purged := a_purged_page(purged=3, next_after=USER_ID), purged),
    "remove_days_off": ([day], 1),
    "retry_notifications": ([retried := a_retry_outcome(answer=RetryAnswer.RECORDED)], [retried]),
    "set_delivery_policy": (policy, policy),
    "set_settings": (settings, settings),
    "settle_notifications": (["lease_lost"], ["lease_lost"]),
    "unmute": (None, False),
}
"""What a test gives to a method, and what the app then gets (None: the same)."""


def test_every_method_can_be_answered() -> None:
    """Whoever adds a method to the repository adds its answer, and a line to the table above."""
    public = {name for name, _ in inspect.getmembers(PostgrestAnswers, inspect.isfunction) if not name.startswith("_")}
    assert public - {"asked", "fail"} == COROUTINES
    assert {*GIVEN, "claim_notifications", "get_organization_report", "verify_installation"} == COROUTINES


@pytest.mark.parametrize("method", sorted(GIVEN))
async def test_the_app_gets_what_the_test_gives(method: str) -> None:
    """Each value goes over the wire and comes out equal; the request was seen, under its method's name alone."""
    given, expected = GIVEN[method]
    with PostgrestAnswers() as answers:
        getattr(answers, method)(given)
        async with connect(answers.url, answers.secret_key) as client:
            got = await CALLS[method](ScenarioNotificationRepository(client))
    assert got == (given if expected is None else expected)
    assert len(answers.asked(method)) == 1


async def test_a_report_covers_what_was_asked_for() -> None:
    """The organization and the days are the caller's; the lines are the answer's."""
    report = a_report()
    with PostgrestAnswers() as answers:
        answers.get_organization_report(report)
        async with connect(answers.url, answers.secret_key) as client:
            repository = ScenarioNotificationRepository(client)
            got = await repository.get_organization_report(report.organization_id, report.since, report.until)
    assert got == report


async def test_an_installation_is_whole_or_lacks_what_the_test_says() -> None:
    """The faults are found by the library, as in a real one."""
    with PostgrestAnswers() as answers:
        answers.verify_installation()
        answers.verify_installation("public.scenario_mutes")
        async with connect(answers.url, answers.secret_key) as client:
            repository = ScenarioNotificationRepository(client)
            whole, lacking = [await repository.verify_installation() for _ in range(2)]
    assert (whole.ok, lacking.ok) == (True, False)
    assert {fault.what for fault in lacking.faults} >= {"public.scenario_mutes: expected a table, got none"}


async def _claimed(outcomes: list[Any], lease: timedelta | None = None, **claim: Any) -> list[Any]:  # noqa: ANN401
    with PostgrestAnswers() as answers:
        answers.claim_notifications(outcomes)
        async with connect(answers.url, answers.secret_key) as client:
            repository = ScenarioNotificationRepository(client)
            claims = [a_claim(**claim) for _ in outcomes]
            return list(await repository.claim_notifications(claims, lease) if lease else
                        await repository.claim_notifications(claims))  # fmt: skip


async def test_a_claim_is_granted_or_skipped_as_the_test_says() -> None:
    """What comes from the claim is the claim's; the moments, the subjects and the reasons are the answer's."""
    granted = an_outcome(notification=a_notification(cooldown_window_start=NOON), new_subjects=("b",))
    late = an_outcome(notification=a_notification(triggered_at=NOON + timedelta(hours=1)))
    skipped = an_outcome(skip_reason=SkipReason.COOLDOWN)
    first, second, third = await _claimed([granted, skipped, late], subjects=("a", "b"), metadata={"n": 1})
    assert second == skipped
    assert (first.notification.id, third.notification.id) == (id_of_claim(1), id_of_claim(3))
    assert first.notification.cooldown_window_start == NOON
    assert (first.new_subjects, third.new_subjects) == (("b",), ("a", "b"))
    assert first.notification.metadata == {"n": 1}
    assert third.notification.triggered_at == NOON + timedelta(hours=1)
    assert third.notification.deliver_until == NOON + timedelta(days=7, hours=1)


async def test_a_claim_with_a_lease_gets_the_leased_row() -> None:
    """The very notification of the test, under its own id."""
    granted, skipped = a_leased_outcome(), a_leased_outcome(skip_reason=SkipReason.NOT_NOW, ends_at=NOON)
    first, second = await _claimed([granted, skipped], timedelta(minutes=1))
    assert (first.notification, second) == (granted.notification, skipped)


async def test_another_number_of_outcomes_is_an_unfit_answer() -> None:
    """A test that gives too few is told so by the repository, as a server's fault."""
    with PostgrestAnswers() as answers:
        answers.cancel_notifications(["cancelled", "cancelled"])
        async with connect(answers.url, answers.secret_key) as client:
            with pytest.raises(exceptions.UnexpectedResponseException, match="expected 1 answers, got 2"):
                await ScenarioNotificationRepository(client).cancel_notifications([USER_ID])


async def test_a_request_is_seen_as_the_database_gets_it() -> None:
    """Functions by their arguments, tables by their filters and rows."""
    with PostgrestAnswers() as answers:
        answers.lease_notifications([])
        answers.list_mutes([])
        answers.insert_notification(NOTIFICATION)
        async with connect(answers.url, answers.secret_key) as client:
            repository = ScenarioNotificationRepository(client)
            await repository.lease_notifications(5, scenario_types=[ScenarioType.INACTIVITY])
            await repository.list_mutes(USER_ID)
            await repository.insert_notification(a_new_notification(metadata={"n": 1}))
    (leased,), (listed,), (inserted,) = map(answers.asked, ("lease_notifications", "list_mutes", "insert_notification"))
    assert leased.arguments == {
        "p_limit": 5,
        "p_lease_seconds": 300.0,
        "p_organization_id": None,
        "p_scenario_types": ["inactivity"],
    }
    assert listed.arguments["user_id"] == f"eq.{USER_ID}"
    assert [row["metadata"] for row in inserted.rows] == [{"n": 1}]
    assert answers.secret_key not in repr(leased)


async def test_answers_come_in_order_and_the_last_one_stays() -> None:
    """A worker that runs until it is idle is given one notification, then nothing for as long as it asks."""
    sent: list[UUID] = []

    async def send(notification: LeasedNotification) -> None:
        sent.append(notification.id)

    leased = a_leased_notification()
    with PostgrestAnswers() as answers:
        answers.lease_notifications([leased])
        answers.lease_notifications([])
        answers.settle_notifications()
        async with connect(answers.url, answers.secret_key) as client:
            worker = DeliveryWorker(ScenarioNotificationRepository(client), send)
            settled = await worker.run(until_idle=True)
    assert (sent, settled.total()) == ([leased.id], 1)
    assert answers.asked("settle_notifications")[0].arguments["p_results"][0]["id"] == str(leased.id)


async def test_settlements_are_answered_by_their_results() -> None:
    """Without answers of the test's own, each is recorded."""
    results = [a_settlement(result=result) for result in DeliveryResult]
    with PostgrestAnswers() as answers:
        answers.settle_notifications()
        async with connect(answers.url, answers.secret_key) as client:
            got = await ScenarioNotificationRepository(client).settle_notifications(results)
    expected = {"sent": "sent", "retry": "pending", "failed": "failed", "suppressed": "failed", "released": "pending"}
    assert got == [SettlementAnswer(expected[result]) for result in DeliveryResult]


@pytest.mark.parametrize(
    "exception",
    sorted(
        {cls for _, cls in inspect.getmembers(exceptions, inspect.isclass) if cls.__module__ == exceptions.__name__}
        - {ScenarioRepositoryException},
        key=str,
    ),
)
@pytest.mark.parametrize("method", ["lease_notifications", "insert_notification"])
async def test_every_exception_can_be_had(exception: type[ScenarioRepositoryException], method: str) -> None:
    """A test of how an app fails gets each exception from a real answer, then what it gave next."""
    with PostgrestAnswers() as answers:
        answers.fail(method, exception)
        getattr(answers, method)(*GIVEN[method][:1])
        async with connect(answers.url, answers.secret_key) as client:
            repository = ScenarioNotificationRepository(client)
            with pytest.raises(exception) as raised:
                await CALLS[method](repository)
            assert await CALLS[method](repository) == GIVEN[method][1]
    assert type(raised.value) is exception
    assert raised.value.operation == method


async def test_a_connection_can_break() -> None:
    """An error of httpx is raised as it would be; a response is given as it is."""
    with PostgrestAnswers() as answers:
        answers.fail("lease_notifications", httpx.ReadTimeout("slow"))
        answers.fail("lease_notifications", httpx.Response(429, headers={"Retry-After": "7"}))
        async with connect(answers.url, answers.secret_key) as client:
            repository = ScenarioNotificationRepository(client)
            for seconds in (None, 7.0):
                with pytest.raises(UnavailableException) as raised:
                    await repository.lease_notifications(1)
                assert raised.value.retry_after == seconds


def test_what_cannot_happen_is_refused() -> None:
    """A misspelt method, or the base class, is no silent answer."""
    answers = PostgrestAnswers()
    with pytest.raises(ValueError, match="a method of ScenarioNotificationRepository, got 'lease'"):
        answers.fail("lease", InvalidDataException)
    with pytest.raises(ValueError, match="got ScenarioRepositoryException"):
        answers.fail("lease_notifications", ScenarioRepositoryException)


async def test_a_request_without_an_answer_fails_the_test() -> None:
    """It says which, and how to give one; no except clause of the app swallows it."""
    with PostgrestAnswers() as answers:
        async with connect(answers.url, answers.secret_key) as client:
            with pytest.raises(UnansweredRequestError, match=r"mute was called.*answers\.mute\("):
                await ScenarioNotificationRepository(client).mute(a_new_mute())


def test_an_answer_that_nobody_asks_for_fails_the_test() -> None:
    """Unless the test says that it may."""
    with pytest.raises(AssertionError, match="never called: mute"), PostgrestAnswers() as answers:
        answers.mute(a_mute())
    with PostgrestAnswers(assert_all_called=False) as answers:
        answers.mute(a_mute())


def test_an_error_of_the_test_is_not_hidden() -> None:
    """What fails inside the block is what is told."""
    answers = PostgrestAnswers()
    answers.mute(a_mute())
    with pytest.raises(ZeroDivisionError), answers:
        _ = 1 / 0
