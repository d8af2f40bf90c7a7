"""The life of a process: start, serve, drain. The only place that knows signals."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final, NoReturn, TypeVar

from meshwright_common.app import App
from meshwright_common.identity.denials import Denials
from meshwright_common.identity.keys import KeyFileError, KeyRing, load_keys
from meshwright_common.identity.tokens import TokenMinter, TokenVerifier
from meshwright_common.lifecycle import Lifecycle, Ready, StartRefused
from meshwright_common.process_loop import ProcessLoop
from meshwright_common.registry.composition import registry_for
from meshwright_common.registry.load import CallTally, LoadMeter
from meshwright_common.registry.ports import Registrar
from meshwright_common.registry.static import StaticRegistrar
from meshwright_common.resilience.retry_budget import RetryBudgets
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.denial_reports import denial_reporting
from meshwright_common.rpc.interceptors import server_interceptors
from meshwright_common.rpc.local_server import LocalServer
from meshwright_common.rpc.server import AddressError
from meshwright_common.rpc.tls import TlsFiles
from meshwright_common.rpc.transport import Transport
from meshwright_common.settings import (
    SERVICE_NAMES,
    CommonSettings,
    SettingsError,
    load,
    redacted,
)
from meshwright_common.telemetry import logging, metrics, tracing
from meshwright_common.telemetry.logging import TextSink, get_logger
from meshwright_common.telemetry.traces import configure_traces

T = TypeVar("T")
S = TypeVar("S", bound=CommonSettings)
Build = Callable[[S, Channels], AbstractAsyncContextManager[App]]

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_MISCONFIGURED: Final = 2

_COLLECT_AFTER: Final = (20_000, 20, 20)
"""Thresholds of the garbage collector, see `_settle_memory`."""
_logger = get_logger(__name__)


class Process:
    """What the apps of one process share: local server, keys, registry, certificates, peers.

    Raises: SettingsError when the registry or the certificates cannot be used.
    """

    def __init__(self, name: str, settings: CommonSettings, keys: KeyRing) -> None:
        self.name = name
        self.settings = settings
        self._keys = keys
        tally = CallTally()
        meter = LoadMeter(lambda: tally.running, tally.error_rate)
        self.denials = Denials()
        self._retry_budgets = RetryBudgets()
        self.interceptors = server_interceptors(
            name,
            TokenVerifier(keys.trusted),
            deadlines=settings.rpc.deadlines,
            tally=tally,
            denials=self.denials,
        )
        self.local_server = LocalServer(self.interceptors)
        self.tls = TlsFiles(settings.tls, name) if settings.tls.enabled else None
        self.registry = registry_for(
            settings.registry,
            listen=settings.rpc.listen,
            weigh=lambda: meter.read().weight,
            tags=(f"version-{version('meshwright-common')}",),
        )
        serves = settings.lifecycle.serve
        self.registrar = self.registry.registrar if serves else StaticRegistrar()
        self._transport = Transport(
            discovery=self.registry.discovery, tls=self.tls, link=settings.rpc.link
        )
        self._channels: list[Channels] = []
        self._watching: asyncio.Task[None] | None = None

    def watch_certificates(self) -> None:
        """Look for new certificates until `close`."""
        if self.tls is not None:
            # house: naked-task: ended by `close`
            self._watching = asyncio.create_task(self.tls.watch(), name="certificates")

    def channels(self, service: str) -> Channels:
        """Return new channels that call in the name of `service`; the process closes them.

        Raises: KeyFileError when the process does not have the key of `service`.
        """
        channels = Channels(
            TokenMinter(service, self._keys.private_key(service)),
            self.settings.peers,
            local_server=self.local_server,
            transport=self._transport,
            deadlines=self.settings.rpc.deadlines,
        )
        channels.denials = self.denials
        channels.retry_budgets = self._retry_budgets
        self._channels.append(channels)
        return channels

    async def close(self) -> None:
        """Close all channels, and stop watching."""
        if self._watching is not None:
            self._watching.cancel()
        for channels in self._channels:
            await channels.close()
        await self.registry.close()


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
    try:
        configure_telemetry(service, settings)
    except (SettingsError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_MISCONFIGURED)
    _logger.info("settings", **redacted(settings))

    @asynccontextmanager
    async def open_app(process: Process) -> AsyncIterator[Sequence[App]]:
        async with build(settings, process.channels(service)) as app:
            yield (app,)

    try:
        code = run_loop(serve_apps(open_app, settings, name=service, keys=keys))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        code = EXIT_MISCONFIGURED
    except AddressError as error:
        sys.stderr.write(f"MESHWRIGHT_RPC__LISTEN: {error}\n")
        code = EXIT_MISCONFIGURED
    except StartRefused as error:
        _logger.error("start_refused", reason=str(error))
        code = EXIT_FAILED
    except Exception:
        _logger.exception("start_failed")
        code = EXIT_FAILED
    tracing.shutdown()
    sys.exit(code)


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a fresh loop and return its result."""
    with asyncio.Runner(loop_factory=ProcessLoop) as runner:
        return runner.run(main)


