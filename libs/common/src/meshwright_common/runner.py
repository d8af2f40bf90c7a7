"""The life of a process: start, serve, drain. The only place that knows signals."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Final, NoReturn, TypeVar

import uvloop

from meshwright_common.app import App
from meshwright_common.identity.keys import KeyFileError, KeyRing, load_keys
from meshwright_common.identity.tokens import TokenMinter, TokenVerifier
from meshwright_common.lifecycle import Lifecycle, Ready, StartRefused, Stopped
from meshwright_common.registry.ports import Registrar
from meshwright_common.registry.static import StaticRegistrar
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.interceptors import server_interceptors
from meshwright_common.rpc.local_server import LocalServer
from meshwright_common.rpc.server import AddressError
from meshwright_common.settings import CommonSettings, SettingsError, load, redacted
from meshwright_common.telemetry import logging, metrics, tracing
from meshwright_common.telemetry.logging import TextSink, get_logger

T = TypeVar("T")
S = TypeVar("S", bound=CommonSettings)
Build = Callable[[S, Channels], AbstractAsyncContextManager[App]]

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_MISCONFIGURED: Final = 2

_logger = get_logger(__name__)


class Process:
    """What the apps of one process share: the local server, the keys, the peers."""

    def __init__(self, name: str, settings: CommonSettings, keys: KeyRing) -> None:
        self.name = name
        self.settings = settings
        self._keys = keys
        self.interceptors = server_interceptors(
            name, TokenVerifier(keys.trusted), deadlines=settings.rpc.deadlines
        )
        self.local_server = LocalServer(self.interceptors)
        self._channels: list[Channels] = []

    def channels(self, service: str) -> Channels:
        """Return new channels that call in the name of `service`; the process closes them.

        Raises: KeyFileError when the process does not have the key of `service`.
        """
        channels = Channels(
            TokenMinter(service, self._keys.private_key(service)),
            self.settings.peers,
            local_server=self.local_server,
            deadlines=self.settings.rpc.deadlines,
        )
        self._channels.append(channels)
        return channels

    async def close(self) -> None:
        """Close all channels."""
        for channels in self._channels:
            await channels.close()


OpenApps = Callable[[Process], AbstractAsyncContextManager[Sequence[App]]]


def run(build: Build[S], settings_type: type[S]) -> NoReturn:
    """Run one service until a signal or a failure, then exit: 0, 1 failed, 2 misconfigured."""
    service = settings_type.service
    try:
        settings = load(settings_type)
        keys = load_keys(settings.identity.keys_dir, [service])
    except (SettingsError, KeyFileError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_MISCONFIGURED)
    configure_telemetry(service, settings)
    _logger.info("settings", **redacted(settings))

    @asynccontextmanager
    async def open_app(process: Process) -> AsyncIterator[Sequence[App]]:
        async with build(settings, process.channels(service)) as app:
            yield (app,)

    try:
        code = run_loop(serve_apps(open_app, settings, name=service, keys=keys))
    except AddressError as error:
        sys.stderr.write(f"MESHWRIGHT_RPC__LISTEN: {error}\n")
        code = EXIT_MISCONFIGURED
    except (StartRefused, Exception):
        # The outermost frame of the process.
        _logger.exception("start_failed")
        code = EXIT_FAILED
    tracing.shutdown()
    sys.exit(code)


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a fresh uvloop and return its result."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def configure_telemetry(
    name: str, settings: CommonSettings, *, log_sink: TextSink | None = None
) -> None:
    """Set up logs, traces and metrics of the process, named `name`, as the settings say.

    Logs go to `log_sink`; without one to standard error.
    """
    telemetry = settings.telemetry
    logging.configure(
        name, level=telemetry.log_level, log_format=telemetry.log_format, sink=log_sink
    )
    tracing.configure(
        name, otlp_endpoint=telemetry.otlp_endpoint, sample_ratio=telemetry.trace_sample_ratio
    )
    metrics.serve(telemetry.metrics_listen)


async def serve_apps(
    open_apps: OpenApps,
    settings: CommonSettings,
    *,
    name: str,
    keys: KeyRing,
    on_ready: Callable[[Ready], None] | None = None,
    registrar: Registrar | None = None,
) -> int:
    """Serve one or several apps in this process until a signal or a failure.

    `open_apps` builds them, in the order in which they depend on each other, and closes them when
    left. `on_ready` is called once, when calls are taken. Returns the exit code: 0 after a signal,
    1 when a background task failed. A second signal ends the process at once.
    Raises: AddressError, ServiceTableError, StartRefused, and whatever building raises; all that
    had been started is stopped by then.
    """
    stop = asyncio.Event()
    process = Process(name, settings, keys)
    lifecycle = Lifecycle(
        settings, process.local_server, process.interceptors, registrar or StaticRegistrar(), stop
    )
    with _signals(stop):
        stack = AsyncExitStack()
        try:
            apps = await lifecycle.unless_stopped(stack.enter_async_context(open_apps(process)))
            port = await lifecycle.start(apps)
            ready = Ready(port, tuple(process.local_server.services))
            _logger.info("ready", port=port, services=ready.services)
            if on_ready is not None:
                on_ready(ready)
            _settle_memory()
            failed = await lifecycle.wait()
        except Stopped:
            failed = False
        finally:
            await lifecycle.stop()
            await _close(stack, settings.lifecycle.close_timeout_seconds)
            await process.close()
    _logger.info("stopped", failed=failed)
    return EXIT_FAILED if failed else EXIT_OK


async def _close(stack: AsyncExitStack, seconds: float) -> None:
    """Leave what was built. An adapter that hangs or fails to close does not keep the process."""
    try:
        async with asyncio.timeout(seconds):
            await stack.aclose()
    except TimeoutError:
        _logger.error("close_timed_out", seconds=seconds)
    except Exception:
        _logger.exception("close_failed")


def _settle_memory() -> None:
    """Take what the start has made out of the collector's sight: it lives as long as we do."""
    gc.collect()
    gc.freeze()


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` on the first SIGTERM or SIGINT; end the process on the second."""
    loop = asyncio.get_running_loop()
    names: Mapping[signal.Signals, int] = {
        which: 128 + which for which in (signal.SIGTERM, signal.SIGINT)
    }

    def on_signal(which: signal.Signals) -> None:
        if stop.is_set():
            sys.stderr.flush()
            os._exit(names[which])
        _logger.info("stopping", signal=which.name)
        stop.set()

    for which in names:
        loop.add_signal_handler(which, on_signal, which)
    try:
        yield
    finally:
        for which in names:
            loop.remove_signal_handler(which)
