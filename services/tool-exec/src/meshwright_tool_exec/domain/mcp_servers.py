"""What an MCP server is, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from meshwright_tool_exec.domain.models import Effect, JsonObject

MAX_TOOLS: Final = 200
"""Tools of one server; what a server offers beyond them is left out."""


class Transport(StrEnum):
    """How a server is spoken to."""

    STREAMABLE_HTTP = "streamable_http"
    SSE = "sse"
    STDIO = "stdio"


class State(StrEnum):
    """How a server does."""

    CONNECTING = "connecting"
    READY = "ready"
    UNAVAILABLE = "unavailable"
    UNAUTHORIZED = "unauthorized"
    REMOVED = "removed"


class CredentialKind(StrEnum):
    """What a server is called with."""

    NONE = "none"
    BEARER = "bearer"
    HEADER = "header"
    OAUTH_CLIENT = "oauth_client"


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A fixed token."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeaderValue:
    """A header of the tenant's choice."""

    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OauthClient:
    """A client that asks `token_url` for tokens by its own credentials (RFC 6749, 4.4)."""

    client_id: str
    client_secret: str = field(repr=False)
    token_url: str
    scopes: tuple[str, ...] = ()


Credential: TypeAlias = BearerToken | HeaderValue | OauthClient


def kind_of(credential: Credential | None) -> CredentialKind:
    """Return the kind of a credential, None's included."""
    match credential:
        case BearerToken():
            return CredentialKind.BEARER
        case HeaderValue():
            return CredentialKind.HEADER
        case OauthClient():
            return CredentialKind.OAUTH_CLIENT
        case None:
            return CredentialKind.NONE


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool as its server describes it. The two hints are claims of the server's."""

    name: str
    description: str
    input_schema: JsonObject
    is_read_only: bool = False
    is_idempotent: bool = False


@dataclass(frozen=True, slots=True)
class PinnedTool:
    """A tool with the definition under which it may be used.

    `name` is what agents call, `offered_name` what the server knows. `previous_sha256` is the
    definition that was approved before, "" when none was.
    """

    name: str
    offered_name: str
    description: str
    input_schema: JsonObject
    effect: Effect
    sha256: str
    is_approved: bool
    previous_sha256: str = ""


@dataclass(frozen=True, slots=True)
class ServerKey:
    """Whose server. `tenant_id` is "" for the operator's, which are everybody's."""

    tenant_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Program:
    """What the operator lets run for a server of stdio."""

    command: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server as it is known now.

    `generation` is another one after each change of address, credential or trust: connections of
    an older one take no new calls. `sealed_credential` opens for its owner's keys alone.
    """

    key: ServerKey
    transport: Transport
    url: str
    generation: str
    description: str = ""
    credential_kind: CredentialKind = CredentialKind.NONE
    sealed_credential: bytes | None = field(default=None, repr=False)
    trusts_annotations: bool = False
    approves_first: bool = False
    """Whether all tools of the first answer are approved: nobody was asked yet."""
    state: State = State.CONNECTING
    failure: str = ""
    protocol_version: str = ""
    tools: tuple[PinnedTool, ...] = ()
    create_time: datetime | None = None
    refresh_time: datetime | None = None

    @property
    def is_operators(self) -> bool:
        """Whether it comes from the operator's configuration."""
        return not self.key.tenant_id


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server answered when it was asked what it offers."""

    protocol_version: str
    tools: tuple[OfferedTool, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a server could not be asked."""

    message: str
    is_unauthorized: bool = False
