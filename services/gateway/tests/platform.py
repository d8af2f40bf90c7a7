"""A gateway on a real port, over servicers that stand for its peers."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from meshwright_common.context import Principal
from meshwright_common.identity.tokens import TokenVerifier
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import Served, Substrate, serving
from meshwright_gateway.app import Gateway, compose
from meshwright_gateway.limits.counters import Counters
from meshwright_gateway.settings import GatewaySection
from services.gateway.tests.peers import Peers

PERMISSIONS = (
    "agent:execute",
    "agent:read",
    "audit:read",
    "chat:read",
    "kb:read",
    "kb:write",
    "model:invoke",
    "model:read",
    "session:delete",
    "session:read",
    "session:write",
    "task:read",
    "tenant:read",
    "tool:execute",
    "tool:read",
    "usage:read",
)


@dataclass(slots=True)
class Platform:
    """A running gateway and what it talks to."""

    url: str
    gateway: Gateway
    settings: GatewaySection
    peers: Peers
    served: Served
    caller: Principal
    key: str
    http: aiohttp.ClientSession
    headers: dict[str, str] = field(default_factory=dict)

    async def post(self, path: str, body: object, **headers: str) -> aiohttp.ClientResponse:
        """Send JSON with the caller's key and return the answer, read."""
        answer = await self.http.post(
            self.url + path, json=body, headers={**self.headers, **_names(headers)}
        )
        await answer.read()
        return answer

    async def send(self, path: str, data: Any, **headers: str) -> aiohttp.ClientResponse:
        """Send bytes with the caller's key and return the answer, read."""
        if isinstance(data, bytes):
            data = io.BytesIO(data)
        answer = await self.http.post(
            self.url + path, data=data, headers={**self.headers, **_names(headers)}
        )
        await answer.read()
        return answer

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        """Ask with the caller's key and return the answer, read."""
        answer = await self.http.get(self.url + path, headers={**self.headers, **_names(headers)})
        await answer.read()
        return answer

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a bare connection."""
        host, port = self.url.removeprefix("http://").split(":")
        return await asyncio.open_connection(host, int(port))


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@asynccontextmanager
async def running(
    *, substrate: Substrate = "local", counters: Counters | None = None, **settings: Any
) -> AsyncIterator[Platform]:
    """Run a gateway until the block is left; without `counters` it counts requests alone."""
    peers = Peers()
    section = GatewaySection(port=0, **settings)
    async with serving(peers.register, substrate=substrate) as served:
        caller = Principal(new_id(), new_id(), "user", frozenset(PERMISSIONS), ("member",))
        gateway = compose(
            section, served.channels(), TokenVerifier(served.keys.trusted), counters=counters
        )
        key = peers.directory.give_key(caller)
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            served_http = group.create_task(gateway.server.run())
            beats = group.create_task(gateway.answers.keep_alive())
            checks = group.create_task(gateway.answers.recheck())
            limits = group.create_task(gateway.limits.requests.keep())
            load = group.create_task(gateway.limits.load.watch())
            file = group.create_task(gateway.limit_file.watch(gateway.limits.use))
            yield Platform(
                url=gateway.server.url,
                gateway=gateway,
                settings=section,
                peers=peers,
                served=served,
                caller=caller,
                key=key,
                http=http,
                headers={"authorization": f"Bearer {key}"},
            )
            await http.close()
            gateway.server.stop()
            await served_http
            for task in (beats, checks, limits, load, file):
                task.cancel()
            await gateway.limits.requests.close()
