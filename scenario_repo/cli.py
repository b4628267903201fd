"""scenario-repo: evaluation, delivery and reports from a shell or a cron.

Settings come from the environment, as for :func:`scenario_repo.connect`; a key is never an argument.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn
from uuid import UUID

from scenario_repo import _console, _options, _project
from scenario_repo._limits import DEFAULT_PAGE_SIZE, MAX_DAYS, MAX_LEASES, MAX_PAGE_SIZE, MAX_SAMPLES
from scenario_repo.client import connect
from scenario_repo.delivery import DeliveryWorker
from scenario_repo.engine import ScenarioTriggerEngine
from scenario_repo.exceptions import (
    ConfigurationException,
    InvalidDataException,
    PermissionDeniedException,
    ScenarioRepositoryException,
    SchemaNotMigratedException,
    UnavailableException,
    UnexpectedResponseException,
)
from scenario_repo.models import ScenarioType
from scenario_repo.repository import ScenarioNotificationRepository
from scenario_repo.senders import Failure, SenderFailingError, failure_of

DONE: Final = 0
STOPPED: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3
FAILED: Final = 4

_EPILOG: Final = """\
settings, from the environment:
  SUPABASE_URL           the project's URL
  SUPABASE_SECRET_KEY    its secret key (or SUPABASE_SECRET_KEYS, or SUPABASE_SERVICE_ROLE_KEY)

a TIME is a number of seconds, or a number and its unit: 90, 15m, 2h, 30d

exit codes:
  0  done
  1  stopped before the end, by the time budget or a signal: the next run continues there
  2  wrong usage, settings or key: trying again changes nothing
  3  the database is unavailable: try again later
  4  refused or failed: no permission, migrations missing, or anything else
