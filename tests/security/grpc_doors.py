"""Every method of the mesh, called straight at its port with whatever credentials."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from meshwright_common.identity.permissions import required_permissions
from tests.platform_process import Platform

CALL_SECONDS: Final = 30.0
_SERVICES_BY_PACKAGE: Final = {
    "chat": ("chat",),
    "erasure": ("chat", "orchestrator", "rag", "tool-exec", "model-router"),
    "model_router": ("model-router",),
    "orchestrator": ("orchestrator",),
    "rag": ("rag",),
    "session": ("session",),
    "tool_exec": ("tool-exec",),
}
Metadata = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call ended."""

    code: grpc.StatusCode
    text: str


@dataclass(frozen=True, slots=True)
class Door:
    """One method."""

    path: str
    permission: str
    service: str
    streams_in: bool
    streams_out: bool

    def call(
        self, channel: grpc.Channel, metadata: Metadata, request: bytes = b"", path: str = ""
    ) -> Refusal | None:
        """Call it with an empty request; None: it answered."""
        kind = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }[self.streams_in, self.streams_out]
        method: Any = kind(path or self.path)
        argument = iter([request]) if self.streams_in else request
        try:
            answer = method(argument, metadata=metadata, timeout=CALL_SECONDS)
            if self.streams_out:
                next(iter(answer), None)
                answer.cancel()
        except grpc.RpcError as error:
            call: Any = error
            return Refusal(call.code(), call.details() or "")
        return None


def doors() -> list[Door]:
    """Return every method of ours at each service that has it, served already or not."""
    found = []
    for path, permission in required_permissions().items():
        method = descriptor_of(path)
        found += [
            Door(path, permission, service, method.client_streaming, method.server_streaming)
            for service in _SERVICES_BY_PACKAGE[path[1:].split(".")[1]]
        ]
    return found


def descriptor_of(path: str) -> MethodDescriptor:
    """Return what the protos say of the method at `/package.Service/Method`."""
    service_name, _, name = path[1:].partition("/")
    return descriptor_pool.Default().FindServiceByName(service_name).methods_by_name[name]


class Channels:
    """Plain channels to the services of a platform, one each."""

    def __init__(self, platform: Platform) -> None:
        self._channels = {
            name: grpc.insecure_channel(address) for name, address in platform.grpc.items()
        }

    def __getitem__(self, service: str) -> grpc.Channel:
        return self._channels[service]

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()


@contextmanager
def plain_channels(platform: Platform) -> Iterator[Channels]:
    """Open channels without any credentials of their own."""
    channels = Channels(platform)
    try:
        yield channels
    finally:
        channels.close()


def not_refused(
    channels: Channels, metadata: Metadata, expected: grpc.StatusCode, among: Iterable[Door]
) -> list[str]:
    """Return what did not end with `expected`, in words for a failing test."""
    wrong = []
    for door in among:
        refusal = door.call(channels[door.service], metadata)
        if refusal is None:
            wrong.append(f"{door.path} answered")
        elif refusal.code is not expected:
            wrong.append(f"{door.path}: {refusal.code.name} {refusal.text}")
    return wrong


def segment(content: object) -> str:
    """Return a part of a token as JWT writes it."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64url(raw)


def base64url(raw: bytes) -> str:
    """Return base64 for URLs without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
