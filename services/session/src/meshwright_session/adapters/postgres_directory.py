"""Tenants, users and API keys in PostgreSQL."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import asyncpg

from meshwright_common.events import audit
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_session.adapters.postgres_sessions import END_OF_TIME, LAST_ID, SOURCE
from meshwright_session.adapters.requests import ANONYMOUS, made_before
from meshwright_session.adapters.tenant_rows import tenant_from
from meshwright_session.domain.acts import Act
from meshwright_session.domain.directory_models import (
    ApiKey,
    Credential,
    NewApiKey,
    NewTenant,
    NewUser,
    Tenant,
    User,
    UserChange,
)
from meshwright_session.domain.errors import (
    ApiKeyNotFound,
    IdempotencyKeyReused,
    LastOwner,
    NameTaken,
    TenantNotFound,
    UserNotFound,
)
from meshwright_session.domain.models import Request
from meshwright_session.domain.ports import ApiKeyPosition
from meshwright_session.domain.roles import OWNER

_USER_OPERATION: Final = "CreateUser"


class PostgresDirectory:
    """`Directory` on the tables `tenants`, `users` and `api_keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_tenant(
        self, tenant: NewTenant, owner: NewUser, key: NewApiKey, request: Request | None, act: Act
    ) -> tuple[Tenant, User, bool]:
        async with unit_of_work(self._database, tenant.tenant_id) as connection:
            made = await connection.fetchval(
                _CREATE_TENANT,
                tenant.tenant_id,
                tenant.slug,
                tenant.display_name,
                tenant.plan,
                owner.user_id,
                None if request is None else request.request_id,
                None if request is None else request.digest,
                owner.name,
                list(owner.roles),
                key.api_key_id,
                key.label,
                key.prefix,
                key.sha256,
            )
            if made:
                await _report(connection, act, tenant.tenant_id)
                stored = await _tenant_of(connection, tenant.tenant_id)
                return stored, await _user_of(connection, tenant.tenant_id, owner.user_id), True
            before = request and await connection.fetchrow(_FIND_REQUEST, request.request_id)
        if not before:
            raise NameTaken(field="slug", name=tenant.slug)
        if request is not None and before["digest"] != request.digest:
            raise IdempotencyKeyReused
        tenant_id = before["tenant_id"]
        async with unit_of_work(self._database, tenant_id) as connection:
            stored = await _tenant_of(connection, tenant_id)
            first_owner = await _user_of(connection, tenant_id, before["first_owner_id"])
            return stored, first_owner, False

    async def get_tenant(self, tenant_id: str) -> Tenant:
        async with unit_of_work(self._database, tenant_id) as connection:
            return await _tenant_of(connection, tenant_id)

    async def create_user(
        self, tenant_id: str, user: NewUser, request: Request | None, act: Act
    ) -> User:
        asked = request or ANONYMOUS
        try:
            async with unit_of_work(self._database, tenant_id) as connection:
                row = await connection.fetchrow(
                    _CREATE_USER,
                    tenant_id,
                    user.user_id,
                    user.name,
                    user.email,
                    list(user.roles),
                    asked.subject,
                    asked.request_id,
                    asked.digest,
                    _USER_OPERATION,
                )
                if row is not None:
                    await _report(connection, act, tenant_id)
                    return _user(row)
                if request is not None:
                    made = await made_before(connection, tenant_id, _USER_OPERATION, request)
                    if made != [user.user_id]:
                        return await _user_of(connection, tenant_id, made[0])
                # Raised inside the transaction, so that the request's record goes with it.
                raise NameTaken(field="name", name=user.name)
        except asyncpg.ForeignKeyViolationError:
            raise TenantNotFound from None

    async def update_user(
        self,
        tenant_id: str,
        user_id: str,
        change: UserChange,
        act: Act,
        allow: Callable[[User], None],
    ) -> User:
        try:
            async with unit_of_work(self._database, tenant_id) as connection:
                # Changes of a tenant's users take turns: two owners cannot remove each other.
                await connection.execute(_LOCK_TENANT, tenant_id)
                before = await _user_of(connection, tenant_id, user_id)
                allow(before)
                after = _changed(before, change)
                if after == before:
                    return before
                if _acts_as_owner(before) and not _acts_as_owner(after):
                    await _refuse_last_owner(connection, tenant_id, user_id)
                await connection.execute(
                    _UPDATE_USER,
                    tenant_id,
                    user_id,
                    after.name,
                    after.email,
                    list(after.roles),
                    after.disabled,
                )
                await _report(connection, act, tenant_id)
                return after
        except asyncpg.UniqueViolationError:
            raise NameTaken(field="name", name=change.name or "") from None

    async def get_user(self, tenant_id: str, user_id: str) -> User:
        async with unit_of_work(self._database, tenant_id) as connection:
            return await _user_of(connection, tenant_id, user_id)

    async def list_users(
        self, tenant_id: str, after_name: str | None, limit: int
    ) -> Sequence[User]:
        async with unit_of_work(self._database, tenant_id) as connection:
            # No name is empty, so all come after the empty one.
            rows = await connection.fetch(_LIST_USERS, tenant_id, after_name or "", limit)
        return [_user(row) for row in rows]

    async def create_api_key(self, tenant_id: str, key: NewApiKey, act: Act) -> ApiKey:
        try:
            async with unit_of_work(self._database, tenant_id) as connection:
                [row] = await connection.fetch(
                    _CREATE_API_KEY,
                    tenant_id,
                    key.api_key_id,
                    key.user_id,
                    key.label,
                    key.prefix,
                    key.sha256,
                    list(key.permissions),
                    key.expire_time,
                )
                await _report(connection, act, tenant_id)
        except asyncpg.ForeignKeyViolationError:
            raise UserNotFound from None
        return _api_key(row)

    async def list_api_keys(
        self, tenant_id: str, after: ApiKeyPosition | None, limit: int
    ) -> Sequence[ApiKey]:
        after = after or ApiKeyPosition(END_OF_TIME, LAST_ID)
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_LIST_API_KEYS, tenant_id, *after, limit)
        return [_api_key(row) for row in rows]

    async def revoke_api_key(self, tenant_id: str, api_key_id: str, act: Act) -> ApiKey:
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(_REVOKE_API_KEY, tenant_id, api_key_id)
            if row is not None:
                await _report(connection, act, tenant_id)
            else:
                row = await connection.fetchrow(_GET_API_KEY, tenant_id, api_key_id)
        if row is None:
            raise ApiKeyNotFound
        return _api_key(row)

    async def find_credential(self, key_sha256: bytes) -> Credential | None:
        async with unscoped(self._database) as connection:
            row = await connection.fetchrow("SELECT * FROM find_api_key($1)", key_sha256)
        if row is None:
            return None
        return Credential(
            tenant_id=row["tenant_id"],
            api_key_id=row["api_key_id"],
            user_id=row["user_id"],
            roles=tuple(row["roles"]),
            permissions=tuple(row["permissions"]),
            expire_time=row["expire_time"],
            usable=row["usable"],
            suspended=row["suspended"],
        )


async def _report(connection: Connection, act: Act, tenant_id: str) -> None:
    await audit.record(
        connection,
        source=SOURCE,
        action=act.action,
        resource=act.resource,
        details=act.details,
        tenant_id=tenant_id,
    )


class PostgresTenantRegister:
    """`TenantRegister` inside an open transaction of the tenant that is asked about."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def has(self, tenant_id: str) -> bool:
        return bool(
            await self._connection.fetchval(
                "SELECT EXISTS (SELECT FROM tenants WHERE tenant_id = $1)", tenant_id
            )
        )


async def _tenant_of(connection: Connection, tenant_id: str) -> Tenant:
    row = await connection.fetchrow("SELECT * FROM tenants WHERE tenant_id = $1", tenant_id)
    if row is None:
        raise TenantNotFound
    return tenant_from(row)


async def _user_of(connection: Connection, tenant_id: str, user_id: str) -> User:
    row = await connection.fetchrow(
        "SELECT * FROM users WHERE tenant_id = $1 AND user_id = $2", tenant_id, user_id
    )
    if row is None:
        raise UserNotFound
    return _user(row)


def _changed(before: User, change: UserChange) -> User:
    return replace(
        before,
        name=before.name if change.name is None else change.name,
        email=before.email if change.email is None else change.email,
        roles=before.roles if change.roles is None else change.roles,
        disabled=before.disabled if change.disabled is None else change.disabled,
    )


def _acts_as_owner(user: User) -> bool:
    return OWNER in user.roles and not user.disabled


async def _refuse_last_owner(connection: Connection, tenant_id: str, user_id: str) -> None:
    if not await connection.fetchval(_OTHER_OWNER, tenant_id, user_id, OWNER):
        raise LastOwner


def _user(row: Record) -> User:
    return User(
        user_id=row["user_id"],
        name=row["name"],
        email=row["email"],
        roles=tuple(row["roles"]),
        disabled=row["disabled"],
        create_time=row["create_time"],
    )


def _api_key(row: Record) -> ApiKey:
    return ApiKey(
        api_key_id=row["api_key_id"],
        user_id=row["user_id"],
        label=row["label"],
        prefix=row["prefix"],
        permissions=tuple(row["permissions"]),
        create_time=row["create_time"],
        expire_time=row["expire_time"],
        revoked=row["revoke_time"] is not None,
    )


# Nothing comes back when the slug or the request id is known already.
_CREATE_TENANT: Final = """
WITH made AS (
    INSERT INTO tenants (tenant_id, slug, display_name, plan, first_owner_id,
                         create_request_id, create_request_digest)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT DO NOTHING
    RETURNING true
), owner AS (
    INSERT INTO users (tenant_id, user_id, name, roles) SELECT $1, $5, $8, $9 FROM made
), key AS (
    INSERT INTO api_keys
           (tenant_id, api_key_id, user_id, label, prefix, key_sha256, permissions)
    SELECT $1, $10, $5, $11, $12, $13, '{}' FROM made
)
SELECT true FROM made
"""

_FIND_REQUEST: Final = """
SELECT tenant_id, first_owner_id, digest FROM find_tenant_request($1)
"""

_CREATE_USER: Final = """
WITH asked AS (
    INSERT INTO requests (tenant_id, subject, operation, request_id, digest, made)
    SELECT $1, $6, $9, $7, $8, ARRAY[$2::uuid] WHERE $7::text <> ''
    ON CONFLICT DO NOTHING
    RETURNING true
)
INSERT INTO users (tenant_id, user_id, name, email, roles)
SELECT $1, $2, $3, $4, $5 WHERE $7 = '' OR EXISTS (SELECT FROM asked)
ON CONFLICT ON CONSTRAINT users_name DO NOTHING
RETURNING *
"""

_LOCK_TENANT: Final = "SELECT FROM tenants WHERE tenant_id = $1 FOR NO KEY UPDATE"

_UPDATE_USER: Final = """
UPDATE users SET name = $3, email = $4, roles = $5, disabled = $6
 WHERE tenant_id = $1 AND user_id = $2
"""

_OTHER_OWNER: Final = """
SELECT EXISTS (SELECT FROM users
                WHERE tenant_id = $1 AND user_id <> $2 AND $3 = ANY (roles) AND NOT disabled)
"""

_LIST_USERS: Final = """
SELECT * FROM users WHERE tenant_id = $1 AND name > $2 ORDER BY name LIMIT $3
"""

_CREATE_API_KEY: Final = """
INSERT INTO api_keys (tenant_id, api_key_id, user_id, label, prefix, key_sha256, permissions,
                      expire_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING *
"""

_GET_API_KEY: Final = """
SELECT * FROM api_keys WHERE tenant_id = $1 AND api_key_id = $2
"""

_LIST_API_KEYS: Final = """
SELECT * FROM api_keys
 WHERE tenant_id = $1 AND (create_time, api_key_id) < ($2, $3)
 ORDER BY create_time DESC, api_key_id DESC
 LIMIT $4
"""

_REVOKE_API_KEY: Final = """
UPDATE api_keys SET revoke_time = now()
 WHERE tenant_id = $1 AND api_key_id = $2 AND revoke_time IS NULL
RETURNING *
"""
