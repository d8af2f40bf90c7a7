"""Rows of orchestrator.agents and its versions; what tenants wrote is sealed."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import orjson

from meshwright_common.encryption import SealedJson, TenantKeys
from meshwright_common.storage.postgres import Record
from meshwright_orchestrator.domain.agents import AgentType
from meshwright_orchestrator.domain.definitions import (
    AgentHead,
    AgentVersion,
    Definition,
    NewVersion,
    Shares,
)

HEADS: Final = "orchestrator.agents"
VERSIONS: Final = "orchestrator.agent_versions"
HEAD_COLUMNS: Final = "name, description, type, newest, shares, created_at, updated_at"
VERSION_COLUMNS: Final = (
    "v.name, v.version, v.definition, v.comment, v.created_by, v.created_at, a.shares"
)
_TUPLES: Final = (
    "tools",
    "approval_tools",
    "agents",
    "knowledge_base_ids",
    "fallback_models",
    "input_guards",
    "output_guards",
)


def head_from(row: Record, keys: TenantKeys) -> AgentHead:
    """Return the agent of a row that holds HEAD_COLUMNS. Raises: SealBroken."""
    name = row["name"]
    return AgentHead(
        name=name,
        description=SealedJson(keys, HEADS).open("description", name, row["description"]),
        type=AgentType(row["type"]),
        newest=row["newest"],
        shares=shares_from(row["shares"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def version_from(row: Record, keys: TenantKeys) -> AgentVersion:
    """Return the version of a row that holds VERSION_COLUMNS. Raises: SealBroken."""
    name, version = row["name"], row["version"]
    sealed, row_id = SealedJson(keys, VERSIONS), f"{name}/{version}"
    return AgentVersion(
        agent=name,
        version=version,
        definition=definition_from(sealed.open("definition", row_id, row["definition"])),
        share=shares_from(row["shares"]).of(version),
        comment=sealed.open("comment", row_id, row["comment"]),
        created_by=row["created_by"],
        created_at=row["created_at"],
    )


def sealed_description(keys: TenantKeys, new: NewVersion) -> bytes:
    """Return an agent's description for its column."""
    return SealedJson(keys, HEADS).seal("description", new.name, new.description)


def sealed_version(keys: TenantKeys, new: NewVersion, version: int) -> tuple[bytes, bytes]:
    """Return definition and comment for their columns."""
    sealed, row_id = SealedJson(keys, VERSIONS), f"{new.name}/{version}"
    return (
        sealed.seal("definition", row_id, definition_record(new.definition)),
        sealed.seal("comment", row_id, new.comment),
    )


def digest_of_definition(keys: TenantKeys, definition: Definition) -> bytes:
    """Return what is equal for equal definitions only."""
    return _digest(keys, definition_record(definition))


def digest_of_request(keys: TenantKeys, new: NewVersion) -> bytes:
    """Return what is equal for equal requests only."""
    record = definition_record(new.definition)
    return _digest(keys, [new.name, new.description, record, new.comment, new.share, new.expected])


def _digest(keys: TenantKeys, value: object) -> bytes:
    return keys.digest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def definition_record(definition: Definition) -> Mapping[str, object]:
    """Return a definition in plain JSON types."""
    return {**asdict(definition), "type": definition.type.value}


def definition_from(stored: Mapping[str, Any]) -> Definition:
    """Return a stored definition."""
    lists = {name: tuple(stored[name]) for name in _TUPLES}
    return Definition(**{**stored, **lists, "type": AgentType(stored["type"])})


def shares_record(shares: Shares) -> Mapping[str, int]:
    """Return the shares as they are stored."""
    return {str(version): share for version, share in shares.percent.items()}


def shares_from(stored: Mapping[str, int]) -> Shares:
    """Return stored shares."""
    return Shares({int(version): stored[version] for version in sorted(stored, key=int)})
