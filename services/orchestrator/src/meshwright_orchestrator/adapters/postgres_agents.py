"""The agents that tenants defined, in PostgreSQL. Writers of one agent take turns by its row."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.context import Principal
from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.events import audit
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_orchestrator.adapters import agent_rows
from meshwright_orchestrator.adapters.agent_rows import HEAD_COLUMNS, VERSION_COLUMNS
from meshwright_orchestrator.adapters.task_ends import SOURCE
from meshwright_orchestrator.domain.agents import AgentType
from meshwright_orchestrator.domain.defining import Plan, planned
from meshwright_orchestrator.domain.definitions import (
    AgentHead,
    AgentVersion,
    NewVersion,
    Shares,
    only,
)
from meshwright_orchestrator.domain.errors import (
    AgentExists,
    AgentNotFound,
    RequestIdReused,
    VersionNotFound,
)

REQUEST_DAYS: Final = 7
"""How long a request_id is remembered."""

# Only one transaction at a time is behind this for a tenant: agents are defined by people.
_TAKE_TURN: Final = """
SELECT pg_advisory_xact_lock(hashtextextended('orchestrator.agents ' || $1, 0))
"""
_IS_JOINED: Final = """
SELECT EXISTS (SELECT FROM orchestrator.remote_agents WHERE tenant_id = $1 AND name = $2)
"""
_HEAD: Final = f"""
SELECT {HEAD_COLUMNS} FROM orchestrator.agents WHERE tenant_id = $1 AND name = $2
"""  # noqa: S608 - constant columns
_HEADS: Final = f"""
SELECT {HEAD_COLUMNS} FROM orchestrator.agents
 WHERE tenant_id = $1 AND name COLLATE "C" > $2
   AND (cardinality($3::text[]) = 0 OR type = ANY ($3))
 ORDER BY name COLLATE "C" LIMIT $4
"""  # noqa: S608 - constant columns
_COUNT: Final = "SELECT count(*) FROM orchestrator.agents WHERE tenant_id = $1"
_VERSIONS: Final = f"""
SELECT {VERSION_COLUMNS} FROM orchestrator.agent_versions AS v
  JOIN orchestrator.agents AS a USING (tenant_id, name)
 WHERE v.tenant_id = $1 AND v.name = $2 AND v.version < $3
 ORDER BY v.version DESC LIMIT $4
"""  # noqa: S608 - constant columns
_VERSION: Final = f"""
SELECT {VERSION_COLUMNS} FROM orchestrator.agent_versions AS v
  JOIN orchestrator.agents AS a USING (tenant_id, name)
 WHERE v.tenant_id = $1 AND v.name = $2 AND v.version = $3
"""  # noqa: S608 - constant columns
_TYPE_AND_DIGEST: Final = """
SELECT type, digest FROM orchestrator.agent_versions
 WHERE tenant_id = $1 AND name = $2 AND version = $3
"""
_PUT_HEAD: Final = """
INSERT INTO orchestrator.agents (tenant_id, name, description, newest, shares, type)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, name) DO UPDATE
   SET description = excluded.description, newest = excluded.newest, shares = excluded.shares,
       type = excluded.type, updated_at = clock_timestamp()
