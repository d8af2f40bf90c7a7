"""`meshwright routes`: where models are called, by which rules, for how much, and how it goes."""

from __future__ import annotations

import typer

from meshwright_cli.commands.routes import changing, looking

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def routes() -> None:
    """Look at the tenant's deployments of models, policies and prices, and change them.

    What the operator's file (MESHWRIGHT_MODELS__FILE) says is shown as well, and changed there.
    """


app.command()(looking.deployments)
app.command()(looking.policies)
app.command()(looking.prices)
app.command()(looking.health)
app.command()(looking.explain)
app.command("add")(changing.add_deployment)
app.command("disable")(changing.disable_deployment)
app.command("enable")(changing.enable_deployment)
app.command("remove")(changing.remove_deployment)
app.command("set-policy")(changing.set_policy)
app.command("remove-policy")(changing.remove_policy)
app.command("set-price")(changing.set_price)
