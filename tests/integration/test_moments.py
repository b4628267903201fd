"""When a clock says what, and when a window is open: against Python's own zones, over a century of instants."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.integration.database import Database
from tests.postgres.server import PostgresServer

# Lord Howe's clocks change by half an hour, Havana's at midnight, and Apia left out the 30th of December 2011.
ZONES: Final = (
    "Europe/Oslo",
    "Europe/Stockholm",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Havana",
    "Pacific/Apia",
)
DAY: Final = timedelta(days=1)
MINUTE: Final = timedelta(minutes=1)

instants = st.datetimes(datetime(1971, 1, 3), datetime(2035, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(second=0, microsecond=0)
)
# The days on which clocks change: drawn from a century, hardly any moment would lie beside one.
CHANGES: Final = [
    (zone, day)
    for zone in ZONES
    for day in (datetime(1971, 1, 3, tzinfo=UTC) + DAY * number for number in range(64 * 365))
    if day.astimezone(ZoneInfo(zone)).utcoffset() != (day + DAY).astimezone(ZoneInfo(zone)).utcoffset()
]
moments = st.tuples(st.sampled_from(ZONES), instants) | st.builds(
    lambda change, minutes: (change[0], change[1] + MINUTE * minutes),
    st.sampled_from(CHANGES),
    st.integers(-2 * 24 * 60, 2 * 24 * 60),
)
clock_times = st.integers(0, 24 * 4 - 1).map(lambda quarter: time(quarter // 4, quarter % 4 * 15))


class Window(NamedTuple):
    """What a policy says."""

    zone: str
    weekdays: tuple[int, ...] | None
    opens_at: time | None
    closes_at: time | None
    days_off: tuple[tuple[date, date], ...]


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Draw a policy that opens some time, of no zone in particular."""
    opens_at = draw(st.none() | clock_times)
    closes_at = None if opens_at is None else draw(clock_times.filter(lambda at: at != opens_at))
    weekdays = draw(st.none() | st.sets(st.integers(1, 7), min_size=1).map(lambda days: tuple(sorted(days))))
    return Window("UTC", weekdays, opens_at, closes_at, ())


@pytest.fixture(scope="module")
def asked(postgres_server: PostgresServer, migrated: str) -> Iterator[psycopg.Connection]:
    """Keep one connection: pure functions change nothing."""
    database = Database(postgres_server.create_database("moments", template=migrated))
    with database.connect() as connection:
        yield connection
    postgres_server.drop_database("moments")


def shown(moment: datetime, zone: str) -> datetime:
    """Return what a clock in the zone shows."""
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


def instant_of(local: datetime, zone: str, *, last: bool) -> datetime:
    """Return when a clock shows it, in plain steps: the first or last such minute, or the first after the gap."""
    guess = local.replace(tzinfo=UTC)
    minutes = [guess + timedelta(hours=hours) for hours in range(-27, 28)]
    # Whole hours that bracket it, then its minutes.
    found = [
        begin + MINUTE * step
        for begin, end in pairwise(minutes)
        if min(shown(begin, zone), shown(end, zone)) - DAY / 12
        <= local
        <= max(shown(begin, zone), shown(end, zone)) + DAY / 12
        for step in range(61)
    ]
    equal = [moment for moment in found if shown(moment, zone) == local]
    if equal:
        return equal[-1] if last else equal[0]
    return next(moment for moment in found if shown(moment, zone) > local)


def is_open(moment: datetime, window: Window) -> bool:
    """Say whether a window is open then: that of the day, or that of the day before over midnight."""
    today = shown(moment, window.zone).date()
    return any(begin <= moment < end for begin, end in opened(window, today - DAY, today))


def opened(window: Window, first: date, last: date) -> list[tuple[datetime, datetime]]:
    """Return the windows that open on these days."""
    found = []
    opens_at, closes_at = window.opens_at or time(0), window.closes_at or time(0)
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        if window.weekdays is not None and day.isoweekday() not in window.weekdays:
            continue
        if any(begin <= day <= end for begin, end in window.days_off):
            continue
        closing = day + DAY if closes_at <= opens_at else day
        begin = instant_of(datetime.combine(day, opens_at), window.zone, last=False)
        # Without hours the whole day is open, and no minute of the next.
        end = instant_of(datetime.combine(closing, closes_at), window.zone, last=window.closes_at is not None)
        if begin < end:
            found.append((begin, end))
    return found


