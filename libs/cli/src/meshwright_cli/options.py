"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

DEFAULT_DATA: Final = Path(".meshwright")

DataOption: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--data", envvar="MESHWRIGHT_DATA", file_okay=False, help="Folder of the platform's data."
    ),
]
UrlOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="MESHWRIGHT_URL",
        help="Address of a platform elsewhere. Default: the one of the data folder.",
    ),
]
KeyOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--key",
        envvar="MESHWRIGHT_API_KEY",
        show_envvar=True,
        help="API key. Default: that of the data folder.",
    ),
]
