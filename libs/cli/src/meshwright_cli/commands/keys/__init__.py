"""`meshwright keys`: the keys that seal what is stored."""

from __future__ import annotations

import typer

from meshwright_cli.commands.keys import acts, creating, status

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Look at the keys that seal stored content, replace them, retire old ones.

    Works on the platform of the data folder, or on the one of MESHWRIGHT_DATABASE__URL with
    MESHWRIGHT_ENCRYPTION__MASTER_KEYS, as the owner of its tables. Services go on working.
    """


app.command()(status.status)
app.command()(acts.rotate)
app.command()(acts.reseal)
app.command()(acts.rewrap)
app.command()(acts.retire)
app.command()(creating.create)
