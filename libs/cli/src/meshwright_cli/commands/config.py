"""`meshwright config`: the settings as the services would read them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

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

FILE_VARIABLE: Final = "MESHWRIGHT_MODELS__FILE"

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def config() -> None:
    """Look at the settings."""


@app.command()
def show() -> None:
    """Print every setting with its value as YAML, secrets replaced by ***.

    Values come from MESHWRIGHT_SECTION__NAME variables, over the YAML file that MESHWRIGHT_CONFIG
    names, over defaults. `embedded:` means that `meshwright up` runs the engine itself. What
    MESHWRIGHT_MODELS__FILE says follows as a document of its own.
    """
    settings: dict[str, object] = {}
    try:
        for service in SERVICE_NAMES:
            settings |= redacted(load(settings_type_of(service)))
        models = _models_file(settings)
    except SettingsError as error:
        raise refused(str(error)) from None
    typer.echo(f"# {CONFIG_VARIABLE}={os.environ.get(CONFIG_VARIABLE, '')}")
    typer.echo(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), nl=False)
    if models is not None:
        path, content = models
        typer.echo(f"---\n# {FILE_VARIABLE}={path}")
        typer.echo(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), nl=False)


def _models_file(settings: Mapping[str, object]) -> tuple[str, dict[str, object]] | None:
    """Return where the file of models is and what it says. Raises: SettingsError."""
    section = settings["models"]
    path = section.get("file") if isinstance(section, Mapping) else None
    if not path:
        return None
    reading = importlib.import_module("meshwright_model_router.models_file")
    return path, redacted(reading.read_models_file(Path(path))[0])
