"""Guards of tenants as they stand in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import msgspec

from meshwright_model_router.domain.guards.guard import (
    Action,
    Guard,
    GuardKind,
    HttpKind,
    PiiKind,
    RegexKind,
    Side,
    WordsKind,
)

_KINDS: Final[Mapping[str, type[GuardKind]]] = {
    "regex": RegexKind,
    "pii": PiiKind,
    "words": WordsKind,
    "http": HttpKind,
}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}


def definition_of(guard: Guard) -> Mapping[str, Any]:
    """Return all of a guard but its name, in plain JSON types."""
    return {
        "kind": _NAMES[type(guard.kind)],
        "looks_for": asdict(guard.kind),
        "action": guard.action.value,
        "sides": sorted(side.value for side in guard.sides),
        "replacement": guard.replacement,
        "models": guard.models,
        "disabled": guard.disabled,
    }


def text_of(guard: Guard) -> str:
    """Return all of a guard, the same for the same one on every replica."""
    return f"{guard.name}|{guard.operator_owned}|{guard!r}"


def guard_of(name: str, definition: Mapping[str, Any]) -> Guard:
    """Return the guard of a row. Raises: msgspec.ValidationError for what another version wrote."""
    kind: GuardKind = msgspec.convert(
        definition["looks_for"], _KINDS[definition["kind"]], strict=False
    )
    return Guard(
        name=name,
        kind=kind,
        action=Action(definition["action"]),
        sides=frozenset(map(Side, definition["sides"])),
        replacement=definition["replacement"],
        models=tuple(definition["models"]),
        disabled=definition["disabled"],
    )
