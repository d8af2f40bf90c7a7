"""What the calls of this process hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

from meshwright_model_router.adapters.redis_lanes import Place
from meshwright_model_router.domain.budgets import NOTHING, Counted, Hold


@dataclass(slots=True, eq=False)
class Held:
    """`Reservation`: settled once, then it is nobody's.

    `place` is its place at a deployment that is limited. `fingerprint` is the user's, "" for a
    service. `logged` is the attempt as it is logged.
    """

    tenant_id: str
    user_id: str
    fingerprint: str
    hold: Hold
    output_tokens: int
    logged: str
    _settled: Callable[[Held, Counted], None]
    place: Place | None = None
    _is_open: bool = field(default=True)

    def settle(self, counted: Counted) -> None:
        if self._is_open:
            self._is_open = False
            self._settled(self, counted)

    def release(self) -> None:
        self.settle(NOTHING)


class Holdings:
    """What is held, by tenant and reservation."""

    def __init__(self) -> None:
        self._by_tenant: dict[str, dict[str, Held]] = {}

    def add(self, held: Held) -> None:
        """Add a reservation."""
        self._by_tenant.setdefault(held.tenant_id, {})[held.hold.reservation_id] = held

    def remove(self, held: Held) -> None:
        """Remove a reservation that is settled."""
        of_tenant = self._by_tenant.get(held.tenant_id)
        if of_tenant is not None:
            of_tenant.pop(held.hold.reservation_id, None)
            if not of_tenant:
                del self._by_tenant[held.tenant_id]

    def tenants(self) -> Sequence[str]:
        """Return the tenants that hold something."""
        return list(self._by_tenant)

    def of(self, tenant_id: str) -> Sequence[Held]:
        """Return what a tenant holds."""
        return list(self._by_tenant.get(tenant_id, {}).values())

    def find(self, tenant_id: str, reservation_ids: Iterable[str]) -> Iterator[Held]:
        """Yield those of the reservations that are not settled yet."""
        of_tenant = self._by_tenant.get(tenant_id, {})
        for reservation_id in reservation_ids:
            if (held := of_tenant.get(reservation_id)) is not None:
                yield held

    def sum(self, tenant_id: str, day: date, fingerprint: str | None = None) -> Counted:
        """Return what a tenant, or one user of it, holds of a day."""
        tokens = micro_usd = 0
        for held in self._by_tenant.get(tenant_id, {}).values():
            if held.hold.day == day and fingerprint in {None, held.fingerprint}:
                tokens += held.hold.held.tokens
                micro_usd += held.hold.held.micro_usd
        return Counted(tokens, micro_usd)
