"""What keeps the audit log provable and bounded: checkpoints now and then, months dropped whole."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from meshwright_common.clock import Clock
from meshwright_common.errors import DeadlineExceeded, Unavailable
from meshwright_session.domain.audit_chain import ChainCheck, Place
from meshwright_session.domain.audit_checkpoints import (
    Checkpoint,
    Signer,
    Verifier,
    is_signed,
    sign_anchor,
    sign_checkpoint,
    statement_of,
)
from meshwright_session.domain.audit_ports import (
    AuditDoors,
    AuditReader,
    CheckpointStore,
    CheckpointVault,
)

BATCH: Final = 500
"""Tenants, checkpoints or notes that are asked for at once."""
BATCH_RECORDS: Final = 500
AT_ONCE: Final = 4
"""Logs that a process signs at the same time."""
LONGEST_MONTH: Final = timedelta(days=31)
"""So much longer than asked for are records kept, and their checkpoints: whole months go."""


@dataclass(slots=True)
class Checkpointed:
    """What a round did. `conflicts` are checkpoints (tenant, number) whose copy is another one."""

    signed: int = 0
    stored: int = 0
    postponed: int = 0
    conflicts: list[tuple[str, int]] = field(default_factory=list)


class Checkpointer:
    """Signs what has grown. Any number of processes may: a number is taken once.

    The row comes first, then the copy; a process that dies in between leaves the copy to the next
    round, and one that dies before leaves the records to the next checkpoint.
    """

    def __init__(
        self,
        doors: AuditDoors,
        reader: AuditReader,
        store: CheckpointStore,
        vault: CheckpointVault,
        signer: Signer,
        clock: Clock,
        *,
        kept_days: int,
    ) -> None:
        self._doors = doors
        self._reader = reader
        self._store = store
        self._vault = vault
        self._signer = signer
        self._clock = clock
        self._kept_days = kept_days

    async def round(self, *, seconds: float, records: int) -> Checkpointed:
        """Sign where the last checkpoint is older than `seconds` or `records` behind, and store
        what is not stored yet. Raises: Unavailable when nobody can be asked.
        """
        done = Checkpointed()
        seen: set[str] = set()
        while True:
            due = await self._doors.due(seconds=seconds, records=records, limit=BATCH)
            new = [tenant_id for tenant_id in due if tenant_id not in seen]
            seen.update(new)
            pending = iter(new)
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._sign_all(pending, done))
            if not new or len(due) < BATCH:
                break
        for tenant_id, number in await self._doors.unstored(BATCH):
            checkpoint = await self._store.get(tenant_id, number)
            if checkpoint is not None:
                await self._keep(checkpoint, done)
        return done

    async def _sign_all(self, pending: Iterator[str], done: Checkpointed) -> None:
        for tenant_id in pending:
            try:
                signed = await self._sign(tenant_id)
            except (Unavailable, DeadlineExceeded):
                # Its head is being written to, for longer than is waited for.
                done.postponed += 1
            else:
                done.signed += signed

    async def _sign(self, tenant_id: str) -> bool:
        head = await self._reader.head(tenant_id)
        previous = next(iter(await self._store.before(tenant_id, None, 1)), None)
        if previous is not None and head.place.sequence <= previous.sequence:
            return False
        now = self._clock.now()
        checkpoint = sign_checkpoint(tenant_id, head, previous, now=now, signer=self._signer)
        return await self._store.add(checkpoint)

    async def _keep(self, checkpoint: Checkpoint, done: Checkpointed) -> None:
        until = self._clock.now() + timedelta(days=self._kept_days) + LONGEST_MONTH
        if await self._vault.put(checkpoint, keep_until=until):
            await self._store.mark_stored(checkpoint)
            done.stored += 1
        else:
            done.conflicts.append((checkpoint.tenant_id, checkpoint.number))


class AuditRetention:
    """Lets months of records go that are over, and all that belongs to them alone."""

    def __init__(  # noqa: PLR0913 - one argument for each thing that it works with
        self,
        doors: AuditDoors,
        reader: AuditReader,
        store: CheckpointStore,
        vault: CheckpointVault,
        signer: Signer,
        verifier: Verifier,
        clock: Clock,
        *,
        kept_days: int,
    ) -> None:
        self._doors = doors
        self._reader = reader
        self._store = store
        self._vault = vault
        self._signer = signer
        self._verifier = verifier
        self._clock = clock
        self._kept_days = kept_days

    async def anchor(self) -> int:
        """Sign where the chains will begin when what is over is dropped; return how many."""
        signed = 0
        for tenant_id, place in (await self._doors.unanchored(self._kept_days, BATCH)).items():
            if await self._is_proved(tenant_id, place):
                now = self._clock.now()
                anchor = sign_anchor(tenant_id, place, now=now, signer=self._signer)
                await self._store.add_anchor(anchor)
                signed += 1
        return signed

    async def drop_months(self) -> int | None:
        """Drop the months whose chains are anchored; None: they are in use, ask again soon."""
        return await self._doors.drop_months(self._kept_days)

    async def prune(self) -> int:
        """Remove checkpoints and notes of what was dropped; return how many."""
        removed = 0
        while expired := await self._doors.expired_checkpoints(BATCH):
            last: dict[str, int] = {}
            for tenant_id, number in expired:
                await self._vault.remove(tenant_id, number)
                last[tenant_id] = number
            for tenant_id, number in last.items():
                await self._doors.forget_checkpoints(tenant_id, number)
            removed += len(expired)
        pruned = BATCH
        while pruned == BATCH:
            pruned = await self._doors.prune_events(BATCH)
            removed += pruned
        return removed

    async def _is_proved(self, tenant_id: str, place: Place) -> bool:
        """Return whether a checkpoint of ours, as old as records have to be, covers the place.

        Whoever only makes records look old does not get them dropped.
        """
        checkpoint = await self._store.covering(tenant_id, place.sequence)
        statement = None if checkpoint is None else statement_of(checkpoint)
        if checkpoint is None or statement is None or statement.tenant_id != tenant_id:
            return False
        oldest = self._clock.now() - timedelta(days=self._kept_days)
        if checkpoint.time > oldest or not is_signed(checkpoint, statement, self._verifier):
            return False
        check = ChainCheck(place)
        while check.place.sequence < checkpoint.sequence:
            batch = await self._reader.chain(
                tenant_id, check.place.sequence, checkpoint.sequence, BATCH_RECORDS
            )
            if not batch or any(check.flaw(record) for record in batch):
                return False
        return check.place.hash.hex() == statement.hash
