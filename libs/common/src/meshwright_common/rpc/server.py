"""The gRPC port of a process, and what has to hold before anything is served."""

from collections.abc import Sequence
from typing import Any

import grpc.aio
from grpc_reflection.v1alpha import reflection

from meshwright_common.health import SERVICE_NAME, Health
from meshwright_common.identity.permissions import UndeclaredPermission, required_permissions
from meshwright_common.rpc import methods
from meshwright_common.rpc.limits import SERVER_OPTIONS
from meshwright_common.rpc.link_server import LinkHost
from meshwright_common.rpc.local_server import LocalServer
from meshwright_common.rpc.unserved import unserved
from meshwright_common.rpc.wrapping import behaviour_of
from meshwright_common.settings import RpcSettings


class ServiceTableError(Exception):
    """What is registered does not fit the protos. The text names the methods."""


class AddressError(Exception):
    """The address cannot be listened on. The text names it."""


def verify_services(server: LocalServer) -> None:
    """Refuse the start when a method has no permission, or is not served as its proto says.

    Raises: ServiceTableError naming every such method.
    """
    try:
        required_permissions(server.services)
    except (UndeclaredPermission, KeyError) as error:
        raise ServiceTableError(str(error)) from None
    mistakes: list[str] = []
    for service_name, handlers in server.services.items():
        for name, handler in handlers.items():
            path = f"/{service_name}/{name}"
            facts = methods.method(path)
            behaviour = behaviour_of(handler)
            module = getattr(behaviour, "__module__", None) or ""
            served = behaviour is not unserved and not module.endswith("_pb2_grpc")
            if facts is None:
                mistakes.append(f"{path} is in no loaded proto")
            elif served and facts.not_yet_served:
                mistakes.append(f"{path} is served, but its proto says not_yet_served")
            elif not served and not facts.not_yet_served:
                mistakes.append(f"{path} is declared, but its servicer lacks it")
    if mistakes:
        raise ServiceTableError("; ".join(mistakes))


async def create_server(
    local: LocalServer,
    settings: RpcSettings,
    *,
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    health: Health,
    credentials: grpc.ServerCredentials | None = None,
) -> tuple[grpc.aio.Server, int]:
    """Return a server, not started, with the handlers of `local`; and the port that it has.

    It listens on `settings.listen` ("host:port", port 0: any free one), with health and, if
    wanted, reflection and links; with `credentials` over TLS alone.
    Raises: AddressError when the address is taken or wrong.
    """
    if settings.link:
        interceptors = (LinkHost(local, settings.maximum_concurrent_rpcs), *interceptors)
    server = grpc.aio.server(
        interceptors=tuple(interceptors),
        options=SERVER_OPTIONS,
        maximum_concurrent_rpcs=settings.maximum_concurrent_rpcs,
    )
    local.copy_to(server)
    await health.register(server)
    if settings.reflection:
        names = (*local.services, SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    return server, _bind(server, settings.listen, credentials)


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        port: Any = (
            server.add_insecure_port(listen)
            if credentials is None
            else server.add_secure_port(listen, credentials)
        )
    except (RuntimeError, ValueError):
        port = 0
    if not port:
        raise AddressError(f"cannot listen on {listen}: it is in use, or no address of this host")
    return int(port)
