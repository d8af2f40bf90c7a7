"""Settings of MCP servers: `MESHWRIGHT_TOOL_EXEC__MCP__…`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from meshwright_common.settings import Section
from meshwright_tool_exec.domain.mcp_servers import Program, Transport


class OperatorServer(Section):
    """A server of the operator's, for all tenants. Its tools are approved, its hints believed.

    `stdio` runs `command` with `arguments` and `environment`, beside HOME, PATH, USER and the like;
    the others need `url`. Private addresses need `egress.allowed_hosts`.
    """

    name: str = Field(pattern=r"^[a-z0-9_-]{1,32}$")
    description: str = Field(default="", max_length=2000)
    transport: Transport = Transport.STREAMABLE_HTTP
    url: str = Field(default="", max_length=2048)
    bearer_token: SecretStr = SecretStr("")
    command: str = ""
    arguments: tuple[str, ...] = ()
    environment: dict[str, SecretStr] = Field(default_factory=dict)
    trust_annotations: bool = True

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        is_program = self.transport is Transport.STDIO
        if is_program != bool(self.command) or is_program == bool(self.url):
            raise ValueError("stdio needs command, and the other transports url, and nothing else")
        return self

    def program(self) -> Program:
        """Return what to run."""
        environment = tuple((k, v.get_secret_value()) for k, v in self.environment.items())
        return Program(self.command, self.arguments, environment)


class McpSection(Section):
    """MCP servers."""

    servers: tuple[OperatorServer, ...] = ()
    """Those of the operator's. None: no program is ever run."""

    servers_per_tenant: int = Field(default=20, ge=0, le=1000)
    """How many servers a tenant may add. 0: none."""

    call_timeout_seconds: float = Field(default=60, gt=0, le=600)
    """After this a call is ended, and the server told so."""

    probe_seconds: float = Field(default=15, ge=0.5, le=300)
    """How often servers are asked what they offer, to see that they live."""

    @field_validator("servers")
    @classmethod
    def _are_named_apart(cls, servers: tuple[OperatorServer, ...]) -> tuple[OperatorServer, ...]:
        names = [server.name for server in servers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two servers are named {twice[0]}")
        return servers
