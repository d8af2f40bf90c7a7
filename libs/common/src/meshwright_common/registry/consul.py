"""Consul as the registry: processes announce themselves to an agent and watch their peers there.

The agent is a convenience, never a condition: without it a process starts, serves, and calls the
peers that it knows.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Final

from meshwright_common.ids import new_id
from meshwright_common.registry.consul_http import (
    ConsulAway,
    ConsulClient,
    Registration,
    UnknownCheck,
)
from meshwright_common.registry.known import Known
from meshwright_common.registry.ports import Endpoint, Instance
from meshwright_common.resilience.retry import Backoff
from meshwright_common.telemetry.logging import get_logger

TTL_SECONDS: Final = 10
FORGET_SECONDS: Final = 90
BEAT_SECONDS: Final = 3.0
"""How often a process says that it is well, and looks whether its weight has changed."""
NOTICEABLE: Final = 10
"""A weight is told anew when it differs by this much: every change wakes all who watch."""
SETTLE_SECONDS: Final = 0.05
"""Pause between two questions about a peer, so that many changes at once become one."""
AGAIN: Final = Backoff(initial_seconds=0.2, maximum_seconds=5.0)

_logger = get_logger(__name__)


class ConsulRegistrar:
    """Announces one process, each of its services by itself.

    `prefix` comes before the names, `advertise` is the host that others reach us by (empty: the
    one we listen on), `weigh` returns our weight now.
    """

    def __init__(
        self,
        client: ConsulClient,
        *,
        prefix: str,
        advertise: str = "",
        tags: tuple[str, ...] = (),
        weigh: Callable[[], int] = lambda: 1,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._advertise = advertise
        self._tags = tags
        self._weigh = weigh
        self._beat_seconds = beat_seconds
        self._process_id = new_id()
        self._registrations: tuple[Registration, ...] = ()
        self._beating: asyncio.Task[None] | None = None

    async def register(self, instance: Instance) -> None:
        """Announce `instance`; when the agent is away, as soon as it is back."""
        self._registrations = tuple(
            self._registration(service, address) for service, address in instance.addresses.items()
        )
        away = await self._announce()
        if away:
            _logger.warning("consul_away", agent=self._client.address, error=away)
        # house: naked-task: ended by `deregister`
        self._beating = asyncio.create_task(self._beat(away), name="consul-heartbeat")

    async def deregister(self, instance: Instance) -> None:
        """Take the announcement back; from now on nobody new is sent here."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait({self._beating})
            self._beating = None
        results = await asyncio.gather(
            *(self._client.deregister(one.service_id) for one in self._registrations),
            return_exceptions=True,
        )
        self._registrations = ()
        for result in results:
            if isinstance(result, UnknownCheck):
                continue
            if isinstance(result, ConsulAway):
                # Our check will fail, and the agent then forgets us by itself.
                _logger.warning("consul_deregister_failed", error=str(result))
            elif isinstance(result, BaseException):
                raise result

    def _registration(self, service: str, address: str) -> Registration:
        host, _, port = address.rpartition(":")
        return Registration(
            service_id=f"{self._prefix}{service}-{self._process_id}",
            name=f"{self._prefix}{service}",
            host=self._advertise or host.strip("[]"),
            port=int(port),
            weight=self._weigh(),
            tags=self._tags,
            ttl_seconds=TTL_SECONDS,
            forget_seconds=FORGET_SECONDS,
        )

    async def _beat(self, away: str) -> None:
        while True:
            await asyncio.sleep(self._beat_seconds)
            try:
                await self._tell_weight()
                for one in self._registrations:
                    await self._client.pass_check(one.check_id)
                error = ""
            except UnknownCheck as unknown:
                _logger.info("consul_registers_again", reason=str(unknown))
                error = await self._announce()
            except ConsulAway as failure:
                error = str(failure)
            if error != away and error:
                _logger.warning("consul_away", agent=self._client.address, error=error)
            elif away and not error:
                _logger.info("consul_back", agent=self._client.address)
            away = error

    async def _tell_weight(self) -> None:
        now = self._weigh()
        told = tuple(
            replace(one, weight=now) if abs(one.weight - now) >= NOTICEABLE else one
            for one in self._registrations
        )
        for before, one in zip(self._registrations, told, strict=True):
            if one is not before:
                await self._client.register(one)
        self._registrations = told

    async def _announce(self) -> str:
        """Register every service. Returns why it failed; empty: it did not."""
        try:
            for one in self._registrations:
                await self._client.register(one)
        except ConsulAway as error:
            return str(error)
        return ""


class ConsulDiscovery:
    """Watches peers, each by one question that the agent holds until something changes."""

    def __init__(self, client: ConsulClient, *, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._known: dict[str, Known] = {}
        self._watching: list[asyncio.Task[None]] = []

    def watch(self, peer: str) -> AsyncGenerator[tuple[Endpoint, ...], None]:
        """Yield the instances of `peer`, those now and then after each change."""
        known = self._known.get(peer)
        if known is None:
            known = self._known[peer] = Known()
            # house: naked-task: ended by `close`
            task = asyncio.create_task(self._follow(peer, known), name=f"consul-watch-{peer}")
            self._watching.append(task)
        return known.watch()

    async def close(self) -> None:
        """Stop watching."""
        for task in self._watching:
            task.cancel()
        if self._watching:
            await asyncio.wait(self._watching)
        self._watching.clear()

    async def _follow(self, peer: str, known: Known) -> None:
        index = failures = 0
        while True:
            try:
                index, endpoints = await self._client.healthy(f"{self._prefix}{peer}", index)
            except ConsulAway as error:
                failures += 1
                if failures == 1:
                    _logger.warning("consul_watch_failed", peer=peer, error=str(error))
                # Not 0: others are told to come back as well.
                await asyncio.sleep(SETTLE_SECONDS + AGAIN.delay_seconds(failures))
                # What we waited for may have happened meanwhile, or the agent began anew.
                index = 0
                continue
            failures = 0
            if known.tell(endpoints):
                _logger.info(
                    "peer_instances", peer=peer, instances=[one.address for one in endpoints]
                )
            elif not endpoints and known.endpoints:
                _logger.warning("peer_instances_kept", peer=peer, instances=len(known.endpoints))
            await asyncio.sleep(SETTLE_SECONDS)
