"""Level 2: windows in Redis, for whichever process a session's next turn comes to.

Three keys a session, gone when nobody wants them: a checkpoint of the whole window, the turns since
then, and the context. So a turn writes what it added, and every few turns the window is written
whole and the turns with it are dropped. All of it is protobuf (the context JSON), compressed, and
sealed with the tenant's key.

Redis may be empty, old or away at any time. What is found is compared with the session's row by
whoever uses it; what is not found is read from PostgreSQL; a server that does not answer is left
alone for a while. Only windows that the disk has are written: see ADR 0016.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from redis.exceptions import RedisError

from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.errors import ServiceError
from meshwright_common.storage.redis import RedisClient, translated_errors
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.adapters.checkpoint_cells import (
    LARGEST_BYTES,
    PARTS,
    name_of,
    opened_window,
    sealed_context,
    sealed_part,
)
from meshwright_session.adapters.memory_metrics import CHECKPOINT_BYTES, CHECKPOINT_FAILURES
from meshwright_session.domain.windows import SessionKey, Window
from meshwright_session.wire import checkpoints

TURNS_BETWEEN: Final = 8
"""Turns that are added to a checkpoint before the window is written whole."""
ANSWER_TIMEOUT_SECONDS: Final = 0.1
"""PostgreSQL would have answered by then."""
LEAST_PAUSE_SECONDS: Final = 1.0
MOST_PAUSE_SECONDS: Final = 30.0
MOST_WAITING: Final = 1000
"""Windows that wait to be written; beyond that the oldest one is left out."""
MOST_KNOWN: Final = 20_000
"""Sessions of which is remembered what Redis has, some 200 bytes each."""

_FAILURES: Final = (ServiceError, RedisError, TimeoutError)
"""Away, slow, or unwilling: all the same to whoever can do without."""

Command: TypeAlias = tuple[str | bytes | int, ...]

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Saved:
    """What Redis has of a session, as far as this process knows."""

    sequence: int
    turns: int
    data_version: int


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long Redis keeps what nobody asks for, in seconds."""

    session_seconds: int
    context_seconds: int


