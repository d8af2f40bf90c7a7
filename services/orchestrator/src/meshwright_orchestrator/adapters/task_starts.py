"""New tasks, each with its audit record: begun here, or stored for the workers.

Those that come at the same time share one statement and one commit (together.py), so that a surge
costs a few round trips and not some for each task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import orjson

from meshwright_common.context import current
from meshwright_common.encryption import DIGEST_OF_BEFORE, KeyRing, TenantKeys
from meshwright_common.events import audit, outbox
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_orchestrator.adapters import statements, task_rows
from meshwright_orchestrator.adapters.task_ends import SOURCE
from meshwright_orchestrator.adapters.task_rows import task_from
from meshwright_orchestrator.adapters.together import Together
from meshwright_orchestrator.domain.errors import RequestIdReused
from meshwright_orchestrator.domain.models import Priority, Task, TaskState
from meshwright_orchestrator.domain.ports import Accepted, NewTask, Queueing


@dataclass(frozen=True, slots=True)
class _Start:
    new: NewTask
    digest: bytes
    columns: tuple[object, ...]


class TaskStarts:
    """Stores new tasks. One transaction of a tenant and a kind of start at a time; the next takes
    what came meanwhile.
    """

    def __init__(
        self, database: Database, ring: KeyRing, *, lease_seconds: float, default_seconds: float
    ) -> None:
        self._database = database
        self._ring = ring
        self._lease_seconds = lease_seconds
        self._default_seconds = default_seconds
        self._running = Together(database, ring, partial(self._write, queued=False), alone=True)
        self._queued = Together(database, ring, partial(self._write, queued=True), alone=True)

    async def accept(self, new: NewTask) -> Accepted:
        """Store a running task with a lease for this process.

        Raises: RequestIdReused; EventTooLarge; as unit_of_work.
        """
        keys = await self._ring.keys_of(new.owner.tenant_id)
        # What the columns of a queue hold for a task that never was in one.
        here = Queueing("chat", Priority.NORMAL, current().trace)
        start = self._start(keys, new, here, "task.accepted")
        stored = await self._running.write(new.owner.tenant_id, new.task_id, start)
        return await self._accepted(stored, start, keys)

    async def enqueue(self, new: NewTask, queueing: Queueing) -> Accepted:
        """Store a task for the workers. Raises: as `accept`."""
        keys = await self._ring.keys_of(new.owner.tenant_id)
        start = self._start(keys, new, queueing, "task.submitted")
        stored = await self._queued.write(new.owner.tenant_id, new.task_id, start)
        return await self._accepted(stored, start, keys)

    async def enqueue_on(
        self, connection: Connection, keys: TenantKeys, new: NewTask, queueing: Queueing
    ) -> Accepted:
        """Do as `enqueue`, in the open transaction of the task's tenant, whose keys these are."""
        start = self._start(keys, new, queueing, "task.submitted")
        stored = (await self._write(connection, keys, [start], queued=True))[new.task_id]
        if stored is not None:
            return Accepted(stored, existed=False)
        return _accepted_before(await _by_request(connection, new), start.digest, keys)

    async def known(self, new: NewTask) -> Task | None:
        """Return the task that the request stands for, if there is one. Raises: RequestIdReused."""
        keys = await self._ring.keys_of(new.owner.tenant_id)
        _, _, digest = task_rows.sealed_request(keys, new.task_id, new.spec)
        async with unit_of_work(self._database, new.owner.tenant_id) as connection:
            row = await _by_request(connection, new)
        return None if row is None else _accepted_before(row, digest, keys).task

    async def _accepted(self, stored: Task | None, start: _Start, keys: TenantKeys) -> Accepted:
        if stored is not None:
            return Accepted(stored, existed=False)
        async with unit_of_work(self._database, keys.tenant_id) as connection:
            row = await _by_request(connection, start.new)
        return _accepted_before(row, start.digest, keys)

    def _start(self, keys: TenantKeys, new: NewTask, queueing: Queueing, action: str) -> _Start:
        spec, messages, digest = task_rows.sealed_request(keys, new.task_id, new.spec)
        record = audit.recorded(
            *(SOURCE, action, f"task/{new.task_id}"), details={"agent": new.spec.agent}
        )
        columns = (
            new.owner.subject,
            orjson.dumps(task_rows.owner_record(new.owner)).decode(),
            new.correlation_id,
            new.spec.agent,
            new.spec.session_id or None,
            spec,
            messages,
            orjson.dumps(new.limits).decode(),
            new.engine_version,
            new.request_id,
            digest,
            new.spec.deadline,
            task_rows.seconds_of(new, self._default_seconds),
            queueing.kind,
            task_rows.lane_of(queueing.priority),
            queueing.trace,
            new.spec.start_time,
            # Without its tenant, which is the task's.
            *outbox.values_of(Topic.AUDIT_LOG, record)[1:],
        )
        return _Start(new, digest, columns)

    async def _write(
        self, connection: Connection, keys: TenantKeys, starts: Sequence[_Start], *, queued: bool
    ) -> Mapping[str, Task | None]:
        """Store those that are new; return each of them, and None for one that is not."""
        # In one order everywhere: two transactions with the same requests never wait in a circle.
        ordered = sorted(starts, key=lambda start: (start.new.request_id, start.new.task_id))
        rows = await connection.fetch(
            statements.START,
            keys.tenant_id,
            queued,
            self._lease_seconds,
            [start.new.task_id for start in ordered],
            *map(list, zip(*(start.columns for start in ordered), strict=True)),
        )
        stored = {row["task_id"]: row for row in rows}
        if stored:
            outbox.appended(connection, Topic.AUDIT_LOG)
        return {
            start.new.task_id: _task_of(start.new, row, queued=queued) if row is not None else None
            for start in ordered
            for row in (stored.get(start.new.task_id),)
        }


def _task_of(new: NewTask, row: Record, *, queued: bool) -> Task:
    return Task(
        task_id=new.task_id,
        owner=new.owner,
        correlation_id=new.correlation_id,
        spec=new.spec,
        limits=new.limits,
        engine_version=new.engine_version,
        state=TaskState.QUEUED if queued else TaskState.RUNNING,
        attempt=0 if queued else 1,
        lease_epoch=0 if queued else 1,
        created_at=row["created_at"],
        updated_at=row["created_at"],
        remaining_seconds=row["remaining_seconds"],
        detached=queued,
    )


def _accepted_before(row: Record | None, digest: bytes, keys: TenantKeys) -> Accepted:
    if row is None or row["request_digest"] not in (digest, DIGEST_OF_BEFORE):
        raise RequestIdReused
    return Accepted(task_from(row, keys), existed=True)


async def _by_request(connection: Connection, new: NewTask) -> Record | None:
    return await connection.fetchrow(
        statements.FIND_BY_REQUEST, new.owner.tenant_id, new.owner.subject, new.request_id
    )
