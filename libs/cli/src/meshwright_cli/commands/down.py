"""`meshwright down`: stop the platform of a data folder."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer

from meshwright_cli.engines.data_folder import owner_of
from meshwright_cli.exits import CommandError, Exit
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.storage.embedded.process import wait_until

app = typer.Typer(add_completion=False)


@app.command()
def down(
    data: DataOption = DEFAULT_DATA,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds that running turns get to finish.")
    ] = 180.0,
) -> None:
    """Stop the platform: running turns finish, then everything ends. Waits for it."""
    pid = owner_of(data)
    if pid is None:
        raise CommandError(f"nothing runs on {data}", Exit.NOT_RUNNING)
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise CommandError(f"process {pid} belongs to another user: stop it as that user") from None
    if not wait_until(lambda: owner_of(data) != pid, timeout_seconds=timeout):
        raise CommandError(
            f"process {pid} still drains after {timeout:g} s: wait, or `kill -9 {pid}` to cut "
            "running turns off; they go on at the next start"
        )
    typer.echo(f"stopped {data}")
