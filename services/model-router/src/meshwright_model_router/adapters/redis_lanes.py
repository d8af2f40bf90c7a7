"""What a deployment can carry, all replicas together: requests and tokens a minute, and calls at
once. Counted in Redis in one step; without Redis each replica keeps to its part.

A minute is a sliding window of one-second counters, as sliding window logs are, to the second: in
no 60 seconds is more than the limit begun. Tokens are those that a request may use; what it did not
use is given back to its second when it ends.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from redis.exceptions import NoScriptError, ResponseError

from meshwright_common.clock import Clock
from meshwright_common.storage.redis import (
    CacheUnavailable,
    RedisClient,
    tenant_key,
    translated_errors,
)
from meshwright_model_router.adapters.budget_scripts import Script
from meshwright_model_router.adapters.redis_books import PLATFORM
from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.errors import DeploymentLimited
from meshwright_model_router.domain.routing import DeploymentLimits

FAMILY: Final = "lanes"
WINDOW_SECONDS: Final = 60
UNLIMITED: Final = DeploymentLimits()

# KEYS: calls, minute. ARGV: id, lease milliseconds, requests, tokens and calls at once (0: any),
# tokens wanted. Answers {0, second}, or what is full (1 requests, 2 tokens, 3 calls) and the
# seconds until there is room.
_ENTER: Final = Script("""
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = second * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
local most = tonumber(ARGV[5])
if most > 0 and redis.call('ZCARD', KEYS[1]) >= most then return {3, 1} end
local sums = {r = 0, t = 0}
local oldest = second
local fields = redis.call('HGETALL', KEYS[2])
for place = 1, #fields, 2 do
    local kind, at = string.sub(fields[place], 1, 1), tonumber(string.sub(fields[place], 2))
    if at <= second - 60 then
        redis.call('HDEL', KEYS[2], fields[place])
    else
        sums[kind] = sums[kind] + tonumber(fields[place + 1])
        if at < oldest then oldest = at end
    end
end
local requests, tokens = tonumber(ARGV[3]), tonumber(ARGV[4])
local wanted = tonumber(ARGV[6])
if requests > 0 and sums.r + 1 > requests then return {1, oldest + 60 - second} end
if tokens > 0 and sums.t + wanted > tokens then return {2, oldest + 60 - second} end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('HINCRBY', KEYS[2], 'r' .. second, 1)
if wanted > 0 then redis.call('HINCRBY', KEYS[2], 't' .. second, wanted) end
redis.call('EXPIRE', KEYS[2], 61)
return {0, second}
""")

# KEYS: calls, minute. ARGV: id, second, tokens given back.
_LEAVE: Final = Script("""
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
local held = redis.call('HGET', KEYS[2], 't' .. ARGV[2])
if held then
    redis.call('HINCRBY', KEYS[2], 't' .. ARGV[2], -math.min(tonumber(held), tonumber(ARGV[3])))
end
return 1
""")
# KEYS: calls, minute. ARGV: id, lease milliseconds. A call whose lease was lost has it again.
_KEEP: Final = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
""")
_NAMES: Final = {1: "requests_per_minute", 2: "tokens_per_minute", 3: "concurrent_requests"}


@dataclass(frozen=True, slots=True)
class Place:
    """A call's place in a deployment's lane. `second` None: counted here alone."""

    reservation_id: str
    deployment: Deployment
    tokens: int
    second: int | None


@dataclass(slots=True)
class _Local:
    """What this replica began in the last minute, and what runs of it."""

    began: deque[tuple[float, int]] = field(default_factory=deque)
    running: set[str] = field(default_factory=set)


