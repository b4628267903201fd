"""`make demo`: the main job on the embedded stack, from an empty database to a delivered notification and the console.

Every request takes the same way as a worker's or an app's: supabase-py, HTTP, row level security.
"""

from __future__ import annotations

import interrupts

if __name__ == "__main__":
    interrupts.end_in_one_line()

import asyncio
import secrets
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
from demo_console import show_console
from demo_tables import console, meaning, new_table, reasons
from pydantic import BaseModel, Field, TypeAdapter
from supabase import AsyncClient

from scenario_repo import (
    CertificationExpiryFacts,
    ClaimOutcome,
    DeliveryStatus,
    DeliveryWorker,
    DeviceToken,
    InvalidDeviceToken,
    LeasedNotification,
    NewDayOff,
    NewMute,
    NewScenarioNotification,
    NotificationClaim,
    PermanentDeliveryError,
    ScenarioNotificationRepository,
    ScenarioTriggerEngine,
    ScenarioType,
    connect,
    connect_as_user,
)
from scenario_repo.testing.embedded_stack import EmbeddedStack, EmbeddedStackError, embedded_stack

SAMPLE_ORGANIZATION = UUID("5ca1ab1e-0000-4000-8000-000000000001")
"""The organization of supabase/seed.sql, with its 500 mentors."""
CLAIMERS = 4


class Mentor(BaseModel):
    """A row of peer_mentors."""

    user_id: UUID


class SampleMentor(Mentor):
    """A mentor and her organization."""

    organization_id: UUID
    token: str = Field(default="", exclude=True, repr=False)


MENTORS = TypeAdapter(list[Mentor])
DEVICES = TypeAdapter(list[DeviceToken])


def main() -> int:
    """Run the demo, and stop everything it started."""
    try:
        started = time.monotonic()
        console.print("starting the local Supabase, a few seconds …")
        with embedded_stack(seed=True) as stack:
            console.print(f"it runs on {stack.url}, migrated and with sample data ({seconds_since(started)})")
            asyncio.run(demonstrate(stack))
            show_console(stack, SAMPLE_ORGANIZATION)
    except EmbeddedStackError as error:
        print(error, file=sys.stderr)
        return 1
    console.print(f"\n{interrupts.LINE}")
    return 0


def seconds_since(started: float) -> str:
    """Write how long ago a moment of the monotonic clock was."""
    return f"{time.monotonic() - started:.1f} s"


async def demonstrate(stack: EmbeddedStack) -> None:
    """Show the parts one after another."""
    async with connect(stack.url, stack.secret_key) as client:
        repository = ScenarioNotificationRepository(client)
        await record_and_read(stack, repository)
        rows = (await client.table("peer_mentors").select("user_id").order("user_id").execute()).data
        await claim_at_once(stack, [mentor.user_id for mentor in MENTORS.validate_python(rows)])
        await evaluate_and_explain(repository)
        await deliver_and_report(repository)
        await remember(stack, client)
        await ask_again(stack, client)
        await ScenarioTriggerEngine(repository).run()  # a pass over all organizations, for the console's overview


async def record_and_read(stack: EmbeddedStack, repository: ScenarioNotificationRepository) -> None:
    """Record one notification for each of two signed-up users, and read them as each user."""
    table = new_table("Recorded by the worker, read by two signed-in users", "who asks", "rows of Ada", "rows of Bo")
    people = {name: await sign_up(stack, name) for name in ("Ada", "Bo")}
    for user_id, _ in people.values():
        await repository.insert_notification(
            NewScenarioNotification(
                user_id=user_id,
                organization_id=SAMPLE_ORGANIZATION,
                scenario_type=ScenarioType.WELCOME_BACK,
                delivery_status=DeliveryStatus.SENT,
            )
        )
    table.add_row(
        "the worker", *[str(len(await repository.list_notifications(user_id))) for user_id, _ in people.values()]
    )
    for name, (_, token) in people.items():
        async with connect_as_user(token, stack.url, stack.publishable_key) as client:
            own = ScenarioNotificationRepository(client)
            table.add_row(name, *[str(len(await own.list_notifications(user_id))) for user_id, _ in people.values()])
    console.print(table)
    meaning("rows: what each can read. Row level security shows each user her own alone")

    ada, _ = people["Ada"]
    last = await repository.get_last_sent_at(ada, ScenarioType.WELCOME_BACK)
    recently = await repository.has_been_sent_since_threshold(
        ada, ScenarioType.WELCOME_BACK, datetime.now(UTC) - timedelta(hours=1)
    )
    never = await repository.get_last_sent_at(ada, ScenarioType.INACTIVITY)
    meaning(f"get_last_sent_at, of Ada's welcome_back: {last:%H:%M:%S} UTC, when the last one was sent")
    meaning(f"has_been_sent_since_threshold, of an hour ago: {recently}; of inactivity none was ever sent: {never}")


