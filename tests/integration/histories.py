"""One mentor who is due for one scenario type, what becomes of her notifications, and time that passes.

``errand`` is a type of the app's own: a mentor is due while she has errands, and what it is about is their ids.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tests.integration.database import Database, claim, new_claim, now
from tests.integration.delivery import lease, settle, settlement
from tests.integration.evaluation import evaluate, reused_database
from tests.postgres.server import PostgresServer
from tests.rows import ORGANIZATION, ago, ahead, insert_activities, insert_certificates, insert_devices

DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)
FOR_GOOD: Final = datetime(9999, 12, 31, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
LONG: Final = "36500 days"

OWN: Final = "errand"
COOLDOWNS: Final = {
    "inactivity": 30 * DAY,
    "welcome_back": 30 * DAY,
    "certification_expiry": 14 * DAY,
    "milestone": None,
    OWN: 10 * DAY,
}
KINDS: Final = tuple(COOLDOWNS)
MILESTONE: Final = 10

_OWN_TYPE: Final = """
create table public.errands (user_id uuid not null references auth.users (id) on delete cascade, errand_id text);
create index on public.errands (user_id);
grant select, insert, delete on public.errands to service_role;

select scenario_private.add_scenario_type('errand');
create or replace view scenario_private.errand_rule
with (security_invoker = true)
as
select
  setting.scenario_type,
  setting.user_id,
  setting.organization_id,
  setting.is_active,
  setting.is_enabled,
  setting.is_evaluated,
  setting.cooldown,
  null::integer as milestone_value,
  errand.number > 0 as is_due,
  case when errand.number > 0 then 'errand_waits' else 'no_errand' end as finding,
  jsonb_build_object('errands', errand.number) as facts,
  coalesce(errand.subjects, '{}') as subjects,
  null::timestamptz as crossed_at,
  setting.history_before,
  null::timestamptz as series_began_at,
  null::integer as series_limit,
  errand.number > 0 as stands
from scenario_private.mentor_setting as setting
cross join lateral (
  select
    count(*) as number,
    array_agg(distinct scenario_private.subject_of(errands.errand_id)) filter (where errands.errand_id is not null)
      as subjects
  from public.errands
  where errands.user_id = setting.user_id
) as errand
where setting.scenario_type = 'errand';
grant select on scenario_private.errand_rule to service_role;

insert into public.scenario_evaluation_config
  (scenario_type, is_enabled, cooldown, due_within, retry_failed_after, deliver_within, max_attempts, priority)
values ('errand', true, '10 days', '30 days', '1 day', '7 days', 8, 5);
"""


@contextmanager
def database_with_own_type(server: PostgresServer, name: str, template: str, **settings: str) -> Iterator[Database]:
    """Clone a migrated database, add the type of the app's own, and change settings of all types that have them."""
    with reused_database(server, name, template) as database:
        with database.connect(role=None) as owner:
            owner.execute(_OWN_TYPE)
            for setting, value in settings.items():
                owner.execute(
                    f"update public.scenario_evaluation_config set {setting} = %s"  # noqa: S608 - a test's settings
                    f" where {setting} is not null".encode(),
                    [value],
                )
            owner.execute("truncate scenario_private.first_config")
            owner.execute("insert into scenario_private.first_config table public.scenario_evaluation_config")
        yield database


