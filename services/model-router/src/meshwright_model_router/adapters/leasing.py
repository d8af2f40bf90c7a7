"""How long what budgets hold outlives the process that holds it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Leasing:
    """Times of what is held. A heartbeat is often enough that a lease lasts through some."""

    lease_seconds: float

    @property
    def heartbeat_seconds(self) -> float:
        """How often leases are renewed, and a server that lost them is told again."""
        return self.lease_seconds / 10

    @property
    def telling_seconds(self) -> float:
        """How often a replica looks whether it is asked for what its calls hold."""
        return min(0.25, self.lease_seconds / 20)