async def sign_up(stack: EmbeddedStack, name: str) -> tuple[UUID, str]:
    """Create an account, and return the user's id and access token."""
    async with httpx.AsyncClient(headers={"apikey": stack.publishable_key}) as http:
        answer = await http.post(
            f"{stack.url}/auth/v1/signup",
            json={"email": f"{name.lower()}-{uuid4().hex[:8]}@example.com", "password": secrets.token_urlsafe(16)},
        )
    answer.raise_for_status()
    session = answer.json()
    return UUID(session["user"]["id"]), session["access_token"]


async def claim_at_once(stack: EmbeddedStack, mentors: list[UUID]) -> None:
    """Let several workers claim for all the mentors at the same time."""
    claims = [
        NotificationClaim(
            user_id=user_id,
            organization_id=SAMPLE_ORGANIZATION,
            scenario_type=ScenarioType.WELCOME_BACK,
            cooldown=timedelta(days=30),
        )
        for user_id in mentors
    ]
    async with AsyncExitStack() as clients:
        claimers = [
            ScenarioNotificationRepository(await clients.enter_async_context(connect(stack.url, stack.secret_key)))
            for _ in range(CLAIMERS)
        ]
        started = time.monotonic()
        # Each worker claims in parts and starts at another mentor, so that they overlap.
        answers = await asyncio.gather(*(in_parts(claimer, claims, number) for number, claimer in enumerate(claimers)))
        took = seconds_since(started)
    table = new_table(f"{CLAIMERS} workers claim for the same {len(mentors)} mentors", "worker", "claimed", "skipped")
    winners: Counter[UUID] = Counter()
    for number, outcomes in enumerate(answers, start=1):
        won = [outcome.notification.user_id for outcome in outcomes if outcome.notification is not None]
        winners.update(won)
        table.add_row(
            f"worker {number}", str(len(won)), reasons(Counter(o.skip_reason for o in outcomes if not o.claimed))
        )
    console.print(table)
    meaning("claimed: granted, the notification is recorded and this worker's alone")
    meaning("skipped: refused, since another worker's notification holds for the cooldown of 30 days")
    twice = sum(times > 1 for times in winners.values())
    meaning(f"{len(winners)} mentors claimed, {twice} of them twice, in {took}")


async def in_parts(
    claimer: ScenarioNotificationRepository, claims: list[NotificationClaim], number: int
) -> list[ClaimOutcome]:
    """Claim in batches of 100; each worker's number gives it another start."""
    start = number * len(claims) // CLAIMERS
    rotated = claims[start:] + claims[:start]
    outcomes: list[ClaimOutcome] = []
    for first in range(0, len(rotated), 100):
        outcomes += await claimer.claim_notifications(rotated[first : first + 100])
    return outcomes


