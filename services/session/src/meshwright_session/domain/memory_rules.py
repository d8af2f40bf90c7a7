"""Which memories hold: what says the same renews, what contradicts supersedes, if it may.

Origins are trusted in this order: what the user said, what a model concluded, what rests on
documents or tools. A memory supersedes another one

* of an origin that is trusted as much or less, unless it is unsure and less sure than that one;
* of the user, when it is a model's and very sure: people change, and say so in conversation;
* never else: nothing untrusted replaces what a user said or a model concluded from it.

One that contradicts what it may not supersede is stored as superseded by that: it never holds, and
its owner can see that it was claimed.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from meshwright_session.domain.memory_models import (
    Memory,
    MemoryDraft,
    MemoryKind,
    MemoryOrigin,
    Provenance,
)

UNSURE_BELOW: Final = 0.5
VERY_SURE: Final = 0.8
"""From here on a model's conclusion may replace what the user said before."""

_TRUST: Final = {MemoryOrigin.USER: 3, MemoryOrigin.MODEL: 2, MemoryOrigin.UNTRUSTED: 1}


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What storing drafts comes to: the memory of each draft, and the rows to add and to change."""

    stored: Sequence[Memory]
    added: Sequence[Memory]
    changed: Sequence[Memory]


def may_supersede(new: Memory, old: Memory) -> bool:
    """Return whether `new`, which contradicts `old`, takes its place."""
    if new.confidence < min(UNSURE_BELOW, old.confidence):
        return False
    if _TRUST[new.origin] >= _TRUST[old.origin]:
        return True
    return new.origin is MemoryOrigin.MODEL and new.confidence >= VERY_SURE


def normalised(text: str) -> str:
    """Return a text without differences that do not change what it says."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".。!！ ")


def sameness(kind: MemoryKind, provenance: Provenance, text: str) -> str:
    """Return what two memories have in common that say the same."""
    if kind is MemoryKind.SUMMARY:
        # Two sessions about the same thing are two.
        return f"summary {provenance.session_id} {normalised(text)}"
    return f"said {normalised(text)}"


def reconcile(
    held: Iterable[Memory],
    drafts: Sequence[MemoryDraft],
    *,
    user_id: str,
    provenance: Provenance,
    now: datetime,
    new_id: Callable[[], str],
) -> Reconciled:
    """Store `drafts`, one after the other, beside the memories that hold.

    `held` has at least those that say the same, are of the same topic, or are named to be
    superseded.
    """
    known = {memory.memory_id: memory for memory in held}
    before = dict(known)
    places: list[str] = []
    for draft in drafts:
        memory = _same(known.values(), draft, provenance)
        if memory is None:
            memory = _made(draft, user_id, provenance, now, new_id())
        else:
            memory = _renewed(memory, draft, now)
        known[memory.memory_id] = memory
        rivals = [
            other
            for other in known.values()
            if other.memory_id != memory.memory_id
            and other.superseded_by is None
            and _contradicts(memory, draft, other)
        ]
        stronger = [other for other in rivals if not may_supersede(memory, other)]
        if stronger:
            known[memory.memory_id] = replace(memory, superseded_by=stronger[0].memory_id)
        else:
            for other in rivals:
                known[other.memory_id] = replace(other, superseded_by=memory.memory_id)
        places.append(memory.memory_id)
    return Reconciled(
        stored=[known[place] for place in places],
        added=[memory for place, memory in known.items() if place not in before],
        changed=[memory for place, memory in known.items() if before.get(place, memory) != memory],
    )


def _same(known: Iterable[Memory], draft: MemoryDraft, provenance: Provenance) -> Memory | None:
    wanted = sameness(draft.kind, provenance, draft.text)
    for memory in known:
        if memory.superseded_by is None and wanted == sameness(
            memory.kind, memory.provenance, memory.text
        ):
            return memory
    return None


def _contradicts(memory: Memory, draft: MemoryDraft, other: Memory) -> bool:
    if other.memory_id in draft.supersedes:
        return True
    return bool(memory.topic) and other.topic == memory.topic


def _made(
    draft: MemoryDraft, user_id: str, provenance: Provenance, now: datetime, memory_id: str
) -> Memory:
    return Memory(
        memory_id=memory_id,
        user_id=user_id,
        kind=draft.kind,
        text=draft.text,
        origin=draft.origin,
        provenance=provenance,
        confidence=draft.confidence,
        metadata=draft.metadata or {},
        topic=draft.topic,
        superseded_by=None,
        create_time=now,
        update_time=now,
        expire_time=draft.expire_time,
    )


def _renewed(memory: Memory, draft: MemoryDraft, now: datetime) -> Memory:
    if _TRUST[draft.origin] < _TRUST[memory.origin]:
        # Heard again from somebody who counts less: no more than that.
        return replace(memory, update_time=now)
    return replace(
        memory,
        origin=draft.origin,
        confidence=max(memory.confidence, draft.confidence),
        metadata=memory.metadata if draft.metadata is None else draft.metadata,
        topic=draft.topic or memory.topic,
        update_time=now,
        expire_time=draft.expire_time,
    )
