"""Defined agents for new tasks and running ones: shares as of now, versions from memory."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from meshwright_common.encryption import KeyRing
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_orchestrator.adapters.postgres_agents import PostgresAgents, shares_of
from meshwright_orchestrator.domain.agents import AgentSpec, AgentType, BuiltinAgents
from meshwright_orchestrator.domain.definitions import agent_of
from meshwright_orchestrator.domain.errors import VersionNotFound

KEPT: Final = 256
"""Versions in memory."""
KEPT_SECONDS: Final = 60.0
"""A version never changes; this long it may outlive the erasure of its tenant in memory."""


class DefinedAgentShelf:
    """DefinedAgents: see the port. Who gets a new task is read each time, so that a definition and
    a rollback hold everywhere as soon as they are answered.
    """

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        store: PostgresAgents,
        builtin: BuiltinAgents,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._ring = ring
        self._store = store
        self._builtin = builtin
        self._monotonic = monotonic
        self._versions: OrderedDict[tuple[str, str, int], tuple[float, AgentSpec]] = OrderedDict()

    async def choose(self, tenant_id: str, name: str, key: str) -> AgentSpec | None:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            found = await shares_of(connection, keys, name)
        if found is None:
            return None
        shares, description = found
        agent = await self.version(tenant_id, name, shares.pick(name, key))
        return agent and replace(agent, description=description)

    async def version(self, tenant_id: str, name: str, version: int) -> AgentSpec | None:
        key, now = (tenant_id, name, version), self._monotonic()
        kept = self._versions.get(key)
        if kept is not None and now < kept[0]:
            self._versions.move_to_end(key)
            return kept[1]
        try:
            stored = await self._store.stored(tenant_id, name, version)
        except VersionNotFound:
            self._versions.pop(key, None)
            return None
        definition = stored.definition
        agent = agent_of(name, version, definition, self._own_instructions(definition.type))
        self._versions[key] = (now + KEPT_SECONDS, agent)
        self._versions.move_to_end(key)
        while len(self._versions) > KEPT:
            self._versions.popitem(last=False)
        return agent

    def _own_instructions(self, kind: AgentType) -> str:
        of_type = [spec for spec in self._builtin.all() if spec.type is kind]
        return of_type[0].instructions if of_type else ""
