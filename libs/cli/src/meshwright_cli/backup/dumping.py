"""PostgreSQL's own tools: pg_dump to a file, and back in one transaction.

They come with the embedded server (18) and serve every server from 15 on. A dump is turned into SQL
by pg_restore and executed by psql, and not by pg_restore alone, for two reasons: the transaction
begins with taking away the empty schemas that `bootstrap` made and ends only after the dump was
read to its end; and a setting that older servers do not know is left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from meshwright_cli.backup.manifest import BackupError
from meshwright_common.settings import PREFIX
from meshwright_common.storage.embedded.wheels import postgres_programs
from meshwright_common.storage.whole_copies import SCHEMAS

LOCK_WAIT: Final = "30s"
"""How long a dump waits for a table that a migration holds: then it fails, and nobody queues."""
_UNKNOWN_BEFORE_17: Final = b"SET transaction_timeout = 0;\n"
_PREAMBLE_LINES: Final = 40
"""Settings stand at the beginning of a script; what follows is data and stays as it is."""


def dump(owner_url: str, file: Path, *, snapshot: str) -> None:
    """Write everything that the owner sees in the snapshot to `file`. Raises: BackupError; OSError.

    Row-level security is on, and its policies show the owner all rows: see `whole_copies.hold`.
    """
    _run(
        owner_url,
        "pg_dump",
        [
            "--format=custom",
            f"--file={file}",
            f"--snapshot={snapshot}",
            "--enable-row-security",
            f"--lock-wait-timeout={LOCK_WAIT}",
        ],
    )


def contents(file: Path) -> int:
    """Return how many things a dump holds. Raises: BackupError when it is none that we can read."""
    done = subprocess.run(
        [str(_programs() / "pg_restore"), "--list", str(file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BackupError(f"{file} cannot be read: {_last_lines(done.stderr)}")
    return sum(not line.startswith(";") for line in done.stdout.splitlines())


def load(superuser_url: str, file: Path) -> None:
    """Execute a dump in one transaction on a database that `bootstrap` has just made.

    Either all of it is there afterwards or nothing. Raises: BackupError with what the server said.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as read_errors:
        reading = subprocess.Popen(
            [str(_programs() / "pg_restore"), "--exit-on-error", "--file=-", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=read_errors,
        )
        command, environment = _client(superuser_url, "psql")
        running = subprocess.Popen(
            [*command, "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--file=-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=environment,
        )
        try:
            _execute(reading, running)
        except BrokenPipeError:
            pass  # psql has ended, and says why.
        finally:
            reading.kill()
            running.wait()
            reading.wait()
        # A script that ends early leaves an open transaction, and psql calls its end a good one.
        if running.returncode or reading.returncode:
            raise BackupError(f"the database was not restored: {_tail(said) or _tail(read_errors)}")


def _execute(reading: subprocess.Popen[bytes], running: subprocess.Popen[bytes]) -> None:
    """Pass the script on between BEGIN and COMMIT; without its end there is no COMMIT."""
    if reading.stdout is None or running.stdin is None:
        raise AssertionError("both have pipes")
    with reading.stdout as script, running.stdin as statements:
        _pass_on(script, statements)
        if reading.wait() == 0:
            statements.write(b"COMMIT;\n")


def _pass_on(script: IO[bytes], statements: IO[bytes]) -> None:
    statements.write(b"BEGIN;\n")
    for schema in SCHEMAS:
        # RESTRICT: a schema that is not empty stops it here.
        statements.write(f"DROP SCHEMA IF EXISTS {schema} RESTRICT;\n".encode())
    statements.write(b"DROP EXTENSION IF EXISTS vector RESTRICT;\n")
    for _ in range(_PREAMBLE_LINES):
        line = script.readline()
        if line != _UNKNOWN_BEFORE_17:
            statements.write(line)
    shutil.copyfileobj(script, statements, 1024 * 1024)


def _run(url: str, program: str, arguments: Sequence[str]) -> None:
    command, environment = _client(url, program)
    done = subprocess.run(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise BackupError(f"{program} failed: {_last_lines(done.stderr)}")


def _client(url: str, program: str) -> tuple[list[str], Mapping[str, str]]:
    """Return a program with its address, and an environment with the password, which ps hides."""
    address = urlsplit(url)
    # A server on a unix socket stands behind the question mark.
    where = address.hostname or ""
    where += f":{address.port}" if address.port else ""
    user = f"{address.username}@" if address.username else ""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    if address.password:
        environment["PGPASSWORD"] = unquote(address.password)
    target = urlunsplit(address._replace(netloc=f"{user}{where}"))
    return [str(_programs() / program), f"--dbname={target}"], environment


def _programs() -> Path:
    # Clients run as ourselves, so any folder that we can read will do.
    return postgres_programs(None)


def _tail(file: IO[bytes]) -> str:
    file.seek(0)
    return _last_lines(file.read().decode(errors="replace"))


def _last_lines(text: str) -> str:
    return "; ".join(line.strip() for line in text.strip().splitlines()[-3:])
