"""Sixteen claimers in a melee, with settlements, deletions and kills; and an oracle in SQL over what they left."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from psycopg import Connection, IsolationLevel
from psycopg.errors import OperationalError

from tests.integration.database import Database, claim, new_claim, new_milestone, now
from tests.integration.delivery import lease, settle, settlement
from tests.rows import insert_notification

CLAIMERS = 16
SECONDS_OF_RACING = 1.5
TYPES = ("inactivity", "welcome_back")

EXPIRE = """
update public.scenario_notifications set delivery_status = 'failed', failure_code = 'expired'
where delivery_status = 'pending' and id = any (%s)
"""
SETTLE_SOME = """
update public.scenario_notifications set delivery_status = %s where id in (
  select id from public.scenario_notifications
  where delivery_status = 'pending' order by random() limit 4 for update skip locked)
"""
KILL_A_CLAIM = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and state = 'active' and query like '%scenario_claim%' and pid <> pg_backend_pid()
order by random() limit 1
"""
DELETE_USER = "delete from auth.users where id = %s"

# A claim of something that an earlier claim held (what each was told of as new is in the table told: no row for a claim
# without subjects that was granted as a whole); a milestone twice; a claim whose window does not start at another
# claim's triggered_at. A pending row is one that nobody lets run out here.
VIOLATIONS = """
select 'hold', earlier.user_id, earlier.scenario_type
from public.scenario_notifications as earlier
join public.scenario_notifications as later using (user_id, scenario_type)
join told on told.id = later.id
where earlier.id <> later.id
  and earlier.cooldown_window_start is not null and later.cooldown_window_start is not null
  and later.triggered_at >= earlier.triggered_at
  and case earlier.delivery_status
    when 'pending' then true
    when 'sent' then greatest(earlier.triggered_at, earlier.settled_at) + later.cooldown > later.triggered_at
    else earlier.held_until > later.triggered_at
  end
  and (earlier.subjects = '{}' or told.new_subjects = '{}' or earlier.subjects && told.new_subjects)
union all
select 'milestone', user_id, milestone_value::text
from public.scenario_notifications
where milestone_value is not null and (delivery_status <> 'failed' or held_until = 'infinity')
group by user_id, milestone_value having count(*) > 1
union all
select 'chain', claimed.user_id, claimed.scenario_type
from public.scenario_notifications as claimed where claimed.cooldown_window_start > 'epoch'
  and (claimed.user_id, claimed.scenario_type, claimed.cooldown_window_start) not in (
    select user_id, scenario_type, triggered_at from public.scenario_notifications
    where cooldown_window_start is not null)
"""


