"""`meshwright usage`: the ledger as a file, and compared with what really happened."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlencode

import typer

from meshwright_cli.commands.events.operator import operator_name
from meshwright_cli.commands.events.printing import printable, show_json, show_table
from meshwright_cli.endpoint import find_endpoint
from meshwright_cli.exits import CommandError, refused
from meshwright_cli.http_api import Api, call_api
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption
from meshwright_cli.record_books import Reconciled, RecordBooks, Repaired, open_books

app = typer.Typer(add_completion=False, no_args_is_help=True)
DEFAULT_DAYS: Final = 30
"""As long as events of usage are kept."""
SHOWN: Final = 50
"""Differences that are printed for people."""


class Form(StrEnum):
    """Of a file."""

    CSV = "csv"
    PARQUET = "parquet"
    NDJSON = "ndjson"


def day(text: str) -> date:
    """Return the day that is meant. Raises: BadParameter that says how to write one."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day; write 2026-11-28") from None


FromOption = Annotated[
    date | None,
    typer.Option("--from", metavar="DAY", parser=day, help="First day, UTC. Default: 30 days ago."),
]
ToOption = Annotated[
    date | None,
    typer.Option("--to", metavar="DAY", parser=day, help="Last day, UTC. Default: today."),
]


@app.callback()
def usage() -> None:
    """Export the usage ledger; compare it with the events it is made of."""


@app.command()
def export(
    output: Annotated[Path, typer.Option("-o", "--output", dir_okay=False, help="File to write.")],
    form: Annotated[Form, typer.Option("--format", help="Form of the file.")] = Form.CSV,
    since: FromOption = None,
    until: ToOption = None,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Write the model calls that the key may see, in time order.

    The columns are described in the API's document as UsageRow, and in a Parquet file itself. Money
    is whole millionths of a US dollar. The file appears when it is whole.
    """
    first, end = _period(since, until)
    query = urlencode(
        {"format": form.value, "start_time": first.isoformat(), "end_time": end.isoformat()}
    )
    endpoint = find_endpoint(data, url, key)

    async def run() -> int:
        async with Api(endpoint) as api:
            return await api.download(f"/api/v1/usage/export?{query}", output)

    size = asyncio.run(run())
    typer.echo(f"{output}: {size} bytes")


@app.command()
def budgets(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Show what is used of today's budgets of tokens and money, the tenant's and your own."""
    report = call_api(data, url, key, lambda api: api.get("/api/v1/budgets"))
    if as_json:
        show_json(report)
        return
    rows: list[tuple[str, ...]] = [
        (
            *(one["scope"], one["name"], str(one["used"]), str(one["reserved"])),
            *("none" if one["limit"] is None else str(one["limit"]), one["reset_time"]),
        )
        for one in report["budgets"]
    ]
    show_table("OF", "BUDGET", "USED", "HELD", "LIMIT", "UNTIL", rows=rows)
    if report["degraded"]:
        typer.echo("The shared counts are away: this is the ledger and one process.", err=True)


@app.command()
def reconcile(
    tenant: Annotated[
        str, typer.Option("--tenant", metavar="SLUG", help="Of this tenant: slug or id.")
    ] = "",
    everybody: Annotated[
        bool, typer.Option("--all", help="Of all tenants; so it is without --tenant.")
    ] = False,
    since: FromOption = None,
    until: ToOption = None,
    mend: Annotated[
        bool,
        typer.Option(
            "--repair", help="Write lost calls again, and make the sums of days from the rows."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Compare the ledger call by call with the event log, and the sums of days with the rows.

    Exit code 1 when something differs: calls that are missing, are there twice, have no event or
    other figures, sums that are not those of the rows. What waits to be handled is no difference.
    Works as the owner of the tables, as `meshwright events` does.
    """
    if tenant and everybody:
        raise refused("--tenant and --all exclude each other")
    first, end = _period(since, until)

    async def compare(books: RecordBooks) -> tuple[Repaired | None, Reconciled]:
        [one] = await books.tenants(tenant) if tenant else [None]
        if mend:
            return await books.repair(one, first, end, operator=operator_name())
        return None, await books.reconcile(one, first, end)

    repaired, done = open_books(data, compare)
    if as_json:
        show_json(_content(repaired, done))
    else:
        for line in _report(repaired, done):
            typer.echo(line)
    if not done.agrees:
        raise CommandError(f"{sum(done.counts.values())} differences")


def _period(since: date | None, until: date | None) -> tuple[datetime, datetime]:
    # house: wall-clock: the operator means days of the calendar
    last = until or datetime.now(UTC).date()
    first = since or last - timedelta(days=DEFAULT_DAYS - 1)
    if first > last:
        raise refused(f"--from {first} is after --to {last}")
    return _midnight(first), _midnight(last + timedelta(days=1))


def _midnight(of: date) -> datetime:
    return datetime.combine(of, time(), UTC)


def _report(repaired: Repaired | None, done: Reconciled) -> list[str]:
    lines = []
    if repaired is not None:
        lines.append(f"calls written again: {repaired.calls}, days summed anew: {repaired.days}")
    lines.append(
        f"compared: {done.events} events with {done.rows} rows of {done.days} days of tenants"
    )
    if done.repeated:
        lines.append(f"{done.repeated} events tell of a call again: the ledger has it once")
    if done.waiting:
        lines.append(f"{done.waiting} events are not handled yet")
    if done.unreadable:
        lines.append(f"{done.unreadable} events tell of no call")
    since = done.events_since
    if since is None:
        lines.append("the log has no events: rows were compared with their sums alone")
    else:
        lines.append(f"rows before {since:%Y-%m-%d %H:%M} have no events to compare with any more")
    for one in done.differences[:SHOWN]:
        words = (one.kind, str(one.day), one.tenant_id, one.event_id, one.call, one.what)
        lines.append("  ".join(printable(word) for word in words if word))
    lines += [f"{kind}: {count}" for kind, count in done.counts.items()]
    return [*lines, "the ledger agrees" if done.agrees else "the ledger does NOT agree"]


def _content(repaired: Repaired | None, done: Reconciled) -> dict[str, object]:
    return {
        "agrees": done.agrees,
        "repaired": None if repaired is None else {"calls": repaired.calls, "days": repaired.days},
        "events": done.events,
        "rows": done.rows,
        "days": done.days,
        "repeated": done.repeated,
        "waiting": done.waiting,
        "unreadable": done.unreadable,
        "events_since": None if done.events_since is None else done.events_since.isoformat(),
        "counts": dict(done.counts),
        "differences": [
            {
                "kind": one.kind,
                "tenant_id": one.tenant_id,
                "day": one.day.isoformat(),
                "event_id": one.event_id,
                "call": one.call,
                "what": one.what,
            }
            for one in done.differences
        ],
    }
