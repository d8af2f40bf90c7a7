"""What changes keys: a new data key, content sealed anew, a new master key, an old key's end."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from meshwright_cli.commands.events.options import YesOption
from meshwright_cli.commands.events.printing import ask
from meshwright_cli.commands.keys.operator import Keys, TenantOption, operate, operator_name
from meshwright_cli.exits import CommandError, refused
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.encryption import resealing, rotation
from meshwright_common.encryption.key_rows import USABLE_AFTER_SECONDS


def rotate(
    tenant: TenantOption = "",
    every: Annotated[bool, typer.Option("--all", help="Every tenant.")] = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Give a tenant, or all, a new data key. What older ones sealed goes on opening.

    `meshwright keys reseal` then seals by it what is stored.
    """
    if every == bool(tenant):
        raise refused("say --tenant TENANT, or --all")

    async def work(keys: Keys) -> int:
        wanted = await keys.tenant_of(tenant)
        return await rotation.rotate(keys.database, keys.masters, wanted, operator=operator_name())

    count = operate(data, work)
    typer.echo(f"{count} new data keys; they seal in {USABLE_AFTER_SECONDS:.0f} seconds")


def reseal(tenant: TenantOption = "", data: DataOption = DEFAULT_DATA) -> None:
    """Seal by the current data key what older ones have sealed, of a tenant or of all.

    May be ended and begun again at any moment. Exits with 1 when something is left or does not
    open.
    """

    async def work(keys: Keys) -> resealing.Resealed:
        wanted = await keys.tenant_of(tenant)
        if not all(key.usable for key in await rotation.data_keys(keys.database, wanted)):
            # Right after a rotation the new key does not seal yet.
            await asyncio.sleep(USABLE_AFTER_SECONDS)
        return await resealing.reseal(keys.database, keys.ring, wanted)

    done = operate(data, work)
    typer.echo(f"{done.rows} rows sealed anew")
    complaints = [f"{count} rows of {name} do not open" for name, count in done.broken.items()]
    complaints += [
        f"{count} rows of {name} were being written: run it again"
        for name, count in done.left.items()
    ]
    if complaints:
        raise CommandError("\n".join(complaints))


def rewrap(data: DataOption = DEFAULT_DATA) -> None:
    """Wrap all keys by the first master key of the settings. Then the others can be taken out.

    To replace a master key: add the new one behind the old one and restart every process; put it
    first and restart again; run this; take the old one out.
    """

    async def work(keys: Keys) -> int:
        return sum([count async for count in rotation.rewrap(keys.database, keys.masters)])

    typer.echo(f"{operate(data, work)} keys wrapped anew")


def retire(
    tenant: Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Its slug or id.")],
    version: Annotated[int, typer.Option(min=1, help="As `meshwright keys status` has it.")],
    yes: YesOption = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Destroy an old data key for good, once nothing can be sealed by it any more."""
    if not ask(f"Destroy version {version} of the data key of {tenant} for good?", yes):
        raise refused("nothing was done")

    async def work(keys: Keys) -> bool:
        wanted = await keys.tenant_of(tenant)
        if wanted is None:
            raise refused("say --tenant TENANT")
        return await rotation.retire(keys.database, wanted, version, operator=operator_name())

    typer.echo("destroyed" if operate(data, work) else "was destroyed before")
