"""`meshwright events`: look at the event log, find what went wrong, hand events over again."""

from __future__ import annotations

import typer

from meshwright_cli.commands.events import dead_letters, lag, replay, tail, topics

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def events() -> None:
    """Look at the event log and its consumers, dead letters, replay.

    Works on the platform of the data folder, or on the one of MESHWRIGHT_DATABASE__URL and the
    other settings, as the owner of its tables: all tenants are seen.
    """


app.command()(topics.topics)
app.command()(tail.tail)
app.command()(lag.lag)
app.add_typer(dead_letters.app, name="dlq")
app.command()(replay.replay)
