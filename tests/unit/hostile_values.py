"""Strategies for values of any kind, weighted towards those that break things."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Final

from hypothesis import strategies as st

from scenario_repo import ScenarioType
from tests.factories import USER_ID

HOSTILE_TEXTS: Final = [
    "",
    "\0",
    "\ud800",
    "'; drop table scenario_notifications; --",
    f"{USER_ID},or(user_id.not.is.null)",
    f"{USER_ID}&user_id=not.is.null",
    f"eq.{USER_ID}",
    "in.(select id from auth.users)",
    "not.is.null",
    "*",
    "inactivity&select=*",
    "inactivity,milestone",
    "{inactivity}",
    "INACTIVITY",
    "../rpc/scenario_purge_notifications",
    "infinity",
    "-infinity",
    "NaN",
    "null",
    "٤٢",
    "x" * 100_000,
]
BEFORE_YEAR_1: Final = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
VALUES: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31 - 1, 2**31, 2**63, 10**400]),
    st.floats(),
    st.decimals(),
    st.binary(max_size=20),
    st.text(max_size=20),
    st.sampled_from(HOSTILE_TEXTS),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.sampled_from([datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), BEFORE_YEAR_1]),
    st.timedeltas(),
    st.sampled_from([timedelta.min, timedelta.max, timedelta(0), timedelta(microseconds=1)]),
    st.uuids(),
    st.sampled_from(list(ScenarioType)),
    st.builds(object),
    st.just(Decimal("NaN")),
    st.just(type),
)
ANYTHING: Final = st.recursive(
    VALUES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner),
        st.sets(st.one_of(st.uuids(), st.text(max_size=5)), max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=10), st.integers()), inner, max_size=4),
    ),
    max_leaves=8,
)