"""
_PUT_VERSION: Final = """
INSERT INTO orchestrator.agent_versions
    (tenant_id, name, version, definition, comment, digest, type, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_SHARE: Final = f"""
UPDATE orchestrator.agents SET shares = $3, type = $4, updated_at = clock_timestamp()
 WHERE tenant_id = $1 AND name = $2 RETURNING {HEAD_COLUMNS}
"""  # noqa: S608 - constant columns
_REQUEST: Final = """
SELECT digest, name, version FROM orchestrator.agent_requests
 WHERE tenant_id = $1 AND subject = $2 AND request_id = $3
"""
_PUT_REQUEST: Final = """
INSERT INTO orchestrator.agent_requests (tenant_id, subject, request_id, digest, name, version)
VALUES ($1, $2, $3, $4, $5, $6)
"""
_FORGET_REQUESTS: Final = """
DELETE FROM orchestrator.agent_requests
 WHERE tenant_id = $1 AND created_at < clock_timestamp() - make_interval(days => $2)
"""


class PostgresAgents:
    """AgentStore: see the port."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring

    async def define(self, caller: Principal, new: NewVersion) -> AgentVersion:
        tenant_id = caller.tenant_id
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(_TAKE_TURN, tenant_id)
            version = await _made_before(connection, keys, caller, new)
            if version is None:
                version = await _define(connection, keys, caller, new)
            return await _version(connection, keys, new.name, version)

    async def roll_back(self, tenant_id: str, name: str, version: int) -> AgentHead:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(_TAKE_TURN, tenant_id)
            head = await _head(connection, keys, name)
            if head is None:
                raise AgentNotFound(agent=name)
            target = await connection.fetchrow(_TYPE_AND_DIGEST, tenant_id, name, version)
            if target is None:
                raise VersionNotFound(agent=name, version=str(version))
            if head.shares == only(version):
                return head
            shares = agent_rows.shares_record(only(version))
            row = await connection.fetchrow(_SHARE, tenant_id, name, shares, target["type"])
            await audit.record(
                connection,
                source=SOURCE,
                action="agent.rolled_back",
                resource=f"agent/{name}",
                details={"version": version},
            )
            if row is None:
                raise AgentNotFound(agent=name)
            return agent_rows.head_from(row, keys)

    async def head(self, tenant_id: str, name: str) -> AgentHead:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            head = await _head(connection, keys, name)
        if head is None:
            raise AgentNotFound(agent=name)
        return head

    async def heads(
        self, tenant_id: str, *, after: str, types: Sequence[AgentType], limit: int
    ) -> Sequence[AgentHead]:
        keys = await self._ring.keys_of(tenant_id)
        wanted = [one.value for one in types]
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_HEADS, tenant_id, after, wanted, limit)
        return [agent_rows.head_from(row, keys) for row in rows]

    async def stored(self, tenant_id: str, name: str, version: int) -> AgentVersion:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            return await _version(connection, keys, name, version)

    async def versions(
        self, tenant_id: str, name: str, *, before: int, limit: int
    ) -> Sequence[AgentVersion]:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            if await _head(connection, keys, name) is None:
                raise AgentNotFound(agent=name)
            rows = await connection.fetch(_VERSIONS, tenant_id, name, before, limit)
        return [agent_rows.version_from(row, keys) for row in rows]


async def _made_before(
    connection: Connection, keys: TenantKeys, caller: Principal, new: NewVersion
) -> int | None:
    if not new.request_id:
        return None
    row = await connection.fetchrow(_REQUEST, keys.tenant_id, caller.subject, new.request_id)
    if row is None:
        return None
    if row["digest"] != agent_rows.digest_of_request(keys, new):
        raise RequestIdReused
    return int(row["version"])


async def _define(
    connection: Connection, keys: TenantKeys, caller: Principal, new: NewVersion
) -> int:
    tenant_id, name = keys.tenant_id, new.name
    head = await _head(connection, keys, name)
    digest = agent_rows.digest_of_definition(keys, new.definition)
    if head is None and await connection.fetchval(_IS_JOINED, tenant_id, name):
        # It joined after the desk had looked.
        raise AgentExists(agent=name)
    newest = 0 if head is None else head.newest
    known = await connection.fetchrow(_TYPE_AND_DIGEST, tenant_id, name, newest)
    plan = planned(
        head,
        new,
        is_newest=known is not None and known["digest"] == digest,
        agents=await connection.fetchval(_COUNT, tenant_id),
    )
    await connection.execute(
        _PUT_HEAD,
        tenant_id,
        name,
        agent_rows.sealed_description(keys, new),
        plan.version,
        agent_rows.shares_record(plan.shares),
        await _type_in_use(connection, keys, new, plan),
    )
    if plan.is_new:
        definition, comment = agent_rows.sealed_version(keys, new, plan.version)
        await connection.execute(
            _PUT_VERSION,
            *(tenant_id, name, plan.version, definition, comment, digest),
            *(new.definition.type.value, caller.subject),
        )
    await _remember(connection, keys, caller, new, plan.version)
    await audit.record(
        connection,
        source=SOURCE,
        action="agent.defined",
        resource=f"agent/{name}",
        details={
            "version": plan.version,
            "new_version": plan.is_new,
            "traffic_percent": plan.shares.of(plan.version),
        },
    )
    return plan.version


async def _type_in_use(
    connection: Connection, keys: TenantKeys, new: NewVersion, plan: Plan
) -> str:
    newest = plan.shares.newest
    if newest == plan.version:
        return new.definition.type.value
    row = await connection.fetchrow(_TYPE_AND_DIGEST, keys.tenant_id, new.name, newest)
    return new.definition.type.value if row is None else str(row["type"])


async def _remember(
    connection: Connection, keys: TenantKeys, caller: Principal, new: NewVersion, version: int
) -> None:
    if not new.request_id:
        return
    digest = agent_rows.digest_of_request(keys, new)
    await connection.execute(_FORGET_REQUESTS, keys.tenant_id, REQUEST_DAYS)
    await connection.execute(
        _PUT_REQUEST,
        *(keys.tenant_id, caller.subject, new.request_id, digest, new.name, version),
    )


async def _head(connection: Connection, keys: TenantKeys, name: str) -> AgentHead | None:
    row = await connection.fetchrow(_HEAD, keys.tenant_id, name)
    return None if row is None else agent_rows.head_from(row, keys)


async def _version(
    connection: Connection, keys: TenantKeys, name: str, version: int
) -> AgentVersion:
    row = await connection.fetchrow(_VERSION, keys.tenant_id, name, version)
    if row is None:
        raise VersionNotFound(agent=name, version=str(version))
    return agent_rows.version_from(row, keys)


async def shares_of(
    connection: Connection, keys: TenantKeys, name: str
) -> tuple[Shares, str] | None:
    """Return who gets new tasks of an agent, and what it is good for; None when there is none."""
    head = await _head(connection, keys, name)
    return None if head is None else (head.shares, head.description)