"""

_REMEDIES: Final[dict[type[ScenarioRepositoryException], str]] = {
    ConfigurationException: "see --help for the settings",
    PermissionDeniedException: "check that SUPABASE_SECRET_KEY is a secret key of this project",
    SchemaNotMigratedException: "copy the migrations (`scenario-repo migrations supabase/migrations`) and apply them",
    UnavailableException: "try again later, and check SUPABASE_URL if it lasts",
    UnexpectedResponseException: "check SUPABASE_URL, and any proxy in between",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], Coroutine[Any, Any, int]] = options.command
    try:
        code = asyncio.run(command(options))
        sys.stdout.flush()
    except ScenarioRepositoryException as error:
        return _print_error(error)
    except KeyboardInterrupt:
        _print_note("interrupted")
        return STOPPED
    except BrokenPipeError:
        # The reader of standard output has gone; Python's flush at exit must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STOPPED
    except OSError as error:
        _print_note(f"{type(error).__name__}: {error.strerror or 'no reason given'}")
        return FAILED
    except Exception as error:  # noqa: BLE001 - one line for a cron; the error's text may hold secrets
        _print_note(f"failed unexpectedly with {type(error).__name__}")
        return FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="scenario-repo", description=__doc__.partition("\n")[0], epilog=_EPILOG, formatter_class=layout
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], Coroutine[Any, Any, int]]) -> argparse.ArgumentParser:
        text = (command.__doc__ or "").partition("\n")[0]
        added = commands.add_parser(name, help=text, description=text, epilog=_EPILOG, formatter_class=layout)
        added.set_defaults(command=command)
        return added

    evaluate = add("evaluate", _evaluate)
    built_in = ", ".join(ScenarioType)
    evaluate.add_argument(
        "--scenario",
        action="append",
        type=_options.scenario_type,
        metavar="NAME",
        help=f"only this one (repeatable): {built_in}, or one of the app's own",
    )
    evaluate.add_argument("--organization", type=UUID, metavar="UUID", help="only this one's mentors")
    evaluate.add_argument("--time-budget", type=_options.duration(), default=timedelta(seconds=25), metavar="TIME")
    evaluate.add_argument("--page-size", type=_options.up_to(MAX_PAGE_SIZE), default=DEFAULT_PAGE_SIZE, metavar="N")
    evaluate.add_argument(
        "--due-within",
        type=_options.duration(MAX_DAYS),
        metavar="TIME",
        help="tell what came true at most that long ago, such as 90d; what is older is history"
        " (default: the settings' due_within)",
    )
    evaluate.add_argument("--dry-run", action="store_true", help="count who would be notified, and write nothing")
    evaluate.add_argument("--json", action="store_true")

    explain = add("explain", _explain)
    explain.add_argument("user_id", type=UUID, metavar="USER_ID")
    explain.add_argument("--json", action="store_true")

    deliver = add("deliver", _deliver)
    kinds = deliver.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--sender", type=_options.sender, metavar="MODULE:FUNCTION", help="async send(notification)")
    kinds.add_argument(
        "--device-sender",
        type=_options.device_sender,
        metavar="MODULE:FUNCTION",
        help="async send(notification, device), called for each of the user's devices",
    )
    deliver.add_argument("--once", action="store_true", help="end when nothing is due any more")
    deliver.add_argument("--organization", type=UUID, metavar="ORGANIZATION_ID", help="of one organization alone")
    deliver.add_argument(
        "--scenario",
        type=_options.scenario_type,
        action="append",
        metavar="TYPE",
        help="of this scenario type alone; may be given several times",
    )
    deliver.add_argument(
        "--max-attempts", type=_options.up_to(1_000), metavar="N", help="instead of the scenario's settings"
    )
    deliver.add_argument("--rate", type=_options.rate, metavar="N", help="begin at most so many sends in a second")
    deliver.add_argument(
        "--traceback", action="store_true", help="if the sender's failures end it: show where, line by line"
    )
    deliver.add_argument("--json", action="store_true")
    deliver.add_argument("--concurrency", type=_options.up_to(MAX_LEASES), default=20, metavar="N")
    deliver.add_argument("--send-timeout", type=_options.duration(), default=timedelta(seconds=30), metavar="TIME")

    report = add("report", _report)
    report.add_argument("organization_id", type=UUID, metavar="ORGANIZATION_ID")
    report.add_argument(
        "--days", type=_options.up_to(MAX_DAYS), default=30, metavar="N", help="today and the days before it, in UTC"
    )
    report.add_argument("--json", action="store_true")

    migrations = add("migrations", _migrations)
    migrations.add_argument("directory", type=Path, metavar="DIRECTORY")
    migrations.add_argument(
        "--check", action="store_true", help="copy nothing; exit code 4 if one is missing or differs"
    )
    migrations.add_argument("--create", action="store_true", help="make the folder if it is not there")

    new_scenario = add("new-scenario", _new_scenario)
    new_scenario.add_argument(
        "name",
        type=_options.own_scenario_type,
        metavar="NAME",
        help="such as first_session: lower-case letters, digits, underscores",
    )
    new_scenario.add_argument(
        "--project", type=Path, default=Path("supabase"), metavar="DIRECTORY", help="the project's folder (supabase)"
    )

    check_rules = add("check-rules", _check_rules)
    check_rules.add_argument("names", nargs="*", type=_options.scenario_type, metavar="NAME", help="only these")
    check_rules.add_argument(
        "--samples",
        type=_options.up_to(MAX_SAMPLES),
        default=10,
        metavar="N",
        help="how many of those who are due (10)",
    )
    check_rules.add_argument("--plans", action="store_true", help="show PostgreSQL's plans too")
    check_rules.add_argument("--json", action="store_true")
    return parser


# The commands ------------------------------------------------------------


async def _evaluate(options: argparse.Namespace) -> int:
    """Find who is due, and claim their notifications."""
    async with connect() as client:
        with _console.progress(sys.stderr) as on_page:
            engine = ScenarioTriggerEngine(
                ScenarioNotificationRepository(client), page_size=options.page_size, on_page=on_page
            )
            report = await engine.run(
                options.scenario,
                options.organization,
                options.time_budget,
                dry_run=options.dry_run,
                due_within=options.due_within,
            )
    if options.json:
        _print_json(_console.evaluation_json(report))
    else:
        _print_lines(_console.evaluation_lines(report))
    codes = [_print_error(one.error, one.scenario_type) for one in report.scenarios if one.error is not None]
    return max(codes, default=DONE if report.completed else STOPPED)


async def _explain(options: argparse.Namespace) -> int:
    """Say for each scenario whether a mentor is due, and why or why not."""
    async with connect() as client:
        explanations = await ScenarioNotificationRepository(client).explain_scenarios(options.user_id)
    if options.json:
        _print_json([explanation.model_dump(mode="json") for explanation in explanations])
    else:
        _print_lines(_console.explanation_lines(explanations))
    return DONE


async def _deliver(options: argparse.Namespace) -> int:
    """Send pending notifications, until a signal or, with --once, until nothing is due.

    On the first SIGTERM or SIGINT the running sends finish; on the second they are cancelled and released.
    """
    async with connect() as client:
        worker = DeliveryWorker(
            ScenarioNotificationRepository(client),
            options.sender,
            send_to_device=options.device_sender,
            concurrency=options.concurrency,
            send_timeout=options.send_timeout,
            max_attempts=options.max_attempts,
            organization_id=options.organization,
            scenario_types=options.scenario,
            rate=options.rate,
            on_progress=_console.delivery_progress(_print_note),
        )
        code, failure = await _delivered(worker, options)
    if failure is not None and options.traceback:
        for frame in failure.frames:
            _print_note(f"  {frame}")
    if options.json:
        _print_json(_console.delivery_json(worker.settled, failure))
    elif code == DONE or worker.settled:
        _print_lines([_console.delivery_line(worker.settled)])
    if worker.is_abandoning:
        _end_by_force(code)
    return code


async def _delivered(worker: DeliveryWorker, options: argparse.Namespace) -> tuple[int, Failure | None]:
    """Deliver to the end, by itself or by signals; return the exit code, and the sender's failure that ended it."""
    delivery = asyncio.ensure_future(worker.run(until_idle=options.once))
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            _print_note("finishing the running sends; a second signal cancels them")
            worker.stop()
        else:
            delivery.cancel()

    try:
        with _handled_signals(on_signal):
            await delivery
    except asyncio.CancelledError:
        if not signals:
            raise
        _print_note("cancelled the running sends, and released them")
        return STOPPED, None
    except SenderFailingError as error:
        _print_note(f"stopped: {error}; their attempts were given back")
        return FAILED, error.failure
    except ScenarioRepositoryException as error:
        return _print_error(error), None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the sender's: its text may hold a token
        failure = failure_of(options.sender or options.device_sender, error)
        _print_note(f"stopped: the sender raised {failure.kind} at {failure.place}")
        return FAILED, failure
    return DONE, None


