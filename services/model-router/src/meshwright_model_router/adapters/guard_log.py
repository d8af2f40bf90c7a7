"""What guards did: metrics, and an audit record of what was blocked, written behind the call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshwright_common.context import CallContext, bind, current
from meshwright_common.errors import ServiceError
from meshwright_common.events import audit
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.adapters.answer_metrics import GUARD_FINDINGS
from meshwright_model_router.adapters.postgres_guards import SOURCE
from meshwright_model_router.domain.guards.guard import Action
from meshwright_model_router.domain.guards.guard_set import GuardSet
from meshwright_model_router.domain.output import Finding

MOST_WAITING: Final = 10_000
"""Blocks that wait for PostgreSQL; the oldest make room, and the log says so."""
RETRY_SECONDS: Final = 1.0
OF_TENANTS: Final = "tenant"
"""The label of all guards of tenants."""

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Blocked:
    context: CallContext
    finding: Finding


class AuditedGuardLog:
    """`GuardLog`; `run` writes the records."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Blocked] = deque()
        self._woken = asyncio.Event()
        self._stopping = False

    def told(self, guards: GuardSet, findings: Sequence[Finding]) -> None:
        if not findings:
            return
        owners = guards.owners()
        for one in findings:
            guard = one.guard if owners.get(one.guard) else OF_TENANTS
            GUARD_FINDINGS.labels(guard, one.side, one.action).inc(one.count)
            if one.action == Action.BLOCK:
                self._waiting.append(_Blocked(current(), one))
                self._woken.set()
        if len(self._waiting) > MOST_WAITING:
            logger.warning("guard_block_not_audited", waiting=len(self._waiting))
            self._waiting.popleft()

    async def run(self) -> None:
        """Write records until `stop` was called and all are written."""
        while not self._stopping or self._waiting:
            if not self._waiting:
                self._woken.clear()
                await self._woken.wait()
                continue
            blocked = self._waiting[0]
            try:
                await self._write(blocked)
            except ServiceError as error:
                logger.warning("guard_audit_waits", reason=error.reason)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if self._waiting and self._waiting[0] is blocked:
                self._waiting.popleft()

    def stop(self) -> None:
        """Let `run` end once nothing waits."""
        self._stopping = True
        self._woken.set()

    async def _write(self, blocked: _Blocked) -> None:
        caller, finding = blocked.context.principal, blocked.finding
        if caller is None:
            return
        with bind(blocked.context):
            async with unit_of_work(self._database, caller.tenant_id) as connection:
                await audit.record(
                    connection,
                    source=SOURCE,
                    action="guard.blocked",
                    resource=f"guard/{finding.guard}",
                    outcome="denied",
                    details={"side": finding.side, "category": finding.category},
                )
