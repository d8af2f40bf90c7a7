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
