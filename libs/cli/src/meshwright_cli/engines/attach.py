"""Reach the PostgreSQL of a platform that another process runs on a data folder, and its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

from meshwright_cli.engines.data_folder import (
    SECRETS_FILE,
    DataFolderError,
    owner_of,
    read_secrets,
)
from meshwright_common.settings import DatabaseSettings, EncryptionSettings
from meshwright_common.storage.bootstrap import DATABASE
from meshwright_common.storage.embedded.process import LOOPBACK

PORT_LINE: Final = 3
"""The line, from 0, of `postmaster.pid` on which PostgreSQL writes its port."""


class NothingRuns(DataFolderError):
    """No platform with a PostgreSQL of its own runs on the folder."""

    exit_code = 3


def database_of(data: Path, limits: DatabaseSettings | None = None) -> DatabaseSettings:
    """Return how to log in to the database of the running platform; `{service}` is in the URL.

    The limits are those of `limits`, or by default.
    Raises: NothingRuns; DataFolderError when its files cannot be read.
    """
    if owner_of(data) is None:
        raise NothingRuns(f"Nothing runs on {data}: start it with `meshwright up --data {data}`.")
    try:
        passwords = read_secrets(data / SECRETS_FILE)
        lines = (data / "postgres" / "postmaster.pid").read_text("utf-8").splitlines()
        port = int(lines[PORT_LINE])
    except FileNotFoundError as error:
        raise NothingRuns(
            f"{error.filename} is missing: the platform on {data} is starting or stopping, or has "
            "another PostgreSQL; name that one in MESHWRIGHT_DATABASE__URL."
        ) from error
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise DataFolderError(f"The files of {data} cannot be read ({error}).") from error
    password = quote(passwords.database, safe="")
    login = f"meshwright_{{service}}:{password}"
    url = f"postgresql://{login}@{LOOPBACK}:{port}/{DATABASE}"
    return (limits or DatabaseSettings()).model_copy(update={"url": url})


def encryption_of(data: Path, named: EncryptionSettings) -> EncryptionSettings:
    """Return the master keys: those that are `named`, else the folder's, else none.

    Raises: DataFolderError when the folder's file cannot be read.
    """
    if named.master_keys:
        return named
    try:
        return EncryptionSettings(master_keys=read_secrets(data / SECRETS_FILE).master_keys)
    except FileNotFoundError:
        return named
    except (OSError, ValueError, TypeError) as error:
        raise DataFolderError(f"{data / SECRETS_FILE} cannot be read ({error}).") from error