async def evaluate_and_explain(repository: ScenarioNotificationRepository) -> None:
    """Evaluate the organization twice, and explain one mentor."""
    engine = ScenarioTriggerEngine(repository)
    for title in ("All four scenarios evaluated", "The same again: nobody is notified twice"):
        report = await engine.run(organization_id=SAMPLE_ORGANIZATION)
        table = new_table(title, "scenario", "evaluated", "due", "history", "claimed", "skipped")
        for scenario in report.scenarios:
            table.add_row(
                scenario.scenario_type,
                str(scenario.evaluated),
                str(scenario.due),
                str(scenario.history),
                str(scenario.claimed),
                reasons(Counter(scenario.skipped)),
            )
        console.print(table)
        meaning(f"all mentors of the organization, in {report.seconds:.1f} s")
    meaning("evaluated: active mentors looked at. Of the 500, 10 are not active")
    meaning("due: the rule finds them now. history: it came true more than 30 days ago, before anybody asked; not told")
    meaning("claimed: due, and nothing held, so a worker will tell them. skipped: due, and told or claimed before")
    leased = await repository.lease_notifications(1, timedelta(seconds=1), scenario_types=[ScenarioType.INACTIVITY])
    mentor = leased[0].user_id
    table = new_table(f"Why, and why not: mentor {str(mentor)[:8]}…", "scenario", "reason", "rests on", "cooldown ends")
    for explanation in await repository.explain_scenarios(mentor):
        facts = ", ".join(str(value)[:10] for value in explanation.facts.values() if value is not None)
        ends_at = f"{explanation.ends_at:%Y-%m-%d}" if explanation.ends_at else ""
        table.add_row(explanation.scenario_type, explanation.reason, facts, ends_at)
    console.print(table)
    meaning("rests on: the rule's facts, such as the last activity. cooldown ends: until then, not again")


async def deliver_and_report(repository: ScenarioNotificationRepository) -> None:
    """Deliver what is pending to a sender that only counts, and report on the organization."""
    delivered: Counter[str] = Counter()

    async def send(notification: LeasedNotification) -> None:
        delivered[f"{notification.scenario_type} to {len(notification.device_tokens)} device(s)"] += 1

    await asyncio.sleep(1)  # until the lease taken by evaluate_and_explain has run out
    started = time.monotonic()
    settled = await DeliveryWorker(repository, send, concurrency=200).run(until_idle=True)
    title = f"Delivered {settled.total()} in {seconds_since(started)}"
    table = new_table(title, "to the sender", "notifications")
    for name, number in sorted(delivered.items()):
        table.add_row(name, str(number))
    console.print(table)
    meaning("all that was claimed above, each handed to the sender once; this one only counts")
    meaning("to 0 device(s): nobody to push to; a sender may use another channel, such as e-mail")
    now = datetime.now(UTC)
    report = await repository.get_organization_report(SAMPLE_ORGANIZATION, now - timedelta(days=1), now)
    table = new_table("The organization's last day", "scenario", *DeliveryStatus)
    for kind in ScenarioType:
        table.add_row(kind, *[str(report.count(kind, status)) for status in DeliveryStatus])
    console.print(table)
    meaning("notifications by status: none waits, none failed. Two of welcome_back are Ada's and Bo's of the beginning")


async def remember(stack: EmbeddedStack, client: AsyncClient) -> None:
    """Show what is remembered: a failure, a series of reminders, what was told of."""
    repository = ScenarioNotificationRepository(client)
    broken, quiet, certified = [
        await mentor(stack, client, name, days) for name, days in (("Cato", 40), ("Dina", 40), ("Eli", 1))
    ]
    # A month is too long for a demo.
    await (
        client.table("scenario_evaluation_config")
        .insert({"scenario_type": "inactivity", "organization_id": str(quiet.organization_id), "cooldown": "1 second"})
        .execute()
    )
    told: list[LeasedNotification] = []

    async def send(notification: LeasedNotification) -> None:
        told.append(notification)
        if notification.user_id == broken.user_id:
            raise PermanentDeliveryError("invalid_token")

    async def one_round(mentor: SampleMentor, kind: ScenarioType) -> str:
        report = await ScenarioTriggerEngine(repository).run([kind], organization_id=mentor.organization_id)
        await DeliveryWorker(repository, send, organization_id=mentor.organization_id).run(until_idle=True)
        return "told" if report.scenarios[0].claimed else reasons(Counter(report.scenarios[0].skipped))

    rounds = 5
    lines: dict[str, list[str]] = {"a dead device": [], "a mentor who stays away": []}
    for _ in range(rounds):
        for line, one in zip(lines.values(), (broken, quiet), strict=True):
            line.append(await one_round(one, ScenarioType.INACTIVITY))
        await asyncio.sleep(1.1)
    table = new_table(f"{rounds} rounds: a failure holds for a day, a series ends after three", "round", *lines)
    for number, outcomes in enumerate(zip(*lines.values(), strict=True), start=1):
        table.add_row(str(number), *outcomes)
    console.print(table)
    meaning("told: claimed and handed to the sender. cooldown 1: one mentor is due, and the failure still holds")
    meaning("reminders_spent 1: one mentor is due, and was reminded as often as the settings allow")

    table = new_table("Two certificates: told of the first, the second is still news", "entered", "names", "new")
    for kind, ahead in (("first aid", 29), ("life saving", 10)):
        await (
            client.table("certifications")
            .insert(
                {
                    "user_id": str(certified.user_id),
                    "organization_id": str(certified.organization_id),
                    "kind": kind,
                    "expires_at": days_from_now(ahead),
                }
            )
            .execute()
        )
        await one_round(certified, ScenarioType.CERTIFICATION_EXPIRY)
        facts = told[-1].facts
        new = facts.new_subjects if isinstance(facts, CertificationExpiryFacts) else ()
        table.add_row(kind, ", ".join(told[-1].subjects), ", ".join(new))
    console.print(table)
    meaning("names: every certificate that expires soon. new: those of them that she was not told of before")


