"""Erasures of users and tenants."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

ErasureKind = Literal["user", "tenant"]
ErasureState = Literal["erasing", "settling", "completed"]


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a service removed from one of its stores, and what a look after it still found."""

    service: str
    store: str
    removed: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure. `user_id` is empty for that of a tenant, `receipt` until it is completed."""

    tenant_id: str
    erasure_id: str
    user_id: str
    state: ErasureState
    requested_by: str
    keep_documents: bool
    create_time: datetime
    due_time: datetime
    complete_time: datetime | None = None
    attempts: int = 0
    last_error: str = ""
    receipt: str = ""
    stores: Sequence[StoreReport] = ()

    @property
    def kind(self) -> ErasureKind:
        """What is erased."""
        return "user" if self.user_id else "tenant"

    @property
    def subject_id(self) -> str:
        """Id of what is erased."""
        return self.user_id or self.tenant_id


@dataclass(frozen=True, slots=True)
class ErasureLease:
    """The right to go on with an erasure, until somebody else has a higher epoch."""

    tenant_id: str
    erasure_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a round through all services came to. `errors`: why some did not answer."""

    reports: Sequence[StoreReport]
    errors: Sequence[str] = ()

    @property
    def removed(self) -> int:
        """How much was removed."""
        return sum(one.removed for one in self.reports)

    @property
    def is_clean(self) -> bool:
        """Whether every service answered, and nothing is left anywhere."""
        return not self.errors and not any(one.remaining for one in self.reports)


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays, why, and for how long from the completion on (None: with the tenant)."""

    place: str
    reason: str
    lifetime: timedelta | None
