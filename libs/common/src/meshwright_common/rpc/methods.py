"""Facts about a method that the protos and the deadline table know."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from meshwright.types.v1 import options_pb2
from meshwright_common.identity.permissions import OPEN_SERVICES

STREAM_SECONDS: Final = 300.0
"""Longest life of a stream: below the grace that an ageing connection gives its calls."""
GENERAL_SECONDS: Final = 5.0
EVERY_METHOD: Final = "*"
"""In settings of deadlines: the least for every call that is no stream."""

_UNARY_SECONDS: Final[Mapping[str, float]] = {
    "meshwright.session.v1": 2.0,
    # Recomputes a whole chain: some 20 000 records a second.
    "meshwright.session.v1.AuditService/VerifyAudit": 60.0,
    "meshwright.rag.v1": 10.0,
    # As much as fits: what is left over is asked for again.
    "meshwright.erasure.v1": 30.0,
    # A batch of texts for a remote provider, which may itself be retried.
    "meshwright.model_router.v1.ModelService/Embed": 60.0,
    "meshwright.model_router.v1.ModelService/Moderate": 60.0,
}
"""Seconds by package or by method, where `GENERAL_SECONDS` is not right."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method. `repeatable`: calling it twice is the same as calling it once.

    `is_open`: a method of gRPC's own services, for which `permission` is empty.
    """

    path: str
    is_open: bool
    permission: str
    request_streaming: bool
    response_streaming: bool
    repeatable: bool
    not_yet_served: bool
    deadline_seconds: float


@lru_cache(maxsize=1024)
def method(path: str) -> Method | None:
    """Return the facts of "/package.Service/Method"; None when no loaded proto has it."""
    service_name, separator, name = path.removeprefix("/").partition("/")
    if not separator or not path.startswith("/"):
        return None
    try:
        service = descriptor_pool.Default().FindServiceByName(service_name)
    except KeyError:
        return None
    found = service.methods_by_name.get(name)
    return None if found is None else _describe(path, service_name, found)


def seconds_for(path: str, facts: Method | None, deadlines: Mapping[str, float]) -> float:
    """Return how long a call may take: what `deadlines` say of it, or what it needs.

    `deadlines` are seconds by method path; their `*` lengthens all others that are no streams.
    """
    if seconds := deadlines.get(path):
        return seconds
    needed = GENERAL_SECONDS if facts is None else facts.deadline_seconds
    return max(needed, deadlines.get(EVERY_METHOD, 0.0)) if needed < STREAM_SECONDS else needed


def _describe(path: str, service_name: str, found: MethodDescriptor) -> Method:
    options = found.GetOptions()
    streaming = found.client_streaming or found.server_streaming
    return Method(
        path=path,
        is_open=service_name in OPEN_SERVICES,
        permission=options.Extensions[options_pb2.permission],
        request_streaming=found.client_streaming,
        response_streaming=found.server_streaming,
        repeatable=options.idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN,
        not_yet_served=options.Extensions[options_pb2.not_yet_served],
        deadline_seconds=STREAM_SECONDS if streaming else _unary_seconds(service_name, path),
    )


def _unary_seconds(service_name: str, path: str) -> float:
    package = service_name.rpartition(".")[0]
    by_method = _UNARY_SECONDS.get(path.removeprefix("/"))
    return by_method or _UNARY_SECONDS.get(package, GENERAL_SECONDS)
