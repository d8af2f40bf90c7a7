"""Moments and durations as people write and read them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from meshwright_cli.exits import refused

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def duration_of(text: str, option: str) -> timedelta:
    """Return a duration such as 90s, 15m, 1h30m or 2d. Raises: CommandError."""
    if not _DURATION.fullmatch(text):
        raise refused(f"{option}: {text!r} is no duration such as 90s, 15m, 1h30m or 2d")
    return timedelta(seconds=sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(text)))


def moment_of(text: str, option: str) -> datetime:
    """Return a moment such as 2026-12-24T18:00; without a zone it is of this machine's.

    Raises: CommandError.
    """
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise refused(
            f"{option}: {text!r} is no moment such as 2026-12-24T18:00 or 2026-12-24T18:00+01:00"
        ) from None


def told(moment: str | None, now: datetime) -> str:
    """Return a moment of the API in this machine's zone, and how far away it is."""
    if not moment:
        return ""
    there = datetime.fromisoformat(moment).astimezone()
    away = (there - now).total_seconds()
    distance = f"in {_rough(away)}" if away >= 0 else f"{_rough(-away)} ago"
    return f"{there:%a %Y-%m-%d %H:%M} ({distance})"


def _rough(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
