"""Engines that share a pass, on connections of psycopg."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from tests.benchmarks.setting import value

PAGE = 10_000
"""How many mentors a page has: as many as the function gives unless it is told."""
_PAUSE_SECONDS = 0.005
"""Before a page is asked for again, where the rest of the pass is in the other engines' hands."""


def begin_pass(connection: psycopg.Connection) -> int:
    """Begin a pass over all mentors, or take part in the one that is under way; return its number."""
    begun = value(connection, "select public.scenario_begin_run(array['inactivity'])")
    number: int = begun["passes"][0]["pass_number"]
    return number


def share_pass(connection: psycopg.Connection, number: int) -> int:
    """Ask for pages until the pass is over, and return in how many somebody was evaluated."""
    pages = 0
    statement = "select public.scenario_evaluate_next_page('inactivity', null, %s, p_pass_number => %s)"
    while True:
        page: dict[str, Any] = value(connection, statement, PAGE, number)
        pages += int(page["evaluated"] > 0)
        if page["next_after"] is None:
            return pages
        if page["in_other_hands"]:
            time.sleep(_PAUSE_SECONDS)
