"""The MCP servers that this process knows, and their tools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from meshwright_tool_exec.domain.errors import McpServerNotFound
from meshwright_tool_exec.domain.mcp_servers import McpServer, PinnedTool, ServerKey
from meshwright_tool_exec.domain.registry import Tool

OPERATOR: Final = ""
"""Whose servers are everybody's."""
MakeTool: TypeAlias = Callable[[McpServer, PinnedTool], Tool]
_NO_TOOLS: Final[Mapping[str, Tool]] = MappingProxyType({})


class Catalogue:
    """Servers by tenant and name. A tenant's server of the name of an operator's is passed over."""

    def __init__(self, make_tool: MakeTool) -> None:
        self._make_tool = make_tool
        self._servers: dict[str, dict[str, McpServer]] = {OPERATOR: {}}
        self._tools: dict[str, Mapping[str, Tool]] = {}
        self._changed = asyncio.Event()

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change, and never again: take it before you look."""
        return self._changed

    def all(self) -> Sequence[McpServer]:
        """Return every server there is."""
        return [server for servers in self._servers.values() for server in servers.values()]

    def get(self, key: ServerKey) -> McpServer | None:
        """Return a server, None when it is gone."""
        return self._servers.get(key.tenant_id, {}).get(key.name)

    def is_operators(self, name: str) -> bool:
        """Return whether the name belongs to the operator's configuration."""
        return name in self._servers[OPERATOR]

    def of(self, tenant_id: str, names: Collection[str] = ()) -> Sequence[McpServer]:
        """Return what a tenant may use, by name, the operator's included; only `names` if given."""
        servers = {**self._servers.get(tenant_id, {}), **self._servers[OPERATOR]}
        return [servers[name] for name in sorted(servers) if not names or name in names]

    def find(self, tenant_id: str, name: str) -> McpServer:
        """Return what a tenant means by a name. Raises: McpServerNotFound."""
        found = self._servers[OPERATOR].get(name) or self._servers.get(tenant_id, {}).get(name)
        if found is None:
            raise McpServerNotFound(server=name)
        return found

    def tools_of(self, tenant_id: str) -> Mapping[str, Tool]:
        """Return the approved tools of the tenant's own servers; of OPERATOR everybody's."""
        return self._tools.get(tenant_id, _NO_TOOLS)

    def tenants(self) -> Collection[str]:
        """Return the tenants that have servers."""
        return [tenant_id for tenant_id in self._servers if tenant_id != OPERATOR]

    def put(self, tenant_id: str, servers: Iterable[McpServer]) -> None:
        """Let these be all servers of a tenant, or of OPERATOR."""
        put = {server.key.name: server for server in servers}
        if put == self._servers.get(tenant_id, {}):
            return
        if put or tenant_id == OPERATOR:
            self._servers[tenant_id] = put
            known = self._tools.get(tenant_id, _NO_TOOLS)
            self._tools[tenant_id] = {
                tool.name: self._tool(server, tool, known.get(tool.name))
                for server in put.values()
                for tool in server.tools
                if tool.is_approved
            }
        else:
            self._servers.pop(tenant_id, None)
            self._tools.pop(tenant_id, None)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def put_operators(self, server: McpServer) -> None:
        """Note what is known of one of the operator's."""
        self.put(OPERATOR, [*({**self._servers[OPERATOR], server.key.name: server}).values()])

    def _tool(self, server: McpServer, pinned: PinnedTool, known: Tool | None) -> Tool:
        tool = self._make_tool(server, pinned)
        # The same spec stays the same object: what was made of it elsewhere stays good.
        if known is not None and known.spec == tool.spec:
            return Tool(known.spec, tool.run, tool.check)
        return tool
