"""Worker processes that are killed at any moment: nothing is lost, and little is delivered twice."""

# ruff: noqa: S603 (the commands are ours)

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from scenario_repo.testing.embedded_stack import EmbeddedStack, embedded_stack, is_installed
from tests.integration.database import Database
from tests.postgres.install import ROOT
from tests.rows import insert_devices, insert_notifications

_SCRIPT = Path(__file__).with_name("killed_worker.py")
_NOTIFICATIONS = 3000
_CONCURRENCY = 20
_ROUNDS = 4
_WORKERS = 2


@contextmanager
def _workers(
    stack: EmbeddedStack, file: Path, concurrency: int, *options: str
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start workers and wait until they deliver; none of them outlives the block."""
    command = [sys.executable, str(_SCRIPT), str(file), str(concurrency), *options]
    settings = {"SUPABASE_URL": stack.url, "SUPABASE_SECRET_KEY": stack.secret_key, "PYTHONPATH": str(ROOT)}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(_WORKERS):
            processes.append(  # noqa: PERF401 - those before are ended if this one doesn't start
                subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.PIPE)
            )
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _pending(worker: psycopg.Connection) -> int:
    row = worker.execute(
        "select count(*) from public.scenario_notifications where delivery_status = 'pending'"
    ).fetchone()
    assert row is not None
    pending: int = row[0]
    return pending


def _let_leases_run_out(database: Database) -> int:
    """Make every pending row due, and return how many a dead worker held."""
    with database.connect(role=None) as owner:
        return owner.execute(
            """
            update scenario_private.handover
            set leased_until = now()
            where leased_until > now()
            """
        ).rowcount


def _keep_lease_numbers(database: Database) -> None:
    """Keep the last lease of each notification beyond its settlement, which ends the hand-over."""
    with database.connect(role=None) as owner:
        owner.execute(
            """
            create table public.last_lease (notification_id uuid primary key, lease_number integer);
            grant select on public.last_lease to service_role;
            create function public.keep_lease() returns trigger language plpgsql security definer as $$
            begin
              insert into public.last_lease values (old.notification_id, old.lease_number);
              return old;
            end
            $$;
            create trigger keep_lease before delete on scenario_private.handover
            for each row execute function public.keep_lease();
            """
        )


@pytest.mark.parametrize("platforms", [(), ("ios", "web")], ids=["whole", "by device"])
def test_workers_killed_at_any_moment_lose_nothing(
    platforms: tuple[str, ...], database: Database, worker: psycopg.Connection, tmp_path: Path
) -> None:
    """Every notification is sent in the end; those delivered twice are at most what the killed were sending."""
    if not is_installed():
        message = "missing: supabase/local; run `make demo`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    users = database.new_users(_NOTIFICATIONS)
    insert_notifications(worker, users)
    for platform in platforms:
        insert_devices(worker, users, platform=platform)
    options = ["--devices"] if platforms else []
    _keep_lease_numbers(database)
    deliveries = tmp_path / "deliveries"
    deliveries.touch()
    kills = held = 0

    with embedded_stack(database.url) as stack:
        for _ in range(_ROUNDS):
            with _workers(stack, deliveries, _CONCURRENCY, *options) as processes:
                for process in processes:
                    time.sleep(random.uniform(0, 0.4))  # noqa: S311 - any moment
                    assert process.poll() is None
                    process.kill()
                    kills += 1
            held += _let_leases_run_out(database)
        assert _pending(worker), "the killed should have had something to do"
        while _pending(worker):
            with _workers(stack, deliveries, 250, "--once", *options) as processes:
                assert [process.wait(30) for process in processes] == [0] * _WORKERS
            # A killed worker's last request may have been on its way when the leases were looked at.
            held += _let_leases_run_out(database)

    delivered = Counter(deliveries.read_text().split())
    rows = worker.execute(
        """
        select id::text, delivery_status, lease_number
        from public.scenario_notifications
        left join public.last_lease on notification_id = id
        """
    ).fetchall()
    assert {status for _, status, _ in rows} == {"sent"}
    places = [f":{platform}" for platform in platforms] or [""]
    assert set(delivered) == {f"{row_id}{place}" for row_id, *_ in rows for place in places}
    twice = delivered.total() - len(delivered)
    leased_again = sum(leases - 1 for *_, leases in rows)
    # A result that was on its way still counts: not every lease that ran out is leased again.
    assert twice <= leased_again * len(places)
    assert leased_again <= held <= kills * _CONCURRENCY
    assert held, "the killed should have been sending"
