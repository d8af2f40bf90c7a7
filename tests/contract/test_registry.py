"""The registry: one suite for addresses from the settings and for Consul, then what Consul adds."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest
import pytest_asyncio

from meshwright_common.ids import new_id
from meshwright_common.registry.consul import (
    ConsulDiscovery,
    ConsulRegistrar,
)
from meshwright_common.registry.consul_http import ConsulAway, ConsulClient, Registration
from meshwright_common.registry.known import Known
from meshwright_common.registry.ports import Discovery, Endpoint, Instance, Registrar
from meshwright_common.registry.static import StaticDiscovery, StaticRegistrar
from meshwright_common.testing.servers.consul import ConsulServer
from meshwright_common.testing.waiting import eventually

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

FIRST = Endpoint("127.0.0.1:7001", 1)
SECOND = Endpoint("127.0.0.1:7002", 1)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A registry that knows two instances of rag, of weight 1."""

    discovery: Discovery
    registrar: Registrar


class Consul:
    """Processes that share an agent and a prefix that nobody else has."""

    def __init__(self, url: str, prefix: str = "") -> None:
        self.url = url
        self.prefix = prefix or f"test-{new_id()[-12:]}-"
        self.client = ConsulClient(url.replace("http", "consul"))
        self.discovery = ConsulDiscovery(self.client, prefix=self.prefix)
        self.registrar = self.process()

    def process(self, weigh: Callable[[], int] = lambda: 1) -> ConsulRegistrar:
        """Return the registrar of another process."""
        return ConsulRegistrar(
            self.client,
            prefix=self.prefix,
            tags=("version-1.2.3",),
            weigh=weigh,
            beat_seconds=0.1,
        )

    async def listed(self, service: str) -> list[dict[str, Any]]:
        """Return what Consul itself lists as healthy."""
        url = f"{self.url}/v1/health/service/{self.prefix}{service}?passing=1"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            listed: list[dict[str, Any]] = await answer.json()
            return listed

    async def close(self) -> None:
        await self.discovery.close()
        await self.client.close()


@asynccontextmanager
async def registered(registrar: Registrar, *endpoints: Endpoint) -> AsyncIterator[None]:
    """Register one process of rag and chat per address inside the block."""
    for endpoint in endpoints:
        await registrar.register(rag_at(endpoint))
    yield
    for endpoint in endpoints:
        await registrar.deregister(rag_at(endpoint))


def rag_at(endpoint: Endpoint) -> Instance:
    return Instance({"rag": endpoint.address, "chat": endpoint.address})


@pytest_asyncio.fixture
async def consul(consul_server: str) -> AsyncIterator[Consul]:
    """A prefix of one's own on the shared server."""
    made = Consul(consul_server)
    yield made
    await made.close()


@pytest_asyncio.fixture(params=["static", "consul"])
async def arrangement(
    request: pytest.FixtureRequest, consul_server: str
) -> AsyncIterator[Arrangement]:
    """Every registry there is, with two instances of rag."""
    if request.param == "static":
        addresses = {"rag": [SECOND.address, FIRST.address]}
        yield Arrangement(StaticDiscovery(addresses), StaticRegistrar())
        return
    made = Consul(consul_server)
    async with registered(made.process(), FIRST), registered(made.process(), SECOND):
        yield Arrangement(made.discovery, made.registrar)
    await made.close()


@pytest_asyncio.fixture
async def own_consul(tmp_path: Path) -> AsyncIterator[ConsulServer]:
    """A server that the test may stop, freeze and wipe."""
    server = ConsulServer(tmp_path / "consul")
    server.start()
    yield server
    server.resume()
    server.stop()


async def watched(discovery: Discovery, until: tuple[Endpoint, ...]) -> list[tuple[Endpoint, ...]]:
    """Return what a watcher is told, up to `until`."""
    told: list[tuple[Endpoint, ...]] = []
    async with asyncio.timeout(60), aclosing(discovery.watch("rag")) as changes:
        async for endpoints in changes:
            told.append(endpoints)
            if endpoints == until:
                break
    return told


# --- every registry -------------------------------------------------------------------------------


@pytest.mark.promise("RG-01")
async def test_a_watcher_is_told_who_serves_sorted_and_once(arrangement: Arrangement) -> None:
    told = await watched(arrangement.discovery, (FIRST, SECOND))
    assert told[-1] == (FIRST, SECOND)
    async with aclosing(arrangement.discovery.watch("rag")) as changes:
        assert await anext(changes) == (FIRST, SECOND)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(changes), 0.3)


