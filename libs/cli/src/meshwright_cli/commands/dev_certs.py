"""`meshwright dev-certs`: certificates for mutual TLS on one machine."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from meshwright_cli.exits import CommandError, refused
from meshwright_common.identity.certificates import CertificateFilesExist, write_certificates
from meshwright_common.rpc.tls import SHARED_NAME
from meshwright_common.settings import SERVICE_NAMES

app = typer.Typer(add_completion=False)


@app.command()
def dev_certs(
    out: Annotated[Path, typer.Option("--out", help="Folder for the files; made if absent.")],
    days: Annotated[int, typer.Option(min=1, max=825, help="How long they are valid.")] = 30,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Make an authority and a certificate per service, for mutual TLS between services.

    Run it again with --force to rotate the certificates: the authority in the folder stays, and
    running processes take the new files by themselves.
    """
    try:
        write_certificates(
            out, SERVICE_NAMES, timedelta(days=days), shared_name=SHARED_NAME, overwrite=force
        )
    except CertificateFilesExist as error:
        raise refused(f"{error}: choose another folder, or replace them with --force") from None
    except OSError as error:
        raise CommandError(f"{error.filename or out}: {error.strerror}") from None
    folder = out.absolute()
    typer.echo(f"wrote certificates of {len(SERVICE_NAMES)} services to {folder}; use them by")
    typer.echo(f"  export MESHWRIGHT_TLS__CA_FILE={folder}/ca.crt")
    typer.echo(f"  export MESHWRIGHT_TLS__CERTIFICATE_FILE={folder}/{{service}}.crt")
    typer.echo(f"  export MESHWRIGHT_TLS__KEY_FILE={folder}/{{service}}.key")
