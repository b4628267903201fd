"""Time passes for the rows of a database, an app's own tables included, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from scenario_repo.testing import travel
from scenario_repo.testing.time_travel import moving_columns
from tests.integration.database import Database, claim, new_claim, now, results
from tests.rows import ago, ahead, insert_devices, insert_mentors, insert_notification, insert_rows

DAY = timedelta(days=1)
OWN_TABLES = """
create table public.shift (
  id bigint primary key generated always as identity,
  member uuid not null,
  held_at timestamptz not null,
  held_on date not null default current_date,
  noted_at timestamp not null default localtimestamp,
  unique (member, held_at)
);
create function public.forbid() returns trigger language plpgsql as $$ begin raise 'forbidden'; end $$;
create trigger forbid before update on public.shift for each row execute function public.forbid();
create trigger forbid_always before update on public.shift for each row execute function public.forbid();
create trigger forbid_replica before update on public.shift for each row execute function public.forbid();
create trigger is_off before update on public.shift for each row execute function public.forbid();
alter table public.shift enable always trigger forbid_always;
alter table public.shift enable replica trigger forbid_replica;
alter table public.shift disable trigger is_off;
create view public.shifts as select member, held_at from public.shift;
create or replace view scenario_source.activities as select member as user_id, held_at as activity_date
from public.shifts;
create table public.diary (written_at timestamptz);
"""


@pytest.fixture
def owner(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """Connect as the owner of the tables."""
    with database.connect(role=None) as connection:
        yield connection


def _one(connection: psycopg.Connection[Any], query: str) -> Any:  # noqa: ANN401
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def test_a_cooldown_passes(database: Database, worker: psycopg.Connection) -> None:
    """What was refused within the cooldown is granted when it is over, and not a moment before."""
    (user,) = database.new_users(1)
    assert results(claim(worker, [new_claim(user)])) == ["claimed"]
    travel(database.url, 7 * DAY - timedelta(seconds=30))
    assert results(claim(worker, [new_claim(user)])) == ["cooldown"]
    travel(database.url, timedelta(minutes=1))
    assert results(claim(worker, [new_claim(user)])) == ["claimed"]


def test_the_past_moves_and_stays_in_order(database: Database, owner: psycopg.Connection[Any]) -> None:
    """Every moment of a row moves by the same; the epoch and the year 9999 stand for none."""
    (user,) = database.new_users(1)
    insert_notification(owner, user, cooldown_window_start="epoch")
    for_good = sql.SQL("insert into public.scenario_mutes (user_id, muted_until) values ({}, '9999-01-01 00:00+00')")
    owner.execute(for_good.format(user))
    read = "select array_agg(to_jsonb(n) order by id) from public.scenario_notifications as n"
    before = _one(owner, read)
    travel(owner, 3 * DAY)
    (row,) = _one(owner, read)
    assert row["cooldown_window_start"] == "1970-01-01T00:00:00+00:00"
    assert _one(owner, "select muted_until = '9999-01-01 00:00+00' from public.scenario_mutes")
    assert {name for name in row if row[name] != before[0][name]} == {"triggered_at", "deliver_until"}
    assert _one(owner, "select bool_and(deliver_until - triggered_at > '0') from public.scenario_notifications")


@pytest.mark.parametrize("by", ["owner", "replica"])
def test_an_apps_own_tables_travel_too(database: Database, owner: psycopg.Connection[Any], by: str) -> None:
    """They are found through the views: moments that are unique, dates, without triggers, which are then as before."""
    owner.execute(OWN_TABLES.encode())
    member = uuid4()
    owner.execute("insert into public.diary values (now())")
    owner.execute(
        "insert into public.shift (member, held_at) select %s, now() - make_interval(days => n)"
        " from generate_series(0, 30) as n",
        [member],
    )
    read = "select min(now() - held_at), max(current_date - held_on), min(localtimestamp - noted_at) from public.shift"
    with database.replica() if by == "replica" else database.connect(role=None) as traveller:
        travel(traveller, DAY, tables=["public.diary"])
    held, on, noted = _one(owner, read)
    assert (held // DAY, on, noted // DAY) == (1, 1, 1)
    assert _one(owner, "select (now() - written_at) >= '1 day' from public.diary")
    modes = _one(owner, "select jsonb_object_agg(tgname, tgenabled) from pg_trigger where tgname ~ 'forbid|is_off'")
    assert modes == {"forbid": "O", "forbid_always": "A", "forbid_replica": "R", "is_off": "D"}


def test_what_nobody_reads_stays(owner: psycopg.Connection[Any]) -> None:
    """A table of the app's that no source view reads is none of ours; nor are the tables that a view has replaced."""
    owner.execute(OWN_TABLES.encode())
    moving = moving_columns(owner)
    assert "public.shift" in moving
    assert not {"public.diary", "public.activities"} & moving.keys()


def test_dates_move_by_whole_days(owner: psycopg.Connection[Any]) -> None:
    """Half a day would lose a part of them: nothing moves then, and the table is named."""
    owner.execute(OWN_TABLES.encode())
    triggers = "select count(*) from pg_trigger where tgname = 'forbid' and tgenabled = 'O'"
    with pytest.raises(ValueError, match=r"whole days: public\.shift"):
        travel(owner, timedelta(hours=12))
    assert _one(owner, triggers) == 1


def test_time_does_not_go_back(owner: psycopg.Connection[Any]) -> None:
    """A negative time is a mistake."""
    with pytest.raises(ValueError, match="negative"):
        travel(owner, -DAY)


def test_a_ban_runs_out(database: Database, owner: psycopg.Connection[Any]) -> None:
    """A user who is banned for an hour is told again after it."""
    (user,) = database.new_users(1)
    insert_mentors(owner, [user])
    insert_devices(owner, [user], registered_at=ahead("0 days"))
    owner.execute("update auth.users set banned_until = now() + interval '1 hour' where id = %s", [user])
    away = "select count(*) from auth.users where banned_until > now()"
    travel(owner, timedelta(minutes=59))
    assert _one(owner, away) == 1
    travel(owner, timedelta(minutes=2))
    assert _one(owner, away) == 0


def test_moments_that_are_unique_do_not_meet_on_the_way(database: Database, owner: psycopg.Connection[Any]) -> None:
    """Claims that follow each other at the very distance that passes are each moved to where another one was."""
    (user,) = database.new_users(1)
    insert_rows(
        owner,
        "scenario_notifications",
        [{"user_id": user, "triggered_at": ago(n * DAY), "cooldown_window_start": ago((n + 1) * DAY)}
         for n in range(9)],
    )  # fmt: skip
    travel(owner, DAY)
    read = "select max(triggered_at), min(cooldown_window_start) from public.scenario_notifications"
    newest, oldest = _one(owner, read)
    assert newest - oldest == 9 * DAY
    assert newest < now(owner) - DAY