@pytest.mark.promise("RG-01")
async def test_a_second_watcher_is_told_at_once(arrangement: Arrangement) -> None:
    await watched(arrangement.discovery, (FIRST, SECOND))
    async with asyncio.timeout(0.1), aclosing(arrangement.discovery.watch("rag")) as changes:
        assert await anext(changes) == (FIRST, SECOND)


@pytest.mark.promise("RG-03")
async def test_taking_back_what_is_not_there_does_nothing(arrangement: Arrangement) -> None:
    await arrangement.registrar.deregister(rag_at(FIRST))
    async with registered(arrangement.registrar, Endpoint("127.0.0.1:7003")):
        pass
    await arrangement.registrar.deregister(rag_at(FIRST))
    assert (await watched(arrangement.discovery, (FIRST, SECOND)))[-1] == (FIRST, SECOND)


@pytest.mark.promise("RG-02")
async def test_being_told_of_nobody_changes_nothing() -> None:
    """What all registries keep their answers in."""
    known = Known([SECOND, FIRST])
    assert known.tell([]) is False
    assert known.tell([FIRST, SECOND]) is False
    assert list(known.endpoints) == [FIRST, SECOND]
    assert known.tell([SECOND]) is True
    assert list(known.endpoints) == [SECOND]
    # An entry that the dead process left behind has the address of the living one.
    assert known.tell([Endpoint("a:1", 3), Endpoint("a:1", 9)]) is True
    assert list(known.endpoints) == [Endpoint("a:1", 9)]


# --- Consul ---------------------------------------------------------------------------------------


@pytest.mark.promise("RG-03")
async def test_each_service_is_registered_with_address_weight_and_tags(consul: Consul) -> None:
    process = consul.process(lambda: 42)
    async with registered(process, FIRST):
        for service in ("rag", "chat"):
            (entry,) = await consul.listed(service)
            found = entry["Service"]
            assert ("127.0.0.1", 7001) == (found["Address"], found["Port"])
            assert 42 == found["Weights"]["Passing"]
            assert ["version-1.2.3"] == found["Tags"]
            (check,) = [one for one in entry["Checks"] if one["ServiceID"] == found["ID"]]
            assert "ttl" == check["Type"]
    assert [] == await consul.listed("rag")
    assert [] == await consul.listed("chat")


@pytest.mark.promise("RG-03")
async def test_the_advertised_host_is_what_others_use(consul: Consul) -> None:
    process = ConsulRegistrar(consul.client, prefix=consul.prefix, advertise="10.1.2.3")
    async with registered(process, Endpoint("0.0.0.0:7001")):
        assert (await watched(consul.discovery, (Endpoint("10.1.2.3:7001", 1),)))[-1]


@pytest.mark.promise("RG-01")
async def test_who_comes_and_goes_is_seen_within_a_second(consul: Consul) -> None:
    first, second = consul.process(), consul.process()
    async with registered(first, FIRST), aclosing(consul.discovery.watch("rag")) as changes:
        assert await asyncio.wait_for(anext(changes), 20) == (FIRST,)
        await second.register(rag_at(SECOND))
        assert await asyncio.wait_for(anext(changes), 20) == (FIRST, SECOND)
        await second.deregister(rag_at(SECOND))
        assert await asyncio.wait_for(anext(changes), 20) == (FIRST,)


@pytest.mark.promise("RG-05")
async def test_a_weight_is_told_when_it_differs_noticeably(consul: Consul) -> None:
    now = 50
    async with registered(consul.process(lambda: now), FIRST):
        async with aclosing(consul.discovery.watch("rag")) as changes:
            assert await asyncio.wait_for(anext(changes), 20) == (Endpoint(FIRST.address, 50),)
            now = 52
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(changes), 0.5)
        async with aclosing(consul.discovery.watch("rag")) as changes:
            assert await anext(changes) == (Endpoint(FIRST.address, 50),)
            now = 80
            assert await asyncio.wait_for(anext(changes), 20) == (Endpoint(FIRST.address, 80),)


@pytest.mark.promise("RG-06")
async def test_a_process_that_falls_silent_is_no_longer_listed(consul: Consul) -> None:
    async with registered(consul.process(), FIRST):
        silent = Registration(
            service_id=f"{consul.prefix}rag-silent",
            name=f"{consul.prefix}rag",
            host="127.0.0.1",
            port=7002,
            weight=1,
            tags=(),
            ttl_seconds=1,
            forget_seconds=90,
        )
        await consul.client.register(silent)
        assert (await watched(consul.discovery, (FIRST, SECOND)))[-1] == (FIRST, SECOND)
        assert (await watched(consul.discovery, (FIRST,)))[-1] == (FIRST,)
        await consul.client.deregister(silent.service_id)


