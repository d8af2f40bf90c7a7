"""The journal of turns: one Redis stream a turn, entry ids are the events' sequences."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from redis.exceptions import NoScriptError

from meshwright_chat.domain.errors import EntriesForgotten, LeaseLost
from meshwright_chat.domain.models import Entry, Turn
from meshwright_chat.domain.waiting import Interrupt
from meshwright_chat.wire import events
from meshwright_common.encryption import KeyRing, Place
from meshwright_common.storage.redis import (
    CacheUnavailable,
    RedisClient,
    node_of,
    tenant_key,
    translated_errors,
)

RETENTION_SECONDS: Final = 24 * 3600
"""How long the journal of a turn that does not end is kept."""

WAITING_RETENTION_SECONDS: Final = 31 * 24 * 3600
"""How long the journal of a turn is kept that waits for a person: longer than people may take."""

FINISHED_RETENTION_SECONDS: Final = 600
"""How long a finished turn is read from here; afterwards it is told from PostgreSQL. What a process
needs is bounded by the turns of ten minutes, not of a day."""

READ_BATCH: Final = 500
_FIELD: Final = b"e"
_FENCED: Final = -1
"""Answer of the script to a process whose lease epoch is not the highest."""
_FORGOTTEN: Final = -2
"""Answer of the script when entries before these are missing that the process still holds."""

# One step, so that a process that lost its lease cannot write between check and append. Entries
# that are there already are skipped: the client repeats a call whose answer it did not get. A
# server that lost its data takes no entry behind a gap.
_APPEND: Final = """
local epoch = tonumber(ARGV[1])
local top = tonumber(redis.call('GET', KEYS[2]) or '0')
if epoch < top then return -1 end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local sequence = tonumber(ARGV[3])
local there = 0
if last[1] then there = tonumber(string.match(last[1][1], '^%d+')) end
if sequence > there + 1 and sequence > tonumber(ARGV[4]) then return -2 end
for i = 5, #ARGV do
    if sequence > there then
        redis.call('XADD', KEYS[1], sequence .. '-0', 'e', ARGV[i])
    end
    sequence = sequence + 1
end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""


_APPEND_SHA1: Final = hashlib.sha1(_APPEND.encode(), usedforsecurity=False).hexdigest()
"""The name under which the server keeps the script."""


@dataclass(slots=True, eq=False)
class _Append:
    """An append that waits to be sent, and then its answer."""

    keys: tuple[str, str]
    arguments: tuple[int | bytes, ...]
    answer: int | Exception | None = None


class RedisJournal:
    """Journal: `client` for short commands, `reader` for blocking reads, `ring` to seal entries.

    Appends of all turns share one round trip at a time: those that come while it is under way
    leave together with the next. A lone append leaves at once.
    """

    def __init__(self, client: RedisClient, reader: RedisClient, ring: KeyRing) -> None:
        self._client = client
        self._reader = reader
        self._ring = ring
        self._waiting: list[_Append] = []
        self._sending = asyncio.Lock()

    async def append(
        self, turn: Turn, entries: Sequence[Entry], *, held_from: int | None = None
    ) -> None:
        if not entries:
            return
        keys = await self._ring.keys_of(turn.tenant_id)
        await self._append(
            turn,
            _retention_seconds(entries[-1]),
            entries[0].sequence,
            entries[0].sequence if held_from is None else held_from,
            *[
                keys.seal(_place(turn.turn_id, entry.sequence), events.encode(entry))
                for entry in entries
            ],
        )

    async def fence(self, turn: Turn) -> None:
        # Nothing, behind the beginning: what stays of it is the epoch.
        await self._append(turn, RETENTION_SECONDS, 1, 1)

    async def _append(self, turn: Turn, *arguments: int | bytes) -> None:
        mine = _Append(
            (events_key(turn.tenant_id, turn.turn_id), epoch_key(turn.tenant_id, turn.turn_id)),
            (turn.lease_epoch, *arguments),
        )
        self._waiting.append(mine)
        async with self._sending:
            if mine in self._waiting:
                batch, self._waiting = self._waiting, []
                await self._send(batch)
        if isinstance(mine.answer, Exception):
            # A full server refuses each append by itself: that is being away, too.
            with translated_errors():
                raise mine.answer
        if mine.answer == _FENCED:
            raise LeaseLost
        if mine.answer == _FORGOTTEN:
            raise EntriesForgotten

    async def _send(self, batch: Sequence[_Append]) -> None:
        # Until the answers are here each is unknown: also when the sender is cancelled half-way.
        for append in batch:
            append.answer = CacheUnavailable("The journal did not answer.")
        with contextlib.suppress(CacheUnavailable), translated_errors():
            answers = await self._evaluate(batch)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                # A server that is empty, or new in a cluster. What another one did before stays.
                await self._client.script_load(_APPEND)
                answers = await self._evaluate(batch)
            for append, answer in zip(batch, answers, strict=True):
                append.answer = answer

    async def _evaluate(self, batch: Sequence[_Append]) -> Sequence[int | Exception]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for append in batch:
                _ = pipeline.execute_command(
                    "EVALSHA", _APPEND_SHA1, 2, *append.keys, *append.arguments
                )
            return cast("list[int | Exception]", await pipeline.execute(raise_on_error=False))

    async def last_sequence(self, tenant_id: str, turn_id: str) -> int:
        with translated_errors():
            newest = await self._client.xrevrange(events_key(tenant_id, turn_id), count=1)
        return _sequence(cast("bytes", newest[0][0])) if newest else 0

    async def read(
        self, tenant_id: str, turn_id: str, *, after_sequence: int, wait_seconds: float
    ) -> Sequence[Entry]:
        key = events_key(tenant_id, turn_id)
        with translated_errors():
            waiting = ("BLOCK", round(wait_seconds * 1000)) if wait_seconds >= 0.001 else ()
            answer = await self._reader.execute_command(
                *("XREAD", "COUNT", READ_BATCH, *waiting, "STREAMS", key, f"{after_sequence}-0"),
                **await node_of(self._reader, key),
            )
        read = _first_stream(answer)
        if not read:
            return []
        keys = await self._ring.keys_of(tenant_id)
        return [
            events.decode(turn_id, keys.open(_place(turn_id, _sequence(entry_id)), fields[_FIELD]))
            for entry_id, fields in read
        ]


def _retention_seconds(last: Entry) -> int:
    if last.is_last:
        return FINISHED_RETENTION_SECONDS
    if isinstance(last.event, Interrupt):
        return WAITING_RETENTION_SECONDS
    return RETENTION_SECONDS


_StreamEntries: TypeAlias = Sequence[tuple[bytes, Mapping[bytes, bytes]]]


def _first_stream(answer: object) -> _StreamEntries:
    # redis-py's types cover every protocol version at once; this client speaks RESP2:
    # [[key, [(id, fields), …]], …], or nothing at all after the wait.
    streams = cast("Sequence[tuple[bytes, _StreamEntries]]", answer or ())
    return streams[0][1] if streams else ()


def _place(turn_id: str, sequence: int) -> Place:
    return Place("redis:turn", "events", f"{turn_id}/{sequence}")


def events_key(tenant_id: str, turn_id: str) -> str:
    """Return the key of a turn's journal."""
    return tenant_key(tenant_id, "turn", turn_id, "events")


def epoch_key(tenant_id: str, turn_id: str) -> str:
    """Return the key of the highest lease epoch that wrote to a turn's journal."""
    return tenant_key(tenant_id, "turn", turn_id, "epoch")


def _sequence(entry_id: bytes) -> int:
    return int(entry_id.split(b"-", 1)[0])
