"""The guards in force, of the operator and of all tenants, in memory and ready to be used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from meshwright_common.errors import ServiceError
from meshwright_common.storage.postgres import Record
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.adapters.guard_rows import guard_of, text_of
from meshwright_model_router.domain.errors import GuardUnavailable
from meshwright_model_router.domain.guards.guard import Action, Guard, PiiKind, Side
from meshwright_model_router.domain.guards.guard_set import (
    NO_GUARDS,
    GuardSet,
    JudgeGuard,
    Judges,
    ReadyGuard,
    ready,
)
from meshwright_model_router.domain.guards.judging import Verdict

DOOR: Final = "model_router.guards_since"
"""Where the change feed reads tenants' guards."""

logger = get_logger(__name__)


class GuardBook:
    """`GuardTables`. The operator's guards come first, in the configuration's order.

    A tenant's guard of the name of an operator's is passed over.
    """

    def __init__(self, judges: Judges) -> None:
        self._judges = judges
        self._operator: tuple[ReadyGuard, ...] = ()
        self._tenants: dict[str, tuple[ReadyGuard, ...]] = {}
        self._sets: dict[str, GuardSet] = {}
        self._of_others = NO_GUARDS

    def of(self, tenant_id: str) -> GuardSet:
        return self._sets.get(tenant_id, self._of_others)

    @property
    def operator_guards(self) -> Sequence[Guard]:
        """The operator's guards, in the configuration's order."""
        return [one.guard for one in self._operator]

    def prepare(self, guards: Sequence[Guard]) -> Callable[[], None]:
        """Return what puts the operator's guards into force. Raises: InvalidArgument."""
        made = tuple(ready(guard, self._judges) for guard in guards)

        def put_in_force() -> None:
            self._operator = made
            self._of_others = self._set(())
            for tenant_id in self._tenants:
                self._put(tenant_id)

        return put_in_force

    def take(self, rows: Sequence[Record], whole: bool) -> None:
        """Take what the change feed read: all guards of some tenants, or, `whole`, of all."""
        if whole:
            self._tenants.clear()
            self._sets.clear()
        for row in rows:
            tenant_id = str(row["tenant_id"])
            made = [self._ready(one["name"], one["definition"]) for one in row["guards"]]
            self._tenants[tenant_id] = tuple(sorted(made, key=lambda one: one.guard.name))
            self._put(tenant_id)

    def _put(self, tenant_id: str) -> None:
        own = self._tenants[tenant_id]
        if own:
            self._sets[tenant_id] = self._set(own)
        else:
            self._sets.pop(tenant_id, None)

    def _set(self, own: tuple[ReadyGuard, ...]) -> GuardSet:
        names = {one.guard.name for one in self._operator}
        guards = (*self._operator, *(one for one in own if one.guard.name not in names))
        if not guards:
            return NO_GUARDS
        digest = hashlib.sha256()
        for one in guards:
            digest.update(text_of(one.guard).encode("utf-8", "surrogatepass"))
        return GuardSet(guards, digest.hexdigest()[:32])

    def _ready(self, name: str, definition: dict[str, object]) -> ReadyGuard:
        try:
            return ready(guard_of(name, definition), self._judges)
        except (ServiceError, msgspec.ValidationError, KeyError, ValueError, TypeError) as error:
            # Another version wrote it: what cannot be checked may not pass.
            logger.warning("guard_not_ready", guard=name, cause=type(error).__name__)
            guard = Guard(name, PiiKind(()), Action.BLOCK)
            return JudgeGuard(guard, _NoJudge(name))


class _NoJudge:
    """Stands for a guard that this process does not understand."""

    window_characters = 1

    def __init__(self, guard: str) -> None:
        self._guard = guard

    async def judge(self, side: Side, model: str, text: str) -> Verdict:
        raise GuardUnavailable(guard=self._guard)
