"""The journal of turns: one Redis stream a turn, entry ids are the events' sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, cast

import redis.asyncio

from meshwright_chat.domain.errors import LeaseLost
from meshwright_chat.domain.models import Entry, Turn
from meshwright_chat.wire import events
from meshwright_common.storage.redis import tenant_key, translated_errors

RETENTION_SECONDS: Final = 24 * 3600
"""How long a finished turn can be read from here; afterwards it is told from PostgreSQL."""

READ_BATCH: Final = 500
_FIELD: Final = b"e"

# One step, so that a process that lost its lease cannot write between check and append. Entries
# that are there already are skipped: the client repeats a call whose answer it did not get.
_APPEND: Final = """
local epoch = tonumber(ARGV[1])
local top = tonumber(redis.call('GET', KEYS[2]) or '0')
if epoch < top then return -1 end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local sequence = tonumber(ARGV[3])
local there = 0
if last[1] then there = tonumber(string.match(last[1][1], '^%d+')) end
for i = 4, #ARGV do
    if sequence > there then
        redis.call('XADD', KEYS[1], sequence .. '-0', 'e', ARGV[i])
    end
    sequence = sequence + 1
end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""


class RedisJournal:
    """Journal: `client` for short commands, `reader` for blocking reads."""

    def __init__(self, client: redis.asyncio.Redis, reader: redis.asyncio.Redis) -> None:
        self._client = client
        self._reader = reader
        self._append = client.register_script(_APPEND)

    async def append(self, turn: Turn, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        with translated_errors():
            written = await self._append(
                keys=[_events(turn.tenant_id, turn.turn_id), _epoch(turn)],
                args=[
                    turn.lease_epoch,
                    RETENTION_SECONDS,
                    entries[0].sequence,
                    *[events.encode(entry) for entry in entries],
                ],
            )
        if written == -1:
            raise LeaseLost

    async def last_sequence(self, tenant_id: str, turn_id: str) -> int:
        with translated_errors():
            newest = await self._client.xrevrange(_events(tenant_id, turn_id), count=1)
        return _sequence(cast("bytes", newest[0][0])) if newest else 0

    async def read(
        self, tenant_id: str, turn_id: str, *, after_sequence: int, wait_seconds: float
    ) -> Sequence[Entry]:
        key = _events(tenant_id, turn_id)
        with translated_errors():
            answer = await self._reader.xread(
                {key: f"{after_sequence}-0"},
                count=READ_BATCH,
                block=round(wait_seconds * 1000) or None,
            )
        return [events.decode(fields[_FIELD]) for _, fields in _first_stream(answer)]


_StreamEntries: TypeAlias = Sequence[tuple[bytes, Mapping[bytes, bytes]]]


def _first_stream(answer: object) -> _StreamEntries:
    # redis-py's types cover every protocol version at once; this client speaks RESP2:
    # [[key, [(id, fields), …]], …], or nothing at all after the wait.
    streams = cast("Sequence[tuple[bytes, _StreamEntries]]", answer or ())
    return streams[0][1] if streams else ()


def _events(tenant_id: str, turn_id: str) -> str:
    return tenant_key(tenant_id, "turn", turn_id, "events")


def _epoch(turn: Turn) -> str:
    return tenant_key(turn.tenant_id, "turn", turn.turn_id, "epoch")


def _sequence(entry_id: bytes) -> int:
    return int(entry_id.split(b"-", 1)[0])
