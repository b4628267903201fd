"""Rows by the million. User number u is md5('user ' || u): spread over the indexes as real ids are."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psycopg

from tests.benchmarks.setting import Bench, Database, run

HISTORY_DAYS = 60
COOLDOWN_DAYS = 30
_PAGE = 10_000
"""So many mentors are claimed for with ids of one prefix."""


def user(number: str = "u") -> str:
    """Return the SQL of a user's id."""
    return f"md5('user ' || {number})::uuid"


def fill_users(database: Database, number: int) -> None:
    """Create users 1 to number."""
    with database.filler() as filler:
        run(
            filler,
            f"insert into auth.users (id) select {user()} from generate_series(1, %s::integer) as u order by 1"
            " on conflict do nothing",
            number,
        )
        run(filler, "vacuum (analyze) auth.users")
        _warm(filler, "auth.users")


def fill_history(database: Database, number: int) -> None:
    """Give users 1 to number one sent notification each, 60 days ago, in the order of time and not of ids."""
    fill_users(database, number)
    with database.filler() as filler, _without_indexes(filler, "public.scenario_notifications"):
        run(
            filler,
            f"""
            insert into public.scenario_notifications
              (
                user_id, organization_id, scenario_type, triggered_at, settled_at, delivery_status,
                cooldown_window_start, deliver_until
              )
            select {user()}, md5('organization ' || u %% 50)::uuid, 'inactivity', triggered_at, triggered_at, 'sent',
              'epoch', triggered_at + interval '7 days'
            from generate_series(1, %s::integer) as u
            cross join lateral (
              select now() - interval '{HISTORY_DAYS} days' + interval '1 millisecond' * u as triggered_at
            ) as past
            """,
            number,
        )
    vacuum(database, "scenario_notifications")


def history(bench: Bench, number: int) -> Database:
    """Return the database whose users 1 to number have one notification each; the sections share it."""
    return bench.keep(f"history_{number}", partial(fill_history, number=number))


def fill_failures(database: Database, first: int, last: int, each: int) -> None:
    """Give these users that many failed notifications each, one every quarter of an hour; none holds any more."""
    with database.filler() as filler, _without_indexes(filler, "public.scenario_notifications"):
        run(
            filler,
            f"""
            insert into public.scenario_notifications
              (
                user_id, organization_id, scenario_type, triggered_at, settled_at, delivery_status, failure_code,
                cooldown_window_start, deliver_until
              )
            select {user()}, md5('organization ' || u %% 50)::uuid, 'inactivity', triggered_at, triggered_at, 'failed',
              'invalid_token', triggered_at - interval '15 minutes', triggered_at + interval '7 days'
            from generate_series(%s::integer, 1, -1) as n
            cross join generate_series(%s::integer, %s::integer) as u
            cross join lateral (select now() - interval '15 minutes' * n as triggered_at) as past
            """,
            each,
            first,
            last,
        )
    vacuum(database, "scenario_notifications")


def fill_month(database: Database, number: int) -> None:
    """Give organization 1 that many notifications in 30 days, of every type: 10 % failed, the newest 2 % pending."""
    users = number // 10
    fill_users(database, users)
    with database.filler() as filler:
        with _without_indexes(filler, "public.scenario_notifications"):
            run(
                filler,
                f"""
                insert into public.scenario_notifications
                  (
                    user_id, organization_id, scenario_type, triggered_at, settled_at, delivery_status, failure_code,
                    milestone_value, deliver_until
                  )
                select {user("(n %% %s::integer)")}, md5('organization 1')::uuid, type, triggered_at,
                  case when status <> 'pending' then triggered_at end, status,
                  case when status = 'failed'
                    then (array['invalid_token', 'expired', 'no_longer_due', 'user_gone'])[1 + n / 40 %% 4] end,
                  case when type = 'milestone' then n end,
                  triggered_at + interval '7 days'
                from generate_series(1, %s::integer) as n
                cross join lateral (
                  select
                    now() - interval '30 days' * (1 - n / %s::float8) as triggered_at,
                    (array['inactivity', 'milestone', 'certification_expiry', 'welcome_back'])[1 + n %% 4] as type,
                    case when n / 4 %% 10 = 0 then 'failed' when n > %s * 0.98 then 'pending' else 'sent' end as status
                ) as past
                """,
                users,
                number,
                number,
                number,
            )
        run(
            filler,
            """
            insert into scenario_private.handover
              (notification_id, user_id, organization_id, scenario_type, triggered_at)
            select id, user_id, organization_id, scenario_type, triggered_at
            from public.scenario_notifications where delivery_status = 'pending'
            """,
        )
        run(filler, "vacuum (analyze) scenario_private.handover")
    vacuum(database, "scenario_notifications")


