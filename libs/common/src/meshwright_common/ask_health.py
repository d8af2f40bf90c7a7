"""Ask the process of this machine whether it takes calls: for probes of containers.

    python -m meshwright_common.ask_health rag

reads the settings of that process from the same environment, so that it works with mutual TLS, too,
which probes of Kubernetes cannot speak. Exit code: 0 it does, 1 it does not, 2 wrong settings.

Probes start it every few seconds, so it imports what few need, TLS, only where it is spoken.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import grpc.aio
from grpc_health.v1 import health_pb2

from meshwright_common.registry.ports import EVERY_ADDRESS
from meshwright_common.settings import SERVICE_NAMES, CommonSettings, SettingsError, load

CHECK: Final = "/grpc.health.v1.Health/Check"
TIMEOUT_SECONDS: Final = 3.0
_LOOPBACK: Final = "127.0.0.1"


async def is_serving(service: str, settings: CommonSettings) -> bool:
    """Return whether the process of `service` with these settings takes calls.

    Raises: SettingsError when its certificates cannot be used.
    """
    host, _, port = settings.rpc.listen.rpartition(":")
    target = f"{_LOOPBACK if host in EVERY_ADDRESS else host}:{port}"
    async with _channel(service, target, settings) as channel:
        check = channel.unary_unary(
            CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer: health_pb2.HealthCheckResponse = await check(
                health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def _channel(service: str, target: str, settings: CommonSettings) -> grpc.aio.Channel:
    if not settings.tls.enabled:
        return grpc.aio.insecure_channel(target)
    from meshwright_common.rpc.tls import TlsFiles  # noqa: PLC0415 - half of the start
    from meshwright_common.rpc.transport import Transport  # noqa: PLC0415

    return Transport(tls=TlsFiles(settings.tls, service)).open_channel(service, target)


def main(arguments: list[str]) -> int:
    """Ask, and return the exit code."""
    if len(arguments) != 1 or arguments[0] not in SERVICE_NAMES:
        sys.stderr.write(f"usage: ask_health SERVICE, one of {', '.join(SERVICE_NAMES)}\n")
        return 2
    try:
        return 0 if asyncio.run(is_serving(arguments[0], load(CommonSettings))) else 1
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
