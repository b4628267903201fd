"""scenario-repo pending, failed, retry, cancel and purge: single notifications, and old ones."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeVar
from uuid import UUID

import typer

from scenario_repo._cli import values
from scenario_repo._cli.endings import DONE, FAILED, STOPPED
from scenario_repo._cli.output import Figures, counted, print_figures, print_json, print_lines, print_note
from scenario_repo._cli.running import command, database, handled_signals
from scenario_repo._cli.words import minute_of
from scenario_repo._limits import DEFAULT_PAGE_SIZE, MAX_DAYS, MAX_LEASES, MAX_LISTED, MAX_PAGE_SIZE
from scenario_repo.models import CancelAnswer, RetryAnswer, ScenarioNotification
from scenario_repo.status import PendingNotification

T = TypeVar("T")

_NOT_RETRIED: Final = {RetryAnswer.PENDING, RetryAnswer.SENT, RetryAnswer.UNKNOWN}
_STANDARD_INPUT: Final = "-"

Organization = Annotated[
    UUID | None, typer.Option(metavar="UUID", help="Of one organization alone.", show_default="all")
]
Scenario = Annotated[
    str | None,
    typer.Option(parser=values.scenario_type, metavar="NAME", help="Of this scenario type alone.", show_default="all"),
]
Limit = Annotated[int, typer.Option(min=1, metavar="N", help="How many, at most.")]
Ids = Annotated[bool, typer.Option("--ids", help="Print the ids alone, one a line: for retry and cancel.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _ids_of(given: list[str]) -> list[str]:
    """Take ids from the arguments and, for a dash, from standard input; each once, in the order given."""
    ids: dict[str, None] = {}
    for text in given:
        for word in _words_of_input() if text == _STANDARD_INPUT else (text,):
            try:
                ids[str(UUID(word))] = None
            except ValueError:
                raise typer.BadParameter("expected ids (UUIDs), or - for standard input") from None
    return list(ids)


def _words_of_input() -> Iterator[str]:
    for line in sys.stdin:
        yield from line.split()


GivenIds = Annotated[
    list[str],
    typer.Argument(
        metavar="ID",
        help="Ids of notifications; - reads them from standard input.",
        show_default=False,
        # Before the event loop, in which a first Ctrl-C would not end the reading.
        callback=_ids_of,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "pending")(pending)
    command(app, "failed")(failed)
    command(app, "retry")(retry)
    command(app, "cancel")(cancel)
    command(app, "purge")(purge)


async def pending(
    *,
    organization: Organization = None,
    scenario: Scenario = None,
    limit: Limit = 50,
    ids: Ids = False,
    as_json: Json = False,
) -> int:
    """List what is pending, in the order in which it comes due."""
    async with database() as repository:

        async def page(last: PendingNotification | None, size: int) -> list[PendingNotification]:
            return await repository.list_pending(organization, scenario, last, size)

        found = await _paged(page, limit)
    names = (
        "id",
        "user_id",
        "organization_id",
        "scenario",
        "triggered_at",
        "next_attempt_at",
        "attempts",
        "state",
        "code",
    )
    rows = [
        (
            *(str(value) for value in (one.id, one.user_id, one.organization_id, one.scenario_type)),
            minute_of(one.triggered_at),
            minute_of(one.next_attempt_at),
            str(one.attempt_count),
            _state(one),
            one.failure_code or "",
        )
        for one in found
    ]
    return _print_found(
        found, Figures(names, rows, frozenset({"attempts"}), _asked(organization, scenario)), ids=ids, as_json=as_json
    )


async def failed(
    *,
    organization: Organization = None,
    scenario: Scenario = None,
    limit: Limit = 50,
    ids: Ids = False,
    as_json: Json = False,
) -> int:
    """List what failed, newest first."""
    async with database() as repository:

        async def page(last: ScenarioNotification | None, size: int) -> list[ScenarioNotification]:
            return await repository.list_failed(organization, scenario, last, size)

        found = await _paged(page, limit)
    names = ("id", "user_id", "organization_id", "scenario", "triggered_at", "failed_at", "code")
    rows = [
        (
            *(str(value) for value in (one.id, one.user_id, one.organization_id, one.scenario_type)),
            minute_of(one.triggered_at),
            minute_of(one.settled_at),
            one.failure_code or "",
        )
        for one in found
    ]
    return _print_found(found, Figures(names, rows, asked=_asked(organization, scenario)), ids=ids, as_json=as_json)


async def retry(given: GivenIds, *, as_json: Json = False) -> int:
    """Let failed notifications be tried anew: what an evaluation made is freed, the rest is recorded once more."""
    wanted = _wanted(given)
    async with database() as repository:
        outcomes = await _in_batches(wanted, repository.retry_notifications, "retried")
    if as_json:
        print_json([{"id": str(one)} | outcome.model_dump(mode="json") for one, outcome in _paired(wanted, outcomes)])
    else:
        print_lines(
            f"{one}  {outcome.answer}{f' as {outcome.notification_id}' if outcome.notification_id else ''}"
            for one, outcome in _paired(wanted, outcomes)
        )
        print_note(_sum(outcome.answer for outcome in outcomes))
    return FAILED if any(outcome.answer in _NOT_RETRIED for outcome in outcomes) else DONE


async def cancel(given: GivenIds, *, as_json: Json = False) -> int:
    """Cancel pending notifications: they fail as cancelled, and hold for their cooldown."""
    wanted = _wanted(given)
    async with database() as repository:
        answers = await _in_batches(wanted, repository.cancel_notifications, "cancelled")
    if as_json:
        print_json([{"id": str(one), "answer": answer} for one, answer in _paired(wanted, answers)])
    else:
        print_lines(f"{one}  {answer}" for one, answer in _paired(wanted, answers))
        print_note(_sum(answers))
    return FAILED if any(answer != CancelAnswer.CANCELLED for answer in answers) else DONE


async def purge(
    *,
    older_than: Annotated[
        timedelta,
        typer.Option(
            parser=values.duration(MAX_DAYS), metavar="TIME", help="What has been over for longer, such as 365d."
        ),
    ],
    time_budget: Annotated[
        timedelta,
        typer.Option(parser=values.duration(), metavar="TIME", help="Stop after that long.", show_default="25s"),
    ] = timedelta(seconds=25),
    page_size: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_SIZE, metavar="N", help="Users in a page.")
    ] = DEFAULT_PAGE_SIZE,
    after: Annotated[
        UUID | None, typer.Option(metavar="USER_ID", help="Begin behind this user, where a run before stopped.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Delete old notifications that no decision depends on."""
    deadline = time.monotonic() + time_budget.total_seconds()
    purged, longest, more, stopped = 0, 0.0, True, False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    async with database() as repository:
        with counted("notifications purged") as show, handled_signals(stop):
            while more and not stopped and time.monotonic() + longest < deadline:
                started = time.monotonic()
                page = await repository.purge_page(older_than, after, page_size)
                longest = max(longest, time.monotonic() - started)
                purged, after, more = purged + page.purged, page.next_after, page.next_after is not None
                show(purged)
    if as_json:
        print_json({"purged": purged, "completed": not more, "next_after": after and str(after)})
    else:
        rest = f", not finished: go on with --after {after}" if more and after else ", not finished" if more else ""
        print_lines([f"{purged:,} purged{rest}"])
    return STOPPED if more else DONE


