"""A period is cut into whole UTC days and the rest, each moment in exactly one part."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from meshwright_session.domain.usage_models import Period

MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        (MIDNIGHT, MIDNIGHT + DAY, 1),
        (MIDNIGHT, MIDNIGHT + DAY - HOUR, 0),
        (MIDNIGHT - HOUR, MIDNIGHT + HOUR, 0),
        (MIDNIGHT - HOUR, MIDNIGHT + DAY + HOUR, 1),
        (MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR, 0),
        (MIDNIGHT + HOUR, MIDNIGHT + 3 * DAY, 2),
        (MIDNIGHT, MIDNIGHT, 0),
        (MIDNIGHT + HOUR, MIDNIGHT - HOUR, 0),
    ],
)
def test_parts_lie_side_by_side(start: datetime, end: datetime, days: int) -> None:
    period = Period.between(start, end)
    whole = period.end_day - period.first_day
    assert whole == timedelta(days=days)
    head, tail = period.head_end - period.start, period.end - period.tail_start
    assert head >= timedelta()
    assert tail >= timedelta()
    assert head + whole + tail == max(end - start, timedelta())


def test_days_are_those_of_utc_whatever_zone_the_times_are_in() -> None:
    zone = timezone(timedelta(hours=5))
    period = Period.between(MIDNIGHT.astimezone(zone), (MIDNIGHT + 2 * DAY).astimezone(zone))
    assert (period.first_day, period.end_day) == (date(2026, 3, 10), date(2026, 3, 12))
