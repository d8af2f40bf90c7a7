"""Child processes that die with us: launch, account to drop to, lock, stop.

Engines never outlive the process that started them, not even after SIGKILL: the kernel signals
them when the *thread* that started them ends (PR_SET_PDEATHSIG), therefore `launch` insists on
the main thread or an `EngineThread`. They run in a session of their own, so Ctrl-C in a terminal
reaches us alone and we stop them in order. As root they run as an unprivileged account.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

from meshwright_common.storage.embedded import launch as launcher

P = ParamSpec("P")
T = TypeVar("T")

LOOPBACK = "127.0.0.1"
LONGEST_SOCKET_PATH = 107
"""Bytes of a unix socket's path that Linux takes (sun_path without its NUL)."""
POLL_SECONDS = 0.005
"""How often a starting or stopping engine is looked at: fine beside a start of 30-70 ms."""
MAX_LOG_BYTES = 10 * 1024 * 1024
"""A log larger than this is started anew at the next start; one former log is kept."""
ENGINE_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", "HOME": "/"}
"""All an engine sees of our environment: secrets in ours never reach theirs."""


ENGINE_THREAD = "meshwright-engines"


class EngineFailed(Exception):
    """An embedded engine could not be started or stopped; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged account engines run as when we are root."""

    uid: int
    gid: int


def unprivileged_account(folder: Path) -> Account | None:
    """Return who the engine with its data in `folder` runs as; None: as ourselves (not root).

    The owner of an existing folder stays its owner, so a folder made by an ordinary user keeps
    working when root runs the platform later. Otherwise the account `meshwright` when the machine
    has one, else `nobody`. Raises: EngineFailed when there is neither.
    """
    if os.geteuid() != 0:
        return None
    if folder.exists() and (owner := folder.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in ("meshwright", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise EngineFailed(
        "PostgreSQL refuses to run as root and this machine has no account `nobody`: "
        "create an account `meshwright`, or run as an ordinary user."
    )


def prepare_folder(folder: Path, account: Account | None) -> None:
    """Create `folder`, ours or the account's alone (0700). Folders above it are never touched.

    Raises: EngineFailed when it cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account is not None and folder.stat().st_uid != account.uid:
            os.chown(folder, account.uid, account.gid)
        folder.chmod(0o700)
    except OSError as error:
        raise EngineFailed(f"{folder} cannot be written: {error.strerror}.") from error


def reachable(path: Path, account: Account | None) -> bool:
    """True when `account` may read `path` and pass every folder above it."""
    if account is None:
        return True
    resolved = path.resolve()
    needed = [(resolved, 0o5 if resolved.is_dir() else 0o4)]
    needed += [(folder, 0o1) for folder in resolved.parents]
    return all(_allowed(one, bits, account) for one, bits in needed)


def _allowed(path: Path, bits: int, account: Account) -> bool:
    status = path.stat()
    if status.st_uid == account.uid:
        shift = 6
    elif status.st_gid == account.gid:
        shift = 3
    else:
        shift = 0
    return (status.st_mode >> shift) & bits == bits


@contextlib.contextmanager
def handed_down(folder: Path, account: Account | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give the path by which the engine enters `folder`, and the descriptors it needs for that.

    With a descriptor of ours it gets there without passing the folders above.
    """
    if account is None:
        yield str(folder.resolve()), ()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}", (descriptor,)
    finally:
        os.close(descriptor)


def free_port() -> int:
    """Return a TCP port on the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def launch(
    command: Sequence[str],
    *,
    account: Account | None,
    death_signal: signal.Signals,
    log: Path,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    stdin: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` (its first word an absolute path) and return at once.

    It gets `death_signal` when we die. Its output is appended to `log`. `stdin` is the whole text
    it reads, for secrets that must not stand in a command line. Raises: EngineFailed.
    """
    thread = threading.current_thread()
    if thread is not threading.main_thread() and not thread.name.startswith(ENGINE_THREAD):
        raise EngineFailed("Engines die with the thread that starts them: not in this one.")
    uid, gid = (account.uid, account.gid) if account is not None else (-1, -1)
    ids = (str(os.getpid()), str(uid), str(gid), str(int(death_signal)))
    prelude = (sys.executable, "-I", "-S", launcher.__file__)
    with _open_log(log) as output:
        process = subprocess.Popen(
            (*prelude, *ids, *command),
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd or "/",
            env=ENGINE_ENVIRONMENT,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    if stdin is not None and process.stdin is not None:
        with process.stdin as pipe:
            pipe.write(stdin.encode())
    return process


def _open_log(log: Path) -> IO[bytes]:
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))
        return log.open("ab")
    except OSError as error:
        raise EngineFailed(f"{log} cannot be written: {error.strerror}.") from error


