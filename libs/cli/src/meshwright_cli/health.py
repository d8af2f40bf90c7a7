"""Asking a process whether it takes calls, by gRPC's health service."""

from __future__ import annotations

from typing import Final

import grpc.aio
from grpc_health.v1 import health_pb2

from meshwright_cli.environment import PlatformSettings
from meshwright_cli.exits import refused
from meshwright_common.rpc.tls import SHARED_NAME, TlsFiles
from meshwright_common.rpc.transport import Transport
from meshwright_common.settings import SettingsError, load

CHECK: Final = "/grpc.health.v1.Health/Check"
TIMEOUT_SECONDS: Final = 60.0


def own_transport() -> Transport:
    """Return how calls of this command itself reach services: over TLS if the settings say so.

    Raises: CommandError when they cannot be used.
    """
    try:
        settings = load(PlatformSettings).tls
        return Transport(tls=TlsFiles(settings, SHARED_NAME) if settings.enabled else None)
    except SettingsError as error:
        raise refused(str(error)) from None


async def is_serving(
    channel: grpc.aio.Channel,
    *,
    wait_for_ready: bool = False,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> bool:
    """Return whether the process takes calls. `wait_for_ready` waits for it to listen at all.

    Raises: grpc.aio.AioRpcError when it cannot be asked.
    """
    check = channel.unary_unary(
        CHECK,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    answer: health_pb2.HealthCheckResponse = await check(
        health_pb2.HealthCheckRequest(), wait_for_ready=wait_for_ready, timeout=timeout_seconds
    )
    return answer.status == health_pb2.HealthCheckResponse.SERVING
