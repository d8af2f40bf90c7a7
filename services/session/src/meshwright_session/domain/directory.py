"""Who exists and who may do what. Nobody can hand out more than they hold."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from meshwright_common.clock import Clock
from meshwright_common.context import Principal
from meshwright_common.errors import invalid
from meshwright_common.ids import new_id
from meshwright_session.domain import paging
from meshwright_session.domain.acts import Act
from meshwright_session.domain.directory_models import (
    ApiKey,
    NewApiKey,
    NewTenant,
    NewUser,
    Plan,
    Tenant,
    User,
    UserChange,
)
from meshwright_session.domain.errors import (
    CredentialRefused,
    GrantRefused,
    TenantNotFound,
    TenantSuspended,
    UserNotFound,
    UserRefused,
)
from meshwright_session.domain.models import JsonObject, Request
from meshwright_session.domain.paging import Page, PageRequest
from meshwright_session.domain.ports import (
    ApiKeyMaker,
    ApiKeyPosition,
    Directory,
    RefusedKeys,
)
from meshwright_session.domain.roles import PERMISSIONS_BY_ROLE, permissions_of

FIRST_KEY_LABEL = "first key"


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Whom an API key stands for."""

    principal: Principal
    api_key_id: str
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class TenantCreated:
    """A tenant and its owner. `api_key` is empty when the same request made them before."""

    tenant: Tenant
    owner: User
    api_key: str


@dataclass(frozen=True, slots=True)
class ApiKeyCreated:
    """A key and its secret, which is nowhere else."""

    api_key: ApiKey
    secret: str


