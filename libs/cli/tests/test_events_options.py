"""What `meshwright events` makes of moments, and of what it knows about consumers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import typer

from meshwright_cli.commands.events.lag import Lag, joined
from meshwright_cli.commands.events.moments import duration, moment, shown
from meshwright_cli.commands.events.printing import printable
from meshwright_common.events.inspection import Position
from meshwright_common.events.inspection_letters import Waiting

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-28T12:00", NOON),
        ("2026-11-28T12:00:00Z", NOON),
        ("2026-11-28T13:00:00+01:00", NOON),
        ("2026-11-28", NOON - timedelta(hours=12)),
    ],
)
def test_a_moment_without_a_zone_is_utc(text: str, meant: datetime) -> None:
    assert meant == moment(text)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("3d", timedelta(days=3)),
    ],
)
def test_a_moment_may_be_how_long_ago(text: str, ago: timedelta) -> None:
    assert abs(datetime.now(UTC) - ago - moment(text)) < timedelta(seconds=5)


@pytest.mark.parametrize(
    "text", ["", "now", "15", "15 m", "-1h", "2026-13-01", "9999999d", "999999d"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        moment(text)


def test_moments_and_durations_are_shown_short() -> None:
    assert shown(NOON) == "2026-11-28T12:00:00.000Z"
    assert shown(None) == duration(None) == "–"
    spans = (timedelta(seconds=1.25), timedelta(minutes=3), timedelta(hours=5), timedelta(days=7))
    assert [duration(span) for span in spans] == ["1.2 s", "3 min", "5.0 h", "7 d"]


def test_a_consumer_is_listed_when_only_its_dead_letters_are_known() -> None:
    lags = joined(
        [Position("ledger", "usage.stats", 3, NOON)],
        [
            Waiting("ledger", "usage.stats", 1, NOON - timedelta(hours=1), 0),
            Waiting("gone", "audit.log", 0, None, 2),
        ],
    )
    assert lags == [
        Lag("gone", "audit.log", 0, None, 0, 2),
        Lag("ledger", "usage.stats", 3, NOON - timedelta(hours=1), 1, 0),
    ]


def test_a_key_cannot_act_on_the_terminal() -> None:
    assert printable("anna\x1b[2J\n") == "anna\\x1b[2J\\n"
