"""scenario-repo deliver: hand what is pending to the app's sender."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Annotated, Final
from uuid import UUID

import typer
from rich.progress import MofNCompleteColumn, TextColumn

from scenario_repo._cli import values
from scenario_repo._cli.endings import DONE, FAILED, STOPPED
from scenario_repo._cli.output import live, print_error, print_json, print_lines, print_note
from scenario_repo._cli.running import command, database, end_by_force, handled_signals
from scenario_repo._limits import MAX_LEASES
from scenario_repo.delivery import DeliveryWorker
from scenario_repo.exceptions import ScenarioRepositoryException
from scenario_repo.models import SettlementAnswer
from scenario_repo.repository import ScenarioNotificationRepository
from scenario_repo.senders import Failure, Send, SenderFailingError, SendToDevice, failure_of

_SECONDS_BETWEEN_NOTES: Final = 5.0
_MAX_ATTEMPTS: Final = 1_000


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "deliver")(deliver)


async def deliver(  # noqa: PLR0913 - one for each option
    *,
    sender: Annotated[
        Send | None, typer.Option(parser=values.sender, metavar="MODULE:FUNCTION", help="async send(notification).")
    ] = None,
    device_sender: Annotated[
        SendToDevice | None,
        typer.Option(
            parser=values.device_sender,
            metavar="MODULE:FUNCTION",
            help="async send(notification, device), called for each of the user's devices; instead of --sender.",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when nothing is due any more.")] = False,
    organization: Annotated[UUID | None, typer.Option(metavar="UUID", help="Of one organization alone.")] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            parser=values.scenario_type, metavar="NAME", help="Of this scenario type alone; may be given several times."
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=MAX_LEASES, metavar="N", help="Sends at the same time.")] = 20,
    send_timeout: Annotated[
        timedelta,
        typer.Option(parser=values.duration(), metavar="TIME", help="Longest time of one send.", show_default="30s"),
    ] = timedelta(seconds=30),
    max_attempts: Annotated[
        int | None,
        typer.Option(
            min=1, max=_MAX_ATTEMPTS, metavar="N", help="Tries of each.", show_default="the settings' max_attempts"
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            parser=values.rate, metavar="N", help="Begin at most so many sends in a second.", show_default="no limit"
        ),
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="If the sender's failures end it: show where, line by line.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Send pending notifications, until a signal or, with --once, until nothing is due.

    On the first SIGTERM or SIGINT the running sends finish; on the second they are cancelled and released.
    """
    send: Send | SendToDevice | None = sender or device_sender
    if send is None or (sender is not None and device_sender is not None):
        raise typer.BadParameter("expected one of the two", param_hint=["--sender", "--device-sender"])
    async with database() as repository:
        total = await _due(repository, scenario) if once and organization is None and sys.stderr.isatty() else None
        with _progress(total) as on_progress:
            worker = DeliveryWorker(
                repository,
                sender,
                send_to_device=device_sender,
                concurrency=concurrency,
                send_timeout=send_timeout,
                max_attempts=max_attempts,
                organization_id=organization,
                scenario_types=scenario,
                rate=rate,
                on_progress=on_progress,
            )
            code, failure = await _delivered(worker, send, once=once)
    if failure is not None and traceback:
        for frame in failure.frames:
            print_note(f"  {frame}")
    if as_json:
        failed = failure and {"kind": failure.kind, "place": failure.place}
        print_json({"settled": dict(worker.settled), "failure": failed})
    elif code == DONE or worker.settled:
        print_lines([_line(worker.settled)])
    if worker.is_abandoning:
        end_by_force(code)
    return code


async def _delivered(worker: DeliveryWorker, sender: Send | SendToDevice, *, once: bool) -> tuple[int, Failure | None]:
    """Deliver to the end, by itself or by signals; return the exit code, and the sender's failure that ended it."""
    delivery = asyncio.ensure_future(worker.run(until_idle=once))
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            print_note("finishing the running sends; a second signal cancels them")
            worker.stop()
        else:
            delivery.cancel()

    # What is loaded by now stays: looking at it again and again is a quarter of the work of many sends at once.
    gc.freeze()
    try:
        with handled_signals(on_signal):
            await delivery
    except asyncio.CancelledError:
        if not signals:
            raise
        print_note("cancelled the running sends, and released them")
        return STOPPED, None
    except SenderFailingError as error:
        print_note(f"stopped: {error}; their attempts were given back")
        return FAILED, error.failure
    except ScenarioRepositoryException as error:
        return print_error(error), None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the sender's: its text may hold a token
        failure = failure_of(sender, error)
        print_note(f"stopped: the sender raised {failure.kind} at {failure.place}")
        return FAILED, failure
    return DONE, None


def _line(settled: Counter[SettlementAnswer | str]) -> str:
    """Count the results of the deliveries."""
    answers = dict.fromkeys([*SettlementAnswer, *sorted(settled)])
    return ", ".join(f"{answer} {settled[answer]:,}" for answer in answers if settled[answer]) or "nothing due"


async def _due(repository: ScenarioNotificationRepository, scenarios: list[str] | None) -> int | None:
    """Count what is due, for the progress; it is not worth a failure."""
    with suppress(ScenarioRepositoryException):
        found = (await repository.get_status()).scenarios
        return sum(one.due_now for one in found if not scenarios or one.scenario_type in scenarios)
    return None


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[Counter[SettlementAnswer | str]], None]]:
    """Tell how far a delivery is: by a bar on a terminal, else by a line every few seconds."""
    if not sys.stderr.isatty():
        yield _notes()
        return
    with live(MofNCompleteColumn() if total is not None else TextColumn("")) as bars:
        task = bars.add_task("nothing sent yet", total=total)
        yield lambda settled: bars.update(task, completed=settled.total(), description=_line(settled))


def _notes() -> Callable[[Counter[SettlementAnswer | str]], None]:
    told_at = time.monotonic()

    def progress(settled: Counter[SettlementAnswer | str]) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _SECONDS_BETWEEN_NOTES:
            told_at = time.monotonic()
            print_note(f"so far {_line(settled)}")

    return progress
