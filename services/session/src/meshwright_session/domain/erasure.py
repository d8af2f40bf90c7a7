"""Erasing users and tenants: who may ask, and how it goes on until a look finds nothing.

An erasure is a row that somebody works on until it is completed. A round asks every service to
empty its stores and to look. When nothing is left, the erasure settles: it waits for longer than
whatever was under way can last (leases of work, tokens of callers) and looks again. Only a look
that removed nothing and found nothing completes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshwright_common.context import Principal
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_session.domain import paging
from meshwright_session.domain.acts import Act
from meshwright_session.domain.directory_models import User
from meshwright_session.domain.erasure_models import Erasure, ErasureLease, Look, StoreReport
from meshwright_session.domain.erasure_ports import (
    ErasureRegister,
    ErasureWork,
    StoreErasure,
    TenantEnd,
)
from meshwright_session.domain.errors import GrantRefused, UserNotFound
from meshwright_session.domain.paging import Page, PageRequest
from meshwright_session.domain.ports import Directory
from meshwright_session.domain.roles import permissions_of

AGAIN_SECONDS: Final = 0.2
"""Until the next round when something is left and all answered: there was too much for one call, or
it waits for an event to be handled."""
LONGEST_BACKOFF_SECONDS: Final = 30.0
"""Between rounds while a service is away: after it is back, an erasure goes on within this."""


class Erasures:
    """The use cases of callers."""

    def __init__(self, register: ErasureRegister, directory: Directory) -> None:
        self._register = register
        self._directory = directory

    async def erase_user(self, caller: Principal, user_id: str, *, keep_documents: bool) -> Erasure:
        """Begin to erase a user, or return the erasure that was begun.

        Nobody erases who holds more than they do: an administrator cannot remove an owner.
        Raises: UserNotFound, GrantRefused, LastOwner.
        """
        user = await self._user(caller, user_id)
        if user is not None:
            excess = sorted(permissions_of(user.roles) - caller.permissions)
            if excess and caller.kind == "user":
                raise GrantRefused(permission=", ".join(excess))
        erasure_id = new_id()
        request = Act("user.erasure_requested", f"user/{user_id}", {"erasure_id": erasure_id})
        return await self._register.begin_user(
            caller.tenant_id, user_id, erasure_id, keep_documents=keep_documents, act=request
        )

    async def _user(self, caller: Principal, user_id: str) -> User | None:
        """Return a user; None for one that may be gone already, which the register knows."""
        try:
            return await self._directory.get_user(caller.tenant_id, user_id)
        except UserNotFound:
            return None

    async def erase_tenant(self, caller: Principal, confirm_slug: str) -> Erasure:
        """Begin to erase the caller's tenant, or return the erasure that was begun.

        Raises: TenantNotFound; InvalidArgument when the slug is not the tenant's.
        """
        erasure_id = new_id()
        request = Act(
            "tenant.erasure_requested", f"tenant/{caller.tenant_id}", {"erasure_id": erasure_id}
        )
        return await self._register.begin_tenant(
            caller.tenant_id, confirm_slug, erasure_id, act=request
        )

    async def get(self, caller: Principal, erasure_id: str) -> Erasure:
        """Return an erasure of the caller's tenant. Raises: ErasureNotFound."""
        return await self._register.get(caller.tenant_id, erasure_id)

    async def list(self, caller: Principal, page: PageRequest) -> Page[Erasure]:
        """Return a page of the tenant's erasures, newest first, without their stores."""
        scope = (caller.tenant_id, "erasures")
        position = paging.decode(scope, page.token, (str,))
        before = None if position is None else paging.identifier(position[0])
        rows = await self._register.list(caller.tenant_id, before, page.size + 1)
        rows, last = paging.cut(rows, page.size)
        return Page(rows, "" if last is None else paging.encode(scope, (last.erasure_id,)))


@dataclass(frozen=True, slots=True)
class ErasureRounds:
    """Goes on with an erasure. `services` are asked in their order: where work runs, first."""

    work: ErasureWork
    services: Sequence[StoreErasure]
    tenant_end: TenantEnd
    settle_seconds: float

    async def run(self, lease: ErasureLease) -> None:
        """Do one round and note what it came to.

        Raises: LeaseLost; Unavailable and DeadlineExceeded when it cannot even be noted.
        """
        erasure = await self.work.read(lease)
        look = await self._round(erasure)
        if not look.is_clean:
            delay = _backoff(erasure.attempts) if look.errors else AGAIN_SECONDS
            await self.work.note(lease, look, settling=False, delay_seconds=delay)
        elif erasure.state == "erasing" or look.removed:
            # A look that removed something was not the last one: a late writer was caught.
            await self.work.note(lease, look, settling=True, delay_seconds=self.settle_seconds)
        else:
            await self._complete(lease, erasure, look)

    async def _round(self, erasure: Erasure) -> Look:
        reports: list[StoreReport] = []
        errors: list[str] = []
        for one in self.services:
            try:
                reports += await one.erase(erasure)
            except ServiceError as error:
                # The others need not wait for it; the erasure does.
                errors.append(f"{one.service}: {error}")
        return Look(reports, errors)

    async def _complete(self, lease: ErasureLease, erasure: Erasure, look: Look) -> None:
        if erasure.kind == "tenant":
            try:
                await self.tenant_end.end(erasure.tenant_id)
            except ServiceError as error:
                failed = Look(look.reports, (f"the tenant's end: {error}",))
                delay = _backoff(erasure.attempts)
                await self.work.note(lease, failed, settling=True, delay_seconds=delay)
                return
        done = Act(
            f"{erasure.kind}.erased",
            f"{erasure.kind}/{erasure.subject_id}",
            {"erasure_id": erasure.erasure_id},
        )
        await self.work.complete(lease, look, done)


def _backoff(attempts: int) -> float:
    return min(0.5 * 2.0 ** min(attempts, 10), LONGEST_BACKOFF_SECONDS)
