"""The control: the same unique key on calendar windows lets everybody through twice, moments apart.

A window here is a slot of the calendar as long as the cooldown; its boundary lies between the two claims. The row and
the constraint are those of the claim, and a `not exists` on top would repair it only for those who come one after
the other.
"""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.measure import Figure, require, single
from tests.benchmarks.population import COOLDOWN_DAYS, fill_users, user
from tests.benchmarks.sections.claim_statements import CORE, expect, prepare
from tests.benchmarks.setting import Bench, Database, run, value

SECTION = "claim"

_CONTROL = f"""
create table public.calendar_notifications (like public.scenario_notifications including all);

create function public.claim_calendar(p_user_ids uuid[], p_boundary timestamptz)
returns bigint language sql volatile as $$
  with inserted as (
    insert into public.calendar_notifications
      (user_id, organization_id, scenario_type, cooldown_window_start, deliver_until)
    select element.user_id, md5('organization')::uuid, 'inactivity',
      date_bin('{COOLDOWN_DAYS} days', now(), p_boundary) - interval '1 microsecond', now() + interval '7 days'
    from unnest(p_user_ids) as element (user_id)
    order by element.user_id
    on conflict do nothing
    returning id
  )
  select count(*) from inserted
$$;
grant select, insert on public.calendar_notifications to service_role;
"""
_IDS = f"(select array_agg({user()}) from generate_series(1, {{size}}) as u)"
_TWICE = """
select count(*) from (
  select user_id from public.{table} group by user_id having count(*) > 1
) as twice
"""


def measure(bench: Bench, database: Database) -> Iterator[Figure]:
    """Claim with both designs just before and just after a boundary of the calendar, and count who got two."""
    size = bench.choose(quick=1_000, default=10_000)
    fill_users(database, size)
    with database.owner() as owner:
        run(owner, _CONTROL)
    with database.worker() as worker:
        # The boundary is ahead of the first claims and behind the second ones.
        boundary = value(worker, "select clock_timestamp() + interval '1 second'")
        control = f"select public.claim_calendar({_IDS.format(size=size)}, %s)"
        batch = prepare(worker, 1, size)
        first = [value(worker, control, boundary), value(worker, CORE, batch)]
        require(first == [size, size], f"expected {size} first claims each, got {first}")
        run(worker, "select pg_sleep(greatest(0, extract(epoch from %s - clock_timestamp())) + 0.01)", boundary)
        value(worker, control, boundary)
        expect(run(worker, CORE, batch), claimed=0, cooldown=size)
        twice = {
            table: value(worker, _TWICE.format(table=table))
            for table in ("calendar_notifications", "scenario_notifications")
        }
    require(twice["scenario_notifications"] == 0, f"{twice['scenario_notifications']} users were claimed for twice")
    require(twice["calendar_notifications"] == size, "the control shows no duplicates: it proves nothing")
    yield single(
        SECTION,
        "users notified twice across a calendar boundary, calendar windows",
        size,
        [twice["calendar_notifications"]],
        unit="users",
        note="the control: fixed windows, the same constraint",
    )
    yield single(
        SECTION,
        "users notified twice across a calendar boundary, ours",
        size,
        [twice["scenario_notifications"]],
        unit="users",
    )
