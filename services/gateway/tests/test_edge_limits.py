"""Limits of requests over HTTP: refusals, headers, whom they count, and changes on the fly (G7)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from meshwright.session.v1 import tenant_pb2
from meshwright_common.settings import RedisSettings, SettingsError
from meshwright_common.storage.redis import open_redis
from meshwright_common.testing.waiting import eventually
from meshwright_gateway.adapters.redis_counters import RedisCounters
from meshwright_gateway.limits.client_address import ClientAddresses
from meshwright_gateway.limits.limit_file import LimitFile
from meshwright_gateway.limits.limit_settings import LimitsSection, networks
from meshwright_gateway.settings import GatewaySection
from services.gateway.tests.platform import Platform, running

CHAT = {"message": "a", "stream": False}
COMPLETION = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def limits(**given: Any) -> dict[str, Any]:
    return {"limits": LimitsSection.model_validate(given)}


@asynccontextmanager
async def two_gateways(redis: RedisSettings, **given: Any) -> AsyncIterator[list[Platform]]:
    async with (
        open_redis(redis) as client,
        running(counters=RedisCounters(client, "one"), **limits(**given)) as one,
        running(counters=RedisCounters(client, "two"), **limits(**given)) as two,
    ):
        # The same user at both.
        two.key = two.peers.directory.give_key(one.caller)
        two.headers = {"authorization": f"Bearer {two.key}"}
        yield [one, two]


@pytest.mark.asyncio
@pytest.mark.promise("RATE-03")
async def test_a_user_of_the_starter_plan_has_the_free_tier() -> None:
    async with running() as platform:
        platform.peers.directory.plan = tenant_pb2.PLAN_STARTER
        began = time.monotonic()
        answers: list[aiohttp.ClientResponse] = []
        while not answers or answers[-1].status == 200:
            answers.append(await platform.post("/v1/embeddings", {"model": "m", "input": "x"}))
        # One more is let in every three seconds, which a starved machine may take.
        assert 20 <= len(answers) - 1 <= 21 + (time.monotonic() - began) / 3
        assert answers[0].headers["x-ratelimit-limit-requests"] == "20"
        assert answers[0].headers["x-ratelimit-remaining-requests"] == "19"
        assert answers[-1].status == 429
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 3
        problem = await answers[-1].json()
        assert problem["error"]["code"] == "rate_limit_exceeded"
        # What is no work is not counted among it.
        assert (await platform.get("/api/v1/sessions")).status == 200


@pytest.mark.asyncio
async def test_a_route_has_a_limit_of_its_own_and_says_so() -> None:
    async with running(**limits(routes={"chat": {"per_minute": 2}})) as platform:
        answers = [await platform.post("/api/v1/chat", CHAT) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        # The tightest of all limits is told.
        assert answers[1].headers["x-ratelimit-limit-requests"] == "2"
        assert answers[1].headers["x-ratelimit-remaining-requests"] == "0"
        refusal = answers[2]
        assert refusal.content_type == "application/problem+json"
        problem = await refusal.json()
        assert (problem["status"], problem["code"]) == (429, "RESOURCE_EXHAUSTED")
        assert problem["metadata"]["limit"] == "route chat"
        assert int(refusal.headers["retry-after"]) == -(-problem["retry_after_ms"] // 1000)
        assert (await platform.post("/v1/chat/completions", COMPLETION)).status == 200


@pytest.mark.asyncio
@pytest.mark.promise("RATE-03")
async def test_the_official_client_sees_a_rate_limit_error() -> None:
    tiers = {"enterprise": {"per_minute": 1}}
    async with running(**limits(tiers=tiers)) as platform:
        client = openai.AsyncOpenAI(
            api_key=platform.key, base_url=f"{platform.url}/v1", max_retries=0
        )
        async with client:
            ask: Any = client.embeddings.create
            await ask(model="m", input="x")
            with pytest.raises(openai.RateLimitError) as refused:
                await ask(model="m", input="x")
        assert refused.value.code == "rate_limit_exceeded"
        assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.value.response.headers["x-should-retry"] == "true"


@pytest.mark.asyncio
async def test_gateways_share_limits_and_places(redis_settings: RedisSettings) -> None:
    tiers = {"enterprise": {"per_minute": 1000, "concurrent": 3}}
    async with two_gateways(redis_settings, tiers=tiers) as (one, two):
        for platform in (one, two):
            platform.peers.models.endless = True
        body = {**COMPLETION, "stream": True}
        streams = [
            await platform.http.post(
                f"{platform.url}/v1/chat/completions", json=body, headers=platform.headers
            )
            for platform in (one, two, one)
        ]
        assert [stream.status for stream in streams] == [200, 200, 200]
        refused = await two.post("/v1/chat/completions", COMPLETION)
        assert refused.status == 429
        assert (await refused.json())["error"]["type"] == "rate_limit_exceeded"
        assert refused.headers["retry-after"] == "1"

        streams[0].close()

        async def let_in() -> bool:
            answer = await two.http.post(
                f"{two.url}/v1/chat/completions", json=body, headers=two.headers
            )
            streams.append(answer)
            return answer.status == 200

        await eventually(let_in)
        for stream in streams:
            stream.close()
        await eventually(lambda: not one.gateway.limits.requests._holders)
        await eventually(lambda: not two.gateway.limits.requests._holders)


@pytest.mark.asyncio
@pytest.mark.parametrize("phase", ["before the body", "before the first token", "in the middle"])
@pytest.mark.promise("RATE-04")
async def test_a_client_that_leaves_gives_its_place_back(phase: str) -> None:
    """R-14, F-50: whenever it leaves, the generation ends and the place is free."""
    tiers = {"enterprise": {"per_minute": 1000, "concurrent": 1}}
    async with running(**limits(tiers=tiers)) as platform:
        models = platform.peers.models
        gate = asyncio.Event()
        models.gate = gate if phase == "before the first token" else None
        models.endless = phase == "in the middle"
        reader, writer = await platform.raw()
        body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}'
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {platform.key}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + (body[:5] if phase == "before the body" else body))
        requests = platform.gateway.limits.requests
        await eventually(lambda: len(requests._holders) == 1)
        if phase == "before the first token":
            await eventually(lambda: models.open_streams == 1)
        elif phase == "in the middle":
            await reader.readuntil(b"data: ")

        writer.transport.abort()

        await eventually(lambda: models.open_streams == 0 and not requests._holders)
        models.gate, models.endless = None, False
        assert (await platform.post("/v1/chat/completions", COMPLETION)).status == 200


@pytest.mark.asyncio
@pytest.mark.promise("RATE-07")
async def test_refused_keys_and_no_keys_count_for_the_address() -> None:
    async with running(**limits(address={"per_second": 1, "burst": 3})) as platform:
        look_ups = platform.peers.directory.look_ups
        statuses = []
        for key in ("", "nonsense", "mw_nobody", "mw_nobody"):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            answer = await platform.http.get(f"{platform.url}/api/v1/sessions", headers=headers)
            statuses.append(answer.status)
        assert statuses == [401, 401, 401, 429]
        # The user behind the same address, too; and nobody is asked about the key any more.
        assert (await platform.get("/api/v1/sessions")).status == 429
        assert platform.peers.directory.look_ups == look_ups
        # Whoever looks after the platform is never refused.
        assert (await platform.get("/health/ready")).status == 200


@pytest.mark.asyncio
@pytest.mark.promise("OVER-02")
async def test_health_is_answered_when_nothing_else_is() -> None:
    """R-16: health and metrics are never shed."""
    async with running(load={"least": 1, "most": 1}) as platform:
        load = platform.gateway.limits.load
        assert load.try_enter()
        refused = await platform.get("/api/v1/sessions")
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert (await refused.json())["code"] == "UNAVAILABLE"
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert (await platform.get(path)).status == 200
        load.leave()
        assert (await platform.get("/api/v1/sessions")).status == 200
        assert load.running == 0


@pytest.mark.asyncio
@pytest.mark.promise("OVER-02")
async def test_a_stream_is_in_hand_until_its_first_byte_only() -> None:
    async with running() as platform:
        platform.peers.models.endless = True
        answer = await platform.http.post(
            f"{platform.url}/v1/chat/completions",
            json={**COMPLETION, "stream": True},
            headers=platform.headers,
        )
        await answer.content.readline()
        assert platform.gateway.limits.load.running == 0
        assert platform.gateway.answers.count == 1
        answer.close()


@pytest.mark.asyncio
@pytest.mark.promise("OVER-02")
async def test_whoever_sends_slowly_keeps_nobody_out() -> None:
    async with running(load={"least": 1, "most": 1}) as platform:
        _, writer = await platform.raw()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n"
            b"content-type: application/json\r\nauthorization: Bearer "
            + platform.key.encode()
            + b"\r\n\r\n{"
        )
        await eventually(lambda: len(platform.gateway.limits.requests._holders) == 1)
        await eventually(lambda: platform.gateway.limits.load.running == 0)
        assert (await platform.get("/api/v1/sessions")).status == 200
        writer.transport.abort()


@pytest.mark.asyncio
@pytest.mark.promise("RATE-05")
async def test_limits_change_while_the_gateway_runs(tmp_path: Path) -> None:
    """Within 2 s; a file that cannot be used changes nothing."""
    file = tmp_path / "limits.yaml"
    file.write_text("routes: {chat: {per_minute: 1}}\n")
    async with running(**limits(file=str(file))) as platform:
        assert (await platform.post("/api/v1/chat", CHAT)).status == 200
        assert (await platform.post("/api/v1/chat", CHAT)).status == 429

        file.write_text("routes: {chat: {per_minute: many}}\n")
        refused = "meshwright_limits_file_refused"

        async def shows(value: str) -> bool:
            metrics = await (await platform.get("/metrics")).text()
            return f"{refused} {value}\n" in metrics

        await eventually(lambda: shows("1.0"))
        assert (await platform.post("/api/v1/chat", CHAT)).status == 429

        file.write_text("routes: {chat: {per_minute: 1000}}\n")

        async def let_in() -> bool:
            return (await platform.post("/api/v1/chat", CHAT)).status == 200

        await eventually(let_in)
        assert await shows("0.0")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("tiers: {free: {per_minute: -1}}", "tiers.free.per_minute"),
        ("tier_of_plan: {starter: gold}", "no tier is named 'gold'"),
        ("routes: {x: {per_minute: 1}}", "routes.x.paths"),
        ("work: ['/api/v1/chat']", "is not a method and a path"),
        ("nonsense: 1", "nonsense"),
        ("replicas: 3", "replicas is a setting"),
        ("- 1", "must hold a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_at_the_start_with_what_is_wrong(
    tmp_path: Path, content: str, told: str
) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError) as refused:
        LimitFile(LimitsSection(file=str(file))).first()
    assert told in str(refused.value)
    assert "MESHWRIGHT_GATEWAY__LIMITS__FILE" in str(refused.value)


def test_what_is_not_said_stays_as_it_is() -> None:
    section = LimitsSection.model_validate(
        {"tiers": {"free": {"concurrent": 7}, "gold": {"per_minute": 5, "concurrent": 1}}}
    )
    assert section.tiers["free"].per_minute == 20
    assert section.tiers["free"].concurrent == 7
    assert section.tiers["pro"].per_minute == 100
    assert section.tiers["gold"].per_minute == 5


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("9.9.9.9", b"1.2.3.4", "9.9.9.9"),
        ("10.0.0.1", b"1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", b"6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", b"1.2.3.4, nonsense", "10.0.0.1"),
        ("10.0.0.1", b"", "10.0.0.1"),
        ("::ffff:10.0.0.1", b"1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", b"2001:db8:1:2:3:4:5:6", "20010db800010002"),
        ("2001:db8:1:2::9", b"", "20010db800010002"),
    ],
)
@pytest.mark.promise("RATE-07")
def test_an_address_is_told_by_trusted_proxies_only(
    peer: str, forwarded: bytes, counted: str
) -> None:
    addresses = ClientAddresses(networks(("10.0.0.0/8",)))
    assert addresses.group_of(peer, {b"x-forwarded-for": forwarded}) == counted
    assert ClientAddresses(()).group_of("10.0.0.1", {b"x-forwarded-for": forwarded}) == "10.0.0.1"


def test_a_wrong_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"'10\.0\.0\.0/99' is not a network"):
        GatewaySection(trusted_proxies=("10.0.0.0/99",))
