"""The key that `up` prints: the first tenant's, kept in the data folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright_cli.exits import CommandError
from meshwright_cli.files import write_private
from meshwright_common.rpc.channels import Channels
from meshwright_session.first_tenant import OWNER_PERMISSIONS, first_tenant

__all__ = ["OPERATOR", "OWNER_PERMISSIONS", "first_key"]

OPERATOR: Final = "operator"
"""Who acts when the command itself calls services: a signing key of its own."""


async def first_key(channels: Channels, file: Path) -> str:
    """Return the API key of the first tenant's owner: the kept one while it works.

    A crash between making the key and keeping it is mended by the next start, which makes another.
    Raises: ServiceError; CommandError when the file is damaged; OSError.
    """
    directory = DirectoryServiceStub(channels.open("session"))
    first = await first_tenant(directory, service=OPERATOR, known_key=_read(file))
    if first.is_new_key:
        write_private(file, json.dumps({"api_key": first.api_key}) + "\n")
    return first.api_key


def _read(file: Path) -> str:
    try:
        return str(json.loads(file.read_bytes())["api_key"])
    except FileNotFoundError:
        return ""
    except (ValueError, TypeError, KeyError):
        raise CommandError(f"{file} is damaged: delete it to get a new API key") from None