def _asked(organization: UUID | None, scenario: str | None) -> frozenset[str]:
    given = {"organization_id": organization, "scenario": scenario}
    return frozenset(name for name, value in given.items() if value is not None)


def _state(one: PendingNotification) -> str:
    if one.leased_until is not None:
        return "leased"
    return "due" if one.next_attempt_at <= datetime.now(UTC) else "waiting"


async def _paged(page: Callable[[T | None, int], Awaitable[list[T]]], limit: int) -> list[T]:
    """Read page after page, until there are as many as asked for, or no more."""
    found: list[T] = []
    while len(found) < limit:
        size = min(limit - len(found), MAX_LISTED)
        more = await page(found[-1] if found else None, size)
        found += more
        if len(more) < size:
            break
    return found


def _print_found(
    found: Sequence[PendingNotification | ScenarioNotification], figures: Figures, *, ids: bool, as_json: bool
) -> int:
    if as_json:
        # What it tells, and about what, is the app's.
        print_json([one.model_dump(mode="json", exclude={"metadata", "subjects"}) for one in found])
    elif ids:
        print_lines(str(one.id) for one in found)
    elif found:
        print_figures(figures)
    else:
        print_note("none")
    return DONE


def _wanted(given: list[str] | None) -> list[UUID]:
    """Take the ids; Typer makes None of none, as an empty standard input gives."""
    return [UUID(one) for one in given or ()]


async def _in_batches(ids: Sequence[UUID], ask: Callable[[Sequence[UUID]], Awaitable[list[T]]], what: str) -> list[T]:
    answers: list[T] = []
    with counted(what, len(ids)) as show:
        for first in range(0, len(ids), MAX_LEASES):
            answers += await ask(ids[first : first + MAX_LEASES])
            show(len(answers))
    return answers


def _paired(ids: Sequence[UUID], answers: Sequence[T]) -> Iterator[tuple[UUID, T]]:
    return zip(ids, answers, strict=True)


def _sum(answers: Iterable[object]) -> str:
    return ", ".join(f"{answer} {count:,}" for answer, count in Counter(map(str, answers)).items()) or "no ids given"
