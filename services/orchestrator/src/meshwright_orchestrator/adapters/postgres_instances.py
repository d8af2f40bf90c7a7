"""Instances of agents that joined, in PostgreSQL: any process can look after any of them."""

from collections.abc import Collection, Sequence

from meshwright_common.context import Principal
from meshwright_common.encryption import KeyRing, SealedJson, TenantKeys
from meshwright_common.events import audit
from meshwright_common.ids import new_id
from meshwright_common.registry.load import weight
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_orchestrator.adapters import instance_statements as statements
from meshwright_orchestrator.adapters.task_ends import SOURCE
from meshwright_orchestrator.domain.errors import AgentExists, AgentNotFound
from meshwright_orchestrator.domain.remote import (
    MAX_INSTANCES,
    AgentAway,
    AgentBusy,
    AgentLoad,
    Candidate,
    Instance,
    InstanceNotFound,
    InstanceState,
    Place,
    Registration,
    RemoteAgent,
    StreamReplaced,
    TooManyInstances,
    next_turn,
)
from meshwright_orchestrator.domain.remote_care import Counted, Silenced, Unfinished

_AGENTS = "orchestrator.remote_agents"


class PostgresInstances:
    """Instances, InstanceCare: see the ports. One that was silent for `silent_seconds` takes
    nothing new.
    """

    def __init__(self, database: Database, ring: KeyRing, *, silent_seconds: float) -> None:
        self._database = database
        self._ring = ring
        self._silent_seconds = silent_seconds

    async def register(self, caller: Principal, new: Registration) -> Instance:
        tenant_id = caller.tenant_id
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(statements.TAKE_TURN, tenant_id)
            if await connection.fetchval(statements.IS_DEFINED, tenant_id, new.agent):
                raise AgentExists(f"{new.agent} is an agent that the tenant defined")
            await self._put_agent(connection, keys, new)
            known = await connection.fetchrow(statements.KNOWN, tenant_id, new.agent, new.address)
            if known is not None:
                return _instance_from(known)
            if await connection.fetchval(statements.COUNT, tenant_id) >= MAX_INSTANCES:
                raise TooManyInstances(limit=str(MAX_INSTANCES))
            row = await connection.fetchrow(
                statements.PUT_INSTANCE,
                *(tenant_id, new_id(), new.agent, new.address),
                *(new.max_concurrent_tasks, dict(new.labels)),
            )
            if row is None:
                raise InstanceNotFound
            instance = _instance_from(row)
            await audit.record(
                connection,
                source=SOURCE,
                action="agent.joined",
                resource=f"agent/{new.agent}",
                details={"agent_instance_id": instance.instance_id, "address": new.address},
            )
            return instance

    async def _put_agent(self, connection: Connection, keys: TenantKeys, new: Registration) -> None:
        description = SealedJson(keys, _AGENTS).seal("description", new.agent, new.description)
        await connection.execute(statements.PUT_AGENT, keys.tenant_id, new.agent, description)

    async def beat(
        self, tenant_id: str, instance_id: str, epoch: int, load: AgentLoad, *, draining: bool
    ) -> tuple[Instance, int]:
        state = InstanceState.DRAINING if draining else InstanceState.ONLINE
        share = weight(load.cpu_free, load.memory_free, load.pending, load.error_rate)
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(
                statements.BEAT,
                *(tenant_id, instance_id, epoch, state.value, share),
                *(load.cpu_free, load.memory_free, load.pending, load.error_rate),
            )
            if row is None:
                raise await _why_not(connection, tenant_id, instance_id)
        return _instance_from(row), int(row["stream_epoch"])

    async def is_newest(self, tenant_id: str, instance_id: str, epoch: int) -> bool:
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(statements.ONE, tenant_id, instance_id)
        return row is not None and row["stream_epoch"] == epoch

    async def leave(self, tenant_id: str, instance_id: str, epoch: int) -> Instance:
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(statements.LEAVE, tenant_id, instance_id, epoch)
            if row is None:
                raise await _why_not(connection, tenant_id, instance_id)
        return _instance_from(row)

    async def of_agent(self, tenant_id: str, agent: str) -> Sequence[Instance]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(statements.OF_AGENT, tenant_id, agent)
        return [_instance_from(row) for row in rows]

    async def agent(self, tenant_id: str, name: str) -> RemoteAgent | None:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(statements.AGENT, tenant_id, self._silent_seconds, name)
        return None if row is None else _agent_from(row, keys)

    async def agents(self, tenant_id: str, *, after: str, limit: int) -> Sequence[RemoteAgent]:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                statements.AGENTS_AFTER, tenant_id, self._silent_seconds, after, limit
            )
        return [_agent_from(row, keys) for row in rows]

    async def description(self, tenant_id: str, name: str) -> str | None:
        """Return what an agent is good for, None when none of this name joined."""
        agent = await self.agent(tenant_id, name)
        return None if agent is None else agent.description

    async def pick(self, tenant_id: str, agent: str, task_id: str, tried: Collection[str]) -> Place:
        async with unit_of_work(self._database, tenant_id) as connection:
            if not await connection.fetchval(statements.IS_JOINED, tenant_id, agent):
                raise AgentNotFound(agent=agent)
            rows = {
                str(row["agent_instance_id"]): row
                for row in await connection.fetch(
                    statements.CANDIDATES, tenant_id, agent, self._silent_seconds
                )
                if str(row["agent_instance_id"]) not in tried
            }
            assigned = await connection.fetchval(statements.ASSIGNED, tenant_id, task_id)
            if assigned is not None and str(assigned) in rows:
                # It may be at it still: it is asked for the same task, not for another.
                return Place(str(assigned), rows[str(assigned)]["address"])
            online = [row for row in rows.values() if row["state"] == InstanceState.ONLINE.value]
            if not online:
                raise AgentAway(agent=agent)
            chosen = await _choose(connection, tenant_id, task_id, online)
            if chosen is None:
                raise AgentBusy(agent=agent)
            await connection.execute(statements.ASSIGN, tenant_id, task_id, chosen)
        return Place(chosen, rows[chosen]["address"])

    async def is_alive(self, tenant_id: str, instance_id: str) -> bool:
        async with unit_of_work(self._database, tenant_id) as connection:
            return bool(
                await connection.fetchval(
                    statements.IS_ALIVE, tenant_id, instance_id, self._silent_seconds
                )
            )

    async def named(self, tenant_id: str, task_id: str, remote_task_id: str) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(statements.NAMED, tenant_id, task_id, remote_task_id)

    async def ended(self, tenant_id: str, task_id: str) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(statements.ENDED, tenant_id, task_id)

    # --- for the process, across tenants ---------------------------------------------------------

    async def silence(self, offline_seconds: float, most: int) -> Sequence[Silenced]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT * FROM orchestrator.silence_agents($1, $2, $3)",
                *(self._silent_seconds, offline_seconds, most),
            )
        return [
            Silenced(
                str(row["agent_instance_id"]),
                row["agent"],
                InstanceState(row["state"]),
                row["weight"],
                _load_from(row),
            )
            for row in rows
        ]

    async def unfinished(self, most: int) -> Sequence[Unfinished]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT * FROM orchestrator.take_ended_assignments($1)", most
            )
        return [
            Unfinished(
                *(str(row["tenant_id"]), str(row["task_id"])),
                *(row["remote_task_id"], row["address"]),
            )
            for row in rows
            if not row["ended"]
        ]

    async def forget(self, kept_seconds: float) -> None:
        async with unscoped(self._database) as connection:
            await connection.execute("SELECT orchestrator.forget_agents($1)", kept_seconds)

    async def count(self) -> Sequence[Counted]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch("SELECT * FROM orchestrator.count_agents()")
        return [
            Counted(
                row["agent"],
                InstanceState(row["state"]),
                *(int(row["instances"]), int(row["weight"]), int(row["pending"])),
            )
            for row in rows
        ]


