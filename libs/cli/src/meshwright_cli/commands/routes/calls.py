"""The API's routes about deployments, as the commands call them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias
from urllib.parse import quote

import typer

from meshwright_cli.http_api import JsonObject, call_api

PATH: Final = "/api/v1/routing"
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ModelOption: TypeAlias = Annotated[str, typer.Option("--model", help="Only of this model.")]
NameArgument: TypeAlias = Annotated[
    str, typer.Argument(help="The deployment's name.", show_default=False)
]


def path_of(kind: str, name: str) -> str:
    """Return where a deployment or a policy is."""
    return f"{PATH}/{kind}/{quote(name, safe='')}"


def listed(
    data: Path, url: str, key: str, kind: str, field: str, **filters: str
) -> list[JsonObject]:
    """Return all rows of a list, page by page. Raises: as `call_api`."""

    return call_api(data, url, key, lambda api: api.listed(f"{PATH}/{kind}", field, **filters))
