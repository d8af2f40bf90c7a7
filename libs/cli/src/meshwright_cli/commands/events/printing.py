"""Events on the terminal: a line each for people, a line of JSON each for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from meshwright_cli.commands.events.moments import shown
from meshwright_cli.exits import refused
from meshwright_common.events.inspection import Logged
from meshwright_common.events.ports import Delivery


def body_of(delivery: Delivery) -> Any:
    """Return the body as JSON values, or as text when it is no JSON."""
    try:
        return json.loads(delivery.body)
    except ValueError:
        return delivery.body.decode("utf-8", errors="replace")


def event_line(logged: Logged) -> str:
    """Return an event as people read it: when, what, of which tenant and key, the facts."""
    delivery = logged.delivery
    body = body_of(delivery)
    data = body.get("data") if isinstance(body, dict) else body
    facts = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    words = (
        shown(logged.happened_at),
        printable(delivery.headers.get("ce_type", "?")),
        delivery.tenant_id,
        printable(delivery.partition_key),
        facts,
    )
    return "  ".join(words)


def event_json(logged: Logged) -> str:
    """Return an event as one line of JSON, with everything that the log has of it."""
    delivery = logged.delivery
    return json.dumps(
        {
            "topic": logged.topic,
            "position": delivery.origin,
            "logged_at": shown(logged.logged_at),
            "tenant_id": delivery.tenant_id,
            "key": delivery.partition_key,
            "headers": dict(delivery.headers),
            "body": body_of(delivery),
        },
        ensure_ascii=False,
    )


def printable(text: str) -> str:
    """Return a text without characters that a terminal would act on."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def show_table(*columns: str, rows: list[tuple[str, ...]]) -> None:
    """Print rows below their columns."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(printable(cell) for cell in row))
    # Cells of a file are not cut to the width of a terminal that is not there.
    console = Console() if sys.stdout.isatty() else Console(width=400)
    console.print(table, markup=False)


def show_json(content: object) -> None:
    """Print a value for programs."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")


def ask(question: str, yes: bool) -> bool:
    """Return whether the operator agrees. Raises: CommandError when nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise refused(f"{question} Nobody can be asked here: say --yes.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def headers_text(headers: Mapping[str, str]) -> str:
    """Return headers, one a line."""
    return "\n".join(f"  {printable(name)}: {printable(text)}" for name, text in headers.items())
