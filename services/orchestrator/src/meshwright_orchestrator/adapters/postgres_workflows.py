"""The stored workflows in PostgreSQL: a row each, and one for each version, which never changes."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.context import Principal
from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.events import audit
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_orchestrator.adapters import workflow_rows
from meshwright_orchestrator.adapters.task_ends import SOURCE
from meshwright_orchestrator.domain.errors import RequestIdReused
from meshwright_orchestrator.domain.workflows.definition import Workflow
from meshwright_orchestrator.domain.workflows.errors import VersionConflict, WorkflowNotFound
from meshwright_orchestrator.domain.workflows.ports import NewWorkflow

_ONE: Final = """
SELECT w.workflow_id, w.name, v.version, v.definition, v.digest, v.created_by, w.created_at,
    v.created_at AS updated_at
FROM orchestrator.workflows AS w
JOIN orchestrator.workflow_versions AS v
    ON v.tenant_id = w.tenant_id AND v.workflow_id = w.workflow_id
WHERE w.tenant_id = $1
"""
GET: Final = (
    f"{_ONE} AND w.workflow_id = $2 AND v.version = CASE $3::int WHEN 0 THEN w.newest ELSE $3 END"
)
NAMED: Final = f"{_ONE} AND w.name = $2 AND v.version = w.newest"
LIST: Final = f"{_ONE} AND w.name > $2 AND v.version = w.newest ORDER BY w.name LIMIT $3"

REMEMBER: Final = """
INSERT INTO orchestrator.workflow_requests (tenant_id, subject, request_id, digest)
VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
RETURNING request_id
"""
REMEMBERED: Final = """
SELECT digest FROM orchestrator.workflow_requests
WHERE tenant_id = $1 AND subject = $2 AND request_id = $3
"""
CREATE: Final = """
INSERT INTO orchestrator.workflows (tenant_id, workflow_id, name, newest)
VALUES ($1, $2, $3, 1) ON CONFLICT DO NOTHING
RETURNING workflow_id
"""
LOCK: Final = """
SELECT workflow_id, newest FROM orchestrator.workflows
WHERE tenant_id = $1 AND name = $2 FOR UPDATE
"""
NEWER: Final = """
UPDATE orchestrator.workflows SET newest = $3 WHERE tenant_id = $1 AND workflow_id = $2
"""
ADD_VERSION: Final = """
INSERT INTO orchestrator.workflow_versions
    (tenant_id, workflow_id, version, definition, digest, created_by)
VALUES ($1, $2, $3, $4, $5, $6)
"""


class PostgresWorkflows:
    """Workflows: see the port."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring

    async def put(self, owner: Principal, new: NewWorkflow) -> Workflow:
        keys = await self._ring.keys_of(owner.tenant_id)
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            if await _was_asked_before(connection, keys, owner, new):
                return await _named(connection, keys, new.name)
            await _put(connection, keys, owner, new)
            return await _named(connection, keys, new.name)

    async def get(self, tenant_id: str, workflow_id: str, version: int = 0) -> Workflow:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(GET, tenant_id, workflow_id, version)
        return _found(row, keys)

    async def named(self, tenant_id: str, name: str) -> Workflow:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            return await _named(connection, keys, name)

    async def list(self, tenant_id: str, after: str, limit: int) -> Sequence[Workflow]:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(LIST, tenant_id, after, limit)
        return [workflow_rows.workflow_from(row, keys) for row in rows]


def _found(row: Record | None, keys: TenantKeys) -> Workflow:
    if row is None:
        raise WorkflowNotFound
    return workflow_rows.workflow_from(row, keys)


async def _named(connection: Connection, keys: TenantKeys, name: str) -> Workflow:
    return _found(await connection.fetchrow(NAMED, keys.tenant_id, name), keys)


async def _was_asked_before(
    connection: Connection, keys: TenantKeys, owner: Principal, new: NewWorkflow
) -> bool:
    """Remember the request; return whether it was made before. Raises: RequestIdReused."""
    if not new.request_id:
        return False
    content = workflow_rows.definition_digest(keys, new.definition)
    digest = workflow_rows.digest_of(keys, new.name, new.expected_version, content.hex())
    mine = (owner.tenant_id, owner.subject, new.request_id)
    if await connection.fetchval(REMEMBER, *mine, digest) is not None:
        return False
    if await connection.fetchval(REMEMBERED, *mine) != digest:
        raise RequestIdReused
    return True


async def _put(
    connection: Connection, keys: TenantKeys, owner: Principal, new: NewWorkflow
) -> None:
    tenant_id, version = owner.tenant_id, 1
    digest = workflow_rows.definition_digest(keys, new.definition)
    workflow_id = None
    if not new.expected_version:
        workflow_id = await connection.fetchval(CREATE, tenant_id, new_id(), new.name)
    if workflow_id is None:
        row = await connection.fetchrow(LOCK, tenant_id, new.name)
        newest = 0 if row is None else int(row["newest"])
        if new.expected_version is not None and new.expected_version != newest:
            raise VersionConflict(current_version=str(newest))
        if row is None:
            raise WorkflowNotFound
        workflow_id, version = row["workflow_id"], newest + 1
        now = await connection.fetchrow(GET, tenant_id, workflow_id, newest)
        if now is not None and now["digest"] == digest:
            return
        await connection.execute(NEWER, tenant_id, workflow_id, version)
    await connection.execute(
        ADD_VERSION,
        tenant_id,
        workflow_id,
        version,
        workflow_rows.sealed_definition(keys, workflow_id, version, new.definition),
        digest,
        owner.subject,
    )
    await audit.record(
        connection,
        source=SOURCE,
        action="workflow.stored",
        resource=f"workflow/{workflow_id}",
        details={"name": new.name, "version": version},
    )
