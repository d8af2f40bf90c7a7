"""Whether a tenant's audit log is what it was: its chain, its checkpoints, its copies elsewhere."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from meshwright_session.domain.audit_chain import (
    ChainCheck,
    ChainHead,
    CheckpointPlace,
    Flaw,
    Place,
)
from meshwright_session.domain.audit_checkpoints import (
    FIRST_DIGEST,
    Checkpoint,
    Statement,
    Verifier,
    is_signed,
    place_after,
    statement_of,
)
from meshwright_session.domain.audit_ports import AuditReader, CheckpointStore, CheckpointVault
from meshwright_session.domain.audit_records import AuditRecord

BATCH_RECORDS: Final = 500
"""Records checked between two waits: few enough (some 5 ms) not to hold up other calls."""
BATCH_CHECKPOINTS: Final = 50
"""The same for checkpoints: a signature is verified in a tenth of a millisecond."""
BATCH_NUMBERS: Final = 1000
COPIES_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found. `flaw` is None when all fits.

    The kept chain begins with `first_sequence`; checkpoints cover it up to `checkpointed_sequence`.
    """

    record_count: int
    flaw: Flaw | None
    first_sequence: int = 1
    checkpoint_count: int = 0
    checkpointed_sequence: int = 0

    @property
    def valid(self) -> bool:
        """Whether everything fits."""
        return self.flaw is None


class AuditVerifier:
    """Verifies one tenant's log after the other."""

    def __init__(
        self,
        reader: AuditReader,
        checkpoints: CheckpointStore,
        vault: CheckpointVault,
        verifier: Verifier,
    ) -> None:
        self._reader = reader
        self._checkpoints = checkpoints
        self._vault = vault
        self._verifier = verifier

    async def verify(self, tenant_id: str, *, most_copies: int | None = None) -> Verdict:
        """Check the tenant's log as it stands now; records added meanwhile do not count.

        Of the copies in the vault all are looked for, and the newest `most_copies` (None: all) are
        read. Raises: Unavailable when a store is away.
        """
        verdict = await self._verify(tenant_id, most_copies)
        if verdict.flaw is not None:
            # Retention may have dropped a month under our eyes: then the second look is right.
            verdict = await self._verify(tenant_id, most_copies)
        return verdict

    async def _verify(self, tenant_id: str, most_copies: int | None) -> Verdict:
        head = await self._reader.head(tenant_id)
        start = await self._start(tenant_id, head)
        if isinstance(start, Flaw):
            return Verdict(0, start)
        check = ChainCheck(start)
        covered = _Coverage(tenant_id, start, self._verifier)
        flaw = await self._compare(tenant_id, head, check, covered)
        flaw = flaw or covered.flaw_at_end(head)
        flaw = flaw or await self._look_into_vault(tenant_id, covered, most_copies)
        return Verdict(
            record_count=check.count,
            flaw=flaw,
            first_sequence=start.sequence + 1,
            checkpoint_count=covered.count,
            checkpointed_sequence=covered.sequence,
        )

    async def _start(self, tenant_id: str, head: ChainHead) -> Place | Flaw:
        """Return the place before the first record kept: the very first one, or an anchor's."""
        first = await self._reader.first_sequence(tenant_id) or head.place.sequence + 1
        if first == 1:
            return Place()
        anchors = await self._checkpoints.anchors(tenant_id)
        known = {anchor.sequence: anchor for anchor in anchors}
        anchor = known.get(first - 1)
        if anchor is None:
            missing = max((one for one in known if one < first), default=0) + 1
            return Flaw(missing, f"record {missing} is missing, and no anchor says why")
        place = place_after(anchor, self._verifier)
        return place or Flaw(first, f"the anchor after record {first - 1} is not signed by us")

    async def _compare(
        self, tenant_id: str, head: ChainHead, check: ChainCheck, covered: "_Coverage"
    ) -> Flaw | None:
        """Recompute the chain, and meet each checkpoint at its record."""
        checkpoints = self._read_checkpoints(tenant_id, head, check.place.sequence)
        upcoming = await anext(checkpoints, None)
        async for record in self._records(tenant_id, check.place.sequence, head.place.sequence):
            if (flaw := check.flaw(record)) is not None:
                return flaw
            while upcoming is not None and upcoming.sequence <= record.sequence:
                if (flaw := covered.flaw(upcoming, check.place)) is not None:
                    return flaw
                upcoming = await anext(checkpoints, None)
        if (flaw := check.flaw_at_end(head)) is not None:
            return flaw
        return None if upcoming is None else covered.flaw(upcoming, check.place)

    async def _records(self, tenant_id: str, after: int, until: int) -> AsyncIterator[AuditRecord]:
        while after < until:
            batch = await self._reader.chain(tenant_id, after, until, BATCH_RECORDS)
            for record in batch:
                yield record
            if len(batch) < BATCH_RECORDS:
                return
            after = batch[-1].sequence

    async def _read_checkpoints(
        self, tenant_id: str, head: ChainHead, sequence: int
    ) -> AsyncIterator[Checkpoint]:
        number = 0
        while number < head.checkpoint.number:
            batch = await self._checkpoints.after(
                tenant_id, number, sequence=sequence, limit=BATCH_CHECKPOINTS
            )
            for checkpoint in batch:
                # A later one is of records that were added meanwhile.
                if checkpoint.number <= head.checkpoint.number:
                    yield checkpoint
            if len(batch) < BATCH_CHECKPOINTS:
                return
            number = batch[-1].number

    async def _look_into_vault(
        self, tenant_id: str, covered: "_Coverage", most_copies: int | None
    ) -> Flaw | None:
        """Compare the copies with what was read, and find checkpoints that are only there."""
        listed = await self._numbers(tenant_id, covered.first_number - 1)
        rows = await self._checkpoints.last_number(tenant_id)
        # Read last: whatever was written before is in it.
        head = await self._reader.head(tenant_id)
        if max((rows, *listed)) > head.checkpoint.number:
            number = max((rows, *listed))
            return covered.lacks(
                f"there is a checkpoint {number}, but the log ends with {head.checkpoint.number}: "
                "records were removed at the end"
            )
        for copy in covered.copies:
            if copy.stored and copy.number not in listed:
                return Flaw(copy.first_sequence, f"the copy of checkpoint {copy.number} is missing")
        read = [copy for copy in covered.copies if copy.number in listed]
        read = read if most_copies is None else read[-most_copies:]
        for first in range(0, len(read), COPIES_AT_ONCE):
            batch = read[first : first + COPIES_AT_ONCE]
            texts = await asyncio.gather(
                *(self._vault.text(tenant_id, copy.number) for copy in batch)
            )
            for copy, text in zip(batch, texts, strict=True):
                if text is None or digest_of(text) != copy.digest:
                    problem = f"the copy of checkpoint {copy.number} is another"
                    return Flaw(copy.first_sequence, problem)
        return None

    async def _numbers(self, tenant_id: str, after: int) -> set[int]:
        found: set[int] = set()
        while True:
            batch = await self._vault.numbers(tenant_id, after, BATCH_NUMBERS)
            found.update(batch)
            if len(batch) < BATCH_NUMBERS:
                return found
            after = batch[-1]


