"""Tenants' guards: set, listed, removed, and tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshwright_common.errors import Aborted, FailedPrecondition, ResourceExhausted
from meshwright_model_router.domain.guards.checking import MAX_GUARDS, check_guard, check_name
from meshwright_model_router.domain.guards.guard import Guard, HttpKind, Side
from meshwright_model_router.domain.guards.guard_set import (
    GuardTables,
    Judges,
    ModelNamed,
    ready,
)
from meshwright_model_router.domain.guards.guard_store import GuardRecord, GuardStore
from meshwright_model_router.domain.guards.guarded_input import screen_text
from meshwright_model_router.domain.output import Finding


class Addresses(Protocol):
    """Where judges of tenants may be."""

    def check(self, tenant_id: str, base_url: str, credential_name: str) -> str:
        """Raise EgressRefused when the operator allows no such address."""
        ...


class OperatorTables(GuardTables, Protocol):
    """The guards in force, and which of them are the operator's."""

    @property
    def operator_guards(self) -> Sequence[Guard]:
        """The operator's guards."""
        ...


@dataclass(frozen=True, slots=True)
class Checked:
    """What guards did with a text; `text` is how it would go on."""

    blocked: bool
    text: str
    findings: tuple[Finding, ...]


class GuardAdministration:
    """The use cases behind GuardService."""

    def __init__(
        self,
        store: GuardStore,
        tables: OperatorTables,
        judges: Judges,
        *,
        named: ModelNamed,
    ) -> None:
        self._store = store
        self._tables = tables
        self._judges = judges
        self._named = named

    async def put(
        self, tenant_id: str, guard: Guard, etag: str, addresses: Addresses
    ) -> GuardRecord:
        """Create or replace a guard; `etag` "": whatever is there.

        Raises: InvalidArgument, EgressRefused, FailedPrecondition for an operator's name,
        Aborted for an old etag, ResourceExhausted.
        """
        check_guard(guard, "guard.")
        ready(guard, self._judges)
        if isinstance(guard.kind, HttpKind):
            addresses.check(tenant_id, guard.kind.url, "")
        self._refuse_operators(guard.name)

        def judge(records: Sequence[GuardRecord]) -> None:
            before = next((one for one in records if one.guard.name == guard.name), None)
            if etag and (before is None or before.etag != etag):
                raise Aborted("The guard was changed meanwhile: read it again.")
            if before is None and len(records) >= MAX_GUARDS:
                raise ResourceExhausted(
                    f"A tenant has {MAX_GUARDS} guards at most.", limit=str(MAX_GUARDS)
                )

        return await self._store.put(tenant_id, guard, judge)

    async def records(self, tenant_id: str) -> Sequence[Guard | GuardRecord]:
        """Return the tenant's guards and the operator's, by name."""
        operators = self._tables.operator_guards
        names = {one.name for one in operators}
        own = [one for one in await self._store.read(tenant_id) if one.guard.name not in names]
        return sorted([*operators, *own], key=name_of)

    async def delete(self, tenant_id: str, name: str) -> None:
        """Remove a guard; an absent one is removed already. Raises: FailedPrecondition."""
        check_name(name)
        self._refuse_operators(name)
        await self._store.delete(tenant_id, name)

    async def check(self, tenant_id: str, text: str, side: Side, model: str) -> Checked:
        """Say what the guards in force would do with a text. Raises: GuardUnavailable."""
        model = self._named(model)
        guards = self._tables.of(tenant_id).of(side, model)
        passed, blocked, findings = await screen_text(text, guards, side, model)
        if blocked and side is Side.INPUT:
            passed = ""
        return Checked(blocked, passed, findings)

    def _refuse_operators(self, name: str) -> None:
        if any(one.name == name for one in self._tables.operator_guards):
            raise FailedPrecondition(f"The guard {name} is the operator's.", guard=name)


def name_of(one: Guard | GuardRecord) -> str:
    """Return the name that lists are ordered by."""
    return one.guard.name if isinstance(one, GuardRecord) else one.name