class RedisCheckpoints:
    """`Checkpoints` in Redis. `monotonic` tells seconds.

    `schema_version` is the schema that this process has contexts in. One in another schema is not
    taken from here: the stored one is upgraded, or refused.
    """

    def __init__(
        self,
        client: RedisClient,
        ring: KeyRing,
        lifetimes: Lifetimes,
        schema_version: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._client = client
        self._ring = ring
        self._lifetimes = lifetimes
        self._schema_version = schema_version
        self._monotonic = monotonic
        self._waiting: OrderedDict[SessionKey, Window] = OrderedDict()
        self._saved: OrderedDict[SessionKey, _Saved] = OrderedDict()
        self._writer: asyncio.Task[None] | None = None
        self._pause_seconds = LEAST_PAUSE_SECONDS
        self._away_until = 0.0

    # --- reading ----------------------------------------------------------------------------------

    async def find(self, key: SessionKey) -> Window | None:
        if self._is_away:
            return None
        try:
            keys = await self._ring.keys_of(key.tenant_id)
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                found = await self._read(key)
            self._answered()
            return opened_window(keys, key, self._schema_version, *found)
        except _FAILURES as error:
            self._failed("checkpoint_not_read", error)
            return None

    async def _read(self, key: SessionKey) -> tuple[bytes | None, list[bytes], bytes | None]:
        window, turns, context = await self._run(
            ("GET", name_of(key, "window")),
            ("LRANGE", name_of(key, "turns"), 0, -1),
            ("GET", name_of(key, "context")),
        )
        if window is None:
            self._saved.pop(key, None)
        return cast("tuple[bytes | None, list[bytes], bytes | None]", (window, turns, context))

    # --- writing ----------------------------------------------------------------------------------

    def save(self, key: SessionKey, window: Window) -> None:
        if self._is_away:
            # It would have a gap where this turn was.
            self._saved.pop(key, None)
            return
        self._waiting[key] = window
        self._waiting.move_to_end(key)
        if len(self._waiting) > MOST_WAITING:
            left_out, _ = self._waiting.popitem(last=False)
            self._saved.pop(left_out, None)
        if self._writer is None:
            # house: naked-task: ends with what waits; nobody waits for it, by design
            self._writer = asyncio.create_task(self._write_all(), name="session-checkpoints")

    async def written(self) -> None:
        """Return when nothing waits to be written any more."""
        while self._writer is not None:
            await asyncio.wait({self._writer})

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                key, window = self._waiting.popitem(last=False)
                try:
                    await self._write(key, window)
                    self._answered()
                except _FAILURES as error:
                    self._failed("checkpoint_not_written", error)
                    for lost in (key, *self._waiting):
                        self._saved.pop(lost, None)
                    self._waiting.clear()
        finally:
            self._writer = None

    async def _write(self, key: SessionKey, window: Window) -> None:
        keys = await self._ring.keys_of(key.tenant_id)
        saved = self._saved.get(key)
        added = (
            saved is not None
            and saved.turns < TURNS_BETWEEN
            and await self._add(keys, key, window, saved)
        )
        if not added:
            await self._write_whole(keys, key, window)

    async def _add(self, keys: TenantKeys, key: SessionKey, window: Window, saved: _Saved) -> bool:
        """Add what is new to the checkpoint; False when there is none any more."""
        if window.messages and window.messages[0].sequence > saved.sequence + 1:
            return False
        turn = sealed_part(keys, key, "turns", checkpoints.encode(window, saved.sequence))
        lifetime = self._lifetimes.session_seconds
        context: Command
        if window.data_version == saved.data_version:
            context = ("EXPIRE", name_of(key, "context"), self._lifetimes.context_seconds)
        else:
            context = self._set_context(keys, key, window)
        there, *_ = await self._run(
            ("EXPIRE", name_of(key, "window"), lifetime),
            ("RPUSH", name_of(key, "turns"), turn),
            ("EXPIRE", name_of(key, "turns"), lifetime),
            context,
        )
        CHECKPOINT_BYTES.inc(len(turn))
        self._remember(key, window, saved.turns + 1)
        return bool(there)

    async def _write_whole(self, keys: TenantKeys, key: SessionKey, window: Window) -> None:
        if window.size_bytes > LARGEST_BYTES:
            self._saved.pop(key, None)
            return
        whole = sealed_part(keys, key, "window", checkpoints.encode(window, 0))
        await self._run(
            ("SET", name_of(key, "window"), whole, "EX", self._lifetimes.session_seconds),
            ("DEL", name_of(key, "turns")),
            self._set_context(keys, key, window),
        )
        CHECKPOINT_BYTES.inc(len(whole))
        self._remember(key, window, 0)

    def _set_context(self, keys: TenantKeys, key: SessionKey, window: Window) -> Command:
        name = name_of(key, "context")
        if window.data_version == 0:
            return ("DEL", name)
        sealed = sealed_context(keys, key, self._schema_version, window)
        CHECKPOINT_BYTES.inc(len(sealed))
        return ("SET", name, sealed, "EX", self._lifetimes.context_seconds)

    async def drop(self, key: SessionKey) -> None:
        self._waiting.pop(key, None)
        self._saved.pop(key, None)
        if self._is_away:
            # It is sealed, and gone within the hour.
            return
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                await self._run(("DEL", *(name_of(key, part) for part in PARTS)))
        except _FAILURES as error:
            self._failed("checkpoint_not_dropped", error)

    # --- inside -----------------------------------------------------------------------------------

    async def _run(self, *commands: Command) -> list[object]:
        """Run commands about the keys of one session in one round trip."""
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    _ = pipeline.execute_command(*command)
                return cast("list[object]", await pipeline.execute())

    def _remember(self, key: SessionKey, window: Window, turns: int) -> None:
        self._saved[key] = _Saved(window.stamp.message_count, turns, window.data_version)
        self._saved.move_to_end(key)
        if len(self._saved) > MOST_KNOWN:
            self._saved.popitem(last=False)

    @property
    def _is_away(self) -> bool:
        return self._monotonic() < self._away_until

    def _answered(self) -> None:
        self._pause_seconds = LEAST_PAUSE_SECONDS

    def _failed(self, event: str, error: Exception) -> None:
        """Leave Redis alone for a while, each time for twice as long."""
        CHECKPOINT_FAILURES.inc()
        logger.warning(event, error=type(error).__name__, pause_seconds=self._pause_seconds)
        self._away_until = self._monotonic() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, MOST_PAUSE_SECONDS)