def fill_mentors(database: Database, number: int, activities: int = 20, *, inactive: str = "u %% 2 = 0") -> None:
    """Make users 1 to number mentors with 20 activities each; the even numbers have been inactive for 40 days.

    `inactive` is the SQL that says of another number whether its user is inactive.
    """
    fill_users(database, number)
    with database.filler() as filler:
        run(
            filler,
            f"""
            insert into public.peer_mentors (user_id, organization_id)
            select {user()}, md5('organization ' || u %% 50)::uuid from generate_series(1, %s::integer) as u
            """,
            number,
        )
        with _without_indexes(filler, "public.activities"):
            run(
                filler,
                f"""
                insert into public.activities (user_id, organization_id, activity_date)
                select {user()}, md5('organization ' || u %% 50)::uuid,
                  now() - interval '1 day' * (k * 3 + case when {inactive} then 40 else 0 end)
                    - interval '1 second' * (u %% 80000)
                from generate_series(%s::integer, 1, -1) as k, generate_series(1, %s::integer) as u
                """,
                activities,
                number,
            )
    vacuum(database, "peer_mentors", "activities", "scenario_notifications", "scenario_evaluation_config")


@contextmanager
def _without_indexes(filler: psycopg.Connection, table: str) -> Iterator[None]:
    """Drop a table's indexes and unique constraints, and make them again in one go: much faster, and the same rows."""
    constraints = run(
        filler,
        """
        select conname, pg_get_constraintdef(oid) from pg_constraint
        where conrelid = %s::regclass and contype in ('p', 'u')
        """,
        table,
    )
    indexes = run(
        filler,
        """
        select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index
        where indrelid = %s::regclass and not exists (select from pg_constraint where conindid = indexrelid)
        """,
        table,
    )
    for name, _ in constraints:
        run(filler, f"alter table {table} drop constraint {name}")
    for name, _ in indexes:
        run(filler, f"drop index {name}")
    yield
    for name, definition in constraints:
        run(filler, f"alter table {table} add constraint {name} {definition}")
    for _, definition in indexes:
        run(filler, definition)


def vacuum(database: Database, *tables: str) -> None:
    """Do what autovacuum would have done by now, and have in memory what a busy server would."""
    with database.filler() as filler:
        for table in tables:
            run(filler, f"vacuum (analyze) public.{table}")
            _warm(filler, f"public.{table}")


def _warm(filler: psycopg.Connection, table: str) -> None:
    if not run(filler, "select from pg_available_extensions where name = 'pg_prewarm'"):
        return
    run(filler, "create extension if not exists pg_prewarm schema extensions")
    run(
        filler,
        """
        select extensions.pg_prewarm(relation) from (
          select %s::regclass as relation
          union all
          select indexrelid from pg_index where indrelid = %s::regclass
        ) as part
        """,
        table,
        table,
    )


def fill_devices(database: Database, number: int) -> None:
    """Give a device to each of the users with an even number, up to twice the number."""
    with database.filler() as filler:
        run(
            filler,
            f"insert into public.device_tokens (user_id, token, platform) select {user()}, 'token ' || u, 'ios' "
            "from generate_series(2, 2 * %s::integer, 2) as u",
            number,
        )
        run(filler, "vacuum (analyze) public.device_tokens")


def fill_pending(database: Database, number: int, origin: str = "evaluation") -> None:
    """Have as many pending notifications and nothing else: one for each of the users with an even number.

    As the pages of a pass leave them: in the order of their users, and with ids that begin with the time.
    """
    with database.filler() as filler:
        run(filler, "truncate public.scenario_notifications, scenario_private.handover")
        run(
            filler,
            f"""
            with page as materialized (
              select number, scenario_private.new_id_prefix() as id_prefix
              from generate_series(0, %s::integer / {_PAGE}) as number
            )
            insert into public.scenario_notifications
              (
                id, user_id, organization_id, scenario_type, triggered_at, metadata, cooldown_window_start, origin,
                cooldown, deliver_until
              )
            select (page.id_prefix || lpad(to_hex(mentor.place %% {_PAGE}), 5, '0'))::uuid, mentor.user_id,
              md5('organization ' || mentor.u %% 50)::uuid, 'inactivity', now() - interval '1 hour',
              '{{"inactive_days": 31}}', 'epoch', %s, interval '30 days', now() - interval '1 hour' + interval '7 days'
            from (
              select u, {user()} as user_id, row_number() over (order by {user()}) as place
              from generate_series(2, 2 * %s::integer, 2) as u
            ) as mentor
            join page on page.number = mentor.place / {_PAGE}
            order by mentor.place
            """,
            number,
            origin,
            number,
        )
        run(
            filler,
            """
            insert into scenario_private.handover
              (notification_id, user_id, organization_id, scenario_type, next_attempt_at)
            select id, user_id, organization_id, scenario_type,
              now() - interval '1 hour' + interval '1 millisecond' * row_number() over (order by ctid)
            from public.scenario_notifications
            """,
        )
        run(filler, "vacuum (analyze) public.scenario_notifications")
        run(filler, "vacuum (analyze) scenario_private.handover")


def empty_notifications(database: Database) -> None:
    """Forget every notification."""
    with database.filler() as filler:
        # The filler has no triggers.
        run(filler, "truncate public.scenario_notifications, scenario_private.handover")
