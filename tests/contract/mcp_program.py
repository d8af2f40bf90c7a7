"""An MCP server of the SDK's own, as a program: `mcp_program TRANSPORT FOLDER [PORT]`.

What its tools did stands in the folder's `log`, a line each; `slow` ends when there is `gate`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations

READS = ToolAnnotations(read_only_hint=True)
LOOK_EVERY_SECONDS = 0.02


class Workshop:
    """Tools that do something: in the log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    async def slow(self, word: str) -> str:
        """Say a word back, once the gate is open."""
        self._note(f"begun {word}")
        try:
            while not (self._folder / "gate").exists():  # noqa: ASYNC110 - another process opens it
                await anyio.sleep(LOOK_EVERY_SECONDS)
        except BaseException:
            self._note(f"cancelled {word}")
            raise
        self._note(f"done {word}")
        return word

    def die(self) -> str:
        """End this program amid the call."""
        self._note("dying")
        os._exit(1)

    def fail(self) -> str:
        """Fail."""
        raise ValueError("the workshop is closed")

    def _note(self, line: str) -> None:
        with (self._folder / "log").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def told(ctx: Context[Any]) -> dict[str, str]:
    """Return what the request carried besides its arguments."""
    meta = dict(ctx.request_context.meta or {})
    return {key: str(value) for key, value in meta.items() if "trace" in key}


def seen(ctx: Context[Any], header: str) -> str:
    """Return a header of the request."""
    return (ctx.headers or {}).get(header, "")


def grown() -> str:
    """Be the new one."""
    return "grown"


def program(folder: Path) -> MCPServer[Any]:
    """Return the server."""
    server: MCPServer[Any] = MCPServer("workshop", log_level="ERROR")
    workshop = Workshop(folder)

    async def grow(ctx: Context[Any]) -> str:
        """Offer one tool more, and say so."""
        server.add_tool(grown)
        await ctx.notify_tools_changed()
        return "ok"

    for reading in (workshop.add, told, seen):
        server.add_tool(reading, annotations=READS)
    for doing in (workshop.slow, workshop.die, workshop.fail, grow):
        server.add_tool(doing)
    return server


if __name__ == "__main__":
    transport, made = sys.argv[1], program(Path(sys.argv[2]))
    if transport == "stdio":
        made.run("stdio")
    elif transport == "sse":
        made.run("sse", port=int(sys.argv[3]))
    else:
        made.run("streamable-http", port=int(sys.argv[3]))