def next_permitted(connection: psycopg.Connection, window: Window, moment: datetime) -> datetime | None:
    """Ask the database."""
    days_off = "{" + ",".join(f"[{first},{last}]" for first, last in window.days_off) + "}"
    row = connection.execute(
        "select scenario_private.next_permitted(%s, %s::integer[], %s::time, %s::time, %s::datemultirange, %s)",
        [
            window.zone,
            None if window.weekdays is None else list(window.weekdays),
            window.opens_at,
            window.closes_at,
            days_off,
            moment,
        ],
    ).fetchone()
    assert row is not None
    answer: datetime | None = row[0]
    return answer


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=moments, shift=st.integers(-180, 180), last=st.booleans())
# The clocks of Oslo go back on 25 October, and forward on 28 March; Lord Howe's by half an hour.
@example(place=("Europe/Oslo", datetime(2026, 10, 25, 1, tzinfo=UTC)), shift=0, last=True)
@example(place=("Europe/Oslo", datetime(2026, 10, 25, 1, tzinfo=UTC)), shift=0, last=False)
@example(place=("Europe/Oslo", datetime(2027, 3, 28, 1, tzinfo=UTC)), shift=-30, last=False)
@example(place=("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)), shift=-15, last=True)
def test_a_clock_shows_it_when_pythons_does(
    asked: psycopg.Connection, place: tuple[str, datetime], shift: int, *, last: bool
) -> None:
    """Times that are there once, twice or not at all."""
    zone, moment = place
    local = shown(moment, zone) + MINUTE * shift
    row = asked.execute("select scenario_private.local_instant(%s, %s, %s)", [local, zone, last]).fetchone()
    assert row is not None
    assert row[0] == instant_of(local, zone, last=last)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(window=windows(), place=moments, off=st.lists(st.tuples(st.integers(-3, 9), st.integers(0, 4)), max_size=2))
# Samoa had no 30 December that year.
@example(
    window=Window("UTC", None, None, None, ()),
    place=("Pacific/Apia", datetime(2011, 12, 1, tzinfo=UTC)),
    off=[(0, 0)],
)
@example(
    window=Window("UTC", None, time(9), time(17), ()),
    place=("Pacific/Apia", datetime(2011, 12, 30, 3, tzinfo=UTC)),
    off=[],
)
def test_the_next_moment_is_the_first_that_is_open(
    asked: psycopg.Connection, window: Window, place: tuple[str, datetime], off: list[tuple[int, int]]
) -> None:
    """It is open, nothing before it is, and an open moment is its own next."""
    zone, moment = place
    today = shown(moment, zone).date()
    window = window._replace(
        zone=zone,
        days_off=tuple((today + timedelta(days=first), today + timedelta(days=first + more)) for first, more in off),
    )
    found = next_permitted(asked, window, moment)
    if is_open(moment, window):
        assert found == moment
        return
    later = opened(window, today - DAY, today + 30 * DAY)
    assert found == min(begin for begin, _ in later if begin > moment)


@pytest.mark.parametrize(
    ("window", "moment", "expected"),
    [
        # Over midnight: the window belongs to the day on which it opens, the weekday and the day off both.
        (("UTC", (5,), time(22), time(6), ()), "2026-11-28T05:59:00Z", "2026-11-28T05:59:00Z"),
        (("UTC", (5,), time(22), time(6), ()), "2026-11-28T06:00:00Z", "2026-12-04T22:00:00Z"),
        (("UTC", (5,), time(22), time(6), ()), "2026-11-27T05:00:00Z", "2026-11-27T22:00:00Z"),
        (
            ("UTC", None, time(22), time(6), ((date(2026, 11, 27), date(2026, 11, 27)),)),
            "2026-11-28T05:00:00Z",
            "2026-11-28T22:00:00Z",
        ),
        # 02:30 does not exist on 28 March, and is there twice on 25 October.
        (("Europe/Oslo", None, time(2, 30), time(5), ()), "2027-03-28T00:00:00Z", "2027-03-28T01:00:00Z"),
        (("Europe/Oslo", None, time(2, 30), time(5), ()), "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z"),
        (("Europe/Oslo", None, time(1), time(2, 30), ()), "2026-10-25T01:29:00Z", "2026-10-25T01:29:00Z"),
        (("Europe/Oslo", None, time(1), time(2, 30), ()), "2026-10-25T01:30:00Z", "2026-10-26T00:00:00Z"),
        # 02:00 to 03:00 is left out on 28 March, and with it that day's window.
        (("Europe/Oslo", None, time(2), time(3), ()), "2027-03-28T00:30:00Z", "2027-03-29T00:00:00Z"),
        # So is a whole Friday of Apia's.
        (("Pacific/Apia", (5,), None, None, ()), "2011-12-30T09:00:00Z", "2012-01-05T10:00:00Z"),
        # Havana's midnight of 1 November is there twice: the day begins at the first, also a day off.
        (
            ("America/Havana", None, None, None, ((date(2026, 11, 1), date(2026, 11, 1)),)),
            "2026-11-01T04:30:00Z",
            "2026-11-02T05:00:00Z",
        ),
        # Days off from Christmas to Epiphany, by Oslo's calendar.
        (
            ("Europe/Oslo", None, None, None, ((date(2026, 12, 21), date(2027, 1, 6)),)),
            "2026-12-20T23:00:00Z",
            "2027-01-06T23:00:00Z",
        ),
        # More than a year of them.
        (("UTC", None, None, None, ((date(2026, 1, 1), date(2027, 12, 31)),)), "2026-06-01T00:00:00Z", None),
    ],
)
def test_boundaries(asked: psycopg.Connection, window: tuple[object, ...], moment: str, expected: str | None) -> None:
    """Written out."""
    found = next_permitted(asked, Window(*window), datetime.fromisoformat(moment))  # type: ignore[arg-type]
    assert found == (expected and datetime.fromisoformat(expected))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stops=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 30)), max_size=4),
    end=st.integers(0, 250),
    length=st.integers(1, 100),
)
def test_a_stopped_clock_runs_back_and_forward_alike(
    asked: psycopg.Connection, stops: list[tuple[int, int]], end: int, length: int
) -> None:
    """Counted hour by hour: what lies in a stop counts for nothing."""
    origin = datetime(2026, 1, 1, tzinfo=UTC)
    stopped = {hour for begin, hours in stops for hour in range(begin, begin + hours)}
    hour, left = end, length
    while left:
        hour -= 1
        left -= hour not in stopped
    ranges = (
        "{"
        + ",".join(
            f'["{origin + timedelta(hours=begin)}","{origin + timedelta(hours=begin + hours)}")'
            for begin, hours in stops
        )
        + "}"
    )
    row = asked.execute(
        """
        select scenario_private.clock_back(%(at)s, %(length)s, %(stopped)s::tstzmultirange),
          scenario_private.clock_forward(
            scenario_private.clock_back(%(at)s, %(length)s, %(stopped)s::tstzmultirange),
            %(length)s, %(stopped)s::tstzmultirange
          )
        """,
        {"at": origin + timedelta(hours=end), "length": timedelta(hours=length), "stopped": ranges},
    ).fetchone()
    assert row is not None
    back, forward = row
    # Inside a stop every hour is as far away as its beginning or its end.
    assert hours_running(origin, back, end, stopped) == length
    assert hours_running(origin, back, round((forward - origin) / timedelta(hours=1)), stopped) == length


def hours_running(origin: datetime, since: datetime, until: int, stopped: set[int]) -> int:
    """Count the hours in which the clock ran."""
    return sum(hour not in stopped for hour in range(round((since - origin) / timedelta(hours=1)), until))
