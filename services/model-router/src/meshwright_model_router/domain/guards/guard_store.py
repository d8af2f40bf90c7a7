"""What administration needs from where tenants' guards are kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from meshwright_model_router.domain.guards.guard import Guard


@dataclass(frozen=True, slots=True)
class GuardRecord:
    """A tenant's guard as stored. `revision` counts its changes."""

    guard: Guard
    revision: int
    update_time: datetime

    @property
    def etag(self) -> str:
        """Changes with every update."""
        # A name that is used anew counts from 1 again.
        return f"{self.revision}-{int(self.update_time.timestamp() * 1_000_000):x}"


class GuardStore(Protocol):
    """Guards of tenants. Changes of one tenant take turns; each leaves an audit record."""

    async def read(self, tenant_id: str) -> Sequence[GuardRecord]:
        """Return the tenant's guards by name."""
        ...

    async def put(
        self, tenant_id: str, guard: Guard, judge: Callable[[Sequence[GuardRecord]], None]
    ) -> GuardRecord:
        """Create or replace a guard; `judge` gets what there is, and raises to refuse."""
        ...

    async def delete(self, tenant_id: str, name: str) -> None:
        """Remove a guard; an absent one changes nothing."""
        ...
