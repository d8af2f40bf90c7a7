"""`meshwright audit`: verify the audit logs, look into them, take them along."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from meshwright_cli.commands.events.moments import moment
from meshwright_cli.commands.events.printing import printable, show_json, show_table
from meshwright_cli.exits import CommandError, refused
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_cli.record_books import (
    AuditFilter,
    RecordBooks,
    Tenant,
    Verdict,
    open_books,
    public_keys,
)

app = typer.Typer(add_completion=False, no_args_is_help=True)
TenantOption = Annotated[
    str, typer.Option("--tenant", metavar="SLUG", help="Of this tenant: slug or id, or platform.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.callback()
def audit() -> None:
    """Verify the hash-chained audit logs against their signed checkpoints; read and export them.

    Works on the platform of the data folder, or on the one of MESHWRIGHT_DATABASE__URL and the
    other settings, as the owner of its tables: all tenants are seen.
    """


@app.command()
def verify(
    tenant: TenantOption = "",
    everybody: Annotated[
        bool, typer.Option("--all", help="Of all tenants; so it is without --tenant.")
    ] = False,
    public_key: Annotated[
        Path | None,
        typer.Option(
            "--public-key",
            metavar="FILE",
            dir_okay=False,
            help="Trust this key alone, kept elsewhere: PEM, or a set as records_public.json.",
        ),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Recompute each chain, and compare it with its checkpoints and their copies.

    Names the first record that does not fit. Exit code 1 when one does not.
    """
    if tenant and everybody:
        raise refused("--tenant and --all exclude each other")
    verdicts: list[dict[str, object]] = []

    def tell(of: Tenant, verdict: Verdict) -> None:
        verdicts.append(_shown(of, verdict))
        if not as_json:
            typer.echo(_line(of, verdict))

    async def check(books: RecordBooks) -> bool:
        keys = public_keys(books.backbone.settings, data, public_key)
        return await books.verify(await books.tenants(tenant), keys, tell)

    whole = open_books(data, check)
    if as_json:
        show_json({"valid": whole, "tenants": verdicts})
    if not whole:
        bad = sum(not one["valid"] for one in verdicts)
        raise CommandError(f"{bad} of {len(verdicts)} audit logs are not what they were")


@app.command("list")
def list_records(
    tenant: TenantOption,
    actor: Annotated[str, typer.Option(help="Only this actor.")] = "",
    action: Annotated[str, typer.Option(help="Only actions that begin so.")] = "",
    since: Annotated[
        datetime | None,
        typer.Option("--since", metavar="TIME", parser=moment, help="Only from then on."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """List records of a tenant, newest first."""
    wanted = AuditFilter(start=since, actor=actor, action_prefix=action)

    async def find(books: RecordBooks) -> list[dict[str, object]]:
        [one] = await books.tenants(tenant)
        return list(await books.records(one, wanted, limit))

    found = open_books(data, find)
    if as_json:
        show_json(found)
        return
    columns = ("sequence", "time", "actor", "action", "resource", "outcome", "source")
    show_table(*columns, rows=[tuple(str(one[name]) for name in columns) for one in found])


@app.command()
def export(
    tenant: TenantOption,
    output: Annotated[
        Path, typer.Option("-o", "--output", dir_okay=False, help="File to write; - is the screen.")
    ] = Path("-"),
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Write all records of a tenant in the order of their chain, a JSON object a line.

    Each line has what was hashed, and its hashes: the chain can be recomputed without us.
    """

    async def write(books: RecordBooks) -> int:
        [one] = await books.tenants(tenant)
        count = 0
        with sys.stdout if str(output) == "-" else output.open("w", encoding="utf-8") as file:
            async for record in books.all_records(one):
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                count += 1
        return count

    count = open_books(data, write)
    if str(output) != "-":
        typer.echo(f"{count} records")


def _shown(of: Tenant, verdict: Verdict) -> dict[str, object]:
    flaw = verdict.flaw
    return {
        "tenant": of.name,
        "tenant_id": of.tenant_id,
        "valid": verdict.valid,
        "record_count": verdict.record_count,
        "first_sequence": verdict.first_sequence,
        "checkpoint_count": verdict.checkpoint_count,
        "checkpointed_sequence": verdict.checkpointed_sequence,
        "first_bad_sequence": None if flaw is None else flaw.sequence,
        "problem": "" if flaw is None else flaw.problem,
    }


def _line(of: Tenant, verdict: Verdict) -> str:
    name = printable(of.name)
    if verdict.flaw is not None:
        return f"{name}: NOT VALID at record {verdict.flaw.sequence}: {verdict.flaw.problem}"
    if not verdict.record_count:
        return f"{name}: valid, no records"
    last = verdict.first_sequence + verdict.record_count - 1
    return (
        f"{name}: valid, records {verdict.first_sequence} to {last}, "
        f"{verdict.checkpoint_count} checkpoints up to {verdict.checkpointed_sequence}"
    )
