"""Servicers behind the real interceptors, reached over any substrate, for tests.

async with serving(register, substrate=substrate) as served:
    stub = KnowledgeServiceStub(served.channels().open("rag"))
    with calling_as(tenant_id, "kb:read"):
        await stub.GetDocument(...)
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import grpc.aio

from meshwright_common import context
from meshwright_common.context import CallContext, Principal
from meshwright_common.health import Health
from meshwright_common.identity.keys import KeyRing, ephemeral_keys
from meshwright_common.identity.tokens import TokenMinter, TokenVerifier
from meshwright_common.ids import new_id
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.interceptors import server_interceptors
from meshwright_common.rpc.local import LocalChannel
from meshwright_common.rpc.local_server import LocalServer
from meshwright_common.rpc.server import create_server
from meshwright_common.rpc.stream import open_stream
from meshwright_common.rpc.transport import Transport
from meshwright_common.settings import SERVICE_NAMES, RpcSettings
from meshwright_common.testing.patience import PATIENT_DEADLINES

Res = TypeVar("Res")
Substrate = Literal["local", "local-copy", "grpc", "balanced", "link"]
SUBSTRATES: Final[tuple[Substrate, ...]] = ("local", "local-copy", "grpc", "balanced", "link")
CALLER: Final = "gateway"
"""The service in whose name tests call."""


@dataclass(slots=True)
class Served:
    """Servicers that are being served."""

    substrate: Substrate
    keys: KeyRing
    local_server: LocalServer
    servers: tuple[grpc.aio.Server, ...]
    addresses: tuple[str, ...]
    _opened: list[Channels | grpc.aio.Channel] = field(default_factory=list)

    @property
    def server(self) -> grpc.aio.Server:
        """The server; of several the first."""
        return self.servers[0]

    @property
    def address(self) -> str:
        """The address of `server`."""
        return self.addresses[0]

    @property
    def is_remote(self) -> bool:
        """Whether calls go over sockets."""
        return self.substrate in ("grpc", "balanced", "link")

    def channels(
        self, service: str = CALLER, *, deadlines: Mapping[str, float] = PATIENT_DEADLINES
    ) -> Channels:
        """Return channels that call in the name of `service`; every peer is this server."""
        channels = Channels(
            TokenMinter(service, self.keys.private_key(service)),
            dict.fromkeys(SERVICE_NAMES, self._target()),
            local_server=self.local_server,
            transport=self._transport(),
            deadlines=deadlines,
            copy_messages=self.substrate == "local-copy",
        )
        self._opened.append(channels)
        return channels

    def raw_channel(self) -> grpc.aio.Channel:
        """Return a channel without any policy: no token, no deadline, errors of gRPC."""
        channel: grpc.aio.Channel
        if self.is_remote:
            channel = self._transport().connect("rag", self._target())
        else:
            copying = self.substrate == "local-copy"
            channel = LocalChannel(self.local_server, copy_messages=copying)
        self._opened.append(channel)
        return channel

    def _target(self) -> str:
        if self.substrate == "balanced":
            return f"static:///{','.join(self.addresses)}"
        return self.address if self.is_remote else "local:"

    def _transport(self) -> Transport:
        return Transport(link=self.substrate == "link")

    def token(self, principal: Principal, service: str = CALLER) -> str:
        """Return a good token for `principal`, signed by `service`."""
        return TokenMinter(service, self.keys.private_key(service)).issue(principal).value

    def credentials(self, principal: Principal) -> tuple[tuple[str, str], ...]:
        """Return metadata that makes a raw call one of `principal`."""
        return (("authorization", f"Bearer {self.token(principal)}"),)

    async def close(self) -> None:
        """Close what was opened, then stop serving."""
        for opened in self._opened:
            await opened.close()
        for server in self.servers:
            await server.stop(0)
        await self.local_server.stop(0)


@asynccontextmanager
async def serving(
    *register: Callable[[grpc.aio.Server], None],
    substrate: Substrate = "local",
    deadlines: Mapping[str, float] | None = None,
    keys: KeyRing | None = None,
) -> AsyncIterator[Served]:
    """Serve what each `register` adds, in this process and on a free port, until left.

    `keys` are whose tokens are believed; None: keys of its own.
    On the substrate `balanced` there are two servers on two ports, and calls take turns.
    """
    keys = keys or ephemeral_keys(SERVICE_NAMES)
    interceptors = server_interceptors("test", TokenVerifier(keys.trusted), deadlines=deadlines)
    local_server = LocalServer(interceptors)
    for add in register:
        add(local_server)
    started = [
        await _start(local_server, interceptors) for _ in range(2 if substrate == "balanced" else 1)
    ]
    servers, addresses = zip(*started, strict=True)
    served = Served(substrate, keys, local_server, servers, addresses)
    try:
        yield served
    finally:
        await served.close()


async def _start(
    local_server: LocalServer, interceptors: Sequence[grpc.aio.ServerInterceptor]
) -> tuple[grpc.aio.Server, str]:
    settings = RpcSettings(listen="127.0.0.1:0", reflection=False)
    health = Health(local_server.services)
    server, port = await create_server(
        local_server, settings, interceptors=interceptors, health=health
    )
    await server.start()
    await health.serve()
    return server, f"127.0.0.1:{port}"


def user(tenant_id: str, *permissions: str) -> Principal:
    """Return a fresh user of the tenant who holds exactly these permissions."""
    return Principal(tenant_id, new_id(), "user", frozenset(permissions))


@contextmanager
def calling_as(
    caller: Principal | str, *permissions: str, timeout_seconds: float | None = None
) -> Iterator[CallContext]:
    """Bind a call context for the block: of a principal, or of a fresh user of a tenant id."""
    who = user(caller, *permissions) if isinstance(caller, str) else caller
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    request_id = new_id()
    call = CallContext(who, deadline, request_id, request_id, context.new_traceparent())
    with context.bind(call) as bound:
        yield bound


async def collect(call: "grpc.aio.UnaryStreamCall[Any, Res]", into: list[Res]) -> None:
    """Read a stream to its end; what came before an error is in `into`."""
    async with open_stream(call) as messages:
        async for message in messages:
            into.append(message)  # noqa: PERF401 -- what came before an error counts
