"""A server of a tenant's that takes webhooks: it notes what came, and answers what it is told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

TOLD_NAME: Final = "localhost"
NOWHERE_HOST: Final = "localhost:9"
"""Another address that the tests' platforms may tell: nobody listens there."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes


@dataclass
class WebhookReceiver:
    """Takes requests at any path. `statuses`: what the first requests of a path are answered."""

    host: str = ""
    received: dict[str, list[Received]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)

    def url(self, name: str) -> str:
        """Return an address of its own for a test."""
        return f"http://{self.host}/{name}"

    @property
    def told_host(self) -> str:
        """Its other name, which the tests' platforms tell of traces."""
        return self.host.replace("127.0.0.1", TOLD_NAME)

    def told_url(self, name: str) -> str:
        """Return the same address by that name."""
        return f"http://{self.told_host}/{name}"

    def at(self, name: str) -> list[Received]:
        """Return what came to that address, oldest first."""
        return self.received.get(f"/{name}", [])

    def take(self, path: str, one: Received) -> int:
        """Note a request; return the status of its answer."""
        self.received.setdefault(path, []).append(one)
        statuses = self.statuses.get(path.removeprefix("/"), [])
        return statuses.pop(0) if statuses else 204


@contextlib.contextmanager
def receiving_webhooks() -> Iterator[WebhookReceiver]:
    """Run a receiver on the loopback."""
    receiver = WebhookReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            self.send_response(receiver.take(self.path, Received(dict(self.headers), body)))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