def configure_telemetry(
    name: str, settings: CommonSettings, *, log_sink: TextSink | None = None
) -> None:
    """Set up logs, traces and metrics of the process, named `name`, as the settings say.

    Logs go to `log_sink`; without one to standard error. Raises: SettingsError when the address for
    metrics is taken.
    """
    telemetry = settings.telemetry
    logging.configure(
        name, level=telemetry.log_level, log_format=telemetry.log_format, sink=log_sink
    )
    configure_traces(name, telemetry)
    metrics.describe(name)
    try:
        metrics.serve(telemetry.metrics_listen)
    except OSError as error:
        raise SettingsError(
            f"MESHWRIGHT_TELEMETRY__METRICS_LISTEN: cannot listen: {error}"
        ) from error


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
    Raises: SettingsError, AddressError, ServiceTableError, StartRefused, and whatever building
    raises; all that had been started is stopped by then.
    """
    stop = asyncio.Event()
    process = Process(name, settings, keys)
    process.watch_certificates()
    lifecycle = Lifecycle(
        settings,
        process.local_server,
        process.interceptors,
        registrar or process.registrar,
        stop,
        process.tls.server_credentials() if process.tls is not None else None,
    )
    stack = AsyncExitStack()
    apps: Sequence[App] = ()
    failed = False
    with _signals(stop) as start:
        try:
            async with start:
                apps = await stack.enter_async_context(open_apps(process))
                port = await lifecycle.start([*apps, *_denial_reporting(process, apps)])
            if start.finished:
                ready = Ready(port, tuple(process.local_server.services))
                _logger.info("ready", port=port, services=ready.services)
                if on_ready is not None:
                    on_ready(ready)
                _settle_memory()
                failed = await lifecycle.wait()
        finally:
            await lifecycle.stop()
            await _close(stack, settings.lifecycle.close_timeout_seconds * max(len(apps), 1))
            await process.close()
    _logger.info("stopped", failed=failed)
    return EXIT_FAILED if failed else EXIT_OK


def _denial_reporting(process: Process, apps: Sequence[App]) -> Iterator[App]:
    """Give what reports denials in the name of the first service of the process."""
    for app in apps:
        if app.name in SERVICE_NAMES:
            yield denial_reporting(
                process.channels(app.name),
                process.denials,
                service=app.name,
                every_seconds=process.settings.identity.denial_report_seconds,
            )
            return


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
    """Take what the start has made out of the collector's sight: it lives as long as we do.

    What calls make hardly ever forms cycles, so the collector looks for them more rarely than its
    default of every 700 objects, which cost about a tenth of the CPU of a call.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


class _Start:
    """The phase in which the first signal gives up the start. Entered by the process's own task."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.finished = False
        self._stop = stop
        self._task = asyncio.current_task()
        self._active = False

    def interrupt(self) -> None:
        """Cancel what is being started."""
        if self._active and self._task is not None:
            self._task.cancel()

    async def __aenter__(self) -> None:
        self._active = True

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._active = False
        if not self._stop.is_set():
            self.finished = exc_type is None
            return False
        if self._task is not None:
            self._task.uncancel()
        if exc_type is None:
            # The signal came after the last wait of the start: take the cancellation here.
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return exc_type is None or issubclass(exc_type, asyncio.CancelledError)


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[_Start]:
    """Set `stop` on the first SIGTERM or SIGINT; end the process on the second."""
    loop = asyncio.get_running_loop()
    start = _Start(stop)

    def on_signal(which: signal.Signals) -> None:
        if stop.is_set():
            sys.stderr.flush()
            os._exit(128 + which)
        _logger.info("stopping", signal=which.name)
        stop.set()
        start.interrupt()

    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, on_signal, which)
    try:
        yield start
    finally:
        for which in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(which)
