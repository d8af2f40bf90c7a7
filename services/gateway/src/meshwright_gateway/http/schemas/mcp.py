"""Bodies of MCP servers and their tools."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import Input, JsonObject, Listing, Output

Transport = Literal["streamable_http", "sse"]
State = Literal["connecting", "ready", "unavailable", "unauthorized", "removed"]
CredentialKind = Literal["none", "bearer", "header", "oauth_client"]
Secret = Annotated[str, Field(min_length=1, max_length=4096)]
Digest = Annotated[str, Field(min_length=64, max_length=64)]


class HeaderInput(Input):
    """A header to send with each request."""

    name: str = Field(min_length=1, max_length=64)
    value: Secret


class OauthClientInput(Input):
    """A client of OAuth that fetches its tokens by its own credentials."""

    client_id: str = Field(min_length=1, max_length=512)
    client_secret: Secret
    token_url: str = Field(min_length=1, max_length=2048)
    scopes: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        default=[], max_length=32
    )


class CredentialInput(Input):
    """What the server is called with: exactly one of the three. Never shown again."""

    bearer_token: Secret | None = None
    header: HeaderInput | None = None
    oauth_client: OauthClientInput | None = None


class McpServerCreation(Input):
    """An MCP server to add."""

    name: str = Field(
        pattern=r"^[a-z0-9_-]{1,32}$", description="Its tools are called `<name>.<tool>`."
    )
    description: str = Field(default="", max_length=2000)
    transport: Transport = "streamable_http"
    url: str = Field(min_length=1, max_length=2048, description="https; no private address.")
    credential: CredentialInput | None = Field(
        default=None,
        description="Absent: none, or the stored one when a server is replaced at the same origin.",
    )
    approve_tools: bool = Field(
        default=False,
        description="Approve all tools of the first answer. Later ones wait in any case.",
    )
    trust_annotations: bool = Field(
        default=False,
        description="Believe which tools only read or are idempotent: those are called again "
        "after a crash.",
    )
    replace: bool = Field(default=False, description="Replace a server of this name.")


class McpServerRefresh(Input):
    """What to approve while a server is asked anew."""

    approve_definitions: list[Digest] = Field(
        default=[], max_length=200, description="`definition_sha256` of tools; all or none."
    )


class McpTool(Output):
    """A tool of an MCP server."""

    name: str = Field(description="As agents call it.")
    description: str
    input_schema: JsonObject
    effect: Literal["read_only", "idempotent", "non_idempotent", "unspecified"]
    definition_sha256: str
    approved: bool
    previous_definition_sha256: str = Field(
        description="The definition that was approved before. Empty: none was."
    )


class McpServer(Output):
    """An MCP server. Its credential is never shown."""

    name: str
    description: str
    transport: Literal["streamable_http", "sse", "stdio"]
    url: str
    operator_owned: bool = Field(description="From the operator's configuration, for all tenants.")
    credential_kind: CredentialKind
    trust_annotations: bool
    state: State
    failure_message: str
    protocol_version: str
    tool_count: int
    pending_tool_count: int = Field(description="Tools that wait for approval.")
    create_time: datetime | None
    refresh_time: datetime | None


class McpServerWithTools(McpServer):
    """An MCP server and what it offers."""

    tools: list[McpTool]


class McpServerList(Listing):
    """MCP servers by name, the operator's included."""

    servers: list[McpServer]
