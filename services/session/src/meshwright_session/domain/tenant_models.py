"""What a tenant uses of its limits."""

from dataclasses import dataclass

from meshwright_session.domain.directory_models import Tenant
from meshwright_session.domain.plans import Limits


@dataclass(frozen=True, slots=True)
class Use:
    """What is used. None: not known, because whoever counts it is away or was not asked."""

    sessions: int | None = None
    tokens_today: int | None = None
    documents: int | None = None
    storage_bytes: int | None = None
    concurrent_turns: int | None = None
    cost_micro_usd_today: int | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of a tenant, and what is used of them."""

    tenant: Tenant
    limits: Limits
    used: Use
    alert_percents: tuple[int, ...]
