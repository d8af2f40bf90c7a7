"""Refused logins and denied calls of this process, counted together until they are reported.

Whoever tries keys or calls what it may not makes a few records a minute, however often it tries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

MOST_KINDS: Final = 500
"""Kinds of denials that are told apart in one report."""
MOST_OF_ONE: Final = 20
"""Of these from one address, or else of one tenant: nobody's tries hide those of others."""

DeniedAction: TypeAlias = Literal["login.refused", "permission.denied"]


@dataclass(frozen=True, slots=True)
class DenialKind:
    """What is counted together. `tenant_id` is empty when nobody knows whose it is.

    No text holds content or a secret. `reason` is a word such as "revoked", or the permission that
    was missing.
    """

    action: DeniedAction
    tenant_id: str = ""
    actor: str = ""
    resource: str = ""
    reason: str = ""
    address: str = ""


@dataclass(slots=True)
class Denied:
    """How often something was denied, and when first and last."""

    kind: DenialKind
    count: int
    first_time: datetime
    last_time: datetime


class Denials:
    """Counts until it is asked."""

    def __init__(self) -> None:
        self._counted: dict[DenialKind, Denied] = {}
        self._of_one: Counter[str] = Counter()

    def note(self, kind: DenialKind) -> None:
        """Count a denial that happens now."""
        # house: wall-clock: for a record
        now = datetime.now(UTC)
        counted = self._counted.get(kind) or self._begun(kind, now)
        counted.count += 1
        counted.last_time = now

    def take(self) -> Sequence[Denied]:
        """Return what was counted, and begin anew."""
        counted, self._counted = self._counted, {}
        self._of_one.clear()
        return tuple(counted.values())

    def _begun(self, kind: DenialKind, now: datetime) -> Denied:
        source = kind.address or kind.tenant_id
        self._of_one[source] += 1
        if self._of_one[source] > MOST_OF_ONE:
            kind = replace(kind, actor="", resource="", reason="several")
        if kind not in self._counted and len(self._counted) >= MOST_KINDS:
            kind = DenialKind(kind.action, reason="several")
        counted = self._counted.get(kind)
        if counted is None:
            counted = self._counted[kind] = Denied(kind, 0, now, now)
        return counted
