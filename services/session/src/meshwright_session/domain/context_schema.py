"""Schemas of stored contexts: old ones are upgraded when read, newer ones are never touched.

Every stored context names the schema it was written in. A reader of this version brings an older
one up step by step, in memory; it is stored in the new schema when its next version is written,
and what that replaces is kept as it was, like any version. A context of a schema that this code
does not know was written by a newer version of the service: it is refused, so that rolling back a
deployment destroys nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from meshwright_session.domain.errors import ContextSchemaUnknown
from meshwright_session.domain.models import JsonObject

Upgrade: TypeAlias = Callable[[JsonObject], JsonObject]
"""Makes data of the next schema from data of one; pure, and fit for whatever was stored."""


@dataclass(frozen=True, slots=True)
class ContextSchema:
    """The schema that is written, and how one gets there from each older one."""

    current: int = 1
    upgrades: Mapping[int, Upgrade] = field(default_factory=dict)
    """By the schema they start from: one for each from 1 to `current` - 1."""

    def __post_init__(self) -> None:
        if set(self.upgrades) != set(range(1, self.current)):
            raise ValueError(f"schema {self.current} needs an upgrade from each one before it")

    def read(self, data: JsonObject, schema_version: int) -> JsonObject:
        """Return data in the current schema. Raises: ContextSchemaUnknown."""
        self.check(schema_version)
        for version in range(schema_version, self.current):
            data = self.upgrades[version](data)
        return data

    def check(self, schema_version: int) -> None:
        """Do nothing for a schema that can be read. Raises: ContextSchemaUnknown."""
        if schema_version > self.current:
            raise ContextSchemaUnknown(schema=str(schema_version), known=str(self.current))


SCHEMA: Final = ContextSchema()
"""Schema 1: a JSON object with whatever agents and callers put into it."""