class RedisLanes:
    """Lanes of deployments. `parts`: replicas that share them while Redis is away."""

    def __init__(
        self, client: RedisClient, clock: Clock, *, lease_milliseconds: int, parts: int
    ) -> None:
        self._client = client
        self._clock = clock
        self._lease = lease_milliseconds
        self._parts = parts
        self._local: dict[tuple[str, str], _Local] = {}
        self._places: dict[str, Place] = {}

    async def enter(self, deployment: Deployment, reservation_id: str, tokens: int) -> Place | None:
        """Take a place for a request that may use so many tokens; None: nothing is limited.

        Raises: DeploymentLimited with the seconds until there may be room.
        """
        limits = deployment.limits
        if limits == UNLIMITED:
            return None
        # A request that alone is more than a minute's tokens has the minute for itself.
        wanted = min(tokens, limits.tokens_per_minute) if limits.tokens_per_minute else tokens
        try:
            status, number = await self._evaluate(
                _ENTER,
                deployment,
                (
                    *(reservation_id, self._lease, limits.requests_per_minute),
                    *(limits.tokens_per_minute, limits.concurrent_requests, wanted),
                ),
            )
        except CacheUnavailable:
            place = self._enter_local(deployment, reservation_id, wanted)
        else:
            if status:
                raise _limited(deployment, int(status), float(number))
            place = Place(reservation_id, deployment, wanted, int(number))
        self._places[reservation_id] = place
        return place

    def _enter_local(self, deployment: Deployment, reservation_id: str, wanted: int) -> Place:
        limits, lane = deployment.limits, self._local.setdefault(deployment.key, _Local())
        now = self._clock.monotonic()
        while lane.began and lane.began[0][0] <= now - WINDOW_SECONDS:
            lane.began.popleft()
        used = {
            1: (limits.requests_per_minute, len(lane.began) + 1),
            2: (limits.tokens_per_minute, sum(one for _, one in lane.began) + wanted),
            3: (limits.concurrent_requests, len(lane.running) + 1),
        }
        for status, (limit, needed) in used.items():
            if limit and needed > limit // self._parts:
                raise _limited(deployment, status, 1.0)
        lane.began.append((now, wanted))
        lane.running.add(reservation_id)
        return Place(reservation_id, deployment, wanted, None)

    async def leave(self, place: Place, tokens: int) -> None:
        """Give a place back, and the tokens that were not used. Never raises for Redis."""
        self._places.pop(place.reservation_id, None)
        if place.second is None:
            lane = self._local.get(place.deployment.key)
            if lane is not None:
                lane.running.discard(place.reservation_id)
            return
        unused = max(0, place.tokens - tokens)
        try:
            await self._evaluate(
                _LEAVE, place.deployment, (place.reservation_id, place.second, unused)
            )
        except CacheUnavailable:
            return  # its lease ends by itself

    async def renew(self) -> None:
        """Renew the leases of calls that run. Raises: CacheUnavailable."""
        for place in list(self._places.values()):
            if place.second is not None:
                arguments = (place.reservation_id, self._lease)
                await self._evaluate(_KEEP, place.deployment, arguments)

    async def _evaluate(
        self, script: Script, deployment: Deployment, arguments: tuple[str | int, ...]
    ) -> tuple[int, int]:
        keys = _keys(deployment)
        with translated_errors():
            try:
                answer = await self._client.execute_command(
                    "EVALSHA", script.sha1, len(keys), *keys, *arguments
                )
            except NoScriptError:
                answer = await self._client.execute_command(
                    "EVAL", script.text, len(keys), *keys, *arguments
                )
            except ResponseError as refused:
                raise CacheUnavailable("Limits cannot be counted.", cause=str(refused)) from refused
        return (int(answer), 0) if isinstance(answer, int) else (int(answer[0]), int(answer[1]))


def _limited(deployment: Deployment, status: int, seconds: float) -> DeploymentLimited:
    return DeploymentLimited(
        retry_after_seconds=max(1.0, seconds), deployment=deployment.name, limit=_NAMES[status]
    )


def _keys(deployment: Deployment) -> tuple[str, str]:
    name = hashlib.blake2b(deployment.name.encode(), digest_size=12).hexdigest()
    owner = deployment.tenant_id or PLATFORM
    return tenant_key(owner, FAMILY, name, "calls"), tenant_key(owner, FAMILY, name, "minute")
