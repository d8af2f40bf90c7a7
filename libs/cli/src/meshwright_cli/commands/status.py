"""`meshwright status`: what runs on a data folder."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import grpc.aio
import typer
from rich.console import Console
from rich.table import Table

from meshwright_cli.endpoint import Endpoint, read_endpoint
from meshwright_cli.engines.data_folder import owner_of
from meshwright_cli.exits import CommandError, Exit
from meshwright_cli.health import is_serving, own_transport
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.rpc.transport import Transport

app = typer.Typer(add_completion=False)
TIMEOUT_SECONDS = 3.0


@app.command()
def status(
    data: DataOption = DEFAULT_DATA,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what runs on the data folder. Exits with 0 ready, 1 not quite, 3 nothing runs."""
    pid = owner_of(data)
    if pid is None:
        raise CommandError(f"nothing runs on {data}", Exit.NOT_RUNNING)
    endpoint = read_endpoint(data)
    states = asyncio.run(_ask_all(endpoint)) if endpoint is not None else {}
    ready = bool(states) and all(state == "serving" for state in states.values())
    if as_json:
        url = endpoint.url if endpoint is not None else None
        typer.echo(json.dumps({"pid": pid, "ready": ready, "url": url, "services": states}))
    else:
        _show(pid, endpoint, states)
    raise typer.Exit(Exit.OK if ready else Exit.FAILED)


async def _ask_all(endpoint: Endpoint) -> dict[str, str]:
    transport = own_transport()
    states = await asyncio.gather(*(_ask(transport, *one) for one in endpoint.grpc.items()))
    return dict(zip(endpoint.grpc, states, strict=True))


async def _ask(transport: Transport, service: str, address: str) -> str:
    async with transport.open_channel(service, address) as channel:
        try:
            serving = await is_serving(channel, timeout_seconds=TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            return f"unreachable ({error.code().name})"
    return "serving" if serving else "not serving"


def _show(pid: int, endpoint: Endpoint | None, states: dict[str, str]) -> None:
    if endpoint is None:
        typer.echo(f"process {pid} is starting or stopping")
        return
    typer.echo(f"process {pid} at {endpoint.url}")
    table = Table("service", "address", "state", box=None)
    for service, state in states.items():
        table.add_row(service, endpoint.grpc[service], state)
    Console().print(table)
