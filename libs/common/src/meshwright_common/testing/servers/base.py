"""What the servers for tests have in common: ports, start, stop, kill, pause, folder, log.

A server belongs to the process that starts it and dies with it (see `storage.embedded.process`).
It listens on the loopback only. `kill` leaves its data; `start` again keeps data and ports, also
that of another object on the same folder.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar, Final

import psutil

from meshwright_common.storage.embedded import process
from meshwright_common.storage.embedded.process import Account, EngineFailed

LOOPBACK: Final = process.LOOPBACK
POLL_SECONDS: Final = 0.05
"""How often a starting server is asked: these take seconds, and a question costs them time."""
FIRST_PORT: Final = 10_000
PORT_ATTEMPTS: Final = 5
PREPARE_SECONDS: Final = 60.0
CHILDREN_SECONDS: Final = 10.0
"""What a server's own processes get to end after it."""
INSTALL_SCRIPTS: Final = Path(__file__).resolve().parents[6] / "infra" / "dev" / "engines"


class Server(ABC):
    """A real server with its data below `folder`. Start it from the main thread."""

    name: ClassVar[str]
    """What it is called in its log's name and in errors."""
    port_names: ClassVar[tuple[str, ...]] = ("client",)
    start_timeout_seconds: ClassVar[float] = 240.0
    """Ample: a busy machine with two cores starts several at once."""
    stop_ladder: ClassVar[Sequence[tuple[signal.Signals, float]]] = ((signal.SIGTERM, 15.0),)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports: dict[str, int] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log_begin = 0

    @property
    def port(self) -> int:
        """Where clients connect. Known from the first start on."""
        return self.ports[self.port_names[0]]

    @property
    @abstractmethod
    def address(self) -> str:
        """What a client of its kind connects to: host and port, or a URL."""

    @property
    @abstractmethod
    def variables(self) -> Mapping[str, str]:
        """The variables of the environment that point a platform at it."""

    @property
    def running(self) -> bool:
        """False once any process of it ended, or it was stopped."""
        return bool(self._processes) and all(one.poll() is None for one in self._processes)

    @property
    def pids(self) -> list[int]:
        """The processes that it consists of, without their children."""
        return [one.pid for one in self._processes]

    @property
    def log(self) -> Path:
        """What its processes print."""
        return self.folder / f"{self.name}.log"

    @property
    def _ports_file(self) -> Path:
        return self.folder / "ports.json"

    def start(self) -> None:
        """Start it and wait until it answers its own protocol; a no-op when it runs.

        Raises: EngineFailed with the end of its log.
        """
        if self.running:
            return
        self.kill()
        process.prepare_folder(self.folder, None)
        if not self.ports and self._ports_file.exists():
            self.ports = json.loads(self._ports_file.read_text())
        first = not self.ports
        for attempt in range(1, PORT_ATTEMPTS + 1):
            if first:
                self.ports = {name: unused_port() for name in self.port_names}
            self._log_begin = process.log_size(self.log)
            self._launch()
            if self._wait_until_it_answers():
                self._ports_file.write_text(json.dumps(self.ports))
                return
            said = self._said()
            self.kill()
            # Between choosing and binding, another process may have taken a port.
            if not (first and attempt < PORT_ATTEMPTS and _names_a_taken_port(said)):
                raise EngineFailed(f"{self.name} did not start:\n{said}")

    def stop(self) -> None:
        """Stop it as an operator would; a no-op when it does not run."""
        family = self._family()
        for one in reversed(self._processes):
            process.stop(one, self.stop_ladder)
        self._processes.clear()
        _, left = psutil.wait_procs(family, timeout=CHILDREN_SECONDS)
        for member in left:
            _signal(member, signal.SIGKILL)

    def kill(self) -> None:
        """End all its processes by SIGKILL, at once, and reap them; its data stays."""
        family = self._family()
        for member in family:
            _signal(member, signal.SIGKILL)
        for one in self._processes:
            one.wait()
        psutil.wait_procs(family, timeout=CHILDREN_SECONDS)
        self._processes.clear()

    def pause(self) -> None:
        """Freeze all its processes: connections stay open, nothing is answered."""
        for member in self._family():
            _signal(member, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        for member in self._family():
            _signal(member, signal.SIGCONT)

    def memory_bytes(self) -> int:
        """Return the memory of all its processes, what they share counted once (PSS)."""
        return sum(member.memory_full_info().pss for member in self._family())

    @abstractmethod
    def _launch(self) -> None:
        """Write what it needs below `folder` and `_run` its processes."""

    @abstractmethod
    def _answers(self) -> bool:
        """Say whether it serves now. Raises: OSError, which means no."""

    def _account(self) -> Account | None:
        """Say who it runs as, for a server that refuses root. None: as ourselves."""
        return None

    def _run(
        self,
        *command: str | Path,
        environment: Mapping[str, str] | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        pass_fds: Sequence[int] = (),
        stdin: str | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start one of its processes. The data is thrown away, so it may die by SIGKILL with us."""
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        started = process.launch(
            ["/usr/bin/env", *variables, *map(str, command)],
            account=self._account(),
            death_signal=death_signal,
            log=self.log,
            cwd=self.folder,
            pass_fds=pass_fds,
            stdin=stdin,
        )
        self._processes.append(started)
        return started

    def _run_to_its_end(
        self, *command: str | Path, pass_fds: Sequence[int] = (), stdin: str | None = None
    ) -> None:
        """Run a command that prepares the data. Raises: EngineFailed with what it printed."""
        preparing = self._run(*command, pass_fds=pass_fds, stdin=stdin)
        try:
            status = preparing.wait(PREPARE_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        if status != 0:
            said = self._said()
            self.kill()
            raise EngineFailed(f"{self.name} could not be prepared ({status}):\n{said}")
        self._processes.remove(preparing)

    def _wait_until_it_answers(self) -> bool:
        def answers_or_ended() -> bool:
            if not self.running:
                return True
            try:
                return self._answers()
            except OSError:
                return False

        done = process.wait_until(
            answers_or_ended, timeout_seconds=self.start_timeout_seconds, poll_seconds=POLL_SECONDS
        )
        return done and self.running

    def _said(self) -> str:
        return process.log_tail(self.log, since=self._log_begin, lines=30)

    def _family(self) -> list[psutil.Process]:
        """Return its processes and all their descendants, parents first."""
        family: list[psutil.Process] = []
        for one in self._processes:
            # Not yet reaped, so the pid is still its own.
            if one.poll() is None:
                parent = psutil.Process(one.pid)
                family += [parent, *parent.children(recursive=True)]
        return family


def _signal(member: psutil.Process, number: signal.Signals) -> None:
    try:
        member.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _names_a_taken_port(said: str) -> bool:
    text = said.lower()
    return any(word in text for word in ("in use", "eaddrinuse", "could not bind"))


def unused_port() -> int:
    """Return a TCP port of the loopback that nobody uses, from below the ephemeral range.

    A port that the kernel also gives to outgoing connections can be taken while its server is
    down, even by a client that connects to it again and again and meets itself.
    """
    lowest = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]
    while True:
        port = random.randrange(FIRST_PORT, int(lowest))  # noqa: S311 - no secret
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port


@cache
def installed(engine: str) -> Path:
    """Return what infra/dev/engines/<engine>.sh prints: the path of the engine's programs.

    The first time on a machine it installs them, which can take minutes. Raises: EngineFailed.
    """
    script = INSTALL_SCRIPTS / f"{engine}.sh"
    if not script.exists():
        raise EngineFailed(f"{script} is missing: servers for tests run from a checkout only.")
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineFailed(f"{engine} cannot be installed:\n{done.stderr.strip()}")
    return Path(done.stdout.strip())
