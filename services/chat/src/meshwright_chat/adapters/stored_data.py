"""Everything that this service keeps of people, in the order in which it is erased."""

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from meshwright_chat.adapters.redis_journal import epoch_key, events_key
from meshwright_common.erasure.redis_keys import StoredKeys
from meshwright_common.erasure.rows import StoredRows, count_rows
from meshwright_common.erasure.stored import BATCH, StoredData, Subject, is_nearly_over
from meshwright_common.storage.postgres import Database, Record
from meshwright_common.storage.redis import RedisClient, translated_errors
from meshwright_common.storage.tenancy import unit_of_work

FENCE_SECONDS: Final = 600
"""How long a journal that was erased takes no late entries: much longer than a lease."""


def stored_data(database: Database, redis: RedisClient) -> tuple[StoredData, ...]:
    """Return the stores."""
    return (
        RunningTurns(database),
        UserJournals(database, redis),
        StoredRows(database, "chat.turns", "subject = $2"),
    )


class RunningTurns:
    """Turns that are being worked on: cancelled, so that whoever works on one stops."""

    name = "chat.running_turns"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def erase(self, subject: Subject) -> int:
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            # The higher epoch is the fence: what the worker still writes is refused.
            return len(await connection.fetch(_CANCEL, subject.tenant_id, subject.user_id or None))

    async def remaining(self, subject: Subject) -> int:
        user = " AND subject = $2" if subject.user_id else ""
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            return await count_rows(
                connection, f"chat.turns WHERE tenant_id = $1 AND ended_at IS NULL{user}", subject
            )


class UserJournals(StoredKeys):
    """Journals of turns, found by the turns, which are erased after them.

    Each is replaced by its fence, which names a turn and says no more, and ends by itself: a worker
    that has not noticed that its turn is cancelled writes nothing behind it.
    """

    def __init__(self, database: Database, redis: RedisClient) -> None:
        super().__init__(redis, "turn", self._journals)
        self._database = database
        self._redis = redis

    async def erase(self, subject: Subject) -> int:
        if not subject.user_id:
            return await super().erase(subject)
        removed, last = 0, ""
        while turns := await self._turns(subject, last):
            removed += await self._fence(subject, turns)
            last = turns[-1]["turn_id"]
            if is_nearly_over():
                break
        return removed

    async def _fence(self, subject: Subject, turns: Sequence[Record]) -> int:
        removed = 0
        with translated_errors():
            for turn in turns:
                fence = epoch_key(subject.tenant_id, turn["turn_id"])
                await self._redis.set(fence, turn["lease_epoch"], ex=FENCE_SECONDS)
                removed += int(
                    await self._redis.unlink(events_key(subject.tenant_id, turn["turn_id"]))
                )
        return removed

    async def _turns(self, subject: Subject, after: str) -> Sequence[Record]:
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            rows: Sequence[Record] = await connection.fetch(
                _TURNS, subject.tenant_id, subject.user_id or None, after or None, BATCH
            )
            return rows

    async def _journals(self, subject: Subject) -> AsyncGenerator[Sequence[str], None]:
        last = ""
        while turns := await self._turns(subject, last):
            yield [events_key(subject.tenant_id, turn["turn_id"]) for turn in turns]
            last = turns[-1]["turn_id"]


_CANCEL: Final = """
UPDATE chat.turns
   SET state = 'cancelled', cancelled_by = 'erasure', lease_epoch = lease_epoch + 1,
       ended_at = clock_timestamp()
 WHERE tenant_id = $1 AND ($2::text IS NULL OR subject = $2) AND ended_at IS NULL
RETURNING turn_id
"""

_TURNS: Final = """
SELECT turn_id, lease_epoch FROM chat.turns
 WHERE tenant_id = $1 AND ($2::text IS NULL OR subject = $2)
   AND ($3::uuid IS NULL OR turn_id > $3)
 ORDER BY turn_id LIMIT $4
"""
