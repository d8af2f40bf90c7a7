"""Restarting every service under load: no call fails and no turn is lost (reliability.md R-18)."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from meshwright_common.settings import SERVICE_NAMES
from meshwright_common.testing.servers.consul import ConsulServer
from meshwright_common.testing.waiting import eventually
from tests.fleet import Fleet, running_fleet
from tests.sse import ENDS

pytestmark = pytest.mark.asyncio

TOKENS = 20
MODEL = f"sim-n{TOKENS}-tps25"
"""Not a second of text."""
TURN_CLIENTS = 3
ROUTE_CLIENTS = 2
PAUSE_SECONDS = 0.1
ROUTES = ("models", "sessions", "tools", "knowledge-bases", "agents", "tasks", "me")
"""One route at least that needs each service."""
QUICK = {"MESHWRIGHT_LIFECYCLE__DRAIN_DELAY_SECONDS": "1"}


@dataclass(slots=True)
class Asked:
    """A turn as its client saw it."""

    turn_id: str = ""
    session_id: str = ""
    answer: str = ""
    last_event_id: str = ""
    sequences: list[int] = field(default_factory=list)
    ended: str = ""
    resumed: int = 0


class Balancer:
    """What stands before gateways: it sends new requests to those that say they are ready."""

    def __init__(self, http: aiohttp.ClientSession, gateways: dict[str, bool]) -> None:
        self._http = http
        self._gateways = gateways
        self._turns = itertools.count()

    def choose(self) -> str:
        """Return the URL of a gateway that is ready, in turns."""
        ready = [url for url, is_ready in self._gateways.items() if is_ready]
        assert ready, "no gateway is ready"
        return ready[next(self._turns) % len(ready)]

    async def watch(self) -> None:
        """Ask all gateways ten times a second."""
        while True:
            for url in self._gateways:
                try:
                    async with self._http.get(f"{url}/health/ready") as answer:
                        self._gateways[url] = answer.status == 200
                except aiohttp.ClientError:
                    self._gateways[url] = False
            await asyncio.sleep(0.1)


class Load:
    """Clients that ask at a steady rate until `stop`; every failure is noted, none is repeated."""

    def __init__(self, http: aiohttp.ClientSession, balancer: Balancer) -> None:
        self.failures: list[str] = []
        self.turns: list[Asked] = []
        self.calls = 0
        self._http = http
        self._balancer = balancer
        self._over = False

    def stop(self) -> None:
        """Begin nothing more."""
        self._over = True

    async def ask_turns(self) -> None:
        """Ask one question after the other."""
        while not self._over:
            asked = Asked()
            self.turns.append(asked)
            try:
                await self._ask(asked)
            except (aiohttp.ClientError, AssertionError) as error:
                self.failures.append(f"turn: {error!r}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def get_routes(self) -> None:
        """Get one route after the other."""
        for route in itertools.cycle(ROUTES):
            if self._over:
                return
            url = self._balancer.choose()
            try:
                async with self._http.get(f"{url}/api/v1/{route}") as answer:
                    self.calls += 1
                    if answer.status != 200:
                        self.failures.append(f"{route}: {answer.status} {await answer.text()}")
            except aiohttp.ClientError as error:
                self.failures.append(f"{route}: {error!r}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _ask(self, asked: Asked) -> None:
        body = {"message": "Count.", "model": MODEL, "agent": "chat"}
        url = self._balancer.choose()
        async with self._http.post(f"{url}/api/v1/chat", json=body) as answer:
            await self._read(answer, asked)
        while not asked.ended:
            # The connection went with its gateway; the turn did not.
            asked.resumed += 1
            assert asked.resumed < 5, "resumed again and again"
            url = f"{self._balancer.choose()}/api/v1/turns/{asked.turn_id}/events"
            headers = {"last-event-id": asked.last_event_id}
            async with self._http.get(url, headers=headers) as answer:
                await self._read(answer, asked)

    async def _read(self, answer: aiohttp.ClientResponse, asked: Asked) -> None:
        self.calls += 1
        assert answer.status == 200, f"{answer.status} {await answer.text()}"
        event_id = name = ""
        async for raw in answer.content:
            key, _, value = raw.decode().rstrip("\n").partition(": ")
            if key == "id":
                event_id = value
            elif key == "event":
                name = value
            elif key == "data":
                self._take(asked, event_id, name, json.loads(value))

    def _take(self, asked: Asked, event_id: str, name: str, data: dict[str, object]) -> None:
        if name == "error":
            # Of the stream, not of the turn: to be resumed behind the last event.
            return
        asked.last_event_id = event_id
        asked.sequences.append(int(event_id.rpartition(":")[2]))
        asked.turn_id = str(data.get("turn_id", asked.turn_id))
        asked.session_id = str(data.get("session_id", asked.session_id))
        if name == "message.delta":
            asked.answer += str(data["text"])
        elif name == "turn.restarted":
            asked.answer = asked.answer[: int(str(data["keep_characters"]))]
        if name in ENDS:
            asked.ended = name


@asynccontextmanager
async def loaded(fleet: Fleet) -> AsyncIterator[Load]:
    """Put a steady load on the gateways of a fleet inside the block, then check every call."""
    key = await fleet.api_key()
    gateways = [one.url for one in fleet.instances.values() if one.service == "gateway"]
    # A connection for each request, as from many clients.
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, limit=0),
        headers={"authorization": f"Bearer {key}"},
        timeout=aiohttp.ClientTimeout(total=60),
    ) as http:
        balancer = Balancer(http, dict.fromkeys(gateways, True))
        load = Load(http, balancer)
        watching = asyncio.create_task(balancer.watch())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(TURN_CLIENTS):
                    group.create_task(load.ask_turns())
                for _ in range(ROUTE_CLIENTS):
                    group.create_task(load.get_routes())
                try:
                    yield load
                finally:
                    load.stop()
            await check_turns(http, balancer.choose(), load)
        finally:
            watching.cancel()


async def check_turns(http: aiohttp.ClientSession, url: str, load: Load) -> None:
    """No call failed; every question was answered once, whole, and is stored as it was seen."""
    assert load.failures == []
    for asked in load.turns:
        assert asked.ended == "turn.completed", asked
        assert asked.sequences == [*range(1, len(asked.sequences) + 1)]
        assert len(asked.answer.split()) == TOKENS
        async with http.get(f"{url}/api/v1/turns/{asked.turn_id}") as answer:
            turn = await answer.json()
        assert (turn["state"], turn["answer"]) == ("completed", asked.answer)
        async with http.get(f"{url}/api/v1/sessions/{asked.session_id}/messages") as answer:
            messages = (await answer.json())["messages"]
        assert sorted(one["role"] for one in messages) == ["assistant", "user"]


@pytest.mark.promise("MESH-01")
@pytest.mark.timeout(300)
async def test_restarting_two_instances_of_each_service_fails_no_call(
    tmp_path: Path, consul_server: str, provider_environment: dict[str, str]
) -> None:
    registry = {"MESHWRIGHT_REGISTRY__URL": consul_server.replace("http", "consul")}
    environment = {**provider_environment, **registry, **QUICK}
    async with running_fleet(tmp_path / "data", environment) as fleet, loaded(fleet) as load:
        for service in SERVICE_NAMES:
            for number in (1, 2):
                await fleet.restart(fleet.instances[service, number])
    assert len(load.turns) > TURN_CLIENTS
    assert load.calls > 100


@pytest.mark.promise("MESH-02")
@pytest.mark.timeout(240)
async def test_a_registry_that_is_away_and_comes_back_empty_fails_no_call(
    tmp_path: Path, provider_environment: dict[str, str]
) -> None:
    consul = ConsulServer(tmp_path / "consul")
    consul.start()
    environment = {**provider_environment, **consul.variables, **QUICK}
    try:
        async with running_fleet(tmp_path / "data", environment) as fleet, loaded(fleet) as load:
            await asks_more(load)
            consul.kill()
            await asks_more(load)
            forget(consul)
            consul.start()
            await asks_more(load)
            # What the registry knows again is enough to lose an instance in peace.
            await registered_again(consul, fleet)
            await fleet.stop(fleet.instances["session", 1])
            await asks_more(load)
    finally:
        consul.stop()


async def asks_more(load: Load) -> None:
    """Return when every client has had another few answers."""
    turns, calls = len(load.turns), load.calls
    await eventually(
        lambda: len(load.turns) >= turns + 2 * TURN_CLIENTS and load.calls >= calls + 20,
        timeout_seconds=30,
    )


def forget(consul: ConsulServer) -> None:
    """Delete all that a registry knows."""
    shutil.rmtree(consul.folder / "data")


async def registered_again(consul: ConsulServer, fleet: Fleet) -> None:
    """Return when the registry lists every instance where it takes requests."""
    wanted = {one.http_port or one.port for one in fleet.instances.values()}

    async def lists_all() -> bool:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{consul.url}/v1/agent/services") as answer,
        ):
            return {one["Port"] for one in (await answer.json()).values()} == wanted

    await eventually(lists_all, timeout_seconds=20)
