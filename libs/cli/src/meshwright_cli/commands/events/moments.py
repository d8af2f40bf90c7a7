"""Moments as operators write them: `2026-11-28T03:00`, `03:00`, `15m` ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import typer

FORMS: Final = (
    "2026-11-28, 2026-11-28T03:00, 2026-11-28T03:00:05.5+01:00 (UTC without a zone), or how "
    "long ago: 90s, 15m, 2h, 3d"
)
_AGO: Final = re.compile(r"(\d{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> datetime:
    """Return the moment that is meant. Raises: BadParameter that says how to write one."""
    try:
        if ago := _AGO.fullmatch(text):
            # house: wall-clock: the operator means the clock on the wall
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        told = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no moment; write {FORMS}") from None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def shown(told: datetime | None) -> str:
    """Return a moment as these commands print it, to the millisecond, UTC; a dash for none."""
    if told is None:
        return "–"
    return told.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(span: timedelta | None) -> str:
    """Return a length of time in its largest units; a dash for none."""
    if span is None:
        return "–"
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"
