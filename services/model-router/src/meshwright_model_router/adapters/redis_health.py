"""SharedHealth on Redis: two hashes, and one script that puts down and reads in one step.

`reports` has a field a replica, with what it counted; `rests` one a model that rests. The time is
the server's, so that replicas whose clocks differ agree on when a rest is over. What a replica
counted is passed over when it is a few seconds old, and forgotten after a minute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, cast

import msgspec
from redis.exceptions import NoScriptError

from meshwright_common.ids import new_id
from meshwright_common.storage.redis import RedisClient, tenant_key, translated_errors
from meshwright_model_router.domain.health import TRIAL_SECONDS
from meshwright_model_router.domain.health_sharing import Decision, Exchanged, SharedRest
from meshwright_model_router.domain.health_values import ModelKey, Numbers
from meshwright_model_router.domain.rolling import filled

NO_TENANT: Final = "00000000-0000-0000-0000-000000000000"
"""The operator's deployments are everybody's."""
FAMILY: Final = "model-health"
STALE_MS: Final = 5_000
FORGOTTEN_MS: Final = 60_000
KEPT_MS: Final = 7_200_000
"""How long a rest that is over and that nobody asks about is remembered as one."""

# ARGV: replica, its report, stale, forgotten, kept, trial (ms), then operations of four words each:
# rest key until|reason..., free key, try key. A rest that is there is made longer, never shorter,
# and an open breaker is not made a mere pause.
_EXCHANGE: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local me = ARGV[1]
redis.call('HSET', KEYS[1], me, now .. '|' .. ARGV[2])
for i = 7, #ARGV, 4 do
    local word, key, value, reason = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    local there = redis.call('HGET', KEYS[2], key)
    local ending, broken, trial, holder
    if there then
        ending, broken, trial, holder = string.match(there, '^(%d+)|(%d)|(%d+)|([^|]*)|')
        ending, trial = tonumber(ending), tonumber(trial)
    end
    if word == 'open' or word == 'pause' then
        local wanted = now + tonumber(value)
        local opens = word == 'open' and '1' or '0'
        if not there or ending < wanted and (opens == '1' or broken == '0') then
            redis.call('HSET', KEYS[2], key, string.format('%.0f|%s|0||%s', wanted, opens, reason))
        end
    elseif word == 'free' then
        redis.call('HDEL', KEYS[2], key)
    elseif there and broken == '1' and ending <= now and (trial <= now or holder == me) then
        local rest = string.match(there, '^%d+|%d|%d+|[^|]*|(.*)$')
        redis.call('HSET', KEYS[2], key,
            string.format('%.0f|1|%.0f|%s|%s', ending, now + ARGV[6], me, rest))
    end
end
local reports, rests = redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])
local fresh, resting = {}, {}
for i = 1, #reports, 2 do
    local at, report = string.match(reports[i + 1], '^(%d+)|(.*)$')
    local age = now - tonumber(at)
    if age > tonumber(ARGV[4]) then
        redis.call('HDEL', KEYS[1], reports[i])
    elseif age <= tonumber(ARGV[3]) and reports[i] ~= me then
        fresh[#fresh + 1] = report
    end
end
for i = 1, #rests, 2 do
    local ending, broken, trial, holder, reason =
        string.match(rests[i + 1], '^(%d+)|(%d)|(%d+)|([^|]*)|(.*)$')
    local left = tonumber(ending) - now
    if left <= 0 and broken == '0' or left < -tonumber(ARGV[5]) then
        redis.call('HDEL', KEYS[2], rests[i])
    else
        local mine = holder == me and tonumber(trial) - now or 0
        for _, word in ipairs({rests[i], string.format('%.0f', left), broken,
                string.format('%.0f', mine), reason}) do
            resting[#resting + 1] = word
        end
    end
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return {fresh, resting}
"""
_SHA1: Final = hashlib.sha1(_EXCHANGE.encode(), usedforsecurity=False).hexdigest()

_Row = tuple[str, str, str, int, int, int, float, dict[int, int]]
"""Key of a model, in flight, calls, failures, slowness, and its buckets that are not empty."""


class RedisHealth:
    """SharedHealth. Every process has one, with a name of its own."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._replica = new_id()
        self._keys = (
            tenant_key(NO_TENANT, FAMILY, "reports"),
            tenant_key(NO_TENANT, FAMILY, "rests"),
        )

    async def exchange(
        self,
        reports: Mapping[ModelKey, Numbers],
        decisions: Sequence[Decision],
        wanted: Sequence[ModelKey],
    ) -> Exchanged:
        words: list[str | bytes | int] = []
        for one in decisions:
            words += _words(one)
        for key in wanted:
            words += ("try", _field(key), "", "")
        arguments = (
            *("EVALSHA", _SHA1, 2, *self._keys, self._replica, _encoded(reports)),
            *(STALE_MS, FORGOTTEN_MS, KEPT_MS, round(TRIAL_SECONDS * 1000), *words),
        )
        with translated_errors():
            try:
                answer = await self._client.execute_command(*arguments)
            except NoScriptError:
                # A server that is new, or lost its data.
                await self._client.script_load(_EXCHANGE)
                answer = await self._client.execute_command(*arguments)
        fresh, resting = cast("tuple[list[bytes], list[bytes]]", answer)
        return Exchanged(_others(fresh), _rests(resting))


def _words(decision: Decision) -> tuple[str | bytes | int, ...]:
    field = _field(decision.key)
    if decision.seconds is None:
        return "free", field, "", ""
    word = "open" if decision.broken else "pause"
    return word, field, round(decision.seconds * 1000), decision.reason


def _field(key: ModelKey) -> bytes:
    return msgspec.json.encode(key)


def _encoded(reports: Mapping[ModelKey, Numbers]) -> bytes:
    rows = [
        (
            *key,
            *(one.in_flight, one.calls, one.failures, round(one.slowness, 4)),
            {index: count for index, count in enumerate(one.first_tokens) if count},
        )
        for key, one in reports.items()
    ]
    return msgspec.json.encode(rows)


def _others(fresh: Sequence[bytes]) -> dict[ModelKey, Numbers]:
    others: dict[ModelKey, Numbers] = {}
    for report in fresh:
        for row in msgspec.json.decode(report, type=list[_Row]):
            *key, in_flight, calls, failures, slowness, buckets = row
            numbers = Numbers(in_flight, calls, failures, slowness, filled(buckets))
            named = cast("ModelKey", tuple(key))
            others[named] = others[named] + numbers if named in others else numbers
    return others


def _rests(resting: Sequence[bytes]) -> dict[ModelKey, SharedRest]:
    rests: dict[ModelKey, SharedRest] = {}
    for index in range(0, len(resting), 5):
        field, left, broken, mine, reason = resting[index : index + 5]
        rests[msgspec.json.decode(field, type=ModelKey)] = SharedRest(
            max(int(left), 0) / 1000,
            reason.decode(),
            broken == b"1",
            max(int(mine), 0) / 1000,
        )
    return rests
