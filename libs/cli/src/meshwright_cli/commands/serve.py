"""`meshwright serve`: one or several services in this process, as a container would run them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from meshwright_cli.all_in_one import load_parts, open_parts
from meshwright_cli.environment import PlatformSettings, applied, peer_variable
from meshwright_cli.exits import CommandError, refused
from meshwright_common.app import App
from meshwright_common.errors import ServiceError
from meshwright_common.identity.keys import KeyFileError, load_keys
from meshwright_common.lifecycle import StartRefused
from meshwright_common.rpc.server import AddressError, ServiceTableError
from meshwright_common.runner import Process, configure_telemetry, run_loop, serve_apps
from meshwright_common.settings import SERVICE_NAMES, ServiceName, SettingsError, load

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    services: Annotated[
        list[str], typer.Argument(metavar="SERVICE…", help=f"Of: {', '.join(SERVICE_NAMES)}.")
    ],
) -> None:
    """Run services in this process, configured by MESHWRIGHT_… alone; logs on standard error.

    Services of one process call each other without a socket. Engines, keys and tables are not
    made here: see `meshwright up` for one machine, `meshwright migrate` for a cluster.
    """
    wanted = [name for name in SERVICE_NAMES if name in services]
    unknown = sorted(set(services) - set(SERVICE_NAMES))
    if unknown:
        raise refused(f"no such service: {', '.join(unknown)}")
    try:
        code = _serve(wanted)
    except (SettingsError, KeyFileError, AddressError) as error:
        raise refused(str(error)) from None
    except (ServiceError, StartRefused, ServiceTableError) as error:
        raise CommandError(str(error)) from None
    raise typer.Exit(code)


def _serve(services: Sequence[ServiceName]) -> int:
    configured = load(PlatformSettings).peers
    together = {peer_variable(name): "local:" for name in services if name not in configured}
    with applied(together):
        parts = load_parts(services)
        settings = load(PlatformSettings)
    name = "+".join(services)
    configure_telemetry(name, settings)
    keys = load_keys(settings.identity.keys_dir, services)

    @asynccontextmanager
    async def open_apps(process: Process) -> AsyncIterator[Sequence[App]]:
        async with open_parts(parts, process) as apps:
            yield apps

    return run_loop(serve_apps(open_apps, settings, name=name, keys=keys))
