"""What guards found, put together and told."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from meshwright_model_router.domain.guards.guard_set import GuardSet
from meshwright_model_router.domain.output import Finding


class GuardLog(Protocol):
    """Where is told what guards did."""

    def told(self, guards: GuardSet, findings: Sequence[Finding]) -> None:
        """Count what was found, and record what was blocked. Returns at once."""
        ...


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return one finding for each guard, category, side and action, with its count."""
    sums: dict[tuple[str, str, str, str], Finding] = {}
    for one in findings:
        key = (one.guard, one.category, one.side, one.action)
        before = sums.get(key)
        sums[key] = one if before is None else replace(one, count=before.count + one.count)
    return tuple(sums.values())
