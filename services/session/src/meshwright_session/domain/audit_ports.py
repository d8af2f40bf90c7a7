"""What the audit log needs from stores. Every method is one transaction, all of it or nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from meshwright_session.domain.audit_chain import ChainHead, Place
from meshwright_session.domain.audit_checkpoints import Anchor, Checkpoint
from meshwright_session.domain.audit_records import AuditFilter, AuditRecord


class LockedEnd(NamedTuple):
    """The end of a chain that is ours to continue, and the store's time."""

    place: Place
    now: datetime


class AuditChain(Protocol):
    """Writes a tenant's chain inside the transaction in which an event is handled."""

    async def lock_end(self, tenant_id: str) -> LockedEnd:
        """Return the end of the chain and keep others from it until the transaction ends."""
        ...

    async def append(self, record: AuditRecord) -> bool:
        """Add a record and make it the end; False when its event is in the chain already."""
        ...

    async def append_all(self, records: Sequence[AuditRecord]) -> bool:
        """Add records that follow each other and make the last one the end.

        False when an event is in the chain already: what was written must be rolled back.
        """
        ...


class AuditReader(Protocol):
    """Reads the chain of one tenant."""

    async def head(self, tenant_id: str) -> ChainHead:
        """Return the end of the chain as the head says, and the last sequence stored."""
        ...

    async def first_sequence(self, tenant_id: str) -> int:
        """Return the sequence of the first record that is kept; 0 when none is."""
        ...

    async def chain(
        self, tenant_id: str, after_sequence: int, until_sequence: int, limit: int
    ) -> Sequence[AuditRecord]:
        """Return up to `limit` records in order of sequence."""
        ...

    async def query(
        self, tenant_id: str, wanted: AuditFilter, before_sequence: int | None, limit: int
    ) -> Sequence[AuditRecord]:
        """Return up to `limit` records before a place, newest first."""
        ...


class CheckpointStore(Protocol):
    """Checkpoints and anchors of one tenant."""

    async def add(self, checkpoint: Checkpoint) -> bool:
        """Store a checkpoint and note it in the head; False when its number is taken already."""
        ...

    async def mark_stored(self, checkpoint: Checkpoint) -> None:
        """Note that object storage has it."""
        ...

    async def get(self, tenant_id: str, number: int) -> Checkpoint | None:
        """Return a checkpoint by its number."""
        ...

    async def covering(self, tenant_id: str, sequence: int) -> Checkpoint | None:
        """Return the first checkpoint that covers a record."""
        ...

    async def after(
        self, tenant_id: str, number: int, *, sequence: int, limit: int
    ) -> Sequence[Checkpoint]:
        """Return up to `limit` checkpoints after a number that cover more than `sequence`."""
        ...

    async def before(self, tenant_id: str, number: int | None, limit: int) -> Sequence[Checkpoint]:
        """Return up to `limit` checkpoints before a number (None: all), newest first."""
        ...

    async def last_number(self, tenant_id: str) -> int:
        """Return the highest number; 0 when there is no checkpoint."""
        ...

    async def add_anchor(self, anchor: Anchor) -> None:
        """Store an anchor; one at the same record stays as it is."""
        ...

    async def anchors(self, tenant_id: str) -> Sequence[Anchor]:
        """Return the anchors, by sequence."""
        ...


class CheckpointVault(Protocol):
    """Where checkpoints are kept a second time. Raises Unavailable when it is away."""

    async def put(self, checkpoint: Checkpoint, *, keep_until: datetime) -> bool:
        """Store a checkpoint's text for good; False when another text stands there."""
        ...

    async def text(self, tenant_id: str, number: int) -> str | None:
        """Return what is stored under a number; None for nothing."""
        ...

    async def numbers(self, tenant_id: str, after: int, limit: int) -> Sequence[int]:
        """Return up to `limit` numbers after one, sorted."""
        ...

    async def remove(self, tenant_id: str, number: int) -> None:
        """Remove what is stored under a number, when no lock keeps it."""
        ...


class AuditDoors(Protocol):
    """What is asked across tenants, and what only the owner of the tables may do."""

    async def make_months(self, ahead: int) -> int:
        """Make the months of records up to so many after this one; return how many are new."""
        ...

    async def due(self, *, seconds: float, records: int, limit: int) -> Sequence[str]:
        """Return tenants whose chain has grown since a checkpoint so old or by so much."""
        ...

    async def unstored(self, limit: int) -> Sequence[tuple[str, int]]:
        """Return checkpoints (tenant, number) that the vault does not have."""
        ...

    async def unanchored(self, days: int, limit: int) -> Mapping[str, Place]:
        """Return by tenant the last record that is due to be dropped and has no anchor."""
        ...

    async def drop_months(self, days: int) -> int | None:
        """Drop months that are over and whose chains are anchored; None: ask again soon."""
        ...

    async def expired_checkpoints(self, limit: int) -> Sequence[tuple[str, int]]:
        """Return checkpoints (tenant, number) of nothing but dropped records."""
        ...

    async def forget_checkpoints(self, tenant_id: str, until: int) -> None:
        """Remove those of a tenant up to a number, and anchors that are no longer needed."""
        ...

    async def prune_events(self, limit: int) -> int:
        """Remove notes about events of dropped records; return how many."""
        ...
