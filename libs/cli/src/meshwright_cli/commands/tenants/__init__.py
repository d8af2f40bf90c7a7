"""`meshwright tenants`: who the customers are, what they may use, and what they use."""

from __future__ import annotations

import typer

from meshwright_cli.commands.tenants import changing, looking, placing

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def tenants() -> None:
    """List, create, limit, suspend, move and delete tenants.

    Works on the platform of the data folder, or on the one of MESHWRIGHT_PEERS__SESSION with the
    operator's key in MESHWRIGHT_IDENTITY__KEYS_DIR. A tenant is named by its slug or its id.
    """


app.command("list")(looking.list_tenants)
app.command()(looking.show)
app.command()(looking.quota)
app.command()(looking.usage)
app.command()(changing.create)
app.command()(changing.update)
app.command()(changing.suspend)
app.command()(changing.resume)
app.command()(placing.move)
app.command()(placing.delete)
