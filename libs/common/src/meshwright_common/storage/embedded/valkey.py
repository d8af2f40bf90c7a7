"""Valkey 9 from the wheel: one server on one folder, by unix socket where the path is short enough.

The configuration goes in on standard input: the password stands in no command line and no file.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from meshwright_common.storage.embedded import process
from meshwright_common.storage.embedded.process import Account, EngineFailed
from meshwright_common.storage.embedded.wheels import valkey_program

SOCKET_NAME = "valkey.sock"
START_TIMEOUT_SECONDS = 30.0
STOP_LADDER = ((signal.SIGTERM, 10.0),)
PORT_ATTEMPTS = 5

SETTINGS: Mapping[str, str] = {
    "bind": process.LOOPBACK,
    "dir": ".",
    "unixsocket": SOCKET_NAME,
    "unixsocketperm": "600",
    "protected-mode": "yes",
    "databases": "1",
    "maxclients": "1000",
    "maxmemory": "128mb",
    # A stream takes one node at once: with the default of 4096 bytes every turn's journal does.
    "stream-node-max-bytes": "512",
    # Limits and journals live here: refuse a write rather than forget one.
    "maxmemory-policy": "noeviction",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "aof-use-rdb-preamble": "yes",
    "save": '""',
    "loglevel": "warning",
    "timeout": "0",
    "tcp-keepalive": "60",
}


class EmbeddedValkey:
    """A Valkey server on `folder`. Not thread-safe; start it from the main thread."""

    def __init__(self, folder: Path, *, password: str, log: Path) -> None:
        self.folder = folder
        self.port = 0
        self._password = password
        self._log = log
        self._lock = process.FolderLock(
            folder.with_name(f"{folder.name}.lock"), program="valkey-server"
        )
        self._log_begin = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL for `redis.asyncio.Redis.from_url`: unix socket, or loopback when too long."""
        password = quote(self._password, safe="")
        if self.port:
            return f"redis://:{password}@{process.LOOPBACK}:{self.port}/0"
        return f"unix://:{password}@{quote(str(self._socket))}?db=0"

    @property
    def pid(self) -> int | None:
        """The server's pid while it was started and not stopped."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """False once the server ended by itself or was stopped."""
        return self._process is not None and self._process.poll() is None

    @property
    def _socket(self) -> Path:
        return self.folder.resolve() / SOCKET_NAME

    def start(self, *, evict: bool = False) -> None:
        """Start the server and wait until it answers, after a stop at the same address.

        `evict` ends a server that a dead owner left behind and that does not end by itself.
        Raises: EngineFailed with the end of the server's log.
        """
        process.prepare_folder(self.folder.parent, None)
        account = process.unprivileged_account(self.folder)
        process.prepare_folder(self.folder, account)
        program = valkey_program(account)
        lock = self._lock.acquire(timeout_seconds=STOP_LADDER[0][1], evict=evict)
        try:
            self._socket.unlink(missing_ok=True)
            self._start_at_an_address(program, account, lock)
        finally:
            self._lock.release()

    def _start_at_an_address(self, program: Path, account: Account | None, lock: int) -> None:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self._choose_address()
            self._launch(program, account, lock)
            if process.wait_until(self._answers_or_ended, timeout_seconds=START_TIMEOUT_SECONDS):
                if self.running:
                    return
                # Between choosing and binding, another process may have taken the port.
                if "bind" in self._said() and attempt < PORT_ATTEMPTS:
                    self.port = 0
                    continue
            self.stop()
            raise EngineFailed(f"Valkey did not start:\n{self._said()}")

    def _launch(self, program: Path, account: Account | None, lock: int) -> None:
        self._log_begin = process.log_size(self._log)
        self._process = process.launch(
            [str(program), "-"],
            account=account,
            death_signal=signal.SIGTERM,
            log=self._log,
            cwd=self.folder,
            pass_fds=(lock,),
            stdin=self._configuration(),
        )
        self._lock.record(self._process.pid)

    def stop(self) -> None:
        """Stop the server after it wrote what it holds; a no-op when it does not run."""
        if self._process is not None:
            process.stop(self._process, STOP_LADDER)
            self._process = None

    def _choose_address(self) -> None:
        fits = len(str(self._socket).encode()) <= process.LONGEST_SOCKET_PATH
        self.port = 0 if fits else self.port or process.free_port()

    def _configuration(self) -> str:
        settings = {**SETTINGS, "port": str(self.port), "requirepass": self._password}
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    def _said(self) -> str:
        return process.log_tail(self._log, since=self._log_begin)

    def _answers_or_ended(self) -> bool:
        if not self.running:
            return True
        try:
            with self._connect() as connection:
                connection.settimeout(1.0)
                connection.sendall(b"AUTH %s\r\nPING\r\n" % self._password.encode())
                answers = connection.makefile("rb")
                # While the log is being read at start, PING answers -LOADING.
                return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False

    def _connect(self) -> socket.socket:
        if self.port:
            return socket.create_connection((process.LOOPBACK, self.port), timeout=1.0)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self._socket))
        except OSError:
            connection.close()
            raise
        return connection
