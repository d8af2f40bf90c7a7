"""Which permission each method needs, read from the protos."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

import meshwright
from meshwright.types.v1 import options_pb2

NO_PERMISSION: Final = "none"
"""Declared by methods that need no caller at all."""

OPEN_SERVICES: Final = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)
"""Services of gRPC itself: they tell nothing about tenants and need no caller."""


class UndeclaredPermission(Exception):
    """A method declares no permission, or one it may not have. The text names the methods."""


def required_permissions(service_names: Iterable[str] | None = None) -> Mapping[str, str]:
    """Return the permission of each method, by "/package.Service/Method".

    `service_names` are full names whose generated modules are imported; None: every service of
    the installed stubs. Services of gRPC itself have `NO_PERMISSION`.
    Raises: UndeclaredPermission when a method of ours declares none.
    """
    table: dict[str, str] = {}
    missing: list[str] = []
    for service in _services(service_names):
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            permission = _declared(service, method)
            if permission is None:
                missing.append(path)
            else:
                table[path] = permission
    if missing:
        raise UndeclaredPermission(
            f"these methods declare no permission that allows serving them: {', '.join(missing)}"
        )
    return table


def _declared(service: ServiceDescriptor, method: MethodDescriptor) -> str | None:
    if service.full_name in OPEN_SERVICES:
        return NO_PERMISSION
    permission: str = method.GetOptions().Extensions[options_pb2.permission]
    # A method of ours without a caller would be a door in the wall: it has to be a gRPC one.
    return None if permission in ("", NO_PERMISSION) else permission


def _services(service_names: Iterable[str] | None) -> Iterator[ServiceDescriptor]:
    pool = descriptor_pool.Default()
    if service_names is not None:
        for name in service_names:
            yield pool.FindServiceByName(name)
        return
    for module in pkgutil.walk_packages(meshwright.__path__, "meshwright."):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(module.name).DESCRIPTOR
            yield from file.services_by_name.values()
