"""The real platform as a user starts it: `meshwright up` in a process of its own, on fresh data."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from bench.process_usage import tree
from meshwright_common.storage.embedded.process import free_port
from meshwright_common.testing.patience import patient_environment

READY_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0
LOOK_EVERY_SECONDS: Final = 0.02
COMMAND: Final = (sys.executable, "-m", "meshwright_cli")


@dataclass(slots=True)
class Platform:
    """A platform that is ready."""

    url: str
    api_key: str = field(repr=False)
    grpc: Mapping[str, str]
    data: Path
    port: int
    split: bool
    process: subprocess.Popen[bytes]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The settings it was started with, for commands that look at the same engines."""

    def client(self, api_key: str | None = None) -> httpx.Client:
        """Return an HTTP client with the key of the first user, another one, or none ("")."""
        key = self.api_key if api_key is None else api_key
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def kill(self) -> None:
        """End the process at once, as a crash would; what it started ends by itself."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to drain and end; return its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)


@contextlib.contextmanager
def running_platform(
    data: Path,
    *,
    split: bool = False,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
) -> Iterator[Platform]:
    """Run `meshwright up` on `data` until the block ends, however it ends."""
    port = port or free_port()
    command = [*command, "up", "--data", str(data), "--port", str(port)]
    command += ["--split"] if split else []
    data.mkdir(parents=True, exist_ok=True)
    output = data.with_name(f"{data.name}.out")
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**clean_environment(), **(environment or {})},
        )
    try:
        await_ready(process, output, data)
        endpoint: dict[str, Any] = json.loads((data / "endpoint.json").read_text())
        yield Platform(
            url=endpoint["url"],
            api_key=endpoint["api_key"],
            grpc=endpoint["grpc"],
            data=data,
            port=port,
            split=split,
            process=process,
            environment=environment or {},
        )
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_ready(process: subprocess.Popen[bytes], output: Path, data: Path) -> None:
    """Return when the output's last line says ready. Raises: AssertionError with the output."""
    deadline = time.monotonic() + READY_SECONDS
    while not output.read_text().rpartition("\nready ")[1]:
        ended = process.poll()
        if ended is not None or time.monotonic() > deadline:
            log = data / "logs" / "platform.log"
            said = log.read_text()[-4000:] if log.exists() else ""
            raise AssertionError(f"not ready ({ended}):\n{output.read_text()}\n{said}")
        time.sleep(LOOK_EVERY_SECONDS)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without settings of a platform, but with patience."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESHWRIGHT_")}
    return kept | patient_environment()


def member_pid(platform: Platform, service: str) -> int:
    """Return the pid of a member of a split platform."""
    module = f"meshwright_{service.replace('-', '_')}"
    for one in tree(platform.process.pid):
        words = Path(f"/proc/{one.pid}/cmdline").read_bytes().split(b"\0")
        if words[-2:] == [module.encode(), b""]:
            return one.pid
    raise AssertionError(f"no process of {service}")


def run_command(
    *arguments: str, environment: Mapping[str, str] | None = None, timeout_seconds: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a `meshwright` command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        env={**clean_environment(), **(environment or {})},
        check=False,
    )
