"""Reading and checking the audit log, and adding to it."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.context import Principal
from meshwright_session.domain import paging
from meshwright_session.domain.audit_chain import link, place_of
from meshwright_session.domain.audit_checkpoints import Checkpoint
from meshwright_session.domain.audit_ports import AuditChain, AuditReader, CheckpointStore
from meshwright_session.domain.audit_records import AuditEntry, AuditFilter, AuditRecord
from meshwright_session.domain.audit_verification import AuditVerifier, Verdict
from meshwright_session.domain.paging import Page, PageRequest

MOST_COPIES: Final = 1000
"""Copies of checkpoints that a call reads; it looks for all of them."""


class AuditTrail:
    """The use cases of readers."""

    def __init__(
        self, reader: AuditReader, checkpoints: CheckpointStore, verifier: AuditVerifier
    ) -> None:
        self._reader = reader
        self._checkpoints = checkpoints
        self._verifier = verifier

    async def query(
        self, caller: Principal, wanted: AuditFilter, page: PageRequest
    ) -> Page[AuditRecord]:
        """Return a page of the tenant's records, newest first."""
        start = "" if wanted.start is None else wanted.start.isoformat()
        end = "" if wanted.end is None else wanted.end.isoformat()
        scope = (caller.tenant_id, "audit", start, end, wanted.actor, wanted.action_prefix)
        position = paging.decode(scope, page.token, (int,))
        before = None if position is None else int(position[0])
        rows = await self._reader.query(caller.tenant_id, wanted, before, page.size + 1)
        rows, last = paging.cut(rows, page.size)
        return Page(rows, "" if last is None else paging.encode(scope, (last.sequence,)))

    async def verify(self, caller: Principal) -> Verdict:
        """Check the tenant's log as it stands now. Raises: Unavailable."""
        return await self._verifier.verify(caller.tenant_id, most_copies=MOST_COPIES)

    async def checkpoints(self, caller: Principal, page: PageRequest) -> Page[Checkpoint]:
        """Return a page of the tenant's checkpoints, newest first."""
        scope = (caller.tenant_id, "audit-checkpoints")
        position = paging.decode(scope, page.token, (int,))
        before = None if position is None else int(position[0])
        rows = await self._checkpoints.before(caller.tenant_id, before, page.size + 1)
        rows, last = paging.cut(rows, page.size)
        return Page(rows, "" if last is None else paging.encode(scope, (last.number,)))


async def add_to_chain(chain: AuditChain, entry: AuditEntry) -> bool:
    """Append an entry to its tenant's chain; False when the chain has its event already."""
    end = await chain.lock_end(entry.tenant_id)
    return await chain.append(link(entry, end.place, now=end.now))


async def add_all_to_chain(chain: AuditChain, entries: Sequence[AuditEntry]) -> bool:
    """Append entries of one tenant to its chain, in order.

    False when the chain has an event of theirs: what was written must be rolled back.
    """
    place, now = await chain.lock_end(entries[0].tenant_id)
    records: list[AuditRecord] = []
    for entry in entries:
        record = link(entry, place, now=now)
        records.append(record)
        place = place_of(record)
    return await chain.append_all(records)
