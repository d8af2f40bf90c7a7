"""`meshwright events tail`: watch a topic."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from meshwright_cli.commands.events.moments import FORMS, moment
from meshwright_cli.commands.events.operator import Backbone, known_topic, operate
from meshwright_cli.commands.events.options import KeyOption, TenantOption
from meshwright_cli.commands.events.printing import event_json, event_line
from meshwright_cli.commands.events.statuses import watch_statuses
from meshwright_cli.exits import Exit
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.events.inspection import TOPIC_NAMES, Logged, Start

AGENT_STATUS: Final = "agent_status"
WATCHABLE: Final = (*TOPIC_NAMES, AGENT_STATUS)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: an empty text stands for all."""

    tenant: str
    key: str
    event_type: str

    def includes(self, logged: Logged) -> bool:
        """Say whether an event is wanted."""
        delivery = logged.delivery
        return (
            self.tenant in {"", delivery.tenant_id}
            and self.key in {"", delivery.partition_key}
            and self.event_type in {"", delivery.headers.get("ce_type", "")}
        )


def _watchable(topic: str) -> str:
    return topic if topic == AGENT_STATUS else known_topic(topic)


def _start(text: str) -> Start:
    if text == "beginning":
        return "beginning"
    if text == "end":
        return "end"
    try:
        return moment(text)
    except typer.BadParameter:
        raise typer.BadParameter(
            f"{text!r}: write beginning, end, or a moment: {FORMS}", param_hint="--from"
        ) from None


def tail(  # noqa: PLR0913, PLR0917 - one argument for each option
    topic: Annotated[str, typer.Argument(callback=_watchable, help=f"Of: {', '.join(WATCHABLE)}.")],
    start: Annotated[
        str, typer.Option("--from", metavar="beginning|end|TIME", help="Where to begin.")
    ] = "end",
    tenant: TenantOption = "",
    key: KeyOption = "",
    event_type: Annotated[str, typer.Option("--type", help="Only this event type.")] = "",
    count: Annotated[int, typer.Option(min=0, help="Stop after so many events. 0: never.")] = 0,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for more at the end, or stop.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Whole events, one JSON a line.")] = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Print the events of a topic, one a line. Nobody's position moves. Ctrl-C ends it.

    A line says when it happened, event type, tenant, key, and the facts. agent_status is no log: it
    is heard from now on, and no option chooses among its messages.
    """
    if topic == AGENT_STATUS:
        _until_interrupted(data, lambda backbone: watch_statuses(backbone, count))
        return
    begin = _start(start)
    wanted = Wanted(tenant, key, event_type)
    line = event_json if as_json else event_line

    async def watch(backbone: Backbone) -> None:
        printed = 0
        async with aclosing(backbone.log.read(topic, begin, follow=follow)) as events:
            async for logged in events:
                if not wanted.includes(logged):
                    continue
                sys.stdout.write(line(logged) + "\n")
                sys.stdout.flush()
                printed += 1
                if printed == count:
                    return

    _until_interrupted(data, watch)


def _until_interrupted(data: Path, watch: Callable[[Backbone], Awaitable[None]]) -> None:
    try:
        operate(data, watch)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None
    except BrokenPipeError:
        # Who read us has seen enough. What Python flushes at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
