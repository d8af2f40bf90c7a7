"""Child processes of a measurement: pinned to cores, awaited by a line, always ended."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.005
STOP_SECONDS = 30.0


class ProcessError(RuntimeError):
    """A process did not start, or ended too early; the text holds its last output."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Which cores the load (generator and simulator) and the measured system run on."""

    load: frozenset[int]
    system: frozenset[int]

    @property
    def pinned(self) -> bool:
        """False on a machine with one core: there both share it."""
        return self.load != self.system


def placement() -> Placement:
    """Return the first allowed core for the load and the second for the system."""
    cores = sorted(os.sched_getaffinity(0))
    return Placement(frozenset(cores[:1]), frozenset(cores[1:2] or cores[:1]))


@dataclass(frozen=True, slots=True)
class Child:
    """A running child."""

    pid: int
    ready: re.Match[str]
    """Match of the line that said that it is ready."""
    ready_seconds: float
    """Time from its start to that line."""


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Run the body, and every process it starts, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def child(
    command: Sequence[str],
    *,
    ready: str,
    cores: frozenset[int],
    timeout_seconds: float = 20.0,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Child]:
    """Start a process, yield when a line of its output matches `ready`, end it afterwards.

    It works in `folder`, by default the repository.

    Raises: ProcessError when it ends or the time is over before that line.
    """
    with tempfile.TemporaryFile("w+b") as output:
        began = time.monotonic()
        with pinned(cores):
            process = subprocess.Popen(
                list(command),
                cwd=folder or repository(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_served_with_bytecode(), **(environment or {})},
            )
        try:
            match = _wait(process, output.fileno(), re.compile(ready, re.M), began, timeout_seconds)
            yield Child(process.pid, match, time.monotonic() - began)
        finally:
            _stop(process)


def _served_with_bytecode() -> dict[str, str]:
    """Without compiled bytecode each failing lazy import is compiled again per request."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _text(descriptor: int) -> str:
    return os.pread(descriptor, 1 << 20, 0).decode("utf-8", "replace")


def _wait(
    process: subprocess.Popen[bytes],
    output: int,
    ready: re.Pattern[str],
    began: float,
    timeout_seconds: float,
) -> re.Match[str]:
    while True:
        exit_code = process.poll()
        text = _text(output)
        match = ready.search(text)
        if match is not None:
            return match
        if exit_code is not None:
            raise ProcessError(f"{process.args!r} ended with {exit_code}:\n{text[-2000:]}")
        if time.monotonic() - began > timeout_seconds:
            raise ProcessError(
                f"{process.args!r} not ready after {timeout_seconds:g} s:\n{text[-2000:]}"
            )
        time.sleep(POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_pinned(
    command: Sequence[str],
    *,
    cores: frozenset[int],
    timeout_seconds: float,
    environment: Mapping[str, str],
) -> str:
    """Run a command to its end and return its standard output.

    Raises: ProcessError when it fails or takes longer.
    """
    with pinned(cores):
        try:
            finished = subprocess.run(
                list(command),
                cwd=repository(),
                capture_output=True,
                check=False,
                timeout=timeout_seconds,
                text=True,
                env={**os.environ, **environment},
            )
        except subprocess.TimeoutExpired as error:
            raise ProcessError(f"{command!r} took longer than {timeout_seconds:g} s") from error
    if finished.returncode:
        raise ProcessError(f"{command!r} ended with {finished.returncode}: {finished.stderr}")
    return finished.stdout


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package with this interpreter."""
    return [sys.executable, "-m", name, *arguments]


def repository() -> Path:
    """Return the folder that holds this package."""
    return Path(__file__).resolve().parent.parent
