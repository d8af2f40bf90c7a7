"""Where the platform is that a command talks to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from meshwright_cli.engines import data_folder
from meshwright_cli.exits import CommandError, Exit


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The gateway's address, a key for it, and the gRPC addresses by service."""

    url: str
    api_key: str = field(repr=False)
    grpc: dict[str, str] = field(default_factory=dict)


def read_endpoint(data: Path) -> Endpoint | None:
    """Return what DATA/endpoint.json says; None when nothing is ready on the folder."""
    try:
        content = data_folder.read_endpoint(data)
    except data_folder.DataFolderError:
        return None
    return Endpoint(
        str(content.get("url", "")),
        str(content.get("api_key", "")),
        cast(dict[str, str], content.get("grpc", {})),
    )


def find_endpoint(data: Path, url: str, api_key: str) -> Endpoint:
    """Return the platform to talk to: at `url` with `api_key`, or the one of the data folder.

    Raises: CommandError when nothing runs there.
    """
    if url:
        return Endpoint(url.rstrip("/"), api_key)
    try:
        content = data_folder.read_endpoint(data)
    except data_folder.DataFolderError as error:
        raise CommandError(str(error), Exit.NOT_RUNNING) from None
    return Endpoint(str(content["url"]), api_key or str(content["api_key"]))