def log_size(log: Path) -> int:
    """Return where an engine's log ends now, for `log_tail` to begin there."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def log_tail(log: Path, *, since: int = 0, lines: int = 12) -> str:
    """Return the last lines of an engine's log behind position `since`, for an error's text."""
    try:
        written = log.read_bytes()
    except OSError:
        return ""
    # Shorter than `since`: it was begun anew.
    text = written[since if since <= len(written) else 0 :].decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def wait_until(
    condition: Callable[[], bool], *, timeout_seconds: float, poll_seconds: float = POLL_SECONDS
) -> bool:
    """Poll `condition` until it is true (then True) or the time is over (then False)."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll_seconds)
    return True


def stop(process: subprocess.Popen[bytes], ladder: Sequence[tuple[signal.Signals, float]]) -> int:
    """Send each signal of `ladder` and wait its seconds, until `process` ended; then SIGKILL.

    Returns the exit status.
    """
    for step, patience_seconds in ladder:
        if process.poll() is None:
            process.send_signal(step)
            try:
                return process.wait(patience_seconds)
            except subprocess.TimeoutExpired:
                continue
    if process.poll() is None:
        process.kill()
    return process.wait()


class EngineThread:
    """A thread that lives as long as the engines it starts, for a caller that must not block."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=ENGINE_THREAD)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in the thread. It is not interrupted when the caller is cancelled."""
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))
        return await asyncio.shield(running)

    def close(self) -> None:
        """Wait for the work in hand and end the thread, and with it engines still running."""
        self._executor.shutdown()


class FolderLock:
    """The exclusive right to run an engine on one folder.

    The engine inherits the lock, so it is free again only when the last process that could write
    there is gone: a start right after a SIGKILL waits for the former engine instead of running a
    second one on the same files.
    """

    def __init__(self, path: Path, *, program: str) -> None:
        self._path = path
        self._program = program
        self._file: IO[bytes] | None = None

    def acquire(self, *, timeout_seconds: float, evict: bool = False) -> int:
        """Take the lock and return the descriptor the engine must inherit.

        `evict` kills an engine that still holds it after the time: for callers who know that its
        owner is gone. Raises: EngineFailed.
        """
        try:
            self._file = self._path.open("a+b")
        except OSError as error:
            raise EngineFailed(f"{self._path} cannot be written: {error.strerror}.") from error
        had = wait_until(self._try, timeout_seconds=timeout_seconds)
        if not had and evict and self._kill_holder():
            had = wait_until(self._try, timeout_seconds=timeout_seconds)
        if not had:
            self.release()
            raise EngineFailed(
                f"Another process still runs {self._program} on {self._path.parent}."
            )
        return self._file.fileno()

    def record(self, pid: int) -> None:
        """Note who inherits the lock."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.write(str(pid).encode())
            self._file.flush()

    def release(self) -> None:
        """Close our share of the lock; a no-op when it was not taken."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _try(self) -> bool:
        if self._file is None:
            return False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _kill_holder(self) -> bool:
        try:
            pid = int(self._path.read_text())
            # Pids are used again: only a process of that program can be the one.
            if Path(f"/proc/{pid}/comm").read_text().strip() != self._program:
                return False
            os.kill(pid, signal.SIGKILL)
        except (OSError, ValueError):
            return False
        return True
