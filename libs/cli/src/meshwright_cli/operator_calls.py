"""Calls that an operator makes at the services of the mesh, in a name with a key of its own.

The platform is the one of the data folder; else the one whose keys and peers the settings name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from meshwright.session.v1 import directory_service_pb2, tenant_pb2
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright_cli.endpoint import read_endpoint
from meshwright_cli.environment import PlatformSettings
from meshwright_cli.exits import CommandError, Exit, refused
from meshwright_cli.first_start import OPERATOR, OWNER_PERMISSIONS
from meshwright_common.context import MESH_INTERNAL, bind, service_context
from meshwright_common.errors import InvalidArgument, ServiceError, Unavailable
from meshwright_common.identity.keys import KeyFileError, load_keys
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.registry.composition import registry_for
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.tls import TlsFiles
from meshwright_common.rpc.transport import Transport
from meshwright_common.settings import SettingsError, load
from meshwright_common.telemetry import logging

if TYPE_CHECKING:
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub

NO_TENANT: Final = "00000000-0000-0000-0000-000000000000"
CALL_SECONDS: Final = 30.0
DIRECTORY_SERVICE: Final = "meshwright.session.v1.DirectoryService"
KEYS_FOLDER: Final = "keys"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator at work. Calls are made inside `everywhere` or `inside` a tenant."""

    channels: Channels
    directory: DirectoryServiceAsyncStub

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Act across tenants."""
        call = service_context(OPERATOR, NO_TENANT, (MESH_INTERNAL,), timeout_seconds=CALL_SECONDS)
        with bind(call):
            yield

    @contextmanager
    def inside(self, tenant_id: str) -> Iterator[None]:
        """Act in one tenant, with all that its owners may do."""
        call = service_context(OPERATOR, tenant_id, OWNER_PERMISSIONS, timeout_seconds=CALL_SECONDS)
        with bind(call):
            yield

    async def tenant(self, name: str) -> tenant_pb2.Tenant:
        """Return the tenant of a slug or an id. Raises: CommandError when there is none."""
        with self.everywhere():
            found = await self.directory.ListTenants(
                directory_service_pb2.ListTenantsRequest(name=name)
            )
        if not found.tenants:
            raise CommandError(
                f"there is no tenant {name!r}; `meshwright tenants list` says which there are"
            )
        return found.tenants[0]


def operate(data: Path, work: Callable[[Operator], Awaitable[T]]) -> T:
    """Run `work` as the platform's operator. Raises: CommandError with what is wrong."""
    try:
        settings = load(PlatformSettings)
    except SettingsError as error:
        raise refused(str(error)) from None
    # What a library has to say beside the error would stand in the way of it.
    logging.configure("operator", level="error", log_format="console")
    try:
        return asyncio.run(_operate(settings, data, work))
    except KeyFileError as error:
        raise refused(f"an operator signs with the key {OPERATOR}.key: {error}") from None
    except SettingsError as error:
        raise refused(str(error)) from None
    except InvalidArgument as error:
        raise refused(_told(error)) from None
    except Unavailable as error:
        raise CommandError(_told(error), Exit.NOT_RUNNING) from None
    except (ServiceError, OSError) as error:
        raise CommandError(_told(error)) from None


async def _operate(
    settings: PlatformSettings, data: Path, work: Callable[[Operator], Awaitable[T]]
) -> T:
    async with _channels(settings, data) as channels:
        return await work(Operator(channels, DirectoryServiceStub(channels.open("session"))))


@asynccontextmanager
async def _channels(settings: PlatformSettings, data: Path) -> AsyncIterator[Channels]:
    running = read_endpoint(data)
    elsewhere = bool(settings.peers) or not settings.registry.url.startswith("static:")
    if running is None and not elsewhere:
        raise CommandError(
            f"nothing runs on {data}: start it with `meshwright up`, or name a platform elsewhere "
            "with MESHWRIGHT_PEERS__SESSION and MESHWRIGHT_IDENTITY__KEYS_DIR",
            Exit.NOT_RUNNING,
        )
    keys = settings.identity.keys_dir
    peers = settings.peers
    if running is not None:
        peers = {name: f"ipv4:{address}" for name, address in running.grpc.items()}
        if "keys_dir" not in settings.identity.model_fields_set:
            keys = data / KEYS_FOLDER
    minter = TokenMinter(OPERATOR, load_keys(keys, (OPERATOR,)).private_key(OPERATOR))
    # An operator listens nowhere, whatever the settings that it shares with services say.
    registry = registry_for(settings.registry, listen="", weigh=lambda: 0)
    tls = TlsFiles(settings.tls, OPERATOR) if settings.tls.enabled else None
    transport = Transport(discovery=registry.discovery, tls=tls)
    try:
        async with Channels(minter, peers, transport=transport) as channels:
            yield channels
    finally:
        await registry.close()


def _told(error: Exception) -> str:
    if not isinstance(error, ServiceError):
        return str(error)
    lines = [f"{error.message} ({error.reason})"]
    lines += [
        f"{one.field}: {one.description}"
        for one in error.field_violations
        if not error.message.startswith(one.field)
    ]
    return "\n".join(lines)
