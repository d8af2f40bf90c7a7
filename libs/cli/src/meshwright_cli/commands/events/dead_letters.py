"""`meshwright events dlq`: what consumers gave up, why, and handing it back."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from meshwright_cli.commands.events.moments import shown
from meshwright_cli.commands.events.operator import Backbone, known_id, operate, operator_name
from meshwright_cli.commands.events.options import (
    ConsumerOption,
    JsonOption,
    ReasonOption,
    SinceOption,
    TenantOption,
    TopicOption,
    YesOption,
)
from meshwright_cli.commands.events.printing import (
    ask,
    body_of,
    headers_text,
    printable,
    show_json,
    show_table,
)
from meshwright_cli.exits import CommandError, refused
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.events import inspection_letters
from meshwright_common.events.dead_letter import DeadLetter
from meshwright_common.events.inspection_letters import LetterFilter, for_ids

app = typer.Typer(add_completion=False, no_args_is_help=True)
ERROR_CHARACTERS = 100
"""Of an error in the list; `show` has all of it."""


@app.callback()
def dlq() -> None:
    """Look at events that consumers gave up, and hand them back once the cause is mended."""


@app.command("list")
def list_letters(  # noqa: PLR0913, PLR0917 - one argument for each option
    consumer: ConsumerOption = "",
    topic: TopicOption = "",
    tenant: TenantOption = "",
    since: SinceOption = None,
    error: Annotated[str, typer.Option(help="Only with this text in the error.")] = "",
    count: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """List dead letters, the newest first."""
    wanted = LetterFilter(consumer or None, topic or None, tenant or None, since, error or None)

    async def look(backbone: Backbone) -> tuple[list[DeadLetter], int]:
        found = await inspection_letters.find(backbone.database, wanted, most=count)
        return found, await inspection_letters.count(backbone.database, wanted)

    letters, total = operate(data, look)
    if as_json:
        show_json([_content(letter) for letter in letters])
        return
    columns = ("id", "died", "consumer", "topic", "tenant", "key", "attempts", "error")
    show_table(*columns, rows=[_row(letter) for letter in letters])
    if total > len(letters):
        sys.stderr.write(f"{len(letters)} of {total}: narrow them, or say --count\n")


@app.command()
def show(
    event_id: Annotated[str, typer.Argument(metavar="ID", callback=known_id)],
    consumer: ConsumerOption = "",
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Show a dead letter whole: error, attempts, position, headers, body."""
    wanted = for_ids(LetterFilter(consumer=consumer or None), [event_id])

    async def look(backbone: Backbone) -> list[DeadLetter]:
        return await inspection_letters.find(backbone.database, wanted, most=100)

    letters = operate(data, look)
    if not letters:
        raise CommandError(f"no dead letter has the id {event_id}: `meshwright events dlq list`")
    if as_json:
        show_json([_content(letter) for letter in letters])
        return
    typer.echo("\n\n".join(_text(letter) for letter in letters))


@app.command()
def replay(  # noqa: PLR0913, PLR0917 - one argument for each option
    consumer: ConsumerOption,
    event_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of the consumer.")] = False,
    topic: TopicOption = "",
    tenant: TenantOption = "",
    since: SinceOption = None,
    error: Annotated[str, typer.Option(help="Only with this text in the error.")] = "",
    reason: ReasonOption = "",
    yes: YesOption = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Hand dead letters back to their consumer, which tries each anew, its effect exactly once.

    Name them by their ids, or say --all; the other options narrow that.
    """
    if every == bool(event_ids):
        raise refused("name the dead letters by their ids, or all of the consumer by --all")
    wanted = LetterFilter(consumer, topic or None, tenant or None, since, error or None)
    if event_ids:
        wanted = for_ids(wanted, [known_id(one) for one in event_ids])

    async def count(backbone: Backbone) -> int:
        return await inspection_letters.count(backbone.database, wanted)

    async def hand_back(backbone: Backbone) -> int:
        return await inspection_letters.replay(
            backbone.database, wanted, operator=operator_name(), reason=reason
        )

    found = operate(data, count)
    if event_ids and found < len(set(event_ids)):
        raise CommandError(
            f"{found} of {len(set(event_ids))} are dead letters of {consumer}: nothing was done"
        )
    if not found:
        typer.echo(f"{consumer} has no such dead letters")
        return
    if not ask(f"Hand {found} dead letters back to {consumer}?", yes):
        raise refused("nothing was done")
    typer.echo(f"{operate(data, hand_back)} dead letters were handed back to {consumer}")


def _row(letter: DeadLetter) -> tuple[str, ...]:
    error = letter.error.splitlines()[0] if letter.error else ""
    return (
        *(letter.delivery.event_id, shown(letter.died_at), letter.consumer, letter.topic),
        *(letter.delivery.tenant_id, letter.delivery.partition_key, str(letter.attempts)),
        error if len(error) <= ERROR_CHARACTERS else f"{error[:ERROR_CHARACTERS]}…",
    )


def _content(letter: DeadLetter) -> dict[str, object]:
    delivery = letter.delivery
    return {
        "event_id": delivery.event_id,
        "died_at": shown(letter.died_at),
        "consumer": letter.consumer,
        "topic": letter.topic,
        "tenant_id": delivery.tenant_id,
        "key": delivery.partition_key,
        "position": delivery.origin,
        "attempts": letter.attempts,
        "error": letter.error,
        "headers": dict(delivery.headers),
        "body": body_of(delivery),
    }


def _text(letter: DeadLetter) -> str:
    delivery = letter.delivery
    body = body_of(delivery)
    facts = {
        "id": delivery.event_id,
        "consumer": letter.consumer,
        "topic": letter.topic,
        "position": delivery.origin,
        "tenant": delivery.tenant_id,
        "key": delivery.partition_key,
        "died": shown(letter.died_at),
        "attempts": str(letter.attempts),
        "error": letter.error,
    }
    lines = [f"{name + ':':10}{printable(text)}" for name, text in facts.items()]
    pretty = json.dumps(body, indent=2, ensure_ascii=False)
    return "\n".join([*lines, "headers:", headers_text(delivery.headers), "body:", pretty])
