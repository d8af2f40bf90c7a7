"""An HTTP server inside our own loop: uvicorn without its signals, its log set-up and its name."""

import asyncio
import functools
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from meshwright_common.settings import SettingsError, variable_name
from meshwright_gateway.server.connection import ConnectionLimits, GuardedConnection
from meshwright_gateway.server.upgrade import UpgradableConnection
from meshwright_gateway.settings import GatewaySection

_BACKLOG = 2048
_CLOSE_SECONDS = 5
"""For answers under way when the server stops; streams were drained before."""


def open_listener(host: str, port: int) -> socket.socket:
    """Return a listening socket. Clients that connect now are served when the server runs.

    Raises: SettingsError naming the variable, when the address is taken or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        field = "host" if isinstance(error, socket.gaierror) else "port"
        raise SettingsError(
            f"{variable_name(('gateway', field))}: cannot listen on {host}:{port}: "
            f"{(error.strerror or str(error)).lower()}"
        ) from None
    return listener


class HttpServer:
    """Serves an ASGI application on a listening socket, which it closes."""

    def __init__(self, app: ASGIApp, listener: socket.socket, settings: GatewaySection) -> None:
        limits = ConnectionLimits(
            max_connections=settings.max_connections,
            header_limit_bytes=settings.header_limit_bytes,
            header_timeout_seconds=settings.header_timeout_seconds,
            body_min_bytes_per_second=settings.body_min_bytes_per_second,
            slow_reader_seconds=settings.slow_reader_seconds,
        )
        config = uvicorn.Config(
            cast("Any", app),
            http=cast("Any", functools.partial(UpgradableConnection, limits=limits)),
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            # A forwarded header is no proof of an address.
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=_CLOSE_SECONDS,
            backlog=_BACKLOG,
            # A request must not see the context of the task that accepted its connection.
            reset_contextvars=True,
        )
        self._server = _Server(config)
        self._listener = listener
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def connection_count(self) -> int:
        """Connections open now."""
        return len(self._server.server_state.connections)

    async def run(self) -> None:
        """Serve until `stop`, then finish what is being answered."""
        await self._server.serve(sockets=[self._listener])

    def stop(self) -> None:
        """Ask `run` to end."""
        self._server.should_exit = True

    def close(self) -> None:
        """Give the address back. After `run` there is nothing left to do."""
        self._listener.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the runner's.
        yield

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, GuardedConnection):
                    connection.check(now)
        return await super().on_tick(counter)
