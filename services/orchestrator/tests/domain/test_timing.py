"""When schedules fire (O9): cron over clock changes, intervals, ends, what was missed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from meshwright_common.errors import InvalidArgument
from meshwright_orchestrator.domain.timing import (
    MAX_MISSED,
    Cron,
    Interval,
    Once,
    Timing,
    check_cron,
    check_zone,
)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_CHANGES = [datetime(2026, *day) for day in ((3, 7), (3, 28), (4, 4), (10, 3), (10, 24), (10, 31))]  # noqa: DTZ001 - days, wherever


def firings(cron: str, zone: str, since: str, count: int) -> list[str]:
    """Return the next firings after a local time, in local time with the offset."""
    moment = datetime.fromisoformat(since).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found: list[str] = []
    for _ in range(count):
        following = Cron(cron, zone).after(moment)
        assert following is not None
        moment = following
        found.append(moment.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M %z"))
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "since", "expected"),
    [
        # Spring: 02:00 to 03:00 is skipped.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", ["03-29 03:00 +0200", "03-30 02:30"]),
        ("30 2 * * *", "America/New_York", "2026-03-07 12:00", ["03-08 03:00 -0400"]),
        # Half an hour is skipped.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00", ["10-04 02:30 +1100"]),
        # What was skipped and what is due then anyway are one firing.
        ("*/30 2-3 * * *", "Europe/Berlin", "2026-03-29 01:00", ["03-29 03:00", "03-29 03:30"]),
        (
            "0 * * * *",
            "Europe/Berlin",
            "2026-03-29 00:30",
            ["03-29 01:00 +0100", "03-29 03:00 +0200"],
        ),
        # Autumn: 02:00 to 03:00 comes twice, and counts the first time.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24 12:00",
            ["10-25 02:30 +0200", "10-26 02:30 +0100"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31 12:00",
            ["11-01 01:30 -0400", "11-02 01:30"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04 12:00",
            ["04-05 01:45 +1100", "04-06 01:45"],
        ),
        (
            "0 * * * *",
            "Europe/Berlin",
            "2026-10-25 01:30",
            ["10-25 02:00 +0200", "10-25 03:00 +0100"],
        ),
        # A whole day was skipped.
        (
            "0 12 * * *",
            "Pacific/Apia",
            "2011-12-29 13:00",
            ["12-31 00:00 +1400", "12-31 12:00 +1400"],
        ),
    ],
)
def test_clock_changes_neither_lose_nor_repeat_a_firing(
    cron: str, zone: str, since: str, expected: list[str]
) -> None:
    found = firings(cron, zone, since, len(expected))
    assert [one[: len(wanted)] for one, wanted in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/20 9-17 * * MON-FRI", ["01-01 09:00", "01-01 09:20", "01-01 09:40"]),
        ("0 0 1,15 JAN,jul *", ["01-15 00:00", "07-01 00:00"]),
        ("5 4 * * SUN", ["01-04 04:05", "01-11 04:05"]),
        ("5 4 * * 0", ["01-04 04:05"]),
        ("5 4 * * 7", ["01-04 04:05"]),
        ("0 8 L * *", ["01-31 08:00", "02-28 08:00"]),
        ("0 8 LW * *", ["01-30 08:00", "02-27 08:00"]),
        ("0 8 * * 5L", ["01-30 08:00", "02-27 08:00"]),
        ("0 8 * * 5#2", ["01-09 08:00", "02-13 08:00"]),
        # Either day suffices when both are restricted.
        ("0 0 13 * FRI", ["01-02 00:00", "01-09 00:00", "01-13 00:00", "01-16 00:00"]),
        ("0 0 29 2 *", ["02-29 00:00"]),
    ],
)
def test_five_fields_mean_what_cron_says(cron: str, expected: list[str]) -> None:
    found = firings(check_cron(cron, "cron"), "UTC", "2026-01-01 00:30", len(expected))
    assert [one[:11] for one in found] == expected


@pytest.mark.parametrize(
    "cron",
    [
        *("", "* * * *", "* * * * * *", "@daily", "60 * * * *", "* 24 * * *", "* * 0 * *"),
        *("* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *", "a * * * *", "1,, * * * *"),
        *("0 0 30 2 *", "0 0 31 4,6 *", "* * * * MON#6", "٣ * * * *", "* * * * *" + " " * 200),
    ],
)
def test_what_is_no_cron_expression_is_refused(cron: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_cron(cron, "schedule.cron")
    assert refused.value.field_violations[0].field == "schedule.cron"


@pytest.mark.parametrize("zone", ["Mars/Base", "../etc/passwd", "Europe", "localtime", "utc+1"])
def test_only_zones_of_iana_are_taken(zone: str) -> None:
    with pytest.raises(InvalidArgument):
        check_zone(zone, "schedule.time_zone")
    assert check_zone("", "schedule.time_zone") == "UTC"
    assert check_zone("America/New_York", "schedule.time_zone") == "America/New_York"


def test_interval_counts_from_its_start_whatever_the_clock_does() -> None:
    start = datetime(2026, 3, 1, 0, 0, 30, tzinfo=UTC)
    timing = Timing(Interval(timedelta(minutes=90), start), start)
    assert timing.after(start - timedelta(days=1)) == start
    assert timing.after(start) == start + timedelta(minutes=90)
    assert timing.after(start + timedelta(minutes=89)) == start + timedelta(minutes=90)
    assert timing.between(start, start + timedelta(hours=3)) == [
        start + timedelta(minutes=90 * number) for number in range(3)
    ]


def test_nothing_fires_before_the_start_or_from_the_end_on() -> None:
    start, end = datetime(2026, 1, 1, 9, tzinfo=UTC), datetime(2026, 1, 1, 11, tzinfo=UTC)
    timing = Timing(Cron("0 * * * *"), start, end)
    assert timing.after(LONG_AGO) == start
    assert timing.after(start) == start + timedelta(hours=1)
    assert timing.after(start + timedelta(hours=1)) is None
    assert timing.between(LONG_AGO, end + timedelta(days=1)) == [
        start,
        start + timedelta(hours=1),
    ]
    assert Timing(Once(end), start, end).after(start) is None


def test_newest_missed_firings_are_found_without_counting_through_years() -> None:
    now = datetime(2026, 6, 1, 12, 0, 30, tzinfo=UTC)
    missed = Timing(Cron("* * * * *", "Europe/Berlin"), LONG_AGO).between(LONG_AGO, now)
    assert len(missed) == MAX_MISSED
    assert missed[-1] == datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
    assert missed == sorted(set(missed))


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("cron", ["*/7 * * * *", "30 1-2 * * *", "0,30 * * * *"])
def test_looking_back_finds_the_firings_that_looking_ahead_found(cron: str, zone: str) -> None:
    for day in _CHANGES:
        start = day.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        timing = Timing(Cron(cron, zone), start)
        ahead: list[datetime] = []
        moment = timing.after(start - timedelta(seconds=1))
        while moment is not None and moment <= start + timedelta(hours=10):
            ahead.append(moment)
            moment = timing.after(moment)
        assert timing.between(start, start + timedelta(hours=10)) == ahead[-MAX_MISSED:]
