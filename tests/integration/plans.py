"""Plans as PostgreSQL explains them, the indexes by name, and 200,000 notifications of 5,000 users to plan for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from psycopg.sql import SQL

from tests.rows import insert_by_query

DATABASE = "plans"
USERS: Final = 5_000
OFTEN_FAILED: Final = 3_333
"""The number of the user with thousands of failures."""

FULL = "scenario_notifications_user_id_scenario_type_triggered_at_idx"
NOT_FAILED = "scenario_notifications_not_failed_idx"
FAILED = "scenario_notifications_failed_idx"
FAILED_OF_ORGANIZATION = "scenario_notifications_failed_by_organization_idx"
OUTLASTING = "scenario_notifications_outlasting_idx"
MILESTONE = "scenario_notifications_one_notification_per_milestone"
WINDOW = "scenario_notifications_one_claim_per_window"
ORGANIZATION = "scenario_notifications_organization_id_scenario_type_idx"
DUE = "handover_due_idx"
SUSPECTS = "handover_suspects_idx"
HANDOVER = "handover_pkey"
PRIMARY_KEY = "scenario_notifications_pkey"
ACTIVITIES = "activities_user_id_activity_date_idx"
CERTIFICATIONS = "certifications_user_id_expires_at_idx"
MENTORS = "peer_mentors_pkey"
ORGANIZATION_MENTORS = "peer_mentors_active_by_organization_idx"
ACTIVE_MENTORS = "peer_mentors_active_by_user_idx"
DEVICES = "device_tokens_pkey"

# What PostgREST makes of a request; its values, the limit too, are parameters.
AS_POSTGREST = """
with pgrst_source as ({} limit {} offset 0)
select
  null::bigint as total_result_set,
  count(_postgrest_t) as page_total,
  coalesce(json_agg(_postgrest_t), '[]') as body
