"""What erasing needs from stores and from the other services."""

from collections.abc import Sequence
from typing import Protocol

from meshwright_session.domain.acts import Act
from meshwright_session.domain.erasure_models import Erasure, ErasureLease, Look, StoreReport


class ErasureRegister(Protocol):
    """Erasures as they are asked for and read. Every method is one transaction."""

    async def begin_user(
        self, tenant_id: str, user_id: str, erasure_id: str, *, keep_documents: bool, act: Act
    ) -> Erasure:
        """Note the erasure of a user, and see to it that nothing new is written in its name.

        One that was begun before is returned as it is. Raises: UserNotFound, LastOwner.
        """
        ...

    async def begin_tenant(
        self, tenant_id: str, confirm_slug: str, erasure_id: str, *, act: Act
    ) -> Erasure:
        """Note the erasure of a tenant, and close it to everybody.

        One that was begun before is returned as it is. Raises: TenantNotFound; InvalidArgument
        when the slug is not the tenant's.
        """
        ...

    async def get(self, tenant_id: str, erasure_id: str) -> Erasure:
        """Return an erasure with its stores. Raises: ErasureNotFound."""
        ...

    async def list(self, tenant_id: str, before_id: str | None, limit: int) -> Sequence[Erasure]:
        """Return up to `limit` erasures, newest first, without their stores."""
        ...


class ErasureWork(Protocol):
    """Erasures as they are worked on. What a lease that is lost would write is not written."""

    async def tenants(self) -> Sequence[str]:
        """Return the ids of all tenants of which something is being erased."""
        ...

    async def claim(self, most: int) -> Sequence[ErasureLease]:
        """Take up to `most` that are due, of any tenant."""
        ...

    async def renew(self, lease: ErasureLease) -> None:
        """Keep a lease. Raises: LeaseLost."""
        ...

    async def read(self, lease: ErasureLease) -> Erasure:
        """Return what the lease is about. Raises: LeaseLost."""
        ...

    async def note(
        self, lease: ErasureLease, look: Look, *, settling: bool, delay_seconds: float
    ) -> None:
        """Add what a round came to, say when the next one is due, and give the lease back.

        `settling`: nothing is left, and the next look is the one that counts. Raises: LeaseLost.
        """
        ...

    async def complete(self, lease: ErasureLease, look: Look, act: Act) -> None:
        """Add the last round, make the receipt and tell it, all at once. Raises: LeaseLost."""
        ...


class StoreErasure(Protocol):
    """One service with stores, this one included."""

    @property
    def service(self) -> str:
        """Its name."""
        ...

    async def erase(self, erasure: Erasure) -> Sequence[StoreReport]:
        """Remove what the service keeps of the subject, or as much as fits a call, and look.

        Raises: ServiceError when it cannot be reached, or one of its stores cannot.
        """
        ...


class TenantEnd(Protocol):
    """The last steps of a tenant, once all of its stores are empty."""

    async def end(self, tenant_id: str) -> None:
        """Destroy its data keys, drop its own schema, and leave a tombstone without a name.

        May be done again. Raises: Unavailable, DeadlineExceeded.
        """
        ...
