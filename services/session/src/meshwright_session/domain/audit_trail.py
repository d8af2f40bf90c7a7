"""Reading and checking the audit log, and adding to it."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.context import Principal
from meshwright_session.domain import paging
from meshwright_session.domain.audit_chain import ChainCheck, ChainHead, Verdict, link
from meshwright_session.domain.audit_records import AuditEntry, AuditFilter, AuditRecord
from meshwright_session.domain.paging import Page, PageRequest
from meshwright_session.domain.ports import AuditChain, AuditReader

VERIFY_BATCH_RECORDS: Final = 200
"""Records checked between two waits: few enough (some 5 ms) not to hold up other calls."""


class AuditTrail:
    """The use cases of readers."""

    def __init__(self, reader: AuditReader) -> None:
        self._reader = reader

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
        """Recompute the tenant's chain as it stands now; records added meanwhile do not count."""
        head = await self._reader.head(caller.tenant_id)
        check = ChainCheck(head)
        after = 0
        while after < head.sequence:
            batch = await self._reader.chain(
                caller.tenant_id, after, head.sequence, VERIFY_BATCH_RECORDS
            )
            if not batch:
                break
            for record in batch:
                if (verdict := check.bad(record)) is not None:
                    return verdict
            after = batch[-1].sequence
        return check.end()


async def add_to_chain(chain: AuditChain, entry: AuditEntry) -> bool:
    """Append an entry to its tenant's chain; False when the chain has its event already."""
    head = await chain.lock_head(entry.tenant_id)
    return await chain.append(link(entry, head))


async def add_all_to_chain(chain: AuditChain, entries: Sequence[AuditEntry]) -> bool:
    """Append entries of one tenant to its chain, in order.

    False when the chain has an event of theirs: what was written must be rolled back.
    """
    head = await chain.lock_head(entries[0].tenant_id)
    records: list[AuditRecord] = []
    for entry in entries:
        record = link(entry, head)
        records.append(record)
        head = ChainHead(record.sequence, record.hash)
    return await chain.append_all(records)
