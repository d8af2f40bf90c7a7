"""When schedules fire: cron expressions, intervals, single moments, within a start and an end.

All moments are aware and in UTC. Firings of one timing are a rising sequence without repeats, and a
pure function of its fields: any number of processes come to the same moments.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from meshwright_common.errors import invalid

MAX_CRON_CHARACTERS: Final = 200
CRON_FIELDS: Final = 5
MIN_INTERVAL: Final = timedelta(minutes=1)
MAX_INTERVAL: Final = timedelta(days=366)
MAX_MISSED: Final = 100
"""Missed firings that are still done."""
_A_MINUTE: Final = timedelta(minutes=1)
_ANY_FOLD: Final = timedelta(hours=25)
"""No clock was ever put back by more: Alaska and Samoa went back a day."""
_NOT_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})
_PRINTABLE: Final = re.compile(r"[A-Za-z0-9*/,#\- \t]+")


class Occurrences(Protocol):
    """The moments of a timing, whatever its start and end."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first occurrence after `moment`."""
        ...

    def until(self, moment: datetime) -> Iterator[datetime]:
        """Yield the occurrences up to `moment`, inclusive, newest first, maybe without end."""
        ...


@dataclass(frozen=True, slots=True)
class Cron:
    """Occurrences at the local times of a cron expression in a zone.

    Matching is of the wall clock, by cronsim, which follows Debian's cron: a local time that the
    clock skips becomes the next minute that exists, one that comes twice counts the first time.
    """

    expression: str
    time_zone: str = "UTC"

    def after(self, moment: datetime) -> datetime | None:
        local = moment.astimezone(_zone(self.time_zone)).replace(tzinfo=None)
        for wanted in CronSim(self.expression, local):
            # In the hour that comes twice the wall clock may be behind what has fired.
            if (found := self._moment(wanted)) > moment:
                return found
        return None

    def until(self, moment: datetime) -> Iterator[datetime]:
        local = moment.astimezone(_zone(self.time_zone)).replace(tzinfo=None)
        last: datetime | None = None
        for wanted in CronSim(self.expression, local + _ANY_FOLD, reverse=True):
            found = self._moment(wanted)
            # Skipped local times become the same minute.
            if found <= moment and found != last:
                yield found
                last = found

    def _moment(self, local: datetime) -> datetime:
        zone = _zone(self.time_zone)
        while True:
            found = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
            if found.astimezone(zone).replace(tzinfo=None) == local:
                return found
            local += _A_MINUTE


@dataclass(frozen=True, slots=True)
class Interval:
    """Occurrences every so often, the first at `start`."""

    every: timedelta
    start: datetime

    def after(self, moment: datetime) -> datetime | None:
        return self.start + self.every * max(0, (moment - self.start) // self.every + 1)

    def until(self, moment: datetime) -> Iterator[datetime]:
        for number in range((moment - self.start) // self.every, -1, -1):
            yield self.start + self.every * number


@dataclass(frozen=True, slots=True)
class Once:
    """One occurrence."""

    moment: datetime

    def after(self, moment: datetime) -> datetime | None:
        return self.moment if self.moment > moment else None

    def until(self, moment: datetime) -> Iterator[datetime]:
        if self.moment <= moment:
            yield self.moment


AnyOccurrences: TypeAlias = Cron | Interval | Once


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule fires: `occurrences` from `start` on, and before `end` if there is one."""

    occurrences: AnyOccurrences
    start: datetime
    end: datetime | None = None

    def after(self, moment: datetime) -> datetime | None:
        """Return the first firing after `moment`; None when there is none any more."""
        floor = max(moment, self.start - timedelta(microseconds=1))
        found = self.occurrences.after(floor)
        if found is None or (self.end is not None and found >= self.end):
            return None
        return found

    def between(self, first: datetime, last: datetime) -> list[datetime]:
        """Return the newest firings from `first` to `last`, both inclusive, oldest first: at most
        `MAX_MISSED` of them.
        """
        last = last if self.end is None else min(last, self.end - timedelta(microseconds=1))
        floor = max(first, self.start)
        newest = itertools.takewhile(lambda one: one >= floor, self.occurrences.until(last))
        return list(itertools.islice(newest, MAX_MISSED))[::-1]


def check_cron(expression: str, field: str) -> str:
    """Return an expression of five fields, blanks tidied. Raises: InvalidArgument."""
    fields = expression.split()
    if len(expression) > MAX_CRON_CHARACTERS:
        raise invalid(field, f"must be at most {MAX_CRON_CHARACTERS} characters")
    if len(fields) != CRON_FIELDS:
        raise invalid(
            field,
            f"has {len(fields)} fields, must have {CRON_FIELDS}: minute, hour, day of month, month,"
            " day of week",
        )
    if not _PRINTABLE.fullmatch(expression):
        raise invalid(field, "holds a character that cron does not know")
    try:
        next(CronSim(" ".join(fields), datetime(2000, 1, 1)))  # noqa: DTZ001 - a wall clock's time
    except CronSimError as error:
        raise invalid(field, f"is no cron expression: {str(error).lower()}") from None
    except StopIteration:
        raise invalid(field, "names a day that never comes") from None
    return " ".join(fields)


def check_zone(name: str, field: str) -> str:
    """Return the name of an IANA zone, UTC for an empty one. Raises: InvalidArgument."""
    if not name:
        return "UTC"
    if name not in _zone_names():
        raise invalid(field, 'must be the name of an IANA time zone, such as "Europe/Berlin"')
    return name


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones()) - _NOT_ZONES


@lru_cache(maxsize=512)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
