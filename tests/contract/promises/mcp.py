"""Promises: MCP servers whose tools agents use."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

MCP: dict[str, Promise] = {
    "MCP-01": Promise(
        "Tools of a server that was added are listed, called and used by agents at once, without a "
        "restart; those of a removed one are gone.",
        "features.md T1, T2; mcp_service.proto",
    ),
    "MCP-02": Promise(
        "A call that runs ends as it began, whatever becomes of its server: refreshed, replaced, "
        "removed. A call that is cancelled is cancelled at the server.",
        "features.md T2; mcp_service.proto",
    ),
    "MCP-03": Promise(
        "A server that dies is seen: its tools stay listed, calls say MCP_SERVER_UNAVAILABLE. One "
        "that is back is used again by itself.",
        "features.md T2; mcp_server.proto",
    ),
    "MCP-04": Promise(
        "Servers, their tools and their states are their tenant's alone.",
        "features.md T2, S8",
    ),
    "MCP-05": Promise(
        "Private addresses, programs, and requests that are wrong are refused, naming what is "
        "wrong; nothing was sent anywhere.",
        "features.md T6; mcp_server.proto",
    ),
    "MCP-06": Promise(
        "The trace of a call stands in the request's _meta for servers whose host a setting names, "
        "and nowhere for others.",
        "issue 7, build 4; docs/telemetry.md",
    ),
    "MCP-07": Promise(
        "A call that was interrupted is not guessed: its outcome is unknown, unless the tenant "
        "trusts the server's word that the tool only reads or is idempotent.",
        "features.md T7; tool.proto",
    ),
    "MCP-08": Promise(
        "A definition that changed, or came later, is not used before it was approved.",
        "mcp_server.proto",
    ),
    "MCP-09": Promise(
        "What one replica adds, refreshes and removes is in force at the others without a restart, "
        "and one of them watches over each server; when it dies, another does.",
        "features.md T2; pains.md 26",
    ),
    "MCP-10": Promise(
        "A credential is sent to its server alone, stored sealed, and stands in no answer and no "
        "log.",
        "features.md T2, T5; mcp_server.proto",
    ),
    "MCP-11": Promise(
        "Servers are spoken to over streamable HTTP, SSE and, when the operator names the program, "
        "stdio.",
        "features.md T1, T2",
    ),
}