class _Copy(NamedTuple):
    """What the vault should have of a checkpoint, which covers records from the first on."""

    number: int
    first_sequence: int
    stored: bool
    digest: bytes


class _Coverage:
    """The checkpoints of a chain, looked at in their order."""

    def __init__(self, tenant_id: str, start: Place, verifier: Verifier) -> None:
        self.count = 0
        self.sequence = 0
        self.copies: list[_Copy] = []
        self._tenant_id = tenant_id
        self._start = start
        self._verifier = verifier
        self._last: Checkpoint | None = None

    @property
    def first_number(self) -> int:
        """The number of the first checkpoint that was looked at; 1 when none was."""
        return self.copies[0].number if self.copies else 1

    def flaw(self, checkpoint: Checkpoint, place: Place) -> Flaw | None:
        """Look at the next checkpoint; `place` is that of its record, if the chain has it."""
        statement = statement_of(checkpoint)
        name = f"checkpoint {checkpoint.number}"
        if statement is None or statement.tenant_id != self._tenant_id:
            return self.lacks(f"{name} does not say what is stored of it")
        if not is_signed(checkpoint, statement, self._verifier):
            return self.lacks(f"{name} is not signed by us")
        if not self._continues(checkpoint, statement):
            return self.lacks(f"checkpoints before {name} are missing or were replaced")
        if checkpoint.sequence > place.sequence:
            return Flaw(
                place.sequence + 1,
                f"records are missing at the end: {name} covers record {checkpoint.sequence}",
            )
        if statement.hash != place.hash.hex():
            first = self._covered_until() + 1
            return Flaw(first, f"records {first} to {checkpoint.sequence} are not those of {name}")
        digest = digest_of(checkpoint.object_text)
        self.copies.append(
            _Copy(checkpoint.number, self._covered_until() + 1, checkpoint.stored, digest)
        )
        self._last = checkpoint
        self.count += 1
        self.sequence = checkpoint.sequence
        return None

    def flaw_at_end(self, head: ChainHead) -> Flaw | None:
        """Say what is wrong when the last checkpoint is not the one that the head names."""
        if self._last is None and 0 < head.checkpoint.sequence <= self._start.sequence:
            # All of them are of dropped records.
            return None
        last = CheckpointPlace()
        if self._last is not None:
            last = CheckpointPlace(self._last.number, self._last.sequence, self._last.time)
        if last == head.checkpoint:
            return None
        return self.lacks(f"checkpoint {head.checkpoint.number} is missing")

    def lacks(self, problem: str) -> Flaw:
        """Return the flaw of records that no checkpoint proves any more."""
        return Flaw(self._covered_until() + 1, problem)

    def _covered_until(self) -> int:
        return self._start.sequence if self._last is None else self._last.sequence

    def _continues(self, checkpoint: Checkpoint, statement: Statement) -> bool:
        before = checkpoint.sequence - statement.record_count
        if self._last is None:
            begins = checkpoint.number == 1 and before == 0
            if begins and statement.previous != FIRST_DIGEST:
                return False
            return begins or (checkpoint.number > 1 and before <= self._start.sequence)
        return (checkpoint.number, before, statement.previous) == (
            self._last.number + 1,
            self._last.sequence,
            self._last.digest,
        )


def digest_of(text: str) -> bytes:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).digest()
