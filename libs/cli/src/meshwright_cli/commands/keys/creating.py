"""`meshwright keys create`: the keys that services sign with, for an installation in a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meshwright_cli.exits import CommandError
from meshwright_cli.first_start import OPERATOR
from meshwright_common.identity.keys import KeyFileError, ensure_keys
from meshwright_common.identity.signing import ensure_record_key
from meshwright_common.settings import SERVICE_NAMES


def create(
    out: Annotated[Path, typer.Option("--out", help="Folder for the files; made if absent.")],
) -> None:
    """Make what is missing of the keys that services sign their calls and records with.

    `meshwright up` makes its own. In a cluster each service gets its key, and all get trusted.json:
    see docs/kubernetes.md. Keys that are there stay.
    """
    try:
        ensure_keys(out, (*SERVICE_NAMES, OPERATOR))
        ensure_record_key(out)
    except KeyFileError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename or out}: {error.strerror}") from None
    typer.echo(f"{out.absolute()} has the keys of {len(SERVICE_NAMES)} services and the operator")
