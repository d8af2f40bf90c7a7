"""The SDK's own MCP server as a program of a test, and where platforms may reach it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from meshwright_common.storage.embedded.process import free_port
from tests.asking import eventually
from tests.webhook_receiver import NOWHERE_HOST, TOLD_NAME

MODULE: Final = "tests.contract.mcp_program"
PORTS: Final = "TESTS_MCP_PORTS"


def mcp_environment() -> dict[str, str]:
    """Return settings by which tenants may add servers on two ports of this machine."""
    ports = [free_port(), free_port()]
    hosts = [f"{name}:{port}" for port in ports for name in ("127.0.0.1", TOLD_NAME)]
    return {
        PORTS: json.dumps(ports),
        "MESHWRIGHT_EGRESS__ALLOWED_HOSTS": json.dumps([*hosts, NOWHERE_HOST]),
        "MESHWRIGHT_TOOL_EXEC__MCP__PROBE_SECONDS": "2",
        # Each test that looks for what others may find has some of its own.
        "MESHWRIGHT_TOOL_EXEC__MCP__SERVERS_PER_TENANT": "1000",
    }


def ports_of(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return the ports that a platform lets tenants use."""
    first, second = json.loads(environment[PORTS])
    return first, second


@dataclass
class Workshop:
    """A server that runs, or does not at the moment."""

    port: int
    folder: Path
    transport: str = "http"
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Its address, of which traces are not told."""
        return f"http://127.0.0.1:{self.port}/{'sse' if self.transport == 'sse' else 'mcp'}"

    @property
    def told_url(self) -> str:
        """Its address, of which traces are told."""
        return self.url.replace("127.0.0.1", TOLD_NAME)

    def log(self) -> list[str]:
        """What its tools did, in order."""
        log = self.folder / "log"
        return log.read_text("utf-8").splitlines() if log.exists() else []

    def open_gate(self) -> None:
        """Let `slow` end."""
        (self.folder / "gate").touch()

    def start(self) -> None:
        """Run it, and wait until it listens."""
        words = [sys.executable, "-m", MODULE, self.transport, str(self.folder), str(self.port)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(lambda: _listens(self.port))

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def working(port: int, folder: Path, transport: str = "http") -> Iterator[Workshop]:
    """Run a server until the block ends."""
    workshop = Workshop(port, folder, transport)
    workshop.start()
    try:
        yield workshop
    finally:
        workshop.kill()
