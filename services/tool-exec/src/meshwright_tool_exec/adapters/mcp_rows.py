"""Rows of MCP servers, to and from what the domain knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from meshwright_tool_exec.domain.mcp_servers import (
    BearerToken,
    Credential,
    CredentialKind,
    HeaderValue,
    McpServer,
    OauthClient,
    PinnedTool,
    ServerKey,
    State,
    Transport,
)
from meshwright_tool_exec.domain.models import Effect

COLUMNS: Final = (
    "tenant_id",
    "name",
    "description",
    "transport",
    "url",
    "generation",
    "credential_kind",
    "credential",
    "trusts_annotations",
    "approves_first",
    "state",
    "failure",
    "protocol_version",
    "tools",
    "create_time",
    "refresh_time",
)


def server_of(row: Mapping[str, Any]) -> McpServer:
    """Return the server of a row, or of a row as JSON. Raises: KeyError, ValueError, TypeError."""
    return McpServer(
        key=ServerKey(str(row["tenant_id"]), row["name"]),
        transport=Transport(row["transport"]),
        url=row["url"],
        generation=str(row["generation"]),
        description=row["description"],
        credential_kind=CredentialKind(row["credential_kind"]),
        sealed_credential=_bytes(row["credential"]),
        trusts_annotations=row["trusts_annotations"],
        approves_first=row["approves_first"],
        state=State(row["state"]),
        failure=row["failure"],
        protocol_version=row["protocol_version"],
        tools=tuple(
            PinnedTool(**{**tool, "effect": Effect(tool["effect"])}) for tool in row["tools"]
        ),
        create_time=_time(row["create_time"]),
        refresh_time=_time(row["refresh_time"]),
    )


def values_of(server: McpServer) -> Sequence[object]:
    """Return what a row of a server has, in the order of COLUMNS but the times."""
    return (
        server.key.tenant_id,
        server.key.name,
        server.description,
        server.transport.value,
        server.url,
        server.generation,
        server.credential_kind.value,
        server.sealed_credential,
        server.trusts_annotations,
        server.approves_first,
        server.state.value,
        server.failure,
        server.protocol_version,
        [asdict(tool) for tool in server.tools],
    )


def credential_json(credential: Credential) -> dict[str, object]:
    """Return a credential as plain JSON, to be sealed."""
    return asdict(credential)


def credential_of(kind: CredentialKind, value: Mapping[str, Any]) -> Credential:
    """Return the credential of its JSON. Raises: ValueError, TypeError."""
    match kind:
        case CredentialKind.BEARER:
            return BearerToken(**value)
        case CredentialKind.HEADER:
            return HeaderValue(**value)
        case CredentialKind.OAUTH_CLIENT:
            return OauthClient(**{**value, "scopes": tuple(value["scopes"])})
        case CredentialKind.NONE:
            raise ValueError("there is no credential of this kind")


def _bytes(value: object) -> bytes | None:
    # JSON has bytes as PostgreSQL writes them: \x and digits.
    return bytes.fromhex(value[2:]) if isinstance(value, str) else value  # type: ignore[return-value]


def _time(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value  # type: ignore[return-value]
