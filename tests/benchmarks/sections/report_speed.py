"""The report of an organization with very many notifications, beside one pass over its rows and a bare count."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks.measure import Aim, Figure, compared, contest, require, single
from tests.benchmarks.population import fill_month
from tests.benchmarks.setting import Bench, run, timed_run, value

SECTION = "organization report"
_PERIOD = "now() - interval '31 days', now()"
_REPORT = f"select public.scenario_get_organization_report(md5('organization 1')::uuid, {_PERIOD}, %s)"
_WHERE = "organization_id = md5('organization 1')::uuid and triggered_at >= now() - interval '31 days'"

# What the report was at first: every row is read, and sorted. It hides nothing.
_ONE_PASS = f"""
select json_agg(to_json(tally) order by day, scenario_type, delivery_status, failure_code)
from (
  select
    triggered_at::date as day, scenario_type, delivery_status, failed_code as failure_code, count(*) as notifications
  from public.scenario_notifications where {_WHERE} group by 1, 2, 3, 4
) as tally
"""  # noqa: S608 - of constants
_COUNT = f"select count(*) from public.scenario_notifications where {_WHERE}"  # noqa: S608 - as above


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure on one organization's month, warm and vacuumed: 30 days, four types, 10 % failed, 2 % pending."""
    size = bench.choose(quick=20_000, default=1_000_000)
    with bench.database("report") as database:
        fill_month(database, size)
        with database.worker() as worker:
            run(worker, "set jit = off; set max_parallel_workers_per_gather = 0")
            lines = value(worker, _REPORT, "UTC")["lines"]
            counted = value(worker, _ONE_PASS)
            # The edges of the month may have a day of few.
            require(all(line in counted for line in lines if line["day"]), "one pass over the rows has other numbers")
            require(sum(line["notifications"] or 0 for line in lines) > 0.99 * size, "the report lacks notifications")
            # As the report does: without a look at the rows.
            floor = f"set enable_seqscan = off; {_COUNT}; reset enable_seqscan"
            seconds = contest(
                {
                    "ours": partial(timed_run, worker, _REPORT, "Europe/Oslo"),
                    "one pass": partial(timed_run, worker, _ONE_PASS),
                    "count": partial(timed_run, worker, floor),
                },
                2 * bench.rounds(size) + 1,
            )
            small = f"select public.scenario_get_organization_report(gen_random_uuid(), {_PERIOD}, 'Europe/Oslo')"
            nothing = [timed_run(worker, small) for _ in range(9)]
    yield compared(
        SECTION,
        "a month by day, type, status and code",
        size,
        seconds["ours"],
        seconds["one pass"],
        against="one pass over the rows",
        aim=Aim(0.1),
        note="ours also keeps back what fewer than 5 persons stand behind, and has the days of a zone",
    )
    yield compared(
        SECTION,
        "the same beside the floor",
        size,
        seconds["ours"],
        seconds["count"],
        against="count(*) by the same index",
        note="what every entry read costs; less than this takes sums that are kept",
    )
    yield single(SECTION, "of nothing", None, nothing)
