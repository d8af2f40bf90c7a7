"""A server that counts what is fetched from it: what tools did to the world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Effects:
    """How often each path was fetched."""

    address: str
    done: Counter[str] = field(default_factory=Counter)


@contextmanager
def counting_effects() -> Iterator[Effects]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            effects.done[self.path] += 1
            self.send_response(200)
            self.send_header("content-type", "text/plain")
            self.send_header("content-length", "4")
            self.end_headers()
            self.wfile.write(b"done")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    effects = Effects(f"127.0.0.1:{server.server_address[1]}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield effects
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
