"""Health and metrics: what the platform around us asks."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from meshwright_common.errors import PermissionDenied
from meshwright_gateway.auth.credentials import Authenticator
from meshwright_gateway.http.exchange import API_HEADERS, Exchange

METRICS_PERMISSION: Final = "tenant:admin"
"""Needed for /metrics from anywhere but this machine."""

_FORWARDED: Final = (b"forwarded", b"x-forwarded-for", b"x-real-ip")


class HealthRoutes:
    """Liveness, readiness and metrics. `is_ready` is false from the shutdown on."""

    def __init__(self, is_ready: Callable[[], bool], authenticator: Authenticator) -> None:
        self._is_ready = is_ready
        self._authenticator = authenticator

    async def live(self, exchange: Exchange) -> None:
        """Say that the process runs."""
        await exchange.respond_json(200, {"status": "live"})

    async def ready(self, exchange: Exchange) -> None:
        """Say whether new requests should come here."""
        if self._is_ready():
            await exchange.respond_json(200, {"status": "ready"})
        else:
            await exchange.respond_json(503, {"status": "stopping"})

    async def metrics(self, exchange: Exchange) -> None:
        """Give the metrics to this machine, and to who administers.

        Raises: Unauthenticated, PermissionDenied.
        """
        if not _is_local(exchange):
            credential = await self._authenticator.authenticate(
                exchange.headers, exchange.scope["headers"]
            )
            if not credential.principal.has(METRICS_PERMISSION):
                raise PermissionDenied(
                    f"the permission {METRICS_PERMISSION} is missing",
                    permission=METRICS_PERMISSION,
                )
        headers = [(b"content-type", CONTENT_TYPE_LATEST.encode()), *API_HEADERS]
        await exchange.respond(200, generate_latest(REGISTRY), headers)


def _is_local(exchange: Exchange) -> bool:
    """Return whether the client is on this machine itself, not behind a proxy on it."""
    client = exchange.scope.get("client")
    if client is None or any(name in exchange.headers for name in _FORWARDED):
        return False
    return ip_address(client[0]).is_loopback
