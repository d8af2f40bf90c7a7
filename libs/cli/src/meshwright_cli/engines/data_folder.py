"""The data folder of an embedded platform: one owner at a time, its secrets, its endpoint.

DATA/meshwright.lock   who owns it now          DATA/postgres/   the cluster
DATA/secrets.json      generated secrets        DATA/valkey/     its append-only file
DATA/endpoint.json     how to reach it          DATA/objects/    uploaded files
DATA/keys/             signing keys             DATA/logs/       what the engines say
DATA/metrics-targets.json   where Prometheus finds the metrics of what runs
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Final

from meshwright_common.master_keys import new_master_key
from meshwright_common.storage.embedded.process import LOOPBACK

LOCK_FILE: Final = "meshwright.lock"
SECRETS_FILE: Final = "secrets.json"
ENDPOINT_FILE: Final = "endpoint.json"
METRICS_FILE: Final = "metrics-targets.json"
EVERYWHERE: Final = ("0.0.0.0", "[::]")  # noqa: S104 - compared with, not listened on
PASSWORD_BYTES: Final = 32


class DataFolderError(Exception):
    """The folder cannot be used; the text says why and what to do. `exit_code` is the command's."""

    exit_code = 1


class DataFolderInUse(DataFolderError):
    """Another platform runs on the folder: its `pid`, when it is known."""

    exit_code = 2

    def __init__(self, path: Path, pid: int | None) -> None:
        owner = f" (process {pid})" if pid is not None else ""
        super().__init__(
            f"Meshwright already runs on {path}{owner}: stop it with `meshwright down --data "
            f"{path}`, or start another one with `--data OTHER`."
        )
        self.pid = pid


@dataclass(frozen=True, slots=True)
class Secrets:
    """Generated passwords: PostgreSQL's superuser, the roles of owner and services, Valkey.

    `master_keys`: what opens the stored content, as MESHWRIGHT_ENCRYPTION__MASTER_KEYS has it.
    """

    postgres: str = field(repr=False)
    database: str = field(repr=False)
    redis: str = field(repr=False)
    master_keys: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A data folder that this process owns. Made by `own`."""

    path: Path
    secrets: Secrets

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def write_endpoint(self, url: str, *, api_key: str, grpc: Mapping[str, str]) -> Path:
        """Write how to reach the platform, readable by its owner alone; return the file's path."""
        file = self.path / ENDPOINT_FILE
        _write_private(file, {"url": url, "api_key": api_key, "grpc": dict(grpc)})
        return file

    def write_metrics_targets(self, targets: Iterable[tuple[str, str]]) -> Path:
        """Write where Prometheus finds metrics, as pairs of service and host:port; return the path.

        The file is for `file_sd_configs`, and says nothing that is secret.
        """
        file = self.path / METRICS_FILE
        found = [
            {"targets": [_reached(address)], "labels": {"service": service}}
            for service, address in targets
        ]
        part = file.with_suffix(".part")
        part.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
        part.replace(file)
        return file


@contextlib.contextmanager
def own(path: Path) -> Iterator[DataFolder]:
    """Own the folder inside the block, creating it and its passwords when new.

    The endpoint file of a former run is removed, and that of this run when the block ends.
    Raises: DataFolderInUse; DataFolderError when it cannot be written or its secrets are damaged.
    """
    path = path.absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (path / LOCK_FILE).open("a+")
    except OSError as error:
        raise DataFolderError(
            f"The data folder {path} cannot be written ({error.strerror}): choose another one with "
            "`--data DIR`, or become its owner."
        ) from error
    with lock:
        _take(path, lock)
        try:
            folder = DataFolder(path, _load_or_make_secrets(path / SECRETS_FILE))
            _forget_run(path)
        except OSError as error:
            raise DataFolderError(
                f"{error.filename or path} cannot be used ({error.strerror})."
            ) from error
        try:
            yield folder
        finally:
            _forget_run(path)


def _forget_run(path: Path) -> None:
    for name in (ENDPOINT_FILE, METRICS_FILE):
        (path / name).unlink(missing_ok=True)


def _reached(address: str) -> str:
    """Return the address by which this machine reaches a server that may listen everywhere."""
    host, _, port = address.rpartition(":")
    return f"{LOOPBACK}:{port}" if host in EVERYWHERE else address


def owner_of(path: Path) -> int | None:
    """Return the pid of the platform that owns the folder now; None when nobody does."""
    try:
        with (path / LOCK_FILE).open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _recorded_pid(lock)
    except OSError:
        return None
    return None


def read_endpoint(path: Path) -> dict[str, object]:
    """Return what `endpoint.json` says. Raises: DataFolderError when nothing runs on the folder."""
    try:
        endpoint = json.loads((path / ENDPOINT_FILE).read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataFolderError(
            f"Nothing runs on {path}: start it with `meshwright up --data {path}`."
        ) from error
    except (OSError, ValueError) as error:
        raise DataFolderError(f"{path / ENDPOINT_FILE} cannot be read ({error}).") from error
    return dict(endpoint)


def _take(path: Path, lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataFolderInUse(path, _recorded_pid(lock)) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()


def _recorded_pid(lock: IO[str]) -> int | None:
    lock.seek(0)
    text = lock.read().strip()
    return int(text) if text.isdigit() else None


def _load_or_make_secrets(file: Path) -> Secrets:
    try:
        known = read_secrets(file)
    except FileNotFoundError:
        known = Secrets(*(secrets.token_urlsafe(PASSWORD_BYTES) for _ in range(3)))
    except (ValueError, TypeError) as error:
        raise DataFolderError(
            f"{file} is damaged; without its passwords the data beside it cannot be opened: "
            "restore it from a backup."
        ) from error
    if known.master_keys:
        file.chmod(0o600)
        return known
    # Also for a folder of a version that sealed nothing. An id that no other folder has: a key that
    # was lost is missed by its name, and not taken for a damaged one.
    made = replace(known, master_keys=new_master_key(f"up-{secrets.token_hex(4)}"))
    _write_private(file, asdict(made))
    return made


def write_secrets(path: Path, *, master_keys: str) -> None:
    """Give a folder that has none fresh passwords, and the master keys of what it will hold.

    Raises: OSError.
    """
    made = Secrets(*(secrets.token_urlsafe(PASSWORD_BYTES) for _ in range(3)))
    _write_private(path / SECRETS_FILE, asdict(replace(made, master_keys=master_keys)))


def read_secrets(file: Path) -> Secrets:
    """Return what the file holds. Raises: OSError; ValueError or TypeError when it is damaged."""
    return Secrets(**json.loads(file.read_text("utf-8")))


def _write_private(file: Path, content: Mapping[str, object]) -> None:
    """Write JSON so that a reader sees the old file or the new one, and nobody else sees any."""
    building = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as writing:
            json.dump(content, writing, indent=2)
            writing.write("\n")
            writing.flush()
            os.fsync(writing.fileno())
        building.replace(file)
    finally:
        building.unlink(missing_ok=True)
