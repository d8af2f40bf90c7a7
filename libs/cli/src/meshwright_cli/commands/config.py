"""`meshwright config`: the settings as the services would read them."""

from __future__ import annotations

import os

import typer
import yaml

from meshwright_cli.all_in_one import settings_type_of
from meshwright_cli.exits import refused
from meshwright_common.settings import (
    CONFIG_VARIABLE,
    SERVICE_NAMES,
    SettingsError,
    load,
    redacted,
)

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def config() -> None:
    """Look at the settings."""


@app.command()
def show() -> None:
    """Print every setting with its value as YAML, secrets replaced by ***.

    Values come from MESHWRIGHT_SECTION__NAME variables, over the YAML file that MESHWRIGHT_CONFIG
    names, over defaults. `embedded:` means that `meshwright up` runs the engine itself.
    """
    settings: dict[str, object] = {}
    try:
        for service in SERVICE_NAMES:
            settings |= redacted(load(settings_type_of(service)))
    except SettingsError as error:
        raise refused(str(error)) from None
    typer.echo(f"# {CONFIG_VARIABLE}={os.environ.get(CONFIG_VARIABLE, '')}")
    typer.echo(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), nl=False)
