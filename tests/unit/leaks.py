"""What an error must not tell (keys, tokens, row values), every call that could, and all that a program sees of it."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from scenario_repo import (
    DeliveryResult,
    NotificationClaim,
    ScenarioNotificationRepository,
    ScenarioRepositoryException,
    ScenarioSettings,
    ScenarioType,
    Settlement,
)
from scenario_repo.policies import DeliveryPolicy, NewDayOff, NewMute
from tests.factories import ORGANIZATION_ID, USER_ID, minted_jwt, new_notification

MARKER: Final = "SECRET-ROW-VALUE"

KEYS: Final = {
    "sb_secret_": f"sb_secret_{MARKER}",
    "legacy service_role": minted_jwt("service_role", ref=MARKER),
}
PUBLISHABLE_KEYS: Final = {
    "sb_publishable_": f"sb_publishable_{MARKER}",
    "legacy anon": minted_jwt("anon", ref=MARKER),
}
TOKEN: Final = minted_jwt("authenticated", sub=str(USER_ID), ref=MARKER)

NOON: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)


def told_by(error: BaseException) -> str:
    """Return everything that a log could show of an exception and of all those it is chained to."""
    chain: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and link not in chain:
            chain.append(link)
            waiting += [link.__cause__, link.__context__]
    texts = [f"{link} {link!r} {link.args} {vars(link)}" for link in chain]
    return "\n".join([*texts, *traceback.format_exception(error)])


def secrets_of(*keys: str) -> set[str]:
    """Tell what must not be told: a key, and the parts of one."""
    return {MARKER, *keys, *(part for key in keys for part in key.split(".")[1:])}


def hushed(text: str, *keys: str) -> None:
    """Fail if the text tells a secret."""
    for secret in secrets_of(*keys):
        assert secret not in text


def everything_about(error: BaseException) -> str:
    """Tell an error in every way a program would: itself, its traceback, its pickle."""
    summary = traceback.TracebackException.from_exception(error, capture_locals=False)
    told = [told_by(error), *summary.format(chain=True), str(type(error))]
    if isinstance(error, ScenarioRepositoryException):
        told.append(repr(pickle.dumps(error)))
    return "\n".join(told)


CALLS: Final[dict[str, Callable[[ScenarioNotificationRepository], Any]]] = {
    "add_days_off": lambda r: r.add_days_off([NewDayOff(first_day=date(2026, 12, 24), last_day=date(2026, 12, 26))]),
    "cancel_notifications": lambda r: r.cancel_notifications([USER_ID]),
    "delete_delivery_policy": lambda r: r.delete_delivery_policy(ORGANIZATION_ID),
    "get_delivery_policies": lambda r: r.get_delivery_policies(),
    "get_settings": lambda r: r.get_settings(ORGANIZATION_ID),
    "simulate": lambda r: r.simulate(ScenarioSettings(scenario_type="inactivity", max_reminders=2)),
    "export_person": lambda r: r.export_person(USER_ID),
    "erase_person": lambda r: r.erase_person(USER_ID),
    "explain_notification": lambda r: r.explain_notification(USER_ID),
    "get_left_out": lambda r: r.get_left_out(ORGANIZATION_ID),
    "get_outcomes": lambda r: r.get_outcomes(ORGANIZATION_ID, ScenarioType.INACTIVITY, NOON, NOON, timedelta(days=14)),
    "get_status": lambda r: r.get_status(),
    "list_failed": lambda r: r.list_failed(ORGANIZATION_ID),
    "list_pending": lambda r: r.list_pending(ORGANIZATION_ID),
    "set_settings": lambda r: r.set_settings(
        ScenarioSettings(scenario_type=ScenarioType.INACTIVITY, cooldown=timedelta(days=21))
    ),
    "purge_page": lambda r: r.purge_page(timedelta(days=365)),
    "list_days_off": lambda r: r.list_days_off(ORGANIZATION_ID),
    "list_mutes": lambda r: r.list_mutes(USER_ID),
    "mute": lambda r: r.mute(NewMute(user_id=USER_ID)),
    "remove_days_off": lambda r: r.remove_days_off([USER_ID]),
    "retry_notifications": lambda r: r.retry_notifications([USER_ID]),
    "set_delivery_policy": lambda r: r.set_delivery_policy(DeliveryPolicy(time_zone="Europe/Oslo")),
    "unmute": lambda r: r.unmute(USER_ID),
    "insert_notification": lambda r: r.insert_notification(new_notification()),
    "get_last_sent_at": lambda r: r.get_last_sent_at(USER_ID, ScenarioType.INACTIVITY),
    "has_been_sent_since_threshold": lambda r: r.has_been_sent_since_threshold(USER_ID, ScenarioType.INACTIVITY, NOON),
    "get_milestone_record": lambda r: r.get_milestone_record(USER_ID, 10),
    "list_notifications": lambda r: r.list_notifications(USER_ID),
    "get_last_sent_at_many": lambda r: r.get_last_sent_at_many([USER_ID], ScenarioType.INACTIVITY),
    "has_been_sent_since_threshold_many": lambda r: r.has_been_sent_since_threshold_many(
        [USER_ID], ScenarioType.INACTIVITY, NOON
    ),
    "get_milestone_record_many": lambda r: r.get_milestone_record_many([USER_ID], 10),
    "get_last_delivered_at": lambda r: r.get_last_delivered_at(USER_ID, ScenarioType.INACTIVITY),
    "has_been_delivered_since": lambda r: r.has_been_delivered_since(USER_ID, ScenarioType.INACTIVITY, NOON),
    "get_last_delivered_at_many": lambda r: r.get_last_delivered_at_many([USER_ID], ScenarioType.INACTIVITY),
    "has_been_delivered_since_many": lambda r: r.has_been_delivered_since_many(
        [USER_ID], ScenarioType.INACTIVITY, NOON
    ),
    "claim_notifications": lambda r: r.claim_notifications(
        [
            NotificationClaim(
                user_id=USER_ID,
                organization_id=ORGANIZATION_ID,
                scenario_type=ScenarioType.INACTIVITY,
                cooldown=timedelta(days=7),
            )
        ]
    ),
    "evaluate_scenario": lambda r: r.evaluate_scenario(ScenarioType.INACTIVITY),
    "evaluate_next_page": lambda r: r.evaluate_next_page(ScenarioType.INACTIVITY),
    "begin_run": lambda r: r.begin_run(),
    "describe_schema": lambda r: r.describe_schema(),
    "verify_installation": lambda r: r.verify_installation(),
    "check_rule": lambda r: r.check_rule(ScenarioType.INACTIVITY),
    "explain_scenarios": lambda r: r.explain_scenarios(USER_ID),
    "lease_notifications": lambda r: r.lease_notifications(10),
    "settle_notifications": lambda r: r.settle_notifications(
        [Settlement(id=uuid4(), lease_number=1, result=DeliveryResult.SENT)]
    ),
    "purge_notifications": lambda r: r.purge_notifications(timedelta(days=365)),
    "get_organization_report": lambda r: r.get_organization_report(ORGANIZATION_ID, NOON, NOON),
}
"""Every method of the repository, called as it should be."""