class Melee:
    """Claimers without pause, and others who settle, insert, delete and kill, with cooldowns of milliseconds."""

    def __init__(self, database: Database, isolation: IsolationLevel) -> None:
        self.database = database
        self.isolation = isolation
        self.users = database.new_users(6)
        self.doomed = database.new_users(40)
        self.told: list[tuple[object, str, list[str]]] = []
        """The users, notifications and new subjects that a claimer was told of, and committed."""
        self.failures: list[str] = []
        self.ends = time.monotonic() + SECONDS_OF_RACING

    def batch(self, dice: random.Random) -> list[dict[str, object]]:
        """Claim for many users in any order, with cooldowns of different lengths."""
        users = [*self.users, *self.users, *dice.sample(self.doomed, 3)]
        claims = [new_milestone(user, dice.randint(1, 5)) for user in users]
        for user in users:
            length = dice.choice((0.02, 0.05, 0.1))
            kind = dice.choice(TYPES)
            about = dice.choice(([], [], ["a"], ["b"], ["a", "b"], ["b", "c"]))
            claims.append(new_claim(user, scenario_type=kind, cooldown_seconds=length, subjects=about))
        return dice.sample(claims, dice.randint(1, len(claims)))

    def claim(self, seed: int) -> None:
        """Claim until the end; connect again when killed."""
        dice = random.Random(seed)  # noqa: S311
        while time.monotonic() < self.ends:
            connection = self.database.connect()
            connection.isolation_level = self.isolation
            while time.monotonic() < self.ends and not connection.closed:
                try:
                    self.claim_once(connection, dice)
                except OperationalError as error:
                    self.failures.append(type(error).__name__)
            connection.close()

    def claim_once(self, connection: Connection, dice: random.Random) -> None:
        """Claim a batch in a transaction that may linger, fail some of its rows again, or be rolled back.

        What it claims with a lease it settles afterwards.
        """
        rolls_back = dice.random() < 0.1
        lease_seconds = dice.choice((None, 60))
        with connection.transaction(force_rollback=rolls_back):
            batch = self.batch(dice)
            outcomes = claim(connection, batch, lease_seconds)
            told = [
                (asked["user_id"], got["id"], got["new_subjects"])
                for asked, got in zip(batch, outcomes, strict=True)
                if "new_subjects" in got  # else it was claimed before, and is taken over
            ]
            if told and dice.random() < 0.2:
                connection.execute(EXPIRE, [[told[0][1]]])
            if dice.random() < 0.3:
                time.sleep(dice.random() / 100)
        if not rolls_back:
            self.told += told
            self.settle(connection, dice, [outcome for outcome in outcomes if "lease_number" in outcome])

    @staticmethod
    def settle(connection: Connection, dice: random.Random, leased: list[dict[str, Any]]) -> None:
        """Say of each lease what became of it."""
        settle(
            connection,
            [settlement(one, dice.choice(("sent", "failed", "suppressed", "retry", "released"))) for one in leased],
        )

    def disturb(self, seed: int) -> None:
        """Do now and then what the rest of the world does."""
        dice = random.Random(seed)  # noqa: S311
        doomed = self.doomed.copy()
        with self.database.connect(role=None) as connection:
            while time.monotonic() < self.ends:
                connection.execute(SETTLE_SOME, [dice.choice(("sent", "failed"))])
                self.settle(connection, dice, lease(connection, 4))
                row = {
                    "scenario_type": dice.choice(TYPES),
                    "delivery_status": dice.choice(("pending", "sent", "failed")),
                }
                age = timedelta(seconds=dice.random() / 4)
                insert_notification(connection, dice.choice(self.users), triggered_at=now(connection) - age, **row)
                if dice.random() < 0.1:
                    connection.execute(KILL_A_CLAIM)
                if dice.random() < 0.1 and doomed:
                    connection.execute(DELETE_USER, [doomed.pop()])
                time.sleep(dice.random() / 50)


@pytest.mark.parametrize("isolation", list(IsolationLevel)[1:])
def test_sixteen_claimers_in_a_melee_never_notify_twice(isolation: IsolationLevel, database: Database) -> None:
    """No two claims within a cooldown, no milestone twice, no fork of the chain, no lost row, no deadlock."""
    melee = Melee(database, isolation)
    with ThreadPoolExecutor(CLAIMERS + 1) as pool:
        runs = [*(pool.submit(melee.claim, seed) for seed in range(CLAIMERS)), pool.submit(melee.disturb, CLAIMERS)]
    for run in runs:
        run.result()
    with database.connect(role=None) as observer:
        observer.execute("create temporary table told (id uuid, new_subjects text[])")
        observer.cursor().executemany("insert into told values (%s, %s)", [told[1:] for told in melee.told])
        assert observer.execute(VIOLATIONS).fetchall() == []
        kept = {str(row[0]) for row in observer.execute("select id from public.scenario_notifications")}
    assert {told for user, told, _ in melee.told if user in melee.users} <= kept
    retried = [] if isolation is IsolationLevel.READ_COMMITTED else ["SerializationFailure"]
    assert set(melee.failures) <= {"AdminShutdown", "OperationalError", *retried}
    assert len(melee.told) > len(melee.users)