class People:
    """The use cases of the directory."""

    def __init__(
        self,
        directory: Directory,
        make_key: ApiKeyMaker,
        clock: Clock,
        refused: RefusedKeys | None = None,
    ) -> None:
        self._directory = directory
        self._make_key = make_key
        self._clock = clock
        self._refused = refused

    async def authenticate(self, key_sha256: bytes) -> Authenticated:
        """Return the principal of a key. Raises: CredentialRefused, TenantSuspended."""
        found = await self._directory.find_credential(key_sha256)
        if found is None:
            raise CredentialRefused
        if not (found.usable and not found.suspended) and self._refused is not None:
            self._refused(found)
        if not found.usable:
            raise CredentialRefused
        if found.suspended:
            raise TenantSuspended
        held = permissions_of(found.roles)
        if found.permissions:
            held &= frozenset(found.permissions)
        principal = Principal(found.tenant_id, found.user_id, "user", held, found.roles)
        return Authenticated(principal, found.api_key_id, found.expire_time)

    async def create_tenant(
        self, slug: str, display_name: str, plan: Plan, *, owner_name: str, request: Request | None
    ) -> TenantCreated:
        """Create a tenant, its owner and the owner's first key.

        Raises: NameTaken, IdempotencyKeyReused.
        """
        tenant = NewTenant(new_id(), slug, display_name, plan)
        owner = NewUser(new_id(), owner_name, "", ("owner",))
        fresh = self._make_key()
        key = NewApiKey(
            api_key_id=new_id(),
            user_id=owner.user_id,
            label=FIRST_KEY_LABEL,
            prefix=fresh.prefix,
            sha256=fresh.sha256,
            permissions=(),
            expire_time=None,
        )
        creation = Act(
            "tenant.created",
            f"tenant/{tenant.tenant_id}",
            # No names: what is in the log cannot be erased.
            {"owner_id": owner.user_id, "api_key_id": key.api_key_id},
        )
        stored, stored_owner, is_new = await self._directory.create_tenant(
            tenant, owner, key, request, creation
        )
        return TenantCreated(stored, stored_owner, fresh.plain if is_new else "")

    async def get_tenant(self, caller: Principal) -> Tenant:
        """Return the caller's tenant. Raises: TenantNotFound."""
        return await self._directory.get_tenant(caller.tenant_id)

    async def create_user(
        self,
        caller: Principal,
        *,
        name: str,
        email: str,
        roles: tuple[str, ...],
        request: Request | None,
    ) -> User:
        """Create a user with roles that hold no more than the caller does.

        Raises: InvalidArgument for an unknown role; GrantRefused, NameTaken, IdempotencyKeyReused.
        """
        _refuse_unknown(roles)
        _refuse_excess(caller, permissions_of(roles))
        user = NewUser(new_id(), name, email, roles)
        creation = Act(
            "user.created",
            f"user/{user.user_id}",
            {"roles": list(roles)},
        )
        return await self._directory.create_user(caller.tenant_id, user, request, creation)

    async def update_user(self, caller: Principal, user_id: str, change: UserChange) -> User:
        """Change a user who holds no more than the caller does, before and after.

        Raises: InvalidArgument for an unknown role; UserNotFound, GrantRefused, NameTaken,
        LastOwner.
        """
        if change.roles is not None:
            _refuse_unknown(change.roles)
            _refuse_excess(caller, permissions_of(change.roles))

        def allow(user: User) -> None:
            _refuse_excess(caller, permissions_of(user.roles))

        act = Act("user.updated", f"user/{user_id}", _told(change))
        return await self._directory.update_user(caller.tenant_id, user_id, change, act, allow)

    async def confirm_user(self, tenant_id: str, user_id: str) -> Principal:
        """Return what a user may do now. Raises: UserRefused, TenantSuspended."""
        try:
            tenant = await self._directory.get_tenant(tenant_id)
            user = await self._directory.get_user(tenant_id, user_id)
        except (TenantNotFound, UserNotFound):
            raise UserRefused from None
        if user.disabled:
            raise UserRefused
        if tenant.state != "active":
            raise TenantSuspended
        return Principal(tenant_id, user_id, "user", permissions_of(user.roles), user.roles)

    async def get_user(self, caller: Principal, user_id: str) -> User:
        """Return a user: oneself, or anybody of the tenant for its administrators.

        Raises: UserNotFound, also for those the caller may not see.
        """
        wanted = user_id or caller.subject
        if wanted != caller.subject and not caller.has("tenant:admin"):
            raise UserNotFound
        if caller.kind != "user" and not user_id:
            raise UserNotFound
        return await self._directory.get_user(caller.tenant_id, wanted)

    async def list_users(self, caller: Principal, page: PageRequest) -> Page[User]:
        """Return a page of the tenant's users by name."""
        scope = (caller.tenant_id, "users")
        position = paging.decode(scope, page.token, (str,))
        after = None if position is None else str(position[0])
        rows = await self._directory.list_users(caller.tenant_id, after, page.size + 1)
        rows, last = paging.cut(rows, page.size)
        return Page(rows, "" if last is None else paging.encode(scope, (last.name,)))

    async def create_api_key(
        self,
        caller: Principal,
        *,
        user_id: str,
        label: str,
        permissions: tuple[str, ...],
        expire_time: datetime | None,
    ) -> ApiKeyCreated:
        """Create a key for a user (empty: the caller) with no more than the caller holds.

        Raises: InvalidArgument when it would be dead from the start; UserNotFound, GrantRefused.
        """
        if expire_time is not None and expire_time <= self._clock.now():
            raise invalid("expire_time", "must be in the future")
        if not user_id and caller.kind != "user":
            raise UserNotFound
        user = await self._directory.get_user(caller.tenant_id, user_id or caller.subject)
        held = permissions_of(user.roles)
        if unknown := sorted(set(permissions) - held):
            raise invalid("permissions", f"the user does not hold {', '.join(unknown)}")
        _refuse_excess(caller, frozenset(permissions) or held)
        fresh = self._make_key()
        key = NewApiKey(
            api_key_id=new_id(),
            user_id=user.user_id,
            label=label,
            prefix=fresh.prefix,
            sha256=fresh.sha256,
            permissions=tuple(sorted(set(permissions))),
            expire_time=expire_time,
        )
        creation = Act(
            "api_key.created",
            f"api_key/{key.api_key_id}",
            {
                "user_id": user.user_id,
                "prefix": key.prefix,
                "permissions": list(key.permissions),
            },
        )
        stored = await self._directory.create_api_key(caller.tenant_id, key, creation)
        return ApiKeyCreated(stored, fresh.plain)

    async def list_api_keys(self, caller: Principal, page: PageRequest) -> Page[ApiKey]:
        """Return a page of the tenant's keys, newest first."""
        scope = (caller.tenant_id, "api_keys")
        position = paging.decode(scope, page.token, (int, str))
        after = None
        if position is not None:
            after = ApiKeyPosition(paging.moment(int(position[0])), paging.identifier(position[1]))
        rows = await self._directory.list_api_keys(caller.tenant_id, after, page.size + 1)
        rows, last = paging.cut(rows, page.size)
        if last is None:
            return Page(rows)
        place = (paging.microseconds(last.create_time), last.api_key_id)
        return Page(rows, paging.encode(scope, place))

    async def revoke_api_key(self, caller: Principal, api_key_id: str) -> ApiKey:
        """Revoke a key for good; again is no error. Raises: ApiKeyNotFound."""
        revocation = Act("api_key.revoked", f"api_key/{api_key_id}")
        return await self._directory.revoke_api_key(caller.tenant_id, api_key_id, revocation)


def _told(change: UserChange) -> JsonObject:
    """Return the change for the audit log, which holds nothing that names a person."""
    told: dict[str, object] = {}
    if change.name is not None:
        told["name_changed"] = True
    if change.email is not None:
        told["email_changed"] = True
    if change.roles is not None:
        told["roles"] = list(change.roles)
    if change.disabled is not None:
        told["disabled"] = change.disabled
    return told


def _refuse_unknown(roles: Iterable[str]) -> None:
    for role in roles:
        if role not in PERMISSIONS_BY_ROLE:
            known = ", ".join(PERMISSIONS_BY_ROLE)
            raise invalid("user.roles", f"{role!r} is no role; roles are {known}")


def _refuse_excess(caller: Principal, granted: Iterable[str]) -> None:
    if excess := sorted(set(granted) - caller.permissions):
        raise GrantRefused(permission=", ".join(excess))
