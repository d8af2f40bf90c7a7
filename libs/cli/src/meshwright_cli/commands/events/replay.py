"""`meshwright events replay`: hand a time range of events to a consumer again."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer

from meshwright_cli.commands.events.moments import moment, shown
from meshwright_cli.commands.events.operator import Backbone, operate, operator_name
from meshwright_cli.commands.events.options import (
    ConsumerOption,
    KeyOption,
    ReasonOption,
    TenantOption,
    TopicOption,
    YesOption,
)
from meshwright_cli.commands.events.printing import ask
from meshwright_cli.exits import refused
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.events import inspection_replay
from meshwright_common.events.inspection_replay import Replayed, ReplayRange

MOST_EVENTS = 100_000
"""Unless --limit says otherwise: what is handed over waits in PostgreSQL until it is applied."""


def replay(  # noqa: PLR0913, PLR0917 - one argument for each option
    consumer: ConsumerOption,
    since: Annotated[
        datetime, typer.Option("--from", metavar="TIME", parser=moment, help="The first moment.")
    ],
    until: Annotated[
        datetime, typer.Option("--to", metavar="TIME", parser=moment, help="The moment after it.")
    ],
    topic: TopicOption = "",
    key: KeyOption = "",
    tenant: TenantOption = "",
    limit: Annotated[int, typer.Option(min=1, help="Refuse to do more events.")] = MOST_EVENTS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Hand events that happened in a time range to a consumer again, behind what waits of a key.

    The running consumer applies them. What it wrote is there once, as before; what was lost of it
    comes again. Events that it has not handled yet are left alone, dead letters too.
    """
    if since >= until:
        raise refused(f"--from {shown(since)} is not before --to {shown(until)}")

    async def survey(backbone: Backbone) -> list[tuple[ReplayRange, Replayed]]:
        return [
            (one, await inspection_replay.survey(backbone.database, backbone.log, one))
            for one in await _ranges(
                backbone, topic, ReplayRange(consumer, "", since, until, key, tenant)
            )
        ]

    surveyed = operate(data, survey)
    total = sum((found for _, found in surveyed), Replayed())
    for one, found in surveyed:
        typer.echo(f"{one.topic}: {found.found} events, {consumer} has handled {found.handled}")
    if dry_run or not total.handled:
        return
    if total.handled > limit:
        raise refused(f"{total.handled} events are more than --limit {limit}: narrow the range")
    if not ask(f"Hand {total.handled} events to {consumer} again?", yes):
        raise refused("nothing was done")
    done = operate(data, lambda backbone: _replay(backbone, [one for one, _ in surveyed], reason))
    typer.echo(f"{done.handled} events were handed to {consumer} again")


async def _ranges(backbone: Backbone, topic: str, wanted: ReplayRange) -> list[ReplayRange]:
    """Return a range for each topic. Raises: CommandError for a consumer that reads none."""
    positions = await backbone.log.positions()
    mine = sorted({one.topic for one in positions if one.consumer == wanted.consumer})
    if not mine:
        names = ", ".join(sorted({one.consumer for one in positions})) or "none"
        raise refused(f"--consumer {wanted.consumer}: no such consumer; there are {names}")
    if topic and topic not in mine:
        raise refused(f"--topic {topic}: {wanted.consumer} reads {', '.join(mine)}")
    return [
        ReplayRange(wanted.consumer, one, wanted.since, wanted.until, wanted.key, wanted.tenant_id)
        for one in ([topic] if topic else mine)
    ]


async def _replay(backbone: Backbone, ranges: list[ReplayRange], reason: str) -> Replayed:
    done = Replayed()
    for wanted in ranges:
        before = done

        def tell(so_far: Replayed, before: Replayed = before, topic: str = wanted.topic) -> None:
            handled = (before + so_far).handled
            sys.stderr.write(f"\r{topic}: {handled} events handed over")
            sys.stderr.flush()

        done += await inspection_replay.replay(
            backbone.database,
            backbone.log,
            wanted,
            operator=operator_name(),
            reason=reason,
            tell=tell,
        )
        sys.stderr.write("\n")
    return done
