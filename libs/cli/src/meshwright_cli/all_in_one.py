"""The composition of services in one process; the only module that imports more than one.

A service's modules are imported when it is asked for, so that a process with one service does not
pay for the others.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from meshwright_cli.environment import PlatformSettings, applied, together_variables
from meshwright_cli.plan import Prepared
from meshwright_common.app import App
from meshwright_common.lifecycle import Ready
from meshwright_common.runner import Build, Process, serve_apps
from meshwright_common.settings import SERVICE_NAMES, CommonSettings, ServiceName, load
from meshwright_common.storage.embedded.process import LOOPBACK

PROCESS_NAME: Final = "meshwright"
"""Of the process that holds all services, in logs and traces."""
WITH_GRPC: Final = tuple(service for service in SERVICE_NAMES if service != "gateway")
"""The gateway speaks HTTP only."""


@dataclass(frozen=True, slots=True)
class Part:
    """A service as it is found in its package: `app.build` and `settings.Settings`."""

    service: ServiceName
    build: Build[CommonSettings]
    settings: CommonSettings


def package_of(service: ServiceName) -> str:
    """Return the import package of a service."""
    return f"meshwright_{service.replace('-', '_')}"


def settings_type_of(service: ServiceName) -> type[CommonSettings]:
    """Return the settings class of a service; imports no more than that."""
    found: type[CommonSettings] = importlib.import_module(
        f"{package_of(service)}.settings"
    ).Settings
    return found


def import_service(service: ServiceName) -> Build[CommonSettings]:
    """Import a service with all that it needs and return its composition root."""
    build: Build[CommonSettings] = importlib.import_module(f"{package_of(service)}.app").build
    return build


def load_parts(services: Sequence[ServiceName] = SERVICE_NAMES) -> tuple[Part, ...]:
    """Return the services with their settings, in the order in which they depend on each other.

    Raises: SettingsError for the first service whose settings are wrong.
    """
    wanted = [service for service in SERVICE_NAMES if service in services]
    return tuple(
        Part(service, import_service(service), load(settings_type_of(service)))
        for service in wanted
    )


@asynccontextmanager
async def open_parts(parts: Sequence[Part], process: Process) -> AsyncIterator[list[App]]:
    """Build the services on the one local server of `process`; close them in reverse order."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                part.build(part.settings, process.channels(part.service))
            )
            for part in parts
        ]


def import_services(services: Iterable[ServiceName]) -> None:
    """Import services: more than a second of work that needs nothing to run yet."""
    for service in services:
        import_service(service)


async def serve(prepared: Prepared) -> int:
    """Serve all services in this process, over the in-process channel and one gRPC port.

    Returns the exit code. Raises: SettingsError, AddressError, StartRefused, ServiceTableError.
    """
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serving() -> Mapping[str, str]:
        return dict.fromkeys(WITH_GRPC, f"{LOOPBACK}:{await port}")

    def on_ready(ready: Ready) -> None:
        port.set_result(ready.port)

    # The gateway tells them to this machine, of all services; more doors are the operator's wish.
    metrics = prepared.settings.telemetry.metrics_listen or prepared.plan.address
    prepared.plan.folder.write_metrics_targets([(PROCESS_NAME, metrics)])
    with applied({**prepared.variables, **together_variables(prepared.settings)}):
        parts = load_parts()
        settings = load(PlatformSettings)

    @asynccontextmanager
    async def open_apps(process: Process) -> AsyncIterator[Sequence[App]]:
        async with open_parts(parts, process) as apps:
            yield prepared.around(apps, process, serving)

    return await serve_apps(
        open_apps, settings, name=PROCESS_NAME, keys=prepared.keys, on_ready=on_ready
    )