async def _choose(
    connection: Connection, tenant_id: str, task_id: str, online: Sequence[Record]
) -> str | None:
    ids = [str(row["agent_instance_id"]) for row in online]
    running = {
        str(row["agent_instance_id"]): int(row["tasks"])
        for row in await connection.fetch(statements.RUNNING, tenant_id, ids, task_id)
    }
    candidates = [
        Candidate(str(row["agent_instance_id"]), row["weight"], row["turn"])
        for row in online
        if running.get(str(row["agent_instance_id"]), 0) < row["max_concurrent_tasks"]
    ]
    if not candidates:
        return None
    chosen, turns = next_turn(candidates)
    await connection.execute(statements.TURNS, tenant_id, list(turns), list(turns.values()))
    return chosen


async def _why_not(
    connection: Connection, tenant_id: str, instance_id: str
) -> InstanceNotFound | StreamReplaced:
    row = await connection.fetchrow(statements.ONE, tenant_id, instance_id)
    gone = row is None or row["state"] == InstanceState.OFFLINE.value
    return InstanceNotFound() if gone else StreamReplaced()


def _instance_from(row: Record) -> Instance:
    return Instance(
        instance_id=str(row["agent_instance_id"]),
        agent=row["agent"],
        address=row["address"],
        state=InstanceState(row["state"]),
        weight=row["weight"],
        load=None if row["heartbeat_at"] is None else _load_from(row),
        max_concurrent_tasks=row["max_concurrent_tasks"],
        labels=row["labels"],
        registered_at=row["registered_at"],
        heartbeat_at=row["heartbeat_at"],
    )


def _load_from(row: Record) -> AgentLoad:
    return AgentLoad(row["cpu_free"], row["memory_free"], row["pending_tasks"], row["error_rate"])


def _agent_from(row: Record, keys: TenantKeys) -> RemoteAgent:
    name = row["name"]
    return RemoteAgent(
        name=name,
        description=SealedJson(keys, _AGENTS).open("description", name, row["description"]),
        online=int(row["online"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