class Mentor:
    """A mentor who is due; time passes for the whole database."""

    def __init__(self, database: Database, worker: psycopg.Connection, kind: str) -> None:
        self.database = database
        self.worker = worker
        self.kind = kind
        self.cooldown = COOLDOWNS[kind]
        (self.user,) = database.new_mentors(1, ORGANIZATION)
        self.become_due()

    def become_due(self) -> None:
        """Be due now, whatever time has passed: for the same certificate or errand, for a new return."""
        match self.kind:
            case "certification_expiry":
                self.worker.execute("delete from public.certifications where user_id = %s", [self.user])
                insert_certificates(self.worker, [self.user], ahead("10 days"), kind="first_aid")
            case "errand":
                self.worker.execute("delete from public.errands where user_id = %s", [self.user])
                self.worker.execute("insert into public.errands (user_id) values (%s)", [self.user])
            case _:
                self.worker.execute("delete from public.activities where user_id = %s", [self.user])
                active = {
                    "inactivity": ["40 days"],
                    "welcome_back": ["30 days 2 hours", "1 hour"],
                    "milestone": [f"{hours} hours" for hours in range(1, MILESTONE + 1)],
                }
                insert_activities(self.worker, [self.user], *map(ago, active[self.kind]))

    def wait(self, time: timedelta) -> None:
        """Let time pass."""
        self.database.let_pass(time)

    @contextmanager
    def at(self, moment: datetime) -> Iterator[timedelta]:
        """Let time pass up to this very moment, and be due there; give how much has passed."""
        with self.worker.transaction():
            passed = moment - now(self.worker)
            self.database.let_pass(passed)
            self.become_due()
            yield passed

    def after(self, moment: datetime) -> datetime:
        """Return when the cooldown that begins at a moment is over; a milestone's never is."""
        return FOR_GOOD if self.cooldown is None else moment + self.cooldown

    def evaluate(self, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - the function's own
        """Evaluate, and return the page."""
        return evaluate(self.worker, self.kind, **arguments)

    def be_claimed(self) -> dict[str, Any]:
        """Be claimed by an evaluation, and return the row."""
        assert self.evaluate()["claimed"] == 1
        return self.row()

    def claim(self, *subjects: str, lease_seconds: float | None = None, **overrides: object) -> dict[str, Any]:
        """Claim through the API, and return the outcome."""
        given = new_claim(
            self.user,
            organization_id=ORGANIZATION,
            scenario_type=self.kind,
            milestone_value=MILESTONE if self.kind == "milestone" else None,
            cooldown_seconds=self.cooldown and self.cooldown.total_seconds(),
            subjects=list(subjects),
        )
        (outcome,) = claim(self.worker, [given | overrides], lease_seconds)
        return outcome

    def explain(self) -> dict[str, Any]:
        """Return what an explanation says."""
        ((answer,),) = self.worker.execute("select public.scenario_explain(%s)", [self.user]).fetchall()
        (verdict,) = (one for one in answer["explanations"] if one["scenario_type"] == self.kind)
        return dict(verdict)

    def rows(self) -> list[dict[str, Any]]:
        """Return her notifications of the type, the newest first."""
        query = """
          select
            id, triggered_at, delivery_status, milestone_value, metadata, cooldown_window_start, failure_code, origin,
            cooldown, subjects, deliver_until, settled_at, held_until::text as held_until
          from public.scenario_notifications where user_id = %s and scenario_type = %s
          order by triggered_at desc, id desc
        """
        with self.worker.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, [self.user, self.kind]).fetchall()

    def row(self) -> dict[str, Any]:
        """Return the newest."""
        return self.rows()[0]

    def lease(self, seconds: float = 60) -> dict[str, Any]:
        """Lease the one notification that is due."""
        (leased,) = lease(self.worker, seconds=seconds)
        leased["leased_until"] = datetime.fromisoformat(leased["leased_until"])
        return leased

    def let_a_lease_run_out(self) -> datetime:
        """Lease it and die; return when the lease was over."""
        until: datetime = self.lease(60)["leased_until"]
        self.wait(2 * MINUTE)
        return until - 2 * MINUTE

    def deliver(self, result: str, failure_code: str | None = None) -> datetime:
        """Lease it and settle it, and return when that was."""
        with self.worker.transaction():
            moment = now(self.worker)
            answers = settle(self.worker, [settlement(self.lease(), result, failure_code)])
        assert answers in (["pending"], ["sent"], ["failed"])
        return moment

    def try_again(self, failure_code: str | None = "provider_down") -> None:
        """Have one try of it fail, and wait until it is due again."""
        self.deliver("retry", failure_code)
        self.wait(6 * HOUR)

    def be_refused(self) -> datetime:
        """Ask for it where the lease refuses it; return when that was."""
        with self.worker.transaction():
            moment = now(self.worker)
            assert lease(self.worker) == []
        return moment

    def update(self, **columns: object) -> datetime:
        """Update the newest notification as any writer might; return when that was."""
        settings = ", ".join(f"{name} = %s" for name in columns)
        with self.worker.transaction():
            moment = now(self.worker)
            query = f"update public.scenario_notifications set {settings} where id = %s"  # noqa: S608 - columns of tests
            self.worker.execute(query.encode(), [*columns.values(), self.row()["id"]])
        return moment

    def register_device(self) -> None:
        """Register a device now."""
        insert_devices(self.worker, [self.user])

    def handover(self) -> tuple[Any, ...] | None:
        """Return the lease number, the attempts and the end of the lease, where there is a hand-over."""
        query = """
          select lease_number, attempt_count, leased_until from scenario_private.handover where notification_id = %s
        """
        return self.worker.execute(query, [self.row()["id"]]).fetchone()


class Refusal:
    """A circumstance in which the lease hands nothing out, and its end."""

    def __init__(self, reason: str, begin: str, end: str) -> None:
        self.reason = reason
        self._begin = begin
        self._end = end

    def begin(self, database: Database, user: UUID) -> None:
        """Bring it about."""
        self._execute(database, self._begin, user)

    def end(self, database: Database, user: UUID) -> None:
        """Undo it."""
        self._execute(database, self._end, user)

    @staticmethod
    def _execute(database: Database, statement: str, user: UUID) -> None:
        with database.connect(role=None) as owner, contextlib.closing(owner):
            owner.execute(statement.encode(), {"user": user})


_USER: Final = "update auth.users set {} where id = %(user)s"
_MENTOR: Final = "update public.peer_mentors set {} where user_id = %(user)s"
_SCENARIOS: Final = "update public.scenario_evaluation_config set is_enabled = {} where organization_id is null"
REFUSALS: Final[Sequence[Refusal]] = (
    Refusal("user_gone", _USER.format("deleted_at = now()"), _USER.format("deleted_at = null")),
    Refusal(
        "user_banned", _USER.format("banned_until = now() + interval '9 days'"), _USER.format("banned_until = null")
    ),
    Refusal("mentor_not_active", _MENTOR.format("is_active = false"), _MENTOR.format("is_active = true")),
    Refusal("scenario_disabled", _SCENARIOS.format("false"), _SCENARIOS.format("true")),
)
