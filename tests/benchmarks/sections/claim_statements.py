"""The statements of the claim sections, and whom they claim for."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

from time import perf_counter

import psycopg

from tests.benchmarks.measure import require
from tests.benchmarks.population import COOLDOWN_DAYS, user
from tests.benchmarks.setting import Database, run, value

_COOLDOWN = f"interval '{COOLDOWN_DAYS} days'"

# The batch as arrays, made before the clock starts: both contestants begin with them.
_MAKE_TABLE = """
create temporary table if not exists batch (
  first integer primary key,
  user_ids uuid[],
  organization_ids uuid[],
  scenario_types text[],
  cooldowns interval[],
  milestone_values integer[],
  metadata jsonb[]
)
"""
_MAKE_BATCH = f"""
insert into batch
select
  min(u),
  array_agg({user()} order by u),
  array_agg(md5('organization ' || u %% 50)::uuid order by u),
  array_agg('inactivity'::text),
  array_agg({_COOLDOWN}),
  array_agg(null::integer),
  array_agg(null::jsonb)
from generate_series(%s::integer, %s::integer) as u
"""
CORE = """
select
  cardinality(user_ids) - coalesce(cardinality(answer.skipped_places || answer.lost_places), 0),
  coalesce(cardinality(answer.skipped_places), 0)
from batch, scenario_private.claim(
  scenario_private.new_id_prefix(), 'claim', user_ids, organization_ids, null, scenario_types, null, cooldowns, null,
  milestone_values, metadata, null, null, null, null, null
) as answer
where batch.first = %s
"""
# What a claim of users with history writes, written without asking: its window starts where the history is. Given
# whole, so that no trigger completes it.
_INSERT = """
insert into public.scenario_notifications
  (
    user_id, organization_id, scenario_type, triggered_at, milestone_value, metadata, cooldown_window_start, origin,
    cooldown, deliver_until
  )
select element.user_id, element.organization_id, element.scenario_type, now(), element.milestone_value,
  element.metadata, '{window}', 'claim', element.cooldown, now() + interval '7 days'
from batch, unnest(user_ids, organization_ids, scenario_types, cooldowns, milestone_values, metadata)
  as element (user_id, organization_id, scenario_type, cooldown, milestone_value, metadata)
where batch.first = %s
order by element.user_id
"""
# The same where others are after the same rows, telling how many were new.
INSERT_OR_SKIP = f"with inserted as ({_INSERT} on conflict do nothing returning id) select count(id) from inserted"
# The claim's other row.
_WITH_HAND_OVER = f"""
with recorded as ({_INSERT})
insert into scenario_private.handover (notification_id, user_id, organization_id, scenario_type)
select gen_random_uuid(), element.user_id, element.organization_id, element.scenario_type
from batch, unnest(user_ids, organization_ids, scenario_types) as element (user_id, organization_id, scenario_type)
where batch.first = %s
order by element.user_id
"""
ANOTHER_DAY = "2020-01-01"


def prepare(worker: psycopg.Connection, first: int, last: int) -> int:
    """Put the claims for some users into a temporary table of the connection; return what the statements call them."""
    run(worker, _MAKE_TABLE)
    run(worker, _MAKE_BATCH, first, last)
    return first


class Users:
    """Hands out users whom nobody has claimed for yet."""

    def __init__(self, number: int) -> None:
        self._next, self._number = 1, number

    def take(self, number: int) -> tuple[int, int]:
        """Return the first and the last of them."""
        first, self._next = self._next, self._next + number
        if self._next > self._number + 1:
            raise AssertionError(f"expected to need {self._number} users, need {self._next - 1}")
        return first, self._next - 1


def duplicates(database: Database) -> int:
    """Count the users who were claimed for twice inside one cooldown."""
    with database.owner() as owner:
        return int(
            value(
                owner,
                f"""
                select count(*) from (
                  select triggered_at - lag(triggered_at) over history as distance
                  from public.scenario_notifications
                  where delivery_status <> 'failed'
                  window history as (partition by user_id, scenario_type order by triggered_at)
                ) as pair
                where distance < {_COOLDOWN}
                """,
            )
        )


def timed_insert(worker: psycopg.Connection, batch: int, window: str, number: int) -> float:
    """Insert the rows of a batch with their hand-overs, and return the seconds it took."""
    started = perf_counter()
    inserted = worker.execute(_WITH_HAND_OVER.format(window=window).encode(), [batch, batch]).rowcount
    seconds = perf_counter() - started
    require(inserted == number, f"the floor inserted {inserted} rows instead of {number}")
    return seconds


def expect(rows: list[tuple[int, int]], *, claimed: int, cooldown: int) -> None:
    """Raise BrokenError unless the statement counted so many."""
    require(rows == [(claimed, cooldown)], f"expected {claimed} claimed and {cooldown} in cooldown, got {rows}")
