"""An MCP server of the SDK's own, as a program: `mcp_program TRANSPORT FOLDER [PORT]`.

What its tools did stands in the folder's `log`, a line each; `slow` ends when there is `gate`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations

READS = ToolAnnotations(read_only_hint=True)


def program(folder: Path) -> MCPServer[Any]:
    """Return the server."""
    server: MCPServer[Any] = MCPServer("workshop", log_level="ERROR")
    log = folder / "log"

    def note(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    @server.tool(annotations=READS)
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    async def slow(word: str) -> str:
        """Say a word back, once the gate is open."""
        note(f"begun {word}")
        try:
            while not (folder / "gate").exists():
                await anyio.sleep(0.02)
        except BaseException:
            note(f"cancelled {word}")
            raise
        note(f"done {word}")
        return word

    @server.tool()
    def die() -> str:
        """End this program amid the call."""
        note("dying")
        sys.stdout.flush()
        import os  # noqa: PLC0415 - of this tool alone

        os._exit(1)

    @server.tool(annotations=READS)
    def told(ctx: Context[Any]) -> dict[str, str]:
        """Return what the request carried besides its arguments."""
        meta = dict(ctx.request_context.meta or {})
        return {key: str(value) for key, value in meta.items() if "trace" in key}

    @server.tool(annotations=READS)
    def seen(ctx: Context[Any], header: str) -> str:
        """Return a header of the request."""
        request = ctx.request_context.request
        return str(request.headers.get(header, "")) if request is not None else ""

    @server.tool()
    def fail() -> str:
        """Fail."""
        raise ValueError("the workshop is closed")

    @server.tool()
    async def grow(ctx: Context[Any]) -> str:
        """Offer one tool more, and say so."""

        @server.tool()
        def grown() -> str:
            """Be the new one."""
            return "grown"

        await ctx.notify_tools_changed()
        return "ok"

    return server


if __name__ == "__main__":
    transport, folder = sys.argv[1], Path(sys.argv[2])
    made = program(folder)
    if transport == "stdio":
        made.run("stdio")
    elif transport == "sse":
        made.run("sse", port=int(sys.argv[3]))
    else:
        made.run("streamable-http", port=int(sys.argv[3]))
