"""Keys of a family in Redis, as a store that can forget."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TypeAlias

from meshwright_common.erasure.stored import BATCH, Subject, in_batches
from meshwright_common.storage.redis import (
    RedisClient,
    keys_below,
    tenant_key,
    translated_errors,
)

KeysOfUser: TypeAlias = Callable[[Subject], AsyncGenerator[Sequence[str], None]]
"""Yields keys of a user that may be there, some at a time, each once."""


class StoredKeys:
    """`StoredData` on the keys `mw:{tenant}:family:…`.

    `of_user` finds the keys of a user; without it none is of a user. Keys that hold no more than a
    fence end by their own lifetime: `of_user` does not name them.
    """

    def __init__(self, client: RedisClient, family: str, of_user: KeysOfUser | None = None) -> None:
        self.name = f"redis:{family}"
        self._client = client
        self._family = family
        self._of_user = of_user

    async def erase(self, subject: Subject) -> int:
        async def batch() -> int:
            return await self._remove(await self._found(subject))

        return await in_batches(batch)

    async def remaining(self, subject: Subject) -> int:
        return len(await self._found(subject))

    async def _found(self, subject: Subject) -> list[str]:
        """Return keys of the subject that are there, at most BATCH or a page more."""
        found: list[str] = []
        if subject.user_id:
            if self._of_user is not None:
                async with aclosing(self._of_user(subject)) as pages:
                    async for page in pages:
                        found += await self._there(page)
                        if len(found) >= BATCH:
                            break
            return found
        async for key in self._scan(subject.tenant_id):
            found.append(key)
            if len(found) == BATCH:
                break
        return found

    async def _scan(self, tenant_id: str) -> AsyncIterator[str]:
        with translated_errors():
            async for key in keys_below(self._client, tenant_key(tenant_id, self._family)):
                yield key

    async def _there(self, keys: Sequence[str]) -> list[str]:
        counts = await self._each("EXISTS", keys)
        return [key for key, count in zip(keys, counts, strict=True) if count]

    async def _remove(self, keys: Sequence[str]) -> int:
        return sum(await self._each("UNLINK", keys))

    async def _each(self, command: str, keys: Sequence[str]) -> list[int]:
        """Do a command on each key, all in one exchange: they are keys of one tenant."""
        if not keys:
            return []
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    _ = pipeline.execute_command(command, key)
                return [int(answer) for answer in await pipeline.execute()]
