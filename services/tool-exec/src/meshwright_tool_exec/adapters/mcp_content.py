"""What a tool of an MCP server answered, as JSON that models and people can read."""

from __future__ import annotations

from typing import Final

import mcp_types as types

from meshwright_tool_exec.domain.errors import ToolFailed
from meshwright_tool_exec.domain.mcp_pinning import readable
from meshwright_tool_exec.domain.models import ToolOutput

MAX_FAILURE: Final = 4_000
"""Characters of a tool's own words about its failure."""


def output_of(result: types.CallToolResult) -> ToolOutput:
    """Return the structured answer, or one text, or the parts. Raises: ToolFailed.

    Pictures and sounds are named, not given: no model here reads them out of a tool's answer.
    """
    if result.is_error:
        texts = (part.text for part in result.content if isinstance(part, types.TextContent))
        raise ToolFailed(readable("\n".join(texts) or "the tool failed", MAX_FAILURE))
    if result.structured_content is not None:
        return ToolOutput(result.structured_content)
    if all(isinstance(part, types.TextContent) for part in result.content):
        return ToolOutput("\n".join(_text(part) for part in result.content))
    return ToolOutput({"content": [_part(part) for part in result.content]})


def _text(part: types.ContentBlock) -> str:
    return part.text if isinstance(part, types.TextContent) else ""


def _part(part: types.ContentBlock) -> dict[str, object]:
    match part:
        case types.TextContent(text=text):
            return {"type": "text", "text": text}
        case types.ImageContent() | types.AudioContent():
            return {"type": part.type, "mime_type": part.mime_type, "characters": len(part.data)}
        case types.ResourceLink():
            return {"type": "resource_link", "uri": str(part.uri), "name": part.name}
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return {"type": "resource", "uri": str(resource.uri), "text": resource.text}
        case types.EmbeddedResource(resource=resource):
            return {"type": "resource", "uri": str(resource.uri), "mime_type": resource.mime_type}
