"""An MCP server with one tool, at http://127.0.0.1:8900/mcp; docs/mcp.md adds it."""

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

shop = MCPServer("shop")


@shop.tool(annotations=ToolAnnotations(read_only_hint=True))
def price(article: str, pieces: int) -> float:
    """What so many pieces of an article cost, in euro."""
    return {"tea": 4.5, "cup": 9.0}[article] * pieces


if __name__ == "__main__":
    shop.run("streamable-http", port=8900)
