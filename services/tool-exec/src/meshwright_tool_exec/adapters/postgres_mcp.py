"""MCP servers of tenants in PostgreSQL, and how changes of them reach every replica."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

import orjson

from meshwright_common.context import principal
from meshwright_common.encryption import KeyRing, SealedJson, TenantKeys
from meshwright_common.events import audit
from meshwright_common.storage.announcements import Announcement, announce_after_commit
from meshwright_common.storage.change_feed import ChangeFeed, Feed
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_common.telemetry.logging import get_logger
from meshwright_tool_exec.adapters.mcp_rows import (
    COLUMNS,
    credential_json,
    credential_of,
    server_of,
    values_of,
)
from meshwright_tool_exec.domain.errors import (
    McpServerExists,
    McpServerNotFound,
    RequestIdReused,
    TooManyServers,
)
from meshwright_tool_exec.domain.mcp_catalogue import Catalogue
from meshwright_tool_exec.domain.mcp_ports import NewServer
from meshwright_tool_exec.domain.mcp_servers import Credential, McpServer, ServerKey, kind_of

CHANNEL: Final = "meshwright_tool_exec_mcp"
DOOR: Final = "tool_exec.mcp_servers_since"
TAKEN_AT_ONCE: Final = 20
"""Servers that a replica begins to keep at a time."""
_TABLE: Final = "tool_exec.mcp_servers"
_WRITTEN: Final = COLUMNS[:-2]

# Its row is locked first by every change, so that changes of a tenant take turns.
_TAKE_TURN: Final = """
INSERT INTO tool_exec.mcp_changes (tenant_id) VALUES ($1)
ON CONFLICT (tenant_id) DO UPDATE SET changed = pg_current_xact_id()
"""
_READ: Final = f"""
SELECT {", ".join(COLUMNS)}, request_digest FROM tool_exec.mcp_servers
 WHERE tenant_id = $1 AND name = $2
"""  # noqa: S608 - names of ours
_BY_REQUEST: Final = f"""
SELECT {", ".join(COLUMNS)}, request_digest FROM tool_exec.mcp_servers
 WHERE tenant_id = $1 AND request_key = $2
"""  # noqa: S608 - names of ours
_COUNT: Final = "SELECT count(*) FROM tool_exec.mcp_servers WHERE tenant_id = $1"
_PUT: Final = f"""
INSERT INTO tool_exec.mcp_servers AS s ({", ".join(_WRITTEN)}, request_key, request_digest)
VALUES ({", ".join(f"${n}" for n in range(1, len(_WRITTEN) + 3))})
ON CONFLICT (tenant_id, name) DO UPDATE
   SET {", ".join(f"{name} = excluded.{name}" for name in _WRITTEN[2:])},
       request_key = excluded.request_key, request_digest = excluded.request_digest,
       refresh_time = NULL
RETURNING {", ".join(f"s.{name}" for name in COLUMNS)}
"""  # noqa: S608 - names of ours
_NOTE: Final = f"""
UPDATE tool_exec.mcp_servers
   SET {", ".join(f"{name} = ${n}" for n, name in enumerate(_WRITTEN[2:], start=3))},
       refresh_time = ${len(_WRITTEN) + 1}
 WHERE tenant_id = $1 AND name = $2