async def ask_again(stack: EmbeddedStack, client: AsyncClient) -> None:
    """Show what the lease asks before it hands out what was claimed: four were quiet, and then things change."""
    repository = ScenarioNotificationRepository(client)
    finn, guro, hedda, ivar = [await mentor(stack, client, name, 40) for name in ("Finn", "Guro", "Hedda", "Ivar")]
    for one in finn, guro, hedda, ivar:
        await ScenarioTriggerEngine(repository).run([ScenarioType.INACTIVITY], organization_id=one.organization_id)

    today = datetime.now(UTC).date()
    away = NewDayOff(
        organization_id=finn.organization_id, first_day=today - timedelta(days=1), last_day=today + timedelta(days=1)
    )
    await repository.add_days_off([away])
    async with connect_as_user(guro.token, stack.url, stack.publishable_key) as own:
        await ScenarioNotificationRepository(own).mute(
            NewMute(user_id=guro.user_id, scenario_type=ScenarioType.INACTIVITY)
        )
    scope = hedda.model_dump(mode="json")
    await client.table("activities").insert(scope | {"activity_date": days_from_now(0)}).execute()
    devices = [
        {"user_id": str(ivar.user_id), "token": token, "platform": "ios"} for token in ("old phone", "new phone")
    ]
    await client.table("device_tokens").insert(devices).execute()

    async def send(_: LeasedNotification, device: DeviceToken) -> None:
        if device.token.startswith("old"):
            raise InvalidDeviceToken

    table = new_table("Claimed, and asked again before it is told", "who", "then", "outcome")
    for name, then, one in (
        ("Finn", "the organization has days off", finn),
        ("Guro", "she mutes it", guro),
        ("Hedda", "she is active again", hedda),
        ("Ivar", "one of two tokens is dead", ivar),
    ):
        await DeliveryWorker(repository, send_to_device=send, organization_id=one.organization_id).run(until_idle=True)
        (notification,) = await repository.list_notifications(one.user_id)
        outcome = f"{notification.delivery_status} {notification.failure_code or ''}".strip()
        if notification.delivery_status is DeliveryStatus.PENDING:
            lease = await repository.lease_notifications(1, organization_id=one.organization_id)
            outcome += f", looked at again {lease.next_due_at:%A %H:%M}"
        table.add_row(name, then, outcome)
    console.print(table)
    meaning("outcome: the notification's status, and why it failed: nobody is told what is no longer so")
    rows = (await client.table("device_tokens").select("token,platform").eq("user_id", ivar.user_id).execute()).data
    left = ", ".join(device.token for device in DEVICES.validate_python(rows))
    meaning(f"Ivar's devices now, without the dead one: {left}")


async def mentor(stack: EmbeddedStack, client: AsyncClient, name: str, days_away: int) -> SampleMentor:
    """Sign up a mentor of an organization of her own, last active that long ago."""
    user_id, token = await sign_up(stack, name)
    one = SampleMentor(user_id=user_id, organization_id=uuid4(), token=token)
    columns = one.model_dump(mode="json")
    await client.table("peer_mentors").insert(columns).execute()
    await client.table("activities").insert(columns | {"activity_date": days_from_now(-days_away)}).execute()
    return one


def days_from_now(days: int) -> str:
    """Write the moment that many days ahead."""
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


if __name__ == "__main__":
    sys.exit(main())
