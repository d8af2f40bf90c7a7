"""The health service of gRPC: which services of this process take calls."""

from collections.abc import Iterable
from typing import Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE_NAME: Final = "grpc.health.v1.Health"
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """Says NOT_SERVING until `serve`, and again, for good, from `shut_down` on."""

    def __init__(self, service_names: Iterable[str]) -> None:
        self._names = ("", *service_names)
        self._servicer = _HealthServicer()

    async def register(self, server: grpc.aio.Server) -> None:
        """Add the health service to `server`, with every name NOT_SERVING."""
        for name in self._names:
            await self._servicer.set(name, _NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def serve(self) -> None:
        """Say that calls are taken, of each service and of the process."""
        for name in self._names:
            await self._servicer.set(name, _SERVING)

    async def shut_down(self) -> None:
        """Say that calls go elsewhere. Later `serve` is ignored."""
        await self._servicer.enter_graceful_shutdown()


class _HealthServicer(health.aio.HealthServicer):
    """grpcio's servicer with the newer `List`, which it lacks and its type stubs do not know."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, int] = {}

    async def set(self, service: str, status: int) -> None:
        self._known[service] = status
        await super().set(service, status)

    async def enter_graceful_shutdown(self) -> None:
        self._known = dict.fromkeys(self._known, _NOT_SERVING)
        await super().enter_graceful_shutdown()

    async def List(self, request: object, context: object) -> object:
        answer = health_pb2.HealthListResponse()  # type: ignore[attr-defined]
        for name, status in self._known.items():
            answer.statuses[name].status = status
        return answer
