"""The guide to an app's own tables, docs/own-tables.md: its blocks by name, and people for its three examples."""

# ruff: noqa: S608 (the statements are put together from constants)

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from tests.postgres.install import ROOT

GUIDE: Final = ROOT / "docs" / "own-tables.md"
BLOCKS: Final = {
    match["name"]: match["text"]
    for match in re.finditer(
        r"^```\w+ (?P<name>\S+)\n(?P<text>.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
}


def run(connection: psycopg.Connection, statements: str, **values: object) -> None:
    """Execute SQL that is put together from the guide and the constants of the tests."""
    connection.execute(sql.Composed([sql.SQL(statements)]), values or None)


@dataclass(frozen=True)
class Example:
    """How the app of an example records people; the parameters are named alike in all.

    An instant is the start of a day in Oslo wherever a test looks at a boundary: an app that keeps days can say it.
    """

    name: str
    mentor: str
    activity: str
    certificate: str
    device: str
    fill: str
    plans_on: frozenset[str]
    """The tables that are looked up for one person."""
    deleted_activity: str = ""
    settle: str = ""
    """What makes the rows visible: a refresh."""

    def block(self, kind: str) -> str:
        """Return the SQL of a step."""
        return BLOCKS[f"{self.name}-{kind}"]


_USERS = "generate_series(1, 2000) as u"
_USER = "('00000000-0000-4000-8000-' || lpad(u::text, 12, '0'))"
_ORGANIZATION = "('00000000-0000-4000-9000-' || lpad((u % 30)::text, 12, '0'))::uuid"
_FILL_USERS = f"insert into auth.users (id) select {_USER}::uuid from {_USERS};"

EXAMPLES: Final = {
    "a": Example(
        name="a",
        mentor="""
            insert into public.mentors (id, chapter_id, deleted_at)
            values (%(user_id)s::text, %(organization_id)s, case when not %(is_active)s then now() end)
        """,
        activity="""
            insert into public.activities (mentor_id, occurred_on)
            values (%(user_id)s::text, (%(at)s::timestamptz at time zone 'Europe/Oslo')::date)
        """,
        deleted_activity="""
            insert into public.activities (mentor_id, occurred_on, deleted_at)
            values (%(user_id)s::text, (%(at)s::timestamptz at time zone 'Europe/Oslo')::date, now())
        """,
        certificate="""
            insert into public.certifications (mentor_id, chapter_id, course, valid_through)
            values (
              %(user_id)s::text, %(organization_id)s, %(kind)s,
              (%(ends)s::timestamptz at time zone 'Europe/Oslo')::date - 1
            )
        """,
        device="""
            insert into public.push_tokens (token, mentor_id, platform) values (%(token)s, %(user_id)s::text, 'ios')
        """,
        fill=f"""
            insert into public.mentors (id, chapter_id, deleted_at)
            select {_USER}, {_ORGANIZATION}, case when u % 10 = 0 then now() end from {_USERS};
            insert into public.activities (mentor_id, occurred_on, deleted_at)
            select {_USER}, current_date - (k * 7 + u % 200), case when (u + k) % 9 = 0 then now() end
            from generate_series(1, 20) as k, {_USERS} order by k, md5(u::text);
            insert into public.certifications (mentor_id, chapter_id, course, valid_through)
            select {_USER}, {_ORGANIZATION}, 'course ' || k, current_date + (u % 900 - 600 + k * 120)
            from generate_series(1, 3) as k, {_USERS};
            insert into public.push_tokens (token, mentor_id, platform)
            select 'token ' || u, {_USER}, 'ios' from {_USERS};
        """,
        plans_on=frozenset({"mentors", "activities", "certifications", "push_tokens"}),
    ),
    "b": Example(
        name="b",
        mentor="""
            with profile as (insert into public.profiles (id) values (%(user_id)s) returning id)
            insert into public.peer_mentors (profile_id, organization_id, status)
            select
              id, %(organization_id)s, (case when %(is_active)s then 'active' else 'left' end)::public.mentor_status
            from profile
        """,
        activity="insert into public.activities (user_id, activity_date) values (%(user_id)s::text, %(at)s)",
        deleted_activity="""
            insert into public.activities (user_id, activity_date, status)
            values (%(user_id)s::text, %(at)s, 'cancelled')
        """,
        certificate="""
            insert into public.certifications (user_id, organization_id, expires_at, kind)
            values (%(user_id)s, %(organization_id)s, %(ends)s, %(kind)s)
        """,
        device="insert into public.device_tokens (profile_id, fcm_token, os) values (%(user_id)s, %(token)s, 'iOS')",
        fill=f"""
            insert into public.profiles (id) select {_USER}::uuid from {_USERS};
            insert into public.peer_mentors (profile_id, organization_id, status)
            select
              {_USER}::uuid, {_ORGANIZATION},
              ('{{active,active,paused,left,invited}}'::public.mentor_status[])[1 + u % 5]
            from {_USERS};
            insert into public.activities (user_id, activity_date, status)
            select
              {_USER}, now() - interval '1 day' * (k * 7 + u % 200),
              case when (u + k) % 9 = 0 then 'cancelled' else 'done' end
            from generate_series(1, 20) as k, {_USERS} order by k, md5(u::text);
            insert into public.certifications (user_id, organization_id, expires_at)
            select {_USER}::uuid, {_ORGANIZATION}, now() + interval '1 day' * (u % 900 - 600 + k * 120)
            from generate_series(1, 3) as k, {_USERS};
            insert into public.device_tokens (profile_id, fcm_token, os)
            select {_USER}::uuid, 'token ' || u, 'iOS' from {_USERS};
        """,
        plans_on=frozenset({"peer_mentors", "activities", "certifications", "device_tokens"}),
    ),
    "c": Example(
        name="c",
        mentor="""
            insert into public.assignments (volunteer_id, organization_id, ends_on)
            values (%(user_id)s, %(organization_id)s, case when not %(is_active)s then current_date end)
        """,
        activity="insert into public.calls (volunteer_id, started_at) values (%(user_id)s, %(at)s)",
        certificate="""
            insert into public.certifications (id, user_id, organization_id, expires_at, kind)
            values (gen_random_uuid()::text, %(user_id)s, %(organization_id)s, %(ends)s, %(kind)s)
        """,
        device="insert into public.device_tokens (user_id, token, platform) values (%(user_id)s, %(token)s, 'ios')",
        fill=f"""
            insert into public.assignments (volunteer_id, organization_id, ends_on)
            select {_USER}::uuid, {_ORGANIZATION}, case when u % 10 = 0 then current_date end from {_USERS};
            insert into public.calls (volunteer_id, started_at)
            select {_USER}::uuid, now() - interval '1 day' * (k * 14 + u % 200)
            from generate_series(1, 10) as k, {_USERS} order by k, md5(u::text);
            insert into public.meetings (volunteer_id, held_at)
            select {_USER}::uuid, now() - interval '1 day' * (k * 14 + 7 + u % 200)
            from generate_series(1, 10) as k, {_USERS} order by k, md5(u::text);
            insert into public.certifications (id, user_id, organization_id, expires_at, kind)
            select
              u || ' ' || k, {_USER}::uuid, {_ORGANIZATION},
              now() + interval '1 day' * (u % 900 - 600 + k * 120), 'kind ' || k
            from generate_series(1, 3) as k, {_USERS};
            insert into public.device_tokens (user_id, token, platform)
            select {_USER}::uuid, 'token ' || u, 'ios' from {_USERS};
        """,
        plans_on=frozenset(
            {"peer_mentors", "calls", "meetings", "certifications_past", "certifications_present", "device_tokens"}
        ),
        settle="refresh materialized view public.peer_mentors",
    ),
}


def fill(connection: psycopg.Connection, example: Example) -> None:
    """Insert 2,000 mentors with 20 activities and 3 certificates each, and gather statistics; as the superuser."""
    # Vacuum marks pages all-visible only when the commit that filled them is on disk.
    run(connection, "set synchronous_commit = on")
    run(connection, "set session_replication_role = replica")
    run(connection, _FILL_USERS + example.fill)
    run(connection, "set session_replication_role = origin")
    if example.settle:
        run(connection, example.settle)
    run(connection, "vacuum (analyze)")
