"""A relay of TCP in front of a server, whose connections a test cuts."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

BYTES = 64 * 1024


@dataclass(slots=True)
class Relay:
    """What passes connections on. `url` is the server's, by way of it."""

    url: str
    connections: set[socket.socket] = field(default_factory=set)

    def cut(self) -> None:
        """End all connections that there are. New ones are passed on."""
        for one in list(self.connections):
            _end(one)


@contextlib.contextmanager
def relayed(url: str) -> Iterator[Relay]:
    """Relay to the server at `url` until the block ends."""
    server = urlsplit(url)
    target = (str(server.hostname), int(server.port or 80))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay(f"http://127.0.0.1:{listener.getsockname()[1]}")
        accepting = threading.Thread(target=_accept, args=(listener, target, relay))
        accepting.start()
        try:
            yield relay
        finally:
            # Closing alone does not wake whoever waits in accept.
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            relay.cut()


def _accept(listener: socket.socket, target: tuple[str, int], relay: Relay) -> None:
    with contextlib.ExitStack() as threads:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                relay.cut()
                return
            server = socket.create_connection(target)
            relay.connections |= {client, server}
            for source, sink in ((client, server), (server, client)):
                pump = threading.Thread(target=_pump, args=(source, sink, relay))
                pump.start()
                threads.callback(pump.join)


def _pump(source: socket.socket, sink: socket.socket, relay: Relay) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(BYTES):
            sink.sendall(piece)
    _end(source)
    _end(sink)
    relay.connections.discard(source)
    source.close()


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
