"""The counters of all gateways, in Redis: one script looks at every limit and charges them.

Keys:  mw:{0…0}:limits:<what>     a rate: until when it is ahead of Redis' clock, in microseconds
       mw:{0…0}:places:<whom>     a hash: of each gateway how many places it holds, and until when

Limits cross tenants (an address, the whole), and a script's keys must have one slot of a cluster:
so all of them have the tenant of calls that have none. They end by themselves within minutes.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson
from redis.exceptions import NoScriptError, RedisError

from meshwright_common.storage.redis import (
    CacheUnavailable,
    RedisClient,
    tenant_key,
    translated_errors,
)
from meshwright_gateway.auth.credentials import NO_TENANT
from meshwright_gateway.limits.counters import Answer, Batch

PLACE_SECONDS: Final = 45
"""How long the places of a gateway that says nothing any more stay taken."""

# Everything by Redis' own clock: gateways need not agree on the time. Places belong to a gateway,
# which says each time how many it holds: a call whose answer was lost is mended by the next one.
_ADMIT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ask = cjson.decode(ARGV[1])
local rates, places = #ask.r, #ask.p
local levels, before, taken, held, answer = {}, {}, {}, {}, {}
if rates > 0 then
    local ends = redis.call('MGET', unpack(KEYS, 1, rates))
    for i = 1, rates do
        local interval, tolerance, debt = ask.r[i][1], ask.r[i][2], ask.r[i][3]
        local level = math.max((tonumber(ends[i] or '0') or 0) - now, 0)
        before[i] = level
        levels[i] = math.min(level + debt * interval, tolerance)
    end
end
for j = 1, places do
    local key = KEYS[rates + j]
    local sum = 0
    local fields = redis.call('HGETALL', key)
    for f = 1, #fields, 2 do
        if fields[f] ~= ask.g then
            local count, ends = string.match(fields[f + 1], '^(%d+):(%d+)$')
            if count and tonumber(ends) > now then
                sum = sum + tonumber(count)
            else
                redis.call('HDEL', key, fields[f])
            end
        end
    end
    held[j] = ask.p[j][1]
    taken[j] = sum + held[j]
end
for g = 1, #ask.q do
    local group = ask.q[g]
    local count = group[1]
    for n = 3, #group do
        local i = group[n] + 1
        local room = math.floor((ask.r[i][2] - levels[i]) / ask.r[i][1] + 0.000001)
        count = math.min(count, math.max(room, 0))
    end
    local j = group[2] + 1
    if j > 0 then
        count = math.max(math.min(count, ask.p[j][2] - taken[j]), 0)
        taken[j] = taken[j] + count
        held[j] = held[j] + count
    end
    for n = 3, #group do
        local i = group[n] + 1
        levels[i] = levels[i] + count * ask.r[i][1]
    end
    answer[g] = count
end
for i = 1, rates do
    if levels[i] ~= before[i] then
        redis.call('SET', KEYS[i], string.format('%.0f', now + levels[i]),
                   'PX', math.ceil(levels[i] / 1000) + 1000)
    end
    answer[#answer + 1] = string.format('%.0f', levels[i])
end
for j = 1, places do
    local key = KEYS[rates + j]
    if held[j] > 0 then
        redis.call('HSET', key, ask.g, held[j] .. ':' .. string.format('%.0f', now + ask.t))
        redis.call('PEXPIRE', key, math.ceil(ask.t / 1000) + 1000)
    else
        redis.call('HDEL', key, ask.g)
    end
    answer[#answer + 1] = taken[j]
end
return table.concat(answer, ' ')
"""
_ADMIT_SHA1: Final = hashlib.sha1(_ADMIT.encode(), usedforsecurity=False).hexdigest()


class RedisCounters:
    """Counters of which `gateway` holds places under its own name."""

    def __init__(
        self, client: RedisClient, gateway: str, *, place_seconds: float = PLACE_SECONDS
    ) -> None:
        self._client = client
        self._gateway = gateway
        self._place_us = round(place_seconds * 1_000_000)

    async def take(self, batch: Batch) -> Answer:
        """Let in what the limits allow. Raises: CacheUnavailable."""
        keys = [use.key for use in batch.rates] + [use.key for use in batch.places]
        # A script without keys has no place in a cluster.
        keys = keys or [rate_key("probe")]
        command = ("EVALSHA", _ADMIT_SHA1, len(keys), *keys, self._encoded(batch))
        try:
            with translated_errors():
                text = await self._run(command)
        except RedisError as error:
            # Not away, and yet of no use: no rights, or a version without what the script needs.
            raise CacheUnavailable("The limits cannot be counted.", cause=str(error)) from error
        return _answer(batch, text)

    async def _run(self, command: tuple[Any, ...]) -> bytes:
        try:
            text: bytes = await self._client.execute_command(*command)
        except NoScriptError:
            # A server that is empty, or new in a cluster.
            await self._client.script_load(_ADMIT)
            text = await self._client.execute_command(*command)
        return text

    def _encoded(self, batch: Batch) -> bytes:
        return orjson.dumps(
            {
                "g": self._gateway,
                "t": self._place_us,
                "r": [
                    (use.rate.interval_us, use.rate.tolerance_us, use.debt) for use in batch.rates
                ],
                "p": [(use.held, use.limit) for use in batch.places],
                "q": [(group.count, group.place, *group.rates) for group in batch.groups],
            }
        )


def _answer(batch: Batch, text: bytes) -> Answer:
    numbers = [int(word) for word in text.split()]
    groups, rates = len(batch.groups), len(batch.rates)
    return Answer(
        numbers[:groups],
        [float(number) for number in numbers[groups : groups + rates]],
        numbers[groups + rates :],
    )


def rate_key(*parts: str) -> str:
    """Return the key of a rate. Raises: ValueError for parts that no key can have."""
    return tenant_key(NO_TENANT, "limits", *parts)


def place_key(*parts: str) -> str:
    """Return the key of places. Raises: ValueError for parts that no key can have."""
    return tenant_key(NO_TENANT, "places", *parts)
