"""PostgrestAnswers: what the database would answer, given by a test, for each method of the repository.

The app's own code runs unchanged, down to the request; respx stands in for the network, and no request leaves the
process. Nothing is decided here: a test says what PostgreSQL decides, and sees what it was asked.

    with PostgrestAnswers() as answers:
        answers.claim_notifications([an_outcome()])
        asked = answers.asked("claim_notifications")
        async with connect(answers.url, answers.secret_key) as client:
            await welcome(ScenarioNotificationRepository(client), user_id)
        assert asked[0].arguments["p_claims"]["user_id"] == [str(user_id)]

Answers to a method are given in order, and the last one again and again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import httpx
import respx
from pydantic import BaseModel

from scenario_repo import _installation
from scenario_repo.models import (
    CancelAnswer,
    ClaimOutcome,
    DeliveryResult,
    EvaluationPage,
    Lease,
    LeasedNotification,
    OrganizationReport,
    RetryOutcome,
    RuleCheck,
    ScenarioExplanation,
    ScenarioNotification,
    ScenarioPass,
    SchemaDescription,
    SettlementAnswer,
)
from scenario_repo.outcomes import NotificationPast, Outcomes
from scenario_repo.person import Erasure, PersonalData
from scenario_repo.policies import DayOff, DeliveryPolicy, Mute
from scenario_repo.settings import ScenarioSettings
from scenario_repo.simulation import Simulation
from scenario_repo.status import LeftOutPass, PendingNotification, PurgedPage, Status
from scenario_repo.testing._claims_wire import claims_answer
from scenario_repo.testing._routes import OPERATIONS, SAME_REQUEST
from scenario_repo.testing._wire_errors import Failure, refuse_unknown, respond_with
from scenario_repo.testing.builders import NOON, a_schema_description

PROJECT_URL: Final = "https://project.supabase.co"
SECRET_KEY: Final = "sb_secret_of-the-worker"  # noqa: S105 - opens nothing
PUBLISHABLE_KEY: Final = "sb_publishable_of-the-app"

Reply = Callable[[httpx.Request], httpx.Response]

_SETTLED: Final = {
    DeliveryResult.SENT: SettlementAnswer.SENT,
    DeliveryResult.RETRY: SettlementAnswer.PENDING,
    DeliveryResult.FAILED: SettlementAnswer.FAILED,
    DeliveryResult.SUPPRESSED: SettlementAnswer.FAILED,
    DeliveryResult.RELEASED: SettlementAnswer.PENDING,
}


class UnansweredRequestError(BaseException):
    """A request that the test gave no answer to; no ``Exception``, as the repository would translate one."""


@dataclass(frozen=True)
class Asked:
    """One request, as the database would get it."""

    request: httpx.Request = field(repr=False)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of a function by name; or the filters of a table, as PostgREST reads them."""
        if "/rpc/" not in self.request.url.path:
            return dict(self.request.url.params)
        arguments: dict[str, Any] = json.loads(self.request.content)
        arguments.pop("p_needs_schema", None)
        return arguments

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows that were written to a table."""
        body = json.loads(self.request.content or b"[]")
        return body if isinstance(body, list) else [body]


class PostgrestAnswers:
    """Answers for the repository's methods, for as long as the block lasts."""

    def __init__(self, url: str = PROJECT_URL, *, assert_all_called: bool = True) -> None:
        """Stand in for the project at a URL; unless told otherwise, a method that was answered must be called."""
        self.url = url
        self.secret_key = SECRET_KEY
        self.publishable_key = PUBLISHABLE_KEY
        self.router = respx.MockRouter(base_url=f"{url}/rest/v1", assert_all_called=False)
        """For requests of the app's own; respx' router."""
        self._assert_all_called = assert_all_called
        self._replies: dict[str, list[Reply]] = {}
        self._asked: dict[str, list[Asked]] = {operation: [] for operation in OPERATIONS}

    def __enter__(self) -> Self:
        """Begin to answer."""
        self.router.start()
        for operation, where in OPERATIONS.items():
            self.router.route(**where).mock(side_effect=partial(self._reply, operation))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop answering; without an error, look whether all that was answered was called."""
        self.router.stop(quiet=True)
        if kind is None and self._assert_all_called:
            idle = sorted(operation for operation in self._replies if not self._asked[operation])
            if idle:
                raise AssertionError(f"answered, but never called: {', '.join(idle)}")

    def asked(self, operation: str) -> list[Asked]:
        """Return the requests of a method so far; the list grows with each further one."""
        return self._asked[SAME_REQUEST.get(operation, operation)]

    def fail(self, operation: str, failure: Failure) -> None:
        """Answer a method with an error.

        ``failure`` is the exception's class, which is made from what the platform really answers in such a case; or an
        error of httpx, or a whole response.

        Raises:
            ValueError: no answer leads to this exception, or there is no such method.

        """
        refuse_unknown(failure)
        self._give(operation, partial(respond_with, failure))

    # What callers ask -----------------------------------------------------

    def insert_notification(self, stored: ScenarioNotification) -> None:
        """Answer with the inserted row."""
        self._rows("insert_notification", [stored], status=201)

    def get_last_sent_at(self, at: datetime | None) -> None:
        """Answer with the moment; None: nothing was sent."""
        self._give_json("get_last_sent_at", [] if at is None else [{"triggered_at": at.isoformat()}])

    def has_been_sent_since_threshold(self, answer: bool) -> None:  # noqa: FBT001 - the answer
        """Answer whether something was sent."""
        rows = [{"triggered_at": NOON.isoformat()}] if answer else []
        self._give_json("has_been_sent_since_threshold", rows)

    def get_last_delivered_at(self, at: datetime | None) -> None:
        """Answer with the moment; None: nothing was delivered."""
        self._give_json("get_last_delivered_at", [] if at is None else [{"settled_at": at.isoformat()}])

    def has_been_delivered_since(self, answer: bool) -> None:  # noqa: FBT001 - the answer
        """Answer whether something was delivered."""
        self._give_json("has_been_delivered_since", [{"settled_at": NOON.isoformat()}] if answer else [])

    def get_milestone_record(self, record: ScenarioNotification | None) -> None:
        """Answer with the record, or with none."""
        self._rows("get_milestone_record", [] if record is None else [record])

    def list_notifications(self, rows: Sequence[ScenarioNotification]) -> None:
        """Answer with a page of a user's notifications, the newest first."""
        self._rows("list_notifications", rows)

    def get_last_sent_at_many(self, answers: Mapping[UUID, datetime | None]) -> None:
        """Answer for each user that is asked for; None for those left out."""
        self._by_user("get_last_sent_at_many", answers, None)

    def has_been_sent_since_threshold_many(self, answers: Mapping[UUID, bool]) -> None:
        """Answer for each user that is asked for; no for those left out."""
        self._by_user("has_been_sent_since_threshold_many", answers, default=False)

    def get_last_delivered_at_many(self, answers: Mapping[UUID, datetime | None]) -> None:
        """Answer for each user that is asked for; None for those left out."""
        self._by_user("get_last_delivered_at_many", answers, None)

    def has_been_delivered_since_many(self, answers: Mapping[UUID, bool]) -> None:
        """Answer for each user that is asked for; no for those left out."""
        self._by_user("has_been_delivered_since_many", answers, default=False)

    def get_milestone_record_many(self, answers: Mapping[UUID, ScenarioNotification | None]) -> None:
        """Answer for each user that is asked for; none for those left out."""
        self._by_user("get_milestone_record_many", answers, None)

    def claim_notifications(self, outcomes: Sequence[ClaimOutcome]) -> None:
        """Answer with an outcome for each claim, in their order; with leased ones if a lease is asked for.

        What a notification has from its claim is the claim's own, and without a lease its id is
        :func:`~scenario_repo.testing.id_of_claim`: the answer has the moments, the leases, and what was skipped.
        """

        def reply(request: httpx.Request) -> httpx.Response:
            leased = Asked(request).arguments["p_lease_seconds"] is not None
            return httpx.Response(200, json=claims_answer(outcomes, leased=leased))

        self._give("claim_notifications", reply)

    def evaluate_scenario(self, page: EvaluationPage) -> None:
        """Answer with the counts of a page."""
        self._one("evaluate_scenario", page)

    def begin_run(self, passes: Sequence[ScenarioPass]) -> None:
        """Answer with the scenarios of a run."""
        self._give_json("begin_run", {"passes": _plain(passes)})

    def evaluate_next_page(self, page: EvaluationPage) -> None:
        """Answer with the counts of a page."""
        self._one("evaluate_next_page", page)

    def lease_notifications(self, lease: Lease | Sequence[LeasedNotification]) -> None:
        """Answer with the leased notifications."""
        self._one("lease_notifications", lease if isinstance(lease, Lease) else Lease(leased=tuple(lease)))

    def settle_notifications(self, answers: Sequence[SettlementAnswer | str] | None = None) -> None:
        """Answer each settlement in order; without answers, as when every lease is still held."""

        def reply(request: httpx.Request) -> httpx.Response:
            results = [row["result"] for row in Asked(request).arguments["p_results"]]
            settled = [_SETTLED[result] for result in results] if answers is None else list(answers)
            return httpx.Response(200, json={"answers": settled})

        self._give("settle_notifications", reply)

    # What operators ask ---------------------------------------------------

    def describe_schema(self, schema: SchemaDescription | None = None) -> None:
        """Answer with the schema; unless given, the one that this library needs."""
        self._one("describe_schema", schema or a_schema_description())

    def verify_installation(self, *lacking: str) -> None:
        """Answer with the catalogue of a whole installation, but for the tables and views that are named."""
        pristine = _installation.expected()
        relations = {name: fact for name, fact in pristine.facts["relation"].items() if name not in lacking}
        catalogue = {
            "schema_version": pristine.schema_version,
            "facts": {**pristine.facts, "relation": relations},
            "sources": [],
            "without_settings": [],
            "shared_tokens": 0,
        }
        # The clock is compared with this machine's.
        self._give(
            "verify_installation",
            lambda _: httpx.Response(200, json={**catalogue, "now": datetime.now(UTC).isoformat()}),
        )

    def check_rule(self, check: RuleCheck) -> None:
        """Answer with the check of a rule."""
        self._one("check_rule", check)

    def explain_scenarios(self, explanations: Sequence[ScenarioExplanation]) -> None:
        """Answer with the explanations for a user."""
        self._give_json("explain_scenarios", {"explanations": _plain(explanations)})

    def explain_notification(self, past: NotificationPast | None) -> None:
        """Answer with what happened to a notification, or that there is none."""
        self._give_json("explain_notification", {"notification": None if past is None else _plain([past])[0]})

    def cancel_notifications(self, answers: Sequence[CancelAnswer | str]) -> None:
        """Answer for each id, in their order."""
        self._give_json("cancel_notifications", {"answers": list(answers)})

    def retry_notifications(self, outcomes: Sequence[RetryOutcome]) -> None:
        """Answer for each id, in their order."""
        columns = _plain(outcomes)
        answer = {"answers": [one["answer"] for one in columns], "ids": [one["notification_id"] for one in columns]}
        self._give_json("retry_notifications", answer)

    def get_delivery_policies(self, policies: Sequence[DeliveryPolicy]) -> None:
        """Answer with all policies."""
        self._rows("get_delivery_policies", policies)

    def set_delivery_policy(self, stored: DeliveryPolicy) -> None:
        """Answer with the policy as it is stored."""
        self._rows("set_delivery_policy", [stored], status=201)

    def delete_delivery_policy(self, deleted: DeliveryPolicy | None) -> None:
        """Answer with what was deleted, if there was one."""
        self._rows("delete_delivery_policy", [] if deleted is None else [deleted])

    def list_days_off(self, days: Sequence[DayOff]) -> None:
        """Answer with days off, the earliest first."""
        self._rows("list_days_off", days)

    def add_days_off(self, stored: Sequence[DayOff]) -> None:
        """Answer with the days off as they are stored."""
        self._rows("add_days_off", stored, status=201)

    def remove_days_off(self, removed: Sequence[DayOff]) -> None:
        """Answer with what was removed."""
        self._rows("remove_days_off", removed)

    def list_mutes(self, mutes: Sequence[Mute]) -> None:
        """Answer with a user's mutes."""
        self._rows("list_mutes", mutes)

    def mute(self, stored: Mute) -> None:
        """Answer with the mute as it is stored."""
        self._rows("mute", [stored], status=201)

    def unmute(self, deleted: Mute | None) -> None:
        """Answer with what was deleted, if there was one."""
        self._rows("unmute", [] if deleted is None else [deleted])

    def purge_notifications(self, purged: int) -> None:
        """Answer with the only page of a purge, and how many it deleted."""
        self._give_json("purge_notifications", {"purged": purged, "next_after": None})

    def purge_page(self, page: PurgedPage) -> None:
        """Answer with a page of a purge; purge_notifications asks in the same way."""
        self._one("purge_page", page)

    def simulate(self, simulation: Simulation) -> None:
        """Answer with the only page of a simulation."""
        pages = simulation.model_dump(mode="json", include={"today", "simulated"})
        self._give_json("simulate", {**pages, "next_after": None})

    def export_person(self, data: PersonalData) -> None:
        """Answer with what there is of a person."""
        self._one("export_person", data)

    def erase_person(self, erasure: Erasure) -> None:
        """Answer with how much was erased."""
        self._one("erase_person", erasure)

    def get_status(self, status: Status) -> None:
        """Answer with how things stand."""
        self._one("get_status", status)

    def list_pending(self, pending: Sequence[PendingNotification]) -> None:
        """Answer with a page of what is pending, what is due first at its head."""
        self._give_json("list_pending", {"pending": _plain(pending)})

    def list_failed(self, rows: Sequence[ScenarioNotification]) -> None:
        """Answer with a page of what failed, the newest first."""
        self._rows("list_failed", rows)

    def get_settings(self, settings: Sequence[ScenarioSettings]) -> None:
        """Answer with the default settings, and then those of an organization."""
        self._rows("get_settings", settings)

    def set_settings(self, stored: ScenarioSettings) -> None:
        """Answer with the settings as they are stored."""
        self._rows("set_settings", [stored])

    def get_organization_report(self, report: OrganizationReport) -> None:
        """Answer with the lines of a report."""
        answer = {"time_zone": report.time_zone, "lines": _plain(report.lines)}
        self._give_json("get_organization_report", answer)

    def get_outcomes(self, outcomes: Outcomes) -> None:
        """Answer with what came of it."""
        self._one("get_outcomes", outcomes)

    def get_left_out(self, passes: Sequence[LeftOutPass]) -> None:
        """Answer with whom the passes left out."""
        self._give_json("get_left_out", {"passes": _plain(passes)})

    # The wire -------------------------------------------------------------

    def _reply(self, operation: str, request: httpx.Request) -> httpx.Response:
        replies = self._replies.get(operation)
        if not replies:
            raise UnansweredRequestError(f"{operation} was called, and the test gave no answer: answers.{operation}(…)")
        self._asked[operation].append(Asked(request))
        return replies.pop(0)(request) if len(replies) > 1 else replies[0](request)

    def _give(self, operation: str, reply: Reply) -> None:
        operation = SAME_REQUEST.get(operation, operation)
        if operation not in OPERATIONS:
            raise ValueError(f"expected a method of ScenarioNotificationRepository, got {operation!r}")
        self._replies.setdefault(operation, []).append(reply)

    def _give_json(self, operation: str, body: object, status: int = 200) -> None:
        self._give(operation, lambda _: httpx.Response(status, json=body))

    def _one(self, operation: str, value: BaseModel) -> None:
        self._give_json(operation, value.model_dump(mode="json"))

    def _rows(self, operation: str, rows: Iterable[BaseModel], status: int = 200) -> None:
        self._give_json(operation, _plain(rows), status)

    def _by_user(self, operation: str, answers: Mapping[UUID, object], default: object) -> None:
        plain = {str(user): _plain_value(answer) for user, answer in answers.items()}

        def reply(request: httpx.Request) -> httpx.Response:
            users = Asked(request).arguments["p_user_ids"]
            return httpx.Response(200, json={"answers": [plain.get(user, default) for user in users]})

        self._give(operation, reply)


def _plain(rows: Iterable[BaseModel]) -> list[dict[str, Any]]:
    return [row.model_dump(mode="json") for row in rows]


def _plain_value(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value.isoformat() if isinstance(value, datetime) else value
