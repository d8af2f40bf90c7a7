"""The `meshwright` command. A command's module is imported when that command is used."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from typing import Annotated, Final

import typer
from typer._click import Command, Context
from typer.core import TyperGroup

from meshwright_cli.exits import HELP, CommandError

COMMANDS: Final = (
    "up",
    "down",
    "status",
    "chat",
    "ingest",
    "agents",
    "tasks",
    "workflows",
    "schedules",
    "webhooks",
    "sessions",
    "memories",
    "events",
    "routes",
    "guards",
    "mcp",
    "usage",
    "audit",
    "tenants",
    "users",
    "api-keys",
    "erasure",
    "keys",
    "backup",
    "doctor",
    "config",
    "serve",
    "migrate",
    "capacity",
    "dev-certs",
)
"""In the order of the help: to run it, to use it, to look after it, to run parts of it."""


class LazyCommands(TyperGroup):
    """The commands, each in `meshwright_cli.commands.<name>` as `app`."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"meshwright_cli.commands.{cmd_name.replace('-', '_')}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=LazyCommands,
    name="meshwright",
    help="Meshwright: an agent platform on one machine, with one command.",
    epilog=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"meshwright {importlib.metadata.version('meshwright')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command line and exit with one of `meshwright_cli.exits.Exit`."""
    try:
        app()
    except CommandError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"error: {line}\n")
        sys.exit(error.code)