@pytest.mark.promise("RG-02")
async def test_the_last_one_that_leaves_stays_known(consul: Consul) -> None:
    async with registered(consul.process(), FIRST):
        await watched(consul.discovery, (FIRST,))
    await eventually(lambda: not_listed(consul))
    async with aclosing(consul.discovery.watch("rag")) as changes:
        assert await anext(changes) == (FIRST,)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(changes), 0.5)


async def not_listed(consul: Consul) -> bool:
    return not await consul.listed("rag")


@pytest.mark.promise("RG-02")
@pytest.mark.promise("RG-04")
async def test_an_agent_that_dies_and_forgets_is_told_again(own_consul: ConsulServer) -> None:
    consul = Consul(own_consul.url)
    first, second = consul.process(), consul.process()
    await first.register(rag_at(FIRST))
    await watched(consul.discovery, (FIRST,))
    own_consul.kill()
    # Away: the one that is known stays known, and a process that starts now is not held up.
    await asyncio.wait_for(second.register(rag_at(SECOND)), 20)
    async with aclosing(consul.discovery.watch("rag")) as changes:
        assert await anext(changes) == (FIRST,)
    shutil.rmtree(own_consul.folder / "data")
    own_consul.start()
    told = await watched(consul.discovery, (FIRST, SECOND))
    assert () not in told
    await first.deregister(rag_at(FIRST))
    assert (await watched(consul.discovery, (SECOND,)))[-1] == (SECOND,)
    await second.deregister(rag_at(SECOND))
    await consul.close()


@pytest.mark.promise("RG-04")
async def test_an_agent_that_stands_still_holds_nobody_up(own_consul: ConsulServer) -> None:
    consul = Consul(own_consul.url)
    first, second = consul.process(), consul.process()
    await first.register(rag_at(FIRST))
    await watched(consul.discovery, (FIRST,))
    own_consul.pause()
    await asyncio.wait_for(second.register(rag_at(SECOND)), 20)
    await asyncio.wait_for(first.deregister(rag_at(FIRST)), 20)
    own_consul.resume()
    # What was asked of it meanwhile it may still do, so the first one may be gone.
    async with asyncio.timeout(20), aclosing(consul.discovery.watch("rag")) as changes:
        async for endpoints in changes:
            if SECOND in endpoints:
                break
    await second.deregister(rag_at(SECOND))
    await consul.close()


@pytest.mark.promise("RG-02")
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"rpc error: No cluster leader"),
        (403, b"Permission denied"),
        (200, b"<html>a captive portal</html>"),
        (200, b'[{"Node": 7}]'),
        (200, b"["),
        (302, b""),
        (200, b"[" + b" " * (9 * 1024 * 1024) + b"]"),
    ],
)
async def test_nonsense_is_no_answer(status: int, body: bytes) -> None:
    """A stub, because a real agent does not answer so; what it is asked stands in other tests."""

    async def answer(_request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        headers = {"X-Consul-Index": "7", "location": "http://127.0.0.1:1/"}
        return aiohttp.web.Response(status=status, body=body, headers=headers)

    server = aiohttp.web.Server(answer)
    runner = aiohttp.web.ServerRunner(server)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = ConsulClient(f"consul://127.0.0.1:{runner.addresses[0][1]}")
    try:
        with pytest.raises(ConsulAway):
            await client.healthy("rag", 0)
    finally:
        await client.close()
        await runner.cleanup()


@pytest.mark.promise("RG-07")
async def test_the_token_of_the_url_is_sent_and_not_told() -> None:
    """A stub that sees the header: the shared server runs without access lists."""
    seen: list[str] = []

    async def answer(request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        seen.append(request.headers.get("X-Consul-Token", ""))
        return aiohttp.web.Response(status=403, body=b"Permission denied")

    runner = aiohttp.web.ServerRunner(aiohttp.web.Server(answer))
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    client = ConsulClient(f"consul://:a%2Fsecret@127.0.0.1:{runner.addresses[0][1]}")
    try:
        with pytest.raises(ConsulAway) as refused:
            await client.pass_check("one")
        assert ["a/secret"] == seen
        assert "secret" not in f"{refused.value}{client.address}"
    finally:
        await client.close()
        await runner.cleanup()
