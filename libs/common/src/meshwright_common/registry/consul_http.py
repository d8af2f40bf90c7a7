"""The few endpoints of Consul's HTTP API that a registry needs (ADR 0013)."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import msgspec

from meshwright_common.registry.ports import Endpoint

ANSWER_SECONDS: Final = 2.0
"""How long an agent may take for a question that it can answer at once."""
BLOCK_SECONDS: Final = 30
"""How long the agent holds a question about changes."""
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024

DEFAULT_PORT: Final = 8500
DEFAULT_TLS_PORT: Final = 8501


class ConsulAway(Exception):
    """The agent cannot be reached, refuses, or answers nonsense. The text says which."""


class UnknownCheck(ConsulAway):
    """The agent does not have what we registered: it lost its data, or gave us up."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A service of this process as the agent should know it. `ttl_seconds`: silent for longer,
    it counts as failing, and after `forget_seconds` more it is removed."""

    service_id: str
    name: str
    host: str
    port: int
    weight: int
    tags: tuple[str, ...]
    ttl_seconds: int
    forget_seconds: int

    @property
    def check_id(self) -> str:
        """The id of its check."""
        return f"{self.service_id}:ttl"

    def body(self) -> dict[str, object]:
        """Return what the agent is sent."""
        return {
            "ID": self.service_id,
            "Name": self.name,
            "Address": self.host,
            "Port": self.port,
            "Tags": list(self.tags),
            "Weights": {"Passing": self.weight, "Warning": 1},
            "Check": {
                "CheckID": self.check_id,
                "Name": "heartbeat of the process",
                "TTL": f"{self.ttl_seconds}s",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": f"{self.forget_seconds}s",
            },
        }


class _Node(msgspec.Struct, frozen=True, rename="pascal"):
    address: str = ""


class _Weights(msgspec.Struct, frozen=True, rename="pascal"):
    passing: int = 1


class _Service(msgspec.Struct, frozen=True, rename="pascal"):
    address: str = ""
    port: int = 0
    weights: _Weights = _Weights()


class _Entry(msgspec.Struct, frozen=True, rename="pascal"):
    node: _Node
    service: _Service


_entries: Final = msgspec.json.Decoder(list[_Entry])


class ConsulClient:
    """A client of one agent: `consul://[:token@]host[:port]`, with TLS `consul+tls://`.

    The agent's certificate is checked against `ca_file`, or against the authorities of the
    machine. Raises: ValueError when the URL has no host or no such port.
    """

    def __init__(self, url: str, *, ca_file: Path | None = None) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "consul+tls"
        if not parts.hostname:
            raise ValueError("needs a host: consul://host:port")
        port = parts.port or (DEFAULT_TLS_PORT if secure else DEFAULT_PORT)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.address = f"{host}:{port}"
        self._base = f"{'https' if secure else 'http'}://{self.address}/v1"
        token = unquote(parts.password or "")
        self._headers = {"X-Consul-Token": token} if token else {}
        self._tls = ssl.create_default_context(cafile=ca_file) if secure else None
        self._session: aiohttp.ClientSession | None = None

    async def register(self, registration: Registration) -> None:
        """Make the agent know the service, or its new weight. Raises: ConsulAway."""
        await self._put("agent/service/register?replace-existing-checks=1", registration.body())

    async def pass_check(self, check_id: str) -> None:
        """Say that the service is well. Raises: UnknownCheck, ConsulAway."""
        await self._put(f"agent/check/pass/{quote(check_id, safe='')}")

    async def deregister(self, service_id: str) -> None:
        """Make the agent forget the service. Raises: UnknownCheck (it had), ConsulAway."""
        await self._put(f"agent/service/deregister/{quote(service_id, safe='')}")

    async def healthy(self, name: str, index: int) -> tuple[int, tuple[Endpoint, ...]]:
        """Return the instances of a service that pass their checks, and the index of that answer.

        With an `index` above 0 the answer comes when it differs from the one of that index, or
        after `BLOCK_SECONDS`. Raises: ConsulAway.
        """
        path = f"health/service/{quote(name, safe='')}?passing=1"
        seconds = ANSWER_SECONDS
        if index:
            path = f"{path}&index={index}&wait={BLOCK_SECONDS}s"
            # The agent adds up to a sixteenth, so that not all readers come back together.
            seconds += BLOCK_SECONDS * (1 + 1 / 16)
        headers, body = await self._ask("GET", path, seconds)
        try:
            entries = _entries.decode(body)
            found = int(headers.get("X-Consul-Index", "0"))
        except (msgspec.DecodeError, ValueError) as error:
            raise ConsulAway(f"not an answer of Consul: {error}") from None
        # An index that goes back means that the agent began anew: so do we.
        return (found if found >= index else 0), tuple(
            _endpoint(entry) for entry in entries if entry.service.port > 0
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _put(self, path: str, body: object = None) -> None:
        await self._ask("PUT", path, ANSWER_SECONDS, body)

    async def _ask(
        self, method: str, path: str, seconds: float, body: object = None
    ) -> tuple[Mapping[str, str], bytes]:
        options: dict[str, Any] = {"headers": self._headers}
        if body is not None:
            options["data"] = msgspec.json.encode(body)
        if self._tls is not None:
            options["ssl"] = self._tls
        try:
            async with (
                self._open_session().request(
                    method,
                    f"{self._base}/{path}",
                    timeout=aiohttp.ClientTimeout(total=seconds),
                    allow_redirects=False,
                    **options,
                ) as answer,
            ):
                content = await answer.content.read(MAX_ANSWER_BYTES)
                if not answer.content.at_eof():
                    raise ConsulAway(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
                status, headers = answer.status, answer.headers
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ConsulAway(str(error) or type(error).__name__) from None
        if status == 404 and method == "PUT":
            raise UnknownCheck(content[:200].decode(errors="replace"))
        if status != 200:
            raise ConsulAway(f"answer {status}: {content[:200].decode(errors='replace').strip()}")
        return headers, content

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session


def _endpoint(entry: _Entry) -> Endpoint:
    host = entry.service.address or entry.node.address
    host = f"[{host}]" if ":" in host else host
    return Endpoint(f"{host}:{entry.service.port}", max(entry.service.weights.passing, 1))