from (select * from pgrst_source) as _postgrest_t
"""

_USER: Final = "md5('user ' || u)::uuid"
_ORGANIZATION: Final = "md5('organization ' || u % 50)::uuid"
_EACH_USER: Final = f"generate_series(1, {USERS}) as u"

# Each user: ten claims of three scenario types, the newest 30 days old, and ten milestones. In the order of time, as
# they would have come, but the pending rows on pages of their own: what a test settles and rolls back leaves its pages
# not all-visible. The pending rows of the lowest numbers are due first. A few outlast their trigger by more than a
# week; half of the failures held for a day. One user has 3,000 failures of two types behind that, which hold nothing.
FILL: Final = (
    SQL("insert into auth.users (id) select {} from {}").format(SQL(_USER), SQL(_EACH_USER)),
    insert_by_query("peer_mentors", _EACH_USER, user_id=_USER, organization_id=_ORGANIZATION),
    insert_by_query("device_tokens", _EACH_USER, user_id=_USER, token="'token ' || u"),
    insert_by_query(
        "certifications",
        _EACH_USER,
        user_id=_USER,
        organization_id=_ORGANIZATION,
        expires_at="now() + interval '1 day' * (u % 700 - 300)",
    ),
    insert_by_query(
        "activities",
        f"generate_series(1, 20) as k, {_EACH_USER} order by k, {_USER}",
        user_id=_USER,
        organization_id=_ORGANIZATION,
        activity_date="now() - interval '1 day' * (k * 7 + u % 200)",
    ),
    insert_by_query(
        "scenario_notifications",
        f"""
        generate_series(1, 10) as k,
        {_EACH_USER},
        unnest(array['inactivity', 'certification_expiry', 'welcome_back']) as scenario_type
        order by u % 10 = 0 and k = 10, k, {_USER}
        """,
        user_id=_USER,
        organization_id=_ORGANIZATION,
        scenario_type="scenario_type",
        triggered_at="now() - interval '30 days' * (11 - k) - interval '1 second' * u",
        delivery_status=(
            "case when u % 10 = 0 and k = 10 then 'pending' when (u + k) % 19 = 0 then 'failed' else 'sent' end"
        ),
        cooldown_window_start=(
            "case when k = 1 then 'epoch' else now() - interval '30 days' * (12 - k) - interval '1 second' * u end"
        ),
        origin="'evaluation'",
        cooldown="interval '30 days'",
        deliver_until=(
            "case when u % 10 = 0 and k = 10 then now() + interval '1 day'"
            " else now() - interval '30 days' * (11 - k) + interval '7 days' end"
        ),
        settled_at=(
            "case when u % 10 = 0 and k = 10 then null when u % 100 = 7 then now() - interval '30 days' * (11 - k)"
            " + interval '9 days' else now() - interval '30 days' * (11 - k) + interval '1 hour' end"
        ),
        held_until=(
            "case when u % 10 = 0 and k = 10 then null when (u + k) % 38 = 0"
            " then now() - interval '30 days' * (11 - k) + interval '1 day' end"
        ),
    ),
    SQL(
        """
        insert into scenario_private.handover
          (notification_id, user_id, organization_id, scenario_type, next_attempt_at)
        select
          id, user_id, organization_id, scenario_type,
          now() - interval '1 hour' * (6000 - row_number() over (order by triggered_at desc))
        from public.scenario_notifications
        where delivery_status = 'pending'
        """
    ),
    # And so many others are waiting that to read them all would be a fault.
    SQL(
        """
        insert into scenario_private.handover
          (notification_id, user_id, organization_id, scenario_type, next_attempt_at)
        select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'inactivity', now() + interval '1 day'
        from generate_series(1, 50000)
        """
    ),
    insert_by_query(
        "scenario_notifications",
        f"generate_series(1, 10) as k, {_EACH_USER} order by k, {_USER}",
        user_id=_USER,
        organization_id=_ORGANIZATION,
        scenario_type="'milestone'",
        triggered_at="now() - interval '30 days' * (11 - k) - interval '1 second' * u",
        delivery_status="case when (u + k) % 19 = 0 then 'failed' else 'sent' end",
        milestone_value="k * 10",
        origin="'evaluation'",
        deliver_until="now() - interval '30 days' * (11 - k) + interval '7 days'",
        settled_at="now() - interval '30 days' * (11 - k) + interval '1 hour'",
    ),
    insert_by_query(
        "scenario_notifications",
        f"""
        generate_series(3000, 1, -1) as n,
        (values ('inactivity', null), ('milestone', 1000)) as kind (scenario_type, milestone_value),
        (values ({OFTEN_FAILED})) as one (u)
        """,
        user_id=_USER,
        organization_id=_ORGANIZATION,
        scenario_type="kind.scenario_type",
        triggered_at="now() - interval '1 minute' * n",
        delivery_status="'failed'",
        milestone_value="kind.milestone_value",
        cooldown_window_start="case when kind.milestone_value is null then now() - interval '1 minute' * (n + 1) end",
        failure_code="'no_longer_due'",
        origin="'evaluation'",
        deliver_until="now() - interval '1 minute' * n + interval '7 days'",
        settled_at="now() - interval '1 minute' * n",
    ),
)


class Plan:
    """A query's plan after it ran: its nodes, and what they read."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.nodes = list(_walk(root))

    def __repr__(self) -> str:
        return "\n".join(_describe(self.nodes[0]))

    @property
    def indexes(self) -> set[str]:
        """The names of the indexes that were scanned."""
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}

    @property
    def scanned_tables(self) -> set[str]:
        """The tables that were read from one end to the other."""
        return {node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"}

    def node_types(self, index: str) -> set[str]:
        """How an index was scanned."""
        return {node["Node Type"] for node in self.nodes if node.get("Index Name") == index}

    @property
    def buffers(self) -> int:
        """How many pages of tables and their indexes were read; the first use of an aggregate reads catalogues too."""
        return sum(_pages(node) for node in self.nodes if "Relation Name" in node)

    @property
    def heap_fetches(self) -> int:
        """How many rows the index-only scans had to fetch after all."""
        return sum(node.get("Heap Fetches", 0) for node in self.nodes)


def _pages(node: Mapping[str, Any]) -> int:
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


def _describe(node: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    about = (
        f"{name}={node[key]}"
        for name, key in {"rows": "Actual Rows", "loops": "Actual Loops", "heap fetches": "Heap Fetches"}.items()
        if key in node
    )
    conditions = (str(node[key]) for key in ("Index Cond", "Filter", "Sort Key") if key in node)
    on = node.get("Index Name") or node.get("Relation Name") or node.get("Function Name") or ""
    yield " ".join([" " * depth + node["Node Type"], on, *about, f"buffers={_pages(node)}", *conditions])
    for child in node.get("Plans", ()):
        yield from _describe(child, depth + 1)


def _walk(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)
