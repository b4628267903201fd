"""The logger tree and every line that is logged: its name, its level and its text.

::

    scenario_repo             everything below
    ├── scenario_repo.claims      duplicates among claims
    ├── scenario_repo.console     pages that failed
    ├── scenario_repo.delivery    the delivery worker
    ├── scenario_repo.engine      the evaluation
    └── scenario_repo.telemetry   the backlog's figures

DEBUG tells each page and lease, INFO what was done, WARNING what lasts or wants somebody to look, ERROR what ended a
worker or a scenario's run. What a claim or a lease is refused for (a cooldown, a mute, a lease that ran out) is
routine.

A record's fields are attributes of it (``extra``), ``event`` with them, so that a JSON formatter writes them. They are
counts, seconds, codes, names of scenario types and ids of notifications: never a key, a token, metadata, a text that a
sender raised, or a user's id. The library adds no handler but a NullHandler: the app's own logging set-up is in charge.

The HTTP client has loggers of its own: ``httpx`` tells each URL at INFO, ``httpcore`` a part of the headers at DEBUG.
Neither tells a key, a body or a token; the URL of a read from a table (``list_notifications``, ``list_mutes``) has the
user's id. Who wants none in the logs sets both to WARNING.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scenario_repo.exceptions import ScenarioRepositoryException

_ROOT: Final = "scenario_repo"
KEEPS_FAILING: Final = 3
"""So many failures in a row are no hiccup any more."""

logging.getLogger(_ROOT).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Event:
    """One kind of line."""

    name: str
    part: str
    """The logger's name below ``scenario_repo``."""
    level: int
    text: str
    """With the names of the fields it shows, in ``%`` form."""

    def tell(self, **fields: object) -> None:
        """Log it; ``fields`` has at least those of the text."""
        logger = logging.getLogger(f"{_ROOT}.{self.part}")
        if logger.isEnabledFor(self.level):
            logger.log(self.level, self.text, fields, extra={"event": self.name, **fields}, stacklevel=2)


def counts(numbers: Mapping[str, int]) -> str:
    """Write counts by name for a text, such as ``failed 1, sent 3``."""
    return ", ".join(f"{name} {number}" for name, number in sorted(numbers.items())) or "nothing"


def of_error(error: ScenarioRepositoryException) -> dict[str, object]:
    """Return the fields of an error; its text holds no value of a row."""
    return {"error": str(error), "error_type": type(error).__name__, "code": error.code}


def lasting(failures: int, at_first: Event, later: Event) -> Event:
    """Return the event of a failure that is not the last try: routine at first, a warning if it lasts."""
    return later if failures >= KEEPS_FAILING else at_first


CLAIM_DUPLICATES: Final = Event(
    "claim_duplicates", "claims", logging.INFO, "%(duplicates)d of %(claims)d claims were duplicates: %(by_reason)s"
)

CONSOLE_FAILED: Final = Event("console_failed", "console", logging.ERROR, "a page failed: %(kind)s at %(place)s")

PAGE_EVALUATED: Final = Event(
    "page_evaluated",
    "engine",
    logging.DEBUG,
    "%(scenario_type)s: a page of %(page_size)d: due %(due)d, claimed %(claimed)d in %(seconds).1f s",
)
PAGE_HALVED: Final = Event(
    "page_halved", "engine", logging.INFO, "%(scenario_type)s: a page of %(page_size)d was not done in time, halved"
)
PAGE_FAILED: Final = Event(
    "page_failed", "engine", logging.INFO, "%(scenario_type)s: a page failed, will be tried again: %(error)s"
)
PAGE_KEEPS_FAILING: Final = Event(
    "page_keeps_failing",
    "engine",
    logging.WARNING,
    "%(scenario_type)s: a page failed %(failures)d times in a row, will be tried again: %(error)s",
)
SCENARIO_EVALUATED: Final = Event(
    "scenario_evaluated",
    "engine",
    logging.INFO,
    "%(scenario_type)s: evaluated %(evaluated)d, due %(due)d, claimed %(claimed)d, skipped %(skipped)d "
    "in %(seconds).1f s",
)
SCENARIO_FAILED: Final = Event(
    "scenario_failed", "engine", logging.ERROR, "%(scenario_type)s: the run of this scenario ended: %(error)s"
)
RUN_ENDED: Final = Event(
    "run_ended", "engine", logging.INFO, "claimed %(claimed)d in %(scenarios)d scenarios in %(seconds).1f s"
)

WORKER_STARTED: Final = Event(
    "worker_started", "delivery", logging.INFO, "delivery started, up to %(concurrency)d at once"
)
LEASED: Final = Event("leased", "delivery", logging.DEBUG, "leased %(leased)d")
NOT_HANDED_OUT: Final = Event("not_handed_out", "delivery", logging.INFO, "%(count)d not handed out: %(reason)s")
RULE_FAILED: Final = Event(
    "rule_failed",
    "delivery",
    logging.WARNING,
    "%(count)d not handed out, for their rule failed: scenario-repo check-rules",
)
LEASE_FAILED: Final = Event("lease_failed", "delivery", logging.INFO, "lease failed, will be tried again: %(error)s")
LEASE_KEEPS_FAILING: Final = Event(
    "lease_keeps_failing",
    "delivery",
    logging.WARNING,
    "lease failed %(failures)d times in a row, will be tried again: %(error)s",
)
LEASES_AGAIN: Final = Event("leases_again", "delivery", logging.INFO, "leases again after %(failures)d failures")
PROVIDER_PAUSED: Final = Event(
    "provider_paused", "delivery", logging.INFO, "the provider asked to wait: nothing is sent for %(seconds).1f s"
)
SEND_FAILED: Final = Event("send_failed", "delivery", logging.WARNING, "a send failed: %(kind)s at %(place)s")
SETTLED: Final = Event("settled", "delivery", logging.INFO, "settled %(count)d: %(by_answer)s")
SETTLEMENT_FAILED: Final = Event(
    "settlement_failed", "delivery", logging.INFO, "settlement failed, will be tried again: %(error)s"
)
SETTLEMENT_KEEPS_FAILING: Final = Event(
    "settlement_keeps_failing",
    "delivery",
    logging.WARNING,
    "settlement failed %(failures)d times in a row, will be tried again: %(error)s",
)
LEASES_LOST: Final = Event(
    "leases_lost", "delivery", logging.INFO, "%(lost)d of %(count)d leases had run out; they may be sent twice"
)
SEND_ABANDONED: Final = Event(
    "send_abandoned", "delivery", logging.WARNING, "a send ignores its cancellation; its lease will run out"
)
LEASES_LEFT: Final = Event(
    "leases_left",
    "delivery",
    logging.WARNING,
    "%(count)d leases could not be released and will run out: %(error)s",
)
WORKER_STOPPED: Final = Event("worker_stopped", "delivery", logging.INFO, "delivery stopped: %(by_answer)s")
WORKER_FAILED: Final = Event("worker_failed", "delivery", logging.ERROR, "delivery ended by %(error)s")

BACKLOG_UNKNOWN: Final = Event(
    "backlog_unknown", "telemetry", logging.WARNING, "the backlog could not be measured: %(error)s"
)

EVENTS: Final = {event.name: event for event in tuple(globals().values()) if isinstance(event, Event)}
"""All of them, by name."""