@contextmanager
def _handled_signals(handler: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # on Windows, Ctrl-C cancels the task
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


async def _report(options: argparse.Namespace) -> int:
    """Count an organization's notifications per scenario type, status and day, and why any failed."""
    until = datetime.now(UTC)
    since = datetime.combine(until.date() - timedelta(days=options.days - 1), time(), UTC)
    async with connect() as client:
        report = await ScenarioNotificationRepository(client).get_organization_report(
            options.organization_id, since, until
        )
    if options.json:
        _print_json(_console.report_json(report))
    else:
        _print_lines(_console.report_lines(report, bar="█" if _can_print("█") else "#"))
    return DONE


async def _migrations(options: argparse.Namespace) -> int:
    """Copy the migrations into a project, such as supabase/migrations; with --check, say whether they are there."""
    return _copy_migrations(options.directory, create=options.create, only_look=options.check)


def _copy_migrations(directory: Path, *, create: bool, only_look: bool) -> int:
    if not directory.is_dir() and not (create and not directory.exists()):
        _print_note(f"{directory} is no folder: run this where `supabase init` made one, or give --create")
        return USAGE
    if not only_look:
        directory.mkdir(parents=True, exist_ok=True)
    copies = _project.copy_migrations(directory, datetime.now(UTC), only_look=only_look)
    for name in copies.differing:
        _print_note(f"{name} is not what this version has; it stays as it is")
    for name in copies.repeated:
        _print_note(f"{name} is a second copy; keep the one that is applied")
    if only_look:
        _print_lines([f"missing {name.partition('_')[2]}" for name in copies.copied])
        return FAILED if copies.copied or copies.differing or copies.repeated else DONE
    _print_lines([f"copied {name}" for name in copies.copied])
    if copies.copied:
        _print_lines(["next: apply it (supabase db push; supabase migration up for a local database)"])
    elif not copies.differing:
        _print_lines(["nothing to copy: every migration is there"])
    return DONE


async def _new_scenario(options: argparse.Namespace) -> int:
    """Write the migration of a scenario type of the app's own, and its test, to be filled in."""
    migration, test = _project.write_scenario(options.name, options.project, datetime.now(UTC))
    apply = f"fill in the rule in {migration.name}, and apply it (supabase db push)"
    check = f"look at it: scenario-repo check-rules {options.name}"
    _print_lines([f"wrote {migration}", f"wrote {test}", f"next: {apply}; then {check}"])
    return DONE


async def _check_rules(options: argparse.Namespace) -> int:
    """Run rules without claiming: their faults, who is due, and how the database finds them."""
    async with connect() as client:
        repository = ScenarioNotificationRepository(client)
        names = options.names or (await repository.describe_schema()).scenario_types
        checks = [await repository.check_rule(name, options.samples) for name in dict.fromkeys(names)]
    if options.json:
        _print_json([check.model_dump(mode="json") for check in checks])
    else:
        for check in checks:
            _print_lines(_console.check_lines(check, plans=options.plans))
    return FAILED if any(check.faults for check in checks) else DONE


def _end_by_force(code: int) -> NoReturn:
    """End the process though a send ignores its cancellation, for which the event loop would wait for ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


# Output ------------------------------------------------------------------


def _print_error(error: ScenarioRepositoryException, about: str | None = None) -> int:
    """Print the error and its remedy in one line, and return its exit code."""
    # A refusal in the database's own words says what to do.
    is_told = (error.code or "").startswith("SR")
    remedy = None if is_told else next((text for kind, text in _REMEDIES.items() if isinstance(error, kind)), None)
    message = " ".join(str(error).split())
    _print_note(f"{f'{about}: ' if about else ''}{message}{f'; {remedy}' if remedy else ''}")
    if isinstance(error, ConfigurationException | InvalidDataException):
        return USAGE
    if isinstance(error, PermissionDeniedException):
        # 401: the server does not know the key; 403: it knows the key and refuses the request.
        return USAGE if error.http_status == 401 else FAILED  # noqa: PLR2004
    return UNAVAILABLE if error.retryable or isinstance(error, UnavailableException) else FAILED


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        print(line)  # noqa: T201


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201


def _print_note(text: str) -> None:
    print(f"scenario-repo: {text}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
