"""`meshwright events lag`: who is behind, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from meshwright_cli.commands.events.moments import duration
from meshwright_cli.commands.events.operator import Backbone, operate
from meshwright_cli.commands.events.options import JsonOption
from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.events import inspection_letters
from meshwright_common.events.inspection import Position, age_of
from meshwright_common.events.inspection_letters import Waiting
from meshwright_common.storage.tenancy import unscoped


@dataclass(frozen=True, slots=True)
class Lag:
    """What a consumer has not done of a topic."""

    consumer: str
    topic: str
    behind: int
    oldest_at: datetime | None
    parked: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """Events in the outbox that have not reached the broker."""

    events: int
    oldest_seconds: float


def lag(data: DataOption = DEFAULT_DATA, as_json: JsonOption = False) -> None:
    """Say for each consumer and topic what is unread, waits to be tried again, or was given up.

    The oldest is the event that has waited longest, unread or after a failure.
    """
    lags, backlog = operate(data, _look)
    if as_json:
        show_json(
            {
                "consumers": [_content(one) for one in lags],
                "outbox": backlog
                and {"events": backlog.events, "oldest_seconds": backlog.oldest_seconds},
            }
        )
        return
    columns = ("consumer", "topic", "unread", "oldest", "waiting", "dead letters")
    show_table(*columns, rows=[_row(one) for one in lags])
    if backlog is not None:
        oldest = f", the oldest for {backlog.oldest_seconds:.1f} s" if backlog.events else ""
        show_table(rows=[(f"outbox: {backlog.events} events wait for the broker{oldest}",)])


async def _look(backbone: Backbone) -> tuple[list[Lag], Backlog | None]:
    positions = await backbone.log.positions()
    waiting = await inspection_letters.waiting(backbone.database)
    return joined(positions, waiting), await _backlog(backbone) if backbone.relayed else None


def joined(positions: list[Position], waiting: list[Waiting]) -> list[Lag]:
    """Return one line for each consumer and topic of which anything is known."""
    read = {(one.consumer, one.topic): one for one in positions}
    aside = {(one.consumer, one.topic): one for one in waiting}
    return [
        _joined(consumer, topic, read.get((consumer, topic)), aside.get((consumer, topic)))
        for consumer, topic in sorted(read.keys() | aside.keys())
    ]


def _joined(consumer: str, topic: str, position: Position | None, waiting: Waiting | None) -> Lag:
    since = (position and position.oldest_at, waiting and waiting.parked_since)
    return Lag(
        consumer=consumer,
        topic=topic,
        behind=position.behind if position else 0,
        oldest_at=min((one for one in since if one), default=None),
        parked=waiting.parked if waiting else 0,
        dead_letters=waiting.dead_letters if waiting else 0,
    )


async def _backlog(backbone: Backbone) -> Backlog:
    async with unscoped(backbone.database) as connection:
        row = await connection.fetchrow(
            "SELECT waiting, oldest_seconds FROM events.relay_backlog()"
        )
    return Backlog(row["waiting"], row["oldest_seconds"]) if row else Backlog(0, 0.0)


def _row(one: Lag) -> tuple[str, ...]:
    counts = (str(one.parked), str(one.dead_letters))
    return (one.consumer, one.topic, str(one.behind), duration(age_of(one.oldest_at)), *counts)


def _content(one: Lag) -> dict[str, object]:
    age = age_of(one.oldest_at)
    return {
        "consumer": one.consumer,
        "topic": one.topic,
        "unread": one.behind,
        "oldest_seconds": age and round(age.total_seconds(), 3),
        "waiting": one.parked,
        "dead_letters": one.dead_letters,
    }
