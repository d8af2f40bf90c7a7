"""What an erasure cannot reach, or must not: the honest part of a receipt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from meshwright_session.domain.erasure_models import ErasureKind, Kept

NOBODY: Final = "erased"
"""The user of what erased users consumed. No id of a user looks like it."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what stays is kept.

    `topics` are the retentions of the event log by topic, that of the audit included; `relayed`
    says that a broker has copies of all events, not only of those for the audit.
    """

    audit: timedelta
    receipts: timedelta
    topics: Mapping[str, timedelta]
    audit_topic: str
    relayed: bool


def kept_copies(kind: ErasureKind, retention: Retention) -> Sequence[Kept]:
    """Return what stays of an erased subject, why, and for how long."""
    kept = [
        Kept("session.audit_records", "who did what, by ids, without content", retention.audit),
        Kept("session.erasures", "this receipt: ids and counts", retention.receipts),
    ]
    if kind == "user":
        kept += [
            Kept("session.usage_ledger", f"amounts for the bill, as those of {NOBODY!r}", None),
            Kept("model_router.model_usage", f"amounts for the bill, as those of {NOBODY!r}", None),
            Kept("session.tenants", "the id of the tenant's first user, if it was this one", None),
        ]
    else:
        kept += [
            Kept("session.tenants", "a tombstone: the id, without names", None),
            Kept("session.audit_heads", "where the chain of audit records ends", None),
            Kept("objects:audit", "signed hashes of the chain of audit records", retention.audit),
        ]
    for topic, lifetime in sorted(retention.topics.items()):
        if topic == retention.audit_topic:
            kept.append(Kept(f"topic {topic}", "who did what, by ids, without content", lifetime))
        elif retention.relayed:
            kept.append(
                Kept(f"topic {topic}", "copies of events, which hold ids and amounts", lifetime)
            )
    return kept
