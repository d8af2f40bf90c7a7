"""PostgreSQL 18 from the wheel: one cluster in one folder, one server, on this machine only.

It listens on loopback TCP and on a unix socket in its folder, by which an exchange costs both sides
a quarter less CPU (60 against 42 µs for the smallest statement).

Traps this file knows:

- PostgreSQL refuses uid 0, and the unprivileged account may not be able to walk to the data
  (a checkout under root's 0700 home). We open the folder ourselves and hand the descriptor down:
  `-D /proc/self/fd/N` enters it without passing the folders above.
- A killed `initdb` leaves half a cluster: it works in a folder beside and is renamed when done.
- A SIGKILL of everything leaves `postmaster.pid`; on a machine where that pid now belongs to
  another process of the same user the server would refuse to start. Our lock is inherited by the
  server, so once we hold it, no server lives and the file is stale by proof. So is the lock file
  beside its socket.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from meshwright_common.storage.embedded import process
from meshwright_common.storage.embedded.process import Account, EngineFailed
from meshwright_common.storage.embedded.wheels import postgres_programs

SUPERUSER = "postgres"
START_TIMEOUT_SECONDS = 60.0
"""Recovery after a crash replays up to `max_wal_size`; a clean start takes 40 ms."""
STOP_LADDER = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))
"""Fast shutdown (roll back, checkpoint), then immediate (recovery at the next start)."""
PORT_ATTEMPTS = 5
SOCKET_PREFIX = ".s.PGSQL."
"""The port follows it."""

SETTINGS: Mapping[str, str] = {
    "listen_addresses": process.LOOPBACK,
    # Of the cluster's own folder, which the server is in: no path is too long for it.
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "cluster_name": "meshwright",
    "max_connections": "100",
    # Small: the whole embedded platform has to idle in 400 MB.
    "shared_buffers": "48MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "1GB",
    "io_method": "sync",
    "max_worker_processes": "4",
    "max_parallel_workers": "2",
    "huge_pages": "off",
    "jit": "off",
    # Durable: what was committed survives a power cut.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # No replicas to feed.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "512MB",
    "autovacuum_max_workers": "2",
    "autovacuum_naptime": "20s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    # A statement may hold user text and its failure is reported to the caller anyway.
    "log_min_error_statement": "panic",
    "log_line_prefix": "%m [%p] %q%a ",
}
UNSAFE_BUT_FAST: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
}
"""For tests only: a power cut may destroy the cluster, a killed server does not."""


class EmbeddedPostgres:
    """A PostgreSQL server on `folder`. Not thread-safe; start it from the main thread.

    `password` is the superuser's: it is set when the cluster is made and never changed after.
    `log` is a file. `durable=False` trades safety for speed, in tests.
    """

    def __init__(self, folder: Path, *, password: str, log: Path, durable: bool = True) -> None:
        self.folder = folder
        self.port = 0
        self._password = password
        self._log = log
        self._settings = dict(SETTINGS) if durable else {**SETTINGS, **UNSAFE_BUT_FAST}
        self._durable = durable
        self._lock = process.FolderLock(folder.with_name(f"{folder.name}.lock"), program="postgres")
        self._log_begin = 0
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        """Return the superuser's URL of `database`."""
        password = quote(self._password, safe="")
        return f"postgresql://{SUPERUSER}:{password}@{process.LOOPBACK}:{self.port}/{database}"

    @property
    def socket_folder(self) -> Path | None:
        """The folder to name as host, with the port; None where clients could not read it: when the
        socket's path is too long, or has the comma that separates hosts.
        """
        folder = self.folder.resolve()
        path = str(folder / f"{SOCKET_PREFIX}{self.port}")
        fits = len(path.encode()) <= process.LONGEST_SOCKET_PATH and "," not in path
        return folder if fits else None

    @property
    def pid(self) -> int | None:
        """The postmaster's pid while it was started and not stopped."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """False once the server ended by itself or was stopped."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, port: int | None = None, evict: bool = False) -> None:
        """Make the cluster if there is none, start the server and wait until it answers.

        `port` asks for that one; without it a free one is taken. `evict` ends a server that a dead
        owner left behind and that does not end by itself. Raises: EngineFailed with the end of the
        server's log.
        """
        process.prepare_folder(self.folder.parent, None)
        account = process.unprivileged_account(self.folder)
        programs = postgres_programs(account)
        lock = self._lock.acquire(timeout_seconds=STOP_LADDER[0][1], evict=evict)
        try:
            if not (self.folder / "PG_VERSION").exists():
                self._initialise(programs, account)
            process.prepare_folder(self.folder, account)
            for stale in (self.folder / "postmaster.pid", *self.folder.glob(f"{SOCKET_PREFIX}*")):
                stale.unlink(missing_ok=True)
            self._start_on_a_port(programs, account, port, lock)
        finally:
            self._lock.release()

    def stop(self) -> None:
        """Stop the server, cleanly if it lets itself; a no-op when it does not run."""
        if self._process is not None:
            process.stop(self._process, STOP_LADDER)
            self._process = None

    def _start_on_a_port(
        self, programs: Path, account: Account | None, port: int | None, lock: int
    ) -> None:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.port = port or process.free_port()
            self._launch(programs, account, lock)
            if process.wait_until(self._answers_or_ended, timeout_seconds=START_TIMEOUT_SECONDS):
                if self.running:
                    return
                # Between choosing and binding, another process may have taken the port.
                taken = "could not bind" in self._said()
                if taken and attempt < PORT_ATTEMPTS:
                    continue
            self.stop()
            raise EngineFailed(f"PostgreSQL did not start:\n{self._said()}")

    def _launch(self, programs: Path, account: Account | None, lock: int) -> None:
        settings = {**self._settings, "port": str(self.port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with process.handed_down(self.folder, account) as (data, descriptors):
            self._log_begin = process.log_size(self._log)
            self._process = process.launch(
                [str(programs / "postgres"), "-D", data, *options],
                account=account,
                death_signal=signal.SIGINT,
                log=self._log,
                pass_fds=(*descriptors, lock),
            )
        self._lock.record(self._process.pid)

    def _said(self) -> str:
        return process.log_tail(self._log, since=self._log_begin)

    def _answers_or_ended(self) -> bool:
        if not self.running:
            return True
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # Line 8 is the server's own word on its state.
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _initialise(self, programs: Path, account: Account | None) -> None:
        if self.folder.exists() and any(self.folder.iterdir()):
            raise EngineFailed(f"{self.folder} holds files but no PostgreSQL cluster.")
        building = self.folder.with_name(f"{self.folder.name}.init")
        shutil.rmtree(building, ignore_errors=True)
        password_file = building.with_name(f"{self.folder.name}.init-{secrets.token_hex(4)}")
        process.prepare_folder(building, account)
        try:
            with _secret_file(password_file, self._password, account) as secret:
                self._run_initdb(programs, account, building, secret)
            if self.folder.exists():
                self.folder.rmdir()
            building.rename(self.folder)
        finally:
            password_file.unlink(missing_ok=True)
            shutil.rmtree(building, ignore_errors=True)

    def _run_initdb(
        self, programs: Path, account: Account | None, building: Path, secret: int
    ) -> None:
        with process.handed_down(building, account) as (data, descriptors):
            command = [str(programs / "initdb"), "-D", data, "-U", SUPERUSER]
            command += ["--auth-local=scram-sha-256", "--auth-host=scram-sha-256"]
            command += [f"--pwfile=/proc/self/fd/{secret}", "--encoding=UTF8", "--no-instructions"]
            command += ["--locale-provider=builtin", "--locale=C.UTF-8", "--builtin-locale=C.UTF-8"]
            command += [] if self._durable else ["--no-sync"]
            self._log_begin = process.log_size(self._log)
            initdb = process.launch(
                command,
                account=account,
                death_signal=signal.SIGKILL,
                log=self._log,
                pass_fds=(*descriptors, secret),
            )
            try:
                status = initdb.wait(START_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                initdb.kill()
                status = initdb.wait()
        if status != 0:
            raise EngineFailed(f"initdb failed ({status}):\n{self._said()}")


@contextlib.contextmanager
def _secret_file(path: Path, text: str, account: Account | None) -> Iterator[int]:
    """Give a descriptor from which `account` alone reads `text`; the file is gone afterwards."""
    writing = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(writing, f"{text}\n".encode())
        if account is not None:
            os.fchown(writing, account.uid, account.gid)
    finally:
        os.close(writing)
    reading = os.open(path, os.O_RDONLY)
    try:
        yield reading
    finally:
        os.close(reading)
        path.unlink()