"""  # noqa: S608 - names of ours
_DELETE: Final = "DELETE FROM tool_exec.mcp_servers WHERE tenant_id = $1 AND name = $2"
_KEEP: Final = "SELECT tenant_id, name FROM tool_exec.keep_mcp_servers($1, $2, $3)"
_LEAVE: Final = "SELECT tool_exec.leave_mcp_servers($1)"

_logger = get_logger(__name__)


class PostgresMcp:
    """Implements `ServerStore`."""

    def __init__(self, database: Database, ring: KeyRing, catalogue: Catalogue) -> None:
        self._database = database
        self._ring = ring
        self._catalogue = catalogue
        self.changes = ChangeFeed(database, CHANNEL, [Feed(DOOR, self._take)])
        """Keeps the catalogue at most 2 s behind the database, and mostly some milliseconds."""

    async def add(self, new: NewServer, *, most: int) -> McpServer:
        key = new.server.key
        keys = await self._ring.keys_of(key.tenant_id)
        request_key, digest = _request(keys, new)
        async with unit_of_work(self._database, key.tenant_id) as connection:
            await connection.execute(_TAKE_TURN, key.tenant_id)
            if request_key is not None:
                made = await connection.fetchrow(_BY_REQUEST, key.tenant_id, request_key)
                if made is not None:
                    if made["request_digest"] != digest:
                        raise RequestIdReused
                    return server_of(dict(made))
            row = await connection.fetchrow(_READ, key.tenant_id, key.name)
            before = None if row is None else server_of(dict(row))
            if before is not None and not new.replaces:
                raise McpServerExists(server=key.name)
            if before is None and await connection.fetchval(_COUNT, key.tenant_id) >= most:
                raise TooManyServers(limit=str(most))
            server = _with_credential(new, before, keys)
            [put] = await connection.fetch(_PUT, *values_of(server), request_key, digest)
            act = "mcp_server.added" if before is None else "mcp_server.replaced"
            await _report(connection, act, key.name)
            return server_of(dict(put))

    async def note(
        self, server: McpServer, change: Callable[[McpServer], McpServer], *, act: str = ""
    ) -> McpServer:
        key = server.key
        async with unit_of_work(self._database, key.tenant_id) as connection:
            await connection.execute(_TAKE_TURN, key.tenant_id)
            row = await connection.fetchrow(_READ, key.tenant_id, key.name)
            if row is None:
                raise McpServerNotFound(server=key.name)
            before = server_of(dict(row))
            if before.generation != server.generation:
                return before
            after = change(before)
            if after != before:
                await connection.execute(_NOTE, *values_of(after), after.refresh_time)
            if act:
                await _report(connection, act, key.name)
            else:
                _announce(connection)
            return after

    async def remove(self, key: ServerKey) -> None:
        async with unit_of_work(self._database, key.tenant_id) as connection:
            await connection.execute(_TAKE_TURN, key.tenant_id)
            if await connection.execute(_DELETE, key.tenant_id, key.name) != "DELETE 0":
                await _report(connection, "mcp_server.removed", key.name)

    async def keep(self, keeper: str, seconds: float) -> Collection[ServerKey]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(_KEEP, keeper, seconds, TAKEN_AT_ONCE)
        return {ServerKey(row["tenant_id"], row["name"]) for row in rows}

    async def leave(self, keeper: str) -> None:
        async with unscoped(self._database) as connection:
            await connection.execute(_LEAVE, keeper)

    async def refresh(self) -> None:
        await self.changes.refresh()

    async def credential(self, server: McpServer) -> Credential | None:
        """Return what a server is called with. Raises: SealBroken, Unavailable."""
        sealed = server.sealed_credential
        if sealed is None:
            return None
        keys = await self._ring.keys_of(server.key.tenant_id)
        value = SealedJson(keys, _TABLE).open("credential", server.key.name, sealed)
        return credential_of(server.credential_kind, value)

    def _take(self, rows: Sequence[Record], whole: bool) -> None:
        for row in rows:
            servers = []
            for one in row["servers"]:
                try:
                    servers.append(server_of(one))
                except (KeyError, TypeError, ValueError):
                    # Written by a newer version, say: it is not offered here.
                    _logger.exception("mcp_server_not_understood", tenant_id=row["tenant_id"])
            self._catalogue.put(row["tenant_id"], servers)
        if whole:
            for gone in set(self._catalogue.tenants()) - {row["tenant_id"] for row in rows}:
                self._catalogue.put(gone, ())


def _request(keys: TenantKeys, new: NewServer) -> tuple[bytes | None, bytes | None]:
    """Return the keyed digests of who asks by which id, and for what; None without an id."""
    if not new.request_id:
        return None, None
    server = new.server
    asked = {
        "name": server.key.name,
        "description": server.description,
        "transport": server.transport.value,
        "url": server.url,
        "trusts": server.trusts_annotations,
        "approves": server.approves_first,
        "replaces": new.replaces,
        "credential": None if new.credential is None else credential_json(new.credential),
    }
    who = f"{principal().subject}/{new.request_id}"
    return keys.digest(who.encode("utf-8", "surrogatepass")), keys.digest(orjson.dumps(asked))


def _with_credential(new: NewServer, before: McpServer | None, keys: TenantKeys) -> McpServer:
    server = new.server
    if new.credential is not None:
        value = credential_json(new.credential)
        sealed = SealedJson(keys, _TABLE).seal("credential", server.key.name, value)
        kind = kind_of(new.credential)
        return replace(server, credential_kind=kind, sealed_credential=sealed)
    if before is not None and _origin(before.url) == _origin(server.url):
        kind, sealed_before = before.credential_kind, before.sealed_credential
        return replace(server, credential_kind=kind, sealed_credential=sealed_before)
    return server


def _origin(url: str) -> str:
    return "/".join(url.lower().split("/", 3)[:3])


async def _report(connection: Connection, act: str, name: str) -> None:
    await audit.record(connection, source="tool-exec", action=act, resource=f"mcp_server/{name}")
    _announce(connection)


def _announce(connection: Connection) -> None:
    announce_after_commit(connection, Announcement(CHANNEL, ""))
