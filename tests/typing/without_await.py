"""What each call of the blocking face returns: the same, without await."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import assert_type
from uuid import UUID

import scenario_repo as sr
from scenario_repo import blocking


def clients(token: str) -> None:
    """Connect, in each way."""
    with blocking.connect() as client:
        assert_type(client, blocking.Client)
    with blocking.open_http_client(timeout=5.0) as http_client:
        assert_type(http_client, blocking.HttpClient)
        with blocking.connect_as_user(token, "https://…", "sb_publishable_…", http_client=http_client) as user:
            assert_type(user, blocking.Client)
            assert_type(blocking.ScenarioNotificationRepository(user), blocking.ScenarioNotificationRepository)


def look_ups(repository: blocking.ScenarioNotificationRepository, user: UUID, at: datetime) -> None:
    """Look one user up, and many at once."""
    kind = sr.ScenarioType.INACTIVITY
    assert_type(repository.get_last_sent_at(user, kind), datetime | None)
    assert_type(repository.get_last_sent_at(user, "first_session"), datetime | None)
    assert_type(repository.has_been_sent_since_threshold(user, kind, at), bool)
    assert_type(repository.get_last_delivered_at(user, kind), datetime | None)
    assert_type(repository.has_been_delivered_since(user, kind, at), bool)
    assert_type(repository.get_milestone_record(user, 10), sr.ScenarioNotification | None)
    assert_type(repository.list_notifications(user, None, 10), list[sr.ScenarioNotification])
    users: Iterator[UUID] = iter([user])
    assert_type(repository.get_last_sent_at_many(users, kind), dict[UUID, datetime | None])
    assert_type(repository.has_been_sent_since_threshold_many(users, kind, at), dict[UUID, bool])
    assert_type(repository.get_last_delivered_at_many({user}, kind), dict[UUID, datetime | None])
    assert_type(repository.has_been_delivered_since_many((user,), kind, at), dict[UUID, bool])
    records = repository.get_milestone_record_many([user], 10)
    assert_type(records, dict[UUID, sr.ScenarioNotification | None])


def claims(
    repository: blocking.ScenarioNotificationRepository, new: sr.NewScenarioNotification, claim: sr.NotificationClaim
) -> None:
    """Claim, with a lease and without: the outcomes differ."""
    assert_type(repository.insert_notification(new), sr.ScenarioNotification)
    assert_type(repository.claim_notifications([claim]), list[sr.ClaimOutcome])
    assert_type(repository.claim_notifications([claim], None), list[sr.ClaimOutcome])
    leased = repository.claim_notifications((claim,), timedelta(minutes=5))
    assert_type(leased, list[sr.LeasedClaimOutcome])
    assert_type(leased[0].notification, sr.LeasedNotification | None)
    assert_type(leased[0].skip_reason, sr.SkipReason | str | None)
    assert_type(leased[0].claimed, bool)


def evaluation(repository: blocking.ScenarioNotificationRepository, organization: UUID) -> None:
    """Evaluate pages, and ask about the rules."""
    page = repository.evaluate_scenario("inactivity", organization, None, 10, dry_run=True)
    assert_type(page, sr.EvaluationPage)
    assert_type(page.skipped, dict[sr.SkipReason | str, int])
    assert_type(page.next_after, UUID | None)
    assert_type(repository.evaluate_next_page(sr.ScenarioType.MILESTONE), sr.EvaluationPage)
    schema = repository.describe_schema()
    assert_type(schema, sr.SchemaDescription)
    assert_type(schema.scenario_types, tuple[sr.ScenarioType | str, ...])
    assert_type(repository.check_rule("first_session", 5), sr.RuleCheck)
    verification = repository.verify_installation()
    assert_type(verification, sr.Verification)
    assert_type(verification.faults, tuple[sr.InstallationFault, ...])
    assert_type(repository.explain_scenarios(organization), list[sr.ScenarioExplanation])


def delivery(repository: blocking.ScenarioNotificationRepository) -> None:
    """Lease, which is a sequence, and settle."""
    lease = repository.lease_notifications(10, timedelta(minutes=1), None, ["inactivity"])
    assert_type(lease, sr.Lease)
    assert_type(lease[0], sr.LeasedNotification)
    assert_type(lease[:2], Sequence[sr.LeasedNotification])
    assert_type(list(lease), list[sr.LeasedNotification])
    settlement = lease[0].settlement(sr.DeliveryResult.SENT)
    assert_type(settlement, sr.Settlement)
    assert_type(repository.settle_notifications([settlement]), list[sr.SettlementAnswer | str])
    assert_type(lease[0].facts, sr.ScenarioFacts | None)
    match lease[0].facts:
        case sr.InactivityFacts(last_activity_at=at):
            assert_type(at, datetime)
        case sr.MilestoneFacts(activity_count=count):
            assert_type(count, int)
        case _:
            pass


def operating(repository: blocking.ScenarioNotificationRepository, one: UUID, at: datetime) -> None:
    """Ask and change what operators do."""
    assert_type(repository.cancel_notifications([one]), list[sr.CancelAnswer | str])
    assert_type(repository.retry_notifications([one]), list[sr.RetryOutcome])
    assert_type(repository.get_delivery_policies(), list[sr.DeliveryPolicy])
    assert_type(repository.set_delivery_policy(sr.DeliveryPolicy(time_zone="Europe/Oslo")), sr.DeliveryPolicy)
    assert_type(repository.delete_delivery_policy(None), bool)
    assert_type(repository.list_days_off(one), list[sr.DayOff])
    christmas = sr.NewDayOff(first_day=date(2026, 12, 24), last_day=date(2026, 12, 26))
    assert_type(repository.add_days_off([christmas]), list[sr.DayOff])
    assert_type(repository.remove_days_off([one]), int)
    assert_type(repository.list_mutes(one), list[sr.Mute])
    assert_type(repository.mute(sr.NewMute(user_id=one)), sr.Mute)
    assert_type(repository.unmute(one), bool)
    assert_type(repository.purge_notifications(timedelta(days=365)), int)
    assert_type(repository.begin_run(["inactivity"], one), tuple[sr.ScenarioPass, ...])
    assert_type(repository.purge_page(timedelta(days=365), one), sr.PurgedPage)
    status = repository.get_status()
    assert_type(status, sr.Status)
    assert_type(status.scenarios, tuple[sr.ScenarioStatus, ...])
    assert_type(status.withheld(in_a_day=True), dict[str, int])
    pending = repository.list_pending(one, "inactivity", limit=10)
    assert_type(pending, list[sr.PendingNotification])
    assert_type(repository.list_pending(after=pending[-1]), list[sr.PendingNotification])
    assert_type(repository.list_failed(one, sr.ScenarioType.MILESTONE), list[sr.ScenarioNotification])
    assert_type(repository.get_settings(one), list[sr.ScenarioSettings])
    settings = sr.ScenarioSettings(scenario_type="inactivity", cooldown=timedelta(days=21))
    assert_type(repository.set_settings(settings), sr.ScenarioSettings)
    simulation = repository.simulate(settings, list_due=True)
    assert_type(simulation, sr.Simulation)
    assert_type(simulation.gained, tuple[sr.DueMentor, ...])
    assert_type(repository.export_person(one), sr.PersonalData)
    assert_type(repository.erase_person(one), sr.Erasure)
    report = repository.get_organization_report(one, at, at)
    assert_type(repository.explain_notification(one), sr.NotificationPast | None)
    assert_type(repository.get_left_out(one, under_way=True), list[sr.LeftOutPass])
    outcomes = repository.get_outcomes(one, "inactivity", at, at, timedelta(days=14))
    assert_type(outcomes.told, sr.OutcomeGroup)
    assert_type(outcomes.difference, sr.OutcomeDifference | None)
    report = repository.get_organization_report(one, at, at, "Europe/Oslo")
    assert_type(report, sr.OrganizationReport)
    assert_type(report.withheld(), dict[str, int])


def send(notification: sr.LeasedNotification) -> None:
    """Send, as an app does."""
    raise sr.PermanentDeliveryError(notification.scenario_type)


def send_to_device(notification: sr.LeasedNotification, device: sr.DeviceToken) -> None:
    """Send to one device, as an app does."""
    raise sr.InvalidDeviceToken(device.token, str(notification.id))


def count(answers: Counter[sr.SettlementAnswer | str]) -> None:
    """Show the progress."""
    assert_type(answers[sr.SettlementAnswer.SENT], int)


def show(scenario_type: sr.ScenarioType | str, page: sr.EvaluationPage) -> None:
    """Show the progress."""
    assert_type(page.claimed, int)
    assert_type(scenario_type, sr.ScenarioType | str)


def engine_and_worker(repository: blocking.ScenarioNotificationRepository) -> None:
    """Run what takes long."""
    engine = blocking.ScenarioTriggerEngine(repository, page_size=100, on_page=show)
    report = engine.run({sr.ScenarioType.MILESTONE, "first_session"}, None, timedelta(seconds=5), dry_run=True)
    assert_type(report, sr.EngineReport)
    assert_type(report.scenarios, tuple[sr.ScenarioReport, ...])
    worker = blocking.DeliveryWorker(repository, send, rate=5, on_progress=count)
    assert_type(worker.run(until_idle=True), Counter[sr.SettlementAnswer | str])
    assert_type(worker.settled, Counter[sr.SettlementAnswer | str])
    assert_type(worker.is_abandoning, bool)
    worker.stop()
    blocking.DeliveryWorker(repository, send_to_device=send_to_device)
    try:
        worker.run()
    except sr.ScenarioRepositoryException as error:
        assert_type(error.retryable, bool)
        assert_type(error.retry_after, float | None)
        assert_type(error.code, str | None)
